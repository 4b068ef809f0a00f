// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* oneTBB, threads of one process: tbb burst|chain|metg [--threads N] [--tasks N] [--stencil 0]. */
#include "graph.h"
#include "tbb_graph.h"

static unsigned threads;

static void work_nothing(uint64_t units)
{
	(void)units;
}

static void work_some(uint64_t units)
{
	work_units(units);
}

static void run(const struct graph *graph, void *context)
{
	(void)context;
	tbb_stencil(threads, WIDTH, graph->steps, graph->stencil, work_some, graph->units);
}

static void tasks_in_turn(bool chain, uint64_t tasks)
{
	if (chain)
		tbb_stencil(threads, 1, tasks, true, work_nothing, 0);
	else
		tbb_burst(threads, tasks);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	bool chain = !strcmp(mode, "chain");
	uint64_t tasks = argument(argc, argv, "tasks", chain ? 200000 : 1000000), start;

	threads = (unsigned)argument(argc, argv, "threads", 2);
	if (!strcmp(mode, "metg")) {
		double rate = units_per_ns();

		print("metg_us", metg_us(rate, peak_rate(threads, rate),
					 argument(argc, argv, "stencil", 1), run, NULL));
		return 0;
	}
	tasks_in_turn(chain, tasks / 10);
	start = now_ns();
	tasks_in_turn(chain, tasks);
	start = now_ns() - start;
	print("tasks_per_s", (double)tasks * 1e9 / (double)start);
	print("us_per_task", (double)start / 1e3 / (double)tasks);
	return 0;
}
