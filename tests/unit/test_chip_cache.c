/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The cache of a chip against a model: random calls and writes over a small piece of host memory,
 * with names as an engine gives them. After each round host memory is that of a program that does
 * the same in order, whatever the cache kept, dropped or found.
 * CACHE_SEED=N repeats one run of each kind.
 */
#include "chip/cache.h"
#include "chip_test.h"
#include "seeds.h"
#include "unit.h"

#define WORDS 1536
#define STEP 128			/* words: ranges begin and end at multiples of this */
#define ROUNDS 3000
#define KEY_RIPPLE 1
#define KEY_TRIPLE 2
#define KEY_FAIL 3
#define KEY_SPOIL 4
#define KEY_HALF 5
#define FILLED 0xdbdbdbdbdbdbdbdbu

static uint64_t home[WORDS] __attribute__((aligned(4096)));

struct model {
	struct chip *chip;
	struct chip_cache *cache;
	uint64_t words[WORDS], names[WORDS], last_name, random;
	/* Calls in flight: the words that they touch, and those that they write. */
	bool reads[WORDS], writes[WORDS];
	struct pending {
		struct dw_tensor tensors[2];
		uint64_t scalars[2];
		bool fails;
	} pending[4];
	uint32_t submitted, ended;
	bool gone;			/* the frame that supersedes calls has left the ring */
};

static uint32_t below(struct model *model, uint32_t n)
{
	model->random = model->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(model->random >> 33) % n;
}

struct span {
	uint32_t first, count;
};

static struct span span_of(struct model *model, uint32_t most)
{
	struct span span = { .count = (1 + below(model, most / STEP)) * STEP };

	span.first = below(model, (WORDS - span.count) / STEP + 1) * STEP;
	return span;
}

static uint64_t name_of(const struct model *model, const struct span *span)
{
	for (uint32_t i = 1; i < span->count; i++)
		if (model->names[span->first + i] != model->names[span->first])
			return 0;
	return model->names[span->first];
}

static void set_name(struct model *model, const struct span *span, uint64_t name)
{
	for (uint32_t i = 0; i < span->count; i++)
		model->names[span->first + i] = name;
}

static void end_one(struct model *model)
{
	const struct pending *pending = &model->pending[model->ended % 4];
	struct chip_completion done;

	uint32_t frame;

	CHECK_EQ(chip_finish(model->chip, &done), 1);
	CHECK_EQ(done.status, pending->fails ? -ERANGE : 0);
	CHECK(cache_end(model->cache, done.status == 0,
			cache_keeps(model->cache, &frame) && !model->gone) >= 0);
	model->ended++;
}

static void end_all(struct model *model)
{
	while (model->ended < model->submitted)
		end_one(model);
	memset(model->reads, 0, sizeof(model->reads));
	memset(model->writes, 0, sizeof(model->writes));
}

/* Does the call depend on calls in flight? An engine would post it after they have ended. */
static void wait_for(struct model *model, const struct span *span, bool writes)
{
	for (uint32_t i = span->first; i < span->first + span->count; i++)
		if (model->writes[i] || (writes && model->reads[i])) {
			end_all(model);
			return;
		}
}

static void note(struct model *model, const struct span *span, bool writes)
{
	for (uint32_t i = span->first; i < span->first + span->count; i++)
		(writes ? model->writes : model->reads)[i] = true;
}

static void submit(struct model *model, uint64_t key, struct pending *pending, uint32_t tensors,
		   uint32_t scalars, const struct frame_names *names, const struct superseder *by)
{
	struct dw_args args = view(pending->tensors, tensors, pending->scalars, scalars);
	const struct dw_chip_place *places;
	const int32_t *signature;
	int result, refused = 0;
	size_t count;

	signature = chip_image_signature(model->chip, key, &count);
	do {
		places = cache_begin(model->cache, &args, signature, count, names, by);
		result = chip_submit_at(model->chip, key, &args, places, NULL, 0, NULL);
		if (result < 0)
			CHECK(!cache_undo(model->cache, chip_is_async(model->chip)));
		if (result == -ENOMEM && !cache_shrink_for(model->cache, &args) &&
		    model->ended < model->submitted)
			end_one(model);
		else if (result == -ENOMEM && ++refused > 50)
			break;
	} while (result == -ENOMEM);
	if (!CHECK_EQ(result, 0))
		printf("# %s\n", error_text());
	model->submitted++;
}

static struct pending *pending_new(struct model *model)
{
	struct pending *pending;

	if (model->submitted - model->ended == chip_depth(model->chip))
		end_one(model);
	pending = &model->pending[model->submitted % 4];
	memset(pending, 0, sizeof(*pending));
	return pending;
}

static struct dw_tensor words_of(const struct span *span)
{
	return tensor1(&home[span->first], DW_UINT64, span->count);
}

static struct frame_names read_names(struct model *model, const struct span *span)
{
	struct frame_names names = { .sees = name_of(model, span) };

	if (!names.sees) {
		names.sees = ++model->last_name;
		set_name(model, span, names.sees);
	}
	return names;
}

/* Where its two ranges overlap, the call reads bytes that it has just written. */
static void ripple_from(struct model *model, struct span from, struct span to, bool named)
{
	struct frame_names names[2];
	struct pending *pending;

	to.count = from.count < WORDS - to.first ? from.count : WORDS - to.first;
	from.count = to.count;
	wait_for(model, &from, false);
	wait_for(model, &to, true);
	names[0] = named ? read_names(model, &from) : (struct frame_names){ 0 };
	names[1] = (struct frame_names){ .makes = ++model->last_name };
	set_name(model, &to, names[1].makes);
	note(model, &from, false);
	note(model, &to, true);
	pending = pending_new(model);
	pending->tensors[0] = words_of(&from);
	pending->tensors[1] = words_of(&to);
	submit(model, KEY_RIPPLE, pending, 2, 0, names, NULL);
	for (uint32_t i = 0; i < to.count; i++)
		model->words[to.first + i] = model->words[from.first + i] + 1;
}

static void ripple(struct model *model)
{
	struct span from = span_of(model, 4 * STEP);

	ripple_from(model, from, span_of(model, 4 * STEP), true);
}

/* Every other time the first attempt overwrites its arguments, and fails. */
static void triple(struct model *model)
{
	struct span span = span_of(model, 4 * STEP);
	struct frame_names names = { .sees = name_of(model, &span), .makes = ++model->last_name };
	struct pending *pending;

	wait_for(model, &span, true);
	set_name(model, &span, names.makes);
	if (below(model, 2)) {
		pending = pending_new(model);
		pending->tensors[0] = words_of(&span);
		pending->fails = true;
		submit(model, KEY_SPOIL, pending, 1, 0, &names, NULL);
		end_all(model);
	}
	note(model, &span, true);
	pending = pending_new(model);
	pending->tensors[0] = words_of(&span);
	pending->scalars[0] = below(model, 1000);
	submit(model, KEY_TRIPLE, pending, 1, 1, &names, NULL);
	for (uint32_t i = span.first; i < span.first + span.count; i++)
		model->words[i] = model->words[i] * 3 + pending->scalars[0];
}

/* Host memory is unchanged, or filled; from now on the name stands for that. */
static void fail(struct model *model)
{
	struct span span = span_of(model, 4 * STEP);
	struct frame_names names = { .makes = ++model->last_name };
	struct pending *pending;

	wait_for(model, &span, true);
	set_name(model, &span, names.makes);
	note(model, &span, true);
	pending = pending_new(model);
	pending->tensors[0] = words_of(&span);
	pending->fails = true;
	submit(model, KEY_FAIL, pending, 1, 2, &names, NULL);
	for (uint32_t i = span.first; getenv("DW_CHIP_DEBUG") && i < span.first + span.count; i++)
		model->words[i] = FILLED;
}

/* A write by a task elsewhere, which has a name, or by host code, which has none. */
static void write_home(struct model *model)
{
	struct span span = span_of(model, WORDS);

	wait_for(model, &span, true);
	for (uint32_t i = span.first; i < span.first + span.count; i++)
		home[i] = model->words[i] = model->random * (i + 1);
	set_name(model, &span, below(model, 2) ? ++model->last_name : 0);
}

/* Host code rewrites the bytes that a failed call left undefined. */
static void write_over(struct model *model, const struct span *span)
{
	for (uint32_t i = span->first; i < span->first + span->count; i++)
		home[i] = model->words[i] = model->random * (i + 1);
	set_name(model, span, 0);
}

static bool apart(const struct span *a, const struct span *b)
{
	return a->first + a->count <= b->first || b->first + b->count <= a->first;
}

/*
 * Reads a kept result whole, in part, with more around it, and then without a name; never writes
 * it.
 */
static void read_between(struct model *model, const struct span *span)
{
	for (uint32_t n = below(model, 3); n > 0; n--) {
		struct span to = span_of(model, 4 * STEP), from = span_of(model, 4 * STEP);
		bool inside;

		/* Writes as many words as it reads. */
		to.count = from.count < WORDS - to.first ? from.count : WORDS - to.first;
		from.count = to.count;
		inside = from.first >= span->first &&
			 from.first + from.count <= span->first + span->count;

		/* A larger range would get a new name, which nothing supersedes. */
		if (apart(&to, span))
			ripple_from(model, from, to, inside || apart(&from, span));
	}
}

/* The superseding call is never reached. */
static void break_chain(struct model *model, const struct span *span,
			const struct superseder *by)
{
	const struct dw_tensor tensor = by->args->tensors[0];
	struct pending *pending;

	end_all(model);
	switch (below(model, 4)) {
	case 0:
		CHECK_EQ(cache_settle(model->cache), 0);
		break;
	case 1:
		cache_begin(model->cache, by->args, by->signature, by->signature_count, by->names,
			    NULL);
		CHECK(!cache_undo(model->cache, true));
		CHECK_EQ(cache_settle(model->cache), 0);
		break;
	case 2:
		cache_forgo(model->cache, by->frame + 1);
		write_over(model, span);
		break;
	case 3:
		pending = pending_new(model);
		pending->tensors[0] = tensor;
		pending->fails = true;
		submit(model, KEY_SPOIL, pending, 1, 0, by->names, NULL);
		end_all(model);
		write_over(model, span);
		break;
	}
}

/* Calls over one range, each of which supersedes the one before. */
static void chain(struct model *model)
{
	struct span span = span_of(model, 4 * STEP);
	struct frame_names names = { .sees = name_of(model, &span), .makes = ++model->last_name };
	struct superseder by = { 0 };
	struct dw_tensor tensor = words_of(&span);
	struct dw_args args = view(&tensor, 1, NULL, 0);

	by.signature = chip_image_signature(model->chip, KEY_TRIPLE, &by.signature_count);
	by.args = &args;
	wait_for(model, &span, true);
	for (uint32_t left = 1 + below(model, 5); ; left--) {
		struct frame_names next = { .sees = names.makes, .makes = ++model->last_name };
		struct pending *pending = pending_new(model);

		by.names = &next;
		by.frame++;
		set_name(model, &span, names.makes);
		note(model, &span, true);
		pending->tensors[0] = tensor;
		pending->scalars[0] = below(model, 1000);
		submit(model, KEY_TRIPLE, pending, 1, 1, &names, left ? &by : NULL);
		for (uint32_t i = span.first; i < span.first + span.count; i++)
			model->words[i] = model->words[i] * 3 + pending->scalars[0];
		if (!left)
			break;
		/* Its frame is chained: it is claimed when all before it have ended. */
		model->gone = below(model, 8) == 0;
		end_all(model);
		model->gone = false;
		read_between(model, &span);
		end_all(model);
		if (below(model, 6) == 0) {
			break_chain(model, &span, &by);
			break;
		}
		names = next;
	}
	end_all(model);
}

static void load(struct model *model, uint64_t key, const char *entry)
{
	CHECK_EQ(fixture_load(model->chip, key, "sim_kernels", entry), 0);
}

static void run(const char *options, uint64_t seed, struct chip_cache_counters *counters)
{
	struct model model = { .random = seed };

	CHECK_EQ(chip_open("sim", 0, options, &model.chip), 0);
	load(&model, KEY_RIPPLE, "ripple");
	load(&model, KEY_TRIPLE, "triple_add");
	load(&model, KEY_FAIL, "fails");
	load(&model, KEY_SPOIL, "spoil");
	CHECK_EQ(cache_create(model.chip, &model.cache), 0);
	memcpy(home, model.words, sizeof(home));
	for (int round = 0; round < ROUNDS && !unit_failures; round++) {
		switch (below(&model, 18)) {
		case 16: case 17: chain(&model); break;
		case 0: fail(&model); break;
		case 1: case 2: write_home(&model); break;
		case 3: case 4: case 5: case 6: case 7: triple(&model); break;
		default: ripple(&model); break;
		}
		if (below(&model, 4))
			continue;
		end_all(&model);
		if (!CHECK_EQ(memcmp(home, model.words, sizeof(home)), 0))
			printf("# options \"%s\", seed %llu, round %d\n", options,
			       (unsigned long long)seed, round);
	}
	end_all(&model);
	cache_counters(model.cache, counters);
	cache_destroy(model.cache);
	chip_close(model.chip);
}

static void runs(const char *options, bool evicts)
{
	struct chip_cache_counters counters = { 0 }, sum = { 0 };
	const char *only = getenv("CACHE_SEED");
	uint64_t first = only ? strtoull(only, NULL, 0) : unit_first_seed();
	uint64_t last = only ? first : first + 11;

	for (uint64_t seed = first; seed <= last && !unit_failures; seed++) {
		run(options, seed, &counters);
		sum.hits += counters.hits;
		sum.evictions += counters.evictions;
		sum.kept += counters.kept;
		sum.settled += counters.settled;
	}
	printf("# \"%s\": %llu tensors found, %llu blocks dropped for others, %llu kept, %llu of "
	       "them copied home later\n", options, (unsigned long long)sum.hits,
	       (unsigned long long)sum.evictions, (unsigned long long)sum.kept,
	       (unsigned long long)sum.settled);
	CHECK(sum.hits > 0);
	CHECK(sum.kept > 0);
	CHECK(sum.settled > 0);
	CHECK(!evicts || sum.evictions > 0);
}

/* The same, with a pattern wherever contents are undefined. */
static void runs_filled(const char *options, bool evicts)
{
	runs(options, evicts);
	setenv("DW_CHIP_DEBUG", "fill", 1);
	runs(options, evicts);
	unsetenv("DW_CHIP_DEBUG");
}

TEST(results_are_those_of_a_program_without_a_cache)
{
	runs_filled("memory=131072,poison=1", false);
}

TEST(results_are_the_same_where_little_fits)
{
	runs_filled("memory=16384,poison=1", true);
}

TEST(results_are_the_same_with_two_calls_in_flight)
{
	runs_filled("memory=131072,poison=1,async=1,depth=2", false);
	runs_filled("memory=16384,poison=1,async=1,depth=2", true);
}

TEST(a_chain_copies_in_once)
{
	static uint64_t x[1 << 17];
	struct dw_tensor tensor = tensor1(x, DW_UINT64, 1 << 17);
	struct dw_chip_counters counters;
	struct chip_cache_counters kept;
	struct model model = { .random = 1 };
	uint64_t expected = 0;

	CHECK_EQ(chip_open("sim", 0, "memory=4194304", &model.chip), 0);
	load(&model, KEY_TRIPLE, "triple_add");
	CHECK_EQ(cache_create(model.chip, &model.cache), 0);
	for (uint64_t i = 0; i < 100; i++) {
		struct frame_names names = { .sees = i, .makes = i + 1 };
		struct pending *pending = pending_new(&model);

		pending->tensors[0] = tensor;
		pending->scalars[0] = i;
		submit(&model, KEY_TRIPLE, pending, 1, 1, &names, NULL);
		expected = expected * 3 + i;
		end_all(&model);
	}
	CHECK(x[0] == expected && x[(1 << 17) - 1] == expected);
	CHECK_EQ(chip_counters(model.chip, &counters), 0);
	CHECK_EQ(counters.copies_in, 1);
	CHECK_EQ(counters.copies_out, 100);
	cache_counters(model.cache, &kept);
	CHECK_EQ(kept.hits, 99);
	CHECK_EQ(kept.saved_bytes, 99 * sizeof(x));
	cache_destroy(model.cache);
	CHECK_EQ(chip_counters(model.chip, &counters), 0);
	CHECK_EQ(counters.memory_used, 0);
	chip_close(model.chip);
}

TEST(a_chain_that_is_superseded_copies_out_once)
{
	static uint64_t x[1 << 17];
	struct dw_tensor tensor = tensor1(x, DW_UINT64, 1 << 17);
	struct model model = { .random = 1 };
	struct dw_chip_counters counters;
	struct dw_args args = view(&tensor, 1, NULL, 0);
	uint64_t expected = 0;

	CHECK_EQ(chip_open("sim", 0, "memory=4194304", &model.chip), 0);
	load(&model, KEY_TRIPLE, "triple_add");
	CHECK_EQ(cache_create(model.chip, &model.cache), 0);
	for (uint64_t i = 0; i < 100; i++) {
		struct frame_names names = { .sees = i, .makes = i + 1 };
		struct frame_names next = { .sees = i + 1, .makes = i + 2 };
		struct pending *pending = pending_new(&model);
		struct superseder by = { .args = &args, .names = &next, .frame = (uint32_t)i + 1 };

		by.signature = chip_image_signature(model.chip, KEY_TRIPLE, &by.signature_count);
		pending->tensors[0] = tensor;
		pending->scalars[0] = i;
		submit(&model, KEY_TRIPLE, pending, 1, 1, &names, i < 99 ? &by : NULL);
		expected = expected * 3 + i;
		end_all(&model);
		CHECK_EQ(x[0], i < 99 ? 0 : expected);
	}
	CHECK_EQ(chip_counters(model.chip, &counters), 0);
	CHECK_EQ(counters.copies_in, 1);
	CHECK_EQ(counters.copies_out, 1);
	cache_destroy(model.cache);
	chip_close(model.chip);
}

/* The first call of a chain over x, whose copy home is left out. */
static void keep(struct model *model, const char *options, uint64_t *x, uint32_t words)
{
	static const struct frame_names next = { .sees = 2, .makes = 3 };
	static struct dw_tensor tensor;
	struct frame_names names = { .sees = 1, .makes = 2 };
	struct pending *pending;
	struct dw_args args;
	struct superseder by = { .args = &args, .names = &next, .frame = 1 };

	CHECK_EQ(chip_open("sim", 0, options, &model->chip), 0);
	load(model, KEY_TRIPLE, "triple_add");
	load(model, KEY_RIPPLE, "ripple");
	CHECK_EQ(cache_create(model->chip, &model->cache), 0);
	tensor = tensor1(x, DW_UINT64, words);
	args = view(&tensor, 1, NULL, 0);
	by.signature = chip_image_signature(model->chip, KEY_TRIPLE, &by.signature_count);
	pending = pending_new(model);
	pending->tensors[0] = tensor;
	pending->scalars[0] = 5;
	submit(model, KEY_TRIPLE, pending, 1, 1, &names, &by);
	end_all(model);
	CHECK_EQ(x[0], 0);
}

static void ripple_over(struct model *model, struct dw_tensor from, struct dw_tensor to,
			uint64_t from_sees, uint64_t to_sees, uint64_t to_makes)
{
	struct frame_names names[2] = {
		{ .sees = from_sees }, { .sees = to_sees, .makes = to_makes },
	};
	struct pending *pending = pending_new(model);

	pending->tensors[0] = from;
	pending->tensors[1] = to;
	submit(model, KEY_RIPPLE, pending, 2, 0, names, NULL);
	end_all(model);
}

static void unkeep(struct model *model)
{
	cache_destroy(model->cache);
	chip_close(model->chip);
}

TEST(what_is_kept_goes_home_before_another_range_takes_its_place)
{
	static uint64_t x[1024], y[1024];
	struct model model = { .random = 1 };

	memset(x, 0, sizeof(x));
	keep(&model, "memory=131072", x, 512);
	/* Half of it, and the same amount behind it. */
	ripple_over(&model, tensor1(y, DW_UINT64, 512), tensor1(x + 256, DW_UINT64, 512), 10, 0,
		    11);
	CHECK_EQ(x[0], 5);
	CHECK_EQ(x[255], 5);
	CHECK_EQ(x[256], 1);
	CHECK_EQ(x[767], 1);
	unkeep(&model);
}

/*
 * In the first attempt there is no room for a tensor without a place. A synchronous driver may have
 * begun by then, so kept results must have been copied home before.
 */
TEST(a_call_that_may_be_refused_after_it_began_takes_nothing_from_what_is_kept)
{
	static uint64_t x[512], y[4096], z[2048], w[64];
	struct model model = { .random = 1 };

	memset(x, 0, sizeof(x));
	keep(&model, "memory=49152", x, 512);
	ripple_over(&model, tensor1(z, DW_UINT64, 2048), tensor1(w, DW_UINT64, 64), 10, 0, 11);
	/* y has no name. submit() checks that nothing was lost with the first attempt. */
	ripple_over(&model, tensor1(y, DW_UINT64, 4096), tensor1(x, DW_UINT64, 512), 0, 2, 12);
	CHECK_EQ(x[0], 1);
	CHECK_EQ(x[511], 1);
	unkeep(&model);
}

TEST(memory_of_a_call_that_failed_is_free_again)
{
	struct model model = { .random = 1 };
	struct chip_cache_counters counters;

	CHECK_EQ(chip_open("sim", 0, "memory=131072", &model.chip), 0);
	load(&model, KEY_FAIL, "fails");
	CHECK_EQ(cache_create(model.chip, &model.cache), 0);
	fail(&model);
	cache_counters(model.cache, &counters);
	CHECK_EQ(counters.blocks, 1);
	end_all(&model);
	cache_counters(model.cache, &counters);
	CHECK_EQ(counters.blocks, 0);
	CHECK_EQ(counters.bytes, 0);
	cache_destroy(model.cache);
	chip_close(model.chip);
}

static uint64_t halves[16];

/* One call of `half`, over words that are 7 on the host. */
static uint64_t second_half(struct model *model, uint64_t name)
{
	struct frame_names names = { .makes = name };
	struct pending *pending = pending_new(model);

	for (int i = 0; i < 16; i++)
		halves[i] = 7;
	pending->tensors[0] = tensor1(halves, DW_UINT64, 16);
	submit(model, KEY_HALF, pending, 1, 0, &names, NULL);
	end_all(model);
	CHECK(halves[7] == 7 && halves[8] == halves[15]);
	return halves[8];
}

TEST(what_a_kernel_leaves_unwritten_shows_a_pattern_on_demand)
{
	struct frame_names names = { .makes = 10 };
	struct model model = { .random = 1 };
	struct pending *pending;
	uint64_t word = 0;

	setenv("DW_CHIP_DEBUG", "paint", 1);
	CHECK_EQ(chip_open("sim", 0, "memory=131072", &model.chip), 0);
	CHECK_EQ(cache_create(model.chip, &model.cache), -EINVAL);
	CHECK(!model.cache);
	CHECK_STR(error_text(), "DW_CHIP_DEBUG is \"paint\"; it can be fill");
	setenv("DW_CHIP_DEBUG", "fill", 1);
	load(&model, KEY_HALF, "half");
	load(&model, KEY_TRIPLE, "triple_add");
	CHECK_EQ(cache_create(model.chip, &model.cache), 0);
	/* In a new block, in one that is there, and in memory of one that was dropped. */
	CHECK_EQ(second_half(&model, 1), FILLED);
	CHECK_EQ(second_half(&model, 2), FILLED);
	CHECK(cache_shrink(model.cache, 1));
	CHECK_EQ(chip_reserve(model.chip, 1ull << 61, 128), 0);
	CHECK_EQ(chip_copy_out(model.chip, &word, 1ull << 61, 8), 0);
	CHECK_EQ(word, FILLED);
	chip_release(model.chip, 1ull << 61);
	cache_destroy(model.cache);
	unsetenv("DW_CHIP_DEBUG");
	/* Otherwise the previous contents of the block. */
	CHECK_EQ(cache_create(model.chip, &model.cache), 0);
	pending = pending_new(&model);
	pending->tensors[0] = tensor1(halves, DW_UINT64, 16);
	pending->scalars[0] = 1;
	submit(&model, KEY_TRIPLE, pending, 1, 1, &names, NULL);
	end_all(&model);
	word = halves[8];
	CHECK(word != FILLED && second_half(&model, 11) == word);
	cache_destroy(model.cache);
	chip_close(model.chip);
}
