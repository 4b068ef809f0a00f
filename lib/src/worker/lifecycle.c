/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See lifecycle.h. Starting is transactional: lifecycle_start() returns when the whole subtree is
 * READY, or takes everything down again and returns the first cause.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "base/deadline.h"
#include "base/fd.h"
#include "base/text.h"
#include "host/key.h"
#include "worker/events.h"
#include "worker/hierarchy.h"
#include "worker/system_calls.h"

#define KILL_NS 2000000000ULL
/*
 * Children get at least this long, and this fraction of the close timeout, to end by themselves,
 * even if the runs took all the time.
 */
#define STOP_FLOOR_NS 200000000ULL
#define STOP_SHARE 4

/* ----------------------------------------------------------------- prepare */

static int make_links(struct dw_worker *worker)
{
	for (uint32_t i = 0; i < worker->child_count; i++) {
		int error = link_make(&worker->children[i].link);

		if (error < 0)
			return error_set(error, "%s: cannot make the link: %s%s",
					 worker->children[i].path, error_name(-error),
					 error_hint(-error));
	}
	return 0;
}

static void describe_children(struct dw_worker *worker)
{
	for (uint32_t i = 0; i < worker->child_count; i++) {
		const struct child *child = &worker->children[i];
		uint32_t level = child->kind == DW_CHILD_WORKER ? child->nested->level :
				 child->kind == DW_CHILD_CHIP ? DW_LEVEL_CHIP : 0;

		segment_describe(worker, i, child->kind, level, child->path,
				 child->nested ? child->nested->options.host : NULL);
	}
}

static int make_trace(struct dw_worker *worker)
{
	const struct dw_worker *parent = worker->parent;
	struct trace_options options = {
		.files = &worker_root(worker)->life.trace_files,
		.path = worker->path,
		.worker_count = worker->child_count,
		.self = parent ? &parent->segment.status[parent->options.subs + worker->id] : NULL,
	};

	return worker->life.trace_pipe >= 0 ? 0 : trace_create(&options, &worker->life.trace);
}

/* The engine's background thread has ended; this thread does its work. */
static void stop_trace(void *worker)
{
	trace_stop(((struct dw_worker *)worker)->life.trace);
}

static int make_engine(struct dw_worker *worker, const struct arena *outer)
{
	struct hub_options hub = {
		.provider = worker->options.provider,
		.mailboxes = worker->child_count,
		.depth = worker->options.mailbox_depth,
		.frame_bytes = worker->options.frame_bytes,
	};
	struct engine_options engine = {
		.path = worker->path,
		.level = worker->level,
		.arena = worker->arena,
		.outer_arena = outer,
		.worker_count = worker->child_count,
		.workers = worker->engine_workers,
		.worker_stats = worker->segment.stats,
		.worker_status = worker->segment.status,
		.status = &worker->segment.worker->status,
		.timeout_ns = worker->options.timeout_ns,
		.heap_timeout_ns = worker->options.heap_timeout_ns,
		.init_timeout_ns = worker_init_budget(worker),
		.ops = &events_ops,
		.ops_context = worker,
	};
	int result = 0;

	worker->life.events_fd = fd_move_up(epoll_create1(EPOLL_CLOEXEC));
	if (worker->life.events_fd < 0)
		return error_set(-errno, "%s: epoll_create: %s%s", worker->path, error_name(errno),
				 error_hint(errno));
	if (worker->child_count)
		result = hub_create(&hub, &worker->life.hub);
	if (result == 0)
		result = make_trace(worker);
	if (result < 0)
		return result;
	engine.hub = worker->life.hub;
	engine.extra_fd = worker->life.events_fd;
	engine.probe = trace_probe(worker->life.trace);
	result = engine_create(&engine, &worker->life.engine);
	return result < 0 ? result : buffers_tell_engine(worker);
}

static int open_trace(struct dw_worker *root)
{
	return root->life.trace_pipe >= 0 ?
		       trace_files_send(&root->life.trace_files, root->life.trace_pipe) :
		       trace_files_open(&root->life.trace_files);
}

/*
 * Before gateways are forked: what libcrypto has in memory is then one copy for all of them. An
 * error is left to the gateway, whose text has the path and the host.
 */
static void share_crypto(const struct dw_worker *worker)
{
	struct secret *secret = NULL;

	for (uint32_t i = 0; i < worker->nested_count && !secret; i++)
		if (worker_is_elsewhere(worker->nested[i]))
			key_find(worker->nested[i]->options.host_key, &secret);
	secret_destroy(secret);
}

static int prepare(struct dw_worker *worker, struct arena *outer)
{
	int result = hierarchy_make_arena(worker, outer);

	if (result == 0)
		result = hierarchy_make_children(worker);
	if (result == 0)
		children_init(worker);
	if (result == 0 && !worker->parent)
		result = segment_create(worker);
	if (result == 0 && !worker->parent)
		result = open_trace(worker);
	if (result == 0)
		result = make_links(worker);
	if (result < 0)
		return result;
	describe_children(worker);
	share_crypto(worker);
	result = make_engine(worker, outer);
	if (result < 0)
		return result;
	if (worker->options.mode == DW_PROCESS)
		return worker->child_count ? spawner_fork(worker) : 0;
	for (uint32_t i = 0; i < worker->nested_count && result == 0; i++)
		result = lifecycle_prepare(worker->nested[i], worker->arena);
	return result;
}

/* Resets a Worker that failed to start; the error keeps its text. */
static int take_down(struct dw_worker *worker, int error)
{
	char text[ERROR_TEXT_BYTES];

	text_copy(text, sizeof(text), error_text());
	lifecycle_stop(worker, deadline_in(worker_close_budget(worker)));
	lifecycle_release(worker);
	return error_set(error, "%s", text);
}

int lifecycle_prepare(struct dw_worker *worker, struct arena *outer)
{
	int result;

	worker->life.state = WORKER_STARTING;
	result = prepare(worker, outer);
	return result < 0 ? take_down(worker, result) : 0;
}

/* ------------------------------------------------------------------- start */

static int watch(struct dw_worker *worker, int fd, uint64_t tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = tag };

	if (epoll_ctl(worker->life.events_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return error_set(-errno, "%s: cannot watch a socket: %s", worker->path,
				 error_name(errno));
	return 0;
}

static int watch_all(struct dw_worker *worker)
{
	int result = 0;

	for (uint32_t i = 0; i < worker->child_count && result == 0; i++)
		result = watch(worker, worker->children[i].link.parent, i);
	if (result == 0 && worker->spawner.socket >= 0)
		result = watch(worker, worker->spawner.socket, EVENT_SPAWNER);
	if (result == 0 && worker->spawner.tree_fd >= 0)
		result = watch(worker, worker->spawner.tree_fd, EVENT_TREE);
	if (result == 0 && worker->life.up_link >= 0)
		result = watch(worker, worker->life.up_link, EVENT_UP);
	return result;
}

static int start_children(struct dw_worker *worker)
{
	int result = 0;

	pthread_mutex_lock(&worker->lock);
	for (uint32_t i = 0; i < worker->child_count && result == 0; i++)
		result = children_spawn_locked(worker, &worker->children[i]);
	pthread_mutex_unlock(&worker->lock);
	return result;
}

/*
 * Waits for the next change of a child's state, or until the clock has to be looked at.
 * worker->lock is held.
 */
static int wait_change(struct dw_worker *worker, struct deadline *deadline)
{
	struct timespec until = clock_timespec(deadline_sleep(deadline, now_ns()));

	pthread_cond_timedwait(&worker->changed, &worker->lock, &until);
	return deadline_passed(deadline, now_ns()) ? -ETIMEDOUT : 0;
}

static void say_not_ready(const struct child *child)
{
	const struct dw_worker *worker = child->owner;
	int own = child->life.stopped;
	int spawners = child->life.state == CHILD_SPAWNING ? spawner_stopped(&worker->spawner) : 0;

	error_set(-ETIMEDOUT, "%s: not ready after %llu ms (init_timeout_ns)%s%s", child->path,
		  (unsigned long long)worker_init_budget(worker) / 1000000,
		  own ? ": it was stopped by " : spawners ? ": its spawner was stopped by " : "",
		  own || spawners ? error_signal_name(own ? own : spawners) : "");
}

/* UP comes with the last one's READY, so that a death after it is one of a Worker that is up. */
static int wait_ready(struct dw_worker *worker)
{
	struct deadline deadline = deadline_at(deadline_in(worker_init_budget(worker)));
	int result = 0;

	pthread_mutex_lock(&worker->lock);
	for (;;) {
		struct child *waiting = NULL;

		for (uint32_t i = 0; i < worker->child_count; i++) {
			struct child *child = &worker->children[i];

			if (child->life.error) {
				result = error_set(child->life.error, "%s", child->life.error_text);
				goto out;
			}
			/* If several children are late, name one that was stopped. */
			if (child->life.state != CHILD_READY &&
			    (!waiting || (child->life.stopped && !waiting->life.stopped)))
				waiting = child;
		}
		if (!waiting) {
			worker->life.state = WORKER_UP;
			break;
		}
		if (worker->loss.gone) {
			result = error_set(-EOWNERDEAD, "%s: %s during init", worker->path,
					   children_loss(worker));
			break;
		}
		if (result == -ETIMEDOUT) {
			say_not_ready(waiting);
			break;
		}
		result = wait_change(worker, &deadline);
	}
out:
	pthread_mutex_unlock(&worker->lock);
	return result;
}

int lifecycle_start(struct dw_worker *worker)
{
	int result;

	result = watch_all(worker);
	if (result == 0)
		result = engine_start(worker->life.engine);
	if (result == 0)
		result = start_children(worker);
	if (result == 0)
		result = wait_ready(worker);
	if (result < 0)
		return take_down(worker, result);
	segment_up(worker, true);
	arena_seal(worker->arena);
	if (worker->life.hub)
		hub_forks_done(worker->life.hub);
	return 0;
}

/* -------------------------------------------------------------------- stop */

static void stop_rings(void *context)
{
	struct dw_worker *worker = context;

	for (uint32_t i = 0; i < worker->child_count; i++)
		if (worker->children[i].life.state == CHILD_READY ||
		    worker->children[i].thread.started || worker->children[i].life.left[0])
			hub_stop(worker->life.hub, i);
}

static void kill_all(struct dw_worker *worker)
{
	for (uint32_t i = 0; i < worker->child_count; i++)
		children_kill(&worker->children[i]);
}

/*
 * Tells READY children to leave their loops. Any other child has nothing to lose and is killed, or
 * will be killed at its birth. All of this is under worker->lock, so no child becomes READY in
 * between.
 */
static void stop_children(struct dw_worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	engine_locked(worker->life.engine, stop_rings, worker);
	children_cancel_spawns_locked(worker);
	for (uint32_t i = 0; worker->options.mode == DW_PROCESS && i < worker->child_count; i++) {
		struct child *child = &worker->children[i];

		if (child->life.state != CHILD_READY)
			children_kill(child);
	}
	pthread_mutex_unlock(&worker->lock);
}

/* Names the children that have not ended, with the signals that stopped them. worker->lock. */
static void name_left(struct dw_worker *worker, char *names, size_t bytes)
{
	size_t used = 0;

	for (uint32_t i = 0; i < worker->child_count && used < bytes; i++) {
		const struct child *child = &worker->children[i];

		if (child_life_over(&child->life))
			continue;
		used += (size_t)text_format(
			names + used, bytes - used, "%s%s%s%s%s", used ? ", " : "", child->path,
			child->life.stopped ? " (stopped by " : "",
			child->life.stopped ? error_signal_name(child->life.stopped) : "",
			child->life.stopped ? ")" : "");
	}
}

/* Names the children that could not be killed. Returns whether there are any. */
static bool name_unkilled(struct dw_worker *worker, char *names, size_t bytes)
{
	size_t used = 0;

	for (uint32_t i = 0; i < worker->child_count && used < bytes; i++)
		if (worker->children[i].life.left[0])
			used += (size_t)text_format(names + used, bytes - used, "%s%s (%s)",
						    used ? ", " : "", worker->children[i].path,
						    worker->children[i].life.left);
	return used;
}

static bool wait_over(struct dw_worker *worker, struct deadline *deadline)
{
	for (;;) {
		bool over = true;

		for (uint32_t i = 0; i < worker->child_count; i++)
			over = over && child_life_over(&worker->children[i].life);
		if (over)
			return true;
		if (wait_change(worker, deadline) == -ETIMEDOUT)
			return false;
	}
}

static bool wait_killed(struct dw_worker *worker)
{
	struct deadline deadline = deadline_at(now_ns() + KILL_NS);

	return wait_over(worker, &deadline);
}

static int stop_processes(struct dw_worker *worker, struct deadline *deadline)
{
	char names[256] = "";
	int result = 0;

	pthread_mutex_lock(&worker->lock);
	if (wait_over(worker, deadline))
		goto out;
	name_left(worker, names, sizeof(names));
	result = error_set(-ETIMEDOUT,
			   "%s: killed, because they did not end before close_timeout_ns: %s",
			   worker->path, names);
	kill_all(worker);
	/*
	 * SIGKILL takes effect at once, unless the kernel is in trouble or the spawner was stopped:
	 * this deadline is for those cases.
	 */
	if (wait_killed(worker)) {
		if (name_unkilled(worker, names, sizeof(names)))
			result = error_set(-ETIMEDOUT,
					   "%s: left behind, because they did not end before "
					   "close_timeout_ns and cannot be killed: %s",
					   worker->path, names);
		goto out;
	}
	spawner_kill(&worker->spawner);
	if (wait_killed(worker))
		goto out;
	name_left(worker, names, sizeof(names));
	children_give_up_locked(worker, "left behind");
	result = error_set(-ETIMEDOUT,
			   "%s: left behind, because something below them holds on in spite "
			   "of SIGKILL: %s",
			   worker->path, names);
out:
	pthread_mutex_unlock(&worker->lock);
	return result;
}

/* Threads that are not READY yet may still wait for GO. */
static void end_links(struct dw_worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	for (uint32_t i = 0; i < worker->child_count; i++)
		if (worker->children[i].thread.started &&
		    worker->children[i].life.state != CHILD_READY)
			shutdown(worker->children[i].link.parent, SHUT_WR);
	pthread_mutex_unlock(&worker->lock);
}

static int stop_threads(struct dw_worker *worker, struct deadline *deadline)
{
	int result = 0;

	end_links(worker);
	for (uint32_t i = 0; i < worker->child_count; i++) {
		struct child *child = &worker->children[i];
		bool over;

		if (!child->thread.started)
			continue;
		pthread_mutex_lock(&worker->lock);
		while (!child->thread.over && wait_change(worker, deadline) != -ETIMEDOUT)
			;
		over = child->thread.over;
		pthread_mutex_unlock(&worker->lock);
		if (!over) {
			result = error_set(-ETIMEDOUT,
					   "%s: this thread did not end before "
					   "close_timeout_ns, and a thread cannot be killed",
					   child->path);
			continue;
		}
		thread_join(child);
		pthread_mutex_lock(&worker->lock);
		children_joined_locked(child);
		pthread_mutex_unlock(&worker->lock);
	}
	return result;
}

/* Stops threads' Workers that were prepared, and never started. */
static void stop_nested(struct dw_worker *worker)
{
	for (uint32_t i = 0; worker->options.mode == DW_THREAD && worker->children &&
	     i < worker->child_count; i++)
		if (worker->children[i].nested && !worker->children[i].thread.started)
			lifecycle_stop(worker->children[i].nested, now_ns());
}

static bool has_threads(const struct dw_worker *worker)
{
	for (uint32_t i = 0; worker->children && i < worker->child_count; i++)
		if (worker->children[i].thread.started)
			return true;
	return false;
}

/* A thread that did not end in time, but has ended since. */
static void join_late(struct dw_worker *worker)
{
	for (uint32_t i = 0; worker->children && i < worker->child_count; i++) {
		struct child *child = &worker->children[i];
		bool over;

		pthread_mutex_lock(&worker->lock);
		over = child->thread.started && child->thread.over;
		pthread_mutex_unlock(&worker->lock);
		if (!over)
			continue;
		thread_join(child);
	}
}

/* Do threads or runs of this process still use the Worker's resources? */
static bool in_use(struct dw_worker *worker)
{
	join_late(worker);
	if (has_threads(worker) || (worker->life.engine && engine_runs(worker->life.engine)))
		return true;
	for (uint32_t i = 0; worker->options.mode == DW_THREAD && i < worker->nested_count; i++)
		if (in_use(worker->nested[i]))
			return true;
	return false;
}

/* The text for the caller begins with the first cause. */
static int first_cause(int drained, const char *text, int stopped)
{
	char second[ERROR_TEXT_BYTES];

	if (!drained || !stopped)
		return drained ? error_set(drained, "%s", text) : stopped;
	text_copy(second, sizeof(second), error_text());
	return error_set(drained, "%s; then %s", text_limited(text, 220), second);
}

int lifecycle_stop(struct dw_worker *worker, uint64_t deadline_ns)
{
	struct deadline deadline = deadline_at(deadline_ns);
	char drain_text[ERROR_TEXT_BYTES] = "";
	enum worker_state before;
	int result = 0, drained = 0, ended;
	uint64_t floor;

	pthread_mutex_lock(&worker->lock);
	before = worker->life.state;
	if (before == WORKER_STARTING || before == WORKER_UP)
		worker->life.state = WORKER_CLOSING;
	pthread_mutex_unlock(&worker->lock);
	if (before != WORKER_STARTING && before != WORKER_UP)
		return 0;
	segment_up(worker, false);

	if (worker->life.engine) {
		drained = engine_drain(worker->life.engine, &deadline);
		if (drained < 0)
			text_copy(drain_text, sizeof(drain_text), error_text());
		stop_children(worker);
	}
	/* It is not the children's fault if runs took all the time. */
	floor = worker_close_budget(worker) / STOP_SHARE;
	floor = now_ns() + (floor > STOP_FLOOR_NS ? floor : STOP_FLOOR_NS);
	if (deadline.at_ns < floor)
		deadline.at_ns = floor;
	if (worker->options.mode == DW_THREAD)
		result = stop_threads(worker, &deadline);
	else if (worker->spawner.pid > 0)
		result = stop_processes(worker, &deadline);
	if (worker->life.engine) {
		engine_stop(worker->life.engine);
		engine_locked(worker->life.engine, stop_trace, worker);
	}
	ended = spawner_end(worker);
	if (result == 0)
		result = ended;
	stop_nested(worker);
	if (!worker->parent && !in_use(worker))
		trace_files_close(&worker->life.trace_files);
	pthread_mutex_lock(&worker->lock);
	worker->life.state = WORKER_CLOSED;
	pthread_mutex_unlock(&worker->lock);
	return first_cause(drained, drain_text, result);
}

bool lifecycle_release(struct dw_worker *worker)
{
	if (in_use(worker))
		return false;
	for (uint32_t i = 0; worker->options.mode == DW_THREAD && i < worker->nested_count; i++)
		lifecycle_release(worker->nested[i]);
	if (worker->life.engine)
		engine_destroy(worker->life.engine);
	trace_destroy(worker->life.trace);
	if (worker->life.hub)
		hub_destroy(worker->life.hub);
	children_release(worker);
	if (worker->life.events_fd >= 0)
		close(worker->life.events_fd);
	hierarchy_drop_children(worker);
	if (worker->parent) {
		hierarchy_drop_arena(worker);
	} else {
		segment_destroy(worker);
		trace_files_close(&worker->life.trace_files);
	}
	worker->life.events_fd = -1;
	worker->life.engine = NULL;
	worker->life.hub = NULL;
	worker->life.trace = NULL;
	worker->life.state = WORKER_NEW;
	return true;
}

void lifecycle_init(struct dw_worker *worker)
{
	worker->life.events_fd = worker->life.up_link = worker->life.trace_pipe = -1;
}

void lifecycle_set_up_link(struct dw_worker *nested, int link, uint32_t generation)
{
	nested->life.up_link = link;
	nested->life.up_generation = generation;
}

void lifecycle_set_trace(struct dw_worker *root, int pipe)
{
	root->life.trace_pipe = pipe;
}

int lifecycle_bring_up(struct dw_worker *root)
{
	int result;

	if (root->life.state == WORKER_CLOSED && root->life.init_failed && !lifecycle_release(root))
		return error_set(-EBUSY,
				 "Worker %s: a thread of its last init, which has failed, has not "
				 "ended yet",
				 root->name);
	if (root->life.state != WORKER_NEW)
		return error_set(-EBUSY, "Worker %s was initialised before", root->name);
	if (worker_is_elsewhere(root))
		return error_set(-EINVAL,
				 "Worker %s is a root, and is on host %s: only a child Worker can "
				 "be on another host",
				 root->name, root->options.host);
	result = hierarchy_name(root);
	if (result == 0)
		result = system_calls_check(root->name);
	if (result == 0)
		result = lifecycle_prepare(root, NULL);
	if (result == 0)
		result = lifecycle_start(root);
	root->life.init_failed = result < 0;
	return result;
}
