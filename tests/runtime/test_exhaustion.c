/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * No processes, no descriptors, no address space, no heap: each is an error with its cause,
 * nothing is left, and the Worker can be closed. Each test lowers a limit in a process of its own.
 */
#include <grp.h>
#include <sys/resource.h>
#include "failure.h"

static void limit(int resource, rlim_t value)
{
	struct rlimit rlimit = { value, value };

	getrlimit(resource, &rlimit);
	rlimit.rlim_cur = value;
	CHECK_EQ(setrlimit(resource, &rlimit), 0);
}

static void init_fails_with(int error, const char *part)
{
	unsigned fds = count_fds();
	int result;

	chain_create(2, 3, 0, NULL);
	result = dw_worker_init(chain.worker[0]);
	CHECK_EQ(result, error);
	check_text(part);
	CHECK_EQ(descendants(NULL, 0), 0);
	CHECK_EQ(count_fds(), fds);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	dw_worker_destroy(chain.worker[0]);
}

/* ----------------------------------------------------------------- processes */

/* Limits do not apply to root: becomes an unusual user without other processes. */
static bool become_user(uid_t uid)
{
	return geteuid() != 0 || (setgroups(0, NULL) == 0 && setgid(uid) == 0 && setuid(uid) == 0);
}

static void no_processes(void)
{
	say_prepare();
	if (!become_user(54321))
		return;
	for (rlim_t processes = 1; processes < 6; processes++) {
		limit(RLIMIT_NPROC, processes);
		init_fails_with(-EAGAIN, "EAGAIN");
	}
	limit(RLIMIT_NPROC, 100);
	chain_init(2, 3, 0, NULL);
	CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), 0);
	chain_destroy();
}

TEST(fork_that_fails_is_the_error_of_init)
{
	if (strcmp(getenv("DW_PROVIDER") ? getenv("DW_PROVIDER") : "", "kernel") == 0)
		SKIP("the device may be closed to another user");
	apart(no_processes);
}

static void no_replacement(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	say_prepare();
	if (!become_user(54322))
		return;
	options.restart = DW_RESTART_ON_DEATH;
	options.restart_limit = 3;
	/*
	 * Us, our thread, the spawner, its child; then none. The spawner has its own copy of the
	 * limit.
	 */
	limit(RLIMIT_NPROC, 100);
	chain_init(1, 1, 0, &options);
	for (int i = 0; i < 3; i++) {
		pid_t pids[8];
		unsigned count = descendants(pids, 8);
		struct rlimit none = { 1, 1 };

		for (unsigned p = 0; p < count && p < 8; p++)
			prlimit(pids[p], RLIMIT_NPROC, &none, NULL);
	}
	CHECK_EQ(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGKILL }), -EOWNERDEAD);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), -ENODEV);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	chain_destroy();
}

TEST(replacement_that_cannot_be_forked_ends_in_giving_up)
{
	if (strcmp(getenv("DW_PROVIDER") ? getenv("DW_PROVIDER") : "", "kernel") == 0)
		SKIP("the device may be closed to another user");
	apart(no_replacement);
}

/* ---------------------------------------------------------------- descriptors */

static void no_descriptors(void)
{
	unsigned used = count_fds() - 1;

	say_prepare();
	/* From far too few to almost enough. */
	for (rlim_t more = 4; more < 24; more++) {
		unsigned fds;
		int result;

		limit(RLIMIT_NOFILE, used + more);
		fds = count_fds();
		chain_create(2, 3, 0, NULL);
		result = dw_worker_init(chain.worker[0]);
		if (result < 0) {
			CHECK_EQ(result, -EMFILE);
			CHECK(strstr(dw_strerror_last(), "EMFILE") ||
			      strstr(dw_strerror_last(), "Too many open files"));
		}
		CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
		dw_worker_destroy(chain.worker[0]);
		limit(RLIMIT_NOFILE, 1000);
		CHECK_EQ(descendants(NULL, 0), 0);
		CHECK_EQ(count_fds(), fds);
	}
}

TEST(descriptors_that_are_too_few_are_the_error_of_init)
{
	apart(no_descriptors);
}

/* -------------------------------------------------------------- address space */

static void no_address_space(void)
{
	say_prepare();
	for (rlim_t megabytes = 40; megabytes < 600; megabytes += 20) {
		struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
		struct dw_worker *worker;
		void *buffer;
		int result;

		limit(RLIMIT_AS, megabytes << 20);
		options.subs = 2;
		options.heap_ring_bytes = 32 << 20;
		options.arena_bytes = 64 << 20;
		result = dw_worker_create(3, &options, &worker);
		if (result == 0) {
			result = dw_buffer_create(worker, 4096, &buffer);
			if (result == 0)
				result = dw_worker_init(worker);
			if (result < 0)
				CHECK(dw_strerror_last()[0]);
			CHECK_EQ(dw_worker_close(worker), 0);
			dw_worker_destroy(worker);
		}
		limit(RLIMIT_AS, RLIM_INFINITY);
		CHECK(result == 0 || result == -ENOMEM || result == -EAGAIN);
		CHECK_EQ(descendants(NULL, 0), 0);
	}
}

TEST(address_space_that_is_too_small_is_the_error_of_who_needs_it)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	SKIP("sanitizers need the address space");
#endif
	apart(no_address_space);
}

/* ---------------------------------------------------------------------- heap */

static int orch_full(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	uint32_t shape = 4 << 20;
	struct dw_tensor tensor;
	int result = 0;

	(void)args;
	(void)config;
	(void)context;
	for (int i = 0; i < 100 && result == 0; i++)
		result = dw_alloc(orch, DW_UINT8, &shape, 1, &tensor);
	return result;
}

TEST_IN_BOTH_MODES(full_heap_is_an_error_and_the_next_run_has_it_all_again)
{
	chain_init(1, 1, threads_of(mode), NULL);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_full, NULL, NULL, NULL), -EDEADLK);
		check_text("node0");
		CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	}
	chain_destroy();
}

/* Blocks of a dead child's tasks are given back when it is gone. */
static int orch_block(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	uint32_t shape = 6 << 20;
	struct dw_tensor tensor;
	struct dw_args *task;
	int result;

	(void)args;
	(void)config;
	(void)context;
	result = dw_alloc(orch, DW_UINT8, &shape, 1, &tensor);
	if (result < 0)
		return result;
	dw_args_create(&task);
	dw_args_add_tensor(task, &tensor, DW_INOUT);
	dw_args_add_int(task, BREAK_SIGNAL);
	dw_args_add_int(task, SIGKILL);
	result = dw_submit(orch, chain.broken, task, NULL, NULL);
	dw_args_destroy(task);
	return result;
}

TEST(heap_of_tasks_that_died_comes_back)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.restart = DW_RESTART_ON_DEATH;
	options.restart_limit = 1000;
	chain_init(1, 1, 0, &options);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_block, NULL, NULL, NULL), -EOWNERDEAD);
	chain_destroy();
}

TEST_IN_BOTH_MODES(arena_that_is_full_is_an_error)
{
	void *buffer = NULL;

	chain_init(1, 1, threads_of(mode), NULL);
	CHECK_EQ(dw_buffer_create(chain.worker[0], 1ULL << 40, &buffer), -ENOMEM);
	CHECK(!buffer);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_NOT }), 0);
	chain_destroy();
}
