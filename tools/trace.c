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
#include "graph_file.h"
#include "tool.h"
#include "trace_file.h"

struct wishes {
	const char *output, *read, *compare, *owner;
	uint64_t longest, first;
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
	case 'c':
		wishes->compare = text;
		break;
	case 'w':
		wishes->owner = text;
		break;
	case 'n':
		if (tool_count(text, 1, 1000000, &wishes->longest))
			argp_error(state, "--longest is \"%s\"; it should be a whole number from 1",
				   text);
		break;
	case 'f':
		if (tool_count(text, 1, UINT64_MAX, &wishes->first))
			argp_error(state, "--first is \"%s\"; it should be a whole number from 1",
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
		if (wishes->compare && !wishes->read)
			argp_error(state, "--compare is for --read");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_option trace_options[] = {
	{ "output", 'o', "FILE", 0, "where the trace goes (distworker-trace.json)", 0 },
	{ "read", 'r', "FILE", 0, "run nothing, summarise this trace", 0 },
	{ "compare", 'c', "FILE", 0, "with --read: this trace beside it", 0 },
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
	       "  distworker trace --read digits.json --worker pod0/node1\n"
	       "  distworker trace --read before.json --compare after.json\n",
};

static int compare(const struct wishes *wishes, const struct traced *traced)
{
	struct traced other;
	int status = traced_read(wishes->compare, &other);

	if (status == TOOL_OK)
		status = traced_compare(traced, &other, wishes->owner, wishes->longest,
					wishes->json);
	traced_release(&other);
	return status;
}

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
	if (status == TOOL_OK && wishes.compare)
		status = compare(&wishes, &traced);
	else if (status == TOOL_OK && wishes.json)
		traced_print_json(&traced, tool_results(), wishes.owner, wishes.longest);
	else if (status == TOOL_OK)
		traced_print(&traced, wishes.owner, wishes.longest);
	traced_release(&traced);
	return ran ? ran : status;
}

/* ------------------------------------------------------------------- graph */

static const struct argp_option graph_options[] = {
	{ "output", 'o', "FILE", 0, "where the graph goes (distworker-graph.dot)", 0 },
	{ "read", 'r', "FILE", 0, "run nothing, take this graph, and change it", 0 },
	{ "worker", 'w', "PATH", 0, "keep the tasks of this Worker alone", 0 },
	{ "first", 'f', "N", 0, "keep the first N tasks of each run alone", 0 },
	{ 0 },
};

const struct argp graph_argp = {
	.options = graph_options,
	.parser = parse_words,
	.args_doc = "JOB [OPTIONS OF RUN...] [-- JOB OPTIONS...]",
	.doc = "Run a job with DW_GRAPH: the graph of its tasks that was inferred from "
	       "their tensors, with the reason for each edge, for Graphviz.\v"
	       "Exit status: that of `distworker run`; 11 there is no graph, or no such Worker in "
	       "it.\n\n"
	       "Examples:\n  distworker graph -o digits.dot digits --nodes 1 -- --epochs "
	       "1\n  distworker graph --read digits.dot --worker pod0/node0 --first 40\n",
};

int verb_graph(int argc, char **argv)
{
	struct wishes wishes = { .output = "distworker-graph.dot", .longest = 10 };
	int ran = TOOL_OK, status = TOOL_OK;

	argp_parse(&graph_argp, argc, argv, ARGP_IN_ORDER, NULL, &wishes);
	if (wishes.read)
		wishes.output = wishes.read;
	else
		ran = run_with("DW_GRAPH", &wishes, argc, argv);
	if (ran == TOOL_USAGE || ran == TOOL_NO_JOB || ran == TOOL_NO_TREE)
		return ran;
	if (wishes.owner || wishes.first)
		status = graph_file_cut(wishes.output, wishes.owner, wishes.first);
	if (status == TOOL_OK)
		status = graph_file_count(wishes.output);
	return ran ? ran : status;
}
