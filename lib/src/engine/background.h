/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * background: the thread that does the engine's work while no other thread drives.
 *
 * Owns: struct background: the thread and its descriptors. It sleeps in epoll on the hub's bell,
 * the timer, a kick and the worker layer's descriptor, and takes the engine's lock only when one of
 * them is readable. `stopping` is guarded by the lock, the rest belongs to engine_start() and
 * engine_stop().
 */
#ifndef DW_ENGINE_BACKGROUND_H
#define DW_ENGINE_BACKGROUND_H

#include <pthread.h>
#include <stdbool.h>

struct engine;

struct background {
	pthread_t thread;
	bool runs, stopping;
	int kick_fd, extra_fd, epoll_fd;	/* -1: none */
};

#define BACKGROUND_INIT(extra) { .kick_fd = -1, .extra_fd = (extra), .epoll_fd = -1 }

/* After the forks. 0, or an error with a text. */
int background_start(struct engine *engine);
/* In a process that was forked meanwhile there is no thread to end. */
void background_stop(struct engine *engine, bool own_process);

#endif
