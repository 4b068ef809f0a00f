/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the threads that sleep at one end of a mailbox, or of all mailboxes of
 * a hub. Knows neither hub nor mailbox.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_QUEUE_H
#define _DISTWORKER_QUEUE_H

#include <linux/atomic.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/wait.h>

struct seq_file;

struct distw_queue {
	wait_queue_head_t waiters;	/* threads in a call that waits */
	wait_queue_head_t pollers;	/* poll, epoll, io_uring */
	atomic_t *asleep;		/* DISTWORKER_ASLEEP_*, in the shared memory */
	atomic_t unshared;		/* the same word, before there is shared memory */

	/* waiters.lock */
	struct task_struct *task;	/* counted: the last to wait or wake from here */

	/* Tuned without a lock: a lost update costs one wrong guess. */
	u32 spin_ns;			/* how long a wait may spin before it sleeps */
	u32 unoffered;			/* waits since an offer of the CPU was of use */

	atomic64_t wakes;		/* threads that were woken */
	atomic64_t sleeps;
	atomic64_t spins_won;
	atomic64_t spins_lost;
};

struct distw_sleeper {
	struct wait_queue_entry entry;
	struct distw_queue *queue;
	u32 asleep;			/* the bit that says so */
	bool queued;			/* waiters.lock to set, unlocked to look */
};

void distw_queue_init(struct distw_queue *queue);
void distw_queue_share(struct distw_queue *queue, __u32 *asleep);
void distw_queue_reset(struct distw_queue *queue);
void distw_queue_renew(struct distw_queue *queue);
void distw_queue_show(struct distw_queue *queue, struct seq_file *m);

void distw_queue_note_task(struct distw_queue *queue);
void distw_queue_forget_task(struct distw_queue *queue);
struct task_struct *distw_queue_get_peer(struct distw_queue *queue);

void distw_queue_arm(struct distw_queue *queue);
bool distw_queue_wake(struct distw_queue *queue, bool sync);
void distw_queue_wake_all(struct distw_queue *queue);
bool distw_queue_wake_pollers(struct distw_queue *queue, __poll_t events);

u64 distw_queue_spin_ns(struct distw_queue *queue);
void distw_queue_tune_spin(struct distw_queue *queue, u64 waited_ns);
bool distw_queue_may_offer(struct distw_queue *queue);
void distw_queue_tune_offer(struct distw_queue *queue, bool won);

void distw_sleeper_enqueue(struct distw_sleeper *sleeper);
bool distw_sleeper_dequeue(struct distw_sleeper *sleeper);

#endif /* _DISTWORKER_QUEUE_H */
