/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The on-chip task graph of one call. depend.c knows which tasks wrote and read
 * which bytes, graph.c runs the tasks. All under graph.lock, but the kernels.
 *
 * A task is known by its number, from 1 in order of submission; tasks[number - 1] is
 * NULL once it is final. A task depends on lower numbers only.
 *
 * tag              waits for                      becomes
 * INPUT            writers                        a reader
 * OUTPUT, INOUT    readers and writers            the only writer
 * OUTPUT_EXISTING  nothing                        one more writer
 * NO_DEP           nothing                        nothing
 */
#ifndef DW_CHIP_SIM_GRAPH_H
#define DW_CHIP_SIM_GRAPH_H

#include "internal.h"

#define SCOPES_MAX 64

struct graph;

/* Bytes with one history: the tasks that wrote or read them and may not be done. */
struct segment {
	uint64_t begin, end;
	uint32_t count, space;
	uint64_t *users;		/* task number << 1 | writes */
};

/* Device memory that tasks may name: the call's arguments, and memory from alloc. */
struct region {
	uint64_t begin, end;
	struct extent *extent;		/* NULL: of an argument */
	/* depth at which it was allocated; 0: its scope has ended */
	uint32_t scope;
	uint32_t holders;		/* tasks that use it and are not done */
	uint32_t segment_count, segment_space;
	struct segment *segments;	/* by address, without gaps */
};

struct task {
	uint64_t number;
	dw_sim_kernel *kernel;
	char name[48];			/* empty: the kernel's symbol */
	uint32_t block_dim;
	uint32_t next_block;		/* to be handed out */
	uint32_t running;		/* blocks that are being run */
	uint32_t pending;		/* producers that are not done */
	uint64_t last_producer;		/* that has an edge to this one */
	size_t consumer_count, consumer_space;
	struct task **consumers;
	struct task *next_ready;
	struct dw_tensor *tensors;	/* the three lie behind the struct */
	uint64_t *scalars;
	struct region **held;		/* one per tensor, or NULL */
	size_t tensor_count, scalar_count;
};

struct graph {
	struct dw_sim_orch orch;	/* first: the API's calls get this */
	struct dw_chip_device *device;
	struct call *call;
	pthread_mutex_t lock;
	pthread_cond_t change;		/* something to run, or all done */
	uint32_t sleepers;
	bool closed;			/* nothing more will be submitted */
	bool helped;			/* helpers were asked in */
	/* tasks */
	struct task **tasks;
	uint64_t count, space;
	uint64_t live;
	struct task *ready_first, *ready_last;
	uint64_t ready_blocks;
	uint64_t block_ns;		/* mean so far; 0: not known */
	uint64_t blocks_done, blocks_ns;
	/* memory */
	struct region **regions;	/* by address */
	size_t region_count, region_space;
	uint32_t scope;			/* depth, from 1 */
	/* failure: the lowest task counts, in it the lowest block */
	int status;
	uint64_t failed_task;
	uint32_t failed_block;
	char failed_text[256];
	struct dw_chip_error orch_error;	/* of a call of the orchestration, or of fail */
};

static inline struct task *graph_task(const struct graph *graph, uint64_t number)
{
	return graph->tasks[number - 1];
}

/* The edge `producer` → `task`, unless the producer is done. -ENOMEM. */
int graph_edge(struct graph *graph, uint64_t producer, struct task *task);

/* The call's arguments become regions. -ENOMEM. */
int depend_arguments(struct graph *graph);
int depend_region_add(struct graph *graph, uint64_t begin, uint64_t end, struct extent *extent,
		      struct region **region);
/* Takes it from the table; frees its device memory too. */
void depend_region_drop(struct graph *graph, struct region *region);
/* Returns the region that contains all of these bytes, or NULL. */
struct region *depend_region_find(const struct graph *graph, uint64_t address, uint64_t bytes);
/* Makes the edges of one access and records it. -ENOMEM. */
int depend_access(struct graph *graph, struct region *region, uint64_t begin, uint64_t end,
		  enum dw_tag tag, struct task *task);
void depend_fini(struct graph *graph);

#endif
