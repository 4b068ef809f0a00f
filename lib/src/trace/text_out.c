/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind text_out.h. */
#include <stdlib.h>
#include "trace/text_out.h"

struct text_out *text_out_create(int (*write)(void *context, const char *text, size_t bytes),
				 void *context)
{
	struct text_out *out = malloc(sizeof(*out));

	if (!out)
		return NULL;
	out->write = write;
	out->context = context;
	out->error = 0;
	out->used = 0;
	return out;
}

int text_out_flush(struct text_out *out)
{
	if (out->used > 1 && !out->error)
		out->error = out->write(out->context, out->text, out->used);
	out->used = 0;
	return out->error;
}

void text_out_destroy(struct text_out *out)
{
	free(out);
}

void out_begin_line(struct text_out *out)
{
	if (out->used + OUT_LINE_BYTES > OUT_BYTES)
		text_out_flush(out);
	/* Not behind a line that another process has left torn. */
	if (!out->used)
		OUT(out, "\n");
}

void out_number(struct text_out *out, uint64_t value)
{
	char digits[20], *at = digits + sizeof(digits);

	do
		*--at = (char)('0' + value % 10);
	while (value /= 10);
	out_put(out, at, (size_t)(digits + sizeof(digits) - at));
}

void out_hex(struct text_out *out, uint64_t value)
{
	char digits[16], *at = digits + sizeof(digits);

	do
		*--at = "0123456789abcdef"[value & 15];
	while (value >>= 4);
	out_put(out, at, (size_t)(digits + sizeof(digits) - at));
}

void out_time(struct text_out *out, uint64_t ns)
{
	uint32_t rest = (uint32_t)(ns % 1000);
	char decimals[4] = {
		'.', (char)('0' + rest / 100), (char)('0' + rest / 10 % 10), (char)('0' + rest % 10)
	};

	out_number(out, ns / 1000);
	out_put(out, decimals, sizeof(decimals));
}

size_t text_character(const char *text, size_t length)
{
	const unsigned char *c = (const unsigned char *)text;
	size_t bytes = c[0] < 0x80 ? 1 : c[0] >= 0xc2 && c[0] < 0xe0 ? 2 :
		       c[0] >= 0xe0 && c[0] < 0xf0 ? 3 : c[0] >= 0xf0 && c[0] < 0xf5 ? 4 : 0;

	if (bytes > length)
		return 0;
	for (size_t i = 1; i < bytes; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, code points above U+10FFFF. */
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
	    (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	return bytes;
}

bool trace_line_is_whole(const char *line, size_t length, char end)
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
	return !text && !depth && length && line[length - 1] == end;
}

void out_escaped(struct text_out *out, const char *text, size_t length)
{
	for (size_t i = 0, bytes; i < length; i += bytes ? bytes : 1) {
		bytes = text_character(text + i, length - i);
		if (!bytes)
			OUT(out, "?");
		else if (text[i] == '"' || text[i] == '\\')
			out_put(out, text[i] == '"' ? "\\\"" : "\\\\", 2);
		else if ((unsigned char)text[i] < 0x20)
			OUT(out, " ");
		else
			out_put(out, text + i, bytes);
	}
}
