# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""The names of the system that distworker follows, so that programs for it run after one changed import.

Worker(eager_init=True) has the present-day manners: init() starts the children, register() is possible after it (for
functions that children can import), and add_worker() gives the id for submit_next_level(worker=).

One difference: an exception in a child is raised by run(). Callables are called with TaskArgs, orchestration
functions as ``fn(orch, args, config)``.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
import threading
import weakref
from collections.abc import Callable as Function
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from . import Args, Callable, ChildStart, Chip, Config, Error, Tensor, _import, _import_name, at_child_start
from . import Orchestrator as CoreOrchestrator
from . import Worker as CoreWorker
from ._core import INOUT, INPUT, NO_DEP, OUTPUT, OUTPUT_EXISTING

__all__ = [
    "INOUT", "INPUT", "NO_DEP", "OUTPUT", "OUTPUT_EXISTING", "CallConfig", "ChipCallConfig", "DistWorker", "Error",
    "Orchestrator", "SubmitResult", "TaskArgs", "Tensor", "Worker", "read_args_from_blob",
]


@dataclass
class ChipCallConfig:
    """Carried with a task to every level."""

    block_dim: int = 24
    aicpu_thread_num: int = 3
    enable_profiling: bool = False
    enable_dump_tensor: bool = False


CallConfig = ChipCallConfig


def _to_core(config: ChipCallConfig | None) -> Config:
    given = config if config is not None else ChipCallConfig()
    return Config(given.block_dim, given.aicpu_thread_num, given.enable_profiling, given.enable_dump_tensor)


def _from_core(config: Config) -> ChipCallConfig:
    return ChipCallConfig(config.block_dim, config.aicpu_thread_num, config.profiling, config.dump_tensor)


class TaskArgs:
    """The arguments of one task: tensors with tags, and then scalars."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._tags: list[int] = []
        self._scalars: list[int] = []

    def add_tensor(self, tensor: Any, tag: int = INPUT) -> None:
        """Before the first scalar only."""
        if self._scalars:
            raise RuntimeError("add_tensor: tensors come before scalars")
        self._tensors.append(tensor)
        self._tags.append(tag)

    def add_scalar(self, value: int) -> None:
        """64 bits."""
        if not -(1 << 63) <= value < 1 << 64:
            raise OverflowError(f"{value}: a scalar has 64 bits")
        self._scalars.append(value & (1 << 64) - 1)

    def tensor(self, index: int) -> Any:
        return self._tensors[index]

    def scalar(self, index: int) -> int:
        return self._scalars[index]

    def tag(self, index: int) -> int:
        return self._tags[index]

    def set_tag(self, index: int, tag: int) -> None:
        self._tags[index] = tag

    def tensor_count(self) -> int:
        return len(self._tensors)

    def scalar_count(self) -> int:
        return len(self._scalars)

    def clear(self) -> None:
        self._tensors.clear()
        self._tags.clear()
        self._scalars.clear()

    def __len__(self) -> int:
        return len(self._tensors) + len(self._scalars)

    def _core(self) -> Args:
        args = Args(*self._scalars)
        for tensor, tag in zip(self._tensors, self._tags):
            args.add_tensor(tensor, tag)
        return args


def _task_args(args: Args) -> TaskArgs:
    made = TaskArgs()
    for tensor in args.tensors:
        made.add_tensor(tensor)
    for i in range(args.scalar_count):
        made.add_scalar(args.scalar(i))
    return made


def read_args_from_blob(address: int) -> TaskArgs:
    """The arguments of a wire blob: [int32 T][int32 S][T × tensor, 40 bytes][S × uint64].

    The memory at the address, and what the tensors' addresses refer to, is the caller's. Error with EBADMSG: a count is
    negative; EINVAL: a tensor that makes no sense.
    """
    tensors, scalars = struct.unpack("=ii", ctypes.string_at(address, 8))
    return _task_args(Args.from_blob(ctypes.string_at(address, 8 + 40 * max(tensors, 0) + 8 * max(scalars, 0))))


@dataclass(frozen=True)
class SubmitResult:
    """A task that was submitted."""

    task_slot: int


class Orchestrator:
    """Submits the tasks of one run of a Worker."""

    def __init__(self, orch: CoreOrchestrator, worker: Worker) -> None:
        self._orch = orch
        self._worker = worker

    def submit_sub(self, id: int, args: TaskArgs | None = None) -> SubmitResult:
        """A function of this Worker's registry, in one of its sub workers."""
        return self._submit(self._worker._callable(id, "sub"), args)

    def submit_next_level(self, id: int, args: TaskArgs | None = None, config: ChipCallConfig | None = None, *,
                          worker: int | None = None) -> SubmitResult:
        """A function of this Worker's registry, in a child Worker, with the child's own Orchestrator."""
        return self._submit(self._worker._callable(id, "orch"), args, config=_to_core(config), worker=worker)

    def submit_sub_group(self, id: int, args: Sequence[TaskArgs]) -> SubmitResult:
        """As many sub workers at the same time as there are arguments."""
        return self._submit_group(self._worker._callable(id, "sub"), args)

    def submit_next_level_group(self, id: int, args: Sequence[TaskArgs], config: ChipCallConfig | None = None, *,
                                workers: Sequence[int] | None = None) -> SubmitResult:
        """As many child Workers at the same time as there are arguments."""
        return self._submit_group(self._worker._callable(id, "orch"), args, config=_to_core(config), workers=workers)

    def _submit(self, callable: Callable, args: TaskArgs | None, **options: Any) -> SubmitResult:
        task = self._orch.submit(callable, (args or TaskArgs())._core(), **options)
        return SubmitResult(task.id)

    def _submit_group(self, callable: Callable, args: Sequence[TaskArgs], **options: Any) -> SubmitResult:
        return SubmitResult(self._orch.submit_group(callable, [one._core() for one in args], **options).id)

    def alloc(self, shape: Sequence[int], dtype: Any) -> Tensor:
        """An intermediate tensor, until its scope has ended and its last user is done."""
        return self._orch.alloc(shape, dtype)

    @contextmanager
    def scope(self) -> Iterator[Orchestrator]:
        self.scope_begin()
        try:
            yield self
        finally:
            self.scope_end()

    def scope_begin(self) -> None:
        self._orch.scope_begin()

    def scope_end(self) -> None:
        self._orch.scope_end()


class _Registered:
    """One function, as a sub and as an orchestration."""

    def __init__(self, fn: Function[..., Any]) -> None:
        self.fn = fn
        self.sub: Callable | None = None
        self.orch: Callable | None = None


class Worker:
    """One node of the hierarchy: Worker(level, num_sub_workers=0, device_ids=(), heap_ring_size=1 GiB).

    Further keys: `driver` of the chips that device_ids names ("sim"), `eager_init`.
    """

    def __init__(self, level: int, **config: Any) -> None:
        unknown = set(config) - {"num_sub_workers", "device_ids", "heap_ring_size", "driver", "eager_init", "mode"}
        if unknown:
            raise TypeError(f"Worker has no key {', '.join(sorted(unknown))}")
        self.level = level
        self._config = config
        self._eager = bool(config.get("eager_init", False))
        self._registry: list[_Registered] = []
        self._children: list[Worker] = []
        self._initialized = False
        self._core: CoreWorker | None = None
        self._parent: Worker | None = None
        self._engine: DistWorker | None = None  # that this Worker stands for in its tree

    def register(self, fn: Function[..., Any]) -> int:
        """The id of a function: 0, 1, …"""
        if self.level < 3:
            raise RuntimeError(f"register: a Worker of level {self.level} runs no functions: level >= 3")
        if self._initialized and not self._eager:
            raise RuntimeError("register: functions are registered before init()")
        registered = _Registered(fn)
        if self._core is not None:
            if self._parent is not None:
                raise RuntimeError("register: after init() functions are registered on the root")
            name = _import_name(fn)
            registered.sub = _late(0, "_late_subs", len(self._registry), name)
            registered.orch = _late(1, "_late_orchs", len(self._registry), name)
        self._registry.append(registered)
        return len(self._registry) - 1

    def add_worker(self, worker: Worker | DistWorker) -> int | None:
        """`worker` becomes a child of this one. Tasks for a DistWorker go to its run callback."""
        if self.level < 4:
            raise RuntimeError(f"add_worker: this Worker has level {self.level}: level >= 4 is needed")
        if self._initialized:
            raise RuntimeError("add_worker: children are added before init()")
        if isinstance(worker, DistWorker):
            worker = worker._join()
        if worker._initialized:
            raise RuntimeError("add_worker: the child must not be initialized")
        self._children.append(worker)
        worker._parent = self
        return len(self._children) - 1 if self._eager else None

    def init(self) -> None:
        """The children start with the first run(), or here with eager_init=True."""
        if self._initialized:
            raise RuntimeError("init: the Worker is initialized already")
        self._initialized = True
        if self._eager:
            self._start()

    def run(self, fn: Function[..., Any], args: TaskArgs | None = None, config: ChipCallConfig | None = None) -> None:
        """Calls ``fn(orch, args, config)``, and returns when all its tasks are final."""
        if not self._initialized:
            raise RuntimeError("run: the Worker is not initialized: call init()")
        given = config if config is not None else ChipCallConfig()
        core = self._start()

        def orchestrate(orch: CoreOrchestrator) -> None:
            fn(Orchestrator(orch, self), args, given)

        core.run(orchestrate, config=_to_core(given))

    def close(self) -> None:
        """Ends the children; nothing if the Worker was not initialized."""
        if self._core is not None and self._parent is None:
            self._core.close()
        self._core = None
        self._initialized = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _callable(self, id: int, kind: str) -> Callable:
        if not 0 <= id < len(self._registry):
            raise RuntimeError(f"there is no function {id}: {len(self._registry)} are registered")
        found: Callable = getattr(self._registry[id], kind)
        return found

    def _start(self) -> CoreWorker:
        if self._core is None:
            # Names of roots are unique, for the functions that come later.
            name = f"root{next(_numbers)}"
            core = self._build(name)
            _roots[name] = self
            core.init()
            return core
        return self._core

    def _build(self, name: str | None = None) -> CoreWorker:
        """The tree below here, and every function twice: its use decides how it is called."""
        options: dict[str, Any] = {key: self._config[key] for key in ("mode",) if key in self._config}
        core = CoreWorker(self.level, name=name, subs=self._config.get("num_sub_workers", 0),
                          chips=[Chip(self._config.get("driver", "sim"), device)
                                 for device in self._config.get("device_ids", ())],
                          heap_ring_bytes=self._config.get("heap_ring_size", 0), **options)
        for number, child in enumerate(self._children):
            core.add_child(child._build(f"{_LEVELS.get(child.level, 'worker')}{number}"))
        for number, registered in enumerate(self._registry):
            # Callables are known in the whole subtree, so names are of this Worker alone.
            name = f"{getattr(registered.fn, '__qualname__', 'function')}@{id(self):x}.{number}"
            registered.sub = core.sub(_sub_entry(registered.fn), name=name)
            registered.orch = core.orch(_orch_entry(self, number, registered.fn), name=f"{name}()")
        self._core = core
        return core

    def _child_at(self, path: str) -> Worker:
        """The Worker that a process at this path is."""
        worker = self
        for part in path.split("/")[1:]:
            worker = worker._children[int(part.lstrip("abcdefghijklmnopqrstuvwxyz"))]
        return worker


_LEVELS = {3: "node", 4: "pod", 5: "supernode"}
_where: dict[int, str] = {}  # by thread: the path of the child that it serves
_numbers = itertools.count()
_roots: weakref.WeakValueDictionary[str, Worker] = weakref.WeakValueDictionary()


@at_child_start
def _remember(start: ChildStart) -> None:
    _where[threading.get_ident()] = start.path


def _current(parent: Worker) -> Worker:
    """The Worker whose Orchestrator this thread has, in the tree of `parent`."""
    while parent._parent is not None:
        parent = parent._parent
    return parent._child_at(_where[threading.get_ident()])


def _sub_entry(fn: Function[..., Any]) -> Function[[Args], object]:
    def entry(args: Args) -> object:
        return fn(_task_args(args))

    return entry


def _orch_entry(parent: Worker | None, id: int, fn: Function[..., Any]) -> \
        Function[[CoreOrchestrator, Args], object]:
    def entry(orch: CoreOrchestrator, args: Args) -> object:
        root = parent if parent is not None else _roots[_where[threading.get_ident()].partition("/")[0]]
        worker = _current(root)
        if worker._engine is not None:
            return worker._engine._called(id, args, _from_core(orch.config))
        return fn(Orchestrator(orch, worker), _task_args(args), _from_core(orch.config))

    return entry


# Functions that are registered after init(): children import an entry whose name has the function's number and name.


class _Late:
    def __init__(self, wrap: Function[[int, Function[..., Any]], Function[..., object]]) -> None:
        self._wrap = wrap

    def __getattr__(self, name: str) -> Function[..., object]:
        number, mark, path = name.partition("_")
        if not number.startswith("x") or not mark:
            raise AttributeError(name)
        return self._wrap(int(number[1:]), _import(bytes.fromhex(path).decode()))


_late_subs = _Late(lambda number, fn: _sub_entry(fn))
_late_orchs = _Late(lambda number, fn: _orch_entry(None, number, fn))


def _late(kind: int, holder: str, number: int, name: str) -> Callable:
    return Callable._by_import(kind, f"{__name__}:{holder}.x{number}_{name.encode().hex()}", name.partition(":")[2])


class DistWorker:
    """The engine of one Worker, without children: DistWorker(level, heap_ring_size=1 GiB)."""

    def __init__(self, level: int, heap_ring_size: int = 1 << 30) -> None:
        self.level = level
        self._heap_ring_size = heap_ring_size
        self._callback: Function[[int, int, ChipCallConfig], object] | None = None
        self._core: CoreWorker | None = CoreWorker(level, heap_ring_bytes=heap_ring_size)
        self._core.init()

    def set_run_callback(self, fn: Function[[int, int, ChipCallConfig], object] | None) -> None:
        """Calls ``fn(id, address, config)`` for each task that a Worker above hands to this one (add_worker).

        `id`: of the function in the registry of that Worker; `address`: of the arguments as a wire blob, for
        read_args_from_blob(), valid during the call. The call is made with the GIL held, by the thread that stands for
        this DistWorker: with mode="thread" of the Worker above a thread of this process, else its child process.
        An exception is the task's error.
        """
        self._callback = fn

    def close(self) -> None:
        """Takes it down; more than once is fine."""
        if self._core is not None:
            self._core.close()
            self._core = None

    def _join(self) -> Worker:
        """The Worker that stands for it in a tree."""
        if self._core is None:
            raise RuntimeError("add_worker: this DistWorker is closed, or has a parent")
        self.close()
        worker = Worker(self.level, heap_ring_size=self._heap_ring_size)
        worker._engine = self
        return worker

    def _called(self, id: int, args: Args, config: ChipCallConfig) -> object:
        if self._callback is None:
            raise RuntimeError(f"a task of function {id}: this DistWorker has no run callback: set_run_callback()")
        blob = args.to_blob()
        memory = ctypes.create_string_buffer(blob, len(blob))
        return self._callback(id, ctypes.addressof(memory), config)
