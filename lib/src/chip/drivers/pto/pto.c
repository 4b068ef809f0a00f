/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * pto: Ascend chips through their runtime's C interface of six functions
 * (libhost_runtime.so, for the hardware or for its simulator). It is opened at run time;
 * nothing of it is included, linked or needed to build.
 *
 * set_device binds the calling thread: it, every run and finalize are made by the thread
 * that opened the device, as distworker/chip.h promises. A run that
 * hangs is ended from outside, by the task's deadline, with the process.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/library.h"
#include "base/text.h"
#include "chip/driver_kit.h"
#include "chip/pto_image.h"

#define BLOCK_DIM_MAX 24
#define AICPU_THREADS_MAX 4
#define RUNTIME_BYTES_MAX (UINT64_C(1) << 36)

struct interface {
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

struct blob {
	uint8_t *data;
	size_t bytes;
};

struct options {
	char host[KIT_VALUE_BYTES], aicpu[KIT_VALUE_BYTES], aicore[KIT_VALUE_BYTES];
	char sim_context[KIT_VALUE_BYTES];
	uint64_t devices;		/* the count that enumerate gives; 0: find out */
};

struct dw_chip_device {
	uint32_t id;
	struct interface host;
	void *library;
	void *context;
	bool bound;			/* set_device has succeeded */
	void *runtime;			/* the buffer of the runs */
	size_t runtime_bytes;
	struct blob aicpu, aicore;
	struct pto_args args;
	uint64_t calls;
};

struct dw_chip_image {
	uint32_t tensor_count;		/* of the signature; UINT32_MAX: it has none */
	size_t bytes;
	struct pto_chip_callable callable;	/* with its storage */
};

/* ----------------------------------------------------------------- options */

static int options_read(const char *text, struct options *options, struct dw_chip_error *error)
{
	const struct { const char *key; char *value; } paths[] = {
		{ "host", options->host }, { "aicpu", options->aicpu },
		{ "aicore", options->aicore }, { "sim_context", options->sim_context },
	};
	struct kit_option option;
	int status;

	memset(options, 0, sizeof(*options));
	while ((status = kit_option_next(&text, &option, error)) == 1) {
		size_t i = 0;

		if (strcmp(option.key, "devices") == 0) {
			status = kit_number(&option, 1, 65536, &options->devices, error);
			if (status < 0)
				return status;
			continue;
		}
		while (i < 4 && strcmp(option.key, paths[i].key) != 0)
			i++;
		if (i == 4)
			return kit_fail(
				error, -EINVAL,
				"driver option \"%s\" is unknown to pto: host, aicpu, aicore, "
				"sim_context and devices are known",
				option.key);
		strcpy(paths[i].value, option.value);
	}
	return status;
}

static int options_complete(const struct options *options, struct dw_chip_error *error)
{
	const char *missing = !options->host[0] ? "host" : !options->aicpu[0] ? "aicpu" :
			      !options->aicore[0] ? "aicore" : NULL;

	if (missing)
		return kit_fail(
			error, -EINVAL,
			"pto needs driver option %s=PATH: host= the runtime library, aicpu= and "
			"aicore= its two device binaries",
			missing);
	return 0;
}

/* The hardware's device nodes; 1 where there are none: a simulator takes any id. */
static uint64_t devices_count(void)
{
	DIR *folder = fd_open_folder("/dev");
	struct dirent *entry;
	uint64_t count = 0;

	while (folder && (entry = readdir(folder))) {
		const char *digits = entry->d_name + 7;

		if (strncmp(entry->d_name, "davinci", 7) == 0 && *digits &&
		    strspn(digits, "0123456789") == strlen(digits))
			count++;
	}
	if (folder)
		closedir(folder);
	return count ? count : 1;
}

/* ------------------------------------------------------------ open, close */

static int blob_read(const char *option, const char *path, struct blob *blob,
		     struct dw_chip_error *error)
{
	int fd = fd_move_up(open(path, O_RDONLY | O_CLOEXEC));
	struct stat about;
	int code = fd < 0 ? -errno : 0;
	size_t done = 0;

	if (code == 0 && fstat(fd, &about) < 0)
		code = -errno;
	if (code == 0 && (!S_ISREG(about.st_mode) || about.st_size == 0))
		code = -EINVAL;
	if (code == 0) {
		blob->bytes = (size_t)about.st_size;
		blob->data = malloc(blob->bytes);
		code = blob->data ? 0 : -ENOMEM;
	}
	while (code == 0 && done < blob->bytes) {
		ssize_t count = read(fd, blob->data + done, blob->bytes - done);

		if (count > 0)
			done += (size_t)count;
		else if (count == 0)
			code = -EIO;
		else if (errno != EINTR)
			code = -errno;
	}
	if (fd >= 0)
		close(fd);
	if (code == 0)
		return 0;
	return kit_fail(error, code, "pto driver option %s=%s: %s", option, text_short(path),
			code == -EINVAL ? "a file with content is wanted" : strerror(-code));
}

/* The simulator's context library: global, once per process, never closed. */
static int context_load(const char *path, struct dw_chip_error *error)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static void *loaded;
	char why[LIBRARY_WHY_BYTES];
	int status = 0;

	if (!path[0])
		return 0;
	pthread_mutex_lock(&lock);
	if (!loaded)
		loaded = library_open(path, RTLD_NOW | RTLD_GLOBAL, why);
	if (!loaded)
		status = kit_fail(error, -ELIBBAD, "pto driver option sim_context: %s", why);
	pthread_mutex_unlock(&lock);
	return status;
}

static int interface_load(struct dw_chip_device *device, const char *path,
			  struct dw_chip_error *error)
{
	static const char *const names[] = {
		"create_device_context", "destroy_device_context", "get_runtime_size",
		"set_device", "run_runtime", "finalize_device",
	};
	char why[LIBRARY_WHY_BYTES];
	void *symbols[6];

	_Static_assert(sizeof(device->host) == sizeof(symbols), "six functions");
	device->library = library_open(path, RTLD_NOW | RTLD_LOCAL, why);
	if (!device->library)
		return kit_fail(error, -ELIBBAD, "pto driver option host: %s", why);
	for (unsigned int i = 0; i < 6; i++) {
		symbols[i] = dlsym(device->library, names[i]);
		if (!symbols[i])
			return kit_fail(
				error, -ELIBBAD,
				"pto driver option host=%s is no runtime library: it does not "
				"export %s()",
				text_short(path), names[i]);
	}
	/* POSIX's way from data to function pointers. */
	memcpy(&device->host, symbols, sizeof(symbols));
	return 0;
}

static int device_bind(struct dw_chip_device *device, struct dw_chip_error *error)
{
	int code;

	device->context = device->host.create_device_context();
	if (!device->context)
		return kit_fail(
			error, -EIO,
			"pto device %u: create_device_context() gave NULL: the runtime library "
			"could not make a context",
			device->id);
	code = device->host.set_device(device->context, (int)device->id);
	if (code)
		return kit_fail(
			error, -ENODEV,
			"pto device %u: set_device() returned %d: is there a device of that id?",
			device->id, code);
	device->bound = true;
	device->runtime_bytes = device->host.get_runtime_size();
	if (device->runtime_bytes == 0 || device->runtime_bytes > RUNTIME_BYTES_MAX)
		return kit_fail(
			error, -EPROTO,
			"pto device %u: get_runtime_size() gave %zu bytes: 1 to 2^36 make sense",
			device->id, device->runtime_bytes);
	device->runtime = mmap(NULL, device->runtime_bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (device->runtime == MAP_FAILED) {
		code = -errno;
		device->runtime = NULL;
		return kit_fail(error, code, "pto device %u: no %zu bytes for the runtime's buffer",
				device->id, device->runtime_bytes);
	}
	return 0;
}

static void pto_close(struct dw_chip_device *device)
{
	if (device->bound)
		device->host.finalize_device(device->context);
	if (device->context)
		device->host.destroy_device_context(device->context);
	if (device->library)
		dlclose(device->library);
	if (device->runtime)
		munmap(device->runtime, device->runtime_bytes);
	free(device->aicpu.data);
	free(device->aicore.data);
	free(device);
}

static int pto_open(uint32_t id, const char *text, struct dw_chip_device **result,
		    struct dw_chip_error *error)
{
	struct dw_chip_device *device = calloc(1, sizeof(*device));
	struct options *options = malloc(sizeof(*options));
	int status;

	if (!device || !options) {
		free(device);
		free(options);
		return kit_fail(error, -ENOMEM, "pto device %u: no memory to open it", id);
	}
	device->id = id;
	status = options_read(text, options, error);
	if (status == 0)
		status = options_complete(options, error);
	if (status == 0 && id > INT32_MAX)
		status = kit_fail(error, -ENODEV, "pto has no device %u: ids are 31-bit numbers",
				  id);
	if (status == 0)
		status = blob_read("aicpu", options->aicpu, &device->aicpu, error);
	if (status == 0)
		status = blob_read("aicore", options->aicore, &device->aicore, error);
	if (status == 0)
		status = context_load(options->sim_context, error);
	if (status == 0)
		status = interface_load(device, options->host, error);
	if (status == 0)
		status = device_bind(device, error);
	free(options);
	if (status < 0) {
		pto_close(device);
		return status;
	}
	*result = device;
	return 0;
}

static void properties_fill(uint64_t id, struct dw_chip_properties *properties)
{
	struct dw_chip_properties full = {
		.description = "Ascend chip behind its runtime's C interface",
		.capabilities = DW_CHIP_CAP_HOST_WRITES,
		.cores = BLOCK_DIM_MAX,
		.max_tensors = PTO_TENSORS_MAX,
		.max_scalars = PTO_SCALARS_MAX,
		.queue_depth = 1,
	};

	snprintf(full.name, sizeof(full.name), "pto%llu", (unsigned long long)id);
	KIT_GIVE(properties, &full);
}

static int pto_enumerate(const char *text, struct dw_chip_properties *properties, size_t *count,
			 struct dw_chip_error *error)
{
	struct options *options = malloc(sizeof(*options));
	uint64_t devices = 0;
	int status;

	if (!options)
		return kit_fail(error, -ENOMEM, "pto: no memory");
	status = options_read(text, options, error);
	if (status == 0)
		devices = options->devices ? options->devices : devices_count();
	free(options);
	if (status < 0)
		return status;
	for (size_t i = 0; properties && i < *count && i < devices; i++)
		properties_fill(i, kit_properties_at(properties, i));
	*count = devices;
	return 0;
}

static int pto_properties(struct dw_chip_device *device, struct dw_chip_properties *properties,
			  struct dw_chip_error *error)
{
	(void)error;
	properties_fill(device->id, properties);
	return 0;
}

/* ------------------------------------------------------------------ images */

static int name_check(const char *which, const char *name, uint32_t length,
		      struct dw_chip_error *error)
{
	if (length >= PTO_NAME_BYTES || name[length] != '\0' ||
	    strnlen(name, PTO_NAME_BYTES) != length)
		return kit_fail(
			error, -ELIBBAD,
			"pto image: the %s name says %u characters and has %zu: at most 63 and a "
			"NUL are possible",
			which, length, strnlen(name, PTO_NAME_BYTES));
	return 0;
}

static int signature_check(const int32_t *signature, int32_t count, struct dw_chip_error *error)
{
	if (count < 0 || count > PTO_SIGNATURE_MAX)
		return kit_fail(error, -ELIBBAD,
				"pto image: a signature of %d arguments: 0 to %d are possible",
				count, PTO_SIGNATURE_MAX);
	for (int32_t i = 0; i < count; i++)
		if (signature[i] < DW_DIR_SCALAR || signature[i] > DW_DIR_INOUT)
			return kit_fail(error, -ELIBBAD,
					"pto image: direction %d of argument %d is none of 0 to 3",
					signature[i], i);
	return 0;
}

static int child_check(const unsigned char *storage, uint64_t bytes, uint32_t offset, int32_t id,
		       struct dw_chip_error *error)
{
	struct pto_core_callable core;

	if (offset % PTO_CHILD_ALIGN || offset > bytes || bytes - offset < sizeof(core))
		return kit_fail(
			error, -ELIBBAD,
			"pto image: core function %d begins at byte %u of %llu: a multiple of %d "
			"with %zu bytes behind it is wanted",
			id, offset, (unsigned long long)bytes, PTO_CHILD_ALIGN, sizeof(core));
	memcpy(&core, storage + offset, sizeof(core));
	if (core.size == 0 || core.size > bytes - offset - sizeof(core))
		return kit_fail(
			error, -ELIBBAD,
			"pto image: core function %d has %u bytes, %llu are left of the image", id,
			core.size, (unsigned long long)(bytes - offset - sizeof(core)));
	return signature_check(core.signature, core.signature_count, error);
}

/* Everything that the runtime would follow blindly. */
static int image_check(const struct dw_chip_image_spec *spec,
		       const struct pto_chip_callable *callable, struct dw_chip_error *error)
{
	const unsigned char *storage = (const unsigned char *)spec->data + sizeof(*callable);
	uint64_t bytes = spec->bytes - sizeof(*callable);
	int status;

	if (callable->size == 0 || callable->size > PTO_ORCHESTRATION_MAX || callable->size > bytes)
		return kit_fail(
			error, callable->size > PTO_ORCHESTRATION_MAX ? -E2BIG : -ELIBBAD,
			"pto image: an orchestration object of %u bytes in %llu: 1 to %u are "
			"possible",
			callable->size, (unsigned long long)bytes, PTO_ORCHESTRATION_MAX);
	if (callable->child_count < 0 || callable->child_count > PTO_CHILDREN_MAX)
		return kit_fail(error, -E2BIG,
				"pto image: %d core functions, at most %d are possible",
				callable->child_count, PTO_CHILDREN_MAX);
	status = name_check("entry", callable->name, callable->name_length, error);
	if (status == 0)
		status = name_check("config entry", callable->config_name,
				    callable->config_name_length, error);
	if (status == 0)
		status = signature_check(callable->signature, callable->signature_count, error);
	for (int32_t i = 0; i < callable->child_count && status == 0; i++) {
		if (callable->child_offsets[i] < callable->size)
			status = kit_fail(
				error, -ELIBBAD,
				"pto image: core function %d begins at byte %u, inside the "
				"orchestration object",
				callable->child_ids[i], callable->child_offsets[i]);
		else
			status = child_check(storage, bytes, callable->child_offsets[i],
					     callable->child_ids[i], error);
	}
	return status;
}

/* The registration must agree with the image. */
static int spec_check(const struct dw_chip_image_spec *spec,
		      const struct pto_chip_callable *callable, struct dw_chip_error *error)
{
	if (spec->entry && spec->entry[0] && strcmp(spec->entry, callable->name) != 0)
		return kit_fail(error, -ESRCH, "pto image: its entry is \"%s\", not \"%s\"",
				callable->name, text_short(spec->entry));
	if (spec->signature &&
	    (spec->signature_count != (size_t)callable->signature_count ||
	     memcmp(spec->signature, callable->signature,
		    spec->signature_count * sizeof(int32_t)) != 0))
		return kit_fail(
			error, -EINVAL,
			"pto image: the signature given (%zu arguments) is not the image's own "
			"(%d): give the same, or none",
			spec->signature_count, callable->signature_count);
	return 0;
}

static int pto_load(struct dw_chip_device *device, const struct dw_chip_image_spec *spec,
		    struct dw_chip_image **result, struct dw_chip_error *error)
{
	struct pto_chip_callable header;
	struct dw_chip_image_spec room;
	struct dw_chip_image *image;
	int status = kit_take_spec(&spec, &room, error);

	if (status < 0)
		return status;
	(void)device;
	if (spec->bytes < sizeof(header))
		return kit_fail(
			error, -ELIBBAD,
			"pto image: %zu bytes are less than its header of %zu: build it with "
			"`distworker image pto`",
			spec->bytes, sizeof(header));
	memcpy(&header, spec->data, sizeof(header));
	status = image_check(spec, &header, error);
	if (status == 0)
		status = spec_check(spec, &header, error);
	if (status < 0)
		return status;
	image = malloc(offsetof(struct dw_chip_image, callable) + spec->bytes);
	if (!image)
		return kit_fail(error, -ENOMEM, "pto image: no memory for %zu bytes", spec->bytes);
	image->bytes = spec->bytes;
	memcpy(&image->callable, spec->data, spec->bytes);
	image->tensor_count = header.signature_count ? 0 : UINT32_MAX;
	for (int32_t i = 0; i < header.signature_count; i++)
		image->tensor_count += header.signature[i] != DW_DIR_SCALAR;
	*result = image;
	return 0;
}

static void pto_unload(struct dw_chip_device *device, struct dw_chip_image *image)
{
	(void)device;
	free(image);
}

/* -------------------------------------------------------------------- run */

static int call_check(const struct dw_chip_call *call, struct dw_chip_error *error)
{
	const struct dw_chip_image *image = call->image;

	if (call->tensor_count > PTO_TENSORS_MAX)
		return kit_fail(error, -E2BIG, "%zu tensors are more than the %d of a pto call",
				call->tensor_count, PTO_TENSORS_MAX);
	if (call->scalar_count > PTO_SCALARS_MAX)
		return kit_fail(error, -E2BIG, "%zu scalars are more than the %d of a pto call",
				call->scalar_count, PTO_SCALARS_MAX);
	if (image->tensor_count != UINT32_MAX && call->tensor_count != image->tensor_count)
		return kit_fail(error, -EINVAL, "\"%s\" takes %u tensors, the call has %zu",
				image->callable.name, image->tensor_count, call->tensor_count);
	for (size_t i = 0; i < call->tensor_count; i++) {
		if (call->tensors[i].dtype > PTO_DTYPE_MAX)
			return kit_fail(
				error, -ENOTSUP,
				"tensor %zu has element type %u: pto takes float32, float16, "
				"bfloat16, int8 to int64, uint8 and uint64 (0 to %d)",
				i, call->tensors[i].dtype, PTO_DTYPE_MAX);
		if (call->tensors[i].data == 0 && call->tensor_bytes[i])
			return kit_fail(error, -EFAULT, "tensor %zu of \"%s\" has no address", i,
					image->callable.name);
	}
	if (call->config.block_dim > BLOCK_DIM_MAX)
		return kit_fail(error, -EINVAL,
				"config.block_dim is %d: 1 to %d are possible on pto",
				call->config.block_dim, BLOCK_DIM_MAX);
	if (call->config.aicpu_thread_num > AICPU_THREADS_MAX)
		return kit_fail(error, -EINVAL,
				"config.aicpu_thread_num is %d: 1 to %d are possible on pto",
				call->config.aicpu_thread_num, AICPU_THREADS_MAX);
	return 0;
}

static int pto_run(struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error)
{
	struct pto_args *args = &device->args;
	const struct dw_config *config;
	struct dw_chip_call room;
	int code, again, status = kit_take_call(&call, &room, error);

	if (status == 0)
		status = call_check(call, error);
	config = &call->config;
	if (status < 0)
		return status;
	/* Nothing of the call before is left in the arguments that go out. */
	memset(args, 0, sizeof(*args));
	if (call->tensor_count)
		memcpy(args->tensors, call->tensors, call->tensor_count * sizeof(*args->tensors));
	if (call->scalar_count)
		memcpy(args->scalars, call->scalars, call->scalar_count * sizeof(*args->scalars));
	args->tensor_count = (int32_t)call->tensor_count;
	args->scalar_count = (int32_t)call->scalar_count;
	device->calls++;
	code = device->host.run_runtime(device->context, device->runtime, &call->image->callable,
					args, config->block_dim, config->aicpu_thread_num,
					(int)device->id, device->aicpu.data, device->aicpu.bytes,
					device->aicore.data, device->aicore.bytes,
					!!(config->flags & DW_CONFIG_PROFILING),
					!!(config->flags & DW_CONFIG_DUMP_TENSOR));
	if (code == 0)
		return 0;
	/* The interface has no code for a lost device: a device that cannot be set is lost. */
	again = device->host.set_device(device->context, (int)device->id);
	if (again)
		return kit_fail(
			error, -ENODEV,
			"pto device %u is lost: run_runtime() returned %d for \"%s\", and "
			"set_device() %d after it",
			device->id, code, call->image->callable.name, again);
	return kit_fail(
		error, code < 0 ? -EIO : -EPROTO,
		"run_runtime() returned %d for \"%s\" on pto device %u with block_dim %d and "
		"aicpu_thread_num %d (block_dim must be divisible by the number of scheduling "
		"threads)",
		code, call->image->callable.name, device->id, config->block_dim,
		config->aicpu_thread_num);
}

static int pto_counters(struct dw_chip_device *device, struct dw_chip_counters *counters)
{
	struct dw_chip_counters full = { .calls = device->calls };

	KIT_GIVE(counters, &full);
	return 0;
}

static const struct dw_chip_driver driver = {
	.size = sizeof(driver),
	.abi_version = DW_CHIP_ABI_VERSION,
	.name = "pto",
	.version = DW_VERSION,
	.enumerate = pto_enumerate,
	.open = pto_open,
	.close = pto_close,
	.properties = pto_properties,
	.load = pto_load,
	.unload = pto_unload,
	.run = pto_run,
	.counters = pto_counters,
};

DW_CHIP_EXPORT dw_chip_driver_entry dw_chip_driver_v1;
const struct dw_chip_driver *dw_chip_driver_v1(void)
{
	return &driver;
}
