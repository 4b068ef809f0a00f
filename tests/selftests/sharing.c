// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes that share an address space, as vfork() and CLONE_VM make them: the
 * address space outlives the process, and its death is found all the same, unless the
 * other shares the table of files, too.
 */
#include "distworker_test.h"

#define STACK_BYTES (64 << 10)

/* Runs the function in a process of its own in this address space; its pid. */
static pid_t clone_sharing(int (*function)(void *), void *argument, int flags)
{
	char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	CHECK(stack != MAP_FAILED);
	return clone(function, stack + STACK_BYTES, CLONE_VM | flags | SIGCHLD, argument);
}

/* A page that all processes of a test see. */
struct shared {
	pid_t helper;
	int step;
};

static struct shared *shared_page(void)
{
	void *page = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			  -1, 0);

	return page == MAP_FAILED ? NULL : page;
}

/* ---------------------------------------------------------------- a peer leaves a helper behind */

static int helper_lingers(void *unused)
{
	for (;;)
		pause();
	return 0;
}

static void peer_leaves_helper(struct endpoint *endpoint)
{
	struct shared *shared = endpoint->argument;

	store(shared->helper, clone_sharing(helper_lingers, NULL, 0));
	CHECK(shared->helper > 0);
	dw_endpoint_wait(endpoint->fd, 0, 0, soon(), NULL);
}

/* A helper's parent is dead: it is reaped by process 1, or by nobody before its end. */
static bool helper_ends(pid_t helper)
{
	kill(helper, SIGKILL);
	return WAIT_UNTIL(kill(helper, 0) < 0 || task_state(helper) == 'Z');
}

TEST(kill_of_a_peer_is_reported_although_another_process_shares_its_memory)
{
	struct distworker_mailbox_query query;
	struct shared *shared = shared_page();
	struct peer peer, next;
	struct hub hub;

	ASSERT_TRUE(shared != NULL);
	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_leaves_helper, shared));
	hub_drain_state(&hub);
	ASSERT_TRUE(WAIT_UNTIL(load(shared->helper)));
	ASSERT_EQ(SIGKILL, peer_kill(&peer));
	EXPECT_TRUE(WAIT_UNTIL(dw_mailbox(hub.fd, 0, &query) == 0 &&
			       query.state == DISTWORKER_MAILBOX_DEAD));
	EXPECT_EQ(DISTWORKER_DEATH_EXIT, query.cause);
	EXPECT_EQ(SIGKILL, query.status);
	EXPECT_EQ(peer.pid, query.pid);
	/* The helper still has the mailbox in its memory: no next peer may come. */
	EXPECT_EQ(-EBUSY, dw_rearm(hub.fd, 0, NULL));
	ASSERT_TRUE(helper_ends(shared->helper));
	EXPECT_TRUE(WAIT_UNTIL(dw_rearm(hub.fd, 0, NULL) == 0));
	EXPECT_EQ(0, peer_start(&next, &hub, 0, peer_idles, NULL));
	EXPECT_EQ(0, peer_join(&next));
}

static void become_sleep(void)
{
	execl("/bin/sleep", "sleep", "60", NULL);
	CHECK(!"/bin/sleep could be executed");
}

static void peer_leaves_helper_and_execs(struct endpoint *endpoint)
{
	struct shared *shared = endpoint->argument;

	shared->helper = clone_sharing(helper_lingers, NULL, 0);
	CHECK(shared->helper > 0);
	CHECK(sync_receive(endpoint->sync));
	become_sleep();
}

TEST(exec_of_a_peer_is_reported_although_another_process_shares_its_memory)
{
	struct distworker_mailbox_query query;
	struct shared *shared = shared_page();
	struct peer peer;
	struct hub hub;

	ASSERT_TRUE(shared != NULL);
	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_leaves_helper_and_execs, shared));
	ASSERT_TRUE(sync_send(peer.sync));
	EXPECT_TRUE(WAIT_UNTIL(dw_mailbox(hub.fd, 0, &query) == 0 &&
			       query.state == DISTWORKER_MAILBOX_DEAD));
	EXPECT_EQ(DISTWORKER_DEATH_EXEC, query.cause);
	EXPECT_EQ(0, query.status);
	EXPECT_EQ(-EBUSY, dw_rearm(hub.fd, 0, NULL));
	ASSERT_TRUE(helper_ends(shared->helper));
	EXPECT_TRUE(WAIT_UNTIL(dw_rearm(hub.fd, 0, NULL) == 0));
	EXPECT_EQ(SIGKILL, peer_kill(&peer));
}

static void peer_shares_its_files_too(struct endpoint *endpoint)
{
	struct shared *shared = endpoint->argument;

	store(shared->helper, clone_sharing(helper_lingers, NULL, CLONE_FILES));
	CHECK(shared->helper > 0);
	dw_endpoint_wait(endpoint->fd, 0, 0, soon(), NULL);
}

/* The limit of it, as documented. */
TEST(death_of_a_peer_whose_files_are_shared_is_reported_at_the_end_of_the_last_holder)
{
	struct distworker_mailbox_query query;
	struct shared *shared = shared_page();
	struct peer peer;
	struct hub hub;

	ASSERT_TRUE(shared != NULL);
	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_shares_its_files_too, shared));
	hub_drain_state(&hub);
	ASSERT_TRUE(WAIT_UNTIL(load(shared->helper)));
	ASSERT_EQ(SIGKILL, peer_kill(&peer));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(-EBUSY, dw_rearm(hub.fd, 0, NULL));
	ASSERT_TRUE(helper_ends(shared->helper));
	EXPECT_TRUE(WAIT_UNTIL(dw_mailbox(hub.fd, 0, &query) == 0 &&
			       query.state == DISTWORKER_MAILBOX_DEAD));
	EXPECT_EQ(DISTWORKER_DEATH_EXIT, query.cause);
	EXPECT_EQ(SIGKILL, query.status);
	EXPECT_EQ(0, dw_rearm(hub.fd, 0, NULL));
}

/* ---------------------------------------------------------------- the peer is the one that shares */

struct guest {
	struct hub hub;
	int endpoint;
	int step;
	bool execs;
};

static int guest_attaches(void *argument)
{
	struct guest *guest = argument;

	CHECK(WAIT_UNTIL(load(guest->step) == 1));
	CHECK_EQ(0, dw_attach(guest->endpoint, NULL));
	store(guest->step, 2);
	CHECK(WAIT_UNTIL(load(guest->step) == 3));
	if (guest->execs)
		become_sleep();
	_exit(7);
}

static bool guest_is(struct guest *guest, __u32 state, __u32 cause)
{
	struct distworker_mailbox_query query;

	return dw_mailbox(guest->hub.fd, 0, &query) == 0 && query.state == state &&
	       query.cause == cause;
}

TEST(end_of_a_peer_that_shares_the_memory_of_its_living_parent_is_reported)
{
	for (int execs = 0; execs < 2; execs++) {
		struct guest guest = { .execs = execs };
		struct distworker_mailbox_query query;
		__u32 cause = execs ? DISTWORKER_DEATH_EXEC : DISTWORKER_DEATH_EXIT;
		int status;
		pid_t pid;

		ASSERT_EQ(0, hub_open(&guest.hub, 1, BOX_BYTES));
		guest.endpoint = dw_create(guest.hub.fd, 0);
		ASSERT_LE(0, guest.endpoint);
		pid = clone_sharing(guest_attaches, &guest, 0);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, dw_bind(guest.hub.fd, 0, pid, NULL));
		store(guest.step, 1);
		ASSERT_TRUE(WAIT_UNTIL(load(guest.step) == 2));
		hub_drain_state(&guest.hub);
		/* The address space is this process's too, the right is not. */
		EXPECT_EQ(-EPERM, dw_endpoint_wake(guest.endpoint));
		EXPECT_TRUE(guest_is(&guest, DISTWORKER_MAILBOX_ATTACHED, DISTWORKER_DEATH_NONE));
		store(guest.step, 3);
		EXPECT_TRUE(WAIT_UNTIL(guest_is(&guest, DISTWORKER_MAILBOX_DEAD, cause)));
		if (execs)
			kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, dw_mailbox(guest.hub.fd, 0, &query));
		EXPECT_EQ(execs ? 0 : status, query.status);
		EXPECT_EQ(0, dw_rearm(guest.hub.fd, 0, NULL));
		close(guest.endpoint);
		hub_close(&guest.hub);
	}
}

/* ---------------------------------------------------------------- the owner leaves a helper behind */

static void peer_learns_of_orphaning(struct endpoint *endpoint)
{
	struct shared *shared = endpoint->argument;

	prctl(PR_SET_PDEATHSIG, 0);
	store(shared->step, dw_endpoint_wait(endpoint->fd, 0, 0, soon(), NULL));
}

static void owner_with_peer_leaves_helper(struct shared *shared)
{
	struct peer peer;
	struct hub hub;

	CHECK_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	CHECK_EQ(0, peer_start(&peer, &hub, 0, peer_learns_of_orphaning, shared));
	CHECK(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	store(shared->helper, clone_sharing(helper_lingers, NULL, 0));
	CHECK(shared->helper > 0);
	raise(SIGKILL);
}

TEST(kill_of_an_owner_wakes_its_peers_although_another_process_shares_its_memory)
{
	struct shared *shared = shared_page();

	ASSERT_TRUE(shared != NULL);
	EXPECT_EQ(SIGKILL, IN_CHILD(owner_with_peer_leaves_helper(shared)));
	EXPECT_TRUE(WAIT_UNTIL(load(shared->step)));
	EXPECT_EQ(-EOWNERDEAD, shared->step);
	EXPECT_TRUE(helper_ends(shared->helper));
}

/* ---------------------------------------------------------------- what is no death */

static void *thread_leaves_with_files_of_its_own(void *unused)
{
	CHECK_EQ(0, unshare(CLONE_FILES));
	return NULL;
}

static int helper_leaves(void *unused)
{
	_exit(0);
}

/* Threads and helpers close their copies of the file at their end. */
static void peer_survives_others(struct endpoint *endpoint)
{
	pid_t lingering = clone_sharing(helper_lingers, NULL, 0), leaving;
	pthread_t thread;
	int status;

	CHECK(lingering > 0);
	CHECK_EQ(0, pthread_create(&thread, NULL, thread_leaves_with_files_of_its_own, NULL));
	pthread_join(thread, NULL);
	leaving = clone_sharing(helper_leaves, NULL, 0);
	CHECK_EQ(leaving, waitpid(leaving, &status, 0));
	leaving = vfork();
	if (leaving == 0)
		_exit(0);
	CHECK_EQ(leaving, waitpid(leaving, &status, 0));
	close(dup(endpoint->fd));
	store(endpoint->box->done, 1);
	CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
	CHECK(sync_receive(endpoint->sync));
	kill(lingering, SIGKILL);
	CHECK_EQ(lingering, waitpid(lingering, &status, 0));
}

TEST(ends_of_threads_and_helpers_that_hold_the_file_are_not_the_peers)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_survives_others, NULL));
	EXPECT_TRUE(WAIT_UNTIL(load(hub_mailbox(&hub, 0)->done) == 1));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	ASSERT_TRUE(sync_send(peer.sync));
	EXPECT_EQ(0, peer_join(&peer));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
	/* Nobody shared its memory any more. */
	EXPECT_EQ(0, dw_rearm(hub.fd, 0, NULL));
}

TEST_HARNESS_MAIN
