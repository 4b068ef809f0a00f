// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The parent's waiting and waking: marks, the foreground wait, kicks, the bell,
 * changes of state. hub_wait() belongs to one foreground thread at a time; the
 * rest to any thread unless mailbox.h says [owner].
 *
 * Invariant: a thread that is about to sleep says so first ("asleep", full barrier) and then looks
 * at every watched ring once more; publishers do the reverse.
 */
#include <errno.h>
#include <string.h>
#include "base/bits.h"
#include "mailbox/provider.h"
#include "task/error.h"

static void count(atomic_ullong *counter, uint64_t by)
{
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* ------------------------------------------------------------ waking peers */

bool hub_mark_wake(struct hub *hub, uint32_t i)
{
	bool marked = mask_set(hub->marked, i);

	atomic_store_explicit(&hub->any_marked, true, memory_order_seq_cst);
	return marked;
}

/* Takes all marks over into `mask`; returns how many. */
static uint32_t take_marks(struct hub *hub, uint64_t *mask)
{
	uint32_t marks = 0;

	if (!atomic_load_explicit(&hub->any_marked, memory_order_relaxed) ||
	    !atomic_exchange_explicit(&hub->any_marked, false, memory_order_seq_cst))
		return 0;
	for (uint32_t word = 0; word < hub->words; word++) {
		mask[word] = atomic_exchange_explicit(&hub->marked[word], 0, memory_order_seq_cst);
		if (!mask[word])
			continue;
		for (uint64_t bits = mask[word]; bits; bits &= bits - 1)
			marks++;
		atomic_fetch_or_explicit(&hub->waking[word], mask[word], memory_order_relaxed);
	}
	if (marks) {
		count(&hub->wakes, 1);
		count(&hub->woken, marks);
	}
	return marks;
}

void hub_wake(struct hub *hub)
{
	uint64_t mask[hub->words];	/* several threads may be here at once */

	if (take_marks(hub, mask))
		hub->ops->wake(hub, mask);
}

/* ------------------------------------------------------ the foreground wait */

bool hub_completions_pending(struct hub *hub)
{
	/*
	 * Only rings with frames in them can have completions. A thread that sees a completion in a
	 * ring sees the ring as active, too, even while another thread fills it: hub_publish() sets
	 * the bit before the count.
	 */
	for (uint32_t word = 0; word < hub->words; word++) {
		uint64_t bits = atomic_load_explicit(&hub->active[word], memory_order_relaxed);

		for (uint32_t i; bits_next(&bits, word, &i);) {
			if (load_relaxed(&hub_mailbox(hub, i)->done) != load_relaxed(&hub->seen[i]))
				return true;
		}
	}
	return false;
}

static bool foreground_ready(void *context)
{
	struct hub *hub = context;

	return load_relaxed(hub->kick) != hub->kick_seen || hub_completions_pending(hub);
}

/*
 * Classifies the wait: SPIN_AWAKE when one of the busy peers is awake and was not just woken.
 * False: no peer is busy, so that spinning is pointless.
 */
static bool classify(struct hub *hub, enum spin_case *which)
{
	bool any = false;

	*which = SPIN_WAKING;
	for (uint32_t word = 0; word < hub->words; word++) {
		uint64_t bits = atomic_load_explicit(&hub->active[word], memory_order_relaxed);
		uint64_t waking = atomic_load_explicit(&hub->waking[word], memory_order_relaxed);

		any |= bits != 0;
		bits &= ~waking;
		for (uint32_t i; bits_next(&bits, word, &i);) {
			if (!peer_is_asleep(hub_mailbox(hub, i))) {
				*which = SPIN_AWAKE;
				return true;
			}
		}
	}
	return any;
}

static bool passed(uint64_t deadline_ns)
{
	return deadline_ns != DISTWORKER_NO_DEADLINE && now_ns() >= deadline_ns;
}

/* How long to look in user space. */
static uint32_t spin_time(struct hub *hub, enum spin_case *which)
{
	uint32_t window = 0, spin_hint;

	/* The module handles this case better: it knows whether the peer runs. */
	if (spin_possible(&hub->spin) && classify(hub, which) &&
	    !(*which == SPIN_WAKING && hub->ops->wake_and_wait))
		window = spin_choose(&hub->spin, *which,
				     load_relaxed(&hub->line->oversubscribed) != 0, false);
	/* Stays until the next wait: the peer reads it after the completion that ends this one. */
	spin_hint = window && *which == SPIN_WAKING && spin_is_attempt(&hub->spin);
	if (spin_hint != load_relaxed(&hub->line->spin_hint))
		store_relaxed(&hub->line->spin_hint, spin_hint);
	return window;
}

/* Returns whether the wait is over. */
static bool spin_briefly(struct hub *hub, uint64_t deadline_ns)
{
	enum spin_case which;
	uint32_t window = spin_time(hub, &which);
	uint64_t now;

	if (window == 0)
		return false;
	if (deadline_ns != DISTWORKER_NO_DEADLINE) {
		now = now_ns();
		if (now >= deadline_ns)
			return false;
		if (deadline_ns - now < window)
			window = (uint32_t)(deadline_ns - now);
	}
	return spin_until(&hub->spin, which, window, foreground_ready, hub);
}

int hub_wait(struct hub *hub, uint64_t deadline_ns)
{
	uint32_t marks = take_marks(hub, hub->wait_mask);
	int result = 0;

	if (foreground_ready(hub) || passed(deadline_ns)) {
		if (marks)
			hub->ops->wake(hub, hub->wait_mask);
		if (!foreground_ready(hub))
			result = -ETIMEDOUT;
		goto out;
	}
	if (marks && !hub->ops->wake_and_wait) {
		hub->ops->wake(hub, hub->wait_mask);
		marks = 0;
	}
	if (spin_briefly(hub, deadline_ns)) {
		if (marks)
			hub->ops->wake(hub, hub->wait_mask);
		goto out;
	}
	count(&hub->sleeps, 1);
	result = hub->ops->wait(hub, marks ? hub->wait_mask : NULL, deadline_ns);
	spin_slept(&hub->spin);
out:
	hub->kick_seen = __atomic_load_n(hub->kick, __ATOMIC_ACQUIRE);
	return result;
}

void hub_drive_begin(struct hub *hub)
{
	hub->driving = true;
	store_relaxed(&hub->line->driving, 1);
}

void hub_drive_end(struct hub *hub)
{
	hub->driving = false;
	store_relaxed(&hub->line->driving, 0);
	/*
	 * `driving` before the harvest that follows; partner: the barrier in the endpoint's
	 * check_notify(). Either the peer sees that no thread drives and rings the bell, or that
	 * harvest sees its count.
	 */
	full_barrier();
}

void hub_polled(struct hub *hub)
{
	store_relaxed(&hub->line->poll_count, hub->line->poll_count + 1);
}

void hub_kick(struct hub *hub)
{
	/*
	 * The count before "asleep" or `waiting`; partner: the barriers before the
	 * last look in the provider's wait().
	 */
	__atomic_fetch_add(hub->kick, 1, __ATOMIC_SEQ_CST);
	full_barrier_after_rmw();
	hub->ops->kicked(hub);
}

void hub_peer_gone(struct hub *hub)
{
	if (!hub->ops->repair)
		return;
	hub->ops->repair(hub);
	hub_kick(hub);
}

/* ----------------------------------------------------------------- the bell */

int hub_bell_fd(const struct hub *hub)
{
	return hub->fd;
}

bool hub_bell_arm(struct hub *hub)
{
	if (hub_completions_pending(hub) ||
	    atomic_load_explicit(&hub->any_changed, memory_order_relaxed))
		return true;
	if (hub->ops->bell_arm(hub))
		return true;
	count(&hub->sleeps, 1);
	return false;
}

void hub_bell_clear(struct hub *hub, uint32_t events)
{
	hub->ops->bell_clear(hub, events);
}

/* --------------------------------------------------------- changes of state */

void hub_add_changes(struct hub *hub, const uint64_t *mask)
{
	bool any = false;

	for (uint32_t word = 0; word < hub->words; word++) {
		if (!mask[word])
			continue;
		atomic_fetch_or_explicit(&hub->changed[word], mask[word], memory_order_seq_cst);
		any = true;
	}
	if (any)
		atomic_store_explicit(&hub->any_changed, true, memory_order_seq_cst);
}

int hub_next_change(struct hub *hub, uint32_t *i, struct hub_change *change)
{
	if (!atomic_load_explicit(&hub->any_changed, memory_order_relaxed))
		return 0;
	/* Cleared before the masks are read: a change added meanwhile sets it again. */
	atomic_store_explicit(&hub->any_changed, false, memory_order_seq_cst);
	for (uint32_t word = 0; word < hub->words; word++) {
		uint64_t bits = atomic_load_explicit(&hub->changed[word], memory_order_seq_cst);

		for (uint32_t peer; bits_next(&bits, word, &peer);) {
			mask_clear(hub->changed, peer);
			if (hub->ops->query(hub, peer, change))
				continue;
			/* There may be more. */
			atomic_store_explicit(&hub->any_changed, true, memory_order_seq_cst);
			*i = peer;
			return 1;
		}
	}
	return 0;
}

void hub_counters(const struct hub *hub, struct hub_counters *counters)
{
	counters->wakes = atomic_load_explicit(&hub->wakes, memory_order_relaxed);
	counters->woken = atomic_load_explicit(&hub->woken, memory_order_relaxed);
	counters->sleeps = atomic_load_explicit(&hub->sleeps, memory_order_relaxed);
	counters->spins_won = __atomic_load_n(&hub->spin.won, __ATOMIC_RELAXED);
	counters->spins_lost = __atomic_load_n(&hub->spin.lost, __ATOMIC_RELAXED);
}
