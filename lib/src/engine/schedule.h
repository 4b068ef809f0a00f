/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Which worker gets which task, and when: pools of workers and their queues. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_SCHEDULE_H
#define DW_ENGINE_SCHEDULE_H

#include "engine/ring.h"

/* What a sleeping worker's wake-up costs, until it works. */
#define WAKE_COST_NS	50000
/* A worker gets tasks that others could run only up to this much work, or this many. */
#define FILL_NS		2000000
#define FILL_TASKS	4
/* A submit looks for completions this seldom when nothing asks for it. */
#define HARVEST_EVERY	16
/* Work in front of a worker that is worth being given to another: awake, asleep. */
#define REVOKE_AWAKE_NS	10000
#define REVOKE_ASLEEP_NS	60000

/* Workers that can stand in for each other. Bitmaps are indexed by worker. */
struct pool {
	enum dw_child_kind kind;
	const char *driver;		/* chips */
	uint32_t members;
	uint32_t usable;		/* up, or on their way */
	uint32_t up;
	uint32_t current;		/* the worker that was given work last */
	uint32_t any_waiting;		/* sum of its rings' */
	bool saturated;			/* nobody takes more until something completes */
	struct task_list any;
	struct task_list groups;	/* in the order of admission */
	uint64_t *mask, *open, *idle, *awake;
};

void task_ready(struct engine *engine, struct task *task);
/* Why the last worker of a pool that died did so, or "none was ever there". */
const char *pool_cause(const struct engine *engine, uint32_t pool);
void task_unqueue(struct engine *engine, struct task *task);
/* Puts a pending task into the chained queue of its ring if that is worth it. */
bool task_try_chain(struct engine *engine, struct task *task, struct task *producer);
void dispatch_pool(struct engine *engine, struct pool *pool);
void dispatch_ring(struct engine *engine, struct worker_ring *ring);
void dispatch_all(struct engine *engine);
void balance(struct engine *engine, struct pool *pool);
void requeue_stragglers(struct engine *engine, struct worker_ring *ring, uint64_t busy_ns);
/* Everything there is to do now: harvest, consequences, dispatch, publication. */
void engine_work(struct engine *engine);
/* A bounded share of it, by a submitter. */
void engine_work_some(struct engine *engine);
void engine_unlock_and_wake(struct engine *engine);
/* Before the parent sleeps with more to hand out: it wants to refill rings before they run dry. */
void ask_for_refill(struct engine *engine);

#endif
