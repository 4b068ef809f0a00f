/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The parser of objects in `distworker image sim`: those that it compiled or was given. */
#include "input.h"
#include "../../../tools/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *path;
	int fd;

	input_quiet();
	path = input_file(data, size, &fd);
	image_sim_entries(path);
	close(fd);
	return 0;
}
