# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""The chip drivers and devices of this machine, and images of the driver `pto`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import _core


class ChipDriver(NamedTuple):
    """A driver, as it describes itself."""

    name: str
    version: str
    abi_version: int
    path: str


class ChipDevice(NamedTuple):
    """A device of a driver: number i of chip_devices() is ``Chip(driver, i)``."""

    name: str
    description: str
    capabilities: int  # bits, DW_CHIP_CAP_* of distworker/chip.h
    cores: int  # the largest useful block_dim; 0: unknown
    memory_bytes: int  # 0: none of its own, or unknown
    max_tensors: int  # of a call; 0: no limit
    max_scalars: int
    queue_depth: int  # calls in flight
    alignment: int  # bytes
    default_block_dim: int  # for a 0 in a Config; 0: 1 core, or the driver's choice for each call
    default_aicpu_thread_num: int  # the same; 0: 3 threads
    max_block_dim: int  # 0: no limit, or unknown
    max_aicpu_thread_num: int
    max_allocation_bytes: int  # of one block of device memory; 0: unknown


class PtoCore(NamedTuple):
    """A function that runs on the cores of an Ascend chip, of an image for `pto`."""

    function: int  # id that the orchestration uses, 0 to 1,023
    data: bytes  # the core object
    signature: Sequence[int]  # for each argument 0 scalar, 1 in, 2 out, 3 inout


def chip_drivers() -> list[str]:
    """Names of the drivers in the folders that are searched, sorted; none is loaded. Any thread."""
    return [name for name in _core._chip_drivers().split(",") if name]


def chip_driver(name: str) -> ChipDriver:
    """Loads a driver, by name or path, and asks it.

    Into this process, which should be one that makes no Workers afterwards: vendors' libraries do not survive a fork.
    Any thread. Error with ENOENT, which names the folders that were searched; ELIBBAD, EPROTO: it is no driver, or one
    of another version.
    """
    return ChipDriver._make(_core._chip_driver(name))


def chip_devices(driver: str, options: str | None = None) -> list[ChipDevice]:
    """The devices that a driver finds, with its `options` ("key=value,…"). Loads it, as chip_driver() does."""
    return [ChipDevice._make(row) for row in _core._chip_devices(driver, options)]


def pto_image(data: bytes, entry: str, *, signature: Sequence[int], cores: Sequence[PtoCore],
              config_entry: str | None = None) -> bytes:
    """An image for the driver `pto`, for ``worker.image("pto", entry, data=…)``.

    `data`: the orchestration object, an ELF shared object; `entry`, `config_entry`: functions in it, at most 63
    characters each; `signature` of the whole call, tensors first, at most 256: for each argument 0 scalar, 1 in, 2 out,
    3 inout; `cores`: at most 1,024. Any thread. Error with EINVAL: the field that makes no sense; E2BIG: the limit that
    is passed; ELIBBAD: `data` is no shared object; ESRCH: it does not export the entry.
    """
    return _core._pto_image(data, entry, config_entry, signature, tuple(tuple(core) for core in cores))
