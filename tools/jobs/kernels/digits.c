// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Chip kernels of the digits job, as an image for the `sim` driver. Blocks share the
 * work by rows (forward) or by hidden units (backward), never a sum: the
 * result has the same bits for every block_dim. digits.cl is the same for OpenCL.
 */
#include <errno.h>
#include <string.h>
#include <distworker/sim.h>
#include "../digits_model.h"

dw_sim_kernel digits_forward, digits_backward, digits_accumulate;

/* The share of a block: [*first, *end) out of `count` pieces. */
static void block_share(const struct dw_sim_block *block, uint32_t count, uint32_t *first,
			uint32_t *end)
{
	*first = (uint32_t)((uint64_t)count * block->index / block->dim);
	*end = (uint32_t)((uint64_t)count * (block->index + 1) / block->dim);
}

static void *data(const struct dw_tensor *tensor)
{
	return (void *)(uintptr_t)tensor->data;
}

/*
 * in:  x [rows, 64], label [rows], parameters; scalars: rows, hidden
 * out: activation [rows, hidden], delta [rows, 11]: probabilities minus target, loss
 */
int digits_forward(const struct dw_sim_block *block, const struct dw_tensor *tensors,
		   const uint64_t *scalars)
{
	uint32_t hidden = tensors[3].shape[1];
	const float *x = data(&tensors[0]);
	const uint8_t *label = data(&tensors[1]);
	struct model_view model = model_view(data(&tensors[2]), hidden);
	float *activation = data(&tensors[3]);
	float *delta = data(&tensors[4]);
	uint32_t first, end;

	(void)scalars;
	if (hidden % MODEL_STRIP)
		return -EINVAL;
	block_share(block, tensors[0].shape[0], &first, &end);
	for (uint32_t r = first; r < end; r++) {
		float *row = delta + r * (MODEL_CLASSES + 1);

		if (label[r] >= MODEL_CLASSES)
			return -EDOM;
		model_forward(&model, hidden, x + r * MODEL_INPUTS, activation + r * hidden, row);
		row[MODEL_CLASSES] = model_softmax(row, label[r]);
		row[label[r]] -= 1.0f;
	}
	return 0;
}

/* Gradients of one strip of hidden units, summed over the rows in their order. */
static void backward_strip(const struct dw_tensor *tensors, uint32_t hidden, uint32_t strip)
{
	uint32_t rows = tensors[0].shape[0];
	const float *x = data(&tensors[0]);
	const float *activation = data(&tensors[1]);
	const float *delta = data(&tensors[2]);
	struct model_view model = model_view(data(&tensors[3]), hidden);
	float *gradient = data(&tensors[4]);
	float *w1 = gradient + strip;
	float *b1 = gradient + MODEL_INPUTS * hidden + strip;
	float *w2 = gradient + (MODEL_INPUTS + 1) * hidden + strip * MODEL_CLASSES;

	for (uint32_t k = 0; k < MODEL_INPUTS; k++)
		memset(w1 + k * hidden, 0, MODEL_STRIP * sizeof(float));
	memset(b1, 0, MODEL_STRIP * sizeof(float));
	memset(w2, 0, MODEL_STRIP * MODEL_CLASSES * sizeof(float));
	for (uint32_t r = 0; r < rows; r++) {
		const float *error = delta + r * (MODEL_CLASSES + 1);
		const float *value = activation + r * hidden + strip;
		float back[MODEL_STRIP];

		for (uint32_t j = 0; j < MODEL_STRIP; j++) {
			const float *weight = model.w2 + (strip + j) * MODEL_CLASSES;
			float sum = 0.0f;

			for (uint32_t c = 0; c < MODEL_CLASSES; c++) {
				sum += error[c] * weight[c];
				w2[j * MODEL_CLASSES + c] += value[j] * error[c];
			}
			back[j] = value[j] > 0.0f ? sum : 0.0f;
			b1[j] += back[j];
		}
		for (uint32_t k = 0; k < MODEL_INPUTS; k++) {
			float pixel = x[r * MODEL_INPUTS + k];

			for (uint32_t j = 0; j < MODEL_STRIP; j++)
				w1[k * hidden + j] += pixel * back[j];
		}
	}
}

/*
 * in:  x [rows, 64], activation [rows, hidden], delta [rows, 11], parameters; scalars: rows, hidden
 * out: gradient, with the sum of the losses behind it
 */
int digits_backward(const struct dw_sim_block *block, const struct dw_tensor *tensors,
		    const uint64_t *scalars)
{
	uint32_t rows = tensors[0].shape[0], hidden = tensors[1].shape[1];
	const float *delta = data(&tensors[2]);
	float *b2 = (float *)data(&tensors[4]) + model_parameters(hidden) - MODEL_CLASSES;
	uint32_t first, end;

	(void)scalars;
	if (hidden % MODEL_STRIP)
		return -EINVAL;
	block_share(block, hidden / MODEL_STRIP, &first, &end);
	for (uint32_t strip = first; strip < end; strip++)
		backward_strip(tensors, hidden, strip * MODEL_STRIP);
	if (block->index)
		return 0;
	/* b2 and the loss lie side by side, as in delta. */
	memset(b2, 0, (MODEL_CLASSES + 1) * sizeof(float));
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t c = 0; c <= MODEL_CLASSES; c++)
			b2[c] += delta[r * (MODEL_CLASSES + 1) + c];
	return 0;
}

/* inout: sum; in: addend; both a gradient; scalar: length */
int digits_accumulate(const struct dw_sim_block *block, const struct dw_tensor *tensors,
		      const uint64_t *scalars)
{
	float *sum = data(&tensors[0]);
	const float *addend = data(&tensors[1]);
	uint32_t first, end;

	(void)scalars;
	block_share(block, tensors[0].shape[0], &first, &end);
	for (uint32_t i = first; i < end; i++)
		sum[i] += addend[i];
	return 0;
}
