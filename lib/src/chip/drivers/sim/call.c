/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A call: every address among its arguments is checked and translated, inputs
 * are copied in, the kernel's blocks run on the cores (or the orchestration does), outputs are
 * copied back.
 *
 * Host ranges that overlap become one span of device memory, so that arguments that
 * alias on the host alias on the device. A call belongs to one thread at a time;
 * blocks run on several.
 */
#include "base/clock.h"
#include "base/text.h"
#include "internal.h"

int sim_lost(struct dw_chip_device *device, struct dw_chip_error *error)
{
	atomic_store(&device->lost, true);
	return kit_fail(error, -ENODEV, "sim device %u is lost (driver option lost_after=%llu)",
			device->id, (unsigned long long)device->options.faults.lost_after);
}

void call_init(struct call *call)
{
	memset(call, 0, sizeof(*call));
	call->pieces = call->inline_pieces;
	call->spans = call->inline_spans;
	call->tensors = call->inline_tensors;
	call->space = CALL_INLINE_TENSORS;
}

void call_fini(struct call *call)
{
	if (call->pieces != call->inline_pieces)
		free(call->pieces);
	if (call->spans != call->inline_spans)
		free(call->spans);
	if (call->tensors != call->inline_tensors)
		free(call->tensors);
}

static int call_grow(struct call *call, size_t count, struct dw_chip_error *error)
{
	struct piece *pieces;
	struct span *spans;
	struct dw_tensor *tensors;

	if (count <= call->space)
		return 0;
	pieces = calloc(count, sizeof(*pieces));
	spans = calloc(count, sizeof(*spans));
	tensors = calloc(count, sizeof(*tensors));
	if (!pieces || !spans || !tensors) {
		free(pieces);
		free(spans);
		free(tensors);
		return kit_fail(error, -ENOMEM, "no memory for a call with %zu tensors", count);
	}
	call_fini(call);
	call->pieces = pieces;
	call->spans = spans;
	call->tensors = tensors;
	call->space = count;
	return 0;
}

static int shape_check(const struct dw_chip_device *device, const struct dw_chip_call *from,
		       struct dw_chip_error *error)
{
	const struct dw_chip_image *image = from->image;
	uint32_t scalars = image->signature_count - image->tensor_count;

	if (from->tensor_count != image->tensor_count || from->scalar_count != scalars)
		return kit_fail(error, -EINVAL,
				"\"%s\" takes %u tensors and %u scalars, the call has %zu and %zu",
				text_short(image->entry), image->tensor_count, scalars,
				from->tensor_count, from->scalar_count);
	if ((uint32_t)from->config.block_dim > device->options.cores)
		return kit_fail(
			error, -EINVAL,
			"config.block_dim is %d: sim device %u has %llu cores (driver option "
			"cores=)",
			from->config.block_dim, device->id,
			(unsigned long long)device->options.cores);
	if (from->config.aicpu_thread_num > SCHEDULER_THREADS)
		return kit_fail(
			error, -EINVAL,
			"config.aicpu_thread_num is %d: sim device %u has %d scheduler threads",
			from->config.aicpu_thread_num, device->id, SCHEDULER_THREADS);
	return 0;
}

/* Fills piece `i`; its device address is known here only for resident and empty tensors. */
static int piece_fill(struct dw_chip_device *device, const struct dw_chip_call *from, size_t i,
		      struct piece *piece, struct dw_chip_error *error)
{
	uint64_t address = from->tensors[i].data, bytes = from->tensor_bytes[i];
	const struct resident *resident;

	piece->host = address;
	piece->bytes = bytes;
	piece->direction = from->image->signature[i];
	piece->resident = false;
	piece->in = bytes && piece->direction != DW_DIR_OUT;
	piece->out = bytes && piece->direction != DW_DIR_IN;
	piece->device = (uint64_t)(uintptr_t)device->memory.base;
	if (bytes == 0)
		return 0;
	if (address == 0 || address + bytes < address)
		return kit_fail(
			error, -EFAULT,
			"tensor %zu of \"%s\" has address %#llx and %llu bytes: host memory or a "
			"device-resident range is wanted",
			i, from->image->entry, (unsigned long long)address,
			(unsigned long long)bytes);
	if (memory_contains(&device->memory, address, bytes))
		return kit_fail(
			error, -EFAULT,
			"tensor %zu of \"%s\" has the device's own address %#llx: the handle of a "
			"device-resident range is wanted",
			i, from->image->entry, (unsigned long long)address);
	resident = resident_find(device, address);
	if (!resident) {
		resident = resident_find(device, address + bytes - 1);
		if (resident)
			return kit_fail(
				error, -EFAULT,
				"tensor %zu of \"%s\" begins before the device-resident range "
				"%#llx that it ends in",
				i, from->image->entry, (unsigned long long)resident->handle);
		return 0;
	}
	if (bytes > resident->bytes - (address - resident->handle))
		return kit_fail(
			error, -EFAULT,
			"tensor %zu of \"%s\" goes %llu bytes beyond the device-resident range "
			"%#llx of %llu bytes",
			i, from->image->entry,
			(unsigned long long)(address - resident->handle + bytes - resident->bytes),
			(unsigned long long)resident->handle, (unsigned long long)resident->bytes);
	piece->resident = true;
	piece->in = false;
	piece->out = false;
	piece->device =
		memory_address(&device->memory, resident->extent) + (address - resident->handle);
	return 0;
}

/* The place that the library has chosen for piece `i`, if it has one. */
static int piece_place(const struct dw_chip_device *device, const struct dw_chip_call *from,
		       size_t i, struct piece *piece, struct dw_chip_error *error)
{
	const struct dw_chip_place *place = (const void *)
		((const char *)from->places + i * from->places->size);
	const struct resident *resident;

	if (!place->handle || !piece->bytes)
		return 0;
	resident = resident_find(device, place->handle);
	if (!resident || piece->resident ||
	    piece->bytes > resident->bytes - (place->handle - resident->handle))
		return kit_fail(error, -EFAULT,
				"tensor %zu of \"%s\" has %llu bytes and a place at %#llx, where "
				"sim device %u has no such range",
				i, from->image->entry, (unsigned long long)piece->bytes,
				(unsigned long long)place->handle, device->id);
	piece->resident = true;
	piece->in = place->flags & DW_CHIP_COPY_IN;
	piece->out = place->flags & DW_CHIP_COPY_OUT;
	piece->device = memory_address(&device->memory, resident->extent) +
			(place->handle - resident->handle);
	return 0;
}

/* Makes the spans: host ranges sorted by address, those that overlap merged. */
static void spans_make(struct call *call)
{
	size_t count = 0, kept = 0;

	for (size_t i = 0; i < call->tensor_count; i++) {
		const struct piece *piece = &call->pieces[i];
		size_t at = count;

		if (piece->resident || piece->bytes == 0)
			continue;
		while (at > 0 && call->spans[at - 1].begin > piece->host) {
			call->spans[at] = call->spans[at - 1];
			at--;
		}
		call->spans[at].begin = piece->host;
		call->spans[at].end = piece->host + piece->bytes;
		call->spans[at].extent = NULL;
		count++;
	}
	for (size_t i = 0; i < count; i++) {
		if (kept && call->spans[i].begin < call->spans[kept - 1].end) {
			if (call->spans[i].end > call->spans[kept - 1].end)
				call->spans[kept - 1].end = call->spans[i].end;
		} else {
			call->spans[kept++] = call->spans[i];
		}
	}
	call->span_count = kept;
}

static int spans_alloc(struct dw_chip_device *device, struct call *call,
		       struct dw_chip_error *error)
{
	for (size_t i = 0; i < call->span_count; i++) {
		struct span *span = &call->spans[i];

		span->extent = memory_alloc(&device->memory, span->end - span->begin);
		if (!span->extent) {
			uint64_t used = memory_used(&device->memory);

			call_release(device, call);
			return kit_fail(
				error, -ENOMEM,
				"sim device %u has no room for %llu bytes of arguments: %llu of "
				"%llu bytes are in use (driver option memory=)",
				device->id, (unsigned long long)(span->end - span->begin),
				(unsigned long long)used, (unsigned long long)device->memory.bytes);
		}
	}
	return 0;
}

static void pieces_translate(struct dw_chip_device *device, struct call *call)
{
	for (size_t i = 0; i < call->tensor_count; i++) {
		struct piece *piece = &call->pieces[i];

		if (!piece->resident && piece->bytes) {
			struct span *span = call->spans;

			while (piece->host >= span->end)
				span++;
			piece->device = memory_address(&device->memory, span->extent) +
					(piece->host - span->begin);
		}
		call->tensors[i].data = piece->device;
	}
}

int call_prepare(struct dw_chip_device *device, const struct dw_chip_call *from, struct call *call,
		 struct dw_chip_error *error)
{
	int status;

	call->span_count = 0;
	status = shape_check(device, from, error);
	if (status == 0)
		status = call_grow(call, from->tensor_count, error);
	if (status < 0)
		return status;
	call->image = from->image;
	call->scalars = from->scalars;
	call->scalar_count = from->scalar_count;
	call->config = from->config;
	call->cookie = from->cookie;
	call->cancelled = from->cancelled;
	call->copies = from->copies;
	call->tensor_count = from->tensor_count;
	for (size_t i = 0; i < from->tensor_count; i++) {
		call->tensors[i] = from->tensors[i];
		status = piece_fill(device, from, i, &call->pieces[i], error);
		if (status == 0 && from->places)
			status = piece_place(device, from, i, &call->pieces[i], error);
		if (status < 0)
			return status;
	}
	spans_make(call);
	status = spans_alloc(device, call, error);
	if (status < 0)
		return status;
	pieces_translate(device, call);
	call->number = ++device->prepared;
	return 0;
}

void call_release(struct dw_chip_device *device, struct call *call)
{
	for (size_t i = 0; i < call->span_count; i++)
		if (call->spans[i].extent)
			memory_free(&device->memory, call->spans[i].extent);
	call->span_count = 0;
}

/* ------------------------------------------------------------------ copies */

int copy_count(struct dw_chip_device *device, struct dw_chip_error *error)
{
	uint64_t number = atomic_fetch_add(&device->copies, 1) + 1;

	if (fault_hits(&device->options.faults.copy_fail, number, NULL))
		return kit_fail(
			error, -EIO,
			"copy %llu of sim device %u failed on demand (driver option copy_fail=)",
			(unsigned long long)number, device->id);
	return 0;
}

/* Has an earlier argument already copied exactly these bytes, in or back? */
static bool piece_repeats(const struct call *call, size_t i, bool in)
{
	const struct piece *piece = &call->pieces[i];

	for (size_t j = 0; j < i; j++) {
		const struct piece *other = &call->pieces[j];

		if ((in ? other->in : other->out) && other->device == piece->device &&
		    other->bytes == piece->bytes)
			return true;
	}
	return false;
}

static void piece_copy(struct call *call, size_t i, uint32_t way)
{
	const struct piece *piece = &call->pieces[i];
	void *device = (void *)(uintptr_t)piece->device, *host = (void *)(uintptr_t)piece->host;
	uint64_t started = call->copies ? now_ns() : 0;

	memcpy(way == DW_CHIP_COPY_IN ? device : host, way == DW_CHIP_COPY_IN ? host : device,
	       piece->bytes);
	if (call->copies)
		kit_copied(call->copies, (struct dw_chip_copy){
			.tensor = (uint32_t)i, .flags = way, .bytes = piece->bytes,
			.started_ns = started, .ended_ns = now_ns(),
		});
}

int call_copy_in(struct dw_chip_device *device, struct call *call, struct dw_chip_error *error)
{
	for (size_t i = 0; i < call->tensor_count; i++) {
		const struct piece *piece = &call->pieces[i];

		if (!piece->in || piece_repeats(call, i, true))
			continue;
		if (copy_count(device, error) < 0)
			return -EIO;
		piece_copy(call, i, DW_CHIP_COPY_IN);
		atomic_fetch_add(&device->copies_in, 1);
		atomic_fetch_add(&device->bytes_in, piece->bytes);
	}
	return 0;
}

int call_copy_out(struct dw_chip_device *device, struct call *call, struct dw_chip_error *error)
{
	for (size_t i = 0; i < call->tensor_count; i++) {
		const struct piece *piece = &call->pieces[i];

		if (!piece->out || piece_repeats(call, i, false))
			continue;
		if (copy_count(device, error) < 0)
			return -EIO;
		piece_copy(call, i, DW_CHIP_COPY_OUT);
		atomic_fetch_add(&device->copies_out, 1);
		atomic_fetch_add(&device->bytes_out, piece->bytes);
	}
	return 0;
}

bool call_reads_from(const struct call *reader, const struct call *writer)
{
	for (size_t i = 0; i < reader->tensor_count; i++) {
		const struct piece *in = &reader->pieces[i];

		if (!in->in)
			continue;
		for (size_t j = 0; j < writer->tensor_count; j++) {
			const struct piece *out = &writer->pieces[j];

			if (out->out &&
			    in->host < out->host + out->bytes && out->host < in->host + in->bytes)
				return true;
		}
	}
	return false;
}

/* ------------------------------------------------------------------ blocks */

/*
 * The blocks of one kernel. Threads take them by `next`, in order, so that when a
 * block fails all lower ones have been taken and will end: the lowest that fails is the same
 * however many threads there are.
 */
struct blocks {
	const struct call *call;
	_Atomic uint32_t next;
	_Atomic bool failed;
	pthread_mutex_t lock;		/* the three below */
	uint32_t failed_index;
	int status;
	struct block_text text;		/* of that block */
};

int block_fail(const struct dw_sim_block *block, int error, const char *format, ...)
{
	struct block_text *text = block->driver;
	va_list list;

	va_start(list, format);
	text_vformat(text->text, sizeof(text->text), format, list);
	va_end(list);
	return error > 0 ? -error : error;
}

/* Runs the next block. False: there is none. */
static bool block_run(struct blocks *blocks)
{
	const struct call *call = blocks->call;
	struct block_text text = { "" };
	struct dw_sim_block block = {
		.dim = (uint32_t)call->config.block_dim,
		.cancelled = call->cancelled,
		.fail = block_fail,
		.driver = &text,
	};
	int status;

	if (atomic_load_explicit(&blocks->failed, memory_order_relaxed))
		return false;
	block.index = atomic_fetch_add_explicit(&blocks->next, 1, memory_order_relaxed);
	if (block.index >= block.dim)
		return false;
	block.core = block.index;
	status = kit_cancelled(call->cancelled) ? -ECANCELED :
		 call->image->kernel(&block, call->tensors, call->scalars);
	if (status) {
		pthread_mutex_lock(&blocks->lock);
		if (block.index < blocks->failed_index) {
			blocks->failed_index = block.index;
			blocks->status = status < 0 ? status : -EIO;
			blocks->text = text;
		}
		pthread_mutex_unlock(&blocks->lock);
		atomic_store_explicit(&blocks->failed, true, memory_order_relaxed);
	}
	return true;
}

static void blocks_work(void *context)
{
	while (block_run(context))
		;
}

/*
 * The calling thread runs blocks, and wakes helpers once the remaining blocks are worth it,
 * judged by the blocks so far (the first time) or by the call before.
 */
static void blocks_drive(struct dw_chip_device *device, struct blocks *blocks)
{
	struct dw_chip_image *image = blocks->call->image;
	uint32_t dim = (uint32_t)blocks->call->config.block_dim;
	uint64_t begin, spent;
	uint32_t done = 0;
	bool helped = false;

	if (dim == 1 || device->pool.limit == 0) {
		blocks_work(blocks);
		return;
	}
	if (image->block_ns * (dim - 1) > POOL_WORTH_NS) {
		pool_start(&device->pool, blocks_work, blocks, dim - 1);
		helped = true;
	}
	begin = now_ns();
	while (block_run(blocks)) {
		uint32_t taken = atomic_load_explicit(&blocks->next, memory_order_relaxed);

		spent = now_ns() - begin;
		image->block_ns = spent / ++done;
		if (!helped && taken < dim && image->block_ns * (dim - taken) > POOL_WORTH_NS) {
			pool_start(&device->pool, blocks_work, blocks, dim - taken);
			helped = true;
		}
	}
	if (helped)
		pool_finish(&device->pool);
}

static int kernel_run(struct dw_chip_device *device, struct call *call, struct dw_chip_error *error)
{
	struct blocks blocks = {
		.call = call,
		.failed_index = UINT32_MAX,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};

	blocks_drive(device, &blocks);
	if (!blocks.status)
		return 0;
	if (blocks.status == -ECANCELED && kit_cancelled(call->cancelled))
		return kit_fail(error, -ECANCELED, "kernel \"%s\" was cancelled at block %u",
				call->image->entry, blocks.failed_index);
	if (blocks.text.text[0])
		return kit_fail(error, blocks.status, "%s", blocks.text.text);
	return kit_fail(error, blocks.status, "kernel \"%s\" returned %d (%s) in block %u of %d",
			call->image->entry, blocks.status, strerror(-blocks.status),
			blocks.failed_index, call->config.block_dim);
}

int call_execute(struct dw_chip_device *device, struct call *call, struct dw_chip_error *error)
{
	const struct faults *faults = &device->options.faults;
	int status;

	fault_delay(faults);
	status = fault_kernel(faults, call->number, call->image->entry, error);
	if (status < 0)
		return status;
	if (call->image->kind == DW_SIM_ENTRY_ORCHESTRATION)
		return graph_run(device, call, error);
	return kernel_run(device, call, error);
}

int call_run(struct dw_chip_device *device, struct call *call, bool staged,
	     struct dw_chip_error *error)
{
	const struct faults *faults = &device->options.faults;
	int status = 0;

	if (faults->lost_after && call->number > faults->lost_after) {
		fault_delay(faults);
		status = sim_lost(device, error);
	}
	if (status == 0 && !staged)
		status = call_copy_in(device, call, error);
	if (status == 0)
		status = call_execute(device, call, error);
	if (status == 0)
		status = call_copy_out(device, call, error);
	call_release(device, call);
	atomic_fetch_add(&device->calls, 1);
	return status;
}
