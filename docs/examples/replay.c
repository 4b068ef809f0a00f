/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * One step of a computation, recorded once and replayed a thousand times: x = a x + b, over blocks,
 * with another `a` in each step, and two buffers in turn.
 */
#include <stdio.h>
#include <distworker/distworker.h>

#define BLOCKS 16
#define CELLS 64
#define STEPS 1000

static dw_callable scale;
static uint64_t *buffers[2], *offsets;

/* tensors: from, offset, to; a scalar: the factor. All modulo a prime. */
static int scale_task(const struct dw_args *args, void *context)
{
	const uint64_t *from = dw_args_data(args, 0), *offset = dw_args_data(args, 1);
	uint64_t *to = dw_args_data(args, 2), factor = dw_args_scalar(args, 0);

	(void)context;
	for (uint32_t i = 0; i < dw_args_tensor(args, 0)->shape[0]; i++)
		to[i] = (factor * from[i] + offset[i]) % 1000003;
	return 0;
}

static struct dw_tensor whole(uint64_t *data)
{
	uint32_t shape = BLOCKS * CELLS;
	struct dw_tensor tensor;

	dw_tensor_init(&tensor, data, DW_UINT64, &shape, 1);
	return tensor;
}

static int submit_step(struct dw_orch *orch, const struct dw_tensor *from,
		       const struct dw_tensor *to, uint64_t factor)
{
	struct dw_tensor offset = whole(offsets), part;
	const struct dw_tensor *tensors[] = { from, &offset, to };
	enum dw_tag tags[] = { DW_INPUT, DW_INPUT, DW_OUTPUT };
	struct dw_args *args;
	int error = dw_args_create(&args);

	for (uint32_t block = 0; block < BLOCKS && !error; block++) {
		dw_args_reset(args);
		for (int i = 0; i < 3 && !error; i++) {
			error = dw_tensor_slice(tensors[i], block * CELLS, CELLS, &part);
			if (!error)
				error = dw_args_add_tensor(args, &part, tags[i]);
		}
		if (!error)
			error = dw_args_add_scalar(args, factor);
		if (!error)
			error = dw_submit(orch, scale, args, NULL, NULL);
		/* Inside a recording: the factor is scalar 0 of each replay. */
		if (!error)
			error = dw_record_scalar(orch, 0, 0, 0);
	}
	dw_args_destroy(args);
	return error;
}

static int orchestrate(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_record_options options = DW_OPTIONS(dw_record_options);
	struct dw_tensor both[] = { whole(buffers[0]), whole(buffers[1]) };
	struct dw_graph *step;
	int error;

	(void)args, (void)config, (void)context;
	options.name = "step";
	options.parameters = both;
	options.parameter_count = 2;
	error = dw_record_begin(orch, &options);
	if (!error)
		error = submit_step(orch, &both[0], &both[1], 1);
	if (!error)
		error = dw_record_end(orch, &step);
	for (uint64_t i = 2; i <= STEPS && !error; i++) {
		struct dw_tensor turned[] = { both[(i - 1) % 2], both[i % 2] };

		error = dw_replay(orch, step, turned, 2, &i, 1);
	}
	/* Goes when its tasks have ended. */
	if (!error)
		dw_graph_destroy(step);
	return error;
}

int main(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	uint64_t bytes = BLOCKS * CELLS * sizeof(uint64_t), sum = 0;
	struct dw_worker *node;
	int error;

	options.subs = 2;
	error = dw_worker_create(DW_LEVEL_NODE, &options, &node);
	if (error) {
		fprintf(stderr, "%s\n", dw_strerror_last());
		return 1;
	}
	error = dw_callable_register_sub(node, "scale", scale_task, NULL, &scale);
	for (int i = 0; i < 2 && !error; i++)
		error = dw_buffer_create(node, bytes, (void **)&buffers[i]);
	if (!error)
		error = dw_buffer_create(node, bytes, (void **)&offsets);
	for (uint64_t i = 0; i < BLOCKS * CELLS && !error; i++) {
		buffers[0][i] = i;
		offsets[i] = 3 * i + 1;
	}
	if (!error)
		error = dw_worker_init(node);
	if (!error)
		error = dw_worker_run(node, orchestrate, NULL, NULL, NULL);
	for (uint64_t i = 0; i < BLOCKS * CELLS && !error; i++)
		sum += buffers[STEPS % 2][i];
	if (error)
		fprintf(stderr, "%s\n", dw_strerror_last());
	else
		printf("%llu\n", (unsigned long long)sum);
	dw_worker_destroy(node);
	return error != 0;
}
