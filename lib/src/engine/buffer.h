/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * buffer: what the engine knows of buffers: those that are kept (kept.h), and whether tasks use
 * one. Owns nothing. Any thread.
 */
#ifndef DW_ENGINE_BUFFER_H
#define DW_ENGINE_BUFFER_H

#include "base/range.h"

struct engine;

/* A kept buffer, until it is destroyed. 0, or -ENOMEM with a text. */
int engine_keep(struct engine *engine, const struct range *range);
/* No task uses the buffer any more. */
void engine_forget_buffer(struct engine *engine, uint64_t begin);
/*
 * Copies between a buffer and other memory. -EBUSY with a text: a task that has not ended uses the
 * bytes; `what` names the call.
 */
int engine_buffer_write(struct engine *engine, const struct range *range, const void *from,
			const char *what);
int engine_buffer_read(struct engine *engine, const struct range *range, void *to,
		       const char *what);

#endif
