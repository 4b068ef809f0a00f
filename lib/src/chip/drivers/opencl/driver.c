/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The driver's table. Calls of a device come from one thread (distworker/chip.h). */
#include "base/variables.h"
#include "internal.h"

static int opencl_enumerate(const char *text, struct dw_chip_properties *properties, size_t *count,
			    struct dw_chip_error *error)
{
	struct opencl_options *options = malloc(sizeof(*options));
	struct opencl_found found;
	int status;

	if (!options)
		return kit_fail(error, -ENOMEM, "opencl: no memory");
	status = opencl_options_read(text, options, error);
	if (status == 0)
		status = opencl_devices(options, &found, error);
	if (status == 0) {
		for (size_t i = 0; properties && i < *count && i < found.count; i++)
			opencl_device_properties(found.devices[i].device, options,
						 kit_properties_at(properties, i));
		*count = found.count;
		free(found.devices);
	}
	free(options);
	return status;
}

static int device_choose(struct dw_chip_device *device, struct dw_chip_error *error)
{
	struct opencl_found found;
	int status = opencl_devices(&device->options, &found, error);

	if (status < 0)
		return status;
	if (found.count == 0)
		status = kit_fail(
			error, -ENODEV,
			"opencl has no device%s%s: is an ICD installed (pocl-opencl-icd, or the "
			"vendor's; `clinfo -l` lists them)?",
			device->options.platform[0] ? " of platform " : "",
			text_short(device->options.platform));
	else if (device->id >= found.count)
		status = kit_fail(error, -ENODEV, "opencl has no device %u: there are %zu, from 0",
				  device->id, found.count);
	if (status == 0) {
		device->device = found.devices[device->id].device;
		device->platform = found.devices[device->id].platform;
	}
	free(found.devices);
	return status < 0 ? status : pocl_cache_check(device->platform, error);
}

/*
 * Any part of shared virtual memory can be a kernel's argument; a part of a buffer has to begin
 * where the device can address one. The calls are there from OpenCL 2.0 on.
 */
static bool device_has_svm(const struct dw_chip_device *device)
{
	cl_device_svm_capabilities svm = 0;
	char version[128] = "";

	clGetDeviceInfo(device->device, CL_DEVICE_VERSION, sizeof(version) - 1, version, NULL);
	if (!device->options.svm || strncmp(version, "OpenCL ", 7) != 0 || version[7] < '2' ||
	    version[7] > '9')
		return false;
	return !clGetDeviceInfo(device->device, CL_DEVICE_SVM_CAPABILITIES, sizeof(svm), &svm,
				NULL) && svm & CL_DEVICE_SVM_COARSE_GRAIN_BUFFER;
}

static int device_setup(struct dw_chip_device *device, struct dw_chip_error *error)
{
	const cl_context_properties properties[] = {
		CL_CONTEXT_PLATFORM, (cl_context_properties)device->platform, 0
	};
	cl_device_fp_config floats = 0;
	cl_ulong memory = 0;
	cl_uint bits = 0;
	char object[32];
	cl_int code;

	snprintf(object, sizeof(object), "opencl device %u", device->id);
	device->context = clCreateContext(properties, 1, &device->device, NULL, NULL, &code);
	if (code)
		return opencl_fail(error, code, "clCreateContext", object);
	/* Times of commands cost something on some devices; only a trace needs them. */
	device->commands = clCreateCommandQueue(device->context, device->device,
						variable_text(VARIABLE_TRACE) ?
						CL_QUEUE_PROFILING_ENABLE : 0, &code);
	if (code) {
		clReleaseContext(device->context);
		return opencl_fail(error, code, "clCreateCommandQueue", object);
	}
	clGetDeviceInfo(device->device, CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof(bits), &bits, NULL);
	device->base_align = bits >= 8 ? bits / 8 : 1;
	clGetDeviceInfo(device->device, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(memory), &memory, NULL);
	device->spare_limit = memory / 4;
	clGetDeviceInfo(device->device, CL_DEVICE_SINGLE_FP_CONFIG, sizeof(floats), &floats, NULL);
	device->svm = device_has_svm(device);
	device->exact_division = floats & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
	return 0;
}

static int opencl_open(uint32_t id, const char *text, struct dw_chip_device **result,
		       struct dw_chip_error *error)
{
	struct dw_chip_device *device = calloc(1, sizeof(*device));
	int status;

	if (!device)
		return kit_fail(error, -ENOMEM, "opencl device %u: no memory to open it", id);
	device->id = id;
	status = opencl_options_read(text, &device->options, error);
	if (status == 0)
		status = device_choose(device, error);
	if (status == 0)
		status = device_setup(device, error);
	if (status < 0)
		goto fail;
	status = queue_init(device, error);
	if (status < 0) {
		clReleaseCommandQueue(device->commands);
		clReleaseContext(device->context);
		goto fail;
	}
	*result = device;
	return 0;
fail:
	free(device);
	return status;
}

static void opencl_close(struct dw_chip_device *device)
{
	queue_fini(device);
	memory_fini(device);
	clReleaseCommandQueue(device->commands);
	clReleaseContext(device->context);
	free(device);
}

static int opencl_properties(struct dw_chip_device *device, struct dw_chip_properties *properties,
			     struct dw_chip_error *error)
{
	(void)error;
	opencl_device_properties(device->device, &device->options, properties);
	return 0;
}

static void opencl_unload(struct dw_chip_device *device, struct dw_chip_image *image)
{
	queue_drain(device);
	program_unload(image);
}

static const int32_t *opencl_signature(struct dw_chip_device *device, struct dw_chip_image *image,
				       size_t *count)
{
	(void)device;
	*count = image->signature_count;
	return image->signature;
}

static int opencl_completion_fd(struct dw_chip_device *device)
{
	return device->queue.fd;
}

static int opencl_counters(struct dw_chip_device *device, struct dw_chip_counters *counters)
{
	struct dw_chip_counters full = device->counters;

	KIT_GIVE(counters, &full);
	return 0;
}

static const struct dw_chip_driver driver = {
	.size = sizeof(driver),
	.abi_version = DW_CHIP_ABI_VERSION,
	.name = "opencl",
	.version = DW_VERSION,
	.enumerate = opencl_enumerate,
	.open = opencl_open,
	.close = opencl_close,
	.properties = opencl_properties,
	.load = program_load,
	.unload = opencl_unload,
	.alloc = memory_alloc,
	.free = memory_free,
	.copy_in = memory_copy_in,
	.copy_out = memory_copy_out,
	.copy_within = memory_copy_within,
	.completion_fd = opencl_completion_fd,
	.submit = call_submit,
	.collect = call_collect,
	.counters = opencl_counters,
	.reserve = memory_reserve,
	.signature = opencl_signature,
};

DW_CHIP_EXPORT dw_chip_driver_entry dw_chip_driver_v1;
const struct dw_chip_driver *dw_chip_driver_v1(void)
{
	return &driver;
}
