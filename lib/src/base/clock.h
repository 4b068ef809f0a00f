/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The clock of the library: CLOCK_MONOTONIC in nanoseconds, 64 bits. Deadlines are
 * absolute times on it; NEVER is the deadline that does not come.
 */
#ifndef DW_BASE_CLOCK_H
#define DW_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NEVER		UINT64_MAX
#define NS_PER_S	1000000000ULL

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* The time `ns` from now; NEVER where that does not fit. */
static inline uint64_t deadline_in(uint64_t ns)
{
	uint64_t now = now_ns();

	return ns < NEVER - now ? now + ns : NEVER;
}

static inline struct timespec clock_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_S),
				  .tv_nsec = (long)(ns % NS_PER_S) };
}

#endif
