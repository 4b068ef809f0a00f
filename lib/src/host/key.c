/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See key.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/variables.h"
#include "host/key.h"
#include "task/error.h"

static struct {
	unsigned char bytes[KEY_MOST];
	size_t count; /* 0: there is none */
} own;

static int check_file(int fd, const char *path)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return error_set(-errno, "key file %s: fstat: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode))
		return error_set(-EINVAL, "key file %s is no regular file", path);
	if (status.st_mode & (S_IRWXG | S_IRWXO))
		return error_set(-EACCES,
				 "key file %s may be used by other users (mode %03o): "
				 "chmod 600 %s",
				 path, (unsigned int)status.st_mode & 0777, path);
	return 0;
}

static int check_length(const char *path, size_t bytes)
{
	if (bytes >= KEY_LEAST && bytes <= KEY_MOST)
		return 0;
	return error_set(-EINVAL,
			 "key file %s has %s%zu bytes; %d to %d would be right: "
			 "openssl rand -hex 32",
			 path, bytes > KEY_MOST ? "over " : "",
			 bytes > KEY_MOST ? (size_t)KEY_MOST : bytes, KEY_LEAST, KEY_MOST);
}

/* Reads to the end, or with `line` to the newline: nothing behind that is taken from a pipe. */
static int read_bytes(int fd, const char *path, bool line, unsigned char key[KEY_MOST + 1],
		      size_t *bytes)
{
	ssize_t got;

	for (*bytes = 0; *bytes <= KEY_MOST; *bytes += (size_t)got) {
		if (line && *bytes && key[*bytes - 1] == '\n')
			break;
		do
			got = read(fd, key + *bytes, line ? 1 : KEY_MOST + 1 - *bytes);
		while (got < 0 && errno == EINTR);
		if (got < 0)
			return error_set(-errno, "key file %s: read: %s", path, strerror(errno));
		if (got == 0)
			break;
	}
	while (*bytes && key[*bytes - 1] == '\n')
		--*bytes;
	return check_length(path, *bytes);
}

/* The caller overwrites the key. */
static int load(const char *path, unsigned char key[KEY_MOST + 1], size_t *bytes)
{
	int fd, result;

	if (strcmp(path, "-") == 0)
		return read_bytes(STDIN_FILENO, "-", true, key, bytes);
	fd = fd_move_up(open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
	/* The word of other programs for its authentication. */
	if (fd < 0 && errno == ENOENT && strcmp(path, "munge") == 0)
		return error_set(-ENOENT,
				 "key file munge: there is none, and munge is not used: a file of "
				 "yours with %d to %d bytes, the same on both hosts, would be "
				 "right: openssl rand -hex 32",
				 KEY_LEAST, KEY_MOST);
	if (fd < 0)
		return error_set(-errno, "key file %s: %s", path, strerror(errno));
	result = check_file(fd, path);
	if (result == 0)
		result = read_bytes(fd, path, false, key, bytes);
	close(fd);
	return result;
}

int key_read(const char *path, struct secret **secret)
{
	unsigned char key[KEY_MOST + 1];
	size_t bytes = 0;
	int result = load(path, key, &bytes);

	if (result == 0)
		result = secret_create(key, bytes, secret);
	explicit_bzero(key, sizeof(key));
	return result;
}

int key_keep(const void *key, size_t bytes)
{
	int result = check_length("of this process", bytes);

	if (result < 0)
		return result;
	memcpy(own.bytes, key, bytes);
	own.count = bytes;
	return 0;
}

int key_keep_file(const char *path)
{
	unsigned char key[KEY_MOST + 1];
	size_t bytes = 0;
	int result = load(path, key, &bytes);

	if (result == 0)
		result = key_keep(key, bytes);
	explicit_bzero(key, sizeof(key));
	return result;
}

const void *key_kept(size_t *count)
{
	*count = own.count;
	return own.bytes;
}

int key_find(const char *path, struct secret **secret)
{
	if (!path && own.count)
		return secret_create(own.bytes, own.count, secret);
	if (!path)
		path = variable_text(VARIABLE_HOST_KEY);
	if (path && path[0])
		return key_read(path, secret);
	return error_set(-ENOKEY,
			 "there is no key for other hosts: the Worker's option host_key, or "
			 "DW_HOST_KEY, should name a file with %d to %d bytes, the same on "
			 "both hosts: openssl rand -hex 32",
			 KEY_LEAST, KEY_MOST);
}
