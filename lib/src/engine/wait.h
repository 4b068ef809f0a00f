/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Threads that wait for something in the engine. With the engine's lock, unless it says otherwise.
 */
#ifndef DW_ENGINE_WAIT_H
#define DW_ENGINE_WAIT_H

#include "base/deadline.h"
#include "engine/state.h"

struct control;

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

int wait_locked(struct engine *engine, struct waiter *waiter, struct deadline *deadline);
/* The same, once, for a waiter that never drives: 0 also when it was woken for nothing. */
int wait_idle_locked(struct engine *engine, struct waiter *waiter, uint64_t deadline_ns);
/* Wakes those whose condition has become true; after every change, before the lock goes. */
void waiters_settle(struct engine *engine);
/* Hands on what the hub has heard of its peers; without the lock. */
void engine_pass_changes(struct engine *engine);

#endif
