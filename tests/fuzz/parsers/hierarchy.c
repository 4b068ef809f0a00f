/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The tool's hierarchy file. Devices are not asked for: that would load drivers. */
#include "input.h"
#include "../../../tools/drivers.h"
#include "../../../tools/hierarchy.h"

size_t driver_devices(const char *name, const char *options)
{
	(void)name;
	(void)options;
	return 4;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct plan_options defaults = { .level = 4,
					 .driver = "sim",
					 .worker = DW_OPTIONS(dw_worker_options) };
	char text[512] = "", line[512];
	struct plan_totals totals;
	struct plan *plan = NULL;
	const char *path;
	int fd, result;

	path = input_file(data, size, &fd);
	result = plan_from_file(path, &defaults, &plan, text, sizeof(text));
	if (result < 0) {
		MUST(text[0] && memchr(text, 0, sizeof(text)));
	} else {
		MUST(plan);
		plan_count(plan, &totals);
		plan_describe(plan, line, sizeof(line));
		free(plan_tree(plan));
		plan_destroy(plan);
	}
	close(fd);
	return 0;
}
