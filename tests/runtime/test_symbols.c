/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Callables after init: the identity of a symbol, files that change, several threads that register,
 * unregistering while tasks are submitted, handles that cannot run where they are sent.
 */
#define UNIT_SECONDS 60
#include "failure.h"

static char library[64], symbol[96];

/* Installs a fixture at the symbol's path as a new file, like installers and linkers do. */
static void install(const char *fixture, bool with_build_id)
{
	static const unsigned char note[16] = { 4, 0, 0, 0, 20,	 0,   0,   0,
						3, 0, 0, 0, 'G', 'N', 'U', 0 };
	static char bytes[1 << 20];
	char path[80];
	size_t count;
	FILE *file = fopen(beside(fixture), "re");

	snprintf(path, sizeof(path), "%s.new", library);
	count = file ? fread(bytes, 1, sizeof(bytes), file) : 0;
	CHECK(count > 0 && count < sizeof(bytes));
	if (file)
		fclose(file);
	for (size_t i = 0; !with_build_id && i + sizeof(note) < count; i++)
		if (memcmp(bytes + i, note, sizeof(note)) == 0)
			bytes[i + 12] = 'X';
	file = fopen(path, "we");
	CHECK(file && fwrite(bytes, 1, count, file) == count);
	if (file)
		fclose(file);
	CHECK_EQ(rename(path, library), 0);
}

static void begin(unsigned levels, unsigned threads)
{
	snprintf(library, sizeof(library), "/tmp/distworker-symbols-%d.so", (int)getpid());
	snprintf(symbol, sizeof(symbol), "%s:symbol_add", library);
	chain_init(levels, 2, threads, NULL);
}

static void end(void)
{
	chain_destroy();
	unlink(library);
}

static int add_symbol(dw_callable *handle)
{
	return dw_callable_register_symbol(chain.worker[0], symbol, DW_SYMBOL_SUB, handle);
}

struct adding {
	dw_callable handle;
	int64_t *cell;
};

static int orch_add(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	const struct adding *adding = context;

	(void)args;
	(void)config;
	return submit_one(orch, adding->handle, adding->cell, DW_INOUT, 1, NULL, NULL);
}

static int run_add(dw_callable handle)
{
	return dw_worker_run(chain.worker[0], orch_add, NULL, NULL,
			     &(struct adding){ handle, chain.cells });
}

static bool identified;		/* by its build-id, else by its content */
static enum dw_mode children;

/* A process that has not loaded the file yet does not get an unregistered function. */
static void change(void)
{
	dw_callable handle = 0;

	begin(1, threads_of(children));
	install("fixtures/symbols.so", identified);
	CHECK_EQ(add_symbol(&handle), 0);
	install("fixtures/symbols_other.so", identified);
	CHECK_EQ(run_add(handle), -ESTALE);
	check_text("has changed since \"symbol_add\" was registered");
	CHECK_EQ(chain.cells[0], 0);
	end();
}

/* This process must have loaded neither, so this test comes first. */
TEST_IN_BOTH_MODES(file_that_changed_before_it_was_loaded_is_refused)
{
	children = mode;
	for (int i = 0; i < 2; i++) {
		identified = i;
		apart(change);
	}
}

/*
 * Before, the new function ran as the old one: the dynamic linker gave the file that it had loaded
 * under the same path. Twice, since the copy in its place must not stand in the way of the next.
 */
static void replace(enum dw_mode mode, bool with_build_id)
{
	dw_callable first = 0, second = 0, third = 0, none = 0;

	begin(1, threads_of(mode));
	install("fixtures/symbols.so", with_build_id);
	CHECK_EQ(add_symbol(&first), 0);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(run_add(first), 0);
	CHECK_EQ(chain.cells[0], 8);

	/* The same content is the same callable, also in a new file. */
	install("fixtures/symbols.so", with_build_id);
	CHECK_EQ(add_symbol(&second), 0);
	CHECK_EQ(second, first);

	install("fixtures/symbols_other.so", with_build_id);
	CHECK_EQ(add_symbol(&none), -EEXIST);
	check_text("of a file that has changed since: unregister that first");
	CHECK_EQ(none, 0);
	CHECK_EQ(dw_callable_unregister(chain.worker[0], first), 0);
	CHECK_EQ(add_symbol(&second), 0);
	CHECK(second != first);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(run_add(second), 0);
	CHECK_EQ(chain.cells[0], 8008);
	CHECK_EQ(run_add(first), -ESTALE);
	check_text("was unregistered");
	check_text(symbol);

	install("fixtures/symbols.so", with_build_id);
	CHECK_EQ(dw_callable_unregister(chain.worker[0], second), 0);
	CHECK_EQ(add_symbol(&third), 0);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(run_add(third), 0);
	CHECK_EQ(chain.cells[0], 8016);
	end();
}

TEST_IN_BOTH_MODES(replaced_file_is_the_new_one)
{
	replace(mode, true);
	replace(mode, false);
}

/* ------------------------------------------------------------ several threads */

struct registering {
	pthread_barrier_t *barrier;
	int64_t *cell;
	dw_callable handle;
	int result, ran;
};

static void *register_and_run(void *argument)
{
	struct registering *one = argument;

	pthread_barrier_wait(one->barrier);
	one->result = add_symbol(&one->handle);
	if (!one->result)
		one->ran = dw_worker_run(chain.worker[0], orch_add, NULL, NULL,
					 &(struct adding){ one->handle, one->cell });
	return NULL;
}

/* Before, a thread found the name taken by a symbol that another had not announced yet. */
TEST_IN_BOTH_MODES(threads_that_register_the_same_get_the_same)
{
	struct registering one[4];
	pthread_barrier_t barrier;
	pthread_t threads[4];

	begin(1, threads_of(mode));
	install("fixtures/symbols.so", true);
	pthread_barrier_init(&barrier, NULL, 4);
	for (int round = 0; round < 150; round++) {
		for (int i = 0; i < 4; i++) {
			one[i] = (struct registering){ .barrier = &barrier,
						       .cell = &chain.cells[i] };
			pthread_create(&threads[i], NULL, register_and_run, &one[i]);
		}
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		for (int i = 0; i < 4; i++) {
			CHECK_EQ(one[i].result, 0);
			CHECK_EQ(one[i].ran, 0);
			CHECK_EQ(one[i].handle, one[0].handle);
		}
		CHECK_EQ(dw_callable_unregister(chain.worker[0], one[0].handle), 0);
	}
	for (int i = 0; i < 4; i++)
		CHECK_EQ(chain.cells[i], 150);
	pthread_barrier_destroy(&barrier);
	end();
}

/* --------------------------------------------------------------- under load */

struct load {
	dw_callable handle;
	_Atomic int64_t submitted;
	int refused;
};

static int orch_until_refused(struct dw_orch *orch, const struct dw_args *args,
			      const struct dw_config *config, void *context)
{
	struct load *load = context;

	(void)args;
	(void)config;
	while (!(load->refused =
			 submit_one(orch, load->handle, chain.cells, DW_INOUT, 1, NULL, NULL)))
		load->submitted++;
	return load->refused == -ESTALE ? 0 : load->refused;
}

/* When it returns, every accepted task has run, and none runs later. */
TEST_IN_BOTH_MODES(unregistering_waits_for_what_was_accepted_and_stops_the_rest)
{
	begin(1, threads_of(mode));
	install("fixtures/symbols.so", true);
	for (int round = 0; round < 20; round++) {
		struct load load = { 0 };
		struct dw_run *run;
		int64_t ran;

		chain.cells[0] = 0;
		CHECK_EQ(add_symbol(&load.handle), 0);
		CHECK_EQ(dw_worker_start(chain.worker[0], orch_until_refused, NULL, NULL, &load,
					 NULL, &run),
			 0);
		while (load.submitted < 100 * (round + 1))
			pause_ms(1);
		CHECK_EQ(dw_callable_unregister(chain.worker[0], load.handle), 0);
		ran = __atomic_load_n(&chain.cells[0], __ATOMIC_ACQUIRE);
		CHECK_EQ(dw_run_wait(run), 0);
		CHECK_EQ(load.refused, -ESTALE);
		CHECK_EQ(ran, load.submitted);
		CHECK_EQ(chain.cells[0], ran);
	}
	end();
}

/* ----------------------------------------------------------- handles by name */

struct wrong {
	dw_callable handle;
	int error;
	const char *text;
};

static int orch_wrong(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct wrong *wrong = context;
	struct dw_args *member;

	(void)args;
	(void)config;
	CHECK_EQ(submit_one(orch, wrong->handle, chain.cells, DW_INOUT, 1, NULL, NULL),
		 wrong->error);
	check_text(wrong->text);
	dw_args_create(&member);
	CHECK_EQ(dw_submit_group(orch, wrong->handle, &member, 1, NULL, NULL, NULL), wrong->error);
	check_text(wrong->text);
	dw_args_destroy(member);
	return 0;
}

TEST_IN_BOTH_MODES(handles_that_cannot_run_are_refused_by_name)
{
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	dw_callable add, orchestration, image;

	/* A node with sub workers alone: no nested Worker, no chip. */
	begin(1, threads_of(mode));
	install("fixtures/symbols.so", true);
	options.driver = "sim";
	options.entry = "kernel_scale";
	options.path = library;
	CHECK_EQ(dw_callable_register_image(chain.worker[0], &options, &image), 0);
	CHECK_EQ(add_symbol(&add), 0);
	/* One function under one name is of one kind. */
	CHECK_EQ(dw_callable_register_symbol(chain.worker[0], symbol, DW_SYMBOL_ORCH,
					     &orchestration),
		 -EEXIST);
	check_text("as another kind");
	snprintf(symbol, sizeof(symbol), "%s:symbol_orch", library);
	CHECK_EQ(dw_callable_register_symbol(chain.worker[0], symbol, DW_SYMBOL_ORCH,
					     &orchestration),
		 0);
	struct wrong wrongs[] = {
		{ chain.down, -ENODEV, "node0 has no nested Worker, which \"down\" needs" },
		{ orchestration, -ENODEV, ":symbol_orch\" needs" },
		{ image, -ENODEV,
		  "node0 has no chip of driver \"sim\", which \"sim:kernel_scale\" needs" },
		{ 0, -ENOENT, "callable 0 is not registered" },
		{ add ^ 7ULL << 60, -ENOENT, "is not registered" }, /* another kind */
		{ add + (1ULL << 32), -ENOENT, "is not registered" }, /* a generation to come */
		{ add + 1000, -ENOENT, "is not registered" },
	};
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_wrong, NULL, NULL, &wrongs[i]), 0);
	CHECK_EQ(dw_callable_unregister(chain.worker[0], chain.broken), 0);
	CHECK_EQ(dw_callable_unregister(chain.worker[0], chain.broken), -ESTALE);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_wrong, NULL, NULL,
			       &(struct wrong){ chain.broken, -ESTALE, "was unregistered: break" }),
		 0);
	end();
}
