/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * template: what a recording keeps of a task, and how a new task is made of it.
 *
 * Owns: nothing; templates belong to their graph (record.h). Guarded by the engine's lock where it
 * writes a task.
 *
 * Invariant: where `fits`, the copy's space is a multiple of 16 bytes, and fits into a task.
 */
#ifndef DW_ENGINE_TEMPLATE_H
#define DW_ENGINE_TEMPLATE_H

#include "engine/task.h"

/* The 64 bits at `at` of a payload get a value of the replay added: it has moved, or was 0. */
struct payload_patch {
	uint32_t at;
	uint32_t source; /* which of the replay's values */
};

struct payload_template {
	const unsigned char *copy; /* as payload.copy */
	uint32_t total; /* bytes of it: wire blob, names, tags, the task's name */
	uint32_t bytes; /* as in the payload */
	const struct payload_patch *patches;
	uint32_t patch_count;
	uint8_t frame_flags;
	bool fits; /* into a task and into a frame */
};

struct task_template {
	struct callable *callable;
	struct payload_template payload;
	uint64_t timeout_ns;
	uint32_t name_at; /* of the name in the payload's copy; 0: none */
	uint32_t worker;
	uint16_t pool;
	uint8_t level;
	uint16_t retries;
	int32_t block_dim, aicpu_thread_num;
	uint32_t config_flags;
};

static inline void payload_patch(unsigned char *copy, const struct payload_template *from,
				 const uint64_t *values)
{
	for (uint32_t i = 0; i < from->patch_count; i++) {
		uint64_t value;

		memcpy(&value, copy + from->patches[i].at, sizeof(value));
		value += values[from->patches[i].source];
		memcpy(copy + from->patches[i].at, &value, sizeof(value));
	}
}

/* Of a template that does not fit, or of a member of a group (`storage` NULL). -ENOMEM. */
int payload_again_large(struct task_table *table, struct payload *payload,
			const struct payload_template *from, const uint64_t *values);

static inline int payload_again(struct task_table *table, struct payload *payload,
				const struct payload_template *from, const uint64_t *values,
				unsigned char *storage)
{
	if (UNLIKELY(!from->fits))
		return payload_again_large(table, payload, from, values);
	for (uint32_t at = 0; at < from->total; at += 16)
		memcpy(storage + at, from->copy + at, 16);
	payload_patch(storage, from, values);
	payload->copy = storage;
	payload->bytes = from->bytes;
	payload->frame_flags = from->frame_flags;
	payload->blob = NULL;
	payload->owned = false;
	return 0;
}

/* The payload of a template, for payloads that frames of the table's engine are made of. */
static inline bool payload_template_fits(const struct task_table *table, uint32_t total,
					 uint32_t bytes)
{
	return (total + 15) / 16 * 16 <= TASK_INLINE_BYTES && bytes <= table->frame_bytes;
}

/* All of a task but its run, its scope and its payload. */
static inline void task_fill(struct task *task, const struct task_template *from)
{
	task->callable = from->callable;
	task->timeout_ns = from->timeout_ns;
	task->head.level = from->level;
	task->retries = from->retries;
	task->pool = from->pool;
	task->worker = from->worker;
	task->block_dim = from->block_dim;
	task->aicpu_thread_num = from->aicpu_thread_num;
	task->config_flags = from->config_flags;
}

static inline void task_place_name(struct task *task, const struct payload *payload,
				   uint32_t name_at)
{
	task->name = name_at ? (const char *)payload->copy + name_at : NULL;
}

/* A task that was just submitted, without its payload. */
static inline void task_template_take(struct task_template *template, const struct task *task)
{
	template->callable = task->callable;
	template->timeout_ns = task->timeout_ns;
	template->level = task->head.level;
	template->retries = task->retries;
	template->pool = task->pool;
	template->worker = task->worker;
	template->block_dim = task->block_dim;
	template->aicpu_thread_num = task->aicpu_thread_num;
	template->config_flags = task->config_flags;
}

#endif
