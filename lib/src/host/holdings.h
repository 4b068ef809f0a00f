/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * holdings: which bytes of the tree's memory a host has, and under which name of their contents
 * (docs/spaces.md). A tensor that is held under the name that a task asks for is not fetched.
 *
 * Owns: struct holdings. Invariants: pieces do not overlap, and lie in the order of their
 * addresses; a byte that is in no piece is not held. A range is forgotten before a task writes it,
 * and gets a name when the task has succeeded. One thread.
 */
#ifndef DW_HOST_HOLDINGS_H
#define DW_HOST_HOLDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/range.h"

struct holding {
	struct range range;
	uint64_t name; /* not 0 */
	uint64_t used; /* when it was asked for last, in calls of this module */
};

struct holdings {
	struct holding *pieces;
	size_t count, room;
	uint64_t bytes; /* of all pieces */
	uint64_t uses;
};

void holdings_release(struct holdings *holdings);
/* Are all bytes of the range held, in one piece, under the name? */
bool holdings_has(struct holdings *holdings, const struct range *range, uint64_t name);
/* Forgets the range: pieces that overlap it lose that part. */
void holdings_forget(struct holdings *holdings, const struct range *range);
/* From now on the range is held under the name, unless memory to note that is lacking. */
void holdings_set(struct holdings *holdings, const struct range *range, uint64_t name);
/* Finds the first part of the range that is not held; false: there is none. */
bool holdings_gap(const struct holdings *holdings, const struct range *range, struct range *gap);
/* Of the pieces with used > `after`, the one that was unused the longest; NULL: none. */
const struct holding *holdings_oldest(const struct holdings *holdings, uint64_t after);

#endif
