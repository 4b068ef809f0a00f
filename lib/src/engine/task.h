/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * task: a task, from its submit to its end, with its arguments and its edges to consumers.
 *
 * Owns: struct task_table, the memory of tasks and edges, in chunks that never move; and how a task
 * changes: its state, its place in a ring or a queue, its flags. Edges and failures are the graph's
 * (graph.h). Guarded by the engine's lock.
 *
 * Invariants: a task is in at most one queue or list. A task with FLAG_CHAIN sits in ring
 * `placed`; an edge of it that is `counted` is one of those in consumer->in_rings.
 */
#ifndef DW_ENGINE_TASK_H
#define DW_ENGINE_TASK_H

#include <stddef.h>
#include <string.h>
#include "base/likely.h"
#include "base/slab.h"
#include "depend/task_ref.h"
#include "engine/engine.h"

#define NO_WORKER	UINT32_MAX

struct arena;
struct group;
struct run_graph;
struct scope;

struct edge {
	struct edge *next;
	struct task *consumer;
	uint8_t reasons;		/* enum edge_reason, or'ed */
	bool counted;			/* in consumer->in_rings */
};

enum task_flag {
	FLAG_SKIP	= 1 << 0,	/* a producer failed: SKIPPED once all are final */
	FLAG_GROUP	= 1 << 1,
	FLAG_CHAIN	= 1 << 2,	/* in a ring, and others may be pushed behind it */
	FLAG_CHAINED	= 1 << 3,	/* another was */
	FLAG_CANCEL	= 1 << 4,	/* its run was cancelled */
	FLAG_DEADLINE	= 1 << 5,	/* its worker was killed because it took too long */
	FLAG_AGAIN	= 1 << 6,	/* parked, and tried again then */
	FLAG_ABANDONED	= 1 << 7,	/* a thread goes on with it (stuck.c) */
};

/* QUEUE_KEPT: final, and its memory is kept for a thread that goes on with it. */
enum task_queue { QUEUE_NONE = 0, QUEUE_READY, QUEUE_CHAINED, QUEUE_KEPT };

/* Arguments: a private copy (wire blob, names, tags), and a shared one where no frame holds it. */
struct payload {
	void *copy;
	void *blob;			/* arena; NULL: fits into a frame */
	uint32_t bytes;			/* of the wire blob, with the names */
	bool owned;			/* copy was malloc'ed */
	uint8_t frame_flags;		/* FRAME_NAMED, or 0 */
};

/* A queue is a circle of links through its head: a task leaves it without knowing the head. */
struct task_link {
	struct task_link *next, *previous;
};

#define TASK_INLINE_BYTES 232
#define MARKS_MOST 4

struct task {
	struct task_head head;
	uint32_t waiting;		/* producers that are not final */
	uint32_t in_rings;		/* those of them that sit in rings, behind no mark … */
	uint32_t marks;			/* … of so many rings */
	uint32_t producers;		/* exclusive or of their indices: the last one's at 1 */
	uint8_t flags;			/* enum task_flag */
	uint8_t queue;			/* enum task_queue */
	uint16_t pool;
	uint32_t worker;		/* where it must go, or DW_ANY */
	uint32_t placed;		/* RUNNING: in this ring … */
	uint32_t position;		/* … this frame */

	struct edge *first, *last;	/* to consumers */
	union {
		struct task_link link;	/* in a queue */
		struct task *next;	/* in a list */
	};
	struct run_graph *run;
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

	/* The marks: of each ring the last producer, which may have left it by now. */
	uint32_t mark_positions[MARKS_MOST];
	uint16_t mark_rings[MARKS_MOST];

	unsigned char storage[TASK_INLINE_BYTES] __attribute__((aligned(8)));
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct task) == 448, "seven cache lines");

#define TASKS_PER_CHUNK 128

struct task_table {
	struct task **chunks;
	uint32_t chunk_count, chunk_space;
	struct task *unused;
	uint64_t live;
	struct slab edges;
	struct arena *arena;		/* for arguments that no frame can hold … */
	uint32_t frame_bytes;		/* … because they are larger than this */
};

void task_table_init(struct task_table *table, struct arena *arena, uint32_t frame_bytes);
void task_table_release(struct task_table *table);
void task_free(struct task_table *table, struct task *task);
void tasks_each(struct task_table *table, void (*visit)(struct task *task, void *context),
		void *context);
/* The memory that an id names, even if another task is in it now; NULL: there never was one. */
struct task *task_find(const struct task_table *table, dw_task id);
/* "task 17 "verify" (libjob:verify)" */
void task_describe(const struct task *task, char *text, size_t space);

/* `named`: with room for names. `storage`: the task's, or NULL. */
int payload_make(struct task_table *table, struct payload *payload, const struct dw_args *args,
		 bool named, const char *name, unsigned char *storage);
/* The copy of the task's name, NULL: none. `payload` was made with the name, of these arguments. */
static inline void task_keep_name(struct task *task, const struct payload *payload,
				  const struct dw_args *args, const char *name)
{
	task->name = name ? (char *)payload->copy + payload->bytes + args->tensor_count : NULL;
}
/* NULL: no room for names; and when they are complete: the child's copy gets them, too. */
struct frame_names *payload_names(const struct payload *payload, const struct dw_args *args);
void payload_names_done(struct payload *payload, const struct dw_args *args);
/* The arguments are `bytes` bytes, already on the wire, which fit into a task and into a frame. */
void payload_message(struct task *task, const void *message, uint32_t bytes);
void payload_free(struct task_table *table, struct payload *payload);
static inline const uint8_t *payload_tags(const struct payload *payload)
{
	return (const uint8_t *)payload->copy + payload->bytes;
}

static inline dw_task task_id(const struct task *task)
{
	return (uint64_t)task->head.generation << 32 | (task->index + 1);
}
static inline struct task *task_at(const struct task_table *table, uint32_t index)
{
	return &table->chunks[index / TASKS_PER_CHUNK][index % TASKS_PER_CHUNK];
}
static inline bool task_skips(const struct task *task)
{
	return task->flags & (FLAG_SKIP | FLAG_CANCEL);
}

/*
 * With a long backlog tasks have left the caches when their turn comes: the one after the next is
 * fetched while this one is worked on. The lines before the storage, and its first.
 */
static inline void task_prefetch(const struct task *task)
{
	const char *line = (const char *)task;

	for (size_t i = 0; i <= offsetof(struct task, storage); i += 64)
		__builtin_prefetch(line + i, 1);
}

/* -------------------------------------------------------------- transitions */

static inline void task_set_flags(struct task *task, uint8_t flags) { task->flags |= flags; }
static inline void task_clear_flags(struct task *task, uint8_t flags)
{
	task->flags &= (uint8_t)~flags;
}
static inline void task_set_state(struct task *task, enum task_state state)
{
	task->head.state = (uint8_t)state;
}
static inline void task_set_ready(struct task *task, uint64_t order)
{
	task->head.state = TASK_READY;
	task->order = order;
}
/* It is in no ring, and waits for its producers, or for its turn. */
static inline void task_set_pending(struct task *task)
{
	task->head.state = TASK_PENDING;
	task->placed = NO_WORKER;
}
static inline void task_set_placed(struct task *task, uint32_t ring, uint32_t position)
{
	task->placed = ring;
	task->position = position;
}
static inline void task_set_order(struct task *task, uint64_t order) { task->order = order; }
/* Which workers it is for: pool, and one of it or DW_ANY. */
static inline void task_set_target(struct task *task, uint16_t pool, uint32_t worker)
{
	task->pool = pool;
	task->worker = worker;
}
void task_set_group(struct task *task, struct group *group);
/* It has had all its attempts. */
void task_no_more_retries(struct task *task);
static inline void task_forget_run(struct task *task) { task->run = NULL; }
static inline void task_set_kept(struct task *task) { task->queue = QUEUE_KEPT; }
/* A list of tasks that are in no queue. */
static inline void task_list_push(struct task **list, struct task *task)
{
	task->next = *list;
	*list = task;
}

/* No task can be pushed behind it any more. */
void task_break_chain(struct task *task);
/* It is in no ring any more. */
static inline void task_leave_ring(struct task *task)
{
	task->placed = NO_WORKER;
	if (task->flags & FLAG_CHAIN)
		task_break_chain(task);
}

#endif
