/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Allocations of device memory: dw_chip_alloc() and dw_chip_free() of an Orchestrator, and those
 * that outlive runs. See chip_memory.h.
 */
#include <errno.h>
#include "engine/chip_memory.h"
#include "engine/record.h"
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

/* `run` NULL: the memory stays, and a chip that has died is waited for. */
static int allocate(struct engine *engine, struct run_graph *run, uint32_t id,
		    struct dw_tensor *tensor)
{
	struct engine_control_limits limits = {
		.what = run ? "dw_chip_alloc()" : "dw_chip_memory_create()",
		.run = run,
		.returning = !run,
		.timeout_ns = chip_call_timeout(engine),
	};
	struct engine_chip_memory message;
	struct chip_block *block = NULL;
	uint32_t index = 0;
	uint64_t bytes;
	int result;

	result = find_chip(engine, id, &index);
	if (result == 0)
		result = dw_tensor_bytes(tensor, &bytes);
	if (result == 0)
		result = chip_block_new(engine, run, index, bytes, &block);
	if (result < 0)
		return result;
	message = (struct engine_chip_memory){
		.scalars = 2, .handle = block->begin, .bytes = block->bytes,
	};
	result = engine_control(engine, index, ENGINE_CONTROL_CHIP_ALLOC, &message, sizeof(message),
				&limits);
	if (result < 0)
		chip_block_failed(engine, block);
	else
		tensor->data = message.handle;
	return result;
}

DW_API int dw_chip_alloc(struct dw_orch *orch, uint32_t worker, int dtype, const uint32_t *shape,
			 uint32_t ndims, struct dw_tensor *tensor)
{
	struct dw_tensor made;
	int result;

	result = orch_usable(orch);
	if (result == 0)
		result = orch_not_recording(orch, "dw_chip_alloc()",
					    "this memory ends with its run; allocate it before "
					    "dw_record_begin and declare it as a parameter, or use "
					    "dw_chip_memory_create");
	if (result == 0 && !tensor)
		result = error_set(-EINVAL, "tensor is NULL");
	if (result == 0)
		result = dw_tensor_init(&made, NULL, dtype, shape, ndims);
	if (result == 0)
		result = allocate(orch->run->engine, &orch->run->graph, worker, &made);
	if (result == 0)
		*tensor = made;
	return result;
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
	chip_block_free(engine, block, task_id(task));
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
	if (result == 0)
		result = orch_not_recording(orch, "dw_chip_free()",
					    "a replay would free it again; free it after "
					    "dw_record_end");
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
	else if (block->lost)
		chip_block_remove(engine, block);
	else if (orch->run->graph.cancelled)
		result = 0;	/* the end of the run frees it */
	else
		result = submit_free(orch, block);
	engine_work_some(engine);
	engine_unlock_and_wake(engine);
	return result;
}

/* --------------------------------------------------- memory that outlives runs */

static bool chip_returns(struct engine *engine, uint32_t id)
{
	enum ring_state state;

	lock_take(&engine->lock);
	state = (enum ring_state)engine->rings.all[engine->schedule.sub_count + id].state;
	lock_give(&engine->lock);
	return state == RING_UP || state == RING_RETURNING;
}

int engine_chip_memory_create(struct engine *engine, uint32_t id, int dtype, const uint32_t *shape,
			      uint32_t ndims, struct dw_tensor *tensor)
{
	struct dw_tensor made;
	uint64_t bytes = 0;
	int result = dw_tensor_init(&made, NULL, dtype, shape, ndims);

	if (result == 0)
		result = dw_tensor_bytes(&made, &bytes);
	if (result == 0 && !bytes)
		result = error_set(-EINVAL, "dw_chip_memory_create: 0 bytes");
	if (result == 0)
		result = allocate(engine, NULL, id, &made);
	/* The death was not known before: the second time waits for the replacement. */
	if (result == -EOWNERDEAD && chip_returns(engine, id))
		result = allocate(engine, NULL, id, &made);
	if (result == 0)
		*tensor = made;
	return result;
}

/* The next block at its address has no history in the runs that are in flight. */
static void forget_in_runs(struct engine *engine, const struct chip_block *block)
{
	for (const struct dw_run *run = engine->runs.first; run; run = run->next)
		if (run->graph.map)
			tensor_map_forget(run->graph.map, block->begin,
					  block->begin + block->bytes);
}

int engine_chip_memory_destroy(struct engine *engine, const struct dw_tensor *tensor)
{
	struct engine_chip_memory message = { .scalars = 2 };
	struct chip_block *block;
	uint32_t worker = 0;
	struct range range;
	bool lost = false;
	uint64_t bytes;
	int result;

	if (dw_tensor_bytes(tensor, &bytes) == 0 && bytes) {
		range = (struct range){ tensor->data, tensor->data + bytes };
		result = engine_records_use_memory(engine, &range, "dw_chip_memory_destroy");
		if (result < 0)
			return result;
	}
	lock_take(&engine->lock);
	block = chip_block_find(engine, NULL, tensor->data);
	if (block) {
		forget_in_runs(engine, block);
		chip_block_free(engine, block, 0);
		message.handle = block->begin;
		message.bytes = block->bytes;
		worker = block->worker;
		lost = block->lost;
	}
	lock_give(&engine->lock);
	if (!block)
		return error_set(-ENOENT, "%s has no device memory at %#llx that "
				 "dw_chip_memory_create() gave and that was not given back",
				 engine->path, (unsigned long long)tensor->data);
	result = lost ? 0 : engine_control(engine, worker, ENGINE_CONTROL_CHIP_FREE, &message,
					   sizeof(message), &(struct engine_control_limits){
						   .what = "dw_chip_memory_destroy()",
						   .timeout_ns = chip_call_timeout(engine),
					   });
	chip_block_freed(engine, block, result);
	return result == -EOWNERDEAD ? 0 : result;
}
