/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Texts that have to fit into so many bytes. One that does not is cut between two characters of
 * UTF-8 and ends with "…", so that its reader sees that there was more. A name in a message is
 * shortened in the middle instead, so that the message goes on behind it and names with the same
 * beginning can be told apart.
 *
 * All of it inline: drivers and the tool use it too. No state, any thread, any lock.
 */
#ifndef DW_BASE_TEXT_H
#define DW_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define TEXT_ELLIPSIS "…"
#define TEXT_ELLIPSIS_BYTES (sizeof(TEXT_ELLIPSIS) - 1)

/* The space of a name in a message: names up to TEXT_SHORT_BYTES - 1 bytes are shown whole. */
#define TEXT_SHORT_BYTES 112

static inline bool text_continues(char byte)
{
	return ((unsigned char)byte & 0xc0) == 0x80;
}

/* At most `length`: as many of the first bytes of `text` as end with a whole character. */
static inline size_t text_border(const char *text, size_t length)
{
	size_t lead = length, bytes;
	unsigned char first;

	while (lead && length - lead < 3 && text_continues(text[lead - 1]))
		lead--;
	if (!lead)
		return length;
	first = (unsigned char)text[lead - 1];
	bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
	/* Text that is not UTF-8 is cut anywhere. */
	return length - (lead - 1) < bytes ? lead - 1 : length;
}

/* `text` has filled its `space` bytes, and there was more. */
static inline void text_cut(char *text, size_t space)
{
	size_t used;

	if (space <= TEXT_ELLIPSIS_BYTES) {
		if (space)
			text[text_border(text, space - 1)] = '\0';
		return;
	}
	used = text_border(text, space - 1 - TEXT_ELLIPSIS_BYTES);
	memcpy(text + used, TEXT_ELLIPSIS, sizeof(TEXT_ELLIPSIS));
}

/* As vsnprintf(), but for how a text is cut. */
__attribute__((format(printf, 3, 0)))
static inline int text_vformat(char *to, size_t space, const char *format, va_list list)
{
	int length = vsnprintf(to, space, format, list);

	if (length < 0 && space)
		to[0] = '\0';
	if (length > 0 && (size_t)length >= space)
		text_cut(to, space);
	return length;
}

/* As snprintf(), but for how a text is cut. */
__attribute__((format(printf, 3, 4)))
static inline int text_format(char *to, size_t space, const char *format, ...)
{
	va_list list;
	int length;

	va_start(list, format);
	length = text_vformat(to, space, format, list);
	va_end(list);
	return length;
}

static inline void text_copy(char *to, size_t space, const char *text)
{
	size_t length = strnlen(text, space);

	memcpy(to, text, length < space ? length + 1 : space);
	if (length == space)
		text_cut(to, space);
}

/* A name: one that does not fit is shortened in the middle. Returns `to`. */
static inline const char *text_fit(char *to, size_t space, const char *name)
{
	size_t length = strnlen(name, space), head, tail;

	if (length < space) {
		memcpy(to, name, length + 1);
		return to;
	}
	if (space < 2 * TEXT_ELLIPSIS_BYTES + 2) {
		text_copy(to, space, name);
		return to;
	}
	length = strlen(name);
	head = (space - 1 - TEXT_ELLIPSIS_BYTES) / 2;
	tail = length - (space - 1 - TEXT_ELLIPSIS_BYTES - head);
	head = text_border(name, head);
	for (int i = 0; i < 3 && text_continues(name[tail]); i++)
		tail++;
	memcpy(to, name, head);
	memcpy(to + head, TEXT_ELLIPSIS, TEXT_ELLIPSIS_BYTES);
	strcpy(to + head + TEXT_ELLIPSIS_BYTES, name + tail);
	return to;
}

static inline const char *text_shorten(const char *name, char room[TEXT_SHORT_BYTES])
{
	if (!name)
		return "";
	return strnlen(name, TEXT_SHORT_BYTES) < TEXT_SHORT_BYTES ? name :
	       text_fit(room, TEXT_SHORT_BYTES, name);
}

static inline const char *text_limit(const char *text, char *room, size_t space)
{
	if (strnlen(text, space) < space)
		return text;
	text_copy(room, space, text);
	return room;
}

/*
 * A text in a longer one that goes on behind it: at most `most` bytes; valid to the end of the
 * block.
 */
#define text_limited(text, most) text_limit(text, (char[(most) + 1]){ 0 }, (most) + 1)
/* A name as it stands in a message; valid to the end of the block. NULL: "". */
#define text_short(name) text_shorten(name, (char[TEXT_SHORT_BYTES]){ 0 })

#endif
