/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the end of an address space, with a callback. Knows no hub.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_WATCH_H
#define _DISTWORKER_WATCH_H

#include <linux/mmu_notifier.h>
#include <linux/pid.h>

struct distw_watch {
	struct mmu_interval_notifier notifier;
	/* Called once, when the address space ends; may sleep. */
	void (*ended)(struct distw_watch *watch);
};

int distw_watch_begin(struct distw_watch *watch, void (*ended)(struct distw_watch *watch));
void distw_watch_end(struct distw_watch *watch);
bool distw_mm_is_shared(struct mm_struct *mm);
bool distw_mm_was_left(struct mm_struct *mm, struct pid *pid);

#endif /* _DISTWORKER_WATCH_H */
