# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Errors of the library as exceptions, and exceptions of callables as errors of the library.

The text of an error has a few hundred bytes. The traceback of an exception in a child goes through
memory that is mapped before the children are forked; the text names it.
"""

from __future__ import annotations

import errno as errnos
import mmap
import os
import re
import struct
import traceback as tracebacks
import zlib
from collections.abc import Sequence
from types import TracebackType

from . import _core

_SLOTS = 256
_SLOT_BYTES = 8192
_HEADER = struct.Struct("=QII")  # number, bytes, checksum
_START = 4096  # the count of all texts lies before the slots
_area = mmap.mmap(-1, _START + _SLOTS * _SLOT_BYTES)

_MARK = re.compile(r" ?\{traceback ([0-9a-f]+)\}?")
_TASK = re.compile(
    r'(?P<path>[^\s:]+): task (?P<task>\d+)(?: "(?P<name>.*?)")?(?: \((?P<callable>.*?)\))?: '
    r"(?P<error>E[A-Z0-9]+): (?P<cause>.*)", re.DOTALL)
_WORKER = re.compile(r"(?P<path>[^\s:]+): (?P<error>E[A-Z0-9]+): (?P<cause>.*)", re.DOTALL)


def _place(number: int) -> int:
    return _START + number % _SLOTS * _SLOT_BYTES


def _keep(text: str) -> int:
    """Puts a text into the shared memory; its number."""
    number = _core._count(_area)
    place = _place(number)
    data = text.encode("utf-8", "replace")[-(_SLOT_BYTES - _HEADER.size):]
    _area[place + _HEADER.size:place + _HEADER.size + len(data)] = data
    _HEADER.pack_into(_area, place, number, len(data), zlib.crc32(data))
    return number


def _kept(number: int) -> str | None:
    """The text with this number, unless a later one has taken its place."""
    place = _place(number)
    found, size, checksum = _HEADER.unpack_from(_area, place)
    if found != number or size > _SLOT_BYTES - _HEADER.size:
        return None
    data = bytes(_area[place + _HEADER.size:place + _HEADER.size + size])
    return data.decode("utf-8", "replace") if zlib.crc32(data) == checksum else None


class Error(RuntimeError):
    """An error of the library, or of a task.

    ``errno``      a positive number, as in the module errno
    ``text``       the whole, with the path of the child and the task
    ``path``       of the child that ran the task, or of the Worker: "pod0/node1/sub0"
    ``task``       the number of the task within its run; None: no task
    ``name``       of the task; ``callable``: the name of its callable
    ``cause``      the last part of the text: "killed by SIGSEGV, pid 4711", "ValueError: no row"
    ``traceback``  of a Python exception in the callable, as text; None: there is none
    ``errors``     every error of the run, the first 64; ``count``: how many there were
    """

    def __init__(self, errno: int, text: str, errors: Sequence[Error] = (), count: int = 0) -> None:
        super().__init__(errno, text)
        self.errno = errno
        self.traceback: str | None = None
        mark = _MARK.search(text)
        if mark:
            self.traceback = _kept(int(mark.group(1), 16))
            text = _MARK.sub("", text)
        if errno == errnos.EFAULT:
            text += ("; worker.empty() gives memory of the tree, and worker.share(array) a copy of "
                     "an array in it")
        self.text = text
        self.path: str | None = None
        self.task: int | None = None
        self.name: str | None = None
        self.callable: str | None = None
        self.cause = text
        self.attempts = 0
        found = _TASK.match(text) or _WORKER.match(text)
        if found:
            parts = found.groupdict()
            self.path, self.cause = parts["path"], parts["cause"]
            self.task = int(parts["task"]) if parts.get("task") else None
            self.name, self.callable = parts.get("name"), parts.get("callable")
        self.errors: tuple[Error, ...] = tuple(errors)
        self.count = count

    def __str__(self) -> str:
        if self.traceback:
            return f"{self.text}\n\nIn the child:\n{self.traceback.rstrip()}"
        return self.text


Row = tuple[int, int, int, str, str, str, str]


def of_row(row: Row) -> Error:
    """One error as dw_run_error() tells it."""
    task, errno, attempts, name, function, path, text = row
    error = Error(errno, text)
    error.task = task or None
    error.path = path or None
    error.name = name or None
    error.callable = function or None
    error.attempts = attempts
    return error


def make(errno: int, text: str, rows: Sequence[Row] = (), count: int = 0) -> Error:
    """The exception for the result of a call; `rows`: all errors of its run."""
    errors = [of_row(row) for row in rows]
    error = Error(errno, text, errors, count)
    if errors and errors[0].text == error.text:
        first = errors[0]
        error.path, error.task, error.attempts = first.path, first.task, first.attempts
        error.name, error.callable = first.name, first.callable
    return error


def _number_of(exception: BaseException) -> int:
    if isinstance(exception, (OSError, Error)) and isinstance(exception.errno, int) \
            and 0 < exception.errno < 4096:
        return exception.errno
    if isinstance(exception, MemoryError):
        return errnos.ENOMEM
    if isinstance(exception, KeyboardInterrupt):
        return errnos.EINTR
    return errnos.EIO


def _place_of(traceback: TracebackType | None) -> str:
    if traceback is None:
        return ""
    while traceback.tb_next:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return f" ({os.path.basename(code.co_filename)[-40:]}:{traceback.tb_lineno})"


def format_failure(exception: BaseException) -> tuple[int, str]:
    """errno and text of a callable's exception."""
    kind = type(exception)
    name = kind.__qualname__ if kind.__module__ in ("builtins", "distworker._errors") \
        else f"{kind.__module__}.{kind.__qualname__}"
    try:
        said = str(exception)
    except Exception:  # of a class with a broken __str__
        said = "?"
    text = "".join(tracebacks.format_exception(exception))
    short = f"{name[-60:]}: {said[:140]}" if said else name[-60:]
    return _number_of(exception), f"{short}{_place_of(exception.__traceback__)} {{traceback {_keep(text):x}}}"
