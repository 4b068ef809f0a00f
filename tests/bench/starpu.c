// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * StarPU with tasks that do nothing: starpu burst|chain|trip|submit [--tasks N]; STARPU_NCPU says
 * how many workers. The same graphs as pipeline.c.
 */
#include <starpu.h>
#include "bench.h"

#define BLOCKS 1024
#define BLOCK_BYTES 1024

static void nothing(void *buffers[], void *argument_)
{
	(void)buffers;
	(void)argument_;
}

static struct starpu_codelet free_task = {
	.cpu_funcs = { nothing }, .nbuffers = 0, .name = "nothing",
};
static struct starpu_codelet chain_task = {
	.cpu_funcs = { nothing }, .nbuffers = 1, .modes = { STARPU_RW }, .name = "chain",
};
static struct starpu_codelet three_task = {
	.cpu_funcs = { nothing }, .nbuffers = 3, .modes = { STARPU_R, STARPU_R, STARPU_W },
	.name = "three",
};

static void submit(struct starpu_codelet *codelet, starpu_data_handle_t *handles)
{
	struct starpu_task *task = starpu_task_create();

	task->cl = codelet;
	for (int i = 0; i < codelet->nbuffers; i++)
		task->handles[i] = handles[i];
	if (starpu_task_submit(task)) {
		fprintf(stderr, "starpu_task_submit\n");
		exit(1);
	}
}

static double stream_ns(uint64_t tasks, struct starpu_codelet *codelet,
			starpu_data_handle_t *handle)
{
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < tasks; i++)
		submit(codelet, handle);
	starpu_task_wait_for_all();
	return (double)(now_ns() - start);
}

static void print_stream(uint64_t tasks, struct starpu_codelet *codelet,
			 starpu_data_handle_t *handle)
{
	double ns;

	stream_ns(tasks / 10, codelet, handle);
	ns = stream_ns(tasks, codelet, handle);
	print("tasks_per_s", (double)tasks * 1e9 / ns);
	print("us_per_task", ns / 1e3 / (double)tasks);
}

static void trips(uint64_t tasks)
{
	double *samples = calloc(tasks, sizeof(double));

	for (uint64_t i = 0; i < tasks; i++) {
		uint64_t start = now_ns();

		submit(&free_task, NULL);
		starpu_task_wait_for_all();
		samples[i] = (double)(now_ns() - start);
	}
	print("median_us", percentile(samples, tasks, 0.5) / 1e3);
	print("p99_us", percentile(samples, tasks, 0.99) / 1e3);
	free(samples);
}

static void submits(uint64_t tasks)
{
	static starpu_data_handle_t blocks[BLOCKS];
	static char memory[BLOCKS][BLOCK_BYTES];
	uint64_t start = 0;

	for (int i = 0; i < BLOCKS; i++)
		starpu_vector_data_register(&blocks[i], STARPU_MAIN_RAM, (uintptr_t)memory[i],
					    BLOCK_BYTES, 1);
	for (int warm = 0; warm < 2; warm++) {
		start = now_ns();
		for (uint64_t i = 0; i < tasks; i++) {
			uint64_t block = i % BLOCKS;
			starpu_data_handle_t three[] = {
				blocks[block * 7 % BLOCKS], blocks[(block * 13 + 5) % BLOCKS],
				blocks[block],
			};

			submit(&three_task, three);
		}
		start = now_ns() - start;
		starpu_task_wait_for_all();
	}
	print("us_per_call", (double)start / 1e3 / (double)tasks);
	for (int i = 0; i < BLOCKS; i++)
		starpu_data_unregister(blocks[i]);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	starpu_data_handle_t handle;
	int64_t cell = 0;

	if (starpu_init(NULL)) {
		fprintf(stderr, "starpu_init\n");
		return 1;
	}
	starpu_variable_data_register(&handle, STARPU_MAIN_RAM, (uintptr_t)&cell, sizeof(cell));
	if (!strcmp(mode, "burst"))
		print_stream(argument(argc, argv, "tasks", 200000), &free_task, NULL);
	else if (!strcmp(mode, "chain"))
		print_stream(argument(argc, argv, "tasks", 100000), &chain_task, &handle);
	else if (!strcmp(mode, "trip"))
		trips(argument(argc, argv, "tasks", 10000));
	else if (!strcmp(mode, "submit"))
		submits(argument(argc, argv, "tasks", 60000));
	else
		return 2;
	starpu_data_unregister(handle);
	starpu_shutdown();
	return 0;
}
