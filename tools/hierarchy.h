/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A hierarchy before it exists: made from options or from a JSON file, then
 * turned into Workers. A plan owns its strings and its children. Main thread only.
 */
#ifndef TOOLS_HIERARCHY_H
#define TOOLS_HIERARCHY_H

#include <distworker/job.h>

#define PLAN_CHILDREN_MAX 4096
#define PLAN_CHIPS_MAX 4096

struct plan {
	uint32_t level;
	struct dw_worker_options options;	/* name, chips and subs too */
	struct dw_chip_options *chips;		/* what options.chips points to */
	struct plan **children;
	uint32_t child_count;
	/* Set by plan_build(). */
	struct dw_worker *worker;
	uint32_t id;				/* in its parent */
};

/* The options of the command line; the JSON file inherits all but the shape. */
struct plan_options {
	uint32_t level;			/* of the root */
	uint32_t fanout[3];		/* Workers below each Worker, from the top down … */
	uint32_t fanout_count;		/* … to the nodes; levels above the first have one */
	uint32_t chips, subs;		/* chips per node; subs per Worker */
	const char *driver, *chip_options;
	struct dw_worker_options worker;	/* mode, provider, depth, deadlines */
};

/* 0, or -errno with the sentence in `text`. */
int plan_from_options(const struct plan_options *options, struct plan **plan, char *text,
		      size_t bytes);
int plan_from_file(const char *path, const struct plan_options *defaults, struct plan **plan,
		   char *text, size_t bytes);
void plan_destroy(struct plan *plan);

/* A plan without children; names and chips come later. NULL: no memory. */
struct plan *plan_create(uint32_t level, const struct dw_worker_options *options);
int plan_add_child(struct plan *plan, struct plan *child);
/*
 * `count` chips of one driver, device ids from `device` on; PLAN_ANY_DEVICE: those that this Worker
 * has no chip on yet, and when there are no more, from the first again.
 */
#define PLAN_ANY_DEVICE UINT32_MAX
int plan_add_chips(struct plan *plan, uint32_t count, const char *driver, uint32_t device,
		   const char *options);
/* "pod0", "node3": names all Workers that have none, by level and place. 0 or -ENOMEM. */
int plan_name(struct plan *plan, uint32_t index);
/* A deep copy, for "count" in the file. NULL: no memory. */
struct plan *plan_copy(const struct plan *plan);

/* Makes the Workers. On an error nothing is left, and the library has the text. */
int plan_build(struct plan *plan);

/* The tree that jobs see; one block of memory, free() it. NULL: no memory. */
struct distworker_tree *plan_tree(const struct plan *plan);

struct plan_totals {
	uint32_t workers[7];		/* by level, 3 … 6 */
	uint32_t chips, subs;
};
void plan_count(const struct plan *plan, struct plan_totals *totals);
/* "L4 pod0: 2 x L3, 4 chips (sim), 6 subs" */
void plan_describe(const struct plan *plan, char *text, size_t bytes);

#endif
