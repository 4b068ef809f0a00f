/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: hubs and mailboxes: their life, the references to them, and every change
 * of their states.
 *
 * Objects
 *
 *   struct distw_hub	 one open of /dev/distworker; HUB_SETUP gives it memory and an owner.
 *			 Counted: the device's file holds one reference, each endpoint
 *			 file one. A mapping holds its file, so memory outlives its mappings.
 *   struct distw_mailbox an element of the hub's array; lives as long as the hub.
 *   struct distw_peer	 the process that attached to one generation of a mailbox. Counted:
 *			 the mailbox holds one reference until it is re-armed or the hub is
 *			 freed, each mapping of that generation one.
 *   struct distw_queue	 the threads that sleep at one end: a hub has one (its owner's),
 *			 each mailbox has one (its peer's).
 *   struct distw_timeline the threads that sleep until a mailbox's count is reached; each is
 *			 in the queue of its own mailbox, too.
 *   struct distw_watch	 of one address space: of a hub's owner until the hub is freed; of a
 *			 peer until its mailbox is re-armed or the hub is freed.
 *
 * States of a mailbox
 *
 *   FREE ---attach---> ATTACHED ---exit, exec, detach---> DEAD
 *    ^ \__re-arm__/                                         |
 *    \______________________re-arm__________________________/
 *
 *   Re-arming zeroes the memory in place. No thread can then still look at it from
 *   the last generation: an exit or an exec has left none that could, and detach is
 *   refused while the peer has the mailbox mapped, as re-arming is while another process
 *   has the peer's address space and the mailbox mapped in it; a debugger's look asks for
 *   the generation; and the pages cannot be pinned: see memory.c.
 *
 * Locks, outermost first
 *
 *   1. hub->mutex	 set-up, binds and re-arms exclude each other
 *   2. mm->mmap_lock	 the core holds it around ->mmap, ->fault, vm_ops
 *   3. hub->lock	 state, binding, generation and mappings of the mailboxes
 *   4. waiters.lock	 of a queue: its sleepers, the noted task, the "asleep" word; of a
 *			 timeline: its sleepers, the "awaited" word
 *
 *   Nothing here runs in interrupts. The end of an address space takes 3. and 4. Waits and wake-ups
 *   take 4. only; they read a mailbox's state without a lock, the state or the generation first and
 *   with acquire, and every change of it is followed by a wake-up of those that may have read the
 *   old one.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_MAILBOX_H
#define _DISTWORKER_MAILBOX_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>

#include "queue.h"
#include "timeline.h"
#include "uapi/linux/distworker.h"
#include "watch.h"

/* Masks live on the stack of the waiter; a scan of all words must stay short. */
#define DISTW_MAX_MAILBOXES	1024
#define DISTW_MASK_WORDS	(DISTW_MAX_MAILBOXES / 64)

struct distw_peer {
	struct kref kref;
	struct distw_watch watch;
	struct distw_mailbox *mailbox;
	struct task_struct *task;	/* counted: a thread of the process, for its exit code */

	/* hub->lock */
	u32 mapped;			/* mappings of the mailbox */
	bool left;			/* others may run in the dead peer's address space */
};

struct distw_mailbox {
	struct distw_queue queue;	/* the peer's */
	struct distw_hub *hub;
	u32 index;
	void *memory;
	struct distworker_mailbox *shared;
	struct distw_timeline timeline;

	/* hub->lock; the first four are also read without it */
	enum distworker_mailbox_state state;
	u64 generation;
	struct mm_struct *mm;		/* the attached peer's, to be compared, never used */
	struct pid *tgid;		/* the last peer's, to be compared, never used */
	enum distworker_death_cause cause;
	int status;			/* as wait(2) gives it */
	struct pid *pid;		/* counted: the bound process, the dead one */
	struct distw_peer *peer;	/* ATTACHED, DEAD; counted */
} __aligned(DISTWORKER_LINE_BYTES);

struct distw_hub {
	struct kref kref;
	u32 id;				/* for tracing and fdinfo */

	/* Set up once, under mutex; mm last. */
	struct distworker_hub_setup layout;	/* the answer of the set-up */
	void *memory;			/* the mapping; the hub's line comes first */
	struct distworker_hub_state *state;
	struct distw_mailbox *mailbox;
	u64 all[DISTW_MASK_WORDS];	/* a mask of all mailboxes */
	struct pid *pid;		/* counted: the owner's thread group */
	struct mm_struct *mm;		/* the owner's, to be compared, never used */
	struct distw_watch watch;	/* over the owner */
	int orphaned;			/* set once, without a lock */

	struct distw_queue queue __aligned(DISTWORKER_LINE_BYTES);	/* the owner's */
	struct mutex mutex;
	spinlock_t lock;		/* see above */
	u32 kick_seen;			/* by the last wait; for poll, unlocked */
	bool changed_any;		/* lock; also read once without it */
	u64 changed[DISTW_MASK_WORDS];	/* lock: state changes not reported yet */
};

/* Arguments of calls */

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

/* A shorter struct of the caller gets its part, the rest of a longer one stays zero. */
static inline int distw_copy_out(void __user *uarg, const void *arg, size_t ksize)
{
	return copy_to_user(uarg, arg, min_t(size_t, ksize, *(const u32 *)arg)) ? -EFAULT : 0;
}

/* The most that a hub may have */
u32 distw_mailboxes_limit(void);
u32 distw_mailbox_bytes_limit(void);

/* Life */
int distw_hub_open(struct inode *inode, struct file *file);
int distw_hub_set_up(struct distw_hub *hub, void __user *uarg, u32 size);
int distw_hub_check_owner(struct distw_hub *hub);
int distw_hub_flush(struct file *file, fl_owner_t id);
int distw_hub_release(struct inode *inode, struct file *file);
int distw_endpoint_release(struct inode *inode, struct file *file);

/* Transitions */
int distw_mailbox_bind(struct distw_mailbox *mailbox, struct distworker_mailbox_bind *arg);
int distw_mailbox_rearm(struct distw_mailbox *mailbox, struct distworker_mailbox_bind *arg);
int distw_mailbox_attach(struct distw_mailbox *mailbox, void __user *uarg, u32 size);
int distw_mailbox_end(struct distw_mailbox *mailbox, struct distw_peer *peer,
		      enum distworker_death_cause cause);
int distw_endpoint_flush(struct file *file, fl_owner_t id);

/* Looking */
int distw_mailbox_check_peer(struct distw_mailbox *mailbox, u64 *generation);
void distw_mailbox_read(struct distw_mailbox *mailbox, struct distworker_mailbox_query *arg);
bool distw_hub_take_changes(struct distw_hub *hub, u64 *changed, u32 words);
void distw_hub_return_changes(struct distw_hub *hub, const u64 *changed, u32 words);

/* Mappings of one generation */
struct distw_peer *distw_peer_map(struct distw_mailbox *mailbox);
void distw_peer_mapped(struct distw_peer *peer, int change);
int distw_peer_access(struct distw_peer *peer, size_t offset, void *buffer, int bytes, bool write);

#endif /* _DISTWORKER_MAILBOX_H */
