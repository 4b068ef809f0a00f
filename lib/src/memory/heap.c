// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Heap rings and scopes. Everything that is known about a ring lies in private
 * memory, so that no child can damage it.
 *
 * In a ring the blocks lie in the order in which they were made, from `tail` to `head`. No block
 * wraps: the rest at the end of the ring is skipped, and counts as used until the block behind it
 * is the oldest. Neighbours of one scope are one block.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/slab.h"
#include "memory/heap.h"
#include "task/error.h"

#define BLOCKS_PER_SLAB 127

struct heap_block {
	struct heap_block *ring_next;	/* younger; of the unused ones */
	struct heap_block *scope_next;
	struct scope *scope;		/* NULL: given back, waits for older ones */
	uint64_t begin, bytes;		/* in the ring */
	uint64_t skipped;		/* bytes at the end of the ring that this block left out */
};

struct ring {
	uint64_t base, bytes;
	uint64_t head, tail;		/* offsets; equal: empty or full, as `used` says */
	uint64_t used;
	struct heap_block *first, *last;
};

struct heap {
	struct ring rings[HEAP_RINGS];
	uint64_t used, peak;
	uint64_t serial;		/* counts the scopes whose memory came back */
	uint64_t *shown_used, *shown_peak;	/* copies for other readers; NULL: none */
	struct slab blocks;
	void (*release)(struct run_graph *run, uint64_t begin, uint64_t end, void *context);
	void *context;
};

int heap_create(struct arena *arena, struct heap **heap)
{
	struct heap *made = calloc(1, sizeof(*made));

	if (!made)
		return error_set(-ENOMEM, "no memory for a heap");
	for (uint32_t i = 0; i < HEAP_RINGS; i++) {
		struct ring *ring = &made->rings[i];

		ring->base = (uintptr_t)arena_ring(arena, i, &ring->bytes);
		ring->bytes -= ring->bytes % HEAP_ALIGN;
	}
	made->blocks = (struct slab)SLAB_INIT(struct heap_block, BLOCKS_PER_SLAB, BLOCKS_PER_SLAB);
	*heap = made;
	return 0;
}

void heap_destroy(struct heap *heap)
{
	if (!heap)
		return;
	slab_release(&heap->blocks);
	free(heap);
}

static void show(struct heap *heap)
{
	if (!heap->shown_used)
		return;
	__atomic_store_n(heap->shown_used, heap->used, __ATOMIC_RELAXED);
	__atomic_store_n(heap->shown_peak, heap->peak, __ATOMIC_RELAXED);
}

void heap_show(struct heap *heap, uint64_t *used, uint64_t *peak)
{
	heap->shown_used = used;
	heap->shown_peak = peak;
}

void heap_on_release(struct heap *heap, void (*release)(struct run_graph *run, uint64_t begin,
							uint64_t end, void *context), void *context)
{
	heap->release = release;
	heap->context = context;
}

void heap_forget(struct heap *heap, struct run_graph *run, uint64_t begin, uint64_t end)
{
	if (heap->release)
		heap->release(run, begin, end, heap->context);
}

/* ------------------------------------------------------------------- scopes */

int scope_create(struct scope *outer, struct run_graph *run, struct scope **scope)
{
	struct scope *made;

	if (outer && outer->depth >= SCOPE_MAX_DEPTH)
		return error_set(-EOVERFLOW, "scopes nest at most %d deep inside a run",
				 SCOPE_MAX_DEPTH);
	made = calloc(1, sizeof(*made));
	if (!made)
		return error_set(-ENOMEM, "no memory for a scope");
	made->outer = outer;
	made->run = run;
	made->depth = outer ? outer->depth + 1 : 0;
	made->open = true;
	made->alive = 1;
	if (outer)
		scope_get(outer);
	*scope = made;
	return 0;
}

static inline struct ring *ring_of(struct heap *heap, const struct scope *scope)
{
	return &heap->rings[scope->depth < HEAP_RINGS ? scope->depth : HEAP_RINGS - 1];
}

/* Gives back the oldest blocks of a ring whose scopes have ended. */
static bool ring_reclaim(struct heap *heap, struct ring *ring)
{
	uint64_t used = ring->used;
	struct heap_block *block;

	while ((block = ring->first) && !block->scope) {
		ring->used -= block->bytes;
		ring->first = block->ring_next;
		slab_give(&heap->blocks, block);
		if (!ring->first) {
			ring->last = NULL;
			ring->head = 0;
			ring->tail = 0;
			break;
		}
		ring->used -= ring->first->skipped;
		ring->first->skipped = 0;
		ring->tail = ring->first->begin;
	}
	heap->used -= used - ring->used;
	show(heap);
	return ring->used != used;
}

static bool scope_release(struct heap *heap, struct scope *scope)
{
	struct ring *ring = ring_of(heap, scope);

	for (struct heap_block *block = scope->first; block; block = block->scope_next) {
		uint64_t begin = ring->base + block->begin;

		if (heap->release)
			heap->release(scope->run, begin, begin + block->bytes, heap->context);
		block->scope = NULL;
	}
	return ring_reclaim(heap, ring);
}

bool scope_put(struct heap *heap, struct scope *scope)
{
	bool freed = false;

	while (scope && !--scope->alive) {
		struct scope *outer = scope->outer;

		if (scope->first)
			freed |= scope_release(heap, scope);
		free(scope);
		scope = outer;
	}
	heap->serial += freed;
	return freed;
}

bool scope_end(struct heap *heap, struct scope *scope)
{
	scope->open = false;
	return scope_put(heap, scope);
}

void scope_forget_run(struct scope *scope)
{
	for (; scope; scope = scope->outer)
		scope->run = NULL;
}

uint64_t heap_serial(const struct heap *heap)
{
	return heap->serial;
}

/* -------------------------------------------------------------------- rings */

/* The place of a block of `bytes`, and the bytes skipped before it; false: it does not fit now. */
static inline bool ring_place(const struct ring *ring, uint64_t bytes, uint64_t *begin,
			      uint64_t *skipped)
{
	*begin = ring->head;
	*skipped = 0;
	if (ring->used && ring->head <= ring->tail)
		return bytes <= ring->tail - ring->head;
	if (bytes <= ring->bytes - ring->head)
		return true;
	*begin = 0;
	*skipped = ring->bytes - ring->head;
	return bytes <= ring->tail;
}

int heap_alloc(struct heap *heap, struct scope *scope, uint64_t bytes, uint64_t *address)
{
	struct ring *ring = ring_of(heap, scope);
	uint64_t begin, skipped;
	struct heap_block *block;

	if (bytes > ring->bytes)
		return error_set(-ENOSPC, "%llu bytes do not fit in heap ring %u, which has %llu; "
				 "raise heap_ring_bytes of the Worker", (unsigned long long)bytes,
				 (unsigned int)(ring - heap->rings),
				 (unsigned long long)ring->bytes);
	bytes = (bytes + HEAP_ALIGN - 1) & -(uint64_t)HEAP_ALIGN;
	if (!ring_place(ring, bytes, &begin, &skipped))
		return -EAGAIN;

	block = ring->last;
	if (block && block->scope == scope && block->begin + block->bytes == begin) {
		block->bytes += bytes;
	} else {
		block = slab_take(&heap->blocks);
		if (!block)
			return error_set(-ENOMEM, "no memory for a heap block");
		*block = (struct heap_block){
			.scope = scope, .begin = begin, .bytes = bytes, .skipped = skipped,
		};
		if (ring->last)
			ring->last->ring_next = block;
		else
			ring->first = block;
		ring->last = block;
		if (scope->last)
			scope->last->scope_next = block;
		else
			scope->first = block;
		scope->last = block;
	}
	ring->head = begin + bytes;
	ring->used += skipped + bytes;
	heap->used += skipped + bytes;
	if (heap->used > heap->peak)
		heap->peak = heap->used;
	show(heap);
	scope->blocks++;
	scope->bytes += bytes;
	*address = ring->base + begin;
	return 0;
}

void heap_tail(const struct heap *heap, const struct scope *scope, struct heap_tail *tail)
{
	const struct ring *ring = ring_of((struct heap *)heap, scope);

	*tail = (struct heap_tail){
		.ring = ring - heap->rings,
		.ring_bytes = ring->bytes,
		.used_bytes = ring->used,
	};
	if (ring->first) {
		tail->scope = ring->first->scope;
		tail->block_bytes = ring->first->bytes;
	}
}

uint64_t heap_used(const struct heap *heap)
{
	return heap->used;
}

uint64_t heap_peak(const struct heap *heap)
{
	return heap->peak;
}
