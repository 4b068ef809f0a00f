/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Deadlines of tasks and runs, and stragglers: one timerfd, read by the background
 * thread. It is armed while something that it stands for is in a ring, and lazily: when
 * it expires too early, it is armed again for what is next.
 *
 * A task's time begins when its frame comes to the head of the ring, since only
 * then it can start. A worker that has not even started it by then hangs as well (it
 * was stopped, say): it is killed, and the task goes elsewhere.
 *
 * Deadlines are kept in the time in which this process could run, running_now(): a timer that comes
 * late moves them all by its lateness.
 *
 * Stragglers: a task that was put behind another, or is held back for it, because that one
 * is short, as far as is known, while a worker has nothing to do. If the other takes longer
 * than thought, nothing happens that anybody could wait for; so such a task has a deadline, at
 * which it goes to the other worker. It is armed only while one waits like that.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include "base/text.h"
#include "engine/abandon.h"
#include "engine/chip_memory.h"
#include "engine/completion.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"
#include "engine/timer.h"

#define STRAGGLER_MAX_NS 16000000
/* A worker gets this long to start what is at its head, however short the task's own deadline. */
#define START_GRACE_NS 300000000ULL

uint64_t running_now(const struct engine *engine)
{
	return now_ns() - engine->late_ns;
}

/* What was read from the clock before the last stop was so much earlier, too. */
uint64_t running_at(const struct engine *engine, uint64_t monotonic_ns)
{
	uint64_t late_ns = engine->late_ns;

	if (monotonic_ns < engine->late_until) {
		late_ns -= engine->late_until - engine->late_from;
		if (monotonic_ns > engine->late_from)
			monotonic_ns = engine->late_from;
	}
	return monotonic_ns > late_ns ? monotonic_ns - late_ns : 0;
}

uint64_t running_deadline(const struct engine *engine, uint64_t ns)
{
	uint64_t now = running_now(engine);

	return ns < NEVER - now ? now + ns : NEVER;
}

/* By the clock. */
static void timer_at_most(struct engine *engine, uint64_t at_ns, uint64_t now)
{
	struct itimerspec timer;

	/* What is over already does not make the timer late. */
	if (at_ns < now)
		at_ns = now;
	if (at_ns >= engine->timer_at || engine->timer_fd < 0)
		return;
	timer = (struct itimerspec){
		.it_value = { .tv_sec = (time_t)(at_ns / 1000000000),
			      .tv_nsec = (long)(at_ns % 1000000000) + (at_ns % 1000000000 == 0) },
	};
	engine->timer_at = at_ns;
	timerfd_settime(engine->timer_fd, TFD_TIMER_ABSTIME, &timer, NULL);
}

void timer_deadline(struct engine *engine, uint64_t deadline)
{
	uint64_t now = now_ns();

	if (deadline < NEVER - engine->late_ns)
		timer_at_most(engine, deadline_half(deadline + engine->late_ns, now), now);
}

/*
 * The timer was late: this process did not run, and neither, as far as one can know, did its
 * children. All deadlines move by that. deadline.h says how much of a stop shows so.
 */
static void note_lateness(struct engine *engine, uint64_t now)
{
	if (now <= engine->timer_at)
		return;
	engine->late_from = engine->timer_at;
	engine->late_until = now;
	engine->late_ns += now - engine->timer_at;
}

/*
 * The frame at the head has a deadline. Its time begins when the one before it has ended, but not
 * before it was posted: that end may be noticed late. A child that lies about its clock gains nothing.
 */
void ring_head_changed(struct engine *engine, struct worker_ring *ring)
{
	struct entry *entry = ring_entry(engine, ring, ring->head);
	uint64_t now = running_now(engine);

	if (ring->head_since > now)
		ring->head_since = now;
	if (ring->head_since < entry->posted_ns)
		ring->head_since = entry->posted_ns;
	if (entry->timeout_ns < NEVER - ring->head_since)
		timer_deadline(engine, ring->head_since + entry->timeout_ns);
}

/* "" or that its process is stopped, for a sentence that goes on. */
static const char *stopped_and(const struct worker_ring *ring, char *text, size_t space)
{
	text[0] = '\0';
	if (ring->stopped)
		text_format(text, space, "it was stopped by %s, and ", error_signal_name(ring->stopped));
	return text;
}

static void tell(struct engine *engine, struct worker_ring *ring)
{
	hub_cancel(engine->hub, ring->index, ring->head);
	if (engine->ops && engine->ops->cancelled)
		engine->ops->cancelled(engine->ops_context, ring->index);
}

/* The call of a driver at the head takes too long, or nobody wants it any more. It cannot ask. */
static void end_call(struct engine *engine, struct worker_ring *ring, struct entry *entry, const char *late)
{
	const char *what = entry->control ? entry->control->what : "dw_chip_free()";
	char why[ERROR_TEXT_BYTES], stopped[64];

	if (entry->flags & ENTRY_TIMED)
		ring->timed--;
	entry->flags &= (uint8_t)~ENTRY_TIMED;
	if (entry->control)
		entry->control->late = late;
	else
		entry->task->flags |= FLAG_DEADLINE;
	text_format(why, sizeof(why), "%s%s %s", stopped_and(ring, stopped, sizeof(stopped)),
		 what ? what : "a control frame", late);
	ring_end(engine, ring, why);
}

/*
 * The frame at the head has run too long. A thread is told, and has a moment to notice that.
 */
static void expire(struct engine *engine, struct worker_ring *ring, struct entry *entry, uint64_t now)
{
	char what[ERROR_TEXT_BYTES / 2], why[ERROR_TEXT_BYTES], stopped[64];
	uint64_t timeout = entry->timeout_ns;

	if (!entry->task || chip_memory_is_control(entry->task->callable)) {
		end_call(engine, ring, entry, "took longer than its deadline");
		return;
	}
	if (entry->flags & ENTRY_TOLD)
		timeout = entry->task->timeout_ns ? entry->task->timeout_ns : engine->timeout_ns;
	entry->task->flags |= FLAG_DEADLINE;
	task_describe(entry->task, what, sizeof(what));
	text_format(why, sizeof(why), "%s%s ran longer than its deadline of %llu ns",
		 stopped_and(ring, stopped, sizeof(stopped)), what, (unsigned long long)timeout);
	if (entry->flags & ENTRY_TOLD) {
		ring_end(engine, ring, why);
		return;
	}
	tell(engine, ring);
	if (ring_kill(engine, ring, why)) {
		entry->flags &= (uint8_t)~ENTRY_TIMED;
		ring->timed--;
		return;
	}
	entry->flags |= ENTRY_TOLD;
	entry->timeout_ns = now - ring->head_since + CANCEL_GRACE_NS;
	timer_deadline(engine, now + CANCEL_GRACE_NS);
}

static void expire_head(struct engine *engine, struct worker_ring *ring, uint64_t now)
{
	char why[128], stopped[64];
	struct entry *entry;
	uint64_t deadline;

	/* What it has completed in time counts, also if nobody was told; and nonsense is found. */
	ring_harvest(engine, ring, UINT32_MAX);
	if (ring->corrupt || ring->head == ring->tail)
		return;
	entry = ring_entry(engine, ring, ring->head);
	if (!(entry->flags & ENTRY_TIMED) || (!entry->task && !entry->control))
		return;
	deadline = ring->head_since + entry->timeout_ns;
	if (deadline < ring->head_since)
		return;
	if (now >= deadline && hub_started(engine->hub, ring->index, ring->head)) {
		expire(engine, ring, entry, now);
		return;
	}
	if (deadline < ring->head_since + START_GRACE_NS && now >= deadline)
		deadline = ring->head_since + START_GRACE_NS;
	if (now < deadline) {
		timer_deadline(engine, deadline);
		return;
	}
	stopped_and(ring, stopped, sizeof(stopped));
	text_format(why, sizeof(why), "%s%sdid not start its next task before that one's deadline",
		 stopped, stopped[0] ? "" : "it ");
	if (ring_kill(engine, ring, why))
		return;
	/* A thread that has not run yet: in no call of a driver, so that it will. */
	entry->timeout_ns = now - ring->head_since + CANCEL_GRACE_NS;
	timer_deadline(engine, now + CANCEL_GRACE_NS);
}

/* Tasks of a run that was cancelled at its deadline, and that run on. Whether there were any. */
static bool kill_overdue(struct engine *engine, const struct dw_run *run)
{
	char why[128], stopped[64];
	bool any = false;

	for (uint32_t i = 0; i < engine->worker_count; i++) {
		struct worker_ring *ring = &engine->rings[i];
		struct entry *entry = ring_entry(engine, ring, ring->head);

		if (ring->head == ring->tail || !entry->task || entry->task->run != run ||
		    !hub_started(engine->hub, i, ring->head))
			continue;
		entry->task->flags |= FLAG_DEADLINE;
		stopped_and(ring, stopped, sizeof(stopped));
		text_format(why, sizeof(why), "%s%sran on after its run's deadline had passed", stopped,
			 stopped[0] ? "" : "it ");
		ring_end(engine, ring, why);
		any = true;
	}
	return any;
}

/* Calls of a driver for a cancelled run, which have had their moment. */
static bool end_calls(struct engine *engine, const struct dw_run *run)
{
	bool any = false;

	for (uint32_t i = 0; i < engine->worker_count; i++) {
		struct worker_ring *ring = &engine->rings[i];
		struct entry *entry;

		ring_harvest(engine, ring, UINT32_MAX);
		entry = ring_entry(engine, ring, ring->head);
		if (ring->corrupt || ring->head == ring->tail || !entry_is_call(entry, run))
			continue;
		any = true;
		if (hub_started(engine->hub, i, ring->head))
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
		ring_kill(engine, ring, "the replacement was not ready before init_timeout_ns");
		ring->return_by = running_deadline(engine, engine->init_timeout_ns);
	}
	timer_deadline(engine, ring->return_by);
}

static void check_run(struct engine *engine, struct dw_run *run, uint64_t now)
{
	if (now >= run->calls_end)
		run->calls_end = end_calls(engine, run) ? now + CANCEL_GRACE_NS : NEVER;
	timer_deadline(engine, run->calls_end);
	if (run->deadline == NEVER)
		return;
	if (now < run->deadline) {
		timer_deadline(engine, run->deadline);
	} else if (run->overdue) {
		/* Behind those another may start that does not ask either. */
		run->deadline = kill_overdue(engine, run) ? now + CANCEL_GRACE_NS : NEVER;
		timer_deadline(engine, run->deadline);
	} else {
		run->overdue = true;
		run->deadline = now + CANCEL_GRACE_NS;
		timer_deadline(engine, run->deadline);
		run_cancel_locked(run, -ETIMEDOUT, "the run's deadline has passed");
	}
}

static bool has_idle(const struct engine *engine, const struct pool *pool)
{
	for (uint32_t word = 0; word < engine->words; word++)
		if (pool->idle[word] & pool->open[word])
			return true;
	return false;
}

static void straggler_arm(struct engine *engine, uint64_t now)
{
	engine->straggler = true;
	for (uint32_t i = 0; i < engine->worker_count; i++)
		engine->rings[i].straggler_head = engine->rings[i].head;
	timer_at_most(engine, now + engine->straggler_ns, now);
}

/* A task waits for another although somebody may have nothing to do: it shall not stick there. */
void straggler_watch(struct engine *engine, struct pool *pool)
{
	if (LIKELY(engine->straggler) || pool->up < 2 || !has_idle(engine, pool))
		return;
	engine->straggler_ns = STRAGGLER_NS;
	straggler_arm(engine, now_ns());
}

static void stragglers_expired(struct engine *engine, uint64_t now)
{
	bool again = false;

	engine->straggler = false;
	for (uint32_t i = 0; i < engine->worker_count; i++) {
		struct worker_ring *ring = &engine->rings[i];
		struct pool *pool = &engine->pools[ring->pool];

		if ((!ring->any_waiting && !(pool->any.first && ring_outstanding(ring))) ||
		    !has_idle(engine, pool))
			continue;
		if (ring->straggler_head == ring->head)
			requeue_stragglers(engine, ring, engine->straggler_ns);
		else
			again = true;
	}
	if (!again)
		return;
	if (engine->straggler_ns < STRAGGLER_MAX_NS)
		engine->straggler_ns *= 2;
	straggler_arm(engine, now);
}

/* With the lock, by the background thread. */
void timer_expired(struct engine *engine)
{
	uint64_t clock = now_ns(), now;
	struct dw_run *run, *next;

	note_lateness(engine, clock);
	now = clock - engine->late_ns;
	engine->timer_at = NEVER;
	engine_work(engine);
	for (run = engine->runs; run; run = next) {
		next = run->next;
		check_run(engine, run, now);
	}
	for (uint32_t i = 0; i < engine->worker_count; i++) {
		if (engine->rings[i].timed)
			expire_head(engine, &engine->rings[i], now);
		check_return(engine, &engine->rings[i], now);
	}
	if (engine->straggler)
		stragglers_expired(engine, clock);
	engine_work(engine);
}
