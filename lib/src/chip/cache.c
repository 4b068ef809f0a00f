/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See cache.h. Blocks lie in an array, sorted by host address, and in a list by their last use.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/text.h"
#include "chip/cache.h"
#include "task/environment.h"
#include "task/error.h"

#define CALLS_MOST 16			/* in flight: those of struct chip */
#define TENSORS_MOST 32			/* of a call; a larger one gets no places */
/*
 * Handles of blocks: no address of a process is as large, so that none can be taken for host
 * memory.
 */
#define HANDLES_BEGIN (1ull << 62)
#define HANDLE_ALIGN 4096
/* For drivers that do not tell how much memory the device has. */
#define BUDGET_UNKNOWN (1ull << 30)

/* DW_CHIP_DEBUG=fill: the pattern for memory whose contents are undefined. */
#define FILL_BYTE 0xdb
#define FILL_BYTES 65536

struct block {
	uint64_t begin, end;		/* in host memory */
	uint64_t name;			/* 0: its contents are not needed */
	uint64_t handle;
	uint32_t pins;			/* tensors of calls in flight */
	bool kept;			/* host memory does not have its contents … */
	uint32_t frame;			/* … since this frame writes them again */
	uint64_t task;			/* that made them, … */
	uint32_t tensor;		/* … as this one of its tensors */
	struct block *newer, *older;	/* by last use */
};

/* A tensor of a call in flight. */
struct use {
	struct block *block;		/* NULL: it has no place */
	uint64_t name;			/* the block's, once the call has succeeded; 0: as it is */
	uint64_t saved;			/* bytes that need not be copied */
	bool keeps;			/* it is not copied home */
	bool was_kept;			/* before the call; then, under this name, for this frame */
	uint64_t was_name;
	uint32_t was_frame;
	uint64_t was_task;
	uint32_t was_tensor;
};

struct cached_call {
	uint32_t count;
	bool keeps;			/* some are, for this frame */
	uint32_t frame;
	uint64_t task;
	struct use uses[TENSORS_MOST];
	struct dw_chip_place places[TENSORS_MOST];
};

struct chip_cache {
	struct chip *chip;
	uint64_t alignment;		/* of a place within a block */
	uint64_t budget;		/* bytes of all blocks */
	uint64_t next_handle;
	unsigned char *fill;		/* FILL_BYTES of the pattern; NULL: nothing is filled */
	struct block **blocks;		/* by address */
	size_t count, space;
	struct block *newest, *oldest;
	struct cached_call calls[CALLS_MOST];
	uint32_t head, in_flight;
	uint32_t kept;			/* blocks */
	int error;
	uint64_t lost;
	cache_settled_fn *settled;	/* NULL: nobody is told */
	void *settled_context;
	struct chip_cache_counters counters;
};

static int fill_create(struct chip_cache *cache)
{
	int wanted = environment_word(VARIABLE_CHIP_DEBUG, 1);

	if (wanted)
		return wanted < 0 ? wanted : 0;
	cache->fill = malloc(FILL_BYTES);
	if (!cache->fill)
		return error_set(-ENOMEM, "no memory for the cache of a chip");
	memset(cache->fill, FILL_BYTE, FILL_BYTES);
	return 0;
}

int cache_create(struct chip *chip, struct chip_cache **cache)
{
	int result;

	const struct dw_chip_properties *properties = chip_properties(chip);
	uint32_t needed = DW_CHIP_CAP_MEMORY | DW_CHIP_CAP_PLACES;

	*cache = NULL;
	if ((properties->capabilities & needed) != needed)
		return 0;
	*cache = calloc(1, sizeof(**cache));
	if (!*cache)
		return error_set(-ENOMEM, "no memory for the cache of a chip");
	result = fill_create(*cache);
	if (result < 0) {
		free(*cache);
		*cache = NULL;
		return result;
	}
	(*cache)->chip = chip;
	(*cache)->alignment = properties->alignment ? properties->alignment : 1;
	/* The other half is for images, for calls without places and for memory that stays. */
	(*cache)->budget = properties->memory_bytes ? properties->memory_bytes / 2 : BUDGET_UNKNOWN;
	(*cache)->next_handle = HANDLES_BEGIN;
	return 0;
}

void cache_tell_settled(struct chip_cache *cache, cache_settled_fn *fn, void *context)
{
	cache->settled = fn;
	cache->settled_context = context;
}

/* -------------------------------------------------------------------- blocks */

static void list_remove(struct chip_cache *cache, struct block *block)
{
	*(block->newer ? &block->newer->older : &cache->newest) = block->older;
	*(block->older ? &block->older->newer : &cache->oldest) = block->newer;
}

static void list_add(struct chip_cache *cache, struct block *block)
{
	block->newer = NULL;
	block->older = cache->newest;
	*(cache->newest ? &cache->newest->newer : &cache->oldest) = block;
	cache->newest = block;
}

/* Returns the index of the first block that ends above `address`. */
static size_t block_above(const struct chip_cache *cache, uint64_t address)
{
	size_t low = 0, high = cache->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (cache->blocks[middle]->end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Returns the block that contains the whole range; NULL when there is none. */
static struct block *block_around(const struct chip_cache *cache, uint64_t begin, uint64_t end)
{
	size_t i = block_above(cache, begin);
	struct block *block = i < cache->count ? cache->blocks[i] : NULL;

	return block && block->begin <= begin && block->end >= end ? block : NULL;
}

/* For a block whose contents are not needed. Drivers copy only between calls. */
static void block_fill(const struct chip_cache *cache, const struct block *block)
{
	uint64_t bytes = block->end - block->begin;

	if (!cache->fill || chip_in_flight(cache->chip))
		return;
	for (uint64_t at = 0; at < bytes; at += FILL_BYTES)
		chip_copy_in(cache->chip, block->handle + at, cache->fill,
			     bytes - at < FILL_BYTES ? bytes - at : FILL_BYTES);
}

static void block_drop(struct chip_cache *cache, size_t i)
{
	struct block *block = cache->blocks[i];

	block_fill(cache, block);
	chip_release(cache->chip, block->handle);
	list_remove(cache, block);
	cache->counters.bytes -= block->end - block->begin;
	cache->counters.blocks--;
	cache->count--;
	memmove(&cache->blocks[i], &cache->blocks[i + 1],
		(cache->count - i) * sizeof(*cache->blocks));
	free(block);
}

static void unkeep(struct chip_cache *cache, struct block *block)
{
	block->kept = false;
	cache->kept--;
}

/* Copies home what the task has written as that tensor. */
static int copy_home(const struct chip_cache *cache, const struct block *block, uint64_t task,
		     uint32_t tensor)
{
	struct dw_chip_copy copy = {
		.size = sizeof(copy), .tensor = tensor, .flags = DW_CHIP_COPY_OUT,
		.bytes = block->end - block->begin,
		.started_ns = cache->settled ? now_ns() : 0,
	};
	int result = chip_copy_out(cache->chip, (void *)(uintptr_t)block->begin, block->handle,
				   copy.bytes);

	if (result < 0 || !cache->settled)
		return result;
	copy.ended_ns = now_ns();
	cache->settled(cache->settled_context, task, &copy);
	return 0;
}

/* Copies a kept block home. False: the copy failed. */
static bool settle(struct chip_cache *cache, struct block *block)
{
	int result;

	if (!block->kept)
		return true;
	result = copy_home(cache, block, block->task, block->tensor);
	if (result < 0) {
		cache->error = result;
		return false;
	}
	unkeep(cache, block);
	cache->counters.settled++;
	return true;
}

int cache_settle(struct chip_cache *cache)
{
	for (size_t i = 0; cache->kept && i < cache->count; i++)
		if (!settle(cache, cache->blocks[i]))
			return cache->error;
	return 0;
}

void cache_forgo(struct chip_cache *cache, uint32_t frame)
{
	for (size_t i = cache->kept ? cache->count : 0; i-- > 0;) {
		struct block *block = cache->blocks[i];

		if (!block->kept || (int32_t)(block->frame - frame) >= 0)
			continue;
		unkeep(cache, block);
		block->name = 0;
		if (!block->pins)
			block_drop(cache, i);
	}
}

uint64_t cache_lost(const struct chip_cache *cache)
{
	return cache->lost;
}

int cache_error(const struct chip_cache *cache)
{
	return cache->error;
}

/* Returns the least recently used block that no call uses. */
static bool evict_one(struct chip_cache *cache)
{
	struct block *block = cache->oldest;

	while (block && block->pins)
		block = block->newer;
	if (!block || !settle(cache, block))
		return false;
	block_drop(cache, block_above(cache, block->begin));
	cache->counters.evictions++;
	return true;
}

bool cache_shrink(struct chip_cache *cache, uint64_t bytes)
{
	uint64_t before = cache->counters.bytes;
	bool any = false;

	while (before - cache->counters.bytes < bytes && evict_one(cache))
		any = true;
	return any;
}

bool cache_shrink_for(struct chip_cache *cache, const struct dw_args *args)
{
	uint64_t bytes, sum = 0;

	for (uint32_t i = 0; i < args->tensor_count; i++) {
		if (chip_owns(cache->chip, args->tensors[i].data))
			return false;
		if (dw_tensor_bytes(&args->tensors[i], &bytes) == 0)
			sum += bytes;
	}
	return cache_shrink(cache, sum);
}

/* Drops every block with a byte of the range; false: a call uses one of them. */
static bool clear_range(struct chip_cache *cache, uint64_t begin, uint64_t end)
{
	size_t first = block_above(cache, begin), i;

	for (i = first; i < cache->count && cache->blocks[i]->begin < end; i++)
		if (cache->blocks[i]->pins || !settle(cache, cache->blocks[i]))
			return false;
	while (i-- > first)
		block_drop(cache, i);
	return true;
}

static bool blocks_grow(struct chip_cache *cache)
{
	size_t space = cache->space ? cache->space * 2 : 64;
	struct block **grown;

	if (cache->count < cache->space)
		return true;
	grown = realloc(cache->blocks, space * sizeof(*grown));
	if (!grown)
		return false;
	cache->blocks = grown;
	cache->space = space;
	return true;
}

/* Makes a block for a range that overlaps no other. NULL: the device or the host has no room. */
static struct block *block_new(struct chip_cache *cache, uint64_t begin, uint64_t end)
{
	uint64_t bytes = end - begin;
	struct block *block;
	int status;
	size_t i;

	if (bytes > cache->budget || !blocks_grow(cache))
		return NULL;
	while (cache->counters.bytes + bytes > cache->budget)
		if (!evict_one(cache))
			return NULL;
	block = calloc(1, sizeof(*block));
	if (!block)
		return NULL;
	while ((status = chip_reserve(cache->chip, cache->next_handle, bytes)) < 0) {
		/* While the driver is busy, dropping other blocks would not help. */
		if (status == -EBUSY || chip_lost(cache->chip) || !evict_one(cache)) {
			free(block);
			return NULL;
		}
	}
	block->begin = begin;
	block->end = end;
	block->handle = cache->next_handle;
	cache->next_handle += (bytes + 2ULL * HANDLE_ALIGN - 1) & ~(uint64_t)(HANDLE_ALIGN - 1);
	i = block_above(cache, begin);
	memmove(&cache->blocks[i + 1], &cache->blocks[i],
		(cache->count - i) * sizeof(*cache->blocks));
	cache->blocks[i] = block;
	cache->count++;
	list_add(cache, block);
	cache->counters.blocks++;
	cache->counters.bytes += bytes;
	return block;
}

/* --------------------------------------------------------------------- calls */

static void set_use(struct chip_cache *cache, struct cached_call *call, uint32_t i,
		    struct block *block, uint64_t begin, uint64_t name, uint32_t flags,
		    uint64_t saved)
{
	block->pins++;
	list_remove(cache, block);
	list_add(cache, block);
	call->uses[i] = (struct use){ .block = block, .name = name, .saved = saved };
	call->places[i].handle = block->handle + (begin - block->begin);
	call->places[i].flags = flags;
}

/* Does another tensor of the call fetch this block already, under that name? */
static bool fetched_by(const struct cached_call *call, const struct block *block, uint64_t name)
{
	for (uint32_t i = 0; i < call->count; i++)
		if (call->uses[i].block == block && call->uses[i].name == name)
			return true;
	return false;
}

static void place_input(struct chip_cache *cache, struct cached_call *call, uint32_t i,
			uint64_t begin, uint64_t end, uint64_t name)
{
	struct block *block = block_around(cache, begin, end);
	bool here = block && (block->name == name || fetched_by(call, block, name));

	if (here) {
		if ((begin - block->begin) % cache->alignment)
			return;
		set_use(cache, call, i, block, begin, 0, block->kept ? 0 : DW_CHIP_ON_HOST,
			end - begin);
		return;
	}
	if (!clear_range(cache, begin, end))
		return;
	block = block_new(cache, begin, end);
	if (block)
		set_use(cache, call, i, block, begin, name, DW_CHIP_COPY_IN, 0);
}

/* Does that call write exactly this range, over what this one has made? */
static bool supersedes(const struct superseder *by, uint64_t begin, uint64_t end, uint64_t makes)
{
	uint32_t count = by ? by->args->tensor_count : 0;
	uint64_t bytes;

	if (count > TENSORS_MOST || (by && count > by->signature_count))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (by->names[i].sees == makes && by->names[i].makes &&
		    by->signature[i] != DW_DIR_IN && by->args->tensors[i].data == begin &&
		    dw_tensor_bytes(&by->args->tensors[i], &bytes) == 0 && bytes == end - begin)
			return true;
	return false;
}

/* names->sees: the contents that the call reads there; it reads nothing if `fetch` is false. */
static void place_output(struct chip_cache *cache, struct cached_call *call, uint32_t i,
			 uint64_t begin, uint64_t end, const struct frame_names *names, bool fetch,
			 const struct superseder *by)
{
	struct block *block = block_around(cache, begin, end);
	bool exact = block && block->begin == begin && block->end == end && !block->pins;
	bool keeps = supersedes(by, begin, end, names->makes);
	uint32_t flags = keeps ? 0 : DW_CHIP_COPY_OUT;
	struct use *use = &call->uses[i];
	uint64_t saved = 0;

	/* It was kept for another call. */
	if (exact && block->kept && block->name != names->sees && !settle(cache, block))
		return;
	if (fetch && exact && names->sees && block->name == names->sees) {
		saved = end - begin;
		flags |= block->kept ? 0 : DW_CHIP_ON_HOST;
	} else if (fetch) {
		flags |= DW_CHIP_COPY_IN;
	}
	if (!exact) {
		if (!clear_range(cache, begin, end))
			return;
		block = block_new(cache, begin, end);
		if (!block)
			return;
	}
	set_use(cache, call, i, block, begin, names->makes, flags, saved);
	use->keeps = keeps;
	use->was_kept = block->kept;
	use->was_name = block->name;
	use->was_frame = block->frame;
	use->was_task = block->task;
	use->was_tensor = block->tensor;
	block->name = 0;
	if (block->kept)
		unkeep(cache, block);
	else if (!fetch)
		block_fill(cache, block);
	if (keeps) {
		call->keeps = true;
		call->frame = by->frame;
		call->task = by->task;
	}
}

struct span {
	uint64_t begin, end;
	bool written;
};

/* Does a tensor share bytes with another one, and is one of the two written? */
static bool conflicts(const struct span *spans, uint32_t count, uint32_t i)
{
	for (uint32_t j = 0; j < count; j++)
		if (j != i && (spans[i].written || spans[j].written) &&
		    spans[i].begin < spans[j].end && spans[j].begin < spans[i].end)
			return true;
	return false;
}

static void place(struct chip_cache *cache, struct cached_call *call, uint32_t i,
		  const struct span *span, int32_t direction, const struct frame_names *names,
		  const struct superseder *by)
{
	if (direction == DW_DIR_IN && names->sees && !names->makes)
		place_input(cache, call, i, span->begin, span->end, names->sees);
	else if (direction != DW_DIR_IN && names->makes)
		place_output(cache, call, i, span->begin, span->end, names,
			     direction == DW_DIR_INOUT, by);
}

/* Finds the places of a call; false: none of its tensors has one. */
static bool place_all(struct chip_cache *cache, struct cached_call *call,
		      const struct dw_args *args, const int32_t *signature,
		      const struct frame_names *names, const struct superseder *by)
{
	struct span spans[TENSORS_MOST];
	uint32_t count = args->tensor_count;
	bool any = false;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t bytes;

		if (dw_tensor_bytes(&args->tensors[i], &bytes) < 0)
			return false;
		spans[i] = (struct span){
			.begin = args->tensors[i].data, .end = args->tensors[i].data + bytes,
			.written = signature[i] != DW_DIR_IN,
		};
	}
	for (uint32_t i = 0; cache->fill && i < count; i++)
		if (signature[i] == DW_DIR_OUT && !chip_owns(cache->chip, spans[i].begin) &&
		    !conflicts(spans, count, i))
			memset((void *)(uintptr_t)spans[i].begin, FILL_BYTE,
			       spans[i].end - spans[i].begin);
	for (uint32_t i = 0; i < count; i++) {
		call->uses[i] = (struct use){ 0 };
		call->places[i] = (struct dw_chip_place){ .size = sizeof(call->places[i]) };
		call->count = i + 1;
		if (spans[i].begin < spans[i].end && !chip_owns(cache->chip, spans[i].begin) &&
		    !conflicts(spans, count, i))
			place(cache, call, i, &spans[i], signature[i], &names[i], by);
		any |= call->uses[i].block != NULL;
	}
	return any;
}

/* Copies home the kept blocks that overlap a tensor without a place. */
static void settle_range(struct chip_cache *cache, uint64_t begin, uint64_t end)
{
	for (size_t i = block_above(cache, begin);
	     i < cache->count && cache->blocks[i]->begin < end; i++)
		settle(cache, cache->blocks[i]);
}

/* Copies home the kept blocks that the call is about to write. */
static void settle_written(struct chip_cache *cache, struct cached_call *call)
{
	for (uint32_t i = 0; i < call->count; i++) {
		struct use *use = &call->uses[i];
		int result = 0;

		if (use->was_kept)
			result = copy_home(cache, use->block, use->was_task, use->was_tensor);

		if (result < 0) {
			cache->error = result;
			return;
		}
		cache->counters.settled += use->was_kept;
		use->was_kept = false;
	}
}

static void settle_for(struct chip_cache *cache, struct cached_call *call,
		       const struct dw_args *args)
{
	bool writes_kept = false, all_placed = true;

	for (uint32_t i = 0; i < args->tensor_count; i++) {
		const struct dw_tensor *tensor = &args->tensors[i];
		uint64_t bytes;

		if (i < call->count && call->uses[i].block) {
			writes_kept |= call->uses[i].was_kept;
			continue;
		}
		if (dw_tensor_bytes(tensor, &bytes) < 0 || !bytes ||
		    chip_owns(cache->chip, tensor->data))
			continue;
		all_placed = false;
		if (cache->kept)
			settle_range(cache, tensor->data, tensor->data + bytes);
	}
	if (writes_kept && !all_placed)
		settle_written(cache, call);
}

const struct dw_chip_place *cache_begin(struct chip_cache *cache, const struct dw_args *args,
					const int32_t *signature, size_t signature_count,
					const struct frame_names *names,
					const struct superseder *by)
{
	struct cached_call *call =
		&cache->calls[(cache->head + cache->in_flight) % CALLS_MOST];
	uint32_t count = args->tensor_count;
	bool any = false;

	cache->in_flight++;
	call->count = 0;
	call->keeps = false;
	if (names && count <= TENSORS_MOST && count <= signature_count)
		any = place_all(cache, call, args, signature, names, by);
	settle_for(cache, call, args);
	return any ? call->places : NULL;
}

/* Ends the use of the call's blocks; blocks that still have no name are dropped. */
static void leave(struct chip_cache *cache, const struct cached_call *call, bool succeeded,
		  bool keep)
{
	for (uint32_t i = 0; i < call->count; i++) {
		const struct use *use = &call->uses[i];
		struct block *block = use->block;

		if (!block)
			continue;
		block->pins--;
		if (succeeded && use->name)
			block->name = use->name;
		else if (!block->name && !block->pins)
			block_drop(cache, block_above(cache, block->begin));
		if (succeeded && use->keeps && keep) {
			block->kept = true;
			block->frame = call->frame;
			block->task = call->task;
			block->tensor = i;
			cache->kept++;
			cache->counters.kept++;
		}
	}
	cache->in_flight--;
}

bool cache_undo(struct chip_cache *cache, bool untouched)
{
	const struct cached_call *call =
		&cache->calls[(cache->head + cache->in_flight - 1) % CALLS_MOST];
	bool lost = false;

	for (uint32_t i = 0; i < call->count; i++) {
		const struct use *use = &call->uses[i];

		if (!use->was_kept)
			continue;
		lost |= !untouched;
		if (!untouched)
			continue;
		use->block->kept = true;
		use->block->name = use->was_name;
		use->block->frame = use->was_frame;
		use->block->task = use->was_task;
		use->block->tensor = use->was_tensor;
		cache->kept++;
	}
	leave(cache, call, false, false);
	return lost;
}

bool cache_keeps(const struct chip_cache *cache, uint32_t *frame)
{
	const struct cached_call *call = &cache->calls[cache->head];

	*frame = call->frame;
	return call->keeps;
}

int cache_end(struct chip_cache *cache, bool succeeded, bool keep)
{
	const struct cached_call *call = &cache->calls[cache->head];
	int result = 0;

	for (uint32_t i = 0; i < call->count; i++) {
		cache->counters.hits += call->uses[i].saved != 0;
		cache->counters.saved_bytes += call->uses[i].saved;
		/* The kept contents that it has overwritten need never be copied home. */
		if (succeeded && call->uses[i].was_kept)
			cache->counters.saved_bytes += call->uses[i].block->end -
						       call->uses[i].block->begin;
	}
	for (uint32_t i = 0; i < call->count && succeeded && !keep && result == 0; i++)
		if (call->uses[i].keeps)
			result = copy_home(cache, call->uses[i].block, call->task, i);
	cache->lost = 0;
	for (uint32_t i = 0; i < call->count && !succeeded; i++)
		if (call->uses[i].was_kept)
			cache->lost = call->uses[i].was_task;
	cache->head = (cache->head + 1) % CALLS_MOST;
	leave(cache, call, succeeded && result == 0, keep);
	return result < 0 ? result : succeeded && keep && call->keeps;
}

void cache_counters(const struct chip_cache *cache, struct chip_cache_counters *counters)
{
	*counters = cache->counters;
}

void cache_destroy(struct chip_cache *cache)
{
	if (!cache)
		return;
	while (cache->count)
		block_drop(cache, cache->count - 1);
	free(cache->fill);
	free(cache->blocks);
	free(cache);
}
