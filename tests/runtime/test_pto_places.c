/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Tensors that stay on a pto chip, and two runs in flight there, through a Worker: the stand-in
 * runtime's log shows the copies, and the order of the calls.
 */
#include "chips_pto.h"

#define BYTES (COUNT * sizeof(float))
#define RUNS 200
#define TASKS 40

static struct dw_chip_options chip;

/* `kept`: the buffer is one that host code touches through calls alone. */
static void node_create(struct rig *rig, enum dw_mode mode, const char *runtime,
			const char *behaviour, bool kept)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_buffer_options buffer = DW_OPTIONS(dw_buffer_options);
	float start[COUNT];
	void *memory = NULL;

	pto_prepare_runtime(runtime, behaviour);
	chip = (struct dw_chip_options){ .driver = "pto", .device = 2, .options = pto_options };
	memset(rig, 0, sizeof(*rig));
	options.mode = mode;
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	REQUIRE(dw_worker_create(3, &options, &rig->node) == 0);
	buffer.bytes = BYTES * (2 + TASKS);
	buffer.flags = kept ? DW_BUFFER_KEPT : 0;
	REQUIRE(dw_buffer_create_with(rig->node, &buffer, &memory) == 0);
	rig->a = memory;
	rig->b = rig->a + COUNT;
	rig->c = rig->b + COUNT;
	REQUIRE(rig_init(rig) == 0);
	for (int which = 0; which < 2; which++) {
		for (int i = 0; i < COUNT; i++)
			start[i] = (float)((1 + which) * i);
		CHECK_EQ(dw_buffer_write(rig->node, which ? rig->b : rig->a, start, BYTES), 0);
	}
}

static void node_destroy(struct rig *rig)
{
	rig_destroy(rig);
	pto_clean();
}

/* Events of the log: the line's first word is one of them. */
static char *log_read(void)
{
	static char text[1 << 20];
	FILE *file = fopen(pto_log, "re");
	size_t bytes = file ? fread(text, 1, sizeof(text) - 1, file) : 0;

	if (file)
		fclose(file);
	text[bytes] = '\0';
	return text;
}

static unsigned log_count(const char *line)
{
	unsigned count = 0;

	for (const char *at = log_read(); at && *at;
	     at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
		count += strncmp(at, line, strlen(line)) == 0;
	return count;
}

/* Runs that were prepared while another was under way. */
static unsigned prepared_beside(void)
{
	bool under_way = false;
	unsigned count = 0;

	for (const char *at = log_read(); at && *at;
	     at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
		if (strncmp(at, "launch ", 7) == 0)
			under_way = true;
		else if (strncmp(at, "finalize_run ", 13) == 0)
			under_way = false;
		else if (strncmp(at, "prepare ", 8) == 0)
			count += under_way;
	}
	return count;
}

static void kept_runs(enum dw_mode mode, const char *behaviour)
{
	struct dw_child_stats stats;
	struct call call;
	struct rig rig;

	node_create(&rig, mode, "pto_present", behaviour, true);
	call = pto_call(&rig, pto_image(&rig), 0);
	for (int run = 0; run < RUNS; run++)
		CHECK_EQ(run_calls(&rig, &call, 1), 0);
	CHECK_EQ(wrong(&rig, 0, 1), 0);
	CHECK_EQ(log_count("to 4000"), 2);
	CHECK_EQ(log_count("from 4000"), RUNS);
	stats = chip_stats(&rig, "node0/chip0");
	CHECK_EQ(stats.copied_in, 2 * BYTES);
	CHECK_EQ(stats.copied_out, RUNS * BYTES);
	CHECK_EQ(stats.saved, (RUNS - 1) * 2 * BYTES);
	CHECK_EQ(log_count("wrong"), 0);
	node_destroy(&rig);
}

TEST_IN_BOTH_MODES(a_kept_buffer_is_copied_once_for_many_runs)
{
	kept_runs(mode, "");
	kept_runs(mode, "depth=2 concurrent");
}

/* Without a kept buffer each run copies; with the old interface the runtime copies each time. */
TEST_IN_BOTH_MODES(other_buffers_are_copied_by_each_run)
{
	struct call call;
	struct rig rig;

	node_create(&rig, mode, "pto_present", "", false);
	call = pto_call(&rig, pto_image(&rig), 0);
	for (int run = 0; run < 10; run++)
		CHECK_EQ(run_calls(&rig, &call, 1), 0);
	CHECK_EQ(log_count("to 4000"), 20);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").copied_in, 20 * BYTES);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").saved, 0);
	node_destroy(&rig);
	node_create(&rig, mode, "pto_runtime", "", true);
	call = pto_call(&rig, pto_image(&rig), 0);
	for (int run = 0; run < 10; run++)
		CHECK_EQ(run_calls(&rig, &call, 1), 0);
	/* Inputs, too, are copied back. */
	CHECK_EQ(chip_stats(&rig, "node0/chip0").copied_in, 30 * BYTES);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").copied_out, 30 * BYTES);
	node_destroy(&rig);
}

/* Tasks that follow each other closely: the next one is prepared while one is under way. */
TEST_IN_BOTH_MODES(each_next_run_of_many_is_prepared_beside_another)
{
	struct call calls[TASKS];
	dw_callable image;
	struct rig rig;

	node_create(&rig, mode, "pto_present", "depth=2 concurrent run_us=2000", true);
	image = pto_image(&rig);
	for (unsigned i = 0; i < TASKS; i++)
		calls[i] = pto_call(&rig, image, i);
	CHECK_EQ(run_calls(&rig, calls, TASKS), 0);
	CHECK_EQ(wrong(&rig, 0, TASKS), 0);
	CHECK_EQ(log_count("wrong"), 0);
	printf("# %u of %d tasks were prepared beside another\n", prepared_beside(), TASKS);
	CHECK(prepared_beside() >= TASKS / 2);
	node_destroy(&rig);
}

#define CHAIN 5		/* tasks: all are published at once */

struct chain {
	struct rig *rig;
	struct call *call;
};

/* The chip is stopped until all are there. */
static int orch_chain(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	const struct chain *chain = context;
	pid_t pid = chip_stats(chain->rig, "node0/chip0").pid;

	(void)args;
	(void)config;
	CHECK_EQ(kill(pid, SIGSTOP), 0);
	for (int i = 0; i < CHAIN; i++)
		CHECK_EQ(submit_call(orch, chain->call, NULL), 0);
	CHECK_EQ(kill(pid, SIGCONT), 0);
	return 0;
}

/* Each task writes the same result again, so the one before copies nothing home. */
TEST(a_result_that_the_next_task_writes_again_is_copied_once)
{
	static const char *const behaviours[] = { "", "depth=2 concurrent" };

	for (int i = 0; i < 2; i++) {
		struct dw_child_stats stats;
		struct chain chain;
		struct call call;
		struct rig rig;

		node_create(&rig, DW_PROCESS, "pto_present", behaviours[i], false);
		call = pto_call(&rig, pto_image(&rig), 0);
		chain = (struct chain){ .rig = &rig, .call = &call };
		CHECK_EQ(dw_worker_run(rig.node, orch_chain, NULL, NULL, &chain), 0);
		CHECK_EQ(wrong(&rig, 0, 1), 0);
		CHECK_EQ(log_count("to 4000"), 2);
		CHECK_EQ(log_count("from 4000"), 1);
		stats = chip_stats(&rig, "node0/chip0");
		CHECK_EQ(stats.tasks_done, CHAIN);
		CHECK_EQ(stats.copied_in, 2 * BYTES);
		CHECK_EQ(stats.copied_out, BYTES);
		/* Of each but the first its inputs; of each but the last its result. */
		CHECK_EQ(stats.saved, (CHAIN - 1) * 3 * BYTES);
		CHECK_EQ(log_count("wrong"), 0);
		node_destroy(&rig);
	}
}
