/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The driver's options. No state, any thread.
 */
#include "base/variables.h"
#include "internal.h"
#include "present_layout.h"

static const struct pto_generation generations[] = {
	{ "a2a3", 24, 4, 4, false },
	{ "a5", 36, 7, 5, true },
};

struct path {
	const char *key;
	char *value;
};

static int generation_read(const struct kit_option *option, struct pto_options *options,
			   struct dw_chip_error *error)
{
	for (size_t i = 0; i < sizeof(generations) / sizeof(generations[0]); i++)
		if (strcmp(option->value, generations[i].name) == 0) {
			options->generation = &generations[i];
			return 0;
		}
	return kit_fail(error, -EINVAL, "driver option generation=%s: a2a3 or a5 is wanted",
			text_short(option->value));
}

/* The log levels of the present interface. */
static const struct level {
	const char *name;
	int32_t threshold;
} levels[] = {
	{ "debug", PRESENT_LOG_DEBUG }, { "info", PRESENT_LOG_INFO },
	{ "timing", PRESENT_LOG_TIMING }, { "warn", PRESENT_LOG_WARN },
	{ "error", PRESENT_LOG_ERROR }, { "none", PRESENT_LOG_NONE },
};

static bool log_read(const char *name, struct pto_options *options)
{
	for (size_t i = 0; name && i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(name, levels[i].name) == 0) {
			options->log = levels[i].threshold;
			return true;
		}
	return false;
}

static int option_read(const struct kit_option *option, struct pto_options *options,
		       struct dw_chip_error *error)
{
	const struct path paths[] = {
		{ "host", options->host }, { "aicpu", options->aicpu },
		{ "aicore", options->aicore }, { "sim_context", options->sim_context },
		{ "dispatcher", options->dispatcher }, { "output", options->output },
	};

	if (strcmp(option->key, "devices") == 0)
		return kit_number(option, 1, 65536, &options->devices, error);
	if (strcmp(option->key, "memory") == 0)
		return kit_number(option, 4096, UINT64_MAX, &options->memory, error);
	if (strcmp(option->key, "lost_after") == 0)
		return kit_number(option, 0, UINT32_MAX, &options->lost_after, error);
	if (strcmp(option->key, "generation") == 0)
		return generation_read(option, options, error);
	if (strcmp(option->key, "log") == 0)
		return log_read(option->value, options) ? 0 :
		       kit_fail(error, -EINVAL,
				"driver option log=%s: debug, info, timing, warn, error or none is "
				"wanted",
				text_short(option->value));
	if (strcmp(option->key, "output") == 0 && strlen(option->value) >= PRESENT_OUTPUT_BYTES)
		return kit_fail(error, -EINVAL,
				"driver option output has %zu bytes: at most %d are possible",
				strlen(option->value), PRESENT_OUTPUT_BYTES - 1);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (strcmp(option->key, paths[i].key) == 0) {
			strcpy(paths[i].value, option->value);
			return 0;
		}
	return kit_fail(error, -EINVAL,
			"driver option \"%s\" is unknown to pto: host, aicpu, aicore, "
			"sim_context, dispatcher, generation, memory, lost_after, log, output and "
			"devices are known",
			option->key);
}

int pto_options_read(const char *text, struct pto_options *options, struct dw_chip_error *error)
{
	struct kit_option option;
	int status;

	memset(options, 0, sizeof(*options));
	options->generation = &generations[0];
	options->lost_after = 3;
	options->log = PRESENT_LOG_NONE;
	/*
	 * DW_LOG has the same level names; without it, or with an unknown level, nothing is logged.
	 */
	log_read(variable_text(VARIABLE_LOG), options);
	while ((status = kit_option_next(&text, &option, error)) == 1) {
		status = option_read(&option, options, error);
		if (status < 0)
			return status;
	}
	return status;
}

int pto_options_complete(const struct pto_options *options, struct dw_chip_error *error)
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
