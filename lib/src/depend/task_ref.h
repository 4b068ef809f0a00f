/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Tasks that are not CONSUMED lie in chunks that never move. The memory of a
 * task is reused as soon as it was consumed; its generation then changes, so
 * that a weak reference (task_ref) to a consumed task reads as "final".
 * All fields are guarded by the engine's lock.
 */
#ifndef DW_DEPEND_TASK_REF_H
#define DW_DEPEND_TASK_REF_H

#include <stdbool.h>
#include <stdint.h>

enum task_state {
	TASK_FREE = 0, TASK_PENDING, TASK_READY, TASK_RUNNING,
	TASK_DONE, TASK_FAILED, TASK_SKIPPED, TASK_CONSUMED,
};

struct task;

/* Weak: says nothing about lifetime. */
struct task_ref {
	struct task *task;
	uint32_t generation;
};

/* The fields that the tensor map and the heap look at; the scheduler's follow in struct task. */
struct task_head {
	uint32_t generation;
	uint8_t state;			/* enum task_state */
	uint8_t level;			/* of its priority: the scheduler's, in a gap */
	uint64_t number;		/* of the task within its run, from 1; for messages */
};

static inline bool task_ref_live(struct task_ref ref)
{
	const struct task_head *head = (const struct task_head *)ref.task;

	return head && head->generation == ref.generation && head->state < TASK_DONE;
}

#endif
