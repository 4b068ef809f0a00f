/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The pto driver with two runs in flight, against the stand-in of the present interface: the next
 * is prepared while one is under way, and the runtime gets one call at a time.
 */
#include <pthread.h>
#include <time.h>
#include "pto_present_test.h"

#define ASYNC "depth=2 concurrent run_us=0"

/* Runs do not end while this file is there. */
static const char *hold_path(void)
{
	static char path[PATH_MAX];

	if (!path[0])
		snprintf(path, sizeof(path), "%.4000s/pto_hold", test_folder());
	return path;
}

static void hold(void)
{
	pto_file_write(hold_path(), "x", 1);
	setenv("PTO_HOLD", hold_path(), 1);
}

static void release(void)
{
	unlink(hold_path());
}

static void *release_soon(void *argument)
{
	struct timespec moment = { 0, 2000000 };

	nanosleep(&moment, NULL);
	release();
	return argument;
}

/* Waits for a completion, and returns its cookie, or -1. */
static int finished(struct chip *chip, int status)
{
	struct chip_completion done;

	if (!CHECK_EQ(chip_finish(chip, &done), 1))
		return -1;
	if (!CHECK_EQ(done.status, status))
		printf("# %s\n", done.text);
	return (int)done.cookie;
}

/* Finds where a line begins in the log, from `from` on. */
static size_t log_find(const char *line, size_t from)
{
	const char *text = pto_log_text(), *at = strstr(text + from, line);

	return at ? (size_t)(at - text) : SIZE_MAX;
}

TEST(next_run_is_prepared_while_one_is_under_way)
{
	static float other[ELEMENTS], third[ELEMENTS];
	struct chip *chip = pto(ASYNC, "");
	struct dw_config none = { 0 };
	struct chip_completion done;
	size_t at;

	REQUIRE(chip);
	CHECK_EQ(chip_depth(chip), 2);
	CHECK(chip_completion_fd(chip) > 2);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	vectors_fill();
	hold();
	CHECK_EQ(start(chip, 1, a, b, out, none, 600, 1, 1), 0);
	CHECK_EQ(start(chip, 1, a, a, other, none, 600, 1, 2), 0);
	CHECK_EQ(start(chip, 1, a, a, other, none, 600, 1, 3), -EBUSY);
	CHECK_EQ(chip_collect(chip, &done), 0);
	CHECK_EQ(chip_collect(chip, &done), 0);
	release();
	CHECK_EQ(finished(chip, 0), 1);
	CHECK_EQ(start(chip, 1, b, b, third, none, 600, 1, 3), 0);
	CHECK_EQ(finished(chip, 0), 2);
	CHECK_EQ(finished(chip, 0), 3);
	CHECK(vectors_added() && other[99] == 198 && third[99] == 396);
	/* The second is prepared before the first ends, and its storage is the other one. */
	at = log_find("launch 0\nprepare 0\n", 0);
	CHECK(at < log_find("finalize_run 0\nlaunch 1\n", 0));
	/* Another thread waits, and none polls. */
	CHECK(pto_log_count("wait 0") >= 1);
	CHECK(pto_log_count("poll") <= 3);
	chip_done(chip);
	/* If the library does not support it, or with depth 1, a run is one call. */
	for (int i = 0; i < 2; i++) {
		chip = pto(i ? "depth=1 concurrent" : "depth=2", "");
		REQUIRE(chip);
		CHECK_EQ(chip_depth(chip), 1);
		CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
		CHECK_EQ(add(chip, 1, 600, 1), 0);
		CHECK_EQ(pto_log_count("run"), 1);
		chip_done(chip);
	}
}

/* A run that has ended when it is polled needs no other thread. */
TEST(short_runs_end_without_a_thread)
{
	struct chip *chip = pto("depth=2 concurrent", "");

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (int i = 0; i < 50; i++) {
		CHECK_EQ(add(chip, 1, 600, 1), 0);
		CHECK(vectors_added());
	}
	CHECK_EQ(pto_log_count("wait 1"), 50);
	CHECK_EQ(pto_log_count("poll"), 50);
	chip_done(chip);
}

/* Inputs are read when a run is prepared: not before another that writes them has ended. */
TEST(run_that_reads_what_another_writes_sees_it)
{
	static float sums[4][ELEMENTS];
	struct chip *chip = pto(ASYNC, "");
	struct dw_config none = { 0 };

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	vectors_fill();
	memset(sums, 0xff, sizeof(sums));
	CHECK_EQ(start(chip, 1, a, b, sums[0], none, 600, 1, 0), 0);
	for (int i = 1; i < 4; i++) {
		CHECK_EQ(start(chip, 1, sums[i - 1], a, sums[i], none, 600, 1, (uint64_t)i), 0);
		CHECK_EQ(finished(chip, 0), i - 1);
	}
	CHECK_EQ(finished(chip, 0), 3);
	for (int i = 0; i < ELEMENTS; i++)
		CHECK_EQ(sums[3][i], 6 * i);
	chip_done(chip);
}

/* The runtime takes one call at a time: calls that come while a thread is in it wait. */
TEST(calls_that_come_during_a_run_wait_for_its_end)
{
	static float other[ELEMENTS];
	const uint64_t handle = 0x6000000000u;
	struct chip *chip = pto(ASYNC, "");
	struct dw_config none = { 0 };
	struct chip_completion done;
	struct dw_chip_counters counters;
	pthread_t releaser;

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (int round = 0; round < 6; round++) {
		vectors_fill();
		hold();
		CHECK_EQ(start(chip, 1, a, b, out, none, 600, 1, 1), 0);
		/* From here on the thread is in it. */
		CHECK_EQ(chip_collect(chip, &done), 0);
		REQUIRE(pthread_create(&releaser, NULL, release_soon, NULL) == 0);
		if (round == 0)
			CHECK_EQ(chip_alloc(chip, handle, sizeof(a)), 0);
		else if (round == 1)
			CHECK_EQ(chip_copy_in(chip, handle, a, sizeof(a)), 0);
		else if (round == 2)
			CHECK_EQ(pto_image_load(chip, 2, 600, 1), 0);
		else if (round == 3)
			CHECK_EQ(start(chip, 1, b, b, other, none, 600, 1, 2), 0);
		else if (round == 4)
			CHECK_EQ(chip_counters(chip, &counters), 0);
		else
			CHECK_EQ(chip_free(chip, handle), 0);
		CHECK_EQ(finished(chip, 0), 1);
		pthread_join(releaser, NULL);
		CHECK(vectors_added());
		if (round == 3)
			CHECK_EQ(finished(chip, 0), 2);
	}
	CHECK_EQ(other[99], 396);
	chip_done(chip);
	/* Closes with one run under way and one prepared, or queued. */
	for (int collected = 0; collected < 2; collected++) {
		chip = pto(ASYNC, "");
		CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
		hold();
		CHECK_EQ(start(chip, 1, a, b, out, none, 600, 1, 1), 0);
		if (collected)
			CHECK_EQ(chip_collect(chip, &done), 0);
		CHECK_EQ(start(chip, 1, b, b, other, none, 600, 1, 2), 0);
		REQUIRE(pthread_create(&releaser, NULL, release_soon, NULL) == 0);
		chip_done(chip);
		pthread_join(releaser, NULL);
	}
}

/* One run fails in each of its steps; the next one works as if nothing had happened. */
TEST(failure_of_a_run_in_flight_is_its_own)
{
	static const char *const modes[] = {
		"launch=-4 fails=1", "wait=507018 fails=1", "finalize_run=-9 fails=1",
		"poll=-100 fails=1", "launch=-4 fails=1 poison", "wait=507018 fails=1 poison",
	};
	static float other[ELEMENTS];
	struct dw_config none = { 0 };
	char mode[200];

	for (size_t i = 0; i < 6; i++)
		for (int queued = 0; queued < 2; queued++) {
			struct chip_completion done;
			int failures = unit_failures;
			struct chip *chip;

			snprintf(mode, sizeof(mode), ASYNC " %s", modes[i]);
			chip = pto(mode, "");
			REQUIRE(chip);
			CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
			vectors_fill();
			hold();
			CHECK_EQ(start(chip, 1, b, b, other, none, 600, 1, 1), 0);
			if (queued && !strstr(mode, "poll") && !strstr(mode, "launch"))
				CHECK_EQ(chip_collect(chip, &done), 0);
			/* Only when the first run's failure has been collected. */
			CHECK_EQ(start(chip, 1, a, b, out, none, 600, 1, 2), 0);
			release();
			CHECK_EQ(finished(chip, -EIO), 1);
			CHECK_EQ(finished(chip, 0), 2);
			CHECK(vectors_added());
			for (int more = 0; more < 3; more++) {
				CHECK_EQ(add(chip, 1, 600, 1), 0);
				CHECK(vectors_added());
			}
			CHECK_EQ(pto_log_count("create"), strstr(mode, "poison") ? 2 : 1);
			chip_done(chip);
			if (failures != unit_failures)
				printf("# %s, %d\n", modes[i], queued);
		}
}

/* Many runs of random length, dependent or not, against their sequential result. */
TEST(results_of_many_runs_are_those_of_one_after_the_other)
{
	static float cells[8][ELEMENTS], wanted[8][ELEMENTS];
	struct chip *chip = pto(ASYNC, "");
	struct dw_config none = { 0 };
	unsigned int seed = 3;

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < ELEMENTS; j++)
			cells[i][j] = wanted[i][j] = (float)(i + j % 7);
	for (int run = 0; run < 200; run++) {
		int x = (int)((seed = seed * 1103515245 + 12345) / 65536 % 8);
		int y = (int)((seed = seed * 1103515245 + 12345) / 65536 % 8);
		int z = (int)((seed = seed * 1103515245 + 12345) / 65536 % 8);
		char mode[100];

		if (z == x || z == y)
			continue;
		for (int j = 0; j < ELEMENTS; j++)
			wanted[z][j] = wanted[x][j] + wanted[y][j];
		snprintf(mode, sizeof(mode), "depth=2 concurrent%s", run % 3 ? " run_us=200" : "");
		setenv("PTO_MODE", mode, 1);
		if (chip_in_flight(chip) == 2)
			finished(chip, 0);
		CHECK_EQ(start(chip, 1, cells[x], cells[y], cells[z], none, 600, 1, 1), 0);
		if (run % 5 == 0)
			finished(chip, 0);
	}
	while (chip_in_flight(chip))
		finished(chip, 0);
	CHECK(memcmp(cells, wanted, sizeof(cells)) == 0);
	chip_done(chip);
}
