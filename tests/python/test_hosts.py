# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Workers on other hosts: a node in a process of its own, on loopback, with the same functions."""

from __future__ import annotations

import ctypes.util
import errno
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from distworker import Error, Launch, Worker, examine_host, inout

BUILD = pathlib.Path(os.environ.get("B", "build")).resolve()


def add(args):
    memoryview(args.tensor(0))[()] += 5


def fail(args):
    raise ValueError("as it was told")


# Functions are found by name: this process has had other trees, so its handles differ from the
# node's.
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
        root.serve(listen=sys.argv[2], user=sys.argv[3], objects=sys.argv[4] if sys.argv[4:] else None)
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
    """Waits until the node listens; it may still be importing."""
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


def test_a_node_takes_shared_objects_from_home(key, tmp_path, request):
    home, kept = tmp_path / "home", tmp_path / "kept"
    home.mkdir()
    kept.mkdir(mode=0o700)
    # The node is where the folder of the object is empty.
    hidden = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else []),
              "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(home)]
    if subprocess.run([*hidden, "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace is refused")
    shutil.copy(BUILD / "tests/runtime/fixtures/symbols.so", home / "libjob.so")
    port = free_port()
    node = subprocess.Popen([*hidden, sys.executable, "-c", NODE, str(request.path.parent), f"127.0.0.1:{port}",
                             pwd.getpwuid(0).pw_name, str(kept)])
    try:
        connect(("127.0.0.1", port))
        found = next(one for one in examine_host(f"127.0.0.1:{port}") if one.subject == "objects")
        assert found.text.endswith(f"come from home, into {kept}")
        with Worker(4) as pod:
            pod.add_child(Worker(3, subs=1, host=f"127.0.0.1:{port}"))
            program(pod)
            cell = pod.empty((), "int64")
            memoryview(cell)[()] = 1
            pod.init()
            symbol = pod.symbol(f"{home}/libjob.so:symbol_orch", "orch")
            pod.run(lambda orch: orch.submit(symbol, inout(cell), 0) and None)
            assert memoryview(cell)[()] == 6
        assert [path.name.startswith("libjob.so.") for path in kept.iterdir()] == [True]
    finally:
        node.kill()
        node.communicate()
    kept.chmod(0o770)
    with pytest.raises(Error, match="with mode 770") as error:
        Worker(4).serve(listen="127.0.0.1:0", user=pwd.getpwuid(os.geteuid()).pw_name, objects=str(kept))
    assert error.value.errno == errno.EACCES


def test_a_host_without_a_node(key):
    with Worker(4) as pod:
        pod.add_child(Worker(3, host="127.0.0.1:1", host_timeout=1, host_window_bytes=1 << 20))
        with pytest.raises(Error, match="pod0/node0: host 127.0.0.1:1"):
            pod.init()


def test_a_host_that_makes_no_sense():
    with pytest.raises(Error, match="the host of a Worker"):
        Worker(3, host="b:99999")


LAUNCHED = os.path.join(os.path.dirname(__file__), "launched.py")


def environment(**more):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONFAULTHANDLER": "1", **more}


def test_processes_of_mpirun_are_one_run(key):
    if not shutil.which("mpirun") or not ctypes.util.find_library("pmix"):
        pytest.skip("mpirun or libpmix is not installed")
    command = ["mpirun", "--oversubscribe", "-n", "3", sys.executable, LAUNCHED]
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(command, env=environment(**allowed), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # mpirun may mix the lines of its ranks.
    assert all(done.stdout.count(part) == 1 for part in ("<served 1>", "<served 2>", "<sum 10 [True, True]>")), done.stdout


def test_nodes_that_ssh_starts(key, tmp_path):
    stand_in = tmp_path / "ssh"  # its last argument is the command for the other host
    stand_in.write_text("#!/bin/sh\nfor word; do :; done\nSSH_CONNECTION='127.0.0.1 1 127.0.0.1 22' exec sh -c \"$word\"\n")
    stand_in.chmod(0o755)
    env = environment(DW_SSH=str(stand_in))
    done = subprocess.run([sys.executable, LAUNCHED, "b,c"], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "<sum 10 [True, True]>\n"


def test_the_example(key, tmp_path):
    stand_in = tmp_path / "ssh"
    stand_in.write_text("#!/bin/sh\nfor word; do :; done\nSSH_CONNECTION='127.0.0.1 1 127.0.0.1 22' exec sh -c \"$word\"\n")
    stand_in.chmod(0o755)
    example = os.path.join(os.path.dirname(__file__), "../../docs/examples/hosts.py")
    env = environment(DW_SSH=str(stand_in))
    done = subprocess.run([sys.executable, example, "b,c"], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"sum {sum(i * i for i in range(8000))}"
    assert [line.split()[:3] for line in lines[1:]] == [[f"squares/node{i}", "on", line.split()[2]] for i, line in enumerate(lines[1:])]
    assert sum(int(line.split()[-2]) for line in lines[1:]) == 8


def test_the_output_of_nodes_is_readable(key, tmp_path, monkeypatch):
    stand_in = tmp_path / "ssh"
    os.mkfifo(tmp_path / "go")  # what comes before the launch is complete is the library's to read
    stand_in.write_text(f"#!/bin/sh\nread key\necho 127.0.0.1:4711\nread line <{tmp_path}/go\necho more\necho wrong >&2\nexec cat\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("DW_SSH", str(stand_in))
    script = textwrap.dedent("""
        import os, select, sys
        from distworker import Error, Launch

        with Launch(["b"], timeout=30) as launch:
            assert (launch.rank, launch.size, launch.host(1), launch.host(2)) == (0, 2, "127.0.0.1:4711", None)
            output, errors = launch.output(1)
            with open(sys.argv[1], "w") as go:
                print("go", file=go)
            select.select([output], [], [])
            select.select([errors], [], [])
            print(os.read(output, 99), os.read(errors, 99))
            try:
                launch.output(2)
            except Error as error:
                print(error)
        try:
            launch.rank
        except ValueError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "go")], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "b'more\\n' b'wrong\\n'", "dw_launch_output: rank 2 is no node that ssh has started", "this Launch is closed"]


def test_addresses_of_nodes_as_other_nodes_see_them(key, tmp_path, monkeypatch):
    stand_in = tmp_path / "ssh"
    stand_in.write_text('#!/bin/sh\nread key\ncase " $* " in *" b "*) echo 127.0.0.1:4711 ;; *) echo 10.0.0.2:4712 ;; esac\nexec cat\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("DW_SSH", str(stand_in))
    script = textwrap.dedent("""
        import errno
        from distworker import Error, Launch

        with Launch(["b", "c"], timeout=30) as launch:
            print(launch.host(1), launch.host(1, 0), launch.host(2, 1), launch.host(1, 3), launch.host(3, 1), launch.host(0, 1))
            try:
                launch.host(1, 2)
            except Error as error:
                print(error.errno == errno.ENETUNREACH, error)
    """)
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "127.0.0.1:4711 127.0.0.1:4711 10.0.0.2:4712 None None None",
        "True rank 1 is known here as 127.0.0.1:4711, which does not lead there from 10.0.0.2:4712: options.hosts (--hosts) "
        "should have an address of a network that both are in"]


def test_a_launch_without_a_launcher(key):
    with pytest.raises(Error, match="no launcher with PMIx has started this process") as error:
        Launch()
    assert error.value.errno == errno.ENOENT
    with pytest.raises(Error, match="options.hosts"):
        Launch("")
    with pytest.raises(TypeError):
        Launch(arguments=[7])
    with pytest.raises(ValueError, match="above 0"):
        Launch(timeout=-1)


def test_srun_without_pmix_is_refused(key, monkeypatch):
    for name, value in (("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "3")):
        monkeypatch.setenv(name, value)
    with pytest.raises(Error, match="srun has started 3 processes without PMIx") as error:
        Launch()
    assert error.value.errno == errno.EPROTONOSUPPORT


def test_the_way_to_a_host(key, request):
    port = free_port()
    node = subprocess.Popen([sys.executable, "-c", NODE, str(request.path.parent), f"127.0.0.1:{port}", pwd.getpwuid(os.geteuid()).pw_name])
    try:
        connect(("127.0.0.1", port))
        found = examine_host(f"127.0.0.1:{port}")
        assert [one.subject for one in found if one.verdict == "OK"][:4] == ["name", "port", "handshake", "program"]
        assert "functions; 3 of its 3 files are the same here" in next(one.text for one in found if one.subject == "program")
        assert not [one for one in found if one.verdict == "FAIL"]
        found = examine_host(f"127.0.0.1:{port}", user="nobody-at-all")
        assert [one.subject for one in found if one.verdict == "FAIL"] == ["user"]
    finally:
        node.kill()
        node.communicate()
    found = examine_host(f"127.0.0.1:{port}", timeout=5)
    assert found[-1].verdict == "FAIL" and found[-1].remedy.startswith("start the node there")
    with pytest.raises(Error, match="no name before the port"):
        examine_host(":7733")
