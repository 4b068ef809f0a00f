/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See run_progress.h.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include "engine/progress.h"
#include "engine/run.h"
#include "engine/run_progress.h"
#include "engine/state.h"

/* Between the end of one call and the next one. */
#define PAUSE_NS 20000000

struct progress_report {
	void (*call)(uint64_t submitted, uint64_t finished, void *context);
	void *context;
	pthread_t thread;
	bool started;
	/* Guarded by the engine's lock. */
	bool stop;
	bool quiet;			/* no last call */
	uint64_t submitted, finished;	/* as in the last call */
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

struct progress_report *progress_new(struct dw_run *run, const struct dw_run_options *options)
{
	struct progress_report *progress = calloc(1, sizeof(*progress));

	if (!progress)
		return NULL;
	progress->call = options->progress;
	progress->context = options->progress_context;
	progress->waiter = (struct waiter){ .engine = run->engine, .run = run, .idle = true };
	return progress;
}

void progress_free(struct progress_report *progress)
{
	free(progress);
}

static bool stopped(const struct waiter *waiter)
{
	return waiter->run->report->stop;
}

static bool changed(const struct waiter *waiter)
{
	const struct dw_run *run = waiter->run;
	const struct progress_report *progress = run->report;

	return progress->stop || run->graph.submitted != progress->submitted ||
	       run->graph.finished != progress->finished;
}

/* Returns, with the lock, when there is something to report or the run is over. */
static void wait_for_change(struct engine *engine, struct dw_run *run)
{
	struct progress_report *progress = run->report;

	waiter_set(&progress->waiter, changed);
	while (!changed(&progress->waiter)) {
		request_notify_run(&engine->rings, &run->graph, false);
		/* Completions that are pending already raise no event. */
		if (engine->rings.any_pending)
			engine_work(engine);
		else
			wait_idle_locked(engine, &progress->waiter, NEVER);
	}
}

/*
 * The pause between calls: the next one reports all changes in the meantime. Armed only when there
 * is something to report.
 */
static void wait_for_pause(struct engine *engine, struct dw_run *run, uint64_t until)
{
	struct progress_report *progress = run->report;

	waiter_set(&progress->waiter, stopped);
	while (!progress->stop && now_ns() < until)
		wait_idle_locked(engine, &progress->waiter, until);
}

static void *progress_thread(void *argument)
{
	struct dw_run *run = argument;
	struct progress_report *progress = run->report;
	struct engine *engine = run->engine;
	struct nesting nesting;
	uint64_t until = 0;

	nesting_push(&nesting, engine, run);
	lock_take(&engine->lock);
	for (;;) {
		bool stop;

		wait_for_change(engine, run);
		wait_for_pause(engine, run, until);
		engine_work(engine);
		stop = progress->stop;
		if (stop && progress->quiet)
			break;
		progress->submitted = run->graph.submitted;
		progress->finished = run->graph.finished;
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
	struct progress_report *progress = run->report;
	int result = run_start_thread(&progress->thread, progress_thread, run);

	if (result)
		return error_set(-result, "no thread for a run's progress: %s%s",
				 error_name(result), error_hint(result));
	progress->started = true;
	return 0;
}

static void stop(struct dw_run *run, bool quiet)
{
	struct engine *engine = run->engine;

	if (!run->report->started)
		return;
	lock_take(&engine->lock);
	run->report->stop = true;
	run->report->quiet = quiet;
	waiters_settle(engine);
	engine_unlock_and_wake(engine);
	pthread_join(run->report->thread, NULL);
}

void progress_end(struct dw_run *run)
{
	stop(run, false);
}

void progress_abandon(struct dw_run *run)
{
	stop(run, true);
}
