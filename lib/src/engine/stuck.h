/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * stuck: workers that are threads, and do not return from a frame before its deadline.
 *
 * A thread cannot be killed: its started frames fail with ETIMEDOUT, the others go elsewhere, and
 * the worker is STUCK, which is as good as dead, until the thread has completed all that it had
 * started. Guarded by the engine's lock.
 *
 * Invariant: memory that the thread may still read or write is given back only then. Until then a
 * final task keeps its memory, its payload, its scope (and so its heap blocks) and its callable,
 * and no new task may have tensors that overlap with those that it writes.
 */
#ifndef DW_ENGINE_STUCK_H
#define DW_ENGINE_STUCK_H

#include "engine/schedule.h"

/* Kills the worker, or, if it is a thread, goes on without it. */
void ring_end(struct schedule *schedule, struct worker_ring *ring, const char *why);
/* The thread has completed frame `number`. */
void stuck_returned(struct graph *graph, struct worker_ring *ring, uint32_t number);
/* It has completed all. */
void stuck_recover(struct schedule *schedule, struct worker_ring *ring);
/* It has ended. */
void stuck_ended(struct graph *graph, struct worker_ring *ring);
/* The run ends; the memory that its abandoned tasks keep stays. */
void stuck_forget_run(const struct ring_set *rings, const struct run_graph *run);
/* Whether a thread that goes on may write to one of the ranges: -EBUSY. */
int stuck_check(const struct ring_set *rings, const struct range *ranges, size_t count);

#endif
