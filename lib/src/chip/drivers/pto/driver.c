/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The table of the pto driver: opens the runtime's library, finds out which interface it has, and
 * hands on to it.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/library.h"
#include "base/text.h"
#include "chip/pto_object.h"
#include "internal.h"

static const struct pto_interface *const interfaces[] = { &pto_present, &pto_old };

#define INTERFACE_COUNT (sizeof(interfaces) / sizeof(interfaces[0]))

/* Counts the hardware's device nodes; 1 if there are none, since a simulator takes any id. */
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

static int blob_read(const char *option, const char *path, struct pto_blob *blob,
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
static int context_load(const char *path, void **library, struct dw_chip_error *error)
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
	*library = loaded;
	pthread_mutex_unlock(&lock);
	return status;
}

int pto_functions(struct dw_chip_device *device, const char *const *names, void **functions,
		  size_t count, struct dw_chip_error *error)
{
	for (size_t i = 0; i < count; i++) {
		functions[i] = dlsym(device->library, names[i]);
		if (!functions[i])
			return kit_fail(
				error, -ELIBBAD,
				"pto driver option host: the library exports %s() and not %s(): it "
				"is not whole, or of a version between those that are known",
				device->interface->mark, names[i]);
	}
	return 0;
}

static int library_load(struct dw_chip_device *device, const char *path,
			struct dw_chip_error *error)
{
	char why[LIBRARY_WHY_BYTES];

	device->library = library_open(path, RTLD_NOW | RTLD_LOCAL, why);
	if (!device->library)
		return kit_fail(error, -ELIBBAD, "pto driver option host: %s", why);
	for (size_t i = 0; i < INTERFACE_COUNT && !device->interface; i++)
		if (dlsym(device->library, interfaces[i]->mark))
			device->interface = interfaces[i];
	if (!device->interface)
		return kit_fail(error, -ELIBBAD,
				"pto driver option host=%s is no runtime library: it exports "
				"neither simpler_run() nor run_runtime()",
				text_short(path));
	return 0;
}

static void pto_close(struct dw_chip_device *device)
{
	if (device->interface)
		device->interface->close(device);
	if (device->library)
		dlclose(device->library);
	free(device->aicpu.data);
	free(device->aicore.data);
	free(device->dispatcher.data);
	free(device);
}

static int device_open(struct dw_chip_device *device, const char *text,
		       struct pto_options *options, struct dw_chip_error *error)
{
	int status = pto_options_read(text, options, error);

	if (status == 0)
		status = pto_options_complete(options, error);
	if (status == 0 && device->id > INT32_MAX)
		status = kit_fail(error, -ENODEV, "pto has no device %u: ids are 31-bit numbers",
				  device->id);
	if (status < 0)
		return status;
	device->generation = options->generation;
	device->lost_after = (uint32_t)options->lost_after;
	device->memory = options->memory;
	device->simulator = options->sim_context[0];
	status = blob_read("aicpu", options->aicpu, &device->aicpu, error);
	if (status == 0)
		status = blob_read("aicore", options->aicore, &device->aicore, error);
	if (status == 0 && options->dispatcher[0])
		status = blob_read("dispatcher", options->dispatcher, &device->dispatcher, error);
	if (status == 0)
		status = context_load(options->sim_context, &device->context_library, error);
	if (status == 0)
		status = library_load(device, options->host, error);
	return status ? status : device->interface->open(device, options, error);
}

static int pto_open(uint32_t id, const char *text, struct dw_chip_device **result,
		    struct dw_chip_error *error)
{
	struct dw_chip_device *device = calloc(1, sizeof(*device));
	struct pto_options *options = malloc(sizeof(*options));
	int status;

	if (!device || !options) {
		free(device);
		free(options);
		return kit_fail(error, -ENOMEM, "pto device %u: no memory to open it", id);
	}
	device->id = id;
	status = device_open(device, text, options, error);
	free(options);
	if (status < 0) {
		pto_close(device);
		return status;
	}
	*result = device;
	return 0;
}

/* -------------------------------------------------------------- properties */

static void properties_fill(uint64_t id, const struct dw_chip_device *device,
			    const struct pto_interface *interface,
			    const struct pto_generation *generation, uint64_t memory,
			    struct dw_chip_properties *properties)
{
	const int32_t threads = interface == &pto_old ? generation->threads_old :
				generation->threads_present;
	struct dw_chip_properties full = {
		.capabilities = DW_CHIP_CAP_DEFAULTS,
		.cores = (uint32_t)generation->cores,
		/* With the present interface a run takes the whole device. */
		.max_block_dim = interface == &pto_old ? (uint32_t)generation->cores : 0,
		.max_aicpu_thread_num = (uint32_t)threads,
		.max_tensors = interface->limits.tensors,
		.max_scalars = interface->limits.scalars,
		.queue_depth = 1,
		.memory_bytes = memory,
	};

	interface->properties(device, &full);
	snprintf(full.name, sizeof(full.name), "pto%llu", (unsigned long long)id);
	snprintf(full.description, sizeof(full.description), "Ascend chip (%s) behind %s",
		 generation->name, interface->description);
	KIT_GIVE(properties, &full);
}

/*
 * Tells the interface of a library by its symbols, without loading it: enumerate() is called in
 * processes that should not run the vendor's code. The present interface is assumed if the symbols
 * do not tell.
 */
static const struct pto_interface *interface_of_file(const char *path)
{
	const struct pto_interface *found = &pto_present;
	struct dw_chip_error ignored = { "" };
	struct pto_blob file = { NULL, 0 };

	if (path[0] && blob_read("host", path, &file, &ignored) == 0)
		for (size_t i = 0; i < INTERFACE_COUNT; i++)
			if (pto_object_exports(file.data, file.bytes, interfaces[i]->mark)) {
				found = interfaces[i];
				break;
			}
	free(file.data);
	return found;
}

static int pto_enumerate(const char *text, struct dw_chip_properties *properties, size_t *count,
			 struct dw_chip_error *error)
{
	struct pto_options *options = malloc(sizeof(*options));
	const struct pto_interface *interface;
	uint64_t devices;
	int status;

	if (!options)
		return kit_fail(error, -ENOMEM, "pto: no memory");
	status = pto_options_read(text, options, error);
	if (status == 0) {
		devices = options->devices ? options->devices : devices_count();
		interface = properties ? interface_of_file(options->host) : NULL;
		for (size_t i = 0; properties && i < *count && i < devices; i++)
			properties_fill(i, NULL, interface, options->generation, options->memory,
					kit_properties_at(properties, i));
		*count = devices;
	}
	free(options);
	return status;
}

static int pto_properties(struct dw_chip_device *device, struct dw_chip_properties *properties,
			  struct dw_chip_error *error)
{
	(void)error;
	properties_fill(device->id, device, device->interface, device->generation, device->memory,
			properties);
	return 0;
}

static int pto_counters(struct dw_chip_device *device, struct dw_chip_counters *counters)
{
	struct dw_chip_counters full = {
		.calls = device->calls,
		.copies_in = device->copies_in, .copies_out = device->copies_out,
		.bytes_in = device->bytes_in, .bytes_out = device->bytes_out,
	};

	if (device->interface->memory_used)
		full.memory_used = device->interface->memory_used(device);
	KIT_GIVE(counters, &full);
	return 0;
}

/* ---------------------------------------------------------- images and runs */

static struct dw_chip_image *image_make(const struct pto_view *view)
{
	struct dw_chip_image *image = calloc(1, sizeof(*image));

	if (!image)
		return NULL;
	memcpy(image->entry, view->entry, sizeof(image->entry));
	image->signature_count = view->signature_count ? view->signature_count : PTO_NO_SIGNATURE;
	for (uint32_t i = 0; i < view->signature_count; i++)
		if (view->signature[i] != DW_DIR_SCALAR)
			image->tensor_signature[image->tensor_count++] = view->signature[i];
	return image;
}

static int pto_load(struct dw_chip_device *device, const struct dw_chip_image_spec *spec,
		    struct dw_chip_image **result, struct dw_chip_error *error)
{
	struct dw_chip_image_spec room;
	struct dw_chip_image *image;
	struct pto_view *view;
	int status = kit_take_spec(&spec, &room, error);

	if (status < 0)
		return status;
	view = malloc(sizeof(*view));
	if (!view)
		return kit_fail(error, -ENOMEM, "pto image: no memory");
	status = pto_view_read(spec, &device->interface->limits, device->simulator, view, error);
	if (status < 0) {
		free(view);
		return status;
	}
	image = image_make(view);
	if (!image)
		status = kit_fail(error, -ENOMEM, "pto image: no memory");
	else
		status = device->interface->load(device, view, image, error);
	pto_view_free(view);
	free(view);
	if (status < 0)
		free(image);
	else
		*result = image;
	return status;
}

static void pto_unload(struct dw_chip_device *device, struct dw_chip_image *image)
{
	device->interface->unload(device, image);
	free(image);
}

static const int32_t *pto_signature(struct dw_chip_device *device, struct dw_chip_image *image,
				    size_t *count)
{
	(void)device;
	*count = image->tensor_count;
	return image->signature_count == PTO_NO_SIGNATURE ? NULL : image->tensor_signature;
}

static int pto_run(struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error)
{
	struct dw_chip_call room;
	int status = kit_take_call(&call, &room, error);

	if (status == 0)
		status = pto_call_check(device, call, error);
	return status ? status : device->interface->run(device, call, error);
}

static int pto_completion_fd(struct dw_chip_device *device)
{
	return device->interface->completion_fd ? device->interface->completion_fd(device) : -1;
}

static int pto_submit(struct dw_chip_device *device, const struct dw_chip_call *call,
		      struct dw_chip_error *error)
{
	struct dw_chip_call room;
	int status = kit_take_call(&call, &room, error);

	if (status == 0)
		status = pto_call_check(device, call, error);
	return status ? status : device->interface->submit(device, call, error);
}

static int pto_collect(struct dw_chip_device *device, struct dw_chip_completion *completion)
{
	return device->interface->collect(device, completion);
}

/* ------------------------------------------------------------------ memory */

static int no_memory(const struct dw_chip_device *device, struct dw_chip_error *error)
{
	return kit_fail(error, -EOPNOTSUPP,
			"pto device %u: the old interface of the runtime has no device memory of "
			"its users'",
			device->id);
}

static int pto_alloc(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		     struct dw_chip_error *error)
{
	if (!device->interface->alloc)
		return no_memory(device, error);
	return device->interface->alloc(device, handle, bytes, error);
}

static int pto_reserve(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		       struct dw_chip_error *error)
{
	if (!device->interface->reserve)
		return no_memory(device, error);
	return device->interface->reserve(device, handle, bytes, error);
}

static int pto_free(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error)
{
	if (!device->interface->free)
		return no_memory(device, error);
	return device->interface->free(device, handle, error);
}

static int pto_copy_in(struct dw_chip_device *device, uint64_t handle, const void *host,
		       uint64_t bytes, struct dw_chip_error *error)
{
	if (!device->interface->copy_in)
		return no_memory(device, error);
	return device->interface->copy_in(device, handle, host, bytes, error);
}

static int pto_copy_out(struct dw_chip_device *device, void *host, uint64_t handle,
			uint64_t bytes, struct dw_chip_error *error)
{
	if (!device->interface->copy_out)
		return no_memory(device, error);
	return device->interface->copy_out(device, host, handle, bytes, error);
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
	.alloc = pto_alloc,
	.free = pto_free,
	.copy_in = pto_copy_in,
	.copy_out = pto_copy_out,
	.run = pto_run,
	.completion_fd = pto_completion_fd,
	.submit = pto_submit,
	.collect = pto_collect,
	.counters = pto_counters,
	.reserve = pto_reserve,
	.signature = pto_signature,
};

DW_CHIP_EXPORT dw_chip_driver_entry dw_chip_driver_v1;
const struct dw_chip_driver *dw_chip_driver_v1(void)
{
	return &driver;
}
