# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Exceptions in callables and functions, death of children."""

from __future__ import annotations

import ctypes
import errno
import os
import signal

import pytest
from distworker import Error, Worker, at_child_start, inout
from distworker import _start_functions


class Peculiar(Exception):
    """An exception of the test's own class, with a long text."""


def deep(depth, text):
    if depth:
        deep(depth - 1, text)
    raise Peculiar(text)


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_an_exception_comes_up_with_type_text_and_traceback(mode):
    with Worker(3, subs=1, mode=mode) as node:
        bad = node.sub(lambda args: deep(3, "no such row: 17"), name="check_row")
        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit(bad, name="verify"))
    error = caught.value
    assert error.errno == errno.EIO
    assert (error.path, error.task, error.name, error.callable) == ("node0/sub0", 1, "verify", "check_row")
    assert "Peculiar: no such row: 17 (test_errors.py:" in error.cause
    assert "{" not in error.text
    assert error.traceback.count("in deep") >= 2 and "Peculiar: no such row: 17" in error.traceback
    assert error.traceback in str(error) + "\n"
    assert error.attempts == 1


def test_a_long_text_is_cut_and_the_traceback_is_whole():
    with Worker(3, subs=1) as node:
        bad = node.sub(lambda args: deep(0, "x" * 3000))
        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit(bad))
    assert len(caught.value.text) < 512
    assert "x" * 3000 in caught.value.traceback


def test_errors_of_two_levels_down():
    with Worker(4) as pod:
        pod.add_child(Worker(3, subs=1))
        bad = pod.sub(lambda args: deep(1, "below"))
        part = pod.orch(lambda orch, args: orch.submit(bad))
        with pytest.raises(Error) as caught:
            pod.run(lambda orch: orch.submit(part))
        assert "pod0/node0/sub0" in caught.value.text and "below" in caught.value.cause
        assert "in deep" in caught.value.traceback


def test_an_orchestration_function_in_a_child_raises():
    with Worker(4) as pod:
        pod.add_child(Worker(3, subs=1))
        part = pod.orch(lambda orch, args: deep(1, "of the orchestration"))
        with pytest.raises(Error, match="of the orchestration") as caught:
            pod.run(lambda orch: orch.submit(part))
        assert caught.value.path == "pod0/node0" and "in deep" in caught.value.traceback


def test_what_the_function_of_a_run_raises_is_raised():
    with Worker(3, subs=1) as node:
        cell = node.empty((), "int64")
        add = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__((), 5))

        def orchestrate(orch):
            task = orch.submit(add, inout(cell))
            orch.wait_task(task)
            raise Peculiar("here", 3)

        with pytest.raises(Peculiar) as caught:
            node.run(orchestrate)
        assert caught.value.args == ("here", 3)
        assert caught.traceback[-1].name == "orchestrate"
        assert memoryview(cell)[()] == 5
        node.run(lambda orch: None)


def test_all_errors_of_a_run():
    with Worker(3, subs=2) as node:
        bad = node.sub(lambda args: deep(0, f"number {args.int(0)}"))
        run = node.start(lambda orch: [orch.submit(bad, i) for i in range(70)] and None)
        with pytest.raises(Error) as caught:
            run.wait()
        with pytest.raises(Error):
            run.wait()
    error = caught.value
    assert error.count == 70 and len(error.errors) == 64
    assert sorted(one.task for one in error.errors) == sorted({one.task for one in error.errors})
    for one in error.errors:
        assert f"number {one.task - 1} " in one.cause
        assert f"number {one.task - 1}" in one.traceback
    assert len(run.errors()) == 64


@pytest.mark.parametrize("exception, number", [
    (OSError(errno.ENOSPC, "full"), errno.ENOSPC), (MemoryError(), errno.ENOMEM), (FileNotFoundError(2, "no"), errno.ENOENT),
    (KeyboardInterrupt(), errno.EINTR), (SystemExit(3), errno.EIO), (Error(errno.EDOM, "far"), errno.EDOM)])
def test_errno_of_exceptions(exception, number):
    def fail(args):
        raise exception

    with Worker(3, subs=1) as node:
        bad = node.sub(fail)
        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit(bad))
        assert caught.value.errno == number
        good = node.run(lambda orch: "lives")
        assert good == "lives"


def test_an_exception_without_a_text_and_one_whose_text_fails():
    class Broken(Exception):
        def __str__(self):
            raise ValueError("no text")

    def fail(args):
        raise Broken if args.int(0) else Peculiar

    with Worker(3, subs=1) as node:
        bad = node.sub(fail)
        for number, name in ((0, "Peculiar"), (1, "Broken")):
            with pytest.raises(Error, match=name):
                node.run(lambda orch: orch.submit(bad, number))


def test_a_crash_in_a_child_is_an_error_with_path_and_signal():
    with Worker(3, subs=1, restart=True) as node:
        # In C code, so to speak: the interpreter has no part in it.
        crash = node.sub(lambda args: ctypes.memset(16, 0, 1), name="crash")
        good = node.sub(lambda args: None)
        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit(crash))
        assert caught.value.errno == errno.EOWNERDEAD
        assert caught.value.path == "node0/sub0" and "killed by SIGSEGV" in caught.value.cause
        # The replacement is forked from the interpreter as it was at init.
        for _ in range(3):
            node.run(lambda orch: orch.submit(good))


def test_other_deaths():
    with Worker(3, subs=1, restart=True, restart_limit=9) as node:
        ends = node.sub(lambda args: os._exit(3))
        killed = node.sub(lambda args: os.kill(os.getpid(), signal.SIGKILL))
        for callable, words in ((ends, "3"), (killed, "SIGKILL")):
            with pytest.raises(Error) as caught:
                node.run(lambda orch: orch.submit(callable))
            assert caught.value.errno == errno.EOWNERDEAD and words in caught.value.cause


def test_a_nested_worker_that_dies():
    with Worker(4) as pod:
        pod.add_child(Worker(3, subs=1))
        die = pod.orch(lambda orch, args: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(Error) as caught:
            pod.run(lambda orch: orch.submit(die))
        assert caught.value.errno == errno.EOWNERDEAD and caught.value.path == "pod0/node0"


def test_a_deadline_ends_a_callable():
    def forever(args):
        while True:
            pass

    with Worker(3, subs=1) as node:
        hang = node.sub(forever)
        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit(hang, timeout=0.2))
        assert caught.value.errno == errno.ETIMEDOUT


def test_a_start_function_that_raises_fails_init():
    def refuse(start):
        if start.path == "picky0/sub1":
            raise Peculiar(f"not in {start.kind} of {start.mode}")

    at_child_start(refuse)
    try:
        with Worker(3, name="picky0", subs=2) as node:
            with pytest.raises(Error, match="not in sub of process") as caught:
                node.init()
            assert "picky0/sub1" in caught.value.text
            assert "in refuse" in caught.value.traceback
    finally:
        _start_functions.remove(refuse)
    with Worker(3, subs=2) as node:
        node.init()
