/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See objects.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/text.h"
#include "callable/symbol.h"
#include "host/pack.h"
#include "host/stream.h"
#include "task/error.h"
#include "worker/objects.h"

/* With an error and a text beside it. */
#define FILE_MOST (STREAM_CONTROL_MOST - 4096)
#define NAME_MOST 100 /* of the file's own name; its identity follows */

int objects_check(const char *folder)
{
	struct stat stat;

	if (lstat(folder, &stat) < 0)
		return error_set(-errno, "the folder for shared objects, %s: %s%s",
				 text_short(folder), strerror(errno), error_hint(errno));
	if (!S_ISDIR(stat.st_mode))
		return error_set(-ENOTDIR, "the folder for shared objects, %s, is no folder",
				 text_short(folder));
	if (stat.st_uid != geteuid() || stat.st_mode & 022)
		return error_set(-EACCES,
				 "the folder for shared objects, %s, is of user %u with mode %03o: "
				 "this process loads what is in it, so it should be of user %u, "
				 "and for nobody else to write (chmod 700)",
				 text_short(folder), stat.st_uid, stat.st_mode & 0777, geteuid());
	return 0;
}

static int read_all(int fd, const char *path, struct pack *file)
{
	struct stat stat;
	size_t bytes;
	ssize_t n;
	char *to;

	if (fstat(fd, &stat) < 0)
		return error_set(-errno, "shared object %s: %s", text_short(path), strerror(errno));
	if (!S_ISREG(stat.st_mode))
		return error_set(-EINVAL, "shared object %s is no regular file", text_short(path));
	if (stat.st_size > FILE_MOST)
		return error_set(-EFBIG,
				 "shared object %s has %lld bytes; at most %u travel to another "
				 "host: copy it there, under the same path",
				 text_short(path), (long long)stat.st_size, FILE_MOST);
	bytes = (size_t)stat.st_size;
	to = pack_space(file, bytes);
	for (size_t at = 0; to && at < bytes; at += (size_t)n) {
		n = read(fd, to + at, bytes - at);
		if (n <= 0)
			return error_set(n ? -errno : -EIO, "shared object %s: %s",
					 text_short(path),
					 n ? strerror(errno) :
					     "it became shorter while it was read");
	}
	return 0;
}

int objects_read(const char *path, struct pack *file)
{
	int fd = fd_move_up(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)), result;

	if (fd < 0)
		return error_set(-errno, "shared object %s: %s%s", text_short(path),
				 strerror(errno), error_hint(errno));
	result = read_all(fd, path, file);
	close(fd);
	return result;
}

int objects_place(const char *folder, const struct callable *symbol, char path[PATH_MAX])
{
	const char *name = strrchr(symbol->path, '/');
	char identity[2 * sizeof(symbol->identity) + 1];
	int length;

	for (size_t i = 0; i < sizeof(symbol->identity); i++)
		text_format(identity + 2 * i, 3, "%02x", symbol->identity[i]);
	length = snprintf(path, PATH_MAX, "%s/%.*s.%s", folder, NAME_MOST,
			  name ? name + 1 : symbol->path, identity);
	return length < PATH_MAX ? 0 :
				   error_set(-ENAMETOOLONG,
					     "the path of the folder for shared objects is too "
					     "long: %s",
					     text_short(folder));
}

static int write_all(int fd, const char *file, size_t bytes)
{
	ssize_t n;

	for (size_t at = 0; at < bytes; at += (size_t)n) {
		n = write(fd, file + at, bytes - at);
		if (n <= 0)
			return error_set(n ? -errno : -EIO, "%s%s",
					 n ? strerror(errno) : "nothing was written",
					 n ? error_hint(errno) : "");
	}
	return 0;
}

static int check(const char *path, const struct callable *symbol)
{
	uint8_t identity[sizeof(symbol->identity)];
	int result = symbol_identify(path, NULL, identity);

	if (result == 0 && memcmp(identity, symbol->identity, sizeof(identity)) != 0)
		result = error_set(-ESTALE,
				   "%s has changed since \"%s\" was registered; unregister that, "
				   "and register it again",
				   text_short(symbol->path), text_short(symbol->symbol));
	return result;
}

int objects_keep(const char *path, const struct callable *symbol, const void *file, size_t bytes)
{
	char made[PATH_MAX];
	int fd, result;

	if (snprintf(made, sizeof(made), "%s.XXXXXX", path) >= (int)sizeof(made))
		return error_set(-ENAMETOOLONG, "%s: the path is too long", text_short(path));
	fd = fd_move_up(mkostemp(made, O_CLOEXEC));
	if (fd < 0)
		return error_set(-errno, "shared object %s cannot be kept: %s%s", text_short(path),
				 strerror(errno), error_hint(errno));
	result = write_all(fd, file, bytes);
	if (close(fd) < 0 && result == 0)
		result = error_set(-errno, "%s", strerror(errno));
	if (result == 0)
		result = check(made, symbol);
	if (result == 0 && rename(made, path) < 0)
		result = error_set(-errno, "%s", strerror(errno));
	if (result < 0) {
		unlink(made);
		return result == -ESTALE ? result :
			error_prefix(result, "shared object %s cannot be kept: ", text_short(path));
	}
	return 0;
}
