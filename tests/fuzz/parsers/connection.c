/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The first bytes of a connection, and what follows them, from a peer that has no key: nothing that
 * it sends is taken for a message. The first byte of the input chooses; the rest arrives in pieces.
 */
#include <errno.h>
#include <sys/socket.h>
#include "host/handshake.h"
#include "host/stream.h"
#include "input.h"

static void *place(void *context, const struct stream_message *message)
{
	(void)message;
	return context;
}

static void read_stream(int end, const uint8_t *data, size_t size, int from)
{
	unsigned char area[STREAM_CHUNK_BYTES];
	struct secret *send = NULL, *receive = NULL;
	struct stream_message message;
	struct stream *stream;
	size_t sent = 0, piece;
	int result = 0;

	MUST(secret_create("sending key......", 16, &send) == 0);
	MUST(secret_create("receiving key....", 16, &receive) == 0);
	MUST(stream_create(end, send, receive, 5000000000ULL, &stream) == 0);
	while (sent < size && result == 0) {
		piece = 1 + data[sent] % 64;
		piece = piece < size - sent ? piece : size - sent;
		MUST(write(from, data + sent, piece) == (ssize_t)piece);
		sent += piece;
		result = stream_receive(stream, place, area, &message);
	}
	MUST(result == 0 || result == -EBADMSG || result == -ENOMEM);
	shutdown(from, SHUT_WR);
	if (result == 0)
		MUST(stream_receive(stream, place, area, &message) < 0);
	stream_destroy(stream);
}

static void greet(int end, bool dialled, const uint8_t *data, size_t size, int from)
{
	struct handshake handshake;
	struct secret *secret;
	size_t sent = 0, piece;
	int result = 0;

	MUST(secret_create("one key of both", 15, &secret) == 0);
	MUST(handshake_begin(&handshake, secret, dialled, end) == 0);
	while (sent < size && result == 0) {
		piece = 1 + data[sent] % 64;
		piece = piece < size - sent ? piece : size - sent;
		MUST(write(from, data + sent, piece) == (ssize_t)piece);
		sent += piece;
		result = handshake_step(&handshake, end);
	}
	shutdown(from, SHUT_WR);
	if (result == 0)
		result = handshake_step(&handshake, end);
	MUST(result < 0);
	secret_destroy(secret);
	close(end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int ends[2];

	if (!size || size > 65536)
		return 0;
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	if (*data & 1)
		read_stream(ends[0], data + 1, size - 1, ends[1]);
	else
		greet(ends[0], *data & 2, data + 1, size - 1, ends[1]);
	close(ends[1]);
	return 0;
}
