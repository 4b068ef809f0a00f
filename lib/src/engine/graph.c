/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See graph.h: runs, final states and their consequences. Edges of a new task: graph_edges.c;
 * groups: graph_group.c.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/text.h"
#include "engine/elision.h"
#include "engine/graph.h"
#include "engine/queue.h"

int graph_init(struct graph *graph, const struct engine_options *options, const char *path,
	       struct ring_set *rings, struct heap *heap, struct counters *counters)
{
	task_table_init(&graph->tasks, options->arena, rings->payload);
	graph->rings = rings;
	graph->counters = counters;
	graph->heap = heap;
	names_init(&graph->names, options);
	graph->path = path;
	graph->probe = options->probe;
	graph->watch_posts = graph->names.on;
	return graph->names.on ? affinity_init(&graph->affinity) : 0;
}

void graph_release(struct graph *graph)
{
	task_table_release(&graph->tasks);
	names_release(&graph->names);
	affinity_release(&graph->affinity);
}

/* -------------------------------------------------------------------- runs */

int run_graph_init(struct run_graph *run)
{
	int result = tensor_map_create(&run->map);

	return result < 0 ? error_set(result, "no memory for a run's tensor map") : 0;
}

void run_graph_free(struct run_graph *run)
{
	run_errors_free(&run->errors);
	run_names_free(&run->names);
	free(run->failed.entries);
}

void graph_add_run(struct graph *graph)
{
	counters_runs(graph->counters, ++graph->run_count);
}

struct tensor_map *graph_remove_run(struct graph *graph, struct run_graph *run)
{
	struct tensor_map *map = run->map;

	counters_runs(graph->counters, --graph->run_count);
	run->map = NULL;
	return map;
}

/* Of a task, where `task` is not NULL, or of the run itself; `path` is where. */
static void add_error(struct run_graph *run, const struct task *task, const char *path, int error,
		      const char *text)
{
	if (!run->error) {
		run->error = error;
		text_copy(run->text, sizeof(run->text), text);
	}
	run_errors_add(&run->errors, task, path, error, text);
}

void run_error(struct graph *graph, struct run_graph *run, int error, const char *format, ...)
{
	char text[ERROR_TEXT_BYTES];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof(text), format, args);
	va_end(args);
	add_error(run, NULL, graph->path, error, text);
}

/* -------------------------------------------------------------- failed set */

static uint32_t failed_hash(dw_task task, uint32_t space)
{
	return (uint32_t)((task * 0x9E3779B97F4A7C15ULL) >> 32) & (space - 1);
}

static void failed_insert(struct failed_set *set, const struct failed *failed)
{
	uint32_t i = failed_hash(failed->task, set->space);

	while (set->entries[i].task)
		i = (i + 1) & (set->space - 1);
	set->entries[i] = *failed;
}

static int failed_add(struct failed_set *set, dw_task task, uint64_t failed_by, int error)
{
	struct failed_set grown = { .space = set->space ? 2 * set->space : 64 };
	struct failed added = { .task = task, .failed_by = failed_by, .error = error };

	if (2 * (set->count + 1) > set->space) {
		grown.entries = calloc(grown.space, sizeof(*grown.entries));
		if (!grown.entries)
			return -ENOMEM;
		for (uint32_t i = 0; i < set->space; i++)
			if (set->entries[i].task)
				failed_insert(&grown, &set->entries[i]);
		grown.count = set->count;
		free(set->entries);
		*set = grown;
	}
	failed_insert(set, &added);
	set->count++;
	return 0;
}

const struct failed *failed_find(const struct failed_set *set, dw_task task)
{
	uint32_t i;

	if (!set->count)
		return NULL;
	for (i = failed_hash(task, set->space); set->entries[i].task;
	     i = (i + 1) & (set->space - 1))
		if (set->entries[i].task == task)
			return &set->entries[i];
	return NULL;
}

/* --------------------------------------------------------------------- ends */

void graph_finish(struct graph *graph, struct task *task, enum task_state state)
{
	task->head.state = (uint8_t)state;
	task->next = NULL;
	if (graph->finished)
		graph->last_finished->next = task;
	else
		graph->finished = task;
	graph->last_finished = task;
}

static void poison_payload(struct task *task, const struct payload *payload)
{
	const unsigned char *blob = payload->copy;
	const struct dw_tensor *tensors = (const struct dw_tensor *)(blob + WIRE_HEADER_BYTES);
	struct task_ref ref = { task, task->head.generation };
	const uint8_t *tags = payload_tags(payload);
	int32_t count;
	uint64_t bytes;

	memcpy(&count, blob, sizeof(count));
	for (int32_t i = 0; i < count; i++) {
		if (tags[i] == DW_INPUT || tags[i] == DW_NO_DEP ||
		    dw_tensor_bytes(&tensors[i], &bytes) < 0 || !bytes)
			continue;
		tensor_map_poison(task->run->map, tensors[i].data, tensors[i].data + bytes, ref,
				  task->failed_by);
	}
}

/* Later consumers have to detect the failure: by the bytes, or by the id. */
static void remember_failure(struct graph *graph, struct task *task)
{
	if (task->flags & FLAG_GROUP)
		for (uint32_t i = 0; i < task->group->count; i++)
			poison_payload(task, &task->group->members[i].payload);
	else
		poison_payload(task, &task->payload);
	/* A failed task is its own cause; its error was the last that came under its number. */
	if (failed_add(&task->run->failed, task_id(task), task->failed_by,
		       task->head.state == TASK_FAILED ? task->error : 0) < 0)
		run_error(graph, task->run, -ENOMEM, "no memory to remember that task %llu failed",
			  (unsigned long long)task->head.number);
}

/* ------------------------------------------------------------- consequences */

/* It waits for nothing any more: the scheduler takes it from here. */
static void release(struct graph *graph, struct task *task)
{
	task->next = NULL;
	if (graph->released)
		graph->last_released->next = task;
	else
		graph->released = task;
	graph->last_released = task;
}

static void release_consumer(struct graph *graph, struct task *task, struct edge *edge)
{
	struct task *consumer = edge->consumer;
	bool failed = task->head.state != TASK_DONE;

	consumer->waiting--;
	consumer->producers ^= task->index;
	if (edge->counted)
		consumer->in_rings--;
	/* A thread that goes on with a task may still write, so no task can write after it. */
	if (failed &&
	    (edge->reasons & (EDGE_RAW | EDGE_EXPLICIT) || task->flags & FLAG_ABANDONED)) {
		consumer->flags |= FLAG_SKIP;
		if (!consumer->failed_by)
			consumer->failed_by = task->failed_by;
		if (consumer->queue == QUEUE_CHAINED)
			queue_remove(consumer);
	}
	/* Else it went into a ring behind its producers: the worker runs or returns it. */
	if (consumer->head.state != TASK_PENDING) {
		if (!consumer->waiting && consumer->placed != NO_WORKER)
			ring_may_start(graph->rings, consumer);
		return;
	}
	if (!consumer->waiting) {
		if (consumer->queue == QUEUE_CHAINED)
			queue_remove(consumer);
		release(graph, consumer);
	} else if (consumer->queue != QUEUE_NONE) {
		return;
	} else if (consumer->waiting == 1) {
		/* Its last producer. */
		request_notify(graph->rings, task_at(&graph->tasks, consumer->producers));
	} else if (consumer->in_rings == consumer->waiting && consumer->waiting <= NOTIFY_FEW) {
		request_notify_producers(graph->rings, consumer);
	}
}

static inline void free_task(struct graph *graph, struct task *task)
{
	callable_put(task->callable);
	if (UNLIKELY(task->flags & FLAG_GROUP))
		group_free(&graph->tasks, task->group);
	else
		payload_free(&graph->tasks, &task->payload);
	scope_put(graph->heap, task->scope);
	task_free(&graph->tasks, task);
}

void graph_free_task(struct graph *graph, struct task *task)
{
	free_task(graph, task);
}

/* False: no thread has it any more. */
static bool keep(struct graph *graph, struct task *task)
{
	if (!(task->flags & FLAG_GROUP))
		ring_keep(graph->rings, &graph->rings->all[task->placed], task);
	else if (!task->group->kept)
		return false;
	task_set_kept(task);
	return true;
}

static void consume(struct graph *graph, struct task *task)
{
	struct run_graph *run = task->run;

	if (LIKELY(!(task->flags & FLAG_ABANDONED)) || !keep(graph, task))
		free_task(graph, task);
	__atomic_store_n(&run->finished, run->finished + 1, __ATOMIC_RELAXED);
}

static void finish_one(struct graph *graph, struct task *task)
{
	struct edge *edge = task->first, *next;

	PROBE(graph, task, task, PROBE_FINAL);
	if (LIKELY(task->head.state == TASK_DONE)) {
		count_done(graph->counters);
	} else {
		if (task->head.state == TASK_FAILED)
			count_failed(graph->counters);
		else
			count_skipped(graph->counters);
		if (task->head.state == TASK_SKIPPED && task->worker != DW_ANY &&
		    !(task->flags & FLAG_GROUP))
			ring_count_tasks_skipped(&graph->rings->all[task->worker], 1);
		remember_failure(graph, task);
	}
	for (; edge; edge = next) {
		next = edge->next;
		release_consumer(graph, task, edge);
		slab_give(&graph->tasks.edges, edge);
	}
	consume(graph, task);
}

void graph_settle(struct graph *graph)
{
	struct task *task;

	while ((task = graph->finished)) {
		graph->finished = task->next;
		finish_one(graph, task);
	}
}

void graph_returned(struct graph *graph, struct task *task)
{
	task_set_pending(task);
	PROBE(graph, task, task, PROBE_RETURNED);
	if (!task->waiting)
		release(graph, task);
}

/* ----------------------------------------------------------------- failures */

static void format_ns(uint64_t ns, char *text, size_t space)
{
	if (ns < 1000000)
		snprintf(text, space, "%.3g us", (double)ns / 1e3);
	else if (ns < 1000000000)
		snprintf(text, space, "%.4g ms", (double)ns / 1e6);
	else
		snprintf(text, space, "%.4g s", (double)ns / 1e9);
}

static bool retry(struct graph *graph, struct task *task)
{
	if (!task->retries || task_skips(task) || task->run->cancelled)
		return false;
	task->retries--;
	task->attempts++;
	task->flags &= (uint8_t)~FLAG_DEADLINE;
	task->flags |= FLAG_AGAIN;
	count_retried(graph->counters);
	return true;
}

/* The error of a late task is its deadline, regardless of any other cause. */
static void describe_late(const struct ring_set *rings, const struct task *task,
			  const struct worker_ring *ring, char *text, size_t space)
{
	char limit[32];

	format_ns(task_timeout(rings, task), limit, sizeof(limit));
	if (ring && ring->error == -EPERM && ring->cause)
		text_format(text, space, "ran longer than its deadline of %s; %s", limit,
			    ring->cause);
	else if (ring && ring->stopped)
		text_format(text, space,
			    "was stopped by %s, ran longer than its deadline of %s and "
			    "was killed",
			    error_signal_name(ring->stopped), limit);
	else
		text_format(text, space, "ran longer than its deadline of %s and was killed",
			    limit);
}

void graph_fail(struct graph *graph, struct task *task, struct worker_ring *ring, int error,
		const char *text, bool text_has_path)
{
	char name[ERROR_TEXT_BYTES / 2], line[ERROR_TEXT_BYTES], late[ERROR_TEXT_BYTES / 2];
	const char *path = ring ? ring->path : graph->path;
	char cause[ERROR_TEXT_BYTES], again[32] = "";
	size_t around;

	if (task->flags & FLAG_DEADLINE && !(task->flags & FLAG_ABANDONED)) {
		describe_late(graph->rings, task, ring, late, sizeof(late));
		error = -ETIMEDOUT;
		text = late;
		text_has_path = false;
	}
	if (retry(graph, task))
		return;
	if (ring)
		ring_count_tasks_failed(ring, 1);
	task_describe(task, name, sizeof(name));
	if (task->attempts)
		snprintf(again, sizeof(again), " (attempt %u)", task->attempts + 1u);
	around = strlen(path) + strlen(name) + strlen(error_name(-error)) + strlen(again) + 6;
	if (text_has_path) {
		text_copy(line, sizeof(line), text);
	} else {
		/* A cause that is too long is cut, and nothing else. */
		text_copy(cause, sizeof(cause) - around, text);
		text_format(line, sizeof(line), "%s: %s: %s: %s%s", path, name, error_name(-error),
			    cause, again);
	}
	add_error(task->run, task, path, error, line);
	task->error = error;
	task->failed_by = task->head.number;
}

void graph_fail_now(struct graph *graph, struct task *task)
{
	if (UNLIKELY(task->waiting))
		graph_settle(graph);
	if (!(task->flags & FLAG_AGAIN) && !task->waiting) {
		graph_finish(graph, task, TASK_FAILED);
		return;
	}
	/* A corrupt worker started it too early: its producers are final before it. */
	if (!(task->flags & FLAG_AGAIN))
		task->flags |= FLAG_SKIP;
	task->flags &= (uint8_t)~FLAG_AGAIN;
	task_set_pending(task);
	if (!task->waiting)
		release(graph, task);
}

void graph_failed(struct graph *graph, struct task *task, struct worker_ring *ring, int error,
		  const char *text, bool text_has_path)
{
	graph_fail(graph, task, ring, error, text, text_has_path);
	graph_fail_now(graph, task);
}

void graph_unschedulable(struct graph *graph, struct task *task)
{
	task->failed_by = task->head.number;
	graph_finish(graph, task, TASK_FAILED);
}

void graph_abandon(struct task *task)
{
	task->flags |= FLAG_ABANDONED;
	task->retries = 0;
}

void graph_completed(struct graph *graph, struct worker_ring *ring,
		     const struct ring_completion *done)
{
	const struct completion *completion = &done->completion;
	struct task *task = done->task;

	if (UNLIKELY(task->flags & FLAG_GROUP)) {
		if (completion->state == COMPLETION_DONE)
			ring_count_tasks_done(ring, 1);
		graph_member_left(graph, task, done->member, ring, completion->error, done->text,
				  false);
		return;
	}
	if (LIKELY(completion->state == COMPLETION_DONE)) {
		ring_count_tasks_done(ring, 1);
		/* A corrupt worker may have had it start although a producer failed. */
		graph_finish(graph, task, UNLIKELY(task->flags & FLAG_SKIP) ? TASK_SKIPPED :
								       TASK_DONE);
		return;
	}
	switch (completion->state) {
	case COMPLETION_KEPT:
		elision_kept(graph->rings, ring, task);
		ring_count_tasks_done(ring, 1);
		graph_finish(graph, task, TASK_DONE);
		break;
	case COMPLETION_FAILED:
		graph_failed(graph, task, ring, completion->error, done->text,
			     ring->nested_text && done->text[0]);
		break;
	default:
		task_leave_ring(task);
		/* Its deadline may have passed before it began. */
		task_clear_flags(task, FLAG_DEADLINE);
		graph_returned(graph, task);
		break;
	}
}
