/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Hierarchies from one to four levels, in every mix of processes and threads, with chips at the
 * bottom: order, configuration and arguments of any size reach the lowest level, runs side by side
 * keep their results apart, and thousands of runs leave nothing behind in any process of the tree.
 */
#define UNIT_SECONDS 100
#include <malloc.h>
#include <sys/prctl.h>
#include "failure.h"

static dw_callable append, walk, pass, sum;

/* tensor[0] = 10 × tensor[0] + scalar[0] */
static int sub_append(const struct dw_args *args, void *context)
{
	int64_t *cell = dw_args_data(args, 0);

	(void)context;
	*cell = 10 * *cell + dw_args_int(args, 0);
	return 0;
}

static int submit_with(struct dw_orch *orch, dw_callable callable, void *cell, int64_t value,
		       uint32_t worker, const struct dw_config *config)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	options.place = DW_PLACE(worker);
	options.config = *config;
	options.config.block_dim++;
	return submit_one(orch, callable, cell, DW_INOUT, value, &options, NULL);
}

/*
 * Each level writes its depth, hands on to its nested Worker or its chip, and writes its depth
 * again: 123x321. Each expects the configuration that the one above gave it.
 */
static int orch_walk(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	bool top = !args || !dw_args_tensor_count(args);
	int64_t *cell = top ? chain.cells : dw_args_data(args, 0);
	int64_t depth = top ? 1 : dw_args_int(args, 0);
	dw_callable next = walk;
	int result = 0;

	if (context != &chain || config->block_dim != depth || config->aicpu_thread_num != 2 ||
	    config->flags != DW_CONFIG_PROFILING)
		return dw_task_fail(EBADMSG,
				    "depth %d: context %p, block_dim %d, %d threads, flags %#x",
				    (int)depth, context, config->block_dim,
				    config->aicpu_thread_num, config->flags);
	/*
	 * A handle from after init is in no other process's memory; its name is known everywhere.
	 */
	if (depth == (int64_t)chain.levels)
		result = dw_orch_find(orch, "sim:triple_add", &next);
	if (!result)
		result = submit_with(orch, append, cell, depth, DW_ANY, config);
	if (!result)
		result = submit_with(orch, next, cell, depth + 1, 0, config);
	if (!result)
		result = submit_with(orch, append, cell, depth, DW_ANY, config);
	return result;
}

/* A chain whose Workers have a sub worker each, and the lowest a chip as well. */
static void create_with_chip(unsigned levels, unsigned threads)
{
	struct dw_chip_options chip = { .driver = "sim" };

	memset(&chain, 0, sizeof(chain));
	chain.levels = levels;
	for (unsigned i = 0; i < levels; i++) {
		struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

		options.subs = 1;
		options.mode = threads >> i & 1 ? DW_THREAD : DW_PROCESS;
		set_small(&options);
		if (i + 1 == levels) {
			options.chips = &chip;
			options.chip_count = 1;
			options.chip_size = sizeof(struct dw_chip_options);
		}
		CHECK_EQ(dw_worker_create(DW_LEVEL_NODE + levels - 1 - i, &options,
					  &chain.worker[i]),
			 0);
		if (i)
			CHECK_EQ(dw_worker_add_child(chain.worker[i - 1], chain.worker[i], NULL),
				 0);
	}
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "append", sub_append, NULL, &append), 0);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "walk", orch_walk, &chain, &walk), 0);
	CHECK_EQ(dw_buffer_create(chain.worker[0], 4096, (void **)&chain.cells), 0);
}

/* Goes down before init or after it, to wherever the chip is. */
static void register_triple(void)
{
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	dw_callable triple;

	image.driver = "sim";
	image.entry = "triple_add";
	image.path = beside("fixtures/chip_kernels.so");
	CHECK_EQ(dw_callable_register_image(chain.worker[0], &image, &triple), 0);
}

static int64_t walked(unsigned levels)
{
	int64_t cell = 0;

	for (unsigned depth = 1; depth <= levels; depth++)
		cell = 10 * cell + depth;
	cell = 3 * cell + levels + 1;
	for (unsigned depth = levels; depth; depth--)
		cell = 10 * cell + depth;
	return cell;
}

static void walk_in_every_mix(unsigned levels)
{
	struct dw_config config = { .block_dim = 1,
				    .aicpu_thread_num = 2,
				    .flags = DW_CONFIG_PROFILING };

	for (unsigned threads = 0; threads < 1u << levels; threads++) {
		create_with_chip(levels, threads);
		if (threads & 1)
			register_triple();
		if (!CHECK_EQ(dw_worker_init(chain.worker[0]), 0))
			printf("# %s\n", dw_strerror_last());
		if (!(threads & 1))
			register_triple();
		for (int i = 0; i < 3; i++) {
			chain.cells[0] = 0;
			if (!CHECK_EQ(dw_worker_run(chain.worker[0], orch_walk, NULL, &config,
						    &chain),
				      0))
				printf("# %s\n", dw_strerror_last());
			CHECK_EQ(chain.cells[0], walked(levels));
		}
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		if (unit_failures)
			printf("# %u levels, threads %#x\n", levels, threads);
		chain_destroy();
	}
}

TEST(every_mix_of_one_and_two_levels)
{
	walk_in_every_mix(1);
	walk_in_every_mix(2);
}

TEST(every_mix_of_three_levels)
{
	walk_in_every_mix(3);
}

TEST(every_mix_of_four_levels)
{
	walk_in_every_mix(4);
}

/* ----------------------------------------------------------------- arguments */

#define MOST 2500

/* tensor[0] = the others' sum, and that of the scalars */
static int sub_sum(const struct dw_args *args, void *context)
{
	size_t tensors = dw_args_tensor_count(args), scalars = dw_args_scalar_count(args);
	int64_t result = 0;

	for (size_t i = 1; i < tensors; i++)
		result += *(int64_t *)dw_args_data(args, i);
	for (size_t i = 0; i < scalars; i++)
		result += dw_args_int(args, i);
	/* Without any argument: where a task says that it ran. */
	*(int64_t *)(tensors ? dw_args_data(args, 0) : context) = result;
	return 0;
}

/* Passes its arguments on, unchanged. */
static int orch_pass(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	bool bottom = !dw_orch_worker_count(orch);
	struct dw_args *own;
	int result;

	(void)config;
	(void)context;
	dw_args_create(&own);
	for (size_t i = 0; i < dw_args_tensor_count(args); i++)
		dw_args_add_tensor(own, dw_args_tensor(args, i), i ? DW_INPUT : DW_OUTPUT);
	for (size_t i = 0; i < dw_args_scalar_count(args); i++)
		dw_args_add_scalar(own, dw_args_scalar(args, i));
	result = dw_submit(orch, bottom ? sum : pass, own, NULL, NULL);
	dw_args_destroy(own);
	return result;
}

/* One tensor for the result, and others. Returns the expected sum. */
static int64_t make_args(struct dw_args *args, size_t tensors, size_t scalars)
{
	int64_t wanted = 0;

	dw_args_reset(args);
	for (size_t i = 0; i < tensors; i++) {
		int64_t *cell = &chain.cells[i ? 1 + i % 256 : 0];
		struct dw_tensor tensor = scalar_tensor(cell);

		dw_args_add_tensor(args, &tensor, i ? DW_INPUT : DW_OUTPUT);
		wanted += i ? *cell : 0;
	}
	for (size_t i = 0; i < scalars; i++) {
		dw_args_add_int(args, (int64_t)i - 9);
		wanted += (int64_t)i - 9;
	}
	return wanted;
}

/*
 * A frame of 512 bytes has room for 11 tensors, or one and 50 scalars: these and one more, none at
 * all, and arguments that only the arena can hold.
 */
static void pass_all(unsigned threads)
{
	static const size_t sizes[][2] = {
		{ 0, 0 }, { 1, 0 }, { 0, 1 }, { 11, 0 }, { 11, 1 }, { 12, 0 }, { 1, 50 }, { 1, 51 },
		{ MOST, 0 }, { 0, MOST }, { MOST, MOST },
	};
	struct dw_args *args;
	int64_t *there;

	chain_create(4, 1, threads, NULL);
	there = &chain.cells[300];
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "sum", sub_sum, there, &sum), 0);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "pass", orch_pass, NULL, &pass), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	dw_args_create(&args);
	for (int i = 1; i <= 256; i++)
		chain.cells[i] = i * i;
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++)
		for (int i = 0; i < 3; i++) {
			int64_t wanted = make_args(args, sizes[k][0], sizes[k][1]);

			chain.cells[0] = *there = -1;
			if (!CHECK_EQ(dw_worker_run(chain.worker[0], orch_pass, args, NULL, NULL),
				      0))
				printf("# %s\n", dw_strerror_last());
			CHECK_EQ(sizes[k][0] ? chain.cells[0] : *there, wanted);
		}
	dw_args_destroy(args);
	chain_destroy();
}

TEST(arguments_of_any_size_reach_the_lowest_level)
{
	static const unsigned mixes[] = { 0, 0xf, 0x5, 0xa };

	for (int i = 0; i < 4; i++)
		pass_all(mixes[i]);
}

/* ---------------------------------------------------------------- many runs */

/* Runs side by side, some of which fail, each at its own depth: every one has its own result. */
TEST_IN_BOTH_MODES(runs_side_by_side_have_each_their_own_result)
{
	struct order orders[12];
	struct dw_run *runs[12];
	char path[128];

	chain_init(3, 2, threads_of(mode), NULL);
	for (int round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 12; i++) {
			orders[i] = (struct order){ .depth = i % 3,
						    .how = i % 4 ? BREAK_NOT : BREAK_ERROR,
						    .detail = EIO + (int)i,
						    .cell = 2 * i };
			runs[i] = chain_start(&orders[i], 0);
		}
		for (unsigned i = 0; i < 12; i++) {
			int wanted = i % 4 ? 0 : -EIO - (int)i;

			if (!CHECK_EQ(dw_run_wait(runs[i]), wanted))
				printf("# run %u: %s\n", i, dw_strerror_last());
			CHECK_EQ(chain.cells[2 * i], wanted ? 0 : round + 1);
			if (!wanted)
				continue;
			snprintf(path, sizeof(path), "%s/sub", chain_path(i % 3));
			check_text(path);
			check_text("task 1 \"deep\"");
		}
	}
	chain_destroy();
}

struct progress {
	_Atomic int inside, together;
	uint64_t calls, submitted, finished;
	bool backwards;
};

static void on_progress(uint64_t submitted, uint64_t finished, void *context)
{
	struct progress *progress = context;

	if (progress->inside++)
		progress->together++;
	progress->backwards |= submitted < progress->submitted || finished < progress->finished ||
			       finished > submitted;
	progress->submitted = submitted;
	progress->finished = finished;
	progress->calls++;
	progress->inside--;
}

static int orch_thousands(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	int result = 0;

	(void)args;
	(void)config;
	(void)context;
	for (int i = 0; i < 5000 && !result; i++)
		result = submit_one(orch, chain.broken, &chain.cells[i % 7], DW_INOUT, BREAK_NOT,
				    NULL, NULL);
	return result;
}

/* Calls never overlap and never go backwards, and the last one reports everything. */
TEST_IN_BOTH_MODES(progress_of_a_run_is_told_up_to_its_end)
{
	struct dw_run_options options = DW_OPTIONS(dw_run_options);
	struct progress progress = { 0 };
	struct dw_run *run;

	chain_init(1, 2, threads_of(mode), NULL);
	options.progress = on_progress;
	options.progress_context = &progress;
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_thousands, NULL, NULL, NULL, &options, &run),
		 0);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK(progress.calls > 0);
	CHECK_EQ(progress.together, 0);
	CHECK(!progress.backwards);
	CHECK_EQ(progress.submitted, 5000);
	CHECK_EQ(progress.finished, 5000);
	chain_destroy();
}

struct growth {
	uint64_t anonymous;		/* KiB, of this process and all below it */
	unsigned descriptors, processes;
	size_t allocated;		/* bytes, of this process */
};

static unsigned long status_kib(pid_t pid, const char *key)
{
	char path[64], line[256];
	unsigned long value = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, key, strlen(key)) == 0)
			value = strtoul(line + strlen(key), NULL, 10);
	if (file)
		fclose(file);
	return value;
}

static struct growth measure(void)
{
	struct growth now = { 0 };
	pid_t pids[64];
	char path[64];

	now.processes = descendants(pids, 63);
	pids[now.processes++] = getpid();
	for (unsigned i = 0; i < now.processes; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd", (int)pids[i]);
		now.descriptors += count_dir(path);
		now.anonymous += status_kib(pids[i], "RssAnon:");
	}
	now.allocated = mallinfo2().uordblks;
	return now;
}

static void run_often(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct order order = { .depth = 2,
				       .how = i % 8 ? BREAK_NOT : BREAK_ERROR,
				       .detail = EIO };
		int wanted = i % 8 ? 0 : -EIO;

		/* Now and then a run is refused, or cancelled at once. */
		if (i % 16 == 3) {
			struct dw_run *run = chain_start(&order, 0);

			dw_run_cancel(run);
			dw_run_wait(run);
		} else {
			CHECK_EQ(chain_run(order), wanted);
		}
	}
}

/*
 * Of thousands of runs over three levels, with failures and cancels among them, nothing stays in
 * any process.
 */
TEST_IN_BOTH_MODES(thousands_of_runs_leave_nothing_behind_in_any_process)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct growth before, after;

	/* If the kernel merges small pages into a huge one, that is no growth. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	chain_init(3, 1, threads_of(mode), NULL);
	run_often(500);
	before = measure();
	run_often(4000);
	after = measure();
	CHECK_EQ(after.processes, before.processes);
	CHECK_EQ(after.descriptors, before.descriptors);
	CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &stats), 0);
	CHECK_EQ(stats.heap_used, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	/* A run that left a hundred bytes in one of them would leave 400 KiB. */
	CHECK(after.allocated <= before.allocated + 16384);
	if (!CHECK(after.anonymous <= before.anonymous + 256))
		printf("# %llu KiB, then %llu\n", (unsigned long long)before.anonymous,
		       (unsigned long long)after.anonymous);
	printf("# %zd bytes more, %lld KiB of all processes\n",
	       (ssize_t)(after.allocated - before.allocated),
	       (long long)(after.anonymous - before.anonymous));
#endif
	chain_destroy();
}
