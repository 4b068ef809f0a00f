/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Waiting for one task, and reading all errors of a run.
 */
#include "runs.h"

/* A task that fails, by its options. */
static int submit_breaking(struct dw_orch *orch, unsigned cell, const char *name,
			   const dw_task *after, int error, dw_task *task)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_tensor tensor;
	uint32_t shape = 2;
	struct dw_args *args;
	int result;

	options.name = name;
	options.after = after;
	options.after_count = after ? 1 : 0;
	dw_tensor_init(&tensor, chain.cells + cell, DW_INT64, &shape, 1);
	dw_args_create(&args);
	dw_args_add_tensor(args, &tensor, DW_INOUT);
	dw_args_add_int(args, error ? BREAK_ERROR : BREAK_NOT);
	dw_args_add_int(args, error);
	result = dw_submit(orch, chain.broken, args, &options, task);
	dw_args_destroy(args);
	return result;
}

struct one {
	int fast, failed, failed_again, skipped, zero, unknown, unused, later, after_unused,
		chained, all;
	int64_t slow;			/* of the task that was not waited for, then */
	char failed_text[512], skipped_text[512];
};

static int orch_one(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct one *one = context;
	dw_task fast, failed, skipped, last = 0, many[12];

	(void)args;
	(void)config;
	/* One worker is at a task that goes on until the end. */
	submit_one(orch, paced_callable, &chain.cells[0], DW_INOUT, 0, NULL, NULL);
	submit_breaking(orch, 2, "fast", NULL, 0, &fast);
	one->fast = dw_orch_wait_task(orch, fast);
	submit_breaking(orch, 4, "breaks", NULL, EIO, &failed);
	submit_breaking(orch, 6, "follows", &failed, 0, &skipped);
	one->skipped = dw_orch_wait_task(orch, skipped);
	snprintf(one->skipped_text, sizeof(one->skipped_text), "%s", dw_strerror_last());
	one->failed = dw_orch_wait_task(orch, failed);
	snprintf(one->failed_text, sizeof(one->failed_text), "%s", dw_strerror_last());
	one->failed_again = dw_orch_wait_task(orch, failed);
	one->zero = dw_orch_wait_task(orch, 0);
	one->unknown = dw_orch_wait_task(orch, 1ULL << 31);
	/* Inside the table of tasks, but not given out yet. */
	one->unused = dw_orch_wait_task(orch, 99);
	one->later = dw_orch_wait_task(orch, failed + (7ULL << 32));
	{
		struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
		const dw_task unused = 99;

		options.after = &unused;
		options.after_count = 1;
		one->after_unused = submit_one(orch, chain.broken, &chain.cells[44], DW_INOUT,
						BREAK_NOT, &options, NULL);
	}
	/* One with many producers, several steps away. */
	for (int i = 0; i < 12; i++)
		submit_breaking(orch, 8 + 2 * (unsigned)i, "producer", NULL, 0, &many[i]);
	{
		struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

		options.after = many;
		options.after_count = 12;
		submit_one(orch, chain.broken, &chain.cells[40], DW_INOUT, BREAK_NOT, &options,
			   &last);
		for (int i = 0; i < 3; i++)
			submit_one(orch, chain.broken, &chain.cells[40], DW_INOUT, BREAK_NOT, NULL,
				   &last);
	}
	one->chained = dw_orch_wait_task(orch, last);
	one->slow = __atomic_load_n(&chain.cells[0], __ATOMIC_RELAXED);
	let_pass(1);
	one->all = dw_orch_wait(orch);
	return 0;
}

TEST_IN_BOTH_MODES(one_task_is_waited_for_whatever_the_others_do)
{
	struct one one = { 0 };

	paced_init(mode, 2);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_one, NULL, NULL, &one), -EIO);
	CHECK_EQ(one.fast, 0);
	CHECK_EQ(one.failed, -EIO);
	CHECK_STR(one.failed_text, "\"breaks\"");
	CHECK_STR(one.failed_text, "as it was told");
	CHECK_EQ(one.failed_again, -EIO);
	CHECK_EQ(one.skipped, -ECANCELED);
	CHECK_STR(one.skipped_text, "skipped, because task 3 failed");
	CHECK_STR(one.skipped_text, "\"breaks\"");
	CHECK_EQ(one.zero, -EINVAL);
	CHECK_EQ(one.unknown, -EINVAL);
	CHECK_EQ(one.unused, -EINVAL);
	CHECK_EQ(one.later, -EINVAL);
	CHECK_EQ(one.after_unused, -EINVAL);
	CHECK_EQ(one.chained, 0);
	CHECK_EQ(one.slow, 0);
	CHECK_EQ(one.all, -EIO);
	CHECK_EQ(chain.cells[0], 1);
	CHECK_EQ(chain.cells[40], 4);
	CHECK_EQ(dw_orch_wait_task(NULL, 1), -EINVAL);
	paced_destroy();
}

struct waits_cancelled {
	dw_task last;
	int result;
	sem_t submitted;
};

static int orch_waits_cancelled(struct dw_orch *orch, const struct dw_args *args,
				const struct dw_config *config, void *context)
{
	struct waits_cancelled *waits = context;

	(void)args;
	(void)config;
	for (int i = 0; i < 3; i++)
		submit_one(orch, paced_callable, &chain.cells[0], DW_INOUT, 0, NULL, &waits->last);
	sem_post(&waits->submitted);
	waits->result = dw_orch_wait_task(orch, waits->last);
	return 0;
}

TEST_IN_BOTH_MODES(waiting_for_a_task_of_a_cancelled_run_ends)
{
	struct waits_cancelled waits = { 0 };
	struct dw_run *run;

	paced_init(mode, 1);
	sem_init(&waits.submitted, 0, 0);
	run = start(orch_waits_cancelled, &waits, NULL);
	CHECK(sem_comes(&waits.submitted));
	CHECK_EQ(dw_run_cancel(run), 0);
	let_pass(1);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	CHECK_EQ(waits.result, -ECANCELED);
	paced_destroy();
}

/* ---------------------------------------------------------------- all errors */

static int orch_many_errors(struct dw_orch *orch, const struct dw_args *args,
			    const struct dw_config *config, void *context)
{
	unsigned count = *(const unsigned *)context;
	dw_task failed;
	int result = 0;

	(void)args;
	(void)config;
	for (unsigned i = 0; i < count && !result; i++) {
		result = submit_breaking(orch, 2 * (i % 100), i ? NULL : "first", NULL,
					 i % 2 ? EIO : ENOENT, &failed);
		/* A skipped task does not count as an error. */
		if (!result && i % 10 == 0)
			result = submit_breaking(orch, 300, "skipped", &failed, 0, NULL);
		if (!result)
			dw_orch_wait(orch);
	}
	return result ? result : dw_task_fail(EPERM, "at the end");
}

static void check_errors(struct dw_run *run, unsigned failed)
{
	struct dw_run_error error = DW_OPTIONS(dw_run_error);
	uint64_t count = 0;
	uint32_t kept = 0;

	CHECK_EQ(dw_run_error_count(run, &count, &kept), 0);
	CHECK_EQ(count, failed + 1);
	CHECK_EQ(kept, failed + 1 < 64 ? failed + 1 : 64);
	CHECK_EQ(dw_run_error(run, 0, &error), 0);
	CHECK_EQ(error.error, -ENOENT);
	CHECK_EQ(error.task, 1);
	CHECK_EQ(error.attempts, 1);
	CHECK_STR(error.name, "first");
	CHECK_STR(error.callable, "break");
	CHECK_STR(error.path, "node0/sub0");
	CHECK_STR(error.text, "task 1 \"first\" (break): ENOENT: as it was told");
	CHECK_EQ(dw_run_error(run, 1, &error), 0);
	CHECK_EQ(error.error, -EIO);
	CHECK_EQ(error.task, 3);
	CHECK_EQ(error.name[0], 0);
	CHECK_EQ(dw_run_error(run, kept - 1, &error), 0);
	if (failed + 1 == kept) {
		CHECK_EQ(error.task, 0);
		CHECK_EQ(error.error, -EPERM);
		CHECK_STR(error.text, "at the end");
		CHECK_STR(error.path, "node0");
	}
	CHECK_EQ(dw_run_error(run, kept, &error), -ERANGE);
	CHECK_EQ(dw_run_error(run, 0, NULL), -EINVAL);
	CHECK_EQ(dw_run_error_count(run, NULL, NULL), -EINVAL);
}

TEST_IN_BOTH_MODES(all_errors_of_a_run_can_be_read)
{
	unsigned few = 12, many = 90;
	struct dw_run *run;
	uint64_t count = 1;

	chain_init(1, 1, threads_of(mode), NULL);
	/* With the handle, and then with the thread. */
	run = start(orch_many_errors, &few, NULL);
	CHECK_EQ(dw_run_wait_for(run, UINT64_MAX), 0);
	check_errors(run, few);
	CHECK_EQ(dw_run_wait(run), -ENOENT);
	check_errors(NULL, few);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_many_errors, NULL, NULL, &many), -ENOENT);
	check_errors(NULL, many);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_nothing, NULL, NULL, NULL), 0);
	CHECK_EQ(dw_run_error_count(NULL, &count, NULL), 0);
	CHECK_EQ(count, 0);
	chain_destroy();
}

/* A retried attempt does not count; a struct of another size works. */
TEST_IN_BOTH_MODES(errors_are_of_tasks_and_not_of_attempts)
{
	struct order order = { .depth = 1, .how = BREAK_ERROR, .detail = EIO };
	struct {
		struct dw_run_error known;
		uint64_t more;
	} larger = { .known.size = sizeof(larger), .more = 7 };
	struct dw_run_error error = { .size = offsetof(struct dw_run_error, name) };
	uint64_t count = 0;

	chain_init(2, 1, threads_of(mode), NULL);
	order.options = DW_OPTIONS(dw_submit_options);
	order.options.retries = 2;
	order.options_on_the_way = true;
	CHECK_EQ(chain_run(order), -EIO);
	CHECK_EQ(dw_run_error_count(NULL, &count, NULL), 0);
	CHECK_EQ(count, 1);
	strcpy(error.name, "kept");
	CHECK_EQ(dw_run_error(NULL, 0, &error), 0);
	CHECK_EQ(error.error, -EIO);
	CHECK_EQ(error.attempts, 3);
	CHECK_STR(error.name, "kept");
	CHECK_EQ(dw_run_error(NULL, 0, &larger.known), 0);
	CHECK_EQ(larger.more, 0);
	/* The nested Worker's text names the place below it. */
	CHECK_STR(larger.known.text, "pod0/node0/sub0");
	CHECK_STR(larger.known.path, "pod0/node0");
	chain_destroy();
}

/* One task has failed while the run is in flight. */
static int orch_fails_and_waits(struct dw_orch *orch, const struct dw_args *args,
				const struct dw_config *config, void *context)
{
	dw_task failed;

	(void)args;
	(void)config;
	submit_breaking(orch, 2, "early", NULL, EIO, &failed);
	dw_orch_wait_task(orch, failed);
	sem_post(context);
	return submit_one(orch, paced_callable, &chain.cells[0], DW_INOUT, 0, NULL, NULL);
}

TEST_IN_BOTH_MODES(errors_can_be_read_while_the_run_goes_on)
{
	struct dw_run_error error = DW_OPTIONS(dw_run_error);
	struct dw_run *run;
	uint64_t count = 0;
	sem_t failed;

	sem_init(&failed, 0, 0);
	paced_init(mode, 1);
	run = start(orch_fails_and_waits, &failed, NULL);
	CHECK(sem_comes(&failed));
	CHECK_EQ(dw_run_error_count(run, &count, NULL), 0);
	CHECK_EQ(count, 1);
	CHECK_EQ(dw_run_error(run, 0, &error), 0);
	CHECK_STR(error.name, "early");
	CHECK_EQ(dw_run_test(run), -EAGAIN);
	let_pass(1);
	CHECK_EQ(dw_run_wait(run), -EIO);
	paced_destroy();
}
