/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * `distworker run` on several hosts: this process is alone, the root of a run on several hosts, or
 * a node of one. Main thread only, but for the thread that passes on what nodes print.
 */
#ifndef TOOLS_HOSTS_H
#define TOOLS_HOSTS_H

#include <stdbool.h>
#include "run_options.h"

struct plan;

struct hosts {
	struct dw_launch *launch;	/* NULL: alone, or a node by hand */
	bool node;
	struct forwarder *forwarder;
};

/* A command line before it is parsed, which changes it. free() it. NULL: no memory. */
char **hosts_copy_words(int argc, char **argv);
/*
 * Meets the others, if there are any. `words`: from the verb on. TOOL_OK, or a status after the
 * cause was told.
 */
int hosts_meet(struct hosts *hosts, struct run_options *options, char **words);
/*
 * Of the root: gives each Worker below it a rank of its own, if there are so many; else L3 Workers
 * get them, in turn. Workers below one that has a host already stay there.
 */
int hosts_assign(const struct hosts *hosts, struct plan *plan);
/* Of a node: serves with the functions of the job. The exit status. */
int hosts_serve(const struct hosts *hosts, const struct run_options *options,
		struct dw_worker *worker);
/* Of the root, once its children are forked: what nodes print is printed here. */
void hosts_forward(struct hosts *hosts);
void hosts_release(struct hosts *hosts);

/* Prints the address that a node listens on, for whoever has started it. */
void hosts_say_address(const char *address, void *context);
/* The end of standard input, which has brought the key, is that of the node. */
int hosts_follow_stdin(struct dw_node_options *options);

#endif
