/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * reach: by which address another host reaches a listening socket of this one. A host has several,
 * and does not know which of them the other one is connected to; so it offers all of them, and the
 * other one, which knows its own, chooses.
 *
 * An offer is a text: "BOOT/NAMESPACE PORT ADDRESS/BITS ADDRESS/BITS …". The first word names the
 * kernel and its network namespace: within the same one loopback leads to the socket. It is "-" if
 * loopback does not lead there, or should not be used. BITS are those of the address's network, for
 * who has to choose in the place of that host; a name has none.
 *
 * Owns nothing. Any thread.
 */
#ifndef DW_HOST_REACH_H
#define DW_HOST_REACH_H

#include <stddef.h>
#include "host/address.h"

#define REACH_BYTES 2048

/*
 * The offer of a socket: the address that it is bound to, or all addresses of the host but loopback
 * and link-local ones. `only`: this name or address instead; NULL: none. -EINVAL, or an error of
 * getifaddrs(), with a text.
 */
int reach_offer(int listening, const char *only, char offer[REACH_BYTES]);
/*
 * The address to dial: loopback within one namespace; else the first that lies in a network of this
 * host; else the first. -EPROTO: it is no offer; -ENETUNREACH: it has no address; with a text that
 * begins with `who`: "rank 3".
 */
int reach_choose(const char *offer, const char *who, struct address *address);
/* The same for a third host, which has made the offer `from`, and dials in its turn. */
int reach_choose_from(const char *from, const char *offer, const char *who,
		      struct address *address);

#endif
