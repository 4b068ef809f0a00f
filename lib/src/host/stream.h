/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * stream: messages and data between two hosts, over one TCP connection.
 *
 * On the wire each message is a header, a code (secret.h), and `bytes` of payload. The code covers
 * a count of the messages of its direction, the header, and the payload of a control message; so no
 * third party can add, change, repeat or drop one unnoticed. Data carries no code: its header says
 * where it belongs, and has one.
 *
 * Data is cut into chunks, and control messages go between chunks: a cancellation does not wait
 * behind a tensor. Within control messages, and within data, the order is that of the calls; a
 * control message that has to come after data is given to stream_send_after().
 *
 * Owns: the socket, both keys, buffers of what was not sent yet and of what was received in part.
 * Data is sent from the caller's memory, which stays valid and unchanged until it is sent, and
 * received straight into it. One thread. No call blocks.
 */
#ifndef DW_HOST_STREAM_H
#define DW_HOST_STREAM_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "host/secret.h"

#define STREAM_CHUNK_BYTES 262144
#define STREAM_CONTROL_MOST (64u << 20) /* of the payload of one control message */
#define STREAM_POLLS 2
#define STREAM_DATA 0 /* the type of data; those of control messages are above */

struct pack;
struct stream;
struct unpack;

struct stream_message {
	uint8_t type;
	uint32_t bytes; /* of the payload */
	uint64_t number;
	uint64_t address; /* of data: where it belongs; else the sender's to use */
	/* Control: valid until the next stream_receive(). Data: where `place` had it put. */
	void *payload;
};

struct stream_counters {
	uint64_t bytes_in, bytes_out; /* payloads of data */
	uint64_t messages_in, messages_out;
};

/*
 * Takes the connected, non-blocking socket and the keys, even if it fails. `timeout_ns` was set on
 * the socket already (silence.h).
 */
int stream_create(int fd, struct secret *send, struct secret *receive, uint64_t timeout_ns,
		  struct stream **stream);
/*
 * For a process that executes a program, which goes on with the stream: the keys, the counts, and
 * what has arrived, with the control message that stream_receive() returned last: it returns that
 * one again there. The socket is the caller's to pass on. -EBUSY with a text: it has data to send,
 * or has received a part of some.
 */
int stream_pack(const struct stream *stream, struct pack *pack);
/* In that program; as stream_create(). -EBADMSG with a text: `unpack` has no stream. */
int stream_unpack(int fd, struct unpack *unpack, struct stream **stream);
/* Closes the socket; what was not sent is dropped. NULL is accepted. */
void stream_destroy(struct stream *stream);
int stream_fd(const struct stream *stream);
/*
 * Descriptors to wait for before the next stream_flush(): the socket, and a timer, armed while the
 * other end has bytes to acknowledge. Without `receive`, of what arrives only the end counts.
 */
uint32_t stream_poll(const struct stream *stream, bool receive, struct pollfd polls[STREAM_POLLS]);
/* Changes the timeout, also of the socket. -errno with a text. */
int stream_set_timeout(struct stream *stream, uint64_t timeout_ns);

/* Sends a control message, with a copy of the payload. -ENOMEM, -EMSGSIZE with a text. */
int stream_send(struct stream *stream, uint8_t type, uint64_t number, uint64_t address,
		const void *payload, size_t bytes);
/* The same, after all data that was given before it. */
int stream_send_after(struct stream *stream, uint8_t type, uint64_t number, uint64_t address,
		      const void *payload, size_t bytes);
/* Sends the data at `from`, which belongs at `address` on the other host. -ENOMEM with a text. */
int stream_send_data(struct stream *stream, uint64_t number, uint64_t address, const void *from,
		     uint64_t bytes);
/*
 * Drops the data of that number, except a chunk that is partly sent, and the messages of that
 * number that were to follow it.
 */
void stream_drop_data(struct stream *stream, uint64_t number);
/* Is data of that number still to be sent? */
bool stream_has_data(const struct stream *stream, uint64_t number);
/*
 * Sends as much as the socket takes: 0, or -errno with a text; -ETIMEDOUT: bytes that were sent are
 * not acknowledged.
 */
int stream_flush(struct stream *stream);
/* Whether something is left to be sent. */
bool stream_pending(const struct stream *stream);

/*
 * Returns where to put data; `message` has all but the payload. NULL, with a text, refuses the
 * data: the connection cannot be used any more.
 */
typedef void *stream_place(void *context, const struct stream_message *message);
/*
 * The next message that is here in whole: 1, 0: wait for POLLIN first, -errno with a text:
 * -ECONNRESET (the other side has closed it), -ETIMEDOUT (it has not answered), -EBADMSG (what
 * arrived is no message of its).
 */
int stream_receive(struct stream *stream, stream_place *place, void *context,
		   struct stream_message *message);

void stream_counters(const struct stream *stream, struct stream_counters *counters);

#endif
