// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * digits: data-parallel training of a small classifier over any hierarchy.
 *
 * Each minibatch is cut into a fixed number of shards, whatever the hierarchy.
 * The gradient of each shard is computed by itself, and gradients are added
 * as a binary tree over the shard's index. A Worker owns a subtree of it, or
 * several that are added one level up: the place of a computation never changes its
 * computed, and the result has the same bits everywhere.
 *
 *   root    load, initialise; per epoch shuffle, evaluate; per step update   (subs)
 *   inner   add the gradients of the Workers below                           (subs)
 *   node    gather rows (subs); forward, backward, accumulate                (chips)
 *
 * Nothing but the tags on the tensors orders all this; the root waits for the number
 * of rows, and after each epoch so as not to run far ahead. Callables are in digits_subs.h.
 *
 * Each Worker records its part of a step once, and replays it: digits_record.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <distworker/job.h>
#include "digits_subs.h"
#include "options.h"
#include "submit.h"
#include "digits_record.h"

/* ------------------------------------------------------------------ one pass */

/* The inputs for the gradient of some shards of a minibatch, at one Worker. */
struct pass {
	const struct digits *job;
	struct dw_orch *orch;
	struct dw_args *args;
	const struct distworker_tree_node *node;
	struct dw_tensor train_x, train_y, order, parameters;
	uint32_t batch;			/* first row of the minibatch, in `order` */
	uint32_t shard;			/* the first of this Worker's */
	struct recorded_step *recording;	/* NULL: this pass is not recorded */
};

static struct dw_tensor gradient_tensor(const struct digits *job)
{
	return tensor_of(NULL, DW_FLOAT32, model_gradient((uint32_t)job->hidden), 0);
}

/* One shard on the chips of this node. */
static int pass_compute(struct pass *pass, uint32_t shard, struct dw_tensor *gradient)
{
	const struct digits *job = pass->job;
	uint32_t rows = (uint32_t)(job->batch / job->shards), hidden = (uint32_t)job->hidden;
	struct dw_tensor x = tensor_of(NULL, DW_FLOAT32, rows, MODEL_INPUTS);
	struct dw_tensor label = tensor_of(NULL, DW_UINT8, rows, 0);
	struct dw_tensor activation = tensor_of(NULL, DW_FLOAT32, rows, hidden);
	struct dw_tensor delta = tensor_of(NULL, DW_FLOAT32, rows, MODEL_CLASSES + 1);
	uint64_t first = pass->batch + shard * rows, shape[] = { rows, hidden };
	struct operand gather[] = {
		{ &pass->train_x, DW_INPUT }, { &pass->train_y, DW_INPUT },
		{ &pass->order, DW_INPUT }, { &x, DW_OUTPUT }, { &label, DW_OUTPUT },
	};
	struct operand forward[] = {
		{ &x, DW_INPUT }, { &label, DW_INPUT }, { &pass->parameters, DW_INPUT },
		{ &activation, DW_OUTPUT }, { &delta, DW_OUTPUT },
	};
	struct operand backward[] = {
		{ &x, DW_INPUT }, { &activation, DW_INPUT }, { &delta, DW_INPUT },
		{ &pass->parameters, DW_INPUT }, { gradient, DW_OUTPUT },
	};
	struct submission steps[] = {
		{ job->gather, "gather", DW_ANY, 0, gather, COUNT_OF(gather), &first, 1 },
		{ job->forward, "forward", DW_ANY, (uint32_t)job->block_dim,
		  forward, COUNT_OF(forward), shape, COUNT_OF(shape) },
		{ job->backward, "backward", DW_ANY, (uint32_t)job->block_dim,
		  backward, COUNT_OF(backward), shape, COUNT_OF(shape) },
	};
	int err = 0;

	for (size_t i = 0; i < COUNT_OF(steps) && !err; i++) {
		err = submit_task(pass->orch, pass->args, &steps[i]);
		if (!err && i == 0)
			err = step_moves(pass->recording, pass->orch, 0,
					 (struct moving){ .batch = 1, .shard = rows,
							  .offset = (shard - pass->shard) * rows });
	}
	return err;
}

/* Shards [shard, shard + count) on child `child` of this Worker. */
static int pass_delegate(struct pass *pass, uint32_t child, uint32_t shard, uint32_t count,
			 struct dw_tensor *gradient)
{
	uint32_t index = pass->node->children[child];
	struct operand operands[] = {
		{ &pass->train_x, DW_INPUT }, { &pass->train_y, DW_INPUT },
		{ &pass->order, DW_INPUT }, { &pass->parameters, DW_INPUT },
		{ gradient, DW_OUTPUT },
	};
	uint64_t scalars[] = { index, pass->batch, shard, count };
	struct submission task = {
		pass->job->gradient, "gradient", pass->job->tree->nodes[index].worker, 0,
		operands, COUNT_OF(operands), scalars, COUNT_OF(scalars),
	};
	int err = submit_task(pass->orch, pass->args, &task);

	if (!err)
		err = step_moves(pass->recording, pass->orch, 1, (struct moving){ .batch = 1 });
	if (!err)
		err = step_moves(pass->recording, pass->orch, 2,
				 (struct moving){ .shard = 1, .offset = shard - pass->shard });
	return err;
}

/*
 * The sum over shards [shard, shard + count), count a power of two, by `children`
 * Workers from `child` on, or by the chips of this node. The halves are the same
 * for every hierarchy.
 */
static int pass_gradient(struct pass *pass, uint32_t shard, uint32_t count, uint32_t child,
			 uint32_t children, struct dw_tensor *gradient)
{
	const struct digits *job = pass->job;
	struct dw_tensor other = gradient_tensor(job);
	struct operand operands[] = { { gradient, DW_INOUT }, { &other, DW_INPUT } };
	uint64_t length = model_gradient((uint32_t)job->hidden);
	struct submission add = {
		pass->node->chip_count ? job->accumulate : job->add, "accumulate", DW_ANY,
		pass->node->chip_count ? (uint32_t)job->block_dim : 0,
		operands, COUNT_OF(operands), &length, pass->node->chip_count ? 1 : 0,
	};
	uint32_t half = count / 2;
	int err;

	if (children && (children == 1 || count == 1))
		return pass_delegate(pass, child, shard, count, gradient);
	if (!children && count == 1)
		return pass_compute(pass, shard, gradient);
	err = pass_gradient(pass, shard, half, child, children / 2, gradient);
	if (!err)
		err = pass_gradient(pass, shard + half, half, child + children / 2,
				    children - children / 2, &other);
	return err ? err : submit_task(pass->orch, pass->args, &add);
}

/* Runs on every Worker below the root: the gradient of the shards that it was given. */
static int run_gradient(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	const struct digits *job = context;
	struct pass pass = { .job = job, .orch = orch };
	uint64_t index = dw_args_scalar(args, 0), count = dw_args_scalar(args, 3);
	struct moment moment = { .batch = dw_args_scalar(args, 1),
				 .shard = dw_args_scalar(args, 2) };
	struct dw_tensor gradient;
	int err;

	(void)config;
	if (dw_args_tensor_count(args) != 5 || index >= job->tree->count ||
	    !count || count > 1u << (DIGITS_GRAPHS - 1))
		return dw_task_fail(EINVAL, "gradient: arguments that do not fit the hierarchy");
	pass.recording = &job->steps[index * DIGITS_GRAPHS + (uint64_t)__builtin_ctzll(count)];
	if (pass.recording->graph)
		return step_replay(pass.recording, orch, dw_args_tensor(args, 0), 5, &moment);
	pass.node = &job->tree->nodes[index];
	pass.train_x = *dw_args_tensor(args, 0);
	pass.train_y = *dw_args_tensor(args, 1);
	pass.order = *dw_args_tensor(args, 2);
	pass.parameters = *dw_args_tensor(args, 3);
	pass.batch = (uint32_t)moment.batch;
	pass.shard = (uint32_t)moment.shard;
	gradient = *dw_args_tensor(args, 4);
	err = dw_args_create(&pass.args);
	if (err)
		return err;
	err = step_begin(pass.recording, orch, "gradient", dw_args_tensor(args, 0), 5);
	if (!err)
		err = pass_gradient(&pass, pass.shard, (uint32_t)count, 0, pass.node->child_count,
				    &gradient);
	if (!err)
		err = dw_record_end(orch, &pass.recording->graph);
	dw_args_destroy(pass.args);
	return err;
}

/* ------------------------------------------------------------------ training */

struct training {
	struct pass pass;
	struct dw_tensor test_x, test_y, velocity;
	uint32_t steps;			/* per epoch */
	/* Two in turn, so that a step can begin while the one before it still has its blocks. */
	struct recorded_step recorded[2];
};

static int train_load(struct training *training, struct digits *job)
{
	struct pass *pass = &training->pass;
	struct dw_tensor board = tensor_of(job->board, DW_UINT8, sizeof(*job->board), 0);
	struct dw_tensor train_x, train_y, test_x, test_y;
	struct operand load[] = {
		{ &train_x, DW_OUTPUT }, { &train_y, DW_OUTPUT },
		{ &test_x, DW_OUTPUT }, { &test_y, DW_OUTPUT }, { &board, DW_INOUT },
	};
	struct operand initialise[] = {
		{ &pass->parameters, DW_OUTPUT }, { &training->velocity, DW_OUTPUT },
	};
	struct submission tasks[] = {
		{ job->load, "load", DW_ANY, 0, load, COUNT_OF(load), NULL, 0 },
		{ job->initialise, "initialise", DW_ANY, 0,
		  initialise, COUNT_OF(initialise), NULL, 0 },
	};
	uint32_t space = (uint32_t)job->rows;
	int err;

	train_x = tensor_of(job->train_x, DW_FLOAT32, space, MODEL_INPUTS);
	train_y = tensor_of(job->train_y, DW_UINT8, space, 0);
	test_x = tensor_of(job->test_x, DW_FLOAT32, space, MODEL_INPUTS);
	test_y = tensor_of(job->test_y, DW_UINT8, space, 0);
	for (size_t i = 0; i < COUNT_OF(tasks); i++) {
		err = submit_task(pass->orch, pass->args, &tasks[i]);
		if (err)
			return err;
	}
	/* The graph is as large as the file is long. */
	err = dw_orch_wait(pass->orch);
	if (err)
		return err;
	if (!job->board->test_rows || job->board->train_rows < job->batch)
		return dw_task_fail(EINVAL,
				    "%s: %u rows for training, %u held out; a minibatch has %llu",
				    job->data, job->board->train_rows, job->board->test_rows,
				    (unsigned long long)job->batch);
	pass->train_x = tensor_of(job->train_x, DW_FLOAT32, job->board->train_rows, MODEL_INPUTS);
	pass->train_y = tensor_of(job->train_y, DW_UINT8, job->board->train_rows, 0);
	training->test_x = tensor_of(job->test_x, DW_FLOAT32, job->board->test_rows, MODEL_INPUTS);
	training->test_y = tensor_of(job->test_y, DW_UINT8, job->board->test_rows, 0);
	training->steps = job->board->train_rows / (uint32_t)job->batch;
	atomic_store_explicit(&job->board->steps_total, training->steps * (uint32_t)job->epochs,
			      memory_order_relaxed);
	return 0;
}

/* One minibatch: gradient over all shards, then the update. */
static int train_step(struct training *training, struct digits *job, uint32_t epoch, uint32_t step)
{
	struct pass *pass = &training->pass;
	struct moment moment = { .batch = (uint64_t)step * job->batch, .step = step,
				 .number = (uint64_t)epoch * training->steps + step };
	struct recorded_step *recorded = &training->recorded[step % 2];
	struct dw_tensor gradient = gradient_tensor(job);
	struct dw_tensor board = tensor_of(job->board, DW_UINT8, sizeof(*job->board), 0);
	struct operand operands[] = {
		{ &pass->parameters, DW_INOUT }, { &training->velocity, DW_INOUT },
		{ &gradient, DW_INPUT }, { &board, DW_NO_DEP },
	};
	uint64_t scalars[] = { moment.number, step };
	struct submission update = {
		job->update, "update", DW_ANY, 0, operands, COUNT_OF(operands),
		scalars, COUNT_OF(scalars),
	};
	int err;

	if (recorded->graph)
		return step_replay(recorded, pass->orch, &pass->order, 1, &moment);
	err = step_begin(recorded, pass->orch, "step", &pass->order, 1);
	if (err)
		return err;
	pass->recording = recorded;
	pass->batch = (uint32_t)moment.batch;
	err = pass_gradient(pass, 0, (uint32_t)job->shards, 0, pass->node->child_count, &gradient);
	if (!err)
		err = submit_task(pass->orch, pass->args, &update);
	if (!err)
		err = step_moves(recorded, pass->orch, 0, (struct moving){ .number = 1 });
	if (!err)
		err = step_moves(recorded, pass->orch, 1, (struct moving){ .step = 1 });
	pass->recording = NULL;
	return err ? err : dw_record_end(pass->orch, &recorded->graph);
}

/* The rows that were held out, in pieces; each piece counts its right answers. */
static int train_evaluate(struct training *training, struct digits *job, uint32_t epoch)
{
	struct pass *pass = &training->pass;
	uint32_t rows = training->test_x.shape[0];

	for (uint32_t piece = 0; piece < DIGITS_PIECES; piece++) {
		uint32_t first = rows * piece / DIGITS_PIECES;
		uint32_t count = rows * (piece + 1) / DIGITS_PIECES - first;
		uint32_t *slot = &job->results[epoch * DIGITS_PIECES + piece];
		struct dw_tensor result = tensor_of(slot, DW_UINT32, 1, 0);
		struct operand operands[] = {
			{ &training->test_x, DW_INPUT }, { &training->test_y, DW_INPUT },
			{ &pass->parameters, DW_INPUT }, { &result, DW_OUTPUT },
		};
		uint64_t scalars[] = { first, count };
		struct submission task = {
			job->evaluate, "evaluate", DW_ANY, 0, operands, COUNT_OF(operands),
			scalars, COUNT_OF(scalars),
		};
		int err = submit_task(pass->orch, pass->args, &task);

		if (err)
			return err;
	}
	return 0;
}

static int train_epoch(struct training *training, struct digits *job, uint32_t epoch)
{
	struct pass *pass = &training->pass;
	struct operand operands[] = { { &pass->order, DW_OUTPUT } };
	uint64_t scalar = epoch;
	struct submission shuffle = {
		job->shuffle, "shuffle", DW_ANY, 0, operands, 1, &scalar, 1,
	};
	int err = dw_scope_begin(pass->orch);

	if (err)
		return err;
	pass->order = tensor_of(NULL, DW_UINT32, pass->train_x.shape[0], 0);
	err = submit_task(pass->orch, pass->args, &shuffle);
	for (uint32_t step = 0; step < training->steps && !err; step++)
		err = train_step(training, job, epoch, step);
	if (!err)
		err = train_evaluate(training, job, epoch);
	if (!err)
		err = dw_scope_end(pass->orch);
	/* Orders nothing; it bounds the tasks that are submitted ahead, and so the memory. */
	return err ? err : dw_orch_wait(pass->orch);
}

static int run_training(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct digits *job = context;
	uint32_t length = model_parameters((uint32_t)job->hidden);
	struct training training = {
		.pass = { .job = job, .orch = orch, .node = &job->tree->nodes[0] },
	};
	int err;

	(void)args;
	(void)config;
	training.pass.parameters = tensor_of(job->parameters, DW_FLOAT32, length, 0);
	training.velocity = tensor_of(job->velocity, DW_FLOAT32, length, 0);
	err = dw_args_create(&training.pass.args);
	if (err)
		return err;
	err = train_load(&training, job);
	for (uint32_t epoch = 0; epoch < job->epochs && !err; epoch++)
		err = train_epoch(&training, job, epoch);
	dw_args_destroy(training.pass.args);
	for (size_t i = 0; i < COUNT_OF(training.recorded); i++)
		step_release(&training.recorded[i]);
	return err;
}

/* --------------------------------------------------------------- preparation */

static int check_options(const struct distworker_job_environment *environment,
			 const struct digits *job)
{
	if (job->shards & (job->shards - 1))
		return environment->fail(environment, EINVAL,
			"--shards: %llu is not a power of two", (unsigned long long)job->shards);
	if (job->batch % job->shards)
		return environment->fail(environment, EINVAL,
			"--batch: %llu rows cannot be cut into %llu equal shards",
			(unsigned long long)job->batch, (unsigned long long)job->shards);
	if (job->hidden % MODEL_STRIP)
		return environment->fail(environment, EINVAL,
			"--hidden: %llu is not a multiple of %d", (unsigned long long)job->hidden,
			MODEL_STRIP);
	return 0;
}

static int check_tree(const struct distworker_job_environment *environment)
{
	const struct distworker_tree *tree = environment->tree;

	for (uint32_t i = 0; i < tree->count; i++) {
		const struct distworker_tree_node *node = &tree->nodes[i];

		if (!node->subs)
			return environment->fail(environment, EINVAL,
				"digits needs a sub worker on every Worker, %s has none (--subs 1)",
				node->path);
		if (!node->chip_count == !node->child_count)
			return environment->fail(environment, EINVAL,
				"digits needs either chips or Workers below each Worker, %s has %s",
				node->path, node->chip_count ? "both" : "neither");
		for (uint32_t chip = 0; chip < node->chip_count; chip++)
			if (strcmp(node->chips[chip].driver, environment->driver))
				return environment->fail(
					environment, EINVAL,
					"digits needs one driver for all chips, %s has %s beside "
					"%s",
					node->path, node->chips[chip].driver, environment->driver);
	}
	return 0;
}

static int register_kernel(const struct distworker_job_environment *environment,
			   const struct digits *job, const char *entry, const int32_t *signature,
			   size_t count, dw_callable *callable)
{
	struct dw_image_options options = DW_OPTIONS(dw_image_options);

	options.driver = environment->driver;
	options.entry = entry;
	options.path = job->kernels;
	options.signature = signature;
	options.signature_count = count;
	return dw_callable_register_image(environment->root, &options, callable);
}

static int register_kernels(const struct distworker_job_environment *environment,
			    struct digits *job)
{
	/*
	 * Scalars: rows, hidden; of accumulate: the length. Not every driver shows kernels a shape.
	 */
	static const int32_t forward[] = {
		DW_DIR_IN, DW_DIR_IN, DW_DIR_IN, DW_DIR_OUT, DW_DIR_OUT,
		DW_DIR_SCALAR, DW_DIR_SCALAR,
	};
	static const int32_t backward[] = {
		DW_DIR_IN, DW_DIR_IN, DW_DIR_IN, DW_DIR_IN, DW_DIR_OUT,
		DW_DIR_SCALAR, DW_DIR_SCALAR,
	};
	static const int32_t accumulate[] = { DW_DIR_INOUT, DW_DIR_IN, DW_DIR_SCALAR };
	int err;

	if (!job->kernels) {
		const char *suffix = !strcmp(environment->driver, "sim") ? "so" :
				     !strcmp(environment->driver, "opencl") ? "cl" : NULL;

		if (!suffix)
			return environment->fail(
				environment, ENOENT,
				"digits has chip kernels for the drivers sim and opencl only; for "
				"%s give an image with -- --kernels FILE",
				environment->driver);
		if (snprintf(job->kernel_path, sizeof(job->kernel_path), "%s/kernels/digits.%s",
			     environment->folder, suffix) >= (int)sizeof(job->kernel_path))
			return environment->fail(
				environment, ENAMETOOLONG,
				"the path of the chip kernels is too long; give a file with -- "
				"--kernels FILE");
		job->kernels = job->kernel_path;
	}
	err = register_kernel(environment, job, "digits_forward", forward, COUNT_OF(forward),
			      &job->forward);
	if (!err)
		err = register_kernel(environment, job, "digits_backward", backward,
				      COUNT_OF(backward), &job->backward);
	if (!err)
		err = register_kernel(environment, job, "digits_accumulate", accumulate,
				      COUNT_OF(accumulate), &job->accumulate);
	return err;
}

static int register_functions(struct dw_worker *root, struct digits *job)
{
	const struct {
		const char *name;
		dw_sub_fn *fn;
		dw_callable *callable;
	} subs[] = {
		{ "digits.load", sub_load, &job->load },
		{ "digits.initialise", sub_initialise, &job->initialise },
		{ "digits.shuffle", sub_shuffle, &job->shuffle },
		{ "digits.gather", sub_gather, &job->gather },
		{ "digits.add", sub_add, &job->add },
		{ "digits.update", sub_update, &job->update },
		{ "digits.evaluate", sub_evaluate, &job->evaluate },
	};
	int err = dw_callable_register_orch(root, "digits.gradient", run_gradient, job,
					    &job->gradient);

	for (size_t i = 0; i < COUNT_OF(subs) && !err; i++)
		err = dw_callable_register_sub(root, subs[i].name, subs[i].fn, job,
					       subs[i].callable);
	return err;
}

static int make_buffers(struct dw_worker *root, struct digits *job)
{
	uint64_t parameters = model_parameters((uint32_t)job->hidden) * sizeof(float);
	uint64_t pixels = job->rows * MODEL_INPUTS * sizeof(float);
	const struct {
		void **address;
		uint64_t bytes;
	} buffers[] = {
		{ (void **)&job->train_x, pixels }, { (void **)&job->train_y, job->rows },
		{ (void **)&job->test_x, pixels }, { (void **)&job->test_y, job->rows },
		{ (void **)&job->parameters, parameters }, { (void **)&job->velocity, parameters },
		{ (void **)&job->board, sizeof(*job->board) },
		{ (void **)&job->results, job->epochs * DIGITS_PIECES * sizeof(uint32_t) },
	};
	int err = 0;

	for (size_t i = 0; i < COUNT_OF(buffers) && !err; i++)
		err = dw_buffer_create(root, buffers[i].bytes, buffers[i].address);
	/* "Not evaluated yet"; counts of right answers are far below. */
	if (!err)
		memset(job->results, 0xff, job->epochs * DIGITS_PIECES * sizeof(uint32_t));
	return err;
}

static int digits_prepare(const struct distworker_job_environment *environment, void **state)
{
	struct digits *job = calloc(1, sizeof(*job));
	const struct option_entry options[] = {
		{ "epochs", OPTION_COUNT, &job->epochs, 1, 100000 },
		{ "batch", OPTION_COUNT, &job->batch, 1, 65536 },
		{ "shards", OPTION_COUNT, &job->shards, 1, 1024 },
		{ "hidden", OPTION_COUNT, &job->hidden, MODEL_STRIP, MODEL_HIDDEN_MAX },
		{ "rows", OPTION_COUNT, &job->rows, 1, 1 << 24 },
		{ "seed", OPTION_COUNT, &job->seed, 0, 0x1p64 },
		{ "block-dim", OPTION_COUNT, &job->block_dim, 1, 1024 },
		{ "rate", OPTION_REAL, &job->rate, 0, 100 },
		{ "accuracy", OPTION_REAL, &job->accuracy, 0, 1 },
		{ "data", OPTION_TEXT, &job->given, 0, 0 },
		{ "kernels", OPTION_TEXT, &job->kernels, 0, 0 },
	};
	int err;

	if (!job)
		return environment->fail(environment, ENOMEM, "no memory for the job");
	*state = job;
	*job = (struct digits){
		.epochs = 40, .batch = 64, .shards = 16, .hidden = 64, .rows = 16384, .seed = 1,
		.block_dim = 1, .rate = 0.1, .accuracy = 0.95, .tree = environment->tree,
	};
	job->steps = calloc(job->tree->count * DIGITS_GRAPHS, sizeof(*job->steps));
	if (!job->steps)
		return environment->fail(environment, ENOMEM, "no memory for the job");
	err = options_parse(environment, options, COUNT_OF(options));
	if (!err)
		err = check_options(environment, job);
	if (!err)
		err = check_tree(environment);
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

/* Right answers after an epoch, or UINT32_MAX if it is not evaluated yet. */
static uint32_t right_answers(const struct digits *job, uint64_t epoch)
{
	uint32_t right = 0;

	for (uint32_t piece = 0; piece < DIGITS_PIECES; piece++) {
		uint32_t count = __atomic_load_n(&job->results[epoch * DIGITS_PIECES + piece],
						 __ATOMIC_RELAXED);

		if (count == UINT32_MAX)
			return UINT32_MAX;
		right += count;
	}
	return right;
}

static double digits_status(void *state, char *text, size_t bytes)
{
	const struct digits *job = state;
	struct board *board = job->board;
	uint32_t total = atomic_load_explicit(&board->steps_total, memory_order_relaxed);
	uint32_t done = atomic_load_explicit(&board->steps_done, memory_order_relaxed);
	uint64_t epoch = total ? done * job->epochs / total : 0;
	uint32_t right = epoch ? right_answers(job, epoch - 1) : UINT32_MAX;

	if (!total)
		snprintf(text, bytes, "loading");
	else if (right == UINT32_MAX)
		snprintf(text, bytes, "epoch %llu/%llu", (unsigned long long)epoch,
			 (unsigned long long)job->epochs);
	else
		snprintf(text, bytes, "epoch %llu/%llu, %.2f %% right", (unsigned long long)epoch,
			 (unsigned long long)job->epochs, 100.0 * right / board->test_rows);
	return total ? (double)done / total : 0;
}

static int digits_report(void *state, const struct distworker_job_report *report)
{
	const struct digits *job = state;
	const struct board *board = job->board;
	uint32_t right = right_answers(job, job->epochs - 1);
	uint32_t length = model_parameters((uint32_t)job->hidden);
	double accuracy = (double)right / board->test_rows;
	unsigned long crc = crc32(0, (const Bytef *)job->parameters,
				  length * (uInt)sizeof(float));
	char text[128];

	snprintf(text, sizeof(text), "%.4f (%u of the %u rows that were held out)", accuracy, right,
		 board->test_rows);
	report->number(report, "accuracy", accuracy, text);
	snprintf(text, sizeof(text), "%.6f in the last epoch", board->loss);
	report->number(report, "loss", board->loss, text);
	snprintf(text, sizeof(text), "0x%08lx", crc);
	report->text(report, "weights", text);
	if (accuracy < job->accuracy)
		return report->fail(report, ERANGE, "accuracy %.4f is below %.4f", accuracy,
				    job->accuracy);
	return 0;
}

static void digits_release(void *state)
{
	struct digits *job = state;

	for (size_t i = 0; job && job->steps && i < job->tree->count * DIGITS_GRAPHS; i++)
		step_release(&job->steps[i]);
	if (job)
		free(job->steps);
	free(job);
}

DISTWORKER_JOB_EXPORT const struct distworker_job *distworker_job_v1(void);

const struct distworker_job *distworker_job_v1(void)
{
	static const struct distworker_job job = {
		.size = sizeof(job),
		.abi_version = DISTWORKER_JOB_ABI_VERSION,
		.name = "digits",
		.description = "data-parallel training of a classifier of handwritten digits",
		.usage =
			"  --epochs N      times through the data (40)\n"
			"  --batch N       rows of a minibatch (64)\n"
			"  --shards N      pieces of a minibatch, a power of two (16)\n"
			"  --hidden N      hidden units, a multiple of 16 (64)\n"
			"  --seed N        of the weights and the shuffles (1)\n"
			"  --rate X        learning rate at the start (0.1)\n"
			"  --accuracy X    the run has failed below this (0.95)\n"
			"  --block-dim N   cores per chip task (1)\n"
			"  --rows N        room for this many rows (16384)\n"
			"  --data FILE     other data: 64 pixels 0-16 and the digit per row, CSV, "
			"may be gzipped\n"
			"  --kernels FILE  another chip image\n"
			"The result has the same bits whatever the hierarchy: compare `weights`.\n",
		.prepare = digits_prepare,
		.run = run_training,
		.status = digits_status,
		.report = digits_report,
		.release = digits_release,
	};

	return &job;
}
