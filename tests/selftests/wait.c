// SPDX-License-Identifier: GPL-2.0-only
/*
 * When a wait returns and what it then says: words that differ, deadlines,
 * signals, for endpoints and hubs. Wake-ups are in wake.c.
 */
#include "distworker_test.h"

/* A hub of one mailbox whose peer is the test itself. */
FIXTURE(self_peer)
{
	struct hub hub;
	int endpoint;
	struct distworker_mailbox *box;
};

FIXTURE_SETUP(self_peer)
{
	ASSERT_EQ(0, hub_open(&self->hub, 3, BOX_BYTES));
	self->endpoint = dw_create(self->hub.fd, 0);
	ASSERT_LE(0, self->endpoint);
	ASSERT_EQ(0, dw_bind(self->hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_attach(self->endpoint, NULL));
	hub_drain_state(&self->hub);
	self->box = hub_mailbox(&self->hub, 0);
}

FIXTURE_TEARDOWN(self_peer)
{
}

/* ---------------------------------------------------------------- endpoint: words */

TEST_F(self_peer, endpoint_wait_returns_at_once_if_the_word_differs)
{
	static const struct { __u32 post, seen; } cases[] = {
		{ 1, 0 }, { 0, 1 }, { 0, ~0u }, { ~0u, 0 }, { 0x80000000, 0 }, { 3, 5 },
		{ 0x7fffffff, 0x80000000 },
	};
	__u32 events;

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		self->box->post = cases[i].post;
		EXPECT_EQ(0, dw_endpoint_wait(self->endpoint, 0, cases[i].seen,
					      DISTWORKER_NO_DEADLINE, &events));
		EXPECT_EQ(DISTWORKER_EVENT_POST, events);
		EXPECT_EQ(0, self->box->asleep);
	}
}

TEST_F(self_peer, endpoint_wait_returns_at_once_if_asked_to_stop)
{
	__u32 events;

	self->box->stop = 1;
	EXPECT_EQ(0, dw_endpoint_wait(self->endpoint, 0, 0, DISTWORKER_NO_DEADLINE, &events));
	EXPECT_EQ(DISTWORKER_EVENT_STOP, events);
	self->box->post = 1;
	EXPECT_EQ(0, dw_endpoint_wait(self->endpoint, 0, 0, DISTWORKER_NO_DEADLINE, &events));
	EXPECT_EQ(DISTWORKER_EVENT_STOP | DISTWORKER_EVENT_POST, events);
}

/* ---------------------------------------------------------------- deadlines */

TEST_F(self_peer, endpoint_wait_with_a_deadline_that_is_over_looks_and_returns)
{
	__u64 start = now_ns();
	__u64 deadlines[] = { 0, 1, start / 2, start - 1, start };
	__u32 flags[] = { 0, DISTWORKER_WAIT_NOSPIN };
	__u32 events;

	for (unsigned int i = 0; i < ARRAY_SIZE(deadlines); i++) {
		for (unsigned int f = 0; f < ARRAY_SIZE(flags); f++) {
			EXPECT_EQ(-ETIMEDOUT, dw_endpoint_wait(self->endpoint, flags[f], 0,
							       deadlines[i], &events));
			EXPECT_EQ(0, dw_endpoint_wait(self->endpoint, flags[f], 1, deadlines[i],
						      &events));
			EXPECT_EQ(DISTWORKER_EVENT_POST, events);
		}
	}
	EXPECT_EQ(0, self->box->asleep);
}

TEST_F(self_peer, endpoint_wait_ends_at_its_deadline_and_never_before)
{
	static const __u64 ahead[] = { 1, 2, 999, 1000, 50000, NSEC_PER_MSEC, 3 * NSEC_PER_MSEC };

	for (unsigned int i = 0; i < ARRAY_SIZE(ahead); i++) {
		__u64 deadline = now_ns() + ahead[i];

		EXPECT_EQ(-ETIMEDOUT, dw_endpoint_wait(self->endpoint, 0, 0, deadline, NULL));
		EXPECT_LE(deadline, now_ns());
		EXPECT_EQ(0, self->box->asleep);
	}
}

TEST_F(self_peer, hub_wait_with_a_deadline_that_is_over_looks_and_returns)
{
	__u64 start = now_ns();
	__u64 deadlines[] = { 0, 1, start - 1, start };

	for (unsigned int i = 0; i < ARRAY_SIZE(deadlines); i++) {
		struct hub_wait wait = { .watch = 1, .deadline = deadlines[i] };

		self->box->done = 0;
		EXPECT_EQ(-ETIMEDOUT, dw_hub_wait(self->hub.fd, &wait));
		self->box->done = 1;
		EXPECT_EQ(0, dw_hub_wait(self->hub.fd, &wait));
		EXPECT_EQ(DISTWORKER_EVENT_DONE, wait.events);
		EXPECT_EQ(1, wait.ready);
		EXPECT_EQ(0, self->hub.line->asleep);
	}
}

TEST_F(self_peer, hub_wait_ends_at_its_deadline_and_never_before)
{
	static const __u64 ahead[] = { 1, 2, 999, 1000, 50000, NSEC_PER_MSEC, 3 * NSEC_PER_MSEC };

	for (unsigned int i = 0; i < ARRAY_SIZE(ahead); i++) {
		struct hub_wait wait = { .watch = 7, .deadline = now_ns() + ahead[i] };

		EXPECT_EQ(-ETIMEDOUT, dw_hub_wait(self->hub.fd, &wait));
		EXPECT_LE(wait.deadline, now_ns());
		EXPECT_EQ(0, self->hub.line->asleep);
	}
}

static void peer_waits_until(struct endpoint *endpoint)
{
	__u64 deadline = *(__u64 *)endpoint->argument;
	__u32 events;

	CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, 0, 0, deadline, &events));
	CHECK_EQ(DISTWORKER_EVENT_POST, events);
}

TEST(deadlines_at_the_end_of_time_do_not_wrap_into_the_past)
{
	__u64 deadlines[] = { DISTWORKER_NO_DEADLINE, DISTWORKER_NO_DEADLINE - 1, 1ULL << 63,
			      (1ULL << 63) - 1, (1ULL << 63) - 2, 1ULL << 62 };
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, ARRAY_SIZE(deadlines), BOX_BYTES));
	for (unsigned int i = 0; i < ARRAY_SIZE(deadlines); i++) {
		struct waiter waiter;
		struct peer peer;

		ASSERT_EQ(0, peer_start(&peer, &hub, i, peer_waits_until, &deadlines[i]));
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, i, peer.pid)));
		EXPECT_EQ(1, hub_post(&hub, i));
		EXPECT_EQ(0, peer_join(&peer));

		hub_drain_state(&hub);
		waiter = (struct waiter){ .hub = &hub };
		waiter.wait.deadline = deadlines[i];
		ASSERT_EQ(0, pthread_create(&waiter.thread, NULL, waiter_thread, &waiter));
		ASSERT_TRUE(WAIT_UNTIL(waiter.tid && hub_waiter_sleeps(&hub, waiter.tid)));
		EXPECT_EQ(1, dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 0));
		EXPECT_TRUE(WAIT_UNTIL(hub_waiter_sleeps(&hub, waiter.tid)));
		EXPECT_FALSE(waiter.returned);
		hub.state->kick = 1;
		dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 0);
		EXPECT_EQ(0, waiter_join(&waiter));
		hub.state->kick = 0;
	}
}

/* ---------------------------------------------------------------- endpoint: asleep */

static void peer_waits_and_reports(struct endpoint *endpoint)
{
	__u32 seen = 0;

	while (!load(endpoint->box->stop)) {
		if (dw_endpoint_wait(endpoint->fd, DISTWORKER_WAIT_NOSPIN, seen, soon(), NULL))
			_exit(1);
		CHECK_EQ(0, load(endpoint->box->asleep));
		seen = load(endpoint->box->post);
		store(endpoint->box->done, seen);
	}
}

TEST(endpoint_is_marked_asleep_while_it_sleeps_and_not_longer)
{
	struct distworker_mailbox *box;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	box = hub_mailbox(&hub, 0);
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_and_reports, NULL));
	for (__u32 i = 1; i <= 20; i++) {
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
		EXPECT_EQ(i - 1, box->done);
		ASSERT_EQ(1, hub_post(&hub, 0));
		ASSERT_TRUE(WAIT_UNTIL(load(box->done) == i));
	}
	/* Asleep again, or it would see the word before it waits. */
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	store(box->stop, 1);
	EXPECT_EQ(1, dw_wake(hub.fd, 0, 1));
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(0, box->asleep);
}

static void *thread_endpoint_waits(void *argument)
{
	struct endpoint *endpoint = argument;
	__u32 events;

	CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, 0, 0, soon(), &events));
	CHECK_EQ(DISTWORKER_EVENT_POST, events);
	return NULL;
}

static void peer_waits_with_three_threads(struct endpoint *endpoint)
{
	pthread_t threads[3];

	for (int i = 0; i < 3; i++)
		CHECK_EQ(0, pthread_create(&threads[i], NULL, thread_endpoint_waits, endpoint));
	for (int i = 0; i < 3; i++)
		CHECK_EQ(0, pthread_join(threads[i], NULL));
	CHECK_EQ(0, load(endpoint->box->asleep));
}

TEST(every_thread_that_waits_on_an_endpoint_is_woken)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_with_three_threads, NULL));
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	hub_post(&hub, 0);
	EXPECT_EQ(0, peer_join(&peer));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
}

/* ---------------------------------------------------------------- hub: reports */

TEST_F(self_peer, hub_wait_names_the_watched_mailboxes_with_news_and_no_others)
{
	struct hub *hub = &self->hub;

	for (__u64 news = 0; news < 8; news++) {
		for (int i = 0; i < 3; i++)
			hub_mailbox(hub, i)->done = news >> i & 1;
		for (__u64 watch = 0; watch < 8; watch++) {
			struct hub_wait wait = { .watch = watch };
			int ret = dw_hub_wait(hub->fd, &wait);

			if (!(watch & news)) {
				EXPECT_EQ(-ETIMEDOUT, ret);
				continue;
			}
			EXPECT_EQ(0, ret);
			EXPECT_EQ(DISTWORKER_EVENT_DONE, wait.events);
			EXPECT_EQ(watch & news, wait.ready);
			EXPECT_EQ(0, wait.state);
		}
	}
}

TEST_F(self_peer, hub_wait_compares_done_words_for_being_different_not_greater)
{
	static const struct { __u32 done, seen; } cases[] = {
		{ 0, ~0u }, { ~0u, 0 }, { 0x80000000, 0x7fffffff }, { 3, 5 }, { 1, 0x80000001 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct hub_wait wait = { .watch = 2 };

		hub_mailbox(&self->hub, 1)->done = cases[i].done;
		self->hub.state->seen[1] = cases[i].seen;
		EXPECT_EQ(0, dw_hub_wait(self->hub.fd, &wait));
		EXPECT_EQ(2, wait.ready);
		self->hub.state->seen[1] = cases[i].done;
		EXPECT_EQ(-ETIMEDOUT, dw_hub_wait(self->hub.fd, &wait));
	}
}

TEST_F(self_peer, hub_wait_reports_a_kick_of_any_value)
{
	static const struct { __u32 kick, seen; } cases[] = {
		{ 1, 0 }, { 0, 1 }, { 0, ~0u }, { ~0u, 0 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct hub_wait wait = { .kick_seen = cases[i].seen,
					 .deadline = DISTWORKER_NO_DEADLINE };

		self->hub.state->kick = cases[i].kick;
		EXPECT_EQ(0, dw_hub_wait(self->hub.fd, &wait));
		EXPECT_EQ(DISTWORKER_EVENT_KICK, wait.events);
		EXPECT_EQ(0, wait.ready);
		EXPECT_EQ(0, wait.state);
	}
}

TEST_F(self_peer, hub_wait_reports_all_kinds_of_news_at_once)
{
	struct hub_wait wait = { .watch = 7, .kick_seen = 0, .deadline = soon() };
	struct peer peer;

	ASSERT_EQ(0, peer_start(&peer, &self->hub, 2, peer_idles, NULL));
	self->hub.state->kick = 1;
	hub_mailbox(&self->hub, 1)->done = 1;
	ASSERT_EQ(0, dw_hub_wait(self->hub.fd, &wait));
	EXPECT_EQ(DISTWORKER_EVENT_DONE | DISTWORKER_EVENT_STATE | DISTWORKER_EVENT_KICK,
		  wait.events);
	EXPECT_EQ(2, wait.ready);
	EXPECT_EQ(4, wait.state);
	EXPECT_EQ(0, peer_join(&peer));
}

TEST_F(self_peer, masks_that_are_not_wanted_are_not_written)
{
	struct distworker_hub_wait wait = ABI(distworker_hub_wait, .mask_words = 1);
	__u64 watch = 1;

	self->box->done = 1;
	EXPECT_EQ(-ETIMEDOUT, dw_ioctl(self->hub.fd, DISTWORKER_HUB_WAIT, &wait));
	wait.watch_mask = to_u64(&watch);
	EXPECT_EQ(0, dw_ioctl(self->hub.fd, DISTWORKER_HUB_WAIT, &wait));
	EXPECT_EQ(DISTWORKER_EVENT_DONE, wait.events);
	EXPECT_EQ(1, watch);
	wait.watch_mask = 0;
	wait.mask_words = 0;
	EXPECT_EQ(-ETIMEDOUT, dw_ioctl(self->hub.fd, DISTWORKER_HUB_WAIT, &wait));
}

TEST_F(self_peer, a_state_change_is_reported_once_and_kept_until_it_is_taken)
{
	struct distworker_hub_wait blind = ABI(distworker_hub_wait, .deadline_ns = soon());
	struct hub_wait wait = { .deadline = soon() };
	struct peer peer;

	ASSERT_EQ(0, peer_start(&peer, &self->hub, 1, peer_idles, NULL));
	/* A wait without room for the report leaves it where it is. */
	EXPECT_EQ(0, dw_ioctl(self->hub.fd, DISTWORKER_HUB_WAIT, &blind));
	EXPECT_EQ(DISTWORKER_EVENT_STATE, blind.events);
	EXPECT_EQ(0, dw_ioctl(self->hub.fd, DISTWORKER_HUB_WAIT, &blind));
	EXPECT_EQ(0, dw_hub_wait(self->hub.fd, &wait));
	EXPECT_EQ(DISTWORKER_EVENT_STATE, wait.events);
	EXPECT_EQ(2, wait.state);
	wait.deadline = 0;
	EXPECT_EQ(-ETIMEDOUT, dw_hub_wait(self->hub.fd, &wait));
	EXPECT_EQ(0, peer_join(&peer));
	wait.deadline = soon();
	EXPECT_EQ(0, dw_hub_wait(self->hub.fd, &wait));
	EXPECT_EQ(2, wait.state);
}

TEST_F(self_peer, a_report_that_could_not_be_written_is_not_lost)
{
	void *nowhere = mmap(NULL, getpagesize(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct distworker_hub_wait bad = ABI(distworker_hub_wait, .state_mask = to_u64(nowhere),
					     .mask_words = 1, .deadline_ns = soon());
	struct hub_wait wait = { .deadline = soon() };
	struct peer peer;

	ASSERT_EQ(0, peer_start(&peer, &self->hub, 2, peer_idles, NULL));
	EXPECT_EQ(-EFAULT, dw_ioctl(self->hub.fd, DISTWORKER_HUB_WAIT, &bad));
	EXPECT_EQ(0, dw_hub_wait(self->hub.fd, &wait));
	EXPECT_EQ(4, wait.state);
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(hub_wait_finds_news_in_each_of_1024_mailboxes)
{
	__u64 watch[MASK_WORDS], ready[MASK_WORDS];
	struct distworker_hub_wait wait = ABI(distworker_hub_wait,
		.watch_mask = to_u64(watch), .ready_mask = to_u64(ready), .mask_words = MASK_WORDS);
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1024, BOX_BYTES));
	memset(watch, 0xff, sizeof(watch));
	wait.deadline_ns = 0;
	EXPECT_EQ(-ETIMEDOUT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &wait));
	wait.deadline_ns = DISTWORKER_NO_DEADLINE;
	for (unsigned int i = 0; i < 1024; i++) {
		memset(ready, POISON, sizeof(ready));
		hub_mailbox(&hub, i)->done = 1;
		ASSERT_EQ(0, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &wait));
		ASSERT_TRUE(mask_has(ready, i));
		ASSERT_EQ(1, mask_count(ready, MASK_WORDS));
		hub.state->seen[i] = 1;
	}
	for (unsigned int i = 0; i < 1024; i += 3)
		hub.state->seen[i] = 0;
	ASSERT_EQ(0, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &wait));
	for (unsigned int i = 0; i < 1024; i++)
		ASSERT_EQ(i % 3 == 0, mask_has(ready, i));
}

/* ---------------------------------------------------------------- signals */

static void handler(int signal)
{
	(void)signal;
}

static void handle(int signal, int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

	CHECK_EQ(0, sigaction(signal, &action, NULL));
}

static void peer_is_interrupted(struct endpoint *endpoint)
{
	__u32 events;

	handle(SIGUSR1, 0);
	CHECK(sync_send(endpoint->sync));
	CHECK_EQ(-EINTR, dw_endpoint_wait(endpoint->fd, DISTWORKER_WAIT_NOSPIN, 0, soon(),
					  &events));
	CHECK_EQ(0, endpoint->box->asleep);
	/* The next wait finds posts from between the signal and itself. */
	CHECK(sync_send(endpoint->sync));
	CHECK(sync_receive(endpoint->sync));
	CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, 0, 0, soon(), &events));
	CHECK_EQ(DISTWORKER_EVENT_POST, events);
}

TEST(signal_interrupts_an_endpoint_wait_with_eintr)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_is_interrupted, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	ASSERT_EQ(0, kill(peer.pid, SIGUSR1));
	ASSERT_TRUE(sync_receive(peer.sync));
	EXPECT_EQ(0, hub_post(&hub, 0));
	ASSERT_TRUE(sync_send(peer.sync));
	EXPECT_EQ(0, peer_join(&peer));
}

static int handled;

static void count_signal(int signal)
{
	add(handled, 1);
}

static void peer_waits_on(struct endpoint *endpoint)
{
	struct sigaction action = { .sa_handler = count_signal, .sa_flags = SA_RESTART };
	__u32 events;

	CHECK_EQ(0, sigaction(SIGUSR1, &action, NULL));
	CHECK(sync_send(endpoint->sync));
	CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, 0, 0, soon(), &events));
	CHECK_EQ(DISTWORKER_EVENT_POST, events);
	CHECK_EQ(*(int *)endpoint->argument, load(handled));
}

/* Deadlines are absolute, so that nothing is lost; but EINTR came for each of these. */
TEST(wait_goes_on_after_a_stop_and_after_a_handler_with_sa_restart)
{
	for (int signals = 0; signals < 2; signals++) {
		struct peer peer;
		struct hub hub;
		int status;

		ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
		ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_on, &signals));
		ASSERT_TRUE(sync_receive(peer.sync));
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
		if (signals) {
			ASSERT_EQ(0, kill(peer.pid, SIGUSR1));
		} else {
			ASSERT_EQ(0, kill(peer.pid, SIGSTOP));
			ASSERT_EQ(peer.pid, waitpid(peer.pid, &status, WUNTRACED));
			ASSERT_EQ(0, kill(peer.pid, SIGCONT));
		}
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
		EXPECT_EQ(1, hub_post(&hub, 0));
		EXPECT_EQ(0, peer_join(&peer));
		hub_close(&hub);
	}
}

TEST_F(self_peer, signal_interrupts_a_hub_wait_and_loses_no_news)
{
	struct hub_wait again = { .watch = 2, .deadline = soon() };
	struct waiter waiter;
	struct peer peer;

	handle(SIGUSR1, 0);
	ASSERT_TRUE(waiter_start(&waiter, &self->hub, 2));
	ASSERT_EQ(0, pthread_kill(waiter.thread, SIGUSR1));
	EXPECT_EQ(-EINTR, waiter_join(&waiter));
	EXPECT_EQ(0, self->hub.line->asleep);
	hub_mailbox(&self->hub, 1)->done = 1;
	ASSERT_EQ(0, peer_start(&peer, &self->hub, 2, peer_idles, NULL));
	EXPECT_EQ(0, dw_hub_wait(self->hub.fd, &again));
	EXPECT_EQ(DISTWORKER_EVENT_DONE | DISTWORKER_EVENT_STATE, again.events);
	EXPECT_EQ(0, peer_join(&peer));
}

static void peer_counts_under_fire(struct endpoint *endpoint)
{
	__u32 seen = 0, interrupted = 0;
	int ret;

	handle(SIGALRM, 0);
	CHECK_EQ(0, alarm_every(500));
	while (seen < *(__u32 *)endpoint->argument && !load(endpoint->box->stop)) {
		ret = dw_endpoint_wait(endpoint->fd, 0, seen, soon(), NULL);
		if (ret == -EINTR) {
			interrupted++;
			continue;
		}
		CHECK_EQ(0, ret);
		seen = load(endpoint->box->post);
		store(endpoint->box->done, seen);
		full_barrier();
		if (load(endpoint->hub_line->asleep))
			dw_endpoint_wake(endpoint->fd);
	}
}

TEST(no_message_is_lost_to_a_rain_of_signals)
{
	__u32 rounds = handovers_at_most(3000);
	__u64 end = now_ns() + HUNT_NS;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_counts_under_fire, &rounds));
	hub_drain_state(&hub);
	for (__u32 i = 1; i <= rounds && now_ns() < end; i++) {
		struct hub_wait wait = { .watch = 1, .deadline = soon() };

		ASSERT_LE(0, hub_post(&hub, 0));
		ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
		ASSERT_EQ(i, load(hub_mailbox(&hub, 0)->done));
		hub.state->seen[0] = i;
	}
	store(hub_mailbox(&hub, 0)->stop, 1);
	dw_wake(hub.fd, 0, 1);
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(stopped_and_continued_peer_still_gets_its_message)
{
	struct peer peer;
	struct hub hub;
	__u32 rounds = 1;
	int status;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_counts_under_fire, &rounds));
	ASSERT_EQ(0, kill(peer.pid, SIGSTOP));
	ASSERT_EQ(peer.pid, waitpid(peer.pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	ASSERT_LE(0, hub_post(&hub, 0));
	EXPECT_EQ('T', task_state(peer.pid));
	ASSERT_EQ(0, kill(peer.pid, SIGCONT));
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(1, hub_mailbox(&hub, 0)->done);
}

/* ---------------------------------------------------------------- another CLOCK_MONOTONIC */

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#define NO_TIME_NAMESPACES 4

static void waits_end_at_deadlines_of_this_clock(void)
{
	struct itimerval give_up = { .it_value.tv_sec = 10 };
	struct sigaction action = { .sa_handler = handler };
	__u64 deadline;
	struct hub hub;
	int endpoint;

	CHECK_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	CHECK_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	CHECK_EQ(0, dw_attach(endpoint, NULL));
	hub_drain_state(&hub);
	CHECK_EQ(0, sigaction(SIGALRM, &action, NULL));
	CHECK_EQ(0, setitimer(ITIMER_REAL, &give_up, NULL));
	for (int of_hub = 0; of_hub < 2; of_hub++) {
		struct hub_wait wait = { .deadline = now_ns() + 20 * NSEC_PER_MSEC };

		deadline = wait.deadline;
		CHECK_EQ(-ETIMEDOUT, of_hub ? dw_hub_wait(hub.fd, &wait) :
			 dw_endpoint_wait(endpoint, 0, 0, deadline, NULL));
		CHECK(now_ns() >= deadline);
	}
	/* Neither of these two is a time. */
	CHECK_EQ(-ETIMEDOUT, dw_endpoint_wait(endpoint, 0, 0, 0, NULL));
	CHECK_EQ(0, alarm_every(50000));
	CHECK_EQ(-EINTR, dw_endpoint_wait(endpoint, 0, 0, DISTWORKER_NO_DEADLINE, NULL));
}

/* Only children are in the new namespace. */
static void in_a_time_namespace(long offset)
{
	int fd, status;
	pid_t child;

	if (unshare(CLONE_NEWTIME))
		_exit(NO_TIME_NAMESPACES);
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(dprintf(fd, "monotonic %ld 0", offset) > 0);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		waits_end_at_deadlines_of_this_clock();
		_exit(0);
	}
	CHECK_EQ(child, waitpid(child, &status, 0));
	CHECK_EQ(0, status);
}

/* They were taken for the kernel's own, and were over at once, or not for long. */
TEST(deadlines_are_those_of_the_time_namespace)
{
	const long up = now_ns() / NSEC_PER_SEC;
	/* As far back as the clock can be set. */
	const long offsets[] = { 1000, up < 1000 ? -up : -1000 };
	int status;

	for (unsigned int i = 0; i < ARRAY_SIZE(offsets); i++) {
		status = IN_CHILD(in_a_time_namespace(offsets[i]));
		if (status == NO_TIME_NAMESPACES << 8)
			SKIP(return, "no time namespaces here: %s", geteuid() ? "not root" :
			     "not in this kernel");
		EXPECT_EQ(0, status) {
			TH_LOG("with an offset of %ld s", offsets[i]);
		}
	}
}

TEST_HARNESS_MAIN
