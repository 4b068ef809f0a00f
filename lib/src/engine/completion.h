/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Final states of tasks, and what follows from them. With the engine's lock.
 */
#ifndef DW_ENGINE_COMPLETION_H
#define DW_ENGINE_COMPLETION_H

#include "engine/ring.h"

void task_release(struct engine *engine, struct task *task);
void task_finish(struct engine *engine, struct task *task, enum task_state state);
void finish_all(struct engine *engine);
/* All producers of a pending task are final. */
void task_released(struct engine *engine, struct task *task);
/*
 * It ran and failed: another attempt, or FAILED with the error as the run's. `ring`: where. `text_has_path`: the
 * text says by itself where, and of which task; a nested Worker's does.
 */
void task_failed(struct engine *engine, struct task *task, struct worker_ring *ring, int error,
		 const char *text, bool text_has_path);
/* The same in two steps: the error is the run's at once, the task's state changes later. */
void task_fail(struct engine *engine, struct task *task, struct worker_ring *ring, int error,
	       const char *text, bool text_has_path);
void task_fail_now(struct engine *engine, struct task *task);
void task_completed(struct engine *engine, struct worker_ring *ring, struct task *task, uint32_t member,
		    const struct completion *completion, const char *text);
/* It is in no ring any more and has not run. */
void task_returned(struct engine *engine, struct task *task);
void task_describe(const struct task *task, char *text, size_t space);
void engine_worker_lost_locked(struct engine *engine, struct worker_ring *ring, bool returns,
			       const char *cause);

#endif
