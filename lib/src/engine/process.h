/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * process: tells a process from those that were forked from it.
 */
#ifndef DW_ENGINE_PROCESS_H
#define DW_ENGINE_PROCESS_H

#include <stdatomic.h>
#include <stdint.h>

extern _Atomic uint32_t process_forks;

/* Differs between this process and those forked from it. Any thread. */
static inline uint32_t process_serial(void)
{
	return atomic_load_explicit(&process_forks, memory_order_relaxed);
}
/* From now on forks are counted. */
void process_watch_forks(void);

#endif
