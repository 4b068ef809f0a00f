/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Where DW_TRACE and DW_GRAPH look at the engine: one call per event, nothing but
 * a test of a flag when both are off. With the engine's lock, unless said otherwise.
 *
 *   trace.c        time stamps of tasks, written as Chrome trace events when a task is final
 *   graph.c        all dependencies of each task, found again on a map in which no task ends
 *   trace_file.c   the files that they go to, shared by all processes of a tree
 */
#ifndef DW_ENGINE_TRACE_H
#define DW_ENGINE_TRACE_H

#include "engine/internal.h"
#include "engine/trace_file.h"

enum trace_event {
	TRACE_SUBMITTED, TRACE_READY, TRACE_DISPATCHED, TRACE_RETURNED, TRACE_FINAL,
};

/* One attempt, of one member if it is a group. */
struct trace_span {
	uint64_t ready, dispatched, started, ended;
	uint32_t worker, member;
	uint32_t attempt;
	int32_t pid, tid;
	bool failed;
};

/* An edge whose producer has ended. */
struct trace_flow {
	uint64_t id;
	uint8_t reasons;
};

/* What is known of a task so far; times in ns, 0: has not happened. */
struct trace_times {
	uint64_t submitted, ready, dispatched;
	uint32_t worker;		/* where it was dispatched last, … */
	int32_t pid, tid;		/* … and who that was */
	uint32_t span_count, span_space, flow_count, flow_space;
	struct trace_span *spans;
	struct trace_flow *flows;
	struct graph_node *node;
};

/* Where the slices of a worker are drawn. */
struct trace_lane {
	int32_t pid, tid;		/* that were named already */
	uint64_t last_end;
};

struct trace {
	int32_t pid, tid;		/* the lane of the Worker itself */
	bool graphs;
	bool named;
	const struct child_now *self;	/* of the Worker in its parent; NULL: it is the root */
	uint64_t runs;
	struct trace_lane *lanes;	/* one per worker */
	struct trace_lines json, dot;
};

/* 0 until a trace or a graph was asked for; then 1. */
extern int trace_on;

int trace_create(struct engine *engine, const struct engine_options *options);
/* Nothing is written afterwards. By the process that the engine belongs to. */
void trace_stop(struct engine *engine);
void trace_destroy(struct engine *engine);

void trace_task_event(struct engine *engine, struct slot *slot, enum trace_event event);
void trace_after_event(struct engine *engine, struct slot *slot,
		       const struct dw_submit_options *options);
/* A completion with the child's time stamps. */
void trace_span_event(struct engine *engine, struct slot *slot, const struct peer *peer,
		      uint32_t member, const struct completion *completion);
void trace_run_event(struct engine *engine, struct dw_run *run, bool begins);

/* graph.c */
struct graph_node *graph_submitted(struct engine *engine, struct slot *slot);
void graph_after(struct engine *engine, struct slot *slot, const struct dw_submit_options *options);
void graph_final(struct engine *engine, const struct slot *slot, struct graph_node *node);
void graph_run_ended(struct dw_run *run);
/* The bytes were given back to the heap. */
void graph_forget(struct dw_run *run, uint64_t begin, uint64_t end);

static inline void trace_task(struct engine *engine, struct slot *slot, enum trace_event event)
{
	if (UNLIKELY(trace_on))
		trace_task_event(engine, slot, event);
}

/* Before TRACE_SUBMITTED of the same task. */
static inline void trace_after(struct engine *engine, struct slot *slot,
			       const struct dw_submit_options *options)
{
	if (UNLIKELY(trace_on))
		trace_after_event(engine, slot, options);
}

static inline void trace_span(struct engine *engine, struct slot *slot, const struct peer *peer,
			      uint32_t member, const struct completion *completion)
{
	if (UNLIKELY(trace_on))
		trace_span_event(engine, slot, peer, member, completion);
}

static inline void trace_run(struct engine *engine, struct dw_run *run, bool begins)
{
	if (UNLIKELY(trace_on))
		trace_run_event(engine, run, begins);
}

#endif
