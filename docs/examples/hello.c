/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* A node with two sub workers; each task adds its number to one shared cell, in order. */
#include <stdio.h>
#include <distworker/distworker.h>

static dw_callable add;

static int add_task(const struct dw_args *args, void *context)
{
	(void)context;
	*(int64_t *)dw_args_data(args, 0) += dw_args_int(args, 0);
	return 0;
}

static int orchestrate(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *cell)
{
	struct dw_tensor sum;
	struct dw_args *in;
	int error = dw_args_create(&in);

	(void)args, (void)config;
	dw_tensor_init(&sum, cell, DW_INT64, NULL, 0);
	for (int64_t i = 1; i <= 1000 && !error; i++) {
		dw_args_reset(in);
		dw_args_add_tensor(in, &sum, DW_INOUT);	/* the tag is all the synchronisation */
		dw_args_add_int(in, i);
		error = dw_submit(orch, add, in, NULL, NULL);
	}
	dw_args_destroy(in);
	return error;
}

int main(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *node;
	void *cell;

	options.subs = 2;
	if (dw_worker_create(DW_LEVEL_NODE, &options, &node) ||
	    dw_callable_register_sub(node, "add", add_task, NULL, &add) ||
	    dw_buffer_create(node, sizeof(int64_t), &cell) || dw_worker_init(node) ||
	    dw_worker_run(node, orchestrate, NULL, NULL, cell)) {
		fprintf(stderr, "%s\n", dw_strerror_last());
		return 1;
	}
	printf("%lld\n", (long long)*(int64_t *)cell);
	dw_worker_destroy(node);
	return 0;
}
