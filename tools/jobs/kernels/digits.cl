// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Chip kernels of the digits job in OpenCL C 1.2, for the `opencl` driver. They do what
 * digits.c does, sum for sum and in the same order; a work-item owns a row
 * (forward), a hidden unit (backward) or an element (accumulate). So the bits
 * are those of the `sim` chip, for any number of work-groups, wherever float32 is
 * IEEE's: no contraction, no built-in function, division correctly rounded.
 */
#pragma OPENCL FP_CONTRACT OFF

#define INPUTS 64
#define CLASSES 10

/* numeric_exp() of numeric.h */
float digits_exp(float x)
{
	float n, r, y;
	int k;

	if (!(x > -87.0f))
		x = -87.0f;
	if (x > 88.0f)
		x = 88.0f;
	n = x * 1.44269504f;
	k = (int)(n + (n < 0.0f ? -0.5f : 0.5f));
	r = x - (float)k * 0.693359375f;
	r = r - (float)k * -2.12194440e-4f;
	y = 1.9875691500e-4f;
	y = y * r + 1.3981999507e-3f;
	y = y * r + 8.3334519073e-3f;
	y = y * r + 4.1665795894e-2f;
	y = y * r + 1.6666665459e-1f;
	y = y * r + 5.0000001201e-1f;
	y = y * (r * r) + r + 1.0f;
	return y * as_float((uint)(k + 127) << 23);
}

/* numeric_log() of numeric.h */
float digits_log(float x)
{
	uint bits = as_uint(x);
	float m, s, t, y;
	int k = (int)(bits >> 23) - 127;

	m = as_float((bits & 0x7fffff) | 127u << 23);
	if (m > 1.41421356f) {
		m = m * 0.5f;
		k++;
	}
	s = (m - 1.0f) / (m + 1.0f);
	t = s * s;
	y = 1.0f / 11.0f;
	y = y * t + 1.0f / 9.0f;
	y = y * t + 1.0f / 7.0f;
	y = y * t + 1.0f / 5.0f;
	y = y * t + 1.0f / 3.0f;
	y = y * t + 1.0f;
	return (float)k * 0.693147181f + 2.0f * s * y;
}

/* model_softmax(): scores become probabilities; returns the loss, -ln p[label]. */
float softmax(float *score, uint label)
{
	float top = score[0], sum = 0.0f, shifted;

	for (uint c = 1; c < CLASSES; c++)
		if (score[c] > top)
			top = score[c];
	shifted = score[label] - top;
	for (uint c = 0; c < CLASSES; c++) {
		score[c] = digits_exp(score[c] - top);
		sum += score[c];
	}
	for (uint c = 0; c < CLASSES; c++)
		score[c] = score[c] / sum;
	return digits_log(sum) - shifted;
}

/*
 * in:  x [rows, 64], label [rows], parameters
 * out: activation [rows, hidden], delta [rows, 11]: probabilities minus target, loss
 */
kernel void digits_forward(global const float *x, global const uchar *label,
			   global const float *parameters, global float *activation,
			   global float *delta, ulong rows, ulong hidden)
{
	global const float *w1 = parameters, *b1 = w1 + INPUTS * hidden;
	global const float *w2 = b1 + hidden, *b2 = w2 + hidden * CLASSES;

	for (ulong r = get_global_id(0); r < rows; r += get_global_size(0)) {
		global const float *pixels = x + r * INPUTS;
		global float *row = delta + r * (CLASSES + 1);
		uint digit = label[r] < CLASSES ? label[r] : 0;
		float score[CLASSES];

		for (uint c = 0; c < CLASSES; c++)
			score[c] = b2[c];
		for (ulong j = 0; j < hidden; j++) {
			float sum = b1[j], value;

			for (uint k = 0; k < INPUTS; k++)
				sum += pixels[k] * w1[k * hidden + j];
			value = sum > 0.0f ? sum : 0.0f;
			activation[r * hidden + j] = value;
			for (uint c = 0; c < CLASSES; c++)
				score[c] += value * w2[j * CLASSES + c];
		}
		row[CLASSES] = softmax(score, digit);
		score[digit] -= 1.0f;
		for (uint c = 0; c < CLASSES; c++)
			row[c] = score[c];
		/* Kernels cannot fail here; a label that is none spoils the loss, and the job sees it. */
		if (label[r] >= CLASSES)
			row[CLASSES] = NAN;
	}
}

/*
 * in:  x [rows, 64], activation [rows, hidden], delta [rows, 11], parameters
 * out: gradient, with the sum of the losses behind it
 */
kernel void digits_backward(global const float *x, global const float *activation,
			    global const float *delta, global const float *parameters,
			    global float *gradient, ulong rows, ulong hidden)
{
	global float *w1 = gradient, *b1 = w1 + INPUTS * hidden, *w2 = b1 + hidden;
	global const float *weights = parameters + (INPUTS + 1) * hidden;

	for (ulong j = get_global_id(0); j < hidden; j += get_global_size(0)) {
		global const float *weight = weights + j * CLASSES;
		float bias = 0.0f, out[CLASSES];

		for (uint k = 0; k < INPUTS; k++)
			w1[k * hidden + j] = 0.0f;
		for (uint c = 0; c < CLASSES; c++)
			out[c] = 0.0f;
		for (ulong r = 0; r < rows; r++) {
			global const float *error = delta + r * (CLASSES + 1);
			float value = activation[r * hidden + j], sum = 0.0f, back;

			for (uint c = 0; c < CLASSES; c++) {
				sum += error[c] * weight[c];
				out[c] += value * error[c];
			}
			back = value > 0.0f ? sum : 0.0f;
			bias += back;
			for (uint k = 0; k < INPUTS; k++)
				w1[k * hidden + j] += x[r * INPUTS + k] * back;
		}
		b1[j] = bias;
		for (uint c = 0; c < CLASSES; c++)
			w2[j * CLASSES + c] = out[c];
	}
	/* b2 and the loss lie side by side, as in delta. */
	for (ulong c = get_global_id(0); c <= CLASSES; c += get_global_size(0)) {
		float sum = 0.0f;

		for (ulong r = 0; r < rows; r++)
			sum += delta[r * (CLASSES + 1) + c];
		w2[hidden * CLASSES + c] = sum;
	}
}

/* inout: sum; in: addend; both a gradient */
kernel void digits_accumulate(global float *sum, global const float *addend, ulong count)
{
	for (ulong i = get_global_id(0); i < count; i += get_global_size(0))
		sum[i] += addend[i];
}
