# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Runs over several hosts: the processes of a launcher, or nodes that ssh starts; the way to a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence

from . import _core

if TYPE_CHECKING:
    from . import Worker

_VERDICTS = ("OK", "WARN", "FAIL")


def nanoseconds(seconds: float | None) -> int:
    """0: the library's own."""
    if seconds is None:
        return 0
    if not 0 < seconds < 1e10:
        raise ValueError(f"a time of {seconds} seconds: it should be above 0")
    return int(seconds * 1e9)


class Launch(_core.Launch):
    """The processes of one run on several hosts: one is the root, the others are nodes.

    Launch() meets those that mpirun or ``srun --mpi=pmix`` has started together. Each makes the same Workers and
    registers the same functions in the same order; then the root runs, and the others serve::

        with Launch() as launch, Worker(4) as root:
            for rank in range(1, launch.size):
                root.add_child(Worker(3, subs=2, host=launch.host(rank)))
            …
            if launch.rank:
                launch.serve(root)
            else:
                root.run(…)

    With `hosts` ("b,user@c" or a list) it starts a node on each through ssh instead, and this process is the root.
    There `program`, a path, is run with `verb`, ``--listen ADDRESS:PORT --key -``, and `arguments` behind that; without
    these it is ``distworker node``, which has no functions. A script of one's own is ``program=sys.executable,
    verb=__file__``: it calls ``root.serve(listen=…, key="-", listening=print)`` with the address that it was given.

    `timeout`: seconds until all are there (30). The key of this process is one of this run alone then. Once in a
    process. Error: ENOENT neither hosts nor a launcher, EPROTONOSUPPORT a launcher without PMIx has started several
    processes, ENOSYS no libpmix, ETIMEDOUT not all were there in time, EHOSTUNREACH ssh does not get there, ECHILD a
    node has ended. As a context manager it closes itself.
    """

    def __init__(self, hosts: str | Sequence[str] | None = None, *, program: str | None = None, verb: str | None = None,
                 arguments: Sequence[str] = (), timeout: float | None = None) -> None:
        names = hosts if hosts is None or isinstance(hosts, str) else ",".join(hosts)
        self._begin(names, program, verb, tuple(arguments), nanoseconds(timeout))

    def __enter__(self) -> Launch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def serve(self, worker: Worker, *, user: str | None = None, sessions: int = 0, idle_timeout: float | None = None,
              cache_bytes: int = 0, objects: str | None = None) -> None:
        """On a rank above 0: as ``worker.serve()``, with the address and the key of the launch.

        `worker` has the functions; `user`, `sessions`, `idle_timeout` (60 s here), `cache_bytes` and `objects` are as there.
        Returns, too, when the root has closed all Workers here. Error with EBUSY: the root, or the second call.
        """
        worker._serve_until_signal(None, None, user, sessions, nanoseconds(idle_timeout), cache_bytes, objects, None,
                                   self)


class Finding(NamedTuple):
    """One thing that a connection to a node needs, and what to do about it."""

    verdict: str  # "OK", "WARN", or "FAIL": Workers there will not work
    subject: str  # "name", "port", "key", …
    text: str
    remedy: str  # "": nothing


def examine_host(host: str, *, key: str | None = None, user: str | None = None,
                 timeout: float | None = None) -> list[Finding]:
    """What ``distworker doctor --host`` shows: all that a tree with a Worker on `host` ("name:port") needs, in order.

    The node answers, and no tree is made. `key` is the file of its key (DW_HOST_KEY names it), `user` the one that it
    should serve as; `timeout`: seconds for each answer (5). Error with EINVAL: no name of a host.
    """
    return [Finding(_VERDICTS[row[0]], *row[1:]) for row in _core._examine_host(host, key, user, nanoseconds(timeout))]
