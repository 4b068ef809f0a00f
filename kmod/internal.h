/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: the objects, who holds whom, and the order of the locks.
 *
 * Objects
 *
 *   struct dw_hub	one open of /dev/distworker after HUB_SETUP. Counted: the
 *			hub's file holds one reference, each endpoint file one.
 *			A mapping holds its file, so memory outlives its mappings.
 *   struct dw_mailbox	an element of the hub's array; lives as long as the hub.
 *   struct dw_side	who sleeps at one end: a hub has one (its owner's), each
 *			mailbox has one (its peer's).
 *   struct dw_process	the watch over one address space: of a hub's owner, until
 *			the hub is freed; of a mailbox's peer, from its attachment
 *			until the mailbox is re-armed or the hub is freed. It holds
 *			no reference: who frees a hub ends its watches first.
 *
 * States of a mailbox
 *
 *   FREE ---attach---> ATTACHED ---exit, exec, detach---> DEAD
 *    ^ \__re-arm__/                                         |
 *    \______________________re-arm__________________________/
 *
 *   Re-arming zeroes the memory in place. Nobody can then still look at it from
 *   the last generation: an exit or an exec has left no thread that could, and
 *   detach is refused while the peer has the mailbox mapped, as re-arming is while
 *   another process has the peer's address space and the mailbox mapped in it; and
 *   the pages cannot be pinned: see dw_memory_map().
 *
 * Locks, outermost first
 *
 *   1. mm->mmap_lock	the core holds it around ->mmap, ->fault, vm_ops
 *   2. hub->mutex	binds and re-arms exclude each other
 *   3. hub->lock	state, binding, generation and mappings of the mailboxes
 *   4. side->waiters.lock	who sleeps, the noted task, the "asleep" word
 *
 *   dw_list_lock (all hubs) and dw_user_lock (the limits) are taken alone, but
 *   for hub->lock inside of dw_list_lock. Nothing here runs in interrupts. A watch is
 *   begun and ended without any lock; the end of an address space takes 3. and 4.
 *   Waits and wake-ups take side->waiters.lock only; what they read of a mailbox's
 *   state they read once, unlocked, and every change of it is followed by a
 *   wake-up of those who may have read the old one.
 *
 * Copyright (C) 2026 distworker authors
 */
#ifndef _DISTWORKER_INTERNAL_H
#define _DISTWORKER_INTERNAL_H

#include <linux/atomic.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "compat.h"
#include "uapi/linux/distworker.h"

/* Masks live on the stack of the waiter; a scan of all words must stay short. */
#define DW_MAX_MAILBOXES	1024
#define DW_MASK_WORDS		(DW_MAX_MAILBOXES / 64)

struct dw_process;
struct seq_file;

struct dw_side {
	wait_queue_head_t waiters;	/* threads in HUB_WAIT or ENDPOINT_WAIT */
	wait_queue_head_t pollers;	/* poll, epoll, io_uring */
	atomic_t *asleep;		/* DISTWORKER_ASLEEP_*, in the shared memory */

	/* waiters.lock */
	struct task_struct *task;	/* counted: who last waited or woke from here */
	u64 wakes;			/* threads that were woken */

	/* Tuned without a lock: a lost update costs one wrong guess. */
	u32 spin_ns;			/* what a wait may spin before it sleeps */
	u32 offer_losses;		/* offers of the CPU in a row that were futile */
	u32 offer_skip;			/* waits that make none before the next */

	atomic64_t sleeps;
	atomic64_t sleep_ns;
	atomic64_t spins_won;
	atomic64_t spins_lost;
};

struct dw_sleeper {
	struct wait_queue_entry entry;
	struct dw_side *side;
	bool queued;			/* side->waiters.lock to set, unlocked to look */
};

/* What the thread that may end a wait is doing. */
enum dw_place {
	DW_PEER_AWAY,		/* asleep, or somewhere else */
	DW_PEER_QUEUED_HERE,	/* it wants to run on this CPU */
	DW_PEER_RUNS,		/* on another CPU, right now */
};

struct dw_mailbox {
	struct dw_hub *hub;
	struct distworker_mailbox *shared;
	struct dw_side side;		/* the peer's */

	/* hub->lock; state and generation are also read once without it */
	enum distworker_mailbox_state state;
	u32 generation;
	u32 mapped;			/* mappings of this generation */
	bool left;			/* others may run in the dead peer's address space */
	enum distworker_death_cause cause;
	int status;			/* as wait(2) gives it */
	struct pid *pid;		/* counted: the bound process, the dead one */
	struct mm_struct *mm;		/* the peer's, to be compared, never used */
	struct pid *tgid;		/* the last peer's, to be compared, never used */
	struct dw_process *process;	/* ATTACHED, DEAD: the watch over the peer */
	struct task_struct *task;	/* counted while ATTACHED, for its exit code */
};

struct dw_hub {
	struct kref kref;
	u32 id;				/* for tracing and debugfs */
	u32 mailboxes;
	u32 mailbox_bytes;
	u64 last_word;			/* of a mask: the bits that have a mailbox */
	size_t bytes;			/* of the whole mapping */
	size_t mailbox_offset;
	void *memory;			/* the mapping, in order: */
	struct distworker_hub_line *line;
	struct distworker_hub_state *state;
	struct dw_side side;		/* the owner's */

	struct pid *pid;		/* counted: the owner's thread group */
	struct mm_struct *mm;		/* the owner's, to be compared, never used */
	struct dw_process *process;	/* the watch over the owner */
	struct dw_user *user;		/* counted: whose limits this hub uses up */
	struct list_head all;		/* dw_list_lock */

	struct mutex mutex;		/* outside of lock: one bind or re-arm at a time */
	spinlock_t lock;		/* what the mailboxes and the fields below say */
	u32 kick_seen;			/* by the last wait; for poll, unlocked */
	bool orphaned;			/* lock; also read once without it */
	bool changed_any;		/* lock; also read once without it */
	u64 changed[DW_MASK_WORDS];	/* lock: state changes not reported yet */

	struct dw_mailbox mailbox[];
};

/* main.c: the device, the limits, the arguments */
u32 dw_mailboxes_limit(void);
u32 dw_mailbox_bytes_limit(void);
struct dw_user *dw_user_charge(size_t bytes);
void dw_user_uncharge(struct dw_user *user, size_t bytes);
int dw_copy_in(void *arg, size_t ksize, size_t min, const void __user *uarg);
int dw_copy_out(void __user *uarg, const void *arg, size_t ksize);
int dw_query(void __user *uarg);

/* hub.c: the owner's file */
extern const struct file_operations dw_hub_fops;
int dw_memory_map(struct vm_area_struct *vma, void *memory, size_t bytes, unsigned long pgoff);
vm_fault_t dw_memory_fault(struct vm_fault *vmf, void *address);
void dw_hub_note_change(struct dw_hub *hub, struct dw_mailbox *mailbox);
void dw_hub_orphan(struct dw_hub *hub);
void dw_hub_put(struct dw_hub *hub);

static inline u32 dw_mailbox_index(const struct dw_mailbox *mailbox)
{
	return mailbox - mailbox->hub->mailbox;
}

/* endpoint.c: the peer's file */
int dw_endpoint_create(struct dw_mailbox *mailbox, struct distworker_mailbox_create *arg,
		       void __user *uarg);

/* side.c: sleeping at one end, and being woken */
#define DW_SPIN_START_NS	10000
void dw_side_init(struct dw_side *side, __u32 *asleep);
void dw_side_reset(struct dw_side *side);
void dw_side_note_task(struct dw_side *side);
void dw_side_forget_task(struct dw_side *side);
enum dw_place dw_side_locate(struct dw_side *side, struct task_struct **peer);
u64 dw_side_wakes(struct dw_side *side);
void dw_side_show(struct dw_side *side, struct seq_file *m);
void dw_side_arm_poll(struct dw_side *side);
bool dw_side_wake(struct dw_side *side, bool sync);
void dw_side_pass_on(struct dw_side *side);
void dw_side_wake_all(struct dw_side *side);
void dw_sleeper_init(struct dw_sleeper *sleeper, struct dw_side *side);
void dw_sleeper_enqueue(struct dw_sleeper *sleeper);
bool dw_sleeper_dequeue(struct dw_sleeper *sleeper);

/* wait.c: the calls that wait and wake */
extern unsigned int dw_spin_max_ns;
long dw_hub_wait(struct dw_hub *hub, void __user *uarg);
long dw_hub_wake(struct dw_hub *hub, void __user *uarg);
u32 dw_hub_events(struct dw_hub *hub, u32 kick_seen, const u64 *watch, u64 *ready, u32 words);
long dw_endpoint_wait(struct dw_mailbox *mailbox, u32 generation, void __user *uarg);
long dw_endpoint_wake(struct dw_mailbox *mailbox);
u32 dw_endpoint_events(struct dw_mailbox *mailbox, u32 seen);

/* process.c: death */
struct dw_process *dw_process_watch(struct dw_hub *hub, struct dw_mailbox *mailbox);
void dw_process_unwatch(struct dw_process *process);
bool dw_process_left(struct pid *pid, struct mm_struct *mm);
int dw_mailbox_end(struct dw_mailbox *mailbox, struct dw_process *process,
		   enum distworker_death_cause cause);

/* debugfs.c: /sys/kernel/debug/distworker, fdinfo */
void dw_debugfs_init(void);
void dw_debugfs_exit(void);
void dw_debugfs_add(struct dw_hub *hub);
void dw_debugfs_remove(struct dw_hub *hub);
void dw_hub_show(struct dw_hub *hub, struct seq_file *m);
void dw_mailbox_show(struct dw_mailbox *mailbox, struct seq_file *m);

#endif /* _DISTWORKER_INTERNAL_H */
