// SPDX-License-Identifier: GPL-2.0-only
/*
 * While a peer ends: that being one costs its exit nothing, and that its owner need not
 * wait until the kernel is done with it.
 */
#include <limits.h>
#include <sys/resource.h>
#include "distworker_test.h"

#define RUNS 10

/* Leaves word how often it has slept so far. */
static void peer_counts_its_sleeps(struct endpoint *endpoint)
{
	struct rusage usage;

	sync_receive(endpoint->sync);
	getrusage(RUSAGE_THREAD, &usage);
	store(*(long *)endpoint->argument, usage.ru_nvcsw);
	_exit(0);
}

static long sleeps_of(pid_t pid)
{
	char path[64], line[128];
	long sleeps = -1;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status))
		sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps);
	if (status)
		fclose(status);
	return sleeps;
}

/* Of a peer that is about to count them: how often it sleeps in its exit. */
static long sleeps_in_exit(struct peer *peer, long *before)
{
	long sleeps = -1;

	shutdown(peer->sync, SHUT_RDWR);
	if (WAIT_UNTIL(task_state(peer->pid) == 'Z' && task_is_off_cpu(peer->pid)))
		sleeps = sleeps_of(peer->pid) - load(*before);
	return peer_join(peer) ? -1 : sleeps;
}

/* It waited for a grace period of SRCU, some jiffies. */
TEST(exit_of_a_peer_sleeps_no_more_than_that_of_any_process)
{
	long *before, peers = LONG_MAX, others = LONG_MAX, sleeps;
	struct peer peer;
	struct hub hub;

	before = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	ASSERT_TRUE(before != MAP_FAILED);
	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	for (int run = 0; run < RUNS; run++) {
		ASSERT_EQ(0, peer_fork(&peer, -1, 0, peer_counts_its_sleeps, before));
		sleeps = sleeps_in_exit(&peer, before);
		ASSERT_LE(0, sleeps);
		others = sleeps < others ? sleeps : others;
		ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_counts_its_sleeps, before));
		sleeps = sleeps_in_exit(&peer, before);
		ASSERT_LE(0, sleeps);
		peers = sleeps < peers ? sleeps : peers;
		ASSERT_EQ(0, dw_rearm(hub.fd, 0, NULL));
	}
	EXPECT_LE(peers, others);
}

#define LARGE (128 << 20)

static void peer_has_much_memory(struct endpoint *endpoint)
{
	char *memory =
		mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED);
	for (size_t i = 0; i < LARGE; i += getpagesize())
		memory[i] = 1;
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
}

TEST(mailbox_can_be_rearmed_or_closed_while_the_memory_of_its_dead_peer_is_freed)
{
	for (int round = 0; round < 6; round++) {
		struct peer peer, next;
		struct hub hub;

		ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
		ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_has_much_memory, NULL));
		ASSERT_TRUE(sync_receive(peer.sync));
		hub_drain_state(&hub);
		kill(peer.pid, SIGKILL);
		EXPECT_EQ(0, wait_for_state(&hub, 0));
		if (round % 2) {
			EXPECT_EQ(0, dw_rearm(hub.fd, 0, NULL));
			EXPECT_EQ(0, peer_start(&next, &hub, 0, peer_idles, NULL));
			EXPECT_EQ(0, peer_join(&next));
		}
		hub_close(&hub);
		EXPECT_EQ(SIGKILL, peer_join(&peer));
	}
}

TEST_HARNESS_MAIN
