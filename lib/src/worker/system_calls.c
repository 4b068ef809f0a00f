// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * See system_calls.h. Each call is made once in a way that changes nothing.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/fd.h"
#include "task/error.h"
#include "worker/system_calls.h"

static int refused(const char *worker, const char *call, int error)
{
	return error_set(-error, "%s: the system call %s, which its tree needs, is refused: %s",
			 worker, call, error_name(error));
}

int system_calls_check(const char *worker)
{
	struct itimerspec never = { { 0, 0 }, { 0, 0 } };
	sigset_t set;
	int fd, error = 0;

	/* A process is not its own child: ECHILD. */
	if (waitpid(getpid(), NULL, WNOHANG) < 0 && errno != ECHILD)
		return refused(worker, "wait4", errno);
	error = pthread_sigmask(SIG_BLOCK, NULL, &set);
	if (error)
		return refused(worker, "rt_sigprocmask", error);
	fd = fd_move_up(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	if (fd < 0)
		return error_set(-errno, "%s: no timer: timerfd_create: %s%s", worker,
				 error_name(errno), error_hint(errno));
	if (timerfd_settime(fd, 0, &never, NULL) < 0)
		error = errno;
	if (close(fd) < 0)
		return refused(worker, "close", errno);
	return error ? refused(worker, "timerfd_settime", error) : 0;
}
