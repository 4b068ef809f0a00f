/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Images of the pto driver, in both formats, as it checks them before the runtime gets them. */
#include "input.h"
#include "chip/drivers/pto/image.c"

static const struct pto_limits limits = {
	.tensors = 256, .scalars = 128, .signature = PTO_SIGNATURE_MAX,
	.core_signature = PTO_CORE_SIGNATURE_MAX, .cores = PTO_CORES_MAX,
	.function = PTO_FUNCTION_MAX, .object_bytes = UINT32_MAX,
};

/* A runtime would read all of this. */
static void walk(const struct pto_view *view)
{
	volatile unsigned int sum = 0;

	MUST(view->core_count <= PTO_CORES_MAX && view->signature_count <= PTO_SIGNATURE_MAX);
	MUST(memchr(view->entry, 0, sizeof(view->entry)) && view->entry[0]);
	MUST(memchr(view->config_entry, 0, sizeof(view->config_entry)));
	for (uint32_t i = 0; i < view->object_bytes; i++)
		sum += view->object[i];
	for (uint32_t i = 0; i < view->core_count; i++) {
		const struct pto_core_view *core = &view->cores[i];

		MUST(core->function >= 0 && core->function <= PTO_FUNCTION_MAX);
		MUST(core->signature_count <= PTO_CORE_SIGNATURE_MAX);
		for (uint32_t k = 0; k < core->object_bytes; k++)
			sum += core->object[k];
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dw_chip_image_spec spec = {
		.size = sizeof(spec), .name = "fuzz", .data = data, .bytes = size,
	};

	for (int simulator = 0; simulator < 2; simulator++) {
		struct dw_chip_error error = { .text = "" };
		struct pto_view view;

		if (pto_view_read(&spec, &limits, simulator, &view, &error) < 0) {
			MUST(error.text[0] && !view.cores);
			continue;
		}
		walk(&view);
		pto_view_free(&view);
	}
	return 0;
}
