/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The callable that a thread runs now; dw_task_cancelled() and dw_task_fail() refer to it. The
 * caller of a callable pushes an entry, calls, and pops it; an orchestration inside a nested
 * Worker's task is stacked on that task.
 */
#ifndef DW_TASK_RUNNING_H
#define DW_TASK_RUNNING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "task/error.h"

struct running_task {
	struct running_task *outer;
	const _Atomic uint32_t *cancel;		/* non-zero: cancelled; may be NULL */
	bool has_text;				/* dw_task_fail() was called */
	char text[ERROR_TEXT_BYTES];		/* valid if has_text */
};

void running_push(struct running_task *task, const _Atomic uint32_t *cancel);
/*
 * Pops the task and turns the return value of its callable into an error: 0, or -errno with the
 * text of dw_task_fail(), else strerror()'s; a positive value is -EINVAL.
 */
int running_pop(struct running_task *task, int result);

#endif
