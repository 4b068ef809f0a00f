// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Cholesky (tiles.h) in the library's processes: cholesky [--children N] [--side N]. */
#include <distworker/distworker.h>
#include "tiles.h"

struct bench {
	dw_callable kinds[TILE_KINDS];
	double *matrix;
	int side;
	struct dw_orch *orch;
	struct dw_args *args;
};

static int side_of(const struct dw_args *args)
{
	return (int)dw_args_tensor(args, 0)->shape[0];
}

static int sub_potrf(const struct dw_args *args, void *context)
{
	(void)context;
	tile_potrf(dw_args_data(args, 0), side_of(args));
	return 0;
}

static int sub_trsm(const struct dw_args *args, void *context)
{
	(void)context;
	tile_trsm(dw_args_data(args, 1), dw_args_data(args, 0), side_of(args));
	return 0;
}

static int sub_syrk(const struct dw_args *args, void *context)
{
	(void)context;
	tile_syrk(dw_args_data(args, 1), dw_args_data(args, 0), side_of(args));
	return 0;
}

static int sub_gemm(const struct dw_args *args, void *context)
{
	(void)context;
	tile_gemm(dw_args_data(args, 1), dw_args_data(args, 2), dw_args_data(args, 0),
		  side_of(args));
	return 0;
}

static void add_tile(struct bench *bench, int row, int column, enum dw_tag tag)
{
	uint32_t shape[] = { (uint32_t)bench->side, (uint32_t)bench->side };
	struct dw_tensor tensor;

	dw_tensor_init(&tensor, tile_at(bench->matrix, bench->side, row, column), DW_FLOAT64, shape,
		       2);
	if (dw_args_add_tensor(bench->args, &tensor, tag))
		fail("dw_args_add_tensor");
}

static void submit(enum tile_kind kind, int row, int column, int k, void *context)
{
	struct bench *bench = context;

	dw_args_reset(bench->args);
	add_tile(bench, row, column, DW_INOUT);
	if (kind == TILE_TRSM)
		add_tile(bench, k, k, DW_INPUT);
	else if (kind != TILE_POTRF)
		add_tile(bench, row, k, DW_INPUT);
	if (kind == TILE_GEMM)
		add_tile(bench, column, k, DW_INPUT);
	if (dw_submit(bench->orch, bench->kinds[kind], bench->args, NULL, NULL))
		fail("dw_submit");
}

static int run(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
	       void *context)
{
	struct bench *bench = context;

	(void)in, (void)config;
	bench->orch = orch;
	factorise(bench->side, submit, bench);
	return 0;
}

int main(int argc, char **argv)
{
	static dw_sub_fn *const functions[] = { sub_potrf, sub_trsm, sub_syrk, sub_gemm };
	static const char *const names[] = { "potrf", "trsm", "syrk", "gemm" };
	struct bench bench = { .side = (int)argument(argc, argv, "side", 128) };
	struct dw_worker *root = new_worker(DW_LEVEL_NODE,
					    (uint32_t)argument(argc, argv, "children", 2));
	uint64_t start;
	int err = 0;

	openblas_set_num_threads(1);
	for (int i = 0; i < TILE_KINDS && !err; i++)
		err = dw_callable_register_sub(root, names[i], functions[i], NULL, &bench.kinds[i]);
	if (err || dw_buffer_create(root, sizeof(double) * ORDER * ORDER, (void **)&bench.matrix) ||
	    dw_worker_init(root) || dw_args_create(&bench.args))
		fail("open");
	/* The first time warms up: pages of each process, OpenBLAS's own memory. */
	for (int warm = 0; warm < 2; warm++) {
		fill_tiles(bench.matrix, bench.side);
		start = now_ns();
		if (dw_worker_run(root, run, NULL, NULL, &bench))
			fail("dw_worker_run");
		start = now_ns() - start;
	}
	print_cholesky(bench.matrix, bench.side, start);
	dw_args_destroy(bench.args);
	dw_worker_destroy(root);
	return 0;
}
