/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The engine's life: created before the forks, a background thread after them,
 * workers that come and go, control frames, counters.
 *
 * The background thread sleeps in epoll on the hub's bell, the timer, a kick and the
 * worker layer's descriptor. It takes the lock only when one of them is readable.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "base/fd.h"
#include "engine/abandon.h"
#include "engine/chip_memory.h"
#include "engine/completion.h"
#include "engine/process.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"
#include "engine/timer.h"
#include "engine/wait.h"
#include "mailbox/spin.h"

enum source { SOURCE_BELL, SOURCE_TIMER, SOURCE_KICK, SOURCE_EXTRA };

/* ------------------------------------------------------------------ process */

static _Atomic uint32_t serial = 1;
static pthread_once_t serial_once = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
	atomic_fetch_add_explicit(&serial, 1, memory_order_relaxed);
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

/* Differs between this process and what was forked from it. */
uint32_t process_serial(void)
{
	return atomic_load_explicit(&serial, memory_order_relaxed);
}

/* ------------------------------------------------------------------- create */

static uint64_t *bitmap_new(const struct engine *engine)
{
	return calloc(engine->words ? engine->words : 1, sizeof(uint64_t));
}

static struct pool *find_pool(struct engine *engine, const struct engine_worker *worker)
{
	for (uint32_t i = 0; i < engine->pool_count; i++) {
		struct pool *pool = &engine->pools[i];

		if (pool->kind == worker->kind &&
		    (worker->kind != DW_CHILD_CHIP || strcmp(pool->driver, worker->driver) == 0))
			return pool;
	}
	return NULL;
}

static struct pool *add_pool(struct engine *engine, const struct worker_ring *ring)
{
	struct pool *pool = &engine->pools[engine->pool_count++];

	pool->kind = ring->kind;
	pool->driver = ring->driver;
	pool->current = NO_WORKER;
	pool->mask = bitmap_new(engine);
	pool->open = bitmap_new(engine);
	pool->idle = bitmap_new(engine);
	pool->awake = bitmap_new(engine);
	return pool->mask && pool->open && pool->idle && pool->awake ? pool : NULL;
}

static int add_ring(struct engine *engine, uint32_t i, const struct engine_options *options)
{
	const struct engine_worker *worker = &options->workers[i];
	struct worker_ring *ring = &engine->rings[i];
	struct pool *pool;

	ring->index = i;
	ring->kind = worker->kind;
	ring->nested_text = worker->nested_text;
	ring->path = strdup(worker->path);
	ring->driver = worker->driver ? strdup(worker->driver) : NULL;
	ring->entries = calloc(engine->depth, sizeof(*ring->entries));
	ring->stats = options->worker_stats ? &options->worker_stats[i] : &ring->own_stats;
	ring->status = options->worker_status ? &options->worker_status[i] : &ring->own_status;
	if (!ring->path || !ring->entries || (worker->driver && !ring->driver))
		return -ENOMEM;
	if (worker->kind == DW_CHILD_SUB)
		engine->sub_count++;
	pool = find_pool(engine, worker);
	if (!pool)
		pool = add_pool(engine, ring);
	if (!pool)
		return -ENOMEM;
	ring->pool = (uint16_t)(pool - engine->pools);
	pool->members++;
	pool->usable++;
	bit_set(pool->mask, i);
	ring_update(engine, ring);
	return 0;
}

/* `run` NULL: it has ended. */
static void forget_block(struct dw_run *run, uint64_t begin, uint64_t end, void *context)
{
	(void)context;
	if (!run)
		return;
	if (run->map)
		tensor_map_forget(run->map, begin, end);
	PROBE(run->engine, forget, run, begin, end);
}

static int create_parts(struct engine *engine, const struct engine_options *options)
{
	uint32_t count = engine->worker_count;
	int result;

	engine->path = strdup(options->path);
	engine->rings = calloc(count ? count : 1, sizeof(*engine->rings));
	engine->pools = calloc(count ? count : 1, sizeof(*engine->pools));
	engine->active = bitmap_new(engine);
	engine->unpublished = bitmap_new(engine);
	engine->pending = bitmap_new(engine);
	engine->wanting = bitmap_new(engine);
	if (!engine->path || !engine->rings || !engine->pools || !engine->active ||
	    !engine->unpublished || !engine->pending || !engine->wanting)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		result = add_ring(engine, i, options);
		if (result < 0)
			return result;
	}
	result = heap_create(engine->arena, &engine->heap);
	if (result == 0)
		heap_show(engine->heap, &engine->status->stats.heap_used,
			  &engine->status->stats.heap_peak);
	if (result == 0)
		heap_on_release(engine->heap, forget_block, engine);
	return result;
}

int engine_create(const struct engine_options *options, struct engine **engine)
{
	struct engine *made = aligned_alloc(64, (sizeof(*made) + 63) / 64 * 64);
	int result;

	pthread_once(&serial_once, watch_forks);
	if (!made)
		return error_set(-ENOMEM, "%s: no memory for its engine", options->path);
	memset(made, 0, sizeof(*made));
	made->status = options->status ? options->status : &made->own_status;
	/* One that takes a dead one's place counts from the beginning. */
	memset(made->status, 0, sizeof(*made->status));
	made->hub = options->worker_count ? options->hub : NULL;
	made->arena = options->arena;
	made->outer_arena = options->outer_arena;
	made->worker_count = options->worker_count;
	made->words = (options->worker_count + 63) / 64;
	made->depth = made->hub ? hub_depth(made->hub) : 1;
	made->status->stats.provider = made->hub ? hub_provider(made->hub) : DW_PROVIDER_AUTO;
	made->cpus = spin_cpus();
	made->payload = made->hub ? hub_frame_payload(made->hub) : 0;
	made->timeout_ns = options->timeout_ns;
	made->heap_timeout_ns = options->heap_timeout_ns ? options->heap_timeout_ns : 10000000000ULL;
	made->init_timeout_ns = options->init_timeout_ns;
	made->check_declared = options->check_declared;
	made->ops = options->ops;
	made->ops_context = options->ops_context;
	made->probe = options->probe;
	made->extra_fd = options->extra_fd;
	made->timer_fd = -1;
	made->kick_fd = -1;
	made->epoll_fd = -1;
	made->timer_at = NEVER;
	made->edges = (struct slab)SLAB_INIT(struct edge, EDGES_FIRST, EDGES_MOST);
	made->process = process_serial();
	result = create_parts(made, options);
	if (result < 0) {
		engine_destroy(made);
		return result == -ENOMEM ? error_set(result, "%s: no memory for its engine",
						     options->path) : result;
	}
	*engine = made;
	return 0;
}

static void destroy_ring(struct worker_ring *ring)
{
	free(ring->path);
	free(ring->driver);
	free(ring->cause);
	free(ring->entries);
}

void engine_destroy(struct engine *engine)
{
	if (!engine)
		return;
	engine_stop(engine);
	for (uint32_t i = 0; engine->rings && i < engine->worker_count; i++) {
		ring_release_kept(engine, &engine->rings[i]);
		destroy_ring(&engine->rings[i]);
	}
	for (uint32_t i = 0; i < engine->pool_count; i++) {
		free(engine->pools[i].mask);
		free(engine->pools[i].open);
		free(engine->pools[i].idle);
		free(engine->pools[i].awake);
	}
	if (engine->heap)
		heap_destroy(engine->heap);
	tasks_destroy(engine);
	chip_memory_destroy(engine);
	free(engine->active);
	free(engine->unpublished);
	free(engine->pending);
	free(engine->wanting);
	free(engine->rings);
	free(engine->pools);
	free(engine->path);
	free(engine);
}

/* --------------------------------------------------------- background thread */

static void drain_fd(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		return;
}

static void background_event(struct engine *engine, const struct epoll_event *event)
{
	switch ((enum source)event->data.u32) {
	case SOURCE_BELL:
		hub_bell_clear(engine->hub, event->events);
		break;
	case SOURCE_TIMER:
		drain_fd(engine->timer_fd);
		lock_take(&engine->lock);
		timer_expired(engine);
		engine_unlock_and_wake(engine);
		break;
	case SOURCE_KICK:
		drain_fd(engine->kick_fd);
		break;
	case SOURCE_EXTRA:
		engine->ops->extra_readable(engine->ops_context);
		break;
	}
}

static void *background(void *argument)
{
	struct engine *engine = argument;
	struct epoll_event events[4];
	uint64_t submits = 0;
	bool pending, stop;
	int count;

	for (;;) {
		lock_take(&engine->lock);
		stop = engine->stopping;
		engine_work(engine);
		/* Nobody has called in since last time: nobody but us will refill the rings. */
		if (submits == engine->submits && !engine->foreground)
			ask_for_refill(engine);
		submits = engine->submits;
		pending = engine->any_pending;
		engine_unlock_and_wake(engine);
		if (stop)
			return NULL;
		if (engine->hub)
			engine_pass_changes(engine);
		/* True: completions are pending already, and the bell would not ring for them. */
		if (engine->hub && hub_bell_arm(engine->hub))
			pending = true;
		count = epoll_wait(engine->epoll_fd, events, 4, pending ? 0 : -1);
		if (count < 0 && errno != EINTR) {
			if (engine->ops->deaf)
				engine->ops->deaf(engine->ops_context, errno);
			return NULL;
		}
		for (int i = 0; i < count; i++)
			background_event(engine, &events[i]);
	}
}

static int watch(struct engine *engine, int fd, enum source source)
{
	/* Only the bell has something urgent to tell: changes of state. */
	struct epoll_event event = { .events = EPOLLIN | EPOLLPRI, .data.u32 = source };

	return epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int open_descriptors(struct engine *engine)
{
	engine->epoll_fd = fd_move_up(epoll_create1(EPOLL_CLOEXEC));
	engine->timer_fd = fd_move_up(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	engine->kick_fd = fd_move_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (engine->epoll_fd < 0 || engine->timer_fd < 0 || engine->kick_fd < 0 ||
	    watch(engine, engine->timer_fd, SOURCE_TIMER) < 0 ||
	    watch(engine, engine->kick_fd, SOURCE_KICK) < 0 ||
	    (engine->hub && watch(engine, hub_bell_fd(engine->hub), SOURCE_BELL) < 0) ||
	    (engine->extra_fd >= 0 && watch(engine, engine->extra_fd, SOURCE_EXTRA) < 0))
		return error_set(-errno, "%s: descriptors of its background thread: %s%s", engine->path,
				 error_name(errno), error_hint(errno));
	return 0;
}

static void close_descriptors(struct engine *engine)
{
	if (engine->epoll_fd >= 0)
		close(engine->epoll_fd);
	if (engine->timer_fd >= 0)
		close(engine->timer_fd);
	if (engine->kick_fd >= 0)
		close(engine->kick_fd);
	engine->epoll_fd = -1;
	engine->timer_fd = -1;
	engine->kick_fd = -1;
}

int engine_start(struct engine *engine)
{
	sigset_t all, before;
	int result;

	engine->process = process_serial();
	result = open_descriptors(engine);
	if (result == 0) {
		/* The library's threads take none of the application's signals. */
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		result = pthread_create(&engine->background, NULL, background, engine);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		if (result)
			result = error_set(-result, "%s: no background thread: %s%s", engine->path,
					   error_name(result), error_hint(result));
	}
	if (result < 0)
		close_descriptors(engine);
	else
		engine->background_runs = true;
	return result;
}

void engine_stop(struct engine *engine)
{
	uint64_t one = 1;

	if (engine->background_runs && engine->process == process_serial()) {
		lock_take(&engine->lock);
		engine->stopping = true;
		lock_give(&engine->lock);
		if (write(engine->kick_fd, &one, sizeof(one)) == sizeof(one))
			pthread_join(engine->background, NULL);
	}
	engine->background_runs = false;
	close_descriptors(engine);
}

static bool no_runs(const struct waiter *waiter)
{
	return !waiter->engine->runs;
}

int engine_drain(struct engine *engine, struct deadline *deadline)
{
	struct waiter waiter = { .ready = no_runs, .engine = engine };
	int result;

	lock_take(&engine->lock);
	engine->closing = true;
	for (struct dw_run *run = engine->runs; run; run = run->next)
		run_cancel_locked(run, -ECANCELED, "its Worker is being closed");
	result = wait_locked(engine, &waiter, deadline);
	if (result < 0)
		error_set(result, "%s: %u runs have not ended", engine->path, engine->run_count);
	engine_unlock_and_wake(engine);
	return result;
}

uint32_t engine_runs(struct engine *engine)
{
	uint32_t runs;

	lock_take(&engine->lock);
	runs = engine->run_count;
	lock_give(&engine->lock);
	return runs;
}

/* ------------------------------------------------------------------ workers */

void engine_locked(struct engine *engine, void (*call)(void *context), void *context)
{
	lock_take(&engine->lock);
	call(context);
	engine_unlock_and_wake(engine);
}

void engine_worker_up(struct engine *engine, uint32_t worker)
{
	struct worker_ring *ring = &engine->rings[worker];
	struct pool *pool = &engine->pools[ring->pool];

	lock_take(&engine->lock);
	if (ring->state != RING_UP) {
		if (ring->state == RING_DEAD)
			pool->usable++;
		if (ring->state == RING_RETURNING || ring->state == RING_DEAD)
			engine_count(engine, restarts);
		pool->up++;
		ring->state = RING_UP;
		ring->corrupt = false;
		pool->saturated = false;
		bit_set(pool->awake, worker);
		ring_update(engine, ring);
		engine->queued = true;
		/* Before any task. */
		ring_post_controls(engine, ring);
		if (ring->controls)
			bit_set(engine->wanting, worker);
	}
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

/* Tasks that only workers could run which will not come back. */
static void fail_queue(struct engine *engine, struct task_list *list)
{
	struct task *task;

	while ((task = list->first)) {
		queue_remove(list, task);
		/* task_ready() says why there is nobody for it. */
		task_ready(engine, task);
	}
}

void ring_fail_queued(struct engine *engine, struct worker_ring *ring)
{
	fail_queue(engine, &ring->directed);
	if (!engine->pools[ring->pool].usable)
		fail_queue(engine, &engine->pools[ring->pool].any);
}

void engine_worker_dead(struct engine *engine, uint32_t worker, bool returns, int error,
			const char *cause)
{
	struct worker_ring *ring = &engine->rings[worker];
	char *kept = strdup(cause);

	lock_take(&engine->lock);
	if (kept) {
		free(ring->cause);
		ring->cause = kept;
	}
	ring->error = error;
	engine_worker_lost_locked(engine, ring, returns, cause);
	if (ring->state == RING_DEAD)
		ring_fail_queued(engine, ring);
	ring->stopped = 0;
	finish_all(engine);
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

void engine_worker_gone(struct engine *engine, uint32_t worker)
{
	lock_take(&engine->lock);
	ring_release_parked(engine, &engine->rings[worker]);
	finish_all(engine);
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

void engine_worker_stopped(struct engine *engine, uint32_t worker, int signal)
{
	lock_take(&engine->lock);
	engine->rings[worker].stopped = signal;
	lock_give(&engine->lock);
}

static bool is_of_callable(const struct task *task, const void *callable)
{
	return task->callable == callable;
}

void engine_request_notify(struct engine *engine, const struct callable *callable)
{
	lock_take(&engine->lock);
	/* What is posted from now on is seen to be of a retired one. */
	request_notify_all(engine, is_of_callable, callable);
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

/* ----------------------------------------------------------------- control */

static bool control_answered(const struct waiter *waiter)
{
	return waiter->control->done;
}

static void control_queue(struct engine *engine, struct worker_ring *ring, struct control *control)
{
	control->next = NULL;
	if (ring->controls)
		ring->last_control->next = control;
	else
		ring->controls = control;
	ring->last_control = control;
	bit_set(engine->wanting, ring->index);
	engine->queued = true;
	ring_post_controls(engine, ring);
}

static int control_prepare(struct engine *engine, struct control *control)
{
	int result;

	if (control->bytes <= engine->payload)
		return 0;
	result = arena_alloc(engine->arena, control->bytes, &control->arena_blob);
	if (result == 0)
		memcpy(control->arena_blob, control->blob, control->bytes);
	return result;
}

static int control_refused(const struct worker_ring *ring)
{
	return error_set(ring->state == RING_STUCK ? -ETIMEDOUT : -EOWNERDEAD, "%s: %s", ring->path,
			 ring->cause ? ring->cause : "dead");
}

static void control_limit(struct control *control, const struct engine_control_limits *limits)
{
	if (!limits)
		return;
	control->what = limits->what;
	control->timeout_ns = limits->timeout_ns;
	control->run = limits->run;
}

/* With its own copy of the blob, so that it may stay on its way when nobody waits for it. */
static struct control *control_new(const struct worker_ring *ring, uint64_t code, const void *blob,
				   uint32_t bytes, const struct engine_control_limits *limits)
{
	struct control *control = malloc(sizeof(*control) + bytes);

	if (!control) {
		error_set(-ENOMEM, "%s: no memory for a control frame", ring->path);
		return NULL;
	}
	*control = (struct control){ .code = code, .blob = control + 1, .bytes = bytes };
	control_limit(control, limits);
	memcpy(control + 1, blob, bytes);
	return control;
}

static void control_free(struct engine *engine, struct control *control)
{
	if (control->arena_blob)
		arena_free(engine->arena, control->arena_blob);
	free(control);
}

int engine_control_until(struct engine *engine, uint32_t worker, uint64_t code, const void *blob,
			 uint32_t bytes, const struct engine_control_limits *limits,
			 uint64_t deadline_ns)
{
	struct worker_ring *ring = &engine->rings[worker];
	struct control *control = control_new(ring, code, blob, bytes, limits);
	struct waiter waiter = { .ready = control_answered, .engine = engine, .control = control };
	struct deadline deadline = deadline_at(deadline_ns);
	int result;

	if (!control)
		return -ENOMEM;
	result = control_prepare(engine, control);
	if (result < 0) {
		free(control);
		return result;
	}
	lock_take(&engine->lock);
	if (control->run && control->run->cancelled) {
		result = error_set(control->run->error, "%s", control->run->text);
	} else if (ring_is_lost(ring) || ring->state == RING_RETURNING) {
		result = control_refused(ring);
	} else {
		control_queue(engine, ring, control);
		result = wait_locked(engine, &waiter, &deadline);
		if (result < 0) {
			control->detached = true;
			control = NULL;
			error_set(result, "%s: still at the tasks before it", ring->path);
		} else {
			result = control->result;
			if (result)
				error_set(result, "%s", control->text);
		}
	}
	engine_unlock_and_wake(engine);
	if (control)
		control_free(engine, control);
	return result;
}

int engine_control(struct engine *engine, uint32_t worker, uint64_t code, const void *blob,
		   uint32_t bytes, const struct engine_control_limits *limits)
{
	return engine_control_until(engine, worker, code, blob, bytes, limits, NEVER);
}

int engine_control_send(struct engine *engine, uint32_t worker, uint64_t code, const void *blob,
			uint32_t bytes, const struct engine_control_limits *limits)
{
	struct worker_ring *ring = &engine->rings[worker];
	struct control *control = control_new(ring, code, blob, bytes, limits);
	int result;

	if (!control)
		return -ENOMEM;
	control->detached = true;
	result = control_prepare(engine, control);
	if (result < 0) {
		free(control);
		return result;
	}
	lock_take(&engine->lock);
	if (ring->state == RING_DEAD)
		result = control_refused(ring);
	else
		control_queue(engine, ring, control);
	engine_unlock_and_wake(engine);
	if (result < 0)
		control_free(engine, control);
	return result;
}

/* -------------------------------------------------------------- statistics */

void engine_stats(struct engine *engine, struct dw_engine_stats *stats)
{
	struct hub_counters counters = { 0 };

	lock_take(&engine->lock);
	*stats = engine->stats;
	stats->heap_used = heap_used(engine->heap);
	stats->heap_peak = heap_peak(engine->heap);
	if (engine->hub)
		hub_counters(engine->hub, &counters);
	lock_give(&engine->lock);
	stats->size = sizeof(*stats);
	stats->parent_sleeps = counters.sleeps;
	stats->parent_wakes = counters.wakes;
	stats->provider = engine->hub ? hub_provider(engine->hub) : DW_PROVIDER_AUTO;
}
