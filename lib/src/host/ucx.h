/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * ucx: one connection of UCX, whose active messages carry data from memory of one process straight
 * to memory of another. libucp is opened at run time.
 *
 * Owns: struct ucx: context, worker, endpoint, and the messages that are on their way. Data is sent
 * from the caller's memory, which stays valid and unchanged until it is sent. Every message is a
 * rendezvous: nothing is taken from the sender before its receiver has said where it belongs, so no
 * more than UCX_AHEAD of them wait here.
 *
 * A process that has an open struct ucx has a thread of UCX's. UCX may see the other end's death
 * late, or not at all: the stream beside it tells when the connection is over. UCX authenticates
 * nothing, and crafted bytes abort the process: use it only on networks whose hosts are trusted.
 * One thread at a time.
 */
#ifndef DW_HOST_UCX_H
#define DW_HOST_UCX_H

#include <stddef.h>
#include <stdint.h>

#define UCX_AHEAD 16

struct ucx;

struct ucx_header {
	uint64_t number, address, bytes;
	uint64_t sequence; /* messages before it, in this direction */
};
_Static_assert(sizeof(struct ucx_header) == 32, "both hosts read it");

enum ucx_event {
	UCX_NOTHING = 0,
	UCX_SENT, /* header; its memory is the caller's again */
	UCX_ARRIVES, /* header: ucx_take() says where to put it */
	UCX_RECEIVED, /* header: it is there */
};

/*
 * Loads libucp, which ucx_open() does where nobody has: it touches the environment meanwhile, so no
 * other thread may use that. -ENOSYS with a text: there is none.
 */
int ucx_load(void);
/* -ENOSYS: no libucp; -EIO: UCX refuses; -ENOMEM; with a text. */
int ucx_open(struct ucx **ucx);
/*
 * Drops the messages that are not sent or received; over shared memory UCX then stays open until
 * the process ends. Accepts NULL.
 */
void ucx_close(struct ucx *ucx);
/* This end's address, for ucx_connect() of the other one. */
const void *ucx_address(const struct ucx *ucx, size_t *bytes);
/* -EIO: UCX finds no path to it; with a text. */
int ucx_connect(struct ucx *ucx, const void *address, size_t bytes);
/* Readable when ucx_step() has something to do; valid after a step that returned 0. */
int ucx_fd(const struct ucx *ucx);

/* At most UCX_AHEAD that are not sent: -EAGAIN without a text. -EIO with a text. */
int ucx_send(struct ucx *ucx, const struct ucx_header *header, const void *from);
/* Says where the message of the last UCX_ARRIVES belongs. -EIO with a text. */
int ucx_take(struct ucx *ucx, void *to);
/*
 * 1 with the next event; 0: none now; -EBUSY without a text: none now, but UCX is in the middle of
 * something, and the descriptor will not announce the next event: look at the stream, and step
 * again. -EIO, -EPROTO with a text: of no more use.
 */
int ucx_step(struct ucx *ucx, enum ucx_event *event, struct ucx_header *header);

#endif
