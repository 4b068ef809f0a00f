/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The checks of a call that both interfaces need. No state. */
#include "internal.h"

struct range {
	uint64_t begin, end;
	uint32_t tensor;
};

static const char *direction_name(int32_t direction)
{
	return direction == DW_DIR_IN ? "IN" : direction == DW_DIR_OUT ? "OUT" : "INOUT";
}

static int overlap_fail(const struct dw_chip_image *image, uint32_t a, uint32_t b,
			struct dw_chip_error *error)
{
	uint32_t first = a < b ? a : b, second = a < b ? b : a;

	if (image->signature_count == PTO_NO_SIGNATURE)
		return kit_fail(
			error, -EINVAL,
			"tensors %u and %u of \"%s\" overlap: the runtime copies each tensor back "
			"by itself. Give the image a signature that says that both are only read "
			"(IN), or give each a buffer of its own",
			first, second, image->entry);
	return kit_fail(
		error, -EINVAL,
		"tensors %u (%s) and %u (%s) of \"%s\" overlap: the runtime copies each tensor "
		"back by itself, so that what was written would be lost. Use one INOUT tensor, or "
		"give each a buffer of its own",
		first, direction_name(pto_direction(image, first)), second,
		direction_name(pto_direction(image, second)), image->entry);
}

/*
 * Sorts the ranges by address (most arrive in order), and compares each with the one before it that
 * reaches farthest.
 */
static int overlap_check(const struct dw_chip_device *device, const struct dw_chip_call *call,
			 struct dw_chip_error *error)
{
	bool (*resident)(const struct dw_chip_device *device, uint64_t address) =
		device->interface->resident;
	const struct range *any = NULL, *written = NULL;
	struct range ranges[PTO_TENSORS_MAX];
	uint32_t count = 0;

	for (uint32_t i = 0; i < call->tensor_count; i++) {
		struct range range = { call->tensors[i].data,
				       call->tensors[i].data + call->tensor_bytes[i], i };
		uint32_t at = count;

		if (range.begin == range.end || (resident && resident(device, range.begin)))
			continue;
		for (; at && ranges[at - 1].begin > range.begin; at--)
			ranges[at] = ranges[at - 1];
		ranges[at] = range;
		count++;
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct range *range = &ranges[i];
		bool writes = pto_direction(call->image, range->tensor) & DW_DIR_OUT;

		if (written && range->begin < written->end)
			return overlap_fail(call->image, written->tensor, range->tensor, error);
		if (writes && any && range->begin < any->end)
			return overlap_fail(call->image, any->tensor, range->tensor, error);
		if (!any || range->end > any->end)
			any = range;
		if (writes && (!written || range->end > written->end))
			written = range;
	}
	return 0;
}

int pto_call_check(const struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error)
{
	const struct pto_limits *limits = &device->interface->limits;
	const struct dw_chip_image *image = call->image;

	if (call->tensor_count > limits->tensors)
		return kit_fail(error, -E2BIG, "%zu tensors are more than the %u of a pto call",
				call->tensor_count, limits->tensors);
	if (call->scalar_count > limits->scalars)
		return kit_fail(error, -E2BIG, "%zu scalars are more than the %u of a pto call",
				call->scalar_count, limits->scalars);
	if (image->signature_count != PTO_NO_SIGNATURE && call->tensor_count != image->tensor_count)
		return kit_fail(error, -EINVAL, "\"%s\" takes %u tensors, the call has %zu",
				image->entry, image->tensor_count, call->tensor_count);
	for (size_t i = 0; i < call->tensor_count; i++)
		if (call->tensors[i].data == 0 && call->tensor_bytes[i])
			return kit_fail(error, -EFAULT, "tensor %zu of \"%s\" has no address", i,
					image->entry);
	return call->tensor_count > 1 ? overlap_check(device, call, error) : 0;
}
