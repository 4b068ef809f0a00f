/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * An allocator for LD_PRELOAD that is as hostile as malloc(3) allows: what it gives is full of
 * 0xA5, what it gets back is full of 0x5A and not given again for long, nothing is aligned better
 * than 16 bytes asks for, realloc() always moves, and free(NULL), malloc(0) are what they have to
 * be. One lock, held over fork.
 */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGN 16ul
#define CHUNK (8ul << 20)
#define MAGIC 0x6d616c6c6f633031ull
#define KEPT 512	/* freed blocks that are not yet given again */

struct block {
	size_t bytes;
	uint64_t magic;
};
_Static_assert(sizeof(struct block) == ALIGN, "keeps the alignment");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *place, *place_end;
static struct block *bins[64], *kept[KEPT];
static unsigned kept_next;

static unsigned bin_of(size_t bytes)
{
	return 63 - (unsigned)__builtin_clzl(bytes);
}

static void die(const char *text)
{
	ssize_t n = write(2, text, strlen(text));

	(void)n;
	__builtin_trap();
}

/* Sizes are powers of two. */
static struct block *take(size_t bytes)
{
	unsigned bin = bin_of(bytes);
	struct block *block = bins[bin];
	size_t space = bytes + sizeof(*block);

	if (block) {
		memcpy(&bins[bin], block + 1, sizeof(void *));
		return block;
	}
	if (space > CHUNK / 4) {
		void *memory = mmap(NULL, space, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		return memory == MAP_FAILED ? NULL : memory;
	}
	if ((size_t)(place_end - place) < space) {
		void *memory = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED)
			return NULL;
		place = memory;
		place_end = place + CHUNK;
	}
	block = (struct block *)(void *)place;
	place += space;
	return block;
}

void *malloc(size_t bytes)
{
	size_t size = ALIGN * 2;
	struct block *block;

	if (bytes > PTRDIFF_MAX / 4) {
		errno = ENOMEM;
		return NULL;
	}
	while (size < bytes)
		size *= 2;
	pthread_mutex_lock(&lock);
	block = take(size);
	pthread_mutex_unlock(&lock);
	if (!block) {
		errno = ENOMEM;
		return NULL;
	}
	block->bytes = size;
	block->magic = MAGIC;
	memset(block + 1, 0xa5, size);
	return block + 1;
}

/* An aligned block begins with a header that points back: its size is 0. */
static struct block *block_of(void *memory)
{
	struct block *block = (struct block *)memory - 1;

	if (block->magic != MAGIC && block->bytes == 0)
		block = (struct block *)(uintptr_t)block->magic;
	if (block->magic != MAGIC)
		die("allocator: this is not the address of a block, or it was freed before\n");
	return block;
}

void free(void *memory)
{
	struct block *block, *old;
	int error = errno;

	if (!memory)
		return;
	block = block_of(memory);
	memset(block + 1, 0x5a, block->bytes);
	block->magic = 0;
	pthread_mutex_lock(&lock);
	old = kept[kept_next];
	kept[kept_next] = block;
	kept_next = (kept_next + 1) % KEPT;
	if (old) {
		unsigned bin = bin_of(old->bytes);

		for (size_t i = 0; i < old->bytes; i++)
			if (((unsigned char *)(old + 1))[i] != 0x5a)
				die("allocator: a block was written to after free()\n");
		memcpy(old + 1, &bins[bin], sizeof(void *));
		bins[bin] = old;
	}
	pthread_mutex_unlock(&lock);
	errno = error;
}

void *calloc(size_t count, size_t bytes)
{
	void *memory;
	size_t all;

	if (__builtin_mul_overflow(count, bytes, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	memory = malloc(all);
	if (memory)
		memset(memory, 0, all);
	return memory;
}

void *realloc(void *memory, size_t bytes)
{
	void *fresh = malloc(bytes);

	if (memory && fresh) {
		struct block *block = block_of(memory);
		size_t room = block->bytes - (size_t)((char *)memory - (char *)(block + 1));

		memcpy(fresh, memory, room < bytes ? room : bytes);
		free(memory);
	}
	return fresh;
}

int posix_memalign(void **result, size_t alignment, size_t bytes)
{
	char *memory, *aligned;
	struct block *header;

	if (alignment < sizeof(void *) || (alignment & (alignment - 1)))
		return EINVAL;
	memory = malloc(bytes + alignment + 2 * ALIGN);
	if (!memory)
		return ENOMEM;
	if (alignment <= ALIGN) {
		*result = memory;
		return 0;
	}
	aligned = (char *)(((uintptr_t)memory + ALIGN + alignment - 1) & ~(alignment - 1));
	header = (struct block *)(void *)aligned - 1;
	header->bytes = 0;
	header->magic = (uintptr_t)((struct block *)(void *)memory - 1);
	*result = aligned;
	return 0;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
	void *memory = NULL;
	int error = posix_memalign(&memory, alignment < 16 ? 16 : alignment, bytes);

	if (error)
		errno = error;
	return error ? NULL : memory;
}

void *memalign(size_t alignment, size_t bytes);
void *memalign(size_t alignment, size_t bytes)
{
	return aligned_alloc(alignment, bytes);
}

size_t malloc_usable_size(void *memory);
size_t malloc_usable_size(void *memory)
{
	struct block *block = memory ? block_of(memory) : NULL;

	return block ? block->bytes - (size_t)((char *)memory - (char *)(block + 1)) : 0;
}

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void begin(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}
