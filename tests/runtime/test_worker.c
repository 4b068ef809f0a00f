/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The hierarchy: create, add_child, init, run, close, in both modes. */
#include "failure.h"

static struct callables calls;

TEST(create_names_the_option_that_makes_no_sense)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	CHECK_EQ(dw_worker_create(2, NULL, &worker), -EINVAL);
	CHECK(strstr(dw_strerror_last(), "level is 2"));
	CHECK_EQ(dw_worker_create(7, NULL, &worker), -EINVAL);
	options.mailbox_depth = 48;
	CHECK_EQ(dw_worker_create(3, &options, &worker), -EINVAL);
	CHECK(strstr(dw_strerror_last(), "mailbox_depth is 48"));
	options.mailbox_depth = 0;
	options.size = 4;
	CHECK_EQ(dw_worker_create(3, &options, &worker), -EINVAL);
	CHECK(strstr(dw_strerror_last(), "dw_worker_options: its size is 4"));
	CHECK(!worker);
}

static struct dw_worker *named(uint32_t level, const char *name)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	options.name = name;
	options.subs = 1;
	options.arena_bytes = 1 << 20;
	options.heap_ring_bytes = 1 << 20;
	CHECK_EQ(dw_worker_create(level, &options, &worker), 0);
	return worker;
}

static void refuses(struct dw_worker *parent, struct dw_worker *child, int error, const char *text)
{
	uint32_t id = 99;

	CHECK_EQ(dw_worker_add_child(parent, child, &id), error);
	CHECK_STR(dw_strerror_last(), text);
	CHECK_EQ(id, 99);
}

/* Refused calls have changed nothing: the tree comes up with the accepted children. */
TEST(add_child_names_the_rule_that_is_broken)
{
	struct dw_worker *top = named(6, "top"), *pod = named(4, "pod"), *node = named(3, "node");
	struct dw_worker *other = named(5, "other"), *up = named(3, "up"),
			 *buffered = named(3, "buffered");
	struct dw_worker *same = named(4, "same"), *late = named(3, "late");
	struct dw_child_stats stats[8];
	size_t count = 8;
	uint32_t id = 99;
	void *buffer;

	refuses(NULL, node, -EINVAL, "the Worker is NULL");
	refuses(pod, NULL, -EINVAL, "the Worker is NULL");
	refuses(node, pod, -EINVAL,
		"a child of level 4 in a parent of level 3; it should be from 3 to 2");
	refuses(pod, same, -EINVAL,
		"a child of level 4 in a parent of level 4; it should be from 3 to 3");
	refuses(pod, pod, -ELOOP, "Worker pod is an ancestor of the parent, or the parent itself");
	CHECK_EQ(dw_worker_add_child(top, pod, &id), 0);
	CHECK_EQ(id, 0);
	/* Levels may be left out. */
	CHECK_EQ(dw_worker_add_child(top, named(3, "far"), &id), 0);
	CHECK_EQ(id, 1);
	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	refuses(node, top, -ELOOP, "Worker top is an ancestor of the parent");
	refuses(other, node, -EEXIST, "Worker node is a child already; a Worker has one parent");
	refuses(pod, node, -EEXIST, "Worker node is a child already");
	CHECK_EQ(dw_buffer_create(buffered, 8, &buffer), 0);
	refuses(pod, buffered, -EBUSY,
		"Worker buffered has buffers of its own; buffers belong to the root");
	CHECK_EQ(dw_worker_init(up), 0);
	refuses(other, up, -EBUSY,
		"Worker up was initialised already; children are added before init");
	CHECK_EQ(dw_worker_init(node), -EINVAL);
	CHECK_STR(dw_strerror_last(), "Worker node is a child of pod: initialise the root");
	CHECK_EQ(dw_worker_init(top), 0);
	refuses(top, other, -EBUSY, "Worker top was initialised already");
	refuses(pod, late, -EBUSY, "was initialised already");
	CHECK_EQ(dw_worker_stats(top, stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(count, 7);
	CHECK_EQ(dw_worker_close(node), -EINVAL);
	CHECK_STR(dw_strerror_last(), "Worker node is a child of pod: close the root");
	CHECK_EQ(dw_worker_close(top), 0);
	CHECK_EQ(dw_worker_init(top), -EBUSY);
	dw_worker_destroy(up);
	dw_worker_destroy(top);
	dw_worker_destroy(other);
	dw_worker_destroy(buffered);
	dw_worker_destroy(same);
	dw_worker_destroy(late);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* The program ended with SIGSEGV. */
TEST(results_without_a_place_are_refused)
{
	struct dw_chip_options chip = { .driver = "sim" };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *node = NULL;

	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(struct dw_chip_options);
	options.arena_bytes = 1 << 20;
	options.heap_ring_bytes = 1 << 20;
	CHECK_EQ(dw_worker_create(3, &options, NULL), -EINVAL);
	CHECK_EQ(dw_worker_create(3, &options, &node), 0);
	CHECK_EQ(dw_worker_chip_id(node, 0, NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "`id` is NULL");
	CHECK_EQ(dw_buffer_create(node, 8, NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "`address` is NULL");
	CHECK_EQ(dw_worker_init(node), 0);
	CHECK_EQ(dw_worker_start(node, NULL, NULL, NULL, NULL, NULL, NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "`run` is NULL");
	dw_worker_destroy(node);
}

/* ------------------------------------------------------------------- runs */

static int orch_chain(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < 1000 && result == 0; i++)
		result = submit_one(orch, calls.add, context, DW_INOUT, 1, NULL, NULL);
	return result;
}

static void chain_in(enum dw_mode mode)
{
	struct dw_worker *node = make_worker(3, 3, mode);
	void *value;

	CHECK_EQ(register_all(node, &calls), 0);
	CHECK_EQ(dw_buffer_create(node, 8, &value), 0);
	CHECK_EQ(dw_worker_init(node), 0);
	for (int run = 1; run <= 5; run++) {
		CHECK_EQ(dw_worker_run(node, orch_chain, NULL, NULL, value), 0);
		CHECK_EQ(*(int64_t *)value, run * 1000);
	}
	CHECK_EQ(dw_worker_close(node), 0);
	CHECK_EQ(dw_worker_close(node), 0);
	CHECK_EQ(dw_worker_run(node, orch_chain, NULL, NULL, value), -ENOTCONN);
	dw_worker_destroy(node);
}

TEST(chain_over_processes_is_ordered_by_its_tensor)
{
	chain_in(DW_PROCESS);
}

TEST(chain_over_threads_is_ordered_by_its_tensor)
{
	chain_in(DW_THREAD);
}

/* Every level hands the tensor to each of its children; the lowest adds 1 per sub task. */
static dw_callable down;

static int orch_down(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	void *data = args ? dw_args_data(args, 0) : context;
	int result = 0;

	(void)config;
	for (uint32_t w = 0; w < dw_orch_worker_count(orch) && result == 0; w++) {
		struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

		options.place = DW_PLACE(w);
		result = submit_one(orch, down, data, DW_INOUT, 0, &options, NULL);
	}
	for (uint32_t s = 0; s < dw_orch_sub_count(orch) && result == 0; s++)
		result = submit_one(orch, calls.add, data, DW_INOUT, 1, NULL, NULL);
	return result;
}

static void tree_in(uint32_t level, uint32_t lowest, enum dw_mode even, enum dw_mode odd)
{
	struct dw_worker *worker[7] = { 0 };
	void *value;
	int64_t expected = 0;

	for (uint32_t l = lowest; l <= level; l++) {
		worker[l] = make_worker(l, 2, l % 2 ? odd : even);
		expected += 2;
		if (l > lowest)
			CHECK_EQ(dw_worker_add_child(worker[l], worker[l - 1], NULL), 0);
	}
	CHECK_EQ(register_all(worker[level], &calls), 0);
	CHECK_EQ(dw_callable_register_orch(worker[level], "down", orch_down, NULL, &down), 0);
	CHECK_EQ(dw_buffer_create(worker[level], 8, &value), 0);
	CHECK_EQ(dw_worker_init(worker[level]), 0);
	CHECK_EQ(dw_worker_run(worker[level], orch_down, NULL, NULL, value), 0);
	CHECK_EQ(*(int64_t *)value, expected);
	CHECK_EQ(dw_worker_close(worker[level]), 0);
	dw_worker_destroy(worker[level]);
	CHECK_EQ(descendants(NULL, 0), 0);
}

TEST(four_levels_of_processes)
{
	tree_in(6, 3, DW_PROCESS, DW_PROCESS);
}

TEST(four_levels_of_threads)
{
	tree_in(6, 3, DW_THREAD, DW_THREAD);
}

TEST(processes_and_threads_alternate)
{
	tree_in(6, 3, DW_PROCESS, DW_THREAD);
	tree_in(6, 3, DW_THREAD, DW_PROCESS);
}

TEST_IN_BOTH_MODES(children_of_different_levels)
{
	struct dw_worker *root = make_worker(6, 1, mode), *pod = make_worker(4, 1, mode);
	struct dw_worker *node = make_worker(3, 1, mode), *leaf = make_worker(3, 1, mode);
	void *value;

	CHECK_EQ(dw_worker_add_child(root, pod, NULL), 0);
	CHECK_EQ(dw_worker_add_child(root, node, NULL), 0);
	CHECK_EQ(dw_worker_add_child(pod, leaf, NULL), 0);
	CHECK_EQ(register_all(root, &calls), 0);
	CHECK_EQ(dw_callable_register_orch(root, "down", orch_down, NULL, &down), 0);
	CHECK_EQ(dw_buffer_create(root, 8, &value), 0);
	CHECK_EQ(dw_worker_init(root), 0);
	CHECK_EQ(dw_worker_run(root, orch_down, NULL, NULL, value), 0);
	CHECK_EQ(*(int64_t *)value, 4);
	dw_worker_destroy(root);
}

TEST(config_of_a_run_is_checked)
{
	struct dw_config negative = { .block_dim = -5 }, unknown = { .flags = 4 };
	struct dw_worker *node = named(3, "node");
	struct dw_run *run = NULL;

	CHECK_EQ(dw_worker_init(node), 0);
	CHECK_EQ(dw_worker_run(node, orch_nothing, NULL, &negative, NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "config.block_dim is -5");
	CHECK_EQ(dw_worker_start(node, orch_nothing, NULL, &unknown, NULL, NULL, &run), -EINVAL);
	CHECK_STR(dw_strerror_last(), "config.flags is 0x4");
	CHECK(!run);
	CHECK_EQ(dw_worker_close(node), 0);
	dw_worker_destroy(node);
}

TEST_IN_BOTH_MODES(a_thousand_runs_leave_nothing_behind)
{
	struct dw_worker *node = make_worker(3, 2, mode);
	unsigned fds, mappings;
	void *value;

	CHECK_EQ(register_all(node, &calls), 0);
	CHECK_EQ(dw_buffer_create(node, 8, &value), 0);
	CHECK_EQ(dw_worker_init(node), 0);
	CHECK_EQ(dw_worker_run(node, orch_nothing, NULL, NULL, value), 0);
	fds = count_dir("/proc/self/fd");
	mappings = count_mappings();
	for (int i = 0; i < 1000; i++)
		CHECK_EQ(dw_worker_run(node, orch_nothing, NULL, NULL, value), 0);
	CHECK_EQ(count_dir("/proc/self/fd"), fds);
	CHECK(count_mappings() <= mappings + 2);
	dw_worker_destroy(node);
}

TEST_IN_BOTH_MODES(fifty_trees_leave_nothing_behind)
{
	unsigned fds = count_dir("/proc/self/fd"), mappings = 0;

	for (int i = 0; i < 50; i++) {
		struct dw_worker *node = make_worker(3, 2, mode);
		void *value;

		CHECK_EQ(register_all(node, &calls), 0);
		CHECK_EQ(dw_buffer_create(node, 8, &value), 0);
		CHECK_EQ(dw_worker_init(node), 0);
		CHECK_EQ(dw_worker_run(node, orch_nothing, NULL, NULL, value), 0);
		dw_worker_destroy(node);
		if (i == 9)
			mappings = count_mappings();
	}
	CHECK_EQ(count_dir("/proc/self/fd"), fds);
	/* A leak is one for each of 40 trees; an allocator, a sanitizer's above all, adds a few. */
	CHECK(count_mappings() <= mappings + 10);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* ---------------------------------------------------------------- symbols */

/* "…/symbols.so:NAME", of this build. */
static const char *symbol(const char *name)
{
	static char text[PATH_MAX];

	snprintf(text, sizeof(text), "%.2000s:%s", beside("fixtures/symbols.so"), name);
	return text;
}

static int orch_symbol(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	dw_callable callable;
	int result = dw_orch_find(orch, symbol("symbol_add"), &callable);

	(void)args;
	(void)config;
	if (result == 0)
		result = submit_one(orch, callable, context, DW_INOUT, 7, NULL, NULL);
	if (result == 0)
		result = dw_orch_find(orch, symbol("symbol_orch"), &callable);
	if (result == 0)
		result = submit_one(orch, callable, context, DW_INOUT, 30, NULL, NULL);
	return result;
}

TEST_IN_BOTH_MODES(symbols_registered_after_init_reach_every_child)
{
	struct dw_worker *pod = make_worker(4, 1, mode), *node = make_worker(3, 1, mode);
	struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
	dw_callable callable = 0, again = 0;
	struct dw_tree *tree;
	unsigned ran = 0;
	void *value;

	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	CHECK_EQ(register_all(pod, &calls), 0);
	CHECK_EQ(dw_buffer_create(pod, 8, &value), 0);
	CHECK_EQ(dw_worker_init(pod), 0);
	CHECK_EQ(dw_callable_register_symbol(pod, symbol("symbol_add"), DW_SYMBOL_SUB, &callable),
		 0);
	CHECK_EQ(dw_callable_register_symbol(pod, symbol("symbol_add"), DW_SYMBOL_SUB, &again), 0);
	CHECK(callable != 0 && callable == again);
	CHECK_EQ(dw_callable_register_symbol(pod, symbol("symbol_orch"), DW_SYMBOL_ORCH, &again),
		 0);
	CHECK_EQ(dw_worker_run(pod, orch_symbol, NULL, NULL, value), 0);
	CHECK_EQ(*(int64_t *)value, 37);
	/* Of its name there is no room for folders. */
	REQUIRE(dw_tree_open(getpid(), 0, &tree) == 0);
	for (uint32_t i = 0; dw_tree_child(tree, i, &child) == 0; i++)
		ran += strcmp(child.callable, "symbols.so:symbol_add") == 0;
	dw_tree_close(tree);
	CHECK(ran > 0);
	CHECK_EQ(dw_callable_register_symbol(pod, symbol("nobody"), DW_SYMBOL_SUB, &again), -ESRCH);
	CHECK(strstr(dw_strerror_last(), "nobody"));
	CHECK_EQ(dw_callable_register_symbol(pod, "/etc/passwd:x", DW_SYMBOL_SUB, &again),
		 -ELIBBAD);
	CHECK_EQ(dw_callable_register_symbol(pod, "/nowhere.so:x", DW_SYMBOL_SUB, &again), -ENOENT);
	CHECK_EQ(dw_callable_unregister(pod, callable), 0);
	CHECK(dw_worker_run(pod, orch_symbol, NULL, NULL, value) < 0);
	dw_worker_destroy(pod);
}

TEST_IN_BOTH_MODES(functions_are_registered_before_init_and_once)
{
	struct dw_worker *node = make_worker(3, 1, mode);
	dw_callable callable;

	CHECK_EQ(register_all(node, &calls), 0);
	CHECK_EQ(dw_callable_register_sub(node, "add", sub_add, NULL, &callable), -EEXIST);
	CHECK_EQ(dw_callable_find(node, "add", &callable), 0);
	CHECK_EQ(callable, calls.add);
	CHECK_EQ(dw_callable_find(node, "subtract", &callable), -ENOENT);
	CHECK_EQ(dw_worker_init(node), 0);
	CHECK_EQ(dw_callable_register_sub(node, "late", sub_add, NULL, &callable), -EBUSY);
	dw_worker_destroy(node);
}

/* ------------------------------------------------------------------ wake-ups */

static int sub_held(const struct dw_args *args, void *context)
{
	char byte;

	(void)context;
	return read((int)dw_args_scalar(args, 0), &byte, 1) == 1 ? 0 : -EPIPE;
}

struct wake_case {
	dw_callable held, nothing;
	uint64_t *word;
	int pipe[2];
};

#define FOLLOWERS 4	/* so many frames are published one by one */

static int orch_followers(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	struct wake_case *wake = context;
	uint32_t one = 1;

	(void)args;
	(void)config;
	for (int i = 0; i <= FOLLOWERS; i++) {
		struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
		struct dw_tensor tensor;
		struct dw_args *own;

		dw_args_create(&own);
		dw_tensor_init(&tensor, wake->word, DW_UINT64, &one, 1);
		dw_args_add_tensor(own, &tensor, i ? DW_INPUT : DW_INOUT);
		dw_args_add_scalar(own, (uint64_t)wake->pipe[0]);
		options.place = i ? DW_PLACE(0) : 0;
		CHECK_EQ(dw_submit(orch, i ? wake->nothing : wake->held, own, &options, NULL), 0);
		dw_args_destroy(own);
	}
	CHECK_EQ(write(wake->pipe[1], "", 1), 1);
	return 0;
}

static int orch_idle(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	return 0;
}

/* It was counted again for each frame that was published before the call. */
TEST_IN_BOTH_MODES(a_child_that_is_woken_once_for_several_tasks_counts_one_wake_up)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_child_stats stats[2];
	struct dw_worker *root, *node;
	struct wake_case wake;
	size_t count = 2;
	void *memory;

	REQUIRE(pipe2(wake.pipe, O_CLOEXEC) == 0);
	options.mode = mode;
	REQUIRE(dw_worker_create(3, &options, &node) == 0);
	options.subs = 1;
	REQUIRE(dw_worker_create(4, &options, &root) == 0);
	REQUIRE(dw_worker_add_child(root, node, NULL) == 0);
	REQUIRE(dw_buffer_create(root, sizeof(uint64_t), &memory) == 0);
	wake.word = memory;
	REQUIRE(dw_callable_register_sub(root, "held", sub_held, NULL, &wake.held) == 0);
	REQUIRE(dw_callable_register_orch(root, "idle", orch_idle, NULL, &wake.nothing) == 0);
	REQUIRE(dw_worker_init(root) == 0);
	CHECK_EQ(dw_worker_run(root, orch_followers, NULL, NULL, &wake), 0);
	CHECK_EQ(dw_worker_stats(root, stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(stats[1].tasks_done, FOLLOWERS);
	CHECK(stats[1].wakes <= 1);
	dw_worker_destroy(root);
	close(wake.pipe[0]);
	close(wake.pipe[1]);
}
