/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * lifecycle: a Worker's way up, in two passes over the Workers of a process, and its way down.
 *
 * Forks. dw_worker_init() goes twice over the Workers of this process (the root, and nested ones
 * whose parents' mode is THREAD). lifecycle_prepare() makes arena, hub and engine and forks the
 * spawner; lifecycle_start() starts threads and asks the spawner for the children. So a process
 * never forks after its first thread. A nested Worker whose parent's mode is PROCESS is a copy of
 * the same object in the forked child, which does both there.
 *
 * Owns: struct worker_life of each Worker. Invariant: a pass that fails leaves the Worker as it
 * was before, and it may be tried again.
 *
 * One thread at a time: init, or close. `state` is written with worker->lock.
 */
#ifndef DW_WORKER_LIFECYCLE_H
#define DW_WORKER_LIFECYCLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "trace/trace.h"

struct arena;
struct child;
struct dw_worker;
struct engine;
struct hub;

enum worker_state { WORKER_NEW, WORKER_STARTING, WORKER_UP, WORKER_CLOSING, WORKER_CLOSED };

struct worker_life {
	_Atomic enum worker_state state;
	bool init_failed;		/* of the root: the last init */
	struct hub *hub;
	struct engine *engine;
	struct trace_files trace_files;	/* of the root: DW_TRACE, DW_GRAPH */
	struct trace *trace;		/* of this Worker's engine; NULL: nothing is traced */
	int trace_pipe;			/* of the root of a session: where DW_TRACE goes; -1 */
	int events_fd;			/* epoll over spawner socket, links, up_link */
	int up_link; /* nested in a process or thread: the link to the parent; -1 */
	uint32_t up_generation;
};

void lifecycle_init(struct dw_worker *worker);
/* Both passes, of a root. */
int lifecycle_bring_up(struct dw_worker *root);
int lifecycle_prepare(struct dw_worker *worker, struct arena *outer);
int lifecycle_start(struct dw_worker *worker);
int lifecycle_stop(struct dw_worker *worker, uint64_t deadline_ns);
/* Before the passes of a nested Worker: the link to its parent. */
void lifecycle_set_up_link(struct dw_worker *nested, int link, uint32_t generation);
/*
 * Before the passes of a root, which takes the descriptor: lines of DW_TRACE go there. The root's
 * own tasks are told by the tree that it stands for.
 */
void lifecycle_set_trace(struct dw_worker *root, int pipe);
/*
 * Releases everything that init made: the Worker is as new, with its callables and buffers. False:
 * threads or runs that did not end in time still use it, so nothing is released.
 */
bool lifecycle_release(struct dw_worker *worker);

#endif
