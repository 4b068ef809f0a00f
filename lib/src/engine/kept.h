/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * kept: the buffers that host code writes and reads only through the library (DW_BUFFER_KEPT), so
 * that the names of their contents outlive runs.
 *
 * Owns: struct kept_set: the buffers, and the names of their bytes. Guarded by the engine's lock.
 *
 * Invariants: buffers are sorted by address and do not overlap; so are the pieces of a buffer. A
 * byte that is in no piece is unknown. Without memory for a change the whole buffer becomes
 * unknown.
 */
#ifndef DW_ENGINE_KEPT_H
#define DW_ENGINE_KEPT_H

#include <stddef.h>
#include <stdint.h>
#include "base/range.h"

struct kept_piece {
	struct range range;
	uint64_t name;
};

struct kept_buffer {
	struct range range;
	struct kept_piece *pieces;
	size_t count, space;
};

struct kept_set {
	struct kept_buffer *buffers;
	size_t count;
};

/* 0, or -ENOMEM with a text. */
int kept_add(struct kept_set *set, const struct range *range);
/* The buffer that begins there, if it is one of them. */
void kept_remove(struct kept_set *set, uint64_t begin);
void kept_release(struct kept_set *set);

/* The buffer with a byte of the range, or NULL. Tensors lie in one buffer each. */
struct kept_buffer *kept_find(const struct kept_set *set, const struct range *range);
/* The name of all bytes of the range; 0: they are in several pieces, or in none. */
uint64_t kept_name(const struct kept_buffer *buffer, const struct range *range);
void kept_set_name(struct kept_buffer *buffer, const struct range *range, uint64_t name);

#endif
