/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * connection: from an address to a stream whose other end has the same key: dialled by a gateway,
 * or taken by the listener of a node.
 *
 * Owns: struct listener, with its socket and the connections that have not proved anything yet.
 * There are at most LISTENER_PENDING of those, each for at most `timeout_ns`, so a peer that does
 * not answer delays no other. The key is the caller's. One thread, which polls listener_poll()
 * until listener_deadline(), and calls listener_step(); only connection_dial() blocks.
 */
#ifndef DW_HOST_CONNECTION_H
#define DW_HOST_CONNECTION_H

#include <poll.h>
#include <stdint.h>
#include "host/address.h"
#include "host/offset.h"
#include "host/stream.h"

#define LISTENER_PENDING 32

/*
 * `timeout_ns`: after so long without an answer the connection ends. `sample`: the handshake's
 * (NULL: not wanted). 0, or -errno with a text that
 * names the host: those of address_dial() and handshake_step(); -ETIMEDOUT.
 */
int connection_dial(const struct address *address, struct secret *secret, uint64_t timeout_ns,
		    uint64_t deadline_ns, struct stream **stream, struct offset_sample *sample);

struct listener;

/* Takes the listening socket, even if it fails. -ENOMEM with a text. */
int listener_create(int fd, struct secret *secret, uint64_t timeout_ns,
		    struct listener **listener);
void listener_destroy(struct listener *listener);
/* Fills at most LISTENER_PENDING + 1 entries, and returns how many. */
uint32_t listener_poll(const struct listener *listener, struct pollfd *polls);
/* The latest time for the next call of listener_step(); UINT64_MAX: no pending connection. */
uint64_t listener_deadline(const struct listener *listener);
/*
 * The next connection that has proved that it has the key: 1 with the stream and the address of its
 * other end, 0 when there is none now. -errno with a text: no connection can be accepted; pending
 * ones go on. One that is refused is logged, with its address and the cause, and counted.
 */
int listener_step(struct listener *listener, struct stream **stream, char peer[ADDRESS_BYTES]);
uint64_t listener_refused(const struct listener *listener);

#endif
