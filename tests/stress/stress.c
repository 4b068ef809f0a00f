/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Rounds of random trees and random signals: stress [--hosts] SECONDS [SEED [ROUNDS]]. Each round
 * is a separate process (job.c). This program kills, stops and continues the processes below it, in
 * some rounds the round's process itself, and breaks the network to nodes for a while. A pipe that
 * all inherit tells when the last one is gone. With --hosts every round has eight nodes.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "../runtime/process.h"
#include "../unit/slow.h"
#include "job.h"
#include "nodes.h"

#define MS 1000000ULL
#define ROUND_NS 40000000000ULL		/* longer is a hang */
#define GONE_NS 3000000000ULL		/* this machine may be overloaded by others, too */
#define STOPPED_MOST 16

static struct {
	unsigned right, errors, wrong, hangs, parents_killed, left, unborn;
	unsigned kills, stops;
	unsigned with_hosts, right_with_hosts, breaks;
	uint64_t slowest_end;
} total;

static enum with_hosts hosts;
static bool nets;			/* the network to nodes can break */
static struct { bool broken; enum nodes_break how; uint64_t until; } links[NODES_MOST];
static struct { int pidfd; uint64_t until; } stopped[STOPPED_MOST];
static unsigned stopped_count;

static void send_to(int pidfd, int signal_number)
{
	syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0);
}

static void continue_stopped(bool all)
{
	for (unsigned i = 0; i < stopped_count; ) {
		if (!all && now_ns() < stopped[i].until) {
			i++;
			continue;
		}
		send_to(stopped[i].pidfd, SIGCONT);
		close(stopped[i].pidfd);
		stopped[i] = stopped[--stopped_count];
	}
}

/* Sends one signal to one descendant of `parent`, by a pidfd of the examined process. */
static void disturb(pid_t parent, uint64_t *state)
{
	pid_t pids[256];
	unsigned count = 0, stop = random_below(state, 100) < 40;
	int pidfd;

	count = descendants(pids, 256);
	if (count > 256)
		count = 256;
	if (!count)
		return;
	pids[0] = pids[random_below(state, count)];
	pidfd = (int)syscall(SYS_pidfd_open, pids[0], 0);
	if (pidfd < 0)
		return;
	if (pids[0] == parent || nodes_is_keeper(pids[0]) || !descends(pids[0], parent)) {
		close(pidfd);
		return;
	}
	if (stop && stopped_count < STOPPED_MOST) {
		send_to(pidfd, SIGSTOP);
		stopped[stopped_count].pidfd = pidfd;
		stopped[stopped_count++].until = now_ns() + random_below(state, 400) * MS;
		total.stops++;
		return;
	}
	send_to(pidfd, random_below(state, 5) ? SIGKILL : SIGSEGV);
	total.kills++;
	close(pidfd);
}

static void heal(bool all)
{
	for (unsigned i = 0; i < NODES_MOST; i++) {
		if (!links[i].broken || (!all && now_ns() < links[i].until))
			continue;
		nodes_heal(i, links[i].how);
		links[i].broken = false;
	}
}

/* Up to 3 s: some end before host_timeout_ns, some after. */
static void break_one(uint64_t *state)
{
	unsigned i = random_below(state, NODES_MOST);

	if (links[i].broken)
		return;
	links[i].broken = true;
	links[i].how = random_below(state, BREAKS);
	links[i].until = now_ns() + random_below(state, 3000) * MS;
	nodes_break(i, links[i].how);
	total.breaks++;
}

/* Touches a lot of memory, and exits. */
static pid_t start_hog(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		size_t bytes = 256 << 20;
		char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (size_t i = 0; memory != MAP_FAILED && i < bytes; i += 4096)
			memory[i] = 1;
		_exit(0);
	}
	return pid;
}

/*
 * Prints the processes that are left; orphans have become our children (PR_SET_CHILD_SUBREAPER).
 * Returns whether we stopped all of them before their first instruction: such processes could not
 * even request a signal at their parent's death.
 */
static bool only_unborn_left(void)
{
	pid_t pids[64];
	unsigned count = descendants(pids, 64);
	char path[64], line[256];
	bool unborn = true;

	for (unsigned i = 0; i < count && i < 64; i++) {
		unsigned long faults = 0;
		char *end, state = 'Z';
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/stat", (int)pids[i]);
		file = fopen(path, "re");
		if (file && fgets(line, sizeof(line), file) && (end = strrchr(line, ')'))) {
			sscanf(end + 1, " %c %*d %*d %*d %*d %*d %*u %lu", &state, &faults);
			printf("# left: %.60s\n", line);
		}
		if (file)
			fclose(file);
		if (state != 'Z' && (state != 'T' || faults > 1))
			unborn = false;
	}
	return unborn;
}

/* Are all ends of the pipe closed within the time? */
static bool all_gone(int end)
{
	struct pollfd fd = { .fd = end };
	uint64_t start = now_ns();

	while (poll(&fd, 1, 100) != 1)
		if (!unit_within(start, GONE_NS))
			return false;
	if (now_ns() - start > total.slowest_end)
		total.slowest_end = now_ns() - start;
	return true;
}

static bool readable(int fd, unsigned ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, (int)ms) == 1;
}

static void judge(const struct shape *shape, int status, bool killed)
{
	char text[256];

	if (killed && WIFSIGNALED(status))
		total.parents_killed++;
	else if (WIFEXITED(status) && WEXITSTATUS(status) == OUTCOME_RIGHT) {
		total.right++;
		total.right_with_hosts += shape->hosts != 0;
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == OUTCOME_ERRORS)
		total.errors++;
	else {
		shape_print(shape, text, sizeof(text));
		printf("not ok - %s: status %#x\n", text, status);
		total.wrong++;
	}
}

static void one_round(uint64_t seed)
{
	uint64_t state = seed ^ 0x9e3779b97f4a7c15ULL, start = now_ns(), kill_at;
	int lifeline[2], ready[2], status = 0;
	struct shape shape;
	bool killed, done = false;
	pid_t parent, hog = 0;
	char text[256];

	shape_choose(&shape, seed, hosts);
	shape_print(&shape, text, sizeof(text));
	total.with_hosts += shape.hosts != 0;
	if (pipe(lifeline) < 0 || pipe2(ready, O_CLOEXEC) < 0)
		exit(1);
	fcntl(lifeline[0], F_SETFD, FD_CLOEXEC);
	parent = fork();
	if (parent == 0) {
		close(lifeline[0]);
		close(ready[0]);
		job_main(&shape, ready[1]);
	}
	close(lifeline[1]);
	close(ready[1]);
	/* In half of the rounds init is not disturbed. */
	if (random_below(&state, 2))
		readable(ready[0], 10000);
	killed = random_below(&state, 4) == 0;
	kill_at = now_ns() + random_below(&state, 300000) * 1000ULL;
	if (random_below(&state, 10) == 0)
		hog = start_hog();
	while (!done) {
		nanosleep(&(struct timespec){ 0, (long)(random_below(&state, 6000) + 100) * 1000 },
			  NULL);
		continue_stopped(false);
		heal(false);
		if (nets && shape.hosts && random_below(&state, 50) == 0)
			break_one(&state);
		if (killed && now_ns() >= kill_at)
			kill(parent, SIGKILL);
		done = waitpid(parent, &status, WNOHANG) == parent;
		/* Less often where there are more processes, and links that break. */
		if (!done && random_below(&state, shape.ms ? 16 : 2) == 1)
			disturb(parent, &state);
		if (!done && !unit_within(start, ROUND_NS)) {
			printf("not ok - %s: hangs\n", text);
			total.hangs++;
			kill(parent, SIGKILL);
			waitpid(parent, &status, 0);
			break;
		}
	}
	if (done)
		judge(&shape, status, killed);
	/* Some are still stopped: they must end, too. */
	if (!all_gone(lifeline[0])) {
		bool unborn = only_unborn_left();

		continue_stopped(true);
		if (unborn && all_gone(lifeline[0])) {
			total.unborn++;
		} else {
			printf("not ok - %s: processes are left %llu ms of a quiet machine after "
			       "the end\n",
			       text, (unsigned long long)(GONE_NS / MS));
			total.left++;
		}
	}
	continue_stopped(true);
	heal(true);
	close(lifeline[0]);
	close(ready[0]);
	if (hog > 0)
		waitpid(hog, NULL, 0);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void print_hosts(void)
{
	printf("# %u rounds had Workers on other hosts, %u of them right results only\n",
	       total.with_hosts, total.right_with_hosts);
	if (!total.with_hosts)
		return;
	printf("# there: %u runs were right, %u had an error that was true, of which %u were told "
	       "\"no answer\"; %u partitions; %u nodes came back, %u Workers died, %u were "
	       "replaced\n",
	       nodes_counts->right, nodes_counts->errors, nodes_counts->silent, total.breaks,
	       nodes_counts->back, nodes_counts->deaths, nodes_counts->restarts);
}

int main(int argc, char **argv)
{
	bool all = argc > 1 && !strcmp(argv[1], "--hosts");
	uint64_t seconds;
	uint64_t seed, end;
	unsigned rounds, round;
	unsigned failed, fds;

	argc -= all;
	argv += all;
	seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 60;
	seed = argc > 2 ? strtoull(argv[2], NULL, 10) : now_ns() % 1000000;
	rounds = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : UINT32_MAX;
	end = now_ns() + seconds * 1000000000ULL;
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	printf("# seed %llu\n", (unsigned long long)seed);
	if (nodes_make_key())
		hosts = all ? HOSTS_ALWAYS : HOSTS_SOMETIMES;
	else
		printf("# libcrypto 3 is not installed: no rounds with other hosts\n");
	if (hosts == HOSTS_NEVER && all)
		return 77;
	nets = hosts && nodes_make_nets();
	if (hosts && !nets)
		printf("# no network namespaces, or no iproute2: no partitions\n");
	fds = count_dir("/proc/self/fd");
	for (round = 0; round < rounds && now_ns() < end; round++)
		one_round(seed + round);
	nodes_forget_key();
	if (count_dir("/proc/self/fd") != fds)
		printf("# descriptors of the test itself: %u, before: %u\n",
		       count_dir("/proc/self/fd"), fds);
	printf("# %u rounds, %u children killed, %u stopped, %u parents killed; the last process "
	       "was gone %.1f ms after its parent at the latest\n",
	       round, total.kills, total.stops, total.parents_killed,
	       (double)total.slowest_end / 1e6);
	if (total.unborn)
		printf("# %u rounds ended when a process went on that had been stopped before it "
		       "began\n",
		       total.unborn);
	printf("# %u rounds had right results only, %u had errors that were true\n", total.right,
	       total.errors);
	print_hosts();
	failed = total.wrong + total.hangs + total.left;
	printf("%u passed, %u failed%s\n", round - (failed > round ? round : failed), failed,
	       all && !nets ? ", 1 skipped" : "");
	return failed != 0;
}
