/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * stats: reading the counters of children, from any thread or process. Owns nothing; no lock.
 */
#ifndef DW_WORKER_STATS_H
#define DW_WORKER_STATS_H

#include "worker/status_segment.h"

/* Copies counters that others go on writing, and adds the CPU time of a living child. */
void stats_copy(struct dw_child_stats *to, const struct dw_child_stats *from,
		const struct child_status *status, const struct segment_child *rest);

#endif
