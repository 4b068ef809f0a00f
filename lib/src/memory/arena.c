// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Arena: the mapping, the allocator of its buffer space, registered memory.
 *
 * The allocator's metadata lies in private memory of the process that made the
 * arena, so no child can damage it, and only that process may allocate. A block
 * is a range of the buffer space, allocated or free; all blocks are chained by
 * address, free neighbours are one block. Free blocks hang in bins by size
 * (powers of two in 8 steps), allocated ones in a hash by address.
 * Locks: arena->mutex for all of it; arena_contains() takes none.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/file.h"
#include "memory/arena.h"
#include "task/error.h"

#define RINGS 4
#define GRAIN 64ull
#define GIVE_BACK (64ull << 10)		/* that much touched memory returns to the system */
#define BIN_BITS 3
#define BIN_STEPS (1u << BIN_BITS)
#define BINS ((64 - BIN_BITS) * BIN_STEPS)
#define BLOCKS_PER_SLAB 63
#define BUCKETS_AT_FIRST 64
#define TRIES 8
#define FAR_GRAIN (1ull << 30)

struct block {
	uint64_t begin, bytes;		/* in the buffer space, multiples of GRAIN */
	struct block *before, *after;	/* neighbours by address, without gaps */
	struct block *next;		/* of the bin, of the hash, of the unused ones */
	struct block *previous;		/* free: of the bin */
	uint64_t dirty;			/* free: how many bytes may be other than zero */
	bool free;
};

struct slab {
	struct slab *next;
	struct block blocks[BLOCKS_PER_SLAB];
};

/* Registered memory, sorted and disjoint. A list is never changed, only replaced. */
struct ranges {
	struct ranges *replaced;
	size_t count;
	struct { uint64_t begin, end; } range[];
};

struct arena {
	uint64_t base, bytes;		/* of the mapping */
	uint64_t ring_bytes, buffer_bytes;
	uint64_t page;			/* blocks of a page or more lie on pages */
	struct arena *outer;
	_Atomic(struct ranges *) registered;
	_Atomic uint32_t *owner;	/* a page that reads 0 after a fork */

	pthread_mutex_t mutex;		/* the rest */
	uint64_t used;
	struct block *bins[BINS];
	uint64_t bin_map[BINS / 64 + 1];
	struct block **buckets;
	uint64_t bucket_count, block_count;
	struct block *unused;
	struct slab *slabs;
};

/* ------------------------------------------------------------------ mapping */

static inline uint64_t round_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & -align;
}

/*
 * At a random place where neither a program nor its libraries lie, so that a process on another
 * host most likely can map the arena at the same address (arena_map()), and those of several trees.
 * Machines with smaller address spaces, and ThreadSanitizer, have room at the second place alone.
 * Anywhere, where there are no random bytes.
 */
static void *map_far(uint64_t bytes, int flags, int fd)
{
	static const uint64_t begins[] = { 1ull << 45, 1ull << 36 };
	uint64_t random, place;
	void *base;

	for (size_t i = 0; i < 2; i++) {
		if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
			break;
		place = begins[i] + random % begins[i] / FAR_GRAIN * FAR_GRAIN;
		base = mmap((void *)(uintptr_t)place, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
		if (base == MAP_FAILED || base == (void *)(uintptr_t)place)
			return base;
		munmap(base, bytes);
	}
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
}

/* Shared memory of which only touched pages take up space; NULL with errno. */
static void *map_shared(uint64_t bytes)
{
	int flags = MAP_SHARED | MAP_NORESERVE;
	int fd = fd_move_up(memfd_create("distworker-arena", MFD_CLOEXEC));
	void *base;

	/* A memfd is a file (RLIMIT_FSIZE); memory without a name is not. */
	if (fd >= 0 && file_resize(fd, bytes) < 0) {
		close(fd);
		fd = -1;
	}
	if (fd < 0)
		flags |= MAP_ANONYMOUS;
	base = map_far(bytes, flags, fd);
	if (fd >= 0) {
		int error = errno;

		close(fd);
		errno = error;
	}
	return base == MAP_FAILED ? NULL : base;
}

static int mapping_error(int error, uint64_t ring_bytes, uint64_t buffer_bytes)
{
	struct rlimit limit;
	char why[96] = "";

	if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY)
		snprintf(why, sizeof(why), "; the address space is limited to %llu MiB (ulimit -v)",
			 (unsigned long long)limit.rlim_cur >> 20);
	return error_set(-error, "cannot reserve an arena of 4 heap rings with %llu MiB each and "
			 "%llu MiB for buffers: %s%s", (unsigned long long)ring_bytes >> 20,
			 (unsigned long long)buffer_bytes >> 20, error_name(error), why);
}

static struct block *block_get(struct arena *arena);
static void bin_add(struct arena *arena, struct block *block);

static void free_metadata(struct arena *arena)
{
	struct ranges *ranges = atomic_load_explicit(&arena->registered, memory_order_relaxed);
	struct slab *slab;

	while ((slab = arena->slabs)) {
		arena->slabs = slab->next;
		free(slab);
	}
	while (ranges) {
		struct ranges *replaced = ranges->replaced;

		free(ranges);
		ranges = replaced;
	}
	free(arena->buckets);
	free(arena);
}

int arena_create(uint64_t heap_ring_bytes, uint64_t buffer_bytes, struct arena *outer,
		 struct arena **arena)
{
	struct arena *made;
	struct block *block;
	void *base, *owner;

	if (!heap_ring_bytes || heap_ring_bytes > 1ull << 44)
		return error_set(-EINVAL, "heap_ring_bytes is %llu; 1 to 2^44 would be right",
				 (unsigned long long)heap_ring_bytes);
	if (buffer_bytes > 1ull << 46)
		return error_set(-EINVAL, "arena_bytes is %llu; up to 2^46 would be right",
				 (unsigned long long)buffer_bytes);
	made = calloc(1, sizeof(*made));
	if (!made)
		return error_set(-ENOMEM, "no memory for an arena");
	made->page = sysconf(_SC_PAGESIZE);
	made->ring_bytes = round_up(heap_ring_bytes, made->page);
	made->buffer_bytes = round_up(buffer_bytes, made->page);
	made->bytes = RINGS * made->ring_bytes + made->buffer_bytes;
	made->outer = outer;
	made->bucket_count = BUCKETS_AT_FIRST;
	made->buckets = calloc(made->bucket_count, sizeof(*made->buckets));
	block = made->buckets ? block_get(made) : NULL;
	if (!block) {
		free_metadata(made);
		return error_set(-ENOMEM, "no memory for an arena");
	}
	base = map_shared(made->bytes);
	owner = mmap(NULL, made->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!base || owner == MAP_FAILED) {
		int error = errno;

		if (base)
			munmap(base, made->bytes);
		if (owner != MAP_FAILED)
			munmap(owner, made->page);
		free_metadata(made);
		return mapping_error(error, heap_ring_bytes, buffer_bytes);
	}
	/* Neither is needed for anything to work. */
	madvise(base, made->bytes, MADV_DONTDUMP);
	madvise(owner, made->page, MADV_WIPEONFORK);
	made->base = (uintptr_t)base;
	made->owner = owner;
	atomic_init(made->owner, 1);
	pthread_mutex_init(&made->mutex, NULL);
	if (made->buffer_bytes) {
		*block = (struct block){ .bytes = made->buffer_bytes, .free = true };
		bin_add(made, block);
	}
	*arena = made;
	return 0;
}

int arena_map(uint64_t begin, uint64_t end, struct arena *outer, struct arena **arena)
{
	struct arena *made = calloc(1, sizeof(*made));
	void *base;
	int error;

	if (!made)
		return error_set(-ENOMEM, "no memory for an arena");
	base = mmap((void *)(uintptr_t)begin, end - begin, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	error = errno;
	/* A kernel before 4.17 takes the address for a hint. */
	if (base != MAP_FAILED && base != (void *)(uintptr_t)begin) {
		munmap(base, end - begin);
		base = MAP_FAILED;
		error = EEXIST;
	}
	if (base == MAP_FAILED) {
		free(made);
		return error_set(-error, "cannot map the tree's memory, %#llx to %#llx: %s",
				 (unsigned long long)begin, (unsigned long long)end,
				 error == EEXIST ? "this process has something else there" :
						   error_name(error));
	}
	madvise(base, end - begin, MADV_DONTDUMP);
	made->page = (uint64_t)sysconf(_SC_PAGESIZE);
	made->base = begin;
	made->bytes = end - begin;
	made->outer = outer;
	pthread_mutex_init(&made->mutex, NULL);
	*arena = made;
	return 0;
}

void arena_destroy(struct arena *arena)
{
	if (!arena)
		return;
	munmap((void *)(uintptr_t)arena->base, arena->bytes);
	if (arena->owner)
		munmap((void *)arena->owner, arena->page);
	pthread_mutex_destroy(&arena->mutex);
	free_metadata(arena);
}

void arena_seal(struct arena *arena)
{
	if (madvise((void *)(uintptr_t)arena->base, arena->bytes, MADV_DONTFORK))
		log_at(LOG_WARN, "arena: MADV_DONTFORK: %s; unrelated children will inherit it",
		       error_name(errno));
}

void *arena_ring(const struct arena *arena, uint32_t ring, uint64_t *bytes)
{
	*bytes = arena->ring_bytes;
	return (void *)(uintptr_t)(arena->base + ring * arena->ring_bytes);
}

/* ------------------------------------------------------------------- blocks */

static struct block *block_get(struct arena *arena)
{
	struct block *block = arena->unused;
	struct slab *slab;

	if (block) {
		arena->unused = block->next;
		return block;
	}
	slab = malloc(sizeof(*slab));
	if (!slab)
		return NULL;
	slab->next = arena->slabs;
	arena->slabs = slab;
	for (uint32_t i = 1; i < BLOCKS_PER_SLAB; i++) {
		slab->blocks[i].next = arena->unused;
		arena->unused = &slab->blocks[i];
	}
	return &slab->blocks[0];
}

static void block_put(struct arena *arena, struct block *block)
{
	block->next = arena->unused;
	arena->unused = block;
}

/* Whether block_get() will succeed `count` times. */
static bool blocks_reserve(struct arena *arena, uint32_t count)
{
	struct block *taken[4];
	uint32_t got = 0;

	while (got < count && (taken[got] = block_get(arena)))
		got++;
	for (uint32_t i = 0; i < got; i++)
		block_put(arena, taken[i]);
	return got == count;
}

/* The bin of free blocks with that many bytes. Sizes in one bin differ by less than 1/8. */
static uint32_t bin_of(uint64_t bytes)
{
	uint64_t grains = bytes / GRAIN;
	uint32_t log;

	if (grains < BIN_STEPS)
		return grains;
	log = 63 - __builtin_clzll(grains);
	return (log - BIN_BITS + 1) * BIN_STEPS +
	       ((uint32_t)(grains >> (log - BIN_BITS)) & (BIN_STEPS - 1));
}

static void bin_add(struct arena *arena, struct block *block)
{
	uint32_t bin = bin_of(block->bytes);

	block->previous = NULL;
	block->next = arena->bins[bin];
	if (block->next)
		block->next->previous = block;
	arena->bins[bin] = block;
	arena->bin_map[bin / 64] |= 1ull << bin % 64;
}

static void bin_remove(struct arena *arena, struct block *block)
{
	uint32_t bin = bin_of(block->bytes);

	if (block->next)
		block->next->previous = block->previous;
	if (block->previous)
		block->previous->next = block->next;
	else
		arena->bins[bin] = block->next;
	if (!arena->bins[bin])
		arena->bin_map[bin / 64] &= ~(1ull << bin % 64);
}

/* The next bin from `bin` on that is not empty, or BINS. */
static uint32_t bin_next(const struct arena *arena, uint32_t bin)
{
	uint32_t word = bin / 64;
	uint64_t map = arena->bin_map[word] & -1ull << bin % 64;

	while (!map && ++word < sizeof(arena->bin_map) / sizeof(arena->bin_map[0]))
		map = arena->bin_map[word];
	return map ? word * 64 + __builtin_ctzll(map) : BINS;
}

static bool block_fits(const struct block *block, uint64_t bytes, uint64_t align)
{
	uint64_t begin = round_up(block->begin, align);

	return begin - block->begin + bytes <= block->bytes;
}

/*
 * A free block that takes `bytes` at a multiple of `align`: a neighbour in size that happens to
 * fit; else one that is surely large enough, from the first bin that has one; and when there is
 * none, any block that fits.
 */
static struct block *block_find(const struct arena *arena, uint64_t bytes, uint64_t align)
{
	uint32_t bin = bin_of(bytes), sure = bin_of(bytes + align - GRAIN) + 1;
	struct block *block = arena->bins[bin];

	for (uint32_t i = 0; block && i < TRIES; i++, block = block->next)
		if (block_fits(block, bytes, align))
			return block;
	sure = bin_next(arena, sure);
	if (sure < BINS)
		return arena->bins[sure];
	for (bin = bin_next(arena, bin); bin < BINS; bin = bin_next(arena, bin + 1))
		for (block = arena->bins[bin]; block; block = block->next)
			if (block_fits(block, bytes, align))
				return block;
	return NULL;
}

/* Cuts a free block, which is in no bin; returns the upper part. Needs one block. */
static struct block *block_cut(struct arena *arena, struct block *block, uint64_t bytes)
{
	struct block *upper = block_get(arena);

	upper->begin = block->begin + bytes;
	upper->bytes = block->bytes - bytes;
	upper->dirty = block->dirty < upper->bytes ? block->dirty : upper->bytes;
	upper->free = true;
	upper->before = block;
	upper->after = block->after;
	if (upper->after)
		upper->after->before = upper;
	block->after = upper;
	block->bytes = bytes;
	if (block->dirty > bytes)
		block->dirty = bytes;
	return upper;
}

/* Takes in the free block that follows; neither is in a bin. */
static void block_join(struct arena *arena, struct block *block)
{
	struct block *after = block->after;

	block->bytes += after->bytes;
	block->dirty += after->dirty;
	block->after = after->after;
	if (block->after)
		block->after->before = block;
	block_put(arena, after);
}

static void *block_memory(const struct arena *arena, const struct block *block)
{
	return (void *)(uintptr_t)(arena->base + RINGS * arena->ring_bytes + block->begin);
}

/* Makes [begin, begin + bytes) zero; whole pages go back to the system if they are many. */
static void make_zero(const struct arena *arena, uint64_t begin, uint64_t bytes)
{
	uint64_t pages = round_up(begin, arena->page), end = (begin + bytes) & -arena->page;

	if (end > pages && end - pages >= GIVE_BACK &&
	    !madvise((void *)(uintptr_t)pages, end - pages, MADV_REMOVE)) {
		memset((void *)(uintptr_t)begin, 0, pages - begin);
		memset((void *)(uintptr_t)end, 0, begin + bytes - end);
	} else {
		memset((void *)(uintptr_t)begin, 0, bytes);
	}
}

static struct block **bucket_of(const struct arena *arena, uint64_t begin)
{
	return &arena->buckets[(begin / GRAIN * 0x9e3779b97f4a7c15u >> 20) &
			       (arena->bucket_count - 1)];
}

static void bucket_add(struct arena *arena, struct block *block)
{
	struct block **bucket;

	if (++arena->block_count > arena->bucket_count) {
		uint64_t count = arena->bucket_count;
		struct block **old = arena->buckets, **wide = calloc(count * 2, sizeof(*wide));

		if (wide) {
			arena->buckets = wide;
			arena->bucket_count *= 2;
			for (uint64_t i = 0; i < count; i++) {
				struct block *moved = old[i], *next;

				for (; moved; moved = next) {
					next = moved->next;
					bucket = bucket_of(arena, moved->begin);
					moved->next = *bucket;
					*bucket = moved;
				}
			}
			free(old);
		}
	}
	bucket = bucket_of(arena, block->begin);
	block->next = *bucket;
	*bucket = block;
}

/* The link to the block that begins there, or to NULL. */
static struct block **bucket_find(const struct arena *arena, uint64_t begin)
{
	struct block **at = bucket_of(arena, begin);

	while (*at && (*at)->begin != begin)
		at = &(*at)->next;
	return at;
}

static struct block *bucket_take(struct arena *arena, uint64_t begin)
{
	struct block **at = bucket_find(arena, begin), *block = *at;

	if (block) {
		*at = block->next;
		arena->block_count--;
	}
	return block;
}

/* --------------------------------------------------------------- allocation */

static int check_owner(const struct arena *arena)
{
	if (!arena->owner)
		return error_set(-EBADFD, "the arena at %#llx belongs to a process on another host",
				 (unsigned long long)arena->base);
	if (atomic_load_explicit(arena->owner, memory_order_relaxed))
		return 0;
	return error_set(-EBADFD, "the arena at %#llx belongs to the process that this one was "
			 "forked from; only that one can allocate in it",
			 (unsigned long long)arena->base);
}

static int full(const struct arena *arena, uint64_t bytes)
{
	return error_set(-ENOMEM, "no room for %llu bytes in the arena: %llu of %llu bytes are in "
			 "use; raise arena_bytes of the Worker", (unsigned long long)bytes,
			 (unsigned long long)arena->used, (unsigned long long)arena->buffer_bytes);
}

/* NULL: no room, or no memory; the text says which. */
static struct block *alloc_locked(struct arena *arena, uint64_t bytes, uint64_t align)
{
	struct block *block = block_find(arena, bytes, align);
	uint64_t skipped;

	if (!block) {
		full(arena, bytes);
		return NULL;
	}
	if (!blocks_reserve(arena, 2)) {
		error_set(-ENOMEM, "no memory to note a block of the arena");
		return NULL;
	}
	bin_remove(arena, block);
	skipped = -block->begin & (align - 1);
	if (skipped) {
		struct block *lower = block;

		block = block_cut(arena, lower, skipped);
		bin_add(arena, lower);
	}
	if (block->bytes > bytes)
		bin_add(arena, block_cut(arena, block, bytes));
	block->free = false;
	bucket_add(arena, block);
	arena->used += bytes;
	return block;
}

int arena_alloc(struct arena *arena, uint64_t bytes, void **address)
{
	uint64_t align = bytes < arena->page ? GRAIN : arena->page;
	struct block *block;
	int error = check_owner(arena);

	if (error)
		return error;
	if (!bytes)
		return error_set(-EINVAL, "a block of 0 bytes; 1 or more would be right");
	if (bytes > arena->buffer_bytes)
		return full(arena, bytes);
	bytes = round_up(bytes, align);
	pthread_mutex_lock(&arena->mutex);
	block = alloc_locked(arena, bytes, align);
	pthread_mutex_unlock(&arena->mutex);
	if (!block)
		return -ENOMEM;
	/* The block is allocated: no thread looks at `dirty` before it is free again. */
	if (block->dirty)
		make_zero(arena, (uintptr_t)block_memory(arena, block), bytes);
	*address = block_memory(arena, block);
	return 0;
}

/* Returns touched pages of a free block to the system if they are many. */
static void give_back(const struct arena *arena, struct block *block)
{
	uint64_t begin = round_up(block->begin, arena->page);
	uint64_t end = (block->begin + block->bytes) & -arena->page;
	char *space = (char *)block_memory(arena, block) - block->begin;

	if (block->dirty < GIVE_BACK || end <= begin ||
	    madvise(space + begin, end - begin, MADV_REMOVE))
		return;
	block->dirty = block->bytes - (end - begin);
}

uint64_t arena_bytes(struct arena *arena, const void *address)
{
	uint64_t begin = (uintptr_t)address - arena->base - RINGS * arena->ring_bytes;
	const struct block *block;
	uint64_t bytes;

	if (begin >= arena->buffer_bytes || check_owner(arena) < 0)
		return 0;
	pthread_mutex_lock(&arena->mutex);
	block = *bucket_find(arena, begin);
	bytes = block ? block->bytes : 0;
	pthread_mutex_unlock(&arena->mutex);
	return bytes;
}

int arena_free(struct arena *arena, void *address)
{
	uint64_t space = arena->base + RINGS * arena->ring_bytes;
	uint64_t begin = (uintptr_t)address - space;
	struct block *block = NULL;
	int error = check_owner(arena);

	if (error)
		return error;
	pthread_mutex_lock(&arena->mutex);
	if (begin < arena->buffer_bytes)
		block = bucket_take(arena, begin);
	if (!block) {
		pthread_mutex_unlock(&arena->mutex);
		return error_set(-ENOENT, "%p is not the start of a block of the arena", address);
	}
	arena->used -= block->bytes;
	block->free = true;
	block->dirty = block->bytes;
	/* Before it joins its neighbours, so that large blocks cost no more than their pages. */
	give_back(arena, block);
	if (block->after && block->after->free) {
		bin_remove(arena, block->after);
		block_join(arena, block);
	}
	if (block->before && block->before->free) {
		block = block->before;
		bin_remove(arena, block);
		block_join(arena, block);
	}
	give_back(arena, block);
	bin_add(arena, block);
	pthread_mutex_unlock(&arena->mutex);
	return 0;
}

uint64_t arena_used(const struct arena *arena)
{
	struct arena *shared = (struct arena *)arena;
	uint64_t used;

	pthread_mutex_lock(&shared->mutex);
	used = shared->used;
	pthread_mutex_unlock(&shared->mutex);
	return used;
}

/* -------------------------------------------------------- registered memory */

/* 0, or an error when part of the range is not mapped, or not shared. Without /proc: 0. */
static int check_shared(uint64_t begin, uint64_t end)
{
	FILE *maps = fd_open_stream("/proc/self/maps");
	unsigned long long low, high;
	uint64_t next = begin;
	char line[512], mode[5];
	int error = 0;

	if (!maps)
		return 0;
	while (next < end && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%llx-%llx %4s", &low, &high, mode) != 3 || high <= next)
			continue;
		if (low > next)
			break;
		if (mode[3] != 's') {
			error = error_set(-EINVAL, "memory at %#llx is mapped private: children "
					  "would see a copy; MAP_SHARED would be right",
					  (unsigned long long)next);
			break;
		}
		next = high;
	}
	fclose(maps);
	if (!error && next < end)
		error = error_set(-EINVAL, "memory at %#llx is not mapped",
				  (unsigned long long)next);
	return error;
}

int arena_register(struct arena *arena, void *address, uint64_t bytes)
{
	uint64_t begin = (uintptr_t)address, end = begin + bytes;
	struct ranges *old, *made;
	size_t count, i = 0;
	int error;

	if (!address || !bytes || end < begin)
		return error_set(-EINVAL, "registered memory [%p, + %llu) is not a range of memory",
				 address, (unsigned long long)bytes);
	error = check_shared(begin, end);
	if (error)
		return error;
	pthread_mutex_lock(&arena->mutex);
	old = atomic_load_explicit(&arena->registered, memory_order_relaxed);
	count = old ? old->count : 0;
	made = malloc(sizeof(*made) + (count + 1) * sizeof(made->range[0]));
	if (!made) {
		pthread_mutex_unlock(&arena->mutex);
		return error_set(-ENOMEM, "no memory to register a range of memory");
	}
	made->replaced = old;
	made->count = 0;
	/* Ranges that touch become one: a tensor may lie across. */
	for (; i < count && old->range[i].end < begin; i++)
		made->range[made->count++] = old->range[i];
	for (; i < count && old->range[i].begin <= end; i++) {
		begin = old->range[i].begin < begin ? old->range[i].begin : begin;
		end = old->range[i].end > end ? old->range[i].end : end;
	}
	made->range[made->count].begin = begin;
	made->range[made->count++].end = end;
	for (; i < count; i++)
		made->range[made->count++] = old->range[i];
	/* Pairs with the acquire load in registered_contains(). */
	atomic_store_explicit(&arena->registered, made, memory_order_release);
	pthread_mutex_unlock(&arena->mutex);
	return 0;
}

static bool registered_contains(const struct arena *arena, uint64_t address, uint64_t bytes)
{
	const struct ranges *ranges = atomic_load_explicit(&arena->registered,
							   memory_order_acquire);
	size_t low = 0, high = ranges ? ranges->count : 0;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (address < ranges->range[middle].begin)
			high = middle;
		else if (address > ranges->range[middle].end)
			low = middle + 1;
		else
			return bytes <= ranges->range[middle].end - address;
	}
	return false;
}

bool arena_is_registered(const struct arena *arena, uint64_t address, uint64_t bytes)
{
	for (; arena; arena = arena->outer)
		if (registered_contains(arena, address, bytes))
			return true;
	return false;
}

bool arena_contains(const struct arena *arena, uint64_t address, uint64_t bytes)
{
	const struct arena *at;

	for (at = arena; at; at = at->outer) {
		uint64_t offset = address - at->base;

		if (offset < at->bytes)
			return bytes <= at->bytes - offset;
	}
	for (at = arena; at; at = at->outer)
		if (registered_contains(at, address, bytes))
			return true;
	return false;
}

bool arena_is_transient(const struct arena *arena, uint64_t address)
{
	while (arena && address - arena->base >= arena->bytes)
		arena = arena->outer;
	return arena && (!arena->owner || address - arena->base < RINGS * arena->ring_bytes);
}

int arena_each(const struct arena *arena,
	       int (*visit)(uint64_t begin, uint64_t end, bool registered, void *context),
	       void *context)
{
	int result = 0;

	for (; arena && result == 0; arena = arena->outer) {
		const struct ranges *ranges =
			atomic_load_explicit(&arena->registered, memory_order_acquire);

		result = visit(arena->base, arena->base + arena->bytes, false, context);
		for (size_t i = 0; ranges && i < ranges->count && result == 0; i++)
			result = visit(ranges->range[i].begin, ranges->range[i].end, true, context);
	}
	return result;
}
