/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See children.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/text.h"
#include "worker/control.h"
#include "worker/descendants.h"
#include "worker/hierarchy.h"
#include "worker/lifeline.h"

#define INVALID_TEXT "its message to its parent makes no sense"

void children_init(struct dw_worker *worker)
{
	worker->loss = (struct spawner_loss){ 0 };
	for (uint32_t i = 0; i < worker->child_count; i++) {
		struct child_life *life = &worker->children[i].life;

		memset(life, 0, sizeof(*life));
		life->pidfd = -1;
	}
}

void children_release(struct dw_worker *worker)
{
	for (uint32_t i = 0; worker->children && i < worker->child_count; i++) {
		struct child *child = &worker->children[i];

		if (child->life.pidfd >= 0)
			close(child->life.pidfd);
		child->life.pidfd = -1;
		link_close_parent(&child->link);
		link_close_child(&child->link);
	}
}

/* A call that needs the engine's lock. */
struct hub_call {
	struct child *child;
	int pidfd;
	int result;
};

static void bind_call(void *context)
{
	struct hub_call *call = context;

	call->child->life.pidfd = call->pidfd;
	call->result =
		hub_bind(call->child->owner->life.hub, call->child->index, call->child->life.pid);
}

static void gone_call(void *context)
{
	struct hub_call *call = context;

	if (call->child->life.pidfd >= 0) {
		/*
		 * close() alone is not enough: a process that the application has forked may share
		 * the socket.
		 */
		epoll_ctl(call->child->owner->life.events_fd, EPOLL_CTL_DEL,
			  call->child->life.pidfd, NULL);
		close(call->child->life.pidfd);
	}
	call->child->life.pidfd = -1;
	hub_peer_gone(call->child->owner->life.hub);
}

static void rearm_call(void *context)
{
	struct hub_call *call = context;

	call->result = hub_rearm(call->child->owner->life.hub, call->child->index);
}

void child_failed(struct child *child, int error, const char *text)
{
	if (child->life.error)
		return;
	child->life.error = error;
	text_copy(child->life.error_text, sizeof(child->life.error_text), text);
}

const char *children_loss(const struct dw_worker *worker)
{
	return worker->loss.cause[0] ? worker->loss.cause : "its spawner died";
}

/*
 * The spawner must run now. No event tells that it was stopped, and a process may always continue
 * the processes of its own session.
 */
void children_resume_spawner(const struct dw_worker *worker)
{
	int signal = spawner_stopped(&worker->spawner);

	if (signal)
		log_at(LOG_WARN, "%s: its spawner, pid %d, was stopped by %s: continued",
		       worker->path, (int)worker->spawner.pid, error_signal_name(signal));
	spawner_continue(&worker->spawner);
}

/*
 * The socket can be full for a moment when many children are requested at once: children_events()
 * continues. It also reads why the spawner has ended, if this call notices that first.
 */
static int ask_for(struct child *child)
{
	struct dw_worker *worker = child->owner;
	int result;

	if (worker->loss.gone)
		return error_set(-EOWNERDEAD, "%s: %s", child->path, children_loss(worker));
	children_resume_spawner(worker);
	result = spawner_ask(&worker->spawner, SPAWNER_FORK, child->index, child->life.generation);
	child->life.spawn_wanted = result == -EAGAIN;
	if (result == 0 || result == -EAGAIN || result == -EPIPE || result == -ECONNRESET)
		return 0;
	return error_set(result, "%s: its spawner cannot be asked for a process: send: %s",
			 child->path, error_name(-result));
}

/* Starts and binds a thread at once; child_spawned() binds a process once it exists. */
static int start_thread(struct child *child)
{
	struct hub_call call = { .child = child, .pidfd = -1 };
	int result = thread_start(child);

	if (result < 0)
		return result;
	child->life.pid = getpid();
	child->life.state = CHILD_BOUND;
	engine_locked(child->owner->life.engine, bind_call, &call);
	if (call.result < 0)
		return call.result;
	return link_send(child->link.parent, LINK_GO, child->life.generation, 0, NULL);
}

int children_spawn_locked(struct dw_worker *worker, struct child *child)
{
	int result;

	child->life.state = CHILD_SPAWNING;
	child->life.generation++;
	child->life.error = 0;
	child->life.left[0] = '\0';
	child->life.stopped = 0;
	if (worker->options.mode == DW_THREAD)
		return start_thread(child);
	result = ask_for(child);
	/* The spawner will not start it, so there is no end to wait for. */
	if (result < 0)
		child->life.state = CHILD_NONE;
	return result;
}

void children_cancel_spawns_locked(struct dw_worker *worker)
{
	for (uint32_t i = 0; i < worker->child_count; i++) {
		struct child_life *life = &worker->children[i].life;

		if (life->spawn_wanted)
			life->state = CHILD_NONE;
		life->spawn_wanted = false;
	}
}

/* The spawner's death kills its children, so a full socket is the only error that matters. */
static void ask_for_kill(struct child *child)
{
	child->life.kill_wanted = spawner_ask(&child->owner->spawner, SPAWNER_KILL, child->index,
					 child->life.generation) == -EAGAIN;
}

/* Sends the orders that the spawner's socket did not take; it has room since the last report. */
void children_send_wanted(struct dw_worker *worker)
{
	for (uint32_t i = 0; i < worker->child_count; i++) {
		struct child *child = &worker->children[i];

		if (child->life.kill_wanted)
			ask_for_kill(child);
		if (child->life.spawn_wanted && child->life.state == CHILD_SPAWNING &&
		    ask_for(child) < 0)
			child_failed(child, -EOWNERDEAD, error_text());
		if (child->life.spawn_wanted)
			return;
	}
}

/* Is SIGKILL refused? A process that has ended needs none. */
static bool is_kill_refused(int pidfd)
{
	return pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 &&
	       errno != ESRCH;
}

void children_kill(struct child *child)
{
	bool refused = is_kill_refused(child->life.pidfd);

	children_resume_spawner(child->owner);
	if (refused)
		ask_for_kill(child);
}

/*
 * Watches the child's pidfd, which becomes readable when the process is dead. Returns whether that
 * succeeded.
 */
static bool watch_death(struct child *child)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = CHILD_DIED_TAG | child->index };

	return child->life.pidfd >= 0 &&
	       (epoll_ctl(child->owner->life.events_fd, EPOLL_CTL_ADD, child->life.pidfd,
			  &event) == 0 || errno == EEXIST);
}

void child_spawned(struct child *child, pid_t pid, int pidfd)
{
	struct hub_call call = { .child = child, .pidfd = pidfd };

	child->life.pid = pid;
	child->life.state = CHILD_BOUND;
	engine_locked(child->owner->life.engine, bind_call, &call);
	watch_death(child);
	/* The child has died already: the next report has the cause. */
	if (call.result == -ESRCH)
		return;
	if (pidfd < 0)
		call.result = error_set(-EMFILE, "%s: no descriptor for its pidfd: EMFILE%s",
					child->path, error_hint(EMFILE));
	/* A Worker that is being closed no longer waits for this child. */
	if (call.result == 0 && child->owner->life.state != WORKER_CLOSING) {
		call.result =
			link_send(child->link.parent, LINK_GO, child->life.generation, 0, NULL);
		/* EPIPE: the child has died, and so has its spawner. */
		if (call.result == 0 || call.result == -EPIPE)
			return;
		error_set(call.result, "%s: cannot be told to go: %s", child->path,
			  error_name(-call.result));
	}
	if (call.result < 0)
		child_failed(child, call.result, error_text());
	/* The child waits for GO. */
	link_send(child->link.parent, LINK_CANCEL, child->life.generation, 0, NULL);
	children_kill(child);
}

/* Should the dead child be replaced? Detects crash loops. */
static bool wants_restart(struct child *child, const char *cause)
{
	struct dw_worker *worker = child->owner;
	bool loop = death_is_loop(child, cause);

	if (worker->life.state != WORKER_UP || worker->options.restart != DW_RESTART_ON_DEATH ||
	    worker->loss.gone)
		return false;
	child->life.given_up = child->life.given_up || loop;
	return !child->life.given_up && !child->life.left[0];
}

void child_dead(struct child *child, const char *cause)
{
	struct dw_worker *worker = child->owner;
	char text[ERROR_TEXT_BYTES];
	bool was_ready = child->life.state == CHILD_READY;
	bool returns;
	int error;

	if (child->life.state == CHILD_DEAD || child->life.state == CHILD_GONE)
		return;
	child->life.state = CHILD_DEAD;
	returns = child->life.replacement_announced = wants_restart(child, cause);
	text_copy(text, sizeof(text), cause);
	if (child->life.given_up)
		death_history(child, text, sizeof(text));
	if (worker->life.state == WORKER_STARTING) {
		char full[ERROR_TEXT_BYTES];

		text_format(full, sizeof(full), "%s: %s during init", child->path,
			    text_limited(cause, ERROR_TEXT_BYTES - PATH_BYTES - 16));
		child_failed(child, -EOWNERDEAD, full);
	}
	child->life.stopped = 0;
	segment_death(worker, child->index, text);
	log_at(LOG_INFO, "%s: %s%s", child->path, text, was_ready ? "" : " before it was ready");
	/*
	 * The only error of a child that has served is its device's, which it reports before it
	 * leaves.
	 */
	error = was_ready && child->life.error ? child->life.error : -EOWNERDEAD;
	engine_worker_dead(worker->life.engine, child->index, returns,
			   child->life.left[0] ? -EPERM : error, text);
}

/* Shows that the child's process was stopped, or (0) continues; deadlines end a stopped task. */
void child_stopped(struct child *child, int signal)
{
	if (child->life.state != CHILD_BOUND && child->life.state != CHILD_READY)
		return;
	if (signal)
		log_at(LOG_WARN, "%s: stopped by %s, pid %d", child->path,
		       error_signal_name(signal), (int)child->life.pid);
	else
		log_at(LOG_INFO, "%s: goes on, pid %d", child->path, (int)child->life.pid);
	child->life.stopped = signal;
	segment_stopped(child->owner, child->index, signal);
	engine_worker_stopped(child->owner->life.engine, child->index, signal);
}

/* The child is not replaced after all: threads that wait for it must be told. */
static void not_replaced(struct child *child)
{
	struct dw_worker *worker = child->owner;
	char text[ERROR_TEXT_BYTES];

	text_format(text, sizeof(text), "cannot be replaced: %s", error_text());
	log_at(worker->life.state == WORKER_UP ? LOG_ERROR : LOG_INFO, "%s: %s", child->path, text);
	child->life.replacement_announced = false;
	child->life.given_up = true;
	child->life.state = CHILD_GONE;
	engine_worker_dead(worker->life.engine, child->index, false, -EOWNERDEAD, text);
	engine_worker_gone(worker->life.engine, child->index);
}

void child_gone(struct child *child)
{
	struct dw_worker *worker = child->owner;
	struct hub_call call = { .child = child };

	if (child->life.state == CHILD_GONE)
		return;
	child->life.state = CHILD_GONE;
	child->life.pid = 0;
	/* Waiters first: a repair wakes the foreground in any case. */
	engine_worker_gone(worker->life.engine, child->index);
	engine_locked(worker->life.engine, gone_call, &call);
	if (!child->life.replacement_announced)
		return;
	if (child->life.left[0])
		call.result = error_set(-EPERM, "what it has left behind cannot be killed: %s",
					child->life.left);
	else if (worker->loss.gone)
		call.result = error_set(-EOWNERDEAD, "%s", children_loss(worker));
	else if (worker->life.state != WORKER_UP)
		call.result = error_set(-ESHUTDOWN, "%s is being closed", worker->path);
	else
		engine_locked(worker->life.engine, rearm_call, &call);
	if (call.result == 0)
		call.result = children_spawn_locked(worker, child);
	if (call.result < 0)
		not_replaced(child);
}

static void on_ready(struct child *child)
{
	struct dw_worker *worker = child->owner;

	child->life.state = CHILD_READY;
	segment_ready(worker, child->index, child->life.pid);
	if (child->life.generation > 1 && control_replay(child) < 0)
		log_at(LOG_ERROR, "%s: does not know all callables: %s", child->path, error_text());
	engine_worker_up(worker->life.engine, child->index);
}

/*
 * A thread reports that it has left its loop before it cleans up; a process is reported by its
 * spawner.
 */
static void on_error(struct child *child, int error, const char *text)
{
	char full[ERROR_TEXT_BYTES];
	bool served = child->life.state == CHILD_READY;

	/* The text of a child that has served has no path yet. */
	if (served && child->owner->life.state == WORKER_STARTING) {
		text_format(full, sizeof(full), "%s: %s during init", child->path,
			    text_limited(text, ERROR_TEXT_BYTES - PATH_BYTES - 16));
		text = full;
	}
	child_failed(child, error, text);
	if (child->owner->options.mode == DW_THREAD && served)
		child_dead(child, child->life.error_text);
}

/*
 * A thread that was told to leave has no error: the closing thread joins it, as it joins all once
 * the close has begun.
 */
static void on_thread_over(struct child *child)
{
	enum worker_state state = child->owner->life.state;

	if (!child->life.error)
		return;
	if (state == WORKER_STARTING || state == WORKER_UP) {
		thread_join(child);
	}
	child_dead(child, child->life.error_text);
	child_gone(child);
}

void child_kill_because(struct child *child, const char *why)
{
	log_at(LOG_WARN, "%s: killed: %s", child->path, why);
	death_because(child, why);
	children_kill(child);
}

/* A process that sends an impossible message over its link is corrupt. */
static void on_invalid_message(struct child *child)
{
	struct dw_worker *worker = child->owner;
	char text[ERROR_TEXT_BYTES];

	if (child->life.error == -EPROTO || worker->options.mode == DW_THREAD)
		return;
	text_format(text, sizeof(text), "%s: EPROTO: %s", child->path, INVALID_TEXT);
	/* Replaces any earlier error. */
	child->life.error = 0;
	child_failed(child, -EPROTO, text);
	child_kill_because(child, INVALID_TEXT);
}

/* A message from the living generation. The child wrote its contents: do not trust them. */
void child_message(struct child *child, const struct link_message *message)
{
	bool serves = child->life.state == CHILD_BOUND || child->life.state == CHILD_READY;
	/* The spawner reports the birth over another socket, which may be read later. */
	bool lives = serves || child->life.state == CHILD_SPAWNING;
	bool thread = child->owner->options.mode == DW_THREAD;

	if (message->kind == LINK_READY && child->life.state == CHILD_BOUND)
		on_ready(child);
	else if (message->kind == LINK_ERROR && lives && message->error >= -4095 &&
		 message->error < 0)
		on_error(child, message->error, message->text);
	else if (message->kind == LINK_OVER && thread)
		on_thread_over(child);
	else if (serves)
		on_invalid_message(child);
}

/* Without messages, the child's state is unknown. */
void child_unreadable(struct child *child, int error)
{
	char text[ERROR_TEXT_BYTES], why[sizeof(child->death.why)];

	epoll_ctl(child->owner->life.events_fd, EPOLL_CTL_DEL, child->link.parent, NULL);
	text_format(why, sizeof(why), "its messages cannot be read: recv: %s", error_name(-error));
	text_format(text, sizeof(text), "%s: %s", child->path, why);
	child->life.given_up = true;
	child_failed(child, error, text);
	if (child->owner->options.mode == DW_PROCESS)
		child_kill_because(child, why);
	else
		child_dead(child, why);
}

/*
 * Neither this process nor the spawner is permitted to kill the child, or a process that it has
 * left behind. That process may go on and write; the Worker does not wait for it, just as for a
 * thread that does not return.
 */
void child_not_killed(struct child *child, pid_t pid, int error)
{
	char text[ERROR_TEXT_BYTES - PATH_BYTES - 2];

	if (child->life.state == CHILD_NONE || child->life.state == CHILD_GONE)
		return;
	text_format(child->life.left, sizeof(child->life.left), "pid %d: %s", (int)pid,
		    error_name(error));
	if (child->life.state == CHILD_DEAD) {
		text_format(text, sizeof(text),
			    "pid %d, which it has left behind, cannot be killed: %s", (int)pid,
			    error_name(error));
		log_at(LOG_ERROR, "%s: %s", child->path, text);
	} else {
		death_take_why(child, text, sizeof(text));
		text_format(text + strlen(text), sizeof(text) - strlen(text),
			    "%spid %d cannot be killed, and goes on: %s", text[0] ? "; " : "",
			    (int)pid, error_name(error));
		child_dead(child, text);
	}
	child_gone(child);
}

/* The effects of the spawner's death on its children. */
void child_killed_with_spawner(struct child *child)
{
	char text[sizeof(child->owner->loss.cause) + 32];

	text_format(text, sizeof(text), "%s, and it was killed with it",
		    children_loss(child->owner));
	child_dead(child, text);
}

/*
 * When the spawner dies, helpers that callables have started lose their subreaper, and no other
 * process ends them: the tree's memory that they hold would never be freed. Once all children are
 * dead, only helpers hold its pipe.
 */
void children_kill_left(struct dw_worker *worker)
{
	for (uint32_t i = 0; i < worker->child_count; i++) {
		enum child_state state = worker->children[i].life.state;

		if (state != CHILD_NONE && state != CHILD_DEAD && state != CHILD_GONE)
			return;
	}
	lifeline_kill_writers(lifeline_inode(worker->spawner.tree_fd));
}

/*
 * The socket ends before PDEATHSIG reaches the children: they may run and write until their pidfds
 * report their deaths.
 */
void children_lose_spawner(struct dw_worker *worker)
{
	if (worker->loss.gone)
		return;
	epoll_ctl(worker->life.events_fd, EPOLL_CTL_DEL, worker->spawner.socket, NULL);
	worker->loss.gone = true;
	for (uint32_t i = 0; i < worker->child_count; i++) {
		struct child *child = &worker->children[i];

		children_kill(child);
		/* A child without a pidfd was not born yet, or never got GO. */
		if (child->life.state != CHILD_NONE && !watch_death(child))
			child_killed_with_spawner(child);
	}
	children_kill_left(worker);
}

void children_give_up_locked(struct dw_worker *worker, const char *cause)
{
	for (uint32_t i = 0; i < worker->child_count; i++) {
		if (worker->children[i].life.state == CHILD_NONE)
			continue;
		child_dead(&worker->children[i], cause);
		child_gone(&worker->children[i]);
	}
}

void children_joined_locked(struct child *child)
{
	child_dead(child, "stopped");
	child_gone(child);
}

void children_say_loss(struct dw_worker *worker, const char *cause)
{
	text_copy(worker->loss.cause, sizeof(worker->loss.cause), cause);
}

void children_lose_events(struct dw_worker *worker)
{
	worker->loss.gone = true;
	for (uint32_t i = 0; i < worker->child_count; i++) {
		if (worker->children[i].life.state == CHILD_NONE)
			continue;
		if (worker->options.mode == DW_PROCESS)
			children_kill(&worker->children[i]);
		child_dead(&worker->children[i], worker->loss.cause);
	}
}
