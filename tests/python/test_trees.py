# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Trees observed from outside, of this process and of others; blobs of arguments."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import time

import distworker
import pytest
from distworker import Args, Error, Tree, Worker, inout, out


def tree_named(name):
    """The tree of this process, which may have several."""
    for index in range(1000):
        tree = Tree(os.getpid(), index)
        if tree.worker(0).path == name:
            return tree
        tree.close()


def test_a_tree_of_this_process():
    before = time.monotonic_ns()
    with Worker(4, subs=1, name="seen0") as pod:
        pod.add_child(Worker(3, subs=2, name="below0"))
        flag = pod.empty((), "int64")

        def until(args):
            while not memoryview(args.tensor(0))[()]:
                pass

        wait = pod.sub(until, name="wait_for_flag")
        pod.init()
        run = pod.start(lambda orch: orch.submit(wait, distworker.no_dep(flag)) and None)
        with tree_named("seen0") as tree:
            info = tree.info
            assert (info.pid, info.worker_count, info.child_count) == (os.getpid(), 2, 4)
            assert before < info.started_ns < time.monotonic_ns()
            root, below = tree.workers()
            assert (root.path, root.level, root.pid, root.up, root.runs) == ("seen0", 4, os.getpid(), True, 1)
            assert (below.path, below.level, below.up, below.runs) == ("seen0/below0", 3, True, 0)
            assert root.child_count == 2 and below.child_count == 2 and root.blocked == ""
            assert root.stats.provider in ("kernel", "futex") and root.heap_bytes == 4 << 30
            names = [tree.child(number).stats.path for number in range(root.first_child, root.first_child + 2)]
            assert sorted(names) == ["seen0/below0", "seen0/sub0"]
            while True:  # until the child has begun
                children = {child.stats.path: child for child in tree.children()}
                if children["seen0/sub0"].busy:
                    break
            child = children["seen0/sub0"]
            assert (child.task, child.callable, child.queued, child.stopped) == (1, "wait_for_flag", 1, 0)
            assert child.cause == "" and child.ended == 0 and child.stats.kind == "sub" and child.tid > 0
            assert children["seen0/below0/sub1"].stats.path == "seen0/below0/sub1"
            assert "wait_for_flag" in tree.report(stuck=0.000001)
            memoryview(flag)[()] = 1
            run.wait()
            while tree.child(root.first_child).ended + tree.child(root.first_child + 1).ended != 1:
                pass
            for look in (tree.worker, tree.child):
                with pytest.raises(Error) as caught:
                    look(4)
                assert caught.value.errno == errno.ERANGE
                with pytest.raises(OverflowError):
                    look(-1)
        with pytest.raises(ValueError, match="closed"):
            tree.info
        tree.close()
    with pytest.raises(Error) as caught:
        Tree(os.getpid(), 999)
    assert caught.value.errno == errno.ENOENT


def test_a_tree_of_another_process():
    other = subprocess.Popen([sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent("""
        import distworker, os, sys
        with distworker.Worker(3, subs=1, name="other0") as node:
            die = node.sub(lambda args: os._exit(7))
            node.init()
            try:
                node.run(lambda orch: orch.submit(die))
            except distworker.Error:
                print("died", flush=True)
            sys.stdin.read()
        """)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "died\n"
    with Tree(other.pid) as tree:
        (worker,), (child,) = tree.workers(), tree.children()
        assert worker.path == "other0" and worker.pid == other.pid and worker.stats.deaths == 1
        assert "7" in child.cause and not child.stats.alive
        other.communicate()
        assert other.returncode == 0
        assert not tree.worker(0).up  # what was mapped stays
    with pytest.raises(Error) as caught:
        Tree(other.pid)
    assert caught.value.errno in (errno.ENOENT, errno.ESRCH)


def test_blobs_of_arguments():
    args = Args(1, 2.5, -3)
    blob = args.to_blob()
    assert blob[:8] == b"\0\0\0\0\3\0\0\0" and len(blob) == 8 + 3 * 8
    again = Args.from_blob(blob)
    assert (again.int(0), again.float(1), again.int(2), again.tensor_count) == (1, 2.5, -3, 0)
    with Worker(3, subs=1) as node:
        cells = node.empty((3, 4), "int16")
        many = Args(*[out(cells[i % 3:i % 3 + 1]) for i in range(20)], *range(50))
        again = Args.from_blob(memoryview(bytearray(many.to_blob())))
        assert [tensor.address for tensor in again.tensors] == [tensor.address for tensor in many.tensors]
        assert again.tensor(19).shape == (1, 4) and again.tensor(19).dtype == "int16" and again.scalar_count == 50
        again.add(out(cells))  # goes on like one that was made by hand

        @node.sub
        def read(args):
            inner = Args.from_blob(args.to_blob())
            assert inner.int(-1) == 49 and inner.tensor_count == 21 and inner.scalar_count == 50
            memoryview(inner.tensor(0))[0, 1] = 9

        node.init()
        node.run(lambda orch: orch.submit(read, again))
        assert memoryview(cells)[0, 1] == 9
        # For a function that children import, the package adds scalars behind its own.
        node.run(lambda orch: orch.submit(distworker.function("test_trees:read_blob"), inout(cells), 5))
        assert memoryview(cells)[2, 3] == 5
    for wrong in (b"", blob[:-1], blob + b"x", b"\xff" * 8):
        with pytest.raises(Error) as caught:
            Args.from_blob(wrong)
        assert caught.value.errno == errno.EBADMSG
    with pytest.raises(TypeError):
        Args.from_blob("text")


def read_blob(args):
    inner = Args.from_blob(args.to_blob())
    assert inner.scalar_count == 1
    memoryview(inner.tensor(0))[2, 3] = inner.int(0)
