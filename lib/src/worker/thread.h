/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * thread: the launcher of children that are threads of this process (THREAD mode).
 *
 * Owns: struct child_thread. Invariant: a thread says LINK_OVER on its link as its last act, with
 * worker->lock held, and touches nothing afterwards. Lock: worker->lock.
 */
#ifndef DW_WORKER_THREAD_H
#define DW_WORKER_THREAD_H

#include <pthread.h>
#include <stdbool.h>

struct child;

struct child_thread {
	pthread_t thread;
	bool started;			/* and not joined */
	bool over;			/* it no longer touches anything */
};

/* Starts a thread that calls the child's entry, which waits for GO. worker->lock. */
int thread_start(struct child *child);
/* The thread has ended, or is about to end. */
void thread_join(struct child *child);

#endif
