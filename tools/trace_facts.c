// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Behind trace_facts.h. */
#include <stdlib.h>
#include <string.h>
#include "trace_facts.h"

const char *const stage_names[STAGES] = {
	"waits for producers", "waits for a worker", "waits in the ring", "runs",
	"until it is noticed",
};
const char *const stage_keys[STAGES] = {
	"producers", "worker", "ring", "runs", "noticed",
};

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

bool facts_gather(const struct traced *traced, const char *owner, size_t longest,
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

void facts_release(struct facts *facts)
{
	free(facts->waits);
	free(facts->path);
}

uint64_t facts_path_work(const struct facts *facts)
{
	uint64_t work = 0;

	for (size_t i = 0; i < facts->path_count; i++)
		if (has_run(facts->path[i]))
			work += run_time(facts->path[i]);
	return work;
}

uint64_t facts_path_length(const struct facts *facts)
{
	if (!facts->path_count)
		return 0;
	return facts->path[0]->stamps[STAMP_COMPLETED] -
	       facts->path[facts->path_count - 1]->stamps[STAMP_SUBMITTED];
}
