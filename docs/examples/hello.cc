/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* hello.c in C++: functions that the library calls are extern "C" or captureless lambdas. */
#include <cstdio>
#include <distworker/distworker.h>

static dw_callable add;

extern "C" {

static int add_task(const struct dw_args *args, void *)
{
	*static_cast<int64_t *>(dw_args_data(args, 0)) += dw_args_int(args, 0);
	return 0;
}

static int orchestrate(struct dw_orch *orch, const struct dw_args *, const struct dw_config *,
		       void *cell)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_tensor sum;
	struct dw_args *in;
	int error = dw_args_create(&in);

	options.name = "add";
	dw_tensor_init(&sum, cell, DW_INT64, nullptr, 0);
	for (int64_t i = 1; i <= 1000 && !error; i++) {
		dw_args_reset(in);
		dw_args_add_tensor(in, &sum, DW_INOUT);
		dw_args_add_int(in, i);
		error = dw_submit(orch, add, in, &options, nullptr);
	}
	dw_args_destroy(in);
	return error;
}

}

int main()
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *node;
	void *cell;

	options.subs = 2;
	if (dw_worker_create(DW_LEVEL_NODE, &options, &node) ||
	    dw_callable_register_sub(node, "add", add_task, nullptr, &add) ||
	    dw_buffer_create(node, sizeof(int64_t), &cell) || dw_worker_init(node) ||
	    dw_worker_run(node, orchestrate, nullptr, nullptr, cell)) {
		std::fprintf(stderr, "%s\n", dw_strerror_last());
		return 1;
	}
	std::printf("%lld\n", static_cast<long long>(*static_cast<int64_t *>(cell)));
	dw_worker_destroy(node);
	return 0;
}
