/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * bulk: the data of a stream (stream.h), over the stream's own connection, or beside it over UCX.
 * Control messages stay on the stream, with their codes, and so does data that is shorter than
 * BULK_LEAST.
 *
 * Owns: struct bulk: data, and messages that wait for it. The stream is the caller's and outlives
 * it; from bulk_create() on, its data is sent and received only here.
 *
 * Invariant: a message that comes after data is received after it. The sender gives it to the
 * stream when UCX no longer uses the data before it, with a mark that says how many pieces those
 * were; the receiver takes nothing behind a mark from the stream until it has that many. Other
 * control messages overtake data.
 *
 * Data over UCX carries no code, as on the stream, and UCX does not check what arrives: use it on
 * networks whose hosts are trusted. One thread. No call blocks.
 */
#ifndef DW_HOST_BULK_H
#define DW_HOST_BULK_H

#include <poll.h>
#include <stdbool.h>
#include "host/stream.h"

#define BULK_LEAST 65536
#define BULK_POLLS (STREAM_POLLS + 1)
#define BULK_PIECE (1u << 20)
#define BULK_MARK 255 /* a type of the stream's messages, which is this module's */

struct bulk;

/* All goes over the stream. -ENOMEM with a text. */
int bulk_create(struct stream *stream, struct bulk **bulk);
/* NULL is accepted. */
void bulk_destroy(struct bulk *bulk);
/*
 * Opens UCX; bulk_connect() follows, with the other end's address, before any data. Errors of
 * ucx_open() and ucx_connect().
 */
int bulk_open(struct bulk *bulk);
int bulk_connect(struct bulk *bulk, const void *address, size_t bytes);
/* Closes UCX again, before any data. */
void bulk_shut(struct bulk *bulk);
/* This end's address of UCX; 0 bytes: it is not open. */
const void *bulk_address(const struct bulk *bulk, size_t *bytes);

/* Like the functions of the stream with the same names. */
int bulk_send_data(struct bulk *bulk, uint64_t number, uint64_t address, const void *from,
		   uint64_t bytes);
int bulk_send_after(struct bulk *bulk, uint8_t type, uint64_t number, uint64_t address,
		    const void *payload, size_t bytes);
/* Whether data of so many bytes comes after the control messages that were sent before it. */
bool bulk_is_in_order(const struct bulk *bulk, uint64_t bytes);
void bulk_drop_data(struct bulk *bulk, uint64_t number);
bool bulk_has_data(const struct bulk *bulk, uint64_t number);
int bulk_flush(struct bulk *bulk);
int bulk_receive(struct bulk *bulk, stream_place *place, void *context,
		 struct stream_message *message);
/*
 * The descriptors to wait for after bulk_flush(), and after a bulk_receive() that returned 0: those
 * of stream_poll(), and UCX's.
 */
uint32_t bulk_poll(const struct bulk *bulk, struct pollfd polls[BULK_POLLS]);
/* Whether data goes over UCX, which tells of what comes only after it was asked. */
bool bulk_has_ucx(const struct bulk *bulk);
void bulk_counters(const struct bulk *bulk, struct stream_counters *counters);

#endif
