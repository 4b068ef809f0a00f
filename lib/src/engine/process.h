/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * process: tells a process from those that were forked from it.
 */
#ifndef DW_ENGINE_PROCESS_H
#define DW_ENGINE_PROCESS_H

#include <stdint.h>

/* Differs between this process and those forked from it. Any thread. */
uint32_t process_serial(void);
/* From now on forks are counted. */
void process_watch_forks(void);

#endif
