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
	memcpy(to, args->tensors, tensor_bytes);
	to += tensor_bytes;
	memcpy(to, args->scalars, (uint64_t)args->scalar_count * sizeof(uint64_t));
}

int wire_decode(void *blob, uint64_t bytes, struct dw_args *view)
{
	unsigned char *from = blob;
	int32_t counts[2];
	uint64_t tensor_bytes, wanted;

	if ((uintptr_t)blob % sizeof(uint64_t))
		return error_set(-EBADMSG, "arguments at %p: not aligned to 8 bytes", blob);
	if (bytes < WIRE_HEADER_BYTES)
		return error_set(-EBADMSG, "arguments of %llu bytes: the header alone has %d",
				 (unsigned long long)bytes, WIRE_HEADER_BYTES);
	memcpy(counts, from, WIRE_HEADER_BYTES);
	if (counts[0] < 0 || counts[1] < 0)
		return error_set(-EBADMSG, "arguments with %d tensors and %d scalars: negative",
				 counts[0], counts[1]);
	tensor_bytes = (uint64_t)counts[0] * sizeof(struct dw_tensor);
	wanted = WIRE_HEADER_BYTES + tensor_bytes + (uint64_t)counts[1] * sizeof(uint64_t);
	if (wanted != bytes)
		return error_set(
			-EBADMSG,
			"arguments with %d tensors and %d scalars have %llu bytes, not %llu",
			counts[0], counts[1], (unsigned long long)wanted,
			(unsigned long long)bytes);

	view->tensor_count = (uint32_t)counts[0];
	view->scalar_count = (uint32_t)counts[1];
	view->tensors = (void *)(from + WIRE_HEADER_BYTES);
	view->scalars = (void *)(from + WIRE_HEADER_BYTES + tensor_bytes);
	view->tags = NULL;
	view->tensor_space = 0;
	view->scalar_space = 0;
	view->view = true;
	return 0;
}
