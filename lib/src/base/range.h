/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * range: the bytes [begin, end) of the address space.
 */
#ifndef DW_BASE_RANGE_H
#define DW_BASE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

struct range {
	uint64_t begin, end;
};

static inline bool ranges_overlap(const struct range *a, const struct range *b)
{
	return a->begin < b->end && b->begin < a->end;
}

#endif
