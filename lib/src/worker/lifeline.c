/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See lifeline.h. The kernel gives a dead child's descendants to the spawner
 * (PR_SET_CHILD_SUBREAPER): nested spawners, and helpers that callables have started. The lifeline
 * that they hold shows whose they were. If the spawner was killed, they have gone to another
 * process, and the spawner's parent looks for them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/text.h"
#include "worker/lifeline.h"

uint64_t lifeline_inode(int fd)
{
	struct stat status;

	return fstat(fd, &status) < 0 ? 0 : status.st_ino;
}

/*
 * Where /proc is that of another PID namespace (`unshare --pid` without a new /proc), its numbers
 * are those of other processes here.
 */
static bool proc_is_own(void)
{
	char text[16];
	ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return strtol(text, NULL, 10) == getpid();
}

static bool is_one_of(uint64_t inode, const uint64_t *pipes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (pipes[i] == inode)
			return true;
	return false;
}

/* The mode of a link in /proc/PID/fd is that of the descriptor. */
static bool is_writer(int directory, const char *name)
{
	struct stat status;

	return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	       status.st_mode & S_IWUSR;
}

/* Returns which of the pipes the process holds; 0: none. */
static uint64_t held_pipe(pid_t pid, const uint64_t *pipes, uint32_t count, bool to_write)
{
	char path[64], target[64];
	struct dirent *entry;
	uint64_t found = 0, inode;
	DIR *fds;

	text_format(path, sizeof(path), "/proc/%d/fd", (int)pid);
	fds = fd_open_folder(path);
	if (!fds)
		return 0;
	while (!found && (entry = readdir(fds))) {
		ssize_t n = readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		if (strncmp(target, "pipe:[", 6) != 0)
			continue;
		inode = strtoull(target + 6, NULL, 10);
		if (is_one_of(inode, pipes, count) &&
		    (!to_write || is_writer(dirfd(fds), entry->d_name)))
			found = inode;
	}
	closedir(fds);
	return found;
}

int lifeline_kill_process(pid_t pid)
{
	int error, pidfd;

	if (kill(pid, SIGKILL) == 0)
		return 0;
	error = errno;
	/* A filter may refuse one call and permit the other. */
	pidfd = fd_open_pidfd(pid);
	if (pidfd < 0)
		return error;
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0)
		error = 0;
	close(pidfd);
	return error;
}

void lifeline_kill_holders(const uint64_t *pipes, uint32_t count,
			   const struct lifeline_calls *calls, void *context)
{
	FILE *children = proc_is_own() ? fd_open_stream("/proc/thread-self/children") : NULL;
	int pid, error;

	if (!children)
		return;
	/* These are our own children: their numbers cannot be reused before we reap them. */
	while (fscanf(children, "%d", &pid) == 1) {
		uint64_t pipe =
			calls->is_own(context, pid) ? 0 : held_pipe(pid, pipes, count, false);

		error = pipe ? lifeline_kill_process(pid) : 0;
		if (error)
			calls->not_killed(context, pid, pipe, error);
	}
	fclose(children);
}

/* Kills by pidfd, after a second look: the number may have been reused in between. */
static bool kill_writer(pid_t pid, uint64_t pipe)
{
	int pidfd = fd_open_pidfd(pid);
	bool killed = pidfd >= 0 && held_pipe(pid, &pipe, 1, true) &&
		      syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0;

	if (pidfd >= 0)
		close(pidfd);
	return killed;
}

void lifeline_kill_writers(uint64_t pipe)
{
	struct dirent *entry;
	bool any = true;
	DIR *processes;

	/* Repeat while there are writers, since they may have forked; but not for ever. */
	for (int pass = 0; any && pass < 4; pass++) {
		any = false;
		processes = proc_is_own() ? fd_open_folder("/proc") : NULL;
		while (processes && (entry = readdir(processes))) {
			pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

			if (pid > 0 && pid != getpid() && held_pipe(pid, &pipe, 1, true))
				any = kill_writer(pid, pipe) || any;
		}
		if (processes)
			closedir(processes);
	}
}
