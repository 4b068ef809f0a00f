# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""The package as its users get it: types, docstrings, pip, make install, the tool, the programs of the documents."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pathlib
import re
import shutil
import subprocess
import sys

import distworker
import distworker._core
import distworker.simpler
import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]


def needs(*tools):
    """Modules and commands that a guest does not have."""
    lacking = [tool for tool in tools if not importlib.util.find_spec(tool) and not shutil.which(tool)]
    return pytest.mark.skipif(bool(lacking), reason=f"without {', '.join(lacking)}")


def run(*command, env=None, **how):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env={**os.environ, **(env or {})},
                          **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs("mypy")
def test_types_are_strict(tmp_path):
    sources = TOP / "lib/python/distworker"
    user = tmp_path / "user.py"
    user.write_text("import distworker\nfrom distworker import Args, Orchestrator\n"
                    "def add(args: Args) -> None: reveal_type(args.int(0))\n"
                    "def orchestrate(orch: Orchestrator, n: int) -> int:\n    orch.submit(adder, 1); return n\n"
                    "node = distworker.Worker(3, subs=1)\nadder = node.sub(add)\n"
                    "reveal_type(node.run(orchestrate, 3))\nreveal_type(node.read(node.empty(3, kept=True)))\n"
                    "reveal_type(node.read(node.chip_memory(0, (3, 4)), into=bytes(3)))\n"
                    "reveal_type(distworker.chip_devices('sim')[0].cores)\n")
    said = run(sys.executable, "-m", "mypy", "--strict", "--python-version", "3.11", "--cache-dir", tmp_path / "cache",
               sources, user, env={"MYPYPATH": str(sources.parent)})
    assert re.findall(r'Revealed type is "builtins.(.*?)"', said) == ["int", "int", "bytearray", "bytes", "int"], said


def test_stubs_are_those_of_the_c_part():
    """Every name of the extension is in the stub, and no other."""
    stub = (TOP / "lib/python/distworker/_core.pyi").read_text()
    classes = {match.group(1): match.group(2) for match in re.finditer(r"^class (\w+):(.*?)(?=^\S|\Z)", stub, re.M | re.S)}
    for name, body in classes.items():
        stated = set(re.findall(r"def (\w+)\(", body)) - {"__new__"}
        type_ = getattr(distworker._core, name)
        there = {key for key in vars(type_) if not key.startswith("__")}
        assert {key for key in stated if not key.startswith("__")} == there, name
    top = {name for name in vars(distworker._core) if not name.startswith("__")}
    assert set(classes) | set(re.findall(r"^(?:def )?(\w+)(?:\(|: int)", stub, re.M)) == top


def test_everything_has_a_docstring():
    missing = []
    for name in distworker.__all__:
        value = getattr(distworker, name)
        if callable(value) and not (inspect.getdoc(value) or "").strip():
            missing.append(name)
        if inspect.isclass(value) and value.__module__.startswith("distworker"):
            missing += [f"{name}.{key}" for key, member in inspect.getmembers(value)
                        if not key.startswith("_") and callable(member) and not inspect.getdoc(member)]
    assert missing == []


@needs("pip", "cc")
def test_pip_installs_it_without_a_network(tmp_path):
    run(sys.executable, "-W", "ignore", "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-cache-dir",
        "--disable-pip-version-check", "--target", tmp_path, TOP / "lib/python")
    said = run(sys.executable, "-c", "import distworker; print(distworker.__file__, distworker.version())",
               env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert said.startswith(str(tmp_path)) and said.split()[1] == (TOP / "VERSION").read_text().strip()


@needs("make", "cc")
def test_make_install_and_uninstall(tmp_path):
    build = os.environ.get("B", str(TOP / "build"))
    make = ["make", "-s", "-C", TOP, f"B={build}", f"DESTDIR={tmp_path}", "PREFIX=/opt/dw", f"PYTHON={sys.executable}"]
    # Another target builds the library; its place is enough here.
    (tmp_path / "opt/dw/lib").mkdir(parents=True)
    for name in ("libdistworker.so.0", "libdistworker.so"):
        (tmp_path / "opt/dw/lib" / name).symlink_to(pathlib.Path(build) / "libdistworker.so")
    run(*make, "install-python")
    (core,) = tmp_path.glob("opt/dw/lib/python*/*/distworker/_core.abi3.so")
    folder = core.parent.parent
    # The library is found relative to the extension's own path.
    said = run(sys.executable, "-c", "import distworker; print(distworker.__file__)",
               env={"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": ""}, cwd=tmp_path)
    assert said.startswith(str(folder))
    run(*make, "uninstall-python")
    assert not core.parent.exists()


@needs("nm")
def test_the_extension_keeps_to_the_limited_api_and_the_public_interface():
    symbols = run("nm", "-D", "--undefined-only", distworker._core.__file__)
    used = set(re.findall(r" U (dw_\w+)", symbols))
    headers = (TOP / "lib/include/distworker").glob("*.h")
    public = set(re.findall(r"\b(dw_\w+)\(", "".join(header.read_text() for header in headers)))
    assert used and used <= public
    # The headers of Python then have nothing else.
    assert "#define Py_LIMITED_API 0x030b0000" in (TOP / "lib/python/src/objects.h").read_text()


def test_formats_are_ascii():
    """PyErr_Format() gives an empty text (3.11), or another exception (3.13), for a format that is not."""
    wrong = []
    for path in (TOP / "lib/python/src").glob("*.c"):
        for call in re.findall(r"Py(?:Err_Format|Unicode_FromFormat)\(.*?;\n", path.read_text(), re.S):
            if not call.isascii():
                wrong.append((path.name, call))
    assert not wrong


def test_free_threaded_builds_are_refused():
    done = subprocess.run([sys.executable, "-c", "import sys; sys.abiflags = 't'; import distworker"], capture_output=True,
                          text=True)
    assert done.returncode == 1 and "ImportError: distworker needs a Python with a global interpreter lock" in done.stderr


def test_the_tool():
    version = run(sys.executable, "-m", "distworker", "--version")
    assert (TOP / "VERSION").read_text().strip() in version
    assert run(sys.executable, "-m", "distworker", "info", env={"DW_PROVIDER": "futex"})


def strictly(program, *options):
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", *options, str(program)], capture_output=True,
                          text=True, cwd=TOP)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


@pytest.mark.skipif("DISTWORKER_GUEST" in os.environ, reason="minutes of arithmetic on an emulated CPU")
def test_the_example_learns():
    accuracy = float(strictly(TOP / "docs/examples/train.py").split()[-1])
    assert accuracy > 0.87


@needs("cc")
def test_the_example_of_weights_copies_them_once():
    assert strictly(TOP / "docs/examples/weights.py").splitlines() == [
        f"kept buffer: {65536 * 4 + 100 * 1024} bytes to the chip", f"memory of the chip: {100 * 1024} bytes"]


def test_the_programs_of_the_documents_run_as_typed(tmp_path):
    count = 0
    for page in ("README.md", "docs/python.md"):
        for block in re.findall(r"```python\n(.*?)```", (TOP / page).read_text(), re.S):
            program = tmp_path / "program.py"
            program.write_text(block)
            said = strictly(program)
            wanted = re.findall(r"# prints (.*)", block)
            assert wanted == said.splitlines()[:len(wanted)], block
            count += 1
    assert count >= 2
    doc = re.sub(r"^    ", "", inspect.getdoc(distworker).partition("\n\n")[2].partition("Functions")[0], flags=re.M)
    program.write_text(doc)
    assert strictly(program) == "500500\n"
