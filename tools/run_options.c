// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The command line of `distworker run`, by argp.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "run_options.h"
#include "tool.h"

enum key {
	KEY_LEVEL = 'l', KEY_NODES = 'n', KEY_CHIPS = 'c', KEY_SUBS = 's', KEY_DRIVER = 'd',
	KEY_TREE = 't', KEY_MODE = 'm', KEY_PROVIDER = 'p', KEY_JSON = 'j', KEY_QUIET = 'q',
	KEY_CHIP_OPTIONS = 256, KEY_DEPTH, KEY_HEAP, KEY_TASK_TIMEOUT, KEY_TIMEOUT, KEY_CHECK,
	KEY_IDLE, KEY_DRAIN, KEY_PROGRESS, KEY_LIST, KEY_INIT_TIMEOUT, KEY_CLOSE_TIMEOUT,
	KEY_HOSTS, KEY_LISTEN, KEY_KEY, KEY_USER,
};

static const struct argp_option entries[] = {
	{ NULL, 0, NULL, 0, "The hierarchy:", 1 },
	{ "level", KEY_LEVEL, "3|4|5|6", 0,
	  "level of the root: 3 node, 4 pod, 5 supernode, 6 cluster (4)", 1 },
	{ "levels", KEY_LEVEL, NULL, OPTION_ALIAS, NULL, 1 },
	{ "nodes", KEY_NODES, "N[xN...]", 0,
	  "Workers below each Worker, from the top: 2, or 2x3 for two pods of three nodes (2)", 1 },
	{ "chips", KEY_CHIPS, "N", 0, "chips per node (2)", 1 },
	{ "subs", KEY_SUBS, "N", 0, "sub workers of each Worker (2)", 1 },
	{ "driver", KEY_DRIVER, "sim|opencl|pto|FILE", 0,
	  "driver of the chips: a name or a path (sim)", 1 },
	{ "chip-options", KEY_CHIP_OPTIONS, "K=V,...", 0, "options for the driver", 1 },
	{ "tree", KEY_TREE, "FILE", 0, "any other hierarchy, from a JSON file", 1 },
	{ "mode", KEY_MODE, "process|thread", 0, "the form of children (process)", 1 },
	{ "provider", KEY_PROVIDER, "auto|kernel|futex", 0, "of the mailboxes (auto)", 1 },
	{ "depth", KEY_DEPTH, "N", 0, "frames of a mailbox, a power of two", 1 },
	{ "heap", KEY_HEAP, "MIB", 0, "size of each of the 4 heap rings", 1 },
	{ "check-declared", KEY_CHECK, NULL, 0,
	  "fail nested tasks that touch memory which was not declared", 1 },
	{ NULL, 0, NULL, 0, "Other hosts:", 1 },
	{ "hosts", KEY_HOSTS, "HOST,...", 0,
	  "start a node on each through ssh: the L3 Workers are there, in turn", 1 },
	{ "listen", KEY_LISTEN, "ADDRESS[:PORT]", 0,
	  "be a node with the functions of this job, instead of running it", 1 },
	{ "key", KEY_KEY, "FILE", 0, "of a node, and of trees with Workers on others", 1 },
	{ "user", KEY_USER, "NAME", 0, "of a node: serve as this user", 1 },
	{ NULL, 0, NULL, 0, "Time:", 2 },
	{ "timeout", KEY_TIMEOUT, "SECONDS", 0, "the whole run must end by then", 2 },
	{ "task-timeout", KEY_TASK_TIMEOUT, "SECONDS", 0, "a task must end by then, once started",
	  2 },
	{ "init-timeout", KEY_INIT_TIMEOUT, "SECONDS", 0, "the hierarchy must be up by then", 2 },
	{ "close-timeout", KEY_CLOSE_TIMEOUT, "SECONDS", 0,
	  "children that are still busy then are killed", 2 },
	{ "drain", KEY_DRAIN, "SECONDS", 0, "time for running tasks to end after Ctrl-C (10)", 2 },
	{ NULL, 0, NULL, 0, "What is shown:", 3 },
	{ "idle-seconds", KEY_IDLE, "SECONDS", 0, "stay idle after the run, and measure it", 3 },
	{ "progress", KEY_PROGRESS, "auto|bar|lines|none", 0, "the form of progress (auto)", 3 },
	{ "quiet", KEY_QUIET, NULL, 0, "no progress; as --progress none", 3 },
	{ "json", KEY_JSON, NULL, 0, "the summary as one JSON object", 3 },
	{ "list", KEY_LIST, NULL, 0, "list the jobs that there are", 3 },
	{ 0 },
};

static const char documentation[] =
	"Build a hierarchy of Workers, run a job on it, and report what happened."
	"\v"
	"JOB is the name of a job (--list) or the path of a shared object. What stands behind -- "
	"is the job's own; `distworker run JOB -- --help` lists it.\n\n"
	"Ctrl-C cancels the run and waits for the tasks that have started; a second one kills "
	"them.\n\n"
	"Exit status: 0 done, 1 the run failed, 2 usage, 3 no such job, 4 no such hierarchy, 5 the "
	"job rejects its result, 130 cancelled by Ctrl-C, 143 by SIGTERM, 137 killed.\n\n"
	"Example:\n"
	"  distworker run digits --nodes 2 --chips 2 --idle-seconds 10 -- --epochs 20\n";

/* The number of the word, of those that the option's row has. */
static int parse_word(struct argp_state *state, int key, const char *text)
{
	const struct argp_option *row = entries;
	const char *word;
	char list[64];
	size_t used = 0;

	while (row->key != key)
		row++;
	word = row->arg;
	for (int number = 0;; number++) {
		size_t length = strcspn(word, "|");

		if (strlen(text) == length && !strncmp(text, word, length))
			return number;
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%.*s%s", (int)length,
					 word, !word[length] ? "" :
					 strchr(word + length + 1, '|') ? ", " : " or ");
		if (!word[length])
			break;
		word += length + 1;
	}
	argp_error(state, "--%s: \"%s\" is not %s", row->name, text, list);
	return 0;
}

static uint64_t parse_count(struct argp_state *state, const char *option, const char *text,
			    uint64_t least, uint64_t most)
{
	uint64_t value = least;

	if (tool_count(text, least, most, &value))
		argp_error(state, "%s: \"%s\" is not a whole number from %llu to %llu", option,
			   text, (unsigned long long)least, (unsigned long long)most);
	return value;
}

static double parse_seconds(struct argp_state *state, const char *option, const char *text)
{
	double seconds = 0;

	if (tool_seconds(text, &seconds))
		argp_error(state, "%s: \"%s\" is not a number of seconds", option, text);
	return seconds;
}

static uint64_t parse_ns(struct argp_state *state, const char *option, const char *text)
{
	return (uint64_t)(parse_seconds(state, option, text) * 1e9);
}

/* "2" or "2x3" */
static void parse_nodes(struct argp_state *state, const char *text, struct plan_options *plan)
{
	char word[16];
	const char *at = text;

	plan->fanout_count = 0;
	for (;;) {
		size_t length = strcspn(at, "x");
		uint64_t value;

		text_format(word, sizeof(word), "%.*s", (int)(length < 15 ? length : 15), at);
		if (plan->fanout_count == COUNT_OF(plan->fanout) ||
		    tool_count(word, 1, PLAN_CHILDREN_MAX, &value)) {
			argp_error(state,
				   "--nodes: \"%s\" is neither a number nor up to three, as in 2x3",
				   text);
			return;
		}
		plan->fanout[plan->fanout_count++] = (uint32_t)value;
		at += length;
		if (!*at++)
			return;
	}
}

struct parsing {
	struct run_options *options;
	const char *shape;		/* the last option that gave the hierarchy's shape */
};

static int parse_shape(int key, char *text, struct argp_state *state)
{
	struct parsing *parsing = state->input;
	struct plan_options *plan = &parsing->options->plan;

	switch (key) {
	case KEY_LEVEL:
		plan->level = (uint32_t)parse_count(state, "--level", text, DW_LEVEL_NODE,
						    DW_LEVEL_CLUSTER);
		parsing->shape = "--level";
		return 0;
	case KEY_NODES:
		parse_nodes(state, text, plan);
		parsing->shape = "--nodes";
		return 0;
	case KEY_CHIPS:
		plan->chips = (uint32_t)parse_count(state, "--chips", text, 0, PLAN_CHIPS_MAX);
		parsing->shape = "--chips";
		return 0;
	case KEY_SUBS:
		plan->subs = (uint32_t)parse_count(state, "--subs", text, 0, PLAN_CHILDREN_MAX);
		parsing->shape = "--subs";
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int parse_worker(int key, char *text, struct argp_state *state)
{
	struct run_options *options = ((struct parsing *)state->input)->options;
	struct dw_worker_options *worker = &options->plan.worker;

	switch (key) {
	case KEY_DRIVER:
		options->plan.driver = text;
		return 0;
	case KEY_CHIP_OPTIONS:
		options->plan.chip_options = text;
		return 0;
	case KEY_MODE:
		worker->mode = (enum dw_mode)parse_word(state, key, text);
		return 0;
	case KEY_PROVIDER:
		worker->provider = (enum dw_provider)parse_word(state, key, text);
		return 0;
	case KEY_DEPTH:
		worker->mailbox_depth = (uint32_t)parse_count(state, "--depth", text, 2, 32768);
		if (worker->mailbox_depth & (worker->mailbox_depth - 1))
			argp_error(state, "--depth: %s is not a power of two", text);
		return 0;
	case KEY_HEAP:
		worker->heap_ring_bytes = parse_count(state, "--heap", text, 1, 1 << 24) << 20;
		return 0;
	case KEY_CHECK:
		worker->check_declared = 1;
		return 0;
	case KEY_TASK_TIMEOUT:
		worker->timeout_ns = parse_ns(state, "--task-timeout", text);
		return 0;
	case KEY_INIT_TIMEOUT:
		worker->init_timeout_ns = parse_ns(state, "--init-timeout", text);
		return 0;
	case KEY_CLOSE_TIMEOUT:
		worker->close_timeout_ns = parse_ns(state, "--close-timeout", text);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int parse_rest(int key, char *text, struct argp_state *state)
{
	struct parsing *parsing = state->input;
	struct run_options *options = parsing->options;

	switch (key) {
	case KEY_HOSTS:
		options->hosts = text;
		return 0;
	case KEY_LISTEN:
		options->node.listen = text;
		return 0;
	case KEY_KEY:
		options->node.key = text;
		return 0;
	case KEY_USER:
		options->node.user = text;
		return 0;
	case KEY_TREE:
		options->tree = text;
		return 0;
	case KEY_TIMEOUT:
		options->timeout_ns = parse_ns(state, "--timeout", text);
		return 0;
	case KEY_DRAIN:
		options->drain_seconds = parse_seconds(state, "--drain", text);
		return 0;
	case KEY_IDLE:
		options->idle_seconds = parse_seconds(state, "--idle-seconds", text);
		return 0;
	case KEY_PROGRESS:
		options->progress = (enum progress_style)parse_word(state, key, text);
		return 0;
	case KEY_QUIET:
		options->progress = PROGRESS_NONE;
		return 0;
	case KEY_JSON:
		options->json = true;
		return 0;
	case KEY_LIST:
		options->list = true;
		return 0;
	case ARGP_KEY_ARG:
		if (options->job)
			argp_error(state,
				   "one job at a time: %s, or %s? the job's own options stand "
				   "behind --",
				   options->job, text);
		options->job = text;
		return 0;
	case ARGP_KEY_END:
		options->plan.worker.host_key = options->node.listen ? NULL : options->node.key;
		if (!options->job && !options->list)
			argp_error(state, "which job? --list shows them");
		if (options->tree && parsing->shape)
			argp_error(state,
				   "%s and --tree exclude each other: the file gives the shape",
				   parsing->shape);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
	int err = parse_shape(key, text, state);

	if (err == ARGP_ERR_UNKNOWN)
		err = parse_worker(key, text, state);
	return err == ARGP_ERR_UNKNOWN ? parse_rest(key, text, state) : err;
}

const struct argp run_argp = {
	.options = entries, .parser = parse, .args_doc = "JOB [-- JOB-OPTION...]",
	.doc = documentation,
};

/*
 * The job's options are cut off before argp sees them: they may look like ours.
 */
int run_options_parse(int argc, char **argv, struct run_options *options)
{
	struct parsing parsing = { .options = options };
	int own = argc;

	for (int i = 1; i < argc && own == argc; i++)
		if (!strcmp(argv[i], "--"))
			own = i;
	*options = (struct run_options){
		.drain_seconds = 10,
		.node = DW_OPTIONS(dw_node_options),
		.plan = { .level = DW_LEVEL_POD,
			  .fanout = { 2 },
			  .chips = 2,
			  .subs = 2,
			  .driver = "sim",
			  .worker = DW_OPTIONS(dw_worker_options) },
	};
	if (argp_parse(&run_argp, own, argv, 0, NULL, &parsing))
		return TOOL_USAGE;
	options->nodes_by_default = !options->plan.fanout_count && !options->tree;
	if (!options->plan.fanout_count && options->plan.level > DW_LEVEL_NODE)
		options->plan.fanout_count = 1;
	/* The place of "--" becomes the job's argv[0]. */
	options->job_argc = own < argc ? argc - own : 1;
	options->job_argv = own < argc ? argv + own : (char **)&options->job;
	options->job_argv[0] = (char *)options->job;
	return TOOL_OK;
}
