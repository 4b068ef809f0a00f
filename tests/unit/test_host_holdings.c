/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Which bytes a host has, and under which names (host/holdings.h). */
#include "host/holdings.h"
#include "unit.h"

static unsigned next_random(unsigned *state)
{
	*state = *state * 1103515245u + 12345u;
	return *state >> 8;
}

/* Against an array with a name for each byte. */
TEST(holdings_have_each_byte_under_the_name_that_it_was_given_last)
{
	enum { BYTES = 64, STEPS = 20000 };
	struct holdings holdings = { .pieces = NULL };
	uint64_t names[BYTES] = { 0 };
	unsigned random = 17;

	for (unsigned i = 0; i < STEPS; i++) {
		uint64_t begin = next_random(&random) % BYTES, held = 0;
		struct range range = { begin, begin + 1 + next_random(&random) % (BYTES - begin) };
		uint64_t name = next_random(&random) % 4;
		struct range rest = { 0, BYTES }, gap;

		if (name)
			holdings_set(&holdings, &range, name);
		else
			holdings_forget(&holdings, &range);
		for (uint64_t at = range.begin; at < range.end; at++)
			names[at] = name;
		CHECK_EQ(holdings_has(&holdings, &range, name), name != 0);
		for (uint64_t at = 0; at < BYTES; at++) {
			range = (struct range){ at, at + 1 };
			held += names[at] != 0;
			for (uint64_t other = 1; other < 4; other++)
				REQUIRE(holdings_has(&holdings, &range, other) ==
					(names[at] == other));
		}
		REQUIRE(holdings.bytes == held);
		while (holdings_gap(&holdings, &rest, &gap)) {
			for (uint64_t at = gap.begin; at < gap.end; at++)
				REQUIRE(!names[at]);
			held += gap.end - gap.begin;
			rest.begin = gap.end;
		}
		REQUIRE(held == BYTES);
	}
	holdings_release(&holdings);
}

TEST(the_oldest_holding_is_the_one_that_was_asked_for_longest_ago)
{
	struct holdings holdings = { .pieces = NULL };
	const struct holding *oldest;
	struct range range[3];

	for (uint64_t i = 0; i < 3; i++) {
		range[i] = (struct range){ 10 * i, 10 * i + 10 };
		holdings_set(&holdings, &range[i], 5 + i);
	}
	CHECK(holdings_has(&holdings, &range[0], 5));
	oldest = holdings_oldest(&holdings, 0);
	REQUIRE(oldest && oldest->name == 6);
	oldest = holdings_oldest(&holdings, oldest->used);
	REQUIRE(oldest && oldest->name == 7);
	oldest = holdings_oldest(&holdings, oldest->used);
	REQUIRE(oldest && oldest->name == 5);
	CHECK(!holdings_oldest(&holdings, oldest->used));
	holdings_release(&holdings);
}
