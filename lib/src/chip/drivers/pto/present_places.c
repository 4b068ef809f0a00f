/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Runs of tensors that have a place in device memory. To the runtime these are tensors of the
 * device, which it does not copy: the driver copies before a run and behind it. After a context was
 * replaced, the contents of its blocks are gone; a run then gets them from the host, which has the
 * same bytes (DW_CHIP_ON_HOST).
 */
#include "base/clock.h"
#include "present.h"

static void *host_address(const struct dw_chip_call *call, size_t i)
{
	return (void *)(uintptr_t)call->tensors[i].data;
}

/* Copies that the runtime makes by itself are part of its run. */
static void copied(const struct dw_chip_call *call, size_t i, uint32_t way, uint64_t started)
{
	if (call->copies)
		kit_copied(call->copies, (struct dw_chip_copy){
			.tensor = (uint32_t)i, .flags = way, .bytes = call->tensor_bytes[i],
			.started_ns = started, .ended_ns = now_ns(),
		});
}

/* Must the driver copy to the place of tensor `i`? 1, 0, or an error. */
static int fetches(const struct dw_chip_device *device, const struct dw_chip_call *call, size_t i,
		   const struct dw_chip_place *place, const struct present_block *block,
		   struct dw_chip_error *error)
{
	if (place->flags & DW_CHIP_COPY_IN)
		return 1;
	if (!block->stale || !(pto_direction(call->image, i) & DW_DIR_IN))
		return 0;
	if (place->flags & DW_CHIP_ON_HOST)
		return 1;
	return kit_fail(error, -EIO,
			"tensor %zu of \"%s\": what pto device %u kept of it is lost with a "
			"context that took no run any more",
			i, call->image->entry, device->id);
}

static int place_stage(struct dw_chip_device *device, const struct dw_chip_call *call, size_t i,
		       const struct dw_chip_place *place, int *code, struct dw_chip_error *error)
{
	struct present *present = device->state;
	struct present_block *block = present_block_at(present, place->handle);
	uint64_t bytes = call->tensor_bytes[i];
	int result = fetches(device, call, i, place, block, error);
	uint64_t started = call->copies ? now_ns() : 0;

	if (result < 0)
		return result;
	if (result) {
		*code = present->host.copy_to(present->context,
					      block->device + (place->handle - block->handle),
					      host_address(call, i), bytes);
		if (*code)
			return 0;
		pto_count_in(device, bytes);
		copied(call, i, DW_CHIP_COPY_IN, started);
	}
	/*
	 * The block has contents again, or will have them: the library drops it if a run that
	 * writes it fails.
	 */
	if (place->handle == block->handle && bytes == block->bytes)
		block->stale = false;
	return 0;
}

/* Counts the copies that the runtime makes by itself for a staged run. */
static void count_runtime(struct dw_chip_device *device, const struct dw_chip_call *call)
{
	const struct present *present = device->state;
	uint64_t in = 0, out = 0, bytes_in = 0, bytes_out = 0;

	for (size_t i = 0; i < call->tensor_count; i++) {
		int32_t direction = pto_direction(call->image, i);
		uint64_t bytes = call->tensor_bytes[i];

		if (!bytes || present_place(call, i) ||
		    present_block_at(present, call->tensors[i].data))
			continue;
		in += !!(direction & DW_DIR_IN);
		bytes_in += direction & DW_DIR_IN ? bytes : 0;
		out += !!(direction & DW_DIR_OUT);
		bytes_out += direction & DW_DIR_OUT ? bytes : 0;
	}
	device->copies_in += in;
	device->copies_out += out;
	device->bytes_in += bytes_in;
	device->bytes_out += bytes_out;
}

int present_stage(struct dw_chip_device *device, const struct dw_chip_call *call,
		  unsigned int storage, int *code, struct dw_chip_error *error)
{
	int status = present_fill(device, call, storage, error);

	*code = 0;
	if (status < 0)
		return status;
	count_runtime(device, call);
	for (size_t i = 0; call->places && i < call->tensor_count && !status && !*code; i++) {
		const struct dw_chip_place *place = present_place(call, i);

		if (place)
			status = place_stage(device, call, i, place, code, error);
	}
	return status;
}

int present_unstage(struct dw_chip_device *device, const struct dw_chip_call *call)
{
	struct present *present = device->state;
	int code = 0;

	for (size_t i = 0; call->places && code == 0 && i < call->tensor_count; i++) {
		const struct dw_chip_place *place = present_place(call, i);
		uint64_t bytes = call->tensor_bytes[i];
		uint64_t started = call->copies ? now_ns() : 0;
		const struct present_block *block;

		if (!place || !(place->flags & DW_CHIP_COPY_OUT))
			continue;
		block = present_block_at(present, place->handle);
		code = present->host.copy_from(present->context,
					       host_address(call, i),
					       block->device + (place->handle - block->handle),
					       bytes);
		if (code)
			break;
		pto_count_out(device, bytes);
		copied(call, i, DW_CHIP_COPY_OUT, started);
	}
	return code;
}

/* ------------------------------------------------------------------ dependence */

struct range {
	uint64_t begin, end;
};

static bool overlap(struct range a, struct range b)
{
	return a.begin < b.end && b.begin < a.end;
}

static struct range host_range(const struct dw_chip_call *call, size_t i)
{
	return (struct range){ call->tensors[i].data,
			       call->tensors[i].data + call->tensor_bytes[i] };
}

static struct range place_range(const struct dw_chip_call *call, size_t i)
{
	const struct dw_chip_place *place = present_place(call, i);

	return place ? (struct range){ place->handle, place->handle + call->tensor_bytes[i] } :
		       (struct range){ 0, 0 };
}

/* Is tensor `i` copied from the host (DW_DIR_IN), or back to it (DW_DIR_OUT)? */
static bool travels(const struct dw_chip_device *device, const struct dw_chip_call *call, size_t i,
		    enum dw_direction direction)
{
	const struct dw_chip_place *place = present_place(call, i);
	uint32_t flag = direction == DW_DIR_IN ? DW_CHIP_COPY_IN : DW_CHIP_COPY_OUT;

	if (place)
		return place->flags & flag;
	return (pto_direction(call->image, i) & (int32_t)direction) &&
	       !present_resident(device, call->tensors[i].data);
}

bool present_depends(const struct dw_chip_device *device, const struct dw_chip_call *later,
		     const struct dw_chip_call *earlier)
{
	for (size_t j = 0; j < later->tensor_count; j++) {
		if (!travels(device, later, j, DW_DIR_IN))
			continue;
		for (size_t i = 0; i < earlier->tensor_count; i++)
			if ((travels(device, earlier, i, DW_DIR_OUT) &&
			     overlap(host_range(earlier, i), host_range(later, j))) ||
			    overlap(place_range(earlier, i), place_range(later, j)))
				return true;
	}
	return false;
}
