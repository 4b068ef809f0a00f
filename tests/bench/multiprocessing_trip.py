#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""The round trip of a small object through a pipe of Python's multiprocessing, and of a call through its pool."""
import multiprocessing
import time

COUNT = 5000


def answer(pipe):
    while (message := pipe.recv()) is not None:
        pipe.send(message)


def mean_us(trip):
    for _ in range(COUNT // 10):
        trip()
    begun = time.perf_counter_ns()
    for _ in range(COUNT):
        trip()
    return (time.perf_counter_ns() - begun) / COUNT / 1000


def main():
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=answer, args=(there,))
    child.start()
    print("mean_us", mean_us(lambda: (here.send(1), here.recv())))
    here.send(None)
    child.join()
    with context.Pool(1) as pool:
        print("pool_us", mean_us(lambda: pool.apply(abs, (1,))))


if __name__ == "__main__":
    main()
