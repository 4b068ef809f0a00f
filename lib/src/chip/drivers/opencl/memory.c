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
	device->counters.memory_used -= device->spare_bytes;
	device->spare_bytes = 0;
}

static cl_mem buffer_create(struct dw_chip_device *device, uint64_t bytes, cl_int *code)
{
	cl_mem buffer = clCreateBuffer(device->context, CL_MEM_READ_WRITE, bytes, NULL, code);

	if (*code) {
		/* The missing memory may be in buffers that are kept for later calls. */
		spares_drop(device);
		buffer = clCreateBuffer(device->context, CL_MEM_READ_WRITE, bytes, NULL, code);
	}
	if (!*code)
		device->counters.memory_used += bytes;
	return buffer;
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
	/* For a resident range, only the reference is given back. */
	spare = place->resident || device->spare_bytes + bytes > device->spare_limit ?
		NULL : malloc(sizeof(*spare));
	if (!spare) {
		clReleaseMemObject(place->buffer);
		if (!place->resident)
			device->counters.memory_used -= bytes;
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

/* Waits for a command that was enqueued with `code`. */
static cl_int wait_for(cl_int code, cl_event event)
{
	if (!code) {
		code = clWaitForEvents(1, &event);
		clReleaseEvent(event);
	}
	return code;
}

static cl_int resident_zero(struct dw_chip_device *device, const struct resident *resident)
{
	const unsigned char zero = 0;
	cl_event event;
	cl_int code;

	if (resident->svm)
		code = clEnqueueSVMMemFill(device->commands, resident->svm, &zero, 1,
					   resident->bytes, 0, NULL, &event);
	else
		code = clEnqueueFillBuffer(device->commands, resident->buffer, &zero, 1, 0,
					   resident->bytes, 0, NULL, &event);
	return wait_for(code, event);
}

/* The calls in flight have ended, or hold their own reference to the buffer. */
static void resident_release(struct dw_chip_device *device, const struct resident *resident)
{
	if (resident->svm)
		clSVMFree(device->context, resident->svm);
	else
		clReleaseMemObject(resident->buffer);
	device->counters.memory_used -= resident->bytes;
}

static char *svm_create(struct dw_chip_device *device, uint64_t bytes)
{
	void *svm = clSVMAlloc(device->context, CL_MEM_READ_WRITE, bytes, 0);

	if (!svm) {
		spares_drop(device);
		svm = clSVMAlloc(device->context, CL_MEM_READ_WRITE, bytes, 0);
	}
	if (svm)
		device->counters.memory_used += bytes;
	return svm;
}

/*
 * The memory of a range. Only ranges of alloc are shared virtual memory: those of reserve are the
 * library's own, and are copied to and from within calls.
 */
static int resident_create(struct dw_chip_device *device, struct resident *resident, bool svm,
			   struct dw_chip_error *error)
{
	char object[64];
	cl_int code = 0;

	snprintf(object, sizeof(object), "opencl device %u, %llu resident bytes", device->id,
		 (unsigned long long)resident->bytes);
	if (svm)
		resident->svm = svm_create(device, resident->bytes);
	else
		resident->buffer = buffer_create(device, resident->bytes, &code);
	if (code) {
		opencl_fail(error, code, "clCreateBuffer", object);
		return -ENOMEM;
	}
	if (svm && !resident->svm)
		return kit_fail(error, -ENOMEM, "%s: clSVMAlloc failed; %llu bytes are in use",
				object, (unsigned long long)device->counters.memory_used);
	return 0;
}

static int range_add(struct dw_chip_device *device, uint64_t handle, uint64_t bytes, bool svm,
		     struct dw_chip_error *error)
{
	struct resident made = { .handle = handle, .bytes = bytes };
	size_t at = device->resident_count;
	int status;

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
	status = resident_create(device, &made, svm, error);
	if (status < 0)
		return status;
	memmove(&device->residents[at + 1], &device->residents[at],
		(device->resident_count - at) * sizeof(*device->residents));
	device->residents[at] = made;
	device->resident_count++;
	return 0;
}

int memory_reserve(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		   struct dw_chip_error *error)
{
	return range_add(device, handle, bytes, false, error);
}

int memory_alloc(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		 struct dw_chip_error *error)
{
	struct dw_chip_error ignored;
	char object[64];
	cl_int code;
	int status = range_add(device, handle, bytes, device->svm, error);

	if (status < 0)
		return status;
	code = resident_zero(device, resident_find(device, handle));
	if (!code)
		return 0;
	memory_free(device, handle, &ignored);
	snprintf(object, sizeof(object), "opencl device %u, %llu resident bytes", device->id,
		 (unsigned long long)bytes);
	return opencl_fail(error, code, "zeroing it", object);
}

int memory_free(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error)
{
	struct resident *resident = resident_find(device, handle);

	if (!resident || resident->handle != handle)
		return kit_fail(
			error, -ENOENT,
			"opencl device %u has no device-resident range that begins at %#llx",
			device->id, (unsigned long long)handle);
	if (resident->svm)
		queue_drain(device);
	resident_release(device, resident);
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

static void copy_counted(struct dw_chip_device *device, enum copy_way way, uint64_t bytes)
{
	if (way == COPY_IN) {
		device->counters.copies_in++;
		device->counters.bytes_in += bytes;
	} else {
		device->counters.copies_out++;
		device->counters.bytes_out += bytes;
	}
}

cl_int buffer_copy(struct dw_chip_device *device, const struct copy *copy, cl_event *event)
{
	/* A blocking copy has no event that a later command could wait for. */
	cl_bool blocking = !event;
	const cl_event *after = copy->after ? &copy->after : NULL;
	cl_int code;

	if (copy->svm)
		code = clEnqueueSVMMemcpy(device->commands, blocking,
					  copy->way == COPY_IN ? copy->svm : copy->host,
					  copy->way == COPY_IN ? copy->host : copy->svm,
					  copy->bytes, after != NULL, after, event);
	else if (copy->way == COPY_IN)
		code = clEnqueueWriteBuffer(device->commands, copy->buffer, blocking, copy->offset,
					    copy->bytes, copy->host, after != NULL, after, event);
	else
		code = clEnqueueReadBuffer(device->commands, copy->buffer, blocking, copy->offset,
					   copy->bytes, copy->host, after != NULL, after, event);
	if (!code)
		copy_counted(device, copy->way, copy->bytes);
	return code;
}

static cl_int svm_copy(struct dw_chip_device *device, void *to, const void *from, uint64_t bytes)
{
	return clEnqueueSVMMemcpy(device->commands, CL_TRUE, to, from, bytes, 0, NULL, NULL);
}

/* The queue is in order: the copy comes after the calls before it. */
static int resident_copy(struct dw_chip_device *device, enum copy_way way, uint64_t handle,
			 void *host, uint64_t bytes, struct dw_chip_error *error)
{
	struct copy copy = { .way = way, .host = host, .bytes = bytes };
	struct resident *resident = NULL;
	int status = range_find(device, handle, bytes, &resident, error);
	char *svm;
	cl_int code;

	if (status < 0)
		return status;
	copy.buffer = resident->buffer;
	copy.offset = handle - resident->handle;
	if (!resident->svm) {
		code = buffer_copy(device, &copy, NULL);
		return code ? opencl_fail(error, code, copy_call(way), "resident tensor") : 0;
	}
	svm = resident->svm + copy.offset;
	code = way == COPY_IN ? svm_copy(device, svm, host, bytes) :
				svm_copy(device, host, svm, bytes);
	if (code)
		return opencl_fail(error, code, "clEnqueueSVMMemcpy", "resident tensor");
	copy_counted(device, way, bytes);
	return 0;
}

int memory_copy_within(struct dw_chip_device *device, uint64_t to, uint64_t from, uint64_t bytes,
		       struct dw_chip_error *error)
{
	struct resident *target = NULL, *source = NULL;
	int status = range_find(device, to, bytes, &target, error);
	cl_event event;
	cl_int code;

	if (status == 0)
		status = range_find(device, from, bytes, &source, error);
	if (status < 0)
		return status;
	to -= target->handle;
	from -= source->handle;
	if (target->svm) {
		code = svm_copy(device, target->svm + to, source->svm + from, bytes);
	} else {
		code = clEnqueueCopyBuffer(device->commands, source->buffer, target->buffer, from,
					   to, bytes, 0, NULL, &event);
		code = wait_for(code, event);
	}
	return code ? opencl_fail(error, code, target->svm ? "clEnqueueSVMMemcpy" :
							    "clEnqueueCopyBuffer",
				  "copy within the device") :
		      0;
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
		resident_release(device, &device->residents[i]);
	free(device->residents);
}
