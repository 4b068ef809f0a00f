// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Where tasks go: chains, kinds, groups, placement, workers that misbehave. */
#include <sched.h>
#include <sys/resource.h>
#include "timed_tasks.h"
#include "mailbox/provider.h"

static int fails(const struct dw_args *args, void *context)
{
	(void)context;
	rig_sleep(dw_args_scalar(args, 2));
	return -EIO;
}

/* Member `index`: the last one does what scalar 2 says, the others wait to be told. */
static int member(const struct dw_args *args, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);

	(void)context;
	atomic_fetch_add(&board->members, 1);
	if (dw_args_scalar(args, 1) == 2) {
		while (atomic_load(&board->members) < 3)
			rig_sleep(100000);
		if (dw_args_scalar(args, 2) == 1)
			raise(SIGKILL);
		return dw_args_scalar(args, 2) == 2 ? dw_task_fail(EPROTO, "no agreement") : 0;
	}
	for (int i = 0; i < 20000 && dw_args_scalar(args, 2); i++) {
		if (dw_task_cancelled()) {
			atomic_fetch_add(&board->told, 1);
			return -ECANCELED;
		}
		rig_sleep(500000);
	}
	return 0;
}

static int scribbles(const struct dw_args *args, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);

	(void)context;
	atomic_store(&board->scribbler, getpid());
	__atomic_store_n(&rig_endpoint->mailbox->done, rig_endpoint->mailbox->done + 1000,
			 __ATOMIC_RELEASE);
	atomic_store(&board->scribbled, true);
	rig_sleep(5000000000);
	return 0;
}

/* Whether it was found and killed before it could say so. */
static bool scribbler_is_dead(const struct board *board)
{
	pid_t pid = atomic_load(&board->scribbler);

	return pid && kill(pid, 0) < 0;
}

/* Ends after the nonsense was written: its completion makes the parent look at the rings. */
static int outlives_scribbling(const struct dw_args *args, void *context)
{
	const struct board *board = (const struct board *)dw_args_scalar(args, 0);

	(void)context;
	while (!atomic_load(&board->scribbled) && !scribbler_is_dead(board))
		rig_sleep(100000);
	return 0;
}

static dw_callable fails_handle, member_handle, scribbles_handle, outlives_handle;

static struct rig *open_rig(struct rig_options options, struct job *job)
{
	if (!fails_handle) {
		fails_handle = rig_sub("fails", fails);
		member_handle = rig_sub("member", member);
		scribbles_handle = rig_sub("scribbles", scribbles);
		outlives_handle = rig_sub("outlives", outlives_scribbling);
	}
	return open_with(options, job);
}

/* ------------------------------------------------------------------ wake-ups */

#define TRIPS 400
/* For measurements that a busy machine may disturb. */
#define TRIES 8

/* Voluntary context switches of all threads but the calling one. */
static int64_t switches_of_others(void)
{
	struct rusage all, own;

	getrusage(RUSAGE_SELF, &all);
	getrusage(RUSAGE_THREAD, &own);
	return all.ru_nvcsw - own.ru_nvcsw;
}

/* The child has long been asleep whenever the next task comes. */
static int trips(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
		 void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	for (uint64_t i = 0; i < TRIPS; i++) {
		rig_sleep(200000);
		submit(orch, job, timed_handle, i, 0, NULL, 0, DW_ANY);
		dw_orch_wait(orch);
	}
	return 0;
}

/* Counts how many of them wake a thread of this process that does not submit. */
static int64_t trips_that_wake_another(void)
{
	struct job job = { 0 };
	cpu_set_t before, one;
	struct rig *rig;
	int64_t switches;

	/* On one CPU the child that is woken runs at once. */
	sched_getaffinity(0, sizeof(before), &before);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	rig = open_rig((struct rig_options){ .subs = 1 }, &job);
	if (!CHECK(rig))
		return INT64_MAX;
	switches = switches_of_others();
	CHECK_EQ(rig_run(rig, trips, &job), 0);
	switches = switches_of_others() - switches;
	printf("# %lld of %d trips woke another thread\n", (long long)switches, TRIPS);
	done_with(rig, &job);
	sched_setaffinity(0, sizeof(before), &before);
	return switches;
}

/* Some do, where other programs take the CPU away in the wrong moment: not each time. */
TEST(task_that_is_over_before_its_submitter_goes_on_wakes_nobody_else)
{
	int64_t woke = INT64_MAX;

	for (int i = 0; i < TRIES && woke >= TRIPS / 5; i++)
		woke = trips_that_wake_another();
	CHECK(woke < TRIPS / 5);
}

/* ----------------------------------------------------------------- chains */

static int chain_with_failure(struct dw_orch *orch, const struct dw_args *args,
			      const struct dw_config *config, void *context)
{
	struct job *job = context;
	_Atomic int64_t *cell = &job->board->worker[1000];

	(void)args;
	(void)config;
	submit(orch, job, fails_handle, 0, 20000000, (void *)cell, DW_INOUT, DW_ANY);
	/* Behind it in the ring: these have to be skipped … */
	for (uint64_t i = 1; i < 10; i++)
		submit(orch, job, timed_handle, i, 0, (void *)cell, DW_INOUT, DW_ANY);
	/* … this one only comes after them, and all tasks after it read its output. */
	for (uint64_t i = 10; i < 20; i++)
		submit(orch, job, timed_handle, i, 0, (void *)cell, i == 10 ? DW_OUTPUT : DW_INOUT,
		       DW_ANY);
	return 0;
}

TEST(tasks_pushed_behind_a_failing_one_come_back)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);

	for (uint32_t subs = 1; subs < 4; subs++) {
		struct job job = { 0 };
		struct rig *rig = open_rig((struct rig_options){ .subs = subs }, &job);

		REQUIRE(rig);
		for (int round = 1; round < 4; round++) {
			CHECK_EQ(rig_run(rig, chain_with_failure, &job), -EIO);
			engine_stats(rig->engine, &stats);
			CHECK_EQ(stats.failed, round);
			CHECK_EQ(stats.skipped, 9 * round);
			CHECK_EQ(stats.done, 10 * round);
			CHECK_EQ(job.board->ran, 10 * round);
		}
		done_with(rig, &job);
	}
}

static int step(const struct dw_args *args, void *context)
{
	(void)context;
	++*(int64_t *)dw_args_data(args, 0);
	return 0;
}

static int long_chain(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	for (uint64_t i = 0; i < 4000; i++)
		submit(orch, job, (dw_callable)job->begin, 0, 0, &job->board->members, DW_INOUT,
		       DW_ANY);
	return 0;
}

/*
 * The parent need not hear of a link of a chain before the next one runs: that lies behind it in
 * the same ring.
 */
TEST(chain_of_short_tasks_goes_on_without_its_parent)
{
	struct job job = { .begin = rig_sub("step", step) };
	uint64_t calls = UINT64_MAX;

	for (int i = 0; i < TRIES && calls >= 1000; i++) {
		struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
		struct rig *rig = open_rig((struct rig_options){ .subs = 3 }, &job);

		REQUIRE(rig);
		CHECK_EQ(rig_run(rig, long_chain, &job), 0);
		CHECK_EQ(job.board->members, 4000);
		engine_stats(rig->engine, &stats);
		printf("# %llu sleeps, %llu wake-ups\n", (unsigned long long)stats.parent_sleeps,
		       (unsigned long long)stats.parent_wakes);
		calls = stats.parent_sleeps + stats.parent_wakes;
		done_with(rig, &job);
#ifdef __SANITIZE_THREAD__	/* with it submitting is slower than a link */
		calls = 0;
#endif
	}
	CHECK(calls < 1000);
}

/* ------------------------------------------- tasks that need not wait, and order */

/*
 * Scalars: board, number of the pair. Waits for the other task of the pair, and fails without it.
 */
static int meets(const struct dw_args *args, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);
	_Atomic int64_t *met = &board->worker[dw_args_scalar(args, 1)];
	uint64_t begin = rig_now();

	(void)context;
	atomic_fetch_add(met, 1);
	while (atomic_load(met) < 2) {
		if (!unit_within(begin, 20000000000))
			return dw_task_fail(ETIME, "pair %llu",
					    (unsigned long long)dw_args_scalar(args, 1));
		rig_sleep(100000);
	}
	return 0;
}

static const struct {
	struct { uint32_t first, count; enum dw_tag tag; } access[2];
} pairs[] = {
	{ { { 0, 4, DW_INPUT }, { 0, 4, DW_INPUT } } },
	{ { { 0, 4, DW_INPUT }, { 2, 4, DW_INPUT } } },
	{ { { 0, 4, DW_INOUT }, { 4, 4, DW_INOUT } } },		/* neighbours to the byte */
	{ { { 4, 4, DW_OUTPUT }, { 0, 4, DW_INOUT } } },
	{ { { 0, 4, DW_INPUT }, { 4, 1, DW_OUTPUT } } },
	{ { { 0, 4, DW_INOUT }, { 0, 4, DW_NO_DEP } } },
	{ { { 0, 4, DW_NO_DEP }, { 0, 4, DW_INOUT } } },
	{ { { 0, 4, DW_NO_DEP }, { 0, 4, DW_NO_DEP } } },
	{ { { 0, 4, DW_INOUT }, { 0, 4, DW_OUTPUT_EXISTING } } },
	{ { { 0, 4, DW_INPUT }, { 1, 2, DW_OUTPUT_EXISTING } } },
	{ { { 0, 4, DW_INOUT }, { 2, 0, DW_INOUT } } },		/* no bytes at all */
};

#define PAIRS (sizeof(pairs) / sizeof(pairs[0]))

static int submit_pairs(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct job *job = context;
	int result = 0;

	(void)args;
	(void)config;
	for (uint32_t i = 0; i < PAIRS && !result; i++) {
		for (int k = 0; k < 2 && !result; k++) {
			dw_args_reset(job->args);
			rig_add(job->args, (void *)&job->board->ended[pairs[i].access[k].first],
				pairs[i].access[k].count, pairs[i].access[k].tag);
			dw_args_add_scalar(job->args, (uint64_t)(uintptr_t)job->board);
			dw_args_add_scalar(job->args, i);
			result = dw_submit(orch, (dw_callable)job->begin, job->args, NULL, NULL);
		}
		if (!result)
			result = dw_orch_wait(orch);
	}
	return result;
}

TEST(tasks_that_need_not_wait_for_each_other_run_at_the_same_time)
{
	struct job job = { .begin = rig_sub("meets", meets) };
	struct rig *rig = open_rig((struct rig_options){ .subs = 2 }, &job);

	REQUIRE(rig);
	if (!CHECK_EQ(rig_run(rig, submit_pairs, &job), 0))
		printf("# %s\n", dw_strerror_last());
	done_with(rig, &job);
}

/* Scalars: board, index among all tasks. */
static int counted(const struct dw_args *args, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);

	(void)context;
	board->worker[dw_args_scalar(args, 1)] = atomic_fetch_add(&board->ran, 1);
	return 0;
}

static int counted_node(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	(void)orch;
	(void)config;
	return counted(args, context);
}

/* To any worker, and to the one by its number: one queue each, and one order over both. */
static int submit_counted(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	for (uint64_t i = 0; i < 1000; i++)
		submit(orch, job, (dw_callable)job->begin, i, i ? 0 : 1000000, NULL, 0,
		       job->variant && i % 3 ? 0 : DW_ANY);
	return 0;
}

static dw_callable counted_handles[2];

TEST(tasks_that_may_run_do_so_in_the_order_of_submission)
{
	static const uint32_t depths[] = { 2, 64 };

	for (int i = 0; i < 4; i++) {
		struct job job = { .variant = i / 2 };
		struct rig *rig;

		if (!counted_handles[0]) {
			counted_handles[0] = rig_sub("counted", counted);
			counted_handles[1] = rig_node("counted_node", counted_node);
		}
		job.begin = counted_handles[job.variant];
		rig = open_rig((struct rig_options){ .subs = !job.variant, .nested = !!job.variant,
						      .depth = depths[i % 2] }, &job);
		REQUIRE(rig);
		CHECK_EQ(rig_run(rig, submit_counted, &job), 0);
		for (int k = 0; k < 1000; k++)
			if (!CHECK_EQ(job.board->worker[k], k))
				break;
		done_with(rig, &job);
	}
}

struct flood {
	struct job job;
	uint32_t worker;
	void *cell;		/* of a chain; NULL: its tasks need not wait for each other */
	bool groups;
	_Atomic bool over;
};

static int submit_flood(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct flood *flood = context;
	struct dw_args *members[2];

	(void)args;
	(void)config;
	for (uint64_t i = 0; i < 2; i++) {
		dw_args_create(&members[i]);
		dw_args_add_scalar(members[i], (uint64_t)(uintptr_t)flood->job.board);
		dw_args_add_scalar(members[i], 2 + i);
		dw_args_add_scalar(members[i], 100000);
	}
	while (flood->groups && !atomic_load(&flood->over))
		dw_submit_group(orch, node_handle, members, 2, NULL, NULL, NULL);
	dw_args_destroy(members[0]);
	dw_args_destroy(members[1]);
	while (!atomic_load(&flood->over))
		submit(orch, &flood->job, node_handle, 0, 100000, flood->cell, DW_INOUT,
		       flood->worker);
	return 0;
}

static int submit_other(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct flood *flood = context;

	(void)args;
	(void)config;
	return submit(orch, &flood->job, node_handle, 1, 0, NULL, 0, flood->worker);
}

/*
 * A run without an end has tasks for one worker, for any, or groups; one task of another run goes
 * to `other`.
 */
static void starve(struct flood flood, bool chain, uint32_t other)
{
	struct flood one = { .worker = other };
	struct rig *rig =
		open_rig((struct rig_options){ .nested = flood.groups ? 2 : 1 }, &flood.job);
	struct dw_run *run, *short_run;
	uint64_t begin;

	REQUIRE(rig);
	one.job.board = flood.job.board;
	if (chain)
		flood.cell = (void *)&flood.job.board->members;
	dw_args_create(&one.job.args);
	CHECK_EQ(engine_run_start(rig->engine, submit_flood, NULL, NULL, &flood, NULL, &run), 0);
	rig_sleep(50000000);
	CHECK_EQ(engine_run_start(rig->engine, submit_other, NULL, NULL, &one, NULL, &short_run),
		 0);
	/* 8,192 tasks of 100 µs were before it. */
	begin = rig_now();
	while (!atomic_load(&flood.job.board->ended[1]) && unit_within(begin, 20000000000))
		rig_sleep(10000000);
	CHECK(atomic_load(&flood.job.board->ended[1]));
	atomic_store(&flood.over, true);
	engine_run_cancel(run, -ECANCELED, "test");
	CHECK_EQ(engine_run_wait(short_run), 0);
	engine_run_wait(run);
	dw_args_destroy(one.job.args);
	done_with(rig, &flood.job);
}

TEST(directed_task_is_not_starved_by_those_for_anybody)
{
	starve((struct flood){ .worker = DW_ANY }, false, 0);
	starve((struct flood){ .worker = DW_ANY }, true, 0);
}

TEST(task_for_anybody_is_not_starved_by_directed_ones_or_chains)
{
	starve((struct flood){ .worker = DW_ANY }, true, DW_ANY);
	starve((struct flood){ .worker = 0 }, false, DW_ANY);
	starve((struct flood){ .worker = 0 }, true, DW_ANY);
}

TEST(no_task_is_starved_by_groups)
{
	starve((struct flood){ .groups = true }, false, DW_ANY);
	starve((struct flood){ .groups = true }, false, 0);
}

/* -------------------------------------------------------- kinds, placement */

static int directed(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	for (uint64_t i = 0; i < 300; i++)
		submit(orch, job, node_handle, i, 0, NULL, 0, (uint32_t)(i % 3));
	CHECK_EQ(submit(orch, job, node_handle, 0, 0, NULL, 0, 3), -EINVAL);
	CHECK_STR(dw_strerror_last(), "there is DW_PLACE(0) … DW_PLACE(2)");
	CHECK_EQ(dw_orch_worker_count(orch), 3);
	CHECK_EQ(dw_orch_sub_count(orch), 1);
	return 0;
}

TEST(directed_tasks_run_where_they_are_sent)
{
	struct job job = { 0 };
	struct rig *rig = open_rig((struct rig_options){ .subs = 1, .nested = 3 }, &job);

	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, directed, &job), 0);
	for (int i = 0; i < 300; i++)
		CHECK_EQ(job.board->worker[i], rig->pids[1 + i % 3]);
	done_with(rig, &job);
}

/* Runs until the ten of the other kind have run. */
static int outlasts_ten(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);
	uint64_t begin = rig_now();

	(void)orch;
	(void)config;
	(void)context;
	while (atomic_load(&board->ran) < 10) {
		if (!unit_within(begin, 20000000000)) {
			atomic_fetch_add(&board->told, 1);
			break;
		}
		rig_sleep(100000);
	}
	return 0;
}

static int full_pool(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	for (uint64_t i = 0; i < 10; i++)
		submit(orch, job, (dw_callable)job->begin, 500 + i, 0, NULL, 0, DW_ANY);
	for (uint64_t i = 0; i < 10; i++)
		submit(orch, job, timed_handle, i, 0, NULL, 0, DW_ANY);
	return 0;
}

TEST(full_pool_of_one_kind_does_not_hold_up_the_other)
{
	struct job job = { .begin = rig_node("outlasts_ten", outlasts_ten) };
	struct rig *rig =
		open_rig((struct rig_options){ .subs = 1, .nested = 1, .depth = 2 }, &job);

	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, full_pool, &job), 0);
	CHECK_EQ(job.board->told, 0);
	CHECK_EQ(job.board->ran, 10);
	done_with(rig, &job);
}

/* ------------------------------------------------------------------ groups */

static int submit_group(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct job *job = context;
	struct dw_args *members[3];
	int result;

	(void)args;
	(void)config;
	for (uint64_t i = 0; i < 3; i++) {
		dw_args_create(&members[i]);
		dw_args_add_scalar(members[i], (uint64_t)(uintptr_t)job->board);
		dw_args_add_scalar(members[i], i);
		dw_args_add_scalar(members[i], (uint64_t)job->variant);
	}
	result = dw_submit_group(orch, member_handle, members, 3, NULL, NULL, NULL);
	for (int i = 0; i < 3; i++)
		dw_args_destroy(members[i]);
	return result;
}

TEST(dead_member_fails_its_group_and_tells_the_others)
{
	struct job job = { .variant = 1 };
	struct rig *rig = open_rig((struct rig_options){ .subs = 4 }, &job);

	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, submit_group, &job), -EOWNERDEAD);
	CHECK_STR(dw_strerror_last(), "task 1 (member): EOWNERDEAD: killed by SIGKILL");
	CHECK_STR(dw_strerror_last(), "(member 2 of 3)");
	CHECK_EQ(job.board->told, 2);
	CHECK(rig->cancels >= 2);
	job.variant = 2;
	job.board->members = 0;
	CHECK_EQ(rig_run(rig, submit_group, &job), -EPROTO);
	CHECK_STR(dw_strerror_last(), "no agreement (member 2 of 3)");
	CHECK_EQ(job.board->told, 4);
	job.variant = 1;
	job.board->members = 0;
	CHECK_EQ(rig_run(rig, submit_group, &job), -EOWNERDEAD);
	/* Two are left. */
	CHECK_EQ(rig_run(rig, submit_group, &job), -ENODEV);
	CHECK_STR(dw_strerror_last(), "a group of 3 members");
	done_with(rig, &job);
}

static int many_groups(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct job *job = context;
	int result = 0;

	for (int i = 0; i < 300 && result == 0; i++) {
		result = submit_group(orch, args, config, context);
		if (result == 0 && i % 3 == 0)
			result = submit(orch, job, timed_handle, (uint64_t)i, 0, NULL, 0, DW_ANY);
	}
	return result;
}

TEST(groups_of_all_workers_among_other_tasks_end)
{
	struct job job = { 0 };
	struct rig *rig = open_rig((struct rig_options){ .subs = 3, .depth = 4 }, &job);

	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, many_groups, &job), 0);
	CHECK_EQ(job.board->members, 900);
	done_with(rig, &job);
}

/* ------------------------------------------------------------ a corrupt worker */

static int scribble_among_others(struct dw_orch *orch, const struct dw_args *args,
				 const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	submit(orch, job, scribbles_handle, 0, 0, NULL, 0, DW_ANY);
	for (uint64_t i = 0; i < 100; i++)
		submit(orch, job, outlives_handle, i, 0, NULL, 0, DW_ANY);
	return 0;
}

TEST(worker_that_writes_nonsense_is_killed_and_nothing_else_is_harmed)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct job job = { 0 };
	struct rig *rig = open_rig((struct rig_options){ .subs = 3 }, &job);

	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, scribble_among_others, &job), -EOWNERDEAD);
	engine_stats(rig->engine, &stats);
	CHECK_EQ(rig->kills, 1);
	CHECK_EQ(stats.done + stats.failed, 101);
	CHECK(stats.failed < 64);
	CHECK_EQ(rig_run(rig, many_equal, &job), 0);
	done_with(rig, &job);
}
