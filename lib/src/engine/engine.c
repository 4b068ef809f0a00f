/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * engine: puts the modules together: create, start, stop, destroy, statistics. See engine.h.
 */
#include <errno.h>
#include <stdlib.h>
#include "engine/process.h"
#include "engine/progress.h"
#include "engine/record.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/stuck.h"

/* `run` NULL: it has ended. */
static void forget_block(struct run_graph *run, uint64_t begin, uint64_t end, void *context)
{
	struct engine *engine = context;

	if (!run)
		return;
	if (run->map)
		tensor_map_forget(run->map, begin, end);
	PROBE(&engine->graph, forget, run_of(run), begin, end);
}

static int create_parts(struct engine *engine, const struct engine_options *options)
{
	struct engine_status *shown;
	int result;

	counters_init(&engine->counters, options->status, options->worker_count ?
		      hub_provider(options->hub) : DW_PROVIDER_AUTO);
	engine->path = strdup(options->path);
	if (!engine->path)
		return -ENOMEM;
	result = rings_init(&engine->rings, options, &engine->timer);
	if (result == 0)
		result = schedule_init(&engine->schedule, options, &engine->rings, &engine->graph);
	if (result == 0)
		result = heap_create(engine->arena, &engine->heap);
	if (result < 0)
		return result;
	shown = engine->counters.shown;
	heap_show(engine->heap, &shown->stats.heap_used, &shown->stats.heap_peak);
	heap_on_release(engine->heap, forget_block, engine);
	return graph_init(&engine->graph, options, engine->path, &engine->rings, engine->heap,
			  &engine->counters);
}

int engine_create(const struct engine_options *options, struct engine **engine)
{
	struct engine *made = aligned_alloc(LINE_BYTES, sizeof(*made));
	int result;

	process_watch_forks();
	if (!made)
		return error_set(-ENOMEM, "%s: no memory for its engine", options->path);
	*made = (struct engine){
		.timer = TIMER_INIT,
		.background = BACKGROUND_INIT(options->extra_fd),
		.arena = options->arena,
		.outer_arena = options->outer_arena,
		.heap_timeout_ns = options->heap_timeout_ns ? options->heap_timeout_ns :
				   10000000000ULL,
		.init_timeout_ns = options->init_timeout_ns,
		.process = process_serial(),
	};
	result = create_parts(made, options);
	if (result < 0) {
		engine_destroy(made);
		return result == -ENOMEM ? error_set(result, "%s: no memory for its engine",
						     options->path) : result;
	}
	*engine = made;
	return 0;
}

void engine_destroy(struct engine *engine)
{
	if (!engine)
		return;
	engine_stop(engine);
	/* A thread that could not be woken still uses it. */
	if (engine->background.runs)
		return;
	for (uint32_t i = 0; engine->rings.all && i < engine->rings.count; i++)
		stuck_ended(&engine->graph, &engine->rings.all[i]);
	graphs_release(engine);
	if (engine->heap)
		heap_destroy(engine->heap);
	graph_release(&engine->graph);
	chip_memory_release(&engine->chip_memory);
	schedule_release(&engine->schedule);
	rings_release(&engine->rings);
	free(engine->path);
	free(engine);
}

int engine_start(struct engine *engine)
{
	engine->process = process_serial();
	return background_start(engine);
}

void engine_stop(struct engine *engine)
{
	background_stop(engine, engine->process == process_serial());
}

void engine_locked(struct engine *engine, void (*call)(void *context), void *context)
{
	lock_take(&engine->lock);
	call(context);
	engine_unlock_and_wake(engine);
}

static bool is_of_callable(const struct task *task, const void *callable)
{
	return task->callable == callable;
}

void engine_request_notify(struct engine *engine, const struct callable *callable)
{
	lock_take(&engine->lock);
	/* Frames posted later are requested by the scheduler, which sees `retired`. */
	request_notify_all(&engine->rings, is_of_callable, callable);
	engine_work(engine);
	engine_unlock_and_wake(engine);
}

struct engine *orch_engine(struct dw_orch *orch)
{
	return orch->run->engine;
}

void *engine_context(const struct engine *engine)
{
	return engine->rings.ops_context;
}

void engine_stats(struct engine *engine, struct dw_engine_stats *stats)
{
	struct hub_counters counters = { 0 };

	lock_take(&engine->lock);
	*stats = engine->counters.stats;
	stats->heap_used = heap_used(engine->heap);
	stats->heap_peak = heap_peak(engine->heap);
	if (engine->rings.hub)
		hub_counters(engine->rings.hub, &counters);
	lock_give(&engine->lock);
	stats->size = sizeof(*stats);
	stats->parent_sleeps = counters.sleeps;
	stats->parent_wakes = counters.wakes;
	stats->provider = engine->rings.hub ? hub_provider(engine->rings.hub) : DW_PROVIDER_AUTO;
}
