/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The summary at the end of `distworker run`, as text or as one JSON object. The facts
 * are collected into one struct while the hierarchy lives. Main thread only.
 */
#ifndef TOOLS_SUMMARY_H
#define TOOLS_SUMMARY_H

#include <stdbool.h>
#include <stdio.h>
#include <distworker/job.h>
#include "process_tree.h"

#define ERROR_BYTES 1024

struct result {
	char *key, *text;
	double number;
	bool is_number;
};

/* Of all Workers of the tree. */
struct task_counts {
	uint64_t done, failed, skipped, retried;
};

struct summary {
	const char *job, *hierarchy;
	int status;			/* enum tool_exit */
	char error[ERROR_BYTES];	/* "": none */
	double seconds;			/* of the run */
	double init_seconds;
	bool ran;			/* the counters below were read */
	struct dw_engine_stats engine;
	struct dw_child_stats *children;
	size_t child_count;
	/* this process's own, for the next two; NULL: it cannot be read */
	struct dw_tree *tree;
	struct task_counts tasks;
	uint64_t ended;			/* tasks that the children have run, by their own count */
	struct dw_run_error *errors;	/* of the run … */
	uint32_t errors_kept;		/* … that the library has kept … */
	uint64_t error_count;		/* … of so many */
	struct tree_change busy;	/* over the run */
	double idle_seconds;		/* 0: not measured */
	struct tree_change idle;
	struct result *results;
	size_t result_count;
	bool results_lost;		/* no memory for some */
};

/* Reads the counters of the tree. 0 or -errno of the library. */
int summary_collect(struct summary *summary, struct dw_worker *root);
void summary_text(const struct summary *summary, FILE *out);
/* 0 or -ENOMEM. */
int summary_json(const struct summary *summary, FILE *out);
void summary_release(struct summary *summary);
/* Keeps the errors of the run that the calling thread has just waited for. */
void summary_keep_errors(struct summary *summary);

#endif
