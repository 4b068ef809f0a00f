// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * One task per millisecond: CPU time per task over all processes, and the time
 * from the submit to its end. sparse task|futex [--tasks N]: the library, or two
 * processes that hand a word to each other with a futex, at the same rate.
 */
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <distworker/distworker.h>
#include "bench.h"

#define PERIOD_NS 1000000

struct bench {
	uint64_t tasks;
	double *samples;
	uint64_t cpu;
	dw_callable nothing;
};

static uint64_t cpu_of_all(void)
{
	pid_t pids[MAX_PROCESSES];

	return cpu_ns(pids, process_tree(getpid(), pids, MAX_PROCESSES));
}

static void print_all(struct bench *bench)
{
	print("cpu_us", (double)bench->cpu / 1e3 / (double)bench->tasks);
	print("latency_us", percentile(bench->samples, bench->tasks, 0.5) / 1e3);
	print("latency_p99_us", percentile(bench->samples, bench->tasks, 0.99) / 1e3);
}

/* ------------------------------------------------------------------ library */

static int paced(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		 void *context)
{
	struct bench *bench = context;
	uint64_t next = now_ns(), start;
	struct dw_args *args;

	(void)in, (void)config;
	if (dw_args_create(&args))
		fail("dw_args_create");
	for (uint64_t i = 0; i < bench->tasks; i++) {
		next += PERIOD_NS;
		sleep_until(next);
		start = now_ns();
		if (dw_submit(orch, bench->nothing, args, NULL, NULL) || dw_orch_wait(orch))
			fail("submit");
		bench->samples[i] = (double)(now_ns() - start);
	}
	dw_args_destroy(args);
	return 0;
}

static void with_library(struct bench *bench)
{
	struct dw_worker *root = new_worker(DW_LEVEL_NODE, 1);
	uint64_t tasks = bench->tasks, before;

	if (dw_callable_register_sub(root, "nothing", sub_nothing, NULL, &bench->nothing) ||
	    dw_worker_init(root))
		fail("dw_worker_init");
	bench->tasks = 200;
	if (dw_worker_run(root, paced, NULL, NULL, bench))
		fail("dw_worker_run");
	bench->tasks = tasks;
	before = cpu_of_all();
	if (dw_worker_run(root, paced, NULL, NULL, bench))
		fail("dw_worker_run");
	bench->cpu = cpu_of_all() - before;
	print_all(bench);
	dw_worker_destroy(root);
}

/* -------------------------------------------------------------------- futex */

struct shared {
	_Alignas(64) _Atomic uint32_t ping;
	_Alignas(64) _Atomic uint32_t pong;
};

static void wait_until_not(_Atomic uint32_t *word, uint32_t value)
{
	while (atomic_load(word) == value)
		syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void add_and_wake(_Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void answer(struct shared *shared)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint32_t i = 0;; i++) {
		wait_until_not(&shared->ping, i);
		add_and_wake(&shared->pong);
	}
}

static void with_futex(struct bench *bench)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t next, start, before;
	pid_t child = fork();

	if (child == 0)
		answer(shared);
	sleep_ns(NS_PER_S / 10);
	before = cpu_of_all();
	next = now_ns();
	for (uint32_t i = 0; i < bench->tasks; i++) {
		next += PERIOD_NS;
		sleep_until(next);
		start = now_ns();
		add_and_wake(&shared->ping);
		wait_until_not(&shared->pong, i);
		bench->samples[i] = (double)(now_ns() - start);
	}
	bench->cpu = cpu_of_all() - before;
	print_all(bench);
	end_process(child);
}

int main(int argc, char **argv)
{
	struct bench bench = { .tasks = argument(argc, argv, "tasks", 1000) };

	bench.samples = calloc(bench.tasks + 200, sizeof(double));
	if (argc > 1 && !strcmp(argv[1], "task"))
		with_library(&bench);
	else if (argc > 1 && !strcmp(argv[1], "futex"))
		with_futex(&bench);
	else
		return 2;
	return 0;
}
