// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Chip kernels of the cholesky job, float64, as an image for the `sim` driver.
 * Tiles are square and row-major, their side a multiple of 8. Blocks share rows; the
 * sum behind an element is made by one block in one order, so that the result
 * has the same bits for every block_dim.
 */
#include <errno.h>
#include <distworker/sim.h>
#include "../numeric.h"

#define STRIP 8
#define SIDE_MAX 256

dw_sim_kernel cholesky_potrf, cholesky_trsm, cholesky_syrk, cholesky_gemm;

/* Rows [*first, *end) belong to this block. */
static uint32_t block_rows(const struct dw_sim_block *block, const struct dw_tensor *tensor,
			   uint32_t *first, uint32_t *end)
{
	uint32_t side = tensor->shape[tensor->ndims - 1];

	*first = (uint32_t)((uint64_t)side * block->index / block->dim);
	*end = (uint32_t)((uint64_t)side * (block->index + 1) / block->dim);
	return side % STRIP || side > SIDE_MAX ? 0 : side;
}

static double *data(const struct dw_tensor *tensor)
{
	return (double *)(uintptr_t)tensor->data;
}

/* inout: A → L with A = L Lᵀ; above the diagonal: 0. One block does it. -EDOM: not positive. */
int cholesky_potrf(const struct dw_sim_block *block, const struct dw_tensor *tensors,
		   const uint64_t *scalars)
{
	double *a = data(&tensors[0]);
	uint32_t first, end, side = block_rows(block, &tensors[0], &first, &end);

	(void)scalars;
	if (!side)
		return -EINVAL;
	if (block->index)
		return 0;
	for (uint32_t r = 0; r < side; r++) {
		for (uint32_t c = 0; c <= r; c++) {
			double sum = a[r * side + c];

			for (uint32_t p = 0; p < c; p++)
				sum -= a[r * side + p] * a[c * side + p];
			if (c < r)
				a[r * side + c] = sum / a[c * side + c];
			else if (sum > DBL_MIN)
				a[r * side + c] = numeric_sqrt(sum);
			else
				return -EDOM;
		}
		for (uint32_t c = r + 1; c < side; c++)
			a[r * side + c] = 0.0;
	}
	return 0;
}

/* inout: A → X with X Lᵀ = A; in: L */
int cholesky_trsm(const struct dw_sim_block *block, const struct dw_tensor *tensors,
		  const uint64_t *scalars)
{
	double *a = data(&tensors[0]);
	const double *l = data(&tensors[1]);
	uint32_t first, end, side = block_rows(block, &tensors[0], &first, &end);

	(void)scalars;
	if (!side)
		return -EINVAL;
	for (uint32_t r = first; r < end; r++) {
		double *row = a + r * side;

		for (uint32_t c = 0; c < side; c++) {
			double sum = row[c];

			for (uint32_t p = 0; p < c; p++)
				sum -= row[p] * l[c * side + p];
			row[c] = sum / l[c * side + c];
		}
	}
	return 0;
}

/* Columns [column, column + STRIP) of C -= A Bᵀ, for rows [first, end). */
static void multiply_strip(double *c, const double *a, const double *b, uint32_t side,
			   uint32_t column, uint32_t first, uint32_t end)
{
	double packed[SIDE_MAX * STRIP];

	for (uint32_t p = 0; p < side; p++)
		for (uint32_t j = 0; j < STRIP; j++)
			packed[p * STRIP + j] = b[(column + j) * side + p];
	for (uint32_t r = first; r < end; r++) {
		double sum[STRIP];

		for (uint32_t j = 0; j < STRIP; j++)
			sum[j] = c[r * side + column + j];
		for (uint32_t p = 0; p < side; p++) {
			double value = a[r * side + p];

			for (uint32_t j = 0; j < STRIP; j++)
				sum[j] -= value * packed[p * STRIP + j];
		}
		for (uint32_t j = 0; j < STRIP; j++)
			c[r * side + column + j] = sum[j];
	}
}

/* inout: C → C - A Aᵀ, up to the strip that holds the diagonal; in: A */
int cholesky_syrk(const struct dw_sim_block *block, const struct dw_tensor *tensors,
		  const uint64_t *scalars)
{
	double *c = data(&tensors[0]);
	const double *a = data(&tensors[1]);
	uint32_t first, end, side = block_rows(block, &tensors[0], &first, &end);

	(void)scalars;
	if (!side)
		return -EINVAL;
	for (uint32_t column = 0; column < side; column += STRIP)
		multiply_strip(c, a, a, side, column, first > column ? first : column, end);
	return 0;
}

/* inout: C → C - A Bᵀ; in: A, B */
int cholesky_gemm(const struct dw_sim_block *block, const struct dw_tensor *tensors,
		  const uint64_t *scalars)
{
	double *c = data(&tensors[0]);
	const double *a = data(&tensors[1]), *b = data(&tensors[2]);
	uint32_t first, end, side = block_rows(block, &tensors[0], &first, &end);

	(void)scalars;
	if (!side)
		return -EINVAL;
	for (uint32_t column = 0; column < side; column += STRIP)
		multiply_strip(c, a, b, side, column, first, end);
	return 0;
}
