// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * How the verbs speak, and the small parsers that they share. Called from the tool's
 * main thread, tool_fail() from any.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>
#include <distworker/distworker.h>
#include "base/text.h"
#include "base/variables.h"
#include "number.h"
#include "tool.h"

int tool_fail(int status, const char *format, ...)
{
	char text[1024];
	va_list list;

	va_start(list, format);
	text_vformat(text, sizeof(text), format, list);
	va_end(list);
	fprintf(stderr, "%s: %s\n", program_invocation_name, text);
	return status;
}

const char *tool_nearest(const char *word, const char *const *words, size_t count)
{
	unsigned int best = (unsigned int)strlen(word) / 3 + 2;
	const char *nearest = NULL;

	for (size_t i = 0; i < count; i++) {
		unsigned int d = word_distance(word, words[i]);

		if (d < best) {
			best = d;
			nearest = words[i];
		}
	}
	return nearest;
}

int tool_count(const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
	unsigned long long number;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || *end || number < least || number > most)
		return -EINVAL;
	*value = number;
	return 0;
}

int tool_seconds(const char *text, double *seconds)
{
	double number;
	char *end;

	number = number_parse(text, &end);
	if (end == text || *end || !isfinite(number) || number < 0 || number > 1e9)
		return -EINVAL;
	*seconds = number;
	return 0;
}

const char *tool_thousands(uint64_t value, char text[32])
{
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value), at = 0;

	for (int i = 0; i < length; i++) {
		if (i && (length - i) % 3 == 0)
			text[at++] = ',';
		text[at++] = digits[i];
	}
	text[at] = '\0';
	return text;
}

const char *tool_duration(double seconds, char text[32])
{
	if (seconds >= 0.995)
		snprintf(text, 32, "%.2f s", seconds);
	else if (seconds >= 0.000995)
		snprintf(text, 32, seconds < 0.0995 ? "%.1f ms" : "%.0f ms", seconds * 1e3);
	else
		snprintf(text, 32, "%.0f us", seconds * 1e6);
	return text;
}

size_t tool_columns(const char *text, size_t most)
{
	size_t bytes = 0, characters = 0;

	for (; text[bytes]; bytes++)
		if (!text_continues(text[bytes]) && characters++ == most)
			break;
	return bytes;
}

double tool_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static FILE *results;		/* NULL: stdout */

int tool_print_to_stderr(void)
{
	int fd;

	fflush(stdout);
	if (dup2(STDERR_FILENO, STDOUT_FILENO) >= 0)
		return 0;
	/* Without a stderr it has no reader. */
	fd = open("/dev/null", O_WRONLY);
	if (fd >= 0 && fd != STDOUT_FILENO) {
		dup2(fd, STDOUT_FILENO);
		close(fd);
	}
	return fd < 0 ? -errno : 0;
}

int tool_json_only(void)
{
	int fd = results ? -1 : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

	if (results || (fd < 0 && errno == EBADF))
		return TOOL_OK;
	results = fd < 0 ? NULL : fdopen(fd, "w");
	if (!results || tool_print_to_stderr())
		return tool_fail(TOOL_SYSTEM, "stdout cannot be kept for the results: %s",
				 strerror(errno));
	return TOOL_OK;
}

FILE *tool_results(void)
{
	return results ? results : stdout;
}

int tool_flush(int status)
{
	if (fflush(stdout) || ferror(stdout) || fflush(tool_results()) || ferror(tool_results()))
		return tool_fail(status ? status : TOOL_SYSTEM, "the output cannot be written: %s",
				 strerror(errno));
	return status;
}

const char *provider_name(uint32_t provider)
{
	return provider == DW_PROVIDER_KERNEL ? "kernel" : provider == DW_PROVIDER_FUTEX ? "futex" :
	       "none";
}

static int folder_error;		/* of /proc/self/exe, for tool_folder_error() */

const char *tool_folder_error(void)
{
	return strerror(folder_error);
}

const char *tool_folder(void)
{
	static char folder[PATH_MAX];
	const char *started;
	ssize_t length;

	if (folder[0])
		return folder;
	length = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
	folder_error = length < 0 ? errno : 0;
	folder[length > 0 ? length : 0] = '\0';
	/* Without /proc: the path that it was started by. */
	started = (const char *)getauxval(AT_EXECFN);
	if (folder[0] != '/' && (!started || !realpath(started, folder)))
		folder[0] = '\0';
	if (folder[0])
		*strrchr(folder, '/') = '\0';
	return folder[0] ? folder : NULL;
}
