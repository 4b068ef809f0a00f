// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Vector addition of 16,384 floats on a simulated chip: chip [--block-dim N] [--tasks N] [--image
 * FILE]. Times each task from its submit to the end of the wait for it, copies included; then all
 * at once.
 */
#include <distworker/distworker.h>
#include "bench.h"

#define ELEMENTS 16384

struct bench {
	dw_callable add;
	uint64_t tasks;
	int32_t block_dim;
	bool waits;
	float *vectors;			/* a, b, c */
	double *samples;
};

static int orchestrate(struct dw_orch *orch, const struct dw_args *in,
		       const struct dw_config *config, void *context)
{
	static const enum dw_tag tags[] = { DW_INPUT, DW_INPUT, DW_OUTPUT };
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct bench *bench = context;
	uint32_t shape = ELEMENTS;
	struct dw_args *args;

	(void)in, (void)config;
	options.config.block_dim = bench->block_dim;
	if (dw_args_create(&args))
		fail("dw_args_create");
	for (size_t i = 0; i < 3; i++) {
		struct dw_tensor tensor;

		dw_tensor_init(&tensor, bench->vectors + i * ELEMENTS, DW_FLOAT32, &shape, 1);
		if (dw_args_add_tensor(args, &tensor, tags[i]))
			fail("dw_args_add_tensor");
	}
	for (uint64_t i = 0; i < bench->tasks; i++) {
		uint64_t start = now_ns();

		if (dw_submit(orch, bench->add, args, &options, NULL) ||
		    (bench->waits && dw_orch_wait(orch)))
			fail("submit");
		if (bench->waits)
			bench->samples[i] = (double)(now_ns() - start);
	}
	dw_args_destroy(args);
	return 0;
}

int main(int argc, char **argv)
{
	struct bench bench = {
		.tasks = argument(argc, argv, "tasks", 2000),
		.block_dim = (int32_t)argument(argc, argv, "block-dim", 1),
	};
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	struct dw_chip_options chip = { .driver = "sim" };
	struct dw_worker *root;
	uint64_t start;

	options.chip_count = 1;
	options.chip_size = sizeof(struct dw_chip_options);
	options.chips = &chip;
	image.driver = "sim";
	image.entry = "vector_add";
	image.path = getenv("BENCH_IMAGE");
	bench.samples = calloc(bench.tasks, sizeof(double));
	if (dw_worker_create(DW_LEVEL_NODE, &options, &root) ||
	    dw_buffer_create(root, 3 * ELEMENTS * sizeof(float), (void **)&bench.vectors) ||
	    dw_worker_init(root) || dw_callable_register_image(root, &image, &bench.add))
		fail("open");
	for (size_t i = 0; i < 2 * ELEMENTS; i++)
		bench.vectors[i] = (float)i;
	bench.waits = true;
	if (dw_worker_run(root, orchestrate, NULL, NULL, &bench))
		fail("dw_worker_run");
	print("median_us", percentile(bench.samples, bench.tasks, 0.5) / 1e3);
	print("p99_us", percentile(bench.samples, bench.tasks, 0.99) / 1e3);
	if (bench.vectors[2 * ELEMENTS + 5] != 5.0f + (float)(ELEMENTS + 5)) {
		fprintf(stderr, "chip: wrong sum\n");
		return 1;
	}
	bench.waits = false;
	start = now_ns();
	if (dw_worker_run(root, orchestrate, NULL, NULL, &bench))
		fail("dw_worker_run");
	print("streamed_us", (double)(now_ns() - start) / 1e3 / (double)bench.tasks);
	dw_worker_destroy(root);
	return 0;
}
