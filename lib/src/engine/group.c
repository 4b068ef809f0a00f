/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Groups: one node of the graph, several members that run at the same time on
 * different workers and may wait for each other. Only the group at the head of
 * its pool's queue is admitted: when each of its workers has room, all members enter
 * their rings at once. So any two groups lie in the same order in every ring, and since
 * rings are worked off in order, members that wait for each other never deadlock.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "engine/abandon.h"
#include "engine/completion.h"
#include "engine/group.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/slot.h"
#include "engine/state.h"
#include "engine/submit.h"

void group_free(struct engine *engine, struct group *group)
{
	for (uint32_t i = 0; i < group->count; i++)
		payload_free(engine, &group->members[i].payload);
	free(group->chosen);
	free(group);
}

/* --------------------------------------------------------------- admission */

static bool is_older(const struct slot *slot, const struct slot *than)
{
	return slot && slot->order < than->order;
}

/* Tasks that were directed there before the group was ready go first. */
static bool has_room(struct engine *engine, struct peer *peer, const struct slot *slot)
{
	if (is_older(peer->directed.first, slot))
		dispatch_peer(engine, peer);
	return peer_has_room(engine, peer) && !is_older(peer->directed.first, slot);
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
static uint32_t choose_any(struct engine *engine, struct pool *pool, const struct slot *slot,
			   uint32_t count, uint32_t wanted)
{
	struct group *group = slot->group;

	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = pool->mask[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			struct peer *peer = &engine->peers[i];
			uint32_t place = group->explicit_count, at;

			if (is_chosen(group, group->explicit_count, i) || !has_room(engine, peer, slot))
				continue;
			/* Insertion by load; ties by index, so that neighbours stay together. */
			for (at = count; at > place &&
			     engine->peers[group->chosen[at - 1]].load_ns > peer->load_ns; at--)
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

static void unreserve(struct engine *engine, const struct pool *pool)
{
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = pool->mask[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			struct peer *peer = &engine->peers[i];

			if (peer->reserved) {
				peer->reserved = false;
				peer_update(engine, peer);
			}
		}
	}
}

void group_withdraw(struct engine *engine, struct slot *slot)
{
	struct pool *pool = &engine->pools[slot->pool];

	task_unqueue(engine, slot);
	unreserve(engine, pool);
	pool->saturated = false;
	engine->queued = true;
}

/* Whether the group can never run, and why. */
static bool is_stranded(const struct engine *engine, const struct slot *slot, char *why, size_t space)
{
	const struct group *group = slot->group;
	uint32_t usable = engine->pools[slot->pool].usable;

	for (uint32_t i = 0; i < group->count; i++) {
		uint32_t worker = group->members[i].worker;
		const struct peer *peer = worker == DW_ANY ? NULL : &engine->peers[worker];

		if (!peer || !peer_is_lost(peer))
			continue;
		snprintf(why, space, "member %u must run on %s: %s", i, peer->path,
			 peer->cause ? peer->cause : "the worker is gone");
		return true;
	}
	if (group->count <= usable)
		return false;
	snprintf(why, space, "it has %u members, and %u workers of its kind are left: %s", group->count,
		 usable, pool_cause(engine, slot->pool));
	return true;
}

/* All workers, or those that have room now are reserved and the rest is waited for. */
static bool choose(struct engine *engine, struct slot *slot)
{
	struct pool *pool = &engine->pools[slot->pool];
	struct group *group = slot->group;
	uint32_t count = group->explicit_count;
	bool all = true;

	unreserve(engine, pool);
	for (uint32_t i = 0; i < count; i++)
		all &= has_room(engine, &engine->peers[group->chosen[i]], slot);
	if (group->count > count)
		count = choose_any(engine, pool, slot, count, group->count);
	if (all && count == group->count)
		return true;
	for (uint32_t i = 0; i < count; i++) {
		struct peer *peer = &engine->peers[group->chosen[i]];

		if (peer->state == PEER_UP && !is_older(peer->directed.first, slot)) {
			peer->reserved = true;
			peer_update(engine, peer);
		}
	}
	return false;
}

/* Members whose worker turned out not to be trusted: as if it had died before it got there. */
static void some_refused(struct engine *engine, struct slot *slot)
{
	struct group *group = slot->group;
	uint32_t count = group->count;
	bool refused[count];

	for (uint32_t i = 0; i < count; i++)
		refused[i] = !group->members[i].in_ring;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t worker = group->members[i].placed;

		/* The last one to leave ends the group. */
		if (refused[i])
			group_member_left(engine, slot, i, &engine->peers[worker], -EOWNERDEAD,
					  "its worker wrote nonsense into its mailbox", true);
	}
}

static void enter_rings(struct engine *engine, struct slot *slot)
{
	struct group *group = slot->group;
	uint32_t next_any = group->explicit_count, next_explicit = 0, refused = 0;

	slot->head.state = TASK_RUNNING;
	group->left = group->count;
	group->restart = false;
	for (uint32_t i = 0; i < group->count; i++) {
		struct member *member = &group->members[i];
		bool directed = member->worker != DW_ANY;
		struct peer *peer = &engine->peers[group->chosen[directed ? next_explicit++ :
								  next_any++]];

		member->placed = peer->index;
		if (!peer_post(engine, peer, slot, i)) {
			refused++;
			continue;
		}
		member->position = slot->position;
		member->in_ring = true;
		peer_publish(engine, peer);
	}
	slot->placed = NO_WORKER;
	if (UNLIKELY(refused))
		some_refused(engine, slot);
	else
		/* A member that fails is news for the others, whatever sits behind it. */
		want_completion(engine, slot);
}

void group_admit(struct engine *engine, struct pool *pool)
{
	char why[ERROR_TEXT_BYTES];
	struct slot *slot;

	while ((slot = pool->groups.first)) {
		if (is_stranded(engine, slot, why, sizeof(why))) {
			queue_remove(&pool->groups, slot);
			unreserve(engine, pool);
			slot->attempts += slot->retries;
			slot->retries = 0;
			task_failed(engine, slot, NULL, -ENODEV, why, false);
			continue;
		}
		/* Tasks for anybody that are older go first, or groups without an end would keep them waiting for ever. */
		if (is_older(pool->any.first, slot)) {
			unreserve(engine, pool);
			dispatch_pool(engine, pool);
		}
		if (is_older(pool->any.first, slot) || !choose(engine, slot))
			return;
		queue_remove(&pool->groups, slot);
		enter_rings(engine, slot);
	}
	finish_all(engine);
}

/* --------------------------------------------------------------- completion */

/* Tells the members that are still there: those that have not started come back. */
void group_cancel_members(struct engine *engine, struct slot *slot)
{
	struct group *group = slot->group;

	for (uint32_t i = 0; i < group->count; i++) {
		struct member *member = &group->members[i];
		struct peer *peer;

		if (!member->in_ring)
			continue;
		peer = &engine->peers[member->placed];
		if (peer_take_back(engine, peer, member->position)) {
			member->in_ring = false;
			group->left--;
			group->restart = true;
			continue;
		}
		hub_cancel(engine->hub, peer->index, member->position);
		peer_urgent(engine, peer, member->position);
		if (engine->ops && engine->ops->cancelled)
			engine->ops->cancelled(engine->ops_context, peer->index);
	}
}

static void set_error(struct group *group, struct slot *slot, uint32_t member, struct peer *peer,
		      int error, const char *text, bool whole)
{
	if (group->error)
		return;
	group->error = error;
	group->failed_at = peer->index;
	group->whole = whole;
	if (slot->flags & SLOT_DEADLINE || whole)
		snprintf(group->text, sizeof(group->text), "%s", text);
	else
		snprintf(group->text, sizeof(group->text), "%.300s (member %u of %u)", text, member,
			 group->count);
}

/* No member is in a ring any more, or held. */
static void group_ended(struct engine *engine, struct slot *slot)
{
	struct group *group = slot->group;
	char text[ERROR_TEXT_BYTES];
	int error = group->error;

	slot->placed = NO_WORKER;
	if (error) {
		memcpy(text, group->text, sizeof(text));
		group->error = 0;
		group->ran = 0;
		task_failed(engine, slot, &engine->peers[group->failed_at], error, text, group->whole);
		return;
	}
	if (group->restart)
		task_returned(engine, slot);
	else
		task_finish(engine, slot, TASK_DONE);
}

/*
 * A member has left its ring: done, failed, or, `unstarted`, because its worker died before
 * it got there. Then the group starts over if no other member has started, else it fails.
 */
void group_member_left(struct engine *engine, struct slot *slot, uint32_t number,
		       struct peer *peer, int error, const char *text, bool unstarted)
{
	struct group *group = slot->group;

	group->members[number].in_ring = false;
	group->left--;
	if (!unstarted)
		group->ran++;
	if (error && !unstarted)
		set_error(group, slot, number, peer, error, text, peer->nested_text && text[0]);
	if ((error || unstarted) && group->left)
		group_cancel_members(engine, slot);
	if (unstarted) {
		group->restart = true;
		if (group->left || group->ran)
			set_error(group, slot, number, peer, -EOWNERDEAD, text, false);
	}
	if (!group->left)
		group_ended(engine, slot);
}

void group_member_died(struct engine *engine, struct slot *slot, uint32_t number,
		       struct peer *peer, const char *text)
{
	struct group *group = slot->group;

	group->members[number].in_ring = false;
	group->ran++;
	set_error(group, slot, number, peer, peer->error, text, false);
	group_cancel_members(engine, slot);
}

void group_member_gone(struct engine *engine, struct slot *slot)
{
	if (!--slot->group->left)
		group_ended(engine, slot);
}

/* ------------------------------------------------------------------- submit */

static int check_workers(struct engine *engine, const struct pool *pool, const uint32_t *workers,
			 size_t members, const char *what)
{
	for (size_t i = 0; workers && i < members; i++) {
		uint32_t index;

		if (workers[i] == DW_ANY)
			continue;
		if (pool->kind == DW_CHILD_SUB)
			return error_set(-EINVAL, "workers[%zu] is %u, but sub workers have no ids: "
					 "pass DW_ANY", i, workers[i]);
		index = engine->sub_count + workers[i];
		if (workers[i] >= engine->worker_count - engine->sub_count)
			return error_set(-EINVAL, "workers[%zu] is %u; ids are 0 … %u", i, workers[i],
					 engine->worker_count - engine->sub_count - 1);
		if (&engine->pools[engine->peers[index].pool] != pool)
			return error_set(-EINVAL, "workers[%zu] is %s, which cannot run \"%s\"", i,
					 engine->peers[index].path, what);
		for (size_t j = 0; j < i; j++)
			if (workers[j] == workers[i])
				return error_set(-EINVAL, "workers[%zu] and workers[%zu] are both %u: "
						 "members run on different workers", j, i, workers[i]);
	}
	return 0;
}

struct group_submission {
	struct dw_orch *orch;
	struct callable *callable;
	struct dw_args *const *args;
	size_t members;
	const uint32_t *workers;
	const struct dw_submit_options *options;
	struct pool *pool;
	struct range *ranges;		/* of all members, one after the other */
	size_t tensors;			/* of all members */
	uint64_t output_bytes;
	struct group *group;
};

static struct group *group_new(const struct group_submission *submission)
{
	struct engine *engine = submission->orch->run->engine;
	size_t members = submission->members;
	struct group *group = calloc(1, sizeof(*group) + members * sizeof(struct member));

	if (!group)
		return NULL;
	group->chosen = calloc(members, sizeof(*group->chosen));
	if (!group->chosen) {
		free(group);
		return NULL;
	}
	for (size_t i = 0; i < members; i++) {
		uint32_t worker = submission->workers ? submission->workers[i] : DW_ANY;

		if (worker != DW_ANY) {
			worker += engine->sub_count;
			group->chosen[group->explicit_count++] = worker;
		}
		group->members[i].worker = worker;
	}
	return group;
}

static int make_payloads(const struct group_submission *submission, struct slot *slot)
{
	struct engine *engine = submission->orch->run->engine;
	struct group *group = submission->group;
	int result = 0;

	for (size_t i = 0; i < submission->members && result == 0; i++) {
		result = payload_make(engine, &group->members[i].payload, submission->args[i],
				      i == 0 ? submission->options->name : NULL, NULL, 0,
				      i == 0 ? &slot->name : NULL);
		if (result == 0)
			group->count++;
	}
	return result;
}

static void link_members(struct linking *linking, const struct group_submission *submission,
			 bool reading)
{
	const struct range *ranges = submission->ranges;

	for (size_t i = 0; i < submission->members; i++) {
		if (reading)
			link_reads(linking, submission->args[i], ranges);
		else
			link_writes(linking, submission->args[i], ranges, UINT32_MAX);
		ranges += submission->args[i]->tensor_count;
	}
}

static int group_submit_locked(struct group_submission *submission, dw_task *task)
{
	struct dw_orch *orch = submission->orch;
	struct engine *engine = orch->run->engine;
	struct pool *pool = submission->pool;
	struct linking linking;
	struct range *ranges = submission->ranges;
	uint64_t address = 0, next;
	struct slot *slot;
	int result;

	result = orch_wait_for_window_locked(orch);
	if (result == 0)
		result = orch_check_after_locked(orch->run, submission->options);
	if (UNLIKELY(result == 0 && engine->kept_count))
		result = kept_check(engine, ranges, submission->tensors);
	if (result < 0)
		return result;
	if (submission->members > pool->usable)
		return error_set(-ENODEV, "a group of %zu members, but %s has %u live workers for \"%s\"",
				 submission->members, engine->path, pool->usable,
				 submission->callable->name);
	if (submission->output_bytes) {
		result = orch_heap_alloc_locked(orch, submission->output_bytes, &address);
		if (result < 0)
			return result;
	}
	next = address;
	for (size_t i = 0; i < submission->members; i++) {
		orch_place_outputs(submission->args[i], ranges, &next);
		ranges += submission->args[i]->tensor_count;
	}
	slot = orch_slot_new(orch, submission->callable, submission->options);
	result = slot ? make_payloads(submission, slot) : error_set(-ENOMEM, "no memory for a task");
	if (result < 0) {
		for (size_t i = 0; i < submission->members; i++)
			orch_unplace_outputs(submission->args[i], address, submission->output_bytes);
		if (slot)
			slot_free(engine, slot);
		return result;
	}
	slot->flags |= SLOT_GROUP;
	slot->group = submission->group;
	slot->pool = (uint16_t)(pool - engine->pools);
	slot->worker = DW_ANY;
	submission->group = NULL;
	slot_enter(slot);
	link_begin(&linking, engine, slot);
	link_members(&linking, submission, true);
	link_members(&linking, submission, false);
	link_after(&linking, submission->options);
	if (task)
		*task = slot_id(slot);
	link_end(&linking);
	return 0;
}

static int group_prepare(struct group_submission *submission)
{
	struct dw_orch *orch = submission->orch;
	uint64_t tensors = 0;
	struct range *ranges;
	uint32_t worker;
	int result;

	result = orch_find_pool(orch->run->engine, submission->callable, &submission->pool);
	if (result == 0)
		result = check_workers(orch->run->engine, submission->pool, submission->workers,
				       submission->members, submission->callable->name);
	if (result < 0)
		return result;
	for (size_t i = 0; i < submission->members; i++) {
		if (!submission->args[i])
			return error_set(-EINVAL, "args[%zu] of the group is NULL", i);
		tensors += submission->args[i]->tensor_count;
	}
	result = orch_ranges(orch, tensors, &ranges);
	if (result < 0)
		return result;
	submission->ranges = ranges;
	submission->tensors = tensors;
	for (size_t i = 0; i < submission->members; i++) {
		worker = submission->workers && submission->workers[i] != DW_ANY ?
			 orch->run->engine->sub_count + submission->workers[i] : DW_ANY;
		result = orch_check_args(orch, submission->args[i], worker, ranges,
					 &submission->output_bytes);
		if (result < 0)
			return error_prefix(result, "member %zu: ", i);
		ranges += submission->args[i]->tensor_count;
	}
	submission->group = group_new(submission);
	return submission->group ? 0 : error_set(-ENOMEM, "no memory for a group of %zu members",
						 submission->members);
}

DW_API int dw_submit_group(struct dw_orch *orch, dw_callable handle, struct dw_args *const *args,
			   size_t members, const uint32_t *workers,
			   const struct dw_submit_options *options, dw_task *task)
{
	static const struct dw_submit_options defaults = { .size = sizeof(defaults) };
	struct group_submission submission = {
		.orch = orch, .args = args, .members = members, .workers = workers,
		.options = options ? options : &defaults,
	};
	struct dw_submit_options full;
	struct engine *engine;
	int result;

	result = orch_usable(orch);
	if (result == 0 && (!args || !members))
		result = error_set(-EINVAL, "a group has at least one member and an argument list for each");
	if (result == 0)
		result = orch_take_options(&submission.options, &full);
	if (result == 0 && submission.options->place)
		result = error_set(-EINVAL, "options.place is DW_PLACE(%u): a group names its workers in `workers`, so it should be 0",
				   submission.options->place - 1);
	if (result == 0)
		result = callable_hold(handle, &submission.callable);
	if (result < 0)
		return result;
	result = group_prepare(&submission);
	if (result == 0) {
		engine = orch->run->engine;
		lock_take(&engine->lock);
		result = group_submit_locked(&submission, task);
		engine_work_some(engine);
		engine_unlock_and_wake(engine);
	}
	if (submission.group)
		group_free(orch->run->engine, submission.group);
	if (result < 0)
		callable_put(submission.callable);
	return result;
}
