/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * nesting: which runs and which task the calling thread is inside of.
 *
 * Owns: a stack per thread of the runs whose function, or progress callback, the thread executes.
 * No lock: each thread has its own.
 */
#ifndef DW_ENGINE_NESTING_H
#define DW_ENGINE_NESTING_H

#include <stdbool.h>
#include <stdint.h>

struct dw_run;
struct engine;

/* On the stack of the thread that executes the function. */
struct nesting {
	struct nesting *outer;
	struct engine *engine;
	const struct dw_run *run;
};

/* The run cannot end before the matching nesting_pop(). */
void nesting_push(struct nesting *nesting, struct engine *engine, const struct dw_run *run);
void nesting_pop(struct nesting *nesting);

/* A child of this engine whose thread executes tasks, in THREAD mode; engine NULL: none. */
struct nesting_child {
	struct engine *engine;
	uint32_t worker;
};

/* From now on the calling thread executes the tasks of that child. */
void nesting_serve(struct engine *engine, uint32_t worker);
struct nesting_child nesting_served(void);
/* In a forked child: forgets the runs and the task of the parent's thread. */
void nesting_forget(void);

/*
 * Calls `visit` for the engine of each run that the calling thread is inside of, with `task` false,
 * and of each task, with `task` true, until one returns true. Returns whether one did.
 */
bool nesting_each(bool (*visit)(const struct engine *engine, bool task, const void *context),
		  const void *context);

/* Whether the calling thread is inside of the run's function or callback. Takes no lock. */
bool nesting_inside(const struct dw_run *run);

/* NULL: it is inside of none. */
const struct nesting *nesting_innermost(void);

#endif
