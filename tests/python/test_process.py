# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""The interpreter around forks, Ctrl-C, threads, asyncio, the log, the end of the program."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import functools
import logging
import operator
import os
import random
import select
import signal
import subprocess
import sys
import textwrap
import threading

import distworker
import pytest
import signals
from distworker import Error, Worker, inout, out


def program(code, *options, env=None, **how):
    """Starts another interpreter, as strict as this one, and with buffered output."""
    env = {key: value for key, value in (env or os.environ).items() if key != "PYTHONUNBUFFERED"}
    return subprocess.Popen([sys.executable, "-X", "dev", "-W", "error", *options, "-c", textwrap.dedent(code)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **how)


def output(code, **how):
    child = program(code, **how)
    out, err = child.communicate()
    assert child.returncode == 0 and err == "", (child.returncode, err)
    return out


# ------------------------------------------------------------------------- forks


def test_hooks_of_the_interpreter_run_around_the_forks():
    assert output("""
        import os, distworker
        order = []
        os.register_at_fork(before=lambda: order.append("before"), after_in_parent=lambda: order.append("parent"),
                            after_in_child=lambda: order.append("child"))
        with distworker.Worker(3, subs=1) as node:
            result = node.empty(3, "int64")
            count = lambda args: memoryview(args.tensor(0)).__setitem__(
                slice(0, 3), __import__("array").array("l", [order.count(w) for w in ("before", "child", "parent")]))
            tell = node.sub(count)
            node.run(lambda orch: orch.submit(tell, distworker.out(result)))
            print(list(memoryview(result)), order)
    """) == "[2, 2, 0] ['before', 'parent']\n"


def test_locks_that_another_thread_has_at_the_fork_are_free_in_the_child():
    """logging renews its handlers' locks after a fork, and import its own: through the hooks alone."""
    assert output("""
        import logging, os, sys, threading, distworker
        stop = threading.Event()
        class Handler(logging.Handler):
            def emit(self, record):
                os.sched_yield()  # without the interpreter's lock, with the handler's
        logging.getLogger().addHandler(Handler())
        def busy():
            while not stop.is_set():
                logging.getLogger().warning("busy")
        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads: thread.start()
        def speak(args):
            logging.getLogger().warning("from a child")
            import colorsys
            assert threading.current_thread() is threading.main_thread() and threading.active_count() == 1
        for _ in range(8):
            with distworker.Worker(3, subs=2) as node:
                task = node.sub(speak)
                node.run(lambda orch: [orch.submit(task) for _ in range(4)] and None)
        stop.set()
        for thread in threads: thread.join()
        print("done")
    """) == "done\n"


def test_children_draw_other_random_numbers():
    random.seed(7)
    with Worker(3, subs=2) as node:
        numbers = node.empty(2, "float64")
        draw = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(args.int(0), random.random()))
        node.run(lambda orch: orch.submit_group(draw, [(distworker.no_dep(numbers), i) for i in range(2)]))
        first, second = memoryview(numbers)
        assert first != second


def test_start_functions_run_in_every_child():
    seen = []

    def remember(start):
        seen.append((start.path, start.kind, start.mode, start.generation))

    distworker.at_child_start(remember)
    try:
        with Worker(4, name="starts0", subs=1) as pod:
            pod.add_child(Worker(3, subs=1))
            text = pod.buffer(400)

            def write(args):
                memoryview(args.tensor(0))[:len(repr(seen))] = repr(seen).encode()

            tell = pod.sub(write)
            part = pod.orch(lambda orch, args: orch.submit(tell, out(args.tensor(0))))
            read = lambda: bytes(memoryview(text)).rstrip(b"\0").decode()
            pod.run(lambda orch: orch.submit(part, out(text)))
            # A child of a nested Worker is forked from that Worker's process.
            assert read() == ("[('starts0/node0', 'worker', 'process', 1), "
                              "('starts0/node0/sub0', 'sub', 'process', 1)]")
        assert seen == []
    finally:
        distworker._start_functions.remove(remember)


def test_a_fork_of_the_user_leaves_the_tree_alone():
    with Worker(3, subs=1) as node:
        cell = node.empty((), "int64")
        add = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__((), memoryview(args.tensor(0))[()] + 1))
        node.run(lambda orch: orch.submit(add, inout(cell)))
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                node.run(lambda orch: None)
            except Error as error:
                status = 0 if error.errno == errno.EBADFD else 2
            node.close()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        node.run(lambda orch: orch.submit(add, inout(cell)))
        assert memoryview(cell)[()] == 2


def test_a_tree_in_a_fork_of_the_user():
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with Worker(3, subs=1) as node:
                cell = node.empty((), "int64")
                put = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__((), 3))
                node.run(lambda orch: orch.submit(put, out(cell)))
                status = 0 if memoryview(cell)[()] == 3 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_children_print_is_printed_once():
    assert output("""
        import sys, distworker
        sys.stdout.write("before ")
        with distworker.Worker(3, subs=1) as node:
            say = node.sub(lambda args: sys.stdout.write(f"child {args.int(0)} "))
            node.run(lambda orch: [orch.submit(say, i) for i in range(3)] and None)
            sys.stdout.write("after\\n")
    """) == "before child 0 child 1 child 2 after\n"


def test_a_program_that_closes_nothing_ends():
    assert output("""
        import distworker
        node = distworker.Worker(3, subs=2)
        node.sub(lambda args: node)
        node.run(lambda orch: None)
        run = node.start(lambda orch: print("ran"))
        run.wait()
        print(node.stats()[0].alive)
    """) == "ran\nTrue\n"


def test_a_run_that_goes_on_at_the_end_of_the_program():
    child = program("""
        import distworker
        node = distworker.Worker(3, subs=1, close_timeout=0.3)
        begun = node.empty((), "int64")
        def forever(args):
            memoryview(args.tensor(0))[()] = 1
            while True: pass
        hang = node.sub(forever)
        run = node.start(lambda orch: orch.submit(hang, distworker.no_dep(begun)))
        while not memoryview(begun)[()]: pass
    """)
    _, err = child.communicate()
    assert child.returncode == 0 and "node0/sub0" in err, (child.returncode, err)


# ------------------------------------------------------------------------ Ctrl-C


INTERRUPTED = """
    import signal, sys, threading, distworker
    def wait_for_cancel(args):
        print("started", flush=True)
        while not distworker.task_cancelled(): pass
    with distworker.Worker(3, subs=1, close_timeout=0.5) as node:
        node.interrupt_timeout = {seconds}
        hang = node.sub({task})
        nothing = node.sub(lambda args: None)
        def orchestrate(orch):
            orch.submit(hang)
            {then}
        try:
            node.run(orchestrate)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        if {again}:
            node.run(lambda orch: orch.submit(nothing))
            print("again", flush=True)
        if {seconds} < 1: node.cancel()
    """


def interrupt(**how):
    child = program(INTERRUPTED.format(**how), start_new_session=True)
    assert child.stdout.readline() == "started\n"
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    out, err = child.communicate()
    return child.returncode, out, err


@pytest.mark.parametrize("then", ["pass", "orch.wait()", "while True: pass"])
def test_ctrl_c_cancels_the_run(then):
    code, out, err = interrupt(seconds=600, task="wait_for_cancel", then=then, again=True)
    assert (code, out, err) == (0, "interrupted\nagain\n", "")


def test_a_signal_just_before_the_wait_is_not_lost(monkeypatch):
    """poll() went to sleep, with the signal's flag set: Ctrl-C did nothing. (It made the tests hang on a busy machine.)"""
    real, kill = select.poll, ctypes.CDLL(None).kill
    results = []

    class Late:
        def __init__(self):
            self._poll = real()
            self.register = self._poll.register

        def poll(self, timeout):
            # In C alone: between bytecodes the interpreter would call the handler. The limit of 0 shows what
            # poll() would wait for.
            results.extend(map(operator.call, [functools.partial(kill, os.getpid(), signal.SIGINT),
                                               functools.partial(self._poll.poll, 0)]))
            return results[-1]

    with Worker(3, subs=1) as node:
        flag, until = gate(node)
        run = node.start(lambda orch: orch.submit(until, distworker.no_dep(flag)) and "ended")
        with monkeypatch.context() as patch:
            patch.setattr(select, "poll", Late)
            with pytest.raises((KeyboardInterrupt, TimeoutError)):
                run.wait()
        memoryview(flag)[()] = 1
        assert run.wait() == "ended"
    assert results[0] == 0 and results[1], "nothing woke poll()"


@pytest.mark.parametrize("nested", [False, True])
def test_ctrl_c_in_the_function_cancels_the_run(nested):
    with Worker(3, subs=1) as node:
        flag, until = gate(node)

        def orchestrate(orch):
            orch.submit(until, distworker.no_dep(flag))
            if nested:
                node.run(lambda orch: signal.raise_signal(signal.SIGINT))
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            node.run(orchestrate)
        assert ": 0 runs" in node.report()
        assert signal.set_wakeup_fd(-1) == -1


WAITS = {
    "the end": lambda orch, task: None,
    "wait": lambda orch, task: orch.wait(),
    "wait_task": lambda orch, task: orch.wait_task(task),
    "nested run": lambda orch, task: node_of_waits[0].run(lambda inner: None),
    "nested wait": lambda orch, task: node_of_waits[0].run(lambda inner: orch_of_waits(inner)),
}
node_of_waits = []


def orch_of_waits(orch):
    node, flag, until = node_of_waits
    orch.submit(until, distworker.no_dep(flag))
    orch.wait()


@pytest.mark.parametrize("wait", list(WAITS))
def test_handlers_of_signals_run_while_the_main_thread_waits(wait):
    """The task ends when the handler has run: in the very wait for the task."""
    pid = os.getpid()
    with Worker(3, subs=2) as node:
        flag = node.empty((), "int64")

        def until_handled(args):
            os.kill(pid, signal.SIGUSR1)
            while not memoryview(args.tensor(0))[()]:
                pass

        until = node.sub(until_handled)
        node_of_waits[:] = node, flag, until
        old = signal.signal(signal.SIGUSR1, lambda number, frame: memoryview(flag).__setitem__((), 1))
        try:
            for _ in range(20):
                memoryview(flag)[()] = 0

                def orchestrate(orch):
                    task = orch.submit(until, distworker.no_dep(flag))
                    WAITS[wait](orch, task)
                    return "ended"

                assert node.run(orchestrate) == "ended"
        finally:
            signal.signal(signal.SIGUSR1, old)
            node_of_waits.clear()


def test_a_submit_that_blocks_lets_handlers_run():
    pid = os.getpid()
    with Worker(3, subs=1) as node:
        words = node.empty((2,), "int64")
        until = node.sub(lambda args: signals.send_until_told(args, pid), name="until_handled")
        handler = signals.tell_when(words, lambda: node.engine_stats().submitted >= 8192)
        old = signal.signal(signal.SIGUSR1, handler)
        try:
            node.run(lambda orch: [orch.submit(until, distworker.no_dep(words), i) for i in range(9000)] and None)
        finally:
            signal.signal(signal.SIGUSR1, old)
        assert node.engine_stats().done == 9000


def test_the_descriptor_for_signals_of_an_event_loop_gets_its_bytes():
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    pid = os.getpid()
    seen = []
    old = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    signal.set_wakeup_fd(writer)
    try:
        with Worker(3, subs=1) as node:
            send = node.sub(lambda args: os.kill(pid, signal.SIGUSR1))
            for _ in range(10):
                node.run(lambda orch: orch.submit(send))
        assert signal.set_wakeup_fd(-1) == writer
        got = os.read(reader, 100)
        assert len(got) == len(seen) == 10 and set(got) == {signal.SIGUSR1}
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, old)
        os.close(reader)
        os.close(writer)


def test_a_run_of_the_main_thread_starts_no_thread():
    with Worker(3, subs=1) as node:
        nothing = node.sub(lambda args: None)
        idents = {node.run(lambda orch: orch.submit(nothing) and threading.get_ident()) for _ in range(3)}
        assert idents == {threading.get_ident()}
        before = os.listdir("/proc/self/task")
        for _ in range(50):
            node.run(lambda orch: orch.submit(nothing))
        assert os.listdir("/proc/self/task") == before


def test_runs_of_a_fork_within_a_run():
    """A child that the user forks does not have its parent's watching thread."""
    def orchestrate(orch):
        pid = os.fork()
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        status = 1
        try:
            with Worker(3, subs=1, name="own0") as own:
                cell = own.empty((), "int64")
                put = own.sub(lambda args: memoryview(args.tensor(0)).__setitem__((), 3))
                own.run(lambda orch: orch.submit(put, out(cell)))
                status = 0 if memoryview(cell)[()] == 3 else 2
        finally:
            os._exit(status)

    with Worker(3, subs=1) as node:
        assert node.run(orchestrate) == 0


def test_ctrl_c_does_not_wait_for_a_task_that_never_ends():
    code, out, err = interrupt(seconds=0.2, task="lambda args: [print('started', flush=True), signal.pause()]",
                               then="pass", again=False)
    assert out == "interrupted\n"
    # close() kills the child, and says so.
    assert code == 1 and "ETIMEDOUT" in err.upper() or "not ended" in err or code == 0


def test_signal_handlers_run_while_a_run_goes_on():
    got = threading.Event()
    old = signal.signal(signal.SIGUSR1, lambda number, frame: got.set())
    try:
        with Worker(3, subs=1) as node:
            flag = node.empty((), "int64")

            def until_flag(args):
                os.kill(os.getppid(), 0)
                while not memoryview(args.tensor(0))[()]:
                    pass

            hang = node.sub(until_flag)

            def orchestrate(orch):
                orch.submit(hang, distworker.no_dep(flag))
                os.kill(os.getpid(), signal.SIGUSR1)
                assert got.wait(600)
                memoryview(flag)[()] = 1

            node.run(orchestrate)
        assert got.is_set()
    finally:
        signal.signal(signal.SIGUSR1, old)


# -------------------------------------------------------------------- in flight


def test_several_runs_in_flight():
    with Worker(3, subs=2) as node:
        cells = node.empty(6, "int64")
        put = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(0, args.int(0)))

        def orchestrate(orch, i):
            orch.submit(put, out(cells[i:i + 1]), i * i)
            return i

        runs = [node.start(orchestrate, i) for i in range(6)]
        assert [run.wait() for run in runs] == list(range(6))
        assert all(run.test() for run in runs) and runs[0].wait() == 0
        assert list(memoryview(cells)) == [i * i for i in range(6)]
        with pytest.raises(RuntimeError, match="waited for"):
            runs[0].fileno()


def gate(node):
    flag = node.empty((), "int64")

    def until(args):
        while not memoryview(args.tensor(0))[()] and not distworker.task_cancelled():
            pass

    return flag, node.sub(until)


def test_a_wait_with_a_limit_and_a_cancel_from_another_thread():
    with Worker(3, subs=1) as node:
        flag, until = gate(node)
        run = node.start(lambda orch: orch.submit(until, distworker.no_dep(flag)))
        assert not run.test()
        with pytest.raises(TimeoutError):
            run.wait(0.01)
        memoryview(flag)[()] = 1
        assert run.wait(600) is not None
        memoryview(flag)[()] = 0
        run = node.start(lambda orch: orch.submit(until, distworker.no_dep(flag)))
        canceller = threading.Thread(target=run.cancel)
        waiter_result = []

        def waits():
            try:
                run.wait()
            except Error as error:
                waiter_result.append(error.errno)

        waiter = threading.Thread(target=waits)
        waiter.start()
        canceller.start()
        with pytest.raises(Error) as caught:
            run.wait()
        waiter.join()
        canceller.join()
        assert caught.value.errno == errno.ECANCELED == waiter_result[0]


def test_a_deadline_of_a_run():
    with Worker(3, subs=1) as node:
        flag, until = gate(node)
        with pytest.raises(Error) as caught:
            node.run(lambda orch: orch.submit(until, distworker.no_dep(flag)), timeout=0.1)
        assert caught.value.errno == errno.ETIMEDOUT


def test_progress_ends_with_the_final_counts():
    calls = []
    with Worker(3, subs=1) as node:
        nothing = node.sub(lambda args: None)
        node.run(lambda orch: [orch.submit(nothing) for _ in range(30)] and None,
                 progress=lambda submitted, finished: calls.append((submitted, finished)))
    assert calls[-1] == (30, 30) and calls == sorted(calls)


def test_detached_and_dropped_runs_go_on():
    with Worker(3, subs=1) as node:
        cell = node.empty((), "int64")
        add = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__((), memoryview(args.tensor(0))[()] + 1))
        flag, until = gate(node)

        submitted = [threading.Event(), threading.Event()]

        def orchestrate(orch, i):
            orch.submit(until, distworker.no_dep(flag))
            orch.submit(add, inout(cell))
            submitted[i].set()

        run = node.start(orchestrate, 0)
        run.detach()
        run.cancel()  # no more: it was given back
        with pytest.raises(RuntimeError, match="detached"):
            run.wait()
        node.start(orchestrate, 1)  # dropped
        for event in submitted:
            event.wait()
        memoryview(flag)[()] = 1
        # The only sub worker takes its tasks in order; close() would cancel them.
        node.run(lambda orch: orch.submit(add, inout(cell)))
        assert memoryview(cell)[()] == 3


def test_asyncio():
    with Worker(3, subs=2) as node:
        cells = node.empty(4, "int64")
        flag, until = gate(node)
        put = node.sub(lambda args: memoryview(args.tensor(0)).__setitem__(0, 7))

        @node.sub
        def bad(args):
            raise ValueError("in a child")

        def orchestrate(orch, i):
            orch.submit(put, out(cells[i:i + 1]))
            return i

        async def main():
            held = node.start(lambda orch: orch.submit(until, distworker.no_dep(flag)) and "held")
            both = asyncio.gather(*[await_run(held) for _ in range(2)])
            assert await asyncio.gather(*[await_run(node.start(orchestrate, i)) for i in range(4)]) == [0, 1, 2, 3]
            assert not both.done()
            memoryview(flag)[()] = 1
            assert await both == ["held", "held"] and await held == "held"
            with pytest.raises(Error, match="in a child"):
                await node.start(lambda orch: orch.submit(bad))
            memoryview(flag)[()] = 0
            run = node.start(lambda orch: orch.submit(until, distworker.no_dep(flag)))
            waits = asyncio.ensure_future(await_run(run))
            await asyncio.sleep(0)
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits
            run.cancel()
            with pytest.raises(Error):
                await run

        async def await_run(run):
            return await run

        asyncio.run(main())
        assert list(memoryview(cells)) == [7] * 4


# ----------------------------------------------------------------------- the log


def test_the_log_goes_to_a_logger(caplog):
    logger = logging.getLogger("tests.distworker")
    logger.setLevel(logging.DEBUG)
    distworker.log_to(logger, "debug")
    try:
        with caplog.at_level(logging.DEBUG, logger="tests.distworker"):
            with Worker(3, subs=1) as node:
                node.run(lambda orch: None)
            distworker.log_off()
        assert caplog.records and {record.name for record in caplog.records} == {"tests.distworker"}
        assert all(record.child > 0 for record in caplog.records)
    finally:
        distworker.log_off()
    with pytest.raises(ValueError, match="error, warn, info, debug"):
        distworker.log_to(level="loud")
