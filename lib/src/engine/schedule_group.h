/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * schedule_group: when the members of a group enter their rings.
 *
 * Owns: the choice of a group's workers, and which workers are reserved for it. Guarded by the
 * engine's lock.
 *
 * Invariant: only the group at the head of its pool's queue is admitted: when each of its workers
 * has room, all members enter their rings at once. So any two groups lie in the same order in every
 * ring, and since rings are worked off in order, members that wait for each other never deadlock.
 */
#ifndef DW_ENGINE_SCHEDULE_GROUP_H
#define DW_ENGINE_SCHEDULE_GROUP_H

#include "engine/schedule.h"

/* Those that can enter their rings now. */
void groups_admit(struct schedule *schedule);
/* Out of the queue: the workers that it may have reserved are free again. */
void group_withdraw(struct schedule *schedule, struct task *task);

#endif
