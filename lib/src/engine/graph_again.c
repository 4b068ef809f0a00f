/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See graph_again.h.
 */
#include "engine/edge_add.h"
#include "engine/graph_again.h"

/* The producer has ended: as edges_pass() finds poison, and edges_after() failed tasks. */
static void producer_ended(struct edge_builder *builder, struct task_ref producer, uint8_t reasons)
{
	struct task *task = builder->consumer;
	const struct failed *failed;
	uint64_t failed_by = 0;

	if (reasons & (EDGE_RAW | EDGE_EXPLICIT)) {
		failed = failed_find(&task->run->failed, (uint64_t)producer.generation << 32 |
								 (producer.task->index + 1));
		failed_by = failed ? failed->failed_by : 0;
	}
	/* A thread goes on with it, and may still write. */
	if (!failed_by && producer.task->head.generation == producer.generation &&
	    producer.task->flags & FLAG_ABANDONED)
		failed_by = producer.task->failed_by;
	if (failed_by) {
		task->flags |= FLAG_SKIP;
		task->failed_by = failed_by;
	}
}

void edges_again(struct edge_builder *builder, const struct recorded_edge *edges, uint32_t count,
		 const struct task_ref *refs)
{
	const struct run_graph *run = builder->consumer->run;

	for (uint32_t i = 0; i < count; i++) {
		struct task_ref producer = refs[edges[i].producer];

		if (task_ref_live(producer))
			edge_add(builder, producer.task, edges[i].reasons);
		else if (UNLIKELY(run->failed.count))
			producer_ended(builder, producer, edges[i].reasons);
	}
}

struct border_edges {
	struct edge_builder *builder;
	uint64_t before;
};

/* Those within the recording are recorded. */
static void add_from_before(struct task *producer, enum edge_reason reason, void *context)
{
	const struct border_edges *edges = context;

	if (producer->head.number <= edges->before)
		edge_add(edges->builder, producer, (uint8_t)reason);
}

/* The map's edges of a range that only leaves are within the recording. */
static void add_none(struct task *producer, enum edge_reason reason, void *context)
{
	(void)producer;
	(void)reason;
	(void)context;
}

void edges_borders(struct edge_builder *builder, const struct recorded_border *borders,
		   uint32_t count, const uint64_t *values, uint64_t before)
{
	struct border_edges edges = { builder, before };
	struct task *task = builder->consumer;
	struct task_ref ref = { task, task->head.generation };
	uint64_t poison = 0, ignored = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct recorded_border *border = &borders[i];
		uint64_t moved = values[border->source];

		if (tensor_map_access(task->run->map, border->begin + moved, border->end + moved,
				      (enum dw_tag)border->tag, ref,
				      border->enters ? add_from_before : add_none, &edges,
				      border->enters ? &poison : &ignored) < 0)
			builder->out_of_memory = true;
	}
	if (UNLIKELY(poison)) {
		task->flags |= FLAG_SKIP;
		task->failed_by = poison;
	}
}
