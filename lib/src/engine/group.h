/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Groups: tasks that run at the same time on different workers, and that are one node of the graph.
 * Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_GROUP_H
#define DW_ENGINE_GROUP_H

#include "engine/schedule.h"

struct member {
	struct payload payload;
	uint32_t worker;		/* wanted, or DW_ANY */
	uint32_t placed, position;
	bool in_ring;
	struct task *task;		/* the group … */
	struct member *next;		/* … while this is parked */
};

struct group {
	uint32_t count;
	uint32_t explicit_count;	/* members that name their worker */
	uint32_t *chosen;		/* workers: the explicit ones, then the others */
	uint32_t left;			/* members that are in rings, or parked */
	uint32_t ran;			/* members that started and ended */
	uint32_t kept;			/* members that threads go on with */
	uint32_t failed_at;		/* worker of the first member that failed */
	int error;			/* its error */
	char text[ERROR_TEXT_BYTES];
	bool text_has_path;		/* see task_failed() */
	bool restart;			/* a member came back unstarted: all start over */
	struct member members[];
};

void group_admit(struct engine *engine, struct pool *pool);
void group_member_left(struct engine *engine, struct task *task, uint32_t member,
		       struct worker_ring *ring, int error, const char *text, bool unstarted);
/* In two steps: the worker died under it; later nothing of it is left. */
void group_member_died(struct engine *engine, struct task *task, uint32_t member,
		       struct worker_ring *ring, const char *text);
void group_member_gone(struct engine *engine, struct task *task);
void group_cancel_members(struct engine *engine, struct task *task);
/* Out of the queue: the workers that it may have reserved are free again. */
void group_withdraw(struct engine *engine, struct task *task);
void group_free(struct engine *engine, struct group *group);

#endif
