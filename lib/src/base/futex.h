/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * futex(2): sleeping on a 32-bit word and waking its sleepers. FUTEX_PRIVATE is for words of this
 * process alone and costs less; FUTEX_SHARED is for shared memory.
 */
#ifndef DW_BASE_FUTEX_H
#define DW_BASE_FUTEX_H

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/clock.h"

enum futex_scope { FUTEX_SHARED = 0, FUTEX_PRIVATE = FUTEX_PRIVATE_FLAG };

/*
 * Sleeps while *word is `value`. 0: woken, maybe for nothing; -EAGAIN: the word differs;
 * -ETIMEDOUT at `deadline_ns`; -EINTR: a signal.
 */
static inline int futex_wait(void *word, uint32_t value, uint64_t deadline_ns,
			     enum futex_scope scope)
{
	struct timespec deadline = clock_timespec(deadline_ns);

	return syscall(SYS_futex, word, FUTEX_WAIT_BITSET | (int)scope, value,
		       deadline_ns == NEVER ? NULL : &deadline, NULL,
		       FUTEX_BITSET_MATCH_ANY) < 0 ? -errno : 0;
}

/* Wakes up to `count` sleepers. */
static inline void futex_wake(void *word, int count, enum futex_scope scope)
{
	syscall(SYS_futex, word, FUTEX_WAKE | (int)scope, count, NULL, NULL, 0);
}

#endif
