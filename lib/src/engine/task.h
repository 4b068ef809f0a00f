/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A task, from its submit to its end, with its arguments and its edges to consumers. They come
 * from chunks that never move. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_TASK_H
#define DW_ENGINE_TASK_H

#include "depend/task_ref.h"
#include "depend/tensor_map.h"
#include "engine/state.h"

struct group;
struct scope;

struct edge {
	struct edge *next;
	struct task *consumer;
	uint8_t reasons;		/* enum edge_reason, or'ed */
	bool counted;			/* in consumer->in_chain */
};

enum task_flag {
	FLAG_SKIP	= 1 << 0,	/* a producer failed: SKIPPED once all are final */
	FLAG_GROUP	= 1 << 1,
	FLAG_CHAIN	= 1 << 2,	/* in a ring, and others may be pushed behind it */
	FLAG_CHAINED	= 1 << 3,	/* somebody was */
	FLAG_CANCEL	= 1 << 4,	/* its run was cancelled */
	FLAG_DEADLINE	= 1 << 5,	/* its worker was killed because it took too long */
	FLAG_AGAIN	= 1 << 6,	/* parked, and tried again then */
	FLAG_ABANDONED	= 1 << 7,	/* a thread goes on with it (abandon.c) */
};

/* QUEUE_KEPT: final, and what it has is kept for a thread that goes on with it. */
enum task_queue { QUEUE_NONE = 0, QUEUE_READY, QUEUE_CHAINED, QUEUE_KEPT };

/* Arguments: a private copy that no child can touch (wire blob, then tags), and for those
 * that no frame can hold a shared one in the arena. */
struct payload {
	void *copy;
	void *blob;			/* arena; NULL: fits into a frame */
	uint32_t bytes;			/* of the wire blob */
	bool owned;			/* copy was malloc'ed */
};

#define TASK_INLINE_BYTES 256

struct task {
	struct task_head head;
	uint32_t waiting;		/* producers that are not final */
	uint32_t in_chain;		/* those of them that sit in ring `chain`, before it */
	uint32_t chain;
	uint32_t producers;		/* exclusive or of their indices: the last one's when waiting is 1 */
	uint8_t flags;			/* enum task_flag */
	uint8_t queue;			/* enum task_queue */
	uint16_t pool;
	uint32_t worker;		/* where it must go, or DW_ANY */
	uint32_t placed;		/* RUNNING: in this ring … */
	uint32_t position;		/* … this frame */

	struct edge *first, *last;	/* to consumers */
	struct task *next, *previous;	/* in a queue */
	struct dw_run *run;
	struct scope *scope;
	struct callable *callable;
	uint64_t order;			/* counts entries into queues: FIFO between queues */

	union {
		struct payload payload;
		struct group *group;	/* FLAG_GROUP: each member has its own payload */
	};
	const char *name;		/* in the payload's copy; NULL: none */
	uint64_t timeout_ns;
	uint64_t failed_by;		/* number of the failed task that SKIP comes from */

	void *probe_data;		/* of the subscriber */
	uint32_t index;
	uint16_t retries, attempts;
	int32_t block_dim, aicpu_thread_num;
	uint32_t config_flags;
	int error;			/* FAILED: why */

	unsigned char storage[TASK_INLINE_BYTES] __attribute__((aligned(8)));
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct task) == 448, "seven cache lines");

/*
 * With a long backlog tasks have left the caches when their turn comes: the one
 * after the next is fetched while this one is worked on. The lines before the storage, and its first.
 */
static inline void task_prefetch(const struct task *task)
{
	const char *line = (const char *)task;

	for (size_t i = 0; task && i <= offsetof(struct task, storage); i += 64)
		__builtin_prefetch(line + i, 1);
}

#define TASKS_PER_CHUNK 128
#define EDGES_FIRST 340
#define EDGES_MOST 2720

struct task_list {
	struct task *first, *last;
};

static inline void queue_push(struct task_list *list, struct task *task, enum task_queue which)
{
	task->queue = which;
	task->next = NULL;
	task->previous = list->last;
	if (list->last)
		list->last->next = task;
	else
		list->first = task;
	list->last = task;
}

/* In front of `before`; NULL: at the end. */
static inline void queue_insert(struct task_list *list, struct task *task,
				struct task *before)
{
	if (!before) {
		queue_push(list, task, QUEUE_READY);
		return;
	}
	task->queue = QUEUE_READY;
	task->next = before;
	task->previous = before->previous;
	before->previous = task;
	if (task->previous)
		task->previous->next = task;
	else
		list->first = task;
}

static inline void queue_remove(struct task_list *list, struct task *task)
{
	if (task->previous)
		task->previous->next = task->next;
	else
		list->first = task->next;
	if (task->next)
		task->next->previous = task->previous;
	else
		list->last = task->previous;
	task->queue = QUEUE_NONE;
}

static inline bool task_skips(const struct task *task)
{
	return task->flags & (FLAG_SKIP | FLAG_CANCEL);
}

struct task *task_new(struct engine *engine);
void task_free(struct engine *engine, struct task *task);
void tasks_destroy(struct engine *engine);
void tasks_each(struct engine *engine, void (*visit)(struct engine *engine, struct task *task,
						     void *context), void *context);
static inline dw_task task_id(const struct task *task)
{
	return (uint64_t)task->head.generation << 32 | (task->index + 1);
}
static inline struct task *task_at(const struct engine *engine, uint32_t index)
{
	return &engine->chunks[index / TASKS_PER_CHUNK][index % TASKS_PER_CHUNK];
}
/* The memory that an id names, whichever task is in it now; NULL: there never was one. */
struct task *task_find(const struct engine *engine, dw_task task);
int payload_make(struct engine *engine, struct payload *payload, const struct dw_args *args,
		 const char *name, unsigned char *storage, size_t space, const char **kept_name);
void payload_free(struct engine *engine, struct payload *payload);
static inline const uint8_t *payload_tags(const struct payload *payload)
{
	return (const uint8_t *)payload->copy + payload->bytes;
}

#endif
