// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker completion: completion of the command line for bash, zsh and fish, made from the
 * tables of verbs and options.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "tool.h"
#include "verbs.h"

static const char *const shells[] = { "bash", "zsh", "fish" };

/* `command` is "run" or "image sim"; trace and graph come twice, also with those of run. */
typedef void visit_fn(const char *command, const struct argp *argp);

static void each_command(visit_fn *visit)
{
	char command[64];

	for (size_t i = 0; i < verb_count; i++) {
		if (verbs[i].argp)
			visit(verbs[i].name, verbs[i].argp);
		if (verb_passes_on(&verbs[i]))
			visit(verbs[i].name, verbs[0].argp);
	}
	for (size_t i = 0; i < image_part_count; i++) {
		text_format(command, sizeof(command), "image %s", image_parts[i].name);
		visit(command, image_parts[i].argp);
	}
}

/* Inside of '…'; `also` are characters that get a backslash. */
static void print_quoted(const char *text, const char *also)
{
	for (; *text; text++)
		if (*text == '\'')
			fputs("'\\''", stdout);
		else
			printf("%s%c", strchr(also, *text) ? "\\" : "", *text);
}

/* -------------------------------------------------------------------- bash */

static void bash_options(const char *command, const struct argp *argp)
{
	printf("\t'%s')\n\t\techo '", command);
	for (const struct argp_option *option = argp->options; !option_is_last(option); option++)
		if (option->name)
			printf("--%s ", option->name);
	/* The second visit of a verb must be reached, too. */
	printf("--help --usage' ;;&\n");
}

static void bash_values(const char *command, const struct argp *argp)
{
	for (const struct argp_option *option = argp->options; !option_is_last(option); option++) {
		enum operand operand = operand_of(option_argument(option));
		char words[128] = "NONE";

		if (!option->name || !option_argument(option))
			continue;
		if (operand == OPERAND_FILE)
			strcpy(words, "FILE");
		else if (operand != OPERAND_NONE)
			operand_words(option_argument(option), words, sizeof(words));
		printf("\t'%s --%s'", command, option->name);
		if (option_has_letter(option))
			printf(" | '%s -%c'", command, option->key);
		printf(") echo '%s%s' ;;\n", words,
		       operand == OPERAND_WORDS_OR_FILE ? " FILE" : "");
	}
}

static void bash_arguments(const char *command, const struct argp *argp)
{
	enum operand operand = operand_of(argp->args_doc);
	char words[128] = "";

	if (operand == OPERAND_NONE)
		return;
	if (operand == OPERAND_WORDS || operand == OPERAND_WORDS_OR_FILE)
		operand_words(argp->args_doc, words, sizeof(words));
	printf("\t'%s') echo '%s%s' ;;\n", command, words,
	       operand == OPERAND_JOB	? "JOB FILE" :
	       operand == OPERAND_PID	? "PID" :
	       operand == OPERAND_WORDS ? "" :
					  " FILE");
}

static const char bash_rest[] =
	"# Adds what begins with $1, of the words $2: FILE, JOB and PID stand for a list of them.\n"
	"_distworker_take()\n"
	"{\n"
	"\tlocal word words=$2 found\n\n"
	"\tfor word in $words; do\n"
	"\t\tcase $word in\n"
	"\t\tNONE) continue ;;\n"
	"\t\tFILE) mapfile -t found < <(compgen -f -- \"$1\") ;;\n"
	"\t\tJOB) mapfile -t found < <(compgen -W \"$(\"${COMP_WORDS[0]}\" run --list 2>/dev/null |"
	"\n"
	"\t\t\tcut -d ' ' -f 1)\" -- \"$1\") ;;\n"
	"\t\tPID) mapfile -t found < <(compgen -W \"$(\"${COMP_WORDS[0]}\" list 2>/dev/null |\n"
	"\t\t\tsed -nE 's/^ *([0-9]+) .*/\\1/p')\" -- \"$1\") ;;\n"
	"\t\t*) mapfile -t found < <(compgen -W \"$word\" -- \"$1\") ;;\n"
	"\t\tesac\n"
	"\t\tCOMPREPLY+=(\"${found[@]}\")\n"
	"\tdone\n"
	"}\n\n"
	"_distworker()\n"
	"{\n"
	"\tlocal current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
	"\tlocal verb=${COMP_WORDS[1]} word value\n\n"
	"\tCOMPREPLY=()\n"
	"\tif ((COMP_CWORD == 1)); then\n"
	"\t\t_distworker_take \"$current\" \"$_distworker_verbs --help --version\"\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tif [[ $verb == image ]]; then\n"
	"\t\tif ((COMP_CWORD == 2)); then\n"
	"\t\t\t_distworker_take \"$current\" \"$_distworker_images --help\"\n"
	"\t\t\treturn\n"
	"\t\tfi\n"
	"\t\tverb+=\" ${COMP_WORDS[2]}\"\n"
	"\tfi\n"
	"\t# What stands behind -- belongs to the job.\n"
	"\tfor word in \"${COMP_WORDS[@]:2:COMP_CWORD-2}\"; do\n"
	"\t\tif [[ $word == -- ]]; then\n"
	"\t\t\t_distworker_take \"$current\" FILE\n"
	"\t\t\treturn\n"
	"\t\tfi\n"
	"\tdone\n"
	"\t# \"--option=value\" is three words.\n"
	"\tif [[ $current == = ]]; then\n"
	"\t\tcurrent=''\n"
	"\telif [[ $previous == = ]]; then\n"
	"\t\tprevious=${COMP_WORDS[COMP_CWORD-2]}\n"
	"\tfi\n"
	"\tvalue=$(_distworker_values \"$verb $previous\")\n"
	"\tif [[ -n $value ]]; then\n"
	"\t\t_distworker_take \"$current\" \"$value\"\n"
	"\telif [[ $current == -* ]]; then\n"
	"\t\t_distworker_take \"$current\" \"$(_distworker_options \"$verb\" | tr '\\n' ' ')\"\n"
	"\telse\n"
	"\t\t_distworker_take \"$current\" \"$(_distworker_arguments \"$verb\")\"\n"
	"\tfi\n"
	"}\n\n"
	"complete -o filenames -F _distworker distworker\n";

static void print_bash(void)
{
	printf("# Completion of distworker for bash: `distworker completion bash`.\n\n"
	       "_distworker_verbs='");
	for (size_t i = 0; i < verb_count; i++)
		printf("%s%s", i ? " " : "", verbs[i].name);
	printf("'\n_distworker_images='");
	for (size_t i = 0; i < image_part_count; i++)
		printf("%s%s", i ? " " : "", image_parts[i].name);
	printf("'\n\n_distworker_options()\n{\n\tcase $1 in\n");
	each_command(bash_options);
	printf("\tesac\n}\n\n_distworker_values()\n{\n\tcase $1 in\n");
	each_command(bash_values);
	printf("\tesac\n}\n\n_distworker_arguments()\n{\n\tcase $1 in\n");
	each_command(bash_arguments);
	printf("\tesac\n}\n\n%s", bash_rest);
}

/* --------------------------------------------------------------------- zsh */

static void zsh_operand(const char *text, enum operand operand)
{
	char words[128];

	putchar(':');
	print_quoted(text, ":");
	putchar(':');
	if (operand == OPERAND_WORDS || operand == OPERAND_WORDS_OR_FILE)
		operand_words(text, words, sizeof(words));
	switch (operand) {
	case OPERAND_WORDS:
		printf("(%s)", words);
		break;
	case OPERAND_WORDS_OR_FILE:
		printf("_alternative \"words:word:(%s)\" \"files:file:_files\"", words);
		break;
	case OPERAND_FILE:
		printf("_files");
		break;
	case OPERAND_JOB:
		printf("_distworker_jobs");
		break;
	case OPERAND_PID:
		printf("_distworker_pids");
		break;
	case OPERAND_NONE:
		printf(" ");
		break;
	}
}

static void zsh_options(const char *command, const struct argp *argp)
{
	enum operand operand = operand_of(argp->args_doc);

	(void)command;
	for (const struct argp_option *option = argp->options; !option_is_last(option); option++) {
		const char *argument = option_argument(option);
		const struct argp_option *said = option;

		if (!option->name)
			continue;
		while (said->flags & OPTION_ALIAS)
			said--;
		printf(" \\\n\t\t\t");
		if (option_has_letter(option))
			printf("'(-%c --%s)'{-%c%s,--%s%s}'[", option->key, option->name,
			       option->key, argument ? "+" : "", option->name, argument ? "=" : "");
		else
			printf("'--%s%s[", option->name, argument ? "=" : "");
		print_quoted(said->doc, "[]");
		putchar(']');
		if (argument)
			zsh_operand(argument, operand_of(argument));
		putchar('\'');
	}
	if (operand != OPERAND_NONE) {
		printf(" \\\n\t\t\t'%s",
		       operand == OPERAND_JOB || operand == OPERAND_PID ? "1" : "*");
		zsh_operand(operand == OPERAND_PID ? "PID" :
			    operand == OPERAND_JOB ? "JOB" :
						     argp->args_doc,
			    operand);
		printf("'");
	}
	if (operand == OPERAND_JOB)
		printf(" \\\n\t\t\t'*:argument:_files'");
}

static void print_zsh(void)
{
	printf("#compdef distworker\n# Completion of distworker for zsh: `distworker completion "
	       "zsh`.\n\n"
	       "_distworker_jobs()\n{\n\tlocal -a found\n"
	       "\tfound=(${(f)\"$(distworker run --list 2>/dev/null | cut -d ' ' -f 1)\"})\n"
	       "\t_alternative 'jobs:job:compadd -a found' 'files:file:_files'\n}\n\n"
	       "_distworker_pids()\n{\n\tlocal -a found\n"
	       "\tfound=(${(f)\"$(distworker list 2>/dev/null |"
	       " sed -nE 's/^ *([0-9]+) .*/\\1/p')\"})\n"
	       "\tcompadd -a found\n}\n\n"
	       "_distworker()\n{\n\tlocal curcontext=$curcontext state line\n\tlocal -a verbs\n\n"
	       "\tverbs=(\n");
	for (size_t i = 0; i < verb_count; i++) {
		printf("\t\t'%s:", verbs[i].name);
		print_quoted(verbs[i].summary, ":");
		printf("'\n");
	}
	printf("\t)\n\t_arguments -C '(- *)'{-h,--help}'[what there is]' "
	       "'(- *)'{-V,--version}'[the version]' '1:verb:->verb' '*::argument:->rest'\n"
	       "\tcase $state in\n\tverb) _describe verb verbs ;;\n\trest)\n"
	       "\t\tcase $words[1] in\n");
	for (size_t i = 0; i < verb_count; i++) {
		if (!verbs[i].argp)
			continue;
		printf("\t\t%s)\n\t\t\t_arguments '--help[its options]'", verbs[i].name);
		zsh_options(verbs[i].name, verbs[i].argp);
		printf(" ;;\n");
	}
	printf("\t\timage)\n\t\t\tif ((CURRENT == 2)); then\n\t\t\t\tcompadd");
	for (size_t i = 0; i < image_part_count; i++)
		printf(" %s", image_parts[i].name);
	printf("\n\t\t\t\treturn\n\t\t\tfi\n\t\t\tshift words\n\t\t\t((CURRENT--))\n"
	       "\t\t\tcase $words[1] in\n");
	for (size_t i = 0; i < image_part_count; i++) {
		printf("\t\t\t%s)\n\t\t\t_arguments '--help[its options]'", image_parts[i].name);
		zsh_options(image_parts[i].name, image_parts[i].argp);
		printf(" ;;\n");
	}
	printf("\t\t\tesac ;;\n\t\tesac ;;\n\tesac\n}\n\n"
	       "if [[ $funcstack[1] == _distworker ]]; then\n\t_distworker \"$@\"\nelse\n"
	       "\tcompdef _distworker distworker\nfi\n");
}

/* -------------------------------------------------------------------- fish */

/* The condition for a command: all of its words stand on the line. */
static void fish_condition(const char *command)
{
	const char *second = strchr(command, ' ');

	printf("complete -c distworker -n '__fish_seen_subcommand_from %.*s%s%s'",
	       (int)(second ? second - command : (long)strlen(command)), command,
	       second ? "; and __fish_seen_subcommand_from" : "", second ? second : "");
}

static void fish_options(const char *command, const struct argp *argp)
{
	enum operand operand = operand_of(argp->args_doc);
	char words[128] = "";

	for (const struct argp_option *option = argp->options; !option_is_last(option); option++) {
		const char *argument = option_argument(option);
		const struct argp_option *said = option;

		if (!option->name)
			continue;
		while (said->flags & OPTION_ALIAS)
			said--;
		fish_condition(command);
		if (option_has_letter(option))
			printf(" -s %c", option->key);
		printf(" -l %s", option->name);
		switch (operand_of(argument)) {
		case OPERAND_WORDS:
		case OPERAND_WORDS_OR_FILE:
			operand_words(argument, words, sizeof(words));
			printf(" %s -a '%s'",
			       operand_of(argument) == OPERAND_WORDS ? "-x" : "-r -F", words);
			break;
		case OPERAND_FILE:
			printf(" -r -F");
			break;
		default:
			printf("%s", argument ? " -x" : "");
		}
		printf(" -d '");
		print_quoted(said->doc, "\\");
		printf("'\n");
	}
	if (operand == OPERAND_NONE)
		return;
	fish_condition(command);
	if (operand == OPERAND_JOB) {
		printf(" -F -a '(distworker run --list 2>/dev/null | string split -f 1 \" \")'\n");
	} else if (operand == OPERAND_PID) {
		printf(" -a '(distworker list 2>/dev/null | string match -r \"^ *\\d+\" | "
		       "string trim)'\n");
	} else if (operand == OPERAND_FILE) {
		printf(" -F\n");
	} else {
		operand_words(argp->args_doc, words, sizeof(words));
		printf("%s -a '%s'\n", operand == OPERAND_WORDS_OR_FILE ? " -F" : "", words);
	}
}

static void print_fish(void)
{
	printf("# Completion of distworker for fish: `distworker completion fish`.\n"
	       "complete -c distworker -f\n");
	for (size_t i = 0; i < verb_count; i++) {
		printf("complete -c distworker -n __fish_use_subcommand -a %s -d '", verbs[i].name);
		print_quoted(verbs[i].summary, "\\");
		printf("'\n");
	}
	for (size_t i = 0; i < image_part_count; i++)
		printf("complete -c distworker -n '__fish_seen_subcommand_from image' -a %s\n",
		       image_parts[i].name);
	each_command(fish_options);
}

/* -------------------------------------------------------------------- verb */

static error_t parse(int key, char *text, struct argp_state *state)
{
	const char **shell = state->input;

	if (key == ARGP_KEY_END && !*shell)
		argp_error(state, "which shell? bash, zsh or fish");
	if (key != ARGP_KEY_ARG)
		return key == ARGP_KEY_END ? 0 : ARGP_ERR_UNKNOWN;
	for (size_t i = 0; i < COUNT_OF(shells) && !*shell; i++)
		if (!strcmp(text, shells[i]))
			*shell = shells[i];
	if (!*shell || strcmp(text, *shell) != 0)
		argp_error(state, "\"%s\": one of bash, zsh and fish is wanted", text);
	return 0;
}

static const struct argp_option completion_options[] = { { 0 } };

const struct argp completion_argp = {
	.options = completion_options,
	.parser = parse,
	.args_doc = "bash|zsh|fish",
	.doc = "Print the completion of this command line for a shell. `make install` and the "
	       "packages install it.\vExit status: 0; 2 usage.\n\nExamples:\n"
	       "  source <(distworker completion bash)\n"
	       "  distworker completion fish | source\n",
};

int verb_completion(int argc, char **argv)
{
	const char *shell = NULL;

	argp_parse(&completion_argp, argc, argv, 0, NULL, &shell);
	if (shell == shells[0])
		print_bash();
	else if (shell == shells[1])
		print_zsh();
	else
		print_fish();
	return TOOL_OK;
}
