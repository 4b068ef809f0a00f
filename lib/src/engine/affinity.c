/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See affinity.h.
 */
#include <errno.h>
#include <stdlib.h>
#include "engine/affinity.h"

#define PLACES 4096
#define TENSORS_MOST 32			/* of a task that are looked at */

int affinity_init(struct affinity *affinity)
{
	affinity->places = calloc(PLACES, sizeof(*affinity->places));
	return affinity->places ? 0 : -ENOMEM;
}

void affinity_release(struct affinity *affinity)
{
	free(affinity->places);
}

static struct affinity_place *place_of(const struct affinity *affinity, uint64_t name)
{
	return &affinity->places[name % PLACES];
}

const struct affinity_place *affinity_find(const struct affinity *affinity, uint64_t name)
{
	const struct affinity_place *place = place_of(affinity, name);

	return name && place->name == name ? place : NULL;
}

static void note(struct affinity *affinity, uint64_t name, uint32_t worker, uint32_t maker,
		 uint32_t frame)
{
	struct affinity_place *place = place_of(affinity, name);

	if (place->name == name && maker == NO_WORKER)
		place->worker = worker;
	else
		*place = (struct affinity_place){ name, worker, maker, frame };
}

void affinity_posted(struct affinity *affinity, const struct worker_ring *ring,
		     const struct task *task)
{
	const struct frame_names *names;
	uint32_t count;

	names_of(&task->payload, &count, &names);
	for (uint32_t i = 0; names && i < count; i++) {
		if (names[i].sees && !names[i].makes)
			note(affinity, names[i].sees, ring->index, NO_WORKER, 0);
		if (names[i].makes)
			note(affinity, names[i].makes, ring->index, ring->index, task->position);
	}
}

void affinity_forget(struct affinity *affinity, uint32_t worker)
{
	for (uint32_t i = 0; affinity->places && i < PLACES; i++)
		if (affinity->places[i].worker == worker || affinity->places[i].maker == worker)
			affinity->places[i] = (struct affinity_place){ 0 };
}

/* How many bytes of what the task reads the worker has. */
static uint64_t bytes_at(const struct affinity *affinity, const struct task *task, uint32_t worker)
{
	const struct affinity_place *place;
	const struct frame_names *names;
	const struct dw_tensor *tensors;
	const uint8_t *tags = payload_tags(&task->payload);
	uint64_t bytes, sum = 0;
	uint32_t count;

	tensors = names_of(&task->payload, &count, &names);
	for (uint32_t i = 0; names && i < count && i < TENSORS_MOST; i++) {
		place = affinity_find(affinity, names[i].sees);
		if (place && place->worker == worker && tags[i] != DW_OUTPUT &&
		    dw_tensor_bytes(&tensors[i], &bytes) == 0)
			sum += bytes;
	}
	return sum;
}

uint32_t affinity_best(const struct affinity *affinity, const struct task *task)
{
	uint32_t count, last = NO_WORKER, best = NO_WORKER;
	const struct affinity_place *place;
	const struct frame_names *names;
	uint64_t bytes, most = 0;

	names_of(&task->payload, &count, &names);
	for (uint32_t i = 0; names && i < count && i < TENSORS_MOST; i++) {
		place = affinity_find(affinity, names[i].sees);
		if (!place || place->worker == last)
			continue;
		last = place->worker;
		bytes = bytes_at(affinity, task, last);
		if (bytes > most) {
			most = bytes;
			best = last;
		}
	}
	return best;
}

uint64_t affinity_ns(const struct affinity *affinity, const struct task *task, uint32_t worker,
		     uint32_t other)
{
	uint64_t here = bytes_at(affinity, task, worker), there = bytes_at(affinity, task, other);
	uint64_t ns = here > there ? (here - there) / AFFINITY_BYTES_PER_NS : 0;

	return ns < AFFINITY_MOST_NS ? ns : AFFINITY_MOST_NS;
}
