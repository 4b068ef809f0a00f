/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A task that is cancelled while its inputs travel: the session answers at once, the gateway keeps
 * the rest, and the task behind it, which had counted on the same input, gets it of its own.
 */
#include <sys/wait.h>
#include "host/gateway.h"
#include "host/session.h"
#include "task/error.h"
#include "task/task.h"
#include "host.h"
#include "host_area.h"

#define FIRST 3 /* slots of 64 KiB */
#define SHARED 8

static bool in_area(void *context, uint64_t address, uint64_t bytes)
{
	uint64_t begin = address - (uint64_t)(uintptr_t)area;

	(void)context;
	return begin < SLOTS * SLOT_BYTES && bytes <= SLOTS * SLOT_BYTES - begin;
}

static void note_given_back(void *context, uint64_t address, uint64_t bytes)
{
	if (address <= (uint64_t)(uintptr_t)slot_at(FIRST) &&
	    address + bytes >= (uint64_t)(uintptr_t)slot_at(FIRST) + SLOT_BYTES)
		*(bool *)context = true;
}

static unsigned char content(size_t i)
{
	return (unsigned char)(i * 31 + (i >> 8));
}

static void next_message(struct session *session, struct session_message *message)
{
	struct pollfd polls[BULK_POLLS];
	int result;

	while ((result = session_step(session, message)) == 0)
		poll(polls, session_poll(session, polls), -1);
	if (!CHECK_EQ(result, 1)) {
		printf("# session: %s\n", error_text());
		_exit(1);
	}
}

/* The node's end, once the gateway has said all that it says by itself. */
static void serve(int fd, int go)
{
	bool given_back = false;
	const struct session_options options = {
		.memory = in_area, .give_back = note_given_back, .context = &given_back,
		.most_bytes = UINT64_MAX, .net = NET_TCP,
	};
	struct stream_counters counters;
	struct session_message message;
	struct session *session;
	size_t wrong = 0;
	char byte;

	memset(area, 0xee, SLOTS * SLOT_BYTES);
	CHECK_EQ(session_create(new_stream(fd, false), &options, &session), 0);
	CHECK_EQ(read(go, &byte, 1), 1);
	next_message(session, &message);
	session_counters(session, &counters);
	CHECK(message.event == SESSION_TASK && message.number == 1 && message.cancelled);
	/* The others had not begun when the cancellation was sent. */
	CHECK(counters.bytes_in <= SLOT_BYTES);
	CHECK_EQ(session_done(session, -ECANCELED, "cancelled", 0, 0), 0);
	next_message(session, &message);
	CHECK(message.event == SESSION_TASK && message.number == 2 && !message.cancelled);
	for (size_t i = 0; i < SLOT_BYTES; i++)
		wrong += slot_at(SHARED)[i] != content(i);
	CHECK_EQ(wrong, 0);
	/* Nobody holds what came of the other one. */
	CHECK(given_back);
	CHECK_EQ(session_done(session, 0, NULL, 0, 0), 0);
	next_message(session, &message);
	CHECK_EQ(message.event, SESSION_STOP);
	session_destroy(session);
	fflush(stdout);
	_exit(unit_failures != 0);
}

static uint64_t post(struct gateway *gateway, uint32_t count, const int *slots)
{
	const struct dw_config config = { .block_dim = 0 };
	struct dw_tensor tensors[4];
	struct frame_names uses[4];
	const struct dw_args args = { .tensor_count = count, .tensors = tensors, .view = true };
	const struct gateway_task task = {
		.task = 1, .callable = 1, .config = &config, .args = &args, .uses = uses,
	};
	uint64_t number = 0;

	for (uint32_t i = 0; i < count; i++) {
		tensors[i] = slot_tensor((unsigned)slots[i]);
		uses[i] = (struct frame_names){ .sees = (uint64_t)slots[i], .tag = DW_INPUT };
	}
	CHECK_EQ(gateway_post(gateway, &task, &number), 0);
	return number;
}

static void wait_done(struct gateway *gateway, uint64_t number, int error)
{
	struct gateway_done done = { .number = 0 };
	struct pollfd polls[BULK_POLLS];
	int result;

	while ((result = gateway_step(gateway, &done)) == 0)
		poll(polls, gateway_poll(gateway, polls), -1);
	CHECK(result == 1 && done.number == number && done.error == error);
}

HOST_TEST(a_task_that_is_cancelled_while_its_inputs_travel_ends_before_they_have_come)
{
	static const int all[] = { FIRST, SHARED, 4, 9 }, shared[] = { SHARED };
	struct gateway *gateway;
	struct gateway_done done;
	int ends[2], go[2], small = 4096, status;
	pid_t pid;

	map_area();
	make_sockets(ends);
	CHECK_EQ(pipe(go), 0);
	/* The first input does not fit into the sockets. */
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	setsockopt(ends[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (size_t i = 0; i < SLOT_BYTES; i++)
		slot_at(SHARED)[i] = content(i);
	pid = fork();
	if (pid == 0) {
		unit_failures = 0;
		unit_bound(UNIT_SECONDS);
		close(ends[0]);
		serve(ends[1], go[0]);
	}
	close(ends[1]);
	CHECK_EQ(gateway_create(new_stream(ends[0], true), &gateway), 0);
	CHECK_EQ(post(gateway, 4, all), 1);
	CHECK_EQ(post(gateway, 1, shared), 2);
	CHECK_EQ(gateway_step(gateway, &done), 0);
	CHECK_EQ(gateway_cancel(gateway, 1), 0);
	CHECK_EQ(write(go[1], "", 1), 1);
	wait_done(gateway, 1, -ECANCELED);
	wait_done(gateway, 2, 0);
	CHECK_EQ(gateway_stop(gateway), 0);
	CHECK_EQ(gateway_flush(gateway), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	gateway_destroy(gateway);
	close(go[0]);
	close(go[1]);
	unmap_area();
}
