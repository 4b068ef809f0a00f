/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * DW_TRACE and DW_GRAPH: the files' contents, in both modes, with deaths, with two trees at once.
 */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "trace_tree.h"

/* Tasks of the known graph, in the order of their submission. */
enum { GATE, LEFT, RIGHT, JOIN, BREAKS, FOLLOWS, LAST, TASKS };
static const char *const names[TASKS] = {
	"gate", "left", "right", "join", "breaks", "follows", "last",
};
static const struct { int from, to; const char *reason;
} edges[] = {
	{ GATE, LEFT, "RAW" },	 { GATE, RIGHT, "RAW" },     { LEFT, JOIN, "RAW" },
	{ RIGHT, JOIN, "RAW" },	 { LEFT, BREAKS, "WAR" },    { RIGHT, BREAKS, "WAR" },
	{ GATE, BREAKS, "WAW" }, { BREAKS, FOLLOWS, "RAW" }, { JOIN, LAST, "explicit" },
};
#define EDGES (sizeof(edges) / sizeof(edges[0]))

static int gate_pipe[2];
static dw_callable call_gate;

static int sub_gate(const struct dw_args *args, void *context)
{
	char byte;

	(void)args;
	(void)context;
	return read(gate_pipe[0], &byte, 1) == 1 ? 0 : -EIO;
}

static int give(struct dw_orch *orch, dw_callable callable, int task, struct dw_tensor *a,
		enum dw_tag a_tag, struct dw_tensor *b, enum dw_tag b_tag, const dw_task *after,
		dw_task *id)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	struct dw_args *args;
	int result;

	options.name = names[task];
	options.after = after;
	options.after_count = after ? 1 : 0;
	dw_args_create(&args);
	if (a)
		dw_args_add_tensor(args, a, a_tag);
	if (b)
		dw_args_add_tensor(args, b, b_tag);
	result = dw_submit(orch, callable, args, &options, id);
	dw_args_destroy(args);
	return result;
}

/* No task ends before all are submitted, so a task waits for each of its dependencies. */
static int orch_known(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	int64_t *cells = context;
	struct dw_tensor x = scalar_tensor(&cells[0]), y = scalar_tensor(&cells[1]);
	struct dw_tensor z = scalar_tensor(&cells[2]), both, out = scalar_tensor(&cells[3]);
	uint32_t two = 2;
	dw_task join;
	int result;

	(void)args;
	(void)config;
	dw_tensor_init(&both, &cells[1], DW_INT64, &two, 1);
	result = give(orch, call_gate, GATE, &x, DW_OUTPUT, NULL, 0, NULL, NULL);
	if (!result)
		result = give(orch, calls.nothing, LEFT, &x, DW_INPUT, &y, DW_OUTPUT, NULL, NULL);
	if (!result)
		result = give(orch, calls.nothing, RIGHT, &x, DW_INPUT, &z, DW_OUTPUT, NULL, NULL);
	if (!result)
		result = give(orch, calls.nothing, JOIN, &both, DW_INPUT, NULL, 0, NULL, &join);
	if (!result)
		result = give(orch, calls.fail, BREAKS, &x, DW_OUTPUT, NULL, 0, NULL, NULL);
	if (!result)
		result = give(orch, calls.nothing, FOLLOWS, &x, DW_INPUT, &out, DW_OUTPUT, NULL,
			      NULL);
	if (!result)
		result = give(orch, calls.nothing, LAST, NULL, 0, NULL, 0, &join, NULL);
	return write(gate_pipe[1], "x", 1) == 1 ? result : -EIO;
}

static struct dw_worker *known_tree(enum dw_mode mode, int64_t **cells)
{
	struct dw_worker *node = make_worker(3, 2, mode);
	void *memory;

	CHECK_EQ(pipe(gate_pipe), 0);
	CHECK_EQ(register_all(node, &calls), 0);
	CHECK_EQ(dw_callable_register_sub(node, "gate", sub_gate, NULL, &call_gate), 0);
	CHECK_EQ(dw_buffer_create(node, 64, &memory), 0);
	CHECK_EQ(dw_worker_init(node), 0);
	*cells = memory;
	return node;
}

static void known_tree_end(struct dw_worker *node)
{
	CHECK_EQ(dw_worker_close(node), 0);
	dw_worker_destroy(node);
	close(gate_pipe[0]);
	close(gate_pipe[1]);
}

static int find_name(const char *name)
{
	for (int i = 0; i < TASKS; i++)
		if (!strcmp(names[i], name))
			return i;
	return -1;
}

/*
 * Each end of an arrow has its partner and its slice; each edge, and only an edge, has its arrow.
 */
static void check_arrows(struct trace_read *trace)
{
	unsigned arrows = 0;

	for (unsigned i = 0; i < trace->count; i++) {
		struct event *begin = &trace->events[i], *end = NULL, *from, *to;
		bool known = false;

		if (begin->phase != 's')
			continue;
		for (unsigned j = 0; j < trace->count; j++)
			if (trace->events[j].phase == 'f' &&
			    !strcmp(trace->events[j].id, begin->id))
				end = &trace->events[j];
		REQUIRE(end);
		CHECK(begin->at <= end->at);
		from = trace_bound(trace, begin);
		to = trace_bound(trace, end);
		REQUIRE(from && to);
		for (unsigned k = 0; k < EDGES; k++)
			known = known || (edges[k].from == find_name(from->name) &&
					  edges[k].to == find_name(to->name) &&
					  !strcmp(edges[k].reason, begin->name));
		if (!CHECK(known))
			printf("# %s -> %s: %s\n", from->name, to->name, begin->name);
		arrows++;
	}
	CHECK_EQ(arrows, EDGES);
}

static const char *wanted_state(int task)
{
	return task == BREAKS ? "failed" : task == FOLLOWS ? "skipped" : "done";
}

/* Slices lie in the lane of a worker: its process (ours, for threads), its thread, their names. */
static void check_lanes(struct dw_worker *node, struct trace_read *trace, enum dw_mode mode)
{
	struct dw_child_stats stats[2];
	size_t count = 2;

	CHECK_EQ(dw_worker_stats(node, stats, sizeof(stats[0]), &count), 0);
	CHECK_EQ(count, 2);
	for (unsigned i = 0; i < trace->count; i++) {
		const struct event *slice = &trace->events[i];
		unsigned lanes = 0;
		int sub;

		if (slice->phase != 'X')
			continue;
		if (!strcmp(slice->state, "skipped")) {
			CHECK_EQ(slice->pid, getpid());
			continue;
		}
		sub = slice->path[strlen(slice->path) - 1] - '0';
		REQUIRE(sub == 0 || sub == 1);
		CHECK_STR(slice->path, stats[sub].path);
		CHECK_EQ(slice->pid, stats[sub].pid);
		CHECK_EQ(slice->pid == getpid(), mode == DW_THREAD);
		CHECK_EQ(slice->tid == slice->pid, mode == DW_PROCESS);
		for (unsigned k = 0; k < trace->count; k++)
			lanes += trace->events[k].phase == 'M' &&
				 !strcmp(trace->events[k].name, "thread_name") &&
				 trace->events[k].pid == slice->pid &&
				 trace->events[k].tid == slice->tid &&
				 !strcmp(trace->events[k].path, slice->path);
		CHECK_EQ(lanes, 1);
	}
}

static void known_trace(enum dw_mode mode)
{
	struct trace_read trace;
	struct dw_worker *node;
	int64_t *cells;

	enter_folder("trace.json", NULL);
	node = known_tree(mode, &cells);
	CHECK_EQ(dw_worker_run(node, orch_known, NULL, NULL, cells), -EIO);
	CHECK_EQ(dw_worker_close(node), 0);
	REQUIRE(trace_read(trace_path, &trace));
	CHECK_EQ(trace_slices(&trace), TASKS);
	check_stamps(&trace);
	for (int i = 0; i < TASKS; i++) {
		const struct event *slice = trace_find(&trace, names[i]);

		REQUIRE(slice);
		CHECK_EQ(slice->task, i + 1);
		CHECK_EQ(slice->run, 1);
		CHECK_STR(slice->state, wanted_state(i));
	}
	check_arrows(&trace);
	check_lanes(node, &trace, mode);
	trace_free(&trace);
	known_tree_end(node);
	leave_folder();
}

TEST(trace_of_a_known_graph_has_all_stamps_lanes_and_arrows_over_processes)
{
	known_trace(DW_PROCESS);
}

TEST(trace_of_a_known_graph_has_all_stamps_lanes_and_arrows_over_threads)
{
	known_trace(DW_THREAD);
}

/* ------------------------------------------------------------------- graph */

static bool balanced(const char *line)
{
	int depth = 0;
	bool text = false;

	for (; *line; line++) {
		if (text && *line == '\\')
			line++;
		else if (*line == '"')
			text = !text;
		else if (!text)
			depth += (*line == '{' || *line == '[') - (*line == '}' || *line == ']');
	}
	return !text && !depth;
}

static void known_graph(enum dw_mode mode)
{
	unsigned found_edges = 0, found_nodes = 0, ends = 0;
	char line[1024], reason[16], first[128] = "";
	struct dw_worker *node;
	int64_t *cells;
	FILE *file;

	enter_folder(NULL, "graph.dot");
	node = known_tree(mode, &cells);
	CHECK_EQ(dw_worker_run(node, orch_known, NULL, NULL, cells), -EIO);
	known_tree_end(node);
	file = fopen(graph_path, "r");
	REQUIRE(file && fgets(first, sizeof(first), file));
	CHECK_STR(first, "digraph distworker {");
	while (fgets(line, sizeof(line), file)) {
		unsigned from, to, task, tensor;
		unsigned long long begin, end;
		int pid, fields;
		bool known = false;

		if (line[0] == '\n')
			continue;
		CHECK(!ends);
		if (!strcmp(line, "}\n")) {
			ends++;
			continue;
		}
		CHECK(balanced(line));
		fields = sscanf(
			line,
			"\"%d.1.%u\" -> \"%*d.1.%u\" [label=\"%15[A-Za-z] tensor %u\\n[%llx, %llx)",
			&pid, &from, &to, reason, &tensor, &begin, &end);
		if (fields >= 3) {
			CHECK_EQ(pid, getpid());
			if (fields == 3)
				REQUIRE(sscanf(line, "%*s -> %*s [label=\"%15[A-Za-z]", reason) ==
					1);
			for (unsigned k = 0; k < EDGES; k++)
				known = known || (edges[k].from + 1 == (int)from &&
						  edges[k].to + 1 == (int)to &&
						  !strcmp(edges[k].reason, reason));
			if (!CHECK(known))
				printf("# %s", line);
			if (strcmp(reason, "explicit"))
				CHECK_EQ(fields, 7);
			/* `join` reads two cells, of which each of these wrote one. */
			if (fields == 7 && to == JOIN + 1)
				CHECK(begin == (uintptr_t)&cells[from - LEFT] && end == begin + 8);
			found_edges++;
			continue;
		}
		fields = sscanf(line,
				"subgraph \"cluster_%d.1\" { label=\"node0 run 1\"; \"%*d.1.%u\" [",
				&pid, &task);
		if (!CHECK_EQ(fields, 2) || !CHECK(task >= 1 && task <= TASKS)) {
			printf("# %s", line);
			continue;
		}
		CHECK_STR(line, names[task - 1]);
		CHECK_STR(line, wanted_state((int)task - 1));
		CHECK_STR(line, task - 1 == BREAKS  ? "tomato" :
				task - 1 == FOLLOWS ? "lightgrey" :
						      "palegreen");
		found_nodes++;
	}
	fclose(file);
	CHECK_EQ(ends, 1);
	CHECK_EQ(found_edges, EDGES);
	CHECK_EQ(found_nodes, TASKS);
	leave_folder();
}

TEST(graph_of_a_known_run_names_each_edge_with_its_reason_and_bytes)
{
	known_graph(DW_PROCESS);
	known_graph(DW_THREAD);
}

/* Without a gate most producers have ended when their consumers are submitted. */
static int orch_slow(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	(void)args;
	(void)config;
	for (int i = 0; i < 20; i++) {
		if (submit_one(orch, calls.add, context, DW_INOUT, 1, NULL, NULL) < 0 ||
		    dw_orch_wait(orch) < 0)
			return -EIO;
	}
	return 0;
}

TEST(graph_has_dependencies_on_tasks_that_have_ended)
{
	char line[1024];
	struct dw_worker *node;
	unsigned found = 0;
	int64_t *cells;
	FILE *file;

	enter_folder(NULL, "graph.dot");
	node = known_tree(DW_PROCESS, &cells);
	CHECK_EQ(dw_worker_run(node, orch_slow, NULL, NULL, cells), 0);
	known_tree_end(node);
	file = fopen(graph_path, "r");
	REQUIRE(file);
	while (fgets(line, sizeof(line), file))
		if (strstr(line, "->")) {
			CHECK_STR(line, "[label=\"RAW, WAW tensor 0\\n[0x");
			found++;
		}
	fclose(file);
	CHECK_EQ(found, 19);
	leave_folder();
}

/* --------------------------------------------------------- attempts, groups */

/* Fails the first time. */
static int sub_flaky(const struct dw_args *args, void *context)
{
	int64_t *cell = dw_args_data(args, 0);

	(void)context;
	return ++*cell == 1 ? -EAGAIN : 0;
}

/* A task that is retried, a group of two behind it, and a task behind the group. */
static int orch_attempts(struct dw_orch *orch, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int64_t *cells = context;
	struct dw_args *member[2];
	int result;

	(void)args;
	(void)config;
	options.name = "flaky";
	options.retries = 2;
	result = submit_one(orch, call_gate, &cells[0], DW_INOUT, 0, &options, NULL);
	options.retries = 0;
	for (int i = 0; i < 2; i++) {
		struct dw_tensor in = scalar_tensor(&cells[0]), out = scalar_tensor(&cells[1 + i]);

		dw_args_create(&member[i]);
		dw_args_add_tensor(member[i], &in, DW_INPUT);
		dw_args_add_tensor(member[i], &out, DW_OUTPUT);
	}
	options.name = "group";
	if (result == 0)
		result = dw_submit_group(orch, calls.nothing, member, 2, NULL, &options, NULL);
	for (int i = 0; i < 2; i++)
		dw_args_destroy(member[i]);
	options.name = "behind";
	return result ? result :
			submit_one(orch, calls.nothing, &cells[2], DW_INPUT, 0, &options, NULL);
}

static void attempts_in(enum dw_mode mode)
{
	struct dw_worker *node = make_worker(3, 2, mode);
	unsigned failed = 0, done = 0, members = 0, arrows = 0;
	struct trace_read trace;
	char members_on[2][96];
	void *cells;

	enter_folder("trace.json", "graph.dot");
	CHECK_EQ(register_all(node, &calls), 0);
	CHECK_EQ(dw_callable_register_sub(node, "flaky", sub_flaky, NULL, &call_gate), 0);
	CHECK_EQ(dw_buffer_create(node, 64, &cells), 0);
	CHECK_EQ(dw_worker_init(node), 0);
	CHECK_EQ(dw_worker_run(node, orch_attempts, NULL, NULL, cells), 0);
	dw_worker_destroy(node);
	REQUIRE(trace_read(trace_path, &trace));
	check_stamps(&trace);
	for (unsigned i = 0; i < trace.count; i++) {
		struct event *event = &trace.events[i];

		if (event->phase == 'X' && !strcmp(event->name, "flaky")) {
			failed += !strcmp(event->state, "failed");
			done += !strcmp(event->state, "done");
		} else if (event->phase == 'X' && !strcmp(event->name, "group") && members < 2) {
			CHECK_EQ(event->task, 2);
			snprintf(members_on[members++], 96, "%s", event->path);
		} else if (event->phase == 'f') {
			REQUIRE(trace_bound(&trace, event));
			arrows++;
		}
	}
	CHECK_EQ(failed, 1);
	CHECK_EQ(done, 1);
	CHECK_EQ(members, 2);
	CHECK(strcmp(members_on[0], members_on[1]) != 0);
	/*
	 * Its last attempt ended before the group was ready; others may be too quick for an arrow.
	 */
	CHECK(arrows <= 2);
	trace_free(&trace);
	leave_folder();
}

TEST(each_attempt_and_each_member_of_a_group_has_a_slice)
{
	attempts_in(DW_PROCESS);
	attempts_in(DW_THREAD);
}

/* A task that never ran because its producer failed is in the trace, too. */
TEST(skipped_tasks_are_in_the_trace)
{
	unsigned skipped = 0, slices;
	struct trace_read trace;
	struct dw_worker *node;
	struct dw_run *run;
	int64_t *cells;

	enter_folder("trace.json", NULL);
	node = known_tree(DW_THREAD, &cells);
	close(gate_pipe[1]);
	gate_pipe[1] = -1;
	CHECK_EQ(dw_worker_start(node, orch_known, NULL, NULL, cells, NULL, &run), 0);
	CHECK(dw_run_wait(run) < 0);
	known_tree_end(node);
	REQUIRE(trace_read(trace_path, &trace));
	check_stamps(&trace);
	slices = trace_slices(&trace);
	for (unsigned i = 0; i < trace.count; i++)
		skipped +=
			trace.events[i].phase == 'X' && !strcmp(trace.events[i].state, "skipped");
	CHECK_EQ(slices, TASKS);
	/*
	 * The gate's readers, the tasks behind them, `follows`; `breaks` overwrites, and fails
	 * itself.
	 */
	CHECK_EQ(skipped, 5);
	trace_free(&trace);
	leave_folder();
}

/* ------------------------------------------------------------------ deaths */

static void nested_trace(enum dw_mode mode)
{
	struct trace_read trace;
	struct dw_worker *pod;
	int64_t *cells;
	unsigned slices[2] = { 0 };

	enter_folder("trace.json", NULL);
	pod = make_pod(mode, &cells);
	CHECK_EQ(dw_worker_run(pod, orch_pod, NULL, NULL, cells), 0);
	CHECK_EQ(dw_worker_close(pod), 0);
	dw_worker_destroy(pod);
	REQUIRE(trace_read(trace_path, &trace));
	check_stamps(&trace);
	for (unsigned i = 0; i < trace.count; i++)
		if (trace.events[i].phase == 'X')
			slices[!strcmp(trace.events[i].name, "fine")]++;
	CHECK_EQ(slices[0], 200);
	CHECK_EQ(slices[1], 4);
	trace_free(&trace);
	leave_folder();
}

TEST(trace_has_the_tasks_of_nested_workers_in_both_modes)
{
	nested_trace(DW_PROCESS);
	nested_trace(DW_THREAD);
}

TEST(trace_survives_children_that_are_killed)
{
	struct trace_read trace;
	struct dw_worker *pod;
	const struct event *died;
	int64_t *cells;

	enter_folder("trace.json", "graph.dot");
	pod = make_pod(DW_PROCESS, &cells);
	cells[7] = 1;
	CHECK_EQ(dw_worker_run(pod, orch_pod, NULL, NULL, cells), -EOWNERDEAD);
	CHECK_EQ(dw_worker_close(pod), 0);
	dw_worker_destroy(pod);
	REQUIRE(trace_read(trace_path, &trace));
	check_stamps(&trace);
	/* The slices of the node's earlier runs were in the file when it was killed. */
	CHECK(trace_slices(&trace) >= 206);
	for (int i = 0; i < 2; i++) {
		died = trace_find(&trace, i ? "node dies" : "sub dies");
		REQUIRE(died);
		CHECK_STR(died->state, "failed");
		CHECK_STR(died->path, i ? "pod0/node1" : "pod0/sub0");
		CHECK(died->pid != getpid());
	}
	trace_free(&trace);
	leave_folder();
}

/* ------------------------------------------------------- runs, trees, names */

TEST(two_runs_at_once_keep_their_tasks_apart)
{
	for (int mode = DW_PROCESS; mode <= DW_THREAD; mode++) {
		unsigned seen[3] = { 0 }, runs = 0;
		struct trace_read trace;
		struct dw_worker *node;
		struct dw_run *run[2];
		int64_t *cells;

		enter_folder("trace.json", NULL);
		node = known_tree(mode, &cells);
		for (int i = 0; i < 2; i++)
			CHECK_EQ(dw_worker_start(node, orch_adds, NULL, NULL, &cells[i], NULL,
						 &run[i]),
				 0);
		for (int i = 0; i < 2; i++)
			CHECK_EQ(dw_run_wait(run[i]), 0);
		known_tree_end(node);
		REQUIRE(trace_read(trace_path, &trace));
		check_stamps(&trace);
		for (unsigned i = 0; i < trace.count; i++) {
			if (trace.events[i].phase == 'X' && CHECK(trace.events[i].run <= 2))
				seen[trace.events[i].run]++;
			runs += trace.events[i].phase == 'b';
		}
		CHECK_EQ(seen[1], 300);
		CHECK_EQ(seen[2], 300);
		CHECK_EQ(runs, 2);
		trace_free(&trace);
		leave_folder();
	}
}

TEST(trees_at_once_have_files_of_their_own)
{
	struct dw_worker *node[2];
	struct trace_read trace;
	int64_t *cells[2];
	char second[160];

	enter_folder("trace.json", NULL);
	for (int i = 0; i < 2; i++) {
		node[i] = known_tree(DW_PROCESS, &cells[i]);
		CHECK_EQ(dw_worker_run(node[i], orch_adds, NULL, NULL, cells[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		known_tree_end(node[i]);
	snprintf(second, sizeof(second), "%s/trace.2.json", folder);
	for (int i = 0; i < 2; i++) {
		REQUIRE(trace_read(i ? second : trace_path, &trace));
		CHECK_EQ(trace_slices(&trace), 300);
		trace_free(&trace);
	}
	leave_folder();
}

TEST(a_file_that_another_tree_writes_is_left_alone)
{
	char content[16] = "", other[160];
	struct trace_read trace;
	struct dw_worker *node;
	int64_t *cells;
	int fd;

	enter_folder("trace.json", NULL);
	fd = open(trace_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK_EQ(write(fd, "theirs", 6), 6);
	CHECK_EQ(flock(fd, LOCK_EX), 0);
	node = known_tree(DW_PROCESS, &cells);
	CHECK_EQ(dw_worker_run(node, orch_adds, NULL, NULL, cells), 0);
	known_tree_end(node);
	CHECK_EQ(pread(fd, content, sizeof(content) - 1, 0), 6);
	CHECK_STR(content, "theirs");
	close(fd);
	snprintf(other, sizeof(other), "%s/trace.%d.json", folder, getpid());
	REQUIRE(trace_read(other, &trace));
	CHECK_EQ(trace_slices(&trace), 300);
	trace_free(&trace);
	leave_folder();
}

static int orch_odd(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	char name[256];
	int result;

	(void)args;
	(void)config;
	options.name = "a\"b\\c\nd\x01\xff\xc3\xa4\xed\xa0\x80";
	result = submit_one(orch, calls.add, context, DW_INOUT, 1, &options, NULL);
	memset(name, '\\', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	options.name = name;
	return result ? result : submit_one(orch, calls.add, context, DW_INOUT, 1, &options, NULL);
}

TEST(names_of_any_bytes_are_valid_json)
{
	struct trace_read trace;
	struct dw_worker *node;
	char whole[256] = "";
	int64_t *cells;

	memset(whole, '\\', sizeof(whole) - 1);
	enter_folder("trace.json", NULL);
	node = known_tree(DW_PROCESS, &cells);
	CHECK_EQ(dw_worker_run(node, orch_odd, NULL, NULL, cells), 0);
	known_tree_end(node);
	REQUIRE(trace_read(trace_path, &trace));
	CHECK_EQ(trace_slices(&trace), 2);
	CHECK(trace_find(&trace, "a\"b\\c d ?\xc3\xa4???") != NULL);
	/* The longest is there whole. */
	CHECK(trace_find(&trace, whole) != NULL);
	trace_free(&trace);
	leave_folder();
}

TEST(a_path_that_cannot_be_written_fails_the_init_and_says_so)
{
	static const char *const variables[] = { "DW_TRACE", "DW_GRAPH" };

	for (int i = 0; i < 2; i++) {
		struct dw_worker *node = make_worker(3, 1, DW_PROCESS);

		setenv(variables[i], "/nowhere/at/all.json", 1);
		CHECK_EQ(dw_worker_init(node), -ENOENT);
		CHECK_STR(dw_strerror_last(), variables[i]);
		CHECK_STR(dw_strerror_last(),
			  "/nowhere/at/all.json: cannot write this file: ENOENT");
		unsetenv(variables[i]);
		dw_worker_destroy(node);
	}
}

TEST(nothing_is_written_when_nobody_asks)
{
	struct dw_worker *node;
	int64_t *cells;

	enter_folder("trace.json", NULL);
	unsetenv("DW_TRACE");
	node = known_tree(DW_PROCESS, &cells);
	CHECK_EQ(dw_worker_run(node, orch_adds, NULL, NULL, cells), 0);
	known_tree_end(node);
	CHECK(access(trace_path, F_OK) < 0);
	leave_folder();
}
