/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shared by the distworker selftests: the calls as functions that return 0 or
 * -errno, a hub, peers that run a function in a child process, threads that
 * wait, and proofs that a thread sleeps.
 *
 * Nothing here sleeps for a fixed time: WAIT_UNTIL() looks until a condition
 * holds. Waits get soon() as their deadline, so that a lost wake-up is a failed
 * test (ETIMEDOUT, or ETIME by too_late()) and not a hanging one. Outputs are poisoned with 0xcc
 * before each call.
 */
#ifndef DISTWORKER_TEST_H
#define DISTWORKER_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/distworker.h>
#include "kselftest_harness.h"

/* Of a test that hangs. A guest on a busy machine gets a tenth of a CPU. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 120 /* seconds */

#define DEVICE "/dev/distworker"
#define PARAMETERS "/sys/module/distworker/parameters/"
#define NSEC_PER_SEC 1000000000ULL
#define NSEC_PER_MSEC 1000000ULL
/* A mailbox of one page. */
#define BOX_BYTES ((unsigned int)getpagesize())

/* Without the device nothing here means anything: the whole program is skipped. */
static void __attribute__((constructor)) skip_without_device(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		return;
	}
	printf("TAP version 13\n1..0 # SKIP %s: %s\n", DEVICE, strerror(errno));
	fflush(stdout);
	_exit(KSFT_SKIP);
}

/* ---------------------------------------------------------------- time */

static inline __u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* Far enough for a slow guest, near enough for the harness's timeout. */
#define SOON_MS 40000

static inline __u64 soon(void)
{
	return now_ns() + SOON_MS * NSEC_PER_MSEC;
}

#define WAIT_UNTIL(condition) ({					\
	__u64 _end = soon();						\
	bool _met;							\
									\
	while (!(_met = (condition)) && now_ns() < _end)		\
		usleep(100);						\
	_met;								\
})

/* An environment variable that is a number, or the suite's default. */
static inline unsigned long number_from_env(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : otherwise;
}

/*
 * Of tests that must end within the harness's timeout: their own number of hand-overs,
 * or, where DISTWORKER_HANDOVERS says that the machine is slow, a fifth of that. Those that
 * take longest end after HUNT_NS with the rounds that they have done.
 */
#define HUNT_NS (15 * NSEC_PER_SEC)

static inline __u32 handovers_at_most(__u32 most)
{
	unsigned long scaled = number_from_env("DISTWORKER_HANDOVERS", 5UL * most) / 5;
	__u32 number = scaled < most ? scaled : most;

	ksft_print_msg("%u hand-overs\n", number);
	return number;
}

/* ---------------------------------------------------------------- the calls */

/* Again and again: the first may come before the call that it is to interrupt. 0: no more. */
static inline int alarm_every(unsigned int usec)
{
	struct itimerval often = { .it_value.tv_usec = usec, .it_interval.tv_usec = usec };

	return setitimer(ITIMER_REAL, &often, NULL);
}

static inline int dw_ioctl(int fd, unsigned long command, void *argument)
{
	return ioctl(fd, command, argument) < 0 ? -errno : 0;
}

#define POISON 0xcc
#define POISON32 0xccccccccu
#define POISON64 0xccccccccccccccccull

/* A struct of the ABI with its size, the given inputs, and everything else zero. */
#define ABI(type, ...) ((struct type){ .size = sizeof(struct type), ##__VA_ARGS__ })

static inline int dw_query(int fd, struct distworker_query *query)
{
	memset(query, POISON, sizeof(*query));
	query->size = sizeof(*query);
	return dw_ioctl(fd, DISTWORKER_QUERY, query);
}

static inline int dw_setup_with(int fd, __u32 flags, __u32 mailboxes, __u32 bytes,
				struct distworker_hub_setup *setup)
{
	memset(setup, POISON, sizeof(*setup));
	setup->size = sizeof(*setup);
	setup->flags = flags;
	setup->mailboxes = mailboxes;
	setup->mailbox_bytes = bytes;
	return dw_ioctl(fd, DISTWORKER_HUB_SETUP, setup);
}

static inline int dw_setup(int fd, __u32 mailboxes, __u32 bytes, struct distworker_hub_setup *setup)
{
	return dw_setup_with(fd, 0, mailboxes, bytes, setup);
}

/*
 * The kernel looks once more when a deadline is over, so that a wake-up that was lost
 * shows as a late success. That is a failure of its own, for deadlines like soon().
 */
static inline int too_late(int ret, __u64 start, __u64 deadline)
{
	bool far = deadline > start + NSEC_PER_SEC && deadline != DISTWORKER_NO_DEADLINE;

	return !ret && far && now_ns() >= deadline ? -ETIME : ret;
}

/* The endpoint's fd or -errno. */
static inline int dw_create(int hub, __u32 index)
{
	struct distworker_mailbox_create create = {
		.size = sizeof(create), .index = index, .fd = (__s32)POISON32,
	};
	int ret = dw_ioctl(hub, DISTWORKER_MAILBOX_CREATE, &create);

	return ret ? ret : create.fd;
}

static inline int dw_bind(int hub, __u32 index, pid_t pid, __u64 *generation)
{
	struct distworker_mailbox_bind bind = {
		.size = sizeof(bind), .index = index, .pid = pid, .generation = POISON64,
	};
	int ret = dw_ioctl(hub, DISTWORKER_MAILBOX_BIND, &bind);

	if (generation)
		*generation = bind.generation;
	return ret;
}

static inline int dw_rearm(int hub, __u32 index, __u64 *generation)
{
	struct distworker_mailbox_bind bind = {
		.size = sizeof(bind), .index = index, .generation = POISON64,
	};
	int ret = dw_ioctl(hub, DISTWORKER_MAILBOX_REARM, &bind);

	if (generation)
		*generation = bind.generation;
	return ret;
}

static inline int dw_mailbox(int hub, __u32 index, struct distworker_mailbox_query *query)
{
	memset(query, POISON, sizeof(*query));
	query->size = sizeof(*query);
	query->flags = 0;
	query->index = index;
	return dw_ioctl(hub, DISTWORKER_MAILBOX_QUERY, query);
}

static inline int dw_attach(int endpoint, struct distworker_endpoint_attach *attach)
{
	struct distworker_endpoint_attach unused;

	attach = attach ? attach : &unused;
	memset(attach, POISON, sizeof(*attach));
	attach->size = sizeof(*attach);
	attach->flags = 0;
	return dw_ioctl(endpoint, DISTWORKER_ENDPOINT_ATTACH, attach);
}

static inline int dw_detach(int endpoint)
{
	return dw_ioctl(endpoint, DISTWORKER_ENDPOINT_DETACH, NULL);
}

static inline int dw_endpoint_wake(int endpoint)
{
	return dw_ioctl(endpoint, DISTWORKER_ENDPOINT_WAKE, NULL);
}

static inline int dw_endpoint_wait(int endpoint, __u32 flags, __u32 seen, __u64 deadline,
				   __u32 *events)
{
	struct distworker_endpoint_wait wait = {
		.size = sizeof(wait), .flags = flags, .deadline_ns = deadline,
		.seen = seen, .events = POISON32,
	};
	__u64 start = now_ns();
	int ret = too_late(dw_ioctl(endpoint, DISTWORKER_ENDPOINT_WAIT, &wait), start, deadline);

	if (events)
		*events = wait.events;
	return ret;
}

static inline __u64 to_u64(const void *pointer)
{
	return (__u64)(uintptr_t)pointer;
}

#define MASK_WORDS 16	/* 1,024 mailboxes */

static inline void mask_set(__u64 *mask, unsigned int index)
{
	mask[index / 64] |= 1ULL << (index % 64);
}

static inline bool mask_has(const __u64 *mask, unsigned int index)
{
	return mask[index / 64] >> (index % 64) & 1;
}

static inline int mask_count(const __u64 *mask, unsigned int words)
{
	int count = 0;

	while (words--)
		count += __builtin_popcountll(*mask++);
	return count;
}

/* Wakes the peers of one word of mailboxes; how many slept, or -errno. */
static inline int dw_wake(int hub, __u32 flags, __u64 mask)
{
	struct distworker_hub_wake wake = {
		.size = sizeof(wake), .flags = flags, .wake_mask = to_u64(&mask),
		.mask_words = 1, .woken = POISON32,
	};
	int ret = dw_ioctl(hub, DISTWORKER_HUB_WAKE, &wake);

	return ret ? ret : (int)wake.woken;
}

/* A wait on a hub of up to 64 mailboxes, with its results. */
struct hub_wait {
	__u32 flags;
	__u64 wake;
	__u64 watch;
	__u32 kick_seen;
	__u64 deadline;
	/* out */
	__u32 events;
	__u64 ready;
	__u64 state;
};

static inline int dw_hub_wait(int hub, struct hub_wait *wait)
{
	struct distworker_hub_wait call = {
		.size = sizeof(call), .flags = wait->flags, .deadline_ns = wait->deadline,
		.wake_mask = wait->flags & DISTWORKER_WAIT_WAKE ? to_u64(&wait->wake) : 0,
		.watch_mask = to_u64(&wait->watch), .ready_mask = to_u64(&wait->ready),
		.state_mask = to_u64(&wait->state), .mask_words = 1,
		.kick_seen = wait->kick_seen, .events = POISON32,
	};
	__u64 start = now_ns();
	int ret;

	wait->ready = POISON64;
	wait->state = POISON64;
	ret = too_late(dw_ioctl(hub, DISTWORKER_HUB_WAIT, &call), start, wait->deadline);
	wait->events = call.events;
	return ret;
}

/* ---------------------------------------------------------------- the hub */

struct hub {
	int fd;
	unsigned int mailboxes;
	struct distworker_hub_setup setup;
	char *map;
	struct distworker_hub_line *line;
	struct distworker_hub_state *state;
};

static inline int device_open(void)
{
	return open(DEVICE, O_RDWR | O_CLOEXEC);
}

/* 0 or -errno; a failed one leaves nothing open. */
static inline int hub_open_with(struct hub *hub, __u32 flags, unsigned int mailboxes,
				unsigned int bytes)
{
	int ret;

	memset(hub, 0, sizeof(*hub));
	hub->fd = device_open();
	if (hub->fd < 0)
		return -errno;
	hub->mailboxes = mailboxes;
	ret = dw_setup_with(hub->fd, flags, mailboxes, bytes, &hub->setup);
	if (!ret) {
		hub->map = mmap(NULL, hub->setup.mapping_bytes, PROT_READ | PROT_WRITE,
				MAP_SHARED, hub->fd, 0);
		if (hub->map == MAP_FAILED)
			ret = -errno;
	}
	if (ret) {
		close(hub->fd);
		return ret;
	}
	hub->line = (void *)hub->map;
	hub->state = (void *)(hub->map + hub->setup.state_offset);
	return 0;
}

static inline int hub_open(struct hub *hub, unsigned int mailboxes, unsigned int bytes)
{
	return hub_open_with(hub, 0, mailboxes, bytes);
}

static inline void hub_close(struct hub *hub)
{
	munmap(hub->map, hub->setup.mapping_bytes);
	close(hub->fd);
}

/* The memory of a mailbox, and the header in it. */
static inline char *hub_box(struct hub *hub, unsigned int index)
{
	return hub->map + hub->setup.mailbox_offset + (size_t)index * hub->setup.mailbox_bytes;
}

static inline struct distworker_mailbox *hub_mailbox(struct hub *hub, unsigned int index)
{
	return (void *)(hub_box(hub, index) +
			index % hub->setup.header_slots * hub->setup.header_step);
}

#define load(word)		__atomic_load_n(&(word), __ATOMIC_ACQUIRE)
#define store(word, value)	__atomic_store_n(&(word), value, __ATOMIC_RELEASE)
#define add(word, value)	__atomic_add_fetch(&(word), value, __ATOMIC_SEQ_CST)
/* Between the store that publishes and the look at "asleep". */
#define full_barrier()		__atomic_thread_fence(__ATOMIC_SEQ_CST)

/* Posts one frame as the library does; 1 if the peer was woken, 0, or -errno. */
static inline int hub_post(struct hub *hub, unsigned int index)
{
	struct distworker_mailbox *box = hub_mailbox(hub, index);

	store(box->post, box->post + 1);
	full_barrier();
	return load(box->asleep) ? dw_wake(hub->fd, 0, 1ULL << index) : 0;
}

/* ---------------------------------------------------------------- sleepers */

/* The state letter in /proc/TID/stat of any thread, 0 if there is none. */
static inline char task_state(pid_t tid)
{
	char path[64], text[512], *end;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return 0;
	text[got] = 0;
	end = strrchr(text, ')');
	return end ? end[2] : 0;
}

/*
 * Is the thread off the run queue? On a preemptible kernel its state can be S while it
 * has yet to go to sleep. Reading the syscall file waits for a thread that sleeps to be
 * off its CPU, and says "running" of any other; kernels may lack the file.
 */
static inline bool task_is_off_cpu(pid_t tid)
{
	char path[64], text[8] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 'r';
	close(fd);
	return text[0] != 'r';
}

static inline bool task_sleeps(pid_t tid)
{
	return task_state(tid) == 'S' && task_is_off_cpu(tid);
}

static inline pid_t current_tid(void)
{
	return syscall(SYS_gettid);
}

/* Both at once: the word says so to the other side, and the scheduler says so. */
#define ASLEEP(word, tid)	(load(word) && task_sleeps(tid))

static inline bool hub_waiter_sleeps(struct hub *hub, pid_t tid)
{
	return (load(hub->line->asleep) & DISTWORKER_ASLEEP_WAITER) && task_sleeps(tid);
}

static inline bool peer_sleeps(struct hub *hub, unsigned int index, pid_t tid)
{
	return ASLEEP(hub_mailbox(hub, index)->asleep, tid);
}

/* ---------------------------------------------------------------- peers */

/* In a peer, where the harness's macros would only change a copy: complain and end. */
#define CHECK(condition) do {							\
	if (!(condition)) {							\
		fprintf(stderr, "# %s:%d: in the peer: %s is false (errno %d)\n",	\
			__FILE__, __LINE__, #condition, errno);			\
		_exit(1);							\
	}									\
} while (0)

#define CHECK_EQ(expected, expression) do {					\
	long long _expected = (expected), _got = (expression);			\
										\
	if (_expected != _got) {						\
		fprintf(stderr, "# %s:%d: in the peer: %s is %lld, not %lld\n",	\
			__FILE__, __LINE__, #expression, _got, _expected);	\
		_exit(1);							\
	}									\
} while (0)

/* The view of a peer's function. */
struct endpoint {
	int fd;
	int sync;
	unsigned int index;
	struct distworker_endpoint_attach attach;
	char *memory;				/* of the mailbox */
	struct distworker_mailbox *box;
	struct distworker_hub_line *hub_line;	/* read-only */
	void *argument;
};

/* The view of its parent. */
struct peer {
	pid_t pid;
	int sync;
};

/* One byte each way, so that parent and peer go step by step. */
static inline bool sync_send(int fd)
{
	char byte = 1;

	return send(fd, &byte, 1, MSG_NOSIGNAL) == 1;
}

static inline bool sync_receive(int fd)
{
	char byte;
	ssize_t got;

	do {
		got = read(fd, &byte, 1);
	} while (got < 0 && errno == EINTR);
	return got == 1;
}

static inline void endpoint_map(struct endpoint *endpoint)
{
	endpoint->memory = mmap(NULL, endpoint->attach.mailbox_bytes, PROT_READ | PROT_WRITE,
				MAP_SHARED, endpoint->fd, 0);
	CHECK(endpoint->memory != MAP_FAILED);
	endpoint->box = (void *)(endpoint->memory + endpoint->attach.header_offset);
	endpoint->hub_line = mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED, endpoint->fd,
				  DISTWORKER_HUB_LINE_OFFSET);
	CHECK(endpoint->hub_line != MAP_FAILED);
}

static inline int dw_timeline_wait(struct endpoint *endpoint, struct distworker_timeline_wait *wait)
{
	__u64 start = now_ns();

	wait->size = sizeof(*wait);
	wait->events = POISON32;
	return too_late(dw_ioctl(endpoint->fd, DISTWORKER_TIMELINE_WAIT, wait), start,
			wait->deadline_ns);
}

/* Completes one frame as the library does. */
static inline int endpoint_complete(struct endpoint *endpoint)
{
	store(endpoint->box->done, endpoint->box->done + 1);
	full_barrier();
	return load(endpoint->hub_line->asleep) ? dw_endpoint_wake(endpoint->fd) : 0;
}

/* Forks a child that runs `function` with the endpoint, not attached and not bound. */
static inline int peer_fork(struct peer *peer, int endpoint_fd, unsigned int index,
			    void (*function)(struct endpoint *), void *argument)
{
	struct endpoint endpoint = { .fd = endpoint_fd, .index = index, .argument = argument };
	int pair[2];

	*peer = (struct peer){ .pid = -1, .sync = -1 };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	fflush(NULL);
	peer->pid = fork();
	if (peer->pid < 0)
		return -errno;
	if (peer->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		endpoint.sync = pair[1];
		function(&endpoint);
		_exit(0);
	}
	close(pair[1]);
	peer->sync = pair[0];
	return 0;
}

struct peer_start {
	void (*function)(struct endpoint *endpoint);
	void *argument;
};

static inline void peer_attach_and_run(struct endpoint *endpoint)
{
	struct peer_start *start = endpoint->argument;

	endpoint->argument = start->argument;
	CHECK(sync_receive(endpoint->sync));
	CHECK_EQ(0, dw_attach(endpoint->fd, &endpoint->attach));
	endpoint_map(endpoint);
	CHECK(sync_send(endpoint->sync));
	start->function(endpoint);
}

/*
 * Forks a child, binds the mailbox to it, lets it attach and map, and run
 * `function`. The endpoint is created if `endpoint_fd` is -1, and in any case
 * closed here. Returns when the child is attached; 0 or -errno.
 */
static inline int peer_start_on(struct peer *peer, struct hub *hub, unsigned int index,
				int endpoint_fd, void (*function)(struct endpoint *),
				void *argument)
{
	struct peer_start start = { .function = function, .argument = argument };
	int ret;

	if (endpoint_fd < 0)
		endpoint_fd = dw_create(hub->fd, index);
	if (endpoint_fd < 0)
		return endpoint_fd;
	ret = peer_fork(peer, endpoint_fd, index, peer_attach_and_run, &start);
	close(endpoint_fd);
	if (ret)
		return ret;
	ret = dw_bind(hub->fd, index, peer->pid, NULL);
	if (ret)
		return ret;
	if (!sync_send(peer->sync) || !sync_receive(peer->sync))
		return -ECHILD;
	return 0;
}

static inline int peer_start(struct peer *peer, struct hub *hub, unsigned int index,
			     void (*function)(struct endpoint *), void *argument)
{
	return peer_start_on(peer, hub, index, -1, function, argument);
}

/* The status as wait(2) gives it, -1 if it does not end. */
static inline int peer_join(struct peer *peer)
{
	int status = -1;

	/* Not only closed: peers that were forked later hold copies of this end. */
	shutdown(peer->sync, SHUT_RDWR);
	close(peer->sync);
	if (!WAIT_UNTIL(waitpid(peer->pid, &status, WNOHANG) != 0)) {
		kill(peer->pid, SIGKILL);
		waitpid(peer->pid, &status, 0);
		return -1;
	}
	return status;
}

static inline int peer_kill(struct peer *peer)
{
	kill(peer->pid, SIGKILL);
	return peer_join(peer);
}

/* Functions for peers: wait for the parent's byte, or its end of the socket, and leave. */
static inline void peer_idles(struct endpoint *endpoint)
{
	sync_receive(endpoint->sync);
}

/* Sleeps in ENDPOINT_WAIT until something is posted. */
static inline void peer_waits_for_post(struct endpoint *endpoint)
{
	__u32 events;

	CHECK_EQ(0, dw_endpoint_wait(endpoint->fd, DISTWORKER_WAIT_NOSPIN, 0, soon(), &events));
	CHECK_EQ(DISTWORKER_EVENT_POST, events);
}

static inline void peer_runs_until_stopped(struct endpoint *endpoint)
{
	/* From here on it is known as the thread to spin for. */
	CHECK_EQ(0, dw_endpoint_wake(endpoint->fd));
	CHECK(sync_send(endpoint->sync));
	while (!load(endpoint->box->stop))
		;
}

/* Runs statements in a plain child, for "another process"; its status as wait(2) gives it. */
#define IN_CHILD(...) ({						\
	struct peer _child = { .sync = -1 };				\
									\
	fflush(NULL);							\
	_child.pid = fork();						\
	if (_child.pid == 0) {						\
		prctl(PR_SET_PDEATHSIG, SIGKILL);			\
		__VA_ARGS__;						\
		_exit(0);						\
	}								\
	peer_join(&_child);						\
})

/* ---------------------------------------------------------------- waiting threads */

/* A thread in HUB_WAIT. */
struct waiter {
	struct hub *hub;
	struct hub_wait wait;
	pthread_t thread;
	pid_t tid;
	int result;
	int returned;
};

static inline void *waiter_thread(void *argument)
{
	struct waiter *waiter = argument;

	store(waiter->tid, current_tid());
	waiter->result = dw_hub_wait(waiter->hub->fd, &waiter->wait);
	store(waiter->returned, 1);
	return NULL;
}

/* Starts the thread and returns when it sleeps; false if it never does. */
static inline bool waiter_start(struct waiter *waiter, struct hub *hub, __u64 watch)
{
	memset(waiter, 0, sizeof(*waiter));
	waiter->hub = hub;
	waiter->wait.flags = DISTWORKER_WAIT_NOSPIN;
	waiter->wait.watch = watch;
	waiter->wait.kick_seen = hub->state->kick;
	waiter->wait.deadline = soon();
	if (pthread_create(&waiter->thread, NULL, waiter_thread, waiter))
		return false;
	return WAIT_UNTIL(load(waiter->tid) && hub_waiter_sleeps(hub, waiter->tid));
}

/* Has neither returned nor been woken: whom a wake-up has reached is running. */
static inline bool waiter_blocked(struct waiter *waiter)
{
	return !load(waiter->returned) && task_sleeps(waiter->tid);
}

static inline int waiter_join(struct waiter *waiter)
{
	pthread_join(waiter->thread, NULL);
	return waiter->result;
}

/* Takes the report of peers that have attached or died, so that a test begins without news. */
static inline void hub_drain_state(struct hub *hub)
{
	struct hub_wait wait;

	do {
		wait = (struct hub_wait){ .kick_seen = hub->state->kick };
	} while (dw_hub_wait(hub->fd, &wait) == 0 && wait.events & DISTWORKER_EVENT_STATE);
}

/* Waits for the report that the mailbox has changed its state; takes all other events. */
static inline int wait_for_state(struct hub *hub, unsigned int index)
{
	struct hub_wait wait = { .deadline = soon() };
	int ret;

	do {
		ret = dw_hub_wait(hub->fd, &wait);
	} while (!ret && !(wait.state >> index & 1));
	return ret;
}

#endif /* DISTWORKER_TEST_H */
