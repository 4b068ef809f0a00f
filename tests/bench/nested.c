// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Directed chains and trees: nested chips|workers --children N: a chain of
 * no-ops, each sent to the next child; nested burst --children N: independent no-ops, sent in turn
 * to N chips; nested tree --levels N: a task that every level hands on to the one below, down to a
 * sub worker; nested idle: the cost of an idle tree.
 */
#include <distworker/distworker.h>
#include "bench.h"

struct bench {
	struct dw_worker *root;
	dw_callable nothing, pass, all;
	void *cell;
	uint64_t tasks;
	uint32_t children;
	uint32_t cells;			/* tensors that a directed task has */
	double *samples;
};

static int orch_nothing(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	(void)orch, (void)args, (void)config, (void)context;
	return 0;
}

/* Dependent tasks, all submitted at once. */
static int chain(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		 void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct bench *bench = context;
	struct dw_tensor tensor = bytes_tensor(bench->cell, 8);
	struct dw_args *args;

	(void)in, (void)config;
	if (dw_args_create(&args) || dw_args_add_tensor(args, &tensor, DW_INOUT))
		fail("dw_args");
	for (uint64_t i = 0; i < bench->tasks; i++) {
		options.place = DW_PLACE(i % bench->children);
		if (dw_submit(orch, bench->nothing, args, &options, NULL))
			fail("dw_submit");
	}
	dw_args_destroy(args);
	return 0;
}

/* Independent tasks, to all children in turn. */
static int burst(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		 void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct bench *bench = context;
	struct dw_args *args;

	(void)in, (void)config;
	if (dw_args_create(&args))
		fail("dw_args");
	for (uint64_t i = 0; i < bench->tasks; i++) {
		options.place = DW_PLACE(i % bench->children);
		if (dw_submit(orch, bench->nothing, args, &options, NULL))
			fail("dw_submit");
	}
	dw_args_destroy(args);
	return 0;
}

/* Scalar 0: the number of levels below this one. */
static int pass_on(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		   void *context)
{
	struct bench *bench = context;
	uint64_t below = dw_args_scalar(in, 0);
	struct dw_args *args;
	int err;

	(void)config;
	if (dw_args_create(&args))
		return -ENOMEM;
	if (below)
		dw_args_add_scalar(args, below - 1);
	err = dw_submit(orch, below ? bench->pass : bench->nothing, args, NULL, NULL);
	dw_args_destroy(args);
	return err;
}

static int trips(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		 void *context)
{
	struct bench *bench = context;

	for (uint64_t i = 0; i < bench->tasks; i++) {
		uint64_t start = now_ns();

		if (pass_on(orch, in, config, context) || dw_orch_wait(orch))
			fail("trip");
		bench->samples[i] = (double)(now_ns() - start);
	}
	return 0;
}

static void open_directed(struct bench *bench, bool chips)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	struct dw_chip_options chip[64];
	const char *driver = getenv("BENCH_NULL_DRIVER");
	static const int32_t signature[] = { DW_DIR_INOUT };
	uint32_t id;

	for (uint32_t i = 0; i < bench->children; i++)
		chip[i] = (struct dw_chip_options){ .driver = driver, .device = i };
	if (chips) {
		options.chip_count = bench->children;
		options.chip_size = sizeof(struct dw_chip_options);
		options.chips = chip;
	}
	if (dw_worker_create(DW_LEVEL_POD, &options, &bench->root))
		fail("dw_worker_create");
	for (uint32_t i = 0; !chips && i < bench->children; i++)
		if (dw_worker_add_child(bench->root, new_worker(DW_LEVEL_NODE, 1), &id))
			fail("dw_worker_add_child");
	image.driver = driver;
	image.entry = "nothing";
	image.data = "nothing";
	image.bytes = 8;
	image.signature = signature;
	image.signature_count = bench->cells;
	if ((!chips && dw_callable_register_orch(bench->root, "nothing", orch_nothing, NULL,
						 &bench->nothing)) ||
	    dw_buffer_create(bench->root, 4096, &bench->cell) || dw_worker_init(bench->root) ||
	    (chips && dw_callable_register_image(bench->root, &image, &bench->nothing)))
		fail("open");
}

/* Counts the children of the tree that have had a task. */
static uint32_t children_with_tasks(struct bench *bench)
{
	struct dw_child_stats children[64];
	size_t count = 64;
	uint32_t worked = 0;

	if (dw_worker_stats(bench->root, children, sizeof(children[0]), &count))
		fail("dw_worker_stats");
	for (size_t i = 0; i < count && i < 64; i++)
		worked += children[i].tasks_done != 0;
	return worked;
}

static void directed(struct bench *bench, dw_orch_fn *tasks_of, bool chips)
{
	uint64_t tasks = bench->tasks, start;

	open_directed(bench, chips);
	bench->tasks = tasks / 10 + 1;
	if (dw_worker_run(bench->root, tasks_of, NULL, NULL, bench))
		fail("dw_worker_run");
	bench->tasks = tasks;
	start = now_ns();
	if (dw_worker_run(bench->root, tasks_of, NULL, NULL, bench))
		fail("dw_worker_run");
	print("us_per_task", (double)(now_ns() - start) / 1e3 / (double)tasks);
	print("children_with_tasks", children_with_tasks(bench));
}

/* From level 3 + levels - 1 down to level 3, one child each, and a sub worker at the end. */
static void tree(struct bench *bench, uint32_t levels)
{
	struct dw_worker *below = NULL;
	uint64_t tasks = bench->tasks;
	struct dw_args *args;
	uint32_t id;

	for (uint32_t i = 0; i < levels; i++) {
		struct dw_worker *worker = new_worker(DW_LEVEL_NODE + i, i == 0);

		if (below && dw_worker_add_child(worker, below, &id))
			fail("dw_worker_add_child");
		below = worker;
	}
	bench->root = below;
	bench->samples = calloc(tasks, sizeof(double));
	if (dw_callable_register_sub(bench->root, "nothing", sub_nothing, NULL, &bench->nothing) ||
	    dw_callable_register_orch(bench->root, "pass", pass_on, bench, &bench->pass) ||
	    dw_worker_init(bench->root) || dw_args_create(&args) ||
	    dw_args_add_scalar(args, levels - 1))
		fail("open");
	bench->tasks = tasks / 4 + 1;
	if (dw_worker_run(bench->root, trips, args, NULL, bench))
		fail("dw_worker_run");
	bench->tasks = tasks;
	if (dw_worker_run(bench->root, trips, args, NULL, bench))
		fail("dw_worker_run");
	print("median_us", percentile(bench->samples, tasks, 0.5) / 1e3);
	print("us_per_level", percentile(bench->samples, tasks, 0.5) / 1e3 / levels);
	dw_args_destroy(args);
}

/* --------------------------------------------------------------------- idle */

#define ELEMENTS 16

/* Four sub workers at once, then each chip. Scalar 0: the image; the tensors are its own. */
static int work_on_all(struct dw_orch *orch, const struct dw_args *in,
		       const struct dw_config *config, void *context)
{
	static const enum dw_tag tags[] = { DW_INPUT, DW_INPUT, DW_OUTPUT };
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct bench *bench = context;
	struct dw_args *none[4], *args;
	uint32_t shape = ELEMENTS;

	(void)config;
	for (size_t i = 0; i < 4; i++)
		if (dw_args_create(&none[i]))
			fail("dw_args");
	if (dw_submit_group(orch, bench->nothing, none, 4, NULL, NULL, NULL) ||
	    dw_args_create(&args))
		fail("subs");
	for (size_t i = 0; i < 3; i++) {
		struct dw_tensor tensor;

		dw_tensor_init(&tensor, (float *)bench->cell + i * ELEMENTS, DW_FLOAT32, &shape, 1);
		if (dw_args_add_tensor(args, &tensor, tags[i]))
			fail("dw_args");
	}
	for (options.place = DW_PLACE(0); options.place <= DW_PLACE(3); options.place++)
		if (dw_submit(orch, dw_args_scalar(in, 0), args, &options, NULL))
			fail("chip");
	if (dw_orch_wait(orch))
		fail("dw_orch_wait");
	for (size_t i = 0; i < 4; i++)
		dw_args_destroy(none[i]);
	dw_args_destroy(args);
	return 0;
}

static int all_nodes(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		     void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct bench *bench = context;
	struct dw_args *args;

	(void)config;
	if (dw_args_create(&args) || dw_args_add_scalar(args, dw_args_scalar(in, 0)))
		fail("dw_args");
	for (options.place = DW_PLACE(0); options.place <= DW_PLACE(1); options.place++)
		if (dw_submit(orch, bench->all, args, &options, NULL))
			fail("dw_submit");
	dw_args_destroy(args);
	return 0;
}

/* L4 → 2 × L3 → 4 chips and 4 sub workers each. Each of them has worked once, and then waits. */
static void idle_tree(int ready)
{
	struct bench bench = { .tasks = 1000, .samples = calloc(1000, sizeof(double)) };
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	struct dw_chip_options chips[4];
	struct dw_args *args, *all;
	dw_callable add;
	uint32_t id;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bench.root = new_worker(DW_LEVEL_POD, 0);
	for (uint32_t i = 0; i < 2; i++) {
		struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
		struct dw_worker *node;

		for (uint32_t c = 0; c < 4; c++)
			chips[c] = (struct dw_chip_options){ .driver = "sim", .device = i * 4 + c };
		options.subs = 4;
		options.chip_count = 4;
		options.chip_size = sizeof(struct dw_chip_options);
		options.chips = chips;
		if (dw_worker_create(DW_LEVEL_NODE, &options, &node) ||
		    dw_worker_add_child(bench.root, node, &id))
			fail("node");
	}
	if (dw_callable_register_sub(bench.root, "nothing", sub_nothing, NULL, &bench.nothing) ||
	    dw_callable_register_orch(bench.root, "pass", pass_on, &bench, &bench.pass) ||
	    dw_callable_register_orch(bench.root, "all", work_on_all, &bench, &bench.all) ||
	    dw_buffer_create(bench.root, 4096, &bench.cell) || dw_worker_init(bench.root) ||
	    dw_args_create(&args) || dw_args_add_scalar(args, 1) ||
	    dw_worker_run(bench.root, trips, args, NULL, &bench))
		fail("idle tree");
	image.driver = "sim";
	image.entry = "vector_add";
	image.path = getenv("BENCH_IMAGE");
	if (dw_callable_register_image(bench.root, &image, &add) || dw_args_create(&all) ||
	    dw_args_add_scalar(all, add) || dw_worker_run(bench.root, all_nodes, all, NULL, &bench))
		fail("all of the idle tree");
	/* Two nodes, eight chips and eight sub workers. */
	if (children_with_tasks(&bench) != 18) {
		fprintf(stderr, "nested: only %u of 18 children had a task\n",
			children_with_tasks(&bench));
		exit(1);
	}
	if (write(ready, "r", 1) != 1)
		exit(1);
	for (;;)
		pause();
}

static void idle(uint64_t seconds)
{
	int ready[2];
	pid_t owner;
	char byte;

	if (pipe(ready))
		exit(1);
	owner = fork();
	if (owner == 0)
		idle_tree(ready[1]);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		exit(1);
	measure_idle(owner, seconds);
	end_process(owner);
}

int main(int argc, char **argv)
{
	struct bench bench = { .children = (uint32_t)argument(argc, argv, "children", 4) };
	const char *mode = argc > 1 ? argv[1] : "";

	if (bench.children < 1 || bench.children > 64)
		return 2;
	if (!strcmp(mode, "chips") || !strcmp(mode, "workers")) {
		bench.tasks = argument(argc, argv, "tasks", 20000);
		bench.cells = 1;
		directed(&bench, chain, !strcmp(mode, "chips"));
	} else if (!strcmp(mode, "burst")) {
		bench.tasks = argument(argc, argv, "tasks", 200000);
		directed(&bench, burst, true);
	} else if (!strcmp(mode, "tree")) {
		bench.tasks = argument(argc, argv, "tasks", 2000);
		tree(&bench, (uint32_t)argument(argc, argv, "levels", 4));
	} else if (!strcmp(mode, "idle")) {
		idle(argument(argc, argv, "seconds", 10));
		return 0;
	} else {
		fprintf(stderr,
			"usage: nested chips|workers|burst|tree|idle [--children N] [--tasks N] "
			"[--levels N] [--seconds N]\n");
		return 2;
	}
	dw_worker_destroy(bench.root);
	return 0;
}
