// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The wire format of arguments: [int32 T][int32 S][T × tensor][S × uint64],
 * in the byte order of the machine. task.h describes it.
 *
 * Invariant: a view that wire_decode() made points at nothing outside the blob. The tensors are not
 * checked: a process that did not write the blob itself calls tensor_check().
 */
#include <errno.h>
#include <string.h>
#include "task/error.h"
#include "task/task.h"

void wire_encode(const struct dw_args *args, void *blob)
{
	int32_t counts[2] = { (int32_t)args->tensor_count, (int32_t)args->scalar_count };
	uint64_t tensor_bytes = (uint64_t)args->tensor_count * sizeof(struct dw_tensor);
	unsigned char *to = blob;

	memcpy(to, counts, WIRE_HEADER_BYTES);
	to += WIRE_HEADER_BYTES;
	if (tensor_bytes)
		memcpy(to, args->tensors, tensor_bytes);
	to += tensor_bytes;
	if (args->scalar_count)
		memcpy(to, args->scalars, (uint64_t)args->scalar_count * sizeof(uint64_t));
}

/* Reads the header; -EBADMSG unless the blob has the bytes that it asks for. */
static inline __attribute__((always_inline)) int check_size(const unsigned char *blob,
							    uint64_t bytes, uint32_t *counts)
{
	int32_t read[2];
	uint64_t wanted;

	if (bytes < WIRE_HEADER_BYTES)
		return error_set(-EBADMSG, "arguments of %llu bytes: the header alone has %d",
				 (unsigned long long)bytes, WIRE_HEADER_BYTES);
	memcpy(read, blob, WIRE_HEADER_BYTES);
	if (read[0] < 0 || read[1] < 0)
		return error_set(-EBADMSG, "arguments with %d tensors and %d scalars: negative",
				 read[0], read[1]);
	wanted = WIRE_HEADER_BYTES + (uint64_t)read[0] * sizeof(struct dw_tensor) +
		 (uint64_t)read[1] * sizeof(uint64_t);
	if (wanted != bytes)
		return error_set(
			-EBADMSG,
			"arguments with %d tensors and %d scalars have %llu bytes, not %llu",
			read[0], read[1], (unsigned long long)wanted,
			(unsigned long long)bytes);
	counts[0] = (uint32_t)read[0];
	counts[1] = (uint32_t)read[1];
	return 0;
}

int wire_decode(void *blob, uint64_t bytes, struct dw_args *view)
{
	unsigned char *from = blob;
	uint32_t counts[2] = { 0, 0 };
	int result;

	if ((uintptr_t)blob % sizeof(uint64_t))
		return error_set(-EBADMSG, "arguments at %p: not aligned to 8 bytes", blob);
	result = check_size(from, bytes, counts);
	if (result < 0)
		return result;

	view->tensor_count = counts[0];
	view->scalar_count = counts[1];
	view->tensors = (void *)(from + WIRE_HEADER_BYTES);
	view->scalars = (void *)(from + WIRE_HEADER_BYTES +
				 (uint64_t)counts[0] * sizeof(struct dw_tensor));
	view->tags = NULL;
	view->tensor_space = 0;
	view->scalar_space = 0;
	view->view = true;
	return 0;
}

/* ------------------------------------------------------------------ public */

int dw_args_to_blob(const struct dw_args *args, void *blob, size_t *bytes)
{
	uint64_t wanted;

	if (!args || !bytes)
		return error_set(-EINVAL, "dw_args_to_blob: %s is NULL", args ? "bytes" : "args");
	wanted = wire_bytes(args);
	if (!blob && *bytes)
		return error_set(-EINVAL, "dw_args_to_blob: blob is NULL, and *bytes is %zu",
				 *bytes);
	if (wanted <= *bytes)
		wire_encode(args, blob);
	*bytes = wanted;
	return 0;
}

static int check_tensors(const unsigned char *from, uint32_t count)
{
	struct dw_tensor tensor;
	uint64_t bytes;
	int result = 0;

	for (uint32_t i = 0; i < count && result == 0; i++) {
		memcpy(&tensor, from + (uint64_t)i * sizeof(tensor), sizeof(tensor));
		result = tensor_check(&tensor, i, &bytes);
	}
	return result;
}

int dw_args_from_blob(const void *blob, size_t bytes, struct dw_args *args)
{
	const unsigned char *from = blob;
	struct dw_tensor tensor;
	uint32_t counts[2] = { 0, 0 };
	uint64_t scalar;
	int result;

	if (!blob || !args)
		return error_set(-EINVAL, "dw_args_from_blob: %s is NULL", blob ? "args" : "blob");
	if (args->view)
		return error_set(-EPERM, "the arguments of a running task cannot be changed");
	result = check_size(from, bytes, counts);
	from += WIRE_HEADER_BYTES;
	if (result == 0)
		result = check_tensors(from, counts[0]);
	if (result < 0)
		return result;
	dw_args_reset(args);
	for (uint32_t i = 0; i < counts[0] && result == 0; i++, from += sizeof(tensor)) {
		memcpy(&tensor, from, sizeof(tensor));
		result = dw_args_add_tensor(args, &tensor, DW_INPUT);
	}
	for (uint32_t i = 0; i < counts[1] && result == 0; i++, from += sizeof(scalar)) {
		memcpy(&scalar, from, sizeof(scalar));
		result = dw_args_add_scalar(args, scalar);
	}
	return result;
}
