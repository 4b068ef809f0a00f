// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* METG (graph.h) of the library: metg [--children N] [--stencil 0|1]. */
#include <distworker/distworker.h>
#include "graph.h"

#define CELL_BYTES 64

struct bench {
	struct dw_worker *root;
	dw_callable work;
	unsigned char *cells;		/* [2][WIDTH][CELL_BYTES] */
	const struct graph *graph;
};

static int sub_work(const struct dw_args *args, void *context)
{
	(void)context;
	work_units(dw_args_scalar(args, 0));
	return 0;
}

static void add_cell(struct bench *bench, struct dw_args *args, uint64_t step, uint64_t i,
		     enum dw_tag tag)
{
	struct dw_tensor tensor = bytes_tensor(bench->cells + (step % 2 * WIDTH + i) * CELL_BYTES,
					       CELL_BYTES);

	if (dw_args_add_tensor(args, &tensor, tag))
		fail("dw_args_add_tensor");
}

static int submit_graph(struct dw_orch *orch, const struct dw_args *in,
			const struct dw_config *config, void *context)
{
	struct bench *bench = context;
	struct dw_args *args;

	(void)in, (void)config;
	if (dw_args_create(&args))
		fail("dw_args_create");
	for (uint64_t step = 0; step < bench->graph->steps; step++) {
		for (uint64_t i = 0; i < WIDTH; i++) {
			dw_args_reset(args);
			if (bench->graph->stencil) {
				add_cell(bench, args, step, i, DW_OUTPUT);
				for (uint64_t k = i ? i - 1 : 0; step && k <= i + 1 && k < WIDTH;
				     k++)
					add_cell(bench, args, step - 1, k, DW_INPUT);
			}
			dw_args_add_scalar(args, bench->graph->units);
			if (dw_submit(orch, bench->work, args, NULL, NULL))
				fail("dw_submit");
		}
	}
	dw_args_destroy(args);
	return 0;
}

static void run(const struct graph *graph, void *context)
{
	struct bench *bench = context;

	bench->graph = graph;
	if (dw_worker_run(bench->root, submit_graph, NULL, NULL, bench))
		fail("dw_worker_run");
}

int main(int argc, char **argv)
{
	uint32_t children = (uint32_t)argument(argc, argv, "children", 1);
	unsigned cores = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	struct bench bench = { .root = NULL };
	double rate = units_per_ns(), peak = peak_rate(children < cores ? children : cores, rate);

	bench.root = new_worker(DW_LEVEL_NODE, children);

	if (dw_callable_register_sub(bench.root, "work", sub_work, NULL, &bench.work) ||
	    dw_buffer_create(bench.root, 2 * WIDTH * CELL_BYTES, (void **)&bench.cells) ||
	    dw_worker_init(bench.root))
		fail("dw_worker_init");
	print("metg_us", metg_us(rate, peak, argument(argc, argv, "stencil", 1), run, &bench));
	dw_worker_destroy(bench.root);
	return 0;
}
