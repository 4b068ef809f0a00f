/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * METG as Task Bench defines it: the shortest task with which at least half of the cores'
 * time is useful work. The graph is Task Bench's 1-D stencil: in each of `steps` rows
 * task i reads its own and both neighbours' outputs of the row before. A program
 * gives a function that runs the graph; this finds the length.
 */
#ifndef TESTS_BENCH_GRAPH_H
#define TESTS_BENCH_GRAPH_H

#include <sys/resource.h>
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

/*
 * The machine's peak: work per ns of CPU time of `cores` processes that do nothing else, all at
 * once, so that other load does not count. The best of five.
 */
static inline double peak_rate(unsigned cores, double rate)
{
	uint64_t units = (uint64_t)(rate * WORK_NS);
	double best = 0;

	for (int k = 0; k < 5; k++) {
		struct rusage used;
		double seconds = 0, now;

		for (unsigned i = 0; i < cores; i++) {
			if (fork() == 0) {
				work_units(units);
				_exit(0);
			}
		}
		for (unsigned i = 0; i < cores; i++) {
			wait4(-1, NULL, 0, &used);
			seconds += (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
				   (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
		}
		now = (double)units * cores * cores / seconds / 1e9;
		if (now > best)
			best = now;
	}
	return best;
}

/* The useful share of the peak. */
static inline double efficiency(double ns, double rate, double peak, bool stencil,
				run_graph *run, void *context)
{
	struct graph graph = { .units = (uint64_t)(ns * rate) + 1, .stencil = stencil };
	double useful, best = 0;

	graph.steps = (uint64_t)(WORK_NS / ns / WIDTH);
	if (graph.steps < LEAST_STEPS)
		graph.steps = LEAST_STEPS;
	if (graph.steps > MOST_STEPS)
		graph.steps = MOST_STEPS;
	useful = (double)(graph.steps * WIDTH * graph.units) / peak;
	for (int i = 0; i < 2; i++) {
		uint64_t start = now_ns();
		double part;

		run(&graph, context);
		part = useful / (double)(now_ns() - start);
		if (part > best)
			best = part;
	}
	return best;
}

/* µs. Bisects the logarithm; -1 when even long tasks do not reach one half. */
static inline UNUSED double metg_us(double rate, double peak, bool stencil, run_graph *run,
				    void *context)
{
	double low = 100, high = 2000000;

	if (efficiency(high, rate, peak, stencil, run, context) < 0.5)
		return -1;
	while (high / low > 1.15) {
		double middle = __builtin_sqrt(low * high);

		if (efficiency(middle, rate, peak, stencil, run, context) >= 0.5)
			high = middle;
		else
			low = middle;
	}
	return high / 1e3;
}

#endif
