/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * serve: the loop of children that run one frame after the other. Inlined into each role, so that
 * a task costs no call through a pointer.
 *
 * Owns nothing. An endpoint belongs to one thread. Invariant: a frame is completed before the next
 * one is claimed.
 */
#ifndef DW_WORKER_SERVE_H
#define DW_WORKER_SERVE_H

#include <errno.h>
#include "worker/hierarchy.h"

/* 0 or -errno with a text. `args` is a view of the frame's arguments. */
typedef int serve_task(struct child *child, struct frame *frame, struct callable *callable,
		       const struct dw_args *args);
typedef int serve_control(struct child *child, uint64_t code, const void *blob, uint32_t bytes);

/* The arguments of a frame, or the blob of a control frame: in the arena, or behind the header. */
static inline void *serve_blob(struct frame *frame)
{
	return frame->args ? (void *)(uintptr_t)frame->args : (void *)(frame + 1);
}

/*
 * The arguments of a task's frame, as a view, or -EBADMSG with a text. The names of its tensors
 * follow them, if it has them.
 */
static inline int serve_args(struct frame *frame, struct dw_args *args)
{
	uint32_t bytes = frame->args_bytes, names;
	int32_t *tensors = serve_blob(frame);

	if (frame->flags & FRAME_NAMED && bytes >= WIRE_HEADER_BYTES && *tensors > 0) {
		names = (uint32_t)*tensors * (uint32_t)sizeof(struct frame_names);
		bytes -= names < bytes ? names : 0;
	}
	return wire_decode(tensors, bytes, args);
}

/* The names of the frame's tensors; NULL: it has none. */
static inline const struct frame_names *serve_names(struct frame *frame, const struct dw_args *args)
{
	return frame->flags & FRAME_NAMED ?
	       (const void *)((const unsigned char *)serve_blob(frame) + wire_bytes(args)) : NULL;
}

/* Publishes the endpoint's counters, after a wait. */
static inline void serve_count_waits(struct child *child, const struct endpoint *endpoint)
{
	struct endpoint_counters counters;

	endpoint_counters(endpoint, &counters);
	status_waited(&child->status, counters.sleeps, counters.spins_won, counters.spins_lost);
}

static inline int serve_one_task(struct child *child, struct frame *frame, serve_task *run,
				 uint64_t started)
{
	struct callable *callable;
	struct dw_args args;
	int result = serve_args(frame, &args);

	if (result == 0)
		result = callable_held(frame->callable, &callable);
	if (result < 0 && child->kind == DW_CHILD_WORKER)
		error_prefix(result, "%s: task %llu: %s: ", child->path,
			     (unsigned long long)frame->task, error_name(-result));
	if (result == 0) {
		status_works(&child->status, callable, frame->task, started);
		result = run(child, frame, callable, &args);
	}
	status_ended(&child->status);
	return result;
}

/* Serves until the parent says stop, or is gone. */
static inline __attribute__((always_inline)) void serve_frames(struct child *child,
							       struct endpoint *endpoint,
							       serve_task *run,
							       serve_control *control)
{
	uint64_t started = now_ns();
	struct frame *frame;
	uint32_t number;
	int result;

	for (;;) {
		while ((frame = endpoint_next(endpoint, &number))) {
			if (frame->kind == FRAME_TASK)
				result = serve_one_task(child, frame, run, started);
			else
				result = control(child, frame->callable, serve_blob(frame),
						 frame->args_bytes);
			endpoint_complete(endpoint, number, result,
					  result < 0 ? error_text() : NULL, started, now_ns());
			started = now_ns();
		}
		status_waits(&child->status, started);
		result = endpoint_wait(endpoint);
		if (result == -ESHUTDOWN || result == -EOWNERDEAD)
			return;
		serve_count_waits(child, endpoint);
		started = now_ns();
	}
}

#endif
