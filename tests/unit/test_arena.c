// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The arena: its contents, the processes that may allocate, random blocks against a list of them
 * (zeroed, disjoint, all come back as one), and that memory returns to the system.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "engine/engine.h"
#include "engine_test.h"
#include "unit.h"

#define PAGE ((uint64_t)sysconf(_SC_PAGESIZE))
#define MIB (1ull << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static struct arena *make(uint64_t ring_bytes, uint64_t buffer_bytes, struct arena *outer)
{
	struct arena *arena = NULL;

	CHECK_EQ(arena_create(ring_bytes, buffer_bytes, outer, &arena), 0);
	return arena;
}

/* Runs `child` in a forked process, and returns its status. */
static int forked(int (*child)(void *context), void *context)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(child(context));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* Counts the pages of the range that are in memory. */
static uint64_t resident(void *address, uint64_t bytes)
{
	unsigned char *map = malloc(bytes / PAGE);
	uint64_t pages = 0;

	CHECK_EQ(mincore(address, bytes, map), 0);
	for (uint64_t i = 0; i < bytes / PAGE; i++)
		pages += map[i] & 1;
	free(map);
	return pages;
}

TEST(rings_and_buffers_lie_in_one_mapping_that_takes_what_is_touched)
{
	struct arena *arena = make(1 << 30, 4ull << 30, NULL);
	uint64_t bytes, first = (uintptr_t)arena_ring(arena, 0, &bytes);
	void *address;

	CHECK_EQ(bytes, 1 << 30);
	for (uint32_t i = 1; i < 4; i++)
		CHECK_EQ((uintptr_t)arena_ring(arena, i, &bytes), first + ((uint64_t)i << 30));
	CHECK_EQ(arena_alloc(arena, 4ull << 30, &address), 0);
	CHECK_EQ((uintptr_t)address, first + (4ull << 30));
	CHECK_EQ(arena_used(arena), 4ull << 30);
	CHECK_EQ(resident((void *)(uintptr_t)first, 8ull << 30), 0);
	arena_destroy(arena);
}

TEST(contains_knows_own_outer_and_registered_memory_to_the_byte)
{
	struct arena *outer = make(MIB, MIB, NULL), *inner = make(MIB, MIB, outer);
	char *shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			    0);
	uint64_t bytes, in = (uintptr_t)arena_ring(inner, 0, &bytes);
	uint64_t out = (uintptr_t)arena_ring(outer, 0, &bytes);
	uint64_t own = (uintptr_t)shared;

	CHECK(arena_contains(inner, in, 5 * MIB));
	CHECK(!arena_contains(inner, in, 5 * MIB + 1));
	CHECK(!arena_contains(inner, in - 1, 1) || in - 1 < out + 5 * MIB);
	CHECK(!arena_contains(inner, in, UINT64_MAX));
	CHECK(arena_contains(inner, in + 5 * MIB - 1, 1));
	CHECK(arena_contains(inner, out + 17, MIB));
	CHECK(!arena_contains(outer, in, 1));
	CHECK(!arena_contains(inner, (uintptr_t)&bytes, sizeof(bytes)));
	CHECK(!arena_contains(inner, 0, 1));

	CHECK(!arena_contains(inner, own, 1));
	CHECK_EQ(arena_register(outer, shared, PAGE), 0);
	CHECK(arena_contains(inner, own, PAGE));
	CHECK(!arena_contains(inner, own, PAGE + 1));
	CHECK_EQ(arena_register(outer, shared + 2 * PAGE, PAGE), 0);
	CHECK(!arena_contains(inner, own, 3 * PAGE));
	CHECK(!arena_contains(inner, own + PAGE, 1));
	CHECK(arena_contains(inner, own + 3 * PAGE - 1, 1));
	CHECK_EQ(arena_register(outer, shared + PAGE, PAGE), 0);
	CHECK(arena_contains(inner, own, 3 * PAGE));
	CHECK(!arena_contains(inner, own + 3 * PAGE, 1));
	arena_destroy(inner);
	arena_destroy(outer);
	munmap(shared, 4 * PAGE);
}

TEST(only_shared_memory_can_be_registered)
{
	struct arena *arena = make(MIB, MIB, NULL);
	void *private = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK_EQ(arena_register(arena, private, PAGE), -EINVAL);
	CHECK_STR(error_text(), "private");
	munmap(private, PAGE);
	CHECK_EQ(arena_register(arena, private, PAGE), -EINVAL);
	CHECK_STR(error_text(), "not mapped");
	CHECK_EQ(arena_register(arena, NULL, PAGE), -EINVAL);
	CHECK_EQ(arena_register(arena, private, 0), -EINVAL);
	CHECK_EQ(arena_register(arena, private, UINT64_MAX), -EINVAL);
	arena_destroy(arena);
}

TEST(many_registered_ranges_are_found)
{
	enum { RANGES = 300 };
	struct arena *arena = make(MIB, MIB, NULL);
	char *shared = mmap(NULL, 2 * RANGES * PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int wrong = 0;

	for (int i = 0; i < RANGES; i++)
		CHECK_EQ(arena_register(arena, shared + i * 7 % RANGES * 2 * PAGE, PAGE), 0);
	for (int i = 0; i < 2 * RANGES; i++)
		wrong += arena_contains(arena, (uintptr_t)shared + i * PAGE, PAGE) != (i % 2 == 0);
	CHECK_EQ(wrong, 0);
	arena_destroy(arena);
	munmap(shared, 2 * RANGES * PAGE);
}

TEST(what_cannot_be_reserved_is_an_error_with_sizes)
{
	struct arena *arena = NULL, *reserved[8];
	unsigned int count = 0;

	CHECK_EQ(arena_create(0, MIB, NULL, &arena), -EINVAL);
	CHECK_EQ(arena_create(UINT64_MAX, MIB, NULL, &arena), -EINVAL);
	CHECK_EQ(arena_create(MIB, UINT64_MAX, NULL, &arena), -EINVAL);
	/*
	 * The address space has 47 bits on x86-64 and 48 on arm64: the first size may fit, but
	 * never this many.
	 */
	while (count < 8 && arena_create(1ull << 44, 1ull << 46, NULL, &reserved[count]) == 0)
		count++;
	CHECK(count < 8);
	CHECK_STR(error_text(), "ENOMEM");
	CHECK_STR(error_text(), "16777216 MiB");
	CHECK_STR(error_text(), "67108864 MiB");
	CHECK(!arena);
	while (count)
		arena_destroy(reserved[--count]);
}

static int create_limited(void *context)
{
	struct rlimit limit = { .rlim_cur = 2ull << 30, .rlim_max = 2ull << 30 };
	struct arena *arena;

	(void)context;
	setrlimit(RLIMIT_AS, &limit);
	if (arena_create(1 << 30, 1 << 30, NULL, &arena) != -ENOMEM)
		return 1;
	return !strstr(error_text(), "limited to 2048 MiB");
}

TEST(the_limit_of_the_address_space_is_named)
{
	if (SANITIZED)
		SKIP("the sanitizer needs more address space");
	CHECK_EQ(forked(create_limited, NULL), 0);
}

static int create_with_small_files(void *context)
{
	struct rlimit limit = { .rlim_cur = 1 << 16, .rlim_max = 1 << 16 };
	struct arena *arena;
	void *address;

	(void)context;
	setrlimit(RLIMIT_FSIZE, &limit);
	if (arena_create(MIB, MIB, NULL, &arena) || arena_alloc(arena, MIB, &address))
		return 1;
	memset(address, 1, MIB);
	return arena_free(arena, address) || arena_alloc(arena, MIB, &address) ||
	       *((char *)address + MIB / 2);
}

TEST(a_limit_on_file_sizes_does_not_matter)
{
	CHECK_EQ(forked(create_with_small_files, NULL), 0);
}

struct inherited {
	struct arena *arena;
	uint64_t *address;
};

static int use_inherited(void *context)
{
	struct inherited *inherited = context;
	void *address;

	if (*inherited->address != 4711)
		return 1;
	*inherited->address = 4712;
	if (arena_alloc(inherited->arena, 64, &address) != -EBADFD ||
	    arena_free(inherited->arena, inherited->address) != -EBADFD)
		return 2;
	return !arena_contains(inherited->arena, (uintptr_t)inherited->address, 8);
}

static int look_for_it(void *context)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];

	(void)context;
	while (maps && fgets(line, sizeof(line), maps))
		if (strstr(line, "distworker-arena"))
			return 1;
	return !maps;
}

TEST(children_share_the_memory_and_after_the_seal_nobody_inherits_it)
{
	struct inherited inherited = { .arena = make(MIB, MIB, NULL) };

	CHECK_EQ(arena_alloc(inherited.arena, PAGE, (void **)&inherited.address), 0);
	*inherited.address = 4711;
	CHECK_EQ(forked(use_inherited, &inherited), 0);
	CHECK_EQ(*inherited.address, 4712);
	CHECK_EQ(forked(look_for_it, NULL), 1);
	arena_seal(inherited.arena);
	CHECK_EQ(forked(look_for_it, NULL), 0);
	arena_destroy(inherited.arena);
}

TEST(errors_of_alloc_and_free_name_the_object)
{
	struct arena *arena = make(MIB, 16 * PAGE, NULL);
	char wanted[32], left[64];
	void *address, *other;
	uint64_t bytes;

	snprintf(wanted, sizeof(wanted), "%llu bytes", (unsigned long long)(10 * PAGE));
	snprintf(left, sizeof(left), "%llu of %llu", (unsigned long long)(10 * PAGE),
		 (unsigned long long)(16 * PAGE));

	CHECK_EQ(arena_alloc(arena, 0, &address), -EINVAL);
	CHECK_EQ(arena_alloc(arena, 16 * PAGE + 1, &address), -ENOMEM);
	CHECK_EQ(arena_alloc(arena, UINT64_MAX, &address), -ENOMEM);
	CHECK_EQ(arena_alloc(arena, 10 * PAGE, &address), 0);
	CHECK_EQ(arena_alloc(arena, 10 * PAGE, &other), -ENOMEM);
	CHECK_STR(error_text(), wanted);
	CHECK_STR(error_text(), left);
	CHECK_EQ(arena_free(arena, (char *)address + 64), -ENOENT);
	CHECK_EQ(arena_free(arena, arena_ring(arena, 0, &bytes)), -ENOENT);
	CHECK_EQ(arena_free(arena, &address), -ENOENT);
	CHECK_EQ(arena_free(arena, NULL), -ENOENT);
	CHECK_EQ(arena_free(arena, address), 0);
	CHECK_EQ(arena_free(arena, address), -ENOENT);
	CHECK_EQ(arena_used(arena), 0);
	arena_destroy(arena);
}

TEST(an_arena_can_be_filled_page_by_page)
{
	struct arena *arena = make(MIB, 256 * PAGE, NULL);
	void *address, *small;

	/* A small block in front makes only its own page unusable. */
	CHECK_EQ(arena_alloc(arena, 100, &small), 0);
	for (int i = 0; i < 255; i++)
		CHECK_EQ(arena_alloc(arena, PAGE, &address), 0);
	CHECK_EQ(arena_alloc(arena, PAGE, &address), -ENOMEM);
	for (int i = 0; i < (int)(PAGE - 128) / 64; i++)
		CHECK_EQ(arena_alloc(arena, 64, &address), 0);
	CHECK_EQ(arena_alloc(arena, 64, &address), -ENOMEM);
	CHECK_EQ(arena_used(arena), 256 * PAGE);
	arena_destroy(arena);
}

TEST(freed_memory_returns_to_the_system_and_reads_zero)
{
	struct arena *arena = make(MIB, 64 * MIB, NULL);
	void *large, *small[4096], *again;
	uint64_t zero = 0;

	CHECK_EQ(arena_alloc(arena, 32 * MIB, &large), 0);
	memset(large, 0xcc, 32 * MIB);
	CHECK_EQ(resident(large, 32 * MIB), 32 * MIB / PAGE);
	CHECK_EQ(arena_free(arena, large), 0);
	CHECK_EQ(resident(large, 32 * MIB), 0);
	for (int i = 0; i < 4096; i++) {
		CHECK_EQ(arena_alloc(arena, 2048, &small[i]), 0);
		memset(small[i], 0xcc, 2048);
	}
	for (int i = 0; i < 4096; i++)
		CHECK_EQ(arena_free(arena, small[(i * 1001) % 4096]), 0);
	CHECK(resident(large, 32 * MIB) < 64);
	CHECK_EQ(arena_alloc(arena, 64 * MIB, &again), 0);
	for (uint64_t i = 0; i < 8 * MIB; i += 8)
		zero |= *(uint64_t *)((char *)again + i);
	CHECK_EQ(zero, 0);
	arena_destroy(arena);
}

/* -------------------------------------------------------------------- random */

#define BLOCKS 400
#define SPACE (4 * MIB)

struct shadow {
	unsigned char *address;
	uint64_t bytes;
	unsigned char fill;
};

static bool all_are(const unsigned char *bytes, uint64_t count, unsigned char value)
{
	return !count || (bytes[0] == value && !memcmp(bytes, bytes + 1, count - 1));
}

/* The size of a block in units of 64 bytes. */
static uint64_t grains(uint64_t bytes)
{
	return bytes < PAGE ? (bytes + 63) / 64 : (bytes + PAGE - 1) / PAGE * (PAGE / 64);
}

static int run_seed(uint64_t seed)
{
	static struct shadow shadows[BLOCKS];
	static bool taken[SPACE / 64];
	struct arena *arena = make(MIB, SPACE, NULL);
	uint64_t ring_bytes, base = (uintptr_t)arena_ring(arena, 0, &ring_bytes) + 4 * MIB;
	uint64_t used = 0;
	uint32_t load = 3 + below(4), largest = 1 + below(3);
	const char *wrong = NULL;
	void *address;

	memset(shadows, 0, sizeof(shadows));
	memset(taken, 0, sizeof(taken));
	for (int step = 0; step < 1500 && !wrong; step++) {
		struct shadow *shadow = &shadows[below(BLOCKS)];
		uint64_t offset, bytes = 1 + below(1u << (6 + below(4 + 4 * largest)));

		if (shadow->address) {
			uint64_t rounded;

			if (below(10) < load && step < 1400)
				continue;
			bytes = shadow->bytes;
			rounded = grains(bytes);
			if (!all_are(shadow->address, bytes, shadow->fill))
				wrong = "somebody else wrote into a block";
			if (arena_free(arena, shadow->address))
				wrong = "free";
			offset = ((uintptr_t)shadow->address - base) / 64;
			for (uint64_t i = offset; i < offset + rounded; i++)
				taken[i] = false;
			used -= rounded * 64;
			shadow->address = NULL;
		} else {
			uint64_t rounded = grains(bytes);

			if (arena_alloc(arena, bytes, &address)) {
				/* Then no aligned hole of that size may exist. */
				uint64_t align = bytes < PAGE ? 1 : PAGE / 64, run;

				for (uint64_t i = 0; i + rounded <= SPACE / 64; i += align) {
					for (run = 0; run < rounded && !taken[i + run]; run++)
						;
					if (run == rounded)
						wrong = "a hole was not found";
				}
				continue;
			}
			if ((uintptr_t)address % (bytes < PAGE ? 64 : PAGE))
				wrong = "alignment";
			if (!all_are(address, bytes, 0))
				wrong = "a new block is not zero";
			offset = ((uintptr_t)address - base) / 64;
			for (uint64_t i = offset; i < offset + rounded; i++) {
				if (taken[i])
					wrong = "overlap";
				taken[i] = true;
			}
			used += rounded * 64;
			*shadow = (struct shadow){
				.address = address, .bytes = bytes, .fill = 1 + below(255),
			};
			memset(address, shadow->fill, bytes);
		}
		if (arena_used(arena) != used)
			wrong = "used";
	}
	for (int i = 0; i < BLOCKS && !wrong; i++)
		if (shadows[i].address && arena_free(arena, shadows[i].address))
			wrong = "free in the end";
	/* All free blocks are one again. */
	if (!wrong && arena_alloc(arena, SPACE, &address))
		wrong = "the whole space in the end";
	if (wrong)
		printf("# seed %llu: %s\n", (unsigned long long)seed, wrong);
	arena_destroy(arena);
	return wrong != NULL;
}

TEST(random_blocks_are_zero_disjoint_and_all_come_back)
{
	CHECK_EQ(run_seeds(run_seed, 200), 0);
}

/* ------------------------------------------------------------------ threads */

static void *allocate_and_free(void *context)
{
	struct arena *arena = context;
	uint64_t *blocks[32] = { NULL };
	uintptr_t wrong = 0;

	for (uint64_t i = 0; i < 20000; i++) {
		uint64_t **block = &blocks[i % 32];
		void *address;

		if (*block) {
			wrong += **block != (uintptr_t)block;
			wrong += arena_free(arena, *block) != 0;
		}
		if (arena_alloc(arena, 8 + i % 7 * 1000, &address))
			return (void *)1;
		*block = address;
		wrong += **block;
		**block = (uintptr_t)block;
		wrong += !arena_contains(arena, (uintptr_t)address, 8);
	}
	for (int i = 0; i < 32; i++)
		wrong += arena_free(arena, blocks[i]) != 0;
	return (void *)wrong;
}

TEST(threads_allocate_side_by_side)
{
	struct arena *arena = make(MIB, 16 * MIB, NULL);
	pthread_t threads[3];
	void *wrong;

	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, allocate_and_free, arena), 0);
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], &wrong);
		CHECK_EQ((uintptr_t)wrong, 0);
	}
	CHECK_EQ(arena_used(arena), 0);
	arena_destroy(arena);
}

TEST(what_a_block_of_the_arena_costs)
{
	struct arena *arena = make(MIB, 1024 * MIB, NULL);
	uint64_t count = rounds(5000000), begin = cpu_ns(), sum = 0;
	uint64_t bytes, base = (uintptr_t)arena_ring(arena, 0, &bytes);
	void *blocks[64] = { NULL };

	for (uint64_t i = 0; i < count; i++) {
		if (blocks[i % 64])
			arena_free(arena, blocks[i % 64]);
		arena_alloc(arena, 1024 + i % 3 * 512, &blocks[i % 64]);
	}
	printf("# alloc and free of about 1 KiB: %.1f ns\n", (double)(cpu_ns() - begin) / count);
	begin = cpu_ns();
	for (uint64_t i = 0; i < count; i++)
		sum += arena_contains(arena, base + i % 1000 * 64, 64);
	printf("# contains: %.1f ns\n", (double)(cpu_ns() - begin) / count);
	CHECK_EQ(sum, count);
	arena_destroy(arena);
}

/* Another process can map it there, since it most likely has nothing at that address. */
TEST(an_arena_lies_where_no_program_or_library_does)
{
	uint64_t bytes, begin;
	struct arena *arena, *there;

	for (int i = 0; i < 20; i++) {
		CHECK_EQ(arena_create(1 << 20, 1 << 20, NULL, &arena), 0);
		begin = (uint64_t)(uintptr_t)arena_ring(arena, 0, &bytes);
		CHECK((begin >= 1ull << 45 && begin < 1ull << 46) ||
		      (begin >= 1ull << 36 && begin < 1ull << 37));
		/* It cannot be mapped twice in one process. */
		CHECK_EQ(arena_map(begin, begin + 4096, NULL, &there), -EEXIST);
		arena_destroy(arena);
		CHECK_EQ(arena_map(begin, begin + (1 << 20), NULL, &there), 0);
		CHECK(arena_contains(there, begin, 1 << 20));
		CHECK(!arena_contains(there, begin + 1, 1 << 20));
		arena_destroy(there);
	}
}
