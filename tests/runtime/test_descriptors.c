/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * An application that was started with some of 0, 1 and 2 closed. No process of the tree has a
 * descriptor of the library there, so that no read or write of user code reaches it.
 *
 * Before: the status segment's memfd, the spawner's socket or an eventfd was 0, 1 or 2. Output of a
 * callable or the application was a message to the spawner, and a run could hang.
 */
#include <stdarg.h>
#include "chips.h"

struct place {
	unsigned closed;		/* bit n: descriptor n */
	enum dw_mode mode;
	struct rig rig;
	struct dw_worker *pod;
	dw_callable check, down, wait, symbol, image;
	int64_t *cells;
};

/* The errors in the process without standard descriptors; shared with the process that prints. */
static struct { unsigned count; char first[400]; } *wrongs;

__attribute__((format(printf, 1, 2))) static void is_wrong(const char *format, ...)
{
	va_list list;

	if (__atomic_fetch_add(&wrongs->count, 1, __ATOMIC_RELAXED))
		return;
	va_start(list, format);
	vsnprintf(wrongs->first, sizeof(wrongs->first), format, list);
	va_end(list);
}

#define EXPECT(condition) \
	((condition) ? \
		 true : \
		 (is_wrong("line %d: %s: %s", __LINE__, #condition, dw_strerror_last()), false))

/* A file that the dynamic linker maps in another thread has the lowest number for a moment. */
static ssize_t read_link(const char *path, char *target, size_t bytes, bool closed)
{
	uint64_t begun = now_ns();
	ssize_t length;

	do
		length = readlink(path, target, bytes);
	while (closed && length >= 0 && unit_within(begun, NS_PER_S));
	return length;
}

/* This check opens nothing itself. */
static void look_at(pid_t pid, unsigned closed, const char *when)
{
	char path[64], target[64];

	for (unsigned fd = 0; fd < 3; fd++) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/%d/fd/%u", (int)pid, fd);
		length = read_link(path, target, sizeof(target) - 1, closed >> fd & 1);
		if ((length < 0) == (closed >> fd & 1))
			continue;
		target[length < 0 ? 0 : length] = '\0';
		is_wrong("%s: descriptor %u of %s %d is %s", when, fd,
			 pid == getpid() ? "the root" : "child", (int)pid,
			 length < 0 ? "closed" : target);
	}
}

static void look_at_all(const struct place *place, const char *when)
{
	pid_t pids[32];
	unsigned count = descendants(pids, 32);

	look_at(getpid(), place->closed, when);
	for (unsigned i = 0; i < count && i < 32; i++)
		look_at(pids[i], place->closed, when);
	if (place->mode == DW_PROCESS && count < 6)
		is_wrong("%s: %u descendants", when, count);
}

/* ---------------------------------------------------------------- callables */

static void print_a_lot(const char *text)
{
	for (int i = 0; i < 20; i++) {
		fputs(text, stdout);
		fflush(stdout);
		fputs("", stderr);
		if (write(1, "", 0) < 0 && errno != EBADF)
			is_wrong("printing: %s", strerror(errno));
	}
}

static int sub_check(const struct dw_args *args, void *context)
{
	const struct place *place = context;

	look_at(getpid(), place->closed, "in a callable");
	print_a_lot("# a callable prints\n");
	++*(int64_t *)dw_args_data(args, 0);
	return 0;
}

static int sub_wait(const struct dw_args *args, void *context)
{
	volatile int64_t *cell = dw_args_data(args, 0);

	(void)context;
	__atomic_store_n(&cell[0], getpid(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&cell[1], __ATOMIC_ACQUIRE) && !dw_task_cancelled())
		pause_ms(1);
	return 0;
}

static int submit_cell(struct dw_orch *orch, dw_callable callable, void *cell)
{
	return submit_one(orch, callable, cell, DW_INOUT, 1, NULL, NULL);
}

/* In the node: a sub task, one of a symbol, and a chip's. */
static int orch_node(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	const struct place *place = context;
	struct call call = add_call(&place->rig, place->image, 0);
	int result;

	(void)args;
	(void)config;
	result = submit_cell(orch, place->check, &place->cells[8]);
	if (result == 0)
		result = submit_cell(orch, place->symbol, &place->cells[16]);
	return result == 0 ? submit_call(orch, &call, NULL) : result;
}

static int orch_pod(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	const struct place *place = context;
	int result = submit_cell(orch, place->check, &place->cells[0]);

	(void)args;
	(void)config;
	return result == 0 ? submit_cell(orch, place->down, &place->cells[24]) : result;
}

static int orch_wait(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	const struct place *place = context;

	(void)args;
	(void)config;
	return submit_cell(orch, place->wait, &place->cells[32]);
}

/* -------------------------------------------------------------------- a tree */

static void build(struct place *place)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_chip_options chip = { .driver = "sim" };
	char symbol[PATH_MAX + 16];
	struct dw_worker *node;
	void *memory;

	options.mode = place->mode;
	options.subs = 1;
	options.heap_ring_bytes = 1 << 20;
	options.arena_bytes = 16 << 20;
	options.restart = place->mode == DW_PROCESS ? DW_RESTART_ON_DEATH : DW_RESTART_NEVER;
	EXPECT(dw_worker_create(4, &options, &place->pod) == 0);
	options.chips = &chip;
	options.chip_count = 1;
	options.chip_size = sizeof(chip);
	EXPECT(dw_worker_create(3, &options, &node) == 0);
	EXPECT(dw_worker_add_child(place->pod, node, NULL) == 0);
	EXPECT(dw_buffer_create(place->pod, 4096 + sizeof(float) * COUNT * 3, &memory) == 0);
	place->cells = memory;
	place->rig.a = (float *)(place->cells + 512);
	place->rig.b = place->rig.a + COUNT;
	place->rig.c = place->rig.b + COUNT;
	for (int i = 0; i < COUNT; i++)
		place->rig.a[i] = place->rig.b[i] = (float)i;
	EXPECT(dw_callable_register_sub(place->pod, "check", sub_check, place, &place->check) == 0);
	EXPECT(dw_callable_register_sub(place->pod, "wait", sub_wait, place, &place->wait) == 0);
	EXPECT(dw_callable_register_orch(place->pod, "node", orch_node, place, &place->down) == 0);
	snprintf(symbol, sizeof(symbol), "%s:symbol_add", fixture("symbols"));
	EXPECT(dw_callable_register_symbol(place->pod, symbol, DW_SYMBOL_SUB, &place->symbol) == 0);
	place->rig.node = place->pod;
	place->image = sim_image(&place->rig, "vector_add");
	EXPECT(dw_worker_init(place->pod) == 0);
}

static void run_and_look(struct place *place, const char *when)
{
	print_a_lot("# the application prints\n");
	if (!EXPECT(dw_worker_run(place->pod, orch_pod, NULL, NULL, place) == 0))
		return;
	look_at_all(place, when);
	if (wrong(&place->rig, 0, 1))
		is_wrong("%s: %u results are wrong", when, wrong(&place->rig, 0, 1));
}

static void use(struct place *place)
{
	struct dw_provider_info info = DW_OPTIONS(dw_provider_info);
	struct dw_tree *tree = NULL;
	struct dw_run *run = NULL;

	EXPECT(dw_provider_query(&info) == 0);
	build(place);
	look_at_all(place, "after init");
	run_and_look(place, "after a run");
	EXPECT(dw_tree_open(getpid(), 0, &tree) == 0);
	dw_tree_close(tree);
	EXPECT(dw_worker_start(place->pod, orch_wait, NULL, NULL, place, NULL, &run) == 0);
	while (!__atomic_load_n(&place->cells[32], __ATOMIC_ACQUIRE))
		pause_ms(1);
	look_at_all(place, "in a run");
	if (place->mode == DW_PROCESS) {
		kill((pid_t)place->cells[32], SIGKILL);
		EXPECT(dw_run_wait(run) == -EOWNERDEAD);
	} else {
		__atomic_store_n(&place->cells[33], 1, __ATOMIC_RELEASE);
		EXPECT(dw_run_wait(run) == 0);
	}
	run_and_look(place, "after a replacement");
	EXPECT(place->cells[0] == 2 && place->cells[8] == 2 && place->cells[16] == 2);
	EXPECT(dw_worker_close(place->pod) == 0);
	dw_worker_destroy(place->pod);
	look_at(getpid(), place->closed, "in the end");
}

/* Runs in its own process, which is ended if it hangs. */
static void without(unsigned closed, enum dw_mode mode)
{
	static const char *const names[] = { "processes", "threads" };
	struct place place = { .closed = closed, .mode = mode };
	int status, nowhere;
	char trace[64];
	pid_t pid;

	memset(wrongs, 0, sizeof(*wrongs));
	snprintf(trace, sizeof(trace), "/tmp/distworker-descriptors-%d.json", (int)getpid());
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		unit_bound(30);
		setenv("DW_TRACE", trace, 1);
		/*
		 * The others lead nowhere, so that their output is not in the test's. They may have
		 * been closed when the test began.
		 */
		while ((nowhere = open("/dev/null", O_RDWR | O_CLOEXEC)) < 3)
			fcntl(nowhere, F_SETFD, 0);
		for (int fd = 0; fd < 3; fd++)
			if (closed >> fd & 1)
				close(fd);
			else
				dup2(nowhere, fd);
		close(nowhere);
		use(&place);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	unlink(trace);
	if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0) || !CHECK_EQ(wrongs->count, 0))
		printf("# with %s, closed: %s%s%s; status %#x; %u problems, the first: %s\n",
		       names[mode], closed & 1 ? "0 " : "", closed & 2 ? "1 " : "",
		       closed & 4 ? "2" : "", status, wrongs->count, wrongs->first);
}

static void all_combinations(enum dw_mode mode)
{
	wrongs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned closed = 0; closed < 8; closed++)
		without(closed, mode);
	munmap(wrongs, 4096);
	CHECK_EQ(descendants(NULL, 0), 0);
}

TEST_IN_BOTH_MODES(closed_standard_descriptors_stay_closed)
{
	all_combinations(mode);
}
