/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Results that a chip does not copy home, because the task behind writes them again: when it does
 * that, counted in bytes, and when it must not. What happens when the task behind does not get
 * there: test_elision_lost.c.
 */
#include <distworker/tree.h>
#include "elision.h"

#define GATE sizeof(uint64_t)	/* bytes that the gate copies each way */

/* The bytes in and out for `in` and `out` tensors and one gate. */
static void check_copied(unsigned in, unsigned out)
{
	uint64_t bytes_out, bytes_in = copied(&bytes_out);

	CHECK_EQ(bytes_in, in * BYTES + GATE);
	CHECK_EQ(bytes_out, out * BYTES + GATE);
}

/* One run behind a gate, on the chips that `wanted` selects. */
static void world_runs(enum dw_mode mode, struct world_options wanted, dw_orch_fn *fn)
{
	world_init(mode, wanted);
	CHECK_EQ(run_world(fn, NULL), 0);
}

/* The first waits for the gate, so that a chip with calls in flight begins none of them before. */
ORCH(orch_chain)
{
	struct call first = add_to(world.x, 0);
	dw_task before;

	UNUSED_OF_ORCH;
	before = gate(orch);
	first.options.after = &before;
	first.options.after_count = 1;
	send_call(orch, &first);
	for (unsigned i = 1; i < 100; i++)
		add_x(orch, i);
	posted(orch);
	go();
	return 0;
}

/* Tasks in the ring of the only chip, the one that runs included. */
static uint32_t queued(void)
{
	struct dw_tree_child child = DW_OPTIONS(dw_tree_child);
	struct dw_tree *tree;

	if (!CHECK_EQ(dw_tree_open(getpid(), 0, &tree), 0))
		return 0;
	/* Child 0 is the sub worker. */
	CHECK_EQ(dw_tree_child(tree, 1, &child), 0);
	dw_tree_close(tree);
	return child.queued;
}

/*
 * It once waited until the chip was idle, if no unbound task had been given to a chip yet: the
 * chain then began before its end was submitted.
 */
ORCH(orch_behind)
{
	UNUSED_OF_ORCH;
	gate(orch);
	add_x(orch, 0);
	CHECK_EQ(queued(), 2);
	add_x(orch, 1);
	CHECK_EQ(queued(), 3);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(a_task_goes_behind_one_that_has_to_be_there)
{
	world_runs(mode, (struct world_options){ .chip = NULL }, orch_behind);
	CHECK_EQ(world.x[0], chained(2));
	world_close();
}

static uint64_t saved(void)
{
	struct dw_child_stats stats[4];
	size_t count = 4;
	uint64_t bytes = 0;

	CHECK_EQ(dw_worker_stats(world.root, stats, sizeof(stats[0]), &count), 0);
	for (size_t i = 0; i < count && i < 4; i++)
		bytes += stats[i].saved;
	return bytes;
}

static void chain_copies_once(enum dw_mode mode, const char *chip)
{
	world_runs(mode, (struct world_options){ .chip = chip, .depth = 128 }, orch_chain);
	check_copied(1, 1);
	CHECK_EQ(saved(), 2 * 99 * BYTES);
	CHECK_EQ(world.x[0], chained(100));
	world_close();
}

TEST_IN_BOTH_MODES(a_chain_of_a_hundred_tasks_is_copied_in_once_and_out_once)
{
	chain_copies_once(mode, NULL);
	chain_copies_once(mode, "async=1,depth=2");
	chain_copies_once(mode, "async=1,depth=4");
}

/* A chain longer than the ring: whenever no task is behind the last one, that one copies out. */
TEST_IN_BOTH_MODES(a_chain_that_is_longer_than_the_ring_is_right)
{
	uint64_t in, out;

	world_runs(mode, (struct world_options){ .depth = 8 }, orch_chain);
	in = copied(&out);
	CHECK_EQ(in, BYTES + GATE);
	printf("# %llu copies out of 100\n", (unsigned long long)((out - GATE) / BYTES));
	CHECK(out < 100 * BYTES);
	CHECK_EQ(world.x[0], chained(100));
	world_close();
}

ORCH(orch_wait_between)
{
	UNUSED_OF_ORCH;
	gate(orch);
	add_x(orch, 0);
	add_x(orch, 1);
	posted(orch);
	go();
	CHECK_EQ(dw_orch_wait(orch), 0);
	CHECK_EQ(world.x[0], chained(2));
	world.x[0]++;
	add_x(orch, 2);
	return 0;
}

TEST_IN_BOTH_MODES(host_code_that_waits_finds_what_was_written)
{
	world_runs(mode, (struct world_options){ .chip = NULL }, orch_wait_between);
	check_copied(2, 2);
	CHECK_EQ(world.x[0], (chained(2) + 1) * 3 + 2);
	world_close();
}

static int sub_copies_first(const struct dw_args *args, void *context)
{
	(void)context;
	*(uint64_t *)dw_args_data(args, 1) = *(uint64_t *)dw_args_data(args, 0);
	return 0;
}

static dw_callable sub_copy;

/* The sub reads y, which the task that x's next writer supersedes has written, too. */
ORCH(orch_consumer_elsewhere)
{
	struct call both = call_on(world.both, world.x, LONG, DW_INOUT), sub;

	UNUSED_OF_ORCH;
	gate(orch);
	call_tensor(&both, world.y, DW_UINT64, LONG, DW_OUTPUT);
	call_scalar(&both, 0);
	send_call(orch, &both);
	sub = call_on(sub_copy, world.y, LONG, DW_INPUT);
	call_tensor(&sub, world.z, DW_UINT64, 1, DW_OUTPUT);
	send_call(orch, &sub);
	add_x(orch, 1);
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(a_result_that_has_a_consumer_elsewhere_is_copied)
{
	world_open(mode, (struct world_options){ .chip = NULL });
	CHECK_EQ(dw_callable_register_sub(world.root, "copy", sub_copies_first, NULL, &sub_copy),
		 0);
	CHECK_EQ(dw_worker_init(world.root), 0);
	CHECK_EQ(run_world(orch_consumer_elsewhere, NULL), 0);
	check_copied(1, 3);
	CHECK_EQ(world.x[0], chained(2));
	CHECK_EQ(world.z[0], chained(1));
	world_close();
}

/* Of two results, the one that is written again stays, and the other is copied. */
ORCH(orch_two_results)
{
	struct call both = call_on(world.both, world.x, LONG, DW_INOUT);

	UNUSED_OF_ORCH;
	gate(orch);
	call_tensor(&both, world.y, DW_UINT64, LONG, DW_OUTPUT);
	call_scalar(&both, 0);
	send_call(orch, &both);
	add_x(orch, 1);
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(of_two_results_the_one_that_is_written_again_stays)
{
	world_runs(mode, (struct world_options){ .chip = NULL }, orch_two_results);
	check_copied(1, 2);
	CHECK_EQ(world.x[0], chained(2));
	CHECK_EQ(world.y[0], chained(1));
	world_close();
}

ORCH(orch_explicit_edge)
{
	struct call last = add_to(world.x, 1), other = add_to(world.y, 1);
	bool through_third = *(bool *)context;
	dw_task first;

	UNUSED_OF_ORCH;
	gate(orch);
	first = add_x(orch, 0);
	if (through_third) {
		other.options.after = &first;
		other.options.after_count = 1;
		send_call(orch, &other);
	} else {
		last.options.after = &first;
		last.options.after_count = 1;
	}
	send_call(orch, &last);
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(a_result_with_an_explicit_edge_is_copied)
{
	for (int third = 0; third < 2; third++) {
		bool through_third = third;

		world_init(mode, (struct world_options){ .chip = NULL });
		CHECK_EQ(run_world(orch_explicit_edge, &through_third), 0);
		check_copied(1 + (unsigned)third, 2 + (unsigned)third);
		CHECK_EQ(world.x[0], chained(2));
		world_close();
	}
}

ORCH(orch_retries)
{
	struct call first = add_to(world.x, 0), last = add_to(world.x, 1);

	UNUSED_OF_ORCH;
	gate(orch);
	first.options.retries = *(int *)context == 0;
	last.options.retries = *(int *)context == 1;
	send_call(orch, &first);
	send_call(orch, &last);
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(a_task_with_retries_supersedes_nothing_and_is_not_superseded)
{
	for (int which = 0; which < 2; which++) {
		world_init(mode, (struct world_options){ .chip = NULL });
		CHECK_EQ(run_world(orch_retries, &which), 0);
		check_copied(1, 2);
		CHECK_EQ(world.x[0], chained(2));
		world_close();
	}
}

/* The second writes the first half alone, and the third the whole. */
ORCH(orch_ranges)
{
	struct call half = call_on(world.add, world.x, LONG / 2, DW_INOUT);

	UNUSED_OF_ORCH;
	gate(orch);
	call_scalar(&half, 1);
	add_x(orch, 0);
	send_call(orch, &half);
	add_x(orch, 2);
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(another_range_supersedes_nothing)
{
	uint64_t in, out;

	world_runs(mode, (struct world_options){ .chip = NULL }, orch_ranges);
	in = copied(&out);
	CHECK_EQ(out, 2 * BYTES + BYTES / 2 + GATE);
	CHECK(in > BYTES + GATE);
	CHECK_EQ(world.x[0], chained(3));
	world_close();
}

ORCH(orch_late)
{
	UNUSED_OF_ORCH;
	hold(orch, world.x, LONG, 0);
	CHECK(heard() > 0);
	add_x(orch, 1);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(a_task_that_comes_when_the_first_has_begun_is_too_late)
{
	uint64_t in, out;

	world_runs(mode, (struct world_options){ .chip = NULL }, orch_late);
	in = copied(&out);
	CHECK_EQ(in, BYTES);
	CHECK_EQ(out, 2 * BYTES);
	CHECK_EQ(world.x[0], chained(2));
	world_close();
}

/* Tasks between the two read the whole, a part of it, and more than it. */
ORCH(orch_readers)
{
	uint32_t words = *(uint32_t *)context;

	UNUSED_OF_ORCH;
	gate(orch);
	add_x(orch, 0);
	combine(orch, world.x, words, world.z, LONG / 2);
	add_x(orch, 1);
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(readers_between_the_two_find_the_first_result)
{
	static const uint32_t words[] = { LONG, LONG / 2, LONG + LONG / 2 };

	for (int i = 0; i < 3; i++) {
		uint32_t count = words[i];
		uint64_t in, out;

		world_init(mode, (struct world_options){ .chip = NULL });
		CHECK_EQ(run_world(orch_readers, &count), 0);
		CHECK_EQ(world.x[0], chained(2));
		CHECK_EQ(world.z[0], chained(1) * 5 + 7);
		/* One that reads more has to fetch it from home, so that the result goes there. */
		in = copied(&out);
		CHECK_EQ(out, (i < 2 ? 1 : 2) * BYTES + BYTES / 2 + GATE);
		CHECK_EQ(in, i < 2 ? BYTES + GATE : 2 * BYTES + BYTES / 2 + GATE + BYTES);
		world_close();
	}
}

/* Results that are written without being read: y is reused again and again. */
ORCH(orch_scratch)
{
	UNUSED_OF_ORCH;
	gate(orch);
	for (unsigned i = 0; i < 10; i++) {
		add_x(orch, i);
		combine(orch, world.x, LONG, world.y, LONG);
	}
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(a_result_that_is_overwritten_unread_is_copied_once)
{
	world_runs(mode, (struct world_options){ .chip = NULL }, orch_scratch);
	check_copied(1, 2);
	CHECK_EQ(world.x[0], chained(10));
	CHECK_EQ(world.y[0], chained(10) * 5 + 7);
	world_close();
}

/* Another task needs the room: the kept result is copied home, and fetched again. */
ORCH(orch_no_room)
{
	struct call other = add_to(world.y, 0);

	UNUSED_OF_ORCH;
	gate(orch);
	add_x(orch, 0);
	send_call(orch, &other);
	add_x(orch, 1);
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(a_result_that_has_no_room_goes_home)
{
	world_runs(mode, (struct world_options){ .chip = "memory=196608,poison=1" }, orch_no_room);
	check_copied(3, 3);
	CHECK_EQ(world.x[0], chained(2));
	world_close();
}

/* Members of a group may write tensors without names. */
ORCH(orch_group)
{
	struct dw_args *args_of[2];
	uint32_t half = LONG / 2;

	UNUSED_OF_ORCH;
	gate(orch);
	add_x(orch, 0);
	for (uint32_t i = 0; i < 2; i++) {
		struct dw_tensor tensor;

		dw_args_create(&args_of[i]);
		dw_tensor_init(&tensor, world.x + i * half, DW_UINT64, &half, 1);
		dw_args_add_tensor(args_of[i], &tensor, DW_INOUT);
		dw_args_add_scalar(args_of[i], 1);
	}
	CHECK_EQ(dw_submit_group(orch, world.add, args_of, 2, NULL, NULL, NULL), 0);
	dw_args_destroy(args_of[0]);
	dw_args_destroy(args_of[1]);
	add_x(orch, 2);
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(groups_find_and_leave_all_at_home)
{
	uint64_t out;

	world_runs(mode, (struct world_options){ .chips = 2 }, orch_group);
	copied(&out);
	CHECK_EQ(out, 3 * BYTES + GATE);
	CHECK_EQ(world.x[0], chained(3));
	CHECK_EQ(world.x[LONG / 2], (0 * 3 + 1));
	world_close();
}

static dw_callable nested;

ORCH(orch_outer)
{
	struct call call = call_on(nested, world.x, LONG, DW_INOUT);

	UNUSED_OF_ORCH;
	call_tensor(&call, world.z + LONG - 1, DW_UINT64, 1, DW_INOUT);
	for (int i = 0; i < 2; i++)
		send_call(orch, &call);
	return 0;
}

TEST_IN_BOTH_MODES(a_nested_run_has_all_at_home_when_it_ends)
{
	uint64_t out;

	world_open(mode, (struct world_options){ .nested = true, .depth = 128 });
	CHECK_EQ(dw_callable_register_orch(world.root, "chain", orch_chain, NULL, &nested), 0);
	CHECK_EQ(dw_worker_init(world.root), 0);
	CHECK_EQ(run_world(orch_outer, NULL), 0);
	copied(&out);
	CHECK_EQ(out, 2 * BYTES + 2 * GATE);
	world_close();
}

/* A copy as a task, to memory of the chip that stays, and back. */
ORCH(orch_copy)
{
	const struct dw_tensor *stays = context;
	struct dw_tensor to = *stays, x, z;
	uint32_t words = LONG;

	UNUSED_OF_ORCH;
	dw_tensor_init(&x, world.x, DW_UINT64, &words, 1);
	dw_tensor_init(&z, world.y, DW_UINT64, &words, 1);
	gate(orch);
	add_x(orch, 0);
	CHECK_EQ(dw_submit_copy(orch, &to, &x, NULL, NULL), 0);
	add_x(orch, 1);
	CHECK_EQ(dw_submit_copy(orch, &z, &to, NULL, NULL), 0);
	posted(orch);
	go();
	return 0;
}

TEST_IN_BOTH_MODES(a_copy_between_the_two_finds_the_first_result)
{
	uint32_t words = LONG, chip = 0;
	struct dw_tensor stays;

	world_init(mode, (struct world_options){ .chip = NULL });
	CHECK_EQ(dw_worker_chip_id(world.root, 0, &chip), 0);
	CHECK_EQ(dw_chip_memory_create(world.root, chip, DW_UINT64, &words, 1, &stays), 0);
	CHECK_EQ(run_world(orch_copy, &stays), 0);
	CHECK_EQ(world.x[0], chained(2));
	CHECK_EQ(world.y[0], chained(1));
	world_close();
}

/* ------------------------------------------------------------------- opencl */

#define CHAIN_WORDS (1u << 17)		/* 1 MiB */

static const char opencl_grow[] =
	"kernel void grow(global ulong *x, ulong s)\n"
	"{\n"
	"	for (size_t i = get_global_id(0); i < 131072; i += get_global_size(0))\n"
	"		x[i] = x[i] * 3 + s;\n"
	"}\n";

/* The chip is stopped until all are there: a kernel cannot wait for that. */
ORCH(orch_opencl)
{
	struct dw_child_stats stats[2];
	size_t count = 2;

	UNUSED_OF_ORCH;
	CHECK_EQ(dw_worker_stats(world.root, stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(kill(stats[1].pid, SIGSTOP), 0);
	for (unsigned i = 0; i < 100; i++) {
		struct call call = call_on(world.add, world.x, CHAIN_WORDS, DW_INOUT);

		call_scalar(&call, i);
		send_call(orch, &call);
	}
	posted(orch);
	CHECK_EQ(kill(stats[1].pid, SIGCONT), 0);
	return 0;
}

TEST(a_chain_on_opencl_is_copied_in_once_and_out_once)
{
	static const int32_t signature[] = { DW_DIR_INOUT, DW_DIR_SCALAR };
	static const struct dw_chip_options chip = { .driver = "opencl" };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	uint64_t in, out;
	void *memory;

	if (opencl_missing())
		SKIP(opencl_missing());
	options.subs = 1;
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	options.mailbox_depth = 128;
	CHECK_EQ(dw_worker_create(3, &options, &world.root), 0);
	CHECK_EQ(dw_callable_register_sub(world.root, "moment", sub_moment, NULL, &world.moment),
		 0);
	CHECK_EQ(dw_buffer_create(world.root, CHAIN_WORDS * sizeof(uint64_t), &memory), 0);
	world.x = memory;
	world.x[0] = world.x[CHAIN_WORDS - 1] = 1;
	image.driver = "opencl";
	image.entry = "grow";
	image.data = opencl_grow;
	image.bytes = strlen(opencl_grow);
	image.signature = signature;
	image.signature_count = 2;
	CHECK_EQ(dw_callable_register_image(world.root, &image, &world.add), 0);
	if (!CHECK_EQ(dw_worker_init(world.root), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(run_world(orch_opencl, NULL), 0);
	in = copied(&out);
	CHECK_EQ(in, CHAIN_WORDS * sizeof(uint64_t));
	CHECK_EQ(out, CHAIN_WORDS * sizeof(uint64_t));
	CHECK_EQ(world.x[0], chained(100));
	CHECK_EQ(world.x[CHAIN_WORDS - 1], chained(100));
	dw_worker_destroy(world.root);
}
