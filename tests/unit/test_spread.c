// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The number of workers that tasks spread over: take-back from a worker that is slower than was
 * thought, a CPU for each worker that is woken.
 */
#include "timed_tasks.h"

static dw_callable mixed_handle;

/* The scalar's time for a task that runs until the 40 short ones have ended. */
#define OUTLASTS UINT64_MAX
#define SHORT 40
#define KNOWN 200

static bool short_ones_are_over(struct board *board)
{
	uint64_t begun = rig_now();

	while (atomic_load(&board->ran) < KNOWN + SHORT) {
		if (!unit_within(begun, 20000000000))
			return false;
		rig_sleep(100000);
	}
	return true;
}

/* As timed(). */
static int mixed(const struct dw_args *args, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);

	(void)context;
	if (dw_args_scalar(args, 2) == OUTLASTS && !short_ones_are_over(board))
		atomic_fetch_add(&board->told, 1);
	atomic_fetch_add(&board->ran, 1);
	return 0;
}

static int long_then_short(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	/* The estimate for these is 0. */
	for (uint64_t i = 0; i < KNOWN; i++)
		submit(orch, job, mixed_handle, i, 0, NULL, 0, DW_ANY);
	dw_orch_wait(orch);
	submit(orch, job, mixed_handle, 0, OUTLASTS, NULL, 0, DW_ANY);
	for (uint64_t i = 0; i < SHORT; i++)
		submit(orch, job, mixed_handle, i, 0, NULL, 0, DW_ANY);
	if (job->variant)
		CHECK(short_ones_are_over(job->board));
	return 0;
}

static void no_task_sticks(int variant)
{
	struct job job = { .variant = variant };
	struct rig *rig;

	if (!mixed_handle)
		mixed_handle = rig_sub("mixed", mixed);
	rig = open_with((struct rig_options){ .subs = 2 }, &job);
	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, long_then_short, &job), 0);
	CHECK_EQ(job.board->ran, KNOWN + SHORT + 1);
	/* The long one has seen them end. */
	CHECK_EQ(job.board->told, 0);
	done_with(rig, &job);
}

TEST(nothing_sticks_behind_a_long_task_while_the_function_has_returned)
{
	no_task_sticks(0);
}

TEST(nothing_sticks_behind_a_long_task_while_the_function_computes)
{
	no_task_sticks(1);
}

static dw_callable meet_handle;

/* Scalar: the board. Returns when eight tasks are in here at the same time. */
static int meet(const struct dw_args *args, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);
	uint64_t begun = rig_now();

	(void)context;
	atomic_fetch_add(&board->members, 1);
	while (atomic_load(&board->members) < 8) {
		if (!unit_within(begun, 10000000000)) {
			atomic_fetch_add(&board->told, 1);
			break;
		}
		rig_sleep(100000);
	}
	return 0;
}

static int all_meet(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	for (uint64_t i = 0; i < 8; i++)
		submit(orch, context, meet_handle, i, 0, NULL, 0, DW_ANY);
	return 0;
}

TEST(equal_tasks_spread_over_all_workers)
{
	struct job job = { 0 };
	uint64_t each[8] = { 0 }, sum = 0;
	int64_t seen[8] = { 0 };
	struct rig *rig;
	int count = 0;

	meet_handle = rig_sub("meet", meet);
	rig = open_with((struct rig_options){ .subs = 8 }, &job);
	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, all_meet, &job), 0);
	CHECK_EQ(job.board->told, 0);
	CHECK_EQ(rig_run(rig, many_equal, &job), 0);
	for (int i = 0; i < 40; i++)
		sum += job.board->took[i];
	for (int i = 0; i < 40; i++) {
		int k;

		for (k = 0; k < count && seen[k] != job.board->worker[i]; k++)
			;
		if (k == count && count < 8)
			seen[count++] = job.board->worker[i];
		if (k < 8)
			each[k] += job.board->took[i];
	}
	CHECK_EQ(count, 8);
	/* 40 × 10 ms over 8: 50 ms of 400 for each, however long the sleeps really took. */
	for (int k = 0; k < 8; k++)
		CHECK(each[k] < sum * 3 / 8);
	done_with(rig, &job);
}

/* The engine writes these bits under its lock. */
static void count_active(void *context)
{
	struct job *job = context;

	job->variant = __builtin_popcountll(job->rig->engine->rings.active[0]);
}

/* As many as the rings of all workers hold; none of them is done yet. */
static int short_tasks(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	for (uint64_t i = 0; i < 64; i++)
		submit(orch, job, timed_handle, i, 0, NULL, 0, DW_ANY);
	engine_locked(job->rig->engine, count_active, job);
	for (uint32_t i = 0; i < job->rig->count; i++)
		kill(job->rig->pids[i], SIGCONT);
	return 0;
}

/* Counts how many of 8 workers with rings of 8 frames get tasks that are known to take 100 ns. */
static int workers_used(uint32_t cpus)
{
	struct job job = { 0 };
	struct rig *rig = open_with((struct rig_options){ .subs = 8, .depth = 8 }, &job);

	if (!rig)
		return -1;
	job.rig = rig;
	rig->engine->schedule.cpus = cpus;
	/*
	 * As if it were armed: on a busy machine a submission may take longer than a straggler is
	 * given.
	 */
	rig->engine->schedule.straggler = true;
	for (int i = 0; i < ESTIMATES; i++)
		rig->engine->rings.estimates[i] = 100;
	for (int i = 0; i < 8; i++)
		kill(rig->pids[i], SIGSTOP);
	CHECK_EQ(rig_run(rig, short_tasks, &job), 0);
	done_with(rig, &job);
	return job.variant;
}

TEST(worker_without_a_cpu_is_not_woken_because_a_ring_is_full_of_short_tasks)
{
	CHECK_EQ(workers_used(64), 8);
	CHECK_EQ(workers_used(4), 3);
	CHECK_EQ(workers_used(2), 1);
	CHECK_EQ(workers_used(1), 1);
}

/*
 * The worker that got the first task is stopped: the other one, which has something to do while
 * they are submitted, does all of them, but for those sent to the first.
 */
static int behind_a_stopped_one(struct dw_orch *orch, const struct dw_args *args,
				const struct dw_config *config, void *context)
{
	struct job *job = context;
	uint32_t first, directed = job->variant ? 7 : 0;
	uint64_t begun = rig_now();

	(void)args;
	(void)config;
	submit(orch, job, node_handle, 0, 0, NULL, 0, DW_ANY);
	first = job->rig->engine->schedule.pools[1].current;
	submit(orch, job, node_handle, 1, 0, NULL, 0, !first);
	for (uint64_t i = 2; i < 64; i++)
		submit(orch, job, node_handle, i, 0, NULL, 0, i < 2 + directed ? first : DW_ANY);
	kill(job->rig->pids[!first], SIGCONT);
	while (atomic_load(&job->board->ran) < 63 - directed && unit_within(begun, 5000000000))
		rig_sleep(100000);
	CHECK(atomic_load(&job->board->ran) >= 63 - directed);
	kill(job->rig->pids[first], SIGCONT);
	return 0;
}

TEST(full_ring_of_short_tasks_that_does_not_move_holds_up_nobody)
{
	for (int variant = 0; variant < 2; variant++) {
		struct job job = { .variant = variant };

		job.rig = open_with((struct rig_options){ .nested = 2, .depth = 8 }, &job);
		REQUIRE(job.rig);
		job.rig->engine->schedule.cpus = 2;
		for (int i = 0; i < ESTIMATES; i++)
			job.rig->engine->rings.estimates[i] = 100;
		for (int i = 0; i < 2; i++)
			kill(job.rig->pids[i], SIGSTOP);
		CHECK_EQ(rig_run(job.rig, behind_a_stopped_one, &job), 0);
		done_with(job.rig, &job);
	}
}
