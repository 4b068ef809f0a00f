/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * buffer: buffers of the root's arena, and the public calls on them.
 *
 * Owns: struct kept_buffers of the root: the buffers that host code accesses only through calls
 * (DW_BUFFER_KEPT). The engine, which comes and goes with init and close, learns of them here.
 * Guarded by `registering`.
 */
#ifndef DW_WORKER_BUFFER_H
#define DW_WORKER_BUFFER_H

#include <stdint.h>
#include "base/range.h"

struct dw_worker;

struct kept_buffers {
	struct range *ranges;
	uint32_t count;
};

/*
 * Tells a new engine of the root about them: 0, or -ENOMEM with a text. Other Workers have no
 * buffers.
 */
int buffers_tell_engine(struct dw_worker *worker);
void buffers_release(struct dw_worker *worker);

#endif
