/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * METG as Task Bench defines it: the shortest task with which at least half of the cores'
 * time is useful work. The graph is Task Bench's 1-D stencil: in each of `steps` rows
 * task i reads its own and both neighbours' outputs of the row before. A program
 * gives a function that runs the graph; this finds the length.
 */
#ifndef TESTS_BENCH_GRAPH_H
#define TESTS_BENCH_GRAPH_H

#include "bench.h"

#define WIDTH 16
/* Of useful work in one measurement, over all cores. */
#define WORK_NS 100000000.0
#define LEAST_STEPS 16
#define MOST_STEPS 4000

struct graph {
	uint64_t steps, units;		/* rows; work of one task */
	bool stencil;			/* else no dependencies */
};

typedef void run_graph(const struct graph *graph, void *context);

/* Part of the time of `cores` cores that was useful. */
static inline double efficiency(double ns, double rate, unsigned cores, bool stencil,
				run_graph *run, void *context)
{
	struct graph graph = { .units = (uint64_t)(ns * rate) + 1, .stencil = stencil };
	double useful, best = 0;

	graph.steps = (uint64_t)(WORK_NS / ns / WIDTH);
	if (graph.steps < LEAST_STEPS)
		graph.steps = LEAST_STEPS;
	if (graph.steps > MOST_STEPS)
		graph.steps = MOST_STEPS;
	useful = (double)(graph.steps * WIDTH * graph.units) / rate;
	for (int i = 0; i < 2; i++) {
		uint64_t start = now_ns();
		double part;

		run(&graph, context);
		part = useful / (double)(now_ns() - start) / cores;
		if (part > best)
			best = part;
	}
	return best;
}

/* µs. Bisects the logarithm; -1 when even long tasks do not reach one half. */
static inline UNUSED double metg_us(unsigned cores, bool stencil, run_graph *run, void *context)
{
	double rate = units_per_ns(), low = 100, high = 2000000;

	if (efficiency(high, rate, cores, stencil, run, context) < 0.5)
		return -1;
	while (high / low > 1.15) {
		double middle = __builtin_sqrt(low * high);

		if (efficiency(middle, rate, cores, stencil, run, context) >= 0.5)
			high = middle;
		else
			low = middle;
	}
	return high / 1e3;
}

#endif
