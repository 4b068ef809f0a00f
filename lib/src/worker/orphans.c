/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Orphans: a dead child's descendants, which the kernel has given to the spawner
 * (PR_SET_CHILD_SUBREAPER): nested spawners, and helpers that callables have started. Whose they
 * were is seen by the lifeline that they hold. A helper that has closed it has left the
 * tree on purpose, and is left alone.
 *
 * In the spawner only. What cannot be seen (no /proc) is not killed; nested spawners
 * end by themselves then.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "worker/spawner.h"

uint64_t orphans_pipe(int fd)
{
	struct stat status;

	return fstat(fd, &status) < 0 ? 0 : status.st_ino;
}

static bool is_one_of(uint64_t inode, const uint64_t *pipes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (pipes[i] == inode)
			return true;
	return false;
}

static bool holds(pid_t pid, const uint64_t *pipes, uint32_t count)
{
	char path[64], target[64];
	struct dirent *entry;
	bool found = false;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	fds = opendir(path);
	if (!fds)
		return false;
	while (!found && (entry = readdir(fds))) {
		ssize_t n = readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		found = strncmp(target, "pipe:[", 6) == 0 &&
			is_one_of(strtoull(target + 6, NULL, 10), pipes, count);
	}
	closedir(fds);
	return found;
}

void orphans_kill(const uint64_t *pipes, uint32_t count, bool (*is_own)(void *context, pid_t pid),
		  void *context)
{
	FILE *children = fopen("/proc/thread-self/children", "re");
	int pid;

	if (!children)
		return;
	/* Our own children: none of these numbers can become a stranger's before we reap it. */
	while (fscanf(children, "%d", &pid) == 1)
		if (!is_own(context, pid) && holds(pid, pipes, count))
			kill(pid, SIGKILL);
	fclose(children);
}
