/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the verbs of `distworker`: their entry points and their output.
 * Results go to stdout; progress and mistakes to stderr, one sentence each.
 */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <argp.h>
#include "exit.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* For json_object_to_json_string_ext(). */
#define JSON_STYLE (JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | \
		    JSON_C_TO_STRING_NOSLASHESCAPE)

/* Each parses argv[1 …] by itself; argv[0] is "distworker VERB". Returns a tool_exit. */
int verb_run(int argc, char **argv);
int verb_info(int argc, char **argv);
int verb_doctor(int argc, char **argv);
int verb_chips(int argc, char **argv);
int verb_list(int argc, char **argv);
int verb_top(int argc, char **argv);
int verb_trace(int argc, char **argv);
int verb_graph(int argc, char **argv);
int verb_image(int argc, char **argv);
int verb_node(int argc, char **argv);
int verb_completion(int argc, char **argv);
int verb_manual(int argc, char **argv);

/* "distworker VERB: text\n" on stderr. Returns `status`. */
int tool_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The word most like `word`, or NULL when none is near. */
const char *tool_nearest(const char *word, const char *const *words, size_t count);
/* 0, or -EINVAL: `text` is not a whole number from `least` to `most`. */
int tool_count(const char *text, uint64_t least, uint64_t most, uint64_t *value);
/* 0, or -EINVAL: not a number of seconds, 0 or more. */
int tool_seconds(const char *text, double *seconds);
/* "12,345" in `text`; returns it. */
const char *tool_thousands(uint64_t value, char text[32]);
/* "1.25 s", "3.1 ms" or "80 us" in `text`; returns it. */
const char *tool_duration(double seconds, char text[32]);
/* Bytes of the first `most` characters of a text in UTF-8, or of all of it. */
size_t tool_columns(const char *text, size_t most);
/* CLOCK_MONOTONIC in seconds. */
double tool_now(void);
/*
 * --json: stdout is for the results alone. The output of jobs and of vendors' libraries, here or in
 * a child, goes to stderr from now on. Before the first fork; returns a tool_exit.
 */
int tool_json_only(void);
/* Sends all further output of this process to stderr. 0 or -errno. */
int tool_print_to_stderr(void);
/* Where the results go: stdout, also after tool_json_only(). */
FILE *tool_results(void);
/* Whether everything got out; a full disk is not success. */
int tool_flush(int status);
/* Of enum dw_provider; "none" for any other value. */
const char *provider_name(uint32_t provider);
/*
 * The folder of the program, without a slash at its end; NULL: neither /proc nor the path that it
 * was started by tells.
 */
const char *tool_folder(void);
/* Why tool_folder() gave NULL: what /proc/self/exe said. */
const char *tool_folder_error(void);

#endif
