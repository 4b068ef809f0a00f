/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The structs of a run with the present interface. They belong to the device and are reused for
 * every run: fields that only the previous run used are cleared.
 */
#include "present.h"

/* Types that this interface has and the library has not; 12 to 14 exist on generation a5 only. */
#define DTYPE_PRESENT_FIRST 9
#define DTYPE_A5_FIRST 12
#define DTYPE_PRESENT_LAST 14

static uint64_t next_epoch;

/* The interface's number of an element type, or -1. */
static int dtype_of(const struct dw_chip_device *device, uint8_t dtype)
{
	int last = device->generation->has_small_floats ? DTYPE_PRESENT_LAST : DTYPE_A5_FIRST - 1;

	switch (dtype) {
	case DW_UINT16: return 9;
	case DW_UINT32: return 10;
	case DW_BOOL: return 11;
	default: return dtype <= DW_UINT64 || (dtype >= DTYPE_PRESENT_FIRST && dtype <= last) ?
			dtype : -1;
	}
}

static int dtype_fail(const struct dw_chip_device *device, size_t i, uint8_t dtype,
		      struct dw_chip_error *error)
{
	if (dtype >= DTYPE_A5_FIRST && dtype <= DTYPE_PRESENT_LAST)
		return kit_fail(error, -ENOTSUP,
				"tensor %zu has element type %u, which generation a5 has and %s "
				"has not (driver option generation=)",
				i, dtype, device->generation->name);
	return kit_fail(error, -ENOTSUP,
			"tensor %zu has element type %u: this runtime takes float32, float16, "
			"bfloat16, int8 to int64, uint8 to uint64 and bool",
			i, dtype);
}

/* Row-major, in elements. */
static int shape_fill(struct present_tensor *to, const struct dw_tensor *from, size_t i,
		      struct dw_chip_error *error)
{
	uint64_t stride = 1;

	to->extent = 1;
	to->ndims = from->ndims ? from->ndims : 1;
	for (uint32_t j = 0; j < PRESENT_DIMS; j++) {
		to->shape[j] = j < from->ndims ? from->shape[j] : from->ndims == 0 && j == 0;
		to->strides[j] = 0;
	}
	for (uint32_t j = to->ndims; j-- > 0;) {
		if (stride > UINT32_MAX)
			return kit_fail(error, -E2BIG,
					"tensor %zu: a step in dimension %u has %llu elements, "
					"this runtime takes at most %u",
					i, j, (unsigned long long)stride, UINT32_MAX);
		to->strides[j] = (uint32_t)stride;
		to->extent *= to->shape[j];
		/* The stride of a tensor without elements does not matter, but 0 is refused. */
		stride *= to->shape[j] ? to->shape[j] : 1;
	}
	return 0;
}

static int tensor_fill(struct dw_chip_device *device, struct present_tensor *to,
		       const struct dw_chip_call *call, size_t i, struct dw_chip_error *error)
{
	const struct dw_tensor *from = &call->tensors[i];
	const struct dw_chip_place *place = present_place(call, i);
	uint64_t at = place ? place->handle : from->data;
	struct present_block *block = present_block_at(device->state, at);
	int dtype = dtype_of(device, from->dtype);

	if (dtype < 0)
		return dtype_fail(device, i, from->dtype, error);
	if (place && !block)
		return kit_fail(error, -EFAULT,
				"tensor %zu has a place at %#llx, where pto device %u has no block "
				"of device memory",
				i, (unsigned long long)at, device->id);
	to->address = from->data;
	to->space = PRESENT_HOST;
	if (block) {
		uint64_t offset = at - block->handle;
		int status = block->device ? 0 : present_block_renew(device, block, error);

		if (status < 0)
			return status;
		if (call->tensor_bytes[i] > block->bytes - offset)
			return kit_fail(
				error, -EFAULT,
				"tensor %zu has %llu bytes from byte %llu of a block of device "
				"memory of %llu on",
				i, (unsigned long long)call->tensor_bytes[i],
				(unsigned long long)offset, (unsigned long long)block->bytes);
		to->address = (uint64_t)(uintptr_t)(block->device + offset);
		to->space = PRESENT_DEVICE;
	}
	to->bytes = call->tensor_bytes[i];
	to->owner = UINT64_MAX;
	to->dtype = (uint8_t)dtype;
	to->contiguous = 1;
	return shape_fill(to, from, i, error);
}

static void clear(void *from, size_t element, int32_t count, int32_t before)
{
	if (before > count)
		memset((char *)from + (size_t)count * element, 0,
		       (size_t)(before - count) * element);
}

static int config_fill(const struct dw_chip_device *device, const struct dw_config *from,
		       struct present *present, struct dw_chip_error *error)
{
	struct present_config *to = &present->config;
	const struct pto_generation *generation = device->generation;
	bool diagnostic = from->flags & (DW_CONFIG_PROFILING | DW_CONFIG_DUMP_TENSOR);

	if (from->aicpu_thread_num == 1 || from->aicpu_thread_num > generation->threads_present)
		return kit_fail(error, -EINVAL,
				"config.aicpu_thread_num is %d: 2 to %d are possible on pto of "
				"generation %s (driver option generation=), 0 for its default",
				from->aicpu_thread_num, generation->threads_present,
				generation->name);
	if (diagnostic && !present->output[0])
		return kit_fail(error, -EINVAL,
				"config.flags %#x asks for what this runtime writes into a folder: "
				"name one with driver option output=FOLDER",
				from->flags);
	to->threads = from->aicpu_thread_num;
	to->swimlane = !!(from->flags & DW_CONFIG_PROFILING);
	to->dump_args = from->flags & DW_CONFIG_DUMP_TENSOR ? 2 : 0;
	if (diagnostic)
		strcpy(to->output, present->output);
	else
		to->output[0] = '\0';
	return 0;
}

int present_fill(struct dw_chip_device *device, const struct dw_chip_call *call,
		 unsigned int storage, struct dw_chip_error *error)
{
	struct present *present = device->state;
	struct present_args *args = &present->args;
	struct present_descriptor *descriptor = &present->descriptor;
	int32_t tensors_before = args->tensor_count;
	int status = config_fill(device, &call->config, present, error);

	if (status < 0)
		return status;
	/* If this fails in the middle, the next run clears everything. */
	args->tensor_count = PRESENT_TENSORS_MAX;
	for (size_t i = 0; i < call->tensor_count; i++) {
		status = tensor_fill(device, &args->tensors[i], call, i, error);
		if (status < 0)
			return status;
	}
	clear(args->tensors, sizeof(args->tensors[0]), (int32_t)call->tensor_count, tensors_before);
	args->tensor_count = (int32_t)call->tensor_count;
	if (call->scalar_count)
		memcpy(args->scalars, call->scalars, call->scalar_count * sizeof(*args->scalars));
	clear(args->scalars, sizeof(args->scalars[0]), (int32_t)call->scalar_count,
	      args->scalar_count);
	args->scalar_count = (int32_t)call->scalar_count;
	descriptor->slot = descriptor->bank = storage;
	descriptor->run = descriptor->dispatch = ++present->runs;
	descriptor->generation = ++present->storages[storage].generation;
	descriptor->epoch = __atomic_add_fetch(&next_epoch, 1, __ATOMIC_RELAXED);
	return 0;
}

void present_remark(struct dw_chip_device *device, const struct dw_chip_call *call,
		    struct dw_chip_error *error)
{
	struct present *present = device->state;

	if (!call->config.block_dim || present->told)
		return;
	present->told = true;
	kit_fail(error, 0,
		 "config.block_dim %d has no effect on pto device %u: with this runtime a run "
		 "takes the whole device",
		 call->config.block_dim, device->id);
}
