/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shared by the parts of ioctl_fuzz: counters that all processes write, a generator of random
 * numbers for each thread, and the resources of one process. fuzz_thread.c owns these, fuzz_call.c
 * makes the calls, fuzz_operation.c does everything else that a process can do, ioctl_fuzz.c starts
 * families and judges.
 */
#ifndef DISTWORKER_FUZZ_H
#define DISTWORKER_FUZZ_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
#include <unistd.h>

#include <linux/distworker.h>
#include <linux/io_uring.h>

#define DEVICE		"/dev/distworker"
#define NSEC_PER_SEC	1000000000ull
#define BEAT_NS		5000000ull
#define MAX_PEERS	6
#define MAX_FDS		24
#define MAX_MAPS	16

/* Places in the module are counted by their offset from the start of its text. */
#define MAX_PC_OFFSET	(1u << 20)

/* ---------------------------------------------------------------- shared by all processes */

enum outcome { DONE, FAILED, OUTCOMES };

#define NUMBERS 0x40	/* of ioctls */

struct fuzz_shared {
	atomic_ulong operations;
	atomic_ulong calls[NUMBERS][OUTCOMES];
	atomic_ulong errors[200];
	atomic_ulong processes;
	atomic_ulong threads;
	atomic_ulong kills;
	atomic_ulong faults;
	atomic_ulong signals;
	atomic_ulong broken;		/* promises */
	atomic_ulong beats;		/* sleeps of the first process, BEAT_NS each */
	atomic_bool stop;
	/* A bit for each place in the module, by its offset. */
	atomic_ulong reached[MAX_PC_OFFSET / (8 * sizeof(long))];
};

extern struct fuzz_shared *shared;

extern uint64_t seed;
extern unsigned long module_start;
extern bool have_faults;

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* ---------------------------------------------------------------- random */

extern _Thread_local uint64_t random_state;

static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static inline uint64_t any(void)
{
	return random_state = mix(random_state);
}

/* 0 ... n-1 */
static inline unsigned int below(unsigned int n)
{
	return n ? any() % n : 0;
}

static inline bool one_in(unsigned int n)
{
	return below(n) == 0;
}

#define PICK(first, ...) ({								\
	const __typeof__(first) _values[] = { first, __VA_ARGS__ };			\
	_values[below(sizeof(_values) / sizeof(*_values))];				\
})

static inline uint32_t odd_u32(void)
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

/* ---------------------------------------------------------------- one process and its resources */

struct map {
	char *start;
	size_t bytes;
	bool writable;
};

enum kind { HUB, ENDPOINT, FOREIGN, KINDS };	/* inherited hubs are foreign: every call fails */

struct process {
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
};

extern struct process me;

/* The family's processes, for signals: pids may be stale, but no other process is in this group. */
struct family {
	atomic_int pids[32];
};

extern struct family *family;

/* ---------------------------------------------------------------- fuzz_thread.c */

extern _Thread_local int faults;	/* the thread's fail-nth, or -1 */
extern _Thread_local unsigned long *coverage;
extern _Thread_local bool main_thread;
extern _Thread_local sigjmp_buf recover;
extern _Thread_local volatile sig_atomic_t touching;	/* a fault is a miss and goes to recover */
extern pthread_mutex_t tables;

void thread_begin(uint64_t stream);
void thread_end(void);
void coverage_take(void);
void set_handlers(void);
void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));
void touch(void *target, const void *bytes, size_t count);
void fd_add(int fd, enum kind kind);
int fd_of(enum kind kind);
bool fd_is_there(enum kind kind);
int fd_any(void);
void fd_close_any(void);
void map_add(char *start, size_t bytes, bool writable);
struct map map_any(bool take);

/* ---------------------------------------------------------------- fuzz_call.c */

int call(int fd, unsigned int number);
unsigned int some_number(void);
void do_call(void);
void call_in_order(int endpoint);
void arena_free(void);

/* ---------------------------------------------------------------- fuzz_operation.c */

void owner_live(uint64_t stream);
int heir(void);

#endif /* DISTWORKER_FUZZ_H */
