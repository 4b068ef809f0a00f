/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * role: a kind of child as a table of calls: a sub worker, a chip worker, a nested Worker. A new
 * kind of child is a new source with one such table, and a line in child.c.
 *
 * Owns nothing shared. All calls run in the child's own process or thread.
 */
#ifndef DW_WORKER_ROLE_H
#define DW_WORKER_ROLE_H

#include <stdbool.h>
#include <stdint.h>

struct child;
struct endpoint;

struct role {
	bool text_has_path;	/* its errors already begin with a path */
	bool elsewhere;		/* its child is on another host: no hooks here */
	/* Brings it up: 0 and *state, or an error with a text. NULL: nothing to do. */
	int (*start)(struct child *child, uint32_t generation, bool process, void **state);
	/*
	 * Serves the mailbox until the parent says stop or is gone: 0. An error means that the
	 * child can serve no more, which the parent has been told.
	 */
	int (*serve)(struct child *child, uint32_t generation, struct endpoint *endpoint,
		     void *state);
	/*
	 * Takes down what start() has made; `error` is the result of serve(). NULL: nothing to do.
	 */
	void (*stop)(struct child *child, bool process, int error, void *state);
};

extern const struct role role_sub, role_chip, role_nested, role_remote;

#endif
