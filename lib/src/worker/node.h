/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * node: the daemon behind dw_node_serve(), for a process that listens already: one that a launcher
 * has started, and that leaves with its tree.
 *
 * Owns nothing that outlives the call. One thread.
 */
#ifndef DW_WORKER_NODE_H
#define DW_WORKER_NODE_H

struct dw_worker;
struct dw_node_options;

/*
 * As dw_node_serve(). Takes the listening socket, if it is none of -1, also when it fails; then it
 * returns, too, once its last connection has been ended by its gateway, and not by an accident.
 */
int node_serve(struct dw_worker *worker, const struct dw_node_options *options, int listening);

#endif
