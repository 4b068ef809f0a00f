/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the tests of failures: callables that break, a chain of Workers up to four levels deep,
 * and a pipe by which a callable reports that it has begun.
 */
#ifndef TESTS_FAILURE_H
#define TESTS_FAILURE_H

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include "runtime.h"

#define MS 1000000ULL
#define SECOND_NS 1000000000ULL

static inline int orch_nothing(struct dw_orch *orch, const struct dw_args *args,
			       const struct dw_config *config, void *context)
{
	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	return 0;
}

/* A pipe made before the first fork: every callable can write to it, the test reads. */
static int said[2] = { -1, -1 };

static inline void say_prepare(void)
{
	if (said[0] < 0 && pipe2(said, O_CLOEXEC) < 0) {
		printf("# pipe2: %s%s\n", strerror(errno), errno == EMFILE ? " (ulimit -n)" : "");
		exit(1);
	}
}

static inline void say(void)
{
	pid_t pid = getpid();

	if (write(said[1], &pid, sizeof(pid)) != sizeof(pid))
		abort();
}

/* Reads the pid that the next callable reports; 0: none does. */
static inline pid_t heard(void)
{
	pid_t pid = 0;

	if (!unit_polled(said[0], POLLIN) || read(said[0], &pid, sizeof(pid)) != sizeof(pid))
		return 0;
	return pid;
}

static inline void hear_nothing(void)
{
	struct pollfd fd = { .fd = said[0], .events = POLLIN };
	char dust[4096];

	while (poll(&fd, 1, 0) == 1)
		if (read(said[0], dust, sizeof(dust)) <= 0)
			break;
}

static inline void pause_ms(unsigned ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

/* Does the process exist, and is it no zombie? */
static inline bool lives(pid_t pid)
{
	char path[64], line[512], *end, state = 'Z';
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(line, sizeof(line), file) && (end = strrchr(line, ')')))
		state = end[2];
	fclose(file);
	return state != 'Z' && state != 'X';
}

/*
 * Waits for a process whose end was reported. It has no memory and no descriptors any more, but the
 * kernel may not have finished its exit. The process would not end by itself.
 */
static inline bool is_over(pid_t pid)
{
	uint64_t begun = now_ns();

	while (lives(pid)) {
		if (!unit_within(begun, 20 * SECOND_NS))
			return false;
		pause_ms(1);
	}
	return true;
}

/* ---------------------------------------------------------------- callables */

/* How a callable breaks; the task's first scalar. */
enum break_how {
	BREAK_NOT,	/* tensor[0] += 1 */
	BREAK_SIGNAL,	/* the second scalar's */
	BREAK_EXIT,	/* with status 3 */
	BREAK_HANG,	/* reports its pid, and never returns */
	BREAK_SLOW,	/* reports its pid, takes 100 ms and the second scalar's, adds 1 */
	/*
	 * says its pid, takes the second scalar's ms in slices, which a stop of this process does
	 * not shorten
	 */
	BREAK_SLICES,
	BREAK_ONCE,	/* dies by the signal, unless the second cell says that a child did */
	BREAK_ASK,	/* reports its pid, and returns -ECANCELED when it is cancelled */
	BREAK_ERROR,	/* returns the second scalar's, with a text */
};

static inline int sub_break(const struct dw_args *args, void *context)
{
	volatile int64_t *cell = dw_args_data(args, 0);

	(void)context;
	switch ((enum break_how)dw_args_int(args, 0)) {
	case BREAK_SIGNAL:
		kill(getpid(), (int)dw_args_int(args, 1));
		break;
	case BREAK_EXIT:
		_exit(3);
	case BREAK_HANG:
		say();
		for (;;)
			pause();
	case BREAK_SLOW:
		say();
		pause_ms(100 + (unsigned)dw_args_int(args, 1));
		break;
	case BREAK_SLICES:
		say();
		for (int64_t ms = 0; ms < dw_args_int(args, 1); ms += 10)
			pause_ms(10);
		break;
	case BREAK_ONCE:
		if (!cell[1]) {
			cell[1] = 1;
			kill(getpid(), (int)dw_args_int(args, 1));
		}
		break;
	case BREAK_ASK:
		say();
		while (!dw_task_cancelled())
			pause_ms(1);
		return -ECANCELED;
	case BREAK_ERROR:
		return dw_task_fail((int)dw_args_int(args, 1), "as it was told");
	case BREAK_NOT:
		break;
	}
	__atomic_fetch_add(cell, 1, __ATOMIC_RELAXED);
	return 0;
}

/* ------------------------------------------------------------------- chains */

#define CHAIN_MOST 4

struct chain {
	struct dw_worker *worker[CHAIN_MOST];	/* [0] is the root */
	unsigned levels;
	int64_t *cells;				/* 4,096 bytes */
	dw_callable broken, down;
};

static struct chain chain;
/* The host of each level: NULL is this one. The root's is NULL. */
static const char *chain_hosts[CHAIN_MOST];
/* Processes of the test that do not belong to a tree. */
static int chain_bystanders;

struct order {
	unsigned depth;			/* of the sub worker that gets the task */
	enum break_how how;
	int64_t detail;
	unsigned cell;			/* of chain.cells: the first of its two */
	struct dw_submit_options options;	/* at the depth, and on the way down */
	bool options_on_the_way;
};

static inline int submit_order(struct dw_orch *orch, dw_callable callable,
			       const struct order *order, int64_t *cells, unsigned depth,
			       struct dw_submit_options *options)
{
	struct dw_tensor tensor;
	struct dw_args *args;
	uint32_t shape = 2;
	int result;

	dw_tensor_init(&tensor, cells, DW_INT64, &shape, 1);
	dw_args_create(&args);
	dw_args_add_tensor(args, &tensor, DW_INOUT);
	dw_args_add_int(args, order->how);
	dw_args_add_int(args, order->detail);
	dw_args_add_int(args, depth);
	dw_args_add_int(args, order->cell);
	result = dw_submit(orch, callable, args, options, NULL);
	dw_args_destroy(args);
	return result;
}

/* At the root the order comes in the context, below it in the arguments. */
static inline int orch_down_chain(struct dw_orch *orch, const struct dw_args *args,
				  const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct order below = { 0 };
	const struct order *order = context;
	int64_t *cells;
	unsigned depth;

	(void)config;
	if (args && dw_args_scalar_count(args)) {
		below.how = (enum break_how)dw_args_int(args, 0);
		below.detail = dw_args_int(args, 1);
		depth = (unsigned)dw_args_int(args, 2);
		below.cell = (unsigned)dw_args_int(args, 3);
		order = &below;
		cells = dw_args_data(args, 0);
	} else {
		depth = order->depth;
		cells = chain.cells + order->cell;
		if (order->options.size && (!depth || order->options_on_the_way))
			options = order->options;
	}
	options.name = "deep";
	return submit_order(orch, depth ? chain.down : chain.broken, order, cells,
			    depth ? depth - 1 : 0, &options);
}

static inline void set_small(struct dw_worker_options *options)
{
	options->heap_ring_bytes = 16 << 20;
	options->arena_bytes = 32 << 20;
	/* Longer than the default, for busy machines: an init that hangs makes the test hang. */
	if (!options->init_timeout_ns)
		options->init_timeout_ns = 1000 * SECOND_NS;
}

static inline void chain_register(struct dw_worker *root)
{
	CHECK_EQ(dw_callable_register_sub(root, "break", sub_break, NULL, &chain.broken), 0);
	CHECK_EQ(dw_callable_register_orch(root, "down", orch_down_chain, NULL, &chain.down), 0);
}

/*
 * Levels[0] is the root: `levels` Workers, one below the other, each with `subs` subs; mode of
 * level i is THREAD where bit i of `threads` is set. `base` has the other options; NULL: defaults.
 */
static inline void chain_create(unsigned levels, uint32_t subs, unsigned threads,
				const struct dw_worker_options *base)
{
	memset(&chain, 0, sizeof(chain));
	chain.levels = levels;
	say_prepare();
	hear_nothing();
	for (unsigned i = 0; i < levels; i++) {
		struct dw_worker_options options = base ? *base :
			(struct dw_worker_options)DW_OPTIONS(dw_worker_options);

		options.subs = subs;
		options.host = chain_hosts[i];
		options.mode = threads >> i & 1 ? DW_THREAD : DW_PROCESS;
		set_small(&options);
		CHECK_EQ(dw_worker_create(DW_LEVEL_NODE + levels - 1 - i, &options,
					  &chain.worker[i]), 0);
		if (i)
			CHECK_EQ(dw_worker_add_child(chain.worker[i - 1], chain.worker[i], NULL),
				 0);
	}
	chain_register(chain.worker[0]);
	CHECK_EQ(dw_buffer_create(chain.worker[0], 4096, (void **)&chain.cells), 0);
}

static inline void chain_init(unsigned levels, uint32_t subs, unsigned threads,
			      const struct dw_worker_options *base)
{
	chain_create(levels, subs, threads, base);
	if (!CHECK_EQ(dw_worker_init(chain.worker[0]), 0))
		printf("# %s\n", dw_strerror_last());
}

/* The names of the processes: "cluster0/supernode0/pod0/node0" for the deepest of four. */
static inline const char *chain_path(unsigned depth)
{
	static const char *const names[] = { "node0", "pod0", "supernode0", "cluster0" };
	static char path[96];

	path[0] = '\0';
	for (unsigned i = 0; i <= depth; i++)
		snprintf(path + strlen(path), sizeof(path) - strlen(path), "%s%s", i ? "/" : "",
			 names[chain.levels - 1 - i]);
	return path;
}

static inline int chain_run(struct order order)
{
	return dw_worker_run(chain.worker[0], orch_down_chain, NULL, NULL, &order);
}

static inline struct dw_run *chain_start(struct order *order, uint64_t timeout_ns)
{
	struct dw_run_options options = DW_OPTIONS(dw_run_options);
	struct dw_run *run = NULL;

	options.timeout_ns = timeout_ns;
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_down_chain, NULL, NULL, order, &options,
				 &run), 0);
	return run;
}

static inline pid_t pid_of(const char *path)
{
	struct dw_child_stats stats[64];
	size_t count = 64;

	if (dw_worker_stats(chain.worker[0], stats, sizeof(stats[0]), &count) < 0)
		return 0;
	for (size_t i = 0; i < count && i < 64; i++)
		if (strcmp(stats[i].path, path) == 0)
			return stats[i].pid;
	return 0;
}

/*
 * Checks that nothing of a tree is left. Sessions of nodes end by themselves after the tree's
 * close.
 */
static inline void check_none_left(void)
{
	uint64_t begun = now_ns();

	while (chain_bystanders && descendants(NULL, 0) > (unsigned)chain_bystanders &&
	       unit_within(begun, 20 * SECOND_NS))
		pause_ms(1);
	CHECK_EQ(descendants(NULL, 0), chain_bystanders);
}

/* Takes the chain down. */
static inline void chain_destroy(void)
{
	dw_worker_destroy(chain.worker[0]);
	check_none_left();
}

static inline void check_text(const char *part)
{
	CHECK_STR(dw_strerror_last(), part);
}

/* A file beside the test program. */
static inline const char *beside(const char *name)
{
	static char path[PATH_MAX];
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[n > 0 ? n : 0] = '\0';
	snprintf(path, sizeof(path), "%.2000s/%s", dirname(exe), name);
	return path;
}

/*
 * Runs `body` in a child, so that its limits end with it. Its status is the number of its failures.
 */
static inline void apart(void (*body)(void))
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		unit_failures = 0;
		body();
		fflush(stdout);
		_exit(unit_failures);
	}
	waitpid(pid, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline unsigned count_fds(void)
{
	return count_dir("/proc/self/fd");
}

#endif
