// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The digits job as a loop of one thread: digits KERNELS.so DATA [--loops N].
 *
 * The job's own functions, and its kernels for the simulated chip, called one after the other;
 * gradients are added in the same order, so the weights have the same bits. N loops run side by
 * side, each a process; they begin together. Prints the time of each, the CPU time of all, and the
 * weights.
 */
#include <dlfcn.h>
#include <distworker/job.h>
#include <distworker/sim.h>
#include "digits_subs.h"
#include "bench.h"

#define MAX_LOOPS 16
#define MAX_DEPTH 10

struct loop {
	struct digits job;
	struct dw_args *args;
	dw_sim_kernel *forward, *backward, *accumulate;
	struct dw_tensor train_x, train_y, test_x, test_y, order, parameters, velocity, board;
	struct dw_tensor x, label, activation, delta;	/* of one shard */
	struct dw_tensor gradient[MAX_DEPTH];
};

struct result {
	double ms, cpu_ms;
	uint32_t weights;
};

static void *memory(size_t bytes)
{
	void *address = calloc(1, bytes);

	if (!address) {
		perror("calloc");
		exit(1);
	}
	return address;
}

static struct dw_tensor tensor(void *data, int dtype, uint32_t rows, uint32_t columns)
{
	uint32_t shape[] = { rows, columns };
	struct dw_tensor made;

	if (dw_tensor_init(&made, data, dtype, shape, columns ? 2 : 1))
		fail("dw_tensor_init");
	return made;
}

static struct dw_tensor floats(uint32_t rows, uint32_t columns)
{
	return tensor(memory((size_t)rows * (columns ? columns : 1) * sizeof(float)), DW_FLOAT32,
		      rows, columns);
}

/* ------------------------------------------------------------------ the calls */

static void call(struct loop *loop, dw_sub_fn *fn, const struct dw_tensor *const *tensors,
		 size_t count, uint64_t first, uint64_t second)
{
	dw_args_reset(loop->args);
	for (size_t i = 0; i < count; i++)
		if (dw_args_add_tensor(loop->args, tensors[i], DW_INOUT))
			fail("dw_args_add_tensor");
	if (dw_args_add_scalar(loop->args, first) || dw_args_add_scalar(loop->args, second))
		fail("dw_args_add_scalar");
	if (fn(loop->args, &loop->job))
		fail("a function of the job");
}

#define CALL(loop, fn, first, second, ...)                                             \
	call(loop, fn, (const struct dw_tensor *const[]){ __VA_ARGS__ },                \
	     sizeof((const struct dw_tensor *[]){ __VA_ARGS__ }) / sizeof(void *), first, second)

static void run_kernel(dw_sim_kernel *kernel, const struct dw_tensor *tensors, uint64_t first,
		       uint64_t second)
{
	const struct dw_sim_block block = { .index = 0, .dim = 1 };
	const uint64_t scalars[] = { first, second };

	if (kernel(&block, tensors, scalars)) {
		fprintf(stderr, "a kernel of the job has failed\n");
		exit(1);
	}
}

static void compute(struct loop *loop, uint64_t first, const struct dw_tensor *gradient)
{
	uint32_t rows = loop->x.shape[0], hidden = (uint32_t)loop->job.hidden;
	const struct dw_tensor forward[] = { loop->x, loop->label, loop->parameters,
					     loop->activation, loop->delta };
	const struct dw_tensor backward[] = { loop->x, loop->activation, loop->delta,
					      loop->parameters, *gradient };

	CALL(loop, sub_gather, first, 0, &loop->train_x, &loop->train_y, &loop->order, &loop->x,
	     &loop->label);
	run_kernel(loop->forward, forward, rows, hidden);
	run_kernel(loop->backward, backward, rows, hidden);
}

/* As pass_gradient() of the job. */
static void compute_sum(struct loop *loop, uint64_t batch, uint32_t shard, uint32_t count,
			uint32_t depth, const struct dw_tensor *gradient)
{
	const struct dw_tensor *other = &loop->gradient[depth + 1];

	if (count == 1) {
		compute(loop, batch + (uint64_t)shard * loop->x.shape[0], gradient);
		return;
	}
	compute_sum(loop, batch, shard, count / 2, depth + 1, gradient);
	compute_sum(loop, batch, shard + count / 2, count / 2, depth + 1, other);
	/* The root adds over the nodes of the tree, a node over its chips. */
	if (depth == 0)
		CALL(loop, sub_add, 0, 0, gradient, other);
	else
		run_kernel(loop->accumulate, (const struct dw_tensor[]){ *gradient, *other },
			   gradient->shape[0], 0);
}

/* -------------------------------------------------------------------- the loop */

static void make(struct loop *loop, const char *kernels, const char *data)
{
	struct digits *job = &loop->job;
	uint32_t rows, hidden, length;
	void *handle = dlopen(kernels, RTLD_NOW | RTLD_LOCAL);

	/* The defaults of the job. */
	*job = (struct digits){
		.epochs = 40, .batch = 64, .shards = 16, .hidden = 64, .rows = 16384, .seed = 1,
		.rate = 0.1,
	};
	if (!handle || snprintf(job->data, sizeof(job->data), "%s", data) < 1) {
		fprintf(stderr, "%s\n", handle ? "no data" : dlerror());
		exit(1);
	}
	*(void **)&loop->forward = dlsym(handle, "digits_forward");
	*(void **)&loop->backward = dlsym(handle, "digits_backward");
	*(void **)&loop->accumulate = dlsym(handle, "digits_accumulate");
	if (!loop->forward || !loop->backward || !loop->accumulate ||
	    dw_args_create(&loop->args)) {
		fprintf(stderr, "%s: %s\n", kernels, "it has not got the kernels of the job");
		exit(1);
	}
	rows = (uint32_t)(job->batch / job->shards);
	hidden = (uint32_t)job->hidden;
	length = model_parameters(hidden);
	job->train_x = memory(job->rows * MODEL_INPUTS * sizeof(float));
	job->test_x = memory(job->rows * MODEL_INPUTS * sizeof(float));
	job->train_y = memory(job->rows);
	job->test_y = memory(job->rows);
	job->board = memory(sizeof(*job->board));
	job->results = memory(sizeof(*job->results));
	loop->board = tensor(job->board, DW_UINT8, sizeof(*job->board), 0);
	loop->parameters = floats(length, 0);
	loop->velocity = floats(length, 0);
	loop->x = floats(rows, MODEL_INPUTS);
	loop->label = tensor(memory(rows), DW_UINT8, rows, 0);
	loop->activation = floats(rows, hidden);
	loop->delta = floats(rows, MODEL_CLASSES + 1);
	for (size_t i = 0; i < MAX_DEPTH; i++)
		loop->gradient[i] = floats(model_gradient(hidden), 0);
}

static void load(struct loop *loop)
{
	struct digits *job = &loop->job;
	uint32_t train_rows, test_rows;

	CALL(loop, sub_load, 0, 0, &loop->board);
	train_rows = job->board->train_rows;
	test_rows = job->board->test_rows;
	loop->train_x = tensor(job->train_x, DW_FLOAT32, train_rows, MODEL_INPUTS);
	loop->train_y = tensor(job->train_y, DW_UINT8, train_rows, 0);
	loop->test_x = tensor(job->test_x, DW_FLOAT32, test_rows, MODEL_INPUTS);
	loop->test_y = tensor(job->test_y, DW_UINT8, test_rows, 0);
	loop->order = tensor(memory(train_rows * sizeof(uint32_t)), DW_UINT32, train_rows, 0);
	CALL(loop, sub_initialise, 0, 0, &loop->parameters, &loop->velocity);
}

static void train(struct loop *loop)
{
	struct digits *job = &loop->job;
	struct dw_tensor right = tensor(job->results, DW_UINT32, 1, 0);
	uint32_t steps, rows;

	load(loop);
	steps = loop->train_x.shape[0] / (uint32_t)job->batch;
	rows = loop->test_x.shape[0];
	atomic_store_explicit(&job->board->steps_total, steps * (uint32_t)job->epochs,
			      memory_order_relaxed);
	for (uint64_t epoch = 0; epoch < job->epochs; epoch++) {
		CALL(loop, sub_shuffle, epoch, 0, &loop->order);
		for (uint32_t step = 0; step < steps; step++) {
			compute_sum(loop, step * job->batch, 0, (uint32_t)job->shards, 0,
				    &loop->gradient[0]);
			CALL(loop, sub_update, epoch * steps + step, step, &loop->parameters,
			     &loop->velocity, &loop->gradient[0], &loop->board);
		}
		CALL(loop, sub_evaluate, 0, rows, &loop->test_x, &loop->test_y, &loop->parameters,
		     &right);
	}
}

static double cpu_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The end of the pipe `start` tells all to begin. */
static void run(struct loop *loop, int start, struct result *result)
{
	double cpu;
	uint64_t begun;
	char byte;

	while (read(start, &byte, 1) < 0 && errno == EINTR)
		;
	begun = now_ns();
	cpu = cpu_ms();
	train(loop);
	result->ms = (double)(now_ns() - begun) / 1e6;
	result->cpu_ms = cpu_ms() - cpu;
	result->weights = (uint32_t)crc32(0, (const Bytef *)(uintptr_t)loop->parameters.data,
					  loop->parameters.shape[0] * (uInt)sizeof(float));
}

int main(int argc, char **argv)
{
	uint64_t loops = argument(argc, argv, "loops", 1);
	struct result *results;
	struct loop *loop;
	double cpu = 0;
	int start[2], status, failed = 0;

	if (argc < 3 || loops < 1 || loops > MAX_LOOPS || pipe(start)) {
		fprintf(stderr, "usage: digits KERNELS.so DATA [--loops 1 ... %d]\n", MAX_LOOPS);
		return 2;
	}
	results = mmap(NULL, sizeof(*results) * MAX_LOOPS, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (results == MAP_FAILED)
		return 1;
	loop = memory(sizeof(*loop));
	make(loop, argv[1], argv[2]);
	for (uint64_t i = 0; i < loops; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			close(start[1]);
			run(loop, start[0], &results[i]);
			_exit(0);
		}
		failed |= pid < 0;
	}
	close(start[1]);
	while (wait(&status) > 0)
		failed |= status;
	for (uint64_t i = 0; i < loops && !failed; i++) {
		print("ms", results[i].ms);
		cpu += results[i].cpu_ms;
		failed |= results[i].weights != results[0].weights;
	}
	print("cpu_ms", cpu);
	printf("weights %u\n", results[0].weights);
	return failed ? 1 : 0;
}
