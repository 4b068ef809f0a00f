/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * link: messages between a Worker and one child that are not tasks, over a SEQPACKET socket pair
 * that is made before the fork: GO and CANCEL down, READY, ERROR and a thread's OVER up.
 *
 * Owns: struct link. No locks: each end belongs to the thread that reads it.
 */
#ifndef DW_WORKER_LINK_H
#define DW_WORKER_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include "task/error.h"

enum link_kind {
	LINK_GO = 1,
	LINK_CANCEL = 2,
	LINK_READY = 3,
	LINK_ERROR = 4,			/* the last message before it ends */
	LINK_OVER = 5,			/* from a thread: it touches nothing any more */
};
struct link_message {
	uint32_t kind;
	uint32_t generation;
	int32_t error;
	char text[ERROR_TEXT_BYTES];
};

struct link {
	int parent, child;		/* the ends of each; -1 where closed */
};

static const struct link link_closed = { -1, -1 };

/* 0 or -errno. */
int link_make(struct link *link);
void link_close_parent(struct link *link);
void link_close_child(struct link *link);

int link_send(int fd, enum link_kind kind, uint32_t generation, int error, const char *text);
/* 1, 0 (would block, or the end), -errno. */
int link_receive(int fd, struct link_message *message, bool wait);
/* Drops the messages that a dead child has not read. Call it before the next child starts. */
void link_drain(int fd);

#endif
