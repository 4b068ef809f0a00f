/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * events: reads the messages that change the states of children (links, the spawner's socket, the
 * pidfds, the tree's pipe, the link to the parent, the module's reports of deaths), and answers the
 * engine's calls of engine_ops.
 *
 * Owns nothing: children.h has the states and their transitions. Runs in the engine's background
 * thread, and in threads that wait when the module reports a death. Takes worker->lock, except in
 * calls that the engine makes with its own lock.
 */
#ifndef DW_WORKER_EVENTS_H
#define DW_WORKER_EVENTS_H

#include <stdint.h>

struct engine_ops;

/* epoll tags: a child's index, or one of these. */
#define EVENT_SPAWNER	(1ULL << 32)
#define EVENT_UP	(2ULL << 32)
#define EVENT_TREE	(3ULL << 32)
#define EVENT_DIED	CHILD_DIED_TAG

extern const struct engine_ops events_ops;

#endif
