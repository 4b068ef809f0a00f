/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Observing trees: one's own, and those of other processes of this machine. A part of distworker.h,
 * which has the conventions, the table of threads and the limits, and includes this file.
 */
#ifndef DISTWORKER_TREE_H
#define DISTWORKER_TREE_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A tree of this machine, seen from any process that may read the root's /proc/PID/fd: those of the
 * same user, and of root. Looking asks, stops and wakes no process of the tree; numbers that belong
 * together may be a moment apart. Times are CLOCK_MONOTONIC, ns.
 */
struct dw_tree;

/*
 * Tree `index` (from 0) of process `pid`. -ENOENT: there is none; -EACCES; -EPROTO: of another
 * version.
 */
DW_API int dw_tree_open(int32_t pid, uint32_t index, struct dw_tree **tree);
/* NULL is fine. The tree itself is not touched. */
DW_API void dw_tree_close(struct dw_tree *tree);

struct dw_tree_info {
	size_t size;
	int32_t pid;			/* of the root */
	uint32_t worker_count;		/* Workers: the root, and those below it */
	uint32_t child_count;		/* all children: sub workers, chips, nested Workers */
	uint64_t started_ns;
};
/* The properties that do not change while the tree exists. */
DW_API int dw_tree_info(const struct dw_tree *tree, struct dw_tree_info *info);

enum dw_blocked { DW_BLOCKED_NOT = 0, DW_BLOCKED_WINDOW = 1, DW_BLOCKED_HEAP = 2 };

/* A Worker of a tree; 0 is the root. */
struct dw_tree_worker {
	size_t size;
	char path[96];
	uint32_t level;
	int32_t pid;			/* of the process that its Orchestrators run in */
	uint32_t up;			/* 1: initialised, not closed, and alive */
	uint32_t first_child, child_count;	/* its children: numbers for dw_tree_child() */
	uint32_t runs;			/* in flight */
	/* enum dw_blocked: the reason why an orchestration function waits */
	uint32_t blocked;
	uint64_t blocked_since_ns;
	uint64_t heap_bytes;		/* all rings; in use: dw_engine_stats.heap_used */
};
/* Numbers are 0 … worker_count - 1. -ERANGE. */
DW_API int dw_tree_worker(const struct dw_tree *tree, uint32_t number,
			  struct dw_tree_worker *worker);
/* Its counters; parent_wakes are those of its children. -ERANGE. */
DW_API int dw_tree_worker_stats(const struct dw_tree *tree, uint32_t number,
				struct dw_engine_stats *stats);

/* A child of a Worker of a tree. */
struct dw_tree_child {
	size_t size;
	int32_t tid;			/* of the thread that serves its mailbox */
	uint32_t queued;		/* tasks in its ring, the one that runs included */
	uint32_t busy;			/* 1: in a callable */
	/* the signal that has stopped its process (SIGSTOP, …), or 0 */
	int32_t stopped;
	uint64_t since_ns;		/* when that began, or when it began to wait */
	uint64_t task;			/* what it runs, or ran last: its number within its run … */
	char callable[32];		/* … and by which callable (shortened) */
	char cause[96];			/* of its last death; "": it never died */
	/*
	 * Tasks that the child has run, by its own count: up to date at any time. The parent counts
	 * in tasks_done and tasks_failed of dw_child_stats when it looks at the completions, which
	 * it does many at a time.
	 */
	uint64_t ended;
	/*
	 * Times that it spun for a moment before it would have slept: a task came in time, or not.
	 * Up to date when it sleeps.
	 */
	uint64_t spins_won, spins_lost;
};
/* Numbers are 0 … child_count - 1, over all Workers. -ERANGE. */
DW_API int dw_tree_child(const struct dw_tree *tree, uint32_t number, struct dw_tree_child *child);
/* Its path, process and counters; `size` is sizeof(*stats). -ERANGE. */
DW_API int dw_tree_child_stats(const struct dw_tree *tree, uint32_t number,
			       struct dw_child_stats *stats, size_t size);

/*
 * The state of the tree as text for people: a line for each Worker and each child, then everything
 * that is stuck: tasks that run for longer than `stuck_ns` (0: 10 s), submitters that wait, and
 * tasks that no child works on. *bytes in: space of `text`; out: the bytes of the whole text with
 * its NUL; if that is more than the space, the text is cut.
 */
DW_API int dw_tree_report(const struct dw_tree *tree, uint64_t stuck_ns, char *text, size_t *bytes);
/*
 * The same of one's own tree, at any time after init and from any thread, also while it hangs.
 * -ENOTCONN: before.
 */
DW_API int dw_worker_report(struct dw_worker *worker, uint64_t stuck_ns, char *text, size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif /* DISTWORKER_TREE_H */
