/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See events.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/text.h"
#include "worker/control.h"
#include "worker/descendants.h"
#include "worker/events.h"
#include "worker/hierarchy.h"
#include "worker/lifeline.h"

#define EXEC_TEXT "it has called exec, and can answer no more"
#define LINK_BURST 16		/* messages per wake-up, so that no child delays the others */
#define LAST_WORDS 1024		/* of a dead child: more than its socket can hold */

static void read_link(struct child *child, uint32_t most)
{
	struct link_message message;
	int result = 1;

	while (most-- && (result = link_receive(child->link.parent, &message, false)) > 0)
		if (message.generation == child->life.generation)
			child_message(child, &message);
	if (result < 0)
		child_unreadable(child, result);
}

static void dies(struct child *child, int status)
{
	char text[ERROR_TEXT_BYTES - PATH_BYTES - 2];

	/* Messages that it sent before its death. */
	read_link(child, LAST_WORDS);
	death_describe(child, status, text, sizeof(text));
	child_dead(child, text);
}

static void describe_failure(const struct spawner_report *report, char *text, size_t space)
{
	int error = report->value;

	text_format(text, space, "cannot be started: %.*s: %s%s", (int)sizeof(report->what),
		    report->what, error_name(error), error_hint(error));
}

static void on_spawner_report(struct dw_worker *worker, const struct spawner_report *report,
			      int pidfd)
{
	struct child *child;
	char text[ERROR_TEXT_BYTES - PATH_BYTES - 2], full[ERROR_TEXT_BYTES];

	child = &worker->children[report->index];
	if (report->generation != child->life.generation) {
		if (pidfd >= 0)
			close(pidfd);
		return;
	}
	switch (report->kind) {
	case SPAWNER_SPAWNED:
		child_spawned(child, report->pid, pidfd);
		break;
	case SPAWNER_FAILED:
		describe_failure(report, text, sizeof(text));
		text_format(full, sizeof(full), "%s: %s", child->path, text);
		child_failed(child, -report->value, full);
		child_dead(child, text);
		child_gone(child);
		break;
	case SPAWNER_STOPPED:
		child_stopped(child, report->value);
		break;
	case SPAWNER_DEAD:
		dies(child, report->value);
		break;
	case SPAWNER_GONE:
		child_gone(child);
		break;
	case SPAWNER_NOT_KILLED:
		child_not_killed(child, report->pid, report->value);
		break;
	}
}

/* The spawner reports the death of a child, unless it is stopped or gone. */
static void on_died(struct child *child)
{
	epoll_ctl(child->owner->life.events_fd, EPOLL_CTL_DEL, child->life.pidfd, NULL);
	if (!child->owner->loss.gone) {
		children_resume_spawner(child->owner);
		return;
	}
	/* The spawner's children are those of this process, if it is process 1 or a subreaper. */
	waitid(P_PIDFD, (id_t)child->life.pidfd, NULL, WEXITED | WNOHANG);
	child_killed_with_spawner(child);
	children_kill_left(child->owner);
}

/* The last report, which is about no child. */
static void on_spawner_ends(struct dw_worker *worker, const struct spawner_report *report)
{
	char cause[sizeof(worker->loss.cause)];

	text_format(cause, sizeof(cause), "its spawner ended: %.*s: %s%s",
		    (int)sizeof(report->what), report->what, error_name(report->value),
		    error_hint(report->value));
	children_say_loss(worker, cause);
	log_at(LOG_ERROR, "%s: %s", worker->path, worker->loss.cause);
}

static void read_spawner(struct dw_worker *worker)
{
	struct spawner_report report;
	char cause[sizeof(worker->loss.cause)];
	int result, pidfd;

	while ((result = spawner_receive(&worker->spawner, &report, &pidfd)) > 0) {
		if (report.kind == SPAWNER_ENDS)
			on_spawner_ends(worker, &report);
		else
			on_spawner_report(worker, &report, pidfd);
	}
	if (result == 0 || worker->life.state == WORKER_CLOSED)
		return;
	if (result != -EPIPE && !worker->loss.cause[0]) {
		text_format(cause, sizeof(cause),
			    "the reports of its spawner cannot be read: recvmsg: %s",
			    error_name(-result));
		children_say_loss(worker, cause);
	}
	children_lose_spawner(worker);
}

/* The pipe that the spawner and all descendants have inherited has ended. */
static void on_tree_gone(struct dw_worker *worker)
{
	epoll_ctl(worker->life.events_fd, EPOLL_CTL_DEL, worker->spawner.tree_fd, NULL);
	/* Its last messages may still be there. */
	read_spawner(worker);
	children_lose_spawner(worker);
	for (uint32_t i = 0; i < worker->child_count; i++)
		if (worker->children[i].life.state != CHILD_NONE)
			child_killed_with_spawner(&worker->children[i]);
	children_give_up_locked(worker, children_loss(worker));
}

static void read_up_link(struct dw_worker *worker)
{
	struct link_message message;
	int result;

	while ((result = link_receive(worker->life.up_link, &message, false)) > 0)
		if (message.kind == LINK_CANCEL && message.generation == worker->life.up_generation)
			engine_cancel_flagged(worker->life.engine, -ECANCELED, message.text);
	/* The link has no other messages; the mailbox tells when the parent is gone. */
	if (result < 0)
		epoll_ctl(worker->life.events_fd, EPOLL_CTL_DEL, worker->life.up_link, NULL);
}

static void leave(struct dw_worker *worker)
{
	children_send_wanted(worker);
	pthread_cond_broadcast(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
}

static void read_events(void *context)
{
	struct dw_worker *worker = context;
	struct epoll_event events[16];
	int count;

	pthread_mutex_lock(&worker->lock);
	count = epoll_wait(worker->life.events_fd, events, 16, 0);
	for (int i = 0; i < count; i++) {
		if (events[i].data.u64 == EVENT_SPAWNER)
			read_spawner(worker);
		else if (events[i].data.u64 == EVENT_TREE)
			on_tree_gone(worker);
		else if (events[i].data.u64 == EVENT_UP)
			read_up_link(worker);
		else if (events[i].data.u64 & EVENT_DIED)
			on_died(&worker->children[(uint32_t)events[i].data.u64]);
		else
			read_link(&worker->children[events[i].data.u64], LINK_BURST);
	}
	leave(worker);
}

/*
 * The background thread cannot wait for events any more, and ends: no event of a child will arrive.
 * So the children are ended here, and their tasks with them.
 */
static void op_deaf(void *context, int error)
{
	struct dw_worker *worker = context;
	char cause[sizeof(worker->loss.cause)];

	text_format(cause, sizeof(cause), "its parent cannot wait for events: epoll_wait: %s",
		    error_name(error));
	pthread_mutex_lock(&worker->lock);
	children_say_loss(worker, cause);
	log_at(LOG_ERROR, "%s: %s", worker->path, worker->loss.cause);
	children_lose_events(worker);
	pthread_cond_broadcast(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
	if (worker->spawner.tree_fd < 0)
		return;
	spawner_kill(&worker->spawner);
	lifeline_kill_writers(lifeline_inode(worker->spawner.tree_fd));
	spawner_wait_end(worker->spawner.tree_fd);
	pthread_mutex_lock(&worker->lock);
	children_give_up_locked(worker, worker->loss.cause);
	pthread_cond_broadcast(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
}

/*
 * The module reports a change of a peer; after a detachment its end follows. A chip's device may
 * write until the kernel closes its file, and a nested Worker has a spawner: those are gone when
 * the spawner says so.
 */
static void op_changed(void *context, uint32_t index, const struct hub_change *change)
{
	struct dw_worker *worker = context;
	struct child *child = &worker->children[index];

	if (change->state != DISTWORKER_MAILBOX_DEAD || worker->options.mode != DW_PROCESS)
		return;
	pthread_mutex_lock(&worker->lock);
	/*
	 * The spawner's earlier reports come first: they may include this death, and if the spawner
	 * is dead, that is the cause.
	 */
	read_spawner(worker);
	if (!worker->loss.gone && change->pid == child->life.pid &&
	    (child->life.state == CHILD_BOUND || child->life.state == CHILD_READY)) {
		if (change->cause == DISTWORKER_DEATH_EXEC) {
			child_kill_because(child, EXEC_TEXT);
		} else if (change->cause == DISTWORKER_DEATH_EXIT) {
			dies(child, change->status);
			if (child->kind == DW_CHILD_SUB && descendants_none(child))
				engine_worker_gone(worker->life.engine, index);
		}
	}
	leave(worker);
}

/* ------------------------------------------ called with the engine's lock */

static void kill_children_call(void *context);

/*
 * A thread cannot be killed. A nested Worker that is a thread can be left without children, which
 * ends its waits. Locks of engines are taken downwards.
 */
static void kill_child_call(struct dw_worker *worker, struct child *child)
{
	if (worker->options.mode == DW_PROCESS)
		children_kill(child);
	else if (child->kind == DW_CHILD_WORKER && child->nested->life.engine)
		engine_locked(child->nested->life.engine, kill_children_call, child->nested);
}

static void kill_children_call(void *context)
{
	struct dw_worker *nested = context;

	for (uint32_t i = 0; i < nested->child_count; i++)
		kill_child_call(nested, &nested->children[i]);
}

static bool op_kill(void *context, uint32_t index, const char *why)
{
	struct dw_worker *worker = context;
	struct child *child = &worker->children[index];

	if (worker->options.mode == DW_PROCESS) {
		log_at(LOG_WARN, "%s: killed: %s", child->path, why);
		death_because_engine_locked(child, why);
	} else {
		log_at(LOG_WARN, "%s: told to stop, because a thread cannot be killed: %s",
		       child->path, why);
	}
	kill_child_call(worker, child);
	return worker->options.mode == DW_PROCESS;
}

static void op_cancelled(void *context, uint32_t index)
{
	struct dw_worker *worker = context;
	struct child *child = &worker->children[index];

	if (child->kind == DW_CHILD_WORKER)
		link_send(child->link.parent, LINK_CANCEL, child->life.generation, 0,
			  "cancelled from above");
}

const struct engine_ops events_ops = {
	.kill = op_kill,
	.cancelled = op_cancelled,
	.changed = op_changed,
	.extra_readable = read_events,
	.deaf = op_deaf,
};
