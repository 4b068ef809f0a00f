/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * run_handle: a program's calls on a run that it has started: wait, test, cancel, detach.
 *
 * Owns: the fields of struct run_handle. A run is referred to by its handle, by its thread, and by
 * each call on the handle while it lasts; it is freed with the last reference. `handle.lock` is
 * taken before the engine's. Until `leaving` is set the run is in its engine, so the engine exists;
 * a run that has left its engine may outlive it.
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
	bool has_thread;		/* does not change once the handle is given out */
	uint32_t process;		/* process_serial() where it was started */
	_Atomic uint32_t references;
	_Atomic uint32_t
		ended; /* event: the result is final, and no callback is called any more */
	struct lock lock;		/* guards the fields below */
	bool leaving;
	int fd;				/* -1: none, before dw_run_fd() */
};

static inline void run_handle_has_thread(struct run_handle *handle, bool has)
{
	handle->has_thread = has;
}
/* Of a new run: one reference. */
void run_handle_init(struct run_handle *handle);
/* By the run's thread, before the run leaves its engine, and when all is over. */
void run_handle_leaving(struct dw_run *run);
void run_handle_ended(struct dw_run *run);
void run_handle_put(struct dw_run *run);

#endif
