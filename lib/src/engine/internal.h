/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What the files of the engine share: slots, edges, peers, pools, runs, waiters.
 * Everything here is guarded by engine->lock, except what says otherwise.
 *
 *   orchestrator.c  what an orchestration function calls; arguments checked
 *   group.c         groups: submit, admission, members
 *   slot.c          slots, edges, ids, payloads
 *   scheduler.c     ready queues, which worker gets what, take-back
 *   peer.c          one worker's ring: posting, harvesting, notification, death
 *   completion.c    final states and what follows from them
 *   run.c           runs: start, drain, cancel
 *   run_handle.h    what a program does with a run that it has started
 *   run_errors.h    all errors of a run
 *   progress.h      the progress callback, called by a thread of its own
 *   nesting.h       what a thread is inside of, and whether its wait could ever end
 *   wait_task.c     waiting for one task
 *   wait.c          threads that wait: one drives in the foreground, others sleep
 *   timer.c         deadlines and stragglers, one timerfd, armed while needed
 *   abandon.c       threads that do not return before a deadline
 *   chip_memory.c   tensors that stay on a chip
 *   probe.h         hooks for a subscriber that watches the engine
 *   engine.c        create, start, stop, background thread, statistics, control
 */
#ifndef DW_ENGINE_INTERNAL_H
#define DW_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include "base/bits.h"
#include "base/clock.h"
#include "base/deadline.h"
#include "base/lock.h"
#include "base/slab.h"
#include "depend/task_ref.h"
#include "depend/tensor_map.h"
#include "engine/engine.h"
#include "engine/nesting.h"
#include "engine/run_errors.h"
#include "engine/run_handle.h"
#include "memory/heap.h"

#define NO_WORKER	UINT32_MAX

/*
 * A run with this many tasks that are not final blocks its submitter: memory is bounded by it, and
 * these 3.5 MiB of slots stay in the cache (a burst takes 12 % less CPU than with 65,536).
 */
#define WINDOW_TASKS	8192
#define WINDOW_REFILL	(WINDOW_TASKS - WINDOW_TASKS / 8)

/* What a sleeping worker's wake-up costs, until it works. */
#define WAKE_COST_NS	50000
/* A worker gets tasks that others could run only up to this much work, or this many. */
#define FILL_NS		2000000
#define FILL_TASKS	4
/* A callable that never ran counts as long. */
#define UNKNOWN_NS	1000000
/* Publish after this many frames, while the worker has as many in front of it. */
#define PUBLISH_BATCH	4
/* A submit looks for completions this seldom when nothing asks for it. */
#define HARVEST_EVERY	16
/* A task whose last unfinished producers are this few wants to hear of each. */
#define URGENT_FEW	4
/* Work in front of a worker that is worth being given to another: awake, asleep. */
#define TAKE_AWAKE_NS	10000
#define TAKE_ASLEEP_NS	60000
#define STRAGGLER_NS	2000000
/* What was cancelled gets this long to notice. */
#define CANCEL_GRACE_NS	500000000ULL

#define ESTIMATES	256

#define LIKELY(x)	__builtin_expect(!!(x), 1)
#define UNLIKELY(x)	__builtin_expect(!!(x), 0)

/* ------------------------------------------------------------ slots, edges */

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

/* ------------------------------------------------------------------- rings */

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

/* Workers that can stand in for each other. Bitmaps are indexed by worker. */
struct pool {
	enum dw_child_kind kind;
	const char *driver;		/* chips */
	uint32_t members;
	uint32_t usable;		/* up, or on their way */
	uint32_t up;
	uint32_t current;		/* the worker that was given work last */
	uint32_t any_waiting;		/* sum of its peers' */
	bool saturated;			/* nobody takes more until something completes */
	struct slot_queue_list any;
	struct slot_queue_list groups;	/* in the order of admission */
	uint64_t *mask, *open, *idle, *awake;
};

/* ------------------------------------------------------------------ groups */

struct member {
	struct payload payload;
	uint32_t worker;		/* wanted, or DW_ANY */
	uint32_t placed, position;
	bool in_ring;
	struct slot *slot;		/* the group … */
	struct member *next;		/* … while this is held */
};

struct group {
	uint32_t count;
	uint32_t explicit_count;	/* members that name their worker */
	uint32_t *chosen;		/* workers: the explicit ones, then the others */
	uint32_t left;			/* members that are in rings, or held */
	uint32_t ran;			/* members that started and ended */
	uint32_t kept;			/* members that threads go on with */
	uint32_t failed_at;		/* worker of the first member that failed */
	int error;			/* its error */
	char text[ERROR_TEXT_BYTES];
	bool whole;			/* see task_failed() */
	bool restart;			/* a member came back unstarted: all start over */
	struct member members[];
};

/* -------------------------------------------------------------------- runs */

struct range {
	uint64_t begin, end;
};

struct dw_orch {
	struct dw_run *run;
	struct scope *scope;		/* innermost open one */
	struct range *ranges;		/* scratch of the submitting thread: one per tensor */
	uint32_t range_space;
};

/* Ids of tasks that failed or were skipped, for explicit edges to consumed ones. */
struct failed_set {
	struct failed { dw_task task; uint64_t blame; int error; } *entries;
	uint32_t space, count;
};

struct dw_run {
	struct dw_orch orch;
	struct engine *engine;
	struct dw_run *next, *previous;	/* engine->runs */
	struct tensor_map *map;		/* NULL once the run has ended */
	uint64_t submitted, finished;
	struct failed_set failed;
	int error;			/* the first */
	char text[ERROR_TEXT_BYTES];
	struct run_errors errors;
	bool cancelled;
	bool over;			/* all tasks are final, and there will be no more */
	bool blocking;			/* dw_worker_run(): nobody has a handle */
	const struct slot *awaited_slot;	/* dw_orch_wait_task(): urgent in every ring; NULL: none */
	bool awaited;			/* a thread waits for its tasks */
	_Atomic uint32_t cancel_word;	/* what dw_task_cancelled() looks at */
	const _Atomic uint32_t *cancel;	/* of the task that this run is, or NULL */
	uint64_t timeout_ns, deadline;	/* as running_now(); NEVER */
	bool overdue;			/* cancelled at its deadline; what runs on is killed at the next */
	uint64_t calls_end;		/* cancelled: when its calls of a driver, which cannot ask, are ended */

	dw_orch_fn *fn;
	const struct dw_args *args;
	struct dw_config config;
	void *context;
	const struct dw_args *declared;
	const char *what;		/* the task that this run is, for messages, or NULL */
	struct progress *progress;	/* NULL: nobody wants to hear of it */
	struct nesting_child served;	/* THREAD mode: the child whose task this run is; engine NULL: none */
	struct run_handle handle;

	void *probe_data;		/* of the subscriber */
};

/* ----------------------------------------------------------------- waiting */

/*
 * A thread that waits until ready(). The first drives the engine in the
 * foreground; the others sleep until theirs is true or the foreground is free.
 */
struct waiter {
	struct waiter *next;
	bool (*ready)(const struct waiter *waiter);
	struct engine *engine;
	struct dw_run *run;
	const struct control *control;
	uint64_t value;
	bool kicked;			/* the driver: knows, or need not be told */
	bool idle;			/* never drives */
	_Atomic uint32_t woken;		/* event */
};

/* ------------------------------------------------------------------ engine */

struct engine {
	struct lock lock;
	bool wake;			/* peers are marked: hub_wake() after the lock */
	bool waited;			/* somebody has waited since peers were woken last */
	bool stopping, closing;
	uint32_t worker_count, sub_count;
	uint32_t words;			/* of the bitmaps */
	uint32_t depth;
	uint32_t cpus;			/* that this process, and so its children, may use */
	uint32_t payload;		/* of a frame */
	struct hub *hub;
	struct arena *arena;
	const struct arena *outer_arena;	/* of the ancestors; NULL: none, or not checked */
	struct heap *heap;
	struct peer *peers;
	struct pool *pools;
	uint32_t pool_count;
	bool queued;			/* something may be in a queue of a pool or a peer */
	uint64_t *active;		/* peers with frames that were not harvested */
	uint64_t *unpublished;		/* peers with frames that were not published */
	uint64_t *news;			/* peers of which hub_notify_at() said: complete already */
	uint64_t *wanting;		/* peers whose directed or ahead queue is not empty */
	bool any_news;
	uint32_t cursor;		/* where the next partial harvest begins */
	uint32_t since_harvest;
	uint64_t submits;		/* calls; the background thread sees whether somebody is at it */
	uint64_t order;

	struct slot **chunks;
	uint32_t chunk_count, chunk_space;
	struct slot *free_slots;
	uint64_t live_slots;
	struct slab edges;
	struct slot *finished, *last_finished;	/* states set, consequences to be drawn */
	uint64_t heap_serial;		/* counts blocks that came back */
	uint32_t heap_waiters;		/* submitters that wait for that: every end may be news */

	uint32_t estimates[ESTIMATES];	/* ns, by callable; 0: unknown */
	uint32_t deviations[ESTIMATES];

	struct dw_run *runs;
	uint32_t run_count;
	struct waiter *foreground;
	struct waiter *waiters;

	uint64_t chip_window;		/* addresses of device memory; 0: none so far */
	struct chip_block *chip_blocks;
	uint32_t kept_count;		/* tasks and members in peers' `kept` */
	uint64_t timer_at;		/* NEVER: not armed */
	uint64_t late_ns;		/* sum of all that the timer was late */
	uint64_t late_from, late_until;	/* the last time */
	bool straggler;			/* the timer is armed for stragglers too */
	uint64_t straggler_ns;
	int timer_fd, kick_fd, extra_fd, epoll_fd;
	pthread_t background;
	bool background_runs;
	uint32_t process;		/* process_serial() of the process that owns it */

	char *path;
	uint64_t timeout_ns, heap_timeout_ns, init_timeout_ns;
	bool check_declared;
	const struct engine_ops *ops;
	void *ops_context;
	struct dw_engine_stats stats;
	struct engine_now *now, own_now;	/* copies, never read here */
	struct probe probe;
};

/*
 * One of engine->stats, and its copy for whoever looks. The copy lies where a child that has lost its
 * mind can write, and is not read here.
 */
#define engine_count(engine, field) \
	do { \
		(engine)->stats.field++; \
		__atomic_store_n(&(engine)->now->stats.field, (engine)->stats.field, __ATOMIC_RELAXED); \
	} while (0)

/* The same for one of a peer's. */
#define peer_count(peer, field, value) \
	do { \
		(peer)->own_stats.field += (value); \
		__atomic_store_n(&(peer)->stats->field, (peer)->own_stats.field, __ATOMIC_RELAXED); \
	} while (0)

static inline bool slot_skips(const struct slot *slot)
{
	return slot->flags & (SLOT_SKIP | SLOT_CANCEL);
}

/* slot.c */
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
int failed_add(struct failed_set *set, dw_task task, uint64_t blame, int error);
/* NULL: it is none of them. */
const struct failed *failed_find(const struct failed_set *set, dw_task task);

/* peer.c */
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

/* scheduler.c */
void task_ready(struct engine *engine, struct slot *slot);
/* Why the last worker of a pool that died did so, or "none was ever there". */
const char *pool_cause(const struct engine *engine, uint32_t pool);
void task_unqueue(struct engine *engine, struct slot *slot);
/* Puts a pending task into the ahead queue of its lane if that is worth it. */
bool task_try_ahead(struct engine *engine, struct slot *slot, struct slot *producer);
void dispatch_pool(struct engine *engine, struct pool *pool);
void dispatch_peer(struct engine *engine, struct peer *peer);
void dispatch_all(struct engine *engine);
void balance(struct engine *engine, struct pool *pool);
void unstick(struct engine *engine, struct peer *peer, uint64_t busy_ns);
/* Everything there is to do now: harvest, consequences, dispatch, publication. */
void engine_work(struct engine *engine);
/* A bounded share of it, by a submitter. */
void engine_work_some(struct engine *engine);
void engine_unlock_and_wake(struct engine *engine);
/* Before the parent sleeps with more to hand out: it wants to refill rings before they run dry. */
void ask_for_refill(struct engine *engine);

/* abandon.c */
/* Kills the worker, or, if it is a thread, goes on without it. */
void peer_end(struct engine *engine, struct peer *peer, const char *why);
void peer_abandon(struct engine *engine, struct peer *peer, const char *why);
void peer_recover(struct engine *engine, struct peer *peer);
void peer_returned(struct engine *engine, struct peer *peer, uint32_t number);
void peer_release_kept(struct engine *engine, struct peer *peer);
bool slot_keep(struct engine *engine, struct slot *slot);
void kept_forget_run(struct engine *engine, const struct dw_run *run);
int kept_check(const struct engine *engine, const struct range *ranges, size_t count);

/* completion.c */
void slot_release(struct engine *engine, struct slot *slot);
void task_finish(struct engine *engine, struct slot *slot, enum task_state state);
void finish_all(struct engine *engine);
/* All producers of a pending task are final. */
void task_released(struct engine *engine, struct slot *slot);
/*
 * It ran and failed: another attempt, or FAILED with the error as the run's. `peer`: where. `whole`: the
 * text says by itself where, and of which task; a nested Worker's does.
 */
void task_failed(struct engine *engine, struct slot *slot, struct peer *peer, int error,
		 const char *text, bool whole);
/* The same in two steps: the error is the run's at once, the task's state changes later. */
void task_fail(struct engine *engine, struct slot *slot, struct peer *peer, int error,
	       const char *text, bool whole);
void task_fail_now(struct engine *engine, struct slot *slot);
void task_completed(struct engine *engine, struct peer *peer, struct slot *slot, uint32_t member,
		    const struct completion *completion, const char *text);
/* It is in no ring any more and has not run. */
void task_returned(struct engine *engine, struct slot *slot);
void task_describe(const struct slot *slot, char *text, size_t space);
void run_error(struct dw_run *run, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void engine_worker_lost_locked(struct engine *engine, struct peer *peer, bool returns,
			       const char *cause);

/* group.c */
void group_admit(struct engine *engine, struct pool *pool);
void group_member_left(struct engine *engine, struct slot *slot, uint32_t member,
		       struct peer *peer, int error, const char *text, bool unstarted);
/* In two steps: the worker died under it; later nothing of it is left. */
void group_member_died(struct engine *engine, struct slot *slot, uint32_t member,
		       struct peer *peer, const char *text);
void group_member_gone(struct engine *engine, struct slot *slot);
void group_cancel_members(struct engine *engine, struct slot *slot);
/* Out of the queue: the workers that it may have reserved are free again. */
void group_withdraw(struct engine *engine, struct slot *slot);
void group_free(struct engine *engine, struct group *group);

/* orchestrator.c */
int orch_check_args(struct dw_orch *orch, const struct dw_args *args, uint32_t worker,
		    struct range *ranges, uint64_t *output_bytes);
/* Checks a submit's options; they are moved to `full` if their size is not this library's. */
int orch_take_options(const struct dw_submit_options **options, struct dw_submit_options *full);
int orch_ranges(struct dw_orch *orch, uint64_t count, struct range **ranges);
int orch_find_pool(struct engine *engine, const struct callable *callable, struct pool **pool);
int orch_heap_alloc_locked(struct dw_orch *orch, uint64_t bytes, uint64_t *address);
int orch_wait_for_window_locked(struct dw_orch *orch);
int orch_check_after_locked(struct dw_run *run, const struct dw_submit_options *options);
void orch_place_outputs(struct dw_args *args, struct range *ranges, uint64_t *address);
void orch_unplace_outputs(struct dw_args *args, uint64_t address, uint64_t bytes);
struct slot *orch_slot_new(struct dw_orch *orch, struct callable *callable,
			   const struct dw_submit_options *options);

void slot_enter(struct slot *slot);

struct linking {
	struct engine *engine;
	struct slot *consumer;
	struct slot *running[URGENT_FEW];
	uint32_t running_count;
	bool out_of_memory;
};
void link_begin(struct linking *linking, struct engine *engine, struct slot *consumer);
uint32_t link_reads(struct linking *linking, const struct dw_args *args,
		    const struct range *ranges);
void link_writes(struct linking *linking, const struct dw_args *args, const struct range *ranges,
		 uint32_t seen);
void link_range(struct linking *linking, uint64_t begin, uint64_t end, enum dw_tag tag);
void link_after(struct linking *linking, const struct dw_submit_options *options);
void link_end(struct linking *linking);

/* run.c */
void run_cancel_locked(struct dw_run *run, int error, const char *why);
/* Its last reference is gone. */
void run_free(struct dw_run *run);

/* wait.c */
int wait_locked(struct engine *engine, struct waiter *waiter, struct deadline *deadline);
/* The same, once, for a waiter that never drives: 0 also when it was woken for nothing. */
int wait_idle_locked(struct engine *engine, struct waiter *waiter, uint64_t deadline_ns);
/* Wakes those whose condition has become true; after every change, before the lock goes. */
void waiters_settle(struct engine *engine);
/* Hands on what the hub has heard of peers; without the lock. */
void engine_pass_changes(struct engine *engine);

/* timer.c */
/*
 * Deadlines are kept in the time in which this process could run: CLOCK_MONOTONIC without what
 * the timer was late. running_deadline(): so long from now; NEVER.
 */
uint64_t running_now(const struct engine *engine);
uint64_t running_at(const struct engine *engine, uint64_t monotonic_ns);
uint64_t running_deadline(const struct engine *engine, uint64_t ns);
/* Something ends at `deadline`, as running_deadline(). */
void timer_deadline(struct engine *engine, uint64_t deadline);
void timer_expired(struct engine *engine);
void straggler_watch(struct engine *engine, struct pool *pool);
void peer_head_changed(struct engine *engine, struct peer *peer);

/* chip_memory.c */
bool chip_memory_is_control(const struct callable *callable);
int chip_memory_check(struct dw_orch *orch, uint64_t begin, uint64_t bytes, uint32_t worker,
		      size_t index);
void chip_memory_freed(struct engine *engine, const struct slot *slot);
void chip_memory_run_ended(struct engine *engine, const struct dw_run *run);
void chip_memory_destroy(struct engine *engine);

/* engine.c */
/* Its queues, when it takes nothing any more. */
void peer_strand(struct engine *engine, struct peer *peer);
uint32_t process_serial(void);

#endif
