// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: one end of a mailbox, or of all mailboxes of a hub: who sleeps there, how
 * to sleep, and how to be woken.
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

#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>

#include "internal.h"

void dw_side_init(struct dw_side *side, __u32 *asleep)
{
	init_waitqueue_head(&side->waiters);
	init_waitqueue_head(&side->pollers);
	side->asleep = (atomic_t *)asleep;
	side->spin_ns = DW_SPIN_START_NS;
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
	WRITE_ONCE(side->spin_ns, DW_SPIN_START_NS);
	WRITE_ONCE(side->offer_losses, 0);
	WRITE_ONCE(side->offer_skip, 0);
}

/* Where the noted task of the other side is; one that RUNS is returned counted. */
enum dw_place dw_side_locate(struct dw_side *side, struct task_struct **peer)
{
	enum dw_place place = DW_PEER_AWAY;
	struct task_struct *task;

	/* A guess: nothing depends on it. It is right for most peers of a large hub. */
	if (waitqueue_active(&side->waiters))
		return DW_PEER_AWAY;
	spin_lock(&side->waiters.lock);
	task = side->task;
	if (task && task != current && task_is_running(task)) {
		if (dw_task_on_cpu(task)) {
			*peer = get_task_struct(task);
			place = DW_PEER_RUNS;
		} else if (task_cpu(task) == raw_smp_processor_id()) {
			place = DW_PEER_QUEUED_HERE;
		}
	}
	spin_unlock(&side->waiters.lock);
	return place;
}

u64 dw_side_wakes(struct dw_side *side)
{
	u64 wakes;

	spin_lock(&side->waiters.lock);
	wakes = side->wakes;
	spin_unlock(&side->waiters.lock);
	return wakes;
}

void dw_side_show(struct dw_side *side, struct seq_file *m)
{
	struct task_struct *task;
	pid_t tid;

	spin_lock(&side->waiters.lock);
	task = side->task;
	tid = task ? task_pid_vnr(task) : 0;
	spin_unlock(&side->waiters.lock);
	seq_printf(m, " tid:%d asleep:%#x wakes:%llu sleeps:%lld spins_won:%lld spins_lost:%lld sleep_ns:%lld\n",
		   tid, atomic_read(side->asleep), dw_side_wakes(side),
		   (long long)atomic64_read(&side->sleeps),
		   (long long)atomic64_read(&side->spins_won),
		   (long long)atomic64_read(&side->spins_lost),
		   (long long)atomic64_read(&side->sleep_ns));
}

/* Waking */

/* Wakes a thread. The stack that the sleeper is on may be gone when this returns. */
static int sleeper_wake(struct wait_queue_entry *entry, unsigned int mode, int flags, void *key)
{
	struct dw_sleeper *sleeper = container_of(entry, struct dw_sleeper, entry);

	if (default_wake_function(entry, mode, flags, key))
		sleeper->side->wakes++;
	/* Pairs with dw_sleeper_dequeue(). */
	smp_store_release(&sleeper->queued, false);
	return 1;
}

/*
 * Wakes all sleepers and empties the queue. The caller has passed a full barrier: see
 * (b) above. True if a thread was woken. sync: the caller is about to sleep, so that the
 * scheduler may place the thread here.
 */
static bool side_wake_waiters(struct dw_side *side, bool sync)
{
	struct dw_sleeper *sleeper, *next;
	u64 before;
	bool woken;

	/* Behind the caller's barrier, which pairs with (3). */
	if (!waitqueue_active(&side->waiters))
		return false;
	spin_lock(&side->waiters.lock);
	before = side->wakes;
	/* First, so that nobody who has been woken finds itself marked. */
	atomic_andnot(DISTWORKER_ASLEEP_WAITER, side->asleep);
	if (sync) {
		/* Only a wait queue can tell the scheduler. */
		__wake_up_locked_sync_key(&side->waiters, TASK_INTERRUPTIBLE, NULL);
	} else {
		list_for_each_entry_safe(sleeper, next, &side->waiters.head, entry.entry)
			sleeper_wake(&sleeper->entry, TASK_INTERRUPTIBLE, 0, NULL);
	}
	INIT_LIST_HEAD(&side->waiters.head);
	woken = side->wakes != before;
	spin_unlock(&side->waiters.lock);
	return woken;
}

static bool side_wake_pollers(struct dw_side *side, __poll_t events)
{
	unsigned long flags;
	bool woken;

	/* Behind the caller's barrier, which pairs with dw_side_arm_poll(). */
	if (!waitqueue_active(&side->pollers) &&
	    !(atomic_read(side->asleep) & DISTWORKER_ASLEEP_POLLER))
		return false;
	/*
	 * Who arms it after this was not on the queue yet and has yet to compare the
	 * words, or is on it and woken now; so nobody stays armed who is gone.
	 */
	spin_lock_irqsave(&side->pollers.lock, flags);
	atomic_andnot(DISTWORKER_ASLEEP_POLLER, side->asleep);
	/* Exact: the queue is locked. */
	woken = waitqueue_active(&side->pollers);
	__wake_up_locked_key(&side->pollers, TASK_INTERRUPTIBLE, poll_to_key(events));
	spin_unlock_irqrestore(&side->pollers.lock, flags);
	return woken;
}

/* A waiter was woken by what does not concern it: it may concern the pollers. */
void dw_side_pass_on(struct dw_side *side)
{
	side_wake_pollers(side, EPOLLIN | EPOLLRDNORM);
}

/* News in the words: those who wait come first, mere pollers only without them. */
bool dw_side_wake(struct dw_side *side, bool sync)
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

/*
 * ->poll, after poll_wait(), or a look at the words for pollers that are on the queue
 * already: the pollers' (2) and (3).
 */
void dw_side_arm_poll(struct dw_side *side)
{
	atomic_or(DISTWORKER_ASLEEP_POLLER, side->asleep);
	smp_mb__after_atomic(); /* (3), pairs with (b) */
}

/* Sleeping */

void dw_sleeper_init(struct dw_sleeper *sleeper, struct dw_side *side)
{
	init_waitqueue_func_entry(&sleeper->entry, sleeper_wake);
	sleeper->entry.private = current;
	sleeper->side = side;
	sleeper->queued = false;
}

/* (1), (2), (3); the caller does (4) before it schedules. */
void dw_sleeper_enqueue(struct dw_sleeper *sleeper)
{
	struct dw_side *side = sleeper->side;

	spin_lock(&side->waiters.lock);
	__add_wait_queue(&side->waiters, &sleeper->entry);
	sleeper->queued = true;
	__set_current_state(TASK_INTERRUPTIBLE);
	atomic_or(DISTWORKER_ASLEEP_WAITER, side->asleep);
	smp_mb__after_atomic(); /* (3), pairs with (b) */
	spin_unlock(&side->waiters.lock);
}

/* Awake again, for whatever reason. True if it was still queued: nobody has woken it. */
bool dw_sleeper_dequeue(struct dw_sleeper *sleeper)
{
	struct dw_side *side = sleeper->side;
	bool queued;

	__set_current_state(TASK_RUNNING);
	/* The rule is to have been woken; pairs with sleeper_wake(). */
	if (!smp_load_acquire(&sleeper->queued))
		return false;
	spin_lock(&side->waiters.lock);
	queued = sleeper->queued;
	if (queued) {
		sleeper->queued = false;
		__remove_wait_queue(&side->waiters, &sleeper->entry);
		if (list_empty(&side->waiters.head))
			atomic_andnot(DISTWORKER_ASLEEP_WAITER, side->asleep);
	}
	spin_unlock(&side->waiters.lock);
	return queued;
}
