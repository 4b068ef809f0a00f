/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * base: sets of bits, slabs, the lock, events and the clock.
 */
#include <errno.h>
#include <pthread.h>
#include "base/bits.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/slab.h"
#include "unit.h"

TEST(bits_of_a_set_come_in_ascending_order_over_words)
{
	static const uint32_t members[] = { 0, 1, 63, 64, 100, 127, 128, 191 };
	uint64_t set[3] = { 0 };
	uint32_t found = 0;

	for (uint32_t k = 0; k < sizeof(members) / sizeof(members[0]); k++)
		bit_set(set, members[k]);
	for (uint32_t word = 0; word < 3; word++) {
		uint64_t bits = set[word];

		for (uint32_t i; bits_next(&bits, word, &i); found++) {
			CHECK_EQ(i, members[found]);
			/* A change of the set does not disturb the loop. */
			bit_clear(set, i);
			CHECK(!bit_test(set, i));
		}
	}
	CHECK_EQ(found, sizeof(members) / sizeof(members[0]));
	CHECK_EQ(set[0] | set[1] | set[2], 0);
	CHECK_EQ(bits_first(1ULL << 63, 1), 127);
}

struct line {
	_Alignas(64) uint64_t words[8];
};

TEST(slab_gives_aligned_objects_that_do_not_overlap)
{
	struct slab slab = SLAB_INIT(struct line, 2, 16);
	struct line *lines[200];

	for (uint32_t i = 0; i < 200; i++) {
		lines[i] = slab_take(&slab);
		CHECK(lines[i] != NULL);
		CHECK_EQ((uintptr_t)lines[i] % 64, 0);
		for (uint32_t k = 0; k < 8; k++)
			lines[i]->words[k] = i;
	}
	for (uint32_t i = 0; i < 200; i++)
		for (uint32_t k = 0; k < 8; k++)
			CHECK_EQ(lines[i]->words[k], i);
	slab_release(&slab);
}

TEST(slab_hands_out_again_what_was_given_back)
{
	struct slab slab = SLAB_INIT(struct line, 4, 4);
	struct line *first = slab_take(&slab), *again;

	slab_give(&slab, first);
	again = slab_take(&slab);
	CHECK(again == first);
	slab_release(&slab);
}

struct counted {
	struct lock lock;
	uint64_t count;
	_Atomic uint32_t begin;
};

static void *count_to_20000(void *argument)
{
	struct counted *counted = argument;

	event_wait(&counted->begin, NEVER);
	for (int i = 0; i < 20000; i++) {
		lock_take(&counted->lock);
		counted->count++;
		lock_give(&counted->lock);
	}
	return NULL;
}

TEST(lock_excludes_and_an_event_releases_all_waiters)
{
	struct counted counted = { 0 };
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, count_to_20000, &counted), 0);
	event_set(&counted.begin);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(counted.count, 80000);
}

TEST(event_wait_ends_at_its_deadline_and_not_before)
{
	_Atomic uint32_t word = 0;
	uint64_t deadline = deadline_in(2000000);

	CHECK_EQ(event_wait(&word, deadline), -ETIMEDOUT);
	CHECK(now_ns() >= deadline);
}

TEST(deadline_beyond_the_end_of_time_is_never)
{
	CHECK(deadline_in(UINT64_MAX) == NEVER);
	CHECK(deadline_in(UINT64_MAX - 1) == NEVER);
	CHECK(deadline_in(0) <= now_ns());
}
