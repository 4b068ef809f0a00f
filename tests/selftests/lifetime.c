// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of the owner and of files: the errors that peers then get, the effect of closing in the
 * middle of a wait, and that the module stays as long as a process uses it.
 */
#include "distworker_test.h"

/*
 * The owner is a child of the test, its peers are grandchildren, and all of them
 * share a page with it. Orphans come to the test, which can wait for them.
 */
struct family {
	int ready;		/* peers that are about to do what they are there for */
	int owner_ready;
	int survivors;		/* peers that do not die with the owner any more */
	pid_t peers[2];
	int tids[2];
	int go;
};

FIXTURE(owner)
{
	struct family *family;
	pid_t pid;
};

FIXTURE_SETUP(owner)
{
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	self->family = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->family != MAP_FAILED);
	self->pid = -1;
}

FIXTURE_TEARDOWN(owner)
{
}

/* Nor hold a copy of the hub's file, which came with the fork. */
static void survive_the_owner(struct endpoint *endpoint)
{
	struct family *family = endpoint->argument;

	prctl(PR_SET_PDEATHSIG, 0);
	__atomic_fetch_add(&family->survivors, 1, __ATOMIC_SEQ_CST);
	for (int fd = 3; fd < 100; fd++)
		if (fd != endpoint->fd && fd != endpoint->sync)
			close(fd);
}

/* Starts an owner with two peers, which run the function with the family as argument. */
static bool owner_start(struct family *family, pid_t *pid, void (*function)(struct endpoint *),
			void (*owner_ends)(struct hub *hub))
{
	fflush(NULL);
	*pid = fork();
	if (*pid == 0) {
		struct peer peers[2];
		struct hub hub;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK_EQ(0, hub_open_with(&hub, DISTWORKER_SETUP_TIMELINES, 2, BOX_BYTES));
		for (int i = 0; i < 2; i++) {
			CHECK_EQ(0, peer_start(&peers[i], &hub, i, function, family));
			store(family->peers[i], peers[i].pid);
		}
		store(family->owner_ready, 1);
		while (!load(family->go))
			usleep(100);
		owner_ends(&hub);
		_exit(0);
	}
	return *pid > 0 && WAIT_UNTIL(load(family->owner_ready));
}

static int status_of(pid_t pid)
{
	int status = -1;

	return WAIT_UNTIL(waitpid(pid, &status, WNOHANG) == pid) ? status : -1;
}

static void peer_outlives_its_owner(struct endpoint *endpoint)
{
	struct family *family = endpoint->argument;
	struct distworker_query query;
	struct pollfd poll_fd = { .fd = endpoint->fd, .events = POLLIN };
	struct distworker_timeline_wait wait = {
		.flags = DISTWORKER_WAIT_NOSPIN, .count = 1, .deadline_ns = DISTWORKER_NO_DEADLINE,
	};
	__u32 events;

	survive_the_owner(endpoint);
	/* One waits for it, the other one for the first. */
	CHECK_EQ(-EOWNERDEAD, endpoint->index ? dw_timeline_wait(endpoint, &wait) :
		 dw_endpoint_wait(endpoint->fd, DISTWORKER_WAIT_NOSPIN, 0, DISTWORKER_NO_DEADLINE,
				  &events));
	CHECK_EQ(0, endpoint->box->asleep);
	/* And so it stays for every call. */
	CHECK_EQ(-EOWNERDEAD, dw_endpoint_wait(endpoint->fd, 0, 0, 0, &events));
	CHECK_EQ(-EOWNERDEAD, dw_endpoint_wait(endpoint->fd, 0, 1, soon(), &events));
	CHECK_EQ(-EOWNERDEAD, dw_endpoint_wait(endpoint->fd, DISTWORKER_WAIT_WAKE, 1, soon(),
					       &events));
	CHECK_EQ(-EOWNERDEAD, dw_endpoint_wake(endpoint->fd));
	CHECK_EQ(1, poll(&poll_fd, 1, 0));
	CHECK(poll_fd.revents & POLLHUP);
	CHECK_EQ(0, dw_query(endpoint->fd, &query));
	/* Its memory is still there. */
	endpoint->box->done = 1;
	CHECK_EQ(0, endpoint->hub_line->driving);
	add(family->ready, 1);
}

static void owner_waits(struct hub *hub)
{
	pause();
}

static void owner_exits(struct hub *hub)
{
	_exit(0);
}

static void owner_execs(struct hub *hub)
{
	fcntl(hub->fd, F_SETFD, 0);
	execl("/bin/sleep", "sleep", "60", NULL);
}

static void owner_closes(struct hub *hub)
{
	hub_close(hub);
	pause();
}

static void *owner_thread(void *argument)
{
	while (task_state(getpid()) != 'Z')
		usleep(100);
	_exit(0);
}

static void owner_exits_by_its_last_thread(struct hub *hub)
{
	pthread_t thread;

	pthread_create(&thread, NULL, owner_thread, NULL);
	pthread_exit(NULL);
}

static bool family_sleeps(struct family *family)
{
	return task_sleeps(family->peers[0]) && task_sleeps(family->peers[1]);
}

TEST_F(owner, killed_wakes_every_peer_with_eownerdead)
{
	ASSERT_TRUE(owner_start(self->family, &self->pid, peer_outlives_its_owner, owner_waits));
	ASSERT_TRUE(WAIT_UNTIL(family_sleeps(self->family)));
	kill(self->pid, SIGKILL);
	EXPECT_EQ(0, status_of(self->family->peers[0]));
	EXPECT_EQ(0, status_of(self->family->peers[1]));
	EXPECT_EQ(2, self->family->ready);
	EXPECT_EQ(SIGKILL, status_of(self->pid));
}

FIXTURE(owner_end)
{
	struct family *family;
	pid_t pid;
};

FIXTURE_VARIANT(owner_end)
{
	void (*end)(struct hub *hub);
	bool lives;
};

FIXTURE_VARIANT_ADD(owner_end, by_exit) { .end = owner_exits };
FIXTURE_VARIANT_ADD(owner_end, by_exit_of_the_last_thread) {
	.end = owner_exits_by_its_last_thread
};
FIXTURE_VARIANT_ADD(owner_end, by_exec_with_the_file_open) { .end = owner_execs, .lives = true };
FIXTURE_VARIANT_ADD(owner_end, by_close) { .end = owner_closes, .lives = true };

FIXTURE_SETUP(owner_end)
{
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	self->family = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->family != MAP_FAILED);
}

FIXTURE_TEARDOWN(owner_end)
{
}

TEST_F(owner_end, wakes_every_peer_with_eownerdead)
{
	ASSERT_TRUE(owner_start(self->family, &self->pid, peer_outlives_its_owner, variant->end));
	ASSERT_TRUE(WAIT_UNTIL(family_sleeps(self->family)));
	store(self->family->go, 1);
	EXPECT_TRUE(WAIT_UNTIL(load(self->family->ready) == 2));
	if (variant->lives) {
		EXPECT_EQ(0, waitpid(self->pid, NULL, WNOHANG));
		kill(self->pid, SIGKILL);
	}
	EXPECT_EQ(variant->lives ? SIGKILL : 0, status_of(self->pid));
	EXPECT_EQ(0, status_of(self->family->peers[0]));
	EXPECT_EQ(0, status_of(self->family->peers[1]));
}

static void peer_polls_for_the_end(struct endpoint *endpoint)
{
	struct family *family = endpoint->argument;
	struct epoll_event event = { .events = EPOLLIN };
	int epoll;

	survive_the_owner(endpoint);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	CHECK_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, endpoint->fd, &event));
	CHECK_EQ(1, epoll_wait(epoll, &event, 1, SOON_MS));
	CHECK(event.events & EPOLLHUP);
	add(family->ready, 1);
}

TEST_F(owner, killed_is_epollhup_for_peers_that_poll)
{
	ASSERT_TRUE(owner_start(self->family, &self->pid, peer_polls_for_the_end, owner_waits));
	ASSERT_TRUE(WAIT_UNTIL(family_sleeps(self->family)));
	kill(self->pid, SIGKILL);
	EXPECT_EQ(0, status_of(self->family->peers[0]));
	EXPECT_EQ(0, status_of(self->family->peers[1]));
	EXPECT_EQ(SIGKILL, status_of(self->pid));
}

static void peer_spins_for_the_end(struct endpoint *endpoint)
{
	__u32 seen = 0;
	int ret;

	survive_the_owner(endpoint);
	do {
		ret = dw_endpoint_wait(endpoint->fd, 0, seen, now_ns() + 20000, NULL);
	} while (ret == -ETIMEDOUT);
	CHECK_EQ(-EOWNERDEAD, ret);
}

TEST_F(owner, killed_is_found_by_peers_that_are_never_asleep_for_long)
{
	ASSERT_TRUE(owner_start(self->family, &self->pid, peer_spins_for_the_end, owner_waits));
	ASSERT_TRUE(WAIT_UNTIL(load(self->family->survivors) == 2));
	kill(self->pid, SIGKILL);
	EXPECT_EQ(0, status_of(self->family->peers[0]));
	EXPECT_EQ(0, status_of(self->family->peers[1]));
	EXPECT_EQ(SIGKILL, status_of(self->pid));
}

TEST_F(owner, killed_before_the_attach_makes_attach_fail_with_eownerdead)
{
	struct family *family = self->family;
	pid_t peer;

	self->pid = fork();
	if (self->pid == 0) {
		struct hub hub;
		int endpoint;

		CHECK_EQ(0, hub_open(&hub, 1, BOX_BYTES));
		endpoint = dw_create(hub.fd, 0);
		CHECK(endpoint >= 0);
		peer = fork();
		if (peer == 0) {
			while (!load(family->go))
				usleep(100);
			CHECK_EQ(-EOWNERDEAD, dw_attach(endpoint, NULL));
			_exit(0);
		}
		CHECK_EQ(0, dw_bind(hub.fd, 0, peer, NULL));
		store(family->peers[0], peer);
		pause();
	}
	ASSERT_TRUE(WAIT_UNTIL(load(family->peers[0])));
	kill(self->pid, SIGKILL);
	EXPECT_EQ(SIGKILL, status_of(self->pid));
	store(family->go, 1);
	EXPECT_EQ(0, status_of(family->peers[0]));
}

TEST_F(owner, and_peers_killed_at_once_leave_nothing_behind)
{
	for (int round = 0; round < 10; round++) {
		struct family *family = self->family;

		memset(family, 0, sizeof(*family));
		ASSERT_TRUE(owner_start(family, &self->pid, peer_spins_for_the_end, owner_waits));
		if (round % 2)
			kill(self->pid, SIGKILL);
		kill(family->peers[0], SIGKILL);
		kill(self->pid, SIGKILL);
		kill(family->peers[1], SIGKILL);
		EXPECT_EQ(SIGKILL, status_of(self->pid));
		EXPECT_LE(0, status_of(family->peers[0]));
		EXPECT_LE(0, status_of(family->peers[1]));
	}
	EXPECT_EQ(-1, waitpid(-1, NULL, WNOHANG));
	EXPECT_EQ(ECHILD, errno);
}

/* ------------------------------------------ closing in the middle of a wait */

TEST(closing_one_copy_of_the_hub_in_the_middle_of_a_wait_loses_no_wake_up)
{
	struct waiter waiter;
	struct hub hub;
	int copy;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	copy = dup(hub.fd);
	ASSERT_TRUE(waiter_start(&waiter, &hub, 1));
	close(hub.fd);
	EXPECT_TRUE(waiter_blocked(&waiter));
	store(hub.state->kick, 1);
	EXPECT_EQ(1, dw_wake(copy, DISTWORKER_WAKE_SELF, 0));
	EXPECT_EQ(0, waiter_join(&waiter));
	EXPECT_EQ(DISTWORKER_EVENT_KICK, waiter.wait.events);
}

static void *thread_waits_a_moment(void *argument)
{
	struct waiter *waiter = argument;

	store(waiter->tid, current_tid());
	waiter->result = dw_hub_wait(waiter->hub->fd, &waiter->wait);
	store(waiter->returned, 1);
	return NULL;
}

TEST(closing_the_hub_and_its_mapping_in_the_middle_of_a_wait_lets_it_end)
{
	__u64 ahead = 100 * NSEC_PER_MSEC;
	bool slept;

	/* Twice as long if this machine was too busy to see the thread asleep. */
	do {
		struct waiter waiter = { .wait.flags = DISTWORKER_WAIT_NOSPIN };
		struct hub hub;

		ahead *= 2;
		ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
		waiter.hub = &hub;
		waiter.wait.deadline = now_ns() + ahead;
		ASSERT_EQ(0, pthread_create(&waiter.thread, NULL, thread_waits_a_moment, &waiter));
		EXPECT_TRUE(WAIT_UNTIL(load(waiter.returned) ||
				       (load(waiter.tid) && hub_waiter_sleeps(&hub, waiter.tid))));
		slept = !load(waiter.returned);
		hub_close(&hub);
		EXPECT_EQ(-ETIMEDOUT, waiter_join(&waiter));
	} while (!slept && ahead < SOON_MS * NSEC_PER_MSEC);
	EXPECT_TRUE(slept);
}

struct endpoint_waiter {
	int endpoint;
	int tid;
	int result;
	__u32 events;
};

static void *thread_waits(void *argument)
{
	struct endpoint_waiter *waiter = argument;

	store(waiter->tid, current_tid());
	waiter->result = dw_endpoint_wait(waiter->endpoint, DISTWORKER_WAIT_NOSPIN, 0, soon(),
					  &waiter->events);
	return NULL;
}

TEST(closing_the_endpoint_in_the_middle_of_a_wait_loses_no_wake_up)
{
	struct endpoint_waiter waiter = { 0 };
	pthread_t thread;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	waiter.endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_attach(waiter.endpoint, NULL));
	ASSERT_EQ(0, pthread_create(&thread, NULL, thread_waits, &waiter));
	ASSERT_TRUE(WAIT_UNTIL(waiter.tid && peer_sleeps(&hub, 0, waiter.tid)));
	close(waiter.endpoint);
	EXPECT_TRUE(peer_sleeps(&hub, 0, waiter.tid));
	EXPECT_EQ(1, hub_post(&hub, 0));
	pthread_join(thread, NULL);
	EXPECT_EQ(0, waiter.result);
	EXPECT_EQ(DISTWORKER_EVENT_POST, waiter.events);
}

TEST(closing_the_hub_wakes_a_peer_in_the_same_process)
{
	struct endpoint_waiter waiter = { 0 };
	pthread_t thread;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	waiter.endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_attach(waiter.endpoint, NULL));
	ASSERT_EQ(0, pthread_create(&thread, NULL, thread_waits, &waiter));
	ASSERT_TRUE(WAIT_UNTIL(waiter.tid && peer_sleeps(&hub, 0, waiter.tid)));
	hub_close(&hub);
	pthread_join(thread, NULL);
	EXPECT_EQ(-EOWNERDEAD, waiter.result);
}

TEST(files_can_be_closed_in_any_order)
{
	for (int order = 0; order < 6; order++) {
		struct distworker_mailbox *box;
		struct hub hub;
		int endpoint;

		ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
		endpoint = dw_create(hub.fd, 0);
		ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
		ASSERT_EQ(0, dw_attach(endpoint, NULL));
		box = mmap(NULL, BOX_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint, 0);
		ASSERT_TRUE(box != MAP_FAILED);
		for (int step = 0; step < 3; step++) {
			switch ((order + step * (order < 3 ? 1 : 2)) % 3) {
			case 0:
				hub_close(&hub);
				break;
			case 1:
				close(endpoint);
				break;
			case 2:
				store(box->done, 1);
				munmap(box, BOX_BYTES);
				break;
			}
		}
	}
}

static void peer_lets_everything_go(struct endpoint *endpoint)
{
	munmap(endpoint->box, endpoint->attach.mailbox_bytes);
	munmap(endpoint->hub_line, getpagesize());
	close(endpoint->fd);
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
}

TEST(hub_can_be_closed_before_peers_that_have_closed_everything_end)
{
	struct peer peers[2];
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, peer_start(&peers[i], &hub, i, peer_lets_everything_go, NULL));
		ASSERT_TRUE(sync_receive(peers[i].sync));
	}
	hub_close(&hub);
	EXPECT_EQ(SIGKILL, peer_kill(&peers[0]));
	EXPECT_EQ(0, peer_join(&peers[1]));
}

/* ---------------------------------------------------------------- the module */

static int unload(void)
{
	return syscall(SYS_delete_module, "distworker", O_NONBLOCK) < 0 ? -errno : 0;
}

static void peer_keeps_the_module(struct endpoint *endpoint)
{
	CHECK(sync_receive(endpoint->sync));
	CHECK_EQ(-EWOULDBLOCK, unload());
}

TEST(module_cannot_be_unloaded_while_a_file_or_a_mapping_exists)
{
	struct distworker_mailbox *box;
	struct peer peer;
	struct hub hub;
	int fd, endpoint;

	if (geteuid() || access("/sys/module/distworker/refcnt", F_OK))
		SKIP(return, "needs root and distworker as a module");
	fd = device_open();
	EXPECT_EQ(-EWOULDBLOCK, unload());
	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	close(fd);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	/* A mapping alone. */
	close(hub.fd);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	munmap(hub.map, hub.setup.mapping_bytes);

	/* An endpoint alone, after the owner has closed its hub; then its mapping. */
	ASSERT_EQ(0, hub_open(&hub, 2, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, dw_bind(hub.fd, 0, getpid(), NULL));
	ASSERT_EQ(0, dw_attach(endpoint, NULL));
	box = mmap(NULL, BOX_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint, 0);
	ASSERT_TRUE(box != MAP_FAILED);
	ASSERT_EQ(0, peer_start(&peer, &hub, 1, peer_keeps_the_module, NULL));
	hub_close(&hub);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(endpoint);
	ASSERT_TRUE(sync_send(peer.sync));
	EXPECT_EQ(0, peer_join(&peer));
	EXPECT_EQ(-EWOULDBLOCK, unload());
	munmap(box, BOX_BYTES);
}

TEST_HARNESS_MAIN
