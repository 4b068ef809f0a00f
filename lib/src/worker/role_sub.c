/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The role of a sub worker: it calls functions. See role.h. */
#include "callable/symbol.h"
#include "task/running.h"
#include "worker/control.h"
#include "worker/role.h"
#include "worker/serve.h"

static int run_task(struct child *child, struct frame *frame, struct callable *callable,
		    const struct dw_args *args)
{
	dw_sub_fn *fn = callable->sub;
	void *context = callable->context;
	struct running_task task;
	void *address;
	int result;

	(void)child;
	if (callable->kind == CALLABLE_SYMBOL_SUB) {
		result = symbol_resolve(callable, &address);
		if (result < 0)
			return result;
		fn = (dw_sub_fn *)address;
		context = NULL;
	}
	running_push(&task, &frame->cancel);
	return running_pop(&task, fn(args, context));
}

static int run_control(struct child *child, uint64_t code, const void *blob, uint32_t bytes)
{
	struct callable callable;

	(void)child;
	(void)bytes;
	switch (code) {
	case CONTROL_REGISTER:
		return control_register(blob, &callable);
	case CONTROL_UNREGISTER:
		control_unregister(blob);
		return 0;
	}
	return control_unknown(code);
}

static int serve(struct child *child, uint32_t generation, struct endpoint *endpoint, void *state)
{
	(void)generation;
	(void)state;
	serve_frames(child, endpoint, run_task, run_control);
	return 0;
}

const struct role role_sub = { .serve = serve };
