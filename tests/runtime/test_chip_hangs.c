/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A driver that hangs in one of its functions: the task's deadline, the run's and a cancel end the
 * call. In a process the chip is killed; a thread goes on, and memory that it may still write is
 * given to no other task. Each case has a process of its own, because a thread that hangs stays
 * until its process ends.
 */
#include <dlfcn.h>
#include "chips.h"

/* No deadline below is as long; a case that takes this long hangs. */
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
	/* of the orchestration function */
	bool free_again;
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

/* The chip works, or works again: at the latest when its thread has come back from the hang. */
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

/* Every case leaves behind a tree that works as far as it can, and can be closed. */
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
	/* The chip is at it still. */
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
	/* Writes the same, and so comes after it; another does not. */
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
