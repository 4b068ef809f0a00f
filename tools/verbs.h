/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The table of verbs, with their tables of options: the command line, the completion of three
 * shells and the manual pages are made from it. Constant; any thread.
 */
#ifndef TOOLS_VERBS_H
#define TOOLS_VERBS_H

#include <stdbool.h>
#include <stddef.h>
#include <argp.h>

struct verb {
	const char *name;
	/* argv[0] is "distworker VERB". Returns a tool_exit. NULL: a part of another verb. */
	int (*run)(int argc, char **argv);
	const char *summary;
	const struct argp *argp; /* NULL: the verb has parts */
};

extern const struct verb verbs[];
extern const size_t verb_count;
/* The parts of `image`, by driver. */
extern const struct verb image_parts[];
extern const size_t image_part_count;

/* What stands for an option's argument, or for a verb's arguments. */
enum operand {
	OPERAND_NONE, /* no argument, or one that no list has */
	OPERAND_WORDS, /* "a|b|c" */
	OPERAND_WORDS_OR_FILE, /* "a|b|FILE" */
	OPERAND_FILE,
	OPERAND_JOB,
	OPERAND_PID,
};

/* Of `text`, an option's argument or the first word of args_doc; may be NULL. */
enum operand operand_of(const char *text);
/* The words of "a|b|FILE" without FILE, with blanks between them. */
void operand_words(const char *text, char *words, size_t bytes);
/* Options of `verb` that its command line takes: its own, and those of run for trace and graph. */
bool verb_passes_on(const struct verb *verb);

/* Of the rows of argp's tables. An alias takes the argument of the option before it. */
static inline const char *option_argument(const struct argp_option *option)
{
	while (option->flags & OPTION_ALIAS)
		option--;
	return option->arg;
}

static inline bool option_is_last(const struct argp_option *option)
{
	return !option->name && !option->key && !option->doc;
}

static inline bool option_has_letter(const struct argp_option *option)
{
	return option->key > ' ' && option->key < 127 && !(option->flags & OPTION_ALIAS);
}

#endif
