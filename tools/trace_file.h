/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A file of DW_TRACE, read back: tasks and their dependencies. The end of the file may be missing.
 */
#ifndef TOOLS_TRACE_FILE_H
#define TOOLS_TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Between two stamps each; a task that never ran has only `submitted` and `completed`. */
enum stamp { STAMP_SUBMITTED, STAMP_READY, STAMP_DISPATCHED, STAMP_STARTED, STAMP_ENDED,
	     STAMP_COMPLETED, STAMPS };

enum traced_state { TRACED_DONE, TRACED_FAILED, TRACED_SKIPPED, TRACED_STATES };

struct traced_task {
	const char *name, *callable, *owner, *worker;	/* interned; worker "": it never ran */
	uint64_t run, task;
	uint64_t stamps[STAMPS];	/* ns */
	enum traced_state state;
};

struct traced_edge {
	const char *owner;
	uint64_t run, from, to;
};

struct traced {
	struct traced_task *tasks;
	size_t task_count, task_space;
	struct traced_edge *edges;
	size_t edge_count, edge_space;
	uint64_t blocked;		/* ns in which workers waited for siblings */
	char **names;			/* interned, open addressing */
	size_t name_count, name_space;
};

/* A tool_exit, having said why. Completes the file of a tree whose root was killed. */
int traced_read(const char *path, struct traced *traced);
void traced_release(struct traced *traced);
/*
 * The measurements, as text or as one JSON object; `owner` (NULL: the root): whose critical path.
 */
void traced_print(const struct traced *traced, const char *owner, size_t longest);
/* Both side by side, by callable too. A tool_exit. */
int traced_compare(const struct traced *a, const struct traced *b, const char *owner,
		   size_t longest, bool json);
void traced_print_json(const struct traced *traced, FILE *out, const char *owner, size_t longest);

#endif
