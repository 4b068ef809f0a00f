/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See progress.h.
 */
#include <errno.h>
#include "engine/progress.h"
#include "engine/schedule_group.h"
#include "engine/state.h"
#include "engine/stuck.h"
#include "mailbox/timeline.h"

/* A submit looks for completions this seldom when nothing asks for it. */
#define HARVEST_EVERY	16

/* -------------------------------------------------------------------- work */

static bool take_one(struct engine *engine, struct worker_ring *ring)
{
	struct ring_completion done;

	if (!ring_next(&engine->rings, ring, &done))
		return false;
	if (UNLIKELY(ring->state == RING_STUCK))
		stuck_returned(&engine->graph, ring, done.number);
	if (done.task)
		graph_completed(&engine->graph, ring, &done);
	return true;
}

/*
 * The task at the head waited for frames of other rings, whose completions come first, and so on;
 * the order in which frames were posted has no circle. False: they are not there.
 */
static bool harvest_before(struct engine *engine, struct worker_ring *ring)
{
	struct ring_set *rings = &engine->rings;
	struct worker_ring *at = ring, *before;
	uint16_t state = hub_next_state(rings->hub, ring->index);
	bool any = false;

	if (!state || !completion_has_run(state))
		return state;
	for (;;) {
		before = ring_before_head(rings, at);
		if (before) {
			ring_resume(before, at);
			at = before;
			continue;
		}
		if (at == ring)
			break;
		if (!take_one(engine, at)) {
			/* One that is corrupt is being killed; this one has not lied. */
			if (!at->corrupt)
				ring_ran_too_early(rings, at->resume);
			return false;
		}
		any = true;
		schedule_ring_moved(&engine->schedule, at);
		ring_update(rings, at);
		at = at->resume;
	}
	/* If one of them has failed, the task is skipped. */
	if (any)
		schedule_settle(&engine->schedule);
	return true;
}

void progress_harvest(struct engine *engine, struct worker_ring *ring)
{
	struct ring_set *rings = &engine->rings;
	bool any = false;

	if (ring->head == ring->tail)
		return;
	while ((LIKELY(!ring->ahead) || harvest_before(engine, ring)) && take_one(engine, ring))
		any = true;
	if (!any)
		return;
	if (UNLIKELY(ring->state == RING_STUCK && ring->head == ring->tail))
		stuck_recover(&engine->schedule, ring);
	schedule_ring_moved(&engine->schedule, ring);
	ring_update(rings, ring);
	schedule_settle(&engine->schedule);
}

static void harvest_pending(struct engine *engine)
{
	struct ring_set *rings = &engine->rings;

	rings_no_pending(rings);
	for (uint32_t word = 0; word < rings->words; word++) {
		uint64_t bits = rings_take_pending(rings, word);

		for (uint32_t i; bits_next(&bits, word, &i);)
			progress_harvest(engine, &rings->all[i]);
	}
}

static void dispatch(struct engine *engine)
{
	if (!engine->schedule.queued)
		return;
	schedule_begin(&engine->schedule);
	if (UNLIKELY(engine->schedule.has_groups))
		groups_admit(&engine->schedule);
	schedule_dispatch(&engine->schedule);
}

static void harvest_and_dispatch(struct engine *engine)
{
	struct ring_set *rings = &engine->rings;

	engine->progress.since_harvest = 0;
	for (uint32_t i = 0; (i = hub_next_ready(rings->hub, i)) < rings->count; i++)
		progress_harvest(engine, &rings->all[i]);
	do {
		if (rings->any_pending)
			harvest_pending(engine);
		schedule_settle(&engine->schedule);
		dispatch(engine);
		schedule_balance(&engine->schedule);
		rings_publish(rings);
	} while (rings->any_pending || engine->graph.finished || engine->schedule.queued);
	waiters_settle(engine);
}

void engine_work(struct engine *engine)
{
	if (!engine->rings.hub) {
		schedule_settle(&engine->schedule);
		waiters_settle(engine);
		return;
	}
	harvest_and_dispatch(engine);
}

void engine_work_some(struct engine *engine)
{
	struct progress *progress = &engine->progress;
	struct ring_set *rings = &engine->rings;
	uint32_t i;

	if (rings->any_pending)
		harvest_pending(engine);
	if (++progress->since_harvest >= HARVEST_EVERY && LIKELY(rings->hub != NULL)) {
		progress->since_harvest = 0;
		for (uint32_t count = 0; count < 4; count++) {
			i = hub_next_ready(rings->hub, progress->cursor);
			if (i >= rings->count) {
				progress->cursor = 0;
				break;
			}
			progress_harvest(engine, &rings->all[i]);
			progress->cursor = i + 1;
		}
	}
	if (engine->graph.finished)
		schedule_settle(&engine->schedule);
	while (engine->schedule.queued || rings->any_pending) {
		dispatch(engine);
		if (UNLIKELY(rings->any_pending))
			harvest_pending(engine);
	}
	if (progress->waiters || progress->foreground)
		waiters_settle(engine);
	if (rings->hub)
		hub_polled(rings->hub);
}

/*
 * A worker that is woken on this CPU may run before its waker goes on, and complete all its frames.
 * The waker counts as driving meanwhile, so that the worker does not wake the background thread for
 * completions that are harvested here. Skip this for threads that submit back to back: a worker
 * with no thread to wake sleeps at once, and they would pay one wake-up per task.
 */
static void wake_and_drive(struct engine *engine)
{
	hub_drive_begin(engine->rings.hub);
	rings_woken(&engine->rings);
	engine->progress.waited = false;
	lock_give(&engine->lock);
	hub_wake(engine->rings.hub);
	lock_take(&engine->lock);
	/* Else another thread drives by now. */
	if (!engine->progress.foreground) {
		hub_drive_end(engine->rings.hub);
		if (hub_next_ready(engine->rings.hub, 0) < engine->rings.count)
			harvest_and_dispatch(engine);
	}
}

void engine_unlock_and_wake(struct engine *engine)
{
	bool wake;

	if (UNLIKELY(engine->rings.wake && engine->progress.waited && !engine->progress.foreground))
		wake_and_drive(engine);
	wake = engine->rings.wake;
	if (wake)
		engine->progress.waited = false;
	rings_woken(&engine->rings);
	lock_give(&engine->lock);
	if (wake)
		hub_wake(engine->rings.hub);
}

/* ------------------------------------------------------------------- waiting */

void waiters_settle(struct engine *engine)
{
	struct waiter *driver = engine->progress.foreground;

	for (struct waiter *waiter = engine->progress.waiters; waiter; waiter = waiter->next)
		if (!atomic_load_explicit(&waiter->woken, memory_order_relaxed) &&
		    waiter->ready(waiter))
			event_set(&waiter->woken);
	if (driver && engine->rings.hub && !driver->kicked && driver->ready(driver)) {
		driver->kicked = true;
		hub_kick(engine->rings.hub);
	}
}

void engine_pass_changes(struct engine *engine)
{
	struct hub_change change;
	uint32_t i;

	while (hub_next_change(engine->rings.hub, &i, &change))
		if (engine->rings.ops && engine->rings.ops->changed)
			engine->rings.ops->changed(engine->rings.ops_context, i, &change);
}

/* The driver leaves: another thread that waits takes over, if there is one. */
static void hand_over(struct engine *engine)
{
	for (struct waiter *waiter = engine->progress.waiters; waiter; waiter = waiter->next) {
		if (waiter->idle)
			continue;
		event_set(&waiter->woken);
		return;
	}
}

static uint64_t sleep_until(struct deadline *deadline)
{
	return deadline ? deadline_sleep(deadline, now_ns()) : NEVER;
}

static bool is_over(struct deadline *deadline)
{
	return deadline && deadline_passed(deadline, now_ns());
}

static int drive(struct engine *engine, struct waiter *waiter, struct deadline *deadline)
{
	int result = 0;

	engine->progress.foreground = waiter;
	hub_drive_begin(engine->rings.hub);
	for (;;) {
		/* Its own changes need no kick; those of others are looked for below. */
		waiter->kicked = true;
		engine_work(engine);
		if (waiter->ready(waiter))
			break;
		if (is_over(deadline)) {
			result = -ETIMEDOUT;
			break;
		}
		schedule_refill(&engine->schedule);
		if (engine->rings.any_pending)
			continue;
		waiter->kicked = false;
		/* hub_wait() wakes the workers that are marked. */
		rings_woken(&engine->rings);
		lock_give(&engine->lock);
		hub_wait(engine->rings.hub, sleep_until(deadline));
		engine_pass_changes(engine);
		lock_take(&engine->lock);
	}
	waiter->kicked = true;
	hub_drive_end(engine->rings.hub);
	engine_work(engine);
	engine->progress.foreground = NULL;
	hand_over(engine);
	return result;
}

static int wait_for_event(struct engine *engine, struct waiter *waiter, struct deadline *deadline)
{
	struct waiter **link;
	int result;

	atomic_store_explicit(&waiter->woken, 0, memory_order_relaxed);
	waiter->next = NULL;
	for (link = &engine->progress.waiters; *link; link = &(*link)->next)
		;
	*link = waiter;
	engine_unlock_and_wake(engine);
	event_wait(&waiter->woken, sleep_until(deadline));
	result = is_over(deadline) ? -ETIMEDOUT : 0;
	lock_take(&engine->lock);
	for (link = &engine->progress.waiters; *link != waiter; link = &(*link)->next)
		;
	*link = waiter->next;
	return result;
}

int wait_idle_locked(struct engine *engine, struct waiter *waiter, uint64_t deadline_ns)
{
	struct deadline deadline = deadline_at(deadline_ns);

	return waiter->ready(waiter) ? 0 : wait_for_event(engine, waiter, &deadline);
}

int wait_locked(struct engine *engine, struct waiter *waiter, struct deadline *deadline)
{
	int result = 0;

	engine->progress.waited = true;
	while (!waiter->ready(waiter)) {
		if (result < 0)
			return result;
		if (engine->rings.hub && !engine->progress.foreground) {
			result = drive(engine, waiter, deadline);
		} else {
			engine_work(engine);
			if (!waiter->ready(waiter))
				result = wait_for_event(engine, waiter, deadline);
		}
	}
	return 0;
}
