/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the calls that wait and wake, and what ->poll looks at.
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

u32 distw_hub_events(struct distw_hub *hub, u32 kick_seen, const u64 *watch, u64 *ready, u32 words);
u32 distw_endpoint_events(struct distw_mailbox *mailbox, u32 seen);

int distw_copy_in(void *arg, size_t ksize, size_t min, u32 size, const void __user *uarg);

#endif /* _DISTWORKER_WAIT_H */
