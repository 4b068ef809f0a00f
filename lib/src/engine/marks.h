/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * marks: in which rings the unfinished producers of a task are.
 *
 * Owns: the marks of struct task. A mark is the last producer in a ring; it stays when that leaves
 * the ring, until it is dropped. Guarded by the engine's lock.
 *
 * Invariant: a producer that counts in `in_rings` is not behind the mark of its ring.
 */
#ifndef DW_ENGINE_MARKS_H
#define DW_ENGINE_MARKS_H

#include "engine/task.h"

/* The producer of this edge sits in a ring: its consumer may go into a ring if all do. */
static inline void edge_mark(struct edge *edge, const struct task *producer)
{
	struct task *consumer = edge->consumer;
	uint32_t i = 0;

	if (!consumer->in_rings)
		consumer->marks = 0;
	while (i < consumer->marks && consumer->mark_rings[i] != producer->placed)
		i++;
	if (i == MARKS_MOST)
		return;
	if (i == consumer->marks) {
		consumer->marks++;
		consumer->mark_rings[i] = (uint16_t)producer->placed;
		consumer->mark_positions[i] = producer->position;
	} else if ((int32_t)(producer->position - consumer->mark_positions[i]) > 0) {
		consumer->mark_positions[i] = producer->position;
	}
	edge->counted = true;
	consumer->in_rings++;
}

/* Its producer has left the ring. The last mark takes its place. */
static inline void mark_drop(struct task *task, uint32_t i)
{
	task->marks--;
	task->mark_rings[i] = task->mark_rings[task->marks];
	task->mark_positions[i] = task->mark_positions[task->marks];
}

#endif
