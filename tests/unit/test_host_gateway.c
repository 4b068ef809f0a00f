/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What a gateway (host/gateway.h) sends by itself, or is asked for: its session is made by hand, in
 * this process.
 */
#include <poll.h>
#include "host/gateway.h"
#include "host/session.h"
#include "host/pack.h"
#include "task/error.h"
#include "task/task.h"
#include "host.h"
#include "host_area.h"

static struct gateway *gateway;
static struct stream *session;
static uint64_t served;

static void open_both(void)
{
	int ends[2];

	map_area();
	make_sockets(ends);
	CHECK_EQ(gateway_create(new_stream(ends[0], true), &gateway), 0);
	session = new_stream(ends[1], false);
	served = 0;
}

static void close_both(void)
{
	gateway_destroy(gateway);
	stream_destroy(session);
	unmap_area();
}

/* A task of one tensor, a slot. */
static void post_one(int slot, uint32_t tag, uint64_t sees, uint64_t makes)
{
	struct dw_tensor tensor = slot_tensor(slot);
	const struct frame_names uses = { .sees = sees, .makes = makes, .tag = tag };
	const struct dw_config config = { .block_dim = 0 };
	const struct dw_args args = { .tensor_count = 1, .tensors = &tensor, .view = true };
	const struct gateway_task task = {
		.task = 1, .callable = 1, .config = &config, .args = &args, .uses = &uses,
	};
	uint64_t number;

	CHECK_EQ(gateway_post(gateway, &task, &number), 0);
}

/* The session ends the task. The bytes that the gateway had sent with it, without being asked. */
static uint64_t serve_one(int error)
{
	const struct host_done_head head = { .error = error };
	struct gateway_counters before, after;
	struct gateway_done done;
	struct pack pack = { .data = NULL };
	struct pollfd polls[BULK_POLLS];
	int result;

	gateway_counters(gateway, &before);
	pack_bytes(&pack, &head, sizeof(head));
	pack_text(&pack, error ? "broken" : NULL);
	CHECK_EQ(stream_send(session, HOST_DONE, ++served, 0, pack.data, pack.used), 0);
	CHECK_EQ(stream_flush(session), 0);
	pack_release(&pack);
	while ((result = gateway_step(gateway, &done)) == 0)
		poll(polls, gateway_poll(gateway, polls), -1);
	CHECK(result == 1 && done.number == served && done.error == error);
	gateway_counters(gateway, &after);
	return after.bytes_out - before.bytes_out;
}

static void *no_place(void *context, const struct stream_message *message)
{
	(void)context;
	(void)message;
	return NULL;
}

HOST_TEST(an_input_that_was_never_there_comes_without_being_asked_for)
{
	open_both();
	post_one(3, DW_INPUT, 7, 0);
	CHECK_EQ(serve_one(0), SLOT_BYTES);
	/* From now on the session asks, if it has dropped it. */
	post_one(3, DW_INPUT, 7, 0);
	CHECK_EQ(serve_one(0), 0);
	post_one(3, DW_INPUT, 8, 0);
	CHECK_EQ(serve_one(0), SLOT_BYTES);
	/* The same name at another place. */
	post_one(8, DW_INPUT, 8, 0);
	CHECK_EQ(serve_one(0), SLOT_BYTES);
	close_both();
}

HOST_TEST(an_input_without_a_name_comes_each_time)
{
	open_both();
	for (int i = 0; i < 3; i++) {
		post_one(3, DW_INPUT, 0, 0);
		CHECK_EQ(serve_one(0), SLOT_BYTES);
	}
	close_both();
}

HOST_TEST(an_output_is_there_under_the_name_that_its_task_made)
{
	open_both();
	post_one(3, DW_OUTPUT, 0, 9);
	CHECK_EQ(serve_one(0), 0);
	post_one(3, DW_INPUT, 9, 0);
	CHECK_EQ(serve_one(0), 0);
	/* It was written there, and nobody knows how far. */
	post_one(3, DW_INOUT, 9, 10);
	CHECK_EQ(serve_one(-EIO), 0);
	post_one(3, DW_INPUT, 10, 0);
	CHECK_EQ(serve_one(0), SLOT_BYTES);
	post_one(3, DW_INPUT, 9, 0);
	CHECK_EQ(serve_one(0), SLOT_BYTES);
	post_one(3, DW_INOUT, 9, 11);
	CHECK_EQ(serve_one(0), 0);
	post_one(3, DW_INPUT, 9, 0);
	CHECK_EQ(serve_one(0), SLOT_BYTES);
	close_both();
}

/* The file of control message 1; there is none for others. */
static int give_object(void *context, uint64_t number, struct pack *file)
{
	(void)context;
	if (number != 1)
		return error_set(-ESRCH, "no such file");
	pack_bytes(file, "object", 6);
	return 0;
}

/* The session asks with `payload` bytes: the gateway's answer to it, or its error. */
static int want(uint64_t number, size_t payload, struct stream_message *answer)
{
	struct gateway_done done;
	int result, got = 0;

	CHECK_EQ(stream_send(session, HOST_WANT, number, 0, "x", payload), 0);
	CHECK_EQ(stream_flush(session), 0);
	result = gateway_step(gateway, &done);
	while (result == 0 && got >= 0) {
		got = stream_receive(session, no_place, NULL, answer);
		if (got == 1 && answer->type == HOST_OBJECT)
			return 1;
	}
	return result;
}

HOST_TEST(an_object_is_sent_for_a_message_in_flight_alone)
{
	struct stream_message answer;
	struct unpack unpack;
	const char *text;
	uint64_t number;

	open_both();
	CHECK_EQ(gateway_control(gateway, 1, "blob", 4, &number), 0);
	CHECK_EQ(gateway_control(gateway, 1, "blob", 4, &number), 0);
	gateway_on_object(gateway, give_object, NULL);
	CHECK_EQ(want(1, 0, &answer), 1);
	unpack = (struct unpack){ .at = answer.payload, .left = answer.bytes };
	CHECK(answer.number == 1 && unpack_u32(&unpack) == 0 && !unpack_text(&unpack));
	CHECK(unpack.left == 6 && memcmp(unpack.at, "object", 6) == 0);
	CHECK_EQ(want(2, 0, &answer), 1);
	unpack = (struct unpack){ .at = answer.payload, .left = answer.bytes };
	CHECK(answer.number == 2 && (int)unpack_u32(&unpack) == -ESRCH);
	text = unpack_text(&unpack);
	CHECK(text && strcmp(text, "no such file") == 0 && unpack_done(&unpack));
	CHECK_EQ(want(3, 0, &answer), -EBADMSG);
	CHECK_STR(error_text(), "message of type 14 (3, 0 bytes), which is not its turn");
	close_both();
	for (int with = 0; with < 2; with++) {
		open_both();
		CHECK_EQ(gateway_control(gateway, 1, "blob", 4, &number), 0);
		if (with)
			gateway_on_object(gateway, give_object, NULL);
		CHECK_EQ(want(1, with, &answer), -EBADMSG);
		close_both();
	}
}

/* ------------------------------------------------------------------ the session's end */

static bool no_memory(void *context, uint64_t address, uint64_t bytes)
{
	(void)context;
	(void)address;
	(void)bytes;
	return false;
}

/* The gateway's end is made by hand: what the session says when it has got that. */
static int session_gets(struct session *own, struct stream *gateways, uint8_t type, uint64_t number,
			struct session_message *message)
{
	uint64_t code = 1;
	int result;

	CHECK_EQ(stream_send(gateways, type, number, 0, &code, sizeof(code)), 0);
	CHECK_EQ(stream_flush(gateways), 0);
	while ((result = session_step(own, message)) == 0)
		;
	return result;
}

HOST_TEST(a_session_takes_an_object_that_it_wants_alone_and_once)
{
	const struct session_options options = { .memory = no_memory };
	struct session_message message;
	struct session *own;
	struct stream *gateways;
	int ends[2];

	for (int wanted = 0; wanted < 3; wanted++) {
		make_sockets(ends);
		gateways = new_stream(ends[0], true);
		CHECK_EQ(session_create(new_stream(ends[1], false), &options, &own), 0);
		CHECK_EQ(session_gets(own, gateways, HOST_CONTROL, 1, &message), 1);
		if (wanted)
			CHECK_EQ(session_want(own), 0);
		if (wanted == 1) {
			CHECK_EQ(session_gets(own, gateways, HOST_OBJECT, 1, &message), 1);
			CHECK(message.event == SESSION_OBJECT && message.bytes == 8);
		}
		CHECK_EQ(session_gets(own, gateways, HOST_OBJECT, wanted == 2 ? 2 : 1, &message),
			 -EBADMSG);
		CHECK_STR(error_text(), "which wants none");
		session_destroy(own);
		stream_destroy(gateways);
	}
}
