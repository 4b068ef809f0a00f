/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Shared by the tests of runs: a start, and tasks that wait for a byte of the test. */
#ifndef TESTS_RUNS_H
#define TESTS_RUNS_H

#include <semaphore.h>
#include "failure.h"

/* Waits up to 20 s, longer on a slow machine: if no post has arrived by then, the test hangs. */
static inline bool sem_comes(sem_t *sem)
{
	uint64_t begun = now_ns();
	struct timespec end;

	do {
		clock_gettime(CLOCK_REALTIME, &end);
		end.tv_sec++;
		if (sem_timedwait(sem, &end) == 0)
			return true;
	} while ((errno == EINTR || errno == ETIMEDOUT) && unit_within(begun, 20 * SECOND_NS));
	return false;
}

static inline struct dw_run *start(dw_orch_fn *fn, void *context,
				   const struct dw_run_options *options)
{
	struct dw_run *run = NULL;

	if (!CHECK_EQ(dw_worker_start(chain.worker[0], fn, NULL, NULL, context, options, &run), 0))
		printf("# %s\n", dw_strerror_last());
	return run;
}

/* Tasks that each wait for a byte of the test. */
struct paced {
	int bytes[2];
};

static struct paced paced;

static inline int sub_paced(const struct dw_args *args, void *context)
{
	char byte;

	(void)context;
	if (read(paced.bytes[0], &byte, 1) != 1)
		return -EIO;
	__atomic_fetch_add((int64_t *)dw_args_data(args, 0), 1, __ATOMIC_RELAXED);
	return 0;
}

static dw_callable paced_callable;

static inline int orch_paced(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	unsigned count = *(const unsigned *)context;
	int result = 0;

	(void)args;
	(void)config;
	for (unsigned i = 0; i < count && !result; i++)
		result = submit_one(orch, paced_callable, &chain.cells[i], DW_INOUT, 0, NULL, NULL);
	return result;
}

static inline void paced_init(enum dw_mode mode, uint32_t subs)
{
	chain_create(1, subs, threads_of(mode), NULL);
	REQUIRE(pipe2(paced.bytes, O_CLOEXEC) == 0);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "paced", sub_paced, NULL,
					  &paced_callable), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
}

static inline void paced_destroy(void)
{
	chain_destroy();
	close(paced.bytes[0]);
	close(paced.bytes[1]);
}

static inline void let_pass(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		CHECK_EQ(write(paced.bytes[1], "x", 1), 1);
}

#endif
