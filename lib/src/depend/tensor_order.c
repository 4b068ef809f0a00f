// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * B+ tree of a tensor map. In an inner node, keys[i] is a lower bound of
 * everything under children[i] and above everything under children[i - 1];
 * keys[0] is never looked at, the first child takes all that is lower.
 *
 * Full nodes are split on the way down, so an insertion that fails for lack of
 * memory leaves a valid tree. Nodes that run low are merged with a sibling on the way up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "depend/tensor_order.h"

#define FANOUT 31		/* a node is 504 bytes */
#define FANOUT_LOW (FANOUT / 4)
#define FANOUT_MERGED (FANOUT * 3 / 4)
#define HEIGHT_MAX 24

struct order_node {
	uint16_t count;
	uint16_t height;	/* 0: a leaf, its children are segments */
	uint64_t keys[FANOUT];
	void *children[FANOUT];
};

void order_init(struct tensor_order *order)
{
	memset(order, 0, sizeof(*order));
}

static void free_below(struct order_node *node)
{
	if (node->height)
		for (uint32_t i = 0; i < node->count; i++)
			free_below(node->children[i]);
	free(node);
}

void order_release(struct tensor_order *order)
{
	struct order_node *node;

	if (order->root)
		free_below(order->root);
	while ((node = order->unused)) {
		order->unused = node->children[0];
		free(node);
	}
	order_init(order);
}

static void forget_hints(struct tensor_order *order)
{
	order->found.leaf = NULL;
	order->removed.leaf = NULL;
}

static struct order_node *node_get(struct tensor_order *order, uint32_t height)
{
	struct order_node *node = order->unused;

	if (node)
		order->unused = node->children[0];
	else
		node = malloc(sizeof(*node));
	if (node) {
		node->count = 0;
		node->height = height;
	}
	return node;
}

static void node_put(struct tensor_order *order, struct order_node *node)
{
	node->children[0] = order->unused;
	order->unused = node;
}

/* The last index whose key is <= `key`, or 0; without branches that depend on data. */
static inline uint32_t position(const struct order_node *node, uint64_t key)
{
	uint32_t at = 0;

	for (uint32_t left = node->count; left > 1;) {
		uint32_t half = left / 2;

		at += node->keys[at + half] <= key ? half : 0;
		left -= half;
	}
	return at;
}

static void put_at(struct order_node *node, uint32_t at, uint64_t key, void *child)
{
	uint32_t behind = node->count - at;

	memmove(&node->keys[at + 1], &node->keys[at], behind * sizeof(node->keys[0]));
	memmove(&node->children[at + 1], &node->children[at], behind * sizeof(node->children[0]));
	node->keys[at] = key;
	node->children[at] = child;
	node->count++;
}

static void take_at(struct order_node *node, uint32_t at)
{
	uint32_t behind = --node->count - at;

	memmove(&node->keys[at], &node->keys[at + 1], behind * sizeof(node->keys[0]));
	memmove(&node->children[at], &node->children[at + 1], behind * sizeof(node->children[0]));
}

/* Appends the entries of `from` that begin at `first`. */
static void append(struct order_node *node, const struct order_node *from, uint32_t first)
{
	uint32_t count = from->count - first;

	memcpy(&node->keys[node->count], &from->keys[first], count * sizeof(node->keys[0]));
	memcpy(&node->children[node->count], &from->children[first],
	       count * sizeof(node->children[0]));
	node->count += count;
}

static inline bool hinted(const struct order_hint *hint, uint64_t key)
{
	return hint->leaf && key >= hint->low && key < hint->high;
}

/* One step down from `node`; narrows the keys that `hint` stands for. */
static inline struct order_node *step(const struct order_node *node, uint32_t at,
				      struct order_hint *hint)
{
	if (at > 0)
		hint->low = node->keys[at];
	if (at + 1 < node->count)
		hint->high = node->keys[at + 1];
	return node->children[at];
}

struct segment *order_near(struct tensor_order *order, uint64_t key)
{
	struct order_node *node = order->root;

	if (hinted(&order->found, key)) {
		node = order->found.leaf;
	} else if (node) {
		struct order_hint hint = { .low = 0, .high = UINT64_MAX };

		while (node->height)
			node = step(node, position(node, key), &hint);
		hint.leaf = node;
		order->found = hint;
	}
	return node && node->count ? node->children[position(node, key)] : NULL;
}

static void insert_sorted(struct order_node *leaf, uint64_t key, struct segment *segment)
{
	uint32_t at = leaf->count ? position(leaf, key) : 0;

	if (at < leaf->count && leaf->keys[at] < key)
		at++;
	put_at(leaf, at, key, segment);
}

/*
 * Splits child `at` of `parent`, which is not full, to make room for `key`. Insertions that only
 * rise (or only fall) leave full nodes behind.
 */
static int split_child(struct tensor_order *order, struct order_node *parent, uint32_t at,
		       uint64_t key)
{
	struct order_node *child = parent->children[at];
	struct order_node *right = node_get(order, child->height);
	uint32_t first = child->count / 2;

	if (!right)
		return -ENOMEM;
	if (key > child->keys[child->count - 1])
		first = child->count - 1;
	else if (key < child->keys[1])
		first = 1;
	append(right, child, first);
	child->count = first;
	put_at(parent, at + 1, right->keys[0], right);
	forget_hints(order);
	return 0;
}

int order_insert(struct tensor_order *order, uint64_t key, struct segment *segment)
{
	struct order_hint hint = { .low = 0, .high = UINT64_MAX };
	struct order_node *node = order->root;

	if (hinted(&order->found, key) && order->found.leaf->count < FANOUT) {
		insert_sorted(order->found.leaf, key, segment);
		return 0;
	}
	if (!node) {
		node = order->root = node_get(order, 0);
		if (!node)
			return -ENOMEM;
	}
	if (node->count == FANOUT) {
		struct order_node *root = node_get(order, node->height + 1);

		if (!root)
			return -ENOMEM;
		put_at(root, 0, 0, node);
		if (split_child(order, root, 0, key)) {
			node_put(order, root);
			return -ENOMEM;
		}
		node = order->root = root;
	}
	while (node->height) {
		uint32_t at = position(node, key);
		struct order_node *child = node->children[at];

		if (child->count == FANOUT) {
			if (split_child(order, node, at, key))
				return -ENOMEM;
			at += node->keys[at + 1] <= key;
		}
		node = step(node, at, &hint);
	}
	insert_sorted(node, key, segment);
	hint.leaf = node;
	order->found = hint;
	return 0;
}

/* Merges children `at` and at + 1 of `parent` if they fit in one node with room to spare. */
static bool merge_children(struct tensor_order *order, struct order_node *parent, uint32_t at)
{
	struct order_node *left, *right;

	if (at + 1 >= parent->count)
		return false;
	left = parent->children[at];
	right = parent->children[at + 1];
	if (left->count + right->count > FANOUT_MERGED)
		return false;
	/* The first key of an inner node means nothing until it stands behind another. */
	if (right->height)
		right->keys[0] = parent->keys[at + 1];
	append(left, right, 0);
	node_put(order, right);
	take_at(parent, at + 1);
	return true;
}

void order_remove(struct tensor_order *order, uint64_t key)
{
	struct { struct order_node *node; uint32_t at; } path[HEIGHT_MAX];
	struct order_hint hint = { .low = 0, .high = UINT64_MAX };
	struct order_node *node = order->root;
	uint32_t depth = 0;

	if (hinted(&order->removed, key) && order->removed.leaf->count > FANOUT_LOW) {
		node = order->removed.leaf;
		take_at(node, position(node, key));
		return;
	}
	while (node->height) {
		uint32_t at = position(node, key);

		path[depth].node = node;
		path[depth++].at = at;
		node = step(node, at, &hint);
	}
	take_at(node, position(node, key));
	hint.leaf = node;
	order->removed = hint;

	while (depth && node->count < FANOUT_LOW) {
		struct order_node *parent = path[--depth].node;
		uint32_t at = path[depth].at;

		if (!node->count) {
			node_put(order, node);
			take_at(parent, at);
		} else if (!merge_children(order, parent, at) &&
			   !(at && merge_children(order, parent, at - 1))) {
			break;
		}
		forget_hints(order);
		node = parent;
	}
	while (order->root->height && order->root->count == 1) {
		node = order->root;
		order->root = node->children[0];
		node_put(order, node);
		forget_hints(order);
	}
}
