/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * run_circle: whether a wait for a run could ever end. A wait is refused when the thread itself is
 * inside of the run, or when the run waits in turn, through any number of other threads, for a run
 * that the thread is inside of.
 *
 * Owns: the list of threads that wait for a run without a deadline. Any thread. The list's mutex is
 * taken before every engine's lock.
 */
#ifndef DW_ENGINE_RUN_CIRCLE_H
#define DW_ENGINE_RUN_CIRCLE_H

#include "engine/nesting.h"

/* The calling thread is about to wait for `run`. */
struct run_wait {
	struct run_wait *next;
	const struct nesting *inside;
	struct nesting_child served;
	const struct dw_run *run;
	bool reached;
};

/*
 * Enters a wait into the list, unless the run cannot end before the wait does: -EDEADLK, with a
 * text. A wait that ends by itself is `timed`: it blocks no run for ever, and is not entered.
 */
int run_wait_begin(struct run_wait *wait, const struct dw_run *run, bool timed,
		       const char *call);
void run_wait_end(struct run_wait *wait);

#endif
