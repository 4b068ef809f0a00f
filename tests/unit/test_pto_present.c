/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The pto driver with the present interface against a stand-in runtime library, which checks every
 * byte and the order of calls (fixtures/pto_present.c).
 */
#include "pto_present_test.h"
#include "chip/pto_image.h"

/* ------------------------------------------------------------------- the way there */

TEST(call_reaches_the_runtime_byte_for_byte)
{
	static const size_t sizes[] = { 512, 575, 576, 577, 5000, 5u << 20 };
	static const size_t children[] = { 0, 1, 8, 33, 1024 };
	struct chip *chip = pto("", "");

	REQUIRE(chip);
	for (size_t i = 0; i < 6; i++)
		for (size_t j = 0; j < 5; j++) {
			CHECK_EQ(pto_image_load(chip, 10 * i + j, sizes[i], children[j]), 0);
			if (!CHECK_EQ(add(chip, 10 * i + j, sizes[i], children[j]), 0))
				printf("# %s\n", error_text());
			CHECK(vectors_added());
		}
	chip_done(chip);
}

TEST(calls_of_the_runtime_come_in_order)
{
	static const char order[] = "create 1\nlog 60\ninit 3\nregister 0\nregister 1\nrun 1\n"
				    "unregister 0\nregister 0\nrun 0\nunregister ";
	struct chip *chip = pto("", "");

	REQUIRE(chip);
	CHECK(strcmp(chip_properties(chip)->name, "pto3") == 0);
	CHECK_EQ(chip_properties(chip)->max_tensors, 256);
	CHECK_EQ(chip_depth(chip), 1);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(pto_image_load(chip, 2, 600, 2), 0);
	CHECK_EQ(add(chip, 2, 600, 2), 0);
	CHECK_EQ(chip_image_unload(chip, 1), 0);
	CHECK_EQ(pto_image_load(chip, 3, 600, 1), 0);
	CHECK_EQ(add(chip, 3, 600, 1), 0);
	chip_done(chip);
	/* "create 1": the context library was found, so it is global. Ids are used again. */
	CHECK(strncmp(pto_log_text(), order, strlen(order)) == 0);
	CHECK_STR(pto_log_text(), "\nfinalize 1\ndestroy 0\n");
}

/* Images are one format, whichever interface the runtime has; what is in neither is said so. */
TEST(interface_is_told_by_what_the_library_exports)
{
	static const char *const runtimes[] = { "pto_runtime", "pto_present" };
	struct builder *builder;
	struct chip *chip = NULL;
	char text[16 * PATH_MAX];

	options("", "");
	builder = builder_create(600, 1, 9);
	for (int i = 0; i < 2; i++) {
		REQUIRE(chip_open("pto", 0, pto_options(runtimes[i], ""), &chip) == 0);
		for (int old_format = 0; old_format < 2; old_format++)
			CHECK_EQ(builder_load(chip, 1 + (uint64_t)old_format, builder, old_format),
				 0);
		CHECK_STR(chip_properties(chip)->description, i ? "present" : "old");
		CHECK_EQ(chip_properties(chip)->max_tensors, i ? 256 : 16);
		chip_close(chip);
	}
	snprintf(text, sizeof(text), "%.30000s,host=%s", options("", ""), fixture("pto_context"));
	CHECK_EQ(chip_open("pto", 0, text, &chip), -ELIBBAD);
	CHECK_STR(error_text(), "exports neither simpler_run() nor run_runtime()");
	builder_free(builder);
}

/* ------------------------------------------------------------------------ arguments */

/* All types, all numbers of dimensions, empty ones, as many tensors and scalars as may be. */
TEST(tensors_of_every_type_and_shape_go_out_as_the_layout_says)
{
	static const int types[] = {
		DW_FLOAT32, DW_FLOAT16, DW_INT32, DW_INT16, DW_INT8, DW_UINT8, DW_BFLOAT16,
		DW_INT64, DW_UINT64, DW_UINT16, DW_UINT32, DW_BOOL, 12, 13, 14,
	};
	struct builder *builder;
	static char cells[65536];
	struct dw_tensor t[257];
	uint64_t scalars[129] = { 0, 0, 0, 600, 1 };
	struct dw_config none = { 0 };
	struct bare bare;

	options("", "");
	builder = builder_create(600, 1, 0);
	REQUIRE(bare_open(&bare, options("", ",generation=a5"), builder));
	for (unsigned int i = 5; i < 129; i++)
		scalars[i] = MARK(i);
	vectors_fill();
	t[0] = tensor1(a, DW_FLOAT32, ELEMENTS);
	t[1] = tensor1(b, DW_FLOAT32, ELEMENTS);
	t[2] = tensor1(out, DW_FLOAT32, ELEMENTS);
	for (uint32_t i = 3; i < 257; i++) {
		t[i] = tensor1(cells + 256 * i - 768, types[i % 15], 0);
		t[i].ndims = i % 6;
		for (uint32_t j = 0; j < t[i].ndims; j++)
			t[i].shape[j] = i % 11 == 7 && j == 1 ? 0 : 1 + (i + j) % 2;
	}
	/* More and fewer arguments in turn: nothing of the previous run is left. */
	for (size_t count = 256; count > 3; count -= 23) {
		if (!CHECK_EQ(bare_run(&bare, t, count, scalars, count / 2, none), 0))
			printf("# %zu: %s\n", count, bare.error.text);
		CHECK_EQ(bare_run(&bare, t, 3, scalars, 6, none), 0);
	}
	CHECK(vectors_added());
	CHECK_EQ(bare_run(&bare, t, 257, scalars, 6, none), -E2BIG);
	CHECK_STR(bare.error.text, "257 tensors are more than the 256");
	CHECK_EQ(bare_run(&bare, t, 3, scalars, 129, none), -E2BIG);
	t[3].dtype = DW_FLOAT64;
	CHECK_EQ(bare_run(&bare, t, 4, scalars, 6, none), -ENOTSUP);
	CHECK_STR(bare.error.text, "tensor 3 has element type 64");
	/* Fields that a refused call had begun to fill are cleared, too. */
	CHECK_EQ(bare_run(&bare, t, 3, scalars, 6, none), 0);
	t[3] = tensor1(cells, DW_INT8, 0);
	t[3].ndims = 3;
	t[3].shape[0] = 1;
	t[3].shape[1] = t[3].shape[2] = 1u << 20;
	CHECK_EQ(bare_run(&bare, t, 3, scalars, 6, none), 0);
	bare_close(&bare);
	REQUIRE(bare_open(&bare, options("", ""), builder));
	t[3] = tensor1(cells, 13, 4);
	CHECK_EQ(bare_run(&bare, t, 4, scalars, 6, none), -ENOTSUP);
	CHECK_STR(bare.error.text, "generation a5 has and a2a3 has not");
	bare_close(&bare);
	builder_free(builder);
	CHECK_EQ(pto_log_count("wrong"), 0);
}

TEST(threads_are_those_of_the_generation_and_blocks_are_remarked_once)
{
	static const struct {
		const char *option;
		int most;
	} generations[] = { { "", 4 }, { ",generation=a2a3", 4 }, { ",generation=a5", 5 } };
	struct builder *builder;
	struct bare bare;

	options("", "");
	builder = builder_create(600, 1, 9);
	for (size_t i = 0; i < 3; i++) {
		REQUIRE(bare_open(&bare, options("", generations[i].option), builder));
		for (int threads = 0; threads < 7; threads++) {
			struct dw_config config = { .aicpu_thread_num = threads };
			uint64_t scalars[6] = { (uint64_t)threads, 0, 0, 600, 1, MARK(5) };
			struct dw_tensor t[3] = { tensor1(a, DW_FLOAT32, ELEMENTS),
						  tensor1(b, DW_FLOAT32, ELEMENTS),
						  tensor1(out, DW_FLOAT32, ELEMENTS) };
			bool right = threads != 1 && threads <= generations[i].most;

			CHECK_EQ(bare_run(&bare, t, 3, scalars, 6, config), right ? 0 : -EINVAL);
			CHECK_EQ(bare.error.text[0] == '\0', right);
			if (threads < 2 || threads > 3)
				continue;
			config.block_dim = 24;
			CHECK_EQ(bare_run(&bare, t, 3, scalars, 6, config), 0);
			if (threads == 2)
				CHECK_STR(bare.error.text,
					  "config.block_dim 24 has no effect on pto device 3");
			else
				CHECK(!bare.error.text[0]);
		}
		CHECK_STR(bare.error.text, "2 to ");
		bare_close(&bare);
	}
	builder_free(builder);
}

static _Atomic int logged;

static void log_line(enum dw_log_level level, int32_t pid, const char *text, void *context)
{
	(void)pid, (void)context;
	if (level == DW_LOG_INFO && strstr(text, "chip pto:3: config.block_dim 24 has no effect"))
		logged++;
}

TEST(remark_is_logged_at_level_info)
{
	struct dw_config blocks = { .block_dim = 24 };
	struct chip *chip = pto("", "");
	struct chip_completion done;

	REQUIRE(chip);
	CHECK_EQ(dw_log_set(log_line, NULL, DW_LOG_INFO), 0);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(start(chip, 1, a, b, out, blocks, 600, 1, 1), 0);
		CHECK_EQ(chip_finish(chip, &done), 1);
		CHECK_EQ(done.status, 0);
	}
	/* The callback has received every line before it is removed. */
	log_forks_done();
	CHECK_EQ(dw_log_set(NULL, NULL, DW_LOG_INFO), 0);
	CHECK_EQ(logged, 1);
	chip_done(chip);
}

TEST(diagnostics_need_a_folder)
{
	struct dw_config both = { .flags = DW_CONFIG_PROFILING | DW_CONFIG_DUMP_TENSOR };
	struct chip *chip = pto("", "");
	struct chip_completion done;
	char more[2048];

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(start(chip, 1, a, b, out, both, 600, 1, 1), 0);
	CHECK_EQ(chip_finish(chip, &done), 1);
	CHECK_EQ(done.status, -EINVAL);
	CHECK_STR(done.text, "driver option output=FOLDER");
	chip_done(chip);
	chip = pto("", ",output=/tmp/diagnostics");
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (uint32_t flags = 4; flags-- > 0;) {
		both.flags = flags;
		CHECK_EQ(start(chip, 1, a, b, out, both, 600, 1, 1), 0);
		CHECK(chip_finish(chip, &done) == 1 && done.status == 0);
	}
	chip_done(chip);
	snprintf(more, sizeof(more), ",output=/%01023d", 0);
	CHECK_EQ(chip_open("pto", 3, options("", more), &chip), -EINVAL);
	CHECK_STR(error_text(), "output has 1024 bytes: at most 1023");
}

/*
 * The directions decide what travels, so that a written range must not overlap another; in device
 * memory nothing travels.
 */
TEST(overlap_is_refused_on_the_host_and_not_on_the_device)
{
	static float cells[300];
	const float *device = (const float *)(uintptr_t)0x100000000u;
	struct chip *chip = pto("", "");
	struct dw_config none = { 0 };
	struct chip_completion done;

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(start(chip, 1, cells, cells + 100, cells + 199, none, 600, 1, 1), 0);
	CHECK(chip_finish(chip, &done) == 1 && done.status == -EINVAL);
	CHECK_STR(done.text, "tensors 1 (IN) and 2 (OUT) of \"orchestrate\" overlap");
	CHECK_EQ(start(chip, 1, cells, cells, cells + 100, none, 600, 1, 1), 0);
	CHECK(chip_finish(chip, &done) == 1 && done.status == 0);
	for (int i = 0; i < 200; i++)
		cells[i] = (float)i;
	CHECK_EQ(chip_alloc(chip, (uint64_t)(uintptr_t)device, 800), 0);
	CHECK_EQ(chip_copy_in(chip, (uint64_t)(uintptr_t)device, cells, 800), 0);
	CHECK_EQ(start(chip, 1, device, device + 100, device, none, 600, 1, 1), 0);
	if (!CHECK(chip_finish(chip, &done) == 1 && done.status == 0))
		printf("# %s\n", done.text);
	CHECK_EQ(chip_copy_out(chip, cells, (uint64_t)(uintptr_t)device, 800), 0);
	CHECK(cells[0] == 100 && cells[99] == 298 && cells[100] == 100 && cells[199] == 199);
	chip_done(chip);
}

/* ------------------------------------------------------------------- device memory */

TEST(memory_of_the_device_is_not_copied_by_runs)
{
	const uint64_t handle = 0x7000000000u, other = 0x7100000000u;
	struct chip *chip = pto("", "");
	struct dw_chip_counters counters;
	struct dw_config none = { 0 };
	struct chip_completion done;
	float back[2 * ELEMENTS];
	uint64_t idle;

	REQUIRE(chip);
	CHECK(chip_properties(chip)->capabilities & DW_CHIP_CAP_MEMORY);
	CHECK_EQ(chip_counters(chip, &counters), 0);
	idle = counters.memory_used;
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(chip_alloc(chip, handle, 2 * sizeof(a)), 0);
	CHECK_EQ(chip_alloc(chip, other, (3u << 20) + 5), 0);
	CHECK_EQ(chip_counters(chip, &counters), 0);
	CHECK_EQ(counters.memory_used - idle, 2 * sizeof(a) + (3u << 20) + 5);
	/* New memory is zero. */
	CHECK_EQ(chip_copy_out(chip, back, other + (3u << 20) + 5 - sizeof(back), sizeof(back)), 0);
	for (int i = 0; i < 2 * ELEMENTS; i++)
		CHECK_EQ(back[i], 0);
	vectors_fill();
	CHECK_EQ(chip_copy_in(chip, handle, a, sizeof(a)), 0);
	CHECK_EQ(chip_copy_in(chip, handle + sizeof(a), b, sizeof(b)), 0);
	unlink(pto_log_path);
	for (int i = 0; i < 100; i++) {
		CHECK_EQ(start(chip, 1, (float *)(uintptr_t)handle,
			       (float *)(uintptr_t)(handle + sizeof(a)), out, none, 600, 1, 1), 0);
		CHECK(chip_finish(chip, &done) == 1 && done.status == 0);
	}
	CHECK(vectors_added());
	CHECK_EQ(pto_log_count("run"), 100);
	CHECK_EQ(pto_log_count("to") + pto_log_count("from"), 0);
	/* A result that stays. */
	CHECK_EQ(start(chip, 1, a, b, (float *)(uintptr_t)other, none, 600, 1, 1), 0);
	CHECK(chip_finish(chip, &done) == 1 && done.status == 0);
	CHECK_EQ(chip_copy_out(chip, out, other, sizeof(out)), 0);
	CHECK(vectors_added());
	/* Errors name the block. */
	CHECK_EQ(start(chip, 1, (float *)(uintptr_t)(handle + sizeof(a) + 4), b, out, none, 600, 1,
		       1),
		 0);
	CHECK(chip_finish(chip, &done) == 1 && done.status == -EFAULT);
	CHECK_STR(done.text,
		  "tensor 0 has 400 bytes from byte 404 of a block of device memory of 800");
	CHECK_EQ(chip_copy_in(chip, handle + 4, back, sizeof(back)), -ERANGE);
	CHECK_EQ(chip_copy_out(chip, back, handle + 800, 4), -ENOENT);
	CHECK_EQ(chip_alloc(chip, handle + 799, 1), -EEXIST);
	CHECK_EQ(chip_alloc(chip, handle - 1, 2), -EEXIST);
	CHECK_EQ(chip_free(chip, handle + 4), -ENOENT);
	CHECK_EQ(chip_free(chip, handle), 0);
	CHECK_EQ(chip_free(chip, handle), -ENOENT);
	setenv("PTO_MODE", "malloc", 1);
	CHECK_EQ(chip_alloc(chip, handle, 4096), -ENOMEM);
	setenv("PTO_MODE", "to=507899", 1);
	CHECK_EQ(chip_alloc(chip, handle, 4096), -EIO);
	CHECK_STR(error_text(), "copy_to_device_ctx() of 4096 bytes returned 507899");
	setenv("PTO_MODE", "from=-1", 1);
	CHECK_EQ(chip_copy_out(chip, back, other, 4), -EIO);
	setenv("PTO_MODE", "", 1);
	/* The other block is freed with the chip. "malloc" had no memory to give back. */
	chip_close(chip);
	CHECK_EQ(pto_log_count("wrong"), 0);
	CHECK_EQ(pto_log_count("free"), 3);
}

TEST(blocks_are_found_whatever_the_order_of_their_making)
{
	struct chip *chip = pto("", "");
	unsigned int seed = 7;
	bool there[24] = { false };
	uint64_t value;

	REQUIRE(chip);
	for (int step = 0; step < 400; step++) {
		unsigned int i = (seed = seed * 1103515245 + 12345) / 65536 % 24;
		uint64_t handle = 0x5000000000u + 16 * i;

		if (there[i]) {
			CHECK_EQ(chip_copy_out(chip, &value, handle + 8, 8), 0);
			CHECK_EQ(value, handle);
			CHECK_EQ(chip_free(chip, handle), 0);
		} else {
			CHECK_EQ(chip_copy_out(chip, &value, handle + 8, 8), -ENOENT);
			CHECK_EQ(chip_alloc(chip, handle, 16), 0);
			CHECK_EQ(chip_copy_in(chip, handle + 8, &handle, 8), 0);
		}
		there[i] = !there[i];
	}
	chip_done(chip);
}

/* --------------------------------------------------------------------- open, load */

static void open_fails(const char *mode, const char *more, int status, const char *text)
{
	struct chip *chip = NULL;

	if (!CHECK_EQ(chip_open("pto", 5, options(mode, more), &chip), status) || chip) {
		printf("# %s: %s\n", mode, error_text());
		chip_close(chip);
		return;
	}
	CHECK_STR(error_text(), text);
	CHECK_EQ(pto_log_count("create") - (strcmp(mode, "null") == 0), pto_log_count("destroy"));
	CHECK_EQ(pto_log_count("wrong"), 0);
}

TEST(open_that_fails_leaves_nothing_behind)
{
	char dispatcher[PATH_MAX + 64];

	open_fails("contract-null", "", -EPROTO, "get_pipeline_contract() gave NULL");
	open_fails("abi=2", "", -EPROTO, "version 2 of its interface, this driver knows version 1");
	open_fails("depth=0", "", -EPROTO, "2 resources and depth 0");
	open_fails("depth=3", "", -EPROTO, "2 resources and depth 3");
	open_fails("resources=9", "", -EPROTO, "9 resources and depth 1");
	open_fails("bytes=0", "", -EPROTO, "get_runtime_size() gave 0");
	open_fails("alignment=0", "", -EPROTO, "get_runtime_alignment() gave 0");
	open_fails("alignment=48", "", -EPROTO, "get_runtime_alignment() gave 48");
	open_fails("null", "", -EIO, "create_device_context() gave NULL");
	open_fails("init=-1", "", -ENODEV, "simpler_init() returned -1 (a general failure");
	open_fails("init=-3", "", -ENODEV, "simpler_init() returned -3 (incompatible");
	open_fails("init=107001", "", -ENODEV, "a code of the vendor's: invalid device id");
	open_fails("", ",log=loud", -EINVAL, "log=loud: debug, info, timing, warn, error or none");
	open_fails("", ",dispatcher=/nowhere", -ENOENT, "dispatcher=/nowhere");
	/* As hardware, which needs the dispatcher. */
	open_fails("dispatcher", "", -ENODEV, "simpler_init() returned -1");
	open_fails("dispatcher", ",sim_context=", -ENODEV, "Hardware needs dispatcher=");
	snprintf(dispatcher, sizeof(dispatcher), "%.4000s/pto_dispatcher.bin", test_folder());
	pto_file_write(dispatcher, "the dispatcher", 14);
	snprintf(dispatcher, sizeof(dispatcher), ",dispatcher=%.4000s/pto_dispatcher.bin",
		 test_folder());
	chip_done(pto("dispatcher", dispatcher));
}

TEST(alignment_of_storages_is_kept)
{
	static const char *const modes[] = { "alignment=1", "alignment=64", "alignment=4096",
					     "alignment=65536", "alignment=2097152" };

	for (size_t i = 0; i < 5; i++) {
		struct chip *chip = pto(modes[i], "");

		REQUIRE(chip);
		CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
		for (int run = 0; run < 3; run++)
			CHECK_EQ(add(chip, 1, 600, 1), 0);
		chip_done(chip);
	}
}

TEST(log_of_the_runtime_has_the_level_that_was_asked_for)
{
	static const struct {
		const char *variable, *option, *line;
	} levels[] = {
		{ NULL, "", "log 60" },		  { "debug", "", "log 10" },
		{ "info", "", "log 20" },	  { "warn", "", "log 30" },
		{ "error", "", "log 40" },	  { "nonsense", "", "log 60" },
		{ "error", ",log=debug", "log 10" }, { NULL, ",log=timing", "log 25" },
		{ "debug", ",log=none", "log 60" },
	};
	struct chip *chip;

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (levels[i].variable)
			setenv("DW_LOG", levels[i].variable, 1);
		chip = pto("", levels[i].option);
		unsetenv("DW_LOG");
		REQUIRE(chip);
		CHECK_EQ(pto_log_count(levels[i].line), 1);
		chip_done(chip);
	}
	/* A library that binds none, or cannot, works and is silent. */
	pto_options("pto_present_unbound", "");
	REQUIRE(chip_open("pto", 3, pto_options_text, &chip) == 0);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(add(chip, 1, 600, 1), 0);
	CHECK_EQ(pto_log_count("log"), 0);
	chip_done(chip);
	chip = pto("bind=-1", "");
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(add(chip, 1, 600, 1), 0);
	chip_done(chip);
}

TEST(images_have_ids_up_to_the_limit)
{
	struct chip *chip = pto("", "");
	struct builder *builder;

	REQUIRE(chip);
	for (uint64_t key = 0; key < 64; key++)
		CHECK_EQ(pto_image_load(chip, key, 600, 1), 0);
	CHECK_EQ(pto_image_load(chip, 64, 600, 1), -ENOSPC);
	CHECK_STR(error_text(), "has 64 images");
	CHECK_EQ(add(chip, 63, 600, 1), 0);
	CHECK_EQ(chip_image_unload(chip, 17), 0);
	CHECK_EQ(pto_image_load(chip, 64, 600, 1), 0);
	CHECK_EQ(add(chip, 64, 600, 1), 0);
	CHECK_EQ(pto_log_count("register 17"), 2);
	chip_done(chip);
	/* Function ids up to 1,023, signatures of 256 and 32 arguments. */
	chip = pto("", "");
	builder = builder_create(600, 3, 256);
	builder->cores[2].function = 1023;
	CHECK_EQ(builder_load(chip, 1, builder, false), 0);
	CHECK_EQ(add(chip, 1, 600, 3), 0);
	builder_free(builder);
	chip_done(chip);
}

TEST(images_that_the_runtime_refuses_are_errors_and_take_no_id)
{
	struct chip *chip = pto("", "");

	REQUIRE(chip);
	pto_exports = "orchestrate configure";
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), -ELIBBAD);
	CHECK_STR(error_text(), "simpler_register_callable() returned -1");
	CHECK_STR(error_text(), "does not export simpler_host_log_bind_state()");
	pto_exports = "orchestrate configure simpler_host_log_bind_state";
	setenv("PTO_MODE", "duplicate", 1);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), -ELIBBAD);
	CHECK_STR(error_text(), "of another version of the runtime");
	setenv("PTO_MODE", "register=-3", 1);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), -ELIBBAD);
	CHECK_STR(error_text(), "returned -3 (incompatible");
	setenv("PTO_MODE", "", 1);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(add(chip, 1, 600, 1), 0);
	CHECK_EQ(pto_log_count("register 0"), 4);
	/* An id that the runtime does not release is not reused. */
	setenv("PTO_MODE", "unregister=-1", 1);
	CHECK_EQ(chip_image_unload(chip, 1), 0);
	setenv("PTO_MODE", "", 1);
	CHECK_EQ(pto_image_load(chip, 2, 600, 1), 0);
	CHECK_EQ(pto_log_count("register 1"), 1);
	chip_done(chip);
}

/* ------------------------------------------------------------------ failures of runs */

TEST(codes_become_errors_with_their_meaning_and_some_in_a_row_lose_the_device)
{
	struct chip *chip = pto("", "");

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (int round = 0; round < 2; round++) {
		setenv("PTO_MODE", "run=-5 wait=-5", 1);
		CHECK_EQ(add(chip, 1, 600, 1), -EIO);
		CHECK_STR(error_text(), "returned -5 for \"orchestrate\" on pto device 3: the "
					"orchestrator's error 5: invalid arguments");
		setenv("PTO_MODE", "wait=507015", 1);
		CHECK_EQ(add(chip, 1, 600, 1), -EIO);
		CHECK_STR(error_text(), "simpler_wait_run() returned 507015");
		setenv("PTO_MODE", "", 1);
		CHECK_EQ(add(chip, 1, 600, 1), 0);
		CHECK(vectors_added());
	}
	/* The first run behind a failure goes in steps; then one call is enough again. */
	CHECK_EQ(pto_log_count("run"), 2);
	CHECK_EQ(add(chip, 1, 600, 1), 0);
	CHECK_EQ(pto_log_count("run"), 3);
	setenv("PTO_MODE", "run=-101 prepare=-11", 1);
	CHECK_EQ(add(chip, 1, 600, 1), -EIO);
	CHECK_STR(error_text(), "the scheduler's error 101");
	/* No run can begin: the context is replaced, and the new one fails, too. */
	CHECK_EQ(add(chip, 1, 600, 1), -EIO);
	CHECK_STR(error_text(), "simpler_prepare_run() returned -11");
	CHECK_EQ(add(chip, 1, 600, 1), -ENODEV);
	CHECK_STR(error_text(), "pto device 3 is lost: 3 runs in a row have failed (driver option "
				"lost_after=3), the last when simpler_run() returned -101");
	CHECK(chip_lost(chip));
	setenv("PTO_MODE", "", 1);
	chip_done(chip);
	chip = pto("run=-1 launch=-1 finalize_run=-1", ",lost_after=0");
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(add(chip, 1, 600, 1), -EIO);
	setenv("PTO_MODE", "finalize_run=-9", 1);
	CHECK_EQ(add(chip, 1, 600, 1), -EIO);
	CHECK_STR(error_text(), "simpler_finalize_run() returned -9");
	setenv("PTO_MODE", "", 1);
	CHECK_EQ(add(chip, 1, 600, 1), 0);
	chip_done(chip);
}

/* After a run of unknown outcome the context takes none, for ever. */
TEST(context_that_takes_no_run_any_more_is_made_anew_with_all_images)
{
	struct chip *chip = pto("run=507018 fails=1 poison", "");

	REQUIRE(chip);
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(pto_image_load(chip, 2, 700, 2), 0);
	CHECK_EQ(add(chip, 1, 600, 1), -EIO);
	for (int i = 0; i < 3; i++) {
		if (!CHECK_EQ(add(chip, 1, 600, 1), 0) || !CHECK_EQ(add(chip, 2, 700, 2), 0))
			printf("# %s\n", error_text());
		CHECK(vectors_added());
	}
	CHECK_EQ(pto_log_count("create"), 2);
	CHECK_EQ(pto_log_count("register"), 4);
	CHECK_EQ(chip_image_unload(chip, 1), 0);
	CHECK_EQ(add(chip, 2, 700, 2), 0);
	chip_done(chip);
	/* The contents of the device's memory would be gone, so the device is lost. */
	chip = pto("run=507018 fails=1 poison", "");
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(chip_alloc(chip, 0x5000000000u, 64), 0);
	setenv("PTO_MODE", "run=507018 poison", 1);
	CHECK_EQ(add(chip, 1, 600, 1), -EIO);
	CHECK_EQ(add(chip, 1, 600, 1), -ENODEV);
	CHECK_STR(error_text(), "would not have its 1 blocks of device memory");
	CHECK(chip_lost(chip));
	setenv("PTO_MODE", "", 1);
	chip_done(chip);
	/* One that cannot be made anew. */
	chip = pto("run=507018 poison", "");
	CHECK_EQ(pto_image_load(chip, 1, 600, 1), 0);
	CHECK_EQ(add(chip, 1, 600, 1), -EIO);
	setenv("PTO_MODE", "init=-1", 1);
	CHECK_EQ(add(chip, 1, 600, 1), -ENODEV);
	CHECK_STR(error_text(), "there is no new one: pto device 3: simpler_init() returned -1");
	setenv("PTO_MODE", "", 1);
	chip_close(chip);
	CHECK_EQ(pto_log_count("wrong"), 0);
}
