/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* What a gateway (host/gateway.h) sends by itself: its session is made by hand, in this process. */
#include <poll.h>
#include "host/gateway.h"
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
	struct pollfd polls[2];
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
