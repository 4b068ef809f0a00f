/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The table of failures: errors of callables, deaths of children and parents, init that fails,
 * deadlines.
 */
#include <pthread.h>
#include "runtime.h"

static struct callables calls;
static dw_callable fail_below;

static struct dw_worker *node_with(uint32_t subs, void **buffer, enum dw_mode mode)
{
	struct dw_worker *node = make_worker(3, subs, mode);

	CHECK_EQ(register_all(node, &calls), 0);
	CHECK_EQ(dw_buffer_create(node, 4096, buffer), 0);
	CHECK_EQ(dw_worker_init(node), 0);
	return node;
}

/* A failing task, a task that reads its output, and one that does not. */
static int orch_fail(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int64_t *cells = context;
	int result;

	(void)args;
	(void)config;
	options.name = "verify";
	result = submit_one(orch, calls.fail, &cells[0], DW_INOUT, 0, &options, NULL);
	if (!result)
		result = submit_one(orch, calls.add, &cells[0], DW_INOUT, 1, NULL, NULL);
	if (!result)
		result = submit_one(orch, calls.add, &cells[1], DW_INOUT, 1, NULL, NULL);
	return result;
}

static void failure_in(enum dw_mode mode)
{
	int64_t *cells;
	struct dw_worker *node = node_with(2, (void **)&cells, mode);

	CHECK_EQ(dw_worker_run(node, orch_fail, NULL, NULL, cells), -EIO);
	CHECK(strstr(dw_strerror_last(), "node0/sub"));
	CHECK(strstr(dw_strerror_last(), ": task 1 \"verify\" (fail): EIO: short read"));
	CHECK_EQ(cells[0], 0);
	CHECK_EQ(cells[1], 1);
	dw_worker_destroy(node);
}

TEST(a_failing_task_fails_alone_and_skips_its_readers)
{
	failure_in(DW_PROCESS);
}

TEST(a_failing_task_fails_alone_in_threads_too)
{
	failure_in(DW_THREAD);
}

static int orch_below(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	(void)config;
	(void)context;
	return orch_fail(orch, NULL, NULL, dw_args_data(args, 0));
}

static int orch_above(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct dw_tensor tensor;
	struct dw_args *inner;
	uint32_t shape = 2;
	int result;

	(void)args;
	(void)config;
	dw_tensor_init(&tensor, context, DW_INT64, &shape, 1);
	dw_args_create(&inner);
	dw_args_add_tensor(inner, &tensor, DW_INOUT);
	result = dw_submit(orch, fail_below, inner, NULL, NULL);
	dw_args_destroy(inner);
	return result;
}

TEST_IN_BOTH_MODES(the_error_of_a_nested_run_has_its_path)
{
	struct dw_worker *pod = make_worker(4, 1, mode), *node = make_worker(3, 1, mode);
	int64_t *cells;

	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	CHECK_EQ(register_all(pod, &calls), 0);
	CHECK_EQ(dw_callable_register_orch(pod, "below", orch_below, NULL, &fail_below), 0);
	CHECK_EQ(dw_buffer_create(pod, 4096, (void **)&cells), 0);
	CHECK_EQ(dw_worker_init(pod), 0);
	CHECK_EQ(dw_worker_run(pod, orch_above, NULL, NULL, cells), -EIO);
	CHECK(strstr(dw_strerror_last(),
		     "pod0/node0/sub0: task 1 \"verify\" (fail): EIO: short read"));
	if (!strstr(dw_strerror_last(), "pod0/node0/sub0"))
		printf("# %s\n", dw_strerror_last());
	dw_worker_destroy(pod);
}

static int orch_refuses(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	return dw_task_fail(EIO, "no input");
}

TEST_IN_BOTH_MODES(the_error_of_a_nested_orchestration_itself_names_its_task)
{
	struct dw_worker *pod = make_worker(4, 0, mode), *node = make_worker(3, 1, mode);
	int64_t *cells;

	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	CHECK_EQ(dw_callable_register_orch(pod, "refuses", orch_refuses, NULL, &fail_below), 0);
	CHECK_EQ(dw_buffer_create(pod, 4096, (void **)&cells), 0);
	CHECK_EQ(dw_worker_init(pod), 0);
	CHECK_EQ(dw_worker_run(pod, orch_above, NULL, NULL, cells), -EIO);
	CHECK_STR(dw_strerror_last(), "pod0/node0: task 1 (refuses): EIO: no input");
	dw_worker_destroy(pod);
}

/* ------------------------------------------------------------------ death */

static int orch_hang(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	(void)args;
	(void)config;
	options.name = "stuck";
	return submit_one(orch, calls.hang, context, DW_INOUT, 0, &options, NULL);
}

struct killer {
	volatile int64_t *pid;
	uint64_t killed_at;
};

/* Waits until the callable has told its pid; the test's own thread, so it may yield. */
static void *kill_when_running(void *argument)
{
	struct killer *killer = argument;
	struct timespec moment = { 0, 1000000 };

	while (!*killer->pid)
		nanosleep(&moment, NULL);
	killer->killed_at = now_ns();
	kill((pid_t)*killer->pid, SIGKILL);
	return NULL;
}

TEST(a_killed_child_fails_its_task_with_path_signal_and_task)
{
	struct killer killer;
	pthread_t thread;
	void *cell;
	struct dw_worker *node = node_with(1, &cell, DW_PROCESS);
	uint64_t returned;
	char pid[32];

	killer.pid = cell;
	pthread_create(&thread, NULL, kill_when_running, &killer);
	CHECK_EQ(dw_worker_run(node, orch_hang, NULL, NULL, cell), -EOWNERDEAD);
	returned = now_ns();
	pthread_join(thread, NULL);
	snprintf(pid, sizeof(pid), "pid %d", (int)*killer.pid);
	CHECK(strstr(dw_strerror_last(), "node0/sub0: task 1 \"stuck\""));
	CHECK(strstr(dw_strerror_last(), "killed by SIGKILL"));
	CHECK(strstr(dw_strerror_last(), pid));
	printf("# error %llu us after the kill: %s\n",
	       (unsigned long long)(returned - killer.killed_at) / 1000, dw_strerror_last());
	CHECK(unit_within(killer.killed_at, NS_PER_S));
	dw_worker_destroy(node);
	CHECK_EQ(descendants(NULL, 0), 0);

	node = node_with(1, &cell, DW_PROCESS);
	CHECK_EQ(dw_worker_run(node, orch_fail, NULL, NULL, cell), -EIO);
	dw_worker_destroy(node);
}

/* One child hangs and is killed; the rest of the pool does the tasks that it had not started. */
static int orch_hang_and_work(struct dw_orch *orch, const struct dw_args *args,
			      const struct dw_config *config, void *context)
{
	int64_t *cells = context;
	int result = orch_hang(orch, args, config, &cells[0]);

	for (int i = 1; i < 200 && !result; i++)
		result = submit_one(orch, calls.add, &cells[1 + i % 7], DW_INOUT, 1, NULL, NULL);
	return result;
}

TEST(the_pool_takes_over_what_a_dead_child_had_not_started)
{
	struct killer killer;
	pthread_t thread;
	int64_t *cells, sum = 0;
	struct dw_worker *node = node_with(2, (void **)&cells, DW_PROCESS);

	killer.pid = cells;
	pthread_create(&thread, NULL, kill_when_running, &killer);
	CHECK_EQ(dw_worker_run(node, orch_hang_and_work, NULL, NULL, cells), -EOWNERDEAD);
	pthread_join(thread, NULL);
	for (int i = 1; i < 8; i++)
		sum += cells[i];
	CHECK_EQ(sum, 199);
	dw_worker_destroy(node);
}

static uint64_t hang_ns;

static int orch_deadline(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	(void)args;
	(void)config;
	options.timeout_ns = hang_ns;
	return submit_one(orch, calls.hang, context, DW_INOUT, 0, &options, NULL);
}

TEST(a_hung_callable_ends_at_its_deadline)
{
	void *cell;
	struct dw_worker *node = node_with(1, &cell, DW_PROCESS);
	uint64_t start;

	hang_ns = ample(50000000);
	start = now_ns();
	CHECK_EQ(dw_worker_run(node, orch_deadline, NULL, NULL, cell), -ETIMEDOUT);
	CHECK(now_ns() - start >= hang_ns);
	CHECK(unit_within(start, 20 * NS_PER_S));
	dw_worker_destroy(node);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* Closing while a callable hangs: bounded, and the error names the killed child. */
TEST(close_is_bounded_and_names_who_was_killed)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_run *run;
	struct dw_worker *node;
	volatile int64_t *cell;
	uint64_t start;

	options.subs = 1;
	options.close_timeout_ns = 100000000;
	CHECK_EQ(dw_worker_create(3, &options, &node), 0);
	CHECK_EQ(register_all(node, &calls), 0);
	CHECK_EQ(dw_buffer_create(node, 8, (void **)&cell), 0);
	CHECK_EQ(dw_worker_init(node), 0);
	CHECK_EQ(dw_worker_start(node, orch_hang, NULL, NULL, (void *)cell, NULL, &run), 0);
	while (!*cell)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	start = now_ns();
	CHECK_EQ(dw_worker_close(node), -ETIMEDOUT);
	CHECK(unit_within(start, 20 * NS_PER_S));
	CHECK(strstr(dw_strerror_last(), "node0/sub0"));
	CHECK(dw_run_wait(run) < 0);
	dw_worker_destroy(node);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* ----------------------------------------------------------- parent's death */

/* Builds L4 → 2 × L3 with subs, tells the pipe it is up, and waits to be killed. */
static void be_a_parent(int up)
{
	struct dw_worker *pod = make_worker(4, 2, DW_PROCESS);

	for (int i = 0; i < 2; i++)
		dw_worker_add_child(pod, make_worker(3, 2, DW_PROCESS), NULL);
	if (register_all(pod, &calls) == 0 && dw_worker_init(pod) == 0)
		if (write(up, "u", 1) == 1)
			for (;;)
				pause();
	_exit(1);
}

TEST(no_descendant_outlives_a_killed_parent)
{
	uint64_t killed_at, gone;
	int up[2];
	pid_t pid;
	char c;

	/* Every descendant inherits the pipe; its end says that the last one is gone. */
	CHECK_EQ(pipe(up), 0);
	pid = fork();
	if (pid == 0) {
		close(up[0]);
		be_a_parent(up[1]);
	}
	close(up[1]);
	CHECK_EQ(read(up[0], &c, 1), 1);
	killed_at = now_ns();
	kill(pid, SIGKILL);
	CHECK_EQ(read(up[0], &c, 1), 0);
	gone = now_ns();
	waitpid(pid, NULL, 0);
	close(up[0]);
	printf("# the tree was gone %llu us after its parent was killed\n",
	       (unsigned long long)(gone - killed_at) / 1000);
	CHECK(unit_within(killed_at, NS_PER_S));
}

/* ---------------------------------------------------------------- init, args */

TEST(init_that_fails_below_tears_everything_down)
{
	struct dw_chip_options chip = { .driver = "no-such-driver" };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *pod = make_worker(4, 2, DW_PROCESS), *node;
	unsigned fds = count_dir("/proc/self/fd");

	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(struct dw_chip_options);
	CHECK_EQ(dw_worker_create(3, &options, &node), 0);
	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	CHECK_EQ(dw_worker_init(pod), -ENOENT);
	CHECK(strstr(dw_strerror_last(), "no-such-driver"));
	CHECK(strstr(dw_strerror_last(), "pod0/node0/chip0"));
	if (!strstr(dw_strerror_last(), "pod0/node0/chip0"))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(descendants(NULL, 0), 0);
	CHECK_EQ(count_dir("/proc/self/fd"), fds);
	dw_worker_destroy(pod);
}

static int orch_stack(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	int64_t here = 0;

	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, calls.add, &here, DW_INOUT, 1, NULL, NULL);
}

TEST_IN_BOTH_MODES(a_tensor_outside_the_arena_is_refused_at_submit)
{
	void *cell;
	struct dw_worker *node = node_with(1, &cell, mode);

	CHECK_EQ(dw_worker_run(node, orch_stack, NULL, NULL, NULL), -EFAULT);
	dw_worker_destroy(node);
}

/* ------------------------------------------------------------------- cancel */

static int orch_many(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int64_t *cells = context;
	int result;

	(void)args;
	(void)config;
	options.timeout_ns = 20000000000;
	result = submit_one(orch, calls.hang, &cells[0], DW_INOUT, 0, &options, NULL);
	for (int i = 0; i < 100 && !result; i++)
		result = submit_one(orch, calls.add, &cells[0], DW_INOUT, 1, NULL, NULL);
	return result;
}

TEST(a_cancelled_run_starts_nothing_more)
{
	volatile int64_t *cells;
	struct dw_worker *node = node_with(1, (void **)&cells, DW_PROCESS);
	struct dw_run *run;
	int64_t pid;

	CHECK_EQ(dw_worker_start(node, orch_many, NULL, NULL, (void *)cells, NULL, &run), 0);
	while (!cells[0])
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	pid = cells[0];
	CHECK_EQ(dw_run_cancel(run), 0);
	kill((pid_t)pid, SIGKILL);
	CHECK(dw_run_wait(run) < 0);
	CHECK_EQ(cells[0], pid);
	dw_worker_destroy(node);
}
