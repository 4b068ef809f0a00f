// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* The thread's last error, names, the log. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include "distworker/distworker.h"
#include "task/error.h"
#include "unit.h"

static void *other_thread(void *unused)
{
	(void)unused;
	CHECK(!strcmp(dw_strerror_last(), ""));
	error_set(-EIO, "of the other thread");
	return NULL;
}

TEST(each_thread_has_its_own_text)
{
	pthread_t thread;

	CHECK_EQ(error_set(-EINVAL, "depth is %d", 3), -EINVAL);
	CHECK_EQ(pthread_create(&thread, NULL, other_thread, NULL), 0);
	pthread_join(thread, NULL);
	CHECK(!strcmp(dw_strerror_last(), "depth is 3"));
	CHECK(dw_strerror_last() == error_text());
}

TEST(prefixes_are_put_in_front_and_long_texts_cut)
{
	char longer[2 * ERROR_TEXT_BYTES];

	error_set(-EIO, "short read");
	CHECK_EQ(error_prefix(-EIO, "%s: ", "sub0"), -EIO);
	CHECK_EQ(error_prefix(-EIO, "node%d/", 1), -EIO);
	CHECK(!strcmp(error_text(), "node1/sub0: short read"));
	/* The old text is among the arguments. */
	error_set(-EIO, "again: %s", error_text());
	CHECK(!strcmp(error_text(), "again: node1/sub0: short read"));

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	error_set(-EIO, "%s", longer);
	CHECK_EQ(strlen(error_text()), ERROR_TEXT_BYTES - 1);
	error_prefix(-EIO, "ab");
	CHECK_EQ(strlen(error_text()), ERROR_TEXT_BYTES - 1);
	CHECK(!strncmp(error_text(), "abxx", 4));
	error_prefix(-EIO, "%s", longer);
	CHECK_EQ(strlen(error_text()), ERROR_TEXT_BYTES - 1);
}

TEST(setting_a_text_keeps_errno)
{
	errno = ENOSPC;
	error_set(-EIO, "%m");
	CHECK_EQ(errno, ENOSPC);
	CHECK_STR(error_text(), "No space");
	error_prefix(-EIO, "x");
	CHECK_EQ(errno, ENOSPC);
}

TEST(names_of_errors_and_signals)
{
	CHECK(!strcmp(error_name(-EIO), "EIO"));
	CHECK(!strcmp(error_name(EIO), "EIO"));
	CHECK(!strcmp(error_name(-EOWNERDEAD), "EOWNERDEAD"));
	CHECK(!strcmp(error_name(-EDEADLK), "EDEADLK"));
	CHECK(!strcmp(error_name(-EAGAIN), "EAGAIN"));
	CHECK(!strcmp(error_name(-ENOTSUP), "EOPNOTSUPP"));
	CHECK(!strcmp(error_name(4711), "errno 4711"));
	CHECK(!strcmp(error_name(0), "errno 0"));
	CHECK_STR(error_name(-2147483647 - 1), "errno 2147483648");
	CHECK(!strcmp(error_signal_name(SIGSEGV), "SIGSEGV"));
	CHECK(!strcmp(error_signal_name(SIGKILL), "SIGKILL"));
	CHECK(!strcmp(error_signal_name(0), "signal 0"));
	CHECK(!strcmp(error_signal_name(-1), "signal -1"));
	CHECK(!strcmp(error_signal_name(64), "signal 64"));
	for (int i = 1; i < 134; i++) {
		/* These two numbers have no name; strerror() knows no other gaps. */
		if (i != 41 && i != 58)
			CHECK(error_name(i)[0] == 'E');
	}
}

/* The output of a process with DW_LOG=level on stderr, for one line of each level. */
static void log_of(const char *level, char *text, size_t bytes)
{
	int ends[2], status;
	ssize_t got;
	pid_t pid;

	REQUIRE(pipe(ends) == 0);
	pid = fork();
	if (pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		if (level)
			setenv("DW_LOG", level, 1);
		else
			unsetenv("DW_LOG");
		execl("/proc/self/exe", "test_error", "--log", NULL);
		_exit(127);
	}
	close(ends[1]);
	*text = '\0';
	while ((got = read(ends[0], text, bytes - 1)) > 0) {
		text[got] = '\0';
		text += got;
		bytes -= (size_t)got;
	}
	close(ends[0]);
	waitpid(pid, &status, 0);
}

/* Runs in the process that log_of() starts: before main(), after the library's own constructor. */
__attribute__((constructor)) static void write_the_log(void)
{
	static const char wanted[] = "test_error\0--log";
	char name[32] = "", longer[3000];
	FILE *file = fopen("/proc/self/cmdline", "r");
	size_t got = file ? fread(name, 1, sizeof(name) - 1, file) : 0;

	if (file)
		fclose(file);
	if (got != sizeof(wanted) || memcmp(name, wanted, sizeof(wanted)))
		return;
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	log_at(LOG_ERROR, "one");
	log_at(LOG_WARN, "two");
	log_at(LOG_INFO, "three %d", 3);
	log_at(LOG_DEBUG, "%s", longer);
	_exit(0);
}

TEST(the_log_is_off_by_default_and_has_levels)
{
	char text[8192];

	log_of(NULL, text, sizeof(text));
	CHECK(!strcmp(text, ""));
	log_of("", text, sizeof(text));
	CHECK(!strcmp(text, ""));
	log_of("warn", text, sizeof(text));
	CHECK_STR(text, "] error: one\n");
	CHECK_STR(text, "] warn: two\n");
	CHECK(!strstr(text, "three"));
	log_of("debug", text, sizeof(text));
	CHECK_STR(text, "] info: three 3\n");
	CHECK_EQ(text[strlen(text) - 1], '\n');
	CHECK_STR(text, "x…\n");
	log_of("loud", text, sizeof(text));
	CHECK_STR(text, "DW_LOG is \"loud\"; it can be error, warn, info or debug");
}
