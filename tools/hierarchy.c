// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Plans of hierarchies, from options; their Workers; the tree that jobs see.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "drivers.h"
#include "hierarchy.h"

static const char *const level_names[] = {
	"core", "die", "chip", "node", "pod", "supernode", "cluster",
};

struct plan *plan_create(uint32_t level, const struct dw_worker_options *options)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	if (plan) {
		plan->level = level;
		plan->options = *options;
		plan->options.name = NULL;
		plan->options.host = NULL;
		plan->options.chips = NULL;
		plan->options.chip_count = 0;
		plan->options.chip_size = sizeof(struct dw_chip_options);
	}
	return plan;
}

void plan_destroy(struct plan *plan)
{
	if (!plan)
		return;
	for (uint32_t i = 0; i < plan->child_count; i++)
		plan_destroy(plan->children[i]);
	for (uint32_t i = 0; i < plan->options.chip_count; i++) {
		free((char *)plan->chips[i].driver);
		free((char *)plan->chips[i].options);
	}
	free(plan->children);
	free(plan->chips);
	free((char *)plan->options.name);
	free((char *)plan->options.host);
	free(plan);
}

int plan_add_child(struct plan *plan, struct plan *child)
{
	struct plan **children = realloc(plan->children,
					 (plan->child_count + 1) * sizeof(*children));

	if (!children)
		return -ENOMEM;
	plan->children = children;
	plan->children[plan->child_count++] = child;
	return 0;
}

/* The next device of a driver for a Worker. Without one, the error comes from the chip. */
static uint32_t next_device(const struct plan *plan, const char *driver, const char *options)
{
	uint32_t taken = 0;
	size_t devices;

	for (uint32_t i = 0; i < plan->options.chip_count; i++)
		taken += !strcmp(plan->chips[i].driver, driver);
	devices = taken ? driver_devices(driver, options) : 1;
	return devices ? taken % (uint32_t)devices : taken;
}

int plan_add_chips(struct plan *plan, uint32_t count, const char *driver, uint32_t device,
		   const char *options)
{
	uint32_t before = plan->options.chip_count;
	struct dw_chip_options *chips = realloc(plan->chips, (before + count) * sizeof(*chips));

	if (!chips && count)
		return -ENOMEM;
	plan->chips = chips;
	plan->options.chips = chips;
	plan->options.chip_size = sizeof(*chips);
	for (uint32_t i = 0; i < count; i++) {
		struct dw_chip_options *chip = &chips[before + i];

		chip->device = device == PLAN_ANY_DEVICE ? next_device(plan, driver, options) :
			       device + i;
		chip->driver = strdup(driver);
		chip->options = options ? strdup(options) : NULL;
		plan->options.chip_count++;
		if (!chip->driver || (options && !chip->options))
			return -ENOMEM;
	}
	return 0;
}

struct plan *plan_copy(const struct plan *plan)
{
	struct plan *copy = plan_create(plan->level, &plan->options);
	int err = copy ? 0 : -ENOMEM;

	if (!err && plan->options.name) {
		copy->options.name = strdup(plan->options.name);
		err = copy->options.name ? 0 : -ENOMEM;
	}
	if (!err && plan->options.host) {
		copy->options.host = strdup(plan->options.host);
		err = copy->options.host ? 0 : -ENOMEM;
	}
	for (uint32_t i = 0; i < plan->options.chip_count && !err; i++)
		err = plan_add_chips(copy, 1, plan->chips[i].driver, plan->chips[i].device,
				     plan->chips[i].options);
	for (uint32_t i = 0; i < plan->child_count && !err; i++) {
		struct plan *child = plan_copy(plan->children[i]);

		err = child ? plan_add_child(copy, child) : -ENOMEM;
		if (err)
			plan_destroy(child);
	}
	if (err) {
		plan_destroy(copy);
		return NULL;
	}
	return copy;
}

int plan_name(struct plan *plan, uint32_t index)
{
	char name[32];

	if (!plan->options.name) {
		text_format(name, sizeof(name), "%s%u", level_names[plan->level], index);
		plan->options.name = strdup(name);
		if (!plan->options.name)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < plan->child_count; i++) {
		int err = plan_name(plan->children[i], i);

		if (err)
			return err;
	}
	return 0;
}

/* The Worker of one level, with everything below it. */
static struct plan *plan_level(const struct plan_options *options, uint32_t level)
{
	uint32_t depth = options->level - level, levels = options->level - DW_LEVEL_NODE;
	/* The last entry of fanout is for the pods' nodes. */
	uint32_t skipped = levels - options->fanout_count;
	uint32_t children = level == DW_LEVEL_NODE ? 0 :
			    depth < skipped ? 1 : options->fanout[depth - skipped];
	struct plan *plan = plan_create(level, &options->worker);
	int err = plan ? 0 : -ENOMEM;

	if (!err)
		plan->options.subs = options->subs;
	if (!err && level == DW_LEVEL_NODE)
		err = plan_add_chips(plan, options->chips, options->driver, PLAN_ANY_DEVICE,
				     options->chip_options);
	for (uint32_t i = 0; i < children && !err; i++) {
		struct plan *child = plan_level(options, level - 1);

		err = child ? plan_add_child(plan, child) : -ENOMEM;
		if (err)
			plan_destroy(child);
	}
	if (err) {
		plan_destroy(plan);
		return NULL;
	}
	return plan;
}

int plan_from_options(const struct plan_options *options, struct plan **plan, char *text,
		      size_t bytes)
{
	uint32_t levels = options->level - DW_LEVEL_NODE;

	if (options->fanout_count > levels) {
		snprintf(text, bytes,
			 "--nodes: %u numbers, but a Worker of level %u has %u levels of "
			 "Workers below it (--level)",
			 options->fanout_count, options->level, levels);
		return -EINVAL;
	}
	*plan = plan_level(options, options->level);
	if (*plan && !plan_name(*plan, 0))
		return 0;
	plan_destroy(*plan);
	snprintf(text, bytes, "no memory for the hierarchy");
	return -ENOMEM;
}

/* ------------------------------------------------------------------- Workers */

/* This Worker and, as its children, those below. All of them hang below plan->worker. */
static int build_level(struct plan *plan)
{
	int err = dw_worker_create(plan->level, &plan->options, &plan->worker);

	for (uint32_t i = 0; i < plan->child_count && !err; i++) {
		struct plan *child = plan->children[i];

		err = build_level(child);
		if (!err)
			err = dw_worker_add_child(plan->worker, child->worker, &child->id);
		/* Not the parent's yet: nothing else would free it. */
		if (err && child->worker)
			dw_worker_destroy(child->worker);
		if (err)
			child->worker = NULL;
	}
	return err;
}

int plan_build(struct plan *plan)
{
	int err = build_level(plan);

	if (err) {
		dw_worker_destroy(plan->worker);
		plan->worker = NULL;
	}
	return err;
}

/* ---------------------------------------------------------------------- tree */

static uint32_t plan_nodes(const struct plan *plan, size_t parent_path, size_t *path_bytes)
{
	size_t path = parent_path + (parent_path ? 1 : 0) + strlen(plan->options.name);
	uint32_t count = 1;

	*path_bytes += path + 1;
	for (uint32_t i = 0; i < plan->child_count; i++)
		count += plan_nodes(plan->children[i], path, path_bytes);
	return count;
}

struct tree_block {
	struct distworker_tree tree;
	struct distworker_tree_node *nodes;
	uint32_t *children;
	char *paths;
	uint32_t used_children;
};

static uint32_t tree_fill(struct tree_block *block, const struct plan *plan, uint32_t parent)
{
	uint32_t index = block->tree.count++;
	struct distworker_tree_node *node = &block->nodes[index];
	uint32_t *children = block->children + block->used_children;

	block->used_children += plan->child_count;
	*node = (struct distworker_tree_node){
		.path = block->paths, .level = plan->level, .parent = parent, .worker = plan->id,
		.subs = plan->options.subs, .chip_count = plan->options.chip_count,
		.child_count = plan->child_count, .children = children, .chips = plan->chips,
	};
	block->paths += sprintf(block->paths, "%s%s%s",
				parent == DISTWORKER_TREE_NONE ? "" : block->nodes[parent].path,
				parent == DISTWORKER_TREE_NONE ? "" : "/", plan->options.name) + 1;
	for (uint32_t i = 0; i < plan->child_count; i++)
		children[i] = tree_fill(block, plan->children[i], index);
	return index;
}

struct distworker_tree *plan_tree(const struct plan *plan)
{
	size_t path_bytes = 0;
	uint32_t count = plan_nodes(plan, 0, &path_bytes);
	struct tree_block *block = calloc(1, sizeof(*block) + count * sizeof(*block->nodes) +
					  count * sizeof(*block->children) + path_bytes);

	if (!block)
		return NULL;
	block->nodes = (struct distworker_tree_node *)(block + 1);
	block->children = (uint32_t *)(block->nodes + count);
	block->paths = (char *)(block->children + count);
	tree_fill(block, plan, DISTWORKER_TREE_NONE);
	block->tree.nodes = block->nodes;
	return &block->tree;
}

void plan_count(const struct plan *plan, struct plan_totals *totals)
{
	totals->workers[plan->level]++;
	totals->chips += plan->options.chip_count;
	totals->subs += plan->options.subs;
	for (uint32_t i = 0; i < plan->child_count; i++)
		plan_count(plan->children[i], totals);
}

/* The driver that all chips have, "" if there is no chip, NULL if they differ. */
static const char *common_driver(const struct plan *plan, const char *seen)
{
	for (uint32_t i = 0; i < plan->options.chip_count && seen; i++) {
		if (*seen && strcmp(seen, plan->chips[i].driver))
			return NULL;
		seen = plan->chips[i].driver;
	}
	for (uint32_t i = 0; i < plan->child_count && seen; i++)
		seen = common_driver(plan->children[i], seen);
	return seen;
}

void plan_describe(const struct plan *plan, char *text, size_t bytes)
{
	const char *driver = common_driver(plan, "");
	struct plan_totals totals = { 0 };
	size_t used;

	plan_count(plan, &totals);
	used = (size_t)text_format(text, bytes, "L%u %s", plan->level, plan->options.name);
	for (uint32_t level = plan->level; level-- > DW_LEVEL_NODE && used < bytes;)
		if (totals.workers[level])
			used += (size_t)snprintf(text + used, bytes - used, " > %u x L%u",
						 totals.workers[level], level);
	if (used < bytes)
		text_format(text + used, bytes - used, ", %u chip%s (%s), %u sub worker%s",
			 totals.chips, totals.chips == 1 ? "" : "s", driver && *driver ? driver :
			 driver ? "none" : "several drivers", totals.subs,
			 totals.subs == 1 ? "" : "s");
}
