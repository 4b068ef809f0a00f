/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Calls of an Orchestrator on device memory: dw_chip_alloc() and dw_chip_free(). See chip_memory.h.
 */
#include <errno.h>
#include "engine/chip_memory.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/submit.h"

/* The callable of the tasks that free device memory; their frames are control frames. */
static struct callable free_callable = {
	.handle = ENGINE_CONTROL_CHIP_FREE,
	.control = true,
	.name = (char *)"chip_free",
};

static int find_chip(const struct engine *engine, uint32_t id, uint32_t *worker)
{
	*worker = engine->schedule.sub_count + id;
	if (id >= engine->rings.count - engine->schedule.sub_count ||
	    engine->rings.all[*worker].kind != DW_CHILD_CHIP)
		return error_set(-EINVAL, "worker %u is no chip of %s", id, engine->path);
	return 0;
}

DW_API int dw_chip_alloc(struct dw_orch *orch, uint32_t worker, int dtype, const uint32_t *shape,
			 uint32_t ndims, struct dw_tensor *tensor)
{
	struct engine_chip_memory message;
	struct chip_block *block = NULL;
	struct dw_tensor made;
	struct engine *engine;
	uint64_t bytes;
	uint32_t index = 0;
	int result;

	result = orch_usable(orch);
	if (result == 0 && !tensor)
		result = error_set(-EINVAL, "tensor is NULL");
	if (result == 0)
		result = find_chip(orch->run->engine, worker, &index);
	if (result == 0)
		result = dw_tensor_init(&made, NULL, dtype, shape, ndims);
	if (result == 0)
		result = dw_tensor_bytes(&made, &bytes);
	if (result == 0)
		result = chip_block_new(orch->run->engine, &orch->run->graph, index,
					bytes, &block);
	if (result < 0)
		return result;
	engine = orch->run->engine;
	message = (struct engine_chip_memory){
		.scalars = 2, .handle = block->begin, .bytes = block->bytes,
	};
	result = engine_control(engine, index, ENGINE_CONTROL_CHIP_ALLOC, &message, sizeof(message),
				&(struct engine_control_limits){
					.what = "dw_chip_alloc()", .run = &orch->run->graph,
					.timeout_ns = chip_call_timeout(engine),
				});
	if (result < 0) {
		chip_block_failed(engine, block);
		return result;
	}
	made.data = block->begin;
	*tensor = made;
	return 0;
}

/* The task that frees: it overwrites the range, and so comes after its users. */
static int submit_free(struct dw_orch *orch, struct chip_block *block)
{
	static const struct dw_submit_options defaults = { .size = sizeof(defaults) };
	struct engine_chip_memory message = {
		.scalars = 2, .handle = block->begin, .bytes = block->bytes,
	};
	struct engine *engine = orch->run->engine;
	struct task *task = graph_task_new(&engine->graph, &orch->run->graph, orch->scope,
					   &free_callable, &defaults);
	struct edge_builder builder;

	if (!task)
		return error_set(-ENOMEM, "no memory for a task");
	atomic_fetch_add_explicit(&free_callable.uses, 1, memory_order_relaxed);
	payload_message(task, &message, sizeof(message));
	task_set_target(task, engine->rings.all[block->worker].pool, block->worker);
	graph_enter(&engine->graph, task);
	chip_block_free(block, task_id(task));
	edges_begin(&builder, &engine->graph, task);
	edges_range(&builder, block->begin, block->begin + block->bytes, DW_OUTPUT);
	submit_enter(engine, &builder);
	return 0;
}

DW_API int dw_chip_free(struct dw_orch *orch, const struct dw_tensor *tensor)
{
	struct chip_block *block;
	struct engine *engine;
	int result;

	result = orch_usable(orch);
	if (result == 0 && !tensor)
		result = error_set(-EINVAL, "tensor is NULL");
	if (result < 0)
		return result;
	engine = orch->run->engine;
	lock_take(&engine->lock);
	block = chip_block_find(engine, &orch->run->graph, tensor->data);
	if (!block)
		result = error_set(-ENOENT, "%#llx is no device memory that this run has allocated "
				   "and not freed", (unsigned long long)tensor->data);
	else if (orch->run->graph.cancelled)
		result = 0;	/* the end of the run frees it */
	else
		result = submit_free(orch, block);
	engine_work_some(engine);
	engine_unlock_and_wake(engine);
	return result;
}
