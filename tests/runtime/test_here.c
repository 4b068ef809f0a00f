/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Runs in the calling thread (`here`), and dw_worker_interrupt(), which ends their waits early.
 */
#include <sys/syscall.h>
#include "runs.h"

static const struct dw_run_options here = { .size = sizeof(here), .here = 1 };

static int orch_thread(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	*(pthread_t *)context = pthread_self();
	let_pass(1);
	return submit_one(orch, paced_callable, &chain.cells[0], DW_INOUT, 0, NULL, NULL);
}

TEST_IN_BOTH_MODES(a_run_here_has_ended_when_the_call_returns)
{
	pthread_t thread = 0;
	struct dw_run *run;
	unsigned threads;
	int fd;

	paced_init(mode, 1);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_nothing, NULL, NULL, NULL), 0);
	threads = count_dir("/proc/self/task");
	for (int i = 0; i < 3; i++) {
		run = start(orch_thread, &thread, &here);
		CHECK(pthread_equal(thread, pthread_self()));
		CHECK_EQ(chain.cells[0], i + 1);
		CHECK_EQ(count_dir("/proc/self/task"), threads);
		CHECK_EQ(dw_run_test(run), 0);
		CHECK_EQ(dw_run_wait_for(run, 0), 0);
		CHECK_EQ(dw_run_fd(run, &fd), 0);
		CHECK_EQ(dw_run_cancel(run), 0);
		CHECK_EQ(i ? dw_run_wait(run) : dw_run_detach(run), 0);
	}
	paced_destroy();
}

static int orch_fails(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	return dw_task_fail(ENOTTY, "not today");
}

TEST(errors_of_a_run_here_are_those_of_its_wait)
{
	struct dw_run_options options = here;
	struct dw_run *run;

	chain_init(1, 1, 0, NULL);
	run = start(orch_fails, NULL, &here);
	CHECK_EQ(dw_run_wait(run), -ENOTTY);
	CHECK_STR(dw_strerror_last(), "not today");
	options.here = 2;
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_nothing, NULL, NULL, NULL, &options, &run),
		 -EINVAL);
	CHECK_STR(dw_strerror_last(), "here is 2");
	CHECK_EQ(dw_worker_start(chain.worker[0], NULL, NULL, NULL, NULL, &here, &run), -EINVAL);
	chain_destroy();
	CHECK_EQ(dw_worker_interrupt(NULL), -EINVAL);
}

/* A thread of this process. */
static bool is_asleep(pid_t tid)
{
	char path[64], line[256] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	file = fopen(path, "r");
	if (!CHECK(file && fgets(line, sizeof(line), file)))
		return true;
	fclose(file);
	return strrchr(line, ')')[2] == 'S';
}

/* Interrupts when the run's thread sleeps in a call, and again after each. */
struct interrupter {
	pthread_t thread;
	pid_t tid;
	unsigned times;
	sem_t begun, again;
};

static void *interrupt_sleeper(void *context)
{
	struct interrupter *interrupter = context;

	for (unsigned i = 0; i < interrupter->times; i++) {
		CHECK(sem_comes(i ? &interrupter->again : &interrupter->begun));
		/*
		 * An interrupt must not be lost, whether it comes early or late; here it mostly
		 * comes late.
		 */
		while (i % 2 && !is_asleep(interrupter->tid))
			pause_ms(1);
		CHECK_EQ(dw_worker_interrupt(chain.worker[0]), 0);
	}
	return NULL;
}

static void interrupter_start(struct interrupter *interrupter, unsigned times)
{
	sem_init(&interrupter->begun, 0, 0);
	sem_init(&interrupter->again, 0, 0);
	interrupter->tid = (pid_t)syscall(SYS_gettid);
	interrupter->times = times;
	REQUIRE(pthread_create(&interrupter->thread, NULL, interrupt_sleeper, interrupter) == 0);
}

#define WAITS 6

/* Each wait of the function is interrupted; then the task may end, and the wait tells its end. */
static int orch_waits_often(struct dw_orch *orch, const struct dw_args *args,
			    const struct dw_config *config, void *context)
{
	struct interrupter *interrupter = context;
	dw_task task;
	int result;

	(void)args;
	(void)config;
	result = submit_one(orch, paced_callable, &chain.cells[0], DW_INOUT, 0, NULL, &task);
	sem_post(&interrupter->begun);
	for (int i = 0; i < WAITS; i++) {
		CHECK_EQ(i % 3 ? dw_orch_wait(orch) : dw_orch_wait_task(orch, task), -ERESTART);
		CHECK_STR(dw_strerror_last(), "interrupted");
		if (i + 1 < WAITS)
			sem_post(&interrupter->again);
	}
	let_pass(1);
	CHECK_EQ(dw_orch_wait_task(orch, task), 0);
	CHECK_EQ(dw_orch_wait(orch), 0);
	CHECK_EQ(chain.cells[0], 1);
	return result;
}

TEST_IN_BOTH_MODES(waits_of_the_function_end_early_and_can_be_repeated)
{
	struct interrupter interrupter;
	struct dw_run *run;

	paced_init(mode, 1);
	interrupter_start(&interrupter, WAITS);
	run = start(orch_waits_often, &interrupter, &here);
	CHECK_EQ(dw_run_wait(run), 0);
	pthread_join(interrupter.thread, NULL);
	paced_destroy();
}

static int orch_one_paced(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	struct interrupter *interrupter = context;
	int result = submit_one(orch, paced_callable, &chain.cells[0], DW_INOUT, 0, NULL, NULL);

	(void)args;
	(void)config;
	sem_post(&interrupter->begun);
	return result;
}

/* The drain is interrupted: the run goes on without its thread. */
TEST_IN_BOTH_MODES(an_interrupted_run_goes_on_in_a_thread)
{
	struct interrupter interrupter;
	struct dw_run *run;
	uint64_t count;

	for (int how = 0; how < 3; how++) {
		paced_init(mode, 1);
		interrupter_start(&interrupter, 1);
		run = start(orch_one_paced, &interrupter, &here);
		CHECK_EQ(dw_run_test(run), -EAGAIN);
		CHECK_EQ(dw_run_wait_for(run, 1000), -ETIMEDOUT);
		CHECK_EQ(chain.cells[0], 0);
		pthread_join(interrupter.thread, NULL);
		/* It is not interrupted any more. */
		CHECK_EQ(dw_worker_interrupt(chain.worker[0]), 0);
		if (how == 1)
			CHECK_EQ(dw_run_cancel(run), 0);
		let_pass(1);
		CHECK_EQ(how == 2 ? dw_run_detach(run) : dw_run_wait(run),
			 how == 1 ? -ECANCELED : 0);
		if (how == 0) {
			CHECK_EQ(chain.cells[0], 1);
			CHECK_EQ(dw_run_error_count(NULL, &count, NULL), 0);
			CHECK_EQ(count, 0);
		}
		paced_destroy();
	}
}

/* A full window makes the submitter wait. */
static int orch_flood(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct interrupter *interrupter = context;
	unsigned interrupted = 0, submitted = 0;

	(void)args;
	(void)config;
	for (unsigned i = 0; i < 10000; i++) {
		int result;

		if (i == 8000)
			sem_post(&interrupter->begun);
		result = submit_one(orch, paced_callable, &chain.cells[0], DW_NO_DEP, 0, NULL,
				    NULL);
		if (result == -ERESTART) {
			interrupted++;
			let_pass(10000);
			result = submit_one(orch, paced_callable, &chain.cells[0], DW_NO_DEP, 0,
					    NULL, NULL);
		}
		submitted += result == 0;
	}
	CHECK_EQ(interrupted, 1);
	CHECK_EQ(submitted, 10000);
	return 0;
}

TEST(a_submit_that_waits_ends_early_and_queues_nothing)
{
	struct interrupter interrupter;
	struct dw_run *run;

	paced_init(DW_PROCESS, 1);
	interrupter_start(&interrupter, 1);
	run = start(orch_flood, &interrupter, &here);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(chain.cells[0], 10000);
	pthread_join(interrupter.thread, NULL);
	paced_destroy();
}

static int sub_restart(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return -ERESTART;
}

static dw_callable restart;

static int orch_restart(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	dw_task task = 0;

	(void)args;
	(void)config;
	(void)context;
	CHECK_EQ(submit_one(orch, restart, &chain.cells[0], DW_INOUT, 0, NULL, &task), 0);
	CHECK_EQ(dw_orch_wait_task(orch, task), -EINTR);
	CHECK_EQ(dw_orch_wait(orch), -EINTR);
	return 0;
}

TEST(a_task_that_fails_so_is_no_interrupt)
{
	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "restart", sub_restart, NULL, &restart),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_run_wait(start(orch_restart, NULL, &here)), -ERESTART);
	chain_destroy();
}

/* Other runs have no thread that could act on it. */
TEST(other_runs_do_not_notice)
{
	struct interrupter interrupter;
	struct dw_run *run;

	paced_init(DW_PROCESS, 1);
	interrupter_start(&interrupter, 1);
	run = start(orch_one_paced, &interrupter, NULL);
	pthread_join(interrupter.thread, NULL);
	CHECK_EQ(dw_run_wait_for(run, 1000), -ETIMEDOUT);
	let_pass(1);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(chain.cells[0], 1);
	paced_destroy();
}
