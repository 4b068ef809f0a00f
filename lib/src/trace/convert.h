/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * convert: the records of a trace (record.h) as trace events: the JSON array format of Chrome and
 * Perfetto, one event per line. The tool compiles it, too, for a trace whose root was killed.
 *
 * Invariant: whatever the records are, each line is whole and valid JSON. Records that are none end
 * their chunk; behind a chunk that a killed process has left torn the next one is looked for.
 *
 * Owns: struct converter, one for each writer. No locks: of one thread.
 */
#ifndef DW_TRACE_CONVERT_H
#define DW_TRACE_CONVERT_H

#include <stddef.h>
#include <stdint.h>

struct text_out;

struct converter;
struct converter *converter_create(void);
/* The records of one chunk, in the order of their writer. */
void converter_take(struct converter *converter, const unsigned char *records, size_t bytes,
		    struct text_out *out);
/* NULL is fine. */
void converter_destroy(struct converter *converter);

/* All chunks of a file. 0, -errno of `write`, of a read, or -ENOMEM. */
int convert_file(int fd, int (*write)(void *context, const char *text, size_t bytes),
		 void *context);

#define TRACE_FIRST_LINE "[\n"
#define TRACE_LAST_LINE "{\"ph\":\"M\",\"pid\":0,\"name\":\"trace_end\",\"args\":{}}\n]\n"
/* Behind the name of the trace: where the records lie while its tree runs. */
#define TRACE_RECORDS_SUFFIX ".records"

#endif
