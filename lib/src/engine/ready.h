/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * ready: tasks that wait for a worker, by priority.
 *
 * Owns: struct ready_queue, one queue for each priority. Guarded by the engine's lock.
 *
 * Invariants: `order` of a task is its place in all queues together: the count of entries when it
 * became ready, and PRIORITY_STEP more for each level below the highest. So a task with a high
 * priority overtakes, and one with a low priority is overtaken by a bounded number of tasks. Within
 * a level the queue is sorted by it. A level that is not empty is in `used`.
 */
#ifndef DW_ENGINE_READY_H
#define DW_ENGINE_READY_H

#include "base/bits.h"
#include "engine/queue.h"

/* So many tasks that become ready later does a task overtake with one step of priority. */
#define PRIORITY_STEP	4096
#define PRIORITY_LEVELS	(DW_PRIORITY_MAX - DW_PRIORITY_MIN + 1)
/* Level 0 is the highest priority. */
#define LEVEL_DEFAULT	DW_PRIORITY_MAX
_Static_assert(PRIORITY_LEVELS <= 32, "`used` has a bit for each level");

struct ready_queue {
	struct task_link levels[PRIORITY_LEVELS];
	uint32_t used;
};

void ready_init(struct ready_queue *queue);

static inline uint64_t ready_order(const struct task *task, uint64_t entries)
{
	return entries + (uint64_t)task->head.level * PRIORITY_STEP;
}

/* ready_first() where several levels are in use. */
struct task *ready_first_of_levels(struct ready_queue *queue);
/* The task that is next, or NULL: the queue is empty. */
static inline struct task *ready_first(struct ready_queue *queue)
{
	if (LIKELY(queue->used == 1u << LEVEL_DEFAULT))
		return queue_first(&queue->levels[LEVEL_DEFAULT]);
	return ready_first_of_levels(queue);
}

/* The task has the greatest order of its level. */
static inline void ready_push(struct ready_queue *queue, struct task *task)
{
	queue->used |= 1u << task->head.level;
	queue_push(&queue->levels[task->head.level], task, QUEUE_READY);
}

/* Back to its place, which is near the head of its level. */
void ready_return(struct ready_queue *queue, struct task *task);

/* As queue_prefetch(), of the tasks without a priority of their own. */
static inline void ready_prefetch(const struct ready_queue *queue)
{
	queue_prefetch(&queue->levels[LEVEL_DEFAULT]);
}

#endif
