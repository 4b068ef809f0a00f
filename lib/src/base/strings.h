/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A list of strings that grows, each of them once: names of drivers and jobs, folders. Inline, for
 * the tool as well. A list belongs to its caller.
 */
#ifndef DW_BASE_STRINGS_H
#define DW_BASE_STRINGS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct strings {
	char **items;
	size_t count, space;
};

static inline bool strings_have(const struct strings *strings, const char *text, size_t length)
{
	for (size_t i = 0; i < strings->count; i++)
		if (strncmp(strings->items[i], text, length) == 0 && !strings->items[i][length])
			return true;
	return false;
}

/* Appends a copy of the first `length` bytes, unless it is there already. -ENOMEM. */
static inline int strings_add(struct strings *strings, const char *text, size_t length)
{
	char **grown = strings->items, *copy;

	if (strings_have(strings, text, length))
		return 0;
	if (strings->count == strings->space) {
		size_t space = strings->space ? 2 * strings->space : 16;

		grown = realloc(grown, space * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		strings->items = grown;
		strings->space = space;
	}
	copy = strndup(text, length);
	if (!copy)
		return -ENOMEM;
	grown[strings->count++] = copy;
	return 0;
}

static inline int strings_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline void strings_sort(struct strings *strings)
{
	if (strings->count)
		qsort(strings->items, strings->count, sizeof(*strings->items), strings_compare);
}

static inline void strings_release(struct strings *strings)
{
	while (strings->count)
		free(strings->items[--strings->count]);
	free(strings->items);
	*strings = (struct strings){ 0 };
}

#endif
