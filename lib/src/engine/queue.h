/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * queue: tasks in the order in which they wait for their turn.
 *
 * Owns: the link of a task while it is in a queue. A queue is a circle of links through its head,
 * so that a task leaves it without knowing which one it is. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_QUEUE_H
#define DW_ENGINE_QUEUE_H

#include "engine/task.h"

static inline struct task *task_of_link(struct task_link *link)
{
	return (struct task *)((char *)link - offsetof(struct task, link));
}

static inline void queue_init(struct task_link *queue)
{
	queue->next = queue->previous = queue;
}
/* NULL: it is empty. */
static inline struct task *queue_first(const struct task_link *queue)
{
	return queue->next == queue ? NULL : task_of_link(queue->next);
}
/* Before `where`: a task of the queue, or its head, which is its end. */
static inline void queue_insert(struct task_link *where, struct task *task, enum task_queue which)
{
	task->queue = which;
	task->link.next = where;
	task->link.previous = where->previous;
	where->previous->next = &task->link;
	where->previous = &task->link;
}
static inline void queue_push(struct task_link *queue, struct task *task, enum task_queue which)
{
	queue_insert(queue, task, which);
}
static inline void queue_remove(struct task *task)
{
	task->link.next->previous = task->link.previous;
	task->link.previous->next = task->link.next;
	task->queue = QUEUE_NONE;
}
/* The second task. Where there is none, a prefetch of another line does no harm. */
static inline void queue_prefetch(const struct task_link *queue)
{
	task_prefetch(task_of_link(queue->next->next));
}
/* Out of the queue that it is in, if it is in one. */
static inline void task_unqueue(struct task *task)
{
	if (task->queue == QUEUE_READY || task->queue == QUEUE_CHAINED)
		queue_remove(task);
}

#endif
