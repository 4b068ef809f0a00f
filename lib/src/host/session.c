/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind session.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "host/holdings.h"
#include "host/net.h"
#include "host/pack.h"
#include "host/session.h"
#include "task/error.h"
#include "task/task.h"

/* A task or control message, with a copy of its payload. */
struct arrived {
	struct arrived *next;
	uint64_t number, got_ns;
	bool task;
	bool fetched; /* its inputs were asked for */
	bool again; /* they are looked at a second time */
	bool cancelled;
	const unsigned char *eager; /* small inputs, in the payload */
	uint64_t missing; /* bytes of them that are on their way */
	uint64_t code; /* of a control message */
	size_t blob_bytes;
	struct host_task_head head;
	struct dw_args args; /* a view of the payload */
	const struct frame_names *uses;
	const uint8_t *pushed; /* inputs that come by themselves */
	uint64_t payload[];
};

struct session {
	struct stream *stream;
	struct bulk *bulk;
	struct net_offer offer; /* a copy */
	struct session_options options;
	struct holdings holdings;
	struct arrived *first, **last;
	uint32_t ahead; /* how many these are */
	struct arrived *answered; /* their outputs are being sent */
	bool handed_out; /* the first is being served */
	bool wants; /* its shared object */
	uint64_t arrived; /* the number that came last */
	uint64_t saved;
};

int session_create(struct stream *stream, const struct session_options *options,
		   struct session **result)
{
	struct session *session = calloc(1, sizeof(*session));

	if (!session || bulk_create(stream, &session->bulk) < 0) {
		free(session);
		stream_destroy(stream);
		return error_set(-ENOMEM, "no memory for a session");
	}
	session->stream = stream;
	session->options = *options;
	session->last = &session->first;
	*result = session;
	return 0;
}

static void free_all(struct arrived *first)
{
	struct arrived *next;

	for (struct arrived *at = first; at; at = next) {
		next = at->next;
		free(at);
	}
}

void session_destroy(struct session *session)
{
	if (!session)
		return;
	free_all(session->first);
	free_all(session->answered);
	holdings_release(&session->holdings);
	free((void *)(uintptr_t)session->offer.address);
	bulk_destroy(session->bulk);
	stream_destroy(session->stream);
	free(session);
}

uint32_t session_poll(const struct session *session, struct pollfd polls[BULK_POLLS])
{
	return bulk_poll(session->bulk, polls);
}

bool session_has_ucx(const struct session *session)
{
	return bulk_has_ucx(session->bulk);
}

int session_set_timeout(struct session *session, uint64_t timeout_ns)
{
	return stream_set_timeout(session->stream, timeout_ns);
}

int session_pack(const struct session *session, struct pack *pack)
{
	return stream_pack(session->stream, pack);
}

int session_flush(struct session *session)
{
	return bulk_flush(session->bulk);
}

void session_counters(const struct session *session, struct stream_counters *counters)
{
	bulk_counters(session->bulk, counters);
}

uint64_t session_saved(const struct session *session)
{
	return session->saved;
}

/* -------------------------------------------------------------- what has arrived */

static struct range range_of(const struct dw_tensor *tensor)
{
	uint64_t bytes = 0;

	dw_tensor_bytes(tensor, &bytes);
	return (struct range){ tensor->data, tensor->data + bytes };
}

/* A copy of a payload, at the end of the list, aligned as arguments have to be. */
static struct arrived *add_arrived(struct session *session, const struct stream_message *message,
				   const void *payload, size_t bytes)
{
	struct arrived *arrived = calloc(1, sizeof(*arrived) + bytes + 8 - bytes % 8);

	if (!arrived) {
		error_set(-ENOMEM, "no memory for a task of %zu bytes", bytes);
		return NULL;
	}
	arrived->number = message->number;
	arrived->got_ns = now_ns();
	if (bytes)
		memcpy(arrived->payload, payload, bytes);
	*session->last = arrived;
	session->last = &arrived->next;
	session->ahead++;
	return arrived;
}

static int check_number(struct session *session, const struct stream_message *message)
{
	if (message->number == session->arrived + 1 && session->ahead < SESSION_AHEAD) {
		session->arrived++;
		return 0;
	}
	if (session->ahead >= SESSION_AHEAD)
		return error_set(-EBADMSG, "the gateway sent more than %d messages ahead",
				 SESSION_AHEAD);
	return error_set(-EBADMSG, "the gateway sent message %llu after message %llu",
			 (unsigned long long)message->number, (unsigned long long)session->arrived);
}

static int take_control(struct session *session, const struct stream_message *message)
{
	struct unpack unpack = { .at = message->payload, .left = message->bytes };
	uint64_t code = unpack_u64(&unpack);
	struct arrived *arrived;
	int result = check_number(session, message);

	if (result == 0 && unpack.failed)
		result = error_set(-EBADMSG, "the gateway sent a control message of %u bytes",
				   message->bytes);
	if (result < 0)
		return result;
	arrived = add_arrived(session, message, unpack.at, unpack.left);
	if (!arrived)
		return -ENOMEM;
	arrived->code = code;
	arrived->blob_bytes = unpack.left;
	arrived->fetched = true;
	return 0;
}

static int check_tensors(const struct session *session, const struct arrived *arrived)
{
	uint64_t bytes;

	for (uint32_t i = 0; i < arrived->args.tensor_count; i++) {
		const struct dw_tensor *tensor = &arrived->args.tensors[i];
		int result = tensor_check(tensor, i, &bytes);

		if (result == 0 && bytes &&
		    !session->options.memory(session->options.context, tensor->data, bytes))
			result = error_set(-EBADMSG,
					   "tensor %u, %#llx + %llu bytes, is no memory "
					   "of the tree",
					   i, (unsigned long long)tensor->data,
					   (unsigned long long)bytes);
		if (result < 0)
			return result;
	}
	return 0;
}

static bool is_eager(const struct arrived *arrived, uint32_t i)
{
	struct range range = range_of(&arrived->args.tensors[i]);
	uint64_t bytes = range.end - range.begin;

	return host_reads(arrived->uses[i].tag) && bytes && bytes <= HOST_EAGER_BYTES;
}

/* Small inputs travel with their task. */
static int find_eager(struct arrived *arrived, struct unpack *unpack)
{
	uint32_t eager = 0;

	arrived->eager = unpack->at;
	for (uint32_t i = 0; i < arrived->args.tensor_count; i++) {
		struct range range = range_of(&arrived->args.tensors[i]);

		if (is_eager(arrived, i)) {
			unpack_bytes(unpack, range.end - range.begin);
			eager++;
		}
	}
	return eager == arrived->head.eager && unpack_done(unpack) ? 0 : -EBADMSG;
}

/* They are put into their place when the task before this one has ended. */
static void place_eager(struct session *session, const struct arrived *arrived)
{
	const unsigned char *from = arrived->eager;

	for (uint32_t i = 0; i < arrived->args.tensor_count; i++) {
		struct range range = range_of(&arrived->args.tensors[i]);

		if (!is_eager(arrived, i))
			continue;
		memcpy((void *)(uintptr_t)range.begin, from, range.end - range.begin);
		from += range.end - range.begin;
		holdings_set(&session->holdings, &range, arrived->uses[i].sees);
	}
}

static int read_task(struct session *session, struct arrived *arrived, size_t bytes)
{
	struct unpack unpack = { .at = (const void *)arrived->payload, .left = bytes };
	const void *args;
	int result;

	arrived->task = true;
	unpack_into(&unpack, &arrived->head, sizeof(arrived->head));
	args = unpack_bytes(&unpack, arrived->head.args_bytes);
	if (!args)
		return -EBADMSG;
	result = wire_decode((void *)(uintptr_t)args, arrived->head.args_bytes, &arrived->args);
	if (result < 0)
		return result;
	arrived->uses = unpack_bytes(&unpack, arrived->args.tensor_count * sizeof(*arrived->uses));
	arrived->pushed = unpack_bytes(&unpack, arrived->args.tensor_count);
	if (!arrived->uses || !arrived->pushed)
		return -EBADMSG;
	result = check_tensors(session, arrived);
	return result < 0 ? result : find_eager(arrived, &unpack);
}

static int take_task(struct session *session, const struct stream_message *message)
{
	struct arrived *arrived;
	int result = check_number(session, message);

	if (result < 0)
		return result;
	arrived = add_arrived(session, message, message->payload, message->bytes);
	if (!arrived)
		return -ENOMEM;
	error_set(-EBADMSG, "the gateway sent a task of %u bytes that is none", message->bytes);
	return read_task(session, arrived, message->bytes);
}

/* ------------------------------------------------------------------------- inputs */

/*
 * Asks for what is not held, and does not come by itself. It may arrive while the task before this
 * one runs: that one does not write these bytes, or this one would not have been posted yet.
 */
static int fetch_inputs(struct session *session, struct arrived *arrived)
{
	bool first = !arrived->again;
	int result = 0;

	arrived->fetched = true;
	arrived->again = true;
	for (uint32_t i = 0; i < arrived->args.tensor_count && result == 0; i++) {
		const struct frame_names *use = &arrived->uses[i];
		struct range range = range_of(&arrived->args.tensors[i]);
		uint64_t bytes = range.end - range.begin;
		bool pushed = first && arrived->pushed[i];

		if (!host_reads(use->tag) || bytes <= HOST_EAGER_BYTES)
			continue;
		if (!pushed && holdings_has(&session->holdings, &range, use->sees)) {
			session->saved += first ? bytes : 0;
			continue;
		}
		arrived->missing += bytes;
		if (!pushed)
			result = stream_send(session->stream, HOST_FETCH, arrived->number,
					     range.begin, &bytes, sizeof(bytes));
		/* From now on: a task behind this one starts after it, and with it this is here. */
		if (result == 0)
			holdings_set(&session->holdings, &range, use->sees);
	}
	return result;
}

static struct arrived *find_among(struct arrived *first, const struct stream_message *message)
{
	for (struct arrived *at = first; at; at = at->next) {
		if (at->number != message->number || !at->task || message->bytes > at->missing)
			continue;
		for (uint32_t i = 0; i < at->args.tensor_count; i++) {
			struct range range = range_of(&at->args.tensors[i]);

			if (host_reads(at->uses[i].tag) && message->address >= range.begin &&
			    message->address < range.end &&
			    message->bytes <= range.end - message->address)
				return at;
		}
	}
	return NULL;
}

/* Data belongs to an input that was asked for, also of a task that was cancelled meanwhile. */
static struct arrived *find_reader(const struct session *session,
				   const struct stream_message *message)
{
	struct arrived *reader = find_among(session->first, message);

	return reader ? reader : find_among(session->answered, message);
}

static void *place(void *context, const struct stream_message *message)
{
	if (find_reader(context, message))
		return (void *)(uintptr_t)message->address;
	error_set(-EBADMSG, "the gateway sent %u bytes for %#llx, which nobody asked for",
		  message->bytes, (unsigned long long)message->address);
	return NULL;
}

static int take_data(struct session *session, const struct stream_message *message)
{
	struct arrived *reader = find_reader(session, message);

	if (reader)
		reader->missing -= message->bytes;
	return 0;
}

/* ---------------------------------------------------------------- contents that go */

static bool uses_range(const struct arrived *arrived, const struct range *range)
{
	for (uint32_t i = 0; arrived->task && i < arrived->args.tensor_count; i++) {
		struct range other = range_of(&arrived->args.tensors[i]);

		if (ranges_overlap(&other, range))
			return true;
	}
	return false;
}

/* Whether a task that is here, or whose outputs are being sent, uses a part of the range. */
static bool is_used(const struct session *session, const struct range *range)
{
	for (const struct arrived *at = session->first; at; at = at->next)
		if (uses_range(at, range))
			return true;
	for (const struct arrived *at = session->answered; at; at = at->next)
		if (uses_range(at, range))
			return true;
	return false;
}

static void give_back(const struct session *session, const struct range *range)
{
	session->options.give_back(session->options.context, range->begin,
				   range->end - range->begin);
}

/* What the task has left without a name. */
static void drop_unnamed(const struct session *session, const struct arrived *arrived)
{
	struct range rest, gap;

	for (uint32_t i = 0; arrived->task && i < arrived->args.tensor_count; i++) {
		rest = range_of(&arrived->args.tensors[i]);
		while (holdings_gap(&session->holdings, &rest, &gap)) {
			if (!is_used(session, &gap))
				give_back(session, &gap);
			rest.begin = gap.end;
		}
	}
}

static void drop_oldest(struct session *session)
{
	const struct holding *piece;
	struct range range;
	uint64_t after = 0;

	while (session->holdings.bytes > session->options.most_bytes &&
	       (piece = holdings_oldest(&session->holdings, after))) {
		range = piece->range;
		after = piece->used;
		if (is_used(session, &range))
			continue;
		holdings_forget(&session->holdings, &range);
		give_back(session, &range);
	}
}

/* Tasks whose outputs have been sent. */
static void clear_answered(struct session *session)
{
	struct arrived **at = &session->answered, *arrived;

	while ((arrived = *at)) {
		if (arrived->missing || bulk_has_data(session->bulk, arrived->number)) {
			at = &arrived->next;
			continue;
		}
		*at = arrived->next;
		drop_unnamed(session, arrived);
		free(arrived);
		drop_oldest(session);
	}
}

/* --------------------------------------------------------------------------- steps */

/* A range is forgotten before it is written. */
static void forget_outputs(struct session *session, const struct arrived *arrived)
{
	for (uint32_t i = 0; i < arrived->args.tensor_count; i++) {
		struct range range = range_of(&arrived->args.tensors[i]);

		if (host_writes(arrived->uses[i].tag))
			holdings_forget(&session->holdings, &range);
	}
}

/*
 * One that was cancelled does not: what comes of them meets nobody, until the gateway says that it
 * has dropped the rest. Over UCX it could come after that word.
 */
static bool waits_for_inputs(const struct session *session)
{
	const struct arrived *first = session->first;

	return first->missing &&
	       !(first->cancelled && bulk_is_in_order(session->bulk, UINT64_MAX));
}

/* The first that waits, once it may be served. */
static bool hand_out(struct session *session, struct session_message *message)
{
	const struct arrived *arrived = session->first;

	if (!arrived || session->handed_out || !arrived->fetched || waits_for_inputs(session))
		return false;
	session->handed_out = true;
	*message = (struct session_message){
		.event = arrived->task ? SESSION_TASK : SESSION_CONTROL,
		.number = arrived->number,
		.payload = arrived->payload,
		.bytes = arrived->blob_bytes,
		.code = arrived->code,
	};
	if (!arrived->task)
		return true;
	message->task = arrived->head.task;
	message->callable = arrived->head.callable;
	message->config = &arrived->head.config;
	message->args = &arrived->args;
	message->uses = arrived->uses;
	message->cancelled = arrived->cancelled;
	place_eager(session, arrived);
	forget_outputs(session, arrived);
	return true;
}

/*
 * Inputs are asked for in the order of the tasks, and for one that reads what the task before it
 * writes the parent has waited: it is not here yet.
 */
static int fetch_all(struct session *session)
{
	int result = 0;

	for (struct arrived *at = session->first; at && result == 0; at = at->next)
		if (!at->fetched)
			result = fetch_inputs(session, at);
	return result;
}

/* Whether the caller has it. A task that has been answered meanwhile is no error. */
static bool cancel(struct session *session, uint64_t number)
{
	for (struct arrived *at = session->first; at; at = at->next)
		if (at->number == number)
			at->cancelled = true;
	return session->handed_out && session->first->number == number;
}

/* The offer is kept for session_ready(); the rest is the caller's. */
static int take_hello(struct session *session, const struct stream_message *from,
		      struct session_message *message)
{
	struct unpack unpack = { .at = from->payload, .left = from->bytes };
	struct net_offer offer;
	void *copy;

	if (session->offer.address || !net_unpack(&unpack, &offer))
		return error_set(-EBADMSG, "the gateway's description of its tree is none");
	copy = malloc(offer.bytes + 1);
	if (!copy)
		return error_set(-ENOMEM, "no memory for an offer of UCX");
	memcpy(copy, offer.address, offer.bytes);
	session->offer = offer;
	session->offer.address = copy;
	net_prepare(session->options.net, &session->offer);
	message->event = SESSION_HELLO;
	message->payload = unpack.at;
	message->bytes = unpack.left;
	return 1;
}

/* The rest of the inputs of a task that was cancelled; nothing, if the last piece had begun. */
static void take_dropped(const struct session *session, uint64_t number)
{
	for (struct arrived *at = session->answered; at; at = at->next)
		if (at->number == number)
			at->missing = 0;
}

static int take_object(struct session *session, const struct stream_message *from,
		       struct session_message *message)
{
	if (!session->wants || from->number != session->first->number)
		return error_set(-EBADMSG, "the gateway sent a shared object for message %llu, "
					   "which wants none",
				 (unsigned long long)from->number);
	session->wants = false;
	message->event = SESSION_OBJECT;
	message->payload = from->payload;
	message->bytes = from->bytes;
	return 1;
}

/* 1: the caller has to see it. */
static int take(struct session *session, const struct stream_message *from,
		struct session_message *message)
{
	*message = (struct session_message){ .number = from->number };
	switch (from->type) {
	case HOST_DATA:
		return take_data(session, from);
	case HOST_TASK:
		return take_task(session, from);
	case HOST_CONTROL:
		return take_control(session, from);
	case HOST_HELLO:
		return take_hello(session, from, message);
	case HOST_EXAMINE:
		message->event = SESSION_EXAMINE;
		message->code = from->address;
		message->got_ns = now_ns();
		return 1;
	case HOST_CANCEL:
		message->event = SESSION_CANCEL;
		return cancel(session, from->number);
	case HOST_DROPPED:
		take_dropped(session, from->number);
		return 0;
	case HOST_OBJECT:
		return take_object(session, from, message);
	case HOST_STOP:
		message->event = SESSION_STOP;
		return 1;
	}
	return error_set(-EBADMSG, "the gateway sent a message of type %u", from->type);
}

int session_step(struct session *session, struct session_message *message)
{
	struct stream_message from;
	int result;

	for (;;) {
		result = fetch_all(session);
		if (result == 0)
			result = bulk_flush(session->bulk);
		if (result < 0)
			return result;
		clear_answered(session);
		if (hand_out(session, message))
			return 1;
		result = bulk_receive(session->bulk, place, session, &from);
		if (result > 0)
			result = take(session, &from, message);
		else if (result == 0)
			return 0;
		if (result)
			return result;
	}
}

/* ------------------------------------------------------------------------- answers */

static void name_outputs(struct session *session, const struct arrived *arrived)
{
	for (uint32_t i = 0; i < arrived->args.tensor_count; i++) {
		struct range range = range_of(&arrived->args.tensors[i]);

		if (host_writes(arrived->uses[i].tag))
			holdings_set(&session->holdings, &range, arrived->uses[i].makes);
	}
}

/* They are not all here, and do not come; tasks behind this one may have counted on them. */
static void forget_inputs(struct session *session, const struct arrived *arrived)
{
	for (uint32_t i = 0; i < arrived->args.tensor_count; i++) {
		struct range range = range_of(&arrived->args.tensors[i]);

		if (host_reads(arrived->uses[i].tag))
			holdings_forget(&session->holdings, &range);
	}
	for (struct arrived *at = arrived->next; at; at = at->next)
		at->fetched = !at->task;
}

static int send_outputs(struct session *session, const struct arrived *arrived)
{
	int result = 0;

	for (uint32_t i = 0; i < arrived->args.tensor_count && result == 0; i++) {
		struct range range = range_of(&arrived->args.tensors[i]);

		if (host_writes(arrived->uses[i].tag))
			result = bulk_send_data(session->bulk, arrived->number, range.begin,
						(const void *)(uintptr_t)range.begin,
						range.end - range.begin);
	}
	return result;
}

int session_done(struct session *session, int error, const char *text, uint64_t began_ns,
		 uint64_t ran_ns)
{
	struct arrived *arrived = session->first;
	const struct host_done_head head = {
		.error = error,
		.got_ns = arrived->got_ns,
		.answered_ns = now_ns(),
		.began_ns = began_ns,
		.ran_ns = ran_ns,
	};
	struct pack pack = { .data = NULL };
	int result = 0;

	if (arrived->task && !error)
		result = send_outputs(session, arrived);
	pack_bytes(&pack, &head, sizeof(head));
	pack_text(&pack, error ? text : NULL);
	if (result == 0)
		result = pack.failed ? error_set(-ENOMEM, "no memory for an answer") :
				       bulk_send_after(session->bulk, HOST_DONE, arrived->number, 0,
						       pack.data, pack.used);
	pack_release(&pack);
	if (arrived->task && !error)
		name_outputs(session, arrived);
	if (arrived->missing)
		forget_inputs(session, arrived);
	session->first = arrived->next;
	if (!session->first)
		session->last = &session->first;
	session->ahead--;
	session->handed_out = false;
	session->wants = false;
	arrived->next = session->answered;
	session->answered = arrived;
	return result;
}

int session_want(struct session *session)
{
	session->wants = true;
	return stream_send(session->stream, HOST_WANT, session->first->number, 0, NULL, 0);
}

int session_examined(struct session *session, const struct session_message *message,
		     const void *about, uint32_t about_bytes)
{
	struct host_examined_head head = {
		.got_ns = message->got_ns,
		.about_bytes = about_bytes,
	};
	struct pack pack = { .data = NULL };
	struct timespec real;
	void *filling;
	int result;

	if (message->code > HOST_EXAMINE_MOST)
		return error_set(-EBADMSG, "%llu bytes were asked for: %u at most",
				 (unsigned long long)message->code, HOST_EXAMINE_MOST);
	clock_gettime(CLOCK_REALTIME, &real);
	head.real_ns = (uint64_t)real.tv_sec * NS_PER_S + (uint64_t)real.tv_nsec;
	head.answered_ns = now_ns();
	pack_bytes(&pack, &head, sizeof(head));
	pack_bytes(&pack, about, about_bytes);
	filling = pack_space(&pack, message->code);
	if (filling)
		memset(filling, 0, message->code);
	result = pack.failed ? error_set(-ENOMEM, "no memory for an answer") :
			       stream_send(session->stream, HOST_EXAMINED, message->number, 0,
					   pack.data, pack.used);
	pack_release(&pack);
	return result;
}

int session_trace(struct session *session, int32_t worker, const void *lines, size_t bytes)
{
	const struct arrived *served = session->handed_out ? session->first : NULL;
	const struct host_trace_head head = {
		.got_ns = served ? served->got_ns : 0,
		.answered_ns = now_ns(),
		.worker = worker,
	};
	struct pack pack = { .data = NULL };
	int result;

	pack_bytes(&pack, &head, sizeof(head));
	pack_bytes(&pack, lines, bytes);
	result = pack.failed ?
			 error_set(-ENOMEM, "no memory for lines of a trace") :
			 stream_send(session->stream, HOST_TRACE, served ? served->number : 0, 0,
				     pack.data, pack.used);
	pack_release(&pack);
	return result;
}

int session_ready(struct session *session)
{
	int result = net_accept(session->bulk, session->options.net, &session->offer);
	const void *address;
	size_t bytes;

	if (result < 0)
		return result;
	address = bulk_address(session->bulk, &bytes);
	return stream_send(session->stream, HOST_READY, 0, 0, address, bytes);
}

int session_refuse(struct session *session, int error, const char *text)
{
	struct pack pack = { .data = NULL };
	int result;

	pack_u32(&pack, (uint32_t)error);
	pack_text(&pack, text);
	result = pack.failed ?
			 error_set(-ENOMEM, "no memory for an answer") :
			 stream_send(session->stream, HOST_REFUSED, 0, 0, pack.data, pack.used);
	pack_release(&pack);
	return result;
}
