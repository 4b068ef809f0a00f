/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* How the structs of the public interface grow: options.h has the rules. */
#include <errno.h>
#include <string.h>
#include "task/error.h"
#include "task/options.h"

static size_t size_of(const void *options)
{
	size_t size;

	memcpy(&size, options, sizeof(size));
	return size;
}

int options_check_size(size_t given, const char *name)
{
	if (given >= sizeof(size_t) && given <= OPTIONS_SIZE_MAX)
		return 0;
	return error_set(
		given < sizeof(size_t) ? -EINVAL : -E2BIG,
		"struct %s: its size is %zu; it should be sizeof(struct %s), between %zu and %d",
		name, given, name, sizeof(size_t), OPTIONS_SIZE_MAX);
}

int options_copy(void *to, size_t known, const void *from, size_t given, const char *name)
{
	const unsigned char *bytes = from;
	int result = options_check_size(given, name);

	if (result < 0)
		return result;
	for (size_t i = known; i < given; i++)
		if (bytes[i])
			return error_set(
				-E2BIG,
				"struct %s: the program's has %zu bytes, this library "
				"(%s) knows %zu, "
				"and byte %zu is set: a newer library is needed, or 0",
				name, given, DW_VERSION, known, i);
	if (given > known)
		given = known;
	memcpy(to, from, given);
	memset((char *)to + given, 0, known - given);
	return 0;
}

int options_read(void *to, size_t known, const void *from, const char *name)
{
	int result;

	if (!from)
		return error_set(
			-EINVAL,
			"struct %s: it is NULL; it should be initialised with DW_OPTIONS(%s)", name,
			name);
	result = options_copy(to, known, from, size_of(from), name);
	if (result == 0)
		memcpy(to, &known, sizeof(known));
	return result;
}

void options_fill(void *to, size_t given, const void *from, size_t known)
{
	if (given < known)
		known = given;
	memcpy(to, from, known);
	memset((char *)to + known, 0, given - known);
}

int options_check_output(const void *to, const char *name)
{
	if (!to)
		return error_set(
			-EINVAL,
			"struct %s: it is NULL; it should be initialised with DW_OPTIONS(%s)", name,
			name);
	return options_check_size(size_of(to), name);
}

void options_write(void *to, const void *from, size_t known)
{
	size_t given = size_of(to);

	options_fill(to, given, from, known);
	memcpy(to, &given, sizeof(given));
}
