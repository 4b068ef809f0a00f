// SPDX-License-Identifier: GPL-2.0-only
/*
 * Wake-ups, and their number: masks, kicks, wake-and-wait in one call, and that no thread is woken
 * that sleeps for something else.
 */
#include "distworker_test.h"

/* Its death, too, would be an event for the owner, and might come before the event under test. */
static void peer_waits_for_post_and_lives_on(struct endpoint *endpoint)
{
	peer_waits_for_post(endpoint);
	sync_receive(endpoint->sync);
}

/* ---------------------------------------------------------------- the owner wakes peers */

TEST(wake_with_nobody_asleep_wakes_nobody)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 64, BOX_BYTES));
	EXPECT_EQ(0, dw_wake(hub.fd, 0, 0));
	EXPECT_EQ(0, dw_wake(hub.fd, 0, ~0ULL));
	EXPECT_EQ(0, dw_wake(hub.fd, DISTWORKER_WAKE_SELF, ~0ULL));
	ASSERT_EQ(0, peer_start(&peer, &hub, 5, peer_idles, NULL));
	EXPECT_EQ(0, dw_wake(hub.fd, 0, ~0ULL));
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(0, dw_wake(hub.fd, 0, ~0ULL));
}

TEST(wake_reaches_a_peer_that_sleeps_without_deadline)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_for_post, NULL));
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	store(hub_mailbox(&hub, 0)->post, 1);
	/* A word alone wakes nobody. */
	EXPECT_TRUE(peer_sleeps(&hub, 0, peer.pid));
	EXPECT_EQ(1, dw_wake(hub.fd, 0, 1));
	EXPECT_EQ(0, peer_join(&peer));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_LE(1, query.wakes);
	EXPECT_LE(1, query.sleeps);
}

TEST(wake_without_news_does_not_end_the_wait)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_for_post, NULL));
	for (int i = 0; i < 10; i++) {
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
		EXPECT_EQ(1, dw_wake(hub.fd, 0, 1));
	}
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(10, query.wakes);
	EXPECT_EQ(0, waitpid(peer.pid, NULL, WNOHANG));
	EXPECT_EQ(1, hub_post(&hub, 0));
	EXPECT_EQ(0, peer_join(&peer));
}

#define MANY 40

TEST(one_call_wakes_all_sleepers_of_a_mask_and_counts_them)
{
	struct peer peers[MANY];
	struct hub hub;
	__u64 mask = 0;

	ASSERT_EQ(0, hub_open(&hub, 64, BOX_BYTES));
	for (int i = 0; i < MANY; i++)
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i, peer_waits_for_post, NULL));
	for (int i = 0; i < MANY; i++) {
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, i, peers[i].pid)));
		if (i % 2)
			mask |= 1ULL << i;
	}
	for (int i = 0; i < MANY; i++)
		store(hub_mailbox(&hub, i)->post, 1);
	EXPECT_EQ(MANY / 2, dw_wake(hub.fd, 0, mask));
	for (int i = 1; i < MANY; i += 2)
		EXPECT_EQ(0, peer_join(&peers[i]));
	/* Those that were not in the mask slept on. */
	for (int i = 0; i < MANY; i += 2)
		EXPECT_TRUE(peer_sleeps(&hub, i, peers[i].pid));
	EXPECT_EQ(MANY / 2, dw_wake(hub.fd, 0, ~0ULL));
	for (int i = 0; i < MANY; i += 2)
		EXPECT_EQ(0, peer_join(&peers[i]));
}

TEST(wake_reaches_the_last_of_1024_mailboxes)
{
	static const unsigned int indexes[] = { 0, 63, 64, 65, 511, 960, 1022, 1023 };
	struct peer peers[ARRAY_SIZE(indexes)];
	__u64 mask[MASK_WORDS] = { 0 };
	struct distworker_hub_wake wake = ABI(distworker_hub_wake, .wake_mask = to_u64(mask),
					      .mask_words = MASK_WORDS);
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1024, BOX_BYTES));
	for (unsigned int i = 0; i < ARRAY_SIZE(indexes); i++) {
		ASSERT_EQ(0, peer_start(&peers[i], &hub, indexes[i], peer_waits_for_post, NULL));
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, indexes[i], peers[i].pid)));
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(indexes); i++) {
		memset(mask, 0, sizeof(mask));
		mask_set(mask, indexes[i]);
		store(hub_mailbox(&hub, indexes[i])->post, 1);
		ASSERT_EQ(0, dw_ioctl(hub.fd, DISTWORKER_HUB_WAKE, &wake));
		EXPECT_EQ(1, wake.woken);
		EXPECT_EQ(0, peer_join(&peers[i]));
	}
	memset(mask, 0xff, sizeof(mask));
	ASSERT_EQ(0, dw_ioctl(hub.fd, DISTWORKER_HUB_WAKE, &wake));
	EXPECT_EQ(0, wake.woken);
}

/* ---------------------------------------------------------------- peers wake the owner */

static void peer_completes_when_told(struct endpoint *endpoint)
{
	while (sync_receive(endpoint->sync))
		CHECK_EQ(0, endpoint_complete(endpoint));
}

TEST(completion_wakes_the_owner_who_learns_which)
{
	struct waiter waiter;
	struct peer peers[3];
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 3, BOX_BYTES));
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i, peer_completes_when_told, NULL));
	hub_drain_state(&hub);
	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(waiter_start(&waiter, &hub, 7));
		EXPECT_TRUE(waiter_blocked(&waiter));
		ASSERT_TRUE(sync_send(peers[i].sync));
		EXPECT_EQ(0, waiter_join(&waiter));
		EXPECT_EQ(DISTWORKER_EVENT_DONE, waiter.wait.events);
		EXPECT_EQ(1 << i, waiter.wait.ready);
		EXPECT_EQ(0, hub.line->asleep);
		hub.state->seen[i] = hub_mailbox(&hub, i)->done;
	}
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(0, peer_join(&peers[i]));
}

TEST(completion_of_an_unwatched_mailbox_does_not_end_the_wait)
{
	struct waiter waiter;
	struct peer peers[2];
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i, peer_completes_when_told, NULL));
	hub_drain_state(&hub);
	ASSERT_TRUE(waiter_start(&waiter, &hub, 1));
	for (__u32 i = 1; i <= 5; i++) {
		ASSERT_TRUE(sync_send(peers[1].sync));
		ASSERT_TRUE(WAIT_UNTIL(load(hub_mailbox(&hub, 1)->done) == i));
		ASSERT_TRUE(WAIT_UNTIL(task_sleeps(peers[1].pid)));
		ASSERT_TRUE(WAIT_UNTIL(hub_waiter_sleeps(&hub, waiter.tid)));
		EXPECT_FALSE(load(waiter.returned));
	}
	ASSERT_TRUE(sync_send(peers[0].sync));
	EXPECT_EQ(0, waiter_join(&waiter));
	EXPECT_EQ(1, waiter.wait.ready);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(0, peer_join(&peers[i]));
}

TEST(every_thread_that_waits_on_the_hub_is_woken)
{
	struct waiter waiters[4];
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_completes_when_told, NULL));
	hub_drain_state(&hub);
	for (int i = 0; i < 4; i++)
		ASSERT_TRUE(waiter_start(&waiters[i], &hub, 1));
	for (int i = 0; i < 4; i++)
		EXPECT_TRUE(waiter_blocked(&waiters[i]));
	ASSERT_TRUE(sync_send(peer.sync));
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(0, waiter_join(&waiters[i]));
		EXPECT_EQ(1, waiters[i].wait.ready);
	}
	EXPECT_EQ(0, hub.line->asleep);
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(the_word_says_asleep_until_the_last_of_several_waiters_has_left)
{
	struct waiter first, second;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	ASSERT_TRUE(waiter_start(&first, &hub, 1));
	ASSERT_TRUE(waiter_start(&second, &hub, 2));
	store(hub_mailbox(&hub, 0)->done, 1);
	EXPECT_EQ(1, dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 0));
	EXPECT_EQ(0, waiter_join(&first));
	EXPECT_TRUE(WAIT_UNTIL(hub_waiter_sleeps(&hub, second.tid)));
	store(hub_mailbox(&hub, 1)->done, 1);
	EXPECT_EQ(1, dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 0));
	EXPECT_EQ(0, waiter_join(&second));
	EXPECT_EQ(0, hub.line->asleep);
}

/* ---------------------------------------------------------------- kick */

TEST(kick_of_another_thread_ends_the_owners_wait)
{
	struct waiter waiter;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	for (__u32 i = 1; i <= 5; i++) {
		ASSERT_TRUE(waiter_start(&waiter, &hub, 1));
		/* Without a change of the word it is a wake-up for nothing. */
		dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 0);
		ASSERT_TRUE(WAIT_UNTIL(hub_waiter_sleeps(&hub, waiter.tid)));
		EXPECT_FALSE(load(waiter.returned));
		store(hub.state->kick, i);
		EXPECT_TRUE(waiter_blocked(&waiter));
		EXPECT_EQ(1, dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 0));
		EXPECT_EQ(0, waiter_join(&waiter));
		EXPECT_EQ(DISTWORKER_EVENT_KICK, waiter.wait.events);
	}
}

TEST(kick_does_not_wake_peers_and_waking_peers_is_no_kick)
{
	struct waiter waiter;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_for_post, NULL));
	hub_drain_state(&hub);
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	ASSERT_TRUE(waiter_start(&waiter, &hub, 1));
	store(hub_mailbox(&hub, 0)->post, 1);
	store(hub.state->kick, 1);
	EXPECT_EQ(1, dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 0));
	EXPECT_EQ(0, waiter_join(&waiter));
	EXPECT_TRUE(peer_sleeps(&hub, 0, peer.pid));

	ASSERT_TRUE(waiter_start(&waiter, &hub, 1));
	store(hub.state->kick, 2);
	EXPECT_EQ(1, dw_wake(hub.fd, 0, 1));
	EXPECT_EQ(0, peer_join(&peer));
	/* Its death was news for the waiter; the kick is seen with it. */
	EXPECT_EQ(0, waiter_join(&waiter));
	EXPECT_EQ(DISTWORKER_EVENT_STATE | DISTWORKER_EVENT_KICK, waiter.wait.events);
}

TEST(one_call_kicks_and_wakes_and_counts_both)
{
	struct waiter waiter;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_for_post_and_lives_on, NULL));
	hub_drain_state(&hub);
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	ASSERT_TRUE(waiter_start(&waiter, &hub, 0));
	store(hub_mailbox(&hub, 0)->post, 1);
	store(hub.state->kick, 1);
	EXPECT_EQ(2, dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 1));
	EXPECT_EQ(0, waiter_join(&waiter));
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- wake and wait */

static void peer_answers_in_one_call(struct endpoint *endpoint)
{
	__u32 rounds = *(__u32 *)endpoint->argument, seen = 0;

	CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, 0, 0, soon(), NULL));
	while ((seen = load(endpoint->box->post)) < rounds) {
		store(endpoint->box->done, seen);
		CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, DISTWORKER_WAIT_WAKE, seen, soon(),
					     NULL));
	}
	store(endpoint->box->done, seen);
	CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
}

TEST(ping_pong_takes_one_call_per_side_and_turn)
{
	__u32 rounds = handovers_at_most(2000);
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_answers_in_one_call, &rounds));
	hub_drain_state(&hub);
	for (__u32 i = 1; i <= rounds; i++) {
		struct hub_wait wait = { .flags = DISTWORKER_WAIT_WAKE, .wake = 1, .watch = 1,
					 .deadline = soon() };

		hub.state->seen[0] = i - 1;
		store(hub_mailbox(&hub, 0)->post, i);
		ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
		ASSERT_TRUE(wait.events & DISTWORKER_EVENT_DONE);
		ASSERT_EQ(1, wait.ready);
		ASSERT_EQ(i, load(hub_mailbox(&hub, 0)->done));
	}
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(wake_and_wait_wakes_also_if_it_then_does_not_sleep)
{
	struct hub_wait wait = { .flags = DISTWORKER_WAIT_WAKE, .wake = 1, .kick_seen = 1 };
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	for (int deadline_is_over = 0; deadline_is_over < 2; deadline_is_over++) {
		ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_for_post_and_lives_on, NULL));
		hub_drain_state(&hub);
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
		store(hub_mailbox(&hub, 0)->post, 1);
		wait.kick_seen = deadline_is_over ? 0 : 1;
		wait.deadline = 0;
		EXPECT_EQ(deadline_is_over ? -ETIMEDOUT : 0, dw_hub_wait(hub.fd, &wait));
		EXPECT_EQ(0, peer_join(&peer));
		ASSERT_EQ(0, dw_rearm(hub.fd, 0, NULL));
	}
}

static void peer_wakes_and_leaves(struct endpoint *endpoint)
{
	__u32 events;

	CHECK(sync_receive(endpoint->sync));
	store(endpoint->box->done, 1);
	CHECK_EQ(-ETIMEDOUT, dw_endpoint_wait(endpoint->fd, DISTWORKER_WAIT_WAKE, 0, 0, &events));
	sync_receive(endpoint->sync);
}

TEST(endpoint_wait_with_wake_wakes_the_owner_also_at_an_expired_deadline)
{
	struct waiter waiter;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_wakes_and_leaves, NULL));
	hub_drain_state(&hub);
	ASSERT_TRUE(waiter_start(&waiter, &hub, 1));
	ASSERT_TRUE(sync_send(peer.sync));
	EXPECT_EQ(0, waiter_join(&waiter));
	EXPECT_EQ(1, waiter.wait.ready);
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(a_wake_mask_without_the_flag_wakes_nobody)
{
	__u64 mask = 1;
	struct distworker_hub_wait wait = ABI(distworker_hub_wait, .wake_mask = to_u64(&mask),
					      .mask_words = 1, .kick_seen = 1);
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_for_post, NULL));
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	store(hub_mailbox(&hub, 0)->post, 1);
	dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &wait);
	EXPECT_TRUE(peer_sleeps(&hub, 0, peer.pid));
	EXPECT_EQ(1, dw_wake(hub.fd, 0, 1));
	EXPECT_EQ(0, peer_join(&peer));
}

TEST_HARNESS_MAIN
