/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Can tests use OpenCL? */
#ifndef TESTS_OPENCL_MISSING_H
#define TESTS_OPENCL_MISSING_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <distworker/chip.h>
#include <distworker/distworker.h>

/*
 * NULL, or why there is no OpenCL here. A separate process finds out: OpenCL's libraries do not
 * survive the tests' forks, and PoCL aborts without /sys (in a chroot).
 */
static inline const char *opencl_missing(void)
{
	static char reason[512];
	static bool asked;
	int pipes[2], status;
	ssize_t n;
	pid_t pid;

	if (asked)
		return reason[0] ? reason : NULL;
	asked = true;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		abort();
	pid = fork();
	if (pid == 0) {
		int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
		size_t count = 0;
		const char *text;
		int result;

		dup2(quiet, 1);
		dup2(quiet, 2);
		result = dw_chip_enumerate("opencl", NULL, NULL,
					   sizeof(struct dw_chip_properties), &count);
		text = result < 0 ? dw_strerror_last() :
			     count	? "" :
					  "no OpenCL device";

		if (*text && write(pipes[1], text, strlen(text)) < 0)
			_exit(1);
		_exit(0);
	}
	close(pipes[1]);
	n = read(pipes[0], reason, sizeof(reason) - 1);
	reason[n > 0 ? n : 0] = '\0';
	close(pipes[0]);
	waitpid(pid, &status, 0);
	if (!reason[0] && status)
		snprintf(reason, sizeof(reason), "asking for OpenCL devices %s %d%s",
			 WIFSIGNALED(status) ? "ends with signal" : "ends with status",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
			 access("/sys/devices", F_OK) ? ", without /sys" : "");
	return reason[0] ? reason : NULL;
}

#endif
