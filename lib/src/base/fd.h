/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Descriptors of the library and of its drivers lie above 2. An application that was started with
 * 0, 1 or 2 closed would otherwise print into one of them, or read from it.
 *
 * All of it is inline, because drivers link nothing of the library. No state, any thread.
 */
#ifndef DW_BASE_FD_H
#define DW_BASE_FD_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FD_FIRST 3

/*
 * Moves the result of open(), socket() and the like to a descriptor above 2, closed on exec. A
 * failure of that call is passed on; a failure of the move closes the file and is returned in the
 * same way: -1 and errno.
 */
static inline int fd_move_up(int fd)
{
	int moved, error;

	if (fd < 0 || fd >= FD_FIRST)
		return fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, FD_FIRST);
	error = errno;
	close(fd);
	errno = error;
	return moved;
}

/* pidfd_open(2). */
static inline int fd_open_pidfd(pid_t pid)
{
	return fd_move_up((int)syscall(SYS_pidfd_open, pid, 0));
}

/*
 * The same for the two ends that pipe2() or socketpair() have made: `result` is theirs. 0, or -1
 * and errno.
 */
static inline int fd_move_pair_up(int result, int ends[2])
{
	int error;

	if (result < 0)
		return result;
	ends[0] = fd_move_up(ends[0]);
	error = errno;
	ends[1] = fd_move_up(ends[1]);
	if (ends[0] >= 0 && ends[1] >= 0)
		return 0;
	if (ends[0] >= 0) {
		error = errno;
		close(ends[0]);
	} else if (ends[1] >= 0) {
		close(ends[1]);
	}
	errno = error;
	return -1;
}

/* As fopen(path, "re"). */
static inline FILE *fd_open_stream(const char *path)
{
	int fd = fd_move_up(open(path, O_RDONLY | O_CLOEXEC));
	FILE *stream = fd >= 0 ? fdopen(fd, "r") : NULL;

	if (fd >= 0 && !stream)
		close(fd);
	return stream;
}

/* As opendir(). */
static inline DIR *fd_open_folder(const char *path)
{
	int fd = fd_move_up(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;

	if (fd >= 0 && !folder)
		close(fd);
	return folder;
}

#endif
