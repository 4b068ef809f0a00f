/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Helpers that every driver of this folder needs and the public interface does not give:
 * error sentences, "key=value,…" options, numbers with units, element sizes. All of it
 * inline: drivers link nothing of the library. No state, any thread.
 */
#ifndef DW_CHIP_DRIVER_KIT_H
#define DW_CHIP_DRIVER_KIT_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <distworker/chip.h>
#include "base/text.h"

#define KIT_VALUE_BYTES 4096

/* Sets the error's text, unless an earlier one is there already, and returns `code`. */
__attribute__((format(printf, 3, 4)))
static inline int kit_fail(struct dw_chip_error *error, int code, const char *format, ...)
{
	va_list list;

	if (error->text[0])
		return code;
	va_start(list, format);
	text_vformat(error->text, sizeof(error->text), format, list);
	va_end(list);
	return code;
}

struct kit_option {
	char key[32];
	char value[KIT_VALUE_BYTES];
};

/*
 * Cuts the next option off *cursor. 1 with *option, 0 at the end, -EINVAL. In a value a
 * comma or a backslash is written with a backslash before it.
 */
static inline int kit_option_next(const char **cursor, struct kit_option *option,
				  struct dw_chip_error *error)
{
	const char *text = *cursor;
	size_t length = 0;

	if (!text)
		return 0;
	while (*text == ',')
		text++;
	if (!*text)
		return 0;
	while (text[length] && text[length] != '=' && text[length] != ',')
		length++;
	if (text[length] != '=')
		return kit_fail(error, -EINVAL,
				"driver option \"%.*s\" has no value: write %.*s=VALUE",
				(int)text_border(text, length < 64 ? length : 64), text,
				(int)text_border(text, length < 64 ? length : 64), text);
	if (length == 0 || length >= sizeof(option->key))
		return kit_fail(
			error, -EINVAL,
			"driver option \"%.*s\" has a key of %zu bytes: 1 to %zu are possible",
			(int)text_border(text, length < 64 ? length : 64), text, length,
			sizeof(option->key) - 1);
	memcpy(option->key, text, length);
	option->key[length] = '\0';
	text += length + 1;
	for (length = 0; *text && *text != ','; text++) {
		if (*text == '\\' && (text[1] == ',' || text[1] == '\\'))
			text++;
		if (length + 1 == sizeof(option->value))
			return kit_fail(error, -EINVAL,
					"the value of driver option %s is longer than %zu bytes",
					option->key, sizeof(option->value) - 1);
		option->value[length++] = *text;
	}
	option->value[length] = '\0';
	*cursor = text;
	return 1;
}

/* A whole number in [minimum, maximum], with K, M, G, T for powers of 1024. */
static inline int kit_number(const struct kit_option *option, uint64_t minimum, uint64_t maximum,
			     uint64_t *number, struct dw_chip_error *error)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end = NULL;
	unsigned long long value;
	unsigned int shift = 0;

	errno = 0;
	value = strtoull(option->value, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
	}
	if (errno || end == option->value || *end || option->value[0] < '0' ||
	    option->value[0] > '9' || value > UINT64_MAX >> shift || value << shift < minimum ||
	    value << shift > maximum)
		return kit_fail(error, -EINVAL,
				"driver option %s=%s: a whole number from %llu to %llu is wanted",
				option->key, text_short(option->value), (unsigned long long)minimum,
				(unsigned long long)maximum);
	*number = value << shift;
	return 0;
}

/* Bytes of an element; 0 for an unknown type. The library has checked those of a call. */
static inline uint64_t kit_dtype_bytes(int dtype)
{
	switch (dtype) {
	case DW_INT8: case DW_UINT8: case DW_BOOL:
		return 1;
	case DW_FLOAT16: case DW_BFLOAT16: case DW_INT16: case DW_UINT16:
		return 2;
	case DW_FLOAT32: case DW_INT32: case DW_UINT32:
		return 4;
	case DW_INT64: case DW_UINT64: case DW_FLOAT64:
		return 8;
	default:
		return 0;
	}
}

/* dw_chip_call.cancelled: the library sets it while the call runs. */
static inline bool kit_cancelled(const volatile uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* Copies as much as fits into a caller's struct that begins with `size`, and zeroes the rest. */
#define KIT_GIVE(target, source) \
	do { \
		size_t kit_size = (target)->size; \
		(source)->size = kit_size; \
		memcpy(target, source, \
		       kit_size < sizeof(*(source)) ? kit_size : sizeof(*(source))); \
		if (kit_size > sizeof(*(source))) \
			memset((char *)(target) + sizeof(*(source)), 0, \
			       kit_size - sizeof(*(source))); \
	} while (0)

/* Element i of the array that enumerate fills; elements lie `size` bytes apart. */
static inline struct dw_chip_properties *kit_properties_at(struct dw_chip_properties *properties,
							   size_t i)
{
	return (struct dw_chip_properties *)(void *)((char *)properties + i * properties->size);
}

/* Notes a copy that was made for a call, if the library asked for copies. */
static inline void kit_copied(struct dw_chip_copies *copies, struct dw_chip_copy copy)
{
	struct dw_chip_copy *entry;

	if (!copies || copies->count >= copies->space)
		return;
	entry = (void *)((char *)copies->entries + copies->count++ * copies->entries->size);
	KIT_GIVE(entry, &copy);
}

/*
 * `from` begins with its size: `to`, of `known` bytes, becomes it. Missing bytes are 0; -E2BIG if
 * an unknown byte is not 0.
 */
static inline int kit_take(void *to, size_t known, const void *from, const char *name,
			   struct dw_chip_error *error)
{
	size_t size;

	memcpy(&size, from, sizeof(size));
	if (size < sizeof(size))
		return kit_fail(error, -EINVAL,
				"%s: its size is %zu: initialise it with DW_OPTIONS(%s)", name,
				size, name);
	for (size_t i = known; i < size; i++)
		if (((const char *)from)[i])
			return kit_fail(
				error, -E2BIG,
				"%s: byte %zu of %zu is not 0, and this driver knows %zu bytes: it "
				"is older than its caller",
				name, i, size, known);
	memset(to, 0, known);
	memcpy(to, from, size < known ? size : known);
	memcpy(to, &known, sizeof(known));
	return 0;
}

/* A call of another size is copied to `room`, and *call points there then. */
static inline int kit_take_call(const struct dw_chip_call **call, struct dw_chip_call *room,
				struct dw_chip_error *error)
{
	static const volatile uint32_t never;
	int status;

	if ((*call)->size == sizeof(**call))
		return 0;
	status = kit_take(room, sizeof(*room), *call, "dw_chip_call", error);
	if (status < 0)
		return status;
	if (!room->cancelled)
		room->cancelled = &never;
	*call = room;
	return 0;
}

static inline int kit_take_spec(const struct dw_chip_image_spec **spec,
				struct dw_chip_image_spec *room, struct dw_chip_error *error)
{
	int status;

	if ((*spec)->size == sizeof(**spec))
		return 0;
	status = kit_take(room, sizeof(*room), *spec, "dw_chip_image_spec", error);
	if (status == 0)
		*spec = room;
	return status;
}

#endif
