/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Images: OpenCL C source, or SPIR-V where the device takes it. A kernel's
 * arguments are the tensors, as __global pointers, then the scalars.
 *
 * A scalar is 64 bits on the wire. Integer parameters take its low bytes, a double
 * its bits, a float the double that the bits are, rounded.
 */
#include "base/text.h"
#include "internal.h"

#define SPIRV_MAGIC 0x07230203u

static bool is_spirv(const struct dw_chip_image_spec *spec)
{
	uint32_t magic = 0;

	if (spec->bytes >= sizeof(magic))
		memcpy(&magic, spec->data, sizeof(magic));
	return magic == SPIRV_MAGIC;
}

/* Devices of OpenCL 2.0 and older cannot answer this query. */
static bool takes_spirv(const struct dw_chip_device *device)
{
	char versions[256] = "";

	return !clGetDeviceInfo(device->device, CL_DEVICE_IL_VERSION, sizeof(versions) - 1,
				versions, NULL) && strstr(versions, "SPIR-V");
}

static int spirv_refused(const struct dw_chip_device *device, const char *image,
			 struct dw_chip_error *error)
{
	char name[128] = "";

	clGetDeviceInfo(device->device, CL_DEVICE_NAME, sizeof(name) - 1, name, NULL);
	return kit_fail(error, -ELIBBAD,
			"%s is SPIR-V, which opencl device %u (%s) does not take "
			"(CL_DEVICE_IL_VERSION): give OpenCL C source",
			text_short(image), device->id, text_short(name));
}

static const char *image_name(const struct dw_chip_image_spec *spec)
{
	return spec->name && spec->name[0] ? spec->name : "opencl image";
}

/* Finds the line of a build log that names the fault: the first error, or the first line. */
static void log_excerpt(const char *log, char *text, size_t bytes)
{
	const char *line = strstr(log, "error:");

	while (line && line > log && line[-1] != '\n')
		line--;
	if (!line)
		line = log;
	while (*line == '\n' || *line == ' ')
		line++;
	text_format(text, bytes, "%.*s", (int)strcspn(line, "\n"), line);
}

static int build_fail(struct dw_chip_device *device, cl_program program, cl_int code,
		      const struct dw_chip_image_spec *spec, struct dw_chip_error *error)
{
	char excerpt[300] = "no build log";
	size_t bytes = 0;
	char *log = NULL;

	clGetProgramBuildInfo(program, device->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes);
	if (bytes)
		log = calloc(1, bytes + 1);
	if (log && !clGetProgramBuildInfo(program, device->device, CL_PROGRAM_BUILD_LOG, bytes, log,
					  NULL) && log[0])
		log_excerpt(log, excerpt, sizeof(excerpt));
	free(log);
	return kit_fail(error, -ELIBBAD, "%s does not compile: %s: %s",
			text_short(image_name(spec)), opencl_name(code), excerpt);
}

static int program_build(struct dw_chip_device *device, const struct dw_chip_image_spec *spec,
			 cl_program *result, struct dw_chip_error *error)
{
	const char *source = spec->data;
	char flags[KIT_VALUE_BYTES + 96];
	cl_program program;
	cl_int code;

	if (is_spirv(spec) && !takes_spirv(device))
		return spirv_refused(device, image_name(spec), error);
	if (is_spirv(spec))
		program = clCreateProgramWithIL(device->context, spec->data, spec->bytes, &code);
	else if (memchr(source, '\0', spec->bytes ? spec->bytes - 1 : 0))
		return kit_fail(error, -ELIBBAD, "%s is neither OpenCL C source nor SPIR-V",
				text_short(image_name(spec)));
	else
		program =
			clCreateProgramWithSource(device->context, 1, &source, &spec->bytes, &code);
	if (code)
		return kit_fail(error, -ELIBBAD, "%s: %s failed with %s",
				text_short(image_name(spec)),
				is_spirv(spec) ? "clCreateProgramWithIL" :
						 "clCreateProgramWithSource",
				opencl_name(code));
	text_format(flags, sizeof(flags), "-cl-kernel-arg-info %s%s",
		 device->exact_division ? "-cl-fp32-correctly-rounded-divide-sqrt " : "",
		 device->options.flags);
	code = clBuildProgram(program, 1, &device->device, flags, NULL, NULL);
	if (code) {
		code = build_fail(device, program, code, spec, error);
		clReleaseProgram(program);
		return code;
	}
	*result = program;
	return 0;
}

static int kernel_find(const struct dw_chip_image_spec *spec, struct dw_chip_image *image,
		       struct dw_chip_error *error)
{
	char kernels[256] = "";
	cl_int code;

	image->kernel = clCreateKernel(image->program, image->entry, &code);
	if (!code)
		return 0;
	if (code != CL_INVALID_KERNEL_NAME)
		return opencl_fail(error, code, "clCreateKernel", image->entry);
	clGetProgramInfo(image->program, CL_PROGRAM_KERNEL_NAMES, sizeof(kernels) - 1, kernels,
			 NULL);
	return kit_fail(error, -ESRCH, "%s has no kernel \"%s\"; it has %s",
			text_short(image_name(spec)), text_short(image->entry),
			kernels[0] ? kernels : "others");
}

static int signature_take(const struct dw_chip_image_spec *spec, struct dw_chip_image *image,
			  struct dw_chip_error *error)
{
	cl_uint count = 0;
	bool scalars = false;

	if (!spec->signature)
		return kit_fail(
			error, -EINVAL,
			"kernel \"%s\" has no signature: give one at registration, OpenCL programs "
			"hold none",
			text_short(image->entry));
	clGetKernelInfo(image->kernel, CL_KERNEL_NUM_ARGS, sizeof(count), &count, NULL);
	if (count != spec->signature_count)
		return kit_fail(error, -EINVAL,
				"kernel \"%s\" has %u parameters, the signature given has %zu",
				text_short(image->entry), count, spec->signature_count);
	image->signature = calloc(count ? count : 1, sizeof(*image->signature));
	image->parameters = calloc(count ? count : 1, sizeof(*image->parameters));
	if (!image->signature || !image->parameters)
		return kit_fail(error, -ENOMEM, "kernel \"%s\": no memory",
				text_short(image->entry));
	for (cl_uint i = 0; i < count; i++) {
		int32_t direction = spec->signature[i];

		if (direction < DW_DIR_SCALAR || direction > DW_DIR_INOUT)
			return kit_fail(
				error, -EINVAL,
				"kernel \"%s\": direction %d of argument %u is none of SCALAR 0, "
				"IN 1, OUT 2, INOUT 3",
				text_short(image->entry), direction, i);
		if (direction != DW_DIR_SCALAR && scalars)
			return kit_fail(
				error, -EINVAL,
				"kernel \"%s\": argument %u is a tensor behind a scalar: tensors "
				"come first",
				text_short(image->entry), i);
		scalars |= direction == DW_DIR_SCALAR;
		image->tensor_count += !scalars;
		image->signature[i] = direction;
	}
	image->signature_count = count;
	return 0;
}

/* Asks OpenCL for the type of parameter `index`; SPIR-V without arg info has none. */
static void parameter_find(const struct dw_chip_image *image, cl_uint index,
			   struct parameter *parameter)
{
	static const struct { const char *name; size_t bytes; } types[] = {
		{ "char", 1 }, { "uchar", 1 }, { "short", 2 }, { "ushort", 2 }, { "int", 4 },
		{ "uint", 4 }, { "float", 4 }, { "long", 8 }, { "ulong", 8 }, { "double", 8 },
		{ "unsigned char", 1 }, { "unsigned short", 2 }, { "unsigned int", 4 },
		{ "unsigned long", 8 },
	};
	char name[64] = "";

	parameter->kind = SCALAR_BITS;
	parameter->bytes = 0;
	if (clGetKernelArgInfo(image->kernel, index, CL_KERNEL_ARG_TYPE_NAME, sizeof(name) - 1,
			       name, NULL))
		return;
	if (strcmp(name, "float") == 0)
		parameter->kind = SCALAR_FLOAT;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(name, types[i].name) == 0)
			parameter->bytes = types[i].bytes;
}

static bool parameter_is_pointer(const struct dw_chip_image *image, cl_uint index)
{
	char name[128] = "";

	if (clGetKernelArgInfo(image->kernel, index, CL_KERNEL_ARG_TYPE_NAME, sizeof(name) - 1,
			       name, NULL))
		return index < image->tensor_count;
	return strchr(name, '*') != NULL;
}

static int parameters_check(struct dw_chip_image *image, struct dw_chip_error *error)
{
	for (cl_uint i = 0; i < image->signature_count; i++) {
		bool tensor = i < image->tensor_count;

		if (parameter_is_pointer(image, i) != tensor)
			return kit_fail(error, -EINVAL,
					"kernel \"%s\": parameter %u is %s, the signature says %s",
					text_short(image->entry), i,
					tensor ? "no pointer" : "a pointer",
					tensor ? "tensor" : "scalar");
		if (!tensor)
			parameter_find(image, i, &image->parameters[i - image->tensor_count]);
	}
	return 0;
}

/* The size that the kernel demands, else the driver option, else a size that suits the device. */
static size_t local_size(struct dw_chip_device *device, const struct dw_chip_image *image)
{
	size_t demanded[3] = { 0, 0, 0 }, largest = 1, suits = 1;

	clGetKernelWorkGroupInfo(image->kernel, device->device, CL_KERNEL_COMPILE_WORK_GROUP_SIZE,
				 sizeof(demanded), demanded, NULL);
	if (demanded[0])
		return demanded[0] * demanded[1] * demanded[2];
	if (device->options.local)
		return device->options.local;
	clGetKernelWorkGroupInfo(image->kernel, device->device, CL_KERNEL_WORK_GROUP_SIZE,
				 sizeof(largest), &largest, NULL);
	clGetKernelWorkGroupInfo(image->kernel, device->device,
				 CL_KERNEL_PREFERRED_WORK_GROUP_SIZE_MULTIPLE, sizeof(suits),
				 &suits, NULL);
	if (suits > largest)
		suits = largest;
	return suits ? suits : 1;
}

int program_load(struct dw_chip_device *device, const struct dw_chip_image_spec *spec,
		 struct dw_chip_image **result, struct dw_chip_error *error)
{
	struct dw_chip_image_spec room;
	struct dw_chip_image *image;
	int status = kit_take_spec(&spec, &room, error);

	if (status < 0)
		return status;
	if (!spec->entry || !spec->entry[0] || strlen(spec->entry) >= sizeof(image->entry))
		return kit_fail(error, -EINVAL,
				"%s: the kernel's name is missing, or longer than %zu characters",
				text_short(image_name(spec)), sizeof(image->entry) - 1);
	image = calloc(1, sizeof(*image));
	if (!image)
		return kit_fail(error, -ENOMEM, "%s: no memory", text_short(image_name(spec)));
	strcpy(image->entry, spec->entry);
	status = program_build(device, spec, &image->program, error);
	if (status == 0)
		status = kernel_find(spec, image, error);
	if (status == 0)
		status = signature_take(spec, image, error);
	if (status == 0)
		status = parameters_check(image, error);
	if (status < 0) {
		program_unload(image);
		return status;
	}
	image->local = local_size(device, image);
	*result = image;
	return 0;
}

void program_unload(struct dw_chip_image *image)
{
	if (image->kernel)
		clReleaseKernel(image->kernel);
	if (image->program)
		clReleaseProgram(image->program);
	free(image->signature);
	free(image->parameters);
	free(image);
}
