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
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>

#include "compat.h"
#include "events.h"
#include "wait.h"

/* How many peers the owner looks at for one that runs or wants to. */
#define PEER_CANDIDATES	64

#define WAIT_FLAGS	(DISTWORKER_WAIT_WAKE | DISTWORKER_WAIT_NOSPIN)
#define WAKE_FLAGS	(DISTWORKER_WAKE_SELF | DISTWORKER_WAKE_SIBLINGS)

struct distw_wait {
	struct distw_hub *hub;
	struct distw_mailbox *mailbox;	/* NULL: the owner waits on the hub */
	struct distw_queue *queue;
	struct distw_timeline_sleeper *sibling;	/* the peer waits for a timeline, or NULL */
	const struct distworker_timeline_wait *until;	/* what it waits for */
	int index;			/* of the mailbox, -1 for the owner */
	u32 flags;
	u64 deadline;
	u64 generation;			/* of the mailbox when the wait began */
	u32 seen;			/* of the post word; of the kick word; the count */
	/* Of the hub only: */
	u32 words;			/* in the masks */
	const u64 *watch;
	u64 *ready;			/* out */
};

/* Masks, and waking */

/* sleeps: the caller is about to. */
static u32 hub_wake_peers(struct distw_hub *hub, const u64 *mask, u32 words, bool sleeps)
{
	/* A synchronous wake-up pulls the peer here: good for one, not for many. */
	bool sync = sleeps && words == 1 && !(*mask & (*mask - 1));
	u32 i, woken = 0;
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

/* Those that wait for the timelines of these mailboxes look at their words. */
static u32 hub_wake_siblings(struct distw_hub *hub, const u64 *mask, u32 words)
{
	u32 i, woken = 0;
	u64 bits;

	smp_mb(); /* (b), pairs with (3) */
	for (i = 0; i < words; i++) {
		for (bits = mask[i]; bits; bits &= bits - 1) {
			u32 index = i * 64 + __ffs64(bits);

			woken += distw_timeline_wake(&hub->mailbox[index].timeline, true);
			cond_resched();
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
	u32 i;

	for (i = 0; i < words; i++) {
		mask[i] = 0;
		if (umask && get_user(mask[i], &from[i]))
			return -EFAULT;
		if (mask[i] & ~hub->all[i])
			return -EINVAL;
		/* As array_index_nospec() would, for a CPU that runs ahead of that. */
		mask[i] &= hub->all[i];
	}
	return 0;
}

/* A mask has a bit for each mailbox, and no more words than any hub could need. */
static bool hub_mask_words_fit(struct distw_hub *hub, u32 words, u64 any)
{
	return words <= DISTW_MASK_WORDS && (!any || words * 64 >= hub->layout.mailboxes);
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
	u64 mask[DISTW_MASK_WORDS] __uninitialized;
	struct distworker_hub_wake arg;
	u32 woken;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), size, uarg);
	if (ret)
		return ret;
	if (arg.flags & ~WAKE_FLAGS ||
	    !hub_mask_words_fit(hub, arg.mask_words, arg.wake_mask))
		return -EINVAL;
	if (arg.flags & DISTWORKER_WAKE_SIBLINGS && !hub->layout.timeline_offset)
		return -EINVAL;
	ret = hub_mask_in(hub, mask, arg.wake_mask, arg.mask_words);
	if (ret)
		return ret;
	distw_queue_note_task(&hub->queue);
	if (arg.flags & DISTWORKER_WAKE_SIBLINGS)
		woken = hub_wake_siblings(hub, mask, arg.mask_words);
	else
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

/*
 * The DISTWORKER_EVENT_* that hold now.
 * @watch: a mask of the mailboxes whose done word counts
 * @ready: out: of these, those whose done word differs from the value that the owner saw
 */
static u32 hub_events(struct distw_hub *hub, u32 kick_seen, const u64 *watch, u64 *ready,
		      u32 words)
{
	u32 i, index, events = 0;
	u64 bits;

	if (READ_ONCE(hub->changed_any))
		events |= DISTWORKER_EVENT_STATE;
	if (READ_ONCE(hub->state->kick) != kick_seen)
		events |= DISTWORKER_EVENT_KICK;
	for (i = 0; i < words; i++) {
		ready[i] = 0;
		for (bits = watch[i]; bits; bits &= bits - 1) {
			index = i * 64 + __ffs64(bits);
			if (READ_ONCE(hub->mailbox[index].shared->done) !=
			    READ_ONCE(hub->state->seen[index]))
				ready[i] |= bits & -bits;
		}
		if (ready[i])
			events |= DISTWORKER_EVENT_DONE;
	}
	return events;
}

static u32 endpoint_events(struct distw_mailbox *mailbox, u32 seen)
{
	u32 events = 0;

	if (READ_ONCE(mailbox->shared->post) != seen)
		events |= DISTWORKER_EVENT_POST;
	if (READ_ONCE(mailbox->shared->stop))
		events |= DISTWORKER_EVENT_STOP;
	return events;
}

static u32 timeline_events(struct distw_mailbox *mailbox,
			   const struct distw_timeline_sleeper *sibling,
			   const struct distworker_timeline_wait *until)
{
	const struct distworker_timeline *shared = sibling->timeline->shared;
	u32 events = 0;

	if (distw_count_reached(READ_ONCE(shared->count), until->count))
		events |= DISTWORKER_EVENT_COUNT;
	if (READ_ONCE(shared->generation) != until->generation ||
	    READ_ONCE(mailbox->shared->recall) != until->recall)
		events |= DISTWORKER_EVENT_RECALL;
	return events;
}

/* The events that end the wait, or the error that does; 0: it goes on. */
static __always_inline int wait_ready(struct distw_wait *wait)
{
	struct distw_mailbox *mailbox = wait->mailbox;

	if (!mailbox)
		return hub_events(wait->hub, wait->seen, wait->watch, wait->ready, wait->words);
	if (READ_ONCE(wait->hub->orphaned))
		return -EOWNERDEAD;
	/* The state first: it is of that generation or an older one. Pairs with re-arming. */
	if (smp_load_acquire(&mailbox->state) != DISTWORKER_MAILBOX_ATTACHED ||
	    READ_ONCE(mailbox->generation) != wait->generation)
		return -ENOTCONN;
	if (wait->sibling)
		return timeline_events(mailbox, wait->sibling, wait->until);
	return endpoint_events(mailbox, wait->seen);
}

/* The thread that may end the wait soon, counted, or NULL. */
static struct task_struct *wait_get_peer(struct distw_wait *wait)
{
	u32 left = PEER_CANDIDATES;
	struct task_struct *peer;
	u64 bits;
	u32 i;

	if (wait->sibling)
		return distw_queue_get_peer(&wait->hub->mailbox[wait->until->index].queue);
	if (wait->mailbox)
		return distw_queue_get_peer(&wait->hub->queue);
	for (i = 0; i < wait->words; i++) {
		for (bits = wait->watch[i]; bits && left; bits &= bits - 1, left--) {
			u32 index = i * 64 + __ffs64(bits);

			peer = distw_queue_get_peer(&wait->hub->mailbox[index].queue);
			if (peer)
				return peer;
		}
	}
	return NULL;
}

static int wait_spin(struct distw_wait *wait, struct task_struct *peer, u64 until)
{
	while (distw_task_on_cpu(peer) && single_task_running() && !distw_need_resched() &&
	       !signal_pending(current) && ktime_get_ns() < until) {
		int ret = wait_ready(wait);

		if (ret)
			return ret;
		cpu_relax();
	}
	/* The peer may have published the very last thing that it did. */
	smp_rmb(); /* pairs with the release of on_cpu by the scheduler */
	return wait_ready(wait);
}

static int wait_sleep(struct distw_wait *wait)
{
	ktime_t expires = ns_to_ktime(min_t(u64, wait->deadline, KTIME_MAX));
	struct distw_sleeper sleeper = {
		.queue = wait->queue,
		.asleep = wait->sibling ? DISTWORKER_ASLEEP_TIMELINE : DISTWORKER_ASLEEP_WAITER,
	};
	bool chosen, expired = false;
	int before, ret;

	do {
		distw_sleeper_enqueue(&sleeper);
		if (wait->sibling)
			distw_timeline_enqueue(wait->sibling);
		before = wait_ready(wait);
		if (!before) {
			/* Both return at once if a signal is pending. */
			if (wait->deadline == DISTWORKER_NO_DEADLINE)
				schedule();
			else
				expired = !schedule_hrtimeout_range(&expires,
								    current->timer_slack_ns,
								    HRTIMER_MODE_ABS);
			atomic64_inc(&wait->queue->sleeps);
		}
		if (wait->sibling)
			distw_timeline_dequeue(wait->sibling);
		chosen = !distw_sleeper_dequeue(&sleeper);
		ret = before ?: wait_ready(wait);
		/* The wake-up went to no poller, and was not what has ended this wait. */
		if (chosen && (before || !ret))
			distw_queue_wake_pollers(wait->queue, EPOLLIN | EPOLLRDNORM);
		if (!ret && signal_pending(current))
			ret = -ERESTARTSYS;
		/* A thread that is woken again and again may never see the timer. */
		if (!ret && (expired || wait->deadline <= ktime_get_ns()))
			ret = -ETIMEDOUT;
	} while (!ret);
	return ret;
}

/*
 * The peer wants to run on this CPU: let it, before going to the expense of sleeping
 * and being woken, if the scheduler agrees.
 */
static int wait_offer(struct distw_wait *wait)
{
	int ret = 0;

	if (distw_queue_may_offer(wait->queue)) {
		schedule();
		ret = wait_ready(wait);
	}
	distw_queue_tune_offer(wait->queue, ret);
	return ret;
}

static int wait_spin_or_sleep(struct distw_wait *wait, struct task_struct *peer)
{
	struct distw_queue *queue = wait->queue;
	u64 start = ktime_get_ns();
	u64 until = min(start + distw_queue_spin_ns(queue), wait->deadline);
	int ret = wait_ready(wait);
	/* An event that is there already does not show whether spinning pays. */
	bool tune = !ret;

	if (!ret && until > start) {
		ret = wait_spin(wait, peer, until);
		atomic64_inc(ret ? &queue->spins_won : &queue->spins_lost);
	}
	put_task_struct(peer);
	if (!ret)
		ret = wait_sleep(wait);
	if (tune)
		distw_queue_tune_spin(queue, ktime_get_ns() - start);
	return ret;
}

static int wait_until(struct distw_wait *wait)
{
	u64 deadline = wait->deadline;
	struct task_struct *peer;

	if (deadline != DISTWORKER_NO_DEADLINE && (!deadline || deadline <= ktime_get_ns())) {
		/* For pollers that stay on the queue without another call of ->poll. */
		if (waitqueue_active(&wait->queue->pollers))
			distw_queue_arm(wait->queue);
		return wait_ready(wait) ?: -ETIMEDOUT;
	}
	peer = wait->flags & DISTWORKER_WAIT_NOSPIN ? NULL : wait_get_peer(wait);
	if (!peer)
		return wait_sleep(wait);
	if (distw_task_on_cpu(peer))
		return wait_spin_or_sleep(wait, peer);
	put_task_struct(peer);
	return wait_offer(wait) ?: wait_sleep(wait);
}

static int wait_traced(struct distw_wait *wait)
{
	int ret;

	trace_distworker_wait_begin(wait->hub->id, wait->index, wait->seen, wait->deadline);
	ret = wait_until(wait);
	trace_distworker_wait_end(wait->hub->id, wait->index, ret);
	return ret;
}

/* Waits until there are events for this thread; takes the changes of state if they are wanted. */
static int hub_wait_events(struct distw_wait *wait, bool take, u64 *changed)
{
	int ret;

	do {
		ret = wait_traced(wait);
		/* A wait that takes no report leaves it to the next; one that does may be late. */
		if (ret > 0 && ret & DISTWORKER_EVENT_STATE && take &&
		    !distw_hub_take_changes(wait->hub, changed, wait->words))
			ret &= ~DISTWORKER_EVENT_STATE;
		/* Another thread was faster, and may be the next time. */
		if (!ret && signal_pending(current))
			ret = -ERESTARTSYS;
	} while (!ret);
	return ret;
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
	u64 changed[DISTW_MASK_WORDS] __uninitialized;
	u64 watch[DISTW_MASK_WORDS] __uninitialized;
	u64 ready[DISTW_MASK_WORDS] __uninitialized;
	struct distworker_hub_wait arg;
	struct distw_wait wait;
	u64 masks, wake_mask;
	bool taken;
	u32 words;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), size, uarg);
	if (ret)
		return ret;
	wake_mask = arg.flags & DISTWORKER_WAIT_WAKE ? arg.wake_mask : 0;
	masks = wake_mask | arg.watch_mask | arg.ready_mask | arg.state_mask;
	words = arg.mask_words;
	if (arg.flags & ~WAIT_FLAGS || arg.reserved || !hub_mask_words_fit(hub, words, masks))
		return -EINVAL;
	/* On the way in, ready is the mask of the peers to wake. */
	ret = hub_mask_in(hub, watch, arg.watch_mask, words) ?:
	      hub_mask_in(hub, ready, wake_mask, words);
	if (ret)
		return ret;
	distw_queue_note_task(&hub->queue);
	WRITE_ONCE(hub->kick_seen, arg.kick_seen);
	if (wake_mask)
		hub_wake_peers(hub, ready, words, true);

	wait = (struct distw_wait){
		.hub = hub, .queue = &hub->queue, .index = -1, .flags = arg.flags,
		.deadline = distw_deadline_to_host(arg.deadline_ns), .seen = arg.kick_seen,
		.words = words, .watch = watch, .ready = ready,
	};
	ret = hub_wait_events(&wait, arg.state_mask, changed);
	if (ret < 0)
		return ret;
	taken = ret & DISTWORKER_EVENT_STATE && arg.state_mask;
	if (hub_mask_out(ready, arg.ready_mask, words) ||
	    hub_mask_out(taken ? changed : NULL, arg.state_mask, words) ||
	    put_user(ret, &out->events)) {
		if (taken)
			distw_hub_return_changes(hub, changed, words);
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
	struct distw_wait wait;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), size, uarg);
	if (ret)
		return ret;
	if (arg.flags & ~WAIT_FLAGS)
		return -EINVAL;
	distw_queue_note_task(&mailbox->queue);
	if (arg.flags & DISTWORKER_WAIT_WAKE)
		hub_wake_owner(mailbox->hub, true);
	wait = (struct distw_wait){
		.hub = mailbox->hub, .mailbox = mailbox, .queue = &mailbox->queue,
		.index = mailbox->index, .flags = arg.flags,
		.deadline = distw_deadline_to_host(arg.deadline_ns), .seen = arg.seen,
		.generation = generation,
	};
	ret = wait_traced(&wait);
	return ret < 0 ? ret : put_user(ret, &out->events);
}

/**
 * distw_timeline_wait() - DISTWORKER_TIMELINE_WAIT
 * @mailbox: a mailbox of which the current process is the peer
 * @generation: of which generation it is
 * @uarg: the arguments
 * @size: how long they are, as the command says
 */
long distw_timeline_wait(struct distw_mailbox *mailbox, u64 generation, void __user *uarg,
			 u32 size)
{
	struct distworker_timeline_wait __user *out = uarg;
	struct distw_hub *hub = mailbox->hub;
	struct distw_timeline_sleeper sibling;
	struct distworker_timeline_wait arg;
	struct distw_wait wait;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), size, uarg);
	if (ret)
		return ret;
	if (arg.flags & ~DISTWORKER_WAIT_NOSPIN || arg.reserved ||
	    arg.index >= hub->layout.mailboxes || !hub->layout.timeline_offset)
		return -EINVAL;
	arg.index = array_index_nospec(arg.index, hub->layout.mailboxes);
	sibling.timeline = &hub->mailbox[arg.index].timeline;
	sibling.count = arg.count;
	distw_queue_note_task(&mailbox->queue);
	wait = (struct distw_wait){
		.hub = hub, .mailbox = mailbox, .queue = &mailbox->queue,
		.sibling = &sibling, .until = &arg, .index = mailbox->index,
		.flags = arg.flags, .deadline = distw_deadline_to_host(arg.deadline_ns),
		.generation = generation, .seen = arg.count,
	};
	ret = wait_traced(&wait);
	return ret < 0 ? ret : put_user(ret, &out->events);
}

/**
 * distw_timeline_reached() - DISTWORKER_TIMELINE_WAKE
 * @mailbox: a mailbox of which the current process is the peer
 */
int distw_timeline_reached(struct distw_mailbox *mailbox)
{
	if (!mailbox->timeline.shared)
		return -EINVAL;
	distw_queue_note_task(&mailbox->queue);
	smp_mb(); /* (b), pairs with distw_timeline_enqueue() */
	distw_timeline_wake(&mailbox->timeline, false);
	return 0;
}

/*
 * Polling asks for no rights: it can run in another context (aio, io_uring's SQPOLL), and all that
 * a process with a copy of the file can do by it is to arm the file's side, which costs the other
 * side a wake-up.
 */

/**
 * distw_hub_poll() - ->poll of a hub
 * @file: the hub
 * @pt: the pollers
 */
__poll_t distw_hub_poll(struct file *file, struct poll_table_struct *pt)
{
	u64 ready[DISTW_MASK_WORDS] __uninitialized;
	struct distw_hub *hub = file->private_data;
	__poll_t mask = 0;
	u32 events;

	poll_wait(file, &hub->queue.pollers, pt);
	distw_queue_arm(&hub->queue);
	/* Pairs with distw_hub_set_up(). */
	if (!smp_load_acquire(&hub->mm))
		return EPOLLERR;
	if (READ_ONCE(hub->orphaned))
		return EPOLLHUP;
	events = hub_events(hub, READ_ONCE(hub->kick_seen), hub->all, ready,
			    BITS_TO_U64(hub->layout.mailboxes));
	if (events & (DISTWORKER_EVENT_DONE | DISTWORKER_EVENT_KICK))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (events & DISTWORKER_EVENT_STATE)
		mask |= EPOLLPRI;
	return mask;
}

/**
 * distw_endpoint_poll() - ->poll of an endpoint
 * @file: the endpoint
 * @pt: the pollers
 */
__poll_t distw_endpoint_poll(struct file *file, struct poll_table_struct *pt)
{
	struct distw_mailbox *mailbox = file->private_data;

	poll_wait(file, &mailbox->queue.pollers, pt);
	distw_queue_arm(&mailbox->queue);
	if (READ_ONCE(mailbox->hub->orphaned))
		return EPOLLHUP;
	if (READ_ONCE(mailbox->state) != DISTWORKER_MAILBOX_ATTACHED)
		return EPOLLERR;
	return endpoint_events(mailbox, READ_ONCE(mailbox->shared->seen)) ?
		EPOLLIN | EPOLLRDNORM : 0;
}
