/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Where the library's log lines go: to a callback, from children as well; to stderr without ever
 * waiting for it; and dropped lines are reported. Each test runs in a process of its own.
 */
#include <semaphore.h>
#include <sys/socket.h>
#include "failure.h"

#define LINES_MOST 4096

static struct {
	pthread_mutex_t lock;
	sem_t came;
	_Atomic unsigned count;
	enum dw_log_level level[LINES_MOST];
	int32_t pid[LINES_MOST];
	char text[LINES_MOST][256];
	_Atomic int inside, together;
	sem_t go;
	_Atomic bool holds;
	bool calls_back;
	int set_again, stats;
} told = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void on_line(enum dw_log_level level, int32_t pid, const char *text, void *context)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);

	if (told.inside++)
		told.together++;
	CHECK(context == &told);
	pthread_mutex_lock(&told.lock);
	if (told.count < LINES_MOST) {
		told.level[told.count] = level;
		told.pid[told.count] = pid;
		snprintf(told.text[told.count], sizeof(told.text[0]), "%s", text);
		told.count++;
	}
	pthread_mutex_unlock(&told.lock);
	if (told.calls_back) {
		told.set_again = dw_log_set(NULL, NULL, DW_LOG_ERROR);
		/* Takes the lock of an engine that may just have logged with it. */
		told.stats = dw_worker_engine_stats(chain.worker[0], &stats);
	}
	sem_post(&told.came);
	if (told.holds)
		sem_wait(&told.go);
	told.inside--;
}

static void told_init(void)
{
	sem_init(&told.came, 0, 0);
	sem_init(&told.go, 0, 0);
}

/* The number of the first line with `part`; -1 after 20 s. */
static int line_with(const char *part)
{
	uint64_t begun = now_ns();

	while (unit_within(begun, 20 * SECOND_NS)) {
		pthread_mutex_lock(&told.lock);
		for (unsigned i = 0; i < told.count; i++) {
			if (strstr(told.text[i], part)) {
				pthread_mutex_unlock(&told.lock);
				return (int)i;
			}
		}
		pthread_mutex_unlock(&told.lock);
		pause_ms(1);
	}
	return -1;
}

/* A child dies: its Worker logs that, at the levels info and error. */
static void let_one_die(unsigned depth)
{
	struct order order = { .depth = depth, .how = BREAK_EXIT };

	CHECK_EQ(chain_run(order), -EOWNERDEAD);
}

static void restarting_chain(unsigned levels)
{
	struct dw_worker_options base = DW_OPTIONS(dw_worker_options);

	base.restart = DW_RESTART_ON_DEATH;
	base.restart_limit = 1000;
	chain_init(levels, 1, 0, &base);
}

static void body_told(void)
{
	int line;

	told_init();
	told.calls_back = true;
	CHECK_EQ(dw_log_set(on_line, &told, DW_LOG_INFO), 0);
	restarting_chain(1);
	let_one_die(0);
	line = line_with("exited with status 3");
	if (CHECK(line >= 0)) {
		CHECK_EQ(told.pid[line], getpid());
		CHECK_STR(told.text[line], "node0/sub0");
		CHECK(told.level[line] >= DW_LOG_ERROR && told.level[line] <= DW_LOG_INFO);
	}
	/* No line is missing, and none arrives afterwards. */
	CHECK_EQ(dw_log_set(NULL, NULL, DW_LOG_ERROR), 0);
	line = (int)told.count;
	let_one_die(0);
	CHECK_EQ(told.count, line);
	CHECK_EQ(told.together, 0);
	CHECK_EQ(told.set_again, -EDEADLK);
	chain_destroy();
}

/* Thread-safe, no lock held: the callback reads counters of the very tree that logs. */
TEST(lines_go_to_a_callback_that_may_call_the_library)
{
	apart(body_told);
}

static void body_children(void)
{
	int line;

	told_init();
	CHECK_EQ(dw_log_set(on_line, &told, DW_LOG_INFO), 0);
	restarting_chain(2);
	/* The death of a sub of the nested Worker, which is a process. */
	let_one_die(1);
	line = line_with("pod0/node0/sub0");
	if (CHECK(line >= 0)) {
		CHECK(told.pid[line] != getpid());
		CHECK_EQ(told.pid[line], pid_of("pod0/node0"));
	}
	chain_destroy();
	CHECK_EQ(dw_log_set(NULL, NULL, DW_LOG_ERROR), 0);
	CHECK_EQ(told.together, 0);
}

TEST(lines_of_children_go_to_the_callback_of_their_root)
{
	apart(body_children);
}

static void body_held(void)
{
	told_init();
	told.holds = true;
	CHECK_EQ(dw_log_set(on_line, &told, DW_LOG_INFO), 0);
	restarting_chain(1);
	/* More lines than fit; no process waits for the callback. */
	for (int i = 0; i < 400; i++)
		let_one_die(0);
	CHECK(told.count < 400);
	for (int i = 0; i < LINES_MOST; i++)
		sem_post(&told.go);
	told.holds = false;
	/* Reported with the next line that gets through. */
	while (told.count < 200)
		pause_ms(1);
	let_one_die(0);
	CHECK(line_with("lines of the log were dropped") >= 0);
	chain_destroy();
	CHECK_EQ(dw_log_set(NULL, NULL, DW_LOG_ERROR), 0);
}

TEST(a_callback_that_holds_holds_up_nobody)
{
	apart(body_held);
}

static void body_levels(void)
{
	CHECK_EQ(dw_log_set(on_line, &told, (enum dw_log_level)0), -EINVAL);
	CHECK_EQ(dw_log_set(on_line, &told, (enum dw_log_level)5), -EINVAL);
	CHECK_STR(dw_strerror_last(), "level is 5");
	CHECK_EQ(dw_log_set(NULL, NULL, (enum dw_log_level)0), 0);
	told_init();
	CHECK_EQ(dw_log_set(on_line, &told, DW_LOG_ERROR), 0);
	restarting_chain(1);
	/* After init the level changes, and the lines that the callback gets with it. */
	let_one_die(0);
	CHECK_EQ(dw_log_set(on_line, &told, DW_LOG_DEBUG), 0);
	let_one_die(0);
	CHECK_EQ(dw_log_set(NULL, NULL, DW_LOG_ERROR), 0);
	CHECK_EQ(dw_log_set(on_line, &told, DW_LOG_DEBUG), 0);
	let_one_die(0);
	CHECK(line_with("exited with status 3") >= 0);
	CHECK_EQ(dw_log_set(NULL, NULL, DW_LOG_ERROR), 0);
	for (unsigned i = 0; i < told.count; i++)
		CHECK(told.level[i] <= DW_LOG_DEBUG);
	chain_destroy();
}

TEST(levels_are_checked_and_can_change)
{
	apart(body_levels);
}

/* ----------------------------------------------------------------------- stderr */

/* With the program that writes the lines: a byte to and from the other; -1: none. */
static int meeting[2] = { -1, -1 };

static void meet(const int ends[2])
{
	char c = 0;

	CHECK_EQ(write(ends[1], &c, 1), 1);
	CHECK_EQ(read(ends[0], &c, 1), 1);
}

/* In a program of its own, with DW_LOG=info: many lines to a stderr that takes none. */
static int many_lines(void)
{
	restarting_chain(1);
	for (int i = 0; i < 300; i++) {
		if (i == 100 && meeting[1] >= 0)
			meet(meeting);
		let_one_die(0);
	}
	dw_worker_destroy(chain.worker[0]);
	return unit_failures != 0;
}

__attribute__((constructor)) static void maybe_many_lines(void)
{
	const char *kind = getenv("TEST_LOG_LINES");

	if (kind) {
		sscanf(kind, "%d,%d", &meeting[0], &meeting[1]);
		unsetenv("TEST_LOG_LINES");
		_exit(many_lines());
	}
}

static pid_t with_stderr(int fd, const char *level, const int meets[2])
{
	char lines[32] = "-1,-1";
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	dup2(fd, STDERR_FILENO);
	if (meets) {
		snprintf(lines, sizeof(lines), "%d,%d", meets[0], meets[1]);
		fcntl(meets[0], F_SETFD, 0);
		fcntl(meets[1], F_SETFD, 0);
	}
	setenv("TEST_LOG_LINES", lines, 1);
	setenv("DW_LOG", level, 1);
	execl("/proc/self/exe", "test_log", NULL);
	_exit(127);
}

/* Does it end by itself, and successfully? */
static bool ends_well(pid_t pid)
{
	uint64_t begun = now_ns();
	int status = 0;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (!unit_within(begun, 60 * SECOND_NS)) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return false;
		}
		pause_ms(5);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		printf("# status %#x\n", status);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void fill(int fd)
{
	static char dust[4096];
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while (write(fd, dust, sizeof(dust)) > 0)
		;
	while (write(fd, dust, 1) > 0)
		;
	fcntl(fd, F_SETFL, flags);
}

/* Failed before: the library's thread slept in write(), with its locks, and the program hung. */
TEST(a_full_stderr_holds_up_nobody)
{
	int ends[2];
	pid_t pid;

	REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
	fill(ends[1]);
	pid = with_stderr(ends[1], "info", NULL);
	CHECK(ends_well(pid));
	CHECK(!(fcntl(ends[1], F_GETFL) & O_NONBLOCK));
	close(ends[0]);
	close(ends[1]);
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	fill(ends[1]);
	pid = with_stderr(ends[1], "info", NULL);
	CHECK(ends_well(pid));
	close(ends[0]);
	close(ends[1]);
}

/* Failed before: SIGPIPE ended the program. */
TEST(a_stderr_that_nobody_reads_ends_nobody)
{
	int ends[2];
	pid_t pid;

	REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
	close(ends[0]);
	signal(SIGPIPE, SIG_DFL);
	/* That this is no level is said by the application's own thread. */
	pid = with_stderr(ends[1], "loud", NULL);
	close(ends[1]);
	CHECK(ends_well(pid));
}

static size_t read_text(int fd, char *text, size_t used, size_t space)
{
	ssize_t n;

	while (used < space && (n = read(fd, text + used, space - used)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if (!text[used + (size_t)i])
				text[used + (size_t)i] = ' ';
		used += (size_t)n;
	}
	return used;
}

/* A pipe that is full at first, and is read later: the count of lost lines is reported. */
TEST(lines_that_stderr_did_not_take_are_counted)
{
	static char text[1 << 20];
	int ends[2], there[2], back[2];
	size_t used;
	pid_t pid;
	char c;

	REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
	REQUIRE(pipe2(there, O_CLOEXEC) == 0 && pipe2(back, O_CLOEXEC) == 0);
	fcntl(ends[1], F_SETPIPE_SZ, 4096);
	fill(ends[1]);
	pid = with_stderr(ends[1], "info", (int[2]){ there[0], back[1] });
	close(ends[1]);
	/* Some lines were dropped; now there is room for one. */
	REQUIRE(unit_polled(back[0], POLLIN) && read(back[0], &c, 1) == 1);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	used = read_text(ends[0], text, 0, sizeof(text) - 1);
	fcntl(ends[0], F_SETFL, 0);
	CHECK_EQ(write(there[1], &c, 1), 1);
	read_text(ends[0], text, used, sizeof(text) - 1);
	CHECK(ends_well(pid));
	CHECK_STR(text, "lines of the log were dropped");
	for (int i = 0; i < 2; i++) {
		close(there[i]);
		close(back[i]);
	}
	close(ends[0]);
}
