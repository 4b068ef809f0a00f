/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Device memory with the present interface. Blocks are few, sorted by handle, and do not overlap.
 */
#include "present.h"

/* New memory is zero: it is copied from here. */
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

const struct present_block *present_block_at(const struct present *present, uint64_t address)
{
	const struct present_block *block;
	size_t i;

	if (!present->block_count)
		return NULL;
	i = block_behind(present, address);
	block = i ? &present->blocks[i - 1] : NULL;
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

int present_alloc(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		  struct dw_chip_error *error)
{
	struct present *present = device->state;
	size_t at = block_behind(present, handle);
	char *memory;

	if ((at && handle - present->blocks[at - 1].handle < present->blocks[at - 1].bytes) ||
	    (at < present->block_count && present->blocks[at].handle - handle < bytes))
		return kit_fail(error, -EEXIST,
				"pto device %u: a block of device memory of %llu bytes at %#llx "
				"would overlap another",
				device->id, (unsigned long long)bytes, (unsigned long long)handle);
	if (room_make(present) < 0)
		return kit_fail(error, -ENOMEM, "pto device %u: no memory to note a block",
				device->id);
	present_quiesce(present);
	memory = present->host.malloc(present->context, bytes);
	if (!memory)
		return kit_fail(error, -ENOMEM,
				"pto device %u: device_malloc_ctx() has no %llu bytes", device->id,
				(unsigned long long)bytes);
	for (uint64_t done = 0; done < bytes; done += ZERO_BYTES) {
		uint64_t part = bytes - done < ZERO_BYTES ? bytes - done : ZERO_BYTES;
		int code = present->host.copy_to(present->context, memory + done, zeros, part);

		if (code) {
			present->host.free(present->context, memory);
			return copy_failed(device, "copy_to_device_ctx", code, part, error);
		}
	}
	memmove(present->blocks + at + 1, present->blocks + at,
		(present->block_count - at) * sizeof(*present->blocks));
	present->blocks[at] = (struct present_block){ handle, bytes, memory };
	present->block_count++;
	return 0;
}

int present_free(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error)
{
	struct present *present = device->state;
	size_t at = block_behind(present, handle);

	if (!at || present->blocks[at - 1].handle != handle)
		return kit_fail(error, -ENOENT,
				"pto device %u has no block of device memory at %#llx",
				device->id, (unsigned long long)handle);
	present_quiesce(present);
	present->host.free(present->context, present->blocks[at - 1].device);
	present->block_count--;
	memmove(present->blocks + at - 1, present->blocks + at,
		(present->block_count - (at - 1)) * sizeof(*present->blocks));
	return 0;
}

/* The device's address of a part of a block. */
static int locate(const struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		  char **memory, struct dw_chip_error *error)
{
	const struct present_block *block = present_block_at(device->state, handle);

	if (!block)
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
	return code ? copy_failed(device, "copy_to_device_ctx", code, bytes, error) : 0;
}

int present_copy_out(struct dw_chip_device *device, void *host, uint64_t handle, uint64_t bytes,
		     struct dw_chip_error *error)
{
	struct present *present = device->state;
	char *memory = NULL;
	int code, status = locate(device, handle, bytes, &memory, error);

	if (status < 0)
		return status;
	present_quiesce(present);
	code = present->host.copy_from(present->context, host, memory, bytes);
	return code ? copy_failed(device, "copy_from_device_ctx", code, bytes, error) : 0;
}

uint64_t present_memory_used(struct dw_chip_device *device)
{
	struct present *present = device->state;

	if (present->committed_memory && present->initialized && !present_waits(present))
		present->memory_used = present->committed_memory(present->context);
	return present->memory_used;
}

void present_memory_forget(struct present *present)
{
	if (present->initialized)
		for (size_t i = 0; i < present->block_count; i++)
			present->host.free(present->context, present->blocks[i].device);
	free(present->blocks);
	present->blocks = NULL;
	present->block_count = present->block_space = 0;
}
