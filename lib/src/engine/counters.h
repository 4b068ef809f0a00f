/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * counters: the statistics of one engine, and its status in shared memory.
 *
 * Owns: struct counters. Each number is counted in private memory and copied to `shown`, which lies
 * where a corrupt child can write and is therefore never read here. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_COUNTERS_H
#define DW_ENGINE_COUNTERS_H

#include "engine/engine.h"

struct counters {
	struct dw_engine_stats stats;
	struct engine_status *shown, own;
};

#define COUNTER(field) \
	static inline void count_##field(struct counters *counters) \
	{ \
		counters->stats.field++; \
		__atomic_store_n(&counters->shown->stats.field, counters->stats.field, \
				 __ATOMIC_RELAXED); \
	}
COUNTER(submitted)
COUNTER(done)
COUNTER(failed)
COUNTER(skipped)
COUNTER(retried)
COUNTER(deaths)
COUNTER(restarts)
#undef COUNTER

/* `shown` NULL: the status is not shared. */
static inline void counters_init(struct counters *counters, struct engine_status *shown,
				 enum dw_provider provider)
{
	counters->shown = shown ? shown : &counters->own;
	/* A replacement counts from the beginning. */
	*counters->shown = (struct engine_status){ .stats.provider = provider };
}

static inline void counters_runs(struct counters *counters, uint32_t runs)
{
	__atomic_store_n(&counters->shown->runs, runs, __ATOMIC_RELAXED);
}

/* A submitter waits since `since`, or goes on (BLOCKED_NOT). */
static inline void counters_blocked(struct counters *counters, enum blocked why, uint64_t since)
{
	if (why != BLOCKED_NOT)
		__atomic_store_n(&counters->shown->blocked_since, since, __ATOMIC_RELAXED);
	__atomic_store_n(&counters->shown->blocked, why, __ATOMIC_RELAXED);
}

#endif
