/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the calls that wait and wake, and the events that ->poll reports.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_WAIT_H
#define _DISTWORKER_WAIT_H

#include "mailbox.h"

/**
 * distw_copy_in() - read a struct of any size that a caller may know
 * @arg: where it goes
 * @ksize: how long it is here
 * @min: how long it was at its first publication
 * @size: how long it is for the caller, as the command says; it must say the same itself
 * @uarg: where it comes from
 *
 * The members that only the caller knows must be zero, those that it lacks read as zero.
 */
static __always_inline int distw_copy_in(void *arg, size_t ksize, size_t min, u32 size,
					 const void __user *uarg)
{
	const u64 __user *from = uarg;
	u64 *to = arg;
	size_t i;
	int ret;

	if (size < min)
		return -EINVAL;
	if (likely(size == ksize)) {
		/* In one go; all of them are made of such words. */
		if (!user_read_access_begin(from, ksize))
			return -EFAULT;
		for (i = 0; i < ksize / sizeof(*to); i++)
			unsafe_get_user(to[i], &from[i], fault);
		user_read_access_end();
	} else {
		ret = copy_struct_from_user(arg, ksize, uarg, size);
		if (ret)
			return ret;
	}
	return *(u32 *)arg == size ? 0 : -EINVAL;
fault:
	user_read_access_end();
	return -EFAULT;
}

long distw_hub_wait(struct distw_hub *hub, void __user *uarg, u32 size);
long distw_endpoint_wait(struct distw_mailbox *mailbox, u64 generation, void __user *uarg,
			 u32 size);
long distw_hub_wake(struct distw_hub *hub, void __user *uarg, u32 size);
int distw_endpoint_wake(struct distw_mailbox *mailbox);

u32 distw_hub_events(struct distw_hub *hub, u32 kick_seen, const u64 *watch, u64 *ready, u32 words);
u32 distw_endpoint_events(struct distw_mailbox *mailbox, u32 seen);

#endif /* _DISTWORKER_WAIT_H */
