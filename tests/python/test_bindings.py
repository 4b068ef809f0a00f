# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""The package against the public headers: every function, every field that is read, every parameter in a docstring."""

from __future__ import annotations

import ast
import inspect
import pathlib
import re

import distworker
import distworker._core
import distworker.simpler
import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
HEADERS = TOP / "lib/include/distworker"
SOURCES = TOP / "lib/python/src"

# Public functions without a binding, and why.
WITHOUT = {
    "dw_args_data": "args.tensor(i) has the address, the shape and the type",
    "dw_buffer_create": "dw_buffer_create_with() has its options",
    "dw_callable_unregister": "dw_callable_unregister_for() with UINT64_MAX is the same",
    "dw_fork_hooks_remove": "the interpreter's hooks stay for the whole process",
    "dw_run_detach": "the package frees what the run uses when it has ended, so it keeps the run",
}


def code(path):
    """Without comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)


def public():
    return {name for header in HEADERS.glob("*.h")
            for name in re.findall(r"DW_API[^;{]*?\b(dw_\w+)\(", code(header))}


def called():
    return {name for source in SOURCES.glob("*.c") for name in re.findall(r"\b(dw_\w+)\b", code(source))}


def test_every_public_function_has_a_binding_or_a_reason():
    functions = public()
    assert len(functions) > 80 and "dw_submit" in functions  # the headers were read
    assert functions - called() - set(WITHOUT) == set(), "neither called by the extension nor in WITHOUT"
    assert set(WITHOUT) & called() == set(), "has a binding: take it out of WITHOUT"
    assert set(WITHOUT) <= functions, "no such function"


def fields(struct):
    """Names of the fields of a struct that is read; not its size, and what is reserved."""
    (body,) = [body for header in HEADERS.glob("*.h")
               for body in re.findall(rf"struct {struct} {{(.*?)\n}};", code(header), re.S)]
    names = [name for line in body.split(";")
             for name in re.findall(r"(\w+)(?:\[\w+\])?\s*(?:,|$)", line.strip().partition(" ")[2].strip())]
    return [name for name in names if name not in ("size", "reserved")]


@pytest.mark.parametrize("struct, record, named", [
    ("dw_child_stats", distworker.ChildStats, {}),
    ("dw_engine_stats", distworker.EngineStats, {}),
    ("dw_graph_info", distworker.GraphInfo, {}),
    ("dw_provider_info", distworker.Provider, {"provider": "name"}),
    ("dw_tree_info", distworker.TreeInfo, {}),
    ("dw_tree_worker", distworker.TreeWorker, {}),
    ("dw_tree_child", distworker.TreeChild, {}),
    ("dw_child_start", distworker.ChildStart, {}),
    ("dw_chip_options", distworker.Chip, {}),
    ("dw_chip_driver_info", distworker.ChipDriver, {}),
    ("dw_chip_properties", distworker.ChipDevice, {}),
    ("dw_pto_core", distworker.PtoCore, {"signature_count": "signature", "bytes": "data"}),
])
def test_every_field_is_there(struct, record, named):
    wanted = {named.get(name, name) for name in fields(struct)}
    assert wanted and wanted <= set(record._fields) | {"stats"}


def test_every_option_of_a_worker_is_there():
    parameters = set(inspect.signature(distworker.Worker).parameters)
    wanted = {re.sub(r"_ns$", "", name) for name in fields("dw_worker_options")} - {"chip_count", "chip_size"}
    assert wanted == parameters - {"level"}


# Calls that may wait, or may copy or load a lot.
BLOCKING = {
    "dw_alloc", "dw_buffer_read", "dw_buffer_write", "dw_callable_register_image", "dw_callable_register_symbol",
    "dw_callable_unregister_for", "dw_chip_alloc", "dw_chip_driver_list", "dw_chip_driver_query", "dw_chip_enumerate",
    "dw_chip_memory_create", "dw_chip_memory_destroy", "dw_host_examine", "dw_launch_create", "dw_launch_destroy", "dw_launch_serve", "dw_log_set", "dw_node_serve", "dw_orch_wait", "dw_orch_wait_task",
    "dw_provider_query", "dw_pto_image_build", "dw_replay", "dw_run_wait", "dw_run_wait_for", "dw_submit", "dw_submit_copy",
    "dw_submit_group", "dw_worker_cancel", "dw_worker_close", "dw_worker_destroy", "dw_worker_engine_stats",
    "dw_worker_init", "dw_worker_run", "dw_worker_start", "dw_worker_stats",
}
# Elsewhere: in a function that is called without the GIL, and of a run that has ended.
WITH_THE_GIL = [("run.c", "dw_run_wait"), ("run.c", "dw_worker_start")]


def test_calls_that_block_release_the_gil():
    free, held = set(), []
    for source in sorted(SOURCES.glob("*.c")):
        parts = re.split(r"Py_(BEGIN|END)_ALLOW_THREADS", code(source))
        for kind, text in zip(["END", *parts[1::2]], parts[::2]):
            found = [name for name in re.findall(r"\b(dw_\w+)\(", text) if name in BLOCKING]
            if kind == "BEGIN":
                free |= set(found)
            else:
                held += [(source.name, name) for name in found]
    assert sorted(held) == WITH_THE_GIL
    assert free | {name for _, name in WITH_THE_GIL} == BLOCKING


def public_callables():
    """(name, object) of everything that is public, methods included."""
    for name in distworker.__all__:
        value = getattr(distworker, name)
        if inspect.isclass(value):
            for key, member in inspect.getmembers(value):
                # Without the members that records and exceptions inherit from Python.
                if not key.startswith("_") and not hasattr(tuple, key) and not hasattr(BaseException, key):
                    yield f"{name}.{key}", member
        elif callable(value):
            yield name, value


def in_stub(name):
    """The names of its parameters in the stub."""
    tree = ast.parse((TOP / "lib/python/distworker/_core.pyi").read_text())
    kind, _, method = name.rpartition(".")
    found = tree.body
    if kind:
        (found,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind]
    for node in reversed(found):
        if isinstance(node, ast.FunctionDef) and node.name == method:
            arguments = node.args
            every = arguments.posonlyargs + arguments.args + arguments.kwonlyargs + [arguments.vararg, arguments.kwarg]
            return [argument.arg for argument in every if argument is not None and argument.arg != "self"]
    return []


def test_docstrings_name_every_parameter():
    seen, missing = 0, []
    for name, member in public_callables():
        text = inspect.getdoc(member) or ""
        if inspect.isfunction(member):
            parameters = [key for key in inspect.signature(member).parameters if key != "self"]
            where = re.findall(r"\w+", text)
        elif callable(member) and not inspect.isclass(member):
            parameters = in_stub(name)
            where = re.findall(r"\w+", text.partition(")")[0])  # its first line is the signature
        else:
            assert text or isinstance(member, (int, float)), name
            continue
        seen += len(parameters)
        missing += [f"{name}: {key}" for key in parameters if key not in where]
    assert seen > 80 and missing == []


def test_docstrings_of_calls_that_can_fail_say_how():
    """Functions that the library may refuse: with an errno, or an exception of Python's."""
    silent = []
    for name in ("Worker.init", "Worker.close", "Worker.run", "Worker.sub", "Worker.symbol", "Worker.image", "Worker.unregister",
                 "Worker.find", "Worker.share", "Worker.empty", "Worker.write", "Worker.read", "Worker.register_buffer",
                 "Worker.add_child", "Worker.chip_id", "Worker.chip_memory", "Worker.chip_memory_free", "Worker.cancel",
                 "Worker.engine_stats", "Orchestrator.submit", "Orchestrator.submit_group", "Orchestrator.submit_copy",
                 "Orchestrator.alloc", "Orchestrator.scope_begin", "Orchestrator.scope_end", "Orchestrator.wait",
                 "Orchestrator.wait_task", "Orchestrator.find", "Orchestrator.chip_free", "Run.wait", "Run.fileno",
                 "Args.tensor", "Args.scalar", "Args.add", "Tensor.view", "Tree.worker", "Tree.child", "function",
                 "chip_driver", "pto_image", "provider", "Launch", "Launch.serve", "Worker.serve", "examine_host"):
        value = distworker
        for part in name.split("."):
            value = getattr(value, part)
        if not re.search(r"\b(E[A-Z0-9]{3,}|\w*Error|Errors|errors?)\b", inspect.getdoc(value)):
            silent.append(name)
    assert silent == []


def test_everything_of_simpler_has_a_docstring():
    missing = [name for name, value in vars(distworker.simpler).items()
               if not name.startswith("_") and inspect.isclass(value) and value.__module__ == "distworker.simpler"
               and not inspect.getdoc(value)]
    assert missing == []
