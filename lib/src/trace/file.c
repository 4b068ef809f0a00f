/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Behind trace/file.h. The descriptor is inherited over forks; what the processes have to
 * know of each other is in one shared page. Any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "trace/file.h"
#include "task/error.h"

#define NAME_BYTES_MAX 200

struct shared {
	_Atomic uint32_t joined, left;	/* writers; different at the close: one was killed */
	_Atomic uint32_t failed;	/* a write did: nobody tries again */
};

struct trace_file {
	int fd;
	const char *variable;
	const char *last_line;
	char end;
	struct shared *shared;
	char path[PATH_MAX];
};

/* ------------------------------------------------------------------ names */

/* Trees of this process that wrote to this path, this one included. */
static uint32_t tree_number(const char *variable, const char *wanted)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct { char path[PATH_MAX]; uint32_t trees; } last[2];
	uint32_t i = strcmp(variable, "DW_TRACE") != 0, number;

	pthread_mutex_lock(&lock);
	if (strcmp(last[i].path, wanted) != 0)
		last[i].trees = 0;
	snprintf(last[i].path, sizeof(last[i].path), "%s", wanted);
	number = ++last[i].trees;
	pthread_mutex_unlock(&lock);
	return number;
}

/* "a/b.json" with ".2" or ".4711.2" before the last dot of its last part. */
static int make_path(char path[PATH_MAX], const char *wanted, uint32_t number, bool with_pid)
{
	const char *slash = strrchr(wanted, '/'), *name = slash ? slash + 1 : wanted;
	const char *dot = strrchr(name, '.');
	size_t stem = dot && dot != name ? (size_t)(dot - wanted) : strlen(wanted);
	char pid[16] = "", tree[16] = "";
	int length;

	if (with_pid)
		snprintf(pid, sizeof(pid), ".%d", (int)getpid());
	if (number > 1)
		snprintf(tree, sizeof(tree), ".%u", number);
	length = snprintf(path, PATH_MAX, "%.*s%s%s%s", (int)stem, wanted, pid, tree, wanted + stem);
	return length < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* -EWOULDBLOCK: somebody else writes to it. */
static int open_path(struct trace_file *file)
{
	int error;

	/* Append, so that what two processes write at once is never mixed. */
	file->fd = fd_move_up(open(file->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
	if (file->fd < 0)
		return -errno;
	if (flock(file->fd, LOCK_EX | LOCK_NB) == 0 && ftruncate(file->fd, 0) == 0)
		return 0;
	error = -errno;
	close(file->fd);
	file->fd = -1;
	return error;
}

static int open_some_path(struct trace_file *file, const char *wanted)
{
	uint32_t number = tree_number(file->variable, wanted);
	int result = make_path(file->path, wanted, number, false);

	if (result == 0)
		result = open_path(file);
	if (result == -EWOULDBLOCK) {
		result = make_path(file->path, wanted, number, true);
		if (result == 0)
			result = open_path(file);
	}
	return result;
}

/* After a failure (no space) nothing more is written by anybody. */
static void file_write(struct trace_file *file, const char *lines, size_t bytes)
{
	ssize_t written;

	if (!bytes || atomic_load_explicit(&file->shared->failed, memory_order_relaxed))
		return;
	do
		written = write(file->fd, lines, bytes);
	while (written < 0 && errno == EINTR);
	if (written == (ssize_t)bytes)
		return;
	if (!atomic_exchange_explicit(&file->shared->failed, 1, memory_order_relaxed))
		log_at(LOG_WARN, "%s=%s ends here: %s", file->variable, file->path,
		    written < 0 ? error_name(errno) : "the disk is full");
}

/* ------------------------------------------------------------ open, join, leave */

int trace_file_open(const char *variable, const char *first_line, const char *last_line, char end,
		    struct trace_file **opened)
{
	const char *wanted = getenv(variable);
	struct trace_file *file;
	int result;

	*opened = NULL;
	if (!wanted || !*wanted)
		return 0;
	file = calloc(1, sizeof(*file));
	if (!file)
		return error_set(-ENOMEM, "no memory for %s=%s", variable, wanted);
	file->variable = variable;
	file->last_line = last_line;
	file->end = end;
	file->shared = mmap(NULL, sizeof(*file->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (file->shared == MAP_FAILED) {
		free(file);
		return error_set(-ENOMEM, "no memory for %s=%s", variable, wanted);
	}
	result = open_some_path(file, wanted);
	if (result < 0) {
		munmap(file->shared, sizeof(*file->shared));
		error_set(result, "%s=%s: cannot write this file: %s; it should be a path in a folder that "
			  "exists and may be written to", variable, wanted, error_name(-result));
		free(file);
		return result;
	}
	file_write(file, first_line, strlen(first_line));
	*opened = file;
	return 0;
}

void trace_file_join(struct trace_file *file)
{
	atomic_fetch_add_explicit(&file->shared->joined, 1, memory_order_relaxed);
}

void trace_file_leave(struct trace_file *file)
{
	atomic_fetch_add_explicit(&file->shared->left, 1, memory_order_relaxed);
}

/* ------------------------------------------------------------------ lines */

void lines_flush(struct trace_lines *lines)
{
	if (lines->file && lines->used > 1)
		file_write(lines->file, lines->text, lines->used);
	lines->used = 0;
}

void lines_begin(struct trace_lines *lines)
{
	if (lines->used + LINE_BYTES > LINES_BYTES)
		lines_flush(lines);
	/* Not behind a line that another process has left torn. */
	if (!lines->used)
		lines->text[lines->used++] = '\n';
	lines->stop = lines->used + LINE_BYTES - 64;
}

void lines_add(struct trace_lines *lines, const char *format, ...)
{
	size_t space = lines->stop > lines->used ? lines->stop - lines->used : 0;
	va_list list;
	int length;

	va_start(list, format);
	length = vsnprintf(lines->text + lines->used, space, format, list);
	va_end(list);
	if (length > 0 && (size_t)length < space)
		lines->used += (size_t)length;
}

/* Bytes of the UTF-8 character at `text`; 0: there is none. */
static size_t character(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;
	size_t length = c[0] < 0x80 ? 1 : c[0] >= 0xc2 && c[0] < 0xe0 ? 2 :
			c[0] >= 0xe0 && c[0] < 0xf0 ? 3 : c[0] >= 0xf0 && c[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < length; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	/* Forms that are too long, surrogates, what is above U+10FFFF. */
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
	    (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	return length;
}

void lines_add_text(struct trace_lines *lines, const char *text)
{
	const char *stop = text + strnlen(text, NAME_BYTES_MAX);

	while (text < stop) {
		size_t length = character(text);

		if (length > 1 && text + length > stop)
			return;
		if (!length)
			lines_add(lines, "?");
		else if (*text == '"' || *text == '\\')
			lines_add(lines, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			lines_add(lines, " ");
		else
			lines_add(lines, "%.*s", (int)length, text);
		text += length ? length : 1;
	}
}

void lines_add_string(struct trace_lines *lines, const char *text)
{
	lines_add(lines, "\"");
	lines_add_text(lines, text);
	lines_add(lines, "\"");
}

void lines_add_time(struct trace_lines *lines, const char *key, uint64_t ns)
{
	lines_add(lines, "\"%s\":%llu.%03u", key, (unsigned long long)(ns / 1000),
		  (unsigned int)(ns % 1000));
}

void lines_end(struct trace_lines *lines, const char *end)
{
	/* Room for this was left. */
	lines->stop += 64;
	lines_add(lines, "%s\n", end);
}

/* ------------------------------------------------------------------ close */

/* Whether brackets and quotes outside strings match, and `end` ends it. */
static bool line_is_whole(const char *line, size_t length, char end)
{
	long depth = 0;
	bool text = false;

	for (size_t i = 0; i < length; i++) {
		if (text && line[i] == '\\')
			i++;
		else if (line[i] == '"')
			text = !text;
		else if (!text && (line[i] == '{' || line[i] == '['))
			depth++;
		else if (!text && (line[i] == '}' || line[i] == ']'))
			depth--;
		if (depth < 0)
			return false;
	}
	return !text && !depth && line[length - 1] == end;
}

static void blank_torn_lines(char *text, size_t bytes, char end)
{
	char *line = memchr(text, '\n', bytes), *stop = text + bytes;

	for (line = line ? line + 1 : stop; line < stop;) {
		char *newline = memchr(line, '\n', (size_t)(stop - line));
		size_t length = (size_t)((newline ? newline : stop) - line);

		if (length && (!newline || !line_is_whole(line, length, end)))
			memset(line, ' ', length);
		line += length + 1;
	}
}

static void repair(const struct trace_file *file)
{
	struct stat status;
	char *text;

	if (fstat(file->fd, &status) < 0 || status.st_size == 0)
		return;
	text = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
	if (text == MAP_FAILED) {
		log_at(LOG_WARN, "%s=%s: torn lines of a killed process stay in it: %s", file->variable,
		    file->path, error_name(errno));
		return;
	}
	blank_torn_lines(text, (size_t)status.st_size, file->end);
	munmap(text, (size_t)status.st_size);
}

void trace_file_close(struct trace_file *file)
{
	struct shared *shared;

	if (!file)
		return;
	shared = file->shared;
	if (atomic_load(&shared->joined) != atomic_load(&shared->left) || atomic_load(&shared->failed))
		repair(file);
	atomic_store(&shared->failed, 0);
	/* A torn line may have been the last one. */
	file_write(file, "\n", 1);
	file_write(file, file->last_line, strlen(file->last_line));
	close(file->fd);
	munmap(shared, sizeof(*shared));
	free(file);
}
