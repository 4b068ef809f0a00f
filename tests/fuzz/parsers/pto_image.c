/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Images of the pto driver, as it checks them before the vendor's runtime gets them. */
#include "input.h"
#include "chip/drivers/pto/pto.c"

static void walk(const struct dw_chip_image *image)
{
	const struct pto_chip_callable *callable = &image->callable;
	const unsigned char *storage = (const unsigned char *)(callable + 1);
	volatile unsigned int sum = 0;

	MUST(callable->child_count >= 0 && callable->child_count <= PTO_CHILDREN_MAX);
	MUST(callable->signature_count >= 0 && callable->signature_count <= PTO_SIGNATURE_MAX);
	MUST(memchr(callable->name, 0, sizeof(callable->name)));
	/* A runtime would read all of this. */
	for (uint32_t i = 0; i < callable->size; i++)
		sum += storage[i];
	for (int32_t i = 0; i < callable->child_count; i++) {
		struct pto_core_callable core;

		memcpy(&core, storage + callable->child_offsets[i], sizeof(core));
		for (uint32_t k = 0; k < core.size; k++)
			sum += storage[callable->child_offsets[i] + sizeof(core) + k];
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dw_chip_image_spec spec = {
		.size = sizeof(spec),
		.name = "fuzz",
		.data = data,
		.bytes = size,
		.entry = "orchestrate",
	};
	struct dw_chip_error error = { .text = "" };
	struct dw_chip_image *image;

	if (pto_load(NULL, &spec, &image, &error) < 0) {
		MUST(error.text[0]);
		return 0;
	}
	walk(image);
	pto_unload(NULL, image);
	return 0;
}
