# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Counters, the provider, and trees that are observed from outside."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _core
from ._errors import Error


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
    memory_used: int  # of a chip, by its driver's count: bytes of device memory; 0: unknown
    memory_bytes: int  # that the device has
    copied_in: int  # bytes, host to device, over all its lives
    copied_out: int  # and back
    saved: int  # bytes that were not copied, since the device had them
    host: str  # of a Worker on another host: its name; "" of all others, and what follows is 0
    address: str  # to which its connection leads: "10.0.0.7:7733"
    round_trip_ns: int  # a message and its answer, without the time there: the shortest of the last tasks
    window_used: int  # bytes of the tasks that are there, or on their way
    window_bytes: int  # the most of these


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


class GraphInfo(NamedTuple):
    """What a recorded graph has."""

    name: str
    tasks: int  # a group is one
    edges: int  # dependencies between them
    borders: int  # ranges in which they meet other tasks
    bytes: int  # of the graph's own blocks
    parameters: int
    scalars: int
    replays: int  # so far


def graph_info(graph: _core.Graph) -> GraphInfo:
    """What a recorded graph has."""
    return GraphInfo._make(graph._query())


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
    spins_won: int  # times that it spun before it would have slept, and a task came in time; …
    spins_lost: int  # … or did not; up to date when it sleeps
    stats: ChildStats


CHILD_KINDS = ("sub", "chip", "worker")
PROVIDERS = ("auto", "kernel", "futex")
_BLOCKED = ("", "window", "heap")


def child_stats(row: Any) -> ChildStats:
    return ChildStats(row[0], CHILD_KINDS[row[1]], *row[2:])


def engine_stats(row: Any) -> EngineStats:
    return EngineStats._make((*row[:-1], PROVIDERS[row[-1]]))


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
        return TreeWorker._make((*row[:7], _BLOCKED[row[7]], *row[8:], engine_stats(stats)))

    def child(self, number: int) -> TreeChild:
        """Child `number`, 0 … ``info.child_count`` - 1, over all Workers. Error with ERANGE."""
        row, stats = self._child(number)
        return TreeChild._make((*row, child_stats(stats)))

    def workers(self) -> list[TreeWorker]:
        """All Workers, the root first."""
        return [self.worker(number) for number in range(self.info.worker_count)]

    def children(self) -> list[TreeChild]:
        """All children of all Workers."""
        return [self.child(number) for number in range(self.info.child_count)]

    def report(self, stuck: float = 10.0) -> str:
        """The state of the tree, and everything that is `stuck` for so many seconds, as text."""
        return self._report(stuck)


def provider() -> Provider:
    """Whether trees that are made now use the kernel's module, and why. Asks anew each time.

    Error: DW_PROVIDER asks for what is not there.
    """
    result, number, abi, features, reason = _core._provider()
    if result < 0:
        raise Error(-result, reason)
    return Provider(PROVIDERS[number], abi, features, reason)
