/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * CPU placement by topology (options.placement): each child gets an equal share
 * of the CPUs that its parent may use, shares that are close together first.
 */
#ifndef DW_WORKER_PLACEMENT_H
#define DW_WORKER_PLACEMENT_H

#include "worker/worker.h"

/* Binds the calling process, or thread. What cannot be bound runs anywhere; logged. */
void placement_apply(const struct child *child, bool process);

#endif
