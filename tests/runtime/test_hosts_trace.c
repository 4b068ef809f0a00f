/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The trace of a tree with Workers on other hosts: one file, on one clock. The node is a process in
 * a time namespace of its own, whose clock is a day ahead or behind: where root may make one, else
 * on the clock of this host.
 */
#define UNIT_SECONDS 100
#include <sched.h>
#include <sys/syscall.h>
#include "hosts.h"
#include "trace_read.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define DAY_NS 86400000000000LL
#define TASKS 12			/* of the root, on each of two Workers */
#define STEPS 3				/* tasks of each of them, one after the other */

static dw_callable nested, deep, step;
static struct host_node node, third;
static struct dw_worker *root;
static int64_t *cells;
static char trace_path[96];

/* ------------------------------------------------------------------ a clock that lies */

/* The clock of this process runs too fast since then; 0: it does not. */
static int64_t clock_begins_ns;

/* The library's, too. */
__attribute__((visibility("default")))
int clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = (int)syscall(SYS_clock_gettime, clock, now);
	int64_t ns;

	if (result == 0 && clock == CLOCK_MONOTONIC && clock_begins_ns) {
		ns = now->tv_sec * (int64_t)SECOND_NS + now->tv_nsec;
		ns += (ns - clock_begins_ns) * 9;
		now->tv_sec = ns / (int64_t)SECOND_NS;
		now->tv_nsec = ns % (int64_t)SECOND_NS;
	}
	return result;
}

/* ------------------------------------------------------------------ functions of both sides */

static int sub_step(const struct dw_args *args, void *context)
{
	int64_t *cell = dw_args_data(args, 0);

	(void)context;
	++*cell;
	return 0;
}

static int orch_nested(struct dw_orch *orch, const struct dw_args *args,
		       const struct dw_config *config, void *context)
{
	int result = 0;

	(void)config;
	(void)context;
	for (int i = 0; i < STEPS && result == 0; i++) {
		struct dw_args *own;

		dw_args_create(&own);
		dw_args_add_tensor(own, dw_args_tensor(args, 0), DW_INOUT);
		result = dw_submit(orch, step, own, NULL, NULL);
		dw_args_destroy(own);
	}
	return result;
}

/* Hands its tensor on to the Worker below. */
static int orch_deep(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_args *own;
	int result;

	(void)config;
	(void)context;
	dw_args_create(&own);
	dw_args_add_tensor(own, dw_args_tensor(args, 0), DW_INOUT);
	result = dw_submit(orch, nested, own, NULL, NULL);
	dw_args_destroy(own);
	return result;
}

static void program(struct dw_worker *of)
{
	CHECK_EQ(dw_callable_register_orch(of, "deep", orch_deep, NULL, &deep), 0);
	CHECK_EQ(dw_callable_register_orch(of, "nested", orch_nested, NULL, &nested), 0);
	CHECK_EQ(dw_callable_register_sub(of, "step", sub_step, NULL, &step), 0);
}

static void program_with_a_fast_clock(struct dw_worker *of)
{
	struct timespec now;

	program(of);
	clock_gettime(CLOCK_MONOTONIC, &now);
	clock_begins_ns = now.tv_sec * (int64_t)SECOND_NS + now.tv_nsec;
}

static int orch_all(struct dw_orch *orch, const struct dw_args *args,
		    const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	const unsigned *workers = context;
	const uint32_t one = 1;
	int result = 0;

	(void)args;
	(void)config;
	for (unsigned i = 0; i < 2 * TASKS && result == 0; i++) {
		struct dw_tensor tensor;
		struct dw_args *own;

		dw_tensor_init(&tensor, &cells[i], DW_INT64, &one, 1);
		options.place = DW_PLACE(i % *workers);
		dw_args_create(&own);
		dw_args_add_tensor(own, &tensor, DW_INOUT);
		result = dw_submit(orch, *workers == 1 ? deep : nested, own, &options, NULL);
		dw_args_destroy(own);
	}
	return result;
}

/* ------------------------------------------------------------------------------- the tree */

static bool write_offset(int64_t ahead_ns)
{
	char text[64];
	int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	int length = snprintf(text, sizeof(text), "monotonic %lld 0",
			      (long long)(ahead_ns / (int64_t)SECOND_NS));
	bool written = fd >= 0 && write(fd, text, (size_t)length) == length;

	close(fd);
	return written;
}

/* TSan has a thread of its own, and a process with threads does not get back from a namespace. */
static bool may_unshare(void)
{
#ifdef __SANITIZE_THREAD__
	return false;
#else
	return true;
#endif
}

/* Whether it is on a clock of its own. */
static bool start_node(struct host_node *on, int64_t ahead_ns)
{
	int own = open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC);
	bool left = ahead_ns && own >= 0 && may_unshare() && unshare(CLONE_NEWTIME) == 0;
	bool apart = left && write_offset(ahead_ns);

	host_start(on, program, NULL);
	if (left)
		CHECK_EQ(setns(own, CLONE_NEWTIME), 0);
	close(own);
	return apart;
}

static void begin_tree(uint32_t level)
{
	static unsigned trees;

	/* The second tree of a process to one path would get another. */
	snprintf(trace_path, sizeof(trace_path), "%s/trace-%u", host_folder, ++trees);
	setenv("DW_TRACE", trace_path, 1);
	root = make_worker(level, 0, DW_PROCESS);
	program(root);
}

/* Twice. `workers`: children of the root. */
static void run_tree(unsigned workers)
{
	void *memory = NULL;

	CHECK_EQ(dw_buffer_create(root, 4096, &memory), 0);
	cells = memory;
	if (!CHECK_EQ(dw_worker_init(root), 0))
		printf("# %s\n", dw_strerror_last());
	for (int i = 0; i < 2; i++)
		CHECK_EQ(dw_worker_run(root, orch_all, NULL, NULL, &workers), 0);
	for (unsigned i = 0; i < 2 * TASKS; i++)
		CHECK_EQ(cells[i], 2 * STEPS);
	dw_worker_destroy(root);
	unsetenv("DW_TRACE");
	host_stop(&node);
}

/* -------------------------------------------------------------------------------- the file */

static int by_time(const void *a, const void *b)
{
	const struct event *const *x = a, *const *y = b;

	return ((*x)->at > (*y)->at) - ((*x)->at < (*y)->at);
}

/* The slices of workers whose path begins so, by time. */
static unsigned slices_of(const struct trace_read *trace, const char *begin, const char *name,
			  struct event **found)
{
	unsigned count = 0;

	for (unsigned i = 0; i < trace->count; i++)
		if (trace->events[i].phase == 'X' && !strcmp(trace->events[i].name, name) &&
		    !strncmp(trace->events[i].path, begin, strlen(begin)) && count < 200)
			found[count++] = &trace->events[i];
	qsort(found, count, sizeof(*found), by_time);
	return count;
}

/*
 * What a Worker has done lies between the dispatch and the completion of the task that it did; each
 * of these has so many effects.
 */
static void check_effects(const struct trace_read *trace, const char *worker, const char *does,
			  const char *what, unsigned each)
{
	struct event *outer[200], *inner[200];
	char below[64];
	unsigned count = slices_of(trace, worker, does, outer);

	snprintf(below, sizeof(below), "%s/", worker);
	REQUIRE(count > 0 && slices_of(trace, below, what, inner) == count * each);
	for (unsigned i = 0; i < count * each; i++) {
		const struct event *cause = outer[i / each], *effect = inner[i];

		CHECK_EQ(effect->run, i / each + 1);
		CHECK_EQ(effect->stamp_count, 6);
		CHECK(effect->stamps[0] >= cause->stamps[2]);
		for (unsigned k = 1; k < 6; k++)
			CHECK(effect->stamps[k] >= effect->stamps[k - 1]);
		CHECK(effect->stamps[5] <= cause->stamps[5]);
		/* The slices lie in one another, and the steps behind one another. */
		CHECK(effect->at >= cause->at);
		CHECK(effect->at + effect->duration <= cause->at + cause->duration);
		if (i % each)
			CHECK(effect->at >= inner[i - 1]->at + inner[i - 1]->duration);
	}
}

/* Processes there have lanes of their own; the Worker's own is that of its gateway. */
static void check_lanes(const struct trace_read *trace)
{
	struct event *there[200], *here[200], *workers[200];
	unsigned count = slices_of(trace, "pod0/node0/", "step", there);
	unsigned named = 0, runs = 0;

	slices_of(trace, "pod0/node1/", "step", here);
	slices_of(trace, "pod0/node0", "nested", workers);
	for (unsigned i = 0; i < count; i++) {
		CHECK(there[i]->pid > 1 << 22 && there[i]->tid == there[i]->pid);
		CHECK(here[i]->pid < 1 << 22);
	}
	for (unsigned i = 0; i < trace->count; i++) {
		const struct event *event = &trace->events[i];

		named += event->phase == 'M' && !strcmp(event->name, "process_name") &&
			 event->pid == there[0]->pid && !strcmp(event->path, there[0]->path);
		runs += event->phase == 'b' && event->pid == workers[0]->pid;
		if (event->phase == 's' || event->phase == 'f')
			CHECK(trace_bound(trace, event) != NULL);
	}
	CHECK_EQ(named, 1);
	CHECK_EQ(runs, 2 * TASKS);
}

/* By a gateway's last line: how far the clock of its host is ahead of its own. */
static void check_clock(const struct trace_read *trace, const char *host, int64_t ahead_ns)
{
	unsigned count = 0;

	for (unsigned i = 0; i < trace->count; i++) {
		json_object *args, *value;
		int64_t ahead, error;

		if (trace->events[i].phase != 'M' || strcmp(trace->events[i].name, "clock") != 0)
			continue;
		json_object_object_get_ex(json_object_array_get_idx(trace->json, i), "args", &args);
		if (strcmp(read_text(args, "host"), host) != 0)
			continue;
		count++;
		json_object_object_get_ex(args, "ahead_ns", &value);
		ahead = json_object_get_int64(value);
		json_object_object_get_ex(args, "error_ns", &value);
		error = json_object_get_int64(value);
		/* A namespace's clock is exactly so much ahead. */
		CHECK(error >= 0 && llabs(ahead - ahead_ns) <= error);
	}
	CHECK_EQ(count, 1);
}

static void trace_one_clock(int64_t ahead_ns)
{
	struct trace_read trace;
	bool apart = start_node(&node, ahead_ns);

	begin_tree(DW_LEVEL_POD);
	host_worker(root, DW_LEVEL_NODE, 2, &node);
	host_worker(root, DW_LEVEL_NODE, 2, NULL);
	run_tree(2);
	REQUIRE(trace_read(trace_path, &trace));
	CHECK_EQ(trace_slices(&trace), 2 * 2 * TASKS * (1 + STEPS));
	check_effects(&trace, "pod0/node0", "nested", "step", STEPS);
	check_effects(&trace, "pod0/node1", "nested", "step", STEPS);
	check_lanes(&trace);
	check_clock(&trace, node.address, apart ? ahead_ns : 0);
	trace_free(&trace);
	unlink(trace_path);
	if (ahead_ns && !apart)
		SKIP("no time namespace can be made here");
}

HOST_TEST(causes_come_before_effects_on_a_host_with_the_same_clock)
{
	trace_one_clock(0);
}

HOST_TEST(causes_come_before_effects_on_a_host_whose_clock_is_a_day_ahead)
{
	trace_one_clock(DAY_NS);
}

HOST_TEST(causes_come_before_effects_on_a_host_that_has_just_started)
{
	trace_one_clock(-(int64_t)(now_ns() / SECOND_NS - 2) * (int64_t)SECOND_NS);
}

#define SLOW "tbf rate 2mbit burst 16kbit latency 2s"

static void body_slow(void)
{
	REQUIRE(host_impair(SLOW));
	trace_one_clock(0);
}

/* Its tasks seem to end long after their answers are here. */
HOST_TEST(times_of_a_host_whose_clock_lies_stay_between_claim_and_completion)
{
	struct event *slices[200];
	struct trace_read trace;
	unsigned count;

	host_start(&node, program_with_a_fast_clock, NULL);
	begin_tree(DW_LEVEL_POD);
	host_worker(root, DW_LEVEL_NODE, 2, &node);
	host_worker(root, DW_LEVEL_NODE, 2, NULL);
	run_tree(2);
	REQUIRE(trace_read(trace_path, &trace));
	count = slices_of(&trace, "pod0/node0", "nested", slices);
	CHECK_EQ(count, 2 * TASKS);
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 1; k < 6; k++)
			CHECK(slices[i]->stamps[k] >= slices[i]->stamps[k - 1]);
	trace_free(&trace);
	unlink(trace_path);
}

HOST_TEST(causes_come_before_effects_over_a_slow_link)
{
	if (!host_can_impair(SLOW))
		SKIP("no network namespace can be made, no tc(8), or no sch_tbf");
	apart(body_slow);
}

HOST_TEST(causes_come_before_effects_over_two_borders)
{
	struct trace_read trace;
	bool apart = start_node(&node, DAY_NS);
	struct dw_worker *pod;
	struct event *steps[200], *tasks[200];

	apart = start_node(&third, 2 * DAY_NS) && apart;
	begin_tree(DW_LEVEL_CLUSTER);
	pod = host_worker(root, DW_LEVEL_POD, 0, &node);
	host_worker(pod, DW_LEVEL_NODE, 2, &third);
	run_tree(1);
	host_stop(&third);
	REQUIRE(trace_read(trace_path, &trace));
	CHECK_EQ(trace_slices(&trace), 2 * 2 * TASKS * (2 + STEPS));
	check_effects(&trace, "cluster0/pod0", "deep", "nested", 1);
	check_effects(&trace, "cluster0/pod0/node0", "nested", "step", STEPS);
	/* A lane for each process, over two borders, too. */
	slices_of(&trace, "cluster0/pod0/node0/", "step", steps);
	slices_of(&trace, "cluster0/pod0/node0", "nested", tasks);
	CHECK(steps[0]->pid != tasks[0]->pid && steps[0]->pid > 1 << 22 && tasks[0]->pid > 1 << 22);
	check_clock(&trace, node.address, apart ? DAY_NS : 0);
	/* It is written while the tree there closes. */
	check_clock(&trace, third.address, apart ? DAY_NS : 0);
	trace_free(&trace);
	unlink(trace_path);
	if (!apart)
		SKIP("no time namespace can be made here");
}
