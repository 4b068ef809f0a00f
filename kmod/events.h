/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: tracepoints. A mailbox is named by the id of its hub (fdinfo tells
 * it) and its index; index -1 is the owner's side of the hub.
 *
 * Copyright (C) 2026 distworker authors
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM distworker

#if !defined(_DISTWORKER_EVENTS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _DISTWORKER_EVENTS_H

#include <linux/tracepoint.h>

/*
 * A word has changed: threads that slept at this end were woken, or pollers if none slept.
 * The wake-ups of an attachment or a death are told by those events.
 */
TRACE_EVENT(distworker_wake,
	    TP_PROTO(u32 hub, int index),
	    TP_ARGS(hub, index),
	    TP_STRUCT__entry(__field(u32, hub) __field(int, index)),
	    TP_fast_assign(__entry->hub = hub; __entry->index = index;),
	    TP_printk("hub=%u index=%d", __entry->hub, __entry->index)
);

TRACE_EVENT(distworker_wait_begin,
	    TP_PROTO(u32 hub, int index, u32 seen, u64 deadline),
	    TP_ARGS(hub, index, seen, deadline),
	    TP_STRUCT__entry(__field(u32, hub) __field(int, index) __field(u32, seen)
			     __field(u64, deadline)),
	    TP_fast_assign(__entry->hub = hub; __entry->index = index; __entry->seen = seen;
			   __entry->deadline = deadline;),
	    TP_printk("hub=%u index=%d seen=%u deadline=%llu", __entry->hub, __entry->index,
		      __entry->seen, __entry->deadline)
);

/* ret: 1 if events have ended the wait, or the error that has. */
TRACE_EVENT(distworker_wait_end,
	    TP_PROTO(u32 hub, int index, int ret),
	    TP_ARGS(hub, index, ret),
	    TP_STRUCT__entry(__field(u32, hub) __field(int, index) __field(int, ret)
			     __field(u32, events)),
	    TP_fast_assign(__entry->hub = hub; __entry->index = index; __entry->ret = min(ret, 1);
			   __entry->events = max(ret, 0);),
	    TP_printk("hub=%u index=%d ret=%d events=%#x", __entry->hub, __entry->index,
		      __entry->ret, __entry->events)
);

TRACE_EVENT(distworker_attach,
	    TP_PROTO(u32 hub, int index, pid_t pid, u64 generation),
	    TP_ARGS(hub, index, pid, generation),
	    TP_STRUCT__entry(__field(u32, hub) __field(int, index) __field(pid_t, pid)
			     __field(u64, generation)),
	    TP_fast_assign(__entry->hub = hub; __entry->index = index; __entry->pid = pid;
			   __entry->generation = generation;),
	    TP_printk("hub=%u index=%d pid=%d generation=%llu", __entry->hub, __entry->index,
		      __entry->pid, __entry->generation)
);

/*
 * The cause is an enum distworker_death_cause. Of the owner (index -1) it is always NONE:
 * it has died, or has closed the hub and lives on.
 */
TRACE_EVENT(distworker_death,
	    TP_PROTO(u32 hub, int index, pid_t pid, u32 cause, int status),
	    TP_ARGS(hub, index, pid, cause, status),
	    TP_STRUCT__entry(__field(u32, hub) __field(int, index) __field(pid_t, pid)
			     __field(u32, cause) __field(int, status)),
	    TP_fast_assign(__entry->hub = hub; __entry->index = index; __entry->pid = pid;
			   __entry->cause = cause; __entry->status = status;),
	    TP_printk("hub=%u index=%d pid=%d cause=%u status=%#x", __entry->hub,
		      __entry->index, __entry->pid, __entry->cause, __entry->status)
);

#endif /* _DISTWORKER_EVENTS_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE events
#include <trace/define_trace.h>
