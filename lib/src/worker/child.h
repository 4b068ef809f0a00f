/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * child: the life of a child: it waits for GO, attaches to the mailbox, gets ready, serves, and
 * leaves when the parent says stop or is gone. The same for processes and threads; its role does
 * the part that differs by kind.
 *
 * Owns nothing. Runs in the child's own process or thread.
 */
#ifndef DW_WORKER_CHILD_H
#define DW_WORKER_CHILD_H

#include <stdbool.h>
#include <stdint.h>

struct child;

/* The child_entry that launchers call. Returns the exit code. */
int child_main(struct child *child, uint32_t generation, bool process);

#endif
