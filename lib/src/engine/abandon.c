/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Frames of a worker that is a thread, and does not return from one of them. A thread cannot
 * be killed: its started frames fail with ETIMEDOUT, the others go elsewhere, and the worker is
 * STUCK, which is as good as dead, until the thread has completed all that it had started.
 *
 * Invariant: what the thread may still read or write is given back only then. Until then a
 * final task keeps its memory, its payload, its scope (and so its heap blocks) and its callable,
 * and no new task may have tensors that overlap with what it writes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/text.h"
#include "engine/abandon.h"
#include "engine/chip_memory.h"
#include "engine/completion.h"
#include "engine/group.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"

/* --------------------------------------------------------- what is kept */

/* A final task. False: no thread has it any more. */
bool task_keep(struct engine *engine, struct task *task)
{
	struct worker_ring *ring;

	if (task->flags & FLAG_GROUP) {
		if (!task->group->kept)
			return false;
	} else {
		ring = &engine->rings[task->placed];
		task->next = ring->kept;
		ring->kept = task;
		engine->kept_count++;
	}
	task->queue = QUEUE_KEPT;
	return true;
}

static void member_returned(struct engine *engine, struct member *member)
{
	struct task *task = member->task;

	engine->kept_count--;
	if (--task->group->kept == 0 && task->queue == QUEUE_KEPT)
		task_release(engine, task);
}

/* The thread has completed frame `number`, which was abandoned. */
void ring_returned(struct engine *engine, struct worker_ring *ring, uint32_t number)
{
	struct member **member = &ring->kept_members, *found;
	struct task **link = &ring->kept, *task;

	while (*link && (*link)->position != number)
		link = &(*link)->next;
	task = *link;
	if (task) {
		*link = task->next;
		engine->kept_count--;
		task_release(engine, task);
		return;
	}
	while (*member && (*member)->position != number)
		member = &(*member)->next;
	found = *member;
	if (found) {
		*member = found->next;
		member_returned(engine, found);
	}
}

/* Its thread has ended. */
void ring_release_kept(struct engine *engine, struct worker_ring *ring)
{
	struct member *member;
	struct task *task;

	while ((task = ring->kept)) {
		ring->kept = task->next;
		engine->kept_count--;
		task_release(engine, task);
	}
	while ((member = ring->kept_members)) {
		ring->kept_members = member->next;
		member_returned(engine, member);
	}
}

static void forget_run(struct task *task, const struct dw_run *run)
{
	if (task->run != run)
		return;
	for (struct scope *scope = task->scope; scope; scope = scope->outer)
		scope->run = NULL;
	task->run = NULL;
}

/* The run ends, and what its abandoned tasks keep stays. */
void kept_forget_run(struct engine *engine, const struct dw_run *run)
{
	for (uint32_t i = 0; engine->kept_count && i < engine->worker_count; i++) {
		for (struct task *task = engine->rings[i].kept; task; task = task->next)
			forget_run(task, run);
		for (struct member *member = engine->rings[i].kept_members; member;
		     member = member->next)
			forget_run(member->task, run);
	}
}

static int check_payload(const struct worker_ring *ring, const struct payload *payload,
			 const struct range *ranges, size_t count)
{
	const unsigned char *blob = payload->copy;
	const struct dw_tensor *tensors = (const struct dw_tensor *)(blob + WIRE_HEADER_BYTES);
	const uint8_t *tags = payload_tags(payload);
	int32_t tensor_count;
	uint64_t bytes;

	memcpy(&tensor_count, blob, sizeof(tensor_count));
	for (int32_t i = 0; i < tensor_count; i++) {
		if (tags[i] == DW_INPUT || dw_tensor_bytes(&tensors[i], &bytes) < 0)
			continue;
		for (size_t k = 0; k < count; k++)
			if (ranges[k].begin < tensors[i].data + bytes && tensors[i].data < ranges[k].end)
				return error_set(-EBUSY, "tensor %zu: %s may still write to %#llx + %llu "
						 "bytes: %s", k, ring->path,
						 (unsigned long long)tensors[i].data,
						 (unsigned long long)bytes,
						 ring->cause ? ring->cause : "its thread goes on");
	}
	return 0;
}

/* Whether a thread that goes on may write to one of the ranges: -EBUSY. */
int kept_check(const struct engine *engine, const struct range *ranges, size_t count)
{
	int result = 0;

	for (uint32_t i = 0; i < engine->worker_count; i++) {
		const struct worker_ring *ring = &engine->rings[i];

		for (const struct task *task = ring->kept; task && result == 0; task = task->next)
			if (!chip_memory_is_control(task->callable))
				result = check_payload(ring, &task->payload, ranges, count);
		for (const struct member *member = ring->kept_members; member && result == 0;
		     member = member->next)
			result = check_payload(ring, &member->payload, ranges, count);
	}
	return result;
}

/* ---------------------------------------------------------------- abandon */

static void abandon_task(struct engine *engine, struct worker_ring *ring, uint32_t number, const char *why)
{
	struct entry *entry = ring_entry(engine, ring, number);
	struct task *task = entry->task;
	struct member *member;

	task_leave_ring(engine, task);
	entry->task = NULL;
	task->flags |= FLAG_ABANDONED;
	task->retries = 0;
	if (task->flags & FLAG_GROUP) {
		member = &task->group->members[entry->member];
		member->task = task;
		member->position = number;
		member->next = ring->kept_members;
		ring->kept_members = member;
		engine->kept_count++;
		task->group->kept++;
		group_member_left(engine, task, entry->member, ring, -ETIMEDOUT, why, false);
		return;
	}
	task->placed = ring->index;
	task->position = number;
	task_failed(engine, task, ring, -ETIMEDOUT, why, false);
}

/* Its arguments stay where the thread reads them: a control of its own owns them from now on. */
static void abandon_control(struct engine *engine, struct worker_ring *ring, uint32_t number,
			    const char *why)
{
	struct entry *entry = ring_entry(engine, ring, number);
	struct control *control = entry->control, *owner = NULL;
	char text[ERROR_TEXT_BYTES];

	if (control->detached)
		return;
	if (control->arena_blob)
		owner = calloc(1, sizeof(*owner));
	if (owner) {
		owner->detached = true;
		owner->arena_blob = control->arena_blob;
	}
	entry->control = owner;
	control->arena_blob = NULL;
	text_format(text, sizeof(text), "%s: %s", ring->path, why);
	control_done(engine, control, -ETIMEDOUT, text);
}

/* What has not started goes elsewhere; a control frame that nobody waits for stays for later. */
static void revoke_all(struct engine *engine, struct worker_ring *ring)
{
	for (uint32_t number = ring->tail; number != ring->head; number--) {
		struct task *task = ring_entry(engine, ring, number - 1)->task;
		uint32_t member = ring_entry(engine, ring, number - 1)->member;

		if (!task || !ring_revoke(engine, ring, number - 1))
			continue;
		if (task->flags & FLAG_GROUP)
			group_member_left(engine, task, member, ring, -EOWNERDEAD, ring->cause, true);
		else
			task_returned(engine, task);
	}
}

static void fail_waiting_controls(struct engine *engine, struct worker_ring *ring, const char *why)
{
	struct control **link = &ring->controls, *control, *last = NULL;
	char text[ERROR_TEXT_BYTES];

	text_format(text, sizeof(text), "%s: %s", ring->path, why);
	while ((control = *link)) {
		if (control->detached) {
			last = control;
			link = &control->next;
			continue;
		}
		*link = control->next;
		control_done(engine, control, -ETIMEDOUT, text);
	}
	ring->last_control = last;
}

void ring_abandon(struct engine *engine, struct worker_ring *ring, const char *why)
{
	struct pool *pool = &engine->pools[ring->pool];
	char *cause;

	if (ring->state != RING_UP || ring->corrupt)
		return;
	/* It may be the old cause that is passed in. */
	cause = strdup(why);
	free(ring->cause);
	ring->cause = cause;
	revoke_all(engine, ring);
	ring->state = RING_STUCK;
	pool->up--;
	pool->usable--;
	pool->saturated = false;
	ring->reserved = false;
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		struct entry *entry = ring_entry(engine, ring, number);

		if (entry->flags & ENTRY_TIMED)
			ring->timed--;
		entry->flags &= (uint8_t)~ENTRY_TIMED;
		if (entry->task)
			abandon_task(engine, ring, number, why);
		else if (entry->control)
			abandon_control(engine, ring, number, why);
		/* Its return is an event. */
		ring_request_notify(engine, ring, number);
	}
	fail_waiting_controls(engine, ring, why);
	ring_update(engine, ring);
	ring_fail_queued(engine, ring);
	engine->queued = true;
	finish_all(engine);
}

/* The thread has completed all that it had. */
void ring_recover(struct engine *engine, struct worker_ring *ring)
{
	struct pool *pool = &engine->pools[ring->pool];

	ring->state = RING_UP;
	pool->up++;
	pool->usable++;
	pool->saturated = false;
	bit_set(pool->awake, ring->index);
	ring_update(engine, ring);
	ring_post_controls(engine, ring);
	engine->queued = true;
}

void ring_end(struct engine *engine, struct worker_ring *ring, const char *why)
{
	char text[ERROR_TEXT_BYTES];

	if (ring_kill(engine, ring, why))
		return;
	text_format(text, sizeof(text), "%s; its thread goes on, because a thread cannot be killed",
		 text_limited(why, 350));
	ring_abandon(engine, ring, text);
}
