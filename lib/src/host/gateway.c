/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind gateway.h. */
#include <errno.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/range.h"
#include "base/text.h"
#include "host/gateway.h"
#include "host/holdings.h"
#include "host/net.h"
#include "host/pack.h"
#include "task/error.h"
#include "task/task.h"

/* What a task in flight may have sent, and received. */
struct allowed {
	struct range range;
	bool reads, writes;
	bool pushed; /* the session need not ask */
	uint64_t makes; /* the name of what is written */
};

struct in_flight {
	struct in_flight *next;
	uint64_t number, sent_ns;
	uint64_t reads, sent; /* bytes of its inputs, and of those that the session has got */
	uint32_t count;
	struct allowed allowed[];
};

struct gateway {
	struct stream *stream;
	struct bulk *bulk;
	enum net net;
	struct in_flight *first, **last;
	uint32_t in_flight;
	uint64_t posted; /* the number that was given last */
	struct gateway_counters counters;
	struct offset offset;
	gateway_trace *trace;
	void *trace_context;
	gateway_object *object;
	void *object_context;
	struct holdings there; /* what the session has, if it has not dropped it */
	char text[ERROR_TEXT_BYTES];
};

int gateway_create(struct stream *stream, struct gateway **result)
{
	struct gateway *gateway = calloc(1, sizeof(*gateway));

	if (!gateway || bulk_create(stream, &gateway->bulk) < 0) {
		free(gateway);
		stream_destroy(stream);
		return error_set(-ENOMEM, "no memory for a gateway");
	}
	gateway->stream = stream;
	gateway->last = &gateway->first;
	*result = gateway;
	return 0;
}

void gateway_destroy(struct gateway *gateway)
{
	struct in_flight *next;

	if (!gateway)
		return;
	for (struct in_flight *at = gateway->first; at; at = next) {
		next = at->next;
		free(at);
	}
	holdings_release(&gateway->there);
	bulk_destroy(gateway->bulk);
	stream_destroy(gateway->stream);
	free(gateway);
}

uint32_t gateway_poll(const struct gateway *gateway, struct pollfd polls[BULK_POLLS])
{
	return bulk_poll(gateway->bulk, polls);
}

bool gateway_has_ucx(const struct gateway *gateway)
{
	return bulk_has_ucx(gateway->bulk);
}

uint32_t gateway_in_flight(const struct gateway *gateway)
{
	return gateway->in_flight;
}

void gateway_on_trace(struct gateway *gateway, gateway_trace *trace, void *context)
{
	gateway->trace = trace;
	gateway->trace_context = context;
}

void gateway_on_object(struct gateway *gateway, gateway_object *object, void *context)
{
	gateway->object = object;
	gateway->object_context = context;
}

struct offset *gateway_offset(struct gateway *gateway)
{
	return &gateway->offset;
}

void gateway_counters(const struct gateway *gateway, struct gateway_counters *counters)
{
	struct stream_counters stream;

	bulk_counters(gateway->bulk, &stream);
	*counters = gateway->counters;
	counters->bytes_in = stream.bytes_in;
}

/* ------------------------------------------------------------------------ sending */

static struct in_flight *new_in_flight(uint32_t tensors)
{
	struct in_flight *made = calloc(1, sizeof(*made) + tensors * sizeof(made->allowed[0]));

	if (!made)
		error_set(-ENOMEM, "no memory for a task of another host");
	return made;
}

/* From now on it is the session's. */
static void add_in_flight(struct gateway *gateway, struct in_flight *made, uint64_t *number)
{
	made->number = *number = ++gateway->posted;
	made->sent_ns = now_ns();
	*gateway->last = made;
	gateway->last = &made->next;
	gateway->in_flight++;
}

static bool is_eager(const struct allowed *allowed)
{
	uint64_t bytes = allowed->range.end - allowed->range.begin;

	return allowed->reads && bytes && bytes <= HOST_EAGER_BYTES;
}

/* UCX is another way than that of the task's message, and could be faster. */
static bool is_pushed(struct gateway *gateway, const struct allowed *allowed, uint64_t name)
{
	uint64_t bytes = allowed->range.end - allowed->range.begin;

	return allowed->reads && bytes > HOST_EAGER_BYTES &&
	       bulk_is_in_order(gateway->bulk, bytes) &&
	       !holdings_has(&gateway->there, &allowed->range, name);
}

static int note_tensors(struct gateway *gateway, const struct gateway_task *task,
			struct in_flight *made, uint32_t *eager)
{
	uint64_t bytes;
	int result;

	made->count = task->args->tensor_count;
	for (uint32_t i = 0; i < made->count; i++) {
		const struct dw_tensor *tensor = &task->args->tensors[i];
		uint32_t tag = task->uses[i].tag;

		result = tensor_check(tensor, i, &bytes);
		if (result < 0)
			return result;
		if (bytes && !host_reads(tag) && !host_writes(tag))
			return error_set(-EOPNOTSUPP,
					 "tensor %u (%s): a Worker on another host "
					 "takes INPUT, OUTPUT and INOUT",
					 i, tag == DW_NO_DEP ? "NO_DEP" : "OUTPUT_EXISTING");
		made->allowed[i] = (struct allowed){
			{ tensor->data, tensor->data + bytes },
			host_reads(tag),
			host_writes(tag),
			.makes = task->uses[i].makes,
		};
		made->allowed[i].pushed =
			is_pushed(gateway, &made->allowed[i], task->uses[i].sees);
		made->reads += made->allowed[i].reads ? bytes : 0;
		if (is_eager(&made->allowed[i])) {
			made->sent += bytes;
			++*eager;
		}
	}
	return 0;
}

static void pack_task(struct pack *pack, const struct gateway_task *task,
		      const struct in_flight *made, uint32_t eager)
{
	uint64_t args_bytes = wire_bytes(task->args);
	const struct host_task_head head = {
		.task = task->task,
		.callable = task->callable,
		.config = *task->config,
		.args_bytes = (uint32_t)args_bytes,
		.eager = eager,
	};
	void *args;

	pack_bytes(pack, &head, sizeof(head));
	args = pack_space(pack, args_bytes);
	if (args)
		wire_encode(task->args, args);
	pack_bytes(pack, task->uses, made->count * sizeof(*task->uses));
	for (uint32_t i = 0; i < made->count; i++) {
		const uint8_t pushed = made->allowed[i].pushed;

		pack_bytes(pack, &pushed, 1);
	}
	for (uint32_t i = 0; i < made->count; i++) {
		const struct range *range = &made->allowed[i].range;

		if (is_eager(&made->allowed[i]))
			pack_bytes(pack, (const void *)(uintptr_t)range->begin,
				   range->end - range->begin);
	}
}

/* Sends a payload, which it drops, and takes `made` for what is in flight, or drops it too. */
static int post(struct gateway *gateway, enum host_message type, struct pack *pack,
		struct in_flight *made, uint64_t *number)
{
	int result = pack->failed ?
		error_set(-ENOMEM, "no memory for a message to another host") :
		stream_send(gateway->stream, type, gateway->posted + 1, 0, pack->data, pack->used);

	pack_release(pack);
	if (result == 0)
		add_in_flight(gateway, made, number);
	else
		free(made);
	return result;
}

/* Behind its message. What the task writes is there under no name until it is done. */
static int push_inputs(struct gateway *gateway, const struct gateway_task *task,
		       struct in_flight *made)
{
	int result = 0;

	for (uint32_t i = 0; i < made->count && result == 0; i++) {
		const struct allowed *allowed = &made->allowed[i];
		uint64_t bytes = allowed->range.end - allowed->range.begin;

		if (allowed->writes)
			holdings_forget(&gateway->there, &allowed->range);
		else if (allowed->reads && bytes > HOST_EAGER_BYTES)
			holdings_set(&gateway->there, &allowed->range, task->uses[i].sees);
		if (!allowed->pushed)
			continue;
		made->sent += bytes;
		result = bulk_send_data(gateway->bulk, made->number, allowed->range.begin,
					(const void *)(uintptr_t)allowed->range.begin, bytes);
	}
	return result;
}

int gateway_post(struct gateway *gateway, const struct gateway_task *task, uint64_t *number)
{
	struct in_flight *made = new_in_flight(task->args->tensor_count);
	struct pack pack = { .data = NULL };
	uint32_t eager = 0;
	int result = made ? note_tensors(gateway, task, made, &eager) : -ENOMEM;

	if (result < 0) {
		free(made);
		return result;
	}
	pack_task(&pack, task, made, eager);
	result = post(gateway, HOST_TASK, &pack, made, number);
	return result < 0 ? result : push_inputs(gateway, task, made);
}

int gateway_control(struct gateway *gateway, uint64_t code, const void *blob, size_t bytes,
		    uint64_t *number)
{
	struct in_flight *made = new_in_flight(0);
	struct pack pack = { .data = NULL };

	if (!made)
		return -ENOMEM;
	pack_u64(&pack, code);
	pack_bytes(&pack, blob, bytes);
	return post(gateway, HOST_CONTROL, &pack, made, number);
}

int gateway_greet(struct gateway *gateway, const void *payload, size_t bytes)
{
	struct pack pack = { .data = NULL };
	int result = net_read(&gateway->net);

	if (result == 0)
		result = net_offer(gateway->bulk, gateway->net, &pack);
	pack_bytes(&pack, payload, bytes);
	if (result == 0)
		result = pack.failed ? error_set(-ENOMEM, "no memory to describe the tree") :
				       stream_send(gateway->stream, HOST_HELLO, 0, 0, pack.data,
						   pack.used);
	pack_release(&pack);
	return result;
}

int gateway_cancel(struct gateway *gateway, uint64_t number)
{
	return stream_send(gateway->stream, HOST_CANCEL, number, 0, NULL, 0);
}

int gateway_stop(struct gateway *gateway)
{
	return stream_send(gateway->stream, HOST_STOP, 0, 0, NULL, 0);
}

/* ---------------------------------------------------------------------- receiving */

static struct in_flight **find(struct gateway *gateway, uint64_t number)
{
	struct in_flight **at = &gateway->first;

	while (*at && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

/* The task in flight that reads, or writes, all of these bytes in one tensor; NULL: none. */
static struct in_flight *find_user(struct gateway *gateway, uint64_t number, uint64_t address,
				   uint64_t bytes, bool write)
{
	struct in_flight *task = *find(gateway, number);

	for (uint32_t i = 0; task && i < task->count; i++) {
		const struct allowed *allowed = &task->allowed[i];

		if ((write ? allowed->writes : allowed->reads) && address >= allowed->range.begin &&
		    address < allowed->range.end && bytes <= allowed->range.end - address)
			return task;
	}
	return NULL;
}

static void *place(void *context, const struct stream_message *message)
{
	struct gateway *gateway = context;

	if (find_user(gateway, message->number, message->address, message->bytes, true))
		return (void *)(uintptr_t)message->address;
	error_set(-EBADMSG,
		  "the other host sent %u bytes for %#llx, which task %llu does not write",
		  message->bytes, (unsigned long long)message->address,
		  (unsigned long long)message->number);
	return NULL;
}

static int fetch(struct gateway *gateway, const struct stream_message *message)
{
	struct unpack unpack = { .at = message->payload, .left = message->bytes };
	uint64_t bytes = unpack_u64(&unpack);
	struct in_flight *task =
		find_user(gateway, message->number, message->address, bytes, false);

	if (!unpack_done(&unpack) || !task)
		return error_set(-EBADMSG,
				 "the other host asked for %llu bytes at %#llx, which "
				 "task %llu does not read",
				 (unsigned long long)bytes, (unsigned long long)message->address,
				 (unsigned long long)message->number);
	task->sent += bytes;
	return bulk_send_data(gateway->bulk, message->number, message->address,
			      (const void *)(uintptr_t)message->address, bytes);
}

static void take_times(struct gateway *gateway, const struct in_flight *task, uint64_t got_ns,
		       uint64_t answered_ns)
{
	const struct offset_sample sample = {
		.sent_ns = task->sent_ns,
		.got_ns = got_ns,
		.answered_ns = answered_ns,
		.received_ns = now_ns(),
	};

	offset_take(&gateway->offset, &sample);
}

/* What the session needs no more: it was cancelled before they were there. */
static int drop_inputs(struct gateway *gateway, uint64_t number)
{
	if (!bulk_has_data(gateway->bulk, number))
		return 0;
	bulk_drop_data(gateway->bulk, number);
	return stream_send(gateway->stream, HOST_DROPPED, number, 0, NULL, 0);
}

static int take_done(struct gateway *gateway, const struct stream_message *message,
		     struct gateway_done *done)
{
	struct unpack unpack = { .at = message->payload, .left = message->bytes };
	struct in_flight **at = find(gateway, message->number), *task = *at;
	struct host_done_head head;
	const char *text;
	int result;

	unpack_into(&unpack, &head, sizeof(head));
	text = unpack_text(&unpack);
	if (!task || !unpack_done(&unpack) || head.error > 0 || head.error < -4095)
		return error_set(-EBADMSG,
				 "the other host ended task %llu, error %d, with %u "
				 "bytes: %s",
				 (unsigned long long)message->number, head.error, message->bytes,
				 task ? "no such message" : "it has none of it");
	result = drop_inputs(gateway, message->number);
	if (result < 0)
		return result;
	gateway->counters.bytes_out += task->sent;
	gateway->counters.saved += task->reads > task->sent ? task->reads - task->sent : 0;
	take_times(gateway, task, head.got_ns, head.answered_ns);
	for (uint32_t i = 0; i < task->count && !head.error; i++)
		if (task->allowed[i].writes)
			holdings_set(&gateway->there, &task->allowed[i].range,
				     task->allowed[i].makes);
	*at = task->next;
	if (gateway->last == &task->next)
		gateway->last = at;
	free(task);
	gateway->in_flight--;
	text_copy(gateway->text, sizeof(gateway->text), text ? text : "");
	*done = (struct gateway_done){
		.number = message->number,
		.error = head.error,
		.began_ns = offset_here(&gateway->offset, head.began_ns),
		.ended_ns = offset_here(&gateway->offset, head.began_ns + head.ran_ns),
		.ran_ns = head.ran_ns,
		.text = gateway->text,
	};
	return 1;
}

static int unexpected(const struct stream_message *message)
{
	return error_set(-EBADMSG,
			 "the other host sent a message of type %u (%llu, %u bytes), "
			 "which is not its turn",
			 message->type, (unsigned long long)message->number, message->bytes);
}

/* A task that is served is a sample: what its lines tell comes after it was sent. */
static int take_trace(struct gateway *gateway, const struct stream_message *message)
{
	struct unpack unpack = { .at = message->payload, .left = message->bytes };
	const struct in_flight *task = *find(gateway, message->number);
	struct host_trace_head head;

	if (!unpack_into(&unpack, &head, sizeof(head)) || !gateway->trace)
		return unexpected(message);
	if (task)
		take_times(gateway, task, head.got_ns, head.answered_ns);
	gateway->trace(gateway->trace_context, head.worker, (const char *)unpack.at, unpack.left);
	return 0;
}

/* A message of its own, which the stream authenticates: what is in it will run there. */
static int send_object(struct gateway *gateway, const struct stream_message *message)
{
	struct pack file = { .data = NULL }, pack = { .data = NULL };
	int result;

	if (message->bytes || !gateway->object || !*find(gateway, message->number))
		return unexpected(message);
	result = gateway->object(gateway->object_context, message->number, &file);
	if (result == 0 && file.failed)
		result = error_set(-ENOMEM, "no memory for a shared object");
	pack_u32(&pack, (uint32_t)result);
	pack_text(&pack, result < 0 ? error_text() : NULL);
	if (result == 0)
		pack_bytes(&pack, file.data, file.used);
	result = pack.failed ? error_set(-ENOMEM, "no memory for a shared object") :
			       stream_send(gateway->stream, HOST_OBJECT, message->number, 0,
					   pack.data, pack.used);
	pack_release(&file);
	pack_release(&pack);
	return result;
}

/* The session cannot begin, or go on: its error. */
static int refused(const struct stream_message *message)
{
	struct unpack unpack = { .at = message->payload, .left = message->bytes };
	int error = (int)unpack_u32(&unpack);
	const char *text = unpack_text(&unpack);

	if (message->type != HOST_REFUSED || !text || error >= 0 || error < -4095)
		return unexpected(message);
	return error_set(error, "%s", text);
}

int gateway_greeted(struct gateway *gateway)
{
	struct stream_message message;
	int result = stream_flush(gateway->stream);

	if (result < 0)
		return result;
	result = stream_receive(gateway->stream, place, gateway, &message);
	if (result <= 0)
		return result;
	if (message.type != HOST_READY)
		return refused(&message);
	result = net_settle(gateway->bulk, gateway->net, message.payload, message.bytes);
	return result < 0 ? result : 1;
}

int gateway_flush(struct gateway *gateway)
{
	return bulk_flush(gateway->bulk);
}

int gateway_step(struct gateway *gateway, struct gateway_done *done)
{
	struct stream_message message;
	int result = bulk_flush(gateway->bulk);

	while (result == 0) {
		result = bulk_receive(gateway->bulk, place, gateway, &message);
		if (result <= 0)
			break;
		if (message.type == HOST_DONE)
			return take_done(gateway, &message, done);
		if (message.type == HOST_FETCH)
			result = fetch(gateway, &message);
		else if (message.type == HOST_TRACE)
			result = take_trace(gateway, &message);
		else if (message.type == HOST_WANT)
			result = send_object(gateway, &message);
		else
			result = message.type == HOST_DATA ? 0 : refused(&message);
		if (result == 0)
			result = bulk_flush(gateway->bulk);
	}
	return result;
}
