/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See ready.h.
 */
#include "engine/ready.h"

void ready_init(struct ready_queue *queue)
{
	for (uint32_t level = 0; level < PRIORITY_LEVELS; level++)
		queue_init(&queue->levels[level]);
	queue->used = 1u << LEVEL_DEFAULT;
}

struct task *ready_first_of_levels(struct ready_queue *queue)
{
	struct task *best = NULL;
	uint64_t bits = queue->used;

	for (uint32_t level; bits_next(&bits, 0, &level);) {
		struct task *task = queue_first(&queue->levels[level]);

		if (!task && level != LEVEL_DEFAULT)
			queue->used &= ~(1u << level);
		else if (task && (!best || task->order < best->order))
			best = task;
	}
	return best;
}

void ready_return(struct ready_queue *queue, struct task *task)
{
	struct task_link *level = &queue->levels[task->head.level], *at = level->next;

	while (at != level && task_of_link(at)->order < task->order)
		at = at->next;
	queue->used |= 1u << task->head.level;
	queue_insert(at, task, QUEUE_READY);
}
