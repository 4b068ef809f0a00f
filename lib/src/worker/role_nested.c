/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The role of a nested Worker: it runs orchestrations on an engine of its own. See role.h. It comes
 * up inside its child: in a process with both passes of init, in a thread with the second.
 */
#include <stdio.h>
#include "base/text.h"
#include "callable/symbol.h"
#include "worker/control.h"
#include "worker/role.h"
#include "worker/serve.h"

/*
 * The engine pushes the running task itself, because an orchestration also has the run's cancel
 * word. An error's text already names path and task, so the parent passes it on unchanged.
 */
static int run_task(struct child *child, struct frame *frame, struct callable *callable,
		    const struct dw_args *args)
{
	struct dw_worker *nested = child->nested;
	dw_orch_fn *fn = callable->orch;
	void *context = callable->context;
	struct engine_nested_run task;
	char what[160];
	void *address;
	int result;

	text_format(what, sizeof(what), "task %llu (%s)", (unsigned long long)frame->task,
		    text_short(callable_title(callable)));
	if (callable->kind == CALLABLE_SYMBOL_ORCH) {
		result = symbol_resolve(callable, &address);
		if (result < 0)
			return error_prefix(result, "%s: %s: %s: ", nested->path, what,
					    error_name(-result));
		fn = (dw_orch_fn *)address;
		context = NULL;
	}
	task = (struct engine_nested_run){
		.cancel = &frame->cancel,
		.declared = nested->parent->options.check_declared ? args : NULL,
		.names = serve_names(frame, args),
		.task_name = what,
	};
	return engine_run(nested->life.engine, fn, args, &frame->config, context, &task);
}

static int run_control(struct child *child, uint64_t code, const void *blob, uint32_t bytes)
{
	struct callable callable;
	int result;

	switch (code) {
	case CONTROL_REGISTER:
		result = control_register(blob, &callable);
		return result < 0 ? result : control_broadcast(child->nested, code, blob, bytes);
	case CONTROL_UNREGISTER:
		result = control_broadcast(child->nested, code, blob, bytes);
		control_unregister(blob);
		return result;
	}
	return control_unknown(code);
}

static int start(struct child *child, uint32_t generation, bool process, void **state)
{
	struct dw_worker *nested = child->nested;
	int result;

	(void)state;
	lifecycle_set_up_link(nested, child->link.child, generation);
	if (process) {
		hierarchy_enter_process(nested);
		result = lifecycle_prepare(nested, child->owner->arena);
		if (result < 0)
			return result;
	}
	return lifecycle_start(nested);
}

static int serve(struct child *child, uint32_t generation, struct endpoint *endpoint, void *state)
{
	(void)generation;
	(void)state;
	serve_frames(child, endpoint, run_task, run_control);
	return 0;
}

static void stop(struct child *child, bool process, int error, void *state)
{
	(void)process;
	(void)error;
	(void)state;
	/* The parent waits for this Worker with a longer deadline. */
	lifecycle_stop(child->nested, deadline_in(worker_close_budget(child->nested)));
}

const struct role role_nested = {
	.text_has_path = true, .start = start, .serve = serve, .stop = stop,
};
