/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A pod over two nodes: the pod hands each node a half of an array, the node its sub workers parts
 * of that.
 */
#include <stdio.h>
#include <distworker/distworker.h>

#define NUMBERS 4096
#define PARTS 4

static dw_callable square, share;
static int64_t *numbers;

static int square_task(const struct dw_args *args, void *context)
{
	int64_t *part = dw_args_data(args, 0);

	(void)context;
	for (uint32_t i = 0; i < dw_args_tensor(args, 0)->shape[0]; i++)
		part[i] *= part[i];
	return 0;
}

/* Submits `count` equal parts of `all`; part i goes to child i, or to any sub worker. */
static int submit_parts(struct dw_orch *orch, dw_callable callable, const struct dw_tensor *all,
			uint32_t count, int directed)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	uint32_t rows = all->shape[0] / count;
	struct dw_tensor part;
	struct dw_args *args;
	int error = dw_args_create(&args);

	for (uint32_t i = 0; i < count && !error; i++) {
		dw_args_reset(args);
		options.place = directed ? DW_PLACE(i) : 0;
		error = dw_tensor_slice(all, i * rows, rows, &part);
		if (!error)
			error = dw_args_add_tensor(args, &part, DW_INOUT);
		if (!error)
			error = dw_submit(orch, callable, args, &options, NULL);
	}
	dw_args_destroy(args);
	return error;
}

/* In a node: a task of the pod, which ends when the tasks that it submits have ended. */
static int share_task(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	(void)config, (void)context;
	return submit_parts(orch, square, dw_args_tensor(args, 0), PARTS, 0);
}

static int orchestrate(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	uint32_t shape = NUMBERS;
	struct dw_tensor all;

	(void)args, (void)config, (void)context;
	dw_tensor_init(&all, numbers, DW_INT64, &shape, 1);
	return submit_parts(orch, share, &all, dw_orch_worker_count(orch), 1);
}

int main(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *pod, *node;
	int64_t sum = 0;
	int error = dw_worker_create(DW_LEVEL_POD, NULL, &pod);

	options.subs = 2;
	for (int i = 0; i < 2 && !error; i++) {
		error = dw_worker_create(DW_LEVEL_NODE, &options, &node);
		if (!error)
			error = dw_worker_add_child(pod, node, NULL);
	}
	/* At the root: every Worker below knows them. */
	if (error || dw_callable_register_sub(pod, "square", square_task, NULL, &square) ||
	    dw_callable_register_orch(pod, "share", share_task, NULL, &share) ||
	    dw_buffer_create(pod, NUMBERS * sizeof(*numbers), (void **)&numbers) ||
	    dw_worker_init(pod)) {
		fprintf(stderr, "%s\n", dw_strerror_last());
		return 1;
	}
	for (int i = 0; i < NUMBERS; i++)
		numbers[i] = i;
	if (dw_worker_run(pod, orchestrate, NULL, NULL, NULL)) {
		fprintf(stderr, "%s\n", dw_strerror_last());
		return 1;
	}
	for (int i = 0; i < NUMBERS; i++)
		sum += numbers[i];
	printf("%lld\n", (long long)sum);
	dw_worker_destroy(pod);
	return 0;
}
