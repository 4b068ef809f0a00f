/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Cancelling from another thread: no more tasks start, running tasks are told, on every level and
 * in both modes.
 */
#include "failure.h"

static void cancel_deep(unsigned levels, unsigned threads)
{
	struct order order = { .depth = levels - 1, .how = BREAK_ASK };
	struct dw_run *run;
	uint64_t start;

	chain_init(levels, 1, threads, NULL);
	run = chain_start(&order, 0);
	CHECK(heard() > 0);
	start = now_ns();
	CHECK_EQ(dw_run_cancel(run), 0);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	CHECK(unit_within(start, 20 * SECOND_NS));
	check_text("cancelled by the application");
	/* The next run is not cancelled. */
	CHECK_EQ(chain_run((struct order){ .depth = levels - 1, .how = BREAK_NOT }), 0);
	CHECK_EQ(chain.cells[0], 1);
	chain_destroy();
}

TEST(cancel_reaches_a_callable_that_asks_on_four_levels)
{
	for (unsigned levels = 1; levels <= 4; levels++)
		cancel_deep(levels, 0);
}

TEST(cancel_reaches_threads_and_mixed_trees)
{
	cancel_deep(1, 1);
	cancel_deep(3, 7);
	cancel_deep(4, 5);
	cancel_deep(4, 10);
}

static int orch_many(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct order first = { .how = BREAK_ASK }, other = { .how = BREAK_NOT };
	int result = submit_order(orch, chain.broken, &first, chain.cells + first.cell, 0, NULL);

	(void)args;
	(void)config;
	(void)context;
	for (int i = 0; i < 200 && result == 0; i++)
		result = submit_order(orch, chain.broken, &other, chain.cells + other.cell,
				      0, NULL);
	return result == -ECANCELED ? 0 : result;
}

TEST_IN_BOTH_MODES(cancelled_run_starts_nothing_more)
{
	struct dw_run *run;

	chain_init(1, 2, threads_of(mode), NULL);
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_many, NULL, NULL, NULL, NULL, &run), 0);
	heard();
	CHECK_EQ(dw_worker_cancel(chain.worker[0]), 0);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	CHECK_EQ(chain.cells[0], 0);
	chain_destroy();
}

/*
 * A callable that does not ask whether it is cancelled is not interrupted, and the run waits for
 * it; its death ends the wait.
 */
TEST(cancelled_run_waits_for_what_runs)
{
	struct order order = { .how = BREAK_HANG };
	struct dw_run *run;
	pid_t sub;

	chain_init(1, 1, 0, NULL);
	run = chain_start(&order, 0);
	sub = heard();
	CHECK_EQ(dw_run_cancel(run), 0);
	CHECK(lives(sub));
	kill(sub, SIGKILL);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	chain_destroy();
}

static void *cancel_all_the_time(void *argument)
{
	_Atomic int *stop = argument;

	while (!*stop) {
		dw_worker_cancel(chain.worker[0]);
		sched_yield();
	}
	return NULL;
}

TEST_IN_BOTH_MODES(runs_survive_a_thread_that_cancels_all_the_time)
{
	_Atomic int stop = 0;
	pthread_t thread;

	chain_init(2, 2, threads_of(mode), NULL);
	pthread_create(&thread, NULL, cancel_all_the_time, &stop);
	for (int i = 0; i < 300; i++) {
		int result = chain_run((struct order){ .depth = i % 2, .how = BREAK_NOT });

		CHECK(result == 0 || result == -ECANCELED);
	}
	stop = 1;
	pthread_join(thread, NULL);
	CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), 0);
	chain_destroy();
}

/* A cancelled task is not tried again. */
TEST(cancelled_task_is_not_retried)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .how = BREAK_HANG, .options = DW_OPTIONS(dw_submit_options) };
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct dw_run *run;
	pid_t sub;

	options.restart = DW_RESTART_ON_DEATH;
	order.options.retries = 5;
	chain_init(1, 1, 0, &options);
	run = chain_start(&order, 0);
	sub = heard();
	CHECK_EQ(dw_run_cancel(run), 0);
	kill(sub, SIGKILL);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &stats), 0);
	CHECK_EQ(stats.retried, 0);
	chain_destroy();
}
