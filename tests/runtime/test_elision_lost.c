/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A chip has kept a result for a later task, but that task never runs: the chip dies, the run is
 * cancelled, another task fails, the copy home fails, the thread hangs. Then the result must be at
 * home, or the error must say that it is lost.
 */
#include "elision.h"

/* What happens when the held task has reported its pid. */
static void (*act)(pid_t pid);

static void kill_it(pid_t pid)
{
	CHECK_EQ(kill(pid, SIGKILL), 0);
}

static void cancel_all(pid_t pid)
{
	(void)pid;
	CHECK_EQ(dw_worker_cancel(world.root), 0);
}

static void cancel_and_go(pid_t pid)
{
	cancel_all(pid);
	go();
}

static void act_when_held(void)
{
	pid_t pid = heard();

	if (CHECK(pid > 0))
		act(pid);
}

/* x, then another task, then x again: the result of the first is kept meanwhile. */
static void keep_over(struct dw_orch *orch, const struct call *other)
{
	gate(orch);
	first_x(orch);
	send_call(orch, other);
	add_x(orch, 1);
	posted(orch);
	go();
}

/* The other task is held. */
static void keep_over_held(struct dw_orch *orch)
{
	struct call held = hold_on(world.y, LONG, 0);

	keep_over(orch, &held);
}

ORCH(orch_between)
{
	UNUSED_OF_ORCH;
	keep_over_held(orch);
	act_when_held();
	return 0;
}

static int run_and(void (*what)(pid_t pid), dw_orch_fn *fn, void *context)
{
	act = what;
	return dw_worker_run(world.root, fn, NULL, NULL, context);
}

/* The errors of the run that has ended; 0: none has this text. */
static int error_with(const char *text)
{
	struct dw_run_error error = DW_OPTIONS(dw_run_error);
	uint32_t kept = 0;
	uint64_t count;

	dw_run_error_count(NULL, &count, &kept);
	for (uint32_t i = 0; i < kept; i++)
		if (dw_run_error(NULL, i, &error) == 0 && strstr(error.text, text))
			return error.error;
	return 0;
}

static void print_errors(void)
{
	struct dw_run_error error = DW_OPTIONS(dw_run_error);

	for (uint32_t i = 0; dw_run_error(NULL, i, &error) == 0; i++)
		printf("# %s\n", error.text);
}

/* ------------------------------------------------------------------- deaths */

#define LOST "which it needs and only node0/chip0 had, is lost"

/* The other chip could run the last task, and would find the bytes from before. */
TEST(a_chip_that_dies_with_a_result_fails_the_task_that_needs_it)
{
	for (int restart = 0; restart < 2; restart++) {
		world_init(DW_PROCESS, (struct world_options){
			.chips = 2, .restart = restart ? DW_RESTART_ON_DEATH : DW_RESTART_NEVER,
		});
		CHECK_EQ(run_and(kill_it, orch_between, NULL), -EOWNERDEAD);
		if (!CHECK_EQ(error_with("the result of task 2, " LOST), -EOWNERDEAD))
			print_errors();
		CHECK_EQ(world.x[0], 1);
		world_close();
	}
}

/* A reader of the result is lost with it, too. */
ORCH(orch_reader_behind)
{
	UNUSED_OF_ORCH;
	gate(orch);
	first_x(orch);
	hold(orch, world.y, LONG, 0);
	combine(orch, world.x, LONG, world.z, 64);
	add_x(orch, 1);
	posted(orch);
	go();
	act_when_held();
	return 0;
}

TEST(a_chip_that_dies_with_a_result_fails_its_readers)
{
	world_init(DW_PROCESS, (struct world_options){ .chips = 2 });
	CHECK_EQ(run_and(kill_it, orch_reader_behind, NULL), -EOWNERDEAD);
	if (!CHECK_EQ(error_with("(sim:combine): EOWNERDEAD"), -EOWNERDEAD))
		print_errors();
	CHECK_EQ(error_with("task 4 (sim:combine): EOWNERDEAD: killed by SIGKILL") != 0, 1);
	CHECK_EQ(world.z[0], 0);
	world_close();
}

ORCH(orch_gate_only)
{
	UNUSED_OF_ORCH;
	hold(orch, world.z + LONG - 1, 1, 0);
	first_x(orch);
	add_x(orch, 1);
	act_when_held();
	return 0;
}

TEST(a_chip_that_dies_before_the_first_leaves_both_to_its_successor)
{
	world_init(DW_PROCESS, (struct world_options){ .restart = DW_RESTART_ON_DEATH });
	CHECK_EQ(run_and(kill_it, orch_gate_only, NULL), -EOWNERDEAD);
	CHECK_EQ(error_with("is lost"), 0);
	CHECK_EQ(world.x[0], chained(2));
	world_close();
}

/* The first, or the second, is held on the way. */
ORCH(orch_within)
{
	bool first = *(bool *)context;

	UNUSED_OF_ORCH;
	gate(orch);
	if (first)
		hold(orch, world.x, LONG, 0);
	else
		first_x(orch);
	if (first)
		add_x(orch, 1);
	else
		hold(orch, world.x, LONG, 1);
	posted(orch);
	go();
	act_when_held();
	return 0;
}

TEST(a_chip_that_dies_within_one_of_the_two_fails_it)
{
	for (int i = 0; i < 2; i++) {
		bool first = i;

		world_init(DW_PROCESS, (struct world_options){ .chips = 2 });
		CHECK_EQ(run_and(kill_it, orch_within, &first), -EOWNERDEAD);
		CHECK_EQ(error_with("is lost"), first ? 0 : -EOWNERDEAD);
		CHECK_EQ(world.x[0], 1);
		world_close();
	}
}

/* ------------------------------------------------------------------ cancels */

/*
 * What the held task does is `told`: it ends when it is cancelled, well or with an error. With an
 * error the frames behind it are returned; else the last one is claimed, and finds that it is
 * cancelled.
 */
ORCH(orch_told)
{
	struct call told = call_on(world.told, world.y, LONG, DW_INOUT);

	UNUSED_OF_ORCH;
	call_scalar(&told, 0);
	call_scalar(&told, (uint64_t)said[1]);
	call_scalar(&told, *(uint64_t *)context);
	told.options.place = DW_PLACE(0);
	keep_over(orch, &told);
	act_when_held();
	return 0;
}

TEST_IN_BOTH_MODES(a_result_that_was_kept_is_at_home_after_a_cancel)
{
	for (uint64_t error = 0; error <= EIO; error += EIO) {
		uint64_t out;

		world_init(mode, (struct world_options){ .chips = 2 });
		CHECK_EQ(run_and(cancel_all, orch_told, &error), -ECANCELED);
		CHECK_EQ(world.x[0], chained(1));
		copied(&out);
		CHECK_EQ(out, (error ? 1 : 2) * BYTES + sizeof(uint64_t));
		world_close();
	}
}

TEST_IN_BOTH_MODES(a_cancel_before_the_first_begins_leaves_all_as_it_was)
{
	world_init(mode, (struct world_options){ .chips = 2 });
	CHECK_EQ(run_and(cancel_and_go, orch_gate_only, NULL), -ECANCELED);
	CHECK_EQ(world.x[0], 1);
	world_close();
}

/* Inside the first task: it runs to its end, and no task is left to write the result again. */
TEST_IN_BOTH_MODES(a_cancel_within_one_of_the_two_leaves_what_was_done)
{
	for (int i = 0; i < 2; i++) {
		bool first = i;

		world_init(mode, (struct world_options){ .chips = 2 });
		CHECK_EQ(run_and(cancel_and_go, orch_within, &first), -ECANCELED);
		CHECK_EQ(world.x[0], chained(first ? 1 : 2));
		world_close();
	}
}

/* ----------------------------------------------------------------- failures */

/* A task between the two fails: the last is returned, and may run anywhere. */
ORCH(orch_failure)
{
	struct call fails = call_on(world.fails, world.y, LONG, DW_OUTPUT);

	UNUSED_OF_ORCH;
	fails.options.place = DW_PLACE(0);
	keep_over(orch, &fails);
	return 0;
}

TEST_IN_BOTH_MODES(a_failure_between_the_two_brings_the_result_home)
{
	uint64_t out;

	world_init(mode, (struct world_options){ .chips = 2 });
	CHECK_EQ(dw_worker_run(world.root, orch_failure, NULL, NULL, NULL), -EDOM);
	CHECK_EQ(world.x[0], chained(2));
	copied(&out);
	CHECK_EQ(out, 2 * BYTES + sizeof(uint64_t));
	world_close();
}

/* The same with two calls in flight: the failure comes when the first is on its way. */
ORCH(orch_failure_before)
{
	struct call fails = call_on(world.fails, world.y, LONG, DW_OUTPUT);

	UNUSED_OF_ORCH;
	fails.options.place = DW_PLACE(0);
	gate(orch);
	send_call(orch, &fails);
	hold(orch, world.x, LONG, 0);
	add_x(orch, 1);
	posted(orch);
	go();
	CHECK(heard() > 0);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(a_failure_while_the_first_runs_has_it_copied_home)
{
	world_init(mode, (struct world_options){ .chips = 2, .chip = "async=1,depth=3" });
	CHECK_EQ(dw_worker_run(world.root, orch_failure_before, NULL, NULL, NULL), -EDOM);
	CHECK_EQ(world.x[0], chained(2));
	world_close();
}

/* Copies of the first chip: 1, 2 of the gate, 3 in; then the result home, which fails. */
TEST_IN_BOTH_MODES(a_result_that_cannot_be_copied_home_is_lost_with_the_device)
{
	world_init(mode, (struct world_options){ .chips = 2, .chip = "copy_fail=4", .other = "" });
	CHECK(dw_worker_run(world.root, orch_failure, NULL, NULL, NULL) < 0);
	if (!CHECK(error_with("the result of task 2, " LOST) < 0) ||
	    !CHECK(error_with("copy 4 of sim device 0 failed on demand") < 0))
		print_errors();
	CHECK_EQ(world.x[0], 1);
	world_close();
}

/* A lost device has lost the result, too. */
TEST_IN_BOTH_MODES(a_device_that_is_lost_fails_the_task_that_needs_its_result)
{
	world_init(mode, (struct world_options){ .chips = 2, .chip = "lost_after=2", .other = "" });
	CHECK(dw_worker_run(world.root, orch_failure, NULL, NULL, NULL) < 0);
	if (!CHECK(error_with("the result of task 2, " LOST) < 0))
		print_errors();
	CHECK_EQ(world.x[0], 1);
	world_close();
}

/* A thread cannot be killed at its deadline, and keeps what it has. */
ORCH(orch_hang)
{
	struct call held = hold_on(world.y, LONG, 0);

	UNUSED_OF_ORCH;
	held.options.timeout_ns = 100 * MS;
	keep_over(orch, &held);
	return 0;
}

TEST_IN_BOTH_MODES(a_hung_chip_fails_the_task_that_needs_its_result)
{
	world_init(mode, (struct world_options){ .chips = 2 });
	CHECK_EQ(dw_worker_run(world.root, orch_hang, NULL, NULL, NULL), -ETIMEDOUT);
	if (!CHECK(error_with("the result of task 2, " LOST) < 0))
		print_errors();
	CHECK(heard() > 0);
	go();
	world_close();
}

/* ------------------------------------------------------------------ balance */

/* The other chip is idle, and would have time for the last task. */
ORCH(orch_balance)
{
	struct call other = add_to(world.z, 0);

	UNUSED_OF_ORCH;
	keep_over_held(orch);
	CHECK(heard() > 0);
	other.options.place = DW_PLACE(1);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(dw_orch_wait_task(orch, send_call(orch, &other)), 0);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(an_idle_chip_takes_no_task_that_needs_what_another_has)
{
	struct dw_child_stats stats[4];
	size_t count = 4;

	world_init(mode, (struct world_options){ .chips = 2 });
	CHECK_EQ(run_world(orch_balance, NULL), 0);
	CHECK_EQ(world.x[0], chained(2));
	CHECK_EQ(dw_worker_stats(world.root, stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(count, 3);
	CHECK_EQ(stats[1].tasks_done, 4);
	CHECK_EQ(stats[2].tasks_done, 20);
	world_close();
}

/* A stopped chip is passed over for what is new, and keeps what needs its results. */
ORCH(orch_stopped)
{
	struct call other = add_to(world.z, 0);
	pid_t pid;

	UNUSED_OF_ORCH;
	keep_over_held(orch);
	pid = heard();
	CHECK_EQ(kill(pid, SIGSTOP), 0);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(dw_orch_wait_task(orch, send_call(orch, &other)), 0);
	CHECK_EQ(kill(pid, SIGCONT), 0);
	go();
	return 0;
}

TEST(a_stopped_chip_keeps_the_task_that_needs_its_result)
{
	world_init(DW_PROCESS, (struct world_options){ .chips = 2 });
	CHECK_EQ(run_world(orch_stopped, NULL), 0);
	CHECK_EQ(world.x[0], chained(2));
	world_close();
}
