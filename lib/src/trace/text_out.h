/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * text_out: lines of JSON on their way to a file, in parts of whole lines. The tool compiles it,
 * too (convert.h).
 *
 * Invariant: a line has less than OUT_LINE_BYTES: its maker limits what is in it.
 *
 * Owns: struct text_out. No locks: of one thread.
 */
#ifndef DW_TRACE_TEXT_OUT_H
#define DW_TRACE_TEXT_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define OUT_BYTES	((size_t)65536)
#define OUT_LINE_BYTES	((size_t)8192)

struct text_out {
	int (*write)(void *context, const char *text, size_t bytes);
	void *context;
	int error;
	size_t used;
	char text[OUT_BYTES];
};

/* NULL: no memory. */
struct text_out *text_out_create(int (*write)(void *context, const char *text, size_t bytes),
				 void *context);
/* 0, or the first error that `write` returned; behind it nothing is written. */
int text_out_flush(struct text_out *out);
/* NULL is fine. */
void text_out_destroy(struct text_out *out);

static inline void out_put(struct text_out *out, const char *text, size_t bytes)
{
	memcpy(out->text + out->used, text, bytes);
	out->used += bytes;
}

#define OUT(out, literal) out_put(out, literal, sizeof(literal) - 1)

/* Makes room for a line. */
void out_begin_line(struct text_out *out);
void out_number(struct text_out *out, uint64_t value);
void out_hex(struct text_out *out, uint64_t value);
/* Nanoseconds as microseconds with three decimals. */
void out_time(struct text_out *out, uint64_t ns);
/* The inside of a JSON string. */
void out_escaped(struct text_out *out, const char *text, size_t length);

/* Whether brackets and quotes outside strings match, and `end` ends it. */
bool trace_line_is_whole(const char *line, size_t length, char end);
/* Bytes of the UTF-8 character at `text`, of `length` bytes; 0: there is none. */
size_t text_character(const char *text, size_t length);

#endif
