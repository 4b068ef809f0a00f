/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * gateway: the parent's end of a connection to a session. It hands on tasks, sends what the session
 * asks for, and puts the outputs where they belong.
 *
 * Owns: struct gateway, with its stream, and the tasks that were handed on and are not done. The
 * arguments of such a task, and what its inputs have, stay valid and unchanged until it is done.
 * One thread, which waits as gateway_poll() says, and calls gateway_step(). No call blocks.
 *
 * Invariants: nothing is read from this host's memory but what a task in flight reads, and nothing
 * is written but what one writes: a session that asks for more has broken the protocol, and the
 * connection ends. A task is done once all of its outputs are in their place.
 */
#ifndef DW_HOST_GATEWAY_H
#define DW_HOST_GATEWAY_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include "host/bulk.h"
#include "host/message.h"
#include "host/offset.h"

struct dw_args;
struct gateway;
struct pack;

struct gateway_task {
	uint64_t task, callable;
	const struct dw_config *config;
	const struct dw_args *args;
	const struct frame_names *uses; /* one for each tensor; copied */
};

/* A task, or a control message, that has ended. */
struct gateway_done {
	uint64_t number;
	int error; /* -errno; 0: done */
	uint64_t began_ns, ended_ns; /* by the clock here; as good as the offset is */
	uint64_t ran_ns; /* by the clock there */
	const char *text; /* of the error; valid until the next call */
};

struct gateway_counters {
	uint64_t bytes_out, bytes_in; /* of inputs and outputs that have travelled */
	uint64_t saved; /* of inputs that the session had */
};

/* Takes the stream, also when it fails. -ENOMEM with a text. */
int gateway_create(struct stream *stream, struct gateway **gateway);
void gateway_destroy(struct gateway *gateway);
/* The descriptors to wait for; the first one is the connection. */
uint32_t gateway_poll(const struct gateway *gateway, struct pollfd polls[BULK_POLLS]);
/* As bulk_has_ucx(). */
bool gateway_has_ucx(const struct gateway *gateway);
/* Tasks and control messages that are not done. */
uint32_t gateway_in_flight(const struct gateway *gateway);

/* HELLO, with the worker layer's payload. Also errors of net_read() and net_offer(). */
int gateway_greet(struct gateway *gateway, const void *payload, size_t bytes);
/*
 * The session's answer: 1 when it is ready, 0 when it has not answered yet, -errno with its text
 * when it refuses, or with one of stream_receive() or net_settle().
 */
int gateway_greeted(struct gateway *gateway);

/* 0 and the number, or -errno with a text. */
int gateway_post(struct gateway *gateway, const struct gateway_task *task, uint64_t *number);
int gateway_control(struct gateway *gateway, uint64_t code, const void *blob, size_t bytes,
		    uint64_t *number);
int gateway_cancel(struct gateway *gateway, uint64_t number);
int gateway_stop(struct gateway *gateway);
/* Sends what it can: 0, or -errno as gateway_step(). */
int gateway_flush(struct gateway *gateway);
/*
 * Sends and receives what it can: 1 with the next task that has ended, 0 when there is nothing more
 * to do now, -errno with a text: the connection is of no more use, or the session has ended, with
 * its cause.
 */
int gateway_step(struct gateway *gateway, struct gateway_done *done);
/* Lines of a trace of the session's tree; `worker` is the process of its Worker there. */
typedef void gateway_trace(void *context, int32_t worker, const char *lines, size_t bytes);
/* From now on lines go there. Without it a session that sends any has broken the protocol. */
void gateway_on_trace(struct gateway *gateway, gateway_trace *trace, void *context);
/*
 * The file of a shared object that the session wants: that of the symbol that control message
 * `number`, which is in flight, registers. 0: in `file`; -errno with a text: for the session.
 */
typedef int gateway_object(void *context, uint64_t number, struct pack *file);
void gateway_on_object(struct gateway *gateway, gateway_object *object, void *context);
/*
 * The clock of the session's host: tasks that are done are its samples; the caller has that of the
 * handshake.
 */
struct offset *gateway_offset(struct gateway *gateway);
/* Of the tasks that are done. */
void gateway_counters(const struct gateway *gateway, struct gateway_counters *counters);

#endif
