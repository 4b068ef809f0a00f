// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* An image for the `sim` driver: c = a + b, elements shared out by blocks. */
#include <distworker/sim.h>

DW_SIM_KERNEL(vector_add, DW_DIR_IN, DW_DIR_IN, DW_DIR_OUT);

int vector_add(const struct dw_sim_block *block, const struct dw_tensor *tensors,
	       const uint64_t *scalars)
{
	const float *a = (const float *)(uintptr_t)tensors[0].data;
	const float *b = (const float *)(uintptr_t)tensors[1].data;
	float *c = (float *)(uintptr_t)tensors[2].data;
	uint64_t count = tensors[2].shape[0];
	uint64_t first = count * block->index / block->dim,
		 end = count * (block->index + 1) / block->dim;

	(void)scalars;
	for (uint64_t i = first; i < end; i++)
		c[i] = a[i] + b[i];
	return 0;
}
