/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The way up, in two passes over the Workers of this process (all forks before
 * the first thread), and the way down. Up is transactional: worker_start() returns when
 * the whole subtree is READY, or has taken everything down again and
 * returns the first cause.
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
#include "worker/status_segment.h"
#include "worker/spawner.h"

#define KILL_NS 2000000000ULL
/* Children have at least this long to end by themselves, and this part of the time for a close, if the runs took all of it. */
#define STOP_FLOOR_NS 200000000ULL
#define STOP_SHARE 4

/* ----------------------------------------------------------------- prepare */

static void set_child(struct dw_worker *worker, uint32_t i, enum dw_child_kind kind, uint32_t number)
{
	static const char *const names[] = { "sub", "chip" };
	struct child *child = &worker->children[i];

	child->owner = worker;
	child->index = i;
	child->kind = kind;
	child->link_parent = child->link_child = -1;
	child->pidfd = -1;
	if (kind == DW_CHILD_WORKER) {
		child->nested = worker->nested[number];
		text_copy(child->path, sizeof(child->path), child->nested->path);
	} else {
		text_format(child->path, sizeof(child->path), "%.*s/%s%u", PATH_BYTES - 16, worker->path,
			 names[kind], number);
	}
	if (kind == DW_CHILD_CHIP)
		child->chip = &worker->chips[number];
	worker->engine_workers[i] = (struct engine_worker){
		.kind = kind,
		.driver = kind == DW_CHILD_CHIP ? child->chip->driver : NULL,
		.path = child->path,
		.nested_text = kind == DW_CHILD_WORKER,
	};
}

static int make_children(struct dw_worker *worker)
{
	uint32_t count = worker->options.subs + worker->options.chip_count + worker->nested_count;
	uint32_t i = 0;

	/* One more: a Worker may have none. */
	worker->children = calloc(count + 1, sizeof(*worker->children));
	worker->engine_workers = calloc(count + 1, sizeof(*worker->engine_workers));
	if (!worker->children || !worker->engine_workers)
		return error_set(-ENOMEM, "%s: no memory for %u children", worker->path, count);
	/* Not before: who tears down believes what the children's fields say. */
	worker->child_count = count;
	for (uint32_t n = 0; n < worker->options.subs; n++)
		set_child(worker, i++, DW_CHILD_SUB, n);
	for (uint32_t n = 0; n < worker->options.chip_count; n++)
		set_child(worker, i++, DW_CHILD_CHIP, n);
	for (uint32_t n = 0; n < worker->nested_count; n++)
		set_child(worker, i++, DW_CHILD_WORKER, n);
	return 0;
}

static int make_links(struct dw_worker *worker)
{
	for (uint32_t i = 0; i < worker->child_count; i++) {
		int ends[2];

		if (fd_move_pair_up(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends),
				    ends) < 0)
			return error_set(-errno, "%s: cannot make the link: %s%s",
					 worker->children[i].path, error_name(errno),
					 error_hint(errno));
		worker->children[i].link_parent = ends[0];
		worker->children[i].link_child = ends[1];
	}
	return 0;
}

static void fill_stats(struct dw_worker *worker)
{
	for (uint32_t i = 0; i < worker->child_count; i++) {
		struct child *child = &worker->children[i];

		memset(&worker->stats[i], 0, sizeof(worker->stats[i]));
		text_copy(worker->stats[i].path, sizeof(worker->stats[i].path), child->path);
		worker->stats[i].kind = child->kind;
		worker->stats[i].level = child->kind == DW_CHILD_WORKER ? child->nested->level :
					 child->kind == DW_CHILD_CHIP ? DW_LEVEL_CHIP : 0;
	}
}

static int make_trace(struct dw_worker *worker)
{
	const struct dw_worker *parent = worker->parent;
	struct trace_options options = {
		.files = &worker_root(worker)->trace_files,
		.path = worker->path,
		.worker_count = worker->child_count,
		.self = parent ? &parent->child_status[parent->options.subs + worker->id] : NULL,
	};

	return trace_create(&options, &worker->trace);
}

/* Without the engine's background thread, which has ended. */
static void stop_trace(void *worker)
{
	trace_stop(((struct dw_worker *)worker)->trace);
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
		.arena = worker->arena,
		.outer_arena = outer,
		.worker_count = worker->child_count,
		.workers = worker->engine_workers,
		.worker_stats = worker->stats,
		.worker_status = worker->child_status,
		.status = &worker->segment_worker->status,
		.timeout_ns = worker->options.timeout_ns,
		.heap_timeout_ns = worker->options.heap_timeout_ns,
		.init_timeout_ns = worker_init_budget(worker),
		.check_declared = worker->parent && worker->parent->options.check_declared,
		.ops = &worker_ops,
		.ops_context = worker,
	};
	int result = 0;

	worker->events_fd = fd_move_up(epoll_create1(EPOLL_CLOEXEC));
	if (worker->events_fd < 0)
		return error_set(-errno, "%s: epoll_create: %s%s", worker->path, error_name(errno),
				 error_hint(errno));
	if (worker->child_count)
		result = hub_create(&hub, &worker->hub);
	if (result == 0)
		result = make_trace(worker);
	if (result < 0)
		return result;
	engine.hub = worker->hub;
	engine.extra_fd = worker->events_fd;
	engine.probe = trace_probe(worker->trace);
	return engine_create(&engine, &worker->engine);
}

static int prepare(struct dw_worker *worker, struct arena *outer)
{
	int result = worker_make_arena(worker, outer);

	if (result == 0)
		result = make_children(worker);
	if (result == 0 && !worker->parent)
		result = segment_create(worker);
	if (result == 0 && !worker->parent)
		result = trace_files_open(&worker->trace_files);
	if (result == 0)
		result = make_links(worker);
	if (result < 0)
		return result;
	fill_stats(worker);
	result = make_engine(worker, outer);
	if (result < 0)
		return result;
	if (worker->options.mode == DW_PROCESS)
		return worker->child_count ? spawner_fork(worker) : 0;
	for (uint32_t i = 0; i < worker->nested_count && result == 0; i++)
		result = worker_prepare(worker->nested[i], worker->arena);
	return result;
}

/* What has failed on its way up is as it was before; the error keeps its text. */
static int take_down(struct dw_worker *worker, int error)
{
	char text[ERROR_TEXT_BYTES];

	text_copy(text, sizeof(text), error_text());
	worker_stop(worker, deadline_in(worker_close_budget(worker)));
	worker_release(worker);
	return error_set(error, "%s", text);
}

int worker_prepare(struct dw_worker *worker, struct arena *outer)
{
	int result;

	worker->state = WORKER_STARTING;
	result = prepare(worker, outer);
	return result < 0 ? take_down(worker, result) : 0;
}

/* ------------------------------------------------------------------- start */

static int watch(struct dw_worker *worker, int fd, uint64_t tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = tag };

	if (epoll_ctl(worker->events_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return error_set(-errno, "%s: cannot watch a socket: %s", worker->path,
				 error_name(errno));
	return 0;
}

static int watch_all(struct dw_worker *worker)
{
	int result = 0;

	for (uint32_t i = 0; i < worker->child_count && result == 0; i++)
		result = watch(worker, worker->children[i].link_parent, i);
	if (result == 0 && worker->spawner_fd >= 0)
		result = watch(worker, worker->spawner_fd, EVENT_SPAWNER);
	if (result == 0 && worker->tree_fd >= 0)
		result = watch(worker, worker->tree_fd, EVENT_TREE);
	if (result == 0 && worker->up_link >= 0)
		result = watch(worker, worker->up_link, EVENT_UP);
	return result;
}

static void *thread_main(void *argument)
{
	struct child *child = argument;
	uint32_t generation = child->generation;

	child_main(child, generation, false);
	pthread_mutex_lock(&child->owner->lock);
	child->thread_over = true;
	pthread_cond_broadcast(&child->owner->changed);
	link_send(child->link_child, LINK_OVER, generation, 0, NULL);
	pthread_mutex_unlock(&child->owner->lock);
	return NULL;
}

/* The library's threads take none of the application's signals, but what a fault raises is their own. */
static void block_signals(sigset_t *before)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };
	sigset_t mask;

	sigfillset(&mask);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(&mask, own[i]);
	pthread_sigmask(SIG_SETMASK, &mask, before);
}

int worker_start_thread(struct child *child)
{
	sigset_t before;
	int error;

	child->thread_over = false;
	block_signals(&before);
	error = pthread_create(&child->thread, NULL, thread_main, child);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		return error_set(-error, "%s: cannot start its thread: %s%s", child->path,
				 error_name(error), error_hint(error));
	child->thread_started = true;
	return 0;
}

static int start_children(struct dw_worker *worker)
{
	int result = 0;

	pthread_mutex_lock(&worker->lock);
	for (uint32_t i = 0; i < worker->child_count && result == 0; i++)
		result = worker_spawn_locked(worker, &worker->children[i]);
	pthread_mutex_unlock(&worker->lock);
	return result;
}

/* Waits for the next change of a child's state, or until the clock has to be looked at. worker->lock is held. */
static int wait_change(struct dw_worker *worker, struct deadline *deadline)
{
	struct timespec until = clock_timespec(deadline_sleep(deadline, now_ns()));

	pthread_cond_timedwait(&worker->changed, &worker->lock, &until);
	return deadline_passed(deadline, now_ns()) ? -ETIMEDOUT : 0;
}

uint64_t worker_init_budget(const struct dw_worker *worker)
{
	uint64_t own = worker->options.init_timeout_ns, above;

	if (!worker->parent)
		return own;
	above = worker_init_budget(worker->parent);
	above -= above / 4;
	return own < above ? own : above;
}

uint64_t worker_close_budget(const struct dw_worker *worker)
{
	uint64_t own = worker->options.close_timeout_ns, above;

	if (!worker->parent)
		return own;
	above = worker_close_budget(worker->parent) / 2;
	return own < above ? own : above;
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

			if (child->error) {
				result = error_set(child->error, "%s", child->error_text);
				goto out;
			}
			/* Of several the one that cannot go on is to blame. */
			if (child->state != CHILD_READY &&
			    (!waiting || (child->stopped && !waiting->stopped)))
				waiting = child;
		}
		if (!waiting) {
			worker->state = WORKER_UP;
			break;
		}
		if (worker->spawner_gone) {
			result = error_set(-EOWNERDEAD, "%s: %s during init", worker->path,
					   worker->spawner_end[0] ? worker->spawner_end :
					   "its spawner died");
			break;
		}
		if (result == -ETIMEDOUT) {
			error_set(result, "%s: not ready after %llu ms (init_timeout_ns)%s%s", waiting->path,
				  (unsigned long long)worker_init_budget(worker) / 1000000,
				  waiting->stopped ? ": it was stopped by " : "",
				  waiting->stopped ? error_signal_name(waiting->stopped) : "");
			break;
		}
		result = wait_change(worker, &deadline);
	}
out:
	pthread_mutex_unlock(&worker->lock);
	return result;
}

int worker_start(struct dw_worker *worker)
{
	int result;

	result = watch_all(worker);
	if (result == 0)
		result = engine_start(worker->engine);
	if (result == 0)
		result = start_children(worker);
	if (result == 0)
		result = wait_ready(worker);
	if (result < 0)
		return take_down(worker, result);
	segment_up(worker, true);
	arena_seal(worker->arena);
	if (worker->hub)
		hub_forks_done(worker->hub);
	return 0;
}

/* -------------------------------------------------------------------- stop */

static bool child_over(const struct child *child)
{
	return child->state == CHILD_NONE || child->state == CHILD_GONE;
}

static void stop_rings(void *context)
{
	struct dw_worker *worker = context;

	for (uint32_t i = 0; i < worker->child_count; i++)
		if (worker->children[i].state == CHILD_READY || worker->children[i].thread_started ||
		    worker->children[i].left[0])
			hub_stop(worker->hub, i);
}

static void kill_all(struct dw_worker *worker)
{
	for (uint32_t i = 0; i < worker->child_count; i++)
		worker_kill_child(&worker->children[i]);
}

/*
 * Who is READY leaves its loop. Who is not has nothing to lose; one who is on its way is killed
 * when it is born. Both at once under worker->lock, so that nobody becomes READY in between.
 */
static void stop_children(struct dw_worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	engine_locked(worker->engine, stop_rings, worker);
	for (uint32_t i = 0; worker->options.mode == DW_PROCESS && i < worker->child_count; i++) {
		struct child *child = &worker->children[i];

		/* Nobody has started it, and nobody will. */
		if (child->spawn_wanted)
			child->state = CHILD_NONE;
		child->spawn_wanted = false;
		if (child->state != CHILD_READY)
			worker_kill_child(child);
	}
	pthread_mutex_unlock(&worker->lock);
}

/* Names of those that are not over, and what stops them; worker->lock is held. */
static void name_left(struct dw_worker *worker, char *names, size_t bytes)
{
	size_t used = 0;

	for (uint32_t i = 0; i < worker->child_count && used < bytes; i++) {
		const struct child *child = &worker->children[i];

		if (child_over(child))
			continue;
		used += (size_t)text_format(names + used, bytes - used, "%s%s%s%s%s", used ? ", " : "",
					 child->path, child->stopped ? " (stopped by " : "",
					 child->stopped ? error_signal_name(child->stopped) : "",
					 child->stopped ? ")" : "");
	}
}

/* Whether any could not be killed. */
static bool name_unkilled(struct dw_worker *worker, char *names, size_t bytes)
{
	size_t used = 0;

	for (uint32_t i = 0; i < worker->child_count && used < bytes; i++)
		if (worker->children[i].left[0])
			used += (size_t)text_format(names + used, bytes - used, "%s%s (%s)", used ? ", " : "",
						 worker->children[i].path, worker->children[i].left);
	return used;
}

static bool wait_over(struct dw_worker *worker, struct deadline *deadline)
{
	for (;;) {
		bool over = true;

		for (uint32_t i = 0; i < worker->child_count; i++)
			over = over && child_over(&worker->children[i]);
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
	result = error_set(-ETIMEDOUT, "%s: killed, because they did not end before close_timeout_ns: %s",
			   worker->path, names);
	kill_all(worker);
	/* SIGKILL needs no deadline but that of a kernel in trouble, or of a spawner that was stopped. */
	if (wait_killed(worker)) {
		if (name_unkilled(worker, names, sizeof(names)))
			result = error_set(-ETIMEDOUT, "%s: left behind, because they did not end before "
					   "close_timeout_ns and cannot be killed: %s", worker->path, names);
		goto out;
	}
	if (worker->spawner_pidfd >= 0)
		syscall(SYS_pidfd_send_signal, worker->spawner_pidfd, SIGKILL, NULL, 0);
	if (wait_killed(worker))
		goto out;
	name_left(worker, names, sizeof(names));
	worker_give_up_locked(worker, "left behind");
	result = error_set(-ETIMEDOUT, "%s: left behind, because something below them holds on in spite "
			   "of SIGKILL: %s", worker->path, names);
out:
	pthread_mutex_unlock(&worker->lock);
	return result;
}

/* Those that are not READY yet may still wait for GO. */
static void end_links(struct dw_worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	for (uint32_t i = 0; i < worker->child_count; i++)
		if (worker->children[i].thread_started && worker->children[i].state != CHILD_READY)
			shutdown(worker->children[i].link_parent, SHUT_WR);
	pthread_mutex_unlock(&worker->lock);
}

static int stop_threads(struct dw_worker *worker, struct deadline *deadline)
{
	int result = 0;

	end_links(worker);
	for (uint32_t i = 0; i < worker->child_count; i++) {
		struct child *child = &worker->children[i];
		bool over;

		if (!child->thread_started)
			continue;
		pthread_mutex_lock(&worker->lock);
		while (!child->thread_over && wait_change(worker, deadline) != -ETIMEDOUT)
			;
		over = child->thread_over;
		pthread_mutex_unlock(&worker->lock);
		if (!over) {
			result = error_set(-ETIMEDOUT, "%s: this thread did not end before "
					   "close_timeout_ns, and a thread cannot be killed", child->path);
			continue;
		}
		pthread_join(child->thread, NULL);
		child->thread_started = false;
		pthread_mutex_lock(&worker->lock);
		worker_joined_locked(child);
		pthread_mutex_unlock(&worker->lock);
	}
	return result;
}

/* Threads' Workers that were prepared, and never started. */
static void stop_nested(struct dw_worker *worker)
{
	for (uint32_t i = 0; worker->options.mode == DW_THREAD && worker->children &&
	     i < worker->child_count; i++)
		if (worker->children[i].nested && !worker->children[i].thread_started)
			worker_stop(worker->children[i].nested, now_ns());
}

static bool has_threads(const struct dw_worker *worker)
{
	for (uint32_t i = 0; worker->children && i < worker->child_count; i++)
		if (worker->children[i].thread_started)
			return true;
	return false;
}

/* A thread that was not waited for in time, and has ended since. */
static void join_late(struct dw_worker *worker)
{
	for (uint32_t i = 0; worker->children && i < worker->child_count; i++) {
		struct child *child = &worker->children[i];
		bool over;

		pthread_mutex_lock(&worker->lock);
		over = child->thread_started && child->thread_over;
		pthread_mutex_unlock(&worker->lock);
		if (!over)
			continue;
		pthread_join(child->thread, NULL);
		child->thread_started = false;
	}
}

/* Whether threads or runs of this process still use what belongs to the Worker. */
static bool in_use(struct dw_worker *worker)
{
	join_late(worker);
	if (has_threads(worker) || (worker->engine && engine_runs(worker->engine)))
		return true;
	for (uint32_t i = 0; worker->options.mode == DW_THREAD && i < worker->nested_count; i++)
		if (in_use(worker->nested[i]))
			return true;
	return false;
}

/* What came first is what the caller is told first. */
static int first_cause(int drained, const char *text, int stopped)
{
	char second[ERROR_TEXT_BYTES];

	if (!drained || !stopped)
		return drained ? error_set(drained, "%s", text) : stopped;
	text_copy(second, sizeof(second), error_text());
	return error_set(drained, "%s; then %s", text_limited(text, 220), second);
}

int worker_stop(struct dw_worker *worker, uint64_t deadline_ns)
{
	struct deadline deadline = deadline_at(deadline_ns);
	char drain_text[ERROR_TEXT_BYTES] = "";
	enum worker_state before;
	int result = 0, drained = 0, ended;
	uint64_t floor;

	pthread_mutex_lock(&worker->lock);
	before = worker->state;
	if (before == WORKER_STARTING || before == WORKER_UP)
		worker->state = WORKER_CLOSING;
	pthread_mutex_unlock(&worker->lock);
	if (before != WORKER_STARTING && before != WORKER_UP)
		return 0;
	segment_up(worker, false);

	if (worker->engine) {
		drained = engine_drain(worker->engine, &deadline);
		if (drained < 0)
			text_copy(drain_text, sizeof(drain_text), error_text());
		stop_children(worker);
	}
	/* Runs that took all the time there was are not the children's fault. */
	floor = worker_close_budget(worker) / STOP_SHARE;
	floor = now_ns() + (floor > STOP_FLOOR_NS ? floor : STOP_FLOOR_NS);
	if (deadline.at_ns < floor)
		deadline.at_ns = floor;
	if (worker->options.mode == DW_THREAD)
		result = stop_threads(worker, &deadline);
	else if (worker->spawner_pid > 0)
		result = stop_processes(worker, &deadline);
	if (worker->engine) {
		engine_stop(worker->engine);
		engine_locked(worker->engine, stop_trace, worker);
	}
	ended = spawner_end(worker);
	if (result == 0)
		result = ended;
	stop_nested(worker);
	if (!worker->parent && !in_use(worker))
		trace_files_close(&worker->trace_files);
	pthread_mutex_lock(&worker->lock);
	worker->state = WORKER_CLOSED;
	pthread_mutex_unlock(&worker->lock);
	return first_cause(drained, drain_text, result);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

bool worker_release(struct dw_worker *worker)
{
	if (in_use(worker))
		return false;
	for (uint32_t i = 0; worker->options.mode == DW_THREAD && i < worker->nested_count; i++)
		worker_release(worker->nested[i]);
	if (worker->engine)
		engine_destroy(worker->engine);
	trace_destroy(worker->trace);
	worker->trace = NULL;
	if (worker->hub)
		hub_destroy(worker->hub);
	for (uint32_t i = 0; worker->children && i < worker->child_count; i++) {
		close_fd(&worker->children[i].pidfd);
		close_fd(&worker->children[i].link_parent);
		close_fd(&worker->children[i].link_child);
	}
	close_fd(&worker->events_fd);
	free(worker->children);
	free(worker->engine_workers);
	worker->engine = NULL;
	worker->hub = NULL;
	worker->children = NULL;
	worker->engine_workers = NULL;
	worker->child_count = 0;
	worker->spawner_gone = false;
	worker->spawner_end[0] = '\0';
	if (worker->parent) {
		arena_destroy(worker->arena);
		worker->arena = NULL;
	} else {
		segment_destroy(worker);
		trace_files_close(&worker->trace_files);
	}
	worker->state = WORKER_NEW;
	return true;
}
