/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * run_progress: the progress callback of a run, called by a thread that does nothing else.
 *
 * Owns: struct progress_report, and that thread. The thread sleeps until the run's counts change,
 * asks each ring with tasks of the run to report its next completion, and calls the application
 * without any lock; a slow callback delays its own next call and nothing else.
 */
#ifndef DW_ENGINE_RUN_PROGRESS_H
#define DW_ENGINE_RUN_PROGRESS_H

#include <pthread.h>
#include <distworker/distworker.h>

struct dw_run;
struct progress_report;

/* NULL: no memory. */
struct progress_report *progress_new(struct dw_run *run, const struct dw_run_options *options);
void progress_free(struct progress_report *progress);
/* Starts the thread, once the run is in its engine. */
int progress_begin(struct dw_run *run);
/*
 * All tasks are final: makes the last call, with the final counts, and ends the thread. Without
 * locks.
 */
void progress_end(struct dw_run *run);
/* The run is not started after all: ends the thread without a last call. */
void progress_abandon(struct dw_run *run);

/* A thread of the library's, which takes none of the application's signals: 0 or an errno. */
int run_start_thread(pthread_t *thread, void *(*body)(void *), void *argument);

#endif
