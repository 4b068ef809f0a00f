/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What a task must not do when chips have their own memory: write a tensor tagged INPUT, or write a
 * tensor that another member of its group uses, too.
 */
#include "chips.h"

#define WORDS 64

static struct dw_worker *node;
static uint64_t *memory;
static dw_callable combine, add, told, idle;


static void node_open(enum dw_mode mode)
{
	static const int32_t signature[] = { DW_DIR_IN, DW_DIR_OUT };
	static const struct dw_chip_options chips[2] = { { .driver = "sim" }, { .driver = "sim" } };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	void *buffer = NULL;

	options.mode = mode;
	options.subs = 2;
	options.chips = chips;
	options.chip_count = 2;
	options.chip_size = sizeof(chips[0]);
	REQUIRE(dw_worker_create(3, &options, &node) == 0);
	REQUIRE(dw_buffer_create(node, 4 * WORDS * sizeof(uint64_t), &buffer) == 0);
	memory = buffer;
	combine = kernel_image(node, "combine");
	add = kernel_image(node, "triple_add");
	image.driver = "sim";
	image.entry = "copy_bytes";
	image.path = fixture("chip_kernels");
	image.signature = signature;
	image.signature_count = 2;
	REQUIRE(dw_callable_register_image(node, &image, &told) == 0);
	REQUIRE(dw_callable_register_sub(node, "nothing", sub_nothing, NULL, &idle) == 0);
	REQUIRE(dw_worker_init(node) == 0);
}

/* ------------------------------------------------------ tags against signatures */

static struct call two_tensors(dw_callable callable, enum dw_tag second)
{
	struct call call = { .callable = callable, .options = DW_OPTIONS(dw_submit_options) };

	call_tensor(&call, memory, DW_UINT64, WORDS, DW_INPUT);
	call_tensor(&call, memory + WORDS, DW_UINT64, WORDS, second);
	return call;
}

static int orch_one(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_call(orch, context, NULL);
}

static int run_one(struct call call)
{
	return dw_worker_run(node, orch_one, NULL, NULL, &call);
}

/* What the parent knows of the signature it refuses at submit. */
TEST_IN_BOTH_MODES(an_input_that_the_signature_writes_is_refused_at_submit)
{
	node_open(mode);
	CHECK_EQ(run_one(two_tensors(told, DW_INPUT)), -EINVAL);
	check_text("tensor 1 is INPUT, but image \"sim:copy_bytes\" writes it (OUT in its "
		   "signature): it should be OUTPUT");
	CHECK_EQ(run_one(two_tensors(told, DW_OUTPUT)), 0);
	CHECK_EQ(run_one(two_tensors(told, DW_INOUT)), 0);
	CHECK_EQ(run_one(two_tensors(told, DW_NO_DEP)), 0);
	dw_worker_destroy(node);
}

/* Where the signature lies in the image, the chip alone knows it; the task has not run then. */
TEST_IN_BOTH_MODES(an_input_that_the_image_writes_fails_its_task)
{
	struct call call = { .options = DW_OPTIONS(dw_submit_options) };

	node_open(mode);
	memory[WORDS] = 77;
	CHECK_EQ(run_one(two_tensors(combine, DW_INPUT)), -EINVAL);
	check_text("tensor 1 is INPUT, but the image writes it (OUT in its signature): it should "
		   "be OUTPUT");
	CHECK_EQ(memory[WORDS], 77);
	call.callable = add;
	call_tensor(&call, memory, DW_UINT64, WORDS, DW_INPUT);
	call.scalars = 1;
	CHECK_EQ(run_one(call), -EINVAL);
	check_text("(INOUT in its signature): it should be INOUT");
	CHECK_EQ(run_one(two_tensors(combine, DW_OUTPUT)), 0);
	CHECK_EQ(memory[WORDS], 7);
	dw_worker_destroy(node);
}

/* ------------------------------------------------------------------------ groups */

/* Words of a member's tensors: one that it reads, one that it writes, with their tags. */
struct member_spans {
	uint32_t at[2];
	enum dw_tag tags[2];
};

struct group_case {
	dw_callable callable;
	struct member_spans members[2];
	int result;			/* of the submit */
	const char *text;
};

static int orch_group(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	const struct group_case *wanted = context;
	struct dw_args *members[2];
	uint32_t words = WORDS;

	(void)args;
	(void)config;
	for (int i = 0; i < 2; i++) {
		const struct member_spans *spans = &wanted->members[i];

		dw_args_create(&members[i]);
		for (int j = 0; j < 2; j++) {
			struct dw_tensor tensor;

			dw_tensor_init(&tensor, memory + spans->at[j], DW_UINT64, &words, 1);
			dw_args_add_tensor(members[i], &tensor, spans->tags[j]);
		}
	}
	CHECK_EQ(dw_submit_group(orch, wanted->callable, members, 2, NULL, NULL, NULL),
		 wanted->result);
	if (wanted->text)
		check_text(wanted->text);
	dw_args_destroy(members[0]);
	dw_args_destroy(members[1]);
	return 0;
}

TEST_IN_BOTH_MODES(members_that_share_what_one_of_them_writes_are_refused_on_chips)
{
	static const enum dw_tag in = DW_INPUT, out = DW_OUTPUT, none = DW_NO_DEP;
	const char *apart = "share bytes that a member writes, and the members run at the same "
			    "time on chips with memory of their own: they should lie apart";
	const uint32_t w = WORDS;

	node_open(mode);
	{
		struct group_case cases[] = {
			/* Both write the same, and half of it. */
			{ combine, { { { 0, w }, { in, out } }, { { 0, w }, { in, out } } },
			  -EINVAL, apart },
			{ combine, { { { 0, w }, { in, out } }, { { 0, w + w / 2 }, { in, out } } },
			  -EINVAL, "tensor 1 of member 0 and tensor 1 of member 1" },
			/* One writes what the other reads, in either order. */
			{ combine, { { { 0, w }, { in, out } }, { { w, 2 * w }, { in, out } } },
			  -EINVAL, "tensor 1 of member 0 and tensor 0 of member 1" },
			{ combine, { { { w, 2 * w }, { in, out } }, { { 0, w }, { in, out } } },
			  -EINVAL, "tensor 0 of member 0 and tensor 1 of member 1" },
			/* Without a tag that says so, by the signature. */
			{ told, { { { 0, w }, { in, none } }, { { 0, w }, { in, none } } },
			  -EINVAL, apart },
			/* Both read the same, with and without a tag, and write apart. */
			{ combine, { { { 0, w }, { in, out } }, { { 0, 2 * w }, { in, out } } },
			  0, NULL },
			{ told, { { { 0, w }, { none, out } }, { { 0, 2 * w }, { none, out } } },
			  0, NULL },
			/* Sub workers share one memory. */
			{ idle, { { { 0, w }, { in, out } }, { { 0, w }, { in, out } } },
			  0, NULL },
		};

		for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
			if (!CHECK_EQ(dw_worker_run(node, orch_group, NULL, NULL, &cases[i]), 0))
				printf("# case %zu: %s\n", i, dw_strerror_last());
	}
	dw_worker_destroy(node);
}
