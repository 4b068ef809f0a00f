/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See expire.h.
 */
#include <errno.h>
#include "base/text.h"
#include "engine/expire.h"
#include "engine/progress.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/stuck.h"

/* A worker has at least this long to start the task at its head, despite a shorter deadline. */
#define START_GRACE_NS 300000000ULL

/* The beginning of a message: "", or the signal that has stopped the process. */
static const char *stopped_and(const struct worker_ring *ring, char *text, size_t space)
{
	text[0] = '\0';
	if (ring->stopped)
		text_format(text, space, "it was stopped by %s, and ",
			    error_signal_name(ring->stopped));
	return text;
}

/* The driver call at the head takes too long, or its run was cancelled: it cannot check that. */
static void end_call(struct engine *engine, struct worker_ring *ring, struct entry *entry,
		     const char *late)
{
	const char *call = entry->control ? entry->control->what : NULL;
	char name[ERROR_TEXT_BYTES / 2], why[ERROR_TEXT_BYTES], stopped[64];

	ring_end_deadline(ring, entry);
	if (entry->control) {
		control_set_late(entry->control, late);
	} else {
		task_set_flags(entry->task, FLAG_DEADLINE);
		task_describe(entry->task, name, sizeof(name));
		call = name;
	}
	text_format(why, sizeof(why), "%s%s %s", stopped_and(ring, stopped, sizeof(stopped)),
		 call ? call : "a control frame", late);
	ring_end(&engine->schedule, ring, why);
}

/*
 * The frame at the head has run too long. A thread is told, and has CANCEL_GRACE_NS to react.
 */
static void expire(struct engine *engine, struct worker_ring *ring, struct entry *entry,
		   uint64_t now)
{
	char name[ERROR_TEXT_BYTES / 2], why[ERROR_TEXT_BYTES], stopped[64];
	uint64_t timeout = entry->timeout_ns;

	if (!entry->task || entry->task->callable->control) {
		end_call(engine, ring, entry, "took longer than its deadline");
		return;
	}
	if (entry->flags & ENTRY_TOLD)
		timeout = task_timeout(&engine->rings, entry->task);
	task_set_flags(entry->task, FLAG_DEADLINE);
	task_describe(entry->task, name, sizeof(name));
	text_format(why, sizeof(why), "%s%s ran longer than its deadline of %llu ns",
		 stopped_and(ring, stopped, sizeof(stopped)), name, (unsigned long long)timeout);
	if (entry->flags & ENTRY_TOLD) {
		ring_end(&engine->schedule, ring, why);
		return;
	}
	ring_cancel(&engine->rings, ring, ring->head);
	ring_tell_cancelled(&engine->rings, ring);
	if (ring_kill(&engine->rings, ring, why)) {
		ring_end_deadline(ring, entry);
		return;
	}
	ring_extend_deadline(&engine->rings, ring, now, CANCEL_GRACE_NS, true);
}

static void expire_head(struct engine *engine, struct worker_ring *ring, uint64_t now)
{
	char why[128], stopped[64];
	struct entry *entry;
	uint64_t deadline;

	/* Completions in time count, even without a notification; and corruption is found. */
	progress_harvest(engine, ring);
	if (ring->corrupt || ring->head == ring->tail)
		return;
	entry = ring_entry(&engine->rings, ring, ring->head);
	if (!(entry->flags & ENTRY_TIMED) || (!entry->task && !entry->control))
		return;
	/* Its time has not begun. */
	if (entry->flags & ENTRY_AHEAD && entry->task && entry->task->waiting) {
		ring_head_starts(&engine->rings, ring);
		return;
	}
	deadline = ring->head_since + entry->timeout_ns;
	if (deadline < ring->head_since)
		return;
	if (now >= deadline && hub_started(engine->rings.hub, ring->index, ring->head)) {
		expire(engine, ring, entry, now);
		return;
	}
	if (deadline < ring->head_since + START_GRACE_NS && now >= deadline)
		deadline = ring->head_since + START_GRACE_NS;
	if (now < deadline) {
		timer_deadline(&engine->timer, deadline);
		return;
	}
	stopped_and(ring, stopped, sizeof(stopped));
	text_format(why, sizeof(why), "%s%sdid not start its next task before that one's deadline",
		 stopped, stopped[0] ? "" : "it ");
	if (ring_kill(&engine->rings, ring, why))
		return;
	/* A thread that has not started the frame is in no driver call, so it will run. */
	ring_extend_deadline(&engine->rings, ring, now, CANCEL_GRACE_NS, false);
}

/* Ends tasks that run on after their run's deadline. Returns whether there were any. */
static bool kill_overdue(struct engine *engine, const struct dw_run *run)
{
	char why[128], stopped[64];
	bool any = false;

	for (uint32_t i = 0; i < engine->rings.count; i++) {
		struct worker_ring *ring = &engine->rings.all[i];
		struct entry *entry = ring_entry(&engine->rings, ring, ring->head);

		if (ring->head == ring->tail || !entry->task || entry->task->run != &run->graph ||
		    !hub_started(engine->rings.hub, i, ring->head))
			continue;
		task_set_flags(entry->task, FLAG_DEADLINE);
		stopped_and(ring, stopped, sizeof(stopped));
		text_format(why, sizeof(why), "%s%sran on after its run's deadline had passed",
			    stopped, stopped[0] ? "" : "it ");
		ring_end(&engine->schedule, ring, why);
		any = true;
	}
	return any;
}

/* Ends the driver calls of a cancelled run after their grace period. Whether there were any. */
static bool end_calls(struct engine *engine, const struct dw_run *run)
{
	bool any = false;

	for (uint32_t i = 0; i < engine->rings.count; i++) {
		struct worker_ring *ring = &engine->rings.all[i];
		struct entry *entry;

		progress_harvest(engine, ring);
		entry = ring_entry(&engine->rings, ring, ring->head);
		if (ring->corrupt || ring->head == ring->tail || !entry_is_call(entry, &run->graph))
			continue;
		any = true;
		if (hub_started(engine->rings.hub, i, ring->head))
			end_call(engine, ring, entry, "did not return after its run was cancelled");
	}
	return any;
}

/* A replacement that is not ready in time hangs in its start: a driver that does not open, say. */
static void check_return(struct engine *engine, struct worker_ring *ring, uint64_t now)
{
	if (ring->state != RING_RETURNING || ring->return_by == NEVER)
		return;
	if (now >= ring->return_by) {
		ring_kill(&engine->rings, ring,
			  "the replacement was not ready before init_timeout_ns");
		ring_return_by(ring, running_deadline(&engine->timer, engine->init_timeout_ns));
	}
	timer_deadline(&engine->timer, ring->return_by);
}

static void check_run(struct engine *engine, struct dw_run *run, uint64_t now)
{
	struct timer *timer = &engine->timer;

	if (now >= run->calls_end)
		run_set_calls_end(run, end_calls(engine, run) ? now + CANCEL_GRACE_NS : NEVER);
	timer_deadline(timer, run->calls_end);
	if (run->deadline == NEVER)
		return;
	if (now < run->deadline) {
		timer_deadline(timer, run->deadline);
	} else if (run->overdue) {
		/* Behind these, another task may start that ignores the cancellation. */
		run_set_deadline(run, kill_overdue(engine, run) ? now + CANCEL_GRACE_NS : NEVER,
				 true);
		timer_deadline(timer, run->deadline);
	} else {
		run_set_deadline(run, now + CANCEL_GRACE_NS, true);
		timer_deadline(timer, run->deadline);
		run_cancel_locked(run, -ETIMEDOUT, "the run's deadline has passed");
	}
}

void engine_expire(struct engine *engine)
{
	uint64_t clock = now_ns(), now = timer_expired(&engine->timer, clock);
	struct dw_run *run, *next;

	engine_work(engine);
	for (run = engine->runs.first; run; run = next) {
		next = run->next;
		check_run(engine, run, now);
	}
	for (uint32_t i = 0; i < engine->rings.count; i++) {
		if (engine->rings.all[i].timed)
			expire_head(engine, &engine->rings.all[i], now);
		check_return(engine, &engine->rings.all[i], now);
	}
	stragglers_expired(&engine->schedule, clock);
	engine_work(engine);
}
