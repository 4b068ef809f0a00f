/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the tests of elision: a tree with chips, three tensors, and tasks over them that a test
 * can hold up: before them, between two of them, or inside one.
 */
#ifndef TESTS_ELISION_H
#define TESTS_ELISION_H

#include <distworker/chip_memory.h>
#include "chips.h"

#define LONG (1u << 13)		/* words of a tensor: 64 KiB */
#define BYTES (LONG * sizeof(uint64_t))

struct world {
	struct dw_worker *root, *node;	/* the node has the chips */
	uint64_t *x, *y, *z;		/* tensors */
	dw_callable add, both, held, told, combine, fails, moment;
	int go[2];
};

static struct world world;

struct world_options {
	const char *chip;		/* options of the chips */
	const char *other;		/* of the second one; NULL: the same */
	uint32_t chips;			/* 0: one */
	uint32_t depth;			/* of mailboxes */
	uint64_t timeout_ns;
	enum dw_restart restart;
	bool nested;
};

static inline int sub_moment(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return 0;
}

static inline void world_open(enum dw_mode mode, struct world_options wanted)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_chip_options chips[2] = {
		{ .driver = "sim", .options = wanted.chip },
		{ .driver = "sim", .options = wanted.other ? wanted.other : wanted.chip },
	};
	void *memory = NULL;

	say_prepare();
	CHECK_EQ(pipe2(world.go, O_CLOEXEC), 0);
	options.mode = mode;
	options.subs = 1;
	options.chips = chips;
	options.chip_count = wanted.chips ? wanted.chips : 1;
	options.chip_size = sizeof(chips[0]);
	options.mailbox_depth = wanted.depth;
	options.timeout_ns = wanted.timeout_ns;
	options.restart = wanted.restart;
	CHECK_EQ(dw_worker_create(3, &options, &world.node), 0);
	world.root = world.node;
	if (wanted.nested) {
		options = (struct dw_worker_options)DW_OPTIONS(dw_worker_options);
		options.mode = mode;
		CHECK_EQ(dw_worker_create(4, &options, &world.root), 0);
		CHECK_EQ(dw_worker_add_child(world.root, world.node, NULL), 0);
	}
	CHECK_EQ(dw_buffer_create(world.root, 3 * BYTES, &memory), 0);
	world.x = memory;
	world.y = world.x + LONG;
	world.z = world.y + LONG;
	world.x[0] = 1;
	CHECK_EQ(dw_callable_register_sub(world.root, "moment", sub_moment, NULL, &world.moment),
		 0);
	world.add = kernel_image(world.root, "triple_add");
	world.both = kernel_image(world.root, "triple_both");
	world.held = kernel_image(world.root, "triple_held");
	world.told = kernel_image(world.root, "triple_told");
	world.combine = kernel_image(world.root, "combine");
	world.fails = kernel_image(world.root, "fails");
}

static inline void world_init(enum dw_mode mode, struct world_options wanted)
{
	world_open(mode, wanted);
	if (!CHECK_EQ(dw_worker_init(world.root), 0))
		printf("# %s\n", dw_strerror_last());
}

static inline void world_close(void)
{
	dw_worker_destroy(world.root);
	close(world.go[0]);
	close(world.go[1]);
}

/* What was copied to the chips and back, in bytes. */
static inline uint64_t copied(uint64_t *out)
{
	struct dw_child_stats stats[8];
	size_t count = 8;
	uint64_t in = 0;

	*out = 0;
	CHECK_EQ(dw_worker_stats(world.root, stats, sizeof(stats[0]), &count), 0);
	for (size_t i = 0; i < count && i < 8; i++) {
		in += stats[i].copied_in;
		*out += stats[i].copied_out;
	}
	return in;
}

/* -------------------------------------------------------------------- tasks */

static inline struct call call_on(dw_callable callable, uint64_t *tensor, uint32_t words,
				  enum dw_tag tag)
{
	struct call call = { .callable = callable, .options = DW_OPTIONS(dw_submit_options) };

	call_tensor(&call, tensor, DW_UINT64, words, tag);
	return call;
}

static inline void call_scalar(struct call *call, uint64_t scalar)
{
	call->scalar[call->scalars++] = scalar;
}

static inline dw_task send_call(struct dw_orch *orch, const struct call *call)
{
	dw_task task = 0;
	int result = submit_call(orch, call, &task);

	if (result < 0 && result != -ECANCELED) {
		unit_failures++;
		printf("# %s: submit: %s\n", unit_now, dw_strerror_last());
	}
	return task;
}

/* x[0] = 3 x[0] + s */
static inline struct call add_to(uint64_t *tensor, uint64_t s)
{
	struct call call = call_on(world.add, tensor, LONG, DW_INOUT);

	call_scalar(&call, s);
	return call;
}

static inline dw_task add_x(struct dw_orch *orch, uint64_t s)
{
	struct call call = add_to(world.x, s);

	return send_call(orch, &call);
}

/* Directed to the first chip; later tasks may go anywhere. */
static inline dw_task first_x(struct dw_orch *orch)
{
	struct call call = add_to(world.x, 0);

	call.options.place = DW_PLACE(0);
	return send_call(orch, &call);
}

/* The same, on the first chip, but it writes its pid first, and waits for go(). */
static inline struct call hold_on(uint64_t *tensor, uint32_t words, uint64_t s)
{
	struct call call = call_on(world.held, tensor, words, DW_INOUT);

	call_scalar(&call, s);
	call_scalar(&call, (uint64_t)said[1]);
	call_scalar(&call, (uint64_t)world.go[0]);
	call.options.place = DW_PLACE(0);
	return call;
}

static inline dw_task hold(struct dw_orch *orch, uint64_t *tensor, uint32_t words, uint64_t s)
{
	struct call call = hold_on(tensor, words, s);

	return send_call(orch, &call);
}

/* A task before all others. It uses only z's last word, so it copies next to nothing. */
static inline dw_task gate(struct dw_orch *orch)
{
	dw_task task = hold(orch, world.z + LONG - 1, 1, 0);

	CHECK(heard() > 0);
	return task;
}

/*
 * Waits until all submitted tasks for chips are published in their rings: the end of a task that
 * was submitted later is seen only by a pass of the engine that publishes all rings. A chip would
 * copy a result home if the next task were published only after it has begun.
 */
static inline void posted(struct dw_orch *orch)
{
	struct call moment = { .callable = world.moment, .options = DW_OPTIONS(dw_submit_options) };

	CHECK_EQ(dw_orch_wait_task(orch, send_call(orch, &moment)), 0);
}

static inline void go(void)
{
	CHECK_EQ(write(world.go[1], "", 1), 1);
}

/* y[i] = 5 x[i] + 7, from the first `words` words of x, or from another tensor. */
static inline dw_task combine(struct dw_orch *orch, uint64_t *from, uint32_t words, uint64_t *to,
			      uint32_t to_words)
{
	struct call call = call_on(world.combine, from, words, DW_INPUT);

	call_tensor(&call, to, DW_UINT64, to_words, DW_OUTPUT);
	return send_call(orch, &call);
}

static inline int run_world(dw_orch_fn *fn, void *context)
{
	int result = dw_worker_run(world.root, fn, NULL, NULL, context);

	if (result < 0)
		printf("# %s\n", dw_strerror_last());
	return result;
}

/* x[0] after `times` tasks that add 0, 1, 2 … */
static inline uint64_t chained(unsigned times)
{
	uint64_t x = 1;

	for (unsigned i = 0; i < times; i++)
		x = x * 3 + i;
	return x;
}

#define ORCH(name) \
	static int name(struct dw_orch *orch, const struct dw_args *args, \
			const struct dw_config *config, void *context)
#define UNUSED_OF_ORCH (void)args, (void)config, (void)context

#endif
