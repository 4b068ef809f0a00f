/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What the caller gets from a chip behind each interface of the Ascend runtime, for each thing that
 * the stand-in runtimes do: the table of docs/chips.md, row by row. In processes; each row is a
 * node of its own, which leaves nothing behind.
 */
#include "chips_pto.h"

enum step { INIT, RUN, THIRD_RUN, CLOSE };

struct row {
	const char *runtime, *mode;
	enum step step;			/* at which it shows */
	int status;
	const char *text;
};

static const struct row rows[] = {
	/* The old interface. */
	{ "pto_runtime", "", RUN, 0, "" },
	{ "pto_runtime", "null", INIT, -EIO, "create_device_context() gave NULL" },
	{ "pto_runtime", "set", INIT, -ENODEV, "set_device() returned -7" },
	{ "pto_runtime", "size", INIT, -EPROTO, "get_runtime_size() gave 0 bytes" },
	{ "pto_runtime", "hang-create", INIT, -ETIMEDOUT, "node0/chip0" },
	{ "pto_runtime", "hang-set", INIT, -ETIMEDOUT, "node0/chip0" },
	{ "pto_runtime", "code=-5", RUN, -EIO,
	  "run_runtime() returned -5 for \"orchestrate\" on pto device 2: the orchestrator's "
	  "error 5" },
	{ "pto_runtime", "code=-100", RUN, -EIO, "the scheduler's error 100: a time-out" },
	{ "pto_runtime", "code=507018", RUN, -EIO, "returned 507018" },
	{ "pto_runtime", "code=507018", THIRD_RUN, -ENODEV, "3 runs in a row have failed" },
	{ "pto_runtime", "lost=0,0,0", RUN, -ENODEV,
	  "pto device 2 is lost: run_runtime() returned" },
	{ "pto_runtime", "hang", RUN, -ETIMEDOUT, "node0/chip0: task 1 (pto:orchestrate)" },
	{ "pto_runtime", "crash", RUN, -EOWNERDEAD, "killed by SIGSEGV" },
	{ "pto_runtime", "finalize", CLOSE, 0, "" },
	{ "pto_runtime", "hang-finalize", CLOSE, 0, "" },
	/* The present one, with synchronous runs. */
	{ "pto_present", "", RUN, 0, "" },
	{ "pto_present", "contract-null", INIT, -EPROTO, "get_pipeline_contract() gave NULL" },
	{ "pto_present", "abi=2", INIT, -EPROTO, "version 2 of its interface" },
	{ "pto_present", "null", INIT, -EIO, "create_device_context() gave NULL" },
	{ "pto_present", "init=-1", INIT, -ENODEV, "simpler_init() returned -1" },
	{ "pto_present", "init=107001", INIT, -ENODEV, "simpler_init() returned 107001" },
	{ "pto_present", "bind=-1", RUN, 0, "" },
	{ "pto_present", "register=-1", INIT, -ELIBBAD, "simpler_register_callable() returned -1" },
	{ "pto_present", "duplicate", INIT, -ELIBBAD, "simpler_register_callable() returned -1" },
	{ "pto_present", "hang-contract", INIT, -ETIMEDOUT, "node0/chip0" },
	{ "pto_present", "hang-create", INIT, -ETIMEDOUT, "node0/chip0" },
	{ "pto_present", "hang-init", INIT, -ETIMEDOUT, "node0/chip0" },
	{ "pto_present", "hang-register", INIT, -ETIMEDOUT, "chip0" },
	{ "pto_present", "run=-9", RUN, -EIO,
	  "simpler_run() returned -9 for \"orchestrate\" on pto device 2: the orchestrator's "
	  "error 9" },
	{ "pto_present", "run=507015", RUN, -EIO, "simpler_run() returned 507015" },
	{ "pto_present", "run=-1 launch=-1", THIRD_RUN, -ENODEV, "3 runs in a row have failed" },
	{ "pto_present", "run=-101 fails=1 poison", THIRD_RUN, 0, "" },
	{ "pto_present", "malloc", RUN, 0, "" },
	{ "pto_present", "to=507899", RUN, -EIO, "copy_to_device_ctx() returned 507899" },
	{ "pto_present", "from=-1", RUN, -EIO, "copy_from_device_ctx() returned -1" },
	{ "pto_present", "to=507899", THIRD_RUN, -ENODEV, "3 runs in a row have failed" },
	{ "pto_present", "hang-malloc", RUN, -ETIMEDOUT, "node0/chip0: task 1 (pto:orchestrate)" },
	{ "pto_present", "hang-to", RUN, -ETIMEDOUT, "node0/chip0: task 1 (pto:orchestrate)" },
	{ "pto_present", "hang-from", RUN, -ETIMEDOUT, "node0/chip0: task 1 (pto:orchestrate)" },
	{ "pto_present", "hang-run", RUN, -ETIMEDOUT, "node0/chip0: task 1 (pto:orchestrate)" },
	{ "pto_present", "crash-run", RUN, -EOWNERDEAD, "killed by SIGSEGV" },
	{ "pto_present", "finalize=-1", CLOSE, 0, "" },
	{ "pto_present", "hang-unregister", CLOSE, 0, "" },
	{ "pto_present", "hang-finalize", CLOSE, 0, "" },
	{ "pto_present", "hang-destroy", CLOSE, 0, "" },
	/* And with two runs in flight. */
	{ "pto_present", "depth=2 concurrent run_us=200", THIRD_RUN, 0, "" },
	{ "pto_present", "depth=2 concurrent prepare=-2", RUN, -EIO,
	  "simpler_prepare_run() returned -2" },
	{ "pto_present", "depth=2 concurrent launch=-4", RUN, -EIO,
	  "simpler_launch_run() returned -4" },
	{ "pto_present", "depth=2 concurrent wait=507018", RUN, -EIO,
	  "simpler_wait_run() returned 507018" },
	{ "pto_present", "depth=2 concurrent launch=-4 fails=1 poison", THIRD_RUN, 0, "" },
	{ "pto_present", "depth=2 concurrent hang-prepare", RUN, -ETIMEDOUT, "task 1" },
	{ "pto_present", "depth=2 concurrent from=-1", RUN, -EIO,
	  "copy_from_device_ctx() returned -1" },
	{ "pto_present", "depth=2 concurrent hang-launch", RUN, -ETIMEDOUT, "task 1" },
	{ "pto_present", "depth=2 concurrent hang-poll", RUN, -ETIMEDOUT, "task 1" },
	{ "pto_present", "depth=2 concurrent run_us=200 hang-wait", RUN, -ETIMEDOUT, "task 1" },
	{ "pto_present", "depth=2 concurrent hang-finalize_run", RUN, -ETIMEDOUT, "task 1" },
	{ "pto_present", "depth=2 concurrent crash-wait", RUN, -EOWNERDEAD, "killed by SIGSEGV" },
};

static void node_create(struct rig *rig, const struct row *row)
{
	struct dw_chip_options chip = { .driver = "pto", .device = 2 };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	bool hangs = strstr(row->mode, "hang");
	void *memory;

	pto_prepare_runtime(row->runtime, row->mode);
	chip.options = pto_options;
	memset(rig, 0, sizeof(*rig));
	options.heap_ring_bytes = 16 << 20;
	options.arena_bytes = 64 << 20;
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	if (hangs && row->step == INIT)
		options.init_timeout_ns = ample(300 * MS);
	if (row->step == CLOSE)
		options.close_timeout_ns = ample(300 * MS);
	REQUIRE(dw_worker_create(3, &options, &rig->node) == 0);
	REQUIRE(dw_buffer_create(rig->node, sizeof(float) * COUNT * 3, &memory) == 0);
	rig->a = memory;
	rig->b = rig->a + COUNT;
	rig->c = rig->b + COUNT;
	for (int i = 0; i < COUNT; i++) {
		rig->a[i] = (float)i;
		rig->b[i] = (float)(2 * i);
	}
}

static bool row_right(const struct row *row)
{
	unsigned int runs = row->step == INIT ? 0 : row->step == THIRD_RUN ? 3 : 1;
	int failures = unit_failures, status;
	struct call call;
	struct rig rig;

	node_create(&rig, row);
	call = pto_call(&rig, pto_image(&rig), 0);
	if (row->status == -ETIMEDOUT && row->step == RUN)
		call.options.timeout_ns = ample(100 * MS);
	status = dw_worker_init(rig.node);
	for (unsigned int run = 0; run < runs && status == 0; run++) {
		memset(rig.c, 0, sizeof(float) * COUNT);
		status = run_calls(&rig, &call, 1);
		/* Only calls before the last one may fail. */
		if (run + 1 < runs && status != -ENODEV)
			status = 0;
	}
	CHECK_EQ(status, row->status);
	if (status)
		check_text(row->text);
	else if (runs)
		CHECK_EQ(wrong(&rig, 0, 1), 0);
	/* Even if a function of the runtime hangs. */
	rig_destroy(&rig);
	pto_clean();
	return failures == unit_failures;
}

static void rows_of(const char *runtime, const char *part, bool with)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].runtime, runtime) == 0 &&
		    (strstr(rows[i].mode, part) != NULL) == with && !row_right(&rows[i]))
			printf("# row %zu: %s, \"%s\"\n", i, runtime, rows[i].mode);
}

TEST(caller_gets_what_the_table_says_with_the_old_interface)
{
	rows_of("pto_runtime", "depth=2", false);
}

TEST(caller_gets_what_the_table_says_with_the_present_interface)
{
	rows_of("pto_present", "depth=2", false);
}

TEST(caller_gets_what_the_table_says_with_two_runs_in_flight)
{
	rows_of("pto_present", "depth=2", true);
}
