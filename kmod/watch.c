// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the end of an address space. It ends when its process exits, however it
 * dies, or execs; an mmu notifier tells, before anything of it is taken down, and even if
 * others hold copies of the files. It is an interval notifier: with the older kind, every
 * exit and exec waits for a grace period of SRCU, which takes jiffies.
 *
 * An address space that others hold does not end: another process shares it (vfork,
 * CLONE_VM), or the kernel looks into it for one (process_vm_readv). Then the files
 * tell, which an exit and an exec close: see distw_mm_was_left().
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/rcupdate.h>
#include <linux/sched/signal.h>

#include "watch.h"

/* Nothing can be mapped there: only events about all of the address space come here. */
#define NOWHERE		(ULONG_MAX - 1)

static bool watch_event(struct mmu_interval_notifier *notifier,
			const struct mmu_notifier_range *range, unsigned long seq)
{
	struct distw_watch *watch = container_of(notifier, struct distw_watch, notifier);

	if (range->event == MMU_NOTIFY_RELEASE)
		watch->ended(watch);
	return true;
}

static const struct mmu_interval_notifier_ops watch_ops = {
	.invalidate = watch_event,
};

/**
 * distw_watch_begin() - watch the current address space
 * @watch: the watch, to be ended by distw_watch_end() before its memory is freed
 * @ended: called when the address space ends
 *
 * The address space cannot end before the current system call does. Takes mmap_lock and,
 * the first time in an address space, a lock for each of its mappings; may sleep long.
 *
 * Return: 0, -ENOMEM, or -ERESTARTSYS.
 */
int distw_watch_begin(struct distw_watch *watch, void (*ended)(struct distw_watch *watch))
{
	int ret;

	watch->ended = ended;
	ret = mmu_interval_notifier_insert(&watch->notifier, current->mm, NOWHERE, 1, &watch_ops);
	return ret == -EINTR ? -ERESTARTSYS : ret;
}

/**
 * distw_watch_end() - the callback is not called after this
 * @watch: a watch that has begun
 *
 * If the address space is just being taken down, this waits for it.
 */
void distw_watch_end(struct distw_watch *watch)
{
	mmu_interval_notifier_remove(&watch->notifier);
}

/**
 * distw_mm_is_shared() - does another process use the address space?
 * @mm: the address space; only compared
 *
 * If the current thread has left it, another thread of its process may still be in it.
 */
bool distw_mm_is_shared(struct mm_struct *mm)
{
	struct task_struct *process, *thread;
	bool shared = false;

	rcu_read_lock();
	for_each_process_thread(process, thread) {
		if (current->mm == mm && same_thread_group(process, current))
			continue;
		/* A thread that is leaving may count or not: if not, all ends. */
		shared |= data_race(READ_ONCE(thread->mm)) == mm;
	}
	rcu_read_unlock();
	return shared;
}

/**
 * distw_mm_was_left() - for ->flush: has the current process left its address space?
 * @mm: the address space; only compared
 * @pid: the process that the caller asks about
 *
 * At its exit a process has none, and no thread is left that will run again; an exec is
 * past the point of return. An address space that has not ended by then is held by another
 * process, which may keep it for as long as it likes. Kernels differ in whether an exec
 * closes files before it changes the address space: if so, one that only the current
 * process holds is about to end by itself.
 */
bool distw_mm_was_left(struct mm_struct *mm, struct pid *pid)
{
	if (!mm || pid != task_tgid(current))
		return false;
	if (!current->mm)
		return !atomic_read(&current->signal->live);
	return current->mm != mm || (current->in_execve && atomic_read(&mm->mm_users) > 1);
}
