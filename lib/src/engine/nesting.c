/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See nesting.h. A wait is refused when it could never end: the run that is waited for is one that
 * the thread itself is inside of, or it waits in turn, over any number of other threads, for such a
 * one.
 */
#include <errno.h>
#include <pthread.h>
#include "engine/nesting.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"

static _Thread_local struct nesting *innermost;
static _Thread_local struct nesting_child served;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct nesting_wait *waits;

void nesting_push(struct nesting *nesting, struct dw_run *run)
{
	nesting->outer = innermost;
	nesting->run = run;
	innermost = nesting;
}

void nesting_pop(struct nesting *nesting)
{
	innermost = nesting->outer;
}

void nesting_serve(struct engine *engine, uint32_t worker)
{
	served = (struct nesting_child){ .engine = engine, .worker = worker };
}

struct nesting_child nesting_served(void)
{
	return served;
}

void nesting_forget(void)
{
	innermost = NULL;
	nesting_serve(NULL, 0);
}

bool nesting_each(bool (*visit)(const struct engine *engine, bool task, const void *context),
		  const void *context)
{
	for (const struct nesting *at = innermost; at; at = at->outer)
		if (visit(at->run->engine, false, context))
			return true;
	return served.engine && visit(served.engine, true, context);
}

bool nesting_inside(const struct dw_run *run)
{
	for (const struct nesting *at = innermost; at; at = at->outer)
		if (at->run == run)
			return true;
	return false;
}

/* The run of the task that a child executes at this moment. */
static const struct dw_run *run_above(struct nesting_child child)
{
	const struct dw_run *run = NULL;
	struct worker_ring *ring;

	if (!child.engine)
		return NULL;
	ring = &child.engine->rings[child.worker];
	lock_take(&child.engine->lock);
	/*
	 * What the child has completed leaves the ring: the task that it executes is at the head
	 * then.
	 */
	engine_work(child.engine);
	if (ring->head != ring->tail) {
		const struct task *task = ring_entry(child.engine, ring, ring->head)->task;

		run = task ? task->run : NULL;
	}
	engine_unlock_and_wake(child.engine);
	return run;
}

/* Whether `wanted` is this run, or one that a task of which this run is a part of belongs to. */
static bool is_part_of(const struct dw_run *run, const struct dw_run *wanted)
{
	for (; run; run = run_above(run->served))
		if (run == wanted)
			return true;
	return false;
}

/* Whether a run cannot end while this wait lasts. */
static bool holds_up(const struct nesting_wait *wait, const struct dw_run *run)
{
	for (const struct nesting *at = wait->inside; at; at = at->outer)
		if (is_part_of(at->run, run))
			return true;
	return is_part_of(run_above(wait->served), run);
}

/* Whether one of the waits that are marked, or this one, is for a run that `wait` holds up. */
static bool is_reached(const struct nesting_wait *wait, const struct nesting_wait *own)
{
	if (holds_up(wait, own->run))
		return true;
	for (const struct nesting_wait *at = waits; at; at = at->next)
		if (at->reached && holds_up(wait, at->run))
			return true;
	return false;
}

/* Marks all that the run waits for, directly or not. True: the thread's own runs are among it. */
static bool is_circle(const struct nesting_wait *own)
{
	bool again = true;

	if (holds_up(own, own->run))
		return true;
	for (struct nesting_wait *at = waits; at; at = at->next)
		at->reached = false;
	while (again) {
		again = false;
		for (struct nesting_wait *at = waits; at; at = at->next) {
			if (at->reached || !is_reached(at, own))
				continue;
			if (holds_up(own, at->run))
				return true;
			at->reached = again = true;
		}
	}
	return false;
}

int nesting_wait_begin(struct nesting_wait *wait, const struct dw_run *run, bool timed,
		       const char *call)
{
	int result = 0;

	*wait = (struct nesting_wait){ .inside = innermost, .served = served, .run = run };
	/* A thread that is inside of nothing holds up nothing. */
	if (!innermost && !served.engine)
		return 0;
	pthread_mutex_lock(&mutex);
	if (is_circle(wait)) {
		result = error_set(-EDEADLK, "%s: the run cannot end before this call does: %s", call,
				   nesting_inside(run) ?
				   "the call is made by its own orchestration function or progress callback" :
				   "it waits, through others, for the run that the caller is a part of");
	} else if (!timed) {
		wait->next = waits;
		waits = wait;
	}
	pthread_mutex_unlock(&mutex);
	return result;
}

void nesting_wait_end(struct nesting_wait *wait)
{
	struct nesting_wait **at;

	if (!wait->inside && !wait->served.engine)
		return;
	pthread_mutex_lock(&mutex);
	for (at = &waits; *at && *at != wait; at = &(*at)->next)
		;
	if (*at)
		*at = wait->next;
	pthread_mutex_unlock(&mutex);
}
