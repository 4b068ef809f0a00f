/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * node_session: a process of a node that serves one connection: it has the memory of the gateway's
 * tree at its addresses, and runs the gateway's Worker as a child process of its own, below an
 * outer Worker (node_tree.h).
 *
 * Owns: the session (host/session.h), and the tree. Two threads: the first one waits for the
 * connection and for the Worker's death, and serves tasks and control messages, one at a time; the
 * second one, the listener, has the connection while a message is being served: it asks for the
 * next inputs, passes on cancellations, and sees the end. They share the session under a lock; the
 * cancel word is atomic. The listener begins after the tree's processes were forked.
 *
 * Invariant: the process leaves when its connection ends, and its tree with it.
 */
#ifndef DW_WORKER_NODE_SESSION_H
#define DW_WORKER_NODE_SESSION_H

#include <stdint.h>
#include "host/net.h"

struct dw_worker;
struct stream;

struct node_session_options {
	const struct dw_worker *program; /* the functions that tasks may call; NULL: none */
	const char *peer; /* the gateway's address, for messages */
	const char *objects; /* a folder for shared objects that are not here; NULL: none */
	uint64_t cache_bytes; /* of tensors that are kept from one task to the next */
	enum net net;
};

/* An exit code: the connection was one of `distworker doctor`, which asked, and has gone. */
#define NODE_SESSION_EXAMINED 3

/* In a process that was forked for it. Takes the stream. The exit code; 0: the gateway ended it. */
int node_session_run(struct stream *stream, const struct node_session_options *options);

#endif
