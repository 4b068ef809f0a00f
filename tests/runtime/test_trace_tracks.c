/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * DW_TRACE: the records that are the file until its tree has closed; counters; slices of workers
 * that are blocked.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include "trace/convert.h"
#include "trace/text_out.h"
#include "trace_tree.h"

/* ----------------------------------------------------------- a root that is killed */

#define KILLED_TASKS 300

static void killed_root(void)
{
	struct dw_worker *node;
	int64_t *cells;

	node = make_node(DW_PROCESS, &cells);
	CHECK_EQ(dw_worker_run(node, orch_adds, NULL, NULL, cells), 0);
	raise(SIGKILL);
}

static int to_text(void *context, const char *text, size_t bytes)
{
	return fwrite(text, 1, bytes, context) == bytes ? 0 : -EIO;
}

/* They have all of the runs that had ended, and are small. */
TEST(records_of_a_tree_whose_root_is_killed_stay_beside_the_file)
{
	char records[160];
	struct trace_read trace;
	struct stat status;
	pid_t root;
	FILE *file;
	int fd;

	enter_folder("trace.json", NULL);
	snprintf(records, sizeof(records), "%s%s", trace_path, TRACE_RECORDS_SUFFIX);
	root = fork();
	if (root == 0) {
		killed_root();
		_exit(1);
	}
	CHECK_EQ(waitpid(root, NULL, 0), root);
	fd = open(records, O_RDONLY | O_CLOEXEC);
	REQUIRE(fd >= 0 && fstat(fd, &status) == 0);
	CHECK(status.st_size / KILLED_TASKS <= 120);
	printf("# %ld bytes a task\n", (long)status.st_size / KILLED_TASKS);
	file = fopen(trace_path, "w");
	fputs(TRACE_FIRST_LINE, file);
	CHECK_EQ(convert_file(fd, to_text, file), 0);
	fputs(TRACE_LAST_LINE, file);
	fclose(file);
	close(fd);
	REQUIRE(trace_read(trace_path, &trace));
	CHECK_EQ(trace_slices(&trace), KILLED_TASKS);
	check_stamps(&trace);
	trace_free(&trace);
	leave_folder();
}

TEST(no_records_stay_when_a_tree_has_closed)
{
	char records[160];
	struct dw_worker *node;
	int64_t *cells;

	enter_folder("trace.json", NULL);
	snprintf(records, sizeof(records), "%s%s", trace_path, TRACE_RECORDS_SUFFIX);
	node = make_node(DW_PROCESS, &cells);
	CHECK_EQ(access(records, F_OK), 0);
	CHECK_EQ(dw_worker_run(node, orch_adds, NULL, NULL, cells), 0);
	CHECK_EQ(dw_worker_close(node), 0);
	dw_worker_destroy(node);
	CHECK(access(records, F_OK) < 0);
	leave_folder();
}

/* Each track begins with a value, which a viewer holds until the next; wake-ups never go back. */
TEST(counters_are_tracks_of_each_worker)
{
	static const char *const tracks[] = { "ready tasks", "heap bytes", "wake-ups" };

	for (int mode = DW_PROCESS; mode <= DW_THREAD; mode++) {
		struct trace_read trace;
		struct dw_worker *pod;
		int64_t *cells;

		enter_folder("trace.json", NULL);
		pod = make_pod(mode, &cells);
		CHECK_EQ(dw_worker_run(pod, orch_pod, NULL, NULL, cells), 0);
		dw_worker_destroy(pod);
		REQUIRE(trace_read(trace_path, &trace));
		for (size_t k = 0; k < 3 * sizeof(tracks) / sizeof(tracks[0]); k++) {
			static const char *const of[] = { "pod0", "pod0/node0", "pod0/node1" };
			unsigned found = 0;
			uint64_t last = 0;
			char name[64];

			snprintf(name, sizeof(name), "%s %s", of[k % 3], tracks[k / 3]);
			for (unsigned i = 0; i < trace.count; i++) {
				json_object *args, *event = json_object_array_get_idx(trace.json,
										      i);
				const char *value;

				if (trace.events[i].phase != 'C' ||
				    strcmp(trace.events[i].name, name) != 0)
					continue;
				found++;
				json_object_object_get_ex(event, "args", &args);
				value = read_text(args, tracks[k / 3]);
				CHECK(*value != '\0');
				if (k / 3 == 2)
					CHECK((uint64_t)atoll(value) >= last);
				last = (uint64_t)atoll(value);
			}
			if (!CHECK(found))
				printf("# no track \"%s\"\n", name);
			/* At the end of the last run nothing is ready. */
			if (k / 3 == 0)
				CHECK_EQ(last, 0);
		}
		trace_free(&trace);
		leave_folder();
	}
}

static unsigned ends_with_id(const struct trace_read *trace, char phase, const char *id)
{
	unsigned count = 0;

	for (unsigned i = 0; i < trace->count; i++)
		count += trace->events[i].phase == phase && !strcmp(trace->events[i].id, id);
	return count;
}

/* Viewers join the two ends by it, over all processes of the file. */
TEST(each_run_of_a_tree_has_an_id_of_its_own)
{
	for (int mode = DW_PROCESS; mode <= DW_THREAD; mode++) {
		struct trace_read trace;
		struct dw_worker *pod;
		unsigned runs = 0;
		int64_t *cells;

		enter_folder("trace.json", NULL);
		pod = make_pod(mode, &cells);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(dw_worker_run(pod, orch_pod, NULL, NULL, cells), 0);
		dw_worker_destroy(pod);
		REQUIRE(trace_read(trace_path, &trace));
		for (unsigned i = 0; i < trace.count; i++) {
			if (trace.events[i].phase != 'b')
				continue;
			runs++;
			CHECK_EQ(ends_with_id(&trace, 'b', trace.events[i].id), 1);
			CHECK_EQ(ends_with_id(&trace, 'e', trace.events[i].id), 1);
		}
		/* Three of the pod, four in its nodes for each. */
		CHECK_EQ(runs, 15);
		trace_free(&trace);
		leave_folder();
	}
}

/* -------------------------------------------------------------------- blocked */

#define STEPS 1000

/* Two tasks that two workers can run at once, and one that waits for both. */
static int orch_steps(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	int64_t *cells = context;
	struct dw_tensor both;
	uint32_t two = 2;
	int result = 0;

	(void)args;
	(void)config;
	dw_tensor_init(&both, cells, DW_INT64, &two, 1);
	for (int i = 0; i < STEPS && result == 0; i++) {
		struct dw_args *join;

		for (int k = 0; k < 2 && result == 0; k++)
			result = submit_one(orch, k ? call_nap : calls.add, &cells[k], DW_INOUT, 1,
					    NULL, NULL);
		dw_args_create(&join);
		dw_args_add_tensor(join, &both, DW_INOUT);
		if (result == 0)
			result = dw_submit(orch, calls.nothing, join, NULL, NULL);
		dw_args_destroy(join);
	}
	return result;
}

static const struct event *slice_of(const struct trace_read *trace, uint64_t task)
{
	for (unsigned i = 0; i < trace->count; i++)
		if (trace->events[i].phase == 'X' && trace->events[i].task == task)
			return &trace->events[i];
	return NULL;
}

/* Of the last slice in the lane before this one. */
static uint64_t end_before(const struct trace_read *trace, const struct event *blocked)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < trace->count; i++) {
		const struct event *event = &trace->events[i];

		if (event->phase == 'X' && event->tid == blocked->tid &&
		    event->at <= blocked->at && event->at + event->duration > end)
			end = event->at + event->duration;
	}
	return end;
}

TEST(a_worker_that_waits_for_its_sibling_has_a_slice_before_the_task)
{
	for (int mode = DW_PROCESS; mode <= DW_THREAD; mode++) {
		struct trace_read trace;
		struct dw_worker *node;
		unsigned blocked = 0;
		int64_t *cells;

		enter_folder("trace.json", NULL);
		node = make_node(mode, &cells);
		CHECK_EQ(dw_worker_run(node, orch_steps, NULL, NULL, cells), 0);
		CHECK_EQ(cells[0] + cells[1], 2 * STEPS);
		dw_worker_destroy(node);
		REQUIRE(trace_read(trace_path, &trace));
		for (unsigned i = 0; i < trace.count; i++) {
			const struct event *event = &trace.events[i], *task;

			if (event->phase != BLOCKED)
				continue;
			blocked++;
			task = slice_of(&trace, event->task);
			REQUIRE(task);
			CHECK_EQ(event->pid, task->pid);
			CHECK_EQ(event->tid, task->tid);
			CHECK_STR(event->path, task->path);
			CHECK_EQ(event->at + event->duration + 1, task->at);
			CHECK(end_before(&trace, event) <= event->at);
		}
		CHECK(blocked > 0);
		printf("# %u of %d\n", blocked, STEPS);
		trace_free(&trace);
		leave_folder();
	}
}
