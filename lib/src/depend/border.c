/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See border.h. Segments are disjoint, sorted by address, and split where accesses overlap partly.
 * The list of a segment has the accesses that enter first, `entering` of them once there was an
 * ordered write; then those that leave, which the next ordered write empties.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "depend/border.h"
#include "depend/tensor_order.h"
#include "task/error.h"

#define USES_INSIDE 3

struct use {
	uint32_t task;
	uint8_t tag;
};

struct segment {
	uint64_t begin, end;
	struct segment *before, *after;
	struct use *uses; /* inside or allocated */
	uint32_t count, space;
	uint32_t entering; /* up to the first ordered write; 0: there was none */
	bool again; /* there was a second one: the others only leave */
	bool written;
	struct use inside[USES_INSIDE];
};

struct border_set {
	struct segment *first;
	struct tensor_order order;
};

int border_set_create(struct border_set **set)
{
	struct border_set *made = calloc(1, sizeof(*made));

	if (!made)
		return error_set(-ENOMEM, "no memory for a recording");
	order_init(&made->order);
	*set = made;
	return 0;
}

static void segment_free(struct segment *segment)
{
	if (segment->uses != segment->inside)
		free(segment->uses);
	free(segment);
}

void border_set_destroy(struct border_set *set)
{
	struct segment *segment;

	if (!set)
		return;
	while ((segment = set->first)) {
		set->first = segment->after;
		segment_free(segment);
	}
	order_release(&set->order);
	free(set);
}

/* Chained in behind `before` (NULL: as the first). */
static struct segment *segment_add(struct border_set *set, uint64_t begin, uint64_t end,
				   struct segment *before)
{
	struct segment *segment = calloc(1, sizeof(*segment));

	if (!segment)
		return NULL;
	if (order_insert(&set->order, begin, segment) < 0) {
		free(segment);
		return NULL;
	}
	segment->begin = begin;
	segment->end = end;
	segment->uses = segment->inside;
	segment->space = USES_INSIDE;
	segment->before = before;
	segment->after = before ? before->after : set->first;
	if (segment->after)
		segment->after->before = segment;
	if (before)
		before->after = segment;
	else
		set->first = segment;
	return segment;
}

static bool uses_reserve(struct segment *segment, uint32_t space)
{
	struct use *grown;

	if (space <= segment->space)
		return true;
	if (space < 2 * segment->space)
		space = 2 * segment->space;
	if (segment->uses == segment->inside) {
		grown = malloc(space * sizeof(*grown));
		if (grown)
			memcpy(grown, segment->inside, sizeof(segment->inside));
	} else {
		grown = realloc(segment->uses, space * sizeof(*grown));
	}
	if (!grown)
		return false;
	segment->uses = grown;
	segment->space = space;
	return true;
}

/* Cuts a segment in two that say the same. False: no memory. */
static bool segment_split(struct border_set *set, struct segment *lower, uint64_t at)
{
	struct segment *upper = segment_add(set, at, lower->end, lower);

	if (!upper || !uses_reserve(upper, lower->count))
		return false;
	memcpy(upper->uses, lower->uses, lower->count * sizeof(*upper->uses));
	upper->count = lower->count;
	upper->entering = lower->entering;
	upper->again = lower->again;
	upper->written = lower->written;
	lower->end = at;
	return true;
}

/* The last segment that begins at or below `address`, or NULL. */
static struct segment *segment_below(struct border_set *set, uint64_t address)
{
	struct segment *segment = order_near(&set->order, address);

	return segment && segment->begin > address ? segment->before : segment;
}

static bool note(struct segment *segment, enum dw_tag tag, uint32_t task)
{
	bool ordered = tag == DW_OUTPUT || tag == DW_INOUT;

	segment->written |= tag != DW_INPUT;
	if (tag == DW_NO_DEP)
		return true;
	if (ordered && segment->entering) {
		/* The task's own write a moment ago: this one adds nothing. */
		if (segment->uses[segment->count - 1].task == task &&
		    segment->uses[segment->count - 1].tag != DW_INPUT)
			return true;
		segment->count = segment->entering;
		segment->again = true;
		tag = DW_OUTPUT;
	}
	if (!uses_reserve(segment, segment->count + 1))
		return false;
	segment->uses[segment->count++] = (struct use){ task, (uint8_t)tag };
	if (ordered && !segment->entering)
		segment->entering = segment->count;
	return true;
}

static bool access_range(struct border_set *set, uint64_t begin, uint64_t end, enum dw_tag tag,
			 uint32_t task)
{
	struct segment *before = segment_below(set, begin), *segment;

	if (before && before->begin < begin && before->end > begin &&
	    !segment_split(set, before, begin))
		return false;
	if (before && before->begin == begin)
		before = before->before;
	while (begin < end) {
		segment = before ? before->after : set->first;
		if (!segment || segment->begin > begin) {
			uint64_t gap_end = segment && segment->begin < end ? segment->begin : end;

			segment = segment_add(set, begin, gap_end, before);
			if (!segment)
				return false;
		} else if (segment->end > end && !segment_split(set, segment, end)) {
			return false;
		}
		if (!note(segment, tag, task))
			return false;
		before = segment;
		begin = segment->end;
	}
	return true;
}

int border_set_access(struct border_set *set, uint64_t begin, uint64_t end, enum dw_tag tag,
		      uint32_t task)
{
	return access_range(set, begin, end, tag, task) ?
		       0 :
		       error_set(-ENOMEM, "no memory for a recording");
}

void border_set_each(const struct border_set *set,
		     void (*visit)(const struct border_access *access, void *context),
		     void *context)
{
	for (const struct segment *segment = set->first; segment; segment = segment->after)
		for (uint32_t i = 0; i < segment->count; i++) {
			const struct border_access access = {
				.begin = segment->begin,
				.end = segment->end,
				.task = segment->uses[i].task,
				.tag = segment->uses[i].tag,
				.enters = !segment->again || i < segment->entering,
			};

			visit(&access, context);
		}
}

void border_set_memory(const struct border_set *set,
		       void (*visit)(uint64_t begin, uint64_t end, bool written, void *context),
		       void *context)
{
	for (const struct segment *segment = set->first; segment; segment = segment->after)
		visit(segment->begin, segment->end, segment->written, context);
}
