/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Random chains over several tensors on two chips of which one dies at some call, in runs that are
 * cancelled at some task, or both. A tensor then has the result of one task of its chain: of the
 * last one, or of the one before the first that failed. If it is older, the error tells what was
 * lost.
 *
 * CHAINS_SEED=N repeats one program.
 */
#include "elision.h"
#include "../unit/seeds.h"

#define TENSORS 6
#define WORDS 512		/* of a tensor */
#define LINKS 40		/* tasks over each, at most */
#define SENT (TENSORS * LINKS / 2)

struct chains {
	uint64_t seed, random;
	bool dies;			/* the first chip does */
	unsigned cancel_at;		/* so many tasks; 0: it is not cancelled */
	unsigned links[TENSORS];
	uint64_t left[TENSORS][LINKS + 1];	/* each word after so many tasks */
};

static uint64_t *memory, *zero, *scratch;
static dw_callable mix;

static uint32_t below(struct chains *chains, uint32_t n)
{
	chains->random = chains->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(chains->random >> 33) % n;
}

static void send_link(struct dw_orch *orch, struct chains *chains, uint32_t t)
{
	struct call call = { .callable = mix, .options = DW_OPTIONS(dw_submit_options) };
	unsigned link = ++chains->links[t];
	char name[16];

	chains->left[t][link] = chains->left[t][link - 1] * 3 + link;
	call_tensor(&call, zero, DW_UINT64, 64, DW_INPUT);
	call_tensor(&call, zero, DW_UINT64, 64, DW_INPUT);
	call_tensor(&call, memory + t * WORDS, DW_UINT64, WORDS, DW_INOUT);
	call_scalar(&call, link);
	snprintf(name, sizeof(name), "<%u.%u>", t, link);
	call.options.name = name;
	send_call(orch, &call);
}

ORCH(orch_chains)
{
	struct chains *chains = context;

	UNUSED_OF_ORCH;
	for (unsigned sent = 0; sent < SENT; sent++) {
		uint32_t t = below(chains, TENSORS);
		/* The same one several times, so that they meet in a ring. */
		unsigned times = 1 + below(chains, 4);

		for (; times && chains->links[t] < LINKS; times--)
			send_link(orch, chains, t);
		if (below(chains, 6) == 0)
			combine(orch, memory + t * WORDS, WORDS, scratch + t * 64, 64);
		if (sent == chains->cancel_at && sent)
			CHECK_EQ(dw_worker_cancel(world.root), 0);
	}
	return 0;
}

/* The first task of a chain that failed, with its error's text; 0: none did. */
static unsigned first_failed(uint32_t t, unsigned links, struct dw_run_error *error)
{
	char name[16];

	for (unsigned link = 1; link <= links; link++) {
		snprintf(name, sizeof(name), "\"<%u.%u>\"", t, link);
		for (uint32_t i = 0; dw_run_error(NULL, i, error) == 0; i++)
			if (strstr(error->text, name))
				return link;
	}
	return 0;
}

static void check_chain(const struct chains *chains, uint32_t t, unsigned *lost)
{
	struct dw_run_error error = DW_OPTIONS(dw_run_error);
	const uint64_t *words = memory + t * WORDS;
	unsigned links = chains->links[t], failed = first_failed(t, links, &error), link = 0;
	bool right;

	for (unsigned i = 1; i < WORDS; i++)
		if (!CHECK_EQ(words[i], words[0]))
			break;
	while (link <= links && chains->left[t][link] != words[0])
		link++;
	if (failed)
		right = link == failed - 1 ||
			(link < failed && strstr(error.text, "had, is lost"));
	else
		right = chains->cancel_at ? link <= links : link == links;
	*lost += failed && link + 1 < failed;
	if (!CHECK(right))
		printf("# seed %llu: tensor %u (%#llx) is that of task %u of %u; %u failed: %s\n",
		       (unsigned long long)chains->seed, t, (unsigned long long)words[0], link,
		       links, failed, failed ? error.text : "-");
}

static void play(enum dw_mode mode, uint64_t seed, bool dies, bool cancels, unsigned *lost)
{
	struct chains chains = { .seed = seed, .random = seed * 0x9e3779b97f4a7c15u, .dies = dies };
	char options[64] = "poison=1";
	int result;

	if (dies)
		snprintf(options, sizeof(options), "poison=1,crash=%u", 1 + below(&chains, 120));
	if (cancels)
		chains.cancel_at = 1 + below(&chains, SENT - 1);
	world_open(mode, (struct world_options){
		.chips = 2, .chip = options, .other = "poison=1", .depth = 16,
	});
	memory = world.x;
	zero = memory + TENSORS * WORDS;
	scratch = zero + 64;
	for (uint32_t t = 0; t < TENSORS; t++) {
		chains.left[t][0] = 1 + t;
		for (unsigned i = 0; i < WORDS; i++)
			memory[t * WORDS + i] = 1 + t;
	}
	mix = kernel_image(world.root, "mix");
	CHECK_EQ(dw_worker_init(world.root), 0);
	result = dw_worker_run(world.root, orch_chains, NULL, NULL, &chains);
	if (!dies)
		CHECK_EQ(result, cancels ? -ECANCELED : 0);
	for (uint32_t t = 0; t < TENSORS; t++)
		check_chain(&chains, t, lost);
	world_close();
}

static void plays(enum dw_mode mode, bool dies, bool cancels, uint64_t seeds)
{
	const char *only = getenv("CHAINS_SEED");
	uint64_t seed = only ? strtoull(only, NULL, 0) : unit_first_seed();
	uint64_t last = only ? seed : seed + seeds - 1;
	unsigned lost = 0;

	for (; seed <= last && !unit_failures; seed++)
		play(mode, seed, dies, cancels, &lost);
	printf("# %u results were lost\n", lost);
}

TEST_IN_BOTH_MODES(chains_of_runs_that_end_are_complete)
{
	plays(mode, false, false, 20);
}

TEST_IN_BOTH_MODES(chains_of_cancelled_runs_are_those_of_one_task_each)
{
	plays(mode, false, true, 60);
}

TEST(chains_of_a_chip_that_dies_are_complete_or_named)
{
	plays(DW_PROCESS, true, false, 80);
}

TEST(chains_of_a_chip_that_dies_in_a_run_that_is_cancelled_are_too)
{
	plays(DW_PROCESS, true, true, 80);
}
