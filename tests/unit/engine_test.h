/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the tests of the engine's data structures: random numbers that are the same everywhere,
 * numbers on the command line (--seed N, --seeds N, --bench), a clock. Arguments also select tests
 * by name: test_heap oracle --seed 4711.
 */
#ifndef TESTS_UNIT_ENGINE_TEST_H
#define TESTS_UNIT_ENGINE_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t random_state;

static inline uint64_t random_next(void)
{
	uint64_t x = (random_state += 0x9e3779b97f4a7c15u);

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static inline uint32_t below(uint32_t limit)
{
	return random_next() % limit;
}

/* The number behind `name` on the command line. */
static inline uint64_t option(const char *name, uint64_t otherwise)
{
	static char line[4096];
	static size_t bytes;
	FILE *file;

	if (!bytes && (file = fopen("/proc/self/cmdline", "r"))) {
		bytes = fread(line, 1, sizeof(line) - 1, file);
		fclose(file);
	}
	for (char *word = line; word < line + bytes; word += strlen(word) + 1)
		if (!strcmp(word, name))
			return word + strlen(word) + 1 < line + bytes ?
			       strtoull(word + strlen(word) + 1, NULL, 0) : 1;
	return otherwise;
}

/* The CPU time of this thread, which other load on the machine does not affect. */
static inline uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/*
 * How often a benchmark repeats: `full` times with --bench, else just enough to see that it works.
 */
static inline uint64_t rounds(uint64_t wanted)
{
	return option("--bench", 0) ? wanted : wanted / 100;
}

/* Runs `run` with --seed N, or with seeds 1, 2, … and returns how many of them failed. */
static inline uint64_t run_seeds(int (*run)(uint64_t seed), uint64_t count)
{
	uint64_t seed = option("--seed", 0), failed = 0;

	count = seed ? 1 : option("--seeds", count);
	for (seed = seed ? seed : 1; count; seed++, count--) {
		random_state = seed;
		failed += run(seed) != 0;
	}
	return failed;
}

#endif
