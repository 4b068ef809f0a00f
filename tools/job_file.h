/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Finds and loads jobs (distworker/job.h). A job is given as a path (with a slash,
 * or ending in .so) or as a name, which is looked up in the folders of
 * DW_JOB_PATH, in jobs/ beside the program, and where jobs are installed.
 */
#ifndef TOOLS_JOB_FILE_H
#define TOOLS_JOB_FILE_H

#include <limits.h>
#include <stdio.h>
#include <distworker/job.h>

struct job_file {
	const struct distworker_job *job;
	char path[PATH_MAX];		/* absolute */
	char folder[PATH_MAX];
};

/* TOOL_OK, or TOOL_NO_JOB after the reason was told. A job stays loaded. */
int job_load(const char *name, struct job_file *file);
/* Lists the jobs, one per line, each with its description. */
void job_list(FILE *out);

#endif
