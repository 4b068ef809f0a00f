// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker info: versions, provider, limits, drivers.
 */
#include <inttypes.h>
#include <json-c/json.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <linux/distworker.h>
#include "base/text.h"
#include "base/variables.h"
#include "drivers.h"
#include "tool.h"

struct facts {
	struct utsname kernel;
	struct dw_provider_info provider;
	long cpus;
	int usable_cpus;
	struct rlimit files, processes, memory;
	struct driver *drivers;
	size_t driver_count;
};

static int collect(struct facts *facts)
{
	cpu_set_t set;
	int err;

	*facts = (struct facts){ .provider = DW_OPTIONS(dw_provider_info) };
	uname(&facts->kernel);
	facts->cpus = sysconf(_SC_NPROCESSORS_ONLN);
	facts->usable_cpus = sched_getaffinity(0, sizeof(set), &set) ? 0 : CPU_COUNT(&set);
	getrlimit(RLIMIT_NOFILE, &facts->files);
	getrlimit(RLIMIT_NPROC, &facts->processes);
	getrlimit(RLIMIT_AS, &facts->memory);
	if (dw_provider_query(&facts->provider))
		text_copy(facts->provider.reason, sizeof(facts->provider.reason),
			  dw_strerror_last());
	err = drivers_find(&facts->drivers, &facts->driver_count);
	return err ? tool_fail(TOOL_SYSTEM, "chip drivers cannot be listed: %s", strerror(-err)) :
		     TOOL_OK;
}

/* ------------------------------------------------------------------- text */

static void print_limit(const char *name, rlim_t value)
{
	if (value == RLIM_INFINITY)
		printf("  %-12s unlimited\n", name);
	else
		printf("  %-12s %ju\n", name, (uintmax_t)value);
}

static void print_features(uint64_t features)
{
	static const char *const names[] = { "wake-and-wait", "adaptive-spin", "death", "poll" };

	printf("  %-12s", "features");
	for (size_t i = 0; i < COUNT_OF(names); i++)
		if (features & 1ull << i)
			printf(" %s", names[i]);
	printf(" (0x%" PRIx64 ")\n", features);
}

static void print_text(const struct facts *facts)
{
	printf("distworker %s, library %s\n", DW_VERSION, dw_version());
	printf("provider: %s\n  %s\n", provider_name(facts->provider.provider),
	       facts->provider.reason);
	if (facts->provider.module_abi) {
		printf("  %-12s %u (this program knows %d)\n", "module ABI",
		       facts->provider.module_abi, DISTWORKER_ABI_VERSION);
		print_features(facts->provider.module_features);
	}
	printf("machine: %s %s %s\n", facts->kernel.sysname, facts->kernel.release,
	       facts->kernel.machine);
	printf("  %-12s %ld online, %d usable\n", "CPUs", facts->cpus, facts->usable_cpus);
	printf("limits:\n");
	print_limit("open files", facts->files.rlim_cur);
	print_limit("processes", facts->processes.rlim_cur);
	print_limit("memory", facts->memory.rlim_cur);
	printf("chip drivers:%s\n", facts->driver_count ? "" : " none");
	for (size_t i = 0; i < facts->driver_count; i++) {
		const struct driver *driver = &facts->drivers[i];

		if (!driver->error[0])
			printf("  %-12s %s, %zu device%s, %s\n", driver->name,
			       driver->version[0] ? driver->version : "no version",
			       driver->devices, driver->devices == 1 ? "" : "s", driver->path);
		else
			printf("  %-12s %s%s%s\n", driver->name, driver->path,
			       driver->path[0] ? ": " : "", driver->error);
	}
}

/* ------------------------------------------------------------------- JSON */

static void put_text(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

static void put_count(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static void print_json(const struct facts *facts)
{
	struct json_object *root = json_object_new_object(), *drivers = json_object_new_array();

	put_text(root, "version", DW_VERSION);
	put_text(root, "library_version", dw_version());
	put_text(root, "provider", provider_name(facts->provider.provider));
	put_text(root, "provider_reason", facts->provider.reason);
	put_count(root, "module_abi", facts->provider.module_abi);
	put_count(root, "module_features", facts->provider.module_features);
	put_text(root, "kernel", facts->kernel.release);
	put_text(root, "machine", facts->kernel.machine);
	put_count(root, "cpus_online", (uint64_t)facts->cpus);
	put_count(root, "cpus_usable", (uint64_t)facts->usable_cpus);
	put_count(root, "limit_open_files", facts->files.rlim_cur);
	put_count(root, "limit_processes", facts->processes.rlim_cur);
	put_count(root, "limit_memory", facts->memory.rlim_cur);
	for (size_t i = 0; i < facts->driver_count; i++) {
		struct json_object *driver = json_object_new_object();

		put_text(driver, "name", facts->drivers[i].name);
		put_text(driver, "path", facts->drivers[i].path);
		if (facts->drivers[i].loaded) {
			put_text(driver, "version", facts->drivers[i].version);
			put_count(driver, "devices", facts->drivers[i].devices);
		}
		if (facts->drivers[i].error[0])
			put_text(driver, "error", facts->drivers[i].error);
		json_object_array_add(drivers, driver);
	}
	json_object_object_add(root, "drivers", drivers);
	fprintf(tool_results(), "%s\n", json_object_to_json_string_ext(root, JSON_STYLE));
	json_object_put(root);
}

/* ------------------------------------------------------------- environment */

static void print_environment(bool json)
{
	struct json_object *array = json ? json_object_new_array() : NULL;

	for (int i = 0; i < VARIABLE_COUNT; i++) {
		const struct variable_row *row = &variable_rows[i];
		const char *value = variable_text((enum variable)i);
		struct json_object *object;

		if (!json) {
			printf("%s=%s\n    %s", row->name, value ? value : row->standard,
			       row->type);
			if (row->standard[0])
				printf(" (%s)", row->standard);
			printf("%s\n    %s\n", value ? ", set" : "", row->text);
			continue;
		}
		object = json_object_new_object();
		put_text(object, "name", row->name);
		put_text(object, "type", row->type);
		put_text(object, "default", row->standard);
		json_object_object_add(object, "value",
				       value ? json_object_new_string(value) : NULL);
		put_text(object, "text", row->text);
		json_object_array_add(array, object);
	}
	if (json)
		fprintf(tool_results(), "%s\n", json_object_to_json_string_ext(array, JSON_STYLE));
	json_object_put(array);
}

/* -------------------------------------------------------------------- verb */

struct wishes {
	bool json, environment;
};

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct wishes *wishes = state->input;

	if (key == 'j')
		wishes->json = true;
	else if (key == 'e')
		wishes->environment = true;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "info takes no argument, \"%s\" is one", text);
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static const struct argp_option info_options[] = {
	{ "env", 'e', NULL, 0,
	  "the environment variables of library and tool instead: value, default, meaning", 0 },
	{ "json", 'j', NULL, 0, "as one JSON object, or array", 0 },
	{ 0 },
};

const struct argp info_argp = {
	.options = info_options,
	.parser = parse,
	.doc = "Tell versions, the provider of mailboxes and why, limits, and the chip "
	       "drivers.\vExit status: 0; 2 usage.\n\nExample:\n  distworker info --json\n",
};

int verb_info(int argc, char **argv)
{
	struct facts facts;
	struct wishes wishes = { 0 };
	int status;

	argp_parse(&info_argp, argc, argv, 0, NULL, &wishes);
	status = wishes.json ? tool_json_only() : TOOL_OK;
	if (!status && wishes.environment) {
		print_environment(wishes.json);
		return TOOL_OK;
	}
	if (!status)
		status = collect(&facts);
	if (status)
		return status;
	if (wishes.json)
		print_json(&facts);
	else
		print_text(&facts);
	drivers_release(facts.drivers, facts.driver_count);
	return TOOL_OK;
}
