// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Blocked hand-overs on one CPU, counted in guest instructions (-icount: 1 ns of guest
 * time is one instruction): round trips by the module's calls, by the library's mailbox over
 * them, and by bare ways, and waking 32 sleepers. Runs in the guest: guest [--repeats N]. What the
 * kernel lacks (futex_waitv of 5.16, io_uring's futexes of 6.7) is left out.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <linux/distworker.h>
#include "mailbox/mailbox.h"
#include "mailbox/ring.h"
#include "bench.h"
#include "uring.h"

#define TRIPS 200
#define WARM_TRIPS 20
#define WARM_YIELDS 2000
#define BATCHES 30
#define SLEEPERS 32

struct shared {
	struct {
		_Alignas(64) _Atomic uint32_t word;
	} ping[SLEEPERS], pong;
	_Alignas(64) _Atomic uint32_t go;
};
static struct shared *shared;

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static void check(long result, const char *what)
{
	if (result < 0)
		die(what);
}

/* ------------------------------------------------------------------- module */

static int hub_fd, endpoint_fds[SLEEPERS];
static unsigned char *hub_map;
static struct distworker_hub_setup setup;

static struct distworker_mailbox *mailbox(unsigned i)
{
	return (void *)(hub_map + setup.mailbox_offset + (size_t)i * setup.mailbox_bytes +
			i % setup.header_slots * setup.header_step);
}

static uint32_t *seen(unsigned i)
{
	return (uint32_t *)(hub_map + setup.state_offset +
			    offsetof(struct distworker_hub_state, seen)) +
	       i;
}

static void open_hub(unsigned mailboxes)
{
	hub_fd = open("/dev/distworker", O_RDWR | O_CLOEXEC);
	check(hub_fd, "/dev/distworker");
	setup = (struct distworker_hub_setup){
		.size = sizeof(setup), .mailboxes = mailboxes, .mailbox_bytes = 4096,
	};
	check(ioctl(hub_fd, DISTWORKER_HUB_SETUP, &setup), "HUB_SETUP");
	hub_map = mmap(NULL, setup.mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, hub_fd, 0);
	if (hub_map == MAP_FAILED)
		die("mmap");
	for (unsigned i = 0; i < mailboxes; i++) {
		struct distworker_mailbox_create create = { .size = sizeof(create), .index = i };

		check(ioctl(hub_fd, DISTWORKER_MAILBOX_CREATE, &create), "MAILBOX_CREATE");
		endpoint_fds[i] = create.fd;
	}
}

static void close_hub(unsigned mailboxes)
{
	munmap(hub_map, setup.mapping_bytes);
	for (unsigned i = 0; i < mailboxes; i++)
		close(endpoint_fds[i]);
	close(hub_fd);
}

static void open_module(void)
{
	open_hub(1);
}

static void close_module(void)
{
	close_hub(1);
}

/* Answers each frame; `answers` false: only sleeps again. */
static void module_child(unsigned i, bool answers)
{
	struct distworker_endpoint_attach attach = { .size = sizeof(attach) };
	struct distworker_endpoint_wait wait = {
		.size = sizeof(wait), .deadline_ns = DISTWORKER_NO_DEADLINE,
		.flags = answers ? DISTWORKER_WAIT_WAKE : 0,
	};
	struct distworker_mailbox *box;
	unsigned char *memory;

	while (!atomic_load(&shared->go))
		usleep(1000);
	check(ioctl(endpoint_fds[i], DISTWORKER_ENDPOINT_ATTACH, &attach), "ATTACH");
	memory = mmap(NULL, attach.mailbox_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		      endpoint_fds[i], 0);
	if (memory == MAP_FAILED)
		die("mmap");
	box = (void *)(memory + attach.header_offset);
	for (;;) {
		uint32_t post = __atomic_load_n(&box->post, __ATOMIC_ACQUIRE);

		if (post != wait.seen && answers)
			__atomic_store_n(&box->done, post, __ATOMIC_SEQ_CST);
		wait.seen = post;
		if (ioctl(endpoint_fds[i], DISTWORKER_ENDPOINT_WAIT, &wait) < 0)
			_exit(0);
	}
}

static void post(unsigned i)
{
	__atomic_fetch_add(&mailbox(i)->post, 1, __ATOMIC_SEQ_CST);
}

static void module_trip(void)
{
	uint64_t mask = 1;
	struct distworker_hub_wait wait = {
		.size = sizeof(wait), .flags = DISTWORKER_WAIT_WAKE,
		.deadline_ns = DISTWORKER_NO_DEADLINE, .wake_mask = (uintptr_t)&mask,
		.watch_mask = (uintptr_t)&mask, .mask_words = 1,
	};

	post(0);
	while (__atomic_load_n(&mailbox(0)->done, __ATOMIC_ACQUIRE) != mailbox(0)->post)
		check(ioctl(hub_fd, DISTWORKER_HUB_WAIT, &wait), "HUB_WAIT");
	*seen(0) = mailbox(0)->done;
}

static void bind_peer(unsigned i, pid_t pid)
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind), .index = i, .pid = pid };

	check(ioctl(hub_fd, DISTWORKER_MAILBOX_BIND, &bind), "BIND");
}

/* ------------------------------------------------------ library's mailbox */

static struct hub *hub;

static void check_library(int error, const char *what)
{
	if (error) {
		fprintf(stderr, "guest: %s: %s\n", what, dw_strerror_last());
		exit(1);
	}
}

static void open_library(void)
{
	struct hub_options options = {
		.provider = DW_PROVIDER_KERNEL, .mailboxes = 1, .depth = 64, .frame_bytes = 512,
	};

	check_library(hub_create(&options, &hub), "hub_create");
}

static void close_library(void)
{
	hub_destroy(hub);
}

static void library_child(unsigned i, bool answers)
{
	struct endpoint *endpoint;
	uint32_t number;

	(void)answers;
	while (!atomic_load(&shared->go))
		usleep(1000);
	check_library(endpoint_attach(hub, i, &endpoint), "endpoint_attach");
	do
		while (endpoint_next(endpoint, &number))
			endpoint_complete(endpoint, number, 0, NULL, 0, 0);
	while (!endpoint_wait(endpoint));
}

static void bind_library(unsigned i, pid_t pid)
{
	check_library(hub_bind(hub, i, pid), "hub_bind");
}

static void library_trip(void)
{
	struct completion completion;
	struct frame *frame;
	uint32_t number;
	int result;

	hub_drive_begin(hub);
	frame = hub_acquire(hub, 0, 0, &number);
	if (!frame)
		die("full ring");
	frame->kind = FRAME_TASK;
	frame->task = 0;
	frame->args = 0;
	frame->args_bytes = 0;
	if (hub_publish(hub, 0))
		hub_mark_wake(hub, 0);
	while (!(result = hub_harvest(hub, 0, &completion, NULL)))
		hub_wait(hub, DISTWORKER_NO_DEADLINE);
	check_library(result < 0 ? result : 0, "hub_harvest");
	hub_drive_end(hub);
}

/* --------------------------------------------------------------- bare ways */

static void futex_until_not(_Atomic uint32_t *word, uint32_t value)
{
	while (atomic_load(word) == value)
		syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void futex_add(_Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_child(unsigned i, bool answers)
{
	for (uint32_t seen_value = 0;; seen_value++) {
		futex_until_not(&shared->ping[i].word, seen_value);
		if (answers)
			futex_add(&shared->pong.word);
	}
}

static void futex_trip(void)
{
	uint32_t before = atomic_load(&shared->pong.word);

	futex_add(&shared->ping[0].word);
	futex_until_not(&shared->pong.word, before);
}

/* One call waits for up to 128 words; here for one. */
static void waitv_until_not(_Atomic uint32_t *word, uint32_t value)
{
	struct futex_waitv waiter = {
		.val = value, .uaddr = (uintptr_t)word, .flags = FUTEX_32,
	};

	while (atomic_load(word) == value)
		if (syscall(SYS_futex_waitv, &waiter, 1, 0, NULL, 0) < 0 && errno != EAGAIN)
			die("futex_waitv");
}

static void waitv_child(unsigned i, bool answers)
{
	(void)answers;
	for (uint32_t seen_value = 0;; seen_value++) {
		waitv_until_not(&shared->ping[i].word, seen_value);
		futex_add(&shared->pong.word);
	}
}

static void waitv_trip(void)
{
	uint32_t before = atomic_load(&shared->pong.word);

	futex_add(&shared->ping[0].word);
	waitv_until_not(&shared->pong.word, before);
}

static bool has_waitv(void)
{
	return syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) == 0 || errno != ENOSYS;
}

static struct uring ring;

static void open_ring(void)
{
	if (uring_open(&ring))
		die("io_uring_setup");
}

static void close_ring(void)
{
	uring_close(&ring);
}

/* Wakes the other and waits for it, in one call. */
static void ring_hand_over(_Atomic uint32_t *to, _Atomic uint32_t *from, uint32_t value)
{
	atomic_fetch_add(to, 1);
	uring_wake(&ring, to);
	do {
		uring_wait(&ring, from, value);
		if (uring_run(&ring) < 0)
			die("io_uring_enter");
	} while (atomic_load(from) == value);
}

static void ring_child(unsigned i, bool answers)
{
	(void)answers;
	open_ring();
	futex_until_not(&shared->ping[i].word, 0);
	for (uint32_t seen_value = 1;; seen_value++)
		ring_hand_over(&shared->pong.word, &shared->ping[i].word, seen_value);
}

static void ring_trip(void)
{
	ring_hand_over(&shared->ping[0].word, &shared->pong.word,
		       atomic_load(&shared->pong.word));
}

static int fds[2][2];

static void fd_child(unsigned i, bool answers)
{
	uint64_t value;

	(void)i, (void)answers;
	while (read(fds[0][0], &value, 8) == 8)
		if (write(fds[1][1], &value, 8) != 8)
			break;
	_exit(0);
}

static void fd_trip(void)
{
	uint64_t value = 1;

	if (write(fds[0][1], &value, 8) != 8 || read(fds[1][0], &value, 8) != 8)
		die("descriptor");
}

static void open_eventfds(void)
{
	for (int i = 0; i < 2; i++)
		fds[i][0] = fds[i][1] = eventfd(0, 0);
}

static void open_pipes(void)
{
	if (pipe(fds[0]) || pipe(fds[1]))
		die("pipe");
}

static void open_sockets(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	fds[0][1] = fds[1][0] = pair[0];
	fds[0][0] = fds[1][1] = pair[1];
}

static void close_fds(void)
{
	/* Some of the four are the same. */
	for (int i = 0; i < 4; i++)
		close(fds[i / 2][i % 2]);
}

/* The floor: two context switches and nothing else. */
static void yield_child(unsigned i, bool answers)
{
	(void)i, (void)answers;
	for (;;)
		sched_yield();
}

static void yield_trip(void)
{
	sched_yield();
}

/* ---------------------------------------------------------------- measuring */

static const struct way {
	const char *name;
	void (*open)(void);
	void (*child)(unsigned i, bool answers);
	void (*trip)(void);
	void (*bind)(unsigned i, pid_t pid);
	void (*close)(void);
	bool (*works)(void);		/* NULL: everywhere */
} ways[] = {
	{ "yield", NULL, yield_child, yield_trip, NULL, NULL, NULL },
	{ "module", open_module, module_child, module_trip, bind_peer, close_module, NULL },
	{ "futex", NULL, futex_child, futex_trip, NULL, NULL, NULL },
	{ "library", open_library, library_child, library_trip, bind_library, close_library, NULL },
	{ "eventfd", open_eventfds, fd_child, fd_trip, NULL, close_fds, NULL },
	{ "pipe", open_pipes, fd_child, fd_trip, NULL, close_fds, NULL },
	{ "socket", open_sockets, fd_child, fd_trip, NULL, close_fds, NULL },
	{ "waitv", NULL, waitv_child, waitv_trip, NULL, NULL, has_waitv },
	{ "uring", open_ring, ring_child, ring_trip, NULL, close_ring, uring_works },
};

static pid_t start(const struct way *way, unsigned i, bool answers)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		way->child(i, answers);
		_exit(0);
	}
	if (way->bind)
		way->bind(i, pid);
	return pid;
}

/*
 * Wake-ups and preemptions settle into one of several patterns, whose costs differ by
 * half. Each batch begins as waits do, after both sides have slept; the mean is taken over many.
 */
static double trip_instructions(const struct way *way, double *worst)
{
	bool yields = way->trip == yield_trip;
	double result = 0;
	uint64_t begin;
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	if (way->open)
		way->open();
	pid = start(way, 0, true);
	atomic_store(&shared->go, 1);
	usleep(20000);
	for (int batch = 0; batch < BATCHES; batch++) {
		double each;

		if (!yields)
			usleep(10000);
		for (int i = 0; i < (yields ? WARM_YIELDS : WARM_TRIPS); i++)
			way->trip();
		begin = now_ns();
		for (int i = 0; i < TRIPS; i++)
			way->trip();
		each = (double)(now_ns() - begin) / TRIPS;
		if (each > *worst)
			*worst = each;
		result += each / BATCHES;
	}
	end_process(pid);
	if (way->close)
		way->close();
	/* If the scheduler continued the same process, the yield was no switch. */
	return yields ? *worst : result;
}

/*
 * All sleepers wait at one word: one call wakes them, and does hardly more than the scheduler must.
 */
static void crowd_child(unsigned i, bool answers)
{
	(void)i, (void)answers;
	for (uint32_t seen_value = 0;; seen_value++)
		futex_until_not(&shared->ping[0].word, seen_value);
}

static const struct way crowd = { "crowd", NULL, crowd_child, NULL, NULL, NULL, NULL };
/* All of the words in one call. */
static const struct way batch = { "uring", NULL, futex_child, NULL, NULL, NULL, NULL };

/*
 * The waker's side alone: no other thread runs before it sleeps. With the module, futexes, the
 * crowd or the batch.
 */
static double wake_instructions(const struct way *way)
{
	bool module = way->bind == bind_peer;
	struct sched_param fifo = { .sched_priority = 50 }, normal = { 0 };
	pid_t pids[SLEEPERS];
	double samples[20];
	uint64_t begin, mask = (1ULL << SLEEPERS) - 1;
	long woken = SLEEPERS;
	struct distworker_hub_wake wake = {
		.size = sizeof(wake), .wake_mask = (uintptr_t)&mask, .mask_words = 1,
	};

	memset(shared, 0, sizeof(*shared));
	if (module)
		open_hub(SLEEPERS);
	if (way == &batch)
		open_ring();
	for (unsigned i = 0; i < SLEEPERS; i++)
		pids[i] = start(way, i, false);
	atomic_store(&shared->go, 1);
	check(sched_setscheduler(0, SCHED_FIFO, &fifo), "SCHED_FIFO");
	for (int k = 0; k < 20; k++) {
		usleep(50000);
		begin = now_ns();
		if (module) {
			for (unsigned i = 0; i < SLEEPERS; i++)
				post(i);
			check(ioctl(hub_fd, DISTWORKER_HUB_WAKE, &wake), "HUB_WAKE");
		} else if (way == &crowd) {
			atomic_fetch_add(&shared->ping[0].word, 1);
			woken = syscall(SYS_futex, &shared->ping[0].word, FUTEX_WAKE, SLEEPERS,
					NULL, NULL, 0);
		} else if (way == &batch) {
			for (unsigned i = 0; i < SLEEPERS; i++) {
				atomic_fetch_add(&shared->ping[i].word, 1);
				uring_wake(&ring, &shared->ping[i].word);
			}
			woken = uring_run(&ring);
		} else {
			for (unsigned i = 0; i < SLEEPERS; i++)
				futex_add(&shared->ping[i].word);
		}
		samples[k] = (double)(now_ns() - begin);
		if (module)
			woken = wake.woken;
		if (woken != SLEEPERS) {
			fprintf(stderr, "guest: %ld of %d slept\n", woken, SLEEPERS);
			exit(1);
		}
	}
	check(sched_setscheduler(0, SCHED_OTHER, &normal), "SCHED_OTHER");
	for (unsigned i = 0; i < SLEEPERS; i++)
		end_process(pids[i]);
	if (module)
		close_hub(SLEEPERS);
	if (way == &batch)
		close_ring();
	return percentile(samples, 20, 0.5);
}

/* Module and futex: rows 1 and 2 of `ways`. Each repeat is a line of its own. */
int main(int argc, char **argv)
{
	size_t repeats = argument(argc, argv, "repeats", 5);

	if (repeats < 1)
		return 2;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		die("mmap");
	usleep(500000);
	for (size_t k = 0; k < repeats; k++) {
		for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
			double worst = 0, trip;

			if (ways[i].works && !ways[i].works())
				continue;
			trip = trip_instructions(&ways[i], &worst);
			printf("trip_%s %.9g\nworst_%s %.9g\n", ways[i].name, trip, ways[i].name,
			       worst);
		}
		for (size_t i = 1; i < 3; i++)
			printf("wake32_%s %.9g\n", ways[i].name, wake_instructions(&ways[i]));
		printf("wake32_crowd %.9g\n", wake_instructions(&crowd));
		if (uring_works())
			printf("wake32_uring %.9g\n", wake_instructions(&batch));
	}
	return 0;
}
