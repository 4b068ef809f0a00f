// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes that share an address space, as vfork() and CLONE_VM make them: the
 * address space outlives the process, and its death is found all the same, unless the
 * other shares the table of files, too. And processes that look into one for a moment
 * that does not end.
 */
#include <linux/userfaultfd.h>
#include <sys/uio.h>
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

struct shared {
	pid_t helper;
	int step;
};

/* A page that all processes of a test see. */
static void *shared_page(void)
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

/* A helper's parent is dead: process 1 reaps it, or nothing does before its own end. */
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
	hub_drain_state(&hub);
	/* The helper still has the mailbox in its memory: no next peer may come. */
	EXPECT_EQ(-EBUSY, dw_rearm(hub.fd, 0, NULL));
	ASSERT_TRUE(helper_ends(shared->helper));
	/* Nothing told when to try again. */
	EXPECT_EQ(0, wait_for_state(&hub, 0));
	EXPECT_EQ(0, dw_rearm(hub.fd, 0, NULL));
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

/* ------------------------------------------ the peer is the one that shares */

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

/* ----------------------------------------- the owner leaves a helper behind */

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

/* ---------------------------------------------------------------- events that are no death */

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
	/* No process shared its memory any more. */
	EXPECT_EQ(0, dw_rearm(hub.fd, 0, NULL));
}

/* ---------------------------------------------------------------- during a debugger's look */

struct onlooker {
	pid_t peer;
	void *address;
	int step;	/* 1: it is about to look; -1: it cannot */
	int ready;
	int go;
	int ended;	/* what the wait of an orphaned peer returned */
};

/* Reads the peer's memory into a page that never comes, and so holds its address space. */
static void look_into_peer_without_end(struct onlooker *onlooker)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register missing = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct iovec here = { .iov_len = getpagesize() };
	struct iovec there = { .iov_base = onlooker->address, .iov_len = getpagesize() };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api)) {
		store(onlooker->step, -1);
		return;
	}
	here.iov_base = mmap(NULL, here.iov_len, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(here.iov_base != MAP_FAILED);
	missing.range.start = to_u64(here.iov_base);
	missing.range.len = here.iov_len;
	CHECK_EQ(0, ioctl(fd, UFFDIO_REGISTER, &missing));
	store(onlooker->step, 1);
	process_vm_readv(onlooker->peer, &here, 1, &there, 1, 0);
	CHECK(!"the page came");
}

static char looked_at[64 << 10];	/* of a page and more */

/* The pid of a process that looks into the given one until it is killed; 0: it cannot. */
static pid_t look_into(struct onlooker *onlooker, pid_t pid)
{
	pid_t looker;

	onlooker->peer = pid;
	onlooker->address = looked_at;
	looker = fork();
	if (looker == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		look_into_peer_without_end(onlooker);
		_exit(0);
	}
	CHECK(WAIT_UNTIL(load(onlooker->step) < 0 ||
			 (load(onlooker->step) && task_state(looker) != 'R' &&
			  task_is_off_cpu(looker))));
	if (load(onlooker->step) > 0)
		return looker;
	waitpid(looker, NULL, 0);
	return 0;
}

static void peer_execs_when_told(struct endpoint *endpoint)
{
	CHECK(sync_receive(endpoint->sync));
	become_sleep();
}

FIXTURE(onlooker)
{
	struct onlooker *onlooker;
};

FIXTURE_VARIANT(onlooker)
{
	bool execs;
};

FIXTURE_VARIANT_ADD(onlooker, kill) { .execs = false };
FIXTURE_VARIANT_ADD(onlooker, exec) { .execs = true };

FIXTURE_SETUP(onlooker)
{
	self->onlooker = shared_page();
	ASSERT_TRUE(self->onlooker != NULL);
}

FIXTURE_TEARDOWN(onlooker)
{
}

/* The mailbox stayed ATTACHED, and the peer's task counted, for as long as the look took. */
TEST_F(onlooker, does_not_delay_the_death_of_a_peer)
{
	struct distworker_mailbox_query query;
	struct peer peer, next;
	struct hub hub;
	pid_t looker;
	int status;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_execs_when_told, NULL));
	hub_drain_state(&hub);
	looker = look_into(self->onlooker, peer.pid);
	if (!looker) {
		EXPECT_EQ(SIGKILL, peer_kill(&peer));
		SKIP(return, "no userfaultfd in this kernel");
	}
	if (variant->execs) {
		ASSERT_TRUE(sync_send(peer.sync));
	} else {
		kill(peer.pid, SIGKILL);
	}
	EXPECT_EQ(0, wait_for_state(&hub, 0));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_DEAD, query.state);
	EXPECT_EQ(variant->execs ? DISTWORKER_DEATH_EXEC : DISTWORKER_DEATH_EXIT, query.cause);
	EXPECT_EQ(variant->execs ? 0 : SIGKILL, query.status);
	/* The looking process cannot see the mailbox: the next peer may come. */
	EXPECT_EQ(0, dw_rearm(hub.fd, 0, NULL));
	EXPECT_EQ(0, peer_start(&next, &hub, 0, peer_idles, NULL));
	kill(looker, SIGKILL);
	EXPECT_EQ(looker, waitpid(looker, &status, 0));
	/* The end of the first one's address space is none of the next one's business. */
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(DISTWORKER_MAILBOX_ATTACHED, query.state);
	EXPECT_EQ(next.pid, query.pid);
	EXPECT_EQ(0, peer_join(&next));
	EXPECT_EQ(SIGKILL, peer_kill(&peer));
}

static void peer_outlives_its_owner(struct endpoint *endpoint)
{
	struct onlooker *onlooker = endpoint->argument;

	prctl(PR_SET_PDEATHSIG, 0);
	store(onlooker->ended, dw_endpoint_wait(endpoint->fd, 0, 0, soon(), NULL));
}

static void owner_with_a_sleeping_peer(struct onlooker *onlooker, bool execs)
{
	struct peer peer;
	struct hub hub;

	CHECK_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	CHECK_EQ(0, peer_start(&peer, &hub, 0, peer_outlives_its_owner, onlooker));
	CHECK(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	store(onlooker->ready, 1);
	CHECK(WAIT_UNTIL(load(onlooker->go)));
	if (execs)
		become_sleep();
	raise(SIGKILL);
}

TEST_F(onlooker, does_not_delay_the_orphaning_of_a_hub)
{
	pid_t owner, looker;
	int status;

	owner = fork();
	if (owner == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		owner_with_a_sleeping_peer(self->onlooker, variant->execs);
		_exit(1);
	}
	ASSERT_TRUE(WAIT_UNTIL(load(self->onlooker->ready)));
	looker = look_into(self->onlooker, owner);
	store(self->onlooker->go, 1);
	EXPECT_TRUE(WAIT_UNTIL(load(self->onlooker->ended)));
	EXPECT_EQ(-EOWNERDEAD, load(self->onlooker->ended));
	kill(owner, SIGKILL);
	EXPECT_EQ(owner, waitpid(owner, &status, 0));
	if (!looker)
		SKIP(return, "no userfaultfd in this kernel");
	kill(looker, SIGKILL);
	EXPECT_EQ(looker, waitpid(looker, &status, 0));
}

TEST_HARNESS_MAIN
