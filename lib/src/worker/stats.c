/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Reading the tree's counters. They lie on the tree's segment; each
 * Worker's engine writes the entries of its own children with plain stores, so a reader sees
 * values that are at most a moment old and asks no process.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/fd.h"
#include "task/options.h"
#include "worker/hierarchy.h"
#include "worker/stats.h"

/* A thread of another process: its clock cannot be read. Without CONFIG_SCHED_INFO: 0. */
static uint64_t cpu_of_stranger(pid_t pid, pid_t tid)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid, (int)tid);
	file = fd_open_stream(path);
	if (!file)
		return 0;
	if (fscanf(file, "%llu", &ns) != 1)
		ns = 0;
	fclose(file);
	return ns;
}

/*
 * For a child process `tid` is 0 or its pid; for a child thread it is the thread's number.
 */
static uint64_t cpu_of(pid_t pid, pid_t tid)
{
	struct timespec used;
	clockid_t clock;

	if (pid <= 0 || tid < 0)
		return 0;
	if (tid && tid != pid) {
		if (pid != getpid())
			return cpu_of_stranger(pid, tid);
		/* The clock id that pthread_getcpuclockid() gives for a living thread. */
		clock = (clockid_t)(~(unsigned int)tid << 3 | 6);
	} else if (clock_getcpuclockid(pid, &clock)) {
		return 0;
	}
	if (clock_gettime(clock, &used) < 0)
		return 0;
	return (uint64_t)used.tv_sec * 1000000000ULL + (uint64_t)used.tv_nsec;
}

#define LOAD(to, from, field) \
	((to)->field = __atomic_load_n(&(from)->field, __ATOMIC_RELAXED))

/* Fields that were written once before the forks, and counters that owners go on writing. */
void stats_copy(struct dw_child_stats *to, const struct dw_child_stats *from,
		const struct child_status *now, const struct segment_child *rest)
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
	LOAD(to, now, sleeps);
	LOAD(to, &rest->chip, memory_used);
	LOAD(to, &rest->chip, memory_bytes);
	LOAD(to, &rest->chip, copied_in);
	LOAD(to, &rest->chip, copied_out);
	LOAD(to, &rest->chip, saved);
	memcpy(to->host, from->host, sizeof(to->host));
	to->host[sizeof(to->host) - 1] = '\0';
	memcpy(to->address, rest->remote.address, sizeof(to->address));
	to->address[sizeof(to->address) - 1] = '\0';
	LOAD(to, &rest->remote, round_trip_ns);
	LOAD(to, &rest->remote, window_used);
	LOAD(to, &rest->remote, window_bytes);
	if (to->alive)
		to->cpu_ns = cpu_of(to->pid, __atomic_load_n(&now->tid, __ATOMIC_RELAXED));
}

/* Allocates `space` entries of `size` bytes. */
static size_t copy_stats(const struct dw_worker *worker, char *stats, size_t size, size_t space,
			 size_t at)
{
	struct dw_child_stats now;
	uint32_t own = worker_width(worker);

	for (uint32_t i = 0; i < own; i++, at++) {
		if (at >= space)
			continue;
		stats_copy(&now, &worker->segment.stats[i], &worker->segment.status[i],
			   &worker->segment.children[i]);
		options_fill(stats + at * size, size, &now, sizeof(now));
	}
	for (uint32_t i = 0; i < worker->nested_count; i++)
		if (!worker_is_elsewhere(worker->nested[i]))
			at = copy_stats(worker->nested[i], stats, size, space, at);
	return at;
}

DW_API int dw_worker_stats(struct dw_worker *worker, struct dw_child_stats *stats, size_t size,
			   size_t *count)
{
	int result = worker_check(worker, "dw_worker_stats");

	if (result < 0)
		return result;
	if (!count || (*count && !stats))
		return error_set(-EINVAL, "dw_worker_stats: `count` or `stats` is NULL");
	result = options_check_size(size, "dw_child_stats");
	if (result < 0)
		return result;
	if (!worker->segment.stats)
		return error_set(-ENOTCONN, "dw_worker_stats: Worker %s was never initialised",
				 worker->name);
	*count = copy_stats(worker, (char *)stats, size, *count, 0);
	return 0;
}

DW_API int dw_worker_engine_stats(struct dw_worker *worker, struct dw_engine_stats *stats)
{
	int result = worker_check(worker, "dw_worker_engine_stats");
	struct dw_engine_stats now;

	if (result < 0)
		return result;
	result = options_check_output(stats, "dw_engine_stats");
	if (result < 0)
		return result;
	if (!worker->life.engine)
		return error_set(-ENOTCONN,
				 "dw_worker_engine_stats: Worker %s was never initialised",
				 worker->name);
	engine_stats(worker->life.engine, &now);
	options_write(stats, &now, sizeof(now));
	return 0;
}
