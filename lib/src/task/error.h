/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The calling thread's last error text, and the log. Whoever first sees an error
 * words it, once; callers above pass it on or put a path in front.
 */
#ifndef DW_TASK_ERROR_H
#define DW_TASK_ERROR_H

#define ERROR_TEXT_BYTES 512

/* Sets the text and returns `error` (a negative errno). */
int error_set(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts text in front of what is there: "pod0/node1: " + text. Returns `error`. */
int error_prefix(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *error_text(void);
/* "EIO", "SIGSEGV"; "errno 4711" for an unknown one. Valid for ever (thread-local for unknown ones). */
const char *error_name(int error);
/* Which limit it is when no process, thread, descriptor or room in a file can be had: " (…)"; else "". */
const char *error_hint(int error);
const char *error_signal_name(int signal);

/* DW_LOG=error|warn|info|debug: written to stderr, one write() per line. Off by default. */
enum log_level { LOG_ERROR = 1, LOG_WARN, LOG_INFO, LOG_DEBUG };
extern int log_threshold;	/* 0 until DW_LOG was read, then constant */
void log_write(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
#define log_at(level, ...) \
	do { \
		if (__builtin_expect((int)(level) <= log_threshold, 0)) \
			log_write(level, __VA_ARGS__); \
	} while (0)

#endif
