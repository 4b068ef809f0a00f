/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The rows of `distworker top`: the Workers and children of all trees, as they are at one moment,
 * with the rates since the moment before. Main thread only.
 */
#ifndef TOOLS_TOP_ROWS_H
#define TOOLS_TOP_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum top_state { TOP_IDLE, TOP_RUNS, TOP_BLOCKED, TOP_STUCK, TOP_STOPPED, TOP_DEAD };

struct top_row {
	int32_t root;			/* with `tree` and `path`: its identity */
	uint32_t tree;
	char path[96];
	size_t parent;			/* SIZE_MAX: it is the root of its tree */
	size_t next, child;		/* the next sibling, the first child; SIZE_MAX: none */
	unsigned int depth;
	bool is_worker, is_chip;

	enum top_state state;
	char command[32];		/* of the process of a root */
	uint64_t task;			/* 0: none */
	char callable[32];
	double age;			/* seconds in this state; < 0: unknown */
	uint32_t queued;
	uint64_t heap_used, heap_bytes;	/* of a Worker; of a chip its memory; 0: none */
	/* Counters, over all their time, … */
	uint64_t done, cpu_ns, sleeps, spins_won, spins_lost, bytes;
	/* … and their rates: a second; of the CPU 1 is all of one. < 0: unknown. */
	double tasks, cpu, sleeping, paid, copied;
};

struct top_rows {
	struct top_row *rows;		/* of a tree: its root, then what is below it */
	size_t count, trees, workers, space;
	double at;			/* when: tool_now() */
	int error;			/* of the last tree that was asked for, -errno */
	bool failed;			/* no memory */
};

enum top_column {
	TOP_PATH, TOP_STATE, TOP_TASK, TOP_AGE, TOP_QUEUED, TOP_TASKS, TOP_CPU, TOP_SLEEPS,
	TOP_PAID, TOP_HEAP, TOP_COPIED, TOP_COLUMNS,
};

/* Of the tree of process `pid`, or of all (0). `before` gives the rates; it may be NULL. */
void top_rows_read(struct top_rows *rows, int32_t pid, double stuck, const struct top_rows *before);
void top_rows_release(struct top_rows *rows);
/* Siblings get another order; TOP_PATH: that of the tree. */
void top_rows_sort(struct top_rows *rows, enum top_column column, bool reverse);

#endif
