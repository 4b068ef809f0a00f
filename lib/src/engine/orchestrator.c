/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What an orchestration function calls. Everything that can be wrong is checked
 * before anything is changed; then the task gets its slot, its memory, its edges.
 * One thread per Orchestrator.
 */
#include <errno.h>
#include <stdlib.h>
#include "engine/abandon.h"
#include "engine/chip_memory.h"
#include "engine/completion.h"
#include "engine/process.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/slot.h"
#include "engine/state.h"
#include "engine/submit.h"
#include "engine/wait.h"
#include "task/options.h"

static const char *const tag_names[] = {
	"INPUT", "OUTPUT", "INOUT", "OUTPUT_EXISTING", "NO_DEP",
};

int orch_usable(const struct dw_orch *orch)
{
	if (!orch)
		return error_set(-EINVAL, "the Orchestrator is NULL");
	if (UNLIKELY(orch->run->engine->process != process_serial()))
		return error_set(-EBADFD, "this Orchestrator belongs to another process: it was made before a fork");
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
		return error_set(-EINVAL, "%s.flags is %#x; only DW_CONFIG_PROFILING (%#x) and DW_CONFIG_DUMP_TENSOR (%#x) are known",
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
	if (options->after_count && !options->after)
		return error_set(-EINVAL, "options.after is NULL, after_count is %zu",
				 options->after_count);
	return 0;
}

/* Room for the ranges of `count` tensors; grows, and is kept for the next submit. */
int orch_ranges(struct dw_orch *orch, uint64_t count, struct range **ranges)
{
	if (UNLIKELY(count > orch->range_space)) {
		uint64_t space = count < 32 ? 32 : 2 * count;
		struct range *grown = realloc(orch->ranges, space * sizeof(*grown));

		if (!grown || space > UINT32_MAX)
			return error_set(-ENOMEM, "no memory for %llu tensors", (unsigned long long)count);
		orch->ranges = grown;
		orch->range_space = (uint32_t)space;
	}
	*ranges = orch->ranges;
	return 0;
}

/* Several declared tensors may cover it together. The wire has no tags: what is done with it is not checked. */
static int check_declared(const struct dw_run *run, size_t index, uint64_t begin, uint64_t bytes)
{
	const struct dw_args *declared = run->declared;
	uint64_t at = begin, declared_bytes;
	uint32_t next;

	/* Memory that this Worker has made itself is its own affair. */
	if (!run->engine->outer_arena || !arena_contains(run->engine->outer_arena, begin, bytes))
		return 0;
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
	if (at - begin >= bytes)
		return 0;
	return error_set(-EACCES, "tensor %zu, %#llx + %llu bytes, is not within what the task that runs this "
			 "orchestration declared", index, (unsigned long long)begin,
			 (unsigned long long)bytes);
}

/* UINT64_MAX: more than any heap has. */
static uint64_t heap_aligned(uint64_t bytes)
{
	if (bytes > UINT64_MAX - HEAP_ALIGN)
		return UINT64_MAX;
	return bytes ? (bytes + HEAP_ALIGN - 1) & ~(uint64_t)(HEAP_ALIGN - 1) : HEAP_ALIGN;
}

static int check_no_address(const struct dw_args *args, uint32_t i, struct range *range,
			    uint64_t bytes, uint64_t *output_bytes)
{
	if (bytes == 0) {
		range->end = 0;
		return 0;
	}
	if (args->tags[i] != DW_OUTPUT)
		return error_set(-EFAULT, "tensor %u (%s) has address 0; only OUTPUT is allocated", i,
				 tag_names[args->tags[i]]);
	/* begin stays 0 until the memory is there. */
	range->end = bytes;
	if (__builtin_add_overflow(*output_bytes, heap_aligned(bytes), output_bytes))
		*output_bytes = UINT64_MAX;
	return 0;
}

/* Checks all tensors, fills one range each, adds up what OUTPUT tensors without address need. */
int orch_check_args(struct dw_orch *orch, const struct dw_args *args, uint32_t worker,
		    struct range *ranges, uint64_t *output_bytes)
{
	const struct dw_run *run = orch->run;
	int result;

	if (args->tensor_count && !args->tags)
		return error_set(-EINVAL, "these arguments were received, and carry no tags: add their tensors to arguments of your own");
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
			result = chip_memory_check(orch, tensor->data, bytes, worker, i);
			if (result == 0)
				continue;
			if (result != -ENOENT)
				return result;
			return error_set(-EFAULT, "tensor %u (%s), %#llx + %llu bytes, lies outside the arena: "
					 "use dw_buffer_create, dw_buffer_register or dw_alloc", i,
					 tag_names[args->tags[i]], (unsigned long long)tensor->data,
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
	for (uint32_t i = 0; i < engine->pool_count; i++) {
		*pool = &engine->pools[i];
		if ((*pool)->kind == kind &&
		    (kind != DW_CHILD_CHIP || strcmp((*pool)->driver, callable->driver) == 0))
			return 0;
	}
	if (kind == DW_CHILD_CHIP)
		return error_set(-ENODEV, "%s has no chip of driver \"%s\", which \"%s\" needs",
				 engine->path, callable->driver, callable->name);
	return error_set(-ENODEV, "%s has no %s, which \"%s\" needs", engine->path,
			 kind == DW_CHILD_SUB ? "sub worker" : "nested Worker", callable->name);
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
		return error_set(-EINVAL, "options.place is DW_PLACE(%u), but \"%s\" goes to any sub worker: it should be 0",
				 id, callable->name);
	if (id >= engine->worker_count - engine->sub_count)
		return error_set(-EINVAL, "options.place is DW_PLACE(%u); there is DW_PLACE(0) … DW_PLACE(%u), or 0: any",
				 id, engine->worker_count - engine->sub_count - 1);
	*index = engine->sub_count + id;
	if (&engine->pools[engine->peers[*index].pool] != pool)
		return error_set(-EINVAL, "options.place is DW_PLACE(%u), which is %s and cannot run \"%s\"", id,
				 engine->peers[*index].path, callable->name);
	return 0;
}

static int check_alive(struct engine *engine, const struct pool *pool, uint32_t worker)
{
	if (worker != DW_ANY && peer_is_lost(&engine->peers[worker]))
		return error_set(-ENODEV, "%s is gone: %s", engine->peers[worker].path,
				 engine->peers[worker].cause ? engine->peers[worker].cause : "dead");
	if (!pool->usable)
		return error_set(-ENODEV, "%s: no worker of the kind that this task needs is left: %s",
				 engine->path, pool_cause(engine, (uint32_t)(pool - engine->pools)));
	return 0;
}

int orch_check_after_locked(struct dw_run *run, const struct dw_submit_options *options)
{
	for (size_t i = 0; i < options->after_count; i++) {
		struct slot *slot;

		if (!options->after[i])
			continue;
		slot = slot_find(run->engine, options->after[i]);
		if (!slot || (slot->head.generation == options->after[i] >> 32 &&
			      slot->head.state != TASK_FREE && slot->run != run))
			return error_set(-EINVAL, "options.after[%zu] is %#llx, which is no task of this run", i,
					 (unsigned long long)options->after[i]);
	}
	return 0;
}

/* ----------------------------------------------------------------- waiting */

static bool window_open(const struct waiter *waiter)
{
	const struct dw_run *run = waiter->run;

	return run->cancelled || run->submitted - run->finished < WINDOW_REFILL;
}

static int cancelled(const struct dw_run *run)
{
	return error_set(-ECANCELED, "the run was cancelled: %s", run->text);
}

/* A submitter that waits says so, to whoever looks. */
static int wait_blocked(struct engine *engine, struct waiter *waiter, enum blocked why,
			struct deadline *deadline)
{
	int result;

	__atomic_store_n(&engine->now->blocked_since, now_ns(), __ATOMIC_RELAXED);
	__atomic_store_n(&engine->now->blocked, why, __ATOMIC_RELAXED);
	result = wait_locked(engine, waiter, deadline);
	__atomic_store_n(&engine->now->blocked, BLOCKED_NOT, __ATOMIC_RELAXED);
	return result;
}

int orch_wait_for_window_locked(struct dw_orch *orch)
{
	struct dw_run *run = orch->run;

	if (UNLIKELY(run->submitted - run->finished >= WINDOW_TASKS)) {
		struct waiter waiter = { .ready = window_open, .engine = run->engine, .run = run };

		wait_blocked(run->engine, &waiter, BLOCKED_WINDOW, NULL);
	}
	return UNLIKELY(run->cancelled) ? cancelled(run) : 0;
}

static bool heap_moved(const struct waiter *waiter)
{
	return waiter->run->cancelled || waiter->engine->heap_serial != waiter->value;
}

static int heap_deadlock(uint64_t bytes, const struct heap_tail *tail)
{
	return error_set(-EDEADLK, "heap ring %u (%llu of %llu bytes in use) has no room for %llu bytes, and its oldest "
			 "block belongs to this function's own open scope at depth %u, which holds %llu "
			 "blocks, %llu bytes: end the scope, or make heap_ring_bytes larger",
			 tail->ring, (unsigned long long)tail->used_bytes,
			 (unsigned long long)tail->ring_bytes, (unsigned long long)bytes,
			 tail->scope->depth, (unsigned long long)tail->scope->blocks,
			 (unsigned long long)tail->scope->bytes);
}

static int heap_timed_out(const struct engine *engine, uint64_t bytes,
			  const struct heap_tail *tail)
{
	return error_set(-ENOBUFS, "heap ring %u (%llu of %llu bytes in use) has no room for %llu bytes, and nothing was given "
			 "back for %llu ms: its oldest block, %llu bytes, belongs to a scope at depth %u "
			 "that is %s, with %llu tasks or inner scopes alive",
			 tail->ring, (unsigned long long)tail->used_bytes,
			 (unsigned long long)tail->ring_bytes, (unsigned long long)bytes,
			 (unsigned long long)(engine->heap_timeout_ns / 1000000),
			 (unsigned long long)tail->block_bytes, tail->scope ? tail->scope->depth : 0,
			 tail->scope && tail->scope->open ? "open (in another run)" : "closed",
			 tail->scope ? (unsigned long long)tail->scope->alive : 0ULL);
}

static bool is_within(const struct slot *slot, const void *outer)
{
	const struct scope *scope = slot->scope;

	while (scope && scope != outer)
		scope = scope->outer;
	return scope;
}

/* -EDEADLK at once, -ENOBUFS when nothing moved for heap_timeout_ns, -ENOSPC, -ECANCELED. */
int orch_heap_alloc_locked(struct dw_orch *orch, uint64_t bytes, uint64_t *address)
{
	struct engine *engine = orch->run->engine;
	struct waiter waiter = { .ready = heap_moved, .engine = engine, .run = orch->run };
	struct deadline deadline;
	struct heap_tail tail;
	int result;

	while ((result = heap_alloc(engine->heap, orch->scope, bytes, address)) == -EAGAIN) {
		/* What has completed meanwhile may have given it back. */
		waiter.value = engine->heap_serial;
		engine_work(engine);
		if (engine->heap_serial != waiter.value)
			continue;
		heap_tail(engine->heap, orch->scope, &tail);
		if (tail.scope && tail.scope->open && nesting_inside(tail.scope->run))
			return heap_deadlock(bytes, &tail);
		/* What holds the tail shall be heard of; what enters a ring from now on is anyway. */
		if (tail.scope)
			want_completions(engine, is_within, tail.scope);
		engine->heap_waiters++;
		deadline = deadline_at(deadline_in(engine->heap_timeout_ns));
		result = wait_blocked(engine, &waiter, BLOCKED_HEAP, &deadline);
		engine->heap_waiters--;
		if (result < 0) {
			heap_tail(engine->heap, orch->scope, &tail);
			return heap_timed_out(engine, bytes, &tail);
		}
		if (orch->run->cancelled)
			return cancelled(orch->run);
	}
	return result;
}

/* OUTPUT tensors without address get theirs from *address on. */
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

/* ------------------------------------------------------------------- edges */

void link_begin(struct linking *linking, struct engine *engine, struct slot *consumer)
{
	linking->engine = engine;
	linking->consumer = consumer;
	linking->running_count = 0;
	linking->out_of_memory = false;
}

static void link_edge(struct slot *producer, enum edge_reason reason, void *context)
{
	struct linking *linking = context;
	struct slot *consumer = linking->consumer;
	struct edge *edge = producer->last;

	if (edge && edge->consumer == consumer) {
		edge->reasons |= (uint8_t)reason;
		return;
	}
	edge = slab_take(&linking->engine->edges);
	if (!edge) {
		linking->out_of_memory = true;
		return;
	}
	edge->next = NULL;
	edge->consumer = consumer;
	edge->reasons = (uint8_t)reason;
	edge->counted = false;
	if (producer->last)
		producer->last->next = edge;
	else
		producer->first = edge;
	producer->last = edge;
	consumer->waiting++;
	consumer->producers ^= producer->index;
	if (producer->flags & SLOT_LANE) {
		if (!consumer->in_lane)
			consumer->lane = producer->placed;
		if (consumer->lane == producer->placed) {
			edge->counted = true;
			consumer->in_lane++;
		}
	}
	if (producer->head.state == TASK_RUNNING && linking->running_count < URGENT_FEW)
		linking->running[linking->running_count++] = producer;
}

/* Bit per tag: which tensors one pass of link_pass() takes. */
#define TAGS_READING	(1u << DW_INPUT | 1u << DW_INOUT)
#define TAGS_WRITING	(1u << DW_OUTPUT | 1u << DW_OUTPUT_EXISTING)

/*
 * Either the tensors that are read or those that are only written. A task's reads come
 * first: where its own tensors overlap, it reads what was there before it. Returns the
 * tags that there are.
 */
static uint32_t link_pass(struct linking *linking, const struct dw_args *args,
			  const struct range *ranges, uint32_t wanted)
{
	struct slot *slot = linking->consumer;
	struct tensor_map *map = slot->run->map;
	struct task_ref ref = { slot, slot->head.generation };
	const uint8_t *tags = args->tags;
	uint32_t count = args->tensor_count, seen = 0;
	uint64_t poison = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t tag = 1u << tags[i];

		seen |= tag;
		if (!(tag & wanted) || ranges[i].begin == ranges[i].end)
			continue;
		if (tensor_map_access(map, ranges[i].begin, ranges[i].end, (enum dw_tag)tags[i], ref,
				      link_edge, linking, &poison) < 0)
			linking->out_of_memory = true;
	}
	if (UNLIKELY(poison)) {
		slot->flags |= SLOT_SKIP;
		slot->blame = poison;
	}
	return seen;
}

uint32_t link_reads(struct linking *linking, const struct dw_args *args,
		    const struct range *ranges)
{
	return link_pass(linking, args, ranges, TAGS_READING);
}

/* `seen`: what link_reads() returned. */
void link_writes(struct linking *linking, const struct dw_args *args, const struct range *ranges,
		 uint32_t seen)
{
	if (seen & TAGS_WRITING)
		link_pass(linking, args, ranges, TAGS_WRITING);
}

void link_range(struct linking *linking, uint64_t begin, uint64_t end, enum dw_tag tag)
{
	struct slot *slot = linking->consumer;
	struct task_ref ref = { slot, slot->head.generation };
	uint64_t poison = 0;

	if (tensor_map_access(slot->run->map, begin, end, tag, ref, link_edge, linking, &poison) < 0)
		linking->out_of_memory = true;
}

void link_after(struct linking *linking, const struct dw_submit_options *options)
{
	struct slot *slot = linking->consumer;

	PROBE(linking->engine, after, slot, options);
	for (size_t i = 0; i < options->after_count; i++) {
		dw_task task = options->after[i];
		struct slot *producer = task ? slot_find(linking->engine, task) : NULL;
		const struct failed *failed;

		if (!producer)
			continue;
		if (producer->head.generation == task >> 32 && producer->head.state < TASK_DONE) {
			link_edge(producer, EDGE_EXPLICIT, linking);
			continue;
		}
		failed = failed_find(&slot->run->failed, task);
		if (failed && failed->blame) {
			slot->flags |= SLOT_SKIP;
			slot->blame = failed->blame;
		}
	}
}

/* The task is in the graph: run it, put it behind its producers, or wait for them. */
void link_end(struct linking *linking)
{
	struct engine *engine = linking->engine;
	struct slot *slot = linking->consumer;

	if (UNLIKELY(linking->out_of_memory))
		run_cancel_locked(slot->run, -ENOMEM, "no memory for the edges of a task");
	if (UNLIKELY(slot->run->cancelled))
		slot->flags |= SLOT_CANCEL;
	PROBE(engine, task, slot, PROBE_SUBMITTED);
	if (!slot->waiting) {
		task_released(engine, slot);
		return;
	}
	if (linking->running_count &&
	    task_try_ahead(engine, slot, linking->running[linking->running_count - 1])) {
		for (uint32_t i = 0; i < linking->running_count; i++)
			linking->running[i]->flags |= SLOT_FOLLOWED;
		return;
	}
	if (slot->waiting <= URGENT_FEW)
		for (uint32_t i = 0; i < linking->running_count; i++)
			want_completion(engine, linking->running[i]);
}

/* ------------------------------------------------------------------- submit */

/* A slot of this run that counts as submitted; its payload, placement and edges follow. */
struct slot *orch_slot_new(struct dw_orch *orch, struct callable *callable,
			   const struct dw_submit_options *options)
{
	struct engine *engine = orch->run->engine;
	struct slot *slot = slot_new(engine);

	if (!slot)
		return NULL;
	slot->run = orch->run;
	slot->scope = orch->scope;
	slot->callable = callable;
	slot->payload.blob = NULL;
	slot->payload.owned = false;
	slot->name = NULL;
	slot->timeout_ns = options->timeout_ns;
	slot->retries = (uint16_t)options->retries;
	slot->block_dim = options->config.block_dim;
	slot->aicpu_thread_num = options->config.aicpu_thread_num;
	slot->config_flags = options->config.flags;
	return slot;
}

/* From here on the slot is a task. */
void slot_enter(struct slot *slot)
{
	struct dw_run *run = slot->run;

	slot->head.state = TASK_PENDING;
	__atomic_store_n(&run->submitted, run->submitted + 1, __ATOMIC_RELAXED);
	slot->head.number = run->submitted;
	scope_get(slot->scope);
	engine_count(run->engine, submitted);
}

struct submission {
	struct dw_orch *orch;
	struct callable *callable;
	struct dw_args *args;
	const struct dw_submit_options *options;
	struct pool *pool;
	uint32_t worker;
	struct range *ranges;
	uint64_t output_bytes;
};

static int submit_locked(const struct submission *submission, dw_task *task)
{
	struct dw_orch *orch = submission->orch;
	struct engine *engine = orch->run->engine;
	const struct dw_submit_options *options = submission->options;
	struct linking linking;
	uint64_t address = 0, next;
	struct slot *slot;
	int result;

	result = orch_wait_for_window_locked(orch);
	if (result == 0)
		result = check_alive(engine, submission->pool, submission->worker);
	if (result == 0 && options->after_count)
		result = orch_check_after_locked(orch->run, options);
	if (UNLIKELY(result == 0 && engine->kept_count))
		result = kept_check(engine, submission->ranges, submission->args->tensor_count);
	if (result < 0)
		return result;
	if (submission->output_bytes) {
		result = orch_heap_alloc_locked(orch, submission->output_bytes, &address);
		if (result < 0)
			return result;
		next = address;
		orch_place_outputs(submission->args, submission->ranges, &next);
	}
	slot = orch_slot_new(orch, submission->callable, options);
	result = slot ? payload_make(engine, &slot->payload, submission->args, options->name,
				     slot->storage, sizeof(slot->storage), &slot->name) :
		 error_set(-ENOMEM, "no memory for a task");
	if (UNLIKELY(result < 0)) {
		orch_unplace_outputs(submission->args, address, submission->output_bytes);
		if (slot)
			slot_free(engine, slot);
		return result;
	}
	slot->pool = (uint16_t)(submission->pool - engine->pools);
	slot->worker = submission->worker;
	slot_enter(slot);
	if (task)
		*task = slot_id(slot);
	link_begin(&linking, engine, slot);
	link_writes(&linking, submission->args, submission->ranges,
		    link_reads(&linking, submission->args, submission->ranges));
	if (options->after_count)
		link_after(&linking, options);
	link_end(&linking);
	return 0;
}

static int submit_prepare(struct submission *submission)
{
	struct engine *engine = submission->orch->run->engine;
	int result;

	result = orch_find_pool(engine, submission->callable, &submission->pool);
	if (result == 0)
		result = find_worker(engine, submission->pool, submission->options->place,
				     submission->callable, &submission->worker);
	if (result == 0)
		result = orch_ranges(submission->orch, submission->args->tensor_count,
				     &submission->ranges);
	if (result == 0)
		result = orch_check_args(submission->orch, submission->args, submission->worker,
					 submission->ranges, &submission->output_bytes);
	return result;
}

DW_API int dw_submit(struct dw_orch *orch, dw_callable handle, struct dw_args *args,
		     const struct dw_submit_options *options, dw_task *task)
{
	static const struct dw_submit_options defaults = { .size = sizeof(defaults) };
	struct submission submission = {
		.orch = orch, .args = args, .options = options ? options : &defaults,
	};
	struct dw_submit_options full;
	struct engine *engine;
	int result;

	result = orch_usable(orch);
	if (result == 0 && !args)
		result = error_set(-EINVAL, "args is NULL");
	if (result == 0 && options)
		result = orch_take_options(&submission.options, &full);
	if (result == 0)
		result = callable_hold(handle, &submission.callable);
	if (result < 0)
		return result;
	result = submit_prepare(&submission);
	if (result == 0) {
		engine = orch->run->engine;
		lock_take(&engine->lock);
		engine->submits++;
		result = submit_locked(&submission, task);
		engine_work_some(engine);
		engine_unlock_and_wake(engine);
	}
	if (UNLIKELY(result < 0))
		callable_put(submission.callable);
	return result;
}

/* -------------------------------------------------------- alloc, scopes, … */

DW_API int dw_alloc(struct dw_orch *orch, int dtype, const uint32_t *shape, uint32_t ndims,
		    struct dw_tensor *tensor)
{
	struct dw_tensor made;
	struct engine *engine;
	uint64_t bytes;
	int result;

	result = orch_usable(orch);
	if (result == 0 && !tensor)
		result = error_set(-EINVAL, "tensor is NULL");
	if (result == 0)
		result = dw_tensor_init(&made, NULL, dtype, shape, ndims);
	if (result == 0)
		result = dw_tensor_bytes(&made, &bytes);
	if (result < 0)
		return result;
	engine = orch->run->engine;
	lock_take(&engine->lock);
	result = orch->run->cancelled ? cancelled(orch->run) :
		 orch_heap_alloc_locked(orch, heap_aligned(bytes), &made.data);
	engine_unlock_and_wake(engine);
	if (result == 0)
		*tensor = made;
	return result;
}

DW_API int dw_scope_begin(struct dw_orch *orch)
{
	struct engine *engine;
	struct scope *scope;
	int result = orch_usable(orch);

	if (result < 0)
		return result;
	if (orch->scope->depth >= SCOPE_MAX_DEPTH)
		return error_set(-EOVERFLOW, "%d scopes are open; no more fit into each other",
				 SCOPE_MAX_DEPTH);
	engine = orch->run->engine;
	lock_take(&engine->lock);
	result = scope_create(orch->scope, orch->run, &scope);
	if (result == 0)
		orch->scope = scope;
	lock_give(&engine->lock);
	return result;
}

DW_API int dw_scope_end(struct dw_orch *orch)
{
	struct engine *engine;
	struct scope *scope;
	int result = orch_usable(orch);

	if (result < 0)
		return result;
	scope = orch->scope;
	if (!scope->outer)
		return error_set(-EINVAL, "no scope is open: dw_scope_end() without dw_scope_begin()");
	engine = orch->run->engine;
	lock_take(&engine->lock);
	orch->scope = scope->outer;
	scope->open = false;
	if (scope_put(engine->heap, scope)) {
		engine->heap_serial++;
		waiters_settle(engine);
	}
	engine_unlock_and_wake(engine);
	return 0;
}

DW_API uint32_t dw_orch_worker_count(const struct dw_orch *orch)
{
	return orch_usable(orch) == 0 ? orch->run->engine->worker_count - orch->run->engine->sub_count : 0;
}

DW_API uint32_t dw_orch_sub_count(const struct dw_orch *orch)
{
	return orch_usable(orch) == 0 ? orch->run->engine->sub_count : 0;
}

struct engine *orch_engine(struct dw_orch *orch)
{
	return orch->run->engine;
}

void *engine_context(const struct engine *engine)
{
	return engine->ops_context;
}
