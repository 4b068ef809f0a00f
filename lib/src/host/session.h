/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * session: the node's end of a connection from a gateway. It gets the inputs of tasks that this
 * host does not hold, hands the tasks out one after the other, and brings their outputs home.
 *
 * Owns: struct session, with its stream, the messages that have arrived and are not answered, and
 * what this host holds (holdings.h). Tensors lie in this process at the addresses that they have
 * in the parent: `memory` tells which addresses those are. One thread at a time, which waits as
 * session_poll() says, and calls session_step(). No call blocks.
 *
 * Invariants: only a range that `memory` has is written or read. The next task is handed out when
 * all of its inputs are here, or it was cancelled, and the one before it has been answered;
 * meanwhile its inputs are on their way. Contents without a name are given back once their task is
 * answered and its outputs are sent; so are named ones above `most_bytes`, the longest unused
 * first.
 */
#ifndef DW_HOST_SESSION_H
#define DW_HOST_SESSION_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include "host/bulk.h"
#include "host/message.h"
#include "host/net.h"

struct dw_args;
struct pack;
struct session;

struct session_options {
	/* Whether the bytes are of the tree's memory. */
	bool (*memory)(void *context, uint64_t address, uint64_t bytes);
	/* The contents of these bytes are not needed any more. */
	void (*give_back)(void *context, uint64_t address, uint64_t bytes);
	void *context;
	uint64_t most_bytes;
	enum net net;
};

enum session_event {
	SESSION_NOTHING = 0,
	SESSION_HELLO, /* payload, bytes */
	SESSION_EXAMINE, /* code: the bytes to answer with */
	SESSION_TASK, /* task, callable, config, args, uses */
	SESSION_CONTROL, /* code; payload, bytes: the blob */
	SESSION_CANCEL, /* the task that was handed out last */
	SESSION_OBJECT, /* what session_want() asked for: payload, bytes: message.h */
	SESSION_STOP,
};

struct session_message {
	enum session_event event;
	uint64_t number, got_ns;
	const void *payload; /* valid until it is answered; HELLO, OBJECT: until the next step */
	size_t bytes;
	uint64_t code;
	uint64_t task, callable;
	bool cancelled; /* already: it need not be run */
	const struct dw_config *config;
	const struct dw_args *args;
	const struct frame_names *uses;
};

/* Tasks and control messages that a gateway may send ahead of their answers. */
#define SESSION_AHEAD 64

/* Takes the stream, also when it fails. -ENOMEM with a text. */
int session_create(struct stream *stream, const struct session_options *options,
		   struct session **session);
void session_destroy(struct session *session);
/* The descriptors to wait for; the first one is the connection. */
uint32_t session_poll(const struct session *session, struct pollfd polls[BULK_POLLS]);
/* As bulk_has_ucx(). */
bool session_has_ucx(const struct session *session);

/* As stream_pack(): before READY, and with what session_step() returned last to come again. */
int session_pack(const struct session *session, struct pack *pack);
int session_set_timeout(struct session *session, uint64_t timeout_ns);
/* Sends what it can, and does nothing else: for the last words. As session_step(). */
int session_flush(struct session *session);

/*
 * Sends and receives what it can, and says what to do next: 1 with *message, 0 when there is
 * nothing now, -errno with a text: the connection is of no more use.
 */
int session_step(struct session *session, struct session_message *message);
/*
 * The answer to the task or control message that was handed out: with 0 its outputs go home, and
 * are held under their names from now on. It began at `began_ns`, and ran for so long.
 */
int session_done(struct session *session, int error, const char *text, uint64_t began_ns,
		 uint64_t ran_ns);
/* Asks for the shared object of the control message that was handed out: SESSION_OBJECT follows. */
int session_want(struct session *session);
/* The answer to EXAMINE; `about` is the caller's. */
int session_examined(struct session *session, const struct session_message *message,
		     const void *about, uint32_t about_bytes);
/* Whole lines of a trace, for home; `worker` is the process of the tree's Worker. */
int session_trace(struct session *session, int32_t worker, const void *lines, size_t bytes);
/*
 * The answer to HELLO. The second one also later: the tree has died, and no answer follows. With
 * an error of net_accept() the caller refuses.
 */
int session_ready(struct session *session);
int session_refuse(struct session *session, int error, const char *text);
void session_counters(const struct session *session, struct stream_counters *counters);
/* Bytes of inputs that tasks had and that did not have to travel. */
uint64_t session_saved(const struct session *session);

#endif
