/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A new task, of each submit and each step of a replay; for the sources of the graph alone. Guarded
 * by the engine's lock.
 */
#ifndef DW_ENGINE_TASK_NEW_H
#define DW_ENGINE_TASK_NEW_H

#include "engine/task.h"

/* More unused ones. -ENOMEM. */
int tasks_grow(struct task_table *table);

/* NULL: no memory. Nothing of it is set but what a new task has none of. */
static inline struct task *task_new(struct task_table *table)
{
	struct task *task;

	if (UNLIKELY(!table->unused) && tasks_grow(table) < 0)
		return NULL;
	task = table->unused;
	table->unused = task->next;
	if (LIKELY(task->next && task->next->next))
		task_prefetch(task->next->next);
	table->live++;
	task->waiting = 0;
	task->in_rings = 0;
	task->marks = 0;
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

#endif
