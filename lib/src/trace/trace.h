/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * trace: the subscriber that DW_TRACE and DW_GRAPH put onto the probes of an engine. One
 * struct trace per engine, guarded by the engine's lock.
 *
 *   trace.c   time stamps of tasks, written when a task is final
 *   record.c  binary records of them, while the tree runs
 *   convert.c Chrome trace events of these records, when it closes (text_out.c)
 *   dot.c     all dependencies of each task, found again on a map in which no task ends
 *   copies.c  copies to chips and back, written by the chips
 *   relay.c   lines of a tree on another host, on this one's clock
 *   file.c    the files that they go to, shared by all processes of a tree
 */
#ifndef DW_TRACE_TRACE_H
#define DW_TRACE_TRACE_H

#include <stdint.h>
#include "engine/probe.h"
#include "trace/file.h"

/* The files of DW_TRACE and DW_GRAPH, one each for a whole tree; NULL where they are not wanted. */
struct trace_files {
	struct trace_file *json, *dot;
};

/* By the root's process, before its first fork. An error names the variable and its value. */
int trace_files_open(struct trace_files *files);
/* Instead: DW_TRACE goes into the pipe, which the files take; a tree on another host has it. */
int trace_files_send(struct trace_files *files, int pipe);
/* By the same process, when no other writer is left. */
void trace_files_close(struct trace_files *files);

struct child_status;

struct trace_options {
	const struct trace_files *files;
	const char *path;		/* of the Worker */
	uint32_t worker_count;
	const struct child_status *self; /* of the Worker in its parent; NULL: it is the root */
};

struct trace;

/* *trace is NULL when no file is open. -ENOMEM. */
int trace_create(const struct trace_options *options, struct trace **trace);
/* For engine_options.probe; no subscriber when `trace` is NULL. */
struct probe trace_probe(struct trace *trace);
/*
 * Writes the remaining lines; nothing is written afterwards. With the engine's lock. NULL is fine.
 */
void trace_stop(struct trace *trace);
/* Stops it if need be; when the engine is gone. NULL is fine. */
void trace_destroy(struct trace *trace);

#endif
