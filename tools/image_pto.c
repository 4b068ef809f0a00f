// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker image pto: options, files and directions for dw_pto_image_build().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <distworker/chip.h>
#include "image.h"
#include "tool.h"

#define CORES_MAX 1200		/* the builder says what is too many */
#define ARGUMENTS_MAX 300

struct pto {
	const char *orchestration, *output;
	struct dw_pto_image_options build;
	int32_t signature[ARGUMENTS_MAX];
	struct dw_pto_core cores[CORES_MAX];
	int32_t core_signatures[CORES_MAX][ARGUMENTS_MAX];
	char *core_files[CORES_MAX];
};

enum { KEY_ENTRY = 256, KEY_CONFIG_ENTRY, KEY_SIGNATURE, KEY_CORE };

/* "in,in,out,scalar" */
static size_t read_directions(struct argp_state *state, const char *option, const char *text,
			      int32_t directions[ARGUMENTS_MAX])
{
	static const char *const words[] = { "scalar", "in", "out", "inout" };
	size_t count = 0;

	while (*text) {
		size_t length = strcspn(text, ","), word;

		for (word = 0; word < COUNT_OF(words); word++)
			if (strlen(words[word]) == length && !strncmp(words[word], text, length))
				break;
		if (word == COUNT_OF(words))
			argp_error(state,
				   "%s: \"%.*s\" is no direction; in, out, inout and scalar are",
				   option, (int)length, text);
		if (count == ARGUMENTS_MAX)
			argp_error(state, "%s: more than %d directions", option, ARGUMENTS_MAX);
		directions[count++] = (int32_t)word;
		text += length + (text[length] == ',');
	}
	return count;
}

/* "10:add.o:in,in,out" */
static void read_core(struct argp_state *state, struct pto *pto, char *text)
{
	size_t i = pto->build.core_count;
	char *file = strchr(text, ':'), *directions = file ? strrchr(file + 1, ':') : NULL;
	uint64_t id;

	if (i == CORES_MAX)
		argp_error(state, "--core: more than %d", CORES_MAX);
	if (!file || !directions)
		argp_error(state, "--core %s: ID:FILE:DIRECTIONS is wanted, 10:add.o:in,in,out say",
			   text);
	*file++ = '\0';
	*directions++ = '\0';
	if (tool_count(text, 0, INT32_MAX, &id))
		argp_error(state, "--core %s: the function id is a whole number from 0 on", text);
	pto->core_files[i] = file;
	pto->cores[i] = DW_OPTIONS(dw_pto_core);
	pto->cores[i].function = (int32_t)id;
	pto->cores[i].signature = pto->core_signatures[i];
	pto->cores[i].signature_count =
		(uint32_t)read_directions(state, "--core", directions, pto->core_signatures[i]);
	pto->build.core_count++;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct pto *pto = state->input;

	switch (key) {
	case 'r':
		pto->orchestration = text;
		return 0;
	case 'o':
		pto->output = text;
		return 0;
	case KEY_ENTRY:
		pto->build.entry = text;
		return 0;
	case KEY_CONFIG_ENTRY:
		pto->build.config_entry = text;
		return 0;
	case KEY_SIGNATURE:
		pto->build.signature_count = read_directions(state, "--signature", text,
							     pto->signature);
		return 0;
	case KEY_CORE:
		read_core(state, pto, text);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "image pto takes no argument, \"%s\" is one", text);
		return 0;
	case ARGP_KEY_END:
		if (!pto->orchestration || !pto->output || !pto->build.entry)
			argp_error(state, "%s is missing",
				   !pto->orchestration ? "--orchestration FILE" :
				   !pto->build.entry ? "--entry NAME" : "-o IMAGE");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* 0, or a tool_exit. *data is malloc'ed. */
static int read_file(const char *path, const void **data, size_t *bytes)
{
	FILE *file = fopen(path, "rbe");
	char *all = NULL, *grown;
	size_t got = 0, space = 0, n = 1;

	if (!file)
		return tool_fail(TOOL_SYSTEM, "%s: %s", path, strerror(errno));
	while (n) {
		if (got == space) {
			space = space ? space * 2 : 65536;
			grown = realloc(all, space);
			if (!grown)
				break;
			all = grown;
		}
		n = fread(all + got, 1, space - got, file);
		got += n;
	}
	if (n || ferror(file)) {
		fclose(file);
		free(all);
		return tool_fail(TOOL_SYSTEM, "%s cannot be read: %s", path, strerror(errno));
	}
	fclose(file);
	*data = all;
	*bytes = got;
	return 0;
}

static int write_file(const char *path, const void *data, size_t bytes)
{
	FILE *file = fopen(path, "wbe");
	int error = file ? 0 : errno;

	if (file && fwrite(data, 1, bytes, file) != bytes)
		error = errno;
	if (file && fclose(file) && !error)
		error = errno;
	if (!error)
		return TOOL_OK;
	unlink(path);
	return tool_fail(TOOL_SYSTEM, "%s cannot be written: %s", path, strerror(error));
}

static int make(struct pto *pto)
{
	void *image = NULL;
	size_t bytes;
	int status;

	status = read_file(pto->orchestration, &pto->build.data, &pto->build.bytes);
	for (size_t i = 0; i < pto->build.core_count && !status; i++)
		status = read_file(pto->core_files[i], &pto->cores[i].data, &pto->cores[i].bytes);
	if (!status && dw_pto_image_build(&pto->build, &image, &bytes) < 0)
		status = tool_fail(TOOL_NO_IMAGE, "%s", dw_strerror_last());
	if (!status)
		status = write_file(pto->output, image, bytes);
	if (!status)
		printf("%s: %zu bytes, entry %s, %zu argument%s, %zu core function%s\n",
		       pto->output, bytes, pto->build.entry, pto->build.signature_count,
		       pto->build.signature_count == 1 ? "" : "s", pto->build.core_count,
		       pto->build.core_count == 1 ? "" : "s");
	free(image);
	free((void *)(uintptr_t)pto->build.data);
	for (size_t i = 0; i < pto->build.core_count; i++)
		free((void *)(uintptr_t)pto->cores[i].data);
	return status;
}

static const struct argp_option image_pto_options[] = {
	{ "orchestration", 'r', "FILE", 0,
	  "the orchestration object: a shared object for the chip or its simulator", 0 },
	{ "entry", KEY_ENTRY, "NAME", 0,
	  "its entry, which it exports; up to 63 characters", 0 },
	{ "config-entry", KEY_CONFIG_ENTRY, "NAME", 0,
	  "its configuration entry, where it has one", 0 },
	{ "signature", KEY_SIGNATURE, "DIRECTIONS", 0,
	  "of the whole call, tensors first: in,in,out,scalar", 0 },
	{ "core", KEY_CORE, "ID:FILE:DIRECTIONS", 0,
	  "a function that runs on the cores, ID 0 to 1023 (0 to 31 with a runtime of the "
	  "old interface); may be repeated. An object for the simulator exports "
	  "kernel_entry", 0 },
	{ "output", 'o', "IMAGE", 0, "the image", 0 },
	{ 0 },
};

const struct argp image_pto_argp = {
	.options = image_pto_options,
	.parser = parse,
	.doc = "Make an image for the driver pto from an orchestration object and core "
	       "objects.\vExit status: 0; 2 usage; 7 a file cannot be read or written; 9 "
	       "an object breaks a limit of the image, or lacks an entry.\n\n"
	       "Example:\n  distworker image pto --orchestration orch.so --entry "
	       "orchestrate --signature in,in,out --core 10:add.so:in,in,out -o add.pto\n",
};

int image_pto(int argc, char **argv)
{
	struct pto *pto = calloc(1, sizeof(*pto));
	int status;

	if (!pto)
		return tool_fail(TOOL_SYSTEM, "no memory");
	pto->build = DW_OPTIONS(dw_pto_image_options);
	pto->build.signature = pto->signature;
	pto->build.cores = pto->cores;
	argp_parse(&image_pto_argp, argc, argv, 0, NULL, pto);
	status = make(pto);
	free(pto);
	return status;
}
