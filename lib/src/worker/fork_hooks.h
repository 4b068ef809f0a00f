/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * fork_hooks: the application's calls around each fork of the library, and at the start of a child.
 *
 * Owns: one list for the process. A fork works on a copy of it, so that its calls match in spite of
 * changes to the list meanwhile. Lock: its own. No hook is called with a lock of the library held.
 */
#ifndef DW_WORKER_FORK_HOOKS_H
#define DW_WORKER_FORK_HOOKS_H

#include <stddef.h>
#include <sys/types.h>
#include <distworker/distworker.h>

/* The hooks for one fork. */
struct fork_hooks {
	struct dw_fork_hooks *hooks;
	size_t count;
};

/* Before the fork and before any lock. 0, or -ENOMEM with a text: then no hook was called. */
int fork_hooks_prepare(struct fork_hooks *fork);
/* Call it after the fork, even if that failed; in the parent and in the child. */
void fork_hooks_parent(struct fork_hooks *fork);
void fork_hooks_child(struct fork_hooks *fork);
/*
 * Calls fork() and preserves its errno. In the child, a change that another thread had half made
 * would stay half made, and its lock taken for ever. So no other thread is inside the list of
 * hooks, the table of callables, or the list of loaded objects during the fork.
 */
pid_t fork_hooks_fork(void);
/* Call it in the thread that is the child. Returns the first error, with a text. */
int fork_hooks_start(const struct dw_child_start *start);

#endif
