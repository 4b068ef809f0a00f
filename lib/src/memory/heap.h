/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Heap: 4 rings in the arena, from which OUTPUT tensors and dw_alloc() get their memory. A block
 * belongs to the scope in which it was made; it is given back when the scope has ended and the last
 * task that was submitted in the scope (or in an inner one) is final; a task whose worker died is
 * final when no process of that worker is left. Reclaim is FIFO per ring; a ring that is empty
 * starts over at its beginning. Ring = min(depth of the scope, 3); depth 0 is the run's outermost
 * scope. Guarded by the engine's lock.
 */
#ifndef DW_MEMORY_HEAP_H
#define DW_MEMORY_HEAP_H

#include <stdbool.h>
#include <stdint.h>
#include "memory/arena.h"

#define HEAP_RINGS 4
#define HEAP_ALIGN 1024
#define SCOPE_MAX_DEPTH 64

struct run_graph;
struct heap;

/*
 * A scope counts the reasons to keep it alive: 1 while it is open, 1 per task in it that is not
 * final, 1 per inner scope that is alive. At 0 its blocks go.
 */
struct scope {
	struct scope *outer;
	struct run_graph *run;		/* for diagnoses */
	uint32_t depth;
	bool open;
	uint64_t alive;
	uint64_t blocks, bytes;
	struct heap_block *first, *last;
};

int heap_create(struct arena *arena, struct heap **heap);
void heap_destroy(struct heap *heap);

int scope_create(struct scope *outer, struct run_graph *run, struct scope **scope);
static inline void scope_get(struct scope *scope) { scope->alive++; }
/*
 * Drops one count; at 0 releases the blocks (calling the heap's release callback), frees the
 * scope, drops the outer's. True if memory came back: older blocks of the ring may still hold it
 * up.
 */
bool scope_put(struct heap *heap, struct scope *scope);
/* It takes no more blocks: drops the count of its being open. */
bool scope_end(struct heap *heap, struct scope *scope);
/* The run of this scope and of its outer scopes no longer exists. */
void scope_forget_run(struct scope *scope);
/* Differs whenever memory has come back. */
uint64_t heap_serial(const struct heap *heap);

/*
 * `bytes` (> 0) from the ring of `scope`: 0; -EAGAIN when it is full now; -ENOSPC when it could
 * never fit (text says ring size and request); -ENOMEM.
 */
int heap_alloc(struct heap *heap, struct scope *scope, uint64_t bytes, uint64_t *address);
/* Copies of the counters go there too. */
void heap_show(struct heap *heap, uint64_t *used, uint64_t *peak);
/*
 * Called for the blocks of a scope at its end, before their memory can be given out again, so that
 * maps forget it. Neighbours of one scope are one range.
 */
void heap_on_release(struct heap *heap,
		     void (*release)(struct run_graph *run, uint64_t begin, uint64_t end,
				     void *context),
		     void *context);
/* Bytes of other memory that was used like a block have been given back, too. */
void heap_forget(struct heap *heap, struct run_graph *run, uint64_t begin, uint64_t end);
/* The holder of the tail of the ring that `scope` allocates from, for a diagnosis. */
struct heap_tail {
	uint32_t ring;
	uint64_t ring_bytes, used_bytes;
	const struct scope *scope;	/* of the oldest block; NULL when the ring is empty */
	uint64_t block_bytes;
};
void heap_tail(const struct heap *heap, const struct scope *scope, struct heap_tail *tail);
uint64_t heap_used(const struct heap *heap);
uint64_t heap_peak(const struct heap *heap);

#endif
