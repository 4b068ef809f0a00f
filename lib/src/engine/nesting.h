/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * nesting: which runs and which task the calling thread is inside of, and whether a
 * wait for another run could ever end.
 *
 * Owns: a stack per thread of the runs whose function, or progress callback, the thread
 * executes; the list of threads that wait for a run without a deadline. Any thread. The list's
 * mutex is taken before every engine's lock.
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
	struct dw_run *run;
};

/* The run cannot end before the matching nesting_pop(). */
void nesting_push(struct nesting *nesting, struct dw_run *run);
void nesting_pop(struct nesting *nesting);

/* A child of this engine whose thread executes tasks, in THREAD mode; engine NULL: none. */
struct nesting_child {
	struct engine *engine;
	uint32_t worker;
};

/* From now on the calling thread executes the tasks of that child. */
void nesting_serve(struct engine *engine, uint32_t worker);
struct nesting_child nesting_served(void);
/* In a forked child: what its parent's thread was inside of is nothing here. */
void nesting_forget(void);

/*
 * Calls `visit` for the engine of each run that the calling thread is inside of, with `task` false,
 * and of each task, with `task` true, until one returns true. Returns whether one did.
 */
bool nesting_each(bool (*visit)(const struct engine *engine, bool task, const void *context),
		  const void *context);

/* Whether the calling thread is inside of the run's function or callback. Takes no lock. */
bool nesting_inside(const struct dw_run *run);

/* The calling thread is about to wait for `run`. */
struct nesting_wait {
	struct nesting_wait *next;
	const struct nesting *inside;
	struct nesting_child served;
	const struct dw_run *run;
	bool reached;
};

/*
 * Enters a wait into the list, unless the run cannot end before the wait does: -EDEADLK, with a
 * text. A wait that ends by itself is `timed`: nobody counts on it, and it is not entered.
 */
int nesting_wait_begin(struct nesting_wait *wait, const struct dw_run *run, bool timed,
		       const char *call);
void nesting_wait_end(struct nesting_wait *wait);

#endif
