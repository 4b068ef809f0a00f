/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The role of a Worker on another host: the process that its parent has for it, between the mailbox
 * and the connection (host/gateway.h). See role.h. It runs no function of the application.
 *
 * Frames are handed on in their order, at most IN_FLIGHT at a time and within the window: what is
 * not claimed can be given to another Worker. They end in that order. When the connection ends, so
 * does the process: the parent treats that as the death of the child, with the cause.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/text.h"
#include "host/connection.h"
#include "host/gateway.h"
#include "host/key.h"
#include "host/pack.h"
#include "trace/relay.h"
#include "worker/control.h"
#include "worker/hello.h"
#include "worker/objects.h"
#include "worker/role.h"
#include "worker/serve.h"

/* One that runs, and one whose data is on its way. */
#define IN_FLIGHT 2
#define BACKOFF_FIRST_NS 20000000ULL
#define BACKOFF_MOST_NS 1000000000ULL

struct flight {
	struct frame *frame;
	uint32_t number; /* of the frame */
	uint64_t message; /* the gateway's number */
	uint64_t claimed_ns;
	uint64_t bytes; /* of its tensors */
	bool cancelled; /* the session was told */
};

struct remote {
	struct child *child;
	struct endpoint *endpoint;
	struct gateway *gateway;
	const char *host;
	struct remote_status shown;
	const void *announced; /* the blob of the callable that start() announces now */
	struct relay *relay; /* of its trace; NULL: nothing is traced */
	struct flight flights[IN_FLIGHT]; /* the oldest first */
	uint32_t count;
	uint64_t bytes;
	/* claimed, and above the window: one before it was taken back; frame NULL: none */
	struct flight parked;
	bool waiting; /* the next frame has no room in the window */
	bool arrived; /* the connection has something to read, or has ended */
};

/* ---------------------------------------------------------------------- start */

static int wait_gateway(const struct remote *remote, uint64_t deadline_ns)
{
	struct pollfd polls[BULK_POLLS];
	uint64_t now = now_ns();
	struct timespec rest = clock_timespec(deadline_ns > now ? deadline_ns - now : 0);

	if (now >= deadline_ns)
		return error_set(-ETIMEDOUT, "no answer in time");
	ppoll(polls, gateway_poll(remote->gateway, polls), &rest, NULL);
	return 0;
}

static bool may_come_back(int error)
{
	return error == -ECONNREFUSED || error == -EHOSTUNREACH || error == -ENETUNREACH ||
	       error == -ECONNRESET || error == -ETIMEDOUT;
}

/*
 * A replacement tries until its deadline: what has ended its predecessor may take a while. Nothing
 * has to end the pause: this process serves nothing yet, so a close of the parent, or its death,
 * kills it (lifecycle.c: stop_children).
 */
static int dial(struct remote *remote, const struct address *address, struct secret *secret,
		bool again, uint64_t deadline_ns, struct stream **stream,
		struct offset_sample *sample)
{
	uint64_t pause = BACKOFF_FIRST_NS, timeout = remote->child->nested->options.host_timeout_ns;
	int result;

	for (;;) {
		result = connection_dial(address, secret, timeout, deadline_ns, stream, sample);
		if (result == 0 || !again || !may_come_back(result) ||
		    now_ns() + pause >= deadline_ns)
			return result;
		nanosleep(
			&(struct timespec){ (time_t)(pause / NS_PER_S), (long)(pause % NS_PER_S) },
			NULL);
		pause = pause < BACKOFF_MOST_NS ? 2 * pause : pause;
	}
}

static int connect_to(struct remote *remote, bool again, uint64_t deadline_ns)
{
	const struct dw_worker *worker = remote->child->nested;
	struct secret *secret = NULL;
	struct stream *stream = NULL;
	struct offset_sample sample;
	struct address address;
	int result = address_parse("its host", worker->options.host, &address);

	if (result == 0)
		result = key_find(worker->options.host_key, &secret);
	if (result == 0)
		result = dial(remote, &address, secret, again, deadline_ns, &stream, &sample);
	secret_destroy(secret);
	if (result == 0)
		result = gateway_create(stream, &remote->gateway);
	if (result == 0)
		offset_take(gateway_offset(remote->gateway), &sample);
	return result;
}

static int greet(struct remote *remote, uint64_t deadline_ns)
{
	struct pack pack = { .data = NULL };
	int result;

	hello_encode(remote->child, &pack);
	result = pack.failed ? error_set(-ENOMEM, "no memory to describe the tree") :
			       gateway_greet(remote->gateway, pack.data, pack.used);
	pack_release(&pack);
	while (result == 0) {
		result = gateway_greeted(remote->gateway);
		if (result == 0)
			result = wait_gateway(remote, deadline_ns);
		else
			break;
	}
	return result < 0 ? result : 0;
}

/*
 * A callable, as the session gets it: its owner as a number, and the contents of an image behind
 * it. 1: it is none of this Worker's.
 */
static int pack_callable(const struct remote *remote, const void *blob, uint32_t bytes,
			 struct pack *pack)
{
	const void *owner = (const void *)(uintptr_t)control_owner(blob), *image;
	int64_t number = hello_owner(remote->child->nested, owner);
	void *copy = number < 0 ? NULL : malloc(bytes);
	uint64_t image_bytes;

	if (number < 0)
		return 1;
	if (copy) {
		memcpy(copy, blob, bytes);
		control_set_owner(copy, (uint64_t)number);
		pack_u32(pack, bytes);
		pack_bytes(pack, copy, bytes);
		free(copy);
		image = control_image(blob, &image_bytes);
		pack_bytes(pack, image, image_bytes);
	}
	return copy && !pack->failed ? 0 : error_set(-ENOMEM, "no memory to announce a callable");
}

/* Until the message is answered. */
static int wait_done(struct remote *remote, uint64_t deadline_ns)
{
	struct gateway_done done;
	int result;

	while ((result = gateway_step(remote->gateway, &done)) == 0) {
		result = wait_gateway(remote, deadline_ns);
		if (result < 0)
			return result;
	}
	if (result < 0)
		return result;
	return done.error < 0 ? error_set(done.error, "%s", done.text) : 0;
}

static int announce(struct callable *callable, void *context)
{
	struct remote *remote = context;
	struct pack pack = { .data = NULL };
	uint64_t number;
	uint32_t bytes;
	void *blob;
	int result;

	if (callable->kind == CALLABLE_ORCH || callable->kind == CALLABLE_SUB)
		return 0;
	result = control_encode(callable, &blob, &bytes);
	if (result < 0)
		return result;
	remote->announced = blob;
	result = pack_callable(remote, blob, bytes, &pack);
	if (result == 0)
		result = gateway_control(remote->gateway, CONTROL_REGISTER, pack.data, pack.used,
					 &number);
	pack_release(&pack);
	if (result == 0)
		result = wait_done(remote, now_ns() + worker_init_budget(remote->child->nested));
	remote->announced = NULL;
	free(blob);
	return result < 0 ? result : 0;
}

/* As those of a chip: what was copied to the other memory, back, and what was there. */
static void show_counters(struct remote *remote)
{
	struct gateway_counters counters;
	struct chip_status now = { .memory_bytes = 0 };

	gateway_counters(remote->gateway, &counters);
	now.copied_in = counters.bytes_out;
	now.copied_out = counters.bytes_in;
	now.saved = counters.saved;
	status_chip(&remote->child->status, &now);
	remote->shown.round_trip_ns = offset_round_trip(gateway_offset(remote->gateway));
	remote->shown.window_used = remote->bytes;
	status_remote(&remote->child->status, &remote->shown);
}

static void show_connection(struct remote *remote, const struct dw_worker *worker)
{
	char address[ADDRESS_BYTES];
	struct pollfd polls[BULK_POLLS];

	gateway_poll(remote->gateway, polls);
	address_of_peer(polls[0].fd, address);
	text_copy(remote->shown.address, sizeof(remote->shown.address), address);
	remote->shown.window_bytes = worker->options.host_window_bytes;
	show_counters(remote);
}

static uint64_t moment_here(void *offset, uint64_t there_ns)
{
	return offset_here(offset, there_ns);
}

static struct relay_clock clock_of(const struct remote *remote)
{
	struct offset *offset = gateway_offset(remote->gateway);

	return (struct relay_clock){
		.here = moment_here,
		.context = offset,
		.ahead_ns = offset_ahead(offset),
		.error_ns = offset_error(offset, now_ns()),
		.round_trip_ns = offset_round_trip(offset),
	};
}

static void take_trace(void *context, int32_t worker, const char *lines, size_t bytes)
{
	const struct remote *remote = context;
	const struct relay_clock clock = clock_of(remote);

	relay_lines(remote->relay, worker, &clock, lines, bytes);
}

/* The registration that is the message of that number. */
static const void *registration(const struct remote *remote, uint64_t number)
{
	for (uint32_t i = 0; i < remote->count; i++) {
		struct frame *frame = remote->flights[i].frame;

		if (remote->flights[i].message == number)
			return frame->kind == FRAME_CONTROL && frame->callable == CONTROL_REGISTER ?
				       serve_blob(frame) : NULL;
	}
	return remote->announced;
}

static int give_object(void *context, uint64_t number, struct pack *file)
{
	const void *blob = registration(context, number);
	const char *path = blob ? control_object(blob) : NULL;

	return path ? objects_read(path, file) :
		      error_set(-EINVAL, "message %llu registers no symbol",
				(unsigned long long)number);
}

static int begin_trace(struct remote *remote)
{
	int result = relay_create(&worker_root(remote->child->owner)->life.trace_files,
				  remote->host, &remote->relay);

	if (result == 0 && remote->relay)
		gateway_on_trace(remote->gateway, take_trace, remote);
	return result;
}

static void leave(struct remote *remote)
{
	if (remote->relay) {
		const struct relay_clock clock = clock_of(remote);

		relay_destroy(remote->relay, &clock);
	}
	gateway_destroy(remote->gateway);
	free(remote);
}

static int start(struct child *child, uint32_t generation, bool process, void **state)
{
	struct remote *remote = calloc(1, sizeof(*remote));
	uint64_t deadline = now_ns() + worker_init_budget(child->nested);
	int result;

	(void)process;
	if (!remote)
		return error_set(-ENOMEM, "%s: no memory for a gateway", child->path);
	remote->child = child;
	remote->host = child->nested->options.host;
	result = connect_to(remote, generation > 1, deadline);
	if (result == 0)
		result = begin_trace(remote);
	if (result == 0)
		gateway_on_object(remote->gateway, give_object, remote);
	if (result == 0)
		result = greet(remote, deadline);
	if (result == 0)
		result = callable_each(announce, remote);
	if (result < 0) {
		leave(remote);
		return error_prefix(result, "host %s: ", text_short(child->nested->options.host));
	}
	show_connection(remote, child->nested);
	*state = remote;
	return 0;
}

/* ---------------------------------------------------------------------- frames */

static uint64_t tensor_bytes(const struct dw_args *args)
{
	uint64_t all = 0, bytes;

	for (uint32_t i = 0; i < args->tensor_count; i++)
		if (dw_tensor_bytes(&args->tensors[i], &bytes) == 0)
			all += bytes;
	return all;
}

static int post_task(struct remote *remote, struct flight *flight, const struct dw_args *args)
{
	struct frame *frame = flight->frame;
	const struct gateway_task task = {
		.task = frame->task,
		.callable = frame->callable,
		.config = &frame->config,
		.args = args,
		.uses = serve_names(frame, args),
	};
	struct callable *callable;

	if (args->tensor_count && !task.uses)
		return error_set(-EINVAL, "%s: a task for another host has no names",
				 remote->child->path);
	if (!remote->count && callable_held(frame->callable, &callable) == 0)
		status_works(&remote->child->status, callable, frame->task, flight->claimed_ns);
	return gateway_post(remote->gateway, &task, &flight->message);
}

static int post_control(struct remote *remote, struct flight *flight)
{
	const struct frame *frame = flight->frame;
	const void *blob = serve_blob(flight->frame);
	struct pack pack = { .data = NULL };
	int result = 0;

	if (frame->callable == CONTROL_REGISTER)
		result = pack_callable(remote, blob, frame->args_bytes, &pack);
	else
		pack_bytes(&pack, blob, frame->args_bytes);
	if (result == 0)
		result = gateway_control(remote->gateway, frame->callable, pack.data, pack.used,
					 &flight->message);
	pack_release(&pack);
	return result;
}

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
	return value < least ? least : value < most ? value : most;
}

/* Another host's clock may say anything: the times are between the claim and now. */
static void end(struct remote *remote, const struct flight *flight, int error, const char *text,
		uint64_t began_ns, uint64_t ended_ns)
{
	uint64_t now = now_ns(), began = clamp(began_ns, flight->claimed_ns, now);
	char full[TEXT_BYTES];

	if (error)
		text_format(full, sizeof(full), "%s (on host %s)",
			    text_limited(text, TEXT_BYTES - 80), text_short(remote->host));
	status_ended(&remote->child->status);
	show_counters(remote);
	endpoint_complete(remote->endpoint, flight->number, error, error ? full : NULL,
			  began, clamp(ended_ns, began, now));
}

/* Hands it on; one that cannot be ends here. */
static void post(struct remote *remote, struct flight *flight, const struct dw_args *args)
{
	bool task = flight->frame->kind == FRAME_TASK;
	int result = task ? post_task(remote, flight, args) : post_control(remote, flight);

	if (result == 0) {
		remote->bytes += flight->bytes;
		remote->flights[remote->count++] = *flight;
		show_counters(remote);
	} else {
		end(remote, flight, result < 0 ? result : 0, error_text(), flight->claimed_ns,
		    flight->claimed_ns);
	}
}

/* Whether there is room for so many bytes now. */
static bool fits(const struct remote *remote, uint64_t bytes)
{
	uint64_t window = remote->child->nested->options.host_window_bytes;

	return !remote->count || (bytes <= window && remote->bytes <= window - bytes);
}

/* Whether the next frame may be claimed. One that cannot be read is, and says so. */
static bool may_claim(const struct remote *remote)
{
	struct frame *frame = endpoint_peek(remote->endpoint);
	struct dw_args args;

	return !frame || frame->kind != FRAME_TASK || serve_args(frame, &args) < 0 ||
	       fits(remote, tensor_bytes(&args));
}

static void take(struct remote *remote, struct flight *flight)
{
	struct dw_args args = { .tensor_count = 0 };
	int result = 0;

	if (flight->frame->kind == FRAME_TASK)
		result = serve_args(flight->frame, &args);
	flight->bytes = result < 0 ? 0 : tensor_bytes(&args);
	if (result < 0)
		end(remote, flight, result, error_text(), flight->claimed_ns,
		    flight->claimed_ns);
	else if (fits(remote, flight->bytes))
		post(remote, flight, &args);
	else
		remote->parked = *flight;
}

static bool claim_frames(struct remote *remote)
{
	struct flight flight = remote->parked;
	bool any = false;

	if (flight.frame) {
		if (remote->count)
			return false;
		remote->parked.frame = NULL;
		take(remote, &flight);
		any = true;
	}
	remote->waiting = false;
	while (!remote->parked.frame && remote->count < IN_FLIGHT) {
		remote->waiting = !may_claim(remote);
		if (remote->waiting)
			break;
		flight = (struct flight){ .claimed_ns = now_ns() };
		flight.frame = endpoint_next(remote->endpoint, &flight.number);
		if (!flight.frame)
			break;
		take(remote, &flight);
		any = true;
	}
	return any;
}

static int end_oldest(struct remote *remote, const struct gateway_done *done)
{
	struct flight flight = remote->flights[0];

	if (!remote->count || flight.message != done->number)
		return error_set(-EBADMSG, "message %llu was answered before its turn",
				 (unsigned long long)done->number);
	remote->bytes -= flight.bytes;
	remote->count--;
	memmove(remote->flights, remote->flights + 1, remote->count * sizeof(flight));
	end(remote, &flight, done->error, done->text, done->began_ns, done->ended_ns);
	if (remote->count)
		status_since(&remote->child->status, now_ns());
	else
		status_waits(&remote->child->status, now_ns());
	return 0;
}

/* Sends, and takes what has arrived. 1: tasks have ended, 0, -errno: the connection has. */
static int exchange(struct remote *remote)
{
	struct gateway_done done;
	int result, any = 0;

	/* UCX tells of what comes only after it was asked. */
	if (!remote->arrived && !gateway_has_ucx(remote->gateway))
		return gateway_flush(remote->gateway);
	remote->arrived = false;
	while ((result = gateway_step(remote->gateway, &done)) == 1) {
		result = end_oldest(remote, &done);
		if (result < 0)
			return result;
		any = 1;
	}
	return result < 0 ? result : any;
}

/* The parent has set the word in the frame before it has said so on the link. */
static int pass_on_cancels(struct remote *remote)
{
	int result = 0;

	for (uint32_t i = 0; i < remote->count && result == 0; i++) {
		struct flight *flight = &remote->flights[i];

		if (flight->cancelled || flight->frame->kind != FRAME_TASK ||
		    !atomic_load_explicit(&flight->frame->cancel, memory_order_acquire))
			continue;
		flight->cancelled = true;
		result = gateway_cancel(remote->gateway, flight->message);
	}
	return result;
}

static void drain_link(const struct remote *remote)
{
	struct link_message message;

	while (link_receive(remote->child->link.child, &message, false) > 0)
		;
}

static void wait_for_all(struct remote *remote)
{
	struct pollfd polls[2 + BULK_POLLS] = {
		{ .fd = remote->child->link.child, .events = POLLIN },
	};
	uint32_t count = 1 + gateway_poll(remote->gateway, polls + 1);
	/* Once it was told to stop, the bell may ring all the time. */
	bool room = !remote->parked.frame && !remote->waiting && remote->count < IN_FLIGHT &&
		    !endpoint_stopping(remote->endpoint);

	polls[count] = (struct pollfd){ .fd = endpoint_bell_fd(remote->endpoint),
					.events = POLLIN };
	if (room && endpoint_bell_arm(remote->endpoint))
		return;
	if (poll(polls, count + room, -1) <= 0)
		return;
	remote->arrived = polls[1].revents & ~POLLOUT;
	if (room)
		endpoint_bell_clear(remote->endpoint, (uint32_t)polls[count].revents);
	if (polls[0].revents)
		drain_link(remote);
	serve_count_waits(remote->child, remote->endpoint);
}

/* The last word of this process. Its tasks fail with it, or are tried elsewhere. */
static int lost(const struct remote *remote, uint32_t generation)
{
	char text[ERROR_TEXT_BYTES];

	text_format(text, sizeof(text), "host %s: %s", text_short(remote->host),
		    text_limited(error_text(), ERROR_TEXT_BYTES / 2));
	link_send(remote->child->link.child, LINK_ERROR, generation, -EOWNERDEAD, text);
	return -EOWNERDEAD;
}

static int serve(struct child *child, uint32_t generation, struct endpoint *endpoint, void *state)
{
	struct remote *remote = state;
	int result;

	(void)child;
	remote->endpoint = endpoint;
	for (;;) {
		bool any = claim_frames(remote);

		result = pass_on_cancels(remote);
		if (result == 0)
			result = exchange(remote);
		if (result < 0)
			return lost(remote, generation);
		if (any || result)
			continue;
		if (!endpoint_stopping(endpoint) || remote->count || remote->parked.frame)
			wait_for_all(remote);
		else if (!claim_frames(remote))
			return 0;
	}
}

/* The parent bounds the time that the tree there may take to close. */
static void stop(struct child *child, bool process, int error, void *state)
{
	struct remote *remote = state;
	struct gateway_done done;

	(void)child;
	(void)process;
	if (!error && gateway_stop(remote->gateway) == 0)
		while (gateway_step(remote->gateway, &done) >= 0 &&
		       wait_gateway(remote, NEVER) == 0)
			;
	leave(remote);
}

const struct role role_remote = {
	.elsewhere = true,
	.start = start,
	.serve = serve,
	.stop = stop,
};
