// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker chips: the drivers and devices of this machine, with their properties.
 */
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "drivers.h"
#include "tool.h"

static const struct {
	uint32_t bit;
	const char *name;
} capabilities[] = {
	{ DW_CHIP_CAP_ASYNC, "asynchronous" }, { DW_CHIP_CAP_MEMORY, "own-memory" },
	{ DW_CHIP_CAP_FLOAT64, "float64" }, { DW_CHIP_CAP_HOST_WRITES, "host-memory" },
	{ DW_CHIP_CAP_DEFAULTS, "own-defaults" },
};

#define NAMES_MAX 32

struct request {
	bool json;
	const char *options;
	const char *names[NAMES_MAX];
	size_t name_count;
};

/* ------------------------------------------------------------------- text */

static const char *bytes_text(uint64_t bytes, char text[32])
{
	static const char units[] = "KMGT";
	int unit = -1;

	while (bytes >= 1024 && bytes % 1024 == 0 && unit < 3) {
		bytes /= 1024;
		unit++;
	}
	for (; bytes >= 10240 && unit < 3; unit++)
		bytes /= 1024;
	if (unit < 0)
		snprintf(text, 32, "%llu bytes", (unsigned long long)bytes);
	else
		snprintf(text, 32, "%llu %ciB", (unsigned long long)bytes, units[unit]);
	return text;
}

/* Whether two devices differ in nothing but their name. */
static bool alike(const struct dw_chip_properties *a, const struct dw_chip_properties *b)
{
	return !strcmp(a->description, b->description) && a->capabilities == b->capabilities &&
	       a->cores == b->cores && a->memory_bytes == b->memory_bytes &&
	       a->max_tensors == b->max_tensors && a->max_scalars == b->max_scalars &&
	       a->queue_depth == b->queue_depth && a->default_block_dim == b->default_block_dim &&
	       a->default_aicpu_thread_num == b->default_aicpu_thread_num &&
	       a->max_block_dim == b->max_block_dim &&
	       a->max_aicpu_thread_num == b->max_aicpu_thread_num &&
	       a->max_allocation_bytes == b->max_allocation_bytes;
}

/* A field of dw_config: its default, and the most that the device takes. */
static void print_field(const char *name, uint32_t initial, uint32_t most)
{
	if (initial)
		printf("%s %u", name, initial);
	else
		printf("%s as the driver chooses", name);
	if (most)
		printf(" (1-%u)", most);
}

static void print_limits(const struct dw_chip_properties *device)
{
	if (device->max_tensors)
		printf(", at most %u tensors", device->max_tensors);
	if (device->max_scalars)
		printf("%s %u scalars", device->max_tensors ? " and" : ", at most",
		       device->max_scalars);
	if (device->max_tensors || device->max_scalars)
		printf(" per call");
}

/* Devices first … last, which are alike. */
static void print_devices(const struct dw_chip_properties *device, size_t first, size_t last)
{
	char numbers[48], size[32];

	if (first == last)
		snprintf(numbers, sizeof(numbers), "%zu", first);
	else
		snprintf(numbers, sizeof(numbers), "%zu-%zu", first, last);
	printf("  %-7s %s", numbers, device[first].name);
	if (first != last)
		printf(" to %s", device[last].name);
	printf("\n          %s\n          ", device[first].description);
	if (device[first].cores)
		printf("%u core%s, ", device[first].cores, device[first].cores == 1 ? "" : "s");
	if (device[first].memory_bytes)
		printf("%s of memory, ", bytes_text(device[first].memory_bytes, size));
	printf("%u call%s in flight", device[first].queue_depth ? device[first].queue_depth : 1,
	       device[first].queue_depth > 1 ? "s" : "");
	print_limits(&device[first]);
	for (size_t i = 0; i < COUNT_OF(capabilities); i++)
		if (device[first].capabilities & capabilities[i].bit)
			printf(", %s", capabilities[i].name);
	printf("\n          defaults (limits): ");
	print_field("block_dim", device[first].default_block_dim, device[first].max_block_dim);
	print_field(", aicpu_thread_num", device[first].default_aicpu_thread_num,
		    device[first].max_aicpu_thread_num);
	if (device[first].max_allocation_bytes)
		printf(", an allocation at most %s",
		       bytes_text(device[first].max_allocation_bytes, size));
	printf("\n");
}

static void print_driver(const struct driver *driver)
{
	printf("%s", driver->name);
	if (driver->version[0])
		printf(" %s", driver->version);
	if (!driver->error[0])
		printf(": %zu device%s", driver->devices, driver->devices == 1 ? "" : "s");
	printf("\n");
	if (driver->path[0])
		printf("  %s\n", driver->path);
	if (driver->error[0])
		printf("  cannot be used: %s\n", driver->error);
	for (size_t first = 0, last; first < driver->known; first = last + 1) {
		last = first;
		while (last + 1 < driver->known &&
		       alike(&driver->properties[first], &driver->properties[last + 1]))
			last++;
		print_devices(driver->properties, first, last);
	}
}

/* ------------------------------------------------------------------- JSON */

static void put(struct json_object *object, const char *key, struct json_object *value)
{
	json_object_object_add(object, key, value);
}

/* 0: null, as there is no value. */
static void put_limit(struct json_object *object, const char *key, uint64_t value)
{
	put(object, key, value ? json_object_new_uint64(value) : NULL);
}

static struct json_object *device_json(const struct dw_chip_properties *device, size_t id)
{
	struct json_object *object = json_object_new_object(), *words = json_object_new_array();

	put(object, "id", json_object_new_uint64(id));
	put(object, "name", json_object_new_string(device->name));
	put(object, "description", json_object_new_string(device->description));
	put(object, "cores", json_object_new_uint64(device->cores));
	put(object, "memory_bytes", json_object_new_uint64(device->memory_bytes));
	put(object, "queue_depth", json_object_new_uint64(device->queue_depth ?
							  device->queue_depth : 1));
	put(object, "max_tensors", json_object_new_uint64(device->max_tensors));
	put(object, "max_scalars", json_object_new_uint64(device->max_scalars));
	put_limit(object, "default_block_dim", device->default_block_dim);
	put_limit(object, "default_aicpu_thread_num", device->default_aicpu_thread_num);
	put_limit(object, "max_block_dim", device->max_block_dim);
	put_limit(object, "max_aicpu_thread_num", device->max_aicpu_thread_num);
	put_limit(object, "max_allocation_bytes", device->max_allocation_bytes);
	for (size_t i = 0; i < COUNT_OF(capabilities); i++)
		if (device->capabilities & capabilities[i].bit)
			json_object_array_add(words,
					      json_object_new_string(capabilities[i].name));
	put(object, "capabilities", words);
	return object;
}

static struct json_object *driver_json(const struct driver *driver)
{
	struct json_object *object = json_object_new_object(), *devices = json_object_new_array();

	put(object, "driver", json_object_new_string(driver->name));
	put(object, "path", json_object_new_string(driver->path));
	put(object, "version", json_object_new_string(driver->version));
	for (size_t i = 0; i < driver->known; i++)
		json_object_array_add(devices, device_json(&driver->properties[i], i));
	put(object, "devices", devices);
	if (driver->error[0])
		put(object, "error", json_object_new_string(driver->error));
	return object;
}

/* -------------------------------------------------------------------- verb */

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct request *request = state->input;

	switch (key) {
	case 'j':
		request->json = true;
		return 0;
	case 'o':
		request->options = text;
		return 0;
	case ARGP_KEY_ARG:
		if (request->name_count == NAMES_MAX)
			argp_error(state, "at most %d drivers can be named", NAMES_MAX);
		request->names[request->name_count++] = text;
		return 0;
	case ARGP_KEY_END:
		if (request->options && request->name_count != 1)
			argp_error(state, "--chip-options are of one driver: name it");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int show(const struct request *request, const struct driver *drivers, size_t count)
{
	struct json_object *root = request->json ? json_object_new_array() : NULL;
	int status = TOOL_OK;

	for (size_t i = 0; i < count; i++) {
		if (root)
			json_object_array_add(root, driver_json(&drivers[i]));
		else
			print_driver(&drivers[i]);
		if (drivers[i].error[0] && request->name_count)
			status = tool_fail(TOOL_NO_DRIVER, "%s: %s", drivers[i].name,
					   drivers[i].error);
	}
	if (root)
		fprintf(tool_results(), "%s\n", json_object_to_json_string_ext(root, JSON_STYLE));
	json_object_put(root);
	if (!count)
		status = tool_fail(TOOL_NO_DRIVER, "no chip driver is found; install distworker "
				   "whole, or set DW_CHIP_PATH to the folders where drivers lie");
	return status;
}

static const struct argp_option chips_options[] = {
	{ "json", 'j', NULL, 0, "as one JSON array", 0 },
	{ "chip-options", 'o', "OPTIONS", 0,
	  "\"key=value,...\" of the driver that is named", 0 },
	{ 0 },
};

const struct argp chips_argp = {
	.options = chips_options,
	.parser = parse,
	.args_doc = "[sim|opencl|pto|FILE...]",
	.doc = "List the chip drivers, and their devices with their properties.  "
	       "A DRIVER is a name, or a path with a slash; without one, all that are "
	       "found. Device numbers are those that struct dw_chip_options and hierarchy "
	       "files  take.\vExit status: 0; 2 usage; 8 a DRIVER that was named is not "
	       "there or cannot tell its devices, or there is no driver at all.\n\n"
	       "Examples:\n  distworker chips\n  distworker chips sim --chip-options "
	       "memory=1G,devices=2\n"
	       "  distworker chips opencl --json\n",
};

int verb_chips(int argc, char **argv)
{
	struct request request = { 0 };
	struct driver *drivers;
	size_t count = 0;
	int status, err;

	argp_parse(&chips_argp, argc, argv, 0, NULL, &request);
	status = request.json ? tool_json_only() : TOOL_OK;
	if (status)
		return status;
	if (request.name_count) {
		drivers = calloc(request.name_count, sizeof(*drivers));
		err = drivers ? 0 : -ENOMEM;
		for (; !err && count < request.name_count; count++)
			driver_ask(request.names[count], request.options, &drivers[count]);
	} else {
		err = drivers_find(&drivers, &count);
	}
	status = err ? tool_fail(TOOL_SYSTEM, "chip drivers cannot be listed: %s", strerror(-err)) :
		 show(&request, drivers, count);
	drivers_release(drivers, count);
	return status;
}
