/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Files that may not grow, and traces into files that are not regular. Each world is a separate
 * process, which exits with status 0 if everything was right.
 */
#include <sys/resource.h>
#include <sys/stat.h>
#include "chips.h"

#define TASKS 2000

static char folder[64], trace_path[128];

static void enter_folder(void)
{
	strcpy(folder, "/tmp/distworker-limits-XXXXXX");
	CHECK(mkdtemp(folder) != NULL);
	snprintf(trace_path, sizeof(trace_path), "%s/trace.json", folder);
}

static void leave_folder(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	CHECK_EQ(system(command), 0);
}

/* Runs `world` in a process of its own. Failures in it are printed by it and counted here. */
static void in_a_process(void (*world)(const void *what), const void *what)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		unit_failures = 0;
		world(what);
		_exit(unit_failures != 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (!CHECK_EQ(status, 0) && WIFSIGNALED(status))
		printf("# ended by signal %d (%s)\n", WTERMSIG(status),
		       strsignal(WTERMSIG(status)));
}

static int orch_adds(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	const struct callables *calls = ((void **)context)[0];
	int64_t *cells = ((void **)context)[1];
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < TASKS && result == 0; i++)
		result = submit_one(orch, calls->add, &cells[i % 8], DW_INOUT, 1, NULL, NULL);
	return result;
}

/* A tree that works, from create to destroy, with a trace into the path in DW_TRACE. */
static void traced_tree(enum dw_mode mode)
{
	struct dw_worker *node = make_worker(3, 2, mode);
	struct callables calls;
	void *cells;

	REQUIRE(node && register_all(node, &calls) == 0);
	CHECK_EQ(dw_buffer_create(node, 64, &cells), 0);
	if (!CHECK_EQ(dw_worker_init(node), 0)) {
		printf("# %s\n", dw_strerror_last());
		return;
	}
	CHECK_EQ(dw_worker_run(node, orch_adds, NULL, NULL, (void *[]){ &calls, cells }), 0);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(((int64_t *)cells)[i], TASKS / 8);
	CHECK_EQ(dw_worker_close(node), 0);
	dw_worker_destroy(node);
}

/* ------------------------------------------------------------- ulimit -f */

struct limited {
	enum dw_mode mode;
	rlim_t bytes;
};

static void set_limit(rlim_t bytes)
{
	struct rlimit limit = { bytes, bytes };

	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void limited_world(const void *what)
{
	const struct limited *limited = what;
	struct sigaction action;
	sigset_t mask, pending;
	struct stat status;
	char text[64] = "";
	int fd;

	signal(SIGXFSZ, SIG_DFL);
	set_limit(limited->bytes);
	setenv("DW_TRACE", trace_path, 1);
	traced_tree(limited->mode);
	/* The application's signals are as before. */
	CHECK_EQ(sigaction(SIGXFSZ, NULL, &action), 0);
	CHECK(action.sa_handler == SIG_DFL);
	CHECK_EQ(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
	CHECK(!sigismember(&mask, SIGXFSZ) && !sigismember(&mask, SIGPIPE));
	CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGXFSZ));
	/* The trace is as long as the limit permits, and valid. */
	CHECK_EQ(stat(trace_path, &status), 0);
	CHECK((rlim_t)status.st_size <= limited->bytes);
	if (!limited->bytes)
		return;
	CHECK((rlim_t)status.st_size > limited->bytes / 2);
	fd = open(trace_path, O_RDONLY | O_CLOEXEC);
	CHECK(pread(fd, text, 3, status.st_size - 3) == 3);
	CHECK(strcmp(text, "\n]\n") == 0);
	close(fd);
}

/*
 * Failed as the application was killed by SIGXFSZ, in dw_worker_init() or at the first full buffer.
 */
TEST_IN_BOTH_MODES(a_file_that_may_not_grow_ends_the_trace_and_not_the_application)
{
	for (rlim_t bytes = 0; bytes <= 102400; bytes += 51200) {
		enter_folder();
		in_a_process(limited_world, &(struct limited){ mode, bytes });
		leave_folder();
	}
}

static int64_t handled;

static void handler(int signal)
{
	(void)signal;
	handled++;
}

/* A signal that was pending before stays pending, with all writes of the library. */
static void pending_world(const void *what)
{
	sigset_t mask, pending;

	(void)what;
	signal(SIGXFSZ, handler);
	sigemptyset(&mask);
	sigaddset(&mask, SIGXFSZ);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	raise(SIGXFSZ);
	set_limit(4096);
	setenv("DW_TRACE", trace_path, 1);
	traced_tree(DW_THREAD);
	CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ));
	sigprocmask(SIG_UNBLOCK, &mask, NULL);
	CHECK_EQ(handled, 1);
}

TEST(a_signal_that_was_pending_stays_so)
{
	enter_folder();
	in_a_process(pending_world, NULL);
	leave_folder();
}

static void image_world(const void *what)
{
	static const struct dw_chip_options chips[1] = { { .driver = "sim" } };
	enum dw_mode mode = *(const enum dw_mode *)what;
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	dw_callable callable;
	struct rig rig;

	signal(SIGXFSZ, SIG_DFL);
	set_limit(0);
	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 1);
	REQUIRE(rig_init(&rig) == 0);
	options.driver = "sim";
	options.entry = "vector_add";
	options.path = fixture("chip_kernels");
	CHECK_EQ(dw_callable_register_image(rig.node, &options, &callable), -EFBIG);
	check_text("ulimit -f");
	CHECK_EQ(chip_stats(&rig, "node0/chip0").alive, 1);
	CHECK_EQ(dw_worker_close(rig.node), 0);
	dw_worker_destroy(rig.node);
}

/* Failed as the chip's process, or the application, was killed by SIGXFSZ. */
TEST_IN_BOTH_MODES(a_chip_image_that_no_file_can_hold_is_an_error_with_the_limit)
{
	in_a_process(image_world, &mode);
}

/* ---------------------------------------------------------- no regular file */

static void stream_world(const void *what)
{
	setenv("DW_TRACE", what, 1);
	signal(SIGPIPE, SIG_DFL);
	/* Twice: the second tree of a process has no file of its own here. */
	traced_tree(DW_PROCESS);
	traced_tree(DW_THREAD);
}

/* Failed with EINVAL before: a file that cannot be truncated could not be a trace. */
TEST(a_trace_goes_into_dev_null)
{
	struct stat status;

	in_a_process(stream_world, "/dev/null");
	CHECK(stat("/dev/null.2", &status) < 0);
}

static void one_tree_world(const void *what)
{
	setenv("DW_TRACE", what, 1);
	signal(SIGPIPE, SIG_DFL);
	traced_tree(DW_PROCESS);
}

/* A reader of the FIFO that takes everything, or `bytes` and goes away, and writes trace.json. */
static pid_t start_reader(const char *fifo, long bytes)
{
	pid_t pid = fork();

	if (pid == 0) {
		char command[512];

		snprintf(command, sizeof(command), bytes ? "head -c %3$ld '%1$s' > '%2$s'" :
			 "cat '%1$s' > '%2$s'", fifo, trace_path, bytes);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return pid;
}

static void fifo_case(long bytes)
{
	char fifo[128], command[256];
	int status = -1, keeps;
	pid_t reader;

	enter_folder();
	snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
	CHECK_EQ(mkfifo(fifo, 0600), 0);
	reader = start_reader(fifo, bytes);
	/* Waits for the reader, and keeps it between the two trees. */
	keeps = open(fifo, O_WRONLY | O_CLOEXEC);
	CHECK(keeps >= 0);
	in_a_process(bytes ? one_tree_world : stream_world, fifo);
	close(keeps);
	CHECK_EQ(waitpid(reader, &status, 0), reader);
	CHECK_EQ(status, 0);
	if (!bytes) {
		/* Both traces, one after the other, each line whole. */
		snprintf(command, sizeof(command), "test $(grep -c '\"ph\":\"X\".*},$' '%s') = %d",
			 trace_path, 2 * TASKS);
		CHECK_EQ(system(command), 0);
		snprintf(command, sizeof(command), "test $(grep -c trace_end '%s') = 2",
			 trace_path);
		CHECK_EQ(system(command), 0);
	}
	leave_folder();
}

TEST(a_trace_goes_into_a_fifo_that_somebody_reads)
{
	fifo_case(0);
}

/* Without the care for SIGPIPE this kills the application. */
TEST(a_reader_that_leaves_ends_the_trace_and_not_the_application)
{
	fifo_case(1000);
}

TEST(a_fifo_that_nobody_reads_fails_the_init_at_once_and_says_so)
{
	struct dw_worker *node = make_worker(3, 1, DW_PROCESS);

	enter_folder();
	CHECK_EQ(mkfifo(trace_path, 0600), 0);
	setenv("DW_TRACE", trace_path, 1);
	CHECK_EQ(dw_worker_init(node), -ENXIO);
	CHECK_STR(dw_strerror_last(), "this FIFO has no reader: start its reader first");
	unsetenv("DW_TRACE");
	dw_worker_destroy(node);
	leave_folder();
}
