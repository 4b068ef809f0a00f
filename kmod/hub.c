// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the hub, the owner's side: set-up, and what the owner does to the
 * states of its mailboxes.
 *
 * Only the process that set the hub up may use it: a child may have inherited the
 * file, but not the rights to it.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/fs.h>
#include <linux/nospec.h>
#include <linux/overflow.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "internal.h"
#include "events.h"

/* What is done to memory in one go, without a look at whether others want the CPU. */
#define MEMORY_STEP_PAGES	1024UL

static atomic_t hub_last_id = ATOMIC_INIT(0);

/* Life */

static void hub_free(struct kref *kref)
{
	struct dw_hub *hub = container_of(kref, struct dw_hub, kref);
	u32 i;

	dw_debugfs_remove(hub);
	for (i = 0; i < hub->mailboxes; i++) {
		struct dw_mailbox *mailbox = &hub->mailbox[i];

		dw_process_unwatch(mailbox->process);
		/* Still attached: the peer has closed everything and lives on. */
		if (mailbox->task)
			put_task_struct(mailbox->task);
		dw_side_forget_task(&mailbox->side);
		put_pid(mailbox->pid);
	}
	dw_process_unwatch(hub->process);
	dw_side_forget_task(&hub->side);
	put_pid(hub->pid);
	vfree(hub->memory);
	dw_user_uncharge(hub->user, hub->bytes);
	kvfree(hub);
}

void dw_hub_put(struct dw_hub *hub)
{
	kref_put(&hub->kref, hub_free);
}

static struct dw_hub *hub_alloc(u32 mailboxes, u32 mailbox_bytes)
{
	size_t line_bytes = PAGE_ALIGN(sizeof(struct distworker_hub_line));
	size_t state_bytes, memory_bytes;
	struct dw_hub *hub;
	u32 i;

	state_bytes = PAGE_ALIGN(struct_size(hub->state, seen, mailboxes));
	if (check_mul_overflow((size_t)mailboxes, (size_t)mailbox_bytes, &memory_bytes) ||
	    check_add_overflow(memory_bytes, line_bytes + state_bytes, &memory_bytes))
		return ERR_PTR(-ENOMEM);

	hub = kvzalloc(struct_size(hub, mailbox, mailboxes), GFP_KERNEL_ACCOUNT);
	if (!hub)
		return ERR_PTR(-ENOMEM);
	kref_init(&hub->kref);
	mutex_init(&hub->mutex);
	spin_lock_init(&hub->lock);
	INIT_LIST_HEAD(&hub->all);
	hub->id = atomic_inc_return(&hub_last_id);
	hub->mailbox_bytes = mailbox_bytes;
	hub->mailbox_offset = line_bytes + state_bytes;
	hub->bytes = memory_bytes;

	hub->user = dw_user_charge(hub->bytes);
	if (IS_ERR(hub->user)) {
		struct dw_user *error = hub->user;

		kvfree(hub);
		return ERR_CAST(error);
	}
	hub->memory = __vmalloc(hub->bytes, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN);
	if (!hub->memory) {
		dw_user_uncharge(hub->user, hub->bytes);
		kvfree(hub);
		return ERR_PTR(-ENOMEM);
	}
	hub->line = hub->memory;
	hub->state = hub->memory + line_bytes;
	dw_side_init(&hub->side, &hub->line->asleep);
	for (i = 0; i < mailboxes; i++) {
		struct dw_mailbox *mailbox = &hub->mailbox[i];

		mailbox->hub = hub;
		mailbox->shared = hub->memory + hub->mailbox_offset + i * (size_t)mailbox_bytes;
		mailbox->generation = 1;
		dw_side_init(&mailbox->side, &mailbox->shared->asleep);
	}
	hub->mailboxes = mailboxes;
	hub->last_word = ~0ULL >> (-mailboxes & 63);
	hub->pid = get_pid(task_tgid(current));
	hub->mm = current->mm;
	return hub;
}

/* The file's hub if the caller is its owner. */
static struct dw_hub *hub_of(struct file *file)
{
	/* Pairs with hub_setup(). */
	struct dw_hub *hub = smp_load_acquire(&file->private_data);

	if (!hub)
		return ERR_PTR(-EBADFD);
	if (hub->mm != current->mm || hub->pid != task_tgid(current))
		return ERR_PTR(-EPERM);
	return hub;
}

static int hub_setup(struct file *file, void __user *uarg)
{
	struct distworker_hub_setup before, arg;
	struct dw_process *process;
	struct dw_hub *hub;
	int ret;

	ret = dw_copy_in(&arg, sizeof(arg), sizeof(arg), uarg);
	if (ret)
		return ret;
	if (arg.flags || !arg.mailboxes || arg.mailboxes > dw_mailboxes_limit() ||
	    arg.mailbox_bytes < sizeof(struct distworker_mailbox) ||
	    arg.mailbox_bytes > dw_mailbox_bytes_limit())
		return -EINVAL;
	hub = hub_of(file);
	if (hub != ERR_PTR(-EBADFD))
		return hub == ERR_PTR(-EPERM) ? -EPERM : -EBUSY;

	before = arg;
	hub = hub_alloc(arg.mailboxes, PAGE_ALIGN(arg.mailbox_bytes));
	if (IS_ERR(hub))
		return PTR_ERR(hub);
	process = dw_process_watch(hub, NULL);
	if (IS_ERR(process)) {
		dw_hub_put(hub);
		return PTR_ERR(process);
	}
	hub->process = process;
	dw_debugfs_add(hub);

	arg.mailbox_bytes = hub->mailbox_bytes;
	arg.state_offset = (void *)hub->state - hub->memory;
	arg.mailbox_offset = hub->mailbox_offset;
	arg.mapping_bytes = hub->bytes;
	/* The answer first, since it cannot fail after the hub is there. */
	ret = dw_copy_out(uarg, &arg, sizeof(arg));
	/* Publishes the hub; pairs with hub_of(). */
	if (!ret && cmpxchg_release(&file->private_data, NULL, hub)) {
		/* Another thread was faster: nothing was said. */
		dw_copy_out(uarg, &before, sizeof(before));
		ret = -EBUSY;
	}
	if (ret)
		dw_hub_put(hub);
	return ret;
}

/* The owner is gone, or has closed the hub: nobody will ever post again. */
void dw_hub_orphan(struct dw_hub *hub)
{
	bool before;
	u32 i;

	spin_lock(&hub->lock);
	before = hub->orphaned;
	WRITE_ONCE(hub->orphaned, true);
	spin_unlock(&hub->lock);
	if (before)
		return;
	trace_distworker_death(hub, NULL, pid_nr(hub->pid), DISTWORKER_DEATH_NONE, 0);
	/* Endpoints may keep the hub for long; its owner's thread will not come back. */
	dw_side_forget_task(&hub->side);
	for (i = 0; i < hub->mailboxes; i++)
		dw_side_wake_all(&hub->mailbox[i].side);
}

/* A mailbox was attached or has died; the caller wakes the owner afterwards. */
void dw_hub_note_change(struct dw_hub *hub, struct dw_mailbox *mailbox)
{
	u32 index = dw_mailbox_index(mailbox);

	lockdep_assert_held(&hub->lock);
	hub->changed[index / 64] |= 1ULL << index % 64;
	WRITE_ONCE(hub->changed_any, true);
}

/* Mailboxes */

/* How the arguments of all calls about one mailbox begin; none has flags yet. */
struct mailbox_arg {
	u32 size;
	u32 flags;
	u32 index;
};

static struct dw_mailbox *mailbox_arg_in(struct dw_hub *hub, void *arg, size_t size,
					 const void __user *uarg)
{
	struct mailbox_arg *head = arg;
	int ret;

	ret = dw_copy_in(arg, size, size, uarg);
	if (ret)
		return ERR_PTR(ret);
	if (head->flags || head->index >= hub->mailboxes)
		return ERR_PTR(-EINVAL);
	return &hub->mailbox[array_index_nospec(head->index, hub->mailboxes)];
}

static int mailbox_create(struct dw_hub *hub, void __user *uarg)
{
	struct distworker_mailbox_create arg;
	struct dw_mailbox *mailbox = mailbox_arg_in(hub, &arg, sizeof(arg), uarg);

	if (IS_ERR(mailbox))
		return PTR_ERR(mailbox);
	return dw_endpoint_create(mailbox, &arg, uarg);
}

static int mailbox_bind(struct dw_hub *hub, void __user *uarg)
{
	struct distworker_mailbox_bind arg;
	struct dw_mailbox *mailbox = mailbox_arg_in(hub, &arg, sizeof(arg), uarg);
	struct pid *pid;
	int ret;

	if (IS_ERR(mailbox))
		return PTR_ERR(mailbox);
	if (arg.reserved || arg.pid <= 0)
		return -EINVAL;

	pid = find_get_pid(arg.pid);
	rcu_read_lock();
	ret = pid_task(pid, PIDTYPE_TGID) ? 0 : -ESRCH;
	rcu_read_unlock();
	if (ret)
		goto out;

	mutex_lock(&hub->mutex);
	spin_lock(&hub->lock);
	if (mailbox->state == DISTWORKER_MAILBOX_FREE) {
		swap(mailbox->pid, pid);
		arg.generation = mailbox->generation;
	} else {
		ret = -EBUSY;
	}
	spin_unlock(&hub->lock);
	mutex_unlock(&hub->mutex);
	if (!ret)
		ret = dw_copy_out(uarg, &arg, sizeof(arg));
out:
	put_pid(pid);
	return ret;
}

static void memory_zero(void *memory, size_t bytes)
{
	while (bytes) {
		size_t step = min_t(size_t, bytes, MEMORY_STEP_PAGES << PAGE_SHIFT);

		memset(memory, 0, step);
		memory += step;
		bytes -= step;
		cond_resched();
	}
}

static int mailbox_rearm(struct dw_hub *hub, void __user *uarg)
{
	struct distworker_mailbox_bind arg;
	struct dw_mailbox *mailbox = mailbox_arg_in(hub, &arg, sizeof(arg), uarg);
	struct dw_process *process = NULL;
	struct pid *pid = NULL;
	int ret = 0;

	if (IS_ERR(mailbox))
		return PTR_ERR(mailbox);
	if (arg.reserved || arg.pid)
		return -EINVAL;

	mutex_lock(&hub->mutex);
	spin_lock(&hub->lock);
	if (mailbox->state == DISTWORKER_MAILBOX_ATTACHED || (mailbox->left && mailbox->mapped)) {
		ret = -EBUSY;
	} else {
		u32 index = dw_mailbox_index(mailbox);

		swap(mailbox->pid, pid);
		swap(mailbox->process, process);
		mailbox->mapped = 0;
		mailbox->left = false;
		mailbox->cause = DISTWORKER_DEATH_NONE;
		mailbox->status = 0;
		WRITE_ONCE(mailbox->generation, mailbox->generation + 1);
		WRITE_ONCE(mailbox->state, DISTWORKER_MAILBOX_FREE);
		arg.generation = mailbox->generation;
		/* A death that was not reported yet is no news any more. */
		hub->changed[index / 64] &= ~(1ULL << index % 64);
		WRITE_ONCE(hub->changed_any, memchr_inv(hub->changed, 0, sizeof(hub->changed)));
	}
	spin_unlock(&hub->lock);
	if (!ret) {
		/* Unbound, and nobody can bind it before this is done. */
		memory_zero(mailbox->shared, hub->mailbox_bytes);
		dw_side_reset(&mailbox->side);
	}
	mutex_unlock(&hub->mutex);
	dw_process_unwatch(process);
	put_pid(pid);
	return ret ?: dw_copy_out(uarg, &arg, sizeof(arg));
}

static int mailbox_query(struct dw_hub *hub, void __user *uarg)
{
	struct distworker_mailbox_query arg;
	struct dw_mailbox *mailbox = mailbox_arg_in(hub, &arg, sizeof(arg), uarg);

	if (IS_ERR(mailbox))
		return PTR_ERR(mailbox);
	spin_lock(&hub->lock);
	arg.state = mailbox->state;
	arg.generation = mailbox->generation;
	arg.cause = mailbox->cause;
	arg.pid = pid_vnr(mailbox->pid);
	arg.status = mailbox->status;
	spin_unlock(&hub->lock);
	arg.wakes = dw_side_wakes(&mailbox->side);
	arg.sleeps = atomic64_read(&mailbox->side.sleeps);
	arg.spins_won = atomic64_read(&mailbox->side.spins_won);
	arg.spins_lost = atomic64_read(&mailbox->side.spins_lost);
	arg.sleep_ns = atomic64_read(&mailbox->side.sleep_ns);
	return dw_copy_out(uarg, &arg, sizeof(arg));
}

/* The file */

static long hub_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *uarg = (void __user *)arg;
	struct dw_hub *hub;

	/* By number alone: the encoded size is the one of the caller's header. */
	if (_IOC_TYPE(cmd) != DISTWORKER_IOC_MAGIC)
		return -ENOTTY;
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(DISTWORKER_HUB_WAIT):
	case _IOC_NR(DISTWORKER_HUB_WAKE):
	case _IOC_NR(DISTWORKER_MAILBOX_CREATE):
	case _IOC_NR(DISTWORKER_MAILBOX_BIND):
	case _IOC_NR(DISTWORKER_MAILBOX_REARM):
	case _IOC_NR(DISTWORKER_MAILBOX_QUERY):
		break;
	case _IOC_NR(DISTWORKER_HUB_SETUP):
		return hub_setup(file, uarg);
	case _IOC_NR(DISTWORKER_QUERY):
		return dw_query(uarg);
	default:
		return -ENOTTY;
	}

	hub = hub_of(file);
	if (IS_ERR(hub))
		return PTR_ERR(hub);
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(DISTWORKER_HUB_WAIT):
		return dw_hub_wait(hub, uarg);
	case _IOC_NR(DISTWORKER_HUB_WAKE):
		return dw_hub_wake(hub, uarg);
	case _IOC_NR(DISTWORKER_MAILBOX_CREATE):
		return mailbox_create(hub, uarg);
	case _IOC_NR(DISTWORKER_MAILBOX_BIND):
		return mailbox_bind(hub, uarg);
	case _IOC_NR(DISTWORKER_MAILBOX_REARM):
		return mailbox_rearm(hub, uarg);
	default:
		return mailbox_query(hub, uarg);
	}
}

static __poll_t hub_poll(struct file *file, struct poll_table_struct *pt)
{
	struct dw_hub *hub = hub_of(file);
	u64 all[DW_MASK_WORDS], ready[DW_MASK_WORDS];
	__poll_t mask = 0;
	u32 events, i;

	if (IS_ERR(hub))
		return EPOLLERR;
	for (i = 0; i < DIV_ROUND_UP(hub->mailboxes, 64); i++)
		all[i] = ~0ULL;
	all[i - 1] = hub->last_word;

	poll_wait(file, &hub->side.pollers, pt);
	dw_side_arm_poll(&hub->side);
	events = dw_hub_events(hub, READ_ONCE(hub->kick_seen), all, ready, i);
	if (events & (DISTWORKER_EVENT_DONE | DISTWORKER_EVENT_KICK))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (events & DISTWORKER_EVENT_STATE)
		mask |= EPOLLPRI;
	return mask;
}

/* Memory */

/*
 * Maps all of [vma] at once, by frame and not by page: entries that are "special" keep
 * all of get_user_pages(), the fast way included, from pinning what the next generation
 * will be in; and pages that are charged to a memory cgroup could not be inserted as
 * pages before 5.11. VM_IO keeps MADV_DOFORK from undoing VM_DONTCOPY.
 */
int dw_memory_map(struct vm_area_struct *vma, void *memory, size_t bytes, unsigned long pgoff)
{
	unsigned long pages = bytes >> PAGE_SHIFT;
	unsigned long addr, mapped = 0;

	/* Not VM_SHARED: a file that was opened for reading does not have it. */
	if (!(vma->vm_flags & VM_MAYSHARE) || pgoff > pages || vma_pages(vma) > pages - pgoff)
		return -EINVAL;
	vm_flags_set(vma, VM_DONTCOPY | VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	memory += pgoff << PAGE_SHIFT;
	for (addr = vma->vm_start; addr < vma->vm_end; addr += PAGE_SIZE, memory += PAGE_SIZE) {
		/* Not remap_pfn_range(), which warns if it fails at what is all of a mapping. */
		if (vmf_insert_pfn(vma, addr, vmalloc_to_pfn(memory)) != VM_FAULT_NOPAGE)
			return -ENOMEM;
		if (++mapped % MEMORY_STEP_PAGES)
			continue;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* Everything is mapped from the start: only for what the kernel took away by itself. */
vm_fault_t dw_memory_fault(struct vm_fault *vmf, void *address)
{
	return vmf_insert_pfn(vmf->vma, vmf->address, vmalloc_to_pfn(address));
}

static vm_fault_t hub_fault(struct vm_fault *vmf)
{
	struct dw_hub *hub = vmf->vma->vm_file->private_data;

	return dw_memory_fault(vmf, hub->memory + (vmf->pgoff << PAGE_SHIFT));
}

static const struct vm_operations_struct hub_vm_ops = {
	.fault = hub_fault,
};

static int hub_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct dw_hub *hub = hub_of(file);

	if (IS_ERR(hub))
		return PTR_ERR(hub);
	vma->vm_ops = &hub_vm_ops;
	return dw_memory_map(vma, hub->memory, hub->bytes, vma->vm_pgoff);
}

static int hub_flush(struct file *file, fl_owner_t id)
{
	/* Pairs with hub_setup(). */
	struct dw_hub *hub = smp_load_acquire(&file->private_data);

	if (hub && !READ_ONCE(hub->orphaned) && dw_process_left(hub->pid, hub->mm))
		dw_hub_orphan(hub);
	return 0;
}

static int hub_release(struct inode *inode, struct file *file)
{
	struct dw_hub *hub = file->private_data;

	if (hub) {
		dw_hub_orphan(hub);
		dw_hub_put(hub);
	}
	return 0;
}

static int hub_open(struct inode *inode, struct file *file)
{
	/* misc_open() has left the device here; HUB_SETUP makes it a hub. */
	file->private_data = NULL;
	return 0;
}

static void hub_show_fdinfo(struct seq_file *m, struct file *file)
{
	/* Pairs with hub_setup(). */
	struct dw_hub *hub = smp_load_acquire(&file->private_data);

	if (hub)
		dw_hub_show(hub, m);
}

const struct file_operations dw_hub_fops = {
	.owner = THIS_MODULE,
	.open = hub_open,
	.flush = hub_flush,
	.release = hub_release,
	.unlocked_ioctl = hub_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = hub_mmap,
	.poll = hub_poll,
	.show_fdinfo = hub_show_fdinfo,
};
