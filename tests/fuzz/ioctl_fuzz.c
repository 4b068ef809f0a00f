// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl_fuzz: families of processes that do to /dev/distworker what nobody should.
 *
 *	ioctl_fuzz [--seed N] [--seconds N] [--families N] [--pcs FILE]
 *
 * A family is an owner with hubs, threads, and peers in child processes, all of which choose operations at random: calls
 * with structs that are nearly right, bad pointers and sizes, forks, exec, deaths, signals, mappings, scribbling over what
 * is shared, poll, epoll, io_uring, faults injected by the kernel where it can. Each process has a generator of its own,
 * seeded from the seed, the family and its number in it: a seed repeats the operations, not how they interleave.
 *
 * What is promised is checked in each call: an error of the documented ones and no other, nothing written behind a
 * struct's size nor on an error, no wait that outlives its deadline by far; and at the end, when every process has been
 * killed, that none is left and the module is unused. What only the kernel sees, its log and its leaks, tests/vm/run reads.
 * With KCOV (/sys/kernel/debug/kcov) the number of places in the module that were reached is printed, and with --pcs each
 * of them, as an offset from the module's start. TAP on stdout.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/distworker.h>
#include <linux/io_uring.h>

#include "faults.h"

#define DEVICE		"/dev/distworker"
#define NSEC_PER_SEC	1000000000ull
#define MAX_FAMILIES	16
#define MAX_HUBS	3
#define MAX_PEERS	6
#define MAX_FDS		24
#define MAX_MAPS	16
#define LATE_NS		(20 * NSEC_PER_SEC)

/* Lacks in libc headers that are older than the kernel. */
#define KCOV_INIT_TRACE		_IOR('c', 1, unsigned long)
#define KCOV_ENABLE		_IO('c', 100)
#define KCOV_TRACE_PC		0
#define KCOV_ENTRIES		(16ul << 10)
#define MAX_PC_OFFSET		(1u << 20)

/* ---------------------------------------------------------------- what all processes share */

enum outcome { DONE, FAILED, OUTCOMES };

#define NUMBERS 0x40	/* of ioctls */

static struct {
	atomic_ulong operations;
	atomic_ulong calls[NUMBERS][OUTCOMES];
	atomic_ulong errors[200];
	atomic_ulong processes;
	atomic_ulong threads;
	atomic_ulong kills;
	atomic_ulong faults;
	atomic_ulong signals;
	atomic_ulong broken;		/* promises */
	atomic_bool stop;
	/* A bit for each place in the module, by its offset. */
	atomic_ulong reached[MAX_PC_OFFSET / (8 * sizeof(long))];
} *shared;

static unsigned long module_start;
static uint64_t seed = 1;
static unsigned int seconds = 20;
static unsigned int families = 3;
static bool have_faults;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* ---------------------------------------------------------------- random */

static _Thread_local uint64_t random_state;

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static uint64_t any(void)
{
	return random_state = mix(random_state);
}

/* 0 ... n-1 */
static unsigned int below(unsigned int n)
{
	return n ? any() % n : 0;
}

static bool one_in(unsigned int n)
{
	return below(n) == 0;
}

#define PICK(first, ...) ({								\
	const __typeof__(first) _values[] = { first, __VA_ARGS__ };			\
	_values[below(sizeof(_values) / sizeof(*_values))];				\
})

static uint32_t odd_u32(void)
{
	switch (below(8)) {
	case 0: return 0;
	case 1: return 1u << below(32);
	case 2: return UINT32_MAX;
	case 3: return INT32_MAX;
	case 4: return (uint32_t)INT32_MIN;
	case 5: return below(70);
	case 6: return 4096 + below(3) - 1;
	default: return any();
	}
}

/* ---------------------------------------------------------------- coverage and faults, for each thread */

static _Thread_local unsigned long *coverage;
static _Thread_local int faults = -1;

static void coverage_start(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);

	coverage = NULL;
	if (fd < 0)
		return;
	if (ioctl(fd, KCOV_INIT_TRACE, KCOV_ENTRIES) == 0) {
		coverage = mmap(NULL, KCOV_ENTRIES * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (coverage == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
			coverage = NULL;
	}
	close(fd);
}

static void coverage_take(void)
{
	unsigned long i, count;

	if (!coverage)
		return;
	count = __atomic_load_n(&coverage[0], __ATOMIC_RELAXED);
	if (count >= KCOV_ENTRIES)
		count = KCOV_ENTRIES - 1;
	for (i = 1; i <= count; i++) {
		unsigned long offset = coverage[i] - module_start;

		if (offset < MAX_PC_OFFSET) {
			atomic_ulong *word = &shared->reached[offset / 64];

			if (!(atomic_load_explicit(word, memory_order_relaxed) >> offset % 64 & 1))
				atomic_fetch_or_explicit(word, 1ul << offset % 64, memory_order_relaxed);
		}
	}
	__atomic_store_n(&coverage[0], 0, __ATOMIC_RELAXED);
}

/* A new process or thread: whatever fork has copied counts for the parent. */
static void thread_begin(uint64_t stream)
{
	random_state = mix(seed ^ mix(stream));
	if (faults >= 0)
		close(faults);
	faults = have_faults ? faults_open() : -1;
	coverage_start();
}

/* ---------------------------------------------------------------- promises */

static void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void broken(const char *format, ...)
{
	char text[256];
	va_list list;
	int length;

	/* A few are enough; one write each, since many processes say something at once. */
	if (atomic_fetch_add(&shared->broken, 1) >= 20)
		return;
	length = snprintf(text, sizeof(text), "# broken: ");
	va_start(list, format);
	length += vsnprintf(text + length, sizeof(text) - length - 1, format, list);
	va_end(list);
	if (length > (int)sizeof(text) - 2)
		length = sizeof(text) - 2;
	text[length++] = '\n';
	if (write(STDOUT_FILENO, text, length) != length)
		_exit(1);
}

/* Every error that a call may have, faults injected or not. */
static bool error_is_documented(int error)
{
	switch (error) {
	case EINVAL: case EFAULT: case E2BIG: case ENOTTY: case EBADF: case EBADFD: case EPERM: case EBUSY: case ESRCH:
	case ENOTCONN: case EOWNERDEAD: case ETIMEDOUT: case EINTR: case ENOMEM: case EDQUOT: case EMFILE:
		return true;
	case ENFILE:
		return have_faults;
	}
	return false;
}

static void count_call(unsigned int number, int ret, int error)
{
	number &= NUMBERS - 1;
	atomic_fetch_add_explicit(&shared->calls[number][ret < 0 ? FAILED : DONE], 1, memory_order_relaxed);
	if (ret >= 0)
		return;
	if (error > 0 && error < 200)
		atomic_fetch_add_explicit(&shared->errors[error], 1, memory_order_relaxed);
}

/* ---------------------------------------------------------------- one process and what it holds */

struct map {
	char *start;
	size_t bytes;
	bool writable;
};

enum kind { HUB, ENDPOINT, FOREIGN, KINDS };	/* inherited hubs are foreign: every call fails */

static struct process {
	bool owner;
	int fds[MAX_FDS];
	enum kind kinds[MAX_FDS];
	int fd_count;
	struct map maps[MAX_MAPS];
	int map_count;
	pid_t peers[MAX_PEERS];
	unsigned int indices[MAX_PEERS];	/* of the mailboxes that they were started with */
	unsigned int peer_count;
	pid_t parent;
	int epoll;
	int ring;
	void *ring_sq, *ring_sqes;
	struct io_uring_params ring_params;
} me;

/* The family's processes, for signals: pids may be stale, but nobody else is in this group. */
static struct {
	atomic_int pids[32];
} *family;

/* Threads of one process share its tables; they must not grow under the feet of one another. */
static pthread_mutex_t tables = PTHREAD_MUTEX_INITIALIZER;

static atomic_int threads_started;
static _Thread_local bool main_thread = true;

static _Thread_local sigjmp_buf recover;
static _Thread_local volatile sig_atomic_t touching;

/* Touching memory that was unmapped or made read-only by another thread is a miss, anything else is a death. */
static void on_fault(int signal)
{
	if (touching)
		siglongjmp(recover, 1);
	_exit(128 + signal);
}

/* Writes there if it can. */
static __attribute__((noinline)) void touch(void *target, const void *bytes, size_t count)
{
	if (sigsetjmp(recover, 1) == 0) {
		touching = 1;
		memcpy(target, bytes, count);
	}
	touching = 0;
}

static void on_signal(int signal)
{
	(void)signal;
	atomic_fetch_add_explicit(&shared->signals, 1, memory_order_relaxed);
}

static void fd_add(int fd, enum kind kind)
{
	pthread_mutex_lock(&tables);
	if (me.fd_count < MAX_FDS) {
		me.kinds[me.fd_count] = kind;
		me.fds[me.fd_count++] = fd;
		fd = -1;
	}
	pthread_mutex_unlock(&tables);
	if (fd >= 0)
		close(fd);
}

/* One of that kind if there is one, or any. */
static int fd_of(enum kind kind)
{
	int fd = -1, i, start;

	pthread_mutex_lock(&tables);
	start = below(me.fd_count);
	for (i = 0; i < me.fd_count && fd < 0; i++)
		if (me.kinds[(start + i) % me.fd_count] == kind)
			fd = me.fds[(start + i) % me.fd_count];
	if (fd < 0 && me.fd_count)
		fd = me.fds[start];
	pthread_mutex_unlock(&tables);
	return fd;
}

static bool fd_is_there(enum kind kind)
{
	int i, count = 0;

	pthread_mutex_lock(&tables);
	for (i = 0; i < me.fd_count; i++)
		count += me.kinds[i] == kind;
	pthread_mutex_unlock(&tables);
	return count > 0;
}

static int fd_any(void)
{
	return fd_of(below(KINDS));
}

static void fd_close_any(void)
{
	int fd = -1;

	pthread_mutex_lock(&tables);
	if (me.fd_count) {
		unsigned int i = below(me.fd_count);

		/* Rarely what everything else needs. */
		if (me.kinds[i] == (me.owner ? HUB : ENDPOINT) && !one_in(8)) {
			pthread_mutex_unlock(&tables);
			return;
		}
		fd = me.fds[i];
		me.fds[i] = me.fds[--me.fd_count];
		me.kinds[i] = me.kinds[me.fd_count];
	}
	pthread_mutex_unlock(&tables);
	if (fd >= 0)
		close(fd);
}

static void map_add(char *start, size_t bytes, bool writable)
{
	bool kept = false;

	pthread_mutex_lock(&tables);
	if (me.map_count < MAX_MAPS) {
		me.maps[me.map_count++] = (struct map){ start, bytes, writable };
		kept = true;
	}
	pthread_mutex_unlock(&tables);
	if (!kept)
		munmap(start, bytes);
}

static struct map map_any(bool take)
{
	struct map map = { NULL, 0, false };

	pthread_mutex_lock(&tables);
	if (me.map_count) {
		unsigned int i = below(me.map_count);

		map = me.maps[i];
		if (take)
			me.maps[i] = me.maps[--me.map_count];
	}
	pthread_mutex_unlock(&tables);
	return map;
}

/* ---------------------------------------------------------------- arguments */

/*
 * A page with the struct at its very end and no page behind it, so that each byte too many is a fault; the bytes before it
 * and, in a larger struct, behind the size are a pattern that must stay.
 */
static _Thread_local char *arena;
#define ARENA_BYTES 8192
#define PATTERN 0xa5

static char *arena_get(void)
{
	if (!arena) {
		arena = mmap(NULL, ARENA_BYTES + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (arena == MAP_FAILED)
			_exit(2);
		mprotect(arena + ARENA_BYTES, 4096, PROT_NONE);
	}
	memset(arena, PATTERN, ARENA_BYTES);
	return arena;
}

union argument {
	uint32_t size;
	struct distworker_query query;
	struct distworker_hub_setup setup;
	struct distworker_mailbox_create create;
	struct distworker_mailbox_bind bind;
	struct distworker_mailbox_query mailbox;
	struct distworker_hub_wait wait;
	struct distworker_hub_wake wake;
	struct distworker_endpoint_attach attach;
	struct distworker_endpoint_wait endpoint_wait;
	uint32_t words[32];
};

static uint32_t known_size(unsigned int number)
{
	switch (number) {
	case _IOC_NR(DISTWORKER_QUERY): return sizeof(struct distworker_query);
	case _IOC_NR(DISTWORKER_HUB_SETUP): return sizeof(struct distworker_hub_setup);
	case _IOC_NR(DISTWORKER_MAILBOX_CREATE): return sizeof(struct distworker_mailbox_create);
	case _IOC_NR(DISTWORKER_MAILBOX_BIND):
	case _IOC_NR(DISTWORKER_MAILBOX_REARM): return sizeof(struct distworker_mailbox_bind);
	case _IOC_NR(DISTWORKER_MAILBOX_QUERY): return sizeof(struct distworker_mailbox_query);
	case _IOC_NR(DISTWORKER_HUB_WAIT): return sizeof(struct distworker_hub_wait);
	case _IOC_NR(DISTWORKER_HUB_WAKE): return sizeof(struct distworker_hub_wake);
	case _IOC_NR(DISTWORKER_ENDPOINT_ATTACH): return sizeof(struct distworker_endpoint_attach);
	case _IOC_NR(DISTWORKER_ENDPOINT_WAIT): return sizeof(struct distworker_endpoint_wait);
	}
	return 0;
}

static uint32_t some_mailboxes(void)
{
	if (one_in(40))
		return PICK(0u, 1023u, 1024u, 1025u, UINT32_MAX);
	return PICK(1u, 2u, 3u, 4u, 4u, 5u, 6u, 63u, 64u, 65u, 128u, 130u);
}

static uint32_t some_index(void)
{
	return one_in(30) ? odd_u32() : one_in(10) ? PICK(63u, 64u, 65u, 127u) : below(4);
}

static pid_t some_pid(void)
{
	switch (below(12)) {
	case 0: return 0;
	case 1: return -1;
	case 2: return 1;
	case 3: return getpid();
	case 4: return getppid();
	case 5: return odd_u32();
	case 6:
	case 7: return atomic_load(&family->pids[below(32)]);
	default: return me.peer_count ? me.peers[below(me.peer_count)] : getpid();
	}
}

static uint64_t some_deadline(void)
{
	switch (below(10)) {
	case 0: return 0;
	case 1: return 1;
	case 2: return INT64_MAX + odd_u32();
	case 3: return DISTWORKER_NO_DEADLINE;	/* the interval timer ends it */
	case 4: return now_ns();
	default: return now_ns() + any() % (5 * 1000 * 1000);
	}
}

static uint64_t some_pointer(void)
{
	static char page[4096];

	switch (below(8)) {
	case 0: return 0;
	case 1: return 8;
	case 2: return 0xffff888000000000;	/* the kernel's */
	case 3: return 0xffffffffff600000;	/* vsyscall */
	case 4: return 0x7ffffffff000 - 8;
	case 5: return (uintptr_t)arena + ARENA_BYTES - 4;
	case 6: return (uintptr_t)map_any(false).start + below(64);
	default: return (uintptr_t)page + below(4096);
	}
}

/* A mask in the arena's first page, or something worse. */
static uint64_t some_mask(unsigned int slot, unsigned int words)
{
	uint64_t *mask = (uint64_t *)(arena + slot * 256);
	unsigned int i;

	if (one_in(8))
		return 0;
	if (one_in(25))
		return some_pointer();
	for (i = 0; i < words && i < 32; i++)
		mask[i] = one_in(30) ? any() : 0;
	if (words)
		mask[0] = PICK(1ull, 2ull, 3ull, 7ull, 15ull, ~0ull, any());
	return (uintptr_t)mask;
}

/* Nearly right. */
static void fill(union argument *arg, unsigned int number)
{
	unsigned int words;

	memset(arg, 0, sizeof(*arg));
	switch (number) {
	case _IOC_NR(DISTWORKER_HUB_SETUP):
		arg->setup.mailboxes = some_mailboxes();
		arg->setup.mailbox_bytes = one_in(10) ? odd_u32() : PICK(256u, 4096u, 4097u, 8192u, 65536u);
		if (arg->setup.mailboxes > 130 && arg->setup.mailbox_bytes > 8192)
			arg->setup.mailbox_bytes = 4096;
		break;
	case _IOC_NR(DISTWORKER_MAILBOX_CREATE):
		arg->create.index = some_index();
		break;
	case _IOC_NR(DISTWORKER_MAILBOX_BIND):
		arg->bind.index = some_index();
		arg->bind.pid = some_pid();
		break;
	case _IOC_NR(DISTWORKER_MAILBOX_REARM):
	case _IOC_NR(DISTWORKER_MAILBOX_QUERY):
		arg->bind.index = some_index();
		break;
	case _IOC_NR(DISTWORKER_HUB_WAIT):
		words = PICK(1u, 1u, 2u, 3u, 16u);
		arg->wait.mask_words = words;
		arg->wait.flags = below(4);
		arg->wait.deadline_ns = some_deadline();
		arg->wait.wake_mask = some_mask(0, words);
		arg->wait.watch_mask = some_mask(1, words);
		arg->wait.ready_mask = some_mask(2, words);
		arg->wait.state_mask = some_mask(3, words);
		arg->wait.kick_seen = below(3);
		if (one_in(30))
			arg->wait.mask_words = PICK(0u, 17u, UINT32_MAX, 0x20000001u);
		break;
	case _IOC_NR(DISTWORKER_HUB_WAKE):
		words = PICK(1u, 1u, 2u, 3u, 16u);
		arg->wake.mask_words = words;
		arg->wake.flags = below(2);
		arg->wake.wake_mask = some_mask(0, words);
		break;
	case _IOC_NR(DISTWORKER_ENDPOINT_WAIT):
		arg->endpoint_wait.flags = below(4);
		arg->endpoint_wait.deadline_ns = some_deadline();
		arg->endpoint_wait.seen = below(3);
		break;
	}
	arg->size = known_size(number);
}

/* ---------------------------------------------------------------- calls */

/* What of the struct a call that has succeeded may write: nothing that the caller's size does not cover. */
static void check_written(unsigned int number, const char *given, const char *before, uint32_t size, uint32_t room,
			  int ret, int error)
{
	uint32_t i;

	/* A copy that faults halfway has written its first half; injected faults end a copy anywhere. */
	for (i = 0; i < room; i++) {
		if (given[i] == before[i])
			continue;
		if (ret < 0 && error != EFAULT) {
			broken("ioctl %#x failed with %s and wrote byte %u of its struct", number, strerror(error), i);
			return;
		}
		if (i >= size || i >= known_size(number) || i < 4) {
			broken("ioctl %#x with size %u wrote byte %u of its struct", number, size, i);
			return;
		}
	}
}

static int call(int fd, unsigned int number)
{
	union argument arg;
	char before[256];
	uint32_t size, room;
	uint64_t deadline = DISTWORKER_NO_DEADLINE, since, took;
	bool private = false;
	void *target;
	unsigned int command;
	int ret, error;

	arena_get();
	fill(&arg, number);
	if (one_in(15)) {
		/* A word or two that are not right at all. */
		do {
			arg.words[below(18)] = odd_u32();
		} while (one_in(2));
	}
	if (one_in(25))
		arg.size = PICK(0u, 3u, 4u, 7u, 8u, 12u, 100u, 128u, 4096u, 4097u, UINT32_MAX, known_size(number) - 4,
				known_size(number) + 4);
	size = arg.size;
	room = size < 4 ? 4 : size > sizeof(arg) ? sizeof(arg) : size;
	if (number == _IOC_NR(DISTWORKER_HUB_WAIT))
		deadline = arg.wait.deadline_ns;
	else if (number == _IOC_NR(DISTWORKER_ENDPOINT_WAIT))
		deadline = arg.endpoint_wait.deadline_ns;

	if (one_in(40)) {
		target = (void *)(uintptr_t)some_pointer();
	} else if (one_in(40)) {
		/* In memory that others scribble over meanwhile: every read of it is another value. */
		struct map map = map_any(false);

		target = map.start + (map.bytes > 4096 ? below(4096) & ~7u : 0);
		if (map.writable)
			touch(target, &arg, 64);
	} else {
		private = true;
		target = arena + ARENA_BYTES - room;
		memcpy(target, &arg, room);
		memcpy(before, target, room);
	}

	command = _IOC(_IOC_READ | _IOC_WRITE, DISTWORKER_IOC_MAGIC, number, size & _IOC_SIZEMASK);
	if (one_in(100))
		command = PICK((unsigned int)DISTWORKER_QUERY, FIOCLEX, (unsigned int)any(), command ^ 1u << below(32));
	number = _IOC_NR(command);

	since = now_ns();
	ret = ioctl(fd, command, target);
	error = errno;
	took = now_ns() - since;
	count_call(number, ret, error);
	if (_IOC_TYPE(command) != DISTWORKER_IOC_MAGIC)
		return -1;
	if (ret > 0)
		broken("ioctl %#x returned %d", number, ret);
	if (ret < 0 && !error_is_documented(error))
		broken("ioctl %#x failed with %s (%d)", number, strerror(error), error);
	if (private) {
		check_written(number, target, before, size, room, ret, error);
		if (deadline != DISTWORKER_NO_DEADLINE && deadline < now_ns() && took > LATE_NS)
			broken("ioctl %#x took %llu ms with a deadline before its end", number,
			       (unsigned long long)took / 1000000);
	}
	if (ret == 0 && private && number == _IOC_NR(DISTWORKER_MAILBOX_CREATE)) {
		struct distworker_mailbox_create *create = target;

		if (create->fd < 0)
			broken("an endpoint's fd is %d", create->fd);
		else
			fd_add(create->fd, ENDPOINT);
	}
	return ret;
}

static unsigned int some_number(void)
{
	static const unsigned int hub[] = {
		_IOC_NR(DISTWORKER_HUB_WAIT), _IOC_NR(DISTWORKER_HUB_WAIT), _IOC_NR(DISTWORKER_HUB_WAIT),
		_IOC_NR(DISTWORKER_HUB_WAKE), _IOC_NR(DISTWORKER_HUB_WAKE), _IOC_NR(DISTWORKER_MAILBOX_BIND),
		_IOC_NR(DISTWORKER_MAILBOX_BIND), _IOC_NR(DISTWORKER_MAILBOX_REARM), _IOC_NR(DISTWORKER_MAILBOX_REARM),
		_IOC_NR(DISTWORKER_MAILBOX_QUERY), _IOC_NR(DISTWORKER_MAILBOX_CREATE), _IOC_NR(DISTWORKER_HUB_SETUP),
		_IOC_NR(DISTWORKER_QUERY),
	};
	static const unsigned int endpoint[] = {
		_IOC_NR(DISTWORKER_ENDPOINT_ATTACH), _IOC_NR(DISTWORKER_ENDPOINT_ATTACH),
		_IOC_NR(DISTWORKER_ENDPOINT_WAIT), _IOC_NR(DISTWORKER_ENDPOINT_WAIT), _IOC_NR(DISTWORKER_ENDPOINT_WAIT),
		_IOC_NR(DISTWORKER_ENDPOINT_WAKE), _IOC_NR(DISTWORKER_ENDPOINT_WAKE),
		_IOC_NR(DISTWORKER_QUERY),
	};

	if (one_in(50))
		return below(NUMBERS);
	/* An owner has endpoints too, and is at times its own peer. */
	if (me.owner ? !one_in(6) : one_in(12))
		return hub[below(sizeof(hub) / sizeof(*hub))];
	if (one_in(60))
		return _IOC_NR(DISTWORKER_ENDPOINT_DETACH);
	return endpoint[below(sizeof(endpoint) / sizeof(*endpoint))];
}

static void do_call(void)
{
	unsigned int number = some_number();

	call(one_in(15) ? fd_any() : fd_of(number < 0x20 ? HUB : ENDPOINT), number);
}

/* ---------------------------------------------------------------- other operations */

static void do_open(void)
{
	int fd = open(DEVICE, (one_in(8) ? O_RDONLY : O_RDWR) | (one_in(4) ? 0 : O_CLOEXEC));
	unsigned int tries;

	if (fd < 0)
		return;
	for (tries = below(10); tries; tries--)
		if (call(fd, _IOC_NR(DISTWORKER_HUB_SETUP)) == 0)
			break;
	fd_add(fd, HUB);
}

static void do_map(void)
{
	int protection = PICK(PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
			      PROT_READ | PROT_WRITE | PROT_EXEC);
	int flags = PICK(MAP_SHARED, MAP_SHARED, MAP_SHARED, MAP_PRIVATE, MAP_SHARED | MAP_POPULATE);
	size_t bytes = PICK(4096ul, 4096ul, 8192ul, 12288ul, 16384ul, 1ul << 20, 100ul);
	off_t offset = PICK(0l, 0l, 0l, 4096l, 8192l, (long)DISTWORKER_HUB_LINE_OFFSET,
			    (long)DISTWORKER_HUB_LINE_OFFSET + 4096, (long)(any() & 0x7ffffffffffff000));
	char *start = mmap(NULL, bytes, protection, flags, fd_any(), offset);

	if (start == MAP_FAILED)
		return;
	map_add(start, bytes, protection & PROT_WRITE);
}

static void do_unmap(void)
{
	struct map map = map_any(true);

	if (map.start)
		munmap(map.start, map.bytes);
}

static void do_change_mapping(void)
{
	struct map map = map_any(true);
	char *start;

	if (!map.start)
		return;
	switch (below(6)) {
	case 0:		/* split it */
		mprotect(map.start, 4096, PICK(PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE));
		break;
	case 1:
		munmap(map.start, 4096);
		if (map.bytes <= 4096)
			return;
		map.start += 4096;
		map.bytes -= 4096;
		break;
	case 2:
		start = mremap(map.start, map.bytes, PICK(4096ul, map.bytes, map.bytes + 8192), MREMAP_MAYMOVE);
		if (start != MAP_FAILED) {
			map.start = start;
			map.bytes = 4096;
		}
		break;
	case 3:
		madvise(map.start, map.bytes, PICK(MADV_DONTNEED, MADV_DOFORK, MADV_DODUMP, MADV_REMOVE, MADV_HUGEPAGE,
						   MADV_FREE, MADV_WIPEONFORK, MADV_MERGEABLE, MADV_COLD, MADV_PAGEOUT,
						   MADV_POPULATE_READ, MADV_POPULATE_WRITE));
		break;
	case 4:
		if (mlock(map.start, map.bytes) == 0)
			munlock(map.start, map.bytes);
		break;
	case 5:
		msync(map.start, map.bytes, MS_SYNC);
		break;
	}
	map_add(map.start, map.bytes, map.writable);
}

/* Over the words that mean something, or over everything. */
static void do_scribble(void)
{
	struct map map = map_any(false);
	volatile uint32_t *words = (void *)map.start;
	unsigned int i, count = 1 + below(8);

	if (!map.start || map.bytes < 4096)
		return;
	if (sigsetjmp(recover, 1) == 0) {
		touching = 1;
		if (!map.writable) {
			(void)words[below(1024)];
		} else if (one_in(30)) {
			for (i = 0; i < 1024; i++)
				words[i] = any();
		} else {
			while (count--) {
				i = below(map.bytes / 4096) * 1024 + (one_in(4) ? below(1024) : PICK(0u, 1u, 2u, 16u, 17u, 32u));
				words[i] = one_in(3) ? odd_u32() : words[i] + 1;
			}
		}
	}
	touching = 0;
}

static void do_poll(void)
{
	struct pollfd fds[4];
	unsigned int i, count = 1 + below(4);

	for (i = 0; i < count; i++)
		fds[i] = (struct pollfd){ fd_any(), PICK(POLLIN, POLLIN | POLLPRI, POLLOUT, -1), 0 };
	poll(fds, count, below(4));
}

static void do_epoll(void)
{
	struct epoll_event events[4], event = {
		.events = EPOLLIN | PICK(0u, (unsigned int)EPOLLPRI, (unsigned int)EPOLLET, (unsigned int)EPOLLONESHOT),
	};
	int fd = fd_any();

	if (me.epoll < 0)
		me.epoll = epoll_create1(EPOLL_CLOEXEC);
	switch (below(4)) {
	case 0: epoll_ctl(me.epoll, EPOLL_CTL_ADD, fd, &event); break;
	case 1: epoll_ctl(me.epoll, EPOLL_CTL_DEL, fd, &event); break;
	case 2: epoll_ctl(me.epoll, EPOLL_CTL_MOD, fd, &event); break;
	case 3: epoll_wait(me.epoll, events, 4, below(4)); break;
	}
}

/* A poll by io_uring on any fd, its cancellation, or the reaping of what is there; never waited for. */
static void do_ring(void)
{
	struct io_uring_params *p = &me.ring_params;
	struct io_uring_sqe *sqe;
	uint32_t *tail, *head, *array, mask;

	if (me.ring == -2 || !main_thread)
		return;
	if (me.ring < 0) {
		memset(p, 0, sizeof(*p));
		me.ring = syscall(SYS_io_uring_setup, 8, p);
		if (me.ring < 0) {
			me.ring = -2;
			return;
		}
		fcntl(me.ring, F_SETFD, FD_CLOEXEC);
		me.ring_sq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, me.ring, IORING_OFF_SQ_RING);
		me.ring_sqes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, me.ring, IORING_OFF_SQES);
		if (me.ring_sq == MAP_FAILED || me.ring_sqes == MAP_FAILED) {
			close(me.ring);
			me.ring = -2;
			return;
		}
	}
	if (one_in(50)) {
		munmap(me.ring_sq, 4096);
		munmap(me.ring_sqes, 4096);
		close(me.ring);
		me.ring = -1;
		return;
	}
	/* The completion ring lies behind the submission ring in the same mapping: all of it is seen at once. */
	head = (uint32_t *)((char *)me.ring_sq + p->cq_off.head);
	*head = *(volatile uint32_t *)((char *)me.ring_sq + p->cq_off.tail);
	tail = (uint32_t *)((char *)me.ring_sq + p->sq_off.tail);
	mask = *(uint32_t *)((char *)me.ring_sq + p->sq_off.ring_mask);
	array = (uint32_t *)((char *)me.ring_sq + p->sq_off.array);
	sqe = (struct io_uring_sqe *)me.ring_sqes + (*tail & mask);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = one_in(4) ? IORING_OP_POLL_REMOVE : IORING_OP_POLL_ADD;
	sqe->fd = sqe->opcode == IORING_OP_POLL_ADD ? fd_any() : -1;
	sqe->poll32_events = POLLIN | POLLPRI;
	sqe->len = sqe->opcode == IORING_OP_POLL_ADD && one_in(2) ? IORING_POLL_ADD_MULTI : 0;
	sqe->user_data = below(4);
	if (sqe->opcode == IORING_OP_POLL_REMOVE)
		sqe->addr = below(4);
	array[*tail & mask] = *tail & mask;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	syscall(SYS_io_uring_enter, me.ring, 1, 0, 0, NULL, 0);
}

static void read_some(const char *path)
{
	char text[512];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while (read(fd, text, sizeof(text)) > 0 && !one_in(20))
		;
	close(fd);
}

static void do_look(void)
{
	char path[64];

	if (one_in(4)) {
		read_some("/sys/kernel/debug/distworker/hubs");
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", one_in(3) ? atomic_load(&family->pids[below(32)]) : getpid(), fd_any());
	read_some(path);
}

/* Another process reads or writes through what this one has mapped. */
static void do_reach_over(void)
{
	struct map map = map_any(false);
	char bytes[64] = { 0 };
	struct iovec mine = { bytes, sizeof(bytes) }, theirs = { map.start, sizeof(bytes) };
	pid_t pid = atomic_load(&family->pids[below(32)]);

	if (pid <= 1 || !map.start)
		return;
	if (one_in(2))
		process_vm_readv(pid, &mine, 1, &theirs, 1, 0);
	else
		process_vm_writev(pid, &mine, 1, &theirs, 1, 0);
}

static void do_signal(void)
{
	pid_t pid = atomic_load(&family->pids[below(32)]);

	/* It may be long dead, and somebody else have its number. */
	if (pid <= 1 || getpgid(pid) != getpgrp())
		return;
	if (one_in(8)) {
		atomic_fetch_add(&shared->kills, 1);
		kill(pid, PICK(SIGKILL, SIGKILL, SIGTERM, SIGSEGV));
	} else if (one_in(10)) {
		kill(pid, SIGSTOP);
		usleep(below(2000));
		kill(pid, SIGCONT);
	} else {
		kill(pid, SIGUSR1);
	}
}

static void do_dup(void)
{
	int fd = dup(fd_any());

	if (fd >= 0)
		fd_add(fd, FOREIGN);
}

/* To whoever of the family takes it: fds arrive in processes that had no right to them from birth. */
static int mail[2] = { -1, -1 };

static void do_mail(void)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd = fd_any();

	if (one_in(2) && fd >= 0) {
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(int));
		sendmsg(mail[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (recvmsg(mail[1], &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0) {
		header = CMSG_FIRSTHDR(&message);
		if (header && header->cmsg_type == SCM_RIGHTS) {
			memcpy(&fd, CMSG_DATA(header), sizeof(int));
			fd_add(fd, one_in(2) ? ENDPOINT : FOREIGN);
		}
	}
}

/* ---------------------------------------------------------------- processes and threads */

static void live(unsigned int operations);
static void peer_fork(void);

static void process_begin(uint64_t stream)
{
	unsigned int i;

	me.parent = getppid();
	me.peer_count = 0;
	main_thread = true;
	atomic_store(&threads_started, 0);
	/* Maps are not inherited, and what is in the table was the parent's. */
	me.map_count = 0;
	for (i = 0; i < (unsigned int)me.fd_count; i++)
		me.kinds[i] = FOREIGN;
	if (me.ring >= 0)
		close(me.ring);
	me.ring = -1;
	if (me.epoll >= 0 && one_in(2)) {
		close(me.epoll);
		me.epoll = -1;
	}
	pthread_mutex_init(&tables, NULL);
	thread_begin(stream);
	atomic_fetch_add(&shared->processes, 1);
	i = below(32);
	atomic_store(&family->pids[i], getpid());
	/* Ends waits without a deadline. */
	setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 10000 + below(40000) }, { 0, 10000 } }, NULL);
}

static void process_end(void)
{
	char *argv[] = { "ioctl_fuzz", "--heir", NULL };

	coverage_take();
	switch (below(8)) {
	case 0:
		raise(SIGKILL);
		break;
	case 1:
		abort();
	case 2:
		execv("/proc/self/exe", argv);
		break;
	case 3:		/* the fds first, the mappings go with the process */
		while (me.fd_count)
			close(me.fds[--me.fd_count]);
		break;
	case 4:
		while (me.map_count)
			do_unmap();
		break;
	}
	_exit(below(256));
}

/* What has got our fds over exec: it owns nothing, and must be told so. */
static int heir(void)
{
	int fd;

	random_state = mix(getpid());
	for (fd = 3; fd < 40; fd++) {
		struct distworker_endpoint_attach attach = { .size = sizeof(attach) };
		struct distworker_mailbox_query query = { .size = sizeof(query) };

		if (ioctl(fd, DISTWORKER_MAILBOX_QUERY, &query) == 0)
			return 3;
		ioctl(fd, DISTWORKER_ENDPOINT_ATTACH, &attach);
		mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	}
	return 0;
}

static void do_fork(void)
{
	uint64_t stream = any();
	pid_t pid;

	if (me.peer_count >= MAX_PEERS)
		return;
	pid = fork();
	if (pid == 0) {
		me.owner = one_in(8);
		process_begin(stream);
		live(50 + below(400));
		process_end();
	}
	if (pid > 0) {
		me.indices[me.peer_count] = below(4);
		me.peers[me.peer_count++] = pid;
	}
}

/* A child in the same address space, as vfork and posix_spawn make one. */
static int shared_child(void *argument)
{
	unsigned int i;

	(void)argument;
	for (i = 0; i < 8; i++)
		call(fd_any(), some_number());
	_exit(0);
}

static void do_vfork(void)
{
	static _Thread_local char stack[65536] __attribute__((aligned(16)));
	int saved = faults;
	pid_t pid;

	faults = -1;
	pid = clone(shared_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	faults = saved;
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void reap(void)
{
	unsigned int i;

	for (i = 0; i < me.peer_count; i++)
		if (waitpid(me.peers[i], NULL, WNOHANG) != 0) {
			me.indices[i] = me.indices[--me.peer_count];
			me.peers[i--] = me.peers[me.peer_count];
		}
}

/* A peer may come back: it has its endpoint still. */
static void rebind(void)
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind) };
	unsigned int i = below(me.peer_count);
	int hub = fd_of(HUB);

	if (!me.peer_count)
		return;
	bind.index = me.indices[i];
	ioctl(hub, DISTWORKER_MAILBOX_REARM, &bind);
	bind.pid = me.peers[i];
	ioctl(hub, DISTWORKER_MAILBOX_BIND, &bind);
}

/* As the library does it: create, fork, bind, attach, map. */
static void peer_fork(void)
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind), .index = below(4) };
	struct distworker_mailbox_create create = { .size = sizeof(create), .index = bind.index, .fd = -1 };
	uint64_t stream = any();
	int hub = fd_of(HUB), i, go[2];
	char byte = 0;
	pid_t pid;

	if (me.peer_count >= MAX_PEERS || ioctl(hub, DISTWORKER_MAILBOX_CREATE, &create))
		return;
	if (pipe2(go, O_CLOEXEC)) {
		close(create.fd);
		return;
	}
	pid = fork();
	if (pid == 0) {
		struct distworker_endpoint_attach attach = { .size = sizeof(attach) };
		char *map;

		close(go[1]);
		process_begin(stream);
		if (!one_in(4)) {
			for (i = 0; i < me.fd_count; i++)
				close(me.fds[i]);
			me.fd_count = 0;
		}
		me.owner = false;
		fd_add(create.fd, ENDPOINT);
		if (read(go[0], &byte, 1) == 1 && ioctl(create.fd, DISTWORKER_ENDPOINT_ATTACH, &attach) == 0) {
			map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, create.fd, 0);
			if (map != MAP_FAILED)
				map_add(map, 4096, true);
		}
		live(100 + below(4000));
		process_end();
	}
	bind.pid = pid;
	if (pid > 0) {
		me.indices[me.peer_count] = bind.index;
		me.peers[me.peer_count++] = pid;
		ioctl(hub, DISTWORKER_MAILBOX_REARM, &(struct distworker_mailbox_bind){ .size = sizeof(bind), .index = bind.index });
		ioctl(hub, DISTWORKER_MAILBOX_BIND, &bind);
	}
	close(go[0]);
	/* A child that is dead already does not read it. */
	(void)!write(go[1], &byte, 1);
	close(go[1]);
	if (one_in(3))
		fd_add(create.fd, ENDPOINT);
	else
		close(create.fd);
}

static void *thread(void *argument)
{
	main_thread = false;
	thread_begin((uintptr_t)argument);
	atomic_fetch_add(&shared->threads, 1);
	live(100 + below(1000));
	coverage_take();
	if (coverage)
		munmap(coverage, KCOV_ENTRIES * sizeof(long));
	if (faults >= 0)
		close(faults);
	if (arena)
		munmap(arena, ARENA_BYTES + 4096);
	return NULL;
}

static void do_thread(void)
{
	pthread_attr_t attributes;
	pthread_t id;

	if (atomic_fetch_add(&threads_started, 1) >= 6)
		return;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 256 << 10);
	pthread_create(&id, &attributes, thread, (void *)(uintptr_t)any());
	pthread_attr_destroy(&attributes);
}

/* ---------------------------------------------------------------- what a process does */

static const struct operation {
	void (*run)(void);
	unsigned int weight;
	bool owner_only;
} operations[] = {
	{ do_call, 60, false },
	{ do_scribble, 20, false },
	{ do_map, 6, false },
	{ do_unmap, 3, false },
	{ do_change_mapping, 4, false },
	{ do_poll, 5, false },
	{ do_epoll, 5, false },
	{ do_ring, 5, false },
	{ do_signal, 3, false },
	{ do_look, 2, false },
	{ do_reach_over, 1, false },
	{ do_dup, 1, false },
	{ do_mail, 2, false },
	{ fd_close_any, 1, false },
	{ do_thread, 1, false },
	{ do_fork, 1, false },
	{ do_vfork, 1, false },
	{ peer_fork, 6, true },
	{ rebind, 8, true },
	{ do_open, 2, true },
};

static void operate(void)
{
	static unsigned int total;
	unsigned int i, at;
	bool armed = false;

	if (!total)
		for (i = 0; i < sizeof(operations) / sizeof(*operations); i++)
			total += operations[i].weight;
	at = below(total);
	for (i = 0; at >= operations[i].weight; i++)
		at -= operations[i].weight;
	if (operations[i].owner_only && !me.owner)
		i = 0;
	/* Not across a fork: the counter is this thread's, and so is the file that it is set by. */
	if (faults >= 0 && one_in(15) && operations[i].run != do_fork && operations[i].run != peer_fork &&
	    operations[i].run != do_thread && operations[i].run != do_vfork) {
		faults_arm(faults, 1 + below(one_in(2) ? 4 : 40));
		armed = true;
	}
	operations[i].run();
	if (armed && faults_disarm(faults))
		atomic_fetch_add_explicit(&shared->faults, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&shared->operations, 1, memory_order_relaxed);
}

/* Has it still something that a call can succeed on? Some go on without for a while. */
static bool useful(void)
{
	if (me.owner) {
		if (!fd_is_there(HUB))
			do_open();
		return true;
	}
	return (fd_is_there(ENDPOINT) && getppid() == me.parent) || !one_in(3);
}

static void live(unsigned int count)
{
	while (count-- && !atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
		operate();
		if (count % 16 == 0)
			coverage_take();
		if (count % 64 == 0)
			reap();
		if (count % 32 == 0 && !useful())
			break;
	}
}

static void owner_live(uint64_t stream)
{
	unsigned int i;

	setpgid(0, 0);
	me.epoll = me.ring = -1;
	me.owner = true;
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, mail))
		_exit(2);
	process_begin(stream);
	/* At times without root's rights, and then with limits. */
	if (one_in(4)) {
		int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

		if (setgid(1000) == 0 && setuid(1000) == 0)
			prctl(PR_SET_DUMPABLE, 1);
		call(fd, _IOC_NR(DISTWORKER_HUB_SETUP));
		fd_add(fd, HUB);
	} else {
		for (i = 1 + below(MAX_HUBS); i; i--)
			do_open();
	}
	/* An owner lives longer than most of its peers. */
	live(500 + below(20000));
	process_end();
}

/* ---------------------------------------------------------------- the one that watches */

static void set_handlers(void)
{
	struct sigaction fault = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	struct sigaction signal = { .sa_handler = on_signal };

	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGBUS, &fault, NULL);
	sigaction(SIGUSR1, &signal, NULL);
	sigaction(SIGALRM, &signal, NULL);
}

static long number_in(const char *path)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (read(fd, text, sizeof(text) - 1) <= 0)
		text[0] = 0;
	close(fd);
	return strtol(text, NULL, 0);
}

/* Where the module lies: what KCOV reports is at or behind it. */
static void find_module(void)
{
	char line[512], name[64];
	unsigned long start;
	FILE *file = fopen("/proc/modules", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%63s %*u %*s %*s %*s %lx", name, &start) == 2 && !strcmp(name, "distworker"))
			module_start = start;
	if (file)
		fclose(file);
}

static unsigned int tests, failed;

static void verdict(bool good, const char *name)
{
	tests++;
	failed += !good;
	printf("%sok %u %s\n", good ? "" : "not ", tests, name);
	fflush(stdout);
}

/* Every process of the families; those whose parents died have become ours. */
static bool end_families(const pid_t *groups)
{
	uint64_t until = now_ns() + 30 * NSEC_PER_SEC;
	unsigned int i;
	pid_t pid;

	do {
		for (i = 0; i < families; i++)
			if (groups[i] > 0) {
				kill(-groups[i], SIGKILL);
				kill(-groups[i], SIGCONT);
			}
		pid = waitpid(-1, NULL, WNOHANG);
		if (pid < 0 && errno == ECHILD)
			return true;
		if (pid == 0)
			usleep(1000);
	} while (now_ns() < until);
	return false;
}

static void say_coverage(const char *path)
{
	unsigned int i, count = 0;
	FILE *file = path ? fopen(path, "we") : NULL;

	for (i = 0; i < MAX_PC_OFFSET; i++) {
		if (atomic_load(&shared->reached[i / 64]) >> i % 64 & 1) {
			count++;
			if (file)
				fprintf(file, "%#x\n", i);
		}
	}
	if (file)
		fclose(file);
	printf("# coverage: %u places of the module were reached\n", count);
}

static void say_counts(void)
{
	static const struct { unsigned int number; const char *name; } names[] = {
		{ 0x10, "query" }, { 0x11, "hub_setup" }, { 0x12, "mailbox_create" }, { 0x13, "mailbox_bind" },
		{ 0x14, "mailbox_rearm" }, { 0x15, "mailbox_query" }, { 0x16, "hub_wait" }, { 0x17, "hub_wake" },
		{ 0x20, "endpoint_attach" }, { 0x21, "endpoint_wait" }, { 0x22, "endpoint_wake" }, { 0x23, "endpoint_detach" },
	};
	unsigned int i;

	printf("# seed %llu: %lu operations, %lu processes, %lu threads, %lu kills, %lu signals, %lu injected faults\n",
	       (unsigned long long)seed, shared->operations, shared->processes, shared->threads, shared->kills,
	       shared->signals, shared->faults);
	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		printf("# %-16s %8lu done %8lu refused\n", names[i].name, shared->calls[names[i].number][DONE],
		       shared->calls[names[i].number][FAILED]);
	printf("# errors:");
	for (i = 0; i < 200; i++)
		if (shared->errors[i])
			printf(" %s %lu", strerrorname_np(i) ? strerrorname_np(i) : "?", shared->errors[i]);
	printf("\n");
}

/* Every call that can succeed has done so: a fuzzer whose calls all fail looks just as clean. */
static bool reached_all(void)
{
	static const unsigned int numbers[] = {
		0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x20, 0x21, 0x22, 0x23,
	};
	unsigned int i;
	bool all = true;

	for (i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		if (!shared->calls[numbers[i]][DONE]) {
			printf("# ioctl %#x has never succeeded\n", numbers[i]);
			all = false;
		}
	}
	return all;
}

static int usage(void)
{
	fprintf(stderr, "usage: ioctl_fuzz [--seed N] [--seconds N] [--families N] [--pcs FILE]\n");
	return 2;
}

int main(int argc, char **argv)
{
	pid_t groups[MAX_FAMILIES] = { 0 };
	unsigned int lives[MAX_FAMILIES] = { 0 };
	uint64_t born[MAX_FAMILIES] = { 0 };
	struct rlimit files = { 1024, 1024 };
	const char *pcs = NULL;
	uint64_t until;
	unsigned int i;
	bool clean;
	int fd;

	for (i = 1; i < (unsigned int)argc; i++) {
		const char *value = i + 1 < (unsigned int)argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--heir"))
			return heir();
		if (!strcmp(argv[i], "--seed"))
			seed = strtoull(value, NULL, 0);
		else if (!strcmp(argv[i], "--seconds"))
			seconds = atoi(value);
		else if (!strcmp(argv[i], "--families"))
			families = atoi(value);
		else if (!strcmp(argv[i], "--pcs"))
			pcs = value;
		else
			return usage();
		i++;
	}
	if (families < 1 || families > MAX_FAMILIES)
		families = 3;
	printf("TAP version 13\n");
	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		printf("1..0 # SKIP " DEVICE ": %s\n0 passed, 0 failed, 1 skipped\n", strerror(errno));
		return 4;
	}
	close(fd);
	printf("1..4\n");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	family = mmap(NULL, MAX_FAMILIES * sizeof(*family), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || family == MAP_FAILED)
		return 2;
	fd = faults_open();
	have_faults = fd >= 0;
	if (have_faults) {
		close(fd);
		faults_prepare();
	}
	find_module();
	set_handlers();
	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fflush(stdout);

	until = now_ns() + seconds * NSEC_PER_SEC;
	while (now_ns() < until) {
		pid_t pid;

		for (i = 0; i < families; i++) {
			uint64_t stream = (uint64_t)i << 32 | lives[i];

			/* One that was stopped, and whose stopper is dead, would stay so. */
			if (groups[i] > 0 && kill(groups[i], 0) == 0 && now_ns() - born[i] < 8 * NSEC_PER_SEC)
				continue;
			/* What the last life has left in its group goes on for a moment, without an owner. */
			if (groups[i] > 0) {
				usleep(PICK(0, 0, 2000, 50000));
				kill(-groups[i], SIGKILL);
			}
			lives[i]++;
			born[i] = now_ns();
			pid = fork();
			if (pid == 0) {
				family += i;
				owner_live(stream);
			}
			groups[i] = pid;
		}
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		usleep(5000);
	}
	atomic_store(&shared->stop, true);
	usleep(200000);
	clean = end_families(groups);

	say_counts();
	if (!access("/sys/kernel/debug/kcov", F_OK))
		say_coverage(pcs);
	verdict(!shared->broken, "every_call_keeps_its_promises");
	verdict(reached_all(), "every_call_has_succeeded_at_times");
	verdict(clean, "every_process_can_be_killed");
	/* What was sent over a socket, or polled by io_uring, goes a moment later. */
	until = now_ns() + 20 * NSEC_PER_SEC;
	while (number_in("/sys/module/distworker/refcnt") > 0 && now_ns() < until)
		usleep(10000);
	verdict(number_in("/sys/module/distworker/refcnt") <= 0, "nothing_holds_the_module_when_all_are_dead");
	printf("%u passed, %u failed, 0 skipped\n", tests - failed, failed);
	return failed != 0;
}
