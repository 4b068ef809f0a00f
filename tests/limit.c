/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * limit SECONDS COMMAND…: ends the command and its process group after so many seconds of a quiet
 * machine, with status 124. Every few seconds this process measures how busy the machine is
 * (unit/slow.h), and counts the time since the last measurement as so much less. Otherwise the
 * status is the command's; 128 + N: signal N killed it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include "unit/slow.h"

#define STEP_SECONDS 5
#define KILL_SECONDS 10

/* Whether the child ends within the seconds. */
static bool ends(pid_t pid, int *status, time_t seconds)
{
	uint64_t start = slow_clock(CLOCK_MONOTONIC), most = (uint64_t)seconds * 1000000000ULL,
		 passed;
	struct timespec rest;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	while (waitpid(pid, status, WNOHANG) != pid) {
		passed = slow_clock(CLOCK_MONOTONIC) - start;
		if (passed >= most)
			return false;
		rest.tv_sec = (time_t)((most - passed) / 1000000000ULL);
		rest.tv_nsec = (long)((most - passed) % 1000000000ULL);
		sigtimedwait(&set, NULL, &rest);
	}
	return true;
}

int main(int argc, char **argv)
{
	uint64_t most = argc > 2 ? strtoull(argv[1], NULL, 10) * 1000000000ULL : 0, counted = 0,
		 last, now;
	sigset_t set, old;
	int status = 0;
	pid_t pid;

	if (!most) {
		fprintf(stderr, "usage: limit SECONDS COMMAND...\n");
		return 2;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &old);
	last = slow_clock(CLOCK_MONOTONIC);
	pid = fork();
	if (pid < 0) {
		perror("limit: fork");
		return 126;
	}
	if (pid == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		setpgid(0, 0);
		execvp(argv[2], argv + 2);
		fprintf(stderr, "limit: %s: %s\n", argv[2], strerror(errno));
		_exit(127);
	}
	setpgid(pid, pid);
	while (!ends(pid, &status, STEP_SECONDS)) {
		now = slow_clock(CLOCK_MONOTONIC);
		counted += (now - last) / (unit_busy() * unit_slow());
		last = now;
		if (counted < most)
			continue;
		fprintf(stderr, "limit: %s hangs: %s s of a quiet machine have passed\n", argv[2],
			argv[1]);
		kill(-pid, SIGTERM);
		if (!ends(pid, &status, KILL_SECONDS)) {
			kill(-pid, SIGKILL);
			waitpid(pid, &status, 0);
		}
		kill(-pid, SIGKILL);
		return 124;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
