/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The places where tasks run, and the memory that they write: children bound by topology, memory
 * that the application had mapped and registered, buffers from before and after init on every
 * level.
 */
#include <sched.h>
#include <sys/mman.h>
#include "failure.h"

/* tensor[0] = the CPUs that this thread may use, as bits */
static int sub_where(const struct dw_args *args, void *context)
{
	int64_t *cell = dw_args_data(args, 0);
	cpu_set_t set;

	(void)context;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return -EIO;
	*cell = 0;
	for (int i = 0; i < 63; i++)
		if (CPU_ISSET(i, &set))
			*cell |= 1LL << i;
	/* The other has to take the second one. */
	pause_ms(50);
	return 0;
}

static int orch_two(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct dw_tensor tensors[2] = { scalar_tensor(&chain.cells[0]),
					scalar_tensor(&chain.cells[1]) };
	struct dw_args *two[2];
	int result;

	(void)args;
	(void)config;
	for (int i = 0; i < 2; i++) {
		dw_args_create(&two[i]);
		dw_args_add_tensor(two[i], &tensors[i], DW_INOUT);
	}
	result = dw_submit_group(orch, *(dw_callable *)context, two, 2, NULL, NULL, NULL);
	for (int i = 0; i < 2; i++)
		dw_args_destroy(two[i]);
	return result;
}

static int64_t allowed(void)
{
	cpu_set_t set;
	int64_t mask = 0;

	sched_getaffinity(0, sizeof(set), &set);
	for (int i = 0; i < 63; i++)
		if (CPU_ISSET(i, &set))
			mask |= 1LL << i;
	return mask;
}

static void place(enum dw_placement placement, unsigned threads)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	dw_callable where;

	options.placement = placement;
	chain_create(1, 2, threads, &options);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "where", sub_where, NULL, &where), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_two, NULL, NULL, &where), 0);
}

TEST(children_are_placed_apart_when_that_is_asked_for)
{
	int64_t all = allowed();

	if (!(all & (all - 1)))
		SKIP("there is one CPU");
	for (unsigned threads = 0; threads < 2; threads++) {
		place(DW_PLACE_TOPOLOGY, threads);
		CHECK(chain.cells[0] && chain.cells[1]);
		CHECK_EQ(chain.cells[0] & chain.cells[1], 0);
		CHECK_EQ((chain.cells[0] | chain.cells[1]) & ~all, 0);
		CHECK_EQ(allowed(), all);
		chain_destroy();
		place(DW_PLACE_NONE, threads);
		CHECK_EQ(chain.cells[0], all);
		CHECK_EQ(chain.cells[1], all);
		chain_destroy();
	}
}

/* ------------------------------------------------------------------- memory */

static int orch_add(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	int64_t *cell = args && dw_args_tensor_count(args) ? dw_args_data(args, 0) : context;
	unsigned depth = args && dw_args_tensor_count(args) ? (unsigned)dw_args_int(args, 0) : 2;
	struct dw_tensor tensor = scalar_tensor(cell);
	struct dw_args *below;
	int result;

	(void)config;
	dw_args_create(&below);
	dw_args_add_tensor(below, &tensor, DW_INOUT);
	dw_args_add_int(below, depth ? (int64_t)depth - 1 : BREAK_NOT);
	result = dw_submit(orch, depth ? chain.down : chain.broken, below, NULL, NULL);
	dw_args_destroy(below);
	return result;
}

static void each_level(unsigned threads)
{
	size_t bytes = 1 << 16;
	int64_t *mapped =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t *early, *late, *private = calloc(1, sizeof(*private));

	chain_create(3, 1, threads, NULL);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "add", orch_add, NULL, &chain.down), 0);
	CHECK_EQ(dw_buffer_register(chain.worker[0], mapped, bytes), 0);
	CHECK_EQ(dw_buffer_create(chain.worker[0], 64, (void **)&early), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_buffer_register(chain.worker[0], private, 8), -EBUSY);
	CHECK_EQ(dw_buffer_create(chain.worker[0], 64, (void **)&late), 0);
	for (int i = 1; i <= 3; i++) {
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_add, NULL, NULL, &mapped[17]), 0);
		CHECK_EQ(mapped[17], i);
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_add, NULL, NULL, early), 0);
		CHECK_EQ(*early, i);
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_add, NULL, NULL, late), 0);
		CHECK_EQ(*late, i);
	}
	/* One byte more than was registered, and unregistered memory. */
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_add, NULL, NULL, (char *)mapped + bytes - 7),
		 -EFAULT);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_add, NULL, NULL, private), -EFAULT);
	check_text("lies outside the arena");
	chain_destroy();
	munmap(mapped, bytes);
	free(private);
}

TEST(memory_of_every_kind_is_the_same_on_every_level)
{
	for (unsigned threads = 0; threads < 8; threads++)
		each_level(threads);
}

/* ---------------------------------------------------------------- two trees */

/* A buffer of one tree is not mapped in the other, whose children would write into nothing. */
TEST_IN_BOTH_MODES(buffers_of_one_tree_are_refused_by_the_other)
{
	unsigned threads = threads_of(mode);
	struct chain first;
	int64_t *late;

	chain_create(2, 1, threads, NULL);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "add", orch_add, NULL, &chain.down), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	first = chain;
	chain_init(2, 1, threads, NULL);
	CHECK_EQ(dw_buffer_create(chain.worker[0], 8, (void **)&late), 0);
	CHECK_EQ(chain_run((struct order){ .depth = 1 }), 0);
	CHECK_EQ(chain.cells[0], 1);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_add, NULL, NULL, first.cells), -EFAULT);
	check_text("lies outside the arena");
	CHECK_EQ(dw_worker_run(first.worker[0], orch_add, NULL, NULL, chain.cells), -EFAULT);
	CHECK_EQ(dw_worker_run(first.worker[0], orch_add, NULL, NULL, late), -EFAULT);
	CHECK_EQ(dw_buffer_destroy(first.worker[0], late), -ENOENT);
	check_text("is not the start of a block of the arena");
	CHECK_EQ(first.cells[0], 0);
	dw_worker_destroy(chain.worker[0]);
	chain = first;
	CHECK_EQ(chain_run((struct order){ .depth = 0 }), 0);
	CHECK_EQ(chain.cells[0], 1);
	chain_destroy();
}
