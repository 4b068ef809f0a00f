/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * run_handle: what a program does with a run that it has started: wait, look, cancel, detach.
 *
 * Owns: the fields of struct run_handle. A run is referred to by its handle, by its thread, and by
 * each call on the handle while it lasts; whoever drops the last reference frees it. `handle.lock`
 * is taken before the engine's. Until `leaving` is set the run is in its engine, so that the engine
 * exists; a run that has left it outlives it.
 */
#ifndef DW_ENGINE_RUN_HANDLE_H
#define DW_ENGINE_RUN_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/lock.h"

struct dw_run;

struct run_handle {
	pthread_t thread;
	uint32_t process;		/* process_serial() of who started it */
	_Atomic uint32_t references;
	_Atomic uint32_t
		ended; /* event: the result is final, and nobody calls the application any more */
	struct lock lock;		/* guards what follows */
	bool leaving;
	int fd;				/* -1: nobody has asked for one */
};

/* Of a new run: one reference. */
void run_handle_init(struct run_handle *handle);
/* By the run's thread, before the run leaves its engine, and when all is over. */
void run_handle_leaving(struct dw_run *run);
void run_handle_ended(struct dw_run *run);
void run_handle_put(struct dw_run *run);

#endif
