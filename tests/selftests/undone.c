// SPDX-License-Identifier: GPL-2.0-only
/*
 * A call that fails has done nothing and written nothing: interrupted by a signal,
 * beaten by another thread, or with an answer that cannot be delivered.
 */
#include "distworker_test.h"

static bool is_poison(const void *from, const void *to)
{
	for (const unsigned char *byte = from; byte < (const unsigned char *)to; byte++)
		if (*byte != POISON)
			return false;
	return true;
}

#define UNWRITTEN(argument, first_output) \
	is_poison(&(argument)->first_output, (argument) + 1)

/* ---------------------------------------------------------------- signals */

static void handler(int signal)
{
	(void)signal;
}

static void on_alarm(void)
{
	struct sigaction action = { .sa_handler = handler };

	CHECK_EQ(0, sigaction(SIGALRM, &action, NULL));
}

static void alarm_in(unsigned int usec)
{
	struct itimerval timer = { .it_value.tv_usec = usec };

	CHECK_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
}

/* Shared by the test and its children. */
struct tries {
	unsigned int usec;
	unsigned int interrupted;
};

static struct tries *tries_start(void)
{
	struct tries *tries = mmap(NULL, sizeof(*tries), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(tries != MAP_FAILED);
	on_alarm();
	return tries;
}

static void measure_set_up(struct tries *tries)
{
	struct distworker_hub_setup setup;
	int fd = device_open();
	__u64 start = now_ns();
	unsigned int took;

	CHECK_EQ(0, dw_setup(fd, 2, BOX_BYTES, &setup));
	took = (now_ns() - start) / 1000;
	if (took < tries->usec)
		tries->usec = took;
}

/*
 * The kernel takes a lock for each mapping when a process becomes an owner or a peer for
 * the first time: makes so many, for the children to inherit, that it takes them some
 * milliseconds, and measures it.
 */
static void make_many_mappings(struct tries *tries)
{
	const size_t page = getpagesize();

	for (unsigned int count = 500; tries->usec < 4000 && count <= 16000; count *= 2) {
		char *memory = mmap(NULL, count * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
				    -1, 0);

		CHECK(memory != MAP_FAILED);
		for (unsigned int i = 0; i < count; i += 2)
			CHECK_EQ(0, mprotect(memory + i * page, page, PROT_NONE));
		tries->usec = 500000;
		for (unsigned int i = 0; i < 4; i++)
			CHECK_EQ(0, IN_CHILD(measure_set_up(tries)));
	}
}

#define TRIES 200

/* Somewhere in the middle of a call that takes that long. */
static void alarm_in_the_middle(const struct tries *tries, unsigned int try)
{
	alarm_in(tries->usec * (try % 16 + 1) / 20 + 1);
}

static void set_up_under_an_alarm(struct tries *tries, unsigned int try)
{
	struct distworker_hub_setup setup;
	int fd = device_open(), ret;

	CHECK(fd >= 0);
	alarm_in_the_middle(tries, try);
	ret = dw_setup(fd, 2, BOX_BYTES, &setup);
	alarm_in(0);
	if (!ret)
		return;
	tries->interrupted++;
	CHECK_EQ(-EINTR, ret);
	CHECK_EQ(BOX_BYTES, setup.mailbox_bytes);
	CHECK(UNWRITTEN(&setup, state_offset));
	CHECK_EQ(-EBADFD, dw_create(fd, 0));
	CHECK_EQ(0, dw_setup(fd, 2, BOX_BYTES, &setup));
}

TEST(interrupted_set_up_has_written_nothing_and_can_be_repeated)
{
	struct tries *tries = tries_start();

	make_many_mappings(tries);
	for (unsigned int i = 0; i < TRIES && tries->interrupted < 3; i++)
		ASSERT_EQ(0, IN_CHILD(set_up_under_an_alarm(tries, i)));
	EXPECT_EQ(3, tries->interrupted);
}

struct attach_try {
	struct tries *tries;
	unsigned int try;
};

static void peer_attaches_under_an_alarm(struct endpoint *endpoint)
{
	struct attach_try *attempt = endpoint->argument;
	struct distworker_endpoint_attach attach;
	int ret;

	CHECK(sync_receive(endpoint->sync));
	alarm_in_the_middle(attempt->tries, attempt->try);
	ret = dw_attach(endpoint->fd, &attach);
	alarm_in(0);
	if (!ret)
		return;
	attempt->tries->interrupted++;
	CHECK_EQ(-EINTR, ret);
	CHECK(UNWRITTEN(&attach, index));
	CHECK_EQ(-ENOTCONN, dw_endpoint_wake(endpoint->fd));
	CHECK_EQ(0, dw_attach(endpoint->fd, &attach));
}

TEST(interrupted_attach_has_written_nothing_and_can_be_repeated)
{
	struct attach_try attempt = { .tries = tries_start() };
	struct peer peer;
	struct hub hub;
	int endpoint;

	make_many_mappings(attempt.tries);
	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	for (; attempt.try < TRIES && attempt.tries->interrupted < 3; attempt.try++) {
		ASSERT_EQ(0, peer_fork(&peer, endpoint, 0, peer_attaches_under_an_alarm, &attempt));
		ASSERT_EQ(0, dw_bind(hub.fd, 0, peer.pid, NULL));
		ASSERT_TRUE(sync_send(peer.sync));
		ASSERT_EQ(0, peer_join(&peer));
		ASSERT_EQ(0, dw_rearm(hub.fd, 0, NULL));
	}
	EXPECT_EQ(3, attempt.tries->interrupted);
}

/*
 * A peer that flips its word and wakes, as fast as it can: no event for a wait that watches
 * another.
 */
static void peer_harasses(struct endpoint *endpoint)
{
	CHECK(sync_send(endpoint->sync));
	for (__u32 i = 0; ; i++) {
		store(endpoint->box->done, i);
		CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
	}
}

TEST(signal_ends_a_wait_that_a_hostile_peer_never_lets_sleep)
{
	struct peer peer;
	struct hub hub;

	on_alarm();
	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_harasses, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	hub_drain_state(&hub);
	for (unsigned int i = 0; i < 10; i++) {
		struct hub_wait wait = { .watch = 2, .deadline = soon(),
					 .flags = i % 2 * DISTWORKER_WAIT_NOSPIN };

		ASSERT_EQ(0, alarm_every(20000));
		ASSERT_EQ(-EINTR, dw_hub_wait(hub.fd, &wait));
		ASSERT_EQ(POISON32, wait.events);
	}
	ASSERT_EQ(0, alarm_every(0));
	EXPECT_EQ(SIGKILL, peer_kill(&peer));
}

TEST(deadline_ends_a_wait_that_a_hostile_peer_never_lets_sleep)
{
	struct peer peer;
	struct hub hub;

	on_alarm();
	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_harasses, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	hub_drain_state(&hub);
	for (unsigned int i = 0; i < 100; i++) {
		struct hub_wait wait = { .watch = 2, .deadline = now_ns() + 5 * NSEC_PER_MSEC,
					 .flags = i % 2 * DISTWORKER_WAIT_NOSPIN };

		/* Ends one that never does, with -EINTR. */
		alarm(SOON_MS / 1000);
		ASSERT_EQ(-ETIMEDOUT, dw_hub_wait(hub.fd, &wait));
		ASSERT_LE(wait.deadline, now_ns());
	}
	alarm(0);
	EXPECT_EQ(SIGKILL, peer_kill(&peer));
}

/* ---------------------------------------------------------------- races */

struct race {
	int fd;
	bool attach;
	int go;
	int won;
	int wrong;
};

static void *racer(void *argument)
{
	struct distworker_endpoint_attach attach;
	struct distworker_hub_setup setup;
	struct race *race = argument;
	bool unwritten;
	int ret;

	while (!load(race->go))
		;
	if (race->attach) {
		ret = dw_attach(race->fd, &attach);
		unwritten = UNWRITTEN(&attach, index);
	} else {
		ret = dw_setup(race->fd, 4, BOX_BYTES - 1, &setup);
		unwritten = setup.mailbox_bytes == BOX_BYTES - 1 && UNWRITTEN(&setup, state_offset);
	}
	add(race->won, !ret);
	if (ret ? ret != -EBUSY || !unwritten : unwritten)
		add(race->wrong, 1);
	return NULL;
}

static bool race_is_fair(struct race *race)
{
	pthread_t threads[3];

	for (int i = 0; i < 3; i++)
		CHECK_EQ(0, pthread_create(&threads[i], NULL, racer, race));
	store(race->go, 1);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	return race->won == 1 && !race->wrong;
}

TEST(losers_of_racing_set_ups_and_attaches_get_nothing_written)
{
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 100, BOX_BYTES));
	for (int round = 0; round < 100; round++) {
		struct race setup = { .fd = device_open() };
		struct race attach = { .fd = dw_create(hub.fd, round), .attach = true };

		ASSERT_TRUE(race_is_fair(&setup));
		close(setup.fd);
		ASSERT_EQ(0, dw_bind(hub.fd, round, getpid(), NULL));
		ASSERT_TRUE(race_is_fair(&attach));
		close(attach.fd);
	}
}

/* ----------------------------------------- answers that cannot be delivered */

/* A page that can be read only, with the struct in it. */
static void *read_only(const void *argument, size_t bytes)
{
	const size_t page = getpagesize();
	void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED);
	memcpy(memory, argument, bytes);
	CHECK_EQ(0, mprotect(memory, page, PROT_READ));
	return memory;
}

TEST(set_up_and_attach_whose_answer_cannot_be_written_have_not_happened)
{
	struct distworker_hub_setup setup = ABI(distworker_hub_setup, .mailboxes = 1,
						.mailbox_bytes = BOX_BYTES);
	struct distworker_endpoint_attach attach = ABI(distworker_endpoint_attach);
	struct distworker_mailbox_query query;
	struct hub hub;
	int fd = device_open(), endpoint;

	EXPECT_EQ(-EFAULT, dw_ioctl(fd, DISTWORKER_HUB_SETUP, read_only(&setup, sizeof(setup))));
	EXPECT_EQ(-EBADFD, dw_create(fd, 0));
	EXPECT_EQ(0, dw_ioctl(fd, DISTWORKER_HUB_SETUP, &setup));

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	EXPECT_EQ(-EFAULT, dw_ioctl(endpoint, DISTWORKER_ENDPOINT_ATTACH,
				    read_only(&attach, sizeof(attach))));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_FREE, query.state);
	EXPECT_EQ(0, dw_attach(endpoint, NULL));
}

/* Its value counted as seen, and no poller heard of the kick. */
TEST(wait_that_fails_has_not_seen_the_kick)
{
	__u64 beyond = 2;
	struct distworker_hub_wait bad = ABI(distworker_hub_wait, .flags = DISTWORKER_WAIT_WAKE,
					     .wake_mask = to_u64(&beyond), .mask_words = 1,
					     .kick_seen = 1, .deadline_ns = soon());
	struct pollfd file = { .events = POLLIN };
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	file.fd = hub.fd;
	store(hub.state->kick, 1);
	EXPECT_EQ(-EINVAL, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &bad));
	EXPECT_EQ(1, poll(&file, 1, 0));
	EXPECT_EQ(POLLIN, file.revents);
	bad.wake_mask = 1;	/* an address that cannot be read */
	EXPECT_EQ(-EFAULT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &bad));
	EXPECT_EQ(1, poll(&file, 1, 0));
}

TEST(wait_whose_events_cannot_be_written_leaves_the_report_to_the_next)
{
	__u64 state = 0;
	struct distworker_hub_wait bad = ABI(distworker_hub_wait, .state_mask = to_u64(&state),
					     .mask_words = 1, .deadline_ns = soon());
	struct hub_wait wait = { .deadline = soon() };
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 1, peer_idles, NULL));
	EXPECT_EQ(-EFAULT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, read_only(&bad, sizeof(bad))));
	EXPECT_EQ(0, dw_hub_wait(hub.fd, &wait));
	EXPECT_EQ(DISTWORKER_EVENT_STATE, wait.events);
	EXPECT_EQ(2, wait.state);
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- news that are none any more */

TEST(death_that_was_forgotten_by_rearming_is_no_event)
{
	struct distworker_hub_wait blind = ABI(distworker_hub_wait);
	struct peer peers[2];
	struct pollfd poll_fd;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 128, BOX_BYTES));
	poll_fd = (struct pollfd){ .fd = hub.fd, .events = POLLPRI };
	ASSERT_EQ(0, peer_start(&peers[0], &hub, 3, peer_idles, NULL));
	ASSERT_EQ(0, peer_start(&peers[1], &hub, 100, peer_idles, NULL));
	EXPECT_EQ(0, peer_join(&peers[0]));
	EXPECT_EQ(0, peer_join(&peers[1]));
	EXPECT_EQ(1, poll(&poll_fd, 1, 0));
	EXPECT_EQ(0, dw_rearm(hub.fd, 3, NULL));
	/* The other's still counts. */
	EXPECT_EQ(1, poll(&poll_fd, 1, 0));
	EXPECT_EQ(0, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &blind));
	EXPECT_EQ(DISTWORKER_EVENT_STATE, blind.events);
	EXPECT_EQ(0, dw_rearm(hub.fd, 100, NULL));
	EXPECT_EQ(0, poll(&poll_fd, 1, 0));
	EXPECT_EQ(-ETIMEDOUT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &blind));
}

TEST_HARNESS_MAIN
