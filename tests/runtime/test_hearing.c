/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A thread that waits for a task hears of its end, with any task behind it in the ring: deadlines,
 * groups, cancelled runs, full heaps, retries, unregistering. And the effect of a failed task on
 * the tasks that were pushed ahead behind it.
 */
#include <sys/syscall.h>
#include "failure.h"

static bool clock_lies;

/* In a child that lies, ten hours ahead; this affects the library's own clock. */
int clock_gettime(clockid_t id, struct timespec *time)
{
	int result = (int)syscall(SYS_clock_gettime, id, time);

	if (clock_lies)
		time->tv_sec += 36000;
	return result;
}

/* ACT_STAY: sits behind a task until the test releases it, or for long if the library hangs. */
enum act { ACT_SLEEP, ACT_FAIL_ONCE, ACT_FAIL, ACT_HANG, ACT_LIE, ACT_ASK, ACT_MEET, ACT_STAY };

/* Cells: whether tasks are released, and how many were not in time. */
#define RELEASED 20
#define HELD_UP 21

static void stay(void)
{
	uint64_t begun = now_ns();

	while (!__atomic_load_n(&chain.cells[RELEASED], __ATOMIC_ACQUIRE)) {
		if (!unit_within(begun, 20 * SECOND_NS)) {
			__atomic_fetch_add(&chain.cells[HELD_UP], 1, __ATOMIC_RELEASE);
			break;
		}
		pause_ms(1);
	}
}

/* The awaited task ended while the other one stayed. */
static void release(void)
{
	__atomic_store_n(&chain.cells[RELEASED], 1, __ATOMIC_RELEASE);
	CHECK_EQ(__atomic_load_n(&chain.cells[HELD_UP], __ATOMIC_ACQUIRE), 0);
}

/* Scalars: milliseconds, the act that follows, the member. */
static int sub_act(const struct dw_args *args, void *context)
{
	volatile int64_t *cells = context;
	int64_t member = dw_args_int(args, 2);

	pause_ms((unsigned)dw_args_int(args, 0));
	switch ((enum act)dw_args_int(args, 1)) {
	case ACT_SLEEP:
		break;
	case ACT_FAIL_ONCE:
		return cells[0]++ ? 0 : -EIO;
	case ACT_FAIL:
		return -EIO;
	case ACT_HANG:
		for (;;)
			pause();
	case ACT_LIE:
		clock_lies = true;
		break;
	case ACT_ASK:
		while (!dw_task_cancelled())
			pause_ms(1);
		return -ECANCELED;
	case ACT_MEET:
		cells[1 + member] = 1;
		while (!cells[2 - member])
			pause_ms(1);
		break;
	case ACT_STAY:
		stay();
		break;
	}
	return 0;
}

static dw_callable act;
static _Atomic int step;

static void act_init(uint32_t subs, const struct dw_worker_options *base)
{
	step = 0;
	chain_create(1, subs, base ? threads_of(base->mode) : 0, base);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "act", sub_act, chain.cells, &act), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
}

static struct dw_args *act_args(unsigned ms, enum act what, unsigned member)
{
	struct dw_args *args;

	dw_args_create(&args);
	dw_args_add_int(args, ms);
	dw_args_add_int(args, what);
	dw_args_add_int(args, member);
	return args;
}

/* `bytes`: of an output from the heap; 0: none. */
static int submit_act(struct dw_orch *orch, unsigned ms, enum act what, uint64_t timeout_ns,
		      uint32_t retries, uint32_t bytes)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *args = act_args(ms, what, 0);
	struct dw_tensor tensor;
	int result;

	options.timeout_ns = timeout_ns;
	options.retries = retries;
	if (bytes) {
		dw_tensor_init(&tensor, NULL, DW_UINT8, &bytes, 1);
		dw_args_add_tensor(args, &tensor, DW_OUTPUT);
	}
	result = dw_submit(orch, act, args, &options, NULL);
	dw_args_destroy(args);
	return result;
}

static struct dw_run *start(dw_orch_fn *fn, void *context)
{
	struct dw_run *run = NULL;

	CHECK_EQ(dw_worker_start(chain.worker[0], fn, NULL, NULL, context, NULL, &run), 0);
	return run;
}

static void wait_for_step(int wanted)
{
	while (step < wanted)
		pause_ms(1);
}

#define ORCH(name) static int name(struct dw_orch *orch, const struct dw_args *args, \
				   const struct dw_config *config, void *context)
#define UNUSED_ORCH() ((void)args, (void)config, (void)context)

/* ---------------------------------------------------------------- deadlines */

static uint64_t hang_ns;

ORCH(orch_short_then_hang)
{
	int result = submit_act(orch, 50, ACT_SLEEP, *(uint64_t *)context, 0, 0);

	UNUSED_ORCH();
	return result ? result : submit_act(orch, 0, ACT_HANG, hang_ns, 0, 0);
}

TEST(deadline_holds_behind_a_task_that_has_none_or_a_longer_one)
{
	const uint64_t first[] = { 0, 1, 1000 };

	for (size_t i = 0; i < 3; i++) {
		uint64_t began, timeout;

		act_init(1, NULL);
		hang_ns = ample(300 * MS);
		timeout = first[i] * hang_ns;
		began = now_ns();
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_short_then_hang, NULL, NULL, &timeout),
			 -ETIMEDOUT);
		check_text("node0/sub0: task 2 (act): ETIMEDOUT: ran longer than its deadline of ");
		CHECK(unit_within(began, 20 * SECOND_NS));
		chain_destroy();
	}
}

ORCH(orch_lie_then_hang)
{
	int result = submit_act(orch, 50, ACT_LIE, 0, 0, 0);

	UNUSED_ORCH();
	return result ? result : submit_act(orch, 0, ACT_HANG, hang_ns, 0, 0);
}

TEST(child_with_a_false_clock_gains_nothing)
{
	uint64_t began;

	act_init(1, NULL);
	hang_ns = ample(300 * MS);
	began = now_ns();
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_lie_then_hang, NULL, NULL, NULL), -ETIMEDOUT);
	CHECK(unit_within(began, 20 * SECOND_NS));
	chain_destroy();
}

/* ------------------------------------------------------------------- groups */

ORCH(orch_two_groups)
{
	struct dw_args *first[2] = { act_args(50, ACT_FAIL, 0), act_args(0, ACT_ASK, 1) };
	struct dw_args *second[2] = { act_args(0, ACT_MEET, 0), act_args(0, ACT_MEET, 1) };
	int result = dw_submit_group(orch, act, first, 2, NULL, NULL, NULL);

	UNUSED_ORCH();
	if (result == 0)
		result = dw_submit_group(orch, act, second, 2, NULL, NULL, NULL);
	for (int i = 0; i < 2; i++) {
		dw_args_destroy(first[i]);
		dw_args_destroy(second[i]);
	}
	return result;
}

/* The first one's failure is news for its other member, although the next group sits behind it. */
TEST(members_hear_of_a_failure_with_another_group_behind)
{
	act_init(2, NULL);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_two_groups, NULL, NULL, NULL), -EIO);
	CHECK_EQ(chain.cells[1] + chain.cells[2], 2);
	chain_destroy();
}

static dw_callable slow, quick;

ORCH(orch_slow)
{
	(void)orch;
	UNUSED_ORCH();
	pause_ms(200);
	return 0;
}

ORCH(orch_quick)
{
	(void)orch;
	UNUSED_ORCH();
	return 0;
}

ORCH(orch_fill)
{
	struct dw_args *none;
	int result = 0;

	UNUSED_ORCH();
	dw_args_create(&none);
	for (uint32_t i = 0; i < 16 && result == 0; i++) {
		struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

		options.place = DW_PLACE(i % 2);
		result = dw_submit(orch, i < 2 ? slow : quick, none, &options, NULL);
	}
	dw_args_destroy(none);
	step = 1;
	return result;
}

ORCH(orch_group_of_both)
{
	static const uint32_t workers[] = { 0, 1 };
	struct dw_args *none[2];
	int result;

	UNUSED_ORCH();
	dw_args_create(&none[0]);
	dw_args_create(&none[1]);
	result = dw_submit_group(orch, quick, none, 2, workers, NULL, NULL);
	dw_args_destroy(none[0]);
	dw_args_destroy(none[1]);
	step = 2;
	return result;
}

/* Two nodes, and the tasks that the first group of both has to wait for. */
static struct dw_run *start_filled(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *root, *node;
	struct dw_run *fill;

	step = 0;
	set_small(&options);
	options.mailbox_depth = 2;
	CHECK_EQ(dw_worker_create(4, &options, &root), 0);
	memset(&chain, 0, sizeof(chain));
	chain.worker[0] = root;
	for (int i = 0; i < 2; i++) {
		options.subs = 1;
		CHECK_EQ(dw_worker_create(3, &options, &node), 0);
		CHECK_EQ(dw_worker_add_child(root, node, NULL), 0);
	}
	CHECK_EQ(dw_callable_register_orch(root, "slow", orch_slow, NULL, &slow), 0);
	CHECK_EQ(dw_callable_register_orch(root, "quick", orch_quick, NULL, &quick), 0);
	CHECK_EQ(dw_worker_init(root), 0);
	fill = start(orch_fill, NULL);
	wait_for_step(1);
	return fill;
}

TEST(cancelled_group_gives_back_the_workers_that_it_had_reserved)
{
	struct dw_run *fill = start_filled(), *group = start(orch_group_of_both, NULL);

	wait_for_step(2);
	pause_ms(20);
	dw_run_cancel(group);
	CHECK_EQ(dw_run_wait(group), -ECANCELED);
	CHECK_EQ(dw_run_wait(fill), 0);
	chain_destroy();
}

TEST(group_whose_worker_is_gone_says_who_and_why)
{
	struct dw_run *fill = start_filled(), *group = start(orch_group_of_both, NULL);

	wait_for_step(2);
	kill(pid_of("pod0/node1"), SIGKILL);
	CHECK_EQ(dw_run_wait(group), -ENODEV);
	check_text(
		"pod0: task 1 (quick): ENODEV: member 1 must run on pod0/node1: killed by SIGKILL, "
		"pid ");
	CHECK_EQ(dw_run_wait(fill), -EOWNERDEAD);
	chain_destroy();
}

/* --------------------------------------------------- runs beside each other */

ORCH(orch_first)
{
	int result = submit_act(orch, 150, ACT_SLEEP, 0, 0, 0);

	UNUSED_ORCH();
	step = 1;
	wait_for_step(2);
	return result ? result : submit_act(orch, 1, ACT_SLEEP, 0, 0, 0);
}

ORCH(orch_long_one)
{
	int result;

	UNUSED_ORCH();
	wait_for_step(1);
	result = submit_act(orch, 0, ACT_STAY, 0, 0, 0);
	step = 2;
	return result;
}

TEST(cancelled_run_ends_with_what_it_had_running)
{
	struct dw_run *first, *behind;

	act_init(1, NULL);
	first = start(orch_first, NULL);
	behind = start(orch_long_one, NULL);
	wait_for_step(2);
	pause_ms(50);
	dw_run_cancel(first);
	CHECK_EQ(dw_run_wait(first), -ECANCELED);
	release();
	CHECK_EQ(dw_run_wait(behind), 0);
	chain_destroy();
}

ORCH(orch_brief_wait)
{
	UNUSED_ORCH();
	return submit_act(orch, 300, ACT_SLEEP, 0, 0, 0);
}

/* The run waited already when the other came, and no thread was to hear of each of its tasks. */
TEST_IN_BOTH_MODES(run_that_waits_hears_of_its_end_when_another_has_come_since)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_run *first, *behind;

	options.mode = mode;
	act_init(1, &options);
	first = start(orch_brief_wait, NULL);
	pause_ms(100);
	step = 1;
	behind = start(orch_long_one, NULL);
	CHECK_EQ(dw_run_wait(first), 0);
	release();
	CHECK_EQ(dw_run_wait(behind), 0);
	chain_destroy();
}

ORCH(orch_one)
{
	UNUSED_ORCH();
	return submit_act(orch, 0, ACT_SLEEP, 0, 0, 0);
}

TEST(run_that_is_over_is_not_cancelled_any_more)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct dw_run *run;

	act_init(1, NULL);
	run = start(orch_one, NULL);
	do {
		pause_ms(10);
		CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &stats), 0);
	} while (stats.done < 1);
	pause_ms(100);
	dw_run_cancel(run);
	CHECK_EQ(dw_run_wait(run), 0);
	chain_destroy();
}

/* The heap's oldest blocks belong to tasks that a long one of another run sits behind. */
ORCH(orch_fills_heap)
{
	int result = 0;

	UNUSED_ORCH();
	dw_scope_begin(orch);
	for (int i = 0; i < 6 && result == 0; i++)
		result = submit_act(orch, 50, ACT_SLEEP, 0, 0, 4096);
	dw_scope_end(orch);
	step = 1;
	wait_for_step(2);
	dw_scope_begin(orch);
	if (result == 0)
		result = submit_act(orch, 1, ACT_SLEEP, 0, 0, 40960);
	dw_scope_end(orch);
	step = 3;
	return result;
}

TEST(heap_that_comes_back_is_heard_of)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_run *behind, *run;

	memset(&chain, 0, sizeof(chain));
	step = 0;
	options.subs = 1;
	options.heap_ring_bytes = 61440;
	options.arena_bytes = 32 << 20;
	options.heap_timeout_ns = ample(5 * SECOND_NS);
	CHECK_EQ(dw_worker_create(3, &options, &chain.worker[0]), 0);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "act", sub_act, NULL, &act), 0);
	CHECK_EQ(dw_buffer_create(chain.worker[0], 4096, (void **)&chain.cells), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	behind = start(orch_long_one, NULL);
	run = start(orch_fills_heap, NULL);
	/* The heap has room; its last task is behind the one that stays. */
	wait_for_step(3);
	release();
	if (!CHECK_EQ(dw_run_wait(run), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(dw_run_wait(behind), 0);
	chain_destroy();
}

/* ----------------------------------------------------------------- failures */

ORCH(orch_fails_once)
{
	int result = submit_act(orch, 50, ACT_FAIL_ONCE, 0, 1, 0);

	UNUSED_ORCH();
	return result ? result : submit_act(orch, 0, ACT_STAY, 0, 0, 0);
}

TEST(retry_does_not_wait_for_what_sits_behind)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct dw_run *run;
	uint64_t began;

	act_init(1, NULL);
	began = now_ns();
	run = start(orch_fails_once, NULL);
	while (!stats.retried && unit_within(began, 20 * SECOND_NS)) {
		pause_ms(10);
		CHECK_EQ(dw_worker_engine_stats(chain.worker[0], &stats), 0);
	}
	CHECK_EQ(stats.retried, 1);
	CHECK_EQ(stats.done, 0);
	release();
	CHECK_EQ(dw_run_wait(run), 0);
	chain_destroy();
}

/*
 * In one ring: X, a control frame that fails, A, and B ahead behind A. D reads the output of B: it
 * must not be pushed behind a B that comes back.
 */
static dw_callable below[4];

ORCH(orch_below)
{
	volatile int64_t *cells = (volatile int64_t *)chain.cells;

	(void)orch;
	(void)args;
	(void)config;
	switch ((int)(intptr_t)context) {
	case 0:
		cells[10] = 1;
		pause_ms(300);
		break;
	case 1:
		cells[11] = 1;
		pause_ms(500);
		break;
	case 2:
		cells[0] = 42;
		break;
	case 3:
		cells[2] = cells[0];
		break;
	}
	return 0;
}

static void *register_nonsense(void *context)
{
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	dw_callable callable;

	image.driver = "sim";
	image.entry = "nothing";
	image.data = "this is no image";
	image.bytes = 16;
	*(int *)context = dw_callable_register_image(chain.worker[0], &image, &callable);
	return NULL;
}

ORCH(orch_control_fails)
{
	volatile int64_t *cells = (volatile int64_t *)chain.cells;
	pthread_t thread;
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < 4 && result == 0; i++) {
		struct dw_tensor tensor = scalar_tensor(chain.cells);
		struct dw_args *own;

		dw_args_create(&own);
		if (i)
			dw_args_add_tensor(own, &tensor, DW_INOUT);
		if (i == 3) {
			while (!cells[11])
				pause_ms(1);
			pause_ms(100);
		}
		result = dw_submit(orch, below[i], own, NULL, NULL);
		dw_args_destroy(own);
		if (i == 0) {
			while (!cells[10])
				pause_ms(1);
			pthread_create(&thread, NULL, register_nonsense, context);
			pause_ms(100);
		}
	}
	if (result == 0)
		result = dw_orch_wait(orch);
	pthread_join(thread, NULL);
	return result;
}

TEST(nothing_is_pushed_behind_what_a_failed_control_frame_sends_back)
{
	static const char *const names[] = { "X", "A", "B", "D" };
	struct dw_chip_options chip = { .driver = "sim" };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *node;
	int registered = 0;

	memset(&chain, 0, sizeof(chain));
	set_small(&options);
	CHECK_EQ(dw_worker_create(4, &options, &chain.worker[0]), 0);
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(struct dw_chip_options);
	CHECK_EQ(dw_worker_create(3, &options, &node), 0);
	CHECK_EQ(dw_worker_add_child(chain.worker[0], node, NULL), 0);
	for (intptr_t i = 0; i < 4; i++)
		CHECK_EQ(dw_callable_register_orch(chain.worker[0], names[i], orch_below, (void *)i,
						   &below[i]), 0);
	CHECK_EQ(dw_buffer_create(chain.worker[0], 4096, (void **)&chain.cells), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_control_fails, NULL, NULL, &registered), 0);
	CHECK(registered < 0);
	CHECK_EQ(chain.cells[2], 42);
	chain_destroy();
}

/* ------------------------------------------------------------- unregistering */

static dw_callable brief, long_one, nested_waits;

/* Milliseconds of the brief one, and of one that stays until it is released. */
#define BRIEF 100
#define STAYS 2000
/* The cell that tells that the brief task is over. */
#define BRIEF_OVER 22

/* Scalar: milliseconds. */
static int sub_sleep(const struct dw_args *args, void *context)
{
	int64_t ms = dw_args_int(args, 0);

	(void)context;
	if (ms == STAYS)
		stay();
	else
		pause_ms((unsigned)ms);
	if (ms == BRIEF)
		__atomic_store_n(&chain.cells[BRIEF_OVER], 1, __ATOMIC_RELEASE);
	return 0;
}

static int submit_sleep(struct dw_orch *orch, dw_callable callable, unsigned ms)
{
	struct dw_args *args;
	int result;

	dw_args_create(&args);
	dw_args_add_int(args, ms);
	result = dw_submit(orch, callable, args, NULL, NULL);
	dw_args_destroy(args);
	return result;
}

/* How the orchestration function goes on, while its tasks are under way. */
enum meanwhile { DRAINS, COMPUTES, FILLS_UP };

ORCH(orch_brief_then_long)
{
	enum meanwhile meanwhile = args && dw_args_scalar_count(args) ?
					   (enum meanwhile)dw_args_int(args, 0) :
					   *(enum meanwhile *)context;
	int result = 0;

	(void)config;
	/*
	 * A ring gets four tasks of unknown duration: the brief one enters it when they have left.
	 */
	for (int i = 0; i < 4 && meanwhile == FILLS_UP && result == 0; i++)
		result = submit_sleep(orch, long_one, 50);
	if (result == 0)
		result = submit_sleep(orch, brief, BRIEF);
	if (result == 0)
		result = submit_sleep(orch, long_one, STAYS);
	step = 1;
	if (result == 0 && meanwhile == COMPUTES)
		stay();
	return result;
}

/* The nested Worker's own ring has the two. */
ORCH(orch_nested_waits)
{
	struct dw_args *own;
	int result;

	UNUSED_ORCH();
	dw_args_create(&own);
	dw_args_add_int(own, *(enum meanwhile *)context);
	result = dw_submit(orch, nested_waits, own, NULL, NULL);
	dw_args_destroy(own);
	return result;
}

static void check_unregister(unsigned levels, enum dw_mode mode, enum meanwhile meanwhile)
{
	struct dw_run *run;

	step = 0;
	chain_create(levels, 1, threads_of(mode), NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "brief", sub_sleep, NULL, &brief), 0);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "long", sub_sleep, NULL, &long_one), 0);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "waits", orch_brief_then_long, NULL,
					   &nested_waits), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	run = start(levels > 1 ? orch_nested_waits : orch_brief_then_long, &meanwhile);
	wait_for_step(1);
	CHECK_EQ(dw_callable_unregister(chain.worker[0], brief), 0);
	if (!CHECK_EQ(__atomic_load_n(&chain.cells[BRIEF_OVER], __ATOMIC_ACQUIRE), 1) ||
	    !CHECK_EQ(__atomic_load_n(&chain.cells[HELD_UP], __ATOMIC_ACQUIRE), 0))
		printf("# %u levels, %d\n", levels, meanwhile);
	release();
	CHECK_EQ(dw_run_wait(run), 0);
	chain_destroy();
}

TEST_IN_BOTH_MODES(unregistering_waits_for_the_tasks_and_not_for_what_sits_behind_them)
{
	for (enum meanwhile meanwhile = DRAINS; meanwhile <= FILLS_UP; meanwhile++) {
		check_unregister(1, mode, meanwhile);
		/*
		 * A nested Worker in a process of its own may have tasks of it that are unknown
		 * here.
		 */
		if (mode == DW_THREAD)
			check_unregister(2, mode, meanwhile);
	}
}

ORCH(orch_sleeps)
{
	(void)orch;
	(void)config;
	(void)context;
	if (dw_args_int(args, 0) == STAYS)
		stay();
	else
		pause_ms((unsigned)dw_args_int(args, 0));
	return 0;
}

/*
 * Behind more than a few, frames are made known to a worker several at a time, or when it has run
 * dry.
 */
ORCH(orch_holds_back)
{
	static const unsigned ms[] = { 30, 30, 30, 30, 30, 30, 30, STAYS };
	int result = 0;

	UNUSED_ORCH();
	for (int i = 0; i < 8 && result == 0; i++) {
		struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
		struct dw_args *own;

		options.place = DW_PLACE(0);
		dw_args_create(&own);
		dw_args_add_int(own, ms[i]);
		result = dw_submit(orch, i == 6 ? quick : slow, own, &options, NULL);
		dw_args_destroy(own);
	}
	step = 1;
	stay();
	return result;
}

TEST(end_of_a_task_that_its_worker_did_not_know_of_yet_is_heard_of)
{
	struct dw_run *run;

	step = 0;
	chain_create(2, 1, threads_of(DW_THREAD), NULL);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "slow", orch_sleeps, NULL, &slow), 0);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "quick", orch_sleeps, NULL, &quick), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	run = start(orch_holds_back, NULL);
	wait_for_step(1);
	CHECK_EQ(dw_callable_unregister(chain.worker[0], quick), 0);
	release();
	CHECK_EQ(dw_run_wait(run), 0);
	chain_destroy();
}

/* -------------------------------------------------------------------- sizes */

ORCH(orch_huge)
{
	uint32_t all[] = { UINT32_MAX, 641, 6700417 }, half[] = { 1u << 31, 1u << 31, 2 };
	struct dw_tensor tensor;
	struct dw_args *two;

	UNUSED_ORCH();
	CHECK_EQ(dw_alloc(orch, DW_UINT8, all, 3, &tensor), -ENOSPC);
	dw_args_create(&two);
	CHECK_EQ(dw_tensor_init(&tensor, NULL, DW_UINT8, half, 3), 0);
	dw_args_add_tensor(two, &tensor, DW_OUTPUT);
	dw_args_add_tensor(two, &tensor, DW_OUTPUT);
	CHECK_EQ(dw_submit(orch, act, two, NULL, NULL), -ENOSPC);
	CHECK(!dw_args_data(two, 0) && !dw_args_data(two, 1));
	dw_args_destroy(two);
	return 0;
}

TEST(sizes_that_overflow_are_refused)
{
	act_init(1, NULL);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_huge, NULL, NULL, NULL), 0);
	chain_destroy();
}
