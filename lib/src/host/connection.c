/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See connection.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/deadline.h"
#include "host/connection.h"
#include "host/handshake.h"
#include "task/error.h"

/* Makes the stream after a handshake. Takes the socket, even if it fails. */
static int become_stream(const struct handshake *handshake, int fd, uint64_t timeout_ns,
			 struct stream **stream)
{
	struct secret *send, *receive;
	int result = handshake_keys(handshake, &send, &receive);

	if (result < 0) {
		close(fd);
		return result;
	}
	return stream_create(fd, send, receive, timeout_ns, stream);
}

/* ------------------------------------------------------------------------ dialling */

/* Waits until the socket is readable: 0, or -ETIMEDOUT with a text. */
static int wait_readable(int fd, struct deadline *deadline)
{
	struct pollfd polled = { .fd = fd, .events = POLLIN };
	struct timespec rest;
	uint64_t now, until;
	int result;

	do {
		now = now_ns();
		until = deadline_sleep(deadline, now);
		rest = clock_timespec(until - now);
		result = ppoll(&polled, 1, until == NEVER ? NULL : &rest, NULL);
		if (result == 0 && deadline_passed(deadline, now_ns()))
			return error_set(-ETIMEDOUT, "it has accepted the connection and says "
					 "nothing");
	} while (result == 0);
	return 0;
}

static int shake_hands(int fd, struct secret *secret, uint64_t deadline_ns,
		       struct handshake *handshake)
{
	struct deadline deadline = deadline_at(deadline_ns);
	int result = handshake_begin(handshake, secret, true, fd);

	while (result == 0) {
		result = handshake_step(handshake, fd);
		if (result == 0)
			result = wait_readable(fd, &deadline);
	}
	return result < 0 ? result : 0;
}

int connection_dial(const struct address *address, struct secret *secret, uint64_t timeout_ns,
		    uint64_t deadline_ns, struct stream **stream, struct offset_sample *sample)
{
	struct handshake handshake;
	int fd = address_dial(address, timeout_ns, deadline_ns), result;

	if (fd < 0)
		return fd;
	result = shake_hands(fd, secret, deadline_ns, &handshake);
	if (result < 0) {
		close(fd);
		return error_prefix(result, "host \"%s\", port %s: ", address->host,
				    address->port);
	}
	if (sample)
		*sample = handshake_sample(&handshake);
	return become_stream(&handshake, fd, timeout_ns, stream);
}

/* ----------------------------------------------------------------------- listening */

struct pending {
	int fd;				/* -1: this place is free */
	uint64_t deadline_ns;
	struct handshake handshake;
};

struct listener {
	int fd;
	struct secret *secret;
	uint64_t timeout_ns;
	uint64_t refused;
	uint32_t count;			/* pending connections */
	struct pending pending[LISTENER_PENDING];
};

int listener_create(int fd, struct secret *secret, uint64_t timeout_ns, struct listener **result)
{
	struct listener *listener = calloc(1, sizeof(*listener));

	if (!listener) {
		close(fd);
		return error_set(-ENOMEM, "no memory for a listener");
	}
	listener->fd = fd;
	listener->secret = secret;
	listener->timeout_ns = timeout_ns;
	for (uint32_t i = 0; i < LISTENER_PENDING; i++)
		listener->pending[i].fd = -1;
	*result = listener;
	return 0;
}

void listener_destroy(struct listener *listener)
{
	if (!listener)
		return;
	for (uint32_t i = 0; i < LISTENER_PENDING; i++)
		if (listener->pending[i].fd >= 0)
			close(listener->pending[i].fd);
	close(listener->fd);
	free(listener);
}

uint64_t listener_refused(const struct listener *listener)
{
	return listener->refused;
}

/* While no place is free, the kernel keeps new connections. */
uint32_t listener_poll(const struct listener *listener, struct pollfd *polls)
{
	uint32_t count = 0;

	if (listener->count < LISTENER_PENDING)
		polls[count++] = (struct pollfd){ .fd = listener->fd, .events = POLLIN };
	for (uint32_t i = 0; i < LISTENER_PENDING; i++)
		if (listener->pending[i].fd >= 0)
			polls[count++] = (struct pollfd){ .fd = listener->pending[i].fd,
							  .events = POLLIN };
	return count;
}

uint64_t listener_deadline(const struct listener *listener)
{
	uint64_t first = NEVER;

	for (uint32_t i = 0; i < LISTENER_PENDING; i++)
		if (listener->pending[i].fd >= 0 && listener->pending[i].deadline_ns < first)
			first = listener->pending[i].deadline_ns;
	return first;
}

static void leave_pending(struct listener *listener, struct pending *pending)
{
	pending->fd = -1;
	listener->count--;
}

/* The reason is the calling thread's last error. */
static void refuse(struct listener *listener, struct pending *pending)
{
	char peer[ADDRESS_BYTES];

	address_of_peer(pending->fd, peer);
	log_at(LOG_WARN, "a connection from %s was refused: %s", peer, error_text());
	close(pending->fd);
	leave_pending(listener, pending);
	listener->refused++;
}

static struct pending *free_place(struct listener *listener)
{
	for (uint32_t i = 0; i < LISTENER_PENDING; i++)
		if (listener->pending[i].fd < 0)
			return &listener->pending[i];
	return NULL;
}

/* Accepts waiting connections while there are places. 0, or -errno with a text. */
static int accept_all(struct listener *listener)
{
	struct pending *pending;
	int fd;

	while ((pending = free_place(listener))) {
		fd = address_accept(listener->fd, listener->timeout_ns);
		if (fd < 0)
			return fd == -EAGAIN ? 0 : fd;
		pending->fd = fd;
		pending->deadline_ns = deadline_in(listener->timeout_ns);
		listener->count++;
		if (handshake_begin(&pending->handshake, listener->secret, false, fd) < 0)
			refuse(listener, pending);
	}
	return 0;
}

/* 1: it has proved that it has the key, and is a stream now. */
static int step_one(struct listener *listener, struct pending *pending, struct stream **stream,
		    char peer[ADDRESS_BYTES])
{
	int result = handshake_step(&pending->handshake, pending->fd), fd = pending->fd;

	if (result == 0 && now_ns() >= pending->deadline_ns)
		result = error_set(-ETIMEDOUT, "it has not proved that it has the key in time");
	if (result < 0)
		refuse(listener, pending);
	if (result <= 0)
		return 0;
	address_of_peer(fd, peer);
	leave_pending(listener, pending);
	if (become_stream(&pending->handshake, fd, listener->timeout_ns, stream) == 0)
		return 1;
	log_at(LOG_WARN, "a connection from %s was refused: %s", peer, error_text());
	listener->refused++;
	return 0;
}

int listener_step(struct listener *listener, struct stream **stream, char peer[ADDRESS_BYTES])
{
	int result = accept_all(listener);

	for (uint32_t i = 0; i < LISTENER_PENDING; i++)
		if (listener->pending[i].fd >= 0 &&
		    step_one(listener, &listener->pending[i], stream, peer))
			return 1;
	return result;
}
