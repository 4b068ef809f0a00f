/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Workers on other hosts behind a network that delays, loses, doubles and swaps packets
 * (sch_netem), each test in a network namespace of its own, whose loopback does that. Skipped where
 * the kernel has no sch_netem; tests/hosts/guest runs them in a guest.
 */
#define UNIT_SECONDS 200
#include "hosts_fill.h"

#define BYTES (64u << 10) /* of a tensor */
#define TASKS 8
/* Both ways lead over loopback: a round trip has two delays. */
#define DELAY "netem delay 5ms 2ms loss 2% duplicate 1% reorder 10%"
#define ROUND_TRIP_NS 6000000

static struct host_node node;
static struct dw_worker *root;

static void program(struct dw_worker *of)
{
	chain_register(of);
	fill_register(of);
}

static int orch_all(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	unsigned char *buffer = context;

	(void)args;
	(void)config;
	for (uint32_t i = 0; i < TASKS; i++)
		fill_submit(orch, buffer + 2 * i * BYTES, buffer + (2 * i + 1) * BYTES, BYTES,
			    3 * i);
	return 0;
}

static void body_results(void)
{
	struct dw_child_stats stats[4];
	size_t count = 4;
	void *buffer;

	REQUIRE(host_impair(DELAY));
	host_start(&node, program, NULL);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	program(root);
	host_worker(root, DW_LEVEL_NODE, 0, &node);
	CHECK_EQ(dw_buffer_create(root, (size_t)2 * TASKS * BYTES, &buffer), 0);
	if (!CHECK_EQ(dw_worker_init(root), 0))
		printf("# %s\n", dw_strerror_last());
	fill_begin(buffer, 2 * TASKS * BYTES, 4);
	if (!CHECK_EQ(dw_worker_run(root, orch_all, NULL, NULL, buffer), 0))
		printf("# %s\n", dw_strerror_last());
	for (uint32_t i = 0; i < TASKS; i++)
		fill_check((unsigned char *)buffer + 2 * i * BYTES,
			   (unsigned char *)buffer + (2 * i + 1) * BYTES, BYTES, 3 * i);
	CHECK_EQ(dw_worker_stats(root, stats, sizeof(stats[0]), &count), 0);
	CHECK(count == 1 && stats[0].round_trip_ns >= ROUND_TRIP_NS);
	dw_worker_destroy(root);
	host_stop(&node);
}

/* Afterwards nothing gets through. */
static void body_silence(void)
{
	struct order order = { .depth = 1, .how = BREAK_HANG };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_run *run;
	pid_t sub, session;

	REQUIRE(host_impair(DELAY));
	say_prepare();
	host_start(&node, program, NULL);
	options.host_timeout_ns = SECOND_NS;
	chain_hosts[1] = node.address;
	chain_init(2, 1, 0, &options);
	run = chain_start(&order, 0);
	sub = heard();
	session = host_session(&node);
	CHECK(host_run("tc qdisc change dev lo root netem loss 100%"));
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	check_text("pod0/node0: task 1 \"deep\" (down): EOWNERDEAD: host 127.0.0.1");
	check_text("no answer for 1.0 s");
	CHECK(is_over(sub) && is_over(session));
	memset(chain_hosts, 0, sizeof(chain_hosts));
	chain_destroy();
	host_stop(&node);
}

#define LOSSY_TEST(test_name, body) \
	HOST_TEST(test_name) \
	{ \
		if (!host_can_impair(DELAY)) \
			SKIP("no network namespace can be made, no tc(8), or no sch_netem"); \
		apart(body); \
	}

LOSSY_TEST(tasks_behind_loss_and_delay_leave_the_same_results, body_results)
LOSSY_TEST(a_lossy_network_that_goes_silent_ends_the_task_and_the_tree_there, body_silence)
