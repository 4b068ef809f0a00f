/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Where DW_TRACE and DW_GRAPH look at the engine: one call per event, nothing but
 * a test of a flag when both are off. With the engine's lock.
 */
#ifndef DW_ENGINE_TRACE_H
#define DW_ENGINE_TRACE_H

#include "engine/internal.h"

enum trace_event {
	TRACE_SUBMITTED, TRACE_READY, TRACE_DISPATCHED, TRACE_RETURNED, TRACE_FINAL,
};

struct trace_times {
	uint64_t submitted, ready, dispatched;
	uint32_t worker;
};

/* 0 until a trace or a graph was asked for; then constant. */
extern int trace_on;

void trace_task_event(struct engine *engine, const struct slot *slot, enum trace_event event);
void trace_edge_event(struct engine *engine, const struct slot *producer,
		      const struct slot *consumer, enum edge_reason reason);
/* A completion with the child's time stamps. */
void trace_span_event(struct engine *engine, const struct slot *slot, const struct peer *peer,
		      const struct completion *completion);

static inline void trace_task(struct engine *engine, const struct slot *slot,
			      enum trace_event event)
{
	if (UNLIKELY(trace_on))
		trace_task_event(engine, slot, event);
}

static inline void trace_edge(struct engine *engine, const struct slot *producer,
			      const struct slot *consumer, enum edge_reason reason)
{
	if (UNLIKELY(trace_on))
		trace_edge_event(engine, producer, consumer, reason);
}

static inline void trace_span(struct engine *engine, const struct slot *slot,
			      const struct peer *peer, const struct completion *completion)
{
	if (UNLIKELY(trace_on))
		trace_span_event(engine, slot, peer, completion);
}

#endif
