/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * schedule, continued: pools come, go, and count their workers. See schedule.h.
 */
#include <errno.h>
#include <stdlib.h>
#include "engine/schedule.h"
#include "mailbox/spin.h"

static uint64_t *bitmap_new(const struct ring_set *rings)
{
	return calloc(rings->words ? rings->words : 1, sizeof(uint64_t));
}

static struct pool *find_pool(const struct schedule *schedule, const struct worker_ring *ring)
{
	for (uint32_t i = 0; i < schedule->pool_count; i++) {
		struct pool *pool = &schedule->pools[i];

		if (pool->kind == ring->kind &&
		    (ring->kind != DW_CHILD_CHIP || strcmp(pool->driver, ring->driver) == 0))
			return pool;
	}
	return NULL;
}

static struct pool *add_pool(struct schedule *schedule, const struct worker_ring *ring)
{
	struct pool *pool = &schedule->pools[schedule->pool_count++];

	pool->kind = ring->kind;
	pool->driver = ring->driver;
	pool->current = NO_WORKER;
	ready_init(&pool->any);
	ready_init(&pool->groups);
	pool->mask = bitmap_new(schedule->rings);
	pool->takers = bitmap_new(schedule->rings);
	return pool->mask && pool->takers ? pool : NULL;
}

static int add_ring(struct schedule *schedule, struct worker_ring *ring,
		    const struct engine_worker *worker)
{
	struct pool *pool = find_pool(schedule, ring);

	if (ring->kind == DW_CHILD_SUB)
		schedule->sub_count++;
	if (!pool)
		pool = add_pool(schedule, ring);
	if (!pool)
		return -ENOMEM;
	ring_join_pool(ring, (uint16_t)(pool - schedule->pools));
	pool->elsewhere |= worker->elsewhere;
	pool->has_memory |= worker->has_memory;
	if (worker->has_memory)
		pool->flags |= POOL_NEAR;
	pool->members++;
	pool->usable++;
	bit_set(pool->mask, ring->index);
	bit_set(pool->takers, ring->index);
	ready_init(&schedule->queues[ring->index].directed);
	queue_init(&schedule->queues[ring->index].chained);
	return 0;
}

int schedule_init(struct schedule *schedule, const struct engine_options *options,
		  struct ring_set *rings, struct graph *graph)
{
	uint32_t count = rings->count;
	int result = 0;

	schedule->rings = rings;
	schedule->graph = graph;
	schedule->probe = options->probe;
	schedule->cpus = spin_cpus();
	schedule->pools = calloc(count ? count : 1, sizeof(*schedule->pools));
	schedule->queues = calloc(count ? count : 1, sizeof(*schedule->queues));
	schedule->wanting = bitmap_new(rings);
	if (!schedule->pools || !schedule->queues || !schedule->wanting)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && result == 0; i++)
		result = add_ring(schedule, &rings->all[i], &options->workers[i]);
	return result;
}

void schedule_release(struct schedule *schedule)
{
	for (uint32_t i = 0; i < schedule->pool_count; i++) {
		free(schedule->pools[i].takers);
		free(schedule->pools[i].mask);
	}
	free(schedule->pools);
	free(schedule->queues);
	free(schedule->wanting);
}

const char *schedule_cause(const struct schedule *schedule, uint32_t pool)
{
	for (uint32_t i = 0; i < schedule->rings->count; i++)
		if (schedule->rings->all[i].pool == pool && schedule->rings->all[i].cause)
			return schedule->rings->all[i].cause;
	return "none was ever there";
}

void schedule_count(struct schedule *schedule, const struct worker_ring *ring, int up, int usable)
{
	struct pool *pool = &schedule->pools[ring->pool];

	if (up < 0) {
		affinity_forget(&schedule->graph->affinity, ring->index);
		ahead_drop(schedule, ring);
	}
	pool->up += (uint32_t)up;
	pool->usable += (uint32_t)usable;
	schedule_ring_moved(schedule, ring);
}

void schedule_takers(struct schedule *schedule, const struct worker_ring *ring)
{
	struct pool *pool = &schedule->pools[ring->pool];
	const struct ring_set *rings = schedule->rings;
	bool any = false;

	for (uint32_t i = 0; i < rings->count && !any; i++)
		any = bit_test(pool->mask, i) && rings->all[i].state == RING_UP &&
		      !rings->all[i].stopped;
	for (uint32_t i = 0; i < rings->count; i++) {
		if (!bit_test(pool->mask, i))
			continue;
		if (any && rings->all[i].stopped)
			bit_clear(pool->takers, i);
		else
			bit_set(pool->takers, i);
	}
	if (pool->current != NO_WORKER && !bit_test(pool->takers, pool->current))
		pool->current = NO_WORKER;
	schedule_pool_moved(schedule, pool);
}
