/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Threads that wait for something in the engine. One of them drives: it works
 * and waits in the hub's foreground, so that nobody pays a wake-up for the background
 * thread. The others sleep on a word of their own until their condition is true, or until
 * the driver has left and one of them has to take over.
 */
#include <errno.h>
#include "engine/schedule.h"
#include "engine/state.h"
#include "engine/wait.h"

void waiters_settle(struct engine *engine)
{
	for (struct waiter *waiter = engine->waiters; waiter; waiter = waiter->next)
		if (!atomic_load_explicit(&waiter->woken, memory_order_relaxed) &&
		    waiter->ready(waiter))
			event_set(&waiter->woken);
	if (engine->foreground && engine->hub && !engine->foreground->kicked &&
	    engine->foreground->ready(engine->foreground)) {
		engine->foreground->kicked = true;
		hub_kick(engine->hub);
	}
}

void engine_pass_changes(struct engine *engine)
{
	struct hub_change change;
	uint32_t i;

	while (hub_next_change(engine->hub, &i, &change))
		if (engine->ops && engine->ops->changed)
			engine->ops->changed(engine->ops_context, i, &change);
}

/* The driver leaves: another thread that waits takes over, if there is one. */
static void hand_over(struct engine *engine)
{
	for (struct waiter *waiter = engine->waiters; waiter; waiter = waiter->next) {
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

	engine->foreground = waiter;
	hub_drive_begin(engine->hub);
	for (;;) {
		/* Its own changes need no kick; others' are looked for again below. */
		waiter->kicked = true;
		engine_work(engine);
		if (waiter->ready(waiter))
			break;
		if (is_over(deadline)) {
			result = -ETIMEDOUT;
			break;
		}
		ask_for_refill(engine);
		if (engine->any_pending)
			continue;
		waiter->kicked = false;
		/* hub_wait() wakes who is marked. */
		engine->wake = false;
		lock_give(&engine->lock);
		hub_wait(engine->hub, sleep_until(deadline));
		engine_pass_changes(engine);
		lock_take(&engine->lock);
	}
	waiter->kicked = true;
	hub_drive_end(engine->hub);
	engine_work(engine);
	engine->foreground = NULL;
	hand_over(engine);
	return result;
}

static int wait_for_event(struct engine *engine, struct waiter *waiter, struct deadline *deadline)
{
	struct waiter **link;
	int result;

	atomic_store_explicit(&waiter->woken, 0, memory_order_relaxed);
	waiter->next = NULL;
	for (link = &engine->waiters; *link; link = &(*link)->next)
		;
	*link = waiter;
	engine_unlock_and_wake(engine);
	event_wait(&waiter->woken, sleep_until(deadline));
	result = is_over(deadline) ? -ETIMEDOUT : 0;
	lock_take(&engine->lock);
	for (link = &engine->waiters; *link != waiter; link = &(*link)->next)
		;
	*link = waiter->next;
	return result;
}

int wait_idle_locked(struct engine *engine, struct waiter *waiter, uint64_t deadline_ns)
{
	struct deadline deadline = deadline_at(deadline_ns);

	return waiter->ready(waiter) ? 0 : wait_for_event(engine, waiter, &deadline);
}

/* With the lock, which is dropped meanwhile. 0 when ready() was true, or -ETIMEDOUT. No deadline: NULL. */
int wait_locked(struct engine *engine, struct waiter *waiter, struct deadline *deadline)
{
	int result = 0;

	engine->waited = true;
	while (!waiter->ready(waiter)) {
		if (result < 0)
			return result;
		if (engine->hub && !engine->foreground) {
			result = drive(engine, waiter, deadline);
		} else {
			engine_work(engine);
			if (!waiter->ready(waiter))
				result = wait_for_event(engine, waiter, deadline);
		}
	}
	return 0;
}
