/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Deadlines of tasks, runs, init and close: they find, kill and name a child that hangs or was
 * stopped.
 */
#include "failure.h"

static struct dw_submit_options within(uint64_t ns)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	options.timeout_ns = ns;
	return options;
}

static void check_deadline(const char *before, uint64_t ns)
{
	char text[256];

	if (ns < NS_PER_S)
		snprintf(text, sizeof(text), "%sETIMEDOUT: ran longer than its deadline of %.4g ms",
			 before, (double)ns / 1e6);
	else
		snprintf(text, sizeof(text), "%sETIMEDOUT: ran longer than its deadline of %.4g s",
			 before, (double)ns / 1e9);
	check_text(text);
}

/* On a busy machine calls end late; a call that never ends is found nevertheless. */
static void check_time(uint64_t start, uint64_t least)
{
	uint64_t ns = now_ns() - start;

	if (!CHECK(ns >= least && unit_within(start, 20 * SECOND_NS)))
		printf("# it took %llu ms\n", (unsigned long long)(ns / MS));
}

static int timed_run(struct order order, uint64_t least)
{
	uint64_t start = now_ns();
	int result = chain_run(order);

	check_time(start, least);
	return result;
}

/* -------------------------------------------------------------------- tasks */

TEST(hung_sub_ends_at_its_deadline_and_is_named)
{
	uint64_t ns = ample(50 * MS);

	chain_init(1, 1, 0, NULL);
	CHECK_EQ(timed_run((struct order){ .how = BREAK_HANG, .options = within(ns) }, ns),
		 -ETIMEDOUT);
	check_deadline("node0/sub0: task 1 \"deep\" (break): ", ns);
	CHECK(!lives(heard()));
	chain_destroy();
}

TEST(deadline_of_the_worker_holds_on_every_level)
{
	for (unsigned depth = 0; depth < 4; depth++) {
		struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
		pid_t bottom;

		options.timeout_ns = ample(300 * MS);
		chain_init(4, 1, 0, &options);
		CHECK_EQ(timed_run((struct order){ .depth = depth, .how = BREAK_HANG },
				   options.timeout_ns), -ETIMEDOUT);
		check_deadline("", options.timeout_ns);
		bottom = heard();
		CHECK(bottom > 0 && is_over(bottom));
		chain_destroy();
	}
}

TEST(deadline_of_a_nested_task_kills_its_whole_subtree)
{
	uint64_t ns = ample(100 * MS);
	pid_t bottom;

	chain_init(4, 1, 0, NULL);
	CHECK_EQ(timed_run((struct order){ .depth = 3, .how = BREAK_HANG, .options = within(ns),
					   .options_on_the_way = true }, ns), -ETIMEDOUT);
	check_text("cluster0/supernode0: task 1 \"deep\" (down): ETIMEDOUT");
	bottom = heard();
	CHECK(bottom > 0 && is_over(bottom));
	chain_destroy();
}

/* The nested Worker is a thread and cannot be killed, but the process that it waits for can. */
TEST(deadline_of_a_nested_thread_kills_the_processes_below)
{
	uint64_t ns = ample(100 * MS);
	pid_t bottom;

	chain_init(3, 1, 1, NULL);
	CHECK_EQ(timed_run((struct order){ .depth = 2, .how = BREAK_HANG, .options = within(ns),
					   .options_on_the_way = true }, ns), -ETIMEDOUT);
	bottom = heard();
	CHECK(bottom > 0 && is_over(bottom));
	chain_destroy();
}

/* Threads are told: a callable that asks ends its task with the deadline's error. */
TEST(deadline_of_a_thread_is_told_to_its_callable)
{
	uint64_t ns = ample(50 * MS);

	chain_init(1, 1, 1, NULL);
	CHECK_EQ(timed_run((struct order){ .how = BREAK_ASK, .options = within(ns) }, ns),
		 -ETIMEDOUT);
	check_text("node0/sub0: task 1 \"deep\" (break): ETIMEDOUT");
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	chain_destroy();
}

/*
 * A task hangs at the bottom of three levels, and one process above it, or its spawner, is stopped.
 */
static void hang_below_stopped(bool spawner)
{
	for (unsigned depth = 0; depth < 3; depth++) {
		struct order order = { .depth = 2,
				       .how = BREAK_HANG,
				       .options = within(ample(200 * MS)),
				       .options_on_the_way = true };
		struct dw_run *run;
		pid_t bottom, stopped;

		chain_init(3, 1, 0, NULL);
		run = chain_start(&order, 0);
		bottom = heard();
		stopped = depth ? pid_of(chain_path(depth)) : bottom;
		kill(spawner ? parent_of(stopped) : stopped, SIGSTOP);
		CHECK_EQ(dw_run_wait(run), -ETIMEDOUT);
		CHECK(is_over(bottom));
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		chain_destroy();
	}
}

TEST(stopped_child_is_found_by_the_deadline)
{
	hang_below_stopped(false);
}

/* The spawner, which has to report the death, is continued. */
TEST(stopped_spawner_does_not_hold_up_a_deadline)
{
	hang_below_stopped(true);
}

/* The child never starts its task, which goes to the other child at the deadline. */
TEST(child_that_was_stopped_while_idle_loses_its_task_at_the_deadline)
{
	uint64_t ns = ample(100 * MS);
	char path[128];

	chain_init(1, 2, 0, NULL);
	snprintf(path, sizeof(path), "%s/sub0", chain_path(0));
	kill(pid_of(path), SIGSTOP);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT, .options = within(ns) }), 0);
	CHECK_EQ(chain.cells[0], 10);
	chain_destroy();
}

TEST(task_that_ran_too_long_is_retried)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	uint64_t ns = ample(50 * MS);
	struct dw_submit_options submit = within(ns);

	options.restart = DW_RESTART_ON_DEATH;
	submit.retries = 1;
	chain_init(1, 1, 0, &options);
	CHECK_EQ(timed_run((struct order){ .how = BREAK_HANG, .options = submit }, 2 * ns),
		 -ETIMEDOUT);
	check_text("(attempt 2)");
	CHECK(heard() != heard());
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	chain_destroy();
}

/* --------------------------------------------------------------------- runs */

TEST(deadline_of_a_run_ends_what_asks)
{
	struct order order = { .depth = 0, .how = BREAK_ASK };
	uint64_t start;
	struct dw_run *run;

	for (unsigned threads = 0; threads < 2; threads++) {
		chain_init(1, 1, threads, NULL);
		start = now_ns();
		run = chain_start(&order, 100 * MS);
		CHECK_EQ(dw_run_wait(run), -ETIMEDOUT);
		check_time(start, 100 * MS);
		check_text("deadline");
		CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
		chain_destroy();
	}
}

TEST_IN_BOTH_MODES(deadline_of_a_run_reaches_down_four_levels)
{
	struct order order = { .depth = 3, .how = BREAK_ASK };
	uint64_t start;
	struct dw_run *run;

	chain_init(4, 1, threads_of(mode), NULL);
	start = now_ns();
	run = chain_start(&order, 200 * MS);
	CHECK_EQ(dw_run_wait(run), -ETIMEDOUT);
	check_time(start, 200 * MS);
	CHECK_EQ(chain_run((struct order){ .depth = 3, .how = BREAK_NOT }), 0);
	chain_destroy();
}

/* ---------------------------------------------------------------------- init */

static struct dw_worker *with_chip(struct dw_worker *below, const char *options, uint64_t init,
				   uint64_t close_ns)
{
	static struct dw_chip_options chip;
	struct dw_worker_options o = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	chip = (struct dw_chip_options){ .driver = beside("fixtures/bad_chip.so"),
					 .options = options };
	set_small(&o);
	o.subs = 1;
	o.init_timeout_ns = init;
	o.close_timeout_ns = close_ns;
	o.chips = below ? NULL : &chip;
	o.chip_count = !below;
	o.chip_size = sizeof(struct dw_chip_options);
	CHECK_EQ(dw_worker_create(below ? DW_LEVEL_POD : DW_LEVEL_NODE, &o, &worker), 0);
	if (below)
		CHECK_EQ(dw_worker_add_child(worker, below, NULL), 0);
	return worker;
}

TEST(hung_init_ends_at_its_deadline_and_names_who_was_not_ready)
{
	for (unsigned levels = 1; levels <= 2; levels++) {
		uint64_t ns = ample(300 * MS);
		struct dw_worker *root = with_chip(NULL, "open=hang", ns, 0);
		unsigned fds = count_fds();
		char text[128];
		uint64_t start;

		if (levels == 2)
			root = with_chip(root, NULL, ample(10 * SECOND_NS), 0);
		start = now_ns();
		CHECK_EQ(dw_worker_init(root), -ETIMEDOUT);
		check_time(start, 200 * MS);
		snprintf(text, sizeof(text), "%snode0/chip0: not ready after %llu ms",
			 levels == 2 ? "pod0/" : "", (unsigned long long)(ns / MS));
		check_text(text);
		CHECK_EQ(descendants(NULL, 0), 0);
		CHECK_EQ(count_fds(), fds);
		dw_worker_destroy(root);
	}
}

/* --------------------------------------------------------------------- close */

TEST(close_names_what_it_had_to_kill_and_is_bounded)
{
	for (unsigned depth = 0; depth < 4; depth++) {
		struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
		struct order order = { .depth = depth, .how = BREAK_HANG };
		struct dw_run *run;
		uint64_t start;
		pid_t bottom;

		options.close_timeout_ns = 400 * MS;
		chain_init(4, 1, 0, &options);
		run = chain_start(&order, 0);
		bottom = heard();
		start = now_ns();
		CHECK_EQ(dw_worker_close(chain.worker[0]), -ETIMEDOUT);
		check_time(start, 0);
		check_text(chain_path(depth ? 1 : 0));
		CHECK(is_over(bottom));
		CHECK(dw_run_wait(run) < 0);
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		chain_destroy();
	}
}

TEST(close_of_a_stopped_tree_is_bounded)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	pid_t pids[64];
	unsigned count;
	uint64_t start;

	options.close_timeout_ns = 300 * MS;
	chain_init(3, 2, 0, &options);
	count = descendants(pids, 64);
	for (unsigned i = 0; i < count; i++)
		kill(pids[i], SIGSTOP);
	start = now_ns();
	CHECK_EQ(dw_worker_close(chain.worker[0]), -ETIMEDOUT);
	check_time(start, 0);
	/*
	 * Close waits until their descriptors are closed; the rest of their exit may take a moment.
	 */
	for (unsigned i = 0; i < count; i++)
		CHECK(is_over(pids[i]));
	chain_destroy();
}

TEST(close_of_a_thread_that_hangs_says_that_it_cannot_be_killed)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .how = BREAK_SLOW, .detail = 500 };
	struct dw_run *run;

	options.close_timeout_ns = 20 * MS;
	chain_init(1, 1, 1, &options);
	run = chain_start(&order, 0);
	heard();
	CHECK_EQ(dw_worker_close(chain.worker[0]), -ETIMEDOUT);
	check_text("node0/sub0");
	/* The thread was only slow. The object stays, since the thread uses it. */
	dw_run_wait(run);
}

/* ------------------------------------------------------------- very long ones */

TEST_IN_BOTH_MODES(times_beyond_the_end_of_time_mean_never)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .how = BREAK_SLOW };

	options.timeout_ns = UINT64_MAX;
	options.heap_timeout_ns = UINT64_MAX;
	options.init_timeout_ns = UINT64_MAX;
	options.close_timeout_ns = UINT64_MAX;
	for (int i = 0; i < 2; i++) {
		chain_init(1, 1, threads_of(mode), &options);
		CHECK_EQ(dw_run_wait(chain_start(&order, UINT64_MAX - (unsigned)i)), 0);
		CHECK_EQ(chain.cells[0], 1);
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		chain_destroy();
	}
}
