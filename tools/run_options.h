/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The command line of `distworker run`.
 */
#ifndef TOOLS_RUN_OPTIONS_H
#define TOOLS_RUN_OPTIONS_H

#include <stdbool.h>
#include "hierarchy.h"
#include "progress.h"

struct run_options {
	const char *job;
	int job_argc;			/* the job's own; job_argv[0] is its name */
	char **job_argv;
	struct plan_options plan;
	const char *tree;		/* JSON file; NULL: the shape is in `plan` */
	enum progress_style progress;
	bool json, list;
	double idle_seconds;
	double drain_seconds;		/* after the first Ctrl-C */
	uint64_t timeout_ns;		/* of the whole run; 0: none */
	bool nodes_by_default;		/* the shape was not given */
	const char *hosts;		/* nodes are started there; NULL */
	struct dw_node_options node;	/* with `listen`: this process is a node */
};

/* TOOL_OK, or TOOL_USAGE after the mistake was told. Leaves the process for --help. */
int run_options_parse(int argc, char **argv, struct run_options *options);

#endif
