// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: death. An address space ends when its process exits, however it dies,
 * or execs; the mmu notifier's ->release is called before anything of it is taken
 * down and whoever else holds copies of the files. A struct dw_process is the notifier
 * of one address space, shared by all hubs that it owns and all mailboxes that it is
 * attached to.
 *
 * If somebody else holds the address space, it does not end: another process that shares
 * it (vfork, CLONE_VM), or the kernel for one that looks into it (process_vm_readv). Then
 * the files tell, which an exit and an exec close: see dw_process_left().
 *
 * ->release cannot run while a thread of the address space is in one of our ioctls,
 * so attaching and setting up need not fear it; freeing a hub must.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "internal.h"
#include "events.h"

static atomic_t processes = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(processes_gone);

/*
 * Takes the first mailbox off the list, with a reference on its hub. A hub that is
 * being freed cannot be had any more; dw_hub_put() waits for process->lock before
 * the memory goes.
 */
static struct dw_mailbox *process_pop_mailbox(struct dw_process *process)
{
	struct dw_mailbox *mailbox;

	spin_lock(&process->lock);
	while ((mailbox = list_first_entry_or_null(&process->mailboxes,
						   struct dw_mailbox, attached))) {
		list_del_init(&mailbox->attached);
		if (kref_get_unless_zero(&mailbox->hub->kref))
			break;
	}
	spin_unlock(&process->lock);
	return mailbox;
}

static struct dw_hub *process_pop_hub(struct dw_process *process)
{
	struct dw_hub *hub;

	spin_lock(&process->lock);
	while ((hub = list_first_entry_or_null(&process->hubs, struct dw_hub, owned))) {
		list_del_init(&hub->owned);
		if (kref_get_unless_zero(&hub->kref))
			break;
	}
	spin_unlock(&process->lock);
	return hub;
}

static void process_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct dw_process *process = container_of(notifier, struct dw_process, notifier);
	struct dw_mailbox *mailbox;
	struct dw_hub *hub;

	while ((mailbox = process_pop_mailbox(process))) {
		hub = mailbox->hub;
		dw_mailbox_end(mailbox, process, DISTWORKER_DEATH_EXIT);
		dw_hub_put(hub);
	}
	while ((hub = process_pop_hub(process))) {
		dw_hub_orphan(hub);
		dw_hub_put(hub);
	}
}

static struct mmu_notifier *process_alloc(struct mm_struct *mm)
{
	struct dw_process *process = kzalloc(sizeof(*process), GFP_KERNEL_ACCOUNT);

	if (!process)
		return ERR_PTR(-ENOMEM);
	spin_lock_init(&process->lock);
	INIT_LIST_HEAD(&process->hubs);
	INIT_LIST_HEAD(&process->mailboxes);
	atomic_inc(&processes);
	return &process->notifier;
}

static void process_free(struct mmu_notifier *notifier)
{
	kfree(container_of(notifier, struct dw_process, notifier));
	if (atomic_dec_and_test(&processes))
		wake_up(&processes_gone);
}

static const struct mmu_notifier_ops process_ops = {
	.release = process_release,
	.alloc_notifier = process_alloc,
	.free_notifier = process_free,
};

/* The current process, counted. Takes mmap_lock and many more; may sleep long. */
struct dw_process *dw_process_get(void)
{
	struct mmu_notifier *notifier = mmu_notifier_get(&process_ops, current->mm);

	if (IS_ERR(notifier))
		return ERR_CAST(notifier);
	return container_of(notifier, struct dw_process, notifier);
}

void dw_process_put(struct dw_process *process)
{
	mmu_notifier_put(&process->notifier);
}

/*
 * For the module's exit: no file is open, but notifiers that were put last are freed by
 * code of ours, some time later; mmu_notifier_synchronize() does not wait for that. It
 * is called with bottom halves disabled, which the grace period waits for.
 */
void dw_process_wait_for_all(void)
{
	wait_event(processes_gone, !atomic_read(&processes));
	synchronize_rcu();
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
 * ->flush: is the current process the given one, and has it left its address space? By
 * exec it has got another one, past the point of return; at its exit it has none, and no
 * thread is left that will run again. What ->release has not been called for by then is
 * held by somebody else, who may keep it for as long as he likes. Only an exec that has
 * yet to change the address space will end what nobody shares.
 */
bool dw_process_left(struct pid *pid, struct mm_struct *mm)
{
	if (!mm || pid != task_tgid(current))
		return false;
	if (!current->mm)
		return !atomic_read(&current->signal->live);
	return current->mm != mm || (current->in_execve && mm_is_shared(mm));
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
	if (!process || mailbox->process != process)
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
	WRITE_ONCE(mailbox->process, NULL);
	task = mailbox->task;
	mailbox->task = NULL;
	spin_lock(&process->lock);
	list_del_init(&mailbox->attached);
	spin_unlock(&process->lock);
	dw_hub_note_change(hub, mailbox);
	trace_distworker_death(hub, mailbox, pid_nr(mailbox->pid), mailbox->cause,
			       mailbox->status);
	spin_unlock(&hub->lock);

	dw_side_forget_task(&mailbox->side);
	put_task_struct(task);
	/* The owner; and threads of a peer that detached. */
	dw_side_wake_all(&hub->side);
	dw_side_wake_all(&mailbox->side);
	dw_process_put(process);
	return 0;
}
