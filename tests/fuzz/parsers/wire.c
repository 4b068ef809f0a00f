/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The wire format of arguments: a view lies inside its blob, and encodes to the same bytes again.
 */
#include "input.h"
#include "task/task.h"

static void read_all(const struct dw_args *view, const unsigned char *blob, size_t size)
{
	volatile uint64_t sum = 0;
	uint64_t bytes;

	for (size_t i = 0; i <= dw_args_tensor_count(view); i++) {
		const struct dw_tensor *tensor = dw_args_tensor(view, i);

		MUST((tensor == NULL) == (i == dw_args_tensor_count(view)));
		if (!tensor)
			break;
		MUST((const unsigned char *)tensor >= blob &&
		     (const unsigned char *)(tensor + 1) <= blob + size);
		if (dw_tensor_bytes(tensor, &bytes) == 0)
			sum += bytes;
		tensor_check(tensor, i, &bytes);
	}
	for (size_t i = 0; i <= dw_args_scalar_count(view); i++)
		sum += dw_args_scalar(view, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Exactly as long as it is, so that one byte too far is seen; aligned as in a frame. */
	unsigned char *blob = aligned_alloc(8, size + (8 - size % 8) % 8 + 8), *again;
	unsigned char *exact = malloc(size ? size : 1);
	struct dw_args view;

	MUST(blob && exact);
	memcpy(exact, data, size);
	if (wire_decode(exact, size, &view) == 0) {
		read_all(&view, exact, size);
		MUST(wire_bytes(&view) == size);
		again = malloc(size);
		MUST(again);
		wire_encode(&view, again);
		MUST(!memcmp(again, exact, size));
		free(again);
	}
	/* A blob that is not aligned is refused. */
	memcpy(blob + 4, data, size < 4 ? size : size - 4);
	MUST(wire_decode(blob + 4, size, &view) < 0);
	free(exact);
	free(blob);
	return 0;
}
