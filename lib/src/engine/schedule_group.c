/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See schedule_group.h.
 */
#include <errno.h>
#include "base/text.h"
#include "engine/schedule_group.h"

static bool is_older(const struct task *task, const struct task *than)
{
	return task && task->order < than->order;
}

static const struct task *first_directed(const struct schedule *schedule,
					 const struct worker_ring *ring)
{
	return ready_first(&schedule->queues[ring->index].directed);
}

/* Tasks that were directed there before the group was ready go first. */
static bool has_room(struct schedule *schedule, struct worker_ring *ring, const struct task *task)
{
	if (is_older(first_directed(schedule, ring), task))
		schedule_ring(schedule, ring);
	return ring_has_room(schedule->rings, ring) &&
	       !is_older(first_directed(schedule, ring), task);
}

static bool is_chosen(const struct group *group, uint32_t count, uint32_t worker)
{
	for (uint32_t i = 0; i < count; i++)
		if (group->chosen[i] == worker)
			return true;
	return false;
}

/*
 * The `wanted` workers of the pool that have room and the least to do, behind the
 * `count` that are chosen already. Returns how many there are then.
 */
static uint32_t choose_any(struct schedule *schedule, struct pool *pool, const struct task *task,
			   uint32_t count, uint32_t wanted)
{
	struct group *group = task->group;

	for (uint32_t word = 0; word < schedule->rings->words; word++) {
		uint64_t bits = pool->mask[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			struct worker_ring *ring = &schedule->rings->all[i];
			uint32_t place = group->explicit_count, at;

			if (is_chosen(group, group->explicit_count, i) ||
			    !has_room(schedule, ring, task))
				continue;
			/* Insertion by load; ties by index, so that neighbours stay together. */
			for (at = count;
			     at > place &&
			     schedule->rings->all[group->chosen[at - 1]].load_ns > ring->load_ns;
			     at--)
				if (at < wanted)
					group->chosen[at] = group->chosen[at - 1];
			if (at < wanted) {
				group->chosen[at] = i;
				if (count < wanted)
					count++;
			}
		}
	}
	return count;
}

static void unreserve(struct schedule *schedule, const struct pool *pool)
{
	struct ring_set *rings = schedule->rings;

	for (uint32_t word = 0; word < rings->words; word++) {
		uint64_t bits = pool->mask[word];

		for (uint32_t i; bits_next(&bits, word, &i);)
			ring_reserve(rings, &rings->all[i], false);
	}
}

void group_withdraw(struct schedule *schedule, struct task *task)
{
	struct pool *pool = &schedule->pools[task->pool];

	task_unqueue(task);
	unreserve(schedule, pool);
	schedule_pool_moved(schedule, pool);
}

/* Whether the group can never run, and why. */
static bool is_unschedulable(const struct schedule *schedule, const struct task *task, char *why,
			     size_t space)
{
	const struct group *group = task->group;
	uint32_t usable = schedule->pools[task->pool].usable;

	for (uint32_t i = 0; i < group->count; i++) {
		uint32_t worker = group->members[i].worker;
		const struct worker_ring *ring =
			worker == DW_ANY ? NULL : &schedule->rings->all[worker];

		if (!ring || !ring_is_lost(ring))
			continue;
		text_format(why, space, "member %u must run on %s: %s", i, ring->path,
			 ring_cause(ring, "the worker is gone"));
		return true;
	}
	if (group->count <= usable)
		return false;
	text_format(why, space, "it has %u members, and %u workers of its kind are left: %s",
		    group->count, usable, schedule_cause(schedule, task->pool));
	return true;
}

/* All workers, or those that have room now are reserved and the rest is waited for. */
static bool choose(struct schedule *schedule, struct task *task)
{
	struct pool *pool = &schedule->pools[task->pool];
	struct group *group = task->group;
	uint32_t count = group->explicit_count;
	bool all = true;

	unreserve(schedule, pool);
	for (uint32_t i = 0; i < count; i++)
		all &= has_room(schedule, &schedule->rings->all[group->chosen[i]], task);
	if (group->count > count)
		count = choose_any(schedule, pool, task, count, group->count);
	if (all && count == group->count)
		return true;
	for (uint32_t i = 0; i < count; i++) {
		struct worker_ring *ring = &schedule->rings->all[group->chosen[i]];

		if (ring->state == RING_UP && !is_older(first_directed(schedule, ring), task))
			ring_reserve(schedule->rings, ring, true);
	}
	return false;
}

/* Members whose worker turned out not to be trusted: as if it had died before it got there. */
static void some_refused(struct schedule *schedule, struct task *task)
{
	struct group *group = task->group;
	uint32_t count = group->count;
	bool refused[count];

	for (uint32_t i = 0; i < count; i++)
		refused[i] = !group->members[i].in_ring;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t worker = group->members[i].placed;

		/* The last one to leave ends the group. */
		if (refused[i])
			graph_member_left(schedule->graph, task, i, &schedule->rings->all[worker],
					  -EOWNERDEAD, "its worker wrote nonsense into its mailbox",
					  true);
	}
}

static void enter_rings(struct schedule *schedule, struct task *task)
{
	struct ring_set *rings = schedule->rings;
	struct group *group = task->group;
	uint32_t next_any = group->explicit_count, next_explicit = 0, refused = 0;

	task_set_state(task, TASK_RUNNING);
	group_starts(group);
	for (uint32_t i = 0; i < group->count; i++) {
		struct member *member = &group->members[i];
		bool directed = member->worker != DW_ANY;
		uint32_t chosen = group->chosen[directed ? next_explicit++ : next_any++];
		struct worker_ring *ring = &rings->all[chosen];

		group_member_goes(member, chosen);
		if (!ring_post(rings, ring, task, i)) {
			refused++;
			continue;
		}
		group_member_entered(member, task->position);
		ring_publish(rings, ring);
	}
	task_set_placed(task, NO_WORKER, 0);
	if (UNLIKELY(refused))
		some_refused(schedule, task);
	else
		/* A member's failure has to reach the others even with frames behind it. */
		request_notify(rings, task);
}

static void admit(struct schedule *schedule, struct pool *pool)
{
	char why[ERROR_TEXT_BYTES];
	struct task *task;

	while ((task = ready_first(&pool->groups))) {
		if (is_unschedulable(schedule, task, why, sizeof(why))) {
			queue_remove(task);
			unreserve(schedule, pool);
			task_no_more_retries(task);
			graph_failed(schedule->graph, task, NULL, -ENODEV, why, false);
			continue;
		}
		/* Older undirected tasks go first, or endless groups would starve them. */
		if (is_older(ready_first(&pool->any), task)) {
			unreserve(schedule, pool);
			schedule_pool(schedule, pool);
		}
		if (is_older(ready_first(&pool->any), task) || !choose(schedule, task))
			return;
		queue_remove(task);
		enter_rings(schedule, task);
	}
}

void groups_admit(struct schedule *schedule)
{
	bool any = false;

	for (uint32_t i = 0; i < schedule->pool_count; i++) {
		admit(schedule, &schedule->pools[i]);
		any = any || ready_first(&schedule->pools[i].groups);
	}
	if (!any)
		schedule_no_groups(schedule);
	schedule_settle(schedule);
}
