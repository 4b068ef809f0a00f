/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Tensor map: the last writer and the readers of each byte, and so the tasks that a new one must
 * wait for. One per run.
 *
 *   tag              waits for                              becomes
 *   INPUT            last writers (RAW)                     reader
 *   OUTPUT           live readers, live writers (WAR, WAW)  writer; empties both lists
 *   INOUT            the same, the last writers also RAW    writer; empties both lists
 *   OUTPUT_EXISTING  nothing                                writer; leaves both lists
 *   NO_DEP           nothing                                nothing
 *
 * Each byte has one last writer, a list of readers, and a list of *earlier writers*: those that an
 * OUTPUT_EXISTING passed by while they were live. A reader wants the last writer's result and waits
 * for that writer alone (the caller vouched that the earlier ones do not matter); the next OUTPUT
 * or INOUT has to wait for every live writer, or an earlier one could still write over it. A
 * failure poisons only bytes whose last writer failed: an earlier writer's are overwritten already.
 *
 * The map is a set of disjoint segments [begin, end), split where accesses
 * overlap partly, so conflicts are exact by bytes. A hash on `begin` finds the
 * common case, the same range again, in O(1); an ordered tree finds the rest.
 * A writer merges the segments that it covers; so does a second reader of equal ones.
 * Readers and writers are weak references: a task that has become final simply
 * no longer counts. Segments that carry no information are dropped in amortised O(1).
 *
 * Promises of the caller:
 *  - of one task, the accesses that read (INPUT, INOUT) come before those that only write:
 *    afterwards its own write hides the writer that it reads from. It never waits for itself.
 *  - a task becomes final only when all that it waits for are final, also when it is skipped: a
 *    writer stands for the readers and writers that it waited for.
 *  - tensor_map_poison() is called in the same locked stretch in which the task becomes FAILED or
 *    SKIPPED, with the reference by which it was registered.
 *  - a task some of whose accesses are registered is not dropped when a later one fails with
 *    -ENOMEM, but lives on as a node that is skipped.
 *
 * Failure follows data: tensor_map_poison() marks the bytes that a failed or skipped task would
 * have written; later readers (RAW) get the poison until another task overwrites them. Guarded by
 * the engine's lock.
 */
#ifndef DW_DEPEND_TENSOR_MAP_H
#define DW_DEPEND_TENSOR_MAP_H

#include <distworker/distworker.h>
#include "depend/task_ref.h"

struct tensor_map;

enum edge_reason { EDGE_RAW = 1, EDGE_WAR = 2, EDGE_WAW = 4, EDGE_EXPLICIT = 8 };

/*
 * Called for each live task that the new one must wait for; may name one task
 * several times with different reasons (the caller merges). EDGE_RAW skips the consumer if the
 * producer fails.
 */
typedef void tensor_map_edge(struct task *producer, enum edge_reason reason, void *context);

int tensor_map_create(struct tensor_map **map);
void tensor_map_destroy(struct tensor_map *map);
/*
 * Registers the access of `task` to [begin, end) and reports edges. *poison becomes the
 * number of the failed task whose bytes are read, if any (else unchanged). -ENOMEM: no edge was
 * reported, nothing changed.
 */
int tensor_map_access(struct tensor_map *map, uint64_t begin, uint64_t end, enum dw_tag tag,
		      struct task_ref task, tensor_map_edge *edge, void *context,
		      uint64_t *poison);
/*
 * `task` failed or was skipped (for `number`): poisons the bytes of [begin, end) whose last writer
 * it is.
 */
void tensor_map_poison(struct tensor_map *map, uint64_t begin, uint64_t end,
		       struct task_ref task, uint64_t number);
/* Forgets the accesses to the bytes: their memory was given back. */
void tensor_map_forget(struct tensor_map *map, uint64_t begin, uint64_t end);
/* Whether a task that has not ended writes bytes of the range, or, with `reads`, reads them. */
bool tensor_map_in_use(struct tensor_map *map, uint64_t begin, uint64_t end, bool reads);
uint64_t tensor_map_segments(const struct tensor_map *map);

/*
 * Names. A name stands for what bytes hold: two reads of the same bytes under the same name find
 * the same contents. 0 means unknown, and every access that writes makes it that; names are
 * given in rising order.
 *
 * The name of all bytes in [begin, end); 0: they have several, or none that is above `after`.
 */
uint64_t tensor_map_name(struct tensor_map *map, uint64_t begin, uint64_t end, uint64_t after);
/*
 * Names bytes that a task accesses: call it after tensor_map_access() for the same range, whose
 * segments then have no other bytes. With 0, for any range: bytes around it may become unknown too.
 */
void tensor_map_set_name(struct tensor_map *map, uint64_t begin, uint64_t end, uint64_t name);

#endif
