/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Behind trace.h. Off for now: the writers of DW_TRACE and DW_GRAPH go here.
 */
#include "engine/trace.h"

int trace_on;

void trace_task_event(struct engine *engine, const struct slot *slot, enum trace_event event)
{
	(void)engine;
	(void)slot;
	(void)event;
}

void trace_edge_event(struct engine *engine, const struct slot *producer,
		      const struct slot *consumer, enum edge_reason reason)
{
	(void)engine;
	(void)producer;
	(void)consumer;
	(void)reason;
}

void trace_span_event(struct engine *engine, const struct slot *slot, const struct peer *peer,
		      const struct completion *completion)
{
	(void)engine;
	(void)slot;
	(void)peer;
	(void)completion;
}
