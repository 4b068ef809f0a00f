/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See run_circle.h.
 */
#include <errno.h>
#include <pthread.h>
#include "engine/progress.h"
#include "engine/run.h"
#include "engine/run_circle.h"
#include "engine/state.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct run_wait *waits;

/* The run of the task that a child executes at this moment. */
static const struct dw_run *run_above(struct nesting_child child)
{
	const struct dw_run *run = NULL;
	struct worker_ring *ring;

	if (!child.engine)
		return NULL;
	ring = &child.engine->rings.all[child.worker];
	lock_take(&child.engine->lock);
	/*
	 * The child's completed frames leave the ring: the task that it executes is at the head
	 * then.
	 */
	engine_work(child.engine);
	if (ring->head != ring->tail) {
		const struct task *task = ring_entry(&child.engine->rings, ring, ring->head)->task;

		run = task ? run_of(task->run) : NULL;
	}
	engine_unlock_and_wake(child.engine);
	return run;
}

/* Whether `wanted` is this run, or a run with a task that this run is a part of. */
static bool is_part_of(const struct dw_run *run, const struct dw_run *wanted)
{
	for (; run; run = run_above(run->served))
		if (run == wanted)
			return true;
	return false;
}

/* Whether a run cannot end while this wait lasts. */
static bool holds_up(const struct run_wait *wait, const struct dw_run *run)
{
	for (const struct nesting *at = wait->inside; at; at = at->outer)
		if (is_part_of(at->run, run))
			return true;
	return is_part_of(run_above(wait->served), run);
}

/* Whether one of the waits that are marked, or this one, is for a run that `wait` holds up. */
static bool is_reached(const struct run_wait *wait, const struct run_wait *own)
{
	if (holds_up(wait, own->run))
		return true;
	for (const struct run_wait *at = waits; at; at = at->next)
		if (at->reached && holds_up(wait, at->run))
			return true;
	return false;
}

/* Marks all that the run waits for, directly or not. True: the thread's own runs are among it. */
static bool is_circle(const struct run_wait *own)
{
	bool again = true;

	if (holds_up(own, own->run))
		return true;
	for (struct run_wait *at = waits; at; at = at->next)
		at->reached = false;
	while (again) {
		again = false;
		for (struct run_wait *at = waits; at; at = at->next) {
			if (at->reached || !is_reached(at, own))
				continue;
			if (holds_up(own, at->run))
				return true;
			at->reached = again = true;
		}
	}
	return false;
}

int run_wait_begin(struct run_wait *wait, const struct dw_run *run, bool timed,
		       const char *call)
{
	const char *why;
	int result = 0;

	*wait = (struct run_wait){
		.inside = nesting_innermost(), .served = nesting_served(), .run = run,
	};
	/* A thread that is inside of nothing holds up nothing. */
	if (!wait->inside && !wait->served.engine)
		return 0;
	pthread_mutex_lock(&mutex);
	if (is_circle(wait)) {
		why = nesting_inside(run) ?
		      "the call is made by its own orchestration function or progress callback" :
		      "it waits, through others, for the run that the caller is a part of";
		result = error_set(-EDEADLK, "%s: the run cannot end before this call does: %s",
				   call, why);
	} else if (!timed) {
		wait->next = waits;
		waits = wait;
	}
	pthread_mutex_unlock(&mutex);
	return result;
}

void run_wait_end(struct run_wait *wait)
{
	struct run_wait **at;

	if (!wait->inside && !wait->served.engine)
		return;
	pthread_mutex_lock(&mutex);
	for (at = &waits; *at && *at != wait; at = &(*at)->next)
		;
	if (*at)
		*at = wait->next;
	pthread_mutex_unlock(&mutex);
}
