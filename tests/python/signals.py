# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""Signals for the tree's process, from a sub function, while a call of its main thread blocks."""
import os
import signal


def send_until_told(args, pid):
    """Sends SIGUSR1, until the handler has set the first int64 of tensor 0; it counts its runs in the second.

    One signal at a time: on a slow machine the next one would interrupt the handler, again and again.
    """
    words = memoryview(args.tensor(0))
    while not words[0]:
        before = words[1]
        os.kill(pid, signal.SIGUSR1)
        while words[1] == before:
            os.sched_yield()


def tell_when(words, condition):
    """The handler."""
    def handler(number, frame):
        mine = memoryview(words)
        mine[0] = condition()
        mine[1] += 1
    return handler
