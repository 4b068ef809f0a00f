/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * submit_group: dw_submit_group(). See submit.h.
 */
#include <errno.h>
#include "base/text.h"
#include "engine/progress.h"
#include "engine/record.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/stuck.h"
#include "engine/submit.h"

static int check_workers(struct engine *engine, const struct pool *pool, const uint32_t *workers,
			 size_t members, const char *callable)
{
	for (size_t i = 0; workers && i < members; i++) {
		uint32_t index;

		if (workers[i] == DW_ANY)
			continue;
		if (pool->kind == DW_CHILD_SUB)
			return error_set(-EINVAL,
					 "workers[%zu] is %u, but sub workers have no ids: "
					 "pass DW_ANY",
					 i, workers[i]);
		index = engine->schedule.sub_count + workers[i];
		if (workers[i] >= engine->rings.count - engine->schedule.sub_count)
			return error_set(-EINVAL, "workers[%zu] is %u; ids are 0 … %u", i,
					 workers[i],
					 engine->rings.count - engine->schedule.sub_count - 1);
		if (&engine->schedule.pools[engine->rings.all[index].pool] != pool)
			return error_set(-EINVAL, "workers[%zu] is %s, which cannot run \"%s\"", i,
					 engine->rings.all[index].path, callable);
		for (size_t j = 0; j < i; j++)
			if (workers[j] == workers[i])
				return error_set(-EINVAL,
						 "workers[%zu] and workers[%zu] are both %u: "
						 "members run on different workers",
						 j, i, workers[i]);
	}
	return 0;
}

/* Members share memory while they run, and hosts do not. */
static int check_one_host(struct engine *engine, const uint32_t *workers, size_t members)
{
	for (size_t i = 0; i < members; i++) {
		bool any = !workers || workers[i] == DW_ANY;
		const struct worker_ring *ring =
			any ? NULL : &engine->rings.all[engine->schedule.sub_count + workers[i]];

		if (any || ring->elsewhere)
			return error_set(-EOPNOTSUPP,
					 "member %zu of the group may run on another host%s%s, and "
					 "members share memory: name workers of this host",
					 i, any ? "" : ", as ", any ? "" : ring->path);
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

static int make_payloads(const struct group_submission *submission, struct task *task)
{
	struct task_table *table = &submission->orch->run->engine->graph.tasks;
	const char *name = submission->options->name;
	int result = 0;

	for (size_t i = 0; i < submission->members && result == 0; i++)
		result = group_add_payload(table, submission->group, submission->args[i],
					   i == 0 ? name : NULL);
	if (result == 0)
		task_keep_name(task, &submission->group->members[0].payload, submission->args[0],
			       name);
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
		if (!reading && UNLIKELY(builder->graph->names.on))
			edges_lose_names(builder, submission->args[i], ranges);
		ranges += submission->args[i]->tensor_count;
	}
}

static int check_members(const struct group_submission *submission)
{
	const struct dw_orch *orch = submission->orch;
	struct engine *engine = orch->run->engine;
	const struct range *ranges = submission->ranges;
	int result = 0;

	for (size_t i = 0; i < submission->members && result == 0; i++) {
		if (engine->graph.names.checks)
			result = names_check(&engine->graph.names, submission->callable,
					     submission->args[i], ranges);
		if (result == 0 && orch->recorder)
			result = recorder_check(engine, orch->recorder, submission->args[i], ranges,
					      submission->options);
		ranges += submission->args[i]->tensor_count;
		if (result < 0)
			error_prefix(result, "member %zu: ", i);
	}
	return result;
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
	if (UNLIKELY(result == 0 && engine->rings.kept_count))
		result = stuck_check(&engine->rings, ranges, submission->tensors);
	if (UNLIKELY(result == 0 && (engine->graph.names.checks || orch->recorder)))
		result = check_members(submission);
	if (result < 0)
		return result;
	if (submission->members > pool->usable)
		return error_set(-ENODEV,
				 "a group of %zu members, but %s has %u live workers for \"%s\"",
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
	task = graph_task_new(&engine->graph, &orch->run->graph, orch->scope, submission->callable,
			      submission->options);
	result =
		task ? make_payloads(submission, task) : error_set(-ENOMEM, "no memory for a task");
	if (result < 0) {
		for (size_t i = 0; i < submission->members; i++)
			orch_unplace_outputs(submission->args[i], address,
					     submission->output_bytes);
		if (task)
			task_free(&engine->graph.tasks, task);
		return result;
	}
	task_set_group(task, submission->group);
	task_set_target(task, (uint16_t)(pool - engine->schedule.pools), DW_ANY);
	submission->group = NULL;
	graph_enter(&engine->graph, task);
	edges_begin(&builder, &engine->graph, task);
	edges_members(&builder, submission, true);
	edges_members(&builder, submission, false);
	edges_after(&builder, submission->options);
	if (UNLIKELY(orch->recorder != NULL))
		recorder_task(engine, orch->recorder, task, submission->args, submission->ranges,
			    submission->options);
	if (id)
		*id = task_id(task);
	submit_enter(engine, &builder);
	return 0;
}

/* Whether the member writes its tensor i, as far as its tag or the image's signature says. */
static bool member_writes(const struct group_submission *submission, size_t member, uint32_t i)
{
	const struct callable *callable = submission->callable;

	if (submission->args[member]->tags[i] != DW_NO_DEP)
		return submission->args[member]->tags[i] != DW_INPUT;
	return i < callable->signature_count && callable->signature[i] > DW_DIR_IN;
}

/* A later member's tensor with bytes of this range, if one of the two writes them. */
static int check_apart(const struct group_submission *submission, size_t member, uint32_t i,
		       const struct range *range, const struct range *others)
{
	bool writes = member_writes(submission, member, i);

	for (size_t other = member + 1; other < submission->members; other++) {
		const struct dw_args *args = submission->args[other];

		for (uint32_t j = 0; j < args->tensor_count; j++, others++)
			/* The memory of outputs without an address is still to come. */
			if (others->begin && ranges_overlap(range, others) &&
			    (writes || member_writes(submission, other, j)))
				return error_set(-EINVAL,
						 "tensor %u of member %zu and tensor %u of member "
						 "%zu share bytes that a member writes, and the "
						 "members run at the same time on chips with "
						 "memory of their own: they should lie apart",
						 i, member, j, other);
	}
	return 0;
}

/* In one memory the members see what others write there; in several, one copy would be lost. */
static int check_all_apart(const struct group_submission *submission)
{
	const struct range *range = submission->ranges;

	for (size_t member = 0; member < submission->members; member++) {
		uint32_t count = submission->args[member]->tensor_count;
		const struct range *others = range + count;

		for (uint32_t i = 0; i < count; i++, range++) {
			int result = !range->begin ? 0 :
				     check_apart(submission, member, i, range, others);

			if (result < 0)
				return result;
		}
	}
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
	if (result == 0 && submission->pool->elsewhere)
		result = check_one_host(orch->run->engine, submission->workers,
					submission->members);
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
			 orch->run->engine->schedule.sub_count + submission->workers[i] : DW_ANY;
		result = orch_check_args(orch, submission->args[i], worker, ranges,
					 &submission->output_bytes);
		if (result < 0)
			return error_prefix(result, "member %zu: ", i);
		ranges += submission->args[i]->tensor_count;
	}
	if (submission->pool->kind == DW_CHILD_CHIP && submission->pool->has_memory) {
		result = check_all_apart(submission);
		if (result < 0)
			return result;
	}
	submission->group = group_new(submission->members, submission->workers,
				      orch->run->engine->schedule.sub_count);
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
		result = error_set(-EINVAL,
				   "a group has at least one member and an argument list for "
				   "each");
	if (result == 0)
		result = orch_take_options(&submission.options, &full);
	if (result == 0 && submission.options->place)
		result = error_set(-EINVAL,
				   "options.place is DW_PLACE(%u): a group names its workers in "
				   "`workers`, so it should be 0",
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
		group_free(&orch->run->engine->graph.tasks, submission.group);
	if (result < 0)
		callable_put(submission.callable);
	return result;
}
