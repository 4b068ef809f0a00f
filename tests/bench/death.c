// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * From SIGKILL of a child in the middle of a task to the error at the caller, and the same kill
 * seen by a bare poll of a pidfd. death task|pidfd [--deaths N] [--siblings N] [--mib N] [--shared
 * 1]: N busy siblings; N MiB of memory that the victim has touched, its own or shared with the
 * caller.
 */
#include <poll.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <distworker/distworker.h>
#include "bench.h"

#define MIB (1024 * 1024)
/* For one tree: fewer than make the library give up a crashing child. */
#define DEATHS_PER_TREE 4

struct shared {
	_Atomic int32_t victim;		/* pid, once it is in its task */
	_Atomic int32_t stop;
	_Atomic int32_t busy;
	uint64_t mib;
	char *memory;			/* shared; NULL: the victim's own */
};

struct bench {
	struct shared *shared;
	struct dw_worker *root;
	dw_callable hang, spin;
	void *cell;
	uint64_t deaths, siblings;
	double *samples;
};

static char *map(uint64_t mib, int flags)
{
	char *memory = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return memory;
}

/* With siblings the victim is busy like them, otherwise it sleeps. */
static void be_victim(struct shared *shared, bool busy)
{
	char *memory = shared->memory;

	if (shared->mib && !memory)
		memory = map(shared->mib, MAP_PRIVATE);
	for (uint64_t i = 0; i < shared->mib * MIB; i += 4096)
		memory[i] = 1;
	atomic_store(&shared->victim, getpid());
	for (;;)
		if (!busy)
			pause();
}

static void be_busy(struct shared *shared)
{
	atomic_fetch_add(&shared->busy, 1);
	while (!atomic_load_explicit(&shared->stop, memory_order_relaxed))
		;
}

static void reset(struct shared *shared)
{
	atomic_store(&shared->victim, 0);
	atomic_store(&shared->busy, 0);
	atomic_store(&shared->stop, 0);
}

/* Kills it once all children work; returns the time. */
static uint64_t kill_victim(struct bench *bench)
{
	struct shared *shared = bench->shared;
	uint64_t start;

	while (!atomic_load(&shared->victim) ||
	       (uint64_t)atomic_load(&shared->busy) < bench->siblings)
		sleep_ns(200000);
	sleep_ns(2000000);
	start = now_ns();
	kill(atomic_load(&shared->victim), SIGKILL);
	return start;
}

static void print_all(struct bench *bench)
{
	for (uint64_t i = 0; i < bench->deaths; i++)
		print("death_ms", bench->samples[i] / 1e6);
}

/* ------------------------------------------------------------------ library */

static int sub_hang(const struct dw_args *args, void *context)
{
	be_victim(context, dw_args_scalar(args, 0) != 0);
	return 0;
}

static int sub_spin(const struct dw_args *args, void *context)
{
	(void)args;
	be_busy(context);
	return 0;
}

static int one(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
	       void *context)
{
	struct bench *bench = context;
	struct dw_args *args;

	(void)in, (void)config;
	if (dw_args_create(&args) || dw_args_add_scalar(args, bench->siblings != 0) ||
	    dw_submit(orch, bench->hang, args, NULL, NULL))
		fail("victim");
	dw_args_destroy(args);
	return 0;
}

static int others(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		  void *context)
{
	struct bench *bench = context;
	struct dw_args *args;

	(void)in, (void)config;
	if (dw_args_create(&args))
		fail("dw_args");
	for (uint64_t i = 0; i < bench->siblings; i++)
		if (dw_submit(orch, bench->spin, args, NULL, NULL))
			fail("sibling");
	dw_args_destroy(args);
	return 0;
}

static void open_tree(struct bench *bench)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.subs = (uint32_t)bench->siblings + 1;
	options.restart = DW_RESTART_ON_DEATH;
	if (dw_worker_create(DW_LEVEL_NODE, &options, &bench->root) ||
	    dw_callable_register_sub(bench->root, "hang", sub_hang, bench->shared, &bench->hang) ||
	    dw_callable_register_sub(bench->root, "spin", sub_spin, bench->shared, &bench->spin) ||
	    dw_worker_init(bench->root))
		fail("dw_worker_init");
}

static void with_library(struct bench *bench)
{
	struct dw_run *victim, *busy;
	uint64_t start;

	for (uint64_t i = 0; i < bench->deaths; i++) {
		if (i % DEATHS_PER_TREE == 0) {
			dw_worker_destroy(bench->root);
			open_tree(bench);
		}
		reset(bench->shared);
		if (dw_worker_start(bench->root, others, NULL, NULL, bench, NULL, &busy) ||
		    dw_worker_start(bench->root, one, NULL, NULL, bench, NULL, &victim))
			fail("dw_worker_start");
		start = kill_victim(bench);
		if (dw_run_wait(victim) != -EOWNERDEAD)
			fail("the death was not reported");
		bench->samples[i] = (double)(now_ns() - start);
		atomic_store(&bench->shared->stop, 1);
		if (dw_run_wait(busy))
			fail("the siblings");
	}
	print_all(bench);
	dw_worker_destroy(bench->root);
}

/* -------------------------------------------------------------------- pidfd */

static void with_pidfd(struct bench *bench)
{
	pid_t siblings[256];

	for (uint64_t i = 0; i < bench->deaths; i++) {
		struct pollfd watch = { .events = POLLIN };
		uint64_t start;
		pid_t victim;

		reset(bench->shared);
		for (uint64_t s = 0; s < bench->siblings; s++) {
			siblings[s] = fork();
			if (siblings[s] == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				be_busy(bench->shared);
				_exit(0);
			}
		}
		victim = fork();
		if (victim == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			be_victim(bench->shared, bench->siblings != 0);
		}
		watch.fd = (int)syscall(SYS_pidfd_open, victim, 0);
		start = kill_victim(bench);
		if (poll(&watch, 1, -1) != 1)
			exit(1);
		bench->samples[i] = (double)(now_ns() - start);
		atomic_store(&bench->shared->stop, 1);
		close(watch.fd);
		waitpid(victim, NULL, 0);
		for (uint64_t s = 0; s < bench->siblings; s++)
			waitpid(siblings[s], NULL, 0);
	}
	print_all(bench);
}

int main(int argc, char **argv)
{
	struct bench bench = {
		.deaths = argument(argc, argv, "deaths", 20),
		.siblings = argument(argc, argv, "siblings", 0),
	};

	bench.samples = calloc(bench.deaths, sizeof(double));
	bench.shared = mmap(NULL, sizeof(*bench.shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bench.shared->mib = argument(argc, argv, "mib", 0);
	if (bench.shared->mib && argument(argc, argv, "shared", 0))
		bench.shared->memory = map(bench.shared->mib, MAP_SHARED);
	if (argc > 1 && !strcmp(argv[1], "task"))
		with_library(&bench);
	else if (argc > 1 && !strcmp(argv[1], "pidfd") && bench.siblings <= 256)
		with_pidfd(&bench);
	else
		return 2;
	return 0;
}
