/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Behind node_session.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
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
#include "worker/node_session.h"
#include "worker/node_tree.h"

/* The gateway describes its tree right after the handshake. */
#define HELLO_NS (30 * NS_PER_S)

struct handover {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool given; /* `message` is to be served */
	struct session_message message;
	int error; /* of the one that was served last */
	uint64_t began_ns, ran_ns;
	char text[ERROR_TEXT_BYTES];
};

struct node_session {
	const struct node_session_options *options;
	struct session *session;
	struct node_tree tree;
	struct handover handover;
	_Atomic uint32_t cancel; /* the running task's */
	int done_fd; /* an eventfd: a message was served */
	int death_fd; /* a pidfd of the Worker; -1: not watched any more */
	bool busy; /* the second thread has a message */
	bool examined; /* the other end has asked about this host */
};

/* -------------------------------------------------------------- the second thread */

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

static int check_symbol(const struct callable *callable)
{
	uint8_t identity[sizeof(callable->identity)];
	int result;

	if (callable->kind != CALLABLE_SYMBOL_ORCH && callable->kind != CALLABLE_SYMBOL_SUB)
		return 0;
	result = symbol_identify(callable->path, callable->symbol, identity);
	if (result == 0 && memcmp(identity, callable->identity, sizeof(identity)) != 0)
		result = error_set(-ESTALE, "%s is another file here than in the tree's process",
				   text_short(callable->path));
	return result;
}

/* `blob` is a copy, aligned as it has to be. */
static int register_blob(const struct node_session *node, void *blob, uint32_t bytes,
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
	result = control_register(blob, &callable);
	if (result == 0)
		result = check_symbol(&callable);
	return result < 0 ? result :
			    control_broadcast(node->tree.outer, CONTROL_REGISTER, blob, bytes);
}

static int run_register(const struct node_session *node, struct unpack *unpack)
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

static int run_control(const struct node_session *node, const struct session_message *message)
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

static void serve_message(struct node_session *node, const struct session_message *message)
{
	struct handover *handover = &node->handover;
	uint64_t one = 1, began = now_ns();
	int result = message->event == SESSION_TASK ? run_task(node, message) :
						      run_control(node, message);

	pthread_mutex_lock(&handover->lock);
	handover->error = result;
	handover->began_ns = began;
	handover->ran_ns = now_ns() - began;
	text_copy(handover->text, sizeof(handover->text), result < 0 ? error_text() : "");
	pthread_mutex_unlock(&handover->lock);
	/* A counter of 64 bits takes it. */
	if (write(node->done_fd, &one, sizeof(one)) < 0)
		log_at(LOG_ERROR, "a node cannot report the end of a task: %s", strerror(errno));
}

static void *serve_messages(void *context)
{
	struct node_session *node = context;
	struct handover *handover = &node->handover;
	struct session_message message;

	for (;;) {
		pthread_mutex_lock(&handover->lock);
		while (!handover->given)
			pthread_cond_wait(&handover->changed, &handover->lock);
		handover->given = false;
		message = handover->message;
		pthread_mutex_unlock(&handover->lock);
		serve_message(node, &message);
	}
	return NULL;
}

static int start_thread(struct node_session *node)
{
	pthread_t thread;
	int error;

	pthread_mutex_init(&node->handover.lock, NULL);
	pthread_cond_init(&node->handover.changed, NULL);
	node->done_fd = fd_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (node->done_fd < 0)
		return error_set(-errno, "eventfd: %s", strerror(errno));
	error = pthread_create(&thread, NULL, serve_messages, node);
	if (error)
		return error_set(-error, "no thread to run tasks: %s", strerror(error));
	pthread_detach(thread);
	return 0;
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

/* ------------------------------------------------------------------- the first thread */

static void wait_for(const struct node_session *node, uint64_t deadline_ns)
{
	uint64_t now = now_ns();
	struct timespec rest = clock_timespec(deadline_ns > now ? deadline_ns - now : 0);
	struct pollfd polls[3] = {
		{ .fd = session_fd(node->session), .events = POLLIN },
		{ .fd = node->done_fd, .events = POLLIN },
		{ .fd = node->death_fd, .events = POLLIN },
	};

	if (session_pending(node->session))
		polls[0].events |= POLLOUT;
	ppoll(polls, 3, &rest, NULL);
}

/* Until all is sent, or the connection has ended. */
static void send_rest(const struct node_session *node)
{
	struct pollfd polled = { .fd = session_fd(node->session), .events = POLLOUT };

	while (session_flush(node->session) == 0 && session_pending(node->session))
		poll(&polled, 1, -1);
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

/* The answer to the message that was served: 0, 1: the Worker has died, -errno. */
static int answer(struct node_session *node)
{
	struct handover *handover = &node->handover;
	char text[ERROR_TEXT_BYTES], cause[ERROR_TEXT_BYTES];
	uint64_t count, began_ns, ran_ns;
	int error;

	if (read(node->done_fd, &count, sizeof(count)) < 0)
		return 0;
	pthread_mutex_lock(&handover->lock);
	error = handover->error;
	began_ns = handover->began_ns;
	ran_ns = handover->ran_ns;
	text_copy(text, sizeof(text), handover->text);
	pthread_mutex_unlock(&handover->lock);
	node->busy = false;
	if (error < 0 && is_dead(node, false, cause, sizeof(cause)))
		return report_death(node, cause);
	return session_done(node->session, error, text, began_ns, ran_ns);
}

static void hand_over(struct node_session *node, const struct session_message *message)
{
	struct handover *handover = &node->handover;

	atomic_store(&node->cancel, 0);
	node->busy = true;
	pthread_mutex_lock(&handover->lock);
	handover->message = *message;
	handover->given = true;
	pthread_cond_signal(&handover->changed);
	pthread_mutex_unlock(&handover->lock);
}

static void cancel(struct node_session *node)
{
	atomic_store(&node->cancel, 1);
	engine_cancel_flagged(node->tree.outer->life.engine, -ECANCELED, "cancelled from above");
}

/* 0: goes on, 1: leaves, -errno: the connection has ended. */
static int take(struct node_session *node, const struct session_message *message)
{
	switch (message->event) {
	case SESSION_TASK:
	case SESSION_CONTROL:
		hand_over(node, message);
		return 0;
	case SESSION_CANCEL:
		cancel(node);
		return 0;
	case SESSION_STOP:
		return 1;
	default:
		return error_set(-EBADMSG, "the gateway describes its tree twice");
	}
}

static int step(struct node_session *node)
{
	struct session_message message;
	char cause[ERROR_TEXT_BYTES];
	struct pollfd death = { .fd = node->death_fd, .events = POLLIN };
	int result = answer(node);

	while (result == 0 && (result = session_step(node->session, &message)) == 1)
		result = take(node, &message);
	if (result || node->busy || node->death_fd < 0 || poll(&death, 1, 0) <= 0)
		return result;
	is_dead(node, true, cause, sizeof(cause));
	return report_death(node, cause);
}

/* A task that runs when its Worker dies ends with it, and says so. */
static int serve(struct node_session *node)
{
	int result;

	while ((result = step(node)) == 0) {
		struct pollfd death = { .fd = node->death_fd, .events = POLLIN };

		if (node->busy && node->death_fd >= 0 && poll(&death, 1, 0) > 0) {
			close(node->death_fd);
			node->death_fd = -1;
		}
		wait_for(node, NEVER);
	}
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
	int result;

	node->examined = true;
	about_encode(node->options->program, node->options->cache_bytes, session_fd(node->session),
		     &about);
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

/* Waits for the gateway's description, and makes the tree. */
static int begin(struct node_session *node)
{
	struct session_message message = { .event = SESSION_NOTHING };
	int result = wait_hello(node, &message);

	if (result == 1 && message.event != SESSION_HELLO)
		return error_set(-EBADMSG, "the gateway does not begin with its tree");
	if (result < 0)
		return result;
	result =
		node_tree_read(message.payload, message.bytes, node->options->program, &node->tree);
	if (result == 0)
		result = session_set_timeout(node->session, node->tree.timeout_ns);
	if (result < 0)
		return result;
	node->tree.outer->spawner.own_fd = session_fd(node->session);
	result = dw_worker_init(node->tree.outer);
	if (result == 0)
		result = watch_worker(node);
	if (result == 0)
		result = start_thread(node);
	return result == 0 ? session_ready(node->session) : result;
}

int node_session_run(struct stream *stream, const struct node_session_options *options)
{
	struct node_session node = { .options = options, .done_fd = -1, .death_fd = -1 };
	const struct session_options session = {
		.memory = in_memory,
		.give_back = give_back,
		.context = &node,
		.most_bytes = options->cache_bytes,
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
	return result < 0;
}
