/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The pto driver with the old interface against a stand-in runtime library, which
 * checks every byte (fixtures/pto_runtime.c), and its image builder. Images in the format before
 * today's for all of it: PTO_TEST_OLD_IMAGES=1.
 */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include "pto_test.h"
#include "chip/pto_image.h"

#define ELEMENTS 100
#define RUNTIME "pto_runtime"

static float a[ELEMENTS], b[ELEMENTS], out[ELEMENTS];

static void vectors_fill(void)
{
	for (int i = 0; i < ELEMENTS; i++) {
		a[i] = (float)i;
		b[i] = (float)(2 * i);
		out[i] = -1;
	}
}

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

	vectors_fill();
	status = chip_submit(chip, key, &args, &config, 1, NULL);
	if (status < 0)
		return status;
	return chip_finish(chip, &done) == 1 ? done.status : -EPIPE;
}

static struct chip *pto(const char *mode)
{
	struct chip *chip = NULL;

	if (!CHECK_EQ(chip_open("pto", 3, pto_options(RUNTIME, mode), &chip), 0))
		printf("# %s\n", error_text());
	return chip;
}

/* A call of the usual image, with other tensors. */
static int call_with(struct chip *chip, uint64_t key, const void *first, const void *second,
		     const void *third, uint32_t count)
{
	uint64_t scalars[6] = { 3, 3, 0, 600, 1, 0xabcd0005 };
	struct dw_tensor t[3] = { tensor1(first, DW_FLOAT32, count),
				  tensor1(second, DW_FLOAT32, count),
				  tensor1(third, DW_FLOAT32, count) };
	struct dw_args args = view(t, 3, scalars, 6);
	struct dw_config config = { .block_dim = 3, .aicpu_thread_num = 3 };
	struct chip_completion done;
	int status;

	status = chip_submit(chip, key, &args, &config, 1, NULL);
	if (status < 0)
		return status;
	return chip_finish(chip, &done) == 1 ? done.status : -EPIPE;
}

TEST(call_reaches_the_runtime_byte_for_byte)
{
	static const size_t sizes[] = { 512, 575, 576, 577, 5000, 4u << 20 };
	struct chip *chip = pto("");

	REQUIRE(chip);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t children = 0; children <= 32; children += 8) {
			uint64_t key = i * 100 + children;

			CHECK_EQ(pto_image_load(chip, key, sizes[i], children), 0);
			if (!CHECK_EQ(add_call(chip, key, 3, 3, 0, sizes[i], children), 0))
				printf("# %s\n", error_text());
			CHECK(out[0] == 0 && out[99] == 297);
		}
	CHECK_EQ(add_call(chip, 0, 24, 4, DW_CONFIG_PROFILING, 512, 0), 0);
	CHECK_EQ(add_call(chip, 0, 2, 1, DW_CONFIG_DUMP_TENSOR, 512, 0), 0);
	chip_close(chip);
}

/* Images that were built before the format changed reach the runtime as they always did. */
TEST(images_of_the_format_before_are_read)
{
	struct builder *builder = builder_create(577, 32, 9);
	struct chip *chip = pto("");

	REQUIRE(chip);
	CHECK_EQ(builder_load(chip, 1, builder, true), 0);
	if (!CHECK_EQ(add_call(chip, 1, 3, 3, 0, 577, 32), 0))
		printf("# %s\n", error_text());
	CHECK(out[0] == 0 && out[99] == 297);
	chip_close(chip);
	builder_free(builder);
}

TEST(device_is_bound_once_finalized_and_destroyed_in_order)
{
	struct chip *chip = pto("");

	REQUIRE(chip);
	CHECK(strcmp(chip_properties(chip)->name, "pto3") == 0);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), 0);
	chip_close(chip);
	/* "create 1": the context library was found, so it is global. */
	CHECK_STR(pto_log_text(), "create 1\nset 3\nrun 3\nfinalize 1\ndestroy 0\n");
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
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
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
	CHECK_EQ(pto_log_count("run"), 0);
	CHECK_EQ(add_call(chip, 1, 25, 1, 0, 600, 1), -EINVAL);
	CHECK_STR(error_text(), "block_dim is 25");
	CHECK_EQ(add_call(chip, 1, 4, 5, 0, 600, 1), -EINVAL);
	CHECK_STR(error_text(), "aicpu_thread_num is 5");
	CHECK_EQ(chip_alloc(chip, 0x1000, 8), -EOPNOTSUPP);
	chip_close(chip);
}

TEST(codes_become_errors_with_their_meaning)
{
	static const struct {
		int code;
		const char *meaning;
	} codes[] = {
		{ -1, "a general failure" },
		{ -4, "the orchestrator's error 4" },
		{ -5, "invalid arguments" },
		{ -8, "it waited for a tensor" },
		{ -9, "an explicit fatal error" },
		{ -100, "a time-out" },
		{ -4711, "an unknown code" },
		{ 507018, "a code of the vendor's: an exception on the device's CPU" },
		{ 17, "a code of the vendor's" },
	};
	struct chip *chip = NULL;
	char text[64];

	REQUIRE(chip_open("pto", 3, pto_options_more(RUNTIME, "", ",lost_after=0"), &chip) == 0);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		snprintf(text, sizeof(text), "code=%d", codes[i].code);
		setenv("PTO_MODE", text, 1);
		CHECK_EQ(add_call(chip, 1, 24, 3, 0, 600, 1), -EIO);
		snprintf(text, sizeof(text), "returned %d for \"orchestrate\" on pto device 3: ",
			 codes[i].code);
		CHECK_STR(error_text(), text);
		CHECK_STR(error_text(), codes[i].meaning);
		/* Failed before: the advice about block_dim was in every text. */
		CHECK(!strstr(error_text(), "divisible"));
		CHECK(!chip_lost(chip));
	}
	setenv("PTO_MODE", "", 1);
	CHECK_EQ(add_call(chip, 1, 4, 3, 0, 600, 1), -EIO);
	CHECK_STR(error_text(), "with block_dim 4 and aicpu_thread_num 3: device-side");
	/* The stand-in does notice when something is wrong. */
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 601, 1), -EIO);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 2), -EIO);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), 0);
	chip_close(chip);
}

/*
 * The interface has no code for it: the driver asks by set_device(), which the stand-in takes after
 * a failed run only.
 */
TEST(device_that_cannot_be_set_after_a_failed_run_is_lost)
{
	struct chip *chip = NULL;

	REQUIRE(chip_open("pto", 2, pto_options(RUNTIME, "lost=2,0,0"), &chip) == 0);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), 0);
	/* A run that fails on a device that works. */
	CHECK_EQ(add_call(chip, 1, 4, 3, 0, 600, 1), -EIO);
	CHECK(!chip_lost(chip));
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), -ENODEV);
	CHECK_STR(
		error_text(),
		"pto device 2 is lost: run_runtime() returned -5 for \"orchestrate\", and "
		"set_device() -9 after it");
	CHECK(chip_lost(chip));
	chip_close(chip);
	CHECK_STR(pto_log_text(), "finalize 1\ndestroy 0");
}

/*
 * Failed before: a set_device() that returns 0 after every failure, as that of the hardware, kept
 * a dead device in work for ever.
 */
TEST(device_that_only_fails_is_lost_after_some_failures_in_a_row)
{
	struct chip *chip = NULL;

	pto_options_more(RUNTIME, "code=507018", "");
	setenv("PTO_SET", "nothing", 1);
	REQUIRE(chip_open("pto", 3, pto_options_text, &chip) == 0);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (int round = 0; round < 3; round++) {
		CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), -EIO);
		CHECK_EQ(out[0], -2);	/* a run that fails may have written */
		CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), -EIO);
		CHECK(!chip_lost(chip));
		/* A call that the driver refuses does not count; a success ends the row. */
		CHECK_EQ(add_call(chip, 1, 25, 1, 0, 600, 1), -EINVAL);
		setenv("PTO_MODE", "", 1);
		if (round < 2)
			CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), 0);
		setenv("PTO_MODE", "code=507018", 1);
	}
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), -ENODEV);
	CHECK_STR(error_text(), "pto device 3 is lost: 3 runs in a row have failed (driver option "
				"lost_after=3), the last when run_runtime() returned 507018");
	CHECK(chip_lost(chip));
	chip_close(chip);
	pto_options_more(RUNTIME, "code=-5", ",lost_after=1");
	setenv("PTO_SET", "nothing", 1);
	REQUIRE(chip_open("pto", 3, pto_options_text, &chip) == 0);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), -ENODEV);
	chip_close(chip);
}

/*
 * Failed before, and nobody was told: the old content of the range came back over the result, since
 * the runtime copies each tensor back, inputs too.
 */
TEST(tensors_that_overlap_are_refused_where_one_is_written)
{
	static float cells[300];
	struct chip *chip = pto("");

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (int i = 0; i < 300; i++)
		cells[i] = (float)i;
	/* The result is that of the inputs, or there is an error and nothing has changed. */
	CHECK_EQ(call_with(chip, 1, cells, cells + 100, cells, 100), -EINVAL);
	CHECK_STR(error_text(), "tensors 0 (IN) and 2 (OUT) of \"orchestrate\" overlap");
	CHECK_EQ(call_with(chip, 1, cells, cells + 100, cells + 199, 100), -EINVAL);
	CHECK_STR(error_text(), "tensors 1 (IN) and 2 (OUT)");
	CHECK_EQ(call_with(chip, 1, cells + 100, cells, cells + 99, 100), -EINVAL);
	CHECK_EQ(call_with(chip, 1, cells + 150, cells + 50, cells + 100, 100), -EINVAL);
	CHECK_EQ(pto_log_count("run"), 0);
	for (int i = 0; i < 300; i++)
		CHECK_EQ(cells[i], i);
	/*
	 * Ranges that are only read may be equal, or overlap; a range may end where another begins.
	 */
	CHECK_EQ(call_with(chip, 1, cells, cells, cells + 100, 100), 0);
	CHECK(cells[100] == 0 && cells[199] == 198);
	CHECK_EQ(call_with(chip, 1, cells + 1, cells, cells + 200, 100), 0);
	CHECK(cells[200] == 1 && cells[298] == 197 && cells[299] == 99);
	chip_close(chip);
}

/* All pairs of directions and positions, against the rule itself. */
TEST(overlap_of_many_tensors_is_found_whatever_their_order)
{
	struct builder *builder = builder_create(600, 1, 16);
	unsigned int seed = 1, refused = 0, taken = 0;
	static float cells[1000];
	struct dw_tensor t[16];
	struct bare bare;

	for (int i = 0; i < 16; i++)
		builder->signature[i] = i % 5 == 3 ? DW_DIR_OUT :
					i % 7 == 6 ? DW_DIR_INOUT : DW_DIR_IN;
	REQUIRE(bare_open(&bare, pto_options_more(RUNTIME, "nothing", ",lost_after=0"), builder));
	for (int round = 0; round < 3000; round++) {
		bool overlap = false;

		for (int i = 0; i < 16; i++) {
			seed = seed * 1103515245 + 12345;
			t[i] = tensor1(&cells[seed / 65536 % 960], DW_FLOAT32, seed / 4096 % 5);
		}
		for (int i = 0; i < 16; i++)
			for (int j = 0; j < i; j++) {
				uint64_t end_i = t[i].data + 4 * t[i].shape[0];
				uint64_t end_j = t[j].data + 4 * t[j].shape[0];

				overlap |= ((builder->signature[i] | builder->signature[j]) & 2) &&
					   t[i].data < end_j && t[j].data < end_i &&
					   t[i].shape[0] && t[j].shape[0];
			}
		CHECK_EQ(bare_run(&bare, t, 16, NULL, 0, (struct dw_config){ 0 }),
			 overlap ? -EINVAL : 0);
		refused += overlap;
		taken += !overlap;
	}
	CHECK(refused > 300 && taken > 300);
	bare_close(&bare);
	builder_free(builder);
}

/* Failed before: 36 blocks and 7 threads were refused whatever the chip. */
TEST(limits_are_those_of_the_generation)
{
	struct chip *chip = NULL;
	struct dw_chip_properties properties;
	size_t count = 1;

	REQUIRE(chip_open("pto", 3, pto_options_more(RUNTIME, "", ",generation=a5"), &chip) == 0);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(add_call(chip, 1, 36, 6, 0, 600, 1), 0);
	CHECK_EQ(add_call(chip, 1, 35, 7, 0, 600, 1), 0);
	CHECK_EQ(add_call(chip, 1, 37, 1, 0, 600, 1), -EINVAL);
	CHECK_STR(error_text(), "1 to 36 are possible on pto of generation a5");
	CHECK_EQ(add_call(chip, 1, 8, 8, 0, 600, 1), -EINVAL);
	CHECK_STR(error_text(), "1 to 7 are possible on pto of generation a5");
	CHECK_EQ(chip_properties(chip)->cores, 36);
	chip_close(chip);
	CHECK_EQ(chip_open("pto", 3, pto_options_more(RUNTIME, "", ",generation=a4"), &chip),
		 -EINVAL);
	CHECK_STR(error_text(), "generation=a4: a2a3 or a5 is wanted");
	CHECK_EQ(dw_chip_enumerate("pto", "generation=a5,devices=1", &properties,
				   sizeof(properties), &count), 0);
	CHECK_EQ(properties.cores, 36);
}

/* The config that the driver derives from one, as the stand-in gets it, in both forms. */
static void config_gives(struct bare *bare, int block_dim, int threads, int block_dim_out,
			 int threads_out, const char *form)
{
	uint64_t scalars[6] = { (uint64_t)block_dim_out, (uint64_t)threads_out, 0, 600, 1,
				0xabcd0005 };
	struct dw_tensor t[3] = { tensor1(a, DW_FLOAT32, ELEMENTS),
				  tensor1(b, DW_FLOAT32, ELEMENTS),
				  tensor1(out, DW_FLOAT32, ELEMENTS) };
	struct dw_config config = { .block_dim = block_dim, .aicpu_thread_num = threads };

	setenv("PTO_FORM", form, 1);
	vectors_fill();
	if (!CHECK_EQ(bare_run(bare, t, 3, scalars, 6, config), 0))
		printf("# %d, %d, %s: %s\n", block_dim, threads, form, bare->error.text);
	unsetenv("PTO_FORM");
}

/*
 * Failed before: a config of 0 became 1 block and 3 threads, which no form of orchestration can do.
 */
TEST(zeros_of_the_config_become_values_that_work)
{
	static const char *const forms[] = { "device", "host" };
	struct builder *builder = builder_create(600, 1, 9);
	struct bare bare;

	REQUIRE(bare_open(&bare, pto_options_more(RUNTIME, "", ",lost_after=0"), builder));
	for (int i = 0; i < 2; i++) {
		config_gives(&bare, 0, 0, 24, 3, forms[i]);
		config_gives(&bare, 0, 2, 24, 2, forms[i]);
		config_gives(&bare, 0, 4, 24, 4, forms[i]);
		config_gives(&bare, 12, 0, 12, 3, forms[i]);
		config_gives(&bare, 8, 0, 8, 2, forms[i]);
		config_gives(&bare, 6, 3, 6, 3, forms[i]);
	}
	/* No value suits both forms. */
	config_gives(&bare, 1, 0, 1, 2, "device");
	config_gives(&bare, 7, 0, 7, 2, "device");
	config_gives(&bare, 0, 1, 24, 1, "host");
	bare_close(&bare);
	REQUIRE(bare_open(&bare, pto_options_more(RUNTIME, "", ",generation=a5"), builder));
	for (int i = 0; i < 2; i++) {
		config_gives(&bare, 0, 0, 24, 3, forms[i]);
		config_gives(&bare, 0, 5, 20, 5, forms[i]);
		config_gives(&bare, 0, 6, 30, 6, forms[i]);
	}
	config_gives(&bare, 0, 7, 36, 7, "device");
	bare_close(&bare);
	builder_free(builder);
}

/* Failed before: every profiled run behind the first returned -1 ("already initialized"). */
TEST(each_profiled_run_finds_the_device_set_anew)
{
	struct chip *chip = pto("");

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(add_call(chip, 1, 3, 3, DW_CONFIG_PROFILING, 600, 1), 0);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), 0);
	CHECK_EQ(add_call(chip, 1, 3, 3, 0, 600, 1), 0);
	chip_close(chip);
	CHECK_STR(pto_log_text(),
		  "create 1\nset 3\nrun 3\nfinalize 1\nset 3\nrun 3\nfinalize 1\nset 3\nrun 3\n"
		  "finalize 1\nset 3\nrun 3\nrun 3\nfinalize 1\ndestroy 0\n");
}

/* Failed before: it went out with 0 dimensions, which the runtime does not know. */
TEST(tensor_without_dimensions_has_one_of_one_element)
{
	struct chip *chip = pto("");
	uint64_t scalars[6] = { 6, 3, 0, 600, 1, 0xabcd0005 };
	struct dw_tensor t[3];

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	vectors_fill();
	for (int i = 0; i < 3; i++) {
		t[i] = tensor1(i == 0 ? a + 7 : i == 1 ? b + 7 : out, DW_FLOAT32, 0);
		t[i].ndims = 0;
	}
	CHECK_EQ(chip_call(chip, 1, t, 3, scalars, 6, 6), 0);
	CHECK(out[0] == 21 && out[1] == -1);
	chip_close(chip);
}

/* Failed before: it hung until a deadline. */
TEST(missing_symbols_are_named_when_an_image_is_built_and_when_it_is_loaded)
{
	struct builder *builder = builder_create(600, 1, 9);
	struct dw_pto_image_options *o = &builder->options;
	struct chip *chip = pto("");
	void *image = NULL;
	size_t bytes;

	REQUIRE(chip);
	o->entry = "orchestra";
	for (int old_format = 0; old_format < 2; old_format++) {
		CHECK_EQ(builder_load(chip, 1, builder, old_format), -ESRCH);
		CHECK_STR(error_text(), "\"orchestra\"; it exports orchestrate, configure");
	}
	o->entry = "orchestrate";
	/* The configuration entry is optional; the builder looks a named one up. */
	o->config_entry = "configuration";
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -ESRCH);
	CHECK_STR(error_text(), "config entry \"configuration\"");
	CHECK_EQ(builder_load(chip, 1, builder, true), 0);
	o->config_entry = NULL;
	setenv("PTO_MODE", "no config entry", 1);
	for (int old_format = 0; old_format < 2; old_format++) {
		CHECK_EQ(builder_load(chip, 2 + (uint64_t)old_format, builder, old_format), 0);
		if (!CHECK_EQ(add_call(chip, 2 + (uint64_t)old_format, 3, 3, 0, 600, 1), 0))
			printf("# %s\n", error_text());
	}
	/* A core object for a simulator. */
	free((void *)(uintptr_t)builder->cores[0].data);
	builder->cores[0].data = pto_object_make("kernel other", 600, 0);
	for (int old_format = 0; old_format < 2; old_format++) {
		CHECK_EQ(builder_load(chip, 9, builder, old_format), -ESRCH);
		CHECK_STR(error_text(), "core function 0 does not export \"kernel_entry\"");
		CHECK_STR(error_text(), "it exports kernel, other");
	}
	/* One for the hardware is no object with such symbols; a simulator cannot take it. */
	memset((void *)(uintptr_t)builder->cores[0].data, 'x', 600);
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), 0);
	free(image);
	CHECK_EQ(builder_load(chip, 9, builder, false), -ELIBBAD);
	CHECK_STR(error_text(), "core function 0 is no shared object");
	memset((void *)(uintptr_t)o->data, 'x', 600);
	CHECK_EQ(builder_load(chip, 9, builder, false), -ELIBBAD);
	CHECK_EQ(builder_load(chip, 9, builder, true), -ELIBBAD);
	CHECK_STR(error_text(), "no shared object");
	chip_close(chip);
	builder_free(builder);
}

/* Failed before: the run died of SIGSEGV. */
TEST(function_ids_of_the_runtime_are_kept)
{
	struct builder *builder = builder_create(600, 2, 9);
	struct chip *chip = pto("");
	void *image = NULL;
	size_t bytes;

	REQUIRE(chip);
	builder->cores[1].function = 31;
	for (int old_format = 0; old_format < 2; old_format++)
		CHECK_EQ(builder_load(chip, 1 + (uint64_t)old_format, builder, old_format), 0);
	builder->cores[1].function = 32;
	for (int old_format = 0; old_format < 2; old_format++) {
		CHECK_EQ(builder_load(chip, 9, builder, old_format), -E2BIG);
		CHECK_STR(error_text(), "function id 32: this runtime takes 0 to 31");
	}
	builder->cores[1].function = 1024;
	CHECK_EQ(dw_pto_image_build(&builder->options, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "function id 1024: 0 to 1023");
	builder->cores[1].function = -1;
	CHECK_EQ(dw_pto_image_build(&builder->options, &image, &bytes), -EINVAL);
	CHECK_EQ(builder_load(chip, 9, builder, true), -ELIBBAD);
	builder->cores[1].function = 0;
	CHECK_EQ(builder_load(chip, 9, builder, true), -ELIBBAD);
	CHECK_STR(error_text(), "two core functions have the id 0");
	chip_close(chip);
	builder_free(builder);
}

TEST(open_that_fails_leaves_nothing_behind)
{
	struct chip *chip = NULL;

	CHECK_EQ(chip_open("pto", 0, pto_options(RUNTIME, "null"), &chip), -EIO);
	CHECK_STR(error_text(), "create_device_context() gave NULL");
	CHECK(strcmp(pto_log_text(), "create 1\n") == 0);
	CHECK_EQ(chip_open("pto", 5, pto_options(RUNTIME, "set"), &chip), -ENODEV);
	CHECK_STR(error_text(), "pto device 5: set_device() returned -7");
	CHECK(strcmp(pto_log_text(), "create 1\nset 5\ndestroy 0\n") == 0);
	CHECK_EQ(chip_open("pto", 5, pto_options(RUNTIME, "size"), &chip), -EPROTO);
	CHECK(strcmp(pto_log_text(), "create 1\nset 5\nfinalize 1\ndestroy 0\n") == 0);
	CHECK(chip == NULL);
}

TEST(missing_or_wrong_options_are_named)
{
	struct chip *chip = NULL;
	char text[PATH_MAX * 9];

	pto_options(RUNTIME, "");
	CHECK_EQ(chip_open("pto", 0, NULL, &chip), -EINVAL);
	CHECK_STR(error_text(), "host=PATH");
	CHECK_EQ(chip_open("pto", 0, "host=/x,aicpu=/x", &chip), -EINVAL);
	CHECK_STR(error_text(), "aicore=PATH");
	CHECK_EQ(chip_open("pto", 0, "colour=red", &chip), -EINVAL);
	CHECK_STR(error_text(), "colour");
	CHECK_EQ(chip_open("pto", 0, "host=/x,aicpu=/nowhere,aicore=/x", &chip), -ENOENT);
	CHECK_STR(error_text(), "aicpu=/nowhere");
	CHECK_EQ(chip_open("pto", 0, "host=/x,aicpu=/tmp,aicore=/x", &chip), -EINVAL);
	snprintf(text, sizeof(text), "%.18000s,host=/nowhere.so", pto_options_text);
	CHECK_EQ(chip_open("pto", 0, text, &chip), -ELIBBAD);
	CHECK_STR(error_text(), "/nowhere.so");
	snprintf(text, sizeof(text), "%.18000s,host=%s", pto_options_text, fixture("pto_context"));
	CHECK_EQ(chip_open("pto", 0, text, &chip), -ELIBBAD);
	CHECK_STR(error_text(), "exports neither simpler_run() nor run_runtime()");
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
	      properties[1].max_tensors == 256);
}

TEST(builder_refuses_what_the_layout_cannot_hold)
{
	char name[100];
	void *image = NULL;
	size_t bytes;
	struct builder *builder = builder_create(600, 40, 257);
	struct dw_pto_image_options *o = &builder->options;

	o->bytes = UINT32_MAX;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "4294967295 bytes");
	o->bytes = 600;
	o->core_count = 1025;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "1025 core functions");
	o->core_count = 40;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "257 arguments");
	o->signature_count = 256;
	memset(name, 'x', sizeof(name));
	name[64] = '\0';
	o->entry = name;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "64 bytes");
	name[63] = '\0';
	free((void *)(uintptr_t)o->data);
	o->data = pto_object_make(name, 600, 0);
	o->config_entry =
		"configuration entry with a name that is longer than sixty-three characters";
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "config entry");
	o->config_entry = NULL;
	builder->signature[5] = 4;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	CHECK_STR(error_text(), "direction 4 of argument 5");
	builder->signature[5] = 0;
	builder->cores[7].function = 2;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	CHECK_STR(error_text(), "id 2 is given twice, to core functions 2 and 7");
	builder->cores[7].function = 7;
	builder->cores[7].bytes = 0;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	builder->cores[7].bytes = UINT32_MAX;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	builder->cores[7].bytes = 600;
	builder->cores[7].size = 1;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	builder->cores[7].size = sizeof(struct dw_pto_core);
	builder->cores[7].signature_count = 33;
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -E2BIG);
	CHECK_STR(error_text(), "core function 7");
	builder->cores[7].signature_count = 0;
	o->entry = "";
	CHECK_EQ(dw_pto_image_build(o, &image, &bytes), -EINVAL);
	o->entry = name;
	CHECK(image == NULL);
	if (!CHECK_EQ(dw_pto_image_build(o, &image, &bytes), 0))
		printf("# %s\n", error_text());
	free(image);
	builder_free(builder);
	CHECK_EQ(dw_pto_image_build(NULL, &image, &bytes), -EINVAL);
}

/* The image holds more than the old interface takes. */
TEST(images_that_are_too_large_for_the_runtime_are_refused_when_they_are_loaded)
{
	struct builder *builder = builder_create((4u << 20) + 1, 33, 17);
	struct dw_pto_image_options *o = &builder->options;
	struct chip *chip = pto("");

	REQUIRE(chip);
	CHECK_EQ(builder_load(chip, 1, builder, false), -E2BIG);
	CHECK_STR(error_text(), "4194305 bytes: this runtime takes at most 4194304");
	o->bytes = 4u << 20;
	CHECK_EQ(builder_load(chip, 1, builder, false), -E2BIG);
	CHECK_STR(error_text(), "17 arguments: this runtime takes at most 16");
	o->signature_count = 16;
	CHECK_EQ(builder_load(chip, 1, builder, false), -E2BIG);
	CHECK_STR(error_text(), "33 core functions: this runtime takes at most 32");
	o->core_count = 32;
	builder->cores[31].signature = builder->signature;
	builder->cores[31].signature_count = 17;
	CHECK_EQ(builder_load(chip, 1, builder, false), -E2BIG);
	CHECK_STR(error_text(), "core function 31 has a signature of 17 arguments");
	builder->cores[31].signature_count = 16;
	CHECK_EQ(builder_load(chip, 1, builder, false), 0);
	chip_close(chip);
	builder_free(builder);
}

/*
 * Cuts the image at every place, and sets every word to nonsense: the image must be refused with a
 * sentence, unless the runtime would not follow that word. `followed`: offsets of words that it
 * would follow.
 */
static void damage(struct chip *chip, const unsigned char *image, size_t bytes, size_t head,
		   const size_t *followed, size_t followed_count)
{
	unsigned char *damaged = malloc(bytes);

	for (size_t cut = 1; cut < bytes; cut++)
		CHECK(image_load_bytes(chip, 2, image, cut, NULL, NULL, 0) < 0);
	for (size_t at = 0; at + 4 <= head; at += 4) {
		bool must = false;

		for (size_t i = 0; i < followed_count; i++)
			must |= followed[i] == at;
		memcpy(damaged, image, bytes);
		memset(damaged + at, 0xff, 4);
		if (image_load_bytes(chip, 100 + at, damaged, bytes, NULL, NULL, 0) == 0) {
			if (!CHECK(!must))
				printf("# word at %zu\n", at);
			chip_image_unload(chip, 100 + at);
		} else {
			CHECK(error_text()[0]);
		}
	}
	free(damaged);
}

TEST(damaged_images_are_refused_whatever_byte_is_wrong)
{
	/* Magic, version, size, bytes, object and its bytes, signature, cores, counts, name. */
	static const size_t neutral[] = { 0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52,
					  56, 60, 64, 68 };
	static const size_t old[] = { 0, 4, 8, 12, 64, 68, 80, 136, 268, 272, 276, 396, 408, 464 };
	struct builder *builder = builder_create(600, 3, 4);
	struct chip *chip = pto("");
	unsigned char *image = NULL, *before;
	size_t bytes = 0;

	REQUIRE(chip);
	CHECK_EQ(dw_pto_image_build(&builder->options, (void **)&image, &bytes), 0);
	CHECK_EQ(image_load_bytes(chip, 1, image, bytes, NULL, NULL, 0), 0);
	CHECK_EQ(image_load_bytes(chip, 2, image, bytes, "other", NULL, 0), -ESRCH);
	CHECK_STR(error_text(), "orchestrate");
	CHECK_EQ(image_load_bytes(chip, 2, image, bytes, NULL, builder->signature, 3), -EINVAL);
	CHECK_EQ(image_load_bytes(chip, 2, image, bytes, "orchestrate", builder->signature, 4), 0);
	CHECK_EQ(chip_image_unload(chip, 2), 0);
	damage(chip, image, bytes, sizeof(struct pto_image_header) +
				   3 * sizeof(struct pto_image_core), neutral,
	       sizeof(neutral) / sizeof(neutral[0]));
	before = builder_old_format(builder, &bytes);
	damage(chip, before, bytes, 468, old, sizeof(old) / sizeof(old[0]));
	before[268 + 2] = 0x7f;
	CHECK_EQ(image_load_bytes(chip, 2, before, bytes, NULL, NULL, 0), -ELIBBAD);
	CHECK_STR(error_text(), "core function 0");
	free(before);
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

		if (pto_image_load(chip, 1, 600, 1) == 0)
			add_call(chip, 1, 3, 3, 0, 600, 1);
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
	CHECK_STR(pto_log_text(), "destroy");
}
