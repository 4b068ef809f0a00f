// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* The engine's basic path: runs, order by tags, scopes, errors, limits. */
#include "unit.h"
#include "engine_rig.h"

static int noop(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return 0;
}

/* x = 3 x + scalar, after a while that depends on the scalar. */
static int step(const struct dw_args *args, void *context)
{
	int64_t *x = dw_args_data(args, 0);

	(void)context;
	if (dw_args_int(args, 0) % 7 == 0)
		rig_spin(20000);
	*x = (int64_t)(3 * (uint64_t)*x + dw_args_scalar(args, 0));
	return 0;
}

static int fail_io(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return dw_task_fail(EIO, "short read");
}

/* A wait that does not hang takes less than this on a quiet machine. */
#define HANG_NS 20000000000ULL

static int sleep_scalar(const struct dw_args *args, void *context)
{
	(void)context;
	rig_sleep(dw_args_scalar(args, 0));
	return 0;
}

/* Scalar: a word that counts the tasks that have begun. */
static int wait_for_cancel(const struct dw_args *args, void *context)
{
	uint64_t begin = rig_now();

	(void)context;
	__atomic_fetch_add((int64_t *)dw_args_scalar(args, 0), 1, __ATOMIC_RELAXED);
	while (unit_within(begin, HANG_NS)) {
		if (dw_task_cancelled())
			return -ECANCELED;
		rig_sleep(1000000);
	}
	return 0;
}

static dw_callable noop_handle, step_handle, fail_handle, sleep_handle, wait_handle;

static void handles(void)
{
	if (noop_handle)
		return;
	noop_handle = rig_sub("noop", noop);
	step_handle = rig_sub("step", step);
	fail_handle = rig_sub("fail_io", fail_io);
	sleep_handle = rig_sub("sleep_scalar", sleep_scalar);
	wait_handle = rig_sub("wait_for_cancel", wait_for_cancel);
}

struct job {
	struct rig *rig;
	uint64_t count;
	int64_t *x, *y;
	int result, submit_result;
	char text[512];
	void *extra;
};

static int submit_noops(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct job *job = context;
	struct dw_args *own;
	int result = 0;

	(void)args;
	(void)config;
	dw_args_create(&own);
	for (uint64_t i = 0; i < job->count && result == 0; i++)
		result = dw_submit(orch, noop_handle, own, NULL, NULL);
	dw_args_destroy(own);
	return result;
}

TEST(run_of_nothing_ends)
{
	struct job job = { .count = 0 };
	struct rig *rig;

	handles();
	rig = rig_open((struct rig_options){ .subs = 1 });
	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, submit_noops, &job), 0);
	rig_close(rig);
}

TEST(every_task_is_done_when_run_returns)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	uint32_t subs[] = { 1, 3, 8 };

	handles();
	for (int i = 0; i < 3; i++) {
		struct rig *rig = rig_open((struct rig_options){ .subs = subs[i] });
		struct job job = { .count = 20000 };

		REQUIRE(rig);
		for (int run = 0; run < 3; run++)
			CHECK_EQ(rig_run(rig, submit_noops, &job), 0);
		engine_stats(rig->engine, &stats);
		CHECK_EQ(stats.submitted, 60000);
		CHECK_EQ(stats.done, 60000);
		CHECK_EQ(rig->engine->graph.tasks.live, 0);
		rig_close(rig);
	}
}

TEST(ring_of_two)
{
	struct rig *rig;
	struct job job = { .count = 3000 };

	handles();
	rig = rig_open((struct rig_options){ .subs = 2, .depth = 2 });
	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, submit_noops, &job), 0);
	rig_close(rig);
}

static int submit_chain(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct job *job = context;
	struct dw_args *own;
	int result = 0;

	(void)args;
	(void)config;
	dw_args_create(&own);
	for (uint64_t i = 0; i < job->count && result == 0; i++) {
		dw_args_reset(own);
		rig_add(own, job->x, 1, DW_INOUT);
		dw_args_add_int(own, (int64_t)i);
		result = dw_submit(orch, step_handle, own, NULL, NULL);
	}
	dw_args_destroy(own);
	return result;
}

TEST(chain_runs_in_order)
{
	uint32_t subs[] = { 1, 2, 5 };

	handles();
	for (int k = 0; k < 3; k++) {
		struct rig *rig = rig_open((struct rig_options){ .subs = subs[k] });
		struct job job = { .count = 5000 };
		int64_t expected = 0;

		REQUIRE(rig);
		job.x = rig_buffer(rig, 64);
		for (int64_t i = 0; i < 5000; i++)
			expected = (int64_t)(3 * (uint64_t)expected + (uint64_t)i);
		CHECK_EQ(rig_run(rig, submit_chain, &job), 0);
		CHECK_EQ(*job.x, expected);
		rig_close(rig);
	}
}

static int submit_failing(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	struct job *job = context;
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *own;
	dw_task failing, after;

	(void)args;
	(void)config;
	dw_args_create(&own);
	dw_submit(orch, noop_handle, own, NULL, NULL);
	rig_add(own, job->x, 1, DW_INOUT);
	dw_args_add_int(own, 1);
	options.name = "verify";
	options.retries = job->extra ? 2 : 0;
	dw_submit(orch, fail_handle, own, &options, &failing);
	options.retries = 0;
	options.name = NULL;
	/* RAW: skipped. */
	dw_submit(orch, step_handle, own, &options, &after);
	dw_orch_wait(orch);
	/* The bytes stay poisoned for readers that come later. */
	dw_submit(orch, step_handle, own, &options, NULL);
	/* So do ids. */
	dw_args_reset(own);
	rig_add(own, job->y, 1, DW_INOUT);
	dw_args_add_int(own, 1);
	options.after = &after;
	options.after_count = 1;
	dw_submit(orch, step_handle, own, &options, NULL);
	/* Until a task overwrites them. */
	options.after_count = 0;
	dw_args_reset(own);
	rig_add(own, job->x, 1, DW_OUTPUT);
	dw_args_add_int(own, 5);
	dw_submit(orch, step_handle, own, &options, NULL);
	rig_add(own, job->x, 1, DW_INPUT);
	dw_submit(orch, step_handle, own, &options, NULL);
	dw_args_destroy(own);
	return 0;
}

TEST(failure_follows_data_and_names_the_task)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct job job = { 0 };
	struct rig *rig;

	handles();
	rig = rig_open((struct rig_options){ .subs = 2 });
	REQUIRE(rig);
	job.x = rig_buffer(rig, 64);
	job.y = rig_buffer(rig, 64);
	*job.x = 1;
	CHECK_EQ(rig_run(rig, submit_failing, &job), -EIO);
	CHECK_STR(dw_strerror_last(), "top/sub");
	CHECK_STR(dw_strerror_last(), ": task 2 \"verify\" (fail_io): EIO: short read");
	engine_stats(rig->engine, &stats);
	CHECK_EQ(stats.failed, 1);
	CHECK_EQ(stats.skipped, 3);
	CHECK_EQ(stats.done, 3);
	CHECK_EQ(*job.y, 0);
	/* 1 → 3 + 5 → 3 × 8 + 5 */
	CHECK_EQ(*job.x, 29);
	job.extra = &job;
	CHECK_EQ(rig_run(rig, submit_failing, &job), -EIO);
	CHECK_STR(dw_strerror_last(), "(attempt 3)");
	engine_stats(rig->engine, &stats);
	CHECK_EQ(stats.retried, 2);
	rig_close(rig);
}

static int submit_wrong(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct job *job = context;
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *own;
	dw_task bogus = 0xdead00000000ffffULL;
	int64_t outside = 0;
	struct dw_tensor tensor;
	uint32_t shape = 1;

	(void)args;
	(void)config;
	dw_args_create(&own);
	rig_add(own, job->x, 1, DW_INPUT);
	rig_add(own, &outside, 1, DW_INOUT);
	CHECK_EQ(dw_submit(orch, noop_handle, own, NULL, NULL), -EFAULT);
	CHECK_STR(dw_strerror_last(), "tensor 1 (INOUT)");
	dw_args_reset(own);
	rig_add(own, NULL, 1, DW_INPUT);
	CHECK_EQ(dw_submit(orch, noop_handle, own, NULL, NULL), -EFAULT);
	dw_args_reset(own);
	CHECK_EQ(dw_submit(orch, noop_handle + 1000, own, NULL, NULL), -ENOENT);
	options.place = DW_PLACE(0);
	CHECK_EQ(dw_submit(orch, noop_handle, own, &options, NULL), -EINVAL);
	options.place = 0;
	options.config.block_dim = -1;
	CHECK_EQ(dw_submit(orch, noop_handle, own, &options, NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "options.config.block_dim is -1");
	options.config = (struct dw_config){ .flags = DW_CONFIG_PROFILING | 1u << 31 };
	CHECK_EQ(dw_submit(orch, noop_handle, own, &options, NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "options.config.flags is 0x80000001");
	options.config = (struct dw_config){ .reserved = { 0, 1 } };
	CHECK_EQ(dw_submit(orch, noop_handle, own, &options, NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "options.config.reserved");
	options.config = (struct dw_config){ 0 };
	options.after = &bogus;
	options.after_count = 1;
	CHECK_EQ(dw_submit(orch, noop_handle, own, &options, NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "options.after[0]");
	options.size = 3;
	CHECK_EQ(dw_submit(orch, noop_handle, own, &options, NULL), -EINVAL);
	CHECK_EQ(dw_scope_end(orch), -EINVAL);
	for (int i = 0; i < 64; i++)
		CHECK_EQ(dw_scope_begin(orch), 0);
	CHECK_EQ(dw_scope_begin(orch), -EOVERFLOW);
	CHECK_EQ(dw_alloc(orch, DW_INT64, &shape, 9, &tensor), -EINVAL);
	dw_args_destroy(own);
	return 0;
}

TEST(arguments_that_make_no_sense_are_refused_and_nothing_is_queued)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct job job = { 0 };
	struct rig *rig;

	handles();
	rig = rig_open((struct rig_options){ .subs = 1 });
	REQUIRE(rig);
	job.x = rig_buffer(rig, 64);
	CHECK_EQ(rig_run(rig, submit_wrong, &job), 0);
	engine_stats(rig->engine, &stats);
	CHECK_EQ(stats.submitted, 0);
	CHECK_EQ(stats.heap_used, 0);
	rig_close(rig);
}

/* --------------------------------------------------------- cancel, deadlines */

static int submit_waiting(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	struct dw_args *own;
	int result = 0;

	(void)args;
	(void)config;
	dw_args_create(&own);
	dw_args_add_scalar(own, (uint64_t)(uintptr_t)((struct job *)context)->x);
	for (int i = 0; i < 100 && result == 0; i++)
		result = dw_submit(orch, wait_handle, own, NULL, NULL);
	dw_args_destroy(own);
	return result;
}

static uint64_t submitted(struct rig *rig)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);

	engine_stats(rig->engine, &stats);
	return stats.submitted;
}

TEST(cancel_skips_what_has_not_started_and_tells_the_rest)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct job job = { 0 };
	struct dw_run *run;
	struct rig *rig;
	uint64_t begin;

	handles();
	rig = rig_open((struct rig_options){ .subs = 2 });
	REQUIRE(rig);
	job.x = rig_buffer(rig, 64);
	begin = rig_now();
	CHECK_EQ(engine_run_start(rig->engine, submit_waiting, NULL, NULL, &job, NULL, &run), 0);
	/* Both kinds work, and all results are there. */
	while (__atomic_load_n(job.x, __ATOMIC_RELAXED) < 2 || submitted(rig) < 100)
		rig_sleep(1000000);
	engine_run_cancel(run, -ECANCELED, "test");
	CHECK_EQ(engine_run_wait(run), -ECANCELED);
	CHECK_STR(dw_strerror_last(), "test");
	CHECK(unit_within(begin, HANG_NS));
	engine_stats(rig->engine, &stats);
	CHECK_EQ(stats.skipped, 98);
	CHECK_EQ(stats.failed, 2);
	rig_close(rig);
}

TEST(deadline_of_a_run_cancels_it)
{
	struct dw_run_options options = DW_OPTIONS(dw_run_options);
	struct job job = { 0 };
	struct dw_run *run;
	struct rig *rig;

	handles();
	rig = rig_open((struct rig_options){ .subs = 2 });
	REQUIRE(rig);
	job.x = rig_buffer(rig, 64);
	options.timeout_ns = 50000000;
	CHECK_EQ(engine_run_start(rig->engine, submit_waiting, NULL, NULL, &job, &options, &run),
		 0);
	CHECK_EQ(engine_run_wait(run), -ETIMEDOUT);
	CHECK_STR(dw_strerror_last(), "deadline");
	rig_close(rig);
}

static int submit_late(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *own;

	(void)args;
	(void)config;
	dw_args_create(&own);
	dw_args_add_scalar(own, 20000000);
	for (int i = 0; i < 6; i++)
		dw_submit(orch, sleep_handle, own, NULL, NULL);
	dw_args_reset(own);
	dw_args_add_scalar(own, 1000 * HANG_NS);
	options.timeout_ns = *(uint64_t *)context;
	options.name = "late";
	dw_submit(orch, sleep_handle, own, &options, NULL);
	dw_args_reset(own);
	dw_args_add_scalar(own, 0);
	for (int i = 0; i < 20; i++)
		dw_submit(orch, sleep_handle, own, NULL, NULL);
	dw_args_destroy(own);
	return 0;
}

TEST(task_past_its_deadline_is_killed_and_the_rest_goes_on)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	/* A worker that has the task in its ring and does not begin it is killed for that. */
	uint64_t begin, timeout_ns = 100000000 * unit_slow() * unit_busy();
	struct rig *rig;
	char text[160];

	handles();
	if (timeout_ns < 1000000000)
		snprintf(text, sizeof(text), "%.4g ms", (double)timeout_ns / 1e6);
	else
		snprintf(text, sizeof(text), "%.4g s", (double)timeout_ns / 1e9);
	for (int restart = 0; restart < 2; restart++) {
		rig = rig_open((struct rig_options){ .subs = 2 - restart, .restart = restart });
		REQUIRE(rig);
		begin = rig_now();
		CHECK_EQ(rig_run(rig, submit_late, &timeout_ns), -ETIMEDOUT);
		CHECK_STR(dw_strerror_last(),
			  "task 7 \"late\" (sleep_scalar): ETIMEDOUT: ran longer "
			  "than its deadline of ");
		CHECK_STR(dw_strerror_last(), text);
		CHECK(unit_within(begin, HANG_NS));
		CHECK_EQ(atomic_load(&rig->kills), 1);
		engine_stats(rig->engine, &stats);
		CHECK_EQ(stats.failed, 1);
		CHECK_EQ(stats.done, 26);
		rig_close(rig);
	}
}

/* ------------------------------------------------------------------- death */

static int die(const struct dw_args *args, void *context)
{
	(void)context;
	if (dw_args_scalar_count(args) && dw_args_data(args, 0)) {
		_Atomic int64_t *attempts = dw_args_data(args, 0);

		if (atomic_fetch_add(attempts, 1) >= dw_args_int(args, 0))
			return 0;
	}
	raise(SIGKILL);
	return 0;
}

static dw_callable die_handle;

static int submit_dying(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct job *job = context;
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *own;
	int result = 0;

	(void)args;
	(void)config;
	dw_args_create(&own);
	for (int i = 0; i < 50; i++)
		dw_submit(orch, noop_handle, own, NULL, NULL);
	rig_add(own, job->x, 1, DW_INOUT);
	dw_args_add_int(own, job->count ? 2 : 1000);
	options.retries = (uint32_t)job->count;
	options.name = "dies";
	dw_submit(orch, die_handle, own, &options, NULL);
	dw_args_reset(own);
	for (int i = 0; i < 200 && result == 0; i++)
		result = dw_submit(orch, noop_handle, own, NULL, NULL);
	dw_args_destroy(own);
	return result;
}

TEST(dead_child_fails_its_task_with_signal_name)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct job job = { 0 };
	struct rig *rig;

	handles();
	die_handle = rig_sub("die", die);
	rig = rig_open((struct rig_options){ .subs = 2 });
	REQUIRE(rig);
	job.x = rig_buffer(rig, 64);
	CHECK_EQ(rig_run(rig, submit_dying, &job), -EOWNERDEAD);
	CHECK_STR(dw_strerror_last(),
		  "task 51 \"dies\" (die): EOWNERDEAD: killed by SIGKILL, pid ");
	engine_stats(rig->engine, &stats);
	CHECK_EQ(stats.done, 250);
	CHECK_EQ(stats.failed, 1);
	/* One worker is left: the same again kills it, and none remains. */
	CHECK_EQ(rig_run(rig, submit_dying, &job), -EOWNERDEAD);
	CHECK_EQ(rig_run(rig, submit_noops, &(struct job){ .count = 1 }), -ENODEV);
	rig_close(rig);
}

TEST(replacement_takes_over_and_repeats_what_may_be_repeated)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct job job = { .count = 3 };
	struct rig *rig;

	handles();
	if (!die_handle)
		die_handle = rig_sub("die", die);
	rig = rig_open((struct rig_options){ .subs = 1, .restart = true });
	REQUIRE(rig);
	job.x = rig_buffer(rig, 64);
	CHECK_EQ(rig_run(rig, submit_dying, &job), 0);
	engine_stats(rig->engine, &stats);
	CHECK_EQ(stats.done, 251);
	CHECK_EQ(stats.retried, 2);
	CHECK_EQ(stats.restarts, 2);
	rig_close(rig);
}

/* ----------------------------------------------------------- control, several runs */

TEST(control_frames_are_answered)
{
	static char big[4096];
	struct rig *rig;

	handles();
	rig = rig_open((struct rig_options){ .subs = 2 });
	REQUIRE(rig);
	CHECK_EQ(engine_control(rig->engine, 1, 3, "abc", 4, NULL), 0);
	CHECK_EQ(engine_control(rig->engine, 0, 3, big, sizeof(big), NULL), 0);
	CHECK_EQ(engine_control(rig->engine, 1, 7, "abc", 4, NULL), -EIO);
	CHECK_STR(dw_strerror_last(), "control 7 fails");
	for (int i = 0; i < 200; i++)
		CHECK_EQ(engine_control_send(rig->engine, 1, 3, big, i * 20, NULL), 0);
	CHECK_EQ(engine_control(rig->engine, 1, 3, "abc", 4, NULL), 0);
	rig_close(rig);
}

TEST(several_runs_at_once)
{
	struct job jobs[6];
	struct dw_run *runs[6];
	struct rig *rig;

	handles();
	rig = rig_open((struct rig_options){ .subs = 3 });
	REQUIRE(rig);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 6; i++) {
			jobs[i] = (struct job){ .count = 2000, .x = rig_buffer(rig, 64) };
			CHECK_EQ(engine_run_start(rig->engine, i % 2 ? submit_chain : submit_noops,
						  NULL, NULL, &jobs[i], NULL, &runs[i]), 0);
		}
		for (int i = 0; i < 6; i++)
			CHECK_EQ(engine_run_wait(runs[i]), 0);
	}
	CHECK_EQ(rig->engine->graph.tasks.live, 0);
	rig_close(rig);
}

static int compute_without_calling(struct dw_orch *orch, const struct dw_args *args,
				   const struct dw_config *config, void *context)
{
	struct job *job = context;
	struct dw_args *own;
	uint64_t begin;

	(void)args;
	(void)config;
	dw_args_create(&own);
	for (int i = 0; i < 300; i++) {
		dw_args_reset(own);
		rig_add(own, job->x + 8 * (i % 3), 1, DW_INOUT);
		dw_args_add_int(own, 1);
		dw_submit(orch, step_handle, own, NULL, NULL);
	}
	dw_args_destroy(own);
	begin = rig_now();
	while (__atomic_load_n(&orch->run->graph.finished, __ATOMIC_RELAXED) < 300 &&
	       unit_within(begin, HANG_NS))
		rig_sleep(1000000);
	CHECK_EQ(__atomic_load_n(&orch->run->graph.finished, __ATOMIC_RELAXED), 300);
	return 0;
}

TEST(dispatch_goes_on_while_the_function_computes)
{
	struct job job = { 0 };
	struct rig *rig;

	handles();
	rig = rig_open((struct rig_options){ .subs = 2, .depth = 4 });
	REQUIRE(rig);
	job.x = rig_buffer(rig, 256);
	CHECK_EQ(rig_run(rig, compute_without_calling, &job), 0);
	rig_close(rig);
}

/* Tensor 0 is the sum of the first elements of the others and of all scalars. */
static int sum_all(const struct dw_args *args, void *context)
{
	int64_t sum = 0;

	(void)context;
	for (size_t i = 1; i < dw_args_tensor_count(args); i++)
		sum += *(int64_t *)dw_args_data(args, i);
	for (size_t i = 0; i < dw_args_scalar_count(args); i++)
		sum += dw_args_int(args, i);
	if (dw_args_tensor_count(args))
		*(int64_t *)dw_args_data(args, 0) = sum;
	return 0;
}

static dw_callable sum_handle;

static int submit_sizes(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	/* 11 tensors fill the 448 bytes of a frame exactly. */
	static const uint32_t sizes[][2] = {
		{ 0, 0 }, { 1, 0 },  { 0, 5 },	{ 6, 0 },
		{ 7, 3 }, { 11, 0 }, { 11, 1 }, { 3000, 2000 },
	};
	struct job *job = context;
	struct dw_args *own;

	(void)args;
	(void)config;
	dw_args_create(&own);
	for (int k = 0; k < 8; k++) {
		for (int repeat = 0; repeat < 3; repeat++) {
			int64_t expected = sizes[k][1] * 2;

			dw_args_reset(own);
			for (uint32_t i = 0; i < sizes[k][0]; i++) {
				rig_add(own, job->x + i, 1, i ? DW_INPUT : DW_OUTPUT);
				expected += i;
			}
			for (uint32_t i = 0; i < sizes[k][1]; i++)
				dw_args_add_int(own, 2);
			CHECK_EQ(dw_submit(orch, sum_handle, own, NULL, NULL), 0);
			CHECK_EQ(dw_orch_wait(orch), 0);
			if (sizes[k][0])
				CHECK_EQ(job->x[0], expected);
		}
	}
	dw_args_destroy(own);
	return 0;
}

TEST(arguments_of_any_size)
{
	struct job job = { 0 };
	struct rig *rig;
	uint64_t used;

	handles();
	sum_handle = rig_sub("sum_all", sum_all);
	rig = rig_open((struct rig_options){ .subs = 1 });
	REQUIRE(rig);
	job.x = rig_buffer(rig, 3000 * 8);
	for (int i = 0; i < 3000; i++)
		job.x[i] = i;
	used = arena_used(rig->arena);
	CHECK_EQ(rig_run(rig, submit_sizes, &job), 0);
	CHECK_EQ(arena_used(rig->arena), used);
	rig_close(rig);
}

TEST(memory_stays_flat_over_a_million_tasks)
{
	struct job job = { .count = 100000 };
	struct rig *rig;
	uint32_t chunks;

	handles();
	rig = rig_open((struct rig_options){ .subs = 1 });
	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, submit_noops, &job), 0);
	job.count = 1000000;
	CHECK_EQ(rig_run(rig, submit_noops, &job), 0);
	chunks = rig->engine->graph.tasks.chunk_count;
	CHECK(chunks <= WINDOW_TASKS / TASKS_PER_CHUNK + 2);
	rig_close(rig);
}
