/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See record.h: the open recording of an Orchestrator. What becomes of graphs: record_graph.c.
 */
#include <errno.h>
#include <stdlib.h>
#include "base/text.h"
#include "depend/border.h"
#include "engine/chip_memory.h"
#include "engine/record.h"
#include "engine/state.h"
#include "memory/arena.h"

#define SHADOWS_PER_CHUNK 512
#define BLOCKS_FIRST (64ull << 10)
#define BLOCKS_MOST (16ull << 20)
#define SCALARS_MOST 65536

/* Stands for a recorded task in the recording's tensor map; always PENDING. */
struct shadow {
	struct task_head head; /* first: the map takes it for a task */
	uint32_t consumer; /* 1 + the last task that waits for it, … */
	uint32_t at; /* … and that edge */
};

struct known_task {
	dw_task id; /* 0: free */
	uint32_t place;
};

struct recorder {
	struct dw_graph *graph;
	struct tensor_map *map;
	struct border_set *borders;
	struct shadow **shadows; /* chunks, which never move */
	uint32_t chunk_count;
	struct known_task *known; /* open addressing */
	uint32_t known_space;
	const struct scope *scope;
	uint64_t block_next, block_end; /* the rest of the last block */
	int error; /* the first; the recording is lost */
};

const char *recorder_name(const struct recorder *recorder)
{
	return recorder->graph->name;
}

const struct scope *recorder_scope(const struct recorder *recorder)
{
	return recorder->scope;
}

static void fail(struct recorder *recorder)
{
	recorder->error = -ENOMEM;
}

/* ------------------------------------------------------------- known tasks */

static uint32_t known_hash(dw_task id, uint32_t space)
{
	return (uint32_t)((id * 0x9E3779B97F4A7C15ULL) >> 32) & (space - 1);
}

static const struct known_task *known_find(const struct recorder *recorder, dw_task id)
{
	uint32_t space = recorder->known_space, i;

	if (!space)
		return NULL;
	for (i = known_hash(id, space); recorder->known[i].id; i = (i + 1) & (space - 1))
		if (recorder->known[i].id == id)
			return &recorder->known[i];
	return NULL;
}

static void known_insert(struct known_task *table, uint32_t space, struct known_task known)
{
	uint32_t i = known_hash(known.id, space);

	while (table[i].id)
		i = (i + 1) & (space - 1);
	table[i] = known;
}

static bool known_add(struct recorder *recorder, dw_task id, uint32_t place)
{
	if (2 * (place + 1) > recorder->known_space) {
		uint32_t space = recorder->known_space ? 2 * recorder->known_space : 256;
		struct known_task *table = calloc(space, sizeof(*table));

		if (!table)
			return false;
		for (uint32_t i = 0; i < recorder->known_space; i++)
			if (recorder->known[i].id)
				known_insert(table, space, recorder->known[i]);
		free(recorder->known);
		recorder->known = table;
		recorder->known_space = space;
	}
	known_insert(recorder->known, recorder->known_space, (struct known_task){ id, place });
	return true;
}

/* ------------------------------------------------------------------- shadows */

static struct shadow *shadow_at(const struct recorder *recorder, uint32_t place)
{
	return &recorder->shadows[place / SHADOWS_PER_CHUNK][place % SHADOWS_PER_CHUNK];
}

static struct shadow *shadow_new(struct recorder *recorder, uint32_t place)
{
	struct shadow *shadow;

	if (place == recorder->chunk_count * SHADOWS_PER_CHUNK) {
		if (!recorder_grow(&recorder->shadows, recorder->chunk_count,
				   sizeof(*recorder->shadows)))
			return NULL;
		shadow = calloc(SHADOWS_PER_CHUNK, sizeof(*shadow));
		if (!shadow)
			return NULL;
		recorder->shadows[recorder->chunk_count++] = shadow;
	}
	shadow = shadow_at(recorder, place);
	shadow->head.state = TASK_PENDING;
	shadow->head.number = place;
	return shadow;
}

struct edge_to {
	struct recorder *recorder;
	uint32_t place; /* of the consumer */
};

static void add_edge(struct task *producer, enum edge_reason reason, void *context)
{
	struct edge_to *to = context;
	struct dw_graph *graph = to->recorder->graph;
	struct shadow *from = (struct shadow *)producer;
	struct recorded_edge *edge;

	if (from->consumer == to->place + 1) {
		graph->edges.all[from->at].reasons |= (uint8_t)reason;
		return;
	}
	edge = RECORD_ADD(&graph->edges);
	if (!edge) {
		fail(to->recorder);
		return;
	}
	from->consumer = to->place + 1;
	from->at = graph->edges.count - 1;
	*edge = (struct recorded_edge){ (uint32_t)from->head.number, (uint8_t)reason };
}

/* ------------------------------------------------------------------- checks */

static int check_place(struct engine *engine, const struct recorder *recorder,
		       const struct range *range, uint32_t index)
{
	const struct dw_graph *graph = recorder->graph;
	unsigned long long begin = range->begin, bytes = range->end - range->begin;
	int64_t parameter = graph_find_parameter(graph, range);

	if (parameter > 0 || graph_has_block(graph, range->begin))
		return 0;
	if (parameter < 0)
		return error_set(-EINVAL,
				 "tensor %u, %#llx + %llu bytes, lies partly in parameter %lld of "
				 "recording \"%s\": it should lie within it, or apart from all "
				 "parameters",
				 index, begin, bytes, (long long)-parameter - 1,
				 text_short(graph->name));
	if (arena_is_transient(engine->arena, range->begin))
		return error_set(-EINVAL,
				 "tensor %u, %#llx + %llu bytes, is memory from before recording "
				 "\"%s\" that ends with its scope: declare it as a parameter "
				 "(dw_record_options.parameters), or use dw_buffer_create",
				 index, begin, bytes, text_short(graph->name));
	if (!arena_contains(engine->arena, range->begin, bytes) &&
	    !chip_memory_stays(engine, range->begin))
		return error_set(-EINVAL,
				 "tensor %u, %#llx + %llu bytes, is device memory that ends with "
				 "its run, and recording \"%s\" is to outlive it: use "
				 "dw_chip_memory_create, or declare it as a parameter "
				 "(dw_record_options.parameters)",
				 index, begin, bytes, text_short(graph->name));
	return 0;
}

static int check_after(const struct recorder *recorder, const struct dw_submit_options *options)
{
	for (size_t i = 0; i < options->after_count; i++)
		if (options->after[i] && !known_find(recorder, options->after[i]))
			return error_set(-EINVAL,
					 "options.after[%zu] is %#llx, a task from before "
					 "recording \"%s\", for which a replay could not wait: "
					 "name tasks of the recording, or wait before it "
					 "(dw_orch_wait_task)",
					 i, (unsigned long long)options->after[i],
					 text_short(recorder->graph->name));
	return 0;
}

int recorder_check(struct engine *engine, const struct recorder *recorder,
		   const struct dw_args *args, const struct range *ranges,
		   const struct dw_submit_options *options)
{
	int result = check_after(recorder, options);

	for (uint32_t i = 0; i < args->tensor_count && result == 0; i++)
		if (ranges[i].begin && ranges[i].begin < ranges[i].end)
			result = check_place(engine, recorder, &ranges[i], i);
	return result;
}

int recorder_alloc(struct engine *engine, struct recorder *recorder, uint64_t bytes,
		   uint64_t *address)
{
	struct dw_graph *graph = recorder->graph;
	struct graph_block *block;
	uint64_t space;
	void *made;
	int result;

	if (bytes > recorder->block_end - recorder->block_next) {
		space = graph->blocks.count < 8 ? BLOCKS_FIRST << graph->blocks.count : BLOCKS_MOST;
		if (space < bytes)
			space = bytes;
		result = arena_alloc(engine->arena, space, &made);
		if (result < 0)
			return error_prefix(
				result, "a block of recording \"%s\": ", text_short(graph->name));
		block = RECORD_ADD(&graph->blocks);
		if (!block) {
			arena_free(engine->arena, made);
			return error_set(-ENOMEM, "no memory for recording \"%s\"",
					 text_short(graph->name));
		}
		*block = (struct graph_block){ made, space };
		recorder->block_next = (uintptr_t)made;
		recorder->block_end = (uintptr_t)made + space;
	}
	*address = recorder->block_next;
	recorder->block_next += bytes;
	graph->block_bytes += bytes;
	return 0;
}

/* -------------------------------------------------------------------- tasks */

/* Patches of the tensors that lie in parameters; there is room for the scalars behind them. */
static bool take_patches(struct recorder *recorder, struct payload_template *template,
			 const struct dw_args *args, const struct range *ranges)
{
	struct dw_graph *graph = recorder->graph;
	struct payload_patch *patches;
	uint32_t moving = 0;

	for (uint32_t i = 0; i < args->tensor_count; i++)
		moving += ranges[i].begin < ranges[i].end &&
			  graph_find_parameter(graph, &ranges[i]) > 0;
	if (!moving && !args->scalar_count)
		return true;
	patches = graph_memory_take(graph, (moving + args->scalar_count) * sizeof(*patches));
	if (!patches)
		return false;
	template->patches = patches;
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		int64_t parameter = ranges[i].begin < ranges[i].end ?
					    graph_find_parameter(graph, &ranges[i]) :
					    0;

		if (parameter > 0)
			patches[template->patch_count++] = (struct payload_patch){
				(uint32_t)(WIRE_HEADER_BYTES + i * sizeof(struct dw_tensor) +
					   offsetof(struct dw_tensor, data)),
				graph_source_of_parameter((uint32_t)parameter - 1),
			};
	}
	return true;
}

static bool take_payload(struct engine *engine, struct recorder *recorder,
			 struct payload_template *template, const struct payload *payload,
			 const struct dw_args *args, const struct range *ranges, const char *name)
{
	uint32_t total =
		payload->bytes + args->tensor_count + (uint32_t)(name ? strlen(name) + 1 : 0);
	void *copy = graph_memory_take(recorder->graph, total);

	if (!copy)
		return false;
	memcpy(copy, payload->copy, total);
	*template = (struct payload_template){
		.copy = copy,
		.total = total,
		.bytes = payload->bytes,
		.frame_flags = payload->frame_flags,
		.fits = payload_template_fits(&engine->graph.tasks, total, payload->bytes),
	};
	return take_patches(recorder, template, args, ranges);
}

static bool note_tensors(struct engine *engine, struct recorder *recorder,
			 const struct dw_args *args, const struct range *ranges, uint32_t worker)
{
	struct dw_graph *graph = recorder->graph;

	for (uint32_t i = 0; i < args->tensor_count; i++) {
		struct graph_chip_tensor *tensor;
		int64_t parameter;

		if (ranges[i].begin == ranges[i].end)
			continue;
		parameter = graph_find_parameter(graph, &ranges[i]);
		if (parameter > 0) {
			graph->parameters.all[parameter - 1].written |= args->tags[i] != DW_INPUT;
			graph->parameters.all[parameter - 1].unordered |=
				args->tags[i] == DW_NO_DEP;
		}
		if (arena_contains(engine->arena, ranges[i].begin, ranges[i].end - ranges[i].begin))
			continue;
		tensor = RECORD_ADD(&graph->chip_tensors);
		if (!tensor)
			return false;
		*tensor = (struct graph_chip_tensor){
			ranges[i],
			parameter > 0 ? graph_source_of_parameter((uint32_t)parameter - 1) : 0,
			worker,
			i,
		};
	}
	return true;
}

static bool access_tensors(struct recorder *recorder, struct edge_to *to,
			   const struct dw_args *args, const struct range *ranges, bool reading)
{
	struct task_ref ref = { (struct task *)shadow_at(recorder, to->place), 0 };
	uint64_t poison = 0;

	for (uint32_t i = 0; i < args->tensor_count; i++) {
		enum dw_tag tag = (enum dw_tag)args->tags[i];

		if ((tag == DW_INPUT || tag == DW_INOUT) != reading ||
		    ranges[i].begin == ranges[i].end)
			continue;
		if (tensor_map_access(recorder->map, ranges[i].begin, ranges[i].end, tag, ref,
				      add_edge, to, &poison) < 0 ||
		    border_set_access(recorder->borders, ranges[i].begin, ranges[i].end, tag,
				      to->place) < 0)
			return false;
	}
	return true;
}

static bool note_callable(struct dw_graph *graph, struct callable *callable)
{
	struct graph_callable *entry;

	for (uint32_t i = graph->callables.count; i-- > 0;)
		if (graph->callables.all[i].callable == callable &&
		    graph->callables.all[i].handle == callable->handle) {
			graph->callables.all[i].uses++;
			return true;
		}
	entry = RECORD_ADD(&graph->callables);
	if (entry)
		*entry = (struct graph_callable){ callable->handle, callable, 1 };
	return entry;
}

static bool note_target(struct dw_graph *graph, uint16_t pool, uint32_t worker, uint32_t members)
{
	struct graph_target *entry;

	for (uint32_t i = graph->targets.count; i-- > 0;) {
		entry = &graph->targets.all[i];
		if (entry->pool == pool && entry->worker == worker) {
			if (entry->members < members)
				entry->members = members;
			return true;
		}
	}
	entry = RECORD_ADD(&graph->targets);
	if (entry)
		*entry = (struct graph_target){ worker, members, pool };
	return entry;
}

static bool take_members(struct engine *engine, struct recorder *recorder,
			 struct recorded_task *recorded, const struct task *task,
			 struct dw_args *const *args, const struct range *ranges)
{
	struct dw_graph *graph = recorder->graph;

	recorded->first_member = graph->members.count;
	recorded->members = task->group->count;
	for (uint32_t i = 0; i < task->group->count; i++) {
		const struct member *from = &task->group->members[i];
		struct recorded_member *member = RECORD_ADD(&graph->members);

		if (!member)
			return false;
		member->worker =
			from->worker == DW_ANY ? DW_ANY : from->worker - engine->schedule.sub_count;
		if (!take_payload(engine, recorder, &member->payload, &from->payload, args[i],
				  ranges, i == 0 ? task->name : NULL) ||
		    !note_tensors(engine, recorder, args[i], ranges, from->worker))
			return false;
		ranges += args[i]->tensor_count;
	}
	return true;
}

static void access_members(struct recorder *recorder, struct edge_to *to, uint32_t members,
			   struct dw_args *const *args, const struct range *ranges, bool reading)
{
	for (uint32_t i = 0; i < members; i++) {
		if (!access_tensors(recorder, to, args[i], ranges, reading))
			fail(recorder);
		ranges += args[i]->tensor_count;
	}
}

static bool take_task(struct engine *engine, struct recorder *recorder, const struct task *task,
		      struct dw_args *const *args, const struct range *ranges)
{
	struct dw_graph *graph = recorder->graph;
	struct recorded_task *recorded = RECORD_ADD(&graph->tasks);
	bool group = task->flags & FLAG_GROUP;

	if (!recorded)
		return false;
	memset(recorded, 0, sizeof(*recorded));
	task_template_take(&recorded->template, task);
	if (task->name)
		recorded->template.name_at =
			(uint32_t)(task->name -
				   (const char *)(group ? task->group->members[0].payload.copy :
							  task->payload.copy));
	if (!shadow_new(recorder, graph->tasks.count - 1) ||
	    !known_add(recorder, task_id(task), graph->tasks.count - 1) ||
	    !note_callable(graph, task->callable) ||
	    !note_target(graph, task->pool, task->worker, group ? task->group->count : 1))
		return false;
	if (group)
		return take_members(engine, recorder, recorded, task, args, ranges);
	return take_payload(engine, recorder, &recorded->template.payload, &task->payload, args[0],
			    ranges, task->name) &&
	       note_tensors(engine, recorder, args[0], ranges, task->worker);
}

void recorder_task(struct engine *engine, struct recorder *recorder, const struct task *task,
		   struct dw_args *const *args, const struct range *ranges,
		   const struct dw_submit_options *options)
{
	struct dw_graph *graph = recorder->graph;
	uint32_t members = task->flags & FLAG_GROUP ? task->group->count : 1;
	struct edge_to to = { recorder, graph->tasks.count };

	if (recorder->error)
		return;
	if (!take_task(engine, recorder, task, args, ranges)) {
		fail(recorder);
		return;
	}
	access_members(recorder, &to, members, args, ranges, true);
	access_members(recorder, &to, members, args, ranges, false);
	for (size_t i = 0; i < options->after_count; i++) {
		const struct known_task *known = known_find(recorder, options->after[i]);

		if (known && options->after[i])
			add_edge((struct task *)shadow_at(recorder, known->place), EDGE_EXPLICIT,
				 &to);
	}
	graph->tasks.all[to.place].edges_end = graph->edges.count;
}

int recorder_scalar(struct recorder *recorder, size_t member, size_t scalar, size_t parameter)
{
	struct dw_graph *graph = recorder->graph;
	const char *name = text_short(graph->name);
	struct payload_template *payload;
	struct payload_patch *patches;
	struct recorded_task *task;
	int32_t counts[2];
	uint32_t at;

	if (recorder->error)
		return error_set(-ENOMEM, "no memory for recording \"%s\"", name);
	if (!graph->tasks.count)
		return error_set(-ERANGE, "recording \"%s\" has no task so far", name);
	if (parameter >= SCALARS_MOST)
		return error_set(-ERANGE,
				 "scalar parameter %zu of recording \"%s\"; it should be "
				 "below %d",
				 parameter, name, SCALARS_MOST);
	task = &graph->tasks.all[graph->tasks.count - 1];
	if (member >= (task->members ? task->members : 1))
		return error_set(-ERANGE, "member %zu: the last task of recording \"%s\" has %u",
				 member, name, task->members ? task->members : 1);
	payload = task->members ? &graph->members.all[task->first_member + member].payload :
				  &task->template.payload;
	memcpy(counts, payload->copy, sizeof(counts));
	if (scalar >= (size_t)counts[1])
		return error_set(-ERANGE, "scalar %zu: the last task of recording \"%s\" has %d",
				 scalar, name, counts[1]);
	at = (uint32_t)(WIRE_HEADER_BYTES + (size_t)counts[0] * sizeof(struct dw_tensor) +
			scalar * sizeof(uint64_t));
	for (uint32_t i = 0; i < payload->patch_count; i++)
		if (payload->patches[i].at == at)
			return error_set(-EEXIST,
					 "scalar %zu of the last task of recording "
					 "\"%s\" is a parameter already",
					 scalar, name);
	patches = (struct payload_patch *)payload->patches;
	patches[payload->patch_count++] = (struct payload_patch){
		at,
		graph_source_of_scalar(graph, (uint32_t)parameter),
	};
	memset((unsigned char *)payload->copy + at, 0, sizeof(uint64_t));
	if (graph->scalars <= parameter)
		graph->scalars = (uint32_t)parameter + 1;
	return 0;
}

/* ---------------------------------------------------------------- begin, end */

static void recorder_free(struct recorder *recorder)
{
	tensor_map_destroy(recorder->map);
	border_set_destroy(recorder->borders);
	for (uint32_t i = 0; i < recorder->chunk_count; i++)
		free(recorder->shadows[i]);
	free(recorder->shadows);
	free(recorder->known);
	free(recorder);
}

static bool take_parameters(const struct engine *engine, struct dw_graph *graph,
			    const struct dw_tensor *parameters, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct graph_parameter *parameter = RECORD_ADD(&graph->parameters);
		uint64_t bytes = 0;

		if (!parameter)
			return false;
		dw_tensor_bytes(&parameters[i], &bytes);
		*parameter = (struct graph_parameter){
			.range = { parameters[i].data, parameters[i].data + bytes },
			.on_chip = !arena_contains(engine->arena, parameters[i].data, bytes),
		};
	}
	return graph_sort_parameters(graph);
}

int recorder_begin(struct engine *engine, struct run_graph *run, const char *name,
		   const struct dw_tensor *parameters, size_t count, struct scope *scope,
		   struct recorder **recorder)
{
	struct recorder *made = calloc(1, sizeof(*made));
	int result = made ? 0 : error_set(-ENOMEM, "no memory for a recording");

	if (result == 0)
		result = tensor_map_create(&made->map);
	if (result == 0)
		result = border_set_create(&made->borders);
	if (result == 0)
		result = graph_create(engine, name, run, &made->graph);
	if (result == 0 && !take_parameters(engine, made->graph, parameters, count)) {
		result = error_set(-ENOMEM, "no memory for a recording");
		recorder_drop(made);
		return result;
	}
	if (result < 0) {
		if (made)
			recorder_free(made);
		return result;
	}
	made->scope = scope;
	*recorder = made;
	return 0;
}

void recorder_drop(struct recorder *recorder)
{
	graph_recorded(recorder->graph, false);
	recorder_free(recorder);
}

int recorder_end(struct recorder *recorder, struct dw_graph **graph)
{
	struct dw_graph *made = recorder->graph;
	int result = recorder->error;

	if (result == 0)
		result = recorder_seal(made, recorder->borders);
	if (result < 0)
		error_set(result, "no memory for recording \"%s\", which is dropped",
			  text_short(made->name));
	graph_recorded(made, result == 0);
	recorder_free(recorder);
	if (result == 0)
		*graph = made;
	return result;
}
