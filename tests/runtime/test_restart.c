/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * DW_RESTART_ON_DEATH: dead sub workers, chips and nested Workers are replaced; tasks that were not
 * started wait or go elsewhere, those that may be repeated are; crash loops end.
 */
#include "failure.h"

static struct dw_worker_options restarting(uint32_t limit)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.restart = DW_RESTART_ON_DEATH;
	options.restart_limit = limit;
	return options;
}

static struct dw_submit_options with_retries(uint32_t retries)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	options.retries = retries;
	return options;
}

static uint64_t restarts(void)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);

	CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &stats), 0);
	return stats.restarts;
}

/* --------------------------------------------------------------- sub workers */

TEST(dead_sub_is_replaced_and_the_next_run_finds_it)
{
	struct dw_worker_options options = restarting(100);

	chain_init(1, 1, 0, &options);
	for (int i = 1; i <= 10; i++) {
		CHECK_EQ(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGSEGV }),
			 -EOWNERDEAD);
		check_text("killed by SIGSEGV");
		CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
		CHECK_EQ(chain.cells[0], i);
	}
	CHECK_EQ(restarts(), 10);
	chain_destroy();
}

TEST(task_with_retries_is_run_again_on_the_replacement)
{
	struct dw_worker_options options = restarting(0);

	for (unsigned depth = 0; depth < 4; depth++) {
		chain_init(4, 1, 0, &options);
		CHECK_EQ(chain_run((struct order){ .depth = depth,
						   .how = BREAK_ONCE,
						   .detail = SIGKILL,
						   .options = with_retries(2),
						   .options_on_the_way = true }),
			 0);
		CHECK_EQ(chain.cells[0], 1);
		CHECK_EQ(chain.cells[1], 1);
		chain_destroy();
	}
}

TEST(task_with_retries_goes_elsewhere_when_nobody_is_replaced)
{
	chain_init(1, 2, 0, NULL);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_ONCE, .detail = SIGKILL,
					   .options = with_retries(1) }), 0);
	CHECK_EQ(chain.cells[0], 1);
	chain_destroy();
}

TEST(retries_end_with_the_number_of_attempts)
{
	struct dw_worker_options options = restarting(100);

	chain_init(1, 1, 0, &options);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGABRT,
					   .options = with_retries(3) }), -EOWNERDEAD);
	check_text("killed by SIGABRT");
	check_text("(attempt 4)");
	CHECK_EQ(chain.cells[0], 0);
	chain_destroy();
}

static int orch_queue(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct order order = { .how = BREAK_HANG };
	int result = submit_order(orch, chain.broken, &order, chain.cells + order.cell, 0, NULL);
	dw_callable *add = context;

	(void)args;
	(void)config;
	for (int i = 0; i < 100 && result == 0; i++)
		result = submit_one(orch, *add, &chain.cells[10 + i], DW_INOUT, 1, NULL, NULL);
	return result;
}

TEST(what_was_not_started_waits_for_the_replacement)
{
	struct dw_worker_options options = restarting(0);
	struct dw_run *run;
	dw_callable add;
	int64_t sum = 0;

	chain_create(1, 1, 0, &options);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "add", sub_add, NULL, &add), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_start(chain.worker[0], orch_queue, NULL, NULL, &add, NULL, &run), 0);
	kill(heard(), SIGKILL);
	CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
	for (int i = 0; i < 100; i++) {
		CHECK(chain.cells[10 + i] <= 1);
		sum += chain.cells[10 + i];
	}
	CHECK_EQ(sum, 100);
	chain_destroy();
}

/* -------------------------------------------------------------- nested, chips */

TEST(dead_nested_worker_is_replaced_with_its_whole_subtree)
{
	struct dw_worker_options options = restarting(0);

	for (unsigned killed = 1; killed < 4; killed++) {
		struct order order = { .depth = 3, .how = BREAK_HANG };
		struct dw_run *run;
		pid_t bottom;

		chain_init(4, 1, 0, &options);
		run = chain_start(&order, 0);
		bottom = heard();
		kill(pid_of(chain_path(killed)), SIGKILL);
		CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
		CHECK_EQ(chain_run((struct order){ .depth = 3, .how = BREAK_NOT }), 0);
		CHECK(!lives(bottom));
		CHECK_EQ(chain.cells[0], 1);
		chain_destroy();
	}
}

/*
 * The first attempt's subtree writes into the task's memory as long as it lives; the second
 * begins only when it does not any more.
 */
static int sub_scribble(const struct dw_args *args, void *context)
{
	volatile int64_t *cell = dw_args_data(args, 0);

	(void)context;
	if (cell[2]++ == 0) {
		say();
		for (;;)
			cell[0] = -1;
	}
	cell[0] = 7;
	for (int i = 0; i < 200; i++) {
		sched_yield();
		if (cell[0] != 7)
			return dw_task_fail(EIO, "somebody else writes here");
	}
	return 0;
}

/* Scribbles as long as it lives. */
static int sub_scribble_on(const struct dw_args *args, void *context)
{
	volatile int64_t *cell = dw_args_data(args, 0);

	(void)context;
	say();
	for (;;)
		cell[0] = -1;
	return 0;
}

static int orch_scribble(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, chain.broken, chain.cells, DW_INOUT, 0, NULL, NULL);
}

static int orch_scribble_below(struct dw_orch *orch, const struct dw_args *args,
			       const struct dw_config *config, void *context)
{
	struct dw_submit_options options = with_retries(1);

	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, chain.down, chain.cells, DW_INOUT, 0, &options, NULL);
}

static int orch_down(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, chain.down, chain.cells, DW_INOUT, 0, NULL, NULL);
}

/* When the run has returned, no process writes into the caller's memory any more. */
TEST(memory_of_a_failed_task_is_the_callers_again)
{
	for (int round = 0; round < 10; round++) {
		volatile int64_t *cell;
		struct dw_run *run;

		chain_create(3, 4, 0, NULL);
		CHECK_EQ(dw_callable_register_sub(chain.worker[0], "scribble", sub_scribble_on,
						  NULL, &chain.broken),
			 0);
		CHECK_EQ(dw_callable_register_orch(chain.worker[0], "below", orch_scribble, NULL,
						   &chain.down), 0);
		CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
		CHECK_EQ(dw_worker_start(chain.worker[0], orch_down, NULL, NULL, NULL, NULL, &run),
			 0);
		heard();
		kill(round % 2 ? pid_of(chain_path(1)) : parent_of(pid_of(chain_path(1))), SIGKILL);
		CHECK_EQ(dw_run_wait(run), -EOWNERDEAD);
		cell = chain.cells;
		cell[0] = 5;
		pause_ms(10);
		CHECK_EQ(cell[0], 5);
		chain_destroy();
	}
}

TEST(task_is_retried_only_when_the_old_subtree_is_gone)
{
	struct dw_worker_options options = restarting(0);

	for (int round = 0; round < 5; round++) {
		struct dw_run *run;
		pid_t pid;

		chain_create(2, 4, 0, &options);
		CHECK_EQ(dw_callable_register_sub(chain.worker[0], "scribble", sub_scribble, NULL,
						  &chain.broken), 0);
		CHECK_EQ(dw_callable_register_orch(chain.worker[0], "scribble_orch", orch_scribble,
						   NULL, &chain.down), 0);
		/* A second pod could take the retry at once. */
		struct dw_worker_options second = options;
		struct dw_worker *other;

		set_small(&second);
		second.subs = 1;
		CHECK_EQ(dw_worker_create(3, &second, &other), 0);
		CHECK_EQ(dw_worker_add_child(chain.worker[0], other, NULL), 0);
		CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
		CHECK_EQ(dw_worker_start(chain.worker[0], orch_scribble_below, NULL, NULL, NULL,
					 NULL, &run),
			 0);
		pid = heard();
		kill(parent_of(parent_of(pid)), SIGKILL);
		if (!CHECK_EQ(dw_run_wait(run), 0))
			printf("# %s\n", dw_strerror_last());
		CHECK_EQ(chain.cells[0], 7);
		CHECK_EQ(chain.cells[2], 2);
		chain_destroy();
	}
}

static int orch_chip(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_tensor tensor = scalar_tensor(chain.cells);
	struct dw_args *one;
	int result;

	(void)args;
	(void)config;
	dw_args_create(&one);
	dw_args_add_tensor(one, &tensor, DW_INOUT);
	result = dw_submit(orch, *(dw_callable *)context, one, NULL, NULL);
	dw_args_destroy(one);
	return result;
}

static dw_callable chip_image(struct dw_worker *worker, const char *driver, const char *entry)
{
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	int32_t inout = DW_DIR_INOUT;
	dw_callable callable = 0;

	image.driver = driver;
	image.entry = entry;
	image.data = entry;
	image.bytes = strlen(entry);
	image.signature = &inout;
	image.signature_count = 1;
	CHECK_EQ(dw_callable_register_image(worker, &image, &callable), 0);
	return callable;
}

/* One image from before init, one from after it: the replacement knows both. */
TEST(dead_chip_is_replaced_and_has_its_images)
{
	struct dw_chip_options chip = { .driver = beside("fixtures/bad_chip.so") };
	struct dw_worker_options options = restarting(0);
	dw_callable segv, add;
	struct dw_worker *node;

	memset(&chain, 0, sizeof(chain));
	set_small(&options);
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(struct dw_chip_options);
	CHECK_EQ(dw_worker_create(3, &options, &node), 0);
	chain.worker[0] = node;
	CHECK_EQ(dw_buffer_create(node, 4096, (void **)&chain.cells), 0);
	segv = chip_image(node, chip.driver, "segv");
	CHECK_EQ(dw_worker_init(node), 0);
	add = chip_image(node, chip.driver, "add");
	for (int i = 1; i <= 3; i++) {
		CHECK_EQ(dw_worker_run(node, orch_chip, NULL, NULL, &segv), -EOWNERDEAD);
		check_text("node0/chip0: task 1 (bad_chip.so:segv): EOWNERDEAD: killed by SIGSEGV");
		CHECK_EQ(dw_worker_run(node, orch_chip, NULL, NULL, &add), 0);
		CHECK_EQ(chain.cells[0], i);
	}
	chain_destroy();
}

/* ------------------------------------------------------------------- symbols */

static int orch_symbol(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, *(dw_callable *)context, chain.cells, DW_INOUT, 5, NULL, NULL);
}

TEST(replacements_know_what_was_registered_after_init)
{
	struct dw_worker_options options = restarting(0);
	char symbol[PATH_MAX + 64];
	dw_callable add, below;

	chain_init(2, 1, 0, &options);
	snprintf(symbol, sizeof(symbol), "%s:symbol_add", beside("fixtures/symbols.so"));
	CHECK_EQ(dw_callable_register_symbol(chain.worker[0], symbol, DW_SYMBOL_SUB, &add), 0);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGKILL }), -EOWNERDEAD);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_symbol, NULL, NULL, &add), 0);
	CHECK_EQ(chain.cells[0], 5);
	/* In the nested Worker's replacement, too; it looks up "add" by name. */
	CHECK_EQ(dw_callable_find(chain.worker[0], symbol, &below), 0);
	CHECK_EQ(below, add);
	kill(pid_of(chain_path(1)), SIGKILL);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(dw_callable_register_symbol(chain.worker[0], symbol, DW_SYMBOL_SUB, &add),
			 0);
	CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), 0);
	CHECK_EQ(chain.cells[0], 6);
	chain_destroy();
}

struct registrar {
	char symbol[PATH_MAX + 64];
	_Atomic int stop;
	int failures;
};

static void *register_again_and_again(void *argument)
{
	struct registrar *registrar = argument;
	dw_callable callable;

	while (!registrar->stop) {
		int result = dw_callable_register_symbol(chain.worker[0], registrar->symbol,
							 DW_SYMBOL_SUB, &callable);

		if (result == 0)
			result = dw_callable_unregister(chain.worker[0], callable);
		registrar->failures += result != 0;
	}
	return NULL;
}

/* A registration neither hangs nor fails because a child dies meanwhile. */
TEST(registering_while_children_die_ends)
{
	struct dw_worker_options options = restarting(1000);
	struct registrar registrar = { .failures = 0 };
	pthread_t thread;

	chain_init(1, 2, 0, &options);
	snprintf(registrar.symbol, sizeof(registrar.symbol), "%s:symbol_add",
		 beside("fixtures/symbols.so"));
	pthread_create(&thread, NULL, register_again_and_again, &registrar);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGKILL }),
			 -EOWNERDEAD);
	registrar.stop = 1;
	pthread_join(thread, NULL);
	CHECK_EQ(registrar.failures, 0);
	chain_destroy();
}

/* ---------------------------------------------------------------- crash loop */

TEST(crash_loop_is_given_up_and_tells_its_history)
{
	struct dw_worker_options options = restarting(3);

	chain_init(1, 1, 0, &options);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGSEGV }), -EOWNERDEAD);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGBUS }), -EOWNERDEAD);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGFPE }), -EOWNERDEAD);
	check_text("killed by SIGFPE, pid ");
	check_text("given up after 3 deaths within 60 s: before it killed by SIGBUS, pid ");
	check_text("killed by SIGSEGV, pid ");
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), -ENODEV);
	CHECK_EQ(restarts(), 2);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	chain_destroy();
}

TEST(crash_loop_ends_a_task_with_many_retries)
{
	struct dw_worker_options options = restarting(4);

	chain_init(1, 1, 0, &options);
	CHECK(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGSEGV,
					.options = with_retries(1000) }) < 0);
	CHECK_EQ(restarts(), 3);
	chain_destroy();
}

TEST(restart_limit_may_be_large)
{
	struct dw_worker_options options = restarting(1000);

	chain_init(1, 1, 0, &options);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(chain_run((struct order){ .how = BREAK_EXIT }), -EOWNERDEAD);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	chain_destroy();
}

/* ------------------------------------------------------------ while closing */

TEST(close_in_the_middle_of_a_restart)
{
	struct dw_worker_options options = restarting(1000);

	for (unsigned round = 0; round < 30; round++) {
		char path[128];
		uint64_t start;

		chain_init(2, 2, 0, &options);
		snprintf(path, sizeof(path), "%s/sub0", chain_path(0));
		kill(round % 2 ? pid_of(chain_path(1)) : pid_of(path), SIGKILL);
		nanosleep(&(struct timespec){ 0, (long)round * 100000 }, NULL);
		start = now_ns();
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		CHECK(unit_within(start, 20 * SECOND_NS));
		chain_destroy();
	}
}

/* A task that waits for a replacement is told that there will be none. */
TEST(spawner_that_dies_in_the_middle_of_a_restart)
{
	struct dw_worker_options options = restarting(1000);

	for (unsigned round = 0; round < 30; round++) {
		struct order order = { .how = BREAK_HANG, .options = with_retries(1000) };
		struct dw_run *run;
		pid_t pid, spawner;
		int result;

		chain_init(1, 1, 0, &options);
		run = chain_start(&order, 0);
		pid = heard();
		spawner = parent_of(pid);
		kill(pid, SIGKILL);
		nanosleep(&(struct timespec){ 0, (long)round * 30000 }, NULL);
		kill(spawner, SIGKILL);
		result = dw_run_wait(run);
		CHECK(result == -EOWNERDEAD || result == -ENODEV);
		check_text("its spawner died");
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		chain_destroy();
	}
}

/* ----------------------------------------------------------- late completion */

/* Leaves a process behind that goes on writing into every shared mapping that it can. */
static int sub_late(const struct dw_args *args, void *context)
{
	volatile int64_t *cell = dw_args_data(args, 0);

	(void)context;
	if (cell[2]++)
		return 0;
	if (fork() == 0) {
		char line[512];
		unsigned long begin, end;
		FILE *maps = fopen("/proc/self/maps", "re");

		setsid();
		say();
		/* The mailbox is among the small ones. */
		while (maps && fgets(line, sizeof(line), maps))
			if (strstr(line, "rw-s") && sscanf(line, "%lx-%lx", &begin, &end) == 2 &&
			    end - begin < 1 << 20)
				for (;;)
					for (volatile uint32_t *word = (uint32_t *)begin;
					     word < (uint32_t *)end; word++)
						*word = *word + 1;
		for (;;)
			pause();
	}
	heard();
	kill(getpid(), SIGKILL);
	return 0;
}

TEST(nothing_of_the_old_generation_reaches_the_new_one)
{
	struct dw_worker_options options = restarting(1000);
	dw_callable late;

	for (int round = 0; round < 5; round++) {
		chain_create(1, 1, 0, &options);
		CHECK_EQ(dw_callable_register_sub(chain.worker[0], "late", sub_late, NULL, &late),
			 0);
		CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_symbol, NULL, NULL, &late),
			 -EOWNERDEAD);
		for (int i = 0; i < 50; i++)
			CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
		CHECK_EQ(restarts(), 1);
		chain_destroy();
	}
}
