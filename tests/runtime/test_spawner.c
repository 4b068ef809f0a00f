/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Spawners in trouble: a report that the kernel refuses, a child without descriptors, a helper that
 * outlives spawner and children.
 */
#define UNIT_SECONDS 30
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include "failure.h"

/* ------------------------------------------------------------ refused reports */

/* The spawner's n-th message (0: the first) with a descriptor, or without, is refused once. */
static struct { int error; bool spawned; int number; } refused;
static int *refusals;		/* shared */

/* In place of the C library's. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
	__attribute__((visibility("default")));

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	static int seen;
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	if (refused.error && strcmp(name, "dw-spawner") == 0 &&
	    (message->msg_control != NULL) == refused.spawned && seen++ == refused.number) {
		++*refusals;
		errno = refused.error;
		return -1;
	}
	return syscall(SYS_sendmsg, fd, message, flags);
}

static void check_refused(int error, bool spawned, int number)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .how = BREAK_SIGNAL, .detail = SIGKILL };
	uint64_t begun;

	refusals = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	refused.error = error;
	refused.spawned = spawned;
	refused.number = number;
	options.init_timeout_ns = 3 * SECOND_NS;
	chain_init(1, 1, 0, &options);
	begun = now_ns();
	CHECK_EQ(chain_run(order), -EOWNERDEAD);
	/* With the module the run does not wait for the report of a death; closing does. */
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	CHECK(unit_within(begun, 2 * SECOND_NS));
	CHECK_EQ(*refusals, 1);
	munmap(refusals, 4096);
	refused.error = 0;
	chain_destroy();
}

TEST(refused_report_of_a_birth_is_sent_again)
{
	check_refused(ETOOMANYREFS, true, 0);
	check_refused(ENOMEM, true, 0);
}

TEST(refused_report_of_a_death_is_sent_again)
{
	check_refused(ENOBUFS, false, 0);
	check_refused(ENOBUFS, false, 1);
}

/* -------------------------------------------------------- a closed lifeline */

static int sub_closes_all(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	say();
	close_range(3, ~0U, 0);
	for (;;)
		pause();
	return 0;
}

static long ticks_of(pid_t pid)
{
	char path[64], line[512], *end;
	unsigned long user = 0, system = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file && fgets(line, sizeof(line), file) && (end = strrchr(line, ')')))
		sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
		       &system);
	if (file)
		fclose(file);
	return (long)(user + system);
}

static dw_callable helped;

static int orch_one(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, helped, &chain.cells[0], DW_INOUT, 0, NULL, NULL);
}

static void one_sub(dw_sub_fn *fn)
{
	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "helped", fn, NULL, &helped), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
}

TEST(child_without_descriptors_leaves_its_spawner_asleep)
{
	struct dw_run *run = NULL;
	pid_t child, spawner;
	long before;

	one_sub(sub_closes_all);
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_one, NULL, NULL, NULL, NULL, &run), 0);
	child = heard();
	spawner = parent_of(child);
	pause_ms(50);
	before = ticks_of(spawner);
	pause_ms(500);
	CHECK(ticks_of(spawner) - before <= sysconf(_SC_CLK_TCK) / 10);
	/* Its end is still seen. */
	kill(child, SIGKILL);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	check_text("killed by SIGKILL");
	chain_destroy();
}

/* ------------------------------------------------------------------ helpers */

static int sub_with_helper(const struct dw_args *args, void *context)
{
	int64_t *cell = dw_args_data(args, 0);
	pid_t helper = fork();

	(void)context;
	if (!helper)
		for (;;)
			pause();
	cell[1] = helper;
	say();
	for (;;)
		pause();
	return 0;
}

TEST(helper_of_a_callable_ends_with_children_whose_spawner_was_killed)
{
	struct dw_run *run = NULL;
	pid_t bystander, helper;

	one_sub(sub_with_helper);
	/* It has this process's descriptors, and is none of the tree's. */
	bystander = fork();
	if (!bystander)
		for (;;)
			pause();
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_one, NULL, NULL, NULL, NULL, &run), 0);
	kill(parent_of(heard()), SIGKILL);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	helper = (pid_t)chain.cells[1];
	CHECK(helper > 0 && is_over(helper));
	CHECK(lives(bystander));
	kill(bystander, SIGKILL);
	waitpid(bystander, NULL, 0);
	chain_destroy();
}
