/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The state of a trace: the data that trace.c and dot.c keep for an engine, a run and a task.
 * Guarded by the engine's lock.
 */
#ifndef DW_TRACE_STATE_H
#define DW_TRACE_STATE_H

#include "engine/run.h"
#include "engine/state.h"
#include "trace/file.h"
#include "trace/record.h"
#include "trace/trace.h"

/* One attempt, of one member if it is a group. */
struct trace_span {
	uint64_t ready, dispatched, started, ended;
	uint32_t blocked;		/* ns before it started */
	uint32_t worker, lane, member;
	uint32_t attempt;
	bool failed;
};

/* An edge whose producer has ended. */
struct trace_flow {
	uint32_t id;
	uint8_t reasons;
};

#define FLOWS_AT_FIRST 4

/* The events of a task so far; times in ns, 0: has not happened. */
struct trace_times {
	uint64_t submitted, ready, dispatched;
	uint32_t worker, lane;		/* where it was dispatched last */
	bool is_ready;			/* and waits for a worker */
	uint32_t span_count, span_space, flow_count, flow_space;
	struct trace_span *spans, span;	/* `span`: there is no other */
	struct trace_flow *flows, first_flows[FLOWS_AT_FIRST];
	struct dot_node *node;
};

/* Where the slices of a worker are drawn. */
struct trace_lane {
	int32_t pid, tid;
	uint32_t number;		/* of its record */
	uint64_t last_end;
};

/* The trace of a run. */
struct trace_run {
	uint64_t serial, begun;		/* its number in its engine, and when it began */
	struct dot_run *dot;		/* NULL unless its graph is written */
};

struct trace {
	char *path;			/* of the Worker */
	int32_t pid, tid;		/* the lane of the Worker itself */
	bool graphs;
	bool named;
	const struct child_status *self; /* of the Worker in its parent; NULL: it is the root */
	uint64_t runs;
	struct trace_lane *lanes;	/* one per worker */
	struct slab times;		/* struct trace_times */
	uint64_t ready, counted_at;	/* tasks that are, and when that was written last */
	struct records json;
	struct trace_lines dot;
};

static inline struct trace_times *trace_times(const struct task *task)
{
	return task->probe_data;
}

static inline struct trace_run *trace_run(const struct dw_run *run)
{
	return run->probe_data;
}

#endif
