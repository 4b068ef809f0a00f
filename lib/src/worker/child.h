/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What the child loops share.
 */
#ifndef DW_WORKER_CHILD_H
#define DW_WORKER_CHILD_H

#include "worker/worker.h"

/* Into the tree's shared statistics, after a wait. */
void child_count_sleeps(struct child *child, const struct endpoint *endpoint);

#endif
