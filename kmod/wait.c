// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: how threads sleep at one end of a mailbox and how they are woken.
 *
 * A wake-up carries no information: the words in the shared memory and the states
 * of the mailboxes do. Whoever is woken looks at them again, so that a wake-up too
 * many costs time and nothing else, and the one rule to keep is that none is missing:
 *
 *	the waiter			the publisher
 *	(1) is on side->waiters		(a) changes a word (or a state)
 *	(2) sets "asleep"		(b) full barrier
 *	(3) full barrier		(c) reads "asleep" (in the kernel: the queue)
 *	(4) compares the words		(d) wakes if it is set
 *
 * Either (c) sees (2), or (4) sees (a). (1) and (2) are one step, and so are taking
 * the waiter off the queue and clearing "asleep": side->waiters.lock is held.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include "distworker.h"
#include "trace.h"

/* As KVM's halt polling: start there, double, give up at once. */
#define SPIN_START_NS	10000

/* How many peers the owner looks at for one that runs. */
#define SPIN_CANDIDATES	64

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
	u64 watch[DW_MASK_WORDS];
	u64 ready[DW_MASK_WORDS];	/* out */
};

struct dw_sleeper {
	struct wait_queue_entry entry;
	struct dw_side *side;
};

void dw_side_init(struct dw_side *side, __u32 *asleep)
{
	init_waitqueue_head(&side->waiters);
	init_waitqueue_head(&side->pollers);
	side->asleep = (atomic_t *)asleep;
	side->spin_ns = SPIN_START_NS;
}

/* Remember the current thread as the one that is worth spinning for. */
void dw_side_note_task(struct dw_side *side)
{
	struct task_struct *old;

	if (READ_ONCE(side->task) == current)
		return;
	get_task_struct(current);
	spin_lock(&side->waiters.lock);
	old = side->task;
	WRITE_ONCE(side->task, current);
	spin_unlock(&side->waiters.lock);
	if (old)
		put_task_struct(old);
}

void dw_side_forget_task(struct dw_side *side)
{
	struct task_struct *old;

	spin_lock(&side->waiters.lock);
	old = side->task;
	WRITE_ONCE(side->task, NULL);
	spin_unlock(&side->waiters.lock);
	if (old)
		put_task_struct(old);
}

/* For the next peer. Nobody waits here. */
void dw_side_reset(struct dw_side *side)
{
	dw_side_forget_task(side);
	spin_lock(&side->waiters.lock);
	side->wakes = 0;
	spin_unlock(&side->waiters.lock);
	atomic64_set(&side->sleeps, 0);
	atomic64_set(&side->sleep_ns, 0);
	atomic64_set(&side->spins_won, 0);
	atomic64_set(&side->spins_lost, 0);
	WRITE_ONCE(side->spin_ns, SPIN_START_NS);
}

enum peer_place { PEER_AWAY, PEER_HERE, PEER_RUNNING };
static enum peer_place side_where(struct dw_side *side, struct task_struct **out)
{
	struct task_struct *task;
	enum peer_place place = PEER_AWAY;

	spin_lock(&side->waiters.lock);
	task = side->task;
	if (task && task != current && task_is_running(task)) {
		if (dw_task_on_cpu(task)) {
			place = PEER_RUNNING;
			*out = get_task_struct(task);
		} else if (task_cpu(task) == raw_smp_processor_id()) {
			place = PEER_HERE, *out = get_task_struct(task);
		}
	}
	spin_unlock(&side->waiters.lock);
	return place;
}

void dw_side_show(struct dw_side *side, struct seq_file *m)
{
	struct task_struct *task;
	u64 wakes;
	pid_t tid;

	spin_lock(&side->waiters.lock);
	wakes = side->wakes;
	task = side->task;
	tid = task ? task_pid_vnr(task) : 0;
	spin_unlock(&side->waiters.lock);
	seq_printf(m, " tid:%d asleep:%#x wakes:%llu sleeps:%lld spins_won:%lld spins_lost:%lld sleep_ns:%lld\n",
		   tid, atomic_read(side->asleep), wakes,
		   (long long)atomic64_read(&side->sleeps),
		   (long long)atomic64_read(&side->spins_won),
		   (long long)atomic64_read(&side->spins_lost),
		   (long long)atomic64_read(&side->sleep_ns));
}

/* Waking */

static void sleeper_unlink(struct dw_sleeper *sleeper)
{
	struct dw_side *side = sleeper->side;

	lockdep_assert_held(&side->waiters.lock);
	if (list_is_singular(&side->waiters.head))
		atomic_andnot(DISTWORKER_ASLEEP_WAITER, side->asleep);
	/* The sleeper's stack may be gone as soon as this is seen. */
	list_del_init_careful(&sleeper->entry.entry);
}

/* A wait queue's wake function: takes the sleeper off, so that it need not. */
static int sleeper_wake(struct wait_queue_entry *entry, unsigned int mode, int flags, void *key)
{
	struct dw_sleeper *sleeper = container_of(entry, struct dw_sleeper, entry);

	if (default_wake_function(entry, mode, flags, key))
		sleeper->side->wakes++;
	sleeper_unlink(sleeper);
	return 1;
}

/* The caller has passed a full barrier: see (b) above. True if a thread was woken. */
static bool side_wake_waiters(struct dw_side *side, bool sync)
{
	u64 before;
	bool woken;

	if (!waitqueue_active(&side->waiters))
		return false;
	spin_lock(&side->waiters.lock);
	before = side->wakes;
	if (sync)
		__wake_up_locked_sync_key(&side->waiters, TASK_INTERRUPTIBLE, NULL);
	else
		__wake_up_locked_key(&side->waiters, TASK_INTERRUPTIBLE, NULL);
	woken = side->wakes != before;
	spin_unlock(&side->waiters.lock);
	return woken;
}

static bool side_wake_pollers(struct dw_side *side, __poll_t events)
{
	if (!waitqueue_active(&side->pollers))
		return false;
	/*
	 * Before the wake-up: who arms it after this is either on the queue and
	 * woken below, or has yet to compare the words.
	 */
	atomic_andnot(DISTWORKER_ASLEEP_POLLER, side->asleep);
	wake_up_interruptible_poll(&side->pollers, events);
	return true;
}

/* News in the words: those who wait come first, mere pollers only without them. */
static bool side_wake(struct dw_side *side, bool sync)
{
	return side_wake_waiters(side, sync) ||
	       side_wake_pollers(side, EPOLLIN | EPOLLRDNORM);
}

/* A change of state: everybody looks. */
void dw_side_wake_all(struct dw_side *side)
{
	smp_mb(); /* (b) for a state that was changed */
	side_wake_waiters(side, false);
	side_wake_pollers(side, EPOLLIN | EPOLLRDNORM | EPOLLPRI | EPOLLHUP);
}

/* ->poll, after poll_wait(): the pollers' (2) and (3). */
void dw_side_arm_poll(struct dw_side *side)
{
	atomic_or(DISTWORKER_ASLEEP_POLLER, side->asleep);
	smp_mb__after_atomic(); /* (3), pairs with (b) */
}

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

			if (side_wake(&mailbox->side, sync)) {
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
	if (!side_wake(&hub->side, sync))
		return 0;
	trace_distworker_wake(hub, NULL);
	return 1;
}

/*
 * Reads a mask of the user, or zeroes it if there is none. It must have a bit for
 * each mailbox, and a bit for which there is no mailbox must not be set.
 */
static int hub_mask_in(struct dw_hub *hub, u64 *mask, u64 umask, u32 words)
{
	u32 last = hub->mailboxes / 64;
	u32 i;

	if (words > DW_MASK_WORDS)
		return -EINVAL;
	if (!umask) {
		memset(mask, 0, words * sizeof(*mask));
		return 0;
	}
	if (words < DIV_ROUND_UP(hub->mailboxes, 64))
		return -EINVAL;
	if (words == 1) {
		if (get_user(*mask, (u64 __user *)u64_to_user_ptr(umask)))
			return -EFAULT;
	} else if (copy_from_user(mask, u64_to_user_ptr(umask), words * sizeof(*mask))) {
		return -EFAULT;
	}
	for (i = last; i < words; i++)
		if (mask[i] >> (i == last ? hub->mailboxes % 64 : 0))
			return -EINVAL;
	return 0;
}

static int hub_mask_out(const u64 *mask, u64 umask, u32 words)
{
	if (!umask)
		return 0;
	if (words == 1)
		return put_user(*mask, (u64 __user *)u64_to_user_ptr(umask));
	return copy_to_user(u64_to_user_ptr(umask), mask, words * sizeof(*mask)) ? -EFAULT : 0;
}

long dw_hub_wake(struct dw_hub *hub, void __user *uarg)
{
	struct distworker_hub_wake arg;
	u64 mask[DW_MASK_WORDS];
	int ret;

	ret = dw_copy_in(&arg, sizeof(arg), sizeof(arg), uarg);
	if (ret)
		return ret;
	if (arg.flags & ~DISTWORKER_WAKE_SELF)
		return -EINVAL;
	ret = hub_mask_in(hub, mask, arg.wake_mask, arg.mask_words);
	if (ret)
		return ret;
	dw_side_note_task(&hub->side);
	arg.woken = hub_wake_peers(hub, mask, arg.mask_words, false);
	if (arg.flags & DISTWORKER_WAKE_SELF)
		arg.woken += hub_wake_owner(hub, false);
	return put_user(arg.woken, &((struct distworker_hub_wake __user *)uarg)->woken);
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
static int wait_ready(struct dw_wait *wait)
{
	struct dw_mailbox *mailbox = wait->mailbox;

	if (!mailbox) {
		wait->events = dw_hub_events(wait->hub, wait->seen, wait->watch,
					     wait->ready, wait->words);
	} else if (unlikely(READ_ONCE(wait->hub->orphaned))) {
		return -EOWNERDEAD;
	} else if (unlikely(READ_ONCE(mailbox->state) != DISTWORKER_MAILBOX_ATTACHED ||
			    READ_ONCE(mailbox->generation) != wait->generation)) {
		return -ENOTCONN;
	} else {
		wait->events = dw_endpoint_events(mailbox, wait->seen);
	}
	return wait->events != 0;
}

static enum peer_place wait_where(struct dw_wait *wait, struct task_struct **out)
{
	u32 left = SPIN_CANDIDATES;
	enum peer_place place;
	u32 i;
	u64 bits;

	if (wait->mailbox)
		return side_where(&wait->hub->side, out);
	for (i = 0; i < wait->words; i++) {
		for (bits = wait->watch[i]; bits && left; bits &= bits - 1, left--) {
			place = side_where(&wait->hub->mailbox[i * 64 + __ffs64(bits)].side, out);
			if (place)
				return place;
		}
	}
	return PEER_AWAY;
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
		spin = min(max, spin ? 2 * spin : SPIN_START_NS);
	WRITE_ONCE(side->spin_ns, spin);
}

static void sleeper_enqueue(struct dw_sleeper *sleeper)
{
	struct dw_side *side = sleeper->side;

	spin_lock(&side->waiters.lock);
	__add_wait_queue(&side->waiters, &sleeper->entry);
	__set_current_state(TASK_INTERRUPTIBLE);
	atomic_or(DISTWORKER_ASLEEP_WAITER, side->asleep);
	smp_mb__after_atomic(); /* (3), pairs with (b) */
	spin_unlock(&side->waiters.lock);
}

static void sleeper_dequeue(struct dw_sleeper *sleeper)
{
	__set_current_state(TASK_RUNNING);
	/* Pairs with list_del_init_careful() in sleeper_unlink(). */
	if (list_empty_careful(&sleeper->entry.entry))
		return;
	spin_lock(&sleeper->side->waiters.lock);
	if (!list_empty(&sleeper->entry.entry))
		sleeper_unlink(sleeper);
	spin_unlock(&sleeper->side->waiters.lock);
}

static int wait_sleep(struct dw_wait *wait, u64 deadline)
{
	ktime_t expires = ns_to_ktime(min_t(u64, deadline, KTIME_MAX));
	struct dw_side *side = wait->side;
	struct dw_sleeper sleeper = { .side = side };
	bool expired = false;
	u64 since;
	int ret;

	init_waitqueue_func_entry(&sleeper.entry, sleeper_wake);
	sleeper.entry.private = current;
	INIT_LIST_HEAD(&sleeper.entry.entry);
	do {
		sleeper_enqueue(&sleeper);
		ret = wait_ready(wait);
		if (ret || signal_pending(current)) {
			sleeper_dequeue(&sleeper);
			return ret ?: -EINTR;
		}
		since = ktime_get_ns();
		if (deadline == DISTWORKER_NO_DEADLINE)
			schedule();
		else
			expired = !schedule_hrtimeout_range(&expires, current->timer_slack_ns,
							    HRTIMER_MODE_ABS);
		sleeper_dequeue(&sleeper);
		atomic64_inc(&side->sleeps);
		atomic64_add(ktime_get_ns() - since, &side->sleep_ns);
		ret = wait_ready(wait);
		if (!ret && signal_pending(current))
			return -EINTR;
	} while (!ret && !expired);
	return ret ?: -ETIMEDOUT;
}

static int wait_until(struct dw_wait *wait, u32 flags, u64 deadline)
{
	struct task_struct *peer = NULL;
	u64 start = 0;
	u64 now, until;
	int ret;

	if (deadline != DISTWORKER_NO_DEADLINE && (!deadline || deadline <= ktime_get_ns()))
		return wait_ready(wait) ?: -ETIMEDOUT;
	if (!(flags & DISTWORKER_WAIT_NOSPIN)) {
		enum peer_place place = wait_where(wait, &peer);
		if (place == PEER_HERE) {
			yield_to(peer, false); put_task_struct(peer); peer = NULL;
			ret = wait_ready(wait);
			if (ret) {
				atomic64_inc(&wait->side->spins_won);
				return ret;
			}
			atomic64_inc(&wait->side->spins_lost);
		}
	}
	if (!peer)
		return wait_sleep(wait, deadline);

	start = ktime_get_ns();
	until = min(start + READ_ONCE(wait->side->spin_ns), deadline);
	ret = wait_spin(wait, peer, until);
	put_task_struct(peer);
	now = ktime_get_ns();
	if (ret) {
		atomic64_inc(&wait->side->spins_won);
	} else {
		if (until > start)
			atomic64_inc(&wait->side->spins_lost);
		ret = wait_sleep(wait, deadline);
		now = ktime_get_ns();
	}
	side_tune_spin(wait->side, now - start);
	return ret;
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

long dw_hub_wait(struct dw_hub *hub, void __user *uarg)
{
	struct distworker_hub_wait __user *out = uarg;
	struct distworker_hub_wait arg;
	u64 changed[DW_MASK_WORDS];
	struct dw_wait wait;
	int ret;

	ret = hub_wait_in(&arg, uarg);
	if (ret)
		return ret;
	if (arg.flags & ~WAIT_FLAGS || arg.reserved)
		return -EINVAL;
	if ((arg.state_mask || arg.ready_mask) && arg.mask_words * 64ULL < hub->mailboxes)
		return -EINVAL;
	ret = hub_mask_in(hub, wait.watch, arg.watch_mask, arg.mask_words);
	if (ret)
		return ret;
	wait.hub = hub;
	wait.mailbox = NULL;
	wait.side = &hub->side;
	wait.seen = arg.kick_seen;
	wait.events = 0;
	wait.words = arg.mask_words;
	WRITE_ONCE(hub->kick_seen, arg.kick_seen);
	dw_side_note_task(&hub->side);
	if (arg.flags & DISTWORKER_WAIT_WAKE) {
		ret = hub_mask_in(hub, wait.ready, arg.wake_mask, arg.mask_words);
		if (ret)
			return ret;
		/* A synchronous wake-up pulls the peer here: good for one, not for many. */
		hub_wake_peers(hub, wait.ready, arg.mask_words,
			       mask_is_single(wait.ready, arg.mask_words));
	}
	memset(changed, 0, arg.mask_words * sizeof(*changed));

	do {
		trace_distworker_wait_begin(hub, NULL, arg.kick_seen, arg.deadline_ns);
		ret = wait_until(&wait, arg.flags, arg.deadline_ns);
		trace_distworker_wait_end(hub, NULL, ret, wait.events);
		if (ret < 0)
			return ret;
		/* Who takes no report leaves it to the next. */
		if (wait.events & DISTWORKER_EVENT_STATE && arg.state_mask)
			hub_take_changes(&wait, changed);
	} while (!wait.events);

	if (hub_mask_out(wait.ready, arg.ready_mask, arg.mask_words) ||
	    hub_mask_out(changed, arg.state_mask, arg.mask_words) ||
	    put_user(wait.events, &out->events)) {
		if (wait.events & DISTWORKER_EVENT_STATE && arg.state_mask)
			hub_return_changes(hub, changed);
		return -EFAULT;
	}
	return 0;
}

long dw_endpoint_wait(struct dw_mailbox *mailbox, u32 generation, void __user *uarg)
{
	struct distworker_endpoint_wait __user *out = uarg;
	struct distworker_endpoint_wait arg;
	struct dw_wait wait;
	int ret;

	ret = endpoint_wait_in(&arg, uarg);
	if (ret)
		return ret;
	if (arg.flags & ~WAIT_FLAGS)
		return -EINVAL;
	wait.hub = mailbox->hub;
	wait.mailbox = mailbox;
	wait.side = &mailbox->side;
	wait.seen = arg.seen;
	wait.generation = generation;
	wait.events = 0;
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
