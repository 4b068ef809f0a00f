/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Time stamps of tasks, and their way into the file of DW_TRACE: the JSON array format of Chrome
 * and Perfetto, one event per line. All of a task is written when it is final: a slice for each
 * attempt in the lane of the worker that ran it, arrows from its producers and to its consumers. A
 * task that never ran has a slice of no length in the lane of its Worker.
 *
 * submitted ≤ ready ≤ dispatched ≤ started ≤ ended ≤ completed. A task that was pushed behind its
 * producers into their ring counts as ready when it was pushed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <string.h>
#include "base/text.h"
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

	result = trace_file_open(VARIABLE_TRACE, "[\n",
				 "{\"ph\":\"M\",\"pid\":0,\"name\":\"trace_end\",\"args\":{}}\n]\n",
				 ',', &files->json);
	if (result < 0)
		return result;
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
	made->json.file = files->json;
	made->dot.file = files->dot;
	if (files->json)
		trace_file_join(files->json);
	if (files->dot)
		trace_file_join(files->dot);
	*trace = made;
	return 0;
}

static void stop_lines(struct trace_lines *lines)
{
	lines_flush(lines);
	if (lines->file)
		trace_file_leave(lines->file);
	lines->file = NULL;
}

void trace_stop(struct trace *trace)
{
	if (!trace)
		return;
	stop_lines(&trace->json);
	stop_lines(&trace->dot);
}

void trace_destroy(struct trace *trace)
{
	if (!trace)
		return;
	trace_stop(trace);
	free(trace->path);
	free(trace->lanes);
	free(trace);
}

/* ------------------------------------------------------------------- lines */

static uint64_t id_new(const struct trace *trace)
{
	static _Atomic uint32_t ids;

	return (uint64_t)trace->pid << 32 |
	       atomic_fetch_add_explicit(&ids, 1, memory_order_relaxed);
}

static void name_lane(struct trace *trace, int32_t pid, int32_t tid, const char *process,
		      const char *thread)
{
	struct trace_lines *lines = &trace->json;

	if (process) {
		lines_begin(lines);
		lines_add(lines,
			  "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":",
			  pid);
		lines_add_string(lines, process);
		lines_end(lines, "}},");
	}
	lines_begin(lines);
	lines_add(
		lines,
		"{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":",
		pid, tid);
	lines_add_string(lines, thread);
	lines_end(lines, "}},");
}

/* The lane of a nested Worker is that of its thread in its parent, which names it. */
static void name_self(struct trace *trace)
{
	if (trace->named)
		return;
	trace->named = true;
	if (trace->self)
		trace->tid = __atomic_load_n(&trace->self->tid, __ATOMIC_RELAXED);
	else
		name_lane(trace, trace->pid, trace->tid, trace->path, trace->path);
}

/* A replacement has a name of its own. */
static void name_worker(struct trace *trace, const struct worker_ring *ring, int32_t pid,
			int32_t tid)
{
	struct trace_lane *lane = &trace->lanes[ring->index];

	if (lane->pid == pid && lane->tid == tid)
		return;
	lane->pid = pid;
	lane->tid = tid;
	lane->last_end = 0;
	name_lane(trace, pid, tid, pid == trace->pid ? NULL : ring->path, ring->path);
}

static const char *state_name(const struct task *task)
{
	return task->head.state == TASK_DONE ? "done" :
	       task->head.state == TASK_FAILED ? "failed" : "skipped";
}

static void begin_slice(struct trace_lines *lines, const struct task *task, int32_t pid,
			int32_t tid, uint64_t started, uint64_t ended, const char *state)
{
	lines_begin(lines);
	lines_add(lines, "{\"ph\":\"X\",\"name\":");
	lines_add_string(lines, task->name ? task->name : task->callable->name);
	lines_add(lines, ",\"cat\":\"%s\",\"pid\":%d,\"tid\":%d,", state, pid, tid);
	lines_add_time(lines, "ts", started);
	lines_add(lines, ",");
	lines_add_time(lines, "dur", ended - started);
	lines_add(lines, ",\"args\":{");
}

static void add_identity(struct trace *trace, const struct task *task, const char *state)
{
	struct trace_lines *lines = &trace->json;

	lines_add(lines, "\"task\":%llu,\"run\":%llu,\"state\":\"%s\",\"owner\":",
		  (unsigned long long)task->head.number,
		  (unsigned long long)trace_run(run_of(task->run))->serial, state);
	lines_add_string(lines, trace->path);
	lines_add(lines, ",\"callable\":");
	lines_add_string(lines, task->callable->name);
	lines_add(lines, ",");
	lines_add_time(lines, "submitted", trace_times(task)->submitted);
}

static void write_span(struct trace *trace, const struct task *task, const struct trace_span *span,
		       bool last, uint64_t now)
{
	struct trace_lines *lines = &trace->json;
	const struct worker_ring *ring = &run_of(task->run)->engine->rings.all[span->worker];
	const char *state = last ? state_name(task) : span->failed ? "failed" : "done";

	name_worker(trace, ring, span->pid, span->tid);
	begin_slice(lines, task, span->pid, span->tid, span->started, span->ended, state);
	add_identity(trace, task, state);
	lines_add(lines, ",");
	lines_add_time(lines, "ready", span->ready);
	lines_add(lines, ",");
	lines_add_time(lines, "dispatched", span->dispatched);
	lines_add(lines, ",");
	lines_add_time(lines, "started", span->started);
	lines_add(lines, ",");
	lines_add_time(lines, "ended", span->ended);
	lines_add(lines, ",");
	lines_add_time(lines, "completed", now);
	lines_add(lines, ",\"worker\":");
	lines_add_string(lines, ring->path);
	if (task->flags & FLAG_GROUP)
		lines_add(lines, ",\"member\":%u", span->member);
	if (task->attempts)
		lines_add(lines, ",\"attempt\":%u", span->attempt + 1);
	lines_end(lines, "}},");
}

static void write_unrun(struct trace *trace, const struct task *task, uint64_t now)
{
	struct trace_lines *lines = &trace->json;
	const char *state = state_name(task);

	begin_slice(lines, task, trace->pid, trace->tid, now, now, state);
	add_identity(trace, task, state);
	lines_add(lines, ",");
	lines_add_time(lines, "completed", now);
	if (task->failed_by && task->failed_by != task->head.number)
		lines_add(lines, ",\"because_of\":%llu", (unsigned long long)task->failed_by);
	lines_end(lines, "}},");
}

static const char *reason_names(uint8_t reasons, char names[32])
{
	static const struct { uint8_t reason; const char *name; } all[] = {
		{ EDGE_RAW, "RAW" }, { EDGE_WAR, "WAR" }, { EDGE_WAW, "WAW" },
		{ EDGE_EXPLICIT, "explicit" },
	};
	size_t used = 0;

	names[0] = '\0';
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (reasons & all[i].reason)
			used += (size_t)text_format(names + used, 32 - used, "%s%s",
						    used ? "+" : "", all[i].name);
	return names;
}

/* Begins at `task` and leads to `to`, or ends there (NULL). */
static void write_flow(struct trace *trace, const struct task *task, const struct task *to,
		       const struct trace_flow *flow, int32_t pid, int32_t tid, uint64_t at)
{
	bool begins = to != NULL;
	struct trace_lines *lines = &trace->json;
	char names[32];

	lines_begin(lines);
	lines_add(lines, "{\"ph\":\"%s\",\"cat\":\"dependency\",\"name\":\"%s\",\"id\":\"0x%llx\","
		  "\"pid\":%d,\"tid\":%d,", begins ? "s" : "f\",\"bp\":\"e",
		  reason_names(flow->reasons, names), (unsigned long long)flow->id, pid, tid);
	lines_add_time(lines, "ts", at);
	if (begins) {
		lines_add(lines, ",\"args\":{\"from\":%llu,\"to\":%llu,\"run\":%llu,\"owner\":",
			  (unsigned long long)task->head.number,
			  (unsigned long long)to->head.number,
			  (unsigned long long)trace_run(run_of(task->run))->serial);
		lines_add_string(lines, trace->path);
		lines_add(lines, "}");
	}
	lines_end(lines, "},");
}

/* ------------------------------------------------------------------ events */

static void add_span(struct trace_times *times, const struct trace_span *span)
{
	if (times->span_count == times->span_space) {
		uint32_t space = times->span_space ? 2 * times->span_space : 1;
		struct trace_span *grown = realloc(times->spans, space * sizeof(*grown));

		if (!grown)
			return;
		times->spans = grown;
		times->span_space = space;
	}
	times->spans[times->span_count++] = *span;
}

static void add_flow(struct trace_times *times, const struct trace_flow *flow)
{
	if (times->flow_count == times->flow_space) {
		uint32_t space = times->flow_space ? 2 * times->flow_space : 4;
		struct trace_flow *grown = realloc(times->flows, space * sizeof(*grown));

		if (!grown)
			return;
		times->flows = grown;
		times->flow_space = space;
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
		.worker = times->worker, .attempt = task->attempts, .failed = true,
		.pid = times->pid, .tid = times->tid,
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
	struct trace_flow flow;

	for (uint32_t i = 0; i < times->flow_count; i++)
		write_flow(trace, task, NULL, &times->flows[i], first ? first->pid : trace->pid,
			   first ? first->tid : trace->tid, first ? first->started : now);
	for (struct edge *edge = task->first; edge; edge = edge->next) {
		if (!trace_times(edge->consumer))
			continue;
		flow = (struct trace_flow){ .id = id_new(trace), .reasons = edge->reasons };
		add_flow(trace_times(edge->consumer), &flow);
		/* The end itself is not in the slice any more. */
		write_flow(trace, task, edge->consumer, &flow, last ? last->pid : trace->pid,
			   last ? last->tid : trace->tid,
			   !last ? now : last->ended - (last->ended > last->started));
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
}

static void task_submitted(struct trace *trace, struct task *task)
{
	struct trace_times *times;

	if (!trace_run(run_of(task->run)))
		return;
	times = calloc(1, sizeof(*times));
	task->probe_data = times;
	if (!times)
		return;
	times->submitted = now_ns();
	if (trace->graphs)
		times->node = dot_submitted(trace, task);
}

static void task_final(struct trace *trace, struct task *task)
{
	struct trace_times *times = trace_times(task);

	if (trace->json.file)
		write_task(trace, task);
	if (times->node)
		dot_final(trace, task, times->node);
	free(times->spans);
	free(times->flows);
	free(times);
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
		break;
	case PROBE_DISPATCHED:
		ring = &run_of(task->run)->engine->rings.all[task->placed];
		times->worker = task->placed;
		times->pid = __atomic_load_n(&ring->stats->pid, __ATOMIC_RELAXED);
		times->tid = __atomic_load_n(&ring->status->tid, __ATOMIC_RELAXED);
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
	span.pid = __atomic_load_n(&ring->stats->pid, __ATOMIC_RELAXED);
	span.tid = __atomic_load_n(&ring->status->tid, __ATOMIC_RELAXED);
	if (span.started < span.dispatched)
		span.started = span.dispatched;
	if (span.ended < span.started)
		span.ended = span.started;
	trace->lanes[ring->index].last_end = span.ended;
	add_span(times, &span);
}

static void write_run(struct trace *trace, const struct dw_run *run)
{
	const struct trace_run *traced = trace_run(run);
	struct trace_lines *lines = &trace->json;
	uint64_t now = now_ns(), id = id_new(trace);

	name_self(trace);
	for (int end = 0; end < 2; end++) {
		lines_begin(lines);
		lines_add(lines,
			  "{\"ph\":\"%s\",\"cat\":\"run\",\"name\":\"run %llu\",\"id\":\"0x%llx\","
			  "\"pid\":%d,\"tid\":%d,",
			  end ? "e" : "b", (unsigned long long)traced->serial,
			  (unsigned long long)id, trace->pid, trace->tid);
		lines_add_time(lines, "ts", end ? now : traced->begun);
		lines_add(lines, ",\"args\":{\"owner\":");
		lines_add_string(lines, trace->path);
		lines_add(lines, ",\"tasks\":%llu,\"error\":%d",
			  (unsigned long long)run->graph.submitted, -run->graph.error);
		lines_end(lines, "}},");
	}
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
		lines_flush(&trace->json);
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
