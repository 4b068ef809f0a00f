# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Functions before and after init, symbols, images."""

from __future__ import annotations

import errno
import os
import pathlib

import late_functions
import pytest
from distworker import Error, Worker, function, inout, out

BUILD = pathlib.Path(os.environ.get("B", "build")).resolve()
SYMBOLS = BUILD / "tests/runtime/fixtures/symbols.so"


@pytest.fixture
def node():
    with Worker(3, subs=2) as worker:
        worker.cell = worker.empty((), "int64")
        yield worker


def value(node):
    return memoryview(node.cell)[()]


def test_names(node):
    first, second = node.sub(lambda args: None), node.sub(lambda args: None)
    assert first.handle != second.handle and second.name == first.name + "#2"
    named = node.sub(lambda args: None, name="one")
    with pytest.raises(Error) as caught:
        node.sub(lambda args: None, name="one")
    assert caught.value.errno == errno.EEXIST
    assert node.find("one").handle == named.handle
    node.init()

    def orchestrate(orch):
        assert orch.find("one").handle == named.handle
        with pytest.raises(Error):
            orch.find("two")

    node.run(orchestrate)
    assert named.kind == "sub" and "one" in repr(named)
    with pytest.raises(TypeError):
        node.sub(3)


def test_decorators(node):
    @node.sub(name="five")
    def five(args):
        memoryview(args.tensor(0))[()] = 5

    node.run(lambda orch: orch.submit(five, out(node.cell)))
    assert five.name == "five" and value(node) == 5


def test_functions_after_init_are_imported_in_the_child(node):
    node.init()
    memoryview(node.cell)[()] = 3
    double = node.sub(late_functions.double)
    assert double.handle == 0 and double.name == "double"
    nested = function("late_functions:Holder.nested")

    def orchestrate(orch):
        orch.submit(double, inout(node.cell), 5)
        orch.submit_group(double, [(inout(node.cell), 1)])

    node.run(orchestrate)
    assert value(node) == 60
    node.run(lambda orch: orch.submit(nested, out(node.cell)))
    assert value(node) == 77
    with pytest.raises(Error, match="nothing here") as caught:
        node.run(lambda orch: orch.submit(node.sub(late_functions.fails)))
    assert caught.value.name == "fails"
    with pytest.raises(Error, match="ModuleNotFoundError"):
        node.run(lambda orch: orch.submit(function("there_is:no_such")))
    with pytest.raises(Error, match="AttributeError"):
        node.run(lambda orch: orch.submit(function("late_functions:no_such")))


def test_closures_after_init_are_refused_with_the_way_out(node):
    node.init()
    with pytest.raises(ValueError, match="before init"):
        node.sub(lambda args: None)
    with pytest.raises(ValueError, match="module:qualified.name"):
        function("no colon")


def test_orchestrations_after_init():
    with Worker(4) as pod:
        pod.add_child(Worker(3, subs=1))
        cell = pod.empty((), "int64")
        memoryview(cell)[()] = 1
        pod.init()
        twice = pod.orch(late_functions.twice)
        pod.run(lambda orch: orch.submit(twice, inout(cell)))
        assert memoryview(cell)[()] == 4


def test_symbols_of_shared_objects(node):
    node.init()
    add = node.symbol(f"{SYMBOLS}:symbol_add")
    node.run(lambda orch: [orch.submit(add, inout(node.cell), i) for i in (4, 5)] and None)
    assert value(node) == 9
    with pytest.raises(Error) as caught:
        node.symbol(f"{SYMBOLS}:no_such")
    assert caught.value.errno == errno.ESRCH
    node.unregister(add)
    with pytest.raises(Error) as caught:
        node.run(lambda orch: orch.submit(add, inout(node.cell), 1))
    assert caught.value.errno == errno.ESTALE


def test_unregistered_functions_are_stale(node):
    gone = node.sub(lambda args: None)
    node.init()
    node.unregister(gone, timeout=30)
    with pytest.raises(Error) as caught:
        node.run(lambda orch: orch.submit(gone))
    assert caught.value.errno == errno.ESTALE
