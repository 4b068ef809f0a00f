/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Which worker gets which task, and when.
 *
 *   ready, may go anywhere   pool->any, FIFO      → the worker that pick() says
 *   ready, directed          peer->directed, FIFO → that worker's ring
 *   pending, all unfinished  peer->ahead, FIFO    → the same ring, behind them
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
#include "engine/slot.h"
#include "engine/state.h"
#include "engine/timer.h"
#include "engine/wait.h"

/* Workers that pick() looks at before it is content. */
#define PROBES 8

/* ------------------------------------------------------------------- queues */

static struct slot_queue_list *ready_queue(struct engine *engine, const struct slot *slot)
{
	if (slot->flags & SLOT_GROUP)
		return &engine->pools[slot->pool].groups;
	if (slot->worker != DW_ANY)
		return &engine->peers[slot->worker].directed;
	return &engine->pools[slot->pool].any;
}

const char *pool_cause(const struct engine *engine, uint32_t pool)
{
	for (uint32_t i = 0; i < engine->worker_count; i++)
		if (engine->peers[i].pool == pool && engine->peers[i].cause)
			return engine->peers[i].cause;
	return "none was ever there";
}

/* No worker can ever take it. */
static void task_stranded(struct engine *engine, struct slot *slot)
{
	char task[ERROR_TEXT_BYTES / 2];
	struct peer *peer = slot->worker != DW_ANY ? &engine->peers[slot->worker] : NULL;

	task_describe(slot, task, sizeof(task));
	if (peer)
		run_error(slot->run, -ENODEV, "%s: %s: ENODEV: it must run there: %s",
			  peer->path, task, peer->cause ? peer->cause : "the worker is gone");
	else
		run_error(slot->run, -ENODEV, "%s: %s: ENODEV: no worker of its kind is left: %s",
			  engine->path, task, pool_cause(engine, slot->pool));
	slot->blame = slot->head.number;
	task_finish(engine, slot, TASK_FAILED);
}

void task_ready(struct engine *engine, struct slot *slot)
{
	struct peer *peer = NULL;

	slot->head.state = TASK_READY;
	slot->order = ++engine->order;
	PROBE(engine, task, slot, PROBE_READY);
	if (slot->worker != DW_ANY)
		peer = &engine->peers[slot->worker];
	if (UNLIKELY(peer ? peer_is_lost(peer) : !engine->pools[slot->pool].usable)) {
		task_stranded(engine, slot);
		return;
	}
	queue_push(ready_queue(engine, slot), slot, QUEUE_READY);
	engine->queued = true;
	if (peer)
		bit_set(engine->wanting, peer->index);
}

/* Takes a task out of the queue that it is in, if it is in one. */
void task_unqueue(struct engine *engine, struct slot *slot)
{
	if (slot->queue == QUEUE_AHEAD)
		queue_remove(&engine->peers[slot->lane].ahead, slot);
	else if (slot->queue == QUEUE_READY)
		queue_remove(ready_queue(engine, slot), slot);
}

static bool fill_allows(const struct peer *peer)
{
	return peer_outstanding(peer) < FILL_TASKS || peer->load_ns < FILL_NS;
}

bool task_try_ahead(struct engine *engine, struct slot *slot, struct slot *producer)
{
	struct peer *peer;

	if (slot->queue == QUEUE_AHEAD)
		return true;
	if (slot->head.state != TASK_PENDING)
		return slot->head.state == TASK_RUNNING;
	if (slot->in_lane != slot->waiting || !slot->waiting || slot_skips(slot) ||
	    slot->flags & SLOT_GROUP)
		return false;
	peer = &engine->peers[slot->lane];
	if (slot->worker != DW_ANY) {
		if (slot->worker != peer->index)
			return false;
	} else {
		struct pool *pool = &engine->pools[slot->pool];

		/* Others could run it at the same time as its siblings: one follows, or short ones. */
		if (slot->pool != peer->pool)
			return false;
		if (pool->up > 1 && producer->flags & SLOT_FOLLOWED &&
		    peer->load_ns + estimate_of(engine, slot->callable) > WAKE_COST_NS)
			return false;
	}
	producer->flags |= SLOT_FOLLOWED;
	slot->order = ++engine->order;
	queue_push(&peer->ahead, slot, QUEUE_AHEAD);
	engine->queued = true;
	bit_set(engine->wanting, peer->index);
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
			if (fill_allows(&engine->peers[i]) &&
			    (best == NO_WORKER ||
			     engine->peers[i].load_ns < engine->peers[best].load_ns))
				best = i;
		}
	}
	return best;
}

/* Its ring is full, of so short tasks that another wakes no sooner. */
static bool soon_has_room(const struct engine *engine, const struct peer *peer)
{
	return peer->state == PEER_UP && !peer->mad && peer_outstanding(peer) == engine->depth &&
	       peer->load_ns < WAKE_COST_NS;
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

	if (pool->up == 1 && i != NO_WORKER && engine->peers[i].state == PEER_UP)
		return bit_test(pool->open, i) && fill_allows(&engine->peers[i]) ? i : NO_WORKER;
	/* The common case of short tasks first: whoever had the last one. */
	if (i != NO_WORKER && bit_test(pool->open, i) && !bit_test(pool->idle, i) &&
	    engine->peers[i].load_ns < WAKE_COST_NS &&
	    (pool->up == 1 || engine->peers[i].load_ns < TAKE_AWAKE_NS))
		return i;
	if (i != NO_WORKER && soon_has_room(engine, &engine->peers[i]) && cpus_are_taken(engine, pool))
		return NO_WORKER;
	i = pick_idle_awake(engine, pool);
	if (i != NO_WORKER)
		return i;
	other = pool->current == NO_WORKER ? NO_WORKER : pick_least_loaded(engine, pool);
	if (other != NO_WORKER && engine->peers[other].load_ns < WAKE_COST_NS)
		return other;
	i = pick_idle(engine, pool);
	return i != NO_WORKER ? i : other;
}

/* ---------------------------------------------------------------- dispatch */

void dispatch_pool(struct engine *engine, struct pool *pool)
{
	struct slot *slot;
	struct peer *peer;
	uint32_t i;

	while ((slot = pool->any.first) && !pool->saturated) {
		i = pick(engine, pool);
		if (i == NO_WORKER) {
			straggler_watch(engine, pool);
			pool->saturated = true;
			return;
		}
		pool->current = i;
		peer = &engine->peers[i];
		/* What must go there and has waited for longer goes first, or it would wait for ever. */
		if (UNLIKELY(peer->directed.first && peer->directed.first->order < slot->order &&
			     peer_has_room(engine, peer))) {
			dispatch_peer(engine, peer);
			continue;
		}
		queue_remove(&pool->any, slot);
		if (pool->any.first)
			slot_prefetch(pool->any.first->next);
		if (peer_outstanding(peer))
			straggler_watch(engine, pool);
		peer_post(engine, peer, slot, 0);
	}
}

/* The oldest of what this worker could take, taken out of its queue; NULL: nothing now. */
static struct slot *next_for(struct engine *engine, struct peer *peer)
{
	struct pool *pool = &engine->pools[peer->pool];
	struct slot *slot = peer->ahead.first, *directed = peer->directed.first;
	struct slot_queue_list *list = &peer->ahead;

	if (directed && (!slot || directed->order < slot->order)) {
		slot = directed;
		list = &peer->directed;
	}
	if (!slot)
		return NULL;
	if (pool->any.first && pool->any.first->order < slot->order) {
		/* Rings that are filled with what came later would keep it waiting for ever. */
		if (!fill_allows(peer))
			return NULL;
		slot = pool->any.first;
		list = &pool->any;
	}
	queue_remove(list, slot);
	return slot;
}

void dispatch_peer(struct engine *engine, struct peer *peer)
{
	struct slot *slot;

	if (UNLIKELY(peer->controls != NULL))
		peer_post_controls(engine, peer);
	while (peer_has_room(engine, peer) && !peer->reserved) {
		slot = next_for(engine, peer);
		if (!slot) {
			if (!peer->directed.first && !peer->ahead.first)
				bit_clear(engine->wanting, peer->index);
			return;
		}
		peer_post(engine, peer, slot, 0);
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
	/* After the pools: what was posted there may have brought followers into ahead queues. */
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = engine->wanting[word];

		for (uint32_t i; bits_next(&bits, word, &i);)
			dispatch_peer(engine, &engine->peers[i]);
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
			struct peer *peer = &engine->peers[i];

			if (!peer->urgent && peer_outstanding(peer) > 1 &&
			    (engine->pools[peer->pool].any.first || peer->directed.first ||
			     peer->ahead.first))
				peer_urgent(engine, peer,
					    peer->head + (peer_outstanding(peer) - 1) / 2);
		}
	}
}

/* --------------------------------------------------------------- take-back */

/* Whether another task sits in the ring because this one is before it. */
static bool is_followed(const struct slot *slot, const struct peer *peer)
{
	for (const struct edge *edge = slot->first; edge; edge = edge->next)
		if (edge->consumer->head.state == TASK_RUNNING &&
		    edge->consumer->placed == peer->index)
			return true;
	return false;
}

/* Takes up to `wanted` tasks from the end of a ring; in the order in which they were posted. */
static struct slot *take_from(struct engine *engine, struct peer *peer, uint32_t wanted)
{
	struct slot *taken = NULL;

	for (uint32_t number = peer->tail; wanted && number != peer->head + 1; number--) {
		struct entry *entry = peer_entry(engine, peer, number - 1);
		struct slot *slot = entry->slot;

		/* One whose producer failed comes back by itself, and must not run elsewhere. */
		if (!(entry->flags & ENTRY_ANY) || !slot || slot->waiting || slot_skips(slot) ||
		    is_followed(slot, peer))
			continue;
		if (!peer_take_back(engine, peer, number - 1))
			break;
		slot->next = taken;
		taken = slot;
		wanted--;
	}
	return taken;
}

/* The worker of the pool with the most work that others could do. */
static struct peer *most_loaded(struct engine *engine, struct pool *pool)
{
	struct peer *most = NULL;

	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = engine->active[word] & pool->mask[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			struct peer *peer = &engine->peers[i];

			if (peer->any_waiting && (!most || peer->load_ns > most->load_ns))
				most = peer;
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
		uint64_t worth = TAKE_AWAKE_NS;
		struct slot *slot, *next;
		struct peer *from;

		if (i == NO_WORKER) {
			i = pick_idle(engine, pool);
			worth = TAKE_ASLEEP_NS;
		}
		from = i == NO_WORKER ? NULL : most_loaded(engine, pool);
		if (!from)
			return;
		if (from->load_ns - peer_entry(engine, from, from->head)->estimate_ns < worth) {
			straggler_watch(engine, pool);
			return;
		}
		slot = take_from(engine, from, (from->any_waiting + 1) / 2);
		if (!slot)
			return;
		for (; slot; slot = next) {
			next = slot->next;
			slot->head.state = TASK_READY;
			peer_post(engine, &engine->peers[i], slot, 0);
		}
		pool->current = i;
	}
}

/*
 * What this worker does takes longer than was thought, and others have nothing to do:
 * all that may go elsewhere goes back to the head of the queue, and the worker counts as busy.
 */
void unstick(struct engine *engine, struct peer *peer, uint64_t busy_ns)
{
	struct pool *pool = &engine->pools[peer->pool];
	struct entry *entry = peer_entry(engine, peer, peer->head);
	struct slot *slot = take_from(engine, peer, peer->any_waiting), *next;
	struct slot *before = pool->any.first;

	for (; slot; slot = next) {
		next = slot->next;
		slot->head.state = TASK_READY;
		queue_insert(&pool->any, slot, before);
	}
	if (entry->estimate_ns < busy_ns) {
		peer->load_ns += busy_ns - entry->estimate_ns;
		entry->estimate_ns = (uint32_t)busy_ns;
	}
	pool->saturated = false;
	engine->queued = true;
}

/* -------------------------------------------------------------------- work */

static void harvest_news(struct engine *engine)
{
	engine->any_news = false;
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = engine->news[word];

		engine->news[word] = 0;
		for (uint32_t i; bits_next(&bits, word, &i);)
			peer_harvest(engine, &engine->peers[i], UINT32_MAX);
	}
}

static void harvest_and_dispatch(struct engine *engine)
{
	engine->since_harvest = 0;
	for (uint32_t i = 0; (i = hub_next_ready(engine->hub, i)) < engine->worker_count; i++)
		peer_harvest(engine, &engine->peers[i], UINT32_MAX);
	do {
		if (engine->any_news)
			harvest_news(engine);
		finish_all(engine);
		dispatch_all(engine);
		for (uint32_t i = 0; i < engine->pool_count; i++)
			if (engine->pools[i].any_waiting)
				balance(engine, &engine->pools[i]);
		peers_publish(engine);
	} while (engine->any_news || engine->finished || engine->queued);
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

	if (engine->any_news)
		harvest_news(engine);
	if (++engine->since_harvest >= HARVEST_EVERY && LIKELY(engine->hub != NULL)) {
		engine->since_harvest = 0;
		for (uint32_t rings = 0; rings < 4; rings++) {
			i = hub_next_ready(engine->hub, engine->cursor);
			if (i >= engine->worker_count) {
				engine->cursor = 0;
				break;
			}
			peer_harvest(engine, &engine->peers[i], UINT32_MAX);
			engine->cursor = i + 1;
		}
	}
	if (engine->finished)
		finish_all(engine);
	while (engine->queued || engine->any_news) {
		dispatch_all(engine);
		if (UNLIKELY(engine->any_news))
			harvest_news(engine);
	}
	if (engine->waiters || engine->foreground)
		waiters_settle(engine);
	if (engine->hub)
		hub_came_by(engine->hub);
}

/*
 * A peer that is woken on this CPU may run before its waker goes on, and be done with all that it had. The waker
 * counts as driving meanwhile, so that nobody wakes the background thread for what is harvested here. Not for who
 * submits one task after the other: a peer that has nobody to wake sleeps at once, and would be woken for each of them.
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
