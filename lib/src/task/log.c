// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The log: to stderr, or to the application's callback.
 *
 * A line is one send() or one write(), which never blocks and takes no lock, so that any thread may
 * log with any lock. For a callback the lines go through a socket, from this process and from the
 * children that inherit its sending end; a thread of the process that set the callback reads the
 * other end and calls. A line that finds the socket, or stderr, full is dropped and counted; the
 * next one that gets through comes behind a line that tells the count.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <distworker/distworker.h>
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "task/environment.h"
#include "task/error.h"

#define LOG_TEXT_BYTES 960
#define LOG_LINE_BYTES 1024

/* A message on the socket holds one record. */
struct record {
	int32_t level;			/* enum log_level; 0: the reader is to end */
	int32_t pid;
	char text[LOG_TEXT_BYTES];
};

_Static_assert((int)LOG_ERROR == (int)DW_LOG_ERROR && (int)LOG_DEBUG == (int)DW_LOG_DEBUG,
	       "levels are the public ones");

_Atomic int log_threshold;
static int stderr_threshold;		/* of DW_LOG */
static _Atomic uint64_t dropped;
static _Atomic int send_fd = -1;	/* -1: no callback */

/*
 * The rest belongs to the process that called dw_log_set(). The socket stays for good, since
 * children have it. Guarded by the mutex, except for `sink`, which only the reader touches once it
 * runs.
 */
struct sink {
	dw_log_fn *fn;			/* NULL: stderr, up to DW_LOG's level */
	void *context;
	int level;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct sink sink, next_sink;
static bool next_wanted;		/* the reader is to take next_sink over */
static int ends[2] = { -1, -1 };	/* reader's, writers' */
static pid_t owner;			/* of all this; 0: no process yet */
static bool reader_runs, forks_done;
static _Thread_local bool is_reader;

static const char *const level_names[] = {
	[LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};

/* ------------------------------------------------------------------- writing */

/* To a pipe without waiting even if another process has just filled it, where the kernel can. */
static ssize_t write_no_wait(int fd, const char *line, size_t bytes, bool is_pipe)
{
#ifdef RWF_NOWAIT
	struct iovec part = { (void *)line, bytes };
	ssize_t written = is_pipe ? pwritev2(fd, &part, 1, -1, RWF_NOWAIT) : -1;

	if (is_pipe &&
	    (written >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)))
		return written;
#endif
	(void)is_pipe;
	return write(fd, line, bytes);
}

/*
 * Writes a line at once, or not at all: false when it was dropped because there was no room. A pipe
 * that poll() calls writable has room for a whole line.
 */
static bool write_at_once(int fd, const char *line, size_t bytes)
{
	struct pollfd poller = { .fd = fd, .events = POLLOUT };
	struct file_signals blocked;
	struct stat stat;
	ssize_t written;
	int error;

	if (fstat(fd, &stat) < 0)
		return true;
	if (S_ISSOCK(stat.st_mode))
		return send(fd, line, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EAGAIN;
	if (!S_ISREG(stat.st_mode) &&
	    (poll(&poller, 1, 0) != 1 || !(poller.revents & (POLLOUT | POLLERR))))
		return false;
	file_signals_block(&blocked);
	written = write_no_wait(fd, line, bytes, S_ISFIFO(stat.st_mode));
	error = errno;
	file_signals_take(&blocked, written < 0);
	return written >= 0 || error != EAGAIN;
}

/* False: there was no room for it. A reader that is gone, or a closed stderr, takes everything. */
static bool put(enum log_level level, const char *text)
{
	struct record record = { .level = (int32_t)level, .pid = getpid() };
	int fd = atomic_load_explicit(&send_fd, memory_order_acquire);
	char line[LOG_LINE_BYTES];
	int length;

	if (fd < 0) {
		length = text_format(line, sizeof(line), "distworker[%d] %s: %s\n", (int)record.pid,
				  level_names[level], text);
		/* One write, so that lines of several processes do not mix. */
		return length < 0 || write_at_once(STDERR_FILENO, line, (size_t)length);
	}
	length = text_format(record.text, sizeof(record.text), "%s", text);
	return length < 0 || send(fd, &record, offsetof(struct record, text) + (size_t)length + 1,
				  MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EAGAIN;
}

/* Says how many lines were dropped. False: there is no room for that either. */
static bool tell_dropped(void)
{
	uint64_t count = atomic_exchange_explicit(&dropped, 0, memory_order_relaxed);
	char text[128];

	if (!count)
		return true;
	snprintf(text, sizeof(text),
		 "%llu lines of the log were dropped here, because its reader was too slow",
		 (unsigned long long)count);
	if (put(LOG_WARN, text))
		return true;
	atomic_fetch_add_explicit(&dropped, count, memory_order_relaxed);
	return false;
}

void log_write(enum log_level level, const char *format, ...)
{
	char text[LOG_TEXT_BYTES];
	int saved = errno;
	va_list list;

	va_start(list, format);
	text_vformat(text, sizeof(text), format, list);
	va_end(list);
	if (!tell_dropped() || !put(level, text))
		atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
	errno = saved;
}

/* Before other constructors, which may log; no other thread can exist yet. */
__attribute__((constructor(101))) static void read_threshold(void)
{
	int number = environment_number(VARIABLE_LOG, -1);

	if (number == -1)
		return;
	stderr_threshold = number < 0 ? LOG_ERROR : LOG_ERROR + number;
	atomic_store_explicit(&log_threshold, stderr_threshold, memory_order_relaxed);
	if (number < 0)
		log_write(LOG_ERROR, "DW_LOG is \"%s\"; it can be error, warn, info or debug",
			  text_short(variable_text(VARIABLE_LOG)));
	environment_check();
}

/* ------------------------------------------------------------------ callback */

/* A mark was read: all lines sent before it have been delivered. */
static void take_over(void)
{
	pthread_mutex_lock(&mutex);
	if (next_wanted)
		sink = next_sink;
	next_wanted = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
}

static void tell(const struct record *record)
{
	char line[LOG_LINE_BYTES];
	int length;

	if (record->level < LOG_ERROR || record->level > sink.level)
		return;
	if (sink.fn) {
		sink.fn((enum dw_log_level)record->level, record->pid, record->text, sink.context);
		return;
	}
	/* Of a child that was forked while there was a callback. */
	length = text_format(line, sizeof(line), "distworker[%d] %s: %s\n", (int)record->pid,
			  level_names[record->level], record->text);
	if (length > 0 && !write_at_once(STDERR_FILENO, line, (size_t)length))
		atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
}

static void *read_records(void *unused)
{
	struct record record;
	ssize_t length;

	(void)unused;
	is_reader = true;
	for (;;) {
		length = recv(ends[0], &record, sizeof(record), 0);
		if (length < 0 && errno == EINTR)
			continue;
		if (length < (ssize_t)offsetof(struct record, text))
			return NULL;
		((char *)&record)[length < (ssize_t)sizeof(record) ? length :
				  (ssize_t)sizeof(record) - 1] = '\0';
		if (!record.level)
			take_over();
		else
			tell(&record);
	}
}

/* With the mutex. The library's threads take none of the application's signals. */
static int start_reader(void)
{
	sigset_t all, before;
	pthread_t reader;
	int result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(&reader, NULL, read_records, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (result)
		return error_set(-result, "no thread for the log's callback: %s%s",
				 error_name(result), error_hint(result));
	pthread_detach(reader);
	reader_runs = true;
	return 0;
}

void log_forks_done(void)
{
	pthread_mutex_lock(&mutex);
	forks_done = true;
	/* Without a thread the lines stay in the socket until there is one. */
	if (owner == getpid() && !reader_runs)
		start_reader();
	pthread_mutex_unlock(&mutex);
}

/* With the mutex. Makes the socket of this process and closes an inherited one. */
static int make_socket(void)
{
	int made[2];

	if (owner == getpid())
		return 0;
	if (fd_move_pair_up(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, made), made) < 0)
		return error_set(-errno, "no socket for the log's callback: %s%s",
				 error_name(errno), error_hint(errno));
	for (int i = 0; i < 2; i++) {
		if (ends[i] >= 0)
			close(ends[i]);
		ends[i] = made[i];
	}
	owner = getpid();
	reader_runs = false;
	next_wanted = false;
	return 0;
}

/* With the mutex, which is dropped meanwhile. */
static void hand_to_reader(const struct sink *wanted)
{
	const struct record mark = { .level = 0 };

	while (next_wanted)
		pthread_cond_wait(&changed, &mutex);
	next_sink = *wanted;
	next_wanted = true;
	pthread_mutex_unlock(&mutex);
	/* This one may wait for room: the reader makes it. */
	while (send(ends[1], &mark, offsetof(struct record, text), MSG_NOSIGNAL) < 0 &&
	       errno == EINTR)
		;
	pthread_mutex_lock(&mutex);
	while (next_wanted)
		pthread_cond_wait(&changed, &mutex);
}

DW_API int dw_log_set(dw_log_fn *fn, void *context, enum dw_log_level level)
{
	struct sink wanted = { .fn = fn,
			       .context = context,
			       .level = fn ? (int)level : stderr_threshold };
	int result = 0;

	if (is_reader)
		return error_set(-EDEADLK, "dw_log_set: the call is made by a log callback");
	if (fn && (level < DW_LOG_ERROR || level > DW_LOG_DEBUG))
		return error_set(-EINVAL,
				 "dw_log_set: level is %d; it should be %d (error) to %d (debug)",
				 (int)level, DW_LOG_ERROR, DW_LOG_DEBUG);
	pthread_mutex_lock(&mutex);
	if (fn)
		result = make_socket();
	if (result == 0 && fn && forks_done && !reader_runs)
		result = start_reader();
	if (result == 0) {
		/* First, the lines of other threads go to the new destination. */
		atomic_store_explicit(&send_fd, fn ? ends[1] : -1, memory_order_release);
		atomic_store_explicit(&log_threshold, wanted.level, memory_order_relaxed);
		if (owner == getpid() && reader_runs)
			hand_to_reader(&wanted);
		else
			sink = wanted;
	}
	pthread_mutex_unlock(&mutex);
	return result;
}
