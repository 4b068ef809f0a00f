/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* What tbb.c calls of oneTBB. */
#ifndef TESTS_BENCH_TBB_GRAPH_H
#define TESTS_BENCH_TBB_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void tbb_work(uint64_t units);

/* Tasks that do nothing, and depend on nothing. */
void tbb_burst(unsigned threads, uint64_t tasks);
/* Rows of `width` tasks; with `stencil` each waits for up to three of the row before. */
void tbb_stencil(unsigned threads, uint64_t width, uint64_t steps, bool stencil, tbb_work *work,
		 uint64_t units);

#ifdef __cplusplus
}
#endif

#endif
