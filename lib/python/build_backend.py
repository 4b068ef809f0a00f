# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Builds the package for pip with a C compiler alone: `pip install lib/python` needs no network and no setuptools.

The library is that of pkg-config, else the one that `make` has built in this checkout.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
import subprocess
import sys
import sysconfig
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


def version() -> str:
    with open(os.path.join(TOP, "VERSION"), encoding="ascii") as file:
        return file.read().strip()


def library_flags() -> list[str]:
    built = os.path.join(TOP, os.environ.get("B", "build"))
    if os.path.exists(os.path.join(built, "libdistworker.so")):
        return [f"-I{TOP}/lib/include", f"-L{built}", f"-Wl,-rpath,{built}", "-ldistworker"]
    ask = ["pkg-config", "--cflags", "--libs"]
    try:
        flags = shlex.split(subprocess.run([*ask, "distworker"], check=True, capture_output=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        sys.exit("distworker: there is no libdistworker: run `make` in the checkout, or install it (`make install`)")
    return flags + [f"-Wl,-rpath,{flag[2:]}" for flag in flags if flag.startswith("-L")]


def compile_core(output: str) -> None:
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        sys.exit("distworker: needs a Python with a global interpreter lock: this is a free-threaded build")
    sources = os.path.join(HERE, "src")
    files = sorted(os.path.join(sources, name) for name in os.listdir(sources) if name.endswith(".c"))
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = shlex.split(os.environ.get("CFLAGS", "-O2 -g"))
    include = sysconfig.get_path("include")
    subprocess.run([*compiler, "-shared", "-fPIC", "-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", *flags,
                    "-isystem", include, *files, *library_flags(), "-ldl", "-o", output], check=True)


def metadata() -> str:
    return (f"Metadata-Version: 2.1\nName: distworker\nVersion: {version()}\n"
            "Summary: A hierarchy of Workers that hands tasks to child processes through shared memory\n"
            "License: LGPL-2.1-only OR MIT\nRequires-Python: >=3.11\n")


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    return []


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None) -> str:
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    tag = f"cp311-abi3-{platform}"
    info = f"distworker-{version()}.dist-info"
    name = f"distworker-{version()}-{tag}.whl"
    core = os.path.join(wheel_directory, "_core.abi3.so")
    compile_core(core)
    package = os.path.join(HERE, "distworker")
    files = {f"distworker/{file}": os.path.join(package, file) for file in sorted(os.listdir(package))
             if file.endswith((".py", ".pyi", ".typed"))}
    files["distworker/_core.abi3.so"] = core
    texts = {f"{info}/METADATA": metadata(),
             f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: distworker\nRoot-Is-Purelib: false\nTag: {tag}\n"}
    record = []
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, source in files.items():
            with open(source, "rb") as file:
                data = file.read()
            wheel.writestr(path, data)
            record.append((path, data))
        for path, text in texts.items():
            wheel.writestr(path, text)
            record.append((path, text.encode()))
        lines = [f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},"
                 f"{len(data)}" for path, data in record]
        wheel.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,", ""]))
    os.remove(core)
    return name


def folder(prefix: str) -> str:
    """Where this interpreter looks for packages below a prefix: for `make install`."""
    own = os.path.basename(sysconfig.get_path("purelib"))
    if prefix == "/usr" and own == "dist-packages":
        return "/usr/lib/python3/dist-packages"
    name = own if prefix in ("/usr", "/usr/local") else "site-packages"
    return f"{prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/{name}"


if __name__ == "__main__" and sys.argv[1:2] == ["--folder"]:
    print(folder(sys.argv[2]))
