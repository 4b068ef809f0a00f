/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Device memory of chips: tensors that stay on a device between tasks. Their
 * addresses are numbers that no process has memory at, so a tensor means the same range in the
 * tensor map as any other, nobody can touch it, and only the driver of the chip that it
 * lies on knows what is behind it.
 *
 * Allocation is a control frame that is waited for. Freeing is a task that overwrites
 * the range, directed to the chip: so it comes after everything that uses the memory. What is
 * left when a run ends is freed then.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "engine/chip_memory.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"
#include "engine/submit.h"

#define WINDOW_BYTES	(1ULL << 40)
#define WINDOWS		(1U << 15)
/*
 * Bits 63 and 55 and no others above the windows: user space has no such address on x86-64 (not canonical)
 * nor on arm64 (the kernel's half, whatever the tag), in any process.
 */
#define WINDOW_FIRST	0x8080000000000000ULL
#define BLOCK_ALIGN	4096

/* Sorted by address, over all runs. */
struct chip_block {
	struct chip_block *next;
	struct dw_run *run;
	uint64_t begin, bytes;
	uint32_t worker;
	bool freeing;
};

/* What the task that frees looks like to the rest of the engine; its frame is a control frame. */
static struct callable free_callable = {
	.handle = ENGINE_CONTROL_CHIP_FREE,
	.name = (char *)"chip_free",
};

bool chip_memory_is_control(const struct callable *callable)
{
	return callable == &free_callable;
}

/* ---------------------------------------------------------------- addresses */

/* Each engine has a window of its own, so that a tensor of one is not taken for another's. */
static void window_open(struct engine *engine)
{
	static _Atomic uint32_t opened;
	uint64_t number;

	if (engine->chip_window)
		return;
	number = (uint64_t)getpid() * 16 +
		 atomic_fetch_add_explicit(&opened, 1, memory_order_relaxed) % 16;
	engine->chip_window = WINDOW_FIRST + number % WINDOWS * WINDOW_BYTES;
}

void chip_memory_destroy(struct engine *engine)
{
	struct chip_block *block;

	while ((block = engine->chip_blocks)) {
		engine->chip_blocks = block->next;
		free(block);
	}
}

/* First fit; there are few. */
static int block_place(struct engine *engine, struct chip_block *block)
{
	uint64_t space = (block->bytes + BLOCK_ALIGN - 1) & ~(uint64_t)(BLOCK_ALIGN - 1);
	uint64_t at = engine->chip_window, end = at + WINDOW_BYTES;
	struct chip_block **link = &engine->chip_blocks;

	for (; *link; link = &(*link)->next) {
		if ((*link)->begin - at >= space)
			break;
		at = ((*link)->begin + (*link)->bytes + BLOCK_ALIGN - 1) &
		     ~(uint64_t)(BLOCK_ALIGN - 1);
	}
	if (end - at < space)
		return error_set(-ENOMEM, "%s: no address range for %llu bytes of device memory: %llu are all that "
				 "there are", engine->path, (unsigned long long)block->bytes, WINDOW_BYTES);
	block->begin = at;
	block->next = *link;
	*link = block;
	return 0;
}

static void block_remove(struct engine *engine, struct chip_block *block)
{
	struct chip_block **link = &engine->chip_blocks;

	while (*link != block)
		link = &(*link)->next;
	*link = block->next;
	if (block->run && block->run->map)
		tensor_map_forget(block->run->map, block->begin, block->begin + block->bytes);
	free(block);
}

static struct chip_block *block_find(const struct engine *engine, uint64_t begin, uint64_t bytes)
{
	struct chip_block *block;

	for (block = engine->chip_blocks; block; block = block->next)
		if (begin >= block->begin && begin - block->begin < block->bytes &&
		    bytes <= block->bytes - (begin - block->begin))
			return block;
	return NULL;
}

/* A tensor outside the arena: device memory of the chip that the task is directed to, or an error. */
int chip_memory_check(struct dw_orch *orch, uint64_t begin, uint64_t bytes, uint32_t worker,
		      size_t index)
{
	struct engine *engine = orch->run->engine;
	struct chip_block *block;
	int result = -ENOENT;

	lock_take(&engine->lock);
	block = block_find(engine, begin, bytes);
	if (block && block->freeing)
		result = error_set(-EFAULT, "tensor %zu lies in device memory that was freed", index);
	else if (block && block->run != orch->run)
		result = error_set(-EFAULT, "tensor %zu lies in device memory of another run", index);
	else if (block && block->worker != worker)
		result = error_set(-EINVAL, "tensor %zu lies in device memory of %s: direct the task there (options.place = DW_PLACE(%u))",
				   index, engine->rings[block->worker].path,
				   block->worker - engine->sub_count);
	else if (block)
		result = 0;
	lock_give(&engine->lock);
	return result;
}

/* ------------------------------------------------------------ alloc and free */

static void fill_message(struct engine_chip_memory *message, uint64_t handle, uint64_t bytes)
{
	*message = (struct engine_chip_memory){ .scalars = 2, .handle = handle, .bytes = bytes };
}

/* A call of the driver that is no task has the deadline that a task has, or else that of an init. */
static uint64_t call_timeout(const struct engine *engine)
{
	return engine->timeout_ns ? engine->timeout_ns : engine->init_timeout_ns;
}

static int find_chip(const struct engine *engine, uint32_t id, uint32_t *worker)
{
	*worker = engine->sub_count + id;
	if (id >= engine->worker_count - engine->sub_count ||
	    engine->rings[*worker].kind != DW_CHILD_CHIP)
		return error_set(-EINVAL, "worker %u is no chip of %s", id, engine->path);
	return 0;
}

static int block_new(struct dw_orch *orch, uint32_t worker, uint64_t bytes,
		     struct chip_block **block)
{
	struct engine *engine = orch->run->engine;
	struct chip_block *made = calloc(1, sizeof(*made));
	int result;

	if (!made)
		return error_set(-ENOMEM, "no memory for a block of device memory");
	made->run = orch->run;
	made->worker = worker;
	made->bytes = bytes ? bytes : 1;
	lock_take(&engine->lock);
	window_open(engine);
	result = block_place(engine, made);
	lock_give(&engine->lock);
	if (result < 0)
		free(made);
	else
		*block = made;
	return result;
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
		result = block_new(orch, index, bytes, &block);
	if (result < 0)
		return result;
	engine = orch->run->engine;
	fill_message(&message, block->begin, block->bytes);
	result = engine_control(engine, index, ENGINE_CONTROL_CHIP_ALLOC, &message, sizeof(message),
				&(struct engine_control_limits){
					.what = "dw_chip_alloc()", .run = orch->run,
					.timeout_ns = call_timeout(engine),
				});
	if (result < 0) {
		lock_take(&engine->lock);
		/* A thread may have it in the end: the run's end frees it behind that. */
		if (engine->rings[index].state == RING_STUCK)
			block->freeing = true;
		else
			block_remove(engine, block);
		lock_give(&engine->lock);
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
	struct engine *engine = orch->run->engine;
	struct task *task = orch_task_new(orch, &free_callable, &defaults);
	struct edge_builder builder;

	if (!task)
		return error_set(-ENOMEM, "no memory for a task");
	atomic_fetch_add_explicit(&free_callable.uses, 1, memory_order_relaxed);
	task->payload.copy = task->storage;
	task->payload.bytes = sizeof(struct engine_chip_memory);
	fill_message((struct engine_chip_memory *)task->storage, block->begin, block->bytes);
	task->pool = engine->rings[block->worker].pool;
	task->worker = block->worker;
	task_enter(task);
	block->freeing = true;
	edges_begin(&builder, engine, task);
	edges_range(&builder, block->begin, block->begin + block->bytes, DW_OUTPUT);
	edges_end(&builder);
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
	block = block_find(engine, tensor->data, 1);
	if (!block || block->begin != tensor->data || block->run != orch->run || block->freeing)
		result = error_set(-ENOENT, "%#llx is no device memory that this run has allocated and not freed",
				   (unsigned long long)tensor->data);
	else if (orch->run->cancelled)
		result = 0;	/* the end of the run frees it */
	else
		result = submit_free(orch, block);
	engine_work_some(engine);
	engine_unlock_and_wake(engine);
	return result;
}

/* The task that frees has ended, one way or the other. */
void chip_memory_freed(struct engine *engine, const struct task *task)
{
	const struct engine_chip_memory *message = (const void *)task->storage;
	struct chip_block *block = block_find(engine, message->handle, 1);

	if (!block)
		return;
	if (task->head.state == TASK_DONE)
		block_remove(engine, block);
	else
		block->freeing = false;
}

/*
 * What a run has left; nothing of the run is in flight. The range is free for others once the
 * chip has the order to free it before whatever comes later; if it cannot have it, never.
 */
void chip_memory_run_ended(struct engine *engine, const struct dw_run *run)
{
	struct engine_chip_memory message;
	struct chip_block *block;
	int result;

	lock_take(&engine->lock);
	for (;;) {
		for (block = engine->chip_blocks; block && block->run != run; block = block->next)
			;
		if (!block)
			break;
		block->run = NULL;
		fill_message(&message, block->begin, block->bytes);
		lock_give(&engine->lock);
		result = engine_control_send(engine, block->worker, ENGINE_CONTROL_CHIP_FREE, &message,
					     sizeof(message), &(struct engine_control_limits){
						.what = "dw_chip_free()",
						.timeout_ns = call_timeout(engine),
					     });
		lock_take(&engine->lock);
		if (result == 0 || result == -EOWNERDEAD)
			block_remove(engine, block);
	}
	lock_give(&engine->lock);
}
