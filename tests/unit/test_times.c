// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The time from which a task's deadline counts. Each deadline here is a minute, and no task takes a
 * second: a task that is killed was measured from a time at which it could not have started. The
 * tests of a time of 0 say most on a machine that is up for more than that minute (UNIT_UPTIME).
 */
#include "unit.h"
#include "engine/timer.h"
#include "engine_rig.h"

#define MS 1000000ULL
#define MINUTE 60000000000ULL

static int fail_late(const struct dw_args *args, void *context)
{
	(void)context;
	rig_sleep(dw_args_scalar(args, 0));
	return dw_task_fail(EIO, "short read");
}

static int sleep_scalar(const struct dw_args *args, void *context)
{
	(void)context;
	if (dw_args_scalar(args, 0))
		rig_sleep(dw_args_scalar(args, 0));
	return 0;
}

/* Scalar: a word that ends the task. */
static int wait_word(const struct dw_args *args, void *context)
{
	_Atomic uint64_t *word = (_Atomic uint64_t *)(uintptr_t)dw_args_scalar(args, 0);

	(void)context;
	while (!atomic_load(word))
		rig_sleep(MS);
	return 0;
}

static dw_callable fail_handle, sleep_handle, wait_handle;

struct job {
	struct rig *rig;
	int64_t *x;
	struct dw_run *other;
	_Atomic uint32_t submitted;
	uint64_t timeout_ns;
};

static struct rig *open_with(struct job *job, struct rig_options options)
{
	if (!fail_handle) {
		fail_handle = rig_sub("fail_late", fail_late);
		sleep_handle = rig_sub("sleep_scalar", sleep_scalar);
		wait_handle = rig_sub("wait_word", wait_word);
	}
	job->rig = rig_open(options);
	if (job->rig)
		job->x = rig_buffer(job->rig, 64);
	return job->rig;
}

static void submit(struct dw_orch *orch, dw_callable callable, uint64_t ns, void *data,
		   enum dw_tag tag, uint64_t timeout_ns)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *args;

	options.timeout_ns = timeout_ns;
	dw_args_create(&args);
	if (data)
		rig_add(args, data, 1, tag);
	dw_args_add_scalar(args, ns);
	CHECK_EQ(dw_submit(orch, callable, args, &options, NULL), 0);
	dw_args_destroy(args);
}

static void check_ends(struct rig *rig, uint64_t done, uint64_t failed, uint64_t skipped)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);

	engine_stats(rig->engine, &stats);
	CHECK_EQ(stats.done, done);
	CHECK_EQ(stats.failed, failed);
	CHECK_EQ(stats.skipped, skipped);
	CHECK_EQ(atomic_load(&rig->kills), 0);
}

/* ------------------------------------------------------- frames that did not run */

static int returned(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	submit(orch, fail_handle, 20 * MS, job->x, DW_INOUT, MINUTE);
	submit(orch, sleep_handle, 0, job->x, DW_INPUT, MINUTE);
	submit(orch, sleep_handle, 200 * MS, NULL, 0, MINUTE);
	return 0;
}

/* Its completion has no times: the next task's deadline counted from boot. */
TEST(task_behind_one_that_was_returned_has_all_its_time)
{
	struct job job = { 0 };

	REQUIRE(open_with(&job, (struct rig_options){ .subs = 1 }));
	CHECK_EQ(rig_run(job.rig, returned, &job), -EIO);
	check_ends(job.rig, 1, 1, 1);
	rig_close(job.rig);
}

static int other_run(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	submit(orch, sleep_handle, 0, NULL, 0, MINUTE);
	atomic_store(&job->submitted, 1);
	return 0;
}

static int cancelled(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct job *job = context;
	_Atomic uint64_t *word = (_Atomic uint64_t *)job->x;

	(void)args;
	(void)config;
	submit(orch, wait_handle, (uintptr_t)word, NULL, 0, MINUTE);
	CHECK_EQ(engine_run_start(job->rig->engine, other_run, NULL, NULL, job, NULL, &job->other),
		 0);
	while (!atomic_load(&job->submitted))
		rig_sleep(MS);
	submit(orch, sleep_handle, 200 * MS, NULL, 0, MINUTE);
	CHECK_EQ(engine_run_cancel(job->other, -ECANCELED, "test"), 0);
	atomic_store(word, 1);
	return 0;
}

/* The same by a cancelled run's task, which is taken back between two of another run. */
TEST(task_behind_one_that_was_cancelled_has_all_its_time)
{
	struct job job = { 0 };

	REQUIRE(open_with(&job, (struct rig_options){ .subs = 1 }));
	CHECK_EQ(rig_run(job.rig, cancelled, &job), 0);
	CHECK_EQ(engine_run_wait(job.other), -ECANCELED);
	check_ends(job.rig, 2, 0, 1);
	rig_close(job.rig);
}

static int balanced(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	/*
	 * The second worker has nothing to do, and takes the two in the middle; the last has to
	 * follow the first.
	 */
	submit(orch, sleep_handle, 50 * MS, job->x, DW_INOUT, MINUTE);
	submit(orch, sleep_handle, 0, NULL, 0, MINUTE);
	submit(orch, sleep_handle, 0, NULL, 0, MINUTE);
	submit(orch, sleep_handle, 50 * MS, job->x, DW_INPUT, MINUTE);
	return 0;
}

static int many(struct dw_orch *orch, const struct dw_args *args,
		const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	for (int i = 0; i < 1000; i++)
		submit(orch, sleep_handle, 0, NULL, 0, 0);
	return 0;
}

/* The same by balancing. The estimates decide which task is put behind which: several rounds. */
TEST(task_behind_one_that_was_moved_has_all_its_time)
{
	struct job job = { 0 };

	REQUIRE(open_with(&job, (struct rig_options){ .subs = 2 }));
	for (int round = 0; round < 5; round++) {
		CHECK_EQ(rig_run(job.rig, many, &job), 0);
		CHECK_EQ(rig_run(job.rig, balanced, &job), 0);
	}
	check_ends(job.rig, 5020, 0, 0);
	rig_close(job.rig);
}

/* ------------------------------------------------------------ time that a stop took */

TEST(deadline_moves_by_what_a_sleep_was_late)
{
	struct deadline deadline = deadline_at(1000 * MS);

	/* It sleeps in halves: one that ends on time leaves the other half. */
	CHECK_EQ(deadline_sleep(&deadline, 0), 500 * MS);
	CHECK(!deadline_passed(&deadline, 500 * MS));
	CHECK_EQ(deadline.at_ns, 1000 * MS);
	/* Woken early and checked again, which does not count as a sleep. */
	CHECK_EQ(deadline_sleep(&deadline, 500 * MS), 750 * MS);
	CHECK(!deadline_passed(&deadline, 600 * MS));
	CHECK(!deadline_passed(&deadline, 990 * MS));
	CHECK_EQ(deadline.at_ns, 1000 * MS);
	/* Five seconds stopped: of the 400 ms that were left 200 are. */
	CHECK_EQ(deadline_sleep(&deadline, 600 * MS), 800 * MS);
	CHECK(!deadline_passed(&deadline, 5600 * MS));
	CHECK_EQ(deadline.at_ns, 5800 * MS);
	/* The last bit is slept at once, and ends: a deadline does not move for ever. */
	for (uint64_t now = 5600 * MS, late = 100 * MS, sleeps = 0;
	     !deadline_passed(&deadline, now); sleeps++) {
		now = deadline_sleep(&deadline, now) + late;
		REQUIRE(sleeps < 10);
	}
}

TEST(deadline_that_has_passed_or_never_does)
{
	struct deadline deadline = deadline_at(1000 * MS);

	/* The deadline had passed when the sleep began: nothing was late. */
	CHECK_EQ(deadline_sleep(&deadline, 3000 * MS), 3000 * MS);
	CHECK(deadline_passed(&deadline, 3001 * MS));
	deadline = deadline_at(NEVER);
	CHECK_EQ(deadline_sleep(&deadline, 3000 * MS), NEVER);
	CHECK(!deadline_passed(&deadline, NEVER - 1));
	/* Moved beyond the end of time. */
	deadline = deadline_at(NEVER - 5);
	deadline_sleep(&deadline, 0);
	CHECK(!deadline_passed(&deadline, NEVER - 1));
}

/* A time from before a stop is as far from later times as if there had been no stop. */
TEST(times_from_before_a_stop_keep_their_distance)
{
	const struct timer timer = { .late_ns = 700, .late_from = 10000, .late_until = 10500 };

	CHECK_EQ(running_at(&timer, 9000), 8800);
	CHECK_EQ(running_at(&timer, 10000), 9800);
	CHECK_EQ(running_at(&timer, 10300), 9800);
	CHECK_EQ(running_at(&timer, 10500), 9800);
	CHECK_EQ(running_at(&timer, 10600), 9900);
	/* A child's lie. */
	CHECK_EQ(running_at(&timer, 0), 0);
}

/* ------------------------------------------------------------- late completions */

static void hold_lock(void *context)
{
	rig_sleep(((struct job *)context)->timeout_ns * 6 / 5);
}

static int late_news(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	for (int i = 0; i < 3; i++) {
		submit(orch, sleep_handle, 0, NULL, 0, 0);
		engine_locked(job->rig->engine, hold_lock, job);
		submit(orch, sleep_handle, 50 * MS, NULL, 0, job->timeout_ns);
	}
	return 0;
}

/* The task before it ended long before this one was submitted, and no thread has looked yet. */
TEST(time_of_a_task_begins_after_its_submission)
{
	struct job job = { .timeout_ns = 1000 * MS * unit_slow() };
	uint64_t busy = unit_busy();

	job.timeout_ns *= busy < 8 ? busy : 8;
	REQUIRE(open_with(&job, (struct rig_options){ .subs = 1 }));
	CHECK_EQ(rig_run(job.rig, late_news, &job), 0);
	check_ends(job.rig, 6, 0, 0);
	rig_close(job.rig);
}
