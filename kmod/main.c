// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the module, its device and its limits, and what all ioctls share.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/build_bug.h>
#include <linux/cred.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include "events.h"

static unsigned int max_hubs = 256;
module_param(max_hubs, uint, 0644);
MODULE_PARM_DESC(max_hubs, "hubs per user");

static unsigned int max_mailboxes = DW_MAX_MAILBOXES;
module_param(max_mailboxes, uint, 0644);
MODULE_PARM_DESC(max_mailboxes, "mailboxes per hub, at most 1024");

static unsigned int max_mailbox_bytes = 16 << 20;
module_param(max_mailbox_bytes, uint, 0644);
MODULE_PARM_DESC(max_mailbox_bytes, "bytes per mailbox");

static unsigned long max_user_bytes = 1 << 30;
module_param(max_user_bytes, ulong, 0644);
MODULE_PARM_DESC(max_user_bytes, "bytes of all hubs of one user");

unsigned int dw_spin_max_ns = 50000;
module_param_named(spin_max_ns, dw_spin_max_ns, uint, 0644);
MODULE_PARM_DESC(spin_max_ns, "longest spin of a wait while its peer runs, 0: never spin");

/* Limits */

struct dw_user {
	struct list_head node;
	kuid_t uid;
	unsigned int hubs;
	size_t bytes;
};

static DEFINE_SPINLOCK(dw_user_lock);
static LIST_HEAD(dw_users);		/* dw_user_lock, and what is in it */

u32 dw_mailboxes_limit(void)
{
	return min_t(u32, READ_ONCE(max_mailboxes), DW_MAX_MAILBOXES);
}

/* The hub's line lies behind the mailbox in the offsets of an endpoint. */
u32 dw_mailbox_bytes_limit(void)
{
	return min_t(u32, READ_ONCE(max_mailbox_bytes), DISTWORKER_HUB_LINE_OFFSET);
}

/* Counts a hub of this size for the calling user. */
struct dw_user *dw_user_charge(size_t bytes)
{
	struct dw_user *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	struct dw_user *user;
	size_t total;

	if (!fresh)
		return ERR_PTR(-ENOMEM);
	fresh->uid = current_uid();
	spin_lock(&dw_user_lock);
	list_for_each_entry(user, &dw_users, node)
		if (uid_eq(user->uid, fresh->uid))
			goto found;
	user = fresh;
found:
	/* What is refused must not count for a moment: others of the user would be, too. */
	if (user->hubs >= READ_ONCE(max_hubs) || check_add_overflow(user->bytes, bytes, &total) ||
	    total > READ_ONCE(max_user_bytes)) {
		user = ERR_PTR(-EDQUOT);
	} else {
		user->hubs++;
		user->bytes = total;
		if (user == fresh) {
			list_add(&user->node, &dw_users);
			fresh = NULL;
		}
	}
	spin_unlock(&dw_user_lock);
	kfree(fresh);
	return user;
}

void dw_user_uncharge(struct dw_user *user, size_t bytes)
{
	spin_lock(&dw_user_lock);
	user->bytes -= bytes;
	if (--user->hubs)
		user = NULL;
	else
		list_del(&user->node);
	spin_unlock(&dw_user_lock);
	kfree(user);
}

/* Arguments */

/*
 * Reads a struct that begins with its size. min is the size at its first publication;
 * what a longer one of the caller has beyond ours must be zero, what a shorter one lacks
 * of ours reads as zero. The size is read once: what the copy brings is overwritten.
 */
int dw_copy_in(void *arg, size_t ksize, size_t min, const void __user *uarg)
{
	u32 size;
	int ret;

	if (get_user(size, (const u32 __user *)uarg))
		return -EFAULT;
	if (size < min)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(arg, ksize, uarg, size);
	*(u32 *)arg = size;
	return ret;
}

/* A shorter struct of the caller gets what fits, the rest of a longer one stays zero. */
int dw_copy_out(void __user *uarg, const void *arg, size_t ksize)
{
	return copy_to_user(uarg, arg, min_t(size_t, ksize, *(const u32 *)arg)) ? -EFAULT : 0;
}

int dw_query(void __user *uarg)
{
	struct distworker_query arg;
	int ret;

	/* So small a minimum that any future library can ask for the version. */
	ret = dw_copy_in(&arg, sizeof(arg), offsetofend(typeof(arg), abi_version), uarg);
	if (ret)
		return ret;
	arg.abi_version = DISTWORKER_ABI_VERSION;
	arg.features = DISTWORKER_FEATURE_WAKE_AND_WAIT | DISTWORKER_FEATURE_DEATH |
		       DISTWORKER_FEATURE_POLL;
	if (IS_ENABLED(CONFIG_SMP))
		arg.features |= DISTWORKER_FEATURE_ADAPTIVE_SPIN;
	arg.max_mailboxes = dw_mailboxes_limit();
	arg.max_mailbox_bytes = dw_mailbox_bytes_limit();
	arg.max_hubs = READ_ONCE(max_hubs);
	arg.page_bytes = PAGE_SIZE;
	return dw_copy_out(uarg, &arg, sizeof(arg));
}

/* Device */

static struct miscdevice distworker_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "distworker",
	.fops = &dw_hub_fops,
	.mode = 0660,
};

static int __init distworker_init(void)
{
	int ret;

	BUILD_BUG_ON(sizeof(struct distworker_hub_line) != 128);
	BUILD_BUG_ON(sizeof(struct distworker_hub_state) != 64);
	BUILD_BUG_ON(sizeof(struct distworker_mailbox) != 256);
	BUILD_BUG_ON(sizeof(struct distworker_query) != 32);
	BUILD_BUG_ON(sizeof(struct distworker_hub_setup) != 40);
	BUILD_BUG_ON(sizeof(struct distworker_mailbox_create) != 16);
	BUILD_BUG_ON(sizeof(struct distworker_mailbox_bind) != 24);
	BUILD_BUG_ON(sizeof(struct distworker_mailbox_query) != 72);
	BUILD_BUG_ON(sizeof(struct distworker_hub_wait) != 64);
	BUILD_BUG_ON(sizeof(struct distworker_hub_wake) != 24);
	BUILD_BUG_ON(sizeof(struct distworker_endpoint_attach) != 24);
	BUILD_BUG_ON(sizeof(struct distworker_endpoint_wait) != 24);

	dw_debugfs_init();
	ret = misc_register(&distworker_device);
	if (ret)
		dw_debugfs_exit();
	return ret;
}

static void __exit distworker_exit(void)
{
	misc_deregister(&distworker_device);
	dw_debugfs_exit();
}

module_init(distworker_init);
module_exit(distworker_exit);

MODULE_DESCRIPTION("Mailboxes and wait queues between a process and its workers");
MODULE_AUTHOR("distworker authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(DISTWORKER_VERSION);
