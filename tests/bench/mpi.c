/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Open MPI's round trip between two processes: mpirun -n 2 mpi [--count N] [--bytes N]. */
#include <mpi.h>
#include "bench.h"

static void turn(void *data, int bytes, bool first)
{
	int other = first ? 1 : 0;

	if (first)
		MPI_Send(data, bytes, MPI_BYTE, other, 0, MPI_COMM_WORLD);
	MPI_Recv(data, bytes, MPI_BYTE, other, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	if (!first)
		MPI_Send(data, bytes, MPI_BYTE, other, 0, MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
	uint64_t count = argument(argc, argv, "count", 20000);
	int bytes = (int)argument(argc, argv, "bytes", 512), rank, size;
	double *us = calloc(count, sizeof(*us)), sum = 0;
	void *data = calloc(1, (size_t)bytes);

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	if (!us || !data || size != 2)
		return 2;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t start = now_ns();

		turn(data, bytes, rank == 0);
		us[i] = (double)(now_ns() - start) / 1000;
		sum += us[i];
	}
	if (rank == 0) {
		print("median_us", percentile(us, count, 0.5));
		print("mean_us", sum / (double)count);
	}
	MPI_Finalize();
	return 0;
}
