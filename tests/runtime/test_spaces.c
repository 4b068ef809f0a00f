/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Memory spaces: random programs over chips with little memory, sub workers, and nested Workers
 * that have both, against the same program in order. Tasks read and write ranges that overlap in
 * part; host code writes after waits; there are groups, tensors without dependencies, temporary
 * memory, nested runs. Memory is that of the program in order, whatever a chip kept.
 *
 * Memory with undefined contents has a pattern. SPACES_SEED=N repeats one program.
 */
#include "chips.h"
#include "../unit/seeds.h"

#define WORDS 3072
#define STEP 64			/* ranges begin and end at multiples of so many words */
#define STEPS 60		/* of a program; nested ones have a quarter */
#define CHIP "memory=24576,poison=1"

static uint64_t *shared;	/* the buffer; children have it at the same address */
static bool kept;		/* it is one that host code touches through calls alone */
static uint64_t model[WORDS];

static struct {
	dw_callable chip_mix, chip_combine, sub_mix, sub_combine, program;
	struct dw_worker *root;
} tree;

/* --------------------------------------------------------------- arithmetic */

static void do_mix(const uint64_t *a, uint32_t na, const uint64_t *b, uint32_t nb, uint64_t *c,
		   uint32_t nc, uint64_t s)
{
	for (uint32_t i = 0; i < nc; i++)
		c[i] = c[i] * 3 + a[i % na] + b[i % nb] + s;
}

static void do_combine(const uint64_t *a, uint32_t na, uint64_t *c, uint32_t nc)
{
	for (uint32_t i = 0; i < nc; i++)
		c[i] = a[i % na] * 5 + 7;
}

static uint32_t length(const struct dw_args *args, uint32_t i)
{
	return dw_args_tensor(args, i)->shape[0];
}

static int sub_mix(const struct dw_args *args, void *context)
{
	(void)context;
	do_mix(dw_args_data(args, 0), length(args, 0), dw_args_data(args, 1), length(args, 1),
	       dw_args_data(args, 2), length(args, 2), dw_args_scalar(args, 0));
	return 0;
}

static int sub_combine(const struct dw_args *args, void *context)
{
	(void)context;
	do_combine(dw_args_data(args, 0), length(args, 0), dw_args_data(args, 1), length(args, 1));
	return 0;
}

/* ----------------------------------------------------------------- programs */

struct span {
	uint32_t first, count;
};

/* A program reads from both regions, and writes to its own. */
struct program {
	uint64_t random;
	struct span own, other;
	bool nests;			/* it has nested Workers */
	unsigned steps;
	struct dw_orch *orch;		/* NULL: it runs in order, on the model */
};

enum kind { MIX, COMBINE, HOST_WRITE, NO_DEP, GROUP, TEMPORARY, NESTED, CHAIN };

static uint32_t below(struct program *program, uint32_t n)
{
	program->random = program->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(program->random >> 33) % n;
}

static struct span part_of(struct program *program, struct span region, uint32_t most)
{
	uint32_t steps = region.count / STEP;
	struct span span;

	span.count = (1 + below(program, steps < most ? steps : most)) * STEP;
	span.first = region.first + below(program, (region.count - span.count) / STEP + 1) * STEP;
	return span;
}

static bool apart(struct span a, struct span b)
{
	return a.first + a.count <= b.first || b.first + b.count <= a.first;
}

/* To be read beside a write to `written`. */
static struct span read_beside(struct program *program, struct span written)
{
	for (int i = 0; i < 8; i++) {
		struct span span = part_of(program, below(program, 2) ? program->own :
					   program->other, 8);

		if (apart(span, written))
			return span;
	}
	return part_of(program, program->other, 8);
}

static void add(struct dw_args *args, struct span span, enum dw_tag tag)
{
	struct dw_tensor tensor;

	dw_tensor_init(&tensor, shared + span.first, DW_UINT64, &span.count, 1);
	CHECK_EQ(dw_args_add_tensor(args, &tensor, tag), 0);
}

static dw_task submit(struct program *program, dw_callable callable, struct dw_args *args,
		      dw_task after)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	dw_task task = 0;

	options.after = &after;
	options.after_count = after != 0;
	if (!CHECK_EQ(dw_submit(program->orch, callable, args, &options, &task), 0))
		printf("# %s\n", dw_strerror_last());
	dw_args_destroy(args);
	return task;
}

static struct dw_args *arguments(void)
{
	struct dw_args *args = NULL;

	CHECK_EQ(dw_args_create(&args), 0);
	return args;
}

static dw_task mix_task(struct program *program, bool chip, struct span a, struct span b,
			struct span c, enum dw_tag tag, uint64_t s, dw_task after)
{
	struct dw_args *args;

	if (!program->orch) {
		do_mix(model + a.first, a.count, model + b.first, b.count, model + c.first,
		       c.count, s);
		return 0;
	}
	args = arguments();
	add(args, a, DW_INPUT);
	add(args, b, DW_INPUT);
	add(args, c, tag);
	CHECK_EQ(dw_args_add_scalar(args, s), 0);
	return submit(program, chip ? tree.chip_mix : tree.sub_mix, args, after);
}

static dw_task combine_task(struct program *program, bool chip, struct span a, struct span c,
			    dw_task after)
{
	struct dw_args *args;

	if (!program->orch) {
		do_combine(model + a.first, a.count, model + c.first, c.count);
		return 0;
	}
	args = arguments();
	add(args, a, DW_INPUT);
	add(args, c, DW_OUTPUT);
	return submit(program, chip ? tree.chip_combine : tree.sub_combine, args, after);
}

static void host_write(struct program *program, struct span c)
{
	uint64_t words[WORDS];

	for (uint32_t i = 0; i < c.count; i++)
		words[i] = program->random * (i + 1);
	if (program->orch)
		CHECK_EQ(dw_orch_wait(program->orch), 0);
	if (program->orch && kept)
		CHECK_EQ(dw_buffer_write(tree.root, shared + c.first, words, c.count * 8), 0);
	else
		memcpy((program->orch ? shared : model) + c.first, words, c.count * 8);
}

/*
 * A task writes without declaring it; explicit edges order it, and all other tasks come after the
 * last.
 */
static void no_dep(struct program *program, struct span a, struct span c, uint64_t s)
{
	bool chip = below(program, 2), same = below(program, 2);
	dw_task task;

	task = mix_task(program, chip, a, a, c, DW_INOUT, s, 0);
	task = mix_task(program, same ? chip : !chip, a, a, c, DW_NO_DEP, s + 1, task);
	mix_task(program, chip, a, a, c, DW_INOUT, s + 2, task);
}

static void group(struct program *program, struct span a, struct span c)
{
	struct span halves[2] = { { c.first, c.count / 2 / STEP * STEP } };
	struct dw_args *args[2];

	halves[1] = (struct span){ c.first + halves[0].count, c.count - halves[0].count };
	/* A nested Worker here has one chip. */
	if (!halves[0].count || !program->nests) {
		combine_task(program, true, a, c, 0);
		return;
	}
	if (!program->orch) {
		do_combine(model + a.first, a.count, model + halves[0].first, halves[0].count);
		do_combine(model + a.first, a.count, model + halves[1].first, halves[1].count);
		return;
	}
	for (int i = 0; i < 2; i++) {
		args[i] = arguments();
		add(args[i], a, DW_INPUT);
		add(args[i], halves[i], DW_OUTPUT);
	}
	if (!CHECK_EQ(dw_submit_group(program->orch, tree.chip_combine, args, 2, NULL, NULL, NULL),
		      0))
		printf("# %s\n", dw_strerror_last());
	dw_args_destroy(args[0]);
	dw_args_destroy(args[1]);
}

/* Through memory that the Orchestrator allocates, and gives back at the end of the scope. */
static void temporary(struct program *program, struct span a, struct span c)
{
	bool chip = below(program, 2), back = below(program, 2);
	uint64_t words[WORDS];
	struct dw_tensor tensor, to;
	struct dw_args *args;

	if (!program->orch) {
		do_combine(model + a.first, a.count, words, c.count);
		do_combine(words, c.count, model + c.first, c.count);
		return;
	}
	CHECK_EQ(dw_scope_begin(program->orch), 0);
	CHECK_EQ(dw_alloc(program->orch, DW_UINT64, &c.count, 1, &tensor), 0);
	args = arguments();
	add(args, a, DW_INPUT);
	dw_args_add_tensor(args, &tensor, DW_OUTPUT);
	submit(program, chip ? tree.chip_combine : tree.sub_combine, args, 0);
	args = arguments();
	dw_args_add_tensor(args, &tensor, DW_INPUT);
	dw_tensor_init(&to, shared + c.first, DW_UINT64, &c.count, 1);
	dw_args_add_tensor(args, &to, DW_OUTPUT);
	submit(program, back ? tree.chip_combine : tree.sub_combine, args, 0);
	CHECK_EQ(dw_scope_end(program->orch), 0);
}

/* Tasks that write the same range, one behind the other, with readers of it in between. */
static void chain(struct program *program, struct span a, struct span b, struct span c)
{
	for (uint32_t left = 2 + below(program, 6); left > 0; left--) {
		bool chip = below(program, 8), reads = below(program, 4) == 0;
		uint64_t s = below(program, 1000);

		if (below(program, 4))
			mix_task(program, chip, a, b, c, DW_INOUT, s, 0);
		else
			combine_task(program, chip, a, c, 0);
		if (reads) {
			struct span to = part_of(program, program->own, 8);
			struct span from = below(program, 2) ? c : read_beside(program, to);

			if (apart(to, from))
				combine_task(program, below(program, 4), from, to, 0);
		}
	}
}

static void play(struct program *program);

/* Another program on a nested Worker, over what this one gives it. */
static void nested(struct program *program, struct span a, struct span c)
{
	struct program inner = {
		.random = program->random, .own = c, .other = a, .steps = STEPS / 4,
	};
	struct dw_args *args;

	if (!program->orch) {
		play(&inner);
		return;
	}
	args = arguments();
	add(args, a, DW_INPUT);
	add(args, c, DW_INOUT);
	CHECK_EQ(dw_args_add_scalar(args, inner.random), 0);
	submit(program, tree.program, args, 0);
}

static int orch_nested(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	struct program inner = {
		.random = dw_args_scalar(args, 0), .steps = STEPS / 4, .orch = orch,
	};

	(void)config;
	(void)context;
	inner.other.first = (uint32_t)((uint64_t *)dw_args_data(args, 0) - shared);
	inner.other.count = length(args, 0);
	inner.own.first = (uint32_t)((uint64_t *)dw_args_data(args, 1) - shared);
	inner.own.count = length(args, 1);
	play(&inner);
	return unit_failures ? -EIO : 0;
}

static void step(struct program *program)
{
	static const uint8_t kinds[] = {
		MIX, MIX, MIX, MIX, COMBINE, COMBINE, HOST_WRITE, NO_DEP, GROUP, TEMPORARY,
		NESTED, NESTED, CHAIN, CHAIN, CHAIN,
	};
	enum kind kind = kinds[below(program, sizeof(kinds))];
	struct span c = part_of(program, program->own, kind == NESTED ? 24 : 8);
	struct span a = read_beside(program, c), b = read_beside(program, c);
	/* Most tasks go to chips, and read what others have written there. */
	bool chip = below(program, 4);
	uint64_t s = below(program, 1000);

	switch (kind) {
	case MIX: mix_task(program, chip, a, b, c, DW_INOUT, s, 0); break;
	case COMBINE: combine_task(program, chip, a, c, 0); break;
	case HOST_WRITE:
		if (!kept || program->nests)
			host_write(program, c);
		break;
	case NO_DEP:
		if (!kept)
			no_dep(program, a, c, s);
		break;
	case GROUP: group(program, a, c); break;
	case CHAIN: chain(program, a, b, c); break;
	case TEMPORARY: temporary(program, a, c); break;
	case NESTED:
		/* The task may read what it writes, too. */
		if (program->nests)
			nested(program, below(program, 2) ? a :
			       part_of(program, program->own, 8), c);
		break;
	}
}

static void play(struct program *program)
{
	for (unsigned i = 0; i < program->steps; i++)
		step(program);
}

static struct program whole(uint64_t seed)
{
	return (struct program){
		.random = seed * 0x9e3779b97f4a7c15u + 1, .nests = true, .steps = STEPS,
		.own = { WORDS / 4, WORDS - WORDS / 4 }, .other = { 0, WORDS / 4 },
	};
}

static int orch_whole(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct program program = whole(*(uint64_t *)context);

	(void)args;
	(void)config;
	program.orch = orch;
	play(&program);
	return 0;
}

/* --------------------------------------------------------------------- tree */

static struct dw_worker *worker_of(uint32_t level, enum dw_mode mode, uint32_t chips)
{
	static const struct dw_chip_options chip = {
		.driver = "sim", .options = CHIP,
	};
	const struct dw_chip_options both[2] = { chip, chip };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	options.subs = 1;
	options.mode = mode;
	options.chips = both;
	options.chip_count = chips;
	options.chip_size = sizeof(chip);
	if (!CHECK_EQ(dw_worker_create(level, &options, &worker), 0))
		printf("# %s\n", dw_strerror_last());
	return worker;
}

static void tree_create(enum dw_mode mode)
{
	struct dw_buffer_options buffer = DW_OPTIONS(dw_buffer_options);
	void *memory = NULL;

	tree.root = worker_of(4, mode, 2);
	CHECK_EQ(dw_worker_add_child(tree.root, worker_of(3, mode, 1), NULL), 0);
	CHECK_EQ(dw_worker_add_child(tree.root, worker_of(3, mode, 1), NULL), 0);
	buffer.bytes = sizeof(model);
	buffer.flags = kept ? DW_BUFFER_KEPT : 0;
	CHECK_EQ(dw_buffer_create_with(tree.root, &buffer, &memory), 0);
	shared = memory;
	tree.chip_mix = kernel_image(tree.root, "mix");
	tree.chip_combine = kernel_image(tree.root, "combine");
	CHECK_EQ(dw_callable_register_sub(tree.root, "mix", sub_mix, NULL, &tree.sub_mix), 0);
	CHECK_EQ(dw_callable_register_sub(tree.root, "combine", sub_combine, NULL,
					  &tree.sub_combine), 0);
	CHECK_EQ(dw_callable_register_orch(tree.root, "program", orch_nested, NULL, &tree.program),
		 0);
	if (!CHECK_EQ(dw_worker_init(tree.root), 0))
		printf("# %s\n", dw_strerror_last());
}

static bool program_right(uint64_t seed)
{
	struct program program = whole(seed);
	int result;

	/* This program begins with the state that the last one left, on the chips too. */
	if (!kept)
		for (uint32_t i = 0; i < WORDS; i++)
			shared[i] = model[i] = i * 0x100000001b3u;
	result = dw_worker_run(tree.root, orch_whole, NULL, NULL, &seed);
	if (!CHECK_EQ(result, 0))
		printf("# seed %llu: %s\n", (unsigned long long)seed, dw_strerror_last());
	play(&program);
	for (uint32_t i = 0; i < WORDS; i++)
		if (!CHECK_EQ(shared[i], model[i])) {
			printf("# seed %llu, word %u\n", (unsigned long long)seed, i);
			return false;
		}
	return result == 0;
}

static void programs_right(enum dw_mode mode, bool buffer_is_kept)
{
	const char *only = getenv("SPACES_SEED");
	uint64_t seed = only ? strtoull(only, NULL, 0) : unit_first_seed();
	uint64_t last = only ? seed : seed + 149;

	kept = buffer_is_kept;
	memset(model, 0, sizeof(model));
	setenv("DW_CHIP_DEBUG", "fill", 1);
	tree_create(mode);
	unsetenv("DW_CHIP_DEBUG");
	while (seed <= last && program_right(seed))
		seed++;
	dw_worker_destroy(tree.root);
}

TEST_IN_BOTH_MODES(random_programs_leave_what_the_same_in_order_does)
{
	programs_right(mode, false);
}

TEST_IN_BOTH_MODES(random_programs_over_a_kept_buffer_do_too)
{
	programs_right(mode, true);
}

/* A program leaves half of each chip's memory to its cache; this needs more than the other half. */
TEST_IN_BOTH_MODES(memory_that_stays_takes_the_place_of_what_a_chip_has_kept)
{
	uint32_t words = 2560, id = 0;
	struct dw_tensor tensor;

	kept = false;
	tree_create(mode);
	CHECK(program_right(1));
	for (uint32_t chip = 0; chip < 2; chip++) {
		CHECK_EQ(dw_worker_chip_id(tree.root, chip, &id), 0);
		if (!CHECK_EQ(dw_chip_memory_create(tree.root, id, DW_UINT64, &words, 1, &tensor),
			      0))
			printf("# %s\n", dw_strerror_last());
	}
	dw_worker_destroy(tree.root);
}

/* ------------------------------------------------------------------- counted */

#define WEIGHT 1024		/* words */

/* Of all chips of the tree: what was copied by the drivers' own counts, and what was not. */
static struct dw_child_stats counted(void)
{
	struct dw_child_stats stats[16], sum = { .saved = 0 };
	size_t count = 16;

	CHECK_EQ(dw_worker_stats(tree.root, stats, sizeof(stats[0]), &count), 0);
	for (size_t i = 0; i < count && i < 16; i++) {
		sum.copied_in += stats[i].copied_in;
		sum.copied_out += stats[i].copied_out;
		sum.saved += stats[i].saved;
	}
	return sum;
}

/* One task on one chip: reads the weight, and writes behind it. */
static int orch_step(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct program program = { .orch = orch };

	(void)args;
	(void)config;
	(void)context;
	combine_task(&program, true, (struct span){ 0, WEIGHT }, (struct span){ WEIGHT, STEP }, 0);
	return 0;
}

/* Several in a row, with waits; the task that this run is only reads the weight. */
static int orch_steps(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	for (int i = 0; i < 10; i++)
		if (orch_step(orch, args, config, context) < 0 || dw_orch_wait(orch) < 0)
			return -EIO;
	return 0;
}

static int orch_outer(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct program program = { .orch = orch };
	struct dw_args *own = arguments();

	(void)args;
	(void)config;
	(void)context;
	add(own, (struct span){ 0, WEIGHT }, DW_INPUT);
	add(own, (struct span){ WEIGHT, STEP }, DW_INOUT);
	submit(&program, tree.program, own, 0);
	return 0;
}

static void counted_tree(enum dw_mode mode, bool buffer_is_kept, uint32_t level,
			 dw_orch_fn *nested_program)
{
	struct dw_buffer_options buffer = DW_OPTIONS(dw_buffer_options);
	void *memory = NULL;

	tree.root = worker_of(level, mode, level == 3);
	if (level == 4)
		CHECK_EQ(dw_worker_add_child(tree.root, worker_of(3, mode, 1), NULL), 0);
	buffer.bytes = sizeof(model);
	buffer.flags = buffer_is_kept ? DW_BUFFER_KEPT : 0;
	CHECK_EQ(dw_buffer_create_with(tree.root, &buffer, &memory), 0);
	shared = memory;
	tree.chip_combine = kernel_image(tree.root, "combine");
	CHECK_EQ(dw_callable_register_orch(tree.root, "program", nested_program, NULL,
					   &tree.program), 0);
	CHECK_EQ(dw_worker_init(tree.root), 0);
}

static void step_runs(unsigned runs)
{
	for (unsigned i = 0; i < runs; i++)
		CHECK_EQ(dw_worker_run(tree.root, orch_step, NULL, NULL, NULL), 0);
}

TEST_IN_BOTH_MODES(a_weight_in_a_kept_buffer_is_copied_once_for_a_thousand_runs)
{
	uint64_t weight[WEIGHT], result[STEP];

	for (int i = 0; i < WEIGHT; i++)
		weight[i] = (uint64_t)i * 3;
	counted_tree(mode, true, 3, orch_nested);
	CHECK_EQ(dw_buffer_write(tree.root, shared, weight, sizeof(weight)), 0);
	step_runs(1000);
	CHECK_EQ(counted().copied_in, sizeof(weight));
	CHECK_EQ(counted().copied_out, 1000 * STEP * 8);
	CHECK_EQ(counted().saved, 999 * sizeof(weight));
	/* A new weight is copied once more, and used. */
	weight[1] = 1000;
	CHECK_EQ(dw_buffer_write(tree.root, shared, weight, sizeof(weight)), 0);
	step_runs(10);
	CHECK_EQ(counted().copied_in, 2 * sizeof(weight));
	CHECK_EQ(dw_buffer_read(tree.root, result, shared + WEIGHT, sizeof(result)), 0);
	CHECK_EQ(result[1], 5007);
	dw_worker_destroy(tree.root);
}

TEST_IN_BOTH_MODES(a_buffer_that_host_code_may_write_is_copied_in_each_run)
{
	counted_tree(mode, false, 3, orch_nested);
	step_runs(10);
	CHECK_EQ(counted().copied_in, 10 * WEIGHT * 8);
	CHECK_EQ(counted().saved, 0);
	dw_worker_destroy(tree.root);
}

TEST_IN_BOTH_MODES(a_nested_run_copies_what_its_task_only_reads_once_over_its_waits)
{
	counted_tree(mode, false, 4, orch_steps);
	CHECK_EQ(dw_worker_run(tree.root, orch_outer, NULL, NULL, NULL), 0);
	CHECK_EQ(counted().copied_in, WEIGHT * 8);
	CHECK_EQ(counted().saved, 9 * WEIGHT * 8);
	dw_worker_destroy(tree.root);
}
