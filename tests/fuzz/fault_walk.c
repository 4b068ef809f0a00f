// SPDX-License-Identifier: GPL-2.0-only
/*
 * fault_walk: lets each allocation and each copy of every call fail, one after the other.
 *
 *	fault_walk [distworker.ko]
 *
 * A walk has a call under test, and a state that is built anew before it. The call runs with
 * /proc/self/fail-nth = 1, 2, 3, ... until it ends without having met a fault. Each time it met
 * one, it has either failed with an error that says so (ENOMEM, EFAULT, EAGAIN), or it has coped
 * and done its work; then the same call without a fault must work, and so must a round trip through
 * the whole hub. tests/vm/run looks for leaks afterwards, by kmemleak and
 * by unloading the module. With a module's file, loading it is walked too (it must not be
 * loaded).
 *
 * Every walk is a process of its own: the module allocates on an address space's first call. TAP on
 * stdout.
 */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/distworker.h>

#include "faults.h"

#define MAILBOXES	3u
#define BYTES		(2 * (unsigned int)getpagesize())
#define MAX_FAULTS	5000u

/* In one process, the hub's owner and its peer: a process may be bound to its own mailbox. */
struct state {
	int device;
	int endpoint;
	int epoll;
	void *map;
	void *line;
	size_t map_bytes;
	struct distworker_hub_setup setup;
	const char *module;
	unsigned int fault;	/* the number of the fault of this step */
	int faults;		/* this thread's, armed during the call */
	int met;		/* by a child, or -1: by this thread */
};

static int result(long ret)
{
	return ret < 0 ? -errno : 0;
}

/* ---- calls: 0 or -errno; each can be repeated if it has failed */

static int call_open(struct state *s)
{
	s->device = open("/dev/distworker", O_RDWR | O_CLOEXEC);
	return result(s->device);
}

static int call_query(struct state *s)
{
	struct distworker_query query = { .size = sizeof(query) };

	return result(ioctl(s->device, DISTWORKER_QUERY, &query));
}

static int call_setup(struct state *s)
{
	s->setup = (struct distworker_hub_setup){
		.size = sizeof(s->setup), .mailboxes = MAILBOXES, .mailbox_bytes = BYTES,
	};
	return result(ioctl(s->device, DISTWORKER_HUB_SETUP, &s->setup));
}

static int call_setup_large(struct state *s)
{
	s->setup = (struct distworker_hub_setup){
		.size = sizeof(s->setup), .mailboxes = 1024,
		.mailbox_bytes = sizeof(struct distworker_mailbox),
	};
	return result(ioctl(s->device, DISTWORKER_HUB_SETUP, &s->setup));
}

static int call_map_hub(struct state *s)
{
	s->map_bytes = s->setup.mapping_bytes;
	s->map = mmap(NULL, s->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->device, 0);
	if (s->map == MAP_FAILED) {
		s->map = NULL;
		return -errno;
	}
	return 0;
}

static int call_create(struct state *s)
{
	struct distworker_mailbox_create create = { .size = sizeof(create), .index = 1, .fd = -1 };
	int ret = result(ioctl(s->device, DISTWORKER_MAILBOX_CREATE, &create));

	s->endpoint = create.fd;
	return ret;
}

static int call_bind(struct state *s)
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind), .index = 1, .pid = getpid() };

	return result(ioctl(s->device, DISTWORKER_MAILBOX_BIND, &bind));
}

static int call_rearm(struct state *s)
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind), .index = 2 };

	return result(ioctl(s->device, DISTWORKER_MAILBOX_REARM, &bind));
}

static int call_mailbox_query(struct state *s)
{
	struct distworker_mailbox_query query = { .size = sizeof(query), .index = 1 };

	return result(ioctl(s->device, DISTWORKER_MAILBOX_QUERY, &query));
}

static int call_attach(struct state *s)
{
	struct distworker_endpoint_attach attach = { .size = sizeof(attach) };

	return result(ioctl(s->endpoint, DISTWORKER_ENDPOINT_ATTACH, &attach));
}

static int call_map_mailbox(struct state *s)
{
	s->map_bytes = BYTES;
	s->map = mmap(NULL, s->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->endpoint, 0);
	if (s->map == MAP_FAILED) {
		s->map = NULL;
		return -errno;
	}
	return 0;
}

static int call_map_line(struct state *s)
{
	s->line = mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED, s->endpoint,
		       DISTWORKER_HUB_LINE_OFFSET);
	if (s->line == MAP_FAILED) {
		s->line = NULL;
		return -errno;
	}
	return 0;
}

static int call_split(struct state *s)
{
	return result(mprotect(s->map, getpagesize(), PROT_READ));
}

static int call_hub_wake(struct state *s)
{
	__u64 mask = 7;
	struct distworker_hub_wake wake = {
		.size = sizeof(wake),
		.flags = DISTWORKER_WAKE_SELF,
		.wake_mask = (uintptr_t)&mask,
		.mask_words = 1,
	};

	return result(ioctl(s->device, DISTWORKER_HUB_WAKE, &wake));
}

static __u64 in_ms(unsigned int ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec + ms * 1000000ull;
}

/* Sleeps, and takes the report of the peer that has attached if there is one. */
static int call_hub_wait(struct state *s)
{
	__u64 wake[2] = { 7 }, watch[2] = { 7 }, ready[2], changed[2];
	struct distworker_hub_wait wait = {
		.size = sizeof(wait),
		.flags = DISTWORKER_WAIT_WAKE,
		.deadline_ns = in_ms(2),
		.wake_mask = (uintptr_t)wake,
		.watch_mask = (uintptr_t)watch,
		.ready_mask = (uintptr_t)ready,
		.state_mask = (uintptr_t)changed,
		.mask_words = 2,
	};
	int ret = result(ioctl(s->device, DISTWORKER_HUB_WAIT, &wait));

	return ret == -ETIMEDOUT ? 0 : ret;
}

static int call_endpoint_wait(struct state *s)
{
	struct distworker_endpoint_wait wait = {
		.size = sizeof(wait), .flags = DISTWORKER_WAIT_WAKE, .deadline_ns = in_ms(2),
	};
	int ret = result(ioctl(s->endpoint, DISTWORKER_ENDPOINT_WAIT, &wait));

	return ret == -ETIMEDOUT ? 0 : ret;
}

static int call_endpoint_wake(struct state *s)
{
	return result(ioctl(s->endpoint, DISTWORKER_ENDPOINT_WAKE));
}

static int call_detach(struct state *s)
{
	return result(ioctl(s->endpoint, DISTWORKER_ENDPOINT_DETACH));
}

static int call_poll(struct state *s)
{
	struct pollfd fds[2] = { { s->device, POLLIN, 0 }, { s->endpoint, POLLIN, 0 } };

	return result(poll(fds, 2, 1));
}

static int call_epoll(struct state *s)
{
	struct epoll_event event = { .events = EPOLLIN };
	int ret = result(epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->device, &event));

	if (ret && ret != -EEXIST)
		return ret;
	ret = result(epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->endpoint, &event));
	return ret == -EEXIST ? 0 : ret;
}

static int read_all(const char *path)
{
	char text[4096];
	ssize_t got;
	int ret, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	do {
		got = read(fd, text, sizeof(text));
	} while (got > 0);
	ret = result(got);
	close(fd);
	return ret;
}

static int call_fdinfo(struct state *s)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->device);
	ret = read_all(path);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->endpoint);
	return ret ? ret : read_all(path);
}

/* Of a child that is bound to mailbox 1 and does its part with the fault armed. */
static int with_child(struct state *s, int (*part)(struct state *s, int faults))
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind), .index = 1 };
	int go[2], status;
	pid_t child;
	char byte = 0;

	/* The fault is the child's. */
	faults_arm(s->faults, 0);
	ioctl(s->device, DISTWORKER_MAILBOX_REARM, &bind);
	if (pipe2(go, O_CLOEXEC))
		return -errno;
	fflush(stdout);
	child = fork();
	if (child < 0)
		return -errno;
	if (!child)
		_exit(read(go[0], &byte, 1) == 1 ? part(s, faults_open()) : 99);
	bind.pid = child;
	if (ioctl(s->device, DISTWORKER_MAILBOX_BIND, &bind) || write(go[1], &byte, 1) != 1)
		perror("# bind");
	close(go[0]);
	close(go[1]);
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -EIO;
	s->met = WEXITSTATUS(status) & 1;
	return -(WEXITSTATUS(status) >> 1);
}

static int attach_child(struct state *s, int faults)
{
	struct distworker_endpoint_attach attach = { .size = sizeof(attach) };
	int ret;

	faults_arm(faults, s->fault);
	ret = result(ioctl(s->endpoint, DISTWORKER_ENDPOINT_ATTACH, &attach));
	return faults_disarm(faults) | -ret << 1;
}

static int call_attach_child(struct state *s)
{
	return with_child(s, attach_child);
}

static int die_child(struct state *s, int faults)
{
	struct distworker_endpoint_attach attach = { .size = sizeof(attach) };

	if (ioctl(s->endpoint, DISTWORKER_ENDPOINT_ATTACH, &attach) ||
	    mmap(NULL, BYTES, PROT_READ, MAP_SHARED, s->endpoint, 0) == MAP_FAILED)
		return EIO << 1;
	faults_arm(faults, s->fault);
	/* There is no way to tell whether it met the fault: the first ten must do. */
	_exit(s->fault <= 10);
}

static int call_death(struct state *s)
{
	struct distworker_mailbox_query query = { .size = sizeof(query), .index = 1 };
	int ret = with_child(s, die_child);

	if (!ret)
		ret = result(ioctl(s->device, DISTWORKER_MAILBOX_QUERY, &query));
	if (!ret && (query.state != DISTWORKER_MAILBOX_DEAD ||
		     query.cause != DISTWORKER_DEATH_EXIT || query.status != s->met << 8))
		ret = -EPROTO;
	return ret;
}

static int call_load(struct state *s)
{
	int ret, fd = open(s->module, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ret = result(syscall(SYS_finit_module, fd, "", 0));
	close(fd);
	return ret;
}

/* ---- states, one on top of the other */

enum level { NOTHING, OPENED, SET_UP, CREATED, BOUND, ATTACHED, MAPPED };

/* 0 or -errno; without faults, so that an error is a failed test. */
static int state_build(struct state *s, enum level level)
{
	int ret = 0;

	s->device = s->endpoint = s->epoll = -1;
	s->map = s->line = NULL;
	if (level == NOTHING)
		return 0;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	ret = call_open(s);
	if (!ret && level >= SET_UP)
		ret = call_setup(s);
	if (!ret && level >= CREATED)
		ret = call_create(s);
	if (!ret && level >= BOUND)
		ret = call_bind(s);
	if (!ret && level >= ATTACHED)
		ret = call_attach(s);
	if (!ret && level >= MAPPED)
		ret = call_map_mailbox(s);
	return ret;
}

static void state_free(struct state *s)
{
	if (s->map)
		munmap(s->map, s->map_bytes);
	if (s->line)
		munmap(s->line, getpagesize());
	if (s->epoll >= 0)
		close(s->epoll);
	if (s->endpoint >= 0)
		close(s->endpoint);
	if (s->device >= 0)
		close(s->device);
	if (s->module)
		syscall(SYS_delete_module, "distworker", 0);
}

/* Everything that a hub is for, on a fresh one: is the module still whole? */
static int round_trip(void)
{
	struct state s = { .module = NULL };
	int ret = state_build(&s, MAPPED);

	if (!ret)
		ret = call_hub_wait(&s);
	if (!ret)
		ret = call_endpoint_wait(&s);
	if (!ret) {
		munmap(s.map, s.map_bytes);
		s.map = NULL;
		ret = call_detach(&s);
	}
	state_free(&s);
	return ret;
}

/* ---- walks */

struct walk {
	const char *name;
	enum level level;
	int (*call)(struct state *s);
	/*
	 * A new process each time: the module's allocations for an address space are done by its
	 * first call only.
	 */
	bool fresh;
};

static const struct walk walks[] = {
	{ "open", NOTHING, call_open },
	{ "query", OPENED, call_query },
	{ "set_up_the_first_hub_of_a_process", OPENED, call_setup, true },
	{ "set_up_a_hub", OPENED, call_setup },
	{ "set_up_a_hub_of_1024_mailboxes", OPENED, call_setup_large },
	{ "map_a_hub", SET_UP, call_map_hub },
	{ "create_an_endpoint", SET_UP, call_create },
	{ "bind", CREATED, call_bind },
	{ "query_a_mailbox", CREATED, call_mailbox_query },
	{ "re-arm", CREATED, call_rearm },
	{ "attach", BOUND, call_attach },
	{ "attach_of_another_process", CREATED, call_attach_child },
	{ "map_a_mailbox", ATTACHED, call_map_mailbox },
	{ "map_the_line_of_the_hub", ATTACHED, call_map_line },
	{ "split_a_mapping", MAPPED, call_split },
	{ "wake_peers", ATTACHED, call_hub_wake },
	{ "wait_on_the_hub", ATTACHED, call_hub_wait },
	{ "wait_on_the_endpoint", ATTACHED, call_endpoint_wait },
	{ "wake_the_owner", ATTACHED, call_endpoint_wake },
	{ "poll", ATTACHED, call_poll },
	{ "epoll", ATTACHED, call_epoll },
	{ "detach", ATTACHED, call_detach },
	{ "read_fdinfo", ATTACHED, call_fdinfo },
	{ "death_of_a_peer", CREATED, call_death },
};

static bool expected(int error)
{
	switch (-error) {
	case ENOMEM:
	case EFAULT:
	case EAGAIN:	/* fork; seq_file */
	case ENFILE:
		return true;
	}
	return false;
}

/*
 * One call with the n-th fault. 1: it met it; 0: it ended before; -1: a promise was broken, and
 * that was said.
 */
static int step(const struct walk *walk, const char *module, unsigned int n, int *error)
{
	struct state s = { .module = module, .fault = n, .met = -1 };
	int again;
	bool met;

	*error = state_build(&s, walk->level);
	if (*error) {
		printf("# fault %u: the state cannot be built: %s\n", n, strerror(-*error));
		return -1;
	}
	s.faults = faults_open();
	faults_arm(s.faults, n);
	*error = walk->call(&s);
	met = faults_disarm(s.faults);
	close(s.faults);
	if (s.met >= 0)
		met = s.met;
	if (*error && (!met || !expected(*error))) {
		printf("# %s %u: %s\n", met ? "fault" : "without meeting fault", n,
		       strerror(-*error));
		return -1;
	}
	if (*error) {
		s.fault = 0;
		s.faults = faults_open();
		again = walk->call(&s);
		close(s.faults);
		if (again) {
			printf("# after fault %u (%s): the same call fails: %s\n", n,
			       strerror(-*error), strerror(-again));
			return -1;
		}
	}
	state_free(&s);
	again = module ? 0 : round_trip();
	if (again) {
		printf("# after fault %u (%s): no round trip: %s\n", n,
		       *error ? strerror(-*error) : "coped", strerror(-again));
		return -1;
	}
	return met;
}

/* The same in a child; its answer comes over its exit status. */
static int step_fresh(const struct walk *walk, const char *module, unsigned int n, int *error)
{
	int status, got;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		got = step(walk, module, n, error);
		fflush(stdout);
		_exit(got < 0 ? 3 : got + (*error ? 4 : 0));
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
		printf("# fault %u: the process died\n", n);
		return -1;
	}
	*error = WEXITSTATUS(status) & 4 ? -ENOMEM : 0;
	return WEXITSTATUS(status) == 3 ? -1 : WEXITSTATUS(status) & 3;
}

static bool run_walk(const struct walk *walk, const char *module)
{
	unsigned int n, failed = 0, coped = 0;
	int met = 1, error = 0;

	for (n = 1; n <= MAX_FAULTS; n++) {
		met = (walk->fresh ? step_fresh : step)(walk, module, n, &error);
		if (met <= 0)
			break;
		*(error ? &failed : &coped) += 1;
	}
	if (met > 0)
		printf("# still a fault at the %uth\n", n);
	printf("# %s: %u faults, %u were errors, %u were coped with\n", walk->name, failed + coped,
	       failed, coped);
	return met == 0;
}

int main(int argc, char **argv)
{
	const unsigned int count = sizeof(walks) / sizeof(*walks);
	static const struct walk load = { "load_the_module", NOTHING, call_load };
	const char *module = argc > 1 ? argv[1] : NULL;
	unsigned int i, good = 0, bad = 0;
	int faults, status;

	printf("TAP version 13\n");
	faults = faults_open();
	if (faults < 0) {
		printf("1..0 # SKIP this kernel has no fault injection\n0 passed, 0 failed, 1 "
		       "skipped\n");
		return 4;
	}
	close(faults);
	faults_prepare();
	printf("1..%u\n", module ? 1 : count);
	for (i = 0; i < (module ? 1 : count); i++) {
		const struct walk *walk = module ? &load : &walks[i];
		pid_t child;

		fflush(stdout);
		child = fork();
		if (!child) {
			alarm(1200);
			status = run_walk(walk, module) ? 0 : 1;
			fflush(stdout);
			_exit(status);
		}
		status = -1;
		waitpid(child, &status, 0);
		if (status && WIFSIGNALED(status))
			printf("# ended by %s\n", strsignal(WTERMSIG(status)));
		printf("%sok %u every_fault_in_%s_is_an_error_or_harmless\n", status ? "not " : "",
		       i + 1, walk->name);
		*(status ? &bad : &good) += 1;
	}
	printf("%u passed, %u failed, 0 skipped\n", good, bad);
	return bad != 0;
}
