/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Copies to, from and between device memory as tasks: dw_submit_copy(). The frame of a copy is a
 * control frame of the chip that has the memory, with two tensors: to, then from. A copy between
 * two chips is two tasks, with a block of the heap between them.
 */
#include <errno.h>
#include "engine/chip_memory.h"
#include "engine/progress.h"
#include "engine/record.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/stuck.h"
#include "engine/submit.h"

static struct callable copy_callable = {
	.handle = ENGINE_CONTROL_CHIP_COPY,
	.control = true,
	.name = (char *)"copy",
};

/* One copy, on one chip. */
struct chip_copy {
	struct dw_orch *orch;
	const struct dw_submit_options *options;
	uint32_t worker;
	struct dw_args args;
	struct range *ranges;
	uint64_t output_bytes;
};

static void copy_init(struct chip_copy *copy, struct dw_orch *orch, const struct dw_tensor *to,
		      const struct dw_tensor *from, const struct dw_submit_options *options,
		      uint32_t worker)
{
	copy->orch = orch;
	copy->options = options;
	copy->worker = worker;
	copy->ranges = NULL;
	copy->output_bytes = 0;
	args_init(&copy->args);
	copy->args.tensor_count = 2;
	copy->args.tensors[0] = *to;
	copy->args.tags[0] = DW_OUTPUT;
	copy->args.tensors[1] = *from;
	copy->args.tags[1] = DW_INPUT;
}

static int copy_check(struct chip_copy *copy)
{
	int result = orch_ranges(copy->orch, copy->args.tensor_count, &copy->ranges);

	return result < 0 ? result : orch_check_args(copy->orch, &copy->args, copy->worker,
						     copy->ranges, &copy->output_bytes);
}

static int copy_check_locked(struct chip_copy *copy)
{
	struct engine *engine = copy->orch->run->engine;
	const struct worker_ring *ring = &engine->rings.all[copy->worker];
	int result = orch_wait_for_window_locked(copy->orch);

	if (result == 0 && ring_is_lost(ring))
		result = error_set(-ENODEV, "%s is gone: %s", ring->path, ring_cause(ring, "dead"));
	if (result == 0)
		result = orch_check_after_locked(copy->orch->run, copy->options);
	if (result == 0)
		result = stuck_check(&engine->rings, copy->ranges, copy->args.tensor_count);
	if (result == 0 && copy->orch->recorder)
		result = recorder_check(engine, copy->orch->recorder, &copy->args, copy->ranges,
				      copy->options);
	return result;
}

static int copy_enter_locked(struct chip_copy *copy, dw_task *id)
{
	struct dw_orch *orch = copy->orch;
	struct engine *engine = orch->run->engine;
	struct dw_args *args = &copy->args;
	struct edge_builder builder;
	uint64_t address = 0, next;
	struct task *task;
	int result = copy_check_locked(copy);

	if (result == 0 && copy->output_bytes)
		result = orch_heap_alloc_locked(orch, copy->output_bytes, &address);
	if (result < 0)
		return result;
	next = address;
	orch_place_outputs(&copy->args, copy->ranges, &next);
	task = graph_task_new(&engine->graph, &orch->run->graph, orch->scope, &copy_callable,
			      copy->options);
	result = task ? payload_make(&engine->graph.tasks, &task->payload, &copy->args, false,
				     copy->options->name, task->storage) :
			error_set(-ENOMEM, "no memory for a task");
	if (result < 0) {
		if (task)
			task_free(&engine->graph.tasks, task);
		return result;
	}
	task_keep_name(task, &task->payload, &copy->args, copy->options->name);
	atomic_fetch_add_explicit(&copy_callable.uses, 1, memory_order_relaxed);
	task_set_target(task, engine->rings.all[copy->worker].pool, copy->worker);
	graph_enter(&engine->graph, task);
	*id = task_id(task);
	edges_begin(&builder, &engine->graph, task);
	edges_writes(&builder, &copy->args, copy->ranges,
		     edges_reads(&builder, &copy->args, copy->ranges));
	/* What it writes is new, for the caches of other chips too. */
	if (engine->graph.names.on)
		edges_make_names(&builder, &copy->args, copy->ranges, NULL);
	edges_after(&builder, copy->options);
	if (orch->recorder)
		recorder_task(engine, orch->recorder, task, &args, copy->ranges, copy->options);
	submit_enter(engine, &builder);
	return 0;
}

/* *to gets the address of a tensor that had none. */
static int copy_submit(struct chip_copy *copy, struct dw_tensor *to, dw_task *id)
{
	struct engine *engine = copy->orch->run->engine;
	int result = copy_check(copy);

	if (result < 0)
		return result;
	lock_take(&engine->lock);
	progress_submits(&engine->progress);
	result = copy_enter_locked(copy, id);
	engine_work_some(engine);
	engine_unlock_and_wake(engine);
	if (result == 0)
		*to = copy->args.tensors[0];
	return result;
}

/* From one chip to another: out to the heap, and in. All that can be checked is checked first. */
static int submit_through_heap(struct dw_orch *orch, struct dw_tensor *to, uint32_t to_worker,
			       const struct dw_tensor *from, uint32_t from_worker,
			       const struct dw_submit_options *options, dw_task *id)
{
	struct dw_submit_options second = *options;
	struct dw_tensor between = *from;
	struct chip_copy copy;
	dw_task first;
	int result;

	between.data = 0;
	copy_init(&copy, orch, to, &between, options, to_worker);
	copy.args.tensor_count = 1;
	result = copy_check(&copy);
	if (result < 0)
		return result;
	copy_init(&copy, orch, &between, from, options, from_worker);
	result = copy_submit(&copy, &between, &first);
	if (result < 0)
		return result;
	second.after = &first;
	second.after_count = 1;
	copy_init(&copy, orch, to, &between, &second, to_worker);
	return copy_submit(&copy, to, id);
}

static int check_ranges(const struct dw_tensor *to, const struct dw_tensor *from)
{
	uint64_t to_bytes, from_bytes;
	int result = tensor_check(to, 0, &to_bytes);

	if (result == 0)
		result = tensor_check(from, 1, &from_bytes);
	if (result < 0)
		return error_prefix(result, "dw_submit_copy: `to` is tensor 0, `from` 1: ");
	if (to_bytes != from_bytes || !to_bytes)
		return error_set(-EINVAL,
				 "dw_submit_copy: `to` has %llu bytes and `from` %llu; they should "
				 "have as many, and at least 1",
				 (unsigned long long)to_bytes, (unsigned long long)from_bytes);
	if (to->data && to->data < from->data + from_bytes && from->data < to->data + to_bytes)
		return error_set(-EINVAL,
				 "dw_submit_copy: `to` (%#llx) and `from` (%#llx) overlap, %llu "
				 "bytes each",
				 (unsigned long long)to->data, (unsigned long long)from->data,
				 (unsigned long long)to_bytes);
	return 0;
}

static int submit_copy(struct dw_orch *orch, struct dw_tensor *to, const struct dw_tensor *from,
		       const struct dw_submit_options *options, dw_task *id)
{
	struct engine *engine = orch->run->engine;
	uint32_t to_worker = 0, from_worker = 0;
	struct chip_copy copy;
	bool to_chip, from_chip;
	uint64_t bytes;

	if (dw_tensor_bytes(to, &bytes) < 0)
		return -EINVAL;
	to_chip = chip_memory_worker(engine, to->data, bytes, &to_worker);
	from_chip = chip_memory_worker(engine, from->data, bytes, &from_worker);
	if (to_chip && from_chip && to_worker != from_worker)
		return submit_through_heap(orch, to, to_worker, from, from_worker, options, id);
	if (!to_chip && !from_chip)
		return error_set(-EINVAL,
				 "dw_submit_copy: neither `to` (%#llx) nor `from` (%#llx) is "
				 "device memory of %s, as dw_chip_memory_create() and "
				 "dw_chip_alloc() give it",
				 (unsigned long long)to->data, (unsigned long long)from->data,
				 engine->path);
	copy_init(&copy, orch, to, from, options, to_chip ? to_worker : from_worker);
	return copy_submit(&copy, to, id);
}

DW_API int dw_submit_copy(struct dw_orch *orch, struct dw_tensor *to, const struct dw_tensor *from,
			  const struct dw_submit_options *options, dw_task *task)
{
	static const struct dw_submit_options defaults = { .size = sizeof(defaults) };
	struct dw_submit_options full;
	dw_task id = 0;
	int result = orch_usable(orch);

	if (result == 0 && (!to || !from))
		result = error_set(-EINVAL, "dw_submit_copy: `%s` is NULL", to ? "from" : "to");
	if (result == 0 && !options)
		options = &defaults;
	else if (result == 0)
		result = orch_take_options(&options, &full);
	if (result == 0 && options->place)
		result = error_set(-EINVAL,
				   "options.place is DW_PLACE(%u): a copy goes to the chip that "
				   "has the memory, so it should be 0",
				   options->place - 1);
	if (result == 0)
		result = check_ranges(to, from);
	if (result == 0)
		result = submit_copy(orch, to, from, options, &id);
	if (result == 0 && task)
		*task = id;
	return result;
}
