// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker: one program, a table of verbs. A verb gets argv from its own name
 * on, with "distworker VERB" as argv[0], so that its messages name it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <distworker/distworker.h>
#include "base/text.h"
#include "base/variables.h"
#include "tool.h"
#include "verbs.h"

static void usage(FILE *file)
{
	fprintf(file, "Usage: distworker VERB [OPTION...]\n\n");
	for (size_t i = 0; i < verb_count; i++)
		fprintf(file, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
	fprintf(file, "\n"
		"  distworker VERB --help    options of a verb, with an example\n"
		"  distworker --version\n\n"
		"Example: distworker run digits --nodes 2 --chips 2\n");
}

/*
 * Started without 0, 1 or 2: a file that refuses every use, as a closed descriptor does, takes the
 * place, so that no file that is opened later gets it.
 */
static void occupy_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/* Misspelt variables. With DW_LOG=warn or more the library has named them when it was loaded. */
static void check_environment(void)
{
	const char *level = variable_text(VARIABLE_LOG);
	const struct variable_row *nearest;

	if (level && strcmp(level, "error") != 0)
		return;
	for (char **entry = environ; entry && *entry; entry++)
		if (variable_is_unknown(*entry, &nearest))
			tool_fail(TOOL_OK,
				  "the environment variable %.*s is none of distworker's%s%s%s "
				  "(`distworker info --env` lists them)",
				  (int)strcspn(*entry, "="), *entry,
				  nearest ? "; did you mean " : "", nearest ? nearest->name : "",
				  nearest ? "?" : "");
}

int main(int argc, char **argv)
{
	static char name[64];
	const char *names[32], *near;

	occupy_standard_descriptors();
	program_invocation_name = "distworker";
	argp_err_exit_status = TOOL_USAGE;
	if (argc < 2) {
		usage(stderr);
		return TOOL_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return tool_flush(TOOL_OK);
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("distworker %s (library %s)\n", DW_VERSION, dw_version());
		return tool_flush(TOOL_OK);
	}
	for (size_t i = 0; i < verb_count; i++) {
		names[i] = verbs[i].name;
		if (strcmp(argv[1], verbs[i].name))
			continue;
		text_format(name, sizeof(name), "distworker %s", verbs[i].name);
		argv[1] = name;
		program_invocation_name = name;
		check_environment();
		return tool_flush(verbs[i].run(argc - 1, argv + 1));
	}
	near = tool_nearest(argv[1], names, verb_count);
	return tool_fail(TOOL_USAGE,
			 "there is no verb \"%s\"; %s%s%s`distworker --help` lists them", argv[1],
			 near ? "did you mean \"" : "", near ? near : "", near ? "\"? " : "");
}
