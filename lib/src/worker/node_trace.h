/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * node_trace: the trace of a session's tree, for the tree at home. All processes here write their
 * lines into a pipe; a thread reads them and sends them.
 *
 * Owns: struct node_trace, with the thread, which only a tree that is traced has. `text` and `used`
 * are under the lock of the session, as the session itself is. Lines are read while nothing waits
 * to be sent, so that a slow connection fills the pipe and not this process's memory; a pipe that
 * stays full ends the trace (docs/tracing.md).
 */
#ifndef DW_WORKER_NODE_TRACE_H
#define DW_WORKER_NODE_TRACE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dw_worker;
struct session;

struct node_trace {
	struct session *session;
	pthread_mutex_t *lock; /* of the session */
	int32_t worker; /* the process of the tree's Worker */
	int fd; /* the end that is read; -1: home traces nothing */
	int stop_fd; /* an eventfd */
	pthread_t thread;
	bool begun;
	bool lost; /* the connection takes nothing any more: lines are dropped */
	size_t used; /* of `text`: the beginning of a line */
	char *text;
};

/* Before the tree of `outer` is initialised. -errno with a text. */
int node_trace_open(struct node_trace *trace, struct dw_worker *outer);
/* Once the tree is up. -errno with a text. */
int node_trace_begin(struct node_trace *trace, struct session *session, pthread_mutex_t *lock,
		     int32_t worker);
/* Sends what is there, with the lock: before an answer, so that its lines are there first. */
void node_trace_send(struct node_trace *trace);
/* When the tree has ended, without the lock: sends the rest. */
void node_trace_end(struct node_trace *trace);

#endif
