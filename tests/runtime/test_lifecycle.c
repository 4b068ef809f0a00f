/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Destroying Workers, names of children, a Worker without children, an init that fails and is
 * retried, and registrations while another thread is in init.
 */
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include "chips.h"

static struct callables calls;

static struct dw_worker *create(uint32_t level, const char *name, uint32_t subs, enum dw_mode mode)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	options.name = name;
	options.subs = subs;
	options.mode = mode;
	options.arena_bytes = 1 << 20;
	options.heap_ring_bytes = 1 << 20;
	CHECK_EQ(dw_worker_create(level, &options, &worker), 0);
	return worker;
}

/* ------------------------------------------------------------------- destroy */

static void refuses_to_destroy(struct dw_worker *child, const char *text)
{
	dw_worker_destroy(child);
	CHECK_STR(dw_strerror_last(), text);
}

/*
 * It was freed, and once more with its root: "double free or corruption", and the program was
 * aborted.
 */
TEST_IN_BOTH_MODES(child_worker_is_destroyed_with_its_root_alone)
{
	struct dw_worker *pod = create(4, "pod", 1, mode), *node = create(3, "node", 1, mode);
	int64_t *value;

	CHECK_EQ(register_all(pod, &calls), 0);
	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	CHECK_EQ(dw_buffer_create(pod, 8, (void **)&value), 0);
	refuses_to_destroy(node, "Worker node is a child of pod: destroy the root, which owns it");
	CHECK_EQ(dw_worker_init(pod), 0);
	refuses_to_destroy(node, "Worker node is a child of pod");
	CHECK_EQ(dw_worker_close(pod), 0);
	refuses_to_destroy(node, "Worker node is a child of pod");
	dw_worker_destroy(pod);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* --------------------------------------------------------------------- names */

static void adds(struct dw_worker *parent, struct dw_worker *child, int result, const char *text)
{
	if (CHECK_EQ(dw_worker_add_child(parent, child, NULL), result) && result < 0)
		CHECK_STR(dw_strerror_last(), text);
	if (result < 0)
		dw_worker_destroy(child);
}

/* Two children had one path, in messages, in statistics and in traces. */
TEST(siblings_have_different_names)
{
	struct dw_chip_options chip = { .driver = "sim" };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_child_stats stats[16];
	struct dw_worker *pod;
	size_t count = 16;

	options.subs = 2;
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	options.arena_bytes = options.heap_ring_bytes = 1 << 20;
	CHECK_EQ(dw_worker_create(5, &options, &pod), 0);
	adds(pod, create(3, "one", 1, DW_PROCESS), 0, "");
	adds(pod, create(3, "one", 1, DW_PROCESS), -EEXIST,
	     "child Worker 1 would be named \"one\", which is the name of child Worker 0: give one "
	     "of them another name");
	adds(pod, create(4, "one", 1, DW_PROCESS), -EEXIST,
	     "child Worker 1 would be named \"one\"");
	/* A default name, and the same as a given one, in both orders. */
	adds(pod, create(3, NULL, 1, DW_PROCESS), 0, "");
	adds(pod, create(3, "node1", 1, DW_PROCESS), -EEXIST,
	     "which is the name of child Worker 1 by default");
	adds(pod, create(3, "node3", 1, DW_PROCESS), 0, "");
	adds(pod, create(4, NULL, 1, DW_PROCESS), 0, "");
	adds(pod, create(3, "node5", 1, DW_PROCESS), 0, "");
	adds(pod, create(3, NULL, 1, DW_PROCESS), -EEXIST,
	     "child Worker 5 would be named \"node5\" by default, which is the name of child "
	     "Worker 4");
	/* Sub workers and chips. */
	adds(pod, create(3, "sub1", 1, DW_PROCESS), -EEXIST,
	     "\"sub1\", which is the name of a sub worker");
	adds(pod, create(3, "chip0", 1, DW_PROCESS), -EEXIST,
	     "\"chip0\", which is the name of a chip");
	adds(pod, create(3, "sub2", 1, DW_PROCESS), 0, "");
	adds(pod, create(3, "sub01", 1, DW_PROCESS), 0, "");
	adds(pod, create(3, "chip1", 1, DW_PROCESS), 0, "");
	CHECK_EQ(dw_worker_init(pod), 0);
	CHECK_EQ(dw_worker_stats(pod, stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(count, 3 + 8 + 8);
	for (size_t i = 0; i < count && i < 16; i++)
		for (size_t k = 0; k < i; k++)
			if (!CHECK(strcmp(stats[i].path, stats[k].path) != 0))
				printf("# %s\n", stats[i].path);
	dw_worker_destroy(pod);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* --------------------------------------------------------------- no children */

static dw_callable image, down;

static int orch_alone(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	int64_t *own = args ? dw_args_data(args, 0) : context;
	uint32_t shape = 16;
	struct dw_tensor tensor;

	(void)config;
	CHECK_EQ(dw_orch_sub_count(orch), 0);
	CHECK_EQ(dw_orch_worker_count(orch), 0);
	CHECK_EQ(dw_scope_begin(orch), 0);
	CHECK_EQ(dw_alloc(orch, DW_INT64, &shape, 1, &tensor), 0);
	CHECK_EQ(dw_scope_end(orch), 0);
	CHECK_EQ(submit_one(orch, calls.add, own, DW_INOUT, 1, NULL, NULL), -ENODEV);
	CHECK_STR(dw_strerror_last(), " has no sub worker, which \"add\" needs");
	CHECK_EQ(submit_one(orch, down, own, DW_INOUT, 1, NULL, NULL), -ENODEV);
	CHECK_STR(dw_strerror_last(), " has no nested Worker, which \"down\" needs");
	CHECK_EQ(submit_one(orch, image, own, DW_INOUT, 1, NULL, NULL), -ENODEV);
	CHECK_STR(dw_strerror_last(),
		  " has no chip of driver \"sim\", which \"sim:vector_add\" needs");
	CHECK_EQ(dw_orch_wait(orch), 0);
	++*own;
	return unit_failures ? dw_task_fail(EPROTO, "%d checks failed", unit_failures) : 0;
}

static int orch_down(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	return submit_one(orch, down, context, DW_INOUT, 1, NULL, NULL);
}

static void register_alone(struct dw_worker *root, int64_t **value)
{
	struct rig rig = { .node = root };

	CHECK_EQ(register_all(root, &calls), 0);
	CHECK_EQ(dw_callable_register_orch(root, "down", orch_alone, NULL, &down), 0);
	CHECK_EQ(dw_buffer_create(root, 8, (void **)value), 0);
	image = sim_image(&rig, "vector_add");
}

/* "it could never run a task" */
TEST_IN_BOTH_MODES(worker_without_children_comes_up)
{
	struct dw_engine_stats engine = DW_OPTIONS(dw_engine_stats);
	struct dw_worker *node = create(3, "node", 0, mode);
	unsigned fds = count_dir("/proc/self/fd"), mappings = 0;
	struct dw_child_stats stats[1];
	struct dw_run *run = NULL;
	char report[2048];
	size_t count = 1, bytes = sizeof(report);
	int64_t *value;

	register_alone(node, &value);
	CHECK_EQ(dw_worker_init(node), 0);
	/* The allocator may map more now and then, and not for each run. */
	for (int i = 1; i <= 60; i++) {
		CHECK_EQ(dw_worker_run(node, orch_alone, NULL, NULL, value), 0);
		CHECK_EQ(*value, i);
		if (i == 10)
			mappings = count_mappings();
	}
	CHECK(count_mappings() < mappings + 50);
	CHECK_EQ(dw_worker_start(node, orch_alone, NULL, NULL, value, NULL, &run), 0);
	CHECK_EQ(dw_run_wait(run), 0);
	CHECK_EQ(dw_worker_stats(node, stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(count, 0);
	CHECK_EQ(dw_worker_engine_stats(node, &engine), 0);
	CHECK_EQ(engine.failed, 0);
	CHECK_EQ(dw_worker_report(node, 0, report, &bytes), 0);
	CHECK_STR(report, "node (L3");
	CHECK_EQ(descendants(NULL, 0), 0);
	CHECK_EQ(dw_worker_close(node), 0);
	CHECK_EQ(dw_worker_close(node), 0);
	dw_worker_destroy(node);
	CHECK_EQ(count_dir("/proc/self/fd"), fds);
}

TEST_IN_BOTH_MODES(child_worker_without_children_comes_up)
{
	struct dw_worker *pod = create(4, "pod", 0, mode), *node = create(3, "node", 0, mode);
	int64_t *value;

	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	register_alone(pod, &value);
	CHECK_EQ(dw_worker_init(pod), 0);
	for (int i = 1; i <= 3; i++) {
		if (!CHECK_EQ(dw_worker_run(pod, orch_down, NULL, NULL, value), 0))
			printf("# %s\n", dw_strerror_last());
		CHECK_EQ(*value, i);
	}
	CHECK_EQ(dw_worker_close(pod), 0);
	dw_worker_destroy(pod);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* --------------------------------------------------------------- init again */

#define WORDS 4096

struct kept {
	struct dw_worker *pod;
	int64_t *buffer, *registered;
};

/* The content of both, as it was written before the first init. */
static bool are_kept(const struct kept *kept)
{
	for (int64_t i = 1; i < WORDS; i++)
		if (kept->buffer[i] != i || kept->registered[i] != -i)
			return false;
	return true;
}

static void keep(struct kept *kept, struct dw_worker *pod)
{
	kept->pod = pod;
	CHECK_EQ(dw_buffer_create(pod, WORDS * 8, (void **)&kept->buffer), 0);
	kept->registered =
		mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK_EQ(dw_buffer_register(pod, kept->registered, WORDS * 8), 0);
	for (int64_t i = 1; i < WORDS; i++) {
		kept->buffer[i] = i;
		kept->registered[i] = -i;
	}
}

static int orch_add_both(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	const struct kept *kept = context;
	int result = submit_one(orch, calls.add, kept->buffer, DW_INOUT, 1, NULL, NULL);

	(void)args;
	(void)config;
	return result ? result :
			submit_one(orch, calls.add, kept->registered, DW_INOUT, 1, NULL, NULL);
}

static void works(struct kept *kept)
{
	int64_t before = kept->buffer[0];

	if (!CHECK_EQ(dw_worker_run(kept->pod, orch_add_both, NULL, NULL, kept), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(kept->buffer[0], before + 1);
	CHECK(are_kept(kept));
}

static void limit_fds(rlim_t most)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = most;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/*
 * The same Worker with one descriptor more each time, until there are enough: init fails wherever
 * one is needed. Before, the buffers were unmapped after the first failure, and every further init
 * gave EBUSY.
 */
TEST_IN_BOTH_MODES(init_that_fails_can_be_tried_again)
{
	struct dw_worker *pod = create(4, "pod", 2, mode), *node = create(3, "node", 1, mode);
	unsigned failures = 0, fds = count_dir("/proc/self/fd");
	struct rlimit before;
	struct kept kept;
	int result = 0;
	void *more;

	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	CHECK_EQ(register_all(pod, &calls), 0);
	keep(&kept, pod);
	getrlimit(RLIMIT_NOFILE, &before);
	for (rlim_t most = 3; most < 200; most++) {
		limit_fds(most);
		result = dw_worker_init(pod);
		limit_fds(before.rlim_cur);
		if (result == 0)
			break;
		failures++;
		if (!CHECK_EQ(result, -EMFILE) || !CHECK(are_kept(&kept)) ||
		    !CHECK_EQ(count_dir("/proc/self/fd"), fds) ||
		    !CHECK_EQ(descendants(NULL, 0), 0)) {
			printf("# with %lu descriptors: %s\n", (unsigned long)most,
			       dw_strerror_last());
			break;
		}
	}
	CHECK_EQ(result, 0);
	CHECK(failures > 5);
	works(&kept);
	/* New buffers work as before, too. */
	CHECK_EQ(dw_buffer_create(pod, 64, &more), 0);
	CHECK_EQ(dw_buffer_destroy(pod, more), 0);
	CHECK_EQ(dw_worker_close(pod), 0);
	CHECK(are_kept(&kept));
	CHECK_EQ(dw_worker_init(pod), -EBUSY);
	dw_worker_destroy(pod);
	munmap(kept.registered, WORDS * 8);
	CHECK_EQ(count_dir("/proc/self/fd"), fds);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* A driver deep in the tree is missing, and then there; more is registered in between. */
TEST_IN_BOTH_MODES(init_after_the_cause_has_gone)
{
	char path[64];
	struct dw_chip_options chip = { .driver = path };
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *pod = create(4, "pod", 1, mode), *node;
	struct kept kept;
	void *memory;
	dw_callable late;

	snprintf(path, sizeof(path), "/tmp/distworker-late-driver-%d.so", (int)getpid());
	options.mode = mode;
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	options.arena_bytes = options.heap_ring_bytes = 1 << 20;
	CHECK_EQ(dw_worker_create(3, &options, &node), 0);
	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	keep(&kept, pod);
	for (int i = 0; i < 3; i++) {
		CHECK(dw_worker_init(pod) < 0);
		CHECK_STR(dw_strerror_last(), path);
		CHECK(are_kept(&kept));
		CHECK_EQ(descendants(NULL, 0), 0);
		CHECK_EQ(dw_worker_run(pod, orch_add_both, NULL, NULL, &kept), -ENOTCONN);
		CHECK_STR(dw_strerror_last(), "not initialised");
	}
	/* It can be used like one that was never initialised. */
	CHECK_EQ(register_all(pod, &calls), 0);
	CHECK_EQ(dw_callable_register_sub(node, "late", sub_nothing, NULL, &late), 0);
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK_EQ(dw_buffer_register(pod, memory, 4096), 0);
	CHECK_EQ(dw_worker_add_child(pod, create(3, "another", 1, mode), NULL), 0);
	CHECK_EQ(symlink(fixture("chip_calc"), path), 0);
	if (!CHECK_EQ(dw_worker_init(pod), 0))
		printf("# %s\n", dw_strerror_last());
	works(&kept);
	unlink(path);
	dw_worker_destroy(pod);
	munmap(memory, 4096);
	munmap(kept.registered, WORDS * 8);
	CHECK_EQ(descendants(NULL, 0), 0);
}

/* ------------------------------------------- registering while another is in init */

static struct {
	_Atomic bool wanted;		/* this fork counts */
	sem_t forked;
	struct dw_worker *pod;
	char symbol[PATH_MAX + 32], other[PATH_MAX + 32];
	dw_callable added, removed;
	int result[2];
} between;

static void after_fork_in_parent(void)
{
	if (atomic_exchange(&between.wanted, false))
		sem_post(&between.forked);
}

/* The spawner starts late, so that init is not finished when the other thread registers. */
static void after_fork_in_child(void)
{
	if (atomic_exchange(&between.wanted, false))
		pause_ms(500);
}

static void *register_between(void *argument)
{
	(void)argument;
	while (sem_wait(&between.forked) < 0)
		;
	between.result[0] = dw_callable_register_symbol(between.pod, between.symbol, DW_SYMBOL_SUB,
							&between.added);
	between.result[1] = dw_callable_unregister(between.pod, between.removed);
	return NULL;
}

static int orch_knows(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	int64_t *value = args ? dw_args_data(args, 0) : context;
	dw_callable found;

	(void)config;
	if (dw_orch_find(orch, between.symbol, &found) < 0)
		return dw_task_fail(ENOENT, "it does not know the symbol by name");
	if (dw_orch_find(orch, between.other, &found) != -ENOENT)
		return dw_task_fail(EEXIST, "it still knows what was unregistered");
	dw_orch_find(orch, between.symbol, &found);
	if (dw_orch_worker_count(orch) &&
	    submit_one(orch, down, value, DW_INOUT, 0, NULL, NULL) < 0)
		return -EIO;
	return submit_one(orch, found, value, DW_INOUT, 1, NULL, NULL);
}

/* The children were forked before it; registering returned 0, and they said "is not registered". */
TEST(symbol_that_is_registered_during_init_reaches_every_child)
{
	struct dw_worker *pod = create(4, "pod", 1, DW_PROCESS),
			 *node = create(3, "node", 1, DW_PROCESS);
	static bool once;
	pthread_t thread;
	int64_t *value;

	if (!once)
		pthread_atfork(NULL, after_fork_in_parent, after_fork_in_child);
	once = true;
	sem_init(&between.forked, 0, 0);
	between.pod = pod;
	snprintf(between.symbol, sizeof(between.symbol), "%s:symbol_add", fixture("symbols"));
	snprintf(between.other, sizeof(between.other), "%s:symbol_orch", fixture("symbols"));
	CHECK_EQ(dw_worker_add_child(pod, node, NULL), 0);
	CHECK_EQ(dw_buffer_create(pod, 8, (void **)&value), 0);
	CHECK_EQ(dw_callable_register_orch(pod, "down", orch_knows, NULL, &down), 0);
	CHECK_EQ(dw_callable_register_symbol(pod, between.other, DW_SYMBOL_ORCH, &between.removed),
		 0);
	pthread_create(&thread, NULL, register_between, NULL);
	atomic_store(&between.wanted, true);
	CHECK_EQ(dw_worker_init(pod), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(between.result[0], 0);
	CHECK_EQ(between.result[1], 0);
	if (!CHECK_EQ(dw_worker_run(pod, orch_knows, NULL, NULL, value), 0))
		printf("# %s\n", dw_strerror_last());
	CHECK_EQ(*value, 2);
	dw_worker_destroy(pod);
	sem_destroy(&between.forked);
}

/* ------------------------------------------------------ forks of the application */

/* Is memory mapped there? Otherwise reading it would be a SIGSEGV. */
static bool is_mapped(const void *address)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	return msync((void *)((uintptr_t)address & ~(page - 1)), page, MS_ASYNC) == 0;
}

/* 100 if all is as the header says. */
static int look_from_child(const struct kept *kept, bool buffers)
{
	void *more;

	if (is_mapped(kept->buffer) != buffers || (buffers && kept->buffer[1] != 1))
		return 1;
	if (!is_mapped(kept->registered) || kept->registered[1] != -1)
		return 2;
	kept->registered[2]--;
	if (dw_worker_run(kept->pod, orch_add_both, NULL, NULL, (void *)kept) != -EBADFD)
		return 3;
	if (dw_buffer_create(kept->pod, 64, &more) != -EBADFD)
		return 4;
	dw_worker_destroy(kept->pod);
	return 100;
}

static void fork_and_look(const struct kept *kept, bool buffers)
{
	int64_t before = kept->registered[2];
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(look_from_child(kept, buffers));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (!CHECK(WIFEXITED(status)))
		return;
	CHECK_EQ(WEXITSTATUS(status), 100);
	CHECK_EQ(kept->registered[2], before - 1);
	kept->registered[2] = before;
}

/* As the header says of such processes. */
TEST(process_that_the_application_forks_has_registered_memory_and_after_init_no_buffers)
{
	struct dw_worker *pod = create(4, "pod", 1, DW_PROCESS);
	struct kept kept;

	CHECK_EQ(register_all(pod, &calls), 0);
	keep(&kept, pod);
	fork_and_look(&kept, true);
	CHECK_EQ(dw_worker_init(pod), 0);
	fork_and_look(&kept, false);
	works(&kept);
	CHECK_EQ(dw_worker_close(pod), 0);
	/* There is no child except the library's, which ends with its tree. */
	CHECK_EQ(wait(NULL), -1);
	CHECK_EQ(errno, ECHILD);
	CHECK(are_kept(&kept));
	dw_worker_destroy(pod);
	munmap(kept.registered, WORDS * 8);
}

/* An application that reaps every child that has ended. */
TEST(spawner_that_the_application_reaps_ends_as_any)
{
	struct dw_worker *pod = create(4, "pod", 1, DW_PROCESS);
	struct dw_child_stats stats[1];
	size_t count = 1;
	struct kept kept;

	CHECK_EQ(register_all(pod, &calls), 0);
	keep(&kept, pod);
	CHECK_EQ(dw_worker_init(pod), 0);
	works(&kept);
	CHECK_EQ(dw_worker_stats(pod, stats, sizeof(stats[0]), &count), 0);
	kill(parent_of(stats[0].pid), SIGKILL);
	CHECK(wait(NULL) > 0);
	CHECK_EQ(wait(NULL), -1);
	CHECK(dw_worker_run(pod, orch_add_both, NULL, NULL, &kept) < 0);
	CHECK_EQ(dw_worker_close(pod), 0);
	CHECK(are_kept(&kept));
	dw_worker_destroy(pod);
	munmap(kept.registered, WORDS * 8);
	CHECK_EQ(descendants(NULL, 0), 0);
}
