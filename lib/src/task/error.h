/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The calling thread's last error text, and the log (log.c). The function that first sees an error
 * words it, once; callers above pass it on or put a path in front.
 */
#ifndef DW_TASK_ERROR_H
#define DW_TASK_ERROR_H

#include <stdatomic.h>

#define ERROR_TEXT_BYTES 512

/* Sets the text. */
void error_record(const char *format, ...) __attribute__((cold, format(printf, 1, 2)));
/*
 * The same; its value is `error`, a negative errno. It is no function, so that the compiler knows
 * which way a caller goes that looks at the value.
 */
#define error_set(error, ...) \
	({ \
		int error_value_ = (error); \
		error_record(__VA_ARGS__); \
		error_value_; \
	})
/* Puts text in front of the present text: "pod0/node1: " + text. Returns `error`. */
int error_prefix(int error, const char *format, ...) __attribute__((cold, format(printf, 2, 3)));
const char *error_text(void);
/*
 * "EIO", "SIGSEGV"; "errno 4711" for an unknown one. Valid for ever (thread-local for unknown
 * ones).
 */
const char *error_name(int error);
/*
 * Names the limit that may be the cause when a process, thread, descriptor or file space is
 * refused: " (…)"; else "".
 */
const char *error_hint(int error);
const char *error_signal_name(int signal);

/*
 * The log: lines up to DW_LOG=error|warn|info|debug to stderr, off by default, or up to the level
 * of dw_log_set() to that callback. Never blocks: a line that cannot be written at once is dropped
 * and counted, and the count is logged before the next line. Any thread, any lock.
 */
enum log_level { LOG_ERROR = 1, LOG_WARN, LOG_INFO, LOG_DEBUG };
extern _Atomic int log_threshold;
void log_write(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
#define log_at(level, ...) \
	do { \
		if (__builtin_expect((int)(level) <= atomic_load_explicit(&log_threshold, \
									  memory_order_relaxed), \
				     0)) \
			log_write(level, __VA_ARGS__); \
	} while (0)
/* This process forks no more for a while: the thread that calls the callback may start. */
void log_forks_done(void);

#endif
