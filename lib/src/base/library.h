/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * dlopen() with the whole reason of a failure: where a file cannot be mapped, glibc's text does not
 * say why. Inline, for drivers and the tool as well. Any thread.
 */
#ifndef DW_BASE_LIBRARY_H
#define DW_BASE_LIBRARY_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/text.h"

#define LIBRARY_WHY_BYTES 384

/* The errno with which a file cannot be mapped as code; 0: it can. */
static inline int library_map_error(const char *path)
{
	int fd = fd_move_up(open(path, O_RDONLY | O_CLOEXEC)), error = 0;
	void *memory = MAP_FAILED;
	struct stat status;

	if (fd < 0)
		return errno;
	if (fstat(fd, &status) < 0 || !status.st_size)
		goto out;
	memory = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	if (memory == MAP_FAILED)
		error = errno;
	else
		munmap(memory, (size_t)status.st_size);
out:
	close(fd);
	return error;
}

/* NULL on failure: `why` says why, with the path. */
static inline void *library_open(const char *path, int flags, char why[LIBRARY_WHY_BYTES])
{
	void *handle = dlopen(path, flags);
	const char *text;
	int error;

	if (handle)
		return handle;
	text = dlerror();
	error = text && strstr(text, "failed to map") ? library_map_error(path) : 0;
	text_format(why, LIBRARY_WHY_BYTES, "%s%s%s", text ? text : path, error ? ": " : "",
		    error ? strerror(error) : "");
	return NULL;
}

#endif
