/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* On-chip orchestration of the simulated chip: dependencies by bytes, scopes, failures. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include "unit.h"
#include "chip_test.h"

static bool says(const char *part)
{
	return strstr(error_text(), part) != NULL;
}

static struct chip *sim_with(const char *options, const char *entry)
{
	struct chip *chip = NULL;

	CHECK(chip_open("sim", 0, options, &chip) == 0);
	CHECK(fixture_load(chip, 1, "sim_kernels", entry) == 0);
	return chip;
}

/* The tasks of orchestration `mix`, in order. */
static void mix_expected(uint64_t *x, uint32_t count, uint64_t tasks, uint64_t seed)
{
	for (uint64_t i = 0; i < tasks; i++) {
		uint32_t first, length;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		first = (uint32_t)(seed >> 33) % count;
		length = 1 + (uint32_t)(seed >> 12) % (count - first);
		for (uint32_t j = first; j < first + length; j++)
			x[j] = x[j] * 3 + i;
	}
}

TEST(tasks_that_overlap_run_in_order_whatever_the_threads)
{
	static const char *const options[] = { "threads=1", "threads=2", "threads=4",
					       "threads=4,async=1" };
	static uint64_t x[1000], expected[1000];
	struct dw_tensor t = tensor1(x, DW_UINT64, 1000);

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		struct chip *chip = sim_with(options[i], "mix");

		for (uint64_t seed = 1; seed <= 5; seed++) {
			uint64_t scalars[2] = { 2000, seed };

			for (uint32_t j = 0; j < 1000; j++)
				expected[j] = x[j] = j;
			mix_expected(expected, 1000, scalars[0], seed);
			CHECK(chip_call(chip, 1, &t, 1, scalars, 2, 1) == 0);
			CHECK(memcmp(x, expected, sizeof(x)) == 0);
		}
		chip_close(chip);
	}
}

TEST(more_tasks_than_the_graph_keeps_at_once)
{
	static uint64_t x[64], expected[64];
	struct dw_tensor t = tensor1(x, DW_UINT64, 64);
	uint64_t scalars[2] = { 50000, 3 };
	struct chip *chip = sim_with(NULL, "mix");

	mix_expected(expected, 64, scalars[0], 3);
	CHECK(chip_call(chip, 1, &t, 1, scalars, 2, 1) == 0);
	CHECK(memcmp(x, expected, sizeof(x)) == 0);
	chip_close(chip);
}

TEST(allocations_end_with_their_scope_and_wait_waits)
{
	static uint64_t x[100], y[100];
	struct dw_tensor t[2] = { tensor1(x, DW_UINT64, 100), tensor1(y, DW_UINT64, 100) };
	/* Each round holds 2 × 832 bytes: without the scopes 64 KiB would not do. */
	struct chip *chip = sim_with("memory=64K,poison=1", "eight");
	uint64_t rounds = 500;
	struct dw_chip_counters counters;

	for (uint32_t i = 0; i < 100; i++)
		x[i] = i + 1;
	CHECK(chip_call(chip, 1, t, 2, &rounds, 1, 2) == 0);
	CHECK(y[0] == 8 && y[99] == 800);
	chip_counters(chip, &counters);
	CHECK(counters.memory_used == 0 && counters.copies_in == 1 && counters.copies_out == 1);
	chip_close(chip);
}

static long elapsed_ns(const struct timespec time[2])
{
	return (time[1].tv_sec - time[0].tv_sec) * 1000000000L + time[1].tv_nsec - time[0].tv_nsec;
}

/* The control: a thread that polls. */
static void *poll_meanwhile(void *stop)
{
	static struct timespec used[2];

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used[0]);
	while (!atomic_load_explicit((_Atomic bool *)stop, memory_order_relaxed))
		;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used[1]);
	return used;
}

/*
 * CPU that the process takes for a call which is asleep for 300 ms, in percent of what one thread
 * that polls takes in this time: of a virtual machine, both count what its host takes away. 100
 * where nothing slept, since no other thread came in time to take a block.
 */
static long cpu_of_sleep(const char *options, const char *entry, uint64_t ms, uint64_t times)
{
	struct chip *chip = sim_with(options, entry);
	struct timespec wall[2], cpu[2];
	_Atomic bool stop = false;
	pthread_t control;
	void *polled;
	uint64_t x = 0;
	struct dw_tensor t = tensor1(&x, DW_UINT64, 1);

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[0]);
	CHECK_EQ(pthread_create(&control, NULL, poll_meanwhile, &stop), 0);
	clock_gettime(CLOCK_MONOTONIC, &wall[0]);
	CHECK_EQ(chip_call(chip, 1, &t, 1, &ms, 1, 8), 0);
	clock_gettime(CLOCK_MONOTONIC, &wall[1]);
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	CHECK_EQ(pthread_join(control, &polled), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[1]);
	chip_close(chip);
	if (x != times || elapsed_ns(wall) < 300000000L)
		return 100;
	return (elapsed_ns(cpu) - elapsed_ns(polled)) * 100 / elapsed_ns(polled);
}

/*
 * One that polls always takes 100 % for each thread that waits, as the reference's cores do; one
 * that sleeps has that only by a moment in which the machine was taken away.
 */
static bool takes_no_cpu(const char *options, const char *entry, uint64_t ms, uint64_t times)
{
	for (int i = 0; i < 10; i++)
		if (cpu_of_sleep(options, entry, ms, times) < 30)
			return true;
	return false;
}

TEST(threads_that_wait_for_a_block_or_a_task_take_no_cpu)
{
	CHECK(takes_no_cpu("threads=4", "nap_elsewhere", 300, 1));
	CHECK(takes_no_cpu("threads=4,async=1", "nap_elsewhere", 300, 1));
	CHECK(takes_no_cpu("threads=4", "naps", 150, 2));
	CHECK(takes_no_cpu("threads=4,async=1", "naps", 150, 2));
}

TEST(orchestration_works_on_resident_memory)
{
	struct chip *chip = sim_with(NULL, "mix");
	uint64_t handle = 0x40000000, out[16], expected[16] = { 0 };
	struct dw_tensor t = {
		.data = handle + 64, .shape = { 16 }, .ndims = 1, .dtype = DW_UINT64
	};
	uint64_t scalars[2] = { 100, 9 };

	CHECK(chip_alloc(chip, handle, 256) == 0);
	mix_expected(expected, 16, 100, 9);
	CHECK(chip_call(chip, 1, &t, 1, scalars, 2, 1) == 0);
	CHECK(chip_copy_out(chip, out, handle + 64, sizeof(out)) == 0);
	CHECK(memcmp(out, expected, sizeof(out)) == 0);
	chip_close(chip);
}

TEST(what_an_orchestration_does_wrong_is_named)
{
	static const struct { uint64_t what; int status; const char *part; } wrong[] = {
		{ 0, -EFAULT, "tensor 0" }, { 1, -EDOM, "block 0 has no inverse" },
		{ 2, -EINVAL, "after[0] is task 7" }, { 3, -ENOMEM, "memory=" },
		{ 4, -EINVAL, "no scope" }, { 5, -ENOSPC, "only 3 left" },
		{ 6, -EINVAL, "100000" }, { 7, -EINVAL, "kernel" }, { 8, -EINVAL, "type 50" },
		{ 9, -EINVAL, "size is 1" }, { 10, -ERANGE, "\"third block\" returned" },
		{ 11, -EINVAL, "tag 9" }, { 12, -EOVERFLOW, "64 scopes" }, { 13, -EILSEQ, "wrong" },
	};
	struct chip *chip = sim_with("memory=1M", "wrong");
	uint64_t x[64];
	struct dw_tensor t = tensor1(x, DW_UINT64, 64);
	struct dw_chip_counters counters;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint64_t what = wrong[i].what;

		CHECK_EQ(chip_call(chip, 1, &t, 1, &what, 1, 1), wrong[i].status);
		CHECK_STR(error_text(), wrong[i].part);
	}
	chip_counters(chip, &counters);
	CHECK(counters.memory_used == 0);
	chip_close(chip);
}

TEST(kernel_fails_on_demand_inside_a_graph)
{
	struct chip *chip = sim_with("fail=triple_add", "mix");
	uint64_t x[8] = { 0 }, scalars[2] = { 10, 1 };
	struct dw_tensor t = tensor1(x, DW_UINT64, 8);

	CHECK(chip_call(chip, 1, &t, 1, scalars, 2, 1) == -EIO && says("fail=") && says("task 1 "));
	chip_close(chip);
}

/*
 * Two tasks fail at once. Failed in some runs with "returned -33 (…) in block 0": the
 * text of the one was lost when the other had put its own into the same place.
 */
TEST(lowest_of_two_that_fail_at_once_keeps_its_text)
{
	uint64_t x[8] = { 0 };
	struct dw_tensor t = tensor1(x, DW_UINT64, 8);
	struct chip *chip;

	for (int round = 0; round < 20; round++) {
		chip = sim_with("threads=4", "two_fail");
		CHECK_EQ(chip_call(chip, 1, &t, 1, NULL, 0, 1), -EDOM);
		CHECK_STR(error_text(), "task 1 \"fail_together\": the first was here");
		chip_close(chip);
	}
}

TEST(orchestration_without_a_description_is_no_kernel_by_mistake)
{
	struct chip *chip = NULL;

	CHECK(chip_open("sim", 0, NULL, &chip) == 0);
	CHECK(fixture_load(chip, 1, "sim_kernels", "undescribed") == -EINVAL && says("signature"));
	chip_close(chip);
}

TEST(image_gets_its_own_functions_not_those_of_the_same_name_elsewhere)
{
	/* Failed with a jump into the C library's step(3). */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	SKIP("sanitizers cannot load with RTLD_DEEPBIND");
#else
	struct chip *chip = sim_with(NULL, "own");
	uint64_t x = 2;
	struct dw_tensor t = tensor1(&x, DW_UINT64, 1);

	CHECK(chip_call(chip, 1, &t, 1, NULL, 0, 1) == 0 && x == 11);
	chip_close(chip);
#endif
}
