/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * affinity: the workers that last ran a task with a name (names.h), so that the next task with that
 * name can go where its tensors are. A hint: what a worker has dropped since is not known here.
 *
 * Owns: struct affinity, a table of names, each in the one place that its number gives it. A later
 * name takes the place of an earlier one. Empty where no worker has memory of its own.
 *
 * Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_AFFINITY_H
#define DW_ENGINE_AFFINITY_H

#include "engine/names.h"
#include "engine/ring.h"

/* What a copy to a worker is taken to cost: 4 bytes in a nanosecond, and no more than that. */
#define AFFINITY_BYTES_PER_NS	4
/* Shorter than a straggler's time (schedule.h): no task waits for its worker for longer. */
#define AFFINITY_MOST_NS	1000000

struct affinity_place {
	uint64_t name;			/* 0: the place is empty */
	uint32_t worker;		/* that ran a task with it last */
	uint32_t maker, frame;		/* the task that makes it was posted there; or NO_WORKER */
};

struct affinity {
	struct affinity_place *places;	/* NULL: no worker has memory of its own */
};

/* -ENOMEM */
int affinity_init(struct affinity *affinity);
void affinity_release(struct affinity *affinity);
/* A task with names was posted to that ring. */
void affinity_posted(struct affinity *affinity, const struct worker_ring *ring,
		     const struct task *task);
/* The worker died: what it had is gone. */
void affinity_forget(struct affinity *affinity, uint32_t worker);
/* NULL: it is not known. */
const struct affinity_place *affinity_find(const struct affinity *affinity, uint64_t name);

/* The worker that has most of what the task reads, or NO_WORKER. */
uint32_t affinity_best(const struct affinity *affinity, const struct task *task);
/* The time that copies take to run the task on one worker rather than on another. */
uint64_t affinity_ns(const struct affinity *affinity, const struct task *task, uint32_t worker,
		     uint32_t other);

#endif
