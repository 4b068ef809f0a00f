/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Trees of this machine that this user may look at: their processes are found in /proc. */
#ifndef TOOLS_TREES_H
#define TOOLS_TREES_H

#include <distworker/distworker.h>

/*
 * Calls `visit` for each tree, of one process (pid) or of all (0). A visit that returns
 * non-zero ends it. Returns that, or 0; *found becomes the number of trees.
 */
int trees_each(int32_t pid, int (*visit)(const struct dw_tree *tree, void *context), void *context,
	       unsigned int *found);
/* The contents of /proc/PID/comm, or "". */
void trees_command(int32_t pid, char *text, size_t space);

#endif
