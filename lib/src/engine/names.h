/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * names: which contents the tensors of a task have, so that a worker with memory of its own (a
 * chip, or a nested Worker with chips below) fetches nothing twice. docs/spaces.md is the model.
 *
 * Owns: struct names, which gives names in an engine, and struct run_names, the part of a run.
 * The names of bytes lie in the run's tensor map, in the order of submits.
 *
 * A name is the level of the engine << 56 | a serial that rises: no two engines on the way from the
 * root to a chip give the same. 0 means unknown: such contents are always fetched. All attempts of
 * a task have the same names, since it gets them at its submit.
 *
 * Invariants: bytes whose contents may have been changed by anything but a task of the run have no
 * name: after each wait, in registered memory, and behind tensors without dependencies. Those of
 * kept buffers (kept.h), and of tensors that the task which a nested run is only reads, keep theirs
 * over waits. A name is never withdrawn from a cache: it is not asked for again.
 *
 * Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_NAMES_H
#define DW_ENGINE_NAMES_H

#include <distworker/distworker.h>
#include "base/range.h"
#include "depend/tensor_map.h"
#include "engine/kept.h"
#include "engine/task.h"
#include "mailbox/frame.h"

struct arena;
struct engine_options;

struct names {
	bool on;			/* a worker of this engine has memory of its own */
	bool checks;			/* names_check() may find something */
	uint64_t last;			/* the name that was given last */
	const struct arena *arena;
	struct kept_set kept;
};

/* Bytes that the task which a nested run is only reads, with their name one level above. */
struct given_name {
	struct range range;
	uint64_t name;
};

struct run_names {
	uint64_t known_after;		/* names up to this one have become unknown */
	struct given_name *given;
	uint32_t given_count;
};

void names_init(struct names *names, const struct engine_options *options);
void names_release(struct names *names);
/* A kept buffer, until it is destroyed: 0, or -ENOMEM with a text. */
int names_keep(struct names *names, const struct range *range);
void names_forget_buffer(struct names *names, uint64_t begin);
/* Host code has written bytes: if a kept buffer has them, their contents are new. */
void names_written(struct names *names, const struct range *range);

/* The tensors of the task that a nested run is, with their names. Without memory: none. */
void run_names_give(struct run_names *run, const struct dw_args *args,
		    const struct frame_names *names);
void run_names_free(struct run_names *run);
/* The orchestration function may have written to any memory since. */
static inline void run_names_forget(struct run_names *run, const struct names *names)
{
	run->known_after = names->last;
}

/*
 * -EINVAL: a tensor without dependencies lies in a kept buffer; an image writes what a tag calls
 * INPUT, as far as its signature is known here.
 */
int names_check(const struct names *names, const struct callable *callable,
		const struct dw_args *args, const struct range *ranges);
/*
 * Around the registration of a new task's accesses: the names that its tensors have (`see`,
 * before), and those that they get (`make`, after). `pairs`: one for each tensor; NULL: the task's
 * worker needs none.
 */
void names_see(const struct names *names, const struct run_names *run, struct tensor_map *map,
	       const struct dw_args *args, const struct range *ranges, struct frame_names *pairs);
void names_make(struct names *names, struct tensor_map *map, const struct dw_args *args,
		const struct range *ranges, struct frame_names *pairs);
/* A member of a group: the bytes that it may write become unknown. */
void names_lose(struct names *names, struct tensor_map *map, const struct dw_args *args,
		const struct range *ranges);

/* The tensors of a task, with their names; *names is NULL where it has none. */
static inline const struct dw_tensor *names_of(const struct payload *payload, uint32_t *count,
					       const struct frame_names **names)
{
	const unsigned char *copy = payload->copy;

	memcpy(count, copy, sizeof(*count));
	*names = payload->frame_flags & FRAME_NAMED ?
		 (const void *)(copy + payload->bytes - *count * sizeof(**names)) : NULL;
	return (const void *)(copy + WIRE_HEADER_BYTES);
}

#endif
