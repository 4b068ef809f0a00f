/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * distworker: tracepoints. A mailbox is named by the id of its hub (fdinfo tells
 * it) and its index; index -1 (a NULL mailbox) is the owner's side of the hub.
 *
 * Copyright (C) 2026 distworker authors
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM distworker

#if !defined(_DISTWORKER_EVENTS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _DISTWORKER_EVENTS_H

#include <linux/tracepoint.h>

#include "internal.h"

/*
 * News in the words: threads that slept at this end were woken, or pollers if none slept.
 * Who is woken by an attachment or a death is told by those events.
 */
TRACE_EVENT(distworker_wake,
	    TP_PROTO(struct dw_hub *hub, struct dw_mailbox *mailbox),
	    TP_ARGS(hub, mailbox),
	    TP_STRUCT__entry(__field(u32, hub)
			     __field(int, index)),
	    TP_fast_assign(__entry->hub = hub->id;
			   __entry->index = mailbox ? (int)dw_mailbox_index(mailbox) : -1;),
	    TP_printk("hub=%u index=%d",
		      __entry->hub, __entry->index)
);

TRACE_EVENT(distworker_wait_begin,
	    TP_PROTO(struct dw_hub *hub, struct dw_mailbox *mailbox, u32 seen, u64 deadline),
	    TP_ARGS(hub, mailbox, seen, deadline),
	    TP_STRUCT__entry(__field(u32, hub)
			     __field(int, index)
			     __field(u32, seen)
			     __field(u64, deadline)),
	    TP_fast_assign(__entry->hub = hub->id;
			   __entry->index = mailbox ? (int)dw_mailbox_index(mailbox) : -1;
			   __entry->seen = seen;
			   __entry->deadline = deadline;),
	    TP_printk("hub=%u index=%d seen=%u deadline=%llu",
		      __entry->hub, __entry->index, __entry->seen, __entry->deadline)
);

TRACE_EVENT(distworker_wait_end,
	    TP_PROTO(struct dw_hub *hub, struct dw_mailbox *mailbox, int ret, u32 events),
	    TP_ARGS(hub, mailbox, ret, events),
	    TP_STRUCT__entry(__field(u32, hub)
			     __field(int, index)
			     __field(int, ret)
			     __field(u32, events)),
	    TP_fast_assign(__entry->hub = hub->id;
			   __entry->index = mailbox ? (int)dw_mailbox_index(mailbox) : -1;
			   __entry->ret = ret;
			   __entry->events = events;),
	    TP_printk("hub=%u index=%d ret=%d events=%#x",
		      __entry->hub, __entry->index, __entry->ret, __entry->events)
);

TRACE_EVENT(distworker_attach,
	    TP_PROTO(struct dw_hub *hub, struct dw_mailbox *mailbox, pid_t pid, u32 generation),
	    TP_ARGS(hub, mailbox, pid, generation),
	    TP_STRUCT__entry(__field(u32, hub)
			     __field(int, index)
			     __field(pid_t, pid)
			     __field(u32, generation)),
	    TP_fast_assign(__entry->hub = hub->id;
			   __entry->index = mailbox ? (int)dw_mailbox_index(mailbox) : -1;
			   __entry->pid = pid;
			   __entry->generation = generation;),
	    TP_printk("hub=%u index=%d pid=%d generation=%u",
		      __entry->hub, __entry->index, __entry->pid, __entry->generation)
);

/*
 * The cause is an enum distworker_death_cause. Of the owner (index -1) it is always NONE:
 * it has died, or has closed the hub and lives on.
 */
TRACE_EVENT(distworker_death,
	    TP_PROTO(struct dw_hub *hub, struct dw_mailbox *mailbox, pid_t pid, u32 cause,
		     int status),
	    TP_ARGS(hub, mailbox, pid, cause, status),
	    TP_STRUCT__entry(__field(u32, hub)
			     __field(int, index)
			     __field(pid_t, pid)
			     __field(u32, cause)
			     __field(int, status)),
	    TP_fast_assign(__entry->hub = hub->id;
			   __entry->index = mailbox ? (int)dw_mailbox_index(mailbox) : -1;
			   __entry->pid = pid;
			   __entry->cause = cause;
			   __entry->status = status;),
	    TP_printk("hub=%u index=%d pid=%d cause=%u status=%#x",
		      __entry->hub, __entry->index, __entry->pid, __entry->cause,
		      __entry->status)
);

#endif /* _DISTWORKER_EVENTS_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE events
#include <trace/define_trace.h>
