/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * timer: the engine's timerfd, and the time in which this process could run.
 *
 * Owns: struct timer. Invariant: the descriptor is armed for `at`; NEVER: it is not armed. It is
 * armed lazily: at its expiry, for a deadline later than `at`. Guarded by the engine's lock.
 *
 * Deadlines of tasks and runs count running time: CLOCK_MONOTONIC minus the timer's lateness. A
 * timer that is late shows that this process did not run, and that its children presumably did not
 * either; all deadlines move by the lateness. deadline.h says how much of a stop shows so.
 */
#ifndef DW_ENGINE_TIMER_H
#define DW_ENGINE_TIMER_H

#include <stdint.h>
#include "base/deadline.h"

/* A cancelled callable gets this long to notice. */
#define CANCEL_GRACE_NS	500000000ULL

struct timer {
	int fd;				/* -1: none */
	uint64_t at;			/* NEVER: not armed */
	uint64_t late_ns;		/* the sum of its lateness */
	uint64_t late_from, late_until;	/* the last time */
};

#define TIMER_INIT { .fd = -1, .at = NEVER }

/* 0, or -1 and errno. */
int timer_open(struct timer *timer);
void timer_close(struct timer *timer);
/* Running time: now, of a time stamp, so long from now (NEVER where that does not fit). */
uint64_t running_now(const struct timer *timer);
uint64_t running_at(const struct timer *timer, uint64_t monotonic_ns);
uint64_t running_deadline(const struct timer *timer, uint64_t ns);
/* Expires at `deadline`, as running_deadline(), or before. */
void timer_deadline(struct timer *timer, uint64_t deadline);
/* The same by the clock, which shows `now`. */
void timer_at_most(struct timer *timer, uint64_t at_ns, uint64_t now);
/* It has expired, and the clock shows `now`: notes its lateness. Returns the running time. */
uint64_t timer_expired(struct timer *timer, uint64_t now);

#endif
