/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * state: the parts of an engine. Each member is a module of its own, whose header says what it owns
 * and whose source alone writes its fields; all are guarded by `lock`.
 *
 * Modules up to schedule_group are given their own struct and know nothing of this one. Those above
 * put the others together, and are given the engine.
 */
#ifndef DW_ENGINE_STATE_H
#define DW_ENGINE_STATE_H

#include "base/lock.h"
#include "engine/background.h"
#include "engine/chip_memory.h"
#include "engine/counters.h"
#include "engine/graph.h"
#include "engine/progress.h"
#include "engine/record.h"
#include "engine/ring.h"
#include "engine/run_set.h"
#include "engine/schedule.h"
#include "engine/timer.h"

struct engine {
	struct lock lock;		/* its waiters read the word all the time */
	LINE_ALIGNED struct counters counters;
	struct timer timer;
	struct ring_set rings;
	struct graph graph;
	struct schedule schedule;
	struct progress progress;
	struct chip_memory chip_memory;
	struct record_set records;
	struct run_set runs;
	struct background background;

	/* Set by engine_create(), and the same ever after. */
	struct heap *heap;
	struct arena *arena;
	const struct arena *outer_arena;	/* of the ancestors; NULL: none, or not checked */
	char *path;
	uint64_t heap_timeout_ns, init_timeout_ns;
	uint32_t process;		/* process_serial() of the process that owns it */
};

#endif
