// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * libgomp's tasks, in one process: omp burst|chain [--tasks N]; OMP_NUM_THREADS says how many
 * threads.
 */
#include "bench.h"

static double tasks_ns(uint64_t tasks, bool chain)
{
	uint64_t start = 0;
	char cell;

	#pragma omp parallel
	#pragma omp single
	{
		start = now_ns();
		for (uint64_t i = 0; i < tasks; i++) {
			if (chain) {
				#pragma omp task depend(inout : cell) shared(cell)
				__asm__ volatile("" : : "r"(&cell) : "memory");
			} else {
				#pragma omp task
				__asm__ volatile("" : : : "memory");
			}
		}
		#pragma omp taskwait
		start = now_ns() - start;
	}
	return (double)start;
}

int main(int argc, char **argv)
{
	bool chain = argc > 1 && !strcmp(argv[1], "chain");
	uint64_t tasks = argument(argc, argv, "tasks", chain ? 200000 : 1000000);
	double ns;

	tasks_ns(tasks / 10, chain);
	ns = tasks_ns(tasks, chain);
	print("tasks_per_s", (double)tasks * 1e9 / ns);
	print("us_per_task", ns / 1e3 / (double)tasks);
	return 0;
}
