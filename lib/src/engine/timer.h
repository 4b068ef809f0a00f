/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Deadlines of tasks and runs, and stragglers: one timerfd. With the engine's lock.
 */
#ifndef DW_ENGINE_TIMER_H
#define DW_ENGINE_TIMER_H

#include "base/deadline.h"
#include "engine/schedule.h"

#define STRAGGLER_NS	2000000
/* What was cancelled gets this long to notice. */
#define CANCEL_GRACE_NS	500000000ULL

/*
 * Deadlines are kept in the time in which this process could run: CLOCK_MONOTONIC without what
 * the timer was late. running_deadline(): so long from now; NEVER.
 */
uint64_t running_now(const struct engine *engine);
uint64_t running_at(const struct engine *engine, uint64_t monotonic_ns);
uint64_t running_deadline(const struct engine *engine, uint64_t ns);
/* Something ends at `deadline`, as running_deadline(). */
void timer_deadline(struct engine *engine, uint64_t deadline);
void timer_expired(struct engine *engine);
void straggler_watch(struct engine *engine, struct pool *pool);
void ring_head_changed(struct engine *engine, struct worker_ring *ring);

#endif
