/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * record, continued: what a recording leaves, and the life of graphs. See record.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include "base/text.h"
#include "depend/border.h"
#include "engine/process.h"
#include "engine/record.h"
#include "engine/state.h"
#include "memory/arena.h"

#define MEMORY_CHUNK ((size_t)64 << 10)

/* Bytes follow. */
struct graph_memory {
	struct graph_memory *next;
	size_t used, space;
	_Alignas(16) unsigned char bytes[];
};

/* ------------------------------------------------------------------- memory */

void *graph_memory_take(struct dw_graph *graph, size_t bytes)
{
	struct graph_memory *memory = graph->memory;
	void *taken;

	bytes = (bytes + 15) / 16 * 16;
	if (!memory || bytes > memory->space - memory->used) {
		size_t space = bytes > MEMORY_CHUNK ? bytes : MEMORY_CHUNK;

		memory = aligned_alloc(16, sizeof(*memory) + space);
		if (!memory)
			return NULL;
		memset(memory, 0, sizeof(*memory) + space);
		memory->space = space;
		memory->next = graph->memory;
		graph->memory = memory;
	}
	taken = memory->bytes + memory->used;
	memory->used += bytes;
	return taken;
}

bool recorder_grow(void *list, uint32_t count, size_t bytes)
{
	void *old, *grown;

	/* There is room up to the next power of two. */
	if (count & (count - 1))
		return true;
	memcpy(&old, list, sizeof(old));
	grown = realloc(old, (count ? 2 * (size_t)count : 1) * bytes);
	if (!grown)
		return false;
	memcpy(list, &grown, sizeof(grown));
	return true;
}

/* --------------------------------------------------------------- parameters */

static int compare_addresses(const void *a, const void *b, void *context)
{
	const struct graph_parameter *all = context;
	uint64_t left = all[*(const uint32_t *)a].range.begin;
	uint64_t right = all[*(const uint32_t *)b].range.begin;

	return (left > right) - (left < right);
}

bool graph_sort_parameters(struct dw_graph *graph)
{
	uint32_t count = graph->parameters.count;

	graph->by_address = malloc((count ? count : 1) * sizeof(*graph->by_address));
	if (!graph->by_address)
		return false;
	for (uint32_t i = 0; i < count; i++)
		graph->by_address[i] = i;
	qsort_r(graph->by_address, count, sizeof(*graph->by_address), compare_addresses,
		graph->parameters.all);
	return true;
}

int64_t graph_find_parameter(const struct dw_graph *graph, const struct range *range)
{
	uint32_t low = 0, high = graph->parameters.count;
	const struct range *found;

	/* The first one that ends behind the beginning of the range. */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		found = &graph->parameters.all[graph->by_address[middle]].range;
		if (found->end <= range->begin)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == graph->parameters.count)
		return 0;
	found = &graph->parameters.all[graph->by_address[low]].range;
	if (found->begin >= range->end)
		return 0;
	return range->begin >= found->begin && range->end <= found->end ?
		       1 + (int64_t)graph->by_address[low] :
		       -1 - (int64_t)graph->by_address[low];
}

bool graph_has_block(const struct dw_graph *graph, uint64_t address)
{
	for (uint32_t i = 0; i < graph->blocks.count; i++)
		if (address - (uintptr_t)graph->blocks.all[i].address < graph->blocks.all[i].bytes)
			return true;
	return false;
}

/* --------------------------------------------------------------------- seal */

struct border_list {
	const struct dw_graph *graph;
	struct recorded_border *all;
	uint64_t *next; /* by task: of those that read, and of the others */
};

/* A task's reads come first: see tensor_map.h. */
static uint64_t *next_of(const struct border_list *list, const struct border_access *access)
{
	return &list->next[2 * access->task + (access->tag != DW_INPUT && access->tag != DW_INOUT)];
}

static void count_border(const struct border_access *access, void *context)
{
	++*next_of(context, access);
}

static void place_border(const struct border_access *access, void *context)
{
	struct border_list *list = context;
	struct range range = { access->begin, access->end };
	int64_t parameter = graph_find_parameter(list->graph, &range);

	list->all[(*next_of(list, access))++] = (struct recorded_border){
		.begin = access->begin,
		.end = access->end,
		.tag = access->tag,
		.source = parameter > 0 ? graph_source_of_parameter((uint32_t)parameter - 1) : 0,
		.enters = access->enters,
	};
}

/* Pieces of one access that lie side by side are one again. */
static bool join(struct recorded_border *border, const struct recorded_border *next)
{
	if (border->end != next->begin || border->tag != next->tag ||
	    border->source != next->source || border->enters != next->enters)
		return false;
	border->end = next->end;
	return true;
}

static int seal_borders(struct dw_graph *graph, const struct border_set *borders)
{
	struct border_list list = { .graph = graph };
	uint64_t lists = 2 * (uint64_t)graph->tasks.count, total = 0, at = 0, first;
	uint32_t kept = 0;

	list.next = calloc(lists ? lists : 1, sizeof(*list.next));
	if (!list.next)
		return -ENOMEM;
	border_set_each(borders, count_border, &list);
	for (uint64_t i = 0; i < lists; i++) {
		uint64_t count = list.next[i];

		list.next[i] = total;
		total += count;
	}
	list.all = total <= UINT32_MAX ? malloc((total ? total : 1) * sizeof(*list.all)) : NULL;
	if (!list.all) {
		free(list.next);
		return -ENOMEM;
	}
	border_set_each(borders, place_border, &list);
	for (uint32_t task = 0; task < graph->tasks.count; task++) {
		for (first = kept; at < list.next[2 * task + 1]; at++)
			if (kept == first || !join(&list.all[kept - 1], &list.all[at]))
				list.all[kept++] = list.all[at];
		graph->tasks.all[task].borders_end = kept;
	}
	free(list.next);
	graph->borders.all = list.all;
	graph->borders.count = kept;
	return 0;
}

struct place_list {
	struct dw_graph *graph;
	bool out_of_memory;
};

static void add_place(uint64_t begin, uint64_t end, bool written, void *context)
{
	struct place_list *list = context;
	struct dw_graph *graph = list->graph;
	struct graph_place *last =
		graph->places.count ? &graph->places.all[graph->places.count - 1] : NULL;
	struct range range = { begin, end };

	if (graph_find_parameter(graph, &range))
		return;
	if (last && last->range.end == begin && last->written == written) {
		last->range.end = end;
		return;
	}
	last = RECORD_ADD(&graph->places);
	if (last)
		*last = (struct graph_place){ range, written };
	else
		list->out_of_memory = true;
}

int recorder_seal(struct dw_graph *graph, const struct border_set *borders)
{
	struct place_list places = { .graph = graph };
	size_t values = 1 + (size_t)graph->parameters.count + graph->scalars;
	int result = seal_borders(graph, borders);

	if (result < 0)
		return result;
	border_set_memory(borders, add_place, &places);
	graph->values = calloc(values, sizeof(*graph->values));
	graph->refs = calloc(graph->tasks.count ? graph->tasks.count : 1, sizeof(*graph->refs));
	return places.out_of_memory || !graph->values || !graph->refs ? -ENOMEM : 0;
}

/* --------------------------------------------------------------------- life */

static void anchor_put(struct graph_anchor *anchor)
{
	if (atomic_fetch_sub_explicit(&anchor->users, 1, memory_order_acq_rel) == 1)
		free(anchor);
}

static int anchor_get(struct engine *engine, struct graph_anchor **anchor)
{
	struct record_set *records = &engine->records;

	if (!records->anchor) {
		records->anchor = calloc(1, sizeof(*records->anchor));
		if (!records->anchor)
			return -ENOMEM;
		records->anchor->engine = engine;
		atomic_init(&records->anchor->users, 1);
	}
	*anchor = records->anchor;
	return 0;
}

/* It is in no engine. */
static void graph_free(struct dw_graph *graph)
{
	struct graph_memory *memory;

	while ((memory = graph->memory)) {
		graph->memory = memory->next;
		free(memory);
	}
	free(graph->tasks.all);
	free(graph->edges.all);
	free(graph->borders.all);
	free(graph->members.all);
	free(graph->parameters.all);
	free(graph->by_address);
	free(graph->callables.all);
	free(graph->targets.all);
	free(graph->places.all);
	free(graph->chip_tensors.all);
	free(graph->blocks.all);
	free(graph->values);
	free(graph->refs);
	free(graph->name);
	free(graph);
}

/* Runs that go on have used its blocks: whoever has the memory next has no part in that. */
static void forget_blocks(struct engine *engine, const struct dw_graph *graph)
{
	for (uint32_t i = 0; i < graph->blocks.count; i++) {
		uint64_t begin = (uintptr_t)graph->blocks.all[i].address;

		heap_forget(engine->heap, graph->run, begin, begin + graph->blocks.all[i].bytes);
	}
}

/* Takes it out of the engine, and gives its blocks back. The anchor's user is left. */
static void graph_leave(struct engine *engine, struct dw_graph *graph)
{
	forget_blocks(engine, graph);
	for (uint32_t i = 0; i < graph->blocks.count; i++)
		arena_free(engine->arena, graph->blocks.all[i].address);
	if (graph->previous)
		graph->previous->next = graph->next;
	else
		engine->records.first = graph->next;
	if (graph->next)
		graph->next->previous = graph->previous;
}

static bool in_flight(const struct dw_graph *graph)
{
	return graph->replaying || graph->recording ||
	       (graph->run && graph->run->finished != graph->run->submitted);
}

/* It was destroyed, and goes if nothing can write to its blocks any more. */
static struct dw_graph *graph_settle_destroyed(struct engine *engine, struct dw_graph *graph)
{
	if (in_flight(graph) || engine->rings.kept_count)
		return NULL;
	graph_leave(engine, graph);
	return graph;
}

int graph_create(struct engine *engine, const char *name, struct run_graph *run,
		 struct dw_graph **graph)
{
	struct record_set *records = &engine->records;
	struct dw_graph *made = calloc(1, sizeof(*made));
	char given[32];
	int result = made ? anchor_get(engine, &made->anchor) : -ENOMEM;

	if (result == 0) {
		snprintf(given, sizeof(given), "graph%u", records->serial + 1);
		made->name = strdup(name ? name : given);
		result = made->name ? 0 : -ENOMEM;
	}
	if (result < 0) {
		free(made);
		return error_set(result, "no memory for a recording");
	}
	records->serial++;
	atomic_fetch_add_explicit(&made->anchor->users, 1, memory_order_relaxed);
	made->process = process_serial();
	made->run = run;
	made->recording = true;
	made->next = records->first;
	if (made->next)
		made->next->previous = made;
	records->first = made;
	*graph = made;
	return 0;
}

void graph_recorded(struct dw_graph *graph, bool complete)
{
	graph->recording = false;
	/* It goes at the end of the run: the tasks that it has recorded use its blocks. */
	graph->destroyed = !complete;
}

bool graph_is_busy(const struct dw_graph *graph, const struct run_graph *run)
{
	return graph->run && graph->run != run && in_flight(graph);
}

void graph_take(struct engine *engine, struct dw_graph *graph, struct run_graph *run)
{
	if (graph->run != run)
		forget_blocks(engine, graph);
	graph->run = run;
}

void graph_set_value(struct dw_graph *graph, uint32_t source, uint64_t value)
{
	graph->values[source] = value;
}

static void graph_drop(struct dw_graph *graph)
{
	anchor_put(graph->anchor);
	graph_free(graph);
}

void graph_destroy(struct dw_graph *graph)
{
	struct graph_anchor *anchor = graph->anchor;
	struct dw_graph *gone = graph;
	struct engine *engine;

	lock_take(&anchor->lock);
	engine = anchor->engine;
	if (engine) {
		lock_take(&engine->lock);
		graph->destroyed = true;
		gone = graph_settle_destroyed(engine, graph);
		lock_give(&engine->lock);
	}
	lock_give(&anchor->lock);
	if (gone)
		graph_drop(gone);
}

void graphs_run_ended(struct engine *engine, const struct run_graph *run)
{
	struct dw_graph *next;

	for (struct dw_graph *graph = engine->records.first; graph; graph = next) {
		next = graph->next;
		if (graph->run == run)
			graph->run = NULL;
		if (graph->destroyed && graph_settle_destroyed(engine, graph)) {
			graph_drop(graph);
		}
	}
}

void graphs_release(struct engine *engine)
{
	struct graph_anchor *anchor = engine->records.anchor;
	struct dw_graph *graph;

	if (!anchor)
		return;
	lock_take(&anchor->lock);
	while ((graph = engine->records.first)) {
		graph->run = NULL;
		graph_leave(engine, graph);
		if (graph->destroyed) {
			graph_drop(graph);
		}
	}
	anchor->engine = NULL;
	lock_give(&anchor->lock);
	anchor_put(anchor);
}

/* --------------------------------------------------------------- what it uses */

static int in_use(const struct dw_graph *graph, const struct engine *engine, const char *what)
{
	if (graph->recording)
		return error_set(-EBUSY,
				 "%s: recording \"%s\" of %s may use it: end that first "
				 "(dw_record_end)",
				 what, text_short(graph->name), engine->path);
	return error_set(-EBUSY,
			 "%s: recorded graph \"%s\" of %s uses it: dw_graph_destroy() it "
			 "first",
			 what, text_short(graph->name), engine->path);
}

int engine_records_use_callable(struct engine *engine, dw_callable handle, const char *what)
{
	int result = 0;

	lock_take(&engine->lock);
	for (const struct dw_graph *graph = engine->records.first; graph && result == 0;
	     graph = graph->next)
		for (uint32_t i = 0; !graph->destroyed && i < graph->callables.count; i++)
			if (graph->callables.all[i].handle == handle)
				result = in_use(graph, engine, what);
	lock_give(&engine->lock);
	return result;
}

/* While it is recorded, its places are not known, and neither are those that are yet to come. */
static bool uses_memory(const struct dw_graph *graph, const struct range *range)
{
	for (uint32_t i = 0; i < graph->places.count; i++)
		if (ranges_overlap(&graph->places.all[i].range, range))
			return true;
	return graph->recording;
}

int engine_records_use_memory(struct engine *engine, const struct range *range, const char *what)
{
	int result = 0;

	lock_take(&engine->lock);
	for (const struct dw_graph *graph = engine->records.first; graph && result == 0;
	     graph = graph->next)
		if (!graph->destroyed && uses_memory(graph, range))
			result = in_use(graph, engine, what);
	lock_give(&engine->lock);
	return result;
}
