/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * silence: notices that the other end of a connection acknowledges nothing.
 *
 * TCP_USER_TIMEOUT alone is late: with data on its way it counts from the first retransmission, and
 * the kernel waits for that as long as its estimate of the round trip says. One slow round trip, of
 * a first packet that waited for the peer's hardware address for example, makes that seconds.
 *
 * A timer looks every quarter of the timeout, 250 to 500 ms, whether the kernel still has bytes of
 * this connection that were there at the look before. It is armed by a send, and disarmed by a look
 * that finds all bytes acknowledged: an idle connection wakes nobody. Looks are counted, so that a
 * process that was stopped does not take its own absence for silence.
 *
 * Owns: the timer. One thread at a time, that of the stream.
 */
#ifndef DW_HOST_SILENCE_H
#define DW_HOST_SILENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct silence {
	int fd; /* a timerfd: readable when it is time for silence_look() */
	uint64_t period_ns;
	uint32_t most, looks; /* looks without progress: those that are allowed, and have been */
	uint64_t sent, acknowledged; /* bytes; the second one when it was armed or looked last */
	bool armed;
	uint64_t due_ns; /* of the next look */
};

/* -errno with a text. */
int silence_begin(struct silence *silence, uint64_t timeout_ns);
void silence_end(struct silence *silence);
void silence_set_timeout(struct silence *silence, uint64_t timeout_ns);
/* So many bytes were given to the socket. */
void silence_sent(struct silence *silence, int socket, size_t bytes);
/* Looks at the socket if it is time to: 0, or -ETIMEDOUT without a text. */
int silence_look(struct silence *silence, int socket);

#endif
