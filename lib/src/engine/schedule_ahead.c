/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * schedule, continued: tasks that are posted before their producers in other rings have ended. The
 * worker waits for the siblings itself (mailbox/timeline.h), so that an edge between two workers
 * needs no wake-up of the parent. See schedule.h.
 *
 * Such a frame must not hold up what is ready: it goes only where nothing is ready before it and
 * its producers are short, as far as is known; and it is taken back if that was wrong.
 */
#include "engine/marks.h"
#include "engine/schedule.h"

/* Work in front of a producer that is worth waiting for. */
#define AHEAD_NS	500000
/* Frames of a ring that wait. */
#define AHEAD_MOST	32

/* Drops the marks of producers that have left their rings. */
static void drop_marks(const struct ring_set *rings, struct task *task)
{
	uint32_t i = 0;

	while (i < task->marks)
		if (ring_has_frame(&rings->all[task->mark_rings[i]], task->mark_positions[i]))
			i++;
		else
			mark_drop(task, i);
}

/* The worker with the least to do of those with producers of the task; DW_ANY: none is fit. */
static uint32_t choose(const struct ring_set *rings, const struct task *task)
{
	uint32_t best = DW_ANY;

	for (uint32_t i = 0; i < task->marks; i++) {
		const struct worker_ring *ring = &rings->all[task->mark_rings[i]];

		if (ring->pool == task->pool &&
		    (best == DW_ANY || ring->load_ns < rings->all[best].load_ns))
			best = ring->index;
	}
	return best;
}

/*
 * Not a chip with memory of its own: a frame that is returned there would take those behind it
 * along, and one of them may be the only one that has a result (elision.h).
 */
static bool takes(struct schedule *schedule, const struct worker_ring *ring)
{
	if (ring->kind == DW_CHILD_CHIP && schedule->pools[ring->pool].has_memory)
		return false;
	return ring->state == RING_UP && !ring->corrupt && !ring->elsewhere && !ring->stopped &&
	       !ring->reserved && !ring->controls && ring->ahead < AHEAD_MOST &&
	       !ready_first(&schedule->queues[ring->index].directed) &&
	       !ready_first(&schedule->pools[ring->pool].any);
}

/* The work in a ring up to this frame. */
static uint64_t work_until(const struct worker_ring *ring, uint32_t number)
{
	return ring->load_ns / ring_outstanding(ring) * (number - ring->head + 1);
}

/* Whether its producers end soon. */
static bool ends_soon(const struct ring_set *rings, const struct task *task)
{
	for (uint32_t i = 0; i < task->marks; i++) {
		const struct worker_ring *ring = &rings->all[task->mark_rings[i]];

		if (ring->state != RING_UP || ring->corrupt || ring->elsewhere || ring->stopped ||
		    work_until(ring, task->mark_positions[i]) > AHEAD_NS)
			return false;
	}
	return true;
}

bool schedule_ahead(struct schedule *schedule, struct task *task, uint32_t worker)
{
	const struct ring_set *rings = schedule->rings;

	if (!rings->waits_payload)
		return false;
	drop_marks(rings, task);
	if (task->retries || task->callable->control || !task->marks ||
	    (!task->payload.blob && task->payload.bytes > rings->waits_payload))
		return false;
	if (worker == DW_ANY)
		worker = choose(rings, task);
	if (worker == DW_ANY || !takes(schedule, &rings->all[worker]) || !ends_soon(rings, task))
		return false;
	schedule_follow(schedule, task, worker);
	return true;
}

void ahead_watch(struct schedule *schedule)
{
	if (!schedule->straggler) {
		schedule->straggler_ns = STRAGGLER_NS;
		straggler_arm(schedule, now_ns());
	}
}

void ahead_return(struct schedule *schedule, struct worker_ring *ring)
{
	struct ring_set *rings = schedule->rings;

	for (uint32_t number = ring->tail; number != ring->head; number--) {
		const struct entry *entry = ring_entry(rings, ring, number - 1);
		struct task *task = entry->task;

		if (!task || !task->waiting || entry_stays(entry) ||
		    !ring_revoke(rings, ring, number - 1))
			continue;
		graph_returned(schedule->graph, task);
		request_notify_producers(rings, task);
	}
	schedule_ring_moved(schedule, ring);
}

void ahead_drop(struct schedule *schedule, const struct worker_ring *ring)
{
	struct task_link *queue = &schedule->queues[ring->index].chained;
	struct task *task;

	while ((task = queue_first(queue))) {
		queue_remove(task);
		request_notify_producers(schedule->rings, task);
	}
}
