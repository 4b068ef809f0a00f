/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * segment: what a tree shows of itself, to its own process and to others. One memfd
 * that the root makes before its first fork and every process of the tree maps;
 * whoever owns a counter writes it there with a plain store and tells nobody. The root keeps the
 * descriptor open, so that /proc/PID/fd leads there: who may look is whom the kernel lets open it.
 *
 * Invariant: the size is sealed and `bytes` is that size; offsets and counts never change
 * after the root's init. All else may change while it is read. Any process of the tree can write
 * any of it, one that has lost its mind too: nobody in the tree depends on what he reads there.
 */
#ifndef DW_WORKER_STATUS_SEGMENT_H
#define DW_WORKER_STATUS_SEGMENT_H

#include "worker/worker.h"

#define SEGMENT_NAME	"distworker-tree"
#define SEGMENT_MAGIC	0x314452414f425744ULL	/* "DWBOARD1" */

/* A Worker of the tree, in the order of board_visit(). */
struct segment_worker {
	char path[96];
	uint32_t level, first_child, child_count;
	uint32_t self;			/* its index among the children; UINT32_MAX: the root */
	int32_t pid;			/* of the process that its engine is in */
	uint32_t up;			/* 1: between init and close */
	uint64_t heap_bytes;		/* all rings */
	struct engine_status status;
};

struct segment_child {
	char cause[96];			/* of its last death; "": none */
	int32_t stopped;		/* the signal that has stopped its process; 0: it runs */
};

struct status_segment {
	uint64_t magic, bytes;
	uint64_t layout;		/* changes with any of these structs */
	int32_t pid;			/* the root's process */
	uint32_t worker_count, child_count, reserved;
	uint64_t started;		/* CLOCK_MONOTONIC, ns */
	uint64_t workers, children, stats, child_status;	/* offsets of the arrays */
};

#define SEGMENT_LAYOUT ((uint64_t)sizeof(struct segment_worker) << 40 | \
		      (uint64_t)sizeof(struct dw_child_stats) << 24 | \
		      (uint64_t)sizeof(struct child_status) << 8 | sizeof(struct segment_child))

/* By the root, before its first fork: hands every Worker below its place. */
int segment_create(struct dw_worker *root);
void segment_destroy(struct dw_worker *root);
/* By the process that the Worker's engine is in, when it comes up and when it goes. */
void segment_up(struct dw_worker *worker, bool up);
/* A child has died, of this. */
void segment_death(struct dw_worker *worker, uint32_t child, const char *cause);
/* Its process was stopped by this signal; 0: it goes on. */
void segment_stopped(struct dw_worker *worker, uint32_t child, int signal);

/* What a child does now; by itself. */
void child_works(struct child *child, const struct callable *callable, uint64_t task, uint64_t since);

static inline void child_waits(struct child *child, uint64_t since)
{
	struct child_status *now = &child->owner->child_status[child->index];

	__atomic_store_n(&now->since, since, __ATOMIC_RELAXED);
	__atomic_store_n(&now->busy, 0, __ATOMIC_RELAXED);
}

/* It has run a task. Its parent may take the completion much later. */
static inline void child_ended(struct child *child)
{
	struct child_status *now = &child->owner->child_status[child->index];

	__atomic_store_n(&now->ended, now->ended + 1, __ATOMIC_RELAXED);
}

#endif
