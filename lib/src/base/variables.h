/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The environment variables of the library and of the tool: one row for each. The library's parser
 * (task/environment.h), `distworker info --env` and the manual page distworker-environment(7) are
 * made from these rows. All of it inline: drivers and the tool use it too. Any thread, any lock.
 */
#ifndef DW_BASE_VARIABLES_H
#define DW_BASE_VARIABLES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/*
 * X(NAME, default, type, text): the variable is DW_NAME. A type in small letters is the words that
 * it can be; the others are FILE, COMMAND and FOLDERS (several, with ":" between two).
 */
#define VARIABLES(X)                                                                              \
	X(PROVIDER, "auto", "auto|kernel|futex",                                                  \
	  "How processes wait for each other: over the module, or with futexes. With auto, the "  \
	  "module is used where it is loaded and this user may open /dev/distworker.")            \
	X(LOG, "", "error|warn|info|debug",                                                       \
	  "The library writes messages to stderr, from this level up. Without it, the library "   \
	  "prints nothing.")                                                                      \
	X(TRACE, "", "FILE",                                                                      \
	  "Each tree writes its tasks and processes to this file, for ui.perfetto.dev and for "   \
	  "`distworker trace --read`. A second tree of the process appends a number.")            \
	X(GRAPH, "", "FILE",                                                                      \
	  "Each tree writes the graph of its tasks to this file, for Graphviz. A second tree of " \
	  "the process appends a number.")                                                        \
	X(CHIP_PATH, "", "FOLDERS",                                                               \
	  "Folders with chip drivers, which are searched before the library's own.")              \
	X(CHIP_DEBUG, "", "fill",                                                                 \
	  "With fill, memory of chips whose contents are undefined holds a pattern, so that a "   \
	  "task which reads it is found.")                                                        \
	X(HOST_KEY, "", "FILE",                                                                   \
	  "The key that this host and the hosts of other Workers have in common.")                \
	X(NET, "auto", "auto|tcp|ucx",                                                            \
	  "How tensors travel between hosts. With auto, UCX is used where an RDMA device is "     \
	  "there.")                                                                               \
	X(SSH, "ssh -o BatchMode=yes", "COMMAND",                                                 \
	  "The command that leads to another host; the host and a script follow it.")             \
	X(JOB_PATH, "", "FOLDERS",                                                                \
	  "Folders with jobs of `distworker run`, which are searched before the tool's own.")

enum variable {
#define VARIABLE_NUMBER(name, ...) VARIABLE_##name,
	VARIABLES(VARIABLE_NUMBER)
#undef VARIABLE_NUMBER
	VARIABLE_COUNT,
};

struct variable_row {
	const char *name, *standard, *type, *text;
};

static const struct variable_row variable_rows[VARIABLE_COUNT] = {
#define VARIABLE_ROW(name, standard, type, text) { "DW_" #name, standard, type, text },
	VARIABLES(VARIABLE_ROW)
#undef VARIABLE_ROW
};

/* Its value; NULL: it is not set, it is empty, or the program has more rights than its caller. */
static inline const char *variable_text(enum variable variable)
{
	const char *value = secure_getenv(variable_rows[variable].name);

	return value && *value ? value : NULL;
}

/* Levenshtein's distance of two words of up to 31 characters; UINT_MAX for longer ones. */
static inline unsigned int word_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned int row[32];

	if (la > 31 || lb > 31)
		return UINT_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned int)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned int corner = row[0];

		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned int change = corner + (a[i - 1] != b[j - 1]);
			unsigned int shift = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

			corner = row[j];
			row[j] = change < shift ? change : shift;
		}
	}
	return row[lb];
}

/*
 * Whether `entry`, "NAME=value", begins with DW_ and is no variable. *nearest is then the row with
 * the name most like it, or NULL. Those of the tests (docs/contributing.md) are no mistakes.
 */
static inline bool variable_is_unknown(const char *entry, const struct variable_row **nearest)
{
	static const char *const of_tests[] = { "DW_CACHE", "DW_QEMU", "DW_IN_TARGET",
						"DW_HEADERS", "DW_TEST_SSH", "DW_TEST_SLURM" };
	size_t length = strcspn(entry, "=");
	unsigned int best = 4;
	char name[32];

	if (strncmp(entry, "DW_", 3) != 0)
		return false;
	*nearest = NULL;
	if (length >= sizeof(name))
		return true;
	memcpy(name, entry, length);
	name[length] = '\0';
	for (size_t i = 0; i < sizeof(of_tests) / sizeof(of_tests[0]); i++)
		if (!strcmp(name, of_tests[i]))
			return false;
	for (int i = 0; i < VARIABLE_COUNT; i++) {
		unsigned int away = word_distance(name, variable_rows[i].name);

		if (!away)
			return false;
		if (away < best) {
			best = away;
			*nearest = &variable_rows[i];
		}
	}
	return true;
}

#endif
