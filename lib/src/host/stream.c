/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See stream.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/file.h"
#include "host/address.h"
#include "host/pack.h"
#include "host/silence.h"
#include "host/stream.h"
#include "task/error.h"

/* How much to read while a header is expected: data may follow, which has its own destination. */
#define READ_BYTES 4096

struct header {
	uint32_t bytes;
	uint8_t type;
	uint8_t zeros[3];
	uint64_t number, address;
};
_Static_assert(sizeof(struct header) == 24, "both hosts read it");

/* The bytes that precede a payload. */
struct envelope {
	struct header header;
	unsigned char code[SECRET_CODE_BYTES];
};
_Static_assert(sizeof(struct envelope) == 56, "no padding");

struct bytes {
	unsigned char *data;
	size_t used, room;
};

/* Data in the caller's memory (`from`), or a control message in the memory behind this struct. */
struct transfer {
	struct transfer *next;
	struct header header;
	const unsigned char *from;
	uint64_t left;
	unsigned char own[];
};

struct stream {
	int fd;
	uint64_t timeout_ns;
	struct secret *send_key, *receive_key;
	uint64_t sent, received; /* messages; part of their codes */
	struct stream_counters counters;
	struct silence silence;

	struct bytes control; /* whole messages, not begun */
	struct transfer *first, **last;
	/* What is being sent: first `head` from `head_sent` on, then `body`. */
	struct bytes head;
	size_t head_sent;
	const unsigned char *body;
	size_t body_left;
	uint64_t body_number;

	struct bytes in;
	size_t in_begin; /* bytes of `in` that were taken */
	bool empty; /* the socket was, a moment ago: it is asked again by the next call but one */
	size_t in_skip; /* bytes of the message that was returned last */
	bool data; /* `message` is being received into its place */
	struct stream_message message;
	size_t data_left;
};

int stream_create(int fd, struct secret *send, struct secret *receive, uint64_t timeout_ns,
		  struct stream **result)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	int error = stream ? silence_begin(&stream->silence, timeout_ns) :
			     error_set(-ENOMEM, "no memory for a connection");

	if (error < 0) {
		secret_destroy(send);
		secret_destroy(receive);
		close(fd);
		free(stream);
		return error;
	}
	stream->fd = fd;
	stream->timeout_ns = timeout_ns;
	stream->send_key = send;
	stream->receive_key = receive;
	stream->last = &stream->first;
	*result = stream;
	return 0;
}

void stream_destroy(struct stream *stream)
{
	struct transfer *next;

	if (!stream)
		return;
	for (struct transfer *at = stream->first; at; at = next) {
		next = at->next;
		free(at);
	}
	silence_end(&stream->silence);
	close(stream->fd);
	secret_destroy(stream->send_key);
	secret_destroy(stream->receive_key);
	free(stream->control.data);
	free(stream->head.data);
	free(stream->in.data);
	free(stream);
}

int stream_set_timeout(struct stream *stream, uint64_t timeout_ns)
{
	stream->timeout_ns = timeout_ns;
	silence_set_timeout(&stream->silence, timeout_ns);
	return address_set_timeout(stream->fd, timeout_ns);
}

int stream_fd(const struct stream *stream)
{
	return stream->fd;
}

uint32_t stream_poll(const struct stream *stream, bool receive, struct pollfd polls[STREAM_POLLS])
{
	int events = (receive ? POLLIN : POLLRDHUP) | (stream_pending(stream) ? POLLOUT : 0);

	polls[0] = (struct pollfd){ .fd = stream->fd, .events = (short)events };
	polls[1] = (struct pollfd){ .fd = stream->silence.fd, .events = POLLIN };
	return STREAM_POLLS;
}

void stream_counters(const struct stream *stream, struct stream_counters *counters)
{
	*counters = stream->counters;
}

/* Makes room for `more` bytes behind those in use. */
static int reserve(struct bytes *bytes, size_t more)
{
	size_t room = bytes->room ? bytes->room : READ_BYTES;
	unsigned char *grown;

	if (bytes->room - bytes->used >= more)
		return 0;
	while (room - bytes->used < more)
		room *= 2;
	grown = realloc(bytes->data, room);
	if (!grown)
		return error_set(-ENOMEM, "no memory for %zu bytes between hosts", room);
	bytes->data = grown;
	bytes->room = room;
	return 0;
}

/* Computes the code of message `count` of a direction; data is not covered. */
static int make_code(struct secret *key, uint64_t count, const struct header *header,
		     const void *payload, unsigned char code[SECRET_CODE_BYTES])
{
	const struct iovec parts[] = {
		{ &count, sizeof(count) },
		{ (void *)(uintptr_t)header, sizeof(*header) },
		{ (void *)(uintptr_t)payload, header->bytes },
	};

	return secret_code(key, parts, header->type == STREAM_DATA ? 2 : 3, code);
}

/* ------------------------------------------------------------------------ sending */

/* This fixes the message's place in the order: from now on it is sent before all later ones. */
static int append(struct stream *stream, struct bytes *to, const struct header *header,
		  const void *payload)
{
	size_t bytes = header->type == STREAM_DATA ? 0 : header->bytes;
	struct envelope envelope = { .header = *header };
	int result = reserve(to, sizeof(envelope) + bytes);

	if (result == 0)
		result = make_code(stream->send_key, stream->sent, header, payload, envelope.code);
	if (result < 0)
		return result;
	stream->sent++;
	stream->counters.messages_out++;
	memcpy(to->data + to->used, &envelope, sizeof(envelope));
	to->used += sizeof(envelope);
	if (bytes)
		memcpy(to->data + to->used, payload, bytes);
	to->used += bytes;
	return 0;
}

static struct header header_of(uint8_t type, uint64_t number, uint64_t address, size_t bytes)
{
	return (struct header){
		.bytes = (uint32_t)bytes, .type = type, .number = number, .address = address,
	};
}

static int check_size(size_t bytes)
{
	if (bytes <= STREAM_CONTROL_MOST)
		return 0;
	return error_set(-EMSGSIZE, "a message of %zu bytes to another host; %u is the most", bytes,
			 STREAM_CONTROL_MOST);
}

int stream_send(struct stream *stream, uint8_t type, uint64_t number, uint64_t address,
		const void *payload, size_t bytes)
{
	const struct header header = header_of(type, number, address, bytes);
	int result = check_size(bytes);

	return result < 0 ? result : append(stream, &stream->control, &header, payload);
}

/* Adds a transfer with room for `own` bytes to the list; NULL with a text. */
static struct transfer *enqueue(struct stream *stream, const struct header *header, size_t own)
{
	struct transfer *transfer = malloc(sizeof(*transfer) + own);

	if (!transfer) {
		error_set(-ENOMEM, "no memory for data between hosts");
		return NULL;
	}
	transfer->next = NULL;
	transfer->header = *header;
	*stream->last = transfer;
	stream->last = &transfer->next;
	return transfer;
}

int stream_send_after(struct stream *stream, uint8_t type, uint64_t number, uint64_t address,
		      const void *payload, size_t bytes)
{
	const struct header header = header_of(type, number, address, bytes);
	struct transfer *transfer;
	int result;

	if (!stream->first)
		return stream_send(stream, type, number, address, payload, bytes);
	result = check_size(bytes);
	if (result < 0)
		return result;
	transfer = enqueue(stream, &header, bytes);
	if (!transfer)
		return -ENOMEM;
	transfer->from = transfer->own;
	transfer->left = bytes;
	if (bytes)
		memcpy(transfer->own, payload, bytes);
	return 0;
}

int stream_send_data(struct stream *stream, uint64_t number, uint64_t address, const void *from,
		     uint64_t bytes)
{
	const struct header header = header_of(STREAM_DATA, number, address, 0);
	struct transfer *transfer;

	if (!bytes)
		return 0;
	transfer = enqueue(stream, &header, 0);
	if (!transfer)
		return -ENOMEM;
	transfer->from = from;
	transfer->left = bytes;
	return 0;
}

void stream_drop_data(struct stream *stream, uint64_t number)
{
	struct transfer **at = &stream->first, *transfer;

	while ((transfer = *at)) {
		if (transfer->header.number == number) {
			*at = transfer->next;
			free(transfer);
		} else {
			at = &transfer->next;
		}
	}
	stream->last = at;
}

bool stream_has_data(const struct stream *stream, uint64_t number)
{
	if (stream->body_left && stream->body_number == number)
		return true;
	for (const struct transfer *at = stream->first; at; at = at->next)
		if (at->header.number == number && at->header.type == STREAM_DATA)
			return true;
	return false;
}

/* Chooses what to send next: all waiting control messages, or one chunk. */
static int take_next(struct stream *stream)
{
	struct transfer *transfer = stream->first;
	struct bytes empty = stream->head;
	struct header header;
	int result;

	empty.used = 0;
	stream->head_sent = 0;
	if (stream->control.used) {
		stream->head = stream->control;
		stream->control = empty;
		return 1;
	}
	stream->head = empty;
	if (!transfer)
		return 0;
	header = transfer->header;
	if (header.type == STREAM_DATA)
		header.bytes = transfer->left < STREAM_CHUNK_BYTES ? (uint32_t)transfer->left :
								     STREAM_CHUNK_BYTES;
	result = append(stream, &stream->head, &header, transfer->from);
	if (result < 0)
		return result;
	if (header.type == STREAM_DATA) {
		stream->body = transfer->from;
		stream->body_left = header.bytes;
		stream->body_number = header.number;
		stream->counters.bytes_out += header.bytes;
		transfer->from += header.bytes;
		transfer->header.address += header.bytes;
	}
	transfer->left -= header.bytes;
	if (!transfer->left) {
		stream->first = transfer->next;
		if (!stream->first)
			stream->last = &stream->first;
		free(transfer);
	}
	return 1;
}

static int stream_error(const struct stream *stream, int error)
{
	unsigned long long tenths = stream->timeout_ns / 100000000;

	if (error == -ETIMEDOUT)
		return error_set(error, "no answer for %llu.%llu s", tenths / 10, tenths % 10);
	/* The kernel gave up for the same reason, and has heard why no packet gets there. */
	if (error == -EHOSTUNREACH || error == -ENETUNREACH || error == -EHOSTDOWN)
		return error_set(-ETIMEDOUT, "no answer for %llu.%llu s (%s)", tenths / 10,
				 tenths % 10, strerror(-error));
	if (error == -EPIPE || error == -ECONNRESET)
		return error_set(-ECONNRESET, "the connection was closed by the other side");
	return error_set(error, "the connection is broken: %s", strerror(-error));
}

/*
 * Returns bytes sent, 0 if the socket takes no more, or -errno. What is behind them goes next: the
 * other end is woken once, and not by each message.
 */
static ssize_t send_some(struct stream *stream)
{
	int more = stream->control.used || stream->first ? MSG_MORE : 0;
	struct iovec parts[] = {
		{ stream->head.data + stream->head_sent, stream->head.used - stream->head_sent },
		{ (void *)(uintptr_t)stream->body, stream->body_left },
	};
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t sent;

	do
		sent = sendmsg(stream->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT | more);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : stream_error(stream, -errno);
	silence_sent(&stream->silence, stream->fd, (size_t)sent);
	return sent;
}

static bool is_sending(const struct stream *stream)
{
	return stream->head_sent < stream->head.used || stream->body_left;
}

bool stream_pending(const struct stream *stream)
{
	return is_sending(stream) || stream->control.used || stream->first;
}

int stream_flush(struct stream *stream)
{
	ssize_t sent;
	size_t head;
	int result = silence_look(&stream->silence, stream->fd);

	if (result < 0)
		return stream_error(stream, result);
	for (;;) {
		if (!is_sending(stream)) {
			result = take_next(stream);
			if (result <= 0)
				return result;
		}
		sent = send_some(stream);
		if (sent <= 0)
			return (int)sent;
		head = stream->head.used - stream->head_sent;
		head = (size_t)sent < head ? (size_t)sent : head;
		stream->head_sent += head;
		if ((size_t)sent == head)
			continue;
		stream->body += (size_t)sent - head;
		stream->body_left -= (size_t)sent - head;
	}
}

/* ---------------------------------------------------------------------- receiving */

/*
 * Reads into `to`, and what is behind it into `spare`. Returns bytes received, 0 if there are none,
 * or -errno with a text.
 */
static ssize_t read_some(struct stream *stream, void *to, size_t bytes, void *spare, size_t room)
{
	struct iovec parts[] = { { to, bytes }, { spare, room } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = room ? 2 : 1 };
	bool empty = stream->empty;
	ssize_t got;

	stream->empty = false;
	if (empty)
		return 0;
	do
		got = recvmsg(stream->fd, &message, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got == 0)
		return stream_error(stream, -ECONNRESET);
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : stream_error(stream, -errno);
	stream->empty = (size_t)got < bytes + room;
	return got;
}

static size_t held(const struct stream *stream)
{
	return stream->in.used - stream->in_begin;
}

/* Drops consumed bytes, and reads until `bytes` have arrived: 1, 0, or -errno. */
static int fill(struct stream *stream, size_t bytes)
{
	struct bytes *in = &stream->in;
	size_t most;
	ssize_t got;
	int result;

	if (held(stream) >= bytes)
		return 1;
	if (stream->in_begin) {
		memmove(in->data, in->data + stream->in_begin, held(stream));
		in->used -= stream->in_begin;
		stream->in_begin = 0;
	}
	most = bytes > READ_BYTES ? bytes + READ_BYTES : READ_BYTES;
	result = reserve(in, most - in->used);
	while (result == 0 && in->used < bytes) {
		got = read_some(stream, in->data + in->used, most - in->used, NULL, 0);
		if (got <= 0)
			return (int)got;
		in->used += (size_t)got;
	}
	return result < 0 ? result : 1;
}

static int check_header(const struct header *header)
{
	uint32_t most = header->type == STREAM_DATA ? STREAM_CHUNK_BYTES : STREAM_CONTROL_MOST;

	if (header->bytes <= most && (header->bytes || header->type != STREAM_DATA) &&
	    !header->zeros[0] && !header->zeros[1] && !header->zeros[2])
		return 0;
	return error_set(-EBADMSG, "the other host sent no message: type %u, %u bytes",
			 header->type, header->bytes);
}

static int check_code(struct stream *stream, const struct envelope *envelope, const void *payload)
{
	unsigned char code[SECRET_CODE_BYTES];
	int result =
		make_code(stream->receive_key, stream->received, &envelope->header, payload, code);

	if (result == 0 && !secret_equal(code, envelope->code))
		result = error_set(-EBADMSG,
				   "message %llu does not come from the other host: its "
				   "code is wrong",
				   (unsigned long long)stream->received);
	if (result == 0) {
		stream->received++;
		stream->counters.messages_in++;
	}
	return result;
}

static int begin_data(struct stream *stream, stream_place *place, void *context)
{
	stream->message.payload = place(context, &stream->message);
	if (!stream->message.payload)
		return -EBADMSG;
	stream->data = true;
	stream->data_left = stream->message.bytes;
	return 0;
}

/* 1: all of it is here. */
static int receive_data(struct stream *stream)
{
	unsigned char *end = (unsigned char *)stream->message.payload + stream->message.bytes;
	size_t here = held(stream) < stream->data_left ? held(stream) : stream->data_left;
	struct bytes *in = &stream->in;
	ssize_t got;

	memcpy(end - stream->data_left, in->data + stream->in_begin, here);
	stream->in_begin += here;
	stream->data_left -= here;
	while (stream->data_left) {
		/* All that was held is taken. */
		stream->in_begin = in->used = 0;
		got = read_some(stream, end - stream->data_left, stream->data_left, in->data,
				READ_BYTES);
		if (got <= 0)
			return (int)got;
		here = (size_t)got < stream->data_left ? (size_t)got : stream->data_left;
		stream->data_left -= here;
		in->used = (size_t)got - here;
	}
	stream->data = false;
	stream->counters.bytes_in += stream->message.bytes;
	return 1;
}

/* Reads the next header, with the payload of a control message: 1, 0 or -errno. */
static int receive_envelope(struct stream *stream)
{
	struct envelope envelope;
	unsigned char *payload;
	size_t bytes;
	int result = fill(stream, sizeof(envelope));

	if (result <= 0)
		return result;
	memcpy(&envelope, stream->in.data + stream->in_begin, sizeof(envelope));
	result = check_header(&envelope.header);
	if (result < 0)
		return result;
	bytes = envelope.header.type == STREAM_DATA ? 0 : envelope.header.bytes;
	result = fill(stream, sizeof(envelope) + bytes);
	if (result <= 0)
		return result;
	payload = stream->in.data + stream->in_begin + sizeof(envelope);
	result = check_code(stream, &envelope, payload);
	if (result < 0)
		return result;
	stream->message = (struct stream_message){
		.type = envelope.header.type,
		.bytes = envelope.header.bytes,
		.number = envelope.header.number,
		.address = envelope.header.address,
		.payload = payload,
	};
	stream->in_skip = bytes;
	stream->in_begin += sizeof(envelope);
	return 1;
}

int stream_receive(struct stream *stream, stream_place *place, void *context,
		   struct stream_message *message)
{
	int result = 1;

	stream->in_begin += stream->in_skip;
	stream->in_skip = 0;
	if (!stream->data) {
		result = receive_envelope(stream);
		if (result <= 0)
			return result;
		if (stream->message.type == STREAM_DATA)
			result = begin_data(stream, place, context);
		if (result < 0)
			return result;
	}
	if (stream->data)
		result = receive_data(stream);
	if (result == 1)
		*message = stream->message;
	return result;
}

/* ---------------------------------------------------------------------- handing on */

static void pack_key(struct pack *pack, const struct secret *secret)
{
	unsigned char key[SECRET_CODE_BYTES];
	size_t bytes = secret_copy_key(secret, key);

	pack_u32(pack, (uint32_t)bytes);
	pack_bytes(pack, key, bytes);
	explicit_bzero(key, sizeof(key));
}

/* The last message is still in `in`: nothing was received since. */
int stream_pack(const struct stream *stream, struct pack *pack)
{
	size_t again = stream->in_skip ? sizeof(struct envelope) : 0;
	size_t begin = stream->in_begin - again;

	if (stream_pending(stream) || stream->data)
		return error_set(-EBUSY, "the connection is in the middle of a message");
	pack_key(pack, stream->send_key);
	pack_key(pack, stream->receive_key);
	pack_u64(pack, stream->timeout_ns);
	pack_u64(pack, stream->sent);
	pack_u64(pack, stream->received - (again ? 1 : 0));
	pack_u64(pack, stream->in.used - begin);
	pack_bytes(pack, stream->in.data + begin, stream->in.used - begin);
	return pack->failed ? error_set(-ENOMEM, "no memory to hand on a connection") : 0;
}

static int unpack_key(struct unpack *unpack, struct secret **secret)
{
	uint32_t bytes = unpack_u32(unpack);
	const void *key = unpack_bytes(unpack, bytes);

	if (!key || !bytes)
		return error_set(-EBADMSG, "a connection was handed on without keys");
	return secret_create(key, bytes, secret);
}

int stream_unpack(int fd, struct unpack *unpack, struct stream **result)
{
	struct secret *send = NULL, *receive = NULL;
	uint64_t timeout_ns, sent, received, held;
	struct stream *stream;
	const void *in;
	int error = unpack_key(unpack, &send);

	if (error == 0)
		error = unpack_key(unpack, &receive);
	timeout_ns = unpack_u64(unpack);
	sent = unpack_u64(unpack);
	received = unpack_u64(unpack);
	held = unpack_u64(unpack);
	in = unpack_bytes(unpack, held);
	if (error == 0 && (unpack->failed || !held))
		error = error_set(-EBADMSG, "a connection was handed on in part");
	if (error < 0) {
		secret_destroy(send);
		secret_destroy(receive);
		close(fd);
		return error;
	}
	error = stream_create(fd, send, receive, timeout_ns, &stream);
	if (error < 0)
		return error;
	error = reserve(&stream->in, held);
	if (error < 0) {
		stream_destroy(stream);
		return error;
	}
	memcpy(stream->in.data, in, held);
	stream->in.used = held;
	stream->sent = sent;
	stream->received = received;
	*result = stream;
	return 0;
}
