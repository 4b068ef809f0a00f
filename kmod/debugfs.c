// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: to be seen. /proc/PID/fdinfo shows one hub or endpoint to who may look
 * at that process; /sys/kernel/debug/distworker/hubs shows all hubs to root.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/debugfs.h>
#include <linux/pid.h>
#include <linux/seq_file.h>

#include "internal.h"

static DEFINE_MUTEX(dw_list_lock);
static LIST_HEAD(dw_hubs);		/* dw_list_lock */
static struct dentry *debugfs_dir;

void dw_mailbox_show(struct dw_mailbox *mailbox, struct seq_file *m)
{
	static const char * const states[] = { "free", "attached", "dead" };
	static const char * const causes[] = { "none", "exit", "exec", "detach" };

	spin_lock(&mailbox->hub->lock);
	seq_printf(m, "mailbox:%u hub:%u state:%s generation:%u pid:%d cause:%s status:%#x post:%u done:%u",
		   dw_mailbox_index(mailbox), mailbox->hub->id, states[mailbox->state],
		   mailbox->generation, pid_vnr(mailbox->pid), causes[mailbox->cause],
		   mailbox->status, READ_ONCE(mailbox->shared->post),
		   READ_ONCE(mailbox->shared->done));
	spin_unlock(&mailbox->hub->lock);
	dw_side_show(&mailbox->side, m);
}

void dw_hub_show(struct dw_hub *hub, struct seq_file *m)
{
	u32 i;

	seq_printf(m, "hub:%u owner:%d state:%s mailboxes:%u mailbox_bytes:%u bytes:%zu kick:%u",
		   hub->id, pid_vnr(hub->pid), READ_ONCE(hub->orphaned) ? "orphaned" : "owned",
		   hub->mailboxes, hub->mailbox_bytes, hub->bytes, READ_ONCE(hub->state->kick));
	dw_side_show(&hub->side, m);
	for (i = 0; i < hub->mailboxes; i++)
		dw_mailbox_show(&hub->mailbox[i], m);
}

/* Hub by hub: with many readers of a long list, each waits for a hub and not for all lists. */
static void *hubs_start(struct seq_file *m, loff_t *pos)
{
	int ret = mutex_lock_killable(&dw_list_lock);

	return ret ? ERR_PTR(ret) : seq_list_start(&dw_hubs, *pos);
}

static void *hubs_next(struct seq_file *m, void *place, loff_t *pos)
{
	return seq_list_next(place, &dw_hubs, pos);
}

static void hubs_stop(struct seq_file *m, void *place)
{
	if (!IS_ERR(place))
		mutex_unlock(&dw_list_lock);
}

static int hubs_show(struct seq_file *m, void *place)
{
	dw_hub_show(list_entry(place, struct dw_hub, all), m);
	return 0;
}

static const struct seq_operations hubs_sops = {
	.start = hubs_start,
	.next = hubs_next,
	.stop = hubs_stop,
	.show = hubs_show,
};
DEFINE_SEQ_ATTRIBUTE(hubs);

void dw_debugfs_add(struct dw_hub *hub)
{
	mutex_lock(&dw_list_lock);
	list_add_tail(&hub->all, &dw_hubs);
	mutex_unlock(&dw_list_lock);
}

/* Whatever a reader of the list still does with the hub, it has done it after this. */
void dw_debugfs_remove(struct dw_hub *hub)
{
	mutex_lock(&dw_list_lock);
	list_del(&hub->all);
	mutex_unlock(&dw_list_lock);
}

void dw_debugfs_init(void)
{
	debugfs_dir = debugfs_create_dir("distworker", NULL);
	debugfs_create_file("hubs", 0400, debugfs_dir, NULL, &hubs_fops);
}

void dw_debugfs_exit(void)
{
	debugfs_remove_recursive(debugfs_dir);
}
