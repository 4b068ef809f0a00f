// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl_fuzz: families of processes that misuse /dev/distworker.
 *
 *	ioctl_fuzz [--seed N] [--seconds N] [--families N] [--pcs FILE]
 *
 * A family is an owner with hubs, threads, and peers in child processes, all of which choose
 * operations at random: calls with structs that are nearly right, bad pointers and sizes, forks,
 * exec, deaths, signals, mappings, scribbling over shared memory, poll, epoll, io_uring, faults
 * injected by the kernel where it can. Each process has a generator of its own, seeded from the
 * seed, the family and its number in it: a seed repeats the operations, not how they interleave.
 *
 * Each call's promises are checked: an error of the documented ones and no other, nothing
 * written behind a struct's size nor on an error, no wait that outlives its deadline by far; and at
 * the end, when every process has been killed, that none is left and the module is unused.
 * tests/vm/run reads the log of the kernel and its report of leaks. With KCOV
 * (/sys/kernel/debug/kcov) the number of places in the module that were reached is printed, and
 * with --pcs each of them, as an offset from the module's start. TAP on stdout.
 */
#include "faults.h"
#include "fuzz.h"

#define MAX_FAMILIES 16
/* The most that a run takes beyond its seconds, which tests/fuzz/run leaves time for. */
#define LONGER_NS (120 * NSEC_PER_SEC)

static unsigned int seconds = 20;
static unsigned int families = 3;

/* ---------------------------------------------------------------- the one that watches */

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

/*
 * Families without a limit end in want of memory, which says nothing of the module; and numbers
 * come back soon.
 */
static void limit_processes(void)
{
	int fd = open("/proc/sys/kernel/pid_max", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1000", 4) != 4)
		perror("# pid_max");
	if (fd >= 0)
		close(fd);
}

/* Where the module's text lies: the addresses that KCOV reports lie behind it. */
static void find_module(void)
{
	char text[64] = "";
	int fd = open("/sys/module/distworker/sections/.text", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0)
		module_start = strtoul(text, NULL, 16);
	close(fd);
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
	static const struct { unsigned int number; const char *name;
	} names[] = {
		{ 0x10, "query" },	   { 0x11, "hub_setup" },     { 0x12, "mailbox_create" },
		{ 0x13, "mailbox_bind" },  { 0x14, "mailbox_rearm" }, { 0x15, "mailbox_query" },
		{ 0x16, "hub_wait" },	   { 0x17, "hub_wake" },      { 0x20, "endpoint_attach" },
		{ 0x21, "endpoint_wait" }, { 0x22, "endpoint_wake" }, { 0x23, "endpoint_detach" },
	};
	unsigned int i;

	printf("# seed %llu: %lu operations, %lu processes, %lu threads, %lu kills, %lu signals, "
	       "%lu injected faults\n",
	       (unsigned long long)seed, shared->operations, shared->processes, shared->threads,
	       shared->kills, shared->signals, shared->faults);
	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		printf("# %-16s %8lu done %8lu refused\n", names[i].name,
		       shared->calls[names[i].number][DONE],
		       shared->calls[names[i].number][FAILED]);
	printf("# errors:");
	for (i = 0; i < 200; i++)
		if (shared->errors[i])
			printf(" %s %lu", strerrorname_np(i) ? strerrorname_np(i) : "?",
			       shared->errors[i]);
	printf("\n");
}

/* Every call that can succeed has done so: a fuzzer whose calls all fail looks just as clean. */
static bool reached_all(bool say)
{
	static const unsigned int numbers[] = {
		0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x20, 0x21, 0x22, 0x23,
	};
	unsigned int i;
	bool all = true;

	for (i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		if (!shared->calls[numbers[i]][DONE]) {
			if (say)
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
	uint64_t until, limit;
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
		printf("1..0 # SKIP " DEVICE ": %s\n0 passed, 0 failed, 1 skipped\n",
		       strerror(errno));
		return 4;
	}
	close(fd);
	printf("1..4\n");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	family = mmap(NULL, MAX_FAMILIES * sizeof(*family), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
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
	limit_processes();
	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fflush(stdout);

	/* A slow guest gets less done in its seconds: it goes on until every call has succeeded. */
	until = now_ns() + seconds * NSEC_PER_SEC;
	limit = until + LONGER_NS;
	while (now_ns() < until || (now_ns() < limit && !reached_all(false))) {
		pid_t pid;

		for (i = 0; i < families; i++) {
			uint64_t stream = (uint64_t)i << 32 | lives[i];

			/* One that was stopped, and whose stopper is dead, would stay so. */
			if (groups[i] > 0 && kill(groups[i], 0) == 0 &&
			    now_ns() - born[i] < 8 * NSEC_PER_SEC)
				continue;
			/*
			 * Processes that the last life has left in its group go on for a moment,
			 * without an owner.
			 */
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
		usleep(BEAT_NS / 1000);
		atomic_fetch_add(&shared->beats, 1);
	}
	atomic_store(&shared->stop, true);
	usleep(200000);
	clean = end_families(groups);

	say_counts();
	if (!access("/sys/kernel/debug/kcov", F_OK))
		say_coverage(pcs);
	verdict(!shared->broken, "every_call_keeps_its_promises");
	verdict(reached_all(true), "every_call_has_succeeded_at_times");
	verdict(clean, "every_process_can_be_killed");
	/* Files that were sent over a socket, or polled by io_uring, go a moment later. */
	until = now_ns() + 20 * NSEC_PER_SEC;
	while (number_in("/sys/module/distworker/refcnt") > 0 && now_ns() < until)
		usleep(10000);
	verdict(number_in("/sys/module/distworker/refcnt") <= 0,
		"nothing_holds_the_module_when_all_are_dead");
	printf("%u passed, %u failed, 0 skipped\n", tests - failed, failed);
	return failed != 0;
}
