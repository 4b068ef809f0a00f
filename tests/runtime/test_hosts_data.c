/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The data of tasks on other hosts: what travels and what does not, windows, several nodes, chips
 * there with images from here, and what only Workers of this host can do.
 */
#define UNIT_SECONDS 250
#include "hosts.h"

#define LARGE (1 << 20)			/* bytes of a tensor: 16 chunks */
#define NODES 2
#define COUNT 1000			/* elements of a vector */

static struct host_node nodes[NODES];
static struct dw_worker *root;
static dw_callable sum, scale, hold, member, wait_for_word;

/* ------------------------------------------------------------------ functions of both sides */

/* Tensor 1, a cell, becomes the sum of tensor 0. */
static int orch_sum(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	const int64_t *from = dw_args_data(args, 0);
	int64_t *to = dw_args_data(args, 1), all = 0;

	(void)orch;
	(void)config;
	(void)context;
	for (uint32_t i = 0; i < dw_args_tensor(args, 0)->shape[0]; i++)
		all += from[i];
	*to = all;
	return 0;
}

/* Tensor 0 is multiplied by the scalar. */
static int orch_scale(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	int64_t *values = dw_args_data(args, 0);

	(void)orch;
	(void)config;
	(void)context;
	for (uint32_t i = 0; i < dw_args_tensor(args, 0)->shape[0]; i++)
		values[i] *= dw_args_int(args, 0);
	return 0;
}

/* Reports its pid, and continues when the test lets it: tensor 0 becomes 1. */
static int orch_hold(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)orch;
	(void)config;
	(void)context;
	say();
	if (dw_args_int(args, 0))
		for (;;)
			pause();
	*(int64_t *)dw_args_data(args, 0) = 1;
	return 0;
}

static void program(struct dw_worker *of)
{
	CHECK_EQ(dw_callable_register_orch(of, "wait_for_word", host_await_word, NULL,
					   &wait_for_word), 0);
	CHECK_EQ(dw_callable_register_orch(of, "sum", orch_sum, NULL, &sum), 0);
	CHECK_EQ(dw_callable_register_orch(of, "scale", orch_scale, NULL, &scale), 0);
	CHECK_EQ(dw_callable_register_orch(of, "hold", orch_hold, NULL, &hold), 0);
	CHECK_EQ(dw_callable_register_sub(of, "member", sub_nothing, NULL, &member), 0);
}

/* --------------------------------------------------------------------------- a tree */

static void create(unsigned count)
{
	say_prepare();
	hear_nothing();
	for (unsigned i = 0; i < count; i++)
		host_start(&nodes[i], program, NULL);
	root = make_worker(DW_LEVEL_POD, 2, DW_PROCESS);
	program(root);
}

static void init(void)
{
	if (!CHECK_EQ(dw_worker_init(root), 0))
		printf("# %s\n", dw_strerror_last());
}

static void destroy(unsigned count)
{
	dw_worker_destroy(root);
	for (unsigned i = 0; i < count; i++)
		host_stop(&nodes[i]);
	CHECK_EQ(descendants(NULL, 0), 0);
}

static void *buffer(uint64_t bytes, uint32_t flags)
{
	struct dw_buffer_options options = DW_OPTIONS(dw_buffer_options);
	void *made = NULL;

	options.bytes = bytes;
	options.flags = flags;
	CHECK_EQ(dw_buffer_create_with(root, &options, &made), 0);
	return made;
}

static struct dw_child_stats stats_of(const char *path)
{
	struct dw_child_stats stats[16];
	size_t count = 16;

	CHECK_EQ(dw_worker_stats(root, stats, sizeof(stats[0]), &count), 0);
	for (size_t i = 0; i < count && i < 16; i++)
		if (strcmp(stats[i].path, path) == 0)
			return stats[i];
	printf("# no child %s\n", path);
	unit_failures++;
	return (struct dw_child_stats){ 0 };
}

static int submit_task(struct dw_orch *orch, dw_callable callable, const struct dw_tensor *tensors,
		       const enum dw_tag *tags, unsigned count, int64_t scalar,
		       const struct dw_submit_options *options, dw_task *task)
{
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	for (unsigned i = 0; i < count; i++)
		dw_args_add_tensor(args, &tensors[i], tags[i]);
	dw_args_add_int(args, scalar);
	result = dw_submit(orch, callable, args, options, task);
	dw_args_destroy(args);
	return result;
}

static int submit(struct dw_orch *orch, dw_callable callable, const struct dw_tensor *tensors,
		  const enum dw_tag *tags, unsigned count, int64_t scalar,
		  const struct dw_submit_options *options)
{
	return submit_task(orch, callable, tensors, tags, count, scalar, options, NULL);
}

static struct dw_tensor tensor_of(void *data, uint32_t count)
{
	struct dw_tensor tensor;

	CHECK_EQ(dw_tensor_init(&tensor, data, DW_INT64, &count, 1), 0);
	return tensor;
}

static int run(dw_orch_fn *fn, void *context)
{
	int result = dw_worker_run(root, fn, NULL, NULL, context);

	if (result < 0)
		printf("# %s\n", dw_strerror_last());
	return result;
}

/* ------------------------------------------------------------------------ what travels */

struct sums {
	int64_t *from, *to;
	int count;
};

static int orch_sums(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	static const enum dw_tag tags[] = { DW_INPUT, DW_OUTPUT };
	const struct sums *sums = context;
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < sums->count && result == 0; i++) {
		const struct dw_tensor tensors[] = {
			tensor_of(sums->from, LARGE / 8), tensor_of(sums->to + i, 1),
		};

		result = submit(orch, sum, tensors, tags, 2, 0, NULL);
	}
	return result;
}

static void fill(int64_t *values, int64_t with)
{
	for (int i = 0; i < LARGE / 8; i++)
		values[i] = with * i;
}

static int64_t sum_of(int64_t with)
{
	return with * (LARGE / 8 - 1) * (LARGE / 8) / 2;
}

HOST_TEST(an_input_that_does_not_change_travels_once_in_a_run)
{
	struct sums sums = { .count = 10 };
	struct dw_child_stats stats;

	create(1);
	host_worker(root, DW_LEVEL_NODE, 0, &nodes[0]);
	sums.from = buffer(LARGE, 0);
	sums.to = buffer(4096, 0);
	fill(sums.from, 3);
	init();
	CHECK_EQ(run(orch_sums, &sums), 0);
	for (int i = 0; i < sums.count; i++)
		CHECK_EQ(sums.to[i], sum_of(3));
	stats = stats_of("pod0/node0");
	CHECK_EQ(stats.copied_in, LARGE);
	CHECK_EQ(stats.copied_out, sums.count * 8);
	CHECK_EQ(stats.saved, (uint64_t)(sums.count - 1) * LARGE);
	/* Between runs this process may write to it, so its contents count as new. */
	fill(sums.from, 5);
	CHECK_EQ(run(orch_sums, &sums), 0);
	for (int i = 0; i < sums.count; i++)
		CHECK_EQ(sums.to[i], sum_of(5));
	CHECK_EQ(stats_of("pod0/node0").copied_in, 2 * LARGE);
	destroy(1);
}

HOST_TEST(a_kept_buffer_travels_once_for_all_runs_until_it_is_written)
{
	struct sums sums = { .count = 2 };
	int64_t *values = malloc(LARGE);

	create(1);
	host_worker(root, DW_LEVEL_NODE, 0, &nodes[0]);
	sums.from = buffer(LARGE, DW_BUFFER_KEPT);
	sums.to = buffer(4096, 0);
	init();
	for (int64_t with = 1; with <= 2; with++) {
		fill(values, with);
		CHECK_EQ(dw_buffer_write(root, sums.from, values, LARGE), 0);
		for (int i = 0; i < 5; i++) {
			CHECK_EQ(run(orch_sums, &sums), 0);
			CHECK_EQ(sums.to[0], sum_of(with));
		}
	}
	CHECK_EQ(stats_of("pod0/node0").copied_in, 2 * LARGE);
	free(values);
	destroy(1);
}

static int orch_scales(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	static const enum dw_tag tags[] = { DW_INOUT };
	int64_t **tensors = context;
	int result = 0;

	(void)args;
	(void)config;
	for (int round = 0; round < 3; round++)
		for (int i = 0; tensors[i] && result == 0; i++) {
			const struct dw_tensor tensor = tensor_of(tensors[i], LARGE / 8);

			result = submit(orch, scale, &tensor, tags, 1, 2 + i, NULL);
		}
	return result;
}

static void check_scaled(int64_t *const *tensors, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int64_t factor = (2 + i) * (2 + i) * (2 + i);

		for (int k = 0; k < LARGE / 8; k++)
			if (!CHECK_EQ(tensors[i][k], factor * k))
				break;
	}
}

HOST_TEST(tensors_above_the_window_and_several_nodes_leave_the_same_results)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	int64_t *tensors[9] = { NULL };
	struct dw_worker *small;

	create(NODES);
	options.host = nodes[0].address;
	options.host_window_bytes = 4096;
	options.heap_ring_bytes = 1 << 20;
	options.arena_bytes = 1 << 20;
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &small), 0);
	CHECK_EQ(dw_worker_add_child(root, small, NULL), 0);
	host_worker(root, DW_LEVEL_NODE, 0, &nodes[1]);
	host_worker(root, DW_LEVEL_NODE, 0, NULL);
	for (int i = 0; i < 8; i++) {
		tensors[i] = buffer(LARGE, 0);
		fill(tensors[i], 1);
	}
	init();
	CHECK_EQ(run(orch_scales, tensors), 0);
	check_scaled(tensors, 8);
	destroy(NODES);
}

struct crowd {
	int64_t *cell, *tensors[16];
};

/* One task holds the node there; what does not fit behind it has to end meanwhile. */
static int orch_crowd(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct dw_submit_options there = DW_OPTIONS(dw_submit_options);
	static const enum dw_tag tags[] = { DW_INOUT };
	const struct crowd *crowd = context;
	const struct dw_tensor cell = tensor_of(crowd->cell, 1);
	dw_task tasks[16];
	int result;

	(void)args;
	(void)config;
	there.place = DW_PLACE(0);
	result = submit(orch, wait_for_word, &cell, tags, 1, 0, &there);
	CHECK(heard() > 0);
	for (int i = 0; i < 16 && result == 0; i++) {
		const struct dw_tensor tensor = tensor_of(crowd->tensors[i], LARGE / 8);

		result = submit_task(orch, scale, &tensor, tags, 1, 3, NULL, &tasks[i]);
	}
	for (int i = 0; i < 16 && result == 0; i++)
		result = dw_orch_wait_task(orch, tasks[i]);
	host_say_word();
	return result;
}

HOST_TEST(what_has_no_room_in_the_window_ends_elsewhere)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct crowd crowd;
	struct dw_worker *narrow;

	CHECK_EQ(pipe2(host_word, O_CLOEXEC), 0);
	create(1);
	options.host = nodes[0].address;
	options.host_window_bytes = 65536;
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &narrow), 0);
	CHECK_EQ(dw_worker_add_child(root, narrow, NULL), 0);
	host_worker(root, DW_LEVEL_NODE, 0, NULL);
	crowd.cell = buffer(64, 0);
	for (int i = 0; i < 16; i++) {
		crowd.tensors[i] = buffer(LARGE, 0);
		fill(crowd.tensors[i], 1);
	}
	init();
	CHECK_EQ(run(orch_crowd, &crowd), 0);
	for (int i = 0; i < 16; i++)
		CHECK_EQ(crowd.tensors[i][LARGE / 8 - 1], 3 * (LARGE / 8 - 1));
	destroy(1);
	host_drop_word();
}

/* ----------------------------------------------------------------- several hosts, one breaks */

struct holds {
	int64_t *cells;
	int count;
};

/* The first holds its node for ever; the others may go to any. */
static int orch_holds(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	static const enum dw_tag tags[] = { DW_INOUT };
	const struct holds *holds = context;
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < holds->count && result == 0; i++) {
		const struct dw_tensor tensor = tensor_of(&holds->cells[i], 1);

		options.place = i ? 0 : DW_PLACE(0);
		result = submit(orch, hold, &tensor, tags, 1, i == 0, &options);
	}
	return result;
}

HOST_TEST(tasks_that_a_lost_host_has_not_begun_go_to_another)
{
	struct holds holds = { .count = 12 };
	struct dw_run *run = NULL;
	int done = 0;

	create(NODES);
	host_worker(root, DW_LEVEL_NODE, 0, &nodes[0]);
	host_worker(root, DW_LEVEL_NODE, 0, &nodes[1]);
	holds.cells = buffer(4096, 0);
	init();
	CHECK_EQ(dw_worker_start(root, orch_holds, NULL, NULL, &holds, NULL, &run), 0);
	/* Counts the one that hangs, and at least one of the others. */
	CHECK(heard() > 0 && heard() > 0);
	CHECK_EQ(kill(host_session(&nodes[0]), SIGKILL), 0);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	check_text("task 1 ");
	check_text(nodes[0].address);
	/* The data of one more may have been on its way to the lost host: it is lost with it. */
	for (int i = 1; i < holds.count; i++)
		done += holds.cells[i] == 1;
	CHECK(done >= holds.count - 2);
	destroy(NODES);
}

HOST_TEST(host_address_round_trip_and_window_are_seen)
{
	struct holds holds = { .count = 1 };
	struct dw_child_stats stats;
	struct dw_run *run;
	char text[4096], line[700];
	size_t bytes = sizeof(text);

	create(1);
	host_worker(root, DW_LEVEL_NODE, 0, &nodes[0]);
	host_worker(root, DW_LEVEL_NODE, 0, NULL);
	holds.cells = buffer(4096, 0);
	init();
	stats = stats_of("pod0/node0");
	CHECK_STR(stats.host, nodes[0].address);
	CHECK_STR(stats.address, nodes[0].address);
	/* By the handshake alone. */
	CHECK(stats.round_trip_ns > 0 && stats.round_trip_ns < 10 * SECOND_NS);
	CHECK_EQ(stats.window_bytes, 256 << 20);
	CHECK_EQ(stats.window_used, 0);
	stats = stats_of("pod0/node1");
	CHECK(!stats.host[0] && !stats.address[0] && !stats.round_trip_ns && !stats.window_bytes);
	CHECK_EQ(dw_worker_start(root, orch_holds, NULL, NULL, &holds, NULL, &run), 0);
	CHECK(heard() > 0);
	CHECK_EQ(stats_of("pod0/node0").window_used, 8);
	CHECK_EQ(dw_worker_report(root, 0, text, &bytes), 0);
	snprintf(line, sizeof(line), "; on host %s (%s), round trip ", nodes[0].address,
		 nodes[0].address);
	CHECK_STR(text, line);
	CHECK_EQ(kill(host_session(&nodes[0]), SIGKILL), 0);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	destroy(1);
}

/* Tensors of a task: the first holds its node for ever, in a window that has room for no other. */
static int orch_windows(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	static const enum dw_tag tags[] = { DW_INOUT };
	int64_t **tensors = context;
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; tensors[i] && result == 0; i++) {
		const struct dw_tensor tensor = tensor_of(tensors[i], LARGE / 8);

		options.place = i ? 0 : DW_PLACE(0);
		result = submit(orch, hold, &tensor, tags, 1, i == 0, &options);
	}
	return result;
}

HOST_TEST(what_does_not_fit_into_the_window_can_go_to_another_host)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	int64_t *tensors[7] = { NULL };
	struct dw_worker *small;
	struct dw_run *run = NULL;

	create(NODES);
	options.host = nodes[0].address;
	options.host_window_bytes = 4096;
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &small), 0);
	CHECK_EQ(dw_worker_add_child(root, small, NULL), 0);
	host_worker(root, DW_LEVEL_NODE, 0, &nodes[1]);
	for (int i = 0; i < 6; i++) {
		tensors[i] = buffer(LARGE, 0);
		fill(tensors[i], 2);
	}
	init();
	CHECK_EQ(dw_worker_start(root, orch_windows, NULL, NULL, tensors, NULL, &run), 0);
	/* All others run, too, while the first one never ends. */
	for (int i = 0; i < 6; i++)
		CHECK(heard() > 0);
	CHECK_EQ(dw_run_cancel(run), 0);
	CHECK_EQ(kill(host_session(&nodes[0]), SIGKILL), 0);
	CHECK(dw_run_wait(run) < 0);
	destroy(NODES);
}

/* ------------------------------------------------------------------------------ chips there */

struct adds {
	float *a, *b, *c;
	dw_callable orch;
};

static dw_callable add_image;

/* c = a + b on a chip of the Worker that this runs on. */
static int orch_chip(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	dw_callable image;
	struct dw_args *inner;
	int result = dw_orch_find(orch, "sim:vector_add", &image);

	(void)config;
	(void)context;
	if (result < 0)
		return result;
	dw_args_create(&inner);
	for (size_t i = 0; i < 3; i++)
		dw_args_add_tensor(inner, dw_args_tensor(args, i), i < 2 ? DW_INPUT : DW_OUTPUT);
	result = dw_submit(orch, image, inner, NULL, NULL);
	dw_args_destroy(inner);
	return result;
}

static int orch_adds(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	static const enum dw_tag tags[] = { DW_INPUT, DW_INPUT, DW_OUTPUT };
	const struct adds *adds = context;
	struct dw_tensor tensors[3];
	uint32_t count = COUNT;

	(void)args;
	(void)config;
	dw_tensor_init(&tensors[0], adds->a, DW_FLOAT32, &count, 1);
	dw_tensor_init(&tensors[1], adds->b, DW_FLOAT32, &count, 1);
	dw_tensor_init(&tensors[2], adds->c, DW_FLOAT32, &count, 1);
	return submit(orch, adds->orch, tensors, tags, 3, 0, NULL);
}

static dw_callable chip_handle;

static dw_callable add_kernel(void)
{
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	dw_callable callable = 0;

	options.driver = "sim";
	options.entry = "vector_add";
	options.path = beside("fixtures/chip_kernels.so");
	if (!CHECK_EQ(dw_callable_register_image(root, &options, &callable), 0))
		printf("# %s\n", dw_strerror_last());
	return callable;
}

static void chip_program(struct dw_worker *of)
{
	CHECK_EQ(dw_callable_register_orch(of, "chip add", orch_chip, NULL, &chip_handle), 0);
}

/* `late`: the image is registered once the tree is up. */
static void add_on_a_chip(bool late)
{
	struct dw_chip_options chip = { .driver = "sim" };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct adds adds;
	struct dw_worker *node;

	say_prepare();
	host_start(&nodes[0], chip_program, NULL);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	chip_program(root);
	adds.orch = chip_handle;
	options.host = nodes[0].address;
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &node), 0);
	CHECK_EQ(dw_worker_add_child(root, node, NULL), 0);
	adds.a = buffer(3 * COUNT * sizeof(float), 0);
	adds.b = adds.a + COUNT;
	adds.c = adds.b + COUNT;
	for (int i = 0; i < COUNT; i++) {
		adds.a[i] = (float)i;
		adds.b[i] = (float)(2 * i);
	}
	if (!late)
		add_image = add_kernel();
	init();
	if (late)
		add_image = add_kernel();
	CHECK_EQ(run(orch_adds, &adds), 0);
	for (int i = 0; i < COUNT; i++)
		if (!CHECK(adds.c[i] == (float)(3 * i)))
			break;
	CHECK_EQ(dw_callable_unregister(root, add_image), 0);
	CHECK_EQ(dw_worker_run(root, orch_adds, NULL, NULL, &adds), -ENOENT);
	destroy(1);
}

/* The bytes that the chip below was spared, into tensor 3. */
static int orch_chip_saved(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	struct dw_child_stats stats[4];
	size_t count = 4;
	int result = orch_chip(orch, args, config, context);

	if (result == 0)
		result = dw_orch_wait(orch);
	if (result == 0)
		result = dw_worker_stats(dw_orch_worker(orch), stats, sizeof(stats[0]), &count);
	for (size_t i = 0; i < count && result == 0; i++)
		if (stats[i].kind == DW_CHILD_CHIP)
			*(int64_t *)dw_args_data(args, 3) = (int64_t)stats[i].saved;
	return result;
}

static void saved_program(struct dw_worker *of)
{
	CHECK_EQ(dw_callable_register_orch(of, "chip saved", orch_chip_saved, NULL, &chip_handle),
		 0);
}

struct weights {
	float *a, *b, *c;
	int64_t *saved;
};

static int orch_weights(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	static const enum dw_tag tags[] = { DW_INPUT, DW_INPUT, DW_OUTPUT, DW_OUTPUT };
	const struct weights *weights = context;
	struct dw_tensor tensors[4];
	uint32_t count = COUNT;
	int result = 0;

	(void)args;
	(void)config;
	dw_tensor_init(&tensors[0], weights->a, DW_FLOAT32, &count, 1);
	dw_tensor_init(&tensors[1], weights->b, DW_FLOAT32, &count, 1);
	dw_tensor_init(&tensors[2], weights->c, DW_FLOAT32, &count, 1);
	tensors[3] = tensor_of(weights->saved, 1);
	for (int i = 0; i < 5 && result == 0; i++)
		result = submit(orch, chip_handle, tensors, tags, 4, 0, NULL);
	return result;
}

HOST_TEST(a_chip_there_keeps_inputs_under_the_names_of_this_host)
{
	struct dw_chip_options chip = { .driver = "sim" };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct weights weights;
	struct dw_worker *node;

	say_prepare();
	host_start(&nodes[0], saved_program, NULL);
	root = make_worker(DW_LEVEL_POD, 0, DW_PROCESS);
	saved_program(root);
	options.host = nodes[0].address;
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &node), 0);
	CHECK_EQ(dw_worker_add_child(root, node, NULL), 0);
	weights.a = buffer(3 * COUNT * sizeof(float), 0);
	weights.b = weights.a + COUNT;
	weights.c = weights.b + COUNT;
	weights.saved = buffer(4096, 0);
	add_kernel();
	init();
	CHECK_EQ(run(orch_weights, &weights), 0);
	/* Both inputs travel in four of five tasks. */
	CHECK_EQ(*weights.saved, 4 * 2 * COUNT * (int64_t)sizeof(float));
	destroy(1);
}

HOST_TEST(chips_there_have_the_images_of_this_host)
{
	add_on_a_chip(false);
}

HOST_TEST(an_image_that_is_registered_later_reaches_chips_there)
{
	add_on_a_chip(true);
}

/* --------------------------------------------------------------------- what it cannot do */

static int orch_no_dep(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	const struct dw_tensor tensor = tensor_of(context, 1);
	static const enum dw_tag refused[] = { DW_NO_DEP, DW_OUTPUT_EXISTING };
	int result = 0;

	(void)args;
	(void)config;
	for (unsigned i = 0; i < 2; i++) {
		options.place = 0;
		CHECK_EQ(submit(orch, sum, &tensor, &refused[i], 1, 0, &options), -EOPNOTSUPP);
		check_text("tensor 0 is ");
		options.place = DW_PLACE(0);
		CHECK_EQ(submit(orch, sum, &tensor, &refused[i], 1, 0, &options), -EOPNOTSUPP);
	}
	/* A Worker of this host takes it. */
	options.place = DW_PLACE(1);
	result = submit(orch, scale, &tensor, refused, 1, 7, &options);
	return result;
}

static int orch_group(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	static const uint32_t mixed[] = { 0, 1 };
	struct dw_args *members[2];

	(void)args;
	(void)config;
	(void)context;
	dw_args_create(&members[0]);
	dw_args_create(&members[1]);
	CHECK_EQ(dw_submit_group(orch, sum, members, 2, NULL, NULL, NULL), -EOPNOTSUPP);
	CHECK_EQ(dw_submit_group(orch, sum, members, 2, mixed, NULL, NULL), -EOPNOTSUPP);
	check_text("pod0/node0");
	/* Sub workers are of this host. */
	CHECK_EQ(dw_submit_group(orch, member, members, 2, NULL, NULL, NULL), 0);
	dw_args_destroy(members[0]);
	dw_args_destroy(members[1]);
	return 0;
}

HOST_TEST(tags_and_groups_that_need_one_memory_are_refused_at_the_submit)
{
	int64_t *cell;

	create(1);
	host_worker(root, DW_LEVEL_NODE, 0, &nodes[0]);
	host_worker(root, DW_LEVEL_NODE, 0, NULL);
	cell = buffer(4096, 0);
	*cell = 6;
	init();
	CHECK_EQ(run(orch_no_dep, cell), 0);
	CHECK_EQ(*cell, 42);
	CHECK_EQ(run(orch_group, NULL), 0);
	destroy(1);
}
