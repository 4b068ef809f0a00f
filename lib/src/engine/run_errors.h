/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * run_errors: the errors of a run: the first RUN_ERRORS_KEPT with all that is known of each, then a
 * count. Guarded by the engine's lock until the run has ended; they do not change afterwards.
 */
#ifndef DW_ENGINE_RUN_ERRORS_H
#define DW_ENGINE_RUN_ERRORS_H

#include <stdint.h>
#include <distworker/distworker.h>

struct task;

#define RUN_ERRORS_KEPT 64

struct run_errors {
	uint64_t count;
	uint32_t kept;
	struct dw_run_error
		*entries; /* RUN_ERRORS_KEPT, made with the first; NULL: none, or no memory */
};

/*
 * Adds one. `task`: the task; NULL: the run itself has failed. `path`: of the worker, or of the
 * run's Worker. The text is the one that dw_run_wait() would set.
 */
void run_errors_add(struct run_errors *errors, const struct task *task, const char *path, int error,
		    const char *text);
/* The error of a task; NULL: none is kept. */
const struct dw_run_error *run_errors_find(const struct run_errors *errors, uint64_t number);
void run_errors_free(struct run_errors *errors);

/*
 * Keeps the errors of the run that the calling thread's last dw_worker_run() or dw_run_wait() has
 * ended. Empties `errors`.
 */
void run_errors_keep(struct run_errors *errors);
/* The errors that run_errors_keep() has kept. */
const struct run_errors *run_errors_last(void);

#endif
