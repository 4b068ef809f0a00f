/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A gateway and a session (host/gateway.h, host/session.h) without a Worker: the session lives in a
 * forked process, whose memory has the same addresses and other contents. Programs of random tasks
 * have to leave the bytes that a model has, and to send no more than they have to.
 */
#include <errno.h>
#include <sys/wait.h>
#include "host/gateway.h"
#include "host/pack.h"
#include "host/session.h"
#include "task/error.h"
#include "task/task.h"
#include "base/clock.h"
#include "host_area.h"

#define FAILING 3			/* callable that fails */

static uint64_t first_runs_until;	/* bytes of data that have arrived */
static const struct dw_config no_config;

/* ---------------------------------------------------------------- the other process */

/*
 * A task's work, in the session and in the model: outputs depend on all inputs and on its number.
 */
static void compute(unsigned char *memory, const struct dw_args *args,
		    const struct frame_names *uses, uint64_t task)
{
	uint64_t sum = task * 0x9e3779b97f4a7c15ULL;

	for (uint32_t i = 0; i < args->tensor_count; i++) {
		const unsigned char *bytes = memory + (args->tensors[i].data -
						       (uint64_t)(uintptr_t)area);

		for (uint32_t j = 0; host_reads(uses[i].tag) && j < args->tensors[i].shape[0]; j++)
			sum = (sum ^ bytes[j]) * 0x100000001b3ULL;
	}
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		unsigned char *bytes = memory + (args->tensors[i].data -
						 (uint64_t)(uintptr_t)area);

		for (uint32_t j = 0; host_writes(uses[i].tag) && j < args->tensors[i].shape[0]; j++)
			bytes[j] = (unsigned char)((sum += 0x9e3779b97f4a7c15ULL) >> 56);
	}
}

static bool in_area(void *context, uint64_t address, uint64_t bytes)
{
	(void)context;
	return address - (uint64_t)(uintptr_t)area < SLOTS * SLOT_BYTES &&
	       bytes <= SLOTS * SLOT_BYTES - (address - (uint64_t)(uintptr_t)area);
}

/* Fills released memory, so that later use shows. */
static void spoil(void *context, uint64_t address, uint64_t bytes)
{
	++*(uint64_t *)context;
	memset((void *)(uintptr_t)address, 0x5a, bytes);
}

static void wait_for_session(const struct session *session)
{
	struct pollfd polls[BULK_POLLS];

	poll(polls, session_poll(session, polls), -1);
}

static void wait_for_gateway(const struct gateway *gateway)
{
	struct pollfd polls[BULK_POLLS];

	poll(polls, gateway_poll(gateway, polls), -1);
}

/* A task that takes a moment, during which more arrives. */
static void take_a_moment(struct session *session)
{
	struct session_message message;
	struct pollfd polls[BULK_POLLS];

	for (int i = 0; i < 4 && poll(polls, session_poll(session, polls), 1) > 0; i++)
		if (session_step(session, &message) < 0)
			return;
}

/* The first task runs until the data of the second one has arrived. */
static void take_until(struct session *session, uint64_t bytes)
{
	struct stream_counters counters;
	struct session_message message;

	for (;;) {
		session_counters(session, &counters);
		if (counters.bytes_in >= bytes)
			return;
		if (session_step(session, &message) < 0)
			return;
		session_counters(session, &counters);
		if (counters.bytes_in < bytes)
			wait_for_session(session);
	}
}

static void serve(int fd, uint64_t most_bytes, bool expect_stop)
{
	/* Outputs are still being sent when the next task runs. */
	static const int small = 4096;
	uint64_t given_back = 0;
	const struct session_options options = {
		.memory = in_area, .give_back = spoil, .context = &given_back,
		.most_bytes = most_bytes,
	};
	struct session_message message;
	struct session *session;
	int result;

	/* No byte of the parent's memory is known here. */
	memset(area, 0xee, SLOTS * SLOT_BYTES);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	if (session_create(new_stream(fd, false), &options, &session) < 0)
		_exit(1);
	for (;;) {
		result = session_step(session, &message);
		if (result < 0) {
			printf("# session: %s\n", error_text());
			_exit(expect_stop ? 1 : unit_failures ? 2 : 0);
		}
		if (result == 0) {
			wait_for_session(session);
			continue;
		}
		if (message.event == SESSION_STOP)
			break;
		if (message.event == SESSION_CANCEL)
			continue;
		if (message.event == SESSION_CONTROL) {
			CHECK_EQ(session_done(session, 0, NULL, now_ns(),
					      message.code + message.bytes), 0);
			continue;
		}
		if (message.event != SESSION_TASK)
			_exit(3);
		if (message.task == 1)
			take_until(session, first_runs_until);
		else if (message.task % 2)
			take_a_moment(session);
		compute(area, message.args, message.uses, message.task);
		if (message.cancelled)
			CHECK_EQ(session_done(session, -ECANCELED, "was cancelled", now_ns(),
					      0), 0);
		else if (message.callable == FAILING)
			CHECK_EQ(session_done(session, -EIO, "short read", now_ns(), 17), 0);
		else
			CHECK_EQ(session_done(session, 0, NULL, now_ns(), message.task), 0);
	}
	/* The session holds no more than it may. */
	session_destroy(session);
	_exit(expect_stop && !unit_failures ? 0 : 4);
}

struct peers {
	struct gateway *gateway;
	pid_t pid;
};

static void connect_peers(struct peers *peers, uint64_t most_bytes)
{
	int ends[2];

	map_area();
	make_sockets(ends);
	peers->pid = fork();
	if (peers->pid == 0) {
		unit_failures = 0;
		unit_bound(UNIT_SECONDS);
		close(ends[0]);
		serve(ends[1], most_bytes, true);
	}
	close(ends[1]);
	CHECK_EQ(gateway_create(new_stream(ends[0], true), &peers->gateway), 0);
}

/* The next that has ended. */
static struct gateway_done next_done(struct gateway *gateway)
{
	struct gateway_done done = { .error = -EPROTO };
	int result;

	while ((result = gateway_step(gateway, &done)) == 0)
		wait_for_gateway(gateway);
	if (!CHECK_EQ(result, 1))
		printf("# %s\n", error_text());
	return done;
}

static void stop_peers(struct peers *peers)
{
	struct gateway_done done;
	int status = -1;

	CHECK_EQ(gateway_stop(peers->gateway), 0);
	while (gateway_step(peers->gateway, &done) == 0)
		wait_for_gateway(peers->gateway);
	CHECK_STR(error_text(), "closed by the other side");
	gateway_destroy(peers->gateway);
	CHECK_EQ(waitpid(peers->pid, &status, 0), peers->pid);
	CHECK_EQ(status, 0);
	unmap_area();
}

/* ------------------------------------------------------------------------ programs */

struct program {
	struct peers peers;
	unsigned char *model;
	uint64_t names[SLOTS], last_name;
	uint64_t tasks;
	/* Counts the bytes that must travel: named contents that are already there need not. */
	uint64_t least_in, least_out;
	uint64_t there[SLOTS];		/* the name that the session was given last */
};

struct use {
	unsigned slot;
	uint32_t tag;
};

static void make_task(struct program *program, const struct use *uses, uint32_t count,
		      struct dw_tensor *tensors, struct frame_names *host, struct dw_args *args)
{
	*args = (struct dw_args){ .tensor_count = count, .tensors = tensors, .view = true };
	for (uint32_t i = 0; i < count; i++) {
		unsigned slot = uses[i].slot;

		tensors[i] = slot_tensor(slot);
		host[i] = (struct frame_names){ .tag = uses[i].tag };
		if (host_reads(uses[i].tag))
			host[i].sees = program->names[slot];
		if (host_writes(uses[i].tag))
			host[i].makes = ++program->last_name;
	}
}

/* Computes what must travel for the task, and the memory after it. */
static void model_task(struct program *program, const struct use *uses, uint32_t count,
		       const struct dw_args *args, const struct frame_names *host, uint64_t task,
		       bool fails)
{
	for (uint32_t i = 0; i < count; i++) {
		unsigned slot = uses[i].slot;
		uint32_t bytes = slot_bytes(slot);

		if (host_reads(uses[i].tag) &&
		    (bytes <= HOST_EAGER_BYTES || !host[i].sees ||
		     program->there[slot] != host[i].sees))
			program->least_in += bytes;
		if (host_reads(uses[i].tag))
			program->there[slot] = host[i].sees;
		if (host_writes(uses[i].tag))
			program->there[slot] = fails ? 0 : host[i].makes;
		if (host_writes(uses[i].tag) && !fails)
			program->names[slot] = host[i].makes;
		if (host_writes(uses[i].tag) && !fails)
			program->least_out += bytes;
	}
	if (!fails)
		compute(program->model, args, host, task);
}

static uint64_t post(struct program *program, const struct use *uses, uint32_t count,
		     uint64_t callable)
{
	struct dw_tensor tensors[4];
	struct frame_names host[4];
	struct dw_args args;
	struct gateway_task task = {
		.task = ++program->tasks, .callable = callable, .config = &no_config,
		.args = &args, .uses = host,
	};
	uint64_t number = 0;

	make_task(program, uses, count, tensors, host, &args);
	if (!CHECK_EQ(gateway_post(program->peers.gateway, &task, &number), 0))
		printf("# %s\n", error_text());
	model_task(program, uses, count, &args, host, task.task, callable == FAILING);
	return number;
}

static void expect_done(struct program *program, uint64_t number, uint64_t callable)
{
	struct gateway_done done = next_done(program->peers.gateway);

	CHECK_EQ(done.number, number);
	CHECK_EQ(done.error, callable == FAILING ? -EIO : 0);
	CHECK(strcmp(done.text, callable == FAILING ? "short read" : "") == 0);
}

static void begin_program(struct program *program, uint64_t most_bytes)
{
	memset(program, 0, sizeof(*program));
	connect_peers(&program->peers, most_bytes);
	program->model = malloc(SLOTS * SLOT_BYTES);
	for (size_t i = 0; i < SLOTS * SLOT_BYTES; i++)
		area[i] = program->model[i] = (unsigned char)(i * 2654435761u >> 24);
}

static void end_program(struct program *program, uint64_t *in, uint64_t *out)
{
	struct gateway_counters counters;

	CHECK(memcmp(area, program->model, SLOTS * SLOT_BYTES) == 0);
	gateway_counters(program->peers.gateway, &counters);
	*in = counters.bytes_out;
	*out = counters.bytes_in;
	stop_peers(&program->peers);
	free(program->model);
}

/* May a task with these uses be posted while one with those is in flight? */
static bool independent(const struct use *a, uint32_t a_count, const struct use *b,
			uint32_t b_count)
{
	for (uint32_t i = 0; i < a_count; i++)
		for (uint32_t j = 0; j < b_count; j++)
			if (a[i].slot == b[j].slot &&
			    (host_writes(a[i].tag) || host_writes(b[j].tag)))
				return false;
	return true;
}

static unsigned next_random(unsigned *state)
{
	*state = *state * 1103515245u + 12345u;
	return *state >> 8;
}

static uint32_t random_uses(unsigned *random, struct use uses[4])
{
	uint32_t count = 1 + next_random(random) % 4, used = 0;

	for (uint32_t i = 0; i < count; i++) {
		unsigned slot;

		do
			slot = next_random(random) % SLOTS;
		while (used & 1u << slot);
		used |= 1u << slot;
		uses[i] = (struct use){ slot, next_random(random) % 3 };	/* IN, OUT, INOUT */
	}
	return count;
}

/* Host code has written these bytes, so they have no name. */
static void host_writes_slot(struct program *program, unsigned slot, unsigned char with)
{
	memset(slot_at(slot), with, slot_bytes(slot));
	memset(program->model + (size_t)slot * SLOT_BYTES, with, slot_bytes(slot));
	program->names[slot] = 0;
}

static void random_program(unsigned seed, uint64_t most_bytes)
{
	struct use pending[4] = { { 0, 0 } }, uses[4];
	uint32_t pending_count = 0, count;
	uint64_t pending_number = 0, pending_callable = 0, number, callable, in, out;
	struct program program;
	unsigned random = seed;

	begin_program(&program, most_bytes);
	for (unsigned i = 0; i < 60; i++) {
		count = random_uses(&random, uses);
		callable = next_random(&random) % 8 ? 1 : FAILING;
		if (pending_number && !independent(uses, count, pending, pending_count)) {
			expect_done(&program, pending_number, pending_callable);
			pending_number = 0;
		}
		if (!pending_number && next_random(&random) % 4 == 0)
			host_writes_slot(&program, next_random(&random) % SLOTS, (unsigned char)i);
		number = post(&program, uses, count, callable);
		if (pending_number)
			expect_done(&program, pending_number, pending_callable);
		memcpy(pending, uses, sizeof(uses));
		pending_count = count;
		pending_number = number;
		pending_callable = callable;
	}
	expect_done(&program, pending_number, pending_callable);
	if (!CHECK(memcmp(area, program.model, SLOTS * SLOT_BYTES) == 0))
		printf("# seed %u\n", seed);
	end_program(&program, &in, &out);
	CHECK_EQ(out, program.least_out);
	if (most_bytes == UINT64_MAX)
		CHECK_EQ(in, program.least_in);
	else
		CHECK(in >= program.least_in);
}

HOST_TEST(programs_of_random_tasks_leave_the_bytes_of_a_model_and_send_no_more_than_they_must)
{
	for (unsigned seed = 1; seed <= 40 && !unit_failures; seed++)
		random_program(seed, UINT64_MAX);
}

HOST_TEST(programs_on_a_host_that_may_hold_little_leave_the_same_bytes)
{
	for (unsigned seed = 1; seed <= 40 && !unit_failures; seed++)
		random_program(seed, seed % 3 * 50000);
}

HOST_TEST(an_input_that_does_not_change_travels_once)
{
	const struct use uses[] = { { 3, DW_INPUT }, { 8, DW_INOUT } };	/* 65536, 65536 bytes */
	struct program program;
	uint64_t in, out;

	begin_program(&program, UINT64_MAX);
	program.names[3] = ++program.last_name;
	program.names[8] = ++program.last_name;
	for (int i = 0; i < 100; i++)
		expect_done(&program, post(&program, uses, 2, 1), 1);
	end_program(&program, &in, &out);
	CHECK_EQ(in, 2 * 65536);
	CHECK_EQ(out, 100 * 65536);
}

/* A failed task leaves no name, so the next one gets the contents from home. */
HOST_TEST(an_attempt_that_failed_is_repeated_with_what_the_first_one_found)
{
	const struct use uses[] = { { 3, DW_INOUT } };
	struct program program;
	uint64_t in, out;

	begin_program(&program, UINT64_MAX);
	program.names[3] = ++program.last_name;
	for (int i = 0; i < 5; i++)
		expect_done(&program, post(&program, uses, 1, FAILING), FAILING);
	expect_done(&program, post(&program, uses, 1, 1), 1);
	end_program(&program, &in, &out);
	CHECK_EQ(in, 6 * 65536);
	CHECK_EQ(out, 65536);
}

/* The second attempt ran elsewhere: its contents differ from those that the first left here. */
HOST_TEST(contents_of_an_attempt_that_failed_have_no_name)
{
	const struct use writes[] = { { 3, DW_OUTPUT } }, reads[] = { { 3, DW_INPUT },
								       { 8, DW_OUTPUT } };
	struct program program;
	uint64_t in, out;

	begin_program(&program, UINT64_MAX);
	expect_done(&program, post(&program, writes, 1, FAILING), FAILING);
	host_writes_slot(&program, 3, 0x77);
	program.names[3] = program.last_name;
	expect_done(&program, post(&program, reads, 2, 1), 1);
	end_program(&program, &in, &out);
	CHECK_EQ(in, 65536);
}

/* Contents without a name are given back after their task, unless the next one has them too. */
HOST_TEST(what_the_next_task_reads_is_not_given_back)
{
	const struct use first[] = { { 3, DW_INPUT } }, second[] = { { 3, DW_INPUT },
								     { 8, DW_OUTPUT } };
	struct program program;
	uint64_t number[2], in, out;

	first_runs_until = 2 * 65536;
	begin_program(&program, UINT64_MAX);
	first_runs_until = 0;
	number[0] = post(&program, first, 1, 1);
	number[1] = post(&program, second, 2, 1);
	expect_done(&program, number[0], 1);
	expect_done(&program, number[1], 1);
	end_program(&program, &in, &out);
	CHECK_EQ(in, 2 * 65536);
}

HOST_TEST(control_messages_are_served_in_their_turn)
{
	const struct use uses[] = { { 3, DW_INOUT } };
	struct program program;
	struct gateway_done done;
	uint64_t number[3], in, out, before = now_ns();

	begin_program(&program, UINT64_MAX);
	number[0] = post(&program, uses, 1, 1);
	CHECK_EQ(gateway_control(program.peers.gateway, 1000, "blob", 4, &number[1]), 0);
	CHECK_EQ(gateway_control(program.peers.gateway, 2000, NULL, 0, &number[2]), 0);
	CHECK_EQ(gateway_in_flight(program.peers.gateway), 3);
	expect_done(&program, number[0], 1);
	done = next_done(program.peers.gateway);
	CHECK(done.began_ns >= before && done.began_ns <= now_ns());
	CHECK(offset_round_trip(gateway_offset(program.peers.gateway)) > 0);
	CHECK(done.number == number[1] && done.error == 0 && done.ran_ns == 1004);
	done = next_done(program.peers.gateway);
	CHECK(done.number == number[2] && done.error == 0 && done.ran_ns == 2000);
	CHECK_EQ(gateway_in_flight(program.peers.gateway), 0);
	end_program(&program, &in, &out);
}

HOST_TEST(a_task_that_is_cancelled_before_its_turn_is_handed_out_as_cancelled)
{
	const struct use first[] = { { 3, DW_INOUT } }, second[] = { { 8, DW_INOUT } };
	struct program program;
	struct gateway_done done;
	uint64_t number[2], in, out;
	unsigned char before[65536];

	begin_program(&program, UINT64_MAX);
	memcpy(before, slot_at(8), sizeof(before));
	number[0] = post(&program, first, 1, 1);
	number[1] = post(&program, second, 1, 1);
	/* Its input is of several chunks, which come after this. */
	CHECK_EQ(gateway_cancel(program.peers.gateway, number[1]), 0);
	CHECK_EQ(gateway_cancel(program.peers.gateway, 4711), 0);
	expect_done(&program, number[0], 1);
	done = next_done(program.peers.gateway);
	CHECK(done.number == number[1] && done.error == -ECANCELED);
	CHECK(memcmp(before, slot_at(8), sizeof(before)) == 0);
	memcpy(program.model + 8 * SLOT_BYTES, before, sizeof(before));
	end_program(&program, &in, &out);
}

HOST_TEST(tags_that_another_host_cannot_serve_are_refused_by_name)
{
	const struct use bad[] = { { 0, DW_NO_DEP }, { 0, DW_OUTPUT_EXISTING } };
	struct dw_tensor tensor;
	struct frame_names host;
	struct dw_args args;
	struct program program;
	struct gateway_task task = {
		.callable = 1, .config = &no_config, .args = &args, .uses = &host,
	};
	uint64_t number, in, out;

	begin_program(&program, UINT64_MAX);
	for (int i = 0; i < 2; i++) {
		make_task(&program, &bad[i], 1, &tensor, &host, &args);
		CHECK_EQ(gateway_post(program.peers.gateway, &task, &number), -EOPNOTSUPP);
		CHECK_STR(error_text(), i ? "OUTPUT_EXISTING" : "NO_DEP");
	}
	CHECK_EQ(gateway_in_flight(program.peers.gateway), 0);
	end_program(&program, &in, &out);
}

/* ------------------------------------------------------------------- broken peers */

static void *nowhere(void *context, const struct stream_message *message)
{
	(void)message;
	return context;
}

/* A session that answers task 1 (slot 3 in, slot 8 out) against the protocol. */
struct lie {
	uint8_t type;
	uint64_t number;
	unsigned slot;
	uint64_t offset, bytes;
	const char *says;
};

static void lie_as_session(int fd, const struct lie *lie)
{
	struct stream *stream = new_stream(fd, false);
	uint64_t address = (uint64_t)(uintptr_t)slot_at(lie->slot) + lie->offset;
	static unsigned char zeros[SLOT_BYTES];
	struct stream_message message;
	int result;

	while ((result = stream_receive(stream, nowhere, zeros, &message)) == 0)
		wait_for(fd, false);
	if (lie->type == HOST_DATA)
		stream_send_data(stream, lie->number, address, zeros, lie->bytes);
	else if (lie->type == HOST_DONE)
		stream_send(stream, HOST_DONE, lie->number, 0, zeros, lie->bytes);
	else
		stream_send(stream, lie->type, lie->number, address, &lie->bytes,
			    sizeof(lie->bytes));
	stream_flush(stream);
	while (stream_receive(stream, nowhere, zeros, &message) == 0)
		wait_for(fd, false);
	_exit(result != 1);
}

HOST_TEST(a_session_reads_and_writes_nothing_that_its_task_does_not)
{
	static const struct lie lies[] = {
		{ HOST_FETCH, 1, 8, 0, 65536, "which task 1 does not read" },	/* an output */
		{ HOST_FETCH, 1, 3, 0, 65537, "asked for 65537 bytes" },
		{ HOST_FETCH, 1, 3, 65535, 2, "does not read" },
		{ HOST_FETCH, 1, 3, 1, UINT64_MAX, "does not read" },
		{ HOST_FETCH, 2, 3, 0, 65536, "which task 2 does not read" },
		{ HOST_FETCH, 1, 4, 0, 16, "does not read" },
		{ HOST_DATA, 1, 3, 0, 16, "which task 1 does not write" },	/* an input */
		{ HOST_DATA, 1, 8, 65535, 2, "does not write" },
		{ HOST_DATA, 1, 0, 0, 16, "does not write" },
		{ HOST_DATA, 2, 8, 0, 16, "does not write" },
		{ HOST_DONE, 2, 0, 0, 20, "ended task 2" },
		{ HOST_DONE, 1, 0, 0, 19, "ended task 1" },
		{ HOST_DONE, 1, 0, 0, 21, "ended task 1" },
		{ HOST_READY, 0, 0, 0, 0, "not its turn" },
		{ 200, 0, 0, 0, 0, "message of type 200" },
	};

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		const struct use uses[] = { { 3, DW_INPUT }, { 8, DW_OUTPUT } };
		struct program program = { .last_name = 0 };
		struct gateway_done done;
		int ends[2], result, status = -1;
		unsigned char *before;

		map_area();
		memset(area, 0x11, SLOTS * SLOT_BYTES);
		before = malloc(SLOTS * SLOT_BYTES);
		program.model = malloc(SLOTS * SLOT_BYTES);
		memset(program.model, 0, SLOTS * SLOT_BYTES);
		memcpy(before, area, SLOTS * SLOT_BYTES);
		make_sockets(ends);
		program.peers.pid = fork();
		if (program.peers.pid == 0) {
			close(ends[0]);
			lie_as_session(ends[1], &lies[i]);
		}
		close(ends[1]);
		CHECK_EQ(gateway_create(new_stream(ends[0], true), &program.peers.gateway), 0);
		post(&program, uses, 2, 1);
		while ((result = gateway_step(program.peers.gateway, &done)) == 0)
			wait_for_gateway(program.peers.gateway);
		CHECK_EQ(result, -EBADMSG);
		CHECK_STR(error_text(), lies[i].says);
		CHECK(memcmp(area, before, SLOTS * SLOT_BYTES) == 0);
		gateway_destroy(program.peers.gateway);
		CHECK_EQ(waitpid(program.peers.pid, &status, 0), program.peers.pid);
		CHECK_EQ(status, 0);
		free(program.model);
		free(before);
		unmap_area();
	}
}

/* The requested data is no longer sent: the memory belongs to the caller again. */
HOST_TEST(a_session_that_answers_before_its_inputs_are_there_gets_no_more_of_them)
{
	const struct use uses[] = { { 3, DW_INPUT }, { 8, DW_INPUT } };
	const struct host_done_head head = { .error = 0 };
	struct program program = { .last_name = 0 };
	struct gateway_done done;
	struct stream *liar;
	uint64_t bytes = 65536;
	int ends[2], small = 4096;
	unsigned char payload[sizeof(head) + 4] = { 0 };
	static unsigned char chunk[STREAM_CHUNK_BYTES];
	struct stream_counters counters;
	struct stream_message message;
	struct pollfd polls[BULK_POLLS];

	map_area();
	program.model = calloc(1, SLOTS * SLOT_BYTES);
	make_sockets(ends);
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	liar = new_stream(ends[1], false);
	CHECK_EQ(gateway_create(new_stream(ends[0], true), &program.peers.gateway), 0);
	post(&program, uses, 2, 1);
	memcpy(payload, &head, sizeof(head));
	for (int slot = 3; slot <= 8; slot += 5)
		stream_send(liar, HOST_FETCH, 1, (uint64_t)(uintptr_t)slot_at(slot), &bytes, 8);
	stream_send(liar, HOST_DONE, 1, 0, payload, sizeof(payload));
	CHECK_EQ(stream_flush(liar), 0);
	done = next_done(program.peers.gateway);
	CHECK(done.number == 1 && done.error == 0);
	for (bool pending = true; pending;) {
		gateway_poll(program.peers.gateway, polls);
		pending = polls[0].events & POLLOUT;
		CHECK_EQ(gateway_step(program.peers.gateway, &done), 0);
		while (stream_receive(liar, nowhere, chunk, &message) > 0)
			;
	}
	/* Skips the chunk that had begun. */
	stream_counters(liar, &counters);
	CHECK_EQ(counters.bytes_in, SLOT_BYTES);
	stream_destroy(liar);
	gateway_destroy(program.peers.gateway);
	free(program.model);
	unmap_area();
}

/* Tasks as a gateway packs them, and then with one change. */
enum spoil_how {
	NOT, SHORT, LONG, ARGS_LONGER, MORE_EAGER, LESS_EAGER, TENSOR_OUTSIDE, NUMBER, HOWS
};

static void send_spoilt_task(struct stream *stream, enum spoil_how how)
{
	struct dw_tensor tensors[2] = { slot_tensor(0), slot_tensor(3) };
	const struct frame_names uses[2] = { { .tag = DW_INPUT }, { .tag = DW_OUTPUT } };
	struct dw_args args = { .tensor_count = 2, .tensors = tensors, .view = true };
	struct host_task_head head = { .task = 1, .callable = 1, .eager = 1 };
	struct pack pack = { .data = NULL };

	if (how == TENSOR_OUTSIDE)
		tensors[1].data += SLOTS * SLOT_BYTES;
	head.args_bytes = (uint32_t)wire_bytes(&args) + (how == ARGS_LONGER ? 1u << 31 : 0);
	head.eager += how == MORE_EAGER;
	head.eager -= how == LESS_EAGER;
	pack_bytes(&pack, &head, sizeof(head));
	wire_encode(&args, pack_space(&pack, wire_bytes(&args)));
	pack_bytes(&pack, uses, sizeof(uses));
	pack_bytes(&pack, "\0\0", 2);
	pack_bytes(&pack, "sixteen bytes...", how == SHORT ? 15 : 16);
	if (how == LONG)
		pack_bytes(&pack, "", 1);
	CHECK_EQ(stream_send(stream, HOST_TASK, how == NUMBER ? 2 : 1, 0, pack.data, pack.used), 0);
	pack_release(&pack);
}

HOST_TEST(a_task_that_makes_no_sense_ends_the_connection)
{
	uint64_t given_back = 0;
	const struct session_options options = {
		.memory = in_area, .give_back = spoil, .context = &given_back,
		.most_bytes = UINT64_MAX,
	};

	map_area();
	for (int how = NOT; how < HOWS; how++) {
		struct session_message message;
		struct session *session;
		struct stream *stream;
		int ends[2], result;

		make_sockets(ends);
		stream = new_stream(ends[0], true);
		CHECK_EQ(session_create(new_stream(ends[1], false), &options, &session), 0);
		send_spoilt_task(stream, how);
		CHECK_EQ(stream_flush(stream), 0);
		result = session_step(session, &message);
		if (how == NOT)
			CHECK(result == 1 && message.event == SESSION_TASK &&
			      memcmp(slot_at(0), "sixteen bytes...", 16) == 0);
		else
			CHECK_EQ(result, -EBADMSG);
		if (how == TENSOR_OUTSIDE)
			CHECK_STR(error_text(), "tensor 1");
		session_destroy(session);
		stream_destroy(stream);
	}
	unmap_area();
}

HOST_TEST(a_gateway_that_sends_more_ahead_than_it_may_or_data_that_nobody_asked_for_is_refused)
{
	uint64_t given_back = 0;
	const struct session_options options = {
		.memory = in_area, .give_back = spoil, .context = &given_back,
	};

	map_area();
	for (int data = 0; data < 3; data++) {
		struct dw_tensor tensors[2] = { slot_tensor(3), slot_tensor(8) };
		const struct frame_names uses[2] = { { .tag = DW_INPUT }, { .tag = DW_INPUT } };
		struct dw_args args = { .tensor_count = 2, .tensors = tensors, .view = true };
		struct host_task_head head = { .args_bytes = (uint32_t)wire_bytes(&args) };
		struct pack pack = { .data = NULL };
		struct session_message message;
		struct session *session;
		struct stream *stream;
		uint64_t code = 1;
		int ends[2];

		make_sockets(ends);
		stream = new_stream(ends[0], true);
		CHECK_EQ(session_create(new_stream(ends[1], false), &options, &session), 0);
		pack_bytes(&pack, &head, sizeof(head));
		wire_encode(&args, pack_space(&pack, wire_bytes(&args)));
		pack_bytes(&pack, uses, sizeof(uses));
		pack_bytes(&pack, "\0\0", 2);
		/* The end of a tensor, and the beginning of the bytes behind it. */
		if (data == 2)
			CHECK_EQ(stream_send(stream, HOST_TASK, 1, 0, pack.data, pack.used), 0);
		if (data)
			stream_send_data(stream, 1, tensors[0].data + (data == 2 ? 65534 : 0),
					 "four", 4);
		pack_release(&pack);
		for (uint64_t i = 1; i <= SESSION_AHEAD + 1 && !data; i++)
			CHECK_EQ(stream_send(stream, HOST_CONTROL, i, 0, &code, sizeof(code)), 0);
		CHECK_EQ(stream_flush(stream), 0);
		if (!data)
			CHECK_EQ(session_step(session, &message), 1);
		CHECK_EQ(session_step(session, &message), -EBADMSG);
		CHECK_STR(error_text(), data ? "which nobody asked for" : "more than 64 messages");
		CHECK(area[0] == 0 && slot_at(4)[0] == 0);
		session_destroy(session);
		stream_destroy(stream);
	}
	unmap_area();
}
