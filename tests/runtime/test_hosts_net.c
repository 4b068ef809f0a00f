/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * DW_NET of both hosts, each its own: over which way the tensors of tasks go, and what is refused.
 * The other tests of hosts run over UCX, too, with DW_NET=ucx in the environment (tests/check).
 */
#define UNIT_SECONDS 120
#include <errno.h>
#include "hosts_fill.h"

#define BYTES (4u << 20) /* of a tensor: several pieces */
#define TASKS 8

static struct host_node node;
static struct dw_worker *root, *worker;
static dw_callable hold, count;

/*
 * Counts the bytes of the next task's input that are there, and ends when all are: its tensor is
 * the count. The tree's memory is one for all processes of a session.
 */
static int orch_count(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	const volatile unsigned char *bytes = (const void *)(uintptr_t)dw_args_int(args, 0);
	uint32_t here = 0;

	(void)orch;
	(void)config;
	(void)context;
	while (here < BYTES) {
		if (bytes[here])
			here++;
		else
			sched_yield();
	}
	*(int64_t *)dw_args_data(args, 0) = here;
	return 0;
}

static void program(struct dw_worker *of)
{
	CHECK_EQ(dw_callable_register_orch(of, "count", orch_count, NULL, &count), 0);
	CHECK_EQ(dw_callable_register_orch(of, "hold", host_await_word, NULL, &hold), 0);
	fill_register(of);
}

static void set_net(const char *word)
{
	if (word)
		setenv("DW_NET", word, 1);
	else
		unsetenv("DW_NET");
}

/* The result of the init. */
static int make_tree(const char *home, const char *there)
{
	set_net(there);
	host_start(&node, program, NULL);
	set_net(home);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	worker = host_worker(root, DW_LEVEL_NODE, 0, &node);
	return dw_worker_init(root);
}

static void drop_tree(void)
{
	dw_worker_destroy(root);
	host_stop(&node);
}

/* Whether the process has loaded UCX: it stays loaded. */
static bool has_loaded_ucx(pid_t pid)
{
	char path[64], line[4096];
	bool found = false;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	if (!CHECK(maps != NULL))
		return false;
	while (fgets(line, sizeof(line), maps))
		found |= strstr(line, "/libucp.so") != NULL;
	fclose(maps);
	return found;
}

/*
 * Under TSan UCX, whose own code changes the C library's, dies when it is opened. ASan looks at the
 * address that UCX 1.18 only tries another process's memory with, and ends the process.
 */
static bool has_ucx(void)
{
	static int known = -1;

#ifdef __SANITIZE_THREAD__
	known = 0;
#elif defined(__SANITIZE_ADDRESS__)
	setenv("UCX_TLS", "^cma", 0);
#endif
	if (known < 0) {
		known = make_tree("ucx", NULL) == 0;
		if (!known)
			CHECK_STR(dw_strerror_last(), "libucp.so.0");
		drop_tree();
	}
	return known;
}

/*
 * The tasks do not depend on each other: the outputs of one are on their way home while the next
 * one runs and the inputs of the one after that come.
 */
static int orch_many(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	unsigned char **buffers = context;

	(void)args;
	(void)config;
	for (int i = 0; i < TASKS; i++)
		fill_submit(orch, buffers[i], buffers[TASKS + i], BYTES, 3 * i);
	return 0;
}

/* A task whose outputs are home is done, also while the next one, which began before, runs. */
static int orch_overlap(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	unsigned char **buffers = context;
	struct dw_args *none;
	dw_task first;

	(void)args;
	(void)config;
	CHECK_EQ(dw_args_create(&none), 0);
	for (int i = 0; i < TASKS; i++) {
		first = fill_submit(orch, buffers[i], buffers[TASKS + i], BYTES, 3 * i);
		CHECK_EQ(dw_submit(orch, hold, none, NULL, NULL), 0);
		CHECK_EQ(dw_orch_wait_task(orch, first), 0);
		host_say_word();
	}
	dw_args_destroy(none);
	return 0;
}

static void check_buffers(void **buffers)
{
	for (int i = 0; i < TASKS; i++)
		fill_check(buffers[i], buffers[TASKS + i], BYTES, 3 * i);
}

static void check_data(const char *home, const char *there, bool ucx)
{
	void *buffers[2 * TASKS];

	CHECK_EQ(pipe2(host_word, O_CLOEXEC), 0);
	say_prepare();
	set_net(there);
	host_start(&node, program, NULL);
	set_net(home);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	worker = host_worker(root, DW_LEVEL_NODE, 0, &node);
	for (int i = 0; i < 2 * TASKS; i++)
		CHECK_EQ(dw_buffer_create(root, BYTES, &buffers[i]), 0);
	if (!CHECK_EQ(dw_worker_init(root), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(has_loaded_ucx(host_session(&node)), ucx);
	for (int i = 0; i < TASKS; i++)
		fill_begin(buffers[i], BYTES, (uint32_t)i);
	CHECK_EQ(dw_worker_run(root, orch_many, NULL, NULL, buffers), 0);
	check_buffers(buffers);
	for (int i = 0; i < TASKS; i++)
		memset(buffers[TASKS + i], 0, BYTES);
	CHECK_EQ(dw_worker_run(root, orch_overlap, NULL, NULL, buffers), 0);
	check_buffers(buffers);
	host_drop_word();
	drop_tree();
}

static pid_t gateway;

static int orch_ahead(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	unsigned char **buffers = context;
	struct dw_tensor cell;
	struct dw_args *own;
	uint32_t one = 1;

	(void)args;
	(void)config;
	CHECK_EQ(dw_tensor_init(&cell, buffers[2], DW_INT64, &one, 1), 0);
	CHECK_EQ(dw_args_create(&own), 0);
	dw_args_add_tensor(own, &cell, DW_OUTPUT);
	dw_args_add_int(own, (int64_t)(uintptr_t)buffers[0]);
	CHECK_EQ(dw_submit(orch, count, own, NULL, NULL), 0);
	dw_args_destroy(own);
	fill_submit(orch, buffers[0], buffers[1], BYTES, 0);
	CHECK_EQ(kill(gateway, SIGCONT), 0);
	return 0;
}

/*
 * The gateway is stopped until both tasks are in its mailbox, so that it sends both in one piece,
 * and the session has the second one before it serves the first. A session that did not ask for
 * its input by then would do so after the first one, which waits for all of it: the run would end
 * at its deadline.
 */
static void check_ahead(const char *net)
{
	struct dw_run_options options = DW_OPTIONS(dw_run_options);
	struct dw_child_stats stats;
	void *buffers[3];
	struct dw_run *run;
	size_t one = 1;

	set_net(net);
	host_start(&node, program, NULL);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	worker = host_worker(root, DW_LEVEL_NODE, 0, &node);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(dw_buffer_create(root, BYTES, &buffers[i]), 0);
	if (!CHECK_EQ(dw_worker_init(root), 0))
		printf("# %s\n", dw_strerror_last());
	memset(buffers[0], 1, BYTES);
	CHECK_EQ(dw_worker_stats(root, &stats, sizeof(stats), &one), 0);
	options.timeout_ns = 60 * SECOND_NS;
	gateway = stats.pid;
	CHECK_EQ(kill(gateway, SIGSTOP), 0);
	CHECK_EQ(dw_worker_start(root, orch_ahead, NULL, NULL, buffers, &options, &run), 0);
	if (!CHECK_EQ(dw_run_wait(run), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(*(int64_t *)buffers[2], BYTES);
	drop_tree();
}

HOST_TEST(the_inputs_of_the_next_task_come_while_one_runs)
{
	check_ahead("tcp");
	if (!has_ucx())
		SKIP("UCX cannot be opened here: over TCP alone");
	check_ahead("ucx");
}

HOST_TEST(without_a_word_data_goes_over_the_stream)
{
	if (access("/sys/class/infiniband", F_OK) == 0)
		SKIP("an RDMA device may be here");
	check_data(NULL, NULL, false);
}

HOST_TEST(data_goes_over_ucx_where_the_parents_host_asks_for_it)
{
	if (!has_ucx())
		SKIP("UCX cannot be opened here");
	check_data("ucx", NULL, true);
	check_data("ucx", "ucx", true);
}

/* The result of the init: each host with its own UCX_TLS. */
static int make_tree_over(const char *home, const char *there)
{
	set_net("ucx");
	setenv("UCX_TLS", there, 1);
	host_start(&node, program, NULL);
	setenv("UCX_TLS", home, 1);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	worker = host_worker(root, DW_LEVEL_NODE, 0, &node);
	return dw_worker_init(root);
}

/* rc is a transport over RDMA devices. */
HOST_TEST(ucx_over_rdma_that_is_not_here_is_an_error_of_the_init)
{
	const char *own = getenv("UCX_TLS");

	if (!has_ucx())
		SKIP("UCX cannot be opened here");
	if (access("/sys/class/infiniband", F_OK) == 0)
		SKIP("an RDMA device may be here");
	CHECK_EQ(make_tree_over("rc", "tcp,self"), -EIO);
	CHECK_STR(dw_strerror_last(), "pod0/node0: host 127.0.0.1:");
	CHECK_STR(dw_strerror_last(), "at home: UCX: ucp_init (UCX_TLS, UCX_NET_DEVICES: ");
	drop_tree();
	CHECK_EQ(make_tree_over("tcp,self", "rc"), -EIO);
	CHECK_STR(dw_strerror_last(), "RDMA device, that is not here): No such device");
	CHECK(!strstr(dw_strerror_last(), "at home"));
	dw_worker_destroy(root);
	/* The node goes on: the connection needs no UCX. */
	unsetenv("UCX_TLS");
	set_net("ucx");
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	worker = host_worker(root, DW_LEVEL_NODE, 0, &node);
	CHECK_EQ(dw_worker_init(root), -EIO);
	drop_tree();
	if (own)
		setenv("UCX_TLS", own, 1);
	else
		unsetenv("UCX_TLS");
}

static void check_refused(const char *home, const char *there, int error, const char *text)
{
	CHECK_EQ(make_tree(home, there), error);
	CHECK_STR(dw_strerror_last(), text);
	drop_tree();
}

HOST_TEST(words_that_exclude_each_other_are_an_error_of_the_init)
{
	check_refused("tcp", "ucx", -EPROTO, "data over tcp, and this one over ucx");
	check_refused("udp", NULL, -EINVAL, "DW_NET is \"udp\"; it can be auto, tcp or ucx");
	if (!has_ucx())
		SKIP("UCX cannot be opened here: no more");
	check_refused("ucx", "tcp", -EPROTO, "data over ucx, and this one over tcp");
}
