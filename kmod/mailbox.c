// SPDX-License-Identifier: GPL-2.0-only
/*
 * distworker: hubs and mailboxes: their life, the references to them, and every change
 * of their states. The only file that takes hub->lock. mailbox.h has the rules.
 *
 * Only the process that set a hub up may use it: a child may have inherited the file, but
 * not the rights to it. Files of a mailbox travel with every fork, so having one gives no
 * right: only the process that the owner bound the mailbox to may attach, and only the
 * attached one may map, wait, wake and detach.
 *
 * Copyright (C) 2026 distworker authors
 */

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "events.h"
#include "mailbox.h"

static unsigned int max_mailboxes = DISTW_MAX_MAILBOXES;
module_param(max_mailboxes, uint, 0644);
MODULE_PARM_DESC(max_mailboxes, "mailboxes per hub, at most 1024");

static unsigned int max_mailbox_bytes = 16 << 20;
module_param(max_mailbox_bytes, uint, 0644);
MODULE_PARM_DESC(max_mailbox_bytes, "bytes per mailbox, at most 256 MiB");

static atomic_t hub_last_id = ATOMIC_INIT(0);

u32 distw_mailboxes_limit(void)
{
	return min_t(u32, READ_ONCE(max_mailboxes), DISTW_MAX_MAILBOXES);
}

/* The hub's line lies behind the mailbox in the offsets of an endpoint. */
u32 distw_mailbox_bytes_limit(void)
{
	return min_t(u32, READ_ONCE(max_mailbox_bytes), DISTWORKER_HUB_LINE_OFFSET);
}

/* Life of a hub */

/**
 * distw_hub_open() - a hub without memory, mailboxes and owner
 * @inode: of the device
 * @file: becomes the hub; misc_open() has left the device in it
 */
int distw_hub_open(struct inode *inode, struct file *file)
{
	struct distw_hub *hub = kzalloc(sizeof(*hub), GFP_KERNEL_ACCOUNT);

	if (!hub)
		return -ENOMEM;
	kref_init(&hub->kref);
	mutex_init(&hub->mutex);
	spin_lock_init(&hub->lock);
	hub->id = atomic_inc_return(&hub_last_id);
	distw_queue_init(&hub->queue);
	file->private_data = hub;
	return 0;
}

static void peer_free(struct kref *kref)
{
	struct distw_peer *peer = container_of(kref, struct distw_peer, kref);

	put_task_struct(peer->task);
	kfree(peer);
}

/* The mailbox lets go of its peer. */
static void peer_forget(struct distw_peer *peer)
{
	if (!peer)
		return;
	distw_watch_end(&peer->watch);
	kref_put(&peer->kref, peer_free);
}

static void hub_deallocate(struct distw_hub *hub)
{
	vfree(hub->memory);
	kvfree(hub->mailbox);
	hub->memory = NULL;
	hub->mailbox = NULL;
}

static void hub_free(struct kref *kref)
{
	struct distw_hub *hub = container_of(kref, struct distw_hub, kref);
	u32 i;

	for (i = 0; i < hub->layout.mailboxes; i++) {
		struct distw_mailbox *mailbox = &hub->mailbox[i];

		peer_forget(mailbox->peer);
		distw_queue_forget_task(&mailbox->queue);
		put_pid(mailbox->pid);
	}
	if (hub->mm)
		distw_watch_end(&hub->watch);
	distw_queue_forget_task(&hub->queue);
	put_pid(hub->pid);
	hub_deallocate(hub);
	kfree(hub);
}

/* The owner is gone, or has closed the hub: it will never post again. */
static void hub_orphan(struct distw_hub *hub)
{
	u32 i;

	if (!hub->mm || xchg(&hub->orphaned, true))
		return;
	trace_distworker_death(hub->id, -1, pid_nr(hub->pid), DISTWORKER_DEATH_NONE, 0);
	/* Endpoints may keep the hub for long; its owner's thread will not come back. */
	distw_queue_forget_task(&hub->queue);
	distw_queue_wake_all(&hub->queue);
	for (i = 0; i < hub->layout.mailboxes; i++) {
		distw_queue_wake_all(&hub->mailbox[i].queue);
		cond_resched();
	}
}

static void owner_ended(struct distw_watch *watch)
{
	hub_orphan(container_of(watch, struct distw_hub, watch));
}

/**
 * distw_hub_flush() - the owner may have left its address space to others
 * @file: the hub
 * @id: whose table of files it leaves
 */
int distw_hub_flush(struct file *file, fl_owner_t id)
{
	struct distw_hub *hub = file->private_data;
	/* Pairs with distw_hub_set_up(). */
	struct mm_struct *mm = smp_load_acquire(&hub->mm);

	if (distw_mm_was_left(mm, hub->pid))
		hub_orphan(hub);
	return 0;
}

/**
 * distw_hub_release() - the last copy of the file is closed
 * @inode: of the device
 * @file: the hub
 */
int distw_hub_release(struct inode *inode, struct file *file)
{
	struct distw_hub *hub = file->private_data;

	hub_orphan(hub);
	kref_put(&hub->kref, hub_free);
	return 0;
}

/**
 * distw_endpoint_release() - the last copy of the file and the last mapping are gone
 * @inode: that of all anonymous files
 * @file: the endpoint, which holds its hub
 */
int distw_endpoint_release(struct inode *inode, struct file *file)
{
	struct distw_mailbox *mailbox = file->private_data;

	kref_put(&mailbox->hub->kref, hub_free);
	return 0;
}

/*
 * Never wakes the OOM killer: the memory of hubs is in no process's resident set.
 * @arg: in: how many mailboxes and how large; out: the rest
 */
static int hub_allocate(struct distw_hub *hub, struct distworker_hub_setup *arg)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN | __GFP_RETRY_MAYFAIL;
	u32 i, wanted = arg->mailbox_bytes;

	arg->mailbox_bytes = PAGE_ALIGN(wanted);
	arg->state_offset = PAGE_ALIGN(sizeof(struct distworker_hub_line));
	arg->mailbox_offset = arg->state_offset +
			      PAGE_ALIGN(struct_size(hub->state, seen, arg->mailboxes));
	/*
	 * Headers are spread over the room that the rounding to whole pages has left: it costs
	 * nothing, and it is more where pages are large and so the collisions worse.
	 */
	arg->header_step = DISTWORKER_LINE_BYTES;
	arg->header_slots = (arg->mailbox_bytes - wanted) / DISTWORKER_LINE_BYTES + 1;
	arg->timeline_offset = 0;
	if (arg->flags & DISTWORKER_SETUP_TIMELINES) {
		arg->timeline_offset = arg->mailbox_bytes;
		arg->mailbox_bytes += PAGE_SIZE;
	}
	arg->mapping_bytes = arg->mailbox_offset + (u64)arg->mailboxes * arg->mailbox_bytes;
	if (arg->mapping_bytes != (size_t)arg->mapping_bytes)
		return -ENOMEM;
	hub->mailbox = kvmalloc_array(arg->mailboxes, sizeof(*hub->mailbox), gfp);
	hub->memory = __vmalloc(arg->mapping_bytes, gfp);
	if (!hub->mailbox || !hub->memory)
		return -ENOMEM;
	hub->state = hub->memory + arg->state_offset;
	for (i = 0; i < arg->mailboxes; i++) {
		struct distw_mailbox *mailbox = &hub->mailbox[i];

		mailbox->hub = hub;
		mailbox->index = i;
		mailbox->memory = hub->memory + arg->mailbox_offset +
				  (size_t)i * arg->mailbox_bytes;
		mailbox->shared = mailbox->memory + i % arg->header_slots * arg->header_step;
		mailbox->generation = 1;
		distw_queue_init(&mailbox->queue);
		distw_queue_share(&mailbox->queue, &mailbox->shared->asleep);
		distw_timeline_init(&mailbox->timeline, arg->timeline_offset ?
				    mailbox->memory + arg->timeline_offset : NULL);
	}
	return 0;
}

/**
 * distw_hub_set_up() - give a hub memory, mailboxes, and the current process as its owner
 * @hub: the hub
 * @uarg: the arguments
 * @size: how long they are, as the command says
 *
 * A call that fails has changed nothing, and has written nothing but for -EFAULT.
 */
int distw_hub_set_up(struct distw_hub *hub, void __user *uarg, u32 size)
{
	struct distworker_hub_setup arg;
	u32 i, limit;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), size, uarg);
	if (ret)
		return ret;
	limit = distw_mailbox_bytes_limit();
	if (arg.flags & DISTWORKER_SETUP_TIMELINES)
		limit -= min_t(u32, limit, PAGE_SIZE);
	if (arg.flags & ~DISTWORKER_SETUP_TIMELINES ||
	    !arg.mailboxes || arg.mailboxes > distw_mailboxes_limit() ||
	    arg.mailbox_bytes < sizeof(struct distworker_mailbox) || arg.mailbox_bytes > limit)
		return -EINVAL;
	if (mutex_lock_interruptible(&hub->mutex))
		return -ERESTARTSYS;
	if (hub->mm) {
		ret = distw_hub_check_owner(hub) ?: -EBUSY;
		goto unlock;
	}
	ret = hub_allocate(hub, &arg);
	if (ret)
		goto err_memory;
	ret = distw_watch_begin(&hub->watch, owner_ended);
	if (ret)
		goto err_memory;
	ret = distw_copy_out(uarg, &arg, sizeof(arg));
	if (ret)
		goto err_watch;

	/* Nothing can fail any more. */
	hub->layout = arg;
	for (i = 0; i < arg.mailboxes; i++)
		hub->all[i / 64] |= 1ULL << i % 64;
	/* The mapping begins with the hub's line, and that with "asleep". */
	distw_queue_share(&hub->queue, hub->memory);
	hub->pid = get_pid(task_tgid(current));
	/* Publishes all of it; pairs with distw_hub_check_owner() and ->poll. */
	smp_store_release(&hub->mm, current->mm);
	distw_queue_renew(&hub->queue);
unlock:
	mutex_unlock(&hub->mutex);
	return ret;

err_watch:
	distw_watch_end(&hub->watch);
err_memory:
	hub_deallocate(hub);
	goto unlock;
}

/**
 * distw_hub_check_owner() - may the current process use the hub?
 * @hub: the hub
 *
 * Return: 0, -EBADFD if it is not set up, -EPERM.
 */
int distw_hub_check_owner(struct distw_hub *hub)
{
	/* Pairs with distw_hub_set_up(). */
	struct mm_struct *mm = smp_load_acquire(&hub->mm);

	if (!mm)
		return -EBADFD;
	return mm == current->mm && hub->pid == task_tgid(current) ? 0 : -EPERM;
}

/* A mailbox was attached, has died or can be re-armed; the caller wakes the owner afterwards. */
static void hub_note_change(struct distw_hub *hub, struct distw_mailbox *mailbox)
{
	lockdep_assert_held(&hub->lock);
	hub->changed[mailbox->index / 64] |= 1ULL << mailbox->index % 64;
	WRITE_ONCE(hub->changed_any, true);
}

/* Transitions of a mailbox */

/**
 * distw_mailbox_bind() - only the process with that number may attach from now on
 * @mailbox: the mailbox
 * @arg: in: pid; out: generation
 */
int distw_mailbox_bind(struct distw_mailbox *mailbox, struct distworker_mailbox_bind *arg)
{
	struct distw_hub *hub = mailbox->hub;
	struct pid *pid;
	int ret = 0;

	if (arg->pid <= 0)
		return -EINVAL;
	rcu_read_lock();
	pid = find_vpid(arg->pid);
	pid = pid_task(pid, PIDTYPE_TGID) ? get_pid(pid) : NULL;
	rcu_read_unlock();
	if (!pid)
		return -ESRCH;
	mutex_lock(&hub->mutex);
	spin_lock(&hub->lock);
	if (mailbox->state == DISTWORKER_MAILBOX_FREE) {
		swap(mailbox->pid, pid);
		arg->generation = mailbox->generation;
	} else {
		ret = -EBUSY;
	}
	spin_unlock(&hub->lock);
	mutex_unlock(&hub->mutex);
	put_pid(pid);
	return ret;
}

static void mailbox_zero(struct distw_mailbox *mailbox)
{
	const struct distworker_hub_setup *layout = &mailbox->hub->layout;
	u32 offset, end = layout->timeline_offset ?: layout->mailbox_bytes;

	for (offset = 0; offset < end; offset += PAGE_SIZE) {
		memset(mailbox->memory + offset, 0, PAGE_SIZE);
		cond_resched();
	}
	if (mailbox->timeline.shared)
		distw_timeline_rearm(&mailbox->timeline);
}

/**
 * distw_mailbox_rearm() - DEAD or FREE -> FREE, unbound, of the next generation
 * @mailbox: the mailbox
 * @arg: out: generation
 *
 * After -EBUSY the owner is told of a change of the mailbox when it can try again: its death, or
 * the end of the last mapping in the dead peer's address space.
 */
int distw_mailbox_rearm(struct distw_mailbox *mailbox, struct distworker_mailbox_bind *arg)
{
	struct distw_hub *hub = mailbox->hub;
	struct distw_peer *peer;
	struct pid *pid = NULL;
	int ret = 0;

	if (arg->pid)
		return -EINVAL;
	mutex_lock(&hub->mutex);
	spin_lock(&hub->lock);
	peer = mailbox->peer;
	if (mailbox->state == DISTWORKER_MAILBOX_ATTACHED || (peer && peer->left && peer->mapped)) {
		ret = -EBUSY;
	} else {
		swap(mailbox->pid, pid);
		mailbox->peer = NULL;
		mailbox->cause = DISTWORKER_DEATH_NONE;
		mailbox->status = 0;
		WRITE_ONCE(mailbox->generation, mailbox->generation + 1);
		/* The generation first; pairs with wait_ready(). */
		smp_store_release(&mailbox->state, DISTWORKER_MAILBOX_FREE);
		arg->generation = mailbox->generation;
		/* A death that was not reported yet matters no more. */
		hub->changed[mailbox->index / 64] &= ~(1ULL << mailbox->index % 64);
		WRITE_ONCE(hub->changed_any, memchr_inv(hub->changed, 0, sizeof(hub->changed)));
	}
	spin_unlock(&hub->lock);
	if (!ret) {
		/* Unbound, and binding it waits for this. */
		mailbox_zero(mailbox);
		distw_queue_reset(&mailbox->queue);
		distw_queue_renew(&mailbox->queue);
	}
	mutex_unlock(&hub->mutex);
	if (!ret)
		peer_forget(peer);
	put_pid(pid);
	return ret;
}

/*
 * The status that wait(2) gives, or already gave, for the peer. All its threads are past the
 * point where the code is set. The leader is found by its pid, since exec by another
 * thread replaces it; it may be reaped if another process kept the address space.
 */
static void mailbox_read_exit(struct distw_mailbox *mailbox)
{
	struct task_struct *task;

	lockdep_assert_held(&mailbox->hub->lock);
	rcu_read_lock();
	task = pid_task(mailbox->pid, PIDTYPE_TGID);
	if (task && !(READ_ONCE(task->flags) & PF_EXITING)) {
		mailbox->cause = DISTWORKER_DEATH_EXEC;
	} else {
		task = task ?: mailbox->peer->task;
		mailbox->status = READ_ONCE(task->signal->flags) & SIGNAL_GROUP_EXIT ?
				  READ_ONCE(task->signal->group_exit_code) :
				  READ_ONCE(task->exit_code);
	}
	rcu_read_unlock();
}

/**
 * distw_mailbox_end() - ATTACHED -> DEAD
 * @mailbox: the mailbox
 * @peer: whose address space has ended; NULL: that of the current process
 * @cause: EXIT, or DETACH, which is refused while the process has the mailbox mapped
 */
int distw_mailbox_end(struct distw_mailbox *mailbox, struct distw_peer *peer,
		      enum distworker_death_cause cause)
{
	struct distw_hub *hub = mailbox->hub;
	bool left = false;
	int ret = 0;

	/* A process that only looks into it asks for the generation: see distw_peer_access(). */
	if (!peer && cause == DISTWORKER_DEATH_EXIT)
		left = distw_mm_is_shared(READ_ONCE(mailbox->mm));
	spin_lock(&hub->lock);
	if (!peer && mailbox->pid == task_tgid(current))
		peer = mailbox->peer;
	if (!peer || mailbox->peer != peer || mailbox->state != DISTWORKER_MAILBOX_ATTACHED)
		ret = -ENOTCONN;
	else if (cause == DISTWORKER_DEATH_DETACH && peer->mapped)
		ret = -EBUSY;
	if (ret) {
		spin_unlock(&hub->lock);
		return ret;
	}
	mailbox->cause = cause;
	peer->left = left;
	if (cause == DISTWORKER_DEATH_EXIT)
		mailbox_read_exit(mailbox);
	/* Pairs with wait_ready(). */
	smp_store_release(&mailbox->state, DISTWORKER_MAILBOX_DEAD);
	WRITE_ONCE(mailbox->mm, NULL);
	hub_note_change(hub, mailbox);
	trace_distworker_death(hub->id, mailbox->index, pid_nr(mailbox->pid), mailbox->cause,
			       mailbox->status);
	spin_unlock(&hub->lock);

	distw_queue_forget_task(&mailbox->queue);
	/* The owner; and threads of a peer that detached. */
	distw_queue_wake_all(&hub->queue);
	distw_queue_wake_all(&mailbox->queue);
	return 0;
}

static int mailbox_check_attach(struct distw_mailbox *mailbox)
{
	lockdep_assert_held(&mailbox->hub->lock);
	if (READ_ONCE(mailbox->hub->orphaned))
		return -EOWNERDEAD;
	if (!mailbox->pid || mailbox->state == DISTWORKER_MAILBOX_DEAD)
		return -ENOTCONN;
	if (mailbox->pid != task_tgid(current))
		return -EPERM;
	if (mailbox->state == DISTWORKER_MAILBOX_ATTACHED)
		return -EBUSY;
	return 0;
}

static void peer_ended(struct distw_watch *watch)
{
	struct distw_peer *peer = container_of(watch, struct distw_peer, watch);

	distw_mailbox_end(peer->mailbox, peer, DISTWORKER_DEATH_EXIT);
}

/**
 * distw_mailbox_attach() - FREE -> ATTACHED: the current process becomes the peer
 * @mailbox: a mailbox that is bound to it
 * @uarg: the arguments
 * @size: how long they are, as the command says
 *
 * A call that fails has changed nothing, and has written nothing but for -EFAULT.
 */
int distw_mailbox_attach(struct distw_mailbox *mailbox, void __user *uarg, u32 size)
{
	struct distworker_endpoint_attach arg, before;
	struct distw_hub *hub = mailbox->hub;
	struct distw_peer *peer;
	int ret;

	ret = distw_copy_in(&arg, sizeof(arg), sizeof(arg), size, uarg);
	if (ret)
		return ret;
	if (arg.flags)
		return -EINVAL;
	before = arg;
	spin_lock(&hub->lock);
	ret = mailbox_check_attach(mailbox);
	arg.generation = mailbox->generation;
	spin_unlock(&hub->lock);
	if (ret)
		return ret;
	peer = kzalloc(sizeof(*peer), GFP_KERNEL_ACCOUNT);
	if (!peer)
		return -ENOMEM;
	kref_init(&peer->kref);
	peer->mailbox = mailbox;
	ret = distw_watch_begin(&peer->watch, peer_ended);
	if (ret) {
		kfree(peer);
		return ret;
	}
	peer->task = get_task_struct(current);
	arg.index = mailbox->index;
	arg.mailbox_bytes = hub->layout.mailbox_bytes;
	arg.header_offset = (void *)mailbox->shared - mailbox->memory;
	arg.owner_pid = pid_vnr(hub->pid);
	/* The answer first, since it cannot fail after the attachment. */
	ret = distw_copy_out(uarg, &arg, sizeof(arg));
	if (ret)
		goto err_peer;

	spin_lock(&hub->lock);
	ret = mailbox_check_attach(mailbox);
	if (!ret && mailbox->generation != arg.generation)
		ret = -ENOTCONN;
	if (ret) {
		spin_unlock(&hub->lock);
		/* A race is lost: the answer is taken back. */
		distw_copy_out(uarg, &before, sizeof(before));
		goto err_peer;
	}
	mailbox->peer = peer;
	WRITE_ONCE(mailbox->tgid, mailbox->pid);
	/* The process first; pairs with distw_mailbox_check_peer(). */
	smp_store_release(&mailbox->mm, current->mm);
	/* Pairs with wait_ready(). */
	smp_store_release(&mailbox->state, DISTWORKER_MAILBOX_ATTACHED);
	hub_note_change(hub, mailbox);
	spin_unlock(&hub->lock);

	trace_distworker_attach(hub->id, mailbox->index, task_tgid_nr(current), arg.generation);
	distw_queue_note_task(&mailbox->queue);
	distw_queue_renew(&mailbox->queue);
	distw_queue_wake_all(&hub->queue);
	return 0;

err_peer:
	peer_forget(peer);
	return ret;
}

/**
 * distw_endpoint_flush() - the peer may have left its address space to others
 * @file: the endpoint
 * @id: whose table of files it leaves
 */
int distw_endpoint_flush(struct file *file, fl_owner_t id)
{
	struct distw_mailbox *mailbox = file->private_data;

	if (distw_mm_was_left(READ_ONCE(mailbox->mm), READ_ONCE(mailbox->tgid)))
		distw_mailbox_end(mailbox, NULL, DISTWORKER_DEATH_EXIT);
	return 0;
}

/* Looking */

/**
 * distw_mailbox_check_peer() - is the current process the peer?
 * @mailbox: the mailbox
 * @generation: out: of which generation
 *
 * Needs no lock: only the peer's own process can make it false, and a wait looks at state
 * and generation again.
 *
 * Return: 0, -ENOTCONN if there is no peer, -EPERM.
 */
int distw_mailbox_check_peer(struct distw_mailbox *mailbox, u64 *generation)
{
	struct mm_struct *mm;

	/*
	 * A thread of an older peer must not be taken for one of the next. Where 64 bits are
	 * read in halves, they can be of two generations only if the caller is no peer.
	 */
	*generation = READ_ONCE(mailbox->generation);
	smp_rmb(); /* the generation first; pairs with distw_mailbox_rearm() */
	/* Pairs with distw_mailbox_attach(): processes may share an address space. */
	mm = smp_load_acquire(&mailbox->mm);
	if (mm == current->mm && READ_ONCE(mailbox->tgid) == task_tgid(current))
		return 0;
	return mm ? -EPERM : -ENOTCONN;
}

/**
 * distw_mailbox_read() - state, history and counters of a mailbox
 * @mailbox: the mailbox
 * @arg: out
 */
void distw_mailbox_read(struct distw_mailbox *mailbox, struct distworker_mailbox_query *arg)
{
	spin_lock(&mailbox->hub->lock);
	arg->state = mailbox->state;
	arg->generation = mailbox->generation;
	arg->cause = mailbox->cause;
	arg->pid = pid_vnr(mailbox->pid);
	arg->status = mailbox->status;
	spin_unlock(&mailbox->hub->lock);
	arg->reserved = 0;
	arg->wakes = atomic64_read(&mailbox->queue.wakes);
	arg->sleeps = atomic64_read(&mailbox->queue.sleeps);
	arg->spins_won = atomic64_read(&mailbox->queue.spins_won);
	arg->spins_lost = atomic64_read(&mailbox->queue.spins_lost);
}

/**
 * distw_hub_take_changes() - the mailboxes whose state has changed since the last report
 * @hub: the hub
 * @changed: out: a mask
 * @words: in the mask, which has room for all mailboxes
 *
 * Return: false if another thread of the owner was faster.
 */
bool distw_hub_take_changes(struct distw_hub *hub, u64 *changed, u32 words)
{
	size_t bytes = words * sizeof(*changed);
	bool any;

	spin_lock(&hub->lock);
	any = hub->changed_any;
	memcpy(changed, hub->changed, bytes);
	memset(hub->changed, 0, bytes);
	WRITE_ONCE(hub->changed_any, false);
	spin_unlock(&hub->lock);
	return any;
}

/**
 * distw_hub_return_changes() - the report could not be delivered: the next wait gives it
 * @hub: the hub
 * @changed: the changes that were taken
 * @words: in the mask
 */
void distw_hub_return_changes(struct distw_hub *hub, const u64 *changed, u32 words)
{
	u32 i;

	spin_lock(&hub->lock);
	for (i = 0; i < words; i++)
		hub->changed[i] |= changed[i];
	WRITE_ONCE(hub->changed_any, true);
	spin_unlock(&hub->lock);
	distw_queue_wake_all(&hub->queue);
}

/* Mappings of one generation */

/**
 * distw_peer_map() - for ->mmap: counts a mapping of the current process
 * @mailbox: the mailbox
 *
 * Return: the peer, for the mapping to hold, or an error if it is another process.
 */
struct distw_peer *distw_peer_map(struct distw_mailbox *mailbox)
{
	struct distw_peer *peer;
	u64 generation;
	int ret;

	spin_lock(&mailbox->hub->lock);
	ret = distw_mailbox_check_peer(mailbox, &generation);
	peer = ret ? ERR_PTR(ret) : mailbox->peer;
	if (!ret) {
		kref_get(&peer->kref);
		peer->mapped++;
	}
	spin_unlock(&mailbox->hub->lock);
	return peer;
}

/**
 * distw_peer_mapped() - a mapping was copied or is gone
 * @peer: the peer that it holds
 * @change: 1 or -1
 */
void distw_peer_mapped(struct distw_peer *peer, int change)
{
	struct distw_mailbox *mailbox = peer->mailbox;
	struct distw_hub *hub = mailbox->hub;
	bool tell;

	if (change > 0)
		kref_get(&peer->kref);
	spin_lock(&hub->lock);
	peer->mapped += change;
	/* Re-arming is refused until then. */
	tell = !peer->mapped && peer->left && mailbox->peer == peer;
	if (tell)
		hub_note_change(hub, mailbox);
	spin_unlock(&hub->lock);
	if (tell)
		distw_queue_wake_all(&hub->queue);
	if (change < 0)
		kref_put(&peer->kref, peer_free);
}

/**
 * distw_peer_access() - a debugger looks into a mapping
 * @peer: the peer that the mapping holds
 * @offset: the place, in the memory of the mailbox
 * @buffer: the debugger's
 * @bytes: how many; at most a page of them is copied
 * @write: to the mapping, or from it
 *
 * The look may last longer than the generation, of which then nothing is left to be seen.
 *
 * Return: how many bytes were copied, or -EIO.
 */
int distw_peer_access(struct distw_peer *peer, size_t offset, void *buffer, int bytes, bool write)
{
	struct distw_mailbox *mailbox = peer->mailbox;
	void *memory = mailbox->memory + offset;

	bytes = min_t(int, bytes, PAGE_SIZE);
	spin_lock(&mailbox->hub->lock);
	if (mailbox->peer == peer)
		memcpy(write ? memory : buffer, write ? buffer : memory, bytes);
	else
		bytes = -EIO;
	spin_unlock(&mailbox->hub->lock);
	return bytes;
}
