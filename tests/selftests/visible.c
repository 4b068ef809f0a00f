// SPDX-License-Identifier: GPL-2.0-only
/*
 * Observation: fdinfo of hubs and endpoints, their counters, and tracepoints.
 */
#include "distworker_test.h"

static char text[65536];

static bool read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got;

	if (fd < 0)
		return false;
	while ((got = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += got;
	close(fd);
	text[length] = 0;
	return true;
}

static bool read_fdinfo(pid_t pid, int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	return read_file(path);
}

/* The value of "key:value" in the line that begins with `line`; NULL if there is none. */
static const char *field(const char *line, const char *key)
{
	static char value[64];
	char pattern[64];
	const char *start = text, *found, *end;

	while (strncmp(start, line, strlen(line))) {
		start = strchr(start, '\n');
		if (!start)
			return NULL;
		start++;
	}
	end = strchrnul(start, '\n');
	snprintf(pattern, sizeof(pattern), "%s:", key);
	for (found = start; found && found < end; found++) {
		found = strstr(found, pattern);
		if (!found || found >= end)
			return NULL;
		if (found == start || found[-1] == ' ' || found[-1] == '\t')
			break;
	}
	if (!found || found >= end)
		return NULL;
	found += strlen(pattern);
	snprintf(value, sizeof(value), "%.*s", (int)strcspn(found, " \n"), found);
	return value;
}

static long long number(const char *line, const char *key)
{
	const char *value = field(line, key);

	return value ? strtoll(value, NULL, 0) : -1;
}

TEST(fdinfo_of_a_hub_tells_owner_size_peers_and_words)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 3, 2 * BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 1, peer_idles, NULL));
	hub_mailbox(&hub, 1)->post = 17;
	hub_mailbox(&hub, 1)->done = 16;
	hub.state->kick = 3;
	ASSERT_TRUE(read_fdinfo(getpid(), hub.fd));
	EXPECT_EQ(getpid(), number("hub:", "owner"));
	EXPECT_STREQ("owned", field("hub:", "state"));
	EXPECT_EQ(3, number("hub:", "mailboxes"));
	EXPECT_EQ(2 * BOX_BYTES, number("hub:", "mailbox_bytes"));
	EXPECT_EQ(hub.setup.mapping_bytes, number("hub:", "bytes"));
	EXPECT_EQ(3, number("hub:", "kick"));
	EXPECT_STREQ("free", field("mailbox:0", "state"));
	EXPECT_STREQ("attached", field("mailbox:1", "state"));
	EXPECT_EQ(peer.pid, number("mailbox:1", "pid"));
	EXPECT_EQ(17, number("mailbox:1", "post"));
	EXPECT_EQ(16, number("mailbox:1", "done"));
	EXPECT_STREQ("free", field("mailbox:2", "state"));
	EXPECT_EQ(SIGKILL, peer_kill(&peer));
	ASSERT_TRUE(read_fdinfo(getpid(), hub.fd));
	EXPECT_STREQ("dead", field("mailbox:1", "state"));
	EXPECT_STREQ("exit", field("mailbox:1", "cause"));
	EXPECT_EQ(SIGKILL, number("mailbox:1", "status"));
}

TEST(fdinfo_of_a_device_that_is_no_hub_yet_tells_nothing_and_does_no_harm)
{
	int fd = device_open();

	ASSERT_TRUE(read_fdinfo(getpid(), fd));
	EXPECT_TRUE(strstr(text, "hub:") == NULL);
}

static void peer_waits_three_times(struct endpoint *endpoint)
{
	for (__u32 seen = 0; seen < 3; seen++)
		CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, DISTWORKER_WAIT_NOSPIN, seen, soon(),
					     NULL));
	CHECK(sync_send(endpoint->sync));
	sync_receive(endpoint->sync);
}

TEST(counters_count_wakes_and_sleeps_and_agree_everywhere)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;
	int endpoint;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	endpoint = dw_create(hub.fd, 0);
	ASSERT_EQ(0, peer_start_on(&peer, &hub, 0, dup(endpoint), peer_waits_three_times, NULL));
	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
		ASSERT_TRUE(read_fdinfo(peer.pid, endpoint));
		EXPECT_NE(0, number("mailbox:0", "asleep"));
		EXPECT_EQ(peer.pid, number("mailbox:0", "tid"));
		ASSERT_EQ(1, hub_post(&hub, 0));
	}
	ASSERT_TRUE(sync_receive(peer.sync));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(3, query.wakes);
	EXPECT_EQ(3, query.sleeps);
	EXPECT_EQ(0, query.spins_won);
	EXPECT_EQ(0, query.spins_lost);
	/* Through the owner's copy of the endpoint, the peer's, and the hub. */
	for (int i = 0; i < 3; i++) {
		ASSERT_TRUE(read_fdinfo(i == 1 ? peer.pid : getpid(), i == 2 ? hub.fd : endpoint));
		EXPECT_EQ(3, number("mailbox:0", "wakes"));
		EXPECT_EQ(3, number("mailbox:0", "sleeps"));
		EXPECT_EQ(0, number("mailbox:0", "spins_won"));
		EXPECT_EQ(0, number("mailbox:0", "spins_lost"));
		EXPECT_EQ(0, number("mailbox:0", "asleep"));
		EXPECT_EQ(3, number("mailbox:0", "post"));
	}
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(wakes_for_nobody_are_not_counted)
{
	struct distworker_mailbox_query query;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_idles, NULL));
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(0, dw_wake(hub.fd, 0, 1));
	ASSERT_EQ(0, dw_mailbox(hub.fd, 0, &query));
	EXPECT_EQ(0, query.wakes);
	EXPECT_EQ(0, query.sleeps);
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- spinning */

static long long hub_spins(struct hub *hub)
{
	return read_fdinfo(getpid(), hub->fd) ?
	       number("hub:", "spins_won") + number("hub:", "spins_lost") : -1;
}

TEST(a_wait_never_spins_for_a_peer_that_sleeps)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_waits_for_post, NULL));
	hub_drain_state(&hub);
	ASSERT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
	for (int i = 0; i < 20; i++) {
		struct hub_wait wait = { .watch = 1, .deadline = now_ns() + NSEC_PER_MSEC };

		ASSERT_EQ(-ETIMEDOUT, dw_hub_wait(hub.fd, &wait));
	}
	EXPECT_EQ(0, hub_spins(&hub));
	EXPECT_EQ(1, hub_post(&hub, 0));
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(a_wait_never_spins_on_one_cpu_nor_when_asked_not_to)
{
	bool one_cpu = sysconf(_SC_NPROCESSORS_ONLN) == 1;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_runs_until_stopped, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	hub_drain_state(&hub);
	for (int i = 0; i < 20; i++) {
		struct hub_wait wait = { .flags = one_cpu ? 0 : DISTWORKER_WAIT_NOSPIN, .watch = 1,
					 .deadline = now_ns() + NSEC_PER_MSEC };

		ASSERT_EQ(-ETIMEDOUT, dw_hub_wait(hub.fd, &wait));
	}
	EXPECT_EQ(0, hub_spins(&hub));
	store(hub_mailbox(&hub, 0)->stop, 1);
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(a_wait_spins_for_a_peer_that_runs_on_another_cpu_and_soon_gives_it_up)
{
	struct distworker_query query;
	long long spins;
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, dw_query(hub.fd, &query));
	if (sysconf(_SC_NPROCESSORS_ONLN) == 1 ||
	    !(query.features & DISTWORKER_FEATURE_ADAPTIVE_SPIN))
		SKIP(return, "visible: spinning takes two CPUs");
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_runs_until_stopped, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	hub_drain_state(&hub);
	/*
	 * In vain: that is counted. Once a wait has begun: on a machine where a CPU of the guest
	 * is away for a millisecond, a nearer deadline was over before each of them.
	 */
	EXPECT_TRUE(WAIT_UNTIL(({
		struct hub_wait wait = {
			.watch = 1, .deadline = now_ns() + 100 * NSEC_PER_MSEC,
		};

		dw_hub_wait(hub.fd, &wait);
		hub_spins(&hub) > 0;
	})));
	spins = hub_spins(&hub);
	for (int i = 0; i < 50; i++) {
		struct hub_wait wait = { .watch = 1, .deadline = now_ns() + 20 * NSEC_PER_MSEC };

		dw_hub_wait(hub.fd, &wait);
	}
	/* None; but if the deadline was near when the wait began, there is a new attempt. */
	EXPECT_GT(spins + 5, hub_spins(&hub));
	store(hub_mailbox(&hub, 0)->stop, 1);
	EXPECT_EQ(0, peer_join(&peer));
}

TEST(a_wait_that_finds_news_has_not_spun)
{
	struct peer peer;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_runs_until_stopped, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	hub_drain_state(&hub);
	store(hub_mailbox(&hub, 0)->done, 1);
	for (int i = 0; i < 20; i++) {
		struct hub_wait wait = { .watch = 1, .deadline = soon() };

		ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
	}
	EXPECT_EQ(0, hub_spins(&hub));
	store(hub_mailbox(&hub, 0)->stop, 1);
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- elsewhere */

TEST(fdinfo_is_readable_while_the_hub_is_in_full_use)
{
	struct waiter waiter;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 64, BOX_BYTES));
	ASSERT_TRUE(waiter_start(&waiter, &hub, ~0ULL));
	for (int i = 0; i < 100; i++)
		ASSERT_TRUE(read_fdinfo(getpid(), hub.fd));
	EXPECT_EQ(DISTWORKER_ASLEEP_WAITER, number("hub:", "asleep"));
	EXPECT_EQ(waiter.tid, number("hub:", "tid"));
	store(hub.state->kick, 1);
	dw_wake(hub.fd, DISTWORKER_WAKE_SELF, 0);
	EXPECT_EQ(0, waiter_join(&waiter));
}

TEST(tracepoints_are_there)
{
	static const char *const names[] = { "wake", "wait_begin", "wait_end", "attach", "death" };
	char path[128];

	if (access("/sys/kernel/tracing/events", R_OK))
		SKIP(return, "visible: no tracefs");
	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path),
			 "/sys/kernel/tracing/events/distworker/distworker_%s/format", names[i]);
		EXPECT_EQ(0, access(path, R_OK)) {
			TH_LOG("no %s", path);
		}
	}
}

#define TRACING "/sys/kernel/tracing/"

static bool write_file(const char *path, const char *word)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, word, strlen(word)) == (ssize_t)strlen(word);

	if (fd >= 0)
		close(fd);
	return done;
}

/* Is there a line of the event that contains all of this text? */
static bool traced(const char *event, const char *format, ...)
{
	char wanted[160];
	va_list values;
	int length;

	length = snprintf(wanted, sizeof(wanted), " distworker_%s: ", event);
	va_start(values, format);
	vsnprintf(wanted + length, sizeof(wanted) - length, format, values);
	va_end(values);
	if (strstr(text, wanted))
		return true;
	fprintf(stderr, "# no '%s' in the trace\n", wanted);
	return false;
}

TEST(tracepoints_tell_hub_index_and_what_happened)
{
	static const char events[] = TRACING "events/distworker/enable";
	__u64 deadline = soon();
	struct hub_wait wait = { .watch = 4, .deadline = deadline, .kick_seen = 0 };
	struct peer peer;
	struct hub hub;
	int id;

	if (access(events, W_OK))
		SKIP(return, "visible: no tracefs that this user may write to");
	ASSERT_TRUE(write_file(TRACING "trace", ""));
	ASSERT_TRUE(write_file(TRACING "tracing_on", "1"));
	ASSERT_TRUE(write_file(events, "1"));
	ASSERT_EQ(0, hub_open(&hub, 3, BOX_BYTES));
	EXPECT_EQ(0, peer_start(&peer, &hub, 2, peer_waits_for_post, NULL));
	EXPECT_TRUE(WAIT_UNTIL(peer_sleeps(&hub, 2, peer.pid)));
	hub_drain_state(&hub);
	EXPECT_EQ(1, hub_post(&hub, 2));
	/* Its wait is over, and it leaves. */
	EXPECT_EQ(0, dw_hub_wait(hub.fd, &wait));
	EXPECT_EQ(0, peer_join(&peer));
	ASSERT_TRUE(read_fdinfo(getpid(), hub.fd));
	id = number("hub:", "hub");
	hub_close(&hub);
	ASSERT_TRUE(write_file(events, "0"));
	ASSERT_TRUE(read_file(TRACING "trace"));
	EXPECT_TRUE(traced("attach", "hub=%d index=2 pid=%d generation=1\n", id, peer.pid));
	EXPECT_TRUE(traced("wait_begin", "hub=%d index=2 seen=0 deadline=", id));
	EXPECT_TRUE(traced("wake", "hub=%d index=2\n", id));
	EXPECT_TRUE(traced("wait_end", "hub=%d index=2 ret=1 events=0x8\n", id));
	EXPECT_TRUE(traced("wait_begin", "hub=%d index=-1 seen=0 deadline=%llu\n", id,
			   (unsigned long long)deadline));
	EXPECT_TRUE(traced("death", "hub=%d index=2 pid=%d cause=1 status=0x0\n", id, peer.pid));
	EXPECT_TRUE(traced("wait_end", "hub=%d index=-1 ret=1 events=0x2\n", id));
	/* The hub was closed by a living owner. */
	EXPECT_TRUE(traced("death", "hub=%d index=-1 pid=%d cause=0 status=0x0\n", id, getpid()));
	EXPECT_TRUE(write_file(TRACING "trace", ""));
}

static void owner_sets_up_what_was_opened_for_it(int fd)
{
	struct hub_wait wait = { .deadline = 1 };
	struct distworker_hub_setup setup;

	CHECK_EQ(0, dw_setup(fd, 1, BOX_BYTES, &setup));
	CHECK_EQ(-ETIMEDOUT, dw_hub_wait(fd, &wait));
	CHECK(read_fdinfo(getpid(), fd));
	CHECK_EQ(getpid(), number("hub:", "tid"));
	_exit(0);
}

/* The hub kept the thread of its dead owner until the last endpoint was closed. */
TEST(an_orphaned_hub_has_forgotten_the_thread_of_its_owner)
{
	int fd = device_open(), status;
	siginfo_t info;
	pid_t owner;

	owner = fork();
	if (owner == 0)
		owner_sets_up_what_was_opened_for_it(fd);
	/* Not reaped: it has its number still. */
	ASSERT_EQ(0, waitid(P_PID, owner, &info, WEXITED | WNOWAIT));
	ASSERT_EQ(0, info.si_status);
	ASSERT_TRUE(read_fdinfo(getpid(), fd));
	EXPECT_EQ(owner, number("hub:", "owner"));
	EXPECT_STREQ("orphaned", field("hub:", "state"));
	EXPECT_EQ(0, number("hub:", "tid"));
	EXPECT_EQ(owner, waitpid(owner, &status, 0));
}

TEST_HARNESS_MAIN
