/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The old interface: six functions; one call does a whole run.
 *
 * set_device() binds the calling thread: it, every run and finalize are made by the thread that
 * opened the device. The runtime copies *all* tensors to the device and back, in order; that is why
 * pto_call_check() refuses tensors that overlap.
 */
#include <sys/mman.h>
#include "internal.h"
#include "old_layout.h"

#define BLOCK_DIM_DEFAULT 24
#define THREADS_DEFAULT 3

struct functions {
	void *(*create_device_context)(void);
	void (*destroy_device_context)(void *context);
	size_t (*get_runtime_size)(void);
	int (*set_device)(void *context, int id);
	int (*run_runtime)(void *context, void *runtime, const void *callable, const void *args,
			   int block_dim, int aicpu_thread_num, int device_id,
			   const uint8_t *aicpu_binary, size_t aicpu_size,
			   const uint8_t *aicore_binary, size_t aicore_size,
			   int enable_profiling, int enable_dump_tensor);
	int (*finalize_device)(void *context);
};

struct old {
	struct functions host;
	void *context;
	bool bound;			/* set_device() has succeeded */
	bool profiled;			/* since then */
	void *runtime;			/* the buffer of the runs */
	size_t runtime_bytes;
	struct old_args args;
};

static int old_bind(struct dw_chip_device *device, struct dw_chip_error *error)
{
	struct old *old = device->state;
	char meaning[PTO_CODE_BYTES];
	int code = old->host.set_device(old->context, (int)device->id);

	old->bound = code == 0;
	old->profiled = false;
	if (code == 0)
		return 0;
	return kit_fail(
		error, -ENODEV,
		"pto device %u: set_device() returned %d (%s): is there a device of that id?",
		device->id, code, pto_code_text(code, meaning));
}

static int old_open(struct dw_chip_device *device, const struct pto_options *options,
		    struct dw_chip_error *error)
{
	static const char *const names[] = {
		"create_device_context", "destroy_device_context", "get_runtime_size",
		"set_device", "run_runtime", "finalize_device",
	};
	void *symbols[sizeof(names) / sizeof(names[0])];
	struct old *old = calloc(1, sizeof(*old));
	int status;

	_Static_assert(sizeof(old->host) == sizeof(symbols), "six functions");
	(void)options;
	if (!old)
		return kit_fail(error, -ENOMEM, "pto device %u: no memory to open it", device->id);
	device->state = old;
	status = pto_functions(device, names, symbols, sizeof(names) / sizeof(names[0]), error);
	if (status < 0)
		return status;
	/* POSIX's way from data to function pointers. */
	memcpy(&old->host, symbols, sizeof(symbols));
	old->context = old->host.create_device_context();
	if (!old->context)
		return kit_fail(
			error, -EIO,
			"pto device %u: create_device_context() gave NULL: the runtime library "
			"could not make a context",
			device->id);
	status = old_bind(device, error);
	if (status < 0)
		return status;
	old->runtime_bytes = old->host.get_runtime_size();
	if (old->runtime_bytes == 0 || old->runtime_bytes > PTO_RUNTIME_BYTES_MAX)
		return kit_fail(
			error, -EPROTO,
			"pto device %u: get_runtime_size() gave %zu bytes: 1 to 2^36 make sense",
			device->id, old->runtime_bytes);
	old->runtime = mmap(NULL, old->runtime_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (old->runtime == MAP_FAILED) {
		status = -errno;
		old->runtime = NULL;
		return kit_fail(error, status,
				"pto device %u: no %zu bytes for the runtime's buffer", device->id,
				old->runtime_bytes);
	}
	return 0;
}

static void old_close(struct dw_chip_device *device)
{
	struct old *old = device->state;

	if (!old)
		return;
	if (old->bound)
		old->host.finalize_device(old->context);
	if (old->context)
		old->host.destroy_device_context(old->context);
	if (old->runtime)
		munmap(old->runtime, old->runtime_bytes);
	free(old);
	device->state = NULL;
}

/* ------------------------------------------------------------------ images */

static uint64_t child_align(uint64_t offset)
{
	return (offset + OLD_CHILD_ALIGN - 1) & ~(uint64_t)(OLD_CHILD_ALIGN - 1);
}

static void core_write(const struct pto_core_view *core, unsigned char *at)
{
	struct old_core_callable header = {
		.size = core->object_bytes,
		.signature_count = (int32_t)core->signature_count,
	};

	memcpy(header.signature, core->signature, core->signature_count * sizeof(int32_t));
	memcpy(at, &header, sizeof(header));
	memcpy(at + sizeof(header), core->object, core->object_bytes);
}

static int old_load(struct dw_chip_device *device, const struct pto_view *view,
		    struct dw_chip_image *image, struct dw_chip_error *error)
{
	struct old_chip_callable header = {
		.size = view->object_bytes,
		.signature_count = (int32_t)view->signature_count,
		.child_count = (int32_t)view->core_count,
	};
	uint64_t end = view->object_bytes;
	unsigned char *storage;

	(void)device;
	memcpy(header.signature, view->signature, view->signature_count * sizeof(int32_t));
	memcpy(header.name, view->entry, sizeof(header.name));
	header.name_length = (uint32_t)strlen(view->entry);
	memcpy(header.config_name, view->config_entry, sizeof(header.config_name));
	header.config_name_length = (uint32_t)strlen(view->config_entry);
	for (uint32_t i = 0; i < view->core_count; i++) {
		end = child_align(end);
		header.child_ids[i] = view->cores[i].function;
		header.child_offsets[i] = (uint32_t)end;
		end += sizeof(struct old_core_callable) + view->cores[i].object_bytes;
		if (end > UINT32_MAX)
			return kit_fail(error, -E2BIG,
					"pto image: its objects end at byte %llu, 32-bit offsets "
					"are possible",
					(unsigned long long)end);
	}
	image->callable = calloc(1, sizeof(header) + end);
	if (!image->callable)
		return kit_fail(error, -ENOMEM, "pto image: no memory for %llu bytes",
				(unsigned long long)(sizeof(header) + end));
	memcpy(image->callable, &header, sizeof(header));
	storage = (unsigned char *)image->callable + sizeof(header);
	memcpy(storage, view->object, view->object_bytes);
	for (uint32_t i = 0; i < view->core_count; i++)
		core_write(&view->cores[i], storage + header.child_offsets[i]);
	return 0;
}

static void old_unload(struct dw_chip_device *device, struct dw_chip_image *image)
{
	(void)device;
	free(image->callable);
}

/* -------------------------------------------------------------------- runs */

/* Device-side orchestration takes one of the threads; host-side orchestration takes none. */
static bool suits_device(int32_t block_dim, int32_t threads)
{
	return threads >= 2 && block_dim % (threads - 1) == 0;
}

static bool suits_host(int32_t block_dim, int32_t threads)
{
	return block_dim % threads == 0;
}

static int32_t threads_choose(int32_t block_dim)
{
	if (suits_device(block_dim, THREADS_DEFAULT) && suits_host(block_dim, THREADS_DEFAULT))
		return THREADS_DEFAULT;
	/* Always right for device-side orchestration; for the other form, if block_dim is even. */
	return 2;
}

/*
 * Chooses the default, else the largest that suits both forms, else one for the device-side form.
 */
static int32_t block_dim_choose(int32_t threads, int32_t most)
{
	int32_t other = 0;

	if (suits_device(BLOCK_DIM_DEFAULT, threads) && suits_host(BLOCK_DIM_DEFAULT, threads))
		return BLOCK_DIM_DEFAULT;
	for (int32_t block_dim = most; block_dim > 0; block_dim--) {
		bool device = suits_device(block_dim, threads);

		if (suits_host(block_dim, threads) && (device || threads == 1))
			return block_dim;
		if (device && !other)
			other = block_dim;
	}
	return other;
}

/* The driver chooses where the config has 0, so that the two values fit each other. */
static int config_choose(const struct dw_chip_device *device, const struct dw_config *config,
			 int32_t *block_dim, int32_t *threads, struct dw_chip_error *error)
{
	const struct pto_generation *generation = device->generation;

	if (config->block_dim > generation->cores)
		return kit_fail(error, -EINVAL,
				"config.block_dim is %d: 1 to %d are possible on pto of generation "
				"%s (driver option generation=), 0 for its default",
				config->block_dim, generation->cores, generation->name);
	if (config->aicpu_thread_num > generation->threads_old)
		return kit_fail(error, -EINVAL,
				"config.aicpu_thread_num is %d: 1 to %d are possible on pto of "
				"generation %s (driver option generation=), 0 for its default",
				config->aicpu_thread_num, generation->threads_old,
				generation->name);
	*block_dim = config->block_dim;
	*threads = config->aicpu_thread_num;
	if (*block_dim == 0 && *threads == 0)
		*threads = THREADS_DEFAULT;
	if (*block_dim == 0)
		*block_dim = block_dim_choose(*threads, generation->cores);
	if (*threads == 0)
		*threads = threads_choose(*block_dim);
	return 0;
}

static int args_fill(struct old_args *args, const struct dw_chip_call *call,
		     struct dw_chip_error *error)
{
	/* No argument of the previous call may be left. */
	memset(args, 0, sizeof(*args));
	for (size_t i = 0; i < call->tensor_count; i++) {
		const struct dw_tensor *tensor = &call->tensors[i];

		if (tensor->dtype > OLD_DTYPE_MAX)
			return kit_fail(
				error, -ENOTSUP,
				"tensor %zu has element type %u: this runtime takes float32, "
				"float16, bfloat16, int8 to int64, uint8 and uint64 (0 to %d)",
				i, tensor->dtype, OLD_DTYPE_MAX);
		args->tensors[i] = *tensor;
		if (tensor->ndims == 0) {
			args->tensors[i].ndims = 1;
			args->tensors[i].shape[0] = 1;
		}
	}
	if (call->scalar_count)
		memcpy(args->scalars, call->scalars, call->scalar_count * sizeof(*args->scalars));
	args->tensor_count = (int32_t)call->tensor_count;
	args->scalar_count = (int32_t)call->scalar_count;
	return 0;
}

/* The runtime profiles one run for each time that the device is set. */
static int profiling_renew(struct dw_chip_device *device, struct dw_chip_error *error)
{
	struct old *old = device->state;

	if (!old->profiled)
		return 0;
	old->host.finalize_device(old->context);
	old->bound = false;
	return old_bind(device, error);
}

static int run_failed(struct dw_chip_device *device, const struct dw_chip_call *call, int code,
		      int32_t block_dim, int32_t threads, struct dw_chip_error *error)
{
	struct old *old = device->state;
	char meaning[PTO_CODE_BYTES], hint[256] = "";
	int again;

	/* set_device() may check the device: one that cannot be set again is lost. */
	again = old->host.set_device(old->context, (int)device->id);
	if (again)
		return kit_fail(
			error, -ENODEV,
			"pto device %u is lost: run_runtime() returned %d for \"%s\", and "
			"set_device() %d after it (%s)",
			device->id, code, call->image->entry, again, pto_code_text(again, meaning));
	if (code == -1 && (!suits_device(block_dim, threads) || !suits_host(block_dim, threads)))
		snprintf(hint, sizeof(hint),
			 "; with block_dim %d and aicpu_thread_num %d: device-side orchestration "
			 "needs a block_dim divisible by aicpu_thread_num - 1, a graph built on "
			 "the host one divisible by aicpu_thread_num",
			 block_dim, threads);
	return pto_run_failed(device, call, "run_runtime", code, hint, error);
}

static int old_run(struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error)
{
	struct old *old = device->state;
	const bool profiling = call->config.flags & DW_CONFIG_PROFILING;
	int32_t block_dim = 0, threads = 0;
	int code, status = config_choose(device, &call->config, &block_dim, &threads, error);

	if (status == 0)
		status = args_fill(&old->args, call, error);
	if (status == 0)
		status = profiling_renew(device, error);
	if (status < 0)
		return status;
	device->calls++;
	/* The runtime copies every tensor both ways. */
	for (size_t i = 0; i < call->tensor_count; i++) {
		pto_count_in(device, call->tensor_bytes[i]);
		pto_count_out(device, call->tensor_bytes[i]);
	}
	old->profiled = profiling;
	code = old->host.run_runtime(old->context, old->runtime, call->image->callable, &old->args,
				     block_dim, threads, (int)device->id, device->aicpu.data,
				     device->aicpu.bytes, device->aicore.data, device->aicore.bytes,
				     profiling, !!(call->config.flags & DW_CONFIG_DUMP_TENSOR));
	if (code)
		return run_failed(device, call, code, block_dim, threads, error);
	device->failures = 0;
	return 0;
}

static void old_properties(const struct dw_chip_device *device,
			   struct dw_chip_properties *properties)
{
	(void)device;
	properties->capabilities |= DW_CHIP_CAP_HOST_WRITES;
}

const struct pto_interface pto_old = {
	.mark = "run_runtime",
	.description = "its runtime's old interface",
	.limits = {
		.tensors = OLD_TENSORS_MAX, .scalars = OLD_SCALARS_MAX,
		.signature = OLD_SIGNATURE_MAX, .core_signature = OLD_SIGNATURE_MAX,
		.cores = OLD_CHILDREN_MAX, .function = OLD_FUNCTION_MAX,
		.object_bytes = OLD_ORCHESTRATION_MAX,
	},
	.open = old_open,
	.close = old_close,
	.properties = old_properties,
	.load = old_load,
	.unload = old_unload,
	.run = old_run,
};
