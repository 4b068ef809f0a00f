// SPDX-License-Identifier: GPL-2.0-only
/*
 * Limits by module parameters, accounting to the memory cgroup, and callers
 * without privilege. The parameters are changed for a moment and put back.
 */
#include <grp.h>
#include <limits.h>
#include "distworker_test.h"

#define NOBODY 54321	/* a user that no process of the system has */

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

static bool read_text(const char *path, char *text, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, bytes - 1);

	if (fd >= 0)
		close(fd);
	if (got < 0)
		return false;
	text[got] = 0;
	text[strcspn(text, "\n")] = 0;
	return true;
}

/* A node of the device that everybody may open; the system's own stays as it is. */
FIXTURE(limits)
{
	char folder[32];
	char node[64];
	char names[4][32];
	char values[4][32];
	int saved;
};

FIXTURE_SETUP(limits)
{
	char text[32];
	unsigned int major, minor;

	if (geteuid())
		SKIP(return, "limits: needs root");
	if (access(PARAMETERS, F_OK))
		SKIP(return, "limits: distworker is no module here");
	ASSERT_TRUE(read_text("/sys/class/misc/distworker/dev", text, sizeof(text)));
	ASSERT_EQ(2, sscanf(text, "%u:%u", &major, &minor));
	strcpy(self->folder, "/dev/shm/distworker.XXXXXX");
	if (!mkdtemp(self->folder)) {
		strcpy(self->folder, "/tmp/distworker.XXXXXX");
		ASSERT_TRUE(mkdtemp(self->folder) != NULL);
	}
	ASSERT_EQ(0, chmod(self->folder, 0755));
	snprintf(self->node, sizeof(self->node), "%s/node", self->folder);
	ASSERT_EQ(0, mknod(self->node, S_IFCHR | 0666, makedev(major, minor)));
	ASSERT_EQ(0, chmod(self->node, 0666));
	errno = 0;
	if (open(self->node, O_RDWR) < 0) {
		/* A tmpfs of the system may refuse device nodes. */
		unlink(self->node);
		rmdir(self->folder);
		strcpy(self->folder, "/dev/distworker.test.XXXXXX");
		ASSERT_TRUE(mkdtemp(self->folder) != NULL);
		ASSERT_EQ(0, chmod(self->folder, 0755));
		snprintf(self->node, sizeof(self->node), "%s/node", self->folder);
		ASSERT_EQ(0, mknod(self->node, S_IFCHR | 0666, makedev(major, minor)));
		ASSERT_EQ(0, chmod(self->node, 0666));
	}
}

FIXTURE_TEARDOWN(limits)
{
	char path[128];

	while (self->saved-- > 0) {
		snprintf(path, sizeof(path), PARAMETERS "%s", self->names[self->saved]);
		EXPECT_TRUE(write_text(path, self->values[self->saved]));
	}
	unlink(self->node);
	rmdir(self->folder);
}

static bool set_parameter(struct _test_data_limits *self, const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	strcpy(self->names[self->saved], name);
	if (!read_text(path, self->values[self->saved], sizeof(self->values[0])))
		return false;
	self->saved++;
	return write_text(path, value);
}

static void become_nobody(void)
{
	CHECK_EQ(0, setgroups(0, NULL));
	CHECK_EQ(0, setresgid(NOBODY, NOBODY, NOBODY));
	CHECK_EQ(0, setresuid(NOBODY, NOBODY, NOBODY));
}

static int hub_on(const char *node, __u32 mailboxes, __u32 bytes)
{
	struct distworker_hub_setup setup;
	int fd = open(node, O_RDWR | O_CLOEXEC), ret;

	CHECK(fd >= 0);
	ret = dw_setup(fd, mailboxes, bytes, &setup);
	if (ret)
		close(fd);
	return ret ? ret : fd;
}

TEST_F(limits, mailboxes_and_bytes_per_mailbox_follow_the_parameters_and_query_tells_them)
{
	struct distworker_query query;
	int fd = device_open();

	ASSERT_TRUE(set_parameter(self, "max_mailboxes", "7"));
	ASSERT_TRUE(set_parameter(self, "max_mailbox_bytes", "8192"));
	ASSERT_EQ(0, dw_query(fd, &query));
	EXPECT_EQ(7, query.max_mailboxes);
	EXPECT_EQ(8192, query.max_mailbox_bytes);
	EXPECT_EQ(-EINVAL, hub_on(self->node, 8, BOX_BYTES));
	EXPECT_EQ(-EINVAL, hub_on(self->node, 7, 8193));
	EXPECT_LE(0, hub_on(self->node, 7, 8192));
}

TEST_F(limits, parameters_beyond_what_the_code_can_do_are_cut)
{
	struct distworker_query query;
	int fd = device_open();

	ASSERT_TRUE(set_parameter(self, "max_mailboxes", "4294967295"));
	ASSERT_TRUE(set_parameter(self, "max_mailbox_bytes", "4294967295"));
	ASSERT_EQ(0, dw_query(fd, &query));
	EXPECT_EQ(1024, query.max_mailboxes);
	EXPECT_GE(DISTWORKER_HUB_LINE_OFFSET, query.max_mailbox_bytes);
	EXPECT_EQ(-EINVAL, hub_on(self->node, 1025, BOX_BYTES));
	EXPECT_EQ(-EINVAL, hub_on(self->node, 1, ~0u));
	/* More than there is: refused, and no process is killed for it. */
	EXPECT_GT(0, hub_on(self->node, 1024, query.max_mailbox_bytes));
}

/* ---------------------------------------------------------------- spinning */

/* A counter of the owner's side. */
static long long hub_counter(struct hub *hub, const char *key)
{
	char path[64], text[4096], *at;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", hub->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	memset(text, 0, sizeof(text));
	CHECK(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	at = strstr(text, "hub:");
	at = at ? strstr(at, key) : NULL;
	CHECK(at);
	return strtoll(at + strlen(key), NULL, 10);
}

TEST_F(limits, no_wait_spins_if_the_longest_spin_is_0)
{
	struct peer peer;
	struct hub hub;

	ASSERT_TRUE(set_parameter(self, "spin_max_ns", "0"));
	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_runs_until_stopped, NULL));
	ASSERT_TRUE(sync_receive(peer.sync));
	hub_drain_state(&hub);
	for (int i = 0; i < 20; i++) {
		struct hub_wait wait = { .watch = 1, .deadline = now_ns() + NSEC_PER_MSEC };

		ASSERT_EQ(-ETIMEDOUT, dw_hub_wait(hub.fd, &wait));
	}
	EXPECT_EQ(0, hub_counter(&hub, "spins_won:") + hub_counter(&hub, "spins_lost:"));
	store(hub_mailbox(&hub, 0)->stop, 1);
	EXPECT_EQ(0, peer_join(&peer));
}

static bool run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

/* Never sleeps; answers each post after the time that it is given. */
static void peer_answers_later(struct endpoint *endpoint)
{
	__u64 later = *(__u64 *)endpoint->argument, answer;
	__u32 seen = 0;

	CHECK(run_on(1));
	CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
	CHECK(sync_send(endpoint->sync));
	while (!load(endpoint->box->stop)) {
		if (load(endpoint->box->post) == seen)
			continue;
		seen++;
		answer = now_ns() + later;
		while (now_ns() < answer)
			;
		CHECK_EQ(0, endpoint_complete(endpoint));
	}
}

/* The best time of a call here: a slower one is the machine's fault. */
static __u64 look_ns(struct hub *hub)
{
	__u64 best = NSEC_PER_SEC;

	for (int i = 0; i < 200; i++) {
		struct hub_wait wait = { .watch = 1 };
		__u64 start = now_ns();

		dw_hub_wait(hub->fd, &wait);
		start = now_ns() - start;
		best = start < best ? start : best;
	}
	return best;
}

/* Longer than the first spin of a side: the budget must have grown. */
TEST_F(limits, most_waits_for_answers_that_come_soon_are_spun_away)
{
	const int rounds = 1000;
	__u64 later, end = now_ns() + HUNT_NS;
	int round;
	struct peer peer;
	struct hub hub;

	if (sysconf(_SC_NPROCESSORS_ONLN) == 1)
		SKIP(return, "limits: spinning takes two CPUs");
	/* More than a slow machine takes to wake somebody: the budget grows again after that. */
	ASSERT_TRUE(set_parameter(self, "spin_max_ns", "100000000"));
	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	/* It answers when the wait has begun. */
	later = look_ns(&hub) + 20000;
	ASSERT_EQ(0, peer_start(&peer, &hub, 0, peer_answers_later, &later));
	ASSERT_TRUE(sync_receive(peer.sync));
	ASSERT_TRUE(run_on(0));
	hub_drain_state(&hub);
	for (round = 1; round <= rounds && now_ns() < end; round++) {
		struct hub_wait wait = { .watch = 1, .deadline = soon() };

		ASSERT_LE(0, hub_post(&hub, 0));
		ASSERT_EQ(0, dw_hub_wait(hub.fd, &wait));
		store(hub.state->seen[0], round);
	}
	EXPECT_LT(round / 4, hub_counter(&hub, "spins_won:"));
	EXPECT_GT(round / 2, hub_counter(&hub, "sleeps:"));
	store(hub_mailbox(&hub, 0)->stop, 1);
	EXPECT_EQ(0, peer_join(&peer));
}

/* ---------------------------------------------------------------- without privilege */

TEST_F(limits, unprivileged_owner_and_peer_can_do_all_that_root_can)
{
	ASSERT_EQ(0, IN_CHILD({
		struct hub hub = { .mailboxes = 1 };
		struct hub_wait wait;
		struct peer peer;

		become_nobody();
		/* As for a program that began as nobody: its files in /proc are its own. */
		CHECK_EQ(0, prctl(PR_SET_DUMPABLE, 1));
		hub.fd = open(self->node, O_RDWR | O_CLOEXEC);
		CHECK(hub.fd >= 0);
		CHECK_EQ(0, dw_setup(hub.fd, 1, BOX_BYTES, &hub.setup));
		hub.map = mmap(NULL, hub.setup.mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			       hub.fd, 0);
		CHECK(hub.map != MAP_FAILED);
		hub.line = (void *)hub.map;
		hub.state = (void *)(hub.map + hub.setup.state_offset);
		CHECK_EQ(0, peer_start(&peer, &hub, 0, peer_waits_for_post, NULL));
		CHECK(WAIT_UNTIL(peer_sleeps(&hub, 0, peer.pid)));
		hub_drain_state(&hub);
		CHECK_EQ(1, hub_post(&hub, 0));
		wait = (struct hub_wait){ .deadline = soon() };
		CHECK_EQ(0, dw_hub_wait(hub.fd, &wait));
		CHECK_EQ(1, wait.state);
		CHECK_EQ(getpid(), hub_counter(&hub, "owner:"));
		CHECK_EQ(0, peer_join(&peer));
		CHECK_EQ(0, dw_rearm(hub.fd, 0, NULL));
	}));
}

TEST_F(limits, the_systems_node_is_closed_to_strangers)
{
	ASSERT_EQ(0, IN_CHILD({
		become_nobody();
		CHECK(open(DEVICE, O_RDWR) < 0);
		CHECK_EQ(EACCES, errno);
	}));
}

/* ---------------------------------------------------------------- memory cgroup */

static long memory_current(const char *group)
{
	char path[256], text[64];

	snprintf(path, sizeof(path), "%s/memory.current", group);
	return read_text(path, text, sizeof(text)) ? atol(text) : -1;
}

/* Pages that are charged to a group could not be mapped on 5.10. */
static void touch_hub_and_mailbox(int fd)
{
	const size_t page = getpagesize();
	int endpoint = dw_create(fd, 0);
	char *line, *box, *seen;

	CHECK_EQ(0, dw_bind(fd, 0, getpid(), NULL));
	CHECK_EQ(0, dw_attach(endpoint, NULL));
	line = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(line != MAP_FAILED);
	box = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint, 0);
	CHECK(box != MAP_FAILED);
	seen = mmap(NULL, page, PROT_READ, MAP_SHARED, endpoint, DISTWORKER_HUB_LINE_OFFSET);
	CHECK(seen != MAP_FAILED);
	((struct distworker_hub_line *)line)->driving = 5;
	CHECK_EQ(5, ((struct distworker_hub_line *)seen)->driving);
	((struct distworker_mailbox *)box)->done = 6;
	munmap(line, page);
	munmap(box, page);
	munmap(seen, page);
	close(endpoint);
}

static void hold_memory(long bytes, int *ready)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	CHECK(memory != MAP_FAILED);
	memset(memory, 1, bytes);
	store(*ready, 1);
	for (;;)
		pause();
}

/* A set-up beyond the limit had the group's largest process killed, which was not its owner. */
TEST_F(limits, memory_is_accounted_to_the_callers_cgroup_and_nobody_is_killed_at_its_limit)
{
	static const char group[] = "/sys/fs/cgroup/distworker-selftest";
	const long bytes = 8 << 20;
	int *ready = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			  -1, 0);
	char path[256];
	int status;

	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) ||
	    (mkdir(group, 0755) && errno != EEXIST))
		SKIP(return, "limits: no cgroup2");
	snprintf(path, sizeof(path), "%s/memory.max", group);
	if (access(path, F_OK)) {
		rmdir(group);
		SKIP(return, "limits: no memory controller in cgroup2");
	}
	EXPECT_TRUE(write_text(path, "100663296"));
	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	status = IN_CHILD({
		long before, with, after;
		pid_t bystander;
		int fd;

		CHECK(write_text(path, "0"));
		bystander = fork();
		if (bystander == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			hold_memory(4 * bytes, ready);
		}
		CHECK(WAIT_UNTIL(load(*ready)));
		before = memory_current(group);
		fd = hub_on(self->node, 8, bytes / 8);
		CHECK(fd >= 0);
		touch_hub_and_mailbox(fd);
		with = memory_current(group);
		CHECK(with >= before + bytes * 9 / 10);
		close(fd);
		CHECK(WAIT_UNTIL(memory_current(group) < with - bytes * 9 / 10));
		after = memory_current(group);
		CHECK(after < before + bytes / 2);
		/* More than the group may have. */
		CHECK_EQ(-ENOMEM, hub_on(self->node, 16, bytes));
		CHECK_EQ(0, waitpid(bystander, NULL, WNOHANG));
		kill(bystander, SIGKILL);
		CHECK_EQ(bystander, waitpid(bystander, NULL, 0));
	});
	EXPECT_EQ(0, status);
	EXPECT_TRUE(WAIT_UNTIL(rmdir(group) == 0));
}

TEST_HARNESS_MAIN
