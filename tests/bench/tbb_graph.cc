// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * oneTBB's part of tbb.c: it has an interface in C++ alone. Tasks without dependencies are a
 * task_group's; with them, nodes of a flow graph, which is oneTBB's way to say them.
 */
#include <deque>
#include <tbb/flow_graph.h>
#include <tbb/global_control.h>
#include <tbb/task_group.h>
#include "tbb_graph.h"

using tbb::flow::continue_msg;
using tbb::flow::continue_node;

void tbb_burst(unsigned threads, uint64_t tasks)
{
	tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
	tbb::task_group group;

	for (uint64_t i = 0; i < tasks; i++)
		group.run([] { __asm__ volatile("" : : : "memory"); });
	group.wait();
}

void tbb_stencil(unsigned threads, uint64_t width, uint64_t steps, bool stencil, tbb_work *work,
		 uint64_t units)
{
	tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
	tbb::flow::graph graph;
	std::deque<continue_node<continue_msg>> nodes;

	for (uint64_t step = 0; step < steps; step++) {
		for (uint64_t i = 0; i < width; i++) {
			nodes.emplace_back(graph, [=](const continue_msg &) { work(units); });
			for (uint64_t k = i ? i - 1 : 0; stencil && step && k <= i + 1 && k < width;
			     k++)
				make_edge(nodes[(step - 1) * width + k], nodes.back());
		}
	}
	for (uint64_t i = 0; i < (stencil ? width : nodes.size()); i++)
		nodes[i].try_put(continue_msg());
	graph.wait_for_all();
}
