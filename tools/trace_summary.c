// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The summary of a trace, for people and as JSON.
 */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include "tool.h"
#include "trace_facts.h"

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
	uint64_t length = facts_path_length(facts);
	size_t shown = facts->path_count < longest ? facts->path_count : longest;

	printf("critical path of %s: %zu tasks, %.3f ms, of which %.3f ms (%.0f %%) they run\n",
	       facts->owner, facts->path_count, ms(length), ms(facts_path_work(facts)),
	       length ? 100 * (double)facts_path_work(facts) / (double)length : 0);
	for (size_t i = 0; i < shown; i++) {
		const struct traced_task *task = facts->path[i];

		printf("  %10.3f ms  ", ms(has_run(task) ? run_time(task) : 0));
		print_task(task);
		printf("\n");
	}
	if (shown < facts->path_count)
		printf("  and %zu before them\n", facts->path_count - shown);
}

void traced_print(const struct traced *traced, const char *owner, size_t longest)
{
	struct facts facts;

	if (!facts_gather(traced, owner, longest, &facts)) {
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
	if (traced->blocked)
		printf("of that in the ring, workers waited for siblings: %.3f ms\n",
		       ms(traced->blocked));
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
				       json_object_new_uint64(run_time(task)));
	}
	return object;
}

void traced_print_json(const struct traced *traced, FILE *out, const char *owner, size_t longest)
{
	struct json_object *root = json_object_new_object(), *stages = json_object_new_object();
	struct json_object *waits = json_object_new_array(), *path = json_object_new_array();
	struct facts facts;

	if (facts_gather(traced, owner, longest, &facts)) {
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
		json_object_object_add(root, "blocked_ns",
				       json_object_new_uint64(traced->blocked));
		json_object_object_add(root, "critical_path_ns",
				       json_object_new_uint64(facts_path_length(&facts)));
		json_object_object_add(root, "critical_path_run_ns",
				       json_object_new_uint64(facts_path_work(&facts)));
	}
	json_object_object_add(root, "stages_ns", stages);
	json_object_object_add(root, "longest_waits", waits);
	json_object_object_add(root, "critical_path", path);
	fprintf(out, "%s\n", json_object_to_json_string_ext(root, JSON_STYLE));
	json_object_put(root);
	facts_release(&facts);
}
