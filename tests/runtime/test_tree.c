/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Trees seen from outside, and the report on stuck tasks; in both modes. */
#include "chips.h"

static struct callables calls;
static dw_callable call_stay, call_nested, call_die;
static int began[2], gate[2];

/* Reports that it has begun, and stays until it is released. */
static int sub_stay(const struct dw_args *args, void *context)
{
	char byte;

	(void)args;
	(void)context;
	return write(began[1], "b", 1) == 1 && read(gate[0], &byte, 1) == 1 ? 0 : -EIO;
}

static int sub_die(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	raise(SIGKILL);
	return 0;
}

static int orch_one(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct dw_tensor tensor;

	(void)config;
	tensor = args && dw_args_tensor_count(args) ? *dw_args_tensor(args, 0) :
						      scalar_tensor(context);
	return submit_one(orch, call_stay, (void *)(uintptr_t)tensor.data, DW_INOUT, 0, NULL, NULL);
}

static int orch_deep(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, call_nested, context, DW_INOUT, 0, NULL, NULL);
}

static int orch_adds(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < 500 && result == 0; i++)
		result = submit_one(orch, calls.add, context, DW_INOUT, 1, NULL, NULL);
	if (result == 0)
		result = submit_one(orch, calls.fail, context, DW_INOUT, 1, NULL, NULL);
	return result ? result : submit_one(orch, calls.add, context, DW_INOUT, 1, NULL, NULL);
}

static int orch_die(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, call_die, context, DW_INOUT, 1, NULL, NULL);
}

static struct dw_worker *make_tree(unsigned nodes, enum dw_mode mode, void **cell)
{
	struct dw_worker *root = make_worker(nodes ? 4 : 3, 1, mode);

	CHECK_EQ(pipe(began), 0);
	CHECK_EQ(pipe(gate), 0);
	for (unsigned i = 0; i < nodes; i++)
		CHECK_EQ(dw_worker_add_child(root, make_worker(3, 1, mode), NULL), 0);
	CHECK_EQ(register_all(root, &calls), 0);
	CHECK_EQ(dw_callable_register_sub(root, "stay", sub_stay, NULL, &call_stay), 0);
	CHECK_EQ(dw_callable_register_sub(root, "die", sub_die, NULL, &call_die), 0);
	CHECK_EQ(dw_callable_register_orch(root, "nested", orch_one, NULL, &call_nested), 0);
	CHECK_EQ(dw_buffer_create(root, 64, cell), 0);
	CHECK_EQ(dw_worker_init(root), 0);
	return root;
}

static void end_tree(struct dw_worker *root)
{
	CHECK_EQ(dw_worker_close(root), 0);
	dw_worker_destroy(root);
	for (int i = 0; i < 2; i++) {
		close(began[i]);
		close(gate[i]);
	}
}

static void wait_begun(void)
{
	char byte;

	CHECK_EQ(read(began[0], &byte, 1), 1);
}

/* The report on this tree in another process. */
static void report_from_outside(uint64_t stuck_ns, char *text, size_t space)
{
	int back[2], status;
	ssize_t length;
	pid_t child;

	CHECK_EQ(pipe(back), 0);
	child = fork();
	if (child == 0) {
		struct dw_tree *tree;
		size_t bytes = space;

		if (dw_tree_open(getppid(), 0, &tree) < 0 ||
		    dw_tree_report(tree, stuck_ns, text, &bytes) < 0)
			snprintf(text, space, "%s", dw_strerror_last());
		_exit(write(back[1], text, strlen(text)) != (ssize_t)strlen(text));
	}
	close(back[1]);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	length = read(back[0], text, space - 1);
	text[length > 0 ? length : 0] = '\0';
	close(back[0]);
}

static void sleep_ms(long ms)
{
	struct timespec pause = { .tv_nsec = ms * 1000000 };

	nanosleep(&pause, NULL);
}

static void stuck_in(enum dw_mode mode)
{
	char inside[8192], outside[8192], line[128];
	struct dw_worker *root;
	size_t bytes = sizeof(inside);
	struct dw_run *run;
	void *cell;

	root = make_tree(1, mode, &cell);
	CHECK_EQ(dw_worker_start(root, orch_deep, NULL, NULL, cell, NULL, &run), 0);
	wait_begun();
	sleep_ms(60);
	CHECK_EQ(dw_worker_report(root, 50000000, inside, &bytes), 0);
	CHECK_EQ(bytes, strlen(inside) + 1);
	report_from_outside(50000000, outside, sizeof(outside));
	for (int i = 0; i < 2; i++) {
		const char *text = i ? outside : inside, *stuck = strstr(text, "stuck for 0.05 s");

		REQUIRE(stuck);
		snprintf(line, sizeof(line), "tree of process %d", getpid());
		CHECK_STR(text, line);
		CHECK_STR(text, "1 tasks: 0 done, 0 failed, 0 skipped, 1 alive");
		CHECK_STR(stuck, "pod0 waits for:\n  pod0/node0 (pid ");
		CHECK_STR(stuck, "): runs task 1, \"nested\", for ");
		CHECK_STR(stuck, "pod0/node0 waits for:\n  pod0/node0/sub0 (pid ");
		CHECK_STR(stuck, "): runs task 1, \"stay\", for ");
		CHECK(!strstr(stuck, "pod0/sub0"));
		CHECK(!strstr(stuck, "nothing"));
	}
	/* A wait that has not lasted long enough is not stuck. */
	bytes = sizeof(inside);
	CHECK_EQ(dw_worker_report(root, 60000000000, inside, &bytes), 0);
	CHECK_STR(inside, "stuck for 60 s or longer:\nnothing");
	CHECK_STR(inside, "runs task 1, \"stay\", for ");
	CHECK_EQ(write(gate[1], "g", 1), 1);
	CHECK_EQ(dw_run_wait(run), 0);
	end_tree(root);
}

TEST(report_says_what_is_stuck_and_on_whom_it_waits_over_processes)
{
	stuck_in(DW_PROCESS);
}

TEST(report_says_what_is_stuck_and_on_whom_it_waits_over_threads)
{
	stuck_in(DW_THREAD);
}

static void counters_in(enum dw_mode mode)
{
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	struct dw_engine_stats seen = DW_OPTIONS(dw_engine_stats);
	struct dw_tree_worker worker = DW_OPTIONS(dw_tree_worker);
	struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
	struct dw_tree_info info = DW_OPTIONS(dw_tree_info);
	struct dw_child_stats stats[1], child_seen;
	struct dw_worker *root;
	struct dw_tree *tree;
	size_t count = 1;
	void *cell;

	root = make_tree(0, mode, &cell);
	CHECK_EQ(dw_worker_run(root, orch_adds, NULL, NULL, cell), -EIO);
	CHECK_EQ(dw_worker_engine_stats(root, &engine), 0);
	CHECK_EQ(dw_worker_stats(root, stats, sizeof(stats[0]), &count), 0);
	REQUIRE(dw_tree_open(getpid(), 0, &tree) == 0);
	CHECK_EQ(dw_tree_info(tree, &info), 0);
	CHECK_EQ(info.pid, getpid());
	CHECK_EQ(info.worker_count, 1);
	CHECK_EQ(info.child_count, 1);
	CHECK_EQ(dw_tree_worker(tree, 0, &worker), 0);
	CHECK_EQ(dw_tree_worker(tree, 1, &worker), -ERANGE);
	CHECK_EQ(dw_tree_worker_stats(tree, 0, &seen), 0);
	CHECK_EQ(dw_tree_worker_stats(tree, 1, &seen), -ERANGE);
	CHECK_EQ(worker.up, 1);
	CHECK_EQ(worker.runs, 0);
	CHECK_EQ(seen.submitted, 502);
	CHECK_EQ(seen.done, engine.done);
	CHECK_EQ(seen.done, 500);
	CHECK_EQ(seen.failed, 1);
	CHECK_EQ(seen.skipped, 1);
	CHECK_EQ(seen.provider, engine.provider);
	CHECK_EQ(dw_tree_child(tree, 0, &child), 0);
	CHECK_EQ(dw_tree_child(tree, 1, &child), -ERANGE);
	CHECK_EQ(dw_tree_child_stats(tree, 0, &child_seen, sizeof(child_seen)), 0);
	CHECK_EQ(dw_tree_child_stats(tree, 1, &child_seen, sizeof(child_seen)), -ERANGE);
	CHECK_EQ(child_seen.tasks_done, stats[0].tasks_done);
	CHECK_EQ(child_seen.wakes, stats[0].wakes);
	CHECK_EQ(child_seen.pid, stats[0].pid);
	CHECK_STR(child_seen.path, "node0/sub0");
	CHECK_EQ(child.queued, 0);
	CHECK_STR(child.callable, "fail");
	CHECK_EQ(child.task, 501);
	CHECK_EQ(child.tid == child_seen.pid, mode == DW_PROCESS);
	dw_tree_close(tree);
	end_tree(root);
	CHECK_EQ(dw_tree_open(getpid(), 0, &tree), -ENOENT);
}

TEST(counters_from_outside_are_those_from_inside)
{
	counters_in(DW_PROCESS);
	counters_in(DW_THREAD);
}

TEST(a_dead_child_is_shown_with_its_cause)
{
	char text[8192];
	struct dw_worker *root;
	size_t bytes = sizeof(text);
	void *cell;

	root = make_tree(0, DW_PROCESS, &cell);
	CHECK_EQ(dw_worker_run(root, orch_die, NULL, NULL, cell), -EOWNERDEAD);
	CHECK_EQ(dw_worker_report(root, 0, text, &bytes), 0);
	CHECK_STR(text, "dead: killed by SIGKILL");
	CHECK_STR(text, "1 failed");
	end_tree(root);
}

/* The second call takes a while on the chip; then there is nothing to do. */
TEST_IN_BOTH_MODES(what_a_chip_does_is_shown)
{
	for (int async = 0; async < 2; async++) {
		char options[64];
		struct dw_chip_options chips[1] = { { .driver = "sim", .options = options } };
		struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
		struct dw_child_stats stats;
		struct call two[2];
		struct batch batch = { .calls = two, .count = 2 };
		struct dw_tree *tree;
		struct dw_run *run;
		uint64_t begun;
		struct rig rig;
		dw_callable add;

		/* Long enough to be seen in the middle. */
		snprintf(options, sizeof(options), "delay_us=%u%s",
			 300000 * unit_slow() * (unsigned)unit_busy(),
			 async ? ",async=1,depth=2" : "");
		rig_create(&rig, mode, DW_RESTART_NEVER, chips, 1);
		add = sim_image(&rig, "vector_add");
		for (unsigned i = 0; i < 2; i++)
			two[i] = add_call(&rig, add, i);
		REQUIRE(rig_init(&rig) == 0);
		REQUIRE(dw_tree_open(getpid(), 0, &tree) == 0);
		begun = now_ns();
		CHECK_EQ(dw_worker_start(rig.node, orch_batch, NULL, NULL, &batch, NULL, &run), 0);
		do
			CHECK_EQ(dw_tree_child(tree, 1, &child), 0);
		while ((!child.busy || child.queued != 2) && unit_within(begun, 20 * NS_PER_S));
		CHECK_EQ(dw_tree_child_stats(tree, 1, &stats, sizeof(stats)), 0);
		CHECK_STR(stats.path, "node0/chip0");
		CHECK_EQ(child.busy, 1);
		CHECK_EQ(child.task, 1);
		CHECK_STR(child.callable, "vector_add");
		CHECK_EQ(child.queued, 2);
		CHECK(child.since_ns >= begun && child.since_ns <= now_ns());
		CHECK_EQ(dw_run_wait(run), 0);
		/* It has told its parent before it waits. */
		begun = now_ns();
		while ((child.busy || child.queued) && unit_within(begun, 20 * NS_PER_S)) {
			sleep_ms(1);
			CHECK_EQ(dw_tree_child(tree, 1, &child), 0);
		}
		CHECK_EQ(child.busy, 0);
		CHECK_EQ(child.queued, 0);
		dw_tree_close(tree);
		rig_destroy(&rig);
	}
}

/* Work for a child that does not wake up: it was stopped while it waited. */
TEST(tasks_for_which_nobody_works_are_stuck)
{
	struct dw_child_stats stats[1];
	struct dw_worker *root;
	char text[8192];
	size_t bytes = sizeof(text), count = 1;
	struct dw_run *run;
	void *cell;

	root = make_tree(0, DW_PROCESS, &cell);
	CHECK_EQ(dw_worker_stats(root, stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(kill(stats[0].pid, SIGSTOP), 0);
	CHECK_EQ(dw_worker_start(root, orch_one, NULL, NULL, cell, NULL, &run), 0);
	sleep_ms(60);
	CHECK_EQ(dw_worker_report(root, 50000000, text, &bytes), 0);
	CHECK_STR(text, "node0: 1 tasks are not finished, and no child has worked for ");
	CHECK_STR(text, "1 in its ring");
	CHECK_EQ(kill(stats[0].pid, SIGCONT), 0);
	wait_begun();
	CHECK_EQ(write(gate[1], "g", 1), 1);
	CHECK_EQ(dw_run_wait(run), 0);
	end_tree(root);
}

/* The second block has room only when the first one's user is done. */
static int orch_heap(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	uint32_t elements = 5 << 20;
	struct dw_tensor tensor;
	int result = 0;

	(void)args;
	(void)config;
	(void)context;
	for (int i = 0; i < 2 && result == 0; i++) {
		dw_scope_begin(orch);
		result = dw_alloc(orch, DW_INT64, &elements, 1, &tensor);
		if (result == 0 && i == 0)
			result = submit_one(orch, call_stay, (void *)(uintptr_t)tensor.data,
					    DW_INOUT, 0, NULL, NULL);
		dw_scope_end(orch);
	}
	return result;
}

TEST(a_submitter_that_waits_for_the_heap_is_shown)
{
	struct dw_engine_stats seen = DW_OPTIONS(dw_engine_stats);
	struct dw_tree_worker worker = DW_OPTIONS(dw_tree_worker);
	struct dw_worker *root;
	struct dw_tree *tree;
	char text[8192];
	size_t bytes = sizeof(text);
	struct dw_run *run;
	uint64_t begun;
	void *cell;

	root = make_tree(0, DW_PROCESS, &cell);
	REQUIRE(dw_tree_open(getpid(), 0, &tree) == 0);
	CHECK_EQ(dw_worker_start(root, orch_heap, NULL, NULL, cell, NULL, &run), 0);
	wait_begun();
	begun = now_ns();
	while (worker.blocked == DW_BLOCKED_NOT && unit_within(begun, 20 * NS_PER_S)) {
		sleep_ms(1);
		CHECK_EQ(dw_tree_worker(tree, 0, &worker), 0);
	}
	CHECK_EQ(worker.blocked, DW_BLOCKED_HEAP);
	CHECK_EQ(dw_tree_worker_stats(tree, 0, &seen), 0);
	CHECK(seen.heap_used >= 40 << 20);
	CHECK_EQ(worker.heap_bytes, 256 << 20);
	CHECK_EQ(worker.runs, 1);
	CHECK_EQ(dw_worker_report(root, 0, text, &bytes), 0);
	CHECK_STR(text, "its orchestration waits for room in the heap, for ");
	CHECK_EQ(write(gate[1], "g", 1), 1);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(dw_tree_worker(tree, 0, &worker), 0);
	CHECK_EQ(worker.blocked, DW_BLOCKED_NOT);
	CHECK_EQ(dw_tree_worker_stats(tree, 0, &seen), 0);
	CHECK_EQ(seen.heap_used, 0);
	dw_tree_close(tree);
	end_tree(root);
}

/* ------------------------------------------------------------- bad segments */

static int open_forged(const void *content, size_t bytes, size_t size, bool sealed)
{
	struct dw_tree *tree = NULL;
	int fd, result;

	fd = memfd_create("distworker-tree", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK_EQ(ftruncate(fd, (off_t)size), 0);
	CHECK_EQ(pwrite(fd, content, bytes, 0), (ssize_t)bytes);
	if (sealed)
		CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	result = dw_tree_open(getpid(), 0, &tree);
	close(fd);
	CHECK(result < 0 && !tree);
	return result;
}

TEST(forged_segments_are_refused)
{
	/* As in status_segment.h: magic, bytes, layout, pid and counts, started, four offsets. */
	struct { uint64_t magic, bytes, layout; uint32_t pid, workers, children, reserved;
		uint64_t started, offsets[4];
	} segment = { .magic = 0x314452414f425744ULL, .bytes = 4096 };
	struct dw_worker *root;
	void *cell;
	char path[64], target[64];
	ssize_t length;
	int fd = -1;

	/* The layout of a real one. */
	root = make_tree(0, DW_PROCESS, &cell);
	for (int i = 3; i < 200 && fd < 0; i++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		length = readlink(path, target, sizeof(target) - 1);
		if (length > 0 && !strncmp(target, "/memfd:distworker-tree", 22))
			fd = i;
	}
	REQUIRE(fd >= 0);
	CHECK_EQ(pread(fd, &segment, sizeof(segment), 0), sizeof(segment));
	CHECK_EQ(segment.pid, getpid());
	end_tree(root);

	/* As it was it is good, but for its size. */
	CHECK_EQ(open_forged(&segment, sizeof(segment), segment.bytes + 4096, true), -EPROTO);
	CHECK_EQ(open_forged(&segment, sizeof(segment), segment.bytes, false), -ENOENT);
	for (int i = 0; i < 4; i++) {
		uint64_t kept = segment.offsets[i];

		segment.offsets[i] = segment.bytes;
		CHECK_EQ(open_forged(&segment, sizeof(segment), segment.bytes, true), -EPROTO);
		segment.offsets[i] = UINT64_MAX - 127;
		CHECK_EQ(open_forged(&segment, sizeof(segment), segment.bytes, true), -EPROTO);
		segment.offsets[i] = kept;
	}
	segment.children = UINT32_MAX;
	CHECK_EQ(open_forged(&segment, sizeof(segment), segment.bytes, true), -EPROTO);
	segment.children = 1;
	segment.layout++;
	CHECK_EQ(open_forged(&segment, sizeof(segment), segment.bytes, true), -EPROTO);
	segment.layout--;
	segment.magic++;
	CHECK_EQ(open_forged(&segment, sizeof(segment), segment.bytes, true), -ENOENT);
	segment.magic--;
	segment.pid = 1;
	CHECK_EQ(open_forged(&segment, sizeof(segment), segment.bytes, true), -ENOENT);
	CHECK_EQ(open_forged(&segment, 8, 8, true), -ENOENT);
}

TEST(calls_refuse_what_makes_no_sense)
{
	struct dw_tree_worker worker = { .size = 3 };
	struct dw_worker *root;
	struct dw_tree *tree;
	void *cell;

	CHECK_EQ(dw_tree_open(0, 0, &tree), -EINVAL);
	CHECK_STR(dw_strerror_last(), "pid is 0");
	CHECK_EQ(dw_tree_open(getpid(), 0, &tree), -ENOENT);
	CHECK_EQ(dw_tree_open(INT32_MAX, 0, &tree), -ENOENT);
	root = make_tree(0, DW_PROCESS, &cell);
	CHECK_EQ(dw_tree_open(getpid(), 1, &tree), -ENOENT);
	REQUIRE(dw_tree_open(getpid(), 0, &tree) == 0);
	CHECK_EQ(dw_tree_worker(tree, 0, &worker), -EINVAL);
	CHECK_STR(dw_strerror_last(), "size is 3");
	CHECK_EQ(dw_tree_report(tree, 0, NULL, NULL), -EINVAL);
	dw_tree_close(tree);
	dw_tree_close(NULL);
	end_tree(root);
}
