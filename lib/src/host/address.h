/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * address: names of hosts and ports, and the TCP sockets that they lead to.
 *
 * Owns nothing: a socket is the caller's. Any thread. A name is looked up by getaddrinfo(), which
 * may take as long as the resolver's own limits allow.
 *
 * The kernel watches a connection: it sends a probe when the peer has been silent for a second,
 * and ends the connection, with ETIMEDOUT, when neither a probe nor data is acknowledged for
 * `timeout_ns`. No thread wakes up for that.
 */
#ifndef DW_HOST_ADDRESS_H
#define DW_HOST_ADDRESS_H

#include <stdint.h>

#define ADDRESS_PORT 7733 /* where none is named */
#define ADDRESS_BYTES 300 /* of "name:port" */

struct address {
	char host[ADDRESS_BYTES]; /* without brackets; empty: any address of this host */
	char port[8];
};

/* "name", "name:port", "[IPv6]:port", "IPv6". -EINVAL with a text that names `what`. */
int address_parse(const char *what, const char *text, struct address *address);
/*
 * Connects to one of the name's addresses. Returns a non-blocking socket, or -errno of the last
 * address that was tried, with a text. -ETIMEDOUT: the deadline (CLOCK_MONOTONIC).
 */
int address_dial(const struct address *address, uint64_t timeout_ns, uint64_t deadline_ns);
/* Returns a listening, non-blocking socket; with port 0 the kernel chooses the port. */
int address_listen(const struct address *address);
/* Accepts the next connection, as a non-blocking socket; -EAGAIN without a text. */
int address_accept(int listening, uint64_t timeout_ns);
/* Changes the timeout of a connected socket. -errno with a text. */
int address_set_timeout(int fd, uint64_t timeout_ns);
/* "10.0.0.7:4711" for a socket's own end, or for the other; "?" if the kernel knows none. */
void address_of_own(int fd, char text[ADDRESS_BYTES]);
void address_of_peer(int fd, char text[ADDRESS_BYTES]);

#endif
