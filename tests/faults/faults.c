/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Every allocation and system call of init, run and close fails once in turn: each gives an
 * error or is survived, and nothing leaks: no descriptor, no mapping, no process, no block. One
 * process for each fault. faults [FIRST [LAST]]
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <sys/wait.h>
#include "../runtime/process.h"
#include "shim.h"

#define MS 1000000ULL
#define LIMIT_SECONDS 30

enum scenario { SCENARIO_PROCESSES, SCENARIO_THREADS, SCENARIO_MIXED, SCENARIOS };
static const char *const scenario_names[] = { "processes", "threads", "threads over processes" };

static dw_callable add, below;
static int64_t *cells;

/* A callable: tensor[0] += 1 */
static int sub_add(const struct dw_args *args, void *context)
{
	(void)context;
	++*(int64_t *)dw_args_data(args, 0);
	return 0;
}

static int submit(struct dw_orch *orch, dw_callable callable, int64_t *cell, unsigned scalars)
{
	struct dw_tensor tensor = scalar_tensor(cell);
	struct dw_args *args = NULL;
	int result = dw_args_create(&args);

	if (result == 0)
		result = dw_args_add_tensor(args, &tensor, DW_INOUT);
	/* Many: too large for a frame. */
	for (unsigned i = 0; i < scalars && result == 0; i++)
		result = dw_args_add_int(args, i);
	if (result == 0)
		result = dw_submit(orch, callable, args, NULL, NULL);
	dw_args_destroy(args);
	return result;
}

static int orch_below(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	(void)config;
	(void)context;
	return submit(orch, add, dw_args_data(args, 0), 1);
}

static int orch_all(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	uint32_t shape = 100;
	struct dw_tensor tensor;
	int result;

	(void)args;
	(void)config;
	(void)context;
	result = dw_scope_begin(orch);
	if (result == 0)
		result = dw_alloc(orch, DW_INT64, &shape, 1, &tensor);
	if (result == 0)
		result = submit(orch, add, (int64_t *)(uintptr_t)tensor.data, 1);
	if (result == 0)
		result = submit(orch, add, &cells[0], 200);
	if (result == 0)
		result = submit(orch, below, &cells[1], 1);
	if (result == 0)
		result = dw_scope_end(orch);
	return result;
}

static void fail(const char *what) __attribute__((noreturn));
static void fail(const char *what)
{
	printf("# %s\n", what);
	fflush(stdout);
	_exit(2);
}

static struct dw_worker *make(uint32_t level, enum dw_mode mode)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	options.subs = 1;
	options.mode = mode;
	options.heap_ring_bytes = 1 << 20;
	options.arena_bytes = 4 << 20;
	options.timeout_ns = 3000 * MS;
	options.init_timeout_ns = 5000 * MS;
	options.close_timeout_ns = 3000 * MS;
	return dw_worker_create(level, &options, &worker) < 0 ? NULL : worker;
}

/* 0, or the first error. Results of tasks that succeed must be right. */
static int cycle(enum scenario scenario)
{
	struct dw_worker *pod = make(4, scenario == SCENARIO_PROCESSES ? DW_PROCESS : DW_THREAD);
	struct dw_worker *node = make(3, scenario == SCENARIO_THREADS ? DW_THREAD : DW_PROCESS);
	void *memory = NULL;
	int result = pod && node ? 0 : -ENOMEM;

	if (result == 0)
		result = dw_worker_add_child(pod, node, NULL);
	if (result < 0) {
		dw_worker_destroy(node);
		dw_worker_destroy(pod);
		return result;
	}
	result = dw_callable_register_sub(pod, "add", sub_add, NULL, &add);
	if (result == 0)
		result = dw_callable_register_orch(pod, "below", orch_below, NULL, &below);
	if (result == 0)
		result = dw_buffer_create(pod, 4096, &memory);
	cells = memory;
	if (result == 0)
		result = dw_worker_init(pod);
	if (result == 0) {
		result = dw_worker_run(pod, orch_all, NULL, NULL, NULL);
		if (result == 0 && (cells[0] != 1 || cells[1] != 1))
			fail("a run without an error had a wrong result");
	}
	if (result < 0 && !dw_strerror_last()[0])
		fail("an error without a text");
	if (result < 0 && getenv("SHOW"))
		printf("#   %s\n", dw_strerror_last());
	if (dw_worker_close(pod) < 0 && !result)
		result = -ETIMEDOUT;
	dw_worker_destroy(pod);
	return result;
}

/* Lines of /proc/self/maps into `text`; returns their number. */
static unsigned read_mappings(char *text, size_t bytes)
{
	unsigned lines = 0;
	size_t length = 0;
	FILE *file = fopen("/proc/self/maps", "r");
	int c;

	while (file && (c = getc(file)) != EOF) {
		lines += c == '\n';
		if (length + 1 < bytes)
			text[length++] = (char)c;
	}
	text[length] = '\0';
	if (file)
		fclose(file);
	return lines;
}

/* Says which there are now that were not there before, by address. */
static void show_new_mappings(const char *before, char *now)
{
	char *save = NULL;

	for (char *line = strtok_r(now, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!strstr(before, line))
			printf("#   %s\n", line);
}

/* In a process of its own: 0 survived, 1 an error, 2 wrong, 3 the fault did not come. */
static int try_fault(enum scenario scenario, uint64_t n)
{
	static char maps_before[1 << 18], maps_after[1 << 18];
	unsigned fds, mappings;
	int64_t before, grown, left;
	char text[256];
	int result;

	alarm(LIMIT_SECONDS);
	shim_arm(0);
	if (cycle(scenario) < 0)
		fail("fails without any fault");
	before = shim_live_blocks();
	if (cycle(scenario) < 0)
		fail("fails without any fault");
	/* Callables that were there once keep their places. */
	grown = shim_live_blocks() - before;
	fds = count_dir("/proc/self/fd");
	mappings = read_mappings(maps_before, sizeof(maps_before));
	before = shim_live_blocks();
	shim_arm(n);
	result = cycle(scenario);
	if (descendants(NULL, 0))
		fail("processes are left");
	if (count_dir("/proc/self/fd") != fds)
		fail("descriptors are left");
	if (read_mappings(maps_after, sizeof(maps_after)) > mappings + 3) {
		show_new_mappings(maps_before, maps_after);
		fail("mappings are left: those above are new");
	}
	shim_disarm();
	if (cycle(scenario) < 0)
		fail("does not work any more afterwards");
	/* Counted behind that one: a thread keeps the errors of its last run until the next one. */
	left = shim_live_blocks() - before - 2 * grown;
	if (left > 0) {
		snprintf(text, sizeof(text), "%lld blocks of memory are left", (long long)left);
		fail(text);
	}
	return result < 0;
}

struct sum {
	char name[32];
	unsigned survived, errors, failed;
};

static void count_result(struct sum *sums, const char *name, int status)
{
	while (sums->name[0] && strcmp(sums->name, name))
		sums++;
	snprintf(sums->name, sizeof(sums->name), "%s", name);
	if (status == 0)
		sums->survived++;
	else if (status == 1)
		sums->errors++;
	else
		sums->failed++;
}

/* Whether there was such a call. */
static bool one_fault(enum scenario scenario, uint64_t n, struct sum *sums, unsigned *failed)
{
	const char *name;
	pid_t pid;
	int status;

	shim_arm(UINT64_MAX);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(try_fault(scenario, n));
	waitpid(pid, &status, 0);
	name = shim_failed();
	if (!name && status == 0)
		return false;
	if (!name)
		name = "none";
	count_result(sums, name, WIFEXITED(status) ? WEXITSTATUS(status) : 9);
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) {
		printf("not ok - %s: call %llu, %s: %s %d\n", scenario_names[scenario],
		       (unsigned long long)n, name, WIFEXITED(status) ? "status" : "signal",
		       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		++*failed;
	}
	return true;
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	uint64_t last = argc > 2 ? strtoull(argv[2], NULL, 10) : argc > 1 ? first : UINT64_MAX;
	unsigned failed = 0, count = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	/* How many arenas threads make depends on who meets whom; `run` sees to their stacks. */
	mallopt(M_ARENA_MAX, 1);
	shim_init();
	for (enum scenario scenario = 0; scenario < SCENARIOS; scenario++) {
		struct sum sums[32] = { 0 };

		for (uint64_t n = first; n <= last && one_fault(scenario, n, sums, &failed); n++)
			count++;
		for (struct sum *sum = sums; sum->name[0]; sum++)
			printf("# %s: %-16s %4u survived, %4u errors, %u failed\n",
			       scenario_names[scenario], sum->name, sum->survived, sum->errors,
			       sum->failed);
	}
	printf("%u passed, %u failed\n", count - failed, failed);
	return failed != 0;
}
