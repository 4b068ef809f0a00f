# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""python3 -m distworker: the tool, of the library that this package uses."""

import os
import shutil
import sys


def tool() -> str:
    """The path of the command `distworker`: beside the library, else in PATH."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        libraries = {line.split(None, 5)[5].strip() for line in maps if "/libdistworker.so" in line}
    for library in libraries:
        folder = os.path.dirname(library)
        for path in (os.path.join(folder, "distworker"), os.path.join(folder, "..", "bin", "distworker"),
                     os.path.join(folder, "..", "..", "bin", "distworker")):
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    found = shutil.which("distworker")
    if not found:
        sys.exit("python3 -m distworker: the command distworker is neither beside the library nor in PATH")
    return found


def main() -> None:
    from . import _core  # loads the library

    path = tool() if _core.version() else ""
    os.execv(path, ["distworker", *sys.argv[1:]])


main()
