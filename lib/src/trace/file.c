/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Behind trace/file.h. The descriptor is inherited over forks; the processes share their state in
 * one page. Any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
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
#include "base/file.h"
#include "base/text.h"
#include "trace/convert.h"
#include "trace/file.h"
#include "trace/text_out.h"
#include "task/error.h"

#define NAME_BYTES_MAX 255	/* longer ones, of symbols, are shortened in the middle */
#define END_BYTES_MAX 128
#define PROCESSES_MOST (1 << 22)	/* the kernel's own limit for a pid */

/* A reader of a pipe that takes nothing for so long ends the trace. */
#define PIPE_PATIENCE_MS 5000

struct shared {
	_Atomic uint32_t joined, left;	/* writers; different at the close: one was killed */
	_Atomic int32_t lanes;		/* numbers above those of processes */
	_Atomic uint32_t failed;	/* a write failed: no process tries again */
	pthread_mutex_t stream;		/* of a pipe or device: one flush after the other */
};

struct trace_file {
	int fd, records;		/* -1: records are not kept */
	/* it can be read again, truncated and locked; else /dev/null, a FIFO, … */
	bool is_file;
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
	text_copy(last[i].path, sizeof(last[i].path), wanted);
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
	length =
		snprintf(path, PATH_MAX, "%.*s%s%s%s", (int)stem, wanted, pid, tree, wanted + stem);
	return length < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* -EWOULDBLOCK: another tree writes to it. */
static int open_path(struct trace_file *file)
{
	int error;

	/* Append, so that concurrent writes of two processes are never mixed. */
	file->fd = fd_move_up(open(file->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
	if (file->fd < 0)
		return -errno;
	file->is_file = true;
	error = flock(file->fd, LOCK_EX | LOCK_NB) ? -errno : file_resize(file->fd, 0);
	if (error == 0)
		return 0;
	close(file->fd);
	file->fd = -1;
	return error;
}

/*
 * /dev/null, a terminal, a FIFO: there is only one of it, so that every tree writes to the path
 * itself. 1: opened; 0: the path is a file, or is not there yet. Never blocks: -ENXIO says that
 * the FIFO has no reader.
 */
static int open_stream(struct trace_file *file, const char *wanted)
{
	struct stat status;

	if (stat(wanted, &status) < 0 || S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
		return 0;
	if (!S_ISFIFO(status.st_mode) && !S_ISCHR(status.st_mode))
		return -EINVAL;
	if (text_format(file->path, sizeof(file->path), "%s", wanted) >= (int)sizeof(file->path))
		return -ENAMETOOLONG;
	file->fd = fd_move_up(open(wanted, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
	return file->fd < 0 ? -errno : 1;
}

static int open_some_path(struct trace_file *file, const char *wanted)
{
	int result = open_stream(file, wanted);
	uint32_t number;

	if (result)
		return result < 0 ? result : 0;
	number = tree_number(file->variable, wanted);
	result = make_path(file->path, wanted, number, false);
	if (result == 0)
		result = open_path(file);
	if (result == -EWOULDBLOCK) {
		result = make_path(file->path, wanted, number, true);
		if (result == 0)
			result = open_path(file);
	}
	return result;
}

static void stream_lock_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

/* A pipe takes large writes in parts: no other process writes between them. */
static int stream_write(struct trace_file *file, const char *lines, size_t bytes)
{
	pthread_mutex_t *mutex = &file->shared->stream;
	struct pollfd room = { .fd = file->fd, .events = POLLOUT };
	int result;

	/* Its holder was killed in the middle of a line, which stays torn. */
	if (pthread_mutex_lock(mutex) == EOWNERDEAD)
		pthread_mutex_consistent(mutex);
	for (;;) {
		size_t written;

		result = file_write(file->fd, lines, bytes, &written);
		lines += written;
		bytes -= written;
		if (result != -EAGAIN)
			break;
		if (poll(&room, 1, PIPE_PATIENCE_MS) == 0) {
			result = -ETIMEDOUT;
			break;
		}
	}
	pthread_mutex_unlock(mutex);
	return result;
}

static const char *why_it_ends(int error)
{
	return error == -EPIPE ? " (its reader has gone)" :
	       error == -ETIMEDOUT ? " (its reader takes nothing)" : error_hint(-error);
}

/* After a failure (no space) no process writes any more. */
static int write_to(struct trace_file *file, int fd, const char *text, size_t bytes)
{
	int result;

	if (!bytes || atomic_load_explicit(&file->shared->failed, memory_order_relaxed))
		return 0;
	result = file->is_file ? file_write(fd, text, bytes, NULL) :
				 stream_write(file, text, bytes);
	if (result < 0 && !atomic_exchange_explicit(&file->shared->failed, 1, memory_order_relaxed))
		log_at(LOG_WARN, "%s=%s ends here: %s%s", file->variable, text_short(file->path),
		       error_name(result), why_it_ends(result));
	return result;
}

static int lines_write(void *file, const char *lines, size_t bytes)
{
	return write_to(file, ((struct trace_file *)file)->fd, lines, bytes);
}

void trace_file_write(struct trace_file *file, const char *lines, size_t bytes)
{
	lines_write(file, lines, bytes);
}

void trace_file_append(struct trace_file *file, const void *chunk, size_t bytes)
{
	write_to(file, file->records, chunk, bytes);
}

/* ------------------------------------------------------------ open, join, leave */

static const char *what_is_right(int error)
{
	return error == -EMFILE || error == -ENFILE ? "the limit of descriptors (ulimit -n)" :
	       error == -ENXIO ? "this FIFO has no reader: start its reader first" :
	       error == -EINVAL ? "it should be a file, a FIFO or a device such as /dev/null" :
	       "it should be a path in a folder that exists and may be written to";
}

static struct trace_file *new_file(const char *variable, const char *last_line, char end)
{
	struct trace_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->records = -1;
	file->variable = variable;
	file->last_line = last_line;
	file->end = end;
	file->shared = mmap(NULL, sizeof(*file->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (file->shared == MAP_FAILED) {
		free(file);
		return NULL;
	}
	stream_lock_init(&file->shared->stream);
	return file;
}

int trace_file_open(enum variable number, const char *first_line, const char *last_line, char end,
		    struct trace_file **opened)
{
	const char *variable = variable_rows[number].name, *wanted = variable_text(number);
	struct trace_file *file;
	int result;

	*opened = NULL;
	if (!wanted)
		return 0;
	file = new_file(variable, last_line, end);
	if (!file)
		return error_set(-ENOMEM, "no memory for %s=%s", variable, text_short(wanted));
	result = open_some_path(file, wanted);
	if (result < 0) {
		munmap(file->shared, sizeof(*file->shared));
		if (result == -ENAMETOOLONG)
			error_set(
				result,
				"%s=\"%s\" has %zu bytes; at most %d are possible, "
				"with the number that a path gets which an earlier tree has "
				"written to",
				variable, text_short(wanted), strlen(wanted), PATH_MAX - 1);
		else
			error_set(result, "%s=%s: cannot write this file: %s; %s", variable,
				  text_short(wanted), error_name(-result), what_is_right(result));
		free(file);
		return result;
	}
	lines_write(file, first_line, strlen(first_line));
	*opened = file;
	return 0;
}

int trace_file_pipe(const char *variable, int fd, struct trace_file **opened)
{
	struct trace_file *file = new_file(variable, "", ',');

	if (!file)
		return error_set(-ENOMEM, "no memory for the trace of a tree on another host");
	file->fd = fd;
	strcpy(file->path, "the tree's root");
	*opened = file;
	return 0;
}

void trace_file_keep_records(struct trace_file *file)
{
	char path[PATH_MAX + sizeof(TRACE_RECORDS_SUFFIX)];

	if (!file->is_file)
		return;
	text_format(path, sizeof(path), "%s%s", file->path, TRACE_RECORDS_SUFFIX);
	/* Records of a tree that was killed are not those of this one. */
	unlink(path);
	file->records = fd_move_up(
		open(path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
}

bool trace_file_keeps_records(const struct trace_file *file)
{
	return file->records >= 0;
}

int32_t trace_file_lane(struct trace_file *file)
{
	return PROCESSES_MOST +
	       1 + atomic_fetch_add_explicit(&file->shared->lanes, 1, memory_order_relaxed);
}

uint32_t trace_file_join(struct trace_file *file)
{
	return 1 + atomic_fetch_add_explicit(&file->shared->joined, 1, memory_order_relaxed);
}

void trace_file_leave(struct trace_file *file)
{
	atomic_fetch_add_explicit(&file->shared->left, 1, memory_order_relaxed);
}

/* ------------------------------------------------------------------ lines */

void lines_flush(struct trace_lines *lines)
{
	if (lines->file && lines->used > 1 && trace_file_keeps_records(lines->file)) {
		lines->head = (struct chunk_head){
			.magic = CHUNK_MAGIC, .bytes = (uint32_t)(lines->used + 1),
		};
		lines->kind = RECORD_LINES;
		trace_file_append(lines->file, &lines->head,
				  sizeof(lines->head) + 1 + lines->used);
	} else if (lines->file && lines->used > 1) {
		trace_file_write(lines->file, lines->text, lines->used);
	}
	lines->used = 0;
}

void lines_begin(struct trace_lines *lines)
{
	if (lines->used + TRACE_LINE_BYTES > TRACE_LINES_BYTES)
		lines_flush(lines);
	/* Not behind a line that another process has left torn. */
	if (!lines->used)
		lines->text[lines->used++] = '\n';
	lines->stop = lines->used + TRACE_LINE_BYTES - 64;
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

void lines_add_text(struct trace_lines *lines, const char *text)
{
	char room[NAME_BYTES_MAX + 1];

	text = text_fit(room, sizeof(room), text);
	while (*text) {
		size_t length = text_character(text, strlen(text));

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

static void blank_torn_lines(char *text, size_t bytes, char end)
{
	char *line = memchr(text, '\n', bytes), *stop = text + bytes;

	for (line = line ? line + 1 : stop; line < stop;) {
		char *newline = memchr(line, '\n', (size_t)(stop - line));
		size_t length = (size_t)((newline ? newline : stop) - line);

		if (length && (!newline || !trace_line_is_whole(line, length, end)))
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
		log_at(LOG_WARN, "%s=%s: torn lines of a killed process stay in it: %s",
		       file->variable, text_short(file->path), error_name(errno));
		return;
	}
	blank_torn_lines(text, (size_t)status.st_size, file->end);
	munmap(text, (size_t)status.st_size);
}

/*
 * Cuts whole lines off the end to make room for `bytes`, by which the file could not grow. The rest
 * is as valid as a trace that ended earlier. Returns whether a line was cut.
 */
static bool make_room(const struct trace_file *file, size_t bytes)
{
	struct stat status;
	uint64_t cut;
	char byte;

	if (fstat(file->fd, &status) < 0 || (uint64_t)status.st_size <= bytes)
		return false;
	cut = (uint64_t)status.st_size - bytes;
	while (cut && pread(file->fd, &byte, 1, (off_t)cut - 1) == 1 && byte != '\n')
		cut--;
	return cut && file_resize(file->fd, cut) == 0;
}

/*
 * Begins a new line: the one before it may be torn. Also after a failure: the lines that did not
 * fit may have been longer, and the limit may be that of another process.
 */
static void write_end(struct trace_file *file)
{
	char text[END_BYTES_MAX];
	size_t bytes = (size_t)text_format(text, sizeof(text), "\n%s", file->last_line);
	bool failed = atomic_load(&file->shared->failed);
	struct stat before;

	if (!file->is_file) {
		lines_write(file, text, bytes);
		return;
	}
	atomic_store(&file->shared->failed, 0);
	if (fstat(file->fd, &before) < 0 || (failed ? file_write(file->fd, text, bytes, NULL) :
					     lines_write(file, text, bytes)) == 0)
		return;
	if (file_resize(file->fd, (uint64_t)before.st_size) == 0 && make_room(file, bytes))
		file_write(file->fd, text, bytes, NULL);
}

/* Also after a failure: lines of the records that were written. Whether one was torn. */
static bool write_lines(struct trace_file *file)
{
	char path[PATH_MAX + sizeof(TRACE_RECORDS_SUFFIX)];
	int result;

	atomic_store(&file->shared->failed, 0);
	result = convert_file(file->records, lines_write, file);
	if (result < 0 && !atomic_load(&file->shared->failed))
		log_at(LOG_WARN, "%s=%s ends here: %s%s", file->variable, text_short(file->path),
		       error_name(result), error_hint(-result));
	close(file->records);
	text_format(path, sizeof(path), "%s%s", file->path, TRACE_RECORDS_SUFFIX);
	unlink(path);
	return result < 0;
}

void trace_file_close(struct trace_file *file)
{
	struct shared *shared;
	bool torn;

	if (!file)
		return;
	shared = file->shared;
	if (trace_file_keeps_records(file))
		torn = write_lines(file);
	else
		torn = atomic_load(&shared->joined) != atomic_load(&shared->left) ||
		       atomic_load(&shared->failed);
	if (file->is_file && torn)
		repair(file);
	write_end(file);
	close(file->fd);
	munmap(shared, sizeof(*shared));
	free(file);
}
