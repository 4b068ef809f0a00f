# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Tensors as views: buffer protocol, numpy, DLPack; the life of buffers."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import sys

import distworker
import numpy
import pytest
from distworker import Error, Worker, inout, inp, out

NUMPY = ["float32", "float16", "int32", "int16", "int8", "uint8", "int64", "uint64", "float64", "uint16", "uint32", "bool"]


@pytest.fixture
def node():
    with Worker(3, subs=1) as worker:
        yield worker


@pytest.mark.parametrize("dtype", NUMPY)
def test_numpy_views_share_the_memory(node, dtype):
    tensor = node.empty((2, 3), dtype)
    view = numpy.asarray(tensor)
    assert view.shape == (2, 3) and view.dtype == numpy.dtype(dtype)
    assert view.__array_interface__["data"][0] == tensor.address
    view[1, 2] = 1
    assert numpy.asarray(memoryview(tensor))[1, 2] == 1
    interface = tensor.__array_interface__
    holder = type("Holder", (), {"__array_interface__": interface})()
    assert numpy.asarray(holder).dtype == numpy.dtype(dtype)
    if dtype != "bool":  # numpy reads it from version 2 on
        packed = numpy.from_dlpack(tensor)
        assert packed.shape == (2, 3) and packed.dtype == numpy.dtype(dtype)
        assert packed.__array_interface__["data"][0] == tensor.address
    assert tensor.nbytes == view.nbytes and tensor.ndim == 2 and tensor.dtype == dtype


def test_names_of_types(node):
    for given, name in ((numpy.float32, "float32"), (numpy.dtype("int16"), "int16"), (float, "float64"), (int, "int64"),
                        (bool, "bool"), ("bfloat16", "bfloat16"), (5, "uint8")):
        assert node.empty(2, given).dtype == name
    for given in ("float8", object(), complex, -1, 9999, None):
        # The text was empty.
        with pytest.raises(TypeError, match="is no dtype"):
            node.empty(2, given)


def test_bfloat16_goes_through_dlpack_and_views(node):
    tensor = node.empty((4,), "bfloat16")
    # It was an array of one object.
    with pytest.raises(BufferError, match="DLPack"):
        numpy.asarray(tensor)
    with pytest.raises(BufferError, match="DLPack"):
        memoryview(tensor)
    with pytest.raises(AttributeError):
        tensor.__array_interface__
    assert numpy.asarray(tensor.view("uint16")).shape == (4,)
    assert tensor.__dlpack__() is not None


def test_shapes(node):
    assert node.empty((), "int8").shape == ()
    assert node.empty(7).shape == (7,)
    assert node.empty([1, 2, 3, 4, 5]).shape == (1, 2, 3, 4, 5)
    assert node.empty((0, 3)).nbytes == 0
    for shape in ((1,) * 6, (-1,), 2**32, "ab", None):
        with pytest.raises((ValueError, TypeError, OverflowError)):
            node.empty(shape)
    with pytest.raises(Error) as caught:
        node.empty((2**31, 2**31))
    assert caught.value.errno in (errno.ENOMEM, errno.EINVAL)


def test_slices_and_views(node):
    tensor = node.empty((6, 2), "int32")
    numpy.asarray(tensor)[:] = numpy.arange(12).reshape(6, 2)
    assert numpy.asarray(tensor[2:4]).tolist() == [[4, 5], [6, 7]]
    assert tensor[-1:].address == tensor.address + 40 and len(tensor) == 6
    assert numpy.asarray(tensor.view(shape=(12,))).tolist() == list(range(12))
    assert tensor.view("int16", (24,)).dtype == "int16"
    with pytest.raises(ValueError, match="bytes"):
        tensor.view("int64")
    with pytest.raises(ValueError, match="step 1"):
        tensor[::2]
    with pytest.raises(TypeError, match="asarray"):
        tensor[0]
    with pytest.raises(TypeError):
        len(node.empty(()))


def test_arrays_that_lie_in_the_arena_are_arguments(node):
    array = numpy.asarray(node.empty((4, 4), "float64"))
    scale = node.sub(lambda args: numpy.multiply(numpy.asarray(args.tensor(0)), args.float(0),
                                                 out=numpy.asarray(args.tensor(0))))
    array[:] = 1

    class Packed:
        """What torch's tensors offer."""

        def __dlpack__(self):
            return array[3:].__dlpack__()

        def __dlpack_device__(self):
            return (1, 0)

    def orchestrate(orch):
        orch.submit(scale, inout(array[1:3]), 2.0)
        orch.submit(scale, inout(memoryview(array[2:3])), 3.0)
        orch.submit(scale, inout(Packed()), 7.0)
        with pytest.raises((BufferError, ValueError)):
            orch.submit(scale, inout(array[:, 1]), 2.0)
        with pytest.raises(TypeError):
            orch.submit(scale, inout(array.view(complex)), 2.0)

    node.run(orchestrate)
    assert array[:, 0].tolist() == [1, 2, 6, 7]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_torch_views_share_the_memory(node, dtype):
    torch = pytest.importorskip("torch")
    tensor = node.empty((4, 4), dtype)
    view = torch.from_dlpack(tensor)
    assert view.shape == (4, 4) and view.dtype == getattr(torch, dtype) and view.data_ptr() == tensor.address

    @node.sub
    def fill(args):
        torch.from_dlpack(args.tensor(0)).fill_(args.int(0))

    def orchestrate(orch):
        orch.submit(fill, out(tensor), 2)
        orch.submit(fill, out(view[2:]), 3)

    node.run(orchestrate)
    del tensor
    assert view.tolist() == [[2] * 4] * 2 + [[3] * 4] * 2


def test_share_copies_an_array_into_the_tree(node):
    array = numpy.arange(12, dtype="int16").reshape(3, 4)
    for given in (array, array[:, ::2], numpy.float64(2.5), numpy.zeros((0, 3)), b"bytes"):
        tensor = node.share(given)
        assert (numpy.asarray(tensor) == numpy.asarray(memoryview(given))).all()
    with pytest.raises(TypeError):
        node.share(numpy.zeros(3, complex))


def test_a_view_keeps_its_memory(node):
    view = numpy.asarray(node.empty(1000, "int64"))
    view[:] = 7
    others = [node.empty(1000, "int64") for _ in range(50)]
    gc.collect()
    assert (view == 7).all() and len(others) == 50


def test_views_outlive_the_tree():
    with Worker(3, subs=1) as node:
        view = numpy.asarray(node.empty(10, "int64"))
        fill = node.sub(lambda args: numpy.asarray(args.tensor(0)).fill(3))
        node.run(lambda orch: orch.submit(fill, out(view)))
    del node
    gc.collect()
    assert view.sum() == 30


def test_memory_comes_back(node):
    """The arena has room for only a few of these."""
    with Worker(3, subs=1, arena_bytes=256 << 20, heap_ring_bytes=1 << 20) as small:
        for _ in range(100):
            small.empty(64 << 20, "uint8")


def test_a_submitted_buffer_stays_until_the_run_has_ended():
    with Worker(3, subs=1) as node:
        total = node.empty((), "int64")
        add = node.sub(lambda args: memoryview(args.tensor(1)).__setitem__(
            (), memoryview(args.tensor(1))[()] + sum(memoryview(args.tensor(0)))))

        def orchestrate(orch):
            for i in range(200):
                part = node.empty(16, "int32")
                memoryview(part)[0] = i
                orch.submit(add, inp(part), inout(total))
                del part  # the address must not be given out again yet

        node.run(orchestrate)
        assert memoryview(total)[()] == sum(range(200))


def test_registered_memory(node):
    shared = mmap.mmap(-1, 8192)
    node.register_buffer(shared)
    put = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(5, 99))
    node.run(lambda orch: orch.submit(put, inout(shared)))
    assert shared[5] == 99
    with pytest.raises(Error) as caught:
        node.register_buffer(mmap.mmap(-1, 4096))
    assert caught.value.errno == errno.EBUSY


def test_dlpack_capsules_are_freed_in_any_state(node):
    tensor = node.empty(4, "int32")
    before = sys.getrefcount(tensor)
    capsule = tensor.__dlpack__(stream=None, max_version=(1, 0))
    assert sys.getrefcount(tensor) == before + 1
    del capsule
    assert sys.getrefcount(tensor) == before
    array = numpy.from_dlpack(tensor)
    del array
    assert sys.getrefcount(tensor) == before
    with pytest.raises(BufferError):
        tensor.__dlpack__(copy=True)


def test_a_buffer_is_zeroed_also_when_it_was_used_before(node):
    for _ in range(5):
        buffer = node.buffer(1 << 16)
        assert not numpy.asarray(buffer).any()
        ctypes.memset(buffer.address, 255, 1 << 16)
        del buffer


def test_the_package_needs_no_numpy():
    import subprocess
    code = "import sys, distworker, distworker.simpler; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert distworker.__doc__
