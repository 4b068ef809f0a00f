# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Submits, graphs, groups, scopes, nesting, modes."""

from __future__ import annotations

import errno
import os
import threading
import time

import distworker
import pytest
from distworker import Args, Config, Error, Worker, inout, inp, new, no_dep, out


def counter(worker):
    cell = worker.empty((), "int64")
    return cell, memoryview(cell)


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_tags_order_a_thousand_tasks(mode):
    with Worker(3, subs=2, mode=mode) as node:
        cell, value = counter(node)
        # value = 2 value + i in this order alone
        step = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(
            (), (2 * memoryview(args.tensor(0))[()] + args.int(0)) % 1000003))
        node.run(lambda orch: [orch.submit(step, inout(cell), i) for i in range(1000)])
        expected = 0
        for i in range(1000):
            expected = (2 * expected + i) % 1000003
        assert value[()] == expected


def test_run_gives_what_its_function_returns_and_passes_arguments():
    with Worker(3, subs=1) as node:
        assert node.run(lambda orch, a, b: (orch.sub_count, a, b), 4, "five") == (1, 4, "five")
        assert node.run(lambda orch: None) is None


def test_values_of_scalars_arrive():
    with Worker(3, subs=1) as node:
        result = node.empty(5, "float64")
        integers = node.empty(4, "uint64")

        @node.sub
        def read(args):
            values = memoryview(args.tensor(0))
            values[0], values[1], values[2] = args.float(0), args.int(1), args.scalar_count
            values[3], values[4] = args.tensor_count, args.float(-1)
            numbers = memoryview(args.tensor(1))
            numbers[0], numbers[1] = args.scalar(2), args.scalar(3)
            with pytest.raises(IndexError):
                args.int(5)

        node.run(lambda orch: orch.submit(read, out(result), 1.5, -7, 2**64 - 1, True, 0.25, inout(integers)))
        assert list(memoryview(result)) == [1.5, -7, 5, 2, 0.25]
        assert list(memoryview(integers))[:2] == [2**64 - 1, 1]


def test_arguments_that_make_no_sense_are_refused():
    with Worker(3, subs=1) as node:
        nothing = node.sub(lambda args: None)

        def orchestrate(orch):
            with pytest.raises(OverflowError, match="64 bits"):
                orch.submit(nothing, 2**64)
            with pytest.raises(TypeError, match="no tensor"):
                orch.submit(nothing, "text")
            with pytest.raises(TypeError, match="no Callable"):
                orch.submit(print)
            with pytest.raises(TypeError, match="no option 'color'"):
                orch.submit(nothing, color=3)
            with pytest.raises(ValueError, match="seconds"):
                orch.submit(nothing, timeout=-1)
            with pytest.raises(ValueError, match=r"Config\(block_dim=-1.*numbers should be 0"):
                orch.submit(nothing, config=Config(-1))
            with pytest.raises(Error) as caught:
                orch.submit(nothing, worker=7)
            assert caught.value.errno in (errno.EINVAL, errno.ENODEV)
            with pytest.raises(TypeError):
                orch.submit()

        node.run(orchestrate)
        with pytest.raises(TypeError):
            Worker(3, colour=1)
        with pytest.raises(Error) as caught:
            Worker(9)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(ValueError, match="process, thread"):
            Worker(3, mode="fork")


def test_private_memory_is_refused_with_the_way_out():
    with Worker(3, subs=1) as node:
        nothing = node.sub(lambda args: None)
        with pytest.raises(Error, match=r"worker\.share\(array\)") as caught:
            node.run(lambda orch: orch.submit(nothing, bytearray(100)))
        assert caught.value.errno == errno.EFAULT


def test_an_orchestrator_and_arguments_end_with_their_function():
    kept = []
    with Worker(3, subs=1, mode="thread") as node:
        keep = node.sub(lambda args: kept.append(args))
        node.run(lambda orch: kept.append(orch))
        with pytest.raises(RuntimeError, match="has returned"):
            kept[0].wait()
        node.run(lambda orch: orch.submit(keep, 1))
        with pytest.raises(RuntimeError, match="has returned"):
            kept[1].int(0)


def test_arguments_of_a_callable_are_read_only():
    with Worker(3, subs=1) as node:
        @node.sub
        def write(args):
            args.add(4)

        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit(write, 1))
        assert caught.value.errno == errno.EPERM


def test_an_output_is_allocated():
    with Worker(3, subs=2) as node:
        cell, value = counter(node)
        fill = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(slice(None), memoryview(bytes([3] * 8))))
        total = node.sub(lambda args: memoryview(args.tensor(1)).__setitem__((), sum(memoryview(args.tensor(0)))))

        def orchestrate(orch):
            made = orch.submit(fill, new(8, "uint8"))
            assert len(made.outputs) == 1 and made.outputs[0].shape == (8,)
            orch.submit(total, inp(made.outputs[0]), out(cell))

        node.run(orchestrate)
        assert value[()] == 24


def test_alloc_and_scopes():
    with Worker(3, subs=2) as node:
        cell, value = counter(node)
        put = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(0, args.int(0)))
        add = node.sub(lambda args: memoryview(args.tensor(1)).__setitem__(
            (), memoryview(args.tensor(1))[()] + memoryview(args.tensor(0))[0]))

        def orchestrate(orch):
            for i in range(20):
                with orch.scope():
                    between = orch.alloc(4, "int32")
                    orch.submit(put, out(between), i)
                    orch.submit(add, inp(between), inout(cell))
            with pytest.raises(Error):
                orch.scope_end()
                orch.scope_end()

        node.run(orchestrate)
        assert value[()] == sum(range(20))


def test_waits_tell_a_task_from_the_others():
    with Worker(3, subs=1) as node:
        good = node.sub(lambda args: None, name="good")

        @node.sub
        def bad(args):
            raise OSError(errno.ENOSPC, "disk full")

        def orchestrate(orch):
            failed = orch.submit(bad, name="writer")
            after = orch.submit(good, after=[failed])
            fine = orch.submit(good, after=())
            orch.wait_task(fine)
            with pytest.raises(Error) as own:
                orch.wait_task(failed)
            assert own.value.errno == errno.ENOSPC and "disk full" in own.value.cause
            with pytest.raises(Error) as skipped:
                orch.wait_task(after)
            assert skipped.value.errno == errno.ECANCELED and "writer" in skipped.value.text
            with pytest.raises(Error):
                orch.wait()
            with pytest.raises(Error):
                orch.wait_task(0)

        with pytest.raises(Error) as caught:
            node.run(orchestrate)
        assert caught.value.errno == errno.ENOSPC and caught.value.task == 1


def test_a_group_runs_at_the_same_time():
    with Worker(3, subs=3) as node:
        seats = node.empty(3, "int32")

        @node.sub
        def meet(args):
            seen = memoryview(args.tensor(0))
            seen[args.int(0)] = 1
            while not all(seen):  # ends only if all three run now
                pass

        node.run(lambda orch: orch.submit_group(meet, [(no_dep(seats), i) for i in range(3)]))
        assert list(memoryview(seats)) == [1, 1, 1]
        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit_group(meet, [(no_dep(seats), i) for i in range(4)]))
        assert caught.value.errno == errno.ENODEV


def test_args_objects_are_used_again():
    with Worker(3, subs=1) as node:
        cell, value = counter(node)
        add = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(
            (), memoryview(args.tensor(0))[()] + args.int(0)))
        args = Args(inout(cell), 5)
        args_of_group = Args()
        args_of_group.add_tensor(cell, distworker.INOUT)
        args_of_group.add(100)

        def orchestrate(orch):
            for _ in range(3):
                orch.submit(add, args)
            orch.submit_group(add, [args_of_group])

        node.run(orchestrate)
        assert value[()] == 115
        args.reset()
        assert args.tensor_count == args.scalar_count == 0


def tree(levels, mode="process"):
    root = Worker(4, mode=mode)
    nodes = [Worker(3, subs=2, mode=mode) for _ in range(levels)]
    return root, nodes, [root.add_child(node) for node in nodes]


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_a_nested_worker_has_its_own_orchestrator(mode):
    pod, nodes, ids = tree(2, mode)
    with pod:
        cells = pod.empty(2, "int64")
        values = memoryview(cells)
        add = pod.sub(lambda args: memoryview(args.tensor(0)).__setitem__(
            0, memoryview(args.tensor(0))[0] + args.int(0)))

        @pod.orch
        def part(orch, args):
            assert orch.sub_count == 2 and orch.worker_count == 0
            for i in range(args.int(0)):
                orch.submit(add, inout(args.tensor(0)), i)

        def orchestrate(orch):
            assert orch.worker_count == 2 and orch.sub_count == 0
            for id in ids:
                orch.submit(part, inout(cells[id:id + 1]), 10 + id, worker=id, config=Config(block_dim=3))

        pod.run(orchestrate)
        assert list(values) == [sum(range(10 + id)) for id in ids]


def test_a_config_reaches_the_nested_function():
    pod, _, _ = tree(1)
    with pod:
        cell, value = counter(pod)

        @pod.orch
        def read(orch, args):
            memoryview(args.tensor(0))[()] = orch.config.block_dim * 10 + orch.config.dump_tensor

        pod.run(lambda orch: orch.submit(read, out(cell), config=Config(7, dump_tensor=True)))
        assert value[()] == 71
        assert pod.run(lambda orch: orch.config, config=Config(5, 2, True)) == Config(5, 2, True)


def test_children_are_processes_or_threads():
    for mode in ("process", "thread"):
        with Worker(3, subs=1, mode=mode) as node:
            cell, value = counter(node)
            tell = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__((), os.getpid()))
            node.run(lambda orch: orch.submit(tell, out(cell)))
            assert (value[()] == os.getpid()) == (mode == "thread")


def test_runs_from_many_threads():
    with Worker(3, subs=2) as node:
        cells = node.empty(8, "int64")
        add = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(
            0, memoryview(args.tensor(0))[0] + args.int(0)))
        node.init()
        failures = []

        def work(i):
            try:
                for _ in range(20):
                    node.run(lambda orch: orch.submit(add, inout(cells[i:i + 1]), i + 1))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert list(memoryview(cells)) == [20 * (i + 1) for i in range(8)]


def test_a_run_within_an_orchestration_function():
    with Worker(3, subs=2) as node:
        cell, value = counter(node)
        add = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(
            (), memoryview(args.tensor(0))[()] + 1))

        def inner(orch):
            orch.submit(add, inout(cell))
            return "inner"

        assert node.run(lambda orch: node.run(inner)) == "inner"
        assert value[()] == 1


def test_counters_and_a_report():
    pod, nodes, _ = tree(1)
    with pod:
        sub = pod.sub(lambda args: None)
        part = pod.orch(lambda orch, args: [orch.submit(sub) for _ in range(10)] and None)
        pod.run(lambda orch: orch.submit(part))
        rows = {row.path: row for row in pod.stats()}
        assert set(rows) == {"pod0/node0", "pod0/node0/sub0", "pod0/node0/sub1"}
        assert rows["pod0/node0/sub0"].tasks_done + rows["pod0/node0/sub1"].tasks_done == 10
        assert rows["pod0/node0"].kind == "worker" and rows["pod0/node0"].alive
        assert pod.engine_stats().done == 1
        assert "pod0/node0/sub1" in pod.report()


def test_an_idle_tree_makes_no_wakeups():
    """Counted while this process works for itself."""
    with Worker(3, subs=2) as node:
        nothing = node.sub(lambda args: None)
        node.run(lambda orch: [orch.submit(nothing) for _ in range(10)] and None)
        # Children go to sleep by themselves, some time after their last task.
        while True:
            before = [(row.wakes, row.sleeps) for row in node.stats()]
            sum(range(3_000_000))
            if before == [(row.wakes, row.sleeps) for row in node.stats()]:
                break
        sum(range(3_000_000))
        assert before == [(row.wakes, row.sleeps) for row in node.stats()]


def test_the_tree_can_be_closed_twice_and_runs_no_more():
    node = Worker(3, subs=1)
    node.init()
    node.close()
    node.close()
    with pytest.raises(Error) as caught:
        node.run(lambda orch: None)
    assert caught.value.errno == errno.ENOTCONN


def test_versions_and_providers():
    assert distworker.version().count(".") == 2
    wanted = os.environ.get("DW_PROVIDER")
    assert distworker.provider().name == wanted or wanted is None
    assert distworker.provider().reason
    with Worker(3, subs=1) as node:
        node.init()
        assert node.engine_stats().provider == distworker.provider().name


def test_priorities():
    """A task holds the only sub; of those that wait behind it the highest priority goes first."""
    with Worker(3, subs=1, mailbox_depth=2) as node:
        order = node.empty(16, "int32")
        count = node.empty((), "int32")
        opened = node.empty((), "int32")

        def hold(args):
            while memoryview(args.tensor(0))[()] == 0:
                time.sleep(0.001)

        def record(args):
            place = memoryview(args.tensor(1))[()]
            memoryview(args.tensor(0))[place] = args.int(0)
            memoryview(args.tensor(1))[()] = place + 1

        hold, record = node.sub(hold), node.sub(record)

        def orchestrate(orch):
            orch.submit(hold, no_dep(opened))
            for number in range(-8, 8):
                orch.submit(record, no_dep(order), no_dep(count), number, priority=number)
            for wrong in (-9, 8, 2 ** 40):
                with pytest.raises(ValueError, match="should be from -8 to 7"):
                    orch.submit(record, no_dep(order), no_dep(count), 0, priority=wrong)
            memoryview(opened)[()] = 1

        node.run(orchestrate)
        done = list(memoryview(order))
        # The first one was in the worker's ring already.
        assert done == [-8] + list(range(7, -8, -1))
