/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Runs: what one call of an orchestration function has submitted. Guarded by the engine's lock, except
 * cancel_word and the scratch memory of dw_orch, which belongs to the submitting thread.
 */
#ifndef DW_ENGINE_RUN_H
#define DW_ENGINE_RUN_H

#include "depend/tensor_map.h"
#include "engine/nesting.h"
#include "engine/run_errors.h"
#include "engine/run_handle.h"
#include "engine/state.h"

struct progress;

struct range {
	uint64_t begin, end;
};

struct dw_orch {
	struct dw_run *run;
	struct scope *scope;		/* innermost open one */
	struct range *ranges;		/* scratch of the submitting thread: one per tensor */
	uint32_t range_space;
};

/* Ids of tasks that failed or were skipped, for explicit edges to consumed ones. */
struct failed_set {
	struct failed { dw_task task; uint64_t failed_by; int error; } *entries;
	uint32_t space, count;
};

struct dw_run {
	struct dw_orch orch;
	struct engine *engine;
	struct dw_run *next, *previous;	/* engine->runs */
	struct tensor_map *map;		/* NULL once the run has ended */
	uint64_t submitted, finished;
	struct failed_set failed;
	int error;			/* the first */
	char text[ERROR_TEXT_BYTES];
	struct run_errors errors;
	bool cancelled;
	bool over;			/* all tasks are final, and there will be no more */
	bool blocking;			/* dw_worker_run(): nobody has a handle */
	const struct task *awaited_task;	/* dw_orch_wait_task(): its end is reported; NULL: none */
	bool awaited;			/* a thread waits for its tasks */
	_Atomic uint32_t cancel_word;	/* what dw_task_cancelled() looks at */
	const _Atomic uint32_t *cancel;	/* of the task that this run is, or NULL */
	uint64_t timeout_ns, deadline;	/* as running_now(); NEVER */
	bool overdue;			/* cancelled at its deadline; what runs on is killed at the next */
	uint64_t calls_end;		/* cancelled: when its calls of a driver, which cannot ask, are ended */

	dw_orch_fn *fn;
	const struct dw_args *args;
	struct dw_config config;
	void *context;
	const struct dw_args *declared;
	const char *task_name;		/* of the task that this run is, for messages, or NULL */
	struct progress *progress;	/* NULL: nobody wants to hear of it */
	struct nesting_child served;	/* THREAD mode: the child whose task this run is; engine NULL: none */
	struct run_handle handle;

	void *probe_data;		/* of the subscriber */
};

int failed_add(struct failed_set *set, dw_task task, uint64_t failed_by, int error);
/* NULL: it is none of them. */
const struct failed *failed_find(const struct failed_set *set, dw_task task);
void run_error(struct dw_run *run, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void run_cancel_locked(struct dw_run *run, int error, const char *why);
/* Its last reference is gone. */
void run_free(struct dw_run *run);

#endif
