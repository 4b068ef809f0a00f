/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * One worker's ring, as the engine sees it: frames that were posted, what is complete, when the
 * parent is told. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_RING_H
#define DW_ENGINE_RING_H

#include "engine/slot.h"

/* A callable that never ran counts as long. */
#define UNKNOWN_NS	1000000
/* Publish after this many frames, while the worker has as many in front of it. */
#define PUBLISH_BATCH	4

struct member;

enum entry_flag {
	ENTRY_URGENT	= 1 << 0,	/* somebody wants to hear of its completion */
	ENTRY_TAKEN	= 1 << 1,	/* was taken back: its completion means nothing */
	ENTRY_AHEAD	= 1 << 2,	/* FRAME_AHEAD */
	ENTRY_ANY	= 1 << 3,	/* may go elsewhere */
	ENTRY_TIMED	= 1 << 4,	/* has a deadline */
	ENTRY_TOLD	= 1 << 5,	/* which has passed: its thread was told, and has a moment to notice */
};

/* What is in a frame of a ring, by our own word. */
struct entry {
	struct slot *slot;		/* NULL: control, or taken back */
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
enum peer_state { PEER_STARTING = 0, PEER_UP, PEER_RETURNING, PEER_STUCK, PEER_DEAD };

/* One worker, as the engine sees it. */
struct peer {
	uint32_t index;
	uint16_t pool;
	uint8_t state;			/* enum peer_state */
	bool mad;			/* wrote nonsense, and is being killed */
	bool reserved;			/* for the group at the head */
	bool nested_text;
	enum dw_child_kind kind;
	char *path, *driver;

	struct entry *entries;		/* depth */
	uint32_t head, tail;		/* frame numbers: next to harvest, next to post */
	uint32_t unpublished;
	uint32_t any_waiting;		/* frames that may go elsewhere and are not at the head */
	uint64_t load_ns;		/* estimated work in the ring */

	struct slot_queue_list directed, ahead;
	struct control *controls, *last_control;

	bool notify_set;
	uint32_t notify;		/* the frame that hub_notify_at() was told */
	uint32_t urgent;		/* entries that are */

	uint32_t timed;			/* entries with a deadline */
	/*
	 * When the frame at the head could start, by the completions before it; its post may have been later.
	 * As running_now().
	 */
	uint64_t head_since;
	int stopped;			/* the signal that has stopped its process; 0: it runs */
	uint32_t straggler_head;	/* head when the straggler timer was armed */

	/* What its dead subtree may still write: RUNNING, and in no ring, until that is gone. */
	struct slot *held;		/* by next */
	struct member *held_members;	/* of groups */
	/* Final, and in the hands of a thread that goes on with it. */
	struct slot *kept;		/* by next */
	struct member *kept_members;
	uint64_t return_by;		/* RETURNING: when its replacement has to be ready */
	char *cause;			/* of its last death */
	int error;			/* of the tasks that it had started then */
	struct dw_child_stats *stats, own_stats;
	struct child_now *now;
	struct child_now own_now;
};

/* One of a worker's own_stats, and its copy, as engine_count(). */
#define peer_count(peer, field, value) \
	do { \
		(peer)->own_stats.field += (value); \
		__atomic_store_n(&(peer)->stats->field, (peer)->own_stats.field, __ATOMIC_RELAXED); \
	} while (0)

bool peer_post(struct engine *engine, struct peer *peer, struct slot *slot, uint32_t member);
void peer_post_controls(struct engine *engine, struct peer *peer);
void peer_publish(struct engine *engine, struct peer *peer);
void peers_publish(struct engine *engine);
uint32_t peer_harvest(struct engine *engine, struct peer *peer, uint32_t limit);
void peer_urgent(struct engine *engine, struct peer *peer, uint32_t number);
/* Takes a frame out of the ring if it has not started. The slot is then nowhere. */
void any_waiting_add(struct engine *engine, struct peer *peer, int change);
bool peer_take_back(struct engine *engine, struct peer *peer, uint32_t number);
/* A task that is in a ring, or all members of a group: its end shall be heard of. */
void want_completion(struct engine *engine, struct slot *slot);
/* The same for all that are in rings and are `wanted`. */
void want_completions(struct engine *engine,
		      bool (*wanted)(const struct slot *slot, const void *context),
		      const void *context);
/* False: it is a thread, and was told. */
bool peer_kill(struct engine *engine, struct peer *peer, const char *why);
void control_done(struct engine *engine, struct control *control, int result, const char *text);
/* Controls of a cancelled run that have not started end here. Whether some have. */
bool peer_cancel_controls(struct engine *engine, struct peer *peer, const struct dw_run *run);
/* The frame at the head, or behind it, is a call of a driver for this run. */
bool entry_is_call(const struct entry *entry, const struct dw_run *run);
/* What its death left is over: nobody can write it any more. */
void peer_release_held(struct engine *engine, struct peer *peer);
void peer_update(struct engine *engine, struct peer *peer);
void slot_leave_ring(struct engine *engine, struct slot *slot);
static inline uint32_t peer_outstanding(const struct peer *peer)
{
	return peer->tail - peer->head;
}
static inline struct entry *peer_entry(const struct engine *engine, const struct peer *peer,
				       uint32_t number)
{
	return &peer->entries[number & (engine->depth - 1)];
}
static inline bool peer_is_lost(const struct peer *peer)
{
	return peer->state >= PEER_STUCK;
}
static inline bool peer_has_room(const struct engine *engine, const struct peer *peer)
{
	return peer->state == PEER_UP && !peer->mad && !peer->controls &&
	       peer_outstanding(peer) < engine->depth;
}
uint32_t estimate_of(const struct engine *engine, const struct callable *callable);
/* The tasks in its queues, when it takes nothing any more. */
void peer_strand(struct engine *engine, struct peer *peer);

#endif
