/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the calls that wait and wake, and the events that ->poll reports.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_WAIT_H
#define _DISTWORKER_WAIT_H

#include "mailbox.h"

long distw_hub_wait(struct distw_hub *hub, void __user *uarg, u32 size);
long distw_endpoint_wait(struct distw_mailbox *mailbox, u64 generation, void __user *uarg,
			 u32 size);
long distw_hub_wake(struct distw_hub *hub, void __user *uarg, u32 size);
int distw_endpoint_wake(struct distw_mailbox *mailbox);
long distw_timeline_wait(struct distw_mailbox *mailbox, u64 generation, void __user *uarg,
			 u32 size);
int distw_timeline_reached(struct distw_mailbox *mailbox);

__poll_t distw_hub_poll(struct file *file, struct poll_table_struct *pt);
__poll_t distw_endpoint_poll(struct file *file, struct poll_table_struct *pt);

#endif /* _DISTWORKER_WAIT_H */
