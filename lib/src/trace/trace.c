/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Time stamps of tasks, and their way into the records of DW_TRACE. All of a task is written when
 * it is final: a slice for each attempt in the lane of the worker that ran it, arrows from its
 * producers and to its consumers. A task that never ran has a slice of no length in the lane of its
 * Worker.
 *
 * submitted ≤ ready ≤ dispatched ≤ started ≤ ended ≤ completed. A task that was pushed behind its
 * producers into their ring counts as ready when it was pushed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <string.h>
#include "base/slab.h"
#include "memory/heap.h"
#include "trace/convert.h"
#include "trace/dot.h"

/* ------------------------------------------------------------------- files */

static int open_graph(struct trace_files *files)
{
	/* Small letters: the labels of edges make the graph as wide as it is. */
	return trace_file_open(VARIABLE_GRAPH,
			       "digraph distworker { nodesep=0.15; node [fontsize=11]; "
			       "edge [fontsize=7, arrowsize=0.6];\n",
			       "}\n", ';', &files->dot);
}

int trace_files_send(struct trace_files *files, int pipe)
{
	int result = open_graph(files);

	if (result == 0)
		result = trace_file_pipe("DW_TRACE", pipe, &files->json);
	if (result < 0)
		trace_files_close(files);
	return result;
}

int trace_files_open(struct trace_files *files)
{
	int result;

	result = trace_file_open(VARIABLE_TRACE, TRACE_FIRST_LINE, TRACE_LAST_LINE, ',',
				 &files->json);
	if (result < 0)
		return result;
	if (files->json)
		trace_file_keep_records(files->json);
	result = open_graph(files);
	if (result < 0)
		trace_files_close(files);
	return result;
}

void trace_files_close(struct trace_files *files)
{
	trace_file_close(files->json);
	trace_file_close(files->dot);
	*files = (struct trace_files){ 0 };
}

int trace_create(const struct trace_options *options, struct trace **trace)
{
	const struct trace_files *files = options->files;
	struct trace *made;

	*trace = NULL;
	if (!files->json && !files->dot)
		return 0;
	made = calloc(1, sizeof(*made));
	if (!made)
		return error_set(-ENOMEM, "%s: no memory for its trace", options->path);
	made->lanes = calloc(options->worker_count + 1, sizeof(*made->lanes));
	made->path = strdup(options->path);
	if (!made->lanes || !made->path) {
		trace_destroy(made);
		return error_set(-ENOMEM, "%s: no memory for its trace", options->path);
	}
	made->pid = getpid();
	made->tid = made->pid;
	made->self = options->self;
	made->graphs = files->dot;
	made->times = (struct slab)SLAB_INIT(struct trace_times, 64, 1024);
	if (files->json && records_open(&made->json, files->json, made->path) < 0) {
		trace_destroy(made);
		return -ENOMEM;
	}
	made->dot.file = files->dot;
	if (files->dot)
		trace_file_join(files->dot);
	*trace = made;
	return 0;
}

void trace_stop(struct trace *trace)
{
	if (!trace)
		return;
	records_close(&trace->json);
	lines_flush(&trace->dot);
	if (trace->dot.file)
		trace_file_leave(trace->dot.file);
	trace->dot.file = NULL;
}

void trace_destroy(struct trace *trace)
{
	if (!trace)
		return;
	trace_stop(trace);
	slab_release(&trace->times);
	free(trace->path);
	free(trace->lanes);
	free(trace);
}

/* ----------------------------------------------------------------- records */

/* With the process, unique in the file. */
static uint32_t id_new(void)
{
	static _Atomic uint32_t ids;

	return atomic_fetch_add_explicit(&ids, 1, memory_order_relaxed);
}

/* The lane of a nested Worker is that of its thread in its parent, which names it. */
static void name_self(struct trace *trace)
{
	if (trace->named)
		return;
	trace->named = true;
	if (trace->self)
		trace->tid = __atomic_load_n(&trace->self->tid, __ATOMIC_RELAXED);
	record_writer(&trace->json, trace->pid, trace->tid, !trace->self, trace->path);
}

/* A replacement has one of its own. */
static uint32_t lane_of(struct trace *trace, const struct worker_ring *ring)
{
	struct trace_lane *lane = &trace->lanes[ring->index];
	int32_t pid = __atomic_load_n(&ring->stats->pid, __ATOMIC_RELAXED);
	int32_t tid = __atomic_load_n(&ring->status->tid, __ATOMIC_RELAXED);

	if (LIKELY(lane->pid == pid && lane->tid == tid) || !trace->json.file)
		return lane->number;
	name_self(trace);
	*lane = (struct trace_lane){
		.pid = pid, .tid = tid,
		.number = record_lane(&trace->json, pid, tid, pid != trace->pid, ring->path),
	};
	return lane->number;
}

static uint32_t state_of(const struct task *task)
{
	return task->head.state == TASK_DONE ? RECORD_DONE :
	       task->head.state == TASK_FAILED ? RECORD_FAILED : RECORD_SKIPPED;
}

static struct record_task record_of(const struct task *task, uint32_t flags, uint64_t now)
{
	return (struct record_task){
		.flags = flags, .task = task->head.number,
		.run = trace_run(run_of(task->run))->serial, .name = task->name,
		.callable = task->callable->name, .submitted = trace_times(task)->submitted,
		.completed = now,
	};
}

static void write_span(struct trace *trace, const struct task *task, const struct trace_span *span,
		       bool last, uint64_t now)
{
	uint32_t state = last ? state_of(task) : span->failed ? RECORD_FAILED : RECORD_DONE;
	struct record_task record = record_of(task, state | RECORD_RAN, now);

	record.lane = span->lane;
	record.ready = span->ready;
	record.dispatched = span->dispatched;
	record.started = span->started;
	record.ended = span->ended;
	record.member = task->flags & FLAG_GROUP ? span->member + 1 : 0;
	record.attempt = task->attempts ? span->attempt + 1 : 0;
	record_task(&trace->json, &record);
	if (span->blocked)
		record_blocked(&trace->json, &record, span->blocked);
}

static void write_unrun(struct trace *trace, const struct task *task, uint64_t now)
{
	struct record_task record = record_of(task, state_of(task), now);

	if (task->failed_by != task->head.number)
		record.because_of = task->failed_by;
	record_task(&trace->json, &record);
}

/* How often they are written, at most. */
#define COUNTERS_NS 1000000

static void write_counters(struct trace *trace, const struct engine *engine, uint64_t now)
{
	struct record_counters counters = {
		.ready = trace->ready, .heap = heap_used(engine->heap),
	};

	trace->counted_at = now;
	for (uint32_t i = 0; i < engine->rings.count; i++)
		counters.wakes +=
			__atomic_load_n(&engine->rings.all[i].stats->wakes, __ATOMIC_RELAXED);
	record_counters(&trace->json, now, &counters);
}

/* ------------------------------------------------------------------ events */

static void add_span(struct trace_times *times, const struct trace_span *span)
{
	if (times->span_count == times->span_space) {
		struct trace_span *grown = malloc(2 * sizeof(*grown) * times->span_space);

		if (!grown)
			return;
		memcpy(grown, times->spans, times->span_count * sizeof(*grown));
		if (times->spans != &times->span)
			free(times->spans);
		times->spans = grown;
		times->span_space *= 2;
	}
	times->spans[times->span_count++] = *span;
}

static void add_flow(struct trace_times *times, const struct trace_flow *flow)
{
	if (times->flow_count == times->flow_space) {
		struct trace_flow *grown = malloc(2 * sizeof(*grown) * times->flow_space);

		if (!grown)
			return;
		memcpy(grown, times->flows, times->flow_count * sizeof(*grown));
		if (times->flows != times->first_flows)
			free(times->flows);
		times->flows = grown;
		times->flow_space *= 2;
	}
	times->flows[times->flow_count++] = *flow;
}

/* A worker that died has started the task, or may have: the span ends now at the latest. */
static void add_lost_span(struct trace *trace, struct task *task, uint64_t now)
{
	struct trace_times *times = trace_times(task);
	uint64_t before = trace->lanes[times->worker].last_end;
	struct trace_span span = {
		.ready = times->ready, .dispatched = times->dispatched, .ended = now,
		.started = before > times->dispatched ? before : times->dispatched,
		.worker = times->worker, .lane = times->lane, .attempt = task->attempts,
		.failed = true,
	};

	if (task->head.state == TASK_FAILED && times->dispatched &&
	    (!times->span_count || times->spans[times->span_count - 1].attempt != task->attempts))
		add_span(times, &span);
}

/*
 * Arrows to the consumers begin in the last slice of the task; they end when the consumers are
 * written.
 */
static void write_arrows(struct trace *trace, struct task *task, const struct trace_span *first,
			 const struct trace_span *last, uint64_t now)
{
	struct trace_times *times = trace_times(task);
	struct record_arrow arrow = {
		.lane = first ? first->lane : 0, .at = first ? first->started : now,
	};

	for (uint32_t i = 0; i < times->flow_count; i++) {
		arrow.id = times->flows[i].id;
		arrow.reasons = times->flows[i].reasons;
		record_arrow(&trace->json, &arrow);
	}
	if (!task->first)
		return;
	arrow = (struct record_arrow){
		.lane = last ? last->lane : 0,
		/* The end itself is not in the slice any more. */
		.at = !last ? now : last->ended - (last->ended > last->started),
		.from = task->head.number, .run = trace_run(run_of(task->run))->serial,
	};
	for (struct edge *edge = task->first; edge; edge = edge->next) {
		if (!trace_times(edge->consumer))
			continue;
		arrow.id = id_new();
		arrow.reasons = edge->reasons;
		arrow.to = edge->consumer->head.number;
		add_flow(trace_times(edge->consumer),
			 &(struct trace_flow){ .id = arrow.id, .reasons = arrow.reasons });
		record_arrow(&trace->json, &arrow);
	}
}

static void write_task(struct trace *trace, struct task *task)
{
	const struct trace_span *first = NULL, *last = NULL;
	struct trace_times *times = trace_times(task);
	uint64_t now = now_ns();

	name_self(trace);
	add_lost_span(trace, task, now);
	for (uint32_t i = 0; i < times->span_count; i++) {
		const struct trace_span *span = &times->spans[i];
		bool final = span->attempt == task->attempts;

		write_span(trace, task, span, final && !(task->flags & FLAG_GROUP), now);
		if (final && !first)
			first = span;
		if (final && (!last || span->ended > last->ended))
			last = span;
	}
	if (!first)
		write_unrun(trace, task, now);
	write_arrows(trace, task, first, last, now);
	if (now - trace->counted_at >= COUNTERS_NS)
		write_counters(trace, run_of(task->run)->engine, now);
}

static void task_submitted(struct trace *trace, struct task *task)
{
	struct trace_times *times;

	if (!trace_run(run_of(task->run)))
		return;
	times = slab_take(&trace->times);
	task->probe_data = times;
	if (!times)
		return;
	*times = (struct trace_times){
		.submitted = now_ns(), .spans = &times->span, .span_space = 1,
		.flows = times->first_flows, .flow_space = FLOWS_AT_FIRST,
	};
	if (trace->graphs)
		times->node = dot_submitted(trace, task);
}

static void leave_ready(struct trace *trace, struct trace_times *times)
{
	trace->ready -= times->is_ready;
	times->is_ready = false;
}

static void task_final(struct trace *trace, struct task *task)
{
	struct trace_times *times = trace_times(task);

	leave_ready(trace, times);
	if (trace->json.file)
		write_task(trace, task);
	if (times->node)
		dot_final(trace, task, times->node);
	if (times->spans != &times->span)
		free(times->spans);
	if (times->flows != times->first_flows)
		free(times->flows);
	slab_give(&trace->times, times);
	task->probe_data = NULL;
}

static void on_task(void *context, struct task *task, enum probe_event event)
{
	struct trace *trace = context;
	struct trace_times *times = trace_times(task);
	const struct worker_ring *ring;

	if (event != PROBE_SUBMITTED && !times)
		return;
	switch (event) {
	case PROBE_SUBMITTED:
		task_submitted(trace, task);
		break;
	case PROBE_READY:
		times->ready = now_ns();
		times->dispatched = 0;
		trace->ready += !times->is_ready;
		times->is_ready = true;
		break;
	case PROBE_DISPATCHED:
		ring = &run_of(task->run)->engine->rings.all[task->placed];
		times->worker = task->placed;
		times->lane = lane_of(trace, ring);
		leave_ready(trace, times);
		/* The members of a group enter one after the other: the first counts. */
		if (times->dispatched)
			break;
		times->dispatched = now_ns();
		if (!times->ready)
			times->ready = times->dispatched;
		break;
	case PROBE_RETURNED:
		times->ready = 0;
		times->dispatched = 0;
		break;
	case PROBE_FINAL:
		task_final(trace, task);
		break;
	}
}

static void on_after(void *context, struct task *task, const struct dw_submit_options *options)
{
	const struct trace *trace = context;

	if (trace->graphs)
		dot_after(task, options);
}

/*
 * A child reads the clock before it looks for a frame: it may have read it just before the
 * dispatch.
 */
static void on_span(void *context, struct task *task, const struct worker_ring *ring,
		    uint32_t member, const struct completion *completion)
{
	struct trace *trace = context;
	struct trace_times *times = trace_times(task);
	struct trace_span span = {
		.started = completion->started, .ended = completion->ended, .worker = ring->index,
		.member = member, .attempt = task->attempts,
		.failed = completion->state == COMPLETION_FAILED,
	};

	if (!times)
		return;
	span.ready = times->ready;
	span.dispatched = times->dispatched;
	span.lane = lane_of(trace, ring);
	if (span.started < span.dispatched)
		span.started = span.dispatched;
	if (span.ended < span.started)
		span.ended = span.started;
	span.blocked = completion->blocked;
	if (span.blocked > span.started - span.dispatched)
		span.blocked = (uint32_t)(span.started - span.dispatched);
	if (span.started - span.blocked < trace->lanes[ring->index].last_end)
		span.blocked = 0;
	trace->lanes[ring->index].last_end = span.ended;
	add_span(times, &span);
}

static void write_run(struct trace *trace, const struct dw_run *run)
{
	const struct trace_run *traced = trace_run(run);
	uint64_t now = now_ns();

	name_self(trace);
	record_run(&trace->json, traced->serial, id_new(), traced->begun, now, run->graph.submitted,
		   -run->graph.error);
	write_counters(trace, run->engine, now);
}

/*
 * When no run is left, all lines are in the files, so that a process that is killed then loses
 * none.
 */
static void on_run(void *context, struct dw_run *run, bool begins)
{
	struct trace *trace = context;
	struct trace_run *traced = trace_run(run);

	if (begins) {
		traced = calloc(1, sizeof(*traced));
		run->probe_data = traced;
		if (!traced)
			return;
		traced->serial = ++trace->runs;
		traced->begun = now_ns();
		return;
	}
	if (traced) {
		dot_run_ended(traced->dot);
		if (trace->json.file)
			write_run(trace, run);
	}
	free(traced);
	run->probe_data = NULL;
	if (!run->engine->graph.run_count) {
		records_flush(&trace->json);
		lines_flush(&trace->dot);
	}
}

static void on_forget(void *context, struct dw_run *run, uint64_t begin, uint64_t end)
{
	struct trace_run *traced = trace_run(run);

	(void)context;
	if (traced)
		dot_forget(traced->dot, begin, end);
}

struct probe trace_probe(struct trace *trace)
{
	static const struct probe_ops ops = {
		.task = on_task, .after = on_after, .span = on_span, .run = on_run,
		.forget = on_forget,
	};

	return (struct probe){ trace ? &ops : NULL, trace };
}
