// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Tensors: element types, checks, views. No state.
 *
 * Invariant: a tensor that passed tensor_check() describes a byte range that does not wrap around
 * the address space.
 */
#include <errno.h>
#include <string.h>
#include "task/error.h"
#include "task/task.h"

struct dtype {
	uint8_t bytes;
	const char *name;
};

static const struct dtype dtypes[] = {
	[DW_FLOAT32] = { 4, "float32" },
	[DW_FLOAT16] = { 2, "float16" },
	[DW_INT32] = { 4, "int32" },
	[DW_INT16] = { 2, "int16" },
	[DW_INT8] = { 1, "int8" },
	[DW_UINT8] = { 1, "uint8" },
	[DW_BFLOAT16] = { 2, "bfloat16" },
	[DW_INT64] = { 8, "int64" },
	[DW_UINT64] = { 8, "uint64" },
	[DW_FLOAT64] = { 8, "float64" },
	[DW_UINT16] = { 2, "uint16" },
	[DW_UINT32] = { 4, "uint32" },
	[DW_BOOL] = { 1, "bool" },
};

#define DTYPE_COUNT (sizeof(dtypes) / sizeof(dtypes[0]))

/* 0: there is no such type. */
static inline uint64_t element_bytes(int dtype)
{
	return (size_t)dtype < DTYPE_COUNT ? dtypes[dtype].bytes : 0;
}

size_t dw_dtype_bytes(int dtype)
{
	return element_bytes(dtype);
}

const char *dw_dtype_name(int dtype)
{
	if (dw_dtype_bytes(dtype) == 0)
		return "unknown";
	return dtypes[dtype].name;
}

/*
 * The number of elements, or false when it does not fit 64 bits. A dimension of 0 makes it 0, even
 * if the others would overflow.
 */
static bool count_elements(const uint32_t *shape, uint32_t ndims, uint64_t *elements)
{
	uint64_t product = 1;
	bool overflow = false;

	for (uint32_t i = 0; i < ndims; i++) {
		if (shape[i] == 0) {
			*elements = 0;
			return true;
		}
		overflow |= __builtin_mul_overflow(product, (uint64_t)shape[i], &product);
	}
	*elements = product;
	return !overflow;
}

/* Words the error of an invalid tensor. */
static int refuse(uint64_t data, int dtype, const uint32_t *shape, uint32_t ndims, size_t index)
{
	uint64_t element = element_bytes(dtype), total;

	if (element == 0)
		return error_set(-EINVAL, "tensor %zu: element type %d is unknown", index, dtype);
	if (ndims > DW_TENSOR_MAX_DIMS)
		return error_set(-EINVAL, "tensor %zu: ndims is %u, at most %d are possible", index,
				 ndims, DW_TENSOR_MAX_DIMS);
	if (!count_elements(shape, ndims, &total) ||
	    __builtin_mul_overflow(total, element, &total))
		return error_set(-EINVAL, "tensor %zu: shape has more bytes than 64 bits can count",
				 index);
	return error_set(
		-EINVAL,
		"tensor %zu: data %#llx + %llu bytes runs over the end of the address space", index,
		(unsigned long long)data, (unsigned long long)total);
}

/* Part of each submit, for each tensor: one path without calls. */
static inline bool measure(uint64_t data, int dtype, const uint32_t *shape, uint32_t ndims,
			   uint64_t *bytes)
{
	uint64_t element = element_bytes(dtype), end;

	return element && ndims <= DW_TENSOR_MAX_DIMS && count_elements(shape, ndims, bytes) &&
	       !__builtin_mul_overflow(*bytes, element, bytes) &&
	       !__builtin_add_overflow(data, *bytes, &end);
}

int tensor_check(const struct dw_tensor *tensor, size_t index, uint64_t *bytes)
{
	static const uint8_t zeros[sizeof(tensor->reserved)];

	if (memcmp(tensor->reserved, zeros, sizeof(zeros)))
		return error_set(-EINVAL, "tensor %zu: reserved bytes must be 0", index);
	if (measure(tensor->data, tensor->dtype, tensor->shape, tensor->ndims, bytes))
		return 0;
	return refuse(tensor->data, tensor->dtype, tensor->shape, tensor->ndims, index);
}

int dw_tensor_bytes(const struct dw_tensor *tensor, uint64_t *bytes)
{
	uint64_t total = 0;

	if (!tensor || !bytes)
		return error_set(-EINVAL, "dw_tensor_bytes: tensor and bytes must not be NULL");
	if (!measure(tensor->data, tensor->dtype, tensor->shape, tensor->ndims, &total))
		return refuse(tensor->data, tensor->dtype, tensor->shape, tensor->ndims, 0);
	*bytes = total;
	return 0;
}

int dw_tensor_init(struct dw_tensor *tensor, void *data, int dtype, const uint32_t *shape,
		   uint32_t ndims)
{
	struct dw_tensor made = { .data = (uintptr_t)data, .ndims = ndims };
	uint64_t bytes;

	if (!tensor || (!shape && ndims > 0))
		return error_set(-EINVAL, "dw_tensor_init: tensor and shape must not be NULL");
	if (!measure(made.data, dtype, shape, ndims, &bytes))
		return refuse(made.data, dtype, shape, ndims, 0);
	made.dtype = (uint8_t)dtype;
	if (ndims > 0)
		memcpy(made.shape, shape, ndims * sizeof(*shape));
	*tensor = made;
	return 0;
}

int dw_tensor_slice(const struct dw_tensor *tensor, uint32_t first, uint32_t count,
		    struct dw_tensor *view)
{
	struct dw_tensor made;
	uint64_t bytes;
	int error;

	if (!tensor || !view)
		return error_set(-EINVAL, "dw_tensor_slice: tensor and view must not be NULL");
	error = tensor_check(tensor, 0, &bytes);
	if (error)
		return error;
	if (tensor->ndims == 0)
		return error_set(-ERANGE,
				 "dw_tensor_slice: a tensor of 0 dimensions has no slices");
	if ((uint64_t)first + count > tensor->shape[0])
		return error_set(
			-ERANGE,
			"dw_tensor_slice: elements [%u, %llu) of dimension 0, which has %u", first,
			(unsigned long long)first + count, tensor->shape[0]);
	made = *tensor;
	made.shape[0] = count;
	if (tensor->shape[0] > 0)
		made.data += bytes / tensor->shape[0] * first;
	*view = made;
	return 0;
}
