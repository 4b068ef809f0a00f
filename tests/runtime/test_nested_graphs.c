/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The random programs of nested_graphs.h in every mix of processes and threads, half of them with
 * check_declared.
 *
 *   test_nested_graphs --seed S       that seed in all mixes
 *   test_nested_graphs --seeds N      so many
 */
#define UNIT_SECONDS 250
#include "nested_graphs.h"

static void run_all(unsigned threads)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.check_declared = threads & 1;
	/* Two frames: groups have to wait for room in the rings of each other. */
	options.mailbox_depth = threads & 2 ? 2 : 0;
	chain_create(LEVELS, 2, threads, &options);
	nested_graphs_run(100);
}

TEST(programs_of_three_levels_of_processes)
{
	run_all(0);
}

TEST(programs_of_three_levels_of_threads)
{
	run_all(7);
}

TEST(programs_of_mixed_levels)
{
	for (unsigned threads = 1; threads < 7; threads++)
		run_all(threads);
}
