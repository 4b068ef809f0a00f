/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * placement: CPUs by topology (options.placement). Each child gets an equal share of the CPUs that
 * its parent may use, shares that are close together first. Owns nothing; no lock.
 */
#ifndef DW_WORKER_PLACEMENT_H
#define DW_WORKER_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Binds the calling process, or thread, to share `index` of `count`. If that fails it runs
 * anywhere, which is logged.
 */
void placement_apply(uint32_t index, uint32_t count, bool process, const char *path);

#endif
