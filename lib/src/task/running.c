/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See running.h. A stack per thread, linked through the callers' frames.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <distworker/distworker.h>
#include "base/text.h"
#include "task/running.h"

static _Thread_local struct running_task *running;

void running_push(struct running_task *task, const _Atomic uint32_t *cancel)
{
	task->outer = running;
	task->cancel = cancel;
	task->has_text = false;
	running = task;
}

int running_pop(struct running_task *task, int result)
{
	running = task->outer;
	if (result > 0)
		return error_set(-EINVAL, "the callable returned %d; it should be 0 or -errno",
				 result);
	if (result < 0)
		return error_set(result, "%s", task->has_text ? task->text : strerror(-result));
	return 0;
}

DW_API int dw_task_cancelled(void)
{
	for (struct running_task *task = running; task; task = task->outer)
		if (task->cancel && atomic_load_explicit(task->cancel, memory_order_relaxed))
			return 1;
	return 0;
}

DW_API int dw_task_fail(int error, const char *format, ...)
{
	struct running_task *task = running;
	va_list args;

	if (error < 0)
		error = -error;
	if (error == 0)
		error = EIO;
	if (task) {
		va_start(args, format);
		text_vformat(task->text, sizeof(task->text), format, args);
		va_end(args);
		task->has_text = true;
	}
	return -error;
}
