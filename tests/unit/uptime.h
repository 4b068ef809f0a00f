/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * UNIT_UPTIME=SECONDS in the environment: the test program runs in a time namespace whose
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME begin at so many seconds. A time that is 0 by mistake lies
 * 400 days back in one world, and is close to now in another; the uptime of the machine decides
 * which, so that the tests set it. Linux 5.6 and CONFIG_TIME_NS are needed, and the right to make
 * a time namespace, or else a user namespace.
 */
#ifndef UPTIME_H
#define UPTIME_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UPTIME_CLONE_NEWTIME 0x80
#define UPTIME_CLONE_NEWUSER 0x10000000

static int64_t uptime_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec;
}

static int uptime_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), result = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		result = -errno;
	close(fd);
	return result;
}

/* Applies to children that this process forks from now on. 0 or -errno. */
static int uptime_set(int64_t seconds)
{
	char offsets[128], map[64];
	uid_t uid = getuid();

	if (syscall(SYS_unshare, UPTIME_CLONE_NEWTIME) < 0) {
		if (errno != EPERM)
			return -errno;
		if (syscall(SYS_unshare, UPTIME_CLONE_NEWUSER | UPTIME_CLONE_NEWTIME) < 0)
			return -errno;
		snprintf(map, sizeof(map), "%u %u 1\n", (unsigned)uid, (unsigned)uid);
		if (uptime_write("/proc/self/uid_map", map) < 0)
			return -EPERM;
	}
	snprintf(offsets, sizeof(offsets), "monotonic %lld 0\nboottime %lld 0\n",
		 (long long)(seconds - uptime_of(CLOCK_MONOTONIC)),
		 (long long)(seconds - uptime_of(CLOCK_BOOTTIME)));
	return uptime_write("/proc/self/timens_offsets", offsets);
}

/*
 * Returns if UNIT_UPTIME is not set. Otherwise the program runs once more in the other world, and
 * this process exits with its status.
 */
static void uptime_enter(char **argv)
{
	const char *wanted = getenv("UNIT_UPTIME");
	int64_t seconds;
	int result, status;
	pid_t pid;

	if (!wanted)
		return;
	seconds = strtoll(wanted, NULL, 10);
	unsetenv("UNIT_UPTIME");
	result = uptime_set(seconds);
	if (result < 0) {
		printf("1..1\nok 1 # SKIP no time namespace can be made here: %s\n"
		       "0 passed, 0 failed, 1 skipped\n", strerror(-result));
		fflush(stdout);
		_exit(0);
	}
	pid = fork();
	if (pid == 0) {
		/* Otherwise the tests would not test the world that they are for. */
		if (uptime_of(CLOCK_MONOTONIC) < seconds ||
		    uptime_of(CLOCK_MONOTONIC) > seconds + 3600) {
			printf("not ok - this process is up for %lld s, and not for %lld\n"
			       "0 passed, 1 failed\n", (long long)uptime_of(CLOCK_MONOTONIC),
			       (long long)seconds);
			fflush(stdout);
			_exit(1);
		}
		execv("/proc/self/exe", argv);
		_exit(127);
	}
	if (pid < 0 || (waitpid(pid, &status, 0) < 0))
		_exit(126);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

#endif
