/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The checks of the sim driver before the dynamic linker sees an image. The image is not loaded:
 * that would run it.
 */
#include "input.h"
#include "chip/drivers/sim/image.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dw_chip_image_spec spec = {
		.size = sizeof(spec), .name = "fuzz", .data = data, .bytes = size, .entry = "scale",
	};
	struct dw_chip_error error = { .text = "" };
	int fd = memfd_fill(&spec, &error);

	MUST(fd >= 0);
	if (elf_examine(fd, &spec, &error) < 0)
		MUST(error.text[0]);
	close(fd);
	return 0;
}
