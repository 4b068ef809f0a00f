/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The job: on each level a chain of tasks, cell k = cell k-1 + 1, on sub workers, and one task for
 * each nested Worker, which does the same below with cells of its own. Repeating a task changes
 * nothing, so a run that returns 0 has exactly one right result; after any other run each cell is
 * right or was never written.
 */
#include <errno.h>
#include <stdarg.h>
#include "../runtime/process.h"
#include "job.h"
#include "nodes.h"

#define MS 1000000ULL
#define CELLS 2048			/* per Worker: more than travels with a task */
#define PARTS_MOST (1 + NODES_MOST)	/* Workers that have cells */
_Static_assert(PARTS_MOST >= LEVELS_MOST, "one for each level");

static int64_t *cells;
static dw_callable step, below;
static struct shape shape;

uint32_t random_below(uint64_t *state, uint32_t limit)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((*state >> 33) % limit);
}

void shape_choose(struct shape *s, uint64_t seed, enum with_hosts hosts)
{
	uint64_t state = seed;

	for (int i = 0; i < 4; i++)
		random_below(&state, 2);
	memset(s, 0, sizeof(*s));
	s->seed = seed;
	s->crowd = random_below(&state, 8) == 0;
	s->levels = s->crowd ? 1 : 1 + random_below(&state, LEVELS_MOST);
	s->subs = s->crowd ? 64 : 1 + random_below(&state, 4);
	s->threads = random_below(&state, 3) ? 0 : random_below(&state, 1u << s->levels);
	s->restart = random_below(&state, 3) != 0;
	s->retries = random_below(&state, 2) ? random_below(&state, 8) : 0;
	s->runs = 1 + random_below(&state, 60);
	s->tasks = 1 + random_below(&state, 510);
	if (hosts == HOSTS_NEVER ||
	    (hosts == HOSTS_SOMETIMES && (s->crowd || random_below(&state, 4))))
		return;
	s->hosts = 1 + random_below(&state, NODES_MOST);
	if (hosts == HOSTS_ALWAYS) {
		s->hosts = NODES_MOST;
		s->subs = 1 + s->subs % 4;
		s->crowd = false;
		s->restart = true;
		s->ms = random_below(&state, 5000);
	}
	s->levels = 2;
	s->threads = 0;
	s->tasks = 1 + s->tasks / 4;
}

void shape_print(const struct shape *s, char *text, unsigned space)
{
	snprintf(text, space, "seed %llu: %u levels, %u subs each, threads %#x, %s, retries %u, "
		 "%u runs of %u tasks, %u ms, %u hosts", (unsigned long long)s->seed, s->levels,
		 s->subs, s->threads, s->restart ? "restart" : "no restart", s->retries, s->runs,
		 s->tasks, s->ms, s->hosts);
}

static void wrong(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void wrong(const char *format, ...)
{
	char text[1200];
	va_list list;

	shape_print(&shape, text, sizeof(text));
	va_start(list, format);
	fprintf(stderr, "# %s: ", text);
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	va_end(list);
	_exit(OUTCOME_WRONG);
}

/* tensor 1 = tensor 0 + 1, and some work */
static int sub_step(const struct dw_args *args, void *context)
{
	const int64_t *from = dw_args_data(args, 0);
	int64_t *to = dw_args_data(args, 1);
	uint64_t end = now_ns() + (uint64_t)dw_args_int(args, 0);

	(void)context;
	while (now_ns() < end)
		;
	*to = *from + 1;
	return 0;
}

static void set_options(struct dw_submit_options *options, unsigned level)
{
	*options = DW_OPTIONS(dw_submit_options);
	options->retries = shape.retries;
	/* This finds a stopped child; the Worker above leaves time for it. */
	options->timeout_ns = 250 * MS << (2 * (shape.levels - level));
	/* And for a network that is silent. */
	if (shape.hosts && level < shape.levels)
		options->timeout_ns = 4000 * MS;
}

static int submit_step(struct dw_orch *orch, unsigned level, unsigned k)
{
	struct dw_tensor from = scalar_tensor(&cells[level * CELLS + k]);
	struct dw_tensor to = scalar_tensor(&cells[level * CELLS + k + 1]);
	struct dw_submit_options options;
	struct dw_args *args;
	int result;

	set_options(&options, shape.levels);
	dw_args_create(&args);
	dw_args_add_tensor(args, &from, DW_INPUT);
	dw_args_add_tensor(args, &to, DW_INOUT);
	dw_args_add_int(args, (int64_t)(shape.seed + k) % 20000);
	result = dw_submit(orch, step, args, &options, NULL);
	dw_args_destroy(args);
	return result;
}

/* The Workers below `level` have `count` parts of the cells. */
static int submit_below(struct dw_orch *orch, unsigned level, unsigned parts)
{
	struct dw_submit_options options;
	struct dw_tensor tensor;
	uint32_t count = parts * CELLS;
	struct dw_args *args;
	int result;

	set_options(&options, shape.hosts ? 1 : level + 1);
	dw_tensor_init(&tensor, &cells[(level + 1) * CELLS], DW_INT64, &count, 1);
	dw_args_create(&args);
	dw_args_add_tensor(args, &tensor, DW_INOUT);
	dw_args_add_int(args, level + 1);
	result = dw_submit(orch, below, args, &options, NULL);
	dw_args_destroy(args);
	return result;
}

static int orch_level(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	unsigned level = args && dw_args_scalar_count(args) ? (unsigned)dw_args_int(args, 0) : 0;
	int result = 0;

	(void)config;
	(void)context;
	/* A node was forked before there were any. */
	if (shape.hosts && level)
		cells = (int64_t *)dw_args_data(args, 0) - level * CELLS;
	for (unsigned i = 0; i < shape.hosts && !level && result == 0; i++)
		result = submit_below(orch, i, 1);
	if (!shape.hosts && level + 1 < shape.levels)
		result = submit_below(orch, level, shape.levels - level - 1);
	/* Chains of eight, side by side. */
	for (unsigned k = 0; k < shape.tasks && result == 0; k++)
		if (k % 8 != 7)
			result = submit_step(orch, level, k);
	return result;
}

static void register_functions(struct dw_worker *root)
{
	if (dw_callable_register_sub(root, "step", sub_step, NULL, &step) < 0 ||
	    dw_callable_register_orch(root, "below", orch_level, NULL, &below) < 0)
		wrong("register: %s", dw_strerror_last());
}

/* On level i of the chain, 0 being the root; on that host, or on this one (NULL). */
static struct dw_worker *create(unsigned i, const char *host)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker;

	options.subs = shape.subs;
	options.mode = shape.threads >> i & 1 ? DW_THREAD : DW_PROCESS;
	options.heap_ring_bytes = 1 << 20;
	options.arena_bytes = 8 << 20;
	options.restart = shape.restart ? DW_RESTART_ON_DEATH : DW_RESTART_NEVER;
	options.restart_limit = 1000;
	options.init_timeout_ns = (shape.hosts ? 2000 : 10000) * MS;
	options.close_timeout_ns = 2000 * MS;
	options.host = host;
	options.host_timeout_ns = 1000 * MS;
	if (dw_worker_create(DW_LEVEL_NODE + shape.levels - 1 - i, &options, &worker) < 0)
		wrong("create: %s", dw_strerror_last());
	return worker;
}

static struct dw_worker *build(void)
{
	struct dw_worker *worker = NULL, *child;
	void *memory;

	for (unsigned i = shape.hosts ? 1 : shape.levels; i-- > 0; ) {
		child = worker;
		worker = create(i, NULL);
		if (child && dw_worker_add_child(worker, child, NULL) < 0)
			wrong("add: %s", dw_strerror_last());
	}
	for (unsigned i = 0; i < shape.hosts; i++)
		if (dw_worker_add_child(worker, create(1, nodes_address(i)), NULL) < 0)
			wrong("add: %s", dw_strerror_last());
	register_functions(worker);
	if (dw_buffer_create(worker, PARTS_MOST * CELLS * sizeof(*cells), &memory) < 0)
		wrong("buffer: %s", dw_strerror_last());
	cells = memory;
	return worker;
}

static bool is_true(int error, const char *text)
{
	/* Whatever it was that ended the connection. */
	for (unsigned i = 0; i < shape.hosts; i++) {
		char host[320];

		snprintf(host, sizeof(host), ": host %s:", nodes_address(i));
		if (strstr(text, host))
			return true;
	}
	switch (error) {
	case -EOWNERDEAD:
		return strstr(text, "killed by SIG") || strstr(text, "its spawner died") ||
		       strstr(text, "exited with status");
	case -ETIMEDOUT:
		return strstr(text, "deadline") || strstr(text, "timeout");
	case -ENODEV:
		return strstr(text, "no worker") || strstr(text, "must run there") ||
		       strstr(text, "can take");
	}
	return false;
}

static void check_cells(bool complete, unsigned run)
{
	unsigned parts = shape.hosts ? 1 + shape.hosts : shape.levels;

	for (unsigned level = 0; level < parts; level++) {
		for (unsigned k = 0; k < shape.tasks; k++) {
			int64_t cell = cells[level * CELLS + k + 1], expected = k % 8 + 1;

			if (k % 8 == 7)
				continue;
			if (cell != expected && (complete || cell != 0))
				wrong("run %u: cell %u of level %u is %lld, not %lld", run, k,
				      level, (long long)cell, (long long)expected);
		}
	}
}

static void count_run(int result)
{
	if (!shape.hosts)
		return;
	nodes_counts->right += result == 0;
	nodes_counts->errors += result != 0;
	nodes_counts->silent += result && strstr(dw_strerror_last(), "no answer");
}

static void count_deaths(struct dw_worker *root)
{
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);

	if (!shape.hosts || dw_worker_engine_stats(root, &stats) < 0)
		return;
	nodes_counts->deaths += (unsigned)stats.deaths;
	nodes_counts->restarts += (unsigned)stats.restarts;
}

/* No chain owns the cells between chains: the next chain begins with 0. */
static enum outcome run_all(struct dw_worker *root)
{
	enum outcome outcome = OUTCOME_RIGHT;

	uint64_t end = now_ns() + shape.ms * MS;
	int result = 0;

	/* Without its spawner a tree runs nothing more. */
	for (unsigned run = 0; run < shape.runs || (result != -ENODEV && now_ns() < end); run++) {
		memset(cells, 0, PARTS_MOST * CELLS * sizeof(*cells));
		result = dw_worker_run(root, orch_level, NULL, NULL, NULL);
		if (result && !is_true(result, dw_strerror_last()))
			wrong("run %u: %s: %s", run, strerror(-result), dw_strerror_last());
		count_run(result);
		check_cells(result == 0, run);
		if (result)
			outcome = OUTCOME_ERRORS;
	}
	return outcome;
}

void job_main(const struct shape *chosen, int ready)
{
	enum outcome outcome = OUTCOME_ERRORS;
	unsigned fds, left;
	struct dw_worker *root;
	int result;

	shape = *chosen;
	fds = count_dir("/proc/self/fd");
	nodes_start(shape.hosts, register_functions);
	root = build();
	result = dw_worker_init(root);
	if (result < 0 && !is_true(result, dw_strerror_last()))
		wrong("init: %s: %s", strerror(-result), dw_strerror_last());
	if (write(ready, "r", 1) != 1)
		wrong("nobody listens");
	if (result == 0)
		outcome = run_all(root);
	count_deaths(root);
	result = dw_worker_close(root);
	if (result < 0 && result != -ETIMEDOUT)
		wrong("close: %s", dw_strerror_last());
	dw_worker_destroy(root);
	nodes_stop();
	left = descendants(NULL, 0);
	if (left)
		wrong("%u processes are left after close", left);
	if (count_dir("/proc/self/fd") != fds)
		wrong("%u descriptors instead of %u after close", count_dir("/proc/self/fd"), fds);
	_exit(outcome);
}
