/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * ring, continued: frames that wait for frames of other rings. See ring_flow.h.
 */
#include <errno.h>
#include "engine/ring_flow.h"
#include "mailbox/timeline.h"

void request_notify_producers(struct ring_set *rings, const struct task *task)
{
	for (uint32_t i = 0; i < task->marks; i++) {
		struct worker_ring *ring = &rings->all[task->mark_rings[i]];

		if (ring_has_frame(ring, task->mark_positions[i]))
			ring_request_notify(rings, ring, task->mark_positions[i]);
	}
}

struct worker_ring *ring_before_head(const struct ring_set *rings, const struct worker_ring *ring)
{
	const struct entry *entry = ring_entry(rings, ring, ring->head);
	const struct task *task = entry->task;

	if (ring->head == ring->tail || !(entry->flags & ENTRY_AHEAD) || !task)
		return NULL;
	for (uint32_t i = 0; i < task->marks; i++) {
		struct worker_ring *other = &rings->all[task->mark_rings[i]];

		if (other != ring && ring_has_frame(other, task->mark_positions[i]))
			return other;
	}
	return NULL;
}

void ring_ran_too_early(struct ring_set *rings, struct worker_ring *ring)
{
	error_set(-EPROTO, "mailbox %u: frame %u has run before one that it waits for",
		  ring->index, ring->head);
	hub_distrust(rings->hub, ring->index);
	ring_distrust(rings, ring);
}
