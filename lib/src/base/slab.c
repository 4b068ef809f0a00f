/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The slow half of slab.h: chunks.
 */
#include <stdlib.h>
#include "base/slab.h"

struct slab_chunk {
	struct slab_chunk *next;
};

void *slab_grow(struct slab *slab)
{
	/* The header takes one alignment unit, so that the objects behind it are aligned. */
	size_t header = slab->align > sizeof(struct slab_chunk) ? slab->align :
			(sizeof(struct slab_chunk) + slab->align - 1) / slab->align * slab->align;
	size_t bytes = header + (size_t)slab->per_chunk * slab->object_bytes;
	struct slab_chunk *chunk = aligned_alloc(slab->align, bytes);
	unsigned char *object;

	if (!chunk)
		return NULL;
	chunk->next = slab->chunks;
	slab->chunks = chunk;
	object = (unsigned char *)chunk + header;
	for (uint32_t i = slab->per_chunk; i-- > 1;)
		slab_give(slab, object + (size_t)i * slab->object_bytes);
	if (slab->per_chunk < slab->per_chunk_max)
		slab->per_chunk *= 2;
	return object;
}

void slab_release(struct slab *slab)
{
	struct slab_chunk *chunk;

	while ((chunk = slab->chunks)) {
		slab->chunks = chunk->next;
		free(chunk);
	}
	slab->unused = NULL;
}
