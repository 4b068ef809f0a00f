// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker manual: the manual pages of section 1 and distworker-environment(7), in mdoc(7), made
 * from the tables of verbs, options and environment variables.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "base/variables.h"
#include "tool.h"
#include "verbs.h"

#define LINE 76

static void print_word(const char *word, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (word[i] == '\\')
			fputs("\\e", stdout);
		else if (word[i] == '-')
			fputs("\\-", stdout);
		else if (word[i] != '`')
			putchar(word[i]);
}

/* Lines of mdoc: a sentence begins one, and none begins like a macro. */
static void print_text(const char *text, size_t bytes)
{
	const char *end = text + bytes;
	size_t column = 0;

	while (text < end) {
		const char *word = text;
		size_t length;

		while (word < end && isspace((unsigned char)*word))
			word++;
		length = 0;
		while (word + length < end && !isspace((unsigned char)word[length]))
			length++;
		if (!length)
			break;
		if (column && column + 1 + length > LINE) {
			putchar('\n');
			column = 0;
		} else if (column) {
			putchar(' ');
		}
		if (!column && (*word == '.' || *word == '\''))
			fputs("\\&", stdout);
		print_word(word, length);
		column += 1 + length;
		text = word + length;
		if (strchr(".?!", word[length - 1]) && length > 1 && word[length - 2] != '.') {
			putchar('\n');
			column = 0;
		}
	}
	if (column)
		putchar('\n');
}

static void print_all(const char *text)
{
	print_text(text, strlen(text));
}

static void print_example(const char *text, size_t bytes)
{
	printf(".Sh EXAMPLES\n");
	while (bytes) {
		size_t length = 0, blanks = 0;

		while (length < bytes && text[length] != '\n')
			length++;
		while (blanks < length && text[blanks] == ' ')
			blanks++;
		if (length > blanks) {
			printf(".Dl ");
			/* Nothing of it is a macro, or punctuation of one. */
			fputs("\\&", stdout);
			print_word(text + blanks, length - blanks);
			putchar('\n');
		}
		if (length < bytes)
			length++;
		text += length;
		bytes -= length;
	}
}

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* The paragraphs that `wanted` says: of argp's text they end with an empty line, or with "\v". */
enum part { PART_TEXT, PART_STATUS, PART_EXAMPLE };

static void each_paragraph(const char *doc, enum part wanted)
{
	bool first = true;

	while (*doc) {
		size_t length = 0;
		enum part part = begins(doc, "Exit status:") ? PART_STATUS :
				 begins(doc, "Example")	     ? PART_EXAMPLE :
							       PART_TEXT;

		while (doc[length] && doc[length] != '\v' && !begins(doc + length, "\n\n"))
			length++;
		if (part != wanted) {
			first = first && part != PART_TEXT;
		} else if (part == PART_TEXT) {
			if (!first)
				printf(".Pp\n");
			print_text(doc, length);
			first = false;
		} else if (part == PART_STATUS) {
			printf(".Sh EXIT STATUS\n");
			print_text(doc + strlen("Exit status:"), length - strlen("Exit status:"));
		} else {
			size_t title = strcspn(doc, "\n");

			print_example(doc + title, length - title);
		}
		doc += length;
		while (*doc == '\v' || *doc == '\n')
			doc++;
	}
}

static void print_option(const struct argp_option *option)
{
	const char *argument = option_argument(option);

	printf(".It ");
	if (option_has_letter(option))
		printf("Fl %c , ", option->key);
	printf("Fl -%s", option->name);
	for (const struct argp_option *alias = option + 1;
	     !option_is_last(alias) && alias->flags & OPTION_ALIAS; alias++)
		printf(" , Fl -%s", alias->name);
	if (argument)
		printf(" Ns = Ns Ar %s", argument);
	putchar('\n');
	print_all(option->doc);
}

static void print_options(const struct argp *argp)
{
	bool in_list = false;

	printf(".Sh OPTIONS\n");
	for (const struct argp_option *option = argp->options; !option_is_last(option); option++) {
		if (!option->name) {
			if (in_list)
				printf(".El\n");
			in_list = false;
			printf(".Ss %.*s\n", (int)strcspn(option->doc, ":"), option->doc);
			continue;
		}
		if (option->flags & OPTION_ALIAS)
			continue;
		if (!in_list)
			printf(".Bl -tag -width Ds\n");
		in_list = true;
		print_option(option);
	}
	if (!in_list)
		printf(".Bl -tag -width Ds\n");
	printf(".It Fl -help\nA list of the options.\n.El\n");
}

static void print_head(const char *name, const char *section, const char *summary)
{
	printf(".\\\" SPDX-License-Identifier: LGPL-2.1-only OR MIT\n"
	       ".\\\" Made by `distworker manual`.\n.Dd %s\n.Dt ",
	       DW_RELEASED);
	for (const char *letter = name; *letter; letter++)
		putchar(toupper((unsigned char)*letter));
	printf(" %s\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s\n", section, name, summary);
}

static void print_synopsis(const char *command, const struct argp *argp)
{
	printf(".Nm distworker %s\n.Op Ar option ...\n", command);
	if (argp->args_doc)
		printf(".Ar \"%s\"\n", argp->args_doc);
}

static void print_parts(void)
{
	printf(".Sh SYNOPSIS\n");
	for (size_t i = 0; i < image_part_count; i++)
		printf(".Nm distworker image %s\n.Op Ar option ...\n%s%s", image_parts[i].name,
		       image_parts[i].argp->args_doc ? ".Ar SOURCE ...\n" : "",
		       i + 1 < image_part_count ? ".Pp\n" : "");
	printf(".Sh DESCRIPTION\nMake an image for a chip driver.\n"
	       "An image of the driver opencl is its source, or SPIR-V, as it is.\n");
	for (size_t i = 0; i < image_part_count; i++) {
		printf(".Ss %s\n", image_parts[i].name);
		each_paragraph(image_parts[i].argp->doc, PART_TEXT);
		printf(".Bl -tag -width Ds\n");
		for (const struct argp_option *option = image_parts[i].argp->options;
		     !option_is_last(option); option++)
			print_option(option);
		printf(".El\n");
	}
	each_paragraph(
		"Exit status: 0; 2 usage; 7 no compiler, no memory, or a file cannot be read or "
		"written; 9 the sources do not compile, or an object breaks a limit of the "
		"image or lacks an entry.",
		PART_STATUS);
	each_paragraph(
		"Example:\n  distworker image sim kernels.c -o kernels.so\n  distworker image pto "
		"--orchestration orch.so --entry run -o run.pto",
		PART_EXAMPLE);
}

static void print_verb(const struct verb *verb)
{
	char name[64];

	text_format(name, sizeof(name), "distworker-%s", verb->name);
	print_head(name, "1", verb->summary);
	if (!verb->argp) {
		print_parts();
	} else {
		printf(".Sh SYNOPSIS\n");
		print_synopsis(verb->name, verb->argp);
		printf(".Sh DESCRIPTION\n");
		each_paragraph(verb->argp->doc, PART_TEXT);
		print_options(verb->argp);
		printf(".Sh ENVIRONMENT\nSee\n.Xr distworker-environment 7 .\n");
		each_paragraph(verb->argp->doc, PART_STATUS);
		each_paragraph(verb->argp->doc, PART_EXAMPLE);
	}
	printf(".Sh SEE ALSO\n.Xr distworker 1%s\n",
	       verb_passes_on(verb) ? " ,\n.Xr distworker-run 1" : "");
}

static void print_overview(void)
{
	print_head("distworker", "1", "hierarchies of workers: run, look at, repair");
	printf(".Sh SYNOPSIS\n.Nm\n.Ar verb\n.Op Ar option ...\n.Nm\n.Fl -help | -version\n"
	       ".Sh DESCRIPTION\nEach verb has a page of its own.\n.Bl -tag -width completion\n");
	for (size_t i = 0; i < verb_count; i++) {
		printf(".It Xr distworker-%s 1\n", verbs[i].name);
		print_all(verbs[i].summary);
	}
	printf(".El\n.Pp\nResults go to standard output; progress and errors go to standard "
	       "error.\n"
	       "With\n.Fl -json\nthe results are one JSON value.\n"
	       ".Sh ENVIRONMENT\nSee\n.Xr distworker-environment 7 .\n"
	       ".Sh EXIT STATUS\n0 is success, and 2 an option, a verb or a value that makes no "
	       "sense.\nThe page of a verb has its others.\n"
	       ".Sh EXAMPLES\n.Dl distworker run digits --nodes 2 --chips 2\n"
	       ".Sh SEE ALSO\n.Xr distworker 4 ,\n.Xr distworker 7 ,\n"
	       ".Xr distworker-environment 7\n");
}

static void print_environment(void)
{
	print_head("distworker-environment", "7", "environment variables of distworker");
	printf(".Sh DESCRIPTION\nThe library\n.Pq libdistworker\nand\n.Xr distworker 1\n"
	       "read these variables.\n"
	       "A program that has more rights than its caller reads none of them; see\n"
	       ".Xr secure_getenv 3 .\nAn empty value is as good as none.\n"
	       ".Bl -tag -width Ds\n");
	for (int i = 0; i < VARIABLE_COUNT; i++) {
		printf(".It Ev %s Ns = Ns Ar %s", variable_rows[i].name, variable_rows[i].type);
		printf("\n");
		print_all(variable_rows[i].text);
		if (variable_rows[i].standard[0])
			printf("The default is\n.Dq %s .\n", variable_rows[i].standard);
	}
	printf(".El\n.Pp\nA variable that begins with DW_ and is none of these is named in the "
	       "log, "
	       "and by\n.Xr distworker 1 ,\nwith the name that is most like it.\n"
	       ".Sh EXAMPLES\n.Dl distworker info --env\n"
	       ".Sh SEE ALSO\n.Xr distworker 1 ,\n.Xr distworker-info 1 ,\n.Xr distworker 7\n");
}

/* -------------------------------------------------------------------- verb */

struct wishes {
	const char *page;
	bool list;
};

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct wishes *wishes = state->input;

	switch (key) {
	case 'l':
		wishes->list = true;
		return 0;
	case ARGP_KEY_ARG:
		if (wishes->page)
			argp_error(state, "one page at a time: %s, or %s?", wishes->page, text);
		wishes->page = text;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option manual_options[] = {
	{ "list", 'l', NULL, 0, "list the pages", 0 },
	{ 0 },
};

const struct argp manual_argp = {
	.options = manual_options,
	.parser = parse,
	.args_doc = "[PAGE]",
	.doc = "Print the manual page of a verb, of the environment, or of distworker itself, for "
	       "man(1). `make install` and the packages install these pages.\v"
	       "PAGE is a verb or \"environment\"; without it, the page of distworker is "
	       "printed.\n\n"
	       "Exit status: 0; 2 usage.\n\nExample:\n  distworker manual run | man -l -\n",
};

int verb_manual(int argc, char **argv)
{
	struct wishes wishes = { .page = NULL };

	argp_parse(&manual_argp, argc, argv, 0, NULL, &wishes);
	if (wishes.list) {
		printf("distworker.1\ndistworker-environment.7\n");
		for (size_t i = 0; i < verb_count; i++)
			printf("distworker-%s.1\n", verbs[i].name);
		return TOOL_OK;
	}
	if (!wishes.page) {
		print_overview();
		return TOOL_OK;
	}
	if (!strcmp(wishes.page, "environment")) {
		print_environment();
		return TOOL_OK;
	}
	for (size_t i = 0; i < verb_count; i++)
		if (!strcmp(wishes.page, verbs[i].name)) {
			print_verb(&verbs[i]);
			return TOOL_OK;
		}
	return tool_fail(TOOL_USAGE,
			 "there is no page \"%s\"; `distworker manual --list` lists them",
			 wishes.page);
}
