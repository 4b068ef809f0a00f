/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Signals that are not delivered: the application has dropped its credentials since init, or a
 * filter of system calls refuses them. Deadlines still end their tasks, nothing hangs, and the
 * error names a child that no process may kill.
 *
 * Before: the kill was lost without a word. The run waited for ever, and so did dw_worker_close().
 */
#define UNIT_SECONDS 120
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "failure.h"

/* Makes these calls fail with this error, in all threads of this process and in their children. */
static bool refuse_with(unsigned error, const int *calls, unsigned count)
{
	struct sock_filter filter[16] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog program = { .filter = filter };
	unsigned n = 1;

	for (unsigned i = 0; i < count; i++) {
		filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							   (unsigned)calls[i], 0, 1);
		filter[n++] =
			(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
	}
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = (unsigned short)n;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) ==
		       0;
}

static bool refuse(const int *calls, unsigned count)
{
	return refuse_with(EPERM, calls, count);
}

static void drop_root(void)
{
	CHECK_EQ(setresgid(65534, 65534, 65534), 0);
	CHECK_EQ(setresuid(65534, 65534, 65534), 0);
}

static void refuse_pidfd_signals(void)
{
	static const int calls[] = { SYS_pidfd_send_signal };

	CHECK(refuse(calls, 1));
}

static void refuse_all_signals(void)
{
	static const int calls[] = { SYS_pidfd_send_signal, SYS_kill, SYS_tgkill, SYS_tkill };

	CHECK(refuse(calls, 4));
}

/* Ends the process if a wait below takes for ever, so that the test fails by itself. */
static void bound(void)
{
	unit_bound(40);
}

static struct dw_worker_options options_of(enum dw_restart restart)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.restart = restart;
	return options;
}

static struct order hanging(unsigned depth)
{
	struct order order = { .depth = depth,
			       .how = BREAK_HANG,
			       .options = DW_OPTIONS(dw_submit_options) };

	order.options.timeout_ns = ample(200 * MS);
	return order;
}

static void check_deadline(const struct order *order, const char *behind)
{
	double ns = (double)order->options.timeout_ns;
	bool less = order->options.timeout_ns < SECOND_NS;
	char part[96];

	snprintf(part, sizeof(part), "ran longer than its deadline of %.4g %s%s",
		 less ? ns / 1e6 : ns / 1e9, less ? "ms" : "s", behind);
	check_text(part);
}

/* ---------------------------------------------------- the spawner kills instead */

static void (*lose)(void);

/* Two subs, one of which hangs: killed at its deadline, replaced, and all of it closed. */
static void deadline_without_signals(void)
{
	struct dw_worker_options options = options_of(DW_RESTART_ON_DEATH);
	struct order fine = { .how = BREAK_NOT }, hangs = hanging(0);
	pid_t pid;

	bound();
	chain_init(2, 2, 0, &options);
	lose();
	CHECK_EQ(chain_run(hangs), -ETIMEDOUT);
	check_deadline(&hangs, " and was killed");
	pid = heard();
	CHECK(pid > 0 && is_over(pid));
	CHECK_EQ(chain_run(fine), 0);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	chain_destroy();
}

/* A child is still busy at close_timeout_ns. */
static void close_without_signals(void)
{
	struct dw_worker_options options = options_of(DW_RESTART_NEVER);
	struct order order = { .how = BREAK_HANG };
	struct dw_run *run;
	pid_t pid;

	bound();
	options.close_timeout_ns = 300 * MS;
	chain_init(1, 1, 0, &options);
	lose();
	run = chain_start(&order, 0);
	pid = heard();
	CHECK(pid > 0);
	CHECK_EQ(dw_worker_close(chain.worker[0]), -ETIMEDOUT);
	check_text("killed, because they did not end before close_timeout_ns: node0/sub0");
	CHECK(is_over(pid));
	CHECK(dw_run_wait(run) < 0);
	chain_destroy();
}

static void in_both_ways(void (*how)(void))
{
	lose = how;
	apart(deadline_without_signals);
	apart(close_without_signals);
}

TEST(application_that_has_dropped_root_still_kills_by_deadline_and_at_close)
{
	if (geteuid() != 0)
		SKIP("only root can drop root");
	in_both_ways(drop_root);
}

TEST(filter_of_pidfd_send_signal_stops_no_kill)
{
	in_both_ways(refuse_pidfd_signals);
}

/* -------------------------------------------------------- no process may kill */

static void deadline_that_nobody_may_keep(void)
{
	struct dw_worker_options options = options_of(DW_RESTART_ON_DEATH);
	struct order fine = { .how = BREAK_NOT }, hangs = hanging(0);
	char part[96];
	pid_t pid;

	bound();
	refuse_all_signals();
	chain_init(1, 2, 0, &options);
	CHECK_EQ(chain_run(hangs), -ETIMEDOUT);
	pid = heard();
	check_deadline(&hangs, "");
	snprintf(part, sizeof(part), "pid %d cannot be killed, and goes on: EPERM", (int)pid);
	check_text(part);
	CHECK(lives(pid));
	/* The other one works on; the first has no successor. */
	CHECK_EQ(chain_run(fine), 0);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	/* The spawner's end is the signal that no filter sees. */
	CHECK(is_over(pid));
	chain_destroy();
}

static void close_that_nobody_may_force(void)
{
	struct dw_worker_options options = options_of(DW_RESTART_NEVER);
	struct order order = { .how = BREAK_HANG };
	struct dw_run *run;
	char part[96];
	pid_t pid;

	bound();
	options.close_timeout_ns = 300 * MS;
	refuse_all_signals();
	chain_init(1, 1, 0, &options);
	run = chain_start(&order, 0);
	pid = heard();
	CHECK_EQ(dw_worker_close(chain.worker[0]), -ETIMEDOUT);
	snprintf(part, sizeof(part), "cannot be killed: node0/sub0 (pid %d: EPERM)", (int)pid);
	check_text(part);
	CHECK(dw_run_wait(run) < 0);
	CHECK(is_over(pid));
	chain_destroy();
}

TEST(child_that_nobody_may_kill_is_named_and_nothing_hangs)
{
	apart(deadline_that_nobody_may_keep);
	apart(close_that_nobody_may_force);
}

/* Init fails, and there are children that no process may kill. */
static void init_that_fails(void)
{
	struct dw_worker_options options = options_of(DW_RESTART_NEVER);
	struct dw_chip_options chip = { .driver = "no-such-driver" };

	bound();
	refuse_all_signals();
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	chain_create(2, 2, 0, &options);
	CHECK(dw_worker_init(chain.worker[0]) < 0);
	check_text("no-such-driver");
	chain_destroy();
}

TEST(failed_init_without_signals_leaves_nobody)
{
	apart(init_that_fails);
}

/* --------------------------------------------------- helpers of a dead child */

/* The process lives on as another user, with the child's memory, and holds its lifeline. */
static int sub_leaves_a_stranger(const struct dw_args *args, void *context)
{
	int64_t *cell = dw_args_data(args, 0);
	pid_t helper = fork();

	(void)context;
	if (!helper) {
		if (setresuid(65533, 65533, 65533) < 0)
			_exit(1);
		__atomic_store_n(&cell[2], 1, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	while (!__atomic_load_n(&cell[2], __ATOMIC_ACQUIRE))
		pause_ms(1);
	cell[1] = helper;
	_exit(3);
}

static dw_callable leaves;

static int orch_leaves(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, leaves, &chain.cells[0], DW_INOUT, 0, NULL, NULL);
}

static void orphan_that_nobody_may_kill(void)
{
	struct dw_worker_options options = options_of(DW_RESTART_ON_DEATH);

	bound();
	/* The children may change their user, and their spawner may not signal another's. */
	refuse_all_signals();
	chain_create(1, 1, 0, &options);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "leaves", sub_leaves_a_stranger, NULL,
					  &leaves),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_leaves, NULL, NULL, NULL), -EOWNERDEAD);
	CHECK(lives((pid_t)chain.cells[1]));
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	dw_worker_destroy(chain.worker[0]);
}

TEST(orphan_that_nobody_may_kill_holds_up_no_run)
{
	pid_t pids[4];
	unsigned count;

	if (geteuid() != 0)
		SKIP("only root can become another user");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	apart(orphan_that_nobody_may_kill);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	count = descendants(pids, 4);
	CHECK_EQ(count, 1);
	for (unsigned i = 0; i < count && i < 4; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
}

/* ------------------------------------------------------------- other refused calls */

static unsigned threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned count = 0;

	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

/* A thread that has been joined stays in /proc for a moment. */
static unsigned threads_soon(unsigned most)
{
	uint64_t begun = now_ns();

	while (threads() > most && unit_within(begun, 20 * SECOND_NS))
		pause_ms(1);
	return threads();
}

static void close_without_writes(void)
{
	static const int calls[] = { SYS_write };
	unsigned before;

	bound();
	/* A sanitizer may have a thread of its own, which comes with the first and stays. */
	chain_init(1, 1, 0, NULL);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	dw_worker_destroy(chain.worker[0]);
	pause_ms(100);
	before = threads();
	chain_init(1, 1, 0, NULL);
	CHECK(threads() > before);
	CHECK(refuse(calls, 1));
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	dw_worker_destroy(chain.worker[0]);
	CHECK(threads_soon(before) <= before);
}

/*
 * Failed before: the background thread was not woken, and went on in memory that had been given
 * back.
 */
TEST(close_ends_the_background_thread_where_a_filter_refuses_write)
{
	apart(close_without_writes);
}

static const struct {
	const char *name;
	int number;
} needed[] = {
	{ "wait4", SYS_wait4 },
	{ "rt_sigprocmask", SYS_rt_sigprocmask },
	{ "timerfd_settime", SYS_timerfd_settime },
	{ "close", SYS_close },
};
static unsigned missing;

static void init_without_a_call(void)
{
	bound();
	chain_create(1, 1, 0, NULL);
	CHECK(refuse(&needed[missing].number, 1));
	CHECK_EQ(dw_worker_init(chain.worker[0]), -EPERM);
	check_text("node0: the system call ");
	check_text(needed[missing].name);
	check_text("is refused: EPERM");
}

/* Failed before: init returned 0, and then a deadline killed no child, or a death was not seen. */
TEST(init_names_a_call_that_a_filter_refuses)
{
	for (missing = 0; missing < sizeof(needed) / sizeof(needed[0]); missing++)
		apart(init_without_a_call);
}

/* As in valgrind 3.19. A fork would fail, too, so that the text says that none was tried. */
static void init_without_pidfd_open(void)
{
	static const int calls[] = { SYS_pidfd_open, SYS_clone, SYS_clone3 };

	bound();
	chain_create(1, 1, 0, NULL);
	CHECK(refuse_with(ENOSYS, calls, 3));
	CHECK_EQ(dw_worker_init(chain.worker[0]), -ENOSYS);
	check_text("node0: ");
	check_text("pidfd_open: ENOSYS");
	check_text("valgrind");
	check_text("DW_THREAD");
}

/*
 * Failed before: the spawner was forked first. In valgrind that process then searched the whole
 * heap of 8 GiB for leaks before the error was told, for minutes, and nothing named DW_THREAD.
 */
TEST(init_without_pidfd_open_names_threads_before_it_forks)
{
	apart(init_without_pidfd_open);
}
