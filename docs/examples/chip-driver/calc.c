/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A complete small chip driver. Its chip is a calculator: an image is a formula
 * in reverse Polish notation, "0 1 + 2 *" say, which a call applies to each element. A number is
 * an input tensor of the call; the last tensor takes the result. All are float32.
 *
 *     cc -shared -fPIC -o libdistworker-chip-calc.so calc.c
 *     DW_CHIP_PATH=. distworker chips
 *
 * It computes on the host's memory (DW_CHIP_CAP_HOST_WRITES) and synchronously, so
 * it has neither device memory nor a queue; docs/chips.md describes those.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <distworker/chip.h>

#define STEPS_MAX 64
#define INPUTS_MAX 8

struct dw_chip_device {
	uint32_t id;
	uint64_t calls;
};

/* A formula: each step pushes an input (≥ 0) or is an operator (its character, negative). */
struct dw_chip_image {
	int steps[STEPS_MAX];
	int count;
	size_t inputs;
};

/* Words an error and returns its code: the one way out when something is wrong. */
__attribute__((format(printf, 3, 4)))
static int fail(struct dw_chip_error *error, int code, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(error->text, sizeof(error->text), format, list);
	va_end(list);
	return code;
}

/*
 * The caller's struct may be of another version: fills the fields that it has room for, with zeros
 * for fields that are unknown here.
 */
static void describe(uint32_t id, struct dw_chip_properties *properties)
{
	struct dw_chip_properties full = {
		.size = properties->size,
		.description = "calculator, an example of a driver",
		.capabilities = DW_CHIP_CAP_HOST_WRITES,
		.cores = 1,
		.max_tensors = INPUTS_MAX + 1,
		.queue_depth = 1,
	};

	snprintf(full.name, sizeof(full.name), "calc%u", id);
	if (full.size > sizeof(full))
		memset((char *)properties + sizeof(full), 0, full.size - sizeof(full));
	memcpy(properties, &full, full.size < sizeof(full) ? full.size : sizeof(full));
}

/* This driver has one option: how many calculators there are. */
static int read_options(const char *options, unsigned long *devices, struct dw_chip_error *error)
{
	char *end;

	*devices = 1;
	if (!options || !options[0])
		return 0;
	if (strncmp(options, "devices=", 8) != 0)
		return fail(error, -EINVAL,
			    "calc does not know option \"%s\": devices=N is possible", options);
	*devices = strtoul(options + 8, &end, 10);
	if (*end || *devices < 1 || *devices > 64)
		return fail(error, -EINVAL, "calc option %s: a number from 1 to 64 is wanted",
			    options);
	return 0;
}

static int calc_enumerate(const char *options, struct dw_chip_properties *properties, size_t *count,
			  struct dw_chip_error *error)
{
	unsigned long devices;
	int status = read_options(options, &devices, error);

	if (status < 0)
		return status;
	for (size_t i = 0; properties && i < *count && i < devices; i++)
		describe((uint32_t)i, (struct dw_chip_properties *)(void *)((char *)properties +
									    i * properties->size));
	*count = devices;
	return 0;
}

static int calc_open(uint32_t id, const char *options, struct dw_chip_device **result,
		     struct dw_chip_error *error)
{
	struct dw_chip_device *device;
	unsigned long devices;
	int status = read_options(options, &devices, error);

	if (status < 0)
		return status;
	if (id >= devices)
		return fail(error, -ENODEV, "calc has no device %u: there are %lu, from 0", id,
			    devices);
	device = calloc(1, sizeof(*device));
	if (!device)
		return fail(error, -ENOMEM, "calc device %u: no memory", id);
	device->id = id;
	*result = device;
	return 0;
}

static void calc_close(struct dw_chip_device *device)
{
	free(device);
}

static int calc_properties(struct dw_chip_device *device, struct dw_chip_properties *properties,
			   struct dw_chip_error *error)
{
	(void)error;
	describe(device->id, properties);
	return 0;
}

/* One word of the formula. `depth` is how many values lie on the stack. */
static int parse_word(const char *word, struct dw_chip_image *image, int *depth,
		      struct dw_chip_error *error)
{
	int input = word[0] - '0';

	if (image->count == STEPS_MAX)
		return fail(error, -E2BIG, "calc image: more than %d steps", STEPS_MAX);
	if (word[1] == '\0' && input >= 0 && input < INPUTS_MAX) {
		image->steps[image->count++] = input;
		if ((size_t)input >= image->inputs)
			image->inputs = (size_t)input + 1;
		(*depth)++;
		return 0;
	}
	if (word[1] != '\0' || !strchr("+-*", word[0]))
		return fail(error, -ELIBBAD,
			    "calc image: \"%.32s\" is neither an input 0 to %d nor + - *", word,
			    INPUTS_MAX - 1);
	if (*depth < 2)
		return fail(error, -ELIBBAD, "calc image: \"%c\" has %d operands, 2 are wanted",
			    word[0], *depth);
	image->steps[image->count++] = -word[0];
	(*depth)--;
	return 0;
}

/* `spec` is valid during this call only: the fields that are needed later are copied. */
static int calc_load(struct dw_chip_device *device, const struct dw_chip_image_spec *spec,
		     struct dw_chip_image **result, struct dw_chip_error *error)
{
	struct dw_chip_image *image = calloc(1, sizeof(*image));
	char *text = calloc(1, spec->bytes + 1), *save = NULL;
	int depth = 0, status = 0;

	(void)device;
	if (!image || !text) {
		status = fail(error, -ENOMEM, "calc image: no memory");
	} else {
		memcpy(text, spec->data, spec->bytes);
		for (char *word = strtok_r(text, " \n", &save); word && status == 0;
		     word = strtok_r(NULL, " \n", &save))
			status = parse_word(word, image, &depth, error);
		if (status == 0 && depth != 1)
			status = fail(error, -ELIBBAD,
				      "calc image: the formula leaves %d values, 1 is wanted",
				      depth);
	}
	free(text);
	if (status < 0)
		free(image);
	else
		*result = image;
	return status;
}

static void calc_unload(struct dw_chip_device *device, struct dw_chip_image *image)
{
	(void)device;
	free(image);
}

/* The library has checked each tensor; the needs of the formula are checked here. */
static int check_call(const struct dw_chip_call *call, struct dw_chip_error *error)
{
	if (call->tensor_count != call->image->inputs + 1 || call->scalar_count)
		return fail(
			error, -EINVAL,
			"the formula takes %zu input tensors, one for the result and no scalar; "
			"the call has %zu tensors and %zu scalars",
			call->image->inputs, call->tensor_count, call->scalar_count);
	for (size_t i = 0; i < call->tensor_count; i++) {
		if (call->tensors[i].dtype != DW_FLOAT32)
			return fail(error, -ENOTSUP,
				    "tensor %zu has element type %u: calc takes float32 (0)", i,
				    call->tensors[i].dtype);
		if (call->tensor_bytes[i] != call->tensor_bytes[0])
			return fail(
				error, -EINVAL,
				"tensor %zu has %llu bytes, tensor 0 has %llu: the same is wanted",
				i, (unsigned long long)call->tensor_bytes[i],
				(unsigned long long)call->tensor_bytes[0]);
	}
	return 0;
}

static float apply(int operator, float left, float right)
{
	switch (operator) {
	case '+':
		return left + right;
	case '-':
		return left - right;
	default:
		return left * right;
	}
}

static float compute(const struct dw_chip_call *call, size_t element)
{
	const struct dw_chip_image *image = call->image;
	float stack[STEPS_MAX];
	int depth = 0;

	for (int i = 0; i < image->count; i++) {
		int step = image->steps[i];

		if (step >= 0) {
			stack[depth++] =
				((const float *)(uintptr_t)call->tensors[step].data)[element];
		} else {
			stack[depth - 2] = apply(-step, stack[depth - 2], stack[depth - 1]);
			depth--;
		}
	}
	return stack[0];
}

static int calc_run(struct dw_chip_device *device, const struct dw_chip_call *call,
		    struct dw_chip_error *error)
{
	size_t elements = call->tensor_count ? call->tensor_bytes[0] / sizeof(float) : 0;
	float *result;
	int status = check_call(call, error);

	if (status < 0)
		return status;
	result = (float *)(uintptr_t)call->tensors[call->tensor_count - 1].data;
	for (size_t i = 0; i < elements; i++) {
		/* Looking now and then is enough: a deadline ends the process anyway. */
		if (i % 4096 == 0 && *call->cancelled)
			return fail(error, -ECANCELED, "cancelled at element %zu", i);
		result[i] = compute(call, i);
	}
	device->calls++;
	return 0;
}

static int calc_counters(struct dw_chip_device *device, struct dw_chip_counters *counters)
{
	struct dw_chip_counters full = { .size = counters->size, .calls = device->calls };

	if (full.size > sizeof(full))
		memset((char *)counters + sizeof(full), 0, full.size - sizeof(full));
	memcpy(counters, &full, full.size < sizeof(full) ? full.size : sizeof(full));
	return 0;
}

/* Members that are left out are NULL: alloc and copies, submit and collect. */
static const struct dw_chip_driver driver = {
	.size = sizeof(driver),
	.abi_version = DW_CHIP_ABI_VERSION,
	.name = "calc",
	.version = "1",
	.enumerate = calc_enumerate,
	.open = calc_open,
	.close = calc_close,
	.properties = calc_properties,
	.load = calc_load,
	.unload = calc_unload,
	.run = calc_run,
	.counters = calc_counters,
};

DW_CHIP_EXPORT dw_chip_driver_entry dw_chip_driver_v1;
const struct dw_chip_driver *dw_chip_driver_v1(void)
{
	return &driver;
}
