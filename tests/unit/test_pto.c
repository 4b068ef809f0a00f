/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The pto driver and its image builder against a stand-in runtime library, which
 * checks every byte (fixtures/pto_runtime.c).
 */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include "unit.h"
#include "chip_test.h"
#include "chip/pto_image.h"

#define ELEMENTS 100

static char options_text[5 * PATH_MAX], log_path[PATH_MAX];

static void file_write(const char *path, const void *data, size_t bytes)
{
	FILE *file = fopen(path, "wb");

	if (!CHECK(file && fwrite(data, 1, bytes, file) == bytes))
		abort();
	fclose(file);
}

/* Writes the two blobs, and gives the options that name everything. */
static const char *options(const char *mode)
{
	static char folder[PATH_MAX];
	char path[2 * PATH_MAX];

	if (!folder[0])
		snprintf(folder, sizeof(folder), "%.4000s", test_folder());
	snprintf(path, sizeof(path), "%s/pto_aicpu.bin", folder);
	file_write(path, "the aicpu binary", 16);
	snprintf(path, sizeof(path), "%s/pto_aicore.bin", folder);
	file_write(path, "the aicore binary, longer", 25);
	snprintf(options_text, sizeof(options_text),
		 "host=%s/fixtures/pto_runtime.so,aicpu=%s/pto_aicpu.bin,"
		 "aicore=%s/pto_aicore.bin,sim_context=%s/fixtures/pto_context.so",
		 folder, folder, folder, folder);
	snprintf(log_path, sizeof(log_path), "%.4000s/pto_log.txt", folder);
	unlink(log_path);
	setenv("PTO_LOG", log_path, 1);
	setenv("PTO_MODE", mode, 1);
	return options_text;
}

static const char *log_text(void)
{
	static char text[4096];
	size_t bytes;
	char *data = file_read(log_path, &bytes);

	snprintf(text, sizeof(text), "%.*s", (int)bytes, data ? data : "");
	free(data);
	return text;
}

struct builder {
	struct dw_pto_image_options options;
	struct dw_pto_core cores[40];
	int32_t signature[20];
	unsigned char *orchestration;
	unsigned char core_bytes[40][1000];
};

/* The image that the stand-in expects. */
static struct builder *builder_create(size_t orchestration_bytes, size_t children, size_t arguments)
{
	static const int32_t core_signature[2] = { DW_DIR_IN, DW_DIR_OUT };
	struct builder *builder = calloc(1, sizeof(*builder));

	builder->orchestration = malloc(orchestration_bytes + 1);
	for (size_t i = 0; i < orchestration_bytes; i++)
		builder->orchestration[i] = (unsigned char)(i % 251);
	builder->signature[0] = builder->signature[1] = DW_DIR_IN;
	builder->signature[2] = DW_DIR_OUT;
	for (size_t i = 0; i < children; i++) {
		unsigned int id = 10 + (unsigned int)i;

		for (unsigned int j = 0; j < 100 + 7 * id; j++)
			builder->core_bytes[i][j] = (unsigned char)(id + j);
		builder->cores[i] = (struct dw_pto_core){
			.size = sizeof(struct dw_pto_core), .function = (int32_t)id,
			.data = builder->core_bytes[i], .bytes = 100 + 7 * id,
			.signature = core_signature, .signature_count = 2,
		};
	}
	builder->options = (struct dw_pto_image_options){
		.size = sizeof(builder->options), .data = builder->orchestration,
		.bytes = orchestration_bytes, .entry = "orchestrate", .config_entry = "configure",
		.signature = builder->signature, .signature_count = arguments,
		.cores = builder->cores, .core_count = children,
	};
	return builder;
}

static void builder_free(struct builder *builder)
{
	free(builder->orchestration);
	free(builder);
}

static int image_load(struct chip *chip, uint64_t key, size_t orchestration_bytes, size_t children)
{
	struct builder *builder = builder_create(orchestration_bytes, children, 9);
	void *image = NULL;
	size_t bytes = 0;
	int status = dw_pto_image_build(&builder->options, &image, &bytes);

	if (status == 0)
		status = image_load_bytes(chip, key, image, bytes, "orchestrate",
					  builder->signature, 9);
	free(image);
	builder_free(builder);
	return status;
}

static float a[ELEMENTS], b[ELEMENTS], out[ELEMENTS];

static int add_call(struct chip *chip, uint64_t key, int block_dim, int threads, uint32_t flags,
		    size_t orchestration_bytes, size_t children)
{
	uint64_t scalars[6] = { (uint64_t)block_dim, (uint64_t)threads, flags, orchestration_bytes,
				children, 0xabcd0005 };
	struct dw_tensor t[3] = { tensor1(a, DW_FLOAT32, ELEMENTS),
				  tensor1(b, DW_FLOAT32, ELEMENTS),
				  tensor1(out, DW_FLOAT32, ELEMENTS) };
	struct dw_args args = view(t, 3, scalars, 6);
	struct dw_config config = { .block_dim = block_dim,
				    .aicpu_thread_num = threads,
				    .flags = flags };
	struct chip_completion done;
	int status;

	for (int i = 0; i < ELEMENTS; i++) {
		a[i] = (float)i;
		b[i] = (float)(2 * i);
		out[i] = -1;
	}
	status = chip_submit(chip, key, &args, &config, 1, NULL);
	if (status < 0)
		return status;
	return chip_finish(chip, &done) == 1 ? done.status : -EPIPE;
}

static struct chip *pto(const char *mode)
{
	struct chip *chip = NULL;

	if (!CHECK_EQ(chip_open("pto", 3, options(mode), &chip), 0))
		printf("# %s\n", error_text());
	return chip;
}

TEST(call_reaches_the_runtime_byte_for_byte)
{
	static const size_t sizes[] = { 1, 63, 64, 65, 5000, 4u << 20 };
	struct chip *chip = pto("");

	REQUIRE(chip);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t children = 0; children <= 32; children += 8) {
			uint64_t key = i * 100 + children;

			CHECK_EQ(image_load(chip, key, sizes[i], children), 0);
			if (!CHECK_EQ(add_call(chip, key, 3, 3, 0, sizes[i], children), 0))
				printf("# %s\n", error_text());
			CHECK(out[0] == 0 && out[99] == 297);
		}
	CHECK_EQ(add_call(chip, 0, 24, 4, DW_CONFIG_PROFILING, 1, 0), 0);
	CHECK_EQ(add_call(chip, 0, 2, 1, DW_CONFIG_DUMP_TENSOR, 1, 0), 0);
	chip_close(chip);
}

TEST(device_is_bound_once_finalized_and_destroyed_in_order)
{
	struct chip *chip = pto("");

	REQUIRE(chip);
	CHECK(strcmp(chip_properties(chip)->name, "pto3") == 0);
	CHECK_EQ(image_load(chip, 1, 10, 1), 0);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 10, 1), 0);
	chip_close(chip);
	/* "create 1": the context library was found, so it is global. */
	CHECK_STR(log_text(), "create 1\nset 3\nrun 3\nfinalize 1\ndestroy 0\n");
}

TEST(limits_are_kept_and_named)
{
	struct chip *chip = pto("");
	static float many[17];
	struct dw_tensor t[17];
	uint64_t scalars[129] = { 0 };
	struct dw_args args = view(t, 17, scalars, 6);

	REQUIRE(chip);
	for (int i = 0; i < 17; i++)
		t[i] = tensor1(&many[i], DW_FLOAT32, 1);
	CHECK_EQ(image_load(chip, 1, 10, 1), 0);
	CHECK_EQ(chip_submit(chip, 1, &args, NULL, 0, NULL), -E2BIG);
	CHECK_STR(error_text(), "17 tensors");
	args = view(t, 3, scalars, 129);
	CHECK_EQ(chip_submit(chip, 1, &args, NULL, 0, NULL), -E2BIG);
	CHECK_STR(error_text(), "129 scalars");
	CHECK_EQ(chip_call(chip, 1, t, 2, scalars, 6, 1), -EINVAL);
	CHECK_STR(error_text(), "takes 3 tensors");
	t[1].dtype = DW_UINT32;
	CHECK_EQ(chip_call(chip, 1, t, 3, scalars, 6, 1), -ENOTSUP);
	CHECK_STR(error_text(), "tensor 1");
	t[1].dtype = DW_FLOAT64;
	CHECK_EQ(chip_call(chip, 1, t, 3, scalars, 6, 1), -ENOTSUP);
	t[1].dtype = DW_FLOAT32;
	t[2].data = 0;
	CHECK_EQ(chip_call(chip, 1, t, 3, scalars, 6, 1), -EFAULT);
	CHECK_EQ(add_call(chip, 1, 25, 1, 0, 10, 1), -EINVAL);
	CHECK_STR(error_text(), "block_dim is 25");
	CHECK_EQ(add_call(chip, 1, 4, 5, 0, 10, 1), -EINVAL);
	CHECK_STR(error_text(), "aicpu_thread_num is 5");
	CHECK_EQ(chip_alloc(chip, 0x1000, 8), -EOPNOTSUPP);
	chip_close(chip);
}

TEST(negative_codes_become_errors_with_the_code)
{
	struct chip *chip = pto("");

	REQUIRE(chip);
	CHECK_EQ(image_load(chip, 1, 10, 1), 0);
	CHECK_EQ(add_call(chip, 1, 4, 3, 0, 10, 1), -EIO);
	CHECK_STR(error_text(), "returned -1 for \"orchestrate\"");
	CHECK_STR(error_text(), "divisible");
	/* The stand-in does see it when something is off. */
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 11, 1), -EIO);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 10, 2), -EIO);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 10, 1), 0);
	setenv("PTO_MODE", "positive", 1);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 10, 1), -EPROTO);
	chip_close(chip);
}

/*
 * The interface has no code for it: the driver asks by set_device(), which the stand-in takes after
 * a failed run only.
 */
TEST(device_that_cannot_be_set_after_a_failed_run_is_lost)
{
	struct chip *chip = NULL;

	REQUIRE(chip_open("pto", 2, options("lost=2,0,0"), &chip) == 0);
	CHECK_EQ(image_load(chip, 1, 10, 1), 0);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 10, 1), 0);
	/* A run that fails on a device that is there. */
	CHECK_EQ(add_call(chip, 1, 4, 3, 0, 10, 1), -EIO);
	CHECK(!chip_lost(chip));
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 10, 1), -ENODEV);
	CHECK_STR(
		error_text(),
		"pto device 2 is lost: run_runtime() returned -5 for \"orchestrate\", and "
		"set_device() -9 after it");
	CHECK(chip_lost(chip));
	chip_close(chip);
	CHECK_STR(log_text(), "finalize 1\ndestroy 0");
}

TEST(open_that_fails_leaves_nothing_behind)
{
	struct chip *chip = NULL;

	CHECK_EQ(chip_open("pto", 0, options("null"), &chip), -EIO);
	CHECK_STR(error_text(), "create_device_context() gave NULL");
	CHECK(strcmp(log_text(), "create 1\n") == 0);
	CHECK_EQ(chip_open("pto", 5, options("set"), &chip), -ENODEV);
	CHECK_STR(error_text(), "pto device 5: set_device() returned -7");
	CHECK(strcmp(log_text(), "create 1\nset 5\ndestroy 0\n") == 0);
	CHECK_EQ(chip_open("pto", 5, options("size"), &chip), -EPROTO);
	CHECK(strcmp(log_text(), "create 1\nset 5\nfinalize 1\ndestroy 0\n") == 0);
	CHECK(chip == NULL);
}

TEST(missing_or_wrong_options_are_named)
{
	struct chip *chip = NULL;
	char text[PATH_MAX * 6];

	options("");
	CHECK_EQ(chip_open("pto", 0, NULL, &chip), -EINVAL);
	CHECK_STR(error_text(), "host=PATH");
	CHECK_EQ(chip_open("pto", 0, "host=/x,aicpu=/x", &chip), -EINVAL);
	CHECK_STR(error_text(), "aicore=PATH");
	CHECK_EQ(chip_open("pto", 0, "colour=red", &chip), -EINVAL);
	CHECK_STR(error_text(), "colour");
	CHECK_EQ(chip_open("pto", 0, "host=/x,aicpu=/nowhere,aicore=/x", &chip), -ENOENT);
	CHECK_STR(error_text(), "aicpu=/nowhere");
	CHECK_EQ(chip_open("pto", 0, "host=/x,aicpu=/tmp,aicore=/x", &chip), -EINVAL);
	snprintf(text, sizeof(text), "%.18000s,host=/nowhere.so", options_text);
	CHECK_EQ(chip_open("pto", 0, text, &chip), -ELIBBAD);
	CHECK_STR(error_text(), "/nowhere.so");
	snprintf(text, sizeof(text), "%.18000s,host=%s", options_text, fixture("pto_context"));
	CHECK_EQ(chip_open("pto", 0, text, &chip), -ELIBBAD);
	CHECK_STR(error_text(), "create_device_context()");
	CHECK(chip == NULL);
}

TEST(devices_are_counted)
{
	struct dw_chip_properties properties[2];
	size_t count = 0;

	CHECK_EQ(dw_chip_enumerate("pto", NULL, NULL, sizeof(struct dw_chip_properties), &count),
		 0);
	CHECK(count >= 1);
	count = 2;
	CHECK_EQ(dw_chip_enumerate("pto", "devices=8", properties,
				   sizeof(struct dw_chip_properties), &count),
		 0);
	CHECK(count == 8 && strcmp(properties[1].name, "pto1") == 0 &&
	      properties[1].max_tensors == 16);
}

TEST(builder_refuses_what_the_layout_cannot_hold)
{
	char name[100];
	void *image = NULL;
	size_t bytes;
	struct builder *builder = builder_create((4u << 20) + 1, 33, 17);
	struct dw_pto_image_options *o = &builder->options;

	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "4194305 bytes");
	o->bytes = 100;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "33 core functions");
	o->core_count = 32;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "17 arguments");
	o->signature_count = 16;
	memset(name, 'x', sizeof(name));
	name[64] = '\0';
	o->entry = name;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "64 bytes");
	name[63] = '\0';
	o->config_entry =
		"configuration entry with a name that is longer than sixty-three characters";
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "config entry");
	o->config_entry = NULL;
	builder->signature[5] = 4;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	CHECK_STR(error_text(), "direction 4 of argument 5");
	builder->signature[5] = 0;
	builder->cores[7].function = 12;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	CHECK_STR(error_text(), "id 12 is given twice");
	builder->cores[7].function = 17;
	builder->cores[7].bytes = 0;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	builder->cores[7].bytes = UINT32_MAX;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	builder->cores[7].bytes = 10;
	builder->cores[7].size = 1;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	builder->cores[7].size = sizeof(struct dw_pto_core);
	builder->cores[7].signature_count = 17;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "core function 17");
	builder->cores[7].signature_count = 0;
	o->entry = "";
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	o->entry = name;
	CHECK(image == NULL);
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), 0);
	free(image);
	builder_free(builder);
	CHECK_EQ(dw_pto_image_build(NULL, &image, &bytes), -EINVAL);
}

TEST(damaged_images_are_refused_whatever_byte_is_wrong)
{
	struct builder *builder = builder_create(100, 3, 4);
	struct chip *chip = pto("");
	unsigned char *image = NULL, *damaged;
	size_t bytes = 0;

	REQUIRE(chip);
	CHECK_EQ(dw_pto_image_build(&builder->options, (void **)&image, &bytes), 0);
	CHECK_EQ(image_load_bytes(chip, 1, image, bytes, NULL, NULL, 0), 0);
	CHECK_EQ(image_load_bytes(chip, 2, image, bytes, "other", NULL, 0), -ESRCH);
	CHECK_STR(error_text(), "orchestrate");
	CHECK_EQ(image_load_bytes(chip, 2, image, bytes, NULL, builder->signature, 3), -EINVAL);
	for (size_t cut = 1; cut < bytes; cut++)
		CHECK(image_load_bytes(chip, 2, image, cut, NULL, NULL, 0) < 0);
	damaged = malloc(bytes);
	/*
	 * Every word of the header set to nonsense; those that the runtime would follow are
	 * refused.
	 */
	for (size_t at = 0; at + 4 <= sizeof(struct pto_chip_callable); at += 4) {
		bool followed = at < 16 || at == 64 || at == 68 || at == 80 || at == 136 ||
				(at >= 268 && at < 280) || at == 396 || at == 408 ||
				at == 464;

		memcpy(damaged, image, bytes);
		memset(damaged + at, 0xff, 4);
		if (image_load_bytes(chip, 100 + at, damaged, bytes, NULL, NULL, 0) == 0)
			CHECK(!followed);
		else
			CHECK(error_text()[0]);
	}
	memcpy(damaged, image, bytes);
	damaged[268 + 2] = 0x7f;
	CHECK_EQ(image_load_bytes(chip, 2, damaged, bytes, NULL, NULL, 0), -ELIBBAD);
	CHECK_STR(error_text(), "core function 10");
	free(damaged);
	free(image);
	chip_close(chip);
	builder_free(builder);
}

/* The end of a child whose run misbehaves; a child that hangs is killed from outside. */
static int child_end(const char *mode, bool hangs)
{
	struct timespec moment = { 0, 300000000 };
	siginfo_t info = { .si_pid = 0 };
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct chip *chip = pto(mode);

		if (image_load(chip, 1, 10, 1) == 0)
			add_call(chip, 1, 3, 3, 0, 10, 1);
		_exit(0);
	}
	if (hangs)
		nanosleep(&moment, NULL);
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | (hangs ? WNOHANG : 0));
	if (info.si_pid == 0)
		kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return status;
}

TEST(run_that_hangs_is_ended_by_the_parents_kill_and_a_crash_by_itself)
{
	int status = child_end("hang", true);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	status = child_end("crash", false);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 0);
#else
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
#endif
	/* A runtime that cannot finalize does not keep the device from being closed. */
	chip_close(pto("finalize"));
	CHECK_STR(log_text(), "destroy");
}
