/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The random programs of nested_graphs.h on three levels, of which some are on other hosts: the
 * same results as on one. Tensors are small, and travel with their tasks; those of test_hosts.c are
 * fetched.
 *
 *   test_hosts_graphs --seed S       that seed everywhere
 *   test_hosts_graphs --seeds N      so many
 */
#define UNIT_SECONDS 250
#include "nested_graphs.h"
#include "hosts.h"

static void program(struct dw_worker *root)
{
	chain_register(root);
	nested_graphs_register(root);
}

/* `places`: bit i for level i being on a host of its own. */
static void run_on_hosts(unsigned places, unsigned threads)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct host_node nodes[CHAIN_MOST];

	say_prepare();
	for (unsigned i = 1; i < LEVELS; i++) {
		if (places >> i & 1)
			host_start(&nodes[i], program, NULL);
		chain_hosts[i] = places >> i & 1 ? nodes[i].address : NULL;
	}
	bad_cells_are_undefined = true;
	/* As it is on another host in any case. */
	options.check_declared = 1;
	chain_create(LEVELS, 2, threads, &options);
	nested_graphs_run(60);
	for (unsigned i = 1; i < LEVELS; i++) {
		chain_hosts[i] = NULL;
		if (places >> i & 1)
			host_stop(&nodes[i]);
	}
}

HOST_TEST(programs_of_a_pod_whose_node_is_elsewhere)
{
	run_on_hosts(1 << 2, 0);
}

HOST_TEST(programs_of_a_root_whose_pod_is_elsewhere_with_its_node)
{
	run_on_hosts(1 << 1, 0);
	run_on_hosts(1 << 1, 6);
}

HOST_TEST(programs_of_three_levels_on_three_hosts)
{
	run_on_hosts(1 << 1 | 1 << 2, 0);
	run_on_hosts(1 << 1 | 1 << 2, 4);
}
