// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker image DRIVER: the table of drivers whose images are made here, and the one for
 * `sim`, which calls the C or the C++ compiler. The image appears whole or not at all.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/text.h"
#include "image.h"
#include "tool.h"

#define WORDS_MAX 256

/* --------------------------------------------------------------------- sim */

struct build {
	const char *compiler, *output;
	char *words[WORDS_MAX];		/* sources and the compiler's own options */
	bool is_source[WORDS_MAX];
	size_t word_count, sources;
	bool is_cxx;			/* a source is C++: its compiler links all */
};

static bool has_cxx_name(const char *path)
{
	static const char *const ends[] = { ".cc", ".cpp", ".cxx", ".c++", ".C" };
	const char *end = strrchr(path, '.');

	for (size_t i = 0; end && i < COUNT_OF(ends); i++)
		if (strcmp(end, ends[i]) == 0)
			return true;
	return false;
}

static bool is_c_name(const char *path)
{
	const char *end = strrchr(path, '.');

	return end && strcmp(end, ".c") == 0;
}

/* $CC or $CXX, whose words are divided by blanks; or the name that every system has. */
static const char *default_compiler(bool is_cxx)
{
	const char *compiler = getenv(is_cxx ? "CXX" : "CC");

	return compiler && compiler[strspn(compiler, " \t")] ? compiler : is_cxx ? "c++" : "cc";
}

static error_t parse_sim(int key, char *text, struct argp_state *state)
{
	struct build *build = state->input;

	switch (key) {
	case 'o':
		build->output = text;
		return 0;
	case 'c':
		build->compiler = text;
		return 0;
	case 'X':
	case ARGP_KEY_ARG:
		if (build->word_count == WORDS_MAX)
			argp_error(state, "at most %d sources and compiler options", WORDS_MAX);
		build->is_source[build->word_count] = key == ARGP_KEY_ARG;
		build->words[build->word_count++] = text;
		build->sources += key == ARGP_KEY_ARG;
		build->is_cxx |= key == ARGP_KEY_ARG && has_cxx_name(text);
		return 0;
	case ARGP_KEY_END:
		if (!build->sources)
			argp_error(state,
				   "no source is named: distworker image sim SOURCE.c -o IMAGE.so");
		if (!build->output)
			argp_error(state, "no output is named: -o IMAGE.so");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* The folder of distworker/sim.h, as "-IFOLDER": of the source tree, or where it is installed. */
static const char *include_option(void)
{
	static const char *const places[] = { "/../lib/include", "/../include" };
	static char option[PATH_MAX + 64];

	for (size_t i = 0; tool_folder() && i < COUNT_OF(places); i++) {
		text_format(option, sizeof(option), "-I%s%s/distworker/sim.h", tool_folder(),
			 places[i]);
		if (access(option + 2, R_OK) == 0) {
			option[strlen(option) - strlen("/distworker/sim.h")] = '\0';
			return option;
		}
	}
	return "-DDISTWORKER_IMAGE";	/* the compiler's own folders may have it */
}

/* Runs the compiler; its complaints go to stderr. Its exit status, or -errno. */
static int compile(const struct build *build, const char *output)
{
	/* No contraction: the bits of a result are those of every other machine. */
	static const char *const options[] = {
		"-shared", "-fPIC", "-O2", "-g", "-ffp-contract=off", "-Wall",
		"-Wl,-Bsymbolic", "-Wl,--build-id", "-Wl,-z,defs",
	};
	/* A word has at least a letter and a blank. */
	size_t count = 0;
	size_t room = strlen(build->compiler) / 2 + (size_t)5 * WORDS_MAX + COUNT_OF(options) + 8;
	const char **argv = calloc(room, sizeof(*argv));
	char *command = strdup(build->compiler), *rest;
	int status;
	pid_t pid;

	if (!argv || !command) {
		free(command);
		free(argv);
		return -ENOMEM;
	}
	for (char *word = strtok_r(command, " \t", &rest); word;
	     word = strtok_r(NULL, " \t", &rest))
		argv[count++] = word;
	for (size_t i = 0; i < COUNT_OF(options); i++)
		argv[count++] = options[i];
	argv[count++] = include_option();
	for (size_t i = 0; i < build->word_count; i++) {
		/* The C++ compiler would take C for its own language. */
		bool is_c = build->is_cxx && build->is_source[i] && is_c_name(build->words[i]);

		if (is_c) {
			argv[count++] = "-x";
			argv[count++] = "c";
		}
		argv[count++] = build->words[i];
		if (is_c) {
			argv[count++] = "-x";
			argv[count++] = "none";
		}
	}
	argv[count++] = "-o";
	argv[count++] = output;
	argv[count++] = "-lm";
	argv[count] = NULL;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(errno == ENOENT ? 127 : 126);
	}
	status = pid < 0 ? -errno : 0;
	free(command);
	free(argv);
	if (status)
		return status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}

static const struct argp_option image_sim_options[] = {
	{ "output", 'o', "IMAGE.so", 0, "the image", 0 },
	{ "compiler", 'c', "COMMAND", 0,
	  "instead of $CC (cc), or $CXX (c++) where a source is C++; may have options: "
	  "\"ccache gcc\"", 0 },
	{ "compiler-option", 'X', "OPTION", 0,
	  "for the compiler, after our own; may be repeated", 0 },
	{ 0 },
};

const struct argp image_sim_argp = {
	.options = image_sim_options,
	.parser = parse_sim,
	.args_doc = "SOURCE...",
	.doc = "Make an image for the driver sim from C and C++ sources that include "
	       "distworker/sim.h, and tell its entries, each of which it has to export. "
	       "Nothing of the library is linked; functions that are not there are an "
	       "error now rather than when the image is loaded.\vExit status: 0; 2 "
	       "usage; 7 there is no compiler, or the image cannot be written; 9 the "
	       "sources do not compile, or an entry is described and not exported.\n\n"
	       "Examples:\n  distworker image sim kernels.c -o kernels.so\n"
	       "  distworker image sim kernels.c -X -O3 -X -march=native -o kernels.so\n",
};

int image_sim(int argc, char **argv)
{
	struct build build = { .compiler = NULL };
	char output[PATH_MAX], entry[256];
	int status;

	argp_parse(&image_sim_argp, argc, argv, 0, NULL, &build);
	if (!build.compiler)
		build.compiler = default_compiler(build.is_cxx);
	if (text_format(output, sizeof(output), "%s.%d", build.output, (int)getpid()) >=
	    (int)sizeof(output))
		return tool_fail(TOOL_USAGE, "the output's path has more than %d characters",
				 PATH_MAX);
	status = compile(&build, output);
	if (status == 127 || status == 126 || status < 0)
		return tool_fail(
			TOOL_SYSTEM,
			"the compiler %s cannot be started%s; name another with --compiler",
			build.compiler, status == 127 ? ": it is not there" : "");
	if (status) {
		unlink(output);
		return tool_fail(TOOL_NO_IMAGE, "%s ended with status %d, and %s is not made",
				 build.compiler, status, build.output);
	}
	if (image_sim_lacks(output, entry, sizeof(entry))) {
		unlink(output);
		return tool_fail(TOOL_NO_IMAGE,
				 "the sources describe the entry \"%s\" and do not export it, and "
				 "%s is not made: define it with the parameters that "
				 "distworker/sim.h has for it, and not static or hidden",
				 entry, build.output);
	}
	if (rename(output, build.output) < 0) {
		status = errno;
		unlink(output);
		return tool_fail(TOOL_SYSTEM, "%s cannot be written: %s", build.output,
				 strerror(status));
	}
	image_sim_entries(build.output);
	return TOOL_OK;
}

/* -------------------------------------------------------------------- verb */

static void usage(FILE *file)
{
	fprintf(file,
		"Usage: distworker image DRIVER ...\n"
		"Make an image for a chip driver.\n\n"
		"  sim SOURCE... -o IMAGE.so           from C and C++ sources, with the compiler\n"
		"  pto --orchestration FILE --entry NAME [--core ...] -o IMAGE\n"
		"                                      from the objects of an Ascend tool chain\n\n"
		"An image of the driver opencl is OpenCL C source, or SPIR-V, as it is.\n\n"
		"  distworker image DRIVER --help      its options, with an example\n\n"
		"Exit status: 0; 2 usage; 7 no compiler, no memory, or a file cannot be read or "
		"written;\n"
		"9 the sources do not compile, or an object breaks a limit of the image or lacks "
		"an entry.\n\n"
		"Example: distworker image sim kernels.c -o kernels.so\n");
}

int verb_image(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*make)(int argc, char **argv);
	} makers[] = { { "sim", image_sim }, { "pto", image_pto } };
	static char name[64];

	if (argc < 2) {
		usage(stderr);
		return TOOL_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-?") || !strcmp(argv[1], "--usage")) {
		usage(stdout);
		return TOOL_OK;
	}
	for (size_t i = 0; i < COUNT_OF(makers); i++) {
		if (strcmp(argv[1], makers[i].name))
			continue;
		text_format(name, sizeof(name), "distworker image %s", makers[i].name);
		argv[1] = name;
		program_invocation_name = name;
		return makers[i].make(argc - 1, argv + 1);
	}
	return tool_fail(TOOL_USAGE,
			 "\"%s\" is no driver whose images are made here; sim and pto are%s",
			 argv[1],
			 !strcmp(argv[1], "opencl") ?
				 " (an image of opencl is its source, as it is)" :
				 "");
}
