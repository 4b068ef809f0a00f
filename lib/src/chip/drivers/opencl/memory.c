/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Device memory: buffers for the arguments of calls, kept for the next call by size, and
 * ranges that stay (device-resident tensors). The chip worker's thread only.
 */
#include "internal.h"

#define CLASS_MIN 12	/* 4 KiB */

static unsigned int size_class(uint64_t bytes)
{
	unsigned int class = CLASS_MIN;

	while (class < SIZE_CLASSES - 1 && (UINT64_C(1) << class) < bytes)
		class++;
	return class;
}

static void spares_drop(struct dw_chip_device *device)
{
	for (unsigned int i = 0; i < SIZE_CLASSES; i++)
		while (device->spares[i]) {
			struct spare *spare = device->spares[i];

			device->spares[i] = spare->next;
			clReleaseMemObject(spare->buffer);
			free(spare);
		}
	device->spare_bytes = 0;
}

static cl_mem buffer_create(struct dw_chip_device *device, uint64_t bytes, cl_int *code)
{
	cl_mem buffer = clCreateBuffer(device->context, CL_MEM_READ_WRITE, bytes, NULL, code);

	if (!*code)
		return buffer;
	/* The buffers that are kept for later may hold the missing memory. */
	spares_drop(device);
	return clCreateBuffer(device->context, CL_MEM_READ_WRITE, bytes, NULL, code);
}

int buffer_take(struct dw_chip_device *device, uint64_t bytes, struct place *place,
		struct dw_chip_error *error)
{
	unsigned int class = size_class(bytes);
	struct spare *spare = device->spares[class];
	char object[64];
	cl_int code;

	place->size_class = class;
	if (spare) {
		device->spares[class] = spare->next;
		device->spare_bytes -= UINT64_C(1) << class;
		place->buffer = spare->buffer;
		free(spare);
		return 0;
	}
	place->buffer = buffer_create(device, UINT64_C(1) << class, &code);
	if (!code)
		return 0;
	place->buffer = NULL;
	snprintf(object, sizeof(object), "opencl device %u, %llu bytes of arguments", device->id,
		 (unsigned long long)bytes);
	opencl_fail(error, code, "clCreateBuffer", object);
	return -ENOMEM;
}

void buffer_give(struct dw_chip_device *device, struct place *place)
{
	uint64_t bytes = UINT64_C(1) << place->size_class;
	struct spare *spare;

	if (!place->buffer || place->shared)
		return;
	/* Of a resident range only the reference is given back. */
	spare = place->resident || device->spare_bytes + bytes > device->spare_limit ?
		NULL : malloc(sizeof(*spare));
	if (!spare) {
		clReleaseMemObject(place->buffer);
		return;
	}
	spare->buffer = place->buffer;
	spare->next = device->spares[place->size_class];
	device->spares[place->size_class] = spare;
	device->spare_bytes += bytes;
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

static int buffer_zero(struct dw_chip_device *device, cl_mem buffer, uint64_t bytes)
{
	const unsigned char zero = 0;
	cl_event event;
	cl_int code =
		clEnqueueFillBuffer(device->commands, buffer, &zero, 1, 0, bytes, 0, NULL, &event);

	if (!code) {
		code = clWaitForEvents(1, &event);
		clReleaseEvent(event);
	}
	return code;
}

int memory_reserve(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		   struct dw_chip_error *error)
{
	size_t at = device->resident_count;
	char object[64];
	cl_mem buffer;
	cl_int code;

	while (at > 0 && device->residents[at - 1].handle >= handle)
		at--;
	if ((at < device->resident_count && device->residents[at].handle < handle + bytes) ||
	    (at > 0 && handle - device->residents[at - 1].handle < device->residents[at - 1].bytes))
		return kit_fail(
			error, -EEXIST,
			"opencl device %u: [%#llx, +%llu) overlaps a device-resident range that is "
			"there",
			device->id, (unsigned long long)handle, (unsigned long long)bytes);
	if (device->resident_count == device->resident_space) {
		size_t space = device->resident_space ? device->resident_space * 2 : 16;
		struct resident *grown = realloc(device->residents, space * sizeof(*grown));

		if (!grown)
			return kit_fail(error, -ENOMEM, "opencl device %u: no memory", device->id);
		device->residents = grown;
		device->resident_space = space;
	}
	snprintf(object, sizeof(object), "opencl device %u, %llu resident bytes", device->id,
		 (unsigned long long)bytes);
	buffer = buffer_create(device, bytes, &code);
	if (code) {
		opencl_fail(error, code, "clCreateBuffer", object);
		return -ENOMEM;
	}
	memmove(&device->residents[at + 1], &device->residents[at],
		(device->resident_count - at) * sizeof(*device->residents));
	device->residents[at] = (struct resident){ handle, bytes, buffer };
	device->resident_count++;
	device->counters.memory_used += bytes;
	return 0;
}

int memory_alloc(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		 struct dw_chip_error *error)
{
	struct dw_chip_error ignored;
	char object[64];
	cl_int code;
	int status = memory_reserve(device, handle, bytes, error);

	if (status < 0)
		return status;
	code = buffer_zero(device, resident_find(device, handle)->buffer, bytes);
	if (!code)
		return 0;
	memory_free(device, handle, &ignored);
	snprintf(object, sizeof(object), "opencl device %u, %llu resident bytes", device->id,
		 (unsigned long long)bytes);
	return opencl_fail(error, code, "clEnqueueFillBuffer", object);
}

int memory_free(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error)
{
	struct resident *resident = resident_find(device, handle);

	if (!resident || resident->handle != handle)
		return kit_fail(
			error, -ENOENT,
			"opencl device %u has no device-resident range that begins at %#llx",
			device->id, (unsigned long long)handle);
	/* A call in flight has its own reference. */
	clReleaseMemObject(resident->buffer);
	device->counters.memory_used -= resident->bytes;
	device->resident_count--;
	memmove(resident, resident + 1,
		(device->resident_count - (size_t)(resident - device->residents)) *
			sizeof(*resident));
	return 0;
}

static int range_find(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		      struct resident **result, struct dw_chip_error *error)
{
	struct resident *resident = resident_find(device, handle);

	if (!resident)
		return kit_fail(error, -ENOENT,
				"opencl device %u has no device-resident range at %#llx",
				device->id, (unsigned long long)handle);
	if (bytes > resident->bytes - (handle - resident->handle))
		return kit_fail(
			error, -ERANGE,
			"opencl device %u: [%#llx, +%llu) goes beyond the range %#llx of %llu "
			"bytes",
			device->id, (unsigned long long)handle, (unsigned long long)bytes,
			(unsigned long long)resident->handle, (unsigned long long)resident->bytes);
	*result = resident;
	return 0;
}

cl_int buffer_copy(struct dw_chip_device *device, const struct copy *copy, cl_event *event)
{
	/* A copy that blocks has no event that a later command could see or wait for. */
	cl_bool blocking = !event;
	const cl_event *after = copy->after ? &copy->after : NULL;
	cl_int code;

	if (copy->way == COPY_IN)
		code = clEnqueueWriteBuffer(device->commands, copy->buffer, blocking, copy->offset,
					    copy->bytes, copy->host, after != NULL, after, event);
	else
		code = clEnqueueReadBuffer(device->commands, copy->buffer, blocking, copy->offset,
					   copy->bytes, copy->host, after != NULL, after, event);
	if (code)
		return code;
	if (copy->way == COPY_IN) {
		device->counters.copies_in++;
		device->counters.bytes_in += copy->bytes;
	} else {
		device->counters.copies_out++;
		device->counters.bytes_out += copy->bytes;
	}
	return 0;
}

/* The queue is in order: the copy comes after the calls before it. */
static int resident_copy(struct dw_chip_device *device, enum copy_way way, uint64_t handle,
			 void *host, uint64_t bytes, struct dw_chip_error *error)
{
	struct copy copy = { .way = way, .host = host, .bytes = bytes };
	struct resident *resident = NULL;
	int status = range_find(device, handle, bytes, &resident, error);
	cl_int code;

	if (status < 0)
		return status;
	copy.buffer = resident->buffer;
	copy.offset = handle - resident->handle;
	code = buffer_copy(device, &copy, NULL);
	return code ? opencl_fail(error, code, copy_call(way), "resident tensor") : 0;
}

int memory_copy_in(struct dw_chip_device *device, uint64_t handle, const void *host, uint64_t bytes,
		   struct dw_chip_error *error)
{
	return resident_copy(device, COPY_IN, handle, (void *)(uintptr_t)host, bytes, error);
}

int memory_copy_out(struct dw_chip_device *device, void *host, uint64_t handle, uint64_t bytes,
		    struct dw_chip_error *error)
{
	return resident_copy(device, COPY_OUT, handle, host, bytes, error);
}

void memory_fini(struct dw_chip_device *device)
{
	spares_drop(device);
	for (size_t i = 0; i < device->resident_count; i++)
		clReleaseMemObject(device->residents[i].buffer);
	free(device->residents);
}
