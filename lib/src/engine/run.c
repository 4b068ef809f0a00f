/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See run.h.
 */
#include <errno.h>
#include <stdlib.h>
#include "base/text.h"
#include "engine/process.h"
#include "engine/progress.h"
#include "engine/record.h"
#include "engine/run.h"
#include "engine/run_progress.h"
#include "engine/schedule_group.h"
#include "engine/state.h"
#include "engine/stuck.h"
#include "task/options.h"
#include "task/running.h"

void run_free(struct dw_run *run)
{
	run_graph_free(&run->graph);
	progress_free(run->report);
	free(run->orch.ranges);
	free(run);
}

/* ----------------------------------------------------------------- begin, end */

/* Of the run itself, and none of its tasks. */
static void own_error(struct dw_run *run, int error, const char *text)
{
	run_error(&run->engine->graph, &run->graph, error, "%s: %s%s%s: %s", run->engine->path,
		  run->task_name ? run->task_name : "", run->task_name ? ": " : "",
		  error_name(-error), text);
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

/* Its tensor map is to be destroyed without the lock. */
static struct tensor_map *run_leave(struct engine *engine, struct dw_run *run)
{
	struct tensor_map *map;

	if (run->previous)
		run->previous->next = run->next;
	else
		engine->runs.first = run->next;
	if (run->next)
		run->next->previous = run->previous;
	map = graph_remove_run(&engine->graph, &run->graph);
	stuck_forget_run(&engine->rings, &run->graph);
	PROBE(&engine->graph, run, run, false);
	return map;
}

/* Runs that wait have been alone so far: frames posted from now on sit behind their tasks. */
static void request_notify_awaited(struct engine *engine)
{
	for (const struct dw_run *run = engine->runs.first; run; run = run->next)
		if (run->graph.awaited)
			request_notify_run(&engine->rings, &run->graph, true);
}

/* Enters it into the engine. On an error the caller frees it. */
static int run_begin(struct engine *engine, struct dw_run *run)
{
	int result;

	if (engine->process != process_serial())
		return error_set(-EBADFD,
				 "%s belongs to another process: it was made before a fork",
				 engine->path);
	if (!run->fn)
		return error_set(-EINVAL, "the orchestration function is NULL");
	result = run_graph_init(&run->graph);
	if (result < 0)
		return result;
	lock_take(&engine->lock);
	if (engine->runs.closing)
		result = error_set(-ESHUTDOWN, "%s is being closed", engine->path);
	else
		result = scope_create(NULL, &run->graph, &run->orch.scope);
	if (result == 0) {
		run->next = engine->runs.first;
		if (run->next)
			run->next->previous = run;
		engine->runs.first = run;
		graph_add_run(&engine->graph);
		if (engine->graph.run_count == 2)
			request_notify_awaited(engine);
		PROBE(&engine->graph, run, run, true);
		if (run->timeout_ns) {
			run->deadline = running_deadline(&engine->timer, run->timeout_ns);
			timer_deadline(&engine->timer, run->deadline);
		}
		if (run->cancel && atomic_load_explicit(run->cancel, memory_order_relaxed))
			run_cancel_locked(run, -ECANCELED, "cancelled before it began");
	}
	lock_give(&engine->lock);
	if (result < 0)
		tensor_map_destroy(run->graph.map);
	return result;
}

static bool run_drained(const struct waiter *waiter)
{
	return waiter->run->graph.finished == waiter->run->graph.submitted;
}

static bool ready_or_interrupted(const struct waiter *waiter)
{
	return waiter->run->interrupted || waiter->condition(waiter);
}

int run_wait_locked(struct waiter *waiter, struct deadline *deadline)
{
	struct dw_run *run = waiter->run;
	int result;

	if (LIKELY(!run->here))
		return wait_locked(run->engine, waiter, deadline);
	waiter_wrap(waiter, ready_or_interrupted);
	result = wait_locked(run->engine, waiter, deadline);
	waiter_unwrap(waiter);
	if (!run->interrupted || waiter->ready(waiter))
		return result;
	run->interrupted = false;
	return error_set(-ERESTART, "%s: the wait was interrupted", run->engine->path);
}

int run_drain_locked(struct engine *engine, struct dw_run *run)
{
	struct waiter waiter = { .ready = run_drained, .engine = engine, .run = run };
	bool was_awaited = run->graph.awaited;
	int result;

	/*
	 * While tasks of other runs sit in the same rings, the last of this one may end long before
	 * a ring runs dry.
	 */
	if (engine->graph.run_count > 1)
		request_notify_run(&engine->rings, &run->graph, true);
	run_set_awaited(&run->graph, true);
	result = run_wait_locked(&waiter, NULL);
	run_set_awaited(&run->graph, was_awaited);
	return result;
}

static void end_scopes(struct engine *engine, struct dw_run *run)
{
	struct scope *scope, *outer;

	for (scope = run->orch.scope; scope; scope = outer) {
		outer = scope->outer;
		scope_end(engine->heap, scope);
	}
	run->orch.scope = NULL;
}

/*
 * Drains the run and removes it. `result` is the function's; the run keeps its own. False: the
 * drain was interrupted, and run_end() has to be called again.
 */
static bool run_end(struct dw_run *run, int result, const char *text)
{
	struct engine *engine = run->engine;
	struct tensor_map *map;

	lock_take(&engine->lock);
	if (result)
		own_error(run, result, text);
	end_scopes(engine, run);
	if (UNLIKELY(run->orch.recorder != NULL)) {
		run_end_part(&run->graph);
		recorder_drop(run->orch.recorder);
		orch_set_recorder(&run->orch, NULL);
	}
	if (run_drain_locked(engine, run) < 0) {
		engine_unlock_and_wake(engine);
		return false;
	}
	run->over = true;
	if (UNLIKELY(engine->chip_memory.count)) {
		lock_give(&engine->lock);
		chip_memory_run_ended(engine, &run->graph);
		lock_take(&engine->lock);
	}
	if (UNLIKELY(run->report != NULL)) {
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
	if (UNLIKELY(engine->records.first != NULL))
		graphs_run_ended(engine, &run->graph);
	map = run_leave(engine, run);
	waiters_settle(engine);
	engine_unlock_and_wake(engine);
	tensor_map_destroy(map);
	return true;
}

/* The function of a run is in progress in this frame. */
struct run_call {
	struct dw_run *run;		/* NULL: it has returned */
	struct running_task task, own;
	struct nesting nesting;
};

/*
 * The function did not return: an exception leaves it, or its thread ends. The tasks may use memory
 * of the stack frames that are unwound.
 */
static void run_call_left(struct run_call *call)
{
	struct dw_run *run = call->run;

	if (!run)
		return;
	nesting_pop(&call->nesting);
	running_pop(&call->own, 0);
	running_pop(&call->task, 0);
	lock_take(&run->engine->lock);
	run_cancel_locked(
		run, -ECANCELED,
		"its orchestration function was left by an exception, or its thread ended");
	run->here = false;
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

	nesting_push(&call.nesting, run->engine, run);
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

/* As run_end(). */
static bool run_execute(struct dw_run *run)
{
	char text[ERROR_TEXT_BYTES];
	int result = call_function(run, text, sizeof(text));

	return run_end(run, result, text);
}

/*
 * Frees the run; returns its result and sets its text. A part of another run keeps no errors for
 * its thread.
 */
static int run_result(struct dw_run *run)
{
	int result = run->graph.error;

	if (result)
		error_set(result, "%s", run->graph.text);
	if (!run->task_name)
		run_errors_keep(&run->graph.errors);
	run_free(run);
	return result;
}

/* An exception passes through engine_run(): no caller will take the result. */
static void run_left(struct dw_run **run)
{
	if (*run)
		run_free(*run);
}

int engine_run(struct engine *engine, dw_orch_fn *fn, const struct dw_args *args,
	       const struct dw_config *config, void *context,
	       const struct engine_nested_run *nested)
{
	const char *task_name = nested ? nested->task_name : NULL;
	__attribute__((cleanup(run_left))) struct dw_run *unwound = NULL;
	struct dw_run *run = run_new(engine, fn, args, config, context);
	int result = run ? 0 : error_set(-ENOMEM, "no memory for a run");

	if (run && nested) {
		run->cancel = nested->cancel;
		run->declared = nested->declared;
		run->task_name = task_name;
		graph_count_from(&run->graph, nested->tasks_before);
		if (nested->names)
			run_names_give(&run->graph.names, args, nested->names);
	}
	if (run) {
		run->blocking = true;
		result = run_begin(engine, run);
	}
	if (result < 0) {
		if (run)
			run_names_free(&run->graph.names);
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
static int start_thread(struct dw_run *run, void *(*body)(void *))
{
	int result;

	atomic_store_explicit(&run->handle.references, 2, memory_order_relaxed);
	run_handle_has_thread(&run->handle, true);
	result = run_start_thread(&run->handle.thread, body, run);
	if (result)
		run_handle_has_thread(&run->handle, false);
	return result ? error_set(-result, "no thread for a run: %s%s", error_name(result),
				  error_hint(result)) : 0;
}

/* The function has returned; its thread was interrupted in the drain. */
static void *drain_thread(void *argument)
{
	__attribute__((cleanup(run_thread_ended))) struct dw_run *run = argument;

	run_end(run, 0, "");
	return NULL;
}

static void no_more_interrupts(struct dw_run *run)
{
	lock_take(&run->engine->lock);
	run->here = false;
	run->interrupted = false;
	lock_give(&run->engine->lock);
}

/* The whole run, or up to an interrupt: a thread goes on then, if one can be had. */
static void run_here(struct dw_run *run)
{
	__attribute__((cleanup(run_left))) struct dw_run *unwound = run;
	bool ended = run_execute(run);

	unwound = NULL;
	if (!ended) {
		no_more_interrupts(run);
		if (start_thread(run, drain_thread) == 0)
			return;
		run_end(run, 0, "");
	}
	atomic_store_explicit(&run->handle.references, 1, memory_order_relaxed);
	run_handle_ended(run);
}

static void run_abandon(struct engine *engine, struct dw_run *run)
{
	struct tensor_map *map;

	if (run->report)
		progress_abandon(run);
	lock_take(&engine->lock);
	end_scopes(engine, run);
	map = run_leave(engine, run);
	waiters_settle(engine);
	engine_unlock_and_wake(engine);
	tensor_map_destroy(map);
	run_free(run);
}

int engine_read_run_options(const struct dw_run_options *options, struct dw_run_options *full)
{
	int result = options ? options_read(full, sizeof(*full), options, "dw_run_options") : 0;

	if (result == 0 && full->here > 1)
		result = error_set(-EINVAL, "options.here is %u; it should be 0 or 1", full->here);
	return result;
}

int engine_run_start(struct engine *engine, dw_orch_fn *fn, const struct dw_args *args,
		     const struct dw_config *config, void *context,
		     const struct dw_run_options *options, struct dw_run **run)
{
	const struct dw_run_options defaults = { .size = sizeof(defaults) };
	struct dw_run *made;
	int result = 0;

	if (!options)
		options = &defaults;
	made = run_new(engine, fn, args, config, context);
	if (!made)
		return error_set(-ENOMEM, "no memory for a run");
	made->timeout_ns = options->timeout_ns;
	made->here = options->here;
	if (options->progress)
		made->report = progress_new(made, options);
	if (options->progress && !made->report)
		result = error_set(-ENOMEM, "no memory for a run");
	if (result == 0)
		result = run_begin(engine, made);
	if (result < 0) {
		run_free(made);
		return result;
	}
	if (made->report)
		result = progress_begin(made);
	if (result == 0 && made->here)
		run_here(made);
	else if (result == 0)
		result = start_thread(made, run_thread);
	if (result < 0) {
		run_abandon(engine, made);
		return result;
	}
	*run = made;
	return 0;
}

/* ------------------------------------------------------------------- cancel */

static void cancel_task(struct task *task, void *context)
{
	struct dw_run *run = context;
	struct engine *engine = run->engine;

	if (task->run != &run->graph || task->head.state >= TASK_DONE)
		return;
	task_set_flags(task, FLAG_CANCEL);
	if (task->head.state == TASK_READY) {
		if (task->flags & FLAG_GROUP)
			group_withdraw(&engine->schedule, task);
		else
			task_unqueue(task);
		graph_finish(&engine->graph, task, TASK_SKIPPED);
	} else if (task->head.state == TASK_PENDING) {
		task_unqueue(task);
	}
}

/* Youngest first, so that no task stays in the ring after its producer has left it. */
static void cancel_ring(struct engine *engine, struct worker_ring *ring,
			const struct run_graph *run)
{
	struct ring_set *rings = &engine->rings;
	bool running = false;

	for (uint32_t number = ring->tail; number != ring->head; number--) {
		struct entry *entry = ring_entry(rings, ring, number - 1);
		struct task *task = entry->task;

		if (!task || task->run != run || task->flags & FLAG_GROUP)
			continue;
		if (!entry_stays(entry) && ring_revoke(rings, ring, number - 1)) {
			graph_returned(&engine->graph, task);
		} else {
			ring_cancel(rings, ring, number - 1);
			ring_request_notify(rings, ring, number - 1);
			running = true;
		}
	}
	if (running)
		ring_tell_cancelled(rings, ring);
}

static void cancel_group(struct task *task, void *context)
{
	struct dw_run *run = context;

	if (task->run != &run->graph || task->head.state != TASK_RUNNING ||
	    !(task->flags & FLAG_GROUP))
		return;
	graph_cancel_members(&run->engine->graph, task);
	if (!task->group->left)
		graph_returned(&run->engine->graph, task);
}

void run_cancel_locked(struct dw_run *run, int error, const char *why)
{
	struct engine *engine = run->engine;
	struct run_graph *graph = &run->graph;
	bool calls = false;

	/* Too late for one that has ended. */
	if (graph->cancelled || run->over)
		return;
	run_set_cancelled(graph);
	atomic_store_explicit(&run->cancel_word, 1, memory_order_relaxed);
	own_error(run, error, why);
	schedule_settle(&engine->schedule);
	tasks_each(&engine->graph.tasks, cancel_task, run);
	for (uint32_t i = 0; i < engine->rings.count; i++) {
		struct worker_ring *ring = &engine->rings.all[i];

		cancel_ring(engine, ring, graph);
		calls = ring_cancel_controls(&engine->rings, ring, graph, graph->error,
					     graph->text) || calls;
	}
	if (calls) {
		run->calls_end = running_now(&engine->timer) + CANCEL_GRACE_NS;
		timer_deadline(&engine->timer, run->calls_end);
	}
	tasks_each(&engine->graph.tasks, cancel_group, run);
	schedule_settle(&engine->schedule);
	waiters_settle(engine);
}

void engine_cancel_flagged(struct engine *engine, int error, const char *why)
{
	lock_take(&engine->lock);
	for (struct dw_run *run = engine->runs.first; run; run = run->next)
		if (run->cancel && atomic_load_explicit(run->cancel, memory_order_relaxed))
			run_cancel_locked(run, error, why);
	engine_unlock_and_wake(engine);
}

void engine_cancel_all(struct engine *engine, int error, const char *why)
{
	lock_take(&engine->lock);
	for (struct dw_run *run = engine->runs.first; run; run = run->next)
		run_cancel_locked(run, error, why);
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

void engine_interrupt(struct engine *engine)
{
	lock_take(&engine->lock);
	for (struct dw_run *run = engine->runs.first; run; run = run->next)
		run->interrupted = run->here;
	waiters_settle(engine);
	engine_unlock_and_wake(engine);
}

int orch_ranges(struct dw_orch *orch, uint64_t count, struct range **ranges)
{
	if (UNLIKELY(count > orch->range_space)) {
		uint64_t space = count < 32 ? 32 : 2 * count;
		struct range *grown = realloc(orch->ranges, space * sizeof(*grown));

		if (!grown || space > UINT32_MAX)
			return error_set(-ENOMEM, "no memory for %llu tensors",
					 (unsigned long long)count);
		orch->ranges = grown;
		orch->range_space = (uint32_t)space;
	}
	*ranges = orch->ranges;
	return 0;
}

/* -------------------------------------------------------------------- drain */

static bool no_runs(const struct waiter *waiter)
{
	return !waiter->engine->runs.first;
}

int engine_drain(struct engine *engine, struct deadline *deadline)
{
	struct waiter waiter = { .ready = no_runs, .engine = engine };
	int result;

	lock_take(&engine->lock);
	engine->runs.closing = true;
	for (struct dw_run *run = engine->runs.first; run; run = run->next)
		run_cancel_locked(run, -ECANCELED, "its Worker is being closed");
	result = wait_locked(engine, &waiter, deadline);
	if (result < 0)
		error_set(result, "%s: %u runs have not ended", engine->path,
			  engine->graph.run_count);
	engine_unlock_and_wake(engine);
	return result;
}

uint32_t engine_runs(struct engine *engine)
{
	uint32_t runs;

	lock_take(&engine->lock);
	runs = engine->graph.run_count;
	lock_give(&engine->lock);
	return runs;
}
