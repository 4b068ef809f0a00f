/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * One worker's ring: frames in, completions out, who is told of what.
 *
 * Invariant: entries[head … tail) are exactly the frames that were posted and
 * whose completion was not harvested. Frames that are not published yet exist only
 * behind published ones, so that the worker's running dry brings somebody here.
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
#include "engine/submit.h"
#include "engine/timer.h"

/* Whether frame a comes before frame b; both within a ring's length. */
static bool number_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

uint32_t estimate_of(const struct engine *engine, const struct callable *callable)
{
	uint32_t i = (uint32_t)callable->handle % ESTIMATES;
	uint32_t mean = engine->estimates[i];

	return mean ? mean + 4 * engine->deviations[i] : UNKNOWN_NS;
}

/* Running mean and deviation; one sample moves them by a bounded factor. */
static void estimate_learn(struct engine *engine, const struct callable *callable, uint64_t ns)
{
	uint32_t i = (uint32_t)callable->handle % ESTIMATES;
	uint32_t mean = engine->estimates[i], sample, apart;

	if (!mean) {
		engine->estimates[i] = ns > 100000000 ? 100000000 : (uint32_t)ns + 1;
		engine->deviations[i] = 0;
		return;
	}
	sample = ns > 4ULL * mean + 10000 ? 4 * mean + 10000 : (uint32_t)ns;
	if (sample > 100000000)
		sample = 100000000;
	apart = sample > mean ? sample - mean : mean - sample;
	engine->estimates[i] = mean - mean / 8 + sample / 8 + 1;
	engine->deviations[i] = engine->deviations[i] - engine->deviations[i] / 4 + apart / 4;
}

/* Keeps the pool's bitmaps true. After each change of outstanding, state or reservation. */
void peer_update(struct engine *engine, struct peer *peer)
{
	struct pool *pool = &engine->pools[peer->pool];
	uint32_t outstanding = peer_outstanding(peer);

	__atomic_store_n(&peer->now->in_ring, outstanding, __ATOMIC_RELAXED);
	if (peer_has_room(engine, peer) && !peer->reserved)
		bit_set(pool->open, peer->index);
	else
		bit_clear(pool->open, peer->index);
	if (outstanding)
		bit_clear(pool->idle, peer->index);
	else
		bit_set(pool->idle, peer->index);
	if (outstanding)
		bit_set(engine->active, peer->index);
	else
		bit_clear(engine->active, peer->index);
}

static void notify_hub(struct engine *engine, struct peer *peer)
{
	if (hub_notify_at(engine->hub, peer->index, peer->notify)) {
		bit_set(engine->news, peer->index);
		engine->any_news = true;
	}
}

void peer_publish(struct engine *engine, struct peer *peer)
{
	uint32_t first = peer->tail - peer->unpublished;

	if (!peer->unpublished)
		return;
	peer->unpublished = 0;
	bit_clear(engine->unpublished, peer->index);
	if (hub_publish(engine->hub, peer->index)) {
		hub_mark_wake(engine->hub, peer->index);
		peer_count(peer, wakes, 1);
		engine->wake = true;
	}
	if (UNLIKELY(peer->notify_set) && !number_before(peer->notify, first))
		notify_hub(engine, peer);
	bit_set(engine->pools[peer->pool].awake, peer->index);
}

void peers_publish(struct engine *engine)
{
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = engine->unpublished[word];

		for (uint32_t i; bits_next(&bits, word, &i);)
			peer_publish(engine, &engine->peers[i]);
	}
}

void any_waiting_add(struct engine *engine, struct peer *peer, int change)
{
	peer->any_waiting += (uint32_t)change;
	engine->pools[peer->pool].any_waiting += (uint32_t)change;
}

/* Counts the new frame, and publishes when that is due. */
static void peer_added(struct engine *engine, struct peer *peer)
{
	uint32_t published = peer_outstanding(peer) - peer->unpublished;

	peer->tail++;
	peer->unpublished++;
	bit_set(engine->unpublished, peer->index);
	if (peer->unpublished >= PUBLISH_BATCH || published <= PUBLISH_BATCH)
		peer_publish(engine, peer);
	peer_update(engine, peer);
}

/* The consumers of a task that now sits in a ring: who can follow it, who wants to hear of it. */
static void consider_consumers(struct engine *engine, struct peer *peer, struct slot *slot)
{
	bool urgent = false;

	for (struct edge *edge = slot->first; edge; edge = edge->next) {
		struct slot *consumer = edge->consumer;

		if (slot->flags & SLOT_LANE && !edge->counted) {
			if (!consumer->in_lane)
				consumer->lane = peer->index;
			if (consumer->lane == peer->index) {
				edge->counted = true;
				consumer->in_lane++;
			}
		}
		if (!task_try_ahead(engine, consumer, slot) && consumer->waiting <= URGENT_FEW)
			urgent = true;
	}
	if (urgent)
		peer_urgent(engine, peer, slot->position);
}

/* The ring's own count decides: it starts over with each generation of the worker. */
static struct frame *acquire(struct engine *engine, struct peer *peer, uint8_t flags,
			     uint32_t *number)
{
	struct frame *frame = hub_acquire(engine->hub, peer->index, flags, number);

	if (frame && peer->head == peer->tail)
		peer->head = peer->tail = *number;
	return frame;
}

static void fill_frame(struct engine *engine, struct frame *frame, const struct slot *slot,
		       const struct payload *payload)
{
	/* For whoever looks at what the child does; we know it from the entry. */
	frame->task = slot->head.number;
	frame->callable = slot->callable->handle;
	frame->config = (struct dw_config){
		.block_dim = slot->block_dim,
		.aicpu_thread_num = slot->aicpu_thread_num,
		.flags = slot->config_flags,
	};
	frame->args_bytes = payload->bytes;
	frame->args = (uint64_t)(uintptr_t)payload->blob;
	if (LIKELY(payload->bytes <= engine->payload))
		memcpy(frame + 1, payload->copy, payload->bytes);
}

/* What the peer wrote makes no sense: nothing of it is believed until its death is known. */
static void peer_distrust(struct engine *engine, struct peer *peer)
{
	if (peer->mad)
		return;
	peer->mad = true;
	peer_update(engine, peer);
	peer_kill(engine, peer, error_text());
}

/*
 * The task's time begins when the one before it has ended. Its own deadline may be the first
 * that anybody looks at the ring for.
 */
static void want_head(struct engine *engine, struct peer *peer, uint32_t number, uint64_t timeout)
{
	const struct entry *before = peer_entry(engine, peer, number - 1);

	if (!(before->flags & ENTRY_TIMED) || before->timeout_ns > timeout)
		peer_urgent(engine, peer, number - 1);
}

/*
 * The ring has room. `member` counts within a group. False: the hub does not trust the
 * peer any more; the task, unless it is a group's member, is queued again.
 */
bool peer_post(struct engine *engine, struct peer *peer, struct slot *slot, uint32_t member)
{
	bool group = slot->flags & SLOT_GROUP;
	struct payload *payload = group ? &slot->group->members[member].payload : &slot->payload;
	uint64_t timeout = slot->timeout_ns ? slot->timeout_ns : engine->timeout_ns;
	struct entry *entry;
	struct frame *frame;
	uint32_t number;

	frame = acquire(engine, peer, slot->waiting ? FRAME_AHEAD : 0, &number);
	if (UNLIKELY(!frame)) {
		error_set(-EPROTO, "what it wrote into its mailbox makes no sense");
		peer_distrust(engine, peer);
		if (!group)
			task_returned(engine, slot);
		return false;
	}
	entry = peer_entry(engine, peer, number);
	fill_frame(engine, frame, slot, payload);
	frame->kind = UNLIKELY(chip_memory_is_control(slot->callable)) ? FRAME_CONTROL :
		      FRAME_TASK;
	frame->reserved = 0;
	frame->fail_epoch = hub_fail_epoch(engine->hub, peer->index);

	entry->slot = slot;
	entry->control = NULL;
	entry->member = member;
	entry->estimate_ns = estimate_of(engine, slot->callable);
	entry->timeout_ns = timeout;
	entry->flags = (slot->waiting ? ENTRY_AHEAD : 0) | (timeout ? ENTRY_TIMED : 0) |
		       (!group && slot->worker == DW_ANY ? ENTRY_ANY : 0);
	peer->load_ns += entry->estimate_ns;
	if (number != peer->head && entry->flags & ENTRY_ANY)
		any_waiting_add(engine, peer, 1);

	slot->head.state = TASK_RUNNING;
	slot->placed = peer->index;
	slot->position = number;
	if (!group && !slot->retries)
		slot->flags |= SLOT_LANE;
	PROBE(engine, task, slot, PROBE_DISPATCHED);
	peer_added(engine, peer);
	if (UNLIKELY(timeout)) {
		peer->timed++;
		entry->posted_ns = running_now(engine);
		if (number == peer->head)
			peer_head_changed(engine, peer);
		else
			want_head(engine, peer, number, timeout);
	}
	if (UNLIKELY((slot->run->awaited && engine->run_count > 1) || engine->heap_waiters ||
		     slot->run->awaited_slot == slot ||
		     atomic_load_explicit(&slot->callable->retired, memory_order_relaxed)))
		peer_urgent(engine, peer, number);
	if (slot->first && !group)
		consider_consumers(engine, peer, slot);
	return true;
}

void peer_post_controls(struct engine *engine, struct peer *peer)
{
	struct control *control;
	struct entry *entry;
	struct frame *frame;
	uint32_t number;

	/* Not before it is up: its ring may still be that of the one before it. */
	while ((control = peer->controls) && !peer->mad && peer->state == PEER_UP &&
	       peer_outstanding(peer) < engine->depth) {
		frame = acquire(engine, peer, 0, &number);
		if (!frame)
			return;
		peer->controls = control->next;
		entry = peer_entry(engine, peer, number);
		frame->kind = FRAME_CONTROL;
		frame->reserved = 0;
		frame->fail_epoch = hub_fail_epoch(engine->hub, peer->index);
		frame->task = 0;
		frame->callable = control->code;
		frame->args = (uint64_t)(uintptr_t)control->arena_blob;
		frame->args_bytes = control->bytes;
		frame->config = (struct dw_config){ 0 };
		if (!control->arena_blob)
			memcpy(frame + 1, control->blob, control->bytes);
		*entry = (struct entry){ .control = control };
		peer_added(engine, peer);
		if (control->timeout_ns) {
			entry->flags = ENTRY_TIMED;
			entry->timeout_ns = control->timeout_ns;
			entry->posted_ns = running_now(engine);
			peer->timed++;
			if (number == peer->head)
				peer_head_changed(engine, peer);
			else
				want_head(engine, peer, number, control->timeout_ns);
		}
		peer_publish(engine, peer);
		peer_urgent(engine, peer, number);
	}
}

/* ------------------------------------------------------------ notification */

static void notify(struct engine *engine, struct peer *peer, uint32_t number)
{
	peer->notify_set = true;
	peer->notify = number;
	/* The hub takes a frame that is not published yet for one that is over: it is told with it. */
	if (peer->tail - number > peer->unpublished)
		notify_hub(engine, peer);
}

/* Somebody waits for frame `number`: the parent shall hear of it when it completes. */
void peer_urgent(struct engine *engine, struct peer *peer, uint32_t number)
{
	struct entry *entry = peer_entry(engine, peer, number);

	if (entry->flags & ENTRY_URGENT)
		return;
	entry->flags |= ENTRY_URGENT;
	peer->urgent++;
	if (!peer->notify_set || number_before(number, peer->notify))
		notify(engine, peer, number);
}

void want_completion(struct engine *engine, struct slot *slot)
{
	if (slot->head.state != TASK_RUNNING)
		return;
	if (!(slot->flags & SLOT_GROUP)) {
		if (slot->placed != NO_WORKER)
			peer_urgent(engine, &engine->peers[slot->placed], slot->position);
		return;
	}
	for (uint32_t i = 0; i < slot->group->count; i++) {
		const struct member *member = &slot->group->members[i];

		if (member->in_ring)
			peer_urgent(engine, &engine->peers[member->placed], member->position);
	}
}

void want_completions(struct engine *engine,
		      bool (*wanted)(const struct slot *slot, const void *context),
		      const void *context)
{
	for (uint32_t i = 0; i < engine->worker_count; i++) {
		struct peer *peer = &engine->peers[i];

		for (uint32_t number = peer->head; number != peer->tail; number++) {
			const struct slot *slot = peer_entry(engine, peer, number)->slot;

			if (slot && wanted(slot, context))
				peer_urgent(engine, peer, number);
		}
	}
}

/* The frame that hub_notify_at() was told is through: the next one that somebody waits for. */
static void notify_next(struct engine *engine, struct peer *peer)
{
	peer->notify_set = false;
	if (!peer->urgent)
		return;
	for (uint32_t number = peer->head; number != peer->tail; number++) {
		if (peer_entry(engine, peer, number)->flags & ENTRY_URGENT) {
			notify(engine, peer, number);
			return;
		}
	}
}

/* -------------------------------------------------------------- harvesting */

/* The slot is in no ring any more: nobody can follow it there. */
void slot_leave_ring(struct engine *engine, struct slot *slot)
{
	slot->placed = NO_WORKER;
	if (!(slot->flags & SLOT_LANE))
		return;
	slot->flags &= (uint8_t)~(SLOT_LANE | SLOT_FOLLOWED);
	for (struct edge *edge = slot->first; edge; edge = edge->next) {
		if (!edge->counted)
			continue;
		edge->counted = false;
		edge->consumer->in_lane--;
		if (edge->consumer->queue == QUEUE_AHEAD)
			task_unqueue(engine, edge->consumer);
	}
}

/*
 * A failure that the worker knows of and these frames do not: it will return
 * them. Nobody may be pushed behind them now, since the new frame would know and run.
 */
static void distrust_ahead(struct engine *engine, struct peer *peer)
{
	for (uint32_t number = peer->head; number != peer->tail; number++) {
		struct entry *entry = peer_entry(engine, peer, number);
		struct slot *slot = entry->slot;
		uint32_t placed;

		if (!(entry->flags & ENTRY_AHEAD) || !slot || !(slot->flags & SLOT_LANE))
			continue;
		placed = slot->placed;
		slot_leave_ring(engine, slot);
		slot->placed = placed;
	}
}

/* Whether the worker ran it, so that the completion has times. */
static bool has_run(const struct completion *completion)
{
	return completion->state == COMPLETION_DONE || completion->state == COMPLETION_FAILED;
}

/* Accounts for the entry at the head, which leaves the ring. */
static void peer_drop_head(struct engine *engine, struct peer *peer,
			   const struct completion *completion)
{
	struct entry *entry = peer_entry(engine, peer, peer->head);
	struct entry *next;

	peer->load_ns -= entry->estimate_ns;
	if (entry->flags & ENTRY_TIMED)
		peer->timed--;
	if (entry->flags & ENTRY_URGENT)
		peer->urgent--;
	peer->head++;
	if (peer->head != peer->tail) {
		next = peer_entry(engine, peer, peer->head);
		if (next->flags & ENTRY_ANY && !(next->flags & ENTRY_TAKEN))
			any_waiting_add(engine, peer, -1);
		if (UNLIKELY(peer->timed)) {
			/* A frame that did not run took no time: the next could start when it could. */
			if (has_run(completion))
				peer->head_since = running_at(engine, completion->ended);
			if (next->flags & ENTRY_TIMED)
				peer_head_changed(engine, peer);
		}
	}
	if (peer->notify_set && !number_before(peer->head - 1, peer->notify))
		notify_next(engine, peer);
}

void control_done(struct engine *engine, struct control *control, int result, const char *text)
{
	control->done = true;
	control->result = result;
	snprintf(control->text, sizeof(control->text), "%s", text);
	if (control->arena_blob)
		arena_free(engine->arena, control->arena_blob);
	control->arena_blob = NULL;
	if (control->detached)
		free(control);
}

static void handle_completion(struct engine *engine, struct peer *peer, struct entry *taken_entry,
			      const struct completion *completion, const char *text)
{
	struct entry entry = *taken_entry;
	struct slot *slot = entry.slot;
	uint64_t spent = completion->ended - completion->started;

	if (UNLIKELY(peer->state == PEER_STUCK))
		peer_returned(engine, peer, peer->head);
	peer_drop_head(engine, peer, completion);
	if (completion->state == COMPLETION_FAILED)
		distrust_ahead(engine, peer);
	if (entry.control) {
		control_done(engine, entry.control, completion->error, text);
		return;
	}
	if (!slot)
		return;
	if (has_run(completion)) {
		if (completion->ended >= completion->started) {
			estimate_learn(engine, slot->callable, spent);
			peer_count(peer, busy_ns, spent);
		}
		PROBE(engine, span, slot, peer, entry.member, completion);
	}
	task_completed(engine, peer, slot, entry.member, completion, text);
}

/* Harvests up to `limit` completions; returns how many. */
uint32_t peer_harvest(struct engine *engine, struct peer *peer, uint32_t limit)
{
	struct completion completion;
	char text[TEXT_BYTES];
	uint32_t count = 0;
	int result;

	if (peer->mad || peer->head == peer->tail)
		return 0;
	text[0] = '\0';
	while (count < limit && peer->head != peer->tail) {
		result = hub_harvest(engine->hub, peer->index, &completion, text);
		if (result == 0)
			break;
		if (result < 0) {
			peer_distrust(engine, peer);
			break;
		}
		count++;
		handle_completion(engine, peer, peer_entry(engine, peer, peer->head), &completion,
				  completion.state == COMPLETION_FAILED ? text : "");
	}
	if (count) {
		if (UNLIKELY(peer->state == PEER_STUCK && peer->head == peer->tail))
			peer_recover(engine, peer);
		engine->pools[peer->pool].saturated = false;
		engine->queued = true;
		peer_update(engine, peer);
		if (engine->finished)
			finish_all(engine);
	}
	return count;
}

/* --------------------------------------------------------- back, and death */

bool peer_take_back(struct engine *engine, struct peer *peer, uint32_t number)
{
	struct entry *entry = peer_entry(engine, peer, number);
	struct slot *slot = entry->slot;

	if (!slot || peer->mad || peer->state != PEER_UP)
		return false;
	peer_publish(engine, peer);
	if (!hub_take_back(engine->hub, peer->index, number))
		return false;
	entry->slot = NULL;
	entry->flags |= ENTRY_TAKEN;
	if (entry->flags & ENTRY_ANY && number != peer->head)
		any_waiting_add(engine, peer, -1);
	peer->load_ns -= entry->estimate_ns;
	entry->estimate_ns = 0;
	slot_leave_ring(engine, slot);
	return true;
}

bool peer_kill(struct engine *engine, struct peer *peer, const char *why)
{
	return !engine->ops || !engine->ops->kill ||
	       engine->ops->kill(engine->ops_context, peer->index, why);
}

bool entry_is_call(const struct entry *entry, const struct dw_run *run)
{
	return entry->control ? entry->control->run == run :
	       entry->slot && entry->slot->run == run && chip_memory_is_control(entry->slot->callable);
}

bool peer_cancel_controls(struct engine *engine, struct peer *peer, const struct dw_run *run)
{
	struct control **link = &peer->controls, *control, *last = NULL;
	bool started = false;

	while ((control = *link)) {
		if (control->run != run) {
			last = control;
			link = &control->next;
			continue;
		}
		*link = control->next;
		control_done(engine, control, run->error, run->text);
	}
	peer->last_control = last;
	for (uint32_t number = peer->head; number != peer->tail; number++) {
		struct entry *entry = peer_entry(engine, peer, number);

		if (!entry_is_call(entry, run))
			continue;
		if (entry->control && !peer->mad && peer->state == PEER_UP &&
		    hub_take_back(engine->hub, peer->index, number)) {
			control = entry->control;
			entry->control = NULL;
			entry->flags |= ENTRY_TAKEN;
			control_done(engine, control, run->error, run->text);
		} else {
			started = true;
		}
	}
	return started;
}

/* Its worker died under it, or was killed because of it. */
static void control_lost(struct engine *engine, const struct peer *peer, struct control *control,
			 const char *cause)
{
	char text[ERROR_TEXT_BYTES];

	if (control->late)
		snprintf(text, sizeof(text), "%s: %s %s and was killed", peer->path, control->what,
			 control->late);
	else
		snprintf(text, sizeof(text), "%s: %.400s", peer->path, cause);
	control_done(engine, control, control->late ? -ETIMEDOUT : -EOWNERDEAD, text);
}

static void controls_fail(struct engine *engine, struct peer *peer, const char *cause)
{
	char text[ERROR_TEXT_BYTES];
	struct control *control;

	snprintf(text, sizeof(text), "%s: %s", peer->path, cause);
	while ((control = peer->controls)) {
		peer->controls = control->next;
		control_done(engine, control, -EOWNERDEAD, text);
	}
}

/*
 * A task under which its worker died: the error is known now; but what is left of the worker may
 * still write the task's memory, so nobody who waits for the task, or for its memory, goes on yet.
 */
static void hold(struct engine *engine, struct peer *peer, const struct entry *entry,
		 const char *cause)
{
	struct slot *slot = entry->slot;
	struct member *member;

	if (slot->flags & SLOT_GROUP) {
		member = &slot->group->members[entry->member];
		member->slot = slot;
		member->next = peer->held_members;
		peer->held_members = member;
		group_member_died(engine, slot, entry->member, peer, cause);
	} else {
		slot->next = peer->held;
		peer->held = slot;
		task_fail(engine, slot, peer, peer->error, cause, false);
	}
}

void peer_release_held(struct engine *engine, struct peer *peer)
{
	struct member *member;
	struct slot *slot;

	while ((slot = peer->held)) {
		peer->held = slot->next;
		task_fail_now(engine, slot);
	}
	while ((member = peer->held_members)) {
		peer->held_members = member->next;
		group_member_gone(engine, member->slot);
	}
	peer_release_kept(engine, peer);
}

/* What was in the ring when the worker died. `started` is unknown for a mad one: all count as started. */
static void fail_entries(struct engine *engine, struct peer *peer, const char *cause)
{
	char text[ERROR_TEXT_BYTES];

	snprintf(text, sizeof(text), "%s", cause);
	for (uint32_t number = peer->head; number != peer->tail; number++) {
		struct entry *entry = peer_entry(engine, peer, number);
		struct slot *slot = entry->slot;
		bool started = peer->mad || hub_started(engine->hub, peer->index, number);

		if (entry->control) {
			control_lost(engine, peer, entry->control, cause);
			continue;
		}
		if (!slot)
			continue;
		slot_leave_ring(engine, slot);
		if (started)
			hold(engine, peer, entry, text);
		else if (slot->flags & SLOT_GROUP)
			group_member_left(engine, slot, entry->member, peer, -EOWNERDEAD, text, true);
		else
			task_returned(engine, slot);
	}
	peer->head = peer->tail;
}

void engine_worker_lost_locked(struct engine *engine, struct peer *peer, bool returns,
			       const char *cause)
{
	struct pool *pool = &engine->pools[peer->pool];
	bool was_usable = !peer_is_lost(peer), was_up = peer->state == PEER_UP;

	/* What it completed before it died counts. */
	peer_publish(engine, peer);
	peer_harvest(engine, peer, UINT32_MAX);
	peer->state = returns ? PEER_RETURNING : PEER_DEAD;
	peer->return_by = NEVER;
	if (returns && engine->init_timeout_ns) {
		peer->return_by = running_deadline(engine, engine->init_timeout_ns);
		timer_deadline(engine, peer->return_by);
	}
	if (was_up)
		pool->up--;
	if (was_usable && !returns)
		pool->usable--;
	if (was_up)
		engine_count(engine, deaths);
	fail_entries(engine, peer, cause);
	controls_fail(engine, peer, cause);
	peer->unpublished = 0;
	bit_clear(engine->unpublished, peer->index);
	any_waiting_add(engine, peer, -(int)peer->any_waiting);
	peer->load_ns = 0;
	peer->notify_set = false;
	peer->urgent = 0;
	peer->timed = 0;
	peer->reserved = false;
	bit_clear(pool->awake, peer->index);
	peer_update(engine, peer);
	pool->saturated = false;
	engine->queued = true;
}
