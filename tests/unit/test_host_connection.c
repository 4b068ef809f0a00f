/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * From an address to a stream (host/connection.h): a listener beside peers that say nothing,
 * something else, or have another key.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "host/connection.h"
#include "host/handshake.h"
#include "task/error.h"
#include "host.h"

#define MINUTE_NS (60 * NS_PER_S)

static struct address address;

static struct listener *new_listener(struct secret *secret, uint64_t timeout_ns)
{
	struct listener *listener = NULL;
	char own[ADDRESS_BYTES];
	int fd;

	CHECK_EQ(address_parse("host", "127.0.0.1:0", &address), 0);
	fd = address_listen(&address);
	CHECK(fd >= 0);
	address_of_own(fd, own);
	CHECK_EQ(address_parse("host", own, &address), 0);
	CHECK_EQ(listener_create(fd, secret, timeout_ns, &listener), 0);
	return listener;
}

/* Steps until a connection is there (1), or `refused` have been refused (0). */
static int serve(struct listener *listener, uint64_t refused, struct stream **stream,
		 char peer[ADDRESS_BYTES])
{
	struct pollfd polls[LISTENER_PENDING + 1];
	int result;

	while ((result = listener_step(listener, stream, peer)) == 0 &&
	       listener_refused(listener) < refused) {
		uint64_t deadline = listener_deadline(listener), now = now_ns();
		struct timespec rest = clock_timespec(deadline > now ? deadline - now : 0);

		ppoll(polls, listener_poll(listener, polls), deadline == NEVER ? NULL : &rest,
		      NULL);
	}
	return result;
}

static void *nowhere(void *context, const struct stream_message *message)
{
	(void)message;
	return context;
}

static int receive(struct stream *stream, struct stream_message *message)
{
	struct pollfd polled = { .fd = stream_fd(stream), .events = POLLIN };
	int result;

	while ((result = stream_receive(stream, nowhere, NULL, message)) == 0)
		poll(&polled, 1, -1);
	return result;
}

/* Forks a process that dials, and sends its own address. */
static pid_t dial_and_greet(const char *key)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct stream *stream = NULL;
		struct stream_message message;
		char own[ADDRESS_BYTES];
		int result;

		unit_bound(UNIT_SECONDS);
		result = connection_dial(&address, host_secret(key), MINUTE_NS,
					 deadline_in(MINUTE_NS), &stream, NULL);
		if (result < 0)
			_exit(-result);
		address_of_own(stream_fd(stream), own);
		if (stream_send(stream, 1, 0, 0, own, strlen(own) + 1) < 0 ||
		    stream_flush(stream) < 0)
			_exit(1);
		/* Until the other side closes. */
		_exit(receive(stream, &message) != -ECONNRESET);
	}
	return pid;
}

static int status_of(pid_t pid)
{
	int status = -1;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_good_one(struct listener *listener)
{
	pid_t pid = dial_and_greet("one key of both");
	struct stream *stream = NULL;
	struct stream_message message;
	char peer[ADDRESS_BYTES];

	REQUIRE(serve(listener, UINT64_MAX, &stream, peer) == 1);
	REQUIRE(receive(stream, &message) == 1);
	CHECK(strcmp(message.payload, peer) == 0);
	stream_destroy(stream);
	CHECK_EQ(status_of(pid), 0);
}

static int connect_raw(void)
{
	int fd = address_dial(&address, MINUTE_NS, deadline_in(MINUTE_NS));

	CHECK(fd >= 0);
	return fd;
}

HOST_TEST(what_was_dialled_is_a_stream_with_the_address_of_its_other_end)
{
	struct secret *secret = host_secret("one key of both");
	struct listener *listener = new_listener(secret, MINUTE_NS);

	CHECK_EQ(listener_deadline(listener), NEVER);
	for (int i = 0; i < 3; i++)
		expect_good_one(listener);
	CHECK_EQ(listener_refused(listener), 0);
	CHECK_EQ(listener_deadline(listener), NEVER);
	listener_destroy(listener);
	secret_destroy(secret);
}

HOST_TEST(a_listener_goes_on_beside_junk_silence_other_keys_and_ends)
{
	struct secret *secret = host_secret("one key of both");
	struct listener *listener = new_listener(secret, MINUTE_NS);
	int silent = connect_raw(), junk = connect_raw(), ended = connect_raw();
	struct stream *stream = NULL;
	char peer[ADDRESS_BYTES];
	pid_t other;

	CHECK_EQ(send(junk, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
	CHECK_EQ(send(ended, "dw-ho", 5, 0), 5);
	close(ended);
	other = dial_and_greet("another key");
	CHECK_EQ(serve(listener, 3, &stream, peer), 0);
	CHECK_EQ(listener_refused(listener), 3);
	CHECK_EQ(status_of(other), EKEYREJECTED);
	/* The silent connection is still pending. */
	CHECK(listener_deadline(listener) != NEVER);
	expect_good_one(listener);
	CHECK_EQ(listener_refused(listener), 3);
	close(silent);
	CHECK_EQ(serve(listener, 4, &stream, peer), 0);
	close(junk);
	listener_destroy(listener);
	secret_destroy(secret);
}

HOST_TEST(connections_that_say_nothing_are_bounded_in_number_and_time)
{
	struct secret *secret = host_secret("one key of both");
	struct listener *listener = new_listener(secret, 200000000ULL);
	struct pollfd polls[LISTENER_PENDING + 1];
	int silent[LISTENER_PENDING + 8];
	struct stream *stream = NULL;
	char peer[ADDRESS_BYTES];

	for (int i = 0; i < LISTENER_PENDING + 8; i++)
		silent[i] = connect_raw();
	CHECK_EQ(listener_step(listener, &stream, peer), 0);
	/* The listening socket is left alone while there is no place. */
	CHECK_EQ(listener_poll(listener, polls), LISTENER_PENDING);
	CHECK_EQ(serve(listener, LISTENER_PENDING + 8, &stream, peer), 0);
	CHECK_EQ(listener_refused(listener), LISTENER_PENDING + 8);
	CHECK_EQ(listener_poll(listener, polls), 1);
	for (int i = 0; i < LISTENER_PENDING + 8; i++)
		close(silent[i]);
	listener_destroy(listener);
	secret_destroy(secret);
}

/* Servers that are not nodes: each accepts one connection, and sends this. */
HOST_TEST(a_dialler_says_what_is_wrong_with_the_other_end)
{
	static const struct {
		const char *says;
		bool closes;
		int error;
		const char *text;
	} cases[] = {
		{ "HTTP/1.1 400 Bad Request\r\n", false, -EPROTO,
		  "is no distworker: its first bytes are 48 54 54 50 2f 31 2e 31" },
		{ "", true, -ECONNRESET, "ended the connection before" },
		{ "", false, -ETIMEDOUT, "says nothing" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct secret *secret = host_secret("one key of both");
		struct stream *stream = NULL;
		char own[ADDRESS_BYTES], prefix[ADDRESS_BYTES + 32];
		int listening, pipe_ends[2];
		pid_t pid;

		REQUIRE(address_parse("host", "127.0.0.1:0", &address) == 0);
		listening = address_listen(&address);
		address_of_own(listening, own);
		REQUIRE(address_parse("host", own, &address) == 0);
		CHECK_EQ(pipe(pipe_ends), 0);
		pid = fork();
		if (pid == 0) {
			struct pollfd polled = { .fd = listening, .events = POLLIN };
			struct greeting greeting;
			char end;
			int fd;

			close(pipe_ends[1]);
			poll(&polled, 1, -1);
			fd = address_accept(listening, MINUTE_NS);
			polled.fd = fd;
			poll(&polled, 1, -1);
			if (recv(fd, &greeting, sizeof(greeting), MSG_WAITALL) < 0)
				_exit(1);
			if (send(fd, cases[i].says, strlen(cases[i].says), 0) < 0)
				_exit(1);
			if (cases[i].closes)
				close(fd);
			_exit(read(pipe_ends[0], &end, 1) != 0);
		}
		close(pipe_ends[0]);
		CHECK_EQ(connection_dial(&address, secret, MINUTE_NS,
					 deadline_in(cases[i].error == -ETIMEDOUT ?
						     200000000ULL : MINUTE_NS), &stream, NULL),
			 cases[i].error);
		CHECK_STR(error_text(), cases[i].text);
		snprintf(prefix, sizeof(prefix), "host \"127.0.0.1\", port %s: ", address.port);
		CHECK_STR(error_text(), prefix);
		close(pipe_ends[1]);
		CHECK_EQ(status_of(pid), 0);
		close(listening);
		secret_destroy(secret);
	}
}
