/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See process.h.
 */
#include <pthread.h>
#include "engine/process.h"

_Atomic uint32_t process_forks = 1;
static pthread_once_t serial_once = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
	atomic_fetch_add_explicit(&process_forks, 1, memory_order_relaxed);
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

void process_watch_forks(void)
{
	pthread_once(&serial_once, watch_forks);
}
