// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: death. An address space ends when its process exits, however it dies,
 * or execs; an mmu notifier tells, before anything of it is taken down and whoever else
 * holds copies of the files. It is an interval notifier: with the older kind, every
 * exit and exec waits for a grace period of SRCU, which takes jiffies.
 *
 * If somebody else holds the address space, it does not end: another process that shares
 * it (vfork, CLONE_VM), or the kernel for one that looks into it (process_vm_readv). Then
 * the files tell, which an exit and an exec close: see dw_process_left().
 *
 * An address space cannot end while one of its threads is in one of our ioctls, so
 * attaching and setting up need not fear it.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/mmu_notifier.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "internal.h"
#include "events.h"

struct dw_process {
	struct mmu_interval_notifier notifier;
	struct dw_hub *hub;
	struct dw_mailbox *mailbox;	/* NULL: it is the hub's owner that is watched */
};

/* Nothing can be mapped there, so that only what is about all of the address space comes here. */
#define NOWHERE		(ULONG_MAX - 1)

static bool process_event(struct mmu_interval_notifier *notifier,
			  const struct mmu_notifier_range *range, unsigned long seq)
{
	struct dw_process *process = container_of(notifier, struct dw_process, notifier);

	if (range->event != MMU_NOTIFY_RELEASE)
		return true;
	if (process->mailbox)
		dw_mailbox_end(process->mailbox, process, DISTWORKER_DEATH_EXIT);
	else
		dw_hub_orphan(process->hub);
	return true;
}

static const struct mmu_interval_notifier_ops process_ops = {
	.invalidate = process_event,
};

/*
 * Watches the current process for a hub, as its owner, or for a mailbox, as its peer.
 * Takes mmap_lock and, the first time in an address space, many more; may sleep long.
 */
struct dw_process *dw_process_watch(struct dw_hub *hub, struct dw_mailbox *mailbox)
{
	struct dw_process *process = kzalloc(sizeof(*process), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!process)
		return ERR_PTR(-ENOMEM);
	process->hub = hub;
	process->mailbox = mailbox;
	ret = mmu_interval_notifier_insert(&process->notifier, current->mm, NOWHERE, 1,
					   &process_ops);
	if (ret) {
		kfree(process);
		return ERR_PTR(ret);
	}
	return process;
}

/*
 * What process_event() does has been done after this. If the address space is just being
 * taken down, this waits for it.
 */
void dw_process_unwatch(struct dw_process *process)
{
	if (!process)
		return;
	mmu_interval_notifier_remove(&process->notifier);
	kfree(process);
}

/*
 * Does another process use the address space, or, if the current thread has left it,
 * one of its own that has not come so far?
 */
static bool mm_is_shared(struct mm_struct *mm)
{
	struct task_struct *process, *thread;
	bool shared = false;

	rcu_read_lock();
	for_each_process(process) {
		if (current->mm == mm && same_thread_group(process, current))
			continue;
		for_each_thread(process, thread) {
			/* Who is leaving may count or not: if not, the address space ends. */
			struct mm_struct *other = data_race(READ_ONCE(thread->mm));

			if (!other)
				continue;
			shared |= other == mm;
			break;
		}
	}
	rcu_read_unlock();
	return shared;
}

/*
 * ->flush: is the current process the given one, and has it left its address space? At
 * its exit it has none, and no thread is left that will run again; an exec is past the
 * point of return. What has not ended by then is held by somebody else, who may keep it
 * for as long as he likes. Kernels differ in whether an exec closes files before it
 * changes the address space: if so, what nobody else holds is about to end by itself.
 */
bool dw_process_left(struct pid *pid, struct mm_struct *mm)
{
	if (!mm || pid != task_tgid(current))
		return false;
	if (!current->mm)
		return !atomic_read(&current->signal->live);
	return current->mm != mm || (current->in_execve && atomic_read(&mm->mm_users) > 1);
}

/*
 * What wait(2) will say of the peer, or already has said. All its threads are past the
 * point where the code is set. The leader is found by its pid, since exec by another
 * thread replaces it; it may be reaped if somebody else kept the address space.
 */
static void mailbox_read_exit(struct dw_mailbox *mailbox)
{
	struct task_struct *task;

	lockdep_assert_held(&mailbox->hub->lock);
	rcu_read_lock();
	task = pid_task(mailbox->pid, PIDTYPE_TGID);
	if (task && !(READ_ONCE(task->flags) & PF_EXITING)) {
		mailbox->cause = DISTWORKER_DEATH_EXEC;
	} else {
		if (!task)
			task = mailbox->task;
		if (READ_ONCE(task->signal->flags) & SIGNAL_GROUP_EXIT)
			mailbox->status = READ_ONCE(task->signal->group_exit_code);
		else
			mailbox->status = READ_ONCE(task->exit_code);
	}
	rcu_read_unlock();
}

/*
 * ATTACHED -> DEAD: the given address space has ended; or, without one, the current
 * process has left it, or detaches, which it may not from what it still has mapped.
 */
int dw_mailbox_end(struct dw_mailbox *mailbox, struct dw_process *process,
		   enum distworker_death_cause cause)
{
	struct dw_hub *hub = mailbox->hub;
	struct task_struct *task;
	bool left = false;
	int ret = 0;

	/* Who only looks into it cannot reach the mailbox. */
	if (!process && cause == DISTWORKER_DEATH_EXIT)
		left = mm_is_shared(READ_ONCE(mailbox->mm));
	spin_lock(&hub->lock);
	if (!process && mailbox->pid == task_tgid(current))
		process = mailbox->process;
	if (!process || mailbox->process != process ||
	    mailbox->state != DISTWORKER_MAILBOX_ATTACHED)
		ret = -ENOTCONN;
	else if (cause == DISTWORKER_DEATH_DETACH && mailbox->mapped)
		ret = -EBUSY;
	if (ret) {
		spin_unlock(&hub->lock);
		return ret;
	}
	mailbox->cause = cause;
	mailbox->left = left;
	if (cause == DISTWORKER_DEATH_EXIT)
		mailbox_read_exit(mailbox);
	WRITE_ONCE(mailbox->state, DISTWORKER_MAILBOX_DEAD);
	WRITE_ONCE(mailbox->mm, NULL);
	task = mailbox->task;
	mailbox->task = NULL;
	dw_hub_note_change(hub, mailbox);
	trace_distworker_death(hub, mailbox, pid_nr(mailbox->pid), mailbox->cause,
			       mailbox->status);
	spin_unlock(&hub->lock);

	dw_side_forget_task(&mailbox->side);
	put_task_struct(task);
	/* The owner; and threads of a peer that detached. */
	dw_side_wake_all(&hub->side);
	dw_side_wake_all(&mailbox->side);
	return 0;
}
