/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Recorded graphs: a replay has the result of submitting its tasks one by one. Random graphs:
 * tests/unit/test_record_oracle.c; errors and lifetimes: test_record_refused.c.
 */
#include "record.h"

#define SUBS 4

/* ------------------------------------------------------------------ parameters */

/* from → block → + 3 → to, where `from` and `to` are parameters. */
static int record_path(struct dw_orch *orch, int64_t *from, int64_t *to, int64_t **block,
		       struct dw_graph **graph)
{
	struct dw_tensor parameters[] = { cell_at(from), cell_at(to) };
	int result = begin_with(orch, "path", parameters, 2);

	*block = NULL;
	if (!result)
		result = submit_copy_of(orch, from, block, 100, 0);
	if (!result)
		result = dw_record_scalar(orch, 0, 0, 0);
	if (!result)
		result = submit_one(orch, tree.add, *block, DW_INOUT, 3, NULL, NULL);
	if (!result)
		result = submit_copy_of(orch, *block, &to, 0, 1);
	return result ? result : dw_record_end(orch, graph);
}

static int orch_parameters(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	struct dw_graph_info info = DW_OPTIONS(dw_graph_info);
	struct dw_graph **graph = context;
	int64_t *block;

	(void)args;
	(void)config;
	CHECK_EQ(record_path(orch, &tree.cells[0], &tree.cells[100], &block, graph), 0);
	for (uint64_t i = 1; i < 50; i++) {
		struct dw_tensor parameters[] = { cell_at(&tree.cells[i]),
						  cell_at(&tree.cells[100 + i]) };
		uint64_t scalar = 1000 * i;

		if (!CHECK_EQ(dw_replay(orch, *graph, parameters, 2, &scalar, 1), 0))
			return -EIO;
	}
	CHECK_EQ(dw_graph_query(*graph, &info), 0);
	CHECK(strcmp(info.name, "path") == 0);
	CHECK_EQ(info.tasks, 3);
	CHECK_EQ(info.edges, 2);
	CHECK_EQ(info.parameters, 2);
	CHECK_EQ(info.scalars, 1);
	CHECK_EQ(info.replays, 49);
	CHECK_EQ(info.bytes, 1024);
	return 0;
}

/* All replays use the same block: each waits for the readers of the one before it. */
TEST_IN_BOTH_MODES(replays_have_other_tensors_and_scalars_and_the_same_blocks)
{
	struct dw_graph *graph = NULL;

	tree_init(SUBS, 0, mode);
	for (int64_t i = 0; i < 50; i++)
		tree.cells[i] = i;
	CHECK_EQ(run_of_tree(orch_parameters, &graph), 0);
	CHECK_EQ(tree.cells[100], 103);
	for (int64_t i = 1; i < 50; i++)
		CHECK_EQ(tree.cells[100 + i], i + 1000 * i + 3);
	dw_graph_destroy(graph);
	tree_destroy();
}

static int orch_replay_once(struct dw_orch *orch, const struct dw_args *args,
			    const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return dw_replay(orch, *(struct dw_graph **)context, NULL, 0, NULL, 0);
}

static int orch_record_fixed(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	int64_t *to = &tree.cells[1];
	int result = dw_record_begin(orch, NULL);

	(void)args;
	(void)config;
	if (!result)
		result = submit_one(orch, tree.add, &tree.cells[0], DW_INOUT, 1, NULL, NULL);
	if (!result)
		result = submit_copy_of(orch, &tree.cells[0], &to, 10, 0);
	return result ? result : dw_record_end(orch, context);
}

TEST_IN_BOTH_MODES(a_graph_is_replayed_in_later_runs)
{
	struct dw_graph *graph = NULL;

	tree_init(SUBS, 0, mode);
	CHECK_EQ(run_of_tree(orch_record_fixed, &graph), 0);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(run_of_tree(orch_replay_once, &graph), 0);
	CHECK_EQ(tree.cells[0], 101);
	CHECK_EQ(tree.cells[1], 111);
	dw_graph_destroy(graph);
	tree_destroy();
}

/* --------------------------------------------------------------------- borders */

static int orch_borders(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct dw_graph **graph = context;
	int64_t *x = &tree.cells[0], *y = &tree.cells[1], *z = &tree.cells[2];
	int result = dw_record_begin(orch, NULL);

	(void)args;
	(void)config;
	/* Reads x, and writes y twice: its first and its last writer are different tasks. */
	if (!result)
		result = submit_copy_of(orch, x, &y, 1, 5);
	if (!result)
		result = submit_copy_of(orch, y, &z, 0, 5);
	if (!result)
		result = submit_copy_of(orch, x, &y, 2, 0);
	if (!result)
		result = dw_record_end(orch, graph);
	for (int64_t i = 0; i < 20 && !result; i++) {
		int64_t *later = &tree.cells[10 + i], *copy = &tree.cells[40 + i];

		/* Before: a slow writer of x, and slow readers of y and z. */
		result = submit_copy_of(orch, &tree.cells[100 + i], &x, 0, 5);
		if (!result)
			result = submit_copy_of(orch, y, &copy, 0, 5);
		if (!result)
			result = dw_replay(orch, *graph, NULL, 0, NULL, 0);
		/* After: readers of y and z, and a writer of x. */
		if (!result)
			result = submit_copy_of(orch, y, &later, 0, 0);
		later = &tree.cells[70 + i];
		if (!result)
			result = submit_copy_of(orch, z, &later, 0, 0);
		if (!result)
			result = submit_copy_of(orch, &tree.cells[200], &x, 0, 0);
	}
	return result;
}

TEST_IN_BOTH_MODES(what_is_submitted_before_and_after_a_replay_is_ordered_with_it)
{
	struct dw_graph *graph = NULL;

	tree_init(SUBS, 0, mode);
	for (int64_t i = 0; i < 20; i++)
		tree.cells[100 + i] = 1000 * i;
	tree.cells[200] = -7;
	if (!CHECK_EQ(run_of_tree(orch_borders, &graph), 0))
		printf("# %s\n", dw_strerror_last());
	for (int64_t i = 0; i < 20; i++) {
		CHECK_EQ(tree.cells[10 + i], 1000 * i + 2);
		CHECK_EQ(tree.cells[70 + i], 1000 * i + 1);
		CHECK_EQ(tree.cells[40 + i], i ? 1000 * (i - 1) + 2 : 2);
	}
	dw_graph_destroy(graph);
	tree_destroy();
}

/* -------------------------------------------------------------------- failures */

struct failures {
	struct dw_graph *graph;
	uint64_t fails;			/* of the graph's first task */
	bool before;			/* a task before the replay fails */
};

/* x += 1, or fails; y = x + 1; z += 1. */
static int orch_record_failures(struct dw_orch *orch, const struct dw_args *args,
				const struct dw_config *config, void *context)
{
	struct failures *failures = context;
	int64_t *x = &tree.cells[0], *y = &tree.cells[1];
	int result = dw_record_begin(orch, NULL);

	(void)args;
	(void)config;
	if (!result)
		result = submit_one(orch, tree.fails, x, DW_INOUT, 0, NULL, NULL);
	if (!result)
		result = dw_record_scalar(orch, 0, 0, 0);
	if (!result)
		result = submit_copy_of(orch, x, &y, 1, 0);
	if (!result)
		result = submit_one(orch, tree.fails, &tree.cells[2], DW_INOUT, 0, NULL, NULL);
	return result ? result : dw_record_end(orch, &failures->graph);
}

static int orch_replay_failures(struct dw_orch *orch, const struct dw_args *args,
				const struct dw_config *config, void *context)
{
	struct failures *failures = context;
	int64_t *w = &tree.cells[3];
	int result = 0;

	(void)args;
	(void)config;
	if (failures->before)
		result = submit_one(orch, tree.fails, &tree.cells[0], DW_INOUT, 1, NULL, NULL);
	if (!result)
		result = dw_replay(orch, failures->graph, NULL, 0, &failures->fails, 1);
	/* A reader of what the graph has written last. */
	return result ? result : submit_copy_of(orch, &tree.cells[1], &w, 0, 0);
}

TEST_IN_BOTH_MODES(failures_follow_data_into_a_replay_and_out_of_it)
{
	struct dw_engine_stats before = DW_OPTIONS(dw_engine_stats), after = before;
	struct failures failures = { 0 };

	tree_init(SUBS, 0, mode);
	CHECK_EQ(run_of_tree(orch_record_failures, &failures), 0);
	CHECK_EQ(run_of_tree(orch_replay_failures, &failures), 0);
	CHECK_EQ(tree.cells[0], 2);
	CHECK_EQ(tree.cells[3], 3);

	CHECK_EQ(dw_worker_engine_stats(tree.root, &before), 0);
	failures.fails = 1;
	CHECK_EQ(run_of_tree(orch_replay_failures, &failures), -EIO);
	check_text("task 1 (fails): EIO: told to");
	CHECK_EQ(dw_worker_engine_stats(tree.root, &after), 0);
	CHECK_EQ(after.failed - before.failed, 1);
	CHECK_EQ(after.skipped - before.skipped, 2);
	CHECK_EQ(after.done - before.done, 1);

	failures.fails = 0;
	failures.before = true;
	CHECK_EQ(run_of_tree(orch_replay_failures, &failures), -EIO);
	CHECK_EQ(dw_worker_engine_stats(tree.root, &before), 0);
	CHECK_EQ(before.failed - after.failed, 1);
	CHECK_EQ(before.skipped - after.skipped, 3);
	CHECK_EQ(before.done - after.done, 1);
	CHECK_EQ(tree.cells[0], 2);
	CHECK_EQ(tree.cells[2], 4);

	/* Nothing of it is left. */
	failures.before = false;
	CHECK_EQ(run_of_tree(orch_replay_failures, &failures), 0);
	CHECK_EQ(tree.cells[3], 4);
	dw_graph_destroy(failures.graph);
	tree_destroy();
}

/* --------------------------------------------------------------------- options */

static int orch_record_options(struct dw_orch *orch, const struct dw_args *args,
			       const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_tensor parameter = cell_at(&tree.cells[0]);
	int result = begin_with(orch, NULL, &parameter, 1);

	(void)args;
	(void)config;
	options.name = "the name of it";
	options.place = DW_PLACE(1);
	if (!result)
		result = submit_one(orch, tree.where, &tree.cells[0], DW_OUTPUT, 0, &options, NULL);
	return result ? result : dw_record_end(orch, context);
}

static int orch_replay_cells(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	int result = 0;

	(void)args;
	(void)config;
	for (uint32_t i = 1; i < 20 && !result; i++) {
		struct dw_tensor parameter = cell_at(&tree.cells[i]);

		result = dw_replay(orch, *(struct dw_graph **)context, &parameter, 1, NULL, 0);
	}
	return result;
}

TEST(directed_tasks_go_to_their_worker_again)
{
	struct dw_graph *graph = NULL;

	tree_init(1, 3, DW_PROCESS);
	CHECK_EQ(run_of_tree(orch_record_options, &graph), 0);
	CHECK_EQ(run_of_tree(orch_replay_cells, &graph), 0);
	for (uint32_t i = 1; i < 20; i++)
		CHECK_EQ(tree.cells[i], tree.cells[0]);
	dw_graph_destroy(graph);
	tree_destroy();
}

/* One task that breaks as a scalar says. */
static int orch_record_break(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	uint32_t shape = 2;
	struct dw_tensor tensor;
	struct dw_args *given;
	int result;

	(void)args;
	(void)config;
	options.name = "fragile";
	options.retries = 2;
	options.timeout_ns = ample(50 * MS);
	dw_tensor_init(&tensor, tree.cells, DW_INT64, &shape, 1);
	dw_args_create(&given);
	dw_args_add_tensor(given, &tensor, DW_INOUT);
	dw_args_add_int(given, BREAK_NOT);
	dw_args_add_int(given, 0);
	result = begin_with(orch, NULL, &tensor, 1);
	if (!result)
		result = dw_submit(orch, tree.broken, given, &options, NULL);
	for (size_t i = 0; i < 2 && !result; i++)
		result = dw_record_scalar(orch, 0, i, i);
	dw_args_destroy(given);
	return result ? result : dw_record_end(orch, context);
}

struct breaking {
	struct dw_graph *graph;
	uint64_t scalars[2];
};

static int orch_replay_break(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	struct breaking *breaking = context;
	uint32_t shape = 2;
	struct dw_tensor tensor;

	(void)args;
	(void)config;
	dw_tensor_init(&tensor, &tree.cells[10], DW_INT64, &shape, 1);
	return dw_replay(orch, breaking->graph, &tensor, 1, breaking->scalars, 2);
}

/* The child dies in the middle of a replay: its task is tried again, elsewhere or later. */
TEST(retries_names_and_deadlines_hold_in_replays)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct breaking breaking = { .scalars = { BREAK_ONCE, SIGKILL } };

	options.restart = DW_RESTART_ON_DEATH;
	tree_create(1, 0, DW_PROCESS, &options);
	CHECK_EQ(dw_worker_init(tree.root), 0);
	CHECK_EQ(run_of_tree(orch_record_break, &breaking.graph), 0);
	CHECK_EQ(run_of_tree(orch_replay_break, &breaking), 0);
	CHECK_EQ(tree.cells[10], 1);
	CHECK_EQ(tree.cells[11], 1);
	breaking.scalars[0] = BREAK_ERROR;
	breaking.scalars[1] = EDOM;
	CHECK_EQ(run_of_tree(orch_replay_break, &breaking), -EDOM);
	check_text("task 1 \"fragile\" (break): EDOM: as it was told (attempt 3)");
	breaking.scalars[0] = BREAK_HANG;
	CHECK_EQ(run_of_tree(orch_replay_break, &breaking), -ETIMEDOUT);
	check_text("\"fragile\" (break): ETIMEDOUT: ran longer than its deadline");
	dw_graph_destroy(breaking.graph);
	tree_destroy();
}

/* The numbers of tasks in the order in which they ran. */
static int sub_note(const struct dw_args *args, void *context)
{
	int64_t *cells = dw_args_data(args, 0);

	(void)context;
	pause_ms(1);
	cells[1 + __atomic_fetch_add(&cells[0], 1, __ATOMIC_RELAXED)] = dw_args_int(args, 0);
	return 0;
}

static dw_callable note;

#define NOTES 120

static int orch_priorities(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_tensor tensor = cell_at(tree.cells);
	int result = begin_with(orch, NULL, &tensor, 1);

	(void)args;
	(void)config;
	for (int64_t i = 0; i < NOTES && !result; i++) {
		options.priority = i == NOTES - 1 ? DW_PRIORITY_MAX : 0;
		result = submit_one(orch, note, tree.cells, DW_NO_DEP, i, &options, NULL);
	}
	if (!result)
		result = dw_record_end(orch, context);
	if (!result)
		result = dw_orch_wait(orch);
	tensor = cell_at(&tree.cells[NOTES + 1]);
	return result ? result : dw_replay(orch, *(struct dw_graph **)context, &tensor, 1, NULL, 0);
}

TEST_IN_BOTH_MODES(priorities_hold_in_replays)
{
	struct dw_graph *graph = NULL;
	int64_t at = 0;

	tree_create(1, 0, mode, NULL);
	CHECK_EQ(dw_callable_register_sub(tree.root, "note", sub_note, NULL, &note), 0);
	CHECK_EQ(dw_worker_init(tree.root), 0);
	CHECK_EQ(run_of_tree(orch_priorities, &graph), 0);
	CHECK_EQ(tree.cells[NOTES + 1], NOTES);
	while (at < NOTES && tree.cells[NOTES + 2 + at] != NOTES - 1)
		at++;
	/* It was submitted last; what its worker had been given already came before it. */
	if (!CHECK(at < NOTES / 2))
		printf("# it ran as number %lld\n", (long long)at);
	dw_graph_destroy(graph);
	tree_destroy();
}

/* Waits for the other members; scalar[0]: their number. */
static int sub_meets(const struct dw_args *args, void *context)
{
	_Atomic int64_t *met = dw_args_data(args, 0);
	uint64_t begun = now_ns();

	(void)context;
	atomic_fetch_add(met, 1);
	while (atomic_load(met) < dw_args_int(args, 0)) {
		if (dw_task_cancelled() || !unit_within(begun, 20 * SECOND_NS))
			return -ETIMEDOUT;
		sched_yield();
	}
	return 0;
}

static dw_callable meets;

static int orch_groups(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_tensor parameter = cell_at(tree.cells);
	struct dw_args *members[3];
	int result = begin_with(orch, NULL, &parameter, 1);

	(void)args;
	(void)config;
	for (size_t i = 0; i < 3; i++) {
		dw_args_create(&members[i]);
		dw_args_add_tensor(members[i], &parameter, DW_NO_DEP);
		dw_args_add_int(members[i], 3);
	}
	if (!result)
		result = dw_submit_group(orch, meets, members, 3, NULL, NULL, NULL);
	if (!result)
		result = dw_record_scalar(orch, 2, 0, 0);
	if (!result)
		result = dw_record_end(orch, context);
	for (uint32_t i = 1; i < 10 && !result; i++) {
		uint64_t three = 3;

		parameter = cell_at(&tree.cells[i]);
		result = dw_replay(orch, *(struct dw_graph **)context, &parameter, 1, &three, 1);
	}
	for (size_t i = 0; i < 3; i++)
		dw_args_destroy(members[i]);
	return result;
}

TEST_IN_BOTH_MODES(groups_run_together_in_replays)
{
	struct dw_graph *graph = NULL;

	tree_create(SUBS, 0, mode, NULL);
	CHECK_EQ(dw_callable_register_sub(tree.root, "meets", sub_meets, NULL, &meets), 0);
	CHECK_EQ(dw_worker_init(tree.root), 0);
	if (!CHECK_EQ(run_of_tree(orch_groups, &graph), 0))
		printf("# %s\n", dw_strerror_last());
	for (uint32_t i = 0; i < 10; i++)
		CHECK_EQ(tree.cells[i], 3);
	dw_graph_destroy(graph);
	tree_destroy();
}

/* ----------------------------------------------------------------------- pieces */

#define MANY 20000

static int orch_many(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	int result = dw_record_begin(orch, NULL);

	(void)args;
	(void)config;
	for (uint32_t i = 0; i < MANY && !result; i++)
		result = submit_one(orch, tree.add, &tree.cells[i % 16], DW_INOUT, 1, NULL, NULL);
	if (!result)
		result = dw_record_end(orch, context);
	for (uint32_t i = 0; i < 3 && !result; i++)
		result = dw_replay(orch, *(struct dw_graph **)context, NULL, 0, NULL, 0);
	return result;
}

TEST_IN_BOTH_MODES(a_graph_with_more_tasks_than_a_run_may_have_goes_in_pieces)
{
	struct dw_graph *graph = NULL;

	tree_init(2, 0, mode);
	CHECK_EQ(run_of_tree(orch_many, &graph), 0);
	for (uint32_t i = 0; i < 16; i++)
		CHECK_EQ(tree.cells[i], 4 * MANY / 16);
	dw_graph_destroy(graph);
	tree_destroy();
}

/* A task that asks whether it is cancelled, and so many behind it that the replay has to wait. */
static int orch_blocked(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct breaking *breaking = context;
	struct dw_tensor tensor = cell_at(&tree.cells[0]);
	struct dw_args *given;
	int result = dw_record_begin(orch, NULL);

	(void)args;
	(void)config;
	dw_args_create(&given);
	dw_args_add_tensor(given, &tensor, DW_INOUT);
	dw_args_add_int(given, BREAK_NOT);
	dw_args_add_int(given, 0);
	if (!result)
		result = dw_submit(orch, tree.broken, given, NULL, NULL);
	if (!result)
		result = dw_record_scalar(orch, 0, 0, 0);
	for (uint32_t i = 0; i < 10000 && !result; i++)
		result = submit_one(orch, tree.add, &tree.cells[0], DW_INOUT, 1, NULL, NULL);
	dw_args_destroy(given);
	if (!result)
		result = dw_record_end(orch, &breaking->graph);
	if (!result)
		result = dw_orch_wait(orch);
	CHECK_EQ(result, 0);
	result = dw_replay(orch, breaking->graph, NULL, 0, breaking->scalars, 1);
	CHECK_EQ(result, -ECANCELED);
	check_text("the run was cancelled");
	return 0;
}

TEST_IN_BOTH_MODES(a_cancel_ends_a_replay_that_waits)
{
	struct breaking breaking = { .scalars = { BREAK_ASK, 0 } };
	struct dw_run *run = NULL;

	tree_init(2, 0, mode);
	CHECK_EQ(dw_worker_start(tree.root, orch_blocked, NULL, NULL, &breaking, NULL, &run), 0);
	CHECK(heard() > 0);
	CHECK_EQ(dw_run_cancel(run), 0);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	/* No callable is held for the tasks that were not submitted. */
	dw_graph_destroy(breaking.graph);
	CHECK_EQ(dw_callable_unregister(tree.root, tree.add), 0);
	tree_destroy();
}

/* ---------------------------------------------------------------------- nesting */

/* In the process of a nested Worker: records at its first task, and replays at all later ones. */
static int orch_nested(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	static struct dw_graph *graph;
	const struct dw_tensor *cell = dw_args_tensor(args, 0);
	dw_callable add;
	int result = dw_orch_find(orch, "add", &add);

	(void)config;
	(void)context;
	if (!result && graph)
		return dw_replay(orch, graph, cell, 1, NULL, 0);
	if (!result)
		result = begin_with(orch, "inner", cell, 1);
	for (int i = 0; i < 3 && !result; i++)
		result = submit_one(orch, add, dw_args_data(args, 0), DW_INOUT, 5, NULL, NULL);
	return result ? result : dw_record_end(orch, &graph);
}

static dw_callable nested;

static int orch_outer(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct dw_graph **graph = context;
	struct dw_tensor cell = cell_at(tree.cells);
	int64_t *to = &tree.cells[200];
	int result = begin_with(orch, "outer", &cell, 1);

	(void)args;
	(void)config;
	if (!result)
		result = submit_one(orch, nested, tree.cells, DW_INOUT, 0, NULL, NULL);
	if (!result)
		result = submit_copy_of(orch, tree.cells, &to, 0, 0);
	if (!result)
		result = dw_record_end(orch, graph);
	for (uint32_t i = 1; i < 30 && !result; i++) {
		cell = cell_at(&tree.cells[i]);
		result = dw_replay(orch, *graph, &cell, 1, NULL, 0);
	}
	return result;
}

TEST(nested_runs_record_by_themselves)
{
	struct dw_graph *graph = NULL;

	tree_create(1, 1, DW_PROCESS, NULL);
	CHECK_EQ(dw_callable_register_orch(tree.root, "nested", orch_nested, NULL, &nested), 0);
	CHECK_EQ(dw_worker_init(tree.root), 0);
	if (!CHECK_EQ(run_of_tree(orch_outer, &graph), 0))
		printf("# %s\n", dw_strerror_last());
	for (uint32_t i = 0; i < 30; i++)
		CHECK_EQ(tree.cells[i], 15);
	CHECK_EQ(tree.cells[200], 15);
	dw_graph_destroy(graph);
	tree_destroy();
}
