/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Borders: which accesses of a recording meet tasks from outside. Of each byte these are the
 * accesses up to its first ordered write (OUTPUT, INOUT) and those from its last one on:
 *
 *   before ─→ reads …  first write │ … everything between … │ last write  reads … ─→ later
 *             └── these enter ───┘                            └── these leave ───┘
 *
 * Those that enter have to be given to the tensor map of a replay's run as they are, so that they
 * wait for tasks from before. Those that only leave replace what the map says of their bytes: all
 * that was there comes before them, over dependencies within the recording. What lies between needs
 * no map. A byte with one ordered write, or none, has all its accesses in both.
 *
 * Owns: struct border_set. No locks: it belongs to its recording. Without memory it is to be
 * dropped.
 */
#ifndef DW_DEPEND_BORDER_H
#define DW_DEPEND_BORDER_H

#include <stdbool.h>
#include <distworker/distworker.h>

struct border_set;

struct border_access {
	uint64_t begin, end;
	uint32_t task;
	uint8_t tag; /* enum dw_tag */
	bool enters; /* else it is OUTPUT, which replaces, or INPUT or … */
};

int border_set_create(struct border_set **set);
void border_set_destroy(struct border_set *set);
/*
 * In the order of tensor_map_access(): the accesses of a task that read come before those that only
 * write. NO_DEP counts as a use of the memory, and is no border. -ENOMEM with a text.
 */
int border_set_access(struct border_set *set, uint64_t begin, uint64_t end, enum dw_tag tag,
		      uint32_t task);
/* By address, and of the same bytes in the order of the accesses. */
void border_set_each(const struct border_set *set,
		     void (*visit)(const struct border_access *access, void *context),
		     void *context);
/* All memory that was used, by address; `written`: by an access that may write. */
void border_set_memory(const struct border_set *set,
		       void (*visit)(uint64_t begin, uint64_t end, bool written, void *context),
		       void *context);

#endif
