/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Waiting for tasks, by the orchestration function: for all of the run, or for one.
 */
#include <errno.h>
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"
#include "engine/submit.h"
#include "engine/wait.h"

static bool task_final(const struct waiter *waiter)
{
	const struct task *task = task_find(waiter->engine, waiter->value);

	return task->head.generation != waiter->value >> 32 || task->head.state == TASK_FREE ||
	       task->head.state >= TASK_DONE;
}

static bool is_of_run(const struct task *task, const void *run)
{
	return task->run == run;
}

/*
 * Nobody knows which tasks it waits for, over several steps: every completion of the run may be the
 * one.
 */
static int wait_for_producers(struct engine *engine, struct waiter *waiter)
{
	int result;

	request_notify_all(engine, is_of_run, waiter->run);
	engine->heap_waiters++;
	result = wait_locked(engine, waiter, NULL);
	engine->heap_waiters--;
	return result;
}

static void wait_for(struct engine *engine, struct dw_run *run, dw_task id)
{
	struct waiter waiter = {
		.ready = task_final, .engine = engine, .run = run, .value = id,
	};
	struct task *task = task_find(engine, id);

	if (task_final(&waiter))
		return;
	run->awaited_task = task;
	request_notify(engine, task);
	if (task->waiting)
		wait_for_producers(engine, &waiter);
	else
		wait_locked(engine, &waiter, NULL);
	run->awaited_task = NULL;
}

/* Its own error: that of what it ran, or that it was not run at all. */
static int result_of(const struct dw_run *run, dw_task task)
{
	const struct failed *failed = failed_find(&run->failed, task);
	const struct dw_run_error *error;

	if (!failed)
		return 0;
	error = failed->failed_by ? run_errors_find(&run->errors, failed->failed_by) : NULL;
	if (failed->error)
		return error_set(failed->error, "%s", error ? error->text : error_name(-failed->error));
	if (failed->failed_by)
		return error_set(-ECANCELED, "the task was skipped, because task %llu failed: %s",
				 (unsigned long long)failed->failed_by, error ? error->text : run->text);
	return error_set(-ECANCELED, "the task was skipped: %s", run->text);
}

DW_API int dw_orch_wait_task(struct dw_orch *orch, dw_task task)
{
	const struct dw_submit_options options = { .after = &task, .after_count = 1 };
	struct engine *engine;
	struct dw_run *run;
	int result = orch_usable(orch);

	if (result < 0)
		return result;
	if (!task)
		return error_set(-EINVAL, "dw_orch_wait_task: `task` is 0, which is no task");
	run = orch->run;
	engine = run->engine;
	lock_take(&engine->lock);
	result = orch_check_after_locked(run, &options);
	if (result < 0) {
		error_set(result, "dw_orch_wait_task: `task` is %#llx, which is no task of this run",
			  (unsigned long long)task);
	} else {
		wait_for(engine, run, task);
		result = result_of(run, task);
	}
	engine_unlock_and_wake(engine);
	return result;
}
