// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the calls that wait and wake.
 *
 * A wait wakes others first if asked to, then spins or offers its CPU if its peer is
 * worth it, then sleeps (queue.c). It is for the words in the shared memory and the
 * states of the mailboxes; it looks at them again whenever it is woken.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>

#include "compat.h"
#include "events.h"
#include "wait.h"

/* How many peers the owner looks at for one that runs or wants to. */
#define PEER_CANDIDATES	64

#define WAIT_FLAGS	(DISTWORKER_WAIT_WAKE | DISTWORKER_WAIT_NOSPIN)

struct distw_wait {
	struct distw_hub *hub;
	struct distw_mailbox *mailbox;	/* NULL: the owner waits on the hub */
	struct distw_queue *queue;
	u64 generation;			/* of the mailbox when the wait began */
	u32 seen;			/* of the post word; of the kick word */
	u32 events;			/* out */
	/* Of the hub only: */
	u32 words;			/* in the masks */
	const u64 *watch;
	u64 *ready;			/* out */
};

/* Masks, and waking */

static bool mask_is_single(const u64 *mask, u32 words)
{
	return words == 1 && !(*mask & (*mask - 1));
}

static u32 hub_wake_peers(struct distw_hub *hub, const u64 *mask, u32 words, bool sync)
{
	u32 woken = 0;
	u32 i;
	u64 bits;

	smp_mb(); /* (b), pairs with (3) */
	for (i = 0; i < words; i++) {
		/* Hundreds of wake-ups take long. */
		if (i)
			cond_resched();
		for (bits = mask[i]; bits; bits &= bits - 1) {
			struct distw_mailbox *mailbox = &hub->mailbox[i * 64 + __ffs64(bits)];

			if (distw_queue_wake(&mailbox->queue, sync)) {
				trace_distworker_wake(hub->id, mailbox->index);
				woken++;
			}
		}
	}
	return woken;
}

static u32 hub_wake_owner(struct distw_hub *hub, bool sync)
{
	smp_mb(); /* (b), pairs with (3) */
	if (!distw_queue_wake(&hub->queue, sync))
		return 0;
	trace_distworker_wake(hub->id, -1);
	return 1;
}

/*
 * Reads a mask of the user, or zeroes it if there is none. A bit for which there is no
 * mailbox must not be set.
 */
static int hub_mask_in(struct distw_hub *hub, u64 *mask, u64 umask, u32 words)
{
	const u64 __user *from = u64_to_user_ptr(umask);
	u32 i, last = (hub->mailboxes - 1) / 64;

	for (i = 0; i < words; i++) {
		u64 valid = i < last ? ~0ULL : i == last ? hub->last_word : 0;

		mask[i] = 0;
		if (umask && get_user(mask[i], &from[i]))
			return -EFAULT;
		if (mask[i] & ~valid)
			return -EINVAL;
		/* As array_index_nospec() would, for a CPU that runs ahead of that. */
		mask[i] &= valid;
	}
	return 0;
}

/* A mask has a bit for each mailbox, and no more words than any hub could need. */
static bool hub_mask_words_fit(struct distw_hub *hub, u32 words, u64 any)
{
	return words <= DISTW_MASK_WORDS && (!any || words * 64 >= hub->mailboxes);
}

/* No mask: zeros. */
static int hub_mask_out(const u64 *mask, u64 umask, u32 words)
{
	u64 __user *to = u64_to_user_ptr(umask);
	u32 i;

	for (i = 0; umask && i < words; i++)
		if (put_user(mask ? mask[i] : 0, &to[i]))
			return -EFAULT;
	return 0;
}

/**
 * distw_hub_wake() - DISTWORKER_HUB_WAKE
 * @hub: a hub of which the current process is the owner
 * @uarg: the arguments
 * @size: how long they are, as the command says
 */
long distw_hub_wake(struct distw_hub *hub, void __user *uarg, u32 size)
{
	struct distworker_hub_wake __user *out = uarg;
	u64 mask[DISTW_MASK_WORDS] __distw_uninitialized;
	struct distworker_hub_wake arg;
	u32 woken;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), size, uarg);
	if (ret)
		return ret;
	if (arg.flags & ~DISTWORKER_WAKE_SELF ||
	    !hub_mask_words_fit(hub, arg.mask_words, arg.wake_mask))
		return -EINVAL;
	ret = hub_mask_in(hub, mask, arg.wake_mask, arg.mask_words);
	if (ret)
		return ret;
	distw_queue_note_task(&hub->queue);
	woken = hub_wake_peers(hub, mask, arg.mask_words, false);
	if (arg.flags & DISTWORKER_WAKE_SELF)
		woken += hub_wake_owner(hub, false);
	return put_user(woken, &out->woken);
}

/**
 * distw_endpoint_wake() - DISTWORKER_ENDPOINT_WAKE
 * @mailbox: a mailbox of which the current process is the peer
 */
int distw_endpoint_wake(struct distw_mailbox *mailbox)
{
	if (READ_ONCE(mailbox->hub->orphaned))
		return -EOWNERDEAD;
	distw_queue_note_task(&mailbox->queue);
	hub_wake_owner(mailbox->hub, false);
	return 0;
}

/* Waiting */

/**
 * distw_hub_events() - the DISTWORKER_EVENT_* that hold now
 * @hub: a hub that is set up
 * @kick_seen: the value of the kick word that the caller has seen
 * @watch: a mask of the mailboxes whose done word counts
 * @ready: out: of these, those whose done word differs from the value that the owner saw
 * @words: in the masks
 */
u32 distw_hub_events(struct distw_hub *hub, u32 kick_seen, const u64 *watch, u64 *ready, u32 words)
{
	u32 i, index, events = 0;
	u64 bits, bit;

	if (READ_ONCE(hub->changed_any))
		events |= DISTWORKER_EVENT_STATE;
	if (READ_ONCE(hub->state->kick) != kick_seen)
		events |= DISTWORKER_EVENT_KICK;
	for (i = 0; i < words; i++) {
		ready[i] = 0;
		for (bits = watch[i]; bits; bits ^= bit) {
			bit = bits & -bits;
			index = i * 64 + __ffs64(bits);
			if (READ_ONCE(hub->mailbox[index].shared->done) !=
			    READ_ONCE(hub->state->seen[index]))
				ready[i] |= bit;
		}
		if (ready[i])
			events |= DISTWORKER_EVENT_DONE;
	}
	return events;
}

u32 distw_endpoint_events(struct distw_mailbox *mailbox, u32 seen)
{
	u32 events = 0;

	if (READ_ONCE(mailbox->shared->post) != seen)
		events |= DISTWORKER_EVENT_POST;
	if (READ_ONCE(mailbox->shared->stop))
		events |= DISTWORKER_EVENT_STOP;
	return events;
}

/* 0: nothing yet; 1: wait->events; or the error that ends the wait. */
static __always_inline int wait_ready(struct distw_wait *wait)
{
	struct distw_mailbox *mailbox = wait->mailbox;

	if (!mailbox) {
		wait->events = distw_hub_events(wait->hub, wait->seen, wait->watch, wait->ready,
						wait->words);
		return wait->events != 0;
	}
	if (READ_ONCE(wait->hub->orphaned))
		return -EOWNERDEAD;
	/* The state first: it is of that generation or an older one. Pairs with re-arming. */
	if (smp_load_acquire(&mailbox->state) != DISTWORKER_MAILBOX_ATTACHED ||
	    READ_ONCE(mailbox->generation) != wait->generation)
		return -ENOTCONN;
	wait->events = distw_endpoint_events(mailbox, wait->seen);
	return wait->events != 0;
}

static enum distw_place wait_locate(struct distw_wait *wait, struct task_struct **peer)
{
	u32 left = PEER_CANDIDATES;
	enum distw_place place;
	u64 bits;
	u32 i;

	if (wait->mailbox)
		return distw_queue_locate(&wait->hub->queue, peer);
	for (i = 0; i < wait->words; i++) {
		for (bits = wait->watch[i]; bits && left; bits &= bits - 1, left--) {
			u32 index = i * 64 + __ffs64(bits);

			place = distw_queue_locate(&wait->hub->mailbox[index].queue, peer);
			if (place != DISTW_PEER_AWAY)
				return place;
		}
	}
	return DISTW_PEER_AWAY;
}

static int wait_spin(struct distw_wait *wait, struct task_struct *peer, u64 until)
{
	int ret;

	while (!(ret = wait_ready(wait))) {
		if (distw_need_resched() || !single_task_running() || signal_pending(current))
			return 0;
		if (ktime_get_ns() >= until)
			return 0;
		if (!distw_task_on_cpu(peer)) {
			/* It may have published the very last thing that it did. */
			smp_rmb(); /* pairs with the release of on_cpu by the scheduler */
			return wait_ready(wait);
		}
		cpu_relax();
	}
	return ret;
}

static int wait_sleep(struct distw_wait *wait, u64 deadline)
{
	ktime_t expires = ns_to_ktime(min_t(u64, deadline, KTIME_MAX));
	struct distw_sleeper sleeper = { .queue = wait->queue };
	bool chosen, expired = false;
	int ret;

	for (;;) {
		distw_sleeper_enqueue(&sleeper);
		ret = wait_ready(wait);
		if (!ret && signal_pending(current))
			ret = -ERESTARTSYS;
		if (!ret && deadline == DISTWORKER_NO_DEADLINE)
			schedule();
		else if (!ret)
			expired = !schedule_hrtimeout_range(&expires, current->timer_slack_ns,
							    HRTIMER_MODE_ABS);
		/* By a wake-up, which then went to no poller. */
		chosen = !distw_sleeper_dequeue(&sleeper);
		if (!ret) {
			atomic64_inc(&wait->queue->sleeps);
			ret = wait_ready(wait);
			if (ret)
				return ret;
		}
		if (chosen)
			distw_queue_pass_on(wait->queue);
		if (ret)
			return ret;
		if (signal_pending(current))
			return -ERESTARTSYS;
		/* A thread that is woken again and again may never see the timer. */
		if (expired || deadline <= ktime_get_ns())
			return -ETIMEDOUT;
	}
}

/*
 * The peer wants to run on this CPU: let it, before going to the expense of sleeping
 * and being woken, if the scheduler agrees.
 */
static int wait_offer(struct distw_wait *wait)
{
	int ret;

	if (!distw_queue_may_offer(wait->queue))
		return 0;
	schedule();
	ret = wait_ready(wait);
	distw_queue_tune_offer(wait->queue, ret);
	return ret;
}

static int wait_spin_or_sleep(struct distw_wait *wait, struct task_struct *peer, u64 deadline)
{
	struct distw_queue *queue = wait->queue;
	u64 start = ktime_get_ns();
	u64 until = min(start + distw_queue_spin_ns(queue), deadline);
	int ret = wait_ready(wait);
	/* An event that is there already does not show whether spinning pays. */
	bool tune = !ret;

	if (!ret && until > start) {
		ret = wait_spin(wait, peer, until);
		atomic64_inc(ret ? &queue->spins_won : &queue->spins_lost);
	}
	put_task_struct(peer);
	if (!ret)
		ret = wait_sleep(wait, deadline);
	if (tune)
		distw_queue_tune_spin(queue, ktime_get_ns() - start);
	return ret;
}

static int wait_until(struct distw_wait *wait, u32 flags, u64 deadline)
{
	struct task_struct *peer;
	int ret;

	if (deadline != DISTWORKER_NO_DEADLINE && (!deadline || deadline <= ktime_get_ns())) {
		/* For pollers that stay on the queue without another call of ->poll. */
		if (waitqueue_active(&wait->queue->pollers))
			distw_queue_arm(wait->queue);
		return wait_ready(wait) ?: -ETIMEDOUT;
	}
	if (flags & DISTWORKER_WAIT_NOSPIN)
		return wait_sleep(wait, deadline);
	switch (wait_locate(wait, &peer)) {
	case DISTW_PEER_RUNS:
		return wait_spin_or_sleep(wait, peer, deadline);
	case DISTW_PEER_QUEUED_HERE:
		ret = wait_offer(wait);
		if (ret)
			return ret;
		fallthrough;
	default:
		return wait_sleep(wait, deadline);
	}
}

/* Waits until there are events for this thread; takes the changes of state if they are wanted. */
static int hub_wait_events(struct distw_wait *wait, const struct distworker_hub_wait *arg,
			   u64 *changed)
{
	struct distw_hub *hub = wait->hub;
	int ret;

	for (;;) {
		trace_distworker_wait_begin(hub->id, -1, arg->kick_seen, arg->deadline_ns);
		ret = wait_until(wait, arg->flags, arg->deadline_ns);
		trace_distworker_wait_end(hub->id, -1, ret, wait->events);
		if (ret < 0)
			return ret;
		/* A wait that takes no report leaves it to the next. */
		if (wait->events & DISTWORKER_EVENT_STATE && arg->state_mask) {
			memset(changed, 0, wait->words * sizeof(*changed));
			if (!distw_hub_take_changes(hub, changed))
				wait->events &= ~DISTWORKER_EVENT_STATE;
		}
		if (wait->events)
			return 0;
		/* Another thread was faster, and may be the next time. */
		if (signal_pending(current))
			return -ERESTARTSYS;
	}
}

/**
 * distw_hub_wait() - DISTWORKER_HUB_WAIT
 * @hub: a hub of which the current process is the owner
 * @uarg: the arguments
 * @size: how long they are, as the command says
 */
long distw_hub_wait(struct distw_hub *hub, void __user *uarg, u32 size)
{
	struct distworker_hub_wait __user *out = uarg;
	u64 changed[DISTW_MASK_WORDS] __distw_uninitialized;
	u64 watch[DISTW_MASK_WORDS] __distw_uninitialized;
	u64 ready[DISTW_MASK_WORDS] __distw_uninitialized;
	struct distworker_hub_wait arg;
	struct distw_wait wait;
	u32 words;
	u64 masks;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), size, uarg);
	if (ret)
		return ret;
	masks = arg.watch_mask | arg.ready_mask | arg.state_mask;
	if (arg.flags & DISTWORKER_WAIT_WAKE)
		masks |= arg.wake_mask;
	words = arg.mask_words;
	if (arg.flags & ~WAIT_FLAGS || arg.reserved || !hub_mask_words_fit(hub, words, masks))
		return -EINVAL;
	arg.deadline_ns = distw_deadline_to_host(arg.deadline_ns);
	ret = hub_mask_in(hub, watch, arg.watch_mask, words);
	/* On the way in it is the mask of the peers to wake. */
	if (!ret && arg.flags & DISTWORKER_WAIT_WAKE)
		ret = hub_mask_in(hub, ready, arg.wake_mask, words);
	if (ret)
		return ret;
	distw_queue_note_task(&hub->queue);
	WRITE_ONCE(hub->kick_seen, arg.kick_seen);
	/* A synchronous wake-up pulls the peer here: good for one, not for many. */
	if (arg.flags & DISTWORKER_WAIT_WAKE)
		hub_wake_peers(hub, ready, words, mask_is_single(ready, words));

	wait = (struct distw_wait){
		.hub = hub, .queue = &hub->queue, .seen = arg.kick_seen,
		.words = words, .watch = watch, .ready = ready,
	};
	ret = hub_wait_events(&wait, &arg, changed);
	if (ret)
		return ret;
	if (hub_mask_out(ready, arg.ready_mask, words) ||
	    hub_mask_out(wait.events & DISTWORKER_EVENT_STATE ? changed : NULL, arg.state_mask,
			 words) || put_user(wait.events, &out->events)) {
		if (wait.events & DISTWORKER_EVENT_STATE && arg.state_mask)
			distw_hub_return_changes(hub, changed);
		return -EFAULT;
	}
	return 0;
}

/**
 * distw_endpoint_wait() - DISTWORKER_ENDPOINT_WAIT
 * @mailbox: a mailbox of which the current process is the peer
 * @generation: of which generation it is
 * @uarg: the arguments
 * @size: how long they are, as the command says
 */
long distw_endpoint_wait(struct distw_mailbox *mailbox, u64 generation, void __user *uarg,
			 u32 size)
{
	struct distworker_endpoint_wait __user *out = uarg;
	struct distworker_endpoint_wait arg;
	struct distw_wait wait = {
		.hub = mailbox->hub, .mailbox = mailbox, .queue = &mailbox->queue,
		.generation = generation,
	};
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), size, uarg);
	if (ret)
		return ret;
	if (arg.flags & ~WAIT_FLAGS)
		return -EINVAL;
	arg.deadline_ns = distw_deadline_to_host(arg.deadline_ns);
	wait.seen = arg.seen;
	distw_queue_note_task(&mailbox->queue);
	if (arg.flags & DISTWORKER_WAIT_WAKE)
		hub_wake_owner(mailbox->hub, true);
	trace_distworker_wait_begin(mailbox->hub->id, mailbox->index, arg.seen, arg.deadline_ns);
	ret = wait_until(&wait, arg.flags, arg.deadline_ns);
	trace_distworker_wait_end(mailbox->hub->id, mailbox->index, ret, wait.events);
	if (ret < 0)
		return ret;
	return put_user(wait.events, &out->events);
}
