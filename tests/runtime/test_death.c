/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Children that die: at init, idle, in a queue, in a task, in a completion, while the
 * Worker is closed; sub workers, chips, nested Workers, spawners; on up to four levels.
 */
#include <sys/resource.h>
#include "failure.h"

/* ---------------------------------------------------------------- in a task */

TEST(dead_sub_fails_its_task_with_path_signal_pid_and_task_on_every_level)
{
	static const int signals[] = { SIGKILL, SIGSEGV, SIGTERM, SIGABRT };
	static const char *const names[] = { "SIGKILL", "SIGSEGV", "SIGTERM", "SIGABRT" };
	char wanted[256];

	for (unsigned depth = 0; depth < 4; depth++) {
		chain_init(4, 1, 0, NULL);
		CHECK_EQ(chain_run((struct order){ .depth = depth, .how = BREAK_SIGNAL,
						   .detail = signals[depth] }), -EOWNERDEAD);
		snprintf(wanted, sizeof(wanted),
			 "%s/sub0: task 1 \"deep\" (break): EOWNERDEAD: killed by %s, pid ",
			 chain_path(depth), names[depth]);
		check_text(wanted);
		chain_destroy();
	}
}

TEST(dead_sub_below_threads_is_reported_with_its_path)
{
	/* Root's children are threads, the pod's are processes; and the other way round. */
	for (unsigned threads = 1; threads <= 2; threads++) {
		unsigned depth = threads == 1 ? 1 : 0;

		chain_init(2, 1, threads, NULL);
		CHECK_EQ(chain_run((struct order){ .depth = depth, .how = BREAK_SIGNAL,
						   .detail = SIGBUS }), -EOWNERDEAD);
		check_text("killed by SIGBUS, pid ");
		check_text(chain_path(depth));
		chain_destroy();
	}
}

TEST(a_callable_that_exits_is_reported_with_its_status)
{
	chain_init(1, 1, 0, NULL);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_EXIT }), -EOWNERDEAD);
	check_text("node0/sub0: task 1 \"deep\" (break): EOWNERDEAD: exited with status 3, pid ");
	chain_destroy();
}

/* Names the place and the reason once, however many levels the error has passed. */
TEST_IN_BOTH_MODES(a_death_far_below_is_reported_as_it_was_there)
{
	static const char name[] = "seventeen-letters";
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	const char *found;

	options.name = name;
	/* The children of the lowest Worker are always processes. */
	chain_init(4, 1, threads_of(mode) & 7, &options);
	CHECK_EQ(chain_run((struct order){ .depth = 3, .how = BREAK_SIGNAL, .detail = SIGBUS }),
		 -EOWNERDEAD);
	check_text(
		"/seventeen-letters/sub0: task 1 \"deep\" (break): EOWNERDEAD: killed by SIGBUS, "
		"pid ");
	CHECK_EQ(strncmp(dw_strerror_last(), name, sizeof(name) - 1), 0);
	found = strstr(dw_strerror_last(), "EOWNERDEAD");
	CHECK(found && !strstr(found + 1, "EOWNERDEAD"));
	chain_destroy();
}

TEST(dead_nested_worker_fails_its_task_and_its_whole_subtree_ends)
{
	for (unsigned killed = 1; killed < 4; killed++) {
		struct order order = { .depth = 3, .how = BREAK_HANG };
		pid_t bottom, middle, below[64];
		unsigned count;
		struct dw_run *run;

		chain_init(4, 1, 0, NULL);
		run = chain_start(&order, 0);
		bottom = heard();
		middle = pid_of(chain_path(killed));
		CHECK(bottom > 0 && middle > 0 && descends(bottom, middle));
		count = descendants(below, 64);
		kill(middle, SIGKILL);
		CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
		check_text(chain_path(killed));
		check_text(": task 1 \"deep\" (down): EOWNERDEAD: killed by SIGKILL");
		CHECK(is_over(bottom));
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		for (unsigned i = 0; i < count; i++)
			CHECK(is_over(below[i]));
		chain_destroy();
	}
}

/* The same if everything below is stopped, and cannot notice by itself. */
TEST(stopped_subtree_of_a_dead_worker_ends)
{
	struct order order = { .depth = 3, .how = BREAK_HANG };
	pid_t bottom, middle, below[64];
	struct dw_run *run;
	unsigned count;

	chain_init(4, 1, 0, NULL);
	run = chain_start(&order, 0);
	bottom = heard();
	middle = pid_of(chain_path(1));
	count = descendants(below, 64);
	for (unsigned i = 0; i < count && i < 64; i++)
		if (below[i] != middle && descends(below[i], middle))
			kill(below[i], SIGSTOP);
	kill(middle, SIGKILL);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	CHECK(is_over(bottom));
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	chain_destroy();
}

/* A callable's helper goes with it, in a session of its own too. */
static int sub_with_helper(const struct dw_args *args, void *context)
{
	int64_t *cell = dw_args_data(args, 0);
	pid_t helper = fork();

	(void)context;
	if (helper == 0) {
		setsid();
		execl("/bin/sh", "sh", "-c", "sleep 1000", (char *)NULL);
		_exit(1);
	}
	*cell = helper;
	say();
	for (;;)
		pause();
}

static int orch_helper(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, *(dw_callable *)context, chain.cells, DW_INOUT, 0, NULL, NULL);
}

TEST(helper_of_a_dead_child_goes_with_it)
{
	dw_callable helper;
	struct dw_run *run;
	uint64_t start;
	pid_t sub;

	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "helper", sub_with_helper, NULL,
					  &helper),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_helper, NULL, NULL, &helper, NULL, &run), 0);
	sub = heard();
	CHECK(lives((pid_t)chain.cells[0]));
	kill(sub, SIGKILL);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	CHECK(is_over((pid_t)chain.cells[0]));
	start = now_ns();
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	CHECK(unit_within(start, 20 * SECOND_NS));
	chain_destroy();
}

/* -------------------------------------------------------------------- idle */

static pid_t first_sub(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/sub0", chain_path(0));
	return pid_of(path);
}

TEST(death_while_idle_is_no_error_while_others_live)
{
	chain_init(1, 2, 0, NULL);
	kill(first_sub(), SIGKILL);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	CHECK_EQ(chain.cells[0], 20);
	chain_destroy();
}

TEST(death_of_the_last_while_idle_is_an_error_of_the_next_run)
{
	pid_t sub;

	chain_init(1, 1, 0, NULL);
	sub = first_sub();
	kill(sub, SIGKILL);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), -ENODEV);
	check_text("node0");
	CHECK_EQ(chain.cells[0], 0);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), -ENODEV);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	chain_destroy();
}

TEST(death_of_an_idle_nested_worker_is_an_error_of_the_next_run)
{
	chain_init(3, 1, 0, NULL);
	kill(pid_of(chain_path(1)), SIGKILL);
	CHECK_EQ(chain_run((struct order){ .depth = 2, .how = BREAK_NOT }), -ENODEV);
	CHECK_EQ(chain_run((struct order){ .depth = 0, .how = BREAK_NOT }), 0);
	CHECK_EQ(chain.cells[0], 1);
	chain_destroy();
}

/* -------------------------------------------------------------- in a queue */

/* The first hangs; forty wait behind it, each with a cell of its own. */
static int orch_queue(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct order order = { .how = BREAK_HANG };
	int result = submit_order(orch, chain.broken, &order, chain.cells + order.cell, 0, NULL);
	dw_callable *add = context;

	(void)args;
	(void)config;
	for (int i = 0; i < 40 && result == 0; i++)
		result = submit_one(orch, *add, &chain.cells[10 + i], DW_INOUT, 1, NULL, NULL);
	return result;
}

static int64_t queue_in(uint32_t subs)
{
	struct dw_run *run;
	int64_t sum = 0;
	dw_callable add;
	pid_t sub;

	chain_create(1, subs, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "add", sub_add, NULL, &add), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_queue, NULL, NULL, &add, NULL, &run), 0);
	sub = heard();
	kill(sub, SIGKILL);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	check_text(": task 1 (break): EOWNERDEAD: killed by SIGKILL");
	for (int i = 0; i < 40; i++)
		sum += chain.cells[10 + i];
	chain_destroy();
	return sum;
}

TEST(what_waited_in_a_dead_childs_queue_goes_elsewhere)
{
	CHECK_EQ(queue_in(2), 40);
}

TEST(what_waited_in_the_last_ones_queue_fails_and_does_not_hang)
{
	CHECK_EQ(queue_in(1), 0);
}

/* ---------------------------------------------------------- in a completion */

#define STREAM 500

/* Long enough to be hit, short enough that completions are hit too. */
static int sub_short(const struct dw_args *args, void *context)
{
	volatile int64_t *cell = dw_args_data(args, 0);
	uint64_t end = now_ns() + 10000;

	(void)context;
	++*cell;
	while (now_ns() < end)
		;
	return 0;
}

static int orch_stream(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	dw_callable *add = context;
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < STREAM && result == 0; i++)
		result = submit_one(orch, *add, &chain.cells[i], DW_INOUT, 1, NULL, NULL);
	return result;
}

struct sniper {
	pid_t victim;
	unsigned delay_us;
};

static void *snipe(void *argument)
{
	struct sniper *sniper = argument;
	struct timespec delay = { 0, sniper->delay_us * 1000L };

	nanosleep(&delay, NULL);
	kill(sniper->victim, SIGKILL);
	return NULL;
}

/* At any moment: one task at most is lost, and none runs twice. */
TEST(death_at_any_moment_of_a_stream_loses_one_task_and_repeats_none)
{
	unsigned hit = 0;

	for (unsigned round = 0; round < 40; round++) {
		struct sniper sniper = { .delay_us = 100 + round * 97 };
		unsigned wrong = 0;
		pthread_t thread;
		dw_callable add;
		int result;

		chain_create(1, 2, 0, NULL);
		CHECK_EQ(dw_callable_register_sub(chain.worker[0], "short", sub_short, NULL, &add),
			 0);
		CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
		sniper.victim = first_sub();
		pthread_create(&thread, NULL, snipe, &sniper);
		result = dw_worker_run(chain.worker[0], orch_stream, NULL, NULL, &add);
		pthread_join(thread, NULL);
		CHECK(result == 0 || result == -EOWNERDEAD);
		for (int i = 0; i < STREAM; i++)
			wrong += chain.cells[i] != 1;
		/* The lost task may have counted already, but none counts twice. */
		CHECK(wrong <= (result != 0));
		for (int i = 0; i < STREAM; i++)
			CHECK(chain.cells[i] <= 1);
		hit += result != 0;
		chain_destroy();
	}
	printf("# %u of 40 kills hit a task\n", hit);
}

/* ------------------------------------------------------------ during close */

TEST(death_during_close_does_not_hold_it_up)
{
	for (unsigned round = 0; round < 10; round++) {
		struct order order = { .how = BREAK_SLOW, .depth = round % 3 };
		struct sniper sniper = { .delay_us = 500 + round * 900 };
		struct dw_run *run;
		pthread_t thread;
		uint64_t start;

		chain_init(3, 1, 0, NULL);
		run = chain_start(&order, 0);
		heard();
		sniper.victim = round % 2 ? pid_of(chain_path(1)) : first_sub();
		pthread_create(&thread, NULL, snipe, &sniper);
		start = now_ns();
		dw_worker_close(chain.worker[0]);
		CHECK(unit_within(start, 20 * SECOND_NS));
		pthread_join(thread, NULL);
		dw_run_wait(run);
		chain_destroy();
	}
}

/* ----------------------------------------------------------------- at init */

static int init_with_chip(const char *options, unsigned levels, uint64_t timeout_ns)
{
	struct dw_chip_options chip = { .driver = beside("fixtures/bad_chip.so"),
					.options = options };
	struct dw_worker *worker = NULL, *below;
	unsigned fds = count_fds();
	uint64_t start = now_ns();
	int result;

	for (unsigned i = 0; i < levels; i++) {
		struct dw_worker_options o = DW_OPTIONS(dw_worker_options);

		set_small(&o);
		o.subs = 2;
		o.init_timeout_ns = timeout_ns;
		o.chips = i == 0 ? &chip : NULL;
		o.chip_count = i == 0;
		o.chip_size = sizeof(struct dw_chip_options);
		below = worker;
		CHECK_EQ(dw_worker_create(DW_LEVEL_NODE + i, &o, &worker), 0);
		if (below)
			CHECK_EQ(dw_worker_add_child(worker, below, NULL), 0);
	}
	result = dw_worker_init(worker);
	if (result < 0) {
		CHECK(unit_within(start, 5 * SECOND_NS));
		CHECK_EQ(descendants(NULL, 0), 0);
		CHECK_EQ(count_fds(), fds);
	}
	CHECK_EQ(dw_worker_close(worker), 0);
	if (result == 0)
		CHECK_EQ(dw_worker_close(worker), 0);
	dw_worker_destroy(worker);
	CHECK_EQ(descendants(NULL, 0), 0);
	return result;
}

TEST(death_at_init_is_the_error_of_init_on_every_level)
{
	for (unsigned levels = 1; levels <= 4; levels++) {
		CHECK_EQ(init_with_chip("open=segv", levels, 0), -EOWNERDEAD);
		check_text("node0/chip0: killed by SIGSEGV, pid ");
		CHECK_EQ(init_with_chip("open=exit", levels, 0), -EOWNERDEAD);
		check_text("node0/chip0: exited with status 3, pid ");
		CHECK_EQ(init_with_chip("open=error", levels, 0), -EIO);
		check_text("node0/chip0: ");
		check_text("the device is on fire");
		CHECK_EQ(init_with_chip(NULL, levels, 0), 0);
	}
}

/* -------------------------------------------------------------------- chips */

static dw_callable chip_image(struct dw_worker *worker, const char *driver, const char *entry)
{
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	int32_t inout = DW_DIR_INOUT;
	dw_callable callable = 0;

	image.driver = driver;
	image.entry = entry;
	image.data = "x";
	image.bytes = 1;
	image.signature = &inout;
	image.signature_count = 1;
	if (!CHECK_EQ(dw_callable_register_image(worker, &image, &callable), 0))
		printf("# %s\n", dw_strerror_last());
	return callable;
}

static int orch_chip(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_tensor tensor = scalar_tensor(chain.cells);
	struct dw_args *one;
	int result;

	(void)args;
	(void)config;
	dw_args_create(&one);
	dw_args_add_tensor(one, &tensor, DW_INOUT);
	result = dw_submit(orch, *(dw_callable *)context, one, NULL, NULL);
	dw_args_destroy(one);
	return result;
}

TEST(dead_chip_fails_its_task_and_leaves_the_other_chip_alone)
{
	struct dw_chip_options chips[2] = {
		{ .driver = beside("fixtures/bad_chip.so") },
		{ .driver = chips[0].driver, .device = 1 },
	};
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *node;
	dw_callable add, segv;

	memset(&chain, 0, sizeof(chain));
	set_small(&options);
	options.chips = chips;
	options.chip_count = 2;
	options.chip_size = sizeof(struct dw_chip_options);
	CHECK_EQ(dw_worker_create(3, &options, &node), 0);
	CHECK_EQ(dw_buffer_create(node, 4096, (void **)&chain.cells), 0);
	add = chip_image(node, chips[0].driver, "add");
	segv = chip_image(node, chips[0].driver, "segv");
	CHECK_EQ(dw_worker_init(node), 0);
	CHECK_EQ(dw_worker_run(node, orch_chip, NULL, NULL, &add), 0);
	CHECK_EQ(dw_worker_run(node, orch_chip, NULL, NULL, &segv), -EOWNERDEAD);
	check_text("node0/chip");
	check_text(": task 1 (bad_chip.so:segv): EOWNERDEAD: killed by SIGSEGV, pid ");
	CHECK_EQ(dw_worker_run(node, orch_chip, NULL, NULL, &add), 0);
	CHECK_EQ(chain.cells[0], 2);
	dw_worker_destroy(node);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* ----------------------------------------------------------------- spawners */

static pid_t spawner_below(pid_t parent)
{
	pid_t pids[64];
	unsigned count = descendants(pids, 64);

	for (unsigned i = 0; i < count && i < 64; i++)
		if (parent_of(pids[i]) == parent)
			return pids[i];
	return 0;
}

TEST(dead_spawner_takes_its_children_with_it_and_says_so)
{
	for (unsigned depth = 0; depth < 3; depth++) {
		struct order order = { .depth = 2, .how = BREAK_HANG };
		struct dw_run *run;
		pid_t spawner, bottom;

		chain_init(3, 1, 0, NULL);
		run = chain_start(&order, 0);
		bottom = heard();
		spawner = spawner_below(depth ? pid_of(chain_path(depth)) : getpid());
		CHECK(spawner > 0);
		kill(spawner, SIGKILL);
		CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
		check_text("its spawner died");
		CHECK(is_over(bottom));
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		chain_destroy();
	}
}

TEST(close_is_bounded_when_a_spawner_is_stopped)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	uint64_t start;
	pid_t spawner;

	options.close_timeout_ns = 300 * MS;
	chain_init(2, 1, 0, &options);
	spawner = spawner_below(getpid());
	kill(spawner, SIGSTOP);
	start = now_ns();
	dw_worker_close(chain.worker[0]);
	CHECK(unit_within(start, 20 * SECOND_NS));
	chain_destroy();
}

/* More children than the sockets to the spawner take messages. */
TEST(four_hundred_children_come_up_and_go)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct rlimit files;

	/* A close that hangs is a test that hangs. */
	options.close_timeout_ns = 1000 * SECOND_NS;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_max < 2000)
		SKIP("each child takes up to four descriptors: ulimit -n 2000");
	chain_init(1, 400, 0, &options);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	chain_destroy();
}
