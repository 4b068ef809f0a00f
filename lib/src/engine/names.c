/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See names.h.
 */
#include <stdlib.h>
#include "engine/engine.h"
#include "engine/names.h"
#include "memory/arena.h"

#define SERIAL_BITS 56

void names_init(struct names *names, const struct engine_options *options)
{
	names->last = (uint64_t)options->level << SERIAL_BITS;
	names->arena = options->arena;
	for (uint32_t i = 0; i < options->worker_count; i++)
		names->on |= options->workers[i].has_memory;
}

static inline bool overlap(const struct range *a, const struct range *b)
{
	return a->begin < b->end && b->begin < a->end;
}

/* --------------------------------------------------------------- nested runs */

void run_names_give(struct run_names *run, const struct dw_args *args,
		    const struct frame_names *names)
{
	run->given = malloc((args->tensor_count ? args->tensor_count : 1) * sizeof(*run->given));
	if (!run->given)
		return;
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		const struct dw_tensor *tensor = &args->tensors[i];
		uint64_t bytes;

		if (!names[i].sees || names[i].makes || dw_tensor_bytes(tensor, &bytes) < 0)
			continue;
		run->given[run->given_count++] = (struct given_name){
			.range = { tensor->data, tensor->data + bytes }, .name = names[i].sees,
		};
	}
}

void run_names_free(struct run_names *run)
{
	free(run->given);
}

/* The given range that has all of these bytes, or NULL. */
static const struct given_name *given_find(const struct run_names *run, const struct range *range)
{
	for (uint32_t i = 0; i < run->given_count; i++)
		if (range->begin >= run->given[i].range.begin &&
		    range->end <= run->given[i].range.end)
			return &run->given[i];
	return NULL;
}

static void given_lose(struct run_names *run, const struct range *range)
{
	for (uint32_t i = 0; i < run->given_count; i++)
		if (overlap(&run->given[i].range, range))
			run->given[i].name = 0;
}

/* --------------------------------------------------------------------- tasks */

/* A range that other processes may write at any time has no name. */
static inline bool nameable(const struct names *names, const struct range *range)
{
	return range->begin < range->end &&
	       !arena_is_registered(names->arena, range->begin, range->end - range->begin);
}

void names_see(const struct names *names, const struct run_names *run, struct tensor_map *map,
	       const struct dw_args *args, const struct range *ranges, struct frame_names *pairs)
{
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		const struct given_name *given;

		pairs[i] = (struct frame_names){ 0 };
		if ((args->tags[i] != DW_INPUT && args->tags[i] != DW_INOUT) ||
		    !nameable(names, &ranges[i]))
			continue;
		given = given_find(run, &ranges[i]);
		pairs[i].sees = given && given->name ? given->name :
				tensor_map_name(map, ranges[i].begin, ranges[i].end,
						run->known_after);
	}
}

/* What the task reads and nothing has named is what the next reader finds there, too. */
static void name_inputs(struct names *names, struct tensor_map *map, const struct dw_args *args,
			const struct range *ranges, struct frame_names *pairs)
{
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		if (args->tags[i] != DW_INPUT || pairs[i].sees || !nameable(names, &ranges[i]))
			continue;
		pairs[i].sees = ++names->last;
		tensor_map_set_name(map, ranges[i].begin, ranges[i].end, pairs[i].sees);
	}
}

void names_make(struct names *names, struct run_names *run, struct tensor_map *map,
		const struct dw_args *args, const struct range *ranges, struct frame_names *pairs)
{
	uint64_t made = 0;

	if (pairs)
		name_inputs(names, map, args, ranges, pairs);
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		uint64_t name = 0;

		if (args->tags[i] == DW_INPUT)
			continue;
		if (args->tags[i] != DW_NO_DEP && nameable(names, &ranges[i])) {
			if (!made)
				made = ++names->last;
			name = made;
		}
		given_lose(run, &ranges[i]);
		tensor_map_set_name(map, ranges[i].begin, ranges[i].end, name);
		if (pairs)
			pairs[i].makes = name;
	}
}

void names_lose(struct run_names *run, struct tensor_map *map, const struct dw_args *args,
		const struct range *ranges)
{
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		if (args->tags[i] == DW_INPUT)
			continue;
		given_lose(run, &ranges[i]);
		tensor_map_set_name(map, ranges[i].begin, ranges[i].end, 0);
	}
}
