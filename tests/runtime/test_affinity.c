/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Tasks go to the chip that has their inputs, unless they would wait there: two chips, and a kept
 * buffer, so that names outlive runs.
 */
#include "chips.h"

#define WEIGHTS 4
#define WEIGHT (1u << 17)	/* words: 1 MiB, a copy that pays for a wake-up */
#define RESULT 64
#define RESULTS 16
#define CHIP "memory=67108864"

static struct {
	struct dw_worker *root;
	uint64_t *weights, *results;
	dw_callable combine, meet;
	int ping[2], pong[2];
} tree;

static void tree_create(enum dw_mode mode)
{
	static const struct dw_chip_options chip = { .driver = "sim", .options = CHIP };
	const struct dw_chip_options both[2] = { chip, chip };
	struct dw_buffer_options buffer = DW_OPTIONS(dw_buffer_options);
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	void *memory = NULL;

	options.mode = mode;
	options.chips = both;
	options.chip_count = 2;
	options.chip_size = sizeof(chip);
	options.timeout_ns = 20000 * MS;
	CHECK_EQ(dw_worker_create(3, &options, &tree.root), 0);
	buffer.bytes = (WEIGHTS * WEIGHT + RESULTS * RESULT) * sizeof(uint64_t);
	buffer.flags = DW_BUFFER_KEPT;
	CHECK_EQ(dw_buffer_create_with(tree.root, &buffer, &memory), 0);
	tree.weights = memory;
	tree.results = tree.weights + WEIGHTS * WEIGHT;
	CHECK(pipe2(tree.ping, O_CLOEXEC) == 0 && pipe2(tree.pong, O_CLOEXEC) == 0);
	tree.combine = kernel_image(tree.root, "combine");
	tree.meet = kernel_image(tree.root, "meet");
	if (!CHECK_EQ(dw_worker_init(tree.root), 0))
		printf("# %s\n", dw_strerror_last());
}

static void tree_destroy(void)
{
	dw_worker_destroy(tree.root);
	for (int i = 0; i < 2; i++) {
		close(tree.ping[i]);
		close(tree.pong[i]);
	}
}

static struct call weight_call(dw_callable callable, uint32_t weight, uint32_t result)
{
	struct call call = { .callable = callable, .options = DW_OPTIONS(dw_submit_options) };

	call_tensor(&call, tree.weights + weight * WEIGHT, DW_UINT64, WEIGHT, DW_INPUT);
	call_tensor(&call, tree.results + result * RESULT, DW_UINT64, RESULT, DW_OUTPUT);
	return call;
}

/* Each weight is on one chip: 0 and 2 on the first, 1 and 3 on the second. */
static int orch_spread(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	for (uint32_t i = 0; i < WEIGHTS; i++) {
		struct call call = weight_call(tree.combine, i, i);

		call.options.place = DW_PLACE(i % 2);
		CHECK_EQ(submit_call(orch, &call, NULL), 0);
	}
	return 0;
}

static int orch_one_by_one(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	for (uint32_t i = 0; i < 40; i++) {
		struct call call = weight_call(tree.combine, i * 7 % WEIGHTS, 0);

		CHECK_EQ(submit_call(orch, &call, NULL), 0);
		CHECK_EQ(dw_orch_wait(orch), 0);
	}
	return 0;
}

/* Bytes that were copied to both chips, and the tasks that each of them has done. */
static uint64_t copied_in(uint64_t done[2])
{
	struct dw_child_stats stats[2];
	size_t count = 2;

	CHECK_EQ(dw_worker_stats(tree.root, stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(count, 2);
	for (int i = 0; i < 2; i++)
		done[i] = stats[i].tasks_done;
	return stats[0].copied_in + stats[1].copied_in;
}

TEST_IN_BOTH_MODES(a_task_goes_to_the_chip_that_has_what_it_reads)
{
	uint64_t done[2];

	tree_create(mode);
	CHECK_EQ(dw_worker_run(tree.root, orch_spread, NULL, NULL, NULL), 0);
	CHECK_EQ(dw_worker_run(tree.root, orch_one_by_one, NULL, NULL, NULL), 0);
	CHECK_EQ(copied_in(done), WEIGHTS * WEIGHT * sizeof(uint64_t));
	CHECK_EQ(done[0], 22);
	CHECK_EQ(done[1], 22);
	tree_destroy();
}

/* A task that writes to one pipe and waits for `bytes` from the other. */
static void submit_meet(struct dw_orch *orch, uint32_t result, int to, int from, uint64_t bytes,
			uint32_t place)
{
	struct call call = weight_call(tree.meet, 0, result);

	call.scalar[0] = (uint64_t)to;
	call.scalar[1] = (uint64_t)from;
	call.scalar[2] = bytes;
	call.scalars = 3;
	call.options.place = place;
	CHECK_EQ(submit_call(orch, &call, NULL), 0);
}

/* The first ends when all others have run; all read the weight that the first chip has. */
static int orch_meet(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	uint32_t others = *(uint32_t *)context;

	(void)args;
	(void)config;
	submit_meet(orch, 0, tree.pong[1], tree.ping[0], others, 0);
	for (uint32_t i = 0; i < others; i++)
		submit_meet(orch, 1 + i, tree.ping[1], tree.pong[0], i == 0, 0);
	return 0;
}

/* Tasks whose wait is over at once, so that the library learns that they are short. */
static int orch_short(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	for (int i = 0; i < 50; i++)
		submit_meet(orch, 0, tree.ping[1], tree.ping[0], 1, DW_PLACE(0));
	return 0;
}

static void all_meet(enum dw_mode mode, bool known_as_short, uint32_t others)
{
	uint64_t done[2];

	tree_create(mode);
	CHECK_EQ(dw_worker_run(tree.root, orch_spread, NULL, NULL, NULL), 0);
	if (known_as_short)
		CHECK_EQ(dw_worker_run(tree.root, orch_short, NULL, NULL, NULL), 0);
	if (!CHECK_EQ(dw_worker_run(tree.root, orch_meet, NULL, NULL, &others), 0))
		printf("# %s\n", dw_strerror_last());
	copied_in(done);
	/* One chip has run the first, and the other one all others. */
	CHECK(done[0] == 3 + (known_as_short ? 50 : 0) || done[1] == 3);
	tree_destroy();
}

TEST_IN_BOTH_MODES(a_busy_chip_does_not_hold_up_what_it_has)
{
	all_meet(mode, false, 1);
}

/* The others wait behind the first, which is expected to be short: but not for ever. */
TEST_IN_BOTH_MODES(a_chip_that_is_busy_for_longer_than_was_known_does_not_either)
{
	all_meet(mode, true, 1);
}

TEST_IN_BOTH_MODES(both_chips_work_on_tasks_that_read_what_one_of_them_has)
{
	all_meet(mode, true, RESULTS - 1);
}
