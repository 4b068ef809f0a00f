# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Nothing grows over runs and trees: objects, descriptors, memory.

DISTWORKER_LONG=1 for ten times as many; DISTWORKER_GUEST (tests/python/guest) for a tenth.
"""

from __future__ import annotations

import gc
import os
import sys

import distworker
from distworker import Error, Worker, inout, new

TENTHS = 100 if os.environ.get("DISTWORKER_LONG") else 1 if os.environ.get("DISTWORKER_GUEST") else 10


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def children():
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return len(file.read().split())


def resident_kib():
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1])
    return 0


def threads():
    return len(os.listdir("/proc/self/task"))


def measure():
    for _ in range(3):
        gc.collect()
    # The collector does not know tensors, tasks and arguments, so the allocator's blocks are counted, too.
    return sys.getallocatedblocks(), len(gc.get_objects()), descriptors(), children()


def check(before, after, times, what):
    blocks, objects = after[0] - before[0], after[1] - before[1]
    # Room for a few caches: far below one block per repetition.
    print(f"{times} {what}: {blocks} blocks and {objects} objects more, {after[2]} descriptors, {after[3]} children")
    assert objects < 50, f"{objects} more objects after {times} {what}"
    assert blocks < max(300, times // 10), f"{blocks} more blocks after {times} {what}"
    assert after[2:] == before[2:], f"descriptors and children after {times} {what}: {before[2:]} → {after[2:]}"


def one_run(node, cell, add, bad):
    def orchestrate(orch):
        with orch.scope():
            made = orch.submit(add, inout(cell), inout(node.empty(4, "int64")), 1)
            orch.submit(add, inout(orch.alloc(4, "int64")), new(3, "float64"), 1, after=[made])
        orch.submit_group(add, [(inout(cell), i) for i in range(2)])
        orch.submit(distworker.function("late_functions:double"), inout(node.empty((), "int64")), 1)

    node.run(orchestrate)
    node.start(orchestrate)
    try:
        node.run(lambda orch: orch.submit(bad))
    except Error as error:
        assert error.traceback
    try:
        node.run(lambda orch: 1 / 0)
    except ZeroDivisionError:
        pass


def test_runs_do_not_grow():
    def fails(args):
        raise ValueError("always")

    with Worker(3, subs=2, arena_bytes=512 << 20, heap_ring_bytes=4 << 20) as node:
        cell = node.empty((), "int64")
        add = node.sub(lambda args: None)
        bad = node.sub(fails)
        for _ in range(20):
            one_run(node, cell, add, bad)
        node.run(lambda orch: None)
        before, memory = measure(), resident_kib()
        for _ in range(25 * TENTHS):  # of four runs each
            one_run(node, cell, add, bad)
        while node.engine_stats() and threads() > 3:  # dropped runs end by themselves
            node.run(lambda orch: None)
        node.run(lambda orch: None)
        check(before, measure(), 100 * TENTHS, "runs")
        print(f"{resident_kib() - memory} KiB more")
        assert resident_kib() - memory < 4096


def small(level, **options):
    return Worker(level, subs=1, arena_bytes=16 << 20, heap_ring_bytes=1 << 20, **options)


def one_tree(i):
    """Of one level, or of two; the lower one of processes or threads."""
    root = small(4 if i % 5 == 0 else 3)
    if root.level == 4:
        root.add_child(small(3, mode="thread" if i % 2 else "process"))
    with root:
        cell = root.empty((), "int64")
        # A closure over the tree and over its memory: what a cycle is made of.
        put = root.sub(lambda args: (root, cell, memoryview(args.tensor(0)).__setitem__((), args.int(0))))
        part = root.orch(lambda orch, args: orch.submit(put, inout(args.tensor(0)), 5))
        root.run(lambda orch: orch.submit(part, inout(cell)) if root.level == 4 else orch.submit(put, inout(cell), 5))
        assert memoryview(cell)[()] == 5


def test_trees_do_not_grow():
    for i in range(20):
        one_tree(i)
    before, memory = measure(), resident_kib()
    for i in range(10 * TENTHS):
        one_tree(i)
    check(before, measure(), 10 * TENTHS, "trees")
    print(f"{resident_kib() - memory} KiB more")
    assert resident_kib() - memory < 8192


def test_workers_that_were_never_initialised_do_not_grow():
    before = measure()
    for _ in range(50):
        worker = Worker(3, subs=1)
        worker.sub(lambda args: worker)
        del worker
    check(before, measure(), 50, "Workers")
