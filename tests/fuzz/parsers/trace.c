/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* `distworker trace --read`: any file, and its summary. */
#include "input.h"
#include <argp.h>
#include <stdarg.h>
#include "../../../tools/tool.h"
#include "../../../tools/trace_file.h"

/* It would go to stderr a million times. */
int tool_fail(int status, const char *format, ...)
{
	(void)format;
	return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct traced traced;
	const char *path;
	int fd;

	input_quiet();
	path = input_file(data, size, &fd);
	if (traced_read(path, &traced) == TOOL_OK) {
		traced_print(&traced, NULL, 5);
		traced_print_json(&traced, stdout, "pod0/node1", 5);
	}
	traced_release(&traced);
	close(fd);
	return 0;
}
