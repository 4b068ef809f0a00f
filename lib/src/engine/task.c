/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See task.h. Tasks and edges come from free lists over chunks that never move, payloads lie inside
 * the task or are malloc'ed. All O(1).
 */
#include <errno.h>
#include <stdlib.h>
#include "base/text.h"
#include "engine/queue.h"
#include "engine/task_new.h"
#include "engine/template.h"
#include "memory/arena.h"
#include "task/name.h"

_Static_assert(offsetof(struct task, head) == 0, "task_ref_live() reads a task as its head");

int tasks_grow(struct task_table *table)
{
	struct task *chunk;

	if (table->chunk_count == table->chunk_space) {
		uint32_t space = table->chunk_space ? 2 * table->chunk_space : 16;
		struct task **chunks = realloc(table->chunks, space * sizeof(*chunks));

		if (!chunks)
			return -ENOMEM;
		table->chunks = chunks;
		table->chunk_space = space;
	}
	chunk = aligned_alloc(64, TASKS_PER_CHUNK * sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	memset(chunk, 0, TASKS_PER_CHUNK * sizeof(*chunk));
	for (uint32_t i = TASKS_PER_CHUNK; i-- > 0;) {
		chunk[i].index = table->chunk_count * TASKS_PER_CHUNK + i;
		chunk[i].next = table->unused;
		table->unused = &chunk[i];
	}
	table->chunks[table->chunk_count++] = chunk;
	return 0;
}

void task_free(struct task_table *table, struct task *task)
{
	task->head.state = TASK_FREE;
	task->head.generation++;
	task->next = table->unused;
	table->unused = task;
	table->live--;
}

#define EDGES_FIRST 340
#define EDGES_MOST 2720

void task_table_init(struct task_table *table, struct arena *arena, uint32_t frame_bytes)
{
	table->edges = (struct slab)SLAB_INIT(struct edge, EDGES_FIRST, EDGES_MOST);
	table->arena = arena;
	table->frame_bytes = frame_bytes;
}

void task_table_release(struct task_table *table)
{
	slab_release(&table->edges);
	for (uint32_t i = 0; i < table->chunk_count; i++)
		free(table->chunks[i]);
	free(table->chunks);
}

void tasks_each(struct task_table *table, void (*visit)(struct task *task, void *context),
		void *context)
{
	for (uint32_t i = 0; i < table->chunk_count * TASKS_PER_CHUNK; i++) {
		struct task *task = task_at(table, i);

		if (task->head.state != TASK_FREE)
			visit(task, context);
	}
}

struct task *task_find(const struct task_table *table, dw_task id)
{
	uint32_t index = (uint32_t)id - 1;

	return index < table->chunk_count * TASKS_PER_CHUNK ? task_at(table, index) : NULL;
}

void task_describe(const struct task *task, char *text, size_t space)
{
	bool named = task->name;

	text_format(text, space, "task %llu %s%s%s(%s)", (unsigned long long)task->head.number,
		    named ? "\"" : "", text_short(task->name), named ? "\" " : "",
		    text_short(callable_title(task->callable)));
}

void task_set_group(struct task *task, struct group *group)
{
	task->flags |= FLAG_GROUP;
	task->group = group;
}

void task_no_more_retries(struct task *task)
{
	task->attempts += task->retries;
	task->retries = 0;
}

void task_break_chain(struct task *task)
{
	task_clear_flags(task, FLAG_CHAIN | FLAG_CHAINED);
	for (struct edge *edge = task->first; edge; edge = edge->next) {
		if (!edge->counted)
			continue;
		edge->counted = false;
		edge->consumer->in_rings--;
		if (edge->consumer->queue == QUEUE_CHAINED)
			queue_remove(edge->consumer);
	}
}

/* ---------------------------------------------------------------- payloads */

int payload_make(struct task_table *table, struct payload *payload, const struct dw_args *args,
		 bool named, const char *name, unsigned char *storage)
{
	uint64_t names = UNLIKELY(named) ? args->tensor_count * sizeof(struct frame_names) : 0;
	uint64_t bytes = wire_bytes(args) + names;
	size_t name_bytes = name ? strlen(name) + 1 : 0;
	size_t total = bytes + args->tensor_count + name_bytes;
	unsigned char *copy = storage;
	int result;

	if (bytes > UINT32_MAX)
		return error_set(-E2BIG,
				 "the arguments need %llu bytes on the wire; at most 4 GiB fit",
				 (unsigned long long)bytes);
	if (UNLIKELY(name_bytes > NAME_TASK_MOST + 1))
		return name_check("the name of a task,", name, NAME_TASK_MOST);
	payload->bytes = (uint32_t)bytes;
	payload->blob = NULL;
	payload->owned = !storage || total > TASK_INLINE_BYTES;
	payload->frame_flags = names ? FRAME_NAMED : 0;
	if (payload->owned) {
		copy = malloc(total);
		if (!copy)
			return error_set(-ENOMEM, "no memory for %zu bytes of arguments", total);
	}
	payload->copy = copy;
	wire_encode(args, copy);
	if (args->tensor_count)
		memcpy(copy + bytes, args->tags, args->tensor_count);
	if (name_bytes)
		memcpy(copy + bytes + args->tensor_count, name, name_bytes);
	if (UNLIKELY(bytes > table->frame_bytes)) {
		result = arena_alloc(table->arena, bytes, &payload->blob);
		if (result < 0) {
			payload->blob = NULL;
			payload_free(table, payload);
			return result;
		}
		memcpy(payload->blob, copy, bytes);
	}
	return 0;
}

struct frame_names *payload_names(const struct payload *payload, const struct dw_args *args)
{
	return payload->frame_flags & FRAME_NAMED ?
	       (void *)((unsigned char *)payload->copy + wire_bytes(args)) : NULL;
}

void payload_names_done(struct payload *payload, const struct dw_args *args)
{
	if (payload->blob)
		memcpy((unsigned char *)payload->blob + wire_bytes(args),
		       payload_names(payload, args), payload->bytes - wire_bytes(args));
}

void payload_message(struct task *task, const void *message, uint32_t bytes)
{
	memcpy(task->storage, message, bytes);
	task->payload.copy = task->storage;
	task->payload.bytes = bytes;
	task->payload.frame_flags = 0;
	task->payload.blob = NULL;
	task->payload.owned = false;
}

int payload_again_large(struct task_table *table, struct payload *payload,
			const struct payload_template *from, const uint64_t *values)
{
	int result = 0;

	payload->bytes = from->bytes;
	payload->frame_flags = from->frame_flags;
	payload->blob = NULL;
	payload->copy = malloc(from->total);
	payload->owned = payload->copy;
	if (!payload->copy)
		return error_set(-ENOMEM, "no memory for %u bytes of arguments", from->total);
	memcpy(payload->copy, from->copy, from->total);
	payload_patch(payload->copy, from, values);
	if (UNLIKELY(from->bytes > table->frame_bytes)) {
		result = arena_alloc(table->arena, from->bytes, &payload->blob);
		if (result < 0) {
			payload->blob = NULL;
			payload_free(table, payload);
			return result;
		}
		memcpy(payload->blob, payload->copy, from->bytes);
	}
	return 0;
}

void payload_free(struct task_table *table, struct payload *payload)
{
	if (payload->blob)
		arena_free(table->arena, payload->blob);
	if (payload->owned)
		free(payload->copy);
	payload->blob = NULL;
	payload->owned = false;
}
