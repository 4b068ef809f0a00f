/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Numbers that have the same bits on every machine: a generator, exp and log
 * from additions and multiplications in a fixed order. libm's choose their code by
 * the CPU's features and differ in the last bit.
 *
 * Needs -ffp-contract=off and no -ffast-math; for jobs and for their kernels.
 */
#ifndef DISTWORKER_JOBS_NUMERIC_H
#define DISTWORKER_JOBS_NUMERIC_H

#include <float.h>
#include <stdint.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "float arithmetic must not be done in wider registers");
#ifdef __FAST_MATH__
#error "with -ffast-math results are not the same bits on every machine"
#endif

/* splitmix64 (S. Vigna, public domain): every state is a good seed. */
static inline uint64_t numeric_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* 0 … bound - 1; its bias is below bound / 2^32. */
static inline uint32_t numeric_random_below(uint64_t *state, uint32_t bound)
{
	return (uint32_t)((numeric_random(state) >> 32) * bound >> 32);
}

/* In [-1, 1), a multiple of 2^-23: exact. */
static inline float numeric_random_float(uint64_t *state)
{
	return (float)(int32_t)(numeric_random(state) >> 40) * 0x1p-23f - 1.0f;
}

/* e^x to 2 ulp; x is clamped to where the result is a normal number. */
static inline float numeric_exp(float x)
{
	float n, r, y, scale;
	uint32_t bits;
	int32_t k;

	if (!(x > -87.0f))
		x = -87.0f;
	if (x > 88.0f)
		x = 88.0f;
	n = x * 1.44269504f;
	k = (int32_t)(n + (n < 0.0f ? -0.5f : 0.5f));
	/* ln 2 in two parts; the first has so few bits that the product is exact. */
	r = x - (float)k * 0.693359375f;
	r = r - (float)k * -2.12194440e-4f;
	y = 1.9875691500e-4f;
	y = y * r + 1.3981999507e-3f;
	y = y * r + 8.3334519073e-3f;
	y = y * r + 4.1665795894e-2f;
	y = y * r + 1.6666665459e-1f;
	y = y * r + 5.0000001201e-1f;
	y = y * (r * r) + r + 1.0f;
	bits = (uint32_t)(k + 127) << 23;
	memcpy(&scale, &bits, sizeof(scale));
	return y * scale;
}

/* Natural logarithm of a positive normal number, to about 1e-7 relative. */
static inline float numeric_log(float x)
{
	uint32_t bits;
	float m, s, t, y;
	int32_t k;

	memcpy(&bits, &x, sizeof(bits));
	k = (int32_t)(bits >> 23) - 127;
	bits = (bits & 0x7fffff) | 127u << 23;
	memcpy(&m, &bits, sizeof(m));
	if (m > 1.41421356f) {
		m = m * 0.5f;
		k++;
	}
	/* ln m = 2 artanh s */
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

/*
 * Square root of a positive normal number, to 1 ulp: a guess from the exponent, then
 * Newton, which doubles its 4 good bits five times. libm's would need its library.
 */
static inline double numeric_sqrt(double x)
{
	uint64_t bits;
	double root;

	memcpy(&bits, &x, sizeof(bits));
	bits = (bits >> 1) + ((uint64_t)511 << 52) + ((uint64_t)1 << 51);
	memcpy(&root, &bits, sizeof(root));
	for (int i = 0; i < 5; i++)
		root = 0.5 * (root + x / root);
	return root;
}

#endif
