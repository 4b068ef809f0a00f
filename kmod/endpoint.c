// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the endpoint, the peer's side of one mailbox.
 *
 * Files of a mailbox travel with every fork, so having one gives no right: only the
 * process that the owner bound the mailbox to may attach, and only the attached one
 * may map, wait, wake, poll and detach.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>

#include "internal.h"
#include "events.h"

/*
 * Is the caller the peer? Needs no lock: nobody but the caller's own process can make
 * it false, and a wait looks at state and generation again.
 */
static int mailbox_check_peer(struct dw_mailbox *mailbox)
{
	struct mm_struct *mm = READ_ONCE(mailbox->mm);

	if (mm == current->mm && READ_ONCE(mailbox->tgid) == task_tgid(current))
		return 0;
	return mm ? -EPERM : -ENOTCONN;
}

static int mailbox_check_attach(struct dw_mailbox *mailbox)
{
	lockdep_assert_held(&mailbox->hub->lock);
	if (mailbox->hub->orphaned)
		return -EOWNERDEAD;
	if (!mailbox->pid || mailbox->state == DISTWORKER_MAILBOX_DEAD)
		return -ENOTCONN;
	if (mailbox->pid != task_tgid(current))
		return -EPERM;
	if (mailbox->state == DISTWORKER_MAILBOX_ATTACHED)
		return -EBUSY;
	return 0;
}

static int endpoint_attach(struct dw_mailbox *mailbox, void __user *uarg)
{
	struct distworker_endpoint_attach before, arg;
	struct dw_hub *hub = mailbox->hub;
	struct dw_process *process;
	int ret;

	ret = dw_copy_in(&arg, sizeof(arg), sizeof(arg), uarg);
	if (ret)
		return ret;
	if (arg.flags)
		return -EINVAL;
	before = arg;

	spin_lock(&hub->lock);
	ret = mailbox_check_attach(mailbox);
	arg.generation = mailbox->generation;
	spin_unlock(&hub->lock);
	if (ret)
		return ret;
	arg.index = dw_mailbox_index(mailbox);
	arg.mailbox_bytes = hub->mailbox_bytes;
	arg.owner_pid = pid_vnr(hub->pid);
	process = dw_process_watch(hub, mailbox);
	if (IS_ERR(process))
		return PTR_ERR(process);
	/* The answer first, since it cannot fail after the attachment. */
	ret = dw_copy_out(uarg, &arg, sizeof(arg));
	if (ret)
		goto err_process;

	spin_lock(&hub->lock);
	ret = mailbox_check_attach(mailbox);
	if (!ret && mailbox->generation != arg.generation)
		ret = -ENOTCONN;
	if (ret) {
		spin_unlock(&hub->lock);
		/* A race is lost: nothing was said. */
		dw_copy_out(uarg, &before, sizeof(before));
		goto err_process;
	}
	mailbox->task = get_task_struct(current);
	mailbox->process = process;
	WRITE_ONCE(mailbox->tgid, mailbox->pid);
	WRITE_ONCE(mailbox->mm, current->mm);
	WRITE_ONCE(mailbox->state, DISTWORKER_MAILBOX_ATTACHED);
	dw_hub_note_change(hub, mailbox);
	spin_unlock(&hub->lock);

	trace_distworker_attach(hub, mailbox, task_tgid_nr(current), arg.generation);
	dw_side_note_task(&mailbox->side);
	dw_side_wake_all(&hub->side);
	return 0;

err_process:
	dw_process_unwatch(process);
	return ret;
}

static long endpoint_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dw_mailbox *mailbox = file->private_data;
	void __user *uarg = (void __user *)arg;
	u32 generation;
	int ret;

	/* By number alone: the encoded size is the one of the caller's header. */
	if (_IOC_TYPE(cmd) != DISTWORKER_IOC_MAGIC)
		return -ENOTTY;
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(DISTWORKER_ENDPOINT_WAIT):
	case _IOC_NR(DISTWORKER_ENDPOINT_WAKE):
	case _IOC_NR(DISTWORKER_ENDPOINT_DETACH):
		break;
	case _IOC_NR(DISTWORKER_ENDPOINT_ATTACH):
		return endpoint_attach(mailbox, uarg);
	case _IOC_NR(DISTWORKER_QUERY):
		return dw_query(uarg);
	default:
		return -ENOTTY;
	}

	/* Before the check, so that it is the generation that the check is about. */
	generation = READ_ONCE(mailbox->generation);
	ret = mailbox_check_peer(mailbox);
	if (ret)
		return ret;
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(DISTWORKER_ENDPOINT_WAIT):
		return dw_endpoint_wait(mailbox, generation, uarg);
	case _IOC_NR(DISTWORKER_ENDPOINT_WAKE):
		return dw_endpoint_wake(mailbox);
	default:
		return dw_mailbox_end(mailbox, NULL, DISTWORKER_DEATH_DETACH);
	}
}

static __poll_t endpoint_poll(struct file *file, struct poll_table_struct *pt)
{
	struct dw_mailbox *mailbox = file->private_data;

	if (READ_ONCE(mailbox->hub->orphaned))
		return EPOLLHUP;
	if (mailbox_check_peer(mailbox))
		return EPOLLERR;
	poll_wait(file, &mailbox->side.pollers, pt);
	dw_side_arm_poll(&mailbox->side);
	if (READ_ONCE(mailbox->hub->orphaned))
		return EPOLLHUP;
	if (READ_ONCE(mailbox->state) != DISTWORKER_MAILBOX_ATTACHED)
		return EPOLLERR;
	return dw_endpoint_events(mailbox, READ_ONCE(mailbox->shared->seen)) ?
		EPOLLIN | EPOLLRDNORM : 0;
}

/* Mappings of the mailbox are counted, so that detaching can be refused. */

static void mailbox_count_mapping(struct vm_area_struct *vma, int change)
{
	struct dw_mailbox *mailbox = vma->vm_file->private_data;

	spin_lock(&mailbox->hub->lock);
	/* A dying process may unmap when its mailbox has long been re-armed. */
	if (mailbox->generation == (u32)(unsigned long)vma->vm_private_data)
		mailbox->mapped += change;
	spin_unlock(&mailbox->hub->lock);
}

static void mailbox_vm_open(struct vm_area_struct *vma)
{
	mailbox_count_mapping(vma, 1);
}

static void mailbox_vm_close(struct vm_area_struct *vma)
{
	mailbox_count_mapping(vma, -1);
}

static vm_fault_t mailbox_fault(struct vm_fault *vmf)
{
	struct dw_mailbox *mailbox = vmf->vma->vm_file->private_data;

	return dw_memory_fault(vmf, (void *)mailbox->shared + (vmf->pgoff << PAGE_SHIFT));
}

static const struct vm_operations_struct mailbox_vm_ops = {
	.open = mailbox_vm_open,
	.close = mailbox_vm_close,
	.fault = mailbox_fault,
};

static vm_fault_t line_fault(struct vm_fault *vmf)
{
	struct dw_mailbox *mailbox = vmf->vma->vm_file->private_data;

	return dw_memory_fault(vmf, mailbox->hub->line);
}

static const struct vm_operations_struct line_vm_ops = {
	.fault = line_fault,
};

static int endpoint_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct dw_mailbox *mailbox = file->private_data;
	struct dw_hub *hub = mailbox->hub;
	unsigned long generation = 0;
	int ret;

	ret = mailbox_check_peer(mailbox);
	if (ret)
		return ret;
	if (vma->vm_pgoff >= DISTWORKER_HUB_LINE_OFFSET >> PAGE_SHIFT) {
		if (vma->vm_flags & VM_WRITE)
			return -EACCES;
		vm_flags_clear(vma, VM_MAYWRITE);
		vma->vm_ops = &line_vm_ops;
		return dw_memory_map(vma, hub->line, PAGE_SIZE, vma->vm_pgoff -
				     (DISTWORKER_HUB_LINE_OFFSET >> PAGE_SHIFT));
	}

	spin_lock(&hub->lock);
	ret = mailbox_check_peer(mailbox);
	if (!ret) {
		generation = mailbox->generation;
		mailbox->mapped++;
	}
	spin_unlock(&hub->lock);
	if (ret)
		return ret;
	vma->vm_private_data = (void *)generation;
	vma->vm_ops = &mailbox_vm_ops;
	ret = dw_memory_map(vma, mailbox->shared, hub->mailbox_bytes, vma->vm_pgoff);
	if (ret)
		mailbox_count_mapping(vma, -1);
	return ret;
}

static int endpoint_flush(struct file *file, fl_owner_t id)
{
	struct dw_mailbox *mailbox = file->private_data;

	if (dw_process_left(READ_ONCE(mailbox->tgid), READ_ONCE(mailbox->mm)))
		dw_mailbox_end(mailbox, NULL, DISTWORKER_DEATH_EXIT);
	return 0;
}

static int endpoint_release(struct inode *inode, struct file *file)
{
	struct dw_mailbox *mailbox = file->private_data;

	dw_hub_put(mailbox->hub);
	return 0;
}

static void endpoint_show_fdinfo(struct seq_file *m, struct file *file)
{
	dw_mailbox_show(file->private_data, m);
}

static const struct file_operations endpoint_fops = {
	.owner = THIS_MODULE,
	.flush = endpoint_flush,
	.release = endpoint_release,
	.unlocked_ioctl = endpoint_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = endpoint_mmap,
	.poll = endpoint_poll,
	.show_fdinfo = endpoint_show_fdinfo,
};

int dw_endpoint_create(struct dw_mailbox *mailbox, struct distworker_mailbox_create *arg,
		       void __user *uarg)
{
	struct file *file;
	int ret;

	arg->fd = get_unused_fd_flags(O_CLOEXEC);
	if (arg->fd < 0)
		return arg->fd;
	kref_get(&mailbox->hub->kref);
	file = anon_inode_getfile("[distworker]", &endpoint_fops, mailbox, O_RDWR);
	if (IS_ERR(file)) {
		dw_hub_put(mailbox->hub);
		ret = PTR_ERR(file);
		goto err_fd;
	}
	ret = dw_copy_out(uarg, arg, sizeof(*arg));
	if (ret)
		goto err_file;
	fd_install(arg->fd, file);
	return 0;

err_file:
	fput(file);
err_fd:
	put_unused_fd(arg->fd);
	return ret;
}
