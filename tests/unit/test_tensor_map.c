// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The rules of the tensor map one by one, its memory, its ordered tree, and the cost of an access
 * (--bench for numbers worth reading).
 */
#include <malloc.h>
#include "depend/tensor_map.h"
#include "depend/tensor_order.h"
#include "engine_test.h"
#include "unit.h"

static struct task_ref start(struct task_head *head)
{
	head->generation++;
	head->state = TASK_PENDING;
	return (struct task_ref){ .task = (struct task *)head, .generation = head->generation };
}

/* Edges of a single access in the plain tests, by head. */
struct edges {
	const struct task_head *head[64];
	int reasons[64];
	int count;
};

static void collect(struct task *producer, enum edge_reason reason, void *context)
{
	struct edges *edges = context;
	int i = 0;

	while (i < edges->count && edges->head[i] != (struct task_head *)producer)
		i++;
	if (i == 64)
		return;
	if (i == edges->count) {
		edges->head[i] = (struct task_head *)producer;
		edges->reasons[i] = 0;
		edges->count++;
	}
	edges->reasons[i] |= reason;
}

static int reasons_to(const struct edges *edges, const struct task_head *head)
{
	for (int i = 0; i < edges->count; i++)
		if (edges->head[i] == head)
			return edges->reasons[i];
	return 0;
}

static struct edges touch(struct tensor_map *map, uint64_t begin, uint64_t end, enum dw_tag tag,
			  struct task_ref task, uint64_t *poison)
{
	struct edges edges = { .count = 0 };
	uint64_t none = 0;

	CHECK_EQ(tensor_map_access(map, begin, end, tag, task, collect, &edges,
				   poison ? poison : &none), 0);
	return edges;
}

/* -------------------------------------------------------------- plain rules */

TEST(readers_do_not_wait_for_each_other_and_a_writer_waits_for_all_of_them)
{
	struct task_head w = { 0 }, r[40] = { 0 }, x = { 0 };
	struct tensor_map *map;
	struct edges edges;

	CHECK_EQ(tensor_map_create(&map), 0);
	touch(map, 100, 200, DW_OUTPUT, start(&w), NULL);
	for (int i = 0; i < 40; i++) {
		edges = touch(map, 100, 200, DW_INPUT, start(&r[i]), NULL);
		CHECK_EQ(edges.count, 1);
		CHECK_EQ(reasons_to(&edges, &w), EDGE_RAW);
	}
	r[7].state = TASK_DONE;
	edges = touch(map, 100, 200, DW_OUTPUT, start(&x), NULL);
	CHECK_EQ(edges.count, 40);
	CHECK_EQ(reasons_to(&edges, &w), EDGE_WAW);
	CHECK_EQ(reasons_to(&edges, &r[7]), 0);
	CHECK_EQ(reasons_to(&edges, &r[39]), EDGE_WAR);
	CHECK_EQ(tensor_map_segments(map), 1);
	tensor_map_destroy(map);
}

TEST(tasks_conflict_only_where_their_bytes_overlap)
{
	struct task_head a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };
	struct tensor_map *map;
	struct edges edges;

	CHECK_EQ(tensor_map_create(&map), 0);
	touch(map, 0x1000, 0x1010, DW_OUTPUT, start(&a), NULL);
	touch(map, 0x1010, 0x1020, DW_OUTPUT, start(&b), NULL);
	edges = touch(map, 0x1020, 0x1030, DW_INOUT, start(&c), NULL);
	CHECK_EQ(edges.count, 0);
	edges = touch(map, 0x100f, 0x1011, DW_INPUT, start(&d), NULL);
	CHECK_EQ(edges.count, 2);
	edges = touch(map, 0x1011, 0x1020, DW_OUTPUT, start(&c), NULL);
	CHECK_EQ(edges.count, 1);
	CHECK_EQ(reasons_to(&edges, &b), EDGE_WAW);
	tensor_map_destroy(map);
}

TEST(output_existing_waits_for_nobody_and_the_next_writer_waits_for_all)
{
	struct task_head w1 = { 0 }, w2 = { 0 }, r1 = { 0 }, r2 = { 0 }, w3 = { 0 }, r3 = { 0 };
	struct tensor_map *map;
	struct edges edges;

	CHECK_EQ(tensor_map_create(&map), 0);
	touch(map, 0, 64, DW_OUTPUT, start(&w1), NULL);
	touch(map, 0, 64, DW_INPUT, start(&r1), NULL);
	edges = touch(map, 0, 64, DW_OUTPUT_EXISTING, start(&w2), NULL);
	CHECK_EQ(edges.count, 0);
	edges = touch(map, 0, 64, DW_INPUT, start(&r2), NULL);
	CHECK_EQ(edges.count, 1);
	CHECK_EQ(reasons_to(&edges, &w2), EDGE_RAW);
	edges = touch(map, 0, 64, DW_INOUT, start(&w3), NULL);
	CHECK_EQ(edges.count, 4);
	CHECK_EQ(reasons_to(&edges, &w1), EDGE_WAW);
	CHECK_EQ(reasons_to(&edges, &w2), EDGE_RAW | EDGE_WAW);
	CHECK_EQ(reasons_to(&edges, &r1), EDGE_WAR);
	CHECK_EQ(reasons_to(&edges, &r2), EDGE_WAR);
	edges = touch(map, 0, 64, DW_INPUT, start(&r3), NULL);
	CHECK_EQ(edges.count, 1);
	tensor_map_destroy(map);
}

TEST(bytes_of_a_failed_writer_stay_poisoned_until_somebody_overwrites_them)
{
	struct task_head w1 = { 0 }, w2 = { 0 }, r = { 0 };
	struct task_ref failed = start(&w1);
	struct tensor_map *map;
	uint64_t poison = 0;

	CHECK_EQ(tensor_map_create(&map), 0);
	touch(map, 0, 100, DW_OUTPUT, failed, NULL);
	w1.state = TASK_FAILED;
	tensor_map_poison(map, 0, 100, failed, 17);
	touch(map, 50, 51, DW_INPUT, start(&r), &poison);
	CHECK_EQ(poison, 17);
	poison = 0;
	touch(map, 40, 60, DW_OUTPUT, start(&w2), &poison);
	CHECK_EQ(poison, 0);
	touch(map, 40, 60, DW_INPUT, start(&r), &poison);
	CHECK_EQ(poison, 0);
	touch(map, 39, 41, DW_INOUT, start(&r), &poison);
	CHECK_EQ(poison, 17);
	poison = 0;
	tensor_map_forget(map, 60, 100);
	touch(map, 60, 100, DW_INPUT, start(&r), &poison);
	CHECK_EQ(poison, 0);
	tensor_map_destroy(map);
}

TEST(a_task_never_waits_for_itself)
{
	struct task_head w = { 0 }, t = { 0 };
	struct tensor_map *map;
	struct task_ref task;
	struct edges edges;

	CHECK_EQ(tensor_map_create(&map), 0);
	touch(map, 0, 64, DW_OUTPUT, start(&w), NULL);
	task = start(&t);
	edges = touch(map, 0, 64, DW_INPUT, task, NULL);
	CHECK_EQ(reasons_to(&edges, &w), EDGE_RAW);
	edges = touch(map, 16, 32, DW_INOUT, task, NULL);
	CHECK_EQ(reasons_to(&edges, &t), 0);
	edges = touch(map, 8, 128, DW_OUTPUT, task, NULL);
	CHECK_EQ(reasons_to(&edges, &t), 0);
	edges = touch(map, 0, 256, DW_OUTPUT_EXISTING, task, NULL);
	CHECK_EQ(edges.count, 0);
	edges = touch(map, 0, 256, DW_INPUT, task, NULL);
	CHECK_EQ(edges.count, 0);
	tensor_map_destroy(map);
}

/* ------------------------------------------------------------------ growth */

TEST(ten_million_readers_between_two_writers_take_no_memory)
{
	static struct task_head heads[64];
	struct task_head w = { 0 };
	struct tensor_map *map;
	struct mallinfo2 before, after;
	struct edges edges;

	CHECK_EQ(tensor_map_create(&map), 0);
	touch(map, 0, 64, DW_OUTPUT, start(&w), NULL);
	w.state = TASK_DONE;
	before = mallinfo2();
	for (int i = 0; i < 10000000; i++) {
		struct task_head *head = &heads[i % 64];

		head->state = TASK_DONE;
		edges.count = 0;
		tensor_map_access(map, 0, 64, DW_INPUT, start(head), collect, &edges, NULL);
	}
	after = mallinfo2();
	CHECK(after.uordblks - before.uordblks < 16384);
	edges = touch(map, 0, 64, DW_OUTPUT, start(&w), NULL);
	CHECK_EQ(edges.count, 64);
	tensor_map_destroy(map);
}

TEST(segments_that_say_nothing_are_dropped)
{
	static struct task_head heads[64];
	struct tensor_map *map;
	uint64_t most = 0;

	CHECK_EQ(tensor_map_create(&map), 0);
	for (uint64_t i = 0; i < 1000000; i++) {
		struct task_head *head = &heads[i % 64];
		struct edges edges = { .count = 0 };

		head->state = TASK_DONE;
		tensor_map_access(map, i * 4096, i * 4096 + 100, i % 3 ? DW_OUTPUT : DW_INPUT,
				  start(head), collect, &edges, NULL);
		if (tensor_map_segments(map) > most)
			most = tensor_map_segments(map);
	}
	/* This many may wait for a sweep. */
	CHECK(most <= 16384 + 1);
	tensor_map_destroy(map);
}

TEST(a_writer_of_the_whole_joins_the_pieces)
{
	static struct task_head heads[1000];
	struct task_head w = { 0 }, r1 = { 0 }, r2 = { 0 };
	struct tensor_map *map;
	struct edges edges = { .count = 0 };

	CHECK_EQ(tensor_map_create(&map), 0);
	for (uint64_t i = 0; i < 1000; i++)
		touch(map, i * 10, i * 10 + 10, DW_OUTPUT, start(&heads[i]), NULL);
	CHECK_EQ(tensor_map_segments(map), 1000);
	for (uint64_t i = 0; i < 1000; i++)
		heads[i].state = TASK_DONE;
	touch(map, 0, 10000, DW_INPUT, start(&r1), NULL);
	CHECK_EQ(tensor_map_segments(map), 1000);
	touch(map, 0, 10000, DW_INPUT, start(&r2), NULL);
	CHECK_EQ(tensor_map_segments(map), 1);
	for (uint64_t i = 0; i < 1000; i++)
		touch(map, i * 10, i * 10 + 10, DW_OUTPUT, start(&heads[i]), NULL);
	CHECK_EQ(tensor_map_segments(map), 1000);
	edges = touch(map, 0, 10000, DW_OUTPUT, start(&w), NULL);
	CHECK_EQ(edges.count, 64);
	CHECK_EQ(tensor_map_segments(map), 1);
	tensor_map_destroy(map);
}

/* ------------------------------------------------------------ the order tree */

#define KEYS 20000

static uint64_t key_of(const struct segment *segment)
{
	return (uintptr_t)segment / 8 - 1;
}

TEST(the_order_finds_a_neighbour_of_any_key)
{
	static bool present[KEYS];
	struct tensor_order order;
	uint32_t count = 0;

	random_state = 4;
	order_init(&order);
	for (int step = 0; step < 1000000; step++) {
		bool filling = (step / 50000) % 2 == 0;
		uint32_t way = step / 100000 % 3, key = below(KEYS);
		struct segment *near;

		/* at random; upwards; downwards */
		if (way == 1)
			key = step % KEYS;
		else if (way == 2)
			key = KEYS - 1 - step % KEYS;
		if (!present[key] && (filling || below(4) == 0)) {
			if (order_insert(&order, key, (struct segment *)(uintptr_t)(key * 8 + 8)))
				break;
			present[key] = true;
			count++;
		} else if (present[key] && (!filling || below(4) == 0)) {
			order_remove(&order, key);
			present[key] = false;
			count--;
		}
		key = below(KEYS);
		near = order_near(&order, key);
		if (!near) {
			CHECK_EQ(count, 0);
			continue;
		}
		if (key_of(near) > key) {
			uint32_t up = key;

			while (up < KEYS && !present[up])
				up++;
			if (up != key_of(near))
				CHECK_EQ(key_of(near), up);
		} else {
			uint32_t down = key;

			while (down && !present[down])
				down--;
			if (down != key_of(near))
				CHECK_EQ(key_of(near), down);
		}
	}
	order_release(&order);
}

/* --------------------------------------------------------------- benchmark */

#define BENCH_SLOTS 256

static void bench_edge(struct task *producer, enum edge_reason reason, void *context)
{
	(void)producer;
	*(uint64_t *)context += reason;
}

/* 2 inputs and 1 output each, on `ranges` known ranges. */
static void bench_known(uint32_t ranges, uint64_t count)
{
	static struct task_head heads[BENCH_SLOTS];
	uint64_t sum = 0, poison = 0, begin = 0;
	struct tensor_map *map;

	tensor_map_create(&map);
	for (uint64_t i = 0; i < count + 2 * ranges; i++) {
		struct task_head *head = &heads[i % BENCH_SLOTS];
		struct task_ref task;

		if (i == 2 * ranges)
			begin = cpu_ns();
		head->state = TASK_DONE;
		task = start(head);
		for (int k = 0; k < 3; k++) {
			uint64_t at = i < ranges ? i : below(ranges);

			at = 0x7f0000000000 + at * 4096;
			tensor_map_access(map, at, at + 4000, k == 2 ? DW_OUTPUT : DW_INPUT, task,
					  bench_edge, &sum, &poison);
		}
	}
	begin = cpu_ns() - begin;
	printf("# %7u known ranges, %7llu segments: %6.1f ns per access (2 in, 1 out: %.1f ns)\n",
	       ranges, (unsigned long long)tensor_map_segments(map),
	       (double)begin / count / 3, (double)begin / count);
	tensor_map_destroy(map);
}

/* New ranges, `live` of them alive; forgotten in order when they are old. */
static void bench_fresh(uint32_t live, uint64_t count, bool in_order, bool forget)
{
	struct task_head *heads = calloc(live, sizeof(*heads));
	uint64_t sum = 0, poison = 0, begin = cpu_ns(), most = 0;
	uint64_t *places = calloc(live, sizeof(*places));
	struct tensor_map *map;

	tensor_map_create(&map);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = in_order ? i * 1024 : (i * 0x9e3779b97f4a7c15u >> 24) * 1024;

		heads[i % live].state = TASK_DONE;
		if (forget && places[i % live])
			tensor_map_forget(map, places[i % live], places[i % live] + 1024);
		places[i % live] = 0x7f0000000000 + at;
		tensor_map_access(map, 0x7f0000000000 + at, 0x7f0000000000 + at + 1000, DW_OUTPUT,
				  start(&heads[i % live]), bench_edge, &sum, &poison);
		if (tensor_map_segments(map) > most)
			most = tensor_map_segments(map);
	}
	begin = cpu_ns() - begin;
	printf("# %7u alive, fresh ranges %s: %6.1f ns per access%s\n", live,
	       in_order ? "in order " : "at random", (double)begin / count,
	       forget ? " and forget" : "");
	tensor_map_destroy(map);
	free(places);
	free(heads);
}

TEST(what_an_access_costs)
{
	uint64_t begin, maps = rounds(1000000);

	bench_known(1, rounds(5000000));
	bench_known(100, rounds(5000000));
	bench_known(10000, rounds(5000000));
	bench_known(1000000, rounds(5000000));
	bench_fresh(64, rounds(5000000), true, true);
	bench_fresh(10000, rounds(5000000), true, true);
	bench_fresh(1000000, rounds(5000000), true, true);
	bench_fresh(64, rounds(5000000), false, true);
	bench_fresh(10000, rounds(5000000), false, true);
	bench_fresh(1000000, rounds(3000000), false, true);
	bench_fresh(64, rounds(5000000), true, false);
	bench_fresh(10000, rounds(5000000), true, false);
	begin = cpu_ns();
	for (uint64_t i = 0; i < maps; i++) {
		struct tensor_map *map;

		tensor_map_create(&map);
		tensor_map_destroy(map);
	}
	printf("# create and destroy: %.1f ns\n", (double)(cpu_ns() - begin) / maps);
}

