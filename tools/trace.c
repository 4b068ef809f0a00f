// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker trace, distworker graph: `run` with DW_TRACE or DW_GRAPH, and a summary of what the
 * file then says.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tool.h"
#include "trace_file.h"

struct wishes {
	const char *output, *read, *owner;
	uint64_t longest;
	bool json;
	int rest;			/* where the words for `run` begin; 0: there are none */
};

/* Runs the job with `variable` set. */
static int run_with(const char *variable, const struct wishes *wishes, int argc, char **argv)
{
	if (setenv(variable, wishes->output, 1))
		return tool_fail(TOOL_SYSTEM, "no memory");
	/* The words of the job follow our name. */
	argv[wishes->rest - 1] = argv[0];
	return verb_run(argc - wishes->rest + 1, argv + wishes->rest - 1);
}

static error_t parse_words(int key, char *text, struct argp_state *state)
{
	struct wishes *wishes = state->input;

	switch (key) {
	case 'o':
		wishes->output = text;
		break;
	case 'r':
		wishes->read = text;
		break;
	case 'w':
		wishes->owner = text;
		break;
	case 'n':
		if (tool_count(text, 1, 1000000, &wishes->longest))
			argp_error(state, "--longest is \"%s\"; it should be a whole number from 1",
				   text);
		break;
	case 'j':
		wishes->json = true;
		break;
	case ARGP_KEY_ARG:
		/* The words that follow are for `run`, options too. */
		wishes->rest = state->next - 1;
		state->next = state->argc;
		break;
	case ARGP_KEY_END:
		if (!wishes->rest && !wishes->read)
			argp_error(
				state,
				"a job is missing (`distworker run --list` tells which there are)");
		if (wishes->rest && wishes->read)
			argp_error(state, "either a job, or --read");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_option trace_options[] = {
	{ "output", 'o', "FILE", 0, "where the trace goes (distworker-trace.json)", 0 },
	{ "read", 'r', "FILE", 0, "run nothing, summarise this trace", 0 },
	{ "worker", 'w', "PATH", 0, "the critical path of this Worker's tasks (the root's)",
	  0 },
	{ "longest", 'n', "N", 0, "how many waits and steps of the path are shown (10)",
	  0 },
	{ "json", 'j', NULL, 0,
	  "the summary as one JSON object; the job's own output goes to stderr", 0 },
	{ 0 },
};

const struct argp trace_argp = {
	.options = trace_options,
	.parser = parse_words,
	.args_doc = "JOB [OPTIONS OF RUN...] [-- JOB OPTIONS...]",
	.doc = "Run a job with DW_TRACE, and tell where its tasks' time went: time by "
	       "state, the longest waits, the critical path. The file is for "
	       "ui.perfetto.dev.\vExit status: that of `distworker run`; 11 there is no "
	       "trace to read.\n\n"
	       "Examples:\n  distworker trace -o digits.json digits --nodes 2 -- --epochs "
	       "2\n"
	       "  distworker trace --read digits.json --worker pod0/node1\n",
};

int verb_trace(int argc, char **argv)
{
	struct wishes wishes = { .output = "distworker-trace.json", .longest = 10 };
	struct traced traced;
	int ran = TOOL_OK, status;

	argp_parse(&trace_argp, argc, argv, ARGP_IN_ORDER, NULL, &wishes);
	if (wishes.json && tool_json_only())
		return TOOL_SYSTEM;
	if (wishes.rest)
		ran = run_with("DW_TRACE", &wishes, argc, argv);
	/* Also of a job that failed there is a trace, if it came so far. */
	if (ran == TOOL_USAGE || ran == TOOL_NO_JOB || ran == TOOL_NO_TREE)
		return ran;
	status = traced_read(wishes.read ? wishes.read : wishes.output, &traced);
	if (status == TOOL_OK && wishes.json)
		traced_print_json(&traced, tool_results(), wishes.owner, wishes.longest);
	else if (status == TOOL_OK)
		traced_print(&traced, wishes.owner, wishes.longest);
	traced_release(&traced);
	return ran ? ran : status;
}

/* ------------------------------------------------------------------- graph */

/* The lines that graph.c writes. */
static int count_graph(const char *path)
{
	static const char *const reasons[] = { "RAW", "WAR", "WAW", "explicit" };
	size_t nodes = 0, edges = 0, by_reason[COUNT_OF(reasons)] = { 0 }, space = 0;
	FILE *file = fopen(path, "r");
	char *line = NULL;

	if (!file)
		return tool_fail(TOOL_NO_TRACE, "%s: %s", path, strerror(errno));
	while (getline(&line, &space, file) > 0) {
		char *arrow = strstr(line, "\" -> \"");

		nodes += !strncmp(line, "subgraph ", 9);
		if (!arrow)
			continue;
		edges++;
		for (size_t i = 0; i < COUNT_OF(reasons); i++)
			by_reason[i] += strstr(arrow, reasons[i]) != NULL;
	}
	free(line);
	fclose(file);
	printf("%s: %zu tasks, %zu dependencies (%zu RAW, %zu WAR, %zu WAW, %zu explicit); "
	       "to draw it: dot -Tsvg -O %s\n",
	       path, nodes, edges, by_reason[0], by_reason[1], by_reason[2], by_reason[3], path);
	return TOOL_OK;
}

static const struct argp_option graph_options[] = {
	{ "output", 'o', "FILE", 0, "where the graph goes (distworker-graph.dot)", 0 },
	{ 0 },
};

const struct argp graph_argp = {
	.options = graph_options,
	.parser = parse_words,
	.args_doc = "JOB [OPTIONS OF RUN...] [-- JOB OPTIONS...]",
	.doc = "Run a job with DW_GRAPH: the graph of its tasks that was inferred from "
	       "their tensors, with the reason for each edge, for Graphviz.\v"
	       "Exit status: that of `distworker run`.\n\n"
	       "Example:\n  distworker graph -o digits.dot digits --nodes 1 -- --epochs "
	       "1\n",
};

int verb_graph(int argc, char **argv)
{
	struct wishes wishes = { .output = "distworker-graph.dot", .longest = 10 };
	int ran, status;

	argp_parse(&graph_argp, argc, argv, ARGP_IN_ORDER, NULL, &wishes);
	ran = run_with("DW_GRAPH", &wishes, argc, argv);
	if (ran == TOOL_USAGE || ran == TOOL_NO_JOB || ran == TOOL_NO_TREE)
		return ran;
	status = count_graph(wishes.output);
	return ran ? ran : status;
}
