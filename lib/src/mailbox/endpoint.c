// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The peer's side of one mailbox: claims frames, completes them, tells the parent
 * when that is due, waits. One thread.
 *
 * Invariant: `done` is published before the next frame is claimed, and after it
 * the parent's `notify` is looked at before anything that may take long: in
 * endpoint_next(), endpoint_wait() and endpoint_bell_arm(), one of which the
 * caller calls next, and in endpoint_complete() when frames are in flight.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "mailbox/provider.h"
#include "task/error.h"

int endpoint_attach(struct hub *hub, uint32_t i, struct endpoint **endpoint)
{
	struct endpoint *made;
	int error;

	if (i >= hub->mailboxes)
		return error_set(-EINVAL, "mailbox %u: the hub has %u", i, hub->mailboxes);
	made = calloc(1, sizeof(*made));
	if (!made)
		return error_set(-ENOMEM, "no memory for an endpoint");
	made->resolved = calloc(1, hub->layout.depth);
	if (!made->resolved) {
		free(made);
		return error_set(-ENOMEM, "no memory for an endpoint of depth %u",
				 hub->layout.depth);
	}
	made->ops = hub->ops;
	made->layout = hub->layout;
	made->owner = getpid();
	made->thread = made->owner == hub->owner;
	made->index = i;
	made->fd = -1;
	made->hub_bell = -1;
	spin_init(&made->spin, hub->ops->spin_limit_ns);
	spin_init(&made->sibling_spin, hub->ops->spin_limit_ns);
	error = hub->ops->attach(hub, made);
	if (error) {
		free(made->resolved);
		free(made);
		return error;
	}
	/* The count that the generation began with; frames may have been posted already. */
	made->done = load_relaxed(&made->mailbox->done);
	made->posted = made->done;
	made->next = made->done;
	made->checked = made->done;
	made->dry_checked = made->done;
	*endpoint = made;
	return 0;
}

void endpoint_detach(struct endpoint *endpoint)
{
	if (!endpoint)
		return;
	endpoint->ops->detach(endpoint);
	free(endpoint->resolved);
	free(endpoint);
}

/* The parent's count. Returns whether there are frames to claim. */
static bool read_post(struct endpoint *endpoint)
{
	/* Acquire: partner is the release in hub_publish(). */
	endpoint->posted = load_acquire(&endpoint->mailbox->post);
	return endpoint->posted != endpoint->next;
}

static void read_stop(struct endpoint *endpoint)
{
	/*
	 * Acquire: partner is the release in hub_stop(). Frames posted before the stop are seen
	 * after this.
	 */
	if (load_acquire(&endpoint->mailbox->stop))
		endpoint->stopping = true;
}

static bool has_frames(struct endpoint *endpoint)
{
	return endpoint->next != endpoint->posted || read_post(endpoint);
}

/* Frames that a thread which submits may stay away for, and still counts as being there. */
#define POLL_PATIENCE 8

static bool parent_polls(struct endpoint *endpoint)
{
	uint32_t poll_count = load_relaxed(&endpoint->line->poll_count);

	if (poll_count != endpoint->poll_count) {
		endpoint->poll_count = poll_count;
		endpoint->frames_since_poll = 0;
	}
	return endpoint->frames_since_poll++ < POLL_PATIENCE;
}

/*
 * Whether the parent is to be woken, and would sleep on otherwise. The caller has
 * put a full barrier between the store of `done` and this.
 *
 * Partners, each with "its store; full barrier; read of done" on the parent's side:
 *  - hub_request_notify() moves `notify`: either the new mark is seen here, or the
 *    parent has seen the count that passed it;
 *  - a waiter that sets "asleep" (the provider's wait(), bell_arm(), or the
 *    kernel): either it is seen here, or it sees the count and stays awake;
 *  - hub_drive_end(): either `driving` is seen to be 0, or the count is harvested.
 */
static bool check_notify(struct endpoint *endpoint, bool dry)
{
	const struct mailbox *mailbox = endpoint->mailbox;
	uint32_t before = endpoint->checked, done = endpoint->done, asleep;
	bool requested = endpoint->failure_unreported ||
		      counter_passed(before, done, load_relaxed(&mailbox->notify));

	endpoint->checked = done;
	endpoint->failure_unreported = false;
	if (endpoint->awaited && timeline_is_awaited(endpoint->awaited, done))
		endpoint->ops->peer_wake_siblings(endpoint);
	if (dry) {
		/*
		 * Once for a count: a parent that was awake then has looked since, before it slept.
		 */
		if (endpoint->dry_checked == done)
			return false;
		endpoint->dry_checked = done;
	} else if (!requested && !counter_passed(before, done, load_relaxed(&mailbox->refill))) {
		return false;
	}
	asleep = load_relaxed(&endpoint->line->asleep);
	if (asleep & DISTWORKER_ASLEEP_WAITER)
		return true;
	if (!(asleep & DISTWORKER_ASLEEP_POLLER) || load_relaxed(&endpoint->line->driving))
		return false;
	/*
	 * The background thread would be woken. For a ring that runs low this can wait while
	 * another thread keeps polling: checked again after the next frame.
	 */
	if (!requested && !dry && parent_polls(endpoint)) {
		endpoint->checked = before;
		return false;
	}
	return true;
}

static void wake_parent(struct endpoint *endpoint)
{
	endpoint->wakes++;
	__atomic_store_n(&endpoint->mailbox->wakes, endpoint->wakes, __ATOMIC_RELAXED);
	endpoint->ops->peer_wake(endpoint);
}

/*
 * Frame `number` is resolved, its completion written. Completions become visible in the order of
 * the frames: one that overtakes others waits for them.
 */
static void publish_done(struct endpoint *endpoint, uint32_t number)
{
	uint32_t mask = endpoint->layout.depth - 1, done;

	if (number != endpoint->done) {
		endpoint->resolved[number & mask] = 1;
		return;
	}
	for (done = number + 1; done != endpoint->next && endpoint->resolved[done & mask]; done++)
		endpoint->resolved[done & mask] = 0;
	endpoint->done = done;
	endpoint->parked = false;
	/*
	 * Release: the completions before the count; partner: the acquire in hub.c's read_done().
	 */
	store_release(&endpoint->mailbox->done, done);
	if (endpoint->timeline)
		timeline_publish(endpoint->timeline, done);
}

/* The frame failed, or did not run; before its completion is published. */
static void count_unrun(struct endpoint *endpoint, uint32_t number, enum completion_state state)
{
	const struct frame *frame = frame_at(&endpoint->layout, endpoint->mailbox, number);

	/* One that follows a frame in its ring goes back with it, and so do those behind both. */
	endpoint->failed += state == COMPLETION_FAILED ||
			    (state == COMPLETION_RETURNED && frame->flags & FRAME_WAITS);
	if (endpoint->timeline)
		timeline_count_unrun(endpoint->timeline);
}

/* How long frame `number` waited for siblings, up to 4.2 s. */
static uint32_t take_blocked(struct endpoint *endpoint, uint32_t number, uint64_t started)
{
	uint64_t since = endpoint->blocked_since;

	if (LIKELY(!since) || endpoint->blocked_number != number)
		return 0;
	endpoint->blocked_since = 0;
	if (started <= since)
		return 0;
	return started - since < UINT32_MAX ? (uint32_t)(started - since) : UINT32_MAX;
}

static void resolve(struct endpoint *endpoint, uint32_t number, enum completion_state state)
{
	struct completion *completion = completion_at(&endpoint->layout, endpoint->mailbox, number);

	take_blocked(endpoint, number, 0);
	*completion = (struct completion){ .number = number, .state = (uint16_t)state };
	count_unrun(endpoint, number, state);
	publish_done(endpoint, number);
}

struct frame *endpoint_next(struct endpoint *endpoint, uint32_t *number)
{
	while (has_frames(endpoint)) {
		uint32_t n = endpoint->next, expected = claim_word(n, CLAIM_POSTED);
		struct frame *frame = frame_at(&endpoint->layout, endpoint->mailbox, n);
		bool claimed;

		if (n != endpoint->done && frame->flags & (FRAME_CHAINED | FRAME_WAITS)) {
			/* Its producer may be in flight: a failure of it would be seen too late. */
			endpoint->parked = true;
			return NULL;
		}
		if (UNLIKELY(frame->flags & FRAME_WAITS) && timeline_blocks(endpoint, frame) &&
		    atomic_load_explicit(&frame->claim, memory_order_relaxed) == expected) {
			if (!endpoint->blocked_since) {
				endpoint->blocked_number = n;
				endpoint->blocked_since = now_ns();
			}
			endpoint->blocked = true;
			return NULL;
		}
		/*
		 * Partner: the parent's compare-and-swap in hub_revoke(); exactly one of the two
		 * wins.
		 */
		claimed = atomic_compare_exchange_strong_explicit(&frame->claim, &expected,
								  claim_word(n, CLAIM_CLAIMED),
								  memory_order_seq_cst,
								  memory_order_seq_cst);
		endpoint->next = n + 1;
		if (endpoint->checked != endpoint->done) {
			/* See check_notify(); the swap above is the barrier where it can be. */
			full_barrier_after_rmw();
			if (check_notify(endpoint, false))
				wake_parent(endpoint);
		}
		if (!claimed) {
			resolve(endpoint, n, COMPLETION_REVOKED);
		} else if ((frame->flags & FRAME_CHAINED &&
			    frame->fail_epoch != endpoint->failed) ||
			   (UNLIKELY(frame->flags & FRAME_WAITS) &&
			    !timeline_has_run(endpoint, frame))) {
			resolve(endpoint, n, COMPLETION_RETURNED);
		} else {
			*number = n;
			return frame;
		}
	}
	return NULL;
}

struct frame *endpoint_peek(struct endpoint *endpoint)
{
	struct frame *frame;

	if (!has_frames(endpoint))
		return NULL;
	frame = frame_at(&endpoint->layout, endpoint->mailbox, endpoint->next);
	return frame->flags & FRAME_WAITS ? NULL : frame;
}

struct frame *endpoint_superseder(struct endpoint *endpoint, uint32_t number, uint32_t *by)
{
	struct frame *frame = frame_at(&endpoint->layout, endpoint->mailbox, number);
	uint16_t behind = atomic_load_explicit(&frame->superseded, memory_order_relaxed);
	uint32_t n = number + behind;

	if (!behind)
		return NULL;
	read_post(endpoint);
	if (n - endpoint->next >= endpoint->posted - endpoint->next)
		return NULL;
	frame = frame_at(&endpoint->layout, endpoint->mailbox, n);
	if (atomic_load_explicit(&frame->claim, memory_order_relaxed) !=
	    claim_word(n, CLAIM_POSTED) || frame->flags & FRAME_WAITS ||
	    (frame->flags & FRAME_CHAINED && frame->fail_epoch != endpoint->failed))
		return NULL;
	*by = n;
	return frame;
}

uint32_t endpoint_position(const struct endpoint *endpoint)
{
	return endpoint->next;
}

/* What endpoint_complete() does, for each of the states of a frame that has run. */
static inline __attribute__((always_inline)) void
complete(struct endpoint *endpoint, uint32_t number, enum completion_state state, int error,
	 const char *text, uint64_t started, uint64_t ended)
{
	struct completion *completion = completion_at(&endpoint->layout, endpoint->mailbox, number);
	size_t bytes = 0;

	if (error) {
		count_unrun(endpoint, number, COMPLETION_FAILED);
		/*
		 * The parent may retry the task or skip its consumers: neither waits for the frames
		 * behind it.
		 */
		endpoint->failure_unreported = true;
		bytes = text ? strnlen(text, TEXT_BYTES - 1) : 0;
		if (bytes)
			memcpy(text_at(&endpoint->layout, endpoint->mailbox, number), text, bytes);
		if (error > 0 || error < -4095)
			error = -EINVAL;
	}
	*completion = (struct completion){
		.number = number,
		.state = (uint16_t)(error ? COMPLETION_FAILED : state),
		.text_bytes = (uint16_t)bytes,
		.error = error,
		.blocked = take_blocked(endpoint, number, started),
		.started = started,
		.ended = ended,
	};
	publish_done(endpoint, number);
	if (endpoint->done != endpoint->next && endpoint->checked != endpoint->done) {
		/*
		 * Frames are in flight: the caller's next call may come late. See check_notify().
		 */
		full_barrier();
		if (check_notify(endpoint, false))
			wake_parent(endpoint);
	}
}

void endpoint_complete(struct endpoint *endpoint, uint32_t number, int error, const char *text,
		       uint64_t started, uint64_t ended)
{
	complete(endpoint, number, COMPLETION_DONE, error, text, started, ended);
}

void endpoint_kept(struct endpoint *endpoint, uint32_t number, uint64_t started, uint64_t ended)
{
	complete(endpoint, number, COMPLETION_KEPT, 0, NULL, started, ended);
}

void endpoint_return(struct endpoint *endpoint, uint32_t number)
{
	resolve(endpoint, number, COMPLETION_RETURNED);
}

static bool parent_wrote(void *context)
{
	struct endpoint *endpoint = context;

	return load_relaxed(&endpoint->mailbox->post) != endpoint->posted ||
	       load_relaxed(&endpoint->mailbox->stop) != 0;
}

static void count_wait(struct endpoint *endpoint)
{
	struct mailbox *mailbox = endpoint->mailbox;

	__atomic_store_n(&mailbox->sleeps, endpoint->sleeps, __ATOMIC_RELAXED);
	__atomic_store_n(&mailbox->wakes, endpoint->wakes, __ATOMIC_RELAXED);
}

static void count_spin(struct endpoint *endpoint)
{
	struct mailbox *mailbox = endpoint->mailbox;

	__atomic_store_n(&mailbox->spins_won, endpoint->spin.won, __ATOMIC_RELAXED);
	__atomic_store_n(&mailbox->spins_lost, endpoint->spin.lost, __ATOMIC_RELAXED);
}

/* Spins, or leaves the CPU to others, if that may pay. Returns whether the parent has written. */
static bool spin_briefly(struct endpoint *endpoint)
{
	const struct hub_line *line = endpoint->line;
	bool oversubscribed = load_relaxed(&line->oversubscribed) != 0;
	bool hinted = load_relaxed(&line->spin_hint) != 0;
	uint32_t window = spin_window(&endpoint->spin, SPIN_AWAKE, oversubscribed, hinted);
	bool written = false, yields;

	if (window)
		written = spin_until(&endpoint->spin, SPIN_AWAKE, window, parent_wrote, endpoint);
	yields = !written && load_relaxed(&line->crowded) && spin_may_yield(&endpoint->spin);
	if (yields)
		written = spin_yield(&endpoint->spin, parent_wrote, endpoint);
	if (window || yields)
		count_spin(endpoint);
	return written;
}

/*
 * Only the background thread could be woken for this dry ring, but the submitting thread may be
 * about to post the next frame. True if it did; the parent was not woken then.
 */
static bool next_frame_comes(struct endpoint *endpoint, uint32_t checked, uint32_t dry_checked,
			     bool failure)
{
	if (failure || load_relaxed(&endpoint->line->asleep) & DISTWORKER_ASLEEP_WAITER ||
	    counter_passed(checked, endpoint->done, load_relaxed(&endpoint->mailbox->notify)) ||
	    !spin_briefly(endpoint))
		return false;
	endpoint->checked = checked;
	endpoint->dry_checked = dry_checked;
	return true;
}

/* The next frame waits for siblings: a ring that is not dry does not wake the parent for that. */
static int wait_for_siblings(struct endpoint *endpoint)
{
	int error;

	endpoint->blocked = false;
	/* See check_notify(). */
	full_barrier();
	if (check_notify(endpoint, false))
		wake_parent(endpoint);
	error = timeline_wait(endpoint, frame_at(&endpoint->layout, endpoint->mailbox,
						 endpoint->next));
	count_wait(endpoint);
	return error;
}

int endpoint_wait(struct endpoint *endpoint)
{
	uint32_t checked = endpoint->checked, dry_checked = endpoint->dry_checked;
	bool failure = endpoint->failure_unreported, wake;

	read_stop(endpoint);
	if (UNLIKELY(endpoint->blocked))
		return wait_for_siblings(endpoint);
	if (read_post(endpoint))
		return 0;
	/* See check_notify(). */
	full_barrier();
	wake = check_notify(endpoint, true);
	if (endpoint->stopping) {
		if (wake)
			wake_parent(endpoint);
		return -ESHUTDOWN;
	}
	if (wake && next_frame_comes(endpoint, checked, dry_checked, failure))
		return 0;
	/* A parent that has to be woken first does not answer within a spin. */
	if (!wake && spin_briefly(endpoint))
		return 0;
	if (wake && !endpoint->ops->wake_and_wait) {
		wake_parent(endpoint);
		wake = false;
	}
	endpoint->sleeps++;
	endpoint->wakes += wake;
	count_wait(endpoint);
	return endpoint->ops->peer_wait(endpoint, endpoint->posted, wake);
}

int endpoint_bell_fd(const struct endpoint *endpoint)
{
	return endpoint->fd;
}

bool endpoint_bell_arm(struct endpoint *endpoint)
{
	bool told = endpoint->stopping;

	read_stop(endpoint);
	if (endpoint->stopping && !told)
		return true;
	/* A parked frame does not count: those in flight come first. */
	if (read_post(endpoint) && !endpoint->parked)
		return true;
	/* See check_notify(). */
	full_barrier();
	if (check_notify(endpoint, true))
		wake_parent(endpoint);
	store_relaxed(&endpoint->mailbox->seen, endpoint->posted);
	if (endpoint->parked)
		return false;
	if (endpoint->ops->peer_bell_arm(endpoint, endpoint->posted))
		return true;
	endpoint->sleeps++;
	count_wait(endpoint);
	return false;
}

void endpoint_bell_clear(struct endpoint *endpoint, uint32_t events)
{
	endpoint->ops->peer_bell_clear(endpoint, events);
}

bool endpoint_stopping(const struct endpoint *endpoint)
{
	return endpoint->stopping || load_relaxed(&endpoint->mailbox->stop) != 0;
}

void endpoint_counters(const struct endpoint *endpoint, struct endpoint_counters *counters)
{
	counters->wakes = endpoint->wakes;
	counters->sleeps = endpoint->sleeps;
	counters->spins_won = endpoint->spin.won;
	counters->spins_lost = endpoint->spin.lost;
}
