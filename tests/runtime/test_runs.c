/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Runs as a program holds them: waits that could never end are refused; a run is a descriptor, can
 * be tested, waited for with a limit, and detached.
 */
#include <poll.h>
#include "runs.h"

/* ---------------------------------------------------------- waits for oneself */

/* A run that waits for a run, once it knows it. */
struct waits {
	sem_t known;			/* `other` is set */
	struct dw_run *other;
	int result;
	char text[512];
	sem_t *done;
};

static int orch_waits(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct waits *waits = context;

	(void)orch;
	(void)args;
	(void)config;
	sem_comes(&waits->known);
	waits->result = dw_run_wait(waits->other);
	snprintf(waits->text, sizeof(waits->text), "%s", dw_strerror_last());
	if (waits->done)
		sem_post(waits->done);
	return 0;
}

/* Failed before: the live run was freed, and the program died by SIGSEGV. */
TEST_IN_BOTH_MODES(a_run_that_waits_for_itself_is_refused)
{
	struct waits waits = { 0 };

	chain_init(1, 1, threads_of(mode), NULL);
	sem_init(&waits.known, 0, 0);
	waits.other = start(orch_waits, &waits, NULL);
	sem_post(&waits.known);
	CHECK_EQ(dw_run_wait(waits.other), 0);
	CHECK_EQ(waits.result, -EDEADLK);
	CHECK_STR(waits.text, "its own orchestration function");
	chain_destroy();
}

/* Failed before: all waited for ever. One is refused, and with it the others go on. */
TEST_IN_BOTH_MODES(runs_that_wait_for_each_other_are_refused)
{
	enum { RUNS = 4 };
	static struct waits waits[RUNS];
	struct dw_run *runs[RUNS], *left = NULL;
	unsigned refused = 0;
	sem_t done;

	chain_init(1, 1, threads_of(mode), NULL);
	sem_init(&done, 0, 0);
	for (int i = 0; i < RUNS; i++) {
		waits[i] = (struct waits){ .done = &done };
		sem_init(&waits[i].known, 0, 0);
		runs[i] = start(orch_waits, &waits[i], NULL);
	}
	for (int i = 0; i < RUNS; i++) {
		waits[i].other = runs[(i + 1) % RUNS];
		sem_post(&waits[i].known);
	}
	for (int i = 0; i < RUNS; i++)
		REQUIRE(sem_comes(&done));
	for (int i = 0; i < RUNS; i++) {
		if (waits[i].result != -EDEADLK)
			continue;
		refused++;
		left = waits[i].other;
		CHECK_STR(waits[i].text, "through others");
	}
	CHECK_EQ(refused, 1);
	/* Every other run was waited for, and freed, by the one before it. */
	CHECK_EQ(dw_run_wait(left), 0);
	chain_destroy();
}

/* Two runs of two trees, each waiting for the other's, and one that is only waited for. */
static int orch_waits_and_runs(struct dw_orch *orch, const struct dw_args *args,
			       const struct dw_config *config, void *context)
{
	int result;

	(void)orch;
	(void)args;
	(void)config;
	/* Its own tasks go on while it waits here for those of another run. */
	result = dw_worker_run(chain.worker[0], orch_down_chain, NULL, NULL, context);
	return result ? result : dw_worker_run(chain.worker[0], orch_nothing, NULL, NULL, NULL);
}

TEST_IN_BOTH_MODES(a_run_within_a_run_of_the_same_tree_goes_on)
{
	struct order order = { .depth = 0, .how = BREAK_NOT };

	chain_init(1, 1, threads_of(mode), NULL);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_waits_and_runs, NULL, NULL, &order), 0);
	CHECK_EQ(chain.cells[0], 1);
	chain_destroy();
}

/* It is no circle if the run that is waited for does not wait itself. */
TEST_IN_BOTH_MODES(a_run_may_wait_for_another_run)
{
	struct waits waits = { 0 };
	struct dw_run *run;

	chain_init(1, 1, threads_of(mode), NULL);
	sem_init(&waits.known, 0, 0);
	run = start(orch_waits, &waits, NULL);
	waits.other = start(orch_nothing, NULL, NULL);
	sem_post(&waits.known);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(waits.result, 0);
	chain_destroy();
}

struct closes {
	int close, again;
	char text[512], destroy_text[512];
};

static void close_from_inside(struct closes *closes)
{
	closes->close = dw_worker_close(chain.worker[0]);
	snprintf(closes->text, sizeof(closes->text), "%s", dw_strerror_last());
	dw_worker_destroy(chain.worker[0]);
	snprintf(closes->destroy_text, sizeof(closes->destroy_text), "%s", dw_strerror_last());
}

static int orch_closes(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct closes *closes = context;
	struct order order = { .depth = 0, .how = BREAK_NOT };

	(void)args;
	(void)config;
	close_from_inside(closes);
	/* Nothing has changed. */
	closes->again = submit_order(orch, chain.broken, &order, chain.cells + order.cell, 0, NULL);
	return 0;
}

/*
 * Failed before: close waited for its own run until close_timeout_ns, and then killed all children.
 */
TEST_IN_BOTH_MODES(close_and_destroy_within_an_orchestration_function_are_refused)
{
	struct closes closes = { 0 };

	chain_init(1, 1, threads_of(mode), NULL);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_closes, NULL, NULL, &closes), 0);
	CHECK_EQ(closes.close, -EDEADLK);
	CHECK_STR(closes.text, "dw_worker_close");
	CHECK_STR(closes.destroy_text, "dw_worker_destroy");
	CHECK_EQ(closes.again, 0);
	CHECK_EQ(chain.cells[0], 1);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	chain_destroy();
}

/* ---------------------------------------------- calls from within a task (threads) */

struct from_task {
	int close, unregister, symbol, run, nested_run;
	dw_callable self;
	struct dw_worker *root, *nested;
};

static struct from_task from_task;

static int sub_calls_in(const struct dw_args *args, void *context)
{
	dw_callable callable;

	(void)args;
	(void)context;
	from_task.close = dw_worker_close(from_task.root);
	from_task.unregister = dw_callable_unregister(from_task.root, from_task.self);
	from_task.symbol = dw_callable_register_symbol(from_task.root,
						       beside("fixtures/symbols.so:symbol_add"),
						       DW_SYMBOL_SUB, &callable);
	from_task.run = dw_worker_run(from_task.root, orch_nothing, NULL, NULL, NULL);
	return 0;
}

static int orch_one_call(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, from_task.self, chain.cells, DW_INOUT, 0, NULL, NULL);
}

/* Failed before: unregister waited for the task that called it, for ever. */
TEST(a_callable_in_a_thread_cannot_wait_for_its_own_task)
{
	chain_create(1, 1, ~0u, NULL);
	from_task = (struct from_task){ .root = chain.worker[0] };
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "calls", sub_calls_in, NULL,
					  &from_task.self), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_one_call, NULL, NULL, NULL), 0);
	CHECK_EQ(from_task.close, -EDEADLK);
	CHECK_EQ(from_task.unregister, -EDEADLK);
	CHECK_EQ(from_task.symbol, -EDEADLK);
	CHECK_EQ(from_task.run, -EDEADLK);
	chain_destroy();
}

/*
 * A nested Worker's function, itself a task of a thread, runs on its own Worker, and not on the one
 * above.
 */
static int orch_runs_below(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	from_task.nested_run = dw_worker_run(from_task.nested, orch_nothing, NULL, NULL, NULL);
	from_task.run = dw_worker_run(from_task.root, orch_nothing, NULL, NULL, NULL);
	return 0;
}

TEST(a_nested_function_runs_on_its_own_worker_only)
{
	chain_create(2, 1, ~0u, NULL);
	from_task = (struct from_task){ .root = chain.worker[0], .nested = chain.worker[1] };
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "below", orch_runs_below, NULL,
					   &from_task.self), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_one_call, NULL, NULL, NULL), 0);
	CHECK_EQ(from_task.nested_run, 0);
	CHECK_EQ(from_task.run, -EDEADLK);
	chain_destroy();
}

/* A nested function waits for a run whose function waits for the run of the nested one. */
static struct waits above, below;

static int orch_waits_nested(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	(void)context;
	return orch_waits(orch, args, config, &below);
}

TEST(a_circle_through_a_nested_run_is_refused)
{
	struct dw_run *run, *other;
	sem_t done;

	sem_init(&done, 0, 0);
	chain_create(2, 1, ~0u, NULL);
	above = (struct waits){ .done = &done };
	below = (struct waits){ .done = &done };
	sem_init(&above.known, 0, 0);
	sem_init(&below.known, 0, 0);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "waits", orch_waits_nested, NULL,
					   &from_task.self), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	run = start(orch_one_call, NULL, NULL);
	other = start(orch_waits, &above, NULL);
	above.other = run;
	below.other = other;
	sem_post(&above.known);
	sem_post(&below.known);
	REQUIRE(sem_comes(&done));
	REQUIRE(sem_comes(&done));
	CHECK((above.result == -EDEADLK) != (below.result == -EDEADLK));
	/* The refused one's target is still there; it ends after the other. */
	CHECK_EQ(dw_run_wait(above.result == -EDEADLK ? run : other), 0);
	chain_destroy();
}

/* ------------------------------------------------------------------ descriptors */

static bool is_readable(int fd)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };

	return poll(&poller, 1, 0) == 1 && poller.revents & POLLIN;
}

TEST_IN_BOTH_MODES(a_run_is_a_descriptor_that_becomes_readable_when_it_ends)
{
	unsigned count = 1, before;
	int fd = -1, again = -2;
	struct dw_run *run;
	uint64_t value;

	paced_init(mode, 1);
	before = count_fds();
	run = start(orch_paced, &count, NULL);
	CHECK_EQ(dw_run_fd(run, &fd), 0);
	CHECK(fd > 2);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(!is_readable(fd));
	CHECK_EQ(dw_run_test(run), -EAGAIN);
	let_pass(1);
	CHECK(unit_polled(fd, POLLIN));
	CHECK_EQ(dw_run_test(run), 0);
	/* The descriptor stays readable, however often it is read. */
	for (int i = 0; i < 3; i++)
		CHECK_EQ(read(fd, &value, sizeof(value)), sizeof(value));
	CHECK(is_readable(fd));
	CHECK_EQ(dw_run_fd(run, &again), 0);
	CHECK_EQ(again, fd);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(fcntl(fd, F_GETFD), -1);
	CHECK_EQ(count_fds(), before);
	/* Asked for the first time after the end. */
	run = start(orch_nothing, NULL, NULL);
	CHECK_EQ(dw_run_wait_for(run, UINT64_MAX), 0);
	CHECK_EQ(dw_run_fd(run, &fd), 0);
	CHECK(is_readable(fd));
	CHECK_EQ(dw_run_fd(run, NULL), -EINVAL);
	CHECK_EQ(dw_run_fd(NULL, &fd), -EINVAL);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(count_fds(), before);
	paced_destroy();
}

/* Many that end while their descriptors are being asked for. */
TEST_IN_BOTH_MODES(a_descriptor_that_is_asked_for_while_the_run_ends_becomes_readable)
{
	struct dw_run *run;
	int fd;

	chain_init(1, 1, threads_of(mode), NULL);
	for (int i = 0; i < 300; i++) {
		run = start(orch_nothing, NULL, NULL);
		if (i & 1)
			sched_yield();
		REQUIRE(dw_run_fd(run, &fd) == 0);
		if (!CHECK(unit_polled(fd, POLLIN)))
			break;
		CHECK_EQ(dw_run_wait(run), 0);
	}
	chain_destroy();
}

TEST_IN_BOTH_MODES(a_wait_with_a_limit_keeps_the_run)
{
	unsigned count = 1;
	struct dw_run *run;

	paced_init(mode, 1);
	run = start(orch_paced, &count, NULL);
	CHECK_EQ(dw_run_wait_for(run, 0), -ETIMEDOUT);
	CHECK_EQ(dw_run_wait_for(run, MS), -ETIMEDOUT);
	check_text("dw_run_wait_for");
	let_pass(1);
	CHECK_EQ(dw_run_wait_for(run, UINT64_MAX), 0);
	CHECK_EQ(dw_run_wait_for(run, 0), 0);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(dw_run_wait_for(NULL, 0), -EINVAL);
	CHECK_EQ(dw_run_test(NULL), -EINVAL);
	paced_destroy();
}

/* The result of a run that has timed out is not that of the wait. */
TEST_IN_BOTH_MODES(a_wait_with_a_limit_does_not_tell_the_result)
{
	struct dw_run_options options = DW_OPTIONS(dw_run_options);
	struct order order = { .depth = 0, .how = BREAK_ASK };
	struct dw_run *run;

	chain_init(1, 1, threads_of(mode), NULL);
	options.timeout_ns = MS;
	run = start(orch_down_chain, &order, &options);
	CHECK_EQ(dw_run_wait_for(run, UINT64_MAX), 0);
	CHECK_EQ(dw_run_wait(run), -ETIMEDOUT);
	chain_destroy();
}

TEST_IN_BOTH_MODES(a_detached_run_frees_itself)
{
	unsigned before, count = 1;
	uint64_t begun;
	struct dw_run *run;
	int fd;

	CHECK_EQ(dw_run_detach(NULL), -EINVAL);
	paced_init(mode, 2);
	before = count_fds();
	/* One that goes on, and one that has ended. */
	run = start(orch_paced, &count, NULL);
	CHECK_EQ(dw_run_fd(run, &fd), 0);
	CHECK_EQ(dw_run_detach(run), 0);
	run = start(orch_nothing, NULL, NULL);
	CHECK_EQ(dw_run_wait_for(run, UINT64_MAX), 0);
	CHECK_EQ(dw_run_fd(run, &fd), 0);
	CHECK_EQ(dw_run_detach(run), 0);
	let_pass(1);
	/* Its descriptor goes with it. */
	begun = now_ns();
	while (count_fds() != before && unit_within(begun, 20 * SECOND_NS))
		pause_ms(1);
	CHECK_EQ(count_fds(), before);
	CHECK_EQ(__atomic_load_n(&chain.cells[0], __ATOMIC_RELAXED), 1);
	for (int i = 0; i < 200; i++)
		CHECK_EQ(dw_run_detach(start(orch_nothing, NULL, NULL)), 0);
	paced_destroy();
}

/* close waits for it as for all others. */
TEST_IN_BOTH_MODES(close_waits_for_a_detached_run)
{
	struct order order = { .depth = 0, .how = BREAK_ASK };

	chain_init(1, 1, threads_of(mode), NULL);
	CHECK_EQ(dw_run_detach(start(orch_down_chain, &order, NULL)), 0);
	CHECK(heard() > 0);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	chain_destroy();
}

