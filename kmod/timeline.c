// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: a peer waits for the count of a sibling, without their owner.
 *
 * The word "awaited" of a timeline tells its peer the smallest count that a sibling sleeps
 * for, so that it calls only when that is reached. The rule that no wake-up is missing is
 * that of queue.c, with "awaited" for "asleep" and the count for the sequence word. A
 * sleeper stands in the queue of its own mailbox as well, for everything else that ends
 * its wait.
 *
 * The count and "awaited" are in memory that the peer writes. What it writes there can keep
 * asleep those that wait for it, until their owner wakes them; it does that when the peer is
 * dead, or not to be trusted.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/sched.h>
#include <linux/string.h>

#include "timeline.h"

/* The word "awaited" that says so; 0: no sibling sleeps. */
#define AWAITED(count)	((count) << 1 | 1)

/**
 * distw_timeline_init() - nobody waits
 * @timeline: the timeline
 * @shared: its words, zeroed, or NULL
 */
void distw_timeline_init(struct distw_timeline *timeline, struct distworker_timeline *shared)
{
	init_waitqueue_head(&timeline->waiters);
	timeline->shared = shared;
}

/* Writes "awaited" for those that sleep now. */
static void timeline_note_awaited(struct distw_timeline *timeline)
{
	struct distw_timeline_sleeper *sleeper;
	u32 count = READ_ONCE(timeline->shared->count);
	u32 awaited = 0, least = U32_MAX;

	lockdep_assert_held(&timeline->waiters.lock);
	list_for_each_entry(sleeper, &timeline->waiters.head, entry.entry) {
		u32 left = distw_count_reached(count, sleeper->count) ? 0 : sleeper->count - count;

		if (left < least) {
			least = left;
			awaited = AWAITED(sleeper->count);
		}
	}
	WRITE_ONCE(timeline->shared->awaited, awaited);
}

/**
 * distw_timeline_rearm() - zero the words and the rest of the page, for the next peer
 * @timeline: the timeline
 *
 * But for those that the owner wrote: they tell the siblings of the change.
 */
void distw_timeline_rearm(struct distw_timeline *timeline)
{
	const size_t rest = offsetof(struct distworker_timeline, awaited);
	void *page = timeline->shared;

	memset(page, 0, offsetof(struct distworker_timeline, generation));
	memset(page + rest, 0, PAGE_SIZE - rest);
	spin_lock(&timeline->waiters.lock);
	timeline_note_awaited(timeline);
	spin_unlock(&timeline->waiters.lock);
}

/* Of a count that is not reached yet, the sleeper stays. */
static int sleeper_wake(struct wait_queue_entry *entry, unsigned int mode, int flags, void *key)
{
	struct distw_timeline_sleeper *sleeper =
		container_of(entry, struct distw_timeline_sleeper, entry);
	const u32 *count = key;

	if (count && !distw_count_reached(*count, sleeper->count))
		return 0;
	default_wake_function(entry, mode, flags, NULL);
	list_del_init(&entry->entry);
	return 1;
}

/**
 * distw_timeline_wake() - the count has grown, or the owner has something to tell
 * @timeline: the timeline
 * @all: wake those that wait for a greater count, too
 *
 * The caller has passed a full barrier after the change.
 *
 * Return: whether there was a sleeper to be woken.
 */
bool distw_timeline_wake(struct distw_timeline *timeline, bool all)
{
	u32 count;
	bool was;

	spin_lock(&timeline->waiters.lock);
	count = READ_ONCE(timeline->shared->count);
	/* Exact: the queue is locked. */
	was = waitqueue_active(&timeline->waiters);
	__wake_up_locked_key(&timeline->waiters, TASK_INTERRUPTIBLE, all ? NULL : &count);
	/* Also if the word was wrong: the peer would call again and again. */
	timeline_note_awaited(timeline);
	spin_unlock(&timeline->waiters.lock);
	return was;
}

/**
 * distw_timeline_enqueue() - "awaited" and a full barrier; the caller then looks at the count
 * @sleeper: the current thread, already marked as sleeping
 */
void distw_timeline_enqueue(struct distw_timeline_sleeper *sleeper)
{
	struct distw_timeline *timeline = sleeper->timeline;

	init_waitqueue_func_entry(&sleeper->entry, sleeper_wake);
	sleeper->entry.private = current;
	spin_lock(&timeline->waiters.lock);
	__add_wait_queue(&timeline->waiters, &sleeper->entry);
	timeline_note_awaited(timeline);
	smp_mb(); /* pairs with that of the peer between its count and its look at "awaited" */
	spin_unlock(&timeline->waiters.lock);
}

/**
 * distw_timeline_dequeue() - the thread is awake again, for any reason
 * @sleeper: the current thread
 *
 * "awaited" may stay too small, which costs the peer a call.
 */
void distw_timeline_dequeue(struct distw_timeline_sleeper *sleeper)
{
	struct distw_timeline *timeline = sleeper->timeline;

	spin_lock(&timeline->waiters.lock);
	list_del_init(&sleeper->entry.entry);
	spin_unlock(&timeline->waiters.lock);
}
