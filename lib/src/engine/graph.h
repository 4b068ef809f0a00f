/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * graph: the dependencies between tasks, their final states, and the consequences.
 *
 * Owns: struct graph, struct run_graph (the tasks of a run), edges, failures, retries, and the
 * members of groups. It calls no module above it: a task whose state is final goes to `finished`
 * until graph_settle() draws the consequences, and one whose producers are all final goes to
 * `released`, which the scheduler drains. Guarded by the engine's lock.
 *
 * Invariants: `waiting` of a task counts its producers that are not final. A task that will be
 * skipped still waits for all of them, so that its consumers come after them, too. RAW and
 * explicit edges carry a failure on, WAR and WAW only order.
 *
 *   RUNNING ─ DONE ───────────────────────────────→ final
 *           ─ FAILED, attempts left ─→ PENDING; after a death: when the worker's subtree has ended
 *           ─ FAILED ─────────────────────────────→ final, consumers SKIP
 *           ─ RETURNED, revoked, not started ────→ PENDING, then READY or SKIPPED
 */
#ifndef DW_ENGINE_GRAPH_H
#define DW_ENGINE_GRAPH_H

#include "depend/tensor_map.h"
#include "engine/affinity.h"
#include "engine/counters.h"
#include "engine/names.h"
#include "engine/ring_flow.h"
#include "engine/run_errors.h"
#include "memory/heap.h"

/* A task whose last unfinished producers are this few has the end of each reported. */
#define NOTIFY_FEW	4

/* Ids of tasks that failed or were skipped, for explicit edges to consumed ones. */
struct failed_set {
	struct failed { dw_task task; uint64_t failed_by; int error; } *entries;
	uint32_t space, count;
};

/* A recording, or a replay, for subscribers of probes: what is submitted now is a part of it. */
struct run_part {
	const char *graph;		/* its name; NULL: neither */
	uint64_t replay;		/* its number; 0: the recording */
	uint32_t serial;		/* within the run */
};

/* The tasks of a run. */
struct run_graph {
	struct tensor_map *map;		/* NULL once the run has ended */
	struct run_names names;
	uint64_t submitted, finished;
	struct failed_set failed;
	struct run_errors errors;
	int error;			/* the first */
	char text[ERROR_TEXT_BYTES];
	bool cancelled;
	bool awaited;			/* a thread waits for its tasks */
	const struct task *awaited_task;	/* its end is reported; NULL: none */
	struct run_part part;
};

struct graph {
	struct task_table tasks;
	struct task *finished, *last_finished;	/* states set, consequences to be drawn */
	struct task *released, *last_released;	/* PENDING, and waiting for nothing */
	uint32_t run_count;
	uint32_t report_all;		/* threads that need a report of every task's end */
	uint32_t watch_posts;		/* not 0: these, or names, make posts more work */
	struct ring_set *rings;
	struct counters *counters;
	struct heap *heap;
	struct names names;
	struct affinity affinity;
	const char *path;		/* of the Worker, for messages */
	struct probe probe;
};

/* -ENOMEM: graph_release() frees what was made. */
int graph_init(struct graph *graph, const struct engine_options *options, const char *path,
	       struct ring_set *rings, struct heap *heap, struct counters *counters);
void graph_release(struct graph *graph);

/* -------------------------------------------------------------------- runs */

/* 0, or -ENOMEM with a text. */
int run_graph_init(struct run_graph *run);
void run_graph_free(struct run_graph *run);
/* A run enters the engine, or leaves it: its map is then to be destroyed without the lock. */
void graph_add_run(struct graph *graph);
struct tensor_map *graph_remove_run(struct graph *graph, struct run_graph *run);
/* An error of the run itself. */
void run_error(struct graph *graph, struct run_graph *run, int error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static inline void run_set_cancelled(struct run_graph *run) { run->cancelled = true; }
static inline void run_set_awaited(struct run_graph *run, bool awaited) { run->awaited = awaited; }
static inline void run_begin_part(struct run_graph *run, const char *graph, uint64_t replay)
{
	run->part = (struct run_part){ graph, replay, run->part.serial + 1 };
}
static inline void run_end_part(struct run_graph *run) { run->part.graph = NULL; }
static inline void run_await_task(struct run_graph *run, const struct task *task)
{
	run->awaited_task = task;
}
static inline void graph_report_all(struct graph *graph, int change)
{
	graph->report_all += (uint32_t)change;
	graph->watch_posts += (uint32_t)change;
}
/* NULL: it is none of those that failed or were skipped. */
const struct failed *failed_find(const struct failed_set *set, dw_task task);

/* ------------------------------------------------------------------ submit */

/* A new task of the run; its payload, target and edges follow. NULL: no memory. */
struct task *graph_task_new(struct graph *graph, struct run_graph *run, struct scope *scope,
			    struct callable *callable, const struct dw_submit_options *options);
/* Before the first task of a run: the numbers of its tasks begin behind that one. */
static inline void graph_count_from(struct run_graph *run, uint64_t number)
{
	run->submitted = run->finished = number;
}
/* From here on the task counts as submitted. */
static inline void graph_enter(struct graph *graph, struct task *task)
{
	struct run_graph *run = task->run;

	task->head.state = TASK_PENDING;
	__atomic_store_n(&run->submitted, run->submitted + 1, __ATOMIC_RELAXED);
	task->head.number = run->submitted;
	scope_get(task->scope);
	count_submitted(graph->counters);
}

/* Collects the edges to one new task. */
struct edge_builder {
	struct graph *graph;
	struct task *consumer;
	struct task *running[NOTIFY_FEW];
	uint32_t running_count;
	bool out_of_memory;
};
static inline void edges_no_memory(struct edge_builder *builder) { builder->out_of_memory = true; }
static inline void edges_begin(struct edge_builder *builder, struct graph *graph,
			       struct task *consumer)
{
	builder->graph = graph;
	builder->consumer = consumer;
	builder->running_count = 0;
	builder->out_of_memory = false;
}
/* Bit per tag: which tensors one pass takes. */
#define TAGS_READING	(1u << DW_INPUT | 1u << DW_INOUT)
#define TAGS_WRITING	(1u << DW_OUTPUT | 1u << DW_OUTPUT_EXISTING)
/*
 * Either the tensors that are read or those that are only written, and then only if there are any.
 * A task's reads come first: where its own tensors overlap, it reads the bytes from before.
 * Returns the tags.
 */
uint32_t edges_pass(struct edge_builder *builder, const struct dw_args *args,
		    const struct range *ranges, uint32_t wanted);
static inline uint32_t edges_reads(struct edge_builder *builder, const struct dw_args *args,
				   const struct range *ranges)
{
	return edges_pass(builder, args, ranges, TAGS_READING);
}
/* `seen`: the result of edges_reads(). */
static inline void edges_writes(struct edge_builder *builder, const struct dw_args *args,
				const struct range *ranges, uint32_t seen)
{
	if (seen & TAGS_WRITING)
		edges_pass(builder, args, ranges, TAGS_WRITING);
}
/* Around both passes, in an engine that has names. `pairs`: see names.h. */
void edges_see_names(struct edge_builder *builder, const struct dw_args *args,
		     const struct range *ranges, struct frame_names *pairs);
void edges_make_names(struct edge_builder *builder, const struct dw_args *args,
		      const struct range *ranges, struct frame_names *pairs);
void edges_lose_names(struct edge_builder *builder, const struct dw_args *args,
		      const struct range *ranges);
void edges_range(struct edge_builder *builder, uint64_t begin, uint64_t end, enum dw_tag tag);
void edges_after(struct edge_builder *builder, const struct dw_submit_options *options);
/* The parent is notified of its producers that run, if they are few. */
void edges_notify(const struct edge_builder *builder);

/* --------------------------------------------------------------------- ends */

/* Sets a final state; graph_settle() does the rest, in this order. */
void graph_finish(struct graph *graph, struct task *task, enum task_state state);
/* Draws the consequences of all final states. */
void graph_settle(struct graph *graph);
/* The next task that waits for nothing any more; NULL: none. */
static inline struct task *graph_next_released(struct graph *graph)
{
	struct task *task = graph->released;

	if (task)
		graph->released = task->next;
	return task;
}
/* A completion of a task that is in no ring any more. */
void graph_completed(struct graph *graph, struct worker_ring *ring,
		     const struct ring_completion *done);
/* It is in no ring any more and has not run. */
void graph_returned(struct graph *graph, struct task *task);
/*
 * It ran and failed: another attempt, or FAILED with the error as the run's. `ring`: where.
 * `text_has_path`: the text names place and task by itself; a nested Worker's does.
 */
void graph_failed(struct graph *graph, struct task *task, struct worker_ring *ring, int error,
		  const char *text, bool text_has_path);
/* The same in two steps: the error is the run's at once, the task's state changes later. */
void graph_fail(struct graph *graph, struct task *task, struct worker_ring *ring, int error,
		const char *text, bool text_has_path);
void graph_fail_now(struct graph *graph, struct task *task);
/* It can never run, as an error of the run says: FAILED, without another attempt. */
void graph_unschedulable(struct graph *graph, struct task *task);
/* A thread goes on with it: no more attempts, and its memory is kept until the thread is back. */
void graph_abandon(struct task *task);
/* Gives back the memory of a final task, and all that it holds. */
void graph_free_task(struct graph *graph, struct task *task);

/* ------------------------------------------------------------------- groups */

/*
 * A member has left its ring: done, failed, or, `unstarted`, because its worker died before it got
 * there. Then the group starts over if no other member has started, else it fails.
 */
void graph_member_left(struct graph *graph, struct task *task, uint32_t member,
		       struct worker_ring *ring, int error, const char *text, bool unstarted);
/* In two steps: the worker died while it ran the member; later its whole subtree has ended. */
void graph_member_died(struct graph *graph, struct task *task, uint32_t member,
		       struct worker_ring *ring, const char *text);
void graph_member_gone(struct graph *graph, struct task *task);
/* Tells the members that are still in rings: those that have not started come back. */
void graph_cancel_members(struct graph *graph, struct task *task);

#endif
