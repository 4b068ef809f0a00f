// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: the module and its device.
 *
 * The files, each of which calls only those below it:
 *
 *   file.c		the files and the dispatch of their calls
 *   wait.c, memory.c	the calls that wait and wake; mappings
 *   mailbox.c		hubs and mailboxes, their life and their states
 *   queue.c, watch.c	sleepers at one end; the end of an address space
 *
 * Two pointers are called upwards: the callback of a watch, and vm_private_data.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/build_bug.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "file.h"
#include "mailbox.h"

#define CREATE_TRACE_POINTS
#include "events.h"

static struct miscdevice distworker_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "distworker",
	.fops = &distw_hub_fops,
	.mode = 0660,
};

static int __init distworker_init(void)
{
	BUILD_BUG_ON(sizeof(struct distworker_hub_line) != 256);
	BUILD_BUG_ON(sizeof(struct distworker_hub_state) != 128);
	BUILD_BUG_ON(sizeof(struct distworker_mailbox) != 512);
	BUILD_BUG_ON(sizeof(struct distworker_timeline) != 256);
	BUILD_BUG_ON(sizeof(struct distworker_query) != 32);
	BUILD_BUG_ON(sizeof(struct distworker_hub_setup) != 56);
	BUILD_BUG_ON(sizeof(struct distworker_mailbox_create) != 16);
	BUILD_BUG_ON(sizeof(struct distworker_mailbox_bind) != 24);
	BUILD_BUG_ON(sizeof(struct distworker_mailbox_query) != 72);
	BUILD_BUG_ON(sizeof(struct distworker_hub_wait) != 64);
	BUILD_BUG_ON(sizeof(struct distworker_hub_wake) != 24);
	BUILD_BUG_ON(sizeof(struct distworker_endpoint_attach) != 32);
	BUILD_BUG_ON(sizeof(struct distworker_endpoint_wait) != 24);

	return misc_register(&distworker_device);
}

static void __exit distworker_exit(void)
{
	misc_deregister(&distworker_device);
}

module_init(distworker_init);
module_exit(distworker_exit);

MODULE_DESCRIPTION("Mailboxes and wait queues between a process and its workers");
MODULE_AUTHOR("distworker authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(DISTWORKER_VERSION);
