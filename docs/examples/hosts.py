# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""The squares of numbers, over several hosts.

    mpirun -n 3 python3 hosts.py
    srun --mpi=pmix -n 3 python3 hosts.py
    python3 hosts.py b,c               # through ssh; the script lies under the same path there
"""

import getpass
import sys

import numpy
from distworker import Launch, Worker, inout


def square(args):
    numpy.asarray(args.tensor(0))[...] **= 2


def part(orch, args):
    orch.submit(orch.find("square"), inout(args.tensor(0)))


def program():
    """The same on all hosts: the root, and its functions in the same order."""
    root = Worker(4, name="squares")
    root.sub(square)
    return root, root.orch(part)


def main(launch):
    root, task = program()
    for rank in range(1, launch.size):
        root.add_child(Worker(3, subs=2, host=launch.host(rank)))
    if launch.rank:
        launch.serve(root, user=getpass.getuser())
        return
    if launch.size == 1:
        root.add_child(Worker(3, subs=2))
    with root:
        parts = [root.share(numpy.arange(1000 * i, 1000 * i + 1000)) for i in range(8)]
        root.run(lambda orch: [orch.submit(task, inout(one)) for one in parts] and None)
        print("sum", sum(int(numpy.asarray(one).sum()) for one in parts))
        for row in root.stats():
            print(row.path, "on", row.host or "this host", f"{row.round_trip_ns / 1e6:.3f} ms away, {row.tasks_done} tasks")


if sys.argv[1:2] == ["--listen"]:  # a node that ssh has started: --listen ADDRESS:PORT --key -
    program()[0].serve(listen=sys.argv[2], key="-", user=getpass.getuser(), listening=print)
else:
    hosts = sys.argv[1] if sys.argv[1:] else None
    with Launch(hosts, program=sys.executable, verb=__file__) as run:
        main(run)
