// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the calls that wait and wake.
 *
 * A wait wakes others first if asked to, then spins or offers its CPU if its peer is
 * worth it, then sleeps (side.c). What it waits for are the words in the shared memory
 * and the states of the mailboxes; it looks at them again whenever it is woken.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/hrtimer.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>

#include "internal.h"
#include "events.h"

/* How many peers the owner looks at for one that runs or wants to. */
#define PEER_CANDIDATES	64

/* After that many futile offers in a row only every 2^n-th wait makes one. */
#define OFFER_MAX_LOSSES	7U

#define WAIT_FLAGS	(DISTWORKER_WAIT_WAKE | DISTWORKER_WAIT_NOSPIN)

struct dw_wait {
	struct dw_hub *hub;
	struct dw_mailbox *mailbox;	/* NULL: the owner waits on the hub */
	struct dw_side *side;
	u32 seen;			/* of the post word; of the kick word */
	u32 generation;			/* of the mailbox when the wait began */
	u32 events;			/* out */
	/* Of the hub only: */
	u32 words;			/* in the masks */
	const u64 *watch;
	u64 *ready;			/* out */
};

/*
 * The masks of one call. Kernels that zero the stack pay for each word of it, so the
 * call for a hub of many mailboxes is a function of its own.
 */
struct dw_masks {
	u64 *watch;
	u64 *ready;			/* on the way in: whom to wake */
	u64 *changed;
};

/* Masks, and waking */

static bool mask_is_single(const u64 *mask, u32 words)
{
	return words == 1 && !(*mask & (*mask - 1));
}

static u32 hub_wake_peers(struct dw_hub *hub, const u64 *mask, u32 words, bool sync)
{
	u32 woken = 0;
	u32 i;
	u64 bits;

	smp_mb(); /* (b), pairs with (3) */
	for (i = 0; i < words; i++) {
		for (bits = mask[i]; bits; bits &= bits - 1) {
			struct dw_mailbox *mailbox = &hub->mailbox[i * 64 + __ffs64(bits)];

			if (dw_side_wake(&mailbox->side, sync)) {
				trace_distworker_wake(hub, mailbox);
				woken++;
			}
		}
	}
	return woken;
}

static u32 hub_wake_owner(struct dw_hub *hub, bool sync)
{
	smp_mb(); /* (b), pairs with (3) */
	if (!dw_side_wake(&hub->side, sync))
		return 0;
	trace_distworker_wake(hub, NULL);
	return 1;
}

/*
 * Reads a mask of the user, or zeroes it if there is none. A bit for which there is no
 * mailbox must not be set.
 */
static int hub_mask_in(struct dw_hub *hub, u64 *mask, u64 umask, u32 words)
{
	u32 last = (hub->mailboxes - 1) / 64;
	u32 i;

	if (!umask) {
		for (i = 0; i < words; i++)
			mask[i] = 0;
		return 0;
	}
	if (words == 1) {
		if (get_user(*mask, (u64 __user *)u64_to_user_ptr(umask)))
			return -EFAULT;
	} else if (copy_from_user(mask, u64_to_user_ptr(umask), words * sizeof(*mask))) {
		return -EFAULT;
	}
	if (mask[last] & ~hub->last_word)
		return -EINVAL;
	for (i = last + 1; i < words; i++)
		if (mask[i])
			return -EINVAL;
	/* As array_index_nospec() would: nor is there a mailbox for who runs ahead of that. */
	mask[last] &= hub->last_word;
	for (i = last + 1; i < words; i++)
		mask[i] = 0;
	return 0;
}

/* A mask has a bit for each mailbox, and no more words than any hub could need. */
static bool hub_mask_words_fit(struct dw_hub *hub, u32 words, u64 any)
{
	return words <= DW_MASK_WORDS && (!any || words * 64 >= hub->mailboxes);
}

static int hub_mask_out(const u64 *mask, u64 umask, u32 words)
{
	if (!umask)
		return 0;
	if (words == 1)
		return put_user(*mask, (u64 __user *)u64_to_user_ptr(umask));
	return copy_to_user(u64_to_user_ptr(umask), mask, words * sizeof(*mask)) ? -EFAULT : 0;
}

static int hub_wake(struct dw_hub *hub, struct distworker_hub_wake *arg, u64 *mask)
{
	int ret = hub_mask_in(hub, mask, arg->wake_mask, arg->mask_words);

	if (ret)
		return ret;
	dw_side_note_task(&hub->side);
	arg->woken = hub_wake_peers(hub, mask, arg->mask_words, false);
	if (arg->flags & DISTWORKER_WAKE_SELF)
		arg->woken += hub_wake_owner(hub, false);
	return 0;
}

static noinline int hub_wake_many(struct dw_hub *hub, struct distworker_hub_wake *arg)
{
	u64 mask[DW_MASK_WORDS];

	return hub_wake(hub, arg, mask);
}

long dw_hub_wake(struct dw_hub *hub, void __user *uarg)
{
	struct distworker_hub_wake __user *out = uarg;
	struct distworker_hub_wake arg;
	u64 mask;
	int ret;

	ret = dw_copy_in(&arg, sizeof(arg), sizeof(arg), uarg);
	if (ret)
		return ret;
	if (arg.flags & ~DISTWORKER_WAKE_SELF ||
	    !hub_mask_words_fit(hub, arg.mask_words, arg.wake_mask))
		return -EINVAL;
	ret = arg.mask_words > 1 ? hub_wake_many(hub, &arg) : hub_wake(hub, &arg, &mask);
	return ret ?: put_user(arg.woken, &out->woken);
}

long dw_endpoint_wake(struct dw_mailbox *mailbox)
{
	if (READ_ONCE(mailbox->hub->orphaned))
		return -EOWNERDEAD;
	dw_side_note_task(&mailbox->side);
	hub_wake_owner(mailbox->hub, false);
	return 0;
}

/* Waiting */

/* DISTWORKER_EVENT_* that hold now, and of the watched mailboxes those that have news. */
u32 dw_hub_events(struct dw_hub *hub, u32 kick_seen, const u64 *watch, u64 *ready, u32 words)
{
	struct distworker_hub_state *state = hub->state;
	u32 events = 0;
	u64 bits, bit;
	u32 i, index;

	if (READ_ONCE(hub->changed_any))
		events |= DISTWORKER_EVENT_STATE;
	if (READ_ONCE(state->kick) != kick_seen)
		events |= DISTWORKER_EVENT_KICK;
	for (i = 0; i < words; i++) {
		ready[i] = 0;
		for (bits = watch[i]; bits; bits ^= bit) {
			bit = bits & -bits;
			index = i * 64 + __ffs64(bits);
			if (READ_ONCE(hub->mailbox[index].shared->done) !=
			    READ_ONCE(state->seen[index]))
				ready[i] |= bit;
		}
		if (ready[i])
			events |= DISTWORKER_EVENT_DONE;
	}
	return events;
}

u32 dw_endpoint_events(struct dw_mailbox *mailbox, u32 seen)
{
	u32 events = 0;

	if (READ_ONCE(mailbox->shared->post) != seen)
		events |= DISTWORKER_EVENT_POST;
	if (READ_ONCE(mailbox->shared->stop))
		events |= DISTWORKER_EVENT_STOP;
	return events;
}

/* 0: nothing yet; 1: wait->events; or the error that ends the wait. */
static __always_inline int wait_ready(struct dw_wait *wait)
{
	struct dw_mailbox *mailbox = wait->mailbox;

	if (!mailbox) {
		wait->events = dw_hub_events(wait->hub, wait->seen, wait->watch,
					     wait->ready, wait->words);
		return wait->events != 0;
	}
	if (READ_ONCE(wait->hub->orphaned))
		return -EOWNERDEAD;
	if (READ_ONCE(mailbox->state) != DISTWORKER_MAILBOX_ATTACHED ||
	    READ_ONCE(mailbox->generation) != wait->generation)
		return -ENOTCONN;
	wait->events = dw_endpoint_events(mailbox, wait->seen);
	return wait->events != 0;
}

static enum dw_place wait_locate(struct dw_wait *wait, struct task_struct **peer)
{
	u32 left = PEER_CANDIDATES;
	enum dw_place place;
	u64 bits;
	u32 i;

	if (wait->mailbox)
		return dw_side_locate(&wait->hub->side, peer);
	for (i = 0; i < wait->words; i++) {
		for (bits = wait->watch[i]; bits && left; bits &= bits - 1, left--) {
			u32 index = i * 64 + __ffs64(bits);

			place = dw_side_locate(&wait->hub->mailbox[index].side, peer);
			if (place != DW_PEER_AWAY)
				return place;
		}
	}
	return DW_PEER_AWAY;
}

static int wait_spin(struct dw_wait *wait, struct task_struct *peer, u64 until)
{
	int ret;

	while (!(ret = wait_ready(wait))) {
		if (dw_need_resched() || !single_task_running() || signal_pending(current))
			return 0;
		if (ktime_get_ns() >= until)
			return 0;
		if (!dw_task_on_cpu(peer)) {
			/* It may have published the very last thing that it did. */
			return wait_ready(wait);
		}
		cpu_relax();
	}
	return ret;
}

/* Spinning pays for waits shorter than the maximum; for others it is given up. */
static void side_tune_spin(struct dw_side *side, u64 waited_ns)
{
	u32 max = READ_ONCE(dw_spin_max_ns);
	u32 spin = READ_ONCE(side->spin_ns);

	if (waited_ns > max)
		spin = 0;
	else if (waited_ns > spin)
		spin = min_t(u64, max, spin ? 2ULL * spin : DW_SPIN_START_NS);
	WRITE_ONCE(side->spin_ns, spin);
}

static int wait_sleep(struct dw_wait *wait, u64 deadline)
{
	ktime_t expires = ns_to_ktime(min_t(u64, deadline, KTIME_MAX));
	struct dw_side *side = wait->side;
	struct dw_sleeper sleeper;
	bool woken = false, expired = false;
	u64 since, slept;
	int ret;

	dw_sleeper_init(&sleeper, side);
	for (;;) {
		/* Woken: look before going to the queue again. */
		if (!woken)
			dw_sleeper_enqueue(&sleeper);
		ret = wait_ready(wait);
		if (ret)
			break;
		if (woken)
			dw_side_pass_on(side);
		if (signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		/* Who is woken again and again may never see the timer. */
		if (expired || (woken && deadline <= ktime_get_ns())) {
			ret = -ETIMEDOUT;
			break;
		}
		if (woken) {
			woken = false;
			continue;
		}
		since = get_jiffies_64();
		if (deadline == DISTWORKER_NO_DEADLINE)
			schedule();
		else
			expired = !schedule_hrtimeout_range(&expires, current->timer_slack_ns,
							    HRTIMER_MODE_ABS);
		dw_sleeper_dequeue(&sleeper);
		woken = true;
		atomic64_inc(&side->sleeps);
		slept = get_jiffies_64() - since;
		if (slept)
			atomic64_add(jiffies64_to_nsecs(slept), &side->sleep_ns);
	}
	/* Woken on the way to sleep, and gone before it could look: others must. */
	if (!dw_sleeper_dequeue(&sleeper) && !woken)
		dw_side_pass_on(side);
	return ret;
}

/*
 * The peer wants to run on this CPU: let it, before going to the expense of sleeping
 * and being woken, if the scheduler agrees. Tried ever more rarely where that does not
 * end the wait.
 */
static int wait_offer(struct dw_wait *wait)
{
	struct dw_side *side = wait->side;
	u32 skip = READ_ONCE(side->offer_skip);
	int ret;

	if (skip) {
		WRITE_ONCE(side->offer_skip, skip - 1);
		return 0;
	}
	schedule();
	ret = wait_ready(wait);
	if (ret) {
		WRITE_ONCE(side->offer_losses, 0);
	} else {
		u32 losses = min(READ_ONCE(side->offer_losses) + 1, OFFER_MAX_LOSSES);

		WRITE_ONCE(side->offer_losses, losses);
		WRITE_ONCE(side->offer_skip, (1U << losses) - 1);
	}
	return ret;
}

static int wait_spin_or_sleep(struct dw_wait *wait, struct task_struct *peer, u64 deadline)
{
	struct dw_side *side = wait->side;
	/* The maximum may have been lowered since the budget was tuned. */
	u32 spin = min(READ_ONCE(side->spin_ns), READ_ONCE(dw_spin_max_ns));
	u64 start = ktime_get_ns();
	u64 until = min(start + spin, deadline);
	int ret;

	/* What is there already says nothing of whether spinning pays. */
	ret = wait_ready(wait);
	if (ret) {
		put_task_struct(peer);
		return ret;
	}
	if (until > start) {
		ret = wait_spin(wait, peer, until);
		atomic64_inc(ret ? &side->spins_won : &side->spins_lost);
	}
	put_task_struct(peer);
	if (!ret)
		ret = wait_sleep(wait, deadline);
	side_tune_spin(side, ktime_get_ns() - start);
	return ret;
}

static int wait_until(struct dw_wait *wait, u32 flags, u64 deadline)
{
	struct task_struct *peer;
	int ret;

	if (deadline != DISTWORKER_NO_DEADLINE && (!deadline || deadline <= ktime_get_ns())) {
		/* For who stays on the queue and whose ->poll is not called again. */
		if (waitqueue_active(&wait->side->pollers))
			dw_side_arm_poll(wait->side);
		return wait_ready(wait) ?: -ETIMEDOUT;
	}
	if (flags & DISTWORKER_WAIT_NOSPIN)
		return wait_sleep(wait, deadline);
	switch (wait_locate(wait, &peer)) {
	case DW_PEER_RUNS:
		return wait_spin_or_sleep(wait, peer, deadline);
	case DW_PEER_QUEUED_HERE:
		ret = wait_offer(wait);
		if (ret)
			return ret;
		fallthrough;
	default:
		return wait_sleep(wait, deadline);
	}
}

/* Takes the state changes, unless another thread of the owner was faster. */
static void hub_take_changes(struct dw_wait *wait, u64 *changed)
{
	struct dw_hub *hub = wait->hub;
	u32 i;

	wait->events &= ~DISTWORKER_EVENT_STATE;
	spin_lock(&hub->lock);
	for (i = 0; i < DIV_ROUND_UP(hub->mailboxes, 64); i++) {
		changed[i] = hub->changed[i];
		hub->changed[i] = 0;
		if (changed[i])
			wait->events |= DISTWORKER_EVENT_STATE;
	}
	WRITE_ONCE(hub->changed_any, false);
	spin_unlock(&hub->lock);
}

/* The report could not be delivered: the next wait gives it. */
static void hub_return_changes(struct dw_hub *hub, const u64 *changed)
{
	u32 i;

	spin_lock(&hub->lock);
	for (i = 0; i < DIV_ROUND_UP(hub->mailboxes, 64); i++)
		hub->changed[i] |= changed[i];
	WRITE_ONCE(hub->changed_any, true);
	spin_unlock(&hub->lock);
	dw_side_wake_all(&hub->side);
}

/*
 * The hot calls read their arguments in one go where the struct is as long as ours;
 * all else, faults included, is dw_copy_in()'s.
 */
static int hub_wait_in(struct distworker_hub_wait *arg,
		       const struct distworker_hub_wait __user *uarg)
{
	if (!user_read_access_begin(uarg, sizeof(*uarg)))
		return -EFAULT;
	unsafe_get_user(arg->size, &uarg->size, slow);
	unsafe_get_user(arg->flags, &uarg->flags, slow);
	unsafe_get_user(arg->deadline_ns, &uarg->deadline_ns, slow);
	unsafe_get_user(arg->wake_mask, &uarg->wake_mask, slow);
	unsafe_get_user(arg->watch_mask, &uarg->watch_mask, slow);
	unsafe_get_user(arg->ready_mask, &uarg->ready_mask, slow);
	unsafe_get_user(arg->state_mask, &uarg->state_mask, slow);
	unsafe_get_user(arg->mask_words, &uarg->mask_words, slow);
	unsafe_get_user(arg->kick_seen, &uarg->kick_seen, slow);
	unsafe_get_user(arg->reserved, &uarg->reserved, slow);
	user_read_access_end();
	if (likely(arg->size == sizeof(*arg)))
		return 0;
	return dw_copy_in(arg, sizeof(*arg), sizeof(*arg), uarg);
slow:
	user_read_access_end();
	return dw_copy_in(arg, sizeof(*arg), sizeof(*arg), uarg);
}

static int endpoint_wait_in(struct distworker_endpoint_wait *arg,
			    const struct distworker_endpoint_wait __user *uarg)
{
	if (!user_read_access_begin(uarg, sizeof(*uarg)))
		return -EFAULT;
	unsafe_get_user(arg->size, &uarg->size, slow);
	unsafe_get_user(arg->flags, &uarg->flags, slow);
	unsafe_get_user(arg->deadline_ns, &uarg->deadline_ns, slow);
	unsafe_get_user(arg->seen, &uarg->seen, slow);
	user_read_access_end();
	if (likely(arg->size == sizeof(*arg)))
		return 0;
	return dw_copy_in(arg, sizeof(*arg), sizeof(*arg), uarg);
slow:
	user_read_access_end();
	return dw_copy_in(arg, sizeof(*arg), sizeof(*arg), uarg);
}

static __always_inline int hub_wait(struct dw_hub *hub, struct distworker_hub_wait *arg,
				    struct distworker_hub_wait __user *uarg,
				    const struct dw_masks *masks)
{
	struct dw_wait wait = {
		.hub = hub, .side = &hub->side, .seen = arg->kick_seen,
		.words = arg->mask_words, .watch = masks->watch, .ready = masks->ready,
	};
	int ret;

	ret = hub_mask_in(hub, masks->watch, arg->watch_mask, arg->mask_words);
	if (!ret && arg->flags & DISTWORKER_WAIT_WAKE)
		ret = hub_mask_in(hub, masks->ready, arg->wake_mask, arg->mask_words);
	if (ret)
		return ret;
	dw_side_note_task(&hub->side);
	WRITE_ONCE(hub->kick_seen, arg->kick_seen);
	/* A synchronous wake-up pulls the peer here: good for one, not for many. */
	if (arg->flags & DISTWORKER_WAIT_WAKE)
		hub_wake_peers(hub, masks->ready, arg->mask_words,
			       mask_is_single(masks->ready, arg->mask_words));

	for (;;) {
		trace_distworker_wait_begin(hub, NULL, arg->kick_seen, arg->deadline_ns);
		ret = wait_until(&wait, arg->flags, arg->deadline_ns);
		trace_distworker_wait_end(hub, NULL, ret, wait.events);
		if (ret < 0)
			return ret;
		/* Who takes no report leaves it to the next. */
		if (wait.events & DISTWORKER_EVENT_STATE && arg->state_mask)
			hub_take_changes(&wait, masks->changed);
		if (wait.events)
			break;
		/* Another thread was faster, and may be the next time. */
		if (signal_pending(current))
			return -EINTR;
	}

	if (hub_mask_out(masks->ready, arg->ready_mask, arg->mask_words) ||
	    hub_mask_out(masks->changed, arg->state_mask, arg->mask_words) ||
	    put_user(wait.events, &uarg->events)) {
		if (wait.events & DISTWORKER_EVENT_STATE && arg->state_mask)
			hub_return_changes(hub, masks->changed);
		return -EFAULT;
	}
	return 0;
}

static noinline int hub_wait_many(struct dw_hub *hub, struct distworker_hub_wait *arg,
				  struct distworker_hub_wait __user *uarg)
{
	u64 watch[DW_MASK_WORDS], ready[DW_MASK_WORDS], changed[DW_MASK_WORDS] = {};
	struct dw_masks masks = { .watch = watch, .ready = ready, .changed = changed };

	return hub_wait(hub, arg, uarg, &masks);
}

static int hub_wait_few(struct dw_hub *hub, struct distworker_hub_wait *arg,
			struct distworker_hub_wait __user *uarg)
{
	u64 watch, ready, changed = 0;
	struct dw_masks masks = { .watch = &watch, .ready = &ready, .changed = &changed };

	return hub_wait(hub, arg, uarg, &masks);
}

long dw_hub_wait(struct dw_hub *hub, void __user *uarg)
{
	struct distworker_hub_wait arg;
	u64 masks;
	int ret;

	ret = hub_wait_in(&arg, uarg);
	if (ret)
		return ret;
	masks = arg.watch_mask | arg.ready_mask | arg.state_mask;
	if (arg.flags & DISTWORKER_WAIT_WAKE)
		masks |= arg.wake_mask;
	if (arg.flags & ~WAIT_FLAGS || arg.reserved ||
	    !hub_mask_words_fit(hub, arg.mask_words, masks))
		return -EINVAL;
	arg.deadline_ns = dw_deadline_to_host(arg.deadline_ns);
	return arg.mask_words > 1 ? hub_wait_many(hub, &arg, uarg) : hub_wait_few(hub, &arg, uarg);
}

long dw_endpoint_wait(struct dw_mailbox *mailbox, u32 generation, void __user *uarg)
{
	struct distworker_endpoint_wait __user *out = uarg;
	struct distworker_endpoint_wait arg;
	struct dw_wait wait = {
		.hub = mailbox->hub, .mailbox = mailbox, .side = &mailbox->side,
		.generation = generation,
	};
	int ret;

	ret = endpoint_wait_in(&arg, uarg);
	if (ret)
		return ret;
	if (arg.flags & ~WAIT_FLAGS)
		return -EINVAL;
	arg.deadline_ns = dw_deadline_to_host(arg.deadline_ns);
	wait.seen = arg.seen;
	dw_side_note_task(&mailbox->side);
	if (arg.flags & DISTWORKER_WAIT_WAKE)
		hub_wake_owner(mailbox->hub, true);
	trace_distworker_wait_begin(mailbox->hub, mailbox, arg.seen, arg.deadline_ns);
	ret = wait_until(&wait, arg.flags, arg.deadline_ns);
	trace_distworker_wait_end(mailbox->hub, mailbox, ret, wait.events);
	if (ret < 0)
		return ret;
	return put_user(wait.events, &out->events);
}
