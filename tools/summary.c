// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The summary of a run.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "summary.h"
#include "tool.h"

#define ROWS_MAX 24
#define ERRORS_SHOWN 8
#define MIB 1048576.0

/* A worker's kind of place: L2 is chips, L0 subs, else nested Workers. */
static const char *level_title(uint32_t level)
{
	static const char *const titles[] = {
		"subs", "L1", "chips (L2)", "nodes (L3)", "pods (L4)", "supernodes (L5)",
	};

	return level < COUNT_OF(titles) ? titles[level] : "L6";
}

static const char *level_key(uint32_t level)
{
	static const char *const keys[] = { "sub", "L1", "L2", "L3", "L4", "L5" };

	return level < COUNT_OF(keys) ? keys[level] : "L6";
}

/* The counters of all Workers, also in other processes; false: the tree cannot be read. */
static bool read_tree(struct summary *summary)
{
	struct dw_tree_info info = DW_OPTIONS(dw_tree_info);

	if (!summary->tree && dw_tree_open(getpid(), 0, &summary->tree)) {
		summary->tree = NULL;
		return false;
	}
	if (dw_tree_info(summary->tree, &info))
		return false;
	summary->tasks = (struct task_counts){ 0 };
	summary->ended = 0;
	for (uint32_t i = 0; i < info.worker_count; i++) {
		struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);

		if (dw_tree_worker_stats(summary->tree, i, &engine))
			return false;
		summary->tasks.done += engine.done;
		summary->tasks.failed += engine.failed;
		summary->tasks.skipped += engine.skipped;
		summary->tasks.retried += engine.retried;
	}
	for (uint32_t i = 0; i < info.child_count; i++) {
		struct dw_tree_child child = DW_OPTIONS(dw_tree_child);

		if (dw_tree_child(summary->tree, i, &child))
			return false;
		summary->ended += child.ended;
	}
	return true;
}

/* Without a view of the tree: the root's tasks, and those of the rest that have run. */
static void count_children(struct summary *summary)
{
	const struct dw_engine_stats *engine = &summary->engine;

	summary->tasks = (struct task_counts){
		.skipped = engine->skipped, .retried = engine->retried,
	};
	for (size_t i = 0; i < summary->child_count; i++) {
		summary->tasks.done += summary->children[i].tasks_done;
		summary->tasks.failed += summary->children[i].tasks_failed;
	}
	summary->ended = summary->tasks.done + summary->tasks.failed;
}

int summary_collect(struct summary *summary, struct dw_worker *root)
{
	size_t count = 0;
	int err;

	summary->engine = DW_OPTIONS(dw_engine_stats);
	err = dw_worker_engine_stats(root, &summary->engine);
	if (!err)
		err = dw_worker_stats(root, NULL, sizeof(struct dw_child_stats), &count);
	if (err)
		return err;
	free(summary->children);
	summary->child_count = 0;
	summary->children = calloc(count ? count : 1, sizeof(*summary->children));
	if (!summary->children)
		return -ENOMEM;
	summary->child_count = count;
	err = dw_worker_stats(root, summary->children, sizeof(*summary->children),
			      &summary->child_count);
	/* The tree may have grown: the children that did not fit are not shown. */
	if (summary->child_count > count)
		summary->child_count = count;
	if (err)
		summary->child_count = 0;
	summary->ran = !err;
	if (!err && !read_tree(summary))
		count_children(summary);
	return err;
}

void summary_keep_errors(struct summary *summary)
{
	uint32_t kept = 0;

	if (dw_run_error_count(NULL, &summary->error_count, &kept) || !kept)
		return;
	summary->errors = calloc(kept, sizeof(*summary->errors));
	for (uint32_t i = 0; summary->errors && i < kept; i++) {
		summary->errors[i] = DW_OPTIONS(dw_run_error);
		if (dw_run_error(NULL, i, &summary->errors[i]))
			break;
		summary->errors_kept++;
	}
}

void summary_release(struct summary *summary)
{
	free(summary->children);
	summary->children = NULL;
	summary->child_count = 0;
	for (size_t i = 0; i < summary->result_count; i++) {
		free(summary->results[i].key);
		free(summary->results[i].text);
	}
	free(summary->results);
	summary->results = NULL;
	summary->result_count = 0;
	free(summary->errors);
	summary->errors = NULL;
	summary->errors_kept = 0;
	dw_tree_close(summary->tree);
	summary->tree = NULL;
}

struct totals {
	uint64_t tasks, done[8], failed[8], wakes, sleeps;
	uint32_t workers[8], dead;
	uint64_t copied_in, copied_out, saved;
};

static void add_up(const struct summary *summary, struct totals *totals)
{
	*totals = (struct totals){ 0 };
	for (size_t i = 0; i < summary->child_count; i++) {
		const struct dw_child_stats *child = &summary->children[i];
		uint32_t level = child->level < 7 ? child->level : 7;

		totals->workers[level]++;
		totals->done[level] += child->tasks_done;
		totals->failed[level] += child->tasks_failed;
		totals->wakes += child->wakes;
		totals->sleeps += child->sleeps;
		totals->dead += !child->alive;
		totals->copied_in += child->copied_in;
		totals->copied_out += child->copied_out;
		totals->saved += child->saved;
	}
	totals->tasks = summary->tasks.done + summary->tasks.failed + summary->tasks.skipped;
}

/* -------------------------------------------------------------------- text */

static const char *outcome(int status)
{
	switch (status) {
	case TOOL_OK: return "done";
	case TOOL_REJECTED: return "done, and rejected by the job itself";
	case TOOL_INTERRUPTED:
	case TOOL_TERMINATED: return "cancelled";
	case TOOL_KILLED: return "killed";
	default: return "failed";
	}
}

/* `copies`: some were made to chips, or saved. */
static void text_workers(const struct summary *summary, bool copies, FILE *out)
{
	size_t rows = summary->child_count < ROWS_MAX ? summary->child_count : ROWS_MAX;
	int width = 6;

	for (size_t i = 0; i < rows; i++)
		if ((int)strlen(summary->children[i].path) > width)
			width = (int)strlen(summary->children[i].path);
	if (!rows)
		return;
	fprintf(out, "  %-*s %5s %10s %7s %7s %8s %9s %9s", width, "worker", "level", "tasks",
		"failed", "busy %", "CPU s", "wakes", "sleeps");
	if (copies)
		fprintf(out, " %9s %9s %9s", "MiB in", "MiB out", "saved");
	fprintf(out, "\n");
	for (size_t i = 0; i < rows; i++) {
		const struct dw_child_stats *child = &summary->children[i];

		fprintf(out, "  %-*s %5s %10llu %7llu %7.1f %8.2f %9llu %9llu", width,
			child->path, level_key(child->level), (unsigned long long)child->tasks_done,
			(unsigned long long)child->tasks_failed,
			summary->seconds > 0 ?
			(double)child->busy_ns * 1e-7 / summary->seconds : 0.0,
			(double)child->cpu_ns * 1e-9, (unsigned long long)child->wakes,
			(unsigned long long)child->sleeps);
		if (copies && child->kind != DW_CHILD_SUB)
			fprintf(out, " %9.1f %9.1f %9.1f", (double)child->copied_in / MIB,
				(double)child->copied_out / MIB, (double)child->saved / MIB);
		if (child->host[0])
			fprintf(out, "  on %s, %.3f ms away", child->host,
				(double)child->round_trip_ns * 1e-6);
		fprintf(out, "%s\n", child->alive ? "" : "  dead");
	}
	if (rows < summary->child_count)
		fprintf(out, "  … and %zu more (--json has them all)\n",
			summary->child_count - rows);
}

/* The first one is told on stderr. */
static void text_errors(const struct summary *summary, FILE *out)
{
	uint32_t shown = summary->errors_kept < ERRORS_SHOWN ? summary->errors_kept : ERRORS_SHOWN;

	for (uint32_t i = 1; i < shown; i++)
		fprintf(out, "  %-14s %s\n", i == 1 ? "further errors" : "",
			summary->errors[i].text);
	if (shown && summary->error_count > shown)
		fprintf(out, "  %-14s … and %llu more%s\n", "",
			(unsigned long long)(summary->error_count - shown),
			summary->errors_kept > shown ? " (--json has more of them)" : "");
}

static void text_levels(const struct totals *totals, FILE *out)
{
	char count[32];

	for (uint32_t level = 8; level-- > 0;)
		if (totals->workers[level])
			fprintf(out, "    %-18s %12s  on %u\n", level_title(level),
				tool_thousands(totals->done[level] + totals->failed[level], count),
				totals->workers[level]);
}

static void text_idle(const struct summary *summary, FILE *out)
{
	const struct tree_change *idle = &summary->idle;

	fprintf(out,
		"  %-14s %llu context switches, %.2f %% CPU in %.1f s (%u processes, %u threads)\n",
		"idle", (unsigned long long)idle->voluntary + idle->involuntary,
		(double)idle->cpu_ns * 1e-7 / summary->idle_seconds, summary->idle_seconds,
		idle->processes, idle->threads);
	if (idle->busiest)
		fprintf(out, "  %-14s thread %d switched most\n", "", idle->busiest);
}

void summary_text(const struct summary *summary, FILE *out)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct totals totals;
	char count[32], rate[32], duration[32];
	bool copies;

	fprintf(out, "%s: %s\n", summary->job, outcome(summary->status));
	fprintf(out, "  %-14s %s\n", "hierarchy", summary->hierarchy);
	for (size_t i = 0; i < summary->result_count; i++)
		fprintf(out, "  %-14s %s\n", summary->results[i].key, summary->results[i].text);
	if (!summary->ran)
		return;
	add_up(summary, &totals);
	fprintf(out, "  %-14s %s provider, up in %.0f ms\n", "mailboxes",
		provider_name(summary->engine.provider), summary->init_seconds * 1e3);
	fprintf(out, "  %-14s %s in %s: %s tasks/s", "tasks",
		tool_thousands(totals.tasks, count), tool_duration(summary->seconds, duration),
		tool_thousands(summary->seconds > 0 ?
				       (uint64_t)((double)totals.tasks / summary->seconds) :
				       0,
			       rate));
	if (summary->tasks.failed)
		fprintf(out, ", %s failed", tool_thousands(summary->tasks.failed, count));
	if (summary->tasks.skipped)
		fprintf(out, ", %s skipped", tool_thousands(summary->tasks.skipped, count));
	if (summary->tasks.retried)
		fprintf(out, ", %s retried", tool_thousands(summary->tasks.retried, count));
	fprintf(out, "\n");
	text_errors(summary, out);
	text_levels(&totals, out);
	fprintf(out, "  %-14s %s paid for children, %.3f per task; children slept %s times, the "
		"root %llu\n",
		"wake-ups", tool_thousands(totals.wakes, count),
		totals.tasks ? (double)totals.wakes / (double)totals.tasks : 0.0,
		tool_thousands(totals.sleeps, rate),
		(unsigned long long)summary->engine.parent_sleeps);
	fprintf(out, "  %-14s %.2f s, %.0f %% of %ld CPU%s; %s context switches (%u processes, "
		"%u threads)\n",
		"CPU", (double)summary->busy.cpu_ns * 1e-9, summary->seconds > 0 && cpus > 0 ?
		(double)summary->busy.cpu_ns * 1e-7 / summary->seconds / (double)cpus : 0.0, cpus,
		cpus == 1 ? "" : "s",
		tool_thousands(summary->busy.voluntary + summary->busy.involuntary, count),
		summary->busy.processes, summary->busy.threads);
	copies = totals.copied_in || totals.copied_out || totals.saved;
	if (copies)
		fprintf(out, "  %-14s %.1f MiB to chips, %.1f MiB back; %.1f MiB saved\n", "copies",
			(double)totals.copied_in / MIB, (double)totals.copied_out / MIB,
			(double)totals.saved / MIB);
	if (summary->engine.deaths || totals.dead)
		fprintf(out, "  %-14s %u of %zu are dead; of the root's own %llu died, %llu were "
			"replaced\n", "children", totals.dead, summary->child_count,
			(unsigned long long)summary->engine.deaths,
			(unsigned long long)summary->engine.restarts);
	if (summary->idle_seconds > 0)
		text_idle(summary, out);
	if (summary->status == TOOL_OK || summary->status == TOOL_REJECTED)
		text_workers(summary, copies, out);
}

/* -------------------------------------------------------------------- JSON */

static void put_count(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static void put_number(struct json_object *object, const char *key, double value)
{
	json_object_object_add(object, key, json_object_new_double(value));
}

static void put_text(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

static struct json_object *json_child(const struct dw_child_stats *child)
{
	static const char *const kinds[] = { "sub", "chip", "worker" };
	struct json_object *object = json_object_new_object();

	put_text(object, "path", child->path);
	put_text(object, "kind", child->kind < COUNT_OF(kinds) ? kinds[child->kind] : "unknown");
	put_count(object, "level", child->level);
	json_object_object_add(object, "pid", json_object_new_int(child->pid));
	json_object_object_add(object, "alive", json_object_new_boolean((json_bool)child->alive));
	put_count(object, "tasks_done", child->tasks_done);
	put_count(object, "tasks_failed", child->tasks_failed);
	put_count(object, "tasks_skipped", child->tasks_skipped);
	put_number(object, "busy_seconds", (double)child->busy_ns * 1e-9);
	put_number(object, "cpu_seconds", (double)child->cpu_ns * 1e-9);
	put_count(object, "wakes", child->wakes);
	put_count(object, "sleeps", child->sleeps);
	if (child->kind == DW_CHILD_CHIP || child->copied_in || child->copied_out) {
		put_count(object, "copied_in", child->copied_in);
		put_count(object, "copied_out", child->copied_out);
		put_count(object, "saved", child->saved);
	}
	if (child->host[0]) {
		put_text(object, "host", child->host);
		put_text(object, "address", child->address);
		put_count(object, "round_trip_ns", child->round_trip_ns);
		put_count(object, "window_used", child->window_used);
		put_count(object, "window_bytes", child->window_bytes);
	}
	return object;
}

static struct json_object *json_error(const struct dw_run_error *error)
{
	struct json_object *object = json_object_new_object();

	put_count(object, "task", error->task);
	json_object_object_add(object, "errno", json_object_new_int(-error->error));
	put_text(object, "name", error->name);
	put_text(object, "callable", error->callable);
	put_text(object, "path", error->path);
	put_text(object, "text", error->text);
	return object;
}

static void json_errors(const struct summary *summary, struct json_object *root)
{
	struct json_object *errors = json_object_new_array();

	for (uint32_t i = 0; i < summary->errors_kept; i++)
		json_object_array_add(errors, json_error(&summary->errors[i]));
	put_count(root, "error_count", summary->error_count);
	json_object_object_add(root, "errors", errors);
}

static struct json_object *json_change(const struct tree_change *change, double seconds)
{
	struct json_object *object = json_object_new_object();

	put_number(object, "seconds", seconds);
	put_count(object, "processes", change->processes);
	put_count(object, "threads", change->threads);
	put_count(object, "voluntary_switches", change->voluntary);
	put_count(object, "involuntary_switches", change->involuntary);
	put_number(object, "cpu_seconds", (double)change->cpu_ns * 1e-9);
	return object;
}

static void json_counters(const struct summary *summary, struct json_object *root)
{
	struct json_object *tasks = json_object_new_object(), *levels = json_object_new_object();
	struct json_object *children = json_object_new_array();
	struct totals totals;

	add_up(summary, &totals);
	put_count(tasks, "total", totals.tasks);
	put_number(tasks, "per_second", summary->seconds > 0 ?
		   (double)totals.tasks / summary->seconds : 0.0);
	put_count(tasks, "done", summary->tasks.done);
	put_count(tasks, "failed", summary->tasks.failed);
	put_count(tasks, "skipped", summary->tasks.skipped);
	put_count(tasks, "retried", summary->tasks.retried);
	for (uint32_t level = 0; level < 8; level++)
		if (totals.workers[level])
			put_count(levels, level_key(level),
				  totals.done[level] + totals.failed[level]);
	json_object_object_add(tasks, "levels", levels);
	json_object_object_add(root, "tasks", tasks);
	put_text(root, "provider", provider_name(summary->engine.provider));
	put_count(root, "wakes", totals.wakes);
	put_count(root, "sleeps", totals.sleeps + summary->engine.parent_sleeps);
	put_count(root, "copied_in", totals.copied_in);
	put_count(root, "copied_out", totals.copied_out);
	put_count(root, "saved", totals.saved);
	put_count(root, "heap_peak_bytes", summary->engine.heap_peak);
	put_count(root, "deaths", summary->engine.deaths);
	put_count(root, "restarts", summary->engine.restarts);
	json_object_object_add(root, "busy", json_change(&summary->busy, summary->seconds));
	for (size_t i = 0; i < summary->child_count; i++)
		json_object_array_add(children, json_child(&summary->children[i]));
	json_object_object_add(root, "workers", children);
}

int summary_json(const struct summary *summary, FILE *out)
{
	struct json_object *root = json_object_new_object();
	struct json_object *results = json_object_new_object();

	if (!root || !results)
		return -ENOMEM;
	put_text(root, "job", summary->job);
	put_text(root, "version", dw_version());
	put_text(root, "hierarchy", summary->hierarchy);
	json_object_object_add(root, "status", json_object_new_int(summary->status));
	if (summary->error[0])
		put_text(root, "error", summary->error);
	if (summary->error_count)
		json_errors(summary, root);
	put_number(root, "seconds", summary->seconds);
	put_number(root, "init_seconds", summary->init_seconds);
	for (size_t i = 0; i < summary->result_count; i++) {
		const struct result *result = &summary->results[i];

		if (result->is_number)
			put_number(results, result->key, result->number);
		else
			put_text(results, result->key, result->text);
	}
	json_object_object_add(root, "results", results);
	if (summary->ran)
		json_counters(summary, root);
	if (summary->idle_seconds > 0)
		json_object_object_add(root, "idle", json_change(&summary->idle,
								 summary->idle_seconds));
	fprintf(out, "%s\n", json_object_to_json_string_ext(root, JSON_STYLE));
	json_object_put(root);
	return 0;
}
