/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Reads the digits: rows of 64 pixels (0–16) and a digit (0–9), comma-separated,
 * plain or gzipped. Errors name the file, the row and the
 * column. Used by jobs only (zlib, stdio); allocates nothing but zlib's buffer.
 */
#ifndef DISTWORKER_JOBS_DIGITS_DATA_H
#define DISTWORKER_JOBS_DIGITS_DATA_H

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <distworker/job.h>
#include "base/text.h"

#define DIGITS_PIXELS 64
#define DIGITS_CLASSES 10
#define DIGITS_COLUMNS (DIGITS_PIXELS + 1)
#define DIGITS_PIXEL_MAX 16
#define DIGITS_LINE_BYTES 512

struct digits_error {
	const char *path;
	char text[320];		/* a completion carries no more */
};

/* "FILE: " and the text; a long path is shortened. Returns -error. */
__attribute__((format(printf, 3, 4)))
static int digits_fail(struct digits_error *error, int code, const char *format, ...)
{
	va_list list;
	size_t used;

	used = (size_t)snprintf(error->text, sizeof(error->text), "%s: ", text_short(error->path));
	va_start(list, format);
	text_vformat(error->text + used, sizeof(error->text) - used, format, list);
	va_end(list);
	return -code;
}

/* Called for each row, counted from 1; a non-zero result ends the reading and is returned. */
typedef int digits_row_fn(void *context, uint32_t row, const uint8_t values[DIGITS_COLUMNS],
			  struct digits_error *error);

/* One line, without its newline, into values. */
static int digits_parse(uint32_t row, const char *line, uint8_t values[DIGITS_COLUMNS],
			struct digits_error *error)
{
	const char *field = line;

	for (uint32_t column = 1; column <= DIGITS_COLUMNS; column++) {
		uint32_t limit = column < DIGITS_COLUMNS ? DIGITS_PIXEL_MAX : DIGITS_CLASSES - 1;
		size_t length = strcspn(field, ",");
		bool last = !field[length];
		uint32_t value = 0;
		size_t i;

		for (i = 0; i < length && i < 3 && field[i] >= '0' && field[i] <= '9'; i++)
			value = value * 10 + (uint32_t)(field[i] - '0');
		if (!length || i < length || value > limit)
			return digits_fail(
				error, EBADMSG,
				"row %u, column %u: \"%.*s\" is not a number from 0 to %u", row,
				column, (int)text_border(field, length < 40 ? length : 40), field,
				limit);
		if (last != (column == DIGITS_COLUMNS))
			return digits_fail(error, EBADMSG,
					   "row %u, column %u: %s; a row has %d columns", row,
					   last ? column : column + 1,
					   last ? "the row ends here" : "there are more",
					   DIGITS_COLUMNS);
		values[column - 1] = (uint8_t)value;
		field += length + 1;
	}
	return 0;
}

static int digits_read_lines(gzFile file, digits_row_fn *row_fn, void *context,
			     struct digits_error *error)
{
	uint8_t values[DIGITS_COLUMNS];
	char line[DIGITS_LINE_BYTES];
	uint32_t row = 0;

	while (gzgets(file, line, sizeof(line))) {
		size_t length = strlen(line);
		int err, zerr;

		/* Half a line is all that a broken stream gives; the caller tells. */
		if (line[length - 1] != '\n' && gzerror(file, &zerr) && zerr < 0)
			break;
		row++;
		if (length == sizeof(line) - 1 && line[length - 1] != '\n')
			return digits_fail(error, EBADMSG, "row %u is longer than %d characters",
					   row, DIGITS_LINE_BYTES - 2);
		while (length && (line[length - 1] == '\n' || line[length - 1] == '\r'))
			line[--length] = '\0';
		err = digits_parse(row, line, values, error);
		if (!err)
			err = row_fn(context, row, values, error);
		if (err)
			return err;
	}
	return 0;
}

/*
 * -ENOENT and others of open(2); -EBADMSG: a row that makes no sense; -EIO: the
 * compressed stream is broken; or the error of row_fn. The text is always set.
 */
static int digits_read(const char *path, digits_row_fn *row_fn, void *context,
		       struct digits_error *error)
{
	int err, zerr = Z_OK;
	gzFile file;

	error->path = path;
	errno = 0;
	file = gzopen(path, "rbe");
	if (!file) {
		err = errno ? errno : ENOMEM;
		return digits_fail(error, err, "%s", strerror(err));
	}
	errno = 0;
	err = digits_read_lines(file, row_fn, context, error);
	/* A broken stream looks like the end of the file to gzgets(). */
	if (!err) {
		const char *text = gzerror(file, &zerr);

		if (zerr == Z_ERRNO)
			err = digits_fail(error, EIO, "%s", strerror(errno));
		else if (zerr != Z_OK && zerr != Z_STREAM_END)
			err = digits_fail(error, EIO, "the compressed data is broken: %s", text);
	}
	zerr = gzclose_r(file);
	if (!err && zerr == Z_BUF_ERROR)
		err = digits_fail(error, EIO, "the compressed data ends too early");
	return err;
}

/* Whether FOLDER/NAME can be read; else -errno. `path` is its name, as far as there is room. */
static int digits_try(const char *folder, const char *name, char *path, size_t bytes)
{
	if (snprintf(path, bytes, "%s/%s", folder, name) >= (int)bytes)
		return -ENAMETOOLONG;
	return access(path, R_OK) ? -errno : 0;
}

/*
 * The data file of a job: the user's, else NAME beside the job's shared object, else where it
 * lies in the source tree of a build. 0, or an error with its text.
 */
static int digits_locate(const struct distworker_job_environment *environment, const char *name,
			 const char *given, char *path, size_t bytes)
{
	char source[PATH_MAX], beside[PATH_MAX];
	int err;

	if (given) {
		if (snprintf(path, bytes, "%s", given) < (int)bytes)
			return 0;
		return environment->fail(environment, ENAMETOOLONG,
					 "--data: a path of %zu bytes; at most %zu are possible",
					 strlen(given), bytes - 1);
	}
	err = digits_try(environment->folder, name, path, bytes);
	if (err && snprintf(source, sizeof(source), "%s/../../tools/jobs", environment->folder) <
	    (int)sizeof(source) && digits_try(source, name, beside, sizeof(beside)) == 0 &&
	    strlen(beside) < bytes) {
		strcpy(path, beside);
		err = 0;
	}
	return err ? environment->fail(environment, -err,
		"the data cannot be read: %s: %s; give another file with -- --data FILE", path,
		strerror(-err)) : 0;
}

#endif
