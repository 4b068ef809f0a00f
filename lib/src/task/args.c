// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * dw_args: the arguments of one task. The first few lie in the object itself; further ones go to
 * the heap, and a grown array stays until release.
 *
 * Invariant: a view (wire.c) owns nothing and is never changed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "task/error.h"
#include "task/task.h"

#define likely(x) __builtin_expect(!!(x), 1)

/* On the wire both numbers are int32. */
#define ARGS_MAX INT32_MAX

void args_init(struct dw_args *args)
{
	args->tensor_count = 0;
	args->scalar_count = 0;
	args->tensors = args->inline_tensors;
	args->scalars = args->inline_scalars;
	args->tags = args->inline_tags;
	args->tensor_space = ARGS_INLINE_TENSORS;
	args->scalar_space = ARGS_INLINE_SCALARS;
	args->view = false;
}

void args_release(struct dw_args *args)
{
	if (!args->view) {
		if (args->tensors != args->inline_tensors)
			free(args->tensors);
		if (args->tags != args->inline_tags)
			free(args->tags);
		if (args->scalars != args->inline_scalars)
			free(args->scalars);
	}
	args_init(args);
}

int dw_args_create(struct dw_args **args)
{
	struct dw_args *made;

	if (!args)
		return error_set(-EINVAL, "dw_args_create: args must not be NULL");
	made = malloc(sizeof(*made));
	if (!made)
		return error_set(-ENOMEM, "dw_args_create: no memory for %zu bytes", sizeof(*made));
	args_init(made);
	*args = made;
	return 0;
}

void dw_args_destroy(struct dw_args *args)
{
	if (!args)
		return;
	args_release(args);
	free(args);
}

void dw_args_reset(struct dw_args *args)
{
	if (!args)
		return;
	if (args->view)
		args_init(args);
	args->tensor_count = 0;
	args->scalar_count = 0;
}

/*
 * Moves `count` elements of `bytes` each into a larger heap block. NULL: no memory, nothing
 * changed.
 */
static void *grow(void *old, const void *inline_storage, uint32_t count, uint32_t space,
		  size_t bytes)
{
	void *block;

	if (old != inline_storage)
		return realloc(old, space * bytes);
	block = malloc(space * bytes);
	if (block)
		memcpy(block, old, count * bytes);
	return block;
}

static uint32_t next_space(uint32_t space)
{
	return space > ARGS_MAX / 2 ? ARGS_MAX : space * 2;
}

static int check_changeable(const struct dw_args *args, uint32_t count)
{
	if (args->view)
		return error_set(-EPERM, "the arguments of a running task cannot be changed");
	if (count == ARGS_MAX)
		return error_set(-E2BIG, "a task has at most %d tensors and as many scalars",
				 ARGS_MAX);
	return 0;
}

static int grow_tensors(struct dw_args *args)
{
	uint32_t space = next_space(args->tensor_space);
	int error = check_changeable(args, args->tensor_count);
	struct dw_tensor *tensors;
	uint8_t *tags;

	if (error)
		return error;
	/* Each pointer is stored at once, so that nothing is lost when the second fails. */
	tensors = grow(args->tensors, args->inline_tensors, args->tensor_count, space,
		       sizeof(*tensors));
	if (!tensors)
		goto no_memory;
	args->tensors = tensors;
	tags = grow(args->tags, args->inline_tags, args->tensor_count, space, sizeof(*tags));
	if (!tags)
		goto no_memory;
	args->tags = tags;
	args->tensor_space = space;
	return 0;

no_memory:
	return error_set(-ENOMEM, "no memory for %u tensors", space);
}

static int grow_scalars(struct dw_args *args)
{
	uint32_t space = next_space(args->scalar_space);
	int error = check_changeable(args, args->scalar_count);
	uint64_t *scalars;

	if (error)
		return error;
	scalars = grow(args->scalars, args->inline_scalars, args->scalar_count, space,
		       sizeof(*scalars));
	if (!scalars)
		return error_set(-ENOMEM, "no memory for %u scalars", space);
	args->scalars = scalars;
	args->scalar_space = space;
	return 0;
}

int dw_args_add_tensor(struct dw_args *args, const struct dw_tensor *tensor, enum dw_tag tag)
{
	uint64_t bytes;
	uint32_t n;
	int error;

	if (!args || !tensor)
		return error_set(-EINVAL, "dw_args_add_tensor: args and tensor must not be NULL");
	n = args->tensor_count;
	if ((unsigned int)tag > DW_NO_DEP)
		return error_set(-EINVAL, "tensor %u: tag %d is unknown", n, (int)tag);
	error = tensor_check(tensor, n, &bytes);
	if (error)
		return error;
	/* A view has no space, so that the common path tests one thing. */
	if (!likely(n < args->tensor_space)) {
		error = grow_tensors(args);
		if (error)
			return error;
	}
	args->tensors[n] = *tensor;
	args->tags[n] = (uint8_t)tag;
	args->tensor_count = n + 1;
	return 0;
}

int dw_args_add_scalar(struct dw_args *args, uint64_t value)
{
	int error;

	if (!args)
		return error_set(-EINVAL, "dw_args_add_scalar: args must not be NULL");
	if (!likely(args->scalar_count < args->scalar_space)) {
		error = grow_scalars(args);
		if (error)
			return error;
	}
	args->scalars[args->scalar_count++] = value;
	return 0;
}

int dw_args_add_double(struct dw_args *args, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return dw_args_add_scalar(args, bits);
}

int dw_args_add_int(struct dw_args *args, int64_t value)
{
	return dw_args_add_scalar(args, (uint64_t)value);
}

size_t dw_args_tensor_count(const struct dw_args *args)
{
	return args ? args->tensor_count : 0;
}

size_t dw_args_scalar_count(const struct dw_args *args)
{
	return args ? args->scalar_count : 0;
}

const struct dw_tensor *dw_args_tensor(const struct dw_args *args, size_t index)
{
	return args && index < args->tensor_count ? &args->tensors[index] : NULL;
}

void *dw_args_data(const struct dw_args *args, size_t index)
{
	const struct dw_tensor *tensor = dw_args_tensor(args, index);

	return tensor ? (void *)(uintptr_t)tensor->data : NULL;
}

uint64_t dw_args_scalar(const struct dw_args *args, size_t index)
{
	return args && index < args->scalar_count ? args->scalars[index] : 0;
}

double dw_args_double(const struct dw_args *args, size_t index)
{
	uint64_t bits = dw_args_scalar(args, index);
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

int64_t dw_args_int(const struct dw_args *args, size_t index)
{
	return (int64_t)dw_args_scalar(args, index);
}
