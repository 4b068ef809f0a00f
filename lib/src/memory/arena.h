/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Arena: one sparse shared mapping, at one address in the process that made it and in
 * all its descendants: the heap rings first, then space for buffers and large
 * arguments. Made before the first fork. A nested Worker's arena has its
 * ancestors' arenas as `outer`: addresses in any of them are valid there.
 * Registered memory counts as arena too. Thread-safe (own mutex; leaf lock).
 */
#ifndef DW_MEMORY_ARENA_H
#define DW_MEMORY_ARENA_H

#include <stdbool.h>
#include <stdint.h>

struct arena;

int arena_create(uint64_t heap_ring_bytes, uint64_t buffer_bytes, struct arena *outer,
		 struct arena **arena);
/* Unmaps; outer arenas stay. */
void arena_destroy(struct arena *arena);
/* After the forks: an unrelated tree or child of this process does not inherit it. */
void arena_seal(struct arena *arena);
/* Zeroed, aligned to 64 bytes (page for ≥ 1 page). -ENOMEM with size and use. */
int arena_alloc(struct arena *arena, uint64_t bytes, void **address);
/* -ENOENT when it is not the start of an allocation. */
int arena_free(struct arena *arena, void *address);
/* Of the allocation that begins there; 0: none does. */
uint64_t arena_bytes(struct arena *arena, const void *address);
int arena_register(struct arena *arena, void *address, uint64_t bytes);
/* Whether [address, address + bytes) lies in this arena, an outer one, or registered memory. */
bool arena_contains(const struct arena *arena, uint64_t address, uint64_t bytes);
/* Whether it lies in registered memory, which other processes may write. */
bool arena_is_registered(const struct arena *arena, uint64_t address, uint64_t bytes);
/* Memory that ends with a scope: in a heap ring, or of a tree whose root is on another host. */
bool arena_is_transient(const struct arena *arena, uint64_t address);
/*
 * The memory of a tree whose root is on another host: shared memory at the addresses that it has
 * there, with no heap rings and no buffers. -EEXIST: this process has something else there.
 */
int arena_map(uint64_t begin, uint64_t end, struct arena *outer, struct arena **arena);
/* The contents of these bytes are not needed: whole pages go back to the system. */
void arena_give_back(uint64_t address, uint64_t bytes);
/*
 * The ranges of this arena, of its outer ones and of registered memory, until `visit` returns
 * anything but 0, which is returned.
 */
int arena_each(const struct arena *arena,
	       int (*visit)(uint64_t begin, uint64_t end, bool registered, void *context),
	       void *context);
/* Base and size of heap ring 0 … 3. */
void *arena_ring(const struct arena *arena, uint32_t ring, uint64_t *bytes);
uint64_t arena_used(const struct arena *arena);

#endif
