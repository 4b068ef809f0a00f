/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * chip_memory: tensors that stay on a chip between tasks, or between runs.
 *
 * Owns: struct chip_memory, the ranges of addresses that stand for device memory. No process has
 * memory at these addresses, so the tensor map treats such a tensor like any other, no process can
 * access it, and only the driver of its chip knows the memory behind it. Guarded by the engine's
 * lock, which these functions need unless they say otherwise.
 *
 * Invariant: the blocks are sorted by address and do not overlap. Each belongs to a run that is in
 * the engine, or to the application (`stays`), or is `abandoned`: its chip did not take the order
 * to free it.
 */
#ifndef DW_ENGINE_CHIP_MEMORY_H
#define DW_ENGINE_CHIP_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <distworker/distworker.h>

struct engine;
struct run_graph;
struct task;

struct chip_block {
	struct run_graph *run;		/* NULL: it outlives runs, or no run has it any more */
	uint64_t begin, bytes;
	uint32_t worker;
	bool stays;			/* dw_chip_memory_create() */
	bool freeing;
	bool abandoned;			/* goes with its chip */
	bool lost;			/* its chip has died since */
	char cause[120];		/* lost: why */
	dw_task freed_by; /* freeing: the task that does it; 0: the end of the run does */
};

struct chip_memory {
	uint64_t window;		/* where this engine's addresses begin; 0: none so far */
	struct chip_block **blocks;
	uint32_t count, space;
	uint32_t frees;			/* blocks that a task frees */
};

/*
 * Takes the lock. 0 with a new block on a chip, of a run, or (NULL) one that stays; -ENOMEM.
 */
int chip_block_new(struct engine *engine, struct run_graph *run, uint32_t worker, uint64_t bytes,
		   struct chip_block **block);
/* Takes the lock. The chip did not give the memory, or is still at it. */
void chip_block_failed(struct engine *engine, struct chip_block *block);
/* Takes the lock. The order to free a block that stays has ended with `result`. */
void chip_block_freed(struct engine *engine, struct chip_block *block, int result);
/* Of this run (NULL: one that stays), not being freed, from its begin on; NULL: there is none. */
struct chip_block *chip_block_find(struct engine *engine, const struct run_graph *run,
				   uint64_t begin);
/* The task frees it when it is done; 0: the caller sees to it. */
void chip_block_free(struct engine *engine, struct chip_block *block, dw_task task);
void chip_block_remove(struct engine *engine, struct chip_block *block);
/* The deadline of a driver call that is not a task. */
uint64_t chip_call_timeout(const struct engine *engine);

/*
 * Takes the lock. A tensor outside the arena: 0: device memory of the chip that the task is
 * directed to; -ENOENT: no device memory; or another error with a text.
 */
int chip_memory_check(struct engine *engine, const struct run_graph *run, uint64_t begin,
		      uint64_t bytes, uint32_t worker, size_t index);
/* Takes the lock. Whether a block is there, and on which worker. */
bool chip_memory_worker(struct engine *engine, uint64_t begin, uint64_t bytes, uint32_t *worker);
/* Whether a block that outlives runs begins at or before the address, and has it. */
bool chip_memory_stays(struct engine *engine, uint64_t address);
/* What was on the chip is lost. */
void chip_memory_worker_dead(struct engine *engine, uint32_t worker, const char *cause);
/* Takes the lock. Frees the blocks that the run left; none of its tasks is in flight. */
void chip_memory_run_ended(struct engine *engine, const struct run_graph *run);
void chip_memory_release(struct chip_memory *memory);

#endif
