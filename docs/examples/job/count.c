/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* A small job: `distworker run ./count.so -- 500` adds 500 numbers on the root's sub workers. */
#include <errno.h>
#include <stdlib.h>
#include <distworker/job.h>

static struct count {
	int64_t sum, wanted;
	dw_callable add;
} * shared;

static int add_task(const struct dw_args *args, void *context)
{
	(void)context;
	*(int64_t *)dw_args_data(args, 0) += dw_args_int(args, 0);
	return 0;
}

/* Before the hierarchy comes up: options, callables, memory. */
static int prepare(const struct distworker_job_environment *environment, void **state)
{
	void *memory;
	int error = dw_buffer_create(environment->root, sizeof(*shared), &memory);

	if (error)
		return error;
	shared = *state = memory;
	shared->wanted = environment->argc > 1 ? atoll(environment->argv[1]) : 100;
	if (shared->wanted < 1)
		return environment->fail(environment, EINVAL, "how many numbers? 1 or more, not %s",
					 environment->argv[1]);
	return dw_callable_register_sub(environment->root, "add", add_task, NULL, &shared->add);
}

static int run(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
	       void *context)
{
	struct dw_tensor sum;
	struct dw_args *in;
	int error = dw_args_create(&in);

	(void)args, (void)config, (void)context;
	dw_tensor_init(&sum, &shared->sum, DW_INT64, NULL, 0);
	for (int64_t i = 1; i <= shared->wanted && !error; i++) {
		dw_args_reset(in);
		error = dw_args_add_tensor(in, &sum, DW_INOUT);
		if (!error)
			error = dw_args_add_int(in, i);
		if (!error)
			error = dw_submit(orch, shared->add, in, NULL, NULL);
	}
	dw_args_destroy(in);
	return error;
}

static int report(void *state, const struct distworker_job_report *report)
{
	struct count *count = state;

	report->number(report, "sum", (double)count->sum, NULL);
	if (count->sum != count->wanted * (count->wanted + 1) / 2)
		return report->fail(report, EIO, "the sum is wrong");
	return 0;
}

static const struct distworker_job job = {
	.size = sizeof(job),
	.abi_version = DISTWORKER_JOB_ABI_VERSION,
	.name = "count",
	.description = "adds numbers",
	.usage = "  N    how many (100)\n",
	.prepare = prepare,
	.run = run,
	.report = report,
};

DISTWORKER_JOB_EXPORT const struct distworker_job *distworker_job_v1(void)
{
	return &job;
}
