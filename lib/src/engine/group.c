/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See group.h.
 */
#include <stdlib.h>
#include "base/text.h"
#include "engine/group.h"
#include "engine/template.h"

struct group *group_new(size_t members, const uint32_t *workers, uint32_t first)
{
	struct group *group = calloc(1, sizeof(*group) + members * sizeof(struct member));

	if (!group)
		return NULL;
	group->chosen = calloc(members, sizeof(*group->chosen));
	if (!group->chosen) {
		free(group);
		return NULL;
	}
	for (size_t i = 0; i < members; i++) {
		uint32_t worker = workers ? workers[i] : DW_ANY;

		if (worker != DW_ANY) {
			worker += first;
			group->chosen[group->explicit_count++] = worker;
		}
		group->members[i].worker = worker;
	}
	return group;
}

int group_add_payload(struct task_table *table, struct group *group, const struct dw_args *args,
		      const char *name)
{
	int result = payload_make(table, &group->members[group->count].payload, args, false, name,
				  NULL);

	if (result == 0)
		group->count++;
	return result;
}

int group_again_payload(struct task_table *table, struct group *group,
			const struct payload_template *from, const uint64_t *values)
{
	int result = payload_again_large(table, &group->members[group->count].payload, from,
					 values);

	if (result == 0)
		group->count++;
	return result;
}

void group_free(struct task_table *table, struct group *group)
{
	for (uint32_t i = 0; i < group->count; i++)
		payload_free(table, &group->members[i].payload);
	free(group->chosen);
	free(group);
}

void group_starts(struct group *group)
{
	group->left = group->count;
	group->restart = false;
}

void group_member_goes(struct member *member, uint32_t ring)
{
	member->placed = ring;
}

void group_member_entered(struct member *member, uint32_t position)
{
	member->position = position;
	member->in_ring = true;
}

void group_member_leaves(struct group *group, struct member *member, bool ran, bool parked)
{
	member->in_ring = false;
	group->ran += ran;
	group->left -= !parked;
}

uint32_t group_unpark(struct group *group)
{
	return --group->left;
}

void group_restart(struct group *group)
{
	group->restart = true;
}

void group_set_error(struct group *group, uint32_t worker, int error, bool text_has_path,
		     const char *text)
{
	if (group->error)
		return;
	group->error = error;
	group->failed_at = worker;
	group->text_has_path = text_has_path;
	text_copy(group->text, sizeof(group->text), text);
}

void group_clear_error(struct group *group)
{
	group->error = 0;
	group->ran = 0;
}

void group_member_push(struct member **list, struct member *member, struct task *task,
		       uint32_t position)
{
	member->task = task;
	member->position = position;
	member->next = *list;
	*list = member;
}

void group_count_kept(struct group *group, int change)
{
	group->kept += (uint32_t)change;
}
