/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * replay: the calls of recorded graphs. Everything is checked first; then the tasks are posted in
 * pieces, each in one stretch with the lock. One thread per Orchestrator.
 *
 * Owns: nothing that outlives a call.
 */
#include <errno.h>
#include <stdlib.h>
#include "base/text.h"
#include "engine/chip_memory.h"
#include "engine/group.h"
#include "engine/process.h"
#include "engine/progress.h"
#include "engine/record.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/stuck.h"
#include "engine/submit.h"
#include "task/name.h"
#include "task/options.h"

/* Tasks that are posted in one stretch with the lock: some microseconds. */
#define PIECE 32

/* ------------------------------------------------------------------ overlaps */

/* A parameter of the caller's. */
struct place {
	struct range range;
	uint32_t index;
	bool written;
};

static int compare_places(const void *a, const void *b)
{
	const struct place *left = a, *right = b;

	return (left->range.begin > right->range.begin) - (left->range.begin < right->range.begin);
}

static int check_tensor(struct engine *engine, const struct dw_tensor *tensor, size_t index,
			bool on_chip, uint64_t *bytes)
{
	uint32_t worker;
	int result = tensor_check(tensor, index, bytes);

	if (result < 0)
		return error_prefix(result, "the parameters' ");
	if (tensor->data && !on_chip && arena_contains(engine->arena, tensor->data, *bytes))
		return 0;
	if (tensor->data && on_chip && chip_memory_worker(engine, tensor->data, *bytes, &worker))
		return 0;
	return error_set(-EFAULT, "parameter %zu, %#llx + %llu bytes, does not lie in %s: use %s",
			 index, (unsigned long long)tensor->data, (unsigned long long)*bytes,
			 on_chip ? "device memory" : "the arena",
			 on_chip ? "dw_chip_memory_create or dw_chip_alloc" :
				   "dw_buffer_create, dw_buffer_register or dw_alloc");
}

/* Two of them share bytes, and one of the two is written. `places` become sorted. */
static int check_apart(struct place *places, uint32_t count, const char *graph)
{
	const struct place *last = NULL, *written = NULL, *other;

	qsort(places, count, sizeof(*places), compare_places);
	for (uint32_t i = 0; i < count; i++) {
		const struct place *at = &places[i];

		other = at->written ? last : written;
		if (other && other->range.end > at->range.begin)
			return error_set(-EINVAL,
					 "parameters %u and %u of \"%s\" share bytes from %#llx "
					 "on; they should lie apart, as in the recording",
					 other->index < at->index ? other->index : at->index,
					 other->index < at->index ? at->index : other->index,
					 text_short(graph), (unsigned long long)at->range.begin);
		if (!last || at->range.end > last->range.end)
			last = at;
		if (at->written && (!written || at->range.end > written->range.end))
			written = at;
	}
	return 0;
}

/* The first place of the graph that ends behind the address. */
static uint32_t place_from(const struct dw_graph *graph, uint64_t address)
{
	uint32_t low = 0, high = graph->places.count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (graph->places.all[middle].range.end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A parameter has come to lie on memory that the graph uses in another way. */
static int check_places(const struct dw_graph *graph, const struct place *parameter)
{
	for (uint32_t i = place_from(graph, parameter->range.begin); i < graph->places.count; i++) {
		const struct graph_place *place = &graph->places.all[i];

		if (place->range.begin >= parameter->range.end)
			break;
		if (place->written || parameter->written)
			return error_set(
				-EINVAL,
				"parameter %u, %#llx + %llu bytes, shares bytes with "
				"memory that \"%s\" uses at %#llx; in the recording it "
				"lay apart from that",
				parameter->index, (unsigned long long)parameter->range.begin,
				(unsigned long long)(parameter->range.end - parameter->range.begin),
				text_short(graph->name), (unsigned long long)place->range.begin);
	}
	return 0;
}

/* --------------------------------------------------------------- recordings */

static int check_parameters(struct dw_orch *orch, const struct dw_record_options *options)
{
	struct engine *engine = orch->run->engine;
	size_t count = options->parameter_count;
	struct place *places;
	int result = 0;

	if (!count)
		return 0;
	if (!options->parameters)
		return error_set(-EINVAL, "options.parameters is NULL, parameter_count is %zu",
				 count);
	places = count < UINT32_MAX / 2 ? malloc(count * sizeof(*places)) : NULL;
	if (!places)
		return error_set(-ENOMEM, "no memory for %zu parameters", count);
	for (size_t i = 0; i < count && result == 0; i++) {
		const struct dw_tensor *tensor = &options->parameters[i];
		uint64_t bytes;
		uint32_t worker;
		bool on_chip = dw_tensor_bytes(tensor, &bytes) == 0 &&
			       chip_memory_worker(engine, tensor->data, bytes, &worker);

		result = check_tensor(engine, tensor, i, on_chip, &bytes);
		if (result == 0 && !bytes)
			result = error_set(-EINVAL, "parameter %zu has 0 bytes", i);
		places[i] = (struct place){
			{ tensor->data, tensor->data + bytes },
			(uint32_t)i,
			true,
		};
	}
	if (result == 0)
		result = check_apart(places, (uint32_t)count,
				     options->name ? options->name : "the recording");
	free(places);
	return result;
}

DW_API int dw_record_begin(struct dw_orch *orch, const struct dw_record_options *given)
{
	struct dw_record_options options = DW_OPTIONS(dw_record_options);
	struct recorder *recorder;
	struct engine *engine;
	int result = orch_usable(orch);

	if (result == 0)
		result = orch_not_recording(orch, "dw_record_begin()",
					    "recordings do not nest; end it first (dw_record_end)");
	if (result == 0 && given)
		result = options_read(&options, sizeof(options), given, "dw_record_options");
	if (result == 0 && options.name)
		result = name_check("the name of a recording,", options.name, NAME_TASK_MOST);
	if (result == 0)
		result = check_parameters(orch, &options);
	if (result < 0)
		return result;
	engine = orch->run->engine;
	lock_take(&engine->lock);
	result = recorder_begin(engine, &orch->run->graph, options.name, options.parameters,
				options.parameter_count, orch->scope, &recorder);
	if (result == 0) {
		orch_set_recorder(orch, recorder);
		run_begin_part(&orch->run->graph, recorder_name(recorder), 0);
	}
	lock_give(&engine->lock);
	return result;
}

static int check_recording(const struct dw_orch *orch, const char *call)
{
	int result = orch_usable(orch);

	if (result == 0 && !orch->recorder)
		result = error_set(-EINVAL, "%s: no recording is open; dw_record_begin begins one",
				   call);
	return result;
}

DW_API int dw_record_scalar(struct dw_orch *orch, size_t member, size_t scalar, size_t parameter)
{
	struct engine *engine;
	int result = check_recording(orch, "dw_record_scalar");

	if (result < 0)
		return result;
	engine = orch->run->engine;
	lock_take(&engine->lock);
	result = recorder_scalar(orch->recorder, member, scalar, parameter);
	lock_give(&engine->lock);
	return result;
}

DW_API int dw_record_end(struct dw_orch *orch, struct dw_graph **graph)
{
	struct engine *engine;
	int result = check_recording(orch, "dw_record_end");

	if (result == 0 && !graph)
		result = error_set(-EINVAL, "dw_record_end: `graph` is NULL");
	if (result == 0 && orch->scope != recorder_scope(orch->recorder))
		result = error_set(-EINVAL,
				   "dw_record_end: a scope that was opened inside recording \"%s\" "
				   "is open; end it first (dw_scope_end)",
				   text_short(recorder_name(orch->recorder)));
	if (result < 0)
		return result;
	engine = orch->run->engine;
	lock_take(&engine->lock);
	run_end_part(&orch->run->graph);
	result = recorder_end(orch->recorder, graph);
	orch_set_recorder(orch, NULL);
	lock_give(&engine->lock);
	return result;
}

/* ------------------------------------------------------------------- checks */

struct replay {
	struct dw_orch *orch;
	struct dw_graph *graph;
	const struct dw_tensor *parameters;
	const uint64_t *scalars;
	struct place *places; /* of the parameters, sorted */
	uint64_t before; /* number of the last task from before */
	uint32_t next, edge, border; /* in the graph's arrays */
};

static int check_counts(const struct dw_graph *graph, const struct dw_tensor *parameters,
			size_t parameter_count, const uint64_t *scalars, size_t scalar_count)
{
	const char *name = text_short(graph->name);

	if (parameter_count != graph->parameters.count)
		return error_set(-EINVAL, "dw_replay: %zu parameters; \"%s\" has %u",
				 parameter_count, name, graph->parameters.count);
	if (scalar_count != graph->scalars)
		return error_set(-EINVAL, "dw_replay: %zu scalars; \"%s\" has %u", scalar_count,
				 name, graph->scalars);
	if ((parameter_count && !parameters) || (scalar_count && !scalars))
		return error_set(-EINVAL, "dw_replay: `%s` is NULL",
				 parameter_count && !parameters ? "parameters" : "scalars");
	return 0;
}

static int check_replay(const struct dw_orch *orch, const struct dw_graph *graph)
{
	int result = orch_usable(orch);

	if (result == 0)
		result = orch_not_recording(orch, "dw_replay()",
					    "replays are not recorded; end it first "
					    "(dw_record_end)");
	if (result == 0 && !graph)
		result = error_set(-EINVAL, "dw_replay: `graph` is NULL");
	if (result == 0 && graph->process != process_serial())
		result = error_set(-EBADFD,
				   "dw_replay: this graph belongs to another process: it was made "
				   "before a fork");
	if (result == 0 && graph->anchor != orch->run->engine->records.anchor)
		result = error_set(-EINVAL,
				   "dw_replay: \"%s\" was recorded on another Worker than %s",
				   text_short(graph->name), orch->run->engine->path);
	return result;
}

/* Sizes, places and overlaps. */
static int check_parameters_again(struct replay *replay)
{
	const struct dw_graph *graph = replay->graph;
	struct engine *engine = replay->orch->run->engine;
	uint32_t count = graph->parameters.count;
	int result = 0;

	for (uint32_t i = 0; i < count && result == 0; i++) {
		const struct graph_parameter *parameter = &graph->parameters.all[i];
		const struct dw_tensor *tensor = &replay->parameters[i];
		uint64_t wanted = parameter->range.end - parameter->range.begin, bytes;

		result = check_tensor(engine, tensor, i, parameter->on_chip, &bytes);
		if (result == 0 && bytes != wanted)
			result = error_set(-EINVAL,
					   "parameter %u of \"%s\" has %llu bytes; in the "
					   "recording it had %llu",
					   i, text_short(graph->name), (unsigned long long)bytes,
					   (unsigned long long)wanted);
		replay->places[i] = (struct place){
			{ tensor->data, tensor->data + wanted },
			i,
			parameter->written,
		};
	}
	if (result == 0)
		result = check_apart(replay->places, count, graph->name);
	for (uint32_t i = 0; i < count && result == 0; i++)
		result = check_places(graph, &replay->places[i]);
	return result;
}

static uint64_t moved(const struct replay *replay, uint32_t source)
{
	return source ? replay->parameters[source - 1].data -
				replay->graph->parameters.all[source - 1].range.begin :
			0;
}

static int check_chip_tensors(const struct replay *replay)
{
	struct dw_run *run = replay->orch->run;
	int result = 0;

	for (uint32_t i = 0; i < replay->graph->chip_tensors.count && result == 0; i++) {
		const struct graph_chip_tensor *tensor = &replay->graph->chip_tensors.all[i];

		result = chip_memory_check(run->engine, &run->graph,
					   tensor->range.begin + moved(replay, tensor->source),
					   tensor->range.end - tensor->range.begin, tensor->worker,
					   tensor->tensor);
		if (result < 0)
			error_prefix(result, "recorded graph \"%s\": a task's ",
				     text_short(replay->graph->name));
	}
	return result;
}

static int check_declared(const struct replay *replay, const struct range *range)
{
	if (orch_is_declared(replay->orch->run, range->begin, range->end - range->begin))
		return 0;
	return error_set(-EACCES,
			 "recorded graph \"%s\" uses %#llx + %llu bytes, which is not within what "
			 "the task that runs this orchestration declared",
			 text_short(replay->graph->name), (unsigned long long)range->begin,
			 (unsigned long long)(range->end - range->begin));
}

static int check_all_declared(const struct replay *replay)
{
	const struct dw_graph *graph = replay->graph;
	int result = 0;

	for (uint32_t i = 0; i < graph->places.count && result == 0; i++)
		result = check_declared(replay, &graph->places.all[i].range);
	for (uint32_t i = 0; i < graph->parameters.count && result == 0; i++)
		result = check_declared(replay, &replay->places[i].range);
	return result;
}

static int check_target(struct engine *engine, const struct dw_graph *graph,
			const struct graph_target *target)
{
	const struct pool *pool = &engine->schedule.pools[target->pool];
	int result = orch_check_alive_locked(engine, pool, target->worker);

	if (result == 0 && target->members > 1 && target->members > pool->usable)
		result = error_set(-ENODEV,
				   "a group of %u members, but %s has %u live workers of its kind",
				   target->members, engine->path, pool->usable);
	return result < 0 ?
		       error_prefix(result, "recorded graph \"%s\": ", text_short(graph->name)) :
		       0;
}

/* A thread that does not return may write to it. */
static int check_stuck(const struct replay *replay)
{
	const struct ring_set *rings = &replay->orch->run->engine->rings;
	const struct dw_graph *graph = replay->graph;
	int result = 0;

	for (uint32_t i = 0; i < graph->places.count && result == 0; i++)
		result = stuck_check(rings, &graph->places.all[i].range, 1);
	for (uint32_t i = 0; i < graph->parameters.count && result == 0; i++)
		result = stuck_check(rings, &replay->places[i].range, 1);
	return result;
}

static int check_kept(const struct replay *replay)
{
	const struct names *names = &replay->orch->run->engine->graph.names;
	const struct dw_graph *graph = replay->graph;

	for (uint32_t i = 0; i < graph->parameters.count; i++) {
		const struct place *place = &replay->places[i];

		if (graph->parameters.all[place->index].unordered &&
		    kept_find(&names->kept, &place->range))
			return error_set(-EINVAL,
					 "parameter %u, which a task of \"%s\" has as NO_DEP, lies "
					 "in a buffer that is kept (DW_BUFFER_KEPT)",
					 place->index, text_short(graph->name));
	}
	return 0;
}

static int check_locked(const struct replay *replay)
{
	struct dw_run *run = replay->orch->run;
	const struct dw_graph *graph = replay->graph;
	struct engine *engine = run->engine;
	int result = 0;

	if (graph_is_busy(graph, &run->graph))
		return error_set(-EBUSY,
				 "recorded graph \"%s\": tasks of it that another run has "
				 "submitted have not ended; wait for that run, or record one for "
				 "each",
				 text_short(graph->name));
	for (uint32_t i = 0; i < graph->targets.count && result == 0; i++)
		result = check_target(engine, graph, &graph->targets.all[i]);
	if (UNLIKELY(result == 0 && engine->rings.kept_count))
		result = check_stuck(replay);
	if (UNLIKELY(result == 0 && engine->graph.names.checks))
		result = check_kept(replay);
	return result;
}

/* ---------------------------------------------------------------- callables */

static void put_callables(const struct dw_graph *graph, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		callable_put_times(graph->callables.all[i].callable, graph->callables.all[i].uses);
}

/* One use for each task that is to come. */
static int hold_callables(const struct dw_graph *graph)
{
	for (uint32_t i = 0; i < graph->callables.count; i++) {
		const struct graph_callable *entry = &graph->callables.all[i];
		struct callable *callable;
		int result = 0;

		/* The library's own have no handle in the table. */
		if (entry->callable->control)
			atomic_fetch_add_explicit(&entry->callable->uses, entry->uses,
						  memory_order_relaxed);
		else
			result = callable_hold_times(entry->handle, entry->uses, &callable);
		if (result < 0) {
			put_callables(graph, i);
			return error_prefix(result,
					    "recorded graph \"%s\": ", text_short(graph->name));
		}
	}
	return 0;
}

/* --------------------------------------------------------------------- tasks */

static void view_payload(const struct payload *payload, struct dw_args *view)
{
	unsigned char *copy = payload->copy;

	memset(view, 0, offsetof(struct dw_args, inline_tensors));
	memcpy(&view->tensor_count, copy, sizeof(view->tensor_count));
	memcpy(&view->scalar_count, copy + sizeof(uint32_t), sizeof(view->scalar_count));
	view->tensors = (struct dw_tensor *)(copy + WIRE_HEADER_BYTES);
	view->tags = (uint8_t *)copy + payload->bytes;
}

static int find_ranges(const struct dw_args *args, struct range *ranges)
{
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		uint64_t bytes = 0;

		dw_tensor_bytes(&args->tensors[i], &bytes);
		ranges[i] = (struct range){ args->tensors[i].data, args->tensors[i].data + bytes };
	}
	return 0;
}

/*
 * Workers with memory of their own: names follow from every access in its turn, so the edges are
 * found anew, as at a submit. `reading`: of members of a group.
 */
static void infer(struct edge_builder *builder, struct dw_orch *orch, const struct payload *payload,
		  bool member, bool reading)
{
	struct range *ranges;
	struct dw_args args;

	view_payload(payload, &args);
	if (orch_ranges(orch, args.tensor_count, &ranges) < 0) {
		edges_no_memory(builder);
		return;
	}
	find_ranges(&args, ranges);
	if (!member) {
		submit_named_edges(builder, &args, ranges, NULL);
	} else if (reading) {
		edges_reads(builder, &args, ranges);
	} else {
		edges_writes(builder, &args, ranges, UINT32_MAX);
		edges_lose_names(builder, &args, ranges);
	}
}

static __attribute__((noinline)) void infer_edges(struct edge_builder *builder,
						  const struct replay *replay,
						  const struct recorded_task *recorded)
{
	const struct dw_graph *graph = replay->graph;
	struct task *task = builder->consumer;

	if (!recorded->members)
		infer(builder, replay->orch, &task->payload, false, false);
	for (uint32_t pass = 0; recorded->members && pass < 2; pass++)
		for (uint32_t i = 0; i < recorded->members; i++)
			infer(builder, replay->orch, &task->group->members[i].payload, true, !pass);
	for (uint32_t i = replay->edge; i < recorded->edges_end; i++) {
		const struct recorded_edge edge = { graph->edges.all[i].producer, EDGE_EXPLICIT };

		if (graph->edges.all[i].reasons & EDGE_EXPLICIT)
			edges_again(builder, &edge, 1, graph->refs);
	}
}

/* A subscriber learns of explicit edges as it does at a submit. */
static __attribute__((noinline)) void
show_after(const struct replay *replay, const struct recorded_task *recorded, struct task *task)
{
	const struct dw_graph *graph = replay->graph;
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	dw_task *ids = calloc(recorded->edges_end - replay->edge + 1, sizeof(*ids));

	for (uint32_t i = replay->edge; ids && i < recorded->edges_end; i++) {
		const struct task_ref *ref = &graph->refs[graph->edges.all[i].producer];

		if (graph->edges.all[i].reasons & EDGE_EXPLICIT)
			ids[options.after_count++] =
				(uint64_t)ref->generation << 32 | (ref->task->index + 1);
	}
	options.after = ids;
	PROBE(&replay->orch->run->engine->graph, after, task, &options);
	free(ids);
}

static int add_members(struct engine *engine, const struct dw_graph *graph,
		       const struct recorded_task *recorded, struct task *task)
{
	const struct recorded_member *members = &graph->members.all[recorded->first_member];
	uint32_t *workers = malloc(recorded->members * sizeof(*workers));
	struct group *group = NULL;
	int result = 0;

	for (uint32_t i = 0; workers && i < recorded->members; i++)
		workers[i] = members[i].worker;
	if (workers)
		group = group_new(recorded->members, workers, engine->schedule.sub_count);
	free(workers);
	if (!group)
		return error_set(-ENOMEM, "no memory for a group of %u members", recorded->members);
	for (uint32_t i = 0; i < recorded->members && result == 0; i++)
		result = group_again_payload(&engine->graph.tasks, group, &members[i].payload,
					     graph->values);
	if (result < 0) {
		group_free(&engine->graph.tasks, group);
		return result;
	}
	task_place_name(task, &group->members[0].payload, recorded->template.name_at);
	task_set_group(task, group);
	return 0;
}

static inline int post_next(struct replay *replay, uint32_t place)
{
	struct dw_graph *graph = replay->graph;
	const struct recorded_task *recorded = &graph->tasks.all[place];
	struct dw_orch *orch = replay->orch;
	struct engine *engine = orch->run->engine;
	struct edge_builder builder;
	struct task *task;

	task = graph_task_again(&engine->graph, &orch->run->graph, orch->scope, &recorded->template,
				graph->values);
	if (UNLIKELY(!task))
		return -ENOMEM;
	if (UNLIKELY(recorded->members) && add_members(engine, graph, recorded, task) < 0) {
		task_free(&engine->graph.tasks, task);
		return -ENOMEM;
	}
	graph_enter(&engine->graph, task);
	graph_set_ref(graph, place, task);
	edges_begin(&builder, &engine->graph, task);
	if (UNLIKELY(engine->graph.probe.ops != NULL))
		show_after(replay, recorded, task);
	if (UNLIKELY(engine->graph.names.on)) {
		infer_edges(&builder, replay, recorded);
	} else {
		if (recorded->edges_end != replay->edge)
			edges_again(&builder, &graph->edges.all[replay->edge],
				    recorded->edges_end - replay->edge, graph->refs);
		if (recorded->borders_end != replay->border)
			edges_borders(&builder, &graph->borders.all[replay->border],
				      recorded->borders_end - replay->border, graph->values,
				      replay->before);
	}
	replay->edge = recorded->edges_end;
	replay->border = recorded->borders_end;
	submit_enter(engine, &builder);
	/* One that is skipped at once: those behind it learn of it from its bytes, and its id. */
	if (UNLIKELY(engine->graph.finished != NULL))
		schedule_settle(&engine->schedule);
	return 0;
}

/* As many as the window takes, or PIECE. */
static int post_some(struct replay *replay)
{
	struct dw_run *run = replay->orch->run;
	struct engine *engine = run->engine;
	uint64_t most = WINDOW_TASKS - (run->graph.submitted - run->graph.finished);
	uint32_t count = replay->graph->tasks.count - replay->next, posted = 0;
	int result = 0;

	if (count > PIECE)
		count = PIECE;
	if (count > most)
		count = (uint32_t)most;
	progress_submits(&engine->progress);
	while (posted < count && result == 0) {
		result = post_next(replay, replay->next + posted);
		posted += result == 0;
	}
	replay->next += posted;
	progress_submitted(&engine->progress, count);
	if (UNLIKELY(result < 0))
		run_cancel_locked(run, result, "no memory for a task of a recorded graph");
	engine_work_some(engine);
	return result;
}

static int post_all(struct replay *replay)
{
	struct dw_orch *orch = replay->orch;
	const struct dw_graph *graph = replay->graph;
	struct engine *engine = orch->run->engine;
	int result = orch_wait_for_window_locked(orch);

	replay->before = orch->run->graph.submitted;
	while (result == 0 && replay->next < graph->tasks.count) {
		result = post_some(replay);
		if (replay->next == graph->tasks.count)
			break;
		engine_unlock_and_wake(engine);
		lock_take(&engine->lock);
		if (result == 0)
			result = orch_wait_for_window_again_locked(orch);
	}
	for (uint32_t i = replay->next; i < graph->tasks.count; i++)
		callable_put(graph->tasks.all[i].template.callable);
	return result;
}

static int replay_graph(struct replay *replay)
{
	struct dw_orch *orch = replay->orch;
	struct dw_graph *graph = replay->graph;
	struct engine *engine = orch->run->engine;
	int result = hold_callables(graph);

	if (result < 0)
		return result;
	lock_take(&engine->lock);
	result = check_locked(replay);
	if (result < 0) {
		put_callables(graph, graph->callables.count);
	} else {
		graph_take(engine, graph, &orch->run->graph);
		graph_set_replaying(graph, true);
		for (uint32_t i = 0; i < graph->parameters.count; i++)
			graph_set_value(graph, graph_source_of_parameter(i),
					moved(replay, graph_source_of_parameter(i)));
		for (uint32_t i = 0; i < graph->scalars; i++)
			graph_set_value(graph, graph_source_of_scalar(graph, i),
					replay->scalars[i]);
		run_begin_part(&orch->run->graph, graph->name, graph->replays);
		result = post_all(replay);
		run_end_part(&orch->run->graph);
		graph_set_replaying(graph, false);
	}
	engine_unlock_and_wake(engine);
	return result;
}

DW_API int dw_replay(struct dw_orch *orch, struct dw_graph *graph,
		     const struct dw_tensor *parameters, size_t parameter_count,
		     const uint64_t *scalars, size_t scalar_count)
{
	struct replay replay = {
		.orch = orch,
		.graph = graph,
		.parameters = parameters,
		.scalars = scalars,
	};
	int result = check_replay(orch, graph);

	if (result == 0)
		result = check_counts(graph, parameters, parameter_count, scalars, scalar_count);
	if (result < 0)
		return result;
	replay.places = malloc((parameter_count ? parameter_count : 1) * sizeof(*replay.places));
	if (!replay.places)
		return error_set(-ENOMEM, "no memory for %zu parameters", parameter_count);
	result = check_parameters_again(&replay);
	if (result == 0)
		result = check_chip_tensors(&replay);
	if (result == 0 && orch->run->declared)
		result = check_all_declared(&replay);
	if (result == 0)
		result = replay_graph(&replay);
	free(replay.places);
	return result;
}

/* -------------------------------------------------------------------- graphs */

DW_API int dw_graph_query(struct dw_graph *graph, struct dw_graph_info *info)
{
	struct dw_graph_info full = { 0 };
	int result = options_check_output(info, "dw_graph_info");

	if (result == 0 && !graph)
		result = error_set(-EINVAL, "dw_graph_query: `graph` is NULL");
	if (result < 0)
		return result;
	text_fit(full.name, sizeof(full.name), graph->name);
	full.tasks = graph->tasks.count;
	full.edges = graph->edges.count;
	full.borders = graph->borders.count;
	full.bytes = graph->block_bytes;
	full.parameters = graph->parameters.count;
	full.scalars = graph->scalars;
	full.replays = atomic_load_explicit(&graph->replays, memory_order_relaxed);
	options_write(info, &full, sizeof(full));
	return 0;
}

DW_API void dw_graph_destroy(struct dw_graph *graph)
{
	if (!graph)
		return;
	if (graph->process != process_serial())
		error_set(-EBADFD, "dw_graph_destroy: this graph belongs to another process: it "
				   "was made before a fork");
	else
		graph_destroy(graph);
}
