/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Recorded graphs: calls that are refused, by name, and change nothing; what a graph keeps from
 * going; how long graphs live.
 */
#include "record.h"

/* ------------------------------------------------------------ inside a recording */

static int orch_inside(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_tensor pair[2] = { cell_at(&tree.cells[8]), cell_at(&tree.cells[9]) };
	uint32_t shape = 2;
	struct dw_tensor heap, wide;
	struct dw_graph *graph = NULL;
	struct dw_args *given;
	dw_task outside, inside;

	(void)args;
	(void)config;
	CHECK_EQ(dw_alloc(orch, DW_INT64, NULL, 0, &heap), 0);
	CHECK_EQ(submit_one(orch, tree.add, tree.cells, DW_INOUT, 1, NULL, &outside), 0);
	CHECK_EQ(dw_scope_begin(orch), 0);

	CHECK_EQ(begin_with(orch, "step", pair, 2), 0);
	refused(dw_record_begin(orch, NULL), -EINVAL, "recording \"step\"", "do not nest");
	refused(dw_orch_wait(orch), -EINVAL, "dw_orch_wait() inside recording \"step\"",
		"wait before dw_record_begin");
	refused(dw_orch_wait_task(orch, outside), -EINVAL,
		"dw_orch_wait_task() inside recording \"step\"", "a replay does not wait");
	refused(dw_scope_end(orch), -EINVAL, "dw_scope_end() inside recording \"step\"",
		"the scope was open before");
	refused(dw_chip_alloc(orch, 0, DW_INT64, NULL, 0, &wide), -EINVAL,
		"dw_chip_alloc() inside recording \"step\"", "use dw_chip_memory_create");
	refused(dw_chip_free(orch, &heap), -EINVAL, "dw_chip_free() inside recording \"step\"",
		"free it after dw_record_end");
	refused(dw_replay(orch, graph, NULL, 0, NULL, 0), -EINVAL,
		"dw_replay() inside recording \"step\"", "replays are not recorded");

	options.after = &outside;
	options.after_count = 1;
	refused(submit_one(orch, tree.add, tree.cells, DW_INOUT, 1, &options, NULL), -EINVAL,
		"options.after[0]", "a task from before recording \"step\"");
	refused(submit_one(orch, tree.add, (void *)(uintptr_t)heap.data, DW_INOUT, 1, NULL, NULL),
		-EINVAL, "from before recording \"step\" that ends with its scope",
		"declare it as a parameter");
	dw_tensor_init(&wide, &tree.cells[7], DW_INT64, &shape, 1);
	dw_args_create(&given);
	dw_args_add_tensor(given, &wide, DW_INOUT);
	dw_args_add_int(given, 1);
	refused(dw_submit(orch, tree.add, given, NULL, NULL), -EINVAL,
		"lies partly in parameter 0 of recording \"step\"", "within it, or apart");
	dw_args_destroy(given);

	refused(dw_record_scalar(orch, 0, 0, 0), -ERANGE, "recording \"step\" has no task", NULL);
	CHECK_EQ(submit_one(orch, tree.add, tree.cells, DW_INOUT, 1, NULL, &inside), 0);
	refused(dw_record_scalar(orch, 1, 0, 0), -ERANGE, "member 1", "has 1");
	refused(dw_record_scalar(orch, 0, 1, 0), -ERANGE, "scalar 1", "has 1");
	refused(dw_record_scalar(orch, 0, 0, 65536), -ERANGE, "scalar parameter 65536",
		"below 65536");
	CHECK_EQ(dw_record_scalar(orch, 0, 0, 0), 0);
	refused(dw_record_scalar(orch, 0, 0, 1), -EEXIST, "scalar 0", "a parameter already");
	options.after = &inside;
	CHECK_EQ(submit_one(orch, tree.add, &tree.cells[8], DW_INOUT, 1, &options, NULL), 0);

	CHECK_EQ(dw_scope_begin(orch), 0);
	refused(dw_record_end(orch, &graph), -EINVAL, "inside recording \"step\" is open",
		"dw_scope_end");
	CHECK_EQ(dw_scope_end(orch), 0);
	refused(dw_record_end(orch, NULL), -EINVAL, "`graph` is NULL", NULL);
	CHECK_EQ(dw_record_end(orch, &graph), 0);
	refused(dw_record_end(orch, &graph), -EINVAL, "no recording is open", "dw_record_begin");
	refused(dw_record_scalar(orch, 0, 0, 0), -EINVAL, "no recording is open", NULL);
	CHECK_EQ(dw_scope_end(orch), 0);
	*(struct dw_graph **)context = graph;
	return 0;
}

TEST_IN_BOTH_MODES(what_makes_no_sense_inside_a_recording_is_refused_by_name)
{
	struct dw_graph_info info = DW_OPTIONS(dw_graph_info);
	struct dw_graph *graph = NULL;

	tree_init(1, 0, mode);
	if (!CHECK_EQ(run_of_tree(orch_inside, &graph), 0))
		printf("# %s\n", dw_strerror_last());
	/* The calls that were refused have changed nothing, and what was submitted has run. */
	CHECK_EQ(tree.cells[0], 2);
	CHECK_EQ(tree.cells[8], 1);
	CHECK_EQ(dw_graph_query(graph, &info), 0);
	CHECK_EQ(info.tasks, 2);
	CHECK_EQ(info.edges, 1);
	CHECK_EQ(info.scalars, 1);
	dw_graph_destroy(graph);
	tree_destroy();
}

static int orch_begins(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_tensor same[2] = { cell_at(tree.cells), cell_at(tree.cells) };
	struct dw_tensor none = cell_at(NULL), outside = cell_at(&none), empty, odd = same[0];
	struct dw_record_options options = DW_OPTIONS(dw_record_options);
	static char name[300];
	uint32_t shape = 0;

	(void)args;
	(void)config;
	(void)context;
	dw_tensor_init(&empty, tree.cells, DW_INT64, &shape, 1);
	odd.dtype = 99;
	memset(name, 'x', sizeof(name) - 1);
	refused(begin_with(orch, "twice", same, 2), -EINVAL, "parameters 0 and 1 of \"twice\"",
		"share bytes");
	refused(begin_with(orch, NULL, &none, 1), -EFAULT, "parameter 0", "dw_buffer_create");
	refused(begin_with(orch, NULL, &outside, 1), -EFAULT, "parameter 0", "the arena");
	refused(begin_with(orch, NULL, &empty, 1), -EINVAL, "parameter 0 has 0 bytes", NULL);
	refused(begin_with(orch, NULL, &odd, 1), -EINVAL, "the parameters' tensor 0", "99");
	refused(begin_with(orch, NULL, NULL, 1), -EINVAL, "options.parameters is NULL", NULL);
	refused(begin_with(orch, name, NULL, 0), -ENAMETOOLONG, "the name of a recording", "255");
	options.size = 3;
	refused(dw_record_begin(orch, &options), -EINVAL, "dw_record_options", NULL);
	refused(dw_record_begin(NULL, NULL), -EINVAL, "the Orchestrator is NULL", NULL);
	return 0;
}

TEST(recordings_with_impossible_options_do_not_begin)
{
	tree_init(1, 0, DW_PROCESS);
	CHECK_EQ(run_of_tree(orch_begins, NULL), 0);
	tree_destroy();
}

/* -------------------------------------------------------------------- replays */

struct graphs {
	struct dw_graph *graph, *other;
};

/* Parameters: read, written, read (0, 1, 2); one fixed range is read, another written. */
static int record_kinds(struct dw_orch *orch, struct dw_graph **graph)
{
	struct dw_tensor parameters[3] = { cell_at(&tree.cells[0]), cell_at(&tree.cells[1]),
					   cell_at(&tree.cells[2]) };
	int64_t *written = &tree.cells[1], *fixed = &tree.cells[11];

	CHECK_EQ(begin_with(orch, "kinds", parameters, 3), 0);
	CHECK_EQ(submit_copy_of(orch, &tree.cells[0], &written, 0, 0), 0);
	CHECK_EQ(submit_copy_of(orch, &tree.cells[2], &fixed, 0, 0), 0);
	fixed = &tree.cells[1];
	CHECK_EQ(submit_copy_of(orch, &tree.cells[10], &fixed, 0, 0), 0);
	return dw_record_end(orch, graph);
}

static int replay_kinds(struct dw_orch *orch, struct dw_graph *graph, uint32_t a, uint32_t b,
			uint32_t c)
{
	struct dw_tensor parameters[3] = { cell_at(&tree.cells[a]), cell_at(&tree.cells[b]),
					   cell_at(&tree.cells[c]) };

	return dw_replay(orch, graph, parameters, 3, NULL, 0);
}

static int orch_replays(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct graphs *graphs = context;
	struct dw_tensor parameters[3] = { cell_at(&tree.cells[20]), cell_at(&tree.cells[21]),
					   cell_at(&tree.cells[22]) };
	uint64_t scalar = 0;
	uint32_t shape = 2;
	struct dw_graph *graph;

	(void)args;
	(void)config;
	CHECK_EQ(record_kinds(orch, &graphs->graph), 0);
	graph = graphs->graph;
	refused(dw_replay(orch, NULL, NULL, 0, NULL, 0), -EINVAL, "`graph` is NULL", NULL);
	refused(dw_replay(orch, graph, parameters, 2, NULL, 0), -EINVAL, "2 parameters",
		"\"kinds\" has 3");
	refused(dw_replay(orch, graph, NULL, 3, NULL, 0), -EINVAL, "`parameters` is NULL", NULL);
	refused(dw_replay(orch, graph, parameters, 3, &scalar, 1), -EINVAL, "1 scalars",
		"\"kinds\" has 0");
	dw_tensor_init(&parameters[1], &tree.cells[21], DW_INT64, &shape, 1);
	refused(dw_replay(orch, graph, parameters, 3, NULL, 0), -EINVAL,
		"parameter 1 of \"kinds\" has 16 bytes", "in the recording it had 8");
	parameters[1] = cell_at(NULL);
	refused(dw_replay(orch, graph, parameters, 3, NULL, 0), -EFAULT, "parameter 1",
		"dw_buffer_create");
	parameters[1] = cell_at(&shape);
	refused(dw_replay(orch, graph, parameters, 3, NULL, 0), -EFAULT, "parameter 1",
		"does not lie in the arena");

	/* What is written shares no byte with anything. */
	refused(replay_kinds(orch, graph, 20, 20, 22), -EINVAL, "parameters 0 and 1 of \"kinds\"",
		"share bytes");
	refused(replay_kinds(orch, graph, 20, 22, 22), -EINVAL, "parameters 1 and 2 of \"kinds\"",
		"should lie apart, as in the recording");
	refused(replay_kinds(orch, graph, 20, 10, 22), -EINVAL, "parameter 1",
		"shares bytes with memory that \"kinds\" uses");
	refused(replay_kinds(orch, graph, 11, 21, 22), -EINVAL, "parameter 0",
		"in the recording it lay apart");
	/* What is only read may. */
	CHECK_EQ(replay_kinds(orch, graph, 20, 21, 20), 0);
	CHECK_EQ(replay_kinds(orch, graph, 10, 21, 10), 0);
	return 0;
}

static int orch_elsewhere(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	struct graphs *graphs = context;

	(void)args;
	(void)config;
	refused(replay_kinds(orch, graphs->graph, 20, 21, 22), -EINVAL,
		"\"kinds\" was recorded on another Worker", "node0");
	return 0;
}

TEST_IN_BOTH_MODES(sizes_and_overlaps_of_parameters_are_checked)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct graphs graphs = { 0 };
	struct dw_worker *other;

	tree_init(1, 0, mode);
	CHECK_EQ(run_of_tree(orch_replays, &graphs), 0);
	CHECK_EQ(dw_worker_engine_stats(tree.root, &stats), 0);
	CHECK_EQ(stats.submitted, 3 * 3);
	other = make_worker(DW_LEVEL_NODE, 1, mode);
	CHECK_EQ(dw_worker_init(other), 0);
	CHECK_EQ(dw_worker_run(other, orch_elsewhere, NULL, NULL, &graphs), 0);
	dw_worker_destroy(other);
	dw_graph_destroy(graphs.graph);
	tree_destroy();
}

/* -------------------------------------------------------- one run at a time */

/* tensor: [0] becomes 1 when it begins; it ends when [1] is set. */
static int sub_gate(const struct dw_args *args, void *context)
{
	_Atomic int64_t *cell = dw_args_data(args, 0);
	uint64_t begun = now_ns();

	(void)context;
	atomic_store(&cell[0], 1);
	while (!atomic_load(&cell[1])) {
		if (!unit_within(begun, 60 * SECOND_NS))
			return -ETIMEDOUT;
		pause_ms(1);
	}
	return 0;
}

static dw_callable gate;

static int submit_gate(struct dw_orch *orch)
{
	struct dw_tensor tensor;
	struct dw_args *args;
	uint32_t shape = 2;
	int result;

	dw_tensor_init(&tensor, tree.cells, DW_INT64, &shape, 1);
	dw_args_create(&args);
	dw_args_add_tensor(args, &tensor, DW_INOUT);
	result = dw_submit(orch, gate, args, NULL, NULL);
	dw_args_destroy(args);
	return result;
}

static atomic_bool gate_recorded;

static int orch_record_gate(struct dw_orch *orch, const struct dw_args *args,
			    const struct dw_config *config, void *context)
{
	int result = begin_with(orch, "gate", NULL, 0);

	(void)args;
	(void)config;
	if (!result)
		result = submit_gate(orch);
	if (!result)
		result = dw_record_end(orch, context);
	atomic_store(&gate_recorded, true);
	return result;
}

static int orch_replay_gate(struct dw_orch *orch, const struct dw_args *args,
			    const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return dw_replay(orch, *(struct dw_graph **)context, NULL, 0, NULL, 0);
}

static int orch_gate_is_busy(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	refused(dw_replay(orch, *(struct dw_graph **)context, NULL, 0, NULL, 0), -EBUSY,
		"recorded graph \"gate\"", "wait for that run");
	return 0;
}

static void gate_begun(void)
{
	uint64_t begun = now_ns();

	while (!__atomic_load_n(&tree.cells[0], __ATOMIC_ACQUIRE))
		if (!unit_within(begun, 20 * SECOND_NS))
			break;
	CHECK_EQ(tree.cells[0], 1);
}

static void gate_opens(int64_t open)
{
	__atomic_store_n(&tree.cells[1], open, __ATOMIC_RELEASE);
}

static void gate_create(enum dw_mode mode)
{
	tree_create(2, 0, mode, NULL);
	CHECK_EQ(dw_callable_register_sub(tree.root, "gate", sub_gate, NULL, &gate), 0);
	CHECK_EQ(dw_worker_init(tree.root), 0);
	gate_opens(0);
}

TEST_IN_BOTH_MODES(one_run_at_a_time_replays_a_graph)
{
	struct dw_graph *graph = NULL;
	struct dw_run *run = NULL;

	gate_create(mode);
	atomic_store(&gate_recorded, false);
	CHECK_EQ(dw_worker_start(tree.root, orch_record_gate, NULL, NULL, &graph, NULL, &run), 0);
	gate_begun();
	while (!atomic_load(&gate_recorded))
		usleep(1000);
	/* The run that has recorded it still uses its blocks. */
	CHECK_EQ(run_of_tree(orch_gate_is_busy, &graph), 0);
	gate_opens(1);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(run_of_tree(orch_replay_gate, &graph), 0);

	gate_opens(0);
	tree.cells[0] = 0;
	CHECK_EQ(dw_worker_start(tree.root, orch_replay_gate, NULL, NULL, &graph, NULL, &run), 0);
	gate_begun();
	CHECK_EQ(run_of_tree(orch_gate_is_busy, &graph), 0);
	gate_opens(1);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(run_of_tree(orch_replay_gate, &graph), 0);
	dw_graph_destroy(graph);
	tree_destroy();
}

/* ------------------------------------------------------------- what a graph uses */

static int orch_record_other(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	int64_t **buffer = context;
	struct dw_graph *graph;
	int result = begin_with(orch, "user", NULL, 0);

	(void)args;
	(void)config;
	if (!result)
		result = submit_one(orch, tree.add, *buffer, DW_INOUT, 1, NULL, NULL);
	refused(dw_buffer_destroy(tree.root, tree.cells), -EBUSY,
		"recording \"user\" of pod0 may use it", "dw_record_end");
	refused(dw_callable_unregister(tree.root, tree.add), -EBUSY, "recording \"user\" of pod0",
		"dw_callable_unregister");
	if (!result)
		result = dw_record_end(orch, &graph);
	*buffer = (int64_t *)graph;
	return result;
}

TEST_IN_BOTH_MODES(buffers_and_callables_of_a_graph_stay)
{
	struct dw_graph *graph;
	void *buffer, *used;

	tree_init(1, 0, mode);
	CHECK_EQ(dw_buffer_create(tree.root, 8192, &buffer), 0);
	used = (int64_t *)buffer + 100;
	CHECK_EQ(run_of_tree(orch_record_other, &used), 0);
	graph = used;
	refused(dw_buffer_destroy(tree.root, buffer), -EBUSY,
		"dw_buffer_destroy: recorded graph \"user\" of pod0 uses it", "dw_graph_destroy()");
	refused(dw_callable_unregister(tree.root, tree.add), -EBUSY,
		"dw_callable_unregister: recorded graph \"user\" of pod0 uses it", NULL);
	refused(dw_callable_unregister_for(tree.root, tree.add, SECOND_NS), -EBUSY,
		"dw_callable_unregister_for: recorded graph \"user\"", NULL);
	/* Those that it does not use go. */
	CHECK_EQ(dw_callable_unregister(tree.root, tree.fails), 0);
	CHECK_EQ(run_of_tree(orch_replay_gate, &graph), 0);
	CHECK_EQ(((int64_t *)buffer)[100], 2);
	dw_graph_destroy(graph);
	CHECK_EQ(dw_buffer_destroy(tree.root, buffer), 0);
	CHECK_EQ(dw_callable_unregister(tree.root, tree.add), 0);
	tree_destroy();
}

/* A nested Worker that is a process: its graph does not keep the root's callables. */
static int orch_nested(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	static struct dw_graph *graph;
	struct dw_tensor cell;
	struct dw_args *given;
	dw_callable symbol;
	int result;

	(void)config;
	(void)context;
	if (graph) {
		result = dw_replay(orch, graph, NULL, 0, NULL, 0);
		return result ? dw_task_fail(-result, "%s", dw_strerror_last()) : 0;
	}
	symbol = dw_args_scalar(args, 0);
	dw_args_create(&given);
	result = begin_with(orch, "inner", NULL, 0);
	if (!result)
		result = dw_alloc(orch, DW_INT64, NULL, 0, &cell);
	if (!result)
		result = dw_args_add_tensor(given, &cell, DW_INOUT);
	if (!result)
		result = dw_args_add_int(given, 1);
	if (!result)
		result = dw_submit(orch, symbol, given, NULL, NULL);
	dw_args_destroy(given);
	return result ? result : dw_record_end(orch, &graph);
}

struct nested_call {
	dw_callable nested, symbol;
};

static int orch_calls_nested(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	struct nested_call *call = context;
	struct dw_args *given;
	int result;

	(void)args;
	(void)config;
	dw_args_create(&given);
	dw_args_add_scalar(given, call->symbol);
	result = dw_submit(orch, call->nested, given, NULL, NULL);
	dw_args_destroy(given);
	return result;
}

TEST(a_graph_in_another_process_notices_that_its_callable_is_gone)
{
	char symbol[PATH_MAX + 64];
	struct nested_call call;

	tree_create(1, 1, DW_PROCESS, NULL);
	CHECK_EQ(dw_callable_register_orch(tree.root, "nested", orch_nested, NULL, &call.nested),
		 0);
	CHECK_EQ(dw_worker_init(tree.root), 0);
	snprintf(symbol, sizeof(symbol), "%s:symbol_add", beside("fixtures/symbols.so"));
	if (!CHECK_EQ(dw_callable_register_symbol(tree.root, symbol, DW_SYMBOL_SUB, &call.symbol),
		      0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(run_of_tree(orch_calls_nested, &call), 0);
	CHECK_EQ(run_of_tree(orch_calls_nested, &call), 0);
	CHECK_EQ(dw_callable_unregister(tree.root, call.symbol), 0);
	CHECK_EQ(run_of_tree(orch_calls_nested, &call), -ESTALE);
	check_text("recorded graph \"inner\": ");
	tree_destroy();
}

/* ------------------------------------------------------------------- workers */

static int orch_record_directed(struct dw_orch *orch, const struct dw_args *args,
				const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int result = begin_with(orch, "directed", NULL, 0);

	(void)args;
	(void)config;
	options.place = DW_PLACE(1);
	if (!result)
		result = submit_one(orch, tree.where, tree.cells, DW_OUTPUT, 0, &options, NULL);
	return result ? result : dw_record_end(orch, context);
}

static int orch_dead(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	refused(dw_replay(orch, *(struct dw_graph **)context, NULL, 0, NULL, 0), -ENODEV,
		"recorded graph \"directed\": pod0/node1 is gone", "SIGKILL");
	return 0;
}

TEST(a_directed_worker_that_is_dead_is_named)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct dw_graph *graph = NULL;
	uint64_t begun = now_ns();

	tree_init(1, 2, DW_PROCESS);
	CHECK_EQ(run_of_tree(orch_record_directed, &graph), 0);
	CHECK(tree.cells[0] > 0);
	kill((pid_t)tree.cells[0], SIGKILL);
	while (dw_worker_engine_stats(tree.root, &stats) == 0 && !stats.deaths)
		if (!unit_within(begun, 20 * SECOND_NS))
			break;
	CHECK_EQ(stats.deaths, 1);
	CHECK_EQ(run_of_tree(orch_dead, &graph), 0);
	dw_graph_destroy(graph);
	tree_destroy();
}

/* ------------------------------------------------------------------- lifetimes */

static int orch_forgets(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	int64_t *block = NULL;
	int result = begin_with(orch, "forgotten", NULL, 0);

	(void)args;
	(void)config;
	(void)context;
	return result ? result : submit_copy_of(orch, tree.cells, &block, 0, 5);
}

TEST_IN_BOTH_MODES(a_recording_that_is_open_at_the_end_of_its_function_is_dropped)
{
	struct dw_graph *graph = NULL;
	void *buffer;

	gate_create(mode);
	CHECK_EQ(dw_buffer_create(tree.root, 64, &buffer), 0);
	for (int i = 0; i < 600; i++)
		/* 600 × 64 KiB are more than the arena has. */
		if (!CHECK_EQ(run_of_tree(orch_forgets, NULL), 0)) {
			printf("# %s\n", dw_strerror_last());
			break;
		}
	CHECK_EQ(dw_buffer_destroy(tree.root, buffer), 0);
	CHECK_EQ(dw_callable_unregister(tree.root, tree.copy), 0);
	gate_opens(1);
	CHECK_EQ(run_of_tree(orch_record_gate, &graph), 0);
	dw_graph_destroy(graph);
	tree_destroy();
}

struct destroyed {
	struct dw_graph *graph;
	int64_t *block;
};

/* The block of the graph is in use when the graph goes. */
static int orch_destroys(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	struct dw_graph *graph;
	int64_t *block = NULL, *to = &tree.cells[4], *other;
	int result = begin_with(orch, "short", NULL, 0);

	(void)args;
	(void)config;
	(void)context;
	if (!result)
		result = submit_copy_of(orch, &tree.cells[3], &block, 1, 10);
	if (!result)
		result = submit_copy_of(orch, block, &to, 1, 10);
	if (!result)
		result = dw_record_end(orch, &graph);
	for (int i = 0; i < 3 && !result; i++)
		result = dw_replay(orch, graph, NULL, 0, NULL, 0);
	if (result)
		return result;
	dw_graph_destroy(graph);
	/* Would get the memory of the block. */
	CHECK_EQ(dw_buffer_create(tree.root, 64 << 10, (void **)&other), 0);
	CHECK(other != block);
	memset(other, 0xff, 64 << 10);
	CHECK_EQ(dw_orch_wait(orch), 0);
	CHECK_EQ(tree.cells[4], tree.cells[3] + 2);
	return dw_buffer_destroy(tree.root, other);
}

TEST_IN_BOTH_MODES(blocks_stay_until_the_tasks_of_the_last_replay_are_final)
{
	tree_init(2, 0, mode);
	tree.cells[3] = 40;
	for (int i = 0; i < 20; i++)
		CHECK_EQ(run_of_tree(orch_destroys, NULL), 0);
	tree_destroy();
}

static int orch_of_child(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	struct dw_graph *graph = *(struct dw_graph **)context;
	int status = -1;
	pid_t pid;

	(void)args;
	(void)config;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (dw_replay(orch, graph, NULL, 0, NULL, 0) != -EBADFD)
			_exit(1);
		dw_graph_destroy(graph);
		_exit(strstr(dw_strerror_last(), "belongs to another process") ? 0 : 2);
	}
	waitpid(pid, &status, 0);
	CHECK_EQ(status, 0);
	return dw_replay(orch, graph, NULL, 0, NULL, 0);
}

TEST(a_graph_belongs_to_its_process_and_outlives_its_worker)
{
	struct dw_graph_info info = DW_OPTIONS(dw_graph_info);
	struct dw_graph *closed = NULL, *gone = NULL;

	dw_graph_destroy(NULL);
	CHECK_EQ(dw_graph_query(NULL, &info), -EINVAL);
	CHECK_EQ(dw_graph_query(NULL, NULL), -EINVAL);
	gate_create(DW_PROCESS);
	gate_opens(1);
	CHECK_EQ(run_of_tree(orch_record_gate, &closed), 0);
	CHECK_EQ(run_of_tree(orch_record_gate, &gone), 0);
	CHECK_EQ(run_of_tree(orch_of_child, &closed), 0);
	CHECK_EQ(dw_worker_close(tree.root), 0);
	dw_graph_destroy(closed);
	tree_destroy();
	CHECK_EQ(dw_graph_query(gone, &info), 0);
	CHECK_EQ(info.tasks, 1);
	dw_graph_destroy(gone);
}
