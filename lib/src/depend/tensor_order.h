/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Tensor order: the segments of a tensor map sorted by where they begin, as a
 * B+ tree (a descent touches few cache lines). It only finds a neighbour; the
 * segments themselves are chained in order by their owner.
 *
 * Hints remember the leaf that was used last, so that work on neighbouring
 * addresses (a heap ring that fills, a sweep) makes no descent.
 * No locks: belongs to its tensor map. Memory stays until order_release().
 */
#ifndef DW_DEPEND_TENSOR_ORDER_H
#define DW_DEPEND_TENSOR_ORDER_H

#include <stdbool.h>
#include <stdint.h>

struct segment;
struct order_node;

/* A leaf and the keys that belong into it: [low, high). */
struct order_hint {
	struct order_node *leaf;
	uint64_t low, high;
};

struct tensor_order {
	struct order_node *root;
	struct order_node *unused;
	struct order_hint found, removed;
};

void order_init(struct tensor_order *order);
void order_release(struct tensor_order *order);
/*
 * A segment next to `key`: the last one at or below it, or, when `key` is below
 * the whole leaf, the first one above (whose predecessor is then the answer). NULL when empty.
 */
struct segment *order_near(struct tensor_order *order, uint64_t key);
/* `key` must not be there. -ENOMEM: nothing changed. */
int order_insert(struct tensor_order *order, uint64_t key, struct segment *segment);
/* `key` must be there. */
void order_remove(struct tensor_order *order, uint64_t key);

#endif
