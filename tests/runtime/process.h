/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Reads the clock and /proc, for tests and for other programs. */
#ifndef TESTS_PROCESS_H
#define TESTS_PROCESS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#include <distworker/distworker.h>
#include "base/clock.h"

static inline struct dw_tensor scalar_tensor(void *data)
{
	struct dw_tensor tensor;

	dw_tensor_init(&tensor, data, DW_INT64, NULL, 0);
	return tensor;
}

static inline unsigned count_dir(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

/*
 * The mappings of this process; under TSan only those of files, since it maps a shadow, which has
 * no name, for each place at which memory has ever been.
 */
static inline unsigned count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4096 + 128];
	unsigned n = 0;

	while (maps && fgets(line, sizeof(line), maps)) {
#ifdef __SANITIZE_THREAD__
		if (!strchr(line, '/'))
			continue;
#endif
		n++;
	}
	if (maps)
		fclose(maps);
	return n;
}

/* Direct and indirect children of this process, by /proc/PID/stat; calls visit with each pid. */
static inline int parent_of(pid_t pid)
{
	char path[64], line[512], *end;
	FILE *file;
	int ppid = -1;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return -1;
	if (fgets(line, sizeof(line), file) && (end = strrchr(line, ')')))
		sscanf(end + 1, " %*c %d", &ppid);
	fclose(file);
	return ppid;
}

static inline bool descends(pid_t pid, pid_t ancestor)
{
	while (pid > 1) {
		pid = parent_of(pid);
		if (pid == ancestor)
			return true;
	}
	return false;
}

static inline unsigned descendants(pid_t *pids, unsigned space)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned n = 0;

	while (dir && (entry = readdir(dir))) {
		pid_t pid = atoi(entry->d_name);

		if (pid > 0 && pid != getpid() && descends(pid, getpid())) {
			if (n < space)
				pids[n] = pid;
			n++;
		}
	}
	if (dir)
		closedir(dir);
	return n;
}

#endif
