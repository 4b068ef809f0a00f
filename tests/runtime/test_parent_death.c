/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A parent that dies takes its tree with it. Every descendant inherits a pipe, whose end shows that
 * the last one is gone.
 */
#include <sched.h>
#include "failure.h"

enum parent_does { PARENT_IDLE, PARENT_RUNS, PARENT_INITS };

static int sub_spin(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	say();
	for (;;)
		;
	return 0;
}

static dw_callable spin;

static int orch_spin(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	int result = 0;

	(void)args;
	(void)config;
	(void)context;
	for (uint32_t i = 0; i < dw_orch_sub_count(orch) && result == 0; i++)
		result = submit_one(orch, spin, &chain.cells[i], DW_INOUT, 0, NULL, NULL);
	return result;
}

static void be_parent(unsigned levels, uint32_t subs, unsigned threads, enum parent_does what)
{
	chain_create(levels, subs, threads, NULL);
	dw_callable_register_sub(chain.worker[0], "spin", sub_spin, NULL, &spin);
	if (what == PARENT_INITS)
		say();
	if (dw_worker_init(chain.worker[0]) < 0)
		_exit(1);
	if (what == PARENT_IDLE)
		say();
	if (what == PARENT_RUNS)
		dw_worker_run(chain.worker[0], orch_spin, NULL, NULL, NULL);
	for (;;)
		pause();
}

/*
 * Returns how long the tree outlived its parent, in ns; in_time: less than a second, as
 * unit_within() counts it.
 */
static bool in_time;

static uint64_t outlived(unsigned levels, uint32_t subs, unsigned threads, enum parent_does what,
			 int signal_number, unsigned delay_us)
{
	unsigned expected = what == PARENT_RUNS ? subs : 1;
	uint64_t killed_at, took;
	int pipe_ends[2];
	pid_t pid;
	char c;

	say_prepare();
	hear_nothing();
	CHECK_EQ(pipe(pipe_ends), 0);
	pid = fork();
	if (pid == 0) {
		/* The parent of this test may ignore the signal. */
		signal(signal_number, SIG_DFL);
		close(pipe_ends[0]);
		be_parent(levels, subs, threads, what);
	}
	close(pipe_ends[1]);
	for (unsigned i = 0; i < expected; i++)
		CHECK(heard() > 0);
	if (delay_us)
		nanosleep(&(struct timespec){ 0, delay_us * 1000L }, NULL);
	killed_at = now_ns();
	kill(pid, signal_number);
	CHECK_EQ(read(pipe_ends[0], &c, 1), 0);
	close(pipe_ends[0]);
	took = now_ns() - killed_at;
	in_time = unit_within(killed_at, SECOND_NS);
	waitpid(pid, NULL, 0);
	return took;
}

TEST(tree_of_four_levels_ends_with_its_parent_whatever_the_signal)
{
	static const int signals[] = { SIGKILL, SIGTERM, SIGSEGV, SIGINT, SIGHUP };
	uint64_t worst = 0;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		uint64_t took = outlived(4, 2, 0, PARENT_IDLE, signals[i], 0);

		CHECK(in_time);
		worst = took > worst ? took : worst;
	}
	printf("# the slowest was gone after %llu us\n", (unsigned long long)(worst / 1000));
}

TEST(mixed_tree_ends_with_its_parent)
{
	outlived(4, 1, 5, PARENT_IDLE, SIGKILL, 0);
	CHECK(in_time);
	outlived(4, 1, 10, PARENT_IDLE, SIGKILL, 0);
	CHECK(in_time);
}

TEST(busy_descendants_end_with_their_parent_within_a_second)
{
	uint64_t took = outlived(1, 64, 0, PARENT_RUNS, SIGKILL, 0);

	printf("# 64 busy descendants were gone after %llu us\n",
	       (unsigned long long)(took / 1000));
	CHECK(in_time);
}

TEST(tree_ends_with_its_parent_also_in_the_middle_of_init)
{
	uint64_t worst = 0;

	for (unsigned round = 0; round < 40; round++) {
		uint64_t took = outlived(3, 3, 0, PARENT_INITS, SIGKILL, 1 + round * 400);

		CHECK(in_time);
		worst = took > worst ? took : worst;
	}
	printf("# the slowest was gone after %llu us\n", (unsigned long long)(worst / 1000));
}

/* A stopped process cannot notice anything; the kernel wakes it, or a process above kills it. */
TEST(stopped_tree_ends_with_its_parent)
{
	int pipe_ends[2];
	pid_t pid, pids[64];
	unsigned count;
	char c;

	say_prepare();
	hear_nothing();
	CHECK_EQ(pipe(pipe_ends), 0);
	pid = fork();
	if (pid == 0) {
		close(pipe_ends[0]);
		be_parent(3, 2, 0, PARENT_IDLE);
	}
	close(pipe_ends[1]);
	heard();
	count = descendants(pids, 64);
	for (unsigned i = 0; i < count; i++)
		if (pids[i] != pid)
			kill(pids[i], SIGSTOP);
	kill(pid, SIGKILL);
	CHECK_EQ(read(pipe_ends[0], &c, 1), 0);
	close(pipe_ends[0]);
	waitpid(pid, NULL, 0);
}

static void *init_in_a_thread(void *argument)
{
	int *result = argument;

	*result = dw_worker_init(chain.worker[0]);
	return NULL;
}

/* PDEATHSIG follows the death of a thread; it must not follow the death of this one. */
TEST(tree_outlives_the_thread_that_made_it)
{
	pthread_t thread;
	int result = -1;

	chain_create(3, 1, 0, NULL);
	pthread_create(&thread, NULL, init_in_a_thread, &result);
	pthread_join(thread, NULL);
	CHECK_EQ(result, 0);
	pause_ms(50);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(chain_run((struct order){ .depth = 2, .how = BREAK_NOT }), 0);
	CHECK_EQ(chain.cells[0], 10);
	chain_destroy();
}
