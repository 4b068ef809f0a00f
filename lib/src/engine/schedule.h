/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * schedule: which worker gets which task, and when.
 *
 * Owns: struct schedule: pools of workers, queues, chains, revocation, stragglers. Guarded by the
 * engine's lock.
 *
 * Invariants: `queued` is set whenever a task may be in a queue whose worker has room. The bit of a
 * ring in `wanting` is set while its queues are not empty. All queues are in the order that ready.h
 * gives, so that none of them starves another.
 *
 *   ready, may go anywhere   pool->any             → the worker that pick() says, or one that has
 *                                                    its tensors (affinity.h), if that pays
 *   ready, directed          queues->directed      → that worker's ring
 *   pending, all unfinished  queues->chained       → the same ring, behind them; or another, where
 *   producers in rings                               it waits for them (schedule_ahead.c)
 *   ready group              pool->groups          → all its rings at once (schedule_group.c)
 */
#ifndef DW_ENGINE_SCHEDULE_H
#define DW_ENGINE_SCHEDULE_H

#include "engine/graph.h"
#include "engine/ready.h"

/* The cost of waking a sleeping worker, until it works. */
#define WAKE_COST_NS	50000ull
/* A worker gets tasks that others could run only up to this much work, or this many. */
#define FILL_NS		2000000
#define FILL_TASKS	4
/* Work in front of a worker that is worth being given to another: awake, asleep. */
#define REVOKE_AWAKE_NS	10000
#define REVOKE_ASLEEP_NS	60000
/* A task that waits for a short one gets this long until it goes to another worker. */
#define STRAGGLER_NS	2000000

enum pool_flag {
	POOL_SATURATED	= 1 << 0,	/* no worker takes more until a frame completes */
	POOL_NEAR	= 1 << 1,	/* a worker that has a task's tensors is better */
};

/* Workers that can stand in for each other. */
struct pool {
	enum dw_child_kind kind;
	const char *driver;		/* chips */
	uint32_t members;
	uint32_t usable;		/* up, or on their way */
	uint32_t up;
	uint32_t current;		/* the worker that was given work last */
	uint8_t flags;			/* enum pool_flag */
	struct ready_queue any;
	struct ready_queue groups;
	uint64_t *mask;			/* its workers */
	bool has_memory;		/* they need the names of tensors */
	bool elsewhere;			/* one of them is on another host */
	/* Those that get tasks which any could run: not the stopped ones, unless no other is up. */
	uint64_t *takers;
};

/* Tasks that only one ring can take, or should. */
struct ring_queues {
	struct ready_queue directed;
	struct task_link chained;	/* in the order of their entry */
	uint32_t straggler_head;	/* the ring's head when the straggler timer was armed */
};

struct schedule {
	struct pool *pools;
	uint32_t pool_count;
	uint32_t sub_count;		/* the first workers */
	struct ring_queues *queues;	/* by worker */
	uint64_t *wanting;
	bool queued;
	bool has_groups;		/* a group may be in a queue */
	bool straggler;			/* the timer is armed for stragglers too */
	uint32_t cpus;			/* that this process, and so its children, may use */
	uint64_t straggler_ns;
	uint64_t order;
	struct ring_set *rings;
	struct graph *graph;
	struct probe probe;
};

int schedule_init(struct schedule *schedule, const struct engine_options *options,
		  struct ring_set *rings, struct graph *graph);
void schedule_release(struct schedule *schedule);

static inline struct pool *schedule_pool_of(struct schedule *schedule,
					    const struct worker_ring *ring)
{
	return &schedule->pools[ring->pool];
}
/* Why the last worker of a pool that died did so, or "none was ever there". */
const char *schedule_cause(const struct schedule *schedule, uint32_t pool);

/* Queues a pending task, whose producers all sit in rings, for that worker. */
void schedule_follow(struct schedule *schedule, struct task *task, uint32_t worker);
/*
 * The same for a worker, or one of those that have its producers (DW_ANY), which will wait for
 * them; false: that does not pay.
 */
bool schedule_ahead(struct schedule *schedule, struct task *task, uint32_t worker);
/* Tasks that are ready sit behind frames that wait: those must not wait for long. */
void ahead_watch(struct schedule *schedule);
/* Takes the frames that wait out of the ring. */
void ahead_return(struct schedule *schedule, struct worker_ring *ring);
/* The worker is not up: what is queued to follow producers there waits for them elsewhere. */
void ahead_drop(struct schedule *schedule, const struct worker_ring *ring);

void schedule_ready(struct schedule *schedule, struct task *task);
/* A task was submitted, and waits, or will be skipped. */
void schedule_wait(struct schedule *schedule, const struct edge_builder *builder);
/* A task was submitted, and its edges are known: it is ready, is chained, or waits. */
static inline void schedule_enter(struct schedule *schedule, const struct edge_builder *builder)
{
	if (LIKELY(!builder->consumer->waiting && !task_skips(builder->consumer)))
		schedule_ready(schedule, builder->consumer);
	else
		schedule_wait(schedule, builder);
}
/* Draws the consequences of final states, and queues the released tasks. */
void schedule_settle(struct schedule *schedule);
/* A worker of the pool may have room. */
static inline void schedule_pool_moved(struct schedule *schedule, struct pool *pool)
{
	pool->flags &= (uint8_t)~POOL_SATURATED;
	schedule->queued = true;
}
/* A frame has left a ring. */
static inline void schedule_ring_moved(struct schedule *schedule, const struct worker_ring *ring)
{
	schedule_pool_moved(schedule, &schedule->pools[ring->pool]);
}
/* More or fewer workers of its pool are up, or usable. */
void schedule_count(struct schedule *schedule, const struct worker_ring *ring, int up, int usable);
/* One of its pool has been stopped, goes on, is up or is not. */
void schedule_takers(struct schedule *schedule, const struct worker_ring *ring);
/* A control frame waits for room in that ring. */
void schedule_want_ring(struct schedule *schedule, const struct worker_ring *ring);
/* The ring takes no more tasks: fails those that no other can take. */
void schedule_fail_queued(struct schedule *schedule, const struct worker_ring *ring);

/* Tasks that cannot go anywhere now are tried again when a ring has got room. */
static inline void schedule_begin(struct schedule *schedule) { schedule->queued = false; }
static inline void schedule_no_groups(struct schedule *schedule) { schedule->has_groups = false; }
void schedule_dispatch(struct schedule *schedule);
void schedule_pool(struct schedule *schedule, struct pool *pool);
void schedule_ring(struct schedule *schedule, struct worker_ring *ring);
/* Moves tasks that other workers have not started to idle ones. */
void schedule_balance(struct schedule *schedule);
/*
 * Rings with queued tasks are refilled before they run dry. Not for a submitter, which dispatches
 * again with its next submit.
 */
void schedule_refill(struct schedule *schedule);

/* A task waits for another although a worker may be idle: it must not stick there. */
void straggler_watch(struct schedule *schedule, const struct pool *pool);
void straggler_arm(struct schedule *schedule, uint64_t clock);
/* The timer has expired, and the clock shows `clock`. */
void stragglers_expired(struct schedule *schedule, uint64_t clock);

#endif
