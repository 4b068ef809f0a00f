/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The state of one engine, all of it guarded by engine->lock. Its parts are explained where they
 * are used: tasks in task.h, rings in ring.h, pools in schedule.h, runs in run.h, waiters in wait.h.
 */
#ifndef DW_ENGINE_STATE_H
#define DW_ENGINE_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include "base/bits.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/slab.h"
#include "engine/engine.h"
#include "memory/heap.h"

#define NO_WORKER	UINT32_MAX
#define ESTIMATES	256	/* callables whose run time is known */

#define LIKELY(x)	__builtin_expect(!!(x), 1)
#define UNLIKELY(x)	__builtin_expect(!!(x), 0)

struct chip_block;
struct dw_run;
struct worker_ring;
struct pool;
struct task;
struct waiter;

struct engine {
	struct lock lock;
	bool wake;			/* rings are marked: hub_wake() after the lock */
	bool waited;			/* somebody has waited since rings were woken last */
	bool stopping, closing;
	uint32_t worker_count, sub_count;
	uint32_t words;			/* of the bitmaps */
	uint32_t depth;
	uint32_t cpus;			/* that this process, and so its children, may use */
	uint32_t payload;		/* of a frame */
	struct hub *hub;
	struct arena *arena;
	const struct arena *outer_arena;	/* of the ancestors; NULL: none, or not checked */
	struct heap *heap;
	struct worker_ring *rings;
	struct pool *pools;
	uint32_t pool_count;
	bool queued;			/* something may be in a queue of a pool or a ring */
	uint64_t *active;		/* rings with frames that were not harvested */
	uint64_t *unpublished;		/* rings with frames that were not published */
	uint64_t *pending;		/* rings of which hub_request_notify() said: complete already */
	uint64_t *wanting;		/* rings whose directed or chained queue is not empty */
	bool any_pending;
	uint32_t cursor;		/* where the next partial harvest begins */
	uint32_t since_harvest;
	uint64_t submits;		/* calls; the background thread sees whether somebody is at it */
	uint64_t order;

	struct task **chunks;
	uint32_t chunk_count, chunk_space;
	struct task *free_tasks;
	uint64_t live_tasks;
	struct slab edges;
	struct task *finished, *last_finished;	/* states set, consequences to be drawn */
	uint64_t heap_serial;		/* counts blocks that came back */
	uint32_t heap_waiters;		/* submitters that wait for that: every end may matter */

	uint32_t estimates[ESTIMATES];	/* ns, by callable; 0: unknown */
	uint32_t deviations[ESTIMATES];

	struct dw_run *runs;
	uint32_t run_count;
	struct waiter *foreground;
	struct waiter *waiters;

	uint64_t chip_window;		/* addresses of device memory; 0: none so far */
	struct chip_block *chip_blocks;
	uint32_t kept_count;		/* tasks and members in rings' `kept` */
	uint64_t timer_at;		/* NEVER: not armed */
	uint64_t late_ns;		/* sum of all that the timer was late */
	uint64_t late_from, late_until;	/* the last time */
	bool straggler;			/* the timer is armed for stragglers too */
	uint64_t straggler_ns;
	int timer_fd, kick_fd, extra_fd, epoll_fd;
	pthread_t background;
	bool background_runs;
	uint32_t process;		/* process_serial() of the process that owns it */

	char *path;
	uint64_t timeout_ns, heap_timeout_ns, init_timeout_ns;
	bool check_declared;
	const struct engine_ops *ops;
	void *ops_context;
	struct dw_engine_stats stats;
	struct engine_status *status, own_status;	/* copies, never read here */
	struct probe probe;
};

/*
 * One of engine->stats, and its copy for whoever looks. The copy lies where a child that has lost its
 * mind can write, and is not read here.
 */
#define engine_count(engine, field) \
	do { \
		(engine)->stats.field++; \
		__atomic_store_n(&(engine)->status->stats.field, (engine)->stats.field, __ATOMIC_RELAXED); \
	} while (0)

#endif
