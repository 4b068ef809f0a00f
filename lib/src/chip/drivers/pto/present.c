/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Contexts and images with the present interface. An image is registered when it is loaded, at one
 * of 64 ids; `ids` and the list `images` say which, so that a new context gets the same.
 */
#include <dlfcn.h>
#include <sys/mman.h>
#include "base/text.h"
#include "chip/pto_object.h"
#include "present.h"

#define ALIGNMENT_MAX (UINT64_C(1) << 21)

/* ------------------------------------------------------------- the library */

/*
 * Both libraries keep the pointer; the driver stays loaded, so it outlives them. There is one for
 * the process; its threshold is that of the device that was opened last.
 */
static struct present_log_state log_state = { .version = 1, .size = sizeof(log_state) };

static int log_bind(const struct dw_chip_device *device, void *library, const char *whose,
		    struct dw_chip_error *error)
{
	int (*bind)(void *state);
	void *symbol = library ? dlsym(library, "simpler_host_log_bind_state") : NULL;
	int code;

	/* Without this function the library works, but logs nothing. */
	if (!symbol)
		return 0;
	memcpy(&bind, &symbol, sizeof(bind));
	code = bind(&log_state);
	return code ? kit_fail(error, 0,
			       "pto device %u: simpler_host_log_bind_state() of the %s library "
			       "returned %d: it does not log",
			       device->id, whose, code) : 0;
}

static int functions_load(struct dw_chip_device *device, struct dw_chip_error *error)
{
	static const char *const names[] = {
		"get_pipeline_contract", "create_device_context", "destroy_device_context",
		"get_runtime_size", "get_runtime_alignment", "simpler_init",
		"simpler_register_callable", "simpler_unregister_callable", "simpler_run",
		"simpler_prepare_run", "simpler_launch_run", "simpler_poll_run",
		"simpler_wait_run", "simpler_finalize_run",
		"supports_concurrent_native_prepare_ctx", "device_malloc_ctx", "device_free_ctx",
		"copy_to_device_ctx", "copy_from_device_ctx", "finalize_device",
	};
	struct present *present = device->state;
	void *symbols[sizeof(names) / sizeof(names[0])], *symbol;
	int status;

	_Static_assert(sizeof(present->host) == sizeof(symbols), "one name for each function");
	status = pto_functions(device, names, symbols, sizeof(names) / sizeof(names[0]), error);
	if (status < 0)
		return status;
	/* POSIX's way from data to function pointers. */
	memcpy(&present->host, symbols, sizeof(symbols));
	symbol = dlsym(device->library, "committed_device_memory_ctx");
	memcpy(&present->committed_memory, &symbol, sizeof(symbol));
	return 0;
}

static int contract_check(const struct dw_chip_device *device,
			  const struct present_contract *contract, struct dw_chip_error *error)
{
	if (!contract)
		return kit_fail(error, -EPROTO,
				"pto device %u: get_pipeline_contract() gave NULL: the runtime "
				"library is broken",
				device->id);
	if (contract->abi != PRESENT_ABI)
		return kit_fail(error, -EPROTO,
				"pto device %u: the runtime library has version %u of its "
				"interface, this driver knows version %d",
				device->id, contract->abi, PRESENT_ABI);
	if (contract->resource_count > PRESENT_RESOURCES_MAX || contract->depth < 1 ||
	    contract->depth > PRESENT_DEPTH_MAX)
		return kit_fail(error, -EPROTO,
				"pto device %u: the contract of the runtime library has %u "
				"resources and depth %u: up to %d and 1 to %d make sense",
				device->id, contract->resource_count, contract->depth,
				PRESENT_RESOURCES_MAX, PRESENT_DEPTH_MAX);
	return 0;
}

static int storages_make(struct dw_chip_device *device, unsigned int count,
			 struct dw_chip_error *error)
{
	struct present *present = device->state;
	size_t bytes = present->host.get_runtime_size();
	size_t alignment = present->host.get_runtime_alignment();

	if (bytes == 0 || bytes > PTO_RUNTIME_BYTES_MAX)
		return kit_fail(
			error, -EPROTO,
			"pto device %u: get_runtime_size() gave %zu bytes: 1 to 2^36 make sense",
			device->id, bytes);
	if (alignment == 0 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)))
		return kit_fail(error, -EPROTO,
				"pto device %u: get_runtime_alignment() gave %zu: a power of two "
				"up to 2^21 makes sense",
				device->id, alignment);
	present->storage_bytes = bytes;
	for (unsigned int i = 0; i < count; i++) {
		struct present_storage *storage = &present->storages[i];
		void *map = mmap(NULL, bytes + alignment, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (map == MAP_FAILED)
			return kit_fail(error, -ENOMEM,
					"pto device %u: no %zu bytes for the storage of a run",
					device->id, bytes);
		storage->map = map;
		storage->map_bytes = bytes + alignment;
		storage->memory = (void *)(((uintptr_t)map + alignment - 1) &
					   ~(uintptr_t)(alignment - 1));
	}
	return 0;
}

/* --------------------------------------------------------------- contexts */

static int context_make(struct dw_chip_device *device, struct dw_chip_error *error)
{
	struct present *present = device->state;
	char meaning[PTO_CODE_BYTES];
	int code;

	present->context = present->host.create_device_context();
	if (!present->context)
		return kit_fail(
			error, -EIO,
			"pto device %u: create_device_context() gave NULL: the runtime library "
			"could not make a context",
			device->id);
	code = present->host.init(present->context, (int)device->id, device->aicpu.data,
				  device->aicpu.bytes, device->aicore.data, device->aicore.bytes,
				  device->dispatcher.data, device->dispatcher.bytes, NULL);
	present->initialized = code == 0;
	if (code == 0)
		return 0;
	return kit_fail(
		error, -ENODEV,
		"pto device %u: simpler_init() returned %d (%s): is there a device of that id, and "
		"are aicpu= and aicore= of the version of host=?%s",
		device->id, code, pto_code_text(code, meaning),
		device->simulator || device->dispatcher.data ? "" :
		" Hardware needs dispatcher=, the path of libsimpler_aicpu_dispatcher.so");
}

static void context_end(struct present *present)
{
	if (present->initialized)
		present->host.finalize_device(present->context);
	if (present->context)
		present->host.destroy_device_context(present->context);
	present->context = NULL;
	present->initialized = false;
}

static int present_open(struct dw_chip_device *device, const struct pto_options *options,
			struct dw_chip_error *error)
{
	const struct present_contract *contract;
	struct present *present;
	unsigned int depth;
	int status;

	if (posix_memalign((void **)&present, _Alignof(struct present), sizeof(*present)))
		return kit_fail(error, -ENOMEM, "pto device %u: no memory to open it", device->id);
	memset(present, 0, sizeof(*present));
	device->state = present;
	strcpy(present->output, options->output);
	status = functions_load(device, error);
	if (status < 0)
		return status;
	__atomic_store_n(&log_state.threshold, options->log, __ATOMIC_RELAXED);
	log_bind(device, device->context_library, "sim_context", error);
	log_bind(device, device->library, "host", error);
	contract = present->host.get_pipeline_contract();
	status = contract_check(device, contract, error);
	if (status < 0)
		return status;
	depth = contract->depth;
	status = storages_make(device, depth, error);
	if (status == 0)
		status = context_make(device, error);
	if (status == 0 && depth > 1)
		present->pipelined = present->host.supports_concurrent_prepare(present->context);
	if (status == 0 && present->pipelined)
		status = present_pipeline_create(device, error);
	return status;
}

static void present_close(struct dw_chip_device *device)
{
	struct present *present = device->state;

	if (!present)
		return;
	present_pipeline_destroy(device);
	present_memory_forget(present);
	context_end(present);
	for (unsigned int i = 0; i < PRESENT_DEPTH_MAX; i++)
		if (present->storages[i].map)
			munmap(present->storages[i].map, present->storages[i].map_bytes);
	free(present);
	device->state = NULL;
}

/* ------------------------------------------------------------------ images */

static uint64_t child_align(uint64_t offset)
{
	return (offset + PRESENT_CHILD_ALIGN - 1) & ~(uint64_t)(PRESENT_CHILD_ALIGN - 1);
}

static void core_write(const struct pto_core_view *core, unsigned char *at)
{
	struct present_core_callable header = {
		.size = core->object_bytes,
		.signature_count = (int32_t)core->signature_count,
	};

	memcpy(header.signature, core->signature, core->signature_count * sizeof(int32_t));
	memcpy(at, &header, sizeof(header));
	memcpy(at + sizeof(header), core->object, core->object_bytes);
}

/* The callable of an image; freed with free(). */
static int lay_out(const struct pto_view *view, void **callable, struct dw_chip_error *error)
{
	struct present_chip_callable *header;
	uint64_t end = view->object_bytes, offset;
	unsigned char *storage;

	for (uint32_t i = 0; i < view->core_count; i++)
		end = child_align(end) + sizeof(struct present_core_callable) +
		      view->cores[i].object_bytes;
	if (end > UINT32_MAX)
		return kit_fail(error, -E2BIG,
				"pto image: its objects end at byte %llu, 32-bit offsets are "
				"possible",
				(unsigned long long)end);
	if (posix_memalign(callable, 64, sizeof(*header) + end))
		return kit_fail(error, -ENOMEM, "pto image: no memory for %llu bytes",
				(unsigned long long)(sizeof(*header) + end));
	memset(*callable, 0, sizeof(*header) + end);
	header = *callable;
	header->size = view->object_bytes;
	header->signature_count = (int32_t)view->signature_count;
	memcpy(header->signature, view->signature, view->signature_count * sizeof(int32_t));
	memcpy(header->name, view->entry, sizeof(header->name));
	header->name_length = (uint32_t)strlen(view->entry);
	memcpy(header->config_name, view->config_entry, sizeof(header->config_name));
	header->config_name_length = (uint32_t)strlen(view->config_entry);
	header->child_count = (int32_t)view->core_count;
	storage = (unsigned char *)(header + 1);
	memcpy(storage, view->object, view->object_bytes);
	offset = view->object_bytes;
	for (uint32_t i = 0; i < view->core_count; i++) {
		offset = child_align(offset);
		header->child_ids[i] = view->cores[i].function;
		header->child_offsets[i] = (uint32_t)offset;
		core_write(&view->cores[i], storage + offset);
		offset += sizeof(struct present_core_callable) + view->cores[i].object_bytes;
	}
	return 0;
}

/* Guesses the cause of a refusal; the interface does not give one. */
static const char *refusal_hint(const struct dw_chip_device *device, const struct pto_view *view)
{
	if (device->simulator && !pto_object_exports(view->object, view->object_bytes,
						     "simpler_host_log_bind_state"))
		return ": its orchestration object does not export simpler_host_log_bind_state(), "
		       "as an object for this version of the simulator does";
	return ": its objects may be of another version of the runtime";
}

static int present_load(struct dw_chip_device *device, const struct pto_view *view,
			struct dw_chip_image *image, struct dw_chip_error *error)
{
	struct present *present = device->state;
	char meaning[PTO_CODE_BYTES];
	int code, status;

	if (present->ids == UINT64_MAX)
		return kit_fail(error, -ENOSPC,
				"pto device %u has %d images, which is all that it takes: "
				"unregister one",
				device->id, PRESENT_IDS);
	status = lay_out(view, &image->callable, error);
	if (status < 0)
		return status;
	image->id = __builtin_ctzll(~present->ids);
	present_quiesce(present);
	code = present->host.register_callable(present->context, image->id, image->callable);
	if (code) {
		free(image->callable);
		return kit_fail(error, -ELIBBAD,
				"pto image: simpler_register_callable() returned %d (%s) for "
				"\"%s\"%s",
				code, pto_code_text(code, meaning), image->entry,
				refusal_hint(device, view));
	}
	present->ids |= UINT64_C(1) << image->id;
	image->next = present->images;
	present->images = image;
	return 0;
}

static void present_unload(struct dw_chip_device *device, struct dw_chip_image *image)
{
	struct present *present = device->state;
	struct dw_chip_image **at = &present->images;

	while (*at != image)
		at = &(*at)->next;
	*at = image->next;
	/* Images of runs in flight are unloaded only when the device is closed. */
	present_pipeline_drop(device);
	/* An id that the runtime does not give back stays in use. */
	if (!present->initialized ||
	    present->host.unregister_callable(present->context, image->id) == 0)
		present->ids &= ~(UINT64_C(1) << image->id);
	free(image->callable);
}

int present_reopen(struct dw_chip_device *device, struct dw_chip_error *error)
{
	struct present *present = device->state;
	struct dw_chip_error why = { "" };
	struct dw_chip_image *image;
	size_t owned = present_blocks_owned(present);
	int status, code = 0;

	if (owned)
		return kit_fail(error, -ENODEV,
				"pto device %u is lost: its context takes no run after one of "
				"unknown outcome, and a new one would not have its %zu blocks of "
				"device memory",
				device->id, owned);
	present_memory_leave(present);
	context_end(present);
	for (unsigned int i = 0; i < PRESENT_DEPTH_MAX; i++)
		if (present->storages[i].memory)
			memset(present->storages[i].memory, 0, present->storage_bytes);
	status = context_make(device, &why);
	if (status < 0)
		return kit_fail(error, -ENODEV,
				"pto device %u is lost: its context takes no run after one of "
				"unknown outcome, and there is no new one: %s",
				device->id, text_limited(why.text, 300));
	present->ids = 0;
	for (image = present->images; image && code == 0; image = image->next) {
		code = present->host.register_callable(present->context, image->id,
						       image->callable);
		present->ids |= UINT64_C(1) << image->id;
	}
	if (code)
		return kit_fail(error, -ENODEV,
				"pto device %u is lost: its new context did not take its images: "
				"simpler_register_callable() returned %d",
				device->id, code);
	present->suspect = false;
	return 0;
}

static void present_properties(const struct dw_chip_device *device,
			       struct dw_chip_properties *properties)
{
	properties->capabilities |= DW_CHIP_CAP_MEMORY | DW_CHIP_CAP_PLACES | DW_CHIP_CAP_COPIES;
	if (device && present_of(device)->pipelined) {
		properties->capabilities |= DW_CHIP_CAP_ASYNC;
		properties->queue_depth = PRESENT_DEPTH_MAX;
	}
}

const struct pto_interface pto_present = {
	.mark = "simpler_run",
	.description = "its runtime's present interface",
	.limits = {
		.tensors = PRESENT_TENSORS_MAX, .scalars = PRESENT_SCALARS_MAX,
		.signature = PRESENT_SIGNATURE_MAX, .core_signature = PRESENT_CORE_SIGNATURE_MAX,
		.cores = PRESENT_CHILDREN_MAX, .function = PRESENT_FUNCTION_MAX,
		.object_bytes = UINT32_MAX,
	},
	.open = present_open,
	.close = present_close,
	.properties = present_properties,
	.load = present_load,
	.unload = present_unload,
	.run = present_run,
	.completion_fd = present_completion_fd,
	.submit = present_submit,
	.collect = present_collect,
	.resident = present_resident,
	.alloc = present_alloc,
	.reserve = present_reserve,
	.free = present_free,
	.copy_in = present_copy_in,
	.copy_out = present_copy_out,
	.memory_used = present_memory_used,
};
