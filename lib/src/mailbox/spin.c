// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The wait policy; spin.h describes its inputs.
 *
 * The window is a multiple of the average duration of won waits; each lost wait halves it. An empty
 * window comes back through occasional attempts, whose interval doubles with each failure. So a
 * waiter that gains nothing by spinning (one CPU, an oversubscribed machine, sparse load) soon pays
 * almost nothing for it, and one that could gain finds out within a few waits.
 *
 * With more busy children than CPUs a child yields once before it sleeps: a parent that posts to
 * many in turn would otherwise wake each for every frame. The same intervals hold. (With as many as
 * CPUs, as one on one CPU, it makes round trips longer: 10.0 k instructions instead of 8.2 k.)
 */
#include <sched.h>
#include <string.h>
#include "mailbox/spin.h"

#define AWAKE_LEAST_NS 1000
/* With other work for the CPU a sleep costs a context switch and no idle CPU's wake-up. */
#define OVERSUBSCRIBED_LIMIT_NS 2000
/*
 * "Each wakes the other" feeds on itself: a side that sleeps has to be woken, and by then the other
 * side sleeps. The parent breaks the cycle by an occasional attempt: it spins long enough for the
 * wake-up of an idle CPU of a virtual machine and the answer, and hints the peer to spin too. If
 * that wins, the following waits are of the other case.
 */
#define WAKING_ATTEMPT_NS 100000
/*
 * When peers take turns, so that each sleeps while the others run, a spin through the wake-up of
 * the next peer saves half of every hand-over: the waiter's own wake-up. It pays only if the peer's
 * wake-up takes no longer than this, and only for a busy waiter: at one task per millisecond the
 * spin would only cost CPU time.
 */
#define WAKING_WORTH_NS 40000
#define WAKING_BUSY_NS 100000
#define WAKING_STREAK 64
#define AWAKE_BACKOFF_LIMIT 256
/*
 * A yield that ends the wait within a part of a time slice has saved a wake-up and two switches.
 * After longer a program outside the tree has had the CPU, and a wake-up would have come sooner.
 */
#define YIELD_WORTH_NS 500000
#define YIELD_BACKOFF_LIMIT 256
#define WAKING_BACKOFF_LIMIT 512
/* Waits between two looks at the affinity mask. */
#define COUNT_CPUS_EVERY 1024

uint32_t spin_cpus(void)
{
	cpu_set_t set;
	int count;

	/* More CPUs than the set has room for (EINVAL) are more than one. */
	if (sched_getaffinity(0, sizeof(set), &set))
		return CPU_SETSIZE;
	count = CPU_COUNT(&set);
	return count > 0 ? (uint32_t)count : 1;
}

void spin_init(struct spin *spin, uint32_t limit_ns)
{
	memset(spin, 0, sizeof(*spin));
	spin->limit_ns = limit_ns;
	spin->history[SPIN_AWAKE].window_ns = limit_ns;
}

uint32_t spin_choose(struct spin *spin, enum spin_case which, bool oversubscribed, bool hinted)
{
	struct spin_history *history = &spin->history[which];
	uint32_t window = history->window_ns;

	if (spin->waits == 0) {
		spin->waits = COUNT_CPUS_EVERY;
		spin->cpus = spin_cpus();
	}
	if (spin->cpus < 2 || (oversubscribed && which == SPIN_WAKING))
		return 0;
	if (window && which == SPIN_WAKING && now_ns() - spin->last_ns > WAKING_BUSY_NS)
		return 0;
	if (window == 0) {
		if (history->skip > 0 && !hinted) {
			history->skip--;
			return 0;
		}
		window = which == SPIN_AWAKE ? spin->limit_ns : WAKING_ATTEMPT_NS;
	}
	return oversubscribed && window > OVERSUBSCRIBED_LIMIT_NS ? OVERSUBSCRIBED_LIMIT_NS :
								    window;
}

/* The next attempt is due after twice as many waits as the last. */
static void back_off(struct spin_history *history, uint32_t limit)
{
	history->window_ns = 0;
	history->backoff = history->backoff ? history->backoff * 2 : 1;
	if (history->backoff > limit)
		history->backoff = limit;
	history->skip = history->backoff;
}

void spin_won(struct spin *spin, enum spin_case which, uint32_t ns)
{
	struct spin_history *history = &spin->history[which];

	__atomic_store_n(&spin->won, spin->won + 1, __ATOMIC_RELAXED);
	if (which == SPIN_YIELD) {
		history->backoff = 0;
		return;
	}
	history->average_ns = (history->average_ns * 7 + ns) / 8;
	if (which == SPIN_WAKING) {
		/* The peer may be awake from now on, and then the other case counts. */
		spin->history[SPIN_AWAKE].skip = 0;
		if (history->average_ns > WAKING_WORTH_NS) {
			back_off(history, WAKING_BACKOFF_LIMIT);
		} else {
			history->window_ns = 2 * WAKING_WORTH_NS;
			/*
			 * One attempt in so many may be lost: a loss costs a multiple of the gain
			 * of a win.
			 */
			if (++history->streak >= WAKING_STREAK) {
				history->streak = 0;
				history->backoff /= 2;
			}
		}
		return;
	}
	history->window_ns = history->average_ns * 4;
	if (history->window_ns < 2 * ns)
		history->window_ns = 2 * ns;
	if (history->window_ns < AWAKE_LEAST_NS)
		history->window_ns = AWAKE_LEAST_NS;
	if (history->window_ns > spin->limit_ns)
		history->window_ns = spin->limit_ns;
	history->backoff = 0;
	history->skip = 0;
	spin->history[SPIN_WAKING].backoff /= 2;
	spin->history[SPIN_WAKING].skip = 0;
}

void spin_lost(struct spin *spin, enum spin_case which)
{
	struct spin_history *history = &spin->history[which];

	__atomic_store_n(&spin->lost, spin->lost + 1, __ATOMIC_RELAXED);
	if (which == SPIN_YIELD) {
		back_off(history, YIELD_BACKOFF_LIMIT);
		return;
	}
	if (which == SPIN_WAKING) {
		history->streak = 0;
		back_off(history, WAKING_BACKOFF_LIMIT);
		return;
	}
	history->window_ns /= 2;
	if (history->window_ns < AWAKE_LEAST_NS)
		back_off(history, AWAKE_BACKOFF_LIMIT);
}

bool spin_yield(struct spin *spin, bool (*ready)(void *context), void *context)
{
	uint64_t start = now_ns();
	bool is_ready;

	sched_yield();
	is_ready = ready(context);
	if (is_ready && now_ns() - start < YIELD_WORTH_NS)
		spin_won(spin, SPIN_YIELD, 0);
	else
		spin_lost(spin, SPIN_YIELD);
	return is_ready;
}
