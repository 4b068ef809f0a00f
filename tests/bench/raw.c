// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The mailbox alone, compared with bare ways to hand something over and back, all in one run: round
 * trips, bursts of empty frames, and the wait policy on one CPU, with more children than CPUs, and
 * with busy neighbours.
 *
 * raw [-r repeats] [-n count] [-d depth] [-p futex|kernel] [name…]: medians with least and most.
 * -n: the number of trips, frames or tasks, instead of the row's own.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mailbox/mailbox.h"
#include "mailbox/ring.h"
#include "mailbox/spin.h"

#define MAX_REPEATS 64
#define MAX_CHILDREN 64

static uint32_t depth = 64;
static uint64_t own_count;
static enum dw_provider provider = DW_PROVIDER_AUTO;

/* Shared by a measurement and its children. */
struct shared {
	_Alignas(64) _Atomic uint32_t ping;
	_Alignas(64) _Atomic uint32_t pong;
	_Alignas(64) int fds[2][2];
	uint64_t work_ns;
};
static struct shared *shared;

static void die(const char *what)
{
	fprintf(stderr, "raw: %s: %s; %s\n", what, strerror(errno), dw_strerror_last());
	exit(1);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (cpu >= 0)
		CPU_SET(cpu, &set);
	for (int i = 0; cpu < 0 && i < 2; i++)
		CPU_SET(i, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static pid_t child(void (*run)(uint64_t), uint64_t argument)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(argument);
		_exit(0);
	}
	return pid;
}

static double us(uint64_t ns, uint64_t count)
{
	return (double)ns / 1000.0 / (double)count;
}

static void work(uint64_t ns)
{
	uint64_t end;

	if (!ns)
		return;
	end = now_ns() + ns;
	while (now_ns() < end)
		;
}

/* -------------------------------------------------------------- bare loops */

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

static void futex_child(uint64_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		futex_until_not(&shared->ping, i);
		futex_add(&shared->pong);
	}
}

static double futex_trip(uint64_t count)
{
	pid_t pid = child(futex_child, count);
	uint64_t start = now_ns();

	for (uint32_t i = 0; i < count; i++) {
		futex_add(&shared->ping);
		futex_until_not(&shared->pong, i);
	}
	start = now_ns() - start;
	waitpid(pid, NULL, 0);
	return us(start, count);
}

static void spin_child(uint64_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		while (atomic_load_explicit(&shared->ping, memory_order_acquire) == i)
			cpu_pause();
		atomic_store_explicit(&shared->pong, i + 1, memory_order_release);
	}
}

static double spin_trip(uint64_t count)
{
	pid_t pid = child(spin_child, count);
	uint64_t start = now_ns();

	for (uint32_t i = 0; i < count; i++) {
		atomic_store_explicit(&shared->ping, i + 1, memory_order_release);
		while (atomic_load_explicit(&shared->pong, memory_order_acquire) == i)
			cpu_pause();
	}
	start = now_ns() - start;
	waitpid(pid, NULL, 0);
	return us(start, count);
}

static void move(int from, int to, bool read_first)
{
	uint64_t value = 1;

	for (int i = 0; i < 2; i++)
		if ((i == 0) == read_first ? read(from, &value, 8) != 8 : write(to, &value, 8) != 8)
			die("descriptor");
}

static void fd_child(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		move(shared->fds[0][0], shared->fds[1][1], true);
}

static double fd_trip(uint64_t count)
{
	pid_t pid = child(fd_child, count);
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < count; i++)
		move(shared->fds[1][0], shared->fds[0][1], false);
	start = now_ns() - start;
	waitpid(pid, NULL, 0);
	/* Some of the four are the same. */
	for (int i = 0; i < 4; i++)
		close(shared->fds[i / 2][i % 2]);
	return us(start, count);
}

static double pipe_trip(uint64_t count)
{
	if (pipe(shared->fds[0]) || pipe(shared->fds[1]))
		die("pipe");
	return fd_trip(count);
}

static double eventfd_trip(uint64_t count)
{
	for (int i = 0; i < 2; i++)
		shared->fds[i][0] = shared->fds[i][1] = eventfd(0, 0);
	return fd_trip(count);
}

static double socket_trip(uint64_t count)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	/* The child reads from and writes to one end, the parent the other. */
	shared->fds[0][0] = shared->fds[1][1] = pair[0];
	shared->fds[1][0] = shared->fds[0][1] = pair[1];
	return fd_trip(count);
}

/* ----------------------------------------------------------------- mailbox */

static struct hub *hub;

static void mailbox_child(uint64_t index)
{
	struct endpoint *endpoint;
	struct frame *frame;
	uint32_t number;

	/* The parent binds after the fork. */
	while (atomic_load(&shared->ping) == 0)
		usleep(100);
	if (endpoint_attach(hub, (uint32_t)index, &endpoint))
		die("endpoint_attach");
	for (;;) {
		while ((frame = endpoint_next(endpoint, &number))) {
			uint64_t start = frame->task ? now_ns() : 0;

			work(frame->task);
			endpoint_complete(endpoint, number, 0, NULL, start, start + frame->task);
		}
		if (endpoint_wait(endpoint))
			break;
	}
	endpoint_detach(endpoint);
}

static pid_t children[MAX_CHILDREN];
static uint32_t child_count;

static void open_hub(uint32_t count)
{
	struct hub_options options = {
		.provider = provider, .mailboxes = count, .depth = depth, .frame_bytes = 512,
	};

	if (hub_create(&options, &hub))
		die("hub_create");
	atomic_store(&shared->ping, 0);
	child_count = count;
	for (uint32_t i = 0; i < count; i++) {
		children[i] = child(mailbox_child, i);
		if (hub_bind(hub, i, children[i]))
			die("hub_bind");
	}
	atomic_store(&shared->ping, 1);
	usleep(50000);
}

static bool show_counters;

static void close_hub(void)
{
	struct hub_counters mine;
	struct endpoint_counters theirs;

	for (uint32_t i = 0; i < child_count; i++)
		hub_stop(hub, i);
	for (uint32_t i = 0; i < child_count; i++)
		waitpid(children[i], NULL, 0);
	if (show_counters) {
		hub_counters(hub, &mine);
		hub_peer_counters(hub, 0, &theirs);
		printf("#   parent: wakes %llu woken %llu sleeps %llu won %llu lost %llu; "
		       "child 0: wakes %llu sleeps %llu won %llu lost %llu\n",
		       (unsigned long long)mine.wakes, (unsigned long long)mine.woken,
		       (unsigned long long)mine.sleeps, (unsigned long long)mine.spins_won,
		       (unsigned long long)mine.spins_lost, (unsigned long long)theirs.wakes,
		       (unsigned long long)theirs.sleeps, (unsigned long long)theirs.spins_won,
		       (unsigned long long)theirs.spins_lost);
	}
	hub_destroy(hub);
}

static bool post(uint32_t i, uint64_t ns)
{
	uint32_t number;
	struct frame *frame = hub_acquire(hub, i, 0, &number);

	if (!frame)
		return false;
	frame->kind = FRAME_TASK;
	frame->task = ns;
	frame->args = 0;
	frame->args_bytes = 0;
	return true;
}

static void publish(uint32_t i)
{
	if (hub_publish(hub, i))
		hub_mark_wake(hub, i);
}

/* Harvests everything; returns how many. */
static uint32_t harvest(uint32_t i)
{
	struct completion completion;
	uint32_t count = 0;
	int result;

	while ((result = hub_harvest(hub, i, &completion, NULL)) == 1)
		count++;
	if (result < 0)
		die("hub_harvest");
	return count;
}

static void trips(uint64_t count, uint32_t width)
{
	for (uint64_t k = 0; k < count; k++) {
		uint32_t i = (uint32_t)(k % width);

		post(i, shared->work_ns);
		publish(i);
		while (!harvest(i))
			hub_wait(hub, DISTWORKER_NO_DEADLINE);
	}
}

/* Each frame to the next child. */
static double chain(uint64_t count, uint32_t width)
{
	uint64_t start;

	open_hub(width);
	hub_drive_begin(hub);
	trips(count / 10, width);
	start = now_ns();
	trips(count, width);
	start = now_ns() - start;
	hub_drive_end(hub);
	close_hub();
	return us(start, count);
}

static double mailbox_trip(uint64_t count)
{
	return chain(count, 1);
}

static double mailbox_chain4(uint64_t count)
{
	return chain(count, 4);
}

/* Million frames per second. */
static double burst(uint64_t count, uint32_t width)
{
	uint64_t start, posted = 0, done = 0;

	open_hub(width);
	hub_drive_begin(hub);
	start = now_ns();
	while (done < count) {
		bool any = false;

		for (uint32_t i = 0; i < width; i++) {
			bool some = false;

			done += harvest(i);
			while (posted < count && post(i, shared->work_ns)) {
				posted++;
				some = true;
				/* Lets the peer begin while the rest is written. */
				if (posted % 16 == 0)
					break;
			}
			if (some) {
				publish(i);
				any = true;
			}
		}
		if (any)
			hub_wake(hub);
		else if (done < count)
			hub_wait(hub, DISTWORKER_NO_DEADLINE);
	}
	start = now_ns() - start;
	hub_drive_end(hub);
	close_hub();
	return (double)count * 1000.0 / (double)start;
}

static double burst1(uint64_t count)
{
	return burst(count, 1);
}

static double burst4(uint64_t count)
{
	return burst(count, 4);
}

static double burst16(uint64_t count)
{
	return burst(count, 16);
}

/* CPU time of a parent and its child, µs per task, at one task per millisecond. */
static double cpu_us(void)
{
	struct rusage self, others;

	getrusage(RUSAGE_SELF, &self);
	getrusage(RUSAGE_CHILDREN, &others);
	return (double)(self.ru_utime.tv_sec + self.ru_stime.tv_sec + others.ru_utime.tv_sec +
			others.ru_stime.tv_sec) * 1e6 +
	       (double)(self.ru_utime.tv_usec + self.ru_stime.tv_usec + others.ru_utime.tv_usec +
			others.ru_stime.tv_usec);
}

static void sleep_until(uint64_t ns)
{
	struct timespec at = { .tv_sec = (time_t)(ns / 1000000000),
			       .tv_nsec = (long)(ns % 1000000000) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static double sparse_mailbox(uint64_t count)
{
	double before = cpu_us();
	uint64_t next;

	open_hub(1);
	hub_drive_begin(hub);
	next = now_ns();
	for (uint64_t i = 0; i < count; i++) {
		next += 1000000;
		sleep_until(next);
		trips(1, 1);
	}
	hub_drive_end(hub);
	close_hub();
	return (cpu_us() - before) / (double)count;
}

static double sparse_futex(uint64_t count)
{
	double before = cpu_us();
	pid_t pid = child(futex_child, count);
	uint64_t next = now_ns();

	for (uint32_t i = 0; i < count; i++) {
		next += 1000000;
		sleep_until(next);
		futex_add(&shared->ping);
		futex_until_not(&shared->pong, i);
	}
	waitpid(pid, NULL, 0);
	return (cpu_us() - before) / (double)count;
}

/* ------------------------------------------------------------------- table */

enum setting { QUIET, ONE_CPU, BUSY, WORK_2US };

struct row {
	const char *name;
	double (*measure)(uint64_t count);
	uint64_t count;
	enum setting setting;
	const char *unit;
};

static const struct row rows[] = {
	{ "spin", spin_trip, 1000000, QUIET, "µs/trip" },
	{ "futex", futex_trip, 20000, QUIET, "µs/trip" },
	{ "eventfd", eventfd_trip, 20000, QUIET, "µs/trip" },
	{ "pipe", pipe_trip, 20000, QUIET, "µs/trip" },
	{ "socket", socket_trip, 20000, QUIET, "µs/trip" },
	{ "mailbox", mailbox_trip, 100000, QUIET, "µs/trip" },
	{ "chain4", mailbox_chain4, 20000, QUIET, "µs/trip" },
	{ "futex-1cpu", futex_trip, 50000, ONE_CPU, "µs/trip" },
	{ "eventfd-1cpu", eventfd_trip, 50000, ONE_CPU, "µs/trip" },
	{ "pipe-1cpu", pipe_trip, 50000, ONE_CPU, "µs/trip" },
	{ "socket-1cpu", socket_trip, 50000, ONE_CPU, "µs/trip" },
	{ "mailbox-1cpu", mailbox_trip, 50000, ONE_CPU, "µs/trip" },
	{ "burst1", burst1, 4000000, QUIET, "M/s" },
	{ "burst1-1cpu", burst1, 2000000, ONE_CPU, "M/s" },
	{ "burst4", burst4, 4000000, QUIET, "M/s" },
	{ "burst16", burst16, 4000000, QUIET, "M/s" },
	{ "burst1-2us", burst1, 100000, WORK_2US, "M/s" },
	{ "burst4-2us", burst4, 100000, WORK_2US, "M/s" },
	{ "futex-busy", futex_trip, 20000, BUSY, "µs/trip" },
	{ "mailbox-busy", mailbox_trip, 20000, BUSY, "µs/trip" },
	{ "burst1-busy", burst1, 2000000, BUSY, "M/s" },
	{ "burst16-busy", burst16, 2000000, BUSY, "M/s" },
	{ "sparse-futex", sparse_futex, 1000, QUIET, "µs CPU" },
	{ "sparse-mailbox", sparse_mailbox, 1000, QUIET, "µs CPU" },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void burn(uint64_t cpu)
{
	pin((int)cpu);
	for (;;)
		;
}

static double measure(const struct row *row)
{
	pid_t busy[2];
	double result;

	memset(shared, 0, sizeof(*shared));
	pin(row->setting == ONE_CPU ? 0 : -1);
	if (row->setting == BUSY)
		for (int i = 0; i < 2; i++)
			busy[i] = child(burn, (uint64_t)i);
	if (row->setting == WORK_2US)
		shared->work_ns = 2000;
	result = row->measure(own_count ? own_count : row->count);
	if (row->setting == BUSY) {
		for (int i = 0; i < 2; i++) {
			kill(busy[i], SIGKILL);
			waitpid(busy[i], NULL, 0);
		}
	}
	return result;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static bool selected(const char *name, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static double results[ROWS][MAX_REPEATS];
	int repeats = 5, option;

	while ((option = getopt(argc, argv, "r:n:d:p:v")) != -1) {
		if (option == 'r')
			repeats = atoi(optarg);
		else if (option == 'n')
			own_count = strtoull(optarg, NULL, 10);
		else if (option == 'd')
			depth = (uint32_t)atoi(optarg);
		else if (option == 'p')
			provider = *optarg == 'k' ? DW_PROVIDER_KERNEL : DW_PROVIDER_FUTEX;
		else if (option == 'v')
			show_counters = true;
		else
			return 2;
	}
	if (repeats < 1 || repeats > MAX_REPEATS)
		return 2;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		die("mmap");
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* Interleaved, so that a machine that drifts drifts for all. */
	for (int k = 0; k < repeats; k++) {
		for (size_t i = 0; i < ROWS; i++) {
			if (!selected(rows[i].name, argv + optind))
				continue;
			results[i][k] = measure(&rows[i]);
			if (show_counters)
				printf("# %s %.3f\n", rows[i].name, results[i][k]);
		}
	}
	for (size_t i = 0; i < ROWS; i++) {
		if (!selected(rows[i].name, argv + optind))
			continue;
		qsort(results[i], (size_t)repeats, sizeof(double), compare);
		printf("%-16s %10.3f %-8s (%.3f … %.3f)\n", rows[i].name, results[i][repeats / 2],
		       rows[i].unit, results[i][0], results[i][repeats - 1]);
	}
	return 0;
}
