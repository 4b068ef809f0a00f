# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Chips: images, memory that stays, copies as tasks, kept buffers, drivers and devices."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import subprocess
import sys

import distworker
import numpy
import pytest
import signals
from distworker import Args, Config, Error, PtoCore, Worker, inout, inp, new, no_dep, out

BUILD = pathlib.Path(os.environ.get("B", "build")).resolve()
SYMBOLS = BUILD / "tests/runtime/fixtures/symbols.so"
SIGNATURE = [1, 2, 0]  # of kernel_scale: out[i] = in[i] * scalar


def with_scale(node):
    return node.image("sim", "kernel_scale", path=str(SYMBOLS), signature=SIGNATURE)


def chip_stats(node, path="node0/chip0"):
    (row,) = [row for row in node.stats() if row.path == path]
    return row


def test_an_image_on_a_chip():
    with Worker(3, chips=["sim"]) as node:
        given, result = node.empty(64, "float32"), node.empty(64, "float32")
        memoryview(given)[3] = 2.0
        node.init()
        scale = node.image("sim", "kernel_scale", path=str(SYMBOLS), signature=[1, 2, 0])
        node.run(lambda orch: orch.submit(scale, inp(given), out(result), 21, config=Config(4), worker=node.chip_id(0)))
        assert memoryview(result)[3] == 42.0 and scale.kind == "image"
        with pytest.raises(Error):
            node.image("sim", "kernel_scale", path="/no/such/file")


def test_memory_of_a_chip():
    with Worker(3, chips=["sim"]) as node:
        given, result = node.empty(64, "float32"), node.empty(64, "float32")
        memoryview(given)[3] = 2.0
        node.init()
        scale = node.image("sim", "kernel_scale", path=str(SYMBOLS), signature=[1, 2, 0])
        chip = node.chip_id(0)

        def orchestrate(orch):
            between = orch.chip_alloc(chip, 64, "float32")
            assert between.shape == (64,) and between.dtype == "float32" and between.nbytes == 256
            orch.submit(scale, inp(given), out(between), 3, worker=chip)
            orch.submit(scale, inp(between), out(result), 7, worker=chip)
            orch.chip_free(between)
            with pytest.raises(Error) as caught:
                orch.chip_free(between)
            assert caught.value.errno == errno.ENOENT
            for worker, shape in ((chip + 1, 64), (chip, (2**31, 2**31))):
                with pytest.raises(Error):
                    orch.chip_alloc(worker, shape, "float32")
            with pytest.raises(TypeError, match="chip_alloc"):
                orch.chip_free(memoryview(given))

        node.run(orchestrate)
        assert memoryview(result)[3] == 42.0


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_memory_that_stays_is_copied_once(mode):
    with Worker(3, chips=["sim"], mode=mode) as node:
        weights, result = node.share(numpy.arange(1024, dtype="float32")), node.empty(1024)
        node.init()
        scale, chip = with_scale(node), node.chip_id(0)
        before = chip_stats(node)
        resident = node.chip_memory(chip, (4, 256))
        assert resident.shape == (4, 256) and resident.dtype == "float32" and resident.nbytes == 4096
        copied = node.run(lambda orch: orch.submit_copy(resident, weights, name="upload", timeout=60.0, after=()))
        assert copied.outputs == ()
        for i in range(20):
            node.run(lambda orch: orch.submit(scale, inp(resident.view(shape=1024)), out(result), i, worker=chip))
            assert numpy.asarray(result)[1023] == 1023 * i
        after = chip_stats(node)
        assert after.copied_in - before.copied_in == 4096 and after.copied_out - before.copied_out == 20 * 4096
        assert after.memory_bytes > after.memory_used >= before.memory_used + 4096
        node.chip_memory_free(resident)
        with pytest.raises(Error) as caught:
            node.chip_memory_free(resident)
        assert caught.value.errno == errno.ENOENT
        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit(scale, inp(resident), out(result), 1, worker=chip))
        assert caught.value.errno == errno.EFAULT


def test_what_a_chip_has_is_not_copied_again():
    with Worker(3, chips=["sim"]) as node:
        weights, results = node.share(numpy.arange(1024, dtype="float32")), [node.empty(1024) for _ in range(5)]
        node.init()
        scale, before = with_scale(node), chip_stats(node)

        def orchestrate(orch):
            for i, result in enumerate(results):
                orch.submit(scale, inp(weights), out(result), i)

        node.run(orchestrate)
        after = chip_stats(node)
        assert after.copied_in - before.copied_in == 4096 and after.saved - before.saved == 4 * 4096


def test_copies_are_ordered_as_tasks_are():
    """Copied to a chip, scaled there, copied to the other chip, scaled there, copied back: ordered only by the tags and the copies."""
    with Worker(3, chips=["sim", distworker.Chip("sim", 1)]) as node:
        given, result = node.empty(64), node.empty(64)
        node.init()
        scale = with_scale(node)
        ids = [node.chip_id(i) for i in range(2)]
        first, second = ([node.chip_memory(id, 64) for _ in range(2)] for id in ids)

        def orchestrate(orch):
            orch.submit_copy(first[0], given)
            orch.submit(scale, inp(first[0]), out(first[1]), 3, worker=ids[0])
            orch.submit_copy(second[0], first[1])
            orch.submit(scale, inp(second[0]), out(second[1]), 5, worker=ids[1])
            down = orch.submit_copy(new(64), second[1])  # memory of the heap
            (between,) = down.outputs
            orch.submit(scale, inp(between), out(result), 2)

        for i in range(10):
            numpy.asarray(given)[:] = i
            node.run(orchestrate)
            assert (numpy.asarray(result) == 30 * i).all()


def test_a_buffer_that_is_copied_stays_until_the_run_has_ended():
    with Worker(3, chips=["sim"]) as node:
        rows = node.empty((100, 256))
        node.init()
        there = node.chip_memory(0, (100, 256))

        def orchestrate(orch):
            for i in range(100):
                part = node.share(numpy.full(256, i, "float32"))
                orch.submit_copy(there[i:i + 1], part)
                del part  # its address must not be given out again yet
            orch.submit_copy(rows, there)

        node.run(orchestrate)
        assert (numpy.asarray(rows).T == range(100)).all()


def test_a_copy_that_blocks_lets_handlers_run():
    """The window of the run is full until the handler has run, in the very call that waits for room."""
    pid = os.getpid()
    with Worker(3, subs=1, chips=["sim"]) as node:
        words, host = node.empty((2,), "int64"), node.empty(1)
        until_handled = node.sub(lambda args: signals.send_until_told(args, pid), name="until_handled")
        node.init()
        there = node.chip_memory(0, 1)

        def orchestrate(orch):
            orch.submit(until_handled, no_dep(words), out(host))
            for _ in range(9000):
                orch.submit_copy(there, host)

        old = signal.signal(signal.SIGUSR1, signals.tell_when(words, lambda: node.engine_stats().submitted >= 8192))
        try:
            node.run(orchestrate)
        finally:
            signal.signal(signal.SIGUSR1, old)
        assert node.engine_stats().done == 9001


def test_calls_in_a_fork_of_the_user_are_refused():
    with Worker(3, chips=["sim"]) as node:
        tensor = node.empty(64)
        node.init()
        there = node.chip_memory(0, 64)
        pid = os.fork()
        if pid == 0:
            status = 0
            for call in (lambda: node.write(tensor, bytes(256)), lambda: node.read(tensor),
                         lambda: node.chip_memory(0, 64), lambda: node.chip_memory_free(there)):
                try:
                    call()
                    status = 1
                except Error as error:
                    status |= 2 * (error.errno != errno.EBADFD)
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        node.write(tensor, bytes(256))
        node.chip_memory_free(there)


def test_copies_that_make_no_sense_are_refused():
    with Worker(3, subs=1, chips=["sim"]) as node:
        host = node.empty(64)
        nothing = node.sub(lambda args: None)
        node.init()
        there = node.chip_memory(node.chip_id(0), 64)

        def orchestrate(orch):
            with pytest.raises(Error, match="device memory of node0/chip0") as caught:
                orch.submit(nothing, inp(there))
            assert caught.value.errno == errno.EINVAL
            for to, source, number in ((host, node.empty(64), errno.EINVAL), (there, host[:3], errno.EINVAL),
                                       (there[1:], there[:63], errno.EINVAL), (there, numpy.zeros(64, "f4"), errno.EFAULT)):
                with pytest.raises(Error) as caught:
                    orch.submit_copy(to, source)
                assert caught.value.errno == number
            for option in ({"worker": 0}, {"config": Config(1)}, {"colour": 1}):
                with pytest.raises(TypeError, match="no option"):
                    orch.submit_copy(there, host, **option)
            with pytest.raises(TypeError, match="no tensor"):
                orch.submit_copy("text", host)
            for call, given in ((orch.chip_memory_free, host.view()), (orch.chip_free, there)):
                with pytest.raises(Error) as caught:
                    call(given)
                assert caught.value.errno == errno.ENOENT
            with pytest.raises(TypeError, match="chip_memory"):
                orch.chip_memory_free(3)

        node.run(orchestrate)
        for worker, shape, number in ((7, 64, errno.EINVAL), (node.chip_id(0), 0, errno.EINVAL),
                                      (node.chip_id(0), (2**31, 2**20), errno.ENOMEM)):
            with pytest.raises(Error) as caught:
                node.chip_memory(worker, shape)
            assert caught.value.errno == number
    with pytest.raises(Error) as caught:
        node.chip_memory(0, 64)
    assert caught.value.errno == errno.ENOTCONN


def test_an_orchestrator_makes_memory_that_outlives_its_run():
    with Worker(3, chips=["sim"]) as node:
        result = node.empty(64)
        kept = []

        def make(orch):
            kept.append(orch.chip_memory(worker=0, shape=64, dtype="float32"))
            orch.submit_copy(kept[0], node.share(numpy.full(64, 7, "float32")))

        node.run(make)
        node.run(lambda orch: orch.submit_copy(result, kept[0]))
        assert (numpy.asarray(result) == 7).all()
        node.run(lambda orch: orch.chip_memory_free(kept[0]))


def test_a_nested_worker_has_the_memory_of_its_chips_to_itself():
    with Worker(4) as pod:
        pod.add_child(Worker(3, chips=["sim"]))
        given, result = pod.share(numpy.full(64, 3, "float32")), pod.empty(64)
        kept = []

        @pod.orch
        def upload(orch, args):
            kept.append(orch.chip_memory(0, 64))
            orch.submit_copy(kept[0], args.tensor(0))

        @pod.orch
        def download(orch, args):
            orch.submit_copy(args.tensor(0), kept[0])
            orch.wait()
            orch.chip_memory_free(kept.pop())

        pod.run(lambda orch: orch.submit(upload, inp(given)))
        pod.run(lambda orch: orch.submit(download, out(result)))
        assert kept == [] and (numpy.asarray(result) == 3).all()


def test_memory_of_a_dead_chip_is_lost_by_name():
    with Worker(3, chips=["sim"], restart=True) as node:
        host = node.empty(64)
        node.init()
        there = node.chip_memory(0, 64)
        os.kill(chip_stats(node).pid, signal.SIGKILL)
        again = node.chip_memory(0, 64)  # waits for the replacement
        with pytest.raises(Error, match="lost: killed by SIGKILL") as caught:
            node.run(lambda orch: orch.submit_copy(host, there))
        assert caught.value.errno == errno.EFAULT and "node0/chip0" in caught.value.text
        node.run(lambda orch: orch.submit_copy(host, again))
        node.chip_memory_free(there)
        node.chip_memory_free(again)


def check_no_views(tensor):
    """Each way to the bytes says which other there is."""
    for way in (memoryview, numpy.asarray, numpy.array, numpy.from_dlpack, lambda t: t.__dlpack_device__()):
        with pytest.raises(BufferError, match="to it and from it"):
            way(tensor)
    assert not hasattr(tensor, "__array_interface__")


def test_memory_of_a_chip_has_no_views():
    """A view was a crash."""
    with Worker(3, chips=["sim"]) as node:
        node.init()
        there = node.chip_memory(0, (4, 16))
        for tensor in (there, there[1:2], there.view("int32"), Args(inout(there)).tensor(0)):
            assert tensor.address >= there.address
            check_no_views(tensor)
        node.run(lambda orch: check_no_views(orch.chip_alloc(0, 64)))


# ---------------------------------------------------------------- kept buffers


@pytest.mark.parametrize("kept", [False, True])
def test_a_kept_buffer_is_copied_to_a_chip_once(kept):
    weights = numpy.arange(1024, dtype="float32")
    with Worker(3, chips=["sim"]) as node:
        held, result = node.share(weights, kept=kept), node.empty(1024)
        node.init()
        scale = with_scale(node)
        before = chip_stats(node).copied_in

        def step(factor):
            node.run(lambda orch: orch.submit(scale, inp(held), out(result), factor))
            assert (numpy.asarray(result) == node_weights * factor).all()

        node_weights = weights
        for i in range(5):
            step(i)
        assert chip_stats(node).copied_in - before == (4096 if kept else 5 * 4096)
        assert chip_stats(node).saved == (4 * 4096 if kept else 0)
        # The host's write is seen on the chip, too.
        node_weights = weights + 1
        node.write(held, node_weights)
        step(3)
        step(4)
        assert chip_stats(node).copied_in - before == (2 * 4096 if kept else 7 * 4096)


def test_a_kept_buffer_has_no_views_but_in_tasks():
    with Worker(3, subs=1) as node:
        held = node.empty((2, 3), "int64", kept=True)
        for tensor in (held, held[1:], held.view("int32", 12), Args(inp(held)).tensor(0)):
            check_no_views(tensor)

        @node.sub
        def add(args):
            numpy.asarray(args.tensor(0))[...] += args.int(0)

        for i in range(4):
            node.run(lambda orch: orch.submit(add, inout(held), i))
        values = numpy.zeros((2, 3), "int64")
        assert node.read(held, into=values) is values and (values == 6).all()
        assert node.read(held[1:]) == (numpy.full(3, 6, "int64")).tobytes()
        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit(add, no_dep(held), 1))
        assert caught.value.errno == errno.EINVAL


def test_writes_and_reads():
    with Worker(3, subs=1) as node:
        tensor, flag = node.empty((4, 4), "float32"), node.empty((), "int64")
        source = numpy.arange(16, dtype="float32").reshape(4, 4)
        node.write(tensor, source)
        node.write(tensor[2:3], b"\0" * 16)
        source[2] = 0
        assert (numpy.asarray(tensor) == source).all() and node.read(tensor) == source.tobytes()
        node.write(numpy.asarray(tensor)[1], source[3])
        assert (numpy.asarray(tensor)[1] == source[3]).all()
        node.write(node.empty(0), b"")
        assert node.read(node.empty((0, 3))) == b""
        for wrong in (b"123", source[:3]):
            with pytest.raises(ValueError, match="tensor has 64 bytes"):
                node.write(tensor, wrong)
            with pytest.raises(ValueError, match="tensor has 64 bytes"):
                node.read(tensor, into=bytearray(wrong))
        with pytest.raises(BufferError):
            node.read(tensor, into=bytes(64))
        with pytest.raises((BufferError, ValueError)):
            node.write(tensor, source.T)
        for call in (lambda: node.write(bytearray(64), source), lambda: node.read(bytearray(64))):
            with pytest.raises(Error) as caught:
                call()
            assert caught.value.errno == errno.EFAULT

        @node.sub
        def wait_for_flag(args):
            while not memoryview(args.tensor(1))[()]:
                pass

        run = node.start(lambda orch: orch.submit(wait_for_flag, inp(tensor), no_dep(flag)) and orch.wait())
        while not node.engine_stats().submitted:
            pass
        with pytest.raises(Error, match="have not ended") as caught:
            node.write(tensor, source)
        assert caught.value.errno == errno.EBUSY
        assert node.read(tensor)[:8] == source.tobytes()[:8]  # the task only reads
        memoryview(flag)[()] = 1
        run.wait()
        node.write(tensor, source)


# --------------------------------------------------------- drivers and devices


def test_drivers_and_devices():
    """Runs in another process, which makes no Workers."""
    assert "sim" in distworker.chip_drivers() and distworker.chip_drivers() == sorted(distworker.chip_drivers())
    program = """
import distworker, errno
driver = distworker.chip_driver("sim")
assert driver.name == "sim" and driver.version and driver.path.endswith("libdistworker-chip-sim.so"), driver
devices = distworker.chip_devices("sim")
assert devices and devices[0].cores > 0 and devices[0].memory_bytes > 0 and devices[0].name, devices
for call in (distworker.chip_driver, distworker.chip_devices):
    try:
        call("no-such-driver")
    except distworker.Error as error:
        assert error.errno == errno.ENOENT, error
    else:
        raise AssertionError
"""
    subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", program], check=True)


def test_images_of_pto():
    data = SYMBOLS.read_bytes()

    def build(entry="symbol_add", function=0, signature=(1, 2, 0), **how):
        return distworker.pto_image(data, entry, signature=signature, cores=[PtoCore(function, b"x" * 600, [1, 2])], **how)

    image = build()
    assert isinstance(image, bytes) and len(image) > len(data)
    assert build(config_entry="symbol_orch") != image
    for options, number, text in (({"entry": "none"}, errno.ESRCH, "none"), ({"function": 1024}, errno.E2BIG, "1024"),
                                  ({"function": -1}, errno.EINVAL, "-1"), ({"signature": [9]}, errno.EINVAL, "9")):
        with pytest.raises(Error, match=text) as caught:
            build(**options)
        assert caught.value.errno == number
    with pytest.raises(Error) as caught:
        distworker.pto_image(b"no object", "entry", signature=[], cores=[])
    assert caught.value.errno in (errno.ELIBBAD, errno.EINVAL)
    with pytest.raises(TypeError):
        build(signature="text")
