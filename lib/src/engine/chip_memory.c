/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See chip_memory.h.
 *
 * Allocation is a control frame that is waited for. Freeing is a task that overwrites the range,
 * directed to the chip: so it comes after everything that uses the memory. The next search for
 * blocks settles those whose task has ended. The blocks that a run leaves are freed when it ends.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include "engine/chip_memory.h"
#include "engine/state.h"

#define WINDOW_BYTES	(1ULL << 40)
#define WINDOWS		(1U << 15)
/*
 * Bits 63 and 55 and no others above the windows: user space has no such address on x86-64 (not
 * canonical) nor on arm64 (the kernel's half, with any tag), in any process.
 */
#define WINDOW_FIRST	0x8080000000000000ULL
#define BLOCK_ALIGN	4096

void chip_memory_release(struct chip_memory *memory)
{
	struct chip_block *block;

	while ((block = memory->blocks)) {
		memory->blocks = block->next;
		free(block);
	}
}

/* Each engine has a window of its own, so that a tensor of one is not taken for another's. */
static void window_open(struct engine *engine)
{
	static _Atomic uint32_t opened;
	uint64_t number;

	if (engine->chip_memory.window)
		return;
	number = (uint64_t)getpid() * 16 +
		 atomic_fetch_add_explicit(&opened, 1, memory_order_relaxed) % 16;
	engine->chip_memory.window = WINDOW_FIRST + number % WINDOWS * WINDOW_BYTES;
}

/* First fit; there are few. */
static int block_place(struct engine *engine, struct chip_block *block)
{
	uint64_t space = (block->bytes + BLOCK_ALIGN - 1) & ~(uint64_t)(BLOCK_ALIGN - 1);
	uint64_t at = engine->chip_memory.window, end = at + WINDOW_BYTES;
	struct chip_block **link = &engine->chip_memory.blocks;

	for (; *link; link = &(*link)->next) {
		if ((*link)->begin - at >= space)
			break;
		at = ((*link)->begin + (*link)->bytes + BLOCK_ALIGN - 1) &
		     ~(uint64_t)(BLOCK_ALIGN - 1);
	}
	if (end - at < space)
		return error_set(-ENOMEM, "%s: no address range for %llu bytes of device memory: "
				 "%llu are all that there are", engine->path,
				 (unsigned long long)block->bytes, WINDOW_BYTES);
	block->begin = at;
	block->next = *link;
	*link = block;
	return 0;
}

static void block_remove(struct engine *engine, struct chip_block *block)
{
	struct chip_block **link = &engine->chip_memory.blocks;

	while (*link != block)
		link = &(*link)->next;
	*link = block->next;
	if (block->run && block->run->map)
		tensor_map_forget(block->run->map, block->begin, block->begin + block->bytes);
	free(block);
}

/* Whether the task that frees the block has ended, one way or the other. */
static bool free_ended(const struct engine *engine, const struct chip_block *block)
{
	const struct task *task = task_find(&engine->graph.tasks, block->freed_by);

	return task->head.generation != block->freed_by >> 32 || task->head.state == TASK_FREE ||
	       task->queue == QUEUE_KEPT;
}

/* Blocks whose task has ended are gone; or, if it failed, they are the run's again. */
static void settle_frees(struct engine *engine)
{
	struct chip_block *block, *next;

	for (block = engine->chip_memory.blocks; block; block = next) {
		next = block->next;
		if (!block->freed_by || !free_ended(engine, block))
			continue;
		block->freeing = failed_find(&block->run->failed, block->freed_by) == NULL;
		block->freed_by = 0;
		if (block->freeing)
			block_remove(engine, block);
	}
}

static struct chip_block *block_find(struct engine *engine, uint64_t begin, uint64_t bytes)
{
	struct chip_block *block;

	settle_frees(engine);
	for (block = engine->chip_memory.blocks; block; block = block->next)
		if (begin >= block->begin && begin - block->begin < block->bytes &&
		    bytes <= block->bytes - (begin - block->begin))
			return block;
	return NULL;
}

struct chip_block *chip_block_find(struct engine *engine, const struct run_graph *run,
				   uint64_t begin)
{
	struct chip_block *block = block_find(engine, begin, 1);

	return block && block->begin == begin && block->run == run && !block->freeing ? block :
											NULL;
}

void chip_block_free(struct chip_block *block, dw_task task)
{
	block->freeing = true;
	block->freed_by = task;
}

int chip_memory_check(struct engine *engine, const struct run_graph *run, uint64_t begin,
		      uint64_t bytes, uint32_t worker, size_t index)
{
	struct chip_block *block;
	int result = -ENOENT;

	lock_take(&engine->lock);
	block = block_find(engine, begin, bytes);
	if (block && block->freeing)
		result = error_set(-EFAULT, "tensor %zu lies in device memory that was freed",
				   index);
	else if (block && block->run != run)
		result = error_set(-EFAULT, "tensor %zu lies in device memory of another run",
				   index);
	else if (block && block->worker != worker)
		result = error_set(-EINVAL,
				   "tensor %zu lies in device memory of %s: direct the task "
				   "there (options.place = DW_PLACE(%u))",
				   index, engine->rings.all[block->worker].path,
				   block->worker - engine->schedule.sub_count);
	else if (block)
		result = 0;
	lock_give(&engine->lock);
	return result;
}

uint64_t chip_call_timeout(const struct engine *engine)
{
	return engine->rings.timeout_ns ? engine->rings.timeout_ns : engine->init_timeout_ns;
}

int chip_block_new(struct engine *engine, struct run_graph *run, uint32_t worker, uint64_t bytes,
		   struct chip_block **block)
{
	struct chip_block *made = calloc(1, sizeof(*made));
	int result;

	if (!made)
		return error_set(-ENOMEM, "no memory for a block of device memory");
	made->run = run;
	made->worker = worker;
	made->bytes = bytes ? bytes : 1;
	lock_take(&engine->lock);
	settle_frees(engine);
	window_open(engine);
	result = block_place(engine, made);
	lock_give(&engine->lock);
	if (result < 0)
		free(made);
	else
		*block = made;
	return result;
}

void chip_block_failed(struct engine *engine, struct chip_block *block)
{
	lock_take(&engine->lock);
	/* A thread may have it in the end: the run's end frees it behind that. */
	if (engine->rings.all[block->worker].state == RING_STUCK)
		block->freeing = true;
	else
		block_remove(engine, block);
	lock_give(&engine->lock);
}

/*
 * Frees the blocks that a run left; none of its tasks is in flight. A range can be reused once the
 * order to free it is queued to the chip, ahead of later frames; if that fails, it never is.
 */
void chip_memory_run_ended(struct engine *engine, const struct run_graph *run)
{
	struct engine_chip_memory message;
	struct chip_block *block;
	int result;

	lock_take(&engine->lock);
	settle_frees(engine);
	for (;;) {
		for (block = engine->chip_memory.blocks; block && block->run != run;
		     block = block->next)
			;
		if (!block)
			break;
		block->run = NULL;
		message = (struct engine_chip_memory){
			.scalars = 2, .handle = block->begin, .bytes = block->bytes,
		};
		lock_give(&engine->lock);
		result = engine_control_send(engine, block->worker, ENGINE_CONTROL_CHIP_FREE,
					     &message, sizeof(message),
					     &(struct engine_control_limits){
						     .what = "dw_chip_free()",
						     .timeout_ns = chip_call_timeout(engine),
					     });
		lock_take(&engine->lock);
		if (result == 0 || result == -EOWNERDEAD)
			block_remove(engine, block);
	}
	lock_give(&engine->lock);
}
