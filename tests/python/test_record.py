# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Recorded graphs and their replays."""

from __future__ import annotations

import errno
import gc

import distworker
import pytest
from distworker import Error, Graph, Worker, inout, inp, new, out


def cells(worker, count=8):
    cell = worker.empty((count,), "int64")
    return cell, memoryview(cell)


def add(args):
    memoryview(args.tensor(0))[0] += args.int(0)


def copy_plus(args):
    memoryview(args.tensor(1))[0] = memoryview(args.tensor(0))[0] + args.int(0)


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_replays_have_other_tensors_and_numbers(mode):
    with Worker(3, subs=2, mode=mode) as node:
        total, value = cells(node)
        sources = [cells(node) for _ in range(10)]
        step, plus = node.sub(add), node.sub(copy_plus)
        for i, (_, source) in enumerate(sources):
            source[0] = i

        def orchestrate(orch):
            with orch.record(sources[0][0], total, name="step") as recording:
                between = orch.submit(plus, inp(sources[0][0]), new(8, "int64"), 100).outputs[0]
                orch.record_scalar(0, 0)
                orch.submit(plus, inp(between), out(total), 1)
            for i in range(1, 10):
                orch.replay(recording.graph, (sources[i][0], total), (10 * i,))
                orch.submit(step, inout(total), 0)
            return recording.graph

        graph = node.run(orchestrate)
        assert isinstance(graph, Graph)
        assert value[0] == 9 + 90 + 1
        info = distworker.graph_info(graph)
        assert (info.name, info.tasks, info.edges, info.parameters, info.scalars, info.replays) == ("step", 2, 1, 2, 1, 9)
        assert info.borders >= 4 and info.bytes == 1024
        graph.close()
        with pytest.raises(RuntimeError, match="closed"):
            node.run(lambda orch: orch.replay(graph))


def test_errors_name_the_graph():
    with Worker(3, subs=1) as node:
        x, _ = cells(node)
        y, _ = cells(node)
        step = node.sub(add)

        def orchestrate(orch):
            with pytest.raises(Error, match=r"parameters 0 and 1 of \"step\" share bytes") as caught:
                orch.record_begin((x, x), "step")
            assert caught.value.errno == errno.EINVAL
            with orch.record(x, name="step") as recording:
                with pytest.raises(Error, match=r"dw_orch_wait\(\) inside recording \"step\""):
                    orch.wait()
                orch.submit(step, inout(x), 1)
                with pytest.raises(RuntimeError, match="has not ended"):
                    recording.graph
            with pytest.raises(Error, match=r"2 parameters; \"step\" has 1"):
                orch.replay(recording.graph, (x, y))
            with pytest.raises(Error, match=r"1 scalars; \"step\" has 0"):
                orch.replay(recording.graph, (x,), (1,))
            with pytest.raises(TypeError, match=r"scalars\[0\] is .* and no number"):
                orch.replay(recording.graph, (x,), (y,))
            with pytest.raises(ZeroDivisionError), orch.record(x) as left:
                orch.submit(step, inout(x), 1 // 0)
            with pytest.raises(RuntimeError, match="has left it"):
                left.graph
            return recording.graph

        graph = node.run(orchestrate)
        with pytest.raises(Error, match=r"recorded graph \"step\" of node0 uses it") as caught:
            node.unregister(step)
        assert caught.value.errno == errno.EBUSY
        graph.close()
        node.unregister(step)


def test_a_graph_keeps_its_buffers():
    with Worker(3, subs=1) as node:
        fixed, value = cells(node)
        total, _ = cells(node)
        step = node.sub(copy_plus)
        value[0] = 7

        def record(orch):
            with orch.record(total) as recording:
                orch.submit(step, inp(fixed), out(total), 1)
            return recording.graph

        graph = node.run(record)
        del fixed, value
        gc.collect()
        results = [cells(node) for _ in range(20)]  # would get its memory

        def replay(orch):
            for tensor, _ in results:
                orch.replay(graph, (tensor,))

        node.run(replay)
        assert {view[0] for _, view in results} == {8}


def test_a_graph_may_outlive_its_worker():
    with Worker(3, subs=1) as node:
        x, _ = cells(node)
        step = node.sub(add)

        def record(orch):
            with orch.record() as recording:
                orch.submit(step, inout(x), 1)
            return recording.graph

        graph = node.run(record)
    del x, node, step
    gc.collect()
    assert distworker.graph_info(graph).tasks == 1
    graph.close()
