// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: one end of a mailbox, or of all mailboxes of a hub: how threads sleep
 * there, how they are woken, and whether spinning before has paid.
 *
 * A wake-up carries no information: the words in the shared memory and the states
 * of the mailboxes do. A thread that is woken looks at them again, so a spurious
 * wake-up costs time and nothing else. The one rule is that none is missing:
 *
 *	the waiter			the publisher
 *	(1) is on queue->waiters	(a) changes a word (or a state)
 *	(2) sets "asleep"		(b) full barrier
 *	(3) full barrier		(c) reads "asleep" (in the kernel: the queue)
 *	(4) compares the words		(d) wakes if it is set
 *
 * Either (c) sees (2), or (4) sees (a). (1) and (2) are one step, and so are taking
 * the waiter off the queue and clearing "asleep": queue->waiters.lock is held.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/log2.h>
#include <linux/module.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>

#include "compat.h"
#include "queue.h"
#include "uapi/linux/distworker.h"

static unsigned int spin_max_ns = 50000;
module_param(spin_max_ns, uint, 0644);
MODULE_PARM_DESC(spin_max_ns, "longest spin of a wait while its peer runs, 0: never spin");

#define SPIN_START_NS		10000

#define ASLEEP_SLEEPERS		(DISTWORKER_ASLEEP_WAITER | DISTWORKER_ASLEEP_TIMELINE)

/* However futile offers are, one in so many waits makes one. */
#define OFFER_EVERY		128

/**
 * distw_queue_init() - make an empty queue
 * @queue: the queue, zeroed; it has no word in the shared memory yet
 */
void distw_queue_init(struct distw_queue *queue)
{
	init_waitqueue_head(&queue->waiters);
	init_waitqueue_head(&queue->pollers);
	queue->asleep = &queue->unshared;
	queue->spin_ns = SPIN_START_NS;
}

/**
 * distw_queue_share() - give a queue its word in the shared memory
 * @queue: a queue on which no thread waits; it may have pollers
 * @asleep: the word
 *
 * The caller calls distw_queue_renew() when the memory can be reached.
 */
void distw_queue_share(struct distw_queue *queue, __u32 *asleep)
{
	/* The zeroes behind it first; pairs with distw_queue_arm(), by the address. */
	smp_store_release(&queue->asleep, (atomic_t *)asleep);
}

/**
 * distw_queue_reset() - forget the last peer
 * @queue: a queue on which no thread waits; it may have pollers
 */
void distw_queue_reset(struct distw_queue *queue)
{
	distw_queue_forget_task(queue);
	atomic64_set(&queue->wakes, 0);
	atomic64_set(&queue->sleeps, 0);
	atomic64_set(&queue->spins_won, 0);
	atomic64_set(&queue->spins_lost, 0);
	WRITE_ONCE(queue->spin_ns, SPIN_START_NS);
	WRITE_ONCE(queue->unoffered, 0);
}

/**
 * distw_queue_renew() - after the "asleep" word was zeroed, moved or given a new meaning
 * @queue: the queue
 *
 * Pollers that stayed on the queue, as those of epoll do, look, and are armed again.
 */
void distw_queue_renew(struct distw_queue *queue)
{
	distw_queue_wake_all(queue);
	/* Last: a poll of io_uring that stays does not call ->poll again, and so not arm. */
	smp_mb(); /* pairs with distw_queue_arm() */
	if (waitqueue_active(&queue->pollers))
		atomic_or(DISTWORKER_ASLEEP_POLLER, queue->asleep);
}

static void queue_swap_task(struct distw_queue *queue, struct task_struct *task)
{
	struct task_struct *old;

	spin_lock(&queue->waiters.lock);
	old = queue->task;
	WRITE_ONCE(queue->task, task);
	spin_unlock(&queue->waiters.lock);
	if (old)
		put_task_struct(old);
}

/**
 * distw_queue_note_task() - remember the current thread as the one that is worth spinning for
 * @queue: the queue of the thread's own side
 */
void distw_queue_note_task(struct distw_queue *queue)
{
	if (READ_ONCE(queue->task) != current)
		queue_swap_task(queue, get_task_struct(current));
}

void distw_queue_forget_task(struct distw_queue *queue)
{
	queue_swap_task(queue, NULL);
}

/**
 * distw_queue_get_peer() - the noted task of the other side, if waiting for it may pay
 * @queue: the queue of the other side
 *
 * Return: the task, counted, if it runs on another CPU or wants to run on this one; else NULL.
 */
struct task_struct *distw_queue_get_peer(struct distw_queue *queue)
{
	struct task_struct *peer = NULL, *task;

	/* A guess: nothing depends on it. It is right for most peers of a large hub. */
	if (waitqueue_active(&queue->waiters))
		return NULL;
	spin_lock(&queue->waiters.lock);
	task = queue->task;
	if (task && task != current && task_is_running(task) &&
	    (distw_task_on_cpu(task) || task_cpu(task) == raw_smp_processor_id()))
		peer = get_task_struct(task);
	spin_unlock(&queue->waiters.lock);
	return peer;
}

void distw_queue_show(struct distw_queue *queue, struct seq_file *m)
{
	pid_t tid;

	spin_lock(&queue->waiters.lock);
	tid = queue->task ? task_pid_vnr(queue->task) : 0;
	spin_unlock(&queue->waiters.lock);
	seq_printf(m, " tid:%d asleep:%#x wakes:%lld sleeps:%lld spins_won:%lld spins_lost:%lld\n",
		   tid, atomic_read(queue->asleep), (s64)atomic64_read(&queue->wakes),
		   (s64)atomic64_read(&queue->sleeps), (s64)atomic64_read(&queue->spins_won),
		   (s64)atomic64_read(&queue->spins_lost));
}

/* Waking */

/* Wakes a thread. The stack that the sleeper is on may be gone when this returns. */
static int sleeper_wake(struct wait_queue_entry *entry, unsigned int mode, int flags, void *key)
{
	struct distw_sleeper *sleeper = container_of(entry, struct distw_sleeper, entry);

	if (default_wake_function(entry, mode, flags, key))
		atomic64_inc(&sleeper->queue->wakes);
	/* Pairs with distw_sleeper_dequeue(). */
	smp_store_release(&sleeper->queued, false);
	return 1;
}

/*
 * Wakes all sleepers and empties the queue. The caller has passed a full barrier: see
 * (b) above. True if a thread was woken. sync: the caller is about to sleep, so that the
 * scheduler may place the thread here.
 */
static bool queue_wake_waiters(struct distw_queue *queue, bool sync)
{
	struct distw_sleeper *sleeper, *next;
	bool woken;
	s64 before;

	/* Behind the caller's barrier, which pairs with (3). */
	if (!waitqueue_active(&queue->waiters))
		return false;
	spin_lock(&queue->waiters.lock);
	before = atomic64_read(&queue->wakes);
	/* First, so that no thread that has been woken finds itself marked. */
	atomic_andnot(ASLEEP_SLEEPERS, queue->asleep);
	/* Only a wait queue can tell the scheduler that the caller is about to sleep. */
	if (sync)
		__wake_up_locked_sync_key(&queue->waiters, TASK_INTERRUPTIBLE, NULL);
	else
		list_for_each_entry_safe(sleeper, next, &queue->waiters.head, entry.entry)
			sleeper_wake(&sleeper->entry, TASK_INTERRUPTIBLE, 0, NULL);
	INIT_LIST_HEAD(&queue->waiters.head);
	woken = atomic64_read(&queue->wakes) != before;
	spin_unlock(&queue->waiters.lock);
	return woken;
}

/**
 * distw_queue_wake_pollers() - pollers look
 * @queue: the queue
 * @events: the events that they may find
 *
 * For a word if no waiter was there, or if the wake-up did not concern the one that got it.
 *
 * Return: whether one was there.
 */
bool distw_queue_wake_pollers(struct distw_queue *queue, __poll_t events)
{
	unsigned long flags;
	bool woken;

	/* Behind the caller's barrier, which pairs with distw_queue_arm(). */
	if (!waitqueue_active(&queue->pollers) &&
	    !(atomic_read(queue->asleep) & DISTWORKER_ASLEEP_POLLER))
		return false;
	/*
	 * A poller that arms it after this was not on the queue yet and has yet to compare
	 * the words, or is on it and woken now; so the bit does not outlive its poller.
	 */
	spin_lock_irqsave(&queue->pollers.lock, flags);
	atomic_andnot(DISTWORKER_ASLEEP_POLLER, queue->asleep);
	/* Exact: the queue is locked. */
	woken = waitqueue_active(&queue->pollers);
	__wake_up_locked_key(&queue->pollers, TASK_INTERRUPTIBLE, poll_to_key(events));
	spin_unlock_irqrestore(&queue->pollers.lock, flags);
	return woken;
}

/**
 * distw_queue_wake() - a word has changed
 * @queue: the queue of the side to which the word matters
 * @sync: the caller is about to sleep
 *
 * The caller has passed (b). Waiters come first, pollers are woken only without them.
 *
 * Return: whether a waiter or a poller was there.
 */
bool distw_queue_wake(struct distw_queue *queue, bool sync)
{
	return queue_wake_waiters(queue, sync) ||
	       distw_queue_wake_pollers(queue, EPOLLIN | EPOLLRDNORM);
}

/**
 * distw_queue_wake_all() - a state has changed: waiters and pollers look
 * @queue: the queue
 */
void distw_queue_wake_all(struct distw_queue *queue)
{
	smp_mb(); /* (b) for a state that was changed */
	queue_wake_waiters(queue, false);
	distw_queue_wake_pollers(queue, EPOLLIN | EPOLLRDNORM | EPOLLPRI | EPOLLHUP);
}

/**
 * distw_queue_arm() - the pollers' (2) and (3)
 * @queue: the queue
 *
 * For ->poll, after poll_wait(), and for a look at the words on behalf of pollers that are
 * on the queue already.
 */
void distw_queue_arm(struct distw_queue *queue)
{
	/* (1) before the look for the word; pairs with distw_queue_renew(). */
	smp_mb();
	atomic_or(DISTWORKER_ASLEEP_POLLER, READ_ONCE(queue->asleep));
	smp_mb__after_atomic(); /* (3), pairs with (b) */
}

/* Whether spinning pays */

u64 distw_queue_spin_ns(struct distw_queue *queue)
{
	/* The maximum may have been lowered since the budget was tuned. */
	return min(READ_ONCE(queue->spin_ns), READ_ONCE(spin_max_ns));
}

/**
 * distw_queue_tune_spin() - learn from a wait that might have spun
 * @queue: the queue
 * @waited_ns: how long the wait took, spinning and sleeping
 *
 * Spinning pays for waits shorter than the maximum; for others it is given up.
 */
void distw_queue_tune_spin(struct distw_queue *queue, u64 waited_ns)
{
	u32 max = READ_ONCE(spin_max_ns);
	u32 spin = READ_ONCE(queue->spin_ns);

	if (waited_ns > max)
		spin = 0;
	else if (waited_ns > spin)
		spin = min_t(u64, max, spin ? 2ULL * spin : SPIN_START_NS);
	WRITE_ONCE(queue->spin_ns, spin);
}

/* Where offers of the CPU are futile, the first wait makes one, the 2nd, 4th, 8th, and so on. */
bool distw_queue_may_offer(struct distw_queue *queue)
{
	u32 waits = READ_ONCE(queue->unoffered) + 1;

	return is_power_of_2(waits) || waits % OFFER_EVERY == 0;
}

/**
 * distw_queue_tune_offer() - learn from a wait that might have offered the CPU
 * @queue: the queue
 * @won: it did, and that has ended the wait
 */
void distw_queue_tune_offer(struct distw_queue *queue, bool won)
{
	WRITE_ONCE(queue->unoffered, won ? 0 : READ_ONCE(queue->unoffered) + 1);
}

/* Sleeping */

/**
 * distw_sleeper_enqueue() - (1), (2) and (3); the caller does (4) before it schedules
 * @sleeper: the current thread
 */
void distw_sleeper_enqueue(struct distw_sleeper *sleeper)
{
	struct distw_queue *queue = sleeper->queue;

	init_waitqueue_func_entry(&sleeper->entry, sleeper_wake);
	sleeper->entry.private = current;
	spin_lock(&queue->waiters.lock);
	__add_wait_queue(&queue->waiters, &sleeper->entry);
	sleeper->queued = true;
	__set_current_state(TASK_INTERRUPTIBLE);
	atomic_or(sleeper->asleep, queue->asleep);
	smp_mb__after_atomic(); /* (3), pairs with (b) */
	spin_unlock(&queue->waiters.lock);
}

/**
 * distw_sleeper_dequeue() - the thread is awake again, for any reason
 * @sleeper: the current thread
 *
 * Return: true if it was still queued: it was not chosen by a wake-up.
 */
bool distw_sleeper_dequeue(struct distw_sleeper *sleeper)
{
	struct distw_queue *queue = sleeper->queue;
	bool queued;

	__set_current_state(TASK_RUNNING);
	/* The rule is to have been woken; pairs with sleeper_wake(). */
	if (!smp_load_acquire(&sleeper->queued))
		return false;
	spin_lock(&queue->waiters.lock);
	queued = sleeper->queued;
	if (queued) {
		__remove_wait_queue(&queue->waiters, &sleeper->entry);
		if (list_empty(&queue->waiters.head))
			atomic_andnot(ASLEEP_SLEEPERS, queue->asleep);
	}
	spin_unlock(&queue->waiters.lock);
	return queued;
}
