/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * graph, continued: a task of a recording is made again, with the dependencies that were recorded.
 * See graph.h and record.h. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_GRAPH_AGAIN_H
#define DW_ENGINE_GRAPH_AGAIN_H

#include <errno.h>
#include "engine/graph.h"
#include "engine/task_new.h"
#include "engine/template.h"
#include "task/error.h"

/* A task waits for an earlier one of the same recording. */
struct recorded_edge {
	uint32_t producer; /* its place among the recorded tasks */
	uint8_t reasons; /* enum edge_reason, or'ed */
};

/* A range in which a task meets those from outside (depend/border.h). */
struct recorded_border {
	uint64_t begin, end; /* where it was in the recording … */
	uint32_t source; /* … and the value of a replay that says how far it moved */
	uint8_t tag; /* enum dw_tag */
	bool enters; /* it waits for tasks from before the replay */
};

/*
 * A new task of the run, which counts as submitted once graph_enter() was called. Groups get their
 * members afterwards. NULL: no memory, with a text.
 */
static inline struct task *graph_task_again(struct graph *graph, struct run_graph *run,
					    struct scope *scope,
					    const struct task_template *template,
					    const uint64_t *values)
{
	struct task *task = task_new(&graph->tasks);

	if (UNLIKELY(!task)) {
		error_set(-ENOMEM, "no memory for a task");
		return NULL;
	}
	task->run = run;
	task->scope = scope;
	task_fill(task, template);
	if (UNLIKELY(!template->payload.copy))
		return task;
	if (UNLIKELY(payload_again(&graph->tasks, &task->payload, &template->payload, values,
				   task->storage) < 0)) {
		task_free(&graph->tasks, task);
		return NULL;
	}
	task_place_name(task, &task->payload, template->name_at);
	return task;
}

/* `refs`: the tasks of this replay, by their place. */
void edges_again(struct edge_builder *builder, const struct recorded_edge *edges, uint32_t count,
		 const struct task_ref *refs);
/* `before`: the number of the last task of the run from before the replay. */
void edges_borders(struct edge_builder *builder, const struct recorded_border *borders,
		   uint32_t count, const uint64_t *values, uint64_t before);

#endif
