/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Frames of a worker that is a thread, and does not return from one of them. A thread cannot
 * be killed: its started frames fail with ETIMEDOUT, the others go elsewhere, and the worker is
 * STUCK, which is as good as dead, until the thread has completed all that it had started.
 *
 * Invariant: what the thread may still read or write is given back only then. Until then a
 * final task keeps its slot, its payload, its scope (and so its heap blocks) and its callable,
 * and no new task may have tensors that overlap with what it writes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "engine/abandon.h"
#include "engine/chip_memory.h"
#include "engine/completion.h"
#include "engine/group.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/slot.h"
#include "engine/state.h"

/* --------------------------------------------------------- what is kept */

/* A final task. False: no thread has it any more. */
bool slot_keep(struct engine *engine, struct slot *slot)
{
	struct peer *peer;

	if (slot->flags & SLOT_GROUP) {
		if (!slot->group->kept)
			return false;
	} else {
		peer = &engine->peers[slot->placed];
		slot->next = peer->kept;
		peer->kept = slot;
		engine->kept_count++;
	}
	slot->queue = QUEUE_KEPT;
	return true;
}

static void member_returned(struct engine *engine, struct member *member)
{
	struct slot *slot = member->slot;

	engine->kept_count--;
	if (--slot->group->kept == 0 && slot->queue == QUEUE_KEPT)
		slot_release(engine, slot);
}

/* The thread has completed frame `number`, which was abandoned. */
void peer_returned(struct engine *engine, struct peer *peer, uint32_t number)
{
	struct member **member = &peer->kept_members, *found;
	struct slot **link = &peer->kept, *slot;

	while (*link && (*link)->position != number)
		link = &(*link)->next;
	slot = *link;
	if (slot) {
		*link = slot->next;
		engine->kept_count--;
		slot_release(engine, slot);
		return;
	}
	while (*member && (*member)->position != number)
		member = &(*member)->next;
	found = *member;
	if (found) {
		*member = found->next;
		member_returned(engine, found);
	}
}

/* Its thread has ended. */
void peer_release_kept(struct engine *engine, struct peer *peer)
{
	struct member *member;
	struct slot *slot;

	while ((slot = peer->kept)) {
		peer->kept = slot->next;
		engine->kept_count--;
		slot_release(engine, slot);
	}
	while ((member = peer->kept_members)) {
		peer->kept_members = member->next;
		member_returned(engine, member);
	}
}

static void forget_run(struct slot *slot, const struct dw_run *run)
{
	if (slot->run != run)
		return;
	for (struct scope *scope = slot->scope; scope; scope = scope->outer)
		scope->run = NULL;
	slot->run = NULL;
}

/* The run ends, and what its abandoned tasks keep stays. */
void kept_forget_run(struct engine *engine, const struct dw_run *run)
{
	for (uint32_t i = 0; engine->kept_count && i < engine->worker_count; i++) {
		for (struct slot *slot = engine->peers[i].kept; slot; slot = slot->next)
			forget_run(slot, run);
		for (struct member *member = engine->peers[i].kept_members; member;
		     member = member->next)
			forget_run(member->slot, run);
	}
}

static int check_payload(const struct peer *peer, const struct payload *payload,
			 const struct range *ranges, size_t count)
{
	const unsigned char *blob = payload->copy;
	const struct dw_tensor *tensors = (const struct dw_tensor *)(blob + WIRE_HEADER_BYTES);
	const uint8_t *tags = payload_tags(payload);
	int32_t tensor_count;
	uint64_t bytes;

	memcpy(&tensor_count, blob, sizeof(tensor_count));
	for (int32_t i = 0; i < tensor_count; i++) {
		if (tags[i] == DW_INPUT || dw_tensor_bytes(&tensors[i], &bytes) < 0)
			continue;
		for (size_t k = 0; k < count; k++)
			if (ranges[k].begin < tensors[i].data + bytes && tensors[i].data < ranges[k].end)
				return error_set(-EBUSY, "tensor %zu: %s may still write to %#llx + %llu "
						 "bytes: %s", k, peer->path,
						 (unsigned long long)tensors[i].data,
						 (unsigned long long)bytes,
						 peer->cause ? peer->cause : "its thread goes on");
	}
	return 0;
}

/* Whether a thread that goes on may write to one of the ranges: -EBUSY. */
int kept_check(const struct engine *engine, const struct range *ranges, size_t count)
{
	int result = 0;

	for (uint32_t i = 0; i < engine->worker_count; i++) {
		const struct peer *peer = &engine->peers[i];

		for (const struct slot *slot = peer->kept; slot && result == 0; slot = slot->next)
			if (!chip_memory_is_control(slot->callable))
				result = check_payload(peer, &slot->payload, ranges, count);
		for (const struct member *member = peer->kept_members; member && result == 0;
		     member = member->next)
			result = check_payload(peer, &member->payload, ranges, count);
	}
	return result;
}

/* ---------------------------------------------------------------- abandon */

static void abandon_task(struct engine *engine, struct peer *peer, uint32_t number, const char *why)
{
	struct entry *entry = peer_entry(engine, peer, number);
	struct slot *slot = entry->slot;
	struct member *member;

	slot_leave_ring(engine, slot);
	entry->slot = NULL;
	slot->flags |= SLOT_ABANDONED;
	slot->retries = 0;
	if (slot->flags & SLOT_GROUP) {
		member = &slot->group->members[entry->member];
		member->slot = slot;
		member->position = number;
		member->next = peer->kept_members;
		peer->kept_members = member;
		engine->kept_count++;
		slot->group->kept++;
		group_member_left(engine, slot, entry->member, peer, -ETIMEDOUT, why, false);
		return;
	}
	slot->placed = peer->index;
	slot->position = number;
	task_failed(engine, slot, peer, -ETIMEDOUT, why, false);
}

/* Its arguments stay where the thread reads them: a control of its own owns them from now on. */
static void abandon_control(struct engine *engine, struct peer *peer, uint32_t number,
			    const char *why)
{
	struct entry *entry = peer_entry(engine, peer, number);
	struct control *control = entry->control, *owner = NULL;
	char text[ERROR_TEXT_BYTES];

	if (control->detached)
		return;
	if (control->arena_blob)
		owner = calloc(1, sizeof(*owner));
	if (owner) {
		owner->detached = true;
		owner->arena_blob = control->arena_blob;
	}
	entry->control = owner;
	control->arena_blob = NULL;
	snprintf(text, sizeof(text), "%s: %.400s", peer->path, why);
	control_done(engine, control, -ETIMEDOUT, text);
}

/* What has not started goes elsewhere; a control frame that nobody waits for stays for later. */
static void take_back_all(struct engine *engine, struct peer *peer)
{
	for (uint32_t number = peer->tail; number != peer->head; number--) {
		struct slot *slot = peer_entry(engine, peer, number - 1)->slot;
		uint32_t member = peer_entry(engine, peer, number - 1)->member;

		if (!slot || !peer_take_back(engine, peer, number - 1))
			continue;
		if (slot->flags & SLOT_GROUP)
			group_member_left(engine, slot, member, peer, -EOWNERDEAD, peer->cause, true);
		else
			task_returned(engine, slot);
	}
}

static void fail_waiting_controls(struct engine *engine, struct peer *peer, const char *why)
{
	struct control **link = &peer->controls, *control, *last = NULL;
	char text[ERROR_TEXT_BYTES];

	snprintf(text, sizeof(text), "%s: %.400s", peer->path, why);
	while ((control = *link)) {
		if (control->detached) {
			last = control;
			link = &control->next;
			continue;
		}
		*link = control->next;
		control_done(engine, control, -ETIMEDOUT, text);
	}
	peer->last_control = last;
}

void peer_abandon(struct engine *engine, struct peer *peer, const char *why)
{
	struct pool *pool = &engine->pools[peer->pool];
	char *cause;

	if (peer->state != PEER_UP || peer->mad)
		return;
	/* It may be the old cause that is passed in. */
	cause = strdup(why);
	free(peer->cause);
	peer->cause = cause;
	take_back_all(engine, peer);
	peer->state = PEER_STUCK;
	pool->up--;
	pool->usable--;
	pool->saturated = false;
	peer->reserved = false;
	for (uint32_t number = peer->head; number != peer->tail; number++) {
		struct entry *entry = peer_entry(engine, peer, number);

		if (entry->flags & ENTRY_TIMED)
			peer->timed--;
		entry->flags &= (uint8_t)~ENTRY_TIMED;
		if (entry->slot)
			abandon_task(engine, peer, number, why);
		else if (entry->control)
			abandon_control(engine, peer, number, why);
		/* Its return is an event. */
		peer_urgent(engine, peer, number);
	}
	fail_waiting_controls(engine, peer, why);
	peer_update(engine, peer);
	peer_strand(engine, peer);
	engine->queued = true;
	finish_all(engine);
}

/* The thread has completed all that it had. */
void peer_recover(struct engine *engine, struct peer *peer)
{
	struct pool *pool = &engine->pools[peer->pool];

	peer->state = PEER_UP;
	pool->up++;
	pool->usable++;
	pool->saturated = false;
	bit_set(pool->awake, peer->index);
	peer_update(engine, peer);
	peer_post_controls(engine, peer);
	engine->queued = true;
}

void peer_end(struct engine *engine, struct peer *peer, const char *why)
{
	char text[ERROR_TEXT_BYTES];

	if (peer_kill(engine, peer, why))
		return;
	snprintf(text, sizeof(text), "%.350s; its thread goes on, because a thread cannot be killed",
		 why);
	peer_abandon(engine, peer, text);
}
