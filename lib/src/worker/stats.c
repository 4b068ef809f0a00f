/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Reading the tree's counters. They lie on the tree's board; each
 * Worker's engine writes the entries of its own children with plain stores, so a reader sees
 * values that are at most a moment old and asks nobody.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include "worker/worker.h"

static uint64_t cpu_of(pid_t pid)
{
	struct timespec used;
	clockid_t clock;

	if (pid <= 0 || clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &used) < 0)
		return 0;
	return (uint64_t)used.tv_sec * 1000000000ULL + (uint64_t)used.tv_nsec;
}

#define LOAD(to, from, field) \
	((to)->field = __atomic_load_n(&(from)->field, __ATOMIC_RELAXED))

/* What was written once before the forks, and counters that their owners go on writing. */
void stats_copy(struct dw_child_stats *to, const struct dw_child_stats *from)
{
	memset(to, 0, sizeof(*to));
	memcpy(to->path, from->path, sizeof(to->path));
	to->path[sizeof(to->path) - 1] = '\0';
	to->kind = from->kind;
	to->level = from->level;
	LOAD(to, from, pid);
	LOAD(to, from, alive);
	LOAD(to, from, tasks_done);
	LOAD(to, from, tasks_failed);
	LOAD(to, from, tasks_skipped);
	LOAD(to, from, busy_ns);
	LOAD(to, from, wakes);
	LOAD(to, from, sleeps);
	if (to->alive)
		to->cpu_ns = cpu_of(to->pid);
}

static size_t copy_stats(const struct dw_worker *worker, struct dw_child_stats *stats, size_t space,
			 size_t at)
{
	uint32_t own = worker->options.subs + worker->options.chip_count + worker->nested_count;

	for (uint32_t i = 0; i < own; i++, at++) {
		if (at >= space)
			continue;
		stats_copy(&stats[at], &worker->stats[i]);
	}
	for (uint32_t i = 0; i < worker->nested_count; i++)
		at = copy_stats(worker->nested[i], stats, space, at);
	return at;
}

DW_API int dw_worker_stats(struct dw_worker *worker, struct dw_child_stats *stats, size_t *count)
{
	int result = worker_check(worker, "dw_worker_stats");

	if (result < 0)
		return result;
	if (!count || (*count && !stats))
		return error_set(-EINVAL, "dw_worker_stats: `count` or `stats` is NULL");
	if (!worker->stats)
		return error_set(-ENOTCONN, "dw_worker_stats: Worker %s was never initialised",
				 worker->name);
	*count = copy_stats(worker, stats, *count, 0);
	return 0;
}

DW_API int dw_worker_engine_stats(struct dw_worker *worker, struct dw_engine_stats *stats)
{
	int result = worker_check(worker, "dw_worker_engine_stats");

	if (result < 0)
		return result;
	if (!stats || stats->size != sizeof(*stats))
		return error_set(-EINVAL, "dw_worker_engine_stats: initialise with "
				 "DW_OPTIONS(dw_engine_stats)");
	if (!worker->engine)
		return error_set(-ENOTCONN, "dw_worker_engine_stats: Worker %s was never initialised",
				 worker->name);
	engine_stats(worker->engine, stats);
	return 0;
}
