/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * ring: the rings of the workers, as their parent sees them.
 *
 * Owns: struct ring_set and struct worker_ring: the frames that were posted, their completion, when
 * the parent is notified, and how long callables take. Guarded by the engine's lock.
 *
 * Invariants: entries[head … tail) are exactly the frames that were posted and whose completion was
 * not harvested. Frames that are not published exist only behind published ones, so that a worker
 * whose ring runs dry notifies the parent. The bitmaps agree with the rings after ring_update().
 */
#ifndef DW_ENGINE_RING_H
#define DW_ENGINE_RING_H

#include "base/bits.h"
#include "engine/timer.h"
#include "engine/task.h"

/* A callable that never ran counts as long. */
#define UNKNOWN_NS	1000000
/* Publish after this many frames, while the worker has as many in front of it. */
#define PUBLISH_BATCH	4
#define ESTIMATES	256	/* callables whose run time is known */

struct member;

enum entry_flag {
	ENTRY_NOTIFY	= 1 << 0,	/* the parent is notified of its completion */
	ENTRY_REVOKED	= 1 << 1,	/* was revoked: its completion means nothing */
	ENTRY_CHAINED	= 1 << 2,	/* FRAME_CHAINED or FRAME_WAITS: it may be returned */
	ENTRY_ANY	= 1 << 3,	/* may go elsewhere */
	ENTRY_TIMED	= 1 << 4,	/* has a deadline */
	ENTRY_TOLD	= 1 << 5,	/* the deadline has passed: the thread was told */
	ENTRY_SUPERSEDES = 1 << 6,	/* may become ENTRY_BOUND while it waits (elision.h) */
	ENTRY_BOUND	= 1 << 7,	/* a result that it needs is with this worker alone */
	ENTRY_AHEAD	= 1 << 8,	/* FRAME_WAITS */
};

/* The parent's own record of a frame in a ring. */
struct entry {
	struct task *task;		/* NULL: control, or revoked */
	struct control *control;
	uint64_t timeout_ns;
	uint64_t posted_ns;		/* ENTRY_TIMED; as running_now() */
	uint32_t member;		/* of a group */
	uint32_t estimate_ns;
	uint16_t flags;			/* enum entry_flag */
	uint32_t bound_by;		/* ENTRY_BOUND: so many tasks before is that result's */
};

/* A control frame on its way. Freed by its caller, or when it is done (detached). */
struct control {
	struct control *next;
	uint64_t code;
	const void *blob;
	void *arena_blob;
	uint32_t bytes;
	bool done, detached;
	const char *what;		/* for messages: "dw_chip_alloc()" */
	uint64_t timeout_ns;		/* once at the head of the ring; 0: none */
	const struct run_graph *run;	/* whose deadline and cancel end it too, or NULL */
	const char *late;		/* why its worker was killed, or NULL */
	int result;
	char text[ERROR_TEXT_BYTES];
};

/* STUCK: a thread that is past a deadline (stuck.c). From there on it takes nothing. */
enum ring_state { RING_STARTING = 0, RING_UP, RING_RETURNING, RING_STUCK, RING_DEAD };

struct worker_ring {
	uint32_t index;
	uint16_t pool;
	uint8_t state;			/* enum ring_state */
	bool corrupt;			/* wrote nonsense, and is being killed */
	bool reserved;			/* for the group at the head */
	bool nested_text;
	bool elsewhere;			/* on another host */
	enum dw_child_kind kind;
	char *path, *driver;

	struct entry *entries;		/* depth */
	uint32_t head, tail;		/* frame numbers: next to harvest, next to post */
	uint32_t unpublished;
	uint32_t movable;		/* frames with ENTRY_ANY that are not at the head */
	uint32_t ahead;			/* frames with ENTRY_AHEAD */
	struct worker_ring *resume;	/* progress.c: is harvested after this one */
	uint64_t load_ns;		/* estimated work in the ring */
	struct control *controls, *last_control;	/* that wait for room */

	bool notify_set;
	uint32_t notify;		/* the frame that hub_request_notify() was told */
	uint32_t requests;		/* entries with ENTRY_NOTIFY */

	uint32_t timed;			/* entries with a deadline */
	/*
	 * When the frame at the head could start, by the completions before it; its post may have
	 * been later. As running_now().
	 */
	uint64_t head_since;
	int stopped;			/* the signal that has stopped its process; 0: it runs */

	/* Tasks whose memory its dead subtree may write: RUNNING, in no ring, until `gone`. */
	struct task *parked;		/* by next */
	struct member *parked_members;	/* of groups */
	/* Final, and in the hands of a thread that goes on with it. */
	struct task *kept;		/* by next */
	struct member *kept_members;
	uint64_t return_by;		/* RETURNING: when its replacement has to be ready */
	char *cause;			/* of its last death; NULL: it never died */
	int error;			/* of the tasks that it had started then */
	struct dw_child_stats *stats, own_stats;
	struct child_status *status, own_status;
};

/* Bitmaps are indexed by worker. */
struct ring_set {
	struct worker_ring *all;
	uint32_t count;
	uint32_t words;			/* of the bitmaps */
	uint32_t depth;
	uint32_t payload;		/* of a frame … */
	uint32_t waits_payload;		/* … that waits for other rings; 0: none can */
	bool wake;			/* workers are marked: hub_wake() after the lock */
	bool any_pending;
	struct hub *hub;		/* NULL: there are no workers */
	struct arena *arena;
	uint64_t *active;		/* with frames that were not harvested; its complement: … */
	uint64_t *idle;			/* … */
	uint64_t *open;			/* with room, and not reserved */
	uint64_t *awake;		/* as far as is known */
	uint64_t *unpublished;		/* with frames that were not published */
	uint64_t *pending;		/* hub_request_notify() said: complete already */
	uint32_t *movable;		/* by pool: the sum of its rings' */
	uint32_t kept_count;		/* tasks and members in `kept` */
	uint64_t timeout_ns;		/* of tasks that have none of their own */
	uint32_t estimates[ESTIMATES];	/* ns, by callable; 0: unknown */
	uint32_t deviations[ESTIMATES];
	struct timer *timer;
	const struct engine_ops *ops;
	void *ops_context;
	struct probe probe;
};

/* One of a worker's counters, and the copy that others see. */
#define RING_COUNTER(field) \
	static inline void ring_count_##field(struct worker_ring *ring, uint64_t value) \
	{ \
		ring->own_stats.field += value; \
		__atomic_store_n(&ring->stats->field, ring->own_stats.field, __ATOMIC_RELAXED); \
	}
RING_COUNTER(tasks_done)
RING_COUNTER(tasks_failed)
RING_COUNTER(tasks_skipped)
RING_COUNTER(busy_ns)
RING_COUNTER(wakes)
#undef RING_COUNTER

static inline uint32_t ring_outstanding(const struct worker_ring *ring)
{
	return ring->tail - ring->head;
}
static inline struct entry *ring_entry(const struct ring_set *rings,
				       const struct worker_ring *ring, uint32_t number)
{
	return &ring->entries[number & (rings->depth - 1)];
}
static inline bool ring_is_lost(const struct worker_ring *ring)
{
	return ring->state >= RING_STUCK;
}
static inline bool ring_has_room(const struct ring_set *rings, const struct worker_ring *ring)
{
	return ring->state == RING_UP && !ring->corrupt && !ring->controls &&
	       ring_outstanding(ring) < rings->depth;
}
/* Whether the frame was posted, and its completion not harvested. */
static inline bool ring_has_frame(const struct worker_ring *ring, uint32_t number)
{
	return number - ring->head < ring_outstanding(ring);
}
/* A task's deadline, its own or that of all. */
static inline uint64_t task_timeout(const struct ring_set *rings, const struct task *task)
{
	return task->timeout_ns ? task->timeout_ns : rings->timeout_ns;
}

/* --------------------------------------------------------------------- life */

/* Makes the rings of `options`. -ENOMEM: rings_release() frees those that were made. */
int rings_init(struct ring_set *rings, const struct engine_options *options, struct timer *timer);
void rings_release(struct ring_set *rings);
/* Which pool it belongs to, once. */
static inline void ring_join_pool(struct worker_ring *ring, uint16_t pool) { ring->pool = pool; }
/* Makes the bitmaps agree with the ring. */
void ring_update(struct ring_set *rings, struct worker_ring *ring);
/* The worker serves its ring now; its state before does not matter. */
void ring_up(struct ring_set *rings, struct worker_ring *ring);
/* It is RETURNING, STUCK or DEAD. */
void ring_down(struct ring_set *rings, struct worker_ring *ring, enum ring_state state);
/* The worker died: the ring is empty now. */
void ring_emptied(struct ring_set *rings, struct worker_ring *ring);
/* A replacement must be ready by `deadline`. */
static inline void ring_return_by(struct worker_ring *ring, uint64_t deadline)
{
	ring->return_by = deadline;
}
static inline void ring_stopped(struct worker_ring *ring, int signal) { ring->stopped = signal; }
/* Why it died or is stuck, and the error of its started tasks; no memory: the old cause. */
void ring_set_cause(struct worker_ring *ring, const char *cause, int error);
static inline const char *ring_cause(const struct worker_ring *ring, const char *otherwise)
{
	return ring->cause ? ring->cause : otherwise;
}
void ring_reserve(struct ring_set *rings, struct worker_ring *ring, bool reserved);
/* The worker wrote nonsense, as error_text() says: its ring is ignored until its death. */
void ring_distrust(struct ring_set *rings, struct worker_ring *ring);
/* False: it is a thread, and was told. */
bool ring_kill(struct ring_set *rings, struct worker_ring *ring, const char *why);

#endif
