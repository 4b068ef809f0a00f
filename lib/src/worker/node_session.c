/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind node_session.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/text.h"
#include "callable/symbol.h"
#include "host/pack.h"
#include "host/session.h"
#include "worker/about.h"
#include "worker/control.h"
#include "worker/hierarchy.h"
#include "worker/node_again.h"
#include "worker/node_session.h"
#include "worker/node_trace.h"
#include "worker/node_tree.h"
#include "worker/objects.h"

/* The gateway describes its tree right after the handshake. */
#define HELLO_NS (30 * NS_PER_S)

struct node_session {
	const struct node_session_options *options;
	struct node_tree tree;
	pthread_mutex_t lock;
	struct session *session; /* with the lock, once both threads run */
	bool busy; /* with the lock: a message is being served */
	int ended; /* with the lock: 1: the gateway has said so, -errno: the connection is broken */
	char why[ERROR_TEXT_BYTES]; /* with the lock: of -errno */
	bool listener_ends; /* with the lock: it has seen the end, and closes the tree */
	_Atomic uint32_t cancel; /* the running task's */
	pthread_cond_t came; /* `object` has, or `ended` is set */
	struct session_message object; /* with the lock: a copy; event NOTHING: none is here */
	pthread_t listener;
	int listener_fd; /* an epoll: has the connection while a message is being served */
	int death_fd; /* a pidfd of the Worker */
	struct node_trace trace; /* with the lock */
	bool examined; /* the other end has asked about this host */
};

/* The same bits as those of poll(). */
static int listen_to(const struct node_session *node, int operation, const struct pollfd *polled,
		     bool busy)
{
	struct epoll_event event = {
		.events = EPOLLONESHOT | (busy ? (uint32_t)polled->events : 0),
	};

	return epoll_ctl(node->listener_fd, operation, polled->fd, &event);
}

/* The listener hears of it once: when something has arrived, or `busy` is false and it broke. */
static void let_listen(const struct node_session *node, bool busy)
{
	struct pollfd polls[BULK_POLLS];
	uint32_t count = session_poll(node->session, polls);

	for (uint32_t i = 0; i < count; i++)
		listen_to(node, EPOLL_CTL_MOD, &polls[i], busy);
}

/* ---------------------------------------------------------- tasks and control */

struct submission {
	const struct session_message *message;
	struct dw_args args;
};

static int submit_one(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct submission *submission = context;

	(void)args;
	return engine_submit_named(orch, submission->message->callable, &submission->args, config,
				   submission->message->uses);
}

/*
 * The tags order nothing here, where one task runs at a time. The names are those of home, and come
 * with tags of their own.
 */
static int run_task(struct node_session *node, const struct session_message *message)
{
	struct submission submission = { .message = message, .args = *message->args };
	const struct engine_nested_run run = {
		.cancel = &node->cancel,
		.tasks_before = message->task - 1,
	};
	uint32_t count = message->args->tensor_count;
	int result;

	if (message->cancelled)
		return error_set(-ECANCELED, "cancelled from above");
	submission.args.tags = malloc(count ? count : 1);
	if (!submission.args.tags)
		return error_set(-ENOMEM, "no memory for a task of %u tensors", count);
	for (uint32_t i = 0; i < count; i++)
		submission.args.tags[i] = host_writes(message->uses[i].tag) ? DW_INOUT : DW_INPUT;
	result = engine_run(node->tree.outer->life.engine, submit_one, message->args,
			    message->config, &submission, &run);
	free(submission.args.tags);
	return result;
}

/* Is it the object that was registered? */
static int check_object(const struct callable *symbol, const char *path)
{
	uint8_t identity[sizeof(symbol->identity)];
	int result = symbol_identify(path, symbol->symbol, identity);

	if (result == 0 && memcmp(identity, symbol->identity, sizeof(identity)) != 0)
		result = error_set(-ESTALE, "%s is another file here than in the tree's process",
				   text_short(path));
	return result;
}

/* Asks home for the object of the symbol that is being registered, and waits for the listener. */
static int fetch_object(struct node_session *node, struct session_message *object)
{
	int result;

	pthread_mutex_lock(&node->lock);
	result = session_want(node->session);
	if (result == 0)
		result = session_flush(node->session);
	if (result == 0)
		let_listen(node, true);
	while (result == 0 && !node->object.event && !node->ended)
		pthread_cond_wait(&node->came, &node->lock);
	if (result == 0 && !node->object.event)
		result = error_set(-ECONNRESET, "the connection has ended");
	*object = node->object;
	node->object.event = SESSION_NOTHING;
	pthread_mutex_unlock(&node->lock);
	return result;
}

static int keep_object(const struct callable *symbol, const char *path,
		       const struct session_message *object)
{
	struct unpack unpack = { .at = object->payload, .left = object->bytes };
	int error;
	const char *text;

	if (!object->payload)
		return error_set(-ENOMEM, "no memory for a shared object of %zu bytes",
				 object->bytes);
	error = (int)unpack_u32(&unpack);
	text = unpack_text(&unpack);
	if (error < 0 && error >= -4095 && text)
		return error_set(error, "at home: %s", text);
	if (error || unpack.failed)
		return error_set(-EBADMSG, "the gateway sent a shared object that is none");
	return objects_keep(path, symbol, unpack.at, unpack.left);
}

/* Where this host has the object of a symbol, or has it now: `path` is space for that. */
static int find_object(struct node_session *node, struct callable *symbol, char path[PATH_MAX])
{
	struct session_message object;
	int result = check_object(symbol, symbol->path);

	if (result == 0 || !node->options->objects)
		return result;
	result = objects_place(node->options->objects, symbol, path);
	if (result == 0 && check_object(symbol, path) < 0) {
		result = fetch_object(node, &object);
		if (result == 0) {
			result = keep_object(symbol, path, &object);
			free((void *)(uintptr_t)object.payload);
		}
	}
	symbol->path = path;
	return result;
}

static int register_symbol(struct node_session *node, struct callable *symbol)
{
	char path[PATH_MAX];
	dw_callable handle;
	uint32_t bytes;
	void *blob;
	int result;

	if (!symbol->path || !symbol->symbol)
		return error_set(-EBADMSG, "the registration of a symbol has none");
	result = find_object(node, symbol, path);
	if (result == 0)
		result = callable_add(symbol, &handle);
	if (result == 0)
		result = control_encode(symbol, &blob, &bytes);
	if (result < 0)
		return result;
	result = control_broadcast(node->tree.outer, CONTROL_REGISTER, blob, bytes);
	free(blob);
	return result;
}

/* `blob` is a copy, aligned as it has to be. */
static int register_blob(struct node_session *node, void *blob, uint32_t bytes,
			 const void *content, size_t content_bytes)
{
	struct callable callable;
	uint64_t owner, image_bytes;
	void *image;
	int result = control_check(blob, bytes);

	if (result < 0)
		return result;
	owner = control_owner(blob);
	image = control_image(blob, &image_bytes);
	if (owner >= node->tree.worker_count || image_bytes != content_bytes ||
	    (image_bytes &&
	     !arena_contains(node->tree.memory, (uint64_t)(uintptr_t)image, image_bytes)))
		return error_set(-EBADMSG, "the registration of a callable makes no sense");
	control_set_owner(blob, (uint64_t)(uintptr_t)node->tree.workers[owner]);
	if (image_bytes)
		memcpy(image, content, image_bytes);
	control_decode(blob, &callable);
	if (callable_is_symbol(callable.kind))
		return register_symbol(node, &callable);
	result = control_register(blob, &callable);
	return result < 0 ? result :
			    control_broadcast(node->tree.outer, CONTROL_REGISTER, blob, bytes);
}

static int run_register(struct node_session *node, struct unpack *unpack)
{
	uint32_t bytes = unpack_u32(unpack);
	const void *there = unpack_bytes(unpack, bytes);
	void *blob = there ? malloc(bytes) : NULL;
	int result;

	if (!blob)
		return error_set(there ? -ENOMEM : -EBADMSG,
				 "the registration of a callable has "
				 "%u bytes",
				 bytes);
	memcpy(blob, there, bytes);
	result = register_blob(node, blob, bytes, unpack->at, unpack->left);
	free(blob);
	return result;
}

static int run_control(struct node_session *node, const struct session_message *message)
{
	struct unpack unpack = { .at = message->payload, .left = message->bytes };
	dw_callable handle;
	int result;

	if (message->code == CONTROL_REGISTER)
		return run_register(node, &unpack);
	if (message->code != CONTROL_UNREGISTER)
		return control_unknown(message->code);
	if (!unpack_into(&unpack, &handle, sizeof(handle)))
		return error_set(-EBADMSG, "the unregistration of a callable has %zu bytes",
				 message->bytes);
	result = control_broadcast(node->tree.outer, CONTROL_UNREGISTER, &handle, sizeof(handle));
	control_unregister(&handle);
	return result;
}

/* ------------------------------------------------------------------------ death */

static struct child *worker_of(const struct node_session *node)
{
	return &node->tree.outer->children[0];
}

static int watch_worker(struct node_session *node)
{
	struct dw_worker *outer = node->tree.outer;

	pthread_mutex_lock(&outer->lock);
	node->death_fd = fcntl(worker_of(node)->life.pidfd, F_DUPFD_CLOEXEC, 3);
	pthread_mutex_unlock(&outer->lock);
	return node->death_fd < 0 ?
		       error_set(-errno, "cannot watch the Worker: %s", strerror(errno)) :
		       0;
}

/* Whether it is dead, and why. `wait`: it is, and its parent may not know it yet. */
static bool is_dead(const struct node_session *node, bool wait, char *text, size_t space)
{
	struct dw_worker *outer = node->tree.outer;
	const struct segment_child *place = &outer->segment.children[0];
	bool dead;

	pthread_mutex_lock(&outer->lock);
	while (wait && worker_of(node)->life.state == CHILD_READY)
		pthread_cond_wait(&outer->changed, &outer->lock);
	dead = worker_of(node)->life.state != CHILD_READY;
	text_copy(text, space, place->cause);
	pthread_mutex_unlock(&outer->lock);
	return dead;
}

/* ----------------------------------------------------------------- the connection */

static void cancel(struct node_session *node)
{
	atomic_store(&node->cancel, 1);
	engine_cancel_flagged(node->tree.outer->life.engine, -ECANCELED, "cancelled from above");
}

/* Its payload is valid until the next step. */
static void take_object(struct node_session *node, const struct session_message *message)
{
	void *copy = malloc(message->bytes ? message->bytes : 1);

	if (copy)
		memcpy(copy, message->payload, message->bytes);
	node->object = *message;
	node->object.payload = copy;
}

/* What arrives while a message is being served. With the lock. */
static void attend(struct node_session *node)
{
	struct session_message message;
	int result;

	while ((result = session_step(node->session, &message)) == 1) {
		if (message.event == SESSION_CANCEL) {
			cancel(node);
			continue;
		}
		if (message.event == SESSION_OBJECT) {
			take_object(node, &message);
			continue;
		}
		if (message.event != SESSION_STOP)
			result = error_set(-EBADMSG, "the gateway describes its tree twice");
		break;
	}
	node->ended = result;
	if (result < 0)
		text_copy(node->why, sizeof(node->why), error_text());
	pthread_cond_signal(&node->came);
}

/* The second thread. Without the connection nobody waits for the task that runs: the tree ends. */
static void *listen_meanwhile(void *context)
{
	struct node_session *node = context;
	struct epoll_event event;
	bool ended = false;

	while (!ended) {
		if (epoll_wait(node->listener_fd, &event, 1, -1) <= 0)
			continue;
		pthread_mutex_lock(&node->lock);
		if (node->busy) {
			attend(node);
			ended = node->listener_ends = node->ended;
			if (!ended)
				let_listen(node, true);
		}
		pthread_mutex_unlock(&node->lock);
	}
	dw_worker_close(node->tree.outer);
	return NULL;
}

static int start_listener(struct node_session *node)
{
	struct pollfd polls[BULK_POLLS];
	uint32_t count = session_poll(node->session, polls);
	int error;

	node->listener_fd = fd_move_up(epoll_create1(EPOLL_CLOEXEC));
	for (uint32_t i = 0; i < count; i++)
		if (node->listener_fd < 0 || listen_to(node, EPOLL_CTL_ADD, &polls[i], false) < 0)
			return error_set(-errno, "epoll: %s", strerror(errno));
	error = pthread_create(&node->listener, NULL, listen_meanwhile, node);
	return error ? error_set(-error, "no thread to listen: %s", strerror(error)) : 0;
}

/* ------------------------------------------------------------------- the first thread */

/* Whether the Worker has died. */
static bool wait_for(const struct node_session *node, uint64_t deadline_ns)
{
	uint64_t now = now_ns();
	struct timespec rest = clock_timespec(deadline_ns > now ? deadline_ns - now : 0);
	struct pollfd polls[1 + BULK_POLLS] = { { .fd = node->death_fd, .events = POLLIN } };
	uint32_t count = 1 + session_poll(node->session, polls + 1);

	return ppoll(polls, count, deadline_ns == NEVER ? NULL : &rest, NULL) > 0 &&
	       polls[0].revents;
}

/* Until all is sent, or the connection has ended. */
static void send_rest(const struct node_session *node)
{
	struct pollfd polls[BULK_POLLS];
	uint32_t count;

	while (session_flush(node->session) == 0) {
		count = session_poll(node->session, polls);
		if (!(polls[0].events & POLLOUT))
			return;
		polls[0].events = POLLOUT;
		poll(polls, count, -1);
	}
}

static int refuse(const struct node_session *node, int error)
{
	char text[ERROR_TEXT_BYTES];

	text_copy(text, sizeof(text), error_text());
	log_at(LOG_WARN, "the tree of %s is refused: %s", node->options->peer, text);
	if (session_refuse(node->session, error, text) == 0)
		send_rest(node);
	return 1;
}

static int report_death(const struct node_session *node, const char *cause)
{
	error_set(-EOWNERDEAD, "%s", cause);
	return refuse(node, -EOWNERDEAD);
}

/* A task or a control message, without the lock meanwhile. 0, 1: the Worker has died, -errno. */
static int serve_message(struct node_session *node, const struct session_message *message)
{
	char text[ERROR_TEXT_BYTES], cause[ERROR_TEXT_BYTES];
	uint64_t began = now_ns(), ran;
	int error;

	atomic_store(&node->cancel, 0);
	/*
	 * UCX tells of what comes only after it was asked, and what has come with this message was
	 * not looked at yet. Without this the inputs of the next task would not be asked for, and
	 * not come, before this one has ended: no result would differ, since the next
	 * session_step() asks for them, and session.c hands a task out once they are here.
	 */
	if (session_has_ucx(node->session))
		attend(node);
	if (node->ended)
		return 0;
	node->busy = true;
	let_listen(node, true);
	pthread_mutex_unlock(&node->lock);
	error = message->event == SESSION_TASK ? run_task(node, message) :
						 run_control(node, message);
	ran = now_ns() - began;
	text_copy(text, sizeof(text), error < 0 ? error_text() : "");
	pthread_mutex_lock(&node->lock);
	node->busy = false;
	let_listen(node, false);
	if (node->ended)
		return 0;
	/* A task that runs when its Worker dies ends with it, and says so. */
	if (error < 0 && is_dead(node, false, cause, sizeof(cause)))
		return report_death(node, cause);
	node_trace_send(&node->trace);
	return session_done(node->session, error, text, began, ran);
}

/* Nothing is being served. As serve_message(). */
static int wait_for_more(struct node_session *node)
{
	char cause[ERROR_TEXT_BYTES];
	bool dead;

	pthread_mutex_unlock(&node->lock);
	dead = wait_for(node, NEVER);
	if (dead)
		is_dead(node, true, cause, sizeof(cause));
	pthread_mutex_lock(&node->lock);
	return dead ? report_death(node, cause) : 0;
}

/* With the lock. 0: goes on, 1: leaves, -errno: the connection has ended. */
static int step(struct node_session *node)
{
	struct session_message message;
	int result;

	if (node->ended)
		return node->ended < 0 ? error_set(node->ended, "%s", node->why) : 1;
	result = session_step(node->session, &message);
	if (result == 0)
		return wait_for_more(node);
	if (result < 0 || message.event == SESSION_STOP)
		return result;
	if (message.event == SESSION_TASK || message.event == SESSION_CONTROL)
		return serve_message(node, &message);
	return error_set(-EBADMSG, "the gateway describes its tree twice");
}

static int serve(struct node_session *node)
{
	bool listener_ends;
	int result;

	pthread_mutex_lock(&node->lock);
	while ((result = step(node)) == 0)
		;
	listener_ends = node->listener_ends;
	pthread_mutex_unlock(&node->lock);
	if (listener_ends)
		pthread_join(node->listener, NULL);
	if (result < 0)
		log_at(LOG_WARN, "the connection from %s has ended: %s", node->options->peer,
		       error_text());
	return result;
}

static bool in_memory(void *context, uint64_t address, uint64_t bytes)
{
	const struct node_session *node = context;

	return arena_contains(node->tree.memory, address, bytes);
}

static void give_back(void *context, uint64_t address, uint64_t bytes)
{
	(void)context;
	arena_give_back(address, bytes);
}

static int describe(struct node_session *node, const struct session_message *message)
{
	struct pack about = { .data = NULL };
	struct pollfd polls[BULK_POLLS];
	int result;

	node->examined = true;
	session_poll(node->session, polls);
	about_encode(node->options, polls[0].fd, &about);
	result = about.failed ?
			 error_set(-ENOMEM, "no memory to describe this host") :
			 session_examined(node->session, message, about.data, (uint32_t)about.used);
	pack_release(&about);
	return result;
}

/* The gateway's description of its tree; before it, questions of `distworker doctor`. */
static int wait_hello(struct node_session *node, struct session_message *message)
{
	uint64_t deadline = now_ns() + HELLO_NS;
	int result;

	while ((result = session_step(node->session, message)) >= 0) {
		if (result == 1 && message->event != SESSION_EXAMINE)
			return 1;
		if (result == 1)
			result = describe(node, message);
		else if (now_ns() >= deadline)
			return error_set(-ETIMEDOUT, "the gateway does not describe its tree");
		else
			wait_for(node, deadline);
		if (result < 0)
			return result;
	}
	return result;
}

/* With the text of the collision. Returns if the tree has to be refused. */
static int start_again(const struct node_session *node, int error)
{
	char text[ERROR_TEXT_BYTES];
	struct pollfd polls[BULK_POLLS];

	text_copy(text, sizeof(text), error_text());
	if (again_count() >= AGAIN_MOST)
		return error_set(error, "%s; this session has started its program again %d times "
				 "to get other addresses", text, AGAIN_MOST);
	log_at(LOG_INFO, "the session of %s starts its program again: %s", node->options->peer,
	       text);
	send_rest(node);
	session_poll(node->session, polls);
	again_start(node->session, polls[0].fd, node->options->peer);
	return error_set(error, "%s; and its program cannot be started again to get other "
			 "addresses: %s", text_limited(text, ERROR_TEXT_BYTES / 2), error_text());
}

/* Waits for the gateway's description, and makes the tree. */
static int begin(struct node_session *node)
{
	struct session_message message = { .event = SESSION_NOTHING };
	int result = wait_hello(node, &message);
	struct pollfd polls[BULK_POLLS];

	if (result == 1 && message.event != SESSION_HELLO)
		return error_set(-EBADMSG, "the gateway does not begin with its tree");
	if (result < 0)
		return result;
	result =
		node_tree_read(message.payload, message.bytes, node->options->program, &node->tree);
	if (node->tree.collides)
		result = start_again(node, result);
	if (result == 0)
		result = session_set_timeout(node->session, node->tree.timeout_ns);
	if (result == 0 && node->tree.traced)
		result = node_trace_open(&node->trace, node->tree.outer);
	if (result < 0)
		return result;
	session_poll(node->session, polls);
	node->tree.outer->spawner.own_fd = polls[0].fd;
	result = dw_worker_init(node->tree.outer);
	if (result == 0)
		result = watch_worker(node);
	if (result == 0)
		result = session_ready(node->session);
	if (result == 0 && node->tree.traced)
		result = node_trace_begin(&node->trace, node->session, &node->lock,
					  node->tree.outer->segment.stats[0].pid);
	return result == 0 ? start_listener(node) : result;
}

int node_session_run(struct stream *stream, const struct node_session_options *options)
{
	struct node_session node = {
		.options = options, .lock = PTHREAD_MUTEX_INITIALIZER,
		.came = PTHREAD_COND_INITIALIZER, .listener_fd = -1, .death_fd = -1,
	};
	const struct session_options session = {
		.memory = in_memory,
		.give_back = give_back,
		.context = &node,
		.most_bytes = options->cache_bytes,
		.net = options->net,
	};
	int result = session_create(stream, &session, &node.session);

	if (result < 0) {
		log_at(LOG_ERROR, "the connection from %s ends: %s", options->peer, error_text());
		return 1;
	}
	result = begin(&node);
	if (result == -ECONNRESET && node.examined) {
		log_at(LOG_INFO, "%s has examined this host", options->peer);
		return NODE_SESSION_EXAMINED;
	}
	if (result < 0)
		return refuse(&node, result);
	log_at(LOG_INFO, "%s serves %s", node.tree.workers[0]->path, options->peer);
	result = serve(&node);
	dw_worker_close(node.tree.outer);
	node_trace_end(&node.trace);
	return result < 0;
}
