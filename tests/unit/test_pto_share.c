/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The pto driver's own share of a task, with stand-in runtimes that do nothing: nanoseconds of a
 * call, and of a control that calls a function that does nothing, in turn; the least of many
 * batches of each, so that a busy machine shows in neither.
 */
#include <time.h>
#include "pto_test.h"

#define BATCHES 400
#define BATCH 50
#define SHARE_NS 3000

struct scene {
	struct bare bare;
	struct dw_chip_call call;
	bool flight;			/* by submit and collect */
};

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int run_once(struct scene *scene)
{
	const struct dw_chip_driver *driver = &scene->bare.driver.table;
	struct dw_chip_completion done = { .size = sizeof(done) };

	if (!scene->flight)
		return driver->run(scene->bare.device, &scene->call, &scene->bare.error);
	if (driver->submit(scene->bare.device, &scene->call, &scene->bare.error) ||
	    driver->collect(scene->bare.device, &done) != 1)
		return -1;
	return done.status;
}

static int nothing(struct scene *scene)
{
	return scene->bare.device ? 0 : -1;
}

/* Nanoseconds of one of a batch. */
static uint64_t batch(int (*volatile call)(struct scene *scene), struct scene *scene)
{
	uint64_t begun = clock_ns();
	int failed = 0;

	for (int i = 0; i < BATCH; i++)
		failed |= call(scene);
	CHECK_EQ(failed, 0);
	return (clock_ns() - begun) / BATCH;
}

/* Blocks that the tensors have as places, with contents. */
static void places_make(struct scene *scene, struct dw_chip_place *places, size_t tensors)
{
	const struct dw_chip_driver *driver = &scene->bare.driver.table;

	for (size_t i = 0; i < tensors; i++) {
		places[i] = (struct dw_chip_place){
			.size = sizeof(places[i]), .handle = (1ull << 62) + 4096 * i,
			.flags = DW_CHIP_ON_HOST,
		};
		CHECK_EQ(driver->reserve(scene->bare.device, places[i].handle,
					 scene->call.tensor_bytes[i], &scene->bare.error), 0);
	}
	scene->call.places = places;
}

static void share_of(const char *name, const char *runtime, const char *mode, size_t tensors,
		     bool flight, bool stay)
{
	static const volatile uint32_t never;
	static float cells[256][64];
	struct dw_chip_place places[3];
	struct dw_tensor t[256];
	uint64_t bytes[256], scalars[6] = { 0 }, least = UINT64_MAX, control = UINT64_MAX;
	struct builder *builder;
	struct scene scene;

	pto_exports = "orchestrate configure simpler_host_log_bind_state";
	builder = builder_create(600, 1, 0);
	memset(&scene, 0, sizeof(scene));
	/* An image with a signature of as many tensors. */
	for (size_t i = 0; i < tensors; i++) {
		builder->signature[i] = i + 1 == tensors ? DW_DIR_OUT : DW_DIR_IN;
		t[i] = tensor1(cells[i], DW_FLOAT32, 64);
		bytes[i] = sizeof(cells[i]);
	}
	builder->options.signature_count = tensors;
	REQUIRE(bare_open(&scene.bare, pto_options(runtime, mode), builder));
	scene.flight = flight;
	scene.call = (struct dw_chip_call){
		.size = sizeof(scene.call), .image = scene.bare.image, .tensors = t,
		.tensor_bytes = bytes, .tensor_count = tensors, .scalars = scalars,
		.scalar_count = 6, .cancelled = &never,
	};
	if (stay)
		places_make(&scene, places, tensors);
	for (int i = 0; i < BATCHES; i++) {
		uint64_t now = batch(run_once, &scene), empty = batch(nothing, &scene);

		least = now < least ? now : least;
		control = empty < control ? empty : control;
	}
	printf("# %s: %llu ns, control %llu ns\n", name, (unsigned long long)least,
	       (unsigned long long)control);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	if (tensors == 3)
		CHECK(least < SHARE_NS * unit_slow() * unit_busy());
#endif
	bare_close(&scene.bare);
	builder_free(builder);
}

TEST(share_of_the_driver_is_small)
{
	share_of("old interface, 3 tensors", "pto_runtime", "nothing", 3, false, false);
	share_of("old interface, 16 tensors", "pto_runtime", "nothing", 16, false, false);
	share_of("present interface, 3 tensors", "pto_present", "nothing", 3, false, false);
	share_of("present interface, 3 tensors that stay", "pto_present", "nothing", 3, false,
		 true);
	share_of("present interface, 256 tensors", "pto_present", "nothing", 256, false, false);
	share_of("present interface, submit and collect, 3 tensors", "pto_present",
		 "nothing depth=2 concurrent", 3, true, false);
	share_of("present interface, submit and collect, 3 tensors that stay", "pto_present",
		 "nothing depth=2 concurrent", 3, true, true);
}
