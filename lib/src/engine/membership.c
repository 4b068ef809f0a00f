/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * membership: workers come up, die, are gone, come back. The calls of engine.h by which the worker
 * layer reports it.
 *
 * A task whose worker dies while running it fails at once; but the rest of the worker's subtree may
 * still write the task's memory. So the task is parked: the tasks and threads that wait for it, or
 * for its memory, go on when the whole subtree has ended. With the engine's lock.
 */
#include <errno.h>
#include "base/text.h"
#include "engine/elision.h"
#include "engine/progress.h"
#include "engine/state.h"
#include "engine/stuck.h"

void engine_worker_up(struct engine *engine, uint32_t worker)
{
	struct worker_ring *ring = &engine->rings.all[worker];
	enum ring_state before;

	lock_take(&engine->lock);
	before = (enum ring_state)ring->state;
	if (before != RING_UP) {
		if (before == RING_RETURNING || before == RING_DEAD)
			count_restarts(&engine->counters);
		ring_up(&engine->rings, ring);
		schedule_count(&engine->schedule, ring, 1, before == RING_DEAD);
		schedule_takers(&engine->schedule, ring);
		/* Before any task. */
		ring_post_controls(&engine->rings, ring);
		if (ring->controls)
			schedule_want_ring(&engine->schedule, ring);
	}
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

/* The worker died with the frame in its ring, or was killed because of it. */
static void control_lost(struct engine *engine, const struct worker_ring *ring,
			 struct control *control, const char *cause)
{
	char text[ERROR_TEXT_BYTES];

	if (control->late)
		text_format(text, sizeof(text), "%s: %s %s and was killed", ring->path,
			    control->what, control->late);
	else
		text_format(text, sizeof(text), "%s: %s", ring->path, cause);
	control_done(&engine->rings, control, control->late ? -ETIMEDOUT : -EOWNERDEAD, text);
}

static void park(struct graph *graph, struct worker_ring *ring, const struct entry *entry,
		 const char *cause)
{
	struct task *task = entry->task;

	if (task->flags & FLAG_GROUP) {
		ring_park_member(ring, task, entry->member);
		graph_member_died(graph, task, entry->member, ring, cause);
	} else {
		ring_park(ring, task);
		graph_fail(graph, task, ring, ring->error, cause, false);
	}
}

/*
 * The frames that were in the ring when the worker died. A corrupt worker's account of them is not
 * trusted: all count as started.
 */
static void fail_entries(struct engine *engine, struct worker_ring *ring, const char *cause)
{
	char text[ERROR_TEXT_BYTES], lost[ERROR_TEXT_BYTES];

	text_copy(text, sizeof(text), cause);
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		struct entry *entry = ring_entry(&engine->rings, ring, number);
		struct task *task = entry->task;
		bool started = ring->corrupt ||
			       hub_started(engine->rings.hub, ring->index, number);

		if (entry->control) {
			control_lost(engine, ring, entry->control, cause);
			continue;
		}
		if (!task)
			continue;
		task_leave_ring(task);
		if (entry->flags & ENTRY_BOUND) {
			elision_lost(ring, entry, text, lost, sizeof(lost));
			park(&engine->graph, ring, entry, lost);
		} else if (started)
			park(&engine->graph, ring, entry, text);
		else if (task->flags & FLAG_GROUP)
			graph_member_left(&engine->graph, task, entry->member, ring, -EOWNERDEAD,
					  text, true);
		else
			graph_returned(&engine->graph, task);
	}
}

static void worker_lost(struct engine *engine, struct worker_ring *ring, bool returns,
			const char *cause)
{
	bool was_usable = !ring_is_lost(ring), was_up = ring->state == RING_UP;
	char text[ERROR_TEXT_BYTES];

	/* Completions from before the death count. */
	ring_publish(&engine->rings, ring);
	progress_harvest(engine, ring);
	/* So do those of the producers that its task waited for. */
	for (uint32_t i = 0; ring->ahead && i < engine->rings.count; i++)
		progress_harvest(engine, &engine->rings.all[i]);
	ring_down(&engine->rings, ring, returns ? RING_RETURNING : RING_DEAD);
	if (returns && engine->init_timeout_ns) {
		ring_return_by(ring, running_deadline(&engine->timer, engine->init_timeout_ns));
		timer_deadline(&engine->timer, ring->return_by);
	}
	schedule_count(&engine->schedule, ring, was_up ? -1 : 0, was_usable && !returns ? -1 : 0);
	if (was_up)
		count_deaths(&engine->counters);
	fail_entries(engine, ring, cause);
	text_format(text, sizeof(text), "%s: %s", ring->path, cause);
	ring_fail_controls(&engine->rings, ring, NULL, false, -EOWNERDEAD, text);
	ring_emptied(&engine->rings, ring);
	chip_memory_worker_dead(engine, ring->index, cause);
}

void engine_worker_dead(struct engine *engine, uint32_t worker, bool returns, int error,
			const char *cause)
{
	struct worker_ring *ring = &engine->rings.all[worker];

	lock_take(&engine->lock);
	ring_set_cause(ring, cause, error);
	worker_lost(engine, ring, returns, cause);
	schedule_settle(&engine->schedule);
	if (ring->state == RING_DEAD)
		schedule_fail_queued(&engine->schedule, ring);
	ring_stopped(ring, 0);
	schedule_takers(&engine->schedule, ring);
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

void engine_worker_gone(struct engine *engine, uint32_t worker)
{
	struct worker_ring *ring = &engine->rings.all[worker];
	struct member *member;
	struct task *task;

	lock_take(&engine->lock);
	while ((task = ring_unpark(ring)))
		graph_fail_now(&engine->graph, task);
	while ((member = ring_unpark_member(ring)))
		graph_member_gone(&engine->graph, member->task);
	stuck_ended(&engine->graph, ring);
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

void engine_worker_stopped(struct engine *engine, uint32_t worker, int signal)
{
	lock_take(&engine->lock);
	ring_stopped(&engine->rings.all[worker], signal);
	schedule_takers(&engine->schedule, &engine->rings.all[worker]);
	engine_work(engine);
	engine_unlock_and_wake(engine);
}
