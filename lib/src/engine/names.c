/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See names.h.
 */
#include <errno.h>
#include <stdlib.h>
#include "base/text.h"
#include "callable/callable.h"
#include "engine/engine.h"
#include "engine/names.h"
#include "memory/arena.h"
#include "task/error.h"

#define SERIAL_BITS 56

void names_init(struct names *names, const struct engine_options *options)
{
	names->last = (uint64_t)options->level << SERIAL_BITS;
	names->arena = options->arena;
	for (uint32_t i = 0; i < options->worker_count; i++)
		names->on |= options->workers[i].has_memory;
	names->checks = names->on;
}

static struct range range_of(const struct dw_tensor *tensor)
{
	uint64_t bytes = 0;

	dw_tensor_bytes(tensor, &bytes);
	return (struct range){ tensor->data, tensor->data + bytes };
}

void names_release(struct names *names)
{
	kept_release(&names->kept);
}

int names_keep(struct names *names, const struct range *range)
{
	names->checks = true;
	return kept_add(&names->kept, range);
}

void names_forget_buffer(struct names *names, uint64_t begin)
{
	kept_remove(&names->kept, begin);
}

void names_written(struct names *names, const struct range *range)
{
	struct kept_buffer *buffer = kept_find(&names->kept, range);

	if (buffer)
		kept_set_name(buffer, range, ++names->last);
}

/* --------------------------------------------------------------- nested runs */

/* Whether the task may write bytes that it also reads as tensor i. */
static bool written_too(const struct dw_args *args, const struct frame_names *names, uint32_t i)
{
	struct range range = range_of(&args->tensors[i]);

	for (uint32_t j = 0; j < args->tensor_count; j++) {
		struct range other = range_of(&args->tensors[j]);

		if ((names[j].makes || !names[j].sees) && ranges_overlap(&range, &other))
			return true;
	}
	return false;
}

void run_names_give(struct run_names *run, const struct dw_args *args,
		    const struct frame_names *names)
{
	run->given = malloc((args->tensor_count ? args->tensor_count : 1) * sizeof(*run->given));
	if (!run->given)
		return;
	for (uint32_t i = 0; i < args->tensor_count; i++)
		if (names[i].sees && !written_too(args, names, i))
			run->given[run->given_count++] = (struct given_name){
				range_of(&args->tensors[i]), names[i].sees,
			};
}

void run_names_free(struct run_names *run)
{
	free(run->given);
}

/* The name of a given range that has all of these bytes; 0: there is none. */
static uint64_t given_name(const struct run_names *run, const struct range *range)
{
	for (uint32_t i = 0; i < run->given_count; i++)
		if (range->begin >= run->given[i].range.begin &&
		    range->end <= run->given[i].range.end)
			return run->given[i].name;
	return 0;
}

/* --------------------------------------------------------------------- tasks */

/* A range that other processes may write at any time has no name. */
static inline bool nameable(const struct names *names, const struct range *range)
{
	return range->begin < range->end &&
	       !arena_is_registered(names->arena, range->begin, range->end - range->begin);
}

static uint64_t name_of(const struct names *names, const struct run_names *run,
			struct tensor_map *map, const struct range *range)
{
	const struct kept_buffer *buffer = kept_find(&names->kept, range);
	uint64_t given = given_name(run, range);

	return given ? given : buffer ? kept_name(buffer, range) :
	       tensor_map_name(map, range->begin, range->end, run->known_after);
}

static void set_name(struct names *names, struct tensor_map *map, const struct range *range,
		     uint64_t name)
{
	struct kept_buffer *buffer = kept_find(&names->kept, range);

	if (buffer)
		kept_set_name(buffer, range, name);
	else
		tensor_map_set_name(map, range->begin, range->end, name);
}

int names_check(const struct names *names, const struct callable *callable,
		const struct dw_args *args, const struct range *ranges)
{
	for (uint32_t i = 0; i < args->tensor_count && i < callable->signature_count; i++)
		if (args->tags[i] == DW_INPUT && callable->signature[i] > DW_DIR_IN)
			return error_set(-EINVAL, "tensor %u is INPUT, but image \"%s\" writes it "
					 "(%s in its signature): it should be %s",
					 i, text_short(callable->name),
					 callable->signature[i] == DW_DIR_OUT ? "OUT" : "INOUT",
					 callable->signature[i] == DW_DIR_OUT ? "OUTPUT" : "INOUT");
	for (uint32_t i = 0; names->kept.count && i < args->tensor_count; i++)
		if (args->tags[i] == DW_NO_DEP && ranges[i].begin < ranges[i].end &&
		    kept_find(&names->kept, &ranges[i]))
			return error_set(-EINVAL,
					 "tensor %u (NO_DEP) lies in a buffer that is kept "
					 "(DW_BUFFER_KEPT): its tag should say what the task does "
					 "there",
					 i);
	return 0;
}

void names_see(const struct names *names, const struct run_names *run, struct tensor_map *map,
	       const struct dw_args *args, const struct range *ranges, struct frame_names *pairs)
{
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		pairs[i] = (struct frame_names){ .tag = args->tags[i] };
		/* Of an OUTPUT, too: what it overwrites (elision.h). */
		if (args->tags[i] != DW_NO_DEP && args->tags[i] != DW_OUTPUT_EXISTING &&
		    nameable(names, &ranges[i]))
			pairs[i].sees = name_of(names, run, map, &ranges[i]);
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
		set_name(names, map, &ranges[i], pairs[i].sees);
	}
}

void names_make(struct names *names, struct tensor_map *map, const struct dw_args *args,
		const struct range *ranges, struct frame_names *pairs)
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
		set_name(names, map, &ranges[i], name);
		if (pairs)
			pairs[i].makes = name;
	}
}

void names_lose(struct names *names, struct tensor_map *map, const struct dw_args *args,
		const struct range *ranges)
{
	for (uint32_t i = 0; i < args->tensor_count; i++)
		if (args->tags[i] != DW_INPUT)
			set_name(names, map, &ranges[i], 0);
}
