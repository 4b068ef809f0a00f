/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the threads that sleep until a sibling's count is reached. Knows neither hub
 * nor mailbox.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_TIMELINE_H
#define _DISTWORKER_TIMELINE_H

#include <linux/wait.h>

#include "uapi/linux/distworker.h"

struct distw_timeline {
	wait_queue_head_t waiters;	/* peers of other mailboxes in TIMELINE_WAIT */
	struct distworker_timeline *shared;	/* NULL: the hub has none */
};

/* Besides its place in the queue of its own mailbox. */
struct distw_timeline_sleeper {
	struct wait_queue_entry entry;
	struct distw_timeline *timeline;
	u32 count;
};

static inline bool distw_count_reached(u32 count, u32 wanted)
{
	return (s32)(count - wanted) >= 0;
}

void distw_timeline_init(struct distw_timeline *timeline, struct distworker_timeline *shared);
void distw_timeline_rearm(struct distw_timeline *timeline);
bool distw_timeline_wake(struct distw_timeline *timeline, bool all);

void distw_timeline_enqueue(struct distw_timeline_sleeper *sleeper);
void distw_timeline_dequeue(struct distw_timeline_sleeper *sleeper);

#endif /* _DISTWORKER_TIMELINE_H */
