/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The file of DW_GRAPH: counting its tasks, and keeping a part of it. By path; nothing of it stays
 * open. One thread.
 */
#ifndef TOOLS_GRAPH_FILE_H
#define TOOLS_GRAPH_FILE_H

#include <stdint.h>

/*
 * Rewrites the file: only tasks of the Worker `owner` (NULL: of all), of which the first `most` of
 * each run (0: all), and dependencies between these. A tool_exit.
 */
int graph_file_cut(const char *path, const char *owner, uint64_t most);
/* Prints what is in it, and how to draw that. A tool_exit. */
int graph_file_count(const char *path);

#endif
