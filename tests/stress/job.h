/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * One round's process: a random tree, random jobs whose results are known, a
 * close; then nothing may be left. It is killed from outside at random moments.
 */
#ifndef TESTS_STRESS_JOB_H
#define TESTS_STRESS_JOB_H

#include <stdbool.h>
#include <stdint.h>

#define LEVELS_MOST 4

struct shape {
	uint64_t seed;
	unsigned levels;
	uint32_t subs;			/* per Worker */
	unsigned threads;		/* bit i: children of level i are threads */
	bool restart;
	uint32_t retries;
	unsigned runs, ms;		/* so many at least, and for so long */
	unsigned tasks;			/* per Worker and run */
	bool crowd;			/* 64 children */
	unsigned hosts;			/* nested Workers beside each other, each on its own node */
};

/* Numbers from a seed, so that a round can be repeated. */
uint32_t random_below(uint64_t *state, uint32_t limit);
/* Rounds have nodes: none of them, one in four, or all, and as many as there can be. */
enum with_hosts { HOSTS_NEVER, HOSTS_SOMETIMES, HOSTS_ALWAYS };
void shape_choose(struct shape *shape, uint64_t seed, enum with_hosts hosts);
void shape_print(const struct shape *shape, char *text, unsigned space);

/* The result of the round's process: its exit status. */
enum outcome {
	OUTCOME_RIGHT = 0,	/* all results right */
	OUTCOME_ERRORS = 10,	/* some runs ended with an error, which was justified */
	OUTCOME_WRONG = 11,	/* wrong result, false error, or something left: it was reported */
};

/* Never returns. `ready` gets one byte when init is done. */
void job_main(const struct shape *shape, int ready) __attribute__((noreturn));

#endif
