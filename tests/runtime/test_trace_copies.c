/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Copies to chips and back in the file of DW_TRACE: each is a span, and their bytes are those that
 * the drivers have counted.
 */
#include "chips_pto.h"
#include "trace_read.h"

#define BYTES (COUNT * sizeof(float))
#define TASKS 20
#define COPIES_MAX 1000

static char trace_path[64];

struct span {
	char name[16], id[32], worker[96];
	int pid, tid;
	uint64_t begun, ended, task, tensor, bytes;
};

struct spans {
	struct span all[COPIES_MAX];
	unsigned count;
};

static uint64_t number_of(json_object *object, const char *key)
{
	return (uint64_t)atoll(read_text(object, key));
}

/* Both ends of each span of category "copy". */
static void spans_read(const struct trace_read *trace, struct spans *spans)
{
	memset(spans, 0, sizeof(*spans));
	for (unsigned i = 0; i < trace->count; i++) {
		json_object *event = json_object_array_get_idx(trace->json, i), *args = NULL;
		const char *phase = read_text(event, "ph");
		struct span *span = &spans->all[spans->count];

		if (strcmp(read_text(event, "cat"), "copy") != 0)
			continue;
		if (*phase == 'e') {
			/* Written behind its begin. */
			span--;
			if (CHECK(spans->count && !strcmp(span->id, read_text(event, "id"))))
				span->ended = read_time(event, "ts");
			continue;
		}
		CHECK(*phase == 'b' && spans->count + 1 < COPIES_MAX);
		json_object_object_get_ex(event, "args", &args);
		snprintf(span->name, sizeof(span->name), "%s", read_text(event, "name"));
		snprintf(span->id, sizeof(span->id), "%s", read_text(event, "id"));
		snprintf(span->worker, sizeof(span->worker), "%s", read_text(args, "worker"));
		span->pid = (int)number_of(event, "pid");
		span->tid = (int)number_of(event, "tid");
		span->begun = read_time(event, "ts");
		span->task = number_of(args, "task");
		span->tensor = number_of(args, "tensor");
		span->bytes = number_of(args, "bytes");
		spans->count++;
	}
}

static const struct event *slice_of(const struct trace_read *trace, const struct span *span)
{
	for (unsigned i = 0; i < trace->count; i++)
		if (trace->events[i].phase == 'X' && trace->events[i].task == span->task)
			return &trace->events[i];
	return NULL;
}

/* Of the chip's track; 0: it has none. */
static uint64_t last_counter(const struct trace_read *trace)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < trace->count; i++) {
		json_object *args = NULL, *event = json_object_array_get_idx(trace->json, i);

		if (strcmp(read_text(event, "name"), "node0/chip0 bytes copied") != 0)
			continue;
		json_object_object_get_ex(event, "args", &args);
		CHECK(number_of(args, "bytes copied") >= last);
		last = number_of(args, "bytes copied");
	}
	return last;
}

struct wanted {
	uint64_t in, out;		/* bytes: what the driver has counted */
	unsigned spans;
	/* Spans of this driver lie within the slice of their task. */
	bool within;
};

static void trace_is(const struct wanted *wanted)
{
	static struct spans spans;
	uint64_t in = 0, out = 0;
	struct trace_read trace;

	if (!CHECK(trace_read(trace_path, &trace)))
		return;
	spans_read(&trace, &spans);
	CHECK_EQ(spans.count, wanted->spans);
	for (unsigned i = 0; i < spans.count; i++) {
		const struct span *span = &spans.all[i];
		const struct event *slice = slice_of(&trace, span);
		bool is_in = !strcmp(span->name, "copy in");

		CHECK(is_in || !strcmp(span->name, "copy out"));
		CHECK(!strcmp(span->worker, "node0/chip0"));
		*(is_in ? &in : &out) += span->bytes;
		CHECK_EQ(span->tensor < 2, is_in);
		CHECK(span->begun > 0 && span->ended >= span->begun);
		/* The lane is that of the chip. */
		if (!CHECK(slice && slice->pid == span->pid && slice->tid == span->tid))
			continue;
		if (wanted->within)
			CHECK(slice->stamps[2] <= span->begun &&
			      span->ended <= slice->stamps[4] + 1);
	}
	CHECK_EQ(in, wanted->in);
	CHECK_EQ(out, wanted->out);
	CHECK_EQ(last_counter(&trace), in + out);
	trace_free(&trace);
	unlink(trace_path);
}

static void trace_begin(void)
{
	static int number;

	/* A second tree of a process would not write to the same file. */
	snprintf(trace_path, sizeof(trace_path), "/tmp/distworker-copies-%d-%d.json", (int)getpid(),
		 number++);
	setenv("DW_TRACE", trace_path, 1);
}

/* a + b to many results: inputs travel once, results each; the counts are the driver's. */
static struct wanted run_tasks(struct rig *rig, struct call *calls, unsigned spans)
{
	struct wanted wanted = { .spans = spans, .within = true };
	struct dw_child_stats stats;

	CHECK_EQ(run_calls(rig, calls, TASKS), 0);
	CHECK_EQ(wrong(rig, 0, TASKS), 0);
	stats = chip_stats(rig, "node0/chip0");
	wanted.in = stats.copied_in;
	wanted.out = stats.copied_out;
	rig_destroy(rig);
	unsetenv("DW_TRACE");
	return wanted;
}

/* `spans`: how many there have to be; 0: as many as tensors were counted. */
static void sim_trace(enum dw_mode mode, const char *options, unsigned spans)
{
	const struct dw_chip_options chip = { .driver = "sim", .options = options };
	struct call calls[TASKS];
	struct wanted wanted;
	dw_callable image;
	struct rig rig;

	trace_begin();
	rig_create(&rig, mode, DW_RESTART_NEVER, &chip, 1);
	image = sim_image(&rig, "vector_add");
	for (unsigned i = 0; i < TASKS; i++)
		calls[i] = add_call(&rig, image, i);
	REQUIRE(rig_init(&rig) == 0);
	wanted = run_tasks(&rig, calls, spans);
	if (spans)
		CHECK_EQ(wanted.in, 2 * BYTES);
	else
		wanted.spans = (unsigned)((wanted.in + wanted.out) / BYTES);
	CHECK(wanted.in >= 2 * BYTES && wanted.out == TASKS * BYTES);
	trace_is(&wanted);
}

TEST_IN_BOTH_MODES(copies_of_sim_are_spans_with_their_bytes)
{
	sim_trace(mode, "", 2 + TASKS);
}

/* The first two calls are in flight together, so that both may fetch the inputs. */
TEST_IN_BOTH_MODES(copies_of_asynchronous_calls_are_spans_of_their_own_task)
{
	sim_trace(mode, "async=1", 0);
}

/* Task 1's result is kept for task 3, which writes it again; task 2 fails, and brings it home. */
static int orch_settled(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct rig *rig = context;
	dw_callable add = sim_image(rig, "triple_add"), fails = sim_image(rig, "fails");
	pid_t pid = chip_stats(rig, "node0/chip0").pid;

	(void)args;
	(void)config;
	/* The chip begins when all are there. */
	CHECK_EQ(kill(pid, SIGSTOP), 0);
	for (int task = 1; task <= 3; task++) {
		struct call call = { .options = DW_OPTIONS(dw_submit_options) };

		call.callable = task == 2 ? fails : add;
		call_tensor(&call, rig->c + (task == 2 ? COUNT : 0), DW_FLOAT32, COUNT,
			    task == 2 ? DW_OUTPUT : DW_INOUT);
		call.scalars = task == 2 ? 0 : 1;
		CHECK_EQ(submit_call(orch, &call, NULL), 0);
	}
	CHECK_EQ(kill(pid, SIGCONT), 0);
	return 0;
}

TEST(a_copy_home_after_its_task_is_a_span_of_that_task)
{
	const struct dw_chip_options chip = { .driver = "sim" };
	static struct spans spans;
	struct dw_child_stats stats;
	struct trace_read trace;
	unsigned late = 0;
	uint64_t out = 0;
	struct rig rig;

	trace_begin();
	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, &chip, 1);
	REQUIRE(rig_init(&rig) == 0);
	CHECK_EQ(dw_worker_run(rig.node, orch_settled, NULL, NULL, &rig), -EDOM);
	stats = chip_stats(&rig, "node0/chip0");
	rig_destroy(&rig);
	unsetenv("DW_TRACE");
	CHECK_EQ(stats.copied_out, 2 * BYTES);
	REQUIRE(trace_read(trace_path, &trace));
	spans_read(&trace, &spans);
	for (unsigned i = 0; i < spans.count; i++) {
		const struct span *span = &spans.all[i];

		if (strcmp(span->name, "copy out") != 0)
			continue;
		out += span->bytes;
		late += span->task == 1;
		CHECK_EQ(span->tensor, 0);
		CHECK(span->begun > 0 && span->ended >= span->begun);
	}
	CHECK_EQ(out, stats.copied_out);
	CHECK_EQ(late, 1);
	trace_free(&trace);
	unlink(trace_path);
}

TEST(copies_of_opencl_are_spans_with_their_bytes)
{
	const struct dw_chip_options chip = { .driver = "opencl" };
	struct call calls[TASKS];
	struct wanted wanted;
	dw_callable image;
	struct rig rig;

	if (opencl_missing())
		SKIP(opencl_missing());
	trace_begin();
	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, &chip, 1);
	image = image_of(&rig, "opencl", NULL, opencl_add, "vector_add", signature_add, 3);
	for (unsigned i = 0; i < TASKS; i++)
		calls[i] = add_call(&rig, image, i);
	REQUIRE(rig_init(&rig) == 0);
	wanted = run_tasks(&rig, calls, 0);
	wanted.spans = (unsigned)((wanted.in + wanted.out) / BYTES);
	CHECK(wanted.in >= 2 * BYTES && wanted.out == TASKS * BYTES);
	trace_is(&wanted);
}

/* Of its own copies, which are all here: none is left to the runtime. */
TEST(copies_of_pto_are_spans_with_their_bytes)
{
	struct dw_chip_options chip = { .driver = "pto", .device = 2 };
	struct call calls[TASKS];
	struct wanted wanted;
	dw_callable image;
	struct rig rig;

	trace_begin();
	pto_prepare_runtime("pto_present", "");
	chip.options = pto_options;
	rig_create(&rig, DW_PROCESS, DW_RESTART_NEVER, &chip, 1);
	image = pto_image(&rig);
	for (unsigned i = 0; i < TASKS; i++)
		calls[i] = pto_call(&rig, image, i);
	REQUIRE(rig_init(&rig) == 0);
	wanted = run_tasks(&rig, calls, 2 + TASKS);
	CHECK_EQ(wanted.in, 2 * BYTES);
	CHECK_EQ(wanted.out, TASKS * BYTES);
	trace_is(&wanted);
	pto_clean();
}
