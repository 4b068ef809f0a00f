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

What holds for everything here, unless it says otherwise:

Errors      Error, a RuntimeError with an errno, for what the library refuses or what has failed; TypeError, ValueError,
            OverflowError and IndexError for arguments that make no sense in Python. A call that is refused changes nothing.
Units       times are seconds, those with _ns in their name nanoseconds; sizes are bytes.
Shapes      an int, or a sequence of 0 to 5 of them, each below 2**32; dtypes are names ("float32"), numpy's, float or int.
Threads     Worker, Run, Tensor and the functions: any thread; init(), close() and add_child(): one thread at a time for
            each tree. An Orchestrator: the thread of the function that was given it, until that returns. The Args of a
            callable: until it returns. Calls that block let other threads run.
Forks       a process that the user forks has the objects, but every call of a Worker, Run or Orchestrator of its parent
            is an Error with EBADFD there (close() does nothing). It may make trees of its own.
Ownership   arguments are copied by the call that is given them, and objects that are passed on live as long as they are used.
"""

from __future__ import annotations

import atexit
import functools
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
from ._core import (INOUT, INPUT, NO_DEP, OUTPUT, OUTPUT_EXISTING, Args, Callable, Graph, Tagged, Task, Tensor,
                    existing, inout, inp, new, no_dep, out, task_cancelled, version)
from ._chips import ChipDevice, ChipDriver, PtoCore, chip_devices, chip_driver, chip_drivers, pto_image
from ._errors import Error
from ._hosts import Finding, Launch, examine_host
from ._hosts import nanoseconds as _ns
from ._seeing import (CHILD_KINDS, PROVIDERS, ChildStats, EngineStats, GraphInfo, Provider, Tree, TreeChild, TreeInfo,
                      TreeWorker, child_stats, engine_stats, graph_info, provider)

__all__ = [
    "INOUT", "INPUT", "NO_DEP", "OUTPUT", "OUTPUT_EXISTING", "Args", "Callable", "ChildStart", "ChildStats",
    "Chip", "ChipDevice", "ChipDriver", "Config", "EngineStats", "Error", "Finding", "Graph", "GraphInfo", "Launch", "Orchestrator", "Provider", "PtoCore", "Run",
    "Tagged", "Task", "Tensor", "Tree", "TreeChild", "TreeInfo", "TreeWorker", "Worker", "at_child_start",
    "chip_devices", "chip_driver", "chip_drivers", "examine_host", "existing", "function", "graph_info", "inout", "inp", "log_off", "log_to", "new",
    "no_dep", "out", "provider", "pto_image", "task_cancelled", "version",
]

Value = TypeVar("Value")
Kind = Literal["sub", "orch"]
_KINDS: dict[str, int] = {"sub": 0, "orch": 1}
_MODES = ("process", "thread")


@dataclass(frozen=True)
class Config:
    """Carried with a task to every level, and to the chip that runs it.

    `block_dim`: cores of the chip, 0: its driver's default; `aicpu_thread_num`: its scheduling threads, 0: the default;
    `profiling` and `dump_tensor`: flags for the driver. ValueError at the call that is given one with a negative number.
    """

    block_dim: int = 0
    aicpu_thread_num: int = 0
    profiling: bool = False
    dump_tensor: bool = False

    @property
    def flags(self) -> int:
        """DW_CONFIG_PROFILING and DW_CONFIG_DUMP_TENSOR, as bits."""
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

    `fn` is at the top level of a module, or "module:qualified.name"; `kind` is "sub" or "orch", as the methods of Worker.
    ValueError: children cannot import it, or would get another function. An import that fails there is the task's error.
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


class _Recording:
    """A recording of a with statement."""

    def __init__(self, orch: Orchestrator, parameters: Sequence[Any], name: str | None) -> None:
        self._orch, self._parameters, self._name = orch, parameters, name
        self._graph: Graph | None = None

    @property
    def graph(self) -> Graph:
        """What was recorded, once the statement has ended."""
        if self._graph is None:
            raise RuntimeError("the recording has not ended, or an exception has left it")
        return self._graph

    def __enter__(self) -> _Recording:
        self._orch.record_begin(self._parameters, self._name)
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        try:
            graph = self._orch.record_end()
        except Error:
            if kind is None:
                raise
        else:
            self._graph = graph if kind is None else None


class Orchestrator(_core.Orchestrator):
    """Submits the tasks of one run, in the thread of the function that was given it, until that returns.

    RuntimeError afterwards. Its tensors may be used by all tasks of the run.
    """

    __slots__ = ()

    def scope(self) -> _Scope:
        """``with orch.scope():`` memory of alloc() goes when the scope has ended and its users are done.

        Up to 64 deep. The end does not wait.
        """
        return _Scope(self)

    def record(self, *parameters: Any, name: str | None = None) -> _Recording:
        """``with orch.record(x, y) as recording:`` and then ``orch.replay(recording.graph, (x2, y2))``.

        As record_begin() and record_end(), with their `parameters` and `name`. An exception drops what was recorded.
        """
        return _Recording(self, parameters, name)

    @property
    def config(self) -> Config:
        """The Config that was given to run() or start(), or to the submit() of the task that this run is."""
        block_dim, threads, flags = self._config
        return Config(block_dim, threads, bool(flags & 1), bool(flags & 2))

    def find(self, name: str, kind: Kind = "sub") -> Callable:
        """The callable with this `name` on the Worker of this run, or above it; `kind` as it was registered.

        Error with ENOENT.
        """
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
    """A run in flight, of Worker.start(). ``await run`` gives its result, in any event loop's task, and in several.

    Any thread. One that is dropped goes on, and its result is lost.
    """

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
        after `timeout` seconds; None waits without limit. May be called again, and by several threads. In the main
        thread handlers of signals run meanwhile; Ctrl-C raises KeyboardInterrupt, and the run goes on. Error with
        EDEADLK: the run's own function calls it.
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
        """Every error so far, the first 64, in the order in which they were noticed. RuntimeError after detach()."""
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


def _index(values: Sequence[str], value: str, what: str) -> int:
    try:
        return values.index(value)
    except ValueError:
        raise ValueError(f"{what} is {value!r}: it should be one of {', '.join(values)}") from None


class Worker(_core.Worker):
    """One node of the hierarchy.

    `level` is 3 (node) … 6 (cluster). Options, all of which have defaults (0 and None too): `name` in paths; `subs`, the
    number of sub workers; `chips`, of Chip, or of drivers' names; `mode` of the children, "process" or "thread";
    `provider`, "auto", "kernel" or "futex"; `heap_ring_bytes` (1 GiB, each of 4 rings) and `arena_bytes` (4 GiB), whole
    pages, reserved and not populated; `mailbox_depth`, frames, a power of two (64); `frame_bytes` (512); `timeout`, the
    default deadline of a task (none); `heap_timeout` (10 s), `init_timeout` (30 s), `close_timeout` (5 s); `restart`:
    children that die are replaced, up to `restart_limit` (5) times a minute; `placement` by the machine's topology;
    `check_declared`: nested tasks may touch only memory that their parent task has declared; `host`, "name" or
    "name:port": the Worker is on a node there (serve()), with the file `host_key`, or the one that DW_HOST_KEY names;
    `host_timeout` (5 s) without an answer of that host ends it; `host_window_bytes` (256 MiB) of tensors on their way.

    As a context manager it closes the tree at the end. One that is dropped closes it too, and the end of the program
    does. A child Worker (add_child()) is owned by its parent. Error with EINVAL names the option that makes no sense.
    """

    interrupt_timeout = 5.0  # seconds that a run has to end after Ctrl-C

    def __init__(self, level: int, *, name: str | None = None, subs: int = 0, chips: Iterable[Chip | str] = (),
                 mode: str = "process", provider: str = "auto", heap_ring_bytes: int = 0, arena_bytes: int = 0,
                 mailbox_depth: int = 0, frame_bytes: int = 0, timeout: float | None = None,
                 heap_timeout: float | None = None, init_timeout: float | None = None,
                 close_timeout: float | None = None, restart: bool = False, restart_limit: int = 0,
                 placement: bool = False, check_declared: bool = False, host: str | None = None,
                 host_timeout: float | None = None, host_window_bytes: int = 0, host_key: str | None = None) -> None:
        self._up = False
        self._parent: weakref.ref[Worker] | None = None
        self._names: dict[str, int] = {}
        self._create(level, name, subs, tuple(tuple(Chip(chip) if isinstance(chip, str) else chip) for chip in chips),
                     _index(_MODES, mode, "mode"), _index(PROVIDERS, provider, "provider"), heap_ring_bytes,
                     arena_bytes, mailbox_depth, frame_bytes, _ns(timeout), _ns(heap_timeout), _ns(init_timeout),
                     _ns(close_timeout), int(restart), restart_limit, int(placement), int(check_declared),
                     host, _ns(host_timeout), host_window_bytes, host_key)
        self.level = level
        _live.add(self)

    def serve(self, *, listen: str | None = None, key: str | None = None, user: str | None = None, sessions: int = 0,
              idle_timeout: float | None = None, cache_bytes: int = 0, objects: str | None = None,
              listening: Function[[str], object] | None = None) -> None:
        """Serve as a node instead of init(): trees of other processes run Workers here (docs/hosts.md).

        A tree finds functions by their names: register here what its program registers, in the same order. `listen` is
        "address:port" (all addresses, port 7733); `key` the file of the key (DW_HOST_KEY names it); `user` the one to
        serve as, which root has to name. Returns when `sessions` connections have ended (0: never), when none was
        there for `idle_timeout` seconds (None: never), and with KeyboardInterrupt: then its trees have ended. At most
        `cache_bytes` of tensors are kept for each tree (0: half of the memory). `objects` is a folder for shared objects
        of symbols (symbol()) that are not here under the same path: they come from the tree's host, and stay;
        only the user that serves may write to it (None: a tree with such a symbol is refused). `listening` is called
        with the address once it listens. With "-" the key is the first line of standard input, whose end ends the node: ssh of a Launch
        has it so, and reads the address from standard output. In the main thread, without others. Errors as
        dw_node_serve() has them: EPERM for root without `user`, ENOKEY without a key, EACCES for a folder that others may write to.
        """
        tell = listening
        if listening is print:
            tell = functools.partial(print, flush=True)
        self._serve_until_signal(listen, key, user, sessions, _ns(idle_timeout), cache_bytes, objects, tell, None)

    def _serve_until_signal(self, listen: str | None, key: str | None, user: str | None, sessions: int, idle_ns: int,
                            cache_bytes: int, objects: str | None, listening: Function[[str], object] | None,
                            launch: Launch | None) -> None:
        ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(ends[1])
        stop = select.epoll()
        stop.register(ends[0], select.EPOLLIN)
        if key == "-":
            try:
                stop.register(0, select.EPOLLIN)
            except PermissionError:  # a file has no end to wait for
                pass
        try:
            self._serve(listen, key, user, sessions, idle_ns, cache_bytes, objects, stop.fileno(), listening, launch)
        finally:
            stop.close()
            signal.set_wakeup_fd(before)
            for end in ends:
                os.close(end)

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

        Before init any function, also a closure; after init one that the children can import (ValueError). On the Worker
        whose children run it, or on one above. `name`: in errors and for find(); None: the function's own. The tree keeps
        `fn` until close(). Error with EEXIST: the name is taken.
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
        """Registers ``fn(orch, args)``, which child Workers run with their own Orchestrator. Also a decorator.

        `fn` and `name` as with sub().
        """
        if fn is None:
            return lambda given: self._add(given, "orch", name)
        return self._add(fn, "orch", name)

    def symbol(self, symbol: str, kind: Kind = "sub") -> Callable:
        """A function of a shared object: `symbol` is "path/libjob.so:name"; `kind` "sub" or "orch". At any time.

        Children load the file on first use, and refuse one that has changed. Error with ENOENT, ELIBBAD, ESRCH: there is
        no such file, it is no ELF object, it has no such symbol; EEXIST: of another kind, or the file has changed.
        """
        return self._register_symbol(symbol, _KINDS[kind])

    def image(self, driver: str, entry: str, *, data: bytes | None = None, path: str | None = None,
              signature: Sequence[int] | None = None) -> Callable:
        """An image for chips of one `driver`, at any time, from `data` or the file `path`.

        `entry`: the kernel or the orchestration in it; `signature`: for each argument, tensors first, 0 scalar, 1 in,
        2 out, 3 inout; None: as the image says. Error with ENOENT: no such file, or driver; EINVAL: both, or neither.
        """
        return self._register_image(driver, entry, data, path, signature)

    def unregister(self, callable: Callable, timeout: float | None = None) -> None:
        """Waits until no task uses the `callable`; later submits are an Error with ESTALE.

        `timeout` in seconds; None: without limit. Error with ETIMEDOUT: tasks or children still use it: call it again;
        EDEADLK: within a callable of this tree; ENOENT.
        """
        self._unregister(callable, timeout)

    def find(self, name: str, kind: Kind = "sub") -> Callable:
        """The callable with this `name`, of this Worker or one above; `kind` as it was registered. Error with ENOENT."""
        return self._find(name, _KINDS[kind])

    # ----------------------------------------------------------------------- memory

    def buffer(self, nbytes: int) -> Tensor:
        """`nbytes` of the tree's arena: empty(nbytes, "uint8")."""
        return self.empty((nbytes,), "uint8")

    def share(self, array: Any, *, kept: bool = False) -> Tensor:
        """A copy of an `array` (an object with the buffer protocol, of any strides) in the tree's arena.

        empty() of its shape, `kept` as there, then write(). TypeError: elements of a type that tensors do not have.
        """
        view = memoryview(array)
        dtype = {"f": "float32", "e": "float16", "d": "float64", "?": "bool", "b": "int8", "B": "uint8", "h": "int16",
                 "H": "uint16", "i": "int32", "I": "uint32", "l": "int64", "q": "int64", "L": "uint64",
                 "Q": "uint64"}.get(view.format.lstrip("@=<"))
        if dtype is None:
            raise TypeError(f"elements of format {view.format!r} have no dtype here")
        tensor = self.empty(view.shape or (), dtype, kept=kept)
        self.write(tensor, view if view.c_contiguous else view.tobytes())
        return tensor

    # ------------------------------------------------------------------------- life

    def add_child(self, child: Worker) -> int:
        """`child` becomes a Worker below this one, which owns it; its id for ``submit(worker=)``.

        Error with EINVAL: its level is not below this one's; EBUSY: either is initialised, or the child has buffers;
        EEXIST: it has a parent, or its name is taken; ELOOP: it is an ancestor.
        """
        number = self._add_child(child)
        child._parent = weakref.ref(self)
        return number

    def chip_id(self, chip: int) -> int:
        """The id of chip number `chip`, from 0, of this Worker, for ``submit(worker=)``. Error with ERANGE."""
        return self._chip_id(chip)

    def init(self) -> None:
        """Brings the whole tree up, or nothing. The first run does it too.

        On the root. Error: the first cause, with its path; EBUSY: it was initialised before; ETIMEDOUT: a child was not
        ready after init_timeout. The Worker is then as it was, and may be changed and initialised again.
        """
        self._init()
        self._up = True

    def close(self) -> None:
        """Takes the whole tree down; more than once is fine. Tensors stay, and runs in flight are cancelled.

        It takes at most about close_timeout: then children that are busy are killed. Error with ETIMEDOUT names them, and
        runs that have not ended; EDEADLK: a function of this tree calls it.
        """
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
        `config`: of the run, for ``orch.config``; `timeout`: deadline of the run in seconds; ``progress(submitted,
        finished)`` as in start(). Error with ENOTCONN: closed; EDEADLK: within a task of this tree (mode "thread").
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
        """The same without blocking: a thread of the library calls ``fn(orch, *args)``.

        `config`, `timeout` and errors as those of run(). ``progress(submitted, finished)``, numbers of tasks, is called by
        another thread when they have changed, at most every 20 ms, and at the end. A Run that is dropped goes on.
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
        """Counters of every child of the tree below this Worker, processes of nested Workers included.

        Error with ENOTCONN: it was never initialised.
        """
        return [child_stats(row) for row in self._stats()]

    def engine_stats(self) -> EngineStats:
        """Counters of this Worker alone. Error with ENOTCONN: not initialised, or a nested Worker that is a process."""
        return engine_stats(self._engine_stats())

    def report(self, stuck: float = 10.0) -> str:
        """The state of the tree, and everything that is `stuck` for so many seconds, as text; also while it hangs."""
        return self._report(stuck)


Self = TypeVar("Self", bound=Worker)


# ------------------------------------------------------------------- the whole process


_start_functions: list[Function[[ChildStart], object]] = []


def at_child_start(fn: Function[[ChildStart], object]) -> Function[[ChildStart], object]:
    """Calls ``fn(start)`` in every child that starts from now on, before its first task: for state that a fork copies.

    In the thread that will run its tasks. Children of trees that are up, and their replacements, do not have it. An
    exception is the child's failure to start. Also a decorator. (numpy.random's global state is such a thing:
    without a seed of its own each child draws the same numbers.)
    """
    _start_functions.append(fn)
    return fn


def _start_hook(path: str, kind: int, mode: int, generation: int) -> None:
    for fn in _start_functions:
        fn(ChildStart(path, CHILD_KINDS[kind], _MODES[mode], generation))


_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}


def log_to(logger: logging.Logger | None = None, level: str = "info") -> None:
    """Sends the library's log to a logger (default: "distworker") instead of stderr, that of children too.

    `level`: "error", "warn", "info" or "debug". Call it before init. A thread of the library calls the logger, one line at
    a time; ``record.child`` is the process that the line comes from. For the whole process.
    """
    target = logger or logging.getLogger("distworker")

    def line(severity: int, pid: int, text: str) -> None:
        target.log(_LEVELS[severity], "%s", text, extra={"child": pid})

    _core._log_set(line, 1 + _index(("error", "warn", "info", "debug"), level, "level"))


def log_off() -> None:
    """Ends log_to(): the log goes to stderr again, as DW_LOG says."""
    _core._log_set(None, 1)


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
