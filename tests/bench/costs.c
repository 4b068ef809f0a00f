/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* One repeat of the costs that tests/bench/python compares with the Python package's, in C. */
#include <distworker/distworker.h>
#include "bench.h"

#define TASKS 100
#define BATCHES 40
#define RUNS 400

static dw_callable nothing;

/* The median of BATCHES; the tasks of one are done before the next. */
static int orch_many(struct dw_orch *orch, const struct dw_args *given,
		     const struct dw_config *config, void *context)
{
	double times[BATCHES];
	struct dw_args *args;
	int result = dw_args_create(&args);

	(void)given;
	(void)config;
	for (int i = 0; i < BATCHES && result == 0; i++) {
		uint64_t begun = now_ns();

		for (int k = 0; k < TASKS && result == 0; k++)
			result = dw_submit(orch, nothing, args, NULL, NULL);
		times[i] = (double)(now_ns() - begun) / TASKS;
		if (result == 0)
			result = dw_orch_wait(orch);
	}
	*(double *)context = result == 0 ? percentile(times, BATCHES, 0.5) : 0;
	dw_args_destroy(args);
	return result;
}

static int orch_one(struct dw_orch *orch, const struct dw_args *given,
		    const struct dw_config *config, void *context)
{
	(void)given;
	(void)config;
	return dw_submit(orch, nothing, context, NULL, NULL);
}

static struct dw_child_stats child_of(struct dw_worker *node)
{
	struct dw_child_stats stats = { 0 };
	size_t count = 1;

	if (dw_worker_stats(node, &stats, sizeof(stats), &count) < 0)
		exit(1);
	return stats;
}

int main(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_child_stats before, after;
	struct dw_worker *node;
	struct dw_args *args;
	double times[RUNS], submit = 0;
	int result;

	options.subs = 1;
	result = dw_worker_create(DW_LEVEL_NODE, &options, &node);
	if (result == 0)
		result = dw_callable_register_sub(node, "nothing", sub_nothing, NULL, &nothing);
	if (result == 0)
		result = dw_worker_init(node);
	if (result == 0)
		result = dw_args_create(&args);
	if (result == 0)
		result = dw_worker_run(node, orch_many, NULL, NULL, &submit);
	before = child_of(node);
	if (result == 0)
		result = dw_worker_run(node, orch_many, NULL, NULL, &submit);
	after = child_of(node);
	for (int i = 0; i < RUNS && result == 0; i++) {
		uint64_t begun = now_ns();

		result = dw_worker_run(node, orch_one, NULL, NULL, args);
		times[i] = (double)(now_ns() - begun);
	}
	if (result < 0) {
		fprintf(stderr, "costs: %s\n", dw_strerror_last());
		return 1;
	}
	print("submit", submit);
	print("child", (double)(after.busy_ns - before.busy_ns) / (TASKS * BATCHES));
	print("run", percentile(times, RUNS, 0.5));
	/* The child goes to sleep some time after its last task. */
	sleep_ns(NS_PER_S / 2);
	before = child_of(node);
	sleep_ns(2 * NS_PER_S);
	after = child_of(node);
	print("idle", (double)(after.wakes - before.wakes + after.sleeps - before.sleeps));
	dw_args_destroy(args);
	dw_worker_destroy(node);
	return 0;
}
