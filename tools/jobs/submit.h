/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Submitting in one statement: operands with their tags, scalars, a name. For
 * orchestration functions; belongs to their thread.
 */
#ifndef DISTWORKER_JOBS_SUBMIT_H
#define DISTWORKER_JOBS_SUBMIT_H

#include <distworker/distworker.h>

struct operand {
	struct dw_tensor *tensor;	/* a DW_OUTPUT without address gets the one it was given */
	enum dw_tag tag;
};

struct submission {
	dw_callable callable;
	const char *name;
	uint32_t worker;		/* or DW_ANY */
	uint32_t block_dim;
	const struct operand *operands;
	size_t operand_count;
	const uint64_t *scalars;
	size_t scalar_count;
};

/* `args` is scratch memory, emptied first. 0 or -errno of the library. */
static int submit_task(struct dw_orch *orch, struct dw_args *args,
		       const struct submission *submission)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int err = 0;

	options.name = submission->name;
	options.place = DW_PLACE(submission->worker);
	options.config.block_dim = (int32_t)submission->block_dim;
	dw_args_reset(args);
	for (size_t i = 0; i < submission->operand_count && !err; i++)
		err = dw_args_add_tensor(args, submission->operands[i].tensor,
					 submission->operands[i].tag);
	for (size_t i = 0; i < submission->scalar_count && !err; i++)
		err = dw_args_add_scalar(args, submission->scalars[i]);
	if (!err)
		err = dw_submit(orch, submission->callable, args, &options, NULL);
	for (size_t i = 0; i < submission->operand_count && !err; i++)
		if (!submission->operands[i].tensor->data)
			submission->operands[i].tensor->data = dw_args_tensor(args, i)->data;
	return err;
}

/* A tensor of one or two dimensions; columns 0: one. data NULL: to be allocated as an output. */
static struct dw_tensor tensor_of(void *data, int dtype, uint32_t rows, uint32_t columns)
{
	struct dw_tensor tensor = { .data = (uint64_t)(uintptr_t)data, .shape = { rows, columns },
				    .ndims = columns ? 2 : 1, .dtype = (uint8_t)dtype };

	return tensor;
}

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
