/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A free list over chunks of equal objects. Objects never move; memory goes back at
 * slab_release() alone. An object that is free holds the link to the next one in its first
 * word; the rest keeps its content. No locks: a slab belongs to its owner.
 */
#ifndef DW_BASE_SLAB_H
#define DW_BASE_SLAB_H

#include <stddef.h>
#include <stdint.h>

struct slab_chunk;

struct slab {
	void *unused;
	struct slab_chunk *chunks;
	uint32_t object_bytes;		/* a multiple of `align` */
	uint32_t align;			/* a power of two, at least that of a pointer */
	uint32_t per_chunk;		/* objects in the next chunk */
	uint32_t per_chunk_max;		/* chunks double up to this */
};

#define SLAB_INIT(type, first, most) { \
	.object_bytes = sizeof(type), .align = _Alignof(type), \
	.per_chunk = (first), .per_chunk_max = (most) }

/* Another chunk, and an object of it; NULL: no memory. */
void *slab_grow(struct slab *slab);
/* Frees all chunks, whether their objects were given back or not. */
void slab_release(struct slab *slab);

/* An object with undefined content; NULL: no memory. */
static inline void *slab_take(struct slab *slab)
{
	void *object = slab->unused;

	if (__builtin_expect(!object, 0))
		return slab_grow(slab);
	slab->unused = *(void **)object;
	return object;
}

static inline void slab_give(struct slab *slab, void *object)
{
	*(void **)object = slab->unused;
	slab->unused = object;
}

#endif
