/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A task with one input and one output, for tests of how data gets to another host and back: each
 * byte of tensor 1 becomes that of tensor 0 and a number.
 */
#ifndef TESTS_HOSTS_FILL_H
#define TESTS_HOSTS_FILL_H

#include "hosts.h"

static dw_callable fill;

static inline int orch_fill(struct dw_orch *orch, const struct dw_args *args,
			    const struct dw_config *config, void *context)
{
	const unsigned char *from = dw_args_data(args, 0);
	unsigned char *to = dw_args_data(args, 1);

	(void)orch;
	(void)config;
	(void)context;
	for (uint32_t i = 0; i < dw_args_tensor(args, 0)->shape[0]; i++)
		to[i] = (unsigned char)(from[i] + dw_args_int(args, 0));
	return 0;
}

static inline void fill_register(struct dw_worker *of)
{
	CHECK_EQ(dw_callable_register_orch(of, "fill", orch_fill, NULL, &fill), 0);
}

/* What a test has in an input. */
static inline void fill_begin(unsigned char *from, uint32_t bytes, uint32_t salt)
{
	for (uint32_t i = 0; i < bytes; i++)
		from[i] = (unsigned char)(i * 2654435761u >> (9 + salt % 16));
}

static inline dw_task fill_submit(struct dw_orch *orch, unsigned char *from, unsigned char *to,
				  uint32_t bytes, int64_t add)
{
	struct dw_tensor in, out;
	struct dw_args *args;
	dw_task task = 0;

	dw_tensor_init(&in, from, DW_UINT8, &bytes, 1);
	dw_tensor_init(&out, to, DW_UINT8, &bytes, 1);
	CHECK_EQ(dw_args_create(&args), 0);
	dw_args_add_tensor(args, &in, DW_INPUT);
	dw_args_add_tensor(args, &out, DW_OUTPUT);
	dw_args_add_int(args, add);
	CHECK_EQ(dw_submit(orch, fill, args, NULL, &task), 0);
	dw_args_destroy(args);
	return task;
}

static inline void fill_check(const unsigned char *from, const unsigned char *to, uint32_t bytes,
			      int64_t add)
{
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < bytes; i++)
		wrong += to[i] != (unsigned char)(from[i] + add);
	CHECK_EQ(wrong, 0);
}

#endif
