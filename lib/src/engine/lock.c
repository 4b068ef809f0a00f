/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The slow halves of lock.h: sleeping on a word and waking who sleeps there.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "engine/lock.h"

/* A holder needs some hundred ns; more looks than that mean that it does not run. */
#define LOOKS 200

static long futex(_Atomic uint32_t *word, int operation, uint32_t value,
		  const struct timespec *deadline)
{
	return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, deadline, NULL,
		       FUTEX_BITSET_MATCH_ANY);
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

void lock_wait(struct engine_lock *lock)
{
	uint32_t word;

	for (int i = 0; i < LOOKS; i++) {
		word = LOCK_FREE;
		if (atomic_load_explicit(&lock->word, memory_order_relaxed) == LOCK_FREE &&
		    atomic_compare_exchange_weak_explicit(&lock->word, &word, LOCK_HELD,
							  memory_order_acquire,
							  memory_order_relaxed))
			return;
		relax();
	}
	/* Taken as WANTED: there may be other sleepers, and whoever gives it back wakes one. */
	while (atomic_exchange_explicit(&lock->word, LOCK_WANTED, memory_order_acquire) !=
	       LOCK_FREE)
		futex(&lock->word, FUTEX_WAIT_BITSET, LOCK_WANTED, NULL);
}

void lock_hand_over(struct engine_lock *lock)
{
	futex(&lock->word, FUTEX_WAKE, 1, NULL);
}

void event_set(_Atomic uint32_t *word)
{
	/* Pairs with the acquire in event_wait(). */
	atomic_store_explicit(word, 1, memory_order_release);
	futex(word, FUTEX_WAKE, INT32_MAX, NULL);
}

int event_wait(_Atomic uint32_t *word, uint64_t deadline_ns)
{
	struct timespec deadline = {
		.tv_sec = (time_t)(deadline_ns / 1000000000),
		.tv_nsec = (long)(deadline_ns % 1000000000),
	};

	while (!atomic_load_explicit(word, memory_order_acquire)) {
		if (futex(word, FUTEX_WAIT_BITSET, 0,
			  deadline_ns == UINT64_MAX ? NULL : &deadline) < 0 &&
		    errno == ETIMEDOUT)
			return -ETIMEDOUT;
	}
	return 0;
}
