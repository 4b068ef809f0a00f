/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See bulk.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "host/bulk.h"
#include "host/ucx.h"
#include "task/error.h"

#define PIECES_AHEAD 8 /* on their way to the other end; UCX_AHEAD are not refused */
_Static_assert(PIECES_AHEAD <= UCX_AHEAD, "the other end has places for them");

/* Data for UCX, or a message that comes after all data in front of it. */
struct item {
	struct item *next;
	uint64_t number, address;
	const unsigned char *from; /* NULL: a message */
	uint64_t bytes;
	uint64_t begun; /* bytes of data that UCX was given */
	uint32_t ahead; /* pieces of it that UCX still uses */
	uint64_t pieces; /* of a message: all that are in front, since the beginning */
	uint8_t type;
	unsigned char payload[];
};

struct bulk {
	struct stream *stream;
	struct ucx *ucx; /* NULL: all goes over the stream */
	struct item *first, **end;
	uint64_t sent; /* pieces that UCX was given */
	uint32_t ahead; /* of those, still in use */
	/*
	 * Pieces from the other end: all below `received` are here, and those received + 1 + i
	 * with a bit i in `early`.
	 */
	uint64_t received, early;
	void *places[2 * UCX_AHEAD]; /* of pieces that are being received, by their sequence */
	uint64_t wanted; /* by the last mark: the stream waits until they are here */
	uint64_t bytes_in, bytes_out;
	int failed; /* of UCX: reported when the stream has nothing to report */
	char why[ERROR_TEXT_BYTES];
};

int bulk_create(struct stream *stream, struct bulk **result)
{
	struct bulk *bulk = calloc(1, sizeof(*bulk));

	if (!bulk)
		return error_set(-ENOMEM, "no memory for data between hosts");
	bulk->stream = stream;
	bulk->end = &bulk->first;
	*result = bulk;
	return 0;
}

int bulk_open(struct bulk *bulk)
{
	return ucx_open(&bulk->ucx);
}

void bulk_shut(struct bulk *bulk)
{
	ucx_close(bulk->ucx);
	bulk->ucx = NULL;
}

void bulk_destroy(struct bulk *bulk)
{
	struct item *next;

	if (!bulk)
		return;
	ucx_close(bulk->ucx);
	for (struct item *item = bulk->first; item; item = next) {
		next = item->next;
		free(item);
	}
	free(bulk);
}

const void *bulk_address(const struct bulk *bulk, size_t *bytes)
{
	*bytes = 0;
	return bulk->ucx ? ucx_address(bulk->ucx, bytes) : NULL;
}

int bulk_connect(struct bulk *bulk, const void *address, size_t bytes)
{
	return ucx_connect(bulk->ucx, address, bytes);
}

/*
 * A failure of UCX is no error yet: UCX also fails when the other end leaves, and the stream knows
 * the reason. bulk_receive() reports it if the stream has nothing to report.
 */
static int outlive(struct bulk *bulk, int result)
{
	if (result != -EIO)
		return result;
	bulk->failed = result;
	text_copy(bulk->why, sizeof(bulk->why), error_text());
	return 0;
}

/* ------------------------------------------------------------------------- sending */

static int append(struct bulk *bulk, const struct item *values, const void *payload, size_t bytes)
{
	struct item *item = malloc(sizeof(*item) + bytes);

	if (!item)
		return error_set(-ENOMEM, "no memory for data between hosts");
	*item = *values;
	if (bytes)
		memcpy(item->payload, payload, bytes);
	*bulk->end = item;
	bulk->end = &item->next;
	return 0;
}

/* Removes an item from the list; *at points to it. */
static void take_out(struct bulk *bulk, struct item **at)
{
	struct item *item = *at;

	*at = item->next;
	if (!item->next)
		bulk->end = at;
	free(item);
}

bool bulk_is_in_order(const struct bulk *bulk, uint64_t bytes)
{
	return !bulk->ucx || bytes < BULK_LEAST;
}

int bulk_send_data(struct bulk *bulk, uint64_t number, uint64_t address, const void *from,
		   uint64_t bytes)
{
	const struct item item = {
		.number = number, .address = address, .from = from, .bytes = bytes,
	};

	if (bulk_is_in_order(bulk, bytes))
		return stream_send_data(bulk->stream, number, address, from, bytes);
	return append(bulk, &item, NULL, 0);
}

int bulk_send_after(struct bulk *bulk, uint8_t type, uint64_t number, uint64_t address,
		    const void *payload, size_t bytes)
{
	const struct item item = {
		.number = number, .address = address, .bytes = bytes, .type = type,
	};

	if (!bulk->first)
		return stream_send_after(bulk->stream, type, number, address, payload, bytes);
	if (bytes > STREAM_CONTROL_MOST)
		return error_set(-EMSGSIZE, "a message of %zu bytes; at most %u are sent", bytes,
				 STREAM_CONTROL_MOST);
	return append(bulk, &item, payload, bytes);
}

void bulk_drop_data(struct bulk *bulk, uint64_t number)
{
	struct item **at = &bulk->first, *item;

	stream_drop_data(bulk->stream, number);
	while ((item = *at)) {
		if (item->number == number && item->from)
			item->bytes = item->begun;
		if (item->number == number && (!item->from || !item->ahead))
			take_out(bulk, at);
		else
			at = &item->next;
	}
}

bool bulk_has_data(const struct bulk *bulk, uint64_t number)
{
	for (const struct item *item = bulk->first; item; item = item->next)
		if (item->number == number && item->from)
			return true;
	return stream_has_data(bulk->stream, number);
}

/* Gives UCX the next piece of an item: 0, or -errno with a text. */
static int begin_piece(struct bulk *bulk, struct item *item)
{
	uint64_t rest = item->bytes - item->begun;
	const struct ucx_header header = {
		.number = item->number,
		.address = item->address + item->begun,
		.bytes = rest < BULK_PIECE ? rest : BULK_PIECE,
		.sequence = bulk->sent,
	};
	int result = ucx_send(bulk->ucx, &header, item->from + item->begun);

	if (result < 0)
		return result;
	item->begun += header.bytes;
	item->ahead++;
	bulk->sent++;
	bulk->ahead++;
	bulk->bytes_out += header.bytes;
	return 0;
}

/*
 * Sends as many pieces as may be on their way; messages behind data then know how many are in
 * front.
 */
static int begin_pieces(struct bulk *bulk)
{
	int result = 0;

	for (struct item *item = bulk->first; item && result == 0; item = item->next) {
		while (result == 0 && item->from && item->begun < item->bytes) {
			if (bulk->ahead == PIECES_AHEAD)
				return 0;
			result = begin_piece(bulk, item);
		}
		if (!item->from && !item->pieces)
			item->pieces = bulk->sent;
	}
	return result;
}

/* Sends messages whose data UCX no longer uses. */
static int release_messages(struct bulk *bulk)
{
	struct item *item;
	int result = 0;

	while (result == 0 && (item = bulk->first) && !item->from) {
		if (item->pieces)
			result = stream_send(bulk->stream, BULK_MARK, item->pieces, 0, NULL, 0);
		if (result == 0)
			result = stream_send_after(bulk->stream, item->type, item->number,
						   item->address, item->payload, item->bytes);
		if (result == 0)
			take_out(bulk, &bulk->first);
	}
	return result;
}

int bulk_flush(struct bulk *bulk)
{
	int result = bulk->failed ? 0 : outlive(bulk, begin_pieces(bulk));

	if (result == 0)
		result = release_messages(bulk);
	return result < 0 ? result : stream_flush(bulk->stream);
}

/* UCX no longer uses a piece: its item is the first with that number and address. */
static void piece_sent(struct bulk *bulk, const struct ucx_header *header)
{
	for (struct item **at = &bulk->first; *at; at = &(*at)->next) {
		struct item *item = *at;

		if (!item->from || item->number != header->number ||
		    header->address - item->address >= item->begun || !item->ahead)
			continue;
		bulk->ahead--;
		if (--item->ahead == 0 && item->begun == item->bytes)
			take_out(bulk, at);
		return;
	}
}

/* ----------------------------------------------------------------------- receiving */

static int place_piece(struct bulk *bulk, const struct ucx_header *header, stream_place *place,
		       void *context)
{
	const struct stream_message message = {
		.type = STREAM_DATA,
		.number = header->number,
		.address = header->address,
		.bytes = (uint32_t)header->bytes,
	};
	void *to;

	if (!header->bytes || header->bytes > BULK_PIECE ||
	    header->sequence - bulk->received > UCX_AHEAD)
		return error_set(-EBADMSG, "UCX: a piece of %llu bytes with sequence %llu",
				 (unsigned long long)header->bytes,
				 (unsigned long long)header->sequence);
	to = place(context, &message);
	bulk->places[header->sequence % ((size_t)2 * UCX_AHEAD)] = to;
	return to ? ucx_take(bulk->ucx, to) : -EBADMSG;
}

/* Pieces may end in another order than they began. */
static void piece_received(struct bulk *bulk, const struct ucx_header *header)
{
	if (header->sequence != bulk->received) {
		bulk->early |= 1ULL << (header->sequence - bulk->received - 1);
		return;
	}
	bulk->received++;
	while (bulk->early & 1) {
		bulk->received++;
		bulk->early >>= 1;
	}
	bulk->early >>= 1;
}

/* Takes what UCX has: 1 with a message, 0, -EBUSY as ucx_step(), -errno with a text. */
static int step_pieces(struct bulk *bulk, stream_place *place, void *context,
			  struct stream_message *message)
{
	struct ucx_header header;
	enum ucx_event event;
	int result;

	while ((result = ucx_step(bulk->ucx, &event, &header)) == 1) {
		if (event == UCX_SENT) {
			piece_sent(bulk, &header);
			result = bulk_flush(bulk);
		} else if (event == UCX_ARRIVES) {
			result = place_piece(bulk, &header, place, context);
		} else {
			piece_received(bulk, &header);
			bulk->bytes_in += header.bytes;
			*message = (struct stream_message){
				.type = STREAM_DATA,
				.number = header.number,
				.address = header.address,
				.bytes = (uint32_t)header.bytes,
				.payload = bulk->places[header.sequence % ((size_t)2 * UCX_AHEAD)],
			};
			return 1;
		}
		if (result < 0)
			return result;
	}
	return result;
}

/* Does the stream wait for pieces? */
static bool is_held(const struct bulk *bulk)
{
	return bulk->received < bulk->wanted;
}

/* A stream that waits is not read, so this looks for its end: 0, or -ECONNRESET with a text. */
static int check_end(const struct bulk *bulk)
{
	struct pollfd end = { .fd = stream_fd(bulk->stream), .events = POLLRDHUP };

	return poll(&end, 1, 0) <= 0 ? 0 :
	       error_set(-ECONNRESET, "the other side has closed the connection while %llu pieces "
				      "of data were on their way",
			 (unsigned long long)(bulk->wanted - bulk->received));
}

static int receive_pieces(struct bulk *bulk, stream_place *place, void *context,
			  struct stream_message *message)
{
	return bulk->ucx && !bulk->failed ?
		       outlive(bulk, step_pieces(bulk, place, context, message)) :
		       0;
}

/* Takes what the stream has: 1 with a message, 0, -errno with a text. */
static int receive_message(struct bulk *bulk, stream_place *place, void *context,
			   struct stream_message *message)
{
	int result;

	while (!is_held(bulk)) {
		result = stream_receive(bulk->stream, place, context, message);
		if (result != 1 || message->type != BULK_MARK)
			return result;
		if (!bulk->ucx || message->bytes || message->number < bulk->wanted)
			return error_set(-EBADMSG, "a mark of %llu pieces after one of %llu",
					 (unsigned long long)message->number,
					 (unsigned long long)bulk->wanted);
		bulk->wanted = message->number;
	}
	return check_end(bulk);
}

/* The stream goes first: a message that has come must not wait until no data is there. */
int bulk_receive(struct bulk *bulk, stream_place *place, void *context,
		 struct stream_message *message)
{
	int result, pieces;

	do {
		result = receive_message(bulk, place, context, message);
		if (result != 0)
			return result;
		pieces = receive_pieces(bulk, place, context, message);
	} while (pieces == -EBUSY);
	if (pieces != 0 || (!bulk->ucx && !bulk->failed))
		return pieces;
	/* A piece may be what the stream has waited for; and it has the last word before UCX. */
	result = receive_message(bulk, place, context, message);
	return result == 0 && bulk->failed ? error_set(bulk->failed, "%s", bulk->why) : result;
}

uint32_t bulk_poll(const struct bulk *bulk, struct pollfd polls[BULK_POLLS])
{
	uint32_t count = stream_poll(bulk->stream, !is_held(bulk), polls);

	if (bulk->ucx)
		polls[count++] = (struct pollfd){ .fd = ucx_fd(bulk->ucx), .events = POLLIN };
	return count;
}

bool bulk_has_ucx(const struct bulk *bulk)
{
	return bulk->ucx;
}

void bulk_counters(const struct bulk *bulk, struct stream_counters *counters)
{
	stream_counters(bulk->stream, counters);
	counters->bytes_in += bulk->bytes_in;
	counters->bytes_out += bulk->bytes_out;
}
