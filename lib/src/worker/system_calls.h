/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * System calls whose refusal (a seccomp filter) a tree notices only late, or never: without them a
 * deadline does not kill, or a death is not seen. Called by init; any thread.
 */
#ifndef DW_WORKER_SYSTEM_CALLS_H
#define DW_WORKER_SYSTEM_CALLS_H

/* 0; -EPERM, -ENOSYS, …: one is refused, and the text names it. */
int system_calls_check(const char *worker);

#endif
