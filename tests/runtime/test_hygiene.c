/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * State of the application that must stay unchanged: its signals, output, descriptors, other
 * threads and other trees.
 */
#include <fcntl.h>
#include "failure.h"

/* ------------------------------------------------------------------- signals */

struct signals {
	sigset_t mask;
	struct sigaction actions[NSIG];
};

static void signals_read(struct signals *signals)
{
	memset(signals, 0, sizeof(*signals));
	pthread_sigmask(SIG_SETMASK, NULL, &signals->mask);
	for (int s = 1; s < NSIG; s++)
		sigaction(s, NULL, &signals->actions[s]);
}

static bool signals_same(const struct signals *a, const struct signals *b)
{
	for (int s = 1; s < NSIG; s++)
		if (sigismember(&a->mask, s) != sigismember(&b->mask, s) ||
		    a->actions[s].sa_handler != b->actions[s].sa_handler)
			return false;
	return true;
}

static void handler(int number)
{
	(void)number;
}

/*
 * The signals up to 31, a bit for each. cells[0]: blocked ones, [1]: ignored ones, [2]: those with
 * a handler.
 */
static void signals_tell(const struct signals *signals, int64_t *cells)
{
	cells[0] = cells[1] = cells[2] = 0;
	for (int s = 1; s < 32; s++) {
		cells[0] |= (int64_t)(sigismember(&signals->mask, s) == 1) << s;
		cells[1] |= (int64_t)(signals->actions[s].sa_handler == SIG_IGN) << s;
		cells[2] |= (int64_t)(signals->actions[s].sa_handler != SIG_IGN &&
				      signals->actions[s].sa_handler != SIG_DFL) << s;
	}
}

static int sub_signals(const struct dw_args *args, void *context)
{
	struct signals now;

	(void)context;
	signals_read(&now);
	signals_tell(&now, dw_args_data(args, 0));
	return 0;
}

static dw_callable look;

static int orch_look(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, look, chain.cells, DW_INOUT, 0, NULL, NULL);
}

static int orch_look_below(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, chain.down, chain.cells, DW_INOUT, 0, NULL, NULL);
}

TEST(children_have_the_applications_mask_default_handlers_and_what_it_ignores)
{
	struct signals before, after;
	sigset_t blocked, old;
	int64_t own[3];

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &blocked, &old);
	signal(SIGUSR1, handler);
	signal(SIGPIPE, SIG_IGN);
	/*
	 * The program that started this one may have ignored and blocked others (nohup, a shell's
	 * `command &`).
	 */
	signals_read(&before);
	signals_tell(&before, own);
	CHECK((own[0] & (1 << SIGINT | 1 << SIGTERM)) == (1 << SIGINT | 1 << SIGTERM));
	CHECK(own[1] >> SIGPIPE & 1);
	CHECK(own[2] >> SIGUSR1 & 1);

	chain_create(2, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "look", sub_signals, NULL, &look), 0);
	CHECK_EQ(dw_callable_register_orch(chain.worker[0], "look_orch", orch_look, NULL,
					   &chain.down),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	for (int level = 0; level < 2; level++) {
		CHECK_EQ(dw_worker_run(chain.worker[0], level ? orch_look_below : orch_look, NULL,
				       NULL, NULL),
			 0);
		CHECK_EQ(chain.cells[0], own[0]);
		CHECK_EQ(chain.cells[1], own[1]);
		CHECK_EQ(chain.cells[2], 0);
	}
	chain_destroy();
	signals_read(&after);
	CHECK(signals_same(&before, &after));
	signal(SIGUSR1, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static _Atomic int taken_by;

static void take(int number)
{
	(void)number;
	taken_by = gettid();
}

/* A signal to the process is never taken by a thread of the library. */
TEST(threads_of_the_library_take_no_signals)
{
	sigset_t usr2, old;

	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	signal(SIGUSR2, take);
	chain_init(2, 2, 3, NULL);
	CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), 0);
	/* No other thread could take the signal while this one blocks it. */
	pthread_sigmask(SIG_BLOCK, &usr2, &old);
	taken_by = 0;
	kill(getpid(), SIGUSR2);
	pause_ms(50);
	CHECK_EQ(taken_by, 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	CHECK_EQ(taken_by, gettid());
	chain_destroy();
	signal(SIGUSR2, SIG_DFL);
}

/* -------------------------------------------------------------------- SIGCHLD */

static void kill_and_run(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);

	options.restart = DW_RESTART_ON_DEATH;
	chain_init(2, 2, 0, &options);
	CHECK_EQ(chain_run((struct order){ .how = BREAK_SIGNAL, .detail = SIGSEGV }), -EOWNERDEAD);
	check_text("killed by SIGSEGV, pid ");
	CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), 0);
	CHECK_EQ(dw_worker_close(chain.worker[0]), 0);
	chain_destroy();
}

TEST(application_that_ignores_sigchld)
{
	signal(SIGCHLD, SIG_IGN);
	kill_and_run();
	signal(SIGCHLD, SIG_DFL);
}

static void *reap_everything(void *argument)
{
	_Atomic int *stop = argument;

	while (!*stop)
		if (waitpid(-1, NULL, WNOHANG) <= 0)
			pause_ms(1);
	return NULL;
}

TEST(application_that_reaps_every_child)
{
	_Atomic int stop = 0;
	pthread_t thread;

	pthread_create(&thread, NULL, reap_everything, &stop);
	for (int i = 0; i < 10; i++)
		kill_and_run();
	stop = 1;
	pthread_join(thread, NULL);
}

/* ---------------------------------------------------------------------- stdio */

static int sub_print(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	printf("from below\n");
	return 0;
}

static void print_from_below(void)
{
	printf("before init, ");
	chain_create(2, 2, 0, NULL);
	if (dw_callable_register_sub(chain.worker[0], "print", sub_print, NULL, &look) ||
	    dw_worker_init(chain.worker[0]) ||
	    dw_worker_run(chain.worker[0], orch_look, NULL, NULL, NULL))
		_exit(1);
	printf("after the run\n");
	dw_worker_destroy(chain.worker[0]);
	exit(0);
}

TEST(nothing_is_written_twice_and_nothing_is_lost)
{
	static const char *const parts[] = { "before init, ", "from below\n", "after the run\n" };
	static char buffer[4096];
	char text[1024] = "";
	size_t used = 0, expected = 0;
	int ends[2], status;
	ssize_t n;
	pid_t pid;

	CHECK_EQ(pipe(ends), 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		/* Fully buffered, as a pipe is. */
		setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
		print_from_below();
	}
	close(ends[1]);
	while (used < sizeof(text) - 1 &&
	       (n = read(ends[0], text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	close(ends[0]);
	waitpid(pid, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	for (int i = 0; i < 3; i++) {
		CHECK_STR(text, parts[i]);
		expected += strlen(parts[i]);
	}
	CHECK_EQ(used, expected);
}

/* ----------------------------------------------------------------- descriptors */

/* cell 0: how many descriptors it has, 1: whether that of scalar 0 is open */
static int sub_fds(const struct dw_args *args, void *context)
{
	int64_t *cell = dw_args_data(args, 0);

	(void)context;
	cell[0] = count_fds();
	cell[1] = fcntl((int)dw_args_int(args, 0), F_GETFD) >= 0;
	return 0;
}

static int late_fd;

static int orch_fds(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	(void)context;
	return submit_one(orch, look, chain.cells, DW_INOUT, late_fd, NULL, NULL);
}

/*
 * A child has the descriptors open at init and a handful of its own, with any number of siblings.
 */
TEST(children_hold_few_descriptors_and_none_from_after_init)
{
	int64_t few = 0;

	for (uint32_t subs = 2; subs <= 32; subs *= 4) {
		unsigned before = count_fds();

		chain_create(1, subs, 0, NULL);
		CHECK_EQ(dw_callable_register_sub(chain.worker[0], "fds", sub_fds, NULL, &look), 0);
		CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
		late_fd = fcntl(said[0], F_DUPFD, 500);
		CHECK_EQ(dw_worker_run(chain.worker[0], orch_fds, NULL, NULL, NULL), 0);
		close(late_fd);
		CHECK(chain.cells[0] <= before + 10);
		if (few)
			CHECK_EQ(chain.cells[0], few);
		few = chain.cells[0];
		CHECK_EQ(chain.cells[1], 0);
		chain_destroy();
		CHECK_EQ(count_fds(), before);
	}
}

/* --------------------------------------------------------------------- atfork */

static _Atomic int forks_before, forks_after;

static void before_fork(void)
{
	forks_before++;
}

static void after_fork(void)
{
	forks_after++;
}

static int sub_atfork(const struct dw_args *args, void *context)
{
	(void)context;
	*(int64_t *)dw_args_data(args, 0) = forks_after;
	return 0;
}

/* The child's handler has run twice: in the spawner, and in its child. */
TEST(atfork_handlers_run)
{
	pthread_atfork(before_fork, NULL, after_fork);
	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "atfork", sub_atfork, NULL, &look), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(forks_before, 1);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_look, NULL, NULL, NULL), 0);
	CHECK_EQ(chain.cells[0], 2);
	chain_destroy();
}

static int sub_environment(const struct dw_args *args, void *context)
{
	const char *value = getenv("OMP_NUM_THREADS");

	(void)context;
	*(int64_t *)dw_args_data(args, 0) = value ? atoi(value) : -1;
	return 0;
}

TEST(openmp_settings_reach_the_children_as_they_are)
{
	setenv("OMP_NUM_THREADS", "3", 1);
	chain_create(1, 1, 0, NULL);
	CHECK_EQ(dw_callable_register_sub(chain.worker[0], "environment", sub_environment, NULL,
					  &look),
		 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	CHECK_EQ(dw_worker_run(chain.worker[0], orch_look, NULL, NULL, NULL), 0);
	CHECK_EQ(chain.cells[0], 3);
	chain_destroy();
	unsetenv("OMP_NUM_THREADS");
}

/* -------------------------------------------------------------- several trees */

static dw_callable tree_add[4];

static int orch_tree(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	int64_t *cell = context;
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < 20 && result == 0; i++)
		result = submit_one(orch, tree_add[cell[1]], cell, DW_INOUT, 1, NULL, NULL);
	return result;
}

static int is_wrong(const char *call, int result)
{
	if (result)
		printf("# %s: %d: %s\n", call, result, dw_strerror_last());
	return result != 0;
}

#define WRONG(call) is_wrong(#call, call)

static void *live_with_a_tree(void *argument)
{
	int number = (int)(intptr_t)argument;
	intptr_t wrong = 0;

	for (int i = 0; i < 15 && !wrong; i++) {
		struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
		struct dw_worker *worker;
		void *memory;
		int64_t *cell;

		set_small(&options);
		options.subs = 2;
		options.mode = number % 2 ? DW_THREAD : DW_PROCESS;
		if (WRONG(dw_worker_create(3, &options, &worker)))
			return (void *)1;
		wrong += WRONG(
			dw_callable_register_sub(worker, "add", sub_add, NULL, &tree_add[number]));
		if (WRONG(dw_buffer_create(worker, 4096, &memory)))
			return (void *)1;
		cell = memory;
		cell[1] = number;
		wrong += WRONG(dw_worker_init(worker));
		wrong += WRONG(dw_worker_run(worker, orch_tree, NULL, NULL, cell));
		wrong += cell[0] != 20;
		wrong += WRONG(dw_worker_close(worker));
		dw_worker_destroy(worker);
	}
	return (void *)wrong;
}

/* Meanwhile two busy threads allocate and print. */
static void *be_busy(void *argument)
{
	_Atomic int *stop = argument;
	FILE *nowhere = fopen("/dev/null", "we");

	while (!*stop) {
		void *block = malloc(100);

		if (nowhere)
			fprintf(nowhere, "%p\n", block);
		free(block);
	}
	if (nowhere)
		fclose(nowhere);
	return NULL;
}

TEST(trees_come_and_go_side_by_side_in_threads)
{
	pthread_t threads[4], busy[2];
	_Atomic int stop = 0;
	unsigned fds = count_fds();
	void *wrong;

	for (int i = 0; i < 2; i++)
		pthread_create(&busy[i], NULL, be_busy, &stop);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, live_with_a_tree, (void *)(intptr_t)i);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &wrong);
		CHECK_EQ((intptr_t)wrong, 0);
	}
	stop = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(busy[i], NULL);
	CHECK_EQ(count_fds(), fds);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* The spawner's death is seen although another tree was forked meanwhile. */
TEST(two_trees_do_not_hold_each_others_ends)
{
	struct dw_worker *first, *second;
	struct chain kept;

	chain_init(2, 1, 0, NULL);
	kept = chain;
	first = chain.worker[0];
	chain_init(2, 1, 0, NULL);
	second = chain.worker[0];
	chain = kept;
	kill(pid_of(chain_path(1)), SIGKILL);
	CHECK_EQ(chain_run((struct order){ .depth = 1, .how = BREAK_NOT }), -ENODEV);
	CHECK_EQ(dw_worker_close(first), 0);
	dw_worker_destroy(first);
	dw_worker_destroy(second);
	CHECK_EQ(descendants(NULL, 0), 0);
}
