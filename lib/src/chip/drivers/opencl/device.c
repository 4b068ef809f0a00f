/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * OpenCL's platforms and devices, the driver's options, and errors by OpenCL's
 * names. Any thread; no state but OpenCL's own.
 */
#include <time.h>
#include "base/text.h"
#include "internal.h"

#define NAME(code) { code, #code }

static const struct {
	cl_int code;
	const char *name;
} names[] = {
	NAME(CL_SUCCESS), NAME(CL_DEVICE_NOT_FOUND), NAME(CL_DEVICE_NOT_AVAILABLE),
	NAME(CL_COMPILER_NOT_AVAILABLE), NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE),
	NAME(CL_OUT_OF_RESOURCES), NAME(CL_OUT_OF_HOST_MEMORY),
	NAME(CL_PROFILING_INFO_NOT_AVAILABLE), NAME(CL_MEM_COPY_OVERLAP),
	NAME(CL_IMAGE_FORMAT_MISMATCH), NAME(CL_IMAGE_FORMAT_NOT_SUPPORTED),
	NAME(CL_BUILD_PROGRAM_FAILURE), NAME(CL_MAP_FAILURE),
	NAME(CL_MISALIGNED_SUB_BUFFER_OFFSET), NAME(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST),
	NAME(CL_COMPILE_PROGRAM_FAILURE), NAME(CL_LINKER_NOT_AVAILABLE),
	NAME(CL_LINK_PROGRAM_FAILURE), NAME(CL_DEVICE_PARTITION_FAILED),
	NAME(CL_KERNEL_ARG_INFO_NOT_AVAILABLE), NAME(CL_INVALID_VALUE),
	NAME(CL_INVALID_DEVICE_TYPE), NAME(CL_INVALID_PLATFORM), NAME(CL_INVALID_DEVICE),
	NAME(CL_INVALID_CONTEXT), NAME(CL_INVALID_QUEUE_PROPERTIES), NAME(CL_INVALID_COMMAND_QUEUE),
	NAME(CL_INVALID_HOST_PTR), NAME(CL_INVALID_MEM_OBJECT), NAME(CL_INVALID_BINARY),
	NAME(CL_INVALID_BUILD_OPTIONS), NAME(CL_INVALID_PROGRAM),
	NAME(CL_INVALID_PROGRAM_EXECUTABLE), NAME(CL_INVALID_KERNEL_NAME),
	NAME(CL_INVALID_KERNEL_DEFINITION), NAME(CL_INVALID_KERNEL), NAME(CL_INVALID_ARG_INDEX),
	NAME(CL_INVALID_ARG_VALUE), NAME(CL_INVALID_ARG_SIZE), NAME(CL_INVALID_KERNEL_ARGS),
	NAME(CL_INVALID_WORK_DIMENSION), NAME(CL_INVALID_WORK_GROUP_SIZE),
	NAME(CL_INVALID_WORK_ITEM_SIZE), NAME(CL_INVALID_GLOBAL_OFFSET),
	NAME(CL_INVALID_EVENT_WAIT_LIST), NAME(CL_INVALID_EVENT), NAME(CL_INVALID_OPERATION),
	NAME(CL_INVALID_BUFFER_SIZE), NAME(CL_INVALID_GLOBAL_WORK_SIZE), NAME(CL_INVALID_PROPERTY),
	/* of cl_khr_icd: no platform is installed */
	{ -1001, "CL_PLATFORM_NOT_FOUND_KHR" },
};

const char *opencl_name(cl_int code)
{
	static __thread char unknown[32];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].code == code)
			return names[i].name;
	snprintf(unknown, sizeof(unknown), "OpenCL error %d", code);
	return unknown;
}

int opencl_errno(cl_int code)
{
	switch (code) {
	case CL_DEVICE_NOT_FOUND: case CL_DEVICE_NOT_AVAILABLE: case -1001:
	/* These objects of ours were valid, so their device is gone. */
	case CL_INVALID_DEVICE: case CL_INVALID_CONTEXT: case CL_INVALID_COMMAND_QUEUE:
		return -ENODEV;
	case CL_MEM_OBJECT_ALLOCATION_FAILURE:
	case CL_OUT_OF_HOST_MEMORY:
	case CL_INVALID_BUFFER_SIZE:
		return -ENOMEM;
	case CL_INVALID_WORK_GROUP_SIZE: case CL_INVALID_WORK_ITEM_SIZE:
	case CL_INVALID_GLOBAL_WORK_SIZE: case CL_INVALID_ARG_SIZE: case CL_INVALID_VALUE:
		return -EINVAL;
	default:
		return -EIO;
	}
}

int opencl_fail(struct dw_chip_error *error, cl_int code, const char *call, const char *object)
{
	return kit_fail(error, opencl_errno(code), "%s: %s failed with %s (%d)", object, call,
			opencl_name(code), code);
}

static int type_read(const struct kit_option *option, cl_device_type *type,
		     struct dw_chip_error *error)
{
	static const struct { const char *name; cl_device_type type; } types[] = {
		{ "all", CL_DEVICE_TYPE_ALL }, { "cpu", CL_DEVICE_TYPE_CPU },
		{ "gpu", CL_DEVICE_TYPE_GPU }, { "accelerator", CL_DEVICE_TYPE_ACCELERATOR },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(option->value, types[i].name) == 0) {
			*type = types[i].type;
			return 0;
		}
	return kit_fail(error, -EINVAL,
			"driver option type=%s: all, cpu, gpu or accelerator is wanted",
			text_short(option->value));
}

int opencl_options_read(const char *text, struct opencl_options *options,
			struct dw_chip_error *error)
{
	struct kit_option option;
	int status;

	memset(options, 0, sizeof(*options));
	options->type = CL_DEVICE_TYPE_ALL;
	options->block_dim = 1;
	options->svm = 1;
	while ((status = kit_option_next(&text, &option, error)) == 1) {
		if (strcmp(option.key, "platform") == 0)
			strcpy(options->platform, option.value);
		else if (strcmp(option.key, "flags") == 0)
			strcpy(options->flags, option.value);
		else if (strcmp(option.key, "type") == 0)
			status = type_read(&option, &options->type, error);
		else if (strcmp(option.key, "local") == 0)
			status = kit_number(&option, 1, 65536, &options->local, error);
		else if (strcmp(option.key, "svm") == 0)
			status = kit_number(&option, 0, 1, &options->svm, error);
		else if (strcmp(option.key, "block_dim") == 0)
			status = kit_number(&option, 1, INT32_MAX, &options->block_dim, error);
		else
			status = kit_fail(
				error, -EINVAL,
				"driver option \"%s\" is unknown to opencl: platform, type, flags, "
				"local, block_dim and svm are known",
				option.key);
		if (status < 0)
			return status;
	}
	return status;
}

static bool platform_fits(cl_platform_id platform, const struct opencl_options *options)
{
	char name[256] = "";

	clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof(name) - 1, name, NULL);
	return strstr(name, options->platform) != NULL;
}

/* Appends the matching devices of one platform. */
static int platform_devices(cl_platform_id platform, const struct opencl_options *options,
			    struct opencl_found *found, struct dw_chip_error *error)
{
	cl_device_id *ids;
	cl_uint count = 0;
	void *grown;

	/* A platform that has no matching device reports an error. */
	if (!platform_fits(platform, options))
		return 0;
	if (clGetDeviceIDs(platform, options->type, 0, NULL, &count) || count == 0) {
		if (!found->error)
			found->error = pocl_cache_check(platform, error);
		return 0;
	}
	ids = malloc(count * sizeof(*ids));
	grown = realloc(found->devices, (found->count + count) * sizeof(*found->devices));
	if (grown)
		found->devices = grown;
	if (!ids || !grown) {
		free(ids);
		return kit_fail(error, -ENOMEM, "opencl: no memory for %u devices", count);
	}
	if (clGetDeviceIDs(platform, options->type, count, ids, NULL) == 0)
		for (cl_uint i = 0; i < count; i++)
			found->devices[found->count++] = (struct opencl_place){ platform, ids[i] };
	free(ids);
	return 0;
}

static int devices_find(const struct opencl_options *options, struct opencl_found *found,
			struct dw_chip_error *error)
{
	cl_platform_id *all;
	cl_uint count = 0;
	cl_int code = clGetPlatformIDs(0, NULL, &count);
	int status = 0;

	if (code == -1001 || (!code && !count))
		return 0;
	if (code)
		return opencl_fail(error, code, "clGetPlatformIDs", "opencl");
	all = malloc(count * sizeof(*all));
	if (!all)
		return kit_fail(error, -ENOMEM, "opencl: no memory for %u platforms", count);
	code = clGetPlatformIDs(count, all, NULL);
	if (code)
		status = opencl_fail(error, code, "clGetPlatformIDs", "opencl");
	for (cl_uint i = 0; i < count && status == 0; i++)
		status = platform_devices(all[i], options, found, error);
	free(all);
	/* The cause matters only if no other platform has a device. */
	if (status == 0 && found->count)
		error->text[0] = '\0';
	return status == 0 && !found->count ? found->error : status;
}

/*
 * OpenCL's first call sets the platforms up, and concurrent calls may be told that there are none.
 */
int opencl_devices(const struct opencl_options *options, struct opencl_found *found,
		   struct dw_chip_error *error)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int status;

	*found = (struct opencl_found){ 0 };
	pthread_mutex_lock(&lock);
	status = devices_find(options, found, error);
	pthread_mutex_unlock(&lock);
	if (status < 0) {
		free(found->devices);
		*found = (struct opencl_found){ 0 };
	}
	return status;
}

/* A work-group is a block, and any number of them may be asked for. */
void opencl_device_properties(cl_device_id device, const struct opencl_options *options,
			      struct dw_chip_properties *properties)
{
	struct dw_chip_properties full = {
		.capabilities = DW_CHIP_CAP_ASYNC | DW_CHIP_CAP_MEMORY | DW_CHIP_CAP_PLACES |
				DW_CHIP_CAP_COPIES,
		.queue_depth = DEPTH,
		.default_block_dim = (uint32_t)options->block_dim,
		.default_aicpu_thread_num = 1,
	};
	char name[256] = "", vendor[256] = "", version[128] = "";
	cl_device_fp_config doubles = 0;
	cl_ulong memory = 0, block = 0;
	cl_uint units = 0, align_bits = 0;

	clGetDeviceInfo(device, CL_DEVICE_NAME, sizeof(name) - 1, name, NULL);
	clGetDeviceInfo(device, CL_DEVICE_VENDOR, sizeof(vendor) - 1, vendor, NULL);
	clGetDeviceInfo(device, CL_DEVICE_VERSION, sizeof(version) - 1, version, NULL);
	clGetDeviceInfo(device, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(memory), &memory, NULL);
	clGetDeviceInfo(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(block), &block, NULL);
	clGetDeviceInfo(device, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof(units), &units, NULL);
	clGetDeviceInfo(device, CL_DEVICE_DOUBLE_FP_CONFIG, sizeof(doubles), &doubles, NULL);
	clGetDeviceInfo(device, CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof(align_bits), &align_bits,
			NULL);
	full.alignment = align_bits / 8;
	if (doubles)
		full.capabilities |= DW_CHIP_CAP_FLOAT64;
	full.cores = units;
	full.memory_bytes = memory;
	full.max_allocation_bytes = block;
	text_copy(full.name, sizeof(full.name), name);
	text_format(full.description, sizeof(full.description), "%s, %s", vendor, version);
	KIT_GIVE(properties, &full);
}
