/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The opencl driver on any device that there is: PoCL on the CPU from Debian's pocl-opencl-icd.
 * Skipped, each test by name, where the driver or a device is missing.
 */
#include <dlfcn.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "unit.h"
#include "chip_test.h"
#include "opencl_missing.h"

#define COUNT 16384

#ifdef __SANITIZE_ADDRESS__
/* PoCL 6 leaves a byte behind. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libpocl.so";
}
#endif

static const char program[] =
	"kernel void vector_add(global const float *a, global const float *b, global float *c, "
	"uint n)\n"
	"{\n"
	"	for (size_t i = get_global_id(0); i < n; i += get_global_size(0))\n"
	"		c[i] = a[i] + b[i];\n"
	"}\n"
	"kernel void triple_add(global ulong *x, ulong s)\n"
	"{\n"
	"	if (get_global_id(0) == 0)\n"
	"		x[0] = x[0] * 3 + s;\n"
	"}\n"
	"kernel void scale(global float *x, float f, int n)\n"
	"{\n"
	"	for (int i = get_global_id(0); i < n; i += get_global_size(0))\n"
	"		x[i] *= f;\n"
	"}\n"
	"kernel void who(global uint *out)\n"
	"{\n"
	"	if (get_local_id(0) == 0)\n"
	"		out[get_group_id(0)] = get_num_groups(0) * 1000 + get_group_id(0);\n"
	"}\n";

static const int32_t add_signature[] = { DW_DIR_IN, DW_DIR_IN, DW_DIR_OUT, DW_DIR_SCALAR };
static const int32_t inout_scalars[] = { DW_DIR_INOUT, DW_DIR_SCALAR, DW_DIR_SCALAR };
static const int32_t out_only[] = { DW_DIR_OUT };

static float a[COUNT], b[COUNT], c[COUNT];

static int load(struct chip *chip, uint64_t key, const char *source, const char *entry,
		const int32_t *signature, size_t count)
{
	return image_load_bytes(chip, key, source, strlen(source), entry, signature, count);
}

/* Returns NULL, and skips the test, if there is no OpenCL. */
static struct chip *opencl(const char *options)
{
	struct chip *chip = NULL;
	int status;

	if (opencl_missing()) {
		unit_skipped = opencl_missing();
		return NULL;
	}
	/*
	 * Loaded before the driver, so that it finds these functions first; they do nothing until
	 * asked.
	 */
	if (!CHECK(dlopen(fixture("opencl_faults"), RTLD_NOW | RTLD_GLOBAL)))
		printf("# %s\n", dlerror());
	status = chip_open("opencl", 0, options, &chip);
	if (!CHECK_EQ(status, 0))
		printf("# %s\n", error_text());
	return chip;
}

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

TEST(opencl_vector_add_is_right_and_counted)
{
	struct chip *chip = opencl(NULL);
	struct dw_chip_counters counters;
	uint64_t n = COUNT, wrong = 0;
	struct dw_tensor t[3];

	if (!chip)
		return;
	printf("# device: %s\n", chip_properties(chip)->name);
	CHECK_EQ(load(chip, 1, program, "vector_add", add_signature, 4), 0);
	CHECK(chip_depth(chip) == 2 && chip_completion_fd(chip) >= 0);
	for (int dim = 1; dim <= 24; dim += 23) {
		add_tensors(t);
		if (!CHECK_EQ(chip_call(chip, 1, t, 3, &n, 1, dim), 0))
			printf("# %s\n", error_text());
		for (int i = 0; i < COUNT; i++)
			wrong += c[i] != a[i] + b[i];
		CHECK_EQ(wrong, 0);
	}
	CHECK_EQ(chip_counters(chip, &counters), 0);
	CHECK(counters.calls == 2 && counters.copies_in == 4 && counters.copies_out == 2);
	CHECK(counters.bytes_in == 4 * COUNT * 4 && counters.bytes_out == 2 * COUNT * 4);
	chip_close(chip);
}

TEST(block_dim_is_the_number_of_work_groups)
{
	struct chip *chip = opencl("local=4");
	uint32_t out[5] = { 0 };
	struct dw_tensor t = tensor1(out, DW_UINT32, 5);

	if (!chip)
		return;
	CHECK_EQ(load(chip, 1, program, "who", out_only, 1), 0);
	CHECK_EQ(chip_call(chip, 1, &t, 1, NULL, 0, 5), 0);
	CHECK(out[0] == 5000 && out[4] == 5004);
	chip_close(chip);
}

TEST(scalars_become_what_the_kernel_declares)
{
	struct chip *chip = opencl(NULL);
	float x[3] = { 1, 2, 3 };
	struct dw_tensor t = tensor1(x, DW_FLOAT32, 3);
	double factor = 2.5;
	uint64_t scalars[2] = { 0, 3 };

	if (!chip)
		return;
	memcpy(&scalars[0], &factor, sizeof(factor));
	CHECK_EQ(load(chip, 1, program, "scale", inout_scalars, 3), 0);
	CHECK_EQ(chip_call(chip, 1, &t, 1, scalars, 2, 1), 0);
	CHECK(x[0] == 2.5f && x[2] == 7.5f);
	chip_close(chip);
}

TEST(program_that_does_not_compile_gives_its_build_log)
{
	struct chip *chip = opencl(NULL);

	if (!chip)
		return;
	CHECK_EQ(load(chip, 1, "kernel void f(global int *x) { x[0] = nonsense; }", "f", out_only,
		      1),
		 -ELIBBAD);
	CHECK_STR(error_text(), "CL_BUILD_PROGRAM_FAILURE");
	CHECK_STR(error_text(), "nonsense");
	CHECK_EQ(load(chip, 1, program, "nosuch", out_only, 1), -ESRCH);
	CHECK_STR(error_text(), "vector_add");
	CHECK_EQ(load(chip, 1, program, "who", NULL, 0), -EINVAL);
	CHECK_EQ(load(chip, 1, program, "who", add_signature, 4), -EINVAL);
	CHECK_STR(error_text(), "1 parameters");
	CHECK_EQ(load(chip, 1, program, "triple_add", add_signature, 2), -EINVAL);
	CHECK_STR(error_text(), "parameter 1 is no pointer");
	CHECK_EQ(image_load_bytes(chip, 1, "\0\1\2\3\4", 5, "f", out_only, 1), -ELIBBAD);
	CHECK_STR(error_text(), "test image is neither OpenCL C source nor SPIR-V");
	/*
	 * Only SPIR-V's first word; most devices take no SPIR-V at all, and the error then names
	 * them.
	 */
	CHECK_EQ(image_load_bytes(chip, 1, "\x03\x02\x23\x07\0\0\1\0", 8, "f", out_only, 1),
		 -ELIBBAD);
	CHECK_STR(error_text(), "test image");
	CHECK_STR(error_text(), "CL_");
	if (!strstr(error_text(), "clCreateProgramWithIL"))
		CHECK_STR(error_text(), "which opencl device 0 (");
	CHECK_EQ(image_load_bytes(chip, 1, "\3\2\43\7nothing", 11, "f", out_only, 1), -ELIBBAD);
	chip_close(chip);
}

TEST(opencl_calls_in_flight_keep_their_order)
{
	struct chip *chip = opencl(NULL);
	uint64_t x[1] = { 0 }, expected = 0, scalars[100];
	struct dw_tensor t = tensor1(x, DW_UINT64, 1);
	struct dw_args args[100];
	struct chip_completion done;
	unsigned int submitted = 0, collected = 0;

	if (!chip)
		return;
	CHECK_EQ(load(chip, 1, program, "triple_add", inout_scalars, 2), 0);
	while (collected < 100) {
		while (submitted < 100 && chip_in_flight(chip) < chip_depth(chip)) {
			scalars[submitted] = submitted;
			args[submitted] = view(&t, 1, &scalars[submitted], 1);
			CHECK_EQ(chip_submit(chip, 1, &args[submitted], NULL, submitted, NULL), 0);
			submitted++;
		}
		REQUIRE(chip_finish(chip, &done) == 1);
		CHECK(done.cookie == collected && done.status == 0 && done.ended >= done.started);
		expected = expected * 3 + collected++;
	}
	CHECK(x[0] == expected);
	chip_close(chip);
}

/*
 * Three calls, two of them in flight at a time; the second fails as `fault` says. Before, a call
 * ended with the read behind its kernel, and was taken for done when the kernel had failed while it
 * ran.
 */
static void second_fails(const char *fault, const char *text)
{
	struct chip *chip = opencl("local=7");
	struct chip_completion done[3] = { { .status = 77 }, { .status = 77 }, { .status = 77 } };
	static const float empty[COUNT];
	static float results[3][COUNT];
	uint64_t n = COUNT, wrong = 0;
	struct dw_args args[3];
	struct dw_tensor t[3][3];
	int refused = 0;

	if (!chip)
		return;
	setenv("OPENCL_FAULT", fault, 1);
	CHECK_EQ(load(chip, 1, program, "vector_add", add_signature, 4), 0);
	memset(results, 0, sizeof(results));
	/* Once: a call that is in flight reads them. */
	add_tensors(t[0]);
	for (unsigned i = 0; i < 3; i++) {
		memcpy(t[i], t[0], sizeof(t[i]));
		t[i][2] = tensor1(results[i], DW_FLOAT32, COUNT);
		args[i] = view(t[i], 3, &n, 1);
		if (i == 2)
			CHECK(chip_finish(chip, &done[0]) == 1);
		if (chip_submit(chip, 1, &args[i], NULL, i, NULL) < 0) {
			refused += i == 1;
			done[i].status = -EIO;
			CHECK_STR(error_text(), text);
		}
	}
	for (unsigned i = refused ? 2 : 1; i < 3; i++) {
		CHECK(chip_finish(chip, &done[i]) == 1 && done[i].cookie == i);
		if (i == 1)
			CHECK_STR(done[i].text, text);
	}
	CHECK(done[0].status == 0 && done[1].status == -EIO && done[2].status == 0);
	for (int i = 0; i < COUNT; i++)
		wrong += results[0][i] != a[i] + b[i] || results[2][i] != a[i] + b[i];
	CHECK_EQ(wrong, 0);
	CHECK(memcmp(results[1], empty, sizeof(empty)) == 0);
	unsetenv("OPENCL_FAULT");
	chip_close(chip);
}

TEST(opencl_kernel_that_fails_while_it_runs_fails_its_call_alone_by_name)
{
	second_fails(
		"event once 1 -5 0",
		"kernel \"vector_add\" on opencl device 0 ended with CL_OUT_OF_RESOURCES (-5)");
	/* A code that no header defines. */
	second_fails("event once 1 -9999 0", "ended with OpenCL error -9999");
}

TEST(opencl_launch_that_is_refused_fails_its_call_alone_by_name)
{
	second_fails(
		"call once 1 -5 0",
		"\"vector_add\": clEnqueueNDRangeKernel with 1 work-groups of 7 failed with "
		"CL_OUT_OF_RESOURCES");
}

static void lost(const char *fault, const char *text)
{
	struct chip *chip = opencl("local=7");
	struct dw_tensor t[3];
	uint64_t n = COUNT;

	if (!chip)
		return;
	setenv("OPENCL_FAULT", fault, 1);
	CHECK_EQ(load(chip, 1, program, "vector_add", add_signature, 4), 0);
	add_tensors(t);
	CHECK_EQ(chip_call(chip, 1, t, 3, &n, 1, 1), 0);
	CHECK_EQ(chip_call(chip, 1, t, 3, &n, 1, 1), -ENODEV);
	CHECK_STR(error_text(), text);
	CHECK(chip_lost(chip));
	CHECK_EQ(chip_call(chip, 1, t, 3, &n, 1, 1), -ENODEV);
	CHECK_STR(error_text(), "chip opencl:0 is lost");
	unsetenv("OPENCL_FAULT");
	chip_close(chip);
}

TEST(opencl_device_that_is_gone_is_lost)
{
	lost("call from 1 -2 0", "CL_DEVICE_NOT_AVAILABLE");
	lost("event from 1 -2 0", "CL_DEVICE_NOT_AVAILABLE");
	/* Objects that were valid, and are not any more. */
	lost("call from 1 -36 0", "CL_INVALID_COMMAND_QUEUE");
	lost("event from 1 -34 0", "CL_INVALID_CONTEXT");
}

/* Buffers begin where the device can address one; shared virtual memory anywhere. */
static void resident_in(const char *options, int misaligned)
{
	struct chip *chip = opencl(options);
	uint64_t handle = 0x7000000000, x[2] = { 7, 8 }, out[2], s = 5;
	struct dw_tensor t = { .data = handle, .shape = { 1 }, .ndims = 1, .dtype = DW_UINT64 };
	struct dw_chip_counters before, after;

	if (!chip)
		return;
	CHECK_EQ(load(chip, 1, program, "triple_add", inout_scalars, 2), 0);
	CHECK_EQ(chip_alloc(chip, handle, 1 << 20), 0);
	CHECK_EQ(chip_copy_out(chip, out, handle + 1024, 16), 0);
	CHECK(out[0] == 0 && out[1] == 0);
	CHECK_EQ(chip_copy_in(chip, handle, x, 16), 0);
	chip_counters(chip, &before);
	CHECK_EQ(chip_call(chip, 1, &t, 1, &s, 1, 1), 0);
	CHECK_EQ(chip_call(chip, 1, &t, 1, &s, 1, 1), 0);
	t.data = handle + 65536;	/* a part of it */
	CHECK_EQ(chip_call(chip, 1, &t, 1, &s, 1, 1), 0);
	t.data = handle + 8;
	CHECK_EQ(chip_call(chip, 1, &t, 1, &s, 1, 1), misaligned);
	t.data = handle + (1 << 20) - 4;
	CHECK_EQ(chip_call(chip, 1, &t, 1, &s, 1, 1), -EFAULT);
	chip_counters(chip, &after);
	CHECK(after.copies_in == before.copies_in && after.copies_out == before.copies_out);
	CHECK_EQ(chip_copy_out(chip, out, handle, 16), 0);
	CHECK(out[0] == 3 * (3 * 7 + 5) + 5 && out[1] == (misaligned ? 8 : 3 * 8 + 5));
	/* Copies on the device, from any byte to any other. */
	CHECK_EQ(chip_copy_within(chip, handle + 4099, handle, 16), 0);
	CHECK_EQ(chip_copy_within(chip, handle + 8, handle + (1 << 20) - 8, 16), -ERANGE);
	memset(out, 0, sizeof(out));
	CHECK_EQ(chip_copy_out(chip, out, handle + 4099, 16), 0);
	CHECK_EQ(out[0], 3 * (3 * 7 + 5) + 5);
	CHECK_EQ(chip_copy_out(chip, out, handle + 65536, 8), 0);
	CHECK(out[0] == 5);
	CHECK_EQ(chip_alloc(chip, handle + 16, 64), -EEXIST);
	CHECK_EQ(chip_copy_out(chip, out, handle + (1 << 20) - 8, 16), -ERANGE);
	CHECK_EQ(chip_free(chip, handle + 8), -ENOENT);
	CHECK_EQ(chip_free(chip, handle), 0);
	CHECK_EQ(chip_copy_in(chip, handle, x, 8), -ENOENT);
	chip_close(chip);
}

TEST(opencl_resident_memory_stays_and_is_not_copied)
{
	resident_in("svm=0", -EFAULT);
	/* PoCL has it. */
	resident_in(NULL, 0);
}

TEST(opencl_arguments_that_make_no_sense_are_named)
{
	struct chip *chip = opencl(NULL);
	struct dw_tensor t[3];
	uint64_t n = 16;

	if (!chip)
		return;
	CHECK_EQ(load(chip, 1, program, "vector_add", add_signature, 4), 0);
	add_tensors(t);
	t[2].data = t[0].data + 64;
	CHECK_EQ(chip_call(chip, 1, t, 3, &n, 1, 1), -EINVAL);
	CHECK_STR(error_text(), "tensors 0 and 2");
	t[2].data = 0;
	CHECK_EQ(chip_call(chip, 1, t, 3, &n, 1, 1), -EFAULT);
	CHECK_EQ(chip_call(chip, 1, t, 2, &n, 1, 1), -EINVAL);
	add_tensors(t);
	t[1] = t[0];	/* the same range twice is fine */
	CHECK_EQ(chip_call(chip, 1, t, 3, &n, 1, 1), 0);
	CHECK(c[3] == a[3] + a[3]);
	t[2] = t[0];	/* in place */
	CHECK_EQ(chip_call(chip, 1, t, 3, &n, 1, 1), 0);
	CHECK(a[3] == 1.5f);
	chip_close(chip);
}

/*
 * Drops the capability by which root writes to other users' files. The others stay, since the
 * drivers may lie below /root.
 */
static bool give_up_writing(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct rights[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, rights))
		return false;
	rights[0].effective &= ~(1u << CAP_DAC_OVERRIDE);
	rights[0].permitted &= ~(1u << CAP_DAC_OVERRIDE);
	return syscall(SYS_capset, &header, rights) == 0;
}

/* In a process of its own, since PoCL reads the environment once. */
static void cache_is_named(const char *folder, int wanted)
{
	char text[700] = "", part[200];
	int ends[2], status = 0;
	pid_t pid;

	CHECK_EQ(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		struct chip *chip = NULL;

		setenv("POCL_CACHE_DIR", folder, 1);
		if (!give_up_writing())
			_exit(3);
		status = chip_open("opencl", 0, NULL, &chip);
		snprintf(text, sizeof(text), "%d %s", status, error_text());
		_exit(write(ends[1], text, strlen(text)) < 0);
	}
	close(ends[1]);
	CHECK(read(ends[0], text, sizeof(text) - 1) > 0);
	close(ends[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	CHECK_EQ(atoi(text), wanted);
	snprintf(part, sizeof(part), "PoCL cannot write to its cache folder %s", folder);
	if (wanted)
		CHECK_STR(text, part);
}

/*
 * Failed before: "opencl has no device 0: is an ICD installed?" without the folder, and a crash
 * where it is there and belongs to another user.
 */
TEST(opencl_cache_that_cannot_be_written_is_the_cause_by_name)
{
	char folder[] = "/tmp/opencl-cache-XXXXXX";
	struct chip *chip = opencl("platform=Portable");

	if (!chip)
		return;
	chip_close(chip);
	REQUIRE(mkdtemp(folder) != NULL);
	cache_is_named("/dev/null/cache", -ENOTDIR);
	if (chown(folder, 65534, 65534) == 0)
		cache_is_named(folder, -EACCES);
	rmdir(folder);
}

TEST(opencl_options_are_checked)
{
	struct chip *chip = opencl(NULL);

	if (!chip)
		return;
	chip_close(chip);
	CHECK_EQ(chip_open("opencl", 0, "colour=red", &chip), -EINVAL);
	CHECK_STR(error_text(), "colour");
	CHECK_EQ(chip_open("opencl", 0, "type=quantum", &chip), -EINVAL);
	CHECK_EQ(chip_open("opencl", 4711, NULL, &chip), -ENODEV);
	CHECK_STR(error_text(), "no device 4711");
	CHECK_EQ(chip_open("opencl", 0, "platform=No Such Platform", &chip), -ENODEV);
}

TEST(opencl_waits_without_using_the_cpu)
{
	struct chip *chip = opencl(NULL);
	struct timespec cpu[2], moment = { 0, 300000000 };

	if (!chip)
		return;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[0]);
	nanosleep(&moment, NULL);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[1]);
	CHECK((cpu[1].tv_sec - cpu[0].tv_sec) * 1000000000L + cpu[1].tv_nsec - cpu[0].tv_nsec <
	      30000000L);
	chip_close(chip);
}
