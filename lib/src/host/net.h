/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * net: which way data takes between two hosts. Each end has its DW_NET: auto, tcp or ucx. The
 * parent's end offers UCX, with its address, when it is asked to, or by itself (auto) where an RDMA
 * device is; the node's end takes the offer unless it is told not to, and answers with its own
 * address, or with none: then data goes over the stream.
 *
 *              node: auto              tcp             ucx
 *   no offer         stream            stream          refused
 *   by itself        UCX, else stream  stream          UCX, else refused
 *   asked to (ucx)   UCX, else refused refused         UCX, else refused
 *
 * Owns: nothing; what it opens is the bulk's. One thread.
 */
#ifndef DW_HOST_NET_H
#define DW_HOST_NET_H

#include <stdbool.h>
#include "host/bulk.h"
#include "host/pack.h"

enum net {
	NET_AUTO = 0,
	NET_TCP,
	NET_UCX,
};

/* Of a message, in which the address lies. */
struct net_offer {
	bool must; /* nothing else will do */
	uint32_t bytes; /* 0: no offer */
	const void *address;
};

/* As DW_NET has it; nothing: auto. -EINVAL with a text. */
int net_read(enum net *net);

/* The parent's end. Errors of ucx_open(), when nothing else will do. */
int net_offer(struct bulk *bulk, enum net net, struct pack *pack);
/* The node's answer to it. -EPROTO with a text; errors of ucx_connect(). */
int net_settle(struct bulk *bulk, enum net net, const void *address, size_t bytes);

/* The node's end: false, the message has no offer in it. */
bool net_unpack(struct unpack *unpack, struct net_offer *offer);
/* What net_accept() will load, while there is no other thread, and before forks. */
void net_prepare(enum net net, const struct net_offer *offer);
/* bulk_address() is the answer. -EPROTO with a text; errors of ucx_open() and ucx_connect(). */
int net_accept(struct bulk *bulk, enum net net, const struct net_offer *offer);

#endif
