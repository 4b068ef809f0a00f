/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * copies: the copies between host and device that a chip's driver has made, in the file of
 * DW_TRACE: asynchronous slices in the lane of the chip, written by the chip's own process.
 *
 * Owns: struct copies, lines that are not written yet. Belongs to the thread of its chip.
 */
#ifndef DW_TRACE_COPIES_H
#define DW_TRACE_COPIES_H

#include <stddef.h>
#include <stdint.h>
#include "trace/trace.h"

struct copies;

struct copied {
	uint64_t task;			/* the number that messages tell */
	uint32_t tensor;		/* of the task */
	const char *way;		/* "in", "out" or "within" */
	uint64_t bytes;
	uint64_t started, ended;	/* CLOCK_MONOTONIC, ns */
};

/* By the thread that serves the chip `path`. *copies is NULL without DW_TRACE. -ENOMEM. */
int copies_create(const struct trace_files *files, const char *path, struct copies **copies);
/* Writes what is left. NULL is fine. */
void copies_destroy(struct copies *copies);
/* NULL is fine. */
void copies_add(struct copies *copies, const struct copied *copied);

#endif
