/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What happens to children, and what follows: spawned → bind and GO; READY → tasks
 * may come; dead → its tasks fail or move; gone → its memory is free, and with
 * a restart policy the next generation is asked for. Runs in the engine's
 * background thread.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include "worker/spawner.h"

#define CRASH_WINDOW_NS 60000000000ULL

/* Hub calls that need the engine's lock. */
struct hub_call {
	struct child *child;
	int result;
};

static void bind_call(void *context)
{
	struct hub_call *call = context;

	call->result = hub_bind(call->child->owner->hub, call->child->index, call->child->pid);
}

static void rearm_call(void *context)
{
	struct hub_call *call = context;

	call->result = hub_rearm(call->child->owner->hub, call->child->index);
}

static void child_failed(struct child *child, int error, const char *text)
{
	if (child->error)
		return;
	child->error = error;
	snprintf(child->error_text, sizeof(child->error_text), "%s", text);
}

int worker_spawn_locked(struct dw_worker *worker, struct child *child)
{
	int result;

	child->state = CHILD_SPAWNING;
	child->generation++;
	result = spawner_send(worker, SPAWNER_SPAWN, child->index, child->generation);
	if (result < 0)
		error_set(result, "%s: its spawner does not answer: %s", child->path,
			  error_name(-result));
	return result;
}

static void on_spawned(struct child *child, pid_t pid)
{
	struct hub_call call = { .child = child };

	child->pid = pid;
	child->state = CHILD_BOUND;
	engine_locked(child->owner->engine, bind_call, &call);
	if (call.result == 0)
		call.result = link_send(child->link_parent, LINK_GO, child->generation, 0, NULL);
	if (call.result < 0) {
		child_failed(child, call.result, error_text());
		spawner_send(child->owner, SPAWNER_KILL, child->index, child->generation);
	}
}

/* Whether the child that died shall have a successor; recognises a crash loop. */
static bool wants_restart(struct child *child)
{
	struct dw_worker *worker = child->owner;
	uint32_t limit = worker->options.restart_limit, kept = 8, recent = 0;
	uint64_t now = worker_now();

	child->death_times[child->deaths++ % kept] = now;
	if (worker->state != WORKER_UP || worker->options.restart != DW_RESTART_ON_DEATH ||
	    worker->spawner_gone || child->given_up)
		return false;
	for (uint32_t i = 0; i < kept; i++)
		if (child->death_times[i] && now - child->death_times[i] < CRASH_WINDOW_NS)
			recent++;
	if (recent < (limit < kept ? limit : kept))
		return true;
	child->given_up = true;
	return false;
}

static void describe_death(struct child *child, int status)
{
	if (WIFSIGNALED(status))
		snprintf(child->cause, sizeof(child->cause), "killed by %s, pid %d",
			 error_signal_name(WTERMSIG(status)), (int)child->pid);
	else
		snprintf(child->cause, sizeof(child->cause), "exited with status %d, pid %d",
			 WEXITSTATUS(status), (int)child->pid);
}

static void on_dead(struct child *child, const char *cause)
{
	struct dw_worker *worker = child->owner;
	char text[ERROR_TEXT_BYTES];
	bool was_ready = child->state == CHILD_READY;
	bool returns;

	if (child->state == CHILD_DEAD || child->state == CHILD_GONE)
		return;
	child->state = CHILD_DEAD;
	returns = wants_restart(child);
	if (child->given_up)
		snprintf(text, sizeof(text), "%s; given up after %u deaths within 60 s", cause,
			 child->deaths);
	else
		snprintf(text, sizeof(text), "%s", cause);
	if (!was_ready) {
		char full[ERROR_TEXT_BYTES];

		snprintf(full, sizeof(full), "%s: %.300s before it was ready", child->path, cause);
		child_failed(child, -EOWNERDEAD, full);
	}
	worker->stats[child->index].alive = 0;
	log_at(LOG_INFO, "%s: %s", child->path, text);
	engine_worker_dead(worker->engine, child->index, returns, text);
}

static void on_gone(struct child *child)
{
	struct dw_worker *worker = child->owner;
	struct hub_call call = { .child = child };

	child->state = CHILD_GONE;
	child->pid = 0;
	engine_worker_gone(worker->engine, child->index);
	if (worker->state != WORKER_UP || worker->options.restart != DW_RESTART_ON_DEATH ||
	    child->given_up)
		return;
	engine_locked(worker->engine, rearm_call, &call);
	if (call.result == 0)
		call.result = worker_spawn_locked(worker, child);
	if (call.result < 0)
		log_at(LOG_ERROR, "%s: cannot be replaced: %s", child->path, error_text());
}

static void add_usage(struct rusage *sum, const struct rusage *usage)
{
	timeradd(&sum->ru_utime, &usage->ru_utime, &sum->ru_utime);
	timeradd(&sum->ru_stime, &usage->ru_stime, &sum->ru_stime);
}

static void on_spawner_report(struct dw_worker *worker, const struct spawner_report *report)
{
	struct child *child;
	char text[ERROR_TEXT_BYTES];

	if (report->index >= worker->child_count)
		return;
	child = &worker->children[report->index];
	if (report->generation != child->generation)
		return;
	switch (report->kind) {
	case SPAWNER_SPAWNED:
		on_spawned(child, report->pid);
		break;
	case SPAWNER_FAILED:
		snprintf(text, sizeof(text), "%s: fork: %s", child->path, error_name(report->value));
		child_failed(child, -report->value, text);
		on_dead(child, text);
		on_gone(child);
		break;
	case SPAWNER_DEAD:
		add_usage(&child->usage, &report->usage);
		describe_death(child, report->value);
		on_dead(child, child->cause);
		break;
	case SPAWNER_GONE:
		on_gone(child);
		break;
	}
}

/* Its children die with it (PDEATHSIG), and nobody is left to tell when. */
static void on_spawner_gone(struct dw_worker *worker)
{
	if (worker->spawner_gone)
		return;
	epoll_ctl(worker->events_fd, EPOLL_CTL_DEL, worker->spawner_fd, NULL);
	worker->spawner_gone = true;
	for (uint32_t i = 0; i < worker->child_count; i++) {
		struct child *child = &worker->children[i];

		if (child->state == CHILD_NONE || child->state == CHILD_GONE)
			continue;
		on_dead(child, "its spawner died, and it was killed with it");
		on_gone(child);
	}
}

static void read_spawner(struct dw_worker *worker)
{
	struct spawner_report report;
	ssize_t n;

	while ((n = recv(worker->spawner_fd, &report, sizeof(report), MSG_DONTWAIT)) != 0) {
		if (n == sizeof(report)) {
			on_spawner_report(worker, &report);
		} else if (n < 0 && errno != EINTR) {
			if (errno != EAGAIN)
				break;
			return;
		}
	}
	if (worker->state != WORKER_CLOSED)
		on_spawner_gone(worker);
}

static void on_ready(struct child *child)
{
	struct dw_worker *worker = child->owner;

	child->state = CHILD_READY;
	worker->stats[child->index].alive = 1;
	worker->stats[child->index].pid = child->pid;
	if (child->generation > 1 && control_replay(child) < 0)
		log_at(LOG_ERROR, "%s: does not know all callables: %s", child->path, error_text());
	engine_worker_up(worker->engine, child->index);
}

static void read_link(struct child *child)
{
	struct link_message message;

	while (link_receive(child->link_parent, &message, false) > 0) {
		if (message.generation != child->generation)
			continue;
		if (message.kind == LINK_READY && child->state == CHILD_BOUND)
			on_ready(child);
		else if (message.kind == LINK_ERROR)
			child_failed(child, message.error, message.text);
	}
}

static void read_up_link(struct dw_worker *worker)
{
	struct link_message message;

	while (link_receive(worker->up_link, &message, false) > 0)
		if (message.kind == LINK_CANCEL && message.generation == worker->up_generation)
			engine_cancel_flagged(worker->engine, -ECANCELED, message.text);
}

void worker_events(void *context)
{
	struct dw_worker *worker = context;
	struct epoll_event events[16];
	int count;

	pthread_mutex_lock(&worker->lock);
	count = epoll_wait(worker->events_fd, events, 16, 0);
	for (int i = 0; i < count; i++) {
		if (events[i].data.u64 == EVENT_SPAWNER)
			read_spawner(worker);
		else if (events[i].data.u64 == EVENT_UP)
			read_up_link(worker);
		else
			read_link(&worker->children[events[i].data.u64]);
	}
	pthread_cond_broadcast(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
}

/* ------------------------------------------ called with the engine's lock */

static void op_kill(void *context, uint32_t index, const char *why)
{
	struct dw_worker *worker = context;
	struct child *child = &worker->children[index];

	log_at(LOG_WARN, "%s: killed: %s", child->path, why);
	if (worker->options.mode == DW_PROCESS)
		spawner_send(worker, SPAWNER_KILL, index, child->generation);
}

static void op_cancelled(void *context, uint32_t index)
{
	struct dw_worker *worker = context;
	struct child *child = &worker->children[index];

	if (child->kind == DW_CHILD_WORKER)
		link_send(child->link_parent, LINK_CANCEL, child->generation, 0,
			  "cancelled from above");
}

const struct engine_ops worker_ops = {
	.kill = op_kill,
	.cancelled = op_cancelled,
	.extra_readable = worker_events,
};
