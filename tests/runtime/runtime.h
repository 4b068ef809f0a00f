/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the runtime tests: small callables, a tree builder, and looks at /proc. The provider
 * comes from DW_PROVIDER; tests that make sense in both modes loop over them.
 */
#ifndef TESTS_RUNTIME_H
#define TESTS_RUNTIME_H

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <distworker/distworker.h>
#include "process.h"
#include "../unit/unit.h"

/*
 * One test, twice: children as processes, and as threads; its body has `mode`. The suite runs with
 * each provider, so that it is four times in all. MODES.md lists the tests for processes only.
 */
#define TEST_IN_BOTH_MODES(test_name) \
	static void test_name(enum dw_mode mode); \
	TEST(test_name##__processes) { test_name(DW_PROCESS); } \
	TEST(test_name##__threads) { test_name(DW_THREAD); } \
	static void test_name(enum dw_mode mode)

/* The same as a mask of levels, for chains. */
static inline unsigned threads_of(enum dw_mode mode)
{
	return mode == DW_THREAD ? ~0u : 0;
}

/* A deadline that a task reaches only if it hangs: longer if starting takes longer. */
static inline uint64_t ample(uint64_t ns)
{
	return ns * unit_slow() * unit_busy();
}

/* tensor[0] += scalar[0], int64 */
static inline int sub_add(const struct dw_args *args, void *context)
{
	int64_t *value = dw_args_data(args, 0);

	(void)context;
	/* Some tests read it before the task is done. */
	__atomic_store_n(value, *value + dw_args_int(args, 0), __ATOMIC_RELAXED);
	return 0;
}

static inline int sub_fail(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return dw_task_fail(EIO, "short read");
}

static inline int sub_nothing(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return 0;
}

/* Publishes its pid in tensor[0] (int64) and never returns. */
static inline int sub_hang(const struct dw_args *args, void *context)
{
	volatile int64_t *pid = dw_args_data(args, 0);

	(void)context;
	*pid = getpid();
	for (;;)
		pause();
	return 0;
}

struct callables {
	dw_callable add, fail, nothing, hang;
};

static inline int register_all(struct dw_worker *root, struct callables *c)
{
	int r = dw_callable_register_sub(root, "add", sub_add, NULL, &c->add);

	if (!r)
		r = dw_callable_register_sub(root, "fail", sub_fail, NULL, &c->fail);
	if (!r)
		r = dw_callable_register_sub(root, "nothing", sub_nothing, NULL, &c->nothing);
	if (!r)
		r = dw_callable_register_sub(root, "hang", sub_hang, NULL, &c->hang);
	return r;
}

static inline struct dw_worker *make_worker(uint32_t level, uint32_t subs, enum dw_mode mode)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	options.subs = subs;
	options.mode = mode;
	options.heap_ring_bytes = 64 << 20;
	options.arena_bytes = 256 << 20;
	/* The default, in the time of a quiet machine. */
	options.init_timeout_ns = ample(30000000000ULL);
	if (dw_worker_create(level, &options, &worker) < 0)
		fprintf(stderr, "# create: %s\n", dw_strerror_last());
	return worker;
}

/* Submits callable(tensor INOUT, value). */
static inline int submit_one(struct dw_orch *orch, dw_callable callable, void *data,
			     enum dw_tag tag, int64_t value,
			     const struct dw_submit_options *options, dw_task *task)
{
	struct dw_tensor tensor = scalar_tensor(data);
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	dw_args_add_tensor(args, &tensor, tag);
	dw_args_add_int(args, value);
	result = dw_submit(orch, callable, args, options, task);
	dw_args_destroy(args);
	return result;
}

#endif
