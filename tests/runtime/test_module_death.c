/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Deaths that the module reports: at the end of the address space, before the spawner has reaped
 * the process. Spawners are stopped here, so that every report comes from the module.
 */
#include <linux/sched.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include "failure.h"

#define NEEDS_MODULE() \
	do { \
		struct dw_provider_info info = DW_OPTIONS(dw_provider_info); \
		const char *wanted = getenv("DW_PROVIDER"); \
		dw_provider_query(&info); \
		if (info.provider != DW_PROVIDER_KERNEL || (wanted && strcmp(wanted, "kernel"))) \
			SKIP("it is the module that tells"); \
	} while (0)

/*
 * Stops the spawner, and lets it go on after a while, so that a test that hangs without it ends. By
 * ptrace, since the library continues a spawner that a signal has stopped. The thread is the
 * tracer.
 */
struct stopped {
	pid_t spawner;
	pthread_t thread;
	sem_t is_stopped;
	int wake[2];
	bool in_time;
};

static void *hold(void *argument)
{
	struct stopped *stopped = argument;

	CHECK_EQ(ptrace(PTRACE_SEIZE, stopped->spawner, NULL, NULL), 0);
	CHECK_EQ(ptrace(PTRACE_INTERRUPT, stopped->spawner, NULL, NULL), 0);
	CHECK_EQ(waitpid(stopped->spawner, NULL, __WALL), stopped->spawner);
	sem_post(&stopped->is_stopped);
	stopped->in_time = unit_polled(stopped->wake[0], POLLIN);
	CHECK_EQ(ptrace(PTRACE_DETACH, stopped->spawner, NULL, NULL), 0);
	return NULL;
}

static void stop_spawner(struct stopped *stopped, pid_t child)
{
	stopped->spawner = parent_of(child);
	REQUIRE(pipe2(stopped->wake, O_CLOEXEC) == 0);
	sem_init(&stopped->is_stopped, 0, 0);
	pthread_create(&stopped->thread, NULL, hold, stopped);
	sem_wait(&stopped->is_stopped);
}

/* Was it stopped all the time? */
static bool continue_spawner(struct stopped *stopped)
{
	if (write(stopped->wake[1], "", 1) != 1)
		abort();
	pthread_join(stopped->thread, NULL);
	close(stopped->wake[0]);
	close(stopped->wake[1]);
	return stopped->in_time;
}

static pid_t first_sub(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/sub0", chain_path(0));
	return pid_of(path);
}

static struct dw_engine_stats engine_stats(void)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);

	CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &stats), 0);
	return stats;
}

static void wait_for_deaths(uint64_t deaths)
{
	while (engine_stats().deaths < deaths)
		pause_ms(1);
}

TEST(failed_task_is_final_before_its_worker_is_reaped)
{
	static const int signals[] = { SIGKILL, SIGSEGV };

	NEEDS_MODULE();
	for (unsigned round = 0; round < 4; round++) {
		struct order order = { .how = BREAK_HANG };
		struct stopped stopped;
		struct dw_run *run;
		char wanted[128];
		pid_t sub;

		/* The other one has died before, and lies there. */
		chain_init(1, 2, 0, NULL);
		run = chain_start(&order, 0);
		sub = heard();
		stop_spawner(&stopped, sub);
		if (round / 2) {
			pid_t other = first_sub();

			if (other == sub)
				other = pid_of("node0/sub1");
			kill(other, SIGKILL);
			wait_for_deaths(1);
		}
		kill(sub, signals[round % 2]);
		CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
		snprintf(wanted, sizeof(wanted),
			 "task 1 \"deep\" (break): EOWNERDEAD: killed by %s, pid %d",
			 round % 2 ? "SIGSEGV" : "SIGKILL", (int)sub);
		check_text(wanted);
		CHECK_EQ(parent_of(sub), stopped.spawner);
		CHECK(continue_spawner(&stopped));
		chain_destroy();
	}
}

TEST(callable_that_exits_is_reported_with_its_status_before_it_is_reaped)
{
	struct order order = { .how = BREAK_SLOW };
	struct stopped stopped;
	struct dw_run *run;
	pid_t sub;

	NEEDS_MODULE();
	chain_init(1, 1, 0, NULL);
	run = chain_start(&order, 0);
	sub = heard();
	stop_spawner(&stopped, sub);
	CHECK_EQ(dw_run_wait(run), 0);
	order.how = BREAK_EXIT;
	CHECK_EQ(chain_run(order), -EOWNERDEAD);
	check_text("exited with status 3, pid ");
	CHECK(continue_spawner(&stopped));
	chain_destroy();
}

/* No thread waits in the foreground. */
TEST(death_while_idle_is_known_before_the_dead_one_is_reaped)
{
	struct stopped stopped;
	pid_t sub;

	NEEDS_MODULE();
	chain_init(1, 1, 0, NULL);
	sub = first_sub();
	stop_spawner(&stopped, sub);
	kill(sub, SIGKILL);
	wait_for_deaths(1);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), -ENODEV);
	check_text("killed by SIGKILL, pid ");
	CHECK_EQ(parent_of(sub), stopped.spawner);
	CHECK(continue_spawner(&stopped));
	chain_destroy();
}

/* ---------------------------------------------- helpers that may still write */

enum helper_how {
	HELPER_CHILD,
	HELPER_ORPHAN,
	HELPER_SIBLING,
	HELPER_OF_THREAD,
	HELPER_SHARES,
	HELPERS
};

static volatile int64_t *helper_cell;

static int scribble(void *unused)
{
	(void)unused;
	setsid();
	say();
	for (;;)
		++*helper_cell;
	return 0;
}

static void *start_helper(void *unused)
{
	(void)unused;
	if (fork() == 0)
		scribble(NULL);
	for (;;)
		pause();
	return NULL;
}

/* So much memory that the kernel takes longer to free it than the parent to notice. */
#define LARGE (64 << 20)

/* Leaves a helper behind that counts in its first cell, and waits for its own end. */
static int sub_with_helper(const struct dw_args *args, void *context)
{
	enum helper_how how = (enum helper_how)dw_args_int(args, 0);
	struct clone_args arguments = { .flags = CLONE_PARENT };
	static char stack[65536];
	pthread_t thread;
	void *memory;
	pid_t middle;

	(void)context;
	helper_cell = dw_args_data(args, 0);
	memory = mmap(NULL, LARGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		return -errno;
	switch (how) {
	case HELPER_CHILD:
		if (fork() == 0)
			scribble(NULL);
		break;
	case HELPER_ORPHAN:
		middle = fork();
		if (middle == 0) {
			if (fork() == 0)
				scribble(NULL);
			_exit(0);
		}
		waitpid(middle, NULL, 0);
		break;
	case HELPER_SIBLING:
		if (syscall(SYS_clone3, &arguments, sizeof(arguments)) == 0)
			scribble(NULL);
		break;
	case HELPER_OF_THREAD:
		pthread_create(&thread, NULL, start_helper, NULL);
		break;
	case HELPER_SHARES:
	default:
		clone(scribble, stack + sizeof(stack), CLONE_VM, NULL);
		break;
	}
	for (;;)
		pause();
	return 0;
}

static int orch_helper(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, chain.broken, chain.cells, DW_INOUT, *(int *)context, NULL, NULL);
}

TEST(failed_task_is_not_final_while_a_helper_of_its_worker_lives)
{
	NEEDS_MODULE();
	for (int how = 0; how < HELPERS; how++) {
		volatile int64_t *cell;
		struct stopped stopped;
		struct dw_run *run;
		int64_t before;
		pid_t sub;

		chain_create(1, 1, 0, NULL);
		CHECK_EQ(dw_callable_register_sub(chain.worker[0], "helper", sub_with_helper, NULL,
						  &chain.broken), 0);
		CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
		cell = chain.cells;
		sub = first_sub();
		CHECK_EQ(dw_worker_start(chain.worker[0], orch_helper, NULL, NULL, &how, NULL,
					 &run),
			 0);
		CHECK(heard() > 0);
		stop_spawner(&stopped, sub);
		kill(sub, SIGKILL);
		wait_for_deaths(1);
		pause_ms(50);
		CHECK_EQ(engine_stats().failed, 0);
		before = *cell;
		pause_ms(20);
		CHECK(*cell != before);
		CHECK(continue_spawner(&stopped));
		CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
		*cell = -5;
		pause_ms(20);
		CHECK_EQ(*cell, -5);
		chain_destroy();
	}
}

/* ----------------------------------------------------------------------- exec */

static int sub_exec(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	say();
	execl("/bin/sleep", "sleep", "1000", (char *)NULL);
	return -errno;
}

/* Before, the process lived on as another program, and its task was never answered. */
TEST(callable_that_calls_exec_is_an_error_and_its_process_ends)
{
	int how = 0;
	pid_t sub;

	NEEDS_MODULE();
	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "exec", sub_exec, NULL, &chain.broken),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_helper, NULL, NULL, &how), -EOWNERDEAD);
	check_text("node0/sub0: task 1 (exec): EOWNERDEAD: killed by SIGKILL, pid ");
	check_text("(it has called exec, and can answer no more)");
	sub = heard();
	CHECK(sub > 0 && is_over(sub));
	chain_destroy();
}
