// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Tasks that are posted before their producers in other rings have ended. */
#include "timed_tasks.h"
#include "mailbox/provider.h"

#define NODES	4
#define STEPS	100

/* Scalars: board, index. Element `index` of the board gets the place in the order of ends. */
static int step(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
		void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);

	(void)orch;
	(void)config;
	(void)context;
	board->worker[dw_args_scalar(args, 1) % 1024] = atomic_fetch_add(&board->ran, 1);
	return 0;
}

/* Holds its worker until the test says so; then it fails if scalar 2 is not 0. */
static int hold(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
		void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);

	(void)orch;
	(void)config;
	(void)context;
	atomic_fetch_add(&board->members, 1);
	while (!atomic_load(&board->told))
		rig_sleep(100000);
	board->worker[dw_args_scalar(args, 1)] = atomic_fetch_add(&board->ran, 1);
	return dw_args_scalar(args, 2) ? -EIO : 0;
}


static dw_callable step_handle, hold_handle;

static struct rig *open_rig(struct rig_options options, struct job *job)
{
	if (!step_handle) {
		step_handle = rig_node("step", step);
		hold_handle = rig_node("hold", hold);
	}
	return open_with(options, job);
}

/* A task that uses two cells of the board's tail: `from` as INPUT, `to` as INOUT; -1: none. */
static int submit_cells(struct dw_orch *orch, struct job *job, dw_callable callable, uint64_t index,
			uint64_t fails, int from, int to, uint32_t worker, uint64_t timeout_ns)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	options.place = DW_PLACE(worker);
	options.timeout_ns = timeout_ns;
	dw_args_reset(job->args);
	if (from >= 0)
		rig_add(job->args, (void *)&job->board->took[from], 1, DW_INPUT);
	if (to >= 0)
		rig_add(job->args, (void *)&job->board->took[to], 1, DW_INOUT);
	dw_args_add_scalar(job->args, (uint64_t)(uintptr_t)job->board);
	dw_args_add_scalar(job->args, index);
	dw_args_add_scalar(job->args, fails);
	return dw_submit(orch, callable, job->args, &options, NULL);
}

/* The callables are short, as far as is known. */
static int learn(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
		 void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	atomic_store(&job->board->told, 1);
	for (uint32_t i = 0; i < 16; i++) {
		submit_cells(orch, job, hold_handle, 0, 0, -1, -1, i % NODES, 0);
		submit_cells(orch, job, step_handle, 0, 0, -1, -1, i % NODES, 0);
		dw_orch_wait(orch);
	}
	atomic_store(&job->board->told, 0);
	atomic_store(&job->board->members, 0);
	atomic_store(&job->board->ran, 0);
	return 0;
}

static int chain(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
		 void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	/* All of it is in the rings before the first one ends. */
	submit_cells(orch, job, hold_handle, STEPS, 0, -1, 0, 0, 0);
	for (uint64_t i = 0; i < STEPS; i++)
		submit_cells(orch, job, step_handle, i, 0, -1, 0, (i + 1) % NODES, 0);
	atomic_store(&job->board->told, 1);
	return 0;
}

static uint64_t wakes_of_parent(const struct rig *rig)
{
	struct endpoint_counters counters;
	uint64_t wakes = 0;

	for (uint32_t i = 0; i < rig->count; i++) {
		hub_peer_counters(rig->hub, i, &counters);
		wakes += counters.wakes;
	}
	return wakes;
}

TEST(chain_over_workers_goes_on_without_its_parent)
{
	struct job job = { 0 };
	struct rig *rig = open_rig((struct rig_options){ .nested = NODES, .depth = 64 }, &job);
	uint64_t wakes;

	REQUIRE(rig);
	if (!hub_has_timelines(rig->hub)) {
		done_with(rig, &job);
		SKIP("the provider has no timelines");
	}
	CHECK_EQ(rig_run(rig, learn, &job), 0);
	wakes = wakes_of_parent(rig);
	CHECK_EQ(rig_run(rig, chain, &job), 0);
	wakes = wakes_of_parent(rig) - wakes;
	printf("# %llu wake-ups of the parent for %d edges between workers\n",
	       (unsigned long long)wakes, STEPS);
	/* Each was one, when all edges went through the parent. */
	CHECK(wakes < STEPS / 2);
	for (uint64_t i = 0; i < STEPS; i++)
		if (!CHECK_EQ(job.board->worker[i], (int64_t)i + 1))
			break;
	done_with(rig, &job);
}

/* Worker 1 waits for worker 0, which takes longer than was estimated; a ready task comes then. */
static int stick(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
		 void *context)
{
	struct job *job = context;
	uint64_t begun = rig_now();

	(void)args;
	(void)config;
	submit_cells(orch, job, hold_handle, 1, 0, -1, 0, 0, 0);
	submit_cells(orch, job, step_handle, 2, 0, 0, 1, 1, 0);
	submit_cells(orch, job, step_handle, 3, 0, -1, -1, 1, 0);
	/* It goes before the one that was posted ahead of it; the holding task has not ended. */
	while (atomic_load(&job->board->ran) < 1 && unit_within(begun, 20000000000ULL))
		rig_sleep(1000000);
	CHECK_EQ(atomic_load(&job->board->ran), 1);
	atomic_store(&job->board->told, 1);
	return 0;
}

TEST(ready_task_does_not_stick_behind_one_that_waits)
{
	struct job job = { 0 };
	struct rig *rig = open_rig((struct rig_options){ .nested = NODES }, &job);

	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, learn, &job), 0);
	CHECK_EQ(rig_run(rig, stick, &job), 0);
	CHECK_EQ(job.board->worker[3], 0);
	CHECK_EQ(job.board->worker[1], 1);
	CHECK_EQ(job.board->worker[2], 2);
	done_with(rig, &job);
}

/* Worker 0 fails; the one in worker 1 that waits for it, and the next one, never run. */
static int lose(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
		void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	submit_cells(orch, job, hold_handle, 1, 1, -1, 0, 0, 0);
	submit_cells(orch, job, step_handle, 2, 0, 0, 1, 1, 0);
	submit_cells(orch, job, step_handle, 3, 0, 1, 2, 2, 0);
	/* Only the order binds this one: it overwrites what was read. */
	submit_cells(orch, job, step_handle, 4, 0, -1, 3, 3, 0);
	atomic_store(&job->board->told, 1);
	return 0;
}

TEST(what_waits_for_a_task_that_fails_is_skipped)
{
	struct dw_engine_stats before = DW_OPTIONS(dw_engine_stats), after = before;
	struct job job = { 0 };
	struct rig *rig = open_rig((struct rig_options){ .nested = NODES }, &job);

	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, learn, &job), 0);
	engine_stats(rig->engine, &before);
	CHECK_EQ(rig_run(rig, lose, &job), -EIO);
	engine_stats(rig->engine, &after);
	CHECK_EQ(after.failed - before.failed, 1);
	CHECK_EQ(after.skipped - before.skipped, 2);
	CHECK_EQ(after.done - before.done, 1);
	CHECK_EQ(atomic_load(&job.board->ran), 2);
	done_with(rig, &job);
}

static uint32_t in_ring(const struct rig *rig, uint32_t worker)
{
	return __atomic_load_n(&rig->engine->rings.all[worker].status->in_ring, __ATOMIC_RELAXED);
}

static int submit_and_cancel(struct dw_orch *orch, const struct dw_args *args,
			     const struct dw_config *config, void *context)
{
	struct job *job = context;
	uint64_t begun = rig_now();

	(void)args;
	(void)config;
	submit_cells(orch, job, hold_handle, 1, 0, -1, 0, 0, 0);
	for (uint32_t i = 1; i < NODES; i++)
		submit_cells(orch, job, step_handle, 1 + i, 0, 0, (int)i, i, 0);
	while (!atomic_load(&job->board->members))
		rig_sleep(100000);
	engine_cancel_all(job->rig->engine, -ECANCELED, "told to");
	/* The holding task goes on, and keeps their workers no longer; a report looks at rings. */
	for (uint32_t i = 1; i < NODES; i++)
		while (in_ring(job->rig, i) && unit_within(begun, 20000000000ULL)) {
			rig_sleep(1000000);
			engine_worker_stopped(job->rig->engine, i, 0);
		}
	for (uint32_t i = 1; i < NODES; i++)
		CHECK_EQ(in_ring(job->rig, i), 0);
	atomic_store(&job->board->told, 1);
	return 0;
}

TEST(what_waits_ends_with_its_run)
{
	struct job job = { 0 };
	struct rig *rig = open_rig((struct rig_options){ .nested = NODES }, &job);

	REQUIRE(rig);
	job.rig = rig;
	CHECK_EQ(rig_run(rig, learn, &job), 0);
	CHECK_EQ(rig_run(rig, submit_and_cancel, &job), -ECANCELED);
	CHECK_EQ(atomic_load(&job.board->ran), 1);
	CHECK_EQ(rig_run(rig, learn, &job), 0);
	done_with(rig, &job);
}

#define LATE_NS 400000000ULL

/* The producer holds for longer than the consumer's deadline. */
static int submit_timed(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	submit_cells(orch, job, hold_handle, 1, 0, -1, 0, 0, 0);
	submit_cells(orch, job, step_handle, 2, 0, 0, 1, 1, LATE_NS);
	rig_sleep(3 * LATE_NS);
	atomic_store(&job->board->told, 1);
	return 0;
}

TEST(deadline_begins_when_the_producers_have_ended)
{
	struct job job = { 0 };
	struct rig *rig = open_rig((struct rig_options){ .nested = NODES }, &job);

	REQUIRE(rig);
	CHECK_EQ(rig_run(rig, learn, &job), 0);
	CHECK_EQ(rig_run(rig, submit_timed, &job), 0);
	CHECK_EQ(atomic_load(&rig->kills), 0);
	CHECK_EQ(job.board->worker[2], 1);
	done_with(rig, &job);
}

/* Completes the frame behind its own, which waits for a sibling; nothing if there is none. */
static int hurries(struct dw_orch *orch, const struct dw_args *args, const struct dw_config *config,
		   void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);
	struct endpoint *endpoint = rig_endpoint;
	uint32_t done = endpoint->mailbox->done;
	bool two;

	(void)orch;
	(void)config;
	(void)context;
	/* What was posted before the test said so was posted before its producer had ended. */
	for (;;) {
		two = __atomic_load_n(&endpoint->mailbox->post, __ATOMIC_ACQUIRE) - done >= 2;
		if (atomic_load(&board->told))
			return 0;
		if (two)
			break;
		rig_sleep(100000);
	}
	for (uint32_t i = 0; i < 2; i++)
		*completion_at(&endpoint->layout, endpoint->mailbox, done + i) =
			(struct completion){ .number = done + i, .state = COMPLETION_DONE };
	__atomic_store_n(&endpoint->mailbox->done, done + 2, __ATOMIC_RELEASE);
	atomic_store(&board->scribbled, true);
	for (;;)
		rig_sleep(1000000000);
	return 0;
}

static dw_callable hurries_handle;

static int submit_hurried(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	struct job *job = context;
	uint64_t begun = rig_now();

	(void)args;
	(void)config;
	submit_cells(orch, job, hold_handle, 1, 0, -1, 0, 0, 0);
	submit_cells(orch, job, hurries_handle, 2, 0, -1, 2, 1, 0);
	submit_cells(orch, job, step_handle, 3, 0, 0, 1, 1, 0);
	submit_cells(orch, job, step_handle, 4, 0, 1, 3, 2, 0);
	while (!atomic_load(&job->rig->kills) && unit_within(begun, 20000000000ULL)) {
		/* On a slow machine its producer ran for too long before it was posted. */
		if (in_ring(job->rig, 1) < 2 && !atomic_load(&job->board->scribbled))
			break;
		/* A submit looks at the rings. */
		submit_cells(orch, job, step_handle, 5, 0, -1, -1, 3, 0);
		rig_sleep(1000000);
	}
	atomic_store(&job->board->told, 1);
	return 0;
}

TEST(worker_that_runs_a_task_before_its_producers_is_killed)
{
	struct job job = { 0 };
	struct rig *rig;
	int status, tries = 0;

	if (!hurries_handle)
		hurries_handle = rig_node("hurries", hurries);
	rig = open_rig((struct rig_options){ .nested = NODES }, &job);
	REQUIRE(rig);
	if (!hub_has_timelines(rig->hub)) {
		done_with(rig, &job);
		SKIP("the provider has no timelines");
	}
	job.rig = rig;
	do {
		CHECK_EQ(rig_run(rig, learn, &job), 0);
		job.board->worker[3] = job.board->worker[4] = 0;
		status = rig_run(rig, submit_hurried, &job);
	} while (!status && ++tries < 100);
	CHECK_EQ(status, -EOWNERDEAD);
	CHECK_EQ(atomic_load(&rig->kills), 1);
	CHECK_EQ(rig->engine->graph.tasks.live, 0);
	/* The two that were in its ring, and the one behind them, have not run. */
	CHECK_EQ(job.board->worker[3], 0);
	CHECK_EQ(job.board->worker[4], 0);
	done_with(rig, &job);
}
