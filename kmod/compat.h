/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The differences between the kernels that distworker supports (5.10 and later,
 * PREEMPT_RT included). Nothing else in the module knows of versions: Kbuild probes for those that
 * the preprocessor cannot see.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_COMPAT_H
#define _DISTWORKER_COMPAT_H

#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/nsproxy.h>
#include <linux/sched.h>
#include <linux/time_namespace.h>

/* 6.3: vm_flags changes through accessors only. */
#ifndef HAVE_VM_FLAGS_MOD
static inline void vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#endif

/* 6.0: kernels that zero the stack can leave an array as it is. */
#ifndef __uninitialized
#define __uninitialized
#endif

/*
 * 6.13, and PREEMPT_RT before it: the scheduler may ask for this CPU lazily,
 * which need_resched() does not tell.
 */
static inline bool distw_need_resched(void)
{
#ifdef TIF_NEED_RESCHED_LAZY
	if (test_thread_flag(TIF_NEED_RESCHED_LAZY))
		return true;
#endif
	return need_resched();
}

/* 5.14: task->state may only be looked at through accessors. */
#ifndef task_is_running
#define task_is_running(task)	(READ_ONCE((task)->state) == TASK_RUNNING)
#endif

/* Is the task, which is not the current one, on a CPU right now? */
static inline bool distw_task_on_cpu(struct task_struct *task)
{
#ifdef CONFIG_SMP
	return READ_ONCE(task->on_cpu) && !vcpu_is_preempted(task_cpu(task));
#else
	return false;
#endif
}

/*
 * A deadline of the caller's CLOCK_MONOTONIC on the kernel's; 0 and never are the same
 * on both. As timens_ktime_to_host(), which modules cannot call.
 */
static inline u64 distw_deadline_to_host(u64 deadline)
{
#ifdef CONFIG_TIME_NS
	s64 offset;

	if (!deadline || deadline >= KTIME_MAX)
		return deadline;
	offset = timespec64_to_ktime(current->nsproxy->time_ns->offsets.monotonic);
	if (offset > 0 && deadline <= offset)
		return 0;
	deadline -= offset;
#endif
	return deadline;
}

#endif /* _DISTWORKER_COMPAT_H */
