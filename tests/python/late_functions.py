# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Functions that children import after init."""

from __future__ import annotations

import distworker


def double(args: distworker.Args) -> None:
    memory = memoryview(args.tensor(0))
    memory[()] *= 2 * args.int(0)
    assert args.scalar_count == 1


def twice(orch: distworker.Orchestrator, args: distworker.Args) -> None:
    for _ in range(2):
        orch.submit(distworker.function(double), distworker.inout(args.tensor(0)), 1)


def fails(args: distworker.Args) -> None:
    raise LookupError("nothing here")


class Holder:
    @staticmethod
    def nested(args: distworker.Args) -> None:
        memoryview(args.tensor(0))[()] = 77


def sub_of_simpler(args: object) -> None:
    memoryview(args.tensor(0))[()] = args.scalar(0)  # type: ignore[attr-defined]


def orch_of_simpler(orch: object, args: object, config: object) -> None:
    memoryview(args.tensor(0))[()] = config.block_dim  # type: ignore[attr-defined]
