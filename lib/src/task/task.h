/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * task: arguments, their wire format, the config. Depends on nothing.
 *
 * The wire format is [int32 T][int32 S][T × tensor, 40 bytes][S × uint64]:
 * plain memory copies, no tags. A decoded dw_args is a *view*: it points into
 * the blob, and its tags are absent.
 *
 * No locks: a dw_args belongs to one thread at a time.
 */
#ifndef DW_TASK_TASK_H
#define DW_TASK_TASK_H

#include <stdbool.h>
#include <distworker/distworker.h>

#define ARGS_INLINE_TENSORS 8
#define ARGS_INLINE_SCALARS 8
#define WIRE_HEADER_BYTES 8

struct dw_args {
	uint32_t tensor_count;
	uint32_t scalar_count;
	struct dw_tensor *tensors;	/* inline, on the heap, or in a wire blob (view) */
	uint64_t *scalars;
	uint8_t *tags;			/* NULL for a view */
	uint32_t tensor_space;
	uint32_t scalar_space;
	bool view;
	struct dw_tensor inline_tensors[ARGS_INLINE_TENSORS];
	uint64_t inline_scalars[ARGS_INLINE_SCALARS];
	uint8_t inline_tags[ARGS_INLINE_TENSORS];
};

_Static_assert(sizeof(struct dw_tensor) == 40, "a tensor has 40 bytes on the wire");
_Static_assert(sizeof(struct dw_config) == 20, "the config has 20 bytes on the wire");

/*
 * Initialises an args object in place, empty, with the inline storage; args_release() frees the
 * grown arrays.
 */
void args_init(struct dw_args *args);
void args_release(struct dw_args *args);

static inline uint64_t wire_bytes(const struct dw_args *args)
{
	return WIRE_HEADER_BYTES + (uint64_t)args->tensor_count * sizeof(struct dw_tensor) +
	       (uint64_t)args->scalar_count * sizeof(uint64_t);
}

/* Writes wire_bytes(args) bytes. `blob` is 8-byte aligned. */
void wire_encode(const struct dw_args *args, void *blob);
/* Makes `view` point into `blob`. -EBADMSG with a text when counts and size disagree. */
int wire_decode(void *blob, uint64_t bytes, struct dw_args *view);

/* Checks ndims, dtype, reserved and overflow of one tensor; the text names the field. */
int tensor_check(const struct dw_tensor *tensor, size_t index, uint64_t *bytes);

#endif
