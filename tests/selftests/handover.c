// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hunting lost wake-ups: two sides hand over to each other as the library does,
 * with pauses of random length before each look at the other's "asleep" word,
 * so that the moments of publishing and of falling asleep meet in every order.
 * A wake-up that is lost is a wait that ends by its deadline.
 *
 * DISTWORKER_HANDOVERS: how many in each hunt; a million to be sure. The default fits into
 * an emulated machine, where a wake-up across CPUs takes milliseconds when its host is busy.
 */
#include "distworker_test.h"

#define HUNT_SECONDS 3600

static __u32 handovers(void)
{
	return number_from_env("DISTWORKER_HANDOVERS",
			       sysconf(_SC_NPROCESSORS_ONLN) == 1 ? 20000 : 3000);
}

/* To show where the time goes. */
static void report(const char *name, __u32 rounds)
{
	ksft_print_msg("%s: %u hand-overs, now %llu ms\n", name, rounds, now_ns() / NSEC_PER_MSEC);
	fflush(stdout);
}

/* Between nothing and a few microseconds; the longest is changed from round to round. */
static void pause_at_random(__u32 *seed, __u32 longest)
{
	*seed = *seed * 1664525 + 1013904223;
	for (volatile __u32 i = longest ? (*seed >> 8) % longest : 0; i; i--)
		;
}

static __u32 longest_pause(__u32 round)
{
	static const __u32 longest[] = { 0, 30, 300, 3000 };

	return longest[round / 64 % ARRAY_SIZE(longest)];
}

/* ---------------------------------------------------------------- one peer, one frame at a time */

FIXTURE(hunt)
{
	struct hub hub;
};

FIXTURE_VARIANT(hunt)
{
	__u32 owner_flags;
	__u32 peer_flags;
};

FIXTURE_VARIANT_ADD(hunt, both_spin) { };
FIXTURE_VARIANT_ADD(hunt, nobody_spins) {
	.owner_flags = DISTWORKER_WAIT_NOSPIN, .peer_flags = DISTWORKER_WAIT_NOSPIN
};
FIXTURE_VARIANT_ADD(hunt, owner_spins) { .peer_flags = DISTWORKER_WAIT_NOSPIN };
FIXTURE_VARIANT_ADD(hunt, wake_and_wait) {
	.owner_flags = DISTWORKER_WAIT_WAKE, .peer_flags = DISTWORKER_WAIT_WAKE
};

FIXTURE_SETUP(hunt)
{
	ASSERT_EQ(0, hub_open(&self->hub, 1, BOX_BYTES));
}

FIXTURE_TEARDOWN(hunt)
{
}

static void peer_serves(struct endpoint *endpoint)
{
	__u32 flags = *(__u32 *)endpoint->argument, rounds = handovers(), seen = 0, seed = 1;
	bool wake = false;

	while (seen < rounds) {
		if (load(endpoint->box->post) == seen || wake)
			CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, flags, seen, soon(), NULL));
		CHECK_EQ(seen + 1, load(endpoint->box->post));
		seen++;
		pause_at_random(&seed, longest_pause(seen));
		store(endpoint->box->done, seen);
		full_barrier();
		wake = false;
		if (!load(endpoint->hub_line->asleep))
			continue;
		if (flags & DISTWORKER_WAIT_WAKE && seen < rounds)
			wake = true;	/* in the next wait */
		else
			CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
	}
	sync_receive(endpoint->sync);
}

TEST_F_TIMEOUT(hunt, request_and_reply_loses_no_wake_up, HUNT_SECONDS)
{
	struct distworker_mailbox *box = hub_mailbox(&self->hub, 0);
	__u32 flags = variant->peer_flags, rounds = handovers(), seed = 2;
	struct peer peer;

	ASSERT_EQ(0, peer_start(&peer, &self->hub, 0, peer_serves, &flags));
	hub_drain_state(&self->hub);
	for (__u32 i = 1; i <= rounds; i++) {
		struct hub_wait wait = { .flags = variant->owner_flags, .wake = 1, .watch = 1 };

		pause_at_random(&seed, longest_pause(i));
		store(box->post, i);
		full_barrier();
		if (!load(box->asleep))
			wait.wake = 0;
		else if (!(wait.flags & DISTWORKER_WAIT_WAKE))
			ASSERT_LE(0, dw_wake(self->hub.fd, 0, 1));
		wait.deadline = soon();
		ASSERT_EQ(0, dw_hub_wait(self->hub.fd, &wait)) {
			TH_LOG("lost at hand-over %u of %u", i, rounds);
		}
		ASSERT_EQ(DISTWORKER_EVENT_DONE, wait.events);
		ASSERT_EQ(i, load(box->done));
		self->hub.state->seen[0] = i;
	}
	EXPECT_EQ(0, peer_join(&peer));
	report(_metadata->name, handovers());
}

/* ---------------------------------------------------------------- a stream in each direction */

FIXTURE(stream)
{
};

FIXTURE_SETUP(stream)
{
}

FIXTURE_TEARDOWN(stream)
{
}

static void peer_consumes_stream(struct endpoint *endpoint)
{
	__u32 rounds = handovers(), seen = 0, seed = 3;

	while (seen < rounds) {
		CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, seen % 2 * DISTWORKER_WAIT_NOSPIN, seen,
					     soon(), NULL));
		seen = load(endpoint->box->post);
		pause_at_random(&seed, longest_pause(seen));
	}
}

TEST_F_TIMEOUT(stream, of_posts_loses_no_wake_up, HUNT_SECONDS)
{
	__u32 rounds = handovers(), seed = 4, calls = 0;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_consumes_stream, NULL));
	for (__u32 i = 0; i < rounds; i++) {
		int woken;

		pause_at_random(&seed, longest_pause(i));
		woken = hub_post(&hub, 0);
		ASSERT_LE(0, woken);
		calls += woken;
	}
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_LE(calls, rounds);
	report(_metadata->name, handovers());
}

static void peer_produces_stream(struct endpoint *endpoint)
{
	__u32 rounds = handovers(), seed = 5;

	for (__u32 i = 0; i < rounds; i++) {
		pause_at_random(&seed, longest_pause(i));
		CHECK_EQ(0, endpoint_complete(endpoint));
	}
	sync_receive(endpoint->sync);
}

#define PRODUCERS 4

TEST_F_TIMEOUT(stream, of_completions_of_several_peers_loses_no_wake_up, HUNT_SECONDS)
{
	__u32 rounds = handovers(), seed = 6, finished = 0;
	struct peer peers[PRODUCERS];
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, PRODUCERS, BOX_BYTES));
	for (int i = 0; i < PRODUCERS; i++)
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i, peer_produces_stream, NULL));
	hub_drain_state(&hub);
	for (__u32 round = 0; finished < PRODUCERS; round++) {
		struct hub_wait wait = { .flags = round % 2 * DISTWORKER_WAIT_NOSPIN,
					 .watch = (1 << PRODUCERS) - 1, .deadline = soon() };

		ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
		ASSERT_NE(0, wait.ready);
		for (int i = 0; i < PRODUCERS; i++) {
			__u32 done = load(hub_mailbox(&hub, i)->done);

			if (!(wait.ready >> i & 1))
				continue;
			ASSERT_NE(done, hub.state->seen[i]);
			store(hub.state->seen[i], done);
			finished += done == rounds;
		}
		pause_at_random(&seed, longest_pause(round));
	}
	for (int i = 0; i < PRODUCERS; i++)
		EXPECT_EQ(0, peer_join(&peers[i]));
	report(_metadata->name, handovers());
}

/* ------------------------------------------- deadlines that race with posts */

static void peer_waits_briefly(struct endpoint *endpoint)
{
	__u32 rounds = *(__u32 *)endpoint->argument, seen = 0, seed = 7;
	__u64 give_up = soon();
	int ret;

	while (seen < rounds) {
		seed = seed * 1664525 + 1013904223;
		ret = dw_endpoint_wait(endpoint->fd, seed >> 31, seen,
				       now_ns() + (seed >> 16) % 60000, NULL);
		CHECK(ret == 0 || (ret == -ETIMEDOUT && now_ns() < give_up));
		if (ret)
			continue;
		seen = load(endpoint->box->post);
		give_up = soon();
		store(endpoint->box->done, seen);
		full_barrier();
		if (load(endpoint->hub_line->asleep))
			CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
	}
	sync_receive(endpoint->sync);
}

TEST_F_TIMEOUT(stream, of_hand_overs_survives_deadlines_that_race_with_them, HUNT_SECONDS)
{
	__u32 rounds = handovers() / 4;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_briefly, &rounds));
	hub_drain_state(&hub);
	for (__u32 i = 1; i <= rounds; i++) {
		__u64 give_up = soon();
		int ret;

		ASSERT_LE(0, hub_post(&hub, 0));
		do {
			struct hub_wait wait = { .watch = 1, .deadline = now_ns() + i % 50 * 1000 };

			ret = dw_hub_wait(hub.fd, &wait);
		} while (ret == -ETIMEDOUT && now_ns() < give_up);
		ASSERT_EQ(0, ret);
		ASSERT_EQ(i, load(hub_mailbox(&hub, 0)->done));
		hub.state->seen[0] = i;
	}
	EXPECT_EQ(0, peer_join(&peer));
	report(_metadata->name, handovers());
}

/* ---------------------------------------------------------------- threads of the owner */

struct relay {
	struct hub *hub;
	__u32 rounds;
	int failed;
};

static void *thread_kicks(void *argument)
{
	struct relay *relay = argument;
	__u32 seed = 8;

	for (__u32 i = 0; i < relay->rounds; i++) {
		pause_at_random(&seed, longest_pause(i));
		add(relay->hub->state->kick, 1);
		full_barrier();
		if (load(relay->hub->line->asleep) &&
		    dw_wake(relay->hub->fd, DISTWORKER_WAKE_SELF, 0) < 0)
			store(relay->failed, 1);
	}
	return NULL;
}

TEST_F_TIMEOUT(stream, of_kicks_of_two_threads_loses_no_wake_up, HUNT_SECONDS)
{
	struct hub hub;
	struct relay relay = { .hub = &hub, .rounds = handovers() / 2 };
	pthread_t threads[2];
	__u32 seen = 0;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, thread_kicks, &relay));
	while (seen != 2 * relay.rounds) {
		struct hub_wait wait = { .kick_seen = seen, .deadline = soon() };

		ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
		ASSERT_EQ(DISTWORKER_EVENT_KICK, wait.events);
		ASSERT_NE(seen, load(hub.state->kick));
		seen = load(hub.state->kick);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, relay.failed);
	report(_metadata->name, handovers());
}

/* ---------------------------------------------------------------- masks */

#define CROWD 16

static void peer_answers(struct endpoint *endpoint)
{
	__u32 rounds = *(__u32 *)endpoint->argument, seed = endpoint->index;

	for (__u32 seen = 0; seen < rounds; ) {
		CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, 0, seen, soon(), NULL));
		CHECK_EQ(++seen, load(endpoint->box->post));
		pause_at_random(&seed, longest_pause(seen));
		CHECK_EQ(0, endpoint_complete(endpoint));
	}
	sync_receive(endpoint->sync);
}

TEST_F_TIMEOUT(stream, of_wakes_by_mask_loses_nobody, HUNT_SECONDS)
{
	__u32 rounds = handovers() / CROWD;
	struct peer peers[CROWD];
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, CROWD, BOX_BYTES));
	for (int i = 0; i < CROWD; i++)
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i, peer_answers, &rounds));
	hub_drain_state(&hub);
	for (__u32 round = 1; round <= rounds; round++) {
		__u64 mask = 0, missing = (1 << CROWD) - 1;

		for (int i = 0; i < CROWD; i++)
			store(hub_mailbox(&hub, i)->post, round);
		full_barrier();
		for (int i = 0; i < CROWD; i++)
			mask |= (__u64)!!load(hub_mailbox(&hub, i)->asleep) << i;
		while (missing) {
			struct hub_wait wait = { .flags = DISTWORKER_WAIT_WAKE, .wake = mask,
						 .watch = missing, .deadline = soon() };

			ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
			ASSERT_EQ(DISTWORKER_EVENT_DONE, wait.events);
			for (int i = 0; i < CROWD; i++)
				if (wait.ready >> i & 1)
					hub.state->seen[i] = round;
			missing &= ~wait.ready;
			mask = 0;
		}
	}
	for (int i = 0; i < CROWD; i++)
		EXPECT_EQ(0, peer_join(&peers[i]));
	report(_metadata->name, handovers());
}

/* ---------------------------------------------------------------- lives and deaths */

static void peer_answers_once(struct endpoint *endpoint)
{
	CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, 0, 0, soon(), NULL));
	CHECK_EQ(0, endpoint_complete(endpoint));
	if (endpoint->attach.generation % 3 == 0)
		raise(SIGKILL);
}

TEST_F_TIMEOUT(stream, of_children_that_answer_die_and_are_replaced_loses_no_event, HUNT_SECONDS)
{
	__u32 rounds = handovers() / 200;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	for (__u32 round = 0; round < rounds; round++) {
		struct distworker_mailbox_query query;
		struct peer peer;
		bool answered = false, died = false;

		ASSERT_EQ(0, peer_start_on(&peer, &hub, 0, dup(endpoint), peer_answers_once, NULL));
		hub_drain_state(&hub);
		hub.state->seen[0] = 0;
		ASSERT_LE(0, hub_post(&hub, 0));
		while (!answered || !died) {
			struct hub_wait wait = { .watch = 1, .deadline = soon() };

			ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
			if (wait.ready) {
				answered = true;
				hub.state->seen[0] = 1;
			}
			ASSERT_FALSE(died && wait.state);
			died |= wait.state;
		}
		ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
		ASSERT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
		ASSERT_EQ(query.status, peer_join(&peer));
		ASSERT_EQ(query.generation % 3 == 0 ? SIGKILL : 0, query.status);
		ASSERT_EQ(0, dw_rearm(hub.fd, 0, NULL));
	}
	report(_metadata->name, handovers());
}

TEST_HARNESS_MAIN
