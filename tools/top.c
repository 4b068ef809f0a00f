// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker list, distworker top: the trees of this machine from outside. No process of
 * them is asked or stopped.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "metrics.h"
#include "screen.h"
#include "tool.h"
#include "top_screen.h"
#include "trees.h"

struct looking {
	bool json, once, prometheus, listens;
	uint16_t port;
	int32_t pid;
	double interval, stuck;
	struct json_object *array;
	int status;
};

/* -------------------------------------------------------------------- JSON */

static void put(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static void put_text(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

static double age(uint64_t since)
{
	double now = tool_now();

	return since && now > (double)since / 1e9 ? now - (double)since / 1e9 : 0;
}

static void put_age(struct json_object *object, const char *key, uint64_t since)
{
	json_object_object_add(object, key, json_object_new_double(age(since)));
}

static struct json_object *child_json(const struct dw_tree *tree, uint32_t number)
{
	static const char *const kinds[] = { "sub", "chip", "worker" };
	struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
	struct dw_child_stats stats = { .pid = 0 };
	struct json_object *object = json_object_new_object();

	dw_tree_child(tree, number, &child);
	dw_tree_child_stats(tree, number, &stats, sizeof(stats));
	put_text(object, "path", stats.path);
	put_text(object, "kind", stats.kind < COUNT_OF(kinds) ? kinds[stats.kind] : "?");
	put(object, "pid", (uint64_t)stats.pid);
	put(object, "tid", (uint64_t)child.tid);
	json_object_object_add(object, "alive", json_object_new_boolean(stats.alive != 0));
	json_object_object_add(object, "busy", json_object_new_boolean(child.busy != 0));
	put_age(object, "seconds", child.since_ns);
	put(object, "task", child.task);
	put_text(object, "callable", child.callable);
	put_text(object, "cause", child.cause);
	put(object, "stopped_by_signal", (uint64_t)child.stopped);
	put(object, "queued", child.queued);
	put(object, "done", stats.tasks_done);
	put(object, "failed", stats.tasks_failed);
	put(object, "busy_ns", stats.busy_ns);
	put(object, "cpu_ns", stats.cpu_ns);
	put(object, "wakes", stats.wakes);
	put(object, "sleeps", stats.sleeps);
	put(object, "spins_won", child.spins_won);
	put(object, "spins_lost", child.spins_lost);
	if (stats.kind == DW_CHILD_CHIP) {
		put(object, "memory_used", stats.memory_used);
		put(object, "memory_bytes", stats.memory_bytes);
	}
	if (stats.kind == DW_CHILD_CHIP || stats.copied_in || stats.copied_out) {
		put(object, "copied_in", stats.copied_in);
		put(object, "copied_out", stats.copied_out);
		put(object, "saved", stats.saved);
	}
	if (stats.host[0]) {
		put_text(object, "host", stats.host);
		put_text(object, "address", stats.address);
		put(object, "round_trip_ns", stats.round_trip_ns);
		put(object, "window_used", stats.window_used);
		put(object, "window_bytes", stats.window_bytes);
	}
	return object;
}

static struct json_object *worker_json(const struct dw_tree *tree, uint32_t number)
{
	static const char *const blocked[] = { "", "window", "heap" };
	struct dw_tree_worker worker = DW_OPTIONS(dw_tree_worker);
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	struct json_object *object = json_object_new_object(), *children = json_object_new_array();

	dw_tree_worker(tree, number, &worker);
	dw_tree_worker_stats(tree, number, &engine);
	put_text(object, "path", worker.path);
	put(object, "level", worker.level);
	put(object, "pid", (uint64_t)worker.pid);
	json_object_object_add(object, "up", json_object_new_boolean(worker.up != 0));
	put(object, "runs", worker.runs);
	put(object, "submitted", engine.submitted);
	put(object, "done", engine.done);
	put(object, "failed", engine.failed);
	put(object, "skipped", engine.skipped);
	put(object, "retried", engine.retried);
	put(object, "deaths", engine.deaths);
	put(object, "restarts", engine.restarts);
	put(object, "heap_used", engine.heap_used);
	put(object, "heap_peak", engine.heap_peak);
	put(object, "heap_bytes", worker.heap_bytes);
	put_text(object, "blocked",
		 worker.blocked < COUNT_OF(blocked) ? blocked[worker.blocked] : "?");
	if (worker.blocked)
		put_age(object, "blocked_seconds", worker.blocked_since_ns);
	for (uint32_t i = 0; i < worker.child_count; i++)
		json_object_array_add(children, child_json(tree, worker.first_child + i));
	json_object_object_add(object, "children", children);
	return object;
}

/* Other hosts that Workers of the tree are on. */
static uint32_t count_hosts(const struct dw_tree *tree, uint32_t children)
{
	struct dw_child_stats *stats = calloc(children ? children : 1, sizeof(*stats));
	uint32_t hosts = 0;

	for (uint32_t i = 0; stats && i < children; i++) {
		struct dw_child_stats *child = &stats[hosts];
		bool known = false;

		if (dw_tree_child_stats(tree, i, child, sizeof(*child)) || !child->host[0])
			continue;
		for (uint32_t k = 0; k < hosts; k++)
			known = known || !strcmp(stats[k].host, child->host);
		hosts += !known;
	}
	free(stats);
	return hosts;
}

static struct json_object *tree_json(const struct dw_tree *tree, bool all)
{
	struct json_object *object = json_object_new_object(), *workers = json_object_new_array();
	struct dw_tree_info info = DW_OPTIONS(dw_tree_info);
	char command[32];

	dw_tree_info(tree, &info);
	trees_command(info.pid, command, sizeof(command));
	put(object, "pid", (uint64_t)info.pid);
	put_text(object, "command", command);
	put_age(object, "seconds", info.started_ns);
	put(object, "worker_count", info.worker_count);
	put(object, "child_count", info.child_count);
	put(object, "host_count", count_hosts(tree, info.child_count));
	for (uint32_t i = 0; all && i < info.worker_count; i++)
		json_object_array_add(workers, worker_json(tree, i));
	if (all)
		json_object_object_add(object, "workers", workers);
	else
		json_object_put(workers);
	return object;
}

/* -------------------------------------------------------------------- list */

static int list_one(const struct dw_tree *tree, void *context)
{
	struct dw_tree_worker root = DW_OPTIONS(dw_tree_worker);
	struct dw_tree_info info = DW_OPTIONS(dw_tree_info);
	struct looking *looking = context;
	char command[32];

	if (looking->json) {
		json_object_array_add(looking->array, tree_json(tree, false));
		return 0;
	}
	dw_tree_info(tree, &info);
	dw_tree_worker(tree, 0, &root);
	trees_command(info.pid, command, sizeof(command));
	printf("%8d  %-16s %-24s L%u  %7u %8u %5u %10.0f  %s\n", info.pid, command, root.path,
	       root.level, info.worker_count, info.child_count,
	       count_hosts(tree, info.child_count), age(info.started_ns),
	       !root.up	 ? "not up" :
	       root.runs ? "runs" :
			   "idle");
	return 0;
}

static error_t parse_list(int key, char *text, struct argp_state *state)
{
	struct looking *looking = state->input;

	if (key == 'j')
		looking->json = true;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "list takes no argument, \"%s\" is one", text);
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static void print_array(struct looking *looking)
{
	fprintf(tool_results(), "%s\n", json_object_to_json_string_ext(looking->array, JSON_STYLE));
	json_object_put(looking->array);
	looking->array = NULL;
}

static const struct argp_option list_options[] = {
	{ "json", 'j', NULL, 0, "as one JSON array", 0 },
	{ 0 },
};

const struct argp list_argp = {
	.options = list_options,
	.parser = parse_list,
	.doc = "List the trees on this machine that this user may see.\v"
	       "Exit status: 0, also when there is none; 2 usage.\n\nExample:\n  "
	       "distworker list\n",
};

int verb_list(int argc, char **argv)
{
	struct looking looking = { 0 };
	unsigned int found;
	int result;

	argp_parse(&list_argp, argc, argv, 0, NULL, &looking);
	if (looking.json)
		looking.array = json_object_new_array();
	else
		printf("%8s  %-16s %-24s %s  %7s %8s %5s %10s  %s\n", "PID", "COMMAND", "ROOT",
		       "LV", "WORKERS", "CHILDREN", "HOSTS", "SECONDS", "STATE");
	result = trees_each(0, list_one, &looking, &found);
	if (looking.json)
		print_array(&looking);
	if (result < 0)
		return tool_fail(TOOL_SYSTEM, "/proc cannot be read: %s", strerror(-result));
	return TOOL_OK;
}

/* --------------------------------------------------------------------- top */

static int top_one(const struct dw_tree *tree, void *context)
{
	struct dw_tree_info info = DW_OPTIONS(dw_tree_info);
	struct looking *looking = context;
	uint64_t stuck = (uint64_t)(looking->stuck * 1e9);
	char command[32], *text;
	size_t bytes = 0;

	if (looking->json) {
		json_object_array_add(looking->array, tree_json(tree, true));
		return 0;
	}
	dw_tree_info(tree, &info);
	trees_command(info.pid, command, sizeof(command));
	dw_tree_report(tree, stuck, NULL, &bytes);
	/* It may say more the next time. */
	bytes += 4096;
	text = malloc(bytes);
	if (!text) {
		looking->status = tool_fail(TOOL_SYSTEM, "no memory");
		return 1;
	}
	dw_tree_report(tree, stuck, text, &bytes);
	printf("%s: %s\n", command, text);
	free(text);
	return 0;
}

static int top_once(struct looking *looking)
{
	unsigned int found;
	int result;

	if (looking->json)
		looking->array = json_object_new_array();
	result = trees_each(looking->pid, top_one, looking, &found);
	if (looking->json)
		print_array(looking);
	if (looking->status)
		return looking->status;
	if (result < 0)
		return tool_fail(TOOL_NOT_SEEN, "%s", dw_strerror_last());
	if (!found)
		return tool_fail(TOOL_NOT_SEEN, "there is no tree that this user may see");
	return TOOL_OK;
}

static error_t parse_top(int key, char *text, struct argp_state *state)
{
	struct looking *looking = state->input;
	uint64_t pid = 0;

	switch (key) {
	case 'j':
		looking->json = true;
		break;
	case '1':
		looking->once = true;
		break;
	case 'p':
		looking->prometheus = true;
		break;
	case 'l':
		if (tool_count(text, 0, UINT16_MAX, &pid))
			argp_error(state, "--listen is \"%s\"; it should be a port, 0 to 65535",
				   text);
		looking->listens = true;
		looking->port = (uint16_t)pid;
		break;
	case ARGP_KEY_END:
		if (looking->listens && !looking->prometheus)
			argp_error(state, "--listen is for --prometheus");
		if (looking->prometheus && looking->json)
			argp_error(state, "either --json, or --prometheus");
		break;
	case 'i':
		if (tool_seconds(text, &looking->interval) || looking->interval < 0.1)
			argp_error(state, "--interval is \"%s\"; it should be 0.1 seconds or more",
				   text);
		break;
	case 's':
		if (tool_seconds(text, &looking->stuck) || looking->stuck < 0.001)
			argp_error(state, "--stuck is \"%s\"; it should be 0.001 seconds or more",
				   text);
		break;
	case ARGP_KEY_ARG:
		if (looking->pid || tool_count(text, 1, INT32_MAX, &pid))
			argp_error(state, "\"%s\": one process id is wanted", text);
		looking->pid = (int32_t)pid;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_option top_options[] = {
	{ "once", '1', NULL, 0,
	  "one report and the end (the default where stdout is no terminal)", 0 },
	{ "interval", 'i', "SECONDS", 0, "between two pictures on a terminal (2)", 0 },
	{ "stuck", 's', "SECONDS", 0,
	  "a task that takes longer than this counts as stuck (10)", 0 },
	{ "json", 'j', NULL, 0, "one report as a JSON array, a tree each", 0 },
	{ "prometheus", 'p', NULL, 0, "the counters in Prometheus' text format", 0 },
	{ "listen", 'l', "PORT", 0,
	  "with --prometheus: answer scrapers at 127.0.0.1:PORT until killed; 0: any free port",
	  0 },
	{ 0 },
};

const struct argp top_argp = {
	.options = top_options,
	.parser = parse_top,
	.args_doc = "[PID]",
	.doc = "Show what the trees on this machine do: tasks by state, queues, heap, "
	       "wake-ups of every Worker and child, and what is stuck, for how long, and "
	       "on whom it waits. Nobody in a tree is asked or stopped.\vPID is the "
	       "process of a tree's root (`distworker list`); without it all are shown "
	       "that this user may see.\n\nExit status: 0; 2 usage; 10 there is no such "
	       "tree.\n\nOn a terminal it is a screen: arrows move and fold, < and > choose the "
	       "column to sort by, r turns the order around, / keeps rows that have a text, space "
	       "freezes, q quits. NO_COLOR takes the colours away.\n\nExamples:\n"
	       "  distworker top --once --stuck 2\n"
	       "  distworker top --prometheus --listen 9187\n",
};

int verb_top(int argc, char **argv)
{
	struct looking looking = { .interval = 2, .stuck = 10 };

	argp_parse(&top_argp, argc, argv, 0, NULL, &looking);
	if (looking.listens)
		return metrics_serve(looking.pid, looking.port);
	if (looking.prometheus)
		return metrics_print(looking.pid, stdout);
	if (looking.once || looking.json || !screen_possible())
		return top_once(&looking);
	return top_screen(looking.pid, looking.interval, looking.stuck);
}
