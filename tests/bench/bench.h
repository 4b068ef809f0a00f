/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the benchmark's programs: clocks, placement, neighbours, readers of /proc, a tree in
 * one call. A program is one repeat: it measures once and prints "name value" per line;
 * tests/bench/run repeats, interleaves and compares.
 */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"

#define UNUSED __attribute__((unused))
#define MAX_PROCESSES 1024

static inline void sleep_until(uint64_t ns)
{
	struct timespec at = { .tv_sec = (time_t)(ns / NS_PER_S),
			       .tv_nsec = (long)(ns % NS_PER_S) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static inline void sleep_ns(uint64_t ns)
{
	sleep_until(now_ns() + ns);
}

/* ---------------------------------------------------------------- arguments */

/* The number behind "--name" among the arguments, or `otherwise`. */
static inline uint64_t argument(int argc, char **argv, const char *name, uint64_t otherwise)
{
	for (int i = 1; i + 1 < argc; i++)
		if (!strncmp(argv[i], "--", 2) && !strcmp(argv[i] + 2, name))
			return (uint64_t)strtod(argv[i + 1], NULL);
	return otherwise;
}

/* ---------------------------------------------------------------- placement */

static inline void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		perror("sched_setaffinity");
		exit(1);
	}
}

/* Forks a process that only uses CPU time. It dies with its parent. */
static inline UNUSED pid_t start_burner(int cpu)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (cpu >= 0)
			pin(cpu);
		for (volatile uint64_t i = 0;; i++)
			;
	}
	return pid;
}

static inline UNUSED void end_process(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* --------------------------------------------------------------------- work */

/*
 * Measures work, not time: a preempted task must not count the time that it did not run. `units`
 * are calibrated once, by the least of many measurements.
 */
static inline void work_units(uint64_t units)
{
	uint64_t x = units;

	for (uint64_t i = 0; i < units; i++) {
#if defined(__x86_64__)
		__asm__ volatile("imul $3, %0, %0\n\tadd $1, %0" : "+r"(x));
#else
		x = x * 3 + 1;
		__asm__ volatile("" : "+r"(x));	/* each step waits for the one before it */
#endif
	}
}

static inline UNUSED double units_per_ns(void)
{
	double best = 0;

	for (int i = 0; i < 200; i++) {
		uint64_t start = now_ns();
		double rate;

		work_units(20000);
		rate = 20000.0 / (double)(now_ns() - start);
		if (rate > best)
			best = rate;
	}
	return best;
}

/* --------------------------------------------------------------- statistics */

static inline int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Sorts. */
static inline UNUSED double percentile(double *values, size_t count, double part)
{
	size_t i = (size_t)(part * (double)(count - 1) + 0.5);

	qsort(values, count, sizeof(*values), compare_doubles);
	return values[i];
}

static inline void print(const char *name, double value)
{
	printf("%s %.9g\n", name, value);
}

/* ---------------------------------------------------------------- processes */

static inline int parent_of(pid_t pid)
{
	char path[64], line[512], *end;
	int parent = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return -1;
	if (fgets(line, sizeof(line), file) && (end = strrchr(line, ')')))
		sscanf(end + 1, " %*c %d", &parent);
	fclose(file);
	return parent;
}

/* `root` and all its descendants. */
static inline UNUSED unsigned process_tree(pid_t root, pid_t *pids, unsigned space)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	unsigned count = 0;

	while (proc && (entry = readdir(proc)) && count < space) {
		pid_t pid = atoi(entry->d_name), p = pid;

		while (p > 1 && p != root)
			p = parent_of(p);
		if (p == root)
			pids[count++] = pid;
	}
	if (proc)
		closedir(proc);
	return count;
}

/* CPU time that these processes have used, ns, dead threads included. */
static inline UNUSED uint64_t cpu_ns(const pid_t *pids, unsigned count)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++) {
		struct timespec used;
		clockid_t clock;

		if (clock_getcpuclockid(pids[i], &clock) == 0 && clock_gettime(clock, &used) == 0)
			sum += (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
	}
	return sum;
}

/* A field of /proc/PID/status, in its unit; 0 if there is none. */
static inline UNUSED uint64_t status_field(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	unsigned long long value = 0;
	size_t length = strlen(name);
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, length) && line[length] == ':')
			sscanf(line + length + 1, "%llu", &value);
	if (file)
		fclose(file);
	return value;
}

/* The same of `root` and all its descendants; pages that they share are counted in each. */
static inline UNUSED uint64_t status_sum(pid_t root, const char *name)
{
	pid_t pids[MAX_PROCESSES];
	unsigned count = process_tree(root, pids, MAX_PROCESSES);
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/status", (int)pids[i]);
		sum += status_field(path, name);
	}
	return sum;
}

/* Context switches of every thread of these processes. */
static inline UNUSED uint64_t switches(const pid_t *pids, unsigned count)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++) {
		struct dirent *entry;
		char path[512];
		DIR *tasks;

		snprintf(path, sizeof(path), "/proc/%d/task", (int)pids[i]);
		tasks = opendir(path);
		while (tasks && (entry = readdir(tasks))) {
			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pids[i],
				 entry->d_name);
			sum += status_field(path, "voluntary_ctxt_switches") +
			       status_field(path, "nonvoluntary_ctxt_switches");
		}
		if (tasks)
			closedir(tasks);
	}
	return sum;
}

/* What `root` and its descendants do, after a second, while nobody asks for anything. */
static inline UNUSED void measure_idle(pid_t root, uint64_t seconds)
{
	pid_t pids[MAX_PROCESSES];
	uint64_t before, cpu_before;
	unsigned count;

	sleep_ns(NS_PER_S);
	count = process_tree(root, pids, MAX_PROCESSES);
	before = switches(pids, count);
	cpu_before = cpu_ns(pids, count);
	sleep_ns(seconds * NS_PER_S);
	print("switches", (double)(switches(pids, count) - before));
	print("cpu_percent", (double)(cpu_ns(pids, count) - cpu_before) / 1e7 / (double)seconds);
	print("processes", count);
}

/* ------------------------------------------------------------------ library */

#ifdef DISTWORKER_H

static inline _Noreturn UNUSED void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, dw_strerror_last());
	exit(1);
}

static inline UNUSED int sub_nothing(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return 0;
}

static inline UNUSED struct dw_tensor bytes_tensor(void *data, uint32_t bytes)
{
	struct dw_tensor tensor;

	dw_tensor_init(&tensor, data, DW_UINT8, &bytes, 1);
	return tensor;
}

/* DW_THREAD with BENCH_THREADS=1 in the environment, for tools that do not follow processes. */
static inline UNUSED struct dw_worker *new_worker(uint32_t level, uint32_t subs)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker;

	options.subs = subs;
	options.mode = getenv("BENCH_THREADS") ? DW_THREAD : DW_PROCESS;
	if (dw_worker_create(level, &options, &worker))
		fail("dw_worker_create");
	return worker;
}

#endif
#endif
