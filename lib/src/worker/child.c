/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A child's life: wait for GO, attach to the mailbox, get ready, serve frames,
 * leave when the parent says stop or is gone. The same for processes and threads.
 * Sub workers call functions, nested Workers run orchestrations on an engine of their own, chip
 * workers feed a driver (chip_loop.c).
 */
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/text.h"
#include "callable/symbol.h"
#include "task/running.h"
#include "worker/status_segment.h"
#include "worker/chip_loop.h"
#include "worker/child.h"
#include "worker/fork_hooks.h"
#include "worker/placement.h"

static int call_function(struct callable *callable, const struct dw_args *args,
			 const _Atomic uint32_t *cancel)
{
	dw_sub_fn *fn = callable->sub;
	void *context = callable->context;
	struct running_task task;
	void *address;
	int result;

	if (callable->kind == CALLABLE_SYMBOL_SUB) {
		result = symbol_resolve(callable, &address);
		if (result < 0)
			return result;
		fn = (dw_sub_fn *)address;
		context = NULL;
	}
	running_push(&task, cancel);
	return running_pop(&task, fn(args, context));
}

/*
 * The engine pushes the running task itself: an orchestration has the run's cancel word too. An error's text
 * says where, and of which task: its parent passes it on as it is.
 */
static int call_orchestration(struct dw_worker *nested, struct callable *callable,
			      const struct dw_args *args, struct frame *frame)
{
	dw_orch_fn *fn = callable->orch;
	void *context = callable->context;
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
	return engine_run(nested->engine, fn, args, &frame->config, context, &frame->cancel,
			  nested->parent->options.check_declared ? args : NULL, what);
}

/* The arguments of a frame, as a view. */
static int frame_args(struct frame *frame, struct dw_args *view)
{
	void *blob = frame->args ? (void *)(uintptr_t)frame->args : (void *)(frame + 1);

	return wire_decode(blob, frame->args_bytes, view);
}

static void run_task(struct child *child, struct endpoint *endpoint, struct frame *frame,
		     uint32_t number, uint64_t started)
{
	struct callable *callable;
	struct dw_args args;
	int result;

	result = frame_args(frame, &args);
	if (result == 0)
		result = callable_held(frame->callable, &callable);
	if (result < 0 && child->kind == DW_CHILD_WORKER)
		error_prefix(result, "%s: task %llu: %s: ", child->path, (unsigned long long)frame->task,
			     error_name(-result));
	if (result == 0)
		child_works(child, callable, frame->task, started);
	if (result == 0)
		result = child->kind == DW_CHILD_WORKER ?
			 call_orchestration(child->nested, callable, &args, frame) :
			 call_function(callable, &args, &frame->cancel);
	child_ended(child);
	endpoint_complete(endpoint, number, result, result < 0 ? error_text() : NULL, started,
			  now_ns());
}

void child_count_sleeps(struct child *child, const struct endpoint *endpoint)
{
	struct endpoint_counters counters;

	endpoint_counters(endpoint, &counters);
	__atomic_store_n(&child->owner->stats[child->index].sleeps, counters.sleeps, __ATOMIC_RELAXED);
}

static void serve(struct child *child, struct endpoint *endpoint)
{
	struct frame *frame;
	uint64_t started = now_ns();
	uint32_t number;
	int result;

	for (;;) {
		while ((frame = endpoint_next(endpoint, &number))) {
			if (frame->kind == FRAME_TASK) {
				run_task(child, endpoint, frame, number, started);
			} else {
				void *blob = frame->args ? (void *)(uintptr_t)frame->args :
							   (void *)(frame + 1);

				result = control_handle(child, NULL, frame->callable, blob,
							frame->args_bytes);
				endpoint_complete(endpoint, number, result,
						  result < 0 ? error_text() : NULL, started,
						  now_ns());
			}
			started = now_ns();
		}
		child_waits(child, started);
		result = endpoint_wait(endpoint);
		if (result == -ESHUTDOWN || result == -EOWNERDEAD)
			return;
		child_count_sleeps(child, endpoint);
		started = now_ns();
	}
}

/* The parent has bound the mailbox to this process once GO is here. */
static int wait_for_go(struct child *child, uint32_t generation)
{
	struct link_message message;
	int result;

	for (;;) {
		result = link_receive(child->link_child, &message, true);
		if (result < 0)
			return error_set(result, "%s: cannot wait for its parent: recv: %s", child->path,
					 error_name(-result));
		if (result <= 0)
			return -EOWNERDEAD;
		if (message.generation == generation)
			return message.kind == LINK_GO ? 0 : -ECANCELED;
	}
}

/* A nested Worker comes up inside its child: in a process with both passes, in a thread with the second. */
static int start_nested(struct child *child, uint32_t generation, bool process)
{
	struct dw_worker *nested = child->nested;
	int result;

	nested->up_link = child->link_child;
	nested->up_generation = generation;
	if (process) {
		nested->owner_pid = getpid();
		result = worker_prepare(nested, child->owner->arena);
		if (result < 0)
			return result;
	}
	return worker_start(nested);
}

static int get_ready(struct child *child, uint32_t generation, bool process, struct chip **chip)
{
	if (child->kind == DW_CHILD_CHIP)
		return chip_start(child, chip);
	if (child->kind == DW_CHILD_WORKER)
		return start_nested(child, generation, process);
	return 0;
}

int child_main(struct child *child, uint32_t generation, bool process)
{
	struct endpoint *endpoint;
	struct chip *chip = NULL;
	uint64_t deadline;
	int result, broken = 0;

	if (process) {
		/* As spawner_main() does. */
		syscall(SYS_prctl, PR_SET_NAME, worker_child_name(child->kind));
		nesting_forget();
	} else {
		nesting_serve(child->owner->engine, child->index);
	}
	placement_apply(child, process);
	__atomic_store_n(&child->owner->child_status[child->index].tid, gettid(), __ATOMIC_RELAXED);
	child_waits(child, now_ns());
	result = wait_for_go(child, generation);
	if (result < 0) {
		if (result != -EOWNERDEAD && result != -ECANCELED)
			link_send(child->link_child, LINK_ERROR, generation, result, error_text());
		return 1;
	}
	result = endpoint_attach(child->owner->hub, child->index, &endpoint);
	if (result == 0) {
		result = fork_hooks_start(child, generation);
		if (result < 0 && child->kind == DW_CHILD_WORKER)
			error_prefix(result, "%s: ", child->path);
		if (result == 0)
			result = get_ready(child, generation, process, &chip);
		if (result < 0)
			endpoint_detach(endpoint);
	}
	if (result < 0) {
		/* A nested Worker's text has its path already. */
		if (child->kind != DW_CHILD_WORKER)
			error_prefix(result, "%s: ", child->path);
		link_send(child->link_child, LINK_ERROR, generation, result, error_text());
		return 1;
	}
	link_send(child->link_child, LINK_READY, generation, 0, NULL);
	if (child->kind == DW_CHILD_CHIP)
		broken = chip_serve(child, generation, endpoint, chip);
	else
		serve(child, endpoint);
	if (child->kind == DW_CHILD_WORKER) {
		/* The parent waits for us with its own deadline: leave it a margin. */
		deadline = deadline_in(worker_close_budget(child->nested));
		worker_stop(child->nested, deadline);
	} else if (child->kind == DW_CHILD_CHIP && !(broken && process)) {
		/* The end of a process closes its device too, and does not hang in a lost one's driver. */
		chip_stop(chip);
	}
	endpoint_detach(endpoint);
	return broken ? 1 : 0;
}
