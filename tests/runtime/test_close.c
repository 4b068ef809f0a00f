/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Closing and destroying a tree that still works: a thread that cannot be ended keeps its memory,
 * idle children are not blamed, and close does not wait for children that have left.
 */
#define UNIT_SECONDS 60
#include <malloc.h>
#include "failure.h"

#define CLOSE_NS (200 * MS)

/* A callable that outlasts a close stays inside until the test releases it. */
static _Atomic int inside, released, over;

static void stay(void)
{
	inside = 1;
	while (!released)
		pause_ms(1);
	over = 1;
}

#ifdef __SANITIZE_THREAD__
const char *__tsan_default_options(void);

/*
 * By default TSan's processes sleep for a second before they exit: children would not leave in
 * time.
 */
__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
	return "atexit_sleep_ms=0";
}
#endif

/* ------------------------------------------------------------- freed memory */

static _Atomic(void *) watched;
static _Atomic bool watched_freed;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void __libc_free(void *memory);

/* Replaces the C library's function. */
__attribute__((visibility("default"))) void free(void *memory)
{
	if (memory && memory == watched)
		watched_freed = true;
	__libc_free(memory);
}
#endif

/* Keeps pointers to Workers that stay, so that no leak checker reports them. */
static struct dw_worker *kept[8];
static unsigned kept_count;

/* Freed memory is overwritten: a thread that still used it would fail. */
static void destroy_used(struct dw_worker *root, struct dw_worker *part)
{
	kept[kept_count++ % 8] = root;
	watched_freed = false;
	watched = part;
	mallopt(M_PERTURB, 0x5a);
	dw_worker_destroy(root);
	CHECK(!watched_freed);
	watched = NULL;
}

/* -------------------------------------------------------------------- trees */

static int sub_long(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	stay();
	return 0;
}

static struct dw_worker *busy_tree(enum dw_mode mode, uint32_t subs, uint64_t close_ns,
				   dw_callable *callable)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	inside = released = over = 0;
	options.subs = subs;
	options.mode = mode;
	options.close_timeout_ns = close_ns;
	set_small(&options);
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &worker), 0);
	CHECK_EQ(dw_callable_register_sub(worker, "long", sub_long, NULL, callable), 0);
	CHECK_EQ(dw_worker_init(worker), 0);
	return worker;
}

static struct dw_run *start_inside(struct dw_worker *worker, dw_orch_fn *fn, void *context)
{
	struct dw_run *run = NULL;

	CHECK_EQ(dw_worker_start(worker, fn, NULL, NULL, context, NULL, &run), 0);
	while (!inside)
		pause_ms(1);
	return run;
}

static int submit_empty(struct dw_orch *orch, dw_callable callable)
{
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	result = dw_submit(orch, callable, args, NULL, NULL);
	dw_args_destroy(args);
	return result;
}

static int orch_task(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_empty(orch, *(dw_callable *)context);
}

static int orch_long(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	stay();
	return submit_empty(orch, *(dw_callable *)context);
}

static void check_destroyed_while(enum dw_mode mode, dw_orch_fn *fn)
{
	dw_callable callable;
	struct dw_worker *worker = busy_tree(mode, 2, CLOSE_NS, &callable);
	struct dw_run *run = start_inside(worker, fn, &callable);

	destroy_used(worker, worker);
	released = 1;
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	while (!over)
		pause_ms(1);
	mallopt(M_PERTURB, 0);
	/* Waits for a thread's last steps. */
	pause_ms(100);
}

TEST(destroyed_tree_stays_while_a_thread_of_it_runs)
{
	check_destroyed_while(DW_THREAD, orch_task);
}

TEST(destroyed_tree_stays_while_a_function_runs__processes)
{
	check_destroyed_while(DW_PROCESS, orch_long);
	CHECK_EQ(descendants(NULL, 0), 0);
}

TEST(destroyed_tree_stays_while_a_function_runs__threads)
{
	check_destroyed_while(DW_THREAD, orch_long);
}

TEST(destroyed_tree_stays_while_a_nested_thread_runs)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order order = { .depth = 1 };
	struct dw_run *run;

	inside = released = over = 0;
	options.close_timeout_ns = 100 * MS;
	chain_create(2, 1, ~0u, &options);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "long", sub_long, NULL, &chain.broken),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	run = start_inside(chain.worker[0], orch_down_chain, &order);
	destroy_used(chain.worker[0], chain.worker[1]);
	released = 1;
	dw_run_wait(run);
	while (!over)
		pause_ms(1);
	mallopt(M_PERTURB, 0);
	pause_ms(300);
}

/* Whether close names the run alone. A function of the run stays inside until it has returned. */
static bool blames_the_run_alone(enum dw_mode mode, uint64_t close_ns)
{
	dw_callable callable;
	struct dw_worker *worker = busy_tree(mode, 2, close_ns, &callable);
	struct dw_run *run = start_inside(worker, orch_long, &callable);
	bool alone;

	CHECK_EQ(dw_worker_close(worker), -ETIMEDOUT);
	check_text("node0: 1 runs have not ended");
	alone = !strstr(dw_strerror_last(), "sub");
	if (!alone)
		printf("# with %llu ms: %s\n", (unsigned long long)(close_ns / MS),
		       dw_strerror_last());
	released = 1;
	CHECK_EQ(dw_run_wait(run), -ECANCELED);
	dw_worker_destroy(worker);
	CHECK_EQ(descendants(NULL, 0), 0);
	return alone;
}

/* So many times in a row cannot be chance. */
#define IN_A_ROW 4

/*
 * Its children are healthy, and show that by leaving in time. A busy machine may delay them: it is
 * tried with twice the time then.
 */
TEST_IN_BOTH_MODES(close_that_runs_hold_up_does_not_blame_idle_children)
{
	uint64_t close_ns = CLOSE_NS;
	unsigned alone = 0;

	while (alone < IN_A_ROW && CHECK(close_ns < 100 * CLOSE_NS)) {
		if (blames_the_run_alone(mode, close_ns)) {
			alone++;
		} else {
			alone = 0;
			close_ns *= 2;
		}
	}
}

TEST(close_names_the_runs_before_the_children)
{
	struct order order = { .how = BREAK_HANG };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_run *run;

	options.close_timeout_ns = CLOSE_NS;
	chain_init(1, 1, 0, &options);
	run = chain_start(&order, 0);
	heard();
	CHECK_EQ(dw_worker_close(chain.worker[0]), -ETIMEDOUT);
	check_text(
		"node0: 1 runs have not ended; then node0: killed, because they did not end before "
		"close_timeout_ns: node0/sub0");
	CHECK(dw_run_wait(run) < 0);
	chain_destroy();
}

static int orch_late_alloc(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	struct dw_tensor tensor;
	uint32_t shape = 16;

	(void)args;
	(void)config;
	(void)context;
	stay();
	return dw_chip_alloc(orch, 0, DW_INT32, &shape, 1, &tensor);
}

/* The chip has left with its thread: a message to it is refused at once. */
TEST_IN_BOTH_MODES(message_to_a_chip_that_was_stopped_is_refused)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_chip_options chip = { .driver = "sim" };
	struct dw_worker *worker;
	struct dw_run *run;

	inside = released = over = 0;
	options.chip_count = 1;
	options.chip_size = sizeof(struct dw_chip_options);
	options.chips = &chip;
	options.mode = mode;
	options.close_timeout_ns = CLOSE_NS;
	set_small(&options);
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &worker), 0);
	CHECK_EQ(dw_worker_init(worker), 0);
	run = start_inside(worker, orch_late_alloc, NULL);
	CHECK_EQ(dw_worker_close(worker), -ETIMEDOUT);
	released = 1;
	CHECK(dw_run_wait(run) < 0);
	dw_worker_destroy(worker);
}

/* ------------------------------------------------------------ after a failure */

/* The orchestration function itself fails, with a task behind it that runs on for a while. */
static int orch_refused(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct order order = { .how = BREAK_SLOW };
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int64_t outside = 0;

	(void)args;
	(void)config;
	(void)context;
	submit_order(orch, chain.broken, &order, chain.cells + order.cell, 0, &options);
	return submit_one(orch, chain.broken, &outside, DW_INOUT, 0, NULL, NULL);
}

static int orch_fills(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	uint32_t shape = 1 << 20;
	struct dw_tensor tensor;
	int result = 0;

	(void)args;
	(void)config;
	(void)context;
	while (!result)
		result = dw_alloc(orch, DW_INT64, &shape, 1, &tensor);
	return result;
}

static int run_ended(struct order order, uint64_t timeout_ns, bool cancel)
{
	struct dw_run *run = chain_start(&order, timeout_ns);

	heard();
	if (cancel)
		CHECK_EQ(dw_run_cancel(run), 0);
	return dw_run_wait(run);
}

static int run_without_nested(void)
{
	pid_t pid = pid_of(chain_path(1));

	CHECK(pid > 0);
	kill(pid, SIGKILL);
	while (lives(pid))
		pause_ms(1);
	return chain_run((struct order){ .depth = 1 });
}

enum failure {
	FAIL_ERROR, FAIL_REFUSED, FAIL_HEAP, FAIL_CANCEL, FAIL_RUN_DEADLINE,
	/* of processes alone */
	FAIL_KILL, FAIL_CRASH, FAIL_EXIT, FAIL_DEADLINE, FAIL_NESTED, FAILURES,
};

static int fail_by(enum failure failure)
{
	struct order order = { .depth = 1,
			       .how = BREAK_HANG,
			       .options = DW_OPTIONS(dw_submit_options) };

	order.options.timeout_ns = ample(50 * MS);
	switch (failure) {
	case FAIL_ERROR:
		return chain_run((struct order){ .depth = 1, .how = BREAK_ERROR, .detail = EIO });
	case FAIL_REFUSED:
		return dw_worker_run(chain.worker[0], orch_refused, NULL, NULL, NULL);
	case FAIL_HEAP:
		return dw_worker_run(chain.worker[0], orch_fills, NULL, NULL, NULL);
	case FAIL_CANCEL:
		return run_ended((struct order){ .depth = 1, .how = BREAK_ASK }, 0, true);
	case FAIL_RUN_DEADLINE:
		return run_ended((struct order){ .depth = 1, .how = BREAK_ASK }, ample(50 * MS),
				 false);
	case FAIL_KILL:
		return chain_run(
			(struct order){ .depth = 1, .how = BREAK_SIGNAL, .detail = SIGKILL });
	case FAIL_CRASH:
		return chain_run(
			(struct order){ .depth = 1, .how = BREAK_SIGNAL, .detail = SIGSEGV });
	case FAIL_EXIT:
		return chain_run((struct order){ .depth = 1, .how = BREAK_EXIT });
	case FAIL_DEADLINE:
		order.depth = 0;
		return chain_run(order);
	case FAIL_NESTED:
		return run_without_nested();
	case FAILURES:
		break;
	}
	return 0;
}

static const int failure_errors[FAILURES] = {
	-EIO, -EFAULT, -EDEADLK, -ECANCELED, -ETIMEDOUT,
	-EOWNERDEAD, -EOWNERDEAD, -EOWNERDEAD, -ETIMEDOUT, -ENODEV,
};

/* After every failure: no child is blamed, no deadline has to pass, nothing is left. */
TEST_IN_BOTH_MODES(close_is_clean_after_each_kind_of_failure)
{
	int last = mode == DW_PROCESS ? FAILURES : FAIL_KILL;
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	/* A close that waited for it would hang. */
	options.close_timeout_ns = 1000 * SECOND_NS;
	for (int failure = 0; failure < last; failure++) {
		unsigned descriptors;

		say_prepare();
		descriptors = count_fds();
		chain_init(2, 2, threads_of(mode), &options);
		if (!CHECK_EQ(fail_by(failure), failure_errors[failure]))
			printf("# failure %d: %s\n", failure, dw_strerror_last());
		if (!CHECK_EQ(dw_worker_close(chain.worker[0]), 0))
			printf("# failure %d: %s\n", failure, dw_strerror_last());
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		CHECK_EQ(chain_run((struct order){ .depth = 1 }), -ENOTCONN);
		chain_destroy();
		CHECK_EQ(count_fds(), descriptors);
	}
}
