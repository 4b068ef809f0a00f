/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Writing to files without their signals. A file that may not grow (RLIMIT_FSIZE; a memfd is one,
 * too) raises SIGXFSZ, and a pipe without a reader raises SIGPIPE: by default both end the
 * application. Here they are errors, EFBIG and EPIPE. The signal is blocked in the calling thread
 * around the call and taken if the call raised it; handlers, dispositions and a signal that was
 * pending before stay as they are.
 *
 * All of it is inline, because drivers link nothing of the library. No state, any thread.
 */
#ifndef DW_BASE_FILE_H
#define DW_BASE_FILE_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

struct file_signals {
	sigset_t mask;			/* of the thread, as it was */
	sigset_t raised; /* not pending before: one that is pending now is ours */
};

/* Internal. */
static inline void file_signals_block(struct file_signals *blocked)
{
	static const int ours[] = { SIGXFSZ, SIGPIPE };
	sigset_t both, pending;

	sigemptyset(&both);
	sigemptyset(&blocked->raised);
	sigpending(&pending);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		sigaddset(&both, ours[i]);
		if (!sigismember(&pending, ours[i]))
			sigaddset(&blocked->raised, ours[i]);
	}
	pthread_sigmask(SIG_BLOCK, &both, &blocked->mask);
}

/* `failed`: only a call that failed can have raised one of them. */
static inline void file_signals_take(const struct file_signals *blocked, bool failed)
{
	static const struct timespec now;

	/* The kernel sends them to the thread that made the call, and before the call returns. */
	while (failed && sigtimedwait(&blocked->raised, NULL, &now) < 0 && errno == EINTR)
		;
	pthread_sigmask(SIG_SETMASK, &blocked->mask, NULL);
}

/* One write(2), for data that must not be split. Bytes, or -errno. */
static inline long file_write_once(int fd, const void *data, size_t bytes)
{
	struct file_signals blocked;
	ssize_t written;

	file_signals_block(&blocked);
	do
		written = write(fd, data, bytes);
	while (written < 0 && errno == EINTR);
	if (written < 0)
		written = -errno;
	file_signals_take(&blocked, written < 0);
	return written;
}

/* As write(2) until all bytes are written: 0, or -errno. *written (may be NULL): how many were. */
static inline int file_write(int fd, const void *data, size_t bytes, size_t *written)
{
	size_t done = 0;
	long result = 0;

	while (done < bytes) {
		result = file_write_once(fd, (const char *)data + done, bytes - done);
		if (result <= 0)
			break;
		done += (size_t)result;
	}
	if (written)
		*written = done;
	if (done == bytes)
		return 0;
	return result < 0 ? (int)result : -ENOSPC;
}

/* As ftruncate(2): 0, or -errno. */
static inline int file_resize(int fd, uint64_t bytes)
{
	struct file_signals blocked;
	int result;

	file_signals_block(&blocked);
	do
		result = ftruncate(fd, (off_t)bytes) ? -errno : 0;
	while (result == -EINTR);
	file_signals_take(&blocked, result < 0);
	return result;
}

#endif
