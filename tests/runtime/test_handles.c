/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The owner of a handle: callables that are registered in the wrong process or on a Worker below,
 * runs and Orchestrators after a fork, Workers whose tree never came up.
 */
#define UNIT_SECONDS 60
#include "failure.h"

static const char *fixture(const char *symbol)
{
	static char text[2200];

	snprintf(text, sizeof(text), "%s:%s", beside("fixtures/symbols.so"), symbol);
	return text;
}

/* ----------------------------------------------------------- registrations */

static dw_callable nested_registers, wanted;

static int orch_registers(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	dw_callable handle = 0;
	struct dw_image_options image = DW_OPTIONS(dw_image_options);
	int64_t *cell = dw_args_data(args, 0);

	(void)orch;
	(void)config;
	(void)context;
	cell[0] = dw_callable_register_symbol(chain.worker[1], fixture("symbol_add"), DW_SYMBOL_SUB,
					      &handle);
	cell[1] = !!strstr(dw_strerror_last(), "register in the root's process");
	cell[2] = dw_callable_unregister(chain.worker[1], chain.broken);
	image.driver = "sim";
	image.entry = "x";
	image.data = "x";
	image.bytes = 1;
	cell[3] = dw_callable_register_image(chain.worker[1], &image, &handle);
	return 0;
}

static int orch_wanted(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, *(dw_callable *)context, chain.cells, DW_INOUT, 5, NULL, NULL);
}

static void make_chain(unsigned levels, unsigned threads)
{
	chain_create(levels, 1, threads, NULL);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "registers", orch_registers, NULL,
					   &nested_registers), 0);
	CHECK_EQ(dw_callable_register_sub(chain.worker[levels - 1], "add", sub_add, NULL, &wanted),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
}

TEST(nested_process_registers_nothing)
{
	make_chain(2, 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_wanted, NULL, NULL, &nested_registers), 0);
	CHECK_EQ(chain.cells[0], -EINVAL);
	CHECK_EQ(chain.cells[1], 1);
	CHECK_EQ(chain.cells[2], -EINVAL);
	CHECK_EQ(chain.cells[3], -EINVAL);
	chain_destroy();
}

/* From the root's process, on a Worker below: the Worker above that one passes it on. */
static void check_registration_below(unsigned levels, unsigned threads)
{
	dw_callable orchestration = 0;

	make_chain(levels, threads);
	CHECK_EQ(dw_callable_register_symbol(chain.worker[levels - 1], fixture("symbol_orch"),
					     DW_SYMBOL_ORCH, &orchestration), 0);
	chain.cells[0] = 0;
	if (levels == 2) {
		if (!CHECK_EQ(dw_worker_run(chain.worker[0], orch_wanted, NULL, NULL,
					    &orchestration),
			      0))
			printf("# %s\n", dw_strerror_last());
		CHECK_EQ(chain.cells[0], 5);
	}
	CHECK_EQ(dw_callable_unregister(chain.worker[levels - 1], orchestration), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_wanted, NULL, NULL, &orchestration), -ESTALE);
	chain_destroy();
}

TEST_IN_BOTH_MODES(registration_on_a_nested_worker_reaches_it)
{
	check_registration_below(2, threads_of(mode));
	check_registration_below(3, threads_of(mode));
	check_registration_below(3, threads_of(mode) & 1);
}

/* A destroyed tree leaves no names to a tree whose Workers have the same addresses. */
TEST_IN_BOTH_MODES(names_on_nested_workers_end_with_their_tree)
{
	for (int initialised = 0; initialised < 2; initialised++) {
		chain_create(3, 1, threads_of(mode), NULL);
		CHECK_EQ(dw_callable_register_sub(chain.worker[2], "add", sub_add, NULL, &wanted),
			 0);
		if (initialised)
			CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
		dw_worker_destroy(chain.worker[0]);
		chain_create(1, 1, 0, NULL);
		CHECK_EQ(dw_callable_unregister(chain.worker[0], wanted), -ESTALE);
		dw_worker_destroy(chain.worker[0]);
	}
}

/* --------------------------------------------------------- another tree forks */

static _Atomic int stop;

static void *look_up(void *worker)
{
	dw_callable handle;

	while (!stop)
		dw_callable_find(worker, "break", &handle);
	return NULL;
}

/* Its children have an unlocked table of callables, even if a thread held our lock at the fork. */
TEST(children_are_not_forked_with_a_lock_that_another_thread_holds)
{
	struct dw_worker *first;
	dw_callable symbol;
	pthread_t threads[2];

	chain_init(1, 1, 0, NULL);
	first = chain.worker[0];
	stop = 0;
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, look_up, first);
	for (int i = 0; i < 60; i++) {
		chain_init(1, 1, 0, NULL);
		CHECK_EQ(dw_callable_register_symbol(chain.worker[0], fixture("symbol_add"),
						     DW_SYMBOL_SUB, &symbol), 0);
		dw_worker_destroy(chain.worker[0]);
	}
	stop = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	dw_worker_destroy(first);
}

/* -------------------------------------------------------------------- forks */

static int in_fork(int (*call)(void *context), void *context)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		alarm(5);
		_exit(-call(context) & 0xff);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : 1;
}

static int wait_there(void *run)
{
	return dw_run_wait(run);
}

static int cancel_there(void *run)
{
	return dw_run_cancel(run);
}

static int find_there(void *orch)
{
	dw_callable handle;

	return dw_orch_find(orch, "break", &handle);
}

static int count_there(void *orch)
{
	return -(int)(dw_orch_worker_count(orch) + dw_orch_sub_count(orch));
}

static int orch_forks(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	CHECK_EQ(dw_orch_sub_count(orch), 1);
	CHECK_EQ(in_fork(find_there, orch), -EBADFD);
	CHECK_EQ(in_fork(count_there, orch), 0);
	return 0;
}

/* 0 when all of it works on the copy. */
static int use_copy(void *context)
{
	struct dw_args *args = context, *own;
	struct dw_tensor tensor;

	return dw_args_add_int(args, 8) || dw_args_int(args, 1) != 8 || dw_args_create(&own) ||
	       dw_tensor_init(&tensor, NULL, DW_INT64, NULL, 0) || dw_dtype_bytes(DW_INT64) != 8 ||
	       !dw_version()[0];
}

static int stats_there(void *worker)
{
	size_t count = 0;

	return dw_worker_stats(worker, NULL, sizeof(struct dw_child_stats), &count);
}

TEST(what_belongs_to_no_process_works_in_a_fork)
{
	struct dw_args *args;

	chain_init(1, 1, 0, NULL);
	CHECK_EQ(dw_args_create(&args), 0);
	CHECK_EQ(dw_args_add_int(args, 7), 0);
	CHECK_EQ(in_fork(use_copy, args), 0);
	CHECK_EQ(dw_args_scalar_count(args), 1);
	CHECK_EQ(in_fork(stats_there, chain.worker[0]), -EBADFD);
	dw_args_destroy(args);
	chain_destroy();
}

TEST(runs_and_orchestrators_belong_to_their_process)
{
	struct order order = { .how = BREAK_SLOW };
	dw_callable handle;
	struct dw_run *run;

	chain_init(1, 1, 0, NULL);
	run = chain_start(&order, 0);
	CHECK_EQ(in_fork(wait_there, run), -EBADFD);
	CHECK_EQ(in_fork(cancel_there, run), -EBADFD);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(dw_run_wait(NULL), -EINVAL);
	CHECK_EQ(dw_run_cancel(NULL), -EINVAL);
	CHECK_EQ(dw_orch_find(NULL, "break", &handle), -EINVAL);
	CHECK_EQ(dw_orch_worker_count(NULL), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_forks, NULL, NULL, NULL), 0);
	chain_destroy();
}

/* -------------------------------------------------- Workers that are not up */

TEST_IN_BOTH_MODES(worker_below_one_that_did_not_come_up_has_no_counters)
{
	struct dw_chip_options chip = { .driver = "nonsense" };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	struct dw_child_stats stats[8];
	size_t count = 8;

	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(struct dw_chip_options);
	chain_create(2, 1, threads_of(mode), &options);
	CHECK_EQ(dw_worker_init(chain.worker[0]), -ENOENT);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(dw_worker_stats(chain.worker[i], stats, sizeof(stats[0]), &count),
			 -ENOTCONN);
		CHECK_EQ(dw_worker_engine_stats(chain.worker[i], &engine), -ENOTCONN);
	}
	chain_destroy();
}

TEST(mailbox_of_one_frame_is_refused_when_it_is_asked_for)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker;

	options.subs = 1;
	options.mailbox_depth = 1;
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &worker), -EINVAL);
	check_text("mailbox_depth is 1; it should be a power of two from 2 to 32768");
	options.mailbox_depth = 2;
	CHECK_EQ(dw_worker_create(DW_LEVEL_NODE, &options, &worker), 0);
	CHECK_EQ(dw_worker_init(worker), 0);
	dw_worker_destroy(worker);
}

struct first_buffer {
	struct dw_worker *worker;
	pthread_barrier_t *barrier;
	int64_t *memory;
};

static void *make_buffer(void *argument)
{
	struct first_buffer *first = argument;

	pthread_barrier_wait(first->barrier);
	dw_buffer_create(first->worker, 8, (void **)&first->memory);
	return NULL;
}

/* Both lie in the one arena of the tree. */
TEST(first_buffers_of_two_threads)
{
	for (int round = 0; round < 200; round++) {
		struct dw_worker *worker = make_worker(DW_LEVEL_NODE, 1, DW_PROCESS);
		struct first_buffer first[2];
		pthread_barrier_t barrier;
		pthread_t threads[2];

		pthread_barrier_init(&barrier, NULL, 2);
		for (int i = 0; i < 2; i++) {
			first[i] = (struct first_buffer){ worker, &barrier, NULL };
			pthread_create(&threads[i], NULL, make_buffer, &first[i]);
		}
		for (int i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		for (int i = 0; i < 2; i++)
			CHECK_EQ(dw_buffer_destroy(worker, first[i].memory), 0);
		pthread_barrier_destroy(&barrier);
		dw_worker_destroy(worker);
	}
}

/* ----------------------------------------------------------- processor time */

/* A thread's time is its own, not that of the whole process. */
TEST(processor_time_of_a_thread)
{
	struct dw_child_stats stats[2];
	uint64_t begin = slow_clock(CLOCK_THREAD_CPUTIME_ID);
	size_t count = 2;

	chain_init(1, 2, ~0u, NULL);
	while (slow_clock(CLOCK_THREAD_CPUTIME_ID) - begin < 300 * MS)
		;
	CHECK_EQ(dw_worker_stats(chain.worker[0], stats, sizeof(stats[0]), &count), 0);
	for (size_t i = 0; i < 2; i++)
		CHECK(stats[i].cpu_ns > 0 && stats[i].cpu_ns < 100 * MS);
	chain_destroy();
}
