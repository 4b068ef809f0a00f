/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Dependencies of tasks on the chip, by bytes. Each region is covered by
 * segments in address order; an access splits at its two ends, so that it
 * covers whole segments, and a write that waited makes one segment of them again.
 *
 * Under graph.lock.
 */
#include "graph.h"

static size_t region_place(const struct graph *graph, uint64_t address)
{
	size_t low = 0, high = graph->region_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (graph->regions[middle]->end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct region *depend_region_find(const struct graph *graph, uint64_t address, uint64_t bytes)
{
	size_t at = region_place(graph, address);
	struct region *region = at < graph->region_count ? graph->regions[at] : NULL;

	if (!region || address < region->begin || bytes > region->end - address)
		return NULL;
	return region;
}

int depend_region_add(struct graph *graph, uint64_t begin, uint64_t end, struct extent *extent,
		      struct region **result)
{
	struct region *region = calloc(1, sizeof(*region));
	size_t at;

	if (region)
		region->segments = calloc(1, sizeof(*region->segments));
	if (graph->region_count == graph->region_space) {
		size_t space = graph->region_space ? graph->region_space * 2 : 32;
		struct region **grown = realloc(graph->regions, space * sizeof(struct region *));

		if (grown) {
			graph->regions = grown;
			graph->region_space = space;
		}
	}
	if (!region || !region->segments || graph->region_count == graph->region_space) {
		if (region)
			free(region->segments);
		free(region);
		return -ENOMEM;
	}
	region->begin = begin;
	region->end = end;
	region->extent = extent;
	region->scope = graph->scope;
	region->segment_count = 1;
	region->segment_space = 1;
	region->segments[0].begin = begin;
	region->segments[0].end = end;
	at = region_place(graph, begin);
	memmove(&graph->regions[at + 1], &graph->regions[at],
		(graph->region_count - at) * sizeof(struct region *));
	graph->regions[at] = region;
	graph->region_count++;
	if (result)
		*result = region;
	return 0;
}

static void region_free(struct graph *graph, struct region *region)
{
	for (uint32_t i = 0; i < region->segment_count; i++)
		free(region->segments[i].users);
	free(region->segments);
	if (region->extent)
		memory_free(&graph->device->memory, region->extent);
	free(region);
}

void depend_region_drop(struct graph *graph, struct region *region)
{
	size_t at = region_place(graph, region->begin);

	graph->region_count--;
	memmove(&graph->regions[at], &graph->regions[at + 1],
		(graph->region_count - at) * sizeof(struct region *));
	region_free(graph, region);
}

void depend_fini(struct graph *graph)
{
	for (size_t i = 0; i < graph->region_count; i++)
		region_free(graph, graph->regions[i]);
	free(graph->regions);
}

/* Arguments that overlap on the device (parts of one resident range) are one region. */
int depend_arguments(struct graph *graph)
{
	const struct call *call = graph->call;

	for (size_t i = 0; i < call->tensor_count; i++) {
		const struct piece *piece = &call->pieces[i];
		uint64_t begin = piece->device, end = piece->device + piece->bytes;
		size_t at;
		int status;

		if (piece->bytes == 0)
			continue;
		at = region_place(graph, begin);
		while (at < graph->region_count && graph->regions[at]->begin < end) {
			struct region *other = graph->regions[at];

			if (other->begin < begin)
				begin = other->begin;
			if (other->end > end)
				end = other->end;
			depend_region_drop(graph, other);
		}
		status = depend_region_add(graph, begin, end, NULL, NULL);
		if (status < 0)
			return status;
	}
	return 0;
}

static int users_add(struct segment *segment, uint64_t user)
{
	if (segment->count == segment->space) {
		uint32_t space = segment->space ? segment->space * 2 : 4;
		uint64_t *grown = realloc(segment->users, space * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		segment->users = grown;
		segment->space = space;
	}
	segment->users[segment->count++] = user;
	return 0;
}

/* Cuts segment `i` at `address`, which lies inside of it. */
static int segment_split(struct region *region, uint32_t i, uint64_t address)
{
	struct segment upper = { .begin = address, .end = region->segments[i].end };

	if (region->segment_count == region->segment_space) {
		uint32_t space = region->segment_space * 2;
		struct segment *grown = realloc(region->segments, space * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		region->segments = grown;
		region->segment_space = space;
	}
	for (uint32_t j = 0; j < region->segments[i].count; j++)
		if (users_add(&upper, region->segments[i].users[j]) < 0) {
			free(upper.users);
			return -ENOMEM;
		}
	memmove(&region->segments[i + 2], &region->segments[i + 1],
		(region->segment_count - i - 1) * sizeof(*region->segments));
	region->segments[i].end = address;
	region->segments[i + 1] = upper;
	region->segment_count++;
	return 0;
}

static uint32_t segment_place(const struct region *region, uint64_t address)
{
	uint32_t low = 0, high = region->segment_count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (region->segments[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Adds edges from the users of a segment that are not done, and forgets the others. */
static int segment_wait(struct graph *graph, struct segment *segment, bool writers_only,
			struct task *task)
{
	uint32_t kept = 0;
	int status = 0;

	for (uint32_t i = 0; i < segment->count; i++) {
		uint64_t user = segment->users[i], number = user >> 1;

		if (!graph_task(graph, number))
			continue;
		segment->users[kept++] = user;
		if (number != task->number && (!writers_only || (user & 1)) && status == 0)
			status = graph_edge(graph, number, task);
	}
	segment->count = kept;
	return status;
}

/* Merges segments [first, end) into one. */
static void segments_join(struct region *region, uint32_t first, uint32_t end)
{
	if (end - first < 2)
		return;
	region->segments[first].end = region->segments[end - 1].end;
	for (uint32_t i = first + 1; i < end; i++)
		free(region->segments[i].users);
	memmove(&region->segments[first + 1], &region->segments[end],
		(region->segment_count - end) * sizeof(*region->segments));
	region->segment_count -= end - first - 1;
}

int depend_access(struct graph *graph, struct region *region, uint64_t begin, uint64_t end,
		  enum dw_tag tag, struct task *task)
{
	bool replaces = tag == DW_OUTPUT || tag == DW_INOUT;
	uint32_t first, last;
	int status = 0;

	if (tag == DW_NO_DEP || begin == end)
		return 0;
	first = segment_place(region, begin);
	if (region->segments[first].begin < begin) {
		status = segment_split(region, first, begin);
		first++;
	}
	for (last = first; status == 0 && last < region->segment_count &&
			   region->segments[last].begin < end; last++) {
		struct segment *segment = &region->segments[last];

		if (segment->end > end) {
			status = segment_split(region, last, end);
			segment = &region->segments[last];
			if (status < 0)
				break;
		}
		if (tag != DW_OUTPUT_EXISTING)
			status = segment_wait(graph, segment, tag == DW_INPUT, task);
		if (status == 0 && replaces)
			segment->count = 0;
		if (status == 0)
			status = users_add(segment, task->number << 1 | (tag != DW_INPUT));
	}
	if (status == 0 && replaces)
		segments_join(region, first, last);
	return status;
}
