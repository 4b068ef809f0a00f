/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind node_trace.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/fd.h"
#include "host/session.h"
#include "task/error.h"
#include "worker/hierarchy.h"
#include "worker/node_trace.h"

#define PIPE_BYTES (1 << 20) /* the most that a user may have */
#define TEXT_ROOM ((size_t)65536)

int node_trace_open(struct node_trace *trace, struct dw_worker *outer)
{
	int ends[2];

	trace->text = malloc(TEXT_ROOM);
	trace->stop_fd = fd_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (!trace->text || trace->stop_fd < 0)
		return error_set(-ENOMEM, "no memory for a trace");
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return error_set(-errno, "pipe: %s%s", strerror(errno), error_hint(errno));
	/* Where it is refused, the pipe is smaller. */
	fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
	trace->fd = fd_move_up(ends[0]);
	lifecycle_set_trace(outer, fd_move_up(ends[1]));
	return 0;
}

/* Whether something waits to be sent; *polled is then what to wait for. */
static bool is_pending(const struct node_trace *trace, struct pollfd *polled)
{
	struct pollfd polls[BULK_POLLS];

	session_poll(trace->session, polls);
	*polled = (struct pollfd){ .fd = polls[0].fd, .events = POLLOUT };
	return !trace->lost && polls[0].events & POLLOUT;
}

/* Whole lines go; the beginning of another one stays. */
static void send_lines(struct node_trace *trace)
{
	const char *last = memrchr(trace->text, '\n', trace->used);
	size_t bytes = last ? (size_t)(last - trace->text) + 1 : 0;

	if (bytes && !trace->lost)
		trace->lost = session_trace(trace->session, trace->worker, trace->text, bytes) ||
			      session_flush(trace->session);
	/* No line is as long as that: it is junk. */
	if (!bytes && trace->used == TEXT_ROOM)
		bytes = TEXT_ROOM;
	trace->used -= bytes;
	memmove(trace->text, trace->text + bytes, trace->used);
}

void node_trace_send(struct node_trace *trace)
{
	struct pollfd polled;
	ssize_t got;

	while (trace->begun && !is_pending(trace, &polled)) {
		got = read(trace->fd, trace->text + trace->used, TEXT_ROOM - trace->used);
		if (got <= 0)
			return;
		trace->used += (size_t)got;
		send_lines(trace);
	}
}

/* What is there, and what waits to be sent: whether anything still does. */
static bool pass_on(struct node_trace *trace, struct pollfd *polled)
{
	bool pending;

	pthread_mutex_lock(trace->lock);
	if (is_pending(trace, polled))
		trace->lost = session_flush(trace->session) < 0;
	node_trace_send(trace);
	pending = is_pending(trace, polled);
	pthread_mutex_unlock(trace->lock);
	return pending;
}

static void *send_all(void *context)
{
	struct node_trace *trace = context;
	struct pollfd polls[2] = { { .fd = trace->stop_fd, .events = POLLIN } };
	bool pending = false, stop = false;

	while (!stop || pending) {
		if (!pending)
			polls[1] = (struct pollfd){ .fd = trace->fd, .events = POLLIN };
		/* What waits to be sent is waited for also when it is to stop. */
		poll(polls + stop, 2 - stop, -1);
		stop = stop || polls[0].revents;
		pending = pass_on(trace, &polls[1]);
	}
	return NULL;
}

int node_trace_begin(struct node_trace *trace, struct session *session, pthread_mutex_t *lock,
		     int32_t worker)
{
	int error;

	trace->session = session;
	trace->lock = lock;
	trace->worker = worker;
	trace->begun = true;
	error = pthread_create(&trace->thread, NULL, send_all, trace);
	trace->begun = !error;
	return error ? error_set(-error, "no thread for a trace: %s", strerror(error)) : 0;
}

void node_trace_end(struct node_trace *trace)
{
	if (!trace->begun)
		return;
	/* A counter of 64 bits takes it. */
	eventfd_write(trace->stop_fd, 1);
	pthread_join(trace->thread, NULL);
}
