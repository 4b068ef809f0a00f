/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Threads that do not return before a deadline. With the engine's lock.
 */
#ifndef DW_ENGINE_ABANDON_H
#define DW_ENGINE_ABANDON_H

#include "engine/ring.h"

struct range;

/* Kills the worker, or, if it is a thread, goes on without it. */
void ring_end(struct engine *engine, struct worker_ring *ring, const char *why);
void ring_abandon(struct engine *engine, struct worker_ring *ring, const char *why);
void ring_recover(struct engine *engine, struct worker_ring *ring);
void ring_returned(struct engine *engine, struct worker_ring *ring, uint32_t number);
void ring_release_kept(struct engine *engine, struct worker_ring *ring);
bool task_keep(struct engine *engine, struct task *task);
void kept_forget_run(struct engine *engine, const struct dw_run *run);
int kept_check(const struct engine *engine, const struct range *ranges, size_t count);

#endif
