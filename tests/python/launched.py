# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""For test_hosts.py: a run over several processes, which a launcher or ssh has started."""

import pwd
import os
import sys

from distworker import Launch, Worker, inout

USER = pwd.getpwuid(os.geteuid()).pw_name


def say(text):
    """In one write: the lines of several ranks go into one pipe."""
    os.write(1, f"{text}\n".encode())


def add(args):
    memoryview(args.tensor(0))[()] += 5


def nested(orch, args):
    orch.submit(orch.find("add"), inout(args.tensor(0)))


def run(root, works, cell, nodes):
    def all_nodes(orch):
        for _ in range(nodes):
            orch.submit(works, inout(cell))
    root.run(all_nodes)
    say(f"<sum {memoryview(cell)[()]} {[row.host != '' for row in root.stats()]}>")


def program(root):
    root.sub(add)
    return root.orch(nested)


def main(launch):
    root = Worker(4, name="root")
    works = program(root)
    for rank in range(1, launch.size):
        root.add_child(Worker(3, subs=1, host=launch.host(rank)))
    if launch.rank:
        assert launch.host(1) is None
        launch.serve(root, user=USER)
        say(f"<served {launch.rank}>")
        return
    cell = root.empty((), "int64")
    memoryview(cell)[()] = 0
    with root:
        run(root, works, cell, launch.size - 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--listen"]:
        node = Worker(4, name="program")
        program(node)
        node.serve(listen=sys.argv[2], key=sys.argv[4], user=USER, listening=print)
        print("stopped", sys.argv[5:], file=sys.stderr, flush=True)
    else:
        with Launch(sys.argv[1] if sys.argv[1:] else None, program=sys.executable if sys.argv[1:] else None,
                    verb=__file__, arguments=["extra word"]) as launch:
            main(launch)
