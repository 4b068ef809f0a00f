/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Shared by the tests of recorded graphs: a tree, callables, and submits in one line. */
#ifndef TESTS_RECORD_H
#define TESTS_RECORD_H

#include <stdatomic.h>
#include "failure.h"

/* tensor[1] = tensor[0] + scalar[0], after scalar[1] ms. */
static inline int sub_copy(const struct dw_args *args, void *context)
{
	const int64_t *from = dw_args_data(args, 0);
	int64_t *to = dw_args_data(args, 1), value = *from;

	(void)context;
	if (dw_args_int(args, 1))
		pause_ms((unsigned)dw_args_int(args, 1));
	*to = value + dw_args_int(args, 0);
	return *from == value ? 0 : dw_task_fail(EIO, "the input changed meanwhile");
}

/* tensor[0] += 1, or, scalar[0] being set, EIO. */
static inline int sub_fails(const struct dw_args *args, void *context)
{
	(void)context;
	if (dw_args_int(args, 0))
		return dw_task_fail(EIO, "told to");
	__atomic_fetch_add((int64_t *)dw_args_data(args, 0), 1, __ATOMIC_RELAXED);
	return 0;
}

/* The pid of the process that ran it, into tensor[0]. */
static inline int orch_where(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	(void)orch;
	(void)config;
	(void)context;
	*(int64_t *)dw_args_data(args, 0) = getpid();
	return 0;
}

struct tree {
	struct dw_worker *root;
	int64_t *cells;			/* 512, in one buffer */
	dw_callable copy, fails, where, add, broken;
};

static struct tree tree;

/* `nested`: Workers below the root, each with one sub. */
static inline void tree_create(uint32_t subs, uint32_t nested, enum dw_mode mode,
			       const struct dw_worker_options *base)
{
	struct dw_worker_options options = base ? *base :
		(struct dw_worker_options)DW_OPTIONS(dw_worker_options);

	memset(&tree, 0, sizeof(tree));
	say_prepare();
	hear_nothing();
	options.subs = subs;
	options.mode = mode;
	set_small(&options);
	REQUIRE(dw_worker_create(DW_LEVEL_POD, &options, &tree.root) == 0);
	for (uint32_t i = 0; i < nested; i++) {
		struct dw_worker *child;

		options.subs = 1;
		REQUIRE(dw_worker_create(DW_LEVEL_NODE, &options, &child) == 0);
		CHECK_EQ(dw_worker_add_child(tree.root, child, NULL), 0);
	}
	CHECK_EQ(dw_callable_register_sub(tree.root, "copy", sub_copy, NULL, &tree.copy), 0);
	CHECK_EQ(dw_callable_register_sub(tree.root, "fails", sub_fails, NULL, &tree.fails), 0);
	CHECK_EQ(dw_callable_register_sub(tree.root, "add", sub_add, NULL, &tree.add), 0);
	CHECK_EQ(dw_callable_register_sub(tree.root, "break", sub_break, NULL, &tree.broken), 0);
	CHECK_EQ(dw_callable_register_orch(tree.root, "where", orch_where, NULL, &tree.where), 0);
	CHECK_EQ(dw_buffer_create(tree.root, 4096, (void **)&tree.cells), 0);
}

static inline void tree_init(uint32_t subs, uint32_t nested, enum dw_mode mode)
{
	tree_create(subs, nested, mode, NULL);
	if (!CHECK_EQ(dw_worker_init(tree.root), 0))
		printf("# %s\n", dw_strerror_last());
}

static inline void tree_destroy(void)
{
	dw_worker_destroy(tree.root);
	check_none_left();
}

static inline int run_of_tree(dw_orch_fn *fn, void *context)
{
	return dw_worker_run(tree.root, fn, NULL, NULL, context);
}

/* An int64 there; NULL: it is to be allocated. */
static inline struct dw_tensor cell_at(void *data)
{
	struct dw_tensor tensor;

	dw_tensor_init(&tensor, data, DW_INT64, NULL, 0);
	return tensor;
}

/* *to is allocated where it is NULL. */
static inline int submit_copy_of(struct dw_orch *orch, const int64_t *from, int64_t **to,
				 int64_t plus, int64_t ms)
{
	struct dw_tensor in = cell_at((void *)(uintptr_t)from), out = cell_at(*to);
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	dw_args_add_tensor(args, &in, DW_INPUT);
	dw_args_add_tensor(args, &out, DW_OUTPUT);
	dw_args_add_int(args, plus);
	dw_args_add_int(args, ms);
	result = dw_submit(orch, tree.copy, args, NULL, NULL);
	if (result == 0)
		*to = dw_args_data(args, 1);
	dw_args_destroy(args);
	return result;
}

static inline int begin_with(struct dw_orch *orch, const char *name,
			     const struct dw_tensor *parameters, size_t count)
{
	struct dw_record_options options = DW_OPTIONS(dw_record_options);

	options.name = name;
	options.parameters = parameters;
	options.parameter_count = count;
	return dw_record_begin(orch, &options);
}

/* CHECKs that the call has been refused, with both parts in its text (or one: NULL). */
static __attribute__((noinline, unused)) void refused(int result, int error, const char *part,
						      const char *other)
{
	CHECK_EQ(result, error);
	if (result < 0) {
		check_text(part);
		if (other)
			check_text(other);
	}
}

#endif
