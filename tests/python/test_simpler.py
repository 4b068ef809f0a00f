# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""distworker.simpler: thirteen tests for recursive Workers, then the rest of the interface.

Counters are four bytes of shared memory in a closure. Two sub workers that count at the same time do so under a lock.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import multiprocessing
import os
import struct

import late_functions
import pytest
from distworker import Error
from distworker.simpler import (INOUT, INPUT, NO_DEP, OUTPUT, CallConfig, ChipCallConfig, DistWorker, TaskArgs, Tensor,
                                Worker, read_args_from_blob)


class Counter:
    """Four bytes that every process forked from here shares."""

    def __init__(self):
        self.memory = mmap.mmap(-1, 4)
        self.lock = multiprocessing.get_context("fork").Lock()

    def add(self):
        with self.lock:
            struct.pack_into("i", self.memory, 0, self.value + 1)

    @property
    def value(self):
        return struct.unpack_from("i", self.memory, 0)[0]


# ------------------------------------------------------------ init and close


def test_l4_without_children():
    worker = Worker(4)
    worker.init()
    worker.close()


def test_l4_with_an_l3_child():
    worker = Worker(4)
    worker.add_worker(Worker(3, num_sub_workers=1))
    worker.init()
    worker.close()


def test_l4_as_a_context_manager():
    with Worker(4) as worker:
        worker.add_worker(Worker(3))
        worker.init()
    worker.close()


# ------------------------------------------------------ refusals of add_worker


def test_add_worker_below_level_4():
    with pytest.raises(RuntimeError, match="level >= 4"):
        Worker(3).add_worker(Worker(3))


def test_add_worker_after_init():
    worker = Worker(4)
    worker.init()
    with pytest.raises(RuntimeError, match="before init"):
        worker.add_worker(Worker(3))
    worker.close()


def test_add_worker_of_an_initialised_child():
    child = Worker(3)
    child.init()
    with pytest.raises(RuntimeError, match="must not be initialized"):
        Worker(4).add_worker(child)
    child.close()


# ----------------------------------------------------------------- dispatches


def l4_with_an_l3():
    """An L4 over an L3 with one sub that counts: tree, next-level id, counter."""
    counter = Counter()
    l3 = Worker(3, num_sub_workers=1)
    sub = l3.register(lambda args: counter.add())
    l4 = Worker(4)
    l4.add_worker(l3)
    orch = l4.register(lambda orch, args, config: orch.submit_sub(sub))
    l4.init()
    return l4, orch, counter


def test_l4_dispatches_to_l3_once():
    l4, l3_orch, counter = l4_with_an_l3()
    with l4:
        l4.run(lambda orch, args, config: orch.submit_next_level(l3_orch, TaskArgs(), ChipCallConfig()))
        assert counter.value == 1


def test_l4_dispatches_to_l3_three_times():
    l4, l3_orch, counter = l4_with_an_l3()
    with l4:
        l4.run(lambda orch, args, config: [orch.submit_next_level(l3_orch, TaskArgs(), ChipCallConfig())
                                           for _ in range(3)])
        assert counter.value == 3


def test_l4_has_a_sub_of_its_own_beside_the_l3():
    below, own = Counter(), Counter()
    l3 = Worker(3, num_sub_workers=1)
    l3_sub = l3.register(lambda args: below.add())
    with Worker(4, num_sub_workers=1) as l4:
        l4.add_worker(l3)
        l3_orch = l4.register(lambda orch, args, config: orch.submit_sub(l3_sub))
        l4_sub = l4.register(lambda args: own.add())
        assert (l3_orch, l4_sub) == (0, 1)
        l4.init()

        def orchestrate(orch, args, config):
            orch.submit_next_level(l3_orch, TaskArgs(), ChipCallConfig())
            orch.submit_sub(l4_sub)

        l4.run(orchestrate)
        assert (below.value, own.value) == (1, 1)


def test_five_runs_do_not_leak():
    l4, l3_orch, counter = l4_with_an_l3()
    with l4:
        counts = []
        for _ in range(5):
            l4.run(lambda orch, args, config: orch.submit_next_level(l3_orch, TaskArgs(), ChipCallConfig()))
            counts.append(len(os.listdir("/proc/self/fd")))
        assert counter.value == 5 and counts[1:] == counts[1:2] * 4


def test_an_l3_with_several_subs():
    counter = Counter()
    l3 = Worker(3, num_sub_workers=2)
    sub = l3.register(lambda args: counter.add())
    with Worker(4) as l4:
        l4.add_worker(l3)
        l3_orch = l4.register(lambda orch, args, config: [orch.submit_sub(sub) for _ in range(4)])
        l4.init()
        l4.run(lambda orch, args, config: orch.submit_next_level(l3_orch, TaskArgs(), ChipCallConfig()))
        assert counter.value == 4


def test_an_l3_has_its_own_orchestrator():
    """Two functions with the same id: the L4's is its orchestration, the L3's its sub."""
    counter = Counter()
    l3 = Worker(3, num_sub_workers=1)
    l3_sub = l3.register(lambda args: counter.add())
    with Worker(4) as l4:
        l4.add_worker(l3)
        workers = []

        def l3_orch(orch, args, config):
            assert orch._worker is l3 and not workers
            with orch.scope():
                orch.submit_sub(l3_sub)

        id = l4.register(l3_orch)
        assert id == l3_sub == 0
        l4.init()

        def orchestrate(orch, args, config):
            assert orch._worker is l4
            workers.append(l4)
            orch.submit_next_level(id, TaskArgs(), ChipCallConfig())

        # Started before the append: the child has an empty list.
        l4.run(lambda orch, args, config: None)
        l4.run(orchestrate)
        assert counter.value == 1


@pytest.mark.parametrize("level", [3, 4, 5])
def test_dist_worker_of_levels(level):
    engine = DistWorker(level, heap_ring_size=1 << 20)
    assert engine.level == level
    engine.close()
    engine.close()


# --------------------------------------------------------------- the interface


def test_register():
    worker = Worker(3)
    assert [worker.register(print) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="level"):
        Worker(2).register(print)
    worker.init()
    with pytest.raises(RuntimeError, match="before init"):
        worker.register(print)
    with pytest.raises(RuntimeError):
        worker.init()
    worker.close()
    with pytest.raises(RuntimeError, match="not initialized"):
        worker.run(print)
    with pytest.raises(TypeError, match="colour"):
        Worker(3, colour=1)


def test_init_forks_nothing_and_memory_from_before_the_first_run_is_shared():
    with Worker(3, num_sub_workers=1) as worker:
        memory = []
        sub = worker.register(lambda args: memory[0].__setitem__(0, 9))
        worker.init()
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            assert file.read() == ""
        memory.append(mmap.mmap(-1, 1))
        worker.run(lambda orch, args, config: orch.submit_sub(sub))
        assert memory[0][0] == 9


def test_run_passes_args_and_a_default_config_and_raises():
    with Worker(3) as worker:
        worker.init()
        seen = []
        args = TaskArgs()
        worker.run(lambda *given: seen.append(given[1:]), args, CallConfig(block_dim=3))
        worker.run(lambda *given: seen.append(given[1:]))
        assert seen[0] == (args, ChipCallConfig(3)) and seen[1] == (None, ChipCallConfig(24, 3, False, False))
        with pytest.raises(KeyError):
            worker.run(lambda orch, args, config: {}["nothing"])


def test_exceptions_of_children_are_raised():
    def fail(args):
        raise LookupError("in a child")

    with Worker(3, num_sub_workers=1) as worker:
        sub = worker.register(fail)
        worker.init()
        with pytest.raises(Error, match="LookupError: in a child"):
            worker.run(lambda orch, args, config: orch.submit_sub(sub))


def test_task_args():
    args = TaskArgs()
    args.add_tensor("a")
    args.add_tensor("b", OUTPUT)
    args.add_scalar(7)
    args.add_scalar(-1)
    with pytest.raises(RuntimeError, match="before scalars"):
        args.add_tensor("c")
    assert (args.tensor(1), args.tag(0), args.tag(1), args.scalar(0), args.scalar(1)) == ("b", INPUT, OUTPUT, 7, 2**64 - 1)
    args.set_tag(0, NO_DEP)
    assert (args.tag(0), args.tensor_count(), args.scalar_count(), len(args)) == (NO_DEP, 2, 2, 4)
    args.clear()
    assert len(args) == 0
    with pytest.raises(OverflowError):
        args.add_scalar(2**64)


def test_tensors_groups_and_scopes():
    with Worker(4, num_sub_workers=2) as l4:
        l3 = Worker(3, num_sub_workers=1)
        l4.add_worker(l3)
        l3_put = l3.register(lambda args: memoryview(args.tensor(0)).__setitem__(0, args.scalar(0)))

        def below(orch, args, config):
            assert config.block_dim == 5 and args.tag(0) == INPUT
            orch.submit_sub(l3_put, filled(args.tensor(0), args.scalar(0), INOUT))

        results = mmap.mmap(-1, 8)
        put = l4.register(lambda args: memoryview(args.tensor(0)).__setitem__(0, args.scalar(0)))
        keep = l4.register(lambda args: struct.pack_into("i", results, 4 * args.scalar(0), memoryview(args.tensor(0))[0]))
        orch_id = l4.register(below)
        l4.init()

        def filled(tensor, scalar, tag=INPUT):
            args = TaskArgs()
            args.add_tensor(tensor, tag)
            args.add_scalar(scalar)
            return args

        def orchestrate(orch, args, config):
            with orch.scope():
                one = orch.alloc((4,), "int32")
                assert isinstance(one, Tensor)
                slot = orch.submit_next_level(orch_id, filled(one, 11, OUTPUT), ChipCallConfig(block_dim=5)).task_slot
                assert slot > 0
                orch.submit_sub(keep, filled(one, 0))
            orch.scope_begin()
            two = orch.alloc((4,), "int32")
            orch.submit_next_level_group(orch_id, [filled(two, 22, OUTPUT)], ChipCallConfig(5))
            orch.submit_sub_group(put, [filled(orch.alloc((1,), "int32"), i, OUTPUT) for i in range(2)])
            orch.submit_sub(keep, filled(two, 1))
            orch.scope_end()

        l4.run(orchestrate)
        assert struct.unpack_from("2i", results) == (11, 22)


def test_blobs():
    values = (ctypes.c_float * 6)()
    blob = struct.pack("=ii", 1, 2) + struct.pack("=Q5IIB7x", ctypes.addressof(values), 2, 3, 0, 0, 0, 2, 0) + \
        struct.pack("=QQ", 5, 2**64 - 1)
    buffer = ctypes.create_string_buffer(blob)
    args = read_args_from_blob(ctypes.addressof(buffer))
    assert (args.tensor_count(), args.scalar(0), args.scalar(1)) == (1, 5, 2**64 - 1)
    assert args.tensor(0).shape == (2, 3) and args.tensor(0).dtype == "float32"
    memoryview(args.tensor(0))[1, 2] = 4.0
    assert values[5] == 4.0
    for place, value, number in ((0, struct.pack("=i", -1), errno.EBADMSG), (4, struct.pack("=i", -1), errno.EBADMSG),
                                 (8 + 28, struct.pack("=I", 6), errno.EINVAL), (8 + 32, b"\x63", errno.EINVAL)):
        wrong = ctypes.create_string_buffer(blob[:place] + value + blob[place + len(value):], len(blob))
        with pytest.raises(Error) as caught:
            read_args_from_blob(ctypes.addressof(wrong))
        assert caught.value.errno == number


# A task for a DistWorker below a Worker reaches its callback, with the arguments as a blob.
@pytest.mark.parametrize("mode", ["thread", "process"])
def test_run_callbacks(mode):
    engine, plain = DistWorker(3, heap_ring_size=1 << 20), DistWorker(3, heap_ring_size=1 << 20)
    where = mmap.mmap(-1, 32)

    def arrived(id, address, config):
        args = read_args_from_blob(address)
        assert args.tag(0) == INPUT
        memoryview(args.tensor(0))[1] = args.scalar(0)
        struct.pack_into("4q", where, 0, id, os.getpid(), config.block_dim, struct.unpack_from("q", where, 24)[0] + 1)

    engine.set_run_callback(arrived)
    with Worker(4, eager_init=True, mode=mode) as l4:
        assert (l4.add_worker(engine), l4.add_worker(plain)) == (0, 1)
        l4.register(lambda orch, args, config: None)
        called = l4.register(lambda orch, args, config: 1 / 0)  # the callback takes its place
        l4.init()
        late = l4.register(late_functions.orch_of_simpler)
        cell = l4._core.empty(2, "int64")
        args = TaskArgs()
        args.add_tensor(cell, OUTPUT)
        args.add_scalar(41)
        for id in (called, late):
            l4.run(lambda orch, _, config: orch.submit_next_level(id, args, CallConfig(block_dim=5), worker=0))
            got, pid, block_dim, calls = struct.unpack("4q", where)
            assert (got, block_dim, memoryview(cell)[1]) == (id, 5, 41)
            assert (pid == os.getpid()) == (mode == "thread")
        assert calls == 2
        with pytest.raises(Error, match="has no run callback"):
            l4.run(lambda orch, _, config: orch.submit_next_level(called, args, CallConfig(), worker=1))
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        Worker(4).add_worker(engine)


# ------------------------------------------------------------ present-day names


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_present_day_manners(mode):
    with Worker(4, num_sub_workers=1, eager_init=True, mode=mode) as l4:
        nodes = [Worker(3, num_sub_workers=1, mode=mode) for _ in range(2)]
        ids = [l4.add_worker(node) for node in nodes]
        assert ids == [0, 1]
        subs = [node.register(late_functions.sub_of_simpler) for node in nodes]

        def below(orch, args, config):
            inner = TaskArgs()
            inner.add_tensor(args.tensor(0), INOUT)
            inner.add_scalar(100 + nodes.index(orch._worker))
            orch.submit_sub(subs[0], inner)

        orch_id = l4.register(below)
        l4.init()
        late = l4.register(late_functions.orch_of_simpler)
        late_sub = l4.register(late_functions.sub_of_simpler)
        with pytest.raises(ValueError, match="before init"):
            l4.register(lambda args: None)
        cells = [l4._core.empty((), "int64") for _ in range(4)]

        def args_of(i, *scalars):
            args = TaskArgs()
            args.add_tensor(cells[i], OUTPUT)
            for scalar in scalars:
                args.add_scalar(scalar)
            return args

        def orchestrate(orch, args, config):
            for i in ids:
                orch.submit_next_level(orch_id, args_of(i), CallConfig(), worker=i)
            orch.submit_next_level(late, args_of(2), CallConfig(block_dim=9), worker=1)
            orch.submit_sub(late_sub, args_of(3, 44))

        l4.run(orchestrate)
        assert [memoryview(cell)[()] for cell in cells] == [100, 101, 9, 44]
