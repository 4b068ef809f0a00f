// SPDX-License-Identifier: GPL-2.0-only
/*
 * Death of a peer: that it is noticed, however the peer ends, and even if another process
 * holds its files, that it says why, and that a replacement can take over.
 * Death of the owner is in lifetime.c.
 */
#include "distworker_test.h"

/* ---------------------------------------------------------------- why it died */

static void peer_ends(struct endpoint *endpoint)
{
	int how = *(int *)endpoint->argument;

	sync_receive(endpoint->sync);
	if (how < 256)
		_exit(how);
	signal(how >> 8, SIG_DFL);
	raise(how >> 8);
}

FIXTURE(end)
{
};

FIXTURE_VARIANT(end)
{
	int how;	/* an exit code, or a signal << 8 */
};

#define END(name, value) FIXTURE_VARIANT_ADD(end, name) { .how = value }

END(exit_0, 0);
END(exit_7, 7);
END(exit_255, 255);
END(by_sigkill, SIGKILL << 8);
END(by_sigterm, SIGTERM << 8);
END(by_sigsegv, SIGSEGV << 8);
END(by_sigabrt, SIGABRT << 8);

FIXTURE_SETUP(end)
{
}

FIXTURE_TEARDOWN(end)
{
}

TEST_F(end, is_reported_to_a_sleeping_owner_with_the_status_of_wait)
{
	struct distworker_mailbox_query query;
	int status, how = variant->how;
	struct waiter waiter;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 3, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 1, peer_ends, &how));
	hub_drain_state(&hub);
	ASSERT_TRUE(waiter_start(&waiter, &hub, 7));
	ASSERT_TRUE(sync_send(peer.sync));
	EXPECT_EQ(0, waiter_join(&waiter));
	EXPECT_EQ(DISTWORKER_EVENT_STATE, waiter.wait.events);
	EXPECT_EQ(2, waiter.wait.state);
	EXPECT_EQ(0, waiter.wait.ready);
	/* Known before any process has waited for it. */
	ASSERT_EQ(0, dw_mailbox(hub.fd, 1, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
	EXPECT_EQ(DISTWORKER_DEATH_EXIT, query.cause);
	EXPECT_EQ(peer.pid, query.pid);
	status = peer_join(&peer);
	EXPECT_EQ(status, query.status);
	/* And after. */
	ASSERT_EQ(0, dw_mailbox(hub.fd, 1, &query));
	EXPECT_EQ(status, query.status);
}

TEST(kill_of_a_peer_asleep_in_its_wait_is_reported)
{
	struct distworker_mailbox_query query;
	struct waiter waiter;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_for_post, NULL));
	hub_drain_state(&hub);
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	ASSERT_TRUE(waiter_start(&waiter, &hub, 1));
	EXPECT_EQ(SIGKILL, peer_kill(&peer));
	EXPECT_EQ(0, waiter_join(&waiter));
	EXPECT_EQ(1, waiter.wait.state);
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(SIGKILL, query.status);
	EXPECT_EQ(0, hub_mailbox(&hub, 0)->asleep);
	EXPECT_EQ(0, dw_wake(hub.fd, 0, 1));
}

TEST(kill_of_a_stopped_peer_is_reported)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_idles, NULL));
	hub_drain_state(&hub);
	kill(peer.pid, SIGSTOP);
	ASSERT_EQ(peer.pid, waitpid(peer.pid, NULL, WUNTRACED));
	kill(peer.pid, SIGKILL);
	EXPECT_EQ(0, wait_for_state(&hub, 0));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(SIGKILL, query.status);
	EXPECT_EQ(SIGKILL, peer_join(&peer));
}

static void peer_spins(struct endpoint *endpoint)
{
	for (;;)
		;
}

TEST(kill_of_a_running_peer_is_reported)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_spins, NULL));
	hub_drain_state(&hub);
	EXPECT_EQ(SIGKILL, peer_kill(&peer));
	EXPECT_EQ(0, wait_for_state(&hub, 0));
}

/* ---------------------------------------------------------------- threads */

static void *thread_outlives_leader(void *argument)
{
	struct endpoint *endpoint = argument;

	while (task_state(getpid()) != 'Z')
		usleep(100);
	CHECK(sync_send(endpoint->sync));
	CHECK(sync_receive(endpoint->sync));
	CHECK_EQ(0, endpoint_complete(endpoint));
	CHECK(sync_receive(endpoint->sync));
	_exit(5);
}

static void peer_loses_its_leader(struct endpoint *endpoint)
{
	static struct endpoint copy;
	pthread_t thread;

	copy = *endpoint;
	CHECK_EQ(0, pthread_create(&thread, NULL, thread_outlives_leader, &copy));
	pthread_exit(NULL);
}

TEST(a_leader_that_exits_first_is_not_the_death_of_the_process)
{
	struct distworker_mailbox_query query;
	struct hub_wait wait;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_loses_its_leader, NULL));
	hub_drain_state(&hub);
	ASSERT_TRUE(sync_receive(peer.sync));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	ASSERT_TRUE(sync_send(peer.sync));
	wait = (struct hub_wait){ .watch = 1, .deadline = soon() };
	ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
	EXPECT_EQ(DISTWORKER_EVENT_DONE, wait.events);
	ASSERT_TRUE(sync_send(peer.sync));
	EXPECT_EQ(5 << 8, peer_join(&peer));
	EXPECT_EQ(0, wait_for_state(&hub, 0));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(5 << 8, query.status);
}

static void *thread_ends_process(void *argument)
{
	_exit(9);
}

static void peer_attached_by_main_ends_in_thread(struct endpoint *endpoint)
{
	pthread_t thread;

	sync_receive(endpoint->sync);
	pthread_create(&thread, NULL, thread_ends_process, NULL);
	dw_endpoint_wait(endpoint->fd, 0, 0, soon(), NULL);
	pause();
}

TEST(exit_by_another_thread_while_one_waits_is_reported)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_attached_by_main_ends_in_thread, NULL));
	hub_drain_state(&hub);
	ASSERT_TRUE(sync_send(peer.sync));
	EXPECT_EQ(0, wait_for_state(&hub, 0));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(9 << 8, query.status);
	EXPECT_EQ(9 << 8, peer_join(&peer));
}

static void *thread_attaches_and_leaves(void *argument)
{
	CHECK_EQ(0, dw_attach(((struct endpoint *)argument)->fd, NULL));
	return NULL;
}

static void peer_attaches_in_a_thread(struct endpoint *endpoint)
{
	pthread_t thread;

	CHECK(sync_receive(endpoint->sync));
	CHECK_EQ(0, pthread_create(&thread, NULL, thread_attaches_and_leaves, endpoint));
	CHECK_EQ(0, pthread_join(thread, NULL));
	CHECK_EQ(-ETIMEDOUT, dw_endpoint_wait(endpoint->fd, 0, 0, 0, NULL));
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
}

TEST(the_process_stays_attached_when_the_thread_that_attached_ends)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, peer_fork(&peer, endpoint, 0, peer_attaches_in_a_thread, NULL));
	ASSERT_EQ(0, dw_bind(hub.fd, 0, peer.pid, NULL));
	ASSERT_TRUE(sync_send(peer.sync));
	ASSERT_TRUE(sync_receive(peer.sync));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- exec and detach */

static void become_sleep(void)
{
	execl("/bin/sleep", "sleep", "60", NULL);
	CHECK(!"/bin/sleep could be executed");
}

static void *thread_execs(void *argument)
{
	become_sleep();
	return NULL;
}

static void peer_execs(struct endpoint *endpoint)
{
	bool by_thread = *(bool *)endpoint->argument;
	pthread_t thread;

	/* It keeps the file open, and is dead all the same. */
	fcntl(endpoint->fd, F_SETFD, 0);
	sync_receive(endpoint->sync);
	if (!by_thread)
		become_sleep();
	pthread_create(&thread, NULL, thread_execs, NULL);
	for (;;)
		dw_endpoint_wait(endpoint->fd, 0, 0, soon(), NULL);
}

TEST(exec_is_death_by_exec_also_when_the_file_stays_open)
{
	bool by_thread[] = { false, true };

	for (unsigned int i = 0; i < ARRAY_SIZE(by_thread); i++) {
		struct distworker_mailbox_query query;
		struct peer peer;
		struct hub hub;

		ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
		ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_execs, &by_thread[i]));
		hub_drain_state(&hub);
		ASSERT_TRUE(sync_send(peer.sync));
		EXPECT_EQ(0, wait_for_state(&hub, 0));
		ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
		EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
		EXPECT_EQ(DISTWORKER_DEATH_EXEC, query.cause);
		EXPECT_EQ(peer.pid, query.pid);
		EXPECT_EQ(0, query.status);
		/* Its end later is no news of this mailbox. */
		EXPECT_EQ(SIGKILL, peer_kill(&peer));
		ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
		EXPECT_EQ(DISTWORKER_DEATH_EXEC, query.cause);
		EXPECT_EQ(0, query.status);
		hub_close(&hub);
	}
}

static void peer_detaches(struct endpoint *endpoint)
{
	__u32 events;

	munmap(endpoint->box, endpoint->attach.mailbox_bytes);
	munmap(endpoint->hub_line, getpagesize());
	CHECK_EQ(0, dw_detach(endpoint->fd));
	CHECK_EQ(-ENOTCONN, dw_detach(endpoint->fd));
	CHECK_EQ(-ENOTCONN, dw_endpoint_wake(endpoint->fd));
	CHECK_EQ(-ENOTCONN, dw_endpoint_wait(endpoint->fd, 0, 1, soon(), &events));
	CHECK_EQ(-ENOTCONN, dw_attach(endpoint->fd, NULL));
	CHECK(mmap(NULL, BOX_BYTES, PROT_READ, MAP_SHARED, endpoint->fd, 0) == MAP_FAILED);
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
	_exit(3);
}

TEST(detach_is_death_by_detach_and_the_process_lives_on)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_detaches, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
	EXPECT_EQ(DISTWORKER_DEATH_DETACH, query.cause);
	EXPECT_EQ(0, query.status);
	EXPECT_EQ(0, wait_for_state(&hub, 0));
	EXPECT_EQ(0, waitpid(peer.pid, NULL, WNOHANG));
	EXPECT_EQ(3 << 8, peer_join(&peer));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_DEATH_DETACH, query.cause);
	EXPECT_EQ(0, query.status);
}

TEST(end_of_a_process_that_has_detached_is_not_that_of_the_next_peer)
{
	struct distworker_mailbox_query query;
	struct peer former, peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&former, &hub, 0, peer_detaches, NULL));
	ASSERT_TRUE(sync_receive(former.sync));
	ASSERT_EQ(0, dw_rearm(hub.fd, 0, NULL));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_idles, NULL));
	hub_drain_state(&hub);
	EXPECT_EQ(3 << 8, peer_join(&former));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(peer.pid, query.pid);
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(0, wait_for_state(&hub, 0));
}

struct detach_race {
	int endpoint;
	int tid;
	int result;
};

static void *thread_waits_until_detached(void *argument)
{
	struct detach_race *race = argument;

	store(race->tid, current_tid());
	race->result = dw_endpoint_wait(race->endpoint, DISTWORKER_WAIT_NOSPIN, 0, soon(), NULL);
	return NULL;
}

TEST(detach_ends_the_waits_of_other_threads)
{
	struct detach_race race = { 0 };
	pthread_t thread;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	race.endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_attach(race.endpoint, NULL));
	ASSERT_EQ(0, pthread_create(&thread, NULL, thread_waits_until_detached, &race));
	ASSERT_TRUE(WAIT_UNTIL(race.tid && peer_sleeps(&hub, 0, race.tid)));
	EXPECT_EQ(0, dw_detach(race.endpoint));
	pthread_join(thread, NULL);
	EXPECT_EQ(-ENOTCONN, race.result);
}

/* ---------------------------------------------------------------- other holders of the file */

TEST(death_is_seen_although_copies_of_the_endpoint_are_open_elsewhere)
{
	struct distworker_mailbox_query query;
	struct peer peer, holder;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_LE(0, endpoint);
	/* In the owner, and in a process that has nothing to do with it. */
	ASSERT_EQ(0, peer_fork(&holder, endpoint, 0, peer_idles, NULL));
	ASSERT_EQ(0, peer_start_on(&peer, &hub, 0, dup(endpoint), peer_idles, NULL));
	hub_drain_state(&hub);
	kill(peer.pid, SIGKILL);
	EXPECT_EQ(0, wait_for_state(&hub, 0));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_DEATH_EXIT, query.cause);
	EXPECT_EQ(SIGKILL, peer_join(&peer));
	EXPECT_EQ(0, peer_join(&holder));
}

TEST(death_of_somebody_who_holds_a_copy_is_not_the_peers)
{
	struct distworker_mailbox_query query;
	struct hub_wait wait = { .deadline = 0 };
	struct peer peer, holder;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, peer_fork(&holder, endpoint, 0, peer_idles, NULL));
	ASSERT_EQ(0, peer_start_on(&peer, &hub, 0, dup(endpoint), peer_idles, NULL));
	hub_drain_state(&hub);
	EXPECT_EQ(SIGKILL, peer_kill(&holder));
	close(endpoint);
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(-ETIMEDOUT, dw_hub_wait(hub.fd, &wait));
	EXPECT_EQ(0, peer_join(&peer));
}

static void peer_closes_its_endpoint(struct endpoint *endpoint)
{
	close(endpoint->fd);
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
	store(endpoint->box->done, 77);
}

TEST(closing_the_endpoint_is_not_death_while_the_process_lives)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_closes_its_endpoint, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(77, hub_mailbox(&hub, 0)->done);
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
	EXPECT_EQ(DISTWORKER_DEATH_EXIT, query.cause);
}

/* ---------------------------------------------------------------- between fork and attach */

TEST(a_child_that_dies_before_it_attaches_leaves_a_free_mailbox_that_can_be_bound_anew)
{
	struct distworker_mailbox_query query;
	struct peer lost, peer;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, peer_fork(&lost, endpoint, 0, peer_idles, NULL));
	ASSERT_EQ(0, dw_bind(hub.fd, 0, lost.pid, NULL));
	EXPECT_EQ(SIGKILL, peer_kill(&lost));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_FREE, query.state);
	EXPECT_EQ(0, peer_start_on(&peer, &hub, 0, endpoint, peer_idles, NULL));
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- many */

#define MANY 24

TEST(deaths_of_many_peers_are_each_reported_once)
{
	struct hub_wait wait;
	struct peer peers[MANY];
	__u64 seen = 0;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, MANY, BOX_BYTES));
	for (int i = 0; i < MANY; i++)
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i, peer_idles, NULL));
	hub_drain_state(&hub);
	for (int i = 0; i < MANY; i++)
		kill(peers[i].pid, SIGKILL);
	while (seen != (1ULL << MANY) - 1) {
		wait = (struct hub_wait){ .deadline = soon() };
		ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
		EXPECT_EQ(0, wait.state & seen);
		seen |= wait.state;
	}
	wait = (struct hub_wait){ .deadline = 0 };
	EXPECT_EQ(-ETIMEDOUT, dw_hub_wait(hub.fd, &wait));
	for (int i = 0; i < MANY; i++)
		EXPECT_EQ(SIGKILL, peer_join(&peers[i]));
}

static void peer_of_many_mailboxes(struct endpoint *endpoint)
{
	int *endpoints = endpoint->argument;

	CHECK(sync_receive(endpoint->sync));
	for (int i = 0; i < 6; i++)
		CHECK_EQ(0, dw_attach(endpoints[i], NULL));
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
}

TEST(one_process_can_be_the_peer_of_many_mailboxes_and_dies_in_all)
{
	struct distworker_mailbox_query query;
	struct hub hubs[2];
	struct peer peer;
	int endpoints[6];

	for (int i = 0; i < 6; i++) {
		if (i < 2)
			ASSERT_EQ(0, hub_open(&hubs[i], 3, BOX_BYTES));
		endpoints[i] = dw_create(hubs[i % 2].fd, i / 2);
		ASSERT_LE(0, endpoints[i]);
	}
	ASSERT_EQ(0, peer_fork(&peer, -1, 0, peer_of_many_mailboxes, endpoints));
	for (int i = 0; i < 6; i++)
		ASSERT_EQ(0, dw_bind(hubs[i % 2].fd, i / 2, peer.pid, NULL));
	ASSERT_TRUE(sync_send(peer.sync));
	ASSERT_TRUE(sync_receive(peer.sync));
	hub_drain_state(&hubs[0]);
	hub_drain_state(&hubs[1]);
	EXPECT_EQ(SIGKILL, peer_kill(&peer));
	for (int i = 0; i < 2; i++) {
		struct hub_wait wait = { .deadline = soon() };

		EXPECT_EQ(0, dw_hub_wait(hubs[i].fd, &wait));
		EXPECT_EQ(7, wait.state);
		for (int k = 0; k < 3; k++) {
			ASSERT_EQ(0, dw_mailbox(hubs[i].fd, k, &query));
			EXPECT_EQ(SIGKILL, query.status);
		}
	}
}

/* ---------------------------------------------------------------- replacement */

TEST(a_replacement_takes_over_a_dead_mailbox_through_the_same_endpoint)
{
	struct distworker_mailbox_query query;
	__u64 generation, last = 0;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	for (int round = 0; round < 10; round++) {
		struct peer peer;

		ASSERT_EQ(0,
			  peer_start_on(&peer, &hub, 0, dup(endpoint), peer_waits_for_post, NULL));
		hub_drain_state(&hub);
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
		if (round % 2) {
			EXPECT_EQ(SIGKILL, peer_kill(&peer));
		} else {
			EXPECT_EQ(1, hub_post(&hub, 0));
			EXPECT_EQ(0, peer_join(&peer));
		}
		EXPECT_EQ(0, wait_for_state(&hub, 0));
		ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
		EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
		ASSERT_EQ(0, dw_rearm(hub.fd, 0, &generation));
		if (round)
			EXPECT_EQ(last + 1, generation);
		last = generation;
		EXPECT_EQ(0, hub_mailbox(&hub, 0)->post);
	}
}

TEST(rearm_of_a_free_mailbox_takes_the_binding_back)
{
	struct distworker_mailbox_query query;
	__u64 before, after;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), &before));
	ASSERT_EQ(0, dw_rearm(hub.fd, 0, &after));
	EXPECT_EQ(before + 1, after);
	EXPECT_EQ(-ENOTCONN, dw_attach(endpoint, NULL));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(0, query.pid);
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	EXPECT_EQ(0, dw_attach(endpoint, NULL));
}

TEST_HARNESS_MAIN
