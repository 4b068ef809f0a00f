// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* The engine and its heap: blocking, deadlock and timeout of a submitter when a ring is full. */
#include "unit.h"
#include "engine_rig.h"

static int noop(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return 0;
}

/* Scalar: a word that ends the task. */
static int wait_word(const struct dw_args *args, void *context)
{
	_Atomic int64_t *word = (_Atomic int64_t *)(uintptr_t)dw_args_scalar(args, 0);

	(void)context;
	while (!atomic_load(word))
		rig_sleep(1000000);
	return 0;
}

struct job {
	struct rig *rig;
	uint64_t count;
	int64_t *x, *y;
	int result, submit_result;
	char text[512];
	void *extra;
};

/* -------------------------------------------------------------------- heap */

static int fill(const struct dw_args *args, void *context)
{
	int64_t *x = dw_args_data(args, 0);

	(void)context;
	for (size_t i = 0; i < 1024; i++)
		x[i] = dw_args_int(args, 0);
	return 0;
}

static int check_filled(const struct dw_args *args, void *context)
{
	const int64_t *x = dw_args_data(args, 0);

	(void)context;
	for (size_t i = 0; i < 1024; i++)
		if (x[i] != dw_args_int(args, 0))
			return dw_task_fail(EINVAL, "element %zu is %lld", i, (long long)x[i]);
	return 0;
}

static dw_callable fill_handle, check_handle, wait_handle, noop_handle;

static void heap_handles(void)
{
	if (fill_handle)
		return;
	fill_handle = rig_sub("fill", fill);
	check_handle = rig_sub("check_filled", check_filled);
	noop_handle = rig_sub("noop", noop);
	wait_handle = rig_sub("wait_word", wait_word);
}

static int submit_scoped(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	struct job *job = context;
	struct dw_args *own;
	int result = 0;

	(void)args;
	(void)config;
	dw_args_create(&own);
	for (uint64_t i = 0; i < job->count && result == 0; i++) {
		dw_scope_begin(orch);
		dw_args_reset(own);
		rig_add(own, NULL, 1024, DW_OUTPUT);
		dw_args_add_int(own, (int64_t)i);
		result = dw_submit(orch, fill_handle, own, NULL, NULL);
		if (result == 0) {
			struct dw_tensor made = *dw_args_tensor(own, 0);

			dw_args_reset(own);
			dw_args_add_tensor(own, &made, DW_INPUT);
			dw_args_add_int(own, (int64_t)i);
			result = dw_submit(orch, check_handle, own, NULL, NULL);
		}
		dw_scope_end(orch);
	}
	dw_args_destroy(own);
	return result;
}

TEST(full_heap_blocks_the_submitter_until_scopes_end)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct job job = { .count = 3000 };
	struct rig *rig;

	heap_handles();
	rig = rig_open((struct rig_options){ .subs = 2, .heap_ring_bytes = 64 << 10 });
	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, submit_scoped, &job), 0);
	engine_stats(rig->engine, &stats);
	CHECK_EQ(stats.done, 6000);
	CHECK_EQ(stats.heap_used, 0);
	rig_close(rig);
}

static int submit_unscoped(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	struct dw_args *own;
	int result = 0;

	(void)args;
	(void)config;
	(void)context;
	dw_args_create(&own);
	for (uint64_t i = 0; i < 1000 && result == 0; i++) {
		dw_args_reset(own);
		rig_add(own, NULL, 1024, DW_OUTPUT);
		dw_args_add_int(own, (int64_t)i);
		result = dw_submit(orch, fill_handle, own, NULL, NULL);
	}
	CHECK(dw_args_data(own, 0) == NULL);
	dw_args_reset(own);
	rig_add(own, NULL, 1 << 20, DW_OUTPUT);
	CHECK_EQ(dw_submit(orch, fill_handle, own, NULL, NULL), -ENOSPC);
	dw_args_destroy(own);
	return result;
}

TEST(own_open_scope_that_fills_the_heap_is_a_deadlock_at_once)
{
	struct job job = { 0 };
	struct rig *rig;

	heap_handles();
	rig = rig_open((struct rig_options){ .subs = 1, .heap_ring_bytes = 64 << 10 });
	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, submit_unscoped, &job), -EDEADLK);
	CHECK_STR(dw_strerror_last(), "heap ring 0");
	rig_close(rig);
}

static int submit_stuck(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	_Atomic int64_t *word = (_Atomic int64_t *)((struct job *)context)->x;
	struct dw_args *own;
	int result;

	(void)args;
	(void)config;
	dw_args_create(&own);
	dw_scope_begin(orch);
	rig_add(own, NULL, 6 << 10, DW_OUTPUT);
	dw_args_add_scalar(own, (uint64_t)(uintptr_t)word);
	result = dw_submit(orch, wait_handle, own, NULL, NULL);
	dw_scope_end(orch);
	dw_scope_begin(orch);
	dw_args_reset(own);
	rig_add(own, NULL, 6 << 10, DW_OUTPUT);
	if (result == 0)
		result = dw_submit(orch, noop_handle, own, NULL, NULL);
	atomic_store(word, 1);
	dw_args_destroy(own);
	return result;
}

TEST(heap_timeout_tells_who_holds_the_tail)
{
	struct job job = { 0 };
	struct rig *rig;

	heap_handles();
	rig = rig_open((struct rig_options){ .subs = 1, .heap_ring_bytes = 64 << 10,
					     .heap_timeout_ns = 50000000 });
	REQUIRE(rig);
	job.x = rig_buffer(rig, 64);
	CHECK_EQ(rig_run(rig, submit_stuck, &job), -ENOBUFS);
	CHECK_STR(dw_strerror_last(), "heap ring 1");
	rig_close(rig);
}
