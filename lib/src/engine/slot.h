/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Slots: a task, from its submit to its end, with its arguments and its edges to consumers. They come
 * from chunks that never move. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_SLOT_H
#define DW_ENGINE_SLOT_H

#include "depend/task_ref.h"
#include "depend/tensor_map.h"
#include "engine/state.h"

struct group;
struct scope;

struct edge {
	struct edge *next;
	struct slot *consumer;
	uint8_t reasons;		/* enum edge_reason, or'ed */
	bool counted;			/* in consumer->in_lane */
};

enum slot_flag {
	SLOT_SKIP	= 1 << 0,	/* a producer failed: SKIPPED once all are final */
	SLOT_GROUP	= 1 << 1,
	SLOT_LANE	= 1 << 2,	/* in a ring, and others may be pushed behind it */
	SLOT_FOLLOWED	= 1 << 3,	/* somebody was */
	SLOT_CANCEL	= 1 << 4,	/* its run was cancelled */
	SLOT_DEADLINE	= 1 << 5,	/* its worker was killed because it took too long */
	SLOT_AGAIN	= 1 << 6,	/* held, and tried again then */
	SLOT_ABANDONED	= 1 << 7,	/* a thread goes on with it (abandon.c) */
};

/* QUEUE_KEPT: final, and what it has is kept for a thread that goes on with it. */
enum slot_queue { QUEUE_NONE = 0, QUEUE_READY, QUEUE_AHEAD, QUEUE_KEPT };

/* Arguments: a private copy that no child can touch (wire blob, then tags), and for those
 * that no frame can hold a shared one in the arena. */
struct payload {
	void *copy;
	void *blob;			/* arena; NULL: fits into a frame */
	uint32_t bytes;			/* of the wire blob */
	bool owned;			/* copy was malloc'ed */
};

#define SLOT_INLINE_BYTES 256

struct slot {
	struct slot_head head;
	uint32_t waiting;		/* producers that are not final */
	uint32_t in_lane;		/* those of them that sit in ring `lane`, ahead of us */
	uint32_t lane;
	uint32_t producers;		/* exclusive or of their indices: the last one's when waiting is 1 */
	uint8_t flags;			/* enum slot_flag */
	uint8_t queue;			/* enum slot_queue */
	uint16_t pool;
	uint32_t worker;		/* where it must go, or DW_ANY */
	uint32_t placed;		/* RUNNING: in this ring … */
	uint32_t position;		/* … this frame */

	struct edge *first, *last;	/* to consumers */
	struct slot *next, *previous;	/* in a queue */
	struct dw_run *run;
	struct scope *scope;
	struct callable *callable;
	uint64_t order;			/* counts entries into queues: FIFO between queues */

	union {
		struct payload payload;
		struct group *group;	/* SLOT_GROUP: each member has its own payload */
	};
	const char *name;		/* in the payload's copy; NULL: none */
	uint64_t timeout_ns;
	uint64_t blame;			/* number of the failed task that SKIP comes from */

	void *probe_data;		/* of the subscriber */
	uint32_t index;
	uint16_t retries, attempts;
	int32_t block_dim, aicpu_thread_num;
	uint32_t config_flags;
	int error;			/* FAILED: why */

	unsigned char storage[SLOT_INLINE_BYTES] __attribute__((aligned(8)));
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct slot) == 448, "seven cache lines");

/*
 * With a long backlog slots have left the caches when their turn comes: the one
 * after the next is fetched while this one is worked on. The lines before the storage, and its first.
 */
static inline void slot_prefetch(const struct slot *slot)
{
	const char *line = (const char *)slot;

	for (size_t i = 0; slot && i <= offsetof(struct slot, storage); i += 64)
		__builtin_prefetch(line + i, 1);
}

#define SLOTS_PER_CHUNK 128
#define EDGES_FIRST 340
#define EDGES_MOST 2720

struct slot_queue_list {
	struct slot *first, *last;
};

static inline void queue_push(struct slot_queue_list *list, struct slot *slot, enum slot_queue which)
{
	slot->queue = which;
	slot->next = NULL;
	slot->previous = list->last;
	if (list->last)
		list->last->next = slot;
	else
		list->first = slot;
	list->last = slot;
}

/* In front of `before`; NULL: at the end. */
static inline void queue_insert(struct slot_queue_list *list, struct slot *slot,
				struct slot *before)
{
	if (!before) {
		queue_push(list, slot, QUEUE_READY);
		return;
	}
	slot->queue = QUEUE_READY;
	slot->next = before;
	slot->previous = before->previous;
	before->previous = slot;
	if (slot->previous)
		slot->previous->next = slot;
	else
		list->first = slot;
}

static inline void queue_remove(struct slot_queue_list *list, struct slot *slot)
{
	if (slot->previous)
		slot->previous->next = slot->next;
	else
		list->first = slot->next;
	if (slot->next)
		slot->next->previous = slot->previous;
	else
		list->last = slot->previous;
	slot->queue = QUEUE_NONE;
}

static inline bool slot_skips(const struct slot *slot)
{
	return slot->flags & (SLOT_SKIP | SLOT_CANCEL);
}

struct slot *slot_new(struct engine *engine);
void slot_free(struct engine *engine, struct slot *slot);
void slots_destroy(struct engine *engine);
void slots_each(struct engine *engine, void (*visit)(struct engine *engine, struct slot *slot,
						     void *context), void *context);
static inline dw_task slot_id(const struct slot *slot)
{
	return (uint64_t)slot->head.generation << 32 | (slot->index + 1);
}
static inline struct slot *slot_at(const struct engine *engine, uint32_t index)
{
	return &engine->chunks[index / SLOTS_PER_CHUNK][index % SLOTS_PER_CHUNK];
}
/* The slot of an id, whatever is in it now; NULL: there never was one. */
struct slot *slot_find(const struct engine *engine, dw_task task);
int payload_make(struct engine *engine, struct payload *payload, const struct dw_args *args,
		 const char *name, unsigned char *storage, size_t space, const char **kept_name);
void payload_free(struct engine *engine, struct payload *payload);
static inline const uint8_t *payload_tags(const struct payload *payload)
{
	return (const uint8_t *)payload->copy + payload->bytes;
}

#endif
