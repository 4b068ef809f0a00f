// SPDX-License-Identifier: GPL-2.0-only
/*
 * From an open device to an attached peer: QUERY, HUB_SETUP, MAILBOX_CREATE,
 * BIND, REARM, MAILBOX_QUERY, ATTACH and DETACH, with every error of their
 * states. Sizes, flags and pointers are in abi.c.
 */
#include <sys/resource.h>
#include "distworker_test.h"

/* ---------------------------------------------------------------- query */

TEST(query_needs_no_set_up_and_tells_version_features_and_limits)
{
	struct distworker_query query;
	int fd = device_open();

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, dw_query(fd, &query));
	EXPECT_EQ(sizeof(query), query.size);
	EXPECT_EQ(DISTWORKER_ABI_VERSION, query.abi_version);
	EXPECT_EQ(DISTWORKER_FEATURE_WAKE_AND_WAIT | DISTWORKER_FEATURE_ADAPTIVE_SPIN |
		  DISTWORKER_FEATURE_DEATH | DISTWORKER_FEATURE_POLL |
		  DISTWORKER_FEATURE_TIMELINES, query.features);
	EXPECT_LE(1024, query.max_mailboxes);
	EXPECT_LE(65536, query.max_mailbox_bytes);
	EXPECT_EQ(getpagesize(), query.page_bytes);
	EXPECT_EQ(DISTWORKER_LINE_BYTES, query.line_bytes);
}

TEST(query_answers_the_same_on_hub_and_endpoint)
{
	struct distworker_query fresh, on_hub, on_endpoint;
	struct hub hub;
	int fd = device_open(), endpoint;

	ASSERT_EQ(0, dw_query(fd, &fresh));
	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, dw_query(hub.fd, &on_hub));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_LE(0, endpoint);
	ASSERT_EQ(0, dw_query(endpoint, &on_endpoint));
	EXPECT_EQ(0, memcmp(&fresh, &on_hub, sizeof(fresh)));
	EXPECT_EQ(0, memcmp(&fresh, &on_endpoint, sizeof(fresh)));
}

TEST(query_answers_a_forked_child)
{
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, IN_CHILD({
		struct distworker_query query;

		CHECK_EQ(0, dw_query(hub.fd, &query));
		CHECK_EQ(DISTWORKER_ABI_VERSION, query.abi_version);
	}));
}

/* ---------------------------------------------------------------- hub */

TEST(set_up_tells_a_layout_of_whole_pages_that_do_not_overlap)
{
	const __u32 page = getpagesize();
	struct distworker_hub_setup setup;
	int fd = device_open();

	ASSERT_EQ(0, dw_setup(fd, 5, page + 1, &setup));
	EXPECT_EQ(sizeof(setup), setup.size);
	EXPECT_EQ(0, setup.flags);
	EXPECT_EQ(5, setup.mailboxes);
	EXPECT_EQ(2 * page, setup.mailbox_bytes);
	EXPECT_EQ(0, setup.state_offset % page);
	EXPECT_EQ(0, setup.mailbox_offset % page);
	EXPECT_LE(sizeof(struct distworker_hub_line), setup.state_offset);
	EXPECT_LE(setup.state_offset + sizeof(struct distworker_hub_state) + 5 * sizeof(__u32),
		  setup.mailbox_offset);
	EXPECT_EQ(setup.mailbox_offset + 5 * setup.mailbox_bytes, setup.mapping_bytes);
	EXPECT_EQ(0, setup.timeline_offset);
}

/* All headers began a page, and so shared the few lines of one set of each cache. */
TEST(headers_are_spread_over_the_room_that_rounding_to_pages_leaves)
{
	const __u32 page = getpagesize(), line = DISTWORKER_LINE_BYTES;
	static const __u32 rooms[] = { 0, 1, 7, 28 };
	struct hub hub;

	for (unsigned int i = 0; i < ARRAY_SIZE(rooms); i++) {
		ASSERT_EQ(0, hub_open(&hub, 100, page - rooms[i] * line));
		EXPECT_EQ(page, hub.setup.mailbox_bytes);
		EXPECT_EQ(line, hub.setup.header_step);
		EXPECT_EQ(rooms[i] + 1, hub.setup.header_slots);
		for (unsigned int box = 0; box < 100; box++) {
			struct distworker_endpoint_attach attach;
			int endpoint = dw_create(hub.fd, box);

			ASSERT_EQ(0, dw_bind(hub.fd, box, getpid(), NULL));
			ASSERT_EQ(0, dw_attach(endpoint, &attach));
			ASSERT_EQ(box % (rooms[i] + 1) * line, attach.header_offset);
			/* The kernel looks there. */
			hub_mailbox(&hub, box)->post = 1;
			ASSERT_EQ(0, dw_endpoint_wait(endpoint, 0, 0, 0, NULL));
			close(endpoint);
		}
		hub_close(&hub);
	}
	/* Over all of the room, however large pages are. */
	ASSERT_EQ(0, hub_open(&hub, 2, 2 * page + 1));
	EXPECT_EQ(page / line, hub.setup.header_slots);
}

TEST(set_up_refuses_no_mailbox_too_many_and_no_or_too_many_bytes)
{
	struct distworker_hub_setup setup;
	struct distworker_query query;
	int fd = device_open();

	ASSERT_EQ(0, dw_query(fd, &query));
	EXPECT_EQ(-EINVAL, dw_setup(fd, 0, BOX_BYTES, &setup));
	EXPECT_EQ(-EINVAL, dw_setup(fd, query.max_mailboxes + 1, BOX_BYTES, &setup));
	EXPECT_EQ(-EINVAL, dw_setup(fd, ~0u, BOX_BYTES, &setup));
	EXPECT_EQ(-EINVAL, dw_setup(fd, 1, 0, &setup));
	EXPECT_EQ(-EINVAL, dw_setup(fd, 1, query.max_mailbox_bytes + 1, &setup));
	EXPECT_EQ(-EINVAL, dw_setup(fd, 1, ~0u, &setup));
	EXPECT_EQ(-EINVAL, dw_setup(fd, ~0u, ~0u, &setup));
	/* None of them has made it a hub. */
	EXPECT_EQ(0, dw_setup(fd, 1, BOX_BYTES, &setup));
}

TEST(set_up_a_second_time_is_refused_and_changes_nothing)
{
	struct distworker_hub_setup setup;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	hub_mailbox(&hub, 1)->post = 42;
	EXPECT_EQ(-EBUSY, dw_setup(hub.fd, 2, BOX_BYTES, &setup));
	EXPECT_EQ(-EBUSY, dw_setup(hub.fd, 3, BOX_BYTES, &setup));
	EXPECT_EQ(42, hub_mailbox(&hub, 1)->post);
	EXPECT_LE(0, dw_create(hub.fd, 1));
	EXPECT_EQ(-EINVAL, dw_create(hub.fd, 2));
}

struct setup_race {
	int fd;
	int won;
	int lost;
	int go;
};

static void *setup_racer(void *argument)
{
	struct setup_race *race = argument;
	struct distworker_hub_setup setup;
	int ret;

	while (!load(race->go))
		;
	ret = dw_setup(race->fd, 4, BOX_BYTES, &setup);
	if (!ret)
		add(race->won, 1);
	else if (ret == -EBUSY)
		add(race->lost, 1);
	return NULL;
}

TEST(of_racing_set_ups_one_wins)
{
	for (int round = 0; round < 50; round++) {
		struct setup_race race = { .fd = device_open() };
		pthread_t threads[3];

		for (int i = 0; i < 3; i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, setup_racer, &race));
		store(race.go, 1);
		for (int i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		ASSERT_EQ(1, race.won);
		ASSERT_EQ(2, race.lost);
		close(race.fd);
	}
}

TEST(calls_before_set_up_are_refused)
{
	struct distworker_mailbox_query query;
	struct hub_wait wait = { .deadline = 0 };
	int fd = device_open();

	EXPECT_EQ(-EBADFD, dw_create(fd, 0));
	EXPECT_EQ(-EBADFD, dw_bind(fd, 0, getpid(), NULL));
	EXPECT_EQ(-EBADFD, dw_rearm(fd, 0, NULL));
	EXPECT_EQ(-EBADFD, dw_mailbox(fd, 0, &query));
	EXPECT_EQ(-EBADFD, dw_hub_wait(fd, &wait));
	EXPECT_EQ(-EBADFD, dw_wake(fd, 0, 0));
}

TEST(calls_of_the_other_kind_of_file_are_no_ioctls_of_this_one)
{
	struct distworker_hub_setup setup;
	struct distworker_mailbox_query query;
	struct hub_wait wait = { .deadline = 0 };
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_LE(0, endpoint);

	EXPECT_EQ(-ENOTTY, dw_setup(endpoint, 1, BOX_BYTES, &setup));
	EXPECT_EQ(-ENOTTY, dw_create(endpoint, 0));
	EXPECT_EQ(-ENOTTY, dw_bind(endpoint, 0, getpid(), NULL));
	EXPECT_EQ(-ENOTTY, dw_rearm(endpoint, 0, NULL));
	EXPECT_EQ(-ENOTTY, dw_mailbox(endpoint, 0, &query));
	EXPECT_EQ(-ENOTTY, dw_hub_wait(endpoint, &wait));
	EXPECT_EQ(-ENOTTY, dw_wake(endpoint, 0, 0));

	EXPECT_EQ(-ENOTTY, dw_attach(hub.fd, NULL));
	EXPECT_EQ(-ENOTTY, dw_detach(hub.fd));
	EXPECT_EQ(-ENOTTY, dw_endpoint_wake(hub.fd));
	EXPECT_EQ(-ENOTTY, dw_endpoint_wait(hub.fd, 0, 0, 0, NULL));
}

TEST(calls_on_files_of_other_drivers_do_not_reach_this_one)
{
	struct distworker_query query;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	EXPECT_EQ(-ENOTTY, dw_query(null, &query));
	EXPECT_EQ(-EBADF, dw_query(-1, &query));
}

/* ---------------------------------------------------------------- only the owner */

TEST(a_forked_child_may_do_nothing_with_the_hub)
{
	struct hub hub;
	int fresh = device_open();

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	ASSERT_EQ(0, IN_CHILD({
		struct distworker_mailbox_query query;
		struct hub_wait wait = { .deadline = 0 };
		struct distworker_hub_setup setup;

		CHECK_EQ(-EPERM, dw_create(hub.fd, 0));
		CHECK_EQ(-EPERM, dw_bind(hub.fd, 0, getpid(), NULL));
		CHECK_EQ(-EPERM, dw_rearm(hub.fd, 0, NULL));
		CHECK_EQ(-EPERM, dw_mailbox(hub.fd, 0, &query));
		CHECK_EQ(-EPERM, dw_hub_wait(hub.fd, &wait));
		CHECK_EQ(-EPERM, dw_wake(hub.fd, 0, 1));
		CHECK_EQ(-EPERM, dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 0));
		CHECK(dw_setup(hub.fd, 1, BOX_BYTES, &setup) < 0);
		CHECK(mmap(NULL, hub.setup.mapping_bytes, PROT_READ, MAP_SHARED, hub.fd, 0) ==
		      MAP_FAILED);
		/* An open that is no hub yet has no owner: the process that sets it up owns it. */
		CHECK_EQ(0, dw_setup(fresh, 1, BOX_BYTES, &setup));
	}));
	/* And none of it has done anything to the owner. */
	EXPECT_LE(0, dw_create(hub.fd, 0));
	EXPECT_EQ(-EPERM, dw_create(fresh, 0));
}

static void *thread_creates(void *argument)
{
	struct hub *hub = argument;

	return (void *)(long)dw_create(hub->fd, 0);
}

TEST(every_thread_of_the_owner_may_use_the_hub)
{
	struct hub hub;
	pthread_t thread;
	void *ret;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, pthread_create(&thread, NULL, thread_creates, &hub));
	pthread_join(thread, &ret);
	EXPECT_LE(0, (long)ret);
}

/* ---------------------------------------------------------------- mailboxes */

TEST(endpoint_is_close_on_exec)
{
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_LE(0, endpoint);
	EXPECT_EQ(FD_CLOEXEC, fcntl(endpoint, F_GETFD) & FD_CLOEXEC);
}

TEST(index_beyond_the_hub_is_refused_by_every_call)
{
	static const __u32 indexes[] = { 3, 64, 1024, 0x7fffffff, 0x80000000, ~0u };
	struct distworker_mailbox_query query;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 3, BOX_BYTES));
	for (unsigned int i = 0; i < ARRAY_SIZE(indexes); i++) {
		EXPECT_EQ(-EINVAL, dw_create(hub.fd, indexes[i]));
		EXPECT_EQ(-EINVAL, dw_bind(hub.fd, indexes[i], getpid(), NULL));
		EXPECT_EQ(-EINVAL, dw_rearm(hub.fd, indexes[i], NULL));
		EXPECT_EQ(-EINVAL, dw_mailbox(hub.fd, indexes[i], &query));
	}
}

TEST(a_new_mailbox_is_free_and_has_no_history)
{
	struct distworker_mailbox_query query;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	ASSERT_LE(0, dw_create(hub.fd, 1));
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, dw_mailbox(hub.fd, i, &query));
		EXPECT_EQ(sizeof(query), query.size);
		EXPECT_EQ(0, query.flags);
		EXPECT_EQ(i, query.index);
		EXPECT_EQ(DISTWORKER_MAILBOX_FREE, query.state);
		EXPECT_EQ(DISTWORKER_DEATH_NONE, query.cause);
		EXPECT_EQ(0, query.pid);
		EXPECT_EQ(0, query.status);
		EXPECT_EQ(0, query.wakes);
		EXPECT_EQ(0, query.sleeps);
		EXPECT_EQ(0, query.spins_won);
		EXPECT_EQ(0, query.spins_lost);
	}
}

TEST(no_free_fd_for_an_endpoint_is_emfile_and_changes_nothing)
{
	struct rlimit limit = { 64, 64 };
	struct hub hub;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	while (dup(hub.fd) >= 0)
		;
	ASSERT_EQ(EMFILE, errno);
	EXPECT_EQ(-EMFILE, dw_create(hub.fd, 0));
	close(hub.fd + 1);
	EXPECT_LE(0, dw_create(hub.fd, 0));
}

/* ---------------------------------------------------------------- bind */

TEST(bind_of_a_process_that_is_not_there_is_esrch)
{
	struct hub hub;
	pid_t gone;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	gone = fork();
	if (gone == 0)
		_exit(0);
	ASSERT_EQ(gone, waitpid(gone, NULL, 0));
	EXPECT_EQ(-ESRCH, dw_bind(hub.fd, 0, gone, NULL));
	EXPECT_EQ(-EINVAL, dw_bind(hub.fd, 0, 0, NULL));
	EXPECT_EQ(-EINVAL, dw_bind(hub.fd, 0, -1, NULL));
	EXPECT_EQ(-ESRCH, dw_bind(hub.fd, 0, 0x7fffffff, NULL));
}

TEST(bind_again_before_attach_moves_the_mailbox_to_the_other_process)
{
	struct distworker_mailbox_query query;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_LE(0, endpoint);
	ASSERT_EQ(0, dw_bind(hub.fd, 0, 1, NULL));
	EXPECT_EQ(-EPERM, dw_attach(endpoint, NULL));
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(getpid(), query.pid);
	EXPECT_EQ(0, dw_attach(endpoint, NULL));
}

TEST(bind_of_an_attached_or_dead_mailbox_is_refused)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_idles, NULL));
	EXPECT_EQ(-EBUSY, dw_bind(hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(peer.pid, query.pid);
	ASSERT_EQ(0, peer_join(&peer));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
	EXPECT_EQ(-EBUSY, dw_bind(hub.fd, 0, getpid(), NULL));
}

TEST(rearm_of_an_attached_mailbox_and_with_a_pid_is_refused)
{
	struct distworker_mailbox_bind bind = ABI(distworker_mailbox_bind, .pid = getpid());
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	EXPECT_EQ(-EINVAL, dw_ioctl(hub.fd, DISTWORKER_MAILBOX_REARM, &bind));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_idles, NULL));
	EXPECT_EQ(-EBUSY, dw_rearm(hub.fd, 0, NULL));
	EXPECT_EQ(-EINVAL, dw_ioctl(hub.fd, DISTWORKER_MAILBOX_REARM, &bind));
	ASSERT_EQ(0, peer_join(&peer));
	EXPECT_EQ(0, dw_rearm(hub.fd, 0, NULL));
}

/* ---------------------------------------------------------------- attach */

TEST(attach_before_bind_is_refused)
{
	struct distworker_endpoint_attach attach;
	struct distworker_mailbox_query query;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_LE(0, endpoint);
	EXPECT_EQ(-ENOTCONN, dw_attach(endpoint, &attach));
	EXPECT_EQ(POISON64, attach.generation);
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_FREE, query.state);
}

TEST(attach_tells_index_generation_size_and_owner)
{
	struct distworker_endpoint_attach attach;
	struct distworker_mailbox_query query;
	__u64 generation;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 4, 2 * BOX_BYTES));
	endpoint = dw_create(hub.fd, 3);
	ASSERT_LE(0, endpoint);
	ASSERT_EQ(0, dw_bind(hub.fd, 3, getpid(), &generation));
	ASSERT_EQ(0, dw_attach(endpoint, &attach));
	EXPECT_EQ(sizeof(attach), attach.size);
	EXPECT_EQ(0, attach.flags);
	EXPECT_EQ(3, attach.index);
	EXPECT_EQ(generation, attach.generation);
	EXPECT_EQ(hub.setup.mailbox_bytes, attach.mailbox_bytes);
	EXPECT_EQ(getpid(), attach.owner_pid);
	ASSERT_EQ(0, dw_mailbox(hub.fd, 3, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(generation, query.generation);
	EXPECT_EQ(getpid(), query.pid);
	EXPECT_EQ(DISTWORKER_DEATH_NONE, query.cause);
}

static void peer_attaches_again(struct endpoint *endpoint)
{
	struct distworker_endpoint_attach again;

	CHECK_EQ(-EBUSY, dw_attach(endpoint->fd, &again));
	CHECK_EQ(POISON64, again.generation);
}

TEST(second_attach_is_busy)
{
	struct peer peer;
	struct hub hub;
	int first, second;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_attaches_again, NULL));
	EXPECT_EQ(0, peer_join(&peer));
	/* Also through another file of the same mailbox. */
	first = dw_create(hub.fd, 1);
	second = dw_create(hub.fd, 1);
	ASSERT_EQ(0, dw_bind(hub.fd, 1, getpid(), NULL));
	if (second >= 0) {
		ASSERT_EQ(0, dw_attach(second, NULL));
		EXPECT_EQ(-EBUSY, dw_attach(second, NULL));
	} else {
		EXPECT_EQ(-EBUSY, second);
		ASSERT_EQ(0, dw_attach(first, NULL));
	}
	EXPECT_EQ(-EBUSY, dw_attach(first, NULL));
}

static void peer_tries_sibling(struct endpoint *endpoint)
{
	int sibling = *(int *)endpoint->argument;
	__u32 events;

	CHECK_EQ(-EPERM, dw_attach(sibling, NULL));
	CHECK_EQ(-EPERM, dw_detach(sibling));
	CHECK_EQ(-EPERM, dw_endpoint_wake(sibling));
	CHECK_EQ(-EPERM, dw_endpoint_wait(sibling, 0, 0, 0, &events));
	CHECK_EQ(POISON32, events);
	CHECK(mmap(NULL, BOX_BYTES, PROT_READ, MAP_SHARED, sibling, 0) == MAP_FAILED);
	CHECK_EQ(EPERM, errno);
	CHECK(mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED, sibling,
		   DISTWORKER_HUB_LINE_OFFSET) == MAP_FAILED);
}

TEST(sibling_may_do_nothing_with_an_inherited_endpoint)
{
	struct distworker_mailbox_query query;
	struct peer first, second;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_LE(0, endpoint);
	ASSERT_EQ(0, peer_start_on(&first, &hub, 0, dup(endpoint), peer_idles, NULL));
	ASSERT_EQ(0, peer_start(&second, &hub, 1, peer_tries_sibling, &endpoint));
	EXPECT_EQ(0, peer_join(&second));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(first.pid, query.pid);
	EXPECT_EQ(0, peer_join(&first));
}

TEST(calls_on_an_endpoint_that_is_not_attached_are_refused)
{
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_LE(0, endpoint);
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	EXPECT_EQ(-ENOTCONN, dw_endpoint_wait(endpoint, 0, 0, 0, NULL));
	EXPECT_EQ(-ENOTCONN, dw_endpoint_wake(endpoint));
	EXPECT_EQ(-ENOTCONN, dw_detach(endpoint));
	EXPECT_TRUE(mmap(NULL, BOX_BYTES, PROT_READ, MAP_SHARED, endpoint, 0) == MAP_FAILED);
}

static void racing_peer(struct endpoint *endpoint)
{
	int *shared = endpoint->argument;
	int ret;

	CHECK(sync_receive(endpoint->sync));
	ret = dw_attach(endpoint->fd, NULL);
	add(shared[ret == 0 ? 0 : ret == -EBUSY ? 1 : 2], 1);
	sync_receive(endpoint->sync);
}

static void *attach_racer(void *argument)
{
	struct setup_race *race = argument;
	int ret;

	while (!load(race->go))
		;
	ret = dw_attach(race->fd, NULL);
	if (!ret)
		add(race->won, 1);
	else if (ret == -EBUSY)
		add(race->lost, 1);
	return NULL;
}

TEST(of_racing_attaches_one_wins)
{
	struct distworker_mailbox_query query;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 50, BOX_BYTES));
	for (int round = 0; round < 50; round++) {
		struct setup_race race = { .fd = dw_create(hub.fd, round) };
		pthread_t threads[3];

		ASSERT_LE(0, race.fd);
		ASSERT_EQ(0, dw_bind(hub.fd, round, getpid(), NULL));
		for (int i = 0; i < 3; i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, attach_racer, &race));
		store(race.go, 1);
		for (int i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		ASSERT_EQ(1, race.won);
		ASSERT_EQ(2, race.lost);
		ASSERT_EQ(0, dw_mailbox(hub.fd, round, &query));
		ASSERT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	}
}

TEST(attach_races_bind_and_only_the_bound_process_gets_in)
{
	int *shared = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			   -1, 0);
	struct distworker_mailbox_query query;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 20, BOX_BYTES));
	for (int round = 0; round < 20; round++) {
		int endpoint = dw_create(hub.fd, round);
		struct peer bound, other;

		memset(shared, 0, getpagesize());
		ASSERT_LE(0, endpoint);
		ASSERT_EQ(0, peer_fork(&bound, endpoint, round, racing_peer, shared));
		ASSERT_EQ(0, peer_fork(&other, endpoint, round, racing_peer, shared + 16));
		ASSERT_TRUE(sync_send(other.sync));
		ASSERT_EQ(0, dw_bind(hub.fd, round, bound.pid, NULL));
		ASSERT_TRUE(sync_send(bound.sync));
		ASSERT_TRUE(WAIT_UNTIL(load(shared[0]) == 1));
		ASSERT_EQ(0, dw_mailbox(hub.fd, round, &query));
		EXPECT_EQ(bound.pid, query.pid);
		EXPECT_EQ(0, peer_join(&other));
		EXPECT_EQ(0, load(shared[16]));
		EXPECT_EQ(0, peer_join(&bound));
		close(endpoint);
	}
}

TEST_HARNESS_MAIN
