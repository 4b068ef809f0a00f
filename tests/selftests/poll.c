// SPDX-License-Identifier: GPL-2.0-only
/*
 * poll, select and epoll on hubs and endpoints: when they are ready, and that
 * polling says "asleep" (POLLER) until the side has consumed or waits again.
 */
#include <sys/eventfd.h>
#include <sys/select.h>
#include <linux/io_uring.h>
#include "distworker_test.h"

static short poll_now(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN | POLLPRI };

	return poll(&poll_fd, 1, 0) < 0 ? -1 : poll_fd.revents;
}

/* A hub of two mailboxes; the test is the peer of the first. */
FIXTURE(self_peer)
{
	struct hub hub;
	int endpoint;
	struct distworker_mailbox *box;
};

FIXTURE_SETUP(self_peer)
{
	ASSERT_EQ(0, hub_open(&self->hub, 2, BOX_BYTES));
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

/* ---------------------------------------------------------------- readiness */

TEST_F(self_peer, hub_is_readable_while_a_done_word_differs)
{
	EXPECT_EQ(0, poll_now(self->hub.fd));
	self->box->done = 1;
	EXPECT_EQ(POLLIN, poll_now(self->hub.fd));
	EXPECT_EQ(POLLIN, poll_now(self->hub.fd));
	self->hub.state->seen[0] = 1;
	EXPECT_EQ(0, poll_now(self->hub.fd));
	hub_mailbox(&self->hub, 1)->done = ~0u;
	EXPECT_EQ(POLLIN, poll_now(self->hub.fd));
}

TEST_F(self_peer, hub_is_readable_while_a_kick_was_not_seen_by_a_wait)
{
	struct hub_wait wait = { .kick_seen = 0 };

	self->hub.state->kick = 1;
	EXPECT_EQ(POLLIN, poll_now(self->hub.fd));
	EXPECT_EQ(0, dw_hub_wait(self->hub.fd, &wait));
	wait.kick_seen = 1;
	EXPECT_EQ(-ETIMEDOUT, dw_hub_wait(self->hub.fd, &wait));
	EXPECT_EQ(0, poll_now(self->hub.fd));
}

TEST_F(self_peer, hub_has_urgent_news_until_a_state_change_is_taken)
{
	struct peer peer;

	ASSERT_EQ(0, peer_start(&peer, &self->hub, 1, peer_idles, NULL));
	EXPECT_EQ(POLLPRI, poll_now(self->hub.fd));
	hub_drain_state(&self->hub);
	EXPECT_EQ(0, poll_now(self->hub.fd));
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(POLLPRI, poll_now(self->hub.fd));
}

TEST_F(self_peer, endpoint_is_readable_while_the_post_word_differs_or_stop_is_set)
{
	EXPECT_EQ(0, poll_now(self->endpoint));
	self->box->post = 1;
	EXPECT_EQ(POLLIN, poll_now(self->endpoint));
	self->box->seen = 1;
	EXPECT_EQ(0, poll_now(self->endpoint));
	self->box->stop = 1;
	EXPECT_EQ(POLLIN, poll_now(self->endpoint));
}

TEST_F(self_peer, files_without_an_owner_or_a_peer_are_errors)
{
	int fresh = device_open(), other = dw_create(self->hub.fd, 1);

	EXPECT_EQ(POLLERR, poll_now(fresh));
	EXPECT_EQ(POLLERR, poll_now(other));
	ASSERT_EQ(0, dw_detach(self->endpoint));
	EXPECT_EQ(POLLERR, poll_now(self->endpoint));
}

/*
 * poll asked for the current process. In a worker of the kernel, where aio and io_uring
 * can call it, that is nobody, and the answer was an error.
 */
TEST_F(self_peer, poll_answers_whoever_has_the_file_and_costs_one_call_at_most)
{
	ASSERT_EQ(0, IN_CHILD({
		CHECK_EQ(0, poll_now(self->hub.fd));
		CHECK_EQ(0, poll_now(self->endpoint));
	}));
	EXPECT_EQ(DISTWORKER_ASLEEP_POLLER, self->hub.line->asleep);
	EXPECT_EQ(DISTWORKER_ASLEEP_POLLER, self->box->asleep);
	EXPECT_EQ(0, dw_endpoint_wake(self->endpoint));
	EXPECT_EQ(0, self->hub.line->asleep);
	EXPECT_EQ(0, dw_wake(self->hub.fd, 0, 1));
	EXPECT_EQ(0, self->box->asleep);
}

/* ------------------------------------------ polled before there is anything */

FIXTURE(early)
{
	struct hub hub;
	int epoll;
	int endpoint;
};

FIXTURE_VARIANT(early)
{
	__u32 flags;
};

FIXTURE_VARIANT_ADD(early, level) { .flags = 0 };
FIXTURE_VARIANT_ADD(early, edge) { .flags = EPOLLET };

FIXTURE_SETUP(early)
{
	self->epoll = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, self->epoll);
}

FIXTURE_TEARDOWN(early)
{
}

static int epoll_add(int epoll, int fd, __u32 flags)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLPRI | flags };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* The events that epoll reports of its one file within a moment; 0: none. */
static __u32 epoll_now(int epoll, int ms)
{
	struct epoll_event event;

	return epoll_wait(epoll, &event, 1, ms) == 1 ? event.events : 0;
}

/* It had an error once, was on no queue, and heard of nothing for ever. */
TEST_F(early, epoll_of_a_device_hears_of_the_hub_that_it_becomes)
{
	struct hub *hub = &self->hub;

	hub->fd = device_open();
	ASSERT_EQ(0, epoll_add(self->epoll, hub->fd, variant->flags));
	EXPECT_EQ(EPOLLERR, epoll_now(self->epoll, SOON_MS));
	ASSERT_EQ(0, dw_setup(hub->fd, 1, BOX_BYTES, &hub->setup));
	hub->map = mmap(NULL, hub->setup.mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			hub->fd, 0);
	ASSERT_TRUE(hub->map != MAP_FAILED);
	hub->line = (void *)hub->map;
	hub->state = (void *)(hub->map + hub->setup.state_offset);
	EXPECT_EQ(0, epoll_now(self->epoll, 0));
	EXPECT_EQ(DISTWORKER_ASLEEP_POLLER, load(hub->line->asleep));
	store(hub->state->kick, 1);
	EXPECT_EQ(1, dw_wake(hub->fd, DISTWORKER_WAKE_SELF, 0));
	EXPECT_EQ(EPOLLIN, epoll_now(self->epoll, SOON_MS));
}

TEST_F(early, epoll_of_an_endpoint_hears_of_posts_of_this_generation_and_the_next)
{
	struct hub *hub = &self->hub;

	ASSERT_EQ(0, hub_open(hub, 1, BOX_BYTES));
	self->endpoint = dw_create(hub->fd, 0);
	ASSERT_EQ(0, epoll_add(self->epoll, self->endpoint, variant->flags));
	EXPECT_EQ(EPOLLERR, epoll_now(self->epoll, SOON_MS));
	for (int generation = 0; generation < 3; generation++) {
		ASSERT_EQ(0, dw_bind(hub->fd, 0, getpid(), NULL));
		ASSERT_EQ(0, dw_attach(self->endpoint, NULL));
		EXPECT_EQ(0, epoll_now(self->epoll, 0));
		EXPECT_EQ(1, hub_post(hub, 0));
		EXPECT_EQ(EPOLLIN, epoll_now(self->epoll, SOON_MS));
		ASSERT_EQ(0, dw_detach(self->endpoint));
		EXPECT_EQ(EPOLLERR, epoll_now(self->epoll, SOON_MS));
		ASSERT_EQ(0, dw_rearm(hub->fd, 0, NULL));
		/* Re-arming had zeroed the word while the poller stayed on its queue. */
		EXPECT_EQ(DISTWORKER_ASLEEP_POLLER, load(hub_mailbox(hub, 0)->asleep));
	}
}

/* ------------------------------------------ beside waits that end otherwise */

static void handle_alarm(int signal)
{
}

/* Each of them woke all pollers of its side for nothing. */
TEST_F(self_peer, waits_that_a_deadline_or_a_signal_ends_wake_no_poller)
{
	struct sigaction action = { .sa_handler = handle_alarm };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, epoll_add(epoll, self->hub.fd, 0));
	ASSERT_EQ(0, epoll_add(epoll, self->endpoint, 0));
	EXPECT_EQ(0, epoll_now(epoll, 0));
	for (int i = 0; i < 20; i++) {
		struct hub_wait wait = { .watch = 1, .flags = DISTWORKER_WAIT_NOSPIN };
		__u64 deadline = i % 2 ? soon() : now_ns() + 2 * NSEC_PER_MSEC;
		int expected = i % 2 ? -EINTR : -ETIMEDOUT;

		wait.deadline = deadline;
		ASSERT_EQ(0, alarm_every(i % 2 * 2000));
		ASSERT_EQ(expected, dw_hub_wait(self->hub.fd, &wait));
		ASSERT_EQ(expected, dw_endpoint_wait(self->endpoint, DISTWORKER_WAIT_NOSPIN, 0,
						     deadline, NULL));
		/* A wake-up takes it away. */
		ASSERT_EQ(DISTWORKER_ASLEEP_POLLER, load(self->hub.line->asleep));
		ASSERT_EQ(DISTWORKER_ASLEEP_POLLER, load(self->box->asleep));
	}
}

/* ---------------------------------------------------------------- the asleep words */

TEST_F(self_peer, poll_sets_poller_and_a_wake_up_clears_it)
{
	EXPECT_EQ(0, self->hub.line->asleep);
	poll_now(self->hub.fd);
	EXPECT_EQ(DISTWORKER_ASLEEP_POLLER, self->hub.line->asleep);
	poll_now(self->endpoint);
	EXPECT_EQ(DISTWORKER_ASLEEP_POLLER, self->box->asleep);
}

TEST_F(self_peer, a_poller_that_has_gone_costs_one_call_and_no_more)
{
	poll_now(self->hub.fd);
	poll_now(self->endpoint);
	EXPECT_EQ(0, dw_endpoint_wake(self->endpoint));
	EXPECT_EQ(0, self->hub.line->asleep);
	EXPECT_EQ(0, dw_wake(self->hub.fd, 0, 1));
	EXPECT_EQ(0, self->box->asleep);
}

/* ---------------------------------------------------------------- being woken */

struct poller {
	int fd;
	bool by_epoll;
	int tid;
	int returned;
	unsigned int events;
};

static void *thread_polls(void *argument)
{
	struct poller *poller = argument;
	struct pollfd poll_fd = { .fd = poller->fd, .events = POLLIN | POLLPRI };
	struct epoll_event event = { .events = EPOLLIN | EPOLLPRI };
	int epoll = poller->by_epoll ? epoll_create1(EPOLL_CLOEXEC) : -1;
	__u64 end = soon();
	int ret;

	if (poller->by_epoll)
		CHECK_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, poller->fd, &event));
	store(poller->tid, current_tid());
	if (poller->by_epoll)
		ret = epoll_wait(epoll, &event, 1, SOON_MS);
	else
		ret = poll(&poll_fd, 1, SOON_MS);
	close(epoll);
	/* At its end poll looks once more: events that it finds then were no wake-up. */
	if (now_ns() >= end)
		ret = 0;
	poller->events = ret != 1	  ? 0 :
			 poller->by_epoll ? event.events :
					    (unsigned int)poll_fd.revents;
	store(poller->returned, 1);
	return NULL;
}

static bool poller_start(struct poller *poller, pthread_t *thread, __u32 *asleep)
{
	return pthread_create(thread, NULL, thread_polls, poller) == 0 &&
	       WAIT_UNTIL(load(poller->tid) && task_sleeps(poller->tid) &&
			  load(*asleep) & DISTWORKER_ASLEEP_POLLER);
}

FIXTURE(poller)
{
	struct hub hub;
	struct peer peer;
	struct poller poller;
	pthread_t thread;
};

FIXTURE_VARIANT(poller)
{
	bool by_epoll;
};

FIXTURE_VARIANT_ADD(poller, poll) { .by_epoll = false };
FIXTURE_VARIANT_ADD(poller, epoll) { .by_epoll = true };

static void peer_completes_when_told(struct endpoint *endpoint)
{
	while (sync_receive(endpoint->sync))
		CHECK_EQ(0, endpoint_complete(endpoint));
}

FIXTURE_SETUP(poller)
{
	ASSERT_EQ(0, hub_open(&self->hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&self->peer, &self->hub, 0, peer_completes_when_told, NULL));
	hub_drain_state(&self->hub);
	self->poller.fd = self->hub.fd;
	self->poller.by_epoll = variant->by_epoll;
}

FIXTURE_TEARDOWN(poller)
{
}

TEST_F(poller, of_the_hub_is_woken_by_a_completion)
{
	ASSERT_TRUE(poller_start(&self->poller, &self->thread, &self->hub.line->asleep));
	EXPECT_FALSE(load(self->poller.returned));
	ASSERT_TRUE(sync_send(self->peer.sync));
	pthread_join(self->thread, NULL);
	EXPECT_EQ(POLLIN, self->poller.events);
	EXPECT_EQ(0, peer_join(&self->peer));
}

/*
 * A waiter that is woken and finds nothing for itself must not swallow the wake-up
 * that was meant for the poller beside it.
 */
TEST_F(poller, is_woken_although_a_thread_waits_for_something_else)
{
	struct waiter waiter;

	ASSERT_TRUE(poller_start(&self->poller, &self->thread, &self->hub.line->asleep));
	ASSERT_TRUE(waiter_start(&waiter, &self->hub, 0));
	ASSERT_TRUE(sync_send(self->peer.sync));
	pthread_join(self->thread, NULL);
	EXPECT_EQ(POLLIN, self->poller.events);
	EXPECT_FALSE(load(waiter.returned));
	store(self->hub.state->kick, 1);
	dw_wake(self->hub.fd, DISTWORKER_WAKE_SELF, 0);
	EXPECT_EQ(0, waiter_join(&waiter));
	EXPECT_EQ(0, peer_join(&self->peer));
}

TEST_F(poller, of_the_hub_is_woken_by_a_kick)
{
	ASSERT_TRUE(poller_start(&self->poller, &self->thread, &self->hub.line->asleep));
	store(self->hub.state->kick, 1);
	EXPECT_EQ(1, dw_wake(self->hub.fd, DISTWORKER_WAKE_SELF, 0));
	pthread_join(self->thread, NULL);
	EXPECT_EQ(POLLIN, self->poller.events);
	EXPECT_EQ(0, peer_join(&self->peer));
}

TEST_F(poller, of_the_hub_is_woken_by_a_death)
{
	ASSERT_TRUE(poller_start(&self->poller, &self->thread, &self->hub.line->asleep));
	EXPECT_EQ(SIGKILL, peer_kill(&self->peer));
	pthread_join(self->thread, NULL);
	EXPECT_EQ(POLLPRI, self->poller.events & POLLPRI);
}

TEST_F(poller, of_an_endpoint_is_woken_by_a_post)
{
	int endpoint;

	EXPECT_EQ(0, peer_join(&self->peer));
	ASSERT_EQ(0, dw_rearm(self->hub.fd, 0, NULL));
	endpoint = dw_create(self->hub.fd, 0);
	ASSERT_EQ(0, dw_bind(self->hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_attach(endpoint, NULL));
	self->poller.fd = endpoint;
	ASSERT_TRUE(
		poller_start(&self->poller, &self->thread, &hub_mailbox(&self->hub, 0)->asleep));
	EXPECT_EQ(1, hub_post(&self->hub, 0));
	pthread_join(self->thread, NULL);
	EXPECT_EQ(POLLIN, self->poller.events);
}

TEST_F(poller, waits_for_a_mailbox_and_another_file_at_once)
{
	int other = eventfd(0, EFD_CLOEXEC);
	struct pollfd files[2] = { { .fd = self->hub.fd, .events = POLLIN },
				   { .fd = other, .events = POLLIN } };
	__u64 one = 1, end;

	ASSERT_EQ(8, write(other, &one, 8));
	EXPECT_EQ(1, poll(files, 2, SOON_MS));
	EXPECT_EQ(0, files[0].revents);
	ASSERT_EQ(8, read(other, &one, 8));
	ASSERT_TRUE(sync_send(self->peer.sync));
	end = soon();
	EXPECT_EQ(1, poll(files, 2, SOON_MS));
	/* At its end poll looks once more: events that it finds then were no wake-up. */
	EXPECT_GT(end, now_ns());
	EXPECT_EQ(POLLIN, files[0].revents);
	EXPECT_EQ(0, files[1].revents);
	EXPECT_EQ(0, peer_join(&self->peer));
}

/* ----------------------------------------- beside a waiter that signals end */

struct interrupted {
	struct hub *hub;
	pthread_t waiter;
	__u32 rounds;
	int stop;
	int lost;
};

static void handle_nothing(int signal)
{
}

static void *thread_waits_and_is_interrupted(void *argument)
{
	struct interrupted *test = argument;

	while (!load(test->stop)) {
		struct hub_wait wait = { .flags = DISTWORKER_WAIT_NOSPIN, .deadline = soon() };

		dw_hub_wait(test->hub->fd, &wait);
	}
	return NULL;
}

static void *thread_polls_and_sees(void *argument)
{
	struct interrupted *test = argument;
	struct pollfd file = { .fd = test->hub->fd, .events = POLLIN };
	__u32 done = 0;

	while (done < load(test->rounds) && !load(test->lost)) {
		__u64 end = soon();

		/* At its end poll looks once more: events that it finds then were no wake-up. */
		if (poll(&file, 1, SOON_MS) < 1 || now_ns() >= end)
			store(test->lost, 1);
		done = load(hub_mailbox(test->hub, 0)->done);
		store(test->hub->state->seen[0], done);
	}
	return NULL;
}

/*
 * A waiter that had queued itself and was about to leave for a signal took the wake-up
 * with it, and the poller slept on.
 */
TEST_F(self_peer, loses_no_wake_up_to_a_waiter_that_a_signal_ends)
{
	struct interrupted test = { .hub = &self->hub, .rounds = handovers_at_most(20000) };
	struct sigaction action = { .sa_handler = handle_nothing };
	pthread_t poller;
	__u32 *seen = self->hub.state->seen;
	__u64 end = now_ns() + HUNT_NS;
	__u32 round;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, pthread_create(&test.waiter, NULL, thread_waits_and_is_interrupted, &test));
	ASSERT_EQ(0, pthread_create(&poller, NULL, thread_polls_and_sees, &test));
	for (round = 1; round <= test.rounds && !load(test.lost); round++) {
		/* As many as a slow machine can do. */
		if (now_ns() > end)
			store(test.rounds, round);
		/* Out of its sleep; and again, when it may be on its way back into it. */
		pthread_kill(test.waiter, SIGUSR1);
		for (volatile __u32 spin = round * 7919 % 8192; spin; spin--)
			;
		pthread_kill(test.waiter, SIGUSR1);
		store(self->box->done, round);
		full_barrier();
		if (load(self->hub.line->asleep))
			ASSERT_EQ(0, dw_endpoint_wake(self->endpoint));
		while (load(*seen) != round && !load(test.lost))
			sched_yield();
	}
	store(test.stop, 1);
	pthread_join(poller, NULL);
	pthread_kill(test.waiter, SIGUSR1);
	pthread_join(test.waiter, NULL);
	EXPECT_EQ(0, test.lost);
	EXPECT_EQ(test.rounds + 1, round);
}

/* ---------------------------------------------------------------- io_uring */

/* As much of one as polling needs. */
struct uring {
	int fd;
	struct io_uring_params params;
	char *submissions;
	char *completions;
	struct io_uring_sqe *entry;
};

static __u32 *uring_word(char *ring, __u32 offset)
{
	return (__u32 *)(ring + offset);
}

static int uring_open(struct uring *uring)
{
	const int both = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
	struct io_uring_params *params = &uring->params;

	memset(uring, 0, sizeof(*uring));
	uring->fd = syscall(__NR_io_uring_setup, 4, params);
	if (uring->fd < 0)
		return -errno;
	uring->submissions = mmap(NULL, params->sq_off.array + params->sq_entries * sizeof(__u32),
				  both, flags, uring->fd, IORING_OFF_SQ_RING);
	uring->completions = mmap(NULL, params->cq_off.cqes +
				  params->cq_entries * sizeof(struct io_uring_cqe),
				  both, flags, uring->fd, IORING_OFF_CQ_RING);
	uring->entry = mmap(NULL, params->sq_entries * sizeof(*uring->entry), both, flags,
			    uring->fd, IORING_OFF_SQES);
	CHECK(uring->submissions != MAP_FAILED && uring->completions != MAP_FAILED &&
	      (void *)uring->entry != MAP_FAILED);
	return 0;
}

static int uring_poll(struct uring *uring, int fd, bool multishot)
{
	const struct io_sqring_offsets *offsets = &uring->params.sq_off;
	__u32 *tail = uring_word(uring->submissions, offsets->tail);
	__u32 slot = *tail & *uring_word(uring->submissions, offsets->ring_mask);

	*uring->entry = (struct io_uring_sqe){
		.opcode = IORING_OP_POLL_ADD, .fd = fd, .poll32_events = POLLIN,
		.len = multishot ? IORING_POLL_ADD_MULTI : 0,
	};
	uring_word(uring->submissions, offsets->array)[slot] = 0;
	store(*tail, *tail + 1);
	return syscall(__NR_io_uring_enter, uring->fd, 1, 0, 0, NULL, 0) == 1 ? 0 : -errno;
}

/* The result of the next completion within the time, or -ETIME. */
static int uring_result(struct uring *uring, __u64 end)
{
	const struct io_cqring_offsets *offsets = &uring->params.cq_off;
	__u32 *head = uring_word(uring->completions, offsets->head), slot;
	__u32 *tail = uring_word(uring->completions, offsets->tail);
	struct io_uring_cqe *results = (void *)(uring->completions + offsets->cqes);

	while (load(*tail) == *head) {
		if (now_ns() >= end)
			return -ETIME;
		syscall(__NR_io_uring_enter, uring->fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
		usleep(100);
	}
	slot = *head & *uring_word(uring->completions, offsets->ring_mask);
	store(*head, *head + 1);
	return results[slot].res;
}

FIXTURE(uring)
{
	struct uring uring;
	struct hub hub;
	int endpoint;
	struct distworker_mailbox *box;
};

FIXTURE_VARIANT(uring)
{
	bool multishot;
};

FIXTURE_VARIANT_ADD(uring, one_shot) { .multishot = false };
FIXTURE_VARIANT_ADD(uring, multishot) { .multishot = true };

FIXTURE_SETUP(uring)
{
	int other = eventfd(1, EFD_CLOEXEC);

	ASSERT_EQ(0, hub_open(&self->hub, 1, BOX_BYTES));
	self->endpoint = dw_create(self->hub.fd, 0);
	ASSERT_EQ(0, dw_bind(self->hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_attach(self->endpoint, NULL));
	hub_drain_state(&self->hub);
	self->box = hub_mailbox(&self->hub, 0);
	if (uring_open(&self->uring))
		SKIP(return, "no io_uring in this kernel");
	/* Whether this kernel knows it, asked about another file. */
	if (uring_poll(&self->uring, other, variant->multishot) ||
	    uring_result(&self->uring, soon()) < 0)
		SKIP(return, "no such poll of io_uring in this kernel");
}

FIXTURE_TEARDOWN(uring)
{
}

/* A multishot one heard of the first event only: nothing called ->poll again. */
TEST_F(uring, poll_of_the_hub_hears_of_every_event)
{
	struct hub_wait look = { .watch = 1 };

	for (__u32 i = 1; i < 10; i++) {
		if (i == 1 || !variant->multishot)
			ASSERT_EQ(0, uring_poll(&self->uring, self->hub.fd, variant->multishot));
		EXPECT_EQ(DISTWORKER_ASLEEP_POLLER, load(self->hub.line->asleep));
		store(self->box->done, 2 * i - 1);
		full_barrier();
		if (load(self->hub.line->asleep))
			ASSERT_EQ(0, dw_endpoint_wake(self->endpoint));
		ASSERT_EQ(POLLIN, uring_result(&self->uring, soon()));
		EXPECT_EQ(0, load(self->hub.line->asleep));
		/* The look sees everything that was published before it. */
		store(self->box->done, 2 * i);
		EXPECT_EQ(0, dw_hub_wait(self->hub.fd, &look));
		EXPECT_EQ(DISTWORKER_EVENT_DONE, look.events);
		store(self->hub.state->seen[0], 2 * i);
		EXPECT_EQ(-ETIMEDOUT, dw_hub_wait(self->hub.fd, &look));
	}
}

TEST_F(uring, poll_of_an_endpoint_hears_of_every_event)
{
	for (__u32 i = 1; i < 10; i++) {
		if (i == 1 || !variant->multishot)
			ASSERT_EQ(0, uring_poll(&self->uring, self->endpoint, variant->multishot));
		ASSERT_EQ(1, hub_post(&self->hub, 0));
		ASSERT_EQ(POLLIN, uring_result(&self->uring, soon()));
		store(self->box->seen, i);
		EXPECT_EQ(-ETIMEDOUT, dw_endpoint_wait(self->endpoint, 0, i, 0, NULL));
	}
}

/* Without a poller a look is no reason for the other side to call. */
TEST_F(self_peer, a_look_without_pollers_does_not_say_asleep)
{
	struct hub_wait look = { .watch = 1 };

	EXPECT_EQ(-ETIMEDOUT, dw_hub_wait(self->hub.fd, &look));
	EXPECT_EQ(0, self->hub.line->asleep);
	EXPECT_EQ(-ETIMEDOUT, dw_endpoint_wait(self->endpoint, 0, 0, 0, NULL));
	EXPECT_EQ(0, self->box->asleep);
}

/* ---------------------------------------------------------------- hand-overs by epoll alone */

static void peer_serves_by_epoll(struct endpoint *endpoint)
{
	__u32 rounds = *(__u32 *)endpoint->argument, seen = 0;
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	CHECK_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, endpoint->fd, &event));
	while (seen < rounds) {
		CHECK_EQ(1, epoll_wait(epoll, &event, 1, SOON_MS));
		CHECK_EQ(EPOLLIN, event.events);
		seen = load(endpoint->box->post);
		store(endpoint->box->seen, seen);
		store(endpoint->box->done, seen);
		full_barrier();
		if (load(endpoint->hub_line->asleep))
			CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
	}
	sync_receive(endpoint->sync);
}

FIXTURE(epoll_trigger)
{
};

FIXTURE_VARIANT(epoll_trigger)
{
	__u32 flags;
};

FIXTURE_VARIANT_ADD(epoll_trigger, level) { .flags = 0 };
FIXTURE_VARIANT_ADD(epoll_trigger, edge) { .flags = EPOLLET };
FIXTURE_VARIANT_ADD(epoll_trigger, oneshot) { .flags = EPOLLONESHOT };

FIXTURE_SETUP(epoll_trigger)
{
}

FIXTURE_TEARDOWN(epoll_trigger)
{
}

TEST_F(epoll_trigger, loses_no_hand_over_between_two_sides_that_only_poll)
{
	struct epoll_event event = { .events = EPOLLIN | variant->flags };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	__u32 rounds = handovers_at_most(1500);
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_serves_by_epoll, &rounds));
	hub_drain_state(&hub);
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, hub.fd, &event));
	for (__u32 i = 1; i <= rounds; i++) {
		ASSERT_LE(0, hub_post(&hub, 0));
		while (load(hub_mailbox(&hub, 0)->done) != i) {
			ASSERT_EQ(1, epoll_wait(epoll, &event, 1, SOON_MS));
			if (variant->flags & EPOLLONESHOT) {
				event.events = EPOLLIN | EPOLLONESHOT;
				ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_MOD, hub.fd, &event));
			}
		}
		store(hub.state->seen[0], i);
	}
	EXPECT_EQ(0, peer_join(&peer));
}

TEST_HARNESS_MAIN
