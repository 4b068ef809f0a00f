/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The progress callback of a run: it comes reliably, and does no harm. */
#include "runs.h"

struct told {
	_Atomic int inside, together;
	_Atomic uint64_t calls, submitted, finished;
	_Atomic bool backwards;
	sem_t called, go;		/* posted by each call; waited for by the first */
	_Atomic bool holds;
	int registered, closed, waited;
	struct dw_run *run;
};

static void told_init(struct told *told, struct dw_run_options *options,
		      void (*progress)(uint64_t submitted, uint64_t finished, void *context))
{
	memset(told, 0, sizeof(*told));
	sem_init(&told->called, 0, 0);
	sem_init(&told->go, 0, 0);
	*options = (struct dw_run_options)DW_OPTIONS(dw_run_options);
	options->progress = progress;
	options->progress_context = told;
}

static void on_progress(uint64_t submitted, uint64_t finished, void *context)
{
	struct told *told = context;

	if (told->inside++)
		told->together++;
	told->backwards = told->backwards || submitted < told->submitted ||
			  finished < told->finished || finished > submitted;
	told->submitted = submitted;
	told->finished = finished;
	told->calls++;
	sem_post(&told->called);
	if (told->holds)
		sem_comes(&told->go);
	told->inside--;
}

/*
 * Failed before: the thread of the held callback drove for both runs, and the other one waited for
 * it.
 */
TEST_IN_BOTH_MODES(a_callback_that_takes_its_time_holds_up_nobody)
{
	struct order order = { .depth = 0, .how = BREAK_NOT };
	struct dw_run_options options;
	struct told told;
	struct dw_run *run, *other;
	int64_t before;

	chain_init(1, 2, threads_of(mode), NULL);
	told_init(&told, &options, on_progress);
	told.holds = true;
	run = start(orch_down_chain, &order, &options);
	REQUIRE(sem_comes(&told.called));
	before = __atomic_load_n(&chain.cells[0], __ATOMIC_RELAXED);
	for (int i = 0; i < 20; i++) {
		other = start(orch_down_chain, &order, NULL);
		REQUIRE(dw_run_wait_for(other, UINT64_MAX) == 0);
		CHECK_EQ(dw_run_wait(other), 0);
	}
	CHECK(__atomic_load_n(&chain.cells[0], __ATOMIC_RELAXED) >= before + 20);
	CHECK_EQ(told.inside, 1);
	/* Its own run does not end before it. */
	CHECK_EQ(dw_run_test(run), -EAGAIN);
	told.holds = false;
	sem_post(&told.go);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(told.together, 0);
	chain_destroy();
}

static void on_progress_calls(uint64_t submitted, uint64_t finished, void *context)
{
	struct told *told = context;
	dw_callable callable;

	on_progress(submitted, finished, context);
	if (told->calls > 1)
		return;
	told->registered = dw_callable_register_symbol(chain.worker[0],
						       beside("fixtures/symbols.so:symbol_add"),
						       DW_SYMBOL_SUB, &callable);
	told->closed = dw_worker_close(chain.worker[0]);
	sem_comes(&told->go);
	told->waited = dw_run_wait(told->run);
}

/* Failed before: it waited for an answer that only itself, the driver, could have taken. */
TEST_IN_BOTH_MODES(a_callback_may_call_the_library)
{
	struct order order = { .depth = 0, .how = BREAK_SLOW };
	struct dw_run_options options;
	struct told told;

	chain_init(1, 2, threads_of(mode), NULL);
	told_init(&told, &options, on_progress_calls);
	told.run = start(orch_down_chain, &order, &options);
	sem_post(&told.go);
	CHECK_EQ(dw_run_wait(told.run), 0);
	if (!CHECK_EQ(told.registered, 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(told.closed, -EDEADLK);
	CHECK_EQ(told.waited, -EDEADLK);
	chain_destroy();
}

/* Until the callback has told of so many. */
static bool told_of(struct told *told, uint64_t finished)
{
	while (told->finished < finished)
		if (!sem_comes(&told->called))
			return false;
	return true;
}

/*
 * One worker gets all tasks at once; each completion is told before the next task may run. Failed
 * before: completions were noticed when the ring had run dry, and none was told in between.
 */
TEST_IN_BOTH_MODES(progress_tells_of_each_task_while_the_next_one_runs)
{
	unsigned count = 6;
	struct dw_run_options options;
	struct dw_run *run;
	struct told told;

	paced_init(mode, 1);
	told_init(&told, &options, on_progress);
	run = start(orch_paced, &count, &options);
	for (unsigned i = 1; i < count; i++) {
		let_pass(1);
		if (!CHECK(told_of(&told, i)))
			break;
		CHECK_EQ(told.finished, i);
	}
	let_pass(count);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(told.finished, count);
	CHECK_EQ(told.submitted, count);
	CHECK(!told.backwards);
	CHECK_EQ(told.together, 0);
	paced_destroy();
}

/*
 * The same while another run's thread drives, and its own function is busy. Failed before: never
 * called.
 */
static struct paced holding;

static int orch_paced_and_busy(struct dw_orch *orch, const struct dw_args *args,
			       const struct dw_config *config, void *context)
{
	int result = orch_paced(orch, args, config, context);
	char byte;

	return result ? result : read(holding.bytes[0], &byte, 1) == 1 ? 0 : -EIO;
}

TEST_IN_BOTH_MODES(progress_comes_while_another_run_drives_and_the_function_computes)
{
	struct order hang = { .depth = 0, .how = BREAK_ASK, .cell = 40 };
	unsigned count = 4;
	struct dw_run_options options;
	struct dw_run *run, *other;
	struct told told;

	REQUIRE(pipe2(holding.bytes, O_CLOEXEC) == 0);
	paced_init(mode, 2);
	other = start(orch_down_chain, &hang, NULL);
	CHECK(heard() > 0);
	told_init(&told, &options, on_progress);
	run = start(orch_paced_and_busy, &count, &options);
	for (unsigned i = 1; i <= count; i++) {
		let_pass(1);
		if (!CHECK(told_of(&told, i)))
			break;
	}
	CHECK_EQ(write(holding.bytes[1], "x", 1), 1);
	let_pass(count);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(dw_run_cancel(other), 0);
	CHECK_EQ(dw_run_wait(other), -ECANCELED);
	paced_destroy();
	close(holding.bytes[0]);
	close(holding.bytes[1]);
}

static void on_progress_slow(uint64_t submitted, uint64_t finished, void *context)
{
	struct told *told = context;

	told->inside++;
	sem_post(&told->called);
	pause_ms(100);
	told->submitted = submitted;
	told->finished = finished;
	told->inside--;
}

/*
 * Failed before: the last call came after the run had left the engine, and destroy did not wait for
 * it.
 */
TEST_IN_BOTH_MODES(destroy_returns_after_the_last_call)
{
	struct order order = { .depth = 0, .how = BREAK_NOT };
	struct dw_run_options options;
	struct told told;
	struct dw_run *run;

	for (int i = 0; i < 3; i++) {
		chain_init(1, 1, threads_of(mode), NULL);
		told_init(&told, &options, on_progress_slow);
		run = start(orch_down_chain, &order, &options);
		CHECK(sem_comes(&told.called));
		chain_destroy();
		CHECK_EQ(told.inside, 0);
		CHECK_EQ(told.finished, told.submitted);
		/* The run outlives its Worker. */
		CHECK_EQ(dw_run_cancel(run), 0);
		dw_run_wait(run);
		CHECK_EQ(told.inside, 0);
	}
}

/* A run without tasks is told, too; so is one that is cancelled. */
TEST_IN_BOTH_MODES(the_last_call_always_comes)
{
	struct dw_run_options options;
	unsigned count = 5;
	struct dw_run *run;
	struct told told;

	paced_init(mode, 1);
	told_init(&told, &options, on_progress);
	run = start(orch_nothing, NULL, &options);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(told.calls, 1);
	told_init(&told, &options, on_progress);
	run = start(orch_paced, &count, &options);
	while (told.submitted < count)
		REQUIRE(sem_comes(&told.called));
	CHECK_EQ(dw_run_cancel(run), 0);
	let_pass(1);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	CHECK_EQ(told.finished, count);
	paced_destroy();
}

/*
 * The number of tasks that have run is known before the parent takes the completions: ten tasks sit
 * in one ring, and no notification was requested for the first ones. Failed before: the number
 * stayed 0 until the ring ran dry.
 */
TEST_IN_BOTH_MODES(what_children_have_run_is_known_at_any_time)
{
	struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
	uint64_t begun = now_ns();
	unsigned count = 10;
	struct dw_tree *tree;
	struct dw_run *run;

	paced_init(mode, 1);
	REQUIRE(dw_tree_open(getpid(), 0, &tree) == 0);
	run = start(orch_paced, &count, NULL);
	for (unsigned i = 1; i <= 5; i++) {
		let_pass(1);
		while (dw_tree_child(tree, 0, &child) == 0 && child.ended < i &&
		       unit_within(begun, 20 * SECOND_NS))
			pause_ms(1);
		CHECK_EQ(child.ended, i);
	}
	let_pass(5);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(dw_tree_child(tree, 0, &child), 0);
	CHECK_EQ(child.ended, count);
	dw_tree_close(tree);
	paced_destroy();
}
