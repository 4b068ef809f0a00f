/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See schedule.h. Few workers that are awake get work before many that sleep: a sleeping one is
 * woken when the work in front of the others takes longer than its wake-up, and for less only if
 * there is a CPU for it. Tasks that a worker has not started are revoked when another is idle.
 */
#include <errno.h>
#include <stdlib.h>
#include "engine/elision.h"
#include "engine/marks.h"
#include "engine/schedule.h"

/* Workers that pick() looks at before it is content. */
#define PROBES 8
#define STRAGGLER_MAX_NS 16000000

/* ------------------------------------------------------------------- queues */

static struct ready_queue *ready_queue(struct schedule *schedule, const struct task *task)
{
	if (UNLIKELY(task->flags & FLAG_GROUP)) {
		schedule->has_groups = true;
		return &schedule->pools[task->pool].groups;
	}
	if (task->worker != DW_ANY)
		return &schedule->queues[task->worker].directed;
	return &schedule->pools[task->pool].any;
}

/* No worker can ever take it. */
static void fail_unschedulable(struct schedule *schedule, struct task *task)
{
	const struct worker_ring *ring = task->worker != DW_ANY ?
					 &schedule->rings->all[task->worker] : NULL;
	struct graph *graph = schedule->graph;
	char name[ERROR_TEXT_BYTES / 2];

	task_describe(task, name, sizeof(name));
	if (ring)
		run_error(graph, task->run, -ENODEV, "%s: %s: ENODEV: it must run there: %s",
			  ring->path, name, ring_cause(ring, "the worker is gone"));
	else
		run_error(graph, task->run, -ENODEV,
			  "%s: %s: ENODEV: no worker of its kind is left: %s", graph->path, name,
			  schedule_cause(schedule, task->pool));
	graph_unschedulable(graph, task);
}

void schedule_ready(struct schedule *schedule, struct task *task)
{
	struct worker_ring *ring = NULL;

	task_set_ready(task, ready_order(task, ++schedule->order));
	PROBE(schedule, task, task, PROBE_READY);
	if (task->worker != DW_ANY)
		ring = &schedule->rings->all[task->worker];
	if (UNLIKELY(ring ? ring_is_lost(ring) : !schedule->pools[task->pool].usable)) {
		fail_unschedulable(schedule, task);
		return;
	}
	ready_push(ready_queue(schedule, task), task);
	schedule->queued = true;
	if (ring)
		bit_set(schedule->wanting, ring->index);
}

static void released(struct schedule *schedule, struct task *task)
{
	if (UNLIKELY(task_skips(task)))
		graph_finish(schedule->graph, task, TASK_SKIPPED);
	else
		schedule_ready(schedule, task);
}

void schedule_settle(struct schedule *schedule)
{
	struct graph *graph = schedule->graph;
	struct task *task;

	do {
		if (graph->finished)
			graph_settle(graph);
		while ((task = graph_next_released(graph)))
			released(schedule, task);
	} while (graph->finished);
}

/* Fails the queued tasks if their workers will not come back. */
static void fail_queue(struct schedule *schedule, struct ready_queue *queue)
{
	struct task *task;

	while ((task = ready_first(queue))) {
		queue_remove(task);
		/* schedule_ready() reports why no worker can take it. */
		schedule_ready(schedule, task);
	}
}

void schedule_fail_queued(struct schedule *schedule, const struct worker_ring *ring)
{
	fail_queue(schedule, &schedule->queues[ring->index].directed);
	if (!schedule->pools[ring->pool].usable)
		fail_queue(schedule, &schedule->pools[ring->pool].any);
	schedule->queued = true;
}

void schedule_want_ring(struct schedule *schedule, const struct worker_ring *ring)
{
	bit_set(schedule->wanting, ring->index);
	schedule->queued = true;
}

static bool fill_allows(const struct worker_ring *ring)
{
	return ring_outstanding(ring) < FILL_TASKS || ring->load_ns < FILL_NS;
}

static bool chain(struct schedule *schedule, struct task *task, struct task *producer);

/* Whether the task sits behind its producers, or is queued to. */
static inline bool try_chain(struct schedule *schedule, struct task *task, struct task *producer)
{
	if (task->queue == QUEUE_CHAINED)
		return true;
	if (task->head.state != TASK_PENDING)
		return task->head.state == TASK_RUNNING;
	if (task->in_rings != task->waiting || !task->waiting ||
	    task->flags & (FLAG_SKIP | FLAG_CANCEL | FLAG_GROUP))
		return false;
	return chain(schedule, task, producer);
}

/*
 * The consumers of a task that now sits in a ring: those that can follow it, or watch it. The ends
 * of producers are reported once all of them run: until then none releases the consumer.
 */
static inline void consider_consumers(struct schedule *schedule, struct worker_ring *ring,
			       struct task *task)
{
	bool notify = false;

	for (struct edge *edge = task->first; edge; edge = edge->next) {
		struct task *consumer = edge->consumer;

		if (task->flags & FLAG_CHAIN && !edge->counted)
			edge_mark(edge, task);
		if (try_chain(schedule, consumer, task) || consumer->waiting > NOTIFY_FEW)
			continue;
		if (consumer->in_rings == consumer->waiting)
			request_notify_producers(schedule->rings, consumer);
		else if (!edge->counted)
			notify = true;
	}
	if (notify)
		ring_request_notify(schedule->rings, ring, task->position);
}

static inline bool is_retired(const struct task *task)
{
	return atomic_load_explicit(&task->callable->retired, memory_order_relaxed);
}

/* For the few tasks that need more than their frame. */
static void posted(struct schedule *schedule, struct worker_ring *ring, struct task *task)
{
	struct graph *graph = schedule->graph;

	if (task->payload.frame_flags) {
		affinity_posted(&graph->affinity, ring, task);
		elision_posted(&graph->affinity, schedule->rings, ring, task);
	}
	if ((task->run->awaited && graph->run_count > 1) || graph->report_all ||
	    task->run->awaited_task == task || is_retired(task))
		ring_request_notify(schedule->rings, ring, task->position);
}

/* The ring has room. */
static inline void post(struct schedule *schedule, struct worker_ring *ring, struct task *task)
{
	const struct graph *graph = schedule->graph;

	if (UNLIKELY(!ring_post(schedule->rings, ring, task, 0))) {
		graph_returned(schedule->graph, task);
		schedule_settle(schedule);
		return;
	}
	if (UNLIKELY((task->run->awaited && graph->run_count > 1) || graph->watch_posts ||
		     task->run->awaited_task == task || is_retired(task)))
		posted(schedule, ring, task);
	/* It is ready, and the frames before it wait for others: not for long, it is hoped. */
	if (UNLIKELY(ring->ahead) && !task->waiting)
		ahead_watch(schedule);
	if (task->first)
		consider_consumers(schedule, ring, task);
}

void schedule_wait(struct schedule *schedule, const struct edge_builder *builder)
{
	struct task *task = builder->consumer;
	uint32_t count = builder->running_count;

	if (!task->waiting)
		released(schedule, task);
	else if (count && try_chain(schedule, task, builder->running[count - 1]))
		for (uint32_t i = 0; i < count; i++)
			task_set_flags(builder->running[i], FLAG_CHAINED);
	else
		edges_notify(builder);
}

/* -------------------------------------------------------------------- pick */

/* A worker that is idle and, as far as is known, awake. */
static uint32_t pick_idle_awake(struct schedule *schedule, const struct pool *pool)
{
	struct ring_set *rings = schedule->rings;

	for (uint32_t word = 0; word < rings->words; word++) {
		uint64_t bits = pool->takers[word] & rings->idle[word] & rings->awake[word] &
				rings->open[word];

		for (uint32_t i; bits_next(&bits, word, &i);)
			if (!ring_asleep(rings, i))
				return i;
	}
	return NO_WORKER;
}

static uint32_t pick_idle(const struct schedule *schedule, const struct pool *pool)
{
	const struct ring_set *rings = schedule->rings;

	for (uint32_t word = 0; word < rings->words; word++) {
		uint64_t bits = pool->takers[word] & rings->idle[word] & rings->open[word];

		if (bits)
			return bits_first(bits, word);
	}
	return NO_WORKER;
}

/* Among the next few busy ones after the current: the one with the least to do. */
static uint32_t pick_least_loaded(const struct schedule *schedule, const struct pool *pool)
{
	const struct ring_set *rings = schedule->rings;
	uint32_t start = (pool->current + 1) % rings->count, best = NO_WORKER, probes = 0;

	for (uint32_t step = 0; step <= rings->words && probes < PROBES; step++) {
		uint32_t word = (start / 64 + step) % rings->words;
		uint64_t bits = pool->takers[word] & rings->open[word] & ~rings->idle[word];

		if (step == 0)
			bits &= ~0ULL << (start % 64);
		else if (step == rings->words)
			bits &= (1ULL << (start % 64)) - 1;
		for (uint32_t i; probes < PROBES && bits_next(&bits, word, &i); probes++) {
			if (fill_allows(&rings->all[i]) &&
			    (best == NO_WORKER ||
			     rings->all[i].load_ns < rings->all[best].load_ns))
				best = i;
		}
	}
	return best;
}

/* The ring is full of tasks so short that no other worker would wake sooner. */
static bool soon_has_room(const struct schedule *schedule, const struct worker_ring *ring)
{
	return ring->state == RING_UP && !ring->corrupt &&
	       ring_outstanding(ring) == schedule->rings->depth && ring->load_ns < WAKE_COST_NS;
}

/*
 * The workers with work and this thread take all CPUs: one more worker would only take turns with
 * them.
 */
static bool cpus_are_taken(const struct schedule *schedule, const struct pool *pool)
{
	const struct ring_set *rings = schedule->rings;
	uint32_t busy = 0;

	for (uint32_t word = 0; word < rings->words; word++)
		busy += (uint32_t)__builtin_popcountll(pool->mask[word] & ~rings->idle[word]);
	return busy + 1 >= schedule->cpus;
}

/* The worker for the next task that may go anywhere, or NO_WORKER: all have enough. */
static inline __attribute__((always_inline)) uint32_t pick(struct schedule *schedule,
							   const struct pool *pool)
{
	const struct ring_set *rings = schedule->rings;
	uint32_t i = pool->current, other;

	if (pool->up == 1 && i != NO_WORKER && rings->all[i].state == RING_UP)
		return bit_test(rings->open, i) && fill_allows(&rings->all[i]) ? i : NO_WORKER;
	/* The common case of short tasks first: the worker that got the last one. */
	if (i != NO_WORKER && bit_test(rings->open, i) && !bit_test(rings->idle, i) &&
	    rings->all[i].load_ns < WAKE_COST_NS &&
	    (pool->up == 1 || rings->all[i].load_ns < REVOKE_AWAKE_NS))
		return i;
	if (i != NO_WORKER && soon_has_room(schedule, &rings->all[i]) &&
	    cpus_are_taken(schedule, pool))
		return NO_WORKER;
	i = pick_idle_awake(schedule, pool);
	if (i != NO_WORKER)
		return i;
	other = pick_least_loaded(schedule, pool);
	if (other != NO_WORKER && rings->all[other].load_ns < WAKE_COST_NS)
		return other;
	i = pick_idle(schedule, pool);
	return i != NO_WORKER ? i : other;
}

/* The work in front of a task that is given to this worker now, with its wake-up. */
static uint64_t work_before(const struct schedule *schedule, uint32_t i)
{
	return schedule->rings->all[i].load_ns +
	       (hub_peer_asleep(schedule->rings->hub, i) ? WAKE_COST_NS : 0);
}

/* The same where workers have memory of their own: rather one that has what the task reads. */
static __attribute__((noinline)) uint32_t pick_near(struct schedule *schedule,
						    const struct pool *pool,
						    const struct task *task)
{
	const struct affinity *affinity = &schedule->graph->affinity;
	uint32_t i = pick(schedule, pool), near;

	if (i == NO_WORKER || pool->up == 1)
		return i;
	near = affinity_best(affinity, task);
	if (near == NO_WORKER || near == i || !bit_test(pool->takers, near) ||
	    !bit_test(schedule->rings->open, near) || !fill_allows(&schedule->rings->all[near]))
		return i;
	return work_before(schedule, near) <=
	       work_before(schedule, i) + affinity_ns(affinity, task, near, i) ? near : i;
}

/* ------------------------------------------------------------------ chains */

void schedule_follow(struct schedule *schedule, struct task *task, uint32_t worker)
{
	task_set_order(task, ready_order(task, ++schedule->order));
	queue_push(&schedule->queues[worker].chained, task, QUEUE_CHAINED);
	schedule->queued = true;
	bit_set(schedule->wanting, worker);
}

/* A worker that would get to a task much sooner than this one; NO_WORKER: there is none. */
static uint32_t pick_lighter(struct schedule *schedule, const struct pool *pool,
			     const struct worker_ring *than)
{
	const struct ring_set *rings = schedule->rings;
	uint32_t i = pick_idle_awake(schedule, pool);

	if (i == NO_WORKER && than->load_ns > 2 * WAKE_COST_NS)
		i = pick_idle(schedule, pool);
	if (i == NO_WORKER)
		i = pick_least_loaded(schedule, pool);
	return i != NO_WORKER && rings->all[i].load_ns + WAKE_COST_NS < than->load_ns ? i :
										NO_WORKER;
}

/* Where a task would wait for its producers; DW_ANY: at one of them, or nowhere. */
static uint32_t ahead_worker(struct schedule *schedule, const struct task *task)
{
	const struct pool *pool = &schedule->pools[task->pool];

	if (task->worker != DW_ANY)
		return task->worker;
	for (uint32_t i = 0; i < task->marks; i++)
		if (schedule->rings->all[task->mark_rings[i]].pool == task->pool)
			return DW_ANY;
	return pool->flags & POOL_NEAR ? pick_near(schedule, pool, task) : pick(schedule, pool);
}

/* A pending task whose producers all sit in rings: into the queue of one of them if that pays. */
static bool chain(struct schedule *schedule, struct task *task, struct task *producer)
{
	const struct ring_set *rings = schedule->rings;
	const struct worker_ring *ring = &rings->all[producer->placed];
	uint32_t other;

	if (UNLIKELY(task->marks > 1 || task->pool != ring->pool))
		return schedule_ahead(schedule, task, ahead_worker(schedule, task));
	if (task->worker != DW_ANY) {
		if (task->worker != ring->index)
			return schedule_ahead(schedule, task, task->worker);
	} else {
		struct pool *pool = &schedule->pools[task->pool];

		/* Another worker could run it beside its siblings, of which one follows here. */
		if (pool->up > 1 && producer->flags & FLAG_CHAINED &&
		    ring->load_ns + estimate_of(rings, task->callable) > WAKE_COST_NS) {
			if (pool->flags & POOL_NEAR)
				return false;
			other = pick_lighter(schedule, pool, ring);
			if (other != NO_WORKER)
				return schedule_ahead(schedule, task, other);
		}
	}
	task_set_flags(producer, FLAG_CHAINED);
	schedule_follow(schedule, task, ring->index);
	return true;
}

/* ---------------------------------------------------------------- dispatch */

void schedule_pool(struct schedule *schedule, struct pool *pool)
{
	struct ring_set *rings = schedule->rings;
	struct task *task, *directed;
	struct worker_ring *ring;
	uint32_t i;

	while ((task = ready_first(&pool->any))) {
		if (LIKELY(!pool->flags))
			i = pick(schedule, pool);
		else if (pool->flags & POOL_SATURATED)
			return;
		else
			i = pick_near(schedule, pool, task);
		if (i == NO_WORKER) {
			straggler_watch(schedule, pool);
			pool->flags |= POOL_SATURATED;
			return;
		}
		pool->current = i;
		ring = &schedule->rings->all[i];
		/*
		 * A directed task that has waited for longer goes first, or it would wait for
		 * ever.
		 */
		directed = ready_first(&schedule->queues[i].directed);
		if (UNLIKELY(directed && directed->order < task->order &&
			     ring_has_room(rings, ring))) {
			schedule_ring(schedule, ring);
			continue;
		}
		queue_remove(task);
		ready_prefetch(&pool->any);
		if (ring_outstanding(ring))
			straggler_watch(schedule, pool);
		post(schedule, ring, task);
	}
}

/* Takes the oldest task that this worker could run out of its queue; NULL: none now. */
static struct task *next_for(struct schedule *schedule, const struct worker_ring *ring)
{
	struct ring_queues *queues = &schedule->queues[ring->index];
	struct task *any = ready_first(&schedule->pools[ring->pool].any);
	struct task *task = queue_first(&queues->chained),
		    *directed = ready_first(&queues->directed);

	if (directed && (!task || directed->order < task->order))
		task = directed;
	if (!task)
		return NULL;
	if (any && any->order < task->order) {
		/* If rings were filled with later tasks, `any` would wait for ever. */
		if (!fill_allows(ring))
			return NULL;
		task = any;
	}
	queue_remove(task);
	return task;
}

void schedule_ring(struct schedule *schedule, struct worker_ring *ring)
{
	struct ring_queues *queues = &schedule->queues[ring->index];
	struct ring_set *rings = schedule->rings;
	struct task *task;

	if (UNLIKELY(ring->controls != NULL))
		ring_post_controls(rings, ring);
	while (ring_has_room(rings, ring) && !ring->reserved) {
		task = next_for(schedule, ring);
		if (!task) {
			if (!ready_first(&queues->directed) && !queue_first(&queues->chained))
				bit_clear(schedule->wanting, ring->index);
			return;
		}
		post(schedule, ring, task);
	}
}

void schedule_dispatch(struct schedule *schedule)
{
	for (uint32_t i = 0; i < schedule->pool_count; i++)
		if (ready_first(&schedule->pools[i].any))
			schedule_pool(schedule, &schedule->pools[i]);
	/* After the pools: tasks posted there may have put consumers into chained queues. */
	for (uint32_t word = 0; word < schedule->rings->words; word++) {
		uint64_t bits = schedule->wanting[word];

		for (uint32_t i; bits_next(&bits, word, &i);)
			schedule_ring(schedule, &schedule->rings->all[i]);
	}
}

void schedule_refill(struct schedule *schedule)
{
	struct ring_set *rings = schedule->rings;

	for (uint32_t word = 0; word < rings->words; word++) {
		uint64_t bits = rings->active[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			struct ring_queues *queues = &schedule->queues[i];
			struct worker_ring *ring = &rings->all[i];

			if (!ring->requests && ring_outstanding(ring) > 1 &&
			    (ready_first(&schedule->pools[ring->pool].any) ||
			     ready_first(&queues->directed) || queue_first(&queues->chained)))
				ring_request_notify(rings, ring, ring->head +
						    (ring_outstanding(ring) - 1) / 2);
		}
	}
}

/* ------------------------------------------------------------- revocation */

/* Whether another task sits in a ring because this one is in its ring. */
static bool is_followed(const struct task *task)
{
	for (const struct edge *edge = task->first; edge; edge = edge->next)
		if (edge->consumer->head.state == TASK_RUNNING)
			return true;
	return false;
}

/* Whether the task is done sooner there than after copies of its tensors to another worker. */
static bool better_stays(const struct schedule *schedule, const struct worker_ring *ring,
			 const struct task *task, uint32_t other)
{
	return task->payload.frame_flags &&
	       affinity_ns(&schedule->graph->affinity, task, ring->index, other) > ring->load_ns;
}

/*
 * Takes up to `wanted` tasks from the end of a ring, for another worker or for any (NO_WORKER); in
 * the order in which they were posted.
 */
static struct task *revoke_from(struct schedule *schedule, struct worker_ring *ring,
				uint32_t wanted, uint32_t other)
{
	struct ring_set *rings = schedule->rings;
	struct task *taken = NULL;

	for (uint32_t number = ring->tail; wanted && number != ring->head + 1; number--) {
		const struct entry *entry = ring_entry(rings, ring, number - 1);
		struct task *task = entry->task;

		/* One whose producer failed comes back by itself, and must not run elsewhere. */
		if (!(entry->flags & ENTRY_ANY) || !task || task->waiting || task_skips(task) ||
		    entry_stays(entry) ||
		    is_followed(task) ||
		    (other != NO_WORKER && better_stays(schedule, ring, task, other)))
			continue;
		if (!ring_revoke(rings, ring, number - 1))
			break;
		task_list_push(&taken, task);
		wanted--;
	}
	return taken;
}

/* The worker of the pool with the most work that others could do. */
static struct worker_ring *most_loaded(const struct ring_set *rings, const struct pool *pool)
{
	struct worker_ring *most = NULL;

	for (uint32_t word = 0; word < rings->words; word++) {
		uint64_t bits = rings->active[word] & pool->mask[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			struct worker_ring *ring = &rings->all[i];

			if (ring->movable && (!most || ring->load_ns > most->load_ns))
				most = ring;
		}
	}
	return most;
}

/*
 * Moves half of the most loaded worker's movable tasks to an idle one, again and again, while that
 * pays.
 */
static void balance(struct schedule *schedule, struct pool *pool)
{
	struct ring_set *rings = schedule->rings;

	while (rings->movable[pool - schedule->pools] && !ready_first(&pool->any)) {
		uint32_t i = pick_idle_awake(schedule, pool);
		uint64_t worth = REVOKE_AWAKE_NS;
		struct task *task, *next;
		struct worker_ring *from;

		if (i == NO_WORKER) {
			i = pick_idle(schedule, pool);
			worth = REVOKE_ASLEEP_NS;
		}
		from = i == NO_WORKER ? NULL : most_loaded(rings, pool);
		if (!from)
			return;
		if (from->load_ns - ring_entry(rings, from, from->head)->estimate_ns < worth) {
			straggler_watch(schedule, pool);
			return;
		}
		task = revoke_from(schedule, from, (from->movable + 1) / 2, i);
		if (!task) {
			/* They are better off there, if the one before them is short. */
			if (pool->flags & POOL_NEAR)
				straggler_watch(schedule, pool);
			return;
		}
		for (; task; task = next) {
			next = task->next;
			task_set_state(task, TASK_READY);
			post(schedule, &rings->all[i], task);
		}
		pool->current = i;
	}
}

void schedule_balance(struct schedule *schedule)
{
	for (uint32_t i = 0; i < schedule->pool_count; i++)
		if (schedule->rings->movable[i])
			balance(schedule, &schedule->pools[i]);
}

/* -------------------------------------------------------------- stragglers */

/*
 * This worker's task takes longer than was estimated, and others are idle: its movable tasks go
 * back to the head of the queue, and the worker counts as busy.
 */
static void requeue_stragglers(struct schedule *schedule, struct worker_ring *ring)
{
	struct pool *pool = &schedule->pools[ring->pool];
	struct task *task = revoke_from(schedule, ring, ring->movable, NO_WORKER), *next;

	for (; task; task = next) {
		next = task->next;
		task_set_state(task, TASK_READY);
		ready_return(&pool->any, task);
	}
	ring_note_busy(schedule->rings, ring, schedule->straggler_ns);
	schedule_ring_moved(schedule, ring);
}

static bool has_idle(const struct schedule *schedule, const struct pool *pool)
{
	const struct ring_set *rings = schedule->rings;

	for (uint32_t word = 0; word < rings->words; word++)
		if (pool->takers[word] & rings->idle[word] & rings->open[word])
			return true;
	return false;
}

void straggler_arm(struct schedule *schedule, uint64_t clock)
{
	schedule->straggler = true;
	for (uint32_t i = 0; i < schedule->rings->count; i++)
		schedule->queues[i].straggler_head = schedule->rings->all[i].head;
	timer_at_most(schedule->rings->timer, clock + schedule->straggler_ns, clock);
}

/*
 * A task sits behind another, or is held back for it, because that one is short as far as is known,
 * while a worker is idle. If the other takes longer, no event marks that moment, so a timer has to.
 * It is armed only while such a task waits.
 */
void straggler_watch(struct schedule *schedule, const struct pool *pool)
{
	if (LIKELY(schedule->straggler) || pool->up < 2 || !has_idle(schedule, pool))
		return;
	schedule->straggler_ns = STRAGGLER_NS;
	straggler_arm(schedule, now_ns());
}

void stragglers_expired(struct schedule *schedule, uint64_t clock)
{
	bool again = false;

	if (!schedule->straggler)
		return;
	schedule->straggler = false;
	for (uint32_t i = 0; i < schedule->rings->count; i++) {
		struct worker_ring *ring = &schedule->rings->all[i];
		struct pool *pool = &schedule->pools[ring->pool];

		if (UNLIKELY(ring->ahead)) {
			if (schedule->queues[i].straggler_head == ring->head)
				ahead_return(schedule, ring);
			else
				again = true;
		}
		if ((!ring->movable && !(ready_first(&pool->any) && ring_outstanding(ring))) ||
		    !has_idle(schedule, pool))
			continue;
		if (schedule->queues[i].straggler_head == ring->head)
			requeue_stragglers(schedule, ring);
		else
			again = true;
	}
	if (!again)
		return;
	if (schedule->straggler_ns < STRAGGLER_MAX_NS)
		schedule->straggler_ns *= 2;
	straggler_arm(schedule, clock);
}
