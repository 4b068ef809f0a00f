/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Workers on other hosts: a pod here, its nodes in processes that only TCP connects to it. The same
 * results, errors and names as on one host.
 */
#include "hosts.h"

static dw_callable add, fail, nested_add, nested_fail, nested_crash, nested_once, nested_beside;

/* ------------------------------------------------------------------ functions of both sides */

/* Each of tensor 0's values gets the scalar added, by a sub task. */
static int orch_add(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct dw_tensor tensor;
	dw_callable handle;

	(void)config;
	(void)context;
	tensor = *dw_args_tensor(args, 0);
	if (dw_orch_find(orch, "add", &handle) < 0)
		return -ENOENT;
	for (uint32_t i = 0; i < tensor.shape[0]; i++)
		if (submit_one(orch, handle, (int64_t *)(uintptr_t)tensor.data + i, DW_INOUT,
			       dw_args_int(args, 0), NULL, NULL) < 0)
			return -EIO;
	return 0;
}

/* Adds to the value behind those of its tensor. */
static int orch_beside(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_tensor tensor = *dw_args_tensor(args, 0);
	dw_callable handle;

	(void)config;
	(void)context;
	if (dw_orch_find(orch, "add", &handle) < 0)
		return -ENOENT;
	return submit_one(orch, handle, (int64_t *)(uintptr_t)tensor.data + tensor.shape[0],
			  DW_INOUT, 1, NULL, NULL);
}

static int orch_fail(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	dw_callable handle;
	struct dw_tensor tensor;

	(void)config;
	(void)context;
	tensor = *dw_args_tensor(args, 0);
	dw_orch_find(orch, "fail", &handle);
	return submit_one(orch, handle, (void *)(uintptr_t)tensor.data, DW_INOUT, 0, NULL, NULL);
}

static int orch_crash(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	raise(SIGSEGV);
	return 0;
}

/* Crashes the first time; a file says that there was one. */
static int orch_once(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/once", host_folder);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0) {
		unlink(path);
		return 0;
	}
	close(fd);
	return orch_crash(orch, args, config, context);
}

static void program(struct dw_worker *root)
{
	CHECK_EQ(dw_callable_register_sub(root, "add", sub_add, NULL, &add), 0);
	CHECK_EQ(dw_callable_register_sub(root, "fail", sub_fail, NULL, &fail), 0);
	CHECK_EQ(dw_callable_register_orch(root, "nested add", orch_add, NULL, &nested_add), 0);
	CHECK_EQ(dw_callable_register_orch(root, "nested fail", orch_fail, NULL, &nested_fail), 0);
	CHECK_EQ(dw_callable_register_orch(root, "beside", orch_beside, NULL, &nested_beside), 0);
	CHECK_EQ(dw_callable_register_orch(root, "crash", orch_crash, NULL, &nested_crash), 0);
	CHECK_EQ(dw_callable_register_orch(root, "once", orch_once, NULL, &nested_once), 0);
}

/* ------------------------------------------------------------------------------ runs at home */

static int64_t *values;
static uint32_t value_count = 64;

static int submit_values(struct dw_orch *orch, dw_callable callable, int64_t value,
			 enum dw_tag tag)
{
	struct dw_tensor tensor = {
		.data = (uint64_t)(uintptr_t)values, .shape = { value_count }, .ndims = 1,
		.dtype = DW_INT64,
	};
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	dw_args_add_tensor(args, &tensor, tag);
	dw_args_add_int(args, value);
	result = dw_submit(orch, callable, args, NULL, NULL);
	dw_args_destroy(args);
	return result;
}

static int run_adds(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < *(int *)context && result == 0; i++)
		result = submit_values(orch, nested_add, i + 1, DW_INOUT);
	return result;
}

static int run_one(struct dw_orch *orch, const struct dw_args *args,
		   const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_values(orch, *(dw_callable *)context, 1, DW_INOUT);
}

HOST_TEST(tasks_of_a_worker_on_another_host_leave_what_they_leave_here)
{
	struct dw_worker *root;
	struct host_node node;
	int tasks = 20;

	host_start(&node, program, NULL);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	host_worker(root, DW_LEVEL_NODE, 2, &node);
	CHECK_EQ(dw_buffer_create(root, value_count * sizeof(*values), (void **)&values), 0);
	if (!CHECK_EQ(dw_worker_init(root), 0))
		printf("# %s\n", dw_strerror_last());
	else if (!CHECK_EQ(dw_worker_run(root, run_adds, NULL, NULL, &tasks), 0))
		printf("# %s\n", dw_strerror_last());
	for (uint32_t i = 0; i < value_count; i++)
		CHECK_EQ(values[i], tasks * (tasks + 1) / 2);
	CHECK_EQ(dw_worker_close(root), 0);
	dw_worker_destroy(root);
	host_stop(&node);
}

/* Brings up a tree with one node, and takes it down. */
struct pair {
	struct host_node node;
	struct dw_worker *root;
};

static void pair_up(struct pair *pair, const struct dw_node_options *options)
{
	host_start(&pair->node, program, options);
	pair->root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(pair->root);
	host_worker(pair->root, DW_LEVEL_NODE, 2, &pair->node);
	CHECK_EQ(dw_buffer_create(pair->root, value_count * sizeof(*values), (void **)&values), 0);
	if (!CHECK_EQ(dw_worker_init(pair->root), 0))
		printf("# %s\n", dw_strerror_last());
}

static void pair_down(struct pair *pair)
{
	CHECK_EQ(dw_worker_close(pair->root), 0);
	dw_worker_destroy(pair->root);
	host_stop(&pair->node);
}

/* Of a Worker here, this is checked where check_declared is set. */
HOST_TEST(what_a_task_has_not_declared_is_not_there)
{
	struct pair pair;

	pair_up(&pair, NULL);
	value_count /= 2;
	CHECK_EQ(dw_worker_run(pair.root, run_one, NULL, NULL, &nested_beside), -EACCES);
	CHECK_STR(dw_strerror_last(), "pod0/node0: task 1 (beside): EACCES: tensor 0, ");
	value_count *= 2;
	CHECK_EQ(values[value_count / 2], 0);
	pair_down(&pair);
}

HOST_TEST(an_error_there_has_its_path_its_task_and_its_host)
{
	struct pair pair;

	pair_up(&pair, NULL);
	CHECK_EQ(dw_worker_run(pair.root, run_one, NULL, NULL, &nested_fail), -EIO);
	CHECK_STR(dw_strerror_last(), "pod0/node0/sub");
	CHECK_STR(dw_strerror_last(), "task 1 (fail): EIO: short read");
	CHECK_STR(dw_strerror_last(), pair.node.address);
	pair_down(&pair);
}

HOST_TEST(a_worker_that_crashes_there_fails_its_task_with_signal_and_host)
{
	struct pair pair;

	pair_up(&pair, NULL);
	CHECK_EQ(dw_worker_run(pair.root, run_one, NULL, NULL, &nested_crash), -EOWNERDEAD);
	CHECK_STR(dw_strerror_last(), "pod0/node0: task 1");
	CHECK_STR(dw_strerror_last(), "killed by SIGSEGV");
	CHECK_STR(dw_strerror_last(), pair.node.address);
	CHECK_EQ(dw_worker_run(pair.root, run_one, NULL, NULL, &nested_add), -ENODEV);
	pair_down(&pair);
}

static int run_again(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *none;
	int result;

	(void)args;
	(void)config;
	options.retries = 1;
	dw_args_create(&none);
	result = dw_submit(orch, *(dw_callable *)context, none, &options, NULL);
	dw_args_destroy(none);
	return result;
}

/* As on one host, the death of the remote Worker is not an answer to its task. */
HOST_TEST(a_task_whose_worker_has_crashed_there_is_tried_again)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *root;
	struct host_node node;

	host_start(&node, program, NULL);
	options.restart = DW_RESTART_ON_DEATH;
	CHECK_EQ(dw_worker_create(DW_LEVEL_POD, &options, &root), 0);
	program(root);
	host_worker(root, DW_LEVEL_NODE, 2, &node);
	if (!CHECK_EQ(dw_worker_init(root), 0) ||
	    !CHECK_EQ(dw_worker_run(root, run_again, NULL, NULL, &nested_once), 0))
		printf("# %s\n", dw_strerror_last());
	dw_worker_destroy(root);
	host_stop(&node);
}
