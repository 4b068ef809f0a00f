/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * descendants: the processes below a dead child. Owns nothing. Lock: worker->lock.
 */
#ifndef DW_WORKER_DESCENDANTS_H
#define DW_WORKER_DESCENDANTS_H

#include <stdbool.h>

struct child;

/*
 * True: no process of a child whose address space has ended can still write to the tree's memory.
 * False: one can, or it is unknown.
 */
bool descendants_none(const struct child *child);

#endif
