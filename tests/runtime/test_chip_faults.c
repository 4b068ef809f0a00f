/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Chips that fail, hang, crash or are killed (devices that are lost: test_chip_lost.c): the
 * caller's error, and the work that goes on.
 */
#include <sys/stat.h>
#include "chips_pto.h"

static const struct dw_chip_options one_sim[] = { { .driver = "sim" } };

static bool mentions(const char *part)
{
	return strstr(dw_strerror_last(), part);
}

/* ------------------------------------------------------- faults on demand */

/* Task 1 fails; task 2, which reads its result, is skipped; task 3 goes on. */
static void fault_in(enum dw_mode mode, const char *options, int error, const char *text)
{
	struct dw_chip_options chips[1] = { { .driver = "sim", .options = options } };
	struct call calls[3];
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 1);
	dw_callable add = sim_image(&rig, "vector_add");

	REQUIRE(rig_init(&rig) == 0);
	calls[0] = add_call(&rig, add, 0);
	calls[0].options.name = "first";
	calls[1] = add_call(&rig, add, 1);
	dw_tensor_init(&calls[1].tensor[0], rig.c, DW_FLOAT32, &calls[0].tensor[0].shape[0], 1);
	calls[2] = add_call(&rig, add, 2);
	CHECK_EQ(run_calls(&rig, calls, 3), error);
	check_text("node0/chip0: task 1 \"first\" (sim:vector_add): ");
	check_text(text);
	CHECK(rig.c[COUNT] == 0);
	CHECK_EQ(wrong(&rig, 2, 1), 0);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").tasks_failed, 1);
	/* The device works as before. */
	CHECK_EQ(run_calls(&rig, calls, 1), 0);
	CHECK_EQ(wrong(&rig, 0, 1), 0);
	rig_destroy(&rig);
}

TEST(a_kernel_that_fails_fails_its_task_alone)
{
	for (int mode = DW_PROCESS; mode <= DW_THREAD; mode++) {
		fault_in((enum dw_mode)mode, "fail=1", -EIO,
			 "EIO: kernel \"vector_add\" failed on demand");
		fault_in((enum dw_mode)mode, "fail=1,async=1,depth=4", -EIO,
			 "EIO: kernel \"vector_add\" failed on demand");
	}
}

TEST(a_copy_that_fails_fails_its_task_alone)
{
	fault_in(DW_PROCESS, "copy_fail=2", -EIO, "EIO: ");
	fault_in(DW_THREAD, "copy_fail=3", -EIO, "EIO: ");
}

TEST_IN_BOTH_MODES(the_text_of_a_kernel_arrives_with_path_and_task)
{
	struct call call;
	struct rig rig;

	rig_create(&rig, mode, DW_RESTART_NEVER, one_sim, 1);
	dw_callable fails = sim_image(&rig, "fails");

	REQUIRE(rig_init(&rig) == 0);
	call = out_call(&rig, fails, 0);
	call.options.config.block_dim = 3;
	CHECK_EQ(run_calls(&rig, &call, 1), -EDOM);
	check_text("node0/chip0: task 1 (sim:fails): EDOM: block 0 has no inverse");
	rig_destroy(&rig);
}

/* Chip 0 breaks at its first call; chip 1 runs the calls that it had not started. */
static void taken_over(const char *options, int error, const char *text, uint64_t timeout_ns)
{
	struct dw_chip_options chips[2] = {
		{ .driver = "sim", .options = options }, { .driver = "sim", .device = 1 },
	};
	struct call calls[30];
	struct rig rig;
	unsigned bad = 0;

	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, chips, 2);
	dw_callable add = sim_image(&rig, "vector_add");

	REQUIRE(rig_init(&rig) == 0);
	for (unsigned i = 0; i < 30; i++)
		calls[i] = add_call(&rig, add, i);
	calls[0].options.place = DW_PLACE(0);
	calls[0].options.timeout_ns = timeout_ns;
	CHECK_EQ(run_calls(&rig, calls, 30), error);
	check_text("node0/chip0: task 1 (sim:vector_add): ");
	check_text(text);
	for (unsigned i = 0; i < 30; i++)
		bad += wrong(&rig, i, 1) != 0;
	/* An asynchronous device may have had two. */
	CHECK(bad >= 1 && bad <= (strstr(options, "async") ? 2 : 1));
	CHECK_EQ(chip_stats(&rig, "node0/chip0").alive, 0);
	/* The chip is gone for good, and the error of a task that asks for it names it. */
	CHECK_EQ(run_calls(&rig, calls, 1), -ENODEV);
	check_text("node0/chip0 is gone: ");
	CHECK_EQ(run_calls(&rig, calls + 1, 29), 0);
	rig_destroy(&rig);
}

TEST(a_kernel_that_crashes_takes_its_chip_alone)
{
	taken_over("crash=1", -EOWNERDEAD, "EOWNERDEAD: killed by SIGSEGV, pid ", 0);
	taken_over("crash=1,async=1", -EOWNERDEAD, "EOWNERDEAD: killed by SIGSEGV, pid ", 0);
}

TEST(a_kernel_that_hangs_ends_at_its_deadline_with_its_chip)
{
	taken_over("hang=1", -ETIMEDOUT, "ETIMEDOUT: ", ample(100 * MS));
	taken_over("hang=1,async=1", -ETIMEDOUT, "ETIMEDOUT: ", ample(100 * MS));
}

TEST_IN_BOTH_MODES(a_cancelled_run_reaches_a_kernel)
{
	struct call call;
	struct rig rig;

	say_prepare();
	rig_create(&rig, mode, DW_RESTART_NEVER, one_sim, 1);
	call = out_call(&rig, sim_image(&rig, "say_and_ask"), 0);
	call.scalar[0] = (uint64_t)said[1];
	call.scalars = 1;
	struct batch batch = { .calls = &call, .count = 1 };
	struct dw_run *run;

	REQUIRE(rig_init(&rig) == 0);
	REQUIRE(dw_worker_start(rig.node, orch_batch, NULL, NULL, &batch, NULL, &run) == 0);
	CHECK(heard() > 0);
	CHECK_EQ(dw_run_cancel(run), 0);
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	CHECK_EQ(chip_stats(&rig, "node0/chip0").alive, 1);
	rig_destroy(&rig);
}

/* -------------------------------------------------------------------- killed */

/* The chip's process is killed while it works; `wait` returns its pid once it does. */
static void killed(struct rig *rig, struct call *call, pid_t (*wait)(struct rig *rig))
{
	struct batch batch = { .calls = call, .count = 1 };
	uint64_t killed_at, took;
	struct dw_run *run;
	char pid_text[32];
	pid_t pid;

	REQUIRE(dw_worker_start(rig->node, orch_batch, NULL, NULL, &batch, NULL, &run) == 0);
	pid = wait(rig);
	REQUIRE(pid > 0);
	killed_at = now_ns();
	kill(pid, SIGKILL);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	took = now_ns() - killed_at;
	snprintf(pid_text, sizeof(pid_text), "pid %d", (int)pid);
	check_text("node0/chip0: task 1 \"victim\" (");
	check_text("): EOWNERDEAD: killed by SIGKILL, ");
	check_text(pid_text);
	printf("# %s, %llu us after the kill\n", dw_strerror_last(),
	       (unsigned long long)took / 1000);
	CHECK(unit_within(killed_at, 2000 * MS));
	/* The sub worker and a run that needs no such chip are as before. */
	CHECK_EQ(run_calls(rig, call, 1), -ENODEV);
	check_text("node0");
}

static pid_t wait_said(struct rig *rig)
{
	(void)rig;
	return heard();
}

TEST(a_killed_sim_chip_is_reported_with_path_signal_and_pid)
{
	struct call call;
	struct rig rig;

	say_prepare();
	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, one_sim, 1);
	call = out_call(&rig, sim_image(&rig, "say_and_hang"), 0);
	call.scalar[0] = (uint64_t)said[1];
	call.scalars = 1;
	call.options.name = "victim";
	REQUIRE(rig_init(&rig) == 0);
	killed(&rig, &call, wait_said);
	rig_destroy(&rig);
}

/* User time of a process in clock ticks. */
static unsigned long ticks_of(pid_t pid)
{
	char path[64], line[1024], *end;
	unsigned long ticks = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file && fgets(line, sizeof(line), file) && (end = strrchr(line, ')')))
		sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu", &ticks);
	if (file)
		fclose(file);
	return ticks;
}

/* A spinning kernel is recognised by its CPU time; before that, the chip sleeps. */
static pid_t wait_busy(struct rig *rig)
{
	pid_t pid = chip_stats(rig, "node0/chip0").pid;
	unsigned long before = ticks_of(pid);
	uint64_t begun = now_ns();

	while (ticks_of(pid) < before + 20 && unit_within(begun, 20000 * MS))
		pause_ms(2);
	return ticks_of(pid) >= before + 20 ? pid : 0;
}

TEST(a_killed_opencl_chip_is_reported_with_path_signal_and_pid)
{
	static const int32_t inout[] = { DW_DIR_INOUT };
	struct dw_chip_options chips[1] = { { .driver = "opencl" } };
	struct call call = { .options = DW_OPTIONS(dw_submit_options) };
	struct rig rig;

	if (opencl_missing())
		SKIP(opencl_missing());
	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, chips, 1);
	call.callable = image_of(&rig, "opencl", NULL, opencl_add, "spin", inout, 1);
	call.options.name = "victim";
	call_tensor(&call, rig.c, DW_INT32, 2, DW_INOUT);
	REQUIRE(rig_init(&rig) == 0);
	/* A first call that ends makes sure that its compiler has finished. */
	((int *)rig.c)[0] = 12345;
	CHECK_EQ(run_calls(&rig, &call, 1), 0);
	((int *)rig.c)[0] = 0;
	killed(&rig, &call, wait_busy);
	rig_destroy(&rig);
}

TEST(a_hung_opencl_kernel_ends_at_its_deadline)
{
	static const int32_t inout[] = { DW_DIR_INOUT };
	struct dw_chip_options chips[2] = { { .driver = "opencl" }, { .driver = "sim" } };
	struct call calls[2] = { { .options = DW_OPTIONS(dw_submit_options) } };
	struct rig rig;

	if (opencl_missing())
		SKIP(opencl_missing());
	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, chips, 2);
	calls[0].callable = image_of(&rig, "opencl", NULL, opencl_add, "spin", inout, 1);
	calls[0].options.timeout_ns = 300 * MS;
	call_tensor(&calls[0], rig.c + COUNT, DW_INT32, 2, DW_INOUT);
	calls[1] = add_call(&rig, sim_image(&rig, "vector_add"), 0);
	REQUIRE(rig_init(&rig) == 0);
	CHECK_EQ(run_calls(&rig, calls, 2), -ETIMEDOUT);
	check_text("node0/chip0: task 1 (opencl:spin): ETIMEDOUT");
	CHECK_EQ(wrong(&rig, 0, 1), 0);
	rig_destroy(&rig);
}

/* ----------------------------------------------------------------------- pto */

static void pto_rig(struct rig *rig, const char *mode, enum dw_mode children)
{
	struct dw_chip_options chips[2] = { { .driver = "pto", .device = 2 }, { .driver = "sim" } };

	pto_prepare(mode);
	chips[0].options = pto_options;
	rig_create(rig, children, DW_RESTART_NEVER, chips, 2);
}

TEST(pto_adds_vectors_beside_sim)
{
	for (int mode = DW_PROCESS; mode <= DW_THREAD; mode++) {
		struct call calls[2];
		struct rig rig;

		pto_rig(&rig, "", (enum dw_mode)mode);
		calls[0] = pto_call(&rig, pto_image(&rig), 0);
		calls[1] = add_call(&rig, sim_image(&rig, "vector_add"), 1);
		REQUIRE(rig_init(&rig) == 0);
		if (!CHECK_EQ(run_calls(&rig, calls, 2), 0))
			printf("# %s\n", dw_strerror_last());
		CHECK_EQ(wrong(&rig, 0, 2), 0);
		/* The error names an argument that the chip cannot take. */
		calls[0].tensor[0].dtype = DW_FLOAT64;
		calls[0].tensor[0].shape[0] = COUNT / 2;
		CHECK_EQ(run_calls(&rig, calls, 1), -ENOTSUP);
		check_text("tensor 0 is float64, which chip pto:2 cannot take");
		calls[0] = pto_call(&rig, calls[0].callable, 0);
		while (calls[0].tensors < 17)
			call_tensor(&calls[0], rig.a, DW_FLOAT32, COUNT, DW_INPUT);
		CHECK_EQ(run_calls(&rig, calls, 1), -E2BIG);
		check_text("17 tensors are more than the 16 that chip pto:2 takes per call");
		calls[0] = pto_call(&rig, calls[0].callable, 0);
		calls[0].options.config.aicpu_thread_num = 2;
		calls[0].scalar[1] = 2;
		CHECK_EQ(run_calls(&rig, calls, 1), -EIO);
		check_text("run_runtime() returned -1 for \"orchestrate\" on pto device 2: "
			   "a general failure");
		check_text("with block_dim 3 and aicpu_thread_num 2: ");
		rig_destroy(&rig);
		pto_clean();
	}
}

static pid_t wait_pto(struct rig *rig)
{
	char text[512];

	for (int i = 0; i < 10000; i++) {
		FILE *file = fopen(pto_log, "re");
		size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;

		if (file)
			fclose(file);
		text[n] = '\0';
		if (strstr(text, "run 3"))
			return chip_stats(rig, "node0/chip0").pid;
		pause_ms(1);
	}
	return 0;
}

TEST(a_killed_pto_chip_is_reported_with_path_signal_and_pid)
{
	struct call call;
	struct rig rig;

	pto_rig(&rig, "hang", DW_PROCESS);
	call = pto_call(&rig, pto_image(&rig), 0);
	call.options.name = "victim";
	REQUIRE(rig_init(&rig) == 0);
	killed(&rig, &call, wait_pto);
	rig_destroy(&rig);
	pto_clean();
}

static void pto_breaks(const char *mode, uint64_t timeout_ns, int error, const char *text)
{
	struct call calls[2];
	struct rig rig;

	pto_rig(&rig, mode, DW_PROCESS);
	calls[0] = pto_call(&rig, pto_image(&rig), 0);
	calls[0].options.timeout_ns = timeout_ns;
	calls[1] = add_call(&rig, sim_image(&rig, "vector_add"), 1);
	REQUIRE(rig_init(&rig) == 0);
	CHECK_EQ(run_calls(&rig, calls, 2), error);
	check_text(text);
	CHECK_EQ(wrong(&rig, 1, 1), 0);
	rig_destroy(&rig);
	pto_clean();
}

TEST(a_hung_pto_run_ends_at_its_deadline_and_sim_goes_on)
{
	pto_breaks("hang", ample(100 * MS), -ETIMEDOUT,
		   "node0/chip0: task 1 (pto:orchestrate): ETIMEDOUT");
}

TEST(a_pto_runtime_that_crashes_takes_its_chip_alone)
{
	pto_breaks("crash", 0, -EOWNERDEAD,
		   "node0/chip0: task 1 (pto:orchestrate): EOWNERDEAD: killed by SIGSEGV, pid ");
}

TEST(a_pto_device_that_does_not_open_fails_init_by_name)
{
	struct rig rig;

	pto_rig(&rig, "set", DW_PROCESS);
	CHECK_EQ(dw_worker_init(rig.node), -ENODEV);
	check_text("node0/chip0: pto device 2: set_device() returned -7");
	rig_destroy(&rig);
	pto_clean();
}

/* ------------------------------------------------------------------- restart */

/*
 * A chip that dies is replaced, with all images, also those from after init, and without those that
 * were unregistered.
 */
TEST(a_restarted_chip_has_the_images_that_there_are)
{
	dw_callable early, gone, late;
	struct call calls[3];
	struct stat other;
	struct rig rig;
	pid_t before;

	rig_create(&rig, DW_PROCESS, DW_RESTART_ON_DEATH, one_sim, 1);
	early = sim_image(&rig, "vector_add");
	gone = image_of(&rig, "sim", fixture("chip_kernels_other"), NULL, "vector_add", NULL, 0);
	REQUIRE(rig_init(&rig) == 0);
	late = sim_image(&rig, "who");
	CHECK_EQ(dw_callable_unregister(rig.node, gone), 0);
	/* The memory of the image is overwritten, if it was given back. */
	REQUIRE(stat(fixture("chip_kernels_other"), &other) == 0);
	for (int i = 0; i < 8; i++) {
		void *memory;

		CHECK_EQ(dw_buffer_create(rig.node, (uint64_t)other.st_size, &memory), 0);
		memset(memory, 0xee, (size_t)other.st_size);
	}
	for (int round = 0; round < 3; round++) {
		before = chip_stats(&rig, "node0/chip0").pid;
		calls[0] = out_call(&rig, sim_image(&rig, "wild"), 3);
		CHECK_EQ(run_calls(&rig, calls, 1), -EOWNERDEAD);
		check_text("killed by SIGSEGV");
		calls[0] = add_call(&rig, early, 0);
		calls[1] = out_call(&rig, late, 1);
		calls[1].options.config.block_dim = 2;
		if (!CHECK_EQ(run_calls(&rig, calls, 2), 0))
			printf("# round %d: %s\n", round, dw_strerror_last());
		CHECK_EQ(wrong(&rig, 0, 1), 0);
		CHECK_EQ(((uint32_t *)(rig.c + COUNT))[1], 2);
		CHECK(chip_stats(&rig, "node0/chip0").pid != before);
		memset(rig.c, 0, sizeof(float) * 2 * COUNT);
	}
	calls[0] = add_call(&rig, gone, 0);
	CHECK_EQ(run_calls(&rig, calls, 1), -ESTALE);
	rig_destroy(&rig);
}

/*
 * Memory that stayed on a device is lost with the chip's process: a later task gets an error that
 * says so.
 */
struct stale {
	struct rig *rig;
	dw_callable add, wild;
	int result;
};

static int orch_stale(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct stale *stale = context;
	struct call wild = out_call(stale->rig, stale->wild, 1),
		    add = add_call(stale->rig, stale->add, 0);
	uint32_t count = COUNT;
	struct dw_tensor tensor;
	int result = dw_chip_alloc(orch, 0, DW_FLOAT32, &count, 1, &tensor);

	(void)args;
	(void)config;
	if (result < 0)
		return result;
	submit_call(orch, &wild, NULL);
	dw_orch_wait(orch);
	add.tensor[0] = tensor;
	add.options.place = DW_PLACE(0);
	add.options.name = "reads it";
	stale->result = submit_call(orch, &add, NULL);
	return 0;
}

TEST(device_memory_of_a_dead_chip_is_not_read_from_its_successor)
{
	struct rig rig;

	rig_create(&rig, DW_PROCESS, DW_RESTART_ON_DEATH, one_sim, 1);
	struct stale stale = {
		.rig = &rig, .add = sim_image(&rig, "vector_add"), .wild = sim_image(&rig, "wild"),
	};
	struct dw_child_stats stats;

	REQUIRE(rig_init(&rig) == 0);
	CHECK(dw_worker_run(rig.node, orch_stale, NULL, NULL, &stale) < 0);
	check_text("killed by SIGSEGV");
	stats = chip_stats(&rig, "node0/chip0");
	/* Refused at submit, or by the chip; not a second crash. */
	CHECK(stale.result < 0 || stats.tasks_failed == 2);
	CHECK(!mentions("task 2 \"reads it\"") || !mentions("EOWNERDEAD"));
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);

	CHECK_EQ(dw_worker_engine_stats(rig.node, &engine), 0);
	CHECK_EQ(engine.deaths, 1);
	rig_destroy(&rig);
}
