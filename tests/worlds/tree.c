/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Two programs of the worlds, on a pod with one sub worker over a node with two:
 *
 *   tree deadlines tasks that meet their deadline, one that hangs and one whose child stops itself
 *   tree restart     tasks whose child is killed under them, and that are tried again
 *
 * "right" on stdout and status 0; status 1 and the error's text; status 3 where a result is wrong
 * without an error.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <distworker/distworker.h>

#define MS 1000000ull
#define CELLS 16

enum act { ACT_ADD, ACT_SLEEP, ACT_FAIL, ACT_HANG, ACT_STOP, ACT_DIE_ONCE };

static struct dw_worker *pod;
static dw_callable act, below;
static int64_t *cells;

__attribute__((format(printf, 2, 3), noreturn))
static void end(int status, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, "\n");
	dw_worker_destroy(pod);
	exit(status);
}

/* A call that must succeed, or fail with a text. */
static void must(int result, const char *call)
{
	char text[1024];

	if (!result)
		return;
	snprintf(text, sizeof(text), "%s", dw_strerror_last());
	if (!text[0])
		end(3, "%s: %s, without a text", call, strerror(-result));
	end(1, "%s: %s", call, text);
}

static int sub_act(const struct dw_args *args, void *context)
{
	struct timespec left = { 0, (long)(dw_args_int(args, 1) * (int64_t)MS) };
	int64_t *cell = dw_args_data(args, 0);

	(void)context;
	switch ((enum act)dw_args_int(args, 0)) {
	case ACT_SLEEP:
		while (nanosleep(&left, &left) < 0 && errno == EINTR)
			;
		break;
	case ACT_FAIL:
		return dw_task_fail(EIO, "it was to fail");
	case ACT_HANG:
		for (;;)
			pause();
	case ACT_STOP:
		raise(SIGSTOP);
		for (;;)
			pause();
	case ACT_DIE_ONCE:
		if (!cell[1]) {
			cell[1] = 1;
			kill(getpid(), SIGKILL);
		}
		break;
	case ACT_ADD:
		break;
	}
	++*cell;
	return 0;
}

/* cells[cell], cells[cell + 1] INOUT */
static int submit(struct dw_orch *orch, dw_callable callable, unsigned cell, enum act what, int ms,
		  const struct dw_submit_options *options)
{
	struct dw_tensor tensor;
	struct dw_args *args = NULL;
	uint32_t shape = 2;
	int result = dw_args_create(&args);

	if (!result)
		result = dw_tensor_init(&tensor, cells + cell, DW_INT64, &shape, 1);
	if (!result)
		result = dw_args_add_tensor(args, &tensor, DW_INOUT);
	if (!result)
		result = dw_args_add_int(args, what);
	if (!result)
		result = dw_args_add_int(args, ms);
	if (!result)
		result = dw_args_add_int(args, cell);
	if (!result)
		result = dw_submit(orch, callable, args, options, NULL);
	dw_args_destroy(args);
	return result;
}

/* On the node: the task that its parent was given, on a sub worker. */
static int orch_below(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	(void)config, (void)context;
	options.retries = dw_args_int(args, 0) == ACT_DIE_ONCE;
	return submit(orch, act, (unsigned)dw_args_int(args, 2), (enum act)dw_args_int(args, 0),
		      (int)dw_args_int(args, 1), &options);
}

/* A task fails after 20 ms, its consumer is skipped, and a third goes on for longer than both. */
static int orch_healthy(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	int result = submit(orch, act, 0, ACT_SLEEP, 20, NULL);

	(void)args, (void)config, (void)context;
	if (!result)
		result = submit(orch, act, 0, ACT_FAIL, 0, NULL);
	if (!result)
		result = submit(orch, act, 0, ACT_ADD, 0, NULL);
	if (!result)
		result = submit(orch, act, 2, ACT_SLEEP, 120, NULL);
	if (!result)
		result = submit(orch, below, 4, ACT_SLEEP, 120, NULL);
	return result;
}

static enum act lost;

static int orch_late(struct dw_orch *orch, const struct dw_args *args,
		     const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int result;

	(void)args, (void)config, (void)context;
	options.timeout_ns = 100 * MS;
	result = submit(orch, act, 6, lost, 0, &options);
	if (!result)
		result = submit(orch, below, 8, ACT_ADD, 0, NULL);
	return result;
}

static int orch_restart(struct dw_orch *orch, const struct dw_args *args,
			const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int result;

	(void)args, (void)config, (void)context;
	options.retries = 1;
	result = submit(orch, act, 0, ACT_DIE_ONCE, 0, &options);
	if (!result)
		result = submit(orch, below, 2, ACT_DIE_ONCE, 0, NULL);
	for (unsigned i = 0; i < 20 && !result; i++)
		result = submit(orch, i & 1 ? act : below, 4 + i % 4 * 2, ACT_ADD, 0, NULL);
	return result;
}

static struct dw_worker *make(uint32_t level, uint32_t subs)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	options.subs = subs;
	options.restart = DW_RESTART_ON_DEATH;
	options.heap_ring_bytes = 1 << 20;
	options.arena_bytes = 4 << 20;
	options.timeout_ns = 600000 * MS;
	must(dw_worker_create(level, &options, &worker), "create");
	return worker;
}

static void cell_is(unsigned cell, int64_t wanted)
{
	if (cells[cell] != wanted)
		end(3, "cell %u is %lld, not %lld", cell, (long long)cells[cell],
		    (long long)wanted);
}

static void late(enum act how)
{
	int result;

	lost = how;
	result = dw_worker_run(pod, orch_late, NULL, NULL, NULL);
	if (result != -ETIMEDOUT) {
		must(result, "a run with a task that hangs");
		end(3, "a task that hangs has ended");
	}
	cell_is(6, 0);
}

int main(int argc, char **argv)
{
	bool restart = argc == 2 && !strcmp(argv[1], "restart");
	struct dw_worker *node;
	void *memory = NULL;
	int result;

	if (!restart && (argc != 2 || strcmp(argv[1], "deadlines") != 0))
		return 2;
	pod = make(DW_LEVEL_POD, 1);
	node = make(DW_LEVEL_NODE, 2);
	must(dw_worker_add_child(pod, node, NULL), "add_child");
	must(dw_callable_register_sub(pod, "act", sub_act, NULL, &act), "register_sub");
	must(dw_callable_register_orch(pod, "below", orch_below, NULL, &below), "register_orch");
	must(dw_buffer_create(pod, CELLS * sizeof(*cells), &memory), "buffer");
	cells = memory;
	must(dw_worker_init(pod), "init");
	if (restart) {
		must(dw_worker_run(pod, orch_restart, NULL, NULL, NULL), "run");
		cell_is(0, 1);
		cell_is(2, 1);
		for (unsigned i = 4; i < 12; i += 2)
			cell_is(i, 5);
	} else {
		result = dw_worker_run(pod, orch_healthy, NULL, NULL, NULL);
		if (result != -EIO) {
			must(result, "the run of healthy tasks");
			end(3, "a task that fails has no error");
		}
		cell_is(0, 1);
		cell_is(2, 1);
		cell_is(4, 1);
		late(ACT_HANG);
		late(ACT_STOP);
		cell_is(8, 2);
	}
	must(dw_worker_close(pod), "close");
	dw_worker_destroy(pod);
	puts("right");
	return 0;
}
