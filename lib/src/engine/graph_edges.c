/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * graph, continued: a new task and its edges. See graph.h.
 */
#include "engine/edge_add.h"
#include "engine/task_new.h"

struct task *graph_task_new(struct graph *graph, struct run_graph *run, struct scope *scope,
			    struct callable *callable, const struct dw_submit_options *options)
{
	struct task *task = task_new(&graph->tasks);

	if (!task)
		return NULL;
	task->run = run;
	task->scope = scope;
	task->callable = callable;
	task->name = NULL;
	task->timeout_ns = options->timeout_ns;
	task->head.level = (uint8_t)(DW_PRIORITY_MAX - options->priority);
	task->retries = (uint16_t)options->retries;
	task->block_dim = options->config.block_dim;
	task->aicpu_thread_num = options->config.aicpu_thread_num;
	task->config_flags = options->config.flags;
	return task;
}

static void add_edge(struct task *producer, enum edge_reason reason, void *context)
{
	edge_add(context, producer, (uint8_t)reason);
}

uint32_t edges_pass(struct edge_builder *builder, const struct dw_args *args,
		    const struct range *ranges, uint32_t wanted)
{
	struct task *task = builder->consumer;
	struct tensor_map *map = task->run->map;
	struct task_ref ref = { task, task->head.generation };
	const uint8_t *tags = args->tags;
	uint32_t count = args->tensor_count, seen = 0;
	uint64_t poison = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t tag = 1u << tags[i];

		seen |= tag;
		if (!(tag & wanted) || ranges[i].begin == ranges[i].end)
			continue;
		if (tensor_map_access(map, ranges[i].begin, ranges[i].end, (enum dw_tag)tags[i],
				      ref, add_edge, builder, &poison) < 0)
			builder->out_of_memory = true;
	}
	if (UNLIKELY(poison)) {
		task->flags |= FLAG_SKIP;
		task->failed_by = poison;
	}
	return seen;
}

void edges_see_names(struct edge_builder *builder, const struct dw_args *args,
		     const struct range *ranges, struct frame_names *pairs)
{
	struct run_graph *run = builder->consumer->run;

	names_see(&builder->graph->names, &run->names, run->map, args, ranges, pairs);
}

void edges_make_names(struct edge_builder *builder, const struct dw_args *args,
		      const struct range *ranges, struct frame_names *pairs)
{
	struct run_graph *run = builder->consumer->run;

	names_make(&builder->graph->names, run->map, args, ranges, pairs);
}

void edges_lose_names(struct edge_builder *builder, const struct dw_args *args,
		      const struct range *ranges)
{
	names_lose(&builder->graph->names, builder->consumer->run->map, args, ranges);
}

void edges_range(struct edge_builder *builder, uint64_t begin, uint64_t end, enum dw_tag tag)
{
	struct task *task = builder->consumer;
	struct task_ref ref = { task, task->head.generation };
	uint64_t poison = 0;

	if (tensor_map_access(task->run->map, begin, end, tag, ref, add_edge, builder, &poison) < 0)
		builder->out_of_memory = true;
}

void edges_after(struct edge_builder *builder, const struct dw_submit_options *options)
{
	struct task *task = builder->consumer;

	PROBE(builder->graph, after, task, options);
	for (size_t i = 0; i < options->after_count; i++) {
		dw_task id = options->after[i];
		struct task *producer = id ? task_find(&builder->graph->tasks, id) : NULL;
		const struct failed *failed;

		if (!producer)
			continue;
		if (producer->head.generation == id >> 32 && producer->head.state < TASK_DONE) {
			add_edge(producer, EDGE_EXPLICIT, builder);
			continue;
		}
		failed = failed_find(&task->run->failed, id);
		if (failed && failed->failed_by) {
			task->flags |= FLAG_SKIP;
			task->failed_by = failed->failed_by;
		}
	}
}

void edges_notify(const struct edge_builder *builder)
{
	/* One that does not run yet has to go on first. */
	if (builder->consumer->waiting > builder->running_count)
		return;
	for (uint32_t i = 0; i < builder->running_count; i++)
		request_notify(builder->graph->rings, builder->running[i]);
}
