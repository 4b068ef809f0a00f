/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Devices that are lost, with each driver, in processes and in threads: running calls fail with the
 * driver's text, calls that were not started go to other chips or fail with the same text, and no
 * task waits. Each case has a process of its own: OpenCL's libraries do not survive the forks of a
 * later one.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include "chips_pto.h"

#ifdef __SANITIZE_ADDRESS__
/*
 * PoCL's compiler replaces the sanitizer's signal stack with its own, which the sanitizer then
 * frees.
 */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "use_sigaltstack=0";
}
#endif

struct driver {
	const char *name;
	const char *text;		/* of the loss, by the driver */
	unsigned flying;		/* calls that a device may have */
	const char *(*missing)(void);	/* NULL: there always */
	/* Options of chip 0, which is lost after `runs` calls, in a call that takes `ms`. */
	const char *(*prepare)(unsigned runs, unsigned ms);
	const char *(*other)(void);	/* options of chip 1, which is not */
	dw_callable (*image)(struct rig *rig);
	struct call (*call)(const struct rig *rig, dw_callable callable, unsigned part);
};

static char text_options[128];

static const char *sim_prepare(unsigned runs, unsigned ms)
{
	snprintf(text_options, sizeof(text_options), "lost_after=%u,delay_us=%u", runs, ms * 1000);
	return text_options;
}

static const char *async_prepare(unsigned runs, unsigned ms)
{
	snprintf(text_options, sizeof(text_options), "lost_after=%u,delay_us=%u,async=1,depth=2",
		 runs, ms * 1000);
	return text_options;
}

static const char *sim_other(void)
{
	return "delay_us=1000";
}

static dw_callable sim_add(struct rig *rig)
{
	return sim_image(rig, "vector_add");
}

static void opencl_faults(const char *what, unsigned after, int code, unsigned ms)
{
	static char value[64];

	snprintf(value, sizeof(value), "%s %u %d %u", what, after, code, ms);
	setenv("OPENCL_FAULT", value, 1);
	if (!CHECK(dlopen(fixture("opencl_faults"), RTLD_NOW | RTLD_GLOBAL)))
		printf("# %s\n", dlerror());
}

/* At launch: CL_DEVICE_NOT_AVAILABLE. */
static const char *opencl_prepare(unsigned runs, unsigned ms)
{
	opencl_faults("call from", runs, -2, ms);
	return "local=7";
}

/* While it runs: the queue has become an invalid one, CL_INVALID_COMMAND_QUEUE. */
static const char *opencl_prepare_event(unsigned runs, unsigned ms)
{
	opencl_faults("event from", runs, -36, ms);
	return "local=7";
}

static const char *opencl_other(void)
{
	return "local=8";
}

static dw_callable opencl_image(struct rig *rig)
{
	return image_of(rig, "opencl", NULL, opencl_add, "vector_add", signature_add, 3);
}

static const char *pto_lost(unsigned runs, unsigned ms)
{
	char mode[32];

	snprintf(mode, sizeof(mode), "lost=%u,%u,0", runs, ms);
	pto_prepare(mode);
	return pto_options;
}

/* Its runtime does not return from finalize_device() for two seconds. */
static const char *pto_lost_hanging(unsigned runs, unsigned ms)
{
	char mode[32];

	snprintf(mode, sizeof(mode), "lost=%u,%u,2000", runs, ms);
	pto_prepare(mode);
	return pto_options;
}

static const char *pto_other(void)
{
	return pto_options;
}

static const struct driver drivers[] = {
	{ "sim", "sim device 0 is lost (driver option lost_after=", 1, NULL, sim_prepare, sim_other,
	  sim_add, add_call },
	{ "sim", "sim device 0 is lost (driver option lost_after=", 2, NULL, async_prepare,
	  sim_other, sim_add, add_call },
	{ "opencl",
	  "clEnqueueNDRangeKernel with 1 work-groups of 7 failed with CL_DEVICE_NOT_AVAILABLE", 2,
	  opencl_missing, opencl_prepare, opencl_other, opencl_image, add_call },
	{ "opencl", "on opencl device 0 ended with CL_INVALID_COMMAND_QUEUE", 2, opencl_missing,
	  opencl_prepare_event, opencl_other, opencl_image, add_call },
	{ "pto",
	  "pto device 2 is lost: run_runtime() returned -5 for \"orchestrate\", and set_device() "
	  "-9 after it",
	  1, NULL, pto_lost, pto_other, pto_image, pto_call },
};

struct scene {
	const struct driver *driver;
	struct rig rig;
	dw_callable add;
	struct call calls[40];
};

/* A node whose chip 0 will be lost, with the others of its pool. */
static bool scene_begin(struct scene *scene, enum dw_mode mode, enum dw_restart restart,
			uint32_t chips, unsigned runs, unsigned ms)
{
	const struct driver *driver = scene->driver;
	bool pto = strcmp(driver->name, "pto") == 0;
	struct dw_chip_options options[2] = {
		{ .driver = driver->name, .device = pto ? 2 : 0 },
		/* OpenCL has one device here; two chips share it. */
		{ .driver = driver->name, .device = pto ? 3 : strcmp(driver->name, "sim") == 0 },
	};

	options[0].options = driver->prepare(runs, ms);
	options[1].options = driver->other();
	rig_create(&scene->rig, mode, restart, options, chips);
	scene->add = driver->image(&scene->rig);
	for (unsigned i = 0; i < 40; i++) {
		scene->calls[i] = driver->call(&scene->rig, scene->add, i);
		/* The stand-in of pto gets this number in a scalar, too. */
		scene->calls[i].options.config.block_dim = pto ? 3 : 1;
	}
	return CHECK_EQ(rig_init(&scene->rig), 0);
}

static void scene_end(struct scene *scene)
{
	rig_destroy(&scene->rig);
	if (strcmp(scene->driver->name, "pto") == 0)
		pto_clean();
}

static void in_a_process(void (*play)(struct scene *scene, enum dw_mode mode),
			 const struct driver *driver, enum dw_mode mode)
{
	struct scene *scene;
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		alarm(20);
		unit_failures = 0;
		scene = calloc(1, sizeof(*scene));
		scene->driver = driver;
		play(scene, mode);
		free(scene);
		fflush(stdout);
		_exit(unit_failures != 0);
	}
	if (!CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0))
		printf("# driver %s (%u in flight) in %s: status %#x\n", driver->name,
		       driver->flying, mode == DW_THREAD ? "a thread" : "a process",
		       (unsigned)status);
}

/* ------------------------------------------------------------------ taken over */

static void taken_over(struct scene *scene, enum dw_mode mode)
{
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	unsigned directed = 0, anywhere = 0;
	struct rig *rig = &scene->rig;

	if (!scene_begin(scene, mode, DW_RESTART_NEVER, 2, 3, 1))
		return;
	/* Six for the chip that will be lost, among others that may go anywhere. */
	for (unsigned i = 0; i < 12; i += 2)
		scene->calls[i].options.place = DW_PLACE(0);
	CHECK_EQ(run_calls(rig, scene->calls, 40), -ENODEV);
	check_text("node0/chip0: task ");
	check_text("ENODEV: ");
	check_text(scene->driver->text);
	for (unsigned i = 0; i < 40; i++)
		*(i < 12 && i % 2 == 0 ? &directed : &anywhere) += wrong(rig, i, 1) != 0;
	/*
	 * Chip 0 did three at most; of the others, those fail that it had in flight when it was
	 * lost.
	 */
	CHECK(directed >= 3 && directed <= 6);
	CHECK(anywhere <= scene->driver->flying);
	if (unit_failures)
		printf("# %u directed and %u others failed\n", directed, anywhere);
	CHECK_EQ(chip_stats(rig, "node0/chip0").alive, 0);
	CHECK_EQ(chip_stats(rig, "node0/chip1").alive, 1);
	CHECK_EQ(dw_worker_engine_stats(rig->node, &engine), 0);
	CHECK_EQ(engine.deaths, 1);

	/* The chip is gone for good, and the error of a task that asks for it names it. */
	CHECK_EQ(run_calls(rig, scene->calls, 1), -ENODEV);
	check_text("node0/chip0 is gone: the device is out of order: ");
	check_text(scene->driver->text);
	memset(rig->c, 0, sizeof(float) * 40 * COUNT);
	for (unsigned i = 0; i < 12; i += 2)
		scene->calls[i].options.place = 0;
	CHECK_EQ(run_calls(rig, scene->calls, 40), 0);
	CHECK_EQ(wrong(rig, 0, 40), 0);
	/* An image that is registered later goes to the remaining chips. */
	CHECK_EQ(dw_callable_unregister(rig->node, scene->add), 0);
	scene->calls[0].callable = scene->driver->image(rig);
	CHECK_EQ(run_calls(rig, scene->calls, 1), 0);
	scene_end(scene);
}

/* A driver that hangs in close, as the driver of a lost device may. */
static void taken_over_at_once(struct scene *scene, enum dw_mode mode)
{
	uint64_t begun;

	if (!scene_begin(scene, mode, DW_RESTART_NEVER, 2, 3, 1))
		return;
	for (unsigned i = 0; i < 12; i += 2)
		scene->calls[i].options.place = DW_PLACE(0);
	begun = now_ns();
	CHECK_EQ(run_calls(&scene->rig, scene->calls, 40), -ENODEV);
	CHECK(unit_within(begun, 1500 * MS));
	CHECK_EQ(chip_stats(&scene->rig, "node0/chip0").alive, 0);
	scene_end(scene);
}

/* ------------------------------------------------------------ queued behind it */

static void queued_behind(struct scene *scene, enum dw_mode mode)
{
	struct batch first = { .calls = scene->calls, .count = 1 };
	struct batch behind = { .calls = scene->calls + 1, .count = 10 };
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	struct dw_run *runs[2];

	if (!scene_begin(scene, mode, DW_RESTART_NEVER, 2, 1, 300))
		return;
	for (unsigned i = 0; i < 11; i++)
		scene->calls[i].options.place = DW_PLACE(0);
	/* The call that the device survives. */
	CHECK_EQ(run_calls(&scene->rig, scene->calls, 1), 0);
	CHECK_EQ(dw_worker_start(scene->rig.node, orch_batch, NULL, NULL, &first, NULL, &runs[0]),
		 0);
	/* Its one task is submitted before those of the other. */
	do
		pause_ms(1);
	while (dw_worker_engine_stats(scene->rig.node, &engine) == 0 && engine.submitted < 2);
	CHECK_EQ(dw_worker_start(scene->rig.node, orch_batch, NULL, NULL, &behind, NULL, &runs[1]),
		 0);
	CHECK_EQ(dw_run_wait(runs[0]), -ENODEV);
	check_text("node0/chip0: task 1 (");
	check_text("): ENODEV: ");
	check_text(scene->driver->text);
	CHECK_EQ(dw_run_wait(runs[1]), -ENODEV);
	check_text("node0/chip0: task ");
	check_text(scene->driver->text);
	/*
	 * One of them may have been in flight with it; the errors of the others tell why they never
	 * were.
	 */
	if (scene->driver->flying == 1)
		check_text("ENODEV: it must run there: the device is out of order: ");
	CHECK_EQ(behind.submitted, 10);
	for (unsigned i = 1; i < 11; i++)
		CHECK(scene->rig.c[i * COUNT] == 0);
	scene_end(scene);
}

/* ------------------------------------------------------------------- last one */

static void last_one(struct scene *scene, enum dw_mode mode)
{
	unsigned good = 0;

	if (!scene_begin(scene, mode, DW_RESTART_NEVER, 1, 3, 1))
		return;
	CHECK_EQ(run_calls(&scene->rig, scene->calls, 20), -ENODEV);
	check_text("node0/chip0: task ");
	check_text(scene->driver->text);
	for (unsigned i = 0; i < 20; i++)
		good += wrong(&scene->rig, i, 1) == 0;
	CHECK_EQ(good, 3);
	CHECK_EQ(run_calls(&scene->rig, scene->calls, 20), -ENODEV);
	check_text(
		"node0: no worker of the kind that this task needs is left: the device is out of "
		"order: ");
	check_text(scene->driver->text);
	scene_end(scene);
}

/* -------------------------------------------------------------------- restart */

static void opened_anew(struct scene *scene, enum dw_mode mode)
{
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	struct rig *rig = &scene->rig;

	if (!scene_begin(scene, mode, DW_RESTART_ON_DEATH, 1, 5, 1))
		return;
	for (unsigned i = 0; i < 6; i++)
		/* A vector add may be repeated. */
		scene->calls[i].options.retries = 2;
	for (int round = 0; round < 3; round++) {
		memset(rig->c, 0, sizeof(float) * 6 * COUNT);
		if (!CHECK_EQ(run_calls(rig, scene->calls, 6), 0))
			printf("# round %d: %s\n", round, dw_strerror_last());
		CHECK_EQ(wrong(rig, 0, 6), 0);
	}
	CHECK_EQ(dw_worker_engine_stats(rig->node, &engine), 0);
	CHECK(engine.deaths >= 3 && engine.restarts >= 3);
	CHECK_EQ(chip_stats(rig, "node0/chip0").alive, 1);
	scene_end(scene);
}

/* A device that is lost again and again is given up, and the error gives the reason. */
static void given_up(struct scene *scene, enum dw_mode mode)
{
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);

	if (!scene_begin(scene, mode, DW_RESTART_ON_DEATH, 1, 1, 1))
		return;
	for (int round = 0; round < 40; round++)
		CHECK_EQ(run_calls(&scene->rig, scene->calls, 6), -ENODEV);
	check_text("the device is out of order: ");
	check_text(scene->driver->text);
	check_text("given up after 5 deaths within 60 s");
	CHECK_EQ(dw_worker_engine_stats(scene->rig.node, &engine), 0);
	CHECK(engine.deaths == 5 && engine.restarts == 4);
	scene_end(scene);
}

/* ------------------------------------------------------------------- in flight */

/* Before, the tasks ended while the driver's thread still wrote memory that had a new owner. */
static void in_flight(struct scene *scene, enum dw_mode mode)
{
	static const int32_t signature[] = { DW_DIR_INOUT };
	struct dw_chip_options chips[1] = { { .driver = fixture("late_chip") } };
	_Atomic int64_t *values;
	struct rig *rig = &scene->rig;
	int64_t now[2];

	rig_create(rig, mode, DW_RESTART_NEVER, chips, 1);
	scene->add = image_of(rig, chips[0].driver, NULL, "any", "any", signature, 1);
	values = (_Atomic int64_t *)rig->c;
	for (int i = 0; i < 2; i++) {
		scene->calls[i] = (struct call){ .callable = scene->add,
						 .options = DW_OPTIONS(dw_submit_options) };
		call_tensor(&scene->calls[i], (void *)&values[i], DW_INT64, 1, DW_INOUT);
	}
	REQUIRE(rig_init(rig) == 0);
	CHECK_EQ(run_calls(rig, scene->calls, 2), -ENODEV);
	check_text("node0/chip0: task 1 (late_chip.so:any): ENODEV: the device was lost");
	for (int i = 0; i < 2; i++)
		now[i] = atomic_load(&values[i]);
	pause_ms(60);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(atomic_load(&values[i]), now[i]);
	CHECK_EQ(chip_stats(rig, "node0/chip0").tasks_failed, 2);
	rig_destroy(rig);
}

TEST(calls_in_flight_on_a_lost_device_end_when_its_driver_writes_no_more)
{
	in_a_process(in_flight, &drivers[0], DW_PROCESS);
	in_a_process(in_flight, &drivers[0], DW_THREAD);
}


/* ------------------------------------------------------------ all drivers, both modes */

/* Runs with all drivers that are there, and names those that are not. */
static void with_all(void (*play)(struct scene *scene, enum dw_mode mode), enum dw_mode mode)
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
		if (drivers[i].missing && drivers[i].missing())
			printf("# without %s: %s\n", drivers[i].name, drivers[i].missing());
		else
			in_a_process(play, &drivers[i], mode);
	}
}

TEST(others_take_over_what_a_lost_device_had_not_started)
{
	with_all(taken_over, DW_PROCESS);
}

TEST(others_take_over_what_a_lost_device_had_not_started_in_threads)
{
	with_all(taken_over, DW_THREAD);
}

TEST(a_driver_that_hangs_when_its_lost_device_is_closed_delays_nobody)
{
	static const struct driver hanging = {
		"pto", "", 1, NULL, pto_lost_hanging, pto_other, pto_image, pto_call,
	};

	in_a_process(taken_over_at_once, &hanging, DW_PROCESS);
	in_a_process(taken_over_at_once, &hanging, DW_THREAD);
}

TEST(tasks_directed_to_a_lost_device_fail_with_its_error)
{
	with_all(queued_behind, DW_PROCESS);
}

TEST(tasks_directed_to_a_lost_device_fail_with_its_error_in_threads)
{
	with_all(queued_behind, DW_THREAD);
}

TEST(the_last_device_that_is_lost_leaves_nobody_waiting)
{
	with_all(last_one, DW_PROCESS);
}

/* Before, the thread stayed and failed every task, also those that another chip could have run. */
TEST(the_last_device_that_is_lost_leaves_nobody_waiting_in_threads)
{
	with_all(last_one, DW_THREAD);
}

TEST(a_lost_device_is_opened_anew_by_the_restart_policy)
{
	with_all(opened_anew, DW_PROCESS);
}

TEST(a_lost_device_is_opened_anew_by_the_restart_policy_in_threads)
{
	with_all(opened_anew, DW_THREAD);
}

TEST(a_device_that_is_lost_again_and_again_is_given_up)
{
	in_a_process(given_up, &drivers[0], DW_PROCESS);
	in_a_process(given_up, &drivers[0], DW_THREAD);
}
