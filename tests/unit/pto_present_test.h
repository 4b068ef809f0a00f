/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the tests of the pto driver with the present interface: its stand-in, and calls of
 * three vectors.
 */
#ifndef TESTS_UNIT_PTO_PRESENT_TEST_H
#define TESTS_UNIT_PTO_PRESENT_TEST_H

#include "pto_test.h"

#define ELEMENTS 100
#define RUNTIME "pto_present"
#define MARK(i) (0xabcd0000u + (i))

static float a[ELEMENTS], b[ELEMENTS], out[ELEMENTS];

static inline const char *options(const char *mode, const char *more)
{
	pto_exports = "orchestrate configure simpler_host_log_bind_state";
	return pto_options_more(RUNTIME, mode, more);
}

static inline void vectors_fill(void)
{
	for (int i = 0; i < ELEMENTS; i++) {
		a[i] = (float)i;
		b[i] = (float)(2 * i);
		out[i] = -1;
	}
}

static inline bool vectors_added(void)
{
	for (int i = 0; i < ELEMENTS; i++)
		if (out[i] != (float)(3 * i))
			return false;
	return true;
}

static inline struct chip *pto(const char *mode, const char *more)
{
	struct chip *chip = NULL;

	if (!CHECK_EQ(chip_open("pto", 3, options(mode, more), &chip), 0))
		printf("# %s\n", error_text());
	return chip;
}

/* Checks that the stand-in found nothing wrong, and that every context and block was released. */
static inline void chip_done(struct chip *chip)
{
	chip_close(chip);
	if (!CHECK_EQ(pto_log_count("wrong"), 0))
		printf("# %s\n", pto_log_text());
	CHECK_EQ(pto_log_count("create"), pto_log_count("destroy"));
	CHECK_EQ(pto_log_count("malloc"), pto_log_count("free") + pto_log_count("full"));
	CHECK_EQ(pto_log_count("finalize 0"), 0);
}

/* A call with three vectors at these addresses; the scalars tell the stand-in what to expect. */
static inline int start(struct chip *chip, uint64_t key, const float *x, const float *y,
			const float *z, struct dw_config config, size_t bytes, size_t children,
			uint64_t cookie)
{
	/* The arguments stay valid until the completion. */
	static struct dw_tensor tensors[4][3];
	static uint64_t scalars[4][6];
	static unsigned int next;
	unsigned int slot = next++ % 4;
	struct dw_args args = view(tensors[slot], 3, scalars[slot], 6);

	tensors[slot][0] = tensor1(x, DW_FLOAT32, ELEMENTS);
	tensors[slot][1] = tensor1(y, DW_FLOAT32, ELEMENTS);
	tensors[slot][2] = tensor1(z, DW_FLOAT32, ELEMENTS);
	scalars[slot][0] = (uint64_t)config.aicpu_thread_num;
	scalars[slot][2] = config.flags;
	scalars[slot][3] = bytes;
	scalars[slot][4] = children;
	scalars[slot][5] = MARK(5);
	return chip_submit(chip, key, &args, &config, cookie, NULL);
}

static inline int add(struct chip *chip, uint64_t key, size_t bytes, size_t children)
{
	struct chip_completion done;
	int status;

	vectors_fill();
	status = start(chip, key, a, b, out, (struct dw_config){ 0 }, bytes, children, 1);
	if (status < 0)
		return status;
	status = chip_finish(chip, &done);
	return status == 1 ? done.status : -EPIPE;
}

#endif
