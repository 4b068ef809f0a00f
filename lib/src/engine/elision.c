/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See elision.h.
 */
#include "base/text.h"
#include "depend/tensor_map.h"
#include "engine/elision.h"

/* Whether the task writes exactly that tensor's bytes, under that name. */
static bool makes(const struct task *task, const struct dw_tensor *tensor, uint64_t name)
{
	const struct frame_names *names;
	const struct dw_tensor *tensors;
	uint64_t bytes = 0, wanted = 0;
	uint32_t count;

	tensors = names_of(&task->payload, &count, &names);
	dw_tensor_bytes(tensor, &wanted);
	for (uint32_t i = 0; names && i < count; i++)
		if (names[i].makes == name && tensors[i].data == tensor->data &&
		    dw_tensor_bytes(&tensors[i], &bytes) == 0 && bytes == wanted)
			return true;
	return false;
}

/* Whether all consumers of a task, with `by`, are in its ring, and none by an explicit edge. */
static bool all_follow(const struct worker_ring *ring, const struct task *task,
		       const struct task *by)
{
	bool found = false;

	for (const struct edge *edge = task->first; edge; edge = edge->next) {
		const struct task *consumer = edge->consumer;

		if (edge->reasons & EDGE_EXPLICIT || consumer->head.state != TASK_RUNNING ||
		    consumer->flags & FLAG_GROUP || consumer->placed != ring->index)
			return false;
		found |= consumer == by;
	}
	return found;
}

/* The task in the ring that makes this name; NULL: none that has not ended. */
static const struct task *maker(const struct affinity *affinity, const struct ring_set *rings,
				const struct worker_ring *ring, uint64_t name)
{
	const struct affinity_place *place = affinity_find(affinity, name);

	if (!place || place->maker != ring->index ||
	    place->frame - ring->head >= ring_outstanding(ring))
		return NULL;
	return ring_entry(rings, ring, place->frame)->task;
}

void elision_posted(const struct affinity *affinity, struct ring_set *rings,
		    struct worker_ring *ring, const struct task *task)
{
	const struct frame_names *names;
	const struct dw_tensor *tensors;
	const struct task *before;
	uint32_t count;

	if (ring->kind != DW_CHILD_CHIP || !task->waiting || task->retries ||
	    ring_entry(rings, ring, task->position)->flags & ENTRY_AHEAD)
		return;
	tensors = names_of(&task->payload, &count, &names);
	for (uint32_t i = 0; names && i < count; i++) {
		if (!names[i].sees || !names[i].makes)
			continue;
		before = maker(affinity, rings, ring, names[i].sees);
		if (!before || before == task || before->flags & FLAG_GROUP || before->retries ||
		    !makes(before, &tensors[i], names[i].sees) ||
		    !all_follow(ring, before, task))
			continue;
		if (hub_supersede(rings->hub, ring->index, before->position, task->position))
			entry_supersedes(ring_entry(rings, ring, task->position));
	}
}

void elision_kept(struct ring_set *rings, const struct worker_ring *ring, const struct task *task)
{
	for (const struct edge *edge = task->first; edge; edge = edge->next) {
		const struct task *consumer = edge->consumer;

		if (consumer->head.state == TASK_RUNNING && !(consumer->flags & FLAG_GROUP) &&
		    consumer->placed == ring->index)
			entry_bind(ring_entry(rings, ring, consumer->position), task->head.number);
	}
}

void elision_lost(const struct worker_ring *ring, const struct entry *entry, const char *cause,
		  char *text, size_t space)
{
	text_format(text, space, "%s; the result of task %llu, which it needs and only %s had, is "
		    "lost", text_limited(cause, 350),
		    (unsigned long long)(entry->task->head.number - entry->bound_by), ring->path);
}
