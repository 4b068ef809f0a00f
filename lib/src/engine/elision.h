/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * elision: results that a chip does not copy home, because a task behind in its ring writes the
 * same bytes again. Owns nothing: it marks entries of rings, and frames (hub_supersede()).
 *
 * Task B *supersedes* task A when
 *  - B is posted behind A, which has not ended, in the ring of a chip;
 *  - a tensor that B writes has exactly the bytes of one that A writes, and nothing between the two
 *    has written any of them: B sees the name that A makes;
 *  - each consumer of A is in that ring too, and none is one by an explicit edge: that one may read
 *    what no tag says;
 *  - neither has attempts left.
 * When A begins and B is posted, the chip copies all home but that tensor. Its completion then says
 * KEPT, and the tasks in the ring that depend on A are *bound*: they run there or not at all.
 *
 * Decisions, for the side that loses nothing:
 *  - B that comes after A has begun is too late: A has been told to copy.
 *  - Whatever else touches the bytes on the chip before B, other than a read of the block itself,
 *    copies them home first; so does a failure, before it is reported, since the frames behind are
 *    returned then and may run anywhere. If that copy fails, the chip ends as a lost device does.
 *  - A bound task is not revoked, also not by a cancel: it is told, and the chip copies home before
 *    it returns it. One that may become bound is not revoked while it waits.
 *  - If the chip dies, bound tasks fail, and name A; so does B when it fails by itself after it has
 *    begun. The bytes are then those of a task that failed: undefined.
 *  - A thread that does not return (stuck.c) keeps its bound tasks, which fail with it.
 *  - A revoked B, which only such a thread has, has an A that has not ended for its parent: the
 *    chip forgets the bytes.
 *
 * With the engine's lock.
 */
#ifndef DW_ENGINE_ELISION_H
#define DW_ENGINE_ELISION_H

#include "engine/affinity.h"
#include "engine/ring_flow.h"

/* A task with names was posted: does it supersede others? */
void elision_posted(const struct affinity *affinity, struct ring_set *rings,
		    struct worker_ring *ring, const struct task *task);
/* The task ended there, and its result was kept. */
void elision_kept(struct ring_set *rings, const struct worker_ring *ring, const struct task *task);
/* A bound entry is lost with its worker: why. */
void elision_lost(const struct worker_ring *ring, const struct entry *entry, const char *cause,
		  char *text, size_t space);

#endif
