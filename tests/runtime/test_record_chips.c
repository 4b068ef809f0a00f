/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Recorded graphs on chips with memory of their own: what the chips have is found anew at each
 * replay, copies are recorded as tasks, and device memory has to outlive the graph.
 */
#include "chip_memory.h"

#define REPLAYS 30

static struct rig rig;
static dw_callable vector_add, pick;

static struct dw_tensor vector(float *data)
{
	return host_tensor(data, DW_FLOAT32, COUNT);
}

static int submit_add(struct dw_orch *orch, const struct dw_tensor *a, const struct dw_tensor *b,
		      struct dw_tensor *c)
{
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	dw_args_add_tensor(args, a, DW_INPUT);
	dw_args_add_tensor(args, b, DW_INPUT);
	dw_args_add_tensor(args, c, DW_OUTPUT);
	result = dw_submit(orch, vector_add, args, NULL, NULL);
	if (!result)
		*c = *dw_args_tensor(args, 2);
	dw_args_destroy(args);
	return result;
}

static int begin(struct dw_orch *orch, const char *name, const struct dw_tensor *parameters,
		 size_t count)
{
	struct dw_record_options options = DW_OPTIONS(dw_record_options);

	options.name = name;
	options.parameters = parameters;
	options.parameter_count = count;
	return dw_record_begin(orch, &options);
}

static void open_rig(enum dw_mode mode, uint32_t chips)
{
	struct dw_chip_options all[2] = { { .driver = "sim" }, { .driver = "sim", .device = 1 } };

	rig_create(&rig, mode, DW_RESTART_NEVER, all, chips);
	vector_add = image_of(&rig, "sim", fixture("chip_kernels"), NULL, "vector_add",
			      signature_add, 3);
	pick = image_of(&rig, "sim", fixture("chip_kernels"), NULL, "pick",
			(const int32_t[]){ DW_DIR_IN, DW_DIR_OUT, DW_DIR_SCALAR }, 3);
	REQUIRE(rig_init(&rig) == 0);
}

/* --------------------------------------------------------------------- names */

/* p → block = p + b → q = block + b */
static int orch_record_adds(struct dw_orch *orch, const struct dw_args *args,
			    const struct dw_config *config, void *context)
{
	struct dw_tensor p[2] = { vector(rig.a), vector(rig.c) }, b = vector(rig.b);
	struct dw_tensor block = vector(NULL);
	int result = begin(orch, "adds", p, 2);

	(void)args;
	(void)config;
	if (!result)
		result = submit_add(orch, &p[0], &b, &block);
	if (!result)
		result = submit_add(orch, &block, &b, &p[1]);
	return result ? result : dw_record_end(orch, context);
}

/* Each replay reads what the one before it has written. */
static int orch_replay_adds(struct dw_orch *orch, const struct dw_args *args,
			    const struct dw_config *config, void *context)
{
	int result = 0;

	(void)args;
	(void)config;
	for (uint32_t i = 0; i < REPLAYS && !result; i++) {
		struct dw_tensor p[2] = { vector(i ? rig.c + (i - 1) * COUNT : rig.a),
					  vector(rig.c + i * COUNT) };

		result = dw_replay(orch, *(struct dw_graph **)context, p, 2, NULL, 0);
	}
	return result;
}

static unsigned wrong_adds(void)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < REPLAYS; i++)
		for (int k = 0; k < COUNT; k++)
			n += rig.c[i * COUNT + (uint32_t)k] !=
			     (i ? rig.c[(i - 1) * COUNT + (uint32_t)k] : rig.a[k]) + rig.b[k] +
				     rig.b[k];
	return n;
}

TEST_IN_BOTH_MODES(what_chips_have_is_found_anew_at_each_replay)
{
	struct dw_graph *graph = NULL;
	uint64_t saved;

	open_rig(mode, 2);
	if (!CHECK_EQ(dw_worker_run(rig.node, orch_record_adds, NULL, NULL, &graph), 0))
		printf("# %s\n", dw_strerror_last());
	for (int round = 0; round < 5; round++) {
		/* Host code writes between runs: no copy of it is good any more. */
		for (int k = 0; k < COUNT; k++) {
			rig.a[k] = (float)(k + round);
			rig.b[k] = (float)(2 * round);
		}
		CHECK_EQ(dw_worker_run(rig.node, orch_replay_adds, NULL, NULL, &graph), 0);
		CHECK_EQ(wrong_adds(), 0);
	}
	saved = chip_stats(&rig, "node0/chip0").saved + chip_stats(&rig, "node0/chip1").saved;
	/* At least every other block was where it was written. */
	if (!CHECK(saved > 5 * REPLAYS / 2 * COUNT * sizeof(float)))
		printf("# %llu bytes were saved\n", (unsigned long long)saved);
	dw_graph_destroy(graph);
	rig_destroy(&rig);
}

/* -------------------------------------------------------------- device memory */

struct memory {
	struct dw_tensor on_chip, host;
	uint32_t *cells;
	struct dw_graph *graph;
};

/* host → chip as a recorded copy; cells[0] = on_chip[s]. */
static int orch_record_memory(struct dw_orch *orch, const struct dw_args *args,
			      const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct memory *memory = context;
	struct dw_tensor own, to = host_tensor(memory->cells, DW_UINT32, 1);
	struct dw_tensor p[2] = { memory->host, to };
	uint32_t count = COUNT;
	struct dw_args *given;
	int result;

	(void)args;
	(void)config;
	CHECK_EQ(dw_chip_alloc(orch, 0, DW_UINT32, &count, 1, &own), 0);
	CHECK_EQ(begin(orch, "memory", p, 2), 0);
	result = dw_submit_copy(orch, &own, &memory->host, NULL, NULL);
	CHECK_EQ(result, -EINVAL);
	check_text("device memory that ends with its run");
	check_text("recording \"memory\"");
	check_text("use dw_chip_memory_create");
	result = dw_submit_copy(orch, &memory->on_chip, &memory->host, NULL, NULL);
	dw_args_create(&given);
	dw_args_add_tensor(given, &memory->on_chip, DW_INPUT);
	dw_args_add_tensor(given, &to, DW_OUTPUT);
	dw_args_add_scalar(given, 5);
	options.place = DW_PLACE(0);
	if (!result)
		result = dw_submit(orch, pick, given, &options, NULL);
	if (!result)
		result = dw_record_scalar(orch, 0, 0, 0);
	dw_args_destroy(given);
	return result ? result : dw_record_end(orch, &memory->graph);
}

static int orch_replay_memory(struct dw_orch *orch, const struct dw_args *args,
			      const struct dw_config *config, void *context)
{
	struct memory *memory = context;
	int result = 0;

	(void)args;
	(void)config;
	for (uint32_t i = 0; i < REPLAYS && !result; i++) {
		/* Another half of the data for every other replay. */
		struct dw_tensor p[2] = { host_tensor((uint32_t *)(uintptr_t)memory->host.data +
						      i % 2 * COUNT, DW_UINT32, COUNT),
					  host_tensor(memory->cells + i, DW_UINT32, 1) };
		uint64_t index = 7 * i;

		result = dw_replay(orch, memory->graph, p, 2, &index, 1);
	}
	return result;
}

static int orch_lost(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	CHECK_EQ(orch_replay_memory(orch, NULL, NULL, context), -EFAULT);
	check_text("recorded graph \"memory\": a task's tensor 0");
	check_text("is lost");
	return 0;
}

TEST(copies_and_device_memory_are_recorded)
{
	struct memory memory;
	uint64_t begun;
	void *data;

	open_rig(DW_PROCESS, 1);
	CHECK_EQ(dw_buffer_create(rig.node, (2 * COUNT + REPLAYS) * sizeof(uint32_t), &data), 0);
	for (uint32_t i = 0; i < 2 * COUNT; i++)
		((uint32_t *)data)[i] = 3 * i + 1;
	memory.host = host_tensor(data, DW_UINT32, COUNT);
	memory.cells = (uint32_t *)data + 2 * COUNT;
	memory.on_chip = memory_on(rig.node, 0, DW_UINT32, COUNT);
	if (!CHECK_EQ(dw_worker_run(rig.node, orch_record_memory, NULL, NULL, &memory), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(memory.cells[0], 16);
	if (!CHECK_EQ(dw_worker_run(rig.node, orch_replay_memory, NULL, NULL, &memory), 0))
		printf("# %s\n", dw_strerror_last());
	for (uint32_t i = 0; i < REPLAYS; i++)
		CHECK_EQ(memory.cells[i], 3 * (i % 2 * COUNT + 7 * i) + 1);
	CHECK_EQ(dw_chip_memory_destroy(rig.node, &memory.on_chip), -EBUSY);
	check_text("dw_chip_memory_destroy: recorded graph \"memory\" of node0 uses it");

	kill(chip_stats(&rig, "node0/chip0").pid, SIGKILL);
	begun = now_ns();
	while (chip_stats(&rig, "node0/chip0").alive)
		if (!unit_within(begun, 20000 * MS))
			break;
	CHECK_EQ(dw_worker_run(rig.node, orch_lost, NULL, NULL, &memory), 0);
	dw_graph_destroy(memory.graph);
	CHECK_EQ(dw_chip_memory_destroy(rig.node, &memory.on_chip), 0);
	rig_destroy(&rig);
}
