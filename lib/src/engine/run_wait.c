/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Waiting for tasks, by the orchestration function: for all of the run, or for one.
 */
#include <errno.h>
#include "engine/progress.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/submit.h"

static bool task_final(const struct waiter *waiter)
{
	const struct task *task = task_find(&waiter->engine->graph.tasks, waiter->value);

	return task->head.generation != waiter->value >> 32 || task->head.state == TASK_FREE ||
	       task->head.state >= TASK_DONE;
}

static bool is_of_run(const struct task *task, const void *run)
{
	return task->run == run;
}

/*
 * The task's indirect producers are not known: every completion of the run may matter.
 */
static int wait_for_producers(struct engine *engine, struct waiter *waiter)
{
	int result;

	request_notify_all(&engine->rings, is_of_run, &waiter->run->graph);
	graph_report_all(&engine->graph, 1);
	result = run_wait_locked(waiter, NULL);
	graph_report_all(&engine->graph, -1);
	return result;
}

static int wait_for(struct engine *engine, struct dw_run *run, dw_task id)
{
	struct waiter waiter = {
		.ready = task_final, .engine = engine, .run = run, .value = id,
	};
	struct task *task = task_find(&engine->graph.tasks, id);
	int result;

	if (task_final(&waiter))
		return 0;
	run_await_task(&run->graph, task);
	request_notify(&engine->rings, task);
	if (task->waiting)
		result = wait_for_producers(engine, &waiter);
	else
		result = run_wait_locked(&waiter, NULL);
	run_await_task(&run->graph, NULL);
	return result;
}

/* -ERESTART means that the wait was interrupted. */
static int of_task(int error)
{
	return error == -ERESTART ? -EINTR : error;
}

/* The task's own error: that of its callable, or that it was skipped. */
static int result_of(const struct dw_run *run, dw_task task)
{
	const struct failed *failed = failed_find(&run->graph.failed, task);
	const struct dw_run_error *error;

	if (!failed)
		return 0;
	error = failed->failed_by ? run_errors_find(&run->graph.errors, failed->failed_by) : NULL;
	if (failed->error)
		return error_set(of_task(failed->error), "%s",
				 error ? error->text : error_name(-failed->error));
	if (failed->failed_by)
		return error_set(-ECANCELED, "the task was skipped, because task %llu failed: %s",
				 (unsigned long long)failed->failed_by,
				 error ? error->text : run->graph.text);
	return error_set(-ECANCELED, "the task was skipped: %s", run->graph.text);
}

DW_API int dw_orch_wait_task(struct dw_orch *orch, dw_task task)
{
	const struct dw_submit_options options = { .after = &task, .after_count = 1 };
	struct engine *engine;
	struct dw_run *run;
	int result = orch_usable(orch);

	if (result == 0)
		result = orch_not_recording(orch, "dw_orch_wait_task()",
					    "a replay does not wait; wait before "
					    "dw_record_begin, or after dw_record_end");
	if (result < 0)
		return result;
	if (!task)
		return error_set(-EINVAL, "dw_orch_wait_task: `task` is 0, which is no task");
	run = orch->run;
	engine = run->engine;
	lock_take(&engine->lock);
	result = orch_check_after_locked(run, &options);
	if (result < 0) {
		error_set(result,
			  "dw_orch_wait_task: `task` is %#llx, which is no task of this run",
			  (unsigned long long)task);
	} else {
		result = wait_for(engine, run, task);
		run_names_forget(&run->graph.names, &engine->graph.names);
		if (result == 0)
			result = result_of(run, task);
	}
	engine_unlock_and_wake(engine);
	return result;
}

DW_API int dw_orch_wait(struct dw_orch *orch)
{
	struct engine *engine;
	struct dw_run *run;
	int result = orch_usable(orch);

	if (result == 0)
		result = orch_not_recording(orch, "dw_orch_wait()",
					    "a replay does not wait; wait before "
					    "dw_record_begin, or after dw_record_end");
	if (result < 0)
		return result;
	run = orch->run;
	engine = run->engine;
	lock_take(&engine->lock);
	result = run_drain_locked(engine, run);
	run_names_forget(&run->graph.names, &engine->graph.names);
	if (result == 0 && run->graph.error)
		result = error_set(of_task(run->graph.error), "%s", run->graph.text);
	engine_unlock_and_wake(engine);
	return result;
}
