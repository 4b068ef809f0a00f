// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Priorities: which ready task goes first, and that none waits for ever. */
#include "timed_tasks.h"
#include "engine/ready.h"

#define TASKS	64
#define STEPS	(DW_PRIORITY_MAX - DW_PRIORITY_MIN)

enum way { ANYWHERE, DIRECTED, GROUPS, WAYS };

struct order {
	struct job job;
	enum way way;
};

/* Holds its worker until the test opens the gate. */
static int gate(const struct dw_args *args, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);

	(void)context;
	atomic_fetch_add(&board->members, 1);
	while (!atomic_load(&board->told))
		rig_sleep(100000);
	return 0;
}

#define MEMBERS	2

/* Scalars: board, index, member. Records how many have run before it. */
static int counted(const struct dw_args *args, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);
	uint64_t at = dw_args_scalar(args, 1) * MEMBERS + dw_args_scalar(args, 2);

	(void)context;
	board->worker[at] = atomic_fetch_add(&board->ran, 1);
	return 0;
}

/*
 * How many had run when a task began. The members of a group run on different workers: each worker
 * keeps the order, so the first members that begin are in order.
 */
static int64_t begin_of(const struct order *order, uint64_t index)
{
	const struct board *board = order->job.board;
	int64_t begin = board->worker[index * MEMBERS];

	if (order->way == GROUPS && board->worker[index * MEMBERS + 1] < begin)
		begin = board->worker[index * MEMBERS + 1];
	return begin;
}

static int gate_node(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)orch;
	(void)config;
	return gate(args, context);
}

static int counted_node(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	(void)orch;
	(void)config;
	return counted(args, context);
}

static dw_callable gates[2], counts[2];

static struct rig *open_rig(struct order *order, uint32_t subs, uint32_t nested)
{
	if (!gates[0]) {
		gates[0] = rig_sub("gate", gate);
		gates[1] = rig_node("gate_node", gate_node);
		counts[0] = rig_sub("counted", counted);
		counts[1] = rig_node("counted_node", counted_node);
	}
	return open_with((struct rig_options){ .subs = subs, .nested = nested, .depth = 2 },
			 &order->job);
}

static int submit_one(struct dw_orch *orch, struct order *order, dw_callable callable,
		      uint64_t index, int32_t priority)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *members[MEMBERS];
	int result;

	options.priority = priority;
	for (uint64_t i = 0; i < MEMBERS; i++) {
		dw_args_create(&members[i]);
		dw_args_add_scalar(members[i], (uint64_t)(uintptr_t)order->job.board);
		dw_args_add_scalar(members[i], index);
		dw_args_add_scalar(members[i], i);
	}
	if (order->way == GROUPS)
		result = dw_submit_group(orch, callable, members, MEMBERS, NULL, &options, NULL);
	else {
		options.place = order->way == DIRECTED ? DW_PLACE(0) : 0;
		result = dw_submit(orch, callable, members[0], &options, NULL);
	}
	dw_args_destroy(members[0]);
	dw_args_destroy(members[1]);
	return result;
}

/* Distinct and equal priorities, in no order. */
static int32_t priority_of(uint64_t index)
{
	return (int32_t)(index * 7 % (STEPS + 1)) + DW_PRIORITY_MIN;
}

static int submit_many(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct order *order = context;
	bool nodes = order->way == DIRECTED;

	(void)args;
	(void)config;
	CHECK_EQ(submit_one(orch, order, gates[nodes], 0, 0), 0);
	/* It takes the other place of each ring. */
	CHECK_EQ(submit_one(orch, order, counts[nodes], TASKS, 0), 0);
	for (uint64_t i = 0; i < TASKS; i++)
		CHECK_EQ(submit_one(orch, order, counts[nodes], i, priority_of(i)), 0);
	atomic_store(&order->job.board->told, 1);
	return 0;
}

TEST(ready_task_of_the_highest_priority_goes_first)
{
	for (enum way way = 0; way < WAYS; way++) {
		struct order order = { .way = way };
		struct rig *rig = open_rig(&order, way == GROUPS ? 2 : way == ANYWHERE,
					   way == DIRECTED);
		int64_t last, tasks = 1;

		REQUIRE(rig);
		CHECK_EQ(rig_run(rig, submit_many, &order), 0);
		last = begin_of(&order, TASKS);
		CHECK_EQ(last, 0);
		for (int32_t priority = DW_PRIORITY_MAX; priority >= DW_PRIORITY_MIN; priority--) {
			for (uint64_t i = 0; i < TASKS; i++) {
				if (priority_of(i) != priority)
					continue;
				CHECK(begin_of(&order, i) > last);
				last = begin_of(&order, i);
				tasks++;
			}
		}
		CHECK_EQ(tasks, TASKS + 1);
		CHECK_EQ(order.job.board->ran, tasks * (way == GROUPS ? MEMBERS : 1));
		done_with(rig, &order.job);
	}
}

#define DEPTH	2
/* Tasks that overtake one of the lowest priority, and those that were in the ring before it. */
#define BOUND	((int64_t)STEPS * PRIORITY_STEP + DEPTH)

/* Tasks of the highest priority come until the one of the lowest has run. */
static int submit_urgent(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	struct order *order = context;
	struct board *board = order->job.board;
	bool nodes = order->way == DIRECTED;

	(void)args;
	(void)config;
	CHECK_EQ(submit_one(orch, order, gates[nodes], 0, 0), 0);
	CHECK_EQ(submit_one(orch, order, counts[nodes], 2, 0), 0);
	CHECK_EQ(submit_one(orch, order, counts[nodes], 0, DW_PRIORITY_MIN), 0);
	for (int64_t i = 0; i < 2 * BOUND && board->worker[0] < 0; i++) {
		CHECK_EQ(submit_one(orch, order, counts[nodes], 1, DW_PRIORITY_MAX), 0);
		if (i == 4000)
			atomic_store(&board->told, 1);
	}
	return 0;
}

TEST(task_of_the_lowest_priority_is_overtaken_by_a_bounded_number)
{
	for (enum way way = ANYWHERE; way <= DIRECTED; way++) {
		struct order order = { .way = way };
		struct rig *rig = open_rig(&order, way == ANYWHERE, way == DIRECTED);

		REQUIRE(rig);
		order.job.board->worker[0] = -1;
		CHECK_EQ(rig_run(rig, submit_urgent, &order), 0);
		printf("# %lld tasks overtook it, of %lld\n",
		       (long long)order.job.board->worker[0], (long long)BOUND);
		CHECK(order.job.board->worker[0] > 4000);
		CHECK(order.job.board->worker[0] <= BOUND);
		done_with(rig, &order.job);
	}
}

static int submit_wrong(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	static const int32_t wrong[] = { DW_PRIORITY_MIN - 1, DW_PRIORITY_MAX + 1, INT32_MIN,
					 INT32_MAX };
	struct order *order = context;

	(void)args;
	(void)config;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char text[128];

		CHECK_EQ(submit_one(orch, order, counts[0], 0, wrong[i]), -EINVAL);
		snprintf(text, sizeof(text), "options.priority is %d; it should be from -8 to 7",
			 wrong[i]);
		CHECK_STR(dw_strerror_last(), text);
	}
	return 0;
}

TEST(priority_out_of_range_is_refused)
{
	for (enum way way = ANYWHERE; way < WAYS; way += GROUPS) {
		struct order order = { .way = way };
		struct rig *rig = open_rig(&order, 2, 0);

		REQUIRE(rig);
		CHECK_EQ(rig_run(rig, submit_wrong, &order), 0);
		CHECK_EQ(order.job.board->ran, 0);
		done_with(rig, &order.job);
	}
}

/* Every third task is taken out and comes back later, as stragglers do. */
TEST(queue_is_sorted_whatever_comes_back)
{
	static struct task tasks[512];
	struct ready_queue queue;
	struct task *returned[512], *task;
	uint64_t entries = 0, last = 0;
	uint32_t count = 0, taken = 0, seed = 1;

	ready_init(&queue);
	CHECK(!ready_first(&queue));
	for (uint32_t i = 0; i < 512; i++) {
		seed = seed * 1103515245 + 12345;
		tasks[i].head.level = (uint8_t)(seed >> 16 & (PRIORITY_LEVELS - 1));
		entries += seed >> 20 & 1023;
		tasks[i].order = ready_order(&tasks[i], ++entries);
		ready_push(&queue, &tasks[i]);
		if (i % 3)
			continue;
		returned[count] = ready_first(&queue);
		queue_remove(returned[count++]);
	}
	for (uint32_t i = 0; i < count; i++)
		ready_return(&queue, returned[i]);
	while ((task = ready_first(&queue))) {
		CHECK(task->order >= last);
		last = task->order;
		queue_remove(task);
		taken++;
	}
	CHECK_EQ(taken, 512);
	CHECK_EQ(queue.used & ~(1u << LEVEL_DEFAULT), 0);
}
