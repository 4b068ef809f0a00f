/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * status segment: the state that a tree shows to its own process and to others. One memfd that the
 * root makes before its first fork and every process of the tree maps; the owner of a counter
 * writes it there with a plain store and wakes no reader. The root keeps the descriptor open, and
 * /proc/PID/fd leads there: a process that may open that folder may read the segment.
 *
 * Owns: the layout, struct status_places and struct status_writer. The engine owns the counters in
 * dw_child_stats, engine_status and `in_ring`, which it gets as pointers.
 *
 * Invariant: the size is sealed and `bytes` is that size; offsets and counts never change after the
 * root's init. Everything else may change while it is read. Any process of the tree, even a corrupt
 * one, can write anywhere in it, so no process of the tree depends on the values. No lock.
 */
#ifndef DW_WORKER_STATUS_SEGMENT_H
#define DW_WORKER_STATUS_SEGMENT_H

#include <sys/types.h>
#include "engine/engine.h"

struct child;
struct dw_worker;

#define SEGMENT_NAME	"distworker-tree"
#define SEGMENT_MAGIC	0x314452414f425744ULL	/* "DWBOARD1" */

/* A Worker of the tree. Siblings come before their subtrees. */
struct segment_worker {
	char path[96];
	uint32_t level, first_child, child_count;
	uint32_t self;			/* its index among the children; UINT32_MAX: the root */
	int32_t pid;			/* of the process that its engine is in */
	uint32_t up;			/* 1: between init and close */
	uint64_t heap_bytes;		/* all rings */
	struct engine_status status;
} LINE_ALIGNED;			/* each has an engine of its own that writes it */

struct segment_child {
	char cause[96];			/* of its last death; "": none */
	int32_t stopped;		/* the signal that has stopped its process; 0: it runs */
	/* Written by a chip's child: what its driver and its cache have counted. Bytes. */
	struct chip_status {
		uint64_t memory_used, memory_bytes;
		uint64_t copied_in, copied_out, saved;
	} chip __attribute__((aligned(64)));
	/* Written by the gateway of a Worker on another host. */
	struct remote_status {
		uint64_t round_trip_ns, window_used, window_bytes;
		char address[64];
	} remote;
};

struct status_segment {
	uint64_t magic, bytes;
	uint64_t layout;		/* changes when any of these structs changes */
	int32_t pid;			/* the root's process */
	uint32_t worker_count, child_count, reserved;
	uint64_t started;		/* CLOCK_MONOTONIC, ns */
	uint64_t workers, children, stats, child_status;	/* offsets of the arrays */
};

#define SEGMENT_LAYOUT ((uint64_t)sizeof(struct segment_worker) << 48 | \
		      (uint64_t)sizeof(struct dw_child_stats) << 32 | \
		      (uint64_t)sizeof(struct child_status) << 16 | sizeof(struct segment_child))

/* A Worker's places in the segment, and those of its children; NULL: it was not initialised. */
struct status_places {
	struct segment_worker *worker;
	struct segment_child *children;
	struct dw_child_stats *stats;
	struct child_status *status;
	/* Of the root. */
	struct status_segment *memory;	/* all of it … */
	struct status_segment *layout;	/* … and its first lines in memory that is not shared */
	int fd;				/* -1: the tree cannot be seen from outside */
};

/* The place that a child writes. */
struct status_writer {
	struct child_status *status;
	dw_callable shown;		/* whose name `status` has */
	struct chip_status *chip;
	struct remote_status *remote;
	uint64_t copied_in, copied_out, saved;	/* by its predecessors */
};

void segment_init(struct dw_worker *worker);
/* Called by the root before its first fork: gives every Worker below it its places. */
int segment_create(struct dw_worker *root);
void segment_destroy(struct dw_worker *root);
/*
 * Names a child and its host (NULL: this one). Called in the process of the Worker's engine, before
 * the child starts.
 */
void segment_describe(struct dw_worker *worker, uint32_t child, enum dw_child_kind kind,
		      uint32_t level, const char *path, const char *host);
/* The Worker comes up, or goes down. */
void segment_up(struct dw_worker *worker, bool up);
/* A child serves; it has died, of this cause; it was stopped by this signal, or (0) continues. */
void segment_ready(struct dw_worker *worker, uint32_t child, pid_t pid);
void segment_death(struct dw_worker *worker, uint32_t child, const char *cause);
void segment_stopped(struct dw_worker *worker, uint32_t child, int signal);

/* Called by the child itself: begins to write there; shows its current task. */
void status_begin(struct status_writer *writer, const struct status_places *places, uint32_t child);
void status_works(struct status_writer *writer, const struct callable *callable, uint64_t task,
		  uint64_t since);
/* Sets when the child began its current task. */
void status_since(struct status_writer *writer, uint64_t since);

static inline void status_waits(struct status_writer *writer, uint64_t since)
{
	__atomic_store_n(&writer->status->since, since, __ATOMIC_RELAXED);
	__atomic_store_n(&writer->status->busy, 0, __ATOMIC_RELAXED);
}

/* The child has run a task. Its parent may collect the completion much later. */
static inline void status_ended(struct status_writer *writer)
{
	struct child_status *status = writer->status;

	__atomic_store_n(&status->ended, status->ended + 1, __ATOMIC_RELAXED);
}

/* The counters of a chip since its device was opened. Unchanged values are not written. */
void status_chip(struct status_writer *writer, const struct chip_status *now);

/* The counters of a gateway. Unchanged values are not written. */
void status_remote(struct status_writer *writer, const struct remote_status *now);

static inline void status_waited(struct status_writer *writer, uint64_t sleeps, uint64_t spins_won,
				 uint64_t spins_lost)
{
	struct child_status *status = writer->status;

	__atomic_store_n(&status->sleeps, sleeps, __ATOMIC_RELAXED);
	__atomic_store_n(&status->spins_won, spins_won, __ATOMIC_RELAXED);
	__atomic_store_n(&status->spins_lost, spins_lost, __ATOMIC_RELAXED);
}

#endif
