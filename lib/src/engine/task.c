/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Memory of tasks: they and their edges come from free lists over chunks that never move,
 * payloads inside the task or malloc'ed, the set of failed tasks. All O(1).
 */
#include <errno.h>
#include <stdlib.h>
#include "engine/run.h"
#include "engine/task.h"
#include "engine/state.h"
#include "task/name.h"

_Static_assert(offsetof(struct task, head) == 0, "task_ref_live() reads a task as its head");

static int tasks_grow(struct engine *engine)
{
	struct task *chunk;

	if (engine->chunk_count == engine->chunk_space) {
		uint32_t space = engine->chunk_space ? 2 * engine->chunk_space : 16;
		struct task **chunks = realloc(engine->chunks, space * sizeof(*chunks));

		if (!chunks)
			return -ENOMEM;
		engine->chunks = chunks;
		engine->chunk_space = space;
	}
	chunk = aligned_alloc(64, TASKS_PER_CHUNK * sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	memset(chunk, 0, TASKS_PER_CHUNK * sizeof(*chunk));
	for (uint32_t i = TASKS_PER_CHUNK; i-- > 0;) {
		chunk[i].index = engine->chunk_count * TASKS_PER_CHUNK + i;
		chunk[i].next = engine->free_tasks;
		engine->free_tasks = &chunk[i];
	}
	engine->chunks[engine->chunk_count++] = chunk;
	return 0;
}

struct task *task_new(struct engine *engine)
{
	struct task *task;

	if (!engine->free_tasks && tasks_grow(engine) < 0)
		return NULL;
	task = engine->free_tasks;
	engine->free_tasks = task->next;
	if (LIKELY(task->next != NULL))
		task_prefetch(task->next->next);
	engine->live_tasks++;
	task->waiting = 0;
	task->in_chain = 0;
	task->chain = NO_WORKER;
	task->producers = 0;
	task->flags = 0;
	task->queue = QUEUE_NONE;
	task->placed = NO_WORKER;
	task->first = NULL;
	task->last = NULL;
	task->failed_by = 0;
	task->probe_data = NULL;
	task->attempts = 0;
	return task;
}

void task_free(struct engine *engine, struct task *task)
{
	task->head.state = TASK_FREE;
	task->head.generation++;
	task->next = engine->free_tasks;
	engine->free_tasks = task;
	engine->live_tasks--;
}

void tasks_destroy(struct engine *engine)
{
	slab_release(&engine->edges);
	for (uint32_t i = 0; i < engine->chunk_count; i++)
		free(engine->chunks[i]);
	free(engine->chunks);
}

void tasks_each(struct engine *engine, void (*visit)(struct engine *engine, struct task *task,
						     void *context), void *context)
{
	for (uint32_t i = 0; i < engine->chunk_count * TASKS_PER_CHUNK; i++) {
		struct task *task = task_at(engine, i);

		if (task->head.state != TASK_FREE)
			visit(engine, task, context);
	}
}

struct task *task_find(const struct engine *engine, dw_task task)
{
	uint32_t index = (uint32_t)task - 1;

	if (index >= engine->chunk_count * TASKS_PER_CHUNK)
		return NULL;
	return task_at(engine, index);
}

/* ---------------------------------------------------------------- payloads */

int payload_make(struct engine *engine, struct payload *payload, const struct dw_args *args,
		 const char *name, unsigned char *storage, size_t space, const char **kept_name)
{
	uint64_t bytes = wire_bytes(args);
	size_t name_bytes = name ? strlen(name) + 1 : 0;
	size_t total = bytes + args->tensor_count + name_bytes;
	unsigned char *copy = storage;
	int result;

	if (bytes > UINT32_MAX)
		return error_set(-E2BIG, "the arguments need %llu bytes on the wire; at most 4 GiB fit",
				 (unsigned long long)bytes);
	if (UNLIKELY(name_bytes > NAME_TASK_MOST + 1))
		return name_check("the name of a task,", name, NAME_TASK_MOST);
	payload->bytes = (uint32_t)bytes;
	payload->blob = NULL;
	payload->owned = total > space;
	if (payload->owned) {
		copy = malloc(total);
		if (!copy)
			return error_set(-ENOMEM, "no memory for %zu bytes of arguments", total);
	}
	payload->copy = copy;
	wire_encode(args, copy);
	if (args->tensor_count)
		memcpy(copy + bytes, args->tags, args->tensor_count);
	if (kept_name)
		*kept_name = NULL;
	if (name_bytes) {
		memcpy(copy + bytes + args->tensor_count, name, name_bytes);
		*kept_name = (char *)copy + bytes + args->tensor_count;
	}
	if (UNLIKELY(bytes > engine->payload)) {
		result = arena_alloc(engine->arena, bytes, &payload->blob);
		if (result < 0) {
			payload->blob = NULL;
			payload_free(engine, payload);
			return result;
		}
		memcpy(payload->blob, copy, bytes);
	}
	return 0;
}

void payload_free(struct engine *engine, struct payload *payload)
{
	if (payload->blob)
		arena_free(engine->arena, payload->blob);
	if (payload->owned)
		free(payload->copy);
	payload->blob = NULL;
	payload->owned = false;
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

int failed_add(struct failed_set *set, dw_task task, uint64_t failed_by, int error)
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
	for (i = failed_hash(task, set->space); set->entries[i].task; i = (i + 1) & (set->space - 1))
		if (set->entries[i].task == task)
			return &set->entries[i];
	return NULL;
}
