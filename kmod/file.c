// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the files: the device's, which becomes a hub, and endpoints; and the
 * dispatch of their calls.
 *
 * Each call asks whether the current process may make it. poll does not: it can run in
 * another context (aio, io_uring's SQPOLL), and all that a process with a copy of the
 * file can do by it is to arm the file's side, which costs the other side a wake-up.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/seq_file.h>

#include "compat.h"
#include "file.h"
#include "memory.h"
#include "wait.h"

/* Letter, number and direction. */
#define CALL(cmd)	((cmd) & ~IOCSIZE_MASK)

/* The arguments of the calls about one mailbox. */
union mailbox_argument {
	struct {
		u32 size;
		u32 flags;
		u32 index;
	};
	struct distworker_mailbox_create create;
	struct distworker_mailbox_bind bind;
	struct distworker_mailbox_query query;
};

static long query(unsigned int cmd, void __user *uarg)
{
	struct distworker_query arg;
	int ret;

	/* So small a minimum that any future library can ask for the version. */
	ret = distw_copy_in(&arg, sizeof(arg), offsetofend(typeof(arg), abi_version),
			    _IOC_SIZE(cmd), uarg);
	if (ret)
		return ret;
	arg.abi_version = DISTWORKER_ABI_VERSION;
	arg.features = DISTWORKER_FEATURE_WAKE_AND_WAIT | DISTWORKER_FEATURE_DEATH |
		       DISTWORKER_FEATURE_POLL;
	if (IS_ENABLED(CONFIG_SMP))
		arg.features |= DISTWORKER_FEATURE_ADAPTIVE_SPIN;
	arg.max_mailboxes = distw_mailboxes_limit();
	arg.max_mailbox_bytes = distw_mailbox_bytes_limit();
	arg.page_bytes = PAGE_SIZE;
	arg.line_bytes = DISTWORKER_LINE_BYTES;
	return distw_copy_out(uarg, &arg, sizeof(arg));
}

static void show_mailbox(struct seq_file *m, struct distw_mailbox *mailbox)
{
	static const char * const states[] = { "free", "attached", "dead" };
	static const char * const causes[] = { "none", "exit", "exec", "detach" };
	struct distworker_mailbox_query now;

	distw_mailbox_read(mailbox, &now);
	seq_printf(m, "mailbox:%u hub:%u state:%s generation:%llu pid:%d cause:%s status:%#x",
		   mailbox->index, mailbox->hub->id, states[now.state], now.generation, now.pid,
		   causes[now.cause], now.status);
	seq_printf(m, " post:%u done:%u", READ_ONCE(mailbox->shared->post),
		   READ_ONCE(mailbox->shared->done));
	distw_queue_show(&mailbox->queue, m);
}

/* Endpoints */

static long endpoint_attach(struct distw_mailbox *mailbox, unsigned int cmd, void __user *uarg)
{
	struct distworker_endpoint_attach arg;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), _IOC_SIZE(cmd), uarg);
	if (!ret && arg.flags)
		ret = -EINVAL;
	return ret ?: distw_mailbox_attach(mailbox, &arg, uarg);
}

static long endpoint_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct distw_mailbox *mailbox = file->private_data;
	void __user *uarg = (void __user *)arg;
	u64 generation;
	int ret = distw_mailbox_check_peer(mailbox, &generation);

	switch (CALL(cmd)) {
	case CALL(DISTWORKER_ENDPOINT_WAIT):
		return ret ?: distw_endpoint_wait(mailbox, generation, uarg, _IOC_SIZE(cmd));
	case CALL(DISTWORKER_ENDPOINT_WAKE):
		return ret ?: distw_endpoint_wake(mailbox);
	case CALL(DISTWORKER_ENDPOINT_DETACH):
		return ret ?: distw_mailbox_detach(mailbox);
	case CALL(DISTWORKER_ENDPOINT_ATTACH):
		return endpoint_attach(mailbox, cmd, uarg);
	case CALL(DISTWORKER_QUERY):
		return query(cmd, uarg);
	default:
		return -ENOTTY;
	}
}

static __poll_t endpoint_poll(struct file *file, struct poll_table_struct *pt)
{
	struct distw_mailbox *mailbox = file->private_data;

	poll_wait(file, &mailbox->queue.pollers, pt);
	distw_queue_arm(&mailbox->queue);
	if (READ_ONCE(mailbox->hub->orphaned))
		return EPOLLHUP;
	if (READ_ONCE(mailbox->state) != DISTWORKER_MAILBOX_ATTACHED)
		return EPOLLERR;
	return distw_endpoint_events(mailbox, READ_ONCE(mailbox->shared->seen)) ?
		EPOLLIN | EPOLLRDNORM : 0;
}

static int endpoint_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct distw_mailbox *mailbox = file->private_data;
	u64 generation;

	return distw_mailbox_check_peer(mailbox, &generation) ?: distw_mailbox_map(mailbox, vma);
}

static int endpoint_flush(struct file *file, fl_owner_t id)
{
	distw_mailbox_leave(file->private_data);
	return 0;
}

static int endpoint_release(struct inode *inode, struct file *file)
{
	struct distw_mailbox *mailbox = file->private_data;

	distw_hub_put(mailbox->hub);
	return 0;
}

static void endpoint_show_fdinfo(struct seq_file *m, struct file *file)
{
	show_mailbox(m, file->private_data);
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

static int mailbox_create(struct distw_mailbox *mailbox, struct distworker_mailbox_create *arg,
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
		distw_hub_put(mailbox->hub);
		ret = PTR_ERR(file);
		goto err_fd;
	}
	ret = distw_copy_out(uarg, arg, sizeof(*arg));
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

/* Hubs */

static long hub_setup(struct distw_hub *hub, unsigned int cmd, void __user *uarg)
{
	struct distworker_hub_setup arg;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), _IOC_SIZE(cmd), uarg);
	if (ret)
		return ret;
	if (arg.flags || !arg.mailboxes || arg.mailboxes > distw_mailboxes_limit() ||
	    arg.mailbox_bytes < sizeof(struct distworker_mailbox) ||
	    arg.mailbox_bytes > distw_mailbox_bytes_limit())
		return -EINVAL;
	return distw_hub_set_up(hub, &arg, uarg);
}

static long mailbox_call(struct distw_hub *hub, unsigned int cmd, void __user *uarg)
{
	struct distw_mailbox *mailbox;
	union mailbox_argument arg;
	size_t ksize = CALL(cmd) == CALL(DISTWORKER_MAILBOX_CREATE) ? sizeof(arg.create) :
		       CALL(cmd) == CALL(DISTWORKER_MAILBOX_QUERY) ? sizeof(arg.query) :
		       sizeof(arg.bind);
	int ret;

	ret = distw_copy_in(&arg, ksize, ksize, _IOC_SIZE(cmd), uarg);
	if (ret)
		return ret;
	/* None has flags yet. */
	if (arg.flags || arg.index >= hub->mailboxes)
		return -EINVAL;
	mailbox = &hub->mailbox[array_index_nospec(arg.index, hub->mailboxes)];
	switch (CALL(cmd)) {
	case CALL(DISTWORKER_MAILBOX_CREATE):
		return mailbox_create(mailbox, &arg.create, uarg);
	case CALL(DISTWORKER_MAILBOX_BIND):
		ret = distw_mailbox_bind(mailbox, &arg.bind);
		break;
	case CALL(DISTWORKER_MAILBOX_REARM):
		ret = distw_mailbox_rearm(mailbox, &arg.bind);
		break;
	default:
		distw_mailbox_read(mailbox, &arg.query);
		break;
	}
	return ret ?: distw_copy_out(uarg, &arg, ksize);
}

static long hub_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct distw_hub *hub = file->private_data;
	void __user *uarg = (void __user *)arg;
	int ret = distw_hub_check_owner(hub);

	switch (CALL(cmd)) {
	case CALL(DISTWORKER_HUB_WAIT):
		return ret ?: distw_hub_wait(hub, uarg, _IOC_SIZE(cmd));
	case CALL(DISTWORKER_HUB_WAKE):
		return ret ?: distw_hub_wake(hub, uarg, _IOC_SIZE(cmd));
	case CALL(DISTWORKER_MAILBOX_CREATE):
	case CALL(DISTWORKER_MAILBOX_BIND):
	case CALL(DISTWORKER_MAILBOX_REARM):
	case CALL(DISTWORKER_MAILBOX_QUERY):
		return ret ?: mailbox_call(hub, cmd, uarg);
	case CALL(DISTWORKER_HUB_SETUP):
		return hub_setup(hub, cmd, uarg);
	case CALL(DISTWORKER_QUERY):
		return query(cmd, uarg);
	default:
		return -ENOTTY;
	}
}

static __poll_t hub_poll(struct file *file, struct poll_table_struct *pt)
{
	u64 all[DISTW_MASK_WORDS] __distw_uninitialized;
	u64 ready[DISTW_MASK_WORDS] __distw_uninitialized;
	struct distw_hub *hub = file->private_data;
	__poll_t mask = 0;
	u32 events, i;

	poll_wait(file, &hub->queue.pollers, pt);
	distw_queue_arm(&hub->queue);
	/* Pairs with distw_hub_set_up(). */
	if (!smp_load_acquire(&hub->mm))
		return EPOLLERR;
	if (READ_ONCE(hub->orphaned))
		return EPOLLHUP;
	for (i = 0; i < BITS_TO_U64(hub->mailboxes); i++)
		all[i] = ~0ULL;
	all[i - 1] = hub->last_word;
	events = distw_hub_events(hub, READ_ONCE(hub->kick_seen), all, ready, i);
	if (events & (DISTWORKER_EVENT_DONE | DISTWORKER_EVENT_KICK))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (events & DISTWORKER_EVENT_STATE)
		mask |= EPOLLPRI;
	return mask;
}

static int hub_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct distw_hub *hub = file->private_data;

	return distw_hub_check_owner(hub) ?: distw_hub_map(hub, vma);
}

static int hub_flush(struct file *file, fl_owner_t id)
{
	distw_hub_leave(file->private_data);
	return 0;
}

static int hub_release(struct inode *inode, struct file *file)
{
	struct distw_hub *hub = file->private_data;

	distw_hub_orphan(hub);
	distw_hub_put(hub);
	return 0;
}

static int hub_open(struct inode *inode, struct file *file)
{
	/* misc_open() has left the device here. */
	file->private_data = distw_hub_alloc();
	return file->private_data ? 0 : -ENOMEM;
}

static void hub_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct distw_hub *hub = file->private_data;
	u32 i;

	/* Pairs with distw_hub_set_up(). */
	if (!smp_load_acquire(&hub->mm))
		return;
	seq_printf(m, "hub:%u owner:%d state:%s mailboxes:%u mailbox_bytes:%u bytes:%zu kick:%u",
		   hub->id, pid_vnr(hub->pid), READ_ONCE(hub->orphaned) ? "orphaned" : "owned",
		   hub->mailboxes, hub->mailbox_bytes, hub->bytes, READ_ONCE(hub->state->kick));
	distw_queue_show(&hub->queue, m);
	for (i = 0; i < hub->mailboxes; i++) {
		show_mailbox(m, &hub->mailbox[i]);
		cond_resched();
	}
}

const struct file_operations distw_hub_fops = {
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
