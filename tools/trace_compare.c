// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Two traces side by side: the whole, the stages of a task, and the tasks of each name.
 */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tool.h"
#include "trace_facts.h"

/* The tasks of one name, in each of the two. */
struct same {
	const char *name;
	uint64_t ran[2], run_ns[2];
};

struct comparison {
	const struct traced *traced[2];
	struct facts facts[2];
	struct same *same;
	size_t count;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct same *)a)->name, ((const struct same *)b)->name);
}

static int by_time(const void *a, const void *b)
{
	const struct same *one = a, *other = b;
	uint64_t left = one->run_ns[0] + one->run_ns[1];
	uint64_t right = other->run_ns[0] + other->run_ns[1];

	return left < right ? 1 : left > right ? -1 : by_name(a, b);
}

/* Sorted by name, so that equal ones are neighbours, which are added up; then by time. */
static bool find_same(struct comparison *comparison)
{
	size_t count = 0, kept = 0;
	struct same *same = calloc(comparison->traced[0]->task_count +
				   comparison->traced[1]->task_count, sizeof(*same));

	if (!same)
		return false;
	for (int side = 0; side < 2; side++)
		for (size_t i = 0; i < comparison->traced[side]->task_count; i++) {
			const struct traced_task *task = &comparison->traced[side]->tasks[i];

			if (!has_run(task))
				continue;
			same[count].name = task->name;
			same[count].ran[side] = 1;
			same[count++].run_ns[side] = run_time(task);
		}
	qsort(same, count, sizeof(*same), by_name);
	for (size_t i = 0; i < count; i++) {
		if (!kept || strcmp(same[kept - 1].name, same[i].name) != 0) {
			same[kept++] = same[i];
			continue;
		}
		for (int side = 0; side < 2; side++) {
			same[kept - 1].ran[side] += same[i].ran[side];
			same[kept - 1].run_ns[side] += same[i].run_ns[side];
		}
	}
	qsort(same, kept, sizeof(*same), by_time);
	comparison->same = same;
	comparison->count = kept;
	return true;
}

static double mean_us(uint64_t ns, uint64_t count)
{
	return count ? (double)ns / 1e3 / (double)count : 0;
}

/* -------------------------------------------------------------------- text */

static void print_row(const char *name, double a, double b)
{
	size_t shown = tool_columns(name, 30);

	printf("%.*s%*s %14.3f %14.3f", (int)shown, name, (int)(shown < 30 ? 30 - shown : 0), "", a,
	       b);
	if (a > 0 && b > 0)
		printf(" %+9.1f %%", 100 * (b - a) / a);
	printf("\n");
}

static void print_text(const struct comparison *comparison, size_t longest)
{
	const struct facts *a = &comparison->facts[0], *b = &comparison->facts[1];
	size_t shown = comparison->count < longest ? comparison->count : longest;

	printf("%-30s %14s %14s %11s\n", "", "A", "B", "change");
	printf("%-30s %14zu %14zu\n", "tasks", comparison->traced[0]->task_count,
	       comparison->traced[1]->task_count);
	print_row("whole time, ms", (double)(a->last - a->first) / 1e6,
		  (double)(b->last - b->first) / 1e6);
	print_row("critical path, ms", (double)facts_path_length(a) / 1e6,
		  (double)facts_path_length(b) / 1e6);
	print_row("  of which its tasks run, ms", (double)facts_path_work(a) / 1e6,
		  (double)facts_path_work(b) / 1e6);
	printf("a task, mean us\n");
	for (int i = 0; i < STAGES; i++) {
		char name[32];

		snprintf(name, sizeof(name), "  %s", stage_names[i]);
		print_row(name, mean_us(a->stages[i].total, a->ran),
			  mean_us(b->stages[i].total, b->ran));
	}
	printf("runs, mean us, by name\n");
	for (size_t i = 0; i < shown; i++) {
		const struct same *same = &comparison->same[i];
		char name[64];

		snprintf(name, sizeof(name), "  %.60s", same->name);
		print_row(name, mean_us(same->run_ns[0], same->ran[0]),
			  mean_us(same->run_ns[1], same->ran[1]));
		if (same->ran[0] != same->ran[1])
			printf("    tasks %39" PRIu64 " %14" PRIu64 "\n", same->ran[0],
			       same->ran[1]);
	}
	if (shown < comparison->count)
		printf("  and %zu more names (--longest)\n", comparison->count - shown);
}

/* -------------------------------------------------------------------- JSON */

static void put(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static struct json_object *side_json(const struct traced *traced, const struct facts *facts)
{
	struct json_object *object = json_object_new_object(), *stages = json_object_new_object();

	put(object, "tasks", traced->task_count);
	put(object, "ran", facts->ran);
	put(object, "ns", facts->last - facts->first);
	put(object, "critical_path_ns", facts_path_length(facts));
	put(object, "critical_path_run_ns", facts_path_work(facts));
	for (int i = 0; i < STAGES; i++)
		put(stages, stage_keys[i], facts->stages[i].total);
	json_object_object_add(object, "stages_ns", stages);
	return object;
}

static void print_json(const struct comparison *comparison)
{
	static const char *const sides[] = { "a", "b" };
	struct json_object *root = json_object_new_object(), *names = json_object_new_array();

	for (int side = 0; side < 2; side++)
		json_object_object_add(root, sides[side],
				       side_json(comparison->traced[side],
						 &comparison->facts[side]));
	for (size_t i = 0; i < comparison->count; i++) {
		const struct same *same = &comparison->same[i];
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "name", json_object_new_string(same->name));
		for (int side = 0; side < 2; side++) {
			struct json_object *part = json_object_new_object();

			put(part, "ran", same->ran[side]);
			put(part, "run_ns", same->run_ns[side]);
			json_object_object_add(object, sides[side], part);
		}
		json_object_array_add(names, object);
	}
	json_object_object_add(root, "names", names);
	fprintf(tool_results(), "%s\n", json_object_to_json_string_ext(root, JSON_STYLE));
	json_object_put(root);
}

int traced_compare(const struct traced *a, const struct traced *b, const char *owner,
		   size_t longest, bool json)
{
	struct comparison comparison = { .traced = { a, b } };
	bool good = true;

	for (int side = 0; side < 2; side++)
		good = facts_gather(comparison.traced[side], owner, longest,
				    &comparison.facts[side]) && good;
	good = good && find_same(&comparison);
	if (good && json)
		print_json(&comparison);
	else if (good)
		print_text(&comparison, longest);
	free(comparison.same);
	facts_release(&comparison.facts[0]);
	facts_release(&comparison.facts[1]);
	return good ? TOOL_OK : tool_fail(TOOL_SYSTEM, "no memory for the comparison");
}
