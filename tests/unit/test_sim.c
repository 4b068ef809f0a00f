/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The simulated chip: images, memory, copies, blocks, faults, the asynchronous form. */
#include <elf.h>
#include <sys/wait.h>
#include <time.h>
#include "unit.h"
#include "chip_test.h"

#define COUNT 16384

static bool says(const char *part)
{
	return strstr(error_text(), part) != NULL;
}

static struct chip *sim(const char *options)
{
	struct chip *chip = NULL;

	CHECK(chip_open("sim", 0, options, &chip) == 0);
	return chip;
}

static struct chip *sim_with(const char *options, const char *entry)
{
	struct chip *chip = sim(options);

	CHECK(fixture_load(chip, 1, "sim_kernels", entry) == 0);
	return chip;
}

static float a[COUNT], b[COUNT], c[COUNT];

static void add_tensors(struct dw_tensor t[3])
{
	for (int i = 0; i < COUNT; i++) {
		a[i] = (float)i * 0.25f;
		b[i] = (float)(COUNT - i);
		c[i] = -1;
	}
	t[0] = tensor1(a, DW_FLOAT32, COUNT);
	t[1] = tensor1(b, DW_FLOAT32, COUNT);
	t[2] = tensor1(c, DW_FLOAT32, COUNT);
}

static bool add_right(void)
{
	for (int i = 0; i < COUNT; i++)
		if (c[i] != a[i] + b[i])
			return false;
	return true;
}

TEST(vector_add_is_right_for_every_block_dim)
{
	struct chip *chip = sim_with("poison=1", "vector_add");
	struct dw_tensor t[3];

	for (int dim = 1; dim <= 24; dim++) {
		add_tensors(t);
		CHECK(chip_call(chip, 1, t, 3, NULL, 0, dim) == 0);
		CHECK(add_right());
	}
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 25) == -EINVAL && says("24 cores"));
	chip_close(chip);
}

TEST(only_what_the_signature_names_is_copied)
{
	struct chip *chip = sim_with(NULL, "vector_add");
	struct dw_chip_counters counters;
	struct dw_tensor t[3];

	add_tensors(t);
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == 0);
	CHECK(chip_counters(chip, &counters) == 0);
	CHECK(counters.calls == 1 && counters.copies_in == 2 && counters.copies_out == 1);
	CHECK(counters.bytes_in == 2 * COUNT * 4 && counters.bytes_out == COUNT * 4);
	CHECK(counters.memory_used == 0);
	t[1] = t[0];	/* the same bytes twice travel once */
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == 0);
	CHECK(chip_counters(chip, &counters) == 0 && counters.copies_in == 3);
	CHECK(c[5] == a[5] + a[5]);
	chip_close(chip);
}

TEST(arguments_that_overlap_on_the_host_overlap_on_the_device)
{
	struct chip *chip = sim_with("poison=1", "shift");
	char text[32] = "abcdefghij";
	struct dw_tensor t[2] = { tensor1(text, DW_INT8, 8), tensor1(text + 2, DW_INT8, 8) };

	CHECK(chip_call(chip, 1, t, 2, NULL, 0, 1) == 0);
	CHECK(memcmp(text, "ababcdefgh", 10) == 0);
	chip_close(chip);
}

TEST(kernel_without_a_description_needs_a_signature)
{
	static const int32_t signature[] = { DW_DIR_OUT, DW_DIR_SCALAR };
	static const int32_t backwards[] = { DW_DIR_SCALAR, DW_DIR_OUT };
	static const int32_t unknown[] = { 7 };
	struct chip *chip = sim(NULL);
	int64_t out[10];
	struct dw_tensor t = tensor1(out, DW_INT64, 10);
	uint64_t start = 40;
	size_t bytes;
	void *data = file_read(fixture("sim_kernels"), &bytes);

	CHECK(image_load_bytes(chip, 1, data, bytes, "plain", NULL, 0) == -EINVAL &&
	      says("signature"));
	CHECK(image_load_bytes(chip, 1, data, bytes, "plain", backwards, 2) == -EINVAL);
	CHECK(image_load_bytes(chip, 1, data, bytes, "plain", unknown, 1) == -EINVAL && says("7"));
	CHECK(image_load_bytes(chip, 1, data, bytes, "vector_add", signature, 2) == -EINVAL &&
	      says("image's own (3)"));
	CHECK(image_load_bytes(chip, 1, data, bytes, "plain", signature, 2) == 0);
	CHECK(chip_call(chip, 1, &t, 1, &start, 1, 3) == 0);
	CHECK(out[0] == 40 && out[9] == 49);
	CHECK(chip_call(chip, 1, &t, 1, NULL, 0, 1) == -EINVAL && says("1 tensors and 1 scalars"));
	chip_close(chip);
	free(data);
}

TEST(images_that_are_none_get_their_sentence)
{
	struct chip *chip = sim(NULL);
	size_t bytes;
	unsigned char *data = file_read(fixture("sim_kernels"), &bytes);
	Elf64_Ehdr *header = (Elf64_Ehdr *)data;
	unsigned int machine = header->e_machine;

	CHECK(image_load_bytes(chip, 1, "nothing", 7, "f", NULL, 0) == -ELIBBAD && says("no ELF"));
	CHECK(image_load_bytes(chip, 1, data, 64, "vector_add", NULL, 0) == -ELIBBAD);
	CHECK(image_load_bytes(chip, 1, data, bytes / 8, "vector_add", NULL, 0) == -ELIBBAD);
	CHECK(image_load_bytes(chip, 1, data, bytes, "vector_sub", NULL, 0) == -ESRCH &&
	      says("vector_sub") && says("vector_add"));
	/* Not its own, though the C library has it. */
	CHECK(image_load_bytes(chip, 1, data, bytes, "memmove", NULL, 0) == -ESRCH);
	CHECK(image_load_bytes(chip, 1, data, bytes, "", NULL, 0) == -EINVAL && says("entry"));
	header->e_machine = EM_SPARC;
	CHECK(image_load_bytes(chip, 1, data, bytes, "vector_add", NULL, 0) == -ELIBBAD &&
	      says("machine"));
	header->e_machine = (Elf64_Half)machine;
	header->e_type = ET_REL;
	CHECK(image_load_bytes(chip, 1, data, bytes, "vector_add", NULL, 0) == -ELIBBAD &&
	      says("relocatable"));
	CHECK(!chip_image_loaded(chip, 1));
	chip_close(chip);
	free(data);
}

/* Before, the list of names ended in the middle of one. */
TEST(entries_that_do_not_fit_into_a_message_are_hinted_at)
{
	struct chip *chip = sim(NULL);
	char path[PATH_MAX + 32];
	unsigned char *data;
	size_t bytes;

	snprintf(path, sizeof(path), "%s/../../libdistworker.so", test_folder());
	data = file_read(path, &bytes);
	REQUIRE(bytes > 0);
	CHECK(image_load_bytes(chip, 1, data, bytes, "vector_add", NULL, 0) == -ESRCH);
	CHECK_STR(error_text(), "exports no function \"vector_add\"; it exports dw_");
	CHECK_STR(error_text(), ", …");
	chip_close(chip);
	free(data);
}

TEST(reloaded_image_is_the_new_one)
{
	/* A descriptor number that is used again once gave the dynamic linker the old object. */
	struct chip *chip = sim(NULL);
	uint64_t x[1] = { 2 }, s = 1;
	struct dw_tensor t = tensor1(x, DW_UINT64, 1);

	for (int i = 0; i < 20; i++) {
		CHECK(fixture_load(chip, 1, "sim_kernels", "triple_add") == 0);
		x[0] = 2;
		CHECK(chip_call(chip, 1, &t, 1, &s, 1, 1) == 0 && x[0] == 7);
		CHECK(chip_image_unload(chip, 1) == 0);
	}
	chip_close(chip);
}

TEST(each_block_knows_its_index_and_core)
{
	struct chip *chip = sim_with(NULL, "who");
	uint32_t out[24];
	struct dw_tensor t = tensor1(out, DW_UINT32, 24);

	CHECK(chip_call(chip, 1, &t, 1, NULL, 0, 24) == 0);
	for (uint32_t i = 0; i < 24; i++)
		CHECK(out[i] == (i << 16 | 24));
	chip_close(chip);
}

/* Failed before: 1 block, whatever the driver's default. */
TEST(config_of_zeros_is_the_devices_default)
{
	struct chip *chip = sim_with("cores=8,block_dim=6,aicpu_thread_num=2", "who");
	const struct dw_chip_properties *properties = chip_properties(chip);
	struct dw_config zeros = { 0 };
	uint32_t out[24] = { 0 };
	struct dw_tensor t = tensor1(out, DW_UINT32, 24);
	struct dw_args args = view(&t, 1, NULL, 0);
	struct chip_completion done;

	CHECK_EQ(properties->default_block_dim, 6);
	CHECK_EQ(properties->default_aicpu_thread_num, 2);
	CHECK_EQ(properties->max_block_dim, 8);
	CHECK_EQ(properties->max_aicpu_thread_num, 4);
	CHECK_EQ(properties->max_allocation_bytes, 256 << 20);
	CHECK_EQ(chip_submit(chip, 1, &args, &zeros, 0, NULL), 0);
	CHECK_EQ(chip_collect(chip, &done), 1);
	for (uint32_t i = 0; i < 6; i++)
		CHECK_EQ(out[i], i << 16 | 6);
	chip_close(chip);
	/* A driver that names no defaults gets the library's. */
	chip = sim(NULL);
	CHECK_EQ(chip_properties(chip)->default_block_dim, 1);
	CHECK_EQ(chip_properties(chip)->default_aicpu_thread_num, 3);
	chip_close(chip);
}

TEST(blocks_give_the_same_bits_however_many_threads_run_them)
{
	static const char *const options[] = { "threads=1", "threads=2", "threads=8",
					       "async=1,threads=3" };
	uint64_t expected[24], out[24], loops = 200000;
	struct dw_tensor t = tensor1(out, DW_UINT64, 24);

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		struct chip *chip = sim_with(options[i], "burn");

		for (int j = 0; j < 3; j++) {
			memset(out, 0, sizeof(out));
			CHECK(chip_call(chip, 1, &t, 1, &loops, 1, 24) == 0);
			if (i == 0)
				memcpy(expected, out, sizeof(out));
			CHECK(memcmp(expected, out, sizeof(out)) == 0);
		}
		chip_close(chip);
	}
}

TEST(lowest_failing_block_is_the_error)
{
	struct chip *chip = sim_with("threads=8", "fails");
	char out[8];
	struct dw_tensor t = tensor1(out, DW_INT8, 8);
	uint64_t scalars[2] = { 3, 0 };

	for (int i = 0; i < 50; i++) {
		scalars[1] = 0;
		CHECK(chip_call(chip, 1, &t, 1, scalars, 2, 8) == -ERANGE && says("block 3 of 8"));
		scalars[1] = 1;
		CHECK(chip_call(chip, 1, &t, 1, scalars, 2, 8) == -EDOM &&
		      says("block 3 has no inverse"));
	}
	chip_close(chip);
}

TEST(failed_call_writes_nothing_back_and_leaves_no_memory)
{
	struct chip *chip = sim_with(NULL, "fails");
	char out[8] = "before!";
	struct dw_tensor t = tensor1(out, DW_INT8, 8);
	uint64_t scalars[2] = { 0, 0 };
	struct dw_chip_counters counters;

	CHECK(chip_call(chip, 1, &t, 1, scalars, 2, 1) == -ERANGE);
	CHECK(strcmp(out, "before!") == 0);
	CHECK(chip_counters(chip, &counters) == 0 && counters.memory_used == 0);
	chip_close(chip);
}

TEST(every_address_is_checked)
{
	struct chip *chip = sim_with("memory=1M", "triple_add");
	uint64_t x[8] = { 0 }, s = 1;
	struct dw_tensor t = tensor1(x, DW_UINT64, 8);

	t.data = 0;
	CHECK(chip_call(chip, 1, &t, 1, &s, 1, 1) == -EFAULT && says("tensor 0"));
	t.data = UINT64_MAX - 8;
	CHECK(chip_call(chip, 1, &t, 1, &s, 1, 1) < 0);
	CHECK(chip_alloc(chip, 0x1000, 64) == 0);
	t.data = 0x1008;
	CHECK(chip_call(chip, 1, &t, 1, &s, 1, 1) == -EFAULT && says("8 bytes beyond"));
	t.data = 0x0ff8;
	CHECK(chip_call(chip, 1, &t, 1, &s, 1, 1) == -EFAULT && says("begins before"));
	t = tensor1(x, DW_UINT64, 0);	/* nothing: no address is needed */
	t.data = 0;
	CHECK(chip_call(chip, 1, &t, 1, &s, 1, 1) == 0);
	t = tensor1(x, DW_UINT64, 1u << 20);
	CHECK(chip_call(chip, 1, &t, 1, &s, 1, 1) == -ENOMEM && says("memory="));
	chip_close(chip);
}

TEST(resident_memory_stays_and_is_not_copied)
{
	struct chip *chip = sim_with("memory=1M,poison=1", "triple_add");
	uint64_t handle = 0x7000000000, x[4] = { 1, 2, 3, 4 }, out[4], s = 5;
	struct dw_tensor t = { .data = handle + 8, .shape = { 2 }, .ndims = 1, .dtype = DW_UINT64 };
	struct dw_chip_counters before, after;

	CHECK(chip_alloc(chip, handle, 32) == 0);
	CHECK(chip_copy_out(chip, out, handle, 32) == 0 && out[0] == 0 && out[3] == 0);
	CHECK(chip_copy_in(chip, handle, x, 32) == 0);
	chip_counters(chip, &before);
	CHECK(chip_call(chip, 1, &t, 1, &s, 1, 1) == 0);
	CHECK(chip_call(chip, 1, &t, 1, &s, 1, 2) == 0);
	chip_counters(chip, &after);
	CHECK(after.copies_in == before.copies_in && after.copies_out == before.copies_out);
	CHECK(chip_copy_out(chip, out, handle, 32) == 0);
	CHECK(out[0] == 1 && out[1] == 3 * (3 * 2 + 5) + 5 && out[2] == 3 * (3 * 3 + 5) + 5 &&
	      out[3] == 4);
	CHECK(chip_copy_out(chip, out, handle + 24, 16) == -ERANGE);
	CHECK(chip_copy_in(chip, 0x10, x, 8) == -ENOENT);
	CHECK(chip_alloc(chip, handle + 16, 64) == -EEXIST);
	CHECK(chip_alloc(chip, handle - 16, 17) == -EEXIST);
	CHECK(chip_alloc(chip, handle - 16, 16) == 0);
	CHECK(chip_alloc(chip, handle + 32, UINT64_C(1) << 40) == -ENOMEM);
	CHECK(chip_alloc(chip, 0, 1) == -EINVAL);
	CHECK(chip_free(chip, handle + 8) == -ENOENT);
	CHECK(chip_free(chip, handle) == 0 && chip_free(chip, handle) == -ENOENT);
	CHECK(chip_free(chip, handle - 16) == 0);
	chip_counters(chip, &after);
	CHECK(after.memory_used == 0);
	chip_close(chip);
}

TEST(device_memory_survives_a_long_random_use)
{
	enum { RANGES = 64 };
	struct chip *chip = sim("memory=4M");
	uint64_t bytes[RANGES] = { 0 }, seed = 1;
	struct dw_chip_counters counters;

	for (int i = 0; i < 20000; i++) {
		unsigned int k;
		uint64_t mark;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		k = (unsigned int)(seed >> 33) % RANGES;
		if (bytes[k]) {
			CHECK(chip_copy_out(chip, &mark, (k + 1) * 0x100000000u + bytes[k] - 8,
					    8) == 0);
			CHECK(mark == k);
			CHECK(chip_free(chip, (k + 1) * 0x100000000u) == 0);
			bytes[k] = 0;
		} else {
			mark = k;
			bytes[k] = 8 + (seed >> 12) % 60000;
			CHECK(chip_alloc(chip, (k + 1) * 0x100000000u, bytes[k]) == 0);
			CHECK(chip_copy_in(chip, (k + 1) * 0x100000000u + bytes[k] - 8, &mark, 8) ==
			      0);
		}
	}
	for (unsigned int k = 0; k < RANGES; k++)
		if (bytes[k])
			CHECK(chip_free(chip, (k + 1) * 0x100000000u) == 0);
	chip_counters(chip, &counters);
	CHECK(counters.memory_used == 0);
	/* Memory is not fragmented: all of it can be allocated again. */
	CHECK(chip_alloc(chip, 0x100000000u, 4 << 20) == 0);
	chip_close(chip);
}

/* ------------------------------------------------------------------ faults */

TEST(kernel_fails_on_demand)
{
	struct dw_tensor t[3];
	struct chip *chip = sim_with("fail=2", "vector_add");

	add_tensors(t);
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == 0);
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == -EIO && says("fail=") && says("vector_add"));
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == 0);
	chip_close(chip);
	chip = sim_with("fail=2+", "vector_add");
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == 0);
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == -EIO);
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == -EIO);
	chip_close(chip);
	chip = sim_with("fail=vector_add", "vector_add");
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == -EIO);
	chip_close(chip);
}

TEST(copy_fails_on_demand)
{
	struct dw_tensor t[3];
	struct chip *chip = sim_with("copy_fail=3", "vector_add");
	struct dw_chip_counters counters;

	add_tensors(t);
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == -EIO && says("copy 3"));
	CHECK(c[0] == -1);
	chip_counters(chip, &counters);
	CHECK(counters.memory_used == 0 && counters.copies_in == 2 && counters.copies_out == 0);
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == 0);
	chip_close(chip);
}

TEST(lost_device_stays_lost)
{
	struct dw_tensor t[3];
	struct chip *chip = sim_with("lost_after=1", "vector_add");

	add_tensors(t);
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == 0 && !chip_lost(chip));
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == -ENODEV && says("lost_after=1"));
	CHECK(chip_lost(chip));
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == -ENODEV && says("earlier call"));
	CHECK(chip_alloc(chip, 0x1000, 8) == -ENODEV);
	CHECK(fixture_load(chip, 2, "sim_kernels", "triple_add") == -ENODEV);
	chip_close(chip);
}

TEST(delay_is_kept_without_using_the_cpu)
{
	struct dw_tensor t[3];
	struct chip *chip = sim_with("delay_us=50000", "vector_add");
	struct timespec wall[2], cpu[2];

	add_tensors(t);
	clock_gettime(CLOCK_MONOTONIC, &wall[0]);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[0]);
	CHECK(chip_call(chip, 1, t, 3, NULL, 0, 1) == 0);
	clock_gettime(CLOCK_MONOTONIC, &wall[1]);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[1]);
	CHECK((wall[1].tv_sec - wall[0].tv_sec) * 1000000000L + wall[1].tv_nsec - wall[0].tv_nsec >=
	      50000000L);
	CHECK((cpu[1].tv_sec - cpu[0].tv_sec) * 1000000000L + cpu[1].tv_nsec - cpu[0].tv_nsec <
	      25000000L);
	chip_close(chip);
}

/* Returns how a child that calls `entry` once ends; a child that hangs is killed after a moment. */
static int child_end(const char *options, const char *entry, bool hangs)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct dw_tensor t[3];
		struct chip *chip = sim_with(options, entry);

		add_tensors(t);
		chip_call(chip, 1, t, strcmp(entry, "wild") == 0 ? 1 : 3, NULL, 0, 1);
		_exit(0);
	}
	if (hangs) {
		struct timespec moment = { 0, 300000000 };
		siginfo_t info;

		/* After that moment the child is still there: the call has not returned. */
		nanosleep(&moment, NULL);
		info.si_pid = 0;
		waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
		if (info.si_pid == 0)
			kill(pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	return status;
}

/* Ended by the fault; a sanitizer's run time turns it into a report and an exit. */
static bool is_fault(int status)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return WIFEXITED(status) && WEXITSTATUS(status) != 0;
#else
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
#endif
}

TEST(crash_and_wild_pointer_end_the_process_with_a_fault)
{
	CHECK(is_fault(child_end("crash=1", "vector_add", false)));
	CHECK(is_fault(child_end("memory=512M", "wild", false)));
}

TEST(hang_waits_for_ever)
{
	int status = child_end("hang=1", "vector_add", true);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ------------------------------------------------------------ asynchronous */

TEST(async_calls_complete_in_order_and_see_each_others_results)
{
	struct chip *chip = sim_with("async=1,depth=4", "triple_add");
	uint64_t x[64] = { 0 }, expected = 0, scalars[200];
	struct dw_tensor t = tensor1(x, DW_UINT64, 64);
	struct dw_args args[200];
	struct chip_completion done;
	unsigned int submitted = 0, collected = 0;

	CHECK(chip_depth(chip) == 4 && chip_completion_fd(chip) >= 0);
	while (collected < 200) {
		while (submitted < 200 && chip_in_flight(chip) < chip_depth(chip)) {
			scalars[submitted] = submitted;
			args[submitted] = view(&t, 1, &scalars[submitted], 1);
			CHECK(chip_submit(chip, 1, &args[submitted], NULL, submitted, NULL) == 0);
			submitted++;
		}
		CHECK(chip_finish(chip, &done) == 1);
		CHECK(done.cookie == collected && done.status == 0 && done.ended >= done.started);
		expected = expected * 3 + collected++;
	}
	CHECK(x[0] == expected && x[63] == expected);
	chip_close(chip);
}

TEST(completion_fd_is_readable_exactly_while_there_is_a_completion)
{
	struct chip *chip = sim_with("async=1,delay_us=20000", "triple_add");
	uint64_t x[1] = { 1 }, s = 1;
	struct dw_tensor t = tensor1(x, DW_UINT64, 1);
	struct dw_args args = view(&t, 1, &s, 1);
	struct chip_completion done;
	struct pollfd wait = { .fd = chip_completion_fd(chip), .events = POLLIN };

	CHECK(poll(&wait, 1, 0) == 0);
	CHECK(chip_submit(chip, 1, &args, NULL, 1, NULL) == 0);
	CHECK(chip_collect(chip, &done) == 0);
	CHECK(unit_polled(wait.fd, POLLIN));
	CHECK(chip_collect(chip, &done) == 1 && done.status == 0 && x[0] == 4);
	CHECK(chip_collect(chip, &done) == 0);
	/* The layer asks the driver only while something is in flight. */
	CHECK(chip_submit(chip, 1, &args, NULL, 2, NULL) == 0);
	CHECK(chip_collect(chip, &done) == 0 && poll(&wait, 1, 0) == 0);
	CHECK(unit_polled(wait.fd, POLLIN) && chip_collect(chip, &done) == 1);
	chip_close(chip);
}

/* Are the inputs of the second call on the device before the first call ends? */
static bool staged_early(struct dw_tensor *first, struct dw_tensor *second)
{
	struct chip *chip = sim_with("async=1,delay_us=300000", "triple_add");
	uint64_t s = 1;
	struct dw_args args[2] = { view(first, 1, &s, 1), view(second, 1, &s, 1) };
	struct dw_chip_counters counters;
	struct chip_completion done;
	bool early;

	CHECK(chip_submit(chip, 1, &args[0], NULL, 1, NULL) == 0);
	CHECK(chip_submit(chip, 1, &args[1], NULL, 2, NULL) == 0);
	CHECK(chip_counters(chip, &counters) == 0);
	early = counters.copies_in == 2;
	/* Neither is done yet. */
	CHECK(chip_collect(chip, &done) == 0);
	CHECK(chip_finish(chip, &done) == 1 && done.cookie == 1 && done.status == 0);
	CHECK(chip_finish(chip, &done) == 1 && done.cookie == 2 && done.status == 0);
	CHECK(chip_counters(chip, &counters) == 0 && counters.copies_in == 2);
	chip_close(chip);
	return early;
}

TEST(next_call_is_staged_while_the_chip_works_unless_it_reads_what_is_being_written)
{
	uint64_t x[64] = { 5 }, y[64] = { 7 };
	struct dw_tensor tx = tensor1(x, DW_UINT64, 64), ty = tensor1(y, DW_UINT64, 64);

	CHECK(staged_early(&tx, &ty));
	CHECK(x[0] == 16 && y[0] == 22);
	CHECK(!staged_early(&tx, &tx));
	CHECK(x[0] == 148);
}

TEST(async_call_that_does_not_fit_beside_the_other_waits_for_it)
{
	struct chip *chip = sim_with("async=1,memory=64K", "triple_add");
	static uint64_t x[6000], y[6000];
	uint64_t s = 1;
	struct dw_tensor t[2] = { tensor1(x, DW_UINT64, 6000), tensor1(y, DW_UINT64, 6000) };
	struct dw_args first = view(&t[0], 1, &s, 1), second = view(&t[1], 1, &s, 1);
	struct chip_completion done;

	CHECK(chip_submit(chip, 1, &first, NULL, 1, NULL) == 0);
	CHECK(chip_submit(chip, 1, &second, NULL, 2, NULL) == 0);
	CHECK(chip_finish(chip, &done) == 1 && done.status == 0);
	CHECK(chip_finish(chip, &done) == 1 && done.status == 0);
	CHECK(x[5999] == 1 && y[5999] == 1);
	chip_close(chip);
}

TEST(async_failures_belong_to_their_call)
{
	struct chip *chip = sim_with("async=1,fail=1,lost_after=2", "triple_add");
	uint64_t x[1] = { 1 }, s = 1;
	struct dw_tensor t = tensor1(x, DW_UINT64, 1);
	struct dw_args args = view(&t, 1, &s, 1);
	struct chip_completion done;

	CHECK(chip_submit(chip, 1, &args, NULL, 1, NULL) == 0);
	CHECK(chip_submit(chip, 1, &args, NULL, 2, NULL) == 0);
	CHECK(chip_finish(chip, &done) == 1 && done.status == -EIO && strstr(done.text, "fail="));
	CHECK(chip_finish(chip, &done) == 1 && done.status == 0 && x[0] == 4);
	CHECK(chip_submit(chip, 1, &args, NULL, 3, NULL) == 0);
	CHECK(chip_finish(chip, &done) == 1 && done.status == -ENODEV);
	CHECK(chip_lost(chip) && chip_submit(chip, 1, &args, NULL, 4, NULL) == -ENODEV);
	chip_close(chip);
}

TEST(cancelled_task_stops_between_blocks)
{
	struct chip *chip = sim_with("async=1,delay_us=50000", "burn");
	uint64_t out[8] = { 0 }, loops = 1;
	struct dw_tensor t = tensor1(out, DW_UINT64, 8);
	struct dw_args args = view(&t, 1, &loops, 1);
	struct dw_config config = { .block_dim = 8 };
	volatile uint32_t cancelled = 0;
	struct chip_completion done;

	CHECK(chip_submit(chip, 1, &args, &config, 1, &cancelled) == 0);
	__atomic_store_n(&cancelled, 1, __ATOMIC_RELAXED);
	CHECK(chip_finish(chip, &done) == 1 && done.status == -ECANCELED);
	CHECK(out[0] == 0);
	chip_close(chip);
}

TEST(devices_of_one_process_share_nothing)
{
	struct chip *one = NULL, *two = NULL;
	uint64_t out[1], mark = 9;

	CHECK(chip_open("sim", 0, NULL, &one) == 0 && chip_open("sim", 1, NULL, &two) == 0);
	CHECK(chip_alloc(one, 0x1000, 8) == 0 && chip_copy_in(one, 0x1000, &mark, 8) == 0);
	CHECK(chip_copy_out(two, out, 0x1000, 8) == -ENOENT && says("device 1"));
	CHECK(chip_alloc(two, 0x1000, 8) == 0);
	CHECK(chip_copy_out(two, out, 0x1000, 8) == 0 && out[0] == 0);
	chip_close(one);
	chip_close(two);
}
