// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The library end to end with tasks that do nothing: bursts, chains, round trips, the submit call,
 * replays of recorded
 * graphs, growth. pipeline MODE [--children N] [--tasks N] [--busy N] [--cpus N]. --busy N: N other
 * processes that never stop, one per CPU in turn; --cpus 1: all on one CPU; --calls 1: counts every
 * system call of all processes (needs tracefs and perf events, as in the guest).
 */
#include <linux/perf_event.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <distworker/distworker.h>
#include "bench.h"

#define BLOCKS 1024
#define BLOCK_BYTES 1024

struct bench {
	struct dw_worker *root;
	dw_callable nothing, hold;
	unsigned char *blocks;		/* [BLOCKS][BLOCK_BYTES] */
	uint64_t tasks;
	uint32_t children;
	double *samples;		/* ns */
	uint64_t took_ns;
	double submit_ns, submit_cpu_ns;	/* of one call */
	struct dw_graph *graph;
	uint64_t graph_tasks;
};

static void run(struct bench *bench, dw_orch_fn *fn)
{
	uint64_t start = now_ns();

	if (dw_worker_run(bench->root, fn, NULL, NULL, bench))
		fail("dw_worker_run");
	bench->took_ns = now_ns() - start;
}

static struct dw_args *new_args(void)
{
	struct dw_args *args;

	if (dw_args_create(&args))
		fail("dw_args_create");
	return args;
}

static void submit(struct dw_orch *orch, dw_callable callable, struct dw_args *args,
		   const struct dw_submit_options *options)
{
	if (dw_submit(orch, callable, args, options, NULL))
		fail("dw_submit");
}

/* The CPU time of this thread, without that of others. */
static uint64_t thread_cpu_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

static void add(struct dw_args *args, void *data, uint32_t bytes, enum dw_tag tag)
{
	struct dw_tensor tensor = bytes_tensor(data, bytes);

	if (dw_args_add_tensor(args, &tensor, tag))
		fail("dw_args_add_tensor");
}

/* ----------------------------------------------------------- orchestrations */

static int burst(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		 void *context)
{
	struct bench *bench = context;
	struct dw_args *args = new_args();

	(void)in, (void)config;
	for (uint64_t i = 0; i < bench->tasks; i++)
		submit(orch, bench->nothing, args, NULL);
	dw_args_destroy(args);
	return 0;
}

static int chain(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		 void *context)
{
	struct bench *bench = context;
	struct dw_args *args = new_args();

	(void)in, (void)config;
	add(args, bench->blocks, 8, DW_INOUT);
	for (uint64_t i = 0; i < bench->tasks; i++)
		submit(orch, bench->nothing, args, NULL);
	dw_args_destroy(args);
	return 0;
}

/* One submit and a wait for it, repeatedly. */
static int trips(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		 void *context)
{
	struct bench *bench = context;
	struct dw_args *args = new_args();

	(void)in, (void)config;
	for (uint64_t i = 0; i < bench->tasks; i++) {
		uint64_t start = now_ns();

		submit(orch, bench->nothing, args, NULL);
		if (dw_orch_wait(orch))
			fail("dw_orch_wait");
		bench->samples[i] = (double)(now_ns() - start);
	}
	dw_args_destroy(args);
	return 0;
}

/*
 * Two tensors in, one out, every hazard tracked; arguments made before. Only the
 * calls are timed, with what they do for the scheduler while they are at it.
 */
static void make_args(struct bench *bench, struct dw_args **args)
{
	for (uint32_t i = 0; i < BLOCKS; i++) {
		args[i] = new_args();
		add(args[i], bench->blocks + i * 7 % BLOCKS * BLOCK_BYTES, BLOCK_BYTES, DW_INPUT);
		add(args[i], bench->blocks + (i * 13 + 5) % BLOCKS * BLOCK_BYTES, BLOCK_BYTES,
		    DW_INPUT);
		add(args[i], bench->blocks + i * BLOCK_BYTES, BLOCK_BYTES, DW_OUTPUT);
	}
}

static int submits(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		   void *context)
{
	static struct dw_args *args[BLOCKS];
	struct bench *bench = context;
	uint64_t start, cpu;

	(void)in, (void)config;
	make_args(bench, args);
	cpu = thread_cpu_ns();
	start = now_ns();
	for (uint64_t i = 0; i < bench->tasks; i++)
		submit(orch, bench->nothing, args[i % BLOCKS], NULL);
	bench->submit_cpu_ns = (double)(thread_cpu_ns() - cpu) / (double)bench->tasks;
	bench->submit_ns = (double)(now_ns() - start) / (double)bench->tasks;
	for (uint32_t i = 0; i < BLOCKS; i++)
		dw_args_destroy(args[i]);
	return 0;
}

/* Records the tasks of burst(), or those of submits(). */
static void record(struct bench *bench, struct dw_orch *orch, bool tensors)
{
	static struct dw_args *args[BLOCKS];
	struct dw_args *none = new_args();

	make_args(bench, args);
	if (dw_record_begin(orch, NULL))
		fail("dw_record_begin");
	for (uint64_t i = 0; i < bench->graph_tasks; i++)
		submit(orch, bench->nothing, tensors ? args[i % BLOCKS] : none, NULL);
	if (dw_record_end(orch, &bench->graph))
		fail("dw_record_end");
	for (uint32_t i = 0; i < BLOCKS; i++)
		dw_args_destroy(args[i]);
	dw_args_destroy(none);
}

static int record_burst(struct dw_orch *orch, const struct dw_args *in,
			const struct dw_config *config, void *context)
{
	(void)in, (void)config;
	record(context, orch, false);
	return 0;
}

static int record_submits(struct dw_orch *orch, const struct dw_args *in,
			  const struct dw_config *config, void *context)
{
	(void)in, (void)config;
	record(context, orch, true);
	return 0;
}

/* As many replays as make up the tasks. */
static int replays(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		   void *context)
{
	struct bench *bench = context;

	(void)in, (void)config;
	for (uint64_t i = 0; i < bench->tasks; i += bench->graph_tasks)
		if (dw_replay(orch, bench->graph, NULL, 0, NULL, 0))
			fail("dw_replay");
	return 0;
}

/* Ends when the given word is set. */
static int sub_hold(const struct dw_args *args, void *context)
{
	const _Atomic uint32_t *release = (const _Atomic uint32_t *)dw_args_scalar(args, 0);

	(void)context;
	while (!atomic_load(release))
		;
	return 0;
}

/* Warm up as far ahead as a submitter may get (8,192 tasks): memory for that is no growth. */
#define AHEAD 8000

static int far_ahead(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		     void *context)
{
	struct bench *bench = context;
	_Atomic uint32_t *release = (_Atomic uint32_t *)bench->blocks;
	struct dw_args *args = new_args();

	(void)in, (void)config;
	atomic_store(release, 0);
	if (dw_args_add_scalar(args, (uint64_t)(uintptr_t)release))
		fail("dw_args_add_scalar");
	submit(orch, bench->hold, args, NULL);
	for (uint32_t i = 0; i < AHEAD; i++) {
		dw_args_reset(args);
		add(args, bench->blocks + (1 + i % (BLOCKS - 1)) * BLOCK_BYTES, BLOCK_BYTES,
		    DW_INOUT);
		submit(orch, bench->nothing, args, NULL);
	}
	atomic_store(release, 1);
	dw_args_destroy(args);
	return 0;
}

/* Tasks that each rewrite one of many ranges: the tensor map grows and shrinks with them. */
static int rewrites(struct dw_orch *orch, const struct dw_args *in, const struct dw_config *config,
		    void *context)
{
	struct bench *bench = context;
	struct dw_args *args = new_args();

	(void)in, (void)config;
	for (uint64_t i = 0; i < bench->tasks; i++) {
		dw_args_reset(args);
		add(args, bench->blocks + i % BLOCKS * BLOCK_BYTES, BLOCK_BYTES, DW_INOUT);
		submit(orch, bench->nothing, args, NULL);
	}
	dw_args_destroy(args);
	return 0;
}

/* -------------------------------------------------------------------- modes */

static void open_tree(struct bench *bench)
{
	bench->root = new_worker(DW_LEVEL_NODE, bench->children);
	if (dw_callable_register_sub(bench->root, "nothing", sub_nothing, NULL, &bench->nothing) ||
	    dw_callable_register_sub(bench->root, "hold", sub_hold, NULL, &bench->hold) ||
	    dw_buffer_create(bench->root, BLOCKS * BLOCK_BYTES, (void **)&bench->blocks) ||
	    dw_worker_init(bench->root))
		fail("dw_worker_init");
	memset(bench->blocks, 1, BLOCKS * BLOCK_BYTES);
}

#define MAX_CHILDREN 512

struct counters {
	uint64_t parent, children, cpu;
	uint64_t calls;			/* all, of all processes */
	uint64_t done[MAX_CHILDREN];	/* tasks, by child */
};

static int calls_fd = -1;

/* Counts from here on, for this thread and all threads and processes that it starts. */
static void count_calls(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr), .inherit = 1,
	};
	FILE *file = fopen("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id", "r");
	unsigned long long id;

	if (!file || fscanf(file, "%llu", &id) != 1) {
		perror("raw_syscalls:sys_enter");
		exit(1);
	}
	fclose(file);
	attr.config = id;
	calls_fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (calls_fd < 0) {
		perror("perf_event_open");
		exit(1);
	}
}

static uint64_t calls_so_far(void)
{
	uint64_t calls = 0;

	if (calls_fd >= 0 && read(calls_fd, &calls, sizeof(calls)) != (ssize_t)sizeof(calls)) {
		perror("perf event");
		exit(1);
	}
	return calls;
}

/* Sleeps and wake-ups: each is a system call, and nothing else is one per task. */
static struct counters count(struct bench *bench)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct dw_child_stats children[MAX_CHILDREN];
	pid_t pids[MAX_PROCESSES];
	struct counters counters = { 0 };
	size_t n = MAX_CHILDREN;

	if (dw_worker_engine_stats(bench->root, &stats) ||
	    dw_worker_stats(bench->root, children, sizeof(children[0]), &n))
		fail("dw_worker_stats");
	counters.parent = stats.parent_sleeps + stats.parent_wakes;
	for (size_t i = 0; i < n && i < MAX_CHILDREN; i++) {
		counters.children += children[i].sleeps;
		counters.done[i] = children[i].tasks_done;
	}
	counters.cpu = cpu_ns(pids, process_tree(getpid(), pids, MAX_PROCESSES));
	return counters;
}

static void print_rate(struct bench *bench, const struct counters *before)
{
	uint64_t calls = calls_so_far();
	struct counters after = count(bench);
	double tasks = (double)bench->tasks;
	uint32_t worked = 0;

	for (uint32_t i = 0; i < bench->children && i < MAX_CHILDREN; i++)
		worked += after.done[i] != before->done[i];

	print("tasks_per_s", tasks * 1e9 / (double)bench->took_ns);
	print("us_per_task", (double)bench->took_ns / 1e3 / tasks);
	print("parent_calls_per_task", (double)(after.parent - before->parent) / tasks);
	print("child_sleeps_per_task", (double)(after.children - before->children) / tasks);
	print("cpu_us_per_task", (double)(after.cpu - before->cpu) / 1e3 / tasks);
	print("children_with_tasks", worked);
	if (calls_fd >= 0)
		print("calls_per_task", (double)(calls - before->calls) / tasks);
}

static void warm_run(struct bench *bench, dw_orch_fn *fn, uint64_t warm)
{
	uint64_t tasks = bench->tasks;
	struct counters before;

	bench->tasks = warm;
	run(bench, fn);
	bench->tasks = tasks;
	before = count(bench);
	before.calls = calls_so_far();
	run(bench, fn);
	print_rate(bench, &before);
}

static void measure_replays(struct bench *bench, dw_orch_fn *recording, uint64_t graph_tasks)
{
	uint64_t tasks = bench->tasks;
	struct counters before;

	bench->graph_tasks = graph_tasks;
	run(bench, recording);
	bench->tasks = graph_tasks;
	run(bench, replays);
	bench->tasks = tasks;
	before = count(bench);
	before.calls = calls_so_far();
	run(bench, replays);
	print_rate(bench, &before);
	dw_graph_destroy(bench->graph);
}

static void measure_trips(struct bench *bench)
{
	uint64_t tasks = bench->tasks;

	bench->samples = calloc(tasks, sizeof(double));
	bench->tasks = tasks / 4;
	run(bench, trips);
	bench->tasks = tasks;
	run(bench, trips);
	print("median_us", percentile(bench->samples, tasks, 0.5) / 1e3);
	print("p99_us", percentile(bench->samples, tasks, 0.99) / 1e3);
	print("mean_us", (double)bench->took_ns / 1e3 / (double)tasks);
}

static void measure_submit(struct bench *bench)
{
	for (int i = 0; i < 3; i++)
		run(bench, submits);
	print("us_per_call", bench->submit_ns / 1e3);
	print("cpu_us_per_call", bench->submit_cpu_ns / 1e3);
	print("us_per_task", (double)bench->took_ns / 1e3 / (double)bench->tasks);
}

static void measure_growth(struct bench *bench)
{
	uint64_t tasks = bench->tasks, cpu;

	run(bench, far_ahead);
	bench->tasks = 100000;
	run(bench, rewrites);
	bench->tasks = tasks;
	cpu = thread_cpu_ns();
	run(bench, rewrites);
	print("us_per_task", (double)bench->took_ns / 1e3 / (double)tasks);
	print("submitter_cpu_us", (double)(thread_cpu_ns() - cpu) / 1e3 / (double)tasks);
	print("rss_mib", (double)status_sum(getpid(), "VmHWM") / 1024.0);
}

/* Runs of one task each. */
static void measure_runs(struct bench *bench)
{
	uint64_t runs = bench->tasks, start, before;

	bench->tasks = 1;
	for (int i = 0; i < 10000; i++)
		run(bench, burst);
	before = status_sum(getpid(), "VmRSS");
	start = now_ns();
	for (uint64_t i = 0; i < runs; i++)
		run(bench, burst);
	print("us_per_run", (double)(now_ns() - start) / 1e3 / (double)runs);
	print("grown_kib", (double)status_sum(getpid(), "VmRSS") - (double)before);
}

static const struct {
	const char *name;
	uint64_t tasks;
} modes[] = {
	{ "burst", 1000000 }, { "chain", 500000 }, { "trip", 20000 }, { "submit", 60000 },
	{ "growth", 100000 }, { "runs", 10000 }, { "replay", 1000000 }, { "resubmit", 1000000 },
};

int main(int argc, char **argv)
{
	struct bench bench = { .children = (uint32_t)argument(argc, argv, "children", 1) };
	uint64_t busy = argument(argc, argv, "busy", 0), cpus = argument(argc, argv, "cpus", 0);
	int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
	pid_t burners[64];
	size_t mode;

	for (mode = 0; mode < sizeof(modes) / sizeof(modes[0]); mode++)
		if (argc > 1 && !strcmp(argv[1], modes[mode].name))
			break;
	if (mode == sizeof(modes) / sizeof(modes[0]) || busy > 64) {
		fprintf(stderr,
			"usage: pipeline burst|chain|trip|submit|growth|runs|replay|resubmit "
			"[--children N] [--tasks N] [--busy N] [--cpus N] [--calls 1]\n");
		return 2;
	}
	bench.tasks = argument(argc, argv, "tasks", modes[mode].tasks);
	if (cpus == 1)
		pin(0);
	if (argument(argc, argv, "calls", 0))
		count_calls();
	for (uint64_t i = 0; i < busy; i++)
		burners[i] = start_burner((int)(i % (uint64_t)cores));
	open_tree(&bench);
	switch (mode) {
	case 0: warm_run(&bench, burst, argument(argc, argv, "warm", 100000)); break;
	case 1: warm_run(&bench, chain, argument(argc, argv, "warm", 50000)); break;
	case 2: measure_trips(&bench); break;
	case 3: measure_submit(&bench); break;
	case 4: measure_growth(&bench); break;
	case 5: measure_runs(&bench); break;
	case 6:
		measure_replays(&bench, record_burst, argument(argc, argv, "warm", 100000));
		break;
	case 7:
		measure_replays(&bench, record_submits, argument(argc, argv, "warm", 100000));
		break;
	}
	for (uint64_t i = 0; i < busy; i++)
		end_process(burners[i]);
	dw_worker_destroy(bench.root);
	return 0;
}
