/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The slow halves of lock.h: sleeping on a word and waking its sleepers.
 */
#include "base/cpu.h"
#include "base/deadline.h"
#include "base/futex.h"
#include "base/lock.h"

/* A holder needs some hundred ns; more looks than that mean that it does not run. */
#define LOOKS 200

void lock_wait(struct lock *lock)
{
	uint32_t word;

	for (int i = 0; i < LOOKS; i++) {
		word = LOCK_FREE;
		if (atomic_load_explicit(&lock->word, memory_order_relaxed) == LOCK_FREE &&
		    atomic_compare_exchange_weak_explicit(&lock->word, &word, LOCK_HELD,
							  memory_order_acquire,
							  memory_order_relaxed))
			return;
		cpu_pause();
	}
	/*
	 * Taken as WANTED: there may be other sleepers, and the holder wakes one when it gives the
	 * lock back.
	 */
	while (atomic_exchange_explicit(&lock->word, LOCK_WANTED, memory_order_acquire) !=
	       LOCK_FREE)
		futex_wait(&lock->word, LOCK_WANTED, NEVER, FUTEX_PRIVATE);
}

int lock_take_within(struct lock *lock, struct deadline *deadline)
{
	/* A sleeper that times out was not woken: no wake-up is lost with it. */
	while (atomic_exchange_explicit(&lock->word, LOCK_WANTED, memory_order_acquire) !=
	       LOCK_FREE)
		if (futex_wait(&lock->word, LOCK_WANTED, deadline_sleep(deadline, now_ns()),
			       FUTEX_PRIVATE) == -ETIMEDOUT &&
		    deadline_passed(deadline, now_ns()))
			return -ETIMEDOUT;
	return 0;
}

void lock_hand_over(struct lock *lock)
{
	futex_wake(&lock->word, 1, FUTEX_PRIVATE);
}

void event_set(_Atomic uint32_t *word)
{
	/* Pairs with the acquire in event_wait(). */
	atomic_store_explicit(word, 1, memory_order_release);
	futex_wake(word, INT32_MAX, FUTEX_PRIVATE);
}

int event_wait(_Atomic uint32_t *word, uint64_t deadline_ns)
{
	while (!atomic_load_explicit(word, memory_order_acquire))
		if (futex_wait(word, 0, deadline_ns, FUTEX_PRIVATE) == -ETIMEDOUT)
			return -ETIMEDOUT;
	return 0;
}

int event_wait_within(_Atomic uint32_t *word, struct deadline *deadline)
{
	while (event_wait(word, deadline_sleep(deadline, now_ns())) < 0)
		if (deadline_passed(deadline, now_ns()))
			return atomic_load_explicit(word, memory_order_acquire) ? 0 : -ETIMEDOUT;
	return 0;
}
