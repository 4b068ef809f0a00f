/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * relay: lines of the trace of a tree on another host, into the file of the tree that it is a part
 * of. Time stamps are put onto the clock of this host. Processes of that host get numbers that no
 * process of this one has; that of the Worker itself gets the lane of its gateway here.
 *
 * Invariant: a line that is not whole, or longer than a line can be, is left out; so is anything
 * behind the room for lanes.
 *
 * Owns: struct relay. One thread, in the process that the Worker has here.
 */
#ifndef DW_TRACE_RELAY_H
#define DW_TRACE_RELAY_H

#include "trace/trace.h"

struct relay;

struct relay_clock {
	uint64_t (*here)(void *context, uint64_t there_ns); /* a moment there, on the clock here */
	void *context;
	int64_t ahead_ns; /* of the clock there; its error, and the round trip, for readers */
	uint64_t error_ns, round_trip_ns;
};

/* *relay is NULL when no trace is written. -ENOMEM. */
int relay_create(const struct trace_files *files, const char *host, struct relay **relay);
/* `worker` is the process of the Worker there. NULL is fine. */
void relay_lines(struct relay *relay, int32_t worker, const struct relay_clock *clock,
		 const char *lines, size_t bytes);
/* Writes the rest, and what is known of the clock. NULL is fine. */
void relay_destroy(struct relay *relay, const struct relay_clock *clock);

#endif
