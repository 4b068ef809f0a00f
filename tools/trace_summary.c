// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The summary of a trace: where the time of the tasks went, the longest waits, and the
 * critical path: from the task that completed last, back to the producer that it got ready by, and
 * so on.
 */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tool.h"
#include "trace_file.h"

#define STAGES (STAMPS - 1)

static const char *const stage_names[STAGES] = {
	"waits for producers", "waits for a worker", "waits in the ring", "runs",
	"until it is noticed",
};
static const char *const stage_keys[STAGES] = {
	"producers", "worker", "ring", "runs", "noticed",
};

struct stage {
	uint64_t total, most;
};

struct facts {
	size_t ran, states[TRACED_STATES];
	uint64_t first, last;		/* submitted, completed */
	struct stage stages[STAGES];
	const struct traced_task **waits;	/* the longest from ready to started */
	size_t wait_count;
	const struct traced_task **path;	/* critical, from its end */
	size_t path_count;
	const char *owner;
};

static bool has_run(const struct traced_task *task)
{
	return task->worker[0] != '\0';
}

static uint64_t wait_of(const struct traced_task *task)
{
	return task->stamps[STAMP_STARTED] - task->stamps[STAMP_READY];
}

static int by_wait(const void *a, const void *b)
{
	uint64_t one = wait_of(*(const struct traced_task *const *)a);
	uint64_t other = wait_of(*(const struct traced_task *const *)b);

	return one < other ? 1 : one > other ? -1 : 0;
}

static void add_up(const struct traced *traced, struct facts *facts)
{
	facts->first = UINT64_MAX;
	for (size_t i = 0; i < traced->task_count; i++) {
		const struct traced_task *task = &traced->tasks[i];

		facts->states[task->state]++;
		if (task->stamps[STAMP_SUBMITTED] < facts->first)
			facts->first = task->stamps[STAMP_SUBMITTED];
		if (task->stamps[STAMP_COMPLETED] > facts->last)
			facts->last = task->stamps[STAMP_COMPLETED];
		if (!has_run(task))
			continue;
		facts->waits[facts->ran++] = task;
		for (int stage = 0; stage < STAGES; stage++) {
			uint64_t spent = task->stamps[stage + 1] - task->stamps[stage];

			facts->stages[stage].total += spent;
			if (spent > facts->stages[stage].most)
				facts->stages[stage].most = spent;
		}
	}
	qsort(facts->waits, facts->ran, sizeof(*facts->waits), by_wait);
}

/* ----------------------------------------------------------- critical path */

static int by_task(const void *a, const void *b)
{
	const struct traced_task *one = *(const struct traced_task *const *)a;
	const struct traced_task *other = *(const struct traced_task *const *)b;

	if (one->run != other->run)
		return one->run < other->run ? -1 : 1;
	if (one->task != other->task)
		return one->task < other->task ? -1 : 1;
	/* Of several attempts or members the one that ended last. */
	return one->stamps[STAMP_ENDED] < other->stamps[STAMP_ENDED] ? 1 : -1;
}

static int by_consumer(const void *a, const void *b)
{
	const struct traced_edge *one = *(const struct traced_edge *const *)a;
	const struct traced_edge *other = *(const struct traced_edge *const *)b;

	if (one->run != other->run)
		return one->run < other->run ? -1 : 1;
	return one->to < other->to ? -1 : one->to > other->to;
}

/* The first entry that is not less than (run, number). */
static size_t find_task(const struct traced_task **tasks, size_t count, uint64_t run,
			uint64_t number)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (tasks[middle]->run < run ||
		    (tasks[middle]->run == run && tasks[middle]->task < number))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static size_t find_edge(const struct traced_edge **edges, size_t count,
			const struct traced_task *to)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (edges[middle]->run < to->run ||
		    (edges[middle]->run == to->run && edges[middle]->to < to->task))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct owned {
	const struct traced_task **tasks;
	const struct traced_edge **edges;
	size_t task_count, edge_count;
};

static const struct traced_task *last_producer(const struct owned *owned,
					       const struct traced_task *task)
{
	const struct traced_task *last = NULL;

	for (size_t i = find_edge(owned->edges, owned->edge_count, task);
	     i < owned->edge_count && owned->edges[i]->run == task->run &&
	     owned->edges[i]->to == task->task; i++) {
		size_t at = find_task(owned->tasks, owned->task_count, task->run,
				      owned->edges[i]->from);
		const struct traced_task *from = at < owned->task_count ? owned->tasks[at] : NULL;

		if (from && from->run == task->run && from->task == owned->edges[i]->from &&
		    from->task < task->task &&
		    (!last || from->stamps[STAMP_COMPLETED] > last->stamps[STAMP_COMPLETED]))
			last = from;
	}
	return last;
}

/* The root's path has the fewest slashes, which is none. */
static const char *root_of(const struct traced *traced)
{
	for (size_t i = 0; i < traced->task_count; i++)
		if (!strchr(traced->tasks[i].owner, '/'))
			return traced->tasks[i].owner;
	return traced->tasks[0].owner;
}

static bool find_path(const struct traced *traced, struct facts *facts)
{
	struct owned owned = {
		.tasks = calloc(traced->task_count, sizeof(*owned.tasks)),
		.edges = calloc(traced->edge_count + 1, sizeof(*owned.edges)),
	};
	const struct traced_task *at = NULL;

	if (!owned.tasks || !owned.edges) {
		free(owned.tasks);
		free(owned.edges);
		return false;
	}
	for (size_t i = 0; i < traced->task_count; i++) {
		const struct traced_task *task = &traced->tasks[i];

		if (strcmp(task->owner, facts->owner) != 0)
			continue;
		owned.tasks[owned.task_count++] = task;
		if (!at || task->stamps[STAMP_COMPLETED] > at->stamps[STAMP_COMPLETED])
			at = task;
	}
	for (size_t i = 0; i < traced->edge_count; i++)
		if (!strcmp(traced->edges[i].owner, facts->owner))
			owned.edges[owned.edge_count++] = &traced->edges[i];
	qsort(owned.tasks, owned.task_count, sizeof(*owned.tasks), by_task);
	qsort(owned.edges, owned.edge_count, sizeof(*owned.edges), by_consumer);
	for (; at; at = last_producer(&owned, at))
		facts->path[facts->path_count++] = at;
	free(owned.tasks);
	free(owned.edges);
	return true;
}

static bool gather(const struct traced *traced, const char *owner, size_t longest,
		   struct facts *facts)
{
	*facts = (struct facts){
		.waits = calloc(traced->task_count, sizeof(*facts->waits)),
		.path = calloc(traced->task_count, sizeof(*facts->path)),
		.owner = owner ? owner : root_of(traced),
	};
	if (!facts->waits || !facts->path)
		return false;
	add_up(traced, facts);
	facts->wait_count = facts->ran < longest ? facts->ran : longest;
	return find_path(traced, facts);
}

static void facts_release(struct facts *facts)
{
	free(facts->waits);
	free(facts->path);
}

static uint64_t path_work(const struct facts *facts)
{
	uint64_t work = 0;

	for (size_t i = 0; i < facts->path_count; i++)
		if (has_run(facts->path[i]))
			work += facts->path[i]->stamps[STAMP_ENDED] -
				facts->path[i]->stamps[STAMP_STARTED];
	return work;
}

static uint64_t path_length(const struct facts *facts)
{
	if (!facts->path_count)
		return 0;
	return facts->path[0]->stamps[STAMP_COMPLETED] -
	       facts->path[facts->path_count - 1]->stamps[STAMP_SUBMITTED];
}

/* -------------------------------------------------------------------- text */

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void print_task(const struct traced_task *task)
{
	printf("task %" PRIu64 " \"%s\" of %s, run %" PRIu64, task->task, task->name, task->owner,
	       task->run);
	if (has_run(task))
		printf(", on %s", task->worker);
}

static void print_path(const struct facts *facts, size_t longest)
{
	uint64_t length = path_length(facts);
	size_t shown = facts->path_count < longest ? facts->path_count : longest;

	printf("critical path of %s: %zu tasks, %.3f ms, of which %.3f ms (%.0f %%) they run\n",
	       facts->owner, facts->path_count, ms(length), ms(path_work(facts)),
	       length ? 100 * (double)path_work(facts) / (double)length : 0);
	for (size_t i = 0; i < shown; i++) {
		const struct traced_task *task = facts->path[i];

		printf("  %10.3f ms  ", ms(has_run(task) ? task->stamps[STAMP_ENDED] -
					   task->stamps[STAMP_STARTED] : 0));
		print_task(task);
		printf("\n");
	}
	if (shown < facts->path_count)
		printf("  and %zu before them\n", facts->path_count - shown);
}

void traced_print(const struct traced *traced, const char *owner, size_t longest)
{
	struct facts facts;

	if (!gather(traced, owner, longest, &facts)) {
		tool_fail(TOOL_SYSTEM, "no memory for the summary");
		facts_release(&facts);
		return;
	}
	printf("%zu tasks in %.3f ms: %zu done, %zu failed, %zu skipped; %zu dependencies that "
	       "somebody waited for\n",
	       traced->task_count, ms(facts.last - facts.first), facts.states[TRACED_DONE],
	       facts.states[TRACED_FAILED], facts.states[TRACED_SKIPPED], traced->edge_count);
	printf("%-22s %14s %12s %12s\n", "a task", "total ms", "mean us", "most us");
	for (int i = 0; i < STAGES; i++)
		printf("  %-20s %14.3f %12.3f %12.3f\n", stage_names[i], ms(facts.stages[i].total),
		       facts.ran ? (double)facts.stages[i].total / 1e3 / (double)facts.ran : 0,
		       (double)facts.stages[i].most / 1e3);
	printf("longest waits from ready to started:\n");
	for (size_t i = 0; i < facts.wait_count; i++) {
		printf("  %10.3f ms  ", ms(wait_of(facts.waits[i])));
		print_task(facts.waits[i]);
		printf("\n");
	}
	print_path(&facts, longest);
	facts_release(&facts);
}

/* -------------------------------------------------------------------- JSON */

static struct json_object *task_json(const struct traced_task *task)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "owner", json_object_new_string(task->owner));
	json_object_object_add(object, "run", json_object_new_uint64(task->run));
	json_object_object_add(object, "task", json_object_new_uint64(task->task));
	json_object_object_add(object, "name", json_object_new_string(task->name));
	json_object_object_add(object, "worker", json_object_new_string(task->worker));
	if (has_run(task)) {
		json_object_object_add(object, "wait_ns", json_object_new_uint64(wait_of(task)));
		json_object_object_add(object, "run_ns",
				       json_object_new_uint64(task->stamps[STAMP_ENDED] -
							      task->stamps[STAMP_STARTED]));
	}
	return object;
}

void traced_print_json(const struct traced *traced, FILE *out, const char *owner, size_t longest)
{
	struct json_object *root = json_object_new_object(), *stages = json_object_new_object();
	struct json_object *waits = json_object_new_array(), *path = json_object_new_array();
	struct facts facts;

	if (gather(traced, owner, longest, &facts)) {
		json_object_object_add(root, "tasks", json_object_new_uint64(traced->task_count));
		json_object_object_add(root, "ns",
				       json_object_new_uint64(facts.last - facts.first));
		json_object_object_add(root, "done",
				       json_object_new_uint64(facts.states[TRACED_DONE]));
		json_object_object_add(root, "failed",
				       json_object_new_uint64(facts.states[TRACED_FAILED]));
		json_object_object_add(root, "skipped",
				       json_object_new_uint64(facts.states[TRACED_SKIPPED]));
		json_object_object_add(root, "edges", json_object_new_uint64(traced->edge_count));
		for (int i = 0; i < STAGES; i++)
			json_object_object_add(stages, stage_keys[i],
					       json_object_new_uint64(facts.stages[i].total));
		for (size_t i = 0; i < facts.wait_count; i++)
			json_object_array_add(waits, task_json(facts.waits[i]));
		for (size_t i = 0; i < facts.path_count; i++)
			json_object_array_add(path, task_json(facts.path[i]));
		json_object_object_add(root, "critical_path_ns",
				       json_object_new_uint64(path_length(&facts)));
		json_object_object_add(root, "critical_path_run_ns",
				       json_object_new_uint64(path_work(&facts)));
	}
	json_object_object_add(root, "stages_ns", stages);
	json_object_object_add(root, "longest_waits", waits);
	json_object_object_add(root, "critical_path", path);
	fprintf(out, "%s\n", json_object_to_json_string_ext(root, JSON_STYLE));
	json_object_put(root);
	facts_release(&facts);
}
