/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * progress: the thread that drives the engine, and those that wait.
 *
 * Owns: struct progress. It alone runs harvest → graph → schedule → publish. The first thread that
 * waits drives: it works, and waits in the hub's foreground, which saves the wake-up of the
 * background thread. The others sleep on a word of their own until their condition is true, or
 * until the driver has left and one of them has to take over. Guarded by the engine's lock, which
 * all of these need unless they say otherwise.
 *
 * Invariant: a thread that changes a condition of a waiter calls waiters_settle(), or
 * engine_work(), which calls it, before it releases the lock.
 */
#ifndef DW_ENGINE_PROGRESS_H
#define DW_ENGINE_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/deadline.h"

struct control;
struct dw_run;
struct engine;
struct worker_ring;

struct waiter {
	struct waiter *next;
	bool (*ready)(const struct waiter *waiter);
	struct engine *engine;
	struct dw_run *run;
	const struct control *control;
	uint64_t value;
	bool (*condition)(const struct waiter *waiter);
	bool kicked;			/* the driver: knows, or need not be told */
	bool idle;			/* never drives */
	_Atomic uint32_t woken;		/* event */
};

static inline void waiter_set(struct waiter *waiter, bool (*ready)(const struct waiter *waiter))
{
	waiter->ready = ready;
}

/* `ready` may call the former one as `condition`, until waiter_unwrap(). */
static inline void waiter_wrap(struct waiter *waiter, bool (*ready)(const struct waiter *waiter))
{
	waiter->condition = waiter->ready;
	waiter->ready = ready;
}
static inline void waiter_unwrap(struct waiter *waiter) { waiter->ready = waiter->condition; }

struct progress {
	struct waiter *foreground;	/* it drives */
	struct waiter *waiters;
	uint32_t cursor;		/* where the next partial harvest begins */
	uint32_t since_harvest;
	uint64_t submits;		/* a count that the background thread compares */
	bool waited;			/* a thread has waited since workers were woken last */
};

/* All work that is pending now: harvest, consequences, dispatch, publication. */
void engine_work(struct engine *engine);
/* A bounded share of it, by a submitter. */
void engine_work_some(struct engine *engine);
/* Harvests one ring and settles the graph; dispatches nothing. */
void progress_harvest(struct engine *engine, struct worker_ring *ring);
/* Releases the lock, and wakes the workers that have got work. */
void engine_unlock_and_wake(struct engine *engine);
/* A submit has begun, under the lock. */
static inline void progress_submits(struct progress *progress) { progress->submits++; }
/* engine_work_some() follows as that of `count` submits. */
static inline void progress_submitted(struct progress *progress, uint32_t count)
{
	progress->since_harvest += count - 1;
}

/*
 * Drops the lock while it waits. 0 when ready() was true, or -ETIMEDOUT. No deadline: NULL.
 */
int wait_locked(struct engine *engine, struct waiter *waiter, struct deadline *deadline);
/* The same, once, for a waiter that never drives: 0 also when it was woken for nothing. */
int wait_idle_locked(struct engine *engine, struct waiter *waiter, uint64_t deadline_ns);
/* Wakes those whose condition has become true. */
void waiters_settle(struct engine *engine);
/* Passes the hub's news of its peers to the worker layer. Without the lock. */
void engine_pass_changes(struct engine *engine);

#endif
