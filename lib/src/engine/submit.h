/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What dw_submit() and dw_submit_group() share: checks, memory for outputs, and edges. Functions with the
 * suffix _locked, and those from task_enter() on, need the engine's lock.
 */
#ifndef DW_ENGINE_SUBMIT_H
#define DW_ENGINE_SUBMIT_H

#include "engine/run.h"
#include "engine/task.h"

/*
 * A run with this many tasks that are not final blocks its submitter: memory is bounded by it, and
 * these 3.5 MiB of tasks stay in the cache (a burst takes 12 % less CPU than with 65,536).
 */
#define WINDOW_TASKS	8192
#define WINDOW_REFILL	(WINDOW_TASKS - WINDOW_TASKS / 8)
/* A task whose last unfinished producers are this few wants to hear of each. */
#define NOTIFY_FEW	4

struct pool;

int orch_check_args(struct dw_orch *orch, const struct dw_args *args, uint32_t worker,
		    struct range *ranges, uint64_t *output_bytes);
/* Checks a submit's options; they are moved to `full` if their size is not this library's. */
int orch_take_options(const struct dw_submit_options **options, struct dw_submit_options *full);
int orch_ranges(struct dw_orch *orch, uint64_t count, struct range **ranges);
int orch_find_pool(struct engine *engine, const struct callable *callable, struct pool **pool);
int orch_heap_alloc_locked(struct dw_orch *orch, uint64_t bytes, uint64_t *address);
int orch_wait_for_window_locked(struct dw_orch *orch);
int orch_check_after_locked(struct dw_run *run, const struct dw_submit_options *options);
void orch_place_outputs(struct dw_args *args, struct range *ranges, uint64_t *address);
void orch_unplace_outputs(struct dw_args *args, uint64_t address, uint64_t bytes);
struct task *orch_task_new(struct dw_orch *orch, struct callable *callable,
			   const struct dw_submit_options *options);

void task_enter(struct task *task);

struct edge_builder {
	struct engine *engine;
	struct task *consumer;
	struct task *running[NOTIFY_FEW];
	uint32_t running_count;
	bool out_of_memory;
};
void edges_begin(struct edge_builder *builder, struct engine *engine, struct task *consumer);
uint32_t edges_reads(struct edge_builder *builder, const struct dw_args *args,
		    const struct range *ranges);
void edges_writes(struct edge_builder *builder, const struct dw_args *args, const struct range *ranges,
		 uint32_t seen);
void edges_range(struct edge_builder *builder, uint64_t begin, uint64_t end, enum dw_tag tag);
void edges_after(struct edge_builder *builder, const struct dw_submit_options *options);
void edges_end(struct edge_builder *builder);

#endif
