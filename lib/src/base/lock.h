/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A mutex: one compare-and-swap to take it, one exchange to give it back when no other thread wants
 * it, which is the rule. A thread that finds it held looks for a moment (holders are short) and
 * then sleeps on the word.
 */
#ifndef DW_BASE_LOCK_H
#define DW_BASE_LOCK_H

#include <stdatomic.h>
#include <stdint.h>

struct deadline;

enum lock_word { LOCK_FREE = 0, LOCK_HELD = 1, LOCK_WANTED = 2 };

struct lock {
	_Atomic uint32_t word;		/* enum lock_word */
};

void lock_wait(struct lock *lock);
void lock_hand_over(struct lock *lock);
/* 0, or -ETIMEDOUT: it is held until the deadline. For locks that may be held for long. */
int lock_take_within(struct lock *lock, struct deadline *deadline);

static inline void lock_take(struct lock *lock)
{
	uint32_t expected = LOCK_FREE;

	/* Pairs with the release in lock_give(): the writes of the last holder are visible. */
	if (__builtin_expect(!atomic_compare_exchange_strong_explicit(&lock->word, &expected,
								      LOCK_HELD,
								      memory_order_acquire,
								      memory_order_relaxed), 0))
		lock_wait(lock);
}

static inline void lock_give(struct lock *lock)
{
	if (__builtin_expect(atomic_exchange_explicit(&lock->word, LOCK_FREE,
						      memory_order_release) == LOCK_WANTED, 0))
		lock_hand_over(lock);
}

/* A word that one thread sets and others sleep on until it is set. */
void event_set(_Atomic uint32_t *word);
/* 0, or -ETIMEDOUT at `deadline_ns` (CLOCK_MONOTONIC; UINT64_MAX: none). */
int event_wait(_Atomic uint32_t *word, uint64_t deadline_ns);
/* The same with a deadline that does not count the time in which this process could not run. */
int event_wait_within(_Atomic uint32_t *word, struct deadline *deadline);

#endif
