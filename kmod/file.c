// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the module, its device and its files: the device's, which becomes a hub, and
 * endpoints; and the dispatch of their calls, each of which asks whether the current process
 * may make it.
 *
 * The source files, each of which calls only those below it:
 *
 *   file.c		the files and the dispatch of their calls
 *   wait.c, memory.c	the calls that wait and wake; mappings
 *   mailbox.c		hubs and mailboxes, their life and their states
 *   timeline.c		sleepers that wait for a sibling
 *   queue.c, watch.c	sleepers at one end; the end of an address space
 *
 * Two pointers are called upwards: the callback of a watch, and vm_private_data.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/seq_file.h>

#include "memory.h"
#include "wait.h"

#define CREATE_TRACE_POINTS
#include "events.h"

/* Letter, number and direction. */
#define CALL(cmd)	((cmd) & ~IOCSIZE_MASK)

/* The arguments of the calls about one mailbox; all of them begin as the first does. */
union mailbox_argument {
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
		       DISTWORKER_FEATURE_POLL | DISTWORKER_FEATURE_TIMELINES |
		       (IS_ENABLED(CONFIG_SMP) ? DISTWORKER_FEATURE_ADAPTIVE_SPIN : 0);
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
	case CALL(DISTWORKER_TIMELINE_WAIT):
		return ret ?: distw_timeline_wait(mailbox, generation, uarg, _IOC_SIZE(cmd));
	case CALL(DISTWORKER_TIMELINE_WAKE):
		return ret ?: distw_timeline_reached(mailbox);
	case CALL(DISTWORKER_ENDPOINT_DETACH):
		return ret ?: distw_mailbox_end(mailbox, NULL, DISTWORKER_DEATH_DETACH);
	case CALL(DISTWORKER_ENDPOINT_ATTACH):
		return distw_mailbox_attach(mailbox, uarg, _IOC_SIZE(cmd));
	case CALL(DISTWORKER_QUERY):
		return query(cmd, uarg);
	default:
		return -ENOTTY;
	}
}

static void endpoint_show_fdinfo(struct seq_file *m, struct file *file)
{
	show_mailbox(m, file->private_data);
}

static const struct file_operations endpoint_fops = {
	.owner = THIS_MODULE,
	.flush = distw_endpoint_flush,
	.release = distw_endpoint_release,
	.unlocked_ioctl = endpoint_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = distw_endpoint_mmap,
	.poll = distw_endpoint_poll,
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
	file = anon_inode_getfile("[distworker]", &endpoint_fops, mailbox, O_RDWR);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto err_fd;
	}
	/* Until distw_endpoint_release(). */
	kref_get(&mailbox->hub->kref);
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
	if (arg.create.flags || arg.create.index >= hub->layout.mailboxes)
		return -EINVAL;
	mailbox = &hub->mailbox[array_index_nospec(arg.create.index, hub->layout.mailboxes)];
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
		return distw_hub_set_up(hub, uarg, _IOC_SIZE(cmd));
	case CALL(DISTWORKER_QUERY):
		return query(cmd, uarg);
	default:
		return -ENOTTY;
	}
}

static void hub_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct distw_hub *hub = file->private_data;
	u32 i;

	/* Pairs with distw_hub_set_up(). */
	if (!smp_load_acquire(&hub->mm))
		return;
	seq_printf(m, "hub:%u owner:%d state:%s mailboxes:%u mailbox_bytes:%u bytes:%llu kick:%u",
		   hub->id, pid_vnr(hub->pid), READ_ONCE(hub->orphaned) ? "orphaned" : "owned",
		   hub->layout.mailboxes, hub->layout.mailbox_bytes, hub->layout.mapping_bytes,
		   READ_ONCE(hub->state->kick));
	distw_queue_show(&hub->queue, m);
	for (i = 0; i < hub->layout.mailboxes; i++) {
		show_mailbox(m, &hub->mailbox[i]);
		cond_resched();
	}
}

static const struct file_operations hub_fops = {
	.owner = THIS_MODULE,
	.open = distw_hub_open,
	.flush = distw_hub_flush,
	.release = distw_hub_release,
	.unlocked_ioctl = hub_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = distw_hub_mmap,
	.poll = distw_hub_poll,
	.show_fdinfo = hub_show_fdinfo,
};

static struct miscdevice distworker_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "distworker",
	.fops = &hub_fops,
	.mode = 0660,
};

module_misc_device(distworker_device);

MODULE_DESCRIPTION("Mailboxes and wait queues between a process and its workers");
MODULE_AUTHOR("distworker authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(DISTWORKER_VERSION);
