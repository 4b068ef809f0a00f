/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The memory of one mailbox as both sides see it: the uapi's words, those that
 * the library keeps in the `user` parts of the same lines, the ring behind them,
 * and the accesses to all of it.
 *
 * Invariant: a line is written by one side only (asleep excepted), and no value that was read from
 * a line of the other side is trusted.
 */
#ifndef DW_MAILBOX_RING_H
#define DW_MAILBOX_RING_H

#include <stddef.h>
#include "base/line.h"
#include "mailbox/mailbox.h"

_Static_assert(LINE_BYTES == DISTWORKER_LINE_BYTES, "lines of the module");

/* struct distworker_mailbox with the library's words in it. */
struct mailbox {
	/* Line 0: the parent. Read by the peer when it has run out of frames. */
	uint32_t post;
	uint32_t recall;		/* counts FRAME_WAITS that were taken back */
	uint32_t stop;
	uint32_t reserved0[29];
	/* Line 1: the peer. */
	uint32_t done;
	uint32_t seen;			/* value of `post` that the peer has looked at, for poll */
	uint64_t wakes;			/* counters of the peer's side */
	uint64_t sleeps;
	uint64_t spins_won;
	uint64_t spins_lost;
	uint32_t attached;		/* pid of the peer, 0: none; futex provider */
	uint32_t reserved1[21];
	/* Line 2: each thread that puts the peer to sleep or wakes it. */
	uint32_t asleep;		/* DISTWORKER_ASLEEP_*; one in TIMELINE_WAIT has its own */
	uint32_t reserved2[31];
	/*
	 * Line 3: the parent, seldom. Apart from `post`, since the peer reads them
	 * after every frame, and `post` changes with every publication.
	 */
	uint32_t notify;		/* wake the parent when done passes this */
	uint32_t refill;		/* the same; set when the ring is full */
	uint32_t reserved3[30];
};

_Static_assert(sizeof(struct mailbox) == sizeof(struct distworker_mailbox), "four lines");
_Static_assert(offsetof(struct mailbox, post) == offsetof(struct distworker_mailbox, post) &&
	       offsetof(struct mailbox, recall) == offsetof(struct distworker_mailbox, recall) &&
	       offsetof(struct mailbox, stop) == offsetof(struct distworker_mailbox, stop) &&
	       offsetof(struct mailbox, done) == offsetof(struct distworker_mailbox, done) &&
	       offsetof(struct mailbox, seen) == offsetof(struct distworker_mailbox, seen) &&
	       offsetof(struct mailbox, asleep) == offsetof(struct distworker_mailbox, asleep),
	       "the kernel's words");
_Static_assert(offsetof(struct mailbox, done) == LINE_BYTES &&
	       offsetof(struct mailbox, asleep) == 2 * LINE_BYTES &&
	       offsetof(struct mailbox, notify) == 3 * LINE_BYTES, "one writer per line");

/* struct distworker_hub_line with the library's words in it. */
struct hub_line {
	uint32_t asleep;		/* DISTWORKER_ASLEEP_*; futex provider: written by all */
	uint32_t reserved0[31];
	uint32_t driving;		/* the parent */
	uint32_t oversubscribed; /* the parent: more busy peers than CPUs, do not spin for long */
	uint32_t spin_hint; /* the parent spins for a peer that it has woken: spin as well */
	uint32_t crowded; /* the parent: the same without the parent, for waits of siblings */
	uint32_t poll_count; /* counts hub_polled(): a thread that submits looked at the rings */
	uint32_t reserved1[27];
};

_Static_assert(sizeof(struct hub_line) == sizeof(struct distworker_hub_line) &&
	       offsetof(struct hub_line, driving) == offsetof(struct distworker_hub_line, driving),
	       "the kernel's words");

/* Where things lie in a mailbox. Private to each side, the same on both. */
struct ring_layout {
	uint32_t depth;			/* power of two */
	uint32_t frame_bytes;
	uint32_t completions;		/* offsets */
	uint32_t texts;
	uint32_t bytes;
};

static inline struct frame *frame_at(const struct ring_layout *layout, struct mailbox *mailbox,
				     uint32_t number)
{
	uint32_t slot = number & (layout->depth - 1);

	return (struct frame *)((unsigned char *)(mailbox + 1) +
				(size_t)slot * layout->frame_bytes);
}

static inline struct completion *completion_at(const struct ring_layout *layout,
					       struct mailbox *mailbox, uint32_t number)
{
	uint32_t slot = number & (layout->depth - 1);

	return (struct completion *)((unsigned char *)mailbox + layout->completions) + slot;
}

static inline char *text_at(const struct ring_layout *layout, struct mailbox *mailbox,
			    uint32_t number)
{
	uint32_t slot = number & (layout->depth - 1);

	return (char *)mailbox + layout->texts + (size_t)slot * TEXT_BYTES;
}

static inline uint32_t claim_word(uint32_t number, enum frame_claim state)
{
	return number << 2 | state;
}

/*
 * Whether a counter that went from `before` to `after` has passed `mark`: mark in (before, after].
 */
static inline bool counter_passed(uint32_t before, uint32_t after, uint32_t mark)
{
	return after - mark < after - before;
}

static inline uint32_t load_relaxed(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* Whether a thread of the peer would hear of a post only if it is woken. */
static inline bool peer_is_asleep(const struct mailbox *mailbox)
{
	return load_relaxed(&mailbox->asleep) &
	       (DISTWORKER_ASLEEP_WAITER | DISTWORKER_ASLEEP_POLLER);
}

static inline uint32_t load_acquire(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void store_relaxed(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void store_release(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Orders every access before it against every access after it. */
static inline void full_barrier(void)
{
#ifdef __SANITIZE_THREAD__
	/*
	 * TSan does not know fences; a read-modify-write is one on every machine that it runs on.
	 */
	static uint32_t dummy;

	__atomic_fetch_add(&dummy, 0, __ATOMIC_SEQ_CST);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* The same, right after a sequentially consistent read-modify-write; free where that orders all. */
static inline void full_barrier_after_rmw(void)
{
#if defined(__x86_64__) || defined(__i386__)
	atomic_signal_fence(memory_order_seq_cst);
#else
	full_barrier();
#endif
}

#endif
