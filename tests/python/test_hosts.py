# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Workers on other hosts: a node in a process of its own, on loopback, with the same functions."""

from __future__ import annotations

import ctypes.util
import os
import pwd
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from distworker import Error, Worker, inout


def add(args):
    memoryview(args.tensor(0))[()] += 5


def fail(args):
    raise ValueError("as it was told")


# By name: this process has had other trees, so that its handles differ from the node's.
def nested(orch, args):
    orch.submit(orch.find("add"), inout(args.tensor(0)))


def broken(orch, args):
    orch.submit(orch.find("fail"), inout(args.tensor(0)))


def program(root):
    root.sub(add)
    root.sub(fail)
    return root.orch(nested), root.orch(broken)


NODE = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[1])
    from distworker import Worker
    import test_hosts

    root = Worker(4, name="program")
    test_hosts.program(root)
    try:
        root.serve(listen=sys.argv[2], user=sys.argv[3])
    except KeyboardInterrupt:
        print("interrupted")
""")


@pytest.fixture
def key(tmp_path, monkeypatch):
    if not ctypes.util.find_library("crypto"):
        pytest.skip("libcrypto is not installed")
    path = tmp_path / "key"
    path.write_text("a key for the hosts of this test\n")
    path.chmod(0o600)
    monkeypatch.setenv("DW_HOST_KEY", str(path))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(address):
    """Until the node listens; it may still be importing."""
    while True:
        try:
            socket.create_connection(address).close()
            return
        except ConnectionRefusedError:
            pass


def test_a_worker_on_a_node_of_the_same_program(key, request):
    port = free_port()
    node = subprocess.Popen([sys.executable, "-c", NODE, str(request.path.parent), f"127.0.0.1:{port}", pwd.getpwuid(os.geteuid()).pw_name],
                            stdout=subprocess.PIPE, text=True)
    try:
        connect(("127.0.0.1", port))
        with Worker(4, name="far0") as pod:
            pod.add_child(Worker(3, subs=1, host=f"127.0.0.1:{port}"))
            works, breaks = program(pod)
            cell = pod.empty((), "int64")
            memoryview(cell)[()] = 1
            pod.init()
            pod.run(lambda orch: [orch.submit(works, inout(cell)) for _ in range(3)] and None)
            assert memoryview(cell)[()] == 16
            with pytest.raises(Error, match="as it was told") as error:
                pod.run(lambda orch: orch.submit(breaks, inout(cell)) and None)
            row = next(row for row in pod.stats() if row.path == "far0/node0")
            assert row.host == row.address == f"127.0.0.1:{port}" and row.round_trip_ns > 0 and row.window_bytes == 256 << 20
        assert str(error.value).startswith("far0/node0/sub0: task 1 (fail)") and f"127.0.0.1:{port}" in str(error.value)
        node.send_signal(signal.SIGINT)
        assert node.communicate(timeout=600)[0] == "interrupted\n" and node.returncode == 0
    finally:
        node.kill()
        node.communicate()


def test_a_host_without_a_node(key):
    with Worker(4) as pod:
        pod.add_child(Worker(3, host="127.0.0.1:1", host_timeout=1, host_window_bytes=1 << 20))
        with pytest.raises(Error, match="pod0/node0: host 127.0.0.1:1"):
            pod.init()


def test_a_host_that_makes_no_sense():
    with pytest.raises(Error, match="the host of a Worker"):
        Worker(3, host="b:99999")
