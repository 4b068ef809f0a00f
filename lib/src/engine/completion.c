/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What follows from a task's end: its consumers are released or skipped, its
 * bytes poisoned, its scope and slot given back. RAW and explicit edges carry a
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
#include "engine/abandon.h"
#include "engine/chip_memory.h"
#include "engine/completion.h"
#include "engine/group.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/slot.h"
#include "engine/state.h"

void task_describe(const struct slot *slot, char *text, size_t space)
{
	bool named = slot->name;

	snprintf(text, space, "task %llu %s%.100s%s(%.100s)", (unsigned long long)slot->head.number,
		 named ? "\"" : "", named ? slot->name : "", named ? "\" " : "",
		 callable_title(slot->callable));
}

/* Of a task, where `slot` is not NULL, or of the run itself; `path` is where. */
static void add_error(struct dw_run *run, const struct slot *slot, const char *path, int error,
		      const char *text)
{
	if (!run->error) {
		run->error = error;
		snprintf(run->text, sizeof(run->text), "%s", text);
	}
	run_errors_add(&run->errors, slot, path, error, text);
}

void run_error(struct dw_run *run, int error, const char *format, ...)
{
	char text[ERROR_TEXT_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	add_error(run, NULL, run->engine->path, error, text);
}

/* Sets a final state; finish_all() does the rest, in this order: producers before who followed them. */
void task_finish(struct engine *engine, struct slot *slot, enum task_state state)
{
	slot->head.state = (uint8_t)state;
	slot->next = NULL;
	if (engine->finished)
		engine->last_finished->next = slot;
	else
		engine->finished = slot;
	engine->last_finished = slot;
}

static void poison_payload(struct slot *slot, const struct payload *payload)
{
	const unsigned char *blob = payload->copy;
	const struct dw_tensor *tensors = (const struct dw_tensor *)(blob + WIRE_HEADER_BYTES);
	struct task_ref ref = { slot, slot->head.generation };
	const uint8_t *tags = payload_tags(payload);
	int32_t count;
	uint64_t bytes;

	memcpy(&count, blob, sizeof(count));
	for (int32_t i = 0; i < count; i++) {
		if (tags[i] == DW_INPUT || tags[i] == DW_NO_DEP ||
		    dw_tensor_bytes(&tensors[i], &bytes) < 0 || !bytes)
			continue;
		tensor_map_poison(slot->run->map, tensors[i].data, tensors[i].data + bytes, ref,
				  slot->blame);
	}
}

/* Later consumers have to learn of it: through the bytes, or through the id. */
static void remember_failure(struct slot *slot)
{
	if (slot->flags & SLOT_GROUP)
		for (uint32_t i = 0; i < slot->group->count; i++)
			poison_payload(slot, &slot->group->members[i].payload);
	else
		poison_payload(slot, &slot->payload);
	/* A failed task is its own cause; its error was the last that came under its number. */
	if (failed_add(&slot->run->failed, slot_id(slot), slot->blame, slot->head.state == TASK_FAILED ?
		       slot->error : 0) < 0)
		run_error(slot->run, -ENOMEM, "no memory to remember that task %llu failed",
			  (unsigned long long)slot->head.number);
}

/* The last producer of a pending task: somebody wants to hear of it. */
static void want_last_producer(struct engine *engine, struct slot *slot)
{
	struct slot *producer = slot_at(engine, slot->producers);

	if (slot->head.state == TASK_PENDING && slot->queue == QUEUE_NONE)
		want_completion(engine, producer);
}

static void release_consumer(struct engine *engine, struct slot *slot, struct edge *edge)
{
	struct slot *consumer = edge->consumer;
	bool failed = slot->head.state != TASK_DONE;

	consumer->waiting--;
	consumer->producers ^= slot->index;
	if (edge->counted)
		consumer->in_lane--;
	/* What a thread goes on with may still write, so that nobody can write after it. */
	if (failed && (edge->reasons & (EDGE_RAW | EDGE_EXPLICIT) || slot->flags & SLOT_ABANDONED)) {
		consumer->flags |= SLOT_SKIP;
		if (!consumer->blame)
			consumer->blame = slot->blame;
		if (consumer->queue == QUEUE_AHEAD)
			task_unqueue(engine, consumer);
	}
	if (!consumer->waiting)
		task_released(engine, consumer);
	else if (consumer->waiting == 1)
		want_last_producer(engine, consumer);
}

void task_released(struct engine *engine, struct slot *slot)
{
	/* It went into a ring behind its producers: the worker runs or returns it, or has done so. */
	if (slot->head.state != TASK_PENDING)
		return;
	if (slot->queue == QUEUE_AHEAD)
		task_unqueue(engine, slot);
	if (UNLIKELY(slot_skips(slot)))
		task_finish(engine, slot, TASK_SKIPPED);
	else
		task_ready(engine, slot);
}

/* A final task's slot, and what it holds, go back. */
void slot_release(struct engine *engine, struct slot *slot)
{
	callable_put(slot->callable);
	if (UNLIKELY(slot->flags & SLOT_GROUP))
		group_free(engine, slot->group);
	else
		payload_free(engine, &slot->payload);
	if (scope_put(engine->heap, slot->scope))
		engine->heap_serial++;
	slot_free(engine, slot);
}

static void consume(struct engine *engine, struct slot *slot)
{
	struct dw_run *run = slot->run;

	if (UNLIKELY(chip_memory_is_control(slot->callable)))
		chip_memory_freed(engine, slot);
	if (LIKELY(!(slot->flags & SLOT_ABANDONED)) || !slot_keep(engine, slot))
		slot_release(engine, slot);
	__atomic_store_n(&run->finished, run->finished + 1, __ATOMIC_RELAXED);
}

static void finish_one(struct engine *engine, struct slot *slot)
{
	struct edge *edge = slot->first, *next;

	PROBE(engine, task, slot, PROBE_FINAL);
	if (LIKELY(slot->head.state == TASK_DONE)) {
		engine_count(engine, done);
	} else {
		if (slot->head.state == TASK_FAILED)
			engine_count(engine, failed);
		else
			engine_count(engine, skipped);
		if (slot->head.state == TASK_SKIPPED && slot->worker != DW_ANY &&
		    !(slot->flags & SLOT_GROUP))
			peer_count(&engine->peers[slot->worker], tasks_skipped, 1);
		remember_failure(slot);
	}
	for (; edge; edge = next) {
		next = edge->next;
		release_consumer(engine, slot, edge);
		slab_give(&engine->edges, edge);
	}
	consume(engine, slot);
}

void finish_all(struct engine *engine)
{
	struct slot *slot;

	while ((slot = engine->finished)) {
		engine->finished = slot->next;
		finish_one(engine, slot);
	}
}

void task_returned(struct engine *engine, struct slot *slot)
{
	slot->head.state = TASK_PENDING;
	slot->placed = NO_WORKER;
	PROBE(engine, task, slot, PROBE_RETURNED);
	if (!slot->waiting)
		task_released(engine, slot);
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

static bool task_retry(struct engine *engine, struct slot *slot)
{
	if (!slot->retries || slot_skips(slot) || slot->run->cancelled)
		return false;
	slot->retries--;
	slot->attempts++;
	slot->flags &= (uint8_t)~SLOT_DEADLINE;
	slot->flags |= SLOT_AGAIN;
	engine_count(engine, retried);
	return true;
}

void task_fail(struct engine *engine, struct slot *slot, struct peer *peer, int error,
	       const char *text, bool whole)
{
	char what[ERROR_TEXT_BYTES / 2], line[ERROR_TEXT_BYTES], limit[32], late[ERROR_TEXT_BYTES / 2];
	const char *path = peer ? peer->path : engine->path;
	int length;

	if (slot->flags & SLOT_DEADLINE && !(slot->flags & SLOT_ABANDONED)) {
		format_ns(slot->timeout_ns ? slot->timeout_ns : engine->timeout_ns, limit,
			  sizeof(limit));
		if (peer && peer->error == -EPERM && peer->cause)
			snprintf(late, sizeof(late), "ran longer than its deadline of %s; %.180s", limit,
				 peer->cause);
		else if (peer && peer->stopped)
			snprintf(late, sizeof(late), "was stopped by %s, ran longer than its deadline of "
				 "%s and was killed", error_signal_name(peer->stopped), limit);
		else
			snprintf(late, sizeof(late), "ran longer than its deadline of %s and was killed",
				 limit);
		error = -ETIMEDOUT;
		text = late;
		whole = false;
	}
	if (task_retry(engine, slot))
		return;
	if (peer)
		peer_count(peer, tasks_failed, 1);
	task_describe(slot, what, sizeof(what));
	if (whole)
		length = snprintf(line, sizeof(line), "%s", text);
	else if (slot->attempts)
		length = snprintf(line, sizeof(line), "%s: %s: %s: %.300s (attempt %u)", path, what,
				  error_name(-error), text, slot->attempts + 1u);
	else
		length = snprintf(line, sizeof(line), "%s: %s: %s: %.300s", path, what,
				  error_name(-error), text);
	/* One that is too long is cut. */
	if (length < 0)
		line[0] = '\0';
	add_error(slot->run, slot, path, error, line);
	slot->error = error;
	slot->blame = slot->head.number;
}

void task_fail_now(struct engine *engine, struct slot *slot)
{
	if (!(slot->flags & SLOT_AGAIN)) {
		task_finish(engine, slot, TASK_FAILED);
		return;
	}
	slot->flags &= (uint8_t)~SLOT_AGAIN;
	slot->head.state = TASK_PENDING;
	slot->placed = NO_WORKER;
	task_released(engine, slot);
}

void task_failed(struct engine *engine, struct slot *slot, struct peer *peer, int error,
		 const char *text, bool whole)
{
	task_fail(engine, slot, peer, error, text, whole);
	task_fail_now(engine, slot);
}

void task_completed(struct engine *engine, struct peer *peer, struct slot *slot, uint32_t member,
		    const struct completion *completion, const char *text)
{
	if (UNLIKELY(slot->flags & SLOT_GROUP)) {
		if (completion->state == COMPLETION_DONE)
			peer_count(peer, tasks_done, 1);
		group_member_left(engine, slot, member, peer, completion->error, text, false);
		return;
	}
	switch (completion->state) {
	case COMPLETION_DONE:
		peer_count(peer, tasks_done, 1);
		task_finish(engine, slot, TASK_DONE);
		break;
	case COMPLETION_FAILED:
		task_failed(engine, slot, peer, completion->error, text,
			    peer->nested_text && text[0]);
		break;
	default:
		slot_leave_ring(engine, slot);
		task_returned(engine, slot);
		break;
	}
}
