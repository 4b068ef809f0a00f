/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * check_declared: a nested orchestration may touch only what the task that runs it declared in its
 * parent. With that option, a task that goes further fails with EACCES; without it the library does
 * not check.
 */
#include "runtime.h"

static struct callables calls;
static dw_callable call_middle, call_touch;

/* The part of the eight cells that the nested orchestration touches: `count` from `first` on. */
struct touch {
	uint32_t first, count;
	bool own;		/* memory of its own instead */
	bool group;
};

/* The cells that the parent declares, as two tensors: [2, 4) and [4, 6). */
static int declare(struct dw_orch *orch, dw_callable callable, int64_t *cells, uint64_t scalars[4])
{
	uint32_t two = 2;
	struct dw_tensor tensor;
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	for (int i = 0; i < 2; i++) {
		dw_tensor_init(&tensor, cells + 2 + 2 * i, DW_INT64, &two, 1);
		dw_args_add_tensor(args, &tensor, DW_INOUT);
	}
	for (int i = 0; i < 4; i++)
		dw_args_add_scalar(args, scalars[i]);
	result = dw_submit(orch, callable, args, NULL, NULL);
	dw_args_destroy(args);
	return result;
}

static int orch_touch(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	int64_t *cells = (int64_t *)dw_args_data(args, 0) - 2;
	uint32_t count = (uint32_t)dw_args_scalar(args, 1);
	struct dw_tensor tensor;
	struct dw_args *own;
	int result;

	(void)config;
	(void)context;
	dw_tensor_init(&tensor, cells + dw_args_scalar(args, 0), DW_INT64, &count, 1);
	if (dw_args_scalar(args, 2)) {
		result = dw_alloc(orch, DW_INT64, &count, 1, &tensor);
		if (result < 0)
			return result;
	}
	dw_args_create(&own);
	dw_args_add_tensor(own, &tensor, DW_INOUT);
	dw_args_add_int(own, 1);
	if (dw_args_scalar(args, 3))
		result = dw_submit_group(orch, calls.add, &own, 1, NULL, NULL, NULL);
	else
		result = dw_submit(orch, calls.add, own, NULL, NULL);
	dw_args_destroy(own);
	return result;
}

/* Passes its arguments on. */
static int orch_middle(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	uint64_t scalars[4];

	(void)config;
	(void)context;
	for (int i = 0; i < 4; i++)
		scalars[i] = dw_args_scalar(args, (size_t)i);
	return declare(orch, call_touch, (int64_t *)dw_args_data(args, 0) - 2, scalars);
}

struct outer {
	struct touch touch;
	int64_t *cells;
	dw_callable callable;
};

static int orch_root(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	const struct outer *outer = context;
	uint64_t scalars[4] = { outer->touch.first, outer->touch.count, outer->touch.own,
				outer->touch.group };

	(void)args;
	(void)config;
	return declare(orch, outer->callable, outer->cells, scalars);
}

/* `levels` of Workers, checked or not. */
static struct dw_worker *make_tree(unsigned levels, enum dw_mode mode, uint32_t check, void **cells)
{
	struct dw_worker *worker[3];

	for (unsigned i = 0; i < levels; i++) {
		struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

		options.subs = 1;
		options.mode = mode;
		options.check_declared = check;
		CHECK_EQ(dw_worker_create(2 + levels - i, &options, &worker[i]), 0);
		if (i)
			CHECK_EQ(dw_worker_add_child(worker[i - 1], worker[i], NULL), 0);
	}
	CHECK_EQ(register_all(worker[0], &calls), 0);
	CHECK_EQ(dw_callable_register_orch(worker[0], "middle", orch_middle, NULL, &call_middle),
		 0);
	CHECK_EQ(dw_callable_register_orch(worker[0], "touch", orch_touch, NULL, &call_touch), 0);
	CHECK_EQ(dw_buffer_create(worker[0], 64, cells), 0);
	CHECK_EQ(dw_worker_init(worker[0]), 0);
	return worker[0];
}

static const struct {
	struct touch touch;
	int wanted;
} cases[] = {
	{ { 2, 2, false, false }, 0 },		/* the first tensor */
	{ { 4, 2, false, false }, 0 },		/* the second */
	{ { 3, 1, false, false }, 0 },		/* a part of one */
	{ { 3, 2, false, false }, 0 },		/* of both */
	{ { 2, 4, false, false }, 0 },		/* both */
	{ { 2, 2, false, true }, 0 },
	{ { 0, 8, true, false }, 0 },		/* memory of its own */
	{ { 1, 1, false, false }, -EACCES },	/* before */
	{ { 6, 1, false, false }, -EACCES },	/* behind */
	{ { 1, 2, false, false }, -EACCES },	/* begins before */
	{ { 5, 2, false, false }, -EACCES },	/* ends behind */
	{ { 0, 8, false, false }, -EACCES },	/* around */
	{ { 5, 2, false, true }, -EACCES },
};

static void touch_all(unsigned levels, enum dw_mode mode, uint32_t check)
{
	struct dw_worker *root;
	struct outer outer;
	void *cells;

	root = make_tree(levels, mode, check, &cells);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t before[8], *now = cells;
		int wanted = check ? cases[i].wanted : 0;

		memcpy(before, cells, sizeof(before));
		outer = (struct outer){ cases[i].touch, cells,
					levels == 3 ? call_middle : call_touch };
		if (!CHECK_EQ(dw_worker_run(root, orch_root, NULL, NULL, &outer), wanted))
			printf("# case %zu, %u levels, mode %d: %s\n", i, levels, mode,
			       dw_strerror_last());
		if (wanted) {
			CHECK_STR(dw_strerror_last(),
				  levels == 3 ? "supernode0/pod0/node0" : "pod0/node0");
			CHECK_STR(dw_strerror_last(), "tensor 0");
			CHECK_STR(
				dw_strerror_last(),
				"is not within what the task that runs this orchestration "
				"declared");
			/* It did not run. */
			CHECK(!memcmp(before, cells, sizeof(before)));
		} else if (!cases[i].touch.own) {
			CHECK_EQ(now[cases[i].touch.first], before[cases[i].touch.first] + 1);
		}
	}
	CHECK_EQ(dw_worker_close(root), 0);
	dw_worker_destroy(root);
}

TEST(bytes_that_were_not_declared_are_refused_over_processes)
{
	touch_all(2, DW_PROCESS, 1);
}

TEST(bytes_that_were_not_declared_are_refused_over_threads)
{
	touch_all(2, DW_THREAD, 1);
}

TEST(each_level_is_checked_against_the_one_above)
{
	touch_all(3, DW_PROCESS, 1);
	touch_all(3, DW_THREAD, 1);
}

TEST(without_the_switch_nobody_looks)
{
	touch_all(2, DW_PROCESS, 0);
	touch_all(3, DW_THREAD, 0);
}
