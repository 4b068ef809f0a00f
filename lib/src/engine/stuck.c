/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See stuck.h.
 */
#include <errno.h>
#include "base/text.h"
#include "engine/elision.h"
#include "engine/stuck.h"

/* -------------------------------------------------------------- kept tasks */

static void member_returned(struct graph *graph, const struct member *member)
{
	struct task *task = member->task;

	if (!task->group->kept && task->queue == QUEUE_KEPT)
		graph_free_task(graph, task);
}

void stuck_returned(struct graph *graph, struct worker_ring *ring, uint32_t number)
{
	struct task *task = ring_unkeep(graph->rings, ring, &number);
	struct member *member;

	if (task) {
		graph_free_task(graph, task);
		return;
	}
	member = ring_unkeep_member(graph->rings, ring, &number);
	if (member)
		member_returned(graph, member);
}

void stuck_ended(struct graph *graph, struct worker_ring *ring)
{
	struct member *member;
	struct task *task;

	while ((task = ring_unkeep(graph->rings, ring, NULL)))
		graph_free_task(graph, task);
	while ((member = ring_unkeep_member(graph->rings, ring, NULL)))
		member_returned(graph, member);
}

static void forget_run(struct task *task, const struct run_graph *run)
{
	if (task->run != run)
		return;
	scope_forget_run(task->scope);
	task_forget_run(task);
}

void stuck_forget_run(const struct ring_set *rings, const struct run_graph *run)
{
	for (uint32_t i = 0; rings->kept_count && i < rings->count; i++) {
		for (struct task *task = rings->all[i].kept; task; task = task->next)
			forget_run(task, run);
		for (struct member *member = rings->all[i].kept_members; member;
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
			if (ranges[k].begin < tensors[i].data + bytes &&
			    tensors[i].data < ranges[k].end)
				return error_set(-EBUSY,
						 "tensor %zu: %s may still write to %#llx + %llu "
						 "bytes: %s",
						 k, ring->path, (unsigned long long)tensors[i].data,
						 (unsigned long long)bytes,
						 ring_cause(ring, "its thread goes on"));
	}
	return 0;
}

int stuck_check(const struct ring_set *rings, const struct range *ranges, size_t count)
{
	int result = 0;

	for (uint32_t i = 0; i < rings->count; i++) {
		const struct worker_ring *ring = &rings->all[i];

		for (const struct task *task = ring->kept; task && result == 0; task = task->next)
			result = check_payload(ring, &task->payload, ranges, count);
		for (const struct member *member = ring->kept_members; member && result == 0;
		     member = member->next)
			result = check_payload(ring, &member->payload, ranges, count);
	}
	return result;
}

/* ---------------------------------------------------------------- abandon */

static void abandon_task(struct graph *graph, struct worker_ring *ring, uint32_t number,
			 const char *why)
{
	struct entry *entry = ring_entry(graph->rings, ring, number);
	struct task *task = entry->task;
	char lost[ERROR_TEXT_BYTES];

	if (entry->flags & ENTRY_BOUND) {
		/* The thread copies that result home before it completes this one. */
		ring_cancel(graph->rings, ring, number);
		elision_lost(ring, entry, why, lost, sizeof(lost));
		why = lost;
	}
	task_leave_ring(task);
	entry_forget(entry);
	graph_abandon(task);
	if (task->flags & FLAG_GROUP) {
		ring_keep_member(graph->rings, ring, task, entry->member, number);
		graph_member_left(graph, task, entry->member, ring, -ETIMEDOUT, why, false);
		return;
	}
	task_set_placed(task, ring->index, number);
	graph_failed(graph, task, ring, -ETIMEDOUT, why, false);
}

/* The thread may still read the arguments: a separate control owns them from now on. */
static void abandon_control(struct ring_set *rings, struct worker_ring *ring, uint32_t number,
			    const char *why)
{
	struct entry *entry = ring_entry(rings, ring, number);
	struct control *control = entry->control;
	char text[ERROR_TEXT_BYTES];

	if (control->detached)
		return;
	entry_set_control(entry, control_split(control));
	text_format(text, sizeof(text), "%s: %s", ring->path, why);
	control_done(rings, control, -ETIMEDOUT, text);
}

/* Tasks that have not started go elsewhere; a detached control frame stays for later. */
static void revoke_all(struct graph *graph, struct worker_ring *ring)
{
	for (uint32_t number = ring->tail; number != ring->head; number--) {
		const struct entry *entry = ring_entry(graph->rings, ring, number - 1);
		struct task *task = entry->task;
		uint32_t member = entry->member;

		if (!task || entry->flags & ENTRY_BOUND ||
		    !ring_revoke(graph->rings, ring, number - 1))
			continue;
		if (task->flags & FLAG_GROUP)
			graph_member_left(graph, task, member, ring, -EOWNERDEAD,
					  ring_cause(ring, "dead"), true);
		else
			graph_returned(graph, task);
	}
}

static void abandon(struct schedule *schedule, struct worker_ring *ring, const char *why)
{
	struct ring_set *rings = schedule->rings;
	char text[ERROR_TEXT_BYTES];

	if (ring->state != RING_UP || ring->corrupt)
		return;
	ring_set_cause(ring, why, ring->error);
	revoke_all(schedule->graph, ring);
	ring_down(rings, ring, RING_STUCK);
	schedule_count(schedule, ring, -1, -1);
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		struct entry *entry = ring_entry(rings, ring, number);

		ring_end_deadline(ring, entry);
		if (entry->task)
			abandon_task(schedule->graph, ring, number, why);
		else if (entry->control)
			abandon_control(rings, ring, number, why);
		/* Its return is an event. */
		ring_request_notify(rings, ring, number);
	}
	text_format(text, sizeof(text), "%s: %s", ring->path, why);
	ring_fail_controls(rings, ring, NULL, true, -ETIMEDOUT, text);
	ring_update(rings, ring);
	schedule_fail_queued(schedule, ring);
	schedule_settle(schedule);
}

void stuck_recover(struct schedule *schedule, struct worker_ring *ring)
{
	ring_up(schedule->rings, ring);
	schedule_count(schedule, ring, 1, 1);
	ring_post_controls(schedule->rings, ring);
}

void ring_end(struct schedule *schedule, struct worker_ring *ring, const char *why)
{
	char text[ERROR_TEXT_BYTES];

	if (ring_kill(schedule->rings, ring, why))
		return;
	text_format(text, sizeof(text), "%s; its thread goes on, because a thread cannot be killed",
		    text_limited(why, 350));
	abandon(schedule, ring, text);
}
