/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A session, and a gateway, whose other end has the key and is out of its mind. The first byte
 * chooses which of the two. Then records: a byte that says what happens, and bytes for it. Tensors
 * lie in `area`, so that the sanitizer sees what is read or written beside it.
 */
#include <errno.h>
#include <sys/socket.h>
#include "host/gateway.h"
#include "host/pack.h"
#include "host/session.h"
#include "input.h"
#include "task/task.h"

#define AREA_BYTES 65536
#define TENSORS_MOST 3

static unsigned char *area;
static struct stream *peer;

struct input {
	const uint8_t *at;
	size_t left;
};

static uint8_t take8(struct input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->at++;
}

static uint32_t take16(struct input *input)
{
	uint32_t low = take8(input);

	return low | (uint32_t)take8(input) << 8;
}

/* Bytes of the input, as many as there are. */
static const uint8_t *take_bytes(struct input *input, size_t *bytes)
{
	const uint8_t *from = input->at;

	*bytes = *bytes < input->left ? *bytes : input->left;
	input->at += *bytes;
	input->left -= *bytes;
	return from;
}

static struct stream *new_stream(int end, const char *send, const char *receive)
{
	struct secret *out = NULL, *in = NULL;
	struct stream *stream;

	MUST(secret_create(send, strlen(send), &out) == 0);
	MUST(secret_create(receive, strlen(receive), &in) == 0);
	MUST(stream_create(end, out, in, 5000000000ULL, &stream) == 0);
	return stream;
}

/* Any message: its type, number and payload as the input has them. */
static void send_any(struct input *input, uint64_t number)
{
	uint8_t type = 1 + take8(input) % 16, how = take8(input);
	size_t bytes = take16(input);
	const uint8_t *payload = take_bytes(input, &bytes);

	if (how & 1)
		number += take8(input);
	stream_send(peer, type, number, (uint64_t)(uintptr_t)area + take16(input), payload, bytes);
}

static void send_data(struct input *input, uint64_t number)
{
	static const unsigned char bytes[AREA_BYTES];
	uint64_t address = (uint64_t)(uintptr_t)area + take16(input);

	stream_send_data(peer, number - take8(input) % 3, address, bytes, take16(input));
}

/* Tensors in the area and, seldom, beside it. */
static void make_task(struct input *input, struct dw_args *args, struct dw_tensor *tensors,
		      struct frame_names *uses)
{
	static uint64_t no_scalars[1];

	*args = (struct dw_args){
		.tensor_count = take8(input) % (TENSORS_MOST + 1), .tensors = tensors,
		.scalars = no_scalars, .view = true,
	};
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		uint32_t begin = take16(input), bytes = take16(input);

		if (take8(input) && begin + bytes > AREA_BYTES)
			bytes = AREA_BYTES - begin;
		tensors[i] = (struct dw_tensor){
			.data = (uint64_t)(uintptr_t)area + begin, .shape = { bytes }, .ndims = 1,
			.dtype = DW_UINT8,
		};
		uses[i] = (struct frame_names){
			.sees = take8(input) % 4, .makes = take8(input) % 4,
			.tag = take8(input) % 4,
		};
	}
}

/* ------------------------------------------------------------------------- session */

static bool in_area(void *context, uint64_t address, uint64_t bytes)
{
	uint64_t begin = address - (uint64_t)(uintptr_t)area;

	(void)context;
	return begin <= AREA_BYTES && bytes <= AREA_BYTES - begin;
}

static void give_back(void *context, uint64_t address, uint64_t bytes)
{
	MUST(in_area(context, address, bytes));
	memset((void *)(uintptr_t)address, 0x5a, bytes);
}

/* As a gateway packs it; then a byte of it may change. */
static void send_task(struct input *input, uint64_t number)
{
	struct dw_tensor tensors[TENSORS_MOST];
	struct frame_names uses[TENSORS_MOST];
	struct host_task_head head = { .task = 1, .callable = 1 };
	struct pack pack = { .data = NULL };
	struct dw_args args;
	uint32_t place;

	make_task(input, &args, tensors, uses);
	head.args_bytes = (uint32_t)wire_bytes(&args);
	for (uint32_t i = 0; i < args.tensor_count; i++)
		head.eager += host_reads(uses[i].tag) && tensors[i].shape[0] &&
			      tensors[i].shape[0] <= HOST_EAGER_BYTES;
	pack_bytes(&pack, &head, sizeof(head));
	wire_encode(&args, pack_space(&pack, head.args_bytes));
	pack_bytes(&pack, uses, args.tensor_count * sizeof(uses[0]));
	for (uint32_t i = 0; i < args.tensor_count; i++)
		pack_bytes(&pack, &(uint8_t){ take8(input) & 1 }, 1);
	for (uint32_t i = 0; i < args.tensor_count; i++)
		if (host_reads(uses[i].tag) && tensors[i].shape[0] <= HOST_EAGER_BYTES)
			memset(pack_space(&pack, tensors[i].shape[0]), 1, tensors[i].shape[0]);
	MUST(!pack.failed);
	place = take16(input);
	if (place < pack.used)
		pack.data[place] ^= take8(input);
	stream_send(peer, HOST_TASK, number, 0, pack.data, pack.used);
	pack_release(&pack);
}

static void *anywhere(void *context, const struct stream_message *message)
{
	static unsigned char bytes[STREAM_CHUNK_BYTES];

	(void)context;
	(void)message;
	return bytes;
}

/* The peer's socket never fills. */
static void drain(void)
{
	struct stream_message message;

	for (int empty = 0; empty < 2;)
		switch (stream_receive(peer, anywhere, NULL, &message)) {
		case 0:
			empty++;
			break;
		case 1:
			break;
		default:
			return;
		}
}

static int step_session(struct session *session, bool *busy)
{
	struct session_message message;
	int result;

	while ((result = session_step(session, &message)) == 1) {
		*busy |= message.event == SESSION_TASK || message.event == SESSION_CONTROL;
		if (message.event == SESSION_CONTROL && message.code % 2)
			session_want(session);
	}
	return result;
}

static void fuzz_session(int end, struct input *input)
{
	const struct session_options options = {
		.memory = in_area, .give_back = give_back, .most_bytes = AREA_BYTES / 2,
		.net = NET_TCP,
	};
	struct session *session;
	uint64_t number = 0;
	bool busy = false;
	int result = 0;

	MUST(session_create(new_stream(end, "down", "up"), &options, &session) == 0);
	while (input->left && result == 0) {
		switch (take8(input) % 8) {
		case 0:
			send_any(input, number + 1);
			break;
		case 1:
			stream_send(peer, HOST_CANCEL, number, 0, NULL, 0);
			break;
		case 2:
		case 3:
			send_data(input, number);
			break;
		case 4:
			if (busy)
				result = session_done(session, -(take8(input) % 3), "broken", 1, 1);
			busy = false;
			break;
		default:
			send_task(input, ++number);
		}
		stream_flush(peer);
		if (result == 0)
			result = step_session(session, &busy);
		drain();
	}
	session_destroy(session);
}

/* ------------------------------------------------------------------------- gateway */

static int give_object(void *context, uint64_t number, struct pack *file)
{
	(void)context;
	pack_u64(file, number);
	return number % 2 ? 0 : -ENOENT;
}

static void post_task(struct input *input, struct gateway *gateway)
{
	const struct dw_config config = { .block_dim = 0 };
	struct dw_tensor tensors[TENSORS_MOST];
	struct frame_names uses[TENSORS_MOST];
	struct dw_args args;
	struct gateway_task task = {
		.task = 1, .callable = 1, .config = &config, .args = &args, .uses = uses,
	};
	uint64_t number;

	make_task(input, &args, tensors, uses);
	/* The parent's own tensors are in its memory. */
	for (uint32_t i = 0; i < args.tensor_count; i++)
		if (!in_area(NULL, tensors[i].data, tensors[i].shape[0]))
			tensors[i].shape[0] = 1;
	gateway_post(gateway, &task, &number);
}

static void send_done(struct input *input, uint64_t number)
{
	const struct host_done_head head = { .error = -(int)(take8(input) % 3) };
	struct pack pack = { .data = NULL };

	pack_bytes(&pack, &head, sizeof(head));
	pack_text(&pack, head.error ? "broken" : NULL);
	stream_send_after(peer, HOST_DONE, number, 0, pack.data, pack.used);
	pack_release(&pack);
}

static void send_fetch(struct input *input, uint64_t number)
{
	uint64_t bytes = take16(input);

	stream_send(peer, HOST_FETCH, number, (uint64_t)(uintptr_t)area + take16(input), &bytes,
		    sizeof(bytes));
}

static void fuzz_gateway(int end, struct input *input)
{
	struct gateway *gateway;
	struct gateway_done done;
	uint64_t posted = 0, answered = 0;
	int result = 0;

	MUST(gateway_create(new_stream(end, "down", "up"), &gateway) == 0);
	gateway_on_object(gateway, give_object, NULL);
	while (input->left && result >= 0) {
		switch (take8(input) % 8) {
		case 0:
			send_any(input, answered + 1);
			break;
		case 1:
			send_done(input, answered + 1);
			break;
		case 2:
			send_fetch(input, answered + 1);
			break;
		case 3:
		case 4:
			send_data(input, answered + 1);
			break;
		default:
			post_task(input, gateway);
			posted++;
		}
		stream_flush(peer);
		while ((result = gateway_step(gateway, &done)) == 1)
			answered++;
		MUST(answered <= posted && gateway_in_flight(gateway) <= posted - answered);
		drain();
	}
	gateway_destroy(gateway);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	int ends[2];

	if (!size)
		return 0;
	area = malloc(AREA_BYTES);
	MUST(area);
	memset(area, 1, AREA_BYTES);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	peer = new_stream(ends[0], "up", "down");
	if (take8(&input) & 1)
		fuzz_session(ends[1], &input);
	else
		fuzz_gateway(ends[1], &input);
	stream_destroy(peer);
	free(area);
	return 0;
}
