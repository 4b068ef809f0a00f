/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A test program in one header: TEST(name) { … CHECK(…) … }. It brings main(): all
 * tests, or those whose names contain one of the arguments; TAP on stdout, and
 * "N passed, M failed" in the end. A test that takes longer than UNIT_SECONDS
 * fails the program: it hangs. A busy machine stretches these seconds, as it does those of
 * unit_within() (slow.h, UNIT_SLOW=N). UNIT_UPTIME=N: on a machine that is up for N seconds
 * (uptime.h). Children of tests leave with _exit().
 */
#ifndef UNIT_H
#define UNIT_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "slow.h"
#include "uptime.h"

#ifndef UNIT_SECONDS
#define UNIT_SECONDS 120
#endif

struct unit_test {
	const char *name;
	void (*run)(void);
	struct unit_test *next;
};

static struct unit_test *unit_first, **unit_end = &unit_first;
static const char *unit_now = "none";
static const char *unit_skipped;
static int unit_failures;
static uint64_t unit_start_ns;
static unsigned unit_limit_s = UNIT_SECONDS;

#define TEST(test_name) \
	static void test_name(void); \
	__attribute__((constructor)) static void unit_add_##test_name(void) \
	{ \
		static struct unit_test test = { #test_name, test_name, NULL }; \
		*unit_end = &test; \
		unit_end = &test.next; \
	} \
	static void test_name(void)

/* Counts a failure and goes on. True if the condition holds. */
#define CHECK(condition) \
	((condition) ? \
		 true : \
		 (unit_failures++, \
		  printf("# %s:%d: %s: %s\n", __FILE__, __LINE__, unit_now, #condition), false))

/* Integers. */
#define CHECK_EQ(got, wanted) \
	unit_check_equal((long long)(got), (long long)(wanted), #got, __FILE__, __LINE__)

#define CHECK_STR(got, part) \
	unit_check_contains((got), (part), #got, __FILE__, __LINE__)

/* Ends the test, because the rest makes no sense without this. */
#define REQUIRE(condition) \
	do { \
		if (!CHECK(condition)) \
			return; \
	} while (0)

#define SKIP(reason) \
	do { \
		unit_skipped = (reason); \
		return; \
	} while (0)

__attribute__((unused)) static bool unit_check_equal(long long got, long long wanted,
						     const char *what, const char *file, int line)
{
	if (got == wanted)
		return true;
	unit_failures++;
	printf("# %s:%d: %s: %s is %lld, not %lld\n", file, line, unit_now, what, got, wanted);
	return false;
}

/* Does `got` contain `part`? */
__attribute__((unused)) static bool
unit_check_contains(const char *got, const char *part, const char *what, const char *file, int line)
{
	if (strstr(got, part))
		return true;
	unit_failures++;
	printf("# %s:%d: %s: %s is \"%s\", without \"%s\"\n", file, line, unit_now, what, got,
	       part);
	return false;
}

static void unit_hangs(int signal)
{
	static const char text[] = "not ok - a test hangs: ";
	ssize_t written;

	(void)signal;
	if (unit_within(unit_start_ns, unit_limit_s * 1000000000ULL)) {
		alarm(unit_limit_s / 4 + 1);
		return;
	}
	written = write(STDOUT_FILENO, text, sizeof(text) - 1);
	written = write(STDOUT_FILENO, unit_now, strlen(unit_now));
	written = write(STDOUT_FILENO, "\n0 passed, 1 failed\n", 20);
	(void)written;
	_exit(1);
}

/*
 * Calls of the test go on after it. sigaction(), because TSan's signal() does not see to that.
 */
static void unit_watch(void)
{
	struct sigaction action = { .sa_handler = unit_hangs, .sa_flags = SA_RESTART };

	sigaction(SIGALRM, &action, NULL);
}

/* For a child that a test has forked: after this time it ends like a test that hangs. */
__attribute__((unused)) static void unit_bound(unsigned seconds)
{
	unit_limit_s = seconds;
	unit_start_ns = slow_clock(CLOCK_MONOTONIC);
	unit_watch();
	alarm(seconds * unit_slow());
}

/* Options are the tests' own: words that begin with "--", and the numbers behind them. */
static bool unit_is_name(const char *word)
{
	char *end;

	strtoull(word, &end, 0);
	return *end && strncmp(word, "--", 2) != 0;
}

static bool unit_selected(const char *name, int argc, char **argv)
{
	bool all = true;

	for (int i = 1; i < argc; i++) {
		if (!unit_is_name(argv[i]))
			continue;
		if (strstr(name, argv[i]))
			return true;
		all = false;
	}
	return all;
}

int main(int argc, char **argv)
{
	int number = 0, passed = 0, failed = 0, skipped = 0;
	unsigned seconds = UNIT_SECONDS * unit_slow();

	uptime_enter(argv);
	/* Forked children must not print again what is in the buffer. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	unit_watch();
	for (struct unit_test *test = unit_first; test; test = test->next)
		number += unit_selected(test->name, argc, argv);
	printf("1..%d\n", number);
	if (!number) {
		printf("not ok - no test has such a name\n0 passed, 1 failed\n");
		return 1;
	}
	number = 0;
	for (struct unit_test *test = unit_first; test; test = test->next) {
		if (!unit_selected(test->name, argc, argv))
			continue;
		unit_now = test->name;
		unit_skipped = NULL;
		unit_failures = 0;
		unit_start_ns = slow_clock(CLOCK_MONOTONIC);
		alarm(seconds);
		test->run();
		alarm(0);
		number++;
		if (unit_failures)
			failed++;
		else if (unit_skipped)
			skipped++;
		else
			passed++;
		printf("%sok %d - %s%s%s\n", unit_failures ? "not " : "", number, test->name,
		       unit_skipped && !unit_failures ? " # SKIP " : "",
		       unit_skipped && !unit_failures ? unit_skipped : "");
	}
	printf("%d passed, %d failed", passed, failed);
	if (skipped)
		printf(", %d skipped", skipped);
	printf("\n");
	return failed != 0;
}

#endif
