/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* C++: exceptions that leave a callable, and a kernel of the simulated chip. */
#include <dlfcn.h>
#include <fcntl.h>
#include "chips.h"

struct throws_order {
	dw_callable callable;
	void *cell;
	unsigned count;
};

static int (*catching_init)(struct dw_worker *worker);
static int (*catching_run)(struct dw_worker *worker, dw_orch_fn *fn, void *context);
static dw_sub_fn *throws_sub;
static dw_orch_fn *throws_orch;

/* The fixture is built only if there is a C++ compiler. */
#define NEEDS_CXX() \
	do { \
		if (access(fixture("throws"), F_OK)) \
			SKIP("built without a C++ compiler"); \
	} while (0)

static bool load(void)
{
	void *handle = dlopen(fixture("throws"), RTLD_NOW | RTLD_GLOBAL), *symbol;

	if (!handle) {
		printf("# %s\n", dlerror());
		return false;
	}
#define LOAD(name) (symbol = dlsym(handle, #name), memcpy(&name, &symbol, sizeof(symbol)), symbol)
	return LOAD(catching_init) && LOAD(catching_run) && LOAD(throws_sub) && LOAD(throws_orch);
}

static int orch_sub(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	const struct throws_order *order = context;

	(void)args;
	(void)config;
	return submit_one(orch, order->callable, order->cell, DW_INOUT, 1, NULL, NULL);
}

/* Failed before: the exception was caught by the handler around dw_worker_init(), in the child. */
TEST(exception_in_a_child_ends_it_with_its_text_on_stderr)
{
	char path[] = "/tmp/distworker-throws-XXXXXX", text[1024] = "";
	struct throws_order order = { 0 };
	struct dw_worker *node;
	int file, saved;

	NEEDS_CXX();
	node = make_worker(3, 1, DW_PROCESS);
	file = mkstemp(path);
	saved = dup(STDERR_FILENO);
	unlink(path);
	REQUIRE(load() && file >= 0 && saved >= 0);
	CHECK_EQ(dw_callable_register_sub(node, "throws", throws_sub, NULL, &order.callable), 0);
	CHECK_EQ(dw_buffer_create(node, 8, &order.cell), 0);
	dup2(file, STDERR_FILENO);
	CHECK_EQ(catching_init(node), 0);
	CHECK_EQ(dw_worker_run(node, orch_sub, NULL, NULL, &order), -EOWNERDEAD);
	CHECK_STR(dw_strerror_last(), "SIGABRT");
	CHECK_EQ(dw_worker_close(node), 0);
	dup2(saved, STDERR_FILENO);
	close(saved);
	CHECK(pread(file, text, sizeof(text) - 1, 0) > 0);
	CHECK_STR(text, "thrown by a sub function");
	close(file);
	dw_worker_destroy(node);
}

/* Failed before: the run stayed, with none of its tasks done or skipped, and the next one hung. */
TEST_IN_BOTH_MODES(exception_of_an_orchestration_passes_to_the_caller_and_leaves_no_run)
{
	struct throws_order order = { .count = 200 };
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct dw_worker *node;
	int64_t seen;

	NEEDS_CXX();
	REQUIRE(load());
	node = make_worker(3, 2, mode);
	CHECK_EQ(dw_callable_register_sub(node, "add", sub_add, NULL, &order.callable), 0);
	CHECK_EQ(dw_buffer_create(node, 8, &order.cell), 0);
	CHECK_EQ(dw_worker_init(node), 0);
	for (unsigned round = 1; round <= 3; round++) {
		CHECK_EQ(catching_run(node, throws_orch, &order), 1);
		CHECK_EQ(dw_task_cancelled(), 0);
		/* All its tasks are final, and no more come. */
		CHECK_EQ(dw_worker_engine_stats(node, &stats), 0);
		CHECK_EQ(stats.submitted, round * 201 - 1);
		CHECK_EQ(stats.done + stats.failed + stats.skipped, stats.submitted);
		seen = *(int64_t *)order.cell;
		CHECK_EQ(dw_worker_run(node, orch_sub, NULL, NULL, &order), 0);
		CHECK_EQ(*(int64_t *)order.cell, seen + 1);
	}
	CHECK_EQ(dw_worker_close(node), 0);
	dw_worker_destroy(node);
}

TEST_IN_BOTH_MODES(kernel_in_cxx_is_loaded_and_runs)
{
	struct dw_chip_options chips[1] = { { .driver = "sim" } };
	struct call call = { .options = DW_OPTIONS(dw_submit_options) };
	struct rig rig;
	unsigned different = 0;

	NEEDS_CXX();
	rig_create(&rig, mode, DW_RESTART_NEVER, chips, 1);
	call.callable = image_of(&rig, "sim", fixture("throws"), NULL, "negate_cxx", NULL, 0);
	REQUIRE(rig_init(&rig) == 0);
	call_tensor(&call, rig.a, DW_FLOAT32, COUNT, DW_INPUT);
	call_tensor(&call, rig.c, DW_FLOAT32, COUNT, DW_OUTPUT);
	CHECK_EQ(run_calls(&rig, &call, 1), 0);
	for (int i = 0; i < COUNT; i++)
		different += rig.c[i] != -rig.a[i];
	CHECK_EQ(different, 0);
	rig_destroy(&rig);
}
