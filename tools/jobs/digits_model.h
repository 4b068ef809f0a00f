/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The classifier of the digits job, 64 → hidden → 10 with ReLU and softmax, and
 * how its parameters lie in one float32 tensor. Shared by the job and its chip
 * kernels; every sum has one fixed order.
 */
#ifndef DISTWORKER_JOBS_DIGITS_MODEL_H
#define DISTWORKER_JOBS_DIGITS_MODEL_H

#include <stdint.h>
#include "numeric.h"

#define MODEL_INPUTS 64
#define MODEL_CLASSES 10
/* Hidden units are worked on in strips; a constant length lets the compiler use SIMD. */
#define MODEL_STRIP 16
#define MODEL_HIDDEN_MAX 1024

/* [W1: inputs × hidden][b1: hidden][W2: hidden × classes][b2: classes] */
static inline uint32_t model_parameters(uint32_t hidden)
{
	return MODEL_INPUTS * hidden + hidden + hidden * MODEL_CLASSES + MODEL_CLASSES;
}

/* A gradient is as long as the parameters, with the sum of the losses behind it. */
static inline uint32_t model_gradient(uint32_t hidden)
{
	return model_parameters(hidden) + 1;
}

struct model_view {
	const float *w1, *b1, *w2, *b2;
};

static inline struct model_view model_view(const float *parameters, uint32_t hidden)
{
	struct model_view view;

	view.w1 = parameters;
	view.b1 = view.w1 + MODEL_INPUTS * hidden;
	view.w2 = view.b1 + hidden;
	view.b2 = view.w2 + hidden * MODEL_CLASSES;
	return view;
}

/* One image: its hidden activations and its scores before the softmax. */
static inline void model_forward(const struct model_view *model, uint32_t hidden, const float *x,
				 float *activation, float score[MODEL_CLASSES])
{
	for (uint32_t c = 0; c < MODEL_CLASSES; c++)
		score[c] = model->b2[c];
	for (uint32_t strip = 0; strip < hidden; strip += MODEL_STRIP) {
		float sum[MODEL_STRIP];

		for (uint32_t j = 0; j < MODEL_STRIP; j++)
			sum[j] = model->b1[strip + j];
		for (uint32_t k = 0; k < MODEL_INPUTS; k++) {
			const float *row = model->w1 + k * hidden + strip;
			float pixel = x[k];

			for (uint32_t j = 0; j < MODEL_STRIP; j++)
				sum[j] += pixel * row[j];
		}
		for (uint32_t j = 0; j < MODEL_STRIP; j++) {
			const float *row = model->w2 + (strip + j) * MODEL_CLASSES;
			float value = sum[j] > 0.0f ? sum[j] : 0.0f;

			activation[strip + j] = value;
			for (uint32_t c = 0; c < MODEL_CLASSES; c++)
				score[c] += value * row[c];
		}
	}
}

/* Turns scores into probabilities; returns the loss, -ln p[label]. */
static inline float model_softmax(float score[MODEL_CLASSES], uint32_t label)
{
	float top = score[0], sum = 0.0f, shifted;

	for (uint32_t c = 1; c < MODEL_CLASSES; c++)
		if (score[c] > top)
			top = score[c];
	shifted = score[label] - top;
	for (uint32_t c = 0; c < MODEL_CLASSES; c++) {
		score[c] = numeric_exp(score[c] - top);
		sum += score[c];
	}
	for (uint32_t c = 0; c < MODEL_CLASSES; c++)
		score[c] = score[c] / sum;
	return numeric_log(sum) - shifted;
}

/* The class with the highest score; the first of equals. */
static inline uint32_t model_answer(const float score[MODEL_CLASSES])
{
	uint32_t best = 0;

	for (uint32_t c = 1; c < MODEL_CLASSES; c++)
		if (score[c] > score[best])
			best = c;
	return best;
}

#endif
