/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The device's memory: one mapping of its own between two guards, and an allocator over it.
 * Extents cover the memory without gaps, in address order; two free ones are never
 * neighbours. Any thread, under memory.lock.
 */
#include <sys/mman.h>
#include "internal.h"

#define POISON 0xa5

int memory_create(struct memory *memory, uint64_t bytes, bool poison, struct dw_chip_error *error)
{
	struct extent *all = calloc(1, sizeof(*all));
	int code;

	bytes = (bytes + 4095) & ~(uint64_t)4095;
	if (!all)
		return kit_fail(error, -ENOMEM, "sim: no memory to open a device");
	memory->map = mmap(NULL, bytes + 2 * SIM_GUARD, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory->map == MAP_FAILED ||
	    mprotect(memory->map + SIM_GUARD, bytes, PROT_READ | PROT_WRITE) < 0) {
		code = -errno;
		if (memory->map != MAP_FAILED)
			munmap(memory->map, bytes + 2 * SIM_GUARD);
		free(all);
		return kit_fail(error, code,
				"sim: cannot map %llu bytes of device memory (option memory=): %s",
				(unsigned long long)bytes, strerror(-code));
	}
	memory->base = memory->map + SIM_GUARD;
	memory->bytes = bytes;
	memory->used = 0;
	memory->poison = poison;
	memory->spare = NULL;
	all->bytes = bytes;
	memory->first = all;
	memory->free = all;
	pthread_mutex_init(&memory->lock, NULL);
	return 0;
}

void memory_destroy(struct memory *memory)
{
	struct extent *lists[2] = { memory->first, memory->spare };

	for (unsigned int i = 0; i < 2; i++)
		while (lists[i]) {
			struct extent *extent = lists[i];

			lists[i] = extent->next;
			free(extent);
		}
	munmap(memory->map, memory->bytes + 2 * SIM_GUARD);
	pthread_mutex_destroy(&memory->lock);
}

static void free_list_add(struct memory *memory, struct extent *extent)
{
	extent->used = false;
	extent->free_previous = NULL;
	extent->free_next = memory->free;
	if (memory->free)
		memory->free->free_previous = extent;
	memory->free = extent;
}

static void free_list_remove(struct memory *memory, struct extent *extent)
{
	if (extent->free_previous)
		extent->free_previous->free_next = extent->free_next;
	else
		memory->free = extent->free_next;
	if (extent->free_next)
		extent->free_next->free_previous = extent->free_previous;
}

static struct extent *spare_take(struct memory *memory)
{
	struct extent *extent = memory->spare;

	if (!extent)
		return malloc(sizeof(*extent));
	memory->spare = extent->next;
	return extent;
}

/* Splits off the part behind `bytes` as a free extent. False: the host has no memory for it. */
static bool extent_split(struct memory *memory, struct extent *extent, uint64_t bytes)
{
	struct extent *rest = spare_take(memory);

	if (!rest)
		return false;
	rest->offset = extent->offset + bytes;
	rest->bytes = extent->bytes - bytes;
	rest->previous = extent;
	rest->next = extent->next;
	if (rest->next)
		rest->next->previous = rest;
	extent->next = rest;
	extent->bytes = bytes;
	free_list_add(memory, rest);
	return true;
}

struct extent *memory_alloc(struct memory *memory, uint64_t bytes)
{
	struct extent *extent;

	if (bytes > memory->bytes)
		return NULL;
	bytes = bytes ? (bytes + SIM_ALIGN - 1) & ~(uint64_t)(SIM_ALIGN - 1) : SIM_ALIGN;
	pthread_mutex_lock(&memory->lock);
	for (extent = memory->free; extent; extent = extent->free_next)
		if (extent->bytes >= bytes)
			break;
	if (extent) {
		free_list_remove(memory, extent);
		if (extent->bytes > bytes && !extent_split(memory, extent, bytes)) {
			free_list_add(memory, extent);
			extent = NULL;
		}
	}
	if (extent) {
		extent->used = true;
		memory->used += extent->bytes;
	}
	pthread_mutex_unlock(&memory->lock);
	if (extent && memory->poison)
		memset(memory->base + extent->offset, POISON, extent->bytes);
	return extent;
}

/* Merges `next` into `extent`, the neighbour before it. */
static void extent_merge(struct memory *memory, struct extent *extent, struct extent *next)
{
	extent->bytes += next->bytes;
	extent->next = next->next;
	if (extent->next)
		extent->next->previous = extent;
	next->next = memory->spare;
	memory->spare = next;
}

void memory_free(struct memory *memory, struct extent *extent)
{
	struct extent *previous, *next;

	pthread_mutex_lock(&memory->lock);
	memory->used -= extent->bytes;
	previous = extent->previous;
	next = extent->next;
	if (next && !next->used) {
		free_list_remove(memory, next);
		extent_merge(memory, extent, next);
	}
	if (previous && !previous->used) {
		free_list_remove(memory, previous);
		extent_merge(memory, previous, extent);
		extent = previous;
	}
	free_list_add(memory, extent);
	pthread_mutex_unlock(&memory->lock);
}

uint64_t memory_used(struct memory *memory)
{
	uint64_t used;

	pthread_mutex_lock(&memory->lock);
	used = memory->used;
	pthread_mutex_unlock(&memory->lock);
	return used;
}

struct resident *resident_find(const struct dw_chip_device *device, uint64_t address)
{
	size_t low = 0, high = device->resident_count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		struct resident *resident = &device->residents[middle];

		if (address < resident->handle)
			high = middle;
		else if (address - resident->handle >= resident->bytes)
			low = middle + 1;
		else
			return resident;
	}
	return NULL;
}
