/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See ring.h and ring_flow.h: life, posting, notification, harvesting. Control frames:
 * ring_control.c.
 */
#include <errno.h>
#include <stdlib.h>
#include "engine/queue.h"
#include "engine/ring_flow.h"
#include "mailbox/timeline.h"

/* --------------------------------------------------------------------- life */

static uint64_t *bitmap_new(const struct ring_set *rings)
{
	return calloc(rings->words ? rings->words : 1, sizeof(uint64_t));
}

static int ring_init(struct ring_set *rings, uint32_t i, const struct engine_options *options)
{
	const struct engine_worker *worker = &options->workers[i];
	struct worker_ring *ring = &rings->all[i];

	ring->index = i;
	ring->kind = worker->kind;
	ring->nested_text = worker->nested_text;
	ring->elsewhere = worker->elsewhere;
	ring->path = strdup(worker->path);
	ring->driver = worker->driver ? strdup(worker->driver) : NULL;
	ring->entries = calloc(rings->depth, sizeof(*ring->entries));
	ring->stats = options->worker_stats ? &options->worker_stats[i] : &ring->own_stats;
	ring->status = options->worker_status ? &options->worker_status[i] : &ring->own_status;
	if (!ring->path || !ring->entries || (worker->driver && !ring->driver))
		return -ENOMEM;
	ring_update(rings, ring);
	return 0;
}

int rings_init(struct ring_set *rings, const struct engine_options *options, struct timer *timer)
{
	uint32_t count = options->worker_count;
	int result = 0;

	rings->count = count;
	rings->words = (count + 63) / 64;
	rings->hub = count ? options->hub : NULL;
	rings->depth = rings->hub ? hub_depth(rings->hub) : 1;
	rings->payload = rings->hub ? hub_frame_payload(rings->hub) : 0;
	if (rings->hub && hub_has_timelines(rings->hub))
		rings->waits_payload = hub_waits_payload(rings->hub);
	rings->arena = options->arena;
	rings->timeout_ns = options->timeout_ns;
	rings->timer = timer;
	rings->ops = options->ops;
	rings->ops_context = options->ops_context;
	rings->probe = options->probe;
	rings->all = calloc(count ? count : 1, sizeof(*rings->all));
	rings->movable = calloc(count ? count : 1, sizeof(*rings->movable));
	rings->active = bitmap_new(rings);
	rings->idle = bitmap_new(rings);
	rings->open = bitmap_new(rings);
	rings->awake = bitmap_new(rings);
	rings->unpublished = bitmap_new(rings);
	rings->pending = bitmap_new(rings);
	if (!rings->all || !rings->movable || !rings->active || !rings->idle || !rings->open ||
	    !rings->awake || !rings->unpublished || !rings->pending)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && result == 0; i++)
		result = ring_init(rings, i, options);
	return result;
}

void rings_release(struct ring_set *rings)
{
	for (uint32_t i = 0; rings->all && i < rings->count; i++) {
		free(rings->all[i].path);
		free(rings->all[i].driver);
		free(rings->all[i].cause);
		free(rings->all[i].entries);
	}
	free(rings->all);
	free(rings->movable);
	free(rings->active);
	free(rings->idle);
	free(rings->open);
	free(rings->awake);
	free(rings->unpublished);
	free(rings->pending);
}

void ring_update(struct ring_set *rings, struct worker_ring *ring)
{
	uint32_t outstanding = ring_outstanding(ring);

	__atomic_store_n(&ring->status->in_ring, outstanding, __ATOMIC_RELAXED);
	if (ring_has_room(rings, ring) && !ring->reserved)
		bit_set(rings->open, ring->index);
	else
		bit_clear(rings->open, ring->index);
	if (outstanding) {
		bit_clear(rings->idle, ring->index);
		bit_set(rings->active, ring->index);
	} else {
		bit_set(rings->idle, ring->index);
		bit_clear(rings->active, ring->index);
	}
}

void ring_up(struct ring_set *rings, struct worker_ring *ring)
{
	ring->state = RING_UP;
	ring->corrupt = false;
	bit_set(rings->awake, ring->index);
	ring_update(rings, ring);
}

void ring_down(struct ring_set *rings, struct worker_ring *ring, enum ring_state state)
{
	ring->state = (uint8_t)state;
	ring->return_by = NEVER;
	ring->reserved = false;
	hub_end_waits(rings->hub, ring->index);
	ring_update(rings, ring);
}

static void movable_add(struct ring_set *rings, struct worker_ring *ring, int change)
{
	ring->movable += (uint32_t)change;
	rings->movable[ring->pool] += (uint32_t)change;
}

void ring_emptied(struct ring_set *rings, struct worker_ring *ring)
{
	ring->head = ring->tail;
	ring->unpublished = 0;
	bit_clear(rings->unpublished, ring->index);
	movable_add(rings, ring, -(int)ring->movable);
	ring->load_ns = 0;
	ring->notify_set = false;
	ring->requests = 0;
	ring->timed = 0;
	ring->ahead = 0;
	bit_clear(rings->awake, ring->index);
	ring_update(rings, ring);
}

void ring_set_cause(struct worker_ring *ring, const char *cause, int error)
{
	/* `cause` may be the old ring->cause. */
	char *copy = strdup(cause);

	if (copy) {
		free(ring->cause);
		ring->cause = copy;
	}
	ring->error = error;
}

void ring_reserve(struct ring_set *rings, struct worker_ring *ring, bool reserved)
{
	if (ring->reserved == reserved)
		return;
	ring->reserved = reserved;
	ring_update(rings, ring);
}

bool ring_kill(struct ring_set *rings, struct worker_ring *ring, const char *why)
{
	return !rings->ops || !rings->ops->kill ||
	       rings->ops->kill(rings->ops_context, ring->index, why);
}

void ring_distrust(struct ring_set *rings, struct worker_ring *ring)
{
	if (ring->corrupt)
		return;
	ring->corrupt = true;
	ring_update(rings, ring);
	ring_kill(rings, ring, error_text());
}

bool ring_asleep(struct ring_set *rings, uint32_t i)
{
	if (!hub_peer_asleep(rings->hub, i))
		return false;
	bit_clear(rings->awake, i);
	return true;
}

/* ---------------------------------------------------------------- estimates */

uint32_t estimate_of(const struct ring_set *rings, const struct callable *callable)
{
	uint32_t i = (uint32_t)callable->handle % ESTIMATES;
	uint32_t mean = rings->estimates[i];

	return mean ? mean + 4 * rings->deviations[i] : UNKNOWN_NS;
}

/* Running mean and deviation; one sample moves them by a bounded factor. */
static void estimate_learn(struct ring_set *rings, const struct callable *callable, uint64_t ns)
{
	uint32_t i = (uint32_t)callable->handle % ESTIMATES;
	uint32_t mean = rings->estimates[i], sample, apart;

	if (!mean) {
		rings->estimates[i] = ns > 100000000 ? 100000000 : (uint32_t)ns + 1;
		rings->deviations[i] = 0;
		return;
	}
	sample = ns > 4ULL * mean + 10000 ? 4 * mean + 10000 : (uint32_t)ns;
	if (sample > 100000000)
		sample = 100000000;
	apart = sample > mean ? sample - mean : mean - sample;
	rings->estimates[i] = mean - mean / 8 + sample / 8 + 1;
	rings->deviations[i] = rings->deviations[i] - rings->deviations[i] / 4 + apart / 4;
}

/* -------------------------------------------------------------------- post */

/* Whether frame a comes before frame b; both within a ring's length. */
static bool number_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static void notify_hub(struct ring_set *rings, struct worker_ring *ring)
{
	if (hub_request_notify(rings->hub, ring->index, ring->notify)) {
		bit_set(rings->pending, ring->index);
		rings->any_pending = true;
	}
}

void ring_publish(struct ring_set *rings, struct worker_ring *ring)
{
	uint32_t first = ring->tail - ring->unpublished;

	if (!ring->unpublished)
		return;
	ring->unpublished = 0;
	bit_clear(rings->unpublished, ring->index);
	if (hub_publish(rings->hub, ring->index)) {
		/* Once for all frames that are published until it is woken. */
		if (hub_mark_wake(rings->hub, ring->index))
			ring_count_wakes(ring, 1);
		rings->wake = true;
	}
	if (UNLIKELY(ring->notify_set) && !number_before(ring->notify, first))
		notify_hub(rings, ring);
	bit_set(rings->awake, ring->index);
}

void rings_publish(struct ring_set *rings)
{
	for (uint32_t word = 0; word < rings->words; word++) {
		uint64_t bits = rings->unpublished[word];

		for (uint32_t i; bits_next(&bits, word, &i);)
			ring_publish(rings, &rings->all[i]);
	}
}

/* Counts the new frame, and publishes when that is due. */
static inline void ring_added(struct ring_set *rings, struct worker_ring *ring)
{
	uint32_t published = ring_outstanding(ring) - ring->unpublished;

	ring->tail++;
	ring->unpublished++;
	bit_set(rings->unpublished, ring->index);
	if (ring->unpublished >= PUBLISH_BATCH || published <= PUBLISH_BATCH)
		ring_publish(rings, ring);
	ring_update(rings, ring);
}

/* The ring's own count decides: it starts over with each generation of the worker. */
static struct frame *acquire(struct ring_set *rings, struct worker_ring *ring, uint8_t flags,
			     uint32_t *number)
{
	struct frame *frame = hub_acquire(rings->hub, ring->index, flags, number);

	if (frame && ring->head == ring->tail)
		ring->head = ring->tail = *number;
	return frame;
}

static void fill_frame(struct ring_set *rings, struct frame *frame, const struct task *task,
		       const struct payload *payload)
{
	/* The number is for the child's status; the parent knows it from the entry. */
	frame->task = task->head.number;
	frame->callable = task->callable->handle;
	frame->config = (struct dw_config){
		.block_dim = task->block_dim,
		.aicpu_thread_num = task->aicpu_thread_num,
		.flags = task->config_flags,
	};
	frame->args_bytes = payload->bytes;
	frame->args = (uint64_t)(uintptr_t)payload->blob;
	if (LIKELY(payload->bytes <= rings->payload))
		memcpy(frame + 1, payload->copy, payload->bytes);
}

/*
 * The task's time begins when the one before it has ended. Its own deadline may be the first
 * reason to look at the ring.
 */
static void request_notify_before(struct ring_set *rings, struct worker_ring *ring, uint32_t number,
				  uint64_t timeout)
{
	const struct entry *before = ring_entry(rings, ring, number - 1);

	if (!(before->flags & ENTRY_TIMED) || before->timeout_ns > timeout)
		ring_request_notify(rings, ring, number - 1);
}

/*
 * The frame at the head has a deadline. Its time begins when the one before it has ended, but not
 * before it was posted: that end may be noticed late. A child that lies about its clock gains
 * nothing.
 */
static void head_changed(struct ring_set *rings, struct worker_ring *ring)
{
	struct entry *entry = ring_entry(rings, ring, ring->head);
	uint64_t now = running_now(rings->timer);

	if (ring->head_since > now)
		ring->head_since = now;
	if (ring->head_since < entry->posted_ns)
		ring->head_since = entry->posted_ns;
	if (entry->timeout_ns < NEVER - ring->head_since)
		timer_deadline(rings->timer, ring->head_since + entry->timeout_ns);
}

void ring_head_starts(struct ring_set *rings, struct worker_ring *ring)
{
	ring->head_since = running_now(rings->timer);
	head_changed(rings, ring);
}

static void begin_deadline(struct ring_set *rings, struct worker_ring *ring, struct entry *entry,
			   uint32_t number)
{
	ring->timed++;
	entry->posted_ns = running_now(rings->timer);
	if (number == ring->head)
		head_changed(rings, ring);
	else
		request_notify_before(rings, ring, number, entry->timeout_ns);
}

/*
 * How the frame follows the producers of the task: behind them in this ring, or waiting for other
 * rings, whose frames are published first. 0: it does not, or they have all ended.
 */
static uint8_t follows(struct ring_set *rings, const struct worker_ring *ring,
		       const struct task *task)
{
	uint8_t flags = 0;

	for (uint32_t i = 0; i < task->marks; i++) {
		struct worker_ring *other = &rings->all[task->mark_rings[i]];

		if (other == ring) {
			flags |= FRAME_CHAINED;
		} else if (ring_has_frame(other, task->mark_positions[i])) {
			ring_publish(rings, other);
			flags |= FRAME_WAITS;
		}
	}
	return flags;
}

static void add_waits(struct ring_set *rings, struct worker_ring *ring, struct frame *frame,
		      const struct task *task)
{
	ring->ahead++;
	for (uint32_t i = 0; i < task->marks; i++) {
		uint32_t other = task->mark_rings[i], number = task->mark_positions[i];

		if (other != ring->index && ring_has_frame(&rings->all[other], number))
			hub_add_wait(rings->hub, frame, other, number);
	}
}

bool ring_post(struct ring_set *rings, struct worker_ring *ring, struct task *task, uint32_t member)
{
	bool group = task->flags & FLAG_GROUP;
	struct payload *payload = group ? &task->group->members[member].payload : &task->payload;
	uint64_t timeout = task_timeout(rings, task);
	struct entry *entry;
	uint8_t order = task->waiting ? follows(rings, ring, task) : 0;
	struct frame *frame;
	uint32_t number;

	frame = acquire(rings, ring, order | payload->frame_flags, &number);
	if (UNLIKELY(!frame)) {
		error_set(-EPROTO, "what it wrote into its mailbox makes no sense");
		ring_distrust(rings, ring);
		return false;
	}
	entry = ring_entry(rings, ring, number);
	fill_frame(rings, frame, task, payload);
	frame->kind = UNLIKELY(task->callable->control) ? FRAME_CONTROL : FRAME_TASK;
	frame->fail_epoch = hub_fail_epoch(rings->hub, ring->index);

	entry->task = task;
	entry->control = NULL;
	entry->member = member;
	entry->estimate_ns = estimate_of(rings, task->callable);
	entry->timeout_ns = timeout;
	entry->flags = (order ? ENTRY_CHAINED : 0) | (timeout ? ENTRY_TIMED : 0) |
		       (!group && task->worker == DW_ANY ? ENTRY_ANY : 0);
	if (UNLIKELY(order & FRAME_WAITS)) {
		entry->flags |= ENTRY_AHEAD;
		add_waits(rings, ring, frame, task);
	}
	ring->load_ns += entry->estimate_ns;
	if (number != ring->head && entry->flags & ENTRY_ANY)
		movable_add(rings, ring, 1);

	task_set_state(task, TASK_RUNNING);
	task_set_placed(task, ring->index, number);
	if (!group && !task->retries)
		task_set_flags(task, FLAG_CHAIN);
	PROBE(rings, task, task, PROBE_DISPATCHED);
	ring_added(rings, ring);
	if (UNLIKELY(timeout))
		begin_deadline(rings, ring, entry, number);
	return true;
}

void ring_post_controls(struct ring_set *rings, struct worker_ring *ring)
{
	struct control *control;
	struct entry *entry;
	struct frame *frame;
	uint32_t number;

	/* Not before the worker is up: the ring may still be its predecessor's. */
	while ((control = ring->controls) && !ring->corrupt && ring->state == RING_UP &&
	       ring_outstanding(ring) < rings->depth) {
		frame = acquire(rings, ring, 0, &number);
		if (!frame)
			return;
		ring->controls = control->next;
		entry = ring_entry(rings, ring, number);
		frame->kind = FRAME_CONTROL;
		frame->fail_epoch = hub_fail_epoch(rings->hub, ring->index);
		frame->task = 0;
		frame->callable = control->code;
		frame->args = (uint64_t)(uintptr_t)control->arena_blob;
		frame->args_bytes = control->bytes;
		frame->config = (struct dw_config){ 0 };
		if (!control->arena_blob)
			memcpy(frame + 1, control->blob, control->bytes);
		*entry = (struct entry){ .control = control };
		ring_added(rings, ring);
		if (control->timeout_ns) {
			entry->flags = ENTRY_TIMED;
			entry->timeout_ns = control->timeout_ns;
			begin_deadline(rings, ring, entry, number);
		}
		ring_publish(rings, ring);
		ring_request_notify(rings, ring, number);
	}
}

/* ------------------------------------------------------------ notification */

static void notify(struct ring_set *rings, struct worker_ring *ring, uint32_t number)
{
	ring->notify_set = true;
	ring->notify = number;
	/*
	 * The hub takes an unpublished frame for a completed one: ring_publish() requests it.
	 */
	if (ring->tail - number > ring->unpublished)
		notify_hub(rings, ring);
}

void ring_request_notify(struct ring_set *rings, struct worker_ring *ring, uint32_t number)
{
	struct entry *entry = ring_entry(rings, ring, number);

	if (entry->flags & ENTRY_NOTIFY)
		return;
	entry->flags |= ENTRY_NOTIFY;
	ring->requests++;
	if (!ring->notify_set || number_before(number, ring->notify))
		notify(rings, ring, number);
}

void request_notify(struct ring_set *rings, const struct task *task)
{
	if (task->head.state != TASK_RUNNING)
		return;
	if (!(task->flags & FLAG_GROUP)) {
		if (task->placed != NO_WORKER)
			ring_request_notify(rings, &rings->all[task->placed], task->position);
		return;
	}
	for (uint32_t i = 0; i < task->group->count; i++) {
		const struct member *member = &task->group->members[i];

		if (member->in_ring)
			ring_request_notify(rings, &rings->all[member->placed], member->position);
	}
}

void request_notify_all(struct ring_set *rings,
		      bool (*wanted)(const struct task *task, const void *context),
		      const void *context)
{
	for (uint32_t i = 0; i < rings->count; i++) {
		struct worker_ring *ring = &rings->all[i];

		for (uint32_t number = ring->head; number != ring->tail; number++) {
			const struct task *task = ring_entry(rings, ring, number)->task;

			if (task && wanted(task, context))
				ring_request_notify(rings, ring, number);
		}
	}
}

void request_notify_run(struct ring_set *rings, const struct run_graph *run, bool last)
{
	for (uint32_t i = 0; i < rings->count; i++) {
		struct worker_ring *ring = &rings->all[i];
		uint32_t outstanding = ring_outstanding(ring);

		for (uint32_t k = 0; k < outstanding; k++) {
			uint32_t number = last ? ring->tail - 1 - k : ring->head + k;
			const struct task *task = ring_entry(rings, ring, number)->task;

			if (task && task->run == run) {
				ring_request_notify(rings, ring, number);
				break;
			}
		}
	}
}

/* The frame of the last hub_request_notify() has completed: requests the next in its place. */
static void notify_next(struct ring_set *rings, struct worker_ring *ring)
{
	ring->notify_set = false;
	if (!ring->requests)
		return;
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		if (ring_entry(rings, ring, number)->flags & ENTRY_NOTIFY) {
			notify(rings, ring, number);
			return;
		}
	}
}

/* -------------------------------------------------------------- harvesting */

/*
 * The worker has had a failure, or returned a frame, that is not in the fail_epoch of these frames:
 * it will return them.
 * No task may be pushed behind them now, since its frame would have the new epoch, and run.
 */
static void break_chains(struct ring_set *rings, struct worker_ring *ring)
{
	for (uint32_t number = ring->head; number != ring->tail; number++) {
		struct entry *entry = ring_entry(rings, ring, number);
		struct task *task = entry->task;

		if (entry->flags & ENTRY_CHAINED && task && task->flags & FLAG_CHAIN)
			task_break_chain(task);
	}
}

/* Accounts for the entry at the head, which leaves the ring. */
static void drop_head(struct ring_set *rings, struct worker_ring *ring,
			   const struct completion *completion)
{
	struct entry *entry = ring_entry(rings, ring, ring->head);
	struct entry *next;

	ring->load_ns -= entry->estimate_ns;
	if (entry->flags & ENTRY_TIMED)
		ring->timed--;
	if (entry->flags & ENTRY_NOTIFY)
		ring->requests--;
	if (UNLIKELY(entry->flags & ENTRY_AHEAD))
		ring->ahead--;
	ring->head++;
	if (ring->head != ring->tail) {
		next = ring_entry(rings, ring, ring->head);
		if (next->flags & ENTRY_ANY && !(next->flags & ENTRY_REVOKED))
			movable_add(rings, ring, -1);
		if (UNLIKELY(ring->timed)) {
			/*
			 * A frame that did not run took no time: the next could start when it
			 * could.
			 */
			if (completion_has_run(completion->state))
				ring->head_since = running_at(rings->timer, completion->ended);
			if (next->flags & ENTRY_TIMED)
				head_changed(rings, ring);
		}
	}
	if (ring->notify_set && !number_before(ring->head - 1, ring->notify))
		notify_next(rings, ring);
}

bool ring_next(struct ring_set *rings, struct worker_ring *ring, struct ring_completion *next)
{
	struct completion *completion = &next->completion;
	const struct entry *entry;
	uint64_t spent;
	int result;

	if (ring->corrupt || ring->head == ring->tail)
		return false;
	result = hub_harvest(rings->hub, ring->index, completion, next->text);
	if (result <= 0) {
		if (result < 0)
			ring_distrust(rings, ring);
		return false;
	}
	/* The entry is valid until a frame is posted. */
	entry = ring_entry(rings, ring, ring->head);
	if (UNLIKELY(entry->flags & ENTRY_AHEAD) && completion_has_run(completion->state) &&
	    ring_before_head(rings, ring)) {
		ring_ran_too_early(rings, ring);
		return false;
	}
	next->task = entry->task;
	next->member = entry->member;
	next->number = ring->head;
	drop_head(rings, ring, completion);
	if (completion->state == COMPLETION_FAILED ||
	    (completion->state == COMPLETION_RETURNED && entry->flags & ENTRY_AHEAD))
		break_chains(rings, ring);
	if (completion->state != COMPLETION_FAILED)
		next->text[0] = '\0';
	if (UNLIKELY(entry->control != NULL))
		control_done(rings, entry->control, completion->error, next->text);
	if (next->task && completion_has_run(completion->state)) {
		spent = completion->ended - completion->started;
		if (completion->ended >= completion->started) {
			estimate_learn(rings, next->task->callable, spent);
			ring_count_busy_ns(ring, spent);
		}
		PROBE(rings, span, next->task, ring, next->member, completion);
	}
	return true;
}

uint64_t rings_take_pending(struct ring_set *rings, uint32_t word)
{
	uint64_t bits = rings->pending[word];

	rings->pending[word] = 0;
	return bits;
}

bool ring_revoke(struct ring_set *rings, struct worker_ring *ring, uint32_t number)
{
	struct entry *entry = ring_entry(rings, ring, number);
	struct task *task = entry->task;

	if (!task || ring->corrupt || ring->state != RING_UP)
		return false;
	ring_publish(rings, ring);
	if (!hub_revoke(rings->hub, ring->index, number))
		return false;
	entry->task = NULL;
	entry->flags |= ENTRY_REVOKED;
	if (entry->flags & ENTRY_AHEAD) {
		entry->flags &= (uint16_t)~ENTRY_AHEAD;
		ring->ahead--;
	}
	if (entry->flags & ENTRY_ANY && number != ring->head)
		movable_add(rings, ring, -1);
	ring->load_ns -= entry->estimate_ns;
	entry->estimate_ns = 0;
	task_leave_ring(task);
	return true;
}

void ring_tell_cancelled(struct ring_set *rings, const struct worker_ring *ring)
{
	if (rings->ops && rings->ops->cancelled)
		rings->ops->cancelled(rings->ops_context, ring->index);
}

void ring_cancel(struct ring_set *rings, struct worker_ring *ring, uint32_t number)
{
	/* One that is not published yet is told, too. */
	ring_publish(rings, ring);
	hub_cancel(rings->hub, ring->index, number);
}

void ring_note_busy(struct ring_set *rings, struct worker_ring *ring, uint64_t busy_ns)
{
	struct entry *entry = ring_entry(rings, ring, ring->head);

	if (entry->estimate_ns >= busy_ns)
		return;
	ring->load_ns += busy_ns - entry->estimate_ns;
	entry->estimate_ns = (uint32_t)busy_ns;
}

void ring_end_deadline(struct worker_ring *ring, struct entry *entry)
{
	if (entry->flags & ENTRY_TIMED)
		ring->timed--;
	entry->flags &= (uint16_t)~ENTRY_TIMED;
}

void ring_extend_deadline(struct ring_set *rings, struct worker_ring *ring, uint64_t now,
			  uint64_t ns, bool told)
{
	struct entry *entry = ring_entry(rings, ring, ring->head);

	if (told)
		entry->flags |= ENTRY_TOLD;
	entry->timeout_ns = now - ring->head_since + ns;
	timer_deadline(rings->timer, now + ns);
}

/* --------------------------------------------------------- parked, and kept */

struct task *ring_unpark(struct worker_ring *ring)
{
	struct task *task = ring->parked;

	if (task)
		ring->parked = task->next;
	return task;
}

struct member *ring_unpark_member(struct worker_ring *ring)
{
	struct member *member = ring->parked_members;

	if (member)
		ring->parked_members = member->next;
	return member;
}

void ring_keep(struct ring_set *rings, struct worker_ring *ring, struct task *task)
{
	task_list_push(&ring->kept, task);
	rings->kept_count++;
}

void ring_keep_member(struct ring_set *rings, struct worker_ring *ring, struct task *task,
		      uint32_t member, uint32_t position)
{
	group_member_push(&ring->kept_members, &task->group->members[member], task, position);
	group_count_kept(task->group, 1);
	rings->kept_count++;
}

struct task *ring_unkeep(struct ring_set *rings, struct worker_ring *ring, const uint32_t *number)
{
	struct task **link = &ring->kept, *task;

	while (*link && number && (*link)->position != *number)
		link = &(*link)->next;
	task = *link;
	if (task) {
		*link = task->next;
		rings->kept_count--;
	}
	return task;
}

struct member *ring_unkeep_member(struct ring_set *rings, struct worker_ring *ring,
				  const uint32_t *number)
{
	struct member **link = &ring->kept_members, *member;

	while (*link && number && (*link)->position != *number)
		link = &(*link)->next;
	member = *link;
	if (member) {
		*link = member->next;
		group_count_kept(member->task->group, -1);
		rings->kept_count--;
	}
	return member;
}
