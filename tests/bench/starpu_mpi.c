/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * StarPU-MPI: a task on the other process, and its cell back here:
 * mpirun -n 2 starpu_mpi [--count N] [--bytes N]: of so many bytes, which go there and come back.
 */
#include <starpu_mpi.h>
#include "bench.h"

static void nothing(void *buffers[], void *argument)
{
	(void)buffers;
	(void)argument;
}

static struct starpu_codelet codelet = {
	.cpu_funcs = { nothing }, .nbuffers = 2, .modes = { STARPU_R, STARPU_W },
};
static struct starpu_codelet touch = {
	.cpu_funcs = { nothing }, .nbuffers = 1, .modes = { STARPU_RW },
};

/* The input is new each time, so that it travels. */
static void trip(starpu_data_handle_t in, starpu_data_handle_t out, int rank)
{
	starpu_mpi_task_insert(MPI_COMM_WORLD, &touch, STARPU_RW, in, STARPU_EXECUTE_ON_NODE, 0, 0);
	starpu_mpi_task_insert(MPI_COMM_WORLD, &codelet, STARPU_R, in, STARPU_W, out,
			       STARPU_EXECUTE_ON_NODE, 1, 0);
	starpu_mpi_get_data_on_node_detached(MPI_COMM_WORLD, out, 0, NULL, NULL);
	if (rank == 0) {
		starpu_data_acquire(out, STARPU_R);
		starpu_data_release(out);
	}
}

int main(int argc, char **argv)
{
	uint64_t count = argument(argc, argv, "count", 3000);
	size_t bytes = argument(argc, argv, "bytes", 512);
	double *us = calloc(count, sizeof(*us));
	unsigned char *data = calloc(2, bytes);
	starpu_data_handle_t in, out;
	int rank;

	if (!us || !data || starpu_mpi_init_conf(&argc, &argv, 1, MPI_COMM_WORLD, NULL))
		return 2;
	starpu_mpi_comm_rank(MPI_COMM_WORLD, &rank);
	starpu_vector_data_register(&in, rank == 0 ? STARPU_MAIN_RAM : -1, (uintptr_t)data,
				    (uint32_t)bytes, 1);
	starpu_vector_data_register(&out, rank == 1 ? STARPU_MAIN_RAM : -1,
				    (uintptr_t)(data + bytes), (uint32_t)bytes, 1);
	starpu_mpi_data_register(in, 1, 0);
	starpu_mpi_data_register(out, 2, 1);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t start = now_ns();

		trip(in, out, rank);
		us[i] = (double)(now_ns() - start) / 1000;
	}
	starpu_task_wait_for_all();
	starpu_mpi_barrier(MPI_COMM_WORLD);
	if (rank == 0)
		print("median_us", percentile(us, count, 0.5));
	starpu_data_unregister(in);
	starpu_data_unregister(out);
	starpu_mpi_shutdown();
	return 0;
}
