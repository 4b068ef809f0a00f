/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The graph of DW_GRAPH: see dot.c. With the engine's lock.
 */
#ifndef DW_TRACE_DOT_H
#define DW_TRACE_DOT_H

#include "trace/state.h"

struct dot_node *dot_submitted(struct trace *trace, struct task *task);
void dot_after(struct task *task, const struct dw_submit_options *options);
void dot_final(struct trace *trace, const struct task *task, struct dot_node *node);
void dot_run_ended(struct dot_run *run);
/* The bytes were given back to the heap. */
void dot_forget(struct dot_run *run, uint64_t begin, uint64_t end);

#endif
