/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Where tests of random programs begin: UNIT_FIRST_SEED in the environment, or 1. The rungs of
 * tests/check that repeat the suites give each a range of its own.
 */
#ifndef SEEDS_H
#define SEEDS_H

#include <stdint.h>
#include <stdlib.h>

static inline uint64_t unit_first_seed(void)
{
	const char *first = getenv("UNIT_FIRST_SEED");
	uint64_t seed = first ? strtoull(first, NULL, 0) : 0;

	return seed ? seed : 1;
}

#endif
