/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What follows from a task's end: its consumers are released or skipped, its
 * bytes poisoned, its scope and memory given back. RAW and explicit edges carry a
 * failure on, WAR and WAW only order. A task that will be skipped still waits for all
 * its producers, so that who comes after it comes after them.
 *
 *   RUNNING ─ DONE ───────────────────────────────→ final
 *           ─ FAILED, attempts left ─→ READY; after a death: when nothing is left of the worker
 *           ─ FAILED ─────────────────────────────→ final, consumers SKIP
 *           ─ RETURNED, taken back, not started ─→ READY, PENDING, or SKIPPED
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "engine/abandon.h"
#include "engine/chip_memory.h"
#include "engine/completion.h"
#include "engine/group.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"

void task_describe(const struct task *task, char *text, size_t space)
{
	bool named = task->name;

	text_format(text, space, "task %llu %s%s%s(%s)", (unsigned long long)task->head.number,
		    named ? "\"" : "", text_short(task->name), named ? "\" " : "",
		    text_short(callable_title(task->callable)));
}

/* Of a task, where `task` is not NULL, or of the run itself; `path` is where. */
static void add_error(struct dw_run *run, const struct task *task, const char *path, int error,
		      const char *text)
{
	if (!run->error) {
		run->error = error;
		text_copy(run->text, sizeof(run->text), text);
	}
	run_errors_add(&run->errors, task, path, error, text);
}

void run_error(struct dw_run *run, int error, const char *format, ...)
{
	char text[ERROR_TEXT_BYTES];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof(text), format, args);
	va_end(args);
	add_error(run, NULL, run->engine->path, error, text);
}

/* Sets a final state; finish_all() does the rest, in this order: producers before who followed them. */
void task_finish(struct engine *engine, struct task *task, enum task_state state)
{
	task->head.state = (uint8_t)state;
	task->next = NULL;
	if (engine->finished)
		engine->last_finished->next = task;
	else
		engine->finished = task;
	engine->last_finished = task;
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

/* Later consumers have to learn of it: through the bytes, or through the id. */
static void remember_failure(struct task *task)
{
	if (task->flags & FLAG_GROUP)
		for (uint32_t i = 0; i < task->group->count; i++)
			poison_payload(task, &task->group->members[i].payload);
	else
		poison_payload(task, &task->payload);
	/* A failed task is its own cause; its error was the last that came under its number. */
	if (failed_add(&task->run->failed, task_id(task), task->failed_by, task->head.state == TASK_FAILED ?
		       task->error : 0) < 0)
		run_error(task->run, -ENOMEM, "no memory to remember that task %llu failed",
			  (unsigned long long)task->head.number);
}

/* The last producer of a pending task: somebody wants to hear of it. */
static void request_notify_last(struct engine *engine, struct task *task)
{
	struct task *producer = task_at(engine, task->producers);

	if (task->head.state == TASK_PENDING && task->queue == QUEUE_NONE)
		request_notify(engine, producer);
}

static void release_consumer(struct engine *engine, struct task *task, struct edge *edge)
{
	struct task *consumer = edge->consumer;
	bool failed = task->head.state != TASK_DONE;

	consumer->waiting--;
	consumer->producers ^= task->index;
	if (edge->counted)
		consumer->in_chain--;
	/* What a thread goes on with may still write, so that nobody can write after it. */
	if (failed && (edge->reasons & (EDGE_RAW | EDGE_EXPLICIT) || task->flags & FLAG_ABANDONED)) {
		consumer->flags |= FLAG_SKIP;
		if (!consumer->failed_by)
			consumer->failed_by = task->failed_by;
		if (consumer->queue == QUEUE_CHAINED)
			task_unqueue(engine, consumer);
	}
	if (!consumer->waiting)
		task_released(engine, consumer);
	else if (consumer->waiting == 1)
		request_notify_last(engine, consumer);
}

void task_released(struct engine *engine, struct task *task)
{
	/* It went into a ring behind its producers: the worker runs or returns it, or has done so. */
	if (task->head.state != TASK_PENDING)
		return;
	if (task->queue == QUEUE_CHAINED)
		task_unqueue(engine, task);
	if (UNLIKELY(task_skips(task)))
		task_finish(engine, task, TASK_SKIPPED);
	else
		task_ready(engine, task);
}

/* Gives back the memory of a final task, and all that it holds. */
void task_release(struct engine *engine, struct task *task)
{
	callable_put(task->callable);
	if (UNLIKELY(task->flags & FLAG_GROUP))
		group_free(engine, task->group);
	else
		payload_free(engine, &task->payload);
	if (scope_put(engine->heap, task->scope))
		engine->heap_serial++;
	task_free(engine, task);
}

static void consume(struct engine *engine, struct task *task)
{
	struct dw_run *run = task->run;

	if (UNLIKELY(chip_memory_is_control(task->callable)))
		chip_memory_freed(engine, task);
	if (LIKELY(!(task->flags & FLAG_ABANDONED)) || !task_keep(engine, task))
		task_release(engine, task);
	__atomic_store_n(&run->finished, run->finished + 1, __ATOMIC_RELAXED);
}

static void finish_one(struct engine *engine, struct task *task)
{
	struct edge *edge = task->first, *next;

	PROBE(engine, task, task, PROBE_FINAL);
	if (LIKELY(task->head.state == TASK_DONE)) {
		engine_count(engine, done);
	} else {
		if (task->head.state == TASK_FAILED)
			engine_count(engine, failed);
		else
			engine_count(engine, skipped);
		if (task->head.state == TASK_SKIPPED && task->worker != DW_ANY &&
		    !(task->flags & FLAG_GROUP))
			ring_count(&engine->rings[task->worker], tasks_skipped, 1);
		remember_failure(task);
	}
	for (; edge; edge = next) {
		next = edge->next;
		release_consumer(engine, task, edge);
		slab_give(&engine->edges, edge);
	}
	consume(engine, task);
}

void finish_all(struct engine *engine)
{
	struct task *task;

	while ((task = engine->finished)) {
		engine->finished = task->next;
		finish_one(engine, task);
	}
}

void task_returned(struct engine *engine, struct task *task)
{
	task->head.state = TASK_PENDING;
	task->placed = NO_WORKER;
	PROBE(engine, task, task, PROBE_RETURNED);
	if (!task->waiting)
		task_released(engine, task);
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

static bool task_retry(struct engine *engine, struct task *task)
{
	if (!task->retries || task_skips(task) || task->run->cancelled)
		return false;
	task->retries--;
	task->attempts++;
	task->flags &= (uint8_t)~FLAG_DEADLINE;
	task->flags |= FLAG_AGAIN;
	engine_count(engine, retried);
	return true;
}

void task_fail(struct engine *engine, struct task *task, struct worker_ring *ring, int error,
	       const char *text, bool text_has_path)
{
	char what[ERROR_TEXT_BYTES / 2], line[ERROR_TEXT_BYTES], limit[32], late[ERROR_TEXT_BYTES / 2];
	char cause[ERROR_TEXT_BYTES];
	const char *path = ring ? ring->path : engine->path;
	char again[32] = "";
	size_t around;

	if (task->flags & FLAG_DEADLINE && !(task->flags & FLAG_ABANDONED)) {
		format_ns(task->timeout_ns ? task->timeout_ns : engine->timeout_ns, limit,
			  sizeof(limit));
		if (ring && ring->error == -EPERM && ring->cause)
			text_format(late, sizeof(late), "ran longer than its deadline of %s; %s", limit,
				 ring->cause);
		else if (ring && ring->stopped)
			text_format(late, sizeof(late), "was stopped by %s, ran longer than its deadline of "
				 "%s and was killed", error_signal_name(ring->stopped), limit);
		else
			text_format(late, sizeof(late), "ran longer than its deadline of %s and was killed",
				 limit);
		error = -ETIMEDOUT;
		text = late;
		text_has_path = false;
	}
	if (task_retry(engine, task))
		return;
	if (ring)
		ring_count(ring, tasks_failed, 1);
	task_describe(task, what, sizeof(what));
	if (task->attempts)
		snprintf(again, sizeof(again), " (attempt %u)", task->attempts + 1u);
	around = strlen(path) + strlen(what) + strlen(error_name(-error)) + strlen(again) + 6;
	if (text_has_path) {
		text_copy(line, sizeof(line), text);
	} else {
		/* A cause that is too long is cut, and nothing else. */
		text_copy(cause, sizeof(cause) - around, text);
		text_format(line, sizeof(line), "%s: %s: %s: %s%s", path, what, error_name(-error), cause,
			    again);
	}
	add_error(task->run, task, path, error, line);
	task->error = error;
	task->failed_by = task->head.number;
}

void task_fail_now(struct engine *engine, struct task *task)
{
	if (!(task->flags & FLAG_AGAIN)) {
		task_finish(engine, task, TASK_FAILED);
		return;
	}
	task->flags &= (uint8_t)~FLAG_AGAIN;
	task->head.state = TASK_PENDING;
	task->placed = NO_WORKER;
	task_released(engine, task);
}

void task_failed(struct engine *engine, struct task *task, struct worker_ring *ring, int error,
		 const char *text, bool text_has_path)
{
	task_fail(engine, task, ring, error, text, text_has_path);
	task_fail_now(engine, task);
}

void task_completed(struct engine *engine, struct worker_ring *ring, struct task *task, uint32_t member,
		    const struct completion *completion, const char *text)
{
	if (UNLIKELY(task->flags & FLAG_GROUP)) {
		if (completion->state == COMPLETION_DONE)
			ring_count(ring, tasks_done, 1);
		group_member_left(engine, task, member, ring, completion->error, text, false);
		return;
	}
	switch (completion->state) {
	case COMPLETION_DONE:
		ring_count(ring, tasks_done, 1);
		task_finish(engine, task, TASK_DONE);
		break;
	case COMPLETION_FAILED:
		task_failed(engine, task, ring, completion->error, text,
			    ring->nested_text && text[0]);
		break;
	default:
		task_leave_ring(engine, task);
		task_returned(engine, task);
		break;
	}
}
