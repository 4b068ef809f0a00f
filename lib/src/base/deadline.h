/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A deadline of a thread that sleeps until something happens. It counts the time in which the
 * process could run: a sleep that ends late shows that it could not (a frozen control group, a
 * paused virtual machine, SIGSTOP, a busy machine), and the processes that it waits for could not
 * run either. The deadline moves by that lateness.
 *
 * A stop shows only from the end of the sleep on. So a thread sleeps for half of the time that is
 * left, then for half of the rest: of the time that was left when a stop began, at least half is
 * left afterwards, and a deadline costs no more wake-ups than it has binary digits.
 *
 * Belongs to the thread that sleeps. Times are CLOCK_MONOTONIC, ns.
 */
#ifndef DW_BASE_DEADLINE_H
#define DW_BASE_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/clock.h"

/* The rest is slept at once when it is shorter than twice this. */
#define DEADLINE_LEAST_NS 5000000ULL

struct deadline {
	uint64_t at_ns;			/* NEVER: none */
	uint64_t wake_ns;		/* end of the present sleep; NEVER: it does not sleep */
};

static inline struct deadline deadline_at(uint64_t at_ns)
{
	return (struct deadline){ .at_ns = at_ns, .wake_ns = NEVER };
}

/* Until when to sleep before the clock is looked at again. */
static inline uint64_t deadline_half(uint64_t at_ns, uint64_t now_ns)
{
	uint64_t left = at_ns > now_ns ? at_ns - now_ns : 0;

	return left > 2 * DEADLINE_LEAST_NS ? now_ns + left / 2 : at_ns;
}

/* The sleep begins. Until when; NEVER for a deadline that is none. */
static inline uint64_t deadline_sleep(struct deadline *deadline, uint64_t now_ns)
{
	deadline->wake_ns = deadline->at_ns == NEVER ? NEVER :
			    deadline_half(deadline->at_ns, now_ns);
	/* One that has passed does not make its thread late. */
	if (deadline->wake_ns < now_ns)
		deadline->wake_ns = now_ns;
	return deadline->wake_ns;
}

/* The sleep, if there was one, is over. Whether the deadline has passed. */
static inline bool deadline_passed(struct deadline *deadline, uint64_t now_ns)
{
	uint64_t late = now_ns > deadline->wake_ns ? now_ns - deadline->wake_ns : 0;

	if (deadline->at_ns == NEVER)
		return false;
	deadline->wake_ns = NEVER;
	deadline->at_ns = late < NEVER - deadline->at_ns ? deadline->at_ns + late :
			  NEVER;
	return now_ns >= deadline->at_ns;
}

#endif
