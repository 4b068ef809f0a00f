/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * submit: a task or a group from its arguments to the graph: dw_submit() and dw_submit_group().
 * All errors are checked before anything is changed; then the task gets its memory and its
 * edges.
 *
 * Owns: nothing that outlives a call. One thread per Orchestrator. Functions with the suffix
 * _locked, and submit_enter(), need the engine's lock.
 */
#ifndef DW_ENGINE_SUBMIT_H
#define DW_ENGINE_SUBMIT_H

#include <errno.h>
#include "engine/run.h"
#include "engine/state.h"

/*
 * A run with this many tasks that are not final blocks its submitter: memory is bounded by it, and
 * these 3.5 MiB of tasks stay in the cache (a burst takes 12 % less CPU than with 65,536).
 */
#define WINDOW_TASKS	8192
#define WINDOW_REFILL	(WINDOW_TASKS - WINDOW_TASKS / 8)

struct engine;
struct pool;

/* The heap space of a block of `bytes`; UINT64_MAX: more than any heap has. */
static inline uint64_t heap_aligned(uint64_t bytes)
{
	if (bytes > UINT64_MAX - HEAP_ALIGN)
		return UINT64_MAX;
	return bytes ? (bytes + HEAP_ALIGN - 1) & ~(uint64_t)(HEAP_ALIGN - 1) : HEAP_ALIGN;
}

/* Checks all tensors, fills one range each, adds up the bytes of OUTPUT without address. */
int orch_check_args(struct dw_orch *orch, const struct dw_args *args, uint32_t worker,
		    struct range *ranges, uint64_t *output_bytes);
/* Checks a submit's options; they are moved to `full` if their size is not this library's. */
int orch_take_options(const struct dw_submit_options **options, struct dw_submit_options *full);
int orch_find_pool(struct engine *engine, const struct callable *callable, struct pool **pool);
/* -ECANCELED, and why. */
int orch_cancelled(const struct dw_run *run);
/* -EDEADLK at once, -ENOBUFS when nothing moved for heap_timeout_ns, -ENOSPC, -ECANCELED. */
int orch_heap_alloc_locked(struct dw_orch *orch, uint64_t bytes, uint64_t *address);
int orch_wait_for_window_locked(struct dw_orch *orch);
/* The same for a call that has done a part of its work: dw_worker_interrupt() does not end it. */
int orch_wait_for_window_again_locked(struct dw_orch *orch);
/* -EINVAL inside a recording: `call` makes no sense there; `instead` says why, or what does. */
int orch_not_recording(const struct dw_orch *orch, const char *call, const char *instead);
/* Whether a nested run may touch these bytes (check_declared), where that is checked. */
bool orch_is_declared(const struct dw_run *run, uint64_t begin, uint64_t bytes);
/* -ENODEV: a worker, or all of a pool, are gone. */
int orch_check_alive_locked(const struct engine *engine, const struct pool *pool, uint32_t worker);
int orch_check_after_locked(struct dw_run *run, const struct dw_submit_options *options);
/* OUTPUT tensors without address get theirs from *address on; or lose them again. */
void orch_place_outputs(struct dw_args *args, struct range *ranges, uint64_t *address);
void orch_unplace_outputs(struct dw_args *args, uint64_t address, uint64_t bytes);
/* The edges of a task in an engine that has names; `given`: names of another engine, or NULL. */
void submit_named_edges(struct edge_builder *builder, const struct dw_args *args,
			const struct range *ranges, const struct frame_names *given);
/* The task is in the graph with all its edges: runs it, chains it, or lets it wait. */
static inline void submit_enter(struct engine *engine, const struct edge_builder *builder)
{
	struct task *task = builder->consumer;

	if (UNLIKELY(builder->out_of_memory))
		run_cancel_locked(run_of(task->run), -ENOMEM, "no memory for the edges of a task");
	if (UNLIKELY(task->run->cancelled))
		task_set_flags(task, FLAG_CANCEL);
	PROBE(&engine->graph, task, task, PROBE_SUBMITTED);
	schedule_enter(&engine->schedule, builder);
}

#endif
