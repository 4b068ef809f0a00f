/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Tensors that stay on the device of a pto chip from one run to the next, against the stand-in of
 * the present interface: each copy is counted, those of the driver in the stand-in's log, those of
 * the runtime by itself.
 */
#include <dlfcn.h>
#include "chip/cache.h"
#include "pto_present_test.h"

#define BYTES sizeof(a)

struct scene {
	struct chip *chip;
	struct chip_cache *cache;
	_Atomic unsigned int *runtime_in, *runtime_out;
	unsigned int in_before, out_before;
	uint64_t name;
};

/* With the image 1. */
static bool scene_open(struct scene *scene, const char *mode, const char *more)
{
	void *runtime;

	memset(scene, 0, sizeof(*scene));
	scene->chip = pto(mode, more);
	runtime = dlopen(fixture(RUNTIME), RTLD_NOW | RTLD_NOLOAD);
	if (!CHECK(scene->chip && runtime))
		return false;
	scene->runtime_in = dlsym(runtime, "pto_runtime_in");
	scene->runtime_out = dlsym(runtime, "pto_runtime_out");
	scene->in_before = *scene->runtime_in;
	scene->out_before = *scene->runtime_out;
	dlclose(runtime);
	CHECK_EQ(pto_image_load(scene->chip, 1, 600, 1), 0);
	CHECK_EQ(cache_create(scene->chip, &scene->cache), 0);
	return CHECK(scene->cache);
}

static void scene_close(struct scene *scene)
{
	cache_destroy(scene->cache);
	chip_done(scene->chip);
}

static unsigned int runtime_in(const struct scene *scene)
{
	return *scene->runtime_in - scene->in_before;
}

static unsigned int runtime_out(const struct scene *scene)
{
	return *scene->runtime_out - scene->out_before;
}

/* The driver's counts are those of the stand-in; all of it are tensors of this test. */
static void counts_agree(const struct scene *scene)
{
	struct dw_chip_counters counters;

	CHECK_EQ(chip_counters(scene->chip, &counters), 0);
	CHECK_EQ(counters.copies_in, pto_log_count("to 400") + runtime_in(scene));
	CHECK_EQ(counters.copies_out, pto_log_count("from 400") + runtime_out(scene));
	CHECK_EQ(counters.bytes_in, BYTES * counters.copies_in);
	CHECK_EQ(counters.bytes_out, BYTES * counters.copies_out);
}

/* z = x + y, as a chip worker hands it over. Names: those that it sees of x and y, makes of z. */
static int begin(struct scene *scene, const float *x, uint64_t x_name, const float *y,
		 uint64_t y_name, const float *z, uint64_t z_name)
{
	/* The arguments stay valid until the completion. */
	static struct dw_tensor tensors[4][3];
	static uint64_t scalars[6] = { 0, 0, 0, 600, 1, MARK(5) };
	static unsigned int next;
	struct frame_names names[3] = {
		{ .sees = x_name }, { .sees = y_name }, { .makes = z_name },
	};
	unsigned int slot = next++ % 4;
	struct dw_args args = view(tensors[slot], 3, scalars, 6);
	const struct dw_chip_place *places;
	const int32_t *signature;
	size_t count = 0;
	int status;

	tensors[slot][0] = tensor1(x, DW_FLOAT32, ELEMENTS);
	tensors[slot][1] = tensor1(y, DW_FLOAT32, ELEMENTS);
	tensors[slot][2] = tensor1(z, DW_FLOAT32, ELEMENTS);
	signature = chip_image_signature(scene->chip, 1, &count);
	do {
		places = cache_begin(scene->cache, &args, signature, count, names, NULL);
		status = chip_submit_at(scene->chip, 1, &args, places, NULL, 1, NULL);
		if (status < 0)
			cache_undo(scene->cache, false);
	} while (status == -ENOMEM && cache_shrink_for(scene->cache, &args));
	return status;
}

static int end(struct scene *scene)
{
	struct chip_completion done;

	if (!CHECK_EQ(chip_finish(scene->chip, &done), 1))
		return -EPIPE;
	cache_end(scene->cache, done.status == 0, false);
	return done.status;
}

static int run(struct scene *scene, const float *x, uint64_t x_name, const float *y,
	       uint64_t y_name, const float *z, uint64_t z_name)
{
	int status = begin(scene, x, x_name, y, y_name, z, z_name);

	return status ? status : end(scene);
}

/* ------------------------------------------------------------------- counted */

static void kept_inputs(const char *mode)
{
	struct scene scene;

	REQUIRE(scene_open(&scene, mode, ""));
	vectors_fill();
	for (uint64_t i = 0; i < 100; i++) {
		CHECK_EQ(run(&scene, a, 1, b, 2, out, 10 + i), 0);
		CHECK(vectors_added());
		memset(out, 0, sizeof(out));
	}
	CHECK_EQ(pto_log_count("to 400"), 2);
	CHECK_EQ(pto_log_count("from 400"), 100);
	CHECK_EQ(runtime_in(&scene) + runtime_out(&scene), 0);
	/* Other contents under another name are copied, and used. */
	for (int i = 0; i < ELEMENTS; i++)
		b[i] = (float)i;
	CHECK_EQ(run(&scene, a, 1, b, 200, out, 201), 0);
	CHECK(out[99] == 198);
	CHECK_EQ(pto_log_count("to 400"), 3);
	/* Tensors without names are handled as without places. */
	CHECK_EQ(run(&scene, a, 0, b, 200, out, 0), 0);
	CHECK_EQ(pto_log_count("to 400"), 3);
	CHECK_EQ(runtime_in(&scene), 1);
	CHECK_EQ(runtime_out(&scene), 1);
	counts_agree(&scene);
	scene_close(&scene);
}

TEST(what_stays_is_copied_once_for_a_hundred_runs)
{
	kept_inputs("");
	kept_inputs("depth=2 concurrent");
	kept_inputs("depth=2 concurrent run_us=100");
}

/* Each task reads what the one before it has written. */
TEST(a_chain_copies_in_what_it_begins_with)
{
	static const char *const modes[] = { "", "depth=2 concurrent run_us=0" };
	static float sums[2][ELEMENTS];
	struct scene scene;

	for (int i = 0; i < 2; i++) {
		REQUIRE(scene_open(&scene, modes[i], ""));
		vectors_fill();
		memcpy(sums[0], b, sizeof(b));
		for (uint64_t step = 0; step < 50; step++)
			CHECK_EQ(run(&scene, sums[step % 2], 10 + step, a, 1, sums[(step + 1) % 2],
				     11 + step),
				 0);
		CHECK_EQ(sums[0][99], 198 + 50 * 99);
		CHECK_EQ(pto_log_count("to 400"), 2);
		CHECK_EQ(pto_log_count("from 400"), 50);
		counts_agree(&scene);
		scene_close(&scene);
	}
}

/* Without a signature the directions are unknown; with the old interface nothing stays. */
TEST(no_places_where_they_would_not_be_right)
{
	struct builder *builder;
	struct scene scene;
	struct chip *chip = NULL;

	REQUIRE(scene_open(&scene, "", ""));
	CHECK_EQ(chip_image_unload(scene.chip, 1), 0);
	builder = builder_create(600, 1, 0);
	CHECK_EQ(builder_load(scene.chip, 1, builder, false), 0);
	vectors_fill();
	for (int i = 0; i < 2; i++)
		CHECK_EQ(run(&scene, a, 1, b, 2, out, 3), 0);
	CHECK(vectors_added());
	CHECK_EQ(pto_log_count("malloc"), 0);
	CHECK_EQ(runtime_in(&scene), 6);
	CHECK_EQ(runtime_out(&scene), 6);
	counts_agree(&scene);
	scene_close(&scene);
	builder_free(builder);
	REQUIRE(chip_open("pto", 0, pto_options("pto_runtime", ""), &chip) == 0);
	CHECK_EQ(cache_create(chip, &scene.cache), 0);
	CHECK(!scene.cache);
	chip_close(chip);
}

/* ------------------------------------------------------------------- failures */

TEST(a_new_context_has_no_contents_which_come_from_the_host_again)
{
	static const char *const modes[] = {
		"run=507018 fails=1 poison after=2",
		"depth=2 concurrent wait=507018 fails=1 poison after=2",
	};
	struct scene scene;

	for (int i = 0; i < 2; i++) {
		REQUIRE(scene_open(&scene, modes[i], ""));
		vectors_fill();
		CHECK_EQ(run(&scene, a, 1, b, 2, out, 3), 0);
		CHECK_EQ(run(&scene, a, 1, b, 2, out, 4), 0);
		CHECK_EQ(pto_log_count("to 400"), 2);
		CHECK_EQ(run(&scene, a, 1, b, 2, out, 5), -EIO);
		for (uint64_t more = 0; more < 3; more++) {
			vectors_fill();
			CHECK_EQ(run(&scene, a, 1, b, 2, out, 6 + more), 0);
			CHECK(vectors_added());
		}
		CHECK_EQ(pto_log_count("create"), 2);
		CHECK_EQ(pto_log_count("to 400"), 4);
		CHECK_EQ(pto_log_count("from 400"), 5);
		CHECK_EQ(runtime_in(&scene), 0);
		scene_close(&scene);
	}
}

/* A part of a block that was lost with its context does not stand for the whole. */
TEST(each_part_of_a_block_that_has_lost_its_contents_is_fetched)
{
	static const volatile uint32_t never;
	const uint64_t block = 1ull << 62;
	struct dw_chip_place places[3];
	uint64_t bytes[3] = { BYTES, BYTES, BYTES };
	uint64_t scalars[6] = { 0, 0, 0, 600, 1, MARK(5) };
	struct dw_tensor t[3];
	struct dw_chip_call call;
	struct builder *builder;
	struct bare bare;

	options("", "");
	builder = builder_create(600, 1, 9);
	REQUIRE(bare_open(&bare, options("run=507018 fails=1 poison after=1", ""), builder));
	vectors_fill();
	t[0] = tensor1(a, DW_FLOAT32, ELEMENTS);
	t[1] = tensor1(b, DW_FLOAT32, ELEMENTS);
	t[2] = tensor1(out, DW_FLOAT32, ELEMENTS);
	call = (struct dw_chip_call){
		.size = sizeof(call), .image = bare.image, .tensors = t, .tensor_bytes = bytes,
		.tensor_count = 3, .scalars = scalars, .scalar_count = 6, .cancelled = &never,
		.places = places,
	};
	CHECK_EQ(bare.driver.table.reserve(bare.device, block, 2 * BYTES, &bare.error), 0);
	for (int i = 0; i < 3; i++)
		places[i] = (struct dw_chip_place){
			.size = sizeof(places[i]), .flags = DW_CHIP_COPY_IN,
			.handle = i < 2 ? block + BYTES * (uint64_t)i : 0,
		};
	CHECK_EQ(bare.driver.table.run(bare.device, &call, &bare.error), 0);
	places[0].flags = places[1].flags = DW_CHIP_ON_HOST;
	CHECK_EQ(bare.driver.table.run(bare.device, &call, &bare.error), -EIO);
	CHECK_EQ(pto_log_count("to 400"), 2);
	for (unsigned int i = 0; i < 3; i++) {
		memset(out, 0, sizeof(out));
		CHECK_EQ(bare.driver.table.run(bare.device, &call, &bare.error), 0);
		CHECK(vectors_added());
		CHECK_EQ(pto_log_count("to 400"), 4 + 2 * i);
	}
	/* Contents that the host does not have are lost, and an error says so. */
	places[1].flags = 0;
	bare.error.text[0] = '\0';
	CHECK_EQ(bare.driver.table.run(bare.device, &call, &bare.error), -EIO);
	CHECK_STR(bare.error.text, "tensor 1 of \"orchestrate\": what pto device 3 kept of it");
	/* A place that is none of this device. */
	places[0].handle = block + 2 * BYTES;
	bare.error.text[0] = '\0';
	CHECK_EQ(bare.driver.table.run(bare.device, &call, &bare.error), -EFAULT);
	CHECK_STR(bare.error.text, "tensor 0 has a place at 0x4000000000000320");
	places[0].handle = block + BYTES + 4;
	bare.error.text[0] = '\0';
	CHECK_EQ(bare.driver.table.run(bare.device, &call, &bare.error), -EFAULT);
	CHECK_STR(bare.error.text, "tensor 0 has 400 bytes from byte 404 of a block");
	CHECK_EQ(bare.driver.table.free(bare.device, block, &bare.error), 0);
	bare_close(&bare);
	builder_free(builder);
	CHECK_EQ(pto_log_count("wrong"), 0);
}

TEST(memory_that_stays_and_places_are_beside_each_other)
{
	const uint64_t handle = 0x7000000000u;
	const float *device = (const float *)(uintptr_t)handle;
	struct scene scene;

	REQUIRE(scene_open(&scene, "run=507018 fails=1 poison after=10", ""));
	vectors_fill();
	CHECK_EQ(chip_alloc(scene.chip, handle, BYTES), 0);
	CHECK_EQ(chip_copy_in(scene.chip, handle, b, BYTES), 0);
	for (uint64_t i = 0; i < 10; i++) {
		CHECK_EQ(run(&scene, a, 1, device, 0, out, 10 + i), 0);
		CHECK(vectors_added());
	}
	/* That of alloc(), zeroed and filled, and one of `a`. */
	CHECK_EQ(pto_log_count("to 400"), 3);
	CHECK_EQ(runtime_in(&scene), 0);
	/* A context with such memory is not replaced. */
	CHECK_EQ(run(&scene, a, 1, device, 0, out, 30), -EIO);
	CHECK_EQ(run(&scene, a, 1, device, 0, out, 31), -ENODEV);
	CHECK_STR(error_text(), "would not have its 1 blocks of device memory");
	scene_close(&scene);
}

TEST(copies_that_fail_fail_their_run_and_leave_no_name)
{
	static const char *const modes[] = { "", "depth=2 concurrent" };
	char mode[100];

	for (int i = 0; i < 2; i++) {
		struct scene scene;

		REQUIRE(scene_open(&scene, modes[i], ""));
		vectors_fill();
		snprintf(mode, sizeof(mode), "%s to=507899", modes[i]);
		setenv("PTO_MODE", mode, 1);
		CHECK_EQ(run(&scene, a, 1, b, 2, out, 3), -EIO);
		CHECK_STR(error_text(), "copy_to_device_ctx() returned 507899 for \"orchestrate\"");
		snprintf(mode, sizeof(mode), "%s from=-1", modes[i]);
		setenv("PTO_MODE", mode, 1);
		CHECK_EQ(run(&scene, a, 1, b, 2, out, 3), -EIO);
		CHECK_STR(error_text(), "copy_from_device_ctx() returned -1 for \"orchestrate\"");
		setenv("PTO_MODE", modes[i], 1);
		/* Inputs of a failed run may not be there. */
		CHECK_EQ(run(&scene, a, 1, b, 2, out, 3), 0);
		CHECK(vectors_added());
		CHECK_EQ(run(&scene, out, 3, b, 2, a, 4), 0);
		CHECK_EQ(a[99], 99 * 5);
		/* Some in a row lose the device. */
		snprintf(mode, sizeof(mode), "%s from=-1", modes[i]);
		setenv("PTO_MODE", mode, 1);
		CHECK_EQ(run(&scene, a, 4, b, 2, out, 5), -EIO);
		CHECK_EQ(run(&scene, a, 4, b, 2, out, 5), -EIO);
		CHECK_EQ(run(&scene, a, 4, b, 2, out, 5), -ENODEV);
		setenv("PTO_MODE", modes[i], 1);
		cache_destroy(scene.cache);
		chip_close(scene.chip);
	}
}

/* ------------------------------------------------------------------ two in flight */

static const char *hold_path(void)
{
	static char path[PATH_MAX];

	if (!path[0])
		snprintf(path, sizeof(path), "%.4000s/pto_places_hold", test_folder());
	return path;
}

static void hold(void)
{
	pto_file_write(hold_path(), "x", 1);
	setenv("PTO_HOLD", hold_path(), 1);
}

TEST(the_next_run_gets_its_places_while_one_is_under_way)
{
	static float other[ELEMENTS], third[ELEMENTS], fourth[ELEMENTS];
	struct chip_completion done;
	struct scene scene;
	unsigned int frees;

	REQUIRE(scene_open(&scene, "depth=2 concurrent run_us=0", ""));
	vectors_fill();
	hold();
	CHECK_EQ(begin(&scene, a, 1, b, 2, out, 3), 0);
	/* Allocated, copied and prepared. */
	CHECK_EQ(begin(&scene, a, 0, b, 0, other, 4), 0);
	CHECK_STR(pto_log_text(), "launch 0\nmalloc 400\nprepare 0\n");
	unlink(hold_path());
	CHECK_EQ(end(&scene), 0);
	CHECK_EQ(end(&scene), 0);
	CHECK(vectors_added() && other[99] == 297);
	memcpy(third, a, sizeof(a));
	hold();
	CHECK_EQ(begin(&scene, a, 1, b, 2, out, 5), 0);
	CHECK_EQ(begin(&scene, third, 6, third, 6, other, 7), 0);
	CHECK_STR(pto_log_text(), "malloc 400\nto 400\nprepare 0\n");
	unlink(hold_path());
	CHECK_EQ(end(&scene), 0);
	CHECK_EQ(end(&scene), 0);
	CHECK(vectors_added() && other[99] == 198);
	counts_agree(&scene);

	/* While another thread is in the runtime: without new places, and nobody waits for it. */
	hold();
	frees = pto_log_count("free");
	CHECK_EQ(begin(&scene, a, 1, b, 2, out, 8), 0);
	CHECK_EQ(chip_collect(scene.chip, &done), 0);
	memcpy(fourth, b, sizeof(b));
	CHECK_EQ(begin(&scene, fourth, 9, third, 6, other, 10), 0);
	CHECK_EQ(pto_log_count("free"), frees);
	unlink(hold_path());
	CHECK_EQ(end(&scene), 0);
	CHECK_EQ(end(&scene), 0);
	CHECK(vectors_added() && other[99] == 297);
	/* `other` had a block with its old contents, which blocked no other; `fourth` had none. */
	CHECK_EQ(runtime_in(&scene), 3);

	/* Blocks that are dropped meanwhile are freed when that thread has left. */
	hold();
	CHECK_EQ(begin(&scene, a, 1, b, 2, out, 11), 0);
	CHECK_EQ(chip_collect(scene.chip, &done), 0);
	CHECK(cache_shrink(scene.cache, 10 * BYTES));
	CHECK_EQ(pto_log_count("free"), frees);
	/* Their memory now belongs to another block. */
	CHECK_EQ(begin(&scene, fourth, 9, fourth, 9, other, 12), 0);
	unlink(hold_path());
	CHECK_EQ(end(&scene), 0);
	CHECK_EQ(end(&scene), 0);
	CHECK(vectors_added() && other[99] == 396);
	CHECK_EQ(runtime_in(&scene), 3);

	/* Or it is freed before other memory is requested. */
	hold();
	CHECK_EQ(begin(&scene, a, 1, b, 2, out, 13), 0);
	CHECK_EQ(chip_collect(scene.chip, &done), 0);
	CHECK(cache_shrink(scene.cache, 10 * BYTES));
	unlink(hold_path());
	CHECK_EQ(end(&scene), 0);
	CHECK_EQ(pto_log_count("free"), frees);
	CHECK_EQ(chip_alloc(scene.chip, 0x7000000000u, 64), 0);
	CHECK_EQ(pto_log_count("free"), frees + 2);
	counts_agree(&scene);
	scene_close(&scene);
}

/* --------------------------------------------------------------------- at random */

#define CELLS 40

/*
 * Random calls, writes by others, and runs that fail, over more cells than there is room for:
 * contents are those of the same in order.
 */
static void random_runs(unsigned int seed, const char *mode, const char *more, bool poison)
{
	static float cells[CELLS][ELEMENTS], wanted[CELLS][ELEMENTS];
	uint64_t names[CELLS] = { 0 }, next_name = 1;
	struct chip_cache_counters counters;
	struct scene scene;
	char failing[200];

	REQUIRE(scene_open(&scene, mode, more));
	snprintf(failing, sizeof(failing), "%s run=-5 wait=-5%s", mode, poison ? " poison" : "");
	for (int i = 0; i < CELLS; i++)
		for (int j = 0; j < ELEMENTS; j++)
			cells[i][j] = wanted[i][j] = (float)((i + j) % 5);
	for (int step = 0; step < 600 && !unit_failures; step++) {
		unsigned int x = (seed = seed * 1103515245 + 12345) / 65536 % CELLS;
		unsigned int y = (seed = seed * 1103515245 + 12345) / 65536 % (CELLS / 4);
		unsigned int z = (seed = seed * 1103515245 + 12345) / 65536 % CELLS;
		unsigned int kind = (seed = seed * 1103515245 + 12345) / 65536 % 16;
		static unsigned int reads[2], writes = CELLS;

		if (z == x || z == y || z < CELLS / 8)
			continue;
		/* A call that depends on calls in flight comes after they have ended. */
		while (chip_in_flight(scene.chip) &&
		       (kind < 3 || chip_in_flight(scene.chip) == chip_depth(scene.chip) ||
			writes == x || writes == y || writes == z || reads[0] == z ||
			reads[1] == z))
			CHECK_EQ(end(&scene), 0);
		if (kind == 0) {
			for (int j = 0; j < ELEMENTS; j++)
				cells[z][j] = wanted[z][j] = (float)(step % 9);
			names[z] = step % 2 ? next_name++ : 0;
			continue;
		}
		names[x] = names[x] ? names[x] : next_name++;
		names[y] = names[y] ? names[y] : next_name++;
		names[z] = next_name++;
		if (kind == 1 && step % 2) {
			setenv("PTO_MODE", failing, 1);
			CHECK_EQ(run(&scene, cells[x], names[x], cells[y], names[y], cells[z],
				     names[z]),
				 -EIO);
			setenv("PTO_MODE", mode, 1);
		}
		for (int j = 0; j < ELEMENTS; j++)
			wanted[z][j] = wanted[x][j] + wanted[y][j];
		CHECK_EQ(begin(&scene, cells[x], names[x], cells[y], names[y], cells[z], names[z]),
			 0);
		reads[0] = x;
		reads[1] = y;
		writes = z;
		if (kind > 8)
			continue;
		while (chip_in_flight(scene.chip))
			CHECK_EQ(end(&scene), 0);
		if (!CHECK(memcmp(cells[z], wanted[z], sizeof(cells[z])) == 0))
			printf("# step %d: %g, not %g\n", step, cells[z][7], wanted[z][7]);
	}
	while (chip_in_flight(scene.chip))
		CHECK_EQ(end(&scene), 0);
	CHECK(memcmp(cells, wanted, sizeof(cells)) == 0);
	cache_counters(scene.cache, &counters);
	printf("# \"%s%s\": %llu tensors found, %llu blocks dropped for others\n", mode, more,
	       (unsigned long long)counters.hits, (unsigned long long)counters.evictions);
	CHECK(counters.hits > 0 && counters.evictions > 0);
	scene_close(&scene);
}

TEST(contents_are_right_whatever_is_kept_dropped_or_lost)
{
	/* With little room; and where the device says that there is none: it has 32 blocks. */
	random_runs(1, "", ",memory=8192", false);
	random_runs(2, "", "", true);
	random_runs(3, "depth=2 concurrent", ",memory=8192", true);
	random_runs(4, "depth=2 concurrent run_us=0", "", false);
	random_runs(5, "depth=2 concurrent run_us=50", ",memory=16384", true);
	/* With a pattern wherever contents are undefined. */
	setenv("DW_CHIP_DEBUG", "fill", 1);
	random_runs(6, "", ",memory=8192", true);
	random_runs(7, "depth=2 concurrent run_us=0", "", true);
	unsetenv("DW_CHIP_DEBUG");
}
