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
/* Whether all bytes of the range are held, in one piece, under the name. */
bool holdings_has(struct holdings *holdings, const struct range *range, uint64_t name);
/* What has a part in the range loses that part. */
void holdings_forget(struct holdings *holdings, const struct range *range);
/* The range is held under the name from now on. Without memory for it, it is not. */
void holdings_set(struct holdings *holdings, const struct range *range, uint64_t name);
/* The first part of the range that is not held: whether there is one. */
bool holdings_gap(const struct holdings *holdings, const struct range *range, struct range *gap);
/* The piece that has not been asked for the longest, of those with used > `after`; NULL: none. */
const struct holding *holdings_oldest(const struct holdings *holdings, uint64_t after);

#endif
