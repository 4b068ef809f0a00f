/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See chip_memory.h.
 *
 * Allocation is a control frame that is waited for. Freeing is a task that overwrites the range,
 * directed to the chip: so it comes after everything that uses the memory. The next search for
 * blocks settles those whose task has ended. The blocks that a run leaves are freed when it ends;
 * those that stay are freed by a control frame.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "engine/chip_memory.h"
#include "engine/state.h"

#define WINDOW_BYTES	(1ULL << 40)
#define WINDOWS		(1U << 15)
/*
 * Bits 63 and 55 and no others above the windows: user space has no such address on x86-64 (not
 * canonical) nor on arm64 (the kernel's half, with any tag), in any process.
 */
#define WINDOW_FIRST	0x8080000000000000ULL
#define WINDOWS_END	(WINDOW_FIRST + WINDOWS * WINDOW_BYTES)
#define BLOCK_ALIGN	4096

void chip_memory_release(struct chip_memory *memory)
{
	for (uint32_t i = 0; i < memory->count; i++)
		free(memory->blocks[i]);
	free(memory->blocks);
	memory->blocks = NULL;
	memory->count = memory->space = 0;
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

/* ------------------------------------------------------------------ blocks */

static bool blocks_grow(struct chip_memory *memory)
{
	uint32_t space = memory->space ? memory->space * 2 : 16;
	struct chip_block **grown;

	if (memory->count < memory->space)
		return true;
	grown = realloc(memory->blocks, space * sizeof(*grown));
	if (!grown)
		return false;
	memory->blocks = grown;
	memory->space = space;
	return true;
}

/* First fit: allocations are rare, and the blocks are sorted. */
static int block_place(struct engine *engine, struct chip_block *block)
{
	uint64_t space = (block->bytes + BLOCK_ALIGN - 1) & ~(uint64_t)(BLOCK_ALIGN - 1);
	struct chip_memory *memory = &engine->chip_memory;
	uint64_t at = memory->window, end = at + WINDOW_BYTES;
	uint32_t i = 0;

	if (!blocks_grow(memory))
		return error_set(-ENOMEM, "no memory for a block of device memory");
	for (; i < memory->count; i++) {
		if (memory->blocks[i]->begin - at >= space)
			break;
		at = (memory->blocks[i]->begin + memory->blocks[i]->bytes + BLOCK_ALIGN - 1) &
		     ~(uint64_t)(BLOCK_ALIGN - 1);
	}
	if (space < block->bytes || end - at < space)
		return error_set(-ENOMEM, "%s: no address range for %llu bytes of device memory: "
				 "%llu are all that there are", engine->path,
				 (unsigned long long)block->bytes, WINDOW_BYTES);
	block->begin = at;
	memmove(&memory->blocks[i + 1], &memory->blocks[i],
		(memory->count - i) * sizeof(*memory->blocks));
	memory->blocks[i] = block;
	memory->count++;
	return 0;
}

/* The index of the first block that ends behind the address; `count`: none does. */
static uint32_t block_search(const struct chip_memory *memory, uint64_t address)
{
	uint32_t low = 0, high = memory->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct chip_block *block = memory->blocks[middle];

		if (address >= block->begin && address - block->begin >= block->bytes)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void chip_block_remove(struct engine *engine, struct chip_block *block)
{
	struct chip_memory *memory = &engine->chip_memory;
	uint32_t i = block_search(memory, block->begin);

	memmove(&memory->blocks[i], &memory->blocks[i + 1],
		(memory->count - i - 1) * sizeof(*memory->blocks));
	memory->count--;
	memory->frees -= block->freed_by != 0;
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
	struct chip_memory *memory = &engine->chip_memory;

	for (uint32_t i = 0; memory->frees && i < memory->count;) {
		struct chip_block *block = memory->blocks[i];

		if (!block->freed_by || !free_ended(engine, block)) {
			i++;
			continue;
		}
		block->freeing = failed_find(&block->run->failed, block->freed_by) == NULL;
		block->freed_by = 0;
		memory->frees--;
		if (block->freeing)
			chip_block_remove(engine, block);
		else
			i++;
	}
}

static struct chip_block *block_find(struct engine *engine, uint64_t begin, uint64_t bytes)
{
	struct chip_memory *memory = &engine->chip_memory;
	struct chip_block *block;
	uint32_t i;

	settle_frees(engine);
	i = block_search(memory, begin);
	block = i < memory->count ? memory->blocks[i] : NULL;
	return block && begin >= block->begin && bytes <= block->bytes - (begin - block->begin) ?
		       block : NULL;
}

struct chip_block *chip_block_find(struct engine *engine, const struct run_graph *run,
				   uint64_t begin)
{
	struct chip_block *block = block_find(engine, begin, 1);

	return block && block->begin == begin && block->run == run && block->stays == !run &&
			       !block->freeing ? block : NULL;
}

void chip_block_free(struct engine *engine, struct chip_block *block, dw_task task)
{
	block->freeing = true;
	block->freed_by = task;
	engine->chip_memory.frees += task != 0;
}

/* ------------------------------------------------------------------ checks */

static int block_check(const struct engine *engine, const struct chip_block *block,
		       const struct run_graph *run, uint32_t worker, size_t index)
{
	const struct worker_ring *ring = &engine->rings.all[block->worker];

	if (block->freeing)
		return error_set(-EFAULT, "tensor %zu lies in device memory that was freed", index);
	if (!block->stays && block->run != run)
		return error_set(-EFAULT, "tensor %zu lies in device memory of another run", index);
	if (block->lost)
		return error_set(-EFAULT,
				 "tensor %zu lies in device memory %#llx + %llu bytes of %s, which "
				 "is lost: %s; create it again, and copy into it again",
				 index, (unsigned long long)block->begin,
				 (unsigned long long)block->bytes, ring->path, block->cause);
	if (block->worker != worker)
		return error_set(-EINVAL,
				 "tensor %zu lies in device memory of %s: direct the task "
				 "there (options.place = DW_PLACE(%u))",
				 index, ring->path, block->worker - engine->schedule.sub_count);
	return 0;
}

int chip_memory_check(struct engine *engine, const struct run_graph *run, uint64_t begin,
		      uint64_t bytes, uint32_t worker, size_t index)
{
	const struct chip_block *block;
	int result = -ENOENT;

	if (begin < WINDOW_FIRST || begin >= WINDOWS_END)
		return -ENOENT;
	lock_take(&engine->lock);
	block = block_find(engine, begin, bytes);
	if (block)
		result = block_check(engine, block, run, worker, index);
	else
		result = error_set(-EFAULT,
				   "tensor %zu, %#llx + %llu bytes, is no device memory that %s "
				   "has: it was freed, is longer than its block, or belongs to "
				   "another Worker, or to a process that has ended",
				   index, (unsigned long long)begin, (unsigned long long)bytes,
				   engine->path);
	lock_give(&engine->lock);
	return result;
}

bool chip_memory_worker(struct engine *engine, uint64_t begin, uint64_t bytes, uint32_t *worker)
{
	const struct chip_block *block;

	if (begin < WINDOW_FIRST || begin >= WINDOWS_END)
		return false;
	lock_take(&engine->lock);
	block = block_find(engine, begin, bytes);
	if (block)
		*worker = block->worker;
	lock_give(&engine->lock);
	return block != NULL;
}

bool chip_memory_stays(struct engine *engine, uint64_t address)
{
	const struct chip_block *block = block_find(engine, address, 1);

	return block && block->stays;
}

/* ------------------------------------------------------------ life of blocks */

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
	made->stays = !run;
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

/*
 * Nothing names the block any more: the order to free it goes to the chip ahead of later frames, so
 * that its range can be used again. Needs the lock, which it gives for a while.
 */
static void give_up(struct engine *engine, struct chip_block *block)
{
	struct engine_chip_memory message = {
		.scalars = 2, .handle = block->begin, .bytes = block->bytes,
	};
	uint32_t worker = block->worker;
	int result = 0;

	block->run = NULL;
	block->freeing = true;
	if (!block->lost) {
		lock_give(&engine->lock);
		result = engine_control_send(engine, worker, ENGINE_CONTROL_CHIP_FREE, &message,
					     sizeof(message),
					     &(struct engine_control_limits){
						     .what = "dw_chip_free()",
						     .timeout_ns = chip_call_timeout(engine),
					     });
		lock_take(&engine->lock);
	}
	if (result == 0 || result == -EOWNERDEAD || block->lost)
		chip_block_remove(engine, block);
	else
		block->abandoned = true;
}

void chip_block_failed(struct engine *engine, struct chip_block *block)
{
	lock_take(&engine->lock);
	/* A thread that is stuck may have it in the end: it, or the run's end, frees it then. */
	if (engine->rings.all[block->worker].state != RING_STUCK)
		chip_block_remove(engine, block);
	else if (block->stays)
		give_up(engine, block);
	else
		block->freeing = true;
	lock_give(&engine->lock);
}

void chip_block_freed(struct engine *engine, struct chip_block *block, int result)
{
	lock_take(&engine->lock);
	if (result == 0 || block->lost)
		chip_block_remove(engine, block);
	else if (engine->rings.all[block->worker].state == RING_STUCK)
		give_up(engine, block);
	else
		block->freeing = false;
	lock_give(&engine->lock);
}

void chip_memory_worker_dead(struct engine *engine, uint32_t worker, const char *cause)
{
	struct chip_memory *memory = &engine->chip_memory;

	for (uint32_t i = memory->count; i-- > 0;) {
		struct chip_block *block = memory->blocks[i];

		if (block->worker != worker || block->lost)
			continue;
		block->lost = true;
		text_copy(block->cause, sizeof(block->cause), cause);
		if (block->abandoned)
			chip_block_remove(engine, block);
	}
}

static struct chip_block *block_of_run(const struct chip_memory *memory,
				       const struct run_graph *run)
{
	for (uint32_t i = 0; i < memory->count; i++)
		if (memory->blocks[i]->run == run)
			return memory->blocks[i];
	return NULL;
}

/* None of the run's tasks is in flight. */
void chip_memory_run_ended(struct engine *engine, const struct run_graph *run)
{
	struct chip_block *block;

	lock_take(&engine->lock);
	settle_frees(engine);
	while ((block = block_of_run(&engine->chip_memory, run)))
		give_up(engine, block);
	lock_give(&engine->lock);
}
