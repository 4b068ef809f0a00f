/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The wait policy: how long a waiter looks in user space before it sleeps.
 *
 * User space does not know which threads run, but each side sees in "asleep" whether the other side
 * slept when the wait began, and that distinguishes a wait that ends within a microsecond from one
 * that does not. So there are two histories: waits for a peer that was awake, and waits for one
 * that had just been woken.
 *
 * No locks: a struct spin belongs to the one thread that waits with it.
 */
#ifndef DW_MAILBOX_SPIN_H
#define DW_MAILBOX_SPIN_H

#include <stdbool.h>
#include <stdint.h>
#include "base/clock.h"
#include "base/cpu.h"

enum spin_case {
	SPIN_AWAKE = 0,		/* the other side was awake */
	SPIN_WAKING = 1,	/* it was asleep, and the waiter has paid for its wake-up */
	SPIN_YIELD = 2,		/* not a spin: the CPU is left to others once, see spin_yield() */
	SPIN_CASES
};

struct spin_history {
	uint32_t window_ns;	/* 0: do not spin, but see `skip` */
	uint32_t average_ns;	/* of the waits that ended within the window */
	uint32_t backoff;	/* waits without a spin between two attempts */
	uint32_t skip;		/* of these, still to come */
	uint32_t streak;	/* won one after the other */
};

struct spin {
	struct spin_history history[SPIN_CASES];
	uint64_t won;		/* counters; other threads read them */
	uint64_t lost;
	uint32_t waits;		/* until the CPUs are counted again */
	uint32_t cpus;		/* that this thread may use */
	uint32_t limit_ns;	/* of the windows in the case SPIN_AWAKE */
	uint64_t last_ns;	/* when the last wait ended */
};

void spin_init(struct spin *spin, uint32_t limit_ns);
/* The part of spin_window() for threads that have more than one CPU, or have to count again. */
uint32_t spin_choose(struct spin *spin, enum spin_case which, bool oversubscribed, bool hinted);
/* The result of a spin: the wait ended after `ns`, or did not end within the window. */
void spin_won(struct spin *spin, enum spin_case which, uint32_t ns);
void spin_lost(struct spin *spin, enum spin_case which);
/*
 * For a child with more busy siblings than CPUs, where spin_may_yield(): others get the CPU once,
 * since it may wait for one of them. Returns whether ready(context), and learns from it.
 */
bool spin_yield(struct spin *spin, bool (*ready)(void *context), void *context);
/* CPUs that the calling thread may run on. */
uint32_t spin_cpus(void);

/* Whether spinning makes any sense; counts the waits until the CPUs are counted again. */
static inline bool spin_possible(struct spin *spin)
{
	if (spin->waits == 0)
		return true;
	spin->waits--;
	return spin->cpus > 1;
}

/*
 * How long to spin now, in ns; 0: not at all. `oversubscribed`: there is other work for
 * this CPU. `hinted`: the other side spins as well, see WAKING_ATTEMPT_NS in spin.c.
 */
static inline uint32_t spin_window(struct spin *spin, enum spin_case which, bool oversubscribed,
				   bool hinted)
{
	return spin_possible(spin) ? spin_choose(spin, which, oversubscribed, hinted) : 0;
}

static inline bool spin_may_yield(struct spin *spin)
{
	struct spin_history *history = &spin->history[SPIN_YIELD];

	if (history->skip == 0)
		return true;
	history->skip--;
	return false;
}

/* Whether the next spin of the case SPIN_WAKING is an attempt, to which the peer is hinted. */
static inline bool spin_is_attempt(const struct spin *spin)
{
	return spin->history[SPIN_WAKING].window_ns == 0;
}

/* A wait has ended in sleep. */
static inline void spin_slept(struct spin *spin)
{
	if (spin->cpus > 1)
		spin->last_ns = now_ns();
}

/* Looks at the clock once in this many looks at the memory. */
#define SPIN_LOOKS 4

/*
 * Spins until ready(context) or the end of the window, and learns from it.
 * Returns whether it was ready.
 */
static inline __attribute__((always_inline)) bool
spin_until(struct spin *spin, enum spin_case which, uint32_t window,
	   bool (*ready)(void *context), void *context)
{
	uint64_t start = now_ns(), now = start;

	while (now - start < window) {
		for (int i = 0; i < SPIN_LOOKS; i++) {
			cpu_pause();
			if (ready(context)) {
				now = now_ns();
				spin->last_ns = now;
				/* Later than that: it took a preemption to end the wait. */
				if (now - start > 2 * (uint64_t)window)
					spin_lost(spin, which);
				else
					spin_won(spin, which, (uint32_t)(now - start));
				return true;
			}
		}
		now = now_ns();
	}
	spin_lost(spin, which);
	return false;
}

#endif
