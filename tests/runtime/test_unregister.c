/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * dw_callable_unregister_for(): a limit for the wait, after which the wait can be taken up again.
 */
#include <semaphore.h>
#include "failure.h"

static int bytes[2];
static dw_callable paced, nested;

static int sub_paced(const struct dw_args *args, void *context)
{
	char byte;

	(void)args;
	(void)context;
	say();
	return read(bytes[0], &byte, 1) == 1 ? 0 : -EIO;
}

/* In the nested Worker's process. */
static int orch_paced(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	char byte;

	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	say();
	return read(bytes[0], &byte, 1) == 1 ? 0 : -EIO;
}

static int orch_submits(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, *(const dw_callable *)context, chain.cells, DW_INOUT, 0, NULL,
			  NULL);
}

static struct dw_run *start(dw_callable *callable)
{
	struct dw_run *run = NULL;

	CHECK_EQ(dw_worker_start(chain.worker[0], orch_submits, NULL, NULL, callable, NULL, &run),
		 0);
	CHECK(heard() > 0);
	return run;
}

static void prepare(unsigned levels, enum dw_mode mode)
{
	chain_create(levels, 1, threads_of(mode), NULL);
	REQUIRE(pipe2(bytes, O_CLOEXEC) == 0);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "paced", sub_paced, NULL, &paced), 0);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "nested", orch_paced, NULL, &nested),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
}

static void let_pass(void)
{
	CHECK_EQ(write(bytes[1], "x", 1), 1);
}

static void finish(void)
{
	chain_destroy();
	close(bytes[0]);
	close(bytes[1]);
}

/* A task uses the callable. */
TEST_IN_BOTH_MODES(a_wait_for_tasks_that_use_it_has_a_limit)
{
	dw_callable found;
	struct dw_run *run;

	prepare(1, mode);
	run = start(&paced);
	CHECK_EQ(dw_callable_unregister_for(chain.worker[0], paced, 10 * MS), -ETIMEDOUT);
	check_text("dw_callable_unregister_for");
	check_text("paced");
	/* New tasks are refused already, and the name is free. */
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_submits, NULL, NULL, &paced), -ESTALE);
	CHECK_EQ(dw_callable_find(chain.worker[0], "paced", &found), -ENOENT);
	CHECK_EQ(dw_callable_unregister_for(chain.worker[0], paced, 0), -ETIMEDOUT);
	let_pass();
	CHECK_EQ(dw_callable_unregister(chain.worker[0], paced), 0);
	CHECK_EQ(dw_run_wait(run), 0);
	/* The task has ended. */
	CHECK_EQ(dw_callable_unregister(chain.worker[0], paced), -ESTALE);
	CHECK_EQ(dw_callable_unregister_for(chain.worker[0], paced, UINT64_MAX), -ESTALE);
	finish();
}

/* No task uses it, but a child that must forget it is busy. */
TEST(a_wait_for_children_that_have_to_forget_it_has_a_limit)
{
	struct dw_run *run;

	prepare(2, DW_PROCESS);
	run = start(&nested);
	CHECK_EQ(dw_callable_unregister_for(chain.worker[0], paced, 10 * MS), -ETIMEDOUT);
	check_text("pod0/node0");
	CHECK_EQ(dw_callable_unregister_for(chain.worker[0], paced, 10 * MS), -ETIMEDOUT);
	let_pass();
	CHECK_EQ(dw_callable_unregister_for(chain.worker[0], paced, UINT64_MAX), 0);
	CHECK_EQ(dw_run_wait(run), 0);
	finish();
}

struct unregisters {
	pthread_t thread;
	sem_t begun;
	int result;
};

static void *unregister(void *context)
{
	struct unregisters *unregisters = context;

	sem_post(&unregisters->begun);
	unregisters->result = dw_callable_unregister(chain.worker[0], paced);
	return NULL;
}

/* Two threads may wait for the same one. */
TEST_IN_BOTH_MODES(two_threads_may_unregister_one_callable)
{
	struct unregisters unregisters[2] = { 0 };
	struct dw_run *run;

	prepare(1, mode);
	run = start(&paced);
	CHECK_EQ(dw_callable_unregister_for(chain.worker[0], paced, 0), -ETIMEDOUT);
	for (int i = 0; i < 2; i++) {
		sem_init(&unregisters[i].begun, 0, 0);
		CHECK_EQ(pthread_create(&unregisters[i].thread, NULL, unregister, &unregisters[i]),
			 0);
		sem_wait(&unregisters[i].begun);
	}
	let_pass();
	for (int i = 0; i < 2; i++) {
		pthread_join(unregisters[i].thread, NULL);
		CHECK(unregisters[i].result == 0 || unregisters[i].result == -ESTALE);
	}
	CHECK(unregisters[0].result == 0 || unregisters[1].result == 0);
	CHECK_EQ(dw_run_wait(run), 0);
	finish();
}

/* One that was never finished does not keep its place beyond its Worker. */
TEST_IN_BOTH_MODES(a_wait_that_is_not_taken_up_again_leaves_nothing)
{
	struct dw_run *run;

	for (int i = 0; i < 3; i++) {
		prepare(1, mode);
		run = start(&paced);
		CHECK_EQ(dw_callable_unregister_for(chain.worker[0], paced, 0), -ETIMEDOUT);
		let_pass();
		CHECK_EQ(dw_run_wait(run), 0);
		finish();
	}
}
