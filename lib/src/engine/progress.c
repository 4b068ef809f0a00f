/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See progress.h.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include "engine/progress.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"
#include "engine/wait.h"

/* Between the end of one call and the next one. */
#define PAUSE_NS 20000000

struct progress {
	void (*call)(uint64_t submitted, uint64_t finished, void *context);
	void *context;
	pthread_t thread;
	bool started;
	/* Guarded by the engine's lock. */
	bool stop;
	bool quiet;			/* no last call */
	uint64_t submitted, finished;	/* what the application knows */
	struct waiter waiter;
};

int run_start_thread(pthread_t *thread, void *(*body)(void *), void *argument)
{
	sigset_t all, before;
	int result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	result = pthread_create(thread, NULL, body, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return result;
}

struct progress *progress_new(struct dw_run *run, const struct dw_run_options *options)
{
	struct progress *progress = calloc(1, sizeof(*progress));

	if (!progress)
		return NULL;
	progress->call = options->progress;
	progress->context = options->progress_context;
	progress->waiter = (struct waiter){ .engine = run->engine, .run = run, .idle = true };
	return progress;
}

void progress_free(struct progress *progress)
{
	free(progress);
}

static bool stopped(const struct waiter *waiter)
{
	return waiter->run->progress->stop;
}

static bool changed(const struct waiter *waiter)
{
	const struct dw_run *run = waiter->run;
	const struct progress *progress = run->progress;

	return progress->stop || run->submitted != progress->submitted ||
	       run->finished != progress->finished;
}

/* In each ring the first task of the run: its completion shall be heard of. */
static void request_next(struct engine *engine, const struct dw_run *run)
{
	for (uint32_t i = 0; i < engine->worker_count; i++) {
		struct worker_ring *ring = &engine->rings[i];

		for (uint32_t number = ring->head; number != ring->tail; number++) {
			const struct task *task = ring_entry(engine, ring, number)->task;

			if (task && task->run == run) {
				ring_request_notify(engine, ring, number);
				break;
			}
		}
	}
}

/* Returns with the lock, when there is something to tell, or all is over. */
static void wait_for_change(struct engine *engine, struct dw_run *run)
{
	struct progress *progress = run->progress;

	progress->waiter.ready = changed;
	while (!changed(&progress->waiter)) {
		request_next(engine, run);
		/* Completions that are pending already raise no event. */
		if (engine->any_pending)
			engine_work(engine);
		else
			wait_idle_locked(engine, &progress->waiter, NEVER);
	}
}

/*
 * The application's rest: what changes meanwhile is told in one call. Armed only when there is
 * something to tell.
 */
static void wait_for_pause(struct engine *engine, struct dw_run *run, uint64_t until)
{
	struct progress *progress = run->progress;

	progress->waiter.ready = stopped;
	while (!progress->stop && now_ns() < until)
		wait_idle_locked(engine, &progress->waiter, until);
}

static void *progress_thread(void *argument)
{
	struct dw_run *run = argument;
	struct progress *progress = run->progress;
	struct engine *engine = run->engine;
	struct nesting nesting;
	uint64_t until = 0;

	nesting_push(&nesting, run);
	lock_take(&engine->lock);
	for (;;) {
		bool stop;

		wait_for_change(engine, run);
		wait_for_pause(engine, run, until);
		engine_work(engine);
		stop = progress->stop;
		if (stop && progress->quiet)
			break;
		progress->submitted = run->submitted;
		progress->finished = run->finished;
		engine_unlock_and_wake(engine);
		progress->call(progress->submitted, progress->finished, progress->context);
		until = now_ns() + PAUSE_NS;
		lock_take(&engine->lock);
		if (stop)
			break;
	}
	engine_unlock_and_wake(engine);
	nesting_pop(&nesting);
	return NULL;
}

int progress_begin(struct dw_run *run)
{
	struct progress *progress = run->progress;
	int result = run_start_thread(&progress->thread, progress_thread, run);

	if (result)
		return error_set(-result, "no thread for a run's progress: %s%s", error_name(result),
				 error_hint(result));
	progress->started = true;
	return 0;
}

static void stop(struct dw_run *run, bool quiet)
{
	struct engine *engine = run->engine;

	if (!run->progress->started)
		return;
	lock_take(&engine->lock);
	run->progress->stop = true;
	run->progress->quiet = quiet;
	waiters_settle(engine);
	engine_unlock_and_wake(engine);
	pthread_join(run->progress->thread, NULL);
}

void progress_end(struct dw_run *run)
{
	stop(run, false);
}

void progress_abandon(struct dw_run *run)
{
	stop(run, true);
}
