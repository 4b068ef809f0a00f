# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""A hierarchy of Workers that hands tasks to child processes through shared memory.

    import distworker
    from distworker import inout

    with distworker.Worker(3, subs=2) as node:
        cell = node.empty((), "int64")
        view = memoryview(cell)

        @node.sub
        def add(args):
            memoryview(args.tensor(0))[()] += args.int(0)

        def orchestrate(orch):
            for i in range(1, 1001):
                orch.submit(add, inout(cell), i)

        node.run(orchestrate)
        print(view[()])

Functions that are registered before the children start may be lambdas and closures: children are
forked and have them. The first run starts the children, or init() does.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable as Function
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeVar, overload

if "t" in sys.abiflags:
    # CPython has no limited API for those, and objects are guarded by the GIL.
    raise ImportError("distworker needs a Python with a global interpreter lock: this is a free-threaded build")

from . import _core, _errors
from ._core import (INOUT, INPUT, NO_DEP, OUTPUT, OUTPUT_EXISTING, Args, Callable, Tagged, Task, Tensor, existing,
                    inout, inp, new, no_dep, out, task_cancelled, version)
from ._errors import Error

__all__ = [
    "INOUT", "INPUT", "NO_DEP", "OUTPUT", "OUTPUT_EXISTING", "Args", "Callable", "ChildStart", "ChildStats",
    "Chip", "Config", "EngineStats", "Error", "Orchestrator", "Provider", "Run", "Tagged", "Task", "Tensor", "Tree",
    "TreeChild", "TreeInfo", "TreeWorker", "Worker", "at_child_start", "existing", "function", "inout", "inp", "log_off", "log_to", "new", "no_dep", "out",
    "provider", "task_cancelled", "version",
]

Value = TypeVar("Value")
Kind = Literal["sub", "orch"]
_KINDS: dict[str, int] = {"sub": 0, "orch": 1}


@dataclass(frozen=True)
class Config:
    """Carried with a task to every level. ``block_dim`` 0 is 1, ``aicpu_thread_num`` 0 is 3."""

    block_dim: int = 0
    aicpu_thread_num: int = 0
    profiling: bool = False
    dump_tensor: bool = False

    @property
    def flags(self) -> int:
        return int(self.profiling) | int(self.dump_tensor) << 1


class Chip(NamedTuple):
    """A chip of a Worker: the driver's name or path, the device's id, "key=value,…" or None."""

    driver: str
    device: int = 0
    options: str | None = None


class ChildStart(NamedTuple):
    """The child that a function of at_child_start() runs in."""

    path: str
    kind: str  # "sub", "chip", "worker"
    mode: str  # "process", "thread"
    generation: int  # 1; its replacements count up


class ChildStats(NamedTuple):
    """Counters of one child."""

    path: str
    kind: str  # "sub", "chip", "worker"
    level: int
    pid: int
    alive: bool
    tasks_done: int
    tasks_failed: int
    tasks_skipped: int
    busy_ns: int
    wakes: int
    sleeps: int
    cpu_ns: int


class EngineStats(NamedTuple):
    """Counters of one Worker."""

    submitted: int
    done: int
    failed: int
    skipped: int
    retried: int
    parent_sleeps: int
    parent_wakes: int
    heap_used: int
    heap_peak: int
    deaths: int
    restarts: int
    provider: str  # "kernel", "futex"


class Provider(NamedTuple):
    """What new hierarchies use, and why."""

    name: str
    module_abi: int  # 0: no module
    module_features: int
    reason: str


class TreeInfo(NamedTuple):
    """What does not change while a tree exists."""

    pid: int  # of the root
    worker_count: int  # Workers: the root, and those below it
    child_count: int  # all children: sub workers, chips, nested Workers
    started_ns: int  # CLOCK_MONOTONIC, as time.monotonic_ns()


class TreeWorker(NamedTuple):
    """A Worker of a tree, as it is now."""

    path: str
    level: int
    pid: int  # of the process that its Orchestrators run in
    up: bool  # initialised, not closed, and alive
    first_child: int  # its children: child(first_child) … child(first_child + child_count - 1)
    child_count: int
    runs: int  # in flight
    blocked: str  # why an orchestration function waits in submit(): "", "window" or "heap"
    blocked_since_ns: int
    heap_bytes: int  # all rings
    stats: EngineStats


class TreeChild(NamedTuple):
    """A child of a Worker of a tree, as it is now."""

    tid: int  # of the thread that serves its mailbox
    queued: int  # tasks in its ring, the one that runs included
    busy: bool  # in a callable
    stopped: int  # the signal that has stopped its process, or 0
    since_ns: int  # when that began, or when it began to wait; CLOCK_MONOTONIC
    task: int  # what it runs, or ran last: the number within its run
    callable: str  # and its callable, shortened
    cause: str  # of its last death; "": it never died
    ended: int  # tasks that it has run, by its own count
    stats: ChildStats


_CHILD_KINDS = ("sub", "chip", "worker")
_MODES = ("process", "thread")
_PROVIDERS = ("auto", "kernel", "futex")
_BLOCKED = ("", "window", "heap")


def _child_stats(row: Any) -> ChildStats:
    return ChildStats(row[0], _CHILD_KINDS[row[1]], *row[2:])


def _engine_stats(row: Any) -> EngineStats:
    return EngineStats._make((*row[:-1], _PROVIDERS[row[-1]]))


# ------------------------------------------------------------------------ callables


_imported: dict[str, Function[..., Any]] = {}


def _import(name: str) -> Function[..., Any]:
    """The function that "module:qualified.name" names, in the process that runs the task."""
    found = _imported.get(name)
    if found is None:
        module, _, path = name.partition(":")
        value: Any = importlib.import_module(module)
        for part in path.split("."):
            value = getattr(value, part)
        found = _imported[name] = value
    return found


def _import_name(fn: Function[..., Any]) -> str:
    module, path = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if not module or not path or "<" in path or module == "__main__":
        raise ValueError(f"{fn!r}: the children run already, so they have to import it: move it to the top level of "
                         "a module, or register it before init")
    name = f"{module}:{path}"
    if _import(name) is not fn:
        raise ValueError(f"{name} is another function than {fn!r}: the children would call that one")
    return name


def function(fn: Function[..., Any] | str, kind: Kind = "sub") -> Callable:
    """A function that children import when they first run it; at any time, for every tree.

    `fn` is at the top level of a module, or "module:qualified.name".
    """
    name = fn if isinstance(fn, str) else _import_name(fn)
    if ":" not in name or len(name.encode()) > 1024:
        raise ValueError(f"{name!r}: it should be \"module:qualified.name\", of at most 1,024 bytes")
    return Callable._by_import(_KINDS[kind], name, name.partition(":")[2])


# --------------------------------------------------------------------- Orchestrators


class _Scope:
    """A scope of a with statement."""

    def __init__(self, orch: Orchestrator) -> None:
        self._orch = orch

    def __enter__(self) -> None:
        self._orch.scope_begin()

    def __exit__(self, *exception: object) -> None:
        self._orch.scope_end()


class Orchestrator(_core.Orchestrator):
    """Submits the tasks of one run; valid until the function that is given it returns."""

    __slots__ = ()

    def scope(self) -> _Scope:
        """``with orch.scope():`` memory of alloc() goes when the scope has ended and its users are done."""
        return _Scope(self)

    @property
    def config(self) -> Config:
        """As it was given to run(), start() or submit()."""
        block_dim, threads, flags = self._config
        return Config(block_dim, threads, bool(flags & 1), bool(flags & 2))

    def find(self, name: str, kind: Kind = "sub") -> Callable:
        """The callable that was registered under this name."""
        return self._find(name, _KINDS[kind])


# ------------------------------------------------------------------------------ runs


def _in_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


_pipe: tuple[int, int, int] | None = None  # of which process; reader, writer


def _signal_pipe() -> tuple[int, int]:
    global _pipe
    if _pipe is None or _pipe[0] != os.getpid():
        _pipe = (os.getpid(), *os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    return _pipe[1:]


_watching = 0  # the process whose main thread is in a run


def _watched(start: Function[[bool], None]) -> None:
    """Calls start(here) in the main thread: a signal interrupts the waits of the C library, so that its handler runs."""
    global _watching
    process = os.getpid()
    if _watching == process:  # a run within a run
        start(True)
        return
    writer = _core._watch_fd()
    if writer < 0:  # without a watching thread the run has one of its own
        start(False)
        return
    before = -1
    _watching = process
    try:
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        if before >= 0:
            _core._watch_pass_on(before)
        start(True)
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        if before >= 0:
            _core._watch_pass_on(-1)
        _watching = 0


def _pass_on(numbers: bytes, fd: int) -> None:
    """To the descriptor that an event loop has set for signals."""
    if fd >= 0:
        try:
            os.write(fd, numbers)
        except BlockingIOError:
            pass


class Run(_core.Run):
    """A run in flight, of Worker.start(). ``await run`` gives its result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def _ended(self, timeout: float | None) -> bool:
        if self.test():
            return True
        if not _in_main_thread():
            return self._wait_for(timeout)
        # A signal that arrives just before poll() would not interrupt it: the interpreter writes a byte for it.
        # Its handler runs when poll() has returned.
        reader, writer = _signal_pipe()
        end = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        poll.register(reader, select.POLLIN)
        before = -1
        try:
            before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            while True:
                events = poll.poll(None if end is None else max(0.0, end - time.monotonic()) * 1000)
                if any(fd == reader for fd, _ in events):
                    _pass_on(os.read(reader, 4096), before)
                elif events or end is not None and time.monotonic() >= end:
                    return bool(events)
        finally:
            signal.set_wakeup_fd(before)

    def _result(self) -> None:
        try:
            self._value = self._finish()
        except BaseException as error:
            self._error = error
        self._done = True

    def wait(self, timeout: float | None = None) -> Any:
        """What the run's function has returned, when every task is final.

        Raises what the function has raised, or Error: the first error of the run. TimeoutError: the run goes on
        after `timeout` seconds. May be called again.
        """
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError(f"the run goes on after {timeout} seconds")
        try:
            if not self._done:
                if not self._ended(timeout):
                    raise TimeoutError(f"the run goes on after {timeout} seconds")
                self._result()
        finally:
            self._lock.release()
        if self._error is not None:
            raise self._error
        return self._value

    def errors(self) -> list[Error]:
        """Every error so far, the first 64."""
        if self._done:
            return list(getattr(self._error, "errors", ()))
        return [_errors.of_row(row) for row in self._errors()]

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        if not self.test():
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()

            def ended() -> None:
                loop.remove_reader(fd)
                if not future.done():
                    future.set_result(None)

            # Its own, so that several tasks may await one run.
            fd = os.dup(self.fileno())
            try:
                loop.add_reader(fd, ended)
                yield from future
            finally:
                loop.remove_reader(fd)
                os.close(fd)
        return self.wait()

    def _give_up(self, seconds: float) -> None:
        """After Ctrl-C: cancels, and waits for at most so long."""
        self.cancel()
        self._interrupt(KeyboardInterrupt)
        if self._ended(seconds):
            self._result()


# --------------------------------------------------------------------------- Workers


_live: weakref.WeakSet[Worker] = weakref.WeakSet()


def _ns(seconds: float | None) -> int:
    if seconds is None:
        return 0
    if not 0 < seconds < 1e10:
        raise ValueError(f"a time of {seconds} seconds: it should be above 0")
    return int(seconds * 1e9)


def _index(values: Sequence[str], value: str, what: str) -> int:
    try:
        return values.index(value)
    except ValueError:
        raise ValueError(f"{what} is {value!r}: it should be one of {', '.join(values)}") from None


class Worker(_core.Worker):
    """One node of the hierarchy.

    `level` is 3 (node) … 6 (cluster). Options, all of which have defaults: `name` in paths; `subs`, the number of
    sub workers; `chips`, of Chip, or of drivers' names; `mode` of the children, "process" or "thread"; `provider`, "auto",
    "kernel" or "futex"; `heap_ring_bytes` and `arena_bytes`, whole pages; `mailbox_depth`, `frame_bytes`; `timeout`, the
    default deadline of a task; `heap_timeout`, `init_timeout`, `close_timeout`; times in seconds; `restart`: children
    that die are replaced, up to `restart_limit` times a minute; `placement` by the machine's topology;
    `check_declared`: nested tasks may touch only memory that their parent task has declared.

    As a context manager it closes the tree at the end.
    """

    interrupt_timeout = 5.0  # seconds that a run has to end after Ctrl-C

    def __init__(self, level: int, *, name: str | None = None, subs: int = 0, chips: Iterable[Chip | str] = (),
                 mode: str = "process", provider: str = "auto", heap_ring_bytes: int = 0, arena_bytes: int = 0,
                 mailbox_depth: int = 0, frame_bytes: int = 0, timeout: float | None = None,
                 heap_timeout: float | None = None, init_timeout: float | None = None,
                 close_timeout: float | None = None, restart: bool = False, restart_limit: int = 0,
                 placement: bool = False, check_declared: bool = False) -> None:
        self._up = False
        self._parent: weakref.ref[Worker] | None = None
        self._names: dict[str, int] = {}
        self._create(level, name, subs, tuple(tuple(Chip(chip) if isinstance(chip, str) else chip) for chip in chips),
                     _index(_MODES, mode, "mode"), _index(_PROVIDERS, provider, "provider"), heap_ring_bytes,
                     arena_bytes, mailbox_depth, frame_bytes, _ns(timeout), _ns(heap_timeout), _ns(init_timeout),
                     _ns(close_timeout), int(restart), restart_limit, int(placement), int(check_declared))
        self.level = level
        _live.add(self)

    # -------------------------------------------------------------------- callables

    def _add(self, fn: Function[..., Any], kind: Kind, name: str | None) -> Callable:
        if not callable(fn):
            raise TypeError(f"{fn!r} cannot be called")
        base = name or getattr(fn, "__qualname__", None) or type(fn).__qualname__
        chosen = base
        while True:
            try:
                return self._register(fn, _KINDS[kind], chosen)
            except Error as error:
                import errno

                if error.errno == errno.EBUSY:
                    return function(fn, kind)
                if error.errno != errno.EEXIST or name is not None:
                    raise
            # Lambdas of one function have one name.
            self._names[base] = self._names.get(base, 1) + 1
            chosen = f"{base}#{self._names[base]}"

    @overload
    def sub(self, fn: Function[[Args], object], *, name: str | None = None) -> Callable: ...

    @overload
    def sub(self, fn: None = None, *, name: str | None = None) -> Function[[Function[[Args], object]], Callable]: ...

    def sub(self, fn: Function[[Args], object] | None = None, *, name: str | None = None) -> \
            Callable | Function[[Function[[Args], object]], Callable]:
        """Registers ``fn(args)``, which sub workers run. Also a decorator.

        Before init any function, also a closure; after init one that the children can import.
        """
        if fn is None:
            return lambda given: self._add(given, "sub", name)
        return self._add(fn, "sub", name)

    @overload
    def orch(self, fn: Function[[Orchestrator, Args], object], *, name: str | None = None) -> Callable: ...

    @overload
    def orch(self, fn: None = None, *, name: str | None = None) -> \
        Function[[Function[[Orchestrator, Args], object]], Callable]: ...

    def orch(self, fn: Function[[Orchestrator, Args], object] | None = None, *, name: str | None = None) -> \
            Callable | Function[[Function[[Orchestrator, Args], object]], Callable]:
        """Registers ``fn(orch, args)``, which child Workers run with their own Orchestrator. Also a decorator."""
        if fn is None:
            return lambda given: self._add(given, "orch", name)
        return self._add(fn, "orch", name)

    def symbol(self, symbol: str, kind: Kind = "sub") -> Callable:
        """A function of a shared object, "path/libjob.so:name", at any time."""
        return self._register_symbol(symbol, _KINDS[kind])

    def image(self, driver: str, entry: str, *, data: bytes | None = None, path: str | None = None,
              signature: Sequence[int] | None = None) -> Callable:
        """An image for chips of one driver, at any time, from `data` or the file `path`.

        `signature`: for each argument 0 scalar, 1 in, 2 out, 3 inout; None: as the image says.
        """
        return self._register_image(driver, entry, data, path, signature)

    def unregister(self, callable: Callable, timeout: float | None = None) -> None:
        """Waits until no task uses the callable. Error with ETIMEDOUT: tasks still use it."""
        self._unregister(callable, timeout)

    def find(self, name: str, kind: Kind = "sub") -> Callable:
        """The callable that was registered under this name, here or on a Worker above."""
        return self._find(name, _KINDS[kind])

    # ----------------------------------------------------------------------- memory

    def buffer(self, nbytes: int) -> Tensor:
        """Bytes of the tree's arena: empty(nbytes, "uint8")."""
        return self.empty((nbytes,), "uint8")

    def share(self, array: Any) -> Tensor:
        """A copy of an array (an object with the buffer protocol) in the tree's arena."""
        view = memoryview(array)
        dtype = {"f": "float32", "e": "float16", "d": "float64", "?": "bool", "b": "int8", "B": "uint8", "h": "int16",
                 "H": "uint16", "i": "int32", "I": "uint32", "l": "int64", "q": "int64", "L": "uint64",
                 "Q": "uint64"}.get(view.format.lstrip("@=<"))
        if dtype is None:
            raise TypeError(f"elements of format {view.format!r} have no dtype here")
        tensor = self.empty(view.shape or (), dtype)
        if view.nbytes:
            memory: Any = tensor
            memoryview(memory).cast("B")[:] = view.cast("B") if view.c_contiguous else view.tobytes()
        return tensor

    # ------------------------------------------------------------------------- life

    def add_child(self, child: Worker) -> int:
        """`child` becomes a Worker below this one, which owns it; its id for ``submit(worker=)``."""
        number = self._add_child(child)
        child._parent = weakref.ref(self)
        return number

    def chip_id(self, chip: int) -> int:
        """The id of chip number `chip` of this Worker, for ``submit(worker=)``."""
        return self._chip_id(chip)

    def init(self) -> None:
        """Brings the whole tree up, or nothing. The first run does it too."""
        self._init()
        self._up = True

    def close(self) -> None:
        """Takes the whole tree down; more than once is fine. Tensors stay."""
        self._up = True
        self._close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------------- runs

    def run(self, fn: Function[..., Value], *args: Any, config: Config | None = None, timeout: float | None = None,
            progress: Function[[int, int], object] | None = None) -> Value:
        """Calls ``fn(orch, *args)``, and returns its value when every task that it has submitted is final.

        Raises what `fn` has raised, or Error: the first error of the run. The calling thread calls `fn`. Any thread,
        also within another run of the tree. In the main thread handlers of signals run meanwhile, and Ctrl-C cancels
        the run: it then has `interrupt_timeout` seconds to end, and KeyboardInterrupt is raised in any case.
        `timeout`: deadline of the run in seconds. ``progress(submitted, finished)`` as in start().
        """
        self._need_init()
        main = _in_main_thread()
        if not main and timeout is None and progress is None:
            value: Value = self._run(fn, args, config)
            return value
        run = Run()
        if not main:
            self._start(run, fn, args, config, timeout, progress, True)
            value = run.wait()
            return value
        try:
            _watched(lambda here: self._start(run, fn, args, config, timeout, progress, here))
            error = run._exception()
            if isinstance(error, KeyboardInterrupt):
                raise error  # and not its tasks' end
            value = run.wait()
            return value
        except KeyboardInterrupt:
            # Also one that comes just when the run has started.
            if not run._done and run._started():
                run._give_up(self.interrupt_timeout)
            raise

    def start(self, fn: Function[..., Any], *args: Any, config: Config | None = None, timeout: float | None = None,
              progress: Function[[int, int], object] | None = None) -> Run:
        """The same without blocking: a thread of the library calls `fn`.

        ``progress(submitted, finished)`` is called now and then by another thread. A Run that is dropped goes on.
        """
        self._need_init()
        run = Run()
        self._start(run, fn, args, config, timeout, progress, False)
        return run

    def _need_init(self) -> None:
        if not self._up and self._parent is None:
            self.init()

    # ----------------------------------------------------------------------- seeing

    def stats(self) -> list[ChildStats]:
        """Counters of every child of the tree below this Worker."""
        return [_child_stats(row) for row in self._stats()]

    def engine_stats(self) -> EngineStats:
        """Counters of this Worker alone."""
        return _engine_stats(self._engine_stats())

    def report(self, stuck: float = 10.0) -> str:
        """The state of the tree, and everything that is stuck for so many seconds, as text."""
        return self._report(stuck)


Self = TypeVar("Self", bound=Worker)


class Tree(_core.Tree):
    """A tree of any process of this machine, observed from outside: the `index`-th of process `pid`.

    Looking asks, stops and wakes no process of the tree; numbers that belong together may be a moment apart. Error
    with ENOENT: there is none; EACCES: this user may not read the root's /proc/PID/fd; EPROTO: of another version.
    Any thread; in a fork, too. As a context manager it closes itself.
    """

    def __init__(self, pid: int, index: int = 0) -> None:
        self._open(pid, index)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def info(self) -> TreeInfo:
        """What does not change while the tree exists."""
        return TreeInfo._make(self._info())

    def worker(self, number: int) -> TreeWorker:
        """Worker `number`, 0 … ``info.worker_count`` - 1; 0 is the root. Error with ERANGE."""
        row, stats = self._worker(number)
        return TreeWorker._make((*row[:7], _BLOCKED[row[7]], *row[8:], _engine_stats(stats)))

    def child(self, number: int) -> TreeChild:
        """Child `number`, 0 … ``info.child_count`` - 1, over all Workers. Error with ERANGE."""
        row, stats = self._child(number)
        return TreeChild._make((*row, _child_stats(stats)))

    def workers(self) -> list[TreeWorker]:
        """All Workers, the root first."""
        return [self.worker(number) for number in range(self.info.worker_count)]

    def children(self) -> list[TreeChild]:
        """All children of all Workers."""
        return [self.child(number) for number in range(self.info.child_count)]

    def report(self, stuck: float = 10.0) -> str:
        """The state of the tree, and everything that is stuck for so many seconds, as text."""
        return self._report(stuck)

# ------------------------------------------------------------------- the whole process


_start_functions: list[Function[[ChildStart], object]] = []


def at_child_start(fn: Function[[ChildStart], object]) -> Function[[ChildStart], object]:
    """Calls ``fn(start)`` in every child that starts from now on, before its first task: for state that a fork copies.

    An exception is the child's failure to start. Also a decorator. (numpy.random's global state is such a thing:
    without a seed of its own each child draws the same numbers.)
    """
    _start_functions.append(fn)
    return fn


def _start_hook(path: str, kind: int, mode: int, generation: int) -> None:
    for fn in _start_functions:
        fn(ChildStart(path, _CHILD_KINDS[kind], _MODES[mode], generation))


_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}


def log_to(logger: logging.Logger | None = None, level: str = "info") -> None:
    """Sends the library's log to a logger (default: "distworker") instead of stderr, that of children too.

    `level`: "error", "warn", "info" or "debug". Call it before init.
    """
    target = logger or logging.getLogger("distworker")

    def line(severity: int, pid: int, text: str) -> None:
        target.log(_LEVELS[severity], "%s", text, extra={"child": pid})

    _core._log_set(line, 1 + _index(("error", "warn", "info", "debug"), level, "level"))


def log_off() -> None:
    """Ends log_to(): the log goes to stderr again, as DW_LOG says."""
    _core._log_set(None, 1)


def provider() -> Provider:
    """Whether the kernel's module is used, and why."""
    result, number, abi, features, reason = _core._provider()
    if result < 0:
        raise Error(-result, reason)
    return Provider(_PROVIDERS[number], abi, features, reason)


def _at_exit() -> None:
    """Threads of the library must not call the interpreter when it is gone."""
    for worker in list(_live):
        if worker._parent is None:
            try:
                worker._close()
            except Error as error:
                print(f"distworker: {error}", file=sys.stderr)
    log_off()


_core._setup(_errors.make, _errors.format_failure, _import, Orchestrator, _start_hook)
atexit.register(_at_exit)
