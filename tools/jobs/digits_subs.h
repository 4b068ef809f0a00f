/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The functions of the sub workers of the digits job: load, initialise, shuffle, gather,
 * add, update, evaluate; and the state of the job, which they get as their
 * context. Everything here is deterministic: one order for each sum, one
 * generator state for each purpose.
 */
#ifndef DISTWORKER_JOBS_DIGITS_SUBS_H
#define DISTWORKER_JOBS_DIGITS_SUBS_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <distworker/job.h>
#include "digits_data.h"
#include "digits_model.h"

#define DIGITS_PIECES 4		/* tasks of one evaluation */
#define DIGITS_HELD_OUT 5	/* every fifth row is held out */
#define DIGITS_MOMENTUM 0.9f
#define DIGITS_DECAY 1e-4f
#define DIGITS_GRAPHS 11	/* by the number of shards, a power of two up to 1,024 */

struct recorded_step;

/* In the arena: written by subs, read by the root's process. */
struct board {
	uint32_t train_rows, test_rows;	/* `load`, before the root's wait returns */
	_Atomic uint32_t steps_total, steps_done;
	float loss_sum;			/* of the epoch so far */
	float loss;			/* mean over the last epoch that is complete */
};

/* Constant after prepare, so that every process has the same. */
struct digits {
	const struct distworker_tree *tree;
	uint64_t epochs, batch, shards, hidden, rows, seed, block_dim;
	double rate, accuracy;
	const char *given, *kernels;
	char data[PATH_MAX], kernel_path[PATH_MAX];
	dw_callable gradient;
	dw_callable load, initialise, shuffle, gather, add, update, evaluate;
	dw_callable forward, backward, accumulate;
	/* Buffers of the arena. */
	float *train_x, *test_x, *parameters, *velocity;
	uint8_t *train_y, *test_y;
	struct board *board;
	uint32_t *results;		/* [epochs][DIGITS_PIECES] right answers */
	/* [tree->count][DIGITS_GRAPHS], each written by its Worker alone. */
	struct recorded_step *steps;
};

/* Independent generators from one seed. */
static uint64_t digits_stream(const struct digits *job, uint64_t stream)
{
	uint64_t state = job->seed;

	state = numeric_random(&state) ^ stream * 0xd1342543de82ef95u;
	return numeric_random(&state);
}

struct load_target {
	struct digits *job;
	uint32_t train_rows, test_rows;
};

static int load_row(void *context, uint32_t row, const uint8_t values[DIGITS_COLUMNS],
		    struct digits_error *error)
{
	struct load_target *target = context;
	const struct digits *job = target->job;
	bool held_out = (row - 1) % DIGITS_HELD_OUT == 0;
	uint32_t index = held_out ? target->test_rows++ : target->train_rows++;
	float *x = (held_out ? job->test_x : job->train_x) + (size_t)index * MODEL_INPUTS;

	if (row > job->rows)
		return digits_fail(error, EFBIG,
				   "row %u: there is room for %llu rows; --rows makes more", row,
				   (unsigned long long)job->rows);
	/* The mean of a pixel is near 5 of 16; exact in binary. */
	for (uint32_t k = 0; k < MODEL_INPUTS; k++)
		x[k] = (float)values[k] * 0.0625f - 0.3125f;
	(held_out ? job->test_y : job->train_y)[index] = values[DIGITS_PIXELS];
	return 0;
}

/* out: train_x, train_y, test_x, test_y, board */
static int sub_load(const struct dw_args *args, void *context)
{
	struct load_target target = { .job = context };
	struct digits_error error;
	int err = digits_read(target.job->data, load_row, &target, &error);

	(void)args;
	if (err)
		return dw_task_fail(-err, "%s", error.text);
	target.job->board->train_rows = target.train_rows;
	target.job->board->test_rows = target.test_rows;
	return 0;
}

/* out: parameters, velocity */
static int sub_initialise(const struct dw_args *args, void *context)
{
	const struct digits *job = context;
	uint32_t hidden = (uint32_t)job->hidden, length = model_parameters(hidden);
	float *parameters = dw_args_data(args, 0), *velocity = dw_args_data(args, 1);
	float *w2 = parameters + (MODEL_INPUTS + 1) * hidden;
	uint64_t state = digits_stream(job, 0);

	memset(parameters, 0, length * sizeof(float));
	memset(velocity, 0, length * sizeof(float));
	/* Uniform with the variance 2 / inputs that suits ReLU; 1 / hidden behind it. */
	for (uint32_t i = 0; i < MODEL_INPUTS * hidden; i++)
		parameters[i] = numeric_random_float(&state) * 0.306f;
	for (uint32_t i = 0; i < hidden * MODEL_CLASSES; i++)
		w2[i] = numeric_random_float(&state) * 0.216f;
	return 0;
}

/* out: order [rows]; scalar: epoch */
static int sub_shuffle(const struct dw_args *args, void *context)
{
	uint32_t *order = dw_args_data(args, 0);
	uint32_t rows = dw_args_tensor(args, 0)->shape[0];
	uint64_t state = digits_stream(context, 1 + dw_args_scalar(args, 0));

	for (uint32_t i = 0; i < rows; i++)
		order[i] = i;
	for (uint32_t i = rows; i > 1; i--) {
		uint32_t other = numeric_random_below(&state, i);
		uint32_t kept = order[i - 1];

		order[i - 1] = order[other];
		order[other] = kept;
	}
	return 0;
}

/* in: train_x, train_y, order; out: x [rows, 64], label [rows]; scalar: first row in `order` */
static int sub_gather(const struct dw_args *args, void *context)
{
	const float *train_x = dw_args_data(args, 0);
	const uint8_t *train_y = dw_args_data(args, 1);
	const uint32_t *order = dw_args_data(args, 2);
	float *x = dw_args_data(args, 3);
	uint8_t *label = dw_args_data(args, 4);
	uint32_t rows = dw_args_tensor(args, 3)->shape[0];
	uint64_t first = dw_args_scalar(args, 0);

	(void)context;
	for (uint32_t i = 0; i < rows; i++) {
		uint32_t row = order[first + i];

		memcpy(x + (size_t)i * MODEL_INPUTS, train_x + (size_t)row * MODEL_INPUTS,
		       MODEL_INPUTS * sizeof(float));
		label[i] = train_y[row];
	}
	return 0;
}

/* inout: sum; in: addend; both a gradient. As the chip kernel `accumulate`. */
static int sub_add(const struct dw_args *args, void *context)
{
	float *sum = dw_args_data(args, 0);
	const float *addend = dw_args_data(args, 1);
	uint32_t length = dw_args_tensor(args, 0)->shape[0];

	(void)context;
	for (uint32_t i = 0; i < length; i++)
		sum[i] += addend[i];
	return 0;
}

/*
 * Momentum, with a rate that falls to a twentieth over the run.
 * inout: parameters, velocity; in: gradient, board; scalars: step of the run, of the epoch
 */
static int sub_update(const struct dw_args *args, void *context)
{
	const struct digits *job = context;
	float *parameters = dw_args_data(args, 0), *velocity = dw_args_data(args, 1);
	const float *gradient = dw_args_data(args, 2);
	struct board *board = dw_args_data(args, 3);
	uint32_t length = dw_args_tensor(args, 0)->shape[0];
	uint32_t total = atomic_load_explicit(&board->steps_total, memory_order_relaxed);
	uint32_t step = (uint32_t)dw_args_scalar(args, 0);
	uint32_t of_epoch = (uint32_t)dw_args_scalar(args, 1);
	double left = 1.0 - 0.95 * (double)step / total;
	float rate = (float)(job->rate * left), mean = 1.0f / (float)job->batch;

	for (uint32_t i = 0; i < length; i++) {
		float slope = gradient[i] * mean + DIGITS_DECAY * parameters[i];

		velocity[i] = DIGITS_MOMENTUM * velocity[i] + slope;
		parameters[i] -= rate * velocity[i];
	}
	board->loss_sum = (of_epoch ? board->loss_sum : 0.0f) + gradient[length] * mean;
	if (of_epoch + 1 == total / job->epochs)
		board->loss = board->loss_sum / (float)(of_epoch + 1);
	atomic_store_explicit(&board->steps_done, step + 1, memory_order_relaxed);
	return 0;
}

/* in: test_x, test_y, parameters; out: right answers [1]; scalars: first row, rows */
static int sub_evaluate(const struct dw_args *args, void *context)
{
	const struct digits *job = context;
	const float *test_x = dw_args_data(args, 0);
	const uint8_t *test_y = dw_args_data(args, 1);
	uint32_t hidden = (uint32_t)job->hidden, right = 0;
	struct model_view model = model_view(dw_args_data(args, 2), hidden);
	uint32_t *result = dw_args_data(args, 3);
	uint64_t first = dw_args_scalar(args, 0), end = first + dw_args_scalar(args, 1);
	float activation[MODEL_HIDDEN_MAX], score[MODEL_CLASSES];

	for (uint64_t row = first; row < end; row++) {
		model_forward(&model, hidden, test_x + row * MODEL_INPUTS, activation, score);
		right += model_answer(score) == test_y[row];
	}
	/* The tool's status reads it while the run goes on. */
	__atomic_store_n(result, right, __ATOMIC_RELAXED);
	return 0;
}

#endif
