/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * DW_GRAPH: the dependencies of each task, in the language of Graphviz. The engine itself forgets a
 * task when it ends, and so never sees a dependency on one that was quick; here each run has a
 * second tensor map whose tasks never end, so that the graph does not depend on the timing. Its
 * memory grows with the tasks of a run. One statement per line.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "engine/group.h"
#include "trace/dot.h"

#define RANGES_SHOWN 4

struct node_range {
	uint64_t begin, end;
	uint32_t tensor;
	uint8_t tag;
};

struct dot_node {
	struct task_head head;		/* first: the map takes it for a task; always PENDING */
	struct dot_node *next;
	dw_task task;
	struct node_range *ranges;
	uint32_t range_count;
	char *part;			/* "replay 3 of \"step\""; NULL: none */
	uint32_t part_serial;
	uint64_t consumer;		/* number of the last task it got an edge to, … */
	uint32_t at;			/* … among whose edges it has this place */
	/* While it is being submitted: the producers that it waits for, and why. */
	struct { struct dot_node *producer; uint8_t reasons; } *edges;
	uint32_t edge_count, edge_space;
};

struct dot_run {
	struct tensor_map *map;
	struct dot_node *nodes;
	struct dot_node **by_task;	/* open addressing */
	uint32_t space, count;
	dw_task *after;			/* explicit edges of the task that is being submitted */
	size_t after_count;
};

/* ------------------------------------------------------------------- nodes */

static struct dot_run *dot_of(struct dw_run *run)
{
	struct trace_run *traced = trace_run(run);
	struct dot_run *graph;

	if (!traced || traced->dot)
		return traced ? traced->dot : NULL;
	graph = calloc(1, sizeof(*graph));
	if (!graph)
		return NULL;
	if (tensor_map_create(&graph->map) < 0) {
		free(graph);
		return NULL;
	}
	traced->dot = graph;
	return graph;
}

static uint32_t hash(dw_task task, uint32_t space)
{
	return (uint32_t)((task * 0x9E3779B97F4A7C15ULL) >> 32) & (space - 1);
}

static void insert(struct dot_node **table, uint32_t space, struct dot_node *node)
{
	uint32_t i = hash(node->task, space);

	while (table[i])
		i = (i + 1) & (space - 1);
	table[i] = node;
}

static bool remember(struct dot_run *graph, struct dot_node *node)
{
	if (2 * (graph->count + 1) > graph->space) {
		uint32_t space = graph->space ? 2 * graph->space : 256;
		struct dot_node **table = calloc(space, sizeof(*table));

		if (!table)
			return false;
		for (struct dot_node *old = graph->nodes; old; old = old->next)
			insert(table, space, old);
		free(graph->by_task);
		graph->by_task = table;
		graph->space = space;
	}
	insert(graph->by_task, graph->space, node);
	node->next = graph->nodes;
	graph->nodes = node;
	graph->count++;
	return true;
}

static struct dot_node *find(const struct dot_run *graph, dw_task task)
{
	uint32_t i;

	if (!graph->space)
		return NULL;
	for (i = hash(task, graph->space); graph->by_task[i]; i = (i + 1) & (graph->space - 1))
		if (graph->by_task[i]->task == task)
			return graph->by_task[i];
	return NULL;
}

static bool add_ranges(struct dot_node *node, const struct payload *payload)
{
	const unsigned char *blob = payload->copy;
	const struct dw_tensor *tensors = (const struct dw_tensor *)(blob + WIRE_HEADER_BYTES);
	const uint8_t *tags = payload_tags(payload);
	struct node_range *grown;
	uint64_t bytes;
	int32_t count;

	memcpy(&count, blob, sizeof(count));
	if (!count)
		return true;
	grown = realloc(node->ranges, (node->range_count + (uint32_t)count) * sizeof(*grown));
	if (!grown)
		return false;
	node->ranges = grown;
	for (int32_t i = 0; i < count; i++)
		if (tags[i] != DW_NO_DEP && dw_tensor_bytes(&tensors[i], &bytes) == 0 && bytes)
			grown[node->range_count++] = (struct node_range){
				tensors[i].data, tensors[i].data + bytes, (uint32_t)i, tags[i] };
	return true;
}

static bool find_ranges(struct dot_node *node, const struct task *task)
{
	if (task->callable->handle == ENGINE_CONTROL_CHIP_FREE) {
		const struct engine_chip_memory *message = (const void *)task->storage;

		node->ranges = malloc(sizeof(*node->ranges));
		if (!node->ranges)
			return false;
		node->ranges[node->range_count++] = (struct node_range){
			message->handle, message->handle + message->bytes, 0, DW_OUTPUT };
		return true;
	}
	if (!(task->flags & FLAG_GROUP))
		return add_ranges(node, &task->payload);
	for (uint32_t i = 0; i < task->group->count; i++)
		if (!add_ranges(node, &task->group->members[i].payload))
			return false;
	return true;
}

/* Without memory it appears outside. */
static void find_part(struct dot_node *node, const struct run_part *part)
{
	if (!part->graph)
		return;
	if ((part->replay ? asprintf(&node->part, "replay %llu of \"%s\"",
				     (unsigned long long)part->replay, part->graph) :
			    asprintf(&node->part, "recording of \"%s\"", part->graph)) < 0)
		node->part = NULL;
	node->part_serial = part->serial;
}

static void node_free(struct dot_node *node)
{
	free(node->ranges);
	free(node->part);
	free(node);
}

/* ------------------------------------------------------------------- edges */

static void add_edge(struct task *producer, enum edge_reason reason, void *context)
{
	struct dot_node *node = context, *from = (struct dot_node *)producer;

	if (from == node)
		return;
	if (from->consumer == node->head.number) {
		node->edges[from->at].reasons |= (uint8_t)reason;
		return;
	}
	if (node->edge_count == node->edge_space) {
		uint32_t space = node->edge_space ? 2 * node->edge_space : 4;
		void *grown = realloc(node->edges, space * sizeof(*node->edges));

		if (!grown)
			return;
		node->edges = grown;
		node->edge_space = space;
	}
	from->consumer = node->head.number;
	from->at = node->edge_count;
	node->edges[node->edge_count].producer = from;
	node->edges[node->edge_count++].reasons = (uint8_t)reason;
}

static bool reads(uint8_t tag)
{
	return tag == DW_INPUT || tag == DW_INOUT;
}

static bool writes(uint8_t tag)
{
	return tag != DW_INPUT;
}

static void access_all(struct dot_run *graph, struct dot_node *node, bool reading)
{
	struct task_ref ref = { (struct task *)node, 0 };
	uint64_t poison = 0;

	for (uint32_t i = 0; i < node->range_count; i++)
		if (reads(node->ranges[i].tag) == reading)
			tensor_map_access(graph->map, node->ranges[i].begin, node->ranges[i].end,
					  (enum dw_tag)node->ranges[i].tag, ref, add_edge, node,
					  &poison);
}

static bool explains(enum edge_reason reason, uint8_t producer, uint8_t consumer)
{
	switch (reason) {
	case EDGE_RAW: return writes(producer) && reads(consumer);
	case EDGE_WAR: return reads(producer) && writes(consumer);
	case EDGE_WAW: return writes(producer) && writes(consumer);
	case EDGE_EXPLICIT: break;
	}
	return false;
}

static const struct { enum edge_reason reason; const char *name; } all_reasons[] = {
	{ EDGE_RAW, "RAW" }, { EDGE_WAR, "WAR" }, { EDGE_WAW, "WAW" },
	{ EDGE_EXPLICIT, "explicit" },
};

static void add_reasons(struct trace_lines *lines, uint8_t reasons)
{
	bool any = false;

	for (size_t i = 0; i < sizeof(all_reasons) / sizeof(all_reasons[0]); i++) {
		if (!(reasons & all_reasons[i].reason))
			continue;
		lines_add(lines, "%s%s", any ? ", " : "", all_reasons[i].name);
		any = true;
	}
}

/* "RAW, WAW tensor 1", and below it "[0x7f…, 0x7f…)", for each place where the two meet. */
static void add_places(struct trace_lines *lines, const struct dot_node *from,
		       const struct dot_node *to, uint8_t reasons)
{
	uint32_t shown = 0;

	for (uint32_t i = 0; i < to->range_count; i++) {
		for (uint32_t j = 0; j < from->range_count; j++) {
			const struct node_range *a = &from->ranges[j], *b = &to->ranges[i];
			uint64_t begin = a->begin > b->begin ? a->begin : b->begin;
			uint64_t end = a->end < b->end ? a->end : b->end;
			uint8_t here = 0;

			for (size_t k = 0; begin < end && k < 3; k++)
				if (reasons & all_reasons[k].reason &&
				    explains(all_reasons[k].reason, a->tag, b->tag))
					here |= (uint8_t)all_reasons[k].reason;
			if (!here)
				continue;
			lines_add(lines, "%s", shown ? "\\n" : "");
			if (shown++ == RANGES_SHOWN) {
				lines_add(lines, "...");
				return;
			}
			add_reasons(lines, here);
			lines_add(lines, " tensor %u\\n[%#llx, %#llx)", b->tensor,
				  (unsigned long long)begin, (unsigned long long)end);
		}
	}
	if (reasons & EDGE_EXPLICIT)
		lines_add(lines, "%sexplicit", shown ? "\\n" : "");
}

static void add_name(struct trace_lines *lines, const struct trace *trace, const struct dw_run *run,
		     const struct dot_node *node)
{
	lines_add(lines, "\"%d.%llu.%llu\"", trace->pid, (unsigned long long)trace_run(run)->serial,
		  (unsigned long long)node->head.number);
}

static void write_edge(struct trace *trace, struct task *task, const struct dot_node *from,
		       const struct dot_node *to, uint8_t reasons)
{
	struct trace_lines *lines = &trace->dot;

	lines_begin(lines);
	add_name(lines, trace, run_of(task->run), from);
	lines_add(lines, " -> ");
	add_name(lines, trace, run_of(task->run), to);
	lines_add(lines, " [label=\"");
	add_places(lines, from, to, reasons);
	lines_add(lines, "\"%s", reasons & (EDGE_RAW | EDGE_EXPLICIT) ? "" : ", style=dashed");
	lines_end(lines, "];");
}

/* ----------------------------------------------------------------- interface */

void dot_after(struct task *task, const struct dw_submit_options *options)
{
	struct dot_run *graph = dot_of(run_of(task->run));
	dw_task *after;

	if (!graph || !options->after_count)
		return;
	after = realloc(graph->after, options->after_count * sizeof(*after));
	if (!after)
		return;
	memcpy(after, options->after, options->after_count * sizeof(*after));
	graph->after = after;
	graph->after_count = options->after_count;
}

struct dot_node *dot_submitted(struct trace *trace, struct task *task)
{
	struct dot_run *graph = dot_of(run_of(task->run));
	struct dot_node *node = graph ? calloc(1, sizeof(*node)) : NULL;

	if (!node)
		return NULL;
	node->head.state = TASK_PENDING;
	node->head.number = task->head.number;
	node->task = task_id(task);
	if (!find_ranges(node, task) || !remember(graph, node)) {
		node_free(node);
		return NULL;
	}
	find_part(node, &task->run->part);
	access_all(graph, node, true);
	access_all(graph, node, false);
	for (size_t i = 0; i < graph->after_count; i++) {
		struct dot_node *producer = find(graph, graph->after[i]);

		if (producer)
			add_edge((struct task *)producer, EDGE_EXPLICIT, node);
	}
	graph->after_count = 0;
	for (uint32_t i = 0; i < node->edge_count; i++)
		write_edge(trace, task, node->edges[i].producer, node, node->edges[i].reasons);
	free(node->edges);
	node->edges = NULL;
	return node;
}

void dot_final(struct trace *trace, const struct task *task, struct dot_node *node)
{
	static const struct { const char *name, *colour; } states[] = {
		[TASK_DONE] = { "done", "palegreen" }, [TASK_FAILED] = { "failed", "tomato" },
		[TASK_SKIPPED] = { "skipped", "lightgrey" },
	};
	struct trace_lines *lines = &trace->dot;
	unsigned long long run = (unsigned long long)trace_run(run_of(task->run))->serial;

	lines_begin(lines);
	lines_add(lines, "subgraph \"cluster_%d.%llu\" { label=\"", trace->pid, run);
	lines_add_text(lines, trace->path);
	lines_add(lines, " run %llu\"; ", run);
	if (node->part) {
		lines_add(lines, "subgraph \"cluster_%d.%llu.%u\" { label=\"", trace->pid, run,
			  node->part_serial);
		lines_add_text(lines, node->part);
		lines_add(lines, "\"; ");
	}
	add_name(lines, trace, run_of(task->run), node);
	lines_add(lines, " [label=\"%llu ", (unsigned long long)task->head.number);
	lines_add_text(lines, task->name ? task->name : task->callable->name);
	if (task->flags & FLAG_GROUP)
		lines_add(lines, "\\ngroup of %u", task->group->count);
	lines_add(lines, "\\n%s\", style=filled, fillcolor=%s", states[task->head.state].name,
		  states[task->head.state].colour);
	lines_end(lines, node->part ? "]; }; };" : "]; };");
}

void dot_run_ended(struct dot_run *graph)
{
	struct dot_node *node;

	if (!graph)
		return;
	while ((node = graph->nodes)) {
		graph->nodes = node->next;
		node_free(node);
	}
	tensor_map_destroy(graph->map);
	free(graph->by_task);
	free(graph->after);
	free(graph);
}

void dot_forget(struct dot_run *graph, uint64_t begin, uint64_t end)
{
	if (graph)
		tensor_map_forget(graph->map, begin, end);
}
