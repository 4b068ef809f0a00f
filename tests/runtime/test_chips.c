/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Chips through Workers: which chip, which driver, images that come and go, requests that are
 * refused by name.
 */
#include <sys/resource.h>
#include "chips.h"

static const struct dw_chip_options one_sim[] = { { .driver = "sim" } };

/* ---------------------------------------------------------- driver and process */

/* Counts the mappings of a process, or those that contain this text. */
static unsigned mappings_of(pid_t pid, const char *text)
{
	char line[PATH_MAX + 100];
	unsigned n = 0;
	FILE *maps;

	snprintf(line, sizeof(line), "/proc/%d/maps", (int)pid);
	maps = fopen(line, "re");
	while (maps && fgets(line, sizeof(line), maps))
		n += strstr(line, text) != NULL;
	if (maps)
		fclose(maps);
	return n;
}

/*
 * This test must be the first: tests with threads load drivers into this process. Vendors'
 * libraries keep state of their process, and do not survive a fork.
 */
static void loaded_alone(const char *driver, const char *library)
{
	struct dw_chip_options chips[2] = { { .driver = "sim" }, { .driver = driver } };
	pid_t other, own;
	struct rig rig;

	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, chips, 2);
	sim_image(&rig, "vector_add");
	REQUIRE(rig_init(&rig) == 0);
	sim_image(&rig, "who");
	other = chip_stats(&rig, "node0/chip0").pid;
	own = chip_stats(&rig, "node0/chip1").pid;
	CHECK(mappings_of(other, "libdistworker-chip-sim.so") > 0);
	CHECK(mappings_of(own, library) > 0);
	CHECK_EQ(mappings_of(other, library), 0);
	CHECK_EQ(mappings_of(own, "libdistworker-chip-sim.so"), 0);
	CHECK_EQ(mappings_of(chip_stats(&rig, "node0/sub0").pid, "libdistworker-chip-"), 0);
	CHECK_EQ(mappings_of(getpid(), "libdistworker-chip-"), 0);
	CHECK_EQ(mappings_of(getpid(), library), 0);
	rig_destroy(&rig);
}

TEST(a_driver_is_loaded_in_its_chips_process_alone)
{
	loaded_alone(fixture("chip_calc"), "chip_calc.so");
	if (!opencl_missing())
		loaded_alone("opencl", "libOpenCL.so");
}

/* ---------------------------------------------------------------- vector add */

static void add_in(enum dw_mode mode)
{
	struct rig rig;
	struct call calls[3];

	rig_create(&rig, mode, DW_RESTART_NEVER, one_sim, 1);
	dw_callable add = sim_image(&rig, "vector_add"), who = sim_image(&rig, "who");

	REQUIRE(rig_init(&rig) == 0);
	calls[0] = add_call(&rig, add, 0);
	calls[1] = add_call(&rig, add, 1);
	calls[1].options.config.block_dim = 3;
	calls[2] = out_call(&rig, who, 2);
	calls[2].options.config.block_dim = 3;
	CHECK_EQ(run_calls(&rig, calls, 3), 0);
	CHECK_EQ(wrong(&rig, 0, 2), 0);
	for (int block = 0; block < 3; block++)
		CHECK_EQ(((uint32_t *)(rig.c + 2 * COUNT))[block], 3);
	rig_destroy(&rig);
}

TEST(sim_adds_vectors_with_one_block_and_with_three)
{
	add_in(DW_PROCESS);
}

TEST(sim_adds_vectors_in_threads)
{
	add_in(DW_THREAD);
}

/* A chain through one tensor over asynchronous chips: staging early must not break the order. */
static void chain_in(enum dw_mode mode, const char *options)
{
	struct dw_chip_options chips[2] = {
		{ .driver = "sim", .options = options },
		{ .driver = "sim", .device = 1, .options = options },
	};
	struct call calls[40];
	struct rig rig;
	uint64_t *x, wanted = 1;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 2);
	dw_callable triple = sim_image(&rig, "triple_add");

	REQUIRE(rig_init(&rig) == 0);
	x = (uint64_t *)rig.c;
	*x = 1;
	for (unsigned i = 0; i < 40; i++) {
		calls[i] = (struct call){ .callable = triple,
					  .options = DW_OPTIONS(dw_submit_options) };
		call_tensor(&calls[i], x, DW_UINT64, 1, DW_INOUT);
		calls[i].scalar[0] = i;
		calls[i].scalars = 1;
		wanted = wanted * 3 + i;
	}
	CHECK_EQ(run_calls(&rig, calls, 40), 0);
	CHECK(*x == wanted);
	rig_destroy(&rig);
}

TEST(chain_over_two_chips_is_ordered)
{
	chain_in(DW_PROCESS, NULL);
	chain_in(DW_THREAD, NULL);
}

TEST(chain_over_two_asynchronous_chips_is_ordered)
{
	chain_in(DW_PROCESS, "async=1,depth=4");
	chain_in(DW_THREAD, "async=1,depth=4");
}

/* ---------------------------------------------------------------- which chip */

TEST_IN_BOTH_MODES(several_chips_share_what_may_go_anywhere)
{
	struct dw_chip_options chips[3];
	struct call calls[30];
	struct rig rig;
	unsigned busy = 0, done = 0;

	for (uint32_t i = 0; i < 3; i++)
		chips[i] = (struct dw_chip_options){ .driver = "sim",
						     .device = i,
						     .options = "delay_us=2000" };
	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 3);
	dw_callable add = sim_image(&rig, "vector_add");

	REQUIRE(rig_init(&rig) == 0);
	for (unsigned i = 0; i < 30; i++)
		calls[i] = add_call(&rig, add, i);
	CHECK_EQ(run_calls(&rig, calls, 30), 0);
	CHECK_EQ(wrong(&rig, 0, 30), 0);
	for (int i = 0; i < 3; i++) {
		char path[32];

		snprintf(path, sizeof(path), "node0/chip%d", i);
		busy += chip_stats(&rig, path).tasks_done > 0;
		done += (unsigned)chip_stats(&rig, path).tasks_done;
	}
	CHECK_EQ(busy, 3);
	CHECK_EQ(done, 30);
	rig_destroy(&rig);
}

static void by_id_in(enum dw_mode mode)
{
	struct dw_chip_options chips[3];
	struct call calls[12];
	struct rig rig;
	uint32_t ids[3];

	for (uint32_t i = 0; i < 3; i++)
		chips[i] = (struct dw_chip_options){ .driver = "sim", .device = 10 + i };
	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 3);
	dw_callable add = sim_image(&rig, "vector_add");

	for (uint32_t i = 0; i < 3; i++)
		CHECK_EQ(dw_worker_chip_id(rig.node, i, &ids[i]), 0);
	CHECK_EQ(dw_worker_chip_id(rig.node, 3, &ids[0]), -ERANGE);
	REQUIRE(rig_init(&rig) == 0);
	/* 1, 0, 2, 2 of every four. */
	for (unsigned i = 0; i < 12; i++) {
		static const int which[4] = { 1, 0, 2, 2 };

		calls[i] = add_call(&rig, add, i);
		calls[i].options.place = DW_PLACE(ids[which[i % 4]]);
	}
	CHECK_EQ(run_calls(&rig, calls, 12), 0);
	CHECK_EQ(wrong(&rig, 0, 12), 0);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").tasks_done, 3);
	CHECK_EQ(chip_stats(&rig, "node0/chip1").tasks_done, 3);
	CHECK_EQ(chip_stats(&rig, "node0/chip2").tasks_done, 6);
	calls[0].options.place = DW_PLACE(3);
	CHECK_EQ(run_calls(&rig, calls, 1), -EINVAL);
	check_text("options.place is DW_PLACE(3); there is DW_PLACE(0) … DW_PLACE(2), or 0: any");
	rig_destroy(&rig);
}

TEST(chips_are_chosen_by_id)
{
	by_id_in(DW_PROCESS);
	by_id_in(DW_THREAD);
}

/* Two drivers in one node: each image goes to its own. */
static void two_drivers(enum dw_mode mode, const char *driver, const char *image, const char *entry)
{
	struct dw_chip_options chips[3] = { { .driver = "sim" },
					    { .driver = driver },
					    { .driver = "sim", .device = 1 } };
	struct call calls[24];
	struct rig rig;
	uint32_t id;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 3);
	dw_callable sim = sim_image(&rig, "vector_add");
	dw_callable other = image_of(&rig, driver, NULL, image, entry, signature_add, 3);

	REQUIRE(rig_init(&rig) == 0);
	for (unsigned i = 0; i < 24; i++)
		calls[i] = add_call(&rig, i % 2 ? other : sim, i);
	CHECK_EQ(dw_worker_chip_id(rig.node, 1, &id), 0);
	calls[1].options.place = DW_PLACE(id);
	if (!CHECK_EQ(run_calls(&rig, calls, 24), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(wrong(&rig, 0, 24), 0);
	CHECK_EQ(chip_stats(&rig, "node0/chip1").tasks_done, 12);
	/* Nothing was queued: the image is for the other driver. */
	calls[0].options.place = DW_PLACE(id);
	CHECK_EQ(run_calls(&rig, calls, 1), -EINVAL);
	check_text("node0/chip1 and cannot run \"sim:vector_add\"");
	rig_destroy(&rig);
}

TEST(sim_and_the_example_driver_in_one_node)
{
	two_drivers(DW_PROCESS, fixture("chip_calc"), "0 1 +", "sum");
	two_drivers(DW_THREAD, fixture("chip_calc"), "0 1 +", "sum");
}

TEST(sim_and_a_driver_in_cxx_in_one_node)
{
	if (access(fixture("chip_cxx"), F_OK))
		SKIP("no C++ compiler made the fixtures");
	two_drivers(DW_PROCESS, fixture("chip_cxx"), "a text", "sum");
	two_drivers(DW_THREAD, fixture("chip_cxx"), "a text", "sum");
}

TEST(sim_and_opencl_in_one_node)
{
	if (opencl_missing())
		SKIP(opencl_missing());
	two_drivers(DW_PROCESS, "opencl", opencl_add, "vector_add");
}

/* -------------------------------------------------------------------- images */

static void images_in(enum dw_mode mode)
{
	static const int32_t in_out[] = { DW_DIR_IN, DW_DIR_OUT },
			     out_in[] = { DW_DIR_OUT, DW_DIR_IN };
	struct dw_chip_options chips[2] = { { .driver = "sim" }, { .driver = "sim", .device = 1 } };
	dw_callable early, add, same, other, found, copy, swapped;
	struct call calls[6];
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 2);
	early = sim_image(&rig, "who");
	REQUIRE(rig_init(&rig) == 0);
	add = sim_image(&rig, "vector_add");
	same = sim_image(&rig, "vector_add");
	other = image_of(&rig, "sim", fixture("chip_kernels_other"), NULL, "vector_add", NULL, 0);
	CHECK(add == same && add != other && other != early);
	CHECK_EQ(dw_callable_find(rig.node, "sim:vector_add", &found), 0);
	CHECK(found == add);
	CHECK_EQ(dw_callable_find(rig.node, "sim:vector_add#2", &found), 0);
	CHECK(found == other);
	/* The same bytes with other directions make a different callable. */
	copy = image_of(&rig, "sim", fixture("chip_kernels"), NULL, "copy_bytes", in_out, 2);
	swapped = image_of(&rig, "sim", fixture("chip_kernels"), NULL, "copy_bytes", out_in, 2);
	CHECK(copy != swapped);

	for (unsigned i = 0; i < 4; i++) {
		calls[i] = add_call(&rig, i < 2 ? add : other, i);
		calls[i].options.place = DW_PLACE(i % 2);
	}
	CHECK_EQ(run_calls(&rig, calls, 4), 0);
	CHECK_EQ(wrong(&rig, 0, 2), 0);
	for (int i = 0; i < COUNT; i++)
		REQUIRE(rig.c[2 * COUNT + i] == rig.a[i] - rig.b[i] &&
			rig.c[3 * COUNT + i] == rig.a[i] - rig.b[i]);

	CHECK_EQ(dw_callable_unregister(rig.node, add), 0);
	CHECK_EQ(run_calls(&rig, calls, 1), -ESTALE);
	check_text("sim:vector_add");
	CHECK_EQ(dw_callable_unregister(rig.node, add), -ESTALE);
	memset(rig.c, 0, sizeof(float) * COUNT * 2);
	add = sim_image(&rig, "vector_add");
	CHECK(add != same);
	for (unsigned i = 0; i < 2; i++)
		calls[i].callable = add;
	CHECK_EQ(run_calls(&rig, calls, 2), 0);
	CHECK_EQ(wrong(&rig, 0, 2), 0);
	/* An image from before init goes too, and the chips go on. */
	CHECK_EQ(dw_callable_unregister(rig.node, early), 0);
	CHECK_EQ(run_calls(&rig, calls, 2), 0);
	rig_destroy(&rig);
}

TEST_IN_BOTH_MODES(images_come_and_go_after_init)
{
	images_in(mode);
	images_in(DW_THREAD);
}

TEST(an_image_that_went_leaves_nothing_in_the_chips_process)
{
	unsigned before = 0;
	struct call call;
	struct rig rig;

	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, one_sim, 1);
	REQUIRE(rig_init(&rig) == 0);
	for (int round = 0; round < 30; round++) {
		call = add_call(&rig, sim_image(&rig, "vector_add"), 0);
		CHECK_EQ(run_calls(&rig, &call, 1), 0);
		CHECK_EQ(dw_callable_unregister(rig.node, call.callable), 0);
		if (round == 4)
			before = mappings_of(chip_stats(&rig, "node0/chip0").pid,
					     "distworker-sim-image");
	}
	/* Counts only mappings of images: those of the heap come and go. */
	CHECK_EQ(mappings_of(chip_stats(&rig, "node0/chip0").pid, "distworker-sim-image"), before);
	rig_destroy(&rig);
}

TEST_IN_BOTH_MODES(image_that_a_chip_refuses_is_registered_nowhere)
{
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	dw_callable callable = 77;
	struct call call;
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, one_sim, 1);
	REQUIRE(rig_init(&rig) == 0);
	options.driver = "sim";
	options.entry = "no_such_kernel";
	options.path = fixture("chip_kernels");
	CHECK_EQ(dw_callable_register_image(rig.node, &options, &callable), -ESRCH);
	check_text("no_such_kernel");
	check_text("vector_add");
	CHECK_EQ(dw_callable_find(rig.node, "sim:no_such_kernel", &callable), -ENOENT);
	options.entry = "vector_add";
	options.path = NULL;
	options.data = "no ELF object at all";
	options.bytes = 20;
	CHECK_EQ(dw_callable_register_image(rig.node, &options, &callable), -ELIBBAD);
	options.data = NULL;
	options.path = "/nowhere/image.so";
	CHECK_EQ(dw_callable_register_image(rig.node, &options, &callable), -ENOENT);
	check_text("/nowhere/image.so");
	CHECK_EQ(callable, 77);
	/* The chip is none the worse for it. */
	call = add_call(&rig, sim_image(&rig, "vector_add"), 0);
	CHECK_EQ(run_calls(&rig, &call, 1), 0);
	CHECK_EQ(wrong(&rig, 0, 1), 0);
	rig_destroy(&rig);
}

TEST_IN_BOTH_MODES(image_that_a_chip_refuses_before_init_fails_init_with_the_chips_path)
{
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, one_sim, 1);
	sim_image(&rig, "no_such_kernel");
	CHECK_EQ(dw_worker_init(rig.node), -ESRCH);
	check_text("node0/chip0");
	check_text("no_such_kernel");
	rig_destroy(&rig);
}

/* -------------------------------------------------------------- refused calls */

static int sub_nothing_here(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return 0;
}

TEST_IN_BOTH_MODES(wrong_kind_and_wrong_driver_are_refused_at_submit_by_name)
{
	dw_callable sub, foreign, gone;
	struct call call;
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, one_sim, 1);
	CHECK_EQ(dw_callable_register_sub(rig.node, "host_work", sub_nothing_here, NULL, &sub), 0);
	foreign = image_of(&rig, "opencl", NULL, opencl_add, "vector_add", signature_add, 3);
	gone = sim_image(&rig, "who");
	REQUIRE(rig_init(&rig) == 0);
	call = add_call(&rig, foreign, 0);
	CHECK_EQ(run_calls(&rig, &call, 1), -ENODEV);
	check_text("node0 has no chip of driver \"opencl\", which \"opencl:vector_add\" needs");
	/* A sub function does not go to a chip. */
	call = add_call(&rig, sub, 0);
	call.options.place = DW_PLACE(0);
	CHECK_EQ(run_calls(&rig, &call, 1), -EINVAL);
	check_text("\"host_work\" goes to any sub worker");
	call = add_call(&rig, gone + 1000, 0);
	CHECK_EQ(run_calls(&rig, &call, 1), -ENOENT);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").tasks_done, 0);
	rig_destroy(&rig);
}

static void refused(struct rig *rig, struct call *call, int error, const char *text)
{
	CHECK_EQ(run_calls(rig, call, 1), error);
	check_text("node0/chip");
	check_text(": task 1");
	check_text(text);
}

TEST_IN_BOTH_MODES(arguments_that_a_chip_cannot_take_are_refused_by_name)
{
	const char *calc = fixture("chip_calc");
	struct dw_chip_options chips[2] = { { .driver = "sim", .options = "cores=4" },
					    { .driver = calc } };
	dw_callable add, sum, scale;
	struct call call;
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 2);
	add = sim_image(&rig, "vector_add");
	scale = sim_image(&rig, "scale");
	sum = image_of(&rig, calc, NULL, "0 1 +", "sum", signature_add, 3);
	REQUIRE(rig_init(&rig) == 0);

	/* float64: calc does not have it, sim does. */
	call = add_call(&rig, sum, 0);
	call.tensor[1].dtype = DW_FLOAT64;
	call.tensor[1].shape[0] = COUNT / 2;
	refused(&rig, &call, -ENOTSUP, "tensor 1 is float64, which chip calc:0 cannot take");
	call.tensor[1].dtype = DW_INT32;
	call.tensor[1].shape[0] = COUNT;
	refused(&rig, &call, -ENOTSUP, "tensor 1 has element type 2: calc takes float32");
	((double *)rig.c)[0] = 1.5;
	call = (struct call){ .callable = scale,
			      .options = DW_OPTIONS(dw_submit_options),
			      .scalars = 1 };
	call_tensor(&call, rig.c, DW_FLOAT64, 1, DW_INOUT);
	call.scalar[0] = 0x4004000000000000;	/* 2.5 */
	CHECK_EQ(run_calls(&rig, &call, 1), 0);
	CHECK(((double *)rig.c)[0] == 3.75);

	/* Too many. */
	call = add_call(&rig, sum, 0);
	while (call.tensors < 10)
		call_tensor(&call, rig.a, DW_FLOAT32, COUNT, DW_INPUT);
	refused(&rig, &call, -E2BIG,
		"10 tensors are more than the 9 that chip calc:0 takes per call");

	/* The numbers from the image's signature; the number of cores. */
	call = add_call(&rig, add, 0);
	call.tensors = 2;
	refused(&rig, &call, -EINVAL,
		"\"vector_add\" takes 3 tensors and 0 scalars, the call has 2 and 0");
	call = add_call(&rig, add, 0);
	call.options.config.block_dim = 5;
	refused(&rig, &call, -EINVAL, "config.block_dim is 5: sim device 0 has 4 cores");
	call = add_call(&rig, add, 0);
	CHECK_EQ(run_calls(&rig, &call, 1), 0);
	CHECK_EQ(wrong(&rig, 0, 1), 0);
	rig_destroy(&rig);
}

/* Arguments that do not fit into a frame go through the arena, to a chip too. */
TEST_IN_BOTH_MODES(large_arguments_reach_a_chip)
{
	struct dw_chip_options chips[1] = { { .driver = "sim" } };
	static const int32_t signature[20] = {
		DW_DIR_IN, DW_DIR_OUT, DW_DIR_IN, DW_DIR_IN, DW_DIR_IN, DW_DIR_IN, DW_DIR_IN,
		DW_DIR_IN, DW_DIR_IN,  DW_DIR_IN, DW_DIR_IN, DW_DIR_IN, DW_DIR_IN, DW_DIR_IN,
		DW_DIR_IN, DW_DIR_IN,  DW_DIR_IN, DW_DIR_IN, DW_DIR_IN, DW_DIR_IN,
	};
	struct call call = { .options = DW_OPTIONS(dw_submit_options) };
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 1);
	call.callable =
		image_of(&rig, "sim", fixture("chip_kernels"), NULL, "copy_bytes", signature, 20);
	REQUIRE(rig_init(&rig) == 0);
	call_tensor(&call, rig.a, DW_UINT8, COUNT, DW_INPUT);
	call_tensor(&call, rig.c, DW_UINT8, COUNT, DW_OUTPUT);
	while (call.tensors < 20)
		call_tensor(&call, rig.b, DW_UINT8, COUNT, DW_INPUT);
	CHECK_EQ(run_calls(&rig, &call, 1), 0);
	CHECK(memcmp(rig.a, rig.c, COUNT) == 0);
	rig_destroy(&rig);
}

/* ------------------------------------------------------------- device memory */

struct resident {
	struct rig *rig;
	dw_callable add, copy;
	bool give_back;
	int elsewhere;			/* the result of a submission to the other chip */
	char text[256];
	struct dw_tensor kept;
};

/* c[0] = (a + b) + b, with the sum on the device between the two. */
static int orch_resident(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	struct resident *work = context;
	struct call first = add_call(work->rig, work->add, 0), second = first;
	uint32_t count = COUNT;
	struct dw_tensor tensor;
	int result;

	(void)args;
	(void)config;
	result = dw_chip_alloc(orch, 1, DW_FLOAT32, &count, 1, &tensor);
	if (result < 0)
		return result;
	work->kept = tensor;
	first.tensor[2] = tensor;
	second.tensor[0] = tensor;
	first.options.place = second.options.place = DW_PLACE(1);
	result = submit_call(orch, &first, NULL);
	if (!result)
		result = submit_call(orch, &second, NULL);
	second.options.place = DW_PLACE(0);
	work->elsewhere = submit_call(orch, &second, NULL);
	snprintf(work->text, sizeof(work->text), "%.255s", dw_strerror_last());
	return result || !work->give_back ? result : dw_chip_free(orch, &tensor);
}

struct floats {
	struct rig *rig;
	dw_callable add;
	uint32_t count;
};

/* c[0] = a + b through a tensor of `count` elements on chip 0, which is large enough for it. */
static int orch_alloc_floats(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	struct floats *floats = context;
	struct call first = add_call(floats->rig, floats->add, 1), second;
	struct dw_tensor tensor;
	int result;

	(void)args;
	(void)config;
	result = dw_chip_alloc(orch, 0, DW_FLOAT32, &floats->count, 1, &tensor);
	if (result < 0)
		return result;
	/* New memory is zero: a + 0 goes into it, and that plus b comes out. */
	tensor.shape[0] = COUNT;
	first.tensor[1] = tensor;
	first.tensor[2] = tensor;
	first.tag[2] = DW_INOUT;
	second = add_call(floats->rig, floats->add, 0);
	second.tensor[0] = tensor;
	first.options.place = second.options.place = DW_PLACE(0);
	result = submit_call(orch, &first, NULL);
	return result ? result : submit_call(orch, &second, NULL);
}

static void resident_in(enum dw_mode mode)
{
	struct dw_chip_options chips[2] = {
		{ .driver = "sim", .options = "memory=64K" },
		{ .driver = "sim", .options = "memory=64K" },
	};
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 2);
	struct resident work = { .rig = &rig, .add = sim_image(&rig, "vector_add") };

	REQUIRE(rig_init(&rig) == 0);
	/*
	 * The device has room for 4 such blocks beside the arguments: each run's has to go with it.
	 */
	for (int round = 0; round < 40; round++) {
		work.give_back = round & 1;
		if (!CHECK_EQ(dw_worker_run(rig.node, orch_resident, NULL, NULL, &work), 0)) {
			printf("# round %d: %s\n", round, dw_strerror_last());
			break;
		}
	}
	for (int i = 0; i < COUNT; i++)
		REQUIRE(rig.c[i] == rig.a[i] + rig.b[i] + rig.b[i]);
	CHECK_EQ(work.elsewhere, -EINVAL);
	CHECK_STR(work.text, "node0/chip1: direct the task there (options.place = DW_PLACE(1))");
	rig_destroy(&rig);
}

TEST(tensors_stay_on_a_chip_until_the_run_ends)
{
	resident_in(DW_PROCESS);
	resident_in(DW_THREAD);
}

/*
 * Sets the soft limit of this process's address space to its use plus `more`; returns the old one.
 */
static rlim_t address_space(rlim_t more)
{
	struct rlimit limit;
	unsigned long pages = 0;
	rlim_t before;
	FILE *file = fopen("/proc/self/statm", "re");

	CHECK(file && fscanf(file, "%lu", &pages) == 1);
	if (file)
		fclose(file);
	CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + more;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	return before;
}

static void address_space_again(rlim_t before)
{
	struct rlimit limit;

	CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = before;
	CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

/*
 * Allocates in a run of a new node, with `more` bytes of addresses left: the result, and its text.
 */
static int alloc_within(rlim_t more, uint32_t count)
{
	struct dw_chip_options chips[1] = { { .driver = "sim", .options = "memory=128M" } };
	struct rig rig;
	rlim_t before;
	int result;

	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, chips, 1);
	struct floats floats = { .rig = &rig,
				 .add = sim_image(&rig, "vector_add"),
				 .count = count };

	if (rig_init(&rig) < 0)
		return 1;
	before = address_space(more);
	result = dw_worker_run(rig.node, orch_alloc_floats, NULL, NULL, &floats);
	address_space_again(before);
	if (result == 0)
		CHECK_EQ(wrong(&rig, 0, 1), 0);
	else
		printf("# %s\n", dw_strerror_last());
	rig_destroy(&rig);
	return result;
}

/*
 * Before, a terabyte of addresses was reserved, and less could have been where the chip's process
 * has something else: the kernels then read that.
 */
TEST(device_memory_needs_no_addresses_of_the_process)
{
	CHECK_EQ(alloc_within((rlim_t)12 << 20, COUNT), 0);
	CHECK_EQ(alloc_within((rlim_t)12 << 20, 20 << 20), 0);
	/* The memory of the device is the limit. */
	CHECK_EQ(alloc_within((rlim_t)12 << 20, 40 << 20), -ENOMEM);
	check_text("sim device 0");
	check_text("167772160 bytes");
}

static int orch_alloc_too_much(struct dw_orch *orch, const struct dw_args *args,
			       const struct dw_config *config, void *context)
{
	struct dw_tensor tensor;
	uint32_t count = 1 << 20;

	(void)args;
	(void)config;
	return dw_chip_alloc(orch, *(uint32_t *)context, DW_FLOAT32, &count, 1, &tensor);
}

TEST_IN_BOTH_MODES(device_memory_that_there_is_not_is_an_error_by_name)
{
	struct dw_chip_options chips[2] = {
		{ .driver = "sim", .options = "memory=64K" }, { .driver = fixture("chip_calc") },
	};
	struct rig rig;
	uint32_t id = 0;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 2);
	REQUIRE(rig_init(&rig) == 0);
	CHECK_EQ(dw_worker_run(rig.node, orch_alloc_too_much, NULL, NULL, &id), -ENOMEM);
	check_text("sim device 0");
	id = 1;
	CHECK_EQ(dw_worker_run(rig.node, orch_alloc_too_much, NULL, NULL, &id), -EOPNOTSUPP);
	check_text("chip calc:0 has no device-resident memory");
	id = 2;
	CHECK_EQ(dw_worker_run(rig.node, orch_alloc_too_much, NULL, NULL, &id), -EINVAL);
	check_text("worker 2 is no chip of node0");
	rig_destroy(&rig);
}

static int orch_opencl_resident(struct dw_orch *orch, const struct dw_args *args,
				const struct dw_config *config, void *context)
{
	struct resident *work = context;
	struct call first = add_call(work->rig, work->add, 0), second = first;
	uint32_t count = COUNT;
	struct dw_tensor tensor;
	int result;

	(void)args;
	(void)config;
	result = dw_chip_alloc(orch, 0, DW_FLOAT32, &count, 1, &tensor);
	if (result < 0)
		return result;
	first.tensor[2] = tensor;
	second.tensor[0] = tensor;
	first.options.place = second.options.place = DW_PLACE(0);
	result = submit_call(orch, &first, NULL);
	return result ? result : submit_call(orch, &second, NULL);
}

TEST(tensors_stay_on_an_opencl_device)
{
	struct dw_chip_options chips[1] = { { .driver = "opencl" } };
	struct rig rig;

	if (opencl_missing())
		SKIP(opencl_missing());
	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, chips, 1);
	struct resident work = {
		.rig = &rig,
		.add = image_of(&rig, "opencl", NULL, opencl_add, "vector_add", signature_add, 3),
	};

	REQUIRE(rig_init(&rig) == 0);
	if (!CHECK_EQ(dw_worker_run(rig.node, orch_opencl_resident, NULL, NULL, &work), 0))
		printf("# %s\n", dw_strerror_last());
	for (int i = 0; i < COUNT; i++)
		REQUIRE(rig.c[i] == rig.a[i] + rig.b[i] + rig.b[i]);
	rig_destroy(&rig);
}
