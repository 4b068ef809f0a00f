/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * group: the members of a task that run at the same time on different workers. The task is one
 * node of the graph.
 *
 * Owns: struct group and its members. Invariant: `left` counts the members that are in rings or
 * parked. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_GROUP_H
#define DW_ENGINE_GROUP_H

#include "engine/task.h"

struct member {
	struct payload payload;
	uint32_t worker;		/* wanted, or DW_ANY */
	uint32_t placed, position;
	bool in_ring;
	struct task *task;		/* the group … */
	struct member *next;		/* … while this is parked or kept */
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
	bool text_has_path;		/* see graph_failed() */
	bool restart;			/* a member came back unstarted: all start over */
	struct member members[];
};

/*
 * `workers`: the id of the one that each member must run on, or DW_ANY; NULL: DW_ANY for all. Ids
 * count from worker `first` on. The group has no payloads yet. NULL: no memory.
 */
struct group *group_new(size_t members, const uint32_t *workers, uint32_t first);
/* The payload of the next member; `name`: that of the task, or NULL. */
int group_add_payload(struct task_table *table, struct group *group, const struct dw_args *args,
		      const char *name);
/* The same of a recorded member. */
struct payload_template;
int group_again_payload(struct task_table *table, struct group *group,
			const struct payload_template *from, const uint64_t *values);
void group_free(struct task_table *table, struct group *group);

/* All members are about to enter rings. */
void group_starts(struct group *group);
/* A member goes to that ring; it is in it once group_member_entered() is called. */
void group_member_goes(struct member *member, uint32_t ring);
void group_member_entered(struct member *member, uint32_t position);
/* It is in no ring: started or not, and if it is not parked, it does not count any more. */
void group_member_leaves(struct group *group, struct member *member, bool ran, bool parked);
/* A member is not parked any more. How many are still in rings, or parked. */
uint32_t group_unpark(struct group *group);
/* All members start over, once none is in a ring. */
void group_restart(struct group *group);
/* The first error of a member is that of the group. */
void group_set_error(struct group *group, uint32_t worker, int error, bool text_has_path,
		     const char *text);
/* The error that it had is dealt with. */
void group_clear_error(struct group *group);
/* Puts it onto a list of members that are parked or kept; it sits in frame `position`. */
void group_member_push(struct member **list, struct member *member, struct task *task,
		       uint32_t position);
/* A thread goes on with a member, or has let it go. */
void group_count_kept(struct group *group, int change);

#endif
