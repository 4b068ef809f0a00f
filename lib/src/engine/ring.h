/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * One worker's ring, as the engine sees it: frames that were posted, what is complete, when the
 * parent is told. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_RING_H
#define DW_ENGINE_RING_H

#include "engine/task.h"

/* A callable that never ran counts as long. */
#define UNKNOWN_NS	1000000
/* Publish after this many frames, while the worker has as many in front of it. */
#define PUBLISH_BATCH	4

struct member;

enum entry_flag {
	ENTRY_NOTIFY	= 1 << 0,	/* somebody wants to hear of its completion */
	ENTRY_REVOKED	= 1 << 1,	/* was revoked: its completion means nothing */
	ENTRY_CHAINED	= 1 << 2,	/* FRAME_CHAINED */
	ENTRY_ANY	= 1 << 3,	/* may go elsewhere */
	ENTRY_TIMED	= 1 << 4,	/* has a deadline */
	ENTRY_TOLD	= 1 << 5,	/* which has passed: its thread was told, and has a moment to notice */
};

/* What is in a frame of a ring, by our own word. */
struct entry {
	struct task *task;		/* NULL: control, or revoked */
	struct control *control;
	uint64_t timeout_ns;
	uint64_t posted_ns;		/* ENTRY_TIMED; as running_now() */
	uint32_t member;		/* of a group */
	uint32_t estimate_ns;
	uint8_t flags;			/* enum entry_flag */
};

/* A control frame on its way. Lives on the caller's stack, or is freed when done (detached). */
struct control {
	struct control *next;
	uint64_t code;
	const void *blob;
	void *arena_blob;
	uint32_t bytes;
	bool done, detached;
	const char *what;		/* for messages: "dw_chip_alloc()" */
	uint64_t timeout_ns;		/* once at the head of the ring; 0: none */
	struct dw_run *run;		/* whose deadline and cancel end it too, or NULL */
	const char *late;		/* its worker was killed, because it did this */
	int result;
	char text[ERROR_TEXT_BYTES];
};

/* STUCK: a thread that is past a deadline (abandon.c). From there on it takes nothing. */
enum ring_state { RING_STARTING = 0, RING_UP, RING_RETURNING, RING_STUCK, RING_DEAD };

/* One worker, as the engine sees it. */
struct worker_ring {
	uint32_t index;
	uint16_t pool;
	uint8_t state;			/* enum ring_state */
	bool corrupt;			/* wrote nonsense, and is being killed */
	bool reserved;			/* for the group at the head */
	bool nested_text;
	enum dw_child_kind kind;
	char *path, *driver;

	struct entry *entries;		/* depth */
	uint32_t head, tail;		/* frame numbers: next to harvest, next to post */
	uint32_t unpublished;
	uint32_t any_waiting;		/* frames that may go elsewhere and are not at the head */
	uint64_t load_ns;		/* estimated work in the ring */

	struct task_list directed, chained;
	struct control *controls, *last_control;

	bool notify_set;
	uint32_t notify;		/* the frame that hub_request_notify() was told */
	uint32_t requests;		/* entries with ENTRY_NOTIFY */

	uint32_t timed;			/* entries with a deadline */
	/*
	 * When the frame at the head could start, by the completions before it; its post may have been later.
	 * As running_now().
	 */
	uint64_t head_since;
	int stopped;			/* the signal that has stopped its process; 0: it runs */
	uint32_t straggler_head;	/* head when the straggler timer was armed */

	/* What its dead subtree may still write: RUNNING, and in no ring, until that is gone. */
	struct task *parked;		/* by next */
	struct member *parked_members;	/* of groups */
	/* Final, and in the hands of a thread that goes on with it. */
	struct task *kept;		/* by next */
	struct member *kept_members;
	uint64_t return_by;		/* RETURNING: when its replacement has to be ready */
	char *cause;			/* of its last death */
	int error;			/* of the tasks that it had started then */
	struct dw_child_stats *stats, own_stats;
	struct child_status *status;
	struct child_status own_status;
};

/* One of a worker's own_stats, and its copy, as engine_count(). */
#define ring_count(ring, field, value) \
	do { \
		(ring)->own_stats.field += (value); \
		__atomic_store_n(&(ring)->stats->field, (ring)->own_stats.field, __ATOMIC_RELAXED); \
	} while (0)

bool ring_post(struct engine *engine, struct worker_ring *ring, struct task *task, uint32_t member);
void ring_post_controls(struct engine *engine, struct worker_ring *ring);
void ring_publish(struct engine *engine, struct worker_ring *ring);
void rings_publish(struct engine *engine);
uint32_t ring_harvest(struct engine *engine, struct worker_ring *ring, uint32_t limit);
void ring_request_notify(struct engine *engine, struct worker_ring *ring, uint32_t number);
/* Takes a frame out of the ring if it has not started. The task is then nowhere. */
void any_waiting_add(struct engine *engine, struct worker_ring *ring, int change);
bool ring_revoke(struct engine *engine, struct worker_ring *ring, uint32_t number);
/* A task that is in a ring, or all members of a group: its end shall be heard of. */
void request_notify(struct engine *engine, struct task *task);
/* The same for all that are in rings and are `wanted`. */
void request_notify_all(struct engine *engine,
		      bool (*wanted)(const struct task *task, const void *context),
		      const void *context);
/* False: it is a thread, and was told. */
bool ring_kill(struct engine *engine, struct worker_ring *ring, const char *why);
void control_done(struct engine *engine, struct control *control, int result, const char *text);
/* Controls of a cancelled run that have not started end here. Whether some have. */
bool ring_cancel_controls(struct engine *engine, struct worker_ring *ring, const struct dw_run *run);
/* The frame at the head, or behind it, is a call of a driver for this run. */
bool entry_is_call(const struct entry *entry, const struct dw_run *run);
/* What its death left is over: nobody can write it any more. */
void ring_release_parked(struct engine *engine, struct worker_ring *ring);
void ring_update(struct engine *engine, struct worker_ring *ring);
void task_leave_ring(struct engine *engine, struct task *task);
static inline uint32_t ring_outstanding(const struct worker_ring *ring)
{
	return ring->tail - ring->head;
}
static inline struct entry *ring_entry(const struct engine *engine, const struct worker_ring *ring,
				       uint32_t number)
{
	return &ring->entries[number & (engine->depth - 1)];
}
static inline bool ring_is_lost(const struct worker_ring *ring)
{
	return ring->state >= RING_STUCK;
}
static inline bool ring_has_room(const struct engine *engine, const struct worker_ring *ring)
{
	return ring->state == RING_UP && !ring->corrupt && !ring->controls &&
	       ring_outstanding(ring) < engine->depth;
}
uint32_t estimate_of(const struct engine *engine, const struct callable *callable);
/* The tasks in its queues, when it takes nothing any more. */
void ring_fail_queued(struct engine *engine, struct worker_ring *ring);

#endif
