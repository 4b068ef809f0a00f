/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Memory of a chip that has died: what was in it is lost, tasks that name it say which memory, of
 * which chip, and why, and the replacement begins without.
 */
#include "chip_memory.h"

/* Waits until the chip has another process. */
static void wait_for_successor(struct rig *rig, pid_t before)
{
	uint64_t begun = now_ns();
	struct dw_child_stats stats;

	do {
		pause_ms(2);
		stats = chip_stats(rig, "node0/chip0");
	} while ((!stats.alive || stats.pid == before) && unit_within(begun, 20000 * MS));
	CHECK(stats.alive && stats.pid != before);
}

static void lost_in(enum dw_restart restart)
{
	struct dw_chip_options chips[1] = { { .driver = "sim" } };
	struct dw_tensor host, memory, again;
	struct dw_child_stats stats;
	char address[40];
	struct rig rig;
	pid_t pid;

	rig_create(&rig, DW_PROCESS, restart, chips, 1);
	struct call add = add_call(&rig, sim_image(&rig, "vector_add"), 0);
	struct steps steps = { .all = &(struct step){ .call = &add, .name = NULL }, .count = 1 };

	REQUIRE(rig_init(&rig) == 0);
	host = host_tensor(rig.a, DW_FLOAT32, COUNT);
	memory = memory_on(rig.node, 0, DW_FLOAT32, COUNT);
	CHECK_EQ(run_copy(rig.node, &memory, &host), 0);
	add.tensor[0] = memory;
	add.options.place = DW_PLACE(0);
	CHECK_EQ(run_steps(rig.node, &steps), 0);
	CHECK_EQ(wrong(&rig, 0, 1), 0);
	pid = chip_stats(&rig, "node0/chip0").pid;
	kill(pid, SIGKILL);
	if (restart == DW_RESTART_ON_DEATH) {
		/* Waits for the replacement. */
		again = memory_on(rig.node, 0, DW_FLOAT32, COUNT);
		wait_for_successor(&rig, pid);
		CHECK(again.data != memory.data);
	} else {
		uint32_t count = 1;
		int result = 0;

		while (result == 0)
			result = dw_chip_memory_create(rig.node, 0, DW_FLOAT32, &count, 1, &again);
		CHECK_EQ(result, -EOWNERDEAD);
		CHECK_STR(dw_strerror_last(), "killed by SIGKILL");
	}
	/* The error names the memory, the chip, and the reason. */
	snprintf(address, sizeof(address), "%#llx + %u bytes", (unsigned long long)memory.data,
		 COUNT * 4);
	CHECK_EQ(run_steps(rig.node, &steps), -EFAULT);
	CHECK_STR(steps.text, address);
	CHECK_STR(steps.text, "node0/chip0, which is lost: killed by SIGKILL");
	CHECK_EQ(run_copy(rig.node, &host, &memory), -EFAULT);
	stats = chip_stats(&rig, "node0/chip0");
	if (restart == DW_RESTART_ON_DEATH) {
		CHECK_EQ(stats.memory_used, 4032);	/* of `again`, in units of 64 bytes */
		/* The copy and the other input of the call, in its first life. */
		CHECK_EQ(stats.copied_in, 2 * COUNT * 4);
		memset(rig.c, 0xff, COUNT * 4);
		host = host_tensor(rig.c, DW_FLOAT32, COUNT);
		CHECK_EQ(run_copy(rig.node, &host, &again), 0);
		for (int i = 0; i < COUNT; i++)
			REQUIRE(rig.c[i] == 0);
		give_back(rig.node, &again);
	} else {
		CHECK_EQ(stats.memory_used, 0);
	}
	give_back(rig.node, &memory);
	CHECK_EQ(dw_chip_memory_destroy(rig.node, &memory), -ENOENT);
	rig_destroy(&rig);
}

TEST(memory_of_a_dead_chip_is_lost_by_name)
{
	lost_in(DW_RESTART_NEVER);
	lost_in(DW_RESTART_ON_DEATH);
}

/* Tasks that were on their way when the chip died: its successor has not got the memory. */
TEST(task_that_was_queued_when_its_memory_was_lost_says_so)
{
	struct dw_chip_options chips[1] = { { .driver = "sim" } };
	struct dw_run_error error = DW_OPTIONS(dw_run_error);
	struct dw_tensor memory, back;
	struct call wild, add;
	uint64_t count = 0;
	struct rig rig;
	int seen = 0;

	rig_create(&rig, DW_PROCESS, DW_RESTART_ON_DEATH, chips, 1);
	wild = out_call(&rig, sim_image(&rig, "wild"), 1);
	add = add_call(&rig, sim_image(&rig, "vector_add"), 0);
	REQUIRE(rig_init(&rig) == 0);
	memory = memory_on(rig.node, 0, DW_FLOAT32, COUNT);
	back = host_tensor(rig.c + 2 * COUNT, DW_FLOAT32, COUNT);
	add.tensor[0] = memory;
	add.options.place = wild.options.place = DW_PLACE(0);
	CHECK(RUN(rig.node, { .call = &wild }, { .call = &add }, { .to = &back, .from = &memory }) <
	      0);
	CHECK_EQ(dw_run_error_count(NULL, &count, NULL), 0);
	for (uint32_t i = 0; i < count; i++) {
		CHECK_EQ(dw_run_error(NULL, i, &error), 0);
		if (error.error != -EFAULT)
			continue;
		seen++;
		CHECK_STR(error.text, "node0/chip0");
		CHECK_STR(error.text, "killed by SIGSEGV");
		CHECK_STR(error.text, "lost");
	}
	CHECK_EQ(seen, 2);
	give_back(rig.node, &memory);
	rig_destroy(&rig);
}

/* A device that is lost takes its memory along, in a thread too. */
TEST_IN_BOTH_MODES(memory_of_a_lost_device_is_lost)
{
	struct dw_chip_options chips[1] = { { .driver = "sim", .options = "lost_after=2" } };
	struct dw_tensor host, memory;
	struct rig rig;
	int result = 0;

	rig_create(&rig, mode, DW_RESTART_ON_DEATH, chips, 1);
	struct call add = add_call(&rig, sim_image(&rig, "vector_add"), 0);
	struct steps steps = { .all = &(struct step){ .call = &add }, .count = 1 };

	REQUIRE(rig_init(&rig) == 0);
	host = host_tensor(rig.a, DW_FLOAT32, COUNT);
	memory = memory_on(rig.node, 0, DW_FLOAT32, COUNT);
	CHECK_EQ(run_copy(rig.node, &memory, &host), 0);
	add.tensor[0] = memory;
	add.options.place = DW_PLACE(0);
	CHECK_EQ(run_steps(rig.node, &steps), 0);
	for (int i = 0; i < 3 && result != -EFAULT; i++)
		result = run_steps(rig.node, &steps);
	CHECK_EQ(result, -EFAULT);
	CHECK_STR(steps.text, "tensor 0");
	CHECK_STR(steps.text, "node0/chip0");
	CHECK_STR(steps.text, "sim device 0 is lost");
	/* Asked again later, before any chip is handed it. */
	CHECK_EQ(run_steps(rig.node, &steps), -EFAULT);
	CHECK_STR(steps.text, "bytes of node0/chip0, which is lost: ");
	give_back(rig.node, &memory);
	rig_destroy(&rig);
}
