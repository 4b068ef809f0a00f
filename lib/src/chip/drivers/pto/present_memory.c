/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Device memory with the present interface. Blocks are sorted by handle and do not overlap.
 */
#include "present.h"

/* New memory is zeroed by copies from here. */
#define ZERO_BYTES ((size_t)1 << 20)

static const char zeros[ZERO_BYTES];

/* The first block behind the address. */
static size_t block_behind(const struct present *present, uint64_t address)
{
	size_t low = 0, high = present->block_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (present->blocks[middle].handle <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct present_block *present_block_search(const struct present *present, uint64_t address)
{
	size_t i = block_behind(present, address);
	struct present_block *block = i ? &present->blocks[i - 1] : NULL;

	return block && address - block->handle < block->bytes ? block : NULL;
}

bool present_resident(const struct dw_chip_device *device, uint64_t address)
{
	return present_block_at(device->state, address);
}

static int room_make(struct present *present)
{
	size_t space = present->block_space ? 2 * present->block_space : 16;
	struct present_block *grown;

	if (present->block_count < present->block_space)
		return 0;
	grown = realloc(present->blocks, space * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	present->blocks = grown;
	present->block_space = space;
	return 0;
}

static int copy_failed(const struct dw_chip_device *device, const char *name, int code,
		       uint64_t bytes, struct dw_chip_error *error)
{
	char meaning[PTO_CODE_BYTES];

	return kit_fail(error, -EIO, "pto device %u: %s() of %llu bytes returned %d (%s)",
			device->id, name, (unsigned long long)bytes, code,
			pto_code_text(code, meaning));
}

/* Releases blocks that were freed while another thread was in the runtime; none is now. */
static void freed_drop(struct present *present)
{
	size_t kept = 0;

	if (!present->freed_count)
		return;
	for (size_t i = 0; i < present->block_count; i++) {
		struct present_block *block = &present->blocks[i];

		if (!block->freed)
			present->blocks[kept++] = *block;
		else if (block->device)
			present->host.free(present->context, block->device);
	}
	present->block_count = kept;
	present->freed_count = 0;
}

/* Returns the memory of a freed block of that size that was not released yet, or NULL. */
static char *freed_take(struct present *present, uint64_t bytes)
{
	char *memory = NULL;

	for (size_t i = 0; present->freed_count && i < present->block_count; i++) {
		struct present_block *block = &present->blocks[i];

		if (!block->freed || block->bytes != bytes || !block->device)
			continue;
		memory = block->device;
		memmove(block, block + 1, (--present->block_count - i) * sizeof(*block));
		present->freed_count--;
		break;
	}
	return memory;
}

static int memory_take(struct dw_chip_device *device, uint64_t bytes, char **memory,
		       struct dw_chip_error *error)
{
	struct present *present = device->state;

	freed_drop(present);
	*memory = present->host.malloc(present->context, bytes);
	if (*memory)
		return 0;
	return kit_fail(error, -ENOMEM, "pto device %u: device_malloc_ctx() has no %llu bytes",
			device->id, (unsigned long long)bytes);
}

/* Checks the handle and size of a new block, and makes room to note it. */
static int block_check(const struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		       struct dw_chip_error *error)
{
	struct present *present = device->state;
	size_t at = block_behind(present, handle);

	if ((at && handle - present->blocks[at - 1].handle < present->blocks[at - 1].bytes) ||
	    (at < present->block_count && present->blocks[at].handle - handle < bytes))
		return kit_fail(error, -EEXIST,
				"pto device %u: a block of device memory of %llu bytes at %#llx "
				"would overlap another",
				device->id, (unsigned long long)bytes, (unsigned long long)handle);
	if (room_make(present) < 0)
		return kit_fail(error, -ENOMEM, "pto device %u: no memory to note a block",
				device->id);
	return 0;
}

static void block_add(struct present *present, struct present_block block)
{
	size_t at = block_behind(present, block.handle);

	memmove(present->blocks + at + 1, present->blocks + at,
		(present->block_count - at) * sizeof(*present->blocks));
	present->blocks[at] = block;
	present->block_count++;
}

int present_alloc(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		  struct dw_chip_error *error)
{
	struct present *present = device->state;
	int status = block_check(device, handle, bytes, error);
	char *memory = NULL;

	if (status < 0)
		return status;
	present_quiesce(present);
	status = memory_take(device, bytes, &memory, error);
	if (status < 0)
		return status;
	for (uint64_t done = 0; done < bytes; done += ZERO_BYTES) {
		uint64_t part = bytes - done < ZERO_BYTES ? bytes - done : ZERO_BYTES;
		int code = present->host.copy_to(present->context, memory + done, zeros, part);

		if (code) {
			present->host.free(present->context, memory);
			return copy_failed(device, "copy_to_device_ctx", code, part, error);
		}
	}
	block_add(present, (struct present_block){
		.handle = handle, .bytes = bytes, .device = memory,
	});
	return 0;
}

int present_reserve(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		    struct dw_chip_error *error)
{
	struct present *present = device->state;
	int status = block_check(device, handle, bytes, error);
	char *memory = NULL;

	if (status < 0)
		return status;
	memory = freed_take(present, bytes);
	if (!memory && present_waits(present))
		return kit_fail(error, -EBUSY,
				"pto device %u gives no memory while a run is waited for",
				device->id);
	if (!memory)
		status = memory_take(device, bytes, &memory, error);
	if (status < 0)
		return status;
	block_add(present, (struct present_block){
		.handle = handle, .bytes = bytes, .device = memory, .for_places = true,
	});
	return 0;
}

int present_block_renew(struct dw_chip_device *device, struct present_block *block,
			struct dw_chip_error *error)
{
	/* Freed blocks are gone with the context, so this block keeps its place in the list. */
	return memory_take(device, block->bytes, &block->device, error);
}

int present_free(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error)
{
	struct present *present = device->state;
	size_t at = block_behind(present, handle);
	struct present_block *block = at ? &present->blocks[at - 1] : NULL;

	if (!block || block->handle != handle || block->freed)
		return kit_fail(error, -ENOENT,
				"pto device %u has no block of device memory at %#llx",
				device->id, (unsigned long long)handle);
	if (block->for_places && present_waits(present)) {
		block->freed = true;
		present->freed_count++;
		return 0;
	}
	present_quiesce(present);
	if (block->device)
		present->host.free(present->context, block->device);
	present->block_count--;
	memmove(block, block + 1, (present->block_count - (at - 1)) * sizeof(*block));
	return 0;
}

/* The device's address of a part of a block. */
static int locate(const struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		  char **memory, struct dw_chip_error *error)
{
	const struct present_block *block = present_block_at(device->state, handle);

	if (!block || !block->device)
		return kit_fail(error, -ENOENT,
				"pto device %u has no block of device memory at %#llx",
				device->id, (unsigned long long)handle);
	if (bytes > block->bytes - (handle - block->handle))
		return kit_fail(error, -ERANGE,
				"pto device %u: %llu bytes from byte %llu of a block of device "
				"memory of %llu on",
				device->id, (unsigned long long)bytes,
				(unsigned long long)(handle - block->handle),
				(unsigned long long)block->bytes);
	*memory = block->device + (handle - block->handle);
	return 0;
}

int present_copy_in(struct dw_chip_device *device, uint64_t handle, const void *host,
		    uint64_t bytes, struct dw_chip_error *error)
{
	struct present *present = device->state;
	char *memory = NULL;
	int code, status = locate(device, handle, bytes, &memory, error);

	if (status < 0)
		return status;
	present_quiesce(present);
	code = present->host.copy_to(present->context, memory, host, bytes);
	if (code == 0)
		pto_count_in(device, bytes);
	return code ? copy_failed(device, "copy_to_device_ctx", code, bytes, error) : 0;
}

int present_copy_out(struct dw_chip_device *device, void *host, uint64_t handle, uint64_t bytes,
		     struct dw_chip_error *error)
{
	struct present *present = device->state;
	const struct present_block *block;
	char *memory = NULL;
	int code, status = locate(device, handle, bytes, &memory, error);

	if (status < 0)
		return status;
	block = present_block_at(present, handle);
	if (block && block->for_places && block->stale)
		return kit_fail(error, -EIO,
				"%llu bytes that pto device %u kept are lost with a context that "
				"took no run any more",
				(unsigned long long)bytes, device->id);
	present_quiesce(present);
	code = present->host.copy_from(present->context, host, memory, bytes);
	if (code == 0)
		pto_count_out(device, bytes);
	return code ? copy_failed(device, "copy_from_device_ctx", code, bytes, error) : 0;
}

uint64_t present_memory_used(struct dw_chip_device *device)
{
	struct present *present = device->state;

	if (present->committed_memory && present->initialized && !present_waits(present))
		present->memory_used = present->committed_memory(present->context);
	return present->memory_used;
}

size_t present_blocks_owned(const struct present *present)
{
	size_t count = 0;

	for (size_t i = 0; i < present->block_count; i++)
		count += !present->blocks[i].for_places;
	return count;
}

void present_memory_leave(struct present *present)
{
	freed_drop(present);
	for (size_t i = 0; i < present->block_count; i++) {
		struct present_block *block = &present->blocks[i];

		if (present->initialized && block->device)
			present->host.free(present->context, block->device);
		block->device = NULL;
		block->stale = true;
	}
}

void present_memory_forget(struct present *present)
{
	if (present->initialized)
		present_memory_leave(present);
	free(present->blocks);
	present->blocks = NULL;
	present->block_count = present->block_space = present->freed_count = 0;
}
