/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A file of whole lines into which all processes of a tree write: that of DW_TRACE or of DW_GRAPH.
 * The root opens it before its first fork and closes it when no other writer is left; a writer
 * appends whole lines, or whole chunks of records, with one write().
 *
 * Invariant: after the close every line but the first and the last ends with `end` and is balanced.
 * A process that was killed in the middle of a write leaves a torn line; the owner sees that a
 * writer has not said goodbye, looks for such lines, and overwrites them with blanks. Records, torn
 * or not, lie in a file of their own beside it, of which the close makes lines.
 */
#ifndef DW_TRACE_FILE_H
#define DW_TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/variables.h"
#include "trace/record.h"

struct trace_file;

/*
 * The value of `variable` is the path. 0 with *file NULL when it is not set. A path that another
 * tree is writing to gets ".PID" before its last dot; the path of this process's tree number N,
 * from the second on, gets ".N".
 */
int trace_file_open(enum variable variable, const char *first_line, const char *last_line, char end,
		    struct trace_file **file);
/*
 * A pipe whose reader hands the lines on to a tree on another host. It is the caller's, and
 * non-blocking; the lines are those of `variable`. -ENOMEM.
 */
int trace_file_pipe(const char *variable, int fd, struct trace_file **file);
/*
 * Records are kept in "PATH.records" until the close. Where that cannot be made, and for a stream,
 * their writers make lines of them at once.
 */
void trace_file_keep_records(struct trace_file *file);
bool trace_file_keeps_records(const struct trace_file *file);
/* Lines, or nothing where records are kept; a chunk of records. Failures are told in the log. */
void trace_file_write(struct trace_file *file, const char *lines, size_t bytes);
void trace_file_append(struct trace_file *file, const void *chunk, size_t bytes);
/* A number that no process of this host has, and that is given once; by any process. */
int32_t trace_file_lane(struct trace_file *file);
/* By the process that opened it. NULL is fine. */
void trace_file_close(struct trace_file *file);

/* Around a writer's life: a Worker's engine, in any process. Its number, from 1 on. */
uint32_t trace_file_join(struct trace_file *file);
void trace_file_leave(struct trace_file *file);

/*
 * The lines that a writer has not written yet; the engine's lock guards them. A line is made of
 * lines_begin(), any of the others, lines_end(); a line is cut after TRACE_LINE_BYTES.
 */
#define TRACE_LINE_BYTES ((size_t)8192)
#define TRACE_LINES_BYTES (8 * TRACE_LINE_BYTES)

struct trace_lines {
	struct trace_file *file;	/* NULL: nothing is kept */
	size_t used, stop;		/* stop: where this line has to end */
	struct {			/* a chunk of one record, where records are kept */
		struct chunk_head head;
		char kind;
		char text[TRACE_LINES_BYTES];
	};
};

void lines_begin(struct trace_lines *lines);
void lines_add(struct trace_lines *lines, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A name, as a JSON string (DOT takes it too), quotes included; cut after 200 bytes. */
void lines_add_string(struct trace_lines *lines, const char *text);
/* Its inside only. */
void lines_add_text(struct trace_lines *lines, const char *text);
/* Nanoseconds as microseconds with three decimals. */
void lines_add_time(struct trace_lines *lines, const char *key, uint64_t ns);
void lines_end(struct trace_lines *lines, const char *end);
void lines_flush(struct trace_lines *lines);

#endif
