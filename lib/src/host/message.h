/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * message: the control messages between a gateway (on the parent's host) and a session (on the
 * node), and their payloads, written and read by pack.h.
 *
 *   gateway                        session
 *   EXAMINE n  anything ───────────────►   only before HELLO, any number of them
 *              ◄─── EXAMINED n
 *   HELLO      tree, memory, callables ───►   makes the tree
 *              ◄─── READY, or REFUSED text    REFUSED also later: the tree has died
 *   TASK n     arguments, small inputs ───►
 *   data n     what it cannot have ───────►
 *              ◄─── FETCH n address bytes     what it has not got, or not any more
 *   data n     ───────────────────────────►
 *   CANCEL n   ───────────────────────────►   answered at once, if its inputs are not all here:
 *   DROPPED n  ───────────────────────────►   what was not sent of them does not come any more
 *              ◄─── data n                    outputs
 *              ◄─── DONE n                    after them
 *              ◄─── TRACE n                   lines of DW_TRACE; n: the task that is served, or 0
 *   CONTROL n  ───────────────────────────►   registers a callable, or drops one
 *              ◄─── WANT n                    the shared object that it is in, if it is not here
 *   OBJECT n   ───────────────────────────►
 *              ◄─── DONE n
 *   STOP       ───────────────────────────►   closes the tree, and the connection
 *
 * `n` is the message's number: tasks and control messages count up from 1, together, and are
 * served in that order. FETCH has the address in the message's header.
 *
 * Owns: nothing. Both hosts have one version of this (handshake.h).
 */
#ifndef DW_HOST_MESSAGE_H
#define DW_HOST_MESSAGE_H

#include <stdint.h>
#include <distworker/distworker.h>
#include "host/stream.h"
#include "mailbox/frame.h"

enum host_message {
	HOST_DATA = STREAM_DATA,
	HOST_HELLO = 1, /* the worker layer's own payload */
	HOST_READY,
	HOST_REFUSED, /* i32 error, text */
	HOST_TASK, /* struct host_task_head, arguments, struct frame_names, u8 pushed, inputs */
	HOST_FETCH, /* u64 bytes */
	HOST_CANCEL,
	HOST_DONE, /* struct host_done_head, text */
	HOST_CONTROL, /* u64 code, blob */
	HOST_STOP,
	HOST_TRACE, /* struct host_trace_head, whole lines of a trace */
	HOST_EXAMINE, /* any bytes; the header's address: how many bytes to answer with */
	HOST_DROPPED,
	HOST_EXAMINED, /* struct host_examined_head, the worker layer's own payload, any bytes */
	HOST_WANT,
	HOST_OBJECT, /* i32 error, text; then the file */
};

/* What may be asked for, and sent, to see whether large messages arrive. */
#define HOST_EXAMINE_MOST (1u << 20)

struct host_examined_head {
	uint64_t got_ns, answered_ns; /* CLOCK_MONOTONIC there */
	uint64_t real_ns; /* CLOCK_REALTIME there, at `answered_ns` */
	uint32_t about_bytes, zero; /* of the worker layer's payload; the rest is filling */
};

/*
 * Inputs up to this size travel in their task's message. Larger ones that the session cannot have,
 * since nothing of that name was ever there, are pushed: their data follows without a FETCH.
 */
#define HOST_EAGER_BYTES 8192

struct host_task_head {
	uint64_t task; /* its number in its run, for messages */
	uint64_t callable;
	struct dw_config config;
	uint32_t args_bytes; /* of the arguments (task/task.h), which follow */
	uint32_t eager; /* tensors whose contents follow the uses */
	uint32_t zero;
};
_Static_assert(sizeof(struct host_task_head) == 48, "no padding");

struct host_done_head {
	int32_t error; /* -errno; 0: done */
	uint32_t zero;
	uint64_t got_ns, answered_ns; /* by the clock there: the message, and this answer */
	uint64_t began_ns; /* by the same clock: when it began to run */
	uint64_t ran_ns; /* how long it ran there */
};

/* The number of the message: the task that is served now; 0: none. */
struct host_trace_head {
	uint64_t got_ns, answered_ns; /* by the clock there: the task came, the lines were sent */
	int32_t worker; /* the process of the session's Worker */
	uint32_t zero;
};

static inline bool host_reads(uint32_t tag)
{
	return tag == DW_INPUT || tag == DW_INOUT;
}

static inline bool host_writes(uint32_t tag)
{
	return tag == DW_OUTPUT || tag == DW_INOUT;
}

#endif
