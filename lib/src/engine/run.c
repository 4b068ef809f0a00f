/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Runs: an orchestration function with its own Orchestrator, tensor map and
 * outermost scope; then the drain; then the first error as the result.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/text.h"
#include "engine/abandon.h"
#include "engine/chip_memory.h"
#include "engine/completion.h"
#include "engine/group.h"
#include "engine/process.h"
#include "engine/progress.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"
#include "engine/timer.h"
#include "engine/wait.h"
#include "task/options.h"
#include "task/running.h"

void run_free(struct dw_run *run)
{
	run_errors_free(&run->errors);
	progress_free(run->progress);
	free(run->failed.entries);
	free(run->orch.ranges);
	free(run);
}

/* ----------------------------------------------------------------- begin, end */

/* Of the run itself, and none of its tasks. */
static void own_error(struct dw_run *run, int error, const char *text)
{
	run_error(run, error, "%s: %s%s%s: %s", run->engine->path, run->task_name ? run->task_name : "",
		  run->task_name ? ": " : "", error_name(-error), text);
}

static struct dw_run *run_new(struct engine *engine, dw_orch_fn *fn, const struct dw_args *args,
			      const struct dw_config *config, void *context)
{
	struct dw_run *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->engine = engine;
	run_handle_init(&run->handle);
	run->served = nesting_served();
	run->deadline = NEVER;
	run->calls_end = NEVER;
	run->fn = fn;
	run->args = args;
	if (config)
		run->config = *config;
	run->context = context;
	run->orch.run = run;
	return run;
}

static void runs_count(struct engine *engine, int change)
{
	engine->run_count += (uint32_t)change;
	__atomic_store_n(&engine->status->runs, engine->run_count, __ATOMIC_RELAXED);
}

static void run_leave(struct engine *engine, struct dw_run *run)
{
	if (run->previous)
		run->previous->next = run->next;
	else
		engine->runs = run->next;
	if (run->next)
		run->next->previous = run->previous;
	runs_count(engine, -1);
	kept_forget_run(engine, run);
	PROBE(engine, run, run, false);
}

/*
 * While other runs' tasks sit in the same rings, the last of ours may end long
 * before a ring runs dry: ask to hear of each ring's last one.
 */
static void request_notify_run(struct engine *engine, const struct dw_run *run)
{
	for (uint32_t i = 0; i < engine->worker_count; i++) {
		struct worker_ring *ring = &engine->rings[i];

		for (uint32_t number = ring->tail; number != ring->head; number--) {
			const struct task *task = ring_entry(engine, ring, number - 1)->task;

			if (task && task->run == run) {
				ring_request_notify(engine, ring, number - 1);
				break;
			}
		}
	}
}

/* Those that wait have been alone so far: what enters the rings from now on sits behind their tasks. */
static void request_notify_awaited(struct engine *engine)
{
	for (const struct dw_run *run = engine->runs; run; run = run->next)
		if (run->awaited)
			request_notify_run(engine, run);
}

/* Enters it into the engine. On an error the caller frees it. */
static int run_begin(struct engine *engine, struct dw_run *run)
{
	int result;

	if (engine->process != process_serial())
		return error_set(-EBADFD, "%s belongs to another process: it was made before a fork",
				 engine->path);
	if (!run->fn)
		return error_set(-EINVAL, "the orchestration function is NULL");
	result = tensor_map_create(&run->map);
	if (result < 0)
		return error_set(result, "no memory for a run's tensor map");
	lock_take(&engine->lock);
	if (engine->closing)
		result = error_set(-ESHUTDOWN, "%s is being closed", engine->path);
	else
		result = scope_create(NULL, run, &run->orch.scope);
	if (result == 0) {
		run->next = engine->runs;
		if (run->next)
			run->next->previous = run;
		engine->runs = run;
		runs_count(engine, 1);
		if (engine->run_count == 2)
			request_notify_awaited(engine);
		PROBE(engine, run, run, true);
		if (run->timeout_ns) {
			run->deadline = running_deadline(engine, run->timeout_ns);
			timer_deadline(engine, run->deadline);
		}
		if (run->cancel && atomic_load_explicit(run->cancel, memory_order_relaxed))
			run_cancel_locked(run, -ECANCELED, "cancelled before it began");
	}
	lock_give(&engine->lock);
	if (result < 0)
		tensor_map_destroy(run->map);
	return result;
}

static bool run_drained(const struct waiter *waiter)
{
	return waiter->run->finished == waiter->run->submitted;
}

static void run_drain_locked(struct engine *engine, struct dw_run *run)
{
	struct waiter waiter = { .ready = run_drained, .engine = engine, .run = run };
	bool was_awaited = run->awaited;

	if (engine->run_count > 1)
		request_notify_run(engine, run);
	run->awaited = true;
	wait_locked(engine, &waiter, NULL);
	run->awaited = was_awaited;
}

static void end_scopes(struct engine *engine, struct dw_run *run)
{
	struct scope *scope, *outer;

	for (scope = run->orch.scope; scope; scope = outer) {
		outer = scope->outer;
		scope->open = false;
		if (scope_put(engine->heap, scope))
			engine->heap_serial++;
	}
	run->orch.scope = NULL;
}

/* Drains, leaves the engine. `result` is what the function returned; the run's is in run->error and its text. */
static void run_end(struct dw_run *run, int result, const char *text)
{
	struct engine *engine = run->engine;
	struct tensor_map *map;

	lock_take(&engine->lock);
	if (result)
		own_error(run, result, text);
	end_scopes(engine, run);
	run_drain_locked(engine, run);
	run->over = true;
	if (UNLIKELY(engine->chip_blocks != NULL)) {
		lock_give(&engine->lock);
		chip_memory_run_ended(engine, run);
		lock_take(&engine->lock);
	}
	if (UNLIKELY(run->progress != NULL)) {
		/* While the run is in its engine: dw_worker_close() waits for the last call. */
		engine_unlock_and_wake(engine);
		progress_end(run);
		lock_take(&engine->lock);
	}
	if (!run->blocking) {
		/* The handle's lock comes first. */
		engine_unlock_and_wake(engine);
		run_handle_leaving(run);
		lock_take(&engine->lock);
	}
	run_leave(engine, run);
	map = run->map;
	run->map = NULL;
	waiters_settle(engine);
	engine_unlock_and_wake(engine);
	tensor_map_destroy(map);
}

/* The function of a run is in progress in this frame. */
struct run_call {
	struct dw_run *run;		/* NULL: it has returned */
	struct running_task task, own;
	struct nesting nesting;
};

/* It did not return: an exception leaves it, or its thread ends. The tasks may use memory of the frames that go. */
static void run_call_left(struct run_call *call)
{
	struct dw_run *run = call->run;

	if (!run)
		return;
	nesting_pop(&call->nesting);
	running_pop(&call->own, 0);
	running_pop(&call->task, 0);
	lock_take(&run->engine->lock);
	run_cancel_locked(run, -ECANCELED, "its orchestration function was left by an exception, or its thread ended");
	engine_unlock_and_wake(run->engine);
	run_end(run, 0, "");
}

/*
 * Calls the function; 0, or its error, which is the run's unless a task failed before it. The
 * text is its own (dw_task_fail), else that of the last call of the library that failed in it.
 */
static int call_function(struct dw_run *run, char *text, size_t space)
{
	__attribute__((cleanup(run_call_left))) struct run_call call = { .run = run };
	int result, returned;

	nesting_push(&call.nesting, run);
	running_push(&call.task, run->cancel);
	running_push(&call.own, &run->cancel_word);
	error_set(0, "%s", "");
	returned = run->fn(&run->orch, run->args, &run->config, run->context);
	call.run = NULL;
	nesting_pop(&call.nesting);
	text_copy(text, space, error_text());
	result = running_pop(&call.own, returned);
	running_pop(&call.task, 0);
	if (result && (call.own.has_text || returned > 0 || !text[0]))
		text_copy(text, space, error_text());
	return result;
}

static void run_execute(struct dw_run *run)
{
	char text[ERROR_TEXT_BYTES];
	int result = call_function(run, text, sizeof(text));

	run_end(run, result, text);
}

/* Frees the run; returns its result and sets its text. A part of another run keeps no errors for its thread. */
static int run_result(struct dw_run *run)
{
	int result = run->error;

	if (result)
		error_set(result, "%s", run->text);
	if (!run->task_name)
		run_errors_keep(&run->errors);
	run_free(run);
	return result;
}

/* An exception passes through engine_run(): nobody will ask for the result. */
static void run_left(struct dw_run **run)
{
	if (*run)
		run_free(*run);
}

int engine_run(struct engine *engine, dw_orch_fn *fn, const struct dw_args *args,
	       const struct dw_config *config, void *context, const _Atomic uint32_t *cancel,
	       const struct dw_args *declared, const char *task_name)
{
	__attribute__((cleanup(run_left))) struct dw_run *unwound = NULL;
	struct dw_run *run = run_new(engine, fn, args, config, context);
	int result = run ? 0 : error_set(-ENOMEM, "no memory for a run");

	if (run) {
		run->cancel = cancel;
		run->declared = declared;
		run->task_name = task_name;
		run->blocking = true;
		result = run_begin(engine, run);
	}
	if (result < 0) {
		free(run);
		return task_name ? error_prefix(result, "%s: %s: %s: ", engine->path, task_name,
					   error_name(-result)) : result;
	}
	unwound = run;
	run_execute(run);
	unwound = NULL;
	return run_result(run);
}

/* ------------------------------------------------------------ without blocking */

static void run_thread_ended(struct dw_run **run)
{
	run_handle_ended(*run);
	run_handle_put(*run);
}

/* Its function may end the thread: pthread_exit(). */
static void *run_thread(void *argument)
{
	__attribute__((cleanup(run_thread_ended))) struct dw_run *run = argument;

	run_execute(run);
	return NULL;
}

/* The run's thread has a reference of its own. */
static int start_thread(struct dw_run *run)
{
	int result;

	atomic_store_explicit(&run->handle.references, 2, memory_order_relaxed);
	result = run_start_thread(&run->handle.thread, run_thread, run);
	return result ? error_set(-result, "no thread for a run: %s%s", error_name(result),
				  error_hint(result)) : 0;
}

static void run_abandon(struct engine *engine, struct dw_run *run)
{
	if (run->progress)
		progress_abandon(run);
	lock_take(&engine->lock);
	end_scopes(engine, run);
	run_leave(engine, run);
	waiters_settle(engine);
	engine_unlock_and_wake(engine);
	tensor_map_destroy(run->map);
	run_free(run);
}

int engine_run_start(struct engine *engine, dw_orch_fn *fn, const struct dw_args *args,
		     const struct dw_config *config, void *context,
		     const struct dw_run_options *options, struct dw_run **run)
{
	struct dw_run_options full = { .size = sizeof(full) };
	struct dw_run *made;
	int result = options ? options_read(&full, sizeof(full), options, "dw_run_options") : 0;

	if (result < 0)
		return result;
	made = run_new(engine, fn, args, config, context);
	if (!made)
		return error_set(-ENOMEM, "no memory for a run");
	made->timeout_ns = full.timeout_ns;
	if (full.progress)
		made->progress = progress_new(made, &full);
	if (full.progress && !made->progress)
		result = error_set(-ENOMEM, "no memory for a run");
	if (result == 0)
		result = run_begin(engine, made);
	if (result < 0) {
		run_free(made);
		return result;
	}
	if (made->progress)
		result = progress_begin(made);
	if (result == 0)
		result = start_thread(made);
	if (result < 0) {
		run_abandon(engine, made);
		return result;
	}
	*run = made;
	return 0;
}

/* ------------------------------------------------------------------- cancel */

static void cancel_task(struct engine *engine, struct task *task, void *context)
{
	if (task->run != context || task->head.state >= TASK_DONE)
		return;
	task->flags |= FLAG_CANCEL;
	if (task->head.state == TASK_READY) {
		if (task->flags & FLAG_GROUP)
			group_withdraw(engine, task);
		else
			task_unqueue(engine, task);
		task_finish(engine, task, TASK_SKIPPED);
	} else if (task->head.state == TASK_PENDING && task->queue == QUEUE_CHAINED) {
		task_unqueue(engine, task);
	}
}

/* Youngest first, so that nothing stays behind what it depends on. */
static void cancel_ring(struct engine *engine, struct worker_ring *ring, const struct dw_run *run)
{
	bool running = false;

	for (uint32_t number = ring->tail; number != ring->head; number--) {
		struct task *task = ring_entry(engine, ring, number - 1)->task;

		if (!task || task->run != run || task->flags & FLAG_GROUP)
			continue;
		if (ring_revoke(engine, ring, number - 1)) {
			task_returned(engine, task);
		} else {
			hub_cancel(engine->hub, ring->index, number - 1);
			ring_request_notify(engine, ring, number - 1);
			running = true;
		}
	}
	if (running && engine->ops && engine->ops->cancelled)
		engine->ops->cancelled(engine->ops_context, ring->index);
}

static void cancel_group(struct engine *engine, struct task *task, void *context)
{
	if (task->run != context || task->head.state != TASK_RUNNING ||
	    !(task->flags & FLAG_GROUP))
		return;
	group_cancel_members(engine, task);
	if (!task->group->left)
		task_returned(engine, task);
}

void run_cancel_locked(struct dw_run *run, int error, const char *why)
{
	struct engine *engine = run->engine;
	bool calls = false;

	/* Too late for one that has ended. */
	if (run->cancelled || run->over)
		return;
	run->cancelled = true;
	atomic_store_explicit(&run->cancel_word, 1, memory_order_relaxed);
	own_error(run, error, why);
	finish_all(engine);
	tasks_each(engine, cancel_task, run);
	for (uint32_t i = 0; i < engine->worker_count; i++) {
		cancel_ring(engine, &engine->rings[i], run);
		calls = ring_cancel_controls(engine, &engine->rings[i], run) || calls;
	}
	if (calls) {
		run->calls_end = running_now(engine) + CANCEL_GRACE_NS;
		timer_deadline(engine, run->calls_end);
	}
	tasks_each(engine, cancel_group, run);
	finish_all(engine);
	waiters_settle(engine);
}

void engine_cancel_flagged(struct engine *engine, int error, const char *why)
{
	lock_take(&engine->lock);
	for (struct dw_run *run = engine->runs; run; run = run->next)
		if (run->cancel && atomic_load_explicit(run->cancel, memory_order_relaxed))
			run_cancel_locked(run, error, why);
	engine_unlock_and_wake(engine);
}

void engine_cancel_all(struct engine *engine, int error, const char *why)
{
	lock_take(&engine->lock);
	for (struct dw_run *run = engine->runs; run; run = run->next)
		run_cancel_locked(run, error, why);
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

DW_API int dw_orch_wait(struct dw_orch *orch)
{
	struct engine *engine;
	struct dw_run *run;
	int result = orch_usable(orch);

	if (result < 0)
		return result;
	run = orch->run;
	engine = run->engine;
	lock_take(&engine->lock);
	run_drain_locked(engine, run);
	if (run->error)
		result = error_set(run->error, "%s", run->text);
	engine_unlock_and_wake(engine);
	return result;
}
