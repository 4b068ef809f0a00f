/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * node_tree: the tree that a session runs, made from its gateway's description (hello.h).
 *
 * Owns: struct node_tree. The gateway's Worker gets a parent here, the *outer* Worker, which has
 * the name, path and level of its parent at home, and no other child. Functions are those of this
 * process, by name, and move to the handles that they have at home. The memory is mapped at the
 * addresses that it has at home.
 *
 * Invariant: a description is believed no further than its sizes. One thread, before the session
 * forks.
 */
#ifndef DW_WORKER_NODE_TREE_H
#define DW_WORKER_NODE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct dw_worker;

struct node_tree {
	struct dw_worker *outer; /* the caller initialises it, and closes it */
	struct dw_worker **workers; /* the Worker, and those below it: by the number of an owner */
	uint32_t worker_count;
	struct arena *memory;
	uint64_t timeout_ns; /* host_timeout_ns */
	bool traced; /* home wants the lines of DW_TRACE */
	bool collides; /* this process has something else at an address of the memory */
};

/*
 * With the functions that are registered in the tree of `program` (NULL: none). -errno with a text
 * that says what differs from home: a function that is missing or another one, memory that cannot
 * be mapped; the process ends then.
 */
int node_tree_read(const void *payload, size_t bytes, const struct dw_worker *program,
		   struct node_tree *tree);

#endif
