/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * graph, continued: how the members of a group end. See graph.h.
 */
#include <errno.h>
#include "base/text.h"
#include "engine/graph.h"

void graph_cancel_members(struct graph *graph, struct task *task)
{
	struct group *group = task->group;

	for (uint32_t i = 0; i < group->count; i++) {
		struct member *member = &group->members[i];
		struct worker_ring *ring;

		if (!member->in_ring)
			continue;
		ring = &graph->rings->all[member->placed];
		if (ring_revoke(graph->rings, ring, member->position)) {
			group_member_leaves(group, member, false, false);
			group_restart(group);
			continue;
		}
		ring_cancel(graph->rings, ring, member->position);
		ring_request_notify(graph->rings, ring, member->position);
		ring_tell_cancelled(graph->rings, ring);
	}
}

static void set_error(struct group *group, const struct task *task, uint32_t member,
		      const struct worker_ring *ring, int error, const char *text,
		      bool text_has_path)
{
	char full[ERROR_TEXT_BYTES];

	if (!(task->flags & FLAG_DEADLINE) && !text_has_path) {
		text_format(full, sizeof(full), "%s (member %u of %u)", text_limited(text, 400),
			    member, group->count);
		text = full;
	}
	group_set_error(group, ring->index, error, text_has_path, text);
}

/* No member is in a ring any more, or parked. */
static void group_ended(struct graph *graph, struct task *task)
{
	struct group *group = task->group;
	char text[ERROR_TEXT_BYTES];
	int error = group->error;

	task_set_placed(task, NO_WORKER, 0);
	if (error) {
		memcpy(text, group->text, sizeof(text));
		group_clear_error(group);
		graph_failed(graph, task, &graph->rings->all[group->failed_at], error, text,
			     group->text_has_path);
		return;
	}
	if (group->restart)
		graph_returned(graph, task);
	else
		graph_finish(graph, task, TASK_DONE);
}

void graph_member_left(struct graph *graph, struct task *task, uint32_t number,
		       struct worker_ring *ring, int error, const char *text, bool unstarted)
{
	struct group *group = task->group;

	group_member_leaves(group, &group->members[number], !unstarted, false);
	if (error && !unstarted)
		set_error(group, task, number, ring, error, text, ring->nested_text && text[0]);
	if ((error || unstarted) && group->left)
		graph_cancel_members(graph, task);
	if (unstarted) {
		group_restart(group);
		if (group->left || group->ran)
			set_error(group, task, number, ring, -EOWNERDEAD, text, false);
	}
	if (!group->left)
		group_ended(graph, task);
}

void graph_member_died(struct graph *graph, struct task *task, uint32_t number,
		       struct worker_ring *ring, const char *text)
{
	struct group *group = task->group;

	group_member_leaves(group, &group->members[number], true, true);
	set_error(group, task, number, ring, ring->error, text, false);
	graph_cancel_members(graph, task);
}

void graph_member_gone(struct graph *graph, struct task *task)
{
	if (!group_unpark(task->group))
		group_ended(graph, task);
}
