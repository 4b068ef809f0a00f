/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* A folder for the files of a tree that is traced, a node and a pod, for tests of DW_TRACE. */
#ifndef TESTS_TRACE_TREE_H
#define TESTS_TRACE_TREE_H

#include "trace_read.h"

static char folder[64], trace_path[128], graph_path[128];
static struct callables calls;
static dw_callable call_nested, call_die, call_nap;

static inline void enter_folder(const char *trace, const char *graph)
{
	strcpy(folder, "/tmp/distworker-trace-XXXXXX");
	CHECK(mkdtemp(folder) != NULL);
	snprintf(trace_path, sizeof(trace_path), "%s/%s", folder, trace ? trace : "none");
	snprintf(graph_path, sizeof(graph_path), "%s/%s", folder, graph ? graph : "none");
	if (trace)
		setenv("DW_TRACE", trace_path, 1);
	if (graph)
		setenv("DW_GRAPH", graph_path, 1);
}

static inline void leave_folder(void)
{
	char command[128];

	unsetenv("DW_TRACE");
	unsetenv("DW_GRAPH");
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	CHECK_EQ(system(command), 0);
}

static inline int sub_die(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	raise(SIGKILL);
	return 0;
}

static inline int sub_nap(const struct dw_args *args, void *context)
{
	(void)context;
	usleep(50);
	++*(int64_t *)dw_args_data(args, 0);
	return 0;
}

static inline int orch_adds(struct dw_orch *orch, const struct dw_args *args,
			    const struct dw_config *config, void *context)
{
	int result = 0;

	(void)args;
	(void)config;
	for (int i = 0; i < 300 && result == 0; i++)
		result = submit_one(orch, calls.add, context, DW_INOUT, 1, NULL, NULL);
	return result;
}

static inline struct dw_worker *make_node(enum dw_mode mode, int64_t **cells)
{
	struct dw_worker *node = make_worker(3, 2, mode);
	void *memory;

	CHECK_EQ(register_all(node, &calls), 0);
	CHECK_EQ(dw_callable_register_sub(node, "nap", sub_nap, NULL, &call_nap), 0);
	CHECK_EQ(dw_buffer_create(node, 64, &memory), 0);
	CHECK_EQ(dw_worker_init(node), 0);
	*cells = memory;
	return node;
}

/* Runs in a node: some tasks, and then, if asked, the end of the node's process. */
static inline int orch_nested(struct dw_orch *orch, const struct dw_args *args,
			      const struct dw_config *config, void *context)
{
	int64_t *cell = dw_args_data(args, 0);
	int result = 0;

	(void)config;
	(void)context;
	for (int i = 0; i < 50 && result == 0; i++)
		result = submit_one(orch, calls.add, cell, DW_INOUT, 1, NULL, NULL);
	if (dw_args_int(args, 0) == 1)
		raise(SIGKILL);
	return result;
}

static inline int orch_pod(struct dw_orch *orch, const struct dw_args *args,
			   const struct dw_config *config, void *context)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);
	int64_t *cells = context;
	int result = 0;

	(void)args;
	(void)config;
	options.name = "fine";
	for (uint32_t i = 0; i < 4 && result == 0; i++) {
		options.place = DW_PLACE(i % 2);
		result = submit_one(orch, call_nested, &cells[0], DW_INOUT, 0, &options, NULL);
	}
	if (cells[7] && result == 0) {
		dw_orch_wait(orch);
		options.name = "node dies";
		options.place = DW_PLACE(1);
		result = submit_one(orch, call_nested, &cells[1], DW_INOUT, 1, &options, NULL);
		options.place = 0;
		options.name = "sub dies";
		if (result == 0)
			result = submit_one(orch, call_die, &cells[2], DW_INOUT, 0, &options, NULL);
	}
	return result;
}

static inline struct dw_worker *make_pod(enum dw_mode mode, int64_t **cells)
{
	struct dw_worker *pod = make_worker(4, 1, mode);
	void *memory;

	for (int i = 0; i < 2; i++)
		CHECK_EQ(dw_worker_add_child(pod, make_worker(3, 2, mode), NULL), 0);
	CHECK_EQ(register_all(pod, &calls), 0);
	CHECK_EQ(dw_callable_register_orch(pod, "nested", orch_nested, NULL, &call_nested), 0);
	CHECK_EQ(dw_callable_register_sub(pod, "die", sub_die, NULL, &call_die), 0);
	CHECK_EQ(dw_buffer_create(pod, 64, &memory), 0);
	CHECK_EQ(dw_worker_init(pod), 0);
	*cells = memory;
	return pod;
}

#endif
