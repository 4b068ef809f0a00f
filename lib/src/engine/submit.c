/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The submit of one task, and the parts that group submits share. All errors are checked
 * before anything is changed; then the task gets its memory and its edges.
 * One thread per Orchestrator.
 */
#include <errno.h>
#include <stdlib.h>
#include "base/text.h"
#include "engine/chip_memory.h"
#include "engine/process.h"
#include "engine/progress.h"
#include "engine/record.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/stuck.h"
#include "engine/submit.h"
#include "task/options.h"

static const char *const tag_names[] = {
	"INPUT", "OUTPUT", "INOUT", "OUTPUT_EXISTING", "NO_DEP",
};

int orch_usable(const struct dw_orch *orch)
{
	if (!orch)
		return error_set(-EINVAL, "the Orchestrator is NULL");
	if (UNLIKELY(orch->run->engine->process != process_serial()))
		return error_set(-EBADFD,
				 "this Orchestrator belongs to another process: it was made "
				 "before a fork");
	return 0;
}

/* ------------------------------------------------------------------ checks */

#define KNOWN_FLAGS (DW_CONFIG_PROFILING | DW_CONFIG_DUMP_TENSOR)

int engine_check_config(const struct dw_config *config, const char *what)
{
	if (config->block_dim < 0)
		return error_set(-EINVAL, "%s.block_dim is %d; it should be 0 or more", what,
				 config->block_dim);
	if (config->aicpu_thread_num < 0)
		return error_set(-EINVAL, "%s.aicpu_thread_num is %d; it should be 0 or more", what,
				 config->aicpu_thread_num);
	if (config->flags & ~KNOWN_FLAGS)
		return error_set(-EINVAL,
				 "%s.flags is %#x; only DW_CONFIG_PROFILING (%#x) and "
				 "DW_CONFIG_DUMP_TENSOR (%#x) are known",
				 what, config->flags, DW_CONFIG_PROFILING, DW_CONFIG_DUMP_TENSOR);
	if (config->reserved[0] || config->reserved[1])
		return error_set(-EINVAL, "%s.reserved is not 0", what);
	return 0;
}

int orch_take_options(const struct dw_submit_options **given, struct dw_submit_options *full)
{
	const struct dw_submit_options *options = *given;
	int result;

	if (UNLIKELY(options->size != sizeof(*options))) {
		result = options_read(full, sizeof(*full), options, "dw_submit_options");
		if (result < 0)
			return result;
		*given = options = full;
	}
	result = engine_check_config(&options->config, "options.config");
	if (result)
		return result;
	if (options->retries > UINT16_MAX)
		return error_set(-EINVAL, "options.retries is %u; at most 65535", options->retries);
	if (options->priority < DW_PRIORITY_MIN || options->priority > DW_PRIORITY_MAX)
		return error_set(-EINVAL, "options.priority is %d; it should be from %d to %d",
				 options->priority, DW_PRIORITY_MIN, DW_PRIORITY_MAX);
	if (options->after_count && !options->after)
		return error_set(-EINVAL, "options.after is NULL, after_count is %zu",
				 options->after_count);
	return 0;
}

/*
 * Several declared tensors may cover the range together. The wire has no tags: the kind of access
 * is not checked.
 */
bool orch_is_declared(const struct dw_run *run, uint64_t begin, uint64_t bytes)
{
	const struct dw_args *declared = run->declared;
	uint64_t at = begin, declared_bytes;
	uint32_t next;

	/* Memory of this Worker's own need not be declared. */
	if (!run->engine->outer_arena || !arena_contains(run->engine->outer_arena, begin, bytes))
		return true;
	do {
		for (next = 0; next < declared->tensor_count; next++) {
			const struct dw_tensor *tensor = &declared->tensors[next];

			if (dw_tensor_bytes(tensor, &declared_bytes) == 0 && at >= tensor->data &&
			    at - tensor->data < declared_bytes) {
				at = tensor->data + declared_bytes;
				break;
			}
		}
	} while (next < declared->tensor_count && at - begin < bytes);
	return at - begin >= bytes;
}

static int check_declared(const struct dw_run *run, size_t index, uint64_t begin, uint64_t bytes)
{
	if (orch_is_declared(run, begin, bytes))
		return 0;
	return error_set(
		-EACCES,
		"tensor %zu, %#llx + %llu bytes, is not within what the task that runs this "
		"orchestration declared",
		index, (unsigned long long)begin, (unsigned long long)bytes);
}

static int check_no_address(const struct dw_args *args, uint32_t i, struct range *range,
			    uint64_t bytes, uint64_t *output_bytes)
{
	if (bytes == 0) {
		range->end = 0;
		return 0;
	}
	if (args->tags[i] != DW_OUTPUT)
		return error_set(-EFAULT, "tensor %u (%s) has address 0; only OUTPUT is allocated",
				 i, tag_names[args->tags[i]]);
	/* begin stays 0 until the memory is there. */
	range->end = bytes;
	if (__builtin_add_overflow(*output_bytes, heap_aligned(bytes), output_bytes))
		*output_bytes = UINT64_MAX;
	return 0;
}

int orch_check_args(struct dw_orch *orch, const struct dw_args *args, uint32_t worker,
		    struct range *ranges, uint64_t *output_bytes)
{
	const struct dw_run *run = orch->run;
	int result;

	if (args->tensor_count && !args->tags)
		return error_set(-EINVAL,
				 "these arguments were received, and carry no tags: add their "
				 "tensors to arguments of your own");
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		const struct dw_tensor *tensor = &args->tensors[i];
		uint64_t bytes;

		result = tensor_check(tensor, i, &bytes);
		if (UNLIKELY(result < 0))
			return result;
		ranges[i].begin = tensor->data;
		ranges[i].end = tensor->data + bytes;
		if (!tensor->data) {
			result = check_no_address(args, i, &ranges[i], bytes, output_bytes);
			if (result < 0)
				return result;
			continue;
		}
		if (!bytes)
			continue;
		if (UNLIKELY(!arena_contains(run->engine->arena, tensor->data, bytes))) {
			result = chip_memory_check(run->engine, &run->graph, tensor->data, bytes,
						   worker, i);
			if (result == 0)
				continue;
			if (result != -ENOENT)
				return result;
			return error_set(
				-EFAULT,
				"tensor %u (%s), %#llx + %llu bytes, lies outside the arena: "
				"use dw_buffer_create, dw_buffer_register or dw_alloc",
				i, tag_names[args->tags[i]], (unsigned long long)tensor->data,
				(unsigned long long)bytes);
		}
		if (UNLIKELY(run->declared != NULL)) {
			result = check_declared(run, i, tensor->data, bytes);
			if (result < 0)
				return result;
		}
	}
	return 0;
}

int orch_find_pool(struct engine *engine, const struct callable *callable, struct pool **pool)
{
	enum dw_child_kind kind = DW_CHILD_SUB;

	if (callable->kind == CALLABLE_ORCH || callable->kind == CALLABLE_SYMBOL_ORCH)
		kind = DW_CHILD_WORKER;
	else if (callable->kind == CALLABLE_IMAGE)
		kind = DW_CHILD_CHIP;
	for (uint32_t i = 0; i < engine->schedule.pool_count; i++) {
		*pool = &engine->schedule.pools[i];
		if ((*pool)->kind == kind &&
		    (kind != DW_CHILD_CHIP || strcmp((*pool)->driver, callable->driver) == 0))
			return 0;
	}
	if (kind == DW_CHILD_CHIP)
		return error_set(-ENODEV, "%s has no chip of driver \"%s\", which \"%s\" needs",
				 engine->path, text_short(callable->driver),
				 text_short(callable->name));
	return error_set(-ENODEV, "%s has no %s, which \"%s\" needs", engine->path,
			 kind == DW_CHILD_SUB ? "sub worker" : "nested Worker",
			 text_short(callable->name));
}

/* The index of the worker that a task is directed to, or DW_ANY. */
static int find_worker(struct engine *engine, const struct pool *pool, uint32_t place,
		       const struct callable *callable, uint32_t *index)
{
	uint32_t id = place - 1;

	*index = DW_ANY;
	if (!place)
		return 0;
	if (pool->kind == DW_CHILD_SUB)
		return error_set(-EINVAL,
				 "options.place is DW_PLACE(%u), but \"%s\" goes to any sub "
				 "worker: it should be 0",
				 id, text_short(callable->name));
	if (id >= engine->rings.count - engine->schedule.sub_count)
		return error_set(-EINVAL,
				 "options.place is DW_PLACE(%u); there is DW_PLACE(0) … "
				 "DW_PLACE(%u), or 0: any",
				 id, engine->rings.count - engine->schedule.sub_count - 1);
	*index = engine->schedule.sub_count + id;
	if (&engine->schedule.pools[engine->rings.all[*index].pool] != pool)
		return error_set(-EINVAL,
				 "options.place is DW_PLACE(%u), which is %s and cannot run "
				 "\"%s\"",
				 id, engine->rings.all[*index].path, text_short(callable->name));
	return 0;
}

static inline int check_alive(const struct engine *engine, const struct pool *pool, uint32_t worker)
{
	if (worker != DW_ANY && ring_is_lost(&engine->rings.all[worker]))
		return error_set(-ENODEV, "%s is gone: %s", engine->rings.all[worker].path,
				 ring_cause(&engine->rings.all[worker], "dead"));
	if (!pool->usable)
		return error_set(-ENODEV,
				 "%s: no worker of the kind that this task needs is left: %s",
				 engine->path,
				 schedule_cause(&engine->schedule,
						(uint32_t)(pool - engine->schedule.pools)));
	return 0;
}

int orch_check_alive_locked(const struct engine *engine, const struct pool *pool, uint32_t worker)
{
	return check_alive(engine, pool, worker);
}

int orch_check_after_locked(struct dw_run *run, const struct dw_submit_options *options)
{
	for (size_t i = 0; i < options->after_count; i++) {
		uint32_t generation = options->after[i] >> 32;
		struct task *task;

		if (!options->after[i])
			continue;
		task = task_find(&run->engine->graph.tasks, options->after[i]);
		/*
		 * An older generation has ended; a later one, or a free one, was never given out.
		 */
		if (!task || (int32_t)(generation - task->head.generation) > 0 ||
		    (generation == task->head.generation &&
		     (task->head.state == TASK_FREE || task->run != &run->graph)))
			return error_set(
				-EINVAL,
				"options.after[%zu] is %#llx, which is no task of this run", i,
				(unsigned long long)options->after[i]);
	}
	return 0;
}

/* ----------------------------------------------------------------- waiting */

static bool window_open(const struct waiter *waiter)
{
	const struct dw_run *run = waiter->run;

	return run->graph.cancelled || run->graph.submitted - run->graph.finished < WINDOW_REFILL;
}

int orch_cancelled(const struct dw_run *run)
{
	return error_set(-ECANCELED, "the run was cancelled: %s", run->graph.text);
}

/* The engine's status shows that a submitter waits. */
static int wait_blocked(struct engine *engine, struct waiter *waiter, enum blocked why,
			struct deadline *deadline)
{
	int result;

	counters_blocked(&engine->counters, why, now_ns());
	result = run_wait_locked(waiter, deadline);
	counters_blocked(&engine->counters, BLOCKED_NOT, 0);
	return result;
}

static int window_wait(struct dw_run *run)
{
	struct waiter waiter = { .ready = window_open, .engine = run->engine, .run = run };

	return wait_blocked(run->engine, &waiter, BLOCKED_WINDOW, NULL);
}

static inline int wait_for_window(struct dw_run *run)
{
	int result = 0;

	if (UNLIKELY(run->graph.submitted - run->graph.finished >= WINDOW_TASKS))
		result = window_wait(run);
	return UNLIKELY(result == 0 && run->graph.cancelled) ? orch_cancelled(run) : result;
}

int orch_wait_for_window_locked(struct dw_orch *orch)
{
	return wait_for_window(orch->run);
}

int orch_wait_for_window_again_locked(struct dw_orch *orch)
{
	struct dw_run *run = orch->run;
	struct waiter waiter = { .ready = window_open, .engine = run->engine, .run = run };

	if (run->graph.submitted - run->graph.finished >= WINDOW_TASKS) {
		counters_blocked(&run->engine->counters, BLOCKED_WINDOW, now_ns());
		wait_locked(run->engine, &waiter, NULL);
		counters_blocked(&run->engine->counters, BLOCKED_NOT, 0);
	}
	return run->graph.cancelled ? orch_cancelled(run) : 0;
}

int orch_not_recording(const struct dw_orch *orch, const char *call, const char *instead)
{
	return LIKELY(!orch->recorder) ? 0 :
	       error_set(-EINVAL, "%s inside recording \"%s\": %s", call,
			 text_short(recorder_name(orch->recorder)), instead);
}

static bool heap_moved(const struct waiter *waiter)
{
	return waiter->run->graph.cancelled || heap_serial(waiter->engine->heap) != waiter->value;
}

static int heap_deadlock(uint64_t bytes, const struct heap_tail *tail)
{
	return error_set(
		-EDEADLK,
		"heap ring %u (%llu of %llu bytes in use) has no room for %llu "
		"bytes, and its oldest block belongs to this function's own open scope at depth "
		"%u, which holds %llu blocks, %llu bytes: end the scope, or make "
		"heap_ring_bytes larger",
		tail->ring, (unsigned long long)tail->used_bytes,
		(unsigned long long)tail->ring_bytes, (unsigned long long)bytes, tail->scope->depth,
		(unsigned long long)tail->scope->blocks, (unsigned long long)tail->scope->bytes);
}

static int heap_timed_out(const struct engine *engine, uint64_t bytes,
			  const struct heap_tail *tail)
{
	return error_set(
		-ENOBUFS,
		"heap ring %u (%llu of %llu bytes in use) has no room for %llu "
		"bytes, and nothing was given back for %llu ms: its oldest block, %llu bytes, "
		"belongs to a scope at depth %u that is %s, with %llu tasks or inner scopes "
		"alive",
		tail->ring, (unsigned long long)tail->used_bytes,
		(unsigned long long)tail->ring_bytes, (unsigned long long)bytes,
		(unsigned long long)(engine->heap_timeout_ns / 1000000),
		(unsigned long long)tail->block_bytes, tail->scope ? tail->scope->depth : 0,
		tail->scope && tail->scope->open ? "open (in another run)" : "closed",
		tail->scope ? (unsigned long long)tail->scope->alive : 0ULL);
}

static bool is_within(const struct task *task, const void *outer)
{
	const struct scope *scope = task->scope;

	while (scope && scope != outer)
		scope = scope->outer;
	return scope;
}

int orch_heap_alloc_locked(struct dw_orch *orch, uint64_t bytes, uint64_t *address)
{
	struct engine *engine = orch->run->engine;
	struct waiter waiter = { .ready = heap_moved, .engine = engine, .run = orch->run };
	struct deadline deadline;
	struct heap_tail tail;
	int result;

	if (UNLIKELY(orch->recorder != NULL))
		return recorder_alloc(engine, orch->recorder, bytes, address);
	while ((result = heap_alloc(engine->heap, orch->scope, bytes, address)) == -EAGAIN) {
		/* Completions in the meantime may have freed memory. */
		waiter.value = heap_serial(engine->heap);
		engine_work(engine);
		if (heap_serial(engine->heap) != waiter.value)
			continue;
		heap_tail(engine->heap, orch->scope, &tail);
		if (tail.scope && tail.scope->open && nesting_inside(run_of(tail.scope->run)))
			return heap_deadlock(bytes, &tail);
		/*
		 * The tasks that hold the tail have to report; later frames do so anyway.
		 */
		if (tail.scope)
			request_notify_all(&engine->rings, is_within, tail.scope);
		graph_report_all(&engine->graph, 1);
		deadline = deadline_at(deadline_in(engine->heap_timeout_ns));
		result = wait_blocked(engine, &waiter, BLOCKED_HEAP, &deadline);
		graph_report_all(&engine->graph, -1);
		if (result == -ERESTART)
			return result;
		if (result < 0) {
			heap_tail(engine->heap, orch->scope, &tail);
			return heap_timed_out(engine, bytes, &tail);
		}
		if (orch->run->graph.cancelled)
			return orch_cancelled(orch->run);
	}
	return result;
}

void orch_place_outputs(struct dw_args *args, struct range *ranges, uint64_t *address)
{
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		uint64_t bytes = ranges[i].end;

		if (args->tensors[i].data || !bytes)
			continue;
		args->tensors[i].data = *address;
		ranges[i].begin = *address;
		ranges[i].end = *address + bytes;
		*address += heap_aligned(bytes);
	}
}

void orch_unplace_outputs(struct dw_args *args, uint64_t address, uint64_t bytes)
{
	for (uint32_t i = 0; i < args->tensor_count; i++)
		if (args->tensors[i].data - address < bytes)
			args->tensors[i].data = 0;
}

/* ------------------------------------------------------------------- submit */

/* Only inlined functions get its address, so that the compiler keeps it in registers. */
struct submission {
	struct dw_orch *orch;
	struct callable *callable;
	struct dw_args *args;
	const struct dw_submit_options *options;
	struct pool *pool;
	uint32_t worker;
	const struct frame_names *names; /* instead of those of this engine; NULL */
	struct range *ranges;
	uint64_t output_bytes;
};

void submit_named_edges(struct edge_builder *builder, const struct dw_args *args,
			const struct range *ranges, const struct frame_names *given)
{
	struct payload *payload = &builder->consumer->payload;
	struct frame_names *names = payload_names(payload, args);

	if (names)
		edges_see_names(builder, args, ranges, names);
	edges_writes(builder, args, ranges, edges_reads(builder, args, ranges));
	edges_make_names(builder, args, ranges, names);
	if (names && given)
		memcpy(names, given, args->tensor_count * sizeof(*names));
	if (names)
		payload_names_done(payload, args);
}

/* These get values, and not the submission's address: see there. */
static __attribute__((noinline)) int check_seldom_locked(const struct dw_orch *orch,
							 const struct callable *callable,
							 const struct dw_args *args,
							 const struct range *ranges,
							 const struct dw_submit_options *options)
{
	struct engine *engine = orch->run->engine;
	int result = 0;

	if (engine->rings.kept_count)
		result = stuck_check(&engine->rings, ranges, args->tensor_count);
	if (result == 0 && engine->graph.names.checks)
		result = names_check(&engine->graph.names, callable, args, ranges);
	if (result == 0 && orch->recorder)
		result = recorder_check(engine, orch->recorder, args, ranges, options);
	return result;
}

static __attribute__((noinline)) void record(const struct dw_orch *orch, const struct task *task,
					     struct dw_args *args, const struct range *ranges,
					     const struct dw_submit_options *options)
{
	recorder_task(orch->run->engine, orch->recorder, task, &args, ranges, options);
}

static inline int submit_locked(const struct submission *submission, dw_task *id)
{
	struct dw_orch *orch = submission->orch;
	struct engine *engine = orch->run->engine;
	const struct dw_submit_options *options = submission->options;
	struct edge_builder builder;
	uint64_t address = 0, next;
	struct task *task;
	int result;

	result = wait_for_window(orch->run);
	if (result == 0)
		result = check_alive(engine, submission->pool, submission->worker);
	if (result == 0 && options->after_count)
		result = orch_check_after_locked(orch->run, options);
	if (UNLIKELY(engine->rings.kept_count || engine->graph.names.checks || orch->recorder) &&
	    result == 0)
		result = check_seldom_locked(orch, submission->callable, submission->args,
					     submission->ranges, options);
	if (result < 0)
		return result;
	if (submission->output_bytes) {
		result = orch_heap_alloc_locked(orch, submission->output_bytes, &address);
		if (result < 0)
			return result;
		next = address;
		orch_place_outputs(submission->args, submission->ranges, &next);
	}
	task = graph_task_new(&engine->graph, &orch->run->graph, orch->scope, submission->callable,
			      options);
	result = task ? payload_make(&engine->graph.tasks, &task->payload, submission->args,
				     submission->pool->has_memory, options->name, task->storage) :
			error_set(-ENOMEM, "no memory for a task");
	if (UNLIKELY(result < 0)) {
		orch_unplace_outputs(submission->args, address, submission->output_bytes);
		if (task)
			task_free(&engine->graph.tasks, task);
		return result;
	}
	task_keep_name(task, &task->payload, submission->args, options->name);
	task_set_target(task, (uint16_t)(submission->pool - engine->schedule.pools),
			submission->worker);
	graph_enter(&engine->graph, task);
	if (id)
		*id = task_id(task);
	edges_begin(&builder, &engine->graph, task);
	if (UNLIKELY(engine->graph.names.on))
		submit_named_edges(&builder, submission->args, submission->ranges,
				   submission->names);
	else
		edges_writes(&builder, submission->args, submission->ranges,
			     edges_reads(&builder, submission->args, submission->ranges));
	if (options->after_count)
		edges_after(&builder, options);
	if (UNLIKELY(orch->recorder != NULL))
		record(orch, task, submission->args, submission->ranges, options);
	submit_enter(engine, &builder);
	return 0;
}

/* Tags of bytes that other tasks may write meanwhile, which another host would not see. */
static int check_elsewhere(const struct engine *engine, uint32_t worker, const struct dw_args *args)
{
	if (worker != DW_ANY && !engine->rings.all[worker].elsewhere)
		return 0;
	for (uint32_t i = 0; i < args->tensor_count; i++)
		if (args->tags[i] == DW_NO_DEP || args->tags[i] == DW_OUTPUT_EXISTING)
			return error_set(-EOPNOTSUPP,
					 "tensor %u is %s, and the task may go to a Worker on "
					 "another host, which takes INPUT, OUTPUT and INOUT: "
					 "direct the task to a Worker of this host "
					 "(options.place)",
					 i, tag_names[args->tags[i]]);
	return 0;
}

static inline int submit_prepare(struct submission *submission)
{
	struct engine *engine = submission->orch->run->engine;
	struct dw_args *args = submission->args;
	uint64_t output_bytes = 0;
	struct range *ranges;
	struct pool *pool;
	uint32_t worker;
	int result;

	result = orch_find_pool(engine, submission->callable, &pool);
	if (result < 0)
		return result;
	result = find_worker(engine, pool, submission->options->place, submission->callable,
			     &worker);
	if (UNLIKELY(result == 0 && pool->elsewhere))
		result = check_elsewhere(engine, worker, args);
	if (result == 0)
		result = orch_ranges(submission->orch, args->tensor_count, &ranges);
	if (result < 0)
		return result;
	if (args->tensor_count)
		result = orch_check_args(submission->orch, args, worker, ranges, &output_bytes);
	submission->pool = pool;
	submission->worker = worker;
	submission->ranges = ranges;
	submission->output_bytes = output_bytes;
	return result;
}

static const struct dw_submit_options defaults = { .size = sizeof(defaults) };

/* The one path of all submits, so that the compiler makes one function of it. */
static int submit(struct dw_orch *orch, dw_callable handle, struct dw_args *args,
		  const struct dw_submit_options *options, const struct frame_names *names,
		  dw_task *task)
{
	struct submission submission = {
		.orch = orch, .args = args, .options = options, .names = names,
	};
	struct engine *engine = orch->run->engine;
	struct callable *callable;
	int result = callable_hold(handle, &callable);

	if (result < 0)
		return result;
	submission.callable = callable;
	result = submit_prepare(&submission);
	if (result == 0) {
		lock_take(&engine->lock);
		progress_submits(&engine->progress);
		result = submit_locked(&submission, task);
		engine_work_some(engine);
		engine_unlock_and_wake(engine);
	}
	if (UNLIKELY(result < 0))
		callable_put(callable);
	return result;
}

DW_API int dw_submit(struct dw_orch *orch, dw_callable handle, struct dw_args *args,
		     const struct dw_submit_options *options, dw_task *task)
{
	struct dw_submit_options full;
	int result;

	result = orch_usable(orch);
	if (result == 0 && !args)
		result = error_set(-EINVAL, "args is NULL");
	if (result == 0 && options)
		result = orch_take_options(&options, &full);
	if (result < 0)
		return result;
	return submit(orch, handle, args, options ? options : &defaults, NULL, task);
}

int engine_submit_named(struct dw_orch *orch, dw_callable handle, struct dw_args *args,
			const struct dw_config *config, const struct frame_names *names)
{
	const struct dw_submit_options options = { .size = sizeof(options), .config = *config };

	return submit(orch, handle, args, &options, names, NULL);
}
