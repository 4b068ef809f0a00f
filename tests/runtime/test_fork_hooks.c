/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Hooks around the library's forks and at the start of each child: which set calls which hook, in
 * which process, in which order.
 */
#include <stdatomic.h>
#include "failure.h"

#define EVENTS 1024

enum event { PREPARE = 1, PARENT, CHILD, START };

/* The calls of all processes, in shared memory. */
static struct log {
	_Atomic unsigned count;
	struct {
		pid_t pid, parent;
		int event, set;
		uint32_t kind, mode, generation;
		char path[64];
	} entry[EVENTS];
} *seen;

/* The bracket of a fork that is open in this process: -1 when calls do not match. */
static int open_forks;

static void note(enum event event, const void *context, const struct dw_child_start *start)
{
	unsigned n = atomic_fetch_add(&seen->count, 1);

	if (n >= EVENTS)
		return;
	seen->entry[n].pid = getpid();
	seen->entry[n].parent = getppid();
	seen->entry[n].event = event;
	seen->entry[n].set = *(const int *)context;
	if (!start)
		return;
	seen->entry[n].kind = start->kind;
	seen->entry[n].mode = start->mode;
	seen->entry[n].generation = start->generation;
	snprintf(seen->entry[n].path, sizeof(seen->entry[n].path), "%s", start->path);
}

static void on_prepare(void *context)
{
	open_forks++;
	note(PREPARE, context, NULL);
}

static void on_parent(void *context)
{
	open_forks--;
	note(PARENT, context, NULL);
}

static void on_child(void *context)
{
	open_forks--;
	note(CHILD, context, NULL);
}

static int on_start(const struct dw_child_start *start, void *context)
{
	if (start->size != sizeof(*start) || open_forks != 0)
		return dw_task_fail(EPROTO, "%d brackets are open", open_forks);
	note(START, context, start);
	return 0;
}

static int sets[2] = { 1, 2 };

static struct dw_fork_hooks hooks_of(int number)
{
	struct dw_fork_hooks hooks = DW_OPTIONS(dw_fork_hooks);

	hooks.prepare = on_prepare;
	hooks.parent = on_parent;
	hooks.child = on_child;
	hooks.start = on_start;
	hooks.context = &sets[number - 1];
	return hooks;
}

static void begin(void)
{
	struct dw_fork_hooks first = hooks_of(1), second = hooks_of(2);

	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK_EQ(dw_fork_hooks_add(&first), 0);
	CHECK_EQ(dw_fork_hooks_add(&second), 0);
}

static void finish(void)
{
	struct dw_fork_hooks first = hooks_of(1), second = hooks_of(2);

	CHECK_EQ(dw_fork_hooks_remove(&first), 0);
	CHECK_EQ(dw_fork_hooks_remove(&second), 0);
	CHECK_EQ(dw_fork_hooks_remove(&second), -ENOENT);
	CHECK_EQ(open_forks, 0);
	munmap(seen, sizeof(*seen));
}

/* "p2 p1 a1 a2 …": the calls of one process; prepare, parent (after), child, start. */
static const char *calls_of(pid_t pid)
{
	static char text[EVENTS * 3 + 1];
	size_t used = 0;

	for (unsigned i = 0; i < seen->count && i < EVENTS; i++)
		if (seen->entry[i].pid == pid)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%c%d ",
						 "?pacs"[seen->entry[i].event], seen->entry[i].set);
	text[used] = '\0';
	return text;
}

static bool is_called(pid_t pid, const char *wanted)
{
	if (strcmp(calls_of(pid), wanted) == 0)
		return true;
	printf("# pid %d has called \"%s\", not \"%s\"\n", (int)pid, calls_of(pid), wanted);
	return false;
}

/* The process of the start of a child, of the first set. */
static pid_t started(const char *path, enum dw_child_kind kind, enum dw_mode mode,
		     uint32_t generation)
{
	for (unsigned i = 0; i < seen->count && i < EVENTS; i++)
		if (seen->entry[i].event == START && strcmp(seen->entry[i].path, path) == 0 &&
		    seen->entry[i].kind == kind && seen->entry[i].mode == mode &&
		    seen->entry[i].generation == generation)
			return seen->entry[i].pid;
	printf("# %s, generation %u, has not started\n", path, generation);
	return 0;
}

TEST(hooks_are_called_around_every_fork_of_init_and_at_every_start)
{
	pid_t spawner, node, inner, sub;

	begin();
	chain_init(2, 1, 0, NULL);
	CHECK(is_called(getpid(), "p2 p1 a1 a2 "));
	sub = started("pod0/sub0", DW_CHILD_SUB, DW_PROCESS, 1);
	CHECK(is_called(sub, "c1 c2 s1 s2 "));
	spawner = parent_of(sub);
	CHECK(is_called(spawner, "c1 c2 p2 p1 a1 a2 p2 p1 a1 a2 "));
	/* A nested Worker forks a spawner of its own. */
	node = started("pod0/node0", DW_CHILD_WORKER, DW_PROCESS, 1);
	CHECK(is_called(node, "c1 c2 s1 s2 p2 p1 a1 a2 "));
	inner = started("pod0/node0/sub0", DW_CHILD_SUB, DW_PROCESS, 1);
	CHECK(is_called(inner, "c1 c2 s1 s2 "));
	CHECK(is_called(parent_of(inner), "c1 c2 p2 p1 a1 a2 "));
	CHECK_EQ(parent_of(parent_of(inner)), node);
	chain_destroy();
	finish();
}

TEST(hooks_are_called_for_a_replacement)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct order die = { .how = BREAK_SIGNAL, .detail = SIGKILL }, fine = { .how = BREAK_NOT };
	pid_t first, second;

	options.restart = DW_RESTART_ON_DEATH;
	begin();
	chain_init(1, 1, 0, &options);
	first = started("node0/sub0", DW_CHILD_SUB, DW_PROCESS, 1);
	CHECK_EQ(chain_run(die), -EOWNERDEAD);
	CHECK_EQ(chain_run(fine), 0);
	second = started("node0/sub0", DW_CHILD_SUB, DW_PROCESS, 2);
	CHECK(first != second);
	CHECK(is_called(second, "c1 c2 s1 s2 "));
	CHECK(is_called(getpid(), "p2 p1 a1 a2 "));
	chain_destroy();
	finish();
}

TEST(threads_are_told_of_their_start_alone)
{
	begin();
	chain_init(2, 1, ~0u, NULL);
	CHECK_EQ(started("pod0/sub0", DW_CHILD_SUB, DW_THREAD, 1), getpid());
	CHECK_EQ(started("pod0/node0", DW_CHILD_WORKER, DW_THREAD, 1), getpid());
	CHECK_EQ(started("pod0/node0/sub0", DW_CHILD_SUB, DW_THREAD, 1), getpid());
	CHECK_EQ(seen->count, 6);
	chain_destroy();
	finish();
}

static int refuse_start(const struct dw_child_start *start, void *context)
{
	if (strcmp(start->path, context) != 0)
		return 0;
	return dw_task_fail(EHOSTDOWN, "the interpreter is not there");
}

static void refused_start(enum dw_mode mode, const char *path)
{
	struct dw_fork_hooks hooks = DW_OPTIONS(dw_fork_hooks);
	char text[128];

	hooks.start = refuse_start;
	hooks.context = (void *)path;
	CHECK_EQ(dw_fork_hooks_add(&hooks), 0);
	chain_create(2, 1, threads_of(mode), NULL);
	CHECK_EQ(dw_worker_init(chain.worker[0]), -EHOSTDOWN);
	snprintf(text, sizeof(text), "%s: a hook at its start: the interpreter is not there", path);
	check_text(text);
	CHECK_EQ(descendants(NULL, 0), 0);
	CHECK_EQ(dw_fork_hooks_remove(&hooks), 0);
	CHECK_EQ(dw_worker_init(chain.worker[0]), 0);
	chain_destroy();
}

TEST_IN_BOTH_MODES(start_that_a_hook_refuses_fails_init)
{
	refused_start(mode, "pod0/sub0");
	refused_start(mode, "pod0/node0");
	refused_start(mode, "pod0/node0/sub0");
}

TEST(hooks_that_make_no_sense_are_refused)
{
	struct dw_fork_hooks hooks = DW_OPTIONS(dw_fork_hooks);

	CHECK_EQ(dw_fork_hooks_add(NULL), -EINVAL);
	CHECK_EQ(dw_fork_hooks_add(&hooks), -EINVAL);
	check_text("no function is set");
	hooks.prepare = on_prepare;
	CHECK_EQ(dw_fork_hooks_remove(&hooks), -ENOENT);
}

/* ------------------------------------------------------ a lock over the forks */

/* Like an interpreter's lock: its holder is in the middle of a change when it calls the library. */
static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
static volatile unsigned one, other;
static _Atomic bool stop;

static void take_big_lock(void *context)
{
	(void)context;
	pthread_mutex_lock(&big_lock);
}

static void give_big_lock(void *context)
{
	(void)context;
	pthread_mutex_unlock(&big_lock);
}

static int check_big_lock(const struct dw_child_start *start, void *context)
{
	(void)start;
	(void)context;
	if (pthread_mutex_trylock(&big_lock) != 0)
		return dw_task_fail(EDEADLK, "the lock was forked while another thread held it");
	pthread_mutex_unlock(&big_lock);
	return one == other ? 0 : dw_task_fail(EPROTO, "it was forked in the middle of a change");
}

static void *change_on(void *argument)
{
	struct dw_worker *worker = argument;
	dw_callable callable;

	while (!atomic_load(&stop)) {
		pthread_mutex_lock(&big_lock);
		one++;
		/* With the lock that prepare wants, the library takes its own. */
		if (dw_callable_find(worker, "break", &callable) == 0 &&
		    dw_callable_register_sub(worker, "late", sub_break, NULL, &callable) == 0)
			dw_callable_unregister(worker, callable);
		other++;
		pthread_mutex_unlock(&big_lock);
	}
	return NULL;
}

TEST(lock_that_the_hooks_take_is_free_in_every_child)
{
	struct dw_fork_hooks hooks = DW_OPTIONS(dw_fork_hooks);
	struct dw_worker *another = make_worker(3, 1, DW_PROCESS);
	dw_callable callable;
	pthread_t thread;

	hooks.prepare = take_big_lock;
	hooks.parent = hooks.child = give_big_lock;
	hooks.start = check_big_lock;
	CHECK_EQ(dw_fork_hooks_add(&hooks), 0);
	CHECK_EQ(dw_callable_register_sub(another, "break", sub_break, NULL, &callable), 0);
	pthread_create(&thread, NULL, change_on, another);
	for (int i = 0; i < 30; i++) {
		chain_init(1, 2, 0, NULL);
		dw_worker_destroy(chain.worker[0]);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	CHECK_EQ(dw_fork_hooks_remove(&hooks), 0);
	dw_worker_destroy(another);
}
