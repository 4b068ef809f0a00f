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
#include "base/text.h"
#include "engine/abandon.h"
#include "engine/chip_memory.h"
#include "engine/completion.h"
#include "engine/group.h"
#include "engine/ring.h"
#include "engine/run.h"
#include "engine/schedule.h"
#include "engine/task.h"
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
void ring_update(struct engine *engine, struct worker_ring *ring)
{
	struct pool *pool = &engine->pools[ring->pool];
	uint32_t outstanding = ring_outstanding(ring);

	__atomic_store_n(&ring->status->in_ring, outstanding, __ATOMIC_RELAXED);
	if (ring_has_room(engine, ring) && !ring->reserved)
		bit_set(pool->open, ring->index);
	else
		bit_clear(pool->open, ring->index);
	if (outstanding)
		bit_clear(pool->idle, ring->index);
	else
		bit_set(pool->idle, ring->index);
	if (outstanding)
		bit_set(engine->active, ring->index);
	else
		bit_clear(engine->active, ring->index);
}

static void notify_hub(struct engine *engine, struct worker_ring *ring)
{
	if (hub_request_notify(engine->hub, ring->index, ring->notify)) {
		bit_set(engine->pending, ring->index);
		engine->any_pending = true;
	}
}

void ring_publish(struct engine *engine, struct worker_ring *ring)
{
	uint32_t first = ring->tail - ring->unpublished;

	if (!ring->unpublished)
		return;
	ring->unpublished = 0;
	bit_clear(engine->unpublished, ring->index);
	if (hub_publish(engine->hub, ring->index)) {
		hub_mark_wake(engine->hub, ring->index);
		ring_count(ring, wakes, 1);
		engine->wake = true;
	}
	if (UNLIKELY(ring->notify_set) && !number_before(ring->notify, first))
		notify_hub(engine, ring);
	bit_set(engine->pools[ring->pool].awake, ring->index);
}

void rings_publish(struct engine *engine)
{
	for (uint32_t word = 0; word < engine->words; word++) {
		uint64_t bits = engine->unpublished[word];

		for (uint32_t i; bits_next(&bits, word, &i);)
			ring_publish(engine, &engine->rings[i]);
	}
}

void any_waiting_add(struct engine *engine, struct worker_ring *ring, int change)
{
	ring->any_waiting += (uint32_t)change;
	engine->pools[ring->pool].any_waiting += (uint32_t)change;
}

/* Counts the new frame, and publishes when that is due. */
static void ring_added(struct engine *engine, struct worker_ring *ring)
{
	uint32_t published = ring_outstanding(ring) - ring->unpublished;

	ring->tail++;
	ring->unpublished++;
	bit_set(engine->unpublished, ring->index);
	if (ring->unpublished >= PUBLISH_BATCH || published <= PUBLISH_BATCH)
		ring_publish(engine, ring);
	ring_update(engine, ring);
}

/* The consumers of a task that now sits in a ring: who can follow it, who wants to hear of it. */
static void consider_consumers(struct engine *engine, struct worker_ring *ring, struct task *task)
{
	bool notify = false;

	for (struct edge *edge = task->first; edge; edge = edge->next) {
		struct task *consumer = edge->consumer;

		if (task->flags & FLAG_CHAIN && !edge->counted) {
			if (!consumer->in_chain)
				consumer->chain = ring->index;
			if (consumer->chain == ring->index) {
				edge->counted = true;
				consumer->in_chain++;
			}
		}
		if (!task_try_chain(engine, consumer, task) && consumer->waiting <= NOTIFY_FEW)
			notify = true;
	}
	if (notify)
		ring_request_notify(engine, ring, task->position);
}

/* The ring's own count decides: it starts over with each generation of the worker. */
static struct frame *acquire(struct engine *engine, struct worker_ring *ring, uint8_t flags,
			     uint32_t *number)
{
	struct frame *frame = hub_acquire(engine->hub, ring->index, flags, number);

	if (frame && ring->head == ring->tail)
		ring->head = ring->tail = *number;
	return frame;
}

static void fill_frame(struct engine *engine, struct frame *frame, const struct task *task,
		       const struct payload *payload)
{
	/* For whoever looks at what the child does; we know it from the entry. */
	frame->task = task->head.number;
	frame->callable = task->callable->handle;
	frame->config = (struct dw_config){
		.block_dim = task->block_dim,
		.aicpu_thread_num = task->aicpu_thread_num,
		.flags = task->config_flags,
	};
	frame->args_bytes = payload->bytes;
	frame->args = (uint64_t)(uintptr_t)payload->blob;
	if (LIKELY(payload->bytes <= engine->payload))
		memcpy(frame + 1, payload->copy, payload->bytes);
}

/* What the worker wrote makes no sense: nothing of it is believed until its death is known. */
static void ring_distrust(struct engine *engine, struct worker_ring *ring)
{
	if (ring->corrupt)
		return;
	ring->corrupt = true;
	ring_update(engine, ring);
	ring_kill(engine, ring, error_text());
}

/*
 * The task's time begins when the one before it has ended. Its own deadline may be the first
 * that anybody looks at the ring for.
 */
static void request_notify_before(struct engine *engine, struct worker_ring *ring, uint32_t number, uint64_t timeout)
{
	const struct entry *before = ring_entry(engine, ring, number - 1);

	if (!(before->flags & ENTRY_TIMED) || before->timeout_ns > timeout)
		ring_request_notify(engine, ring, number - 1);
}

/*
 * The ring has room. `member` counts within a group. False: the hub does not trust the
 * worker any more; the task, unless it is a group's member, is queued again.
 */
bool ring_post(struct engine *engine, struct worker_ring *ring, struct task *task, uint32_t member)
{
	bool group = task->flags & FLAG_GROUP;
	struct payload *payload = group ? &task->group->members[member].payload : &task->payload;
	uint64_t timeout = task->timeout_ns ? task->timeout_ns : engine->timeout_ns;
	struct entry *entry;
	struct frame *frame;
	uint32_t number;

	frame = acquire(engine, ring, task->waiting ? FRAME_CHAINED : 0, &number);
	if (UNLIKELY(!frame)) {
		error_set(-EPROTO, "what it wrote into its mailbox makes no sense");
		ring_distrust(engine, ring);
		if (!group)
			task_returned(engine, task);
		return false;
	}
	entry = ring_entry(engine, ring, number);
	fill_frame(engine, frame, task, payload);
	frame->kind = UNLIKELY(chip_memory_is_control(task->callable)) ? FRAME_CONTROL :
		      FRAME_TASK;
	frame->reserved = 0;
	frame->fail_epoch = hub_fail_epoch(engine->hub, ring->index);

	entry->task = task;
	entry->control = NULL;
	entry->member = member;
	entry->estimate_ns = estimate_of(engine, task->callable);
	entry->timeout_ns = timeout;
	entry->flags = (task->waiting ? ENTRY_CHAINED : 0) | (timeout ? ENTRY_TIMED : 0) |
		       (!group && task->worker == DW_ANY ? ENTRY_ANY : 0);
	ring->load_ns += entry->estimate_ns;
	if (number != ring->head && entry->flags & ENTRY_ANY)
		any_waiting_add(engine, ring, 1);

	task->head.state = TASK_RUNNING;
	task->placed = ring->index;
	task->position = number;
	if (!group && !task->retries)
		task->flags |= FLAG_CHAIN;
	PROBE(engine, task, task, PROBE_DISPATCHED);
	ring_added(engine, ring);
	if (UNLIKELY(timeout)) {
		ring->timed++;
		entry->posted_ns = running_now(engine);
		if (number == ring->head)
			ring_head_changed(engine, ring);
		else
			request_notify_before(engine, ring, number, timeout);
	}
	if (UNLIKELY((task->run->awaited && engine->run_count > 1) || engine->heap_waiters ||
		     task->run->awaited_task == task ||
		     atomic_load_explicit(&task->callable->retired, memory_order_relaxed)))
		ring_request_notify(engine, ring, number);
	if (task->first && !group)
		consider_consumers(engine, ring, task);
	return true;
}

void ring_post_controls(struct engine *engine, struct worker_ring *ring)
{
	struct control *control;
	struct entry *entry;
	struct frame *frame;
	uint32_t number;

	/* Not before it is up: its ring may still be that of the one before it. */
	while ((control = ring->controls) && !ring->corrupt && ring->state == RING_UP &&
	       ring_outstanding(ring) < engine->depth) {
		frame = acquire(engine, ring, 0, &number);
		if (!frame)
			return;
		ring->controls = control->next;
		entry = ring_entry(engine, ring, number);
		frame->kind = FRAME_CONTROL;
		frame->reserved = 0;
		frame->fail_epoch = hub_fail_epoch(engine->hub, ring->index);
		frame->task = 0;
		frame->callable = control->code;
		frame->args = (uint64_t)(uintptr_t)control->arena_blob;
		frame->args_bytes = control->bytes;
		frame->config = (struct dw_config){ 0 };
		if (!control->arena_blob)
			memcpy(frame + 1, control->blob, control->bytes);
		*entry = (struct entry){ .control = control };
		ring_added(engine, ring);
		if (control->timeout_ns) {
			entry->flags = ENTRY_TIMED;
			entry->timeout_ns = control->timeout_ns;
			entry->posted_ns = running_now(engine);
			ring->timed++;
			if (number == ring->head)
				ring_head_changed(engine, ring);
			else
				request_notify_before(engine, ring, number, control->timeout_ns);
		}
		ring_publish(engine, ring);
		ring_request_notify(engine, ring, number);
	}
}

/* ------------------------------------------------------------ notification */

static void notify(struct engine *engine, struct worker_ring *ring, uint32_t number)
{
	ring->notify_set = true;
	ring->notify = number;
	/* The hub takes a frame that is not published yet for one that is over: it is told with it. */
	if (ring->tail - number > ring->unpublished)
		notify_hub(engine, ring);
}

/* Somebody waits for frame `number`: the parent shall hear of it when it completes. */
void ring_request_notify(struct engine *engine, struct worker_ring *ring, uint32_t number)
{
	struct entry *entry = ring_entry(engine, ring, number);

	if (entry->flags & ENTRY_NOTIFY)
		return;
	entry->flags |= ENTRY_NOTIFY;
	ring->requests++;
	if (!ring->notify_set || number_before(number, ring->notify))
		notify(engine, ring, number);
}

void request_notify(struct engine *engine, struct task *task)
{
	if (task->head.state != TASK_RUNNING)
		return;
	if (!(task->flags & FLAG_GROUP)) {
		if (task->placed != NO_WORKER)
			ring_request_notify(engine, &engine->rings[task->placed], task->position);
		return;
	}
	for (uint32_t i = 0; i < task->group->count; i++) {
		const struct member *member = &task->group->members[i];

		if (member->in_ring)
			ring_request_notify(engine, &engine->rings[member->placed], member->position);
	}
}

void request_notify_all(struct engine *engine,
		      bool (*wanted)(const struct task *task, const void *context),
		      const void *context)
{
	for (uint32_t i = 0; i < engine->worker_count; i++) {
		struct worker_ring *ring = &engine->rings[i];

		for (uint32_t number = ring->head; number != ring->tail; number++) {
			const struct task *task = ring_entry(engine, ring, number)->task;

			if (task && wanted(task, context))
				ring_request_notify(engine, ring, number);
		}
	}
}

/* The frame that hub_request_notify() was told is through: the next one that somebody waits for. */
static void notify_next(struct engine *engine, struct worker_ring *ring)
{
	ring->notify_set = false;
	if (!ring->requests)
		return;
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		if (ring_entry(engine, ring, number)->flags & ENTRY_NOTIFY) {
			notify(engine, ring, number);
			return;
		}
	}
}

/* -------------------------------------------------------------- harvesting */

/* The task is in no ring any more: nobody can follow it there. */
void task_leave_ring(struct engine *engine, struct task *task)
{
	task->placed = NO_WORKER;
	if (!(task->flags & FLAG_CHAIN))
		return;
	task->flags &= (uint8_t)~(FLAG_CHAIN | FLAG_CHAINED);
	for (struct edge *edge = task->first; edge; edge = edge->next) {
		if (!edge->counted)
			continue;
		edge->counted = false;
		edge->consumer->in_chain--;
		if (edge->consumer->queue == QUEUE_CHAINED)
			task_unqueue(engine, edge->consumer);
	}
}

/*
 * A failure that the worker knows of and these frames do not: it will return
 * them. Nobody may be pushed behind them now, since the new frame would know and run.
 */
static void break_chains(struct engine *engine, struct worker_ring *ring)
{
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		struct entry *entry = ring_entry(engine, ring, number);
		struct task *task = entry->task;
		uint32_t placed;

		if (!(entry->flags & ENTRY_CHAINED) || !task || !(task->flags & FLAG_CHAIN))
			continue;
		placed = task->placed;
		task_leave_ring(engine, task);
		task->placed = placed;
	}
}

/* Whether the worker ran it, so that the completion has times. */
static bool has_run(const struct completion *completion)
{
	return completion->state == COMPLETION_DONE || completion->state == COMPLETION_FAILED;
}

/* Accounts for the entry at the head, which leaves the ring. */
static void ring_drop_head(struct engine *engine, struct worker_ring *ring,
			   const struct completion *completion)
{
	struct entry *entry = ring_entry(engine, ring, ring->head);
	struct entry *next;

	ring->load_ns -= entry->estimate_ns;
	if (entry->flags & ENTRY_TIMED)
		ring->timed--;
	if (entry->flags & ENTRY_NOTIFY)
		ring->requests--;
	ring->head++;
	if (ring->head != ring->tail) {
		next = ring_entry(engine, ring, ring->head);
		if (next->flags & ENTRY_ANY && !(next->flags & ENTRY_REVOKED))
			any_waiting_add(engine, ring, -1);
		if (UNLIKELY(ring->timed)) {
			/* A frame that did not run took no time: the next could start when it could. */
			if (has_run(completion))
				ring->head_since = running_at(engine, completion->ended);
			if (next->flags & ENTRY_TIMED)
				ring_head_changed(engine, ring);
		}
	}
	if (ring->notify_set && !number_before(ring->head - 1, ring->notify))
		notify_next(engine, ring);
}

void control_done(struct engine *engine, struct control *control, int result, const char *text)
{
	control->done = true;
	control->result = result;
	text_copy(control->text, sizeof(control->text), text);
	if (control->arena_blob)
		arena_free(engine->arena, control->arena_blob);
	control->arena_blob = NULL;
	if (control->detached)
		free(control);
}

static void handle_completion(struct engine *engine, struct worker_ring *ring, struct entry *taken_entry,
			      const struct completion *completion, const char *text)
{
	struct entry entry = *taken_entry;
	struct task *task = entry.task;
	uint64_t spent = completion->ended - completion->started;

	if (UNLIKELY(ring->state == RING_STUCK))
		ring_returned(engine, ring, ring->head);
	ring_drop_head(engine, ring, completion);
	if (completion->state == COMPLETION_FAILED)
		break_chains(engine, ring);
	if (entry.control) {
		control_done(engine, entry.control, completion->error, text);
		return;
	}
	if (!task)
		return;
	if (has_run(completion)) {
		if (completion->ended >= completion->started) {
			estimate_learn(engine, task->callable, spent);
			ring_count(ring, busy_ns, spent);
		}
		PROBE(engine, span, task, ring, entry.member, completion);
	}
	task_completed(engine, ring, task, entry.member, completion, text);
}

/* Harvests up to `limit` completions; returns how many. */
uint32_t ring_harvest(struct engine *engine, struct worker_ring *ring, uint32_t limit)
{
	struct completion completion;
	char text[TEXT_BYTES];
	uint32_t count = 0;
	int result;

	if (ring->corrupt || ring->head == ring->tail)
		return 0;
	text[0] = '\0';
	while (count < limit && ring->head != ring->tail) {
		result = hub_harvest(engine->hub, ring->index, &completion, text);
		if (result == 0)
			break;
		if (result < 0) {
			ring_distrust(engine, ring);
			break;
		}
		count++;
		handle_completion(engine, ring, ring_entry(engine, ring, ring->head), &completion,
				  completion.state == COMPLETION_FAILED ? text : "");
	}
	if (count) {
		if (UNLIKELY(ring->state == RING_STUCK && ring->head == ring->tail))
			ring_recover(engine, ring);
		engine->pools[ring->pool].saturated = false;
		engine->queued = true;
		ring_update(engine, ring);
		if (engine->finished)
			finish_all(engine);
	}
	return count;
}

/* --------------------------------------------------------- back, and death */

bool ring_revoke(struct engine *engine, struct worker_ring *ring, uint32_t number)
{
	struct entry *entry = ring_entry(engine, ring, number);
	struct task *task = entry->task;

	if (!task || ring->corrupt || ring->state != RING_UP)
		return false;
	ring_publish(engine, ring);
	if (!hub_revoke(engine->hub, ring->index, number))
		return false;
	entry->task = NULL;
	entry->flags |= ENTRY_REVOKED;
	if (entry->flags & ENTRY_ANY && number != ring->head)
		any_waiting_add(engine, ring, -1);
	ring->load_ns -= entry->estimate_ns;
	entry->estimate_ns = 0;
	task_leave_ring(engine, task);
	return true;
}

bool ring_kill(struct engine *engine, struct worker_ring *ring, const char *why)
{
	return !engine->ops || !engine->ops->kill ||
	       engine->ops->kill(engine->ops_context, ring->index, why);
}

bool entry_is_call(const struct entry *entry, const struct dw_run *run)
{
	return entry->control ? entry->control->run == run :
	       entry->task && entry->task->run == run && chip_memory_is_control(entry->task->callable);
}

bool ring_cancel_controls(struct engine *engine, struct worker_ring *ring, const struct dw_run *run)
{
	struct control **link = &ring->controls, *control, *last = NULL;
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
	ring->last_control = last;
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		struct entry *entry = ring_entry(engine, ring, number);

		if (!entry_is_call(entry, run))
			continue;
		if (entry->control && !ring->corrupt && ring->state == RING_UP &&
		    hub_revoke(engine->hub, ring->index, number)) {
			control = entry->control;
			entry->control = NULL;
			entry->flags |= ENTRY_REVOKED;
			control_done(engine, control, run->error, run->text);
		} else {
			started = true;
		}
	}
	return started;
}

/* Its worker died under it, or was killed because of it. */
static void control_lost(struct engine *engine, const struct worker_ring *ring, struct control *control,
			 const char *cause)
{
	char text[ERROR_TEXT_BYTES];

	if (control->late)
		text_format(text, sizeof(text), "%s: %s %s and was killed", ring->path, control->what,
			 control->late);
	else
		text_format(text, sizeof(text), "%s: %s", ring->path, cause);
	control_done(engine, control, control->late ? -ETIMEDOUT : -EOWNERDEAD, text);
}

static void controls_fail(struct engine *engine, struct worker_ring *ring, const char *cause)
{
	char text[ERROR_TEXT_BYTES];
	struct control *control;

	text_format(text, sizeof(text), "%s: %s", ring->path, cause);
	while ((control = ring->controls)) {
		ring->controls = control->next;
		control_done(engine, control, -EOWNERDEAD, text);
	}
}

/*
 * A task under which its worker died: the error is known now; but what is left of the worker may
 * still write the task's memory, so nobody who waits for the task, or for its memory, goes on yet.
 */
static void park(struct engine *engine, struct worker_ring *ring, const struct entry *entry,
		 const char *cause)
{
	struct task *task = entry->task;
	struct member *member;

	if (task->flags & FLAG_GROUP) {
		member = &task->group->members[entry->member];
		member->task = task;
		member->next = ring->parked_members;
		ring->parked_members = member;
		group_member_died(engine, task, entry->member, ring, cause);
	} else {
		task->next = ring->parked;
		ring->parked = task;
		task_fail(engine, task, ring, ring->error, cause, false);
	}
}

void ring_release_parked(struct engine *engine, struct worker_ring *ring)
{
	struct member *member;
	struct task *task;

	while ((task = ring->parked)) {
		ring->parked = task->next;
		task_fail_now(engine, task);
	}
	while ((member = ring->parked_members)) {
		ring->parked_members = member->next;
		group_member_gone(engine, member->task);
	}
	ring_release_kept(engine, ring);
}

/* What was in the ring when the worker died. `started` is unknown for a corrupt one: all count as started. */
static void fail_entries(struct engine *engine, struct worker_ring *ring, const char *cause)
{
	char text[ERROR_TEXT_BYTES];

	text_copy(text, sizeof(text), cause);
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		struct entry *entry = ring_entry(engine, ring, number);
		struct task *task = entry->task;
		bool started = ring->corrupt || hub_started(engine->hub, ring->index, number);

		if (entry->control) {
			control_lost(engine, ring, entry->control, cause);
			continue;
		}
		if (!task)
			continue;
		task_leave_ring(engine, task);
		if (started)
			park(engine, ring, entry, text);
		else if (task->flags & FLAG_GROUP)
			group_member_left(engine, task, entry->member, ring, -EOWNERDEAD, text, true);
		else
			task_returned(engine, task);
	}
	ring->head = ring->tail;
}

void engine_worker_lost_locked(struct engine *engine, struct worker_ring *ring, bool returns,
			       const char *cause)
{
	struct pool *pool = &engine->pools[ring->pool];
	bool was_usable = !ring_is_lost(ring), was_up = ring->state == RING_UP;

	/* What it completed before it died counts. */
	ring_publish(engine, ring);
	ring_harvest(engine, ring, UINT32_MAX);
	ring->state = returns ? RING_RETURNING : RING_DEAD;
	ring->return_by = NEVER;
	if (returns && engine->init_timeout_ns) {
		ring->return_by = running_deadline(engine, engine->init_timeout_ns);
		timer_deadline(engine, ring->return_by);
	}
	if (was_up)
		pool->up--;
	if (was_usable && !returns)
		pool->usable--;
	if (was_up)
		engine_count(engine, deaths);
	fail_entries(engine, ring, cause);
	controls_fail(engine, ring, cause);
	ring->unpublished = 0;
	bit_clear(engine->unpublished, ring->index);
	any_waiting_add(engine, ring, -(int)ring->any_waiting);
	ring->load_ns = 0;
	ring->notify_set = false;
	ring->requests = 0;
	ring->timed = 0;
	ring->reserved = false;
	bit_clear(pool->awake, ring->index);
	ring_update(engine, ring);
	pool->saturated = false;
	engine->queued = true;
}
