/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Cholesky in tiles for both runtimes: a matrix of 2,048 x 2,048 float64, the same tile
 * kernels (OpenBLAS, one thread), the same order of submission, the same check.
 */
#ifndef TESTS_BENCH_TILES_H
#define TESTS_BENCH_TILES_H

#include <math.h>
#include <cblas.h>
#include "bench.h"

#define ORDER 2048

extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void openblas_set_num_threads(int count);

/* Tiles are column-major, the lower triangle counts. */
static inline void tile_potrf(double *a, int side)
{
	int info;

	dpotrf_("L", &side, a, &side, &info);
	if (info) {
		fprintf(stderr, "dpotrf: %d\n", info);
		abort();
	}
}

static inline void tile_trsm(const double *diagonal, double *a, int side)
{
	cblas_dtrsm(CblasColMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, side, side,
		    1.0, diagonal, side, a, side);
}

static inline void tile_syrk(const double *a, double *c, int side)
{
	cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, side, side, -1.0, a, side, 1.0, c,
		    side);
}

static inline void tile_gemm(const double *a, const double *b, double *c, int side)
{
	cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, side, side, side, -1.0, a, side, b,
		    side, 1.0, c, side);
}

enum tile_kind { TILE_POTRF, TILE_TRSM, TILE_SYRK, TILE_GEMM, TILE_KINDS };

/* Symmetric, its diagonal dominates: positive definite. */
static inline double element(int row, int column)
{
	return row == column ? ORDER + 1.0 : 1.0 / (1.0 + abs(row - column) % 97);
}

static inline double *tile_at(double *matrix, int side, int row, int column)
{
	return matrix + ((size_t)row * (ORDER / side) + column) * side * side;
}

static inline void fill_tiles(double *matrix, int side)
{
	for (int row = 0; row < ORDER; row++)
		for (int column = 0; column < ORDER; column++)
			tile_at(matrix, side, row / side, column / side)
				[column % side * side + row % side] = element(row, column);
}

/* task(kind, output tile, inputs) in the order of a right-looking factorisation. */
typedef void submit_tile(enum tile_kind kind, int row, int column, int k, void *context);

static inline void factorise(int side, submit_tile *submit, void *context)
{
	int tiles = ORDER / side;

	for (int k = 0; k < tiles; k++) {
		submit(TILE_POTRF, k, k, k, context);
		for (int row = k + 1; row < tiles; row++)
			submit(TILE_TRSM, row, k, k, context);
		for (int row = k + 1; row < tiles; row++) {
			for (int column = k + 1; column < row; column++)
				submit(TILE_GEMM, row, column, k, context);
			submit(TILE_SYRK, row, row, k, context);
		}
	}
}

/* Largest relative difference of L's diagonal to the one of an untiled factorisation. */
static inline UNUSED double check_tiles(double *matrix, int side)
{
	double *whole = malloc(sizeof(double) * ORDER * ORDER), worst = 0;

	for (int row = 0; row < ORDER; row++)
		for (int column = 0; column < ORDER; column++)
			whole[(size_t)column * ORDER + row] = element(row, column);
	tile_potrf(whole, ORDER);
	for (int i = 0; i < ORDER; i++) {
		double want = whole[(size_t)i * ORDER + i];
		double got = tile_at(matrix, side, i / side, i / side)[i % side * side + i % side];
		double difference = fabs(got - want) / want;

		if (difference > worst || isnan(difference))
			worst = difference;
	}
	free(whole);
	return worst;
}

static inline void print_cholesky(double *matrix, int side, uint64_t ns)
{
	double wrong = check_tiles(matrix, side);

	if (!(wrong < 1e-12)) {
		fprintf(stderr, "cholesky: wrong by %g\n", wrong);
		exit(1);
	}
	print("ms", (double)ns / 1e6);
	print("gflops", (double)ORDER * ORDER * ORDER / 3 / (double)ns);
}

#endif
