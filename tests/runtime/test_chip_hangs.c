/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A driver that hangs in one of its functions: the task's deadline, the run's and a cancel end the
 * call. In a process the chip is killed; a thread goes on, and memory that it may still write is
 * given to no other task. Each case has a process of its own, because a thread that hangs stays
 * until its process ends.
 */
#include <dlfcn.h>
#include "chips.h"

/* All deadlines below are shorter; a case that takes this long hangs. */
#define CASE_SECONDS 100

enum ending { BY_TASK, BY_RUN, BY_CANCEL };
static const char *const ending_names[] = { "the task's deadline", "the run's deadline",
					    "a cancel" };

struct hang {
	enum dw_mode mode;
	const char *function;
	enum ending by;
	enum dw_restart restart;
};

/* ------------------------------------------------------------------- the rig */

struct hung_rig {
	struct dw_worker *node;
	int64_t *cells;
	dw_callable add, hang, sub;
	const struct hang *hang_of;
	struct dw_tensor memory;	/* that outlives runs */
	/* of the orchestration function */
	int result;
	char text[512];
};

static char chip_options[64];

static dw_callable hung_image(struct hung_rig *rig, const char *entry, int error)
{
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	dw_callable callable = 0;

	options.driver = fixture("hung_chip");
	options.entry = entry;
	options.data = entry;
	options.bytes = strlen(entry);
	CHECK_EQ(dw_callable_register_image(rig->node, &options, &callable), error);
	return callable;
}

static bool rig_begin(struct hung_rig *rig, const struct hang *hang, uint64_t timeout_ns,
		      uint64_t init_timeout_ns, uint64_t close_timeout_ns)
{
	static struct dw_chip_options chips[1];
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	void *cells;

	say_prepare();
	snprintf(chip_options, sizeof(chip_options), "hang=%s,say=%d", hang->function, said[1]);
	chips[0] =
		(struct dw_chip_options){ .driver = fixture("hung_chip"), .options = chip_options };
	memset(rig, 0, sizeof(*rig));
	rig->hang_of = hang;
	options.subs = 1;
	options.mode = hang->mode;
	options.restart = hang->restart;
	options.heap_ring_bytes = 64 << 20;
	options.arena_bytes = 256 << 20;
	options.chips = chips;
	options.chip_count = 1;
	options.chip_size = sizeof(chips[0]);
	options.timeout_ns = timeout_ns;
	options.init_timeout_ns = init_timeout_ns;
	options.close_timeout_ns = close_timeout_ns;
	if (!CHECK_EQ(dw_worker_create(3, &options, &rig->node), 0) ||
	    !CHECK_EQ(dw_buffer_create(rig->node, 64 * sizeof(int64_t), &cells), 0))
		return false;
	rig->cells = cells;
	CHECK_EQ(dw_callable_register_sub(rig->node, "add", sub_add, NULL, &rig->sub), 0);
	rig->add = hung_image(rig, "add", 0);
	if (strcmp(hang->function, "load") != 0)
		rig->hang = hung_image(rig, "hang", 0);
	return true;
}

/* In THREAD mode: lets the thread go, and waits until the chip works again. */
static void release(void)
{
	void *driver = dlopen(fixture("hung_chip"), RTLD_NOW | RTLD_NOLOAD);
	void *symbol = driver ? dlsym(driver, "hung_chip_release") : NULL;
	void (*call)(void);

	REQUIRE(symbol != NULL);
	memcpy(&call, &symbol, sizeof(call));
	call();
}

static int submit_cell(struct dw_orch *orch, dw_callable callable, int64_t *cell,
		       const char *name)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	options.name = name;
	return submit_one(orch, callable, cell, DW_INOUT, 1, &options, NULL);
}

static int orch_add(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct hung_rig *rig = context;

	(void)args;
	(void)config;
	return submit_cell(orch, rig->add, &rig->cells[8], "again");
}

/*
 * Checks that the chip works, or works again: at the latest when its thread has returned from the
 * hang.
 */
static void check_usable(struct hung_rig *rig)
{
	uint64_t begun = now_ns();
	int result = -ENODEV;

	while (result == -ENODEV && unit_within(begun, 20000 * MS)) {
		result = dw_worker_run(rig->node, orch_add, NULL, NULL, rig);
		if (result == -ENODEV)
			pause_ms(1);
	}
	if (!CHECK_EQ(result, 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(rig->cells[8], 1);
}

/* Ends the run, which hangs, as `by` says, and checks how it ended. */
static void end_run(struct hung_rig *rig, struct dw_run *run, enum ending by)
{
	if (by == BY_CANCEL)
		CHECK_EQ(dw_run_cancel(run), 0);
	CHECK_EQ(dw_run_wait(run), by == BY_CANCEL ? -ECANCELED : -ETIMEDOUT);
	snprintf(rig->text, sizeof(rig->text), "%s", dw_strerror_last());
}

static struct dw_run *start(struct hung_rig *rig, dw_orch_fn *fn)
{
	struct dw_run_options options = DW_OPTIONS(dw_run_options);
	struct dw_run *run = NULL;

	if (rig->hang_of->by == BY_RUN)
		options.timeout_ns = ample(200 * MS);
	CHECK_EQ(dw_worker_start(rig->node, fn, NULL, NULL, rig, &options, &run), 0);
	return run;
}

/* Every case must leave a tree that works as far as it can, and can be closed. */
static void rig_end(struct hung_rig *rig)
{
	const struct hang *hang = rig->hang_of;

	if (hang->mode == DW_THREAD) {
		release();
		check_usable(rig);
	} else if (hang->restart == DW_RESTART_ON_DEATH) {
		check_usable(rig);
	}
	CHECK_EQ(dw_worker_close(rig->node), 0);
	dw_worker_destroy(rig->node);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* -------------------------------------------------------------------- cases */

/* Runs a case in a process of its own. */
static void in_a_process(void (*body)(const struct hang *hang), const struct hang *hang)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		unit_failures = 0;
		unit_bound(CASE_SECONDS);
		body(hang);
		_exit(unit_failures != 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (!CHECK_EQ(status, 0))
		printf("# %s in a %s, ended by %s\n", hang->function,
		       hang->mode == DW_THREAD ? "thread" : "process", ending_names[hang->by]);
}

static void by_each(enum dw_mode mode, const char *function, void (*body)(const struct hang *hang))
{
	for (enum ending by = BY_TASK; by <= BY_CANCEL; by++)
		in_a_process(body, &(struct hang){ mode, function, by, DW_RESTART_NEVER });
}

static uint64_t task_timeout(const struct hang *hang)
{
	return hang->by == BY_TASK ? ample(200 * MS) : 0;
}

static void check_said(struct hung_rig *rig, const char *part)
{
	CHECK_STR(rig->text, part);
	if (rig->hang_of->by != BY_TASK)
		return;
	CHECK_STR(rig->text, "node0/chip0");
	CHECK_STR(rig->text, rig->hang_of->mode == DW_THREAD ? "its thread goes on" : "was killed");
}

static int orch_alloc(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	uint32_t count = 8;
	struct dw_tensor tensor;

	(void)args;
	(void)config;
	(void)context;
	return dw_chip_alloc(orch, 0, DW_INT64, &count, 1, &tensor);
}

static void alloc_case(const struct hang *hang)
{
	struct hung_rig rig;
	struct dw_run *run;

	if (!rig_begin(&rig, hang, task_timeout(hang), 0, 0))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	run = start(&rig, orch_alloc);
	CHECK(heard() > 0);
	end_run(&rig, run, hang->by);
	check_said(&rig, hang->by == BY_TASK ? "dw_chip_alloc()" : "");
	rig_end(&rig);
}

TEST_IN_BOTH_MODES(an_allocation_that_hangs_is_ended)
{
	by_each(mode, "alloc", alloc_case);
}

static int orch_free(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	uint32_t count = 8;
	struct dw_tensor tensor;
	int result = dw_chip_alloc(orch, 0, DW_INT64, &count, 1, &tensor);

	(void)args;
	(void)config;
	(void)context;
	return result < 0 ? result : dw_chip_free(orch, &tensor);
}

static void free_case(const struct hang *hang)
{
	struct hung_rig rig;
	struct dw_run *run;

	if (!rig_begin(&rig, hang, task_timeout(hang), 0, 0))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	run = start(&rig, orch_free);
	CHECK(heard() > 0);
	end_run(&rig, run, hang->by);
	rig_end(&rig);
}

TEST_IN_BOTH_MODES(a_free_that_hangs_is_ended)
{
	by_each(mode, "free", free_case);
}

/*
 * Memory that the run left is freed at its end: the run does not wait for that, the next task does.
 */
static void left_case(const struct hang *hang)
{
	struct hung_rig rig;

	if (!rig_begin(&rig, hang, task_timeout(hang), 0, 0))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	CHECK_EQ(dw_worker_run(rig.node, orch_alloc, NULL, NULL, &rig), 0);
	CHECK(heard() > 0);
	if (hang->by == BY_TASK) {
		/* The task ends behind the hang: its chip is gone, or no worker is left for it. */
		int result = dw_worker_run(rig.node, orch_add, NULL, NULL, &rig);

		CHECK(result == -ENODEV || result == -EOWNERDEAD);
	} else {
		struct dw_run *run = start(&rig, orch_add);

		if (hang->by == BY_CANCEL)
			CHECK_EQ(dw_run_cancel(run), 0);
		CHECK_EQ(dw_run_wait(run), hang->by == BY_CANCEL ? -ECANCELED : -ETIMEDOUT);
	}
	/* The chip still works on it. */
	if (hang->mode == DW_THREAD)
		rig_end(&rig);
}

TEST_IN_BOTH_MODES(a_free_at_the_end_of_a_run_holds_no_later_one)
{
	by_each(mode, "free", left_case);
}

static int orch_hang(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct hung_rig *rig = context;
	int result = submit_cell(orch, rig->hang, &rig->cells[0], "hangs");

	(void)args;
	(void)config;
	/* This task writes the same memory, and so comes after it; another one does not. */
	if (result == 0)
		result = submit_cell(orch, rig->sub, &rig->cells[0], "behind");
	if (result == 0)
		result = submit_cell(orch, rig->sub, &rig->cells[1], "beside");
	return result;
}

static int orch_touch(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct hung_rig *rig = context;

	(void)args;
	(void)config;
	rig->result = submit_cell(orch, rig->sub, &rig->cells[0], "touches");
	snprintf(rig->text, sizeof(rig->text), "%s", dw_strerror_last());
	return submit_cell(orch, rig->sub, &rig->cells[1], "does not");
}

static void run_case(const struct hang *hang)
{
	struct hung_rig rig;
	struct dw_run *run;

	if (!rig_begin(&rig, hang, task_timeout(hang), 0, 0))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	run = start(&rig, orch_hang);
	CHECK(heard() > 0);
	end_run(&rig, run, hang->by);
	CHECK_EQ(rig.cells[0], 0);
	if (hang->by == BY_TASK)
		CHECK_EQ(rig.cells[1], 1);
	check_said(&rig, hang->by == BY_TASK ? "task 1 \"hangs\"" : "");
	if (hang->mode == DW_THREAD) {
		/* No task gets memory that the thread may write before the thread has come back. */
		rig.cells[1] = 0;
		CHECK_EQ(dw_worker_run(rig.node, orch_touch, NULL, NULL, &rig), 0);
		CHECK_EQ(rig.result, -EBUSY);
		CHECK_STR(rig.text, "node0/chip0 may still write to ");
		CHECK_EQ(rig.cells[1], 1);
	}
	rig_end(&rig);
	if (hang->mode == DW_THREAD)
		CHECK_EQ(rig.result, -EBUSY);
}

/* A call can ask whether it was cancelled; one that does not is ended by a deadline. */
TEST_IN_BOTH_MODES(a_call_that_hangs_is_ended_by_a_deadline)
{
	in_a_process(run_case, &(struct hang){ mode, "run", BY_TASK, DW_RESTART_NEVER });
	in_a_process(run_case, &(struct hang){ mode, "run", BY_RUN, DW_RESTART_NEVER });
}

static int orch_copy(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct hung_rig *rig = context;
	struct dw_tensor cell = scalar_tensor(&rig->cells[0]);
	int result;

	(void)args;
	(void)config;
	options.name = "copies";
	result = strcmp(rig->hang_of->function, "copy_in") == 0 ?
			 dw_submit_copy(orch, &rig->memory, &cell, &options, NULL) :
			 dw_submit_copy(orch, &cell, &rig->memory, &options, NULL);
	if (result == 0)
		result = submit_cell(orch, rig->sub, &rig->cells[0], "behind");
	return result == 0 ? submit_cell(orch, rig->sub, &rig->cells[1], "beside") : result;
}

static void copy_case(const struct hang *hang)
{
	bool out = strcmp(hang->function, "copy_out") == 0;
	uint32_t count = 1;
	struct hung_rig rig;
	struct dw_run *run;

	if (!rig_begin(&rig, hang, task_timeout(hang), 0, 0))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	REQUIRE(dw_chip_memory_create(rig.node, 0, DW_INT64, &count, 1, &rig.memory) == 0);
	run = start(&rig, orch_copy);
	CHECK(heard() > 0);
	end_run(&rig, run, hang->by);
	check_said(&rig, hang->by == BY_TASK ? "task 1 \"copies\" (copy)" : "");
	if (hang->by == BY_TASK)
		CHECK_EQ(rig.cells[1], 1);
	/* No task of the run writes behind a thread that goes on. */
	CHECK_EQ(rig.cells[0], hang->by == BY_TASK && !out && hang->mode == DW_PROCESS ? 1 : 0);
	/*
	 * Memory that the thread may still write is given to no other task; memory that it only
	 * reads is.
	 */
	rig.cells[1] = 0;
	CHECK_EQ(dw_worker_run(rig.node, orch_touch, NULL, NULL, &rig), 0);
	CHECK_EQ(rig.result, hang->mode == DW_THREAD && out ? -EBUSY : 0);
	CHECK_EQ(rig.cells[1], 1);
	rig_end(&rig);
}

TEST_IN_BOTH_MODES(a_copy_that_hangs_is_ended)
{
	by_each(mode, "copy_in", copy_case);
	by_each(mode, "copy_out", copy_case);
}

/* Without a run: any thread may request and free memory that outlives runs. */
static void keep_case(const struct hang *hang)
{
	bool free = strcmp(hang->function, "free") == 0;
	uint32_t count = 1;
	struct hung_rig rig;
	int result;

	if (!rig_begin(&rig, hang, task_timeout(hang), 0, 0))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	result = dw_chip_memory_create(rig.node, 0, DW_INT64, &count, 1, &rig.memory);
	CHECK_EQ(result, free ? 0 : -ETIMEDOUT);
	if (free)
		CHECK_EQ(dw_chip_memory_destroy(rig.node, &rig.memory), -ETIMEDOUT);
	snprintf(rig.text, sizeof(rig.text), "%s", dw_strerror_last());
	CHECK(heard() > 0);
	check_said(&rig, free ? "dw_chip_memory_destroy()" : "dw_chip_memory_create()");
	if (free)
		CHECK_EQ(dw_chip_memory_destroy(rig.node, &rig.memory), -ENOENT);
	rig_end(&rig);
}

TEST_IN_BOTH_MODES(memory_that_stays_is_not_waited_for_without_end)
{
	in_a_process(keep_case, &(struct hang){ mode, "alloc", BY_TASK, DW_RESTART_NEVER });
	in_a_process(keep_case, &(struct hang){ mode, "free", BY_TASK, DW_RESTART_NEVER });
	if (mode == DW_PROCESS)
		in_a_process(keep_case,
			     &(struct hang){ mode, "free", BY_TASK, DW_RESTART_ON_DEATH });
}

static void load_case(const struct hang *hang)
{
	struct hung_rig rig;

	/* An image has as long to load as the chip had to open. */
	if (!rig_begin(&rig, hang, 0, ample(1000 * MS), 0))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	hung_image(&rig, "hang", -ETIMEDOUT);
	CHECK_STR(dw_strerror_last(), "node0/chip0: the registration of a callable took longer");
	CHECK_STR(dw_strerror_last(),
		  hang->mode == DW_THREAD ? "its thread goes on" : "was killed");
	rig_end(&rig);
}

TEST_IN_BOTH_MODES(a_load_that_hangs_ends_with_the_registration)
{
	in_a_process(load_case, &(struct hang){ mode, "load", BY_TASK, DW_RESTART_NEVER });
	if (mode == DW_PROCESS)
		in_a_process(load_case,
			     &(struct hang){ mode, "load", BY_TASK, DW_RESTART_ON_DEATH });
}

static void *load_thread(void *argument)
{
	hung_image(argument, "hang", -ETIMEDOUT);
	return NULL;
}

/* A run whose task sits behind the load. */
static void behind_load_case(const struct hang *hang)
{
	struct hung_rig rig;
	pthread_t thread;

	if (!rig_begin(&rig, hang, 0, ample(2000 * MS), 0))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	REQUIRE(pthread_create(&thread, NULL, load_thread, &rig) == 0);
	CHECK(heard() > 0);
	end_run(&rig, start(&rig, orch_add), hang->by);
	pthread_join(thread, NULL);
	rig.cells[8] = 0;
	rig_end(&rig);
}

TEST_IN_BOTH_MODES(a_load_that_hangs_holds_no_run)
{
	in_a_process(behind_load_case, &(struct hang){ mode, "load", BY_RUN, DW_RESTART_NEVER });
	in_a_process(behind_load_case, &(struct hang){ mode, "load", BY_CANCEL, DW_RESTART_NEVER });
}

static void unload_case(const struct hang *hang)
{
	struct hung_rig rig;

	if (!rig_begin(&rig, hang, 0, ample(1000 * MS), 0))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	CHECK_EQ(dw_callable_unregister(rig.node, rig.hang), -ETIMEDOUT);
	CHECK_STR(dw_strerror_last(), "node0/chip0: the unregistration of a callable took longer");
	rig_end(&rig);
}

TEST_IN_BOTH_MODES(an_unload_that_hangs_ends_with_the_unregistration)
{
	in_a_process(unload_case, &(struct hang){ mode, "unload", BY_TASK, DW_RESTART_NEVER });
}

static void init_case(const struct hang *hang)
{
	uint64_t ns = ample(300 * MS);
	struct hung_rig rig;
	char text[64];

	if (!rig_begin(&rig, hang, 0, ns, 300 * MS))
		return;
	CHECK_EQ(dw_worker_init(rig.node), -ETIMEDOUT);
	snprintf(text, sizeof(text), "node0/chip0: not ready after %llu ms",
		 (unsigned long long)(ns / MS));
	CHECK_STR(dw_strerror_last(), text);
	dw_worker_destroy(rig.node);
	CHECK_EQ(descendants(NULL, 0), 0);
}

TEST_IN_BOTH_MODES(an_open_that_hangs_ends_with_the_init)
{
	in_a_process(init_case, &(struct hang){ mode, "open", BY_TASK, DW_RESTART_NEVER });
	in_a_process(init_case, &(struct hang){ mode, "properties", BY_TASK, DW_RESTART_NEVER });
}

static void close_case(const struct hang *hang)
{
	struct hung_rig rig;

	if (!rig_begin(&rig, hang, 0, 0, 300 * MS))
		return;
	REQUIRE(dw_worker_init(rig.node) == 0);
	CHECK_EQ(dw_worker_close(rig.node), -ETIMEDOUT);
	CHECK_STR(dw_strerror_last(), "node0/chip0");
	dw_worker_destroy(rig.node);
	CHECK_EQ(descendants(NULL, 0), 0);
}

TEST_IN_BOTH_MODES(a_close_that_hangs_ends_with_the_close)
{
	in_a_process(close_case, &(struct hang){ mode, "close", BY_TASK, DW_RESTART_NEVER });
}

/* ------------------------------------------------------------------- the table */

/*
 * The simulated chip hangs in one function of its table (option hang_in), in each in turn. A row is
 * the call of the application that ends, and by what; the tasks beside it go on.
 */
struct row {
	const char *function;
	bool by[3];			/* enum ending */
	const char *name;		/* in the text */
};

static const struct row rows[] = {
	{ "open", { true }, "not ready after " },
	{ "properties", { true }, "not ready after " },
	{ "load", { true }, "the registration of a callable" },
	{ "unload", { true }, "the unregistration of a callable" },
	{ "alloc", { true, true, true }, "dw_chip_alloc()" },
	{ "free", { true, true, true }, "(chip_free)" },
	{ "copy_in", { true, true, true }, "(copy)" },
	{ "copy_out", { true, true, true }, "(copy)" },
	{ "copy_within", { true, true, true }, "(copy)" },
	{ "run", { true, true, false }, "(sim:triple_add)" },
	{ "close", { true }, "" },
};

static dw_callable sim_kernel(struct hung_rig *rig, const char *entry, int error)
{
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	dw_callable callable = 0;

	options.driver = "sim";
	options.entry = entry;
	options.path = fixture("chip_kernels");
	CHECK_EQ(dw_callable_register_image(rig->node, &options, &callable), error);
	return callable;
}

static int orch_row(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct hung_rig *rig = context;
	const char *function = rig->hang_of->function;
	struct dw_tensor cell = scalar_tensor(&rig->cells[0]), one, other;
	int result = submit_cell(orch, rig->sub, &rig->cells[1], "beside");

	(void)args;
	(void)config;
	if (result == 0 && strcmp(function, "run") == 0)
		return submit_cell(orch, rig->add, &rig->cells[0], "calls");
	if (result == 0)
		result = dw_chip_alloc(orch, 0, DW_INT64, NULL, 0, &one);
	if (result == 0)
		result = dw_chip_alloc(orch, 0, DW_INT64, NULL, 0, &other);
	if (result == 0 && strcmp(function, "copy_in") == 0)
		return dw_submit_copy(orch, &one, &cell, NULL, NULL);
	if (result == 0 && strcmp(function, "copy_out") == 0)
		return dw_submit_copy(orch, &cell, &one, NULL, NULL);
	if (result == 0 && strcmp(function, "copy_within") == 0)
		return dw_submit_copy(orch, &other, &one, NULL, NULL);
	return result == 0 ? dw_chip_free(orch, &one) : result;
}

/*
 * Waits until the run is in the call that hangs: the task beside it has ended, and the chip works.
 */
static void wait_for_hang(struct hung_rig *rig)
{
	uint64_t begun = now_ns();

	while (__atomic_load_n(&rig->cells[1], __ATOMIC_RELAXED) == 0 &&
	       unit_within(begun, 20000 * MS))
		pause_ms(1);
	CHECK_EQ(__atomic_load_n(&rig->cells[1], __ATOMIC_RELAXED), 1);
	pause_ms(20);
}

static void row_of_run(struct hung_rig *rig, const struct hang *hang, const char *name)
{
	struct dw_run *run = start(rig, orch_row);

	wait_for_hang(rig);
	end_run(rig, run, hang->by);
	if (hang->by != BY_TASK)
		return;
	CHECK_STR(rig->text, name);
	CHECK_STR(rig->text, "node0/chip0");
	CHECK_STR(rig->text, hang->mode == DW_THREAD ? "its thread goes on" : "was killed");
}

static void row_case(const struct hang *hang)
{
	static struct dw_chip_options chips[1];
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	const struct row *row = rows;
	struct hung_rig rig = { .hang_of = hang };
	bool starts = false, closes = strcmp(hang->function, "close") == 0;
	void *cells;

	while (strcmp(row->function, hang->function) != 0)
		row++;
	starts = row < rows + 2;
	snprintf(chip_options, sizeof(chip_options), "hang_in=%s", hang->function);
	chips[0] = (struct dw_chip_options){ .driver = "sim", .options = chip_options };
	options.subs = 1;
	options.mode = hang->mode;
	options.chips = chips;
	options.chip_count = 1;
	options.chip_size = sizeof(chips[0]);
	options.timeout_ns = task_timeout(hang);
	options.init_timeout_ns = starts || row->by[BY_RUN] == false ? ample(400 * MS) : 0;
	/* Only a close that hangs should reach its limit. */
	options.close_timeout_ns = closes ? 300 * MS : ample(300 * MS);
	REQUIRE(dw_worker_create(3, &options, &rig.node) == 0);
	REQUIRE(dw_buffer_create(rig.node, 4096, &cells) == 0);
	rig.cells = cells;
	CHECK_EQ(dw_callable_register_sub(rig.node, "add", sub_add, NULL, &rig.sub), 0);
	if (strcmp(hang->function, "load") != 0)
		rig.add = sim_kernel(&rig, "triple_add", 0);
	CHECK_EQ(dw_worker_init(rig.node), starts ? -ETIMEDOUT : 0);
	if (starts)
		CHECK_STR(dw_strerror_last(), row->name);
	else if (row->by[BY_RUN])
		row_of_run(&rig, hang, row->name);
	else if (strcmp(hang->function, "load") == 0)
		sim_kernel(&rig, "triple_add", -ETIMEDOUT);
	else if (strcmp(hang->function, "unload") == 0)
		CHECK_EQ(dw_callable_unregister(rig.node, rig.add), -ETIMEDOUT);
	if (!starts && !closes)
		CHECK_STR(dw_strerror_last(), hang->by == BY_TASK ? row->name : "");
	/* A thread that hangs stays until its process ends, and so does its tree. */
	if (closes)
		CHECK_EQ(dw_worker_close(rig.node), -ETIMEDOUT);
	else if (!starts && hang->mode == DW_PROCESS)
		CHECK_EQ(dw_worker_close(rig.node), 0);
	if (hang->mode == DW_PROCESS) {
		dw_worker_destroy(rig.node);
		CHECK_EQ(descendants(NULL, 0), 0);
	}
}

TEST_IN_BOTH_MODES(a_hang_in_each_function_of_a_driver_is_ended)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (enum ending by = BY_TASK; by <= BY_CANCEL; by++)
			if (rows[i].by[by])
				in_a_process(row_case, &(struct hang){ mode, rows[i].function, by,
								       DW_RESTART_NEVER });
}
