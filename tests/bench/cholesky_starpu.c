// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Cholesky (tiles.h) in StarPU: cholesky_starpu [--side N]; STARPU_NCPU says how many workers. */
#include <starpu.h>
#include "tiles.h"

struct bench {
	int side;
	starpu_data_handle_t *handles;
};

static double *buffer(void *interface)
{
	return (double *)STARPU_MATRIX_GET_PTR(interface);
}

static int side_of(void *interface)
{
	return (int)STARPU_MATRIX_GET_NX(interface);
}

static void run_potrf(void *b[], void *unused)
{
	(void)unused;
	tile_potrf(buffer(b[0]), side_of(b[0]));
}

static void run_trsm(void *b[], void *unused)
{
	(void)unused;
	tile_trsm(buffer(b[1]), buffer(b[0]), side_of(b[0]));
}

static void run_syrk(void *b[], void *unused)
{
	(void)unused;
	tile_syrk(buffer(b[1]), buffer(b[0]), side_of(b[0]));
}

static void run_gemm(void *b[], void *unused)
{
	(void)unused;
	tile_gemm(buffer(b[1]), buffer(b[2]), buffer(b[0]), side_of(b[0]));
}

#define CODELET(function, count) { \
	.cpu_funcs = { function }, .nbuffers = count, .name = #function, \
	.modes = { STARPU_RW, STARPU_R, STARPU_R } }

static struct starpu_codelet codelets[] = {
	CODELET(run_potrf, 1), CODELET(run_trsm, 2), CODELET(run_syrk, 2), CODELET(run_gemm, 3),
};

static void submit(enum tile_kind kind, int row, int column, int k, void *context)
{
	struct bench *bench = context;
	int tiles = ORDER / bench->side, count = 0;
	struct starpu_task *task = starpu_task_create();

	task->cl = &codelets[kind];
	task->handles[count++] = bench->handles[row * tiles + column];
	if (kind == TILE_TRSM)
		task->handles[count++] = bench->handles[k * tiles + k];
	else if (kind != TILE_POTRF)
		task->handles[count++] = bench->handles[row * tiles + k];
	if (kind == TILE_GEMM)
		task->handles[count++] = bench->handles[column * tiles + k];
	if (starpu_task_submit(task))
		exit(1);
}

int main(int argc, char **argv)
{
	struct bench bench = { .side = (int)argument(argc, argv, "side", 128) };
	double *matrix = malloc(sizeof(double) * ORDER * ORDER);
	int tiles = ORDER / bench.side;
	uint32_t side = (uint32_t)bench.side;
	uint64_t start;

	openblas_set_num_threads(1);
	if (starpu_init(NULL))
		return 1;
	bench.handles = calloc((size_t)(tiles * tiles), sizeof(*bench.handles));
	for (int warm = 0; warm < 2; warm++) {
		fill_tiles(matrix, bench.side);
		for (int i = 0; i < tiles * tiles; i++)
			starpu_matrix_data_register(&bench.handles[i], STARPU_MAIN_RAM,
				(uintptr_t)tile_at(matrix, bench.side, i / tiles, i % tiles), side,
				side, side, sizeof(double));
		start = now_ns();
		factorise(bench.side, submit, &bench);
		starpu_task_wait_for_all();
		start = now_ns() - start;
		for (int i = 0; i < tiles * tiles; i++)
			starpu_data_unregister(bench.handles[i]);
	}
	print_cholesky(matrix, bench.side, start);
	starpu_shutdown();
	return 0;
}
