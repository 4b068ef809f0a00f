/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The difference between the clocks of two hosts (host/offset.h): samples of hosts whose clocks
 * are known here, with delays that are given, or random.
 */
#include "host/offset.h"
#include "unit.h"

#define SECOND 1000000000ULL

/* The clock there, which is `ahead` and runs `ppm` faster, at a moment here. */
struct clocks {
	int64_t ahead, ppm;
};

static uint64_t there(const struct clocks *clocks, uint64_t here)
{
	return here + (uint64_t)clocks->ahead +
	       (uint64_t)((int64_t)(here / 1000000) * clocks->ppm);
}

static struct offset_sample exchange(const struct clocks *clocks, uint64_t sent, uint64_t way,
				     uint64_t served, uint64_t back)
{
	return (struct offset_sample){
		.sent_ns = sent,
		.got_ns = there(clocks, sent + way),
		.answered_ns = there(clocks, sent + way + served),
		.received_ns = sent + way + served + back,
	};
}

static void take(struct offset *offset, const struct clocks *clocks, uint64_t sent, uint64_t way,
		 uint64_t back)
{
	struct offset_sample sample = exchange(clocks, sent, way, 1000, back);

	offset_take(offset, &sample);
}

TEST(nothing_is_known_before_the_first_sample)
{
	struct offset offset = { .known = false };

	CHECK_EQ(offset_here(&offset, 77), 77);
	CHECK_EQ(offset_round_trip(&offset), 0);
	CHECK_EQ(offset_error(&offset, SECOND), UINT64_MAX);
}

TEST(one_sample_is_wrong_by_half_of_its_round_trip_at_most)
{
	static const int64_t aheads[] = { 0, 5, -5, 86400LL * 1000000000, -86400LL * 1000000000 };

	for (size_t i = 0; i < sizeof(aheads) / sizeof(aheads[0]); i++) {
		const struct clocks clocks = { .ahead = aheads[i] };
		const uint64_t begin = 100000 * SECOND;
		struct offset offset = { .known = false };

		take(&offset, &clocks, begin, 40000, 20000);
		CHECK_EQ(offset_ahead(&offset), aheads[i] + 10000);
		CHECK_EQ(offset_round_trip(&offset), 60000);
		CHECK_EQ(offset_error(&offset, begin + 61000), 30000);
		/* 100 ppm of its age. */
		CHECK_EQ(offset_error(&offset, begin + 61000 + SECOND), 130000);
		CHECK_EQ(offset_here(&offset, there(&clocks, begin)), begin - 10000);
	}
}

TEST(the_quickest_way_there_and_the_quickest_way_back_count)
{
	const struct clocks clocks = { .ahead = -7 };
	struct offset offset = { .known = false };

	take(&offset, &clocks, SECOND, 5000, 90000);
	take(&offset, &clocks, SECOND + 200000, 90000, 5000);
	/* Meanwhile the bounds have grown by less than 100 ns. */
	CHECK(offset_ahead(&offset) > -7 - 100 && offset_ahead(&offset) < -7 + 100);
	CHECK(offset_error(&offset, SECOND + 300000) < 5100);
	CHECK_EQ(offset_round_trip(&offset), 95000);
}

TEST(causes_come_before_effects_whatever_the_delays)
{
	unsigned int seed = 1;

	for (int trial = 0; trial < 200; trial++) {
		struct clocks clocks = {
			.ahead = (int64_t)(rand_r(&seed) % 1000000) * 1000000 - 500000000000,
			.ppm = rand_r(&seed) % 121 - 60,
		};
		uint64_t now = 1000 * SECOND;
		struct offset offset = { .known = false };

		for (int i = 0; i < 300; i++) {
			uint64_t way = 5000 + rand_r(&seed) % 200000;
			uint64_t back = 5000 + rand_r(&seed) % 200000;
			struct offset_sample sample =
				exchange(&clocks, now, way, rand_r(&seed) % 50000000, back);

			offset_take(&offset, &sample);
			CHECK(offset_here(&offset, sample.got_ns) >= sample.sent_ns);
			CHECK(sample.answered_ns - (uint64_t)offset_ahead(&offset) <=
			      sample.received_ns);
			now = sample.received_ns + rand_r(&seed) % SECOND;
		}
		/* The true difference is within the reported bounds. */
		int64_t wrong = offset_ahead(&offset) - (int64_t)(there(&clocks, now) - now);

		CHECK((uint64_t)(wrong < 0 ? -wrong : wrong) <= offset_error(&offset, now) + 1);
	}
}

TEST(a_clock_that_has_jumped_is_followed_at_once)
{
	struct clocks clocks = { .ahead = 1000 };
	struct offset offset = { .known = false };

	take(&offset, &clocks, SECOND, 10000, 10000);
	clocks.ahead -= 3600LL * 1000000000; /* the host there was suspended */
	take(&offset, &clocks, 2 * SECOND, 10000, 10000);
	CHECK_EQ(offset_ahead(&offset), clocks.ahead);
}

TEST(a_sample_that_contradicts_itself_is_left_out)
{
	const struct clocks clocks = { .ahead = 50 };
	struct offset offset = { .known = false }, before;
	struct offset_sample bad[3];

	take(&offset, &clocks, SECOND, 10000, 10000);
	before = offset;
	for (int i = 0; i < 3; i++)
		bad[i] = exchange(&clocks, 2 * SECOND, 500, 1000, 500);
	bad[0].answered_ns = bad[0].got_ns - 1;
	bad[1].received_ns = bad[1].sent_ns - 1;
	bad[2].answered_ns += 1001; /* longer there than here */
	for (int i = 0; i < 3; i++) {
		offset_take(&offset, &bad[i]);
		CHECK(memcmp(&before, &offset, sizeof(before)) == 0);
	}
}

/* Moments of the other host are told in any order, while the estimate gets better. */
TEST(moments_keep_their_order_whenever_they_are_told)
{
	unsigned int seed = 7;

	for (int trial = 0; trial < 200; trial++) {
		struct clocks clocks = {
			.ahead = (int64_t)(rand_r(&seed) % 1000000) * 1000000 - 500000000000,
			.ppm = rand_r(&seed) % 121 - 60,
		};
		uint64_t now = 1000 * SECOND, told[20], here[20];
		struct offset offset = { .known = false };
		unsigned steps = 0;

		for (int i = 0; i < 20; i++) {
			/* The first ones are slow: the machine was busy. */
			uint64_t slow = i < 10 ? 2000000 >> i : 1000;
			struct offset_sample sample =
				exchange(&clocks, now, 5000 + rand_r(&seed) % slow,
					 100000, 5000 + rand_r(&seed) % slow);
			int64_t before = offset_ahead(&offset);

			offset_take(&offset, &sample);
			steps += i && offset_ahead(&offset) != before;
			CHECK(offset_here(&offset, sample.got_ns + 1000) >= sample.sent_ns);
			/* One of the time before this sample, and one of the task. */
			told[i] = i % 2 ? told[i - 1] + 1 + rand_r(&seed) % 30000 :
					  sample.got_ns + rand_r(&seed) % 50000;
			here[i] = offset_here(&offset, told[i]);
			now = sample.received_ns + rand_r(&seed) % 100000;
		}
		CHECK(steps > 0);
		for (int i = 0; i < 20; i++)
			for (int k = 0; k < 20; k++)
				CHECK((told[i] < told[k]) <= (here[i] <= here[k]));
	}
}

TEST(the_round_trip_is_that_of_the_last_samples)
{
	const struct clocks clocks = { .ahead = 0 };
	struct offset offset = { .known = false };
	uint64_t now = SECOND;

	take(&offset, &clocks, now, 1000, 1000);
	for (int i = 0; i < 2 * OFFSET_SAMPLES; i++) {
		if (i < OFFSET_SAMPLES - 1)
			CHECK_EQ(offset_round_trip(&offset), 2000);
		take(&offset, &clocks, now += SECOND, 30000, 30000);
	}
	CHECK_EQ(offset_round_trip(&offset), 60000);
}
