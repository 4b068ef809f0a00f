/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * One more edge to the new task of an edge builder (graph.h); for the sources of the graph alone,
 * each of which has its own copy. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_EDGE_ADD_H
#define DW_ENGINE_EDGE_ADD_H

#include "engine/graph.h"
#include "engine/marks.h"

static inline void edge_add(struct edge_builder *builder, struct task *producer, uint8_t reasons)
{
	struct task *consumer = builder->consumer;
	struct edge *edge = producer->last;

	if (edge && edge->consumer == consumer) {
		edge->reasons |= reasons;
		return;
	}
	edge = slab_take(&builder->graph->tasks.edges);
	if (!edge) {
		builder->out_of_memory = true;
		return;
	}
	edge->next = NULL;
	edge->consumer = consumer;
	edge->reasons = reasons;
	edge->counted = false;
	if (producer->last)
		producer->last->next = edge;
	else
		producer->first = edge;
	producer->last = edge;
	consumer->waiting++;
	consumer->producers ^= producer->index;
	if (producer->flags & FLAG_CHAIN)
		edge_mark(edge, producer);
	if (producer->head.state == TASK_RUNNING && builder->running_count < NOTIFY_FEW)
		builder->running[builder->running_count++] = producer;
}

#endif
