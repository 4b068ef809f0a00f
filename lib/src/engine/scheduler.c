/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Which worker gets which task, and when.
 *
 *   ready, may go anywhere   pool->any, FIFO      → the worker that pick() says
 *   ready, directed          ring->directed, FIFO → that worker's ring
 *   pending, all unfinished  ring->chained, FIFO  → the same ring, behind them
 *   producers in one ring
 *   ready group              pool->groups, FIFO   → all its rings at once (group.c)
 *
 * Few workers that are awake get work before many that sleep: a sleeping one is
 * woken when the work in front of the others takes longer than its wake-up, and for
 * less only if there is a CPU for it. What a worker has not started is taken back when
 * another has nothing to do.
 */
#include <errno.h>
#include "engine/completion.h"
#include "engine/group.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
#include "engine/state.h"
#include "engine/timer.h"
#include "engine/wait.h"

/* Workers that pick() looks at before it is content. */
#define PROBES 8

/* ------------------------------------------------------------------- queues */

static struct task_list *ready_queue(struct engine *engine, const struct task *task)
{
	if (task->flags & FLAG_GROUP)
		return &engine->pools[task->pool].groups;
	if (task->worker != DW_ANY)
		return &engine->rings[task->worker].directed;
	return &engine->pools[task->pool].any;
}

const char *pool_cause(const struct engine *engine, uint32_t pool)
{
	for (uint32_t i = 0; i < engine->worker_count; i++)
		if (engine->rings[i].pool == pool && engine->rings[i].cause)
			return engine->rings[i].cause;
	return "none was ever there";
}

/* No worker can ever take it. */
static void fail_unschedulable(struct engine *engine, struct task *task)
{
	char name[ERROR_TEXT_BYTES / 2];
	struct worker_ring *ring = task->worker != DW_ANY ? &engine->rings[task->worker] : NULL;

	task_describe(task, name, sizeof(name));
	if (ring)
		run_error(task->run, -ENODEV, "%s: %s: ENODEV: it must run there: %s",
			  ring->path, name, ring->cause ? ring->cause : "the worker is gone");
	else
		run_error(task->run, -ENODEV, "%s: %s: ENODEV: no worker of its kind is left: %s",
			  engine->path, name, pool_cause(engine, task->pool));
	task->failed_by = task->head.number;
	task_finish(engine, task, TASK_FAILED);
}

void task_ready(struct engine *engine, struct task *task)
{
	struct worker_ring *ring = NULL;

	task->head.state = TASK_READY;
	task->order = ++engine->order;
	PROBE(engine, task, task, PROBE_READY);
	if (task->worker != DW_ANY)
		ring = &engine->rings[task->worker];
	if (UNLIKELY(ring ? ring_is_lost(ring) : !engine->pools[task->pool].usable)) {
		fail_unschedulable(engine, task);
		return;
	}
	queue_push(ready_queue(engine, task), task, QUEUE_READY);
	engine->queued = true;
	if (ring)
		bit_set(engine->wanting, ring->index);
}

/* Takes a task out of the queue that it is in, if it is in one. */
void task_unqueue(struct engine *engine, struct task *task)
{
	if (task->queue == QUEUE_CHAINED)
		queue_remove(&engine->rings[task->chain].chained, task);
	else if (task->queue == QUEUE_READY)
		queue_remove(ready_queue(engine, task), task);
}

static bool fill_allows(const struct worker_ring *ring)
{
	return ring_outstanding(ring) < FILL_TASKS || ring->load_ns < FILL_NS;
}

bool task_try_chain(struct engine *engine, struct task *task, struct task *producer)
{
	struct worker_ring *ring;

	if (task->queue == QUEUE_CHAINED)
		return true;
	if (task->head.state != TASK_PENDING)
		return task->head.state == TASK_RUNNING;
	if (task->in_chain != task->waiting || !task->waiting || task_skips(task) ||
	    task->flags & FLAG_GROUP)
		return false;
	ring = &engine->rings[task->chain];
	if (task->worker != DW_ANY) {
		if (task->worker != ring->index)
			return false;
	} else {
		struct pool *pool = &engine->pools[task->pool];

		/* Others could run it at the same time as its siblings: one follows, or short ones. */
		if (task->pool != ring->pool)
			return false;
		if (pool->up > 1 && producer->flags & FLAG_CHAINED &&
		    ring->load_ns + estimate_of(engine, task->callable) > WAKE_COST_NS)
			return false;
	}
	producer->flags |= FLAG_CHAINED;
	task->order = ++engine->order;
	queue_push(&ring->chained, task, QUEUE_CHAINED);
	engine->queued = true;
	bit_set(engine->wanting, ring->index);
	return true;
}

/* -------------------------------------------------------------------- pick */

/* A worker that has nothing to do and is awake, as far as one can see. */
static uint32_t pick_idle_awake(struct engine *engine, struct pool *pool)
{
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = pool->idle[word] & pool->awake[word] & pool->open[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			if (!hub_peer_asleep(engine->hub, i))
				return i;
			bit_clear(pool->awake, i);
		}
	}
	return NO_WORKER;
}

static uint32_t pick_idle(struct engine *engine, struct pool *pool)
{
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = pool->idle[word] & pool->open[word];

		if (bits)
			return bits_first(bits, word);
	}
	return NO_WORKER;
}

/* Among the next few busy ones after the current: the one with the least to do. */
static uint32_t pick_least_loaded(struct engine *engine, struct pool *pool)
{
	uint32_t start = (pool->current + 1) % engine->worker_count, best = NO_WORKER, probes = 0;

	for (uint32_t step = 0; step <= engine->words && probes < PROBES; step++) {
		uint32_t word = (start / 64 + step) % engine->words;
		uint64_t bits = pool->open[word] & ~pool->idle[word];

		if (step == 0)
			bits &= ~0ULL << (start % 64);
		else if (step == engine->words)
			bits &= (1ULL << (start % 64)) - 1;
		for (uint32_t i; probes < PROBES && bits_next(&bits, word, &i); probes++) {
			if (fill_allows(&engine->rings[i]) &&
			    (best == NO_WORKER ||
			     engine->rings[i].load_ns < engine->rings[best].load_ns))
				best = i;
		}
	}
	return best;
}

/* Its ring is full, of so short tasks that another wakes no sooner. */
static bool soon_has_room(const struct engine *engine, const struct worker_ring *ring)
{
	return ring->state == RING_UP && !ring->corrupt && ring_outstanding(ring) == engine->depth &&
	       ring->load_ns < WAKE_COST_NS;
}

/* Those with work and this thread are as many as the CPUs: one more would only take turns with them. */
static bool cpus_are_taken(const struct engine *engine, const struct pool *pool)
{
	uint32_t busy = 0;

	for (uint32_t word = 0; word < engine->words; word++)
		busy += (uint32_t)__builtin_popcountll(pool->mask[word] & ~pool->idle[word]);
	return busy + 1 >= engine->cpus;
}

/* The worker for the next task that may go anywhere, or NO_WORKER: all have enough. */
static uint32_t pick(struct engine *engine, struct pool *pool)
{
	uint32_t i = pool->current, other;

	if (pool->up == 1 && i != NO_WORKER && engine->rings[i].state == RING_UP)
		return bit_test(pool->open, i) && fill_allows(&engine->rings[i]) ? i : NO_WORKER;
	/* The common case of short tasks first: whoever had the last one. */
	if (i != NO_WORKER && bit_test(pool->open, i) && !bit_test(pool->idle, i) &&
	    engine->rings[i].load_ns < WAKE_COST_NS &&
	    (pool->up == 1 || engine->rings[i].load_ns < REVOKE_AWAKE_NS))
		return i;
	if (i != NO_WORKER && soon_has_room(engine, &engine->rings[i]) && cpus_are_taken(engine, pool))
		return NO_WORKER;
	i = pick_idle_awake(engine, pool);
	if (i != NO_WORKER)
		return i;
	other = pool->current == NO_WORKER ? NO_WORKER : pick_least_loaded(engine, pool);
	if (other != NO_WORKER && engine->rings[other].load_ns < WAKE_COST_NS)
		return other;
	i = pick_idle(engine, pool);
	return i != NO_WORKER ? i : other;
}

/* ---------------------------------------------------------------- dispatch */

void dispatch_pool(struct engine *engine, struct pool *pool)
{
	struct task *task;
	struct worker_ring *ring;
	uint32_t i;

	while ((task = pool->any.first) && !pool->saturated) {
		i = pick(engine, pool);
		if (i == NO_WORKER) {
			straggler_watch(engine, pool);
			pool->saturated = true;
			return;
		}
		pool->current = i;
		ring = &engine->rings[i];
		/* What must go there and has waited for longer goes first, or it would wait for ever. */
		if (UNLIKELY(ring->directed.first && ring->directed.first->order < task->order &&
			     ring_has_room(engine, ring))) {
			dispatch_ring(engine, ring);
			continue;
		}
		queue_remove(&pool->any, task);
		if (pool->any.first)
			task_prefetch(pool->any.first->next);
		if (ring_outstanding(ring))
			straggler_watch(engine, pool);
		ring_post(engine, ring, task, 0);
	}
}

/* The oldest of what this worker could take, taken out of its queue; NULL: nothing now. */
static struct task *next_for(struct engine *engine, struct worker_ring *ring)
{
	struct pool *pool = &engine->pools[ring->pool];
	struct task *task = ring->chained.first, *directed = ring->directed.first;
	struct task_list *list = &ring->chained;

	if (directed && (!task || directed->order < task->order)) {
		task = directed;
		list = &ring->directed;
	}
	if (!task)
		return NULL;
	if (pool->any.first && pool->any.first->order < task->order) {
		/* Rings that are filled with what came later would keep it waiting for ever. */
		if (!fill_allows(ring))
			return NULL;
		task = pool->any.first;
		list = &pool->any;
	}
	queue_remove(list, task);
	return task;
}

void dispatch_ring(struct engine *engine, struct worker_ring *ring)
{
	struct task *task;

	if (UNLIKELY(ring->controls != NULL))
		ring_post_controls(engine, ring);
	while (ring_has_room(engine, ring) && !ring->reserved) {
		task = next_for(engine, ring);
		if (!task) {
			if (!ring->directed.first && !ring->chained.first)
				bit_clear(engine->wanting, ring->index);
			return;
		}
		ring_post(engine, ring, task, 0);
	}
}

/* What cannot go anywhere now is looked at again when a ring has got room. */
void dispatch_all(struct engine *engine)
{
	if (!engine->queued)
		return;
	engine->queued = false;
	for (uint32_t i = 0; i < engine->pool_count; i++)
		if (UNLIKELY(engine->pools[i].groups.first != NULL))
			group_admit(engine, &engine->pools[i]);
	for (uint32_t i = 0; i < engine->pool_count; i++)
		if (engine->pools[i].any.first)
			dispatch_pool(engine, &engine->pools[i]);
	/* After the pools: what was posted there may have brought followers into chained queues. */
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = engine->wanting[word];

		for (uint32_t i; bits_next(&bits, word, &i);)
			dispatch_ring(engine, &engine->rings[i]);
	}
}

/*
 * Rings whose queues still hold something are refilled before they run dry. Not for a
 * submitter, who comes by again by himself.
 */
void ask_for_refill(struct engine *engine)
{
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = engine->active[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			struct worker_ring *ring = &engine->rings[i];

			if (!ring->requests && ring_outstanding(ring) > 1 &&
			    (engine->pools[ring->pool].any.first || ring->directed.first ||
			     ring->chained.first))
				ring_request_notify(engine, ring,
					    ring->head + (ring_outstanding(ring) - 1) / 2);
		}
	}
}

/* --------------------------------------------------------------- take-back */

/* Whether another task sits in the ring because this one is before it. */
static bool is_chained(const struct task *task, const struct worker_ring *ring)
{
	for (const struct edge *edge = task->first; edge; edge = edge->next)
		if (edge->consumer->head.state == TASK_RUNNING &&
		    edge->consumer->placed == ring->index)
			return true;
	return false;
}

/* Takes up to `wanted` tasks from the end of a ring; in the order in which they were posted. */
static struct task *revoke_from(struct engine *engine, struct worker_ring *ring, uint32_t wanted)
{
	struct task *taken = NULL;

	for (uint32_t number = ring->tail; wanted && number != ring->head + 1; number--) {
		struct entry *entry = ring_entry(engine, ring, number - 1);
		struct task *task = entry->task;

		/* One whose producer failed comes back by itself, and must not run elsewhere. */
		if (!(entry->flags & ENTRY_ANY) || !task || task->waiting || task_skips(task) ||
		    is_chained(task, ring))
			continue;
		if (!ring_revoke(engine, ring, number - 1))
			break;
		task->next = taken;
		taken = task;
		wanted--;
	}
	return taken;
}

/* The worker of the pool with the most work that others could do. */
static struct worker_ring *most_loaded(struct engine *engine, struct pool *pool)
{
	struct worker_ring *most = NULL;

	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = engine->active[word] & pool->mask[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			struct worker_ring *ring = &engine->rings[i];

			if (ring->any_waiting && (!most || ring->load_ns > most->load_ns))
				most = ring;
		}
	}
	return most;
}

/*
 * Gives half of what the most loaded worker has not started to one that has nothing
 * to do, again and again, while that is worth the trouble.
 */
void balance(struct engine *engine, struct pool *pool)
{
	while (pool->any_waiting && !pool->any.first) {
		uint32_t i = pick_idle_awake(engine, pool);
		uint64_t worth = REVOKE_AWAKE_NS;
		struct task *task, *next;
		struct worker_ring *from;

		if (i == NO_WORKER) {
			i = pick_idle(engine, pool);
			worth = REVOKE_ASLEEP_NS;
		}
		from = i == NO_WORKER ? NULL : most_loaded(engine, pool);
		if (!from)
			return;
		if (from->load_ns - ring_entry(engine, from, from->head)->estimate_ns < worth) {
			straggler_watch(engine, pool);
			return;
		}
		task = revoke_from(engine, from, (from->any_waiting + 1) / 2);
		if (!task)
			return;
		for (; task; task = next) {
			next = task->next;
			task->head.state = TASK_READY;
			ring_post(engine, &engine->rings[i], task, 0);
		}
		pool->current = i;
	}
}

/*
 * What this worker does takes longer than was thought, and others have nothing to do:
 * all that may go elsewhere goes back to the head of the queue, and the worker counts as busy.
 */
void requeue_stragglers(struct engine *engine, struct worker_ring *ring, uint64_t busy_ns)
{
	struct pool *pool = &engine->pools[ring->pool];
	struct entry *entry = ring_entry(engine, ring, ring->head);
	struct task *task = revoke_from(engine, ring, ring->any_waiting), *next;
	struct task *before = pool->any.first;

	for (; task; task = next) {
		next = task->next;
		task->head.state = TASK_READY;
		queue_insert(&pool->any, task, before);
	}
	if (entry->estimate_ns < busy_ns) {
		ring->load_ns += busy_ns - entry->estimate_ns;
		entry->estimate_ns = (uint32_t)busy_ns;
	}
	pool->saturated = false;
	engine->queued = true;
}

/* -------------------------------------------------------------------- work */

static void harvest_pending(struct engine *engine)
{
	engine->any_pending = false;
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = engine->pending[word];

		engine->pending[word] = 0;
		for (uint32_t i; bits_next(&bits, word, &i);)
			ring_harvest(engine, &engine->rings[i], UINT32_MAX);
	}
}

static void harvest_and_dispatch(struct engine *engine)
{
	engine->since_harvest = 0;
	for (uint32_t i = 0; (i = hub_next_ready(engine->hub, i)) < engine->worker_count; i++)
		ring_harvest(engine, &engine->rings[i], UINT32_MAX);
	do {
		if (engine->any_pending)
			harvest_pending(engine);
		finish_all(engine);
		dispatch_all(engine);
		for (uint32_t i = 0; i < engine->pool_count; i++)
			if (engine->pools[i].any_waiting)
				balance(engine, &engine->pools[i]);
		rings_publish(engine);
	} while (engine->any_pending || engine->finished || engine->queued);
	waiters_settle(engine);
}

void engine_work(struct engine *engine)
{
	if (!engine->hub) {
		finish_all(engine);
		waiters_settle(engine);
		return;
	}
	harvest_and_dispatch(engine);
}

void engine_work_some(struct engine *engine)
{
	uint32_t i;

	if (engine->any_pending)
		harvest_pending(engine);
	if (++engine->since_harvest >= HARVEST_EVERY && LIKELY(engine->hub != NULL)) {
		engine->since_harvest = 0;
		for (uint32_t rings = 0; rings < 4; rings++) {
			i = hub_next_ready(engine->hub, engine->cursor);
			if (i >= engine->worker_count) {
				engine->cursor = 0;
				break;
			}
			ring_harvest(engine, &engine->rings[i], UINT32_MAX);
			engine->cursor = i + 1;
		}
	}
	if (engine->finished)
		finish_all(engine);
	while (engine->queued || engine->any_pending) {
		dispatch_all(engine);
		if (UNLIKELY(engine->any_pending))
			harvest_pending(engine);
	}
	if (engine->waiters || engine->foreground)
		waiters_settle(engine);
	if (engine->hub)
		hub_polled(engine->hub);
}

/*
 * A worker that is woken on this CPU may run before its waker goes on, and be done with all that it had. The waker
 * counts as driving meanwhile, so that nobody wakes the background thread for what is harvested here. Not for who
 * submits one task after the other: a worker that has nobody to wake sleeps at once, and would be woken for each of them.
 */
static void wake_and_drive(struct engine *engine)
{
	hub_drive_begin(engine->hub);
	engine->wake = engine->waited = false;
	lock_give(&engine->lock);
	hub_wake(engine->hub);
	lock_take(&engine->lock);
	/* Else another thread drives by now. */
	if (!engine->foreground) {
		hub_drive_end(engine->hub);
		if (hub_next_ready(engine->hub, 0) < engine->worker_count)
			harvest_and_dispatch(engine);
	}
}

void engine_unlock_and_wake(struct engine *engine)
{
	bool wake;

	if (UNLIKELY(engine->wake && engine->waited && !engine->foreground))
		wake_and_drive(engine);
	wake = engine->wake;
	if (wake)
		engine->waited = false;
	engine->wake = false;
	lock_give(&engine->lock);
	if (wake)
		hub_wake(engine->hub);
}
