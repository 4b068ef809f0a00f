// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * cholesky: A = L Lᵀ of a real symmetric positive definite matrix, in tiles.
 *
 * A is the kernel matrix of the digits, (x_i · x_j / 4096)² with a ridge on its
 * diagonal, float64. It is kept as columns of tiles: column j holds the tiles
 * (j, j) … (last, j), one behind the other. Right-looking: column k is
 * factored, then every column behind it is updated with it. A column is a task
 * of a nested Worker, a tile a task of a chip; the INOUT chain of each tile fixes the
 * order of its updates, and with it the bits of the result.
 *
 * Each column is checked as soon as it is final, by sub workers, against a matrix that
 * they make anew and with sums of their own.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <distworker/job.h>
#include "digits_data.h"
#include "options.h"
#include "submit.h"

#define SIDE_MULTIPLE 8
#define SIDE_MAX 256
#define TILES_MAX 128

/* Constant after prepare. */
struct cholesky {
	const struct distworker_tree *tree;
	uint64_t tiles, side, block_dim;
	double ridge, limit;
	const char *given, *kernels;
	char data[PATH_MAX], kernel_path[PATH_MAX];
	dw_callable load, build, check, factor_column, update_column;
	dw_callable potrf, trsm, syrk, gemm;
	/* Buffers of the arena. */
	uint8_t *pixels;		/* [order][DIGITS_PIXELS] */
	double *matrix;			/* the columns */
	struct column_sums *sums;	/* [tiles] */
};

/* Squares of A - L Lᵀ and of A, over one column; `final` last. */
struct column_sums {
	double error, matrix;
	uint32_t final, reserved;
};

/* Where a column is worked on. */
struct place {
	const struct cholesky *job;
	struct dw_orch *orch;
	struct dw_args *args;
	const struct distworker_tree_node *node;
};

static uint32_t order_of(const struct cholesky *job)
{
	return (uint32_t)(job->tiles * job->side);
}

static size_t tile_elements(const struct cholesky *job)
{
	return (size_t)job->side * job->side;
}

/* Tiles (row, column) … (last, column). */
static struct dw_tensor column_tensor(const struct cholesky *job, uint32_t column, uint32_t row)
{
	size_t before = column * job->tiles - (size_t)column * (column - 1) / 2 + (row - column);
	struct dw_tensor tensor = {
		.data = (uint64_t)(uintptr_t)(job->matrix + before * tile_elements(job)),
		.shape = { (uint32_t)job->tiles - row, (uint32_t)job->side, (uint32_t)job->side },
		.ndims = 3, .dtype = DW_FLOAT64,
	};

	return tensor;
}

/* ----------------------------------------------------------------- subs */

static int load_row(void *context, uint32_t row, const uint8_t values[DIGITS_COLUMNS],
		    struct digits_error *error)
{
	const struct cholesky *job = context;

	(void)error;
	memcpy(job->pixels + (size_t)(row - 1) * DIGITS_PIXELS, values, DIGITS_PIXELS);
	/* 1 ends the reading: the matrix has no more rows. */
	return row == order_of(job);
}

/* out: pixels */
static int sub_load(const struct dw_args *args, void *context)
{
	struct cholesky *job = context;
	struct digits_error error;
	int err = digits_read(job->data, load_row, job, &error);

	(void)args;
	if (err < 0)
		return dw_task_fail(-err, "%s", error.text);
	if (!err)
		return dw_task_fail(ENODATA,
				    "%s has fewer rows than the matrix, %u; take fewer --tiles",
				    job->data, order_of(job));
	return 0;
}

/* The element (r, c) of the matrix; integers up to the square, so that it has one value. */
static double element(const struct cholesky *job, const uint8_t *pixels, uint32_t r, uint32_t c)
{
	const uint8_t *x = pixels + (size_t)r * DIGITS_PIXELS;
	const uint8_t *y = pixels + (size_t)c * DIGITS_PIXELS;
	uint32_t sum = 0;
	double scaled;

	for (uint32_t k = 0; k < DIGITS_PIXELS; k++)
		sum += (uint32_t)x[k] * y[k];
	scaled = (double)sum / 4096.0;
	return scaled * scaled + (r == c ? job->ridge : 0.0);
}

/* in: pixels; out: a column; scalar: its index */
static int sub_build(const struct dw_args *args, void *context)
{
	const struct cholesky *job = context;
	const uint8_t *pixels = dw_args_data(args, 0);
	double *tile = dw_args_data(args, 1);
	uint32_t side = (uint32_t)job->side, column = (uint32_t)dw_args_scalar(args, 0);

	for (uint32_t row = column; row < job->tiles; row++, tile += tile_elements(job))
		for (uint32_t r = 0; r < side; r++)
			for (uint32_t c = 0; c < side; c++)
				tile[r * side + c] = element(job, pixels, row * side + r,
							     column * side + c);
	return 0;
}

/* Element (r, c) of L Lᵀ in the tile (row, column); tensor 2 + k begins with tile (column, k). */
static double product(const struct dw_args *args, uint32_t side, uint32_t column, uint32_t row,
		      uint32_t r, uint32_t c)
{
	double sum = 0.0;

	for (uint32_t k = 0; k <= column; k++) {
		const double *tiles = dw_args_data(args, 2 + k);
		const double *right = tiles + (size_t)c * side;
		const double *left = tiles + ((size_t)(row - column) * side + r) * side;

		for (uint32_t p = 0; p < side; p++)
			sum += left[p] * right[p];
	}
	return sum;
}

/* in: pixels; out: sums; in: tiles from row `column` on of columns 0 … column; scalar: column */
static int sub_check(const struct dw_args *args, void *context)
{
	const struct cholesky *job = context;
	const uint8_t *pixels = dw_args_data(args, 0);
	struct column_sums *sums = dw_args_data(args, 1);
	uint32_t side = (uint32_t)job->side, column = (uint32_t)dw_args_scalar(args, 0);
	double error = 0.0, matrix = 0.0;

	for (uint32_t row = column; row < job->tiles; row++) {
		/* Tiles below the diagonal stand for their mirror image too. */
		double weight = row == column ? 1.0 : 2.0;

		for (uint32_t r = 0; r < side; r++) {
			for (uint32_t c = 0; c < side; c++) {
				double value = element(job, pixels, row * side + r,
						       column * side + c);
				double rest = value - product(args, side, column, row, r, c);

				error += weight * rest * rest;
				matrix += weight * value * value;
			}
		}
	}
	sums->error = error;
	sums->matrix = matrix;
	/* Pairs with the acquire in columns_final(), which the tool calls during the run. */
	__atomic_store_n(&sums->final, 1, __ATOMIC_RELEASE);
	return 0;
}

/* -------------------------------------------------------- columns and tiles */

static int submit_tile(const struct place *place, dw_callable callable, const char *name,
		       const struct operand *operands, size_t count)
{
	struct submission task = { callable, name, DW_ANY, (uint32_t)place->job->block_dim,
				   operands, count, NULL, 0 };

	return submit_task(place->orch, place->args, &task);
}

/* Hands a column on to a Worker below; `spread` picks it, and its remainder picks the next ones. */
static int submit_column(const struct place *place, dw_callable callable, const char *name,
			 uint64_t spread, const struct operand *operands, size_t count)
{
	uint32_t child = place->node->children[spread % place->node->child_count];
	uint64_t scalars[] = { child, spread / place->node->child_count };
	struct submission task = { callable, name, place->job->tree->nodes[child].worker, 0,
				   operands, count, scalars, COUNT_OF(scalars) };

	return submit_task(place->orch, place->args, &task);
}

/* The column's tiles become those of L. */
static int factor_column(const struct place *place, uint64_t spread, struct dw_tensor *column)
{
	struct operand whole[] = { { column, DW_INOUT } };
	struct dw_tensor diagonal, tile;
	struct operand factor[] = { { &diagonal, DW_INOUT } };
	struct operand solve[] = { { &tile, DW_INOUT }, { &diagonal, DW_INPUT } };
	int err;

	if (place->node->child_count)
		return submit_column(place, place->job->factor_column, "factor column", spread,
				     whole, COUNT_OF(whole));
	err = dw_tensor_slice(column, 0, 1, &diagonal);
	if (!err)
		err = submit_tile(place, place->job->potrf, "potrf", factor, COUNT_OF(factor));
	for (uint32_t row = 1; row < column->shape[0] && !err; row++) {
		err = dw_tensor_slice(column, row, 1, &tile);
		if (!err)
			err = submit_tile(place, place->job->trsm, "trsm", solve, COUNT_OF(solve));
	}
	return err;
}

/* column -= by · (first tile of by)ᵀ; both begin with the same row. */
static int update_column(const struct place *place, uint64_t spread, struct dw_tensor *column,
			 struct dw_tensor *by)
{
	struct operand whole[] = { { column, DW_INOUT }, { by, DW_INPUT } };
	struct dw_tensor tile, left, right;
	struct operand diagonal[] = { { &tile, DW_INOUT }, { &right, DW_INPUT } };
	struct operand below[] = { { &tile, DW_INOUT }, { &left, DW_INPUT }, { &right, DW_INPUT } };
	int err;

	if (place->node->child_count)
		return submit_column(place, place->job->update_column, "update column", spread,
				     whole, COUNT_OF(whole));
	err = dw_tensor_slice(by, 0, 1, &right);
	for (uint32_t row = 0; row < column->shape[0] && !err; row++) {
		err = dw_tensor_slice(column, row, 1, &tile);
		if (!err)
			err = dw_tensor_slice(by, row, 1, &left);
		if (!err && !row)
			err = submit_tile(place, place->job->syrk, "syrk", diagonal,
					  COUNT_OF(diagonal));
		else if (!err)
			err = submit_tile(place, place->job->gemm, "gemm", below, COUNT_OF(below));
	}
	return err;
}

/* Both run on Workers below the root. in/out: as above; scalars: index in the tree, spread */
static int run_column(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	const struct cholesky *job = context;
	struct place place = { .job = job, .orch = orch };
	size_t tensors = dw_args_tensor_count(args);
	struct dw_tensor column, by;
	int err;

	(void)config;
	if (!tensors || tensors > 2 || dw_args_scalar(args, 0) >= job->tree->count)
		return dw_task_fail(EINVAL, "column: arguments that do not fit the hierarchy");
	place.node = &job->tree->nodes[dw_args_scalar(args, 0)];
	column = *dw_args_tensor(args, 0);
	err = dw_args_create(&place.args);
	if (err)
		return err;
	if (tensors == 1) {
		err = factor_column(&place, dw_args_scalar(args, 1), &column);
	} else {
		by = *dw_args_tensor(args, 1);
		err = update_column(&place, dw_args_scalar(args, 1), &column, &by);
	}
	dw_args_destroy(place.args);
	return err;
}

/* ----------------------------------------------------------------- the root */

static int submit_sub(const struct place *place, dw_callable callable, const char *name,
		      const struct operand *operands, size_t count, uint64_t scalar)
{
	struct submission task = { callable, name, DW_ANY, 0, operands, count, &scalar, 1 };

	return submit_task(place->orch, place->args, &task);
}

static int submit_input(const struct place *place, struct dw_tensor *pixels)
{
	const struct cholesky *job = place->job;
	struct operand load[] = { { pixels, DW_OUTPUT } };
	int err = submit_sub(place, job->load, "load", load, COUNT_OF(load), 0);

	for (uint32_t column = 0; column < job->tiles && !err; column++) {
		struct dw_tensor tensor = column_tensor(job, column, column);
		struct operand build[] = { { pixels, DW_INPUT }, { &tensor, DW_OUTPUT } };

		err = submit_sub(place, job->build, "build", build, COUNT_OF(build), column);
	}
	return err;
}

static int submit_check(const struct place *place, struct dw_tensor *pixels, uint32_t column)
{
	const struct cholesky *job = place->job;
	struct dw_tensor sums = tensor_of(&job->sums[column], DW_UINT8, sizeof(*job->sums), 0);
	struct dw_tensor columns[TILES_MAX];
	struct operand operands[2 + TILES_MAX] = { { pixels, DW_INPUT }, { &sums, DW_OUTPUT } };

	for (uint32_t k = 0; k <= column; k++) {
		columns[k] = column_tensor(job, k, column);
		operands[2 + k] = (struct operand){ &columns[k], DW_INPUT };
	}
	return submit_sub(place, job->check, "check", operands, 3 + column, column);
}

static int run_factorisation(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	const struct cholesky *job = context;
	struct dw_tensor pixels = tensor_of(job->pixels, DW_UINT8, order_of(job), DIGITS_PIXELS);
	struct place place = { .job = job, .orch = orch, .node = &job->tree->nodes[0] };
	int err = dw_args_create(&place.args);

	(void)args;
	(void)config;
	if (err)
		return err;
	err = submit_input(&place, &pixels);
	for (uint32_t k = 0; k < job->tiles && !err; k++) {
		struct dw_tensor column = column_tensor(job, k, k);

		err = factor_column(&place, k, &column);
		for (uint32_t j = k + 1; j < job->tiles && !err; j++) {
			struct dw_tensor target = column_tensor(job, j, j);
			struct dw_tensor by = column_tensor(job, k, j);

			err = update_column(&place, j, &target, &by);
		}
		if (!err)
			err = submit_check(&place, &pixels, k);
	}
	dw_args_destroy(place.args);
	return err;
}

/* --------------------------------------------------------------- preparation */

static int check_options(const struct distworker_job_environment *environment,
			 const struct cholesky *job)
{
	const struct distworker_tree *tree = environment->tree;

	if (job->side % SIDE_MULTIPLE)
		return environment->fail(environment, EINVAL,
					 "--side: %llu is not a multiple of %d",
					 (unsigned long long)job->side, SIDE_MULTIPLE);
	if (!tree->nodes[0].subs)
		return environment->fail(environment, EINVAL,
			"cholesky needs a sub worker on the root, %s has none (--subs 1)",
			tree->nodes[0].path);
	for (uint32_t i = 0; i < tree->count; i++) {
		const struct distworker_tree_node *node = &tree->nodes[i];

		if (!node->chip_count == !node->child_count)
			return environment->fail(
				environment, EINVAL,
				"cholesky needs either chips or Workers below each Worker, %s has "
				"%s",
				node->path, node->chip_count ? "both" : "neither");
	}
	return 0;
}

static int register_kernels(const struct distworker_job_environment *environment,
			    struct cholesky *job)
{
	static const int32_t signature[] = { DW_DIR_INOUT, DW_DIR_IN, DW_DIR_IN };
	const struct {
		const char *entry;
		size_t arguments;
		dw_callable *callable;
	} kernels[] = {
		{ "cholesky_potrf", 1, &job->potrf }, { "cholesky_trsm", 2, &job->trsm },
		{ "cholesky_syrk", 2, &job->syrk }, { "cholesky_gemm", 3, &job->gemm },
	};
	int err = 0;

	if (!job->kernels) {
		if (strcmp(environment->driver, "sim"))
			return environment->fail(environment, ENOENT,
				"cholesky has chip kernels for the driver sim only; for %s give an "
				"image with -- --kernels FILE", environment->driver);
		if (snprintf(job->kernel_path, sizeof(job->kernel_path), "%s/kernels/cholesky.so",
			     environment->folder) >= (int)sizeof(job->kernel_path))
			return environment->fail(
				environment, ENAMETOOLONG,
				"the path of the chip kernels is too long; give a file with -- "
				"--kernels FILE");
		job->kernels = job->kernel_path;
	}
	for (size_t i = 0; i < COUNT_OF(kernels) && !err; i++) {
		struct dw_image_options options = DW_OPTIONS(dw_image_options);

		options.driver = environment->driver;
		options.entry = kernels[i].entry;
		options.path = job->kernels;
		options.signature = signature;
		options.signature_count = kernels[i].arguments;
		err = dw_callable_register_image(environment->root, &options, kernels[i].callable);
	}
	return err;
}

static int register_functions(struct dw_worker *root, struct cholesky *job)
{
	int err = dw_callable_register_sub(root, "cholesky.load", sub_load, job, &job->load);

	if (!err)
		err = dw_callable_register_sub(root, "cholesky.build", sub_build, job, &job->build);
	if (!err)
		err = dw_callable_register_sub(root, "cholesky.check", sub_check, job, &job->check);
	if (!err)
		err = dw_callable_register_orch(root, "cholesky.factor", run_column, job,
						&job->factor_column);
	if (!err)
		err = dw_callable_register_orch(root, "cholesky.update", run_column, job,
						&job->update_column);
	return err;
}

static int make_buffers(struct dw_worker *root, struct cholesky *job)
{
	uint64_t tiles = job->tiles * (job->tiles + 1) / 2;
	int err = dw_buffer_create(root, (uint64_t)order_of(job) * DIGITS_PIXELS,
				   (void **)&job->pixels);

	if (!err)
		err = dw_buffer_create(root, tiles * tile_elements(job) * sizeof(double),
				       (void **)&job->matrix);
	if (!err)
		err = dw_buffer_create(root, job->tiles * sizeof(*job->sums), (void **)&job->sums);
	return err;
}

static int cholesky_prepare(const struct distworker_job_environment *environment, void **state)
{
	struct cholesky *job = calloc(1, sizeof(*job));
	const struct option_entry options[] = {
		{ "tiles", OPTION_COUNT, &job->tiles, 1, TILES_MAX },
		{ "side", OPTION_COUNT, &job->side, SIDE_MULTIPLE, SIDE_MAX },
		{ "block-dim", OPTION_COUNT, &job->block_dim, 1, 1024 },
		{ "ridge", OPTION_REAL, &job->ridge, 0, 1e9 },
		{ "limit", OPTION_REAL, &job->limit, 0, 1e9 },
		{ "data", OPTION_TEXT, &job->given, 0, 0 },
		{ "kernels", OPTION_TEXT, &job->kernels, 0, 0 },
	};
	int err;

	if (!job)
		return environment->fail(environment, ENOMEM, "no memory for the job");
	*state = job;
	*job = (struct cholesky){
		.tiles = 16, .side = 64, .block_dim = 1, .ridge = 0.01, .limit = 1e-13,
		.tree = environment->tree,
	};
	err = options_parse(environment, options, COUNT_OF(options));
	if (!err)
		err = check_options(environment, job);
	if (!err)
		err = digits_locate(environment, "digits.csv.gz", job->given, job->data,
				    sizeof(job->data));
	if (!err)
		err = register_functions(environment->root, job);
	if (!err)
		err = register_kernels(environment, job);
	if (!err)
		err = make_buffers(environment->root, job);
	return err;
}

/* -------------------------------------------------------------------- seeing */

static uint32_t columns_final(const struct cholesky *job)
{
	uint32_t count = 0;

	for (uint32_t column = 0; column < job->tiles; column++)
		count += __atomic_load_n(&job->sums[column].final, __ATOMIC_ACQUIRE);
	return count;
}

static double cholesky_status(void *state, char *text, size_t bytes)
{
	const struct cholesky *job = state;
	uint32_t count = columns_final(job);
	double left = 1.0 - (double)count / (double)job->tiles;

	snprintf(text, bytes, "column %u/%llu", count, (unsigned long long)job->tiles);
	/* The remaining work falls with the square of the columns. */
	return 1.0 - left * left;
}

static int cholesky_report(void *state, const struct distworker_job_report *report)
{
	const struct cholesky *job = state;
	size_t bytes = job->tiles * (job->tiles + 1) / 2 * tile_elements(job) * sizeof(double);
	double error = 0.0, matrix = 0.0, ratio;
	unsigned long crc = crc32(0, NULL, 0);
	char text[128];

	for (uint32_t column = 0; column < job->tiles; column++) {
		error += job->sums[column].error;
		matrix += job->sums[column].matrix;
	}
	for (size_t done = 0; done < bytes; done += tile_elements(job) * sizeof(double))
		crc = crc32(crc, (const Bytef *)job->matrix + done,
			    (uInt)(tile_elements(job) * sizeof(double)));
	ratio = matrix > 0.0 ? __builtin_sqrt(error / matrix) : 1.0;
	snprintf(text, sizeof(text), "%u x %u in tiles of %llu x %llu", order_of(job),
		 order_of(job), (unsigned long long)job->side, (unsigned long long)job->side);
	report->text(report, "matrix", text);
	snprintf(text, sizeof(text), "A - L Lt is %.3e of the matrix's norm", ratio);
	report->number(report, "residual", ratio, text);
	snprintf(text, sizeof(text), "0x%08lx", crc);
	report->text(report, "factor", text);
	if (!(ratio <= job->limit))
		return report->fail(report, ERANGE, "residual %.3e is above %.3e", ratio,
				    job->limit);
	return 0;
}

static void cholesky_release(void *state)
{
	free(state);
}

DISTWORKER_JOB_EXPORT const struct distworker_job *distworker_job_v1(void);

const struct distworker_job *distworker_job_v1(void)
{
	static const struct distworker_job job = {
		.size = sizeof(job),
		.abi_version = DISTWORKER_JOB_ABI_VERSION,
		.name = "cholesky",
		.description = "tiled Cholesky of the kernel matrix of the digits, with its check",
		.usage =
			"  --tiles N       tiles in a row of the matrix (16)\n"
			"  --side N        rows of a tile, a multiple of 8 (64)\n"
			"  --ridge X       added to the diagonal (0.01)\n"
			"  --limit X       the run has failed above this residual (1e-13)\n"
			"  --block-dim N   cores per chip task (1)\n"
			"  --data FILE     other data: 64 pixels 0-16 and the digit per row, CSV, "
			"may be gzipped\n"
			"  --kernels FILE  another chip image\n"
			"The result has the same bits whatever the hierarchy: compare `factor`.\n",
		.prepare = cholesky_prepare,
		.run = run_factorisation,
		.status = cholesky_status,
		.report = cholesky_report,
		.release = cholesky_release,
	};

	return &job;
}
