// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Mailboxes between processes: attaching, that a child keeps nothing of its siblings, waiting with
 * deadlines, signals and kicks, bells, stop, death and replacement.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "mailbox_rig.h"

static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int fds = 0;

	while (dir && readdir(dir))
		fds++;
	closedir(dir);
	return fds;
}

/* --------------------------------------------------------------------------- */

TEST(frames_go_to_a_child_and_completions_come_back)
{
	REQUIRE(open_hub(1, 8, serve_child));
	for (uint64_t i = 1; i <= 100; i++) {
		post(0, i);
		drain(1);
	}
	CHECK_EQ(atomic_load(&shared->sum), 5050);
	close_hub();
}

TEST(sixty_four_mailboxes_work_and_sleepers_are_woken_by_one_mask)
{
	struct hub_counters before, after;

	REQUIRE(open_hub(64, 16, serve_child));
	for (uint32_t i = 0; i < 64; i++)
		CHECK(asleep(i));
	for (uint32_t i = 0; i < 64; i++)
		for (uint64_t k = 0; k < 10; k++)
			post(i, 1);
	hub_counters(hub, &before);
	hub_wake(hub);
	hub_counters(hub, &after);
	CHECK_EQ(after.wakes - before.wakes, 1);
	CHECK_EQ(after.woken - before.woken, 64);
	drain(640);
	CHECK_EQ(atomic_load(&shared->sum), 640);
	/* The same through hub_wait(). */
	for (uint32_t i = 0; i < 64; i++)
		CHECK(asleep(i));
	for (uint32_t i = 0; i < 64; i++)
		post(i, 1);
	drain(64);
	close_hub();
}

static int look_at_siblings(struct endpoint *endpoint, uint32_t i)
{
	uint64_t stride = hub->stride;
	const unsigned char *own = (const unsigned char *)endpoint->mailbox;

	for (uint32_t k = 0; k < 3; k++) {
		unsigned char *box = hub->boxes + k * stride;
		/* ENOMEM: nothing is mapped there. */
		bool mapped = msync(box, 4096, MS_ASYNC) == 0 || errno != ENOMEM;

		if (hub_provider(hub) == DW_PROVIDER_FUTEX && mapped != (k == i))
			return 1;
		/* The module has the child's own mailbox mapped where the siblings' were. */
		if (hub_provider(hub) == DW_PROVIDER_KERNEL && mapped &&
		    (own < box || own >= box + stride))
			return 2;
		if (hub->fds[k] != -1)
			return 3;
	}
	/* The child's own, and the parent's bell. */
	return fcntl(endpoint->fd, F_GETFD) == FD_CLOEXEC ? 0 : 4;
}

TEST(a_child_keeps_nothing_of_its_siblings)
{
	REQUIRE(open_hub(3, 8, look_at_siblings));
	for (uint32_t i = 0; i < 3; i++)
		CHECK_EQ(end(i), 0);
	close_hub();
}

TEST(descriptors_are_given_back)
{
	int before = open_fds();

	for (int k = 0; k < 3; k++) {
		REQUIRE(open_hub(5, 8, serve_child));
		close_hub();
	}
	CHECK_EQ(open_fds(), before);
}

TEST(too_few_descriptors_are_named_and_nothing_leaks)
{
	struct hub_options options = { .mailboxes = 100, .depth = 8, .frame_bytes = 128 };
	struct rlimit limit, small;
	int before = open_fds();

	getrlimit(RLIMIT_NOFILE, &limit);
	small = limit;
	small.rlim_cur = 20;
	setrlimit(RLIMIT_NOFILE, &small);
	CHECK_EQ(hub_create(&options, &hub), -EMFILE);
	CHECK_STR(dw_strerror_last(), "RLIMIT_NOFILE");
	setrlimit(RLIMIT_NOFILE, &limit);
	CHECK_EQ(open_fds(), before);
}

TEST(a_second_peer_is_refused)
{
	struct endpoint *endpoint, *other;

	REQUIRE(open_hub(1, 8, NULL));
	CHECK_EQ(hub_bind(hub, 0, getpid()), 0);
	CHECK_EQ(endpoint_attach(hub, 0, &endpoint), 0);
	CHECK_EQ(endpoint_attach(hub, 0, &other), -EBUSY);
	CHECK_EQ(endpoint_attach(hub, 1, &other), -EINVAL);
	endpoint_detach(endpoint);
	close_hub();
}

static int attach_again(struct endpoint *endpoint, uint32_t i)
{
	struct endpoint *other;

	(void)endpoint;
	return endpoint_attach(hub, 1 - i, &other) == -EBUSY ? 0 : 1;
}

TEST(a_child_has_one_mailbox)
{
	REQUIRE(open_hub(2, 8, attach_again));
	for (uint32_t i = 0; i < 2; i++)
		CHECK_EQ(end(i), 0);
	close_hub();
}

TEST(later_forks_do_not_inherit_the_memory)
{
	int status;
	pid_t pid;

	REQUIRE(open_hub(1, 8, serve_child));
	hub_forks_done(hub);
	pid = fork();
	if (pid == 0) {
		if (msync(hub->memory, 4096, MS_ASYNC) == 0 || errno != ENOMEM)
			_exit(1);
		/* Other memory may be mapped there by now. */
		if (mmap(hub->memory, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			 0) != hub->memory)
			_exit(2);
		void *memory = hub->memory;

		hub_destroy(hub);
		_exit(msync(memory, 4096, MS_ASYNC) == 0 ? 0 : 3);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	post(0, 7);
	drain(1);
	close_hub();
}

/* ------------------------------------------------------------------ waiting */

TEST(a_wait_ends_at_its_deadline)
{
	uint64_t start_ns;

	REQUIRE(open_hub(1, 8, NULL));
	hub_drive_begin(hub);
	start_ns = now_ns();
	CHECK_EQ(hub_wait(hub, start_ns + 20000000), -ETIMEDOUT);
	CHECK(now_ns() - start_ns >= 20000000);
	CHECK_EQ(hub_wait(hub, 1), -ETIMEDOUT);
	CHECK_EQ(hub_wait(hub, 0), -ETIMEDOUT);
	hub_drive_end(hub);
	close_hub();
}

static _Atomic bool interrupted;

static void on_signal(int signal)
{
	(void)signal;
}

/* Repeat it: on a busy machine the other side may begin its wait late. */
static void *signal_main(void *thread)
{
	while (!atomic_load(&interrupted)) {
		usleep(20000);
		pthread_kill(*(pthread_t *)thread, SIGUSR1);
	}
	return NULL;
}

TEST(a_signal_interrupts_a_wait)
{
	struct sigaction action = { .sa_handler = on_signal };
	pthread_t self = pthread_self(), thread;

	sigaction(SIGUSR1, &action, NULL);
	REQUIRE(open_hub(1, 8, NULL));
	REQUIRE(pthread_create(&thread, NULL, signal_main, &self) == 0);
	hub_drive_begin(hub);
	CHECK_EQ(wait_long(), -EINTR);
	atomic_store(&interrupted, true);
	hub_drive_end(hub);
	pthread_join(thread, NULL);
	close_hub();
}

static void *kick_main(void *unused)
{
	(void)unused;
	usleep(20000);
	hub_kick(hub);
	return NULL;
}

TEST(a_kick_ends_a_wait_also_when_it_comes_first)
{
	pthread_t thread;

	REQUIRE(open_hub(1, 8, NULL));
	hub_drive_begin(hub);
	hub_kick(hub);
	CHECK_EQ(wait_long(), 0);
	CHECK_EQ(hub_wait(hub, now_ns() + 1000000), -ETIMEDOUT);
	REQUIRE(pthread_create(&thread, NULL, kick_main, NULL) == 0);
	CHECK_EQ(wait_long(), 0);
	pthread_join(thread, NULL);
	hub_drive_end(hub);
	close_hub();
}

static void *steal_and_kick(void *unused)
{
	(void)unused;
	usleep(20000);
	/* Like a child that is killed before it calls futex(). */
	store_relaxed(&hub->line->asleep, 0);
	usleep(20000);
	hub_kick(hub);
	return NULL;
}

/* Without `waiting` in struct hub the kick finds no thread asleep, and the wait never ends. */
TEST(a_kick_ends_a_wait_whose_wakeup_died_with_a_child)
{
	pthread_t thread;

	REQUIRE(open_hub(1, 8, NULL));
	if (hub_provider(hub) != DW_PROVIDER_FUTEX) {
		close_hub();
		SKIP("only the kernel writes asleep");
	}
	REQUIRE(pthread_create(&thread, NULL, steal_and_kick, NULL) == 0);
	hub_drive_begin(hub);
	CHECK_EQ(wait_long(), 0);
	hub_drive_end(hub);
	pthread_join(thread, NULL);
	close_hub();
}

static bool polled(int fd)
{
	return unit_polled(fd, BELL_EVENTS);
}

/* Long enough for it to arrive. */
static bool polled_now(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = BELL_EVENTS };

	return poll(&poll_fd, 1, 20) == 1;
}

/* Attaching is an event too, with the module. */
static void forget_changes(void)
{
	struct hub_change change;
	uint32_t i;

	hub_bell_clear(hub, BELL_EVENTS);
	while (hub_next_change(hub, &i, &change))
		;
}

TEST(the_bell_rings_for_a_thread_that_polls)
{
	REQUIRE(open_hub(1, 8, serve_child));
	CHECK(asleep(0));
	forget_changes();
	CHECK(!hub_bell_arm(hub));
	CHECK(!polled_now(hub_bell_fd(hub)));
	post(0, 1);
	hub_wake(hub);
	CHECK(polled(hub_bell_fd(hub)));
	hub_bell_clear(hub, BELL_EVENTS);
	/* Completions are not harvested yet, so they are pending without polling. */
	CHECK(hub_bell_arm(hub));
	CHECK_EQ(harvest_all(), 1);
	CHECK(!hub_bell_arm(hub));
	CHECK(!polled_now(hub_bell_fd(hub)));
	hub_bell_clear(hub, BELL_EVENTS);
	close_hub();
}

/* Writes one byte to `word` whenever poll reports the bell. */
static int poll_child(struct endpoint *endpoint, uint32_t i)
{
	struct frame *frame;
	uint32_t number;

	(void)i;
	for (;;) {
		while ((frame = endpoint_next(endpoint, &number))) {
			atomic_fetch_add(&shared->sum, frame->task);
			endpoint_complete(endpoint, number, 0, NULL, 0, 0);
		}
		if (endpoint_stopping(endpoint))
			return 0;
		if (endpoint_bell_arm(endpoint))
			continue;
		if (!polled(endpoint_bell_fd(endpoint)))
			return 1;
		atomic_fetch_add(&shared->word, 1);
		endpoint_bell_clear(endpoint, BELL_EVENTS);
	}
}

TEST(the_bell_rings_for_a_child_that_polls)
{
	REQUIRE(open_hub(1, 8, poll_child));
	for (int k = 0; k < 5; k++) {
		CHECK(asleep(0));
		post(0, 1);
		drain(1);
	}
	CHECK_EQ(atomic_load(&shared->sum), 5);
	CHECK(asleep(0));
	CHECK_EQ(atomic_load(&shared->word), 5);
	hub_stop(hub, 0);
	CHECK_EQ(end(0), 0);
	close_hub();
}

/* --------------------------------------------------------------- stop, death */

TEST(stop_ends_a_sleeping_child_and_what_is_posted_is_done_first)
{
	struct completion completion;

	REQUIRE(open_hub(2, 8, serve_child));
	CHECK(asleep(0));
	CHECK(asleep(1));
	hub_stop(hub, 0);
	CHECK_EQ(end(0), 0);
	for (uint64_t k = 0; k < 8; k++)
		post(1, 1);
	hub_stop(hub, 1);
	CHECK_EQ(end(1), 0);
	CHECK_EQ(atomic_load(&shared->sum), 8);
	for (int k = 0; k < 8; k++)
		CHECK_EQ(hub_harvest(hub, 1, &completion, NULL), 1);
	close_hub();
}

TEST(stop_races_with_going_to_sleep_and_is_never_slept_through)
{
	/* A poll of the bell once missed it, because the last look was only at `post`. */
	for (int k = 0; k < 400; k++) {
		REQUIRE(open_hub(1, 8, k % 4 < 2 ? serve_child : poll_child));
		if (k % 2)
			post(0, 1);
		hub_wake(hub);
		if (k % 3)
			usleep((useconds_t)(k * 7));
		close_hub();
	}
}

static int hang(struct endpoint *endpoint, uint32_t i)
{
	struct frame *frame;
	uint32_t number;

	(void)i;
	for (;;) {
		while ((frame = endpoint_next(endpoint, &number))) {
			if (frame->task == 666)
				pause();
			endpoint_complete(endpoint, number, -EIO, "before", 0, 0);
		}
		if (endpoint_wait(endpoint))
			return 1;
	}
}

/* With the module: waits for the report of a death. */
static void expect_death(uint32_t i, int32_t pid)
{
	struct hub_change change;
	uint32_t who;

	if (hub_provider(hub) != DW_PROVIDER_KERNEL)
		return;
	hub_drive_begin(hub);
	for (;;) {
		while (hub_next_change(hub, &who, &change)) {
			if (change.state != DISTWORKER_MAILBOX_DEAD)
				continue;
			CHECK_EQ(who, i);
			CHECK_EQ(change.pid, pid);
			CHECK_EQ(change.cause, DISTWORKER_DEATH_EXIT);
			CHECK(WIFSIGNALED(change.status) && WTERMSIG(change.status) == SIGKILL);
			hub_drive_end(hub);
			return;
		}
		if (!CHECK(wait_long() != -ETIMEDOUT))
			return;
	}
}

TEST(a_dead_child_is_replaced_and_nothing_of_it_is_left)
{
	struct completion completion;
	uint32_t number;
	pid_t old;

	REQUIRE(open_hub(2, 8, hang));
	post(0, 1);
	post(0, 666);
	post(0, 2);
	hub_wake(hub);
	while (!hub_started(hub, 0, 1))
		usleep(1000);
	CHECK_EQ(hub_harvest(hub, 0, &completion, NULL), 1);
	CHECK_EQ(completion.state, COMPLETION_FAILED);
	CHECK_EQ(hub_fail_epoch(hub, 0), 1);
	old = pids[0];
	kill(old, SIGKILL);
	waitpid(old, NULL, 0);
	expect_death(0, old);
	/* The frame that was not started is moved. */
	CHECK(!hub_started(hub, 0, 2));
	CHECK(hub_revoke(hub, 0, 2));
	CHECK_EQ(hub_rearm(hub, 0), 0);
	CHECK_EQ(hub_outstanding(hub, 0), 0);
	CHECK_EQ(hub_fail_epoch(hub, 0), 0);
	CHECK_EQ(hub_harvest(hub, 0, &completion, NULL), 0);
	pids[0] = start(0, serve_child);
	CHECK(hub_acquire(hub, 0, 0, &number) != NULL);
	CHECK_EQ(number, 0);
	if (hub_publish(hub, 0))
		hub_mark_wake(hub, 0);
	drain(1);
	kill(pids[1], SIGKILL);
	end(1);
	close_hub();
}

TEST(children_of_a_dead_parent_see_it_with_the_module)
{
	uint64_t start_ns;
	int status;
	pid_t pid;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	REQUIRE(shared != MAP_FAILED);
	pid = fork();
	if (pid == 0) {
		struct hub_options options = { .mailboxes = 1, .depth = 8, .frame_bytes = 128 };
		struct endpoint *endpoint;
		pid_t child;

		if (hub_create(&options, &hub))
			_exit(1);
		if (hub_provider(hub) != DW_PROVIDER_KERNEL)
			_exit(77);
		child = fork();
		if (child == 0) {
			while (!atomic_load(&shared->go[0]))
				usleep(100);
			if (endpoint_attach(hub, 0, &endpoint))
				_exit(1);
			atomic_store(&shared->word, 1);
			if (endpoint_wait(endpoint) == -EOWNERDEAD)
				atomic_store(&shared->word, 2);
			_exit(0);
		}
		if (hub_bind(hub, 0, child))
			_exit(1);
		atomic_store(&shared->go[0], 1);
		while (!hub_peer_asleep(hub, 0))
			usleep(1000);
		raise(SIGKILL);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		munmap(shared, sizeof(*shared));
		SKIP("without the module the spawner ends the children");
	}
	CHECK(WIFSIGNALED(status));
	start_ns = now_ns();
	while (atomic_load(&shared->word) != 2 && unit_within(start_ns, HANG_NS))
		usleep(1000);
	CHECK_EQ(atomic_load(&shared->word), 2);
	munmap(shared, sizeof(*shared));
}

/* ------------------------------------------------------------------- no calls */

#define PIPELINE_FRAMES 200000

/* Counts the wake-ups of a parent that never waits, and whose child always finds frames. */
static uint64_t wakes_of_a_pipeline(void)
{
	struct hub_counters before, after;
	uint64_t posted = 0, done = 0;

	if (!open_hub(1, 64, serve_child))
		return UINT64_MAX;
	CHECK(asleep(0));
	post(0, 1);
	drain(1);
	hub_counters(hub, &before);
	hub_drive_begin(hub);
	while (done < PIPELINE_FRAMES) {
		while (posted < PIPELINE_FRAMES && posted - done < 64) {
			post(0, 1);
			posted++;
		}
		hub_wake(hub);
		done += harvest_all();
	}
	hub_drive_end(hub);
	hub_counters(hub, &after);
	CHECK_EQ(after.sleeps, before.sleeps);
	close_hub();
	return after.wakes - before.wakes;
}

/*
 * A pipeline whose ring never runs dry and whose parent never waits makes no call at all. A parent
 * that is preempted lets it run dry: few calls, not none. Where the two have no CPU each the test
 * tries again.
 */
TEST(a_busy_pipeline_wakes_nobody)
{
	uint64_t wakes = UINT64_MAX;

	if (spin_cpus() < 2)
		SKIP("one CPU");
	for (int i = 0; i < 8 && wakes >= PIPELINE_FRAMES / 10; i++) {
		wakes = wakes_of_a_pipeline();
		printf("# %llu wake-ups for %d frames\n", (unsigned long long)wakes,
		       PIPELINE_FRAMES);
	}
	CHECK(wakes < PIPELINE_FRAMES / 10);
}
