/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* "key=value,…" of a driver, with the sim driver's own options and fault rules. */
#include "input.h"
#include "chip/drivers/sim/driver.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dw_chip_error error = { .text = "" };
	struct sim_options options;
	char *text = malloc(size + 1);

	MUST(text);
	memcpy(text, data, size);
	text[size] = '\0';
	if (options_read(text, &options, &error) < 0)
		MUST(error.text[0] && memchr(error.text, 0, sizeof(error.text)));
	else
		MUST(options.cores >= 1 && options.cores <= 4096 && options.depth >= 1 &&
		     options.depth <= 16 && options.devices >= 1);
	free(text);
	return 0;
}
