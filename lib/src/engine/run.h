/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * run: one call of an orchestration function: its Orchestrator, the tasks that it submits, the
 * drain, the first error as the result.
 *
 * Owns: struct dw_run and struct dw_orch, the list of runs (run_set.h), and how runs begin, end and
 * are cancelled. Guarded by the engine's lock, except cancel_word and the scratch memory of
 * dw_orch, which belongs to the submitting thread. The state of its tasks is the graph's.
 *
 * Invariant: a run is in the engine's list from run_begin() until it has left; then its tasks are
 * final, and nothing but its handle refers to it.
 */
#ifndef DW_ENGINE_RUN_H
#define DW_ENGINE_RUN_H

#include "engine/graph.h"
#include "engine/nesting.h"
#include "engine/progress.h"
#include "engine/run_handle.h"

struct progress_report;
struct recorder;

struct dw_orch {
	struct dw_run *run;
	struct scope *scope;		/* innermost open one */
	struct recorder *recorder;	/* an open recording, or NULL */
	struct range *ranges;		/* scratch of the submitting thread: one per tensor */
	uint32_t range_space;
};

struct dw_run {
	struct dw_orch orch;
	struct run_graph graph;
	struct engine *engine;
	struct dw_run *next, *previous;	/* engine->runs */
	bool over;			/* all tasks are final, and there will be no more */
	bool blocking;			/* dw_worker_run(): there is no handle */
	bool here;			/* its function's thread waits for it … */
	bool interrupted;		/* … and the next wait of that thread ends early, once */
	_Atomic uint32_t cancel_word;	/* read by dw_task_cancelled() */
	const _Atomic uint32_t *cancel;	/* of the task that this run is, or NULL */
	uint64_t timeout_ns, deadline;	/* as running_now(); NEVER */
	bool overdue;			/* cancelled at its deadline; the next one kills the rest */
	uint64_t calls_end;		/* cancelled: when its calls of a driver are ended */

	dw_orch_fn *fn;
	const struct dw_args *args;
	struct dw_config config;
	void *context;
	const struct dw_args *declared;
	const char *task_name;		/* of the task that this run is, for messages, or NULL */
	struct progress_report *report;	/* NULL: there is no progress callback */
	struct nesting_child served;	/* THREAD mode: the child whose task it is, or none */
	struct run_handle handle;

	void *probe_data;		/* of the subscriber */
};

/* The run that a task belongs to. */
static inline struct dw_run *run_of(const struct run_graph *graph)
{
	return (struct dw_run *)((char *)(uintptr_t)graph - offsetof(struct dw_run, graph));
}

void run_cancel_locked(struct dw_run *run, int error, const char *why);
/* When the timer has to end driver calls, or tasks, of the run; or NEVER. */
static inline void run_set_calls_end(struct dw_run *run, uint64_t at) { run->calls_end = at; }
static inline void run_set_deadline(struct dw_run *run, uint64_t at, bool overdue)
{
	run->deadline = at;
	run->overdue = overdue;
}
/* Its last reference is gone. */
void run_free(struct dw_run *run);
/* Waits until all tasks of the run are final; -ERESTART: dw_worker_interrupt(). */
int run_drain_locked(struct engine *engine, struct dw_run *run);
/*
 * Waits in a call of the function's thread, as wait_locked() does, or until dw_worker_interrupt():
 * -ERESTART, with a text.
 */
int run_wait_locked(struct waiter *waiter, struct deadline *deadline);
static inline void orch_set_scope(struct dw_orch *orch, struct scope *scope)
{
	orch->scope = scope;
}
static inline void orch_set_recorder(struct dw_orch *orch, struct recorder *recorder)
{
	orch->recorder = recorder;
}
/* Room for the ranges of `count` tensors; grows, and is kept for the next submit. */
int orch_ranges(struct dw_orch *orch, uint64_t count, struct range **ranges);

#endif
