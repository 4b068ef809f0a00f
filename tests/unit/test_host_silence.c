/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A stream whose other end acknowledges nothing (host/silence.h). Between the ends is a pair of
 * UNIX sockets: bytes that the other end has not read count as not acknowledged. The tests count
 * looks.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include "host/stream.h"
#include "task/error.h"
#include "host.h"

#define SECOND_NS 1000000000ULL

/* The other end is the bare socket. */
struct pair {
	struct stream *a;
	int b;
};

static void make_pair(struct pair *pair, uint64_t timeout_ns)
{
	int ends[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	CHECK_EQ(stream_create(ends[0], host_secret("up"), host_secret("down"), timeout_ns,
			       &pair->a), 0);
	pair->b = ends[1];
}

static void drop_pair(struct pair *pair)
{
	stream_destroy(pair->a);
	close(pair->b);
}

static void send_one(struct pair *pair)
{
	CHECK_EQ(stream_send(pair->a, 1, 1, 0, NULL, 0), 0);
	CHECK_EQ(stream_flush(pair->a), 0);
}

/* A header, and its code. */
static void take_one(struct pair *pair)
{
	char message[56];

	CHECK_EQ(recv(pair->b, message, sizeof(message), 0), sizeof(message));
}

static int timer_of(const struct stream *stream)
{
	struct pollfd polls[STREAM_POLLS];

	CHECK_EQ(stream_poll(stream, true, polls), STREAM_POLLS);
	return polls[1].fd;
}

static bool is_armed(const struct stream *stream)
{
	struct itimerspec left;

	CHECK_EQ(timerfd_gettime(timer_of(stream), &left), 0);
	return left.it_value.tv_sec || left.it_value.tv_nsec;
}

/* Waits for the timer alone, and looks. */
static int look(struct stream *stream)
{
	struct pollfd timer = { .fd = timer_of(stream), .events = POLLIN };

	CHECK_EQ(poll(&timer, 1, -1), 1);
	return stream_flush(stream);
}

HOST_TEST(an_end_that_acknowledges_nothing_is_given_up_after_a_count_of_looks)
{
	struct pair pair;
	int looks = 1;

	/* Four looks in a second, and one for the kernel to be first. */
	make_pair(&pair, SECOND_NS);
	send_one(&pair);
	while (look(pair.a) == 0)
		looks++;
	CHECK_EQ(looks, 5);
	CHECK_STR(error_text(), "no answer for 1.0 s");
	drop_pair(&pair);
}

HOST_TEST(a_shorter_timeout_leaves_time_for_a_late_acknowledgement)
{
	struct pair pair;
	int looks = 1;

	make_pair(&pair, 1);
	send_one(&pair);
	while (look(pair.a) == 0)
		looks++;
	CHECK_EQ(looks, 2);
	drop_pair(&pair);
}

HOST_TEST(each_acknowledgement_begins_the_count_anew)
{
	struct pair pair;

	make_pair(&pair, 1);
	for (int i = 0; i < 6; i++)
		send_one(&pair);
	for (int i = 0; i < 5; i++) {
		take_one(&pair);
		CHECK_EQ(look(pair.a), 0);
		CHECK(is_armed(pair.a));
	}
	/* Two looks without one end it; the last of the loop was not one of these. */
	CHECK_EQ(look(pair.a), 0);
	CHECK_EQ(look(pair.a), -ETIMEDOUT);
	drop_pair(&pair);
}

HOST_TEST(a_stream_whose_bytes_are_acknowledged_wakes_nobody)
{
	struct pair pair;

	make_pair(&pair, SECOND_NS);
	CHECK(!is_armed(pair.a));
	send_one(&pair);
	CHECK(is_armed(pair.a));
	take_one(&pair);
	CHECK_EQ(look(pair.a), 0);
	CHECK(!is_armed(pair.a));
	/* It counts again after the next send. */
	send_one(&pair);
	CHECK(is_armed(pair.a));
	for (int i = 0; i < 4; i++)
		CHECK_EQ(look(pair.a), 0);
	CHECK_EQ(look(pair.a), -ETIMEDOUT);
	drop_pair(&pair);
}
