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
#include "base/text.h"
#include "engine/abandon.h"
#include "engine/completion.h"
#include "engine/group.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
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

static bool is_older(const struct task *task, const struct task *than)
{
	return task && task->order < than->order;
}

/* Tasks that were directed there before the group was ready go first. */
static bool has_room(struct engine *engine, struct worker_ring *ring, const struct task *task)
{
	if (is_older(ring->directed.first, task))
		dispatch_ring(engine, ring);
	return ring_has_room(engine, ring) && !is_older(ring->directed.first, task);
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
static uint32_t choose_any(struct engine *engine, struct pool *pool, const struct task *task,
			   uint32_t count, uint32_t wanted)
{
	struct group *group = task->group;

	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = pool->mask[word];

		for (uint32_t i; bits_next(&bits, word, &i);) {
			struct worker_ring *ring = &engine->rings[i];
			uint32_t place = group->explicit_count, at;

			if (is_chosen(group, group->explicit_count, i) || !has_room(engine, ring, task))
				continue;
			/* Insertion by load; ties by index, so that neighbours stay together. */
			for (at = count; at > place &&
			     engine->rings[group->chosen[at - 1]].load_ns > ring->load_ns; at--)
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
			struct worker_ring *ring = &engine->rings[i];

			if (ring->reserved) {
				ring->reserved = false;
				ring_update(engine, ring);
			}
		}
	}
}

void group_withdraw(struct engine *engine, struct task *task)
{
	struct pool *pool = &engine->pools[task->pool];

	task_unqueue(engine, task);
	unreserve(engine, pool);
	pool->saturated = false;
	engine->queued = true;
}

/* Whether the group can never run, and why. */
static bool is_unschedulable(const struct engine *engine, const struct task *task, char *why, size_t space)
{
	const struct group *group = task->group;
	uint32_t usable = engine->pools[task->pool].usable;

	for (uint32_t i = 0; i < group->count; i++) {
		uint32_t worker = group->members[i].worker;
		const struct worker_ring *ring = worker == DW_ANY ? NULL : &engine->rings[worker];

		if (!ring || !ring_is_lost(ring))
			continue;
		text_format(why, space, "member %u must run on %s: %s", i, ring->path,
			 ring->cause ? ring->cause : "the worker is gone");
		return true;
	}
	if (group->count <= usable)
		return false;
	text_format(why, space, "it has %u members, and %u workers of its kind are left: %s", group->count,
		 usable, pool_cause(engine, task->pool));
	return true;
}

/* All workers, or those that have room now are reserved and the rest is waited for. */
static bool choose(struct engine *engine, struct task *task)
{
	struct pool *pool = &engine->pools[task->pool];
	struct group *group = task->group;
	uint32_t count = group->explicit_count;
	bool all = true;

	unreserve(engine, pool);
	for (uint32_t i = 0; i < count; i++)
		all &= has_room(engine, &engine->rings[group->chosen[i]], task);
	if (group->count > count)
		count = choose_any(engine, pool, task, count, group->count);
	if (all && count == group->count)
		return true;
	for (uint32_t i = 0; i < count; i++) {
		struct worker_ring *ring = &engine->rings[group->chosen[i]];

		if (ring->state == RING_UP && !is_older(ring->directed.first, task)) {
			ring->reserved = true;
			ring_update(engine, ring);
		}
	}
	return false;
}

/* Members whose worker turned out not to be trusted: as if it had died before it got there. */
static void some_refused(struct engine *engine, struct task *task)
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
			group_member_left(engine, task, i, &engine->rings[worker], -EOWNERDEAD,
					  "its worker wrote nonsense into its mailbox", true);
	}
}

static void enter_rings(struct engine *engine, struct task *task)
{
	struct group *group = task->group;
	uint32_t next_any = group->explicit_count, next_explicit = 0, refused = 0;

	task->head.state = TASK_RUNNING;
	group->left = group->count;
	group->restart = false;
	for (uint32_t i = 0; i < group->count; i++) {
		struct member *member = &group->members[i];
		bool directed = member->worker != DW_ANY;
		struct worker_ring *ring = &engine->rings[group->chosen[directed ? next_explicit++ :
								  next_any++]];

		member->placed = ring->index;
		if (!ring_post(engine, ring, task, i)) {
			refused++;
			continue;
		}
		member->position = task->position;
		member->in_ring = true;
		ring_publish(engine, ring);
	}
	task->placed = NO_WORKER;
	if (UNLIKELY(refused))
		some_refused(engine, task);
	else
		/* The others must hear of a member that fails, whatever sits behind it. */
		request_notify(engine, task);
}

void group_admit(struct engine *engine, struct pool *pool)
{
	char why[ERROR_TEXT_BYTES];
	struct task *task;

	while ((task = pool->groups.first)) {
		if (is_unschedulable(engine, task, why, sizeof(why))) {
			queue_remove(&pool->groups, task);
			unreserve(engine, pool);
			task->attempts += task->retries;
			task->retries = 0;
			task_failed(engine, task, NULL, -ENODEV, why, false);
			continue;
		}
		/* Tasks for anybody that are older go first, or groups without an end would keep them waiting for ever. */
		if (is_older(pool->any.first, task)) {
			unreserve(engine, pool);
			dispatch_pool(engine, pool);
		}
		if (is_older(pool->any.first, task) || !choose(engine, task))
			return;
		queue_remove(&pool->groups, task);
		enter_rings(engine, task);
	}
	finish_all(engine);
}

/* --------------------------------------------------------------- completion */

/* Tells the members that are still there: those that have not started come back. */
void group_cancel_members(struct engine *engine, struct task *task)
{
	struct group *group = task->group;

	for (uint32_t i = 0; i < group->count; i++) {
		struct member *member = &group->members[i];
		struct worker_ring *ring;

		if (!member->in_ring)
			continue;
		ring = &engine->rings[member->placed];
		if (ring_revoke(engine, ring, member->position)) {
			member->in_ring = false;
			group->left--;
			group->restart = true;
			continue;
		}
		hub_cancel(engine->hub, ring->index, member->position);
		ring_request_notify(engine, ring, member->position);
		if (engine->ops && engine->ops->cancelled)
			engine->ops->cancelled(engine->ops_context, ring->index);
	}
}

static void set_error(struct group *group, struct task *task, uint32_t member, struct worker_ring *ring,
		      int error, const char *text, bool text_has_path)
{
	if (group->error)
		return;
	group->error = error;
	group->failed_at = ring->index;
	group->text_has_path = text_has_path;
	if (task->flags & FLAG_DEADLINE || text_has_path)
		text_copy(group->text, sizeof(group->text), text);
	else
		text_format(group->text, sizeof(group->text), "%s (member %u of %u)", text_limited(text, 400), member,
			 group->count);
}

/* No member is in a ring any more, or parked. */
static void group_ended(struct engine *engine, struct task *task)
{
	struct group *group = task->group;
	char text[ERROR_TEXT_BYTES];
	int error = group->error;

	task->placed = NO_WORKER;
	if (error) {
		memcpy(text, group->text, sizeof(text));
		group->error = 0;
		group->ran = 0;
		task_failed(engine, task, &engine->rings[group->failed_at], error, text, group->text_has_path);
		return;
	}
	if (group->restart)
		task_returned(engine, task);
	else
		task_finish(engine, task, TASK_DONE);
}

/*
 * A member has left its ring: done, failed, or, `unstarted`, because its worker died before
 * it got there. Then the group starts over if no other member has started, else it fails.
 */
void group_member_left(struct engine *engine, struct task *task, uint32_t number,
		       struct worker_ring *ring, int error, const char *text, bool unstarted)
{
	struct group *group = task->group;

	group->members[number].in_ring = false;
	group->left--;
	if (!unstarted)
		group->ran++;
	if (error && !unstarted)
		set_error(group, task, number, ring, error, text, ring->nested_text && text[0]);
	if ((error || unstarted) && group->left)
		group_cancel_members(engine, task);
	if (unstarted) {
		group->restart = true;
		if (group->left || group->ran)
			set_error(group, task, number, ring, -EOWNERDEAD, text, false);
	}
	if (!group->left)
		group_ended(engine, task);
}

void group_member_died(struct engine *engine, struct task *task, uint32_t number,
		       struct worker_ring *ring, const char *text)
{
	struct group *group = task->group;

	group->members[number].in_ring = false;
	group->ran++;
	set_error(group, task, number, ring, ring->error, text, false);
	group_cancel_members(engine, task);
}

void group_member_gone(struct engine *engine, struct task *task)
{
	if (!--task->group->left)
		group_ended(engine, task);
}

/* ------------------------------------------------------------------- submit */

static int check_workers(struct engine *engine, const struct pool *pool, const uint32_t *workers,
			 size_t members, const char *callable)
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
		if (&engine->pools[engine->rings[index].pool] != pool)
			return error_set(-EINVAL, "workers[%zu] is %s, which cannot run \"%s\"", i,
					 engine->rings[index].path, callable);
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

static int make_payloads(const struct group_submission *submission, struct task *task)
{
	struct engine *engine = submission->orch->run->engine;
	struct group *group = submission->group;
	int result = 0;

	for (size_t i = 0; i < submission->members && result == 0; i++) {
		result = payload_make(engine, &group->members[i].payload, submission->args[i],
				      i == 0 ? submission->options->name : NULL, NULL, 0,
				      i == 0 ? &task->name : NULL);
		if (result == 0)
			group->count++;
	}
	return result;
}

static void edges_members(struct edge_builder *builder, const struct group_submission *submission,
			 bool reading)
{
	const struct range *ranges = submission->ranges;

	for (size_t i = 0; i < submission->members; i++) {
		if (reading)
			edges_reads(builder, submission->args[i], ranges);
		else
			edges_writes(builder, submission->args[i], ranges, UINT32_MAX);
		ranges += submission->args[i]->tensor_count;
	}
}

static int group_submit_locked(struct group_submission *submission, dw_task *id)
{
	struct dw_orch *orch = submission->orch;
	struct engine *engine = orch->run->engine;
	struct pool *pool = submission->pool;
	struct edge_builder builder;
	struct range *ranges = submission->ranges;
	uint64_t address = 0, next;
	struct task *task;
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
				 text_short(submission->callable->name));
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
	task = orch_task_new(orch, submission->callable, submission->options);
	result = task ? make_payloads(submission, task) : error_set(-ENOMEM, "no memory for a task");
	if (result < 0) {
		for (size_t i = 0; i < submission->members; i++)
			orch_unplace_outputs(submission->args[i], address, submission->output_bytes);
		if (task)
			task_free(engine, task);
		return result;
	}
	task->flags |= FLAG_GROUP;
	task->group = submission->group;
	task->pool = (uint16_t)(pool - engine->pools);
	task->worker = DW_ANY;
	submission->group = NULL;
	task_enter(task);
	edges_begin(&builder, engine, task);
	edges_members(&builder, submission, true);
	edges_members(&builder, submission, false);
	edges_after(&builder, submission->options);
	if (id)
		*id = task_id(task);
	edges_end(&builder);
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
