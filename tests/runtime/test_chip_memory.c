/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Memory of chips that outlives runs, and copies as tasks: what is copied once stays, copies are
 * ordered as other tasks are, and mistakes are named. Memory that is lost: test_chip_memory_lost.c.
 */
#include "chip_memory.h"

#define MIB (1u << 20)

/* --------------------------------------------------------- what is copied once stays */

#define WEIGHT_BYTES (64u * MIB)
#define WEIGHT_RUNS 1000

static void weight_in(enum dw_mode mode, const char *driver, const char *options)
{
	struct dw_chip_options chips[1] = { { .driver = driver, .options = options } };
	static const int32_t signature[] = { DW_DIR_IN, DW_DIR_OUT, DW_DIR_SCALAR };
	static const char source[] =
		"kernel void pick(global const uint *in, global uint *out, ulong s)\n"
		"{ if (get_global_id(0) == 0) out[0] = in[s]; }\n";
	bool sim = strcmp(driver, "sim") == 0;
	struct dw_child_stats before, stats;
	struct dw_tensor weight, on_chip;
	struct call pick = { .options = DW_OPTIONS(dw_submit_options), .scalars = 1 };
	uint32_t *data, *cell, wrong = 0;
	struct rig rig;
	void *memory;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 1);
	CHECK_EQ(dw_buffer_create(rig.node, WEIGHT_BYTES + 4096, &memory), 0);
	data = memory;
	cell = data + WEIGHT_BYTES / 4;
	for (uint32_t i = 0; i < WEIGHT_BYTES / 4; i++)
		data[i] = i * 2654435761u;
	pick.callable = image_of(&rig, driver, sim ? fixture("chip_kernels") : NULL,
				 sim ? NULL : source, "pick", signature, 3);
	REQUIRE(rig_init(&rig) == 0);
	before = chip_stats(&rig, "node0/chip0");
	CHECK(before.memory_bytes >= WEIGHT_BYTES);
	on_chip = memory_on(rig.node, 0, DW_UINT32, WEIGHT_BYTES / 4);
	weight = host_tensor(data, DW_UINT32, WEIGHT_BYTES / 4);
	CHECK_EQ(run_copy(rig.node, &on_chip, &weight), 0);
	stats = chip_stats(&rig, "node0/chip0");
	CHECK_EQ(stats.memory_used - before.memory_used, WEIGHT_BYTES);
	CHECK_EQ(stats.copied_in, WEIGHT_BYTES);
	CHECK_EQ(stats.copied_out, 0);
	pick.tensors = 1;
	pick.tensor[0] = on_chip;
	pick.tag[0] = DW_INPUT;
	call_tensor(&pick, cell, DW_UINT32, 1, DW_OUTPUT);
	pick.options.place = DW_PLACE(0);
	for (uint32_t run = 0; run < WEIGHT_RUNS; run++) {
		pick.scalar[0] = (run * 16769u) % (WEIGHT_BYTES / 4);
		REQUIRE(RUN(rig.node, { .call = &pick }) == 0);
		wrong += *cell != data[pick.scalar[0]];
	}
	CHECK_EQ(wrong, 0);
	stats = chip_stats(&rig, "node0/chip0");
	CHECK_EQ(stats.copied_in, WEIGHT_BYTES);
	CHECK_EQ(stats.copied_out, WEIGHT_RUNS * 4);
	/* The same with copies: shows what the 1,000 runs have saved. */
	pick.tensor[0] = weight;
	CHECK_EQ(RUN(rig.node, { .call = &pick }), 0);
	stats = chip_stats(&rig, "node0/chip0");
	CHECK_EQ(stats.copied_in, 2 * WEIGHT_BYTES);
	/* A cache may hold the rest. */
	give_back(rig.node, &on_chip);
	CHECK_EQ(stats.memory_used - chip_stats(&rig, "node0/chip0").memory_used, WEIGHT_BYTES);
	rig_destroy(&rig);
}

TEST_IN_BOTH_MODES(weight_of_64_mib_is_copied_once_for_1000_runs)
{
	weight_in(mode, "sim", "memory=160M");
}

TEST(weight_of_64_mib_is_copied_once_to_an_opencl_device)
{
	if (opencl_missing())
		SKIP(opencl_missing());
	weight_in(DW_PROCESS, "opencl", NULL);
	weight_in(DW_PROCESS, "opencl", "svm=0");
}

/* ---------------------------------------------------------------- copies are tasks */

static void copies_in(enum dw_mode mode, const char *options)
{
	struct dw_chip_options chips[2] = {
		{ .driver = "sim", .device = 0, .options = options },
		{ .driver = "sim", .device = 1, .options = options },
	};
	struct dw_tensor host, first, second, other, taken = { 0 };
	struct dw_child_stats stats;
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 2);
	dw_callable triple = sim_image(&rig, "triple_add");
	struct call on_first = { .callable = triple, .options = DW_OPTIONS(dw_submit_options) };
	struct call on_second, on_other, on_host;
	uint64_t *value;
	void *memory;

	CHECK_EQ(dw_buffer_create(rig.node, 4096, &memory), 0);
	value = memory;
	REQUIRE(rig_init(&rig) == 0);
	host = host_tensor(value, DW_UINT64, 2);
	first = memory_on(rig.node, 0, DW_UINT64, 2);
	second = memory_on(rig.node, 0, DW_UINT64, 2);
	other = memory_on(rig.node, 1, DW_UINT64, 2);
	on_first.tensors = 1;
	on_first.tensor[0] = first;
	on_first.tag[0] = DW_INOUT;
	on_first.scalars = 1;
	on_first.scalar[0] = 1;
	on_first.options.place = DW_PLACE(0);
	on_second = on_first;
	on_second.tensor[0] = second;
	on_second.scalar[0] = 2;
	on_other = on_first;
	on_other.tensor[0] = other;
	on_other.scalar[0] = 3;
	on_other.options.place = DW_PLACE(1);
	on_host = on_first;
	on_host.tensor[0] = host;
	on_host.scalar[0] = 4;
	on_host.options.place = 0;
	for (uint64_t round = 0; round < 50; round++) {
		value[0] = round;
		value[1] = 77 + round;
		/* x → 3x + 1 → 3(…) + 2 → 3(…) + 3 → 3(…) + 4, by way of each kind of copy */
		CHECK_EQ(RUN(rig.node, { .to = &first, .from = &host }, { .call = &on_first },
			     { .to = &second, .from = &first }, { .call = &on_second },
			     { .to = &other, .from = &second }, { .call = &on_other },
			     { .to = &host, .from = &other }, { .call = &on_host }), 0);
		CHECK_EQ(value[0], (((round * 3 + 1) * 3 + 2) * 3 + 3) * 3 + 4);
		CHECK_EQ(value[1], 77 + round);
	}
	/* Copied to the device by way of the heap, and back: 16 bytes each time. */
	stats = chip_stats(&rig, "node0/chip1");
	CHECK(stats.copied_in >= 50 * 16 && stats.copied_out >= 50 * 16);
	/* A tensor without an address is allocated, as an OUTPUT is. */
	taken = host_tensor(NULL, DW_UINT64, 2);
	CHECK_EQ(run_copy(rig.node, &taken, &first), 0);
	CHECK(taken.data != 0);
	give_back(rig.node, &first);
	give_back(rig.node, &second);
	give_back(rig.node, &other);
	rig_destroy(&rig);
}

TEST_IN_BOTH_MODES(copies_are_ordered_with_other_tasks)
{
	copies_in(mode, NULL);
	copies_in(mode, "async=1");
}

TEST(copies_of_an_opencl_device_are_ordered_with_other_tasks)
{
	static const char *const options[] = { "svm=1", "svm=0" };
	struct dw_chip_options chips[2] = { { .driver = "opencl" }, { .driver = "sim" } };
	struct dw_tensor host, first, part, other;
	struct rig rig;

	if (opencl_missing())
		SKIP(opencl_missing());
	for (unsigned i = 0; i < 2; i++) {
		chips[0].options = options[i];
		rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, chips, 2);
		struct call add = add_call(&rig, image_of(&rig, "opencl", NULL, opencl_add,
							  "vector_add", signature_add, 3), 0);

		REQUIRE(rig_init(&rig) == 0);
		host = host_tensor(rig.a, DW_FLOAT32, COUNT);
		first = memory_on(rig.node, 0, DW_FLOAT32, 2 * 1024);
		other = memory_on(rig.node, 1, DW_FLOAT32, COUNT);
		/* A part at an offset that the device can address, in both kinds of memory. */
		CHECK_EQ(dw_tensor_slice(&first, 1024, COUNT, &part), 0);
		add.tensor[0] = part;
		add.tensor[1] = part;
		add.options.place = DW_PLACE(0);
		CHECK_EQ(RUN(rig.node, { .to = &part, .from = &host }, { .call = &add }), 0);
		for (int k = 0; k < COUNT; k++)
			REQUIRE(rig.c[k] == rig.a[k] + rig.a[k]);
		/* Device to device, of two drivers, and within one. */
		host = host_tensor(rig.c, DW_FLOAT32, COUNT);
		memset(rig.c, 0, COUNT * sizeof(float));
		CHECK_EQ(dw_tensor_slice(&first, 0, COUNT, &add.tensor[0]), 0);
		CHECK_EQ(RUN(rig.node, { .to = &other, .from = &part },
			     { .to = &add.tensor[0], .from = &other },
			     { .to = &part, .from = &add.tensor[0] },
			     { .to = &host, .from = &part }), 0);
		CHECK_EQ(memcmp(rig.c, rig.a, COUNT * sizeof(float)), 0);
		give_back(rig.node, &first);
		give_back(rig.node, &other);
		rig_destroy(&rig);
	}
}

/* A failing copy is an error with its name, and tasks that read its bytes are skipped. */
TEST_IN_BOTH_MODES(copy_that_fails_is_an_error_of_its_own)
{
	struct dw_chip_options chips[1] = { { .driver = "sim", .options = "copy_fail=2" } };
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	struct dw_tensor host, back, memory;
	struct step steps[2];
	struct steps both = { .all = steps, .count = 2 };
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 1);
	REQUIRE(rig_init(&rig) == 0);
	memory = memory_on(rig.node, 0, DW_FLOAT32, COUNT);
	host = host_tensor(rig.a, DW_FLOAT32, COUNT);
	back = host_tensor(rig.c, DW_FLOAT32, COUNT);
	CHECK_EQ(run_copy(rig.node, &memory, &host), 0);
	steps[0] = (struct step){ .to = &memory, .from = &host, .name = "weights" };
	steps[1] = (struct step){ .to = &back, .from = &memory };
	CHECK_EQ(run_steps(rig.node, &both), -EIO);
	CHECK_STR(both.text, "node0/chip0: task 1 \"weights\" (copy): EIO: copy 2 of sim device 0");
	CHECK_EQ(dw_worker_engine_stats(rig.node, &engine), 0);
	CHECK_EQ(engine.failed, 1);
	CHECK_EQ(engine.skipped, 1);
	/* The next run knows nothing of that. */
	CHECK_EQ(run_steps(rig.node, &both), 0);
	CHECK_EQ(memcmp(rig.a, rig.c, COUNT * sizeof(float)), 0);
	give_back(rig.node, &memory);
	rig_destroy(&rig);
}

/* ------------------------------------------------------------- mistakes by name */

static void bad_create(struct dw_worker *node, uint32_t id, uint32_t count, int error,
		       const char *part)
{
	struct dw_tensor tensor = { .data = 5 };

	CHECK_EQ(dw_chip_memory_create(node, id, DW_FLOAT32, &count, 1, &tensor), error);
	CHECK_STR(dw_strerror_last(), part);
	CHECK_EQ(tensor.data, 5);
}

static void bad_copy(struct dw_worker *node, struct dw_tensor to, struct dw_tensor from, int error,
		     const char *part)
{
	struct step step = { .to = &to, .from = &from };
	struct steps steps = { .all = &step, .count = 1 };

	CHECK_EQ(run_steps(node, &steps), error);
	CHECK_STR(steps.text, part);
}

static int orch_placed(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_tensor *tensors = context;

	(void)args;
	(void)config;
	CHECK_EQ(dw_submit_copy(orch, NULL, &tensors[1], NULL, NULL), -EINVAL);
	CHECK_EQ(dw_submit_copy(orch, &tensors[0], NULL, NULL, NULL), -EINVAL);
	CHECK_EQ(dw_submit_copy(NULL, &tensors[0], &tensors[1], NULL, NULL), -EINVAL);
	options.place = DW_PLACE(0);
	CHECK_EQ(dw_submit_copy(orch, &tensors[0], &tensors[1], &options, NULL), -EINVAL);
	CHECK_STR(dw_strerror_last(), "options.place is DW_PLACE(0)");
	CHECK(dw_orch_worker(orch) != NULL);
	CHECK(dw_orch_worker(NULL) == NULL);
	return 0;
}

TEST_IN_BOTH_MODES(memory_and_copies_that_make_no_sense_are_named)
{
	struct dw_chip_options chips[2] = {
		{ .driver = "sim", .options = "memory=64K" }, { .driver = fixture("chip_calc") },
	};
	struct dw_tensor host, memory, part, gone, pair[2];
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 2);
	bad_create(rig.node, 0, 4, -ENOTCONN, "is not initialised");
	REQUIRE(rig_init(&rig) == 0);
	bad_create(rig.node, 7, 4, -EINVAL, "worker 7 is no chip of node0");
	bad_create(rig.node, 1, 4, -EOPNOTSUPP, "has no device-resident memory");
	bad_create(rig.node, 0, 0, -EINVAL, "0 bytes");
	bad_create(rig.node, 0, 32768, -ENOMEM, "no room for 131072 bytes");
	CHECK_EQ(dw_chip_memory_create(NULL, 0, DW_FLOAT32, NULL, 0, &part), -EINVAL);
	memory = memory_on(rig.node, 0, DW_FLOAT32, COUNT);
	gone = memory_on(rig.node, 0, DW_FLOAT32, COUNT);
	give_back(rig.node, &gone);
	CHECK_EQ(dw_chip_memory_destroy(rig.node, &gone), -ENOENT);
	CHECK_EQ(dw_chip_memory_destroy(rig.node, NULL), -EINVAL);
	host = host_tensor(rig.a, DW_FLOAT32, COUNT);
	bad_copy(rig.node, host, host_tensor(rig.b, DW_FLOAT32, COUNT), -EINVAL,
		 "neither `to`");
	bad_copy(rig.node, memory, host_tensor(rig.b, DW_FLOAT32, 5), -EINVAL,
		 "`to` has 4000 bytes and `from` 20");
	bad_copy(rig.node, gone, host, -EINVAL, "neither `to`");
	CHECK_EQ(dw_tensor_slice(&memory, 1, 3, &part), 0);
	pair[0] = part;
	CHECK_EQ(dw_tensor_slice(&memory, 2, 3, &part), 0);
	bad_copy(rig.node, pair[0], part, -EINVAL, "overlap");
	pair[0] = host_tensor((void *)(uintptr_t)(memory.data + COUNT * 4 - 8), DW_FLOAT32, 4);
	bad_copy(rig.node, pair[0], host_tensor(rig.a, DW_FLOAT32, 4), -EINVAL, "neither `to`");
	bad_copy(rig.node, memory, gone, -EFAULT, "is no device memory that node0 has");
	bad_copy(rig.node, host_tensor(pair, DW_FLOAT32, COUNT), memory, -EFAULT,
		 "lies outside the arena");
	pair[0] = memory;
	pair[1] = host;
	CHECK_EQ(dw_worker_run(rig.node, orch_placed, NULL, NULL, pair), 0);
	/* A task that goes elsewhere. */
	struct call add = add_call(&rig, sim_image(&rig, "vector_add"), 0);

	add.tensor[0] = memory;
	CHECK_EQ(run_calls(&rig, &add, 1), -EINVAL);
	check_text("direct the task there (options.place = DW_PLACE(0))");
	/* What is left ends with the Worker. */
	CHECK_EQ(dw_worker_close(rig.node), 0);
	bad_create(rig.node, 0, 4, -ENOTCONN, "is closed");
	CHECK_EQ(dw_chip_memory_destroy(rig.node, &memory), -ENOTCONN);
	rig_destroy(&rig);
}

/* -------------------------------------------------- chips below nested Workers */

struct nested {
	struct dw_worker *pod, *node;
	dw_callable orch, pick;
	uint32_t *cells;		/* 0: what was picked; 1: results */
	struct dw_tensor *kept;		/* in the arena */
};

static struct nested nested;

/* Argument 0 of the first run is 0: creates the memory; later ones find it where it is. */
static int orch_nested(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	uint32_t count = COUNT;
	struct dw_tensor cell = *dw_args_tensor(args, 0), from = *dw_args_tensor(args, 1);
	struct dw_args *call;
	int result = 0;

	(void)config;
	(void)context;
	if (dw_args_scalar(args, 0) == 0) {
		result = dw_chip_memory_create(dw_orch_worker(orch), 0, DW_UINT32, &count, 1,
					       nested.kept);
		if (result == 0)
			result = dw_submit_copy(orch, nested.kept, &from, NULL, NULL);
	}
	if (result < 0)
		return dw_task_fail(-result, "%s", dw_strerror_last());
	options.place = DW_PLACE(0);
	dw_args_create(&call);
	dw_args_add_tensor(call, nested.kept, DW_INPUT);
	dw_args_add_tensor(call, &cell, DW_OUTPUT);
	dw_args_add_scalar(call, dw_args_scalar(args, 0));
	result = dw_submit(orch, nested.pick, call, &options, NULL);
	dw_args_destroy(call);
	return result;
}

static int orch_pod(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct dw_tensor cell = host_tensor(nested.cells, DW_UINT32, 1),
			 from = host_tensor(nested.cells + COUNT, DW_UINT32, COUNT);
	struct dw_args *call;
	int result;

	(void)args;
	(void)config;
	dw_args_create(&call);
	dw_args_add_tensor(call, &cell, DW_OUTPUT);
	dw_args_add_tensor(call, &from, DW_INPUT);
	dw_args_add_scalar(call, *(uint32_t *)context);
	result = dw_submit(orch, nested.orch, call, NULL, NULL);
	dw_args_destroy(call);
	return result;
}

TEST_IN_BOTH_MODES(memory_of_chips_below_a_nested_worker_stays_too)
{
	struct dw_chip_options chips[1] = { { .driver = "sim" } };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	struct dw_tensor tensor;
	struct dw_child_stats stats[4];
	uint32_t one = 1;
	size_t count = 4;
	void *memory;

	options.mode = mode;
	CHECK_EQ(dw_worker_create(4, &options, &nested.pod), 0);
	options.chips = chips;
	options.chip_count = 1;
	options.chip_size = sizeof(chips[0]);
	CHECK_EQ(dw_worker_create(3, &options, &nested.node), 0);
	CHECK_EQ(dw_worker_add_child(nested.pod, nested.node, NULL), 0);
	CHECK_EQ(dw_buffer_create(nested.pod, 2 * COUNT * 4 + 4096, &memory), 0);
	nested.cells = memory;
	nested.kept = (struct dw_tensor *)(void *)(nested.cells + 2 * COUNT);
	for (uint32_t i = 0; i < COUNT; i++)
		nested.cells[COUNT + i] = 1000000 + i;
	CHECK_EQ(dw_callable_register_orch(nested.pod, "nested", orch_nested, NULL, &nested.orch),
		 0);
	image.driver = "sim";
	image.entry = "pick";
	image.path = fixture("chip_kernels");
	CHECK_EQ(dw_callable_register_image(nested.pod, &image, &nested.pick), 0);
	REQUIRE(dw_worker_init(nested.pod) == 0);
	for (uint32_t i = 0; i < 20; i++) {
		if (!CHECK_EQ(dw_worker_run(nested.pod, orch_pod, NULL, NULL, &i), 0))
			printf("# %s\n", dw_strerror_last());
		CHECK_EQ(nested.cells[0], 1000000 + i);
	}
	CHECK_EQ(dw_worker_stats(nested.pod, stats, sizeof(stats[0]), &count), 0);
	REQUIRE(count == 2);
	CHECK_EQ(stats[1].copied_in, COUNT * 4);
	/* Works from the root's process only if the nested Worker is in it. */
	if (mode == DW_THREAD) {
		tensor = memory_on(nested.node, 0, DW_UINT32, 1);
		give_back(nested.node, &tensor);
	} else {
		CHECK_EQ(dw_chip_memory_create(nested.node, 0, DW_UINT32, &one, 1, &tensor),
			 -ENOTCONN);
		CHECK_STR(dw_strerror_last(), "with dw_orch_worker()");
	}
	CHECK_EQ(dw_worker_close(nested.pod), 0);
	dw_worker_destroy(nested.pod);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* ----------------------------------------------------------------------- seeing */

/* Reads what `distworker top` shows of this process. */
static const char *top(const char *options)
{
	static char text[16384];
	char command[PATH_MAX + 64], *slash;
	size_t bytes = 0;
	FILE *pipe;

	snprintf(command, sizeof(command), "%s", fixture(""));
	slash = strstr(command, "/tests/runtime/");
	if (!CHECK(slash != NULL))
		return "";
	snprintf(slash, 128, "/distworker top --once %s %d", options, (int)getpid());
	pipe = popen(command, "re");
	if (pipe)
		bytes = fread(text, 1, sizeof(text) - 1, pipe);
	text[bytes] = '\0';
	if (pipe)
		CHECK_EQ(pclose(pipe), 0);
	return text;
}

TEST_IN_BOTH_MODES(use_of_device_memory_is_shown)
{
	struct dw_chip_options chips[1] = { { .driver = "sim", .options = "memory=8M" } };
	static char text[4096];
	struct dw_tensor memory, host;
	struct rig rig;
	size_t bytes;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 1);
	REQUIRE(rig_init(&rig) == 0);
	memory = memory_on(rig.node, 0, DW_UINT8, 2 * MIB);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").memory_used, 2 * MIB);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").memory_bytes, 8 * MIB);
	bytes = sizeof(text);
	CHECK_EQ(dw_worker_report(rig.node, 0, text, &bytes), 0);
	CHECK_STR(text, "; 2.0 of 8 MiB of memory in use, 0.0 MiB copied in, 0.0 out, 0.0 saved");
	CHECK_STR(top(""), "; 2.0 of 8 MiB of memory in use, 0.0 MiB copied in, 0.0 out");
	CHECK_STR(top("--json"), "\"memory_used\": 2097152,");
	host = host_tensor(rig.a, DW_FLOAT32, COUNT);
	memory.shape[0] = COUNT * 4;
	CHECK_EQ(run_copy(rig.node, &memory, &host), 0);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").copied_in, COUNT * 4);
	CHECK_EQ(run_copy(rig.node, &host, &memory), 0);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").copied_out, COUNT * 4);
	CHECK_EQ(chip_stats(&rig, "node0/sub0").memory_bytes, 0);
	give_back(rig.node, &memory);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").memory_used, 0);
	rig_destroy(&rig);
}

/* ------------------------------------------------------------- many, side by side */

#define HOLDERS 3
#define HELD 24

struct holder {
	struct rig *rig;
	uint32_t seed;
	unsigned failures;
	float *row;			/* COUNT floats of its own */
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Each block holds one number, which must last as long as the block. */
static void *hold_and_check(void *argument)
{
	struct holder *holder = argument;
	struct dw_tensor held[HELD] = { 0 }, host = host_tensor(holder->row, DW_FLOAT32, 16);
	float values[HELD] = { 0 };

	for (int round = 0; round < 120; round++) {
		uint32_t i = next_random(&holder->seed) % HELD;
		uint32_t count = 16 + next_random(&holder->seed) % 300;
		struct dw_tensor part;

		if (!held[i].data) {
			values[i] = (float)round;
			holder->failures += dw_chip_memory_create(holder->rig->node, i % 2,
								  DW_FLOAT32, &count, 1,
								  &held[i]) != 0;
			for (int k = 0; k < 16; k++)
				holder->row[k] = values[i];
			dw_tensor_slice(&held[i], 0, 16, &part);
			holder->failures += run_copy(holder->rig->node, &part, &host) != 0;
			continue;
		}
		dw_tensor_slice(&held[i], 0, 16, &part);
		holder->row[7] = -1;
		holder->failures += run_copy(holder->rig->node, &host, &part) != 0;
		holder->failures += holder->row[7] != values[i];
		holder->failures += dw_chip_memory_destroy(holder->rig->node, &held[i]) != 0;
		held[i].data = 0;
	}
	for (int i = 0; i < HELD; i++)
		if (held[i].data)
			holder->failures +=
				dw_chip_memory_destroy(holder->rig->node, &held[i]) != 0;
	return NULL;
}

TEST_IN_BOTH_MODES(threads_have_memory_of_the_same_chips)
{
	struct dw_chip_options chips[2] = {
		{ .driver = "sim", .device = 0 }, { .driver = "sim", .device = 1 },
	};
	struct holder holders[HOLDERS];
	pthread_t threads[HOLDERS];
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 2);
	REQUIRE(rig_init(&rig) == 0);
	for (unsigned i = 0; i < HOLDERS; i++) {
		holders[i] = (struct holder){ &rig, i + 1, 0, rig.c + i * COUNT };
		REQUIRE(pthread_create(&threads[i], NULL, hold_and_check, &holders[i]) == 0);
	}
	for (unsigned i = 0; i < HOLDERS; i++) {
		pthread_join(threads[i], NULL);
		CHECK_EQ(holders[i].failures, 0);
	}
	CHECK_EQ(chip_stats(&rig, "node0/chip0").memory_used, 0);
	CHECK_EQ(chip_stats(&rig, "node0/chip1").memory_used, 0);
	rig_destroy(&rig);
}
