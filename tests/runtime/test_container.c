/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Containers: the application is process 1 of namespaces of its own (PID, mount, IPC, network,
 * UTS), with its own /proc, 64 KiB in /dev/shm, and limits of a control group; as root, and
 * without any right in a user namespace. Skipped where such namespaces cannot be made.
 */
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "cgroup.h"

#define ROOTLESS_ID 61236
#define CANNOT 125

/* The reason why there is no container. */
enum { ROOTLESS = 1, OWN_PROC = 2 };

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return written;
}

static bool enter_namespaces(unsigned lacks)
{
	int flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS;
	char map[64];

	if (lacks & ROOTLESS && geteuid() == 0 &&
	    (setresgid(ROOTLESS_ID, ROOTLESS_ID, ROOTLESS_ID) ||
	     setresuid(ROOTLESS_ID, ROOTLESS_ID, ROOTLESS_ID) ||
	     prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)))
		return false;
	if (geteuid()) {
		uid_t uid = geteuid();
		gid_t gid = getegid();

		if (unshare(CLONE_NEWUSER))
			return false;
		write_text("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %u 1", uid);
		if (!write_text("/proc/self/uid_map", map))
			return false;
		snprintf(map, sizeof(map), "0 %u 1", gid);
		if (!write_text("/proc/self/gid_map", map))
			return false;
	}
	return unshare(flags) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static bool furnish(unsigned lacks)
{
	if (!(lacks & OWN_PROC) && mount("proc", "/proc", "proc", 0, NULL))
		return false;
	return access("/dev/shm", F_OK) || mount("shm", "/dev/shm", "tmpfs", 0, "size=64k") == 0;
}

/* Like apart(), but in a container; false: containers cannot be made here. */
static bool contained(unsigned lacks, void (*body)(void))
{
	int status = -1;
	pid_t outer, inner;

	say_prepare();
	fflush(stdout);
	outer = fork();
	if (outer == 0) {
		if (!enter_namespaces(lacks))
			_exit(CANNOT);
		inner = fork();
		if (inner == 0) {
			if (!furnish(lacks))
				_exit(CANNOT);
			unit_failures = 0;
			body();
			fflush(stdout);
			_exit(unit_failures);
		}
		waitpid(inner, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	waitpid(outer, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT)
		return false;
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return true;
}

#define IN_CONTAINER(lacks, body) \
	do { \
		if (!contained(lacks, body)) \
			SKIP("no namespaces of PIDs and mounts can be made here"); \
	} while (0)

/* Counts the processes of the container, with zombies. */
static unsigned processes(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	unsigned count = 0;

	while (proc && (entry = readdir(proc)))
		count += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
	if (proc)
		closedir(proc);
	return count;
}

static unsigned processes_soon(unsigned most)
{
	uint64_t begun = now_ns();

	while (processes() > most && unit_within(begun, 20 * SECOND_NS))
		pause_ms(10);
	return processes();
}

/* ---------------------------------------------------------------- process 1 */

static void live_as_process_1(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	int64_t *large;

	CHECK_EQ(getpid(), 1);
	options.restart = DW_RESTART_ON_DEATH;
	options.restart_limit = 10;
	chain_create(2, 2, 0, &options);
	/* More than /dev/shm has. */
	CHECK_EQ(dw_buffer_create(chain.worker[0], 4 << 20, (void **)&large), 0);
	memset(large, 1, 4 << 20);
	if (!CHECK_EQ(dw_worker_init(chain.worker[0]), 0))
		printf("# %s\n", dw_strerror_last());
	for (int i = 1; i <= 3; i++) {
		CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), 0);
		CHECK_EQ(chain.cells[0], i);
		CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_SIGNAL,
						   .detail = SIGSEGV }), -EOWNERDEAD);
		check_text("SIGSEGV");
	}
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	CHECK_EQ(processes_soon(1), 1);
	dw_worker_destroy(chain.worker[0]);
}

TEST(tree_of_process_1_works_in_64_kib_of_shared_memory_and_leaves_no_zombie)
{
	IN_CONTAINER(0, live_as_process_1);
}

TEST(tree_of_a_rootless_container_works_too)
{
	const char *provider = getenv("DW_PROVIDER");

	if (provider && strcmp(provider, "kernel") == 0)
		SKIP("the user of this test may not open /dev/distworker");
	IN_CONTAINER(ROOTLESS, live_as_process_1);
}

/* Leaves a process behind, which becomes a child of the spawner, and not of process 1. */
static int sub_leave(const struct dw_args *args, void *context)
{
	(void)context;
	if (fork() == 0)
		_exit(0);
	__atomic_fetch_add((int64_t *)dw_args_data(args, 0), 1, __ATOMIC_RELAXED);
	return 0;
}

static int orch_leave(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	int error = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < 20 && !error; i++)
		error = submit_one(orch, *(dw_callable *)context, chain.cells, DW_INOUT, 0, NULL,
				   NULL);
	return error;
}

static void leave_processes(void)
{
	dw_callable leave;

	chain_create(1, 2, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "leave", sub_leave, NULL, &leave), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_leave, NULL, NULL, &leave), 0);
	CHECK_EQ(chain.cells[0], 20);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	CHECK_EQ(processes_soon(1), 1);
	dw_worker_destroy(chain.worker[0]);
}

/* Failed before: the spawner was killed before it had reaped them, and 20 zombies were left. */
TEST(processes_that_callables_leave_are_no_zombies_of_process_1)
{
	IN_CONTAINER(0, leave_processes);
}

static void lose_the_spawner(void)
{
	struct order order = { .how = BREAK_HANG };
	struct dw_run *run;
	pid_t child;

	chain_init(1, 3, 0, NULL);
	run = chain_start(&order, 0);
	child = heard();
	CHECK(child > 0);
	CHECK_EQ(kill(parent_of(child), SIGKILL), 0);
	CHECK(dw_run_wait(run) < 0);
	dw_worker_close(chain.worker[0]);
	CHECK_EQ(processes_soon(1), 1);
	dw_worker_destroy(chain.worker[0]);
}

/*
 * Its children are then those of process 1, which is the application. Failed before: nobody reaped
 * them.
 */
TEST(children_of_a_killed_spawner_are_no_zombies_of_process_1)
{
	IN_CONTAINER(0, lose_the_spawner);
}

/* ------------------------------------------- /proc of another PID namespace */

/* Of the helper, its number here and the one in the namespace of /proc. */
struct numbers {
	pid_t here, there, child, spawner;
};

static int helper_pipe[2];

/* A helper that outlives its callable; its numbers go through the pipe. Then the child dies. */
static int sub_helper(const struct dw_args *args, void *context)
{
	struct numbers numbers = { .child = getpid(), .spawner = getppid() };
	char text[16];
	ssize_t n;

	(void)args;
	(void)context;
	if (fork() == 0) {
		n = readlink("/proc/self", text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		numbers.here = getpid();
		numbers.there = atoi(text);
		if (write(helper_pipe[1], &numbers, sizeof(numbers)) != sizeof(numbers))
			_exit(1);
		for (;;)
			pause();
	}
	for (;;)
		pause();
	return 0;
}

static int orch_helper(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, *(dw_callable *)context, chain.cells, DW_INOUT, 0, NULL, NULL);
}

/* Forks a child with that pid; 0: the pid cannot be had. */
static pid_t bystander(pid_t number)
{
	struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&number,
				   .set_tid_size = 1 };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		for (;;)
			pause();
	return pid < 0 ? 0 : (pid_t)pid;
}

static bool kill_spawner;

static bool stranger_lives(pid_t stranger)
{
	int status = 0;
	pid_t ended = waitpid(stranger, &status, WNOHANG);

	if (ended)
		printf("# the stranger %d: waitpid gives %d, status %#x\n", (int)stranger,
		       (int)ended, (unsigned int)status);
	return ended == 0;
}

/*
 * A child that dies before its spawner is gone becomes a zombie of this process, which
 * dw_worker_close() reaps.
 */
static bool child_lives(pid_t child)
{
	siginfo_t info = { .si_pid = 0 };

	return kill(child, 0) == 0 &&
	       !(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
		 info.si_pid == child);
}

static void see_a_foreign_proc(void)
{
	struct numbers helper = { 0 };
	struct dw_run *run = NULL;
	uint64_t begun;
	dw_callable help;
	pid_t stranger;

	CHECK_EQ(pipe2(helper_pipe, O_CLOEXEC), 0);
	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "help", sub_helper, NULL, &help), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_helper, NULL, NULL, &help, NULL, &run), 0);
	CHECK_EQ(read(helper_pipe[0], &helper, sizeof(helper)), (ssize_t)sizeof(helper));
	CHECK(helper.there > 0 && helper.there != helper.here);
	stranger = bystander(helper.there);
	CHECK_EQ(stranger, helper.there);
	/* The number is also that of the helper in /proc, and a stranger's to the library. */
	CHECK_EQ(kill(kill_spawner ? helper.spawner : helper.child, SIGKILL), 0);
	begun = now_ns();
	while (child_lives(helper.child) && unit_within(begun, 20 * SECOND_NS))
		pause_ms(10);
	pause_ms(300);
	CHECK(stranger_lives(stranger));
	/* The run waits for the helper, which could still write. */
	kill(helper.here, SIGKILL);
	CHECK(dw_run_wait(run) < 0);
	dw_worker_destroy(chain.worker[0]);
	CHECK(stranger_lives(stranger));
}

/*
 * `unshare --pid --fork` without --mount-proc. Failed before: the library took the numbers that it
 * found in /proc for its own, and killed the process that had that number here.
 */
TEST(foreign_proc_gets_no_stranger_killed_when_a_child_dies)
{
	if (geteuid())
		SKIP("only root can choose the number of a process");
	IN_CONTAINER(OWN_PROC, see_a_foreign_proc);
}

TEST(foreign_proc_gets_no_stranger_killed_when_the_spawner_dies)
{
	if (geteuid())
		SKIP("only root can choose the number of a process");
	kill_spawner = true;
	IN_CONTAINER(OWN_PROC, see_a_foreign_proc);
	kill_spawner = false;
}

/* ------------------------------------------------------------------- limits */

static void few_processes(void)
{
	/* Spawners and children: 1 + 9, and 1 + 8 more in the nested Worker. */
	chain_create(2, 8, 0, NULL);
	CHECK_EQ(dw_worker_init(chain.worker[0]), -EAGAIN);
	check_text("pids.max");
	CHECK_EQ(processes_soon(1), 1);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	dw_worker_destroy(chain.worker[0]);
	chain_init(1, 1, 0, NULL);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	chain_destroy();
}

static void contain_few_processes(void)
{
	enter_group();
	CHECK(contained(0, few_processes));
}

static void nothing(void)
{
}

TEST(limit_of_pids_of_a_container_is_the_error_of_init)
{
	IN_CONTAINER(0, nothing);
	if (!make_group("pids", "pids.max", "pids.max"))
		SKIP("no control group for pids can be made here");
	/* Room for a small tree, also where a sanitizer has a thread in each process. */
	CHECK(write_file("pids.max", "16"));
	apart(contain_few_processes);
	remove_group();
}
