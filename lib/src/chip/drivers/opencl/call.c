/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Calls: writes, kernel and reads go into the in-order queue without waiting, each behind the
 * one before it; the last of them has a callback, which ends the call.
 *
 * Slot n % DEPTH belongs to call n. call_ended() is made by a thread of OpenCL's; it
 * touches the fields under queue.lock only.
 */
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/text.h"
#include "internal.h"

int queue_init(struct dw_chip_device *device, struct dw_chip_error *error)
{
	struct queue *queue = &device->queue;

	queue->fd = fd_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (queue->fd < 0) {
		int code = -errno;

		return kit_fail(error, code, "opencl device %u: no eventfd: %s", device->id,
				strerror(-code));
	}
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->ended, NULL);
	for (unsigned int i = 0; i < DEPTH; i++)
		queue->slots[i].device = device;
	return 0;
}

void queue_drain(struct dw_chip_device *device)
{
	struct queue *queue = &device->queue;

	pthread_mutex_lock(&queue->lock);
	while (queue->ran < queue->submitted)
		pthread_cond_wait(&queue->ended, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
}

static void slot_release(struct dw_chip_device *device, struct slot *slot)
{
	for (size_t i = 0; i < slot->count; i++)
		buffer_give(device, &slot->places[i]);
	slot->count = 0;
	for (size_t i = 0; i < slot->event_count; i++)
		clReleaseEvent(slot->events[i]);
	slot->event_count = 0;
}

void queue_fini(struct dw_chip_device *device)
{
	struct queue *queue = &device->queue;

	queue_drain(device);
	for (unsigned int i = 0; i < DEPTH; i++) {
		slot_release(device, &queue->slots[i]);
		free(queue->slots[i].places);
		free(queue->slots[i].events);
		free(queue->slots[i].tensors);
	}
	close(queue->fd);
	pthread_cond_destroy(&queue->ended);
	pthread_mutex_destroy(&queue->lock);
}

static void CL_CALLBACK call_ended(cl_event event, cl_int status, void *context)
{
	struct slot *slot = context;
	struct queue *queue = &slot->device->queue;

	(void)event;
	pthread_mutex_lock(&queue->lock);
	slot->status = status;
	slot->ended = now_ns();
	slot->done = true;
	queue->ran++;
	if (!queue->signalled) {
		queue->signalled = true;
		eventfd_write(queue->fd, 1);
	}
	pthread_cond_signal(&queue->ended);
	pthread_mutex_unlock(&queue->lock);
}

/* --------------------------------------------------------------- arguments */

static int shape_check(const struct dw_chip_call *call, struct dw_chip_error *error)
{
	const struct dw_chip_image *image = call->image;
	uint32_t scalars = image->signature_count - image->tensor_count;

	if (call->tensor_count != image->tensor_count || call->scalar_count != scalars)
		return kit_fail(error, -EINVAL,
				"\"%s\" takes %u tensors and %u scalars, the call has %zu and %zu",
				text_short(image->entry), image->tensor_count, scalars,
				call->tensor_count, call->scalar_count);
	for (size_t i = 0; i < call->tensor_count; i++) {
		uint64_t address = call->tensors[i].data, bytes = call->tensor_bytes[i];

		if (bytes && (address == 0 || address + bytes < address))
			return kit_fail(
				error, -EFAULT,
				"tensor %zu of \"%s\" has address %#llx and %llu bytes: host "
				"memory or a device-resident range is wanted",
				i, text_short(image->entry), (unsigned long long)address,
				(unsigned long long)bytes);
		for (size_t j = 0; j < i; j++) {
			uint64_t other = call->tensors[j].data, length = call->tensor_bytes[j];
			bool same = address == other && bytes == length;

			if (!same && address < other + length && other < address + bytes &&
			    (image->signature[i] != DW_DIR_IN || image->signature[j] != DW_DIR_IN))
				return kit_fail(
					error, -EINVAL,
					"tensors %zu and %zu of \"%s\" overlap in part and one is "
					"written: an OpenCL device cannot do that, give the same "
					"range or apart",
					j, i, text_short(image->entry));
		}
	}
	return 0;
}

/* The whole range, or a part of it that begins at an offset which the device allows. */
static int place_resident(struct dw_chip_device *device, const struct dw_chip_call *call, size_t i,
			  const struct resident *resident, uint64_t offset, struct place *place,
			  struct dw_chip_error *error)
{
	uint64_t bytes = call->tensor_bytes[i];
	cl_buffer_region part = { offset, bytes };
	cl_int code;

	if (bytes > resident->bytes - offset)
		return kit_fail(
			error, -EFAULT,
			"tensor %zu of \"%s\" goes %llu bytes beyond the device-resident range "
			"%#llx",
			i, call->image->entry,
			(unsigned long long)(offset + bytes - resident->bytes),
			(unsigned long long)resident->handle);
	place->resident = true;
	place->in = false;
	place->out = false;
	if (resident->svm) {
		place->svm = resident->svm + offset;
		return 0;
	}
	if (offset == 0) {
		clRetainMemObject(resident->buffer);
		place->buffer = resident->buffer;
		return 0;
	}
	if (offset % device->base_align)
		return kit_fail(
			error, -EFAULT,
			"tensor %zu of \"%s\" begins %llu bytes into a device-resident range: a "
			"multiple of %llu is wanted on this device, which works on buffers",
			i, call->image->entry, (unsigned long long)offset,
			(unsigned long long)device->base_align);
	place->buffer = clCreateSubBuffer(resident->buffer, CL_MEM_READ_WRITE,
					  CL_BUFFER_CREATE_TYPE_REGION, &part, &code);
	if (!code)
		return 0;
	place->buffer = NULL;
	return opencl_fail(error, code, "clCreateSubBuffer", call->image->entry);
}

/* The place that the library has chosen. */
static int place_chosen(struct dw_chip_device *device, const struct dw_chip_call *call, size_t i,
			const struct dw_chip_place *chosen, struct place *place,
			struct dw_chip_error *error)
{
	const struct resident *resident = resident_find(device, chosen->handle);
	int status;

	if (!resident)
		return kit_fail(error, -EFAULT,
				"tensor %zu of \"%s\" has a place at %#llx, where opencl device %u "
				"has no range",
				i, text_short(call->image->entry),
				(unsigned long long)chosen->handle, device->id);
	status = place_resident(device, call, i, resident, chosen->handle - resident->handle,
				place, error);
	place->in = chosen->flags & DW_CHIP_COPY_IN;
	place->out = chosen->flags & DW_CHIP_COPY_OUT;
	return status;
}

static int place_find(struct dw_chip_device *device, const struct dw_chip_call *call, size_t i,
		      struct place *places, struct dw_chip_error *error)
{
	uint64_t address = call->tensors[i].data, bytes = call->tensor_bytes[i];
	const struct resident *resident = bytes ? resident_find(device, address) : NULL;
	const struct dw_chip_place *chosen = call->places ? (const void *)
		((const char *)call->places + i * call->places->size) : NULL;
	struct place *place = &places[i];

	memset(place, 0, sizeof(*place));
	place->in = bytes && call->image->signature[i] != DW_DIR_OUT;
	place->out = bytes && call->image->signature[i] != DW_DIR_IN;
	if (chosen && chosen->handle && bytes)
		return place_chosen(device, call, i, chosen, place, error);
	for (size_t j = 0; j < i && bytes; j++)
		if (call->tensors[j].data == address && call->tensor_bytes[j] == bytes) {
			place->buffer = places[j].buffer;
			place->svm = places[j].svm;
			place->size_class = places[j].size_class;
			place->shared = true;
			if (places[j].resident)
				place->in = place->out = false;
			return 0;
		}
	if (resident)
		return place_resident(device, call, i, resident, address - resident->handle, place,
				      error);
	if (bytes && resident_find(device, address + bytes - 1))
		return kit_fail(
			error, -EFAULT,
			"tensor %zu of \"%s\" begins before the device-resident range that it ends "
			"in",
			i, call->image->entry);
	return buffer_take(device, bytes, place, error);
}

/* Makes room for the call's tensors and events, for one at least. */
static bool slot_grow(struct slot *slot, size_t tensors)
{
	struct place *places = realloc(slot->places, (tensors + 1) * sizeof(*places));
	uint32_t *copied;
	cl_event *events;

	if (!places)
		return false;
	slot->places = places;
	events = realloc(slot->events, (2 * tensors + 1) * sizeof(*events));
	if (!events)
		return false;
	slot->events = events;
	copied = realloc(slot->tensors, (2 * tensors + 1) * sizeof(*copied));
	if (!copied)
		return false;
	slot->tensors = copied;
	slot->space = tensors;
	return true;
}

static int places_find(struct dw_chip_device *device, const struct dw_chip_call *call,
		       struct slot *slot, struct dw_chip_error *error)
{
	int status = 0;

	if ((call->tensor_count > slot->space || !slot->tensors) &&
	    !slot_grow(slot, call->tensor_count))
		return kit_fail(error, -ENOMEM, "\"%s\": no memory for %zu tensors",
				call->image->entry, call->tensor_count);
	for (slot->count = 0; slot->count < call->tensor_count && status == 0; slot->count++)
		status = place_find(device, call, slot->count, slot->places, error);
	return status;
}

static cl_int scalar_set(const struct dw_chip_call *call, cl_uint index, size_t i)
{
	struct parameter *parameter = &call->image->parameters[i];
	uint64_t bits = call->scalars[i];
	double value;
	float narrow;
	cl_int code;

	if (parameter->kind == SCALAR_FLOAT) {
		memcpy(&value, &bits, sizeof(value));
		narrow = (float)value;
		return clSetKernelArg(call->image->kernel, index, sizeof(narrow), &narrow);
	}
	if (parameter->bytes)
		return clSetKernelArg(call->image->kernel, index, parameter->bytes, &bits);
	/* The size is unknown: try 8 bytes, then the lower 4. */
	code = clSetKernelArg(call->image->kernel, index, 8, &bits);
	if (code == CL_INVALID_ARG_SIZE)
		code = clSetKernelArg(call->image->kernel, index, 4, &bits);
	return code;
}

static int parameters_set(const struct dw_chip_call *call, const struct slot *slot,
			  struct dw_chip_error *error)
{
	const struct dw_chip_image *image = call->image;
	cl_uint index = 0;
	cl_int code = 0;

	for (size_t i = 0; i < call->tensor_count && !code; i++, index++)
		code = slot->places[i].svm ?
			       clSetKernelArgSVMPointer(image->kernel, index, slot->places[i].svm) :
			       clSetKernelArg(image->kernel, index, sizeof(cl_mem),
					      &slot->places[i].buffer);
	for (size_t i = 0; i < call->scalar_count && !code; i++)
		code = scalar_set(call, index++, i);
	if (code)
		return kit_fail(error, opencl_errno(code),
				"\"%s\": parameter %u: clSetKernelArg failed with %s",
				text_short(image->entry), index - 1, opencl_name(code));
	return 0;
}

/* ------------------------------------------------------------------ submit */

/* Must tensor i be copied, and has no tensor before it in the same buffer been copied? */
static bool moves(const struct slot *slot, size_t i, enum copy_way way)
{
	const struct place *places = slot->places;

	if (!(way == COPY_IN ? places[i].in : places[i].out))
		return false;
	for (size_t j = 0; j < i && places[i].shared; j++)
		if (places[j].buffer == places[i].buffer && places[j].svm == places[i].svm &&
		    (way == COPY_IN ? places[j].in : places[j].out))
			return false;
	return true;
}

static cl_event last_event(const struct slot *slot)
{
	return slot->event_count ? slot->events[slot->event_count - 1] : NULL;
}

static int copies_enqueue(struct dw_chip_device *device, const struct dw_chip_call *call,
			  struct slot *slot, enum copy_way way, struct dw_chip_error *error)
{
	for (size_t i = 0; i < call->tensor_count; i++) {
		struct copy copy = {
			.way = way,
			.buffer = slot->places[i].buffer,
			.svm = slot->places[i].svm,
			.bytes = call->tensor_bytes[i],
			.host = (void *)(uintptr_t)call->tensors[i].data,
			.after = last_event(slot),
		};
		cl_int code;

		if (!moves(slot, i, way))
			continue;
		code = buffer_copy(device, &copy, &slot->events[slot->event_count]);
		if (code)
			return opencl_fail(error, code, copy_call(way), call->image->entry);
		slot->tensors[slot->event_count++] = (uint32_t)i;
	}
	return 0;
}

static int kernel_enqueue(struct dw_chip_device *device, const struct dw_chip_call *call,
			  struct slot *slot, struct dw_chip_error *error)
{
	const struct dw_chip_image *image = call->image;
	size_t local = image->local, global = local * (size_t)call->config.block_dim;
	cl_event after = last_event(slot);
	cl_int code = clEnqueueNDRangeKernel(device->commands, image->kernel, 1, NULL, &global,
					     &local, after != NULL, after ? &after : NULL,
					     &slot->events[slot->event_count]);

	if (code)
		return kit_fail(
			error, opencl_errno(code),
			"\"%s\": clEnqueueNDRangeKernel with %d work-groups of %zu failed with %s",
			text_short(image->entry), call->config.block_dim, local, opencl_name(code));
	slot->kernel_event = slot->event_count++;
	return 0;
}

/*
 * Only some of the commands were enqueued: they must end before the arguments can be released. This
 * blocks: after such an error there is no other way.
 */
static void commands_abandon(struct dw_chip_device *device, const struct slot *slot)
{
	cl_event last = last_event(slot);

	if (last) {
		clFlush(device->commands);
		clWaitForEvents(1, &last);
	}
}

int call_submit(struct dw_chip_device *device, const struct dw_chip_call *call,
		struct dw_chip_error *error)
{
	struct queue *queue = &device->queue;
	struct slot *slot = &queue->slots[queue->submitted % DEPTH];
	struct dw_chip_call room;
	cl_int code;
	int status = kit_take_call(&call, &room, error);

	if (status < 0)
		return status;
	if (queue->submitted - queue->collected == DEPTH)
		return kit_fail(error, -EBUSY, "opencl device %u has %d calls in flight already",
				device->id, DEPTH);
	status = shape_check(call, error);
	if (status < 0)
		return status;
	status = places_find(device, call, slot, error);
	if (status == 0)
		status = parameters_set(call, slot, error);
	if (status == 0)
		status = copies_enqueue(device, call, slot, COPY_IN, error);
	if (status == 0)
		status = kernel_enqueue(device, call, slot, error);
	if (status == 0)
		status = copies_enqueue(device, call, slot, COPY_OUT, error);
	if (status < 0)
		goto abandon;
	slot->cookie = call->cookie;
	slot->copies = call->copies;
	slot->tensor_bytes = call->tensor_bytes;
	slot->done = false;
	slot->started = now_ns();
	memcpy(slot->entry, call->image->entry, sizeof(slot->entry));
	pthread_mutex_lock(&queue->lock);
	queue->submitted++;
	pthread_mutex_unlock(&queue->lock);
	code = clSetEventCallback(last_event(slot), CL_COMPLETE, call_ended, slot);
	if (code) {
		pthread_mutex_lock(&queue->lock);
		queue->submitted--;
		pthread_mutex_unlock(&queue->lock);
		status = opencl_fail(error, code, "clSetEventCallback", call->image->entry);
		goto abandon;
	}
	clFlush(device->commands);
	return 0;
abandon:
	commands_abandon(device, slot);
	slot_release(device, slot);
	return status;
}

/* The first failure is the cause; later commands only report that an earlier one failed. */
static cl_int first_error(const struct slot *slot)
{
	for (size_t i = 0; i < slot->event_count; i++) {
		cl_int status = CL_COMPLETE;

		clGetEventInfo(slot->events[i], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(status),
			       &status, NULL);
		if (status < 0)
			return status;
	}
	return slot->status;
}

static uint64_t event_time(cl_event event, cl_profiling_info which)
{
	cl_ulong time = 0;

	return clGetEventProfilingInfo(event, which, sizeof(time), &time, NULL) ? 0 : time;
}

/* The device has its own clock: take the end of the last command for the end of the call. */
static void copies_note(const struct slot *slot)
{
	uint64_t last = slot->copies ? event_time(last_event(slot), CL_PROFILING_COMMAND_END) : 0;

	for (size_t i = 0; last && i < slot->event_count; i++) {
		uint64_t started = event_time(slot->events[i], CL_PROFILING_COMMAND_START);
		uint64_t ended = event_time(slot->events[i], CL_PROFILING_COMMAND_END);

		if (i == slot->kernel_event || !started || ended < started || last < ended)
			continue;
		kit_copied(slot->copies, (struct dw_chip_copy){
			.tensor = slot->tensors[i],
			.flags = i < slot->kernel_event ? DW_CHIP_COPY_IN : DW_CHIP_COPY_OUT,
			.bytes = slot->tensor_bytes[slot->tensors[i]],
			.started_ns = slot->ended - (last - started),
			.ended_ns = slot->ended - (last - ended),
		});
	}
}

int call_collect(struct dw_chip_device *device, struct dw_chip_completion *completion)
{
	struct dw_chip_completion full = { .size = sizeof(full) };
	struct queue *queue = &device->queue;
	struct slot *slot;
	eventfd_t count;
	bool found = false;

	pthread_mutex_lock(&queue->lock);
	slot = &queue->slots[queue->collected % DEPTH];
	if (queue->collected < queue->submitted && slot->done) {
		slot->done = false;
		queue->collected++;
		found = true;
	} else if (queue->signalled) {
		/* Under the lock, so that no completion comes between the look and the read. */
		eventfd_read(queue->fd, &count);
		queue->signalled = false;
	}
	pthread_mutex_unlock(&queue->lock);
	if (!found)
		return 0;
	device->counters.calls++;
	full.cookie = slot->cookie;
	full.started_ns = slot->started;
	full.ended_ns = slot->ended;
	if (slot->status < 0) {
		cl_int code = first_error(slot);

		full.status = opencl_errno(code);
		kit_fail(&full.error, 0, "kernel \"%s\" on opencl device %u ended with %s (%d)",
			 slot->entry, device->id, opencl_name(code), code);
	}
	copies_note(slot);
	slot_release(device, slot);
	KIT_GIVE(completion, &full);
	return 1;
}
