/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Arguments of tasks. A part of distworker.h, which has the conventions, the table of threads and
 * the limits, and includes this file.
 */
#ifndef DISTWORKER_ARGS_H
#define DISTWORKER_ARGS_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The arguments of one task: tensors with their tags, and 64-bit scalars.
 * The caller owns the object; a submit copies them, and fills in the addresses of DW_OUTPUT tensors
 * that were 0. There is no limit on either number but memory (and the chip driver's own).
 */
struct dw_args;

/* Without arguments yet. -ENOMEM. */
DW_API int dw_args_create(struct dw_args **args);
/* NULL is fine. */
DW_API void dw_args_destroy(struct dw_args *args);
/* Empties the object and keeps its memory, for the next task. */
DW_API void dw_args_reset(struct dw_args *args);
/*
 * Adds a copy of the tensor, or a scalar, behind those of its kind. -EINVAL: a tensor or tag that
 * makes no sense; -EPERM: arguments that a callable was given; -E2BIG: there are 2^31 - 1 of the
 * kind; -ENOMEM.
 */
DW_API int dw_args_add_tensor(struct dw_args *args, const struct dw_tensor *tensor,
			      enum dw_tag tag);
DW_API int dw_args_add_scalar(struct dw_args *args, uint64_t value);
/* Bit patterns of a float64 and an int64 as scalars. */
DW_API int dw_args_add_double(struct dw_args *args, double value);
DW_API int dw_args_add_int(struct dw_args *args, int64_t value);

/* Reading, in a callable or after a submit. Out of range: NULL, or 0. */
DW_API size_t dw_args_tensor_count(const struct dw_args *args);
DW_API size_t dw_args_scalar_count(const struct dw_args *args);
DW_API const struct dw_tensor *dw_args_tensor(const struct dw_args *args, size_t index);
DW_API void *dw_args_data(const struct dw_args *args, size_t index);
DW_API uint64_t dw_args_scalar(const struct dw_args *args, size_t index);
DW_API double dw_args_double(const struct dw_args *args, size_t index);
DW_API int64_t dw_args_int(const struct dw_args *args, size_t index);

/*
 * The wire format of arguments, for drivers and bindings that pass them on: int32 T, int32 S,
 * T tensors of 40 bytes (struct dw_tensor), S scalars of 8 bytes, in the byte order of the machine.
 * Tags are not a part of it.
 *
 * *bytes in: space of `blob`; out: the bytes of the whole, 8 + 40 T + 8 S. If that is more than the
 * space, nothing is written; NULL and 0 ask for the number alone. `blob` may have any alignment.
 */
DW_API int dw_args_to_blob(const struct dw_args *args, void *blob, size_t *bytes);
/*
 * Empties `args` and adds what the blob has; the tensors' tags are DW_INPUT. The blob is copied. It
 * may have any alignment. -EBADMSG: `bytes` is not what the numbers in the blob ask for, or one of
 * them is negative; -EINVAL: a tensor that makes no sense; -EPERM, -ENOMEM as dw_args_add_tensor().
 * On an error but -ENOMEM `args` is as it was.
 */
DW_API int dw_args_from_blob(const void *blob, size_t bytes, struct dw_args *args);

#ifdef __cplusplus
}
#endif
#endif /* DISTWORKER_ARGS_H */
